//! 1 to 12: request heads that never end, are too big, or mean two things at once.

use std::io;
use std::time::{Duration, Instant};

use shardcast_tests::client::{Received, masked_frame, opcode};
use shardcast_tests::server::{PATIENCE, one_shard, with_echo};

use crate::arena::{Arena, each, expect_refusal};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n";

const TIMED_OUT: &[(&str, u64)] = &[("handshake_timeouts", 1)];

/// A head with these lines after the request line, each with its CRLF.
fn head(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

/// An upgrade to the Ignis mount with more lines.
fn upgrade(lines: &str) -> String {
    head("/ws", &format!("{UPGRADE}{KEY}{VERSION}{lines}"))
}

/// Sends a head and expects a status that ends the connection, and one refusal counted for this reason.
fn refused(arena: &mut Arena, label: &str, head: &[u8], status: u16, reason: &str) {
    let counter = format!("refused_heads.{reason}");
    arena.attack(label, &[(&counter, 1)], |arena| {
        let mut client = arena.raw();
        // A server that has seen enough may end the connection before the last byte.
        match client.send_raw(head) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset))
            }
        }
        let answer = expect_refusal(label, &mut client, status);
        if status == 426 {
            assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"), "{label}");
        }
    });
}

/// Sends a head and expects the upgrade, with this subprotocol.
fn upgraded(arena: &mut Arena, label: &str, head: &str, protocol: Option<&str>) {
    arena.attack(label, &[], |arena| {
        let mut client = arena.raw();
        client.send_raw(head.as_bytes()).expect("sending");
        let answer = client.response();
        assert_eq!(answer.status, 101, "{label}: {answer:?}");
        assert_eq!(answer.header("Sec-WebSocket-Protocol"), protocol, "{label}");
        assert_eq!(answer.header("Sec-WebSocket-Extensions"), None, "{label}");
        client.leave();
    });
}

/// A deadline short enough to wait for.
fn impatient() -> Arena {
    let mut config = with_echo(one_shard());
    config.server.handshake_timeout = Duration::from_millis(300);
    Arena::with(config)
}

#[test]
fn attack_01_a_dripped_head_ends_408_at_the_deadline() {
    let mut arena = impatient();
    arena.attack("1", TIMED_OUT, |arena| {
        let mut client = arena.raw();
        let begun = Instant::now();
        let mut drops = upgrade("X-Filler: ").into_bytes().into_iter().chain(std::iter::repeat(b'x'));
        let answer = loop {
            assert!(begun.elapsed() < PATIENCE, "no end to a head that drips");
            // Every wait between two drops is far below the deadline.
            client.send_raw(&[drops.next().expect("endless")]).expect("the server still reads");
            if client.has_unread_within(Duration::from_millis(20)) {
                break client.response();
            }
        };
        assert_eq!(answer.status, 408);
        assert!(begun.elapsed() >= Duration::from_millis(300), "before the deadline");
        assert_eq!(client.recv(), Received::Eof);
    });
    arena.end();
}

#[test]
fn attack_02_a_tls_hello_is_refused_and_a_stalled_one_is_too() {
    let mut arena = impatient();
    let hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[0x5a; 500]].concat();
    refused(&mut arena, "2 a hello", &hello, 400, "malformed");
    refused(&mut arena, "2 its first byte", &hello[..1], 400, "malformed");
    arena.end();
}

#[test]
fn attack_03_saying_nothing_ends_408() {
    let mut arena = impatient();
    arena.attack("3 silence", TIMED_OUT, |arena| {
        expect_refusal("3", &mut arena.raw(), 408);
    });
    arena.attack("3 half a head", TIMED_OUT, |arena| {
        let mut client = arena.raw();
        client.send_raw(b"GET /ws HTTP/1.1\r\nHost: h\r\n").expect("sending");
        expect_refusal("3", &mut client, 408);
    });
    arena.end();
}

#[test]
fn attack_04_one_huge_header_ends_431() {
    let mut arena = Arena::new();
    let value = "x".repeat(64 << 10);
    refused(&mut arena, "4 ended", upgrade(&format!("X-Big: {value}\r\n")).as_bytes(), 431, "too_big");
    refused(
        &mut arena,
        "4 without an end",
        format!("GET /ws HTTP/1.1\r\nX-Big: {value}").as_bytes(),
        431,
        "too_big",
    );
    arena.end();
}

#[test]
fn attack_05_ten_thousand_tiny_headers_end_431() {
    let mut arena = Arena::new();
    refused(&mut arena, "5 ten thousand", upgrade(&"a:b\r\n".repeat(10_000)).as_bytes(), 431, "too_big");
    refused(
        &mut arena,
        "5 few enough bytes",
        upgrade(&"a:b\r\n".repeat(1_000)).as_bytes(),
        431,
        "too_many_headers",
    );
    arena.end();
}

