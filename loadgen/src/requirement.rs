//! What is asked of a run: a metric and its limit, such as `p99<=50ms`.
//!
//! Pure. Invariant: what was not measured never meets a requirement.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

use crate::metrics::{Better, Measured, Metric, Unit};
use crate::report::Checked;

/// A metric and its limit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Requirement {
    /// What is measured.
    pub(crate) metric: &'static Metric,
    /// How the value has to stand to the limit.
    pub(crate) relation: Relation,
    /// In the base of the metric's unit.
    pub(crate) limit: f64,
    text: String,
}

/// How a value has to stand to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
    /// `>`
    Above,
}

/// The text is no requirement.
#[derive(Debug, PartialEq, Error)]
pub(crate) enum RequirementError {
    /// No relation in it.
    #[error(
        "{text:?} is not a requirement: a metric, a relation and a limit, such as p99<=50ms; the metrics are {}",
        Metric::keys()
    )]
    Form { text: String },
    /// Not a relation.
    #[error("{relation:?} in {text:?} is not a relation: one of <=, <, >=, > and =")]
    Relation { text: String, relation: String },
    /// Not a metric.
    #[error("{key:?} is not a metric{}; the metrics are {}", suggestion(*nearest), Metric::keys())]
    Metric { key: String, nearest: Option<&'static str> },
    /// Not a value of this metric.
    #[error("{value:?} is not a limit for {key}: {expected}")]
    Limit { key: &'static str, value: String, expected: &'static str },
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |key| format!(" (did you mean {key}?)"))
}

impl Requirement {
    /// Checks a run.
    pub(crate) fn check(&self, run: Measured<'_>) -> Checked {
        let value = self.metric.value(run);
        Checked {
            requirement: self.text.clone(),
            value,
            is_met: value.is_some_and(|value| self.is_met_by(value)),
            reason: value.is_none().then(|| self.metric.absent.to_owned()),
        }
    }

    /// Whether this value, in the base of the metric's unit, is good enough.
    pub(crate) fn is_met_by(&self, value: f64) -> bool {
        match self.relation {
            Relation::Below => value < self.limit,
            Relation::AtMost => value <= self.limit,
            Relation::AtLeast => value >= self.limit,
            Relation::Above => value > self.limit,
        }
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    /// `=` asks for the limit or better, whichever way that is for the metric.
    fn from_str(text: &str) -> Result<Self, RequirementError> {
        let is_relation = |c: char| matches!(c, '<' | '>' | '=');
        let form = || RequirementError::Form { text: text.to_owned() };
        let from = text.find(is_relation).ok_or_else(form)?;
        let (key, rest) = text.split_at(from);
        let value = rest.trim_start_matches(is_relation);
        let relation = &rest[..rest.len() - value.len()];
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || value.is_empty() {
            return Err(form());
        }
        let metric = Metric::find(key).ok_or_else(|| RequirementError::Metric {
            key: key.to_owned(),
            nearest: Metric::nearest_key(key),
        })?;
        let relation = match (relation, metric.better) {
            ("<", _) => Relation::Below,
            ("<=", _) | ("=", Better::Lower) => Relation::AtMost,
            (">=", _) | ("=", Better::Higher) => Relation::AtLeast,
            (">", _) => Relation::Above,
            _ => {
                let relation = relation.to_owned();
                return Err(RequirementError::Relation { text: text.to_owned(), relation });
            }
        };
        let limit = limit(metric.unit, value).ok_or_else(|| RequirementError::Limit {
            key: metric.key,
            value: value.to_owned(),
            expected: expected(metric.unit),
        })?;
        Ok(Self { metric, relation, limit, text: text.trim().to_owned() })
    }
}

impl TryFrom<String> for Requirement {
    type Error = RequirementError;

