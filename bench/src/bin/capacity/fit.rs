//! From points of a calibration to a model: costs, latency, memory, scaling.
//!
//! Pure. Costs are those of user space, which benchmarks show, and what is missing to the CPU time measured, which
//! is the kernel's; both are at or above zero. Only points at which the server was not kept busy teach costs: a
//! busy server uses all it has, whatever a message costs. Those teach how late messages get.

use serde::Serialize;
use thiserror::Error;

use crate::calibration::{IdlePoint, LoadPoint, Points};
use crate::criterion::UserCosts;
use crate::least_squares::{self, Row, relative_residual};
use crate::model::{Costs, Prediction, Shape};
use crate::usl::{Basis, Usl};
use crate::wire;

/// A server that used this share of what its shards may use was kept busy.
pub(crate) const BUSY_MIN: f64 = 0.8;
/// Points that teach costs: one more than there are costs.
const LOADS_MIN: usize = 5;
/// Steps of idle runs: enough for a slope.
const IDLES_MIN: usize = 3;
/// Rounds in which costs, messages a turn and contention are adapted to each other; each changes the others little.
const ROUNDS: u32 = 6;
/// Steps in which the cost of a delivery is sought between none and all of a send.
const DELIVERY_STEPS: u32 = 40;

/// Why there is no model.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum FitError {
    /// Too few loads.
    #[error(
        "the calibration has {found} different loads under which the server was not kept busy; {LOADS_MIN} are \
         needed: run `bench/calibrate FILE` to its end"
    )]
    TooFewLoads {
        /// How many there are.
        found: usize,
    },
    /// Too few idle steps.
    #[error(
        "the calibration has {found} different steps of idle runs with the server's memory; {IDLES_MIN} are \
         needed: add runs of `loadgen idle --at 1000,5000,10000 --server-pid PID`"
    )]
    TooFewIdles {
        /// How many there are.
        found: usize,
    },
    /// No latencies.
    #[error(
        "no run of the calibration tells the time to the last member, so there is no latency to plan with"
    )]
    NoLatency,
}

/// A percentile of the time from publishing to the last member: `base + served·W + waited·busy·W`, with `W` of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct LatencyFit {
    /// Seconds on the way to the shard and back.
    pub(crate) base: f64,
    /// Turns that serve the message.
    pub(crate) served: f64,
    /// Turns that are waited for when the shard is always busy.
    pub(crate) waited: f64,
}

/// Resident bytes of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct MemoryFit {
    /// Of nothing.
    pub(crate) base: f64,
    /// Of a shard.
    pub(crate) shard: f64,
    /// Of a connection.
    pub(crate) connection: f64,
    /// Of a connection's being in a room.
    pub(crate) membership: f64,
    /// Of a room on a shard.
    pub(crate) room: f64,
    /// Of a shard under load, beyond what it holds idle: the most that was seen.
    pub(crate) working: f64,
}

/// Root mean square of relative errors at the points fitted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Residuals {
    /// Of CPU.
    pub(crate) cpu: f64,
    /// Of the median of the latency.
    pub(crate) p50: f64,
    /// Of its 99th percentile.
    pub(crate) p99: f64,
    /// Of resident bytes.
    pub(crate) memory: f64,
}

/// All that is known of a server and its machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Model {
    /// CPU.
    pub(crate) costs: Costs,
    /// Median and 99th percentile.
    pub(crate) latency: [LatencyFit; 2],
    /// Memory.
    pub(crate) memory: MemoryFit,
    /// How well it fits.
    pub(crate) residuals: Residuals,
    /// Points that teach costs.
    pub(crate) loads_calm: usize,
    /// Points at which the server was kept busy.
    pub(crate) loads_busy: usize,
    /// What could not be told, in words.
    pub(crate) notes: Vec<String>,
}

