//! 28, 33 and 36 to 38: what sockets, buffers and descriptors are put through.

use std::time::Duration;

use serde_json::json;
use shardcast::config::IoDriver;
use shardcast_tests::client::{Client, Received, masked_frame, opcode};
use shardcast_tests::server::{ECHO, one_shard, with_echo};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, each};

const FIN: u8 = 0x80;
const MIB: usize = 1 << 20;

#[test]
fn attack_28_a_declared_gigabyte_allocates_nothing() {
    const CROWD: usize = 100;
    const GIB: usize = 1 << 30;
    let mut config = with_echo(one_shard());
    config.mounts[1].message_bytes_max = GIB;
    config.mounts[1].outbox_bytes_max = GIB;
    let mut arena = Arena::with(config);
    let gigabyte = (GIB as u64).to_be_bytes();
    let header = [&[FIN | opcode::BINARY, 0x80 | 127][..], &gigabyte, &[1, 2, 3, 4], b"begun"].concat();
    // Also address space that is never touched would count.
    arena.attack("28", &[("hang_ups", CROWD as u64)], |arena| {
        let mut clients: Vec<_> = (0..CROWD).map(|_| arena.echo()).collect();
        for client in &mut clients {
            client.send_raw(&header).expect("sending");
        }
        arena.server.wait_until("the beginning of each is held", |counts| {
            counts.of("input_bytes") - arena.before().of("input_bytes") >= (CROWD * b"begun".len()) as u64
        });
        for client in &mut clients {
            assert!(
                !client.has_unread_within(Duration::from_millis(1)),
                "a message as long as allowed is waited for"
            );
        }
    });
    arena.end();
}

#[test]
fn attack_33_a_ping_flood_queues_one_pong_and_honest_peers_keep_theirs() {
    let mut arena = Arena::new();
    let before = arena.before().clone();
    let mut honest = arena.ws();
    let mut flooder = Client::connect_slow(arena.server.address(), "/ws");
    let ping =
        |number: u32| masked_frame(FIN | opcode::PING, &[&number.to_be_bytes()[..], &[b'p'; 121]].concat());
    let mut sent = 0;
    // 13 MB of pings a round; their pongs fill what the kernels hold.
    let full = loop {
        for _ in 0..100 {
            let batch: Vec<u8> = (sent..sent + 1_000).flat_map(ping).collect();
            flooder.send_raw(&batch).expect("sending");
            sent += 1_000;
        }
        honest.settle();
        let now = arena.server.counts();
        if now.of("pongs_coalesced") > 0 {
            break now;
        }
    };
    assert!(
        full.of("outbox_bytes") < 2 * MIB as u64,
        "{} bytes of pongs are queued",
        full.of("outbox_bytes")
    );
    assert_eq!(full.incidents_since(&before).into_keys().collect::<Vec<_>>(), ["pongs_coalesced"]);

    // The latest ping is answered, as RFC 6455 §5.5.3 allows, and every pong is of a ping, in order.
    let last = masked_frame(FIN | opcode::PING, b"last");
    flooder.send_raw(&last).expect("sending");
    let mut previous = None;
    loop {
        match flooder.recv() {
            Received::Pong(payload) if payload == b"last" => break,
            Received::Pong(payload) => {
                let number = u32::from_be_bytes(payload[..4].try_into().expect("a number"));
                assert!(Some(number) > previous, "pong {number} after {previous:?}");
                previous = Some(number);
            }
            other => panic!("{other:?} instead of a pong"),
        }
    }
    assert!(previous < Some(sent - 1), "nothing was coalesced");
    flooder.leave();
    honest.leave();
    let coalesced = arena.server.counts().of("pongs_coalesced");
    let cost = Cost::USUAL.holding(2 * MIB).computing(5);
    arena.attack_for(cost, "33", &[("pongs_coalesced", coalesced - before.of("pongs_coalesced"))], |_| {});
    arena.end();
}

