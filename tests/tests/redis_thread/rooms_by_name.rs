//! Rooms of Ignis by name (`redis.subscribe = "exact"`), and beside an instance that hears them by pattern.

use shardcast::config::{self, Subscribe};
use shardcast::redis::PublishOutcome;
use shardcast_tests::redis::RedisServer;
use shardcast_wire::ignis::envelope::Destination;

use crate::rig::{CLIENT, Instance, TOPICS, eventually};
use crate::{admin, run};

fn exact(config: &mut config::Redis) {
    config.subscribe = Subscribe::Exact;
}

fn room(name: &str) -> Destination<'_> {
    Destination::Room(name.into())
}

#[test]
fn an_instance_hears_only_the_rooms_it_has_members_of() {
    let redis = RedisServer::start();
    let instance = Instance::start_with("me", &redis.url(), exact).ready();
    let emitter = Instance::start("other", &redis.url()).ready();
    instance.listen(0, "ws:room:room", 1);
    assert_eq!(instance.next(0), "Confirmed 1 ws:room:room");
    for name in ["elsewhere", "room", "rooms", "Room"] {
        assert_eq!(emitter.publish_to(&room(name), name), PublishOutcome::Queued);
    }
    // Clients, users and everyone are reached as ever.
    emitter.publish("user");
    emitter.publish_to(&Destination::Client(CLIENT.into()), "client");
    emitter.publish_to(&Destination::Broadcast, "all");
    for expected in [r#"room room {"event":"room"}"#, r#"broadcast {"event":"all"}"#] {
        assert_eq!(instance.next(0), expected);
    }
    let here: Vec<String> = (0..4).map(|_| instance.next(1)).collect();
    let expected = ["room room", r#"user "u1""#, "direct 7", "broadcast"];
    assert!(here.iter().zip(expected).all(|(letter, start)| letter.starts_with(start)), "{here:?}");
    assert_eq!(instance.count(|c| &c.redis_received), 4);
    assert_eq!(run::<u64>(&mut admin(&redis), "PUBSUB NUMPAT"), 3, "both hear clients and users, one rooms");
}

#[test]
fn own_rooms_are_channels_of_client_ids() {
    let redis = RedisServer::start();
    let instance = Instance::start_with("me", &redis.url(), exact).ready();
    let emitter = Instance::start("other", &redis.url()).ready();
    instance.listen(1, &format!("ws:room:{CLIENT}"), 1);
    instance.next(1);
    emitter.publish_to(&room(CLIENT), "own");
    assert_eq!(instance.next(1), format!(r#"room {CLIENT}+7 {{"event":"own"}}"#));
}

/// An operator may have let clients name Ignis' channels: then a topic and a room may be one channel.
#[test]
fn a_channel_that_is_a_room_and_a_topic_reaches_each_once() {
    let redis = RedisServer::start();
    let message = br#"{"serverId":"other","type":"room","target":"room","event":"x"}"#;
    let topic = format!(
        r#"room ws:room:room {{"action":"message","topic":"ws:room:room","snapshot":{}}}"#,
        std::str::from_utf8(message).expect("text")
    );
    for (id, deliveries, change) in
        [("patterns", 2, (|_: &mut _| {}) as fn(&mut config::Redis)), ("exact", 1, exact)]
    {
        let mut instance = Instance::start_with(id, &redis.url(), change).ready();
        instance.listen(1, "ws:room:room", 1);
        instance.next(1);
        instance.room_up(TOPICS, 1, "ws:room:room");
        assert_eq!(redis.publish("ws:room:room", message), deliveries, "{id}");
        assert_eq!(instance.next(0), r#"room room {"event":"x"}"#, "{id}");
        let mut told = [instance.next(1), instance.next(1)];
        told.sort();
        assert_eq!(told, [r#"room room {"event":"x"}"#.to_owned(), topic.clone()], "{id}");
        // The end of a topic takes nothing from Ignis.
        instance.listen(0, "ws:broadcast", 2);
        instance.next(0);
        instance.unlisten(0, "ws:broadcast");
        eventually("let go", || !instance.upstream.is_confirmed("ws:broadcast"));
        assert_eq!(
            redis.publish("ws:broadcast", br#"{"serverId":"other","type":"broadcast","event":"y"}"#),
            1,
            "{id}"
        );
        assert_eq!(instance.next(0), r#"broadcast {"event":"y"}"#, "{id}");
        assert_eq!((instance.waiting(0), instance.waiting(1).len()), (Vec::new(), 1), "{id}");
        instance.stop();
        eventually("gone", || run::<u64>(&mut admin(&redis), "PUBSUB NUMPAT") == 0);
    }
}
