//! Messages as they arrive: from a client, from another instance.

use bytes::Bytes;
use shardcast_wire::frame::{self, OpCode};

/// Bytes of text in the messages of every benchmark that does not vary them.
pub const TEXT_BYTES: usize = 128;

/// Masks ASCII as ASCII, so that a frame unmasked in place is a good frame again: what is left to decode after
/// decoding is another text of the same length.
pub const MASK: [u8; 4] = [7, 11, 13, 17];

/// A text of `size` bytes.
pub fn text(size: usize) -> String {
    "x".repeat(size)
}

/// JSON of `size` bytes that compresses as much as JSON usually does: names that repeat, numbers that do not.
pub fn records(size: usize) -> String {
    let mut text = String::from(r#"{"event":"price","data":["#);
    let mut number = 1u32;
    while text.len() < size {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (id, price) = (number >> 15, number >> 17);
        text.push_str(&format!(r#"{{"id":{id},"symbol":"ACME","price":{price}}},"#));
    }
    text.truncate(size);
    text
}

/// A text message to a client in one frame.
pub fn server_frame() -> Bytes {
    Bytes::from(frame::text(&text(TEXT_BYTES)))
}

/// A text message of a client in one frame.
pub fn client_frame(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode_masked(&mut bytes, OpCode::Text, text.as_bytes(), MASK, true);
    bytes
}

/// Another instance's message to a room, its data an object around a text of `text_bytes`.
pub fn envelope(room: &str, text_bytes: usize) -> String {
    let text = text(text_bytes);
    format!(
        r#"{{"serverId":"emitter","type":"room","target":"{room}","event":"hello","data":{{"text":"{text}"}}}}"#
    )
}

/// The bytes in which Redis delivers a message to a room: a `pmessage` in RESP2.
pub fn resp_message(room: &str, payload: &str) -> Vec<u8> {
    let channel = format!("ws:room:{room}");
    let parts = ["pmessage", "ws:room:*", &channel, payload];
    let bulk: String = parts.iter().map(|part| format!("${}\r\n{part}\r\n", part.len())).collect();
    format!("*{}\r\n{bulk}", parts.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use shardcast_wire::message::{Assembler, Inbound, Limits};

    use super::*;

    #[test]
    fn a_frame_can_be_decoded_in_place_again_and_again() {
        let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1_024 };
        let mut assembler = Assembler::default();
        let mut bytes = client_frame(&text(TEXT_BYTES));
        for _ in 0..3 {
            let len = bytes.len();
            let (used, inbound) = assembler.next(&mut bytes, &limits, None).expect("a good frame");
            assert_eq!(used, len);
            assert!(matches!(inbound, Some(Inbound::Text(text)) if text.len() == TEXT_BYTES));
        }
    }

    #[test]
    fn redis_delivers_the_payload_on_the_channel_of_the_room() {
        let payload = envelope("r", 8);
        let value = redis::parse_redis_value(&resp_message("r", &payload)).expect("RESP");
        let message = redis::Msg::from_owned_value(value).expect("a message");
        assert!(message.from_pattern());
        assert_eq!(message.get_channel_name(), "ws:room:r");
        assert_eq!(message.get_payload_bytes(), payload.as_bytes());
    }
}
