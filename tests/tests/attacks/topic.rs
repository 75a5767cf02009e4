//! 59, 61 to 63 and 68 for topics: names that are not what they seem, subscriptions without measure, and what Redis is
//! made to do by them.

use serde_json::json;
use shardcast::config::Config;
use shardcast_tests::client::{Client, masked_frame, opcode};
use shardcast_tests::http::Http;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{TestServer, one_shard, with_redis};
use shardcast_tests::topic::{
    AUTHENTICATED, SUBSCRIBED, TOPICS, TopicClient, UNAUTHORIZED, UNSUBSCRIBED, token, with_tokens,
    with_topics,
};

use crate::arena::{Arena, Cost};

/// A publish command that a name without escaping would turn into a second command.
const INJECTION: &str = "x\r\n*3\r\n$7\r\nPUBLISH\r\n$4\r\nchat\r\n$5\r\npwned\r\n";

/// An arena with a topic mount, tokens and a Redis of its own.
pub(crate) fn arena(change: impl FnOnce(&mut Config)) -> (RedisServer, Arena) {
    let redis = RedisServer::start();
    let mut config = with_redis(with_tokens(with_topics(one_shard())), &redis.url());
    change(&mut config);
    let server = TestServer::start(&config);
    server.wait_until_ready();
    (redis, Arena::of(server))
}

pub(crate) fn stranger(arena: &Arena) -> TopicClient {
    TopicClient::connect(arena.server.address())
}

pub(crate) fn subscriber(arena: &Arena, topics: &[&str]) -> TopicClient {
    let mut client = stranger(arena);
    client.authorize(&token("u1"));
    topics.iter().for_each(|topic| client.subscribe(topic));
    client
}

/// Requests of a client as bytes of one write.
pub(crate) fn frames(client: &TopicClient, requests: &[(&str, String)]) -> Vec<u8> {
    let frame = |(action, context): &(&str, String)| {
        masked_frame(0x80 | opcode::TEXT, client.request(action, context).as_bytes())
    };
    requests.iter().flat_map(frame).collect()
}

/// Names that some store, pattern or header would take for others.
fn strange_names() -> Vec<String> {
    let mut names: Vec<_> = [
        "a",
        "A",
        "*",
        "?",
        "[ab]",
        "[a]",
        "a*",
        "{a}",
        "{a,b}",
        "a:b",
        ":a",
        "a:",
        "a::b",
        "WS:x",
        " ws:x",
        "ws-x",
        "ws",
        "_",
        "_x",
        "caf\u{e9}",
        "cafe\u{301}",
        "K",
        "\u{212a}",
        " ",
        "\u{feff}a",
        "\"",
        "\\",
        "\\u0061",
        "\\n",
        "$1",
        "../a",
        "#",
        "%00",
        "a_b",
        "room:a",
        "*:*",
        "constructor",
        "\u{202e}a",
        "\u{1f4a5}",
        "$3",
        "*1",
        "+OK",
        "-ERR",
        ":1",
        "SUBSCRIBE",
        "a b",
        "a,b",
        "null",
        "0",
    ]
    .map(str::to_owned)
    .into();
    names.extend(["x".repeat(199), "x".repeat(200), "\u{1f4a5}".repeat(50)]);
    names
}

