//! The whole way from the text of a calibration to an answer, with a server whose model is known.

use std::path::Path;

use crate::answer::Knowledge;
use crate::calibration::{self, Calibration};
use crate::check::Check;
use crate::criterion::Measured;
use crate::fit::{FitError, Model};
use crate::plan::{Node, Percentile, PlanError, Question, Slo};
use crate::synthetic::{self, HELD_OUT, LOADS};
use crate::uncertainty::RESAMPLES;
use crate::usl::{ALPHA_TARGET, Basis};

fn read(text: &str) -> Calibration {
    calibration::parse(text, Path::new("runs.jsonl")).expect("a calibration")
}

fn refused(text: &str) -> String {
    calibration::parse(text, Path::new("runs.jsonl")).expect_err("no calibration").to_string()
}

fn knowledge(text: &str, benchmarks: Vec<Measured>) -> Knowledge {
    Knowledge::gain(&read(text), benchmarks).expect("a model")
}

fn question() -> Question {
    Question {
        connections: 500_000,
        rooms: 50_000,
        rooms_per_connection: 1,
        rate: 2000.0,
        data_bytes: 512,
        slo: Slo { percentile: Percentile::P99, seconds: 0.05 },
        headroom: 0.7,
        node: Node {
            cores: 16,
            memory_bytes: 64.0 * f64::powi(2.0, 30),
            nic_bits_per_second: 1e10,
            connections_max: 1_000_000,
        },
    }
}

fn assert_recovered(found: &Model, tolerance: f64) {
    let truth = synthetic::model();
    let (costs, true_costs) = (&found.costs, &truth.costs);
    let (memory, true_memory) = (&found.memory, &truth.memory);
    let table = [
        ("turn", costs.turn, true_costs.turn),
        ("message", costs.message, true_costs.message),
        ("send", costs.send, true_costs.send),
        ("byte", costs.byte, true_costs.byte),
        ("idle", costs.idle_connection, true_costs.idle_connection),
        ("capacity of 4", costs.scaling.capacity(4), true_costs.scaling.capacity(4)),
        ("p50 served", found.latency[0].served, truth.latency[0].served),
        ("p99 waited", found.latency[1].waited, truth.latency[1].waited),
        ("base memory", memory.base, true_memory.base),
        ("connection", memory.connection, true_memory.connection),
        ("membership", memory.membership, true_memory.membership),
        ("room", memory.room, true_memory.room),
    ];
    for (name, found, expected) in table {
        assert!((found / expected - 1.0).abs() < tolerance, "{name}: {found:e} is not {expected:e}");
    }
}

#[test]
fn the_fit_recovers_the_model_that_made_the_data() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    assert_recovered(&known.model, 0.01);
    assert!(known.model.residuals.cpu < 0.005, "{:?}", known.model.residuals);
    assert_eq!(known.resampled.len(), RESAMPLES);
}

#[test]
fn held_out_runs_are_predicted_within_one_percent() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    let held_out = read(&synthetic::calibration(&HELD_OUT, 1, 0.0));
    let check = Check::of(&known, &held_out.points(), &[], 0.01);
    assert!(check.is_within, "{check}");
    let latency = [check.p50, check.p99].map(|errors| errors.expect("latencies").worst);
    assert!(latency.iter().all(|worst| *worst < 0.01), "{check}");
}

#[test]
fn noise_widens_the_bars_and_the_truth_stays_within_them() {
    let exact = knowledge(&synthetic::calibration(&LOADS, 3, 0.0), synthetic::benchmarks());
    let noisy = knowledge(&synthetic::calibration(&LOADS, 3, 0.08), synthetic::benchmarks());
    let layout = question().layout(&exact.model).expect("a layout");
    let [exact, noisy] = [&exact, &noisy].map(|known| known.answer(question()).expect("an answer"));
    let truth = question().figures(&synthetic::model(), &layout);
    assert_eq!(noisy.layout, layout, "the same layout, to compare");
    let pairs = [
        (exact.figures.node_cores, noisy.figures.node_cores, truth.node_cores),
        (exact.figures.process_bytes, noisy.figures.process_bytes, truth.process_bytes),
        (exact.figures.p99_secs, noisy.figures.p99_secs, truth.p99_secs),
    ];
    for (exact, noisy, truth) in pairs {
        assert!(noisy.high - noisy.low > exact.high - exact.low, "{exact:?} {noisy:?}");
        assert!((noisy.low..=noisy.high).contains(&truth), "{truth} is not in {noisy:?}");
    }
}

