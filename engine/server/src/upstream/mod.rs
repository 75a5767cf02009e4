//! Which Redis channels this process wants to hear by name, and how far Redis is with each.
//!
//! Shards count references here and never wait: what they do takes the lock of one small part of the map for an
//! amount of work that does not grow with the number of channels. The [`Worker`], which belongs to `sc-redis`, makes the
//! subscriptions follow.
//!
//! The map is the truth. The queue between shards and worker only says which entries to look at; whatever is in it or
//! not, an entry that is looked at gets what it needs, and a new link begins with a look at all of them.
//!
//! Invariants: `wanted <= channels_max`, `entries <= channels_max * SURPLUS`; an entry is in the queue at most once; while
//! there is no link, every entry has references, nobody waits, and the queue is empty.

mod entry;
#[cfg(test)]
mod tests;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use shardcast_shard::{ConnId, Listening, ShardId};
use tokio::sync::Notify;

use self::entry::{Entry, References, State, Waiter};
pub use self::worker::{Command, Done, Outcome, WAIT_MAX, Worker};
use crate::config;
use crate::status::Status;

/// Parts of the map that are locked one by one, so that a look at a million entries holds each shard up for a
/// thousand.
const MAP_PARTS: usize = 1_024;

/// How many times `redis.channels_max` entries there may be, with those that nobody wants any more. Over one time the
/// worker has them gone at once, so that this is reached only when shards are faster than Redis.
const SURPLUS: usize = 2;

/// The channels that a process wants.
#[derive(Debug)]
pub struct Upstream {
    /// Redis is configured.
    is_on: bool,
    rooms_by_name: bool,
    channels_max: usize,
    /// There is a link to Redis. Read under the lock of the entry that it matters for: whoever finds it down has an
    /// entry that the end of the link either did not reach yet or has reset.
    is_up: AtomicBool,
    channels: DashMap<Arc<str>, Entry>,
    /// References that could not be taken, so that giving them back takes nobody else's.
    refused: DashMap<Arc<str>, References>,
    refused_len: AtomicUsize,
    entries: AtomicUsize,
    /// Entries with references.
    wanted: AtomicUsize,
    confirmed: AtomicUsize,
    waiting: AtomicUsize,
    /// Entries to look at, each once.
    queue: (Sender<Arc<str>>, Receiver<Arc<str>>),
    changed: Notify,
    /// How often each shard was forgotten.
    runs: Vec<AtomicU32>,
    status: Arc<Status>,
}

/// How many channels there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Wanted, or not yet unsubscribed.
    pub channels: usize,
    /// Of these, subscribed.
    pub confirmed: usize,
    /// Listens that wait for Redis.
    pub waiting: usize,
}

impl Upstream {
    /// For a process with these settings of Redis.
    pub fn new(config: &config::Redis, status: Arc<Status>) -> Self {
        Self {
            is_on: config.url.is_some(),
            rooms_by_name: config.url.is_some() && config.subscribe == config::Subscribe::Exact,
            channels_max: config.channels_max,
            is_up: AtomicBool::new(false),
            channels: DashMap::with_shard_amount(MAP_PARTS),
            refused: DashMap::new(),
            refused_len: AtomicUsize::new(0),
            entries: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            confirmed: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: crossbeam_channel::unbounded(),
            changed: Notify::new(),
            runs: (0..ShardId::COUNT_MAX).map(|_| AtomicU32::new(0)).collect(),
            status,
        }
    }

    /// Whether rooms of Ignis are listened to by name.
    pub fn hears_rooms_by_name(&self) -> bool {
        self.rooms_by_name
    }

