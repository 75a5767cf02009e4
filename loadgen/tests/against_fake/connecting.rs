//! Attempts to connect: each is counted once, with what became of it.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::fake::Fault;
use crate::generator::{Outcome, SHORT, run, run_at_mode, run_mode};

fn connect(name: &str, fault: Fault, arguments: &[&str]) -> Outcome {
    run_mode("connect", name, fault, arguments)
}

/// Attempts, live, failed and lost.
fn counts(outcome: &Value) -> [u64; 4] {
    ["attempts", "live", "failed", "lost"].map(|name| outcome[name].as_u64().expect("a count"))
}

#[test]
fn connections_that_stay_are_opened_until_there_are_enough() {
    let pid = std::process::id().to_string();
    let arguments = ["-n", "60", "--in-flight", "8", "--server-pid", &pid, "--require", "live_p99<5s"];
    let Outcome { exit_code, report, stdout, stderr } = connect("stay", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["mode"], counts(&report["outcome"])), (&json!("connect"), [60, 60, 0, 0]));
    assert_eq!(report["outcome"]["to_live"]["count"], 60);
    assert!(report["server"]["cpu_us_per_connect"].as_f64() > Some(0.0), "{stdout}");
    assert!(stdout.contains("60 attempts to connect, closed loop with 8 under way, all stay"), "{stdout}");
}

#[test]
fn a_storm_of_goodbyes_makes_as_many_attempts_as_were_asked_for() {
    for (how, cores) in [("clean", "0"), ("reset", "0"), ("clean", "0,0,0")] {
        let arguments = ["-n", "500", "--in-flight", "7", "--close", how, "--cores", cores];
        let Outcome { exit_code, report, stderr, .. } = connect("goodbyes", Fault::None, &arguments);
        assert_eq!((exit_code, stderr.as_str()), (0, ""), "{how}");
        assert_eq!(counts(&report["outcome"]), [500, 500, 0, 0], "{how}");
        assert_eq!(report["scenario"]["goodbye"], how);
    }
}

#[test]
fn attempts_by_the_clock_end_with_the_time() {
    let arguments = ["--ramp", "200", "--close", "-d", "500ms", "--require", "send_lag_p99<1s"];
    let Outcome { exit_code, report, stdout, stderr } = connect("clock", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    let [attempts, live, ..] = counts(&report["outcome"]);
    assert!((90..=110).contains(&attempts) && live == attempts, "{stdout}");
}

#[test]
fn upgrades_that_are_refused_are_counted_by_their_status() {
    let arguments = ["-n", "90", "--close", "--require", "failed<=29"];
    let Outcome { exit_code, report, stderr, .. } = connect("overloaded", Fault::Overloaded, &arguments);
    assert_eq!((exit_code, counts(&report["outcome"])), (1, [90, 60, 30, 0]));
    assert_eq!(report["outcome"]["reasons"], json!({ "upgrade answered with status 503": 30 }));
    assert!(stderr.contains("of 90 attempts 30 failed, 0 were lost"), "{stderr}");
    assert!(stderr.contains("requirement not met: failed<=29: 30"), "{stderr}");
    let arguments = ["-n", "90", "--expect-loss"];
    let Outcome { exit_code, report, .. } = connect("overloaded-stay", Fault::Overloaded, &arguments);
    assert_eq!((exit_code, counts(&report["outcome"])), (0, [90, 60, 30, 0]));
}

#[test]
fn servers_that_do_not_answer_are_given_up_with_what_they_did_not_answer() {
    let table = [
        (Fault::Mute, "timed out: no answer to the upgrade", [6, 0, 6, 0]),
        (Fault::Clingy, "timed out: the server did not end the connection", [6, 6, 0, 6]),
        (
            Fault::Refuse,
            r#"login refused: {"event":"error","data":{"message":"Authentication failed"}}"#,
            [6, 0, 6, 0],
        ),
    ];
    for (fault, reason, expected) in table {
        let arguments = ["-n", "6", "--in-flight", "3", "--close", "--patience", "300ms"];
        let Outcome { exit_code, report, .. } = connect("mute", fault, &arguments);
        assert_eq!((exit_code, counts(&report["outcome"])), (1, expected), "{fault:?}");
        assert_eq!(report["outcome"]["reasons"], json!({ reason: 6 }), "{fault:?}");
    }
}

#[test]
fn a_port_where_nobody_listens_refuses_every_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = format!("ws://{}/ws", listener.local_addr().expect("a bound listener"));
    drop(listener);
    let arguments = ["-n", "20", "--in-flight", "4", "--close"];
    let Outcome { exit_code, report, .. } = run_at_mode("connect", "nobody", &target, &arguments);
    assert_eq!((exit_code, counts(&report["outcome"])), (1, [20, 0, 20, 0]));
    assert_eq!(
        report["outcome"]["reasons"],
        json!({ "cannot connect: Connection refused (os error 111)": 20 })
    );
}

#[test]
fn visitors_come_and_leave_beside_an_exact_ledger() {
    let arguments = [SHORT, &["--visitors", "100"]].concat();
    let Outcome { exit_code, report, stdout, stderr } = run("visitors", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["ledger"]["expected"], &report["ledger"]["missing"]), (&json!(360), &json!(0)));
    let [attempts, live, ..] = counts(&report["visitors"]);
    assert!((30..=80).contains(&attempts) && live == attempts, "{stdout}");
    assert!(stdout.contains("100 visitors a second") && stdout.contains("visitors → live"), "{stdout}");
}
