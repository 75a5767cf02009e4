//! One channel: who wants it, and how far Redis is with it.

use std::time::{Duration, Instant};

use shardcast_shard::{ConnId, ShardId};

/// How many references each shard holds; no shard is in it twice, or with none.
#[derive(Debug, Default)]
pub(super) struct References(Vec<(ShardId, u32)>);

impl References {
    pub(super) fn add(&mut self, shard: ShardId) {
        match self.0.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, count)) => *count += 1,
            None => self.0.push((shard, 1)),
        }
    }

    /// `false`: the shard holds none.
    pub(super) fn take(&mut self, shard: ShardId) -> bool {
        let Some(index) = self.0.iter().position(|(of, _)| *of == shard) else { return false };
        self.0[index].1 -= 1;
        if self.0[index].1 == 0 {
            self.0.swap_remove(index);
        }
        true
    }

    /// Takes all of a shard; returns how many they were.
    pub(super) fn forget(&mut self, shard: ShardId) -> usize {
        let index = self.0.iter().position(|(of, _)| *of == shard);
        index.map_or(0, |index| self.0.swap_remove(index).1 as usize)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A connection that is told when Redis has confirmed, or will not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) shard: ShardId,
    pub(super) conn: ConnId,
    /// The shard's run that it belongs to: a shard that restarted has nobody who waits.
    pub(super) run: u32,
}

/// How far Redis is with a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Not subscribed.
    #[default]
    Idle,
    /// In a SUBSCRIBE that is under way.
    Asked,
    /// Subscribed.
    Confirmed,
    /// In an UNSUBSCRIBE that is under way.
    Leaving,
    /// Redis said no; it is asked again later.
    Refused {
        /// When.
        until: Instant,
    },
}

/// One channel.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) references: References,
    pub(super) state: State,
    pub(super) waiters: Vec<Waiter>,
    /// It is in the queue of entries to look at.
    pub(super) is_queued: bool,
    /// A timer of the worker runs for it: only while confirmed or refused.
    pub(super) is_timed: bool,
    /// Since when nobody wants it, as the worker saw it.
    pub(super) unwanted_since: Option<Instant>,
    /// An earlier link had it.
    pub(super) was_confirmed: bool,
    /// How long the last refusal was waited out.
    pub(super) refusal_pause: Duration,
}
