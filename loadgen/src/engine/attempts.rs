//! The connection attempts of one thread: when the next is due, and what became of them. Pure.
//!
//! Invariants: `under_way <= in_flight`; once nothing is under way, `attempts = live + failed` in the [`Tally`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::latency::Latencies;
use crate::scenario::Connect;

/// What became of attempts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// Began.
    pub(crate) attempts: u64,
    /// Came to be live.
    pub(crate) live: u64,
    /// Never did.
    pub(crate) failed: u64,
    /// Were live, and ended otherwise than they should have.
    pub(crate) lost: u64,
    /// When the last one was over, in nanoseconds; 0 before.
    pub(crate) ended_ns: u64,
    /// From due, or begun in the closed loop, to the upgrade.
    pub(crate) to_upgraded: Latencies,
    /// From due, or begun in the closed loop, to live.
    pub(crate) to_live: Latencies,
    /// From due to begun, in the open loop.
    pub(crate) lag: Latencies,
    /// The part of it that is the thread's own, in nanoseconds: not spent waiting for others to be over. Sum and count
    /// of each third of the time.
    pub(crate) own_lag_thirds: [(u64, u64); 3],
}

impl Tally {
    /// Nothing has begun.
    pub(crate) fn new() -> Self {
        Self {
            attempts: 0,
            live: 0,
            failed: 0,
            lost: 0,
            ended_ns: 0,
            to_upgraded: Latencies::new(),
            to_live: Latencies::new(),
            lag: Latencies::new(),
            own_lag_thirds: [(0, 0); 3],
        }
    }

    /// Adds those of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.live += other.live;
        self.failed += other.failed;
        self.lost += other.lost;
        self.ended_ns = self.ended_ns.max(other.ended_ns);
        self.to_upgraded.merge(&other.to_upgraded);
        self.to_live.merge(&other.to_live);
        self.lag.merge(&other.lag);
        for (own, other) in self.own_lag_thirds.iter_mut().zip(other.own_lag_thirds) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
    }

    /// Mean lag of the thread's own in the first and the last third of the time, in nanoseconds.
    pub(crate) fn own_lag_ns(&self) -> (u64, u64) {
        let [first, _, last] = self.own_lag_thirds.map(|(sum, count)| sum / count.max(1));
        (first, last)
    }
}

/// The attempt a member is at, or was last.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Its place among all of this thread.
    number: u32,
    /// What its latencies count from.
    due_ns: u64,
    began_ns: u64,
}

/// The attempts of a thread.
#[derive(Debug)]
pub(super) struct Attempts {
    per_second: Option<f64>,
    in_flight: u32,
    /// How long attempts will be made, as far as that is known.
    span: Option<Duration>,
    /// When the first was allowed, in nanoseconds; 0 before.
    since_ns: u64,
    began: u32,
    under_way: u32,
    /// Since when fewer are under way than may be.
    room_since_ns: u64,
    slots: Vec<Slot>,
    tally: Tally,
}

impl Attempts {
    /// Nothing has begun. The thread has so much of the plan.
    pub(super) fn new(plan: &Connect, thread: usize, threads: usize) -> Self {
        let in_flight = (plan.in_flight as usize).saturating_sub(thread).div_ceil(threads) as u32;
        Self {
            per_second: plan.per_second.map(|rate| rate / threads as f64),
            in_flight: in_flight.max(1),
            span: plan.span(),
            since_ns: 0,
            began: 0,
            under_way: 0,
            room_since_ns: 0,
            slots: Vec::new(),
            tally: Tally::new(),
        }
    }

    /// How many may be under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// How many began, and how many of them are not over.
    pub(super) fn counts(&self) -> (u32, u32) {
        (self.began, self.under_way)
    }

    /// Whether one of `allowed` in all is to begin.
    pub(super) fn is_due(&mut self, allowed: u32, now_ns: u64) -> bool {
        if self.since_ns == 0 && allowed > 0 {
            (self.since_ns, self.room_since_ns) = (now_ns, now_ns);
        }
        self.began < allowed && self.under_way < self.in_flight && self.due_ns(now_ns) <= now_ns
    }

    /// Begins one as `member`; returns its place among all of this thread.
    pub(super) fn begin(&mut self, member: usize, now_ns: u64) -> u32 {
        let slot = Slot { number: self.began, due_ns: self.due_ns(now_ns), began_ns: now_ns };
        if self.per_second.is_some() {
            self.tally.lag.record(slot.due_ns, now_ns);
            let own_lag_ns = now_ns.saturating_sub(slot.due_ns.max(self.room_since_ns));
            let third = self.third(now_ns);
            third.0 += own_lag_ns;
            third.1 += 1;
        }
        if member >= self.slots.len() {
            self.slots.resize(member + 1, Slot::default());
        }
        self.slots[member] = slot;
        self.began += 1;
        self.under_way += 1;
        self.tally.attempts += 1;
        slot.number
    }

    /// The place of a member's attempt among all of this thread.
    pub(super) fn number_of(&self, member: usize) -> u32 {
        self.slots.get(member).map_or(0, |slot| slot.number)
    }

