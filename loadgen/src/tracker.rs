//! When the last local member received each publication.
//!
//! One tracker per thread, indexed by the publication's number. Never blocks and shares nothing: the thread tells
//! the publisher how far it is by [`Tracker::done_through`].
//!
//! Invariant: every publication below `done_through` that concerns this thread is complete here.

use std::collections::VecDeque;

/// Completion of publications on one thread.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    done_through: u32,
    /// Arrivals of the publications from `done_through` on, and how many each waits for.
    pending: VecDeque<Progress>,
    /// When the latest member here received each publication, in nanoseconds; 0 when none has.
    last_arrival_ns: Vec<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    arrived: u32,
    /// 0 until the first arrival tells it.
    members: u32,
}

impl Tracker {
    /// Books the first copy of a publication at one of the `members` its room has here.
    ///
    /// `has_members` tells of any number whether its publication concerns this thread.
    pub(crate) fn arrive(
        &mut self,
        number: u32,
        members: u32,
        now_ns: u64,
        has_members: impl Fn(u32) -> bool,
    ) {
        let index = number as usize;
        if index >= self.last_arrival_ns.len() {
            self.last_arrival_ns.resize(index + 1, 0);
        }
        self.last_arrival_ns[index] = now_ns;
        let Some(offset) = number.checked_sub(self.done_through) else { return };
        let offset = offset as usize;
        if offset >= self.pending.len() {
            self.pending.resize(offset + 1, Progress::default());
        }
        let progress = &mut self.pending[offset];
        progress.arrived += 1;
        progress.members = members;
        if progress.arrived >= members {
            self.advance(has_members);
        }
    }

    /// The number below which everything that concerns this thread is complete.
    pub(crate) fn done_through(&self) -> u32 {
        self.done_through
    }

    /// When the latest member here received each publication; 0 when none has.
    pub(crate) fn into_last_arrival_ns(self) -> Vec<u64> {
        self.last_arrival_ns
    }

    fn advance(&mut self, has_members: impl Fn(u32) -> bool) {
        while let Some(front) = self.pending.front() {
            let is_complete = front.members > 0 && front.arrived >= front.members;
            if !is_complete && has_members(self.done_through) {
                return;
            }
            self.pending.pop_front();
            self.done_through += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_complete_in_any_order_and_the_frontier_waits_for_the_oldest() {
        let mut tracker = Tracker::default();
        let mut arrive = |number, now_ns| {
            tracker.arrive(number, 2, now_ns, |_| true);
            tracker.done_through()
        };
        let table =
            [(0, 10, 0), (1, 11, 0), (1, 12, 0), (0, 13, 2), (3, 14, 2), (2, 15, 2), (2, 16, 3), (3, 17, 4)];
        for (number, now_ns, expected) in table {
            assert_eq!(arrive(number, now_ns), expected, "at {now_ns}");
        }
        assert_eq!(tracker.into_last_arrival_ns(), [13, 12, 16, 17]);
    }

    #[test]
    fn publications_of_rooms_without_members_here_hold_nothing_up() {
        let mut tracker = Tracker::default();
        let is_odd = |number: u32| number % 2 == 1;
        for (number, expected) in [(3, 1), (1, 4), (5, 6)] {
            tracker.arrive(number, 1, u64::from(number) * 100, is_odd);
            assert_eq!(tracker.done_through(), expected, "after {number}");
        }
        assert_eq!(tracker.into_last_arrival_ns(), [0, 100, 0, 300, 0, 500]);
    }
}
