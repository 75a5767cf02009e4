//! Each fault of a server is found, counted exactly, and told by the exit code.

use serde_json::{Value, json};

use crate::fake::Fault;
use crate::generator::{Outcome, SHORT, run, run_held_up, run_mode};

#[test]
fn a_good_server_has_an_exact_ledger() {
    let Outcome { exit_code, report, stdout, stderr } = run("good", Fault::None, SHORT);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    let ledger = json!({ "expected": 360, "delivered": 360, "missing": 0, "duplicate": 0, "out_of_order": 0, "excused": 0 });
    assert_eq!(report["ledger"], ledger);
    assert_eq!((&report["publications"], &report["deliveries"]), (&json!(100), &json!(300)));
    assert_eq!(report["to_member"]["count"], 300);
    assert_eq!(report["to_last_member"]["count"], 100);
    assert!(stdout.contains("360 expected, 360 delivered, 0 missing"), "{stdout}");
}

#[test]
fn several_threads_keep_one_ledger() {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let core = cores.first().expect("a core").id.to_string();
    let cores = format!("{core},{core},{core}");
    let arguments =
        ["-n", "7", "-w", "8", "--burst", "2", "--warmup", "50ms", "-d", "200ms", "--cores", &cores];
    let Outcome { exit_code, report, stderr, .. } = run("threads", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!(report["ledger"]["expected"], report["ledger"]["delivered"]);
    assert_eq!(report["deliveries"].as_u64(), report["publications"].as_u64().map(|count| count * 7));
    assert_eq!(report["to_last_member"]["count"], report["publications"]);
}

#[test]
fn faults_of_delivery_are_counted_exactly() {
    let table = [
        (Fault::Drop, [348, 12, 0, 0], "12 missing, 0 duplicate, 0 out of order, of 360"),
        (Fault::Repeat, [360, 0, 12, 0], "0 missing, 12 duplicate, 0 out of order, of 360"),
        (Fault::Swap, [360, 0, 0, 12], "0 missing, 0 duplicate, 12 out of order, of 360"),
    ];
    for (fault, [delivered, missing, duplicate, out_of_order], line) in table {
        let Outcome { exit_code, report, stderr, .. } = run("faults", fault, SHORT);
        let ledger = json!({
            "expected": 360, "delivered": delivered, "missing": missing,
            "duplicate": duplicate, "out_of_order": out_of_order, "excused": 0,
        });
        assert_eq!(report["ledger"], ledger, "{fault:?}");
        assert_eq!(exit_code, 1, "{fault:?}");
        assert!(stderr.contains(&format!("loadgen: ledger mismatch: {line}")), "{fault:?}: {stderr}");
        assert!(stderr.contains(&format!("loadgen:   loadgen-0: {line}")), "{fault:?}: {stderr}");
    }
}

#[test]
fn a_closed_loop_that_waits_in_vain_ends_with_a_mismatch() {
    let arguments = ["-n", "2", "-w", "4", "--warmup", "0s", "-d", "60s"];
    let Outcome { exit_code, report, stderr, .. } = run("vain", Fault::Drop, &arguments);
    assert_eq!(
        (exit_code, &report["is_stalled"], &report["ledger"]["missing"]),
        (1, &json!(true), &json!(1))
    );
    assert!(stderr.contains("the closed loop ended early"), "{stderr}");
}

#[test]
fn altered_messages_are_no_deliveries() {
    let Outcome { exit_code, report, stderr, .. } = run("altered", Fault::Alter, SHORT);
    assert_eq!((exit_code, &report["altered"], &report["ledger"]["missing"]), (1, &json!(12), &json!(12)));
    assert!(stderr.contains("12 messages were not as published"), "{stderr}");
}

#[test]
fn a_stall_of_a_second_shows_in_the_percentiles() {
    let arguments = ["-n", "2", "-r", "100", "--warmup", "0s", "-d", "2s"];
    let Outcome { exit_code, report, stderr, .. } = run("stall", Fault::Stall, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    // Of 200 publications 100 were due during the stall, the last of them at its end. A generator that only timed
    // what it managed to send would have seen one slow publication in 200.
    for latency in ["to_member", "to_last_member"] {
        let percentile = |name: &str| report[latency][name].as_u64().expect("microseconds");
        assert!(percentile("p90_us") > 700_000, "{latency}: {}", report[latency]);
        assert!(percentile("p99_us") > 900_000, "{latency}: {}", report[latency]);
        assert!(percentile("max_us") > 990_000, "{latency}: {}", report[latency]);
    }
}

#[test]
fn a_generator_that_is_held_up_tells_no_capacity() {
    let arguments = ["-n", "1", "-r", "200", "--warmup", "0s", "-d", "1500ms"];
    // Four fifths of the time it does not run.
    let Outcome { exit_code, report, stdout, .. } = run_held_up("held-up", Fault::None, &arguments);
    assert_eq!(exit_code, 0);
    assert_eq!(report["verdict"]["limit"], "generator_late", "{stdout}");
    assert_eq!(report["deliveries_per_second"], Value::Null);
    assert!(stdout.contains("generator-bound") && stdout.contains("not told"), "{stdout}");
}

#[test]
fn a_place_to_publish_that_takes_its_time_is_no_fault_of_the_generator_and_no_capacity_either() {
    let arguments = ["-n", "1", "-r", "20000", "--warmup", "0s", "-d", "300ms"];
    let Outcome { exit_code, report, stdout, .. } = run("slow-sink", Fault::Slow, &arguments);
    assert_eq!(exit_code, 0);
    assert_eq!(report["verdict"]["limit"], "publishing", "{stdout}");
    assert_eq!(report["deliveries_per_second"], Value::Null);
}

#[test]
fn a_lost_connection_is_told_with_its_close_code() {
    let Outcome { exit_code, report, stderr, .. } = run("lost", Fault::Close, SHORT);
    assert_eq!(
        (exit_code, &report["losses"]["lost"], &report["ledger"]["missing"]),
        (1, &json!(1), &json!(110))
    );
    assert!(stderr.contains("1 × closed by the server: 4002 Heartbeat timeout"), "{stderr}");
}

#[test]
fn idle_connections_are_held_and_weighed() {
    let pid = std::process::id().to_string();
    let arguments = ["--at", "0,20,50", "--settle", "0s", "--hold", "100ms", "--server-pid", &pid];
    let Outcome { exit_code, report, stderr, stdout } = run_mode("idle", "idle", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    let steps = report["steps"].as_array().expect("steps");
    let connections: Vec<_> = steps.iter().map(|step| &step["connections"]).collect();
    assert_eq!(connections, [&json!(0), &json!(20), &json!(50)]);
    assert!(steps[0]["server_bytes_per_connection"].is_null());
    // The fake server has a thread a connection, with pages of stack.
    assert!(report["server_bytes_per_connection"].as_f64() > Some(1000.0), "{stdout}");
}

#[test]
fn runs_that_cannot_begin_say_why() {
    let table: [(Fault, &[&str], i32, &[&str]); 4] = [
        (
            Fault::Refuse,
            SHORT,
            3,
            &["0 of 3 connections are up", "3 × closed by the server: 4003 Authentication failed"],
        ),
        (Fault::Deaf, SHORT, 3, &["only 0 of 3 members received a probe within 1s"]),
        (Fault::None, &["-n", "20000000"], 2, &["connections = 20000000 is out of bounds"]),
        (Fault::None, &["--size", "10"], 2, &["size = 10 is out of bounds: 54 to 16777216, as the stamp"]),
    ];
    for (fault, arguments, expected, texts) in table {
        let Outcome { exit_code, report, stderr, .. } = run("begin", fault, arguments);
        assert_eq!((exit_code, &report), (expected, &Value::Null), "{fault:?}: {stderr}");
        for text in texts {
            assert!(stderr.contains(text), "{fault:?}: {stderr}");
        }
    }
}
