//! Calibration files: runs of `loadgen` against servers with so many shards, a line of JSON each.
//!
//! `{"shards": 1, "server_cores": 1, "server": "shardcast 0.1.0", "report": …}`; `bench/calibrate` writes them.
//! Reads only what the planner needs and ignores the rest. Runs that cannot teach the model anything are left out
//! with a reason, never silently.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::model::Shape;

/// Members per room may be so far from even before a run is left out.
const UNEVEN_MAX: f64 = 0.02;
/// The rate may be so far from the one asked for before a run is left out: the end of a short run is blurred by the
/// last delivery's delay.
const RATE_OFF_MAX: f64 = 0.1;
/// How to get a file that can be read.
const HOW_TO: &str = "make one with `bench/calibrate FILE` and name it with --calibration FILE \
     (docs/capacity.md, \"Calibrate\")";

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum CalibrationError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; {HOW_TO}", path.display())]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not a run.
    #[error(
        "{}, line {line}: {source}; each line must be {{\"shards\": N, \"server\": …, \"report\": a report of \
         loadgen --json}}: delete the line or {HOW_TO}",
        path.display()
    )]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A line says what cannot be.
    #[error("{}, line {line}: {reason}; delete the line or {HOW_TO}", path.display())]
    Impossible {
        /// Path of the file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What cannot be.
        reason: &'static str,
    },
    /// The file has no runs.
    #[error("{} has no runs in it; {HOW_TO}", path.display())]
    Empty {
        /// Its path.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct Line {
    shards: u32,
    server: Option<String>,
    server_cores: Option<f64>,
    report: Report,
}

#[derive(Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
enum Report {
    Fanout(Box<Fanout>),
    Idle(Idle),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Fanout {
    scenario: Scenario,
    publications: u64,
    deliveries: u64,
    seconds: f64,
    to_last_member: Option<Percentiles>,
    #[serde(default)]
    ledger: Ledger,
    server: Option<ServerCost>,
}

#[derive(Deserialize)]
struct Scenario {
    connections: u32,
    rooms: u32,
    rooms_per_connection: u32,
    data_bytes: u32,
    pace: Pace,
    #[serde(default)]
    churn_per_second: f64,
    #[serde(default)]
    slow_connections: u32,
    #[serde(default)]
    storm_connections: u32,
}

#[derive(Deserialize)]
#[serde(tag = "loop", rename_all = "snake_case")]
enum Pace {
    Open {
        per_second: f64,
    },
    #[serde(other)]
    Closed,
}

#[derive(Deserialize)]
struct Percentiles {
    p50_us: f64,
    p99_us: f64,
}

#[derive(Default, Deserialize)]
struct Ledger {
    #[serde(default)]
    missing: u64,
}

#[derive(Deserialize)]
struct ServerCost {
    cpu_seconds: f64,
    resident_bytes: Option<f64>,
}

#[derive(Deserialize)]
struct Idle {
    steps: Vec<IdleStep>,
}

#[derive(Deserialize)]
struct IdleStep {
    connections: u32,
    rooms: u32,
    rooms_per_connection: u32,
    server_resident_bytes: Option<f64>,
    server_cpu_us_per_second: Option<f64>,
}

/// A load under which the server was watched: the medians of runs that differ in nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoadPoint {
    /// The load, with the rate it really had.
    pub(crate) shape: Shape,
    /// The rate it should have had.
    pub(crate) rate_asked: f64,
    /// Runs it is the median of.
    pub(crate) runs: usize,
    /// Cores the server used.
    pub(crate) cores: f64,
    /// Median and 99th percentile of the time to the last member, in seconds.
    pub(crate) latency: Option<[f64; 2]>,
    /// Resident bytes of the server.
    pub(crate) resident_bytes: Option<f64>,
}

/// One run of [`LoadPoint`], or one step of an idle run.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// Publications, open loop.
    Load(LoadPoint),
    /// Connections that do nothing.
    Idle(IdlePoint),
}

