//! Room patterns of `auth.rooms` and `auth.tokens`: plain text in which `*` stands for any run of characters.

use std::fmt;

/// A pattern for room names: `*` matches any run of characters, also an empty one; all else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomPattern(String);

impl RoomPattern {
    /// A pattern from its text; every text is a pattern.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `room` matches.
    ///
    /// Each literal piece is taken at its first occurrence, which never has to be undone, so that the cost is
    /// at most `pattern × room` bytes and no pattern can make it explode.
    pub fn matches(&self, room: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else {
            return self.0 == room;
        };
        let Some(mut room) = room.strip_prefix(head) else {
            return false;
        };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
            let Some(at) = room.find(piece) else {
                return false;
            };
            room = &room[at + piece.len()..];
        }
        room.ends_with(tail)
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_any_run_and_all_else_itself() {
        let cases = [
            ("chat", "chat", true),
            ("chat", "chat2", false),
            ("chat", "Chat", false),
            ("*", "", true),
            ("*", "anything", true),
            ("room-*", "room-", true),
            ("room-*", "room-7", true),
            ("room-*", "aroom-7", false),
            ("*-news", "eu-news", true),
            ("*-news", "eu-news-", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
            ("*é*", "café au lait", true),
            ("?", "x", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, room, expected) in cases {
            assert_eq!(RoomPattern::new(pattern).matches(room), expected, "{pattern:?} on {room:?}");
        }
    }
}
