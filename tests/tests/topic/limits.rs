//! Bounds of one client and of the process, and what a client is told beyond them.

use shardcast::config::{Auth, Config, Effect, RoomTemplate, Rule};
use shardcast_tests::binary::wait_for;
use shardcast_tests::server::config;
use shardcast_tests::topic::{Rig, SUBSCRIBED, UNAUTHORIZED, mount, token};

#[test]
fn a_client_has_so_many_topics_and_may_exchange_them() {
    let rig = Rig::start_with(config(), |config| config.limits.rooms_per_connection_max = 3);
    let before = rig.server.counts();
    let mut client = rig.subscriber(&["a", "b", "c"]);
    for _ in 0..2 {
        client.send("subscribe", "d");
        client.expect(UNAUTHORIZED);
    }
    client.subscribe("a");
    assert_eq!(rig.redis.channels(), ["a", "b", "c"]);
    client.unsubscribe("b");
    client.subscribe("d");
    for topic in ["a", "b", "c", "d"] {
        rig.redis.publish(topic, b"1");
    }
    for topic in ["a", "c", "d"] {
        client.expect_message(topic, "1");
    }
    client.leave();
    rig.server.expect_incidents("topics", &before, &[("joins_refused_limit", 2)]);
}

#[test]
fn a_client_may_fail_so_often() {
    let rig = Rig::start_with(config(), |config| mount(config).auth_failures_max = 2);
    let mut client = rig.stranger();
    client.authorize_in_vain("x");
    client.authorize_in_vain("y");
    client.authorize(&token("u1"));
    client.send("authorization", "z");
    client.expect(UNAUTHORIZED);
    client.expect_end();
    let mut client = rig.stranger();
    client.authorize_in_vain("x");
    client.authorize_in_vain("y");
    client.authorize(&token("u1"));
    client.subscribe("chat");
    client.leave();
    rig.server.expect_empty("after all");
}

#[test]
fn the_process_has_so_many_channels_and_frees_them() {
    let rig = Rig::start_with(config(), |config| config.redis.channels_max = 2);
    let mut client = rig.subscriber(&["a", "b"]);
    let mut other = rig.client("u2");
    other.send("subscribe", "c");
    other.expect(UNAUTHORIZED);
    other.subscribe("a");
    rig.redis.publish("a", b"1");
    client.expect_message("a", "1");
    other.expect_message("a", "1");
    client.unsubscribe("b");
    // Redis lets go of it before we know.
    let upstream = rig.server.engine().upstream();
    wait_for("a free place", || (upstream.figures().channels == 1).then_some(()));
    other.subscribe("c");
    rig.redis.publish("c", b"2");
    other.expect_message("c", "2");
    client.leave();
    other.leave();
    rig.redis.wait_for_channels(&[]);
}

fn rule(rooms: &[&str], effect: Effect) -> Rule {
    let rooms = rooms.iter().map(|room| RoomTemplate::new(room).expect("a template")).collect();
    Rule { rooms, effect, ..Rule::default() }
}

fn with_rules(config: &mut Config) {
    let Auth { rules, .. } = &mut config.auth;
    rules.push(rule(&["user:{user}"], Effect::Allow));
    rules.push(rule(&["user:*", "secret"], Effect::Deny));
}

#[test]
fn topics_are_allowed_by_the_rules_of_rooms() {
    let rig = Rig::start_with(config(), with_rules);
    let mut client = rig.subscriber(&["user:u1", "anything"]);
    for topic in ["user:u2", "user:", "secret"] {
        client.send("subscribe", topic);
        client.expect(UNAUTHORIZED);
    }
    assert_eq!(rig.redis.channels(), ["anything", "user:u1"]);
    client.subscribe("secret2");
    client.leave();
    rig.server.wait_until("refusals are counted", |counts| counts.of("joins_refused_policy") == 3);
}

#[test]
fn what_no_rule_speaks_of_is_as_the_mount_says() {
    let rig = Rig::start_with(config(), |config| {
        with_rules(config);
        mount(config).unlisted_rooms = Effect::Deny;
    });
    let mut client = rig.subscriber(&["user:u1"]);
    client.send("subscribe", "anything");
    client.expect(UNAUTHORIZED);
    client.send("subscribe", "user:u1");
    client.expect(SUBSCRIBED);
    client.leave();
}
