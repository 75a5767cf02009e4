//! The user-space part of the costs, from criterion's results.
//!
//! Reads `**/new/estimates.json` and the `benchmark.json` beside each; must never fail because a benchmark is
//! missing: what is not found is `None` and is fitted from runs instead. What the benchmarks show is a floor: the
//! kernel's part comes on top.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::least_squares::{self, Row};
use crate::random::Random;

/// Folders below the given one that are searched.
const DEPTH_MAX: usize = 6;
const NANOSECOND: f64 = 1e-9;

/// A figure of criterion's that is there but cannot be read.
#[derive(Debug, Error)]
pub(crate) enum CriterionError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; delete it or run `cargo bench -p shardcast-bench` again", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what criterion writes.
    #[error(
        "{} is not what criterion writes: {source}; delete it or run `cargo bench -p shardcast-bench` again",
        path.display()
    )]
    Malformed {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Estimates {
    mean: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: ConfidenceInterval,
}

#[derive(Deserialize)]
struct ConfidenceInterval {
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

/// The mean time of a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Measured {
    /// Such as `envelope/decode_to_frame/128`.
    pub(crate) id: String,
    /// Nanoseconds.
    pub(crate) mean_ns: f64,
    /// Ends of the confidence interval, in nanoseconds.
    pub(crate) bounds_ns: (f64, f64),
}

/// CPU seconds in user space; `None` for what no benchmark shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct UserCosts {
    /// A letter in a shard.
    pub(crate) mail: Option<f64>,
    /// A message in the Redis thread.
    pub(crate) message: Option<f64>,
    /// A byte of data in the Redis thread.
    pub(crate) message_byte: Option<f64>,
    /// A connection in a turn.
    pub(crate) send: Option<f64>,
    /// A message to a connection.
    pub(crate) delivery: Option<f64>,
}

