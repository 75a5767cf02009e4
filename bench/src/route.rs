//! The way from Redis to the shards: a directory with names in it, mailboxes that nobody empties but the benchmark.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use shardcast::directory::Directory;
use shardcast::mailbox::{MailReceiver, mailbox};
use shardcast::redis::Inbound;
use shardcast::router::Router;
use shardcast::status::Status;
use shardcast_shard::{ClientRef, ConnId, Mail, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

use crate::messages;

/// The only mount.
pub const MOUNT: MountId = MountId(0);

/// The room with members on every shard of a [`Route`].
pub const ROOM: &str = "room-everywhere";

/// Letters that fit into a mailbox, as in the default configuration.
pub const LETTERS_MAX: usize = 65_536;

/// Names of a directory, in an order that is not the order in which they came.
pub struct Names {
    /// Rooms with members.
    pub rooms: Vec<String>,
    /// Rooms without.
    pub absent_rooms: Vec<String>,
    /// Connected clients.
    pub clients: Vec<ClientId>,
    /// Users with connections.
    pub users: Vec<UserId>,
}

/// A directory of `count` rooms, clients and users, each on one of four shards. `count` is no multiple of 7,919.
pub fn directory(count: usize) -> (Directory, Names) {
    let directory = Directory::new(1);
    let room = |index: usize| format!("room-{index}");
    let user = |index: usize| UserId::from_text(&format!("user-{index}"));
    let client = |index: usize| ClientId::from_random((index as u128).to_le_bytes());
    for index in 0..count {
        let shard = ShardId((index % 4) as u8);
        let conn = ConnId { slot: index as u32, generation: 0 };
        directory.room_up(MOUNT, Arc::from(room(index)), shard);
        directory.user_up(MOUNT, user(index), shard);
        directory.client_up(client(index), MOUNT, ClientRef { shard, conn });
    }
    let mixed = || (0..count).map(|index| index * 7_919 % count);
    let names = Names {
        rooms: mixed().map(room).collect(),
        absent_rooms: mixed().map(|index| room(count + index)).collect(),
        clients: mixed().map(client).collect(),
        users: mixed().map(user).collect(),
    };
    (directory, names)
}

/// The receiving end of Redis and the mailboxes behind it.
pub struct Route {
    /// Takes messages.
    inbound: Inbound,
    boxes: Vec<MailReceiver>,
}

impl Route {
    /// A route to `shard_count` shards, all with members of [`ROOM`], and 1,000 other rooms with members.
    pub fn new(shard_count: u8) -> Self {
        let (directory, _) = directory(1_000);
        for shard in 0..shard_count {
            directory.room_up(MOUNT, Arc::from(ROOM), ShardId(shard));
        }
        let (senders, boxes) = (0..shard_count).map(|_| mailbox(LETTERS_MAX).expect("an eventfd")).unzip();
        let status = Arc::new(Status::new(Instant::now(), "none", usize::from(shard_count)));
        let router = Arc::new(Router::new(Arc::new(directory), senders));
        Self { inbound: Inbound::new("bench".to_owned(), MOUNT, router, status), boxes }
    }

    /// Takes `count` messages from Redis that are there together.
    pub fn handle(&mut self, message: &[u8], count: u64) {
        let router = self.inbound.router().clone();
        let mut batch = router.batch();
        for _ in 0..count {
            self.inbound.handle(black_box(message), &mut batch);
        }
    }

    /// Empties the mailboxes. Returns how many letters there were.
    pub fn take_all(&self) -> usize {
        self.boxes.iter().map(|mail| std::iter::from_fn(|| mail.take()).count()).sum()
    }
}

/// A letter to a room, as the router posts it: references to name and frame.
pub struct Letter {
    room: Arc<str>,
    frame: bytes::Bytes,
}

impl Letter {
    /// One message to one room.
    pub fn new() -> Self {
        Self { room: ROOM.into(), frame: messages::server_frame() }
    }

    /// A copy to post.
    pub fn copy(&self) -> Mail {
        let (room, frame) = (self.room.clone(), self.frame.clone().into());
        Mail::Room { mount: MOUNT, room, own: None, frame, exclude: None }
    }
}

impl Default for Letter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_not_as_they_say() {
        let (directory, names) = directory(1_000);
        assert!(names.rooms.iter().all(|room| directory.room(MOUNT, room).is_some()));
        assert!(names.absent_rooms.iter().all(|room| directory.room(MOUNT, room).is_none()));
        assert!(names.clients.iter().all(|&client| directory.client(client).is_some()));
        assert!(names.users.iter().all(|user| !directory.user(MOUNT, user).is_empty()));
    }

    #[test]
    fn a_message_becomes_a_letter_to_each_shard() {
        for shard_count in [1, 2, 4] {
            let mut route = Route::new(shard_count);
            route.handle(messages::envelope(ROOM, messages::TEXT_BYTES).as_bytes(), 1);
            assert_eq!(route.take_all(), usize::from(shard_count));
        }
    }
}
