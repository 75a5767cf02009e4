//! Texts with placeholders: the channel, path and body of publications.
//!
//! | placeholder   | stands for                                                              |
//! |---------------|-------------------------------------------------------------------------|
//! | `{room}`      | the name of the room, the client's id or the user; percent-encoded in the path of a URL |
//! | `{room_json}` | the same as a JSON string, with its quotes                              |
//! | `{exclude}`   | the ids of the clients left out, as a JSON array; `[]` when nobody is   |
//! | `{data}`      | the stamp as a JSON string, with its quotes: what `stamp::encode` appends |
//! | `{stamp}`     | the same without its quotes                                             |
//!
//! All else is literal, other braces too, so that JSON is written as it is. Only a lone word of lower-case letters
//! in braces is taken for a mistake.
//!
//! Invariant: a [`Template`] of a body has at least one slot for the stamp, any other has none but for the room.

use thiserror::Error;

const PLACEHOLDERS: [&str; 5] = ["room", "room_json", "exclude", "data", "stamp"];

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TemplateError {
    #[error("{{{name}}} is no placeholder, did you mean {{{nearest}}}?")]
    Unknown { name: String, nearest: &'static str },
    #[error("has neither {{data}} nor {{stamp}}: what arrives could not be told from other messages")]
    SlotMissing,
    #[error("{{data}}, {{stamp}} and {{exclude}} stand in the body only")]
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
    Slot(Slot),
}

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Room,
    RoomJson,
    Exclude,
    StampWithQuotes,
    StampWithoutQuotes,
}

impl Slot {
    fn is_stamp(self) -> bool {
        matches!(self, Self::StampWithQuotes | Self::StampWithoutQuotes)
    }

    fn is_room(self) -> bool {
        matches!(self, Self::Room | Self::RoomJson)
    }
}

impl Template {
    /// Reads the template of a body, which has to have a place for the stamp.
    pub(super) fn body(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        if !template.slots().any(Slot::is_stamp) {
            return Err(TemplateError::SlotMissing);
        }
        Ok(template)
    }

    /// Reads the template of a channel or a path, in which only the room has a place.
    pub(super) fn name(text: &str) -> Result<Self, TemplateError> {
        let template = Self::parse(text)?;
        if !template.slots().all(Slot::is_room) {
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
            let slot = match word {
                "room" => Slot::Room,
                "room_json" => Slot::RoomJson,
                "exclude" => Slot::Exclude,
                "data" => Slot::StampWithQuotes,
                "stamp" => Slot::StampWithoutQuotes,
                _ => return Err(TemplateError::Unknown { name: word.to_owned(), nearest: nearest(word) }),
            };
            if literal_at < brace_at {
                parts.push(Part::Text(text[literal_at..brace_at].to_owned()));
            }
            parts.push(Part::Slot(slot));
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
        self.slots().any(Slot::is_room)
    }

    /// With the rooms of these names filled in, a form each; a room is written as `encode` says.
    pub(super) fn for_rooms(&self, rooms: &[String], encode: impl Fn(&str) -> String) -> Forms {
        let forms = rooms
            .iter()
            .map(|room| Form::new(&self.parts, Some(&encode(room)), Some(&encode(&json_string(room)))));
        Forms(forms.collect())
    }

    /// One form for all, in which the room is yet to be filled in.
    pub(super) fn for_any_room(&self) -> Forms {
        Forms(vec![Form::new(&self.parts, None, None)])
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.parts.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(*slot),
            Part::Text(_) => None,
        })
    }
}

fn json_string(text: &str) -> String {
    serde_json::json!(text).to_string()
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

/// A template of which as much is filled in as is known before anything is published: by room, or one for all.
#[derive(Debug)]
pub(super) struct Forms(Vec<Form>);

/// Texts, and what is filled in between them.
#[derive(Debug, Default)]
struct Form {
    /// Before, between and after the slots: one more than there are slots.
    texts: Vec<String>,
    slots: Vec<Slot>,
}

/// What is filled in for one publication.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filling<'a> {
    /// A room that needs no escaping.
    pub(super) room: &'a str,
    /// A JSON array.
    pub(super) exclude: &'a str,
    /// What `stamp::encode` appends.
    pub(super) data: &'a [u8],
}