/// Connections that did nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IdlePoint {
    /// With a rate of zero.
    pub(crate) shape: Shape,
    /// Runs it is the median of.
    pub(crate) runs: usize,
    /// Resident bytes of the server.
    pub(crate) resident_bytes: Option<f64>,
    /// Cores the server used.
    pub(crate) cores: Option<f64>,
}

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calibration {
    /// In the order of the file.
    pub(crate) runs: Vec<Run>,
    /// Which server it was, each name once.
    pub(crate) servers: Vec<String>,
    /// Runs that are not used, and why.
    pub(crate) left_out: Vec<String>,
}

/// Points of all runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points {
    /// Of fan-out runs.
    pub(crate) loads: Vec<LoadPoint>,
    /// Of idle runs.
    pub(crate) idles: Vec<IdlePoint>,
}

/// Reads a file.
pub(crate) fn read(path: &Path) -> Result<Calibration, CalibrationError> {
    let text = fs::read_to_string(path)
        .map_err(|source| CalibrationError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, path)
}

/// Reads the text of a file; `path` is for errors.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Calibration, CalibrationError> {
    let mut calibration = Calibration::default();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let path = path.to_owned();
        let parsed: Line = match serde_json::from_str(text) {
            Ok(parsed) => parsed,
            Err(source) => return Err(CalibrationError::Malformed { path, line, source }),
        };
        if let Err(reason) = calibration.take(line, parsed) {
            return Err(CalibrationError::Impossible { path, line, reason });
        }
    }
    if calibration.runs.is_empty() && calibration.left_out.is_empty() {
        return Err(CalibrationError::Empty { path: path.to_owned() });
    }
    Ok(calibration)
}

impl Calibration {
    fn take(&mut self, number: usize, line: Line) -> Result<(), &'static str> {
        let cores = line.server_cores.unwrap_or(f64::from(line.shards) + 1.0);
        if line.shards == 0 || !cores.is_finite() || cores <= 0.0 {
            return Err("a server has at least one shard and a part of a core");
        }
        if let Some(server) = line.server.filter(|server| !self.servers.contains(server)) {
            self.servers.push(server);
        }
        let empty = Shape {
            connections: 0.0,
            rooms: 0.0,
            rooms_per_connection: 0.0,
            rate: 0.0,
            data_bytes: 0.0,
            shards: line.shards,
            shards_per_node: line.shards,
            cores,
        };
        match line.report {
            Report::Fanout(fanout) => match load_point(&fanout, empty)? {
                Ok(point) => self.runs.push(Run::Load(point)),
                Err(reason) => self.left_out.push(format!("line {number}: {reason}")),
            },
            Report::Idle(idle) => {
                self.runs.extend(idle.steps.iter().map(|step| Run::Idle(step.point(empty))))
            }
            Report::Other => {
                self.left_out.push(format!("line {number}: neither a fan-out run nor an idle one"))
            }
        }
        Ok(())
    }

    /// All runs, as points.
    pub(crate) fn points(&self) -> Points {
        points(&self.runs)
    }
}

