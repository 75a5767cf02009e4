//! 69, 70, 72 and 73 for topics: what comes from Redis is only data, and what happens to Redis happens to no client.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use serde_json::json;
use shardcast_tests::binary::wait_for;
use shardcast_tests::conformance::LONG_VARIABLE;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::topic::{SUBSCRIBED, TopicClient, mount};

use crate::arena::{Arena, Cost};
use crate::topic::{arena, calls, frames, subscriber};

const MIB: usize = 1 << 20;

fn nested(depth: usize) -> String {
    ["[".repeat(depth), "]".repeat(depth)].concat()
}

/// A payload and its snapshot; `None` when it is dropped.
fn payloads() -> Vec<(&'static str, Vec<u8>, Option<String>)> {
    let verbatim = |label, text: &str| (label, text.as_bytes().to_vec(), Some(text.to_owned()));
    let quoted = |label, text: &str| (label, text.as_bytes().to_vec(), Some(json!(text).to_string()));
    vec![
        quoted("empty", ""),
        quoted("not JSON", "hello"),
        quoted("half a message", r#"{"serverId":"a","type":"broadcast""#),
        quoted("trailing junk", r#"{"a":1}x"#),
        quoted("a BOM", "\u{feff}{}"),
        quoted("the end of our own frame", r#"1}{"action":"session""#),
        quoted("two values", r#"1,"x":2"#),
        verbatim("an Ignis message", r#"{"serverId":"a","type":"broadcast","event":"pwned","data":1}"#),
        verbatim("one of our messages", r#"{"action":"session","message":"session unauthorized"}"#),
        verbatim("names twice", r#"{"a":1,"a":2,"__proto__":{"x":1}}"#),
        verbatim("numbers beyond", "[1e999,-1e999,12345678901234567890123456789012345678901234567890]"),
        verbatim("lone surrogates", r#""\ud800\udfff\u0000""#),
        verbatim("as deep as may be", &nested(128)),
        quoted("deeper", &nested(129)),
        quoted("much deeper", &nested(100_000)),
        quoted("open brackets", &"[".repeat(100_000)),
        ("bytes", (0..=255).collect(), Some(base64(&(0..=255).collect::<Vec<u8>>()))),
        ("half a character", b"\"\xf0\x9f\"".to_vec(), Some(base64(b"\"\xf0\x9f\""))),
        ("an overlong slash", b"\xc0\xaf".to_vec(), Some(base64(b"\xc0\xaf"))),
        verbatim("a megabyte", &format!("\"{}\"", "x".repeat(MIB - 2))),
        ("a megabyte and a byte", vec![b'1'; MIB + 1], None),
        ("17 MiB", vec![b' '; 17 * MIB], None),
    ]
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    json!({"base64": base64::engine::general_purpose::STANDARD.encode(bytes)}).to_string()
}

#[test]
fn attack_69_and_70_whatever_is_published_is_only_data_and_the_next_one_arrives() {
    let (redis, mut arena) = arena(|config| mount(config).outbox_bytes_max = 16 * MIB);
    for (number, (label, payload, snapshot)) in payloads().into_iter().enumerate() {
        let dropped = [("topic_dropped_size", 1)];
        let expected = if snapshot.is_none() { &dropped[..] } else { &[] };
        let cost = Cost::USUAL.holding(2 * MIB + 4 * payload.len()).computing(2);
        arena.attack_for(cost, &format!("70 {label}"), expected, |arena| {
            let mut client = subscriber(arena, &["good"]);
            assert_eq!(redis.publish("good", &payload), 1, "{label}");
            redis.publish("good", number.to_string().as_bytes());
            snapshot.into_iter().for_each(|snapshot| client.expect_message("good", &snapshot));
            client.expect_message("good", &number.to_string());
            client.leave();
        });
    }
    redis.wait_for_channels(&[]);
    arena.end();
}

/// A message that nobody waits for any more, on a channel that lingers.
#[test]
fn attack_69_messages_for_nobody_are_nothing() {
    let (redis, mut arena) = arena(|_| {});
    arena.attack("69", &[], |arena| {
        let mut client = subscriber(arena, &["stays", "goes"]);
        client.unsubscribe("goes");
        for _ in 0..100 {
            redis.publish("goes", b"1");
        }
        redis.publish("stays", b"2");
        client.expect_message("stays", "2");
        client.leave();
    });
    arena.end();
}

/// Everybody stays, and after each failure what is published arrives exactly once.
fn survive(label: &str, fail: impl FnOnce(&mut RedisServer, &Arena)) {
    let (mut redis, arena) = arena(|_| {});
    let mut clients: Vec<_> = (0..4).map(|_| subscriber(&arena, &["chat", "other"])).collect();
    fail(&mut redis, &arena);
    redis.wait_for_channels(&["chat", "other"]);
    arena.server.wait_until_ready();
    assert_eq!(redis.publish("chat", b"\"after\""), 1, "{label}");
    for client in &mut clients {
        client.expect_message("chat", "\"after\"");
    }
    for mut client in clients {
        client.subscribe("new");
        assert_eq!(redis.publish("new", b"1"), 1, "{label}");
        client.expect_message("new", "1");
        client.leave();
    }
    let counts = arena.server.counts();
    assert!(counts.of("redis_gaps") >= 1 && counts.of("redis_resubscribes") >= 2, "{label}: {counts:?}");
    redis.wait_for_channels(&[]);
    arena.end_for(Cost::USUAL.holding(16 * MIB).computing(5));
}

fn wait_until_missed(arena: &Arena) {
    let redis = arena.server.engine().redis().expect("a link");
    wait_for("Redis to be missed", || (!redis.status().connected).then_some(()));
}

#[test]
fn attack_72_topics_outlive_a_restart_whose_first_dials_are_refused() {
    survive("restart", |redis, arena| {
        redis.kill();
        wait_until_missed(arena);
        wait_for("a refused dial", || arena.server.engine().redis()?.status().last_error.map(drop));
        redis.restart();
    });
}

#[test]
fn attack_72_topics_outlive_an_operator_who_kills_the_subscriber() {
    survive("kill", |redis, arena| {
        for round in 1..=3 {
            assert_eq!(redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1");
            arena.server.wait_until("the gap", |counts| counts.of("redis_gaps") == round);
            redis.wait_for_channels(&["chat", "other"]);
        }
    });
}

#[test]
fn attack_72_topics_outlive_a_full_output_buffer() {
    survive("output buffer", |redis, arena| {
        redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0"]);
        redis.publish("chat", &vec![b'x'; 4 * MIB]);
        arena.server.wait_until("the gap", |counts| counts.of("redis_gaps") == 1);
    });
}

/// A Redis that loads its data answers every command with an error.
#[test]
fn attack_72_topics_outlive_a_redis_that_is_loading() {
    survive("loading", |redis, arena| {
        redis.kill();
        wait_until_missed(arena);
        let loading = TcpListener::bind(redis.address()).expect("the port that Redis had");
        for _ in 0..3 {
            let (mut socket, _) = loading.accept().expect("a dial");
            let mut command = [0; 1_024];
            // The other side may hang up, which is as good.
            while let Ok(1..) = socket.read(&mut command) {
                let answer = b"-LOADING Redis is loading the dataset in memory\r\n";
                if socket.write_all(answer).is_err() {
                    break;
                }
            }
        }
        drop(loading);
        redis.restart();
    });
}

/// Everything is subscribed again in batches, while messages of this instance go on.
#[test]
fn attack_73_a_hundred_thousand_topics_are_subscribed_again_in_batches() {
    const PER_CLIENT: usize = 1_000;
    const BATCH: u64 = 512;
    let topics = if std::env::var_os(LONG_VARIABLE).is_some() { 100_000 } else { 20_000 };
    let (mut redis, mut arena) = arena(|_| {});
    let mut clients: Vec<_> = (0..topics / PER_CLIENT)
        .map(|number| {
            let mut client = subscriber(&arena, &[]);
            let requests: Vec<_> = (0..PER_CLIENT)
                .map(|topic| ("subscribe", format!("topic-{}", number * PER_CLIENT + topic)))
                .collect();
            let bytes = frames(&client, &requests);
            client.client().send_raw(&bytes).expect("sending");
            (0..PER_CLIENT).for_each(|_| client.expect(SUBSCRIBED));
            client
        })
        .collect();
    assert_eq!(redis.channels().len(), topics);
    let begun = Instant::now();
    redis.kill();
    wait_until_missed(&arena);
    redis.restart();
    arena.is_well();
    wait_for("all topics", || (redis.channels().len() == topics).then_some(()));
    eprintln!("{topics} topics subscribed again after {:?}", begun.elapsed());
    let batches = calls(&redis, "subscribe");
    // Those of the channels of our own come on top.
    assert!(batches <= topics as u64 / BATCH + 10, "{batches} commands for {topics} topics");
    let resubscribed =
        arena.server.wait_until("counted", |counts| counts.of("redis_resubscribes") >= topics as u64);
    assert_eq!(resubscribed.of("redis_gaps"), 1);
    arena.is_well();
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let redis = &redis;
            scope.spawn(move || {
                for topic in [number * PER_CLIENT, number * PER_CLIENT + PER_CLIENT - 1] {
                    let topic = format!("topic-{topic}");
                    assert_eq!(redis.publish(&topic, b"1"), 1, "{topic}");
                    client.expect_message(&topic, "1");
                }
            });
        }
    });
    clients.into_iter().for_each(TopicClient::leave);
    redis.wait_for_channels(&[]);
    // 630 bytes and 160 µs a topic were measured, from its subscription to its end, in a debug build.
    let cost = Cost::USUAL.holding(topics * 1_024 + 4 * MIB).computing(5 + topics as u64 / 2_000);
    arena.end_for(cost);
}
