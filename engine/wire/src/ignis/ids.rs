//! Who a client is and who a user is. An id has one spelling only, so that equal text is equal identity.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::json::{self, Kind};

/// The id of one connection: a UUID v4, told to the client in `connected`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId([u8; 16]);

/// Where the hyphens of a UUID's text are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

impl ClientId {
    /// Length of the text form, in bytes.
    pub const TEXT_BYTES: usize = 36;

    /// Makes a version 4 id of 16 random bytes, 6 bits of which give way to version and variant (RFC 9562 §5.4).
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }

    /// The id of these 16 bytes, of any UUID version, as [`Self::as_bytes`] tells them.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the text form, of any UUID version.
    ///
    /// Only lower case with hyphens, 36 bytes, as [`fmt::Display`] writes it: another spelling of the same UUID
    /// is another room name to Ignis, so it must not be another name of this client.
    pub fn parse(text: &str) -> Option<Self> {
        let text: &[u8; Self::TEXT_BYTES] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        let mut at = 0;
        for byte in &mut bytes {
            if HYPHENS.contains(&at) {
                if text[at] != b'-' {
                    return None;
                }
                at += 1;
            }
            *byte = nibble(text[at])? << 4 | nibble(text[at + 1])?;
            at += 2;
        }
        Some(Self(bytes))
    }

    /// The text form: lower-case hexadecimal with hyphens.
    pub fn to_text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [b'-'; Self::TEXT_BYTES];
        let mut at = 0;
        for byte in self.0 {
            at += usize::from(HYPHENS.contains(&at));
            text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
            text[at + 1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
            at += 2;
        }
        text
    }

    /// The 16 bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.to_text()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id of a user, which many clients may share.
///
/// It is not coerced (`ignis.md` §5), so it is kept as JSON text in its one normalised spelling: the string
/// `"42"` and the number `42` are different users. Cheap to clone. As `Borrow<str>` it is that JSON text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(Arc<str>);

impl UserId {
    /// The id that is the string `text`.
    pub fn from_text(text: &str) -> Self {
        Self(json::quote(text).into())
    }

    /// The id that a JSON value is. `raw` is a valid span.
    ///
    /// `None` for what JavaScript takes for false, since Ignis has no such users, and for numbers beyond the
    /// doubles. Strings and numbers are normalised, other values taken as written.
    pub fn from_json(raw: &str) -> Option<Self> {
        if json::is_falsy(raw) {
            return None;
        }
        Some(match json::kind(raw) {
            Kind::String => Self(json::normalize_string(raw).into()),
            Kind::Number => Self(json::normalize_number(raw)?.into()),
            _ => Self(raw.into()),
        })
    }

    /// The JSON text: `"u1"` with its quotes, or `42`.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for UserId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_has_one_spelling() {
        let text = "e2421b52-9a40-47a4-8ed1-a390c85db8e5";
        let id = ClientId::parse(text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(format!("{id:?}"), text);
        assert_eq!(ClientId::from_bytes(*id.as_bytes()), id);
        let upper = text.to_uppercase();
        let braces = format!("{{{text}}}");
        for other in [
            "",
            upper.as_str(),
            braces.as_str(),
            "e2421b529a4047a48ed1a390c85db8e5",
            "e2421b52-9a40-47a4-8ed1-a390c85db8e",
            "e2421b52-9a40-47a4-8ed1-a390c85db8e5 ",
            "e2421b52-9a40-47a4-8ed1a-390c85db8e5",
            "e2421b52_9a40-47a4-8ed1-a390c85db8e5",
            "E2421b52-9a40-47a4-8ed1-a390c85db8e5",
            "g2421b52-9a40-47a4-8ed1-a390c85db8e5",
            "+2421b52-9a40-47a4-8ed1-a390c85db8e5",
            "é421b52-9a40-47a4-8ed1-a390c85db8e5",
        ] {
            assert_eq!(ClientId::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_random_client_id_is_a_version_4_uuid() {
        for byte in [0x00, 0xff, 0x5a] {
            let text = ClientId::from_random([byte; 16]).to_string();
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
            assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{text}");
            assert_eq!(ClientId::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn attack_66_a_user_id_is_not_coerced() {
        let (text, number) = (UserId::from_text("42"), UserId::from_json("42").unwrap());
        assert_ne!(text, number);
        assert_eq!(text.as_json(), "\"42\"");
        assert_eq!(number.as_json(), "42");
        assert_eq!(UserId::from_json("\"42\""), Some(text));
        assert_eq!(UserId::from_json("4.2e1"), Some(number));
    }

    #[test]
    fn a_user_id_has_one_spelling() {
        assert_eq!(UserId::from_json(r#""\u00e9\/""#), Some(UserId::from_text("é/")));
        assert_eq!(UserId::from_json("true").unwrap().as_json(), "true");
        for falsy in ["null", "false", "\"\"", "0", "-0", "0.0", "1e-400", "1e400"] {
            assert_eq!(UserId::from_json(falsy), None, "{falsy}");
        }
    }
}
