//! permessage-deflate: who agreed gets messages compressed, everyone gets the same texts, and each message is
//! compressed once.

use std::sync::atomic::Ordering;

use shardcast::config::Config;
use shardcast_shard::MountId;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::deflate::OFFER;
use shardcast_tests::server::{TestServer, WS, config, one_shard};
use shardcast_wire::ignis::Destination;

const ROOM: &str = "room-a";
/// More than any message of these tests.
const BYTES_MAX: usize = 1 << 20;

fn compressing(mut config: Config) -> Config {
    config.mounts[0].compression = true;
    config
}

/// A member of the room that agreed on compression.
fn deflating(server: &TestServer) -> Client {
    let mut client = Client::connect_deflating(server.address(), WS);
    client.authenticate("token", "user-d");
    client.join(&[ROOM]);
    client
}

fn compressed(server: &TestServer) -> u64 {
    server.engine().router().compression().counters().compressed.load(Ordering::Relaxed)
}

/// Event and data as they go to clients, about this long.
fn message(len: usize) -> (String, String) {
    let data = format!("[{}]", vec!["1234"; len / 5].join(","));
    let text = format!(r#"{{"event":"e","data":{data}}}"#);
    (data, text)
}

#[test]
fn members_with_and_without_compression_hear_the_same() {
    let server = TestServer::start(&compressing(config()));
    let [(mut plain, _), (mut other, _)] = server.clients_on_two_shards();
    for client in [&mut plain, &mut other] {
        client.join(&[ROOM]);
    }
    let mut crowd: Vec<_> = (0..8).map(|_| deflating(&server)).collect();
    let room = || Destination::Room(ROOM.into());
    for len in [10, 300, 70_000] {
        let (data, text) = message(len);
        server.emit(room(), "e", &data);
        server.emit(room(), "e", "0");
        for client in [&mut plain, &mut other] {
            assert_eq!(client.recv(), Received::Text(text.clone()));
            assert_eq!(client.recv(), Received::Text(r#"{"event":"e","data":0}"#.to_owned()));
        }
        for client in &mut crowd {
            if text.len() < 256 {
                assert_eq!(client.recv(), Received::Text(text.clone()), "short messages are not compressed");
            } else {
                assert_eq!(client.recv_deflated(BYTES_MAX), text);
            }
            assert_eq!(client.recv(), Received::Text(r#"{"event":"e","data":0}"#.to_owned()));
        }
    }
    assert_eq!(compressed(&server), 2);
    // The other way: what clients compress is understood, and answers to them alone are plain.
    for client in &mut crowd {
        client.send_deflated(r#"{"event":"join","data":{"rooms":["room-b"]}}"#);
        client.fence();
        assert_eq!(client.take_pending(), []);
    }
    let (data, text) = message(300);
    server.emit(Destination::Room("room-b".into()), "e", &data);
    for client in &mut crowd {
        assert_eq!(client.recv_deflated(BYTES_MAX), text);
    }
    let counts =
        server.wait_until("every compressed message is counted", |now| now.of("messages_inflated") >= 8);
    assert_eq!((counts.of("messages_inflated"), counts.of("deflate_agreed")), (8, 8));
    crowd.into_iter().chain([plain, other]).for_each(Client::leave);
    server.expect_empty("after all left");
    assert!(server.engine().router().directory().deflating(MountId(0)).is_empty());
    server.stop();
}

#[test]
fn a_message_to_a_thousand_members_is_compressed_once() {
    const CROWD: usize = 1_000;
    let server = TestServer::start(&compressing(config()));
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|number| match number % 2 {
            0 => deflating(&server),
            _ => {
                let (mut client, _) = server.client("user-p");
                client.join(&[ROOM]);
                client
            }
        })
        .collect();
    let (data, text) = message(1_000);
    server.emit(Destination::Room(ROOM.into()), "e", &data);
    for (number, client) in crowd.iter_mut().enumerate() {
        match number % 2 {
            0 => assert_eq!(client.recv_deflated(BYTES_MAX), text),
            _ => assert_eq!(client.recv(), Received::Text(text.clone())),
        }
    }
    assert_eq!(compressed(&server), 1);
    let counters = server.engine().router().compression().counters();
    let [before, after] = [&counters.input_bytes, &counters.output_bytes].map(|c| c.load(Ordering::Relaxed));
    assert!(before == text.len() as u64 + 4 && after < before / 4, "{before} bytes became {after}");
    drop(crowd);
    server.expect_empty("after all left");
    server.stop();
}

#[test]
fn nothing_is_compressed_for_nobody_nor_where_it_is_off() {
    let server = TestServer::start(&compressing(one_shard()));
    let (mut plain, _) = server.client("user-p");
    let (data, text) = message(1_000);
    server.emit(Destination::Broadcast, "e", &data);
    assert_eq!(plain.recv(), Received::Text(text));
    assert_eq!(compressed(&server), 0);
    plain.leave();
    server.stop();

    let server = TestServer::start(&one_shard());
    let mut client = Client::open(server.address());
    let answer = client.upgrade(WS, OFFER);
    assert_eq!((answer.status, answer.header("Sec-WebSocket-Extensions")), (101, None));
    client.settle();
    client.leave();
    server.stop();
}
