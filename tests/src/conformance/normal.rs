//! Compares what came with what was recorded, where they may differ: ids, times, and the answer to a key.
//!
//! An id of the recording stands for the id that ours gave in its place: the first occurrence binds the two, every
//! later one must agree, and no id of ours stands for two of theirs.

use std::collections::BTreeMap;

use serde_json::Value;

const UUID_SHAPE: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
const TIME_SHAPE: &str = "dddd-dd-ddTdd:dd:dd.dddZ";
const DATE_SHAPE: &str = "Date: aaa, dd aaa dddd dd:dd:dd GMT";
const ACCEPT: &str = "<ACCEPT>";

/// Which id of ours stands for which of the recording.
#[derive(Debug, Clone, Default)]
pub(super) struct Bindings {
    ours: BTreeMap<String, String>,
}

/// How a text compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The same, byte for byte.
    Same,
    /// The same envelope around JSON data that is equal in value and differs in spelling.
    Respelled,
    /// Not the same.
    Different,
}

impl Bindings {
    /// Lets `ours` stand for `recorded`. False when either already stands for something else.
    pub(super) fn bind(&mut self, recorded: &str, ours: &str) -> bool {
        match self.ours.get(recorded) {
            Some(known) => known == ours,
            None if self.ours.values().any(|known| known == ours) => false,
            None => {
                self.ours.insert(recorded.to_owned(), ours.to_owned());
                true
            }
        }
    }

    /// The id of ours that stands for `recorded`.
    pub(super) fn ours(&self, recorded: &str) -> Option<&str> {
        self.ours.get(recorded).map(String::as_str)
    }

    /// Whether `ours` stands for some id.
    pub(super) fn knows(&self, ours: &str) -> bool {
        self.ours.values().any(|known| known == ours)
    }

    /// Every id of ours that stands for one.
    pub(super) fn all(&self) -> Vec<String> {
        self.ours.values().cloned().collect()
    }

    /// The text with every id that is bound replaced by ours.
    pub(super) fn apply(&self, recorded: &str) -> String {
        let mut text = recorded.to_owned();
        for (theirs, ours) in &self.ours {
            text = text.replace(theirs, ours);
        }
        text
    }

    /// The JSON value with every id that is bound replaced by ours.
    pub(super) fn apply_to_json(&self, recorded: &Value) -> Value {
        serde_json::from_str(&self.apply(&recorded.to_string())).expect("ids do not break JSON")
    }

    /// Whether `got` is `recorded` but for what may differ; binds the ids that are new. `accept` is what answers the
    /// key of the client's handshake.
    pub(super) fn matches(&mut self, recorded: &str, got: &str, accept: &str) -> bool {
        let before = self.clone();
        let same = self.walk(recorded, got, accept).is_some();
        if !same {
            *self = before;
        }
        same
    }

    /// Compares two Ignis messages. Data may be respelled unless the server itself writes it.
    pub(super) fn compare(&mut self, recorded: &str, got: &str) -> Likeness {
        if self.matches(recorded, got, "") {
            return Likeness::Same;
        }
        let applied = self.apply(recorded);
        match (split(&applied), split(got)) {
            (Some((event, theirs)), Some((same_event, ours)))
                if event == same_event
                    && event != "connected"
                    && event != "error"
                    && same_json(&theirs, &ours) =>
            {
                Likeness::Respelled
            }
            _ => Likeness::Different,
        }
    }

    fn walk(&mut self, mut recorded: &str, mut got: &str, accept: &str) -> Option<()> {
        while !recorded.is_empty() {
            if has_shape(recorded, UUID_SHAPE) {
                let (theirs, ours) =
                    (take(&mut recorded, UUID_SHAPE.len()), take(&mut got, UUID_SHAPE.len()));
                let ours = ours.filter(|ours| has_shape(ours, UUID_SHAPE))?;
                self.bind(theirs?, ours).then_some(())?;
            } else if let Some(shape) =
                [TIME_SHAPE, DATE_SHAPE].into_iter().find(|shape| has_shape(recorded, shape))
            {
                take(&mut recorded, shape.len())?;
                take(&mut got, shape.len()).filter(|ours| has_shape(ours, shape))?;
            } else if let Some(rest) = recorded.strip_prefix(ACCEPT) {
                recorded = rest;
                got = got.strip_prefix(accept)?;
            } else {
                let next = recorded.chars().next()?;
                recorded = recorded.strip_prefix(next)?;
                got = got.strip_prefix(next)?;
            }
        }
        got.is_empty().then_some(())
    }
}

fn take<'a>(text: &mut &'a str, len: usize) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(len)?;
    *text = rest;
    Some(head)
}

