use super::*;
use crate::deflate::Compressor;

const LIMITS: Limits = Limits { message_bytes_max: 131_072, fragments_max: 1024 };
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// What a client said, without the lifetimes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Inbound<'_>> for Said {
    fn from(inbound: Inbound<'_>) -> Self {
        match inbound {
            Inbound::Text(text) => Self::Text(text.into_owned()),
            Inbound::Binary(data) => Self::Binary(data.into_owned()),
            Inbound::Ping(data) => Self::Ping(data.into_owned()),
            Inbound::Pong(data) => Self::Pong(data.into_owned()),
            Inbound::Close(close) => Self::Close(close.map(|(code, reason)| (code, reason.into_owned()))),
        }
    }
}

type Answer = (Vec<Said>, Result<usize, Violation>);

/// Everything said by the reads, then the memory left behind or the violation.
fn read<'a>(reads: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Answer {
    read_with(reads, limits, None)
}

/// The same; with an inflater, compression was negotiated.
fn read_with<'a>(
    reads: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
    mut inflater: Option<Inflater>,
) -> Answer {
    let mut assembler = Assembler::default();
    let mut said = Vec::new();
    for bytes in reads {
        let mut bytes = bytes.to_vec();
        let mut rest = &mut bytes[..];
        while !rest.is_empty() {
            let len = rest.len();
            match assembler.next(rest, limits, inflater.as_mut()) {
                Ok((used, inbound)) => {
                    assert!(used > 0 && (inbound.is_some() || used == len));
                    said.extend(inbound.map(Said::from));
                    rest = &mut rest[used..];
                }
                Err(violation) => return (said, Err(violation)),
            }
        }
    }
    (said, Ok(assembler.buffered_bytes()))
}

/// Attack 35: the same answer coalesced, byte by byte, in pairs and triples, and cut in two at every place.
fn read_in_every_way(bytes: &[u8]) -> Answer {
    read_in_every_way_with(bytes, || None)
}

/// The same, with compression negotiated.
fn read_compressed(bytes: &[u8]) -> Answer {
    read_in_every_way_with(bytes, || Some(Inflater::default()))
}

fn read_in_every_way_with(bytes: &[u8], inflater: fn() -> Option<Inflater>) -> Answer {
    let coalesced = read_with([bytes], &LIMITS, inflater());
    for size in [1, 2, 3] {
        assert_same(&read_with(bytes.chunks(size), &LIMITS, inflater()), &coalesced, size);
    }
    let cuts = bytes.len().min(300);
    for cut in (0..=cuts).chain(bytes.len().saturating_sub(20)..bytes.len()) {
        let (left, right) = bytes.split_at(cut);
        assert_same(&read_with([left, right], &LIMITS, inflater()), &coalesced, cut);
    }
    coalesced
}

fn assert_same(split: &Answer, coalesced: &Answer, how: usize) {
    assert_eq!(split.0, coalesced.0, "split {how}");
    assert_eq!(split.1.map(|held| held > 0), coalesced.1.map(|held| held > 0), "split {how}");
}

fn frame(opcode: OpCode, payload: impl AsRef<[u8]>, fin: bool) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode_masked(&mut out, opcode, payload.as_ref(), MASK, fin);
    out
}

fn text(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Text, payload, true)
}

fn start(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Text, payload, false)
}

fn more(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Continuation, payload, false)
}

fn end(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Continuation, payload, true)
}

fn ping(payload: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Ping, payload, true)
}

fn close(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    frame(OpCode::Close, [&code.to_be_bytes(), reason.as_ref()].concat(), true)
}

/// The same frame with another first byte.
fn first_byte(byte: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] = byte;
    frame
}

/// The same with RSV1.
fn rsv1(mut frame: Vec<u8>) -> Vec<u8> {
    frame[0] |= 0x40;
    frame
}

/// The compressed form of a payload, which must gain from it.
fn deflated(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let frame = Compressor::default().compress(&frame::encode(OpCode::Text, payload.as_ref()));
    let frame = frame.expect("it gets smaller");
    frame[frame::frame_len(&frame).expect("whole").0..].to_vec()
}

/// A masked header with a 64-bit length.
fn long_header(first: u8, payload_len: u64) -> Vec<u8> {
    [&[first, 0xFF][..], &payload_len.to_be_bytes(), &MASK].concat()
}

fn expect_violation(name: &str, bytes: &[u8], before: &[Said], violation: Violation) {
    let (said, end) = read_in_every_way(bytes);
    assert_eq!(said, before, "{name}");
    assert_eq!(end, Err(violation), "{name}");
}

