//! Requirements, expected losses, and the search for a limit.

use serde_json::json;

use crate::fake::Fault;
use crate::generator::{Outcome, SHORT, run, run_mode};

#[test]
fn a_requirement_that_is_not_met_fails_the_run() {
    for (requirement, expected) in [("missing<=0", 0), ("p99<=1us", 1), ("cpu_us_per_delivery<1000000", 1)] {
        let arguments = [SHORT, &["--require", requirement]].concat();
        let Outcome { exit_code, stderr, .. } = run("requirement", Fault::None, &arguments);
        assert_eq!(exit_code, expected, "{requirement}: {stderr}");
        assert_eq!(
            stderr.contains(&format!("requirement not met: {requirement}:")),
            expected == 1,
            "{stderr}"
        );
    }
    let arguments = [SHORT, &["--require", "p99<=50"]].concat();
    let Outcome { exit_code, stderr, .. } = run("requirement-form", Fault::None, &arguments);
    assert_eq!(exit_code, 2);
    assert!(stderr.contains("\"50\" is not a limit for p99"), "{stderr}");
}

#[test]
fn losses_that_are_expected_are_told_and_no_failure_but_repetitions_are() {
    for (fault, expected) in [(Fault::Drop, 0), (Fault::Close, 0), (Fault::Repeat, 1)] {
        let arguments = [SHORT, &["--expect-loss"]].concat();
        let Outcome { exit_code, report, stderr, .. } = run("expected", fault, &arguments);
        assert_eq!(exit_code, expected, "{fault:?}: {stderr}");
        assert!(fault == Fault::Repeat || report["ledger"]["missing"] != json!(0), "{fault:?}");
    }
}

#[test]
fn a_search_finds_where_the_promise_breaks() {
    let arguments = [
        "-n",
        "3",
        "--warmup",
        "0s",
        "-d",
        "600ms",
        "--slo",
        "p99=150ms",
        "--from",
        "40",
        "--to",
        "5000",
        "--precision",
        "0.4",
        "--repeats",
        "2",
    ];
    let Outcome { exit_code, report, stdout, stderr } =
        run_mode("search", "search", Fault::Sluggish, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""), "{stdout}");
    let knees = report["knees"].as_array().expect("knees");
    assert_eq!(knees.len(), 2);
    for knee in knees {
        // 200 a second go out; at three times that, 600 ms put 240 into the queue, more than a second's worth.
        let (held, broken) =
            (knee["value"].as_f64().expect("a rate"), knee["broken_at"].as_f64().expect("a rate"));
        assert!(held >= 20.0 && broken <= 700.0 && held < broken, "{knee}");
        assert!(knee["reason"].as_str().is_some_and(|reason| reason.contains("p99")), "{knee}");
    }
    assert_eq!(report["best"]["ledger"]["missing"], json!(0));
    assert!(stdout.contains("p99=150ms"), "{stdout}");
}
