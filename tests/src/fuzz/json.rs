//! The JSON scanner, its index and its texts against serde_json: `shardcast_wire::json`.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use shardcast_wire::json::{self, Indexer, JsonError, Kind};

/// Keys that are asked for.
const WANTED: [&str; 4] = ["event", "data", "a", ""];

/// A text.
pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let text = text.as_ref();
    let span = json::validate(text);
    assert_eq!(span.ok(), serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get), "accepted or not");
    match span {
        Ok(span) => {
            assert_eq!(json::validate(span), Ok(span), "a span is a text");
            check_value(span);
        }
        Err(error) => check_error(text, error),
    }
    check_members(text);
    check_quoted(text);
}

/// What comes before the place of an error is no error.
fn check_error(text: &str, error: JsonError) {
    match error {
        JsonError::Unexpected { at } => {
            let before = text.get(..at).expect("an error is at a character");
            let of_before = json::validate(before);
            assert!(matches!(of_before, Ok(_) | Err(JsonError::Truncated)), "{of_before:?} before {at}");
        }
        JsonError::Truncated => assert!(!text.trim_start().starts_with('\0')),
        JsonError::TooDeep => assert!(text.len() > json::DEPTH_MAX),
    }
}

/// The members of the text by the scanner, the index and serde_json, which reads no lone surrogates.
fn check_members(text: &str) {
    let scanned = json::members(text, WANTED);
    let mut indexer = Indexer::default();
    assert_eq!(indexer.members(text, WANTED), scanned, "members by the index");
    let half = &text[..text.floor_char_boundary(text.len() / 2)];
    assert_eq!(indexer.members(half, WANTED), json::members(half, WANTED), "members of a half");
    assert_eq!(indexer.members(text, WANTED), scanned, "members by an index that saw another text");
    if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        let expected = WANTED.map(|name| members.get(name).map(|value| value.get()));
        assert_eq!(scanned, Ok(Some(expected)), "members");
    }
}

fn check_value(span: &str) {
    match json::kind(span) {
        Kind::Null => assert_eq!(span, "null"),
        Kind::True => assert_eq!(span, "true"),
        Kind::False => assert_eq!(span, "false"),
        Kind::Number => check_number(span),
        Kind::String => check_string(span),
        Kind::Array => {
            let expected: Vec<&RawValue> = serde_json::from_str(span).expect("an array");
            assert!(json::elements(span).eq(expected.iter().map(|value| value.get())), "elements");
            json::elements(span).take(64).for_each(check_scalar);
        }
        Kind::Object => {
            let members = json::members(span, WANTED).expect("an object").expect("an object");
            members.into_iter().flatten().for_each(check_scalar);
        }
    }
    if json::kind(span) != Kind::Array {
        assert_eq!(json::elements(span).count(), 0, "only arrays have elements");
    }
    let is_falsy = match serde_json::from_str(span) {
        Ok(serde_json::Value::Null | serde_json::Value::Bool(false)) => true,
        Ok(serde_json::Value::String(text)) => text.is_empty(),
        Ok(serde_json::Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    };
    assert_eq!(json::is_falsy(span), is_falsy, "whether JavaScript takes it for false");
}

fn check_scalar(span: &str) {
    if matches!(json::kind(span), Kind::String | Kind::Number) {
        check_value(span);
    }
}

fn check_number(span: &str) {
    let number: f64 = span.parse().expect("every JSON number is a double or infinite");
    let Some(normal) = json::normalize_number(span) else {
        assert!(number.is_infinite(), "{span} has no normal form");
        return;
    };
    assert_eq!(json::validate(&normal), Ok(&*normal), "a normal form is JSON");
    assert_eq!(normal.parse::<f64>().expect("a number"), number, "{span} and its normal form {normal}");
    assert_eq!(json::normalize_number(&normal).as_deref(), Some(&*normal), "normal already");
}

fn check_string(span: &str) {
    let meant = json::unescape(span);
    assert_eq!(meant.as_deref(), serde_json::from_str::<String>(span).ok().as_deref(), "unescaped");
    let normal = json::normalize_string(span);
    assert_eq!(json::validate(&normal), Ok(&*normal), "a normal form is JSON");
    assert_eq!(json::normalize_string(&normal), normal, "normal already");
    assert_eq!(json::unescape(&normal), meant, "a normal form means the same");
    if let Some(meant) = meant {
        assert_eq!(normal, json::quote(&meant), "one text has one normal form");
    }
}

fn check_quoted(text: &str) {
    let quoted = json::quote(text);
    assert_eq!(Some(&quoted), serde_json::to_string(text).ok().as_ref(), "quoted");
    assert_eq!(json::validate(&quoted), Ok(quoted.as_str()), "a quoted text is JSON");
    assert_eq!(json::unescape(&quoted).as_deref(), Some(text), "quoted and unescaped");
}