fn expect_said(name: &str, bytes: &[u8], expected: &[Said]) {
    let (said, end) = read_in_every_way(bytes);
    assert_eq!(said, expected, "{name}");
    assert_eq!(end, Ok(0), "{name}: nothing is held after the last frame");
}

fn said_text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

#[test]
fn idle_assembler_is_one_null_pointer() {
    assert_eq!(size_of::<Assembler>(), size_of::<usize>());
    let mut assembler = Assembler::default();
    assert_eq!(assembler.next(&mut [], &LIMITS, None), Ok((0, None)));
    assert_eq!(assembler.buffered_bytes(), 0);
}

#[test]
fn whole_messages_are_borrowed_in_place() {
    let mut bytes = [text("hello"), text("next")].concat();
    let mut assembler = Assembler::default();
    let (used, inbound) = assembler.next(&mut bytes, &LIMITS, None).unwrap();
    assert_eq!(inbound, Some(Inbound::Text(Cow::Borrowed("hello"))));
    assert!(matches!(inbound, Some(Inbound::Text(Cow::Borrowed(_)))));
    assert_eq!((used, assembler.buffered_bytes()), (6 + 5, 0));
}

#[test]
fn reasons_and_codes_are_those_of_bun() {
    let table = [
        (Violation::UnmaskedFrame, 1002, "Received an incorrectly masked frame"),
        (Violation::UnexpectedRsv1, 1002, "Received unexpected RSV1 bit"),
        (Violation::UnexpectedRsv23, 1002, "Received unexpected RSV2 or RSV3 bit"),
        (Violation::InvalidOpcode, 1002, "Received invalid opcode"),
        (Violation::FragmentedControl, 1002, "Received fragmented control frame"),
        (Violation::ControlTooBig, 1002, "Received too big control frame"),
        (Violation::StrayContinuation, 1002, "Received continuation frame outside a fragmented message"),
        (Violation::NestedMessage, 1002, "Received new message inside a fragmented message"),
        (Violation::MessageTooBig, 1009, "Received too big message"),
        (Violation::TooManyFragments, 1008, "Too many fragments"),
        (Violation::InvalidDeflate, 1007, "Received invalid compressed data"),
        (Violation::InvalidUtf8, 1007, "Received invalid UTF-8"),
        (Violation::InvalidClosePayload, 1002, "Received invalid close payload"),
        (Violation::InvalidCloseCode, 1002, "Received invalid close code"),
    ];
    assert_eq!(table.len(), Violation::COUNT);
    for (index, (violation, code, reason)) in table.into_iter().enumerate() {
        assert_eq!((violation.close_code(), violation.reason()), (code, reason));
        assert_eq!((violation.index(), Violation::ALL[index]), (index, violation));
        assert_eq!(violation.to_string(), reason);
        assert!(violation.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
    }
}

#[test]
fn attack_19_unmasked_frames_are_refused_at_the_second_byte() {
    for first in [0x81, 0x80, 0x88, 0x89, 0xC1, 0x83] {
        expect_violation("unmasked", &[first, 0], &[], Violation::UnmaskedFrame);
        expect_violation("unmasked", &[first, 3, b'a', b'b', b'c'], &[], Violation::UnmaskedFrame);
    }
    let bytes = [text("ok"), vec![0x81, 1, b'x']].concat();
    expect_violation("after a good one", &bytes, &[said_text("ok")], Violation::UnmaskedFrame);
}

#[test]
fn attack_20_a_zero_mask_is_fine() {
    let mut bytes = Vec::new();
    frame::encode_masked(&mut bytes, OpCode::Text, b"plain", [0; 4], true);
    expect_said("zero mask", &bytes, &[said_text("plain")]);
}

#[test]
fn attack_21_reserved_bits() {
    let table = [
        (0xC1, Violation::UnexpectedRsv1),
        (0xA1, Violation::UnexpectedRsv23),
        (0x91, Violation::UnexpectedRsv23),
        (0xE1, Violation::UnexpectedRsv1),
        (0xC9, Violation::UnexpectedRsv1),
        (0xC0, Violation::UnexpectedRsv1),
        (0xC3, Violation::UnexpectedRsv1),
        (0xA3, Violation::UnexpectedRsv23),
    ];
    for (byte, violation) in table {
        expect_violation("reserved bit", &first_byte(byte, text("x")), &[], violation);
    }
}

#[test]
fn attack_21_rsv1_belongs_to_the_first_frame_of_a_message_alone() {
    let hello = deflated("hello, hello, hello, hello");
    let (first, last) = hello.split_at(hello.len() / 2);
    let table = [
        ("continuation", [rsv1(start(first)), rsv1(end(last))].concat()),
        ("stray continuation", rsv1(end(last))),
        ("ping", rsv1(ping("x"))),
        ("close", rsv1(close(1000, ""))),
        ("reserved opcode", first_byte(0xC3, text("x"))),
    ];
    for (name, bytes) in table {
        assert_eq!(read_compressed(&bytes), (vec![], Err(Violation::UnexpectedRsv1)), "{name}");
    }
    let nested = [start("plain"), rsv1(text(&hello))].concat();
    assert_eq!(read_compressed(&nested), (vec![], Err(Violation::NestedMessage)));
}

#[test]
fn compressed_messages_come_whole_in_fragments_and_among_plain_ones() {
    let said = "Grüße, Grüße, Grüße, Grüße, Grüße";
    let payload = deflated(said);
    let fragments: Vec<u8> =
        payload.chunks(3).skip(1).flat_map(|chunk| [more(chunk), ping("p")].concat()).collect();
    let bytes = [
        text("plain"),
        rsv1(text(&payload)),
        rsv1(start(&payload[..3])),
        fragments,
        more(""),
        end(""),
        rsv1(frame(OpCode::Binary, &payload, true)),
        text("plain"),
    ]
    .concat();
    let (heard, end) = read_compressed(&bytes);
    let heard: Vec<Said> = heard.into_iter().filter(|item| !matches!(item, Said::Ping(_))).collect();
    let binary = Said::Binary(said.as_bytes().to_vec());
    let expected = [said_text("plain"), said_text(said), said_text(said), binary, said_text("plain")];
    assert_eq!((&heard[..], end), (&expected[..], Ok(0)));
}

#[test]
fn attack_39_compressed_text_that_is_not_utf8() {
    let payload = deflated([0xC3; 100]);
    assert_eq!(read_compressed(&rsv1(text(&payload))), (vec![], Err(Violation::InvalidUtf8)));
}

#[test]
fn attack_42_a_bomb_ends_at_the_limit_in_one_frame_and_across_fragments() {
    let fits = deflated(vec![b'x'; LIMITS.message_bytes_max]);
    let bomb = deflated(vec![b'x'; LIMITS.message_bytes_max + 1]);
    let (heard, end) = read_compressed(&rsv1(text(&fits)));
    assert_eq!((heard.len(), end), (1, Ok(0)));
    for bytes in [rsv1(text(&bomb)), [rsv1(start(&bomb[..9])), more(""), self::end(&bomb[9..])].concat()] {
        assert_eq!(read_compressed(&bytes), (vec![], Err(Violation::MessageTooBig)));
    }
}

#[test]
fn attack_44_a_corrupt_stream_ends_the_connection() {
    for payload in [&[0x06][..], &[0xFF; 40]] {
        assert_eq!(read_compressed(&rsv1(text(payload))), (vec![], Err(Violation::InvalidDeflate)));
    }
}

#[test]
fn attack_22_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for fin in [0, 0x80] {
            expect_violation("opcode", &first_byte(fin | opcode, text("x")), &[], Violation::InvalidOpcode);
        }
    }
    let big = first_byte(0x8B, text("x".repeat(126)));
    expect_violation("too big as well", &big, &[], Violation::InvalidOpcode);
}

