use super::*;

#[test]
fn server_headers_use_the_shortest_length() {
    let table: [(usize, &[u8]); 7] = [
        (0, &[0x81, 0]),
        (1, &[0x81, 1]),
        (125, &[0x81, 125]),
        (126, &[0x81, 126, 0, 126]),
        (0xFFFF, &[0x81, 126, 0xFF, 0xFF]),
        (0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (0x1_2345_6789, &[0x81, 127, 0, 0, 0, 1, 0x23, 0x45, 0x67, 0x89]),
    ];
    for (payload_len, expected) in table {
        let mut out = Vec::new();
        encode_header(&mut out, OpCode::Text, payload_len, false);
        assert_eq!(out, expected);
        assert_eq!(frame_len(&out), Some((expected.len(), payload_len)));
        for cut in 0..expected.len() {
            assert_eq!(frame_len(&expected[..cut]), None, "{payload_len} cut at {cut}");
        }
    }
}

#[test]
fn first_bytes_of_server_frames() {
    let table = [
        (OpCode::Continuation, false, 0x80),
        (OpCode::Text, true, 0xC1),
        (OpCode::Binary, false, 0x82),
        (OpCode::Close, false, 0x88),
        (OpCode::Ping, false, 0x89),
        (OpCode::Pong, false, 0x8A),
    ];
    for (opcode, rsv1, first) in table {
        let mut out = Vec::new();
        encode_header(&mut out, opcode, 0, rsv1);
        assert_eq!(out, [first, 0]);
        assert_eq!(OpCode::of_first_byte(first), Some(opcode));
    }
    for reserved in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(OpCode::of_first_byte(0xF0 | reserved), None);
    }
}

#[test]
fn whole_frames_have_no_spare_capacity() {
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        let payload = vec![7; len];
        let frame = encode(OpCode::Binary, &payload);
        assert_eq!(frame.capacity(), frame.len());
        let (header_len, payload_len) = frame_len(&frame).unwrap();
        assert_eq!(&frame[header_len..], payload);
        assert_eq!(payload_len, len);
    }
    assert_eq!(text("hé"), [0x81, 3, b'h', 0xC3, 0xA9]);
}

#[test]
fn close_frames() {
    assert_eq!(close(None, "ignored"), [0x88, 0]);
    assert_eq!(close(Some(1000), ""), [0x88, 2, 0x03, 0xE8]);
    assert_eq!(close(Some(4001), "no"), [0x88, 4, 0x0F, 0xA1, b'n', b'o']);
    let cut = close(Some(1000), &"é".repeat(100));
    assert_eq!(cut.len(), 2 + 2 + 122, "cut before the character that does not fit");
    assert!(std::str::from_utf8(&cut[4..]).is_ok());
}

#[test]
fn close_codes_that_may_be_sent() {
    let valid = (0..=u16::MAX).filter(|code| is_sendable_close_code(*code)).count();
    assert_eq!(valid, 4 + 8 + 2000);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert!(!is_sendable_close_code(code), "{code}");
    }
}

#[test]
fn client_headers_survive_a_round_trip_and_every_cut() {
    for payload_len in [0usize, 1, 125, 126, 127, 65_535, 65_536] {
        let mut out = Vec::new();
        encode_masked(&mut out, OpCode::Binary, &vec![0; payload_len], [1, 2, 3, 4], false);
        let header = parse_client_header(&out).unwrap();
        assert_eq!(header.len, header_len(out[1]));
        assert_eq!(header.len + payload_len, out.len());
        assert_eq!(
            header,
            ClientHeader {
                fin: false,
                rsv1: false,
                opcode: OpCode::Binary,
                mask: [1, 2, 3, 4],
                payload_len: payload_len as u64,
                len: header.len
            }
        );
        for cut in 0..header.len {
            assert_eq!(parse_client_header(&out[..cut]), None, "{payload_len} cut at {cut}");
        }
    }
}

#[test]
fn unmask_equals_the_definition_at_every_length_and_offset() {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    for len in 0..40 {
        for offset in 0..9 {
            let plain: Vec<u8> = (0..len).map(|i: u8| i.wrapping_mul(7)).collect();
            let mut data = plain.clone();
            unmask(&mut data, mask, offset);
            let expected: Vec<u8> =
                plain.iter().enumerate().map(|(i, byte)| byte ^ mask[(offset + i) % 4]).collect();
            assert_eq!(data, expected, "length {len}, offset {offset}");
            unmask(&mut data, mask, offset);
            assert_eq!(data, plain);
        }
    }
}
