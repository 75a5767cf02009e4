//! Who is in which room. No sockets, no policy.
//!
//! A member knows its place in the connection's list and the connection knows its place in the room, so
//! that joining is O(1) and leaving is O(rooms of the two connections touched).
//!
//! Invariants: for every room `r` and place `p`, `memberships(r.members[p].slot)[r.members[p].entry] ==
//! (r, p)`; a room with a name exists only while it has members.

use std::sync::Arc;

use crate::burst::FeedIndex;
use crate::ids::{MountId, SeededMap, seeded_map};

/// One room of a shard; reused after the room is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoomIndex(pub u32);

/// A connection's seat in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The connection.
    pub slot: u32,
    /// Index into the connection's memberships.
    pub entry: u32,
}

/// A connection's side of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The room.
    pub room: RoomIndex,
    /// Index into the room's members.
    pub place: u32,
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Where it lives.
    pub mount: MountId,
    /// Its name, unique in the mount.
    pub name: Arc<str>,
    /// In no particular order.
    pub members: Vec<Member>,
    /// What is published to it in this turn, if anything is.
    pub feed: Option<FeedIndex>,
}

/// All rooms of a shard.
#[derive(Debug)]
pub struct Rooms {
    /// One map a mount.
    by_name: Vec<SeededMap<Arc<str>, RoomIndex>>,
    slots: Vec<Option<Room>>,
    free: Vec<RoomIndex>,
}

impl Rooms {
    /// No rooms in any of `mount_count` mounts, hashed under `seed`.
    pub fn new(mount_count: usize, seed: u64) -> Self {
        Self {
            by_name: (0..mount_count).map(|_| seeded_map(seed)).collect(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// How many rooms have members.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The room of that name, if it has members.
    pub fn find(&self, mount: MountId, name: &str) -> Option<RoomIndex> {
        self.by_name[mount.0 as usize].get(name).copied()
    }

    /// The room of that name, made if there is none. The second value tells whether it was made; the
    /// caller puts a member in.
    pub fn find_or_make(&mut self, mount: MountId, name: &str) -> (RoomIndex, bool) {
        if let Some(found) = self.find(mount, name) {
            return (found, false);
        }
        let name: Arc<str> = Arc::from(name);
        let room = Room { mount, name: name.clone(), members: Vec::new(), feed: None };
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index.0 as usize] = Some(room);
                index
            }
            None => {
                self.slots.push(Some(room));
                RoomIndex(u32::try_from(self.slots.len() - 1).expect("rooms_max fits u32"))
            }
        };
        self.by_name[mount.0 as usize].insert(name, index);
        (index, true)
    }

    /// Forgets a room without members.
    pub fn remove(&mut self, index: RoomIndex) -> Room {
        let room = self.slots[index.0 as usize].take().expect("room exists");
        assert!(room.members.is_empty(), "a room with members stays");
        self.by_name[room.mount.0 as usize].remove(&room.name);
        self.free.push(index);
        room
    }

    /// The room, which exists as long as somebody holds a membership of it.
    pub fn room(&self, index: RoomIndex) -> &Room {
        self.slots[index.0 as usize].as_ref().expect("room exists")
    }

    /// The same, to change.
    pub fn room_mut(&mut self, index: RoomIndex) -> &mut Room {
        self.slots[index.0 as usize].as_mut().expect("room exists")
    }

    /// All rooms with members, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.slots.iter().flatten()
    }
}