#[test]
fn attack_23_control_frames_over_125_bytes() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        let bytes = frame(opcode, [b'p'; 126], true);
        expect_violation("126 bytes", &bytes, &[], Violation::ControlTooBig);
    }
    expect_said("125 bytes", &ping([b'p'; 125]), &[Said::Ping(vec![b'p'; 125])]);
    expect_said("0 bytes", &ping(""), &[Said::Ping(vec![])]);
}

#[test]
fn attack_24_fragmented_control_frames() {
    for opcode in [OpCode::Close, OpCode::Ping, OpCode::Pong] {
        expect_violation("no FIN", &frame(opcode, "x", false), &[], Violation::FragmentedControl);
        let big = frame(opcode, [0; 126], false);
        expect_violation("no FIN and too big", &big, &[], Violation::FragmentedControl);
    }
}

#[test]
fn attack_25_continuation_without_start_and_message_inside_a_message() {
    expect_violation("stray", &end("x"), &[], Violation::StrayContinuation);
    expect_violation("stray, more to come", &more("x"), &[], Violation::StrayContinuation);
    let after = [start("a"), end("b"), end("c")].concat();
    expect_violation("one too many", &after, &[said_text("ab")], Violation::StrayContinuation);
    for nested in [text("b"), start("b"), frame(OpCode::Binary, "b", true)] {
        let bytes = [start("a"), nested].concat();
        expect_violation("nested", &bytes, &[], Violation::NestedMessage);
    }
    let too_big = [start("a"), long_header(0x81, 1 << 40)].concat();
    expect_violation("nested and too big", &too_big, &[], Violation::NestedMessage);
}

