//! Who is where: the one map all threads share.
//!
//! Shards write it as clients, users and rooms come and go; the Redis thread and the control plane read it
//! to find the shards concerned, so that a shard without members never hears of a room. It may lag a
//! shard by one turn; a `connected` frame is written only after the client can be found here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use shardcast_shard::{ClientRef, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

impl ShardSet {
    /// Whether it is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many shards.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The shards, lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (lowest < 128).then_some(ShardId(lowest as u8))
        })
    }

    /// Every shard there can be.
    pub fn all() -> Self {
        Self(u128::MAX)
    }

    /// Whether there is one in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// A set of one.
    pub fn of(shard: ShardId) -> Self {
        Self::default().with(shard)
    }

    /// With one more.
    pub fn with(self, shard: ShardId) -> Self {
        Self(self.0 | 1 << shard.0)
    }

    fn without(self, shard: ShardId) -> Self {
        Self(self.0 & !(1 << shard.0))
    }
}

/// One namespace.
#[derive(Debug, Default)]
struct Names {
    users: DashMap<UserId, ShardSet>,
    rooms: DashMap<Arc<str>, ShardSet>,
    /// Shards with connections that agreed on permessage-deflate, 64 a word: read at every publication, written when
    /// the first of a shard comes and the last one goes.
    deflating: [AtomicU64; 2],
}

/// The directory of a process. Its maps are hashed under random keys.
#[derive(Debug)]
pub struct Directory {
    clients: DashMap<ClientId, (MountId, ClientRef)>,
    mounts: Vec<Names>,
}

impl Directory {
    /// An empty directory for `mount_count` mounts.
    pub fn new(mount_count: usize) -> Self {
        Self { clients: DashMap::new(), mounts: (0..mount_count).map(|_| Names::default()).collect() }
    }

    /// How many mounts there are.
    pub fn mounts_len(&self) -> usize {
        self.mounts.len()
    }

    /// A client can be addressed.
    pub fn client_up(&self, id: ClientId, mount: MountId, client: ClientRef) {
        self.clients.insert(id, (mount, client));
    }

    /// A client is gone. Returns the mount that it was on.
    pub fn client_down(&self, id: ClientId) -> Option<MountId> {
        self.clients.remove(&id).map(|(_, (mount, _))| mount)
    }

    /// Where a client is.
    pub fn client(&self, id: ClientId) -> Option<(MountId, ClientRef)> {
        self.clients.get(&id).map(|entry| *entry)
    }

    /// How many clients can be addressed.
    pub fn clients_len(&self) -> usize {
        self.clients.len()
    }

    /// A shard has connections of a user.
    pub fn user_up(&self, mount: MountId, user: UserId, shard: ShardId) {
        let mut entry = self.names(mount).users.entry(user).or_default();
        *entry = entry.with(shard);
    }

    /// A shard has none any more.
    pub fn user_down(&self, mount: MountId, user: &UserId, shard: ShardId) {
        self.names(mount).users.remove_if_mut(user, |_, shards| {
            *shards = shards.without(shard);
            shards.is_empty()
        });
    }

    /// The shards with connections of a user.
    pub fn user(&self, mount: MountId, user: &UserId) -> ShardSet {
        self.names(mount).users.get(user).map_or_else(ShardSet::default, |entry| *entry)
    }

    /// A shard has members of a room.
    pub fn room_up(&self, mount: MountId, room: Arc<str>, shard: ShardId) {
        let mut entry = self.names(mount).rooms.entry(room).or_default();
        *entry = entry.with(shard);
    }

    /// A shard has none any more.
    pub fn room_down(&self, mount: MountId, room: &str, shard: ShardId) {
        self.names(mount).rooms.remove_if_mut(room, |_, shards| {
            *shards = shards.without(shard);
            shards.is_empty()
        });
    }

    /// The shards with members of a room, and the room's own copy of its name.
    pub fn room(&self, mount: MountId, room: &str) -> Option<(Arc<str>, ShardSet)> {
        self.names(mount).rooms.get(room).map(|entry| (entry.key().clone(), *entry))
    }

    /// A shard has connections that agreed on permessage-deflate.
    pub fn deflate_up(&self, mount: MountId, shard: ShardId) {
        let [word, bit] = place(shard);
        self.names(mount).deflating[word].fetch_or(1 << bit, Ordering::Relaxed);
    }

    /// A shard has none any more.
    pub fn deflate_down(&self, mount: MountId, shard: ShardId) {
        let [word, bit] = place(shard);
        self.names(mount).deflating[word].fetch_and(!(1 << bit), Ordering::Relaxed);
    }

    /// The shards with connections that agreed on permessage-deflate. When it is late, they get a message plain.
    pub fn deflating(&self, mount: MountId) -> ShardSet {
        let [low, high] = &self.names(mount).deflating;
        ShardSet(u128::from(low.load(Ordering::Relaxed)) | u128::from(high.load(Ordering::Relaxed)) << 64)
    }

    /// How many rooms have members.
    pub fn rooms_len(&self) -> usize {
        self.mounts.iter().map(|names| names.rooms.len()).sum()
    }

    /// How many users have connections.
    pub fn users_len(&self) -> usize {
        self.mounts.iter().map(|names| names.users.len()).sum()
    }

    /// A shard lost everything it had: nobody is there any more.
    pub fn forget_shard(&self, shard: ShardId) {
        self.clients.retain(|_, (_, at)| at.shard != shard);
        for (index, names) in self.mounts.iter().enumerate() {
            self.deflate_down(MountId(index as u8), shard);
            let keep = |shards: &mut ShardSet| {
                *shards = shards.without(shard);
                !shards.is_empty()
            };
            names.users.retain(|_, shards| keep(shards));
            names.rooms.retain(|_, shards| keep(shards));
        }
    }

    fn names(&self, mount: MountId) -> &Names {
        &self.mounts[mount.0 as usize]
    }
}

/// The word and bit of a shard.
fn place(shard: ShardId) -> [usize; 2] {
    let index = usize::from(shard.0);
    [index / 64, index % 64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_known_until_its_last_shard_leaves() {
        let directory = Directory::new(1);
        let mount = MountId(0);
        for shard in [0, 3, 127] {
            directory.room_up(mount, Arc::from("r"), ShardId(shard));
        }
        let shards: Vec<u8> = directory.room(mount, "r").expect("known").1.iter().map(|s| s.0).collect();
        assert_eq!(shards, [0, 3, 127]);
        for shard in [3, 0, 127] {
            directory.room_down(mount, "r", ShardId(shard));
        }
        assert_eq!(directory.room(mount, "r"), None);
        assert_eq!(directory.rooms_len(), 0);
    }

    #[test]
    fn shards_that_deflate_are_known_until_they_do_not_or_are_forgotten() {
        let directory = Directory::new(2);
        let mount = MountId(1);
        let shards = || directory.deflating(mount).iter().map(|shard| shard.0).collect::<Vec<_>>();
        for shard in [0, 63, 64, 127] {
            directory.deflate_up(mount, ShardId(shard));
        }
        assert_eq!(shards(), [0, 63, 64, 127]);
        assert!(directory.deflating(MountId(0)).is_empty());
        directory.deflate_down(mount, ShardId(64));
        directory.forget_shard(ShardId(0));
        assert_eq!(shards(), [63, 127]);
        assert!(directory.deflating(mount).meets(ShardSet::of(ShardId(63))));
        assert!(!directory.deflating(mount).meets(ShardSet::of(ShardId(62))));
    }
}
