//! What a client says (`ignis.md` §4, §6 and §7).
//!
//! Decides what a message is, never whether it is allowed: that needs the connection's state.

use std::borrow::Cow;

use crate::json::{self, Kind};

use super::{RESERVED_PREFIX, ROOM_NAME_UNITS_MAX};

/// One message of a client, in the order in which Ignis looks: each variant implies that those before it do not
/// apply. All but the first four need an authenticated client and are answered `Not authenticated` without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage<'a> {
    /// No JSON: answered `Invalid message format` in every state.
    Malformed,
    /// JSON that is dropped in silence in every state: no object, or no truthy `event`.
    Ignored,
    /// `heartbeat`: nothing is answered, in any state.
    Heartbeat,
    /// `authenticate`.
    Authenticate {
        /// The raw JSON of `data`, as sent; `{}` when it is absent or null.
        data: &'a str,
    },
    /// `join`.
    Join {
        /// What was asked for and may be named by a client, in order, twins included. Empty when the request
        /// named nothing of use (or was one that makes Ignis throw, `ignis.md` §16.1): then it has no effect.
        rooms: Vec<Cow<'a, str>>,
    },
    /// `leave`.
    Leave {
        /// All strings that were named. Names are not checked: the hooks may have joined any room.
        rooms: Vec<Cow<'a, str>>,
    },
    /// `encrypted`: a message within, where the server decrypts (Ignis does not); else as [`ClientMessage::Other`].
    Encrypted {
        /// The raw JSON of `data`, as sent; `null` when it is absent.
        data: &'a str,
    },
    /// Anything else, for the hooks; includes reserved names (`connected`, `error`, ...) from a client.
    Other {
        /// The JSON of `event`, a string as `JSON.stringify` writes it. Truthy; any kind of value.
        event: Cow<'a, str>,
    },
}

/// Reads one message.
///
/// Never fails: what is wrong with `text` is a variant. Room names that are no text (lone surrogates) are dropped
/// like other bad names.
pub fn parse(text: &str) -> ClientMessage<'_> {
    let [event, data] = match json::members(text, ["event", "data"]) {
        Ok(Some(members)) => members,
        Ok(None) => return ClientMessage::Ignored,
        Err(_) => return ClientMessage::Malformed,
    };
    let Some(event) = event.filter(|event| !json::is_falsy(event)) else { return ClientMessage::Ignored };
    let event = if json::kind(event) == Kind::String { json::normalize_string(event) } else { event.into() };
    match &*event {
        r#""heartbeat""# => ClientMessage::Heartbeat,
        r#""authenticate""# => {
            ClientMessage::Authenticate { data: data.filter(|data| *data != "null").unwrap_or("{}") }
        }
        r#""join""# => {
            ClientMessage::Join { rooms: named_rooms(data).filter(|room| may_ask_for(room)).collect() }
        }
        r#""leave""# => ClientMessage::Leave { rooms: named_rooms(data).collect() },
        r#""encrypted""# => ClientMessage::Encrypted { data: data.unwrap_or("null") },
        _ => ClientMessage::Other { event },
    }
}

/// The strings of `data.rooms`; none when that is no array.
fn named_rooms(data: Option<&str>) -> impl Iterator<Item = Cow<'_, str>> {
    let members = data.and_then(|data| json::members(data, ["rooms"]).ok().flatten());
    let rooms = members.and_then(|[rooms]| rooms).unwrap_or("[]");
    json::elements(rooms).filter(|room| json::kind(room) == Kind::String).filter_map(json::unescape)
}

/// Whether a client may name this room in a `join`: 1 to [`ROOM_NAME_UNITS_MAX`] UTF-16 units, not internal.
fn may_ask_for(room: &str) -> bool {
    // A UTF-16 unit is one to three bytes of UTF-8, so most names need no count.
    let short = room.len() <= ROOM_NAME_UNITS_MAX
        || (room.len() <= 3 * ROOM_NAME_UNITS_MAX && room.encode_utf16().count() <= ROOM_NAME_UNITS_MAX);
    !room.is_empty() && short && !room.starts_with(RESERVED_PREFIX)
}

#[cfg(test)]
mod tests;
