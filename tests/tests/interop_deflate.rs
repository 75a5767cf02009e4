//! permessage-deflate between Shardcast and `ws`, a client with a zlib of its own.
//!
//! Needs Node, and `npm ci` in `tests/interop`.

use std::process::Command;

use serde_json::json;
use shardcast_tests::script::{Script, interop};
use shardcast_tests::server::{TestServer, config};
use shardcast_wire::ignis::Destination;

#[test]
fn a_client_with_another_zlib_understands_and_is_understood() {
    let mut config = config();
    config.mounts[0].compression = true;
    let server = TestServer::start(&config);
    let mut command = Command::new("node");
    command.arg(interop("deflate.mjs")).arg(format!("ws://{}/ws", server.address())).arg("room-a");
    let mut script = Script::start(&mut command, "install Node, and run `npm ci` in tests/interop");

    let extensions = json!({"deflating": "permessage-deflate", "plain": ""});
    assert_eq!(script.next_line(), json!({"ready": true, "extensions": extensions}));
    let inflated = server.wait_until("its messages are counted", |now| now.of("messages_inflated") >= 3);
    assert_eq!(inflated.of("messages_inflated"), 3, "authenticate, join, and what is not JSON");

    for len in [1, 300, 5_000, 200_000] {
        let data = format!("[{}]", (0..len / 5).map(|n| format!("{n:4}")).collect::<Vec<_>>().join(","));
        let text = format!(r#"{{"event":"e","data":{data}}}"#);
        server.emit(Destination::Room("room-a".into()), "e", &data);
        let mut heard = [script.next_line(), script.next_line()];
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
