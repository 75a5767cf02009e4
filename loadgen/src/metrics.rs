//! The one table of metrics: what a figure is called, where it is found, which way is better, how people write it.
//!
//! Pure. Requirements, comparisons, searches and pages all read their figures through it. Invariant: keys are
//! unique; a value is in the base of its [`Unit`].

use crate::report::{Connect, Fanout};

/// Farthest a mistyped key may be from the one that is suggested, in edits.
const SUGGESTION_EDITS_MAX: usize = 3;

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const GIB: f64 = 1024.0 * MIB;

const NOTHING_DELIVERED: &str = "nothing was delivered while measuring";
const TOO_SHORT: &str = "the server was not watched for long enough: give its process with --server-pid";
const NOT_WATCHED: &str = "the server was not watched: give its process with --server-pid";
const RATE_NOT_TOLD: &str = "something else than the server was the limit, or something is missing";
const NOT_WATCHED_OR_NOBODY: &str =
    "no connection came to be live, or the server was not watched: give its process with --server-pid";
const NOTHING_PUBLISHED: &str = "nothing was published while measuring";
const NOBODY_RECONNECTED: &str = "no connection was made to come back";
const NO_SLOW_READERS: &str = "no connection was made to read slowly";
const NO_ROUNDS: &str = "the receive loop was not timed";
const NOBODY_CAME: &str = "no attempt to connect came that far, or none was made";
const ALWAYS: &str = "it always is measured";

/// A run that has metrics.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measured<'a> {
    /// Publications to rooms.
    Fanout(&'a Fanout),
    /// Attempts to connect.
    Connect(&'a Connect),
}

/// Reads a figure of a fan-out run; `None` when such runs do not have it.
type OfFanout = Option<fn(&Fanout) -> Option<f64>>;
/// Reads a figure of a connect run; `None` when such runs do not have it.
type OfConnect = Option<fn(&Connect) -> Option<f64>>;

/// A figure of a run.
#[derive(Debug)]
pub(crate) struct Metric {
    /// What it is called in requirements: `p99`.
    pub(crate) key: &'static str,
    /// What it is called on a page.
    pub(crate) title: &'static str,
    /// What its values are.
    pub(crate) unit: Unit,
    /// Which way is better.
    pub(crate) better: Better,
    /// Its value in a fan-out run; `None` when it was not measured.
    of_fanout: OfFanout,
    /// The same in a connect run.
    of_connect: OfConnect,
    /// Why it was not measured, when it was not.
    pub(crate) absent: &'static str,
}

/// What a value is, and the base it is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A latency, in microseconds.
    Micros,
    /// CPU time, in microseconds.
    CpuMicros,
    /// So many a second.
    PerSecond,
    /// Memory, in bytes.
    Bytes,
    /// CPU cores.
    Cores,
    /// Things.
    Count,
}

/// Which of two values is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// The smaller one.
    Lower,
    /// The larger one.
    Higher,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// A row of the table: key, title, unit, better, reason of absence, value in a fan-out run and in a connect run.
macro_rules! metrics {
    ($($key:literal, $title:literal, $unit:ident, $better:ident, $absent:expr, $of_fanout:expr, $of_connect:expr;)+) => {
        &[$(Metric {
            key: $key,
            title: $title,
            unit: Unit::$unit,
            better: Better::$better,
            of_fanout: $of_fanout,
            of_connect: $of_connect,
            absent: $absent,
        }),+]
    };
}

