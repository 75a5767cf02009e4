//! Topics beside Ignis on one server and one Redis, and topics without any Redis.

use serde_json::json;
use shardcast::config::Subscribe;
use shardcast_tests::client::Client;
use shardcast_tests::http::Http;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{TestServer, config, with_redis};
use shardcast_tests::topic::{TopicClient, UNAUTHORIZED, with_topics};
use shardcast_wire::ignis::Destination;

fn member(server: &TestServer, rooms: &[&str]) -> (Client, String) {
    let (mut client, id) = server.client("u1");
    client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    client.settle();
    (client, id)
}

fn subscriber(server: &TestServer, topics: &[&str]) -> TopicClient {
    let mut client = TopicClient::connect(server.address());
    topics.iter().for_each(|topic| client.subscribe(topic));
    client
}

#[track_caller]
fn expect_event(client: &mut Client, data: u64) {
    let text = format!(r#"{{"event":"e","data":{data}}}"#);
    assert_eq!(client.recv(), shardcast_tests::client::Received::Text(text));
}

/// Rooms and topics of the same names, messages to each of them, to users, clients and everybody: two servers, each
/// with clients of both dialects.
fn stay_apart(subscribe: Subscribe) {
    let redis = RedisServer::start();
    let mut config = with_redis(with_topics(config()), &redis.url());
    config.redis.subscribe = subscribe;
    let servers = [(); 2].map(|()| TestServer::start(&config));
    servers.iter().for_each(TestServer::wait_until_ready);
    let names = ["chat", "room:chat", "broadcast", "ws-default", "*"];
    let mut members: Vec<_> = servers.iter().map(|server| member(server, &names)).collect();
    let mut subscribers: Vec<_> = servers.iter().map(|server| subscriber(server, &names)).collect();
    // Where rooms are subscribed by name, that may take a moment.
    if subscribe == Subscribe::Exact {
        shardcast_tests::binary::wait_for("the rooms to be subscribed", || {
            let channels = redis.channels();
            names.iter().all(|name| channels.contains(&format!("ws:room:{name}"))).then_some(())
        });
    }
    for name in names {
        servers[0].emit(Destination::Room(name.into()), "e", "1");
        members.iter_mut().for_each(|(member, _)| expect_event(member, 1));
        redis.publish(name, b"2");
        subscribers.iter_mut().for_each(|subscriber| subscriber.expect_message(name, "2"));
    }
    let (_, id) = &members[1];
    servers[0].emit(Destination::Client(id.as_str().into()), "e", "3");
    servers[0].emit(Destination::User(r#""u1""#.into()), "e", "4");
    servers[0].emit(Destination::Broadcast, "e", "5");
    for (number, (member, _)) in members.iter_mut().enumerate() {
        (3 + u64::from(number == 0)..=5).for_each(|data| expect_event(member, data));
        member.settle();
        assert_eq!(member.take_pending(), []);
    }
    redis.publish("chat", b"6");
    for subscriber in &mut subscribers {
        subscriber.expect_message("chat", "6");
        subscriber.expect_nothing();
    }
    // Nobody listens in on the other dialect, or on ours.
    for topic in ["ws:room:chat", "ws:broadcast", "ws:user:u1", "shardcast:canary:x", "__keyevent@0__:set"] {
        let mut spy = subscriber(&servers[0], &["chat"]);
        spy.send("subscribe", topic);
        spy.expect(UNAUTHORIZED);
        spy.expect_end();
    }
    members.into_iter().for_each(|(member, _)| member.leave());
    subscribers.into_iter().for_each(TopicClient::leave);
    servers.iter().for_each(|server| server.expect_empty("after both"));
    redis.wait_for_channels(&[]);
    for server in servers {
        let counts = server.counts();
        assert_eq!(counts.of("redis_malformed") + counts.of("redis_gaps"), 0, "{counts:?}");
        server.stop();
    }
}

#[test]
fn rooms_and_topics_of_one_name_stay_apart_with_patterns() {
    stay_apart(Subscribe::Patterns);
}

#[test]
fn rooms_and_topics_of_one_name_stay_apart_by_name() {
    stay_apart(Subscribe::Exact);
}

fn emit(api: &mut Http, topic: &str, data: &serde_json::Value) {
    let answer = api.emit(&json!({"type": "topic", "target": topic, "data": data}));
    assert_eq!(answer["accepted"], 1, "{answer}");
}

/// The engine is the broker where there is no other.
#[test]
fn without_redis_the_api_publishes_to_topics() {
    let server = TestServer::start(&with_topics(config()));
    let mut clients: Vec<_> = (0..6).map(|_| subscriber(&server, &["chat"])).collect();
    let (mut member, _) = member(&server, &["chat"]);
    let mut api = Http::connect(server.address());
    emit(&mut api, "nobody's", &json!(1));
    emit(&mut api, "chat", &json!({"info": "Hello"}));
    emit(&mut api, "chat", &json!("text"));
    emit(&mut api, "chat", &json!(null));
    for mut client in clients.drain(..) {
        client.expect_message("chat", r#"{"info":"Hello"}"#);
        client.expect_message("chat", "\"text\"");
        client.expect_message("chat", "null");
        client.leave();
    }
    member.settle();
    assert_eq!(member.take_pending(), []);
    member.leave();
    server.expect_empty("without Redis");
}

/// Through Redis and back: everybody gets it once, in this process and in others.
#[test]
fn with_redis_the_api_publishes_to_topics_of_all_instances_once() {
    let mut redis = RedisServer::start();
    let config = with_redis(with_topics(config()), &redis.url());
    let servers = [(); 2].map(|()| TestServer::start(&config));
    servers.iter().for_each(TestServer::wait_until_ready);
    let mut clients: Vec<_> = (0..8).map(|number| subscriber(&servers[number % 2], &["chat"])).collect();
    let mut api = Http::connect(servers[0].address());
    emit(&mut api, "chat", &json!({"n": 1}));
    emit(&mut api, "chat", &json!({"n": 2}));
    for client in &mut clients {
        client.expect_message("chat", r#"{"n":1}"#);
        client.expect_message("chat", r#"{"n":2}"#);
        client.expect_nothing();
    }
    // Without it the publisher's own clients still get theirs.
    redis.kill();
    let link = servers[0].engine().redis().expect("a link");
    shardcast_tests::binary::wait_for("Redis to be missed", || (!link.status().connected).then_some(()));
    emit(&mut api, "chat", &json!(3));
    for (number, mut client) in clients.into_iter().enumerate() {
        if number % 2 == 0 {
            client.expect_message("chat", "3");
        }
        client.leave();
    }
}
