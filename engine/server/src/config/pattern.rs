//! Patterns for room names: plain text in which `*` stands for any run of characters, and in rules also
//! `{user}` and `{tenant}` for what a client is.

use std::borrow::Cow;
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
    pub fn matches(&self, room: &str) -> bool {
        pieces_match(self.0.split('*'), room)
    }
}

impl fmt::Display for RoomPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `room` is the pieces in their order, with any run of characters between two of them.
///
/// Each piece is taken at its first occurrence, which never has to be undone, so that the cost is at most
/// `pattern × room` bytes and no pattern can make it explode.
fn pieces_match<'a>(mut pieces: impl DoubleEndedIterator<Item = &'a str>, room: &str) -> bool {
    let Some(head) = pieces.next() else { return false };
    let Some(tail) = pieces.next_back() else { return head == room };
    let Some(mut room) = room.strip_prefix(head) else { return false };
    for piece in pieces {
        let Some(at) = room.find(piece) else { return false };
        room = &room[at + piece.len()..];
    }
    room.ends_with(tail)
}

/// What a place in a [`RoomTemplate`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The client's user.
    User,
    /// The client's tenant.
    Tenant,
}

/// Names of the places, in braces.
const PLACEHOLDERS: [(&str, Placeholder); 3] =
    [("{user}", Placeholder::User), ("{sub}", Placeholder::User), ("{tenant}", Placeholder::Tenant)];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Placeholder),
    Star,
}

/// A pattern for room names with places for what a client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomTemplate {
    text: String,
    parts: Vec<Part>,
}

/// A [`RoomTemplate`] with its places filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilledTemplate<'t> {
    /// What stands between the stars.
    pieces: Vec<Cow<'t, str>>,
}

impl RoomTemplate {
    /// A template from its text; `None` when it is empty, when braces stand in it that are no place, or when a
    /// place has a star or another place right beside it: with `{user}*`, `u12` would be among the rooms of `u1`.
    pub fn new(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['*', '{', '}']) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
            }
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix('*') {
                parts.push(Part::Star);
                rest = after;
                continue;
            }
            let (name, place) = PLACEHOLDERS.iter().find(|(name, _)| rest.starts_with(name))?;
            parts.push(Part::Place(*place));
            rest = &rest[name.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let is_open = |part: &Part| !matches!(part, Part::Text(_));
        let is_place = |part: &Part| matches!(part, Part::Place(_));
        let runs_together = |pair: &[Part]| pair.iter().all(is_open) && pair.iter().any(is_place);
        let is_good = !text.is_empty() && !parts.windows(2).any(runs_together);
        is_good.then(|| Self { text: text.to_owned(), parts })
    }

    /// The text it was made from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Fills the places in with what `value` says, literally: a `*` in a value is a character like others.
    ///
    /// `None` when a value is missing or empty; and when there is a star or another place, also when a value holds
    /// a character that its place is set off by: with `user:{user}:*`, the rooms of `a:b` would be among those of
    /// `a`, and `{tenant}_{user}` would take `a` and `b_c` for `a_b` and `c`. A template that forbids
    /// (`is_strict` false) is filled all the same: it may say too much, never too little.
    pub fn fill<'t>(
        &'t self,
        is_strict: bool,
        value: impl Fn(Placeholder) -> Option<&'t str>,
    ) -> Option<FilledTemplate<'t>> {
        let is_ambiguous =
            is_strict && self.parts.iter().filter(|part| !matches!(part, Part::Text(_))).count() > 1;
        let mut pieces = vec![Cow::Borrowed("")];
        for (index, part) in self.parts.iter().enumerate() {
            let text = match part {
                Part::Star => {
                    pieces.push(Cow::Borrowed(""));
                    continue;
                }
                Part::Text(text) => text.as_str(),
                Part::Place(place) => {
                    let value = value(*place).filter(|value| !value.is_empty())?;
                    if is_ambiguous && self.separators(index).any(|separator| value.contains(separator)) {
                        return None;
                    }
                    value
                }
            };
            let piece = pieces.last_mut().expect("begins with one");
            if piece.is_empty() { *piece = Cow::Borrowed(text) } else { piece.to_mut().push_str(text) }
        }
        Some(FilledTemplate { pieces })
    }

    /// The characters right before and after a part.
    fn separators(&self, index: usize) -> impl Iterator<Item = char> {
        let text = |index: Option<usize>| match index.and_then(|index| self.parts.get(index)) {
            Some(Part::Text(text)) => text.as_str(),
            _ => "",
        };
        let (before, after) = (text(index.checked_sub(1)), text(Some(index + 1)));
        before.chars().next_back().into_iter().chain(after.chars().next())
    }
}