    fn try_from(text: String) -> Result<Self, RequirementError> {
        text.parse()
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads a limit, in the base of its unit.
fn limit(unit: Unit, text: &str) -> Option<f64> {
    let number = text.trim_end_matches(|c: char| c.is_alphabetic() || c == '/');
    let suffix = &text[number.len()..];
    let factor = match (unit, suffix) {
        (Unit::Micros | Unit::CpuMicros, "us" | "µs" | "μs") => 1.0,
        (Unit::Micros | Unit::CpuMicros, "ms") => 1e3,
        (Unit::Micros | Unit::CpuMicros, "s") => 1e6,
        // A latency without a unit could be meant in any; CPU time has it in its name.
        (Unit::Micros, _) => return None,
        (Unit::PerSecond, "/s") => 1.0,
        (Unit::Bytes, "B") => 1.0,
        (Unit::Bytes, "KiB") => 1024.0,
        (Unit::Bytes, "MiB") => 1024.0 * 1024.0,
        (Unit::Bytes, "GiB") => 1024.0 * 1024.0 * 1024.0,
        (_, "") => 1.0,
        _ => return None,
    };
    let number: f64 = number.trim_end().parse().ok()?;
    Some(number * factor).filter(|limit| limit.is_finite() && *limit >= 0.0)
}

fn expected(unit: Unit) -> &'static str {
    match unit {
        Unit::Micros => "a number and us, ms or s, such as 50ms",
        Unit::CpuMicros => "a number of microseconds, such as 6 or 6us",
        Unit::PerSecond => "a number a second, such as 100000",
        Unit::Bytes => "a number of bytes, such as 3000, 3KiB or 100MiB",
        Unit::Cores => "a number of cores, such as 1.5",
        Unit::Count => "a number, such as 0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Fanout, sample};

    #[test]
    fn requirements_are_a_metric_a_relation_and_a_limit() {
        let table = [
            ("p99<=50ms", "p99", Relation::AtMost, 50_000.0),
            ("p99=50ms", "p99", Relation::AtMost, 50_000.0),
            (" p99.9 < 1.5s ", "p99.9", Relation::Below, 1_500_000.0),
            ("last-max<=800us", "last-max", Relation::AtMost, 800.0),
            ("p50<=800µs", "p50", Relation::AtMost, 800.0),
            ("cpu_us_per_delivery<6", "cpu_us_per_delivery", Relation::Below, 6.0),
            ("cpu_us_per_delivery<6us", "cpu_us_per_delivery", Relation::Below, 6.0),
            ("deliveries_per_second>=100000", "deliveries_per_second", Relation::AtLeast, 100_000.0),
            ("deliveries_per_second=1e5", "deliveries_per_second", Relation::AtLeast, 100_000.0),
            ("deliveries_per_second>100000/s", "deliveries_per_second", Relation::Above, 100_000.0),
            ("missing<=0", "missing", Relation::AtMost, 0.0),
            ("bytes_per_connection<3KiB", "bytes_per_connection", Relation::Below, 3_072.0),
            ("server_memory<=1.5 GiB", "server_memory", Relation::AtMost, 1_610_612_736.0),
            ("server_memory<=10MiB", "server_memory", Relation::AtMost, 10_485_760.0),
            ("bytes_per_connection<3000", "bytes_per_connection", Relation::Below, 3_000.0),
        ];
        for (text, key, relation, limit) in table {
            let requirement: Requirement = text.parse().expect(text);
            let found = (requirement.metric.key, requirement.relation, requirement.limit);
            assert_eq!(found, (key, relation, limit), "{text}");
            assert_eq!(requirement.to_string(), text.trim());
        }
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("p99", "\"p99\" is not a requirement"),
            ("", "\"\" is not a requirement"),
            ("<=5ms", "\"<=5ms\" is not a requirement"),
            ("p99<=", "\"p99<=\" is not a requirement"),
            ("p99=<5ms", "\"=<\" in \"p99=<5ms\" is not a relation"),
            ("p99<=50", "\"50\" is not a limit for p99: a number and us, ms or s"),
            ("p99<=-5ms", "\"-5ms\" is not a limit for p99"),
            ("p99<=1e400s", "\"1e400s\" is not a limit for p99"),
            ("p99<=infs", "\"infs\" is not a limit for p99"),
            ("p99<=ms", "\"ms\" is not a limit for p99"),
            ("p99<=5KiB", "\"5KiB\" is not a limit for p99"),
            ("missing<=0ms", "\"0ms\" is not a limit for missing: a number"),
            (
                "misssing<=0",
                "\"misssing\" is not a metric (did you mean missing?); the metrics are p50, p90,",
            ),
            ("latency<=5ms", "\"latency\" is not a metric; the metrics are p50,"),
        ];
        for (text, expected) in table {
            let error = text.parse::<Requirement>().expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn the_limit_itself_meets_only_what_includes_it() {
        let table = [("missing<=3", true), ("missing<3", false), ("missing>=3", true), ("missing>3", false)];
        for (text, is_met) in table {
            let requirement: Requirement = text.parse().expect(text);
            assert_eq!(requirement.is_met_by(3.0), is_met, "{text}");
        }
    }

    #[test]
    fn what_was_not_measured_is_not_met_and_says_why() {
        let run = Fanout { server: None, ..sample::fanout() };
        for text in ["cpu_us_per_delivery<1000000", "cpu_us_per_delivery>=0"] {
            let checked = text.parse::<Requirement>().expect(text).check(Measured::Fanout(&run));
            assert_eq!((checked.value, checked.is_met), (None, false), "{text}");
            assert!(checked.reason.expect("a reason").contains("--server-pid"));
        }
        let checked = "missing<=0".parse::<Requirement>().expect("valid").check(Measured::Fanout(&run));
        let expected =
            Checked { requirement: "missing<=0".to_owned(), value: Some(0.0), is_met: true, reason: None };
        assert_eq!(checked, expected);
    }
}
