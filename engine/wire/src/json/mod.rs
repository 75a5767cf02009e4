//! A scanner of JSON that yields spans: what it accepts is exactly what JavaScript's `JSON.parse` accepts
//! (RFC 8259; lone surrogate escapes pass, a BOM and trailing junk do not), and what it returns is the
//! text itself.
//!
//! Values are never built and numbers never converted, so a span can be spliced into an answer and mean
//! what its writer meant. One pass, no recursion: the kinds of the open containers are bits, and a text of
//! 64 levels or fewer allocates nothing. Nothing here must trust its input.
//!
//! Invariants: `0 <= open containers <= DEPTH_MAX`; a span starts at the first byte of a value and ends
//! after its last, so it carries no whitespace around it.

mod indexed;
mod scan;
mod text;

pub use indexed::Indexer;
use scan::Scanner;
pub use text::{normalize_number, normalize_string, push_quoted, quote, unescape};

/// Containers that may be open at once: every balanced text of 131,072 bytes, the default bound of a client's
/// message, passes. The memory for it is one bit each.
pub const DEPTH_MAX: usize = 65_536;

/// Why a text is not JSON. The peer's fault; nothing to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text ended inside a value, or held none.
    #[error("JSON ends early")]
    Truncated,
    /// A byte that cannot stand where it does.
    #[error("unexpected byte at offset {at}")]
    Unexpected {
        /// Offset of the byte.
        at: usize,
    },
    /// More open containers than there may be: [`DEPTH_MAX`], unless the caller allows fewer.
    #[error("nested deeper than is allowed")]
    TooDeep,
}

/// What a value is, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true`.
    True,
    /// `false`.
    False,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The kind of a value's span.
///
/// `raw` is a span this module returned; of any other text the answer means nothing.
pub fn kind(raw: &str) -> Kind {
    match raw.as_bytes().first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't') => Kind::True,
        Some(b'f') => Kind::False,
        Some(b'-' | b'0'..=b'9') => Kind::Number,
        _ => Kind::Null,
    }
}

/// Whether JavaScript takes the value for false: `null`, `false`, `""` and every number that is zero as a
/// double, so `-0`, `0e5` and `1e-400` too.
pub fn is_falsy(raw: &str) -> bool {
    match kind(raw) {
        Kind::Null | Kind::False => true,
        Kind::String => raw.len() == 2,
        Kind::Number => raw.parse::<f64>().is_ok_and(|number| number == 0.0),
        Kind::True | Kind::Array | Kind::Object => false,
    }
}

/// Checks that `text` is exactly one JSON value; returns its span, which is `text` without the whitespace
/// around it.
pub fn validate(text: &str) -> Result<&str, JsonError> {
    validate_within(text, DEPTH_MAX)
}

/// The same for a text with at most so many containers open at once, no more than [`DEPTH_MAX`].
pub fn validate_within(text: &str, depth_max: usize) -> Result<&str, JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.skip_whitespace();
    let span = scanner.value_within(depth_max.min(DEPTH_MAX))?;
    scanner.end()?;
    Ok(span)
}

/// The spans of the `wanted` members of the object that `text` is, in the order of `wanted`.
///
/// The whole text is validated. `None` when the value is no object; a member that is absent is `None`, of a
/// key that occurs twice the last value counts. Keys are compared after unescaping.
pub fn members<'a, const N: usize>(
    text: &'a str,
    wanted: [&str; N],
) -> Result<Option<[Option<&'a str>; N]>, JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.skip_whitespace();
    if !scanner.starts_object() {
        scanner.value()?;
        scanner.end()?;
        return Ok(None);
    }
    let mut found = [None; N];
    let mut at = scanner.enter_object()?;
    while let Some(key) = at {
        let value = scanner.value()?;
        if let Some(index) = wanted.iter().position(|name| key_is(key, name)) {
            found[index] = Some(value);
        }
        at = scanner.next_key()?;
    }
    scanner.end()?;
    Ok(Some(found))
}

/// Whether the raw JSON string `key` means `name`.
fn key_is(key: &str, name: &str) -> bool {
    if key.contains('\\') {
        unescape(key).as_deref() == Some(name)
    } else {
        key.get(1..key.len().saturating_sub(1)) == Some(name)
    }
}

/// The spans of an array's elements, in order.
///
/// `raw` is a span this module returned. Nothing is yielded of a value that is no array, and the end comes
/// early at what is no JSON.
pub fn elements(raw: &str) -> Elements<'_> {
    let mut scanner = Scanner::new(raw);
    let more = scanner.enter_array().unwrap_or(false);
    Elements { scanner, more }
}

/// Iterator of [`elements`].
#[derive(Debug)]
pub struct Elements<'a> {
    scanner: Scanner<'a>,
    /// A value follows.
    more: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if !self.more {
            return None;
        }
        let element = self.scanner.value().ok();
        self.more = element.is_some() && self.scanner.next_element().unwrap_or(false);
        element
    }
}

#[cfg(test)]
mod tests;
