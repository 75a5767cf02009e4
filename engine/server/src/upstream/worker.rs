//! What makes the subscriptions follow the wishes: which command goes to Redis next, and what its outcome means.
//!
//! No I/O, and the time is an argument: the subscriber carries the commands out. One command is under way at a time, so
//! that what Redis has never differs from what is known here by more than that command. What is wished meanwhile goes
//! into the next one, so that the busier it is, the fuller they are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shardcast_shard::{Listening, Mail, Verdict};

use super::Upstream;
use super::entry::{Entry, State, Waiter};
use crate::config;
use crate::directory::ShardSet;
use crate::router::Router;

/// Bytes of the names of one command, unless its only name is longer.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Entries looked at for one command; messages are delivered before the next.
const LOOKS_MAX: usize = 4_096;

/// How long Redis may take for a command; then all who wait go on with what there is on this instance.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// The first pause before Redis is asked for a channel again that it refused; pauses double
const REFUSAL_PAUSE_MIN: Duration = Duration::from_secs(1);
/// up to this one.
const REFUSAL_PAUSE_MAX: Duration = Duration::from_secs(64);

/// Between two looks for entries that nobody wants while there are too many.
pub(super) const CROWD_PAUSE: Duration = Duration::from_millis(200);

/// Between two attempts to post a verdict into a full mailbox.
const UNTOLD_RETRY: Duration = Duration::from_millis(10);

/// What Redis is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// SUBSCRIBE.
    Subscribe(Vec<Arc<str>>),
    /// UNSUBSCRIBE.
    Unsubscribe(Vec<Arc<str>>),
}

/// What Redis did with one name of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was asked.
    Done,
    /// Nothing: the user may not.
    Refused,
}

/// A command that was carried out, with an outcome for each of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The command.
    pub command: Command,
    /// In the order of its names.
    pub outcomes: Vec<Outcome>,
}

/// A verdict on its way to a shard.
#[derive(Debug)]
struct Letter {
    to: Waiter,
    channel: Arc<str>,
    outcome: Listening,
}

/// The end of an [`Upstream`] that speaks to Redis.
#[derive(Debug)]
pub struct Worker {
    upstream: Arc<Upstream>,
    router: Arc<Router>,
    names_max: usize,
    linger: Duration,
    /// Subscribed for as long as there is a link, whoever wants them.
    base: Vec<String>,
    /// What an earlier link had and this one was not yet asked for.
    backlog: Vec<Arc<str>>,
    /// When to look at entries that nobody wants or that were refused; each is in it at most once.
    timers: BinaryHeap<Reverse<(Instant, Arc<str>)>>,
    /// When entries that nobody wants were last looked for.
    crowd_seen_at: Option<Instant>,
    /// Which kind of command has its turn.
    is_unsubscribes_turn: bool,
    since: Option<Instant>,
    /// Verdicts for full mailboxes. Each was a waiter before, so they are no more than those could be.
    untold: VecDeque<Letter>,
    untold_retry_at: Option<Instant>,
}

impl Worker {
    /// The worker of `upstream`, which tells shards through `router`. The channels of `base` are subscribed by others
    /// and never unsubscribed here.
    pub fn new(
        upstream: Arc<Upstream>,
        router: Arc<Router>,
        config: &config::Redis,
        base: Vec<String>,
    ) -> Self {
        Self {
            upstream,
            router,
            names_max: config.subscribe_batch,
            linger: config.unsubscribe_linger,
            base,
            backlog: Vec::new(),
            timers: BinaryHeap::new(),
            crowd_seen_at: None,
            is_unsubscribes_turn: false,
            since: None,
            untold: VecDeque::new(),
            untold_retry_at: None,
        }
    }

    /// The router by which it tells shards.
    #[cfg(test)]
    pub(super) fn router(&self) -> &Router {
        &self.router
    }

    /// Waits until a shard wants something else.
    pub async fn changed(&self) {
        self.upstream.changed.notified().await;
    }

    /// There is a link, on which nothing of this is subscribed.
    pub fn link_up(&mut self) {
        self.upstream.is_up.store(true, Ordering::Release);
        let wanted = self.upstream.channels.iter().filter(|entry| entry.state == State::Idle);
        self.backlog = wanted.map(|entry| entry.key().clone()).collect();
    }

