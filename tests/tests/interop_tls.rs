//! wss between Shardcast and clients with another TLS: python's `websockets` and Node's `ws` on OpenSSL, Chromium on
//! BoringSSL.
//!
//! Needs what `tests/run` installs: Node and `npm ci`, the virtual environment, and Chromium.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use shardcast_tests::process::ScratchDir;
use shardcast_tests::script::{Script, interop};
use shardcast_tests::server::{TestServer, config};
use shardcast_tests::tls::{Authority, Files, Kind};
use shardcast_wire::ignis::Destination;

const HOST: &str = "127.0.0.1";

#[test]
fn pythons_websockets_talks_over_tls_and_outlives_a_reload() {
    let mut command = Command::new(interop(".venv/bin/python"));
    command.arg(interop("tls/client.py"));
    talk(command, Kind::Ecdsa, Trust::Root);
}

#[test]
fn nodes_ws_talks_over_tls_and_outlives_a_reload() {
    let mut command = Command::new("node");
    command.arg(interop("tls/client.mjs"));
    talk(command, Kind::Rsa, Trust::Root);
}

#[test]
fn chromium_talks_over_tls_and_outlives_a_reload() {
    let mut command = Command::new("node");
    command.arg(interop("tls/chromium.mjs"));
    talk(command, Kind::Ecdsa, Trust::Certificate);
}

/// What a client is told to trust.
#[derive(PartialEq, Eq)]
enum Trust {
    Root,
    Certificate,
}

fn talk(mut command: Command, kind: Kind, trust: Trust) {
    let authority = Authority::default();
    let pair = authority.issue(kind, &[HOST]);
    let files = Files::new(&pair);
    let trusted = ScratchDir::new("trusted");
    let trusted = trusted.path().join("trusted.pem");
    let pem = if trust == Trust::Root { authority.root_pem() } else { pair.chain };
    fs::write(&trusted, pem).expect("writing a file");
    let mut config = config();
    files.serve_with(&mut config);
    let mut server = TestServer::start(&config);

    command.arg(format!("wss://{}/ws", server.tls_address())).arg(&trusted).arg("room");
    let mut script = Script::start(&mut command, "run tests/run, which installs what the scripts need");
    let ready = script.next_line();
    assert!(["TLSv1.3", "chromium"].map(Value::from).contains(&ready["ready"]), "{ready}");
    for (number, len) in [1, 20_000, 500_000].into_iter().enumerate() {
        let data = json!({"number": number, "text": "ä".repeat(len)}).to_string();
        server.emit(Destination::Room("room".into()), "e", &data);
        assert_eq!(
            script.next_line(),
            json!({"text": format!(r#"{{"event":"e","data":{data}}}"#)}),
            "{len} characters"
        );
        files.replace(&authority.issue(kind, &[HOST]));
        server.reload(&config).expect("another certificate");
    }
    assert!(script.end().success());
    server.expect_empty("after the client");
}
