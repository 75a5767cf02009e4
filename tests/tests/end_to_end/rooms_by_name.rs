//! Rooms of Ignis by name, from a client's join to Redis and back: `redis.subscribe = "exact"`.

use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::{Config, Subscribe};
use shardcast_shard::{Mail, MountId, ShardId};
use shardcast_tests::client::Client;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{TestServer, config, with_redis};
use shardcast_wire::ignis::{ClientId, Destination};

const PATIENCE: Duration = Duration::from_secs(20);

/// The room of everyone.
const EVERYONE: &str = "ws:internal:broadcast";

fn exact(redis: &RedisServer) -> Config {
    let mut config = with_redis(config(), &redis.url());
    config.redis.subscribe = Subscribe::Exact;
    config.redis.unsubscribe_linger = Duration::from_millis(200);
    config.mounts[0].default_rooms = Vec::new();
    config
}

fn start(config: &Config) -> TestServer {
    let server = TestServer::start(config);
    server.wait_until_ready();
    server
}

fn join(client: &mut Client, room: &str) {
    client.send_json(&json!({"event": "join", "data": {"rooms": [room]}}));
    client.settle();
}

/// The rooms that somebody subscribed by name, in order.
fn rooms(redis: &RedisServer) -> Vec<String> {
    let client = redis::Client::open(redis.url()).expect("a good address");
    let mut conn = client.get_connection().expect("Redis takes connections");
    let mut channels: Vec<String> =
        redis::cmd("PUBSUB").arg("CHANNELS").arg("ws:room:*").query(&mut conn).expect("an answer");
    channels.sort();
    channels
}

#[track_caller]
fn wait_for_rooms(redis: &RedisServer, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|room| format!("ws:room:{room}")).collect();
    expected.sort();
    let deadline = Instant::now() + PATIENCE;
    while rooms(redis) != expected {
        assert!(Instant::now() < deadline, "{:?}, not {expected:?}", rooms(redis));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_instance_hears_the_rooms_of_its_clients_and_no_others() {
    let redis = RedisServer::start();
    let by_name = start(&exact(&redis));
    let by_pattern = start(&with_redis(config(), &redis.url()));
    let (mut client, id) = by_name.client("u");
    let (mut other, other_id) = by_pattern.client("v");
    join(&mut client, "news");
    join(&mut other, "news");
    wait_for_rooms(&redis, &["news", &id, EVERYONE]);
    let before = by_name.counts().of("redis_received");
    for number in 0..50 {
        by_pattern.emit(Destination::Room(format!("elsewhere-{number}").into()), "no", "null");
    }
    by_pattern.emit(Destination::Room("news".into()), "room", "1");
    by_pattern.emit(Destination::Room(id.as_str().into()), "own", "2");
    by_pattern.emit(Destination::Client(id.as_str().into()), "client", "3");
    for name in ["room", "own", "client"] {
        assert_eq!(client.recv_json()["event"], name);
    }
    assert_eq!(by_name.counts().of("redis_received") - before, 3);
    // And the other way.
    by_name.emit(Destination::Room("news".into()), "back", "4");
    by_name.emit(Destination::Room(other_id.as_str().into()), "own", "5");
    for name in ["room", "back", "own"] {
        assert_eq!(other.recv_json()["event"], name);
    }
    // Its own comes back and is skipped.
    assert_eq!(client.recv_json()["event"], "back");
    client.settle();
    assert_eq!(client.take_pending(), []);
    client.reset();
    wait_for_rooms(&redis, &[]);
    while by_name.engine().upstream().figures().channels > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn what_the_clients_of_a_shard_that_panicked_wanted_is_unsubscribed() {
    let redis = RedisServer::start();
    let server = start(&exact(&redis));
    let mut clients: Vec<(Client, String, ShardId)> = Vec::new();
    while ![ShardId(0), ShardId(1)].iter().all(|shard| clients.iter().any(|(_, _, on)| on == shard)) {
        let (mut client, id) = server.client("u");
        let known = ClientId::parse(&id).and_then(|id| server.engine().router().directory().client(id));
        let at = known.expect("it is connected").1;
        join(&mut client, &format!("room-{}", at.shard.0));
        clients.push((client, id, at.shard));
    }
    let names = |shards: &[u8]| -> Vec<String> {
        let here = clients.iter().filter(|(_, _, on)| shards.contains(&on.0));
        let own = here.map(|(_, id, _)| id.clone());
        let rooms = shards.iter().map(|shard| format!("room-{shard}"));
        own.chain(rooms).chain([EVERYONE.to_owned()]).collect()
    };
    let expect = |names: &[String]| {
        wait_for_rooms(&redis, &names.iter().map(String::as_str).collect::<Vec<_>>());
    };
    expect(&names(&[0, 1]));
    // A letter that no sender of ours writes: its mount does not exist, which is an assertion in the shard.
    let (room, frame) = ("x".into(), bytes::Bytes::new().into());
    let poison = Mail::Room { mount: MountId(200), room, own: None, frame, exclude: None };
    assert!(server.engine().router().shard(ShardId(1)).post(poison));
    server.wait_until("the shard restarted", |counts| counts.of("shards_restarted") == 1);
    expect(&names(&[0]));
}
