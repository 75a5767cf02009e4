//! Texts with placeholders: the channel, path and body of publications.
//!
//! | placeholder   | stands for                                                              |
//! |---------------|-------------------------------------------------------------------------|
//! | `{room}`      | the name of the room; percent-encoded in the path of a URL              |
//! | `{room_json}` | the name of the room as a JSON string, with its quotes                  |
//! | `{data}`      | the stamp as a JSON string, with its quotes: what `stamp::encode` appends |
//! | `{stamp}`     | the same without its quotes                                             |
//!
//! All else is literal, other braces too, so that JSON is written as it is. Only a lone word of lower-case letters
//! in braces is taken for a mistake.
//!
//! Invariant: a [`Template`] of a body has at least one slot for the stamp, any other has none.

use thiserror::Error;

use crate::stamp::{self, Stamp};

const PLACEHOLDERS: [&str; 4] = ["room", "room_json", "data", "stamp"];

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TemplateError {
    #[error("{{{name}}} is no placeholder, did you mean {{{nearest}}}?")]
    Unknown { name: String, nearest: &'static str },
    #[error("has neither {{data}} nor {{stamp}}: what arrives could not be told from other messages")]
    SlotMissing,
    #[error("{{data}} and {{stamp}} stand in the body only")]
    SlotOutsideBody,
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Room,
    RoomJson,
    Slot(Slot),
}

/// Where the stamp goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    WithQuotes,
    WithoutQuotes,
}

impl Template {
    /// Reads the template of a body, which has to have a place for the stamp.
    pub(super) fn body(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        if template.slots().next().is_none() {
            return Err(TemplateError::SlotMissing);
        }
        Ok(template)
    }

    /// Reads the template of a channel or a path, in which only the room has a place.
    pub(super) fn name(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        if template.slots().next().is_some() {
            return Err(TemplateError::SlotOutsideBody);
        }
        Ok(template)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        // Literal text from here on is not yet a part.
        let mut literal_at = 0;
        for (brace_at, _) in text.match_indices('{') {
            let Some(word) = lone_word(&text[brace_at + 1..]) else { continue };
            let part = match word {
                "room" => Part::Room,
                "room_json" => Part::RoomJson,
                "data" => Part::Slot(Slot::WithQuotes),
                "stamp" => Part::Slot(Slot::WithoutQuotes),
                _ => return Err(TemplateError::Unknown { name: word.to_owned(), nearest: nearest(word) }),
            };
            if literal_at < brace_at {
                parts.push(Part::Text(text[literal_at..brace_at].to_owned()));
            }
            parts.push(part);
            literal_at = brace_at + word.len() + 2;
        }
        if literal_at < text.len() {
            parts.push(Part::Text(text[literal_at..].to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The template as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the text differs from room to room.
    pub(super) fn has_room(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Room | Part::RoomJson))
    }

    /// The text of a name for a room; `encode` is applied to what stands for the room.
    pub(super) fn render(&self, room: &str, encode: impl Fn(&str) -> String) -> String {
        self.split(room, encode).concat()
    }

    /// The texts before, between and after the slots: one more than there are slots.
    fn split(&self, room: &str, encode: impl Fn(&str) -> String) -> Vec<String> {
        let mut texts = Vec::new();
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Room => text.push_str(&encode(room)),
                Part::RoomJson => text.push_str(&encode(&serde_json::json!(room).to_string())),
                Part::Slot(_) => texts.push(std::mem::take(&mut text)),
            }
        }
        texts.push(text);
        texts
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.parts.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(*slot),
            Part::Text(_) | Part::Room | Part::RoomJson => None,
        })
    }
}

/// The lower-case word that a closing brace follows.
fn lone_word(after_brace: &str) -> Option<&str> {
    let (word, _) = after_brace.split_once('}')?;
    let is_word = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then_some(word)
}

fn nearest(word: &str) -> &'static str {
    let distance = |known: &&&str| strsim::levenshtein(word, known);
    PLACEHOLDERS.iter().min_by_key(distance).expect("there are placeholders")
}

/// Bodies ready to be written: by room, everything but the stamp.
#[derive(Debug)]
pub(super) struct Envelopes {
    /// By room, the texts before, between and after the slots.
    texts: Vec<Box<[String]>>,
    slots: Vec<Slot>,
    data_bytes: usize,
    data: Vec<u8>,
}

impl Envelopes {
    /// Bodies for these rooms; every stamp takes `data_bytes` bytes with its quotes.
    pub(super) fn new(body: &Template, rooms: &[String], data_bytes: usize) -> Self {
        let texts = rooms.iter().map(|room| body.split(room, str::to_owned).into_boxed_slice()).collect();
        Self { texts, slots: body.slots().collect(), data_bytes, data: Vec::with_capacity(data_bytes) }
    }

