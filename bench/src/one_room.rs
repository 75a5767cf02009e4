//! Turns of one room, by what the sockets of its members do.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::ClientRef;

use crate::messages;
use crate::shard::{Bench, SHARD};

/// A shard whose clients are all in one room.
pub struct OneRoom {
    bench: Bench,
    room: Arc<str>,
    frame: Bytes,
    /// By member: a list with only that member in it.
    but: Vec<Arc<[ClientRef]>>,
}

impl OneRoom {
    /// A room of `member_count` members.
    pub fn new(member_count: usize) -> Self {
        let bench = Bench::new(member_count, |_| vec!["room".to_owned()]);
        let but = bench.clients().iter().map(|&conn| [ClientRef { shard: SHARD, conn }].into()).collect();
        Self { bench, room: "room".into(), frame: messages::server_frame(), but }
    }

    /// A turn of `messages` messages. Every socket takes everything. Returns the bytes taken, as all of these do.
    pub fn fan_out(&mut self, messages: usize) -> usize {
        self.publish(messages);
        self.bench.flush()
    }

    /// A turn in which no socket takes anything, so that all outboxes hold the same burst, and one in which they are
    /// emptied.
    pub fn shared_burst(&mut self, messages: usize) -> usize {
        self.publish(messages);
        let taken = self.bench.flush_into(|_, _| 0);
        self.bench.resume();
        taken + self.bench.flush()
    }

    /// A turn in which every socket takes another part of the burst, one whose burst is queued behind that, and one
    /// in which the outboxes are emptied: `2 * messages` to each member.
    pub fn own_backlog(&mut self, messages: usize) -> usize {
        self.publish(messages);
        let mut taken = self.bench.flush_into(|id, offered| id.slot as usize % offered);
        self.publish(messages);
        taken += self.bench.flush();
        self.bench.resume();
        taken + self.bench.flush()
    }

    /// A turn of `messages` messages, the first of which one member does not get: two bursts.
    pub fn excluded(&mut self, messages: usize) -> usize {
        self.bench.publish(&self.room, &self.frame, Some(&self.but[0]));
        self.publish(messages - 1);
        self.bench.flush()
    }

    /// A turn of `messages` messages, each by another member, who does not get it: a burst for each of them, and one
    /// for the rest.
    pub fn excluded_senders(&mut self, messages: usize) -> usize {
        for but in &self.but[..messages] {
            self.bench.publish(&self.room, &self.frame, Some(but));
        }
        self.bench.flush()
    }

    fn publish(&mut self, messages: usize) {
        for _ in 0..messages {
            self.bench.publish(&self.room, &self.frame, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: usize = 20;
    const MESSAGES: usize = 16;

    #[test]
    fn every_member_gets_every_message_but_those_it_is_excluded_from() {
        let mut room = OneRoom::new(MEMBERS);
        let all = MEMBERS * MESSAGES * room.frame.len();
        for _ in 0..3 {
            assert_eq!(room.fan_out(MESSAGES), all);
            assert_eq!(room.shared_burst(MESSAGES), all);
            assert_eq!(room.own_backlog(MESSAGES), 2 * all);
            assert_eq!(room.excluded(MESSAGES), all - room.frame.len());
            assert_eq!(room.excluded_senders(MESSAGES), all - MESSAGES * room.frame.len());
        }
    }

    #[test]
    fn a_socket_that_takes_nothing_leaves_a_backlog() {
        let mut room = OneRoom::new(MEMBERS);
        room.publish(MESSAGES);
        assert_eq!(room.bench.flush_into(|_, _| 0), 0);
        assert_eq!(room.bench.resume(), MEMBERS);
    }
}