type Ending = (&'static str, fn(&Arena));

/// The peer ends its side without a close frame.
const HANG_UPS: &[Ending] = &[
    ("RST before a byte", |arena| arena.raw().reset()),
    ("RST after the upgrade", |arena| arena.ws().reset()),
    ("RST of a member", |arena| {
        let (mut client, _) = arena.server.client("gone");
        client.send_json(&json!({"event": "join", "data": {"rooms": ["a", "b"]}}));
        client.settle();
        client.reset();
    }),
    ("FIN inside a head", |arena| finish_after(arena.raw(), b"GET /ws HT")),
    ("half-close", |arena| finish_after(arena.ws(), b"")),
    ("FIN inside a header", |arena| finish_after(arena.ws(), &[FIN | opcode::TEXT])),
    ("FIN inside a frame", |arena| finish_after(arena.ws(), &masked_frame(FIN | opcode::TEXT, b"{}")[..7])),
    ("FIN inside a message", |arena| finish_after(arena.ws(), &masked_frame(opcode::TEXT, b"{"))),
];

fn finish_after(mut client: Client, bytes: &[u8]) {
    client.send_raw(bytes).expect("sending");
    client.finish();
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn attack_36_resets_half_closes_and_ends_inside_a_frame_are_hang_ups() {
    each(HANG_UPS, |arena, (label, end)| arena.attack(&format!("36 {label}"), &[("hang_ups", 1)], end));
}

#[test]
fn attack_36_a_close_frame_may_come_with_its_fin() {
    let mut arena = Arena::new();
    arena.attack("36", &[], |arena| {
        let mut client = arena.ws();
        client.send_close(1000, "");
        client.finish();
        assert_eq!(client.recv(), Received::Close(Some(1000), String::new()));
        assert_eq!(client.recv(), Received::Eof);
    });
    arena.end();
}

/// A message larger than any read buffer comes in pieces of every size and goes out as the peer takes it.
fn messages_over_many_buffers(io: IoDriver) {
    let mut config = with_echo(one_shard());
    config.server.io = io;
    let mut arena = Arena::with(config);
    let message: Vec<u8> = (0..3 * MIB).map(|at| (at % 251) as u8).collect();
    for piece_len in [1 << 10, 65_535, 65_536, 65_537, 200_000, 3 * MIB] {
        // The message whole, as it came and as it goes, and once more while there is made room for it.
        let cost = Cost::USUAL.holding(4 * message.len());
        arena.attack_for(cost, &format!("37 pieces of {piece_len}"), &[], |arena| {
            let mut client = Client::connect_slow(arena.server.address(), ECHO);
            let frame = masked_frame(FIN | opcode::BINARY, &message);
            for piece in frame.chunks(piece_len) {
                client.send_raw(piece).expect("sending");
            }
            assert!(client.recv() == Received::Binary(message.clone()), "not the message that was sent");
            client.leave();
        });
    }
    // Four hundred messages of 100 kB may be held at a time.
    arena.attack_for(Cost::USUAL.holding(48 * MIB).computing(3), "37 many at once", &[], |arena| {
        let mut clients: Vec<_> = (0..400).map(|_| arena.echo()).collect();
        let big = masked_frame(FIN | opcode::BINARY, &message[..100_000]);
        for client in &mut clients {
            client.send_raw(&big).expect("sending");
        }
        for mut client in clients {
            assert!(
                client.recv() == Received::Binary(message[..100_000].to_vec()),
                "not the message that was sent"
            );
            client.leave();
        }
    });
    arena.end();
}

#[test]
fn attack_37_short_reads_and_writes_on_io_uring() {
    messages_over_many_buffers(IoDriver::Uring);
}

#[test]
fn attack_37_short_reads_and_writes_on_epoll() {
    messages_over_many_buffers(IoDriver::Epoll);
}

/// A connection that waits for bytes and for room in its socket is reset, and its descriptor is the next one's.
fn descriptors_reused(io: IoDriver) {
    const ROUNDS: u64 = 60;
    let mut config = with_echo(one_shard());
    config.server.io = io;
    config.mounts[0].outbox_bytes_max = 16 * MIB;
    let mut arena = Arena::with(config);
    let filler = format!("\"{}\"", "old ".repeat(64 << 10));
    let before = arena.before().clone();
    let mut stuffed = Vec::new();
    for round in 0..ROUNDS {
        let mut client = Client::connect_slow(arena.server.address(), "/ws");
        let id = client.authenticate("token", "old")["id"].as_str().expect("a client id").to_owned();
        for _ in 0..24 {
            arena.server.emit(Destination::Client(id.as_str().into()), "old", &filler);
        }
        stuffed.push(client);
        if stuffed.len() < 3 {
            continue;
        }
        if round == 2 {
            arena.server.wait_until("a backlog", |counts| counts.of("outbox_bytes") > 0);
        }
        stuffed.drain(..).for_each(Client::reset);
        for _ in 0..3 {
            // The first thing heard on the reused descriptor is the answer to its own upgrade.
            let mut fresh = arena.ws();
            fresh.settle();
            assert_eq!(fresh.take_pending(), [], "a message of another connection");
            fresh.leave();
        }
    }
    let after = arena.server.wait_until("all to be gone", |counts| counts.of("conns") == before.of("conns"));
    let missed = after.of("dropped_disconnected") - before.of("dropped_disconnected");
    assert!(missed > 0, "what the old connections did not hear is counted");
    // Three of them at a time have a backlog of up to the bound.
    arena.attack_for(Cost::USUAL.holding(48 * MIB).computing(3), "38", &[("hang_ups", ROUNDS)], |_| {});
    arena.end();
}

#[test]
fn attack_38_a_reused_descriptor_carries_nothing_over_on_io_uring() {
    descriptors_reused(IoDriver::Uring);
}

#[test]
fn attack_38_a_reused_descriptor_carries_nothing_over_on_epoll() {
    descriptors_reused(IoDriver::Epoll);
}