    /// Bytes of every publication to a room.
    pub(super) fn len(&self, room: u32) -> usize {
        let texts: usize = self.texts[room as usize].iter().map(String::len).sum();
        let slots: usize = self.slots.iter().map(|slot| slot.of(self.data_bytes)).sum();
        texts + slots
    }

    /// Appends a publication.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, stamp: &Stamp) {
        self.data.clear();
        stamp::encode(&mut self.data, stamp, self.data_bytes);
        let (last, texts) = self.texts[stamp.room as usize].split_last().expect("a text follows every slot");
        for (text, slot) in texts.iter().zip(&self.slots) {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(match slot {
                Slot::WithQuotes => &self.data,
                Slot::WithoutQuotes => &self.data[1..self.data.len() - 1],
            });
        }
        out.extend_from_slice(last.as_bytes());
    }
}

impl Slot {
    /// Bytes it takes, of data that has so many with its quotes.
    fn of(self, data_bytes: usize) -> usize {
        match self {
            Self::WithQuotes => data_bytes,
            Self::WithoutQuotes => data_bytes - 2,
        }
    }
}

/// Everything but the unreserved characters as `%XX` (RFC 3986 §2.1 and §2.3).
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Kind;

    fn body(template: &str, room: &str, data_bytes: usize) -> String {
        let stamp = Stamp { kind: Kind::Message, run: 1, room: 0, sequence: 2, number: 3, due_ns: 4 };
        let template = Template::body(template).expect("a body");
        let mut envelopes = Envelopes::new(&template, &[room.to_owned()], data_bytes);
        let mut out = b"before ".to_vec();
        envelopes.write(&mut out, &stamp);
        assert_eq!(out.len(), "before ".len() + envelopes.len(0));
        String::from_utf8(out).expect("UTF-8")["before ".len()..].to_owned()
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        const STAMP: &str = "lg1m000000010000000000000002000000030000000000000004xx";
        let table = [
            ("{data}", "a", format!("\"{STAMP}\"")),
            ("{stamp}", "a", STAMP.to_owned()),
            (
                r#"{"a":1,"to":{room_json},"d":{data}}"#,
                "x\"y",
                format!(r#"{{"a":1,"to":"x\"y","d":"{STAMP}"}}"#),
            ),
            ("{{room}}{data}{}", "é", format!("{{é}}\"{STAMP}\"{{}}")),
            ("{Room} {room } {{stamp}{ro", "a", format!("{{Room}} {{room }} {{{STAMP}{{ro")),
            ("{stamp}{room}{stamp}{data}", "-", format!("{STAMP}-{STAMP}\"{STAMP}\"")),
            ("{room}{room}{data}", "{data}", format!("{{data}}{{data}}\"{STAMP}\"")),
        ];
        for (template, room, expected) in table {
            assert_eq!(body(template, room, STAMP.len() + 2), expected, "{template}");
        }
    }

    #[test]
    fn names_take_the_room_encoded_or_as_it_is() {
        let table = [
            ("ws:room:{room}", "a b", "ws:room:a b", "ws:room:a%20b"),
            (
                "/{room}/x?y={room_json}",
                "ü/?&",
                "/ü/?&/x?y=\"ü/?&\"",
                "/%C3%BC%2F%3F%26/x?y=%22%C3%BC%2F%3F%26%22",
            ),
            ("/a-._~%20/", "a", "/a-._~%20/", "/a-._~%20/"),
            ("{room}", "a-._~9Z", "a-._~9Z", "a-._~9Z"),
        ];
        for (template, room, plain, encoded) in table {
            let name = Template::name(template).expect("a name");
            assert_eq!(name.render(room, str::to_owned), plain);
            assert_eq!(name.render(room, percent_encode), encoded);
            assert_eq!((name.as_str(), name.has_room()), (template, template.contains("{room")));
        }
    }

    #[test]
    fn mistakes_in_templates_are_named() {
        let unknown = |name: &str, nearest| TemplateError::Unknown { name: name.to_owned(), nearest };
        let table = [
            (Template::body(r#"{"to":{rom},"d":{data}}"#), unknown("rom", "room")),
            (Template::body("{room_jsn}{data}"), unknown("room_jsn", "room_json")),
            (Template::body("{date}"), unknown("date", "data")),
            (Template::name("ws:{stam}"), unknown("stam", "stamp")),
            (Template::body(""), TemplateError::SlotMissing),
            (Template::body(r#"{"to":{room_json}}"#), TemplateError::SlotMissing),
            (Template::name("{room}{data}"), TemplateError::SlotOutsideBody),
            (Template::name("{stamp}"), TemplateError::SlotOutsideBody),
        ];
        for (outcome, expected) in table {
            assert_eq!(outcome, Err(expected));
        }
        let text = unknown("rom", "room").to_string();
        assert_eq!(text, "{rom} is no placeholder, did you mean {room}?");
    }
}