    /// Whether a member's attempt began more than `longest` ago.
    pub(super) fn is_overdue(&self, member: usize, longest: Duration, now_ns: u64) -> bool {
        let began_ns = self.slots.get(member).map_or(now_ns, |slot| slot.began_ns);
        u128::from(now_ns.saturating_sub(began_ns)) > longest.as_nanos()
    }

    /// The server agreed to the upgrade.
    pub(super) fn upgraded(&mut self, member: usize, now_ns: u64) {
        self.tally.to_upgraded.record(self.slots[member].due_ns, now_ns);
    }

    /// Logged in; the attempt is over when the connection stays.
    pub(super) fn live(&mut self, member: usize, stays: bool, now_ns: u64) {
        self.tally.live += 1;
        self.tally.to_live.record(self.slots[member].due_ns, now_ns);
        if stays {
            self.over(now_ns);
        }
    }

    /// Came to nothing.
    pub(super) fn failed(&mut self, now_ns: u64) {
        self.tally.failed += 1;
        self.over(now_ns);
    }

    /// Left, and the server ended the connection, or did not.
    pub(super) fn left(&mut self, is_lost: bool, now_ns: u64) {
        self.tally.lost += u64::from(is_lost);
        self.over(now_ns);
    }

    /// Was live and was to stay.
    pub(super) fn lost(&mut self) {
        self.tally.lost += 1;
    }

    /// Hands over what was written down.
    pub(super) fn take(&mut self) -> Tally {
        std::mem::replace(&mut self.tally, Tally::new())
    }

    fn over(&mut self, now_ns: u64) {
        if self.under_way == self.in_flight {
            self.room_since_ns = now_ns;
        }
        self.under_way -= 1;
        self.tally.ended_ns = now_ns;
    }

    /// When the next one is due: by the clock, or at once.
    fn due_ns(&self, now_ns: u64) -> u64 {
        self.per_second.map_or(now_ns, |rate| self.since_ns + (f64::from(self.began) / rate * 1e9) as u64)
    }

    fn third(&mut self, now_ns: u64) -> &mut (u64, u64) {
        let span_ns = self.span.map_or(f64::INFINITY, |span| span.as_secs_f64() * 1e9);
        let third = now_ns.saturating_sub(self.since_ns) as f64 * 3.0 / span_ns.max(1.0);
        &mut self.tally.own_lag_thirds[(third as usize).min(2)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(in_flight: u32, per_second: Option<f64>) -> Connect {
        let duration = Some(Duration::from_millis(300));
        Connect { attempts: None, in_flight, per_second, goodbye: None, duration }
    }

    #[test]
    fn a_closed_loop_begins_one_as_another_ends() {
        let mut attempts = Attempts::new(&plan(2, None), 0, 1);
        assert!(!attempts.is_due(0, 5));
        for member in 0..2 {
            assert!(attempts.is_due(3, 10));
            assert_eq!(attempts.begin(member, 10), member as u32);
        }
        assert!(!attempts.is_due(3, 11), "two are under way");
        attempts.failed(20 * MS);
        assert!(attempts.is_due(3, 20 * MS));
        attempts.begin(0, 20 * MS);
        attempts.upgraded(0, 21 * MS);
        attempts.live(0, true, 22 * MS);
        assert!(!attempts.is_due(3, 30 * MS), "three were allowed");
        attempts.live(1, false, 31 * MS);
        assert_eq!(attempts.counts(), (3, 1));
        attempts.left(false, 32 * MS);
        let tally = attempts.take();
        assert_eq!((tally.attempts, tally.live, tally.failed, tally.lost), (3, 2, 1, 0));
        assert_eq!(tally.ended_ns, 32 * MS);
        let to_live = tally.to_live.summary().expect("two");
        assert_eq!((to_live.count, to_live.p50_us), (2, 2_000));
    }

    #[test]
    fn an_open_loop_charges_what_it_waits_for_and_tells_its_own_part() {
        let mut attempts = Attempts::new(&plan(1, Some(100.0)), 0, 1);
        assert!(attempts.is_due(9, MS));
        attempts.begin(0, MS);
        assert!(!attempts.is_due(9, 50 * MS), "one is under way");
        attempts.failed(60 * MS);
        // Due at 11 ms, possible from 60 ms, begun at 62 ms.
        assert!(attempts.is_due(9, 62 * MS));
        attempts.begin(0, 62 * MS);
        attempts.live(0, true, 63 * MS);
        assert!(attempts.is_overdue(0, Duration::from_millis(5), 70 * MS));
        assert!(!attempts.is_overdue(0, Duration::from_millis(5), 65 * MS));
        let tally = attempts.take();
        assert_eq!(tally.to_live.summary().expect("one").max_us / 100, 520);
        assert_eq!(tally.lag.summary().expect("two").max_us / 100, 510);
        assert_eq!(tally.own_lag_thirds, [(2 * MS, 2), (0, 0), (0, 0)]);
        assert_eq!(tally.own_lag_ns(), (MS, 0));
    }

    #[test]
    fn threads_share_what_may_be_under_way() {
        let shares = |in_flight| {
            let share = |thread| Attempts::new(&plan(in_flight, None), thread, 3).in_flight();
            [share(0), share(1), share(2)]
        };
        assert_eq!(shares(64), [22, 21, 21]);
        assert_eq!(shares(1), [1, 1, 1], "a thread without any would make none of its attempts");
    }
}