    /// The link is gone, and a command that was under way with it: nothing is subscribed, and who waits goes on without.
    pub fn link_down(&mut self, now: Instant) {
        let (upstream, mut letters) = (self.upstream.clone(), Vec::new());
        upstream.is_up.store(false, Ordering::Release);
        upstream.channels.retain(|channel, entry| {
            entry.was_confirmed |= entry.state == State::Confirmed;
            entry.state = State::Idle;
            (entry.is_queued, entry.is_timed) = (false, false);
            drain_waiters(entry, channel, Listening::LocalOnly, &mut letters);
            if entry.references.is_empty() {
                upstream.bury(entry);
            }
            !entry.references.is_empty()
        });
        upstream.confirmed.store(0, Ordering::Relaxed);
        while upstream.queue.1.try_recv().is_ok() {}
        self.backlog = Vec::new();
        self.timers.clear();
        self.since = None;
        self.tell(letters, now);
    }

    /// The next command, if there is one to be made. Its [`Done`] comes before the next call.
    pub fn next_command(&mut self, now: Instant) -> Option<Command> {
        self.make_room(now);
        let is_unsubscribes_turn = self.is_unsubscribes_turn;
        for is_unsubscribe in [is_unsubscribes_turn, !is_unsubscribes_turn] {
            let names = if is_unsubscribe { self.unwanted(now) } else { self.wanted(now) };
            if !names.is_empty() {
                self.is_unsubscribes_turn = !is_unsubscribe;
                self.since = Some(now);
                let command = if is_unsubscribe { Command::Unsubscribe } else { Command::Subscribe };
                return Some(command(names));
            }
        }
        None
    }

    /// A command was carried out.
    pub fn done(&mut self, done: &Done, now: Instant) {
        self.since = None;
        let mut letters = Vec::new();
        match &done.command {
            Command::Subscribe(names) => {
                for (name, outcome) in names.iter().zip(&done.outcomes) {
                    self.subscribed(name, *outcome, now, &mut letters);
                }
            }
            Command::Unsubscribe(names) => {
                for (name, outcome) in names.iter().zip(&done.outcomes) {
                    self.unsubscribed(name, *outcome, now, &mut letters);
                }
            }
        }
        self.tell(letters, now);
    }