/// All benchmarks below `folder`, by id; none when the folder does not exist.
pub(crate) fn read(folder: &Path) -> Result<Vec<Measured>, CriterionError> {
    let mut found = Vec::new();
    collect(folder, DEPTH_MAX, &mut found)?;
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<Measured>) -> Result<(), CriterionError> {
    // A folder that is not there or may not be entered holds no results.
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let estimates = path.join("estimates.json");
        if path.ends_with("new") && estimates.is_file() {
            found.push(measured(&estimates, &path.join("benchmark.json"))?);
        } else if depth > 0 {
            collect(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn measured(estimates: &Path, benchmark: &Path) -> Result<Measured, CriterionError> {
    let Benchmark { full_id } = parse(benchmark)?;
    let Estimates { mean } = parse(estimates)?;
    let interval = mean.confidence_interval;
    Ok(Measured {
        id: full_id,
        mean_ns: mean.point_estimate,
        bounds_ns: (interval.lower_bound, interval.upper_bound),
    })
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, CriterionError> {
    let text = fs::read_to_string(path)
        .map_err(|source| CriterionError::Unreadable { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| CriterionError::Malformed { path: path.to_owned(), source })
}

/// The same benchmarks with each mean drawn from its confidence interval.
pub(crate) fn drawn(benchmarks: &[Measured], random: &mut Random) -> Vec<Measured> {
    let draw = |one: &Measured| {
        let (low, high) = one.bounds_ns;
        Measured { mean_ns: low + random.unit() * (high - low), ..one.clone() }
    };
    benchmarks.iter().map(draw).collect()
}

impl UserCosts {
    /// What the benchmarks say.
    pub(crate) fn of(benchmarks: &[Measured]) -> Self {
        let mean_secs =
            |id: &str| benchmarks.iter().find(|one| one.id == id).map(|one| one.mean_ns * NANOSECOND);
        let decoding = decoding(benchmarks);
        let fan_out = fan_out(benchmarks);
        // Without bursts of different sizes a message cannot be told from the connections it goes to.
        let bursts = fan_out.filter(|_| has_bursts(benchmarks));
        let whole = mean_secs("redis/message_to_mail/1");
        Self {
            mail: sum(mean_secs("mailbox/post_and_take"), bursts.map(|costs| costs[0])),
            // The whole way includes the decoding.
            message: whole.or(decoding.map(|costs| costs[0])),
            message_byte: decoding.map(|costs| costs[1]),
            send: fan_out.map(|costs| costs[1]),
            delivery: bursts.map(|costs| costs[2]),
        }
    }

    /// What is missing, and the benchmarks that would show it.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let wanted = [
            (self.mail, "a letter in a shard (mailbox/post_and_take, fan_out/…)"),
            (
                self.message,
                "a message in the Redis thread (redis/message_to_mail/1, envelope/decode_to_frame/…)",
            ),
            (self.message_byte, "its bytes (envelope/decode_to_frame/… of two sizes)"),
            (self.send, "a connection in a turn (fan_out/1000_members/1_messages/1_rooms)"),
            (self.delivery, "a message to a connection (fan_out/1000_members/16_messages/1_rooms)"),
        ];
        wanted.into_iter().filter(|(cost, _)| cost.is_none()).map(|(_, what)| what).collect()
    }
}

fn sum(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (None, None) => None,
        _ => Some(one.unwrap_or(0.0) + other.unwrap_or(0.0)),
    }
}

/// A message and a byte of it, from `envelope/decode_to_frame/<bytes>`.
fn decoding(benchmarks: &[Measured]) -> Option<[f64; 2]> {
    let rows: Vec<Row<2>> = benchmarks
        .iter()
        .filter_map(|one| {
            let bytes: f64 = one.id.strip_prefix("envelope/decode_to_frame/")?.parse().ok()?;
            Some(row([1.0, bytes], one))
        })
        .collect();
    (rows.len() >= 2).then(|| least_squares::fit(&rows))
}

/// A letter, a connection in a turn, and a message to it, from `fan_out/<n>_members/<n>_messages/1_rooms`.
fn fan_out(benchmarks: &[Measured]) -> Option<[f64; 3]> {
    let rows: Vec<Row<3>> = benchmarks
        .iter()
        .filter_map(|one| {
            let (members, messages) = burst(&one.id)?;
            Some(row([messages, members, messages * members], one))
        })
        .collect();
    (!rows.is_empty()).then(|| least_squares::fit(&rows))
}

/// Whether benchmarks differ in how many messages they send at once.
fn has_bursts(benchmarks: &[Measured]) -> bool {
    let mut sizes = benchmarks.iter().filter_map(|one| burst(&one.id)).map(|(_, messages)| messages);
    let first = sizes.next();
    sizes.any(|messages| Some(messages) != first)
}

fn burst(id: &str) -> Option<(f64, f64)> {
    let (members, messages) =
        id.strip_prefix("fan_out/")?.strip_suffix("_messages/1_rooms")?.split_once("_members/")?;
    Some((members.parse().ok()?, messages.parse().ok()?))
}

fn row<const N: usize>(columns: [f64; N], one: &Measured) -> Row<N> {
    let secs = one.mean_ns * NANOSECOND;
    Row { columns, target: secs, scale: secs.max(NANOSECOND) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(table: &[(&str, f64)]) -> Vec<Measured> {
        let one = |(id, mean_ns): &(&str, f64)| Measured {
            id: (*id).to_owned(),
            mean_ns: *mean_ns,
            bounds_ns: (mean_ns * 0.9, mean_ns * 1.1),
        };
        table.iter().map(one).collect()
    }

    #[test]
    fn costs_are_taken_apart() {
        let found = UserCosts::of(&measured(&[
            ("fan_out/1000_members/1_messages/1_rooms", 50.0 + 30_000.0 + 40.0),
            ("fan_out/1000_members/16_messages/1_rooms", 800.0 + 30_000.0 + 640.0),
            ("fan_out/10000_members/16_messages/1_rooms", 800.0 + 300_000.0 + 6_400.0),
            ("fan_out/1000_members/64_messages/4_rooms", 1e9),
            ("envelope/decode_to_frame/128", 300.0 + 12.8),
            ("envelope/decode_to_frame/4096", 300.0 + 409.6),
            ("mailbox/post_and_take", 25.0),
        ]));
        let expected = [
            (found.mail, 75e-9),
            (found.message, 300e-9),
            (found.message_byte, 0.1e-9),
            (found.send, 30e-9),
            (found.delivery, 0.04e-9),
        ];
        for (found_one, expected) in expected {
            let found_one = found_one.expect("found");
            assert!((found_one / expected - 1.0).abs() < 1e-6, "{found:?}");
        }
        assert!(found.missing().is_empty());
    }

    #[test]
    fn the_whole_way_of_a_message_takes_the_place_of_its_decoding() {
        let found = UserCosts::of(&measured(&[("redis/message_to_mail/1", 900.0)]));
        assert!((found.message.expect("found") - 900e-9).abs() < 1e-15);
        assert_eq!((found.message_byte, found.send), (None, None));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(UserCosts::of(&[]).missing().len(), 5);
        let single = UserCosts::of(&measured(&[("fan_out/1000_members/1_messages/1_rooms", 30_000.0)]));
        assert!(single.send.is_some() && single.delivery.is_none(), "{single:?}");
        let missing = single.missing().join(" ");
        assert!(missing.contains("16_messages") && !missing.contains("/1_messages"), "{missing}");
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        assert_eq!(read(Path::new("/no/such/folder")).expect("no error"), Vec::new());
    }

    #[test]
    fn files_are_found_at_any_depth_and_a_broken_one_is_named() {
        let folder = std::env::temp_dir().join(format!("shardcast-capacity-{}", std::process::id()));
        let new = folder.join("envelope").join("decode_to_frame").join("128").join("new");
        fs::create_dir_all(&new).expect("a folder");
        let interval = r#"{"lower_bound":300.0,"upper_bound":320.0,"confidence_level":0.95}"#;
        let estimates =
            format!(r#"{{"mean":{{"point_estimate":310.0,"confidence_interval":{interval}}},"slope":null}}"#);
        fs::write(new.join("estimates.json"), estimates).expect("written");
        fs::write(new.join("benchmark.json"), r#"{"full_id":"envelope/decode_to_frame/128"}"#)
            .expect("written");
        let found = read(&folder).expect("readable");
        assert_eq!(
            (found[0].id.as_str(), found[0].bounds_ns),
            ("envelope/decode_to_frame/128", (300.0, 320.0))
        );
        fs::write(new.join("estimates.json"), "{").expect("written");
        let error = read(&folder).expect_err("broken").to_string();
        fs::remove_dir_all(&folder).expect("removed");
        assert!(error.contains("128/new/estimates.json is not what criterion writes"), "{error}");
    }
}