#[test]
fn attack_26_lengths_with_the_top_bit_and_the_largest_without() {
    for payload_len in [1 << 63, u64::MAX, (1 << 63) - 1, (1 << 32) + 1, 131_073] {
        expect_violation("length", &long_header(0x82, payload_len), &[], Violation::MessageTooBig);
        let bytes = [start("a"), long_header(0x80, payload_len)].concat();
        expect_violation("length of a fragment", &bytes, &[], Violation::MessageTooBig);
    }
}

#[test]
fn attack_27_lengths_longer_than_needed_are_accepted_on_data_frames_only() {
    let mut payload = *b"hello";
    frame::unmask(&mut payload, MASK, 0);
    let medium = [&[0x81, 0xFE, 0, 5][..], &MASK, &payload].concat();
    expect_said("16-bit 5", &medium, &[said_text("hello")]);
    let long = [long_header(0x81, 5), payload.to_vec()].concat();
    expect_said("64-bit 5", &long, &[said_text("hello")]);
    let ping = [&[0x89, 0xFE, 0, 5][..], &MASK, &payload].concat();
    expect_violation("16-bit 5 on a ping", &ping, &[], Violation::ControlTooBig);
}

#[test]
fn attack_28_a_declared_gigabyte_allocates_nothing() {
    let limits = Limits { message_bytes_max: 1 << 30, fragments_max: 2 };
    for header in [long_header(0x81, 1 << 30), long_header(0x01, 1 << 30)] {
        let (said, held) = read([&header[..]], &limits);
        assert!(said.is_empty());
        assert!(held.unwrap() < 512, "held {held:?}");
        let (_, held) = read([&header[..], &MASK.repeat(250)], &limits);
        assert!(held.unwrap() < 512 + 2 * 1000, "held {held:?}");
    }
}

#[test]
fn attack_29_the_limit_and_one_byte_more() {
    let limit = LIMITS.message_bytes_max;
    let exact = "z".repeat(limit);
    let expected = [said_text(&exact)];
    for reads in [vec![text(&exact)], vec![start(&exact), end("")], vec![start(&exact[1..]), end("z")]] {
        let bytes = reads.concat();
        for size in [bytes.len(), 1, 4093, 65_536] {
            assert_eq!(read(bytes.chunks(size), &LIMITS), (expected.to_vec(), Ok(0)));
        }
    }
    let over = text("z".repeat(limit + 1));
    assert_eq!(read([&over[..14]], &LIMITS), (vec![], Err(Violation::MessageTooBig)), "told by the header");
    let crossing = [start(&exact), end("z")].concat();
    let header_end = crossing.len() - 1;
    assert_eq!(read([&crossing[..header_end]], &LIMITS), (vec![], Err(Violation::MessageTooBig)));
    expect_violation("fragments", &crossing, &[], Violation::MessageTooBig);
}

#[test]
fn attack_30_a_million_empty_continuations_stop_at_the_fragment_limit() {
    let bytes = [start(""), more("").repeat(1_000_000)].concat();
    let mut assembler = Assembler::default();
    let mut input = bytes.clone();
    assert_eq!(assembler.next(&mut input, &LIMITS, None), Err(Violation::TooManyFragments));
    let allowed = 6 * LIMITS.fragments_max as usize;
    assert!(read([&bytes[..allowed]], &LIMITS).1.unwrap() < 512, "empty fragments hold nothing");
    let (_, end) = read([&bytes[..allowed + 6]], &LIMITS);
    assert_eq!(end, Err(Violation::TooManyFragments));
}