    /// When [`Worker::next_command`] and [`Worker::look_at_clock`] have something to do for which nobody calls.
    pub fn wake_at(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at).filter(|_| self.since.is_none());
        let impatience = self.since.map(|since| since + WAIT_MAX);
        timer.into_iter().chain(impatience).chain(self.untold_retry_at).min()
    }

    /// Tells whom full mailboxes kept waiting; and all who wait, once Redis takes too long.
    pub fn look_at_clock(&mut self, now: Instant) {
        let mut letters: Vec<Letter> = Vec::new();
        if self.untold_retry_at.is_some_and(|at| at <= now) {
            self.untold_retry_at = None;
            letters.extend(self.untold.drain(..));
        }
        if self.since.is_some_and(|since| since + WAIT_MAX <= now) {
            self.since = Some(now);
            // Letters count until they are told.
            if self.upstream.waiting.load(Ordering::Relaxed) > letters.len() + self.untold.len() {
                for mut entry in self.upstream.channels.iter_mut() {
                    let channel = entry.key().clone();
                    drain_waiters(&mut entry, &channel, Listening::LocalOnly, &mut letters);
                }
            }
        }
        self.tell(letters, now);
    }

    /// While there are too many entries, those that nobody wants need not wait for their timers.
    fn make_room(&mut self, now: Instant) {
        let is_seen = self.crowd_seen_at.is_some_and(|at| at + CROWD_PAUSE > now);
        if is_seen || !self.upstream.is_crowded() {
            return;
        }
        self.crowd_seen_at = Some(now);
        let channels = &self.upstream.channels;
        let due = |Reverse((at, name)): Reverse<(Instant, Arc<str>)>| {
            let is_wanted = channels.get(&name).is_some_and(|entry| !entry.references.is_empty());
            Reverse((if is_wanted { at } else { at.min(now) }, name))
        };
        self.timers = std::mem::take(&mut self.timers).into_iter().map(due).collect();
    }

    /// How long a channel that nobody wants is kept.
    fn linger(&self) -> Duration {
        if self.upstream.is_crowded() { Duration::ZERO } else { self.linger }
    }

    /// Names for a SUBSCRIBE: what shards ask for, then what the last link had.
    fn wanted(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut names = Names::new(self.names_max);
        for looks in 0.. {
            if !names.have_room() {
                break;
            }
            if looks == LOOKS_MAX {
                self.upstream.changed.notify_one();
                break;
            }
            let queued = self.upstream.queue.1.try_recv().ok();
            let is_queued = queued.is_some();
            let Some(name) = queued.or_else(|| self.backlog.pop()) else { break };
            if self.is_to_be_asked_for(&name, is_queued, now) {
                names.push(name);
            }
        }
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
        names.list
    }

    fn is_to_be_asked_for(&mut self, name: &Arc<str>, is_queued: bool, now: Instant) -> bool {
        let mut is_asked = false;
        let mut timer = None;
        let gone = self.upstream.channels.remove_if_mut(name, |_, entry| {
            entry.is_queued &= !is_queued;
            let is_wanted = !entry.references.is_empty();
            match entry.state {
                State::Idle if is_wanted => {
                    entry.state = State::Asked;
                    is_asked = true;
                }
                State::Idle => return !entry.is_queued,
                State::Confirmed if !is_wanted => timer = linger(entry, self.linger(), now),
                State::Asked | State::Confirmed | State::Leaving | State::Refused { .. } => {}
            }
            false
        });
        if let Some((_, entry)) = gone {
            self.upstream.bury(&entry);
        }
        self.set_timer(timer, name);
        is_asked
    }

    /// Names for an UNSUBSCRIBE: those whose timers are over and that nobody wants.
    fn unwanted(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut names = Names::new(self.names_max);
        for _ in 0..LOOKS_MAX {
            if !names.have_room() || self.timers.peek().is_none_or(|Reverse((at, _))| *at > now) {
                break;
            }
            let Some(Reverse((_, name))) = self.timers.pop() else { break };
            if self.is_to_be_left(&name, now) {
                names.push(name);
            }
        }
        names.list
    }

    fn is_to_be_left(&mut self, name: &Arc<str>, now: Instant) -> bool {
        let upstream = self.upstream.clone();
        let (mut is_leaving, mut timer) = (false, None);
        let gone = upstream.channels.remove_if_mut(name, |name, entry| {
            entry.is_timed = false;
            let is_wanted = !entry.references.is_empty();
            let since = entry.unwanted_since.unwrap_or(now);
            match entry.state {
                State::Confirmed if is_wanted => {}
                State::Confirmed if since + self.linger() > now => {
                    timer = arm(entry, since + self.linger());
                }
                State::Confirmed => {
                    upstream.confirmed.fetch_sub(1, Ordering::Relaxed);
                    is_leaving = !self.base.iter().any(|base| **base == **name);
                    entry.state = if is_leaving { State::Leaving } else { State::Idle };
                    return !is_leaving && !entry.is_queued;
                }
                State::Refused { until } if until > now && (is_wanted || !upstream.is_crowded()) => {
                    timer = arm(entry, until);
                }
                State::Refused { .. } => {
                    entry.state = State::Idle;
                    if !is_wanted {
                        return !entry.is_queued;
                    }
                    upstream.enqueue(entry, name);
                }
                State::Idle | State::Asked | State::Leaving => {
                    debug_assert!(false, "timers run for what is confirmed or refused");
                }
            }
            false
        });
        if let Some((_, entry)) = gone {
            upstream.bury(&entry);
        }
        self.set_timer(timer, name);
        is_leaving
    }

    fn subscribed(&mut self, name: &Arc<str>, outcome: Outcome, now: Instant, letters: &mut Vec<Letter>) {
        let upstream = self.upstream.clone();
        let Some(mut entry) = upstream.channels.get_mut(name) else { return };
        debug_assert_eq!(entry.state, State::Asked);
        let (counters, entry) = (&upstream.status.process, &mut *entry);
        let timer = match outcome {
            Outcome::Done => {
                entry.state = State::Confirmed;
                entry.refusal_pause = Duration::ZERO;
                upstream.confirmed.fetch_add(1, Ordering::Relaxed);
                let again = usize::from(std::mem::take(&mut entry.was_confirmed));
                upstream.count(&counters.redis_resubscribes, again);
                drain_waiters(entry, name, Listening::Confirmed, letters);
                if entry.references.is_empty() { linger(entry, self.linger(), now) } else { None }
            }
            Outcome::Refused => {
                let pause = (entry.refusal_pause * 2).clamp(REFUSAL_PAUSE_MIN, REFUSAL_PAUSE_MAX);
                entry.refusal_pause = pause;
                entry.state = State::Refused { until: now + pause };
                upstream.count(&counters.redis_subscribe_errors, 1);
                upstream.count(&counters.redis_listens_refused, entry.waiters.len());
                drain_waiters(entry, name, Listening::Refused, letters);
                arm(entry, now + pause)
            }
        };
        self.set_timer(timer, name);
    }

    fn unsubscribed(&mut self, name: &Arc<str>, outcome: Outcome, now: Instant, letters: &mut Vec<Letter>) {
        let upstream = self.upstream.clone();
        let mut timer = None;
        let gone = upstream.channels.remove_if_mut(name, |name, entry| {
            debug_assert_eq!(entry.state, State::Leaving);
            let is_wanted = !entry.references.is_empty();
            match outcome {
                Outcome::Done => {
                    entry.state = State::Idle;
                    if is_wanted {
                        upstream.enqueue(entry, name);
                    }
                    return !is_wanted && !entry.is_queued;
                }
                // It is still subscribed, then.
                Outcome::Refused => {
                    entry.state = State::Confirmed;
                    upstream.confirmed.fetch_add(1, Ordering::Relaxed);
                    upstream.count(&upstream.status.process.redis_subscribe_errors, 1);
                    drain_waiters(entry, name, Listening::Confirmed, letters);
                    if !is_wanted {
                        let until = now + self.linger.max(REFUSAL_PAUSE_MAX);
                        // The linger ends with the pause, and without a linger it is not much sooner.
                        entry.unwanted_since = Some(until - self.linger);
                        timer = arm(entry, until);
                    }
                }
            }
            false
        });
        if let Some((_, entry)) = gone {
            upstream.bury(&entry);
        }
        self.set_timer(timer, name);
    }

    fn set_timer(&mut self, timer: Option<Instant>, name: &Arc<str>) {
        if let Some(at) = timer {
            self.timers.push(Reverse((at, name.clone())));
        }
    }

    /// Posts verdicts and wakes each shard once; keeps those for full mailboxes.
    fn tell(&mut self, letters: Vec<Letter>, now: Instant) {
        let (mut posted, mut full) = (ShardSet::default(), ShardSet::default());
        let mut told = 0;
        for letter in letters {
            let Waiter { shard, conn, run } = letter.to;
            if run != self.upstream.run(shard) {
                told += 1;
                continue;
            }
            let mailbox = self.router.shard(shard);
            let mail = || {
                let (room, outcome) = (letter.channel.clone(), letter.outcome);
                Mail::Verdict(Box::new(Verdict::Listening { conn, room, outcome }))
            };
            if full.meets(ShardSet::of(shard)) || mailbox.is_full() || !mailbox.offer(mail()) {
                full = full.with(shard);
                self.untold.push_back(letter);
                continue;
            }
            told += 1;
            if letter.outcome == Listening::LocalOnly {
                self.upstream.count(&self.upstream.status.process.redis_listens_local_only, 1);
            }
            posted = posted.with(shard);
            if mailbox.is_half_full() {
                mailbox.ring();
            }
        }
        self.upstream.waiting.fetch_sub(told, Ordering::Relaxed);
        for shard in posted.iter() {
            self.router.shard(shard).ring();
        }
        let retry_at = self.untold_retry_at.unwrap_or(now + UNTOLD_RETRY);
        self.untold_retry_at = (!self.untold.is_empty()).then_some(retry_at);
    }
}

