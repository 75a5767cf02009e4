//! Strings and numbers as text: in, out, and as `JSON.stringify` writes them.

use std::borrow::Cow;

/// A part of a JSON string.
enum Piece<'a> {
    /// Text without escapes.
    Plain(&'a str),
    /// The character an escape or a pair of them means.
    Char(char),
    /// A surrogate escape without its other half.
    Lone(u16),
}

/// Goes through the inside of a raw JSON string. What is no valid escape ends it.
struct Pieces<'a>(&'a str);

impl<'a> Pieces<'a> {
    fn of(raw: &'a str) -> Self {
        Self(raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(""))
    }

    /// The four digits after a `\u` at the start of `text`.
    fn unit(text: &str) -> Option<u16> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        if digits.starts_with('+') { None } else { u16::from_str_radix(digits, 16).ok() }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let text = self.0;
        let plain = text.find('\\').unwrap_or(text.len());
        if plain > 0 {
            self.0 = &text[plain..];
            return Some(Piece::Plain(&text[..plain]));
        }
        if let Some(unit) = Self::unit(text) {
            self.0 = &text[6..];
            if let Some(char) = char::from_u32(u32::from(unit)) {
                return Some(Piece::Char(char));
            }
            if let Some(low) = Self::unit(self.0)
                && let Some(Ok(char)) = char::decode_utf16([unit, low]).next()
            {
                self.0 = &self.0[6..];
                return Some(Piece::Char(char));
            }
            return Some(Piece::Lone(unit));
        }
        let char = match text.as_bytes().get(1)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            _ => return None,
        };
        self.0 = &text[2..];
        Some(Piece::Char(char))
    }
}

/// The text that a raw JSON string means; borrowed when it has no escapes.
///
/// `raw` is a string span with its quotes. `None` when it is no string, or holds a lone surrogate: that is a
/// text only for UTF-16.
pub fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inside.contains('\\') {
        return Some(Cow::Borrowed(inside));
    }
    let mut text = String::with_capacity(inside.len());
    for piece in Pieces::of(raw) {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            Piece::Char(char) => text.push(char),
            Piece::Lone(_) => return None,
        }
    }
    Some(Cow::Owned(text))
}

/// The raw JSON string as `JSON.stringify` writes it, quotes included: `\/` becomes `/`, `\u00e9` becomes `é`,
/// lone surrogates stay escaped. Verbatim when it has no escapes.
pub fn normalize_string(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    text.push('"');
    for piece in Pieces::of(raw) {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            Piece::Char(char) => push_escaped(&mut text, char.encode_utf8(&mut [0; 4])),
            Piece::Lone(unit) => push_unit(&mut text, unit),
        }
    }
    text.push('"');
    Cow::Owned(text)
}

/// `text` as a JSON string, as `JSON.stringify` writes it: short escapes where there are, else `\u00xx` in lower
/// case below U+0020; U+007F, U+2028 and all others raw.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    push_quoted(&mut quoted, text);
    quoted
}

/// Appends [`quote`] of `text`.
pub fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            control => push_unit(out, u16::from(control)),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// `\uxxxx`, lower case.
fn push_unit(out: &mut String, unit: u16) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        out.push(char::from(b"0123456789abcdef"[usize::from(unit >> shift & 0xf)]));
    }
}

/// The raw JSON number as JavaScript writes the double it becomes: `1.0` is `1`, `1e3` is `1000`, `-0` is `0`
/// (ECMA-262 §6.1.6.1.20 Number::toString).
///
/// `None` when it is no number, or beyond the doubles: `JSON.stringify` has only `null` for that.
pub fn normalize_number(raw: &str) -> Option<Cow<'_, str>> {
    let plain = raw.strip_prefix('-').unwrap_or(raw);
    let short = plain.len() <= 15 && plain.bytes().all(|byte| byte.is_ascii_digit());
    if short && !plain.is_empty() && !plain.starts_with('0') {
        return Some(Cow::Borrowed(raw));
    }
    let number = raw.parse::<f64>().ok().filter(|number| number.is_finite())?;
    if number == 0.0 {
        return Some(Cow::Borrowed("0"));
    }
    // The shortest digits that read back the same, as `d.ddde±x`.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e')?;
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().ok()? + 1;
    let sign = if number < 0.0 { "-" } else { "" };
    let count = i32::try_from(digits.len()).ok()?;
    let zeros = |wanted: i32| "0".repeat(usize::try_from(wanted).unwrap_or(0));
    Some(Cow::Owned(if point > 21 || point <= -6 {
        exponential(sign, &digits, point - 1)
    } else if point >= count {
        format!("{sign}{digits}{}", zeros(point - count))
    } else if point > 0 {
        let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
        format!("{sign}{whole}.{fraction}")
    } else {
        format!("{sign}0.{}{digits}", zeros(-point))
    }))
}

fn exponential(sign: &str, digits: &str, exponent: i32) -> String {
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{rest}e{exponent:+}")
}
