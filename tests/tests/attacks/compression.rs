//! 42 to 46: compressed messages that inflate to too much or to nothing, windows of every size, and secrets beside a
//! stranger's text.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use shardcast_tests::client::{Client, Received, masked_frame, opcode};
use shardcast_tests::deflate::{OFFER, deflated, inflated};
use shardcast_tests::server::{PATIENCE, WS, one_shard, with_echo};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, expect_close, text};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const MESSAGE_BYTES_MAX: usize = 131_072;
const NOT_JSON_ANSWER: &str = r#"{"event":"error","data":{"message":"Invalid message format"}}"#;

/// A server whose Ignis mount compresses.
fn arena() -> Arena {
    let mut config = with_echo(one_shard());
    config.mounts[0].compression = true;
    Arena::with(config)
}

fn deflating(arena: &Arena) -> Client {
    Client::connect_deflating(arena.server.address(), WS)
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    masked_frame(FIN | RSV1 | opcode::TEXT, payload)
}

/// A payload in as many fragments as it has bytes, up to ten.
fn in_fragments(payload: &[u8]) -> Vec<u8> {
    let pieces: Vec<_> = payload.chunks(payload.len().div_ceil(10)).collect();
    let frames = pieces.iter().enumerate().map(|(index, piece)| {
        let first = if index == 0 { RSV1 | opcode::TEXT } else { opcode::CONTINUATION };
        let fin = if index + 1 == pieces.len() { FIN } else { 0 };
        masked_frame(fin | first, piece)
    });
    frames.collect::<Vec<_>>().concat()
}

#[test]
fn attack_42_bombs_end_at_the_limit_before_authentication() {
    let mut arena = arena();
    let bomb = deflated(&vec![b'0'; 100 << 20]);
    assert!(bomb.len() < 104 << 10, "1:1000");
    let small = deflated(&vec![b'0'; MESSAGE_BYTES_MAX + 1]);
    for (label, bytes) in [
        ("42 a hundred megabytes in one frame", compressed(&bomb)),
        ("42 a hundred megabytes in fragments", in_fragments(&bomb)),
        ("42 a byte too much", compressed(&small)),
    ] {
        let before = arena.server.engine().status().shards[0].counters().bytes_inflated;
        arena.attack(label, &[("violations.message_too_big", 1)], |arena| {
            let mut client = deflating(arena);
            client.send_raw(&bytes).expect("sending");
            expect_close(label, &mut client, 1009, "Received too big message");
        });
        let after = arena.server.engine().status().shards[0].counters().bytes_inflated;
        assert_eq!(after - before, MESSAGE_BYTES_MAX as u64 + 1, "{label}: bytes that came out");
    }
    arena.end();
}

#[test]
fn attack_43_bombs_just_under_the_limit_at_full_rate_do_not_stall_others() {
    const BOMBS: usize = 2_000;
    /// What the server may compute before it answers, and not how long it took on a machine that others use. Generous:
    /// it is not optimised.
    const PONG_WITHIN: Duration = Duration::from_secs(1);
    let mut arena = arena();
    // The worst that is cheap to send: white space that the JSON scanner has to walk through.
    let bomb = compressed(&deflated(&vec![b' '; MESSAGE_BYTES_MAX]));
    arena.attack_for(Cost::USUAL.computing(15), "43", &[("messages_malformed", BOMBS as u64)], |arena| {
        let mut other = arena.ws();
        let mut longest = Duration::ZERO;
        thread::scope(|scope| {
            let bomber = scope.spawn(|| {
                let mut client = deflating(arena);
                for _ in 0..BOMBS / 100 {
                    client.send_raw(&bomb.repeat(100)).expect("sending");
                }
                for _ in 0..BOMBS {
                    assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
                }
                client.leave();
            });
            while !bomber.is_finished() {
                let asked = arena.server.meter().cpu();
                other.settle();
                longest = longest.max(arena.server.meter().cpu().saturating_sub(asked));
            }
        });
        println!("most computed before a pong: {longest:?}");
        assert!(longest < PONG_WITHIN, "{longest:?} computed before a pong beside the bombs");
        other.leave();
    });
    arena.end();
}

#[test]
fn attack_44_corrupt_streams_end_1007() {
    let mut arena = arena();
    let hello = deflated(b"hello, hello, hello");
    let broken: [(&str, Vec<u8>); 5] = [
        ("44 a reserved block", vec![0x06]),
        ("44 a missing tail", hello[..hello.len() / 2].to_vec()),
        ("44 a distance beyond the window", vec![0xf2, 0x00, 0x11, 0x00, 0x00]),
        ("44 a stored block cut off", vec![0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65]),
        ("44 noise", vec![0xff; 100]),
    ];
    for (label, payload) in &broken {
        for bytes in [compressed(payload), in_fragments(payload)] {
            arena.attack(label, &[("violations.invalid_deflate", 1)], |arena| {
                let mut client = deflating(arena);
                client.send_raw(&bytes).expect("sending");
                expect_close(label, &mut client, 1007, "Received invalid compressed data");
            });
        }
    }
    arena.end();
}

#[test]
fn attack_44_rsv1_on_what_is_never_compressed_ends_1002() {
    let mut arena = arena();
    for (label, first) in
        [("44 ping", opcode::PING), ("44 continuation", opcode::CONTINUATION), ("44 close", opcode::CLOSE)]
    {
        arena.attack(label, &[("violations.unexpected_rsv1", 1)], |arena| {
            let mut client = deflating(arena);
            client.send_raw(&masked_frame(FIN | RSV1 | first, b"")).expect("sending");
            expect_close(label, &mut client, 1002, "Received unexpected RSV1 bit");
        });
    }
    // Without an offer nothing may be compressed, whatever the mount does for others.
    arena.attack("44 no offer", &[("violations.unexpected_rsv1", 1)], |arena| {
        let mut client = arena.ws();
        client.send_raw(&compressed(&deflated(b"x"))).expect("sending");
        expect_close("44 no offer", &mut client, 1002, "Received unexpected RSV1 bit");
    });
    arena.end();
}

