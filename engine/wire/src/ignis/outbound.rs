//! What a client is told, as whole WebSocket frames: single, unmasked text frames (`ignis.md` §2).
//!
//! A frame is made once and shared by all who get it. The JSON of `data` is spliced in as its writer wrote it.

use crate::frame::{self, OpCode, short_text_frame};

use super::encryption::Agreement;
use super::ids::{ClientId, UserId};

const EVENT: &str = r#"{"event":"#;
const DATA: &str = r#","data":"#;

/// The messages of `error` events; there are no others, and no codes. Those of limits are Shardcast's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorText {
    /// A message was no JSON.
    InvalidMessageFormat,
    /// A message needs an authenticated client.
    NotAuthenticated,
    /// `authenticate` was sent before.
    AlreadyAuthenticated,
    /// The credentials were refused.
    AuthenticationFailed,
    /// The check of the credentials broke.
    AuthenticationError,
    /// The key exchange was refused.
    EncryptionHandshakeFailed,
    /// More messages, joins or bytes than the rates allow; they were ignored.
    RateLimitExceeded,
    /// The user holds as many connections as one may.
    TooManyConnections,
}

/// The texts, once: as they are and as whole frames.
macro_rules! error_texts {
    ($($variant:ident => $text:literal,)*) => {
        impl ErrorText {
            /// All of them.
            pub const ALL: &[ErrorText] = &[$(ErrorText::$variant),*];

            /// The `message`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(ErrorText::$variant => $text,)*
                }
            }
        }

        /// The frame of an `error` event.
        pub const fn error(text: ErrorText) -> &'static [u8] {
            match text {
                $(ErrorText::$variant => {
                    const PAYLOAD: &str = concat!(r#"{"event":"error","data":{"message":""#, $text, "\"}}");
                    const FRAME: [u8; PAYLOAD.len() + 2] = short_text_frame(PAYLOAD);
                    &FRAME
                })*
            }
        }
    };
}

error_texts! {
    InvalidMessageFormat => "Invalid message format",
    NotAuthenticated => "Not authenticated",
    AlreadyAuthenticated => "Already authenticated",
    AuthenticationFailed => "Authentication failed",
    AuthenticationError => "Authentication error",
    EncryptionHandshakeFailed => "Encryption handshake failed",
    RateLimitExceeded => "Rate limit exceeded",
    TooManyConnections => "Too many connections",
}

/// The frame of an event: `{"event":<event_json>,"data":<data>}`, without the key when `data` is `None`.
///
/// `event_json` is a JSON string with its quotes and `data` a JSON value; both must be valid.
pub fn event(event_json: &str, data: Option<&str>) -> Vec<u8> {
    match data {
        Some(data) => text_frame(&[EVENT, event_json, DATA, data, "}"]),
        None => text_frame(&[EVENT, event_json, "}"]),
    }
}

