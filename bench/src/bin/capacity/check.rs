//! Held-out runs against the model: what it predicts for them and what was measured.
//!
//! Pure. The model has not seen these runs; how far it is off here is how far to trust it.

use std::fmt;

use serde::Serialize;

use crate::answer::Knowledge;
use crate::calibration::{self, IdlePoint, LoadPoint, Points};
use crate::model::Shape;
use crate::units;

/// A prediction and its measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Compared {
    /// What the model says.
    pub(crate) predicted: f64,
    /// What was measured.
    pub(crate) measured: f64,
}

/// One point: the median of runs that differ in nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// The load.
    pub(crate) shape: Shape,
    /// Runs it is the median of.
    pub(crate) runs: usize,
    /// Cores.
    pub(crate) cpu: Option<Compared>,
    /// Resident bytes; of idle runs only.
    pub(crate) memory: Option<Compared>,
    /// Median of the time to the last member, in seconds.
    pub(crate) p50: Option<Compared>,
    /// Its 99th percentile.
    pub(crate) p99: Option<Compared>,
}

/// Relative errors of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Errors {
    /// Points compared.
    pub(crate) points: usize,
    /// The median of the absolute errors.
    pub(crate) median: f64,
    /// The largest.
    pub(crate) worst: f64,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Check {
    /// A line for each point.
    pub(crate) lines: Vec<Line>,
    /// Of cores.
    pub(crate) cpu: Option<Errors>,
    /// Of resident bytes.
    pub(crate) memory: Option<Errors>,
    /// Of the median latency.
    pub(crate) p50: Option<Errors>,
    /// Of the 99th percentile.
    pub(crate) p99: Option<Errors>,
    /// The error that CPU and memory may have.
    pub(crate) tolerance: f64,
    /// Neither has a larger one, and both were compared with something.
    pub(crate) is_within: bool,
    /// Runs that were not compared, and why; and what is to be said about the calibration.
    pub(crate) notes: Vec<String>,
}

impl Compared {
    /// Above zero when too much was predicted.
    pub(crate) fn error(&self) -> f64 {
        self.predicted / self.measured - 1.0
    }
}

impl Check {
    /// Compares.
    pub(crate) fn of(knowledge: &Knowledge, points: &Points, left_out: &[String], tolerance: f64) -> Self {
        let mut lines: Vec<Line> = points.loads.iter().map(|point| load_line(knowledge, point)).collect();
        lines.extend(points.idles.iter().map(|point| idle_line(knowledge, point)));
        let cpu = errors(&lines, |line| line.cpu);
        let memory = errors(&lines, |line| line.memory);
        let is_within = [cpu, memory].iter().flatten().all(|errors| errors.worst <= tolerance)
            && (cpu.is_some() || memory.is_some());
        let left_out = left_out.iter().map(|reason| format!("held out, not compared: {reason}"));
        Self {
            cpu,
            memory,
            p50: errors(&lines, |line| line.p50),
            p99: errors(&lines, |line| line.p99),
            tolerance,
            is_within,
            notes: left_out.chain(knowledge.notes.iter().cloned()).collect(),
            lines,
        }
    }
}

fn load_line(knowledge: &Knowledge, point: &LoadPoint) -> Line {
    let prediction = knowledge.model.costs.predict(&point.shape);
    let predicted = knowledge.model.latency(&prediction);
    let latency = |index: usize| {
        let measured = point.latency?[index];
        Some(Compared { predicted: predicted[index], measured })
    };
    Line {
        shape: point.shape,
        runs: point.runs,
        cpu: Some(Compared { predicted: prediction.node_cores, measured: point.cores }),
        memory: None,
        p50: latency(0),
        p99: latency(1),
    }
}

fn idle_line(knowledge: &Knowledge, point: &IdlePoint) -> Line {
    let predicted = knowledge.model.memory.idle_bytes(&point.shape);
    let memory = point.resident_bytes.map(|measured| Compared { predicted, measured });
    Line { shape: point.shape, runs: point.runs, cpu: None, memory, p50: None, p99: None }
}

fn errors(lines: &[Line], pick: fn(&Line) -> Option<Compared>) -> Option<Errors> {
    let errors: Vec<f64> = lines.iter().filter_map(pick).map(|compared| compared.error().abs()).collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    let points = errors.len();
    calibration::median(errors).map(|median| Errors { points, median, worst })
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| shards | connections | rooms | each in | messages/s | bytes | runs | CPU | memory | p50 | p99 |"
        )?;
        writeln!(f, "|---:|---:|---:|---:|---:|---:|---:|---|---|---|---|")?;
        for line in &self.lines {
            let Shape { connections, rooms, rooms_per_connection, rate, data_bytes, shards, .. } = line.shape;
            writeln!(
                f,
                "| {shards} | {connections} | {rooms} | {rooms_per_connection} | {rate:.0} | {data_bytes} | {} | {} | \
                 {} | {} | {} |",
                line.runs,
                cell(line.cpu, |cores| format!("{cores:.3}")),
                cell(line.memory, units::bytes),
                cell(line.p50, units::span),
                cell(line.p99, units::span),
            )?;
        }
        writeln!(f, "\nEach cell: predicted, measured, relative error.\n")?;
        let kinds = [("CPU", self.cpu), ("memory", self.memory), ("p50", self.p50), ("p99", self.p99)];
        for (kind, errors) in kinds {
            match errors {
                Some(Errors { points, median, worst }) => writeln!(
                    f,
                    "{kind:<8} median error {}, worst {}, {points} points",
                    units::percent(median),
                    units::percent(worst)
                )?,
                None => writeln!(f, "{kind:<8} nothing to compare with")?,
            }
        }
        let outcome = if self.is_within { "within" } else { "BEYOND" };
        writeln!(f, "\nCPU and memory are {outcome} the tolerance of {}.", units::percent(self.tolerance))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

fn cell(compared: Option<Compared>, told: impl Fn(f64) -> String) -> String {
    compared.map_or_else(String::new, |compared| {
        let error = compared.error() * 100.0;
        format!("{}, {}, {error:+.1} %", told(compared.predicted), told(compared.measured))
    })
}
