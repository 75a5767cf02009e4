//! 33, 62 and 64: clients that send more than they may.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;
use shardcast::config::{Config, Rate};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::{ECHO, WS, one_shard, with_echo};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, expect_close, text};

const TOLD: &str = r#"{"event":"error","data":{"message":"Rate limit exceeded"}}"#;

/// A rate so slow that a test sees nothing of it but the burst.
fn burst(burst: usize) -> Option<Rate> {
    Some(Rate { amount: 1, period: Duration::from_secs(60), burst: Some(burst) })
}

fn limited(limit: impl FnOnce(&mut Config)) -> Arena {
    let mut config = with_echo(one_shard());
    config.rates.refusals_max = 1_000_000;
    limit(&mut config);
    Arena::with(config)
}

/// From another address than the bystander's, which is not limited.
fn stranger(arena: &Arena, host: u8, path: &str) -> Client {
    let mut client = Client::open_from(IpAddr::from([127, 0, 0, host]), arena.server.address());
    assert_eq!(client.upgrade(path, "").status, 101);
    client
}

#[test]
fn attack_62_joins_beyond_the_rate_are_ignored_and_told_once() {
    let mut arena = limited(|config| config.rates.connection_joins = burst(10));
    arena.attack_for(Cost::USUAL.computing(3), "62", &[("rate_refused_connection", 9_990)], |arena| {
        let (mut client, _) = arena.server.client("member");
        for number in 0..10_000 {
            for event in ["join", "leave"] {
                client.send_json(&json!({"event": event, "data": {"rooms": [format!("r{}", number % 100)]}}));
            }
        }
        client.settle();
        // Told at most once in each second that it took.
        let told = client.take_pending();
        assert!((1..=20).contains(&told.len()) && told.iter().all(|told| *told == text(TOLD)), "{told:?}");
        assert_eq!(arena.server.engine().router().directory().rooms_len(), 4);
        client.leave();
    });
    let after = arena.before().clone();
    assert!(after.of("joins") < 20, "{after:?}");
    arena.end();
}

#[test]
fn attack_62_one_request_for_many_rooms_counts_as_many_joins() {
    let mut arena = limited(|config| config.rates.connection_joins = burst(10));
    arena.attack("62 many", &[("rate_refused_connection", 1)], |arena| {
        let (mut client, id) = arena.server.client("member");
        let rooms: Vec<_> = (0..9).map(|number| format!("r{number}")).collect();
        client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
        client.send_json(&json!({"event": "join", "data": {"rooms": ["a", "b"]}}));
        assert_eq!(client.recv(), text(TOLD));
        client.send_json(&json!({"event": "join", "data": {"rooms": ["c"]}}));
        client.settle();
        for (room, is_member) in [("r8", true), ("a", false), ("b", false), ("c", true)] {
            arena.server.emit(Destination::Room(room.into()), "e", "1");
            // Comes after it on the same way.
            arena.server.emit(Destination::Client(id.as_str().into()), "next", "1");
            if is_member {
                assert_eq!(client.recv(), text(r#"{"event":"e","data":1}"#), "{room}");
            }
            assert_eq!(client.recv(), text(r#"{"event":"next","data":1}"#), "{room}");
        }
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_62_who_goes_on_is_closed_1008() {
    let mut arena = limited(|config| {
        config.rates.connection_messages = burst(10);
        config.rates.refusals_max = 50;
    });
    arena.attack("62 closed", &[("rate_refused_connection", 51), ("rate_closed", 1)], |arena| {
        let (mut client, _) = arena.server.client("offender");
        let flood = json!({"event": "heartbeat"});
        for _ in 0..9 + 51 {
            client.send_json(&flood);
        }
        assert_eq!(client.recv(), text(TOLD));
        expect_close("62", &mut client, 1008, "Rate limit exceeded");
    });
    arena.end();
}

#[test]
fn attack_33_pings_beyond_the_rate_get_no_pong_and_honest_peers_keep_theirs() {
    let mut arena = limited(|config| config.rates.address_messages = burst(100));
    arena.attack_for(Cost::USUAL.computing(3), "33", &[("rate_refused_address", 9_900)], |arena| {
        let mut honest = arena.echo();
        let mut flooder = stranger(arena, 2, ECHO);
        let mut other = stranger(arena, 2, ECHO);
        for number in 0..10_000u32 {
            flooder.send_ping(&number.to_be_bytes());
        }
        for number in 0..100u32 {
            assert_eq!(flooder.recv(), Received::Pong(number.to_be_bytes().to_vec()));
        }
        arena.server.wait_until("the flood was heard", |counts| counts.of("rate_refused_address") == 9_900);
        assert!(!flooder.has_unread_within(Duration::from_millis(50)));
        // All connections of the address share its rate; others do not.
        other.send_close(1000, "");
        expect_close("33", &mut other, 1000, "");
        honest.settle();
        stranger(arena, 3, ECHO).leave();
        flooder.send_close(1000, "");
        expect_close("33", &mut flooder, 1000, "");
        honest.leave();
    });
    arena.end();
}

#[test]
fn attack_64_a_user_on_many_connections_has_one_rate() {
    let mut arena = limited(|config| config.rates.user_messages = burst(20));
    arena.attack("64", &[("rate_refused_user", 5 * 10 - 20)], |arena| {
        let mut crowd: Vec<_> = (0..5).map(|_| arena.server.client("flooder").0).collect();
        for client in &mut crowd {
            for _ in 0..10 {
                client.send_json(&json!({"event": "heartbeat"}));
            }
        }
        arena.server.wait_until("all were heard", |counts| {
            counts.of("rate_refused_user") - arena.before().of("rate_refused_user") == 30
        });
        // Another user is not held to it.
        let (mut other, _) = arena.server.client("other");
        other.settle();
        assert_eq!(other.take_pending(), []);
        other.leave();
        for mut client in crowd {
            client.send_close(1000, "");
            while client.recv() != Received::Eof {}
        }
    });
    arena.end();
}

#[test]
fn attack_64_bytes_beyond_the_rate_are_not_echoed_and_a_long_message_passes_when_it_may() {
    let mut arena = limited(|config| {
        let rate = Rate { amount: 1, period: Duration::from_secs(1), burst: Some(1_000) };
        config.rates.connection_bytes = Some(rate);
    });
    arena.attack("64 bytes", &[("rate_refused_connection", 2)], |arena| {
        let mut client = arena.echo();
        let long = "x".repeat(5_000);
        client.send_text(&long);
        client.send_text("after it");
        client.send_text("after it");
        assert_eq!(client.recv(), text(&long));
        client.send_close(1000, "");
        expect_close("64", &mut client, 1000, "");
    });
    arena.end();
}

/// A join tells nobody anything, so that a crowd costs what each of it costs.
#[test]
fn attack_64_a_crowd_that_comes_and_goes_sends_its_members_nothing() {
    const CROWD: usize = 300;
    let mut arena = Arena::new();
    arena.attack_for(Cost::USUAL.computing(3), "64 crowd", &[], |arena| {
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::connect(arena.server.address(), WS)).collect();
        for client in &mut crowd {
            client.authenticate("token", "one of many");
            client.send_json(&json!({"event": "join", "data": {"rooms": ["crowd"]}}));
        }
        crowd.iter_mut().for_each(Client::settle);
        for client in &mut crowd {
            client.send_json(&json!({"event": "leave", "data": {"rooms": ["crowd"]}}));
            client.settle();
            assert_eq!(client.take_pending(), []);
        }
        crowd.into_iter().for_each(Client::leave);
    });
    arena.end();
}