#[test]
fn attack_31_a_message_in_one_byte_fragments() {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1 << 20 };
    for len in [70_000, 1 << 20] {
        let letter = more("m");
        let bytes = [start("m"), letter.repeat(len - 2), end("m")].concat();
        let expected = (vec![said_text(&"m".repeat(len))], Ok(0));
        assert!(read([&bytes[..]], &limits) == expected, "{len} coalesced");
        assert!(read(bytes.chunks(13), &limits) == expected, "{len} in small reads");
        assert_eq!(
            read([&bytes[..]], &Limits { fragments_max: 1000, ..limits }).1,
            Err(Violation::TooManyFragments)
        );
    }
}

#[test]
fn attack_32_control_frames_between_fragments() {
    let bytes =
        [start("{\"ev"), ping("mid"), more("ent\""), frame(OpCode::Pong, "", true), end(":1}")].concat();
    let expected = [Said::Ping(b"mid".to_vec()), Said::Pong(vec![]), said_text("{\"event\":1}")];
    expect_said("interleaved", &bytes, &expected);

    let closed = [start("a"), close(1000, "bye")].concat();
    let (said, held) = read_in_every_way(&closed);
    assert_eq!(said, [Said::Close(Some((1000, "bye".to_owned())))]);
    assert!(held.unwrap() > 0, "the open message is dropped with the connection");
}

#[test]
fn attack_33_a_ping_flood_holds_nothing() {
    let bytes = ping("!").repeat(500);
    expect_said("500 pings", &bytes, &vec![Said::Ping(b"!".to_vec()); 500]);
}

#[test]
fn attack_34_close_payloads() {
    expect_said("empty", &frame(OpCode::Close, "", true), &[Said::Close(None)]);
    let half = frame(OpCode::Close, [3], true);
    expect_violation("one byte", &half, &[], Violation::InvalidClosePayload);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535] {
        expect_violation("code", &close(code, ""), &[], Violation::InvalidCloseCode);
        expect_violation("code and reason", &close(code, [0xFF]), &[], Violation::InvalidCloseCode);
    }
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        let expected = [Said::Close(Some((code, "är".to_owned())))];
        expect_said("code", &close(code, "är"), &expected);
    }
    expect_said("123 bytes", &close(1000, "r".repeat(123)), &[Said::Close(Some((1000, "r".repeat(123))))]);
    expect_violation("124 bytes", &close(1000, "r".repeat(124)), &[], Violation::ControlTooBig);
    for reason in [&[0xFF, 0xFE][..], b"cut \xC3", b"\xED\xA0\x80"] {
        expect_violation("reason", &close(1000, reason), &[], Violation::InvalidUtf8);
    }
}

#[test]
fn attack_36_input_that_ends_mid_frame_is_held_and_then_freed_with_the_connection() {
    let bytes = [start("a"), end("bcd")].concat();
    for cut in 1..bytes.len() {
        let (said, held) = read([&bytes[..cut]], &LIMITS);
        assert!(said.is_empty());
        assert!((1..512).contains(&held.unwrap()), "cut at {cut}: {held:?}");
    }
}

#[test]
fn attack_39_text_that_is_not_utf8() {
    let table: [(&str, &[u8]); 12] = [
        ("never valid", b"\xFF"),
        ("bare continuation", b"a\x80"),
        ("overlong /", b"\xC0\xAF"),
        ("overlong NUL", b"\xE0\x80\x80"),
        ("overlong 4 bytes", b"\xF0\x80\x80\x80"),
        ("high surrogate", b"\xED\xA0\x80"),
        ("low surrogate", b"\xED\xBF\xBF"),
        ("above U+10FFFF", b"\xF4\x90\x80\x80"),
        ("five bytes", b"\xF8\x88\x80\x80\x80"),
        ("cut 2", b"\xC3"),
        ("cut 3", b"\xE2\x82"),
        ("cut 4", b"\xF0\x9F\x98"),
    ];
    for (name, bad) in table {
        expect_violation(name, &text(bad), &[], Violation::InvalidUtf8);
        expect_violation(name, &text([b"valid ", bad].concat()), &[], Violation::InvalidUtf8);
        for cut in 0..=bad.len() {
            let bytes = [start(&bad[..cut]), end(&bad[cut..])].concat();
            expect_violation(name, &bytes, &[], Violation::InvalidUtf8);
        }
        expect_said(name, &frame(OpCode::Binary, bad, true), &[Said::Binary(bad.to_vec())]);
    }
}

