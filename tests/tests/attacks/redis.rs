//! 68 to 72: whoever reaches Redis can publish anything, and it is never more than data; and Redis itself comes and goes.

use std::time::{Duration, Instant};

use serde_json::json;
use shardcast_tests::client::Client;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{PATIENCE, TestServer, config, one_shard, with_redis};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, text};
use crate::siege::Siege;

/// A publish command that a name without escaping would turn into a second command.
const INJECTION: &str = "x\r\n*3\r\n$7\r\nPUBLISH\r\n$12\r\nws:broadcast\r\n$64\r\n\
                         {\"serverId\":\"evil\",\"type\":\"broadcast\",\"event\":\"pwned\",\"data\":1}\r\n";

fn member(server: &TestServer, room: &str) -> Client {
    let (mut client, _) = server.client("member");
    client.send_json(&json!({"event": "join", "data": {"rooms": [room]}}));
    client.settle();
    client
}

#[test]
fn attack_68_names_and_payloads_with_crlf_stay_names_and_payloads() {
    let redis = RedisServer::start();
    let mut arena = Arena::with(with_redis(one_shard(), &redis.url()));
    let other = TestServer::start(&with_redis(config(), &redis.url()));
    other.wait_until_ready();
    arena.server.wait_until_ready();
    let mark = other.meter().mark();
    for name in [INJECTION, "x\r\n+OK\r\n", "$-1\r\n", "\r\n", "x\0y"] {
        arena.attack(&format!("68 room {name:?}"), &[], |arena| {
            let mut there = member(&other, name);
            let elsewhere = member(&other, "elsewhere");
            arena.server.emit(Destination::Room(name.into()), name, &json!(name).to_string());
            arena.server.emit(Destination::User("\"member\"".into()), "marker", "0");
            let marker = text(r#"{"event":"marker","data":0}"#);
            let escaped = json!(name).to_string();
            assert_eq!(there.recv(), text(&format!(r#"{{"event":{escaped},"data":{escaped}}}"#)));
            for mut client in [there, elsewhere] {
                assert_eq!(client.recv(), marker);
                client.settle();
                assert_eq!(client.take_pending(), [], "room {name:?}");
            }
            assert_eq!(redis.publish("still:alive", b""), 0, "Redis still speaks RESP");
        });
    }
    arena.attack("68 channels", &[("redis_malformed", 1)], |_| {
        for channel in ["ws:room:\r\n", INJECTION] {
            redis.publish(channel, INJECTION.as_bytes());
        }
        other.wait_until("one of them came on a channel of ours", |counts| counts.of("redis_malformed") == 1);
    });
    arena.end();
    Cost::USUAL.computing(2).expect("68 the other", other.meter().since(&mark));
    other.stop();
}

/// Messages that are not Ignis', each malformed in its own way.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let body = |members: &str| format!("{{{members}}}").into_bytes();
    let deep = "[".repeat(100_000);
    vec![
        ("empty", Vec::new()),
        ("binary", (0..=255).collect()),
        ("not JSON", b"hello".to_vec()),
        ("half a message", br#"{"serverId":"a","type":"broadcast""#.to_vec()),
        ("an array", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("deep", deep.clone().into_bytes()),
        ("deep data", body(&format!(r#""serverId":"a","type":"broadcast","event":"e","data":{deep}"#))),
        ("trailing junk", br#"{"serverId":"a","type":"broadcast","event":"e","data":1}x"#.to_vec()),
        ("bad UTF-8", [&br#"{"serverId":"a","type":"broadcast","event":""#[..], b"\xff\"}"].concat()),
        ("a BOM", "\u{feff}{}".as_bytes().to_vec()),
        ("no serverId", body(r#""type":"broadcast","event":"e","data":1"#)),
        ("numeric serverId", body(r#""serverId":1,"type":"broadcast","event":"e","data":1"#)),
        ("no event", body(r#""serverId":"a","type":"broadcast","data":1"#)),
        ("object as event", body(r#""serverId":"a","type":"broadcast","event":{},"data":1"#)),
        ("no type", body(r#""serverId":"a","event":"e","data":1"#)),
        ("unknown type", body(r#""serverId":"a","type":"eval","target":"x","event":"e","data":1"#)),
        ("room without target", body(r#""serverId":"a","type":"room","event":"e","data":1"#)),
        ("client with an empty target", body(r#""serverId":"a","type":"client","target":"","event":"e"}"#)),
        ("17 MiB", vec![b' '; 17 << 20]),
        ("a million exclusions", {
            let ids = r#""x","#.repeat(1_000_000);
            body(&format!(r#""serverId":"a","type":"broadcast","event":"e","exclude":[{ids}"x"]"#))
        }),
    ]
}

#[test]
fn attack_69_and_70_malformed_messages_are_counted_and_the_next_good_one_arrives() {
    let redis = RedisServer::start();
    let mut arena = Arena::with(with_redis(one_shard(), &redis.url()));
    arena.server.wait_until_ready();
    for (number, (label, message)) in malformed().into_iter().enumerate() {
        // The library that speaks to Redis holds a message while it comes in, twice while it makes room.
        let cost = Cost::USUAL.holding((1 << 20) + 4 * message.len()).computing(2);
        arena.attack_for(cost, &format!("69 {label}"), &[("redis_malformed", 1)], |arena| {
            let mut client = member(&arena.server, "good");
            assert_eq!(redis.publish("ws:broadcast", &message), 1, "{label}");
            let good =
                json!({"serverId": "s", "type": "room", "target": "good", "event": "e", "data": number});
            redis.publish("ws:room:good", good.to_string().as_bytes());
            assert_eq!(client.recv(), text(&format!(r#"{{"event":"e","data":{number}}}"#)), "{label}");
            client.leave();
        });
    }
    arena.end();
}

/// Whatever the channel and the fields say, a message does no more than a message can do.
#[test]
fn attack_69_foreign_but_well_formed_messages_are_only_data() {
    let redis = RedisServer::start();
    let mut arena = Arena::with(with_redis(one_shard(), &redis.url()));
    arena.server.wait_until_ready();
    let own = arena.server.engine().server_id().to_owned();
    let message = |server_id: &str, kind: &str, target: &str, event: &str| {
        json!({"serverId": server_id, "type": kind, "target": target, "event": event, "data": null})
            .to_string()
    };
    let reaching_nobody = [
        ("ws:broadcast", message(&own, "room", "good", "own")),
        ("ws:room:good", message("a", "room", "bad", "channel is not looked at")),
        ("ws:client:x", message("a", "client", "not-an-id", "nobody")),
        ("ws:client:x", message("a", "client", "00000000-0000-4000-8000-000000000000", "nobody")),
        ("ws:user:x", message("a", "user", "nobody", "nobody")),
        ("ws:room:x", message("a", "room", &"x".repeat(1 << 20), "a long name")),
        ("ws:roomy", message("a", "room", "good", "no channel of ours")),
        ("shardcast:canary:x", message("a", "room", "good", "no channel of ours")),
    ];
    // One of them is of a megabyte.
    arena.attack_for(Cost::USUAL.holding(8 << 20), "69", &[], |arena| {
        let mut client = member(&arena.server, "good");
        for (channel, message) in &reaching_nobody {
            redis.publish(channel, message.as_bytes());
        }
        // Reserved names are names: nobody is authenticated, disconnected or joined by them.
        for event in ["connected", "disconnect", "error", "authenticate", "join"] {
            redis.publish("ws:room:good", message("a", "room", "good", event).as_bytes());
            assert_eq!(client.recv(), text(&format!(r#"{{"event":"{event}","data":null}}"#)));
        }
        client.settle();
        assert_eq!(client.take_pending(), []);
        client.leave();
    });
    arena.end();
}

/// A deployment that knows nothing of ours and shares its Redis: each hears the other's messages once, its own not
/// again, and a flood of one costs the other no more than hearing it.
#[test]
fn attack_71_two_deployments_on_one_redis_hear_each_other_once() {
    const FLOOD: usize = 2_000;
    let redis = RedisServer::start();
    let mut arena = Arena::with(with_redis(one_shard(), &redis.url()));
    let other = TestServer::start(&with_redis(config(), &redis.url()));
    other.wait_until_ready();
    arena.server.wait_until_ready();
    let mark = other.meter().mark();
    let cost = Cost::USUAL.holding(8 << 20).computing(4);
    arena.attack_for(cost, "71", &[], |arena| {
        let (mut here, mut there) = (member(&arena.server, "shared"), member(&other, "shared"));
        for number in 0..FLOOD {
            other.emit(Destination::Room("shared".into()), "theirs", &number.to_string());
        }
        arena.server.emit(Destination::Room("shared".into()), "ours", "1");
        let mut ours = 0;
        for (client, name) in [(&mut here, "here"), (&mut there, "there")] {
            let mut next = 0;
            for _ in 0..=FLOOD {
                let message = client.recv();
                if message == text(r#"{"event":"ours","data":1}"#) {
                    ours += 1;
                } else {
                    assert_eq!(message, text(&format!(r#"{{"event":"theirs","data":{next}}}"#)), "{name}");
                    next += 1;
                }
            }
        }
        assert_eq!(ours, 2, "each heard it once");
        for mut client in [here, there] {
            client.settle();
            assert_eq!(client.take_pending(), []);
            client.leave();
        }
    });
    arena.end();
    assert_eq!(other.counts().of("redis_malformed"), 0);
    Cost::USUAL.holding(8 << 20).computing(4).expect("71 the other", other.meter().since(&mark));
    other.stop();
}

fn wait_for_link(siege: &mut Siege, ready: u64) {
    let deadline = Instant::now() + PATIENCE;
    while siege.metric("shardcast_redis_ready") != ready {
        assert!(Instant::now() < deadline, "the link does not become {ready}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whatever becomes of Redis, those who are connected here hear from here, and the link comes back by itself.
#[test]
fn attack_72_redis_that_dies_kicks_and_refuses_is_told_and_costs_nobody_here() {
    let mut redis = RedisServer::start();
    let mut siege = Siege::start(&format!(
        "[redis]\nurl = \"{}\"\ncanary_interval = \"200ms\"\nreconnect_delay_max = \"200ms\"\n",
        redis.url()
    ));
    wait_for_link(&mut siege, 1);
    let cost = Cost::USUAL.holding(8 << 20).computing(6);
    // How much goes out while the link is away is the bystander's pace.
    let away = [("redis_local_only", 0..=u64::MAX), ("redis_publish_failed", 0..=u64::MAX)];
    let gaps = |count: u64| [&away[..], &[("redis_gaps", 1..=count)]].concat();
    siege.attack("72 killed and restarted", cost, &gaps(2), |siege| {
        redis.kill();
        wait_for_link(siege, 0);
        siege.is_well();
        redis.restart();
        wait_for_link(siege, 1);
    });
    siege.attack("72 kicked", cost, &gaps(2), |siege| {
        let generation = siege.metric("shardcast_redis_generation");
        assert_eq!(redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1");
        let deadline = Instant::now() + PATIENCE;
        while siege.metric("shardcast_redis_generation") == generation {
            assert!(Instant::now() < deadline, "no new subscription");
        }
        wait_for_link(siege, 1);
    });
    siege.attack("72 a replica", cost, &gaps(4), |siege| {
        redis.command(&["REPLICAOF", "127.0.0.1", "1"]);
        for kind in ["pubsub", "normal"] {
            redis.command(&["CLIENT", "KILL", "TYPE", kind]);
        }
        wait_for_link(siege, 0);
        siege.is_well();
        assert_eq!(redis.command(&["REPLICAOF", "NO", "ONE"]), "+OK");
        wait_for_link(siege, 1);
    });
    siege.end();
}