impl FilledTemplate<'_> {
    /// Whether the whole of `room` matches.
    pub fn matches(&self, room: &str) -> bool {
        pieces_match(self.pieces.iter().map(AsRef::as_ref), room)
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

    #[test]
    fn a_template_is_filled_with_what_a_client_is() {
        let cases = [
            ("user:{user}", "user:u1", true),
            ("user:{sub}", "user:u1", true),
            ("user:{user}", "user:u2", false),
            ("user:{user}", "user:u1x", false),
            ("{tenant}/{user}/*", "acme/u1/inbox", true),
            ("{tenant}/{user}/*", "acme/u2/inbox", false),
            ("{tenant}/*", "evil/acme/x", false),
            ("*-{user}-*", "a-u1-b", true),
            ("{user}-{user}", "u1-u1", true),
            ("plain", "plain", true),
            ("*", "", true),
        ];
        for (template, room, expected) in cases {
            let template = RoomTemplate::new(template).expect("a template");
            let filled = template.fill(true, |place| match place {
                Placeholder::User => Some("u1"),
                Placeholder::Tenant => Some("acme"),
            });
            assert_eq!(filled.expect("all there").matches(room), expected, "{template:?} on {room:?}");
        }
    }

    #[test]
    fn attack_56_a_value_cannot_widen_a_template() {
        let fits = |template: &str, value: Option<&'static str>, room: &str| {
            let template = RoomTemplate::new(template).expect("a template");
            template.fill(true, |_| value).is_some_and(|filled| filled.matches(room))
        };
        for (value, room) in [("*", "user:u2"), ("u*", "user:u2"), ("{user}", "user:u2"), ("?2", "user:u2")] {
            assert!(!fits("user:{user}", Some(value), room), "{value} on {room}");
        }
        assert!(fits("user:{user}", Some("*"), "user:*"), "it is the user's name");
        // Nobody and an empty name have no rooms of their own.
        for value in [None, Some("")] {
            assert!(!fits("user:{user}", value, "user:"));
            assert!(!fits("{user}:*", value, ":anything"));
        }
        // Where more than one part is open, what sets the value off cannot be part of it.
        assert!(!fits("user:{user}:*", Some("a:b"), "user:a:b:inbox"));
        assert!(!fits("*:{user}", Some("a:b"), "x:a:b"));
        assert!(fits("user:{user}", Some("a:b"), "user:a:b"));
        assert!(fits("user:{user}:*", Some("auth0|7"), "user:auth0|7:inbox"));
    }

    #[test]
    fn attack_60_two_values_cannot_be_taken_for_two_others() {
        let template = RoomTemplate::new("{tenant}_{user}").expect("a template");
        let fill = |tenant, user| {
            template.fill(true, move |place| match place {
                Placeholder::User => Some(user),
                Placeholder::Tenant => Some(tenant),
            })
        };
        assert!(fill("a", "c").is_some_and(|filled| filled.matches("a_c")));
        assert_eq!(fill("a_b", "c"), None);
        assert_eq!(fill("a", "b_c"), None);
        let forbids = template.fill(false, |_| Some("a_b"));
        assert!(forbids.is_some_and(|filled| filled.matches("a_b_a_b")), "what forbids is not given up");
    }

    #[test]
    fn a_template_that_is_ambiguous_or_has_other_braces_is_refused() {
        for text in [
            "",
            "{",
            "}",
            "{}",
            "{users}",
            "{user",
            "user}",
            "{ user }",
            "{{user}}",
            "{sub.x}",
            "{user}*",
            "*{user}",
            "{tenant}{user}",
        ] {
            assert_eq!(RoomTemplate::new(text), None, "{text}");
        }
    }

    #[test]
    fn the_cost_of_a_match_is_bounded_by_pattern_and_room() {
        let pattern = RoomPattern::new("*a".repeat(500) + "b");
        let room = "a".repeat(65_536);
        let start = std::time::Instant::now();
        assert!(!pattern.matches(&room));
        assert!(start.elapsed().as_millis() < 500, "{:?}", start.elapsed());
    }
}