/// Quadratic work on 16 KiB, a byte at a time, would be 130 MB of searching a connection.
#[test]
fn attack_06_a_head_that_grows_by_a_byte_a_packet_is_searched_once() {
    let mut arena = Arena::new();
    let filler = "x".repeat(15 << 10);
    let whole = upgrade(&format!("X-Filler: {filler}\r\n"));
    arena.attack("6", &[], |arena| {
        let mut client = arena.raw();
        for byte in whole.as_bytes() {
            client.send_raw(&[*byte]).expect("sending");
        }
        assert_eq!(client.response().status, 101);
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_07_bad_keys_end_500_and_other_versions_426() {
    let keys = [
        ("missing", ""),
        ("twice", &KEY.repeat(2)),
        ("short", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n"),
        ("not base64", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*g==\r\n"),
        ("empty", "Sec-WebSocket-Key:\r\n"),
    ];
    let mut cases: Vec<_> = keys
        .iter()
        .map(|(label, key)| (format!("7 key {label}"), head("/ws", &format!("{UPGRADE}{key}{VERSION}")), 500))
        .collect();
    cases.extend(["8", "12", "14", "13, 8", "013"].map(|version| {
        let lines = format!("{UPGRADE}{KEY}Sec-WebSocket-Version: {version}\r\n");
        (format!("7 version {version}"), head("/ws", &lines), 426)
    }));
    cases.push(("7 no version".to_owned(), head("/ws", &format!("{UPGRADE}{KEY}")), 426));
    each(&cases, |arena, (label, head, status)| {
        let reason = if *status == 426 { "upgrade_version" } else { "upgrade_key" };
        refused(arena, label, head.as_bytes(), *status, reason);
    });
}

#[test]
fn attack_08_endless_or_broken_extension_offers_are_ignored() {
    let mut arena = Arena::new();
    let offer =
        |parameters: &str| upgrade(&format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n"));
    refused(&mut arena, "8 ten thousand parameters", offer(&";a".repeat(10_000)).as_bytes(), 431, "too_big");
    upgraded(&mut arena, "8 five thousand parameters", &offer(&";a".repeat(5_000)), None);
    upgraded(&mut arena, "8 an open quote", &offer("; a=\"open, permessage-deflate"), None);
    upgraded(&mut arena, "8 a trailing backslash", &offer("; a=\"\\"), None);
    arena.end();
}

#[test]
fn attack_09_the_first_of_endless_or_broken_protocols_is_echoed() {
    let mut arena = Arena::new();
    let offer = |protocols: &str| upgrade(&format!("Sec-WebSocket-Protocol: {protocols}\r\n"));
    refused(&mut arena, "9 ten thousand", offer(&"p,".repeat(10_000)).as_bytes(), 431, "too_big");
    upgraded(&mut arena, "9 five thousand", &offer(&"p,".repeat(5_000)), Some("p"));
    upgraded(&mut arena, "9 an open quote", &offer("\"open, p"), Some("\"open"));
    upgraded(&mut arena, "9 only commas", &offer(",,,"), None);
    arena.end();
}

#[test]
fn attack_10_heads_that_mean_two_things_end_400() {
    let post = |lines: &str| format!("POST /api/emit HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let heads = [
        ("length and coding", "body_length", post(both)),
        ("two codings", "body_length", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n")),
        ("two lengths", "body_length", post("Content-Length: 4\r\nContent-Length: 5\r\n")),
        ("length +5", "body_length", post("Content-Length: +5\r\n")),
        ("length 0x5", "body_length", post("Content-Length: 0x5\r\n")),
        ("a folded header", "malformed", post("X-Folded: a\r\n b\r\n")),
        ("a bare line feed", "bare_line_feed", post("X-Bare: a\nContent-Length: 4\r\n")),
        ("only line feeds", "bare_line_feed", "GET / HTTP/1.1\nHost: h\n\n".to_owned()),
        ("a NUL", "malformed", post("X-Nul: a\0b\r\n")),
        ("a space before the colon", "malformed", post("Content-Length : 4\r\n")),
        ("no host", "host", "GET /ws HTTP/1.1\r\n\r\n".to_owned()),
        ("two hosts", "host", post("Host: other\r\n")),
        ("an upgrade with length and coding", "body_length", upgrade(both)),
    ];
    each(&heads, |arena, (label, reason, head)| {
        refused(arena, &format!("10 {label}"), head.as_bytes(), 400, reason);
    });
}

#[test]
fn attack_11_an_upgrade_with_a_body_ends_400_and_frames_after_the_head_are_kept() {
    let mut arena = Arena::new();
    for lines in ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"] {
        refused(&mut arena, lines, (upgrade(lines) + "body").as_bytes(), 400, "upgrade_body");
    }
    arena.attack("11 frames in the packet of the head", &[], |arena| {
        let mut client = arena.raw();
        let echo = head("/echo", &format!("{UPGRADE}{KEY}{VERSION}"));
        let frames = masked_frame(0x80 | opcode::TEXT, b"early").repeat(3);
        let (now, later) = frames.split_at(frames.len() - 4);
        client.send_raw(&[echo.as_bytes(), now].concat()).expect("sending");
        assert_eq!(client.response().status, 101);
        client.send_raw(later).expect("sending");
        for _ in 0..3 {
            assert_eq!(client.recv(), Received::Text("early".to_owned()));
        }
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_12_targets_that_are_long_absolute_or_climb_reach_no_mount_by_accident() {
    let mut arena = Arena::new();
    let lines = format!("{UPGRADE}{KEY}{VERSION}");
    let long = "a".repeat(100 << 10);
    refused(&mut arena, "12 100 KB", head(&format!("/{long}"), &lines).as_bytes(), 414, "target_too_long");
    for target in ["http://h/ws", "/a/../ws", "/ws?token=x"] {
        upgraded(&mut arena, &format!("12 {target}"), &head(target, &lines), None);
    }
    arena.end();
    each(&["/ws%00", "/%2e%2e/%77s", "/ws/..", "//ws", "/ws;x"], |arena, target| {
        arena.attack(&format!("12 {target}"), &[], |arena| {
            let mut client = arena.raw();
            client.send_raw(head(target, &lines).as_bytes()).expect("sending");
            assert_eq!(client.response().status, 404, "{target}");
        });
    });
}
