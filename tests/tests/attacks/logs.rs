//! 81: what strangers send does not write the log, neither its lines nor its length.

use serde_json::{Value, json};
use shardcast_tests::binary::Binary;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::WS;

use crate::arena::Cost;
use crate::siege::Siege;

const MIB: usize = 1 << 20;

/// A line that an operator must never see as one.
const FORGED: &str = r#"{"level":"ERROR","fields":{"message":"forged"}}"#;

/// Sends what might end up in a log on every way there is.
fn inject(server: &Binary) {
    let nasty = format!("x\r\n{FORGED}\r\n\u{1b}[31m\u{2028}\0y");
    for head in [
        format!("GET /{FORGED} HTTP/1.1\r\nHost: h\r\n\r\n"),
        format!("GET /ws%0d%0a{FORGED} HTTP/1.1\r\nHost: h\r\n\r\n"),
        "GET /ws HTTP/1.1\r\nHost: h\r\nOrigin: \u{1b}]0;x\u{7}\r\n\r\n".to_owned(),
        format!("{FORGED}\r\n\r\n"),
        format!("GET /api/clients/{FORGED} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {FORGED}\r\n\r\n"),
    ] {
        let mut client = Client::open(server.address());
        client.send_raw(head.as_bytes()).expect("sending");
        client.response();
    }
    let mut client = Client::connect(server.address(), WS);
    client.send_text(&nasty);
    client.recv();
    client.authenticate(&nasty, &nasty);
    client.send_json(&json!({"event": "join", "data": {"rooms": [nasty, FORGED]}}));
    client.send_json(&json!({"event": nasty, "data": nasty}));
    client.send_close(4999, "x\n{\"level\":\"ERROR\"}");
    while client.recv() != Received::Eof {}
}

#[test]
fn attack_81_strangers_forge_no_line_of_the_log() {
    let mut siege = Siege::start("[server]\nlog_format = \"json\"\nlog_level = \"debug\"\n");
    // What is said at the start is for people.
    let before = siege.server.log().len();
    let expected = [("refused_heads", 2..=2), ("messages_malformed", 1..=1), ("messages_ignored", 1..=1)];
    siege.attack("81 lines", Cost::USUAL.holding(4 * MIB), &expected, |siege| inject(&siege.server));
    let log = siege.server.log().split_off(before);
    assert!(!log.contains('\u{1b}') && !log.contains('\0'), "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_ne!(line["fields"]["message"], "forged", "{line}");
    }
    siege.end();
}

#[test]
fn attack_81_a_flood_of_bad_requests_does_not_flood_the_log() {
    const REQUESTS: u64 = 1_000;
    let mut siege = Siege::start("");
    let before = siege.server.log().lines().count();
    let cost = Cost::USUAL.holding(4 * MIB).computing(6);
    siege.attack("81 flood", cost, &[("refused_heads", REQUESTS..=REQUESTS)], |siege| {
        for number in 0..REQUESTS {
            let mut client = Client::open(siege.server.address());
            let head = if number % 2 == 0 { "rubbish\r\n\r\n" } else { "GET /ws HTTP/1.1\r\n\r\n" };
            client.send_raw(head.as_bytes()).expect("sending");
            assert_eq!(client.response().status, 400);
        }
    });
    let after = siege.server.log().lines().count();
    assert_eq!(after, before, "{}", siege.server.log());
    siege.end();
}
