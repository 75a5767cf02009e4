//! RFC 6455 frames, written and read without the code under test.

use shardcast_wire::ignis::Cipher;

use crate::deflate::inflated;

/// The opcodes of RFC 6455 §5.2.
pub(crate) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xa;
}

pub(crate) const FIN: u8 = 0x80;
/// Of a compressed message (RFC 7692 §6).
pub(crate) const RSV1: u8 = 0x40;

/// A final server frame.
pub(crate) fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![FIN | opcode];
    push_len(&mut frame, payload.len(), 0);
    frame.extend_from_slice(payload);
    frame
}

/// The frame in its plain form, which has at most this many bytes, of a compressed frame of the server.
pub(crate) fn inflated_frame(frame: &[u8], bytes_max: usize) -> Vec<u8> {
    assert_eq!(whole_frame_len(frame), Some(frame.len()), "one whole frame");
    assert_eq!(frame[0] & RSV1, RSV1, "a compressed frame");
    let header_len = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    server_frame(frame[0] & 0x0f, &inflated(&frame[header_len..], bytes_max))
}

/// The frame in its plain form of an encrypted frame of the server.
pub(crate) fn decrypted_frame(cipher: &Cipher, frame: &[u8]) -> Vec<u8> {
    let header_len = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    let event = std::str::from_utf8(&frame[header_len..]).expect("text");
    let data = event.strip_prefix(r#"{"event":"encrypted","data":"#).and_then(|data| data.strip_suffix('}'));
    let data = data.unwrap_or_else(|| panic!("{event} goes out readable"));
    server_frame(frame[0] & 0x0f, cipher.open(data).expect("a message of this key").as_bytes())
}

/// A close frame of the server.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    server_frame(opcode::CLOSE, &close_payload(code, reason))
}

/// The payload of a close frame.
pub(crate) fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The header of a client frame; `first` is its first byte.
pub(crate) fn client_header(first: u8, payload_len: usize, mask: [u8; 4]) -> Vec<u8> {
    let mut header = vec![first];
    push_len(&mut header, payload_len, 0x80);
    header.extend_from_slice(&mask);
    header
}

/// A whole client frame.
pub(crate) fn client_frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = client_header(first, payload.len(), mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn push_len(out: &mut Vec<u8>, len: usize, mask_bit: u8) {
    match len {
        0..126 => out.push(mask_bit | len as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Length of the server frame at the front of `bytes` once all of it is there. Panics on what no server sends.
pub(crate) fn whole_frame_len(bytes: &[u8]) -> Option<usize> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert!(first & 0xf0 & !RSV1 == FIN, "a frame of a server begins with {first:#x}");
    assert!(second & 0x80 == 0, "a frame of a server is masked");
    let (header, len) = match second {
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("8 bytes")) as usize),
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= header + len).then_some(header + len)
}

/// Length of the HTTP answer at the front of `bytes`, its body included, once all of it is there.
pub(crate) fn whole_answer_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("an answer is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    (bytes.len() >= end + length).then_some(end + length)
}

/// The frames of a write that begins and ends with one.
pub(crate) fn split_frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = whole_frame_len(bytes).expect("a write ends where a frame ends");
        let (frame, rest) = bytes.split_at(len);
        frames.push(frame);
        bytes = rest;
    }
    frames
}