#[test]
fn without_benchmarks_the_runs_must_say_everything() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), Vec::new());
    assert_recovered(&known.model, 0.05);
    assert!(
        known.notes.iter().any(|note| note.contains("fan_out/1000_members/16_messages")),
        "{:?}",
        known.notes
    );
    let check = Check::of(&known, &read(&synthetic::calibration(&HELD_OUT, 1, 0.0)).points(), &[], 0.02);
    assert!(check.is_within, "{check}");
}

#[test]
fn the_plan_meets_its_objective_and_one_shard_fewer_does_not() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    for (rate, rooms) in [(2000.0, 50_000), (20_000.0, 50_000), (100.0, 50)] {
        let asked = Question { rate, rooms, slo: Slo { seconds: 0.02, ..question().slo }, ..question() };
        let answer = known.answer(asked).expect("an answer");
        assert!(answer.figures.p99_secs.value <= 0.02, "{answer}");
        assert!(
            answer.figures.unbatchable.value <= 0.7 && answer.figures.process_bytes.value > 0.0,
            "{answer}"
        );
        let fewer = answer.layout.shards() - 1;
        if fewer > 0 && answer.layout.nodes == 1 {
            let less = known.model.costs.predict(&asked.shape(1, fewer));
            assert!(known.model.latency(&less)[1] > 0.02 || less.unbatchable > 0.7, "{less:?}");
        }
    }
}

#[test]
fn memory_network_and_connections_ask_for_nodes() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    let nodes = |node: Node| known.answer(Question { node, ..question() }).expect("an answer").layout.nodes;
    let node = question().node;
    let layout = known.answer(question()).expect("an answer").layout;
    assert_eq!((layout.nodes, layout.nodes_by.connections, layout.nodes_by.network), (1, 1, 1));
    assert_eq!(nodes(Node { connections_max: 60_000, ..node }), 9);
    // 20,000 deliveries/s of 543 + 90 bytes are 101 Mbit/s.
    assert_eq!(nodes(Node { nic_bits_per_second: 50e6, ..node }), 3);
    // 500,000 × (1,148 + 3,891 B) are 2.35 GiB and more with the shards.
    assert!((3..=5).contains(&nodes(Node { memory_bytes: f64::powi(2.0, 30), ..node })));
}

#[test]
fn what_cannot_be_planned_says_why() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    let refusal = |question: Question| known.answer(question).expect_err("no answer");
    let node = question().node;
    let no_core = Question { node: Node { cores: 1, ..node }, ..question() };
    assert_eq!(refusal(no_core), PlanError::NoCoreForShards);
    let each = Question { rooms_per_connection: 2, rooms: 1, ..question() };
    assert_eq!(refusal(each), PlanError::RoomsEach { each: 2, rooms: 1 });
    let redis = refusal(Question { rate: 100_000.0, ..question() }).to_string();
    assert!(redis.contains("Redis thread handles every publication: 9"), "{redis}");
    let small = Question { node: Node { memory_bytes: 1e6, ..node }, ..question() };
    assert_eq!(refusal(small), PlanError::NodeTooSmall);
    let hasty = Question { slo: Slo { seconds: 1e-4, ..question().slo }, ..question() };
    assert!(matches!(refusal(hasty), PlanError::Objective { .. }));
}

#[test]
fn extrapolation_is_said() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.0), synthetic::benchmarks());
    let said = known.answer(question()).expect("an answer").conditions.join("\n");
    assert!(said.contains("calibrated up to 15,000 connections; this plan is 33x beyond"), "{said}");
}

#[test]
fn an_objective_within_the_error_bar_is_said() {
    let known = knowledge(&synthetic::calibration(&LOADS, 3, 0.05), synthetic::benchmarks());
    let told = known.answer(question()).expect("an answer").figures.p99_secs;
    let tight = Slo { seconds: (told.value + told.high) / 2.0, ..question().slo };
    let said = known.answer(Question { slo: tight, ..question() }).expect("an answer").conditions.join("\n");
    assert!(said.contains("the error bar of p99 reaches") && said.contains("33x beyond"), "{said}");
}

