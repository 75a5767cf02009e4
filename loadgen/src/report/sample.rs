//! Reports made up for tests: every field filled, deterministic.

use super::*;
use crate::engine::Reasons;
use crate::scenario::Goodbye;

/// A good fan-out run of two minutes with everything in it.
pub(crate) fn fanout() -> Fanout {
    Fanout {
        label: Some("shardcast".to_owned()),
        started_unix_ms: 1_760_000_000_000,
        scenario: facts(),
        publications: 48_000,
        deliveries: 48_000_000,
        seconds: 120.0,
        deliveries_per_second: Some(400_000.0),
        verdict: Verdict::Server { share: 0.97 },
        to_member: Some(percentiles(900, 48_000_000)),
        to_last_member: Some(percentiles(1_400, 48_000)),
        member_curve: curve(),
        ledger: Counts { expected: 48_400_100, delivered: 48_400_000, excused: 100, ..Counts::default() },
        inexact_rooms: Vec::new(),
        strangers: 0,
        to_excluded: 0,
        altered: 0,
        foreign: 3,
        unstamped: Reasons::from([("{\"event\":\"welcome\"}".to_owned(), 1_000)]),
        late_joins: 2,
        is_stalled: false,
        is_loss_expected: false,
        losses: Losses::default(),
        reconnects: Some(percentiles(4_000, 1_200)),
        slow_readers: Some(SlowReaders {
            connections: 10,
            closed: 4,
            ledger: Counts { expected: 10_000, delivered: 7_000, missing: 3_000, ..Counts::default() },
        }),
        visitors: Some(outcome()),
        server: Some(ServerCost {
            cpu_seconds: 116.4,
            cores: 0.97,
            busiest_thread: 0.5,
            cores_waited_for: 0.01,
            cpu_us_per_delivery: 2.425,
            deliveries_per_cpu_second: 412_371.0,
            resident_bytes: 12_345_678,
            bytes_per_connection: Some(2_816.0),
        }),
        generator: GeneratorLoad {
            threads: vec![thread("loadgen-0", Some(0.55)), thread("publisher", None)],
            bytes_per_connection: 412.0,
            send_lag: Some(percentiles(12, 48_000)),
            rounds: Some(percentiles(80, 900_000)),
            backlog_bytes_max: 65_536,
        },
        timeline: timeline(120),
        requirements: vec![
            checked("p99<=50ms", Some(7_200.0), true),
            checked("cpu_us_per_delivery<2", Some(2.425), false),
        ],
    }
}

/// The scenario of [`fanout`].
pub(crate) fn facts() -> ScenarioFacts {
    ScenarioFacts {
        target: "ws://127.0.0.1:8080/ws".to_owned(),
        dialect: "ignis".to_owned(),
        connections: 1_000,
        to: Address::Room,
        rooms: 1,
        rooms_per_connection: 1,
        exclude: 0,
        spread: "evenly".to_owned(),
        data_bytes: 128,
        data_sizes: Vec::new(),
        pace: Pace::Open { per_second: 400.0 },
        publish: "Redis at 127.0.0.1:6379".to_owned(),
        processes: 1,
        churn_per_second: 10.0,
        slow_connections: 10,
        storm_connections: 200,
        visitors_per_second: 50.0,
    }
}

/// So many points of a timeline: a latency that wanders, one gap, one storm.
pub(crate) fn timeline(count: u32) -> Timeline {
    let point = |index: u32| {
        let wave = rounded((f64::from(index) / 9.0).sin(), 100.0);
        let is_storm = index > 0 && index == count / 2;
        let is_gap = index > 0 && index == count / 3;
        let micros = |base: f64| Some((base * (1.0 + 0.3 * wave)) as u64).filter(|_| !is_gap);
        Point {
            at_secs: f64::from(index + 1),
            live: if is_storm { 800 } else { 1_000 },
            published: 400,
            delivered: if is_gap { 0 } else { (400_000.0 * (1.0 + 0.02 * wave)) as u64 },
            p50_us: micros(900.0),
            p99_us: micros(if is_storm { 30_000.0 } else { 3_600.0 }),
            max_us: micros(if is_storm { 180_000.0 } else { 7_200.0 }),
            server_cores: Some(rounded(0.95 + 0.03 * wave, 1e4)),
            server_resident_bytes: Some(12_000_000 + u64::from(index) * 2_000),
            generator_cores: rounded(0.55 + 0.05 * wave, 1e4),
            errors: if is_storm { 7 } else { 0 },
        }
    };
    Timeline { interval_secs: 1.0, points: (0..count).map(point).collect() }
}

