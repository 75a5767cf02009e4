//! From the payload of a Redis message to a message of a topic (`topic.md` §2 M7, §8).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::frame;
use crate::json::{self, Indexer};

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
    /// The frame of M7; `None` when the payload is to be dropped. `indexer` is the thread's.
    pub fn message(self, indexer: &mut Indexer, topic: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let snapshot = self.snapshot(indexer, payload)?;
        let mut text = String::with_capacity(topic.len() + snapshot.len() + 48);
        text.push_str(r#"{"action":"message","topic":"#);
        json::push_quoted(&mut text, topic);
        text.push_str(r#","snapshot":"#);
        text.push_str(&snapshot);
        text.push('}');
        Some(frame::text(&text))
    }

    fn snapshot<'a>(self, indexer: &mut Indexer, payload: &'a [u8]) -> Option<Cow<'a, str>> {
        match (std::str::from_utf8(payload), self.binary) {
            (Ok(text), _) => Some(match self.json {
                SnapshotMode::Json => {
                    let value = indexer.value_within(text, DEPTH_MAX);
                    value.map_or_else(|| json::quote(text).into(), Cow::Borrowed)
                }
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
        let mut indexer = Indexer::default();
        for (format, payload, expected) in cases {
            let snapshot = format.snapshot(&mut indexer, payload);
            assert_eq!(snapshot.as_deref(), expected, "{format:?} {}", String::from_utf8_lossy(payload));
        }
    }

    /// Short ones are read by the index, long ones by the scanner.
    #[test]
    fn what_is_nested_deeper_than_readers_take_is_text() {
        let mut indexer = Indexer::default();
        for padding in [0, 100_000] {
            for (open, close) in [("[", "]"), (r#"{"a[\"{":"#, "}")] {
                for depth in [1, 127, 128, 129, 2_000] {
                    let value = format!("\"{}]\\\"[\\\\\"", "[".repeat(padding));
                    let text = [&open.repeat(depth), &*value, &close.repeat(depth)].concat();
                    let snapshot = SnapshotFormat::default().snapshot(&mut indexer, text.as_bytes());
                    let expected = if depth <= DEPTH_MAX { text.clone() } else { json::quote(&text) };
                    assert!(snapshot.as_deref() == Some(&*expected), "{depth} times {open}, {padding}");
                }
            }
        }
    }

    #[test]
    fn a_message_names_its_topic_once_escaped() {
        let message = SnapshotFormat::default().message(&mut Indexer::default(), "a\"b", b"1");
        let message = message.expect("is sent");
        assert_eq!(message, frame::text(r#"{"action":"message","topic":"a\"b","snapshot":1}"#));
    }
}
