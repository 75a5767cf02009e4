//! Channels that are listened to by name, from the first wish to the last unsubscribe.

use std::time::{Duration, Instant};

use shardcast::redis::PublishOutcome;
use shardcast_shard::{Listening, ShardId};
use shardcast_tests::redis::RedisServer;

use crate::proxy::Proxy;
use crate::rig::{Instance, LINGER, TERSE, TOPICS, eventually};
use crate::{admin, run};

/// The channels that somebody subscribed by name, without canaries, in order.
fn subscribed(redis: &RedisServer) -> Vec<String> {
    let mut channels: Vec<String> = run(&mut admin(redis), "PUBSUB CHANNELS");
    channels.retain(|channel| !channel.starts_with("shardcast:canary:") && channel != "ws:broadcast");
    channels.sort();
    channels
}

#[test]
fn a_verdict_comes_once_redis_lists_the_channel_and_messages_follow_it() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    assert_eq!(instance.listen(0, "chat", 7), None);
    assert_eq!(instance.next(0), "Confirmed 7 chat");
    assert_eq!(subscribed(&redis), ["chat"]);
    assert!(instance.upstream.is_confirmed("chat") && !instance.upstream.is_confirmed("Chat"));
    instance.room_up(TOPICS, 0, "chat");
    assert_eq!(redis.publish("chat", br#"{"info":"x"}"#), 1);
    let message = r#"room chat {"action":"message","topic":"chat","snapshot":{"info":"x"}}"#;
    assert_eq!(instance.next(0), message);
    assert_eq!(instance.waiting(1), [""; 0], "a shard without members hears nothing");
}

#[test]
fn two_shards_are_one_subscribe() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    let before = subscribes(&redis);
    for conn in 0..10 {
        for shard in 0..2 {
            instance.listen(shard, "chat", conn);
        }
    }
    for shard in 0..2 {
        let told: Vec<String> = (0..10).map(|_| instance.next(shard)).collect();
        assert_eq!(told, (0..10).map(|conn| format!("Confirmed {conn} chat")).collect::<Vec<_>>());
        instance.room_up(TOPICS, shard as u8, "chat");
    }
    assert_eq!(subscribes(&redis) - before, 1);
    assert_eq!(redis.publish("chat", b"1"), 1);
    for shard in 0..2 {
        let message = r#"room chat {"action":"message","topic":"chat","snapshot":1}"#;
        assert_eq!(instance.next(shard), message);
    }
}

#[test]
fn what_nobody_wants_lingers_and_is_unsubscribed() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for channel in ["brief", "long"] {
        instance.listen(0, channel, 1);
        instance.next(0);
    }
    let (before, left_at) = (subscribes(&redis), Instant::now());
    instance.unlisten(0, "brief");
    instance.unlisten(0, "long");
    assert_eq!(instance.listen(1, "long", 1), Some(Listening::Confirmed));
    eventually("unsubscribed", || subscribed(&redis) == ["long"]);
    assert!(left_at.elapsed() >= LINGER);
    std::thread::sleep(LINGER);
    assert_eq!((subscribed(&redis), subscribes(&redis)), (vec!["long".to_owned()], before));
}

/// The end of a shard's run is what every abrupt end of its connections comes to at the latest.
#[test]
fn what_a_shard_wanted_that_is_gone_is_unsubscribed() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for index in 0..100 {
        instance.listen(0, &format!("c{index}"), 1);
        instance.next(0);
    }
    instance.listen(1, "c7", 1);
    instance.upstream.forget_shard(ShardId(0));
    eventually("unsubscribed", || subscribed(&redis) == ["c7"]);
    eventually("forgotten", || instance.upstream.figures().channels == 1);
}

/// Wishes that come and go faster than Redis answers end as they were last.
#[test]
fn a_listen_during_an_unsubscribe_ends_subscribed() {
    let redis = RedisServer::start();
    let no_linger = |config: &mut shardcast::config::Redis| config.unsubscribe_linger = Duration::ZERO;
    let instance = Instance::start_with("me", &redis.url(), no_linger).ready();
    let mut confirmed = 0;
    for conn in 0..2_000 {
        confirmed += usize::from(instance.listen(0, "chat", conn).is_none());
        instance.unlisten(0, "chat");
    }
    assert!(confirmed > 0);
    let waits = instance.listen(0, "chat", 9_999).is_none();
    if waits {
        while instance.next(0) != "Confirmed 9999 chat" {}
    }
    assert_eq!(subscribed(&redis), ["chat"]);
    instance.room_up(TOPICS, 0, "chat");
    assert_eq!(redis.publish("chat", b"1"), 1);
    while !instance.next(0).starts_with("room chat") {}
    instance.unlisten(0, "chat");
    eventually("unsubscribed", || subscribed(&redis).is_empty());
}

