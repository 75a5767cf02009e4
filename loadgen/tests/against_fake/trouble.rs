//! Trouble on purpose: members who leave and come back, read slowly, or are too many for one process.

use serde_json::{Value, json};

use crate::fake::Fault;
use crate::generator::{Outcome, run};

/// 120 publications to twenty members.
const TWENTY: &[&str] = &["-n", "20", "-r", "100", "--warmup", "200ms", "-d", "1s"];

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

#[test]
fn processes_share_connections_and_keep_one_ledger() {
    let arguments = [TWENTY, &["--processes", "3", "--require", "missing<=0"]].concat();
    let Outcome { exit_code, report, stderr, .. } = run("processes", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["scenario"]["processes"], &report["ledger"]["delivered"]), (&json!(3), &json!(2400)));
    assert_eq!(report["generator"]["threads"].as_array().map(Vec::len), Some(4), "three and the publisher");
    assert_eq!(
        (&report["to_member"]["count"], &report["to_last_member"]["count"]),
        (&json!(2000), &json!(100))
    );
    assert!(report["timeline"]["points"].as_array().is_some_and(|points| points.len() >= 3));
}

#[test]
fn a_fault_behind_another_process_is_found_too() {
    let arguments = [TWENTY, &["--processes", "2"]].concat();
    let Outcome { exit_code, report, .. } = run("process-faults", Fault::Repeat, &arguments);
    assert_eq!(
        (exit_code, &report["ledger"]["duplicate"], &report["ledger"]["missing"]),
        (1, &json!(12), &json!(0))
    );
}

#[test]
fn who_leaves_and_comes_back_is_owed_nothing_in_between() {
    let arguments = [TWENTY, &["--churn", "40"]].concat();
    let Outcome { exit_code, report, stderr, .. } = run("churn", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    let ledger = &report["ledger"];
    assert_eq!(
        (&ledger["expected"], &ledger["missing"], &ledger["duplicate"]),
        (&json!(2400), &json!(0), &json!(0))
    );
    assert_eq!(count(&ledger["delivered"]) + count(&ledger["excused"]), 2400);
    assert!((20..=48).contains(&count(&report["reconnects"]["count"])), "{}", report["reconnects"]);
}

#[test]
fn a_storm_breaks_all_connections_once_and_they_come_back() {
    let arguments = [TWENTY, &["--storm-after", "300ms"]].concat();
    let Outcome { exit_code, report, stderr, .. } = run("storm", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["reconnects"]["count"], &report["ledger"]["missing"]), (&json!(20), &json!(0)));
    assert_eq!(report["scenario"]["storm_connections"], 20);
}

#[test]
fn slow_readers_have_books_of_their_own() {
    let slow = ["--slow-share", "0.1", "--slow-rate", "500", "--size", "1024"];
    let Outcome { exit_code, report, stderr, .. } = run("slow", Fault::None, &[TWENTY, &slow].concat());
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["ledger"]["expected"], &report["ledger"]["missing"]), (&json!(18 * 120), &json!(0)));
    let slow = &report["slow_readers"];
    assert_eq!((&slow["connections"], &slow["ledger"]["expected"]), (&json!(2), &json!(240)));
    // 120 KiB were published to each, and a second of reading is half a KiB.
    assert!(count(&slow["ledger"]["missing"]) > 200, "{slow}");
}
