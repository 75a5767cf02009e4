//! Which connections of this shard belong to a user.

use shardcast_wire::ignis::UserId;

use crate::ids::{MountId, SeededMap, seeded_map};

/// Connections by user, in the order of authentication. Invariant: no user without connections.
#[derive(Debug)]
pub(crate) struct Users {
    /// One map a mount.
    slots: Vec<SeededMap<UserId, Vec<u32>>>,
}

impl Users {
    pub(crate) fn new(mount_count: usize, seed: u64) -> Self {
        Self { slots: (0..mount_count).map(|_| seeded_map(seed)).collect() }
    }

    /// Adds a connection; returns whether it is the user's first.
    pub(crate) fn add(&mut self, mount: MountId, user: &UserId, slot: u32) -> bool {
        let slots = self.slots[mount.0 as usize].entry(user.clone()).or_default();
        slots.push(slot);
        slots.len() == 1
    }

    /// Removes a connection; returns whether it was the user's last.
    pub(crate) fn remove(&mut self, mount: MountId, user: &UserId, slot: u32) -> bool {
        let users = &mut self.slots[mount.0 as usize];
        let Some(slots) = users.get_mut(user) else { return false };
        slots.retain(|&s| s != slot);
        let last = slots.is_empty();
        if last {
            users.remove(user);
        }
        last
    }

    pub(crate) fn slots(&self, mount: MountId, user: &UserId) -> &[u32] {
        self.slots[mount.0 as usize].get(user).map_or(&[], Vec::as_slice)
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MountId, &UserId, &[u32])> {
        self.slots.iter().enumerate().flat_map(|(mount, users)| {
            users.iter().map(move |(u, s)| (MountId(mount as u8), u, s.as_slice()))
        })
    }
}
