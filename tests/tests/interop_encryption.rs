//! Encrypted clients whose cryptography is not ours: a browser's WebCrypto, and the class that Ignis publishes.
//!
//! Needs Node and Chromium, and `npm ci` in `tests/interop`.

use std::process::Command;

use serde_json::json;
use shardcast::config::{Encryption, EncryptionInbound};
use shardcast_tests::script::{Script, interop};
use shardcast_tests::server::{TestServer, config};
use shardcast_wire::ignis::Destination;

const ADVICE: &str = "install Node and Chromium, and run `npm ci` in tests/interop";

/// Lets the script's client in, and sends it messages of all sizes beside a clear one.
fn hears_everything(command: &mut Command) {
    let mut config = config();
    config.mounts[0].encryption = Encryption::Optional;
    config.mounts[0].encryption_inbound = EncryptionInbound::Required;
    let server = TestServer::start(&config);
    command.arg(format!("ws://{}/ws", server.address())).arg("room-a");
    let mut script = Script::start(command, ADVICE);
    assert_eq!(script.next_line(), json!({"ready": true, "answer": "Invalid message format"}));
    let counts = server.counts();
    assert_eq!((counts.of("messages_decrypted"), counts.of("encrypted")), (2, 1));

    let (mut clear, _) = server.client("clear");
    clear.join(&["room-a"]);
    for len in [0, 1, 300, 50_000, 200_000] {
        let data = format!("\"{}\"", "é".repeat(len));
        let text = format!(r#"{{"event":"e","data":{data}}}"#);
        server.emit(Destination::Room("room-a".into()), "e", &data);
        assert_eq!(script.next_line(), json!({"text": text}), "{len} characters");
        assert_eq!(clear.recv(), shardcast_tests::client::Received::Text(text));
    }
}

#[test]
fn a_browser_decrypts_with_webcrypto_and_is_understood() {
    hears_everything(Command::new("node").arg(interop("encryption.mjs")));
}

#[test]
fn the_class_that_ignis_publishes_decrypts_and_is_understood() {
    let bun = interop("node_modules/.bin/bun");
    hears_everything(Command::new(bun).arg(interop("encryption-ignis.ts")));
}
