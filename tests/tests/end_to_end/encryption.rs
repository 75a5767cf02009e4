//! Encrypted clients beside clear ones: they hear the same, and nobody else can read it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use shardcast::config::{Config, Encryption, EncryptionInbound, SlowConsumer};
use shardcast::engine::Emit;
use shardcast_shard::sealing::SEALED_BYTES_PER_TURN;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::secret::{KeyPair, SecretClient};
use shardcast_tests::server::{TestServer, WS, config, one_shard};
use shardcast_wire::ignis::{Destination, Payload};

const ROOM: &str = "room-a";
const NOT_JSON: &str = r#"{"event":"error","data":{"message":"Invalid message format"}}"#;

fn encrypting(mut config: Config, encryption: Encryption, inbound: EncryptionInbound) -> Config {
    (config.mounts[0].encryption, config.mounts[0].encryption_inbound) = (encryption, inbound);
    config
}

fn optional(config: Config) -> Config {
    encrypting(config, Encryption::Optional, EncryptionInbound::Off)
}

fn room() -> Destination<'static> {
    Destination::Room(ROOM.into())
}

fn text(event: &str, data: &str) -> String {
    format!(r#"{{"event":"{event}","data":{data}}}"#)
}

/// Frames until one that is no pong, and how many were pongs.
fn recv_past_pongs(client: &mut SecretClient) -> (String, usize) {
    let mut pongs = 0;
    loop {
        match client.client.recv() {
            Received::Pong(_) => pongs += 1,
            Received::Text(event) => return (client.key.open(&event).0, pongs),
            other => panic!("expected a message, received {other:?}"),
        }
    }
}

#[test]
fn encrypted_and_clear_members_hear_the_same_in_the_same_order() {
    let server = TestServer::start(&optional(config()));
    let mut clear: Vec<_> = (0..4).map(|_| server.client("user-c")).collect();
    let mut secret: Vec<_> = (0..4).map(|_| SecretClient::connect(&server, "user-s")).collect();
    clear.iter_mut().for_each(|(client, _)| client.join(&[ROOM]));
    secret.iter_mut().for_each(|client| client.join(&[ROOM]));

    let excluded = [clear[0].1.clone(), secret[0].id.clone()];
    let emit = |to: Destination<'_>, event: &str, data: &str, exclude: &[String]| {
        let payload = Payload::new(event, Some(data)).expect("JSON");
        server.engine().emit(&Emit { to, payload, exclude: exclude.to_vec() }).expect("an Ignis mount");
    };
    let long = format!("\"{}\"", "é".repeat(70_000));
    for round in 0..20 {
        emit(room(), "room", &round.to_string(), &[]);
        emit(room(), "others", "1", &excluded);
        emit(Destination::Broadcast, "all", &long, &[]);
        emit(Destination::User("\"user-s\"".into()), "user-s", "null", &[]);
        emit(Destination::Client(secret[1].id.clone().into()), "one", "{}", &[]);
    }
    for round in 0..20 {
        for (index, (client, _)) in clear.iter_mut().enumerate() {
            assert_eq!(client.recv(), Received::Text(text("room", &round.to_string())));
            if index != 0 {
                assert_eq!(client.recv(), Received::Text(text("others", "1")));
            }
            assert_eq!(client.recv(), Received::Text(text("all", &long)));
        }
        for (index, client) in secret.iter_mut().enumerate() {
            assert_eq!(client.recv(), text("room", &round.to_string()));
            if index != 0 {
                assert_eq!(client.recv(), text("others", "1"));
            }
            assert_eq!(client.recv(), text("all", &long));
            assert_eq!(client.recv(), text("user-s", "null"));
            if index == 1 {
                assert_eq!(client.recv(), text("one", "{}"));
            }
        }
    }
    for client in &secret {
        assert_eq!(client.ivs.iter().collect::<BTreeSet<_>>().len(), client.ivs.len(), "an IV came twice");
    }
    let counts = server.counts();
    assert_eq!(counts.of("encrypted"), 4);
    assert!(counts.of("messages_encrypted") >= secret.iter().map(|client| client.ivs.len() as u64).sum());
    clear.into_iter().for_each(|(client, _)| client.leave());
    secret.into_iter().for_each(|client| client.client.leave());
    server.expect_empty("after all left");
    server.stop();
}

