//! Latency histograms: recorded in microseconds from the due time, merged over threads, summed up for people.
//!
//! Invariant: nothing is dropped; values beyond [`MICROS_MAX`] count as that.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest latency told apart: one hour.
const MICROS_MAX: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// Steps of a percentile curve from one halving of the distance to 100 % to the next.
const CURVE_STEPS_PER_HALVING: u32 = 4;

/// A histogram of latencies.
#[derive(Clone, Debug, PartialEq)]
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

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.histogram.clear();
    }

    /// The values that occur, in microseconds, and how often.
    pub(crate) fn recorded(&self) -> Vec<(u64, u64)> {
        self.histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }

    /// Adds what [`Latencies::recorded`] told.
    pub(crate) fn add_recorded(&mut self, recorded: &[(u64, u64)]) {
        for (micros, count) in recorded {
            self.histogram.saturating_record_n(*micros, *count);
        }
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
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

    /// The whole distribution, the finer the nearer to 100 %.
    pub(crate) fn curve(&self) -> Vec<CurvePoint> {
        let points = self.histogram.iter_quantiles(CURVE_STEPS_PER_HALVING);
        let point = |percentile: f64, micros| CurvePoint { percentile, micros };
        points
            .map(|at| {
                point(at.quantile_iterated_to() * 100.0, at.value_iterated_to().min(self.histogram.max()))
            })
            .collect()
    }
}

/// As the values that occur and how often: a histogram is mostly empty.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.recorded().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::new();
        latencies.add_recorded(&Vec::deserialize(deserializer)?);
        Ok(latencies)
    }
}

/// Percentiles of a set of latencies, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

/// One point of a distribution: so many percent took no longer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurvePoint {
    /// From 0 to 100.
    pub(crate) percentile: f64,
    /// So many percent took no longer.
    pub(crate) micros: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_and_transported_histograms_tell_what_one_would_have_told() {
        let (mut one, mut odd, mut even) = (Latencies::new(), Latencies::new(), Latencies::new());
        for micros in 1..=1000_u64 {
            one.record(7, 7 + micros * 1_000);
            let half = if micros % 2 == 1 { &mut odd } else { &mut even };
            half.record(0, micros * 1_000);
        }
        let text = serde_json::to_string(&even).expect("plain data");
        odd.merge(&serde_json::from_str(&text).expect("what was written"));
        assert_eq!(odd.summary(), one.summary());
        let expected =
            Percentiles { count: 1000, p50_us: 500, p90_us: 900, p99_us: 990, p999_us: 999, max_us: 1000 };
        assert_eq!(one.summary(), Some(expected));
    }

    #[test]
    fn odd_values_are_recorded_and_nothing_recorded_has_no_summary() {
        let mut latencies = Latencies::new();
        assert_eq!((latencies.summary(), latencies.curve().len()), (None, 0));
        latencies.record(2_000_000, 1_000_000);
        latencies.record(0, u64::MAX);
        let summary = latencies.summary().expect("two values");
        assert_eq!((summary.count, summary.p50_us), (2, 0));
        assert!(summary.max_us >= MICROS_MAX);
    }

    #[test]
    fn the_curve_rises_to_the_maximum() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|micros| latencies.record(0, micros * 1_000));
        let curve = latencies.curve();
        assert!(curve.is_sorted_by(|a, b| a.percentile <= b.percentile && a.micros <= b.micros));
        let last = curve.last().expect("points");
        assert_eq!((last.percentile, last.micros), (100.0, latencies.summary().expect("values").max_us));
        let near = curve.iter().find(|point| point.percentile >= 99.0).expect("a point");
        assert!((9_900..=9_960).contains(&near.micros), "{near:?}");
    }
}