/// Names of one command.
struct Names {
    list: Vec<Arc<str>>,
    bytes: usize,
    names_max: usize,
}

impl Names {
    fn new(names_max: usize) -> Self {
        Self { list: Vec::new(), bytes: 0, names_max }
    }

    fn have_room(&self) -> bool {
        self.list.len() < self.names_max && self.bytes < COMMAND_BYTES_MAX
    }

    fn push(&mut self, name: Arc<str>) {
        self.bytes += name.len();
        self.list.push(name);
    }
}

fn drain_waiters(entry: &mut Entry, channel: &Arc<str>, outcome: Listening, letters: &mut Vec<Letter>) {
    let waiters = std::mem::take(&mut entry.waiters);
    letters.extend(waiters.into_iter().map(|to| Letter { to, channel: channel.clone(), outcome }));
}

/// Nobody wants it from `now` on; when to look again, unless a timer runs already.
fn linger(entry: &mut Entry, linger: Duration, now: Instant) -> Option<Instant> {
    entry.unwanted_since = Some(now);
    if entry.is_timed { None } else { arm(entry, now + linger) }
}

fn arm(entry: &mut Entry, at: Instant) -> Option<Instant> {
    debug_assert!(!entry.is_timed);
    entry.is_timed = true;
    Some(at)
}