#[test]
fn scaling_that_was_not_measured_is_assumed_and_widens_the_bars() {
    let one_shard: Vec<_> = LOADS.into_iter().filter(|load| load.0 == 1).collect();
    let known = knowledge(&synthetic::calibration(&one_shard, 1, 0.0), synthetic::benchmarks());
    let scaling = known.model.costs.scaling;
    assert_eq!((scaling.basis, scaling.alpha), (Basis::Assumed, ALPHA_TARGET / 2.0));
    let busy = Question { rate: 30_000.0, rooms: 5_000, ..question() };
    let answer = known.answer(busy).expect("an answer");
    assert!(answer.layout.shards_per_node > 1, "{answer}");
    let turn = answer.figures.turn_secs;
    assert!(turn.high > turn.value * 1.02 && turn.low < turn.value * 0.98, "{turn:?}");
    assert!(
        answer.conditions.iter().any(|said| said.contains("was not measured")),
        "{:?}",
        answer.conditions
    );

    let two: Vec<_> = LOADS.into_iter().filter(|load| load.0 < 4).collect();
    let known = knowledge(&synthetic::calibration(&two, 1, 0.0), synthetic::benchmarks());
    assert_eq!((known.model.costs.scaling.basis, known.model.costs.scaling.beta), (Basis::AlphaOnly, 0.0));
    assert!(known.notes.iter().any(|note| note.contains("β is taken to be 0")), "{:?}", known.notes);
}

#[test]
fn files_that_cannot_be_used_say_which_line_and_what_to_do() {
    for text in ["", "\n \n"] {
        let error = refused(text);
        assert!(
            error.contains("runs.jsonl has no runs in it; make one with `bench/calibrate FILE`"),
            "{error}"
        );
    }
    let good = synthetic::calibration(&LOADS[..2], 1, 0.0);
    for broken in ["{", "[]", r#"{"shards":1}"#, r#"{"shards":1,"report":{"mode":"fanout"}}"#] {
        let error = refused(&format!("\n{good}\n{broken}\n"));
        let line = good.lines().count() + 3;
        assert!(error.contains(&format!("runs.jsonl, line {line}: ")), "{error}");
    }
    let idle = serde_json::json!({ "mode": "idle", "steps": [] });
    assert!(refused(&synthetic::line(0, &idle)).contains("line 1: a server has at least one shard"));
    let error = calibration::read(Path::new("/no/such/file")).expect_err("no file").to_string();
    assert!(error.contains("cannot read /no/such/file: ") && error.contains("bench/calibrate"), "{error}");
}

#[test]
fn runs_that_teach_nothing_are_left_out_with_a_reason() {
    let run = synthetic::fanout(LOADS[0], &mut || 1.0);
    let table = [
        (r#""loop":"open""#, r#""loop":"closed","window":4"#, "closed"),
        (r#""missing":0"#, r#""missing":3"#, "missing"),
        (r#""churn_per_second":0.0"#, r#""churn_per_second":5.0"#, "churn"),
        (r#""rooms":1,"#, r#""rooms":2,"#, "evenly"),
        (r#""seconds":4.0"#, r#""seconds":8.0"#, "rate"),
        (r#""mode":"fanout""#, r#""mode":"search""#, "neither"),
    ];
    for (from, to, reason) in table {
        let changed = run.replace(from, to);
        assert_ne!(run, changed, "{from}");
        let calibration = read(&changed);
        assert!(
            calibration.runs.is_empty() && calibration.left_out[0].contains(reason),
            "{:?}",
            calibration.left_out
        );
        assert!(calibration.left_out[0].starts_with("line 1: "));
    }
}

#[test]
fn too_little_to_learn_from_is_refused() {
    let error = |text: &str| Knowledge::gain(&read(text), Vec::new()).err();
    let few = synthetic::calibration(&LOADS[..2], 3, 0.0);
    assert_eq!(error(&few), Some(FitError::TooFewLoads { found: 2 }));
    let loads: Vec<String> =
        synthetic::calibration(&LOADS, 1, 0.0).lines().take(20).map(str::to_owned).collect();
    assert_eq!(error(&loads.join("\n")), Some(FitError::TooFewIdles { found: 0 }));
}

#[test]
fn an_answer_can_be_told_and_written_as_json() {
    let known = knowledge(&synthetic::calibration(&LOADS, 1, 0.02), synthetic::benchmarks());
    let answer = known.answer(question()).expect("an answer");
    let text = answer.to_string();
    for part in
        ["nodes", "T(k)", "λ_s", "c_send", "Scaling in a process", "Conditions", "Redis, messages/s out"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let json = serde_json::to_value(&answer).expect("plain data");
    assert_eq!(json["layout"]["nodes"], 1);
    assert!(json["figures"]["p99_secs"]["high"].as_f64() > json["figures"]["p99_secs"]["low"].as_f64());
}