/// All metrics, in the order pages list them.
pub(crate) static METRICS: &[Metric] = metrics! {
    "p50", "p50 publish → member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_member?.p50_us as f64)),
        None;
    "p90", "p90 publish → member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_member?.p90_us as f64)),
        None;
    "p99", "p99 publish → member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_member?.p99_us as f64)),
        None;
    "p99.9", "p99.9 publish → member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_member?.p999_us as f64)),
        None;
    "max", "longest publish → member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_member?.max_us as f64)),
        None;
    "last-p50", "p50 publish → last member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_last_member?.p50_us as f64)),
        None;
    "last-p90", "p90 publish → last member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_last_member?.p90_us as f64)),
        None;
    "last-p99", "p99 publish → last member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_last_member?.p99_us as f64)),
        None;
    "last-p99.9", "p99.9 publish → last member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_last_member?.p999_us as f64)),
        None;
    "last-max", "longest publish → last member", Micros, Lower, NOTHING_DELIVERED,
        Some(|run| Some(run.to_last_member?.max_us as f64)),
        None;
    "deliveries_per_second", "deliveries per second", PerSecond, Higher, RATE_NOT_TOLD,
        Some(|run| run.deliveries_per_second),
        None;
    "cpu_us_per_delivery", "CPU time per delivery", CpuMicros, Lower, NOT_WATCHED,
        Some(|run| Some(run.server.as_ref()?.cpu_us_per_delivery)),
        None;
    "deliveries_per_cpu_second", "deliveries per CPU-second", PerSecond, Higher, NOT_WATCHED,
        Some(|run| Some(run.server.as_ref()?.deliveries_per_cpu_second)),
        None;
    "server_cores", "cores the server used", Cores, Lower, NOT_WATCHED,
        Some(|run| Some(run.server.as_ref()?.cores)),
        Some(|run| Some(run.server.as_ref()?.cores));
    "bytes_per_connection", "server memory per connection", Bytes, Lower, NOT_WATCHED,
        Some(|run| run.server.as_ref()?.bytes_per_connection),
        Some(|run| run.server.as_ref()?.bytes_per_connection);
    "server_memory", "server memory", Bytes, Lower, NOT_WATCHED,
        Some(|run| Some(run.server.as_ref()?.resident_bytes as f64)),
        Some(|run| Some(run.server.as_ref()?.resident_bytes as f64));
    "server_memory_growth", "growth of server memory", Bytes, Lower, TOO_SHORT,
        Some(|run| run.timeline.server_memory_growth()),
        None;
    "missing", "deliveries missing", Count, Lower, ALWAYS, Some(|run| Some(run.ledger.missing as f64)), None;
    "duplicate", "deliveries made twice", Count, Lower, ALWAYS,
        Some(|run| Some(run.ledger.duplicate as f64)),
        None;
    "out_of_order", "deliveries out of order", Count, Lower, ALWAYS,
        Some(|run| Some(run.ledger.out_of_order as f64)),
        None;
    "strangers", "deliveries to strangers", Count, Lower, ALWAYS,
        Some(|run| Some(run.strangers as f64)),
        None;
    "to_excluded", "deliveries to the excluded", Count, Lower, ALWAYS,
        Some(|run| Some(run.to_excluded as f64)),
        None;
    "altered", "messages altered", Count, Lower, ALWAYS, Some(|run| Some(run.altered as f64)), None;
    "failed", "connections failed", Count, Lower, ALWAYS,
        Some(|run| Some(f64::from(run.losses.failed))),
        Some(|run| Some(run.outcome.failed as f64));
    "lost", "connections lost", Count, Lower, ALWAYS,
        Some(|run| Some(f64::from(run.losses.lost))),
        Some(|run| Some(run.outcome.lost as f64));
    "late_joins", "joins told late", Count, Lower, ALWAYS, Some(|run| Some(run.late_joins as f64)), None;
    "reconnect_p99", "p99 of coming back", Micros, Lower, NOBODY_RECONNECTED,
        Some(|run| Some(run.reconnects?.p99_us as f64)),
        None;
    "slow_closed", "slow readers closed", Count, Higher, NO_SLOW_READERS,
        Some(|run| Some(f64::from(run.slow_readers?.closed))),
        None;
    "send_lag_p99", "p99 of leaving late", Micros, Lower, NOTHING_PUBLISHED,
        Some(|run| Some(run.generator.send_lag?.p99_us as f64)),
        Some(|run| Some(run.generator.send_lag?.p99_us as f64));
    "round_p99", "p99 of a receive round", Micros, Lower, NO_ROUNDS,
        Some(|run| Some(run.generator.rounds?.p99_us as f64)),
        Some(|run| Some(run.generator.rounds?.p99_us as f64));
    "connects_per_second", "connections per second", PerSecond, Higher, RATE_NOT_TOLD,
        None,
        Some(|run| run.connects_per_second);
    "cpu_us_per_connect", "CPU time per connection", CpuMicros, Lower, NOT_WATCHED_OR_NOBODY,
        None,
        Some(|run| run.server.as_ref()?.cpu_us_per_connect);
    "connects_per_cpu_second", "connections per CPU-second", PerSecond, Higher, NOT_WATCHED_OR_NOBODY,
        None,
        Some(|run| run.server.as_ref()?.connects_per_cpu_second);
    "upgraded_p99", "p99 of being upgraded", Micros, Lower, NOBODY_CAME,
        Some(|run| Some(run.visitors.as_ref()?.to_upgraded?.p99_us as f64)),
        Some(|run| Some(run.outcome.to_upgraded?.p99_us as f64));
    "live_p50", "p50 of being live", Micros, Lower, NOBODY_CAME,
        Some(|run| Some(run.visitors.as_ref()?.to_live?.p50_us as f64)),
        Some(|run| Some(run.outcome.to_live?.p50_us as f64));
    "live_p99", "p99 of being live", Micros, Lower, NOBODY_CAME,
        Some(|run| Some(run.visitors.as_ref()?.to_live?.p99_us as f64)),
        Some(|run| Some(run.outcome.to_live?.p99_us as f64));
};

impl Metric {
    /// Its value in a run; `None` when it was not measured.
    pub(crate) fn value(&self, run: Measured<'_>) -> Option<f64> {
        match run {
            Measured::Fanout(run) => self.of_fanout?(run),
            Measured::Connect(run) => self.of_connect?(run),
        }
    }

    /// Whether fan-out runs have it.
    pub(crate) fn is_of_fanout(&self) -> bool {
        self.of_fanout.is_some()
    }

    /// Whether connect runs have it.
    pub(crate) fn is_of_connect(&self) -> bool {
        self.of_connect.is_some()
    }

