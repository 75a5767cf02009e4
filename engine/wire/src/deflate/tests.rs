use super::*;

/// "Hello" in the ways of RFC 7692 §7.2.3, but for the one that needs a window from before.
const HELLO: [&[u8]; 4] = [
    &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
    &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
    &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
    &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
];

fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
    Inflater::default().inflate(payload, bytes_max)
}

/// The payload of the compressed form of a text.
fn deflated(text: &[u8]) -> Vec<u8> {
    let frame = Compressor::default().compress(&frame::encode(OpCode::Text, text)).expect("it gets smaller");
    frame[frame::frame_len(&frame).expect("whole").0..].to_vec()
}

fn negotiated(lines: &[&str]) -> Option<&'static str> {
    negotiate(lines.iter().map(|line| line.as_bytes())).map(Agreement::header_value)
}

#[test]
fn attack_08_an_offer_is_accepted_only_as_a_whole() {
    const PLAIN: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    const WINDOW: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=15";
    let table: [(&[&str], Option<&str>); 36] = [
        (&[], None),
        (&[""], None),
        (&["permessage-deflate"], Some(PLAIN)),
        (&["Permessage-Deflate ; Client_Max_Window_Bits = 15"], Some(PLAIN)),
        (&["foo, permessage-deflate"], Some(PLAIN)),
        (&["foo", "permessage-deflate"], Some(PLAIN)),
        (&["permessage-deflate; client_max_window_bits"], Some(PLAIN)),
        (&["permessage-deflate; client_max_window_bits=8"], Some(PLAIN)),
        (&["permessage-deflate; client_max_window_bits=\"10\""], Some(PLAIN)),
        (&["permessage-deflate; client_no_context_takeover;server_no_context_takeover"], Some(PLAIN)),
        (&["permessage-deflate; server_max_window_bits=15"], Some(WINDOW)),
        (&["permessage-deflate; server_max_window_bits=\"15\"; client_max_window_bits"], Some(WINDOW)),
        (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], Some(PLAIN)),
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (&["permessage-deflate; server_max_window_bits=14"], None),
        (&["permessage-deflate; server_max_window_bits"], None),
        (&["permessage-deflate; server_max_window_bits="], None),
        (&["permessage-deflate; server_max_window_bits=015"], None),
        (&["permessage-deflate; server_max_window_bits=16"], None),
        (&["permessage-deflate; server_max_window_bits=+15"], None),
        (&["permessage-deflate; server_max_window_bits=15=15"], None),
        (&["permessage-deflate; server_max_window_bits=\""], None),
        (&["permessage-deflate; client_max_window_bits=7"], None),
        (&["permessage-deflate; client_max_window_bits=16"], None),
        (&["permessage-deflate; client_max_window_bits=99999999999999999999"], None),
        (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], None),
        (&["permessage-deflate; client_max_window_bits=10; client_max_window_bits=10"], None),
        (&["permessage-deflate; client_no_context_takeover; client_no_context_takeover"], None),
        (&["permessage-deflate; client_no_context_takeover=1"], None),
        (&["permessage-deflate; server_no_context_takeover="], None),
        (&["permessage-deflate; unheard_of"], None),
        (&["permessage-deflate;"], None),
        (&["permessage-deflate-x, x-permessage-deflate"], None),
        (&["x; a=\"1, permessage-deflate\""], None),
        (&["x; a=\"\\\", permessage-deflate\""], None),
        (&["x; a=\"1\", permessage-deflate"], Some(PLAIN)),
    ];
    for (lines, expected) in table {
        assert_eq!(negotiated(lines), expected, "{lines:?}");
    }
}

#[test]
fn every_form_of_the_examples_of_the_rfc_is_inflated() {
    for payload in HELLO {
        assert_eq!(inflate(payload, 5).as_deref(), Ok(&b"Hello"[..]), "{payload:x?}");
    }
    for empty in [&[][..], &[0x00], &[0x02, 0x00], &[0x03, 0x00, 0x00]] {
        assert_eq!(inflate(empty, 0).as_deref(), Ok(&b""[..]), "{empty:x?}");
    }
}