/// The frame of `connected`, the only place where a client learns its id.
///
/// `time_iso` is ISO 8601 with milliseconds and `Z`. With an `agreement` it carries what the client needs for its key.
pub fn connected(
    id: &ClientId,
    user: Option<&UserId>,
    time_iso: &str,
    agreement: Option<&Agreement>,
) -> Vec<u8> {
    let id = id.to_text();
    let id = std::str::from_utf8(&id).unwrap_or_default();
    let (user_key, user) = user.map_or(("", ""), |user| (r#","userId":"#, user.as_json()));
    let head = r#"{"event":"connected","data":{"id":""#;
    let time_key = r#","time":""#;
    match agreement.map(Agreement::texts) {
        None => text_frame(&[head, id, "\"", user_key, user, time_key, time_iso, r#""}}"#]),
        Some((public_key, salt)) => {
            let (key_key, salt_key) = (r#"","serverPublicKey":""#, r#"","salt":""#);
            let keys = [key_key, &public_key, salt_key, &salt, r#""}}"#];
            text_frame(&[&[head, id, "\"", user_key, user, time_key, time_iso], &keys[..]].concat())
        }
    }
}

fn text_frame(parts: &[&str]) -> Vec<u8> {
    let payload_len: usize = parts.iter().map(|part| part.len()).sum();
    let header_len = match payload_len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    let mut frame = Vec::with_capacity(header_len + payload_len);
    frame::encode_header(&mut frame, OpCode::Text, payload_len, false);
    for part in parts {
        frame.extend_from_slice(part.as_bytes());
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ignis::encryption::{Entropy, HKDF_INFO, agree};

    /// Splits a server frame; asserts that it is one whole, final, unmasked text frame.
    fn payload(frame: &[u8]) -> &str {
        assert_eq!(frame[0], 0x81);
        let (len, header) = match frame[1] {
            127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()) as usize, 10),
            126 => (usize::from(u16::from_be_bytes(frame[2..4].try_into().unwrap())), 4),
            len => (usize::from(len), 2),
        };
        assert_eq!(frame.len(), header + len);
        std::str::from_utf8(&frame[header..]).unwrap()
    }

    #[test]
    fn every_error_is_one_static_frame() {
        for &text in ErrorText::ALL {
            let expected = format!(r#"{{"event":"error","data":{{"message":"{}"}}}}"#, text.as_str());
            assert_eq!(payload(error(text)), expected);
        }
    }

    #[test]
    fn data_is_absent_null_or_verbatim() {
        for (data, expected) in [
            (None, r#"{"event":"x"}"#),
            (Some("null"), r#"{"event":"x","data":null}"#),
            (Some("1.0"), r#"{"event":"x","data":1.0}"#),
            (Some("12345678901234567890"), r#"{"event":"x","data":12345678901234567890}"#),
            (Some(r#"{"b":1,"a":"\ud800"}"#), r#"{"event":"x","data":{"b":1,"a":"\ud800"}}"#),
        ] {
            assert_eq!(payload(&event("\"x\"", data)), expected);
        }
    }

    #[test]
    fn a_frame_is_allocated_once_at_every_header_size() {
        for bytes in [0, 100, 125, 126, 65_535, 65_536, 200_000] {
            let data = format!("\"{}\"", "x".repeat(bytes));
            let frame = event("\"x\"", Some(&data));
            assert_eq!(payload(&frame).len(), bytes + 23);
            assert_eq!(frame.capacity(), frame.len());
        }
    }

    #[test]
    fn connected_names_the_user_as_it_is() {
        let id = ClientId::parse("e2421b52-9a40-47a4-8ed1-a390c85db8e5").unwrap();
        let time = "2026-11-22T01:48:34.717Z";
        for (user, member) in [
            (None, ""),
            (Some(UserId::from_text("u1")), r#""userId":"u1","#),
            (UserId::from_json("42"), r#""userId":42,"#),
        ] {
            let expected =
                format!(r#"{{"event":"connected","data":{{"id":"{id}",{member}"time":"{time}"}}}}"#);
            assert_eq!(payload(&connected(&id, user.as_ref(), time, None)), expected);
        }
    }

    #[test]
    fn connected_brings_what_the_key_is_made_of() {
        let id = ClientId::parse("e2421b52-9a40-47a4-8ed1-a390c85db8e5").unwrap();
        let entropy = Entropy::from_random(&[7; Entropy::LEN]);
        let base_point =
            "BGsX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT+NC4v4af5uO5+tKfA+eFivOM1drMV7Oy7ZAaDe/UfU=";
        let agreement = agree(base_point, HKDF_INFO, &entropy).unwrap();
        let (public_key, salt) = agreement.texts();
        let frame = connected(&id, Some(&UserId::from_text("u1")), "T", Some(&agreement));
        let expected = format!(
            r#"{{"event":"connected","data":{{"id":"{id}","userId":"u1","time":"T","serverPublicKey":"{public_key}","salt":"{salt}"}}}}"#
        );
        assert_eq!(payload(&frame), expected);
        assert_eq!((public_key.len(), salt.len()), (88, 44));
    }
}