    /// Takes one reference to a channel for a shard. `Some` is the outcome; with `None`, the connection that waits gets
    /// it by mail as [`Verdict::Listening`](shardcast_shard::Verdict::Listening). [`Listening::LocalOnly`] and
    /// [`Listening::Refused`] are counted.
    ///
    /// Whatever the outcome, [`Upstream::unlisten`] follows once.
    pub fn listen(&self, shard: ShardId, channel: &Arc<str>, waiter: Option<ConnId>) -> Option<Listening> {
        if !self.is_on {
            return Some(Listening::LocalOnly);
        }
        let outcome = match self.channels.entry(channel.clone()) {
            Place::Occupied(mut place) if self.has_place(place.get()) => {
                self.join(place.get_mut(), shard, channel, waiter)
            }
            Place::Vacant(place) if self.has_new_place() => {
                self.join(&mut place.insert(Entry::default()), shard, channel, waiter)
            }
            place => {
                drop(place);
                self.refused.entry(channel.clone()).or_default().add(shard);
                self.refused_len.fetch_add(1, Ordering::Relaxed);
                Some(Listening::Refused)
            }
        };
        let counters = &self.status.process;
        match outcome {
            Some(Listening::Refused) => &counters.redis_listens_refused,
            Some(Listening::LocalOnly) if waiter.is_some() => &counters.redis_listens_local_only,
            _ => return outcome,
        }
        .fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Whether an entry may have another reference; if so it counts as wanted.
    fn has_place(&self, entry: &Entry) -> bool {
        !entry.references.is_empty() || take_one(&self.wanted, self.channels_max)
    }

    /// The same for one that is not there yet, which counts as an entry then.
    fn has_new_place(&self) -> bool {
        if !take_one(&self.entries, self.channels_max.saturating_mul(SURPLUS)) {
            // Some of them go once the worker looks.
            self.changed.notify_one();
            return false;
        }
        let has_place = take_one(&self.wanted, self.channels_max);
        if !has_place {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        has_place
    }

    /// Whether entries that nobody wants take the place of others.
    fn is_crowded(&self) -> bool {
        self.entries.load(Ordering::Relaxed) > self.channels_max
    }

    fn join(
        &self,
        entry: &mut Entry,
        shard: ShardId,
        channel: &Arc<str>,
        waiter: Option<ConnId>,
    ) -> Option<Listening> {
        entry.references.add(shard);
        if !self.is_up.load(Ordering::Acquire) {
            return Some(Listening::LocalOnly);
        }
        match entry.state {
            State::Confirmed => return Some(Listening::Confirmed),
            State::Refused { .. } => return Some(Listening::Refused),
            State::Idle => self.enqueue(entry, channel),
            // What is under way is looked at when it is done.
            State::Asked | State::Leaving => {}
        }
        if let Some(conn) = waiter {
            self.waiting.fetch_add(1, Ordering::Relaxed);
            entry.waiters.push(Waiter { shard, conn, run: self.run(shard) });
        }
        None
    }

    /// Gives one reference of a shard back.
    pub fn unlisten(&self, shard: ShardId, channel: &str) {
        if !self.is_on || self.give_back_refused(shard, channel) {
            return;
        }
        let gone = self.channels.remove_if_mut(channel, |channel, entry| {
            let is_known = entry.references.take(shard);
            debug_assert!(is_known, "every unlisten follows a listen");
            let is_last = is_known && entry.references.is_empty();
            self.wanted.fetch_sub(usize::from(is_last), Ordering::Relaxed);
            self.is_dead(entry, channel)
        });
        if let Some((_, entry)) = gone {
            self.bury(&entry);
        }
    }

    /// A shard lost everything it had: gives back all its references, and what it waits for is not told.
    pub fn forget_shard(&self, shard: ShardId) {
        self.runs[shard.0 as usize].fetch_add(1, Ordering::AcqRel);
        self.refused.retain(|_, references| {
            self.refused_len.fetch_sub(references.forget(shard), Ordering::Relaxed);
            !references.is_empty()
        });
        self.channels.retain(|channel, entry| {
            let is_last = entry.references.forget(shard) > 0 && entry.references.is_empty();
            self.wanted.fetch_sub(usize::from(is_last), Ordering::Relaxed);
            let waiters = entry.waiters.len();
            entry.waiters.retain(|waiter| waiter.shard != shard);
            self.waiting.fetch_sub(waiters - entry.waiters.len(), Ordering::Relaxed);
            let is_dead = self.is_dead(entry, channel);
            if is_dead {
                self.bury(entry);
            }
            !is_dead
        });
    }

    /// Whether Redis sends this process what is published on a channel, as far as it is known here.
    pub fn is_confirmed(&self, channel: &str) -> bool {
        self.channels.get(channel).is_some_and(|entry| entry.state == State::Confirmed)
    }

    /// How many channels there are.
    pub fn figures(&self) -> Figures {
        Figures {
            channels: self.entries.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
        }
    }

    /// Whether an entry that lost a reference goes at once; while there is a link, the worker looks at it.
    fn is_dead(&self, entry: &mut Entry, channel: &Arc<str>) -> bool {
        if !entry.references.is_empty() {
            return false;
        }
        if !self.is_up.load(Ordering::Acquire) {
            // The end of the link has not come by yet, and will.
            return entry.state == State::Idle && !entry.is_queued;
        }
        self.enqueue(entry, channel);
        false
    }

    /// Accounts for an entry that was removed.
    fn bury(&self, entry: &Entry) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(entry.waiters.len(), Ordering::Relaxed);
    }

    fn give_back_refused(&self, shard: ShardId, channel: &str) -> bool {
        if self.refused_len.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut was_refused = false;
        self.refused.remove_if_mut(channel, |_, references| {
            was_refused = references.take(shard);
            references.is_empty()
        });
        self.refused_len.fetch_sub(usize::from(was_refused), Ordering::Relaxed);
        was_refused
    }

    /// Has the worker look at an entry. Its lock is held.
    fn enqueue(&self, entry: &mut Entry, channel: &Arc<str>) {
        if !entry.is_queued {
            // We hold the other end.
            entry.is_queued = self.queue.0.send(channel.clone()).is_ok();
            self.changed.notify_one();
        }
    }

    fn run(&self, shard: ShardId) -> u32 {
        self.runs[shard.0 as usize].load(Ordering::Acquire)
    }

    fn count(&self, counter: &AtomicU64, by: usize) {
        counter.fetch_add(by as u64, Ordering::Relaxed);
    }
}

/// Counts one more, unless there are `max`.
fn take_one(count: &AtomicUsize, max: usize) -> bool {
    let is_taken = count.fetch_add(1, Ordering::Relaxed) < max;
    if !is_taken {
        count.fetch_sub(1, Ordering::Relaxed);
    }
    is_taken
}
