//! Latencies of one interval after the other, so that a report can show when something happened.
//!
//! Invariant: only the interval under way has a full histogram; finished ones keep the values that occur.

use serde::{Deserialize, Serialize};

use crate::latency::{Latencies, Percentiles};

/// Most intervals of one run; longer runs get longer intervals.
pub(crate) const INTERVALS_MAX: u32 = 300;

/// What arrived in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slice {
    /// Number of the interval, from 0.
    pub(crate) interval: u32,
    /// Publish → member.
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// The slices of one thread, in the making.
#[derive(Debug)]
pub(crate) struct Slicer {
    current: u32,
    latencies: Latencies,
    finished: Vec<Slice>,
}

impl Slicer {
    /// Nothing recorded.
    pub(crate) fn new() -> Self {
        Self { current: 0, latencies: Latencies::new(), finished: Vec::new() }
    }

    /// Moves on to an interval; when that ends another, returns what that one was like.
    pub(crate) fn advance(&mut self, interval: u32) -> Option<Percentiles> {
        if interval <= self.current {
            return None;
        }
        let summary = self.latencies.summary();
        self.finish();
        self.current = interval;
        summary
    }

    /// Records a delivery of the interval under way.
    pub(crate) fn record(&mut self, due_ns: u64, now_ns: u64) {
        self.latencies.record(due_ns, now_ns);
    }

    /// All slices; begins anew.
    pub(crate) fn take(&mut self) -> Vec<Slice> {
        self.finish();
        self.current = 0;
        std::mem::take(&mut self.finished)
    }

    fn finish(&mut self) {
        if self.latencies.count() > 0 {
            self.finished.push(Slice { interval: self.current, latencies: self.latencies.recorded() });
            self.latencies.clear();
        }
    }
}

/// The latencies of every interval, over all threads.
pub(crate) fn merge(slices: impl Iterator<Item = Slice>) -> Vec<Latencies> {
    let mut intervals: Vec<Latencies> = Vec::new();
    for slice in slices {
        let index = slice.interval.min(INTERVALS_MAX) as usize;
        if index >= intervals.len() {
            intervals.resize_with(index + 1, Latencies::new);
        }
        intervals[index].add_recorded(&slice.latencies);
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_all_threads_make_one_timeline() {
        let (mut one, mut other) = (Slicer::new(), Slicer::new());
        one.record(0, 1_000_000);
        assert_eq!(one.advance(0), None, "the same interval");
        assert_eq!(one.advance(2).map(|latencies| latencies.max_us), Some(1_000));
        one.record(0, 3_000_000);
        other.record(0, 2_000_000);
        let slices = one.take().into_iter().chain(other.take());
        let counts: Vec<u64> = merge(slices).iter().map(Latencies::count).collect();
        assert_eq!(counts, [2, 0, 1]);
        assert!(one.take().is_empty(), "begun anew");
    }
}