#[test]
fn all_but_connected_and_control_frames_is_encrypted() {
    let server = TestServer::start(&optional(one_shard()));
    let mut client = Client::connect(server.address(), WS);
    client.send_text("{");
    assert_eq!(client.recv(), Received::Text(NOT_JSON.to_owned()), "before there is a key");
    let mut client = SecretClient::over(client, "user");
    client.client.send_text("{");
    assert_eq!(client.recv(), NOT_JSON);
    client.client.send_json(&json!({"event": "authenticate"}));
    assert_eq!(client.recv(), text("error", r#"{"message":"Already authenticated"}"#));
    client.client.send_ping(b"hello");
    assert_eq!(client.client.recv(), Received::Pong(b"hello".to_vec()));
    client.client.send_close(1000, "bye");
    assert_eq!(client.client.recv(), Received::Close(Some(1000), "bye".to_owned()));
}

#[test]
fn who_sends_no_good_key_is_told_and_closed() {
    let required = TestServer::start(&encrypting(config(), Encryption::Required, EncryptionInbound::Off));
    let optional = TestServer::start(&optional(config()));
    let off = TestServer::start(&config());
    let refused = |server: &TestServer, key: serde_json::Value| {
        let mut client = Client::connect(server.address(), WS);
        let data = json!({"token": "token", "userId": "user", "publicKey": key});
        client.send_json(&json!({"event": "authenticate", "data": data}));
        (client.recv_json()["data"].clone(), client.recv())
    };
    let missing = (
        json!({"message": "Encryption handshake failed"}),
        Received::Close(Some(4004), "Encryption required".to_owned()),
    );
    for nothing in [json!(null), json!(""), json!(0), json!(false)] {
        assert_eq!(refused(&required, nothing), missing);
    }
    let invalid = (
        json!({"message": "Authentication error"}),
        Received::Close(Some(4003), "Authentication failed".to_owned()),
    );
    for bad in [json!("AAAA"), json!([1]), json!("x".repeat(88)), json!("A".repeat(100_000))] {
        assert_eq!(refused(&required, bad.clone()), invalid);
        assert_eq!(refused(&optional, bad), invalid);
    }
    for (server, key) in [(&optional, json!(null)), (&off, json!(KeyPair::generate().public_key))] {
        let mut client = Client::connect(server.address(), WS);
        let data = json!({"token": "token", "userId": "user", "publicKey": key});
        client.send_json(&json!({"event": "authenticate", "data": data}));
        let connected = client.recv_json();
        assert_eq!((&connected["event"], connected["data"].get("salt")), (&json!("connected"), None));
        client.fence();
    }
    for (server, reason) in [(&required, "encryption_required"), (&required, "encryption_invalid")] {
        let count = server.counts().of(&format!("auth_refused.{reason}"));
        assert_eq!(count, 4, "{reason}");
    }
    [required, optional, off].into_iter().for_each(TestServer::stop);
}

#[test]
fn a_slow_encrypted_reader_gets_every_message_whole_and_in_order() {
    const MESSAGES: usize = 300;
    let server = TestServer::start(&optional(one_shard()));
    let mut slow = SecretClient::over(Client::connect_slow(server.address(), WS), "user");
    slow.join(&[ROOM]);
    let data = |number: usize| format!("[{number},\"{}\"]", "x".repeat(number * 97 % 30_000));
    for number in 0..MESSAGES {
        server.emit(room(), "e", &data(number));
        if number % 50 == 0 {
            slow.client.send_ping(b"in between");
        }
    }
    server.wait_until("a backlog", |now| now.of("short_writes") > 0 && now.of("outbox_bytes") > 1 << 20);
    let mut pongs = 0;
    for number in 0..MESSAGES {
        let (heard, before) = recv_past_pongs(&mut slow);
        pongs += before;
        assert_eq!(heard, text("e", &data(number)));
    }
    assert!(pongs > 0, "pings are answered meanwhile");
    let counts = server.wait_until("the backlog is gone", |now| now.of("outbox_bytes") == 0);
    assert_eq!(counts.of("dropped_outbox_full"), 0);
    slow.client.leave();
    server.stop();
}

#[test]
fn a_full_outbox_drops_the_newest_of_an_encrypted_reader_too() {
    const MESSAGES: usize = 2_000;
    let mut config = optional(one_shard());
    config.mounts[0].outbox_bytes_max = 100_000;
    let server = TestServer::start(&config);
    let mut slow = SecretClient::over(Client::connect_slow(server.address(), WS), "user");
    slow.join(&[ROOM]);
    let data = |number: usize| format!("[{number},\"{}\"]", "x".repeat(5_000));
    for number in 0..MESSAGES {
        server.emit(room(), "e", &data(number));
    }
    let counts = server.wait_until("messages are dropped", |now| now.of("dropped_outbox_full") > 0);
    // Bursts are held whole, so it is more than the bound and less than was sent.
    assert!(counts.of("outbox_bytes") < 4 << 20, "{} bytes wait", counts.of("outbox_bytes"));
    server.wait_until("all were offered", |now| now.of("published") >= MESSAGES as u64);
    let mut heard = 0;
    while heard < MESSAGES && slow.client.has_unread_within(Duration::from_millis(500)) {
        assert_eq!(slow.recv(), text("e", &data(heard)), "without a gap");
        heard += 1;
    }
    let dropped = server.counts().of("dropped_outbox_full") as usize;
    assert_eq!(heard + dropped, MESSAGES);
    server.emit(room(), "later", "1");
    assert_eq!(slow.recv(), text("later", "1"));

    config.mounts[0].slow_consumer = SlowConsumer::Disconnect;
    let server = TestServer::start(&config);
    let mut slow = SecretClient::over(Client::connect_slow(server.address(), WS), "user");
    slow.join(&[ROOM]);
    for number in 0..MESSAGES {
        server.emit(room(), "e", &data(number));
    }
    server.wait_until("it is dropped", |now| now.of("slow_disconnected") == 1 && now.of("conns") == 0);
    assert_eq!(server.counts().of("outbox_bytes"), 0);
    server.stop();
}

#[test]
fn what_a_turn_cannot_encrypt_comes_with_the_next_and_after_clear_messages() {
    const CROWD: usize = 40;
    let server = TestServer::start(&optional(one_shard()));
    let mut crowd: Vec<_> = (0..CROWD).map(|_| SecretClient::connect(&server, "user")).collect();
    let (mut clear, _) = server.client("clear");
    // More than five turns may encrypt, of which the sockets take all.
    let data = format!("\"{}\"", "x".repeat(5 * SEALED_BYTES_PER_TURN / CROWD));
    for round in 0..5 {
        server.emit(Destination::Broadcast, "e", &data);
        server.emit(Destination::Broadcast, "n", &round.to_string());
        assert_eq!(clear.recv(), Received::Text(text("e", &data)));
        assert_eq!(clear.recv(), Received::Text(text("n", &round.to_string())));
    }
    for round in 0..5 {
        for client in &mut crowd {
            assert_eq!(client.recv(), text("e", &data));
            assert_eq!(client.recv(), text("n", &round.to_string()));
        }
    }
    let counts = server.counts();
    assert!(counts.of("encryption_deferred") > 0, "the bound of a turn was reached");
    assert_eq!(counts.of("dropped_outbox_full"), 0);
    crowd.into_iter().for_each(|client| client.client.leave());
    clear.leave();
    server.expect_empty("after all left");
    server.stop();
}

#[test]
fn encrypted_messages_from_a_client_are_decrypted_where_that_is_on() {
    let server =
        TestServer::start(&encrypting(one_shard(), Encryption::Optional, EncryptionInbound::Accepted));
    let mut client = SecretClient::connect(&server, "user");
    client.send(r#"{"event":"join","data":{"rooms":["room-a"]}}"#);
    client.client.send_json(&json!({"event": "join", "data": {"rooms": ["room-b"]}}));
    client.client.settle();
    for name in ["room-a", "room-b"] {
        server.emit(Destination::Room(name.into()), "e", "1");
        assert_eq!(client.recv(), text("e", "1"));
    }
    // Nested, of another key, broken: none has an effect, each is answered, and the connection lives on.
    let nested = client.key.seal(r#"{"event":"leave","data":{"rooms":["room-a"]}}"#);
    client.send(&nested);
    let other = SecretClient::connect(&server, "other");
    for bad in [
        other.key.seal(r#"{"event":"leave","data":{"rooms":["room-a"]}}"#),
        r#"{"event":"encrypted"}"#.to_owned(),
        r#"{"event":"encrypted","data":{"iv":"AAAA","ct":"BBBB"}}"#.to_owned(),
        client.key.seal("{"),
    ] {
        client.client.send_text(&bad);
        assert_eq!(client.recv(), NOT_JSON);
    }
    server.emit(room(), "e", "2");
    assert_eq!(client.recv(), text("e", "2"));
    let counts = server.counts();
    let decrypted = ["messages_decrypted", "messages_undecryptable", "messages_malformed"];
    assert_eq!(decrypted.map(|name| counts.of(name)), [3, 3, 1]);
    // A client that is not encrypted has nothing to decrypt with.
    let (mut clear, _) = server.client("clear");
    clear.send_text(&nested);
    clear.fence();
    assert_eq!(clear.take_pending(), []);
    assert_eq!(server.counts().of("messages_undecryptable"), 3);
}

#[test]
fn where_clients_must_encrypt_a_readable_message_has_no_effect() {
    let server =
        TestServer::start(&encrypting(one_shard(), Encryption::Required, EncryptionInbound::Required));
    let mut client = SecretClient::connect(&server, "user");
    for readable in [
        r#"{"event":"join","data":{"rooms":["room-a"]}}"#,
        r#"{"event":"leave","data":{"rooms":["ws-default"]}}"#,
        r#"{"event":"authenticate"}"#,
        r#"{"event":"custom"}"#,
        "7",
    ] {
        client.client.send_text(readable);
        assert_eq!(client.recv(), NOT_JSON, "{readable}");
    }
    client.client.send_text(r#"{"event":"heartbeat"}"#);
    server.emit(room(), "e", "1");
    server.emit(Destination::Room("ws-default".into()), "e", "2");
    assert_eq!(client.recv(), text("e", "2"));
    assert_eq!(server.counts().of("messages_unencrypted"), 5);
    client.send(r#"{"event":"join","data":{"rooms":["room-a"]}}"#);
    client.client.settle();
    server.emit(room(), "e", "3");
    assert_eq!(client.recv(), text("e", "3"));
}

#[test]
fn ciphertext_is_not_compressed_and_nothing_is_compressed_for_it() {
    let mut config = optional(one_shard());
    config.mounts[0].compression = true;
    let server = TestServer::start(&config);
    let mut client = SecretClient::over(Client::connect_deflating(server.address(), WS), "user");
    assert_eq!(server.counts().of("deflating"), 0);
    client.client.send_deflated(r#"{"event":"join","data":{"rooms":["room-a"]}}"#);
    client.client.settle();
    let data = format!("\"{}\"", "x".repeat(10_000));
    server.emit(room(), "e", &data);
    assert_eq!(client.recv(), text("e", &data));
    let counters = server.engine().router().compression().counters();
    assert_eq!(counters.compressed.load(std::sync::atomic::Ordering::Relaxed), 0);
    client.client.leave();
    server.expect_empty("after it left");
    server.stop();
}