#[test]
fn attack_59_a_topic_is_its_exact_name_and_no_other() {
    let names = strange_names();
    let (redis, mut arena) = arena(|_| {});
    arena.attack("59", &[], |arena| {
        let mut clients: Vec<_> = names.iter().map(|name| subscriber(arena, &[name])).collect();
        let mut sorted: Vec<_> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        assert_eq!(redis.channels(), sorted);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(redis.publish(name, number.to_string().as_bytes()), 1, "topic {name:?}");
        }
        for (number, (client, name)) in clients.iter_mut().zip(&names).enumerate() {
            client.expect_message(name, &number.to_string());
        }
        clients.into_iter().for_each(TopicClient::leave);
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_59_and_68_what_is_no_name_ends_its_client_and_reaches_no_redis() {
    let (redis, mut arena) = arena(|_| {});
    let mut names: Vec<_> =
        ["a\0b", "\0", "a\r\nb", "a\nb", "\t", "a\u{7f}", "a\u{85}", INJECTION, "$-1\r\n"]
            .map(str::to_owned)
            .into();
    names.extend(["x".repeat(201), "\u{1f4a5}".repeat(50) + "x", "x".repeat(60_000)]);
    for name in &names {
        let label: String = name.chars().take(9).collect();
        arena.attack(&format!("59 {label:?}"), &[("topics_refused", 1)], |arena| {
            let mut client = subscriber(arena, &["good"]);
            // Nobody is in it.
            client.unsubscribe(name);
            client.send("subscribe", name);
            client.expect(UNAUTHORIZED);
            client.expect_end();
        });
    }
    arena.attack("59 64 KB", &[("violations.message_too_big", 1)], |arena| {
        let mut client = subscriber(arena, &["good"]);
        client.send("subscribe", &"x".repeat(64 << 10));
        client.expect_end();
    });
    redis.wait_for_channels(&[]);
    assert_eq!(redis.publish("still:alive", b""), 0, "Redis still speaks RESP");
    arena.end();
}

#[test]
fn attack_61_channels_that_are_not_for_clients_are_nobodys_topics() {
    let (redis, mut arena) = arena(|_| {});
    for name in [
        "ws:room:bystanders",
        "ws:room:x",
        "ws:broadcast",
        "ws:user:bystander",
        "ws:client:x",
        "ws:",
        "__keyspace@0__:key",
        "__keyevent@0__:set",
        "__sentinel__:hello",
        "__",
        "shardcast:canary:x",
        "shardcast:",
    ] {
        arena.attack(&format!("61 {name}"), &[("topics_refused", 1)], |arena| {
            let mut client = subscriber(arena, &["good"]);
            client.send("subscribe", name);
            client.expect(UNAUTHORIZED);
            client.expect_end();
        });
    }
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_62_topics_beyond_the_limit_are_refused_and_the_rest_works() {
    let (redis, mut arena) = arena(|config| config.limits.rooms_per_connection_max = 50);
    arena.attack("62", &[("joins_refused_limit", 50)], |arena| {
        let mut client = subscriber(arena, &[]);
        let requests: Vec<_> = (0..100).map(|number| ("subscribe", format!("t{number}"))).collect();
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        (0..50).for_each(|_| client.expect(SUBSCRIBED));
        (0..50).for_each(|_| client.expect(UNAUTHORIZED));
        assert_eq!(redis.channels().len(), 50);
        for number in 0..100 {
            redis.publish(&format!("t{number}"), number.to_string().as_bytes());
        }
        (0..50).for_each(|number| client.expect_message(&format!("t{number}"), &number.to_string()));
        client.leave();
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

/// How often Redis was told to do so.
pub(crate) fn calls(redis: &RedisServer, command: &str) -> u64 {
    let page: String =
        redis::cmd("INFO").arg("commandstats").query(&mut redis.connection()).expect("Redis counts commands");
    let line = format!("cmdstat_{command}:calls=");
    let found = page.lines().find_map(|text| text.strip_prefix(&line)?.split(',').next()?.parse().ok());
    found.unwrap_or(0)
}

#[test]
fn attack_62_twenty_thousand_subscriptions_at_full_speed_leave_redis_calm() {
    const TOPICS_COUNT: usize = 100;
    let (redis, mut arena) = arena(|_| {});
    let before = ["subscribe", "unsubscribe"].map(|command| calls(&redis, command));
    arena.attack_for(Cost::USUAL.computing(4), "62", &[], |arena| {
        let mut client = subscriber(arena, &[]);
        let requests: Vec<_> = (0..TOPICS_COUNT)
            .flat_map(|number| ["subscribe", "unsubscribe"].map(|action| (action, format!("t{number}"))))
            .collect();
        let bytes = frames(&client, &requests);
        for _ in 0..100 {
            client.client().send_raw(&bytes).expect("sending");
            for _ in 0..TOPICS_COUNT {
                client.expect(SUBSCRIBED);
                client.expect(UNSUBSCRIBED);
            }
        }
        client.leave();
    });
    redis.wait_for_channels(&[]);
    let after = ["subscribe", "unsubscribe"].map(|command| calls(&redis, command));
    for (before, after) in before.into_iter().zip(after) {
        // A channel lingers, so it is subscribed again only when the machine was so slow that it had been left.
        assert!(after - before <= 10 * TOPICS_COUNT as u64, "{before} and then {after} commands");
    }
    arena.end();
}

/// Requests without waiting for answers, from one who does not read them either.
#[test]
fn attack_62_a_flood_of_requests_is_answered_or_cut_off() {
    let (redis, mut arena) = arena(|_| {});
    arena.attack_for(Cost::USUAL.holding(2 << 20).computing(4), "62", &[], |arena| {
        let mut client = subscriber(arena, &["t"]);
        let requests: Vec<_> =
            (0..20_000).map(|number| (["subscribe", "unsubscribe"][number % 2], "t".to_owned())).collect();
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        for _ in 0..10_000 {
            client.expect(SUBSCRIBED);
            client.expect(UNSUBSCRIBED);
        }
        client.leave();
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_63_subscriptions_racing_disconnects_leave_nothing_behind() {
    const ROUNDS: u64 = 2_000;
    let (redis, mut arena) = arena(|_| {});
    let good = token("u1");
    arena.attack_for(Cost::USUAL.computing(15), "63", &[("hang_ups", ROUNDS)], |arena| {
        for round in 0..ROUNDS {
            let mut client = TopicClient::of(Client::connect(arena.server.address(), TOPICS));
            let mut requests = vec![("authorization", good.clone())];
            requests.extend((0..20).map(|number| ("subscribe", format!("race-{}", (round + number) % 40))));
            requests.extend((0..5).map(|number| ("unsubscribe", format!("race-{}", (round + number) % 40))));
            let bytes = frames(&client, &requests);
            client.client().send_raw(&bytes).expect("sending");
            match round % 4 {
                0 => client.client().finish(),
                1 => {
                    client.reset();
                    continue;
                }
                2 => client.expect(AUTHENTICATED),
                // Closed with data of the server unread, which resets the connection.
                _ => {}
            }
        }
    });
    redis.wait_for_channels(&[]);
    let mut client = subscriber(&arena, &["race-1"]);
    assert_eq!(redis.publish("race-1", b"1"), 1);
    client.expect_message("race-1", "1");
    client.leave();
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_68_payloads_and_published_names_stay_what_they_are() {
    let (redis, mut arena) = arena(|config| config.auth.dev = true);
    for payload in [INJECTION, "x\r\n+OK\r\n", "$-1\r\n", "\r\n", "x\0y", "*1\r\n$4\r\nPING\r\n"] {
        arena.attack(&format!("68 {payload:?}"), &[], |arena| {
            let mut client = stranger(arena);
            client.subscribe("chat");
            client.subscribe("elsewhere");
            redis.publish("chat", payload.as_bytes());
            let snapshot = json!(payload).to_string();
            client.expect_message("chat", &snapshot);
            // By the API, through our own connection to Redis.
            let mut api = Http::connect(arena.server.address());
            api.emit(&json!({"type": "topic", "target": "chat", "data": payload}));
            client.expect_message("chat", &snapshot);
            client.leave();
        });
    }
    let mut client = stranger(&arena);
    client.subscribe("chat");
    let mut api = Http::connect(arena.server.address());
    for target in [INJECTION, "a\0b", "$-1\r\n", "ws:broadcast"] {
        api.emit(&json!({"type": "topic", "target": target, "data": {"event": "pwned"}}));
    }
    let answer = api.request("POST", "/api/emit", "", r#"{"type":"topic","target":"","data":1}"#);
    assert_eq!(answer.status, 400, "{answer:?}");
    api.emit(&json!({"type": "topic", "target": "chat", "data": "after"}));
    client.expect_message("chat", "\"after\"");
    client.expect_nothing();
    client.leave();
    assert_eq!(redis.publish("still:alive", b""), 0, "Redis still speaks RESP");
    arena.end();
}