/// An idle run of three steps.
pub(crate) fn idle() -> Idle {
    let step = |connections: u32, before: Option<f64>| IdleStep {
        connections,
        rooms: 100,
        rooms_per_connection: 1,
        server_resident_bytes: Some(5_000_000 + u64::from(connections) * 2_800),
        server_bytes_per_connection: before,
        generator_resident_bytes: 3_000_000 + u64::from(connections) * 420,
        server_cpu_us_per_second: Some(120.0 + f64::from(connections) * 0.6),
    };
    Idle {
        label: Some("shardcast".to_owned()),
        started_unix_ms: 1_760_000_000_000,
        steps: vec![step(0, None), step(5_000, Some(2_800.0)), step(15_000, Some(2_800.0))],
        server_bytes_per_connection: Some(2_800.0),
        generator_bytes_per_connection: 420.0,
        losses: Losses::default(),
    }
}

/// A run of connection attempts.
pub(crate) fn connect() -> Connect {
    Connect {
        label: Some("shardcast".to_owned()),
        started_unix_ms: 1_760_000_000_000,
        scenario: ConnectFacts {
            target: "ws://127.0.0.1:8080/ws".to_owned(),
            dialect: "ignis".to_owned(),
            attempts: Some(10_000),
            in_flight: 64,
            per_second: None,
            goodbye: Some(Goodbye::Clean),
            rooms_per_connection: 0,
            processes: 1,
        },
        outcome: outcome(),
        seconds: 1.0,
        connects_per_second: Some(9_998.0),
        verdict: Verdict::Server { share: 0.97 },
        server: Some(ConnectCost {
            cpu_seconds: 0.97,
            cores: 0.97,
            busiest_thread: 0.96,
            cores_waited_for: 0.01,
            cpu_us_per_connect: Some(97.0),
            connects_per_cpu_second: Some(10_309.0),
            resident_bytes: 12_345_678,
            bytes_per_connection: None,
        }),
        generator: GeneratorLoad {
            threads: vec![thread("loadgen-0", Some(0.55))],
            bytes_per_connection: 0.0,
            send_lag: Some(percentiles(12, 10_000)),
            rounds: Some(percentiles(80, 90_000)),
            backlog_bytes_max: 512,
        },
        is_loss_expected: false,
        requirements: vec![checked("live_p99<=50ms", Some(7_200.0), true)],
    }
}

fn outcome() -> Outcome {
    Outcome {
        attempts: 10_000,
        live: 9_998,
        failed: 2,
        lost: 0,
        reasons: Reasons::from([("upgrade answered with status 503".to_owned(), 2)]),
        to_upgraded: Some(percentiles(400, 9_998)),
        to_live: Some(percentiles(700, 9_998)),
    }
}

/// A search over the rate with three repetitions.
pub(crate) fn search() -> Search {
    let step = |value: f64, measured: Option<f64>| {
        let is_held = measured.is_some_and(|micros| micros <= 50_000.0);
        let note = if is_held { "" } else { "p99 over 50 ms" };
        SearchStep { value, seconds: 10.0, measured, is_held, note: note.to_owned() }
    };
    let knee = |value: f64, broken_at: f64| Knee {
        value,
        broken_at: Some(broken_at),
        reason: "slo".to_owned(),
        is_of_server: true,
        steps: vec![
            step(200.0, Some(1_200.0)),
            step(400.0, Some(3_600.0)),
            step(800.0, Some(910_000.0)),
            step(600.0, None),
            step(value, Some(14_000.0)),
            step(broken_at, Some(88_000.0)),
        ],
    };
    Search {
        label: Some("shardcast".to_owned()),
        started_unix_ms: 1_760_000_000_000,
        scenario: facts(),
        slo: "p99=50ms".to_owned(),
        over: Over::Rate,
        knees: vec![knee(500.0, 550.0), knee(520.0, 560.0), knee(490.0, 540.0)],
        best: Some(fanout()),
    }
}

/// A number with few digits: JSON gives it back exactly.
fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn percentiles(p50_us: u64, count: u64) -> Percentiles {
    Percentiles {
        count,
        p50_us,
        p90_us: p50_us * 2,
        p99_us: p50_us * 4,
        p999_us: p50_us * 8,
        max_us: p50_us * 200,
    }
}

fn curve() -> Vec<CurvePoint> {
    let nines = (0..=60).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0));
    let point = |share: f64| CurvePoint {
        percentile: rounded(share * 100.0, 1e4),
        micros: (500.0 + 500.0 * -(1.0 - share).ln()) as u64,
    };
    nines.map(point).collect()
}

fn thread(name: &str, busy: Option<f64>) -> ThreadLoad {
    ThreadLoad { name: name.to_owned(), run: 0.55, wait: 0.02, busy }
}

fn checked(requirement: &str, value: Option<f64>, is_met: bool) -> Checked {
    Checked { requirement: requirement.to_owned(), value, is_met, reason: None }
}