/// Whether `text` begins with the shape: `h` lower-case hexadecimal, `d` digit, `a` letter, others themselves.
fn has_shape(text: &str, shape: &str) -> bool {
    // A shape's own letters before the first place holder must stand for themselves.
    let (fixed, open) = shape.split_at(shape.rfind(": ").map_or(0, |at| at + 2));
    let fits = |(byte, pattern): (u8, u8)| match pattern {
        b'h' => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        b'd' => byte.is_ascii_digit(),
        b'a' => byte.is_ascii_alphabetic(),
        other => byte == other,
    };
    text.strip_prefix(fixed)
        .is_some_and(|text| text.len() >= open.len() && text.bytes().zip(open.bytes()).all(fits))
}

/// Event and data of a message in the envelope's one form, `{"event":E,"data":D}` or `{"event":E}`.
fn split(text: &str) -> Option<(String, Option<Value>)> {
    let message: Value = serde_json::from_str(text).ok()?;
    let event = message["event"].as_str()?;
    let rest = text.strip_prefix("{\"event\":")?.strip_prefix(&Value::from(event).to_string())?;
    let rest = rest.strip_suffix('}')?;
    let data = match rest.strip_prefix(",\"data\":") {
        Some(data) => Some(serde_json::from_str(data).ok()?),
        None => rest.is_empty().then_some(None)?,
    };
    Some((event.to_owned(), data))
}

/// Whether two JSON values are equal to a program that reads numbers as doubles.
pub(super) fn same_json(a: &Option<Value>, b: &Option<Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same_value(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same_value(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: &str = "12922c71-f567-4b97-baf0-3ad8c3adcf9b";
    const OURS: &str = "00000000-0000-4000-8000-000000000001";
    const OTHER: &str = "00000000-0000-4000-8000-000000000002";

    #[test]
    fn an_id_is_bound_once_and_to_one() {
        let mut bindings = Bindings::default();
        assert!(bindings.matches(&format!("id {THEIRS}."), &format!("id {OURS}."), "yes="));
        assert!(!bindings.matches(THEIRS, OTHER, "yes="));
        assert!(!bindings.matches(OTHER, OURS, "yes="));
        assert_eq!(bindings.apply(&format!("ws:{THEIRS}")), format!("ws:{OURS}"));
    }

    #[test]
    fn a_failed_comparison_binds_nothing() {
        let mut bindings = Bindings::default();
        assert!(!bindings.matches(&format!("{THEIRS} a"), &format!("{OURS} b"), "yes="));
        assert_eq!(bindings.ours(THEIRS), None);
    }

    #[test]
    fn times_dates_and_accepts_may_differ_and_nothing_else() {
        for (recorded, got, same) in [
            ("at 2026-11-22T01:48:25.026Z!", "at 2030-01-01T00:00:00.000Z!", true),
            ("at 2026-11-22T01:48:25.026Z", "at 2030-01-01T00:00:00Z", false),
            ("Date: Sun, 22 Nov 2026 01:48:24 GMT\r\n", "Date: Mon, 01 Jan 2029 00:00:00 GMT\r\n", true),
            ("Date: Sun, 22 Nov 2026 01:48:24 GMT\r\n", "date: Mon, 01 Jan 2029 00:00:00 GMT\r\n", false),
            ("accept: <ACCEPT>\r\n", "accept: yes=\r\n", true),
            ("accept: <ACCEPT>\r\n", "accept: no==\r\n", false),
            ("é", "é", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            assert_eq!(Bindings::default().matches(recorded, got, "yes="), same, "{recorded} {got}");
        }
    }

    #[test]
    fn data_may_be_respelled_and_the_envelope_may_not() {
        for (recorded, got, likeness) in [
            (r#"{"event":"x","data":1}"#, r#"{"event":"x","data":1}"#, Likeness::Same),
            (r#"{"event":"x","data":[1]}"#, r#"{"event":"x","data":[1.0]}"#, Likeness::Respelled),
            (r#"{"event":"x","data":"é"}"#, r#"{"event":"x","data":"\u00e9"}"#, Likeness::Respelled),
            (r#"{"event":"x","data":1}"#, r#"{"event":"x", "data":1}"#, Likeness::Different),
            (r#"{"event":"x","data":1}"#, r#"{"data":1,"event":"x"}"#, Likeness::Different),
            (r#"{"event":"x"}"#, r#"{"event":"x","data":null}"#, Likeness::Different),
            (r#"{"event":"x","data":1}"#, r#"{"event":"x","data":2}"#, Likeness::Different),
            (r#"{"event":"error","data":1}"#, r#"{"event":"error","data":1.0}"#, Likeness::Different),
        ] {
            assert_eq!(Bindings::default().compare(recorded, got), likeness, "{recorded} {got}");
        }
    }
}
