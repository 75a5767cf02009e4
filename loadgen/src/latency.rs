//! Latency histograms: recorded in microseconds from the due time, merged over threads, summed up for people.
//!
//! Invariant: nothing is dropped; values beyond [`MICROS_MAX`] count as that.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency told apart: one hour.
const MICROS_MAX: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of latencies.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// Nothing recorded.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, SIGNIFICANT_DIGITS);
        Self { histogram: histogram.expect("constant bounds in order") }
    }

    /// Records what took from `due_ns` to `now_ns`; a clock that seems to run backwards counts as no time.
    pub(crate) fn record(&mut self, due_ns: u64, now_ns: u64) {
        self.histogram.saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
    }

    /// Adds what another thread recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("equal bounds");
    }

    /// The percentiles, `None` when nothing was recorded.
    pub(crate) fn summary(&self) -> Option<Percentiles> {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        (!self.histogram.is_empty()).then(|| Percentiles {
            count: self.histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.histogram.max(),
        })
    }
}

/// Percentiles of a set of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_histograms_tell_what_one_would_have_told() {
        let (mut one, mut odd, mut even) = (Latencies::new(), Latencies::new(), Latencies::new());
        for micros in 1..=1000_u64 {
            one.record(7, 7 + micros * 1_000);
            let half = if micros % 2 == 1 { &mut odd } else { &mut even };
            half.record(0, micros * 1_000);
        }
        odd.merge(&even);
        assert_eq!(odd.summary(), one.summary());
        let expected =
            Percentiles { count: 1000, p50_us: 500, p90_us: 900, p99_us: 990, p999_us: 999, max_us: 1000 };
        assert_eq!(one.summary(), Some(expected));
    }

    #[test]
    fn odd_values_are_recorded_and_nothing_recorded_has_no_summary() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        latencies.record(2_000_000, 1_000_000);
        latencies.record(0, u64::MAX);
        let summary = latencies.summary().expect("two values");
        assert_eq!((summary.count, summary.p50_us), (2, 0));
        assert!(summary.max_us >= MICROS_MAX);
    }
}
