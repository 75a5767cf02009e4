//! Calibrations of a server that obeys a known model, for tests: the text of a file, with as much noise as asked.

use serde_json::json;

use crate::criterion::Measured;
use crate::fit::{LatencyFit, MemoryFit, Model, Residuals};
use crate::model::{Costs, Shape};
use crate::random::Random;
use crate::usl::{Basis, Usl};

/// User-space parts of [`model`]: what [`benchmarks`] show.
pub(crate) const SEND_USER: f64 = 30e-9;
pub(crate) const DELIVERY: f64 = 0.05e-9;
pub(crate) const MAIL: f64 = 60e-9;
pub(crate) const MESSAGE_USER: f64 = 400e-9;
pub(crate) const MESSAGE_BYTE: f64 = 0.1e-9;

/// The truth.
pub(crate) fn model() -> Model {
    Model {
        costs: Costs {
            turn: 12e-6,
            mail: MAIL,
            message: 9e-6,
            message_byte: MESSAGE_BYTE,
            send: 2.8e-6,
            delivery: DELIVERY,
            byte: 0.3e-9,
            idle_connection: 0.4e-6,
            idle_shard: 50e-6,
            scaling: Usl { alpha: 0.03, beta: 0.002, basis: Basis::Fitted },
        },
        latency: [
            LatencyFit { base: 150e-6, served: 1.0, waited: 0.5 },
            LatencyFit { base: 400e-6, served: 1.1, waited: 1.0 },
        ],
        memory: MemoryFit {
            base: 9e6,
            shard: 1.5e6,
            connection: 1100.0,
            membership: 48.0,
            room: 300.0,
            working: 0.0,
        },
        residuals: Residuals::default(),
        loads_calm: 0,
        loads_busy: 0,
        notes: Vec::new(),
    }
}

/// A load in the calibration: shards, connections, rooms, rate, bytes.
pub(crate) type Load = (u32, f64, f64, f64, f64);

/// What `bench/calibrate` measures, more or less.
pub(crate) const LOADS: [Load; 20] = [
    (1, 1000.0, 1.0, 20.0, 128.0),
    (1, 1000.0, 1.0, 100.0, 128.0),
    (1, 1000.0, 1.0, 200.0, 128.0),
    (1, 1000.0, 1.0, 400.0, 128.0),
    (1, 1000.0, 1.0, 800.0, 128.0),
    (1, 1000.0, 100.0, 2000.0, 128.0),
    (1, 1000.0, 100.0, 8000.0, 128.0),
    (1, 1000.0, 20.0, 1000.0, 128.0),
    (1, 1000.0, 1.0, 50.0, 1024.0),
    (1, 1000.0, 1.0, 50.0, 4096.0),
    (1, 500.0, 1.0, 100.0, 128.0),
    (1, 5000.0, 1.0, 20.0, 128.0),
    (1, 10_000.0, 1000.0, 2000.0, 128.0),
    (2, 1000.0, 1.0, 50.0, 128.0),
    (2, 1000.0, 1.0, 150.0, 128.0),
    (2, 1000.0, 100.0, 2000.0, 128.0),
    (4, 1000.0, 1.0, 50.0, 128.0),
    (4, 1000.0, 1.0, 150.0, 128.0),
    (4, 1000.0, 100.0, 2000.0, 128.0),
    (4, 1000.0, 1.0, 400.0, 128.0),
];

/// Points inside the same ranges that are not in [`LOADS`].
pub(crate) const HELD_OUT: [Load; 6] = [
    (1, 1000.0, 1.0, 150.0, 128.0),
    (1, 1000.0, 1.0, 600.0, 512.0),
    (1, 3000.0, 50.0, 700.0, 2048.0),
    (2, 800.0, 4.0, 120.0, 128.0),
    (4, 1000.0, 1.0, 100.0, 256.0),
    (4, 2000.0, 200.0, 1500.0, 128.0),
];

/// The shape of a load whose server has one core.
pub(crate) fn shape(load: Load) -> Shape {
    let (shards, connections, rooms, rate, data_bytes) = load;
    Shape {
        connections,
        rooms,
        rooms_per_connection: 1.0,
        rate,
        data_bytes,
        shards,
        shards_per_node: shards,
        cores: 1.0,
    }
}

