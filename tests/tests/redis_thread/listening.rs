//! Channels that are listened to by name, from the first wish to the last unsubscribe.

use std::time::{Duration, Instant};

use shardcast::redis::PublishOutcome;
use shardcast_shard::{Listening, ShardId};
use shardcast_tests::redis::RedisServer;

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