#[test]
fn attack_39_bad_utf8_fails_as_soon_as_the_byte_arrives() {
    let unfinished = start(b"good \xF4\x90");
    assert_eq!(read([&unfinished[..]], &LIMITS).1, Err(Violation::InvalidUtf8), "in a fragment");
    assert!(read([&unfinished[..unfinished.len() - 1]], &LIMITS).1.is_ok(), "F4 may still become good");
    let frame = text([&b"good \xFF"[..], &[b'x'; 100]].concat());
    assert_eq!(read([&frame[..6 + 6]], &LIMITS).1, Err(Violation::InvalidUtf8), "in a frame");
    let crossing = [start(b"\xED"), more(b"\xA0")].concat();
    assert_eq!(read([&crossing[..]], &LIMITS).1, Err(Violation::InvalidUtf8), "across fragments");
}

#[test]
fn characters_may_be_cut_by_fragments() {
    let word = "aé€😀z";
    for first in 0..=word.len() {
        for second in first..=word.len() {
            let bytes = [
                start(&word.as_bytes()[..first]),
                ping("between"),
                more(&word.as_bytes()[first..second]),
                end(&word.as_bytes()[second..]),
            ]
            .concat();
            let expected = (vec![Said::Ping(b"between".to_vec()), said_text(word)], Ok(0));
            assert_eq!(read([&bytes[..]], &LIMITS), expected);
            assert_eq!(read(bytes.chunks(1), &LIMITS), expected);
        }
    }
}

#[test]
fn attack_40_empty_messages_and_a_megabyte_of_nul() {
    expect_said("empty text", &text(""), &[said_text("")]);
    expect_said("empty binary", &frame(OpCode::Binary, "", true), &[Said::Binary(vec![])]);
    expect_said("empty fragments", &[start(""), more(""), end("")].concat(), &[said_text("")]);
    let limits = Limits { message_bytes_max: 1 << 20, ..LIMITS };
    let nul = "\0".repeat(1 << 20);
    let bytes = text(&nul);
    for size in [bytes.len(), 16_384, 1] {
        assert!(read(bytes.chunks(size), &limits) == (vec![said_text(&nul)], Ok(0)), "reads of {size}");
    }
}

#[test]
fn everything_said_before_a_violation_is_heard() {
    let bytes = [text("one"), ping("two"), start("th"), end("ree"), vec![0x81, 0x00], text("never")].concat();
    let before = [said_text("one"), Said::Ping(b"two".to_vec()), said_text("three")];
    expect_violation("unmasked last", &bytes, &before, Violation::UnmaskedFrame);
}

/// A small generator, so that a failure names its seed and needs no other crate.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// A random message, its frames cut at random and mixed with control frames.
fn random_message(random: &mut Lcg, out: &mut Vec<u8>, expected: &mut Vec<Said>) {
    const LETTERS: [&str; 6] = ["a", "é", "€", "😀", "\0", "\u{10FFFF}"];
    let len = [0, 1, 125, 126, 300, 70_000][random.below(6)];
    let content: String = (0..len).map(|_| LETTERS[random.below(LETTERS.len())]).take(len / 2 + 1).collect();
    let is_text = random.below(2) == 0;
    let mut opcode = if is_text { OpCode::Text } else { OpCode::Binary };
    let mut rest = content.as_bytes();
    for last in (0..random.below(5)).rev() {
        let cut = if last == 0 { rest.len() } else { random.below(rest.len() + 1) };
        let mask = [0; 4].map(|_: u8| random.below(256) as u8);
        frame::encode_masked(out, opcode, &rest[..cut], mask, false);
        rest = &rest[cut..];
        opcode = OpCode::Continuation;
        if random.below(3) == 0 {
            let payload = vec![b'p'; random.below(126)];
            frame::encode_masked(out, OpCode::Ping, &payload, mask, true);
            expected.push(Said::Ping(payload));
        }
    }
    frame::encode_masked(out, opcode, rest, MASK, true);
    expected.push(if is_text { Said::Text(content) } else { Said::Binary(content.into_bytes()) });
}

#[test]
fn random_messages_survive_random_fragments_and_reads() {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 8 };
    for seed in 0..200 {
        let mut random = Lcg(seed);
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..1 + random.below(6) {
            random_message(&mut random, &mut bytes, &mut expected);
        }
        let mut reads = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let size_max = [1, 7, 200, 20_000][random.below(4)];
            let (read, tail) = rest.split_at((1 + random.below(size_max)).min(rest.len()));
            reads.push(read);
            rest = tail;
        }
        assert!(read(reads, &limits) == (expected, Ok(0)), "seed {seed}");
    }
}