/// The point of a run, or why it is left out; fails on what cannot be.
fn load_point(fanout: &Fanout, empty: Shape) -> Result<Result<LoadPoint, &'static str>, &'static str> {
    let scenario = &fanout.scenario;
    if scenario.connections == 0 || scenario.rooms == 0 || scenario.rooms_per_connection == 0 {
        return Err("a fan-out run has connections, rooms, and rooms of a connection");
    }
    let shape = Shape {
        connections: f64::from(scenario.connections),
        rooms: f64::from(scenario.rooms),
        rooms_per_connection: f64::from(scenario.rooms_per_connection),
        rate: fanout.publications as f64 / fanout.seconds,
        data_bytes: f64::from(scenario.data_bytes),
        ..empty
    };
    let Pace::Open { per_second } = scenario.pace else { return Ok(Err("the loop is closed, not open")) };
    let is_steady =
        scenario.churn_per_second == 0.0 && (scenario.slow_connections, scenario.storm_connections) == (0, 0);
    let Some(server) = &fanout.server else { return Ok(Err("the server was not watched (--server-pid)")) };
    let members = fanout.deliveries as f64 / fanout.publications.max(1) as f64;
    let reason = if fanout.publications == 0 || fanout.seconds <= 0.0 || server.cpu_seconds <= 0.0 {
        "nothing was published or no CPU time seen"
    } else if !is_steady {
        "there was churn, a storm, or slow readers"
    } else if fanout.ledger.missing > 0 {
        "deliveries were missing"
    } else if (members / shape.members() - 1.0).abs() > UNEVEN_MAX {
        "publications were not spread evenly over rooms"
    } else if (shape.rate / per_second - 1.0).abs() > RATE_OFF_MAX {
        "the rate was far from the one asked for"
    } else {
        let latency = fanout.to_last_member.as_ref().map(|told| [told.p50_us * 1e-6, told.p99_us * 1e-6]);
        let cores = server.cpu_seconds / fanout.seconds;
        let resident_bytes = server.resident_bytes;
        return Ok(Ok(LoadPoint { shape, rate_asked: per_second, runs: 1, cores, latency, resident_bytes }));
    };
    Ok(Err(reason))
}

impl IdleStep {
    fn point(&self, empty: Shape) -> IdlePoint {
        let shape = Shape {
            connections: f64::from(self.connections),
            rooms: f64::from(self.rooms),
            rooms_per_connection: f64::from(self.rooms_per_connection),
            ..empty
        };
        let cores = self.server_cpu_us_per_second.map(|micros| micros * 1e-6);
        IdlePoint { shape, runs: 1, resident_bytes: self.server_resident_bytes, cores }
    }
}

/// Puts runs of the same load together.
pub(crate) fn points(runs: &[Run]) -> Points {
    let mut loads: BTreeMap<[u64; 7], Vec<&LoadPoint>> = BTreeMap::new();
    let mut idles: BTreeMap<[u64; 7], Vec<&IdlePoint>> = BTreeMap::new();
    for run in runs {
        match run {
            Run::Load(point) => loads.entry(key(&point.shape, point.rate_asked)).or_default().push(point),
            Run::Idle(point) => idles.entry(key(&point.shape, 0.0)).or_default().push(point),
        }
    }
    let load = |same: Vec<&LoadPoint>| LoadPoint {
        shape: Shape {
            rate: median_of(&same, |point| Some(point.shape.rate)).unwrap_or(0.0),
            ..same[0].shape
        },
        rate_asked: same[0].rate_asked,
        runs: same.iter().map(|point| point.runs).sum(),
        cores: median_of(&same, |point| Some(point.cores)).unwrap_or(0.0),
        latency: median_of(&same, |point| point.latency.map(|pair| pair[0]))
            .zip(median_of(&same, |point| point.latency.map(|pair| pair[1])))
            .map(|(p50, p99)| [p50, p99]),
        resident_bytes: median_of(&same, |point| point.resident_bytes),
    };
    let idle = |same: Vec<&IdlePoint>| IdlePoint {
        shape: same[0].shape,
        runs: same.iter().map(|point| point.runs).sum(),
        resident_bytes: median_of(&same, |point| point.resident_bytes),
        cores: median_of(&same, |point| point.cores),
    };
    Points { loads: loads.into_values().map(load).collect(), idles: idles.into_values().map(idle).collect() }
}

/// What makes loads the same.
fn key(shape: &Shape, rate_asked: f64) -> [u64; 7] {
    [
        u64::from(shape.shards),
        shape.cores.to_bits(),
        shape.connections as u64,
        shape.rooms as u64,
        shape.rooms_per_connection as u64,
        shape.data_bytes as u64,
        rate_asked.to_bits(),
    ]
}

fn median_of<T>(items: &[T], figure: impl Fn(&T) -> Option<f64>) -> Option<f64> {
    median(items.iter().filter_map(figure).collect())
}

/// The middle of `values`, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
