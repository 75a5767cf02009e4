//! Small parsers: ids of clients and users, room patterns, close codes and reasons.

use shardcast::config::RoomPattern;
use shardcast_wire::frame;
use shardcast_wire::ignis::{ClientId, UserId};
use shardcast_wire::json;
use shardcast_wire::message::{Assembler, Inbound, Limits};

use super::input::{Input, only_server_frame, parts};

/// Of a pattern and a room, as the reference needs their product, bytes.
const PATTERN_BYTES_MAX: usize = 400;

/// A code, then texts between zero bytes, which take turns as all of these.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let code = u16::from_be_bytes(input.array());
    let bytes = input.rest();
    if let Some(id) = bytes.first_chunk::<16>() {
        check_client_id(ClientId::from_bytes(*id));
    }
    let texts: Vec<_> = parts(bytes).map(String::from_utf8_lossy).collect();
    for text in &texts {
        if let Some(id) = ClientId::parse(text) {
            check_client_id(id);
            assert_eq!(id.to_string(), **text, "an id has one spelling");
        }
        let user = UserId::from_text(text);
        assert_eq!(json::unescape(user.as_json()).as_deref(), Some(&**text), "a user's id");
        check_close(code, text);
    }
    for pair in texts.windows(2).take(8) {
        check_pattern(&pair[0], &pair[1]);
    }
}

fn check_client_id(id: ClientId) {
    assert_eq!(ClientId::parse(&id.to_string()), Some(id), "an id, written and read");
}

/// Whatever the reason, a close frame is one that a peer accepts.
fn check_close(code: u16, reason: &str) {
    let written = frame::close(Some(code), reason);
    let (first, payload) = only_server_frame(&written);
    assert_eq!(first, 0x88);
    assert!(payload.len() <= 125, "a control frame of {} bytes", payload.len());
    let kept = std::str::from_utf8(&payload[2..]).expect("a reason is text");
    assert!(reason.starts_with(kept) && (kept == reason || kept.len() + 4 > 123), "{kept:?} of {reason:?}");

    let mut sent = Vec::new();
    frame::encode_masked(&mut sent, frame::OpCode::Close, payload, [1, 2, 3, 4], true);
    let limits = Limits { message_bytes_max: 0, fragments_max: 1 };
    let heard = Assembler::default().next(&mut sent, &limits, None).map(|(_, inbound)| inbound);
    match heard {
        Ok(inbound) => assert_eq!(inbound, Some(Inbound::Close(Some((code, kept.into()))))),
        Err(_) => assert!(!frame::is_sendable_close_code(code), "{code} is refused"),
    }
}

/// Against a table of what matches what.
fn check_pattern(pattern: &str, room: &str) {
    if pattern.len() > PATTERN_BYTES_MAX || room.len() > PATTERN_BYTES_MAX {
        return;
    }
    // matched[n]: the pattern so far matches the first n bytes of the room.
    let mut matched = vec![false; room.len() + 1];
    matched[0] = true;
    for byte in pattern.bytes() {
        if byte == b'*' {
            let first = matched.iter().position(|is_matched| *is_matched).unwrap_or(matched.len());
            matched[first..].fill(true);
        } else {
            for n in (0..room.len()).rev() {
                matched[n + 1] = matched[n] && room.as_bytes()[n] == byte;
            }
            matched[0] = false;
        }
    }
    assert_eq!(RoomPattern::new(pattern).matches(room), matched[room.len()], "{pattern:?} and {room:?}");
}
