//! Names of things inside one process, and the one hash map they are kept in.
//!
//! A slot is reused after its connection is gone; its generation is not, so a late event about the old
//! connection finds nothing.

use std::hash::{BuildHasher, Hash};

use siphasher::sip::SipHasher13;

/// One shard, counted from zero. A process has at most [`ShardId::COUNT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The most shards a process can have: a set of shards is one `u128`.
    pub const COUNT_MAX: usize = 128;
}

/// One mount of the configuration, counted from zero. Rooms and users are kept apart by mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub u8);

/// One connection of one shard: a slot and the generation that tells its tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the shard's connection table.
    pub slot: u32,
    /// Counts the tenants of the slot; wraps after 2^32 of them.
    pub generation: u32,
}

/// One connection of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientRef {
    /// The shard that owns it.
    pub shard: ShardId,
    /// Which of the shard's connections.
    pub conn: ConnId,
}

/// Hashes with SipHash-1-3 under keys given by the owner: peers cannot aim for collisions, and a simulation
/// with the same seed iterates in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Seeded(u64, u64);

impl Seeded {
    /// Keys derived from `seed`; production passes a random one.
    pub fn new(seed: u64) -> Self {
        Self(seed, seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15)
    }
}

impl BuildHasher for Seeded {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

/// The only hash map of this crate.
#[expect(clippy::disallowed_types, reason = "the one place that gives std's map a fixed seed")]
pub type SeededMap<K, V> = std::collections::HashMap<K, V, Seeded>;

/// An empty map hashed under `seed`.
pub fn seeded_map<K: Hash + Eq, V>(seed: u64) -> SeededMap<K, V> {
    SeededMap::with_hasher(Seeded::new(seed))
}