#[test]
fn attack_72_redis_killed_and_restarted_has_everything_again_and_nobody_waits_for_ever() {
    let mut redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for index in 0..1_500 {
        instance.listen(0, &format!("c{index}"), index);
        instance.room_up(TOPICS, 0, &format!("c{index}"));
    }
    (0..1_500).for_each(|_| assert!(instance.next(0).starts_with("Confirmed")));
    (1_000..1_500).for_each(|index| instance.unlisten(0, &format!("c{index}")));
    redis.kill();
    eventually("noticed", || !instance.redis.status().connected);
    assert_eq!(instance.listen(1, "meanwhile", 1), Some(Listening::LocalOnly));
    assert_eq!(instance.upstream.figures().confirmed, 0);
    redis.restart();
    eventually("subscribed again", || instance.upstream.figures().confirmed == 1_001);
    assert_eq!(subscribed(&redis).len(), 1_001);
    assert_eq!(instance.count(|c| &c.redis_resubscribes), 1_000);
    assert_eq!(instance.count(|c| &c.redis_listens_local_only), 1);
    redis.publish("c999", b"1");
    assert_eq!(instance.next(0), r#"room c999 {"action":"message","topic":"c999","snapshot":1}"#);
}

#[test]
fn who_waits_when_the_link_breaks_is_told() {
    let mut redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    run::<()>(&mut admin(&redis), "CLIENT PAUSE 60000 ALL");
    assert_eq!(instance.listen(0, "chat", 1), None);
    redis.kill();
    assert_eq!(instance.next(0), "LocalOnly 1 chat");
    redis.restart();
    eventually("subscribed", || instance.upstream.is_confirmed("chat"));
    assert_eq!(instance.waiting(0), [""; 0], "told once");
}

#[test]
fn redis_away_is_local_only_and_caught_up_with() {
    let mut redis = RedisServer::start();
    redis.kill();
    let instance = Instance::start("me", &redis.url());
    assert_eq!(instance.listen(0, "chat", 1), Some(Listening::LocalOnly));
    instance.room_up(TOPICS, 0, "chat");
    let emitted = instance.engine.publish_topic("chat", b"1");
    assert_eq!((emitted.redis, emitted.local.shards), (PublishOutcome::LocalOnly, 1));
    assert_eq!(instance.next(0), r#"room chat {"action":"message","topic":"chat","snapshot":1}"#);
    redis.restart();
    eventually("subscribed", || instance.upstream.is_confirmed("chat"));
    assert_eq!(subscribed(&redis), ["chat"]);
    let instance = instance.ready();
    let emitted = instance.engine.publish_topic("chat", b"2");
    assert_eq!((emitted.redis, emitted.local.shards), (PublishOutcome::Queued, 0), "Redis brings it back");
    assert_eq!(instance.next(0), r#"room chat {"action":"message","topic":"chat","snapshot":2}"#);
    instance.room_up(TOPICS, 1, "unheard");
    let emitted = instance.engine.publish_topic("unheard", b"3");
    assert_eq!((emitted.redis, emitted.local.shards), (PublishOutcome::Queued, 1), "nobody brings it back");
    assert_eq!(instance.next(1), r#"room unheard {"action":"message","topic":"unheard","snapshot":3}"#);
    assert_eq!((instance.waiting(0), instance.waiting(1)), (Vec::new(), Vec::new()));
}

#[test]
fn a_channel_that_the_acl_forbids_is_refused_and_harms_no_other() {
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    let ours = "&ws:broadcast &ws:room:* &ws:client:* &ws:user:* &shardcast:canary:* &open:*";
    run::<()>(&mut admin, &format!("ACL SETUSER app on >pw +@all resetchannels {ours}"));
    let instance = Instance::start("me", &format!("redis://app:pw@{}", redis.address())).ready();
    // In one batch, since the first is under way when the others come.
    for (conn, channel) in ["open:0", "open:1", "secret:1", "open:2", "secret:2"].into_iter().enumerate() {
        assert_eq!(instance.listen(0, channel, conn as u32), None);
    }
    let mut told: Vec<String> = (0..5).map(|_| instance.next(0)).collect();
    told.sort();
    let expected = [
        "Confirmed 0 open:0",
        "Confirmed 1 open:1",
        "Confirmed 3 open:2",
        "Refused 2 secret:1",
        "Refused 4 secret:2",
    ];
    assert_eq!(told, expected);
    assert_eq!(subscribed(&redis), ["open:0", "open:1", "open:2"]);
    assert_eq!(instance.listen(1, "secret:1", 9), Some(Listening::Refused));
    assert_eq!(instance.count(|c| &c.redis_subscribe_errors), 2);
    assert_eq!(instance.count(|c| &c.redis_listens_refused), 3);
    assert!(instance.redis.status().ready, "it is no trouble of the link");
    run::<()>(&mut admin, "ACL SETUSER app &secret:*");
    eventually("asked for again", || instance.upstream.is_confirmed("secret:1"));
    assert_eq!(instance.count(|c| &c.redis_gaps), 0);
}

#[test]
fn a_redis_that_does_not_unsubscribe_keeps_its_link() {
    let redis = RedisServer::start();
    let proxy = Proxy::replacing(redis.address(), ["UNSUBSCRIBE", "UNSUBSCRIBX"]);
    let instance = Instance::start("me", &proxy.url()).ready();
    for channel in ["a", "b", "c"] {
        instance.listen(0, channel, 1);
        instance.next(0);
        instance.unlisten(0, channel);
    }
    eventually("refused", || instance.count(|c| &c.redis_subscribe_errors) == 3);
    assert_eq!(instance.listen(0, "a", 2), Some(Listening::Confirmed));
    instance.room_up(TOPICS, 0, "a");
    redis.publish("a", b"1");
    assert_eq!(instance.next(0), r#"room a {"action":"message","topic":"a","snapshot":1}"#);
    let status = instance.redis.status();
    assert!(status.ready && status.last_error.is_none(), "{status:?}");
    assert_eq!(instance.count(|c| &c.redis_gaps), 0);
}

#[test]
fn over_channels_max_a_channel_is_refused() {
    let redis = RedisServer::start();
    let instance = Instance::start_with("me", &redis.url(), |config| config.channels_max = 2).ready();
    for channel in ["a", "b"] {
        instance.listen(0, channel, 1);
        instance.next(0);
    }
    assert_eq!(instance.listen(0, "c", 1), Some(Listening::Refused));
    instance.unlisten(0, "c");
    assert_eq!(subscribed(&redis), ["a", "b"]);
    assert_eq!(instance.count(|c| &c.redis_listens_refused), 1);
    instance.unlisten(0, "a");
    eventually("room", || instance.listen(0, "c", 2).is_none());
    assert_eq!(instance.next(0), "Confirmed 2 c");
}

#[test]
fn attack_68_names_are_literal_whatever_they_hold() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    let long = "x".repeat(64 << 10);
    let names = [
        "*",
        "c?at",
        "[a-z]*",
        "a b",
        "\"'\\",
        "a\r\nUNSUBSCRIBE\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "\0",
        "é\u{2028}",
        &long,
    ];
    for (conn, name) in names.iter().enumerate() {
        instance.listen(0, name, conn as u32);
        instance.room_up(TOPICS, 0, name);
    }
    let mut told: Vec<String> = names.iter().map(|_| instance.next(0)).collect();
    told.sort();
    let expected = names.iter().enumerate().map(|(conn, name)| format!("Confirmed {conn} {name}"));
    assert_eq!(told, expected.collect::<Vec<_>>());
    let mut expected: Vec<&str> = names.to_vec();
    expected.sort_unstable();
    assert_eq!(subscribed(&redis), expected);
    for other in ["chat", "coat", "z", "a", "UNSUBSCRIBE", "PING", &long[1..]] {
        assert_eq!(redis.publish(other, b"1"), 0, "{other}");
    }
    for name in names {
        assert_eq!(redis.publish(name, b"1"), 1, "{name}");
        assert!(instance.next(0).starts_with(&format!("room {name} ")), "{name}");
    }
    names.iter().for_each(|name| instance.unlisten(0, name));
    eventually("unsubscribed", || subscribed(&redis).is_empty());
    assert!(instance.redis.status().ready);
    assert_eq!(instance.count(|c| &c.redis_gaps), 0);
}

#[test]
fn attack_69_and_70_whatever_is_published_is_data() {
    let redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    for channel in ["t:chat", "chat"] {
        instance.listen(0, channel, 1);
        instance.next(0);
    }
    // The topic `t:chat` of one mount is `chat` of the other, and both are told.
    instance.room_up(TOPICS, 0, "t:chat");
    instance.room_up(TERSE, 1, "t:chat");
    let nested = "[".repeat(1 << 19);
    let huge = vec![b'x'; (1 << 20) + 1];
    for (payload, open, terse) in [
        (&b"plain text"[..], Some(r#""plain text""#), Some(r#""plain text""#)),
        (b"", Some(r#""""#), Some(r#""""#)),
        (br#"{"a":1"#, Some(r#""{\"a\":1""#), Some(r#""{\"a\":1""#)),
        (b"\xff\xfe", Some(r#"{"base64":"//4="}"#), None),
        (b"*1\r\n$4\r\nPING\r\n", Some(r#""*1\r\n$4\r\nPING\r\n""#), Some(r#""*1\r\n$4\r\nPING\r\n""#)),
        (nested.as_bytes(), None, None),
        (&huge, None, None),
    ] {
        assert_eq!(redis.publish("t:chat", payload), 1);
        for (shard, topic, snapshot) in [(0, "t:chat", open), (1, "chat", terse)] {
            let Some(snapshot) = snapshot else { continue };
            let message = format!(r#"{{"action":"message","topic":"{topic}","snapshot":{snapshot}}}"#);
            assert_eq!(instance.next(shard), format!("room t:chat {message}"));
        }
    }
    // Too deep for JSON, so it is text.
    assert_eq!(
        instance.next(0).len(),
        nested.len() + r#"room t:chat {"action":"message","topic":"t:chat","snapshot":""}"#.len()
    );
    eventually("received", || instance.count(|c| &c.topic_dropped_size) == 3);
    assert_eq!((instance.waiting(0), instance.waiting(1)), (Vec::new(), Vec::new()));
    assert_eq!(instance.count(|c| &c.topic_dropped_binary), 1);
    // A channel without members is heard and reaches nobody; nobody who is no member hears what is not his.
    redis.publish("chat", b"1");
    eventually("received", || instance.count(|c| &c.redis_received) == 8);
    assert_eq!((instance.waiting(0), instance.waiting(1)), (Vec::new(), Vec::new()));
    assert_eq!(instance.count(|c| &c.redis_malformed), 0);
}

#[test]
fn a_full_mailbox_delays_a_verdict_and_loses_none() {
    let redis = RedisServer::start();
    let instance = Instance::start_on("me", &redis.url(), None, 4, |_| {}).ready();
    let mut told = Vec::new();
    for conn in 0..50 {
        if let Some(outcome) = instance.listen(0, "chat", conn) {
            told.push(format!("{outcome:?} {conn} chat"));
        }
    }
    while told.len() < 50 {
        told.push(instance.next(0));
    }
    told.sort();
    let mut expected: Vec<String> = (0..50).map(|conn| format!("Confirmed {conn} chat")).collect();
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(instance.upstream.figures().waiting, 0);
}

#[test]
fn without_an_ignis_mount_nothing_of_ignis_is_subscribed() {
    let redis = RedisServer::start();
    let _instance = Instance::start_on("me", &redis.url(), None, 64, |_| {}).ready();
    let mut admin = admin(&redis);
    assert_eq!(run::<u64>(&mut admin, "PUBSUB NUMPAT"), 0);
    let channels: Vec<String> = run(&mut admin, "PUBSUB CHANNELS");
    assert!(channels.len() == 1 && channels[0].starts_with("shardcast:canary:"), "{channels:?}");
}

/// How many SUBSCRIBE commands Redis has carried out.
fn subscribes(redis: &RedisServer) -> u64 {
    let stats: String = run(&mut admin(redis), "INFO commandstats");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_subscribe:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).expect("a count")
}
