//! Clients of others follow the protocol's own testing guide: connect, authorize, subscribe, `redis-cli PUBLISH`, receive.
//! Chromium, python's `websockets` and Node's `ws`.
//!
//! Needs what `tests/run` installs: Node and `npm ci`, the virtual environment, Chromium, and Redis with its client.

use std::process::Command;

use serde_json::json;
use shardcast_tests::script::{Script, interop};
use shardcast_tests::server::config;
use shardcast_tests::topic::{Rig, TOPICS, message, token};

const TOPIC: &str = "test-channel";

#[test]
fn chromium_receives_what_redis_cli_publishes() {
    let mut command = Command::new("node");
    command.arg(interop("topic/chromium.mjs"));
    follow_the_guide(command);
}

#[test]
fn nodes_ws_receives_what_redis_cli_publishes() {
    let mut command = Command::new("node");
    command.arg(interop("topic/client.mjs"));
    follow_the_guide(command);
}

#[test]
fn pythons_websockets_receives_what_redis_cli_publishes() {
    let mut command = Command::new(interop(".venv/bin/python"));
    command.arg(interop("topic/client.py"));
    follow_the_guide(command);
}

/// Publishes with Redis' own client; returns how many subscribers that reached.
fn redis_cli(port: u16, payload: &str) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string(), "PUBLISH", TOPIC, payload])
        .output()
        .expect("redis-cli is installed with Redis: run tests/run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

fn follow_the_guide(mut command: Command) {
    let rig = Rig::start(config());
    command.arg(format!("ws://{}{TOPICS}", rig.server.address())).arg(token("u1")).arg(TOPIC);
    let mut script = Script::start(&mut command, "run tests/run, which installs what the scripts need");
    assert_eq!(script.next_line(), json!({"ready": ["session authenticated", "context subscribed"]}));
    let long = format!(r#"{{"long":"{}"}}"#, "ä".repeat(40_000));
    let cases = [
        (r#"{"info":"Hello"}"#, r#"{"info":"Hello"}"#),
        (r#"{"info": "Hello from Redis"}"#, r#"{"info": "Hello from Redis"}"#),
        ("plain text", r#""plain text""#),
        (long.as_str(), long.as_str()),
    ];
    for (payload, snapshot) in cases {
        assert_eq!(redis_cli(rig.redis.port(), payload), "1");
        assert_eq!(script.next_line(), json!({"text": message(TOPIC, snapshot)}));
    }
    assert!(script.end().success());
    rig.redis.wait_for_channels(&[]);
    rig.server.expect_empty("after the client");
}