impl Model {
    /// Fits everything. `assumed_scaling` from 0 to 1 is used when no run has several shards: [`Usl::assumed`].
    pub(crate) fn fit(points: &Points, user: &UserCosts, assumed_scaling: f64) -> Result<Self, FitError> {
        let (calm, busy): (Vec<&LoadPoint>, Vec<&LoadPoint>) =
            points.loads.iter().partition(|point| !is_busy(point));
        if calm.len() < LOADS_MIN {
            return Err(FitError::TooFewLoads { found: calm.len() });
        }
        let mut notes = Vec::new();
        let idle = fit_idle(&points.idles);
        let mut costs = fit_costs(&calm, user, idle, assumed_scaling);
        if user.delivery.is_none() {
            costs = split_delivery(&points.loads, costs, busy.len(), &mut notes);
        }
        let Some((latency, [p50, p99])) = fit_latency(&points.loads, &costs) else {
            return Err(FitError::NoLatency);
        };
        let (memory, memory_residual) = fit_memory(points, &mut notes)?;
        note_costs(&calm, &costs, &mut notes);
        let cpu =
            relative_residual(calm.iter().map(|point| (costs.predict(&point.shape).node_cores, point.cores)));
        Ok(Self {
            costs,
            latency,
            memory,
            residuals: Residuals { cpu, p50, p99, memory: memory_residual },
            loads_calm: calm.len(),
            loads_busy: busy.len(),
            notes,
        })
    }

    /// Median and 99th percentile of the time to the last member, in seconds; infinite under overload.
    pub(crate) fn latency(&self, prediction: &Prediction) -> [f64; 2] {
        if prediction.is_overloaded {
            return [f64::INFINITY; 2];
        }
        let [p50, p99] = self.latency.map(|fit| fit.at(prediction));
        [p50, p99.max(p50)]
    }
}

impl LatencyFit {
    fn at(&self, prediction: &Prediction) -> f64 {
        self.base + prediction.wall_secs * (self.served + self.waited * prediction.busy)
    }
}

impl MemoryFit {
    /// Resident bytes of a process that is idle.
    pub(crate) fn idle_bytes(&self, shape: &Shape) -> f64 {
        let connections = shape.connections / shape.nodes();
        self.base
            + f64::from(shape.shards_per_node) * self.shard
            + connections * (self.connection + shape.rooms_per_connection * self.membership)
            + shape.rooms_on_node() * self.room
    }

    /// Resident bytes of a process under load.
    pub(crate) fn bytes(&self, shape: &Shape) -> f64 {
        self.idle_bytes(shape) + f64::from(shape.shards_per_node) * self.working
    }
}

fn is_busy(point: &LoadPoint) -> bool {
    point.cores >= BUSY_MIN * point.shape.cores.min(f64::from(point.shape.shards_per_node))
}

/// CPU of a connection and of a shard that do nothing.
fn fit_idle(idles: &[IdlePoint]) -> [f64; 2] {
    let rows: Vec<Row<2>> = idles
        .iter()
        .filter_map(|point| {
            let cores = point.cores.filter(|cores| *cores > 0.0)?;
            let columns = [point.shape.connections, f64::from(point.shape.shards)];
            Some(Row { columns, target: cores, scale: cores })
        })
        .collect();
    least_squares::fit(&rows)
}

/// Costs of the calm points: those of user space and what is missing, with the contention of shards.
fn fit_costs(calm: &[&LoadPoint], user: &UserCosts, idle: [f64; 2], assumed_scaling: f64) -> Costs {
    let floor = Costs {
        mail: user.mail.unwrap_or(0.0),
        message: user.message.unwrap_or(0.0),
        message_byte: user.message_byte.unwrap_or(0.0),
        send: user.send.unwrap_or(0.0),
        delivery: user.delivery.unwrap_or(0.0),
        idle_connection: idle[0],
        idle_shard: idle[1],
        scaling: Usl { basis: Basis::Fitted, ..Usl::default() },
        ..Costs::default()
    };
    let mut costs = floor;
    let mut scaling = None;
    for _ in 0..ROUNDS {
        let rows: Vec<Row<4>> = calm.iter().map(|point| missing_row(point, &costs, &floor)).collect();
        let [turn, message, send, byte] = least_squares::fit(&rows);
        costs = Costs {
            turn,
            message: floor.message + message,
            send: floor.send + send,
            byte,
            scaling: costs.scaling,
            ..floor
        };
        let alone = Costs { scaling: Usl::default(), ..costs };
        let relative: Vec<(u32, f64)> =
            calm.iter().filter_map(|point| relative_cost(point, &alone)).collect();
        scaling = Usl::fit(&relative);
        costs.scaling = scaling.unwrap_or_default();
    }
    costs.scaling = scaling.unwrap_or_else(|| Usl::assumed(assumed_scaling));
    costs
}

