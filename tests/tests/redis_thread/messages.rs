//! What arrives from Redis and what is made of it (`ignis.md` §11). The rules for one message are a table beside
//! `redis/inbound.rs`; here they are seen through a real Redis.

use shardcast_tests::redis::RedisServer;

use crate::rig::{CLIENT, Instance, eventually};

const OTHER: &str = r#"{"serverId":"other","#;

#[test]
fn each_channel_reaches_whom_the_body_names() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    let x = r#"{"event":"x"}"#;
    let client = format!("ws:client:{CLIENT}");
    for (channel, rest, shards) in [
        ("ws:broadcast", r#""type":"broadcast","event":"x"}"#.to_owned(), ["broadcast", "broadcast"]),
        (
            "ws:room:room",
            r#""type":"room","target":"room","event":"x"}"#.to_owned(),
            ["room room", "room room"],
        ),
        ("ws:user:u1", r#""type":"user","target":"u1","event":"x"}"#.to_owned(), ["", r#"user "u1""#]),
        ("ws:user:42", r#""type":"user","target":42,"event":"x"}"#.to_owned(), ["", "user 42"]),
        (&client, format!(r#""type":"client","target":"{CLIENT}","event":"x"}}"#), ["", "direct 7"]),
        // The name of the channel is not looked at.
        ("ws:room:", r#""type":"broadcast","event":"x"}"#.to_owned(), ["broadcast", "broadcast"]),
        (
            "ws:client:*?[x]\r\n",
            r#""type":"user","target":"u1","event":"x"}"#.to_owned(),
            ["", r#"user "u1""#],
        ),
        (
            "ws:broadcast",
            format!(r#""type":"broadcast","event":"x","exclude":["{CLIENT}","nobody"]}}"#),
            ["broadcast -7", "broadcast -7"],
        ),
    ] {
        assert_eq!(redis.publish(channel, format!("{OTHER}{rest}").as_bytes()), 1, "{channel}");
        for (shard, expected) in shards.iter().enumerate().filter(|(_, expected)| !expected.is_empty()) {
            assert_eq!(instance.next(shard), format!("{expected} {x}"), "{channel} {rest}");
        }
    }
    assert_eq!(instance.waiting(0), [""; 0]);
    assert_eq!(instance.waiting(1), [""; 0]);
}

#[test]
fn channels_that_look_alike_are_not_read() {
    let redis = RedisServer::start();
    let _instance = Instance::start("me", &redis.url()).ready();
    for channel in
        ["ws:broadcastx", "ws:other:1", "WS:broadcast", "pfx:ws:broadcast", "ws:room", "shardcast:canary:x"]
    {
        assert_eq!(redis.publish(channel, b"{}"), 0, "{channel}");
    }
}

#[test]
fn own_messages_are_skipped_and_only_those() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for (id, event) in [("me", "own"), ("ME", "case"), ("emitter", "emitter"), ("", "empty")] {
        let message = format!(r#"{{"serverId":"{id}","type":"user","target":"u1","event":"{event}"}}"#);
        redis.publish("ws:user:u1", message.as_bytes());
    }
    for event in ["case", "emitter", "empty"] {
        assert_eq!(instance.next(1), format!(r#"user "u1" {{"event":"{event}"}}"#));
    }
    assert_eq!(instance.count(|c| &c.redis_received), 4);
    assert_eq!(instance.count(|c| &c.redis_own), 1);
    assert_eq!(instance.count(|c| &c.redis_malformed), 0);
}

#[test]
fn attack_70_poison_and_a_large_message_leave_the_loop_alive() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    let nested = format!(r#"{OTHER}"type":"broadcast","event":"x","data":{}}}"#, "[".repeat(1 << 20));
    let poison: Vec<&[u8]> = vec![
        b"",
        b"\0",
        b"null",
        b"hello",
        b"\xff\xfe",
        b"{\"serverId\":",
        nested.as_bytes(),
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for message in &poison {
        for channel in ["ws:broadcast", "ws:room:x", "ws:user:x", "ws:client:x"] {
            redis.publish(channel, message);
        }
    }
    let data = "x".repeat(1 << 20);
    let large = format!(r#"{OTHER}"type":"user","target":"u1","event":"large","data":"{data}"}}"#);
    redis.publish("ws:user:u1", large.as_bytes());
    assert_eq!(instance.next(1), format!(r#"user "u1" {{"event":"large","data":"{data}"}}"#));
    assert_eq!(instance.waiting(0), [""; 0]);
    assert_eq!(instance.count(|c| &c.redis_malformed), 4 * poison.len() as u64);
    let status = instance.redis.status();
    assert_eq!((status.connected, status.generation), (true, 0), "nothing broke");
}

#[test]
fn attack_69_the_canary_channel_takes_only_our_canaries() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for forged in ["18446744073709551615", "-1", "", r#"{"serverId":"o","type":"broadcast","event":"x"}"#] {
        assert_eq!(redis.publish("shardcast:canary:me", forged.as_bytes()), 1);
    }
    redis.publish("ws:user:u1", format!(r#"{OTHER}"type":"user","target":"u1","event":"good"}}"#).as_bytes());
    assert_eq!(instance.next(1), r#"user "u1" {"event":"good"}"#);
    assert_eq!(instance.waiting(0), [""; 0]);
    assert_eq!(instance.count(|c| &c.redis_received), 1, "canaries are no messages");
    assert!(instance.redis.status().canary_rtt.is_some());
}

#[test]
fn attack_71_two_deployments_on_one_redis_hear_each_other_once() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    first.publish("from-first");
    second.publish("from-second");
    assert_eq!(first.next(1), r#"user "u1" {"event":"from-second"}"#);
    assert_eq!(second.next(1), r#"user "u1" {"event":"from-first"}"#);
    for instance in [&first, &second] {
        eventually("both received", || instance.count(|c| &c.redis_received) == 2);
        assert_eq!(instance.count(|c| &c.redis_own), 1);
        assert_eq!(instance.waiting(1), [""; 0]);
    }
}

#[test]
fn a_flood_arrives_whole_and_in_order() {
    const COUNT: usize = 50_000;
    let redis = RedisServer::start();
    let sender = Instance::start("sender", &redis.url()).ready();
    let receiver = Instance::start("receiver", &redis.url()).ready();
    for number in 0..COUNT {
        sender.publish(&number.to_string());
    }
    assert_eq!(sender.count(|c| &c.redis_published), COUNT as u64, "the queue is long enough");
    for number in 0..COUNT {
        assert_eq!(receiver.next(1), format!(r#"user "u1" {{"event":"{number}"}}"#));
    }
    assert_eq!(sender.count(|c| &c.redis_publish_failed), 0);
}