impl Form {
    /// Fills in the room and the room as JSON where they are known.
    fn new(parts: &[Part], room: Option<&str>, room_json: Option<&str>) -> Self {
        let mut form = Self { texts: vec![String::new()], slots: Vec::new() };
        for part in parts {
            let known = match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Slot(Slot::Room) => room,
                Part::Slot(Slot::RoomJson) => room_json,
                Part::Slot(_) => None,
            };
            match (known, part) {
                (Some(known), _) => form.texts.last_mut().expect("there always is one").push_str(known),
                (None, Part::Slot(slot)) => {
                    form.slots.push(*slot);
                    form.texts.push(String::new());
                }
                (None, Part::Text(_)) => unreachable!("a text is known"),
            }
        }
        form
    }
}

impl Forms {
    /// Bytes of the text for a room, filled in.
    pub(super) fn len(&self, room: u32, filling: Filling<'_>) -> usize {
        let form = self.of(room);
        let texts: usize = form.texts.iter().map(String::len).sum();
        texts + form.slots.iter().flat_map(|slot| slot.filled(filling)).map(<[u8]>::len).sum::<usize>()
    }

    /// Appends the text for a room, filled in.
    pub(super) fn write(&self, out: &mut Vec<u8>, room: u32, filling: Filling<'_>) {
        let form = self.of(room);
        let (last, texts) = form.texts.split_last().expect("a text follows every slot");
        for (text, slot) in texts.iter().zip(&form.slots) {
            out.extend_from_slice(text.as_bytes());
            slot.filled(filling).into_iter().for_each(|filled| out.extend_from_slice(filled));
        }
        out.extend_from_slice(last.as_bytes());
    }

    fn of(&self, room: u32) -> &Form {
        if let [form] = self.0.as_slice() { form } else { &self.0[room as usize] }
    }
}

impl Slot {
    /// The pieces it is filled with.
    fn filled(self, filling: Filling<'_>) -> [&[u8]; 3] {
        let Filling { room, exclude, data } = filling;
        match self {
            Self::Room => [b"", room.as_bytes(), b""],
            Self::RoomJson => [b"\"", room.as_bytes(), b"\""],
            Self::Exclude => [b"", exclude.as_bytes(), b""],
            Self::StampWithQuotes => [b"", data, b""],
            Self::StampWithoutQuotes => [b"", &data[1..data.len() - 1], b""],
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

    const DATA: &str = r#""lg1m000000010000000000000002000000030000000000000004xx""#;

    /// The text of a form with the room in it, which has to be that of one without.
    fn filled(template: &Template, room: &str, encode: impl Fn(&str) -> String) -> String {
        let filling = Filling { room, exclude: r#"["i"]"#, data: DATA.as_bytes() };
        let write = |forms: Forms| {
            let mut out = b"before ".to_vec();
            forms.write(&mut out, 0, filling);
            assert_eq!(out.len(), "before ".len() + forms.len(0, filling));
            String::from_utf8(out).expect("UTF-8")["before ".len()..].to_owned()
        };
        let text = write(template.for_rooms(&[room.to_owned()], &encode));
        if room.chars().all(char::is_alphanumeric)
            && room.is_ascii()
            && encode(room) == room
            && encode("\"") == "\""
        {
            assert_eq!(write(template.for_any_room()), text);
        }
        text
    }

    fn body(template: &str, room: &str) -> String {
        filled(&Template::body(template).expect("a body"), room, str::to_owned)
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
            (
                r#"{"to":{room_json},"data":{data},"exclude":{exclude}}"#,
                "a1",
                format!(r#"{{"to":"a1","data":"{STAMP}","exclude":["i"]}}"#),
            ),
        ];
        for (template, room, expected) in table {
            assert_eq!(body(template, room), expected, "{template}");
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
            assert_eq!(filled(&name, room, str::to_owned), plain);
            assert_eq!(filled(&name, room, percent_encode), encoded);
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
            (Template::name("{exclude}"), TemplateError::SlotOutsideBody),
        ];
        for (outcome, expected) in table {
            assert_eq!(outcome, Err(expected));
        }
        let text = unknown("rom", "room").to_string();
        assert_eq!(text, "{rom} is no placeholder, did you mean {room}?");
    }
}