/// What of a point's CPU the known costs do not explain, as turns, messages, sends and bytes.
fn missing_row(point: &LoadPoint, costs: &Costs, known: &Costs) -> Row<4> {
    let Shape { rate, data_bytes, shards_per_node, .. } = point.shape;
    let share = point.shape.share();
    let frame_bytes = wire::frame_bytes(data_bytes);
    let messages = costs.predict(&point.shape).messages_per_turn;
    let contention = costs.scaling.contention(shards_per_node);
    let letters = f64::from(shards_per_node) * share.letters_per_second * contention;
    let turns = letters / messages;
    let sends = turns * share.touched(messages);
    let explained = rate * known.publication_secs(data_bytes)
        + letters * known.letter_secs(&share, frame_bytes)
        + sends * known.send
        + idle_cores(&point.shape, known);
    Row {
        columns: [turns, rate, sends, letters * share.members * frame_bytes],
        target: point.cores - explained,
        scale: point.cores,
    }
}

/// CPU of a point's turns relative to that of shards which do not disturb each other.
fn relative_cost(point: &LoadPoint, alone: &Costs) -> Option<(u32, f64)> {
    let predicted = alone.predict(&point.shape);
    let other = predicted.redis_thread_cores + idle_cores(&point.shape, alone);
    let ratio = (point.cores - other) / (predicted.node_cores - other);
    (ratio.is_finite() && ratio > 0.0).then_some((point.shape.shards_per_node, ratio))
}

fn idle_cores(shape: &Shape, costs: &Costs) -> f64 {
    shape.connections * costs.idle_connection + f64::from(shape.shards_per_node) * costs.idle_shard
}

/// Without the benchmark: the part of a send that each message in it costs again, from how late busy shards are.
/// At one message a turn the two are one.
fn split_delivery(loads: &[LoadPoint], costs: Costs, busy: usize, notes: &mut Vec<String>) -> Costs {
    if busy < 2 {
        notes.push(
            "a message in a send cannot be told from the send itself (no benchmark, fewer than two loads that kept \
             the server busy): batching is taken to be free but for bytes"
                .to_owned(),
        );
        return costs;
    }
    let split = |step: u32| {
        let delivery = costs.send * f64::from(step) / f64::from(DELIVERY_STEPS);
        Costs { send: costs.send - delivery, delivery, ..costs }
    };
    let residual = |candidate: &Costs| {
        // What was served was no overload.
        let is_overload = loads.iter().any(|point| candidate.predict(&point.shape).is_overloaded);
        let fitted = if is_overload { None } else { fit_latency(loads, candidate) };
        fitted.map_or(f64::INFINITY, |(_, found)| found[0])
    };
    let candidates = (0..=DELIVERY_STEPS).map(split).map(|candidate| (residual(&candidate), candidate));
    let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(costs, |(_, found)| found)
}