/// The text of a calibration file: each load `repeats` times, and idle runs; figures are off by up to `noise`.
pub(crate) fn calibration(loads: &[Load], repeats: usize, noise: f64) -> String {
    let mut random = Random::new(11);
    let mut off = || 1.0 + noise * (2.0 * random.unit() - 1.0);
    let mut lines = Vec::new();
    for load in loads.iter().copied().cycle().take(loads.len() * repeats) {
        lines.push(fanout(load, &mut off));
    }
    for (shards, each, rooms) in [(1, 1, 1), (1, 4, 100), (1, 16, 5000), (2, 1, 1), (4, 4, 100)] {
        lines.push(idle(shards, each, rooms, &mut off));
    }
    lines.join("\n") + "\n"
}

/// A line with a fan-out run.
pub(crate) fn fanout(load: Load, off: &mut impl FnMut() -> f64) -> String {
    let (shape, model) = (shape(load), model());
    let prediction = model.costs.predict(&shape);
    let [p50, p99] = model.latency(&prediction);
    let publications = (shape.rate * 4.0).round();
    let report = json!({
        "mode": "fanout",
        "label": null,
        "scenario": {
            "target": "ws://127.0.0.1:1/ws", "connections": shape.connections as u32, "rooms": shape.rooms as u32,
            "rooms_per_connection": 1, "spread": "even", "data_bytes": shape.data_bytes as u32,
            "pace": { "loop": "open", "per_second": shape.rate }, "churn_per_second": 0.0,
        },
        "publications": publications as u64,
        "deliveries": (publications * shape.members()).round() as u64,
        "seconds": publications / shape.rate,
        "to_last_member": { "count": 9, "p50_us": p50 * 1e6 * off(), "p99_us": p99 * 1e6 * off() },
        "ledger": { "expected": 1, "missing": 0 },
        "server": {
            "cpu_seconds": prediction.node_cores * publications / shape.rate * off(),
            "resident_bytes": (model.memory.bytes(&shape) * off()) as u64,
        },
    });
    line(shape.shards, &report)
}

fn idle(shards: u32, each: u32, rooms: u32, off: &mut impl FnMut() -> f64) -> String {
    let model = model();
    let mut step = |connections: f64| {
        let shape = Shape {
            connections,
            rooms: f64::from(rooms),
            rooms_per_connection: f64::from(each),
            ..shape((shards, 0.0, 0.0, 0.0, 0.0))
        };
        let cores = connections * model.costs.idle_connection + f64::from(shards) * model.costs.idle_shard;
        json!({
            "connections": connections as u32, "rooms": rooms, "rooms_per_connection": each,
            "server_resident_bytes": (model.memory.idle_bytes(&shape) * off()) as u64,
            "server_cpu_us_per_second": cores * 1e6 * off(),
        })
    };
    let steps = [1000.0, 5000.0, 10_000.0, 15_000.0].map(&mut step);
    line(shards, &json!({ "mode": "idle", "steps": steps }))
}

/// A line of a calibration file whose server had one core.
pub(crate) fn line(shards: u32, report: &serde_json::Value) -> String {
    json!({ "shards": shards, "server_cores": 1, "server": "synthetic", "report": report }).to_string()
}

/// Benchmarks that show the user-space part of the truth.
pub(crate) fn benchmarks() -> Vec<Measured> {
    let one = |id: String, secs: f64| {
        let mean_ns = secs * 1e9;
        Measured { id, mean_ns, bounds_ns: (mean_ns * 0.98, mean_ns * 1.02) }
    };
    let mut all = vec![one("mailbox/post_and_take".to_owned(), MAIL / 2.0)];
    for messages in [1.0, 16.0, 64.0] {
        let secs = messages * MAIL / 2.0 + 1000.0 * SEND_USER + messages * 1000.0 * DELIVERY;
        all.push(one(format!("fan_out/1000_members/{messages}_messages/1_rooms"), secs));
    }
    for bytes in [128.0, 4096.0] {
        all.push(one(format!("envelope/decode_to_frame/{bytes}"), MESSAGE_USER + bytes * MESSAGE_BYTE));
    }
    all
}