#[test]
fn what_is_compressed_is_inflated_to_the_same_whatever_came_before() {
    let (mut compressor, mut inflater) = (Compressor::default(), Inflater::default());
    for len in [200, 70_000, 100, 256, 200_000, 1_000] {
        let text: Vec<u8> = (0..len).map(|at| b"abcdefghij"[(at * at / 7) % 10]).collect();
        let plain = frame::encode(OpCode::Text, &text);
        let frame = compressor.compress(&plain).expect("it gets smaller");
        assert_eq!((frame[0], frame.len()), (0xC1, frame.capacity()));
        assert!(frame.len() < plain.len());
        let (header_len, payload_len) = frame::frame_len(&frame).expect("a header");
        assert_eq!(header_len + payload_len, frame.len());
        assert_eq!(inflater.inflate(&frame[header_len..], len).as_deref(), Ok(&text[..]), "{len} bytes");
    }
}

#[test]
fn a_frame_that_would_not_get_smaller_has_no_compressed_form() {
    let mut state = 1u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(len).collect()
    };
    let mut compressor = Compressor::default();
    for len in [0, 1, 2, 10, 125, 126, 127, 1_000, 65_535, 65_536, 300_000] {
        assert_eq!(compressor.compress(&frame::encode(OpCode::Binary, &noise(len))), None, "{len} bytes");
    }
    assert_eq!(compressor.compress(&[]), None);
}

#[test]
fn attack_42_a_bomb_takes_no_more_memory_than_allowed() {
    let payload = deflated(&vec![0; 4 << 20]);
    assert!(payload.len() < 8 << 10, "{} bytes for 4 MiB", payload.len());
    for bytes_max in [0, 1, 1_000, 128 << 10, (4 << 20) - 1] {
        let mut out = Vec::new();
        let mut inflater = Inflater::default();
        assert_eq!(inflater.feed(&payload, &mut out, bytes_max), Err(Violation::MessageTooBig));
        assert!(out.capacity() <= bytes_max + 1, "{} bytes for {bytes_max}", out.capacity());
        assert_eq!(inflate(&payload, bytes_max), Err(Violation::MessageTooBig));
    }
    assert_eq!(inflate(&payload, 4 << 20).map(|out| out.len()), Ok(4 << 20), "exactly the limit");
}

#[test]
fn attack_44_corrupt_streams_are_told_from_whole_ones() {
    let table: [(&str, &[u8]); 9] = [
        ("reserved block type", &[0x06]),
        ("reserved block type in the middle", &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x37]),
        ("a window from before, RFC 7692 §7.2.3.2", &[0xF2, 0x00, 0x11, 0x00, 0x00]),
        ("stored block with a false length", &[0x00, 0x05, 0x00, 0x00, 0x00, 0x48]),
        ("stored block cut off", &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65]),
        ("fixed codes cut off", &[0xF2, 0x48, 0xCD]),
        ("dynamic codes cut off", &[0x04]),
        ("noise", &[0xFF; 40]),
        ("more after the last block", &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0xF2, 0x48]),
    ];
    for (name, payload) in table {
        assert_eq!(inflate(payload, 1_000), Err(Violation::InvalidDeflate), "{name}");
    }
    let mut inflater = Inflater::default();
    assert!(inflater.inflate(&[0xFF; 40], 1_000).is_err());
    assert_eq!(
        inflater.inflate(HELLO[0], 5).as_deref(),
        Ok(&b"Hello"[..]),
        "the next one is not the worse for it"
    );
}

#[test]
fn attack_44_every_cut_and_every_flipped_bit_ends() {
    let text: Vec<u8> = (0..3_000).map(|at| b"{\"price\": 0123456789}"[(at * at / 11) % 21]).collect();
    let payload = deflated(&text);
    let mut inflater = Inflater::default();
    for cut in 1..payload.len() {
        let result = inflater.inflate(&payload[..cut], 4_000);
        assert!(result.as_ref().is_err() || result.is_ok_and(|out| text.starts_with(&out)), "cut at {cut}");
    }
    for bit in 0..payload.len() * 8 {
        let mut flipped = payload.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let len = inflater.inflate(&flipped, 4_000).map_or(0, |out| out.len());
        assert!(len <= 4_000, "bit {bit}");
    }
}
