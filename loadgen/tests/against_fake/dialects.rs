//! Other dialects than Ignis, from the handshake to an exact ledger.

use serde_json::json;

use crate::fake::{self, Fault};
use crate::generator::{Outcome, SHORT, run_at};

#[test]
fn a_topic_session_is_authorized_subscribed_and_counted() {
    let address = fake::start(Fault::None);
    let (target, publish) = (format!("ws://{address}/topics"), format!("http://{address}/"));
    // The text of a snapshot, as the server would make it of a Redis message.
    let body = r#"{"action":"message","topic":{room_json},"snapshot":{data}}"#;
    let arguments = ["--dialect", "topic", "--token", "good", "--publish-body", body];
    let Outcome { exit_code, report, stderr, .. } =
        run_at("topic", &target, &publish, &[&arguments, SHORT].concat());
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["ledger"]["expected"], &report["ledger"]["missing"]), (&json!(360), &json!(0)));
    assert_eq!(report["unstamped"], json!({}), "an acknowledgement is no surprise");
}

#[test]
fn a_topic_session_that_is_refused_is_told() {
    let address = fake::start(Fault::None);
    let (target, publish) = (format!("ws://{address}/topics"), format!("http://{address}/"));
    let arguments = [&["--dialect", "topic", "--token", "bad"], SHORT].concat();
    let Outcome { exit_code, stderr, .. } = run_at("unauthorized", &target, &publish, &arguments);
    assert_eq!(exit_code, 3);
    assert!(
        stderr.contains("0 of 3 connections are up") && stderr.contains("session unauthorized"),
        "{stderr}"
    );
}

#[test]
fn a_raw_client_puts_its_room_into_path_and_lines_and_waits_to_be_welcome() {
    let address = fake::start(Fault::None);
    let (target, publish) = (format!("ws://{address}/raw/{{room}}"), format!("http://{address}/"));
    let arguments = [&["--dialect", "raw", "--send", "{room}", "--ready", "welcome"], SHORT].concat();
    let Outcome { exit_code, report, stderr, .. } = run_at("raw", &target, &publish, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert_eq!((&report["ledger"]["expected"], &report["ledger"]["missing"]), (&json!(360), &json!(0)));
}
