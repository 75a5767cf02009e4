//! permessage-deflate between Shardcast and `ws`, a client with a zlib of its own.
//!
//! Needs Node, and `npm ci` in `tests/interop`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use shardcast_tests::process::Process;
use shardcast_tests::server::{TestServer, config};
use shardcast_wire::ignis::Destination;

#[test]
fn a_client_with_another_zlib_understands_and_is_understood() {
    let mut config = config();
    config.mounts[0].compression = true;
    let server = TestServer::start(&config);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/deflate.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(format!("ws://{}/ws", server.address())).arg("room-a");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut node = Process::start(&mut command, "install Node, and run `npm ci` in tests/interop");
    let _stdin = node.take_stdin().expect("stdin is piped");
    let mut lines = BufReader::new(node.take_stdout().expect("stdout is piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("the script goes on").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    };

    let extensions = json!({"deflating": "permessage-deflate", "plain": ""});
    assert_eq!(next(), json!({"ready": true, "extensions": extensions}));
    let inflated = server.wait_until("its messages are counted", |now| now.of("messages_inflated") >= 3);
    assert_eq!(inflated.of("messages_inflated"), 3, "authenticate, join, and what is not JSON");

    for len in [1, 300, 5_000, 200_000] {
        let data = format!("[{}]", (0..len / 5).map(|n| format!("{n:4}")).collect::<Vec<_>>().join(","));
        let text = format!(r#"{{"event":"e","data":{data}}}"#);
        server.emit(Destination::Room("room-a".into()), "e", &data);
        let mut heard = [next(), next()];
        heard.sort_by_key(|line| line["name"] != "deflating");
        assert_eq!(
            heard,
            ["deflating", "plain"].map(|name| json!({"name": name, "text": text})),
            "{len} bytes"
        );
    }
    let counters = server.engine().router().compression().counters();
    assert_eq!(counters.compressed.load(std::sync::atomic::Ordering::Relaxed), 3);
}
