//! From the payload of a Redis message to a message of a topic (`topic.md` §2 M7, §8).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::frame;
use crate::json;

/// Containers of a payload that may be open at once. A deeper one is sent as a string: readers of JSON that recurse
/// break at some thousand, and it may be anybody's who publishes on Redis.
pub const DEPTH_MAX: usize = 128;

/// What a payload that is JSON becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotMode {
    /// The value, byte for byte.
    #[default]
    Json,
    /// A string of it, as the reference does with every payload.
    String,
}

/// What a payload that is not UTF-8 becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BinaryMode {
    /// `{"base64":"…"}`.
    #[default]
    Base64,
    /// A string with U+FFFD for what is none.
    Lossy,
    /// Nothing: the message is dropped.
    Drop,
}

/// How payloads become snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFormat {
    /// Payloads that are JSON.
    pub json: SnapshotMode,
    /// Payloads that are not UTF-8.
    pub binary: BinaryMode,
}

impl SnapshotFormat {
    /// The frame of M7; `None` when the payload is to be dropped.
    pub fn message(self, topic: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let snapshot = self.snapshot(payload)?;
        let mut text = String::with_capacity(topic.len() + snapshot.len() + 48);
        text.push_str(r#"{"action":"message","topic":"#);
        json::push_quoted(&mut text, topic);
        text.push_str(r#","snapshot":"#);
        text.push_str(&snapshot);
        text.push('}');
        Some(frame::text(&text))
    }

    fn snapshot(self, payload: &[u8]) -> Option<Cow<'_, str>> {
        match (std::str::from_utf8(payload), self.binary) {
            (Ok(text), _) => Some(match self.json {
                SnapshotMode::Json => json::validate_within(text, DEPTH_MAX)
                    .map_or_else(|_| json::quote(text).into(), Cow::Borrowed),
                SnapshotMode::String => json::quote(text).into(),
            }),
            (Err(_), BinaryMode::Base64) => {
                Some(format!(r#"{{"base64":"{}"}}"#, STANDARD.encode(payload)).into())
            }
            (Err(_), BinaryMode::Lossy) => Some(json::quote(&String::from_utf8_lossy(payload)).into()),
            (Err(_), BinaryMode::Drop) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_become_snapshots_as_the_table_says() {
        let json = SnapshotFormat::default();
        let string = SnapshotFormat { json: SnapshotMode::String, ..json };
        let lossy = SnapshotFormat { binary: BinaryMode::Lossy, ..json };
        let drop = SnapshotFormat { binary: BinaryMode::Drop, ..json };
        let cases: [(SnapshotFormat, &[u8], Option<&str>); 18] = [
            (json, br#"{"info":"x"}"#, Some(r#"{"info":"x"}"#)),
            (
                json,
                b" {\"b\":1.0,\"a\":1e400,\"a\":\"\\u00e9\\/\"}\r\n",
                Some(r#"{"b":1.0,"a":1e400,"a":"\u00e9\/"}"#),
            ),
            (json, b"42", Some("42")),
            (json, b"null", Some("null")),
            (json, br#""one""#, Some(r#""one""#)),
            (json, b"plain text", Some(r#""plain text""#)),
            (json, b"", Some(r#""""#)),
            (json, br#"{"a":1"#, Some(r#""{\"a\":1""#)),
            (json, b"\"a\nb\"", Some(r#""\"a\nb\"""#)),
            (json, "\u{2028}".as_bytes(), Some("\"\u{2028}\"")),
            (json, b"1 2", Some(r#""1 2""#)),
            (json, &[0xff, 0xfe], Some(r#"{"base64":"//4="}"#)),
            (string, b"42", Some(r#""42""#)),
            (string, b"null", Some(r#""null""#)),
            (string, br#""one""#, Some(r#""\"one\"""#)),
            (string, br#"{"info":"x"}"#, Some(r#""{\"info\":\"x\"}""#)),
            (lossy, &[b'a', 0xff], Some("\"a\u{fffd}\"")),
            (drop, &[0xff], None),
        ];
        for (format, payload, expected) in cases {
            let snapshot = format.snapshot(payload);
            assert_eq!(snapshot.as_deref(), expected, "{format:?} {}", String::from_utf8_lossy(payload));
        }
    }

    #[test]
    fn payloads_that_are_too_deep_become_strings() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        let format = SnapshotFormat::default();
        let deep = nested(DEPTH_MAX);
        assert_eq!(format.snapshot(deep.as_bytes()).as_deref(), Some(&*deep));
        for depth in [DEPTH_MAX + 1, 100_000] {
            let deeper = nested(depth);
            assert_eq!(
                format.snapshot(deeper.as_bytes()).as_deref(),
                Some(&*json::quote(&deeper)),
                "{depth}"
            );
        }
    }

    #[test]
    fn a_message_names_its_topic_once_escaped() {
        let message = SnapshotFormat::default().message("a\"b", b"1").expect("is sent");
        assert_eq!(message, frame::text(r#"{"action":"message","topic":"a\"b","snapshot":1}"#));
    }
}