/// Both percentiles as multiples of a turn, and their residuals. `None` without latencies.
fn fit_latency(loads: &[LoadPoint], costs: &Costs) -> Option<([LatencyFit; 2], [f64; 2])> {
    let points: Vec<(Prediction, [f64; 2])> = loads
        .iter()
        .filter_map(|point| point.latency.map(|latency| (costs.predict(&point.shape), latency)))
        .filter(|(predicted, latency)| !predicted.is_overloaded && latency[0] > 0.0)
        .collect();
    if points.is_empty() {
        return None;
    }
    let percentile = |index: usize| {
        let row = |(predicted, latency): &(Prediction, [f64; 2])| Row {
            columns: [1.0, predicted.wall_secs, predicted.wall_secs * predicted.busy],
            target: latency[index],
            scale: latency[index],
        };
        let rows: Vec<Row<3>> = points.iter().map(row).collect();
        let [base, served, waited] = least_squares::fit(&rows);
        let fit = LatencyFit { base, served, waited };
        (
            fit,
            relative_residual(points.iter().map(|(predicted, latency)| (fit.at(predicted), latency[index]))),
        )
    };
    let ((p50, p50_residual), (p99, p99_residual)) = (percentile(0), percentile(1));
    Some(([p50, p99], [p50_residual, p99_residual]))
}

/// Memory of idle steps, and what loads need beyond it.
fn fit_memory(points: &Points, notes: &mut Vec<String>) -> Result<(MemoryFit, f64), FitError> {
    let steps: Vec<(&Shape, f64)> = points
        .idles
        .iter()
        .filter_map(|point| Some((&point.shape, point.resident_bytes.filter(|bytes| *bytes > 0.0)?)))
        .collect();
    if steps.len() < IDLES_MIN {
        return Err(FitError::TooFewIdles { found: steps.len() });
    }
    let varies =
        |figure: fn(&Shape) -> f64| steps.iter().any(|(shape, _)| figure(shape) != figure(steps[0].0));
    let has_shards = varies(|shape| f64::from(shape.shards));
    if !has_shards {
        notes.push(
            "idle runs have one number of shards: the memory of a further shard is not known, only what shards \
             need under load is counted for each"
                .to_owned(),
        );
    }
    if !varies(|shape| shape.rooms_per_connection) {
        notes.push(
            "idle runs have one number of rooms a connection: memory of more rooms is a guess".to_owned(),
        );
    }
    let rows: Vec<Row<5>> = steps
        .iter()
        .map(|(shape, bytes)| {
            let shards = if has_shards { f64::from(shape.shards) } else { 0.0 };
            let memberships = shape.connections * shape.rooms_per_connection;
            let columns = [1.0, shards, shape.connections, memberships, shape.rooms_on_node()];
            Row { columns, target: *bytes, scale: *bytes }
        })
        .collect();
    let [base, shard, connection, membership, room] = least_squares::fit(&rows);
    let mut memory = MemoryFit { base, shard, connection, membership, room, working: 0.0 };
    let residual = relative_residual(steps.iter().map(|(shape, bytes)| (memory.idle_bytes(shape), *bytes)));
    let beyond = points.loads.iter().filter_map(|point| {
        let bytes = point.resident_bytes?;
        Some((bytes - memory.idle_bytes(&point.shape)) / f64::from(point.shape.shards))
    });
    memory.working = beyond.fold(0.0, f64::max);
    Ok((memory, residual))
}

/// Says which costs the points cannot tell apart.
fn note_costs(calm: &[&LoadPoint], costs: &Costs, notes: &mut Vec<String>) {
    let varies =
        |figure: fn(&Shape) -> f64| calm.iter().any(|point| figure(&point.shape) != figure(&calm[0].shape));
    if !varies(|shape| f64::from(shape.shards)) {
        notes.push(
            "all runs have the same number of shards: a turn cannot be told from a message in the Redis thread"
                .to_owned(),
        );
    }
    if !varies(Shape::members) {
        notes.push(
            "all rooms have the same number of members: a turn cannot be told from its sends".to_owned(),
        );
    }
    if !varies(|shape| shape.data_bytes) {
        notes.push("all messages have the same size: a byte cannot be told from a send".to_owned());
    }
    if costs.scaling.basis == Basis::AlphaOnly {
        notes.push(
            "scaling was measured at two numbers of shards: β is taken to be 0 (three are needed)".to_owned(),
        );
    }
}
