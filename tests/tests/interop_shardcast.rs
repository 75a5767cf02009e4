//! Shardcast beside the real Ignis: its emitter, and one server of each kind on one Redis.
//!
//! Needs `npm ci` in `tests/interop`.

use serde_json::{Value, json};
use shardcast_tests::binary::wait_for;
use shardcast_tests::bun::{IgnisEmitter, IgnisServer};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{TestServer, config, with_redis};
use shardcast_wire::ignis::Destination;

fn start(redis: &RedisServer) -> TestServer {
    let server = TestServer::start(&with_redis(config(), &redis.url()));
    wait_for("the canary", || server.engine().redis().is_some_and(|link| link.status().ready).then_some(()));
    server
}

fn text(event: &str, data: &Value) -> Received {
    Received::Text(format!(r#"{{"event":"{event}","data":{data}}}"#))
}

/// Every client hears exactly these events next, in this order.
fn expect(clients: &mut [&mut Client], events: &[&str]) {
    for (index, client) in clients.iter_mut().enumerate() {
        for event in events {
            assert_eq!(client.recv(), text(event, &json!({"n": 1})), "client {index}");
        }
    }
}

#[test]
fn the_real_emitter_reaches_clients_on_every_shard() {
    let redis = RedisServer::start();
    let server = start(&redis);
    let mut emitter = IgnisEmitter::start(&redis);
    let [(mut a, a_id), (mut b, _)] = server.clients_on_two_shards();
    let (mut c, _) = server.client("user-c");
    for client in [&mut a, &mut b] {
        client.join(&["room-a"]);
    }

    let data = json!({"n": 1});
    emitter.request(json!({"op": "toRoom", "room": "room-a", "event": "room", "data": data}));
    emitter.request(
        json!({"op": "toRoom", "room": "room-a", "event": "not-a", "data": data, "exclude": [a_id]}),
    );
    emitter.request(json!({"op": "toUser", "userId": "user-c", "event": "user", "data": data}));
    emitter.request(json!({"op": "toClient", "clientId": a_id, "event": "client", "data": data}));
    emitter.request(json!({"op": "broadcast", "event": "all", "data": data}));

    expect(&mut [&mut a], &["room", "client", "all"]);
    expect(&mut [&mut b], &["room", "not-a", "all"]);
    expect(&mut [&mut c], &["user", "all"]);
}

#[test]
fn a_send_on_either_of_a_mixed_pair_reaches_clients_of_both_exactly_once() {
    let redis = RedisServer::start();
    let server = start(&redis);
    let mut ignis = IgnisServer::start(&redis, &json!({}));
    let (mut ours, our_id) = server.client("user-1");
    let mut theirs = Client::connect(ignis.address(), "/ws");
    let their_id = theirs.authenticate("ok", "user-1")["id"].as_str().expect("a client id").to_owned();
    ours.join(&["room-a"]);
    theirs.join(&["room-a"]);

    let data = json!({"n": 1});
    let mut send = |destination: Value, topic: &str| {
        let payload = json!({"topic": topic, "data": data});
        ignis.request(json!({"op": "send", "destination": destination, "payload": payload}));
    };
    // Each event is awaited on both sides before the next, so that a second copy would be heard in its place.
    send(json!("room-a"), "their-room");
    expect(&mut [&mut ours, &mut theirs], &["their-room"]);
    send(Value::Null, "their-all");
    expect(&mut [&mut ours, &mut theirs], &["their-all"]);
    send(json!(our_id), "their-client");
    expect(&mut [&mut ours], &["their-client"]);

    let number = data.to_string();
    server.emit(Destination::Room("room-a".into()), "our-room", &number);
    expect(&mut [&mut ours, &mut theirs], &["our-room"]);
    server.emit(Destination::Broadcast, "our-all", &number);
    expect(&mut [&mut ours, &mut theirs], &["our-all"]);
    server.emit(Destination::User("\"user-1\"".into()), "our-user", &number);
    expect(&mut [&mut ours, &mut theirs], &["our-user"]);
    server.emit(Destination::Client(their_id.into()), "our-client", &number);
    expect(&mut [&mut theirs], &["our-client"]);

    send(json!("room-a"), "their-last");
    expect(&mut [&mut ours, &mut theirs], &["their-last"]);
    server.emit(Destination::Room("room-a".into()), "our-last", &number);
    expect(&mut [&mut ours, &mut theirs], &["our-last"]);
}
