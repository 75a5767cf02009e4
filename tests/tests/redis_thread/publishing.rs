//! What goes out to Redis, from an instance and from the emitter.

use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;
use shardcast::redis::PublishOutcome;
use shardcast_emitter::{EmitError, Emitter, Message, Receipt, Target};
use shardcast_tests::redis::RedisServer;
use shardcast_wire::ignis::Destination;
use shardcast_wire::json;

use crate::rig::{Instance, eventually};
use crate::{admin, run};

#[test]
fn attack_68_names_and_payloads_cannot_become_commands() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    let evil = "x\r\n*3\r\n$3\r\nSET\r\n$5\r\nowned\r\n$1\r\n1\r\n \0\"\\{}*?[a]";
    for destination in [
        Destination::Room(evil.into()),
        Destination::Client(evil.into()),
        Destination::User(serde_json::to_string(evil).expect("JSON").into()),
    ] {
        assert_eq!(first.publish_to(&destination, evil), PublishOutcome::Queued);
    }
    assert_eq!(first.publish(evil), PublishOutcome::Queued);
    assert_eq!(second.next(1), format!(r#"user "u1" {{"event":{}}}"#, json::quote(evil)));
    assert_eq!(second.count(|c| &c.redis_received), 4);
    assert_eq!(second.count(|c| &c.redis_malformed), 0);
    assert_eq!(run::<Option<String>>(&mut admin(&redis), "GET owned"), None);
}

#[test]
fn a_full_queue_keeps_messages_here_and_counts_them() {
    let redis = RedisServer::start();
    let sender = Instance::start_with("sender", &redis.url(), |config| config.publish_queue_max = 4).ready();
    let receiver = Instance::start("receiver", &redis.url()).ready();
    run::<()>(&mut admin(&redis), "CLIENT PAUSE 300 ALL");
    // What is in flight is not in the queue, and its size depends on the scheduler.
    let outcomes: Vec<_> = (0..2_000).map(|number| sender.publish(&number.to_string())).collect();
    let queued: Vec<usize> =
        (0..2_000).filter(|&number| outcomes[number] == PublishOutcome::Queued).collect();
    assert!(outcomes.contains(&PublishOutcome::LocalOnly));
    assert_eq!(sender.count(|c| &c.redis_local_only), (2_000 - queued.len()) as u64);
    for number in queued {
        assert_eq!(receiver.next(1), format!(r#"user "u1" {{"event":"{number}"}}"#));
    }
    assert_eq!(sender.count(|c| &c.redis_publish_failed), 0);
}

#[test]
fn a_stop_sends_what_is_queued_and_says_goodbye() {
    let redis = RedisServer::start();
    let mut sender = Instance::start("sender", &redis.url()).ready();
    let receiver = Instance::start("receiver", &redis.url()).ready();
    for number in 0..5_000 {
        assert_eq!(sender.publish(&number.to_string()), PublishOutcome::Queued);
    }
    sender.stop();
    for number in 0..5_000 {
        assert_eq!(receiver.next(1), format!(r#"user "u1" {{"event":"{number}"}}"#));
    }
    assert_eq!(sender.count(|c| &c.redis_publish_failed), 0);
    assert_eq!(sender.publish("late"), PublishOutcome::LocalOnly);
    let mut admin = admin(&redis);
    eventually("unsubscribed", || run::<(String, u64)>(&mut admin, "PUBSUB NUMSUB ws:broadcast").1 == 1);
}

/// The messages that the real Ignis emitter was recorded to publish, as channel and text.
fn recorded() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ignis/emitter.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let published = lines.filter(|line| line["data"]["kind"] == "pmessage");
    let field = |line: &Value, name: &str| line["data"][name].as_str().expect("a string").to_owned();
    published.map(|line| (field(&line, "channel"), field(&line, "raw"))).collect()
}

/// The same message for our emitter, with `data` as it was written.
fn as_message(raw: &str) -> Message {
    let wanted = ["type", "target", "event", "data", "exclude"];
    let members = json::members(raw, wanted).expect("JSON").expect("an object");
    let [kind, target, event, data, exclude] = members;
    let text = |raw: &str| json::unescape(raw).expect("a string").into_owned();
    let target = match (text(kind.expect("a type")).as_str(), target.map(text)) {
        ("broadcast", None) => Target::Broadcast,
        ("room", Some(name)) => Target::room(name),
        ("user", Some(id)) => Target::user(id),
        ("client", Some(id)) => Target::client(id),
        other => panic!("not a destination: {other:?}"),
    };
    let mut message = Message::new(target, text(event.expect("an event")));
    if let Some(data) = data {
        message = message.with_raw_data(RawValue::from_string(data.to_owned()).expect("JSON"));
    }
    match exclude {
        Some(clients) => message.excluding(json::elements(clients).map(text)),
        None => message,
    }
}

#[test]
fn the_emitter_publishes_what_ignis_was_recorded_to_publish() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 10, "the recording has ten messages");
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    let mut listener = admin.as_pubsub();
    listener.psubscribe("*").expect("subscribed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let emitter = Emitter::redis(&redis.url()).expect("a good address");
    let messages: Vec<Message> = recorded.iter().map(|(_, raw)| as_message(raw)).collect();
    runtime.block_on(async {
        let (first, rest) = messages.split_first().expect("ten messages");
        assert_eq!(emitter.emit(first).await.expect("published"), Receipt::Redis { servers: 1 });
        let receipts = emitter.emit_many(rest).await.expect("published");
        assert_eq!(receipts, [Receipt::Redis { servers: 1 }; 9]);
    });
    for expected in recorded {
        let message = listener.get_message().expect("a message");
        let found = (message.get_channel_name().to_owned(), message.get_payload::<String>().expect("text"));
        assert_eq!(found, expected);
    }
}

#[test]
fn what_the_emitter_sends_arrives_and_it_survives_a_restart_of_redis() {
    let mut redis = RedisServer::start();
    let instance = Instance::start("me", &redis.url()).ready();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let emitter = Emitter::redis(&redis.url()).expect("a good address");
    let message = |event: &str| Message::new(Target::user("u1"), event);
    runtime.block_on(emitter.emit(&message("before"))).expect("published");
    assert_eq!(instance.next(1), r#"user "u1" {"event":"before"}"#);
    redis.kill();
    let away = runtime.block_on(emitter.emit(&message("away")));
    assert!(matches!(away, Err(EmitError::Transport(_))), "{away:?}");
    redis.restart();
    eventually("back", || instance.redis.status().ready);
    runtime.block_on(emitter.emit(&message("after"))).expect("published");
    assert_eq!(instance.next(1), r#"user "u1" {"event":"after"}"#, "nothing is sent twice or late");
}

#[test]
fn the_emitter_says_what_redis_refuses_without_the_password() {
    let redis = RedisServer::start();
    run::<()>(&mut admin(&redis), "CONFIG SET requirepass hunter2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let emit = |url: &str| {
        let emitter = Emitter::redis(url).expect("a good address");
        runtime.block_on(emitter.emit(&Message::new(Target::Broadcast, "x")))
    };
    let refused = emit(&redis.url());
    assert!(matches!(refused, Err(EmitError::Redis(_))), "{refused:?}");
    let wrong = emit(&format!("redis://:swordfish@{}", redis.address()));
    assert!(matches!(wrong, Err(EmitError::Redis(_))), "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("swordfish"));
    emit(&format!("redis://:hunter2@{}", redis.address())).expect("published");
}
