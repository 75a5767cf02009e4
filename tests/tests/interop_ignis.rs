//! The test client and the fixture scripts against the real Ignis, without Shardcast.
//!
//! What Shardcast is held to elsewhere is held against Ignis here, so a wrong expectation shows before a wrong
//! server does. Needs `npm ci` in `tests/interop`.

use serde_json::{Value, json};
use shardcast_tests::bun::{IgnisEmitter, IgnisServer};
use shardcast_tests::client::{Client, Received, opcode};
use shardcast_tests::redis::RedisServer;

fn connected(server: &IgnisServer, user_id: &str) -> (Client, String) {
    let mut client = Client::connect(server.address(), "/ws");
    let data = client.authenticate("ok", user_id);
    assert_eq!(data["userId"], user_id);
    let id = data["id"].as_str().expect("a client id").to_owned();
    (client, id)
}

fn text(event: &str, data: &Value) -> Received {
    Received::Text(format!(r#"{{"event":"{event}","data":{data}}}"#))
}

#[test]
fn the_emitter_reaches_room_user_client_and_everyone() {
    let redis = RedisServer::start();
    let server = IgnisServer::start(&redis, &json!({}));
    let mut emitter = IgnisEmitter::start(&redis);
    let (mut a, a_id) = connected(&server, "user-a");
    let (mut b, _) = connected(&server, "user-b");
    a.join(&["room-a"]);
    b.join(&["room-a", "deny-b"]);

    let one = json!({"n": 1});
    emitter.request(json!({"op": "toRoom", "room": "room-a", "event": "room", "data": one}));
    emitter.request(json!({"op": "toRoom", "room": "deny-b", "event": "denied", "data": one}));
    emitter
        .request(json!({"op": "toRoom", "room": "room-a", "event": "not-a", "data": one, "exclude": [a_id]}));
    emitter.request(json!({"op": "toUser", "userId": "user-b", "event": "user", "data": one}));
    emitter.request(json!({"op": "toClient", "clientId": a_id, "event": "client", "data": one}));
    emitter.request(json!({"op": "broadcast", "event": "all", "data": one}));

    for event in ["room", "client", "all"] {
        assert_eq!(a.recv(), text(event, &one));
    }
    for event in ["room", "not-a", "user", "all"] {
        assert_eq!(b.recv(), text(event, &one));
    }
}

#[test]
fn two_servers_share_a_room_through_redis() {
    let redis = RedisServer::start();
    let mut first = IgnisServer::start(&redis, &json!({}));
    let second = IgnisServer::start(&redis, &json!({}));
    assert_ne!(first.server_id(), second.server_id());
    let (mut a, _) = connected(&first, "user-a");
    let (mut b, _) = connected(&second, "user-b");
    a.join(&["room-a"]);
    b.join(&["room-a"]);

    // Only `send` crosses servers; what came before it would arrive before it.
    first.request(json!({"op": "sendToUser", "userId": "user-b", "event": "local-only", "data": 1}));
    first.request(json!({"op": "send", "destination": "room-a", "payload": {"topic": "t", "data": null}}));
    assert_eq!(a.recv(), text("t", &Value::Null));
    assert_eq!(b.recv(), text("t", &Value::Null));

    let clients = first.request(json!({"op": "clients"}));
    assert_eq!(clients["clients"].as_array().map(Vec::len), Some(1), "{clients}");
    first.request(json!({"op": "shutdown"}));
    assert_eq!(a.recv(), Received::Close(Some(1001), "Server shutting down".to_owned()));
    assert_eq!(a.recv(), Received::Eof);
}

#[test]
fn refusals_carry_the_recorded_codes() {
    let redis = RedisServer::start();
    let server = IgnisServer::start(&redis, &json!({"authTimeout": 300}));
    for (token, message) in [("no", "Authentication failed"), ("throw", "Authentication error")] {
        let mut client = Client::connect(server.address(), "/ws");
        client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
        assert_eq!(client.recv(), text("error", &json!({"message": message})));
        assert_eq!(client.recv(), Received::Close(Some(4003), "Authentication failed".to_owned()));
        assert_eq!(client.recv(), Received::Eof);
    }
    let mut silent = Client::connect(server.address(), "/ws");
    assert_eq!(silent.recv(), Received::Close(Some(4001), "Authentication timeout".to_owned()));

    let mut unmasked = Client::connect(server.address(), "/ws");
    unmasked.send_raw(&[0x80 | opcode::TEXT, 1, b'x']).expect("sending");
    let reason = "Received an incorrectly masked frame".to_owned();
    assert_eq!(unmasked.recv(), Received::Close(Some(1002), reason));

    let response = Client::open(server.address()).upgrade("/elsewhere", "");
    assert_eq!(response.status, 404, "{response:?}");
}

#[test]
fn the_fixture_policy_decides_as_recorded() {
    let redis = RedisServer::start();
    let server = IgnisServer::start(&redis, &json!({}));
    let mut numeric = Client::connect(server.address(), "/ws");
    assert_eq!(numeric.authenticate("numid", "ignored")["userId"], 42);
    let mut anonymous = Client::connect(server.address(), "/ws");
    assert_eq!(anonymous.authenticate("anon", "ignored").get("userId"), None);

    let (mut client, id) = connected(&server, "user-a");
    client.join(&["throw"]);
    client.join(&["deny-a", "b"]);
    client.send_json(&json!({"event": "rooms"}));
    let rooms = [id.as_str(), "ws-default", "ws-notification", "b"];
    let membership = json!({"rooms": rooms, "encrypted": false, "state": "authenticated"});
    assert_eq!(client.recv_json(), json!({"event": "rooms", "data": membership}));
    client.send_json(&json!({"event": "custom", "data": 1, "id": "kept"}));
    let handled = json!({"event": "custom", "data": 1, "id": "kept"});
    assert_eq!(client.recv_json(), json!({"event": "handled", "data": handled}));
}