    /// The metric of this key.
    pub(crate) fn find(key: &str) -> Option<&'static Self> {
        METRICS.iter().find(|metric| metric.key == key)
    }

    /// The key that was probably meant, when one is near.
    pub(crate) fn nearest_key(key: &str) -> Option<&'static str> {
        let near = METRICS.iter().map(|metric| (strsim::levenshtein(key, metric.key), metric.key));
        let near = near.filter(|(edits, known)| *edits <= SUGGESTION_EDITS_MAX.min(known.len() / 2));
        near.min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
    }

    /// All keys, in a sentence's list.
    pub(crate) fn keys() -> String {
        Self::keys_of(|_| true)
    }

    /// The keys of some metrics, in a sentence's list.
    pub(crate) fn keys_of(is_one: impl Fn(&Self) -> bool) -> String {
        let some = METRICS.iter().filter(|metric| is_one(metric));
        some.map(|metric| metric.key).collect::<Vec<_>>().join(", ")
    }
}

impl Unit {
    /// What values up to `most` are best drawn in: so much of the unit's base, and its name.
    pub(crate) fn base_of(self, most: f64) -> (f64, &'static str) {
        match self {
            Self::Micros if most >= 2e6 => (1e6, "s"),
            Self::Micros if most >= 1e3 => (1e3, "ms"),
            Self::Micros | Self::CpuMicros => (1.0, "µs"),
            Self::Bytes if most >= GIB => (GIB, "GiB"),
            Self::Bytes if most >= MIB => (MIB, "MiB"),
            Self::Bytes if most >= KIB => (KIB, "KiB"),
            Self::Bytes => (1.0, "B"),
            Self::PerSecond => (1.0, "1/s"),
            Self::Cores => (1.0, "cores"),
            Self::Count => (1.0, ""),
        }
    }

    /// A value with the unit people read it best in: 1,250 µs are `1.25 ms`.
    pub(crate) fn format(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let fits = |step: &&(f64, &str)| value.abs() >= step.0;
            let (base, name) = steps.iter().find(fits).or(steps.last()).copied().unwrap_or((1.0, ""));
            format!("{} {name}", significant(value / base))
        };
        match self {
            Self::Micros => scaled(&[(1e6, "s"), (1e3, "ms"), (1.0, "µs")]),
            Self::CpuMicros => format!("{} µs", significant(value)),
            Self::Bytes => scaled(&[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1.0, "B")]),
            Self::PerSecond => format!("{}/s", significant(value)),
            Self::Cores => format!("{} cores", significant(value)),
            Self::Count => significant(value),
        }
    }
}

/// A number with three significant digits, whole above a thousand and with its thousands apart: `1.25`, `12,500`.
pub(crate) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "-".to_owned() };
    }
    if value.fract() == 0.0 || value.abs() >= 999.5 {
        return thousands(value.round() as i64);
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (2 - magnitude).clamp(0, 6) as usize;
    format!("{value:.decimals$}")
}

/// A whole number with its thousands apart: `1,234,567`.
pub(crate) fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0 {
        text.push('−');
    }
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other_has_it() {
        for (index, metric) in METRICS.iter().enumerate() {
            let place = METRICS.iter().position(|other| other.key == metric.key);
            assert_eq!(place, Some(index), "{}", metric.key);
            assert_eq!(Metric::find(metric.key), Some(metric));
        }
    }

    #[test]
    fn a_mistyped_key_is_guessed_only_when_near() {
        let table = [
            ("missin", Some("missing")),
            ("delivery_per_second", Some("deliveries_per_second")),
            ("deliveries_per_seconds", Some("deliveries_per_second")),
            ("bytes_per_conn", None),
            ("out-of-order", Some("out_of_order")),
            ("p95", Some("p90")),
            ("latency", None),
            ("", None),
        ];
        for (key, expected) in table {
            assert_eq!(Metric::nearest_key(key), expected, "{key}");
        }
    }

    #[test]
    fn values_are_told_in_the_unit_people_read_best() {
        let table = [
            (Unit::Micros, 0.0, "0 µs"),
            (Unit::Micros, 532.0, "532 µs"),
            (Unit::Micros, 1_250.0, "1.25 ms"),
            (Unit::Micros, 61_234.0, "61.2 ms"),
            (Unit::Micros, 2_500_000.0, "2.50 s"),
            (Unit::CpuMicros, 2.9134, "2.91 µs"),
            (Unit::CpuMicros, 0.01234, "0.0123 µs"),
            (Unit::CpuMicros, 1_234.5, "1,235 µs"),
            (Unit::PerSecond, 345_678.9, "345,679/s"),
            (Unit::Bytes, 512.0, "512 B"),
            (Unit::Bytes, 3_072.0, "3 KiB"),
            (Unit::Bytes, 12_345_678.0, "11.8 MiB"),
            (Unit::Bytes, -100.0, "−100 B"),
            (Unit::Cores, 0.985, "0.985 cores"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, f64::NAN, "-"),
        ];
        for (unit, value, expected) in table {
            assert_eq!(unit.format(value), expected, "{unit:?} {value}");
        }
    }
}
