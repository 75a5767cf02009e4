//! 19 to 35: frames that break RFC 6455, and frames that only look as if they did.

use shardcast_tests::client::{Client, Received, masked_frame, opcode};

use crate::arena::{Arena, Cost, each, expect_close, text};

const FIN: u8 = 0x80;
const NOT_JSON_ANSWER: &str = r#"{"event":"error","data":{"message":"Invalid message format"}}"#;
const MESSAGE_BYTES_MAX: usize = 131_072;
const FRAGMENTS_MAX: usize = 1_024;

/// What a case ends with, and the counter of mistakes that moves.
enum Outcome {
    /// The server closes.
    Close(u16, &'static str, &'static str),
    /// The server answers each of the messages that are no JSON, and goes on.
    Answers(u64),
    /// The server echoes this close frame.
    Goodbye(Option<u16>, &'static str),
}

use Outcome::{Answers, Close, Goodbye};

/// Bytes sent to the Ignis mount right after the upgrade.
struct Case {
    label: String,
    bytes: Vec<u8>,
    outcome: Outcome,
}

fn case(label: impl Into<String>, bytes: impl Into<Vec<u8>>, outcome: Outcome) -> Case {
    Case { label: label.into(), bytes: bytes.into(), outcome }
}

/// How the bytes of a case travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// In one write.
    Whole,
    /// A byte a packet, as far as the first kilobyte goes.
    Bytewise,
    /// In one write with a message before and garbage after.
    Coalesced,
}

fn run(arena: &mut Arena, Case { label, bytes, outcome }: &Case, delivery: Delivery) {
    let label = format!("{label}, {delivery:?}");
    let incident = match *outcome {
        Close(_, _, violation) => Some((format!("violations.{violation}"), 1)),
        Answers(0) | Goodbye(..) => None,
        Answers(count) => Some(("messages_malformed".to_owned(), count)),
    };
    let incidents: Vec<_> = incident.iter().map(|(name, count)| (name.as_str(), *count)).collect();
    arena.attack(&label, &incidents, |arena| {
        let mut client = arena.ws();
        deliver(&mut client, bytes, outcome, delivery);
        match *outcome {
            Close(code, reason, _) => expect_close(&label, &mut client, code, reason),
            Goodbye(code, reason) => {
                assert_eq!(client.recv(), Received::Close(code, reason.to_owned()), "{label}");
                assert_eq!(client.recv(), Received::Eof, "{label}");
            }
            Answers(count) => {
                for _ in 0..count {
                    assert_eq!(client.recv(), text(NOT_JSON_ANSWER), "{label}");
                }
                client.settle();
                assert_eq!(client.take_pending(), [], "{label}");
                client.leave();
            }
        }
    });
}