#[test]
fn attack_45_no_connection_keeps_a_window() {
    let mut arena = arena();
    for offer in
        ["server_max_window_bits=8", "server_max_window_bits=14", "client_max_window_bits=99", "nonsense"]
    {
        let label = format!("45 {offer}");
        arena.attack(&label, &[], |arena| {
            let mut client = arena.raw();
            let line = format!("Sec-WebSocket-Extensions: permessage-deflate; {offer}\r\n");
            let answer = client.upgrade(WS, &line);
            assert_eq!((answer.status, answer.header("Sec-WebSocket-Extensions")), (101, None), "{label}");
            client.settle();
            client.leave();
        });
    }
    // A client may keep its window to itself; the server inflates each message on its own.
    let incidents = [("messages_malformed", 1), ("violations.invalid_deflate", 1)];
    arena.attack("45 context takeover", &incidents, |arena| {
        let mut client = deflating(arena);
        client.send_deflated("{");
        assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        client.send_raw(&compressed(&[0xf2, 0x00, 0x11, 0x00, 0x00])).expect("sending");
        let end = "Received invalid compressed data".to_owned();
        assert_eq!(client.recv(), Received::Close(Some(1007), end));
        assert_eq!(client.recv(), Received::Eof);
    });
    assert!(OFFER.contains("client_max_window_bits"), "what browsers offer is accepted above");
    arena.end();
}

/// Longer than what goes out plain, and hard to compress but for what it repeats.
const SECRET: &str = "csrf=7f3a9c51e0d84b26";

/// Text that a stranger chose, with a guess in it.
fn chosen(guess: &str) -> String {
    let mut text = String::new();
    for number in 0_u64..20 {
        write!(text, "{:016x}{guess}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).expect("it grows");
    }
    text
}

/// The payload of the next message, which is compressed.
fn compressed_payload(client: &mut Client) -> Vec<u8> {
    let frame = client.frame_within(PATIENCE).expect("a message");
    assert_eq!(frame.first_byte, FIN | RSV1 | opcode::TEXT);
    frame.payload
}

/// What CRIME and BREACH measure: how much shorter a secret gets by what a stranger had sent beside it.
#[test]
fn attack_46_a_message_of_a_secret_has_the_same_bytes_whatever_was_sent_before() {
    const WRONG: &str = "csrf=1b2c3d4e5f607182";
    let mut arena = arena();
    let secret = format!("\"{SECRET}{}\"", chosen("").repeat(2));
    let user = |name: &'static str| Destination::User(format!("\"{name}\"").into());
    arena.attack("46", &[], |arena| {
        let mut victim = deflating(arena);
        victim.authenticate("token", "victim");
        let mut stranger = deflating(arena);
        stranger.authenticate("token", "stranger");
        let mut seen = Vec::new();
        for (before, to) in [
            ("", "stranger"),
            (WRONG, "victim"),
            (SECRET, "victim"),
            (SECRET, "stranger"),
            (WRONG, "stranger"),
        ] {
            // In one packet and one turn, as near as they get: through the same compressor, to the same socket.
            for _ in 0..3 {
                arena.server.emit(user(to), "e", &format!("\"{}\"", chosen(before)));
            }
            arena.server.emit(user("victim"), "e", &secret);
            let receiver = if to == "victim" { &mut victim } else { &mut stranger };
            let others: Vec<_> = (0..3).map(|_| compressed_payload(receiver)).collect();
            assert!(others.iter().all(|other| *other == others[0]), "each is compressed by itself");
            let payload = compressed_payload(&mut victim);
            let message = format!(r#"{{"event":"e","data":{secret}}}"#);
            assert_eq!(inflated(&payload, 1 << 16), message.as_bytes(), "whole without what was before");
            seen.push(payload);
        }
        assert!(
            seen.iter().all(|payload| *payload == seen[0]),
            "{:?}",
            seen.iter().map(Vec::len).collect::<Vec<_>>()
        );
        victim.leave();
        stranger.leave();
    });
    arena.end();
}

/// What is left of it, and why `mounts.compression` is off by default: within one message a guess that is right
/// makes it shorter. A mount without compression tells nothing.
#[test]
fn attack_46_within_one_message_length_tells_where_compression_is_on_and_only_there() {
    const WRONG: &str = "csrf=1b2c3d4e5f607182";
    let mut arena = arena();
    arena.attack("46 within", &[], |arena| {
        let mut there = deflating(arena);
        there.authenticate("token", "victim");
        let mut plain = arena.ws();
        plain.authenticate("token", "victim");
        let mut lengths = [WRONG, SECRET].map(|guess| {
            let data = format!("\"{SECRET}{}\"", chosen(guess));
            arena.server.emit(Destination::User("\"victim\"".into()), "e", &data);
            let Received::Text(text) = plain.recv() else { panic!("no text") };
            (compressed_payload(&mut there).len(), text.len())
        });
        lengths.sort_unstable();
        let [(shorter, plain_one), (longer, plain_other)] = lengths;
        assert!(shorter < longer, "{shorter} and {longer}");
        assert_eq!(plain_one, plain_other);
        there.leave();
        plain.leave();
    });
    assert!(!shardcast::config::Config::default().mounts[0].compression, "it has to be asked for");
    arena.end();
}