fn deliver(client: &mut Client, bytes: &[u8], outcome: &Outcome, delivery: Delivery) {
    let heartbeat = masked_frame(FIN | opcode::TEXT, br#"{"event":"heartbeat"}"#);
    let garbage = [0xff; 64];
    match delivery {
        Delivery::Whole => client.send_raw(bytes).expect("sending"),
        Delivery::Bytewise => {
            let (head, tail) = bytes.split_at(bytes.len().min(1024));
            // The server may have ended the connection before the last byte, once it has seen enough.
            let sent = head.iter().try_for_each(|byte| client.send_raw(&[*byte]));
            match sent.and_then(|()| client.send_raw(tail)) {
                Ok(()) => {}
                Err(error) => assert!(matches!(outcome, Close(..)), "{error}"),
            }
        }
        Delivery::Coalesced => {
            let goes_on = matches!(outcome, Answers(_));
            let after: &[u8] = if goes_on { &heartbeat } else { &garbage };
            client.send_raw(&[&heartbeat, bytes, after].concat()).expect("sending");
        }
    }
}

fn all_ways(cases: &[Case]) {
    let ways = [Delivery::Whole, Delivery::Bytewise, Delivery::Coalesced];
    let runs: Vec<_> = cases.iter().flat_map(|case| ways.map(|way| (case, way))).collect();
    each(&runs, |arena, (case, way)| run(arena, case, *way));
}

/// A header with a 64-bit length.
fn header_64(first_byte: u8, length: u64) -> Vec<u8> {
    [&[first_byte, 0x80 | 127][..], &length.to_be_bytes(), &[0; 4]].concat()
}

/// A whole frame whose length takes more bytes than it needs.
fn overlong_16(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short payload");
    [&[first_byte, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4], payload].concat()
}

fn overlong_64(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    [&header_64(first_byte, payload.len() as u64)[..], payload].concat()
}

fn close_frame(payload: &[u8]) -> Vec<u8> {
    masked_frame(FIN | opcode::CLOSE, payload)
}

fn attack_19_cases() -> Vec<Case> {
    let outcome = || Close(1002, "Received an incorrectly masked frame", "unmasked_frame");
    let frames: [(&str, &[u8]); 4] = [
        ("text", b"\x81\x01{"),
        ("empty ping", b"\x89\x00"),
        ("close", b"\x88\x02\x03\xe8"),
        ("64-bit length", b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"),
    ];
    frames.map(|(label, bytes)| case(format!("19 unmasked {label}"), bytes, outcome())).into()
}

fn attack_20_cases() -> Vec<Case> {
    vec![case("20 zero mask", b"\x81\x81\x00\x00\x00\x00{", Answers(1))]
}

fn attack_21_cases() -> Vec<Case> {
    let rsv1 = || Close(1002, "Received unexpected RSV1 bit", "unexpected_rsv1");
    let rsv23 = || Close(1002, "Received unexpected RSV2 or RSV3 bit", "unexpected_rsv23");
    vec![
        case("21 RSV1", masked_frame(0xc1, b"{"), rsv1()),
        case("21 RSV1 on a ping", masked_frame(0xc9, b""), rsv1()),
        case("21 RSV2", masked_frame(0xa1, b"{"), rsv23()),
        case("21 RSV3", masked_frame(0x91, b"{"), rsv23()),
        case("21 all three", masked_frame(0xf1, b"{"), rsv1()),
    ]
}

fn attack_22_cases() -> Vec<Case> {
    let reserved = (0x3..=0x7).chain(0xb..=0xf);
    let close = || Close(1002, "Received invalid opcode", "invalid_opcode");
    reserved
        .map(|opcode| case(format!("22 opcode {opcode:#x}"), masked_frame(FIN | opcode, b"{"), close()))
        .collect()
}

fn attack_23_cases() -> Vec<Case> {
    let close = || Close(1002, "Received too big control frame", "control_too_big");
    let big = [b'x'; 126];
    vec![
        case("23 ping of 126", masked_frame(FIN | opcode::PING, &big), close()),
        case("23 pong of 126", masked_frame(FIN | opcode::PONG, &big), close()),
        case(
            "23 close of 126",
            masked_frame(FIN | opcode::CLOSE, &[&[0x03, 0xe8][..], &big[..124]].concat()),
            close(),
        ),
        case("23 ping of 70,000", masked_frame(FIN | opcode::PING, &[b'x'; 70_000]), close()),
        case("23 ping with a 16-bit length", overlong_16(FIN | opcode::PING, b"p"), close()),
        case("23 pong of 125", masked_frame(FIN | opcode::PONG, &big[..125]), Answers(0)),
    ]
}

fn attack_24_cases() -> Vec<Case> {
    let close = || Close(1002, "Received fragmented control frame", "fragmented_control");
    [opcode::PING, opcode::PONG, opcode::CLOSE]
        .map(|opcode| case(format!("24 opcode {opcode:#x} without FIN"), masked_frame(opcode, b""), close()))
        .into()
}

fn attack_25_cases() -> Vec<Case> {
    let stray =
        || Close(1002, "Received continuation frame outside a fragmented message", "stray_continuation");
    let nested = || Close(1002, "Received new message inside a fragmented message", "nested_message");
    let start = masked_frame(opcode::TEXT, b"{");
    let whole = [&start[..], &masked_frame(FIN, b"")].concat();
    vec![
        case("25 continuation without start", masked_frame(FIN, b"{"), stray()),
        case("25 continuation without start or end", masked_frame(0, b"{"), stray()),
        case(
            "25 text inside a message",
            [&start[..], &masked_frame(FIN | opcode::TEXT, b"{")].concat(),
            nested(),
        ),
        case(
            "25 binary inside a message",
            [&start[..], &masked_frame(opcode::BINARY, b"{")].concat(),
            nested(),
        ),
        case("25 both parts", whole, Answers(1)),
    ]
}

const TOO_BIG: Outcome = Close(1009, "Received too big message", "message_too_big");

fn attack_26_cases() -> Vec<Case> {
    [u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 32, 0xffff_ffff]
        .into_iter()
        .flat_map(|length| {
            let header = |first_byte| header_64(first_byte, length);
            let second = [&masked_frame(opcode::TEXT, b"{")[..], &header(FIN)].concat();
            [
                case(format!("26 text of {length}"), header(FIN | opcode::TEXT), TOO_BIG),
                case(format!("26 continuation of {length}"), second, TOO_BIG),
            ]
        })
        .collect()
}

fn attack_27_cases() -> Vec<Case> {
    vec![
        case("27 one byte in a 16-bit length", overlong_16(FIN | opcode::TEXT, b"{"), Answers(1)),
        case("27 one byte in a 64-bit length", overlong_64(FIN | opcode::TEXT, b"{"), Answers(1)),
        case("27 nothing in a 64-bit length", overlong_64(FIN | opcode::TEXT, b""), Answers(1)),
    ]
}

fn attack_29_cases() -> Vec<Case> {
    let limit = vec![b'x'; MESSAGE_BYTES_MAX];
    let beyond = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    let (half, rest) = limit.split_at(MESSAGE_BYTES_MAX / 2);
    let start = masked_frame(opcode::TEXT, half);
    vec![
        case("29 at the limit", masked_frame(FIN | opcode::TEXT, &limit), Answers(1)),
        case("29 one more", masked_frame(FIN | opcode::TEXT, &beyond), TOO_BIG),
        case("29 fragments at the limit", [&start[..], &masked_frame(FIN, rest)].concat(), Answers(1)),
        case(
            "29 fragments beyond",
            [&start[..], &masked_frame(0, rest), &masked_frame(0, b"x")].concat(),
            TOO_BIG,
        ),
        case(
            "29 an empty fragment at the limit",
            [&start[..], &masked_frame(0, rest), &masked_frame(FIN, b"")].concat(),
            Answers(1),
        ),
    ]
}

fn attack_34_cases() -> Vec<Case> {
    let bad_payload = || Close(1002, "Received invalid close payload", "invalid_close_payload");
    let bad_code = || Close(1002, "Received invalid close code", "invalid_close_code");
    let bad_text = || Close(1007, "Received invalid UTF-8", "invalid_utf8");
    let too_big = || Close(1002, "Received too big control frame", "control_too_big");
    let mut cases = vec![
        case("34 one byte", close_frame(&[0x03]), bad_payload()),
        case("34 a reason that is no UTF-8", close_frame(b"\x03\xe8\xff"), bad_text()),
        case("34 a reason cut inside a character", close_frame(b"\x03\xe8\xe2\x82"), bad_text()),
        case("34 a reason of 124 bytes", close_frame(&[&[0x03, 0xe8][..], &[b'r'; 124]].concat()), too_big()),
        case("34 empty", close_frame(&[]), Goodbye(None, "")),
        case("34 a code of the application", close_frame(b"\x0f\xa0bye"), Goodbye(Some(4000), "bye")),
        case(
            "34 frames after the close frame",
            [close_frame(b"\x03\xe8"), masked_frame(FIN | opcode::TEXT, b"{"), masked_frame(0xff, b"")]
                .concat(),
            Goodbye(Some(1000), ""),
        ),
    ];
    cases.extend(
        [0u16, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX]
            .map(|code| case(format!("34 code {code}"), close_frame(&code.to_be_bytes()), bad_code())),
    );
    cases
}

#[test]
fn attack_19_unmasked_frames_close_1002() {
    all_ways(&attack_19_cases());
}

#[test]
fn attack_20_a_zero_mask_is_fine() {
    all_ways(&attack_20_cases());
}

#[test]
fn attack_21_reserved_bits_close_1002() {
    all_ways(&attack_21_cases());
}

#[test]
fn attack_22_reserved_opcodes_close_1002() {
    all_ways(&attack_22_cases());
}

#[test]
fn attack_23_control_frames_over_125_bytes_close_1002() {
    all_ways(&attack_23_cases());
}

#[test]
fn attack_24_fragmented_control_frames_close_1002() {
    all_ways(&attack_24_cases());
}

#[test]
fn attack_25_stray_continuations_and_nested_messages_close_1002() {
    all_ways(&attack_25_cases());
}

#[test]
fn attack_26_lengths_beyond_any_memory_close_1009() {
    all_ways(&attack_26_cases());
}

#[test]
fn attack_27_lengths_longer_than_needed_are_read() {
    all_ways(&attack_27_cases());
}

#[test]
fn attack_29_the_limit_passes_and_one_more_byte_closes_1009() {
    all_ways(&attack_29_cases());
}

#[test]
fn attack_34_close_frames_are_echoed_or_refused_and_nothing_after_them_counts() {
    all_ways(&attack_34_cases());
}

/// Beside the byte-wise and coalesced runs of every table above: what a client says first may come with the upgrade.
#[test]
fn attack_35_frames_in_the_packet_of_the_upgrade_get_the_same_answers() {
    let cases: Vec<_> =
        [attack_20_cases(), attack_25_cases(), attack_34_cases()].into_iter().flatten().collect();
    each(&cases, |arena, Case { label, bytes, outcome }| {
        let Close(code, reason, violation) = *outcome else { return };
        arena.attack(label, &[(&format!("violations.{violation}"), 1)], |arena| {
            let mut client = arena.raw();
            let head = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
            client.send_raw(&[head.as_bytes(), bytes].concat()).expect("sending");
            assert_eq!(client.response().status, 101, "{label}");
            expect_close(label, &mut client, code, reason);
        });
    });
}

#[test]
fn attack_30_a_million_empty_continuations_close_1008() {
    let mut arena = Arena::new();
    let start = masked_frame(opcode::TEXT, b"");
    let empty = masked_frame(0, b"");
    arena.attack("30 exactly the limit", &[("messages_malformed", 1)], |arena| {
        let mut client = arena.ws();
        let middle = empty.repeat(FRAGMENTS_MAX - 2);
        client.send_raw(&[&start[..], &middle, &masked_frame(FIN, b"")].concat()).expect("sending");
        assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        client.leave();
    });
    arena.attack("30 a million", &[("violations.too_many_fragments", 1)], |arena| {
        let mut client = arena.ws();
        client.send_raw(&start).expect("sending");
        let thousand = empty.repeat(1_000);
        for _ in 0..1_000 {
            // Once the server has had enough it stops reading.
            if client.send_raw(&thousand).is_err() {
                break;
            }
        }
        assert_eq!(client.recv(), Received::Close(Some(1008), "Too many fragments".to_owned()));
    });
    arena.end();
}

#[test]
fn attack_31_a_megabyte_in_fragments_of_one_byte() {
    let mut config = shardcast_tests::server::with_echo(shardcast_tests::server::one_shard());
    config.mounts[1].fragments_max = 1 << 20;
    let mut arena = Arena::with(config);
    arena.attack("31 on the Ignis mount", &[("violations.too_many_fragments", 1)], |arena| {
        let mut client = arena.ws();
        client.send_raw(&masked_frame(opcode::TEXT, b"x")).expect("sending");
        client.send_raw(&masked_frame(0, b"x").repeat(FRAGMENTS_MAX)).expect("sending");
        expect_close("31", &mut client, 1008, "Too many fragments");
    });
    arena.attack_for(Cost::USUAL.holding(4 << 20).computing(6), "31 where it is allowed", &[], |arena| {
        let mut client = arena.echo();
        client.send_raw(&masked_frame(opcode::BINARY, b"x")).expect("sending");
        let middle = masked_frame(0, b"x").repeat(1 << 10);
        for _ in 1..1 << 10 {
            client.send_raw(&middle).expect("sending");
        }
        client.send_raw(&masked_frame(0, b"x").repeat((1 << 10) - 2)).expect("sending");
        client.send_raw(&masked_frame(FIN, b"x")).expect("sending");
        assert!(client.recv() == Received::Binary(vec![b'x'; 1 << 20]), "not the megabyte that was sent");
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_32_pings_between_fragments_are_answered_and_the_message_is_whole() {
    let mut arena = Arena::new();
    arena.attack("32", &[], |arena| {
        let mut client = arena.echo();
        client.send_raw(&masked_frame(opcode::TEXT, "€".as_bytes())).expect("sending");
        for number in 0..200u8 {
            client.send_ping(&[number]);
            client.send_raw(&masked_frame(0, "€".as_bytes())).expect("sending");
            client.send_pong(b"unsolicited");
        }
        client.send_raw(&masked_frame(FIN, "€".as_bytes())).expect("sending");
        for number in 0..200u8 {
            assert_eq!(client.recv(), Received::Pong(vec![number]));
        }
        assert_eq!(client.recv(), Received::Text("€".repeat(202)));
        client.leave();
    });
    arena.end();
}
