//! What travels between servers through Redis (`ignis.md` §11).
//!
//! Whoever can publish on the channels can say anything, so a message is never more than data: it is read within
//! bounds, and what it injects into a frame is one JSON string and one JSON value, both validated here.

use std::borrow::Cow;

use crate::json::{self, Indexer, JsonError, Kind};

use super::ids::{ClientId, UserId};
use super::outbound;

/// The `serverId` of publishers that are no servers.
pub const EMITTER_ID: &str = "emitter";

/// The channel of broadcasts, to `SUBSCRIBE`.
pub const BROADCAST_CHANNEL: &str = "ws:broadcast";

/// What rooms' channels start with.
pub const ROOM_CHANNEL_PREFIX: &str = "ws:room:";

/// What clients' channels start with.
pub const CLIENT_CHANNEL_PREFIX: &str = "ws:client:";

/// What users' channels start with.
pub const USER_CHANNEL_PREFIX: &str = "ws:user:";

/// The patterns to `PSUBSCRIBE`, in Ignis' order.
pub const CHANNEL_PATTERNS: [&str; 3] = ["ws:room:*", "ws:client:*", "ws:user:*"];

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// All authenticated clients.
    Broadcast,
    /// The members of a room. Any name: it is not checked (`ignis.md` §11).
    Room(Cow<'a, str>),
    /// One client, by the text of its id.
    Client(Cow<'a, str>),
    /// The clients of a user, by [`UserId::as_json`].
    User(Cow<'a, str>),
}

impl<'a> Destination<'a> {
    /// The clients of `user`.
    pub fn user(user: &'a UserId) -> Self {
        Self::User(user.as_json().into())
    }

    /// The `type` of the message.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Room(_) => "room",
            Self::Client(_) => "client",
            Self::User(_) => "user",
        }
    }

    fn read(name: &str, target: Option<&'a str>) -> Result<Self, EnvelopeError> {
        let text = || {
            let target = target.filter(|target| json::kind(target) == Kind::String);
            target.and_then(json::unescape).filter(|target| !target.is_empty()).ok_or(EnvelopeError::NoTarget)
        };
        match name {
            "broadcast" => Ok(Self::Broadcast),
            "room" => text().map(Self::Room),
            "client" => text().map(Self::Client),
            "user" => user_target(target).map(Self::User).ok_or(EnvelopeError::NoTarget),
            _ => Err(EnvelopeError::UnknownType),
        }
    }
}

/// A user's target in the spelling of [`UserId::as_json`]; arrays and objects equal nobody's id.
fn user_target(target: Option<&str>) -> Option<Cow<'_, str>> {
    let target = target.filter(|target| !json::is_falsy(target))?;
    match json::kind(target) {
        Kind::String => Some(json::normalize_string(target)),
        Kind::Number => json::normalize_number(target),
        Kind::True => Some(target.into()),
        Kind::Null | Kind::False | Kind::Array | Kind::Object => None,
    }
}

/// The channel on which a message for `destination` is published.
///
/// Names go in as they are; the Redis client's length-prefixed arguments keep them one argument.
pub fn channel(destination: &Destination<'_>) -> String {
    match destination {
        Destination::Broadcast => BROADCAST_CHANNEL.to_owned(),
        Destination::Room(room) => [ROOM_CHANNEL_PREFIX, room].concat(),
        Destination::Client(id) => [CLIENT_CHANNEL_PREFIX, id].concat(),
        Destination::User(json) => {
            let user = json::unescape(json).unwrap_or(Cow::Borrowed(json));
            [USER_CHANNEL_PREFIX, &user].concat()
        }
    }
}

/// Bounds of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// The most entries of `exclude`.
    pub exclude_max: usize,
}

impl Default for Limits {
    /// 16 MiB, what a connection may have queued, and 10,000 exclusions.
    fn default() -> Self {
        Self { message_bytes_max: super::BACKPRESSURE_BYTES_MAX, exclude_max: 10_000 }
    }
}

/// What [`decode`] needs beside the message; one for each thread that receives.
#[derive(Debug, Default)]
pub struct Scratch {
    limits: Limits,
    indexer: Indexer,
}

impl Scratch {
    /// Empty buffers and these bounds.
    pub fn new(limits: Limits) -> Self {
        Self { limits, indexer: Indexer::default() }
    }
}

/// Why a received message is dropped. The publisher's fault: count it by [`name`](Self::name) and go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than [`Limits::message_bytes_max`].
    #[error("the message is larger than the bound")]
    TooLarge,
    /// More entries than [`Limits::exclude_max`]. Dropped, since to shorten the list would tell the excluded.
    #[error("the message excludes more clients than the bound")]
    TooManyExcluded,
    /// No UTF-8.
    #[error("the message is no UTF-8")]
    NotUtf8,
    /// No JSON.
    #[error("the message is no JSON: {0}")]
    NotJson(#[from] JsonError),
    /// JSON, but no object.
    #[error("the message is no JSON object")]
    NotObject,
    /// No string `serverId`.
    #[error("the message has no string `serverId`")]
    NoServerId,
    /// No string `event`.
    #[error("the message has no string `event`")]
    NoEvent,
    /// A `type` that is none of the four.
    #[error("the `type` of the message is none of broadcast, room, client, user")]
    UnknownType,
    /// No usable `target` for a type that needs one.
    #[error("the message has no `target`")]
    NoTarget,
}

impl EnvelopeError {
    /// A name for counters and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooManyExcluded => "too_many_excluded",
            Self::NotUtf8 => "not_utf8",
            Self::NotJson(_) => "not_json",
            Self::NotObject => "not_object",
            Self::NoServerId => "no_server_id",
            Self::NoEvent => "no_event",
            Self::UnknownType => "unknown_type",
            Self::NoTarget => "no_target",
        }
    }
}

/// A received message. Any event name passes, `connected` and `error` too (`ignis.md` §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The publisher; a message with the receiver's own is an echo, to be dropped.
    pub server_id: Cow<'a, str>,
    /// Who gets it. The channel it came on says nothing.
    pub destination: Destination<'a>,
    /// Raw JSON string, with its quotes.
    pub event: &'a str,
    /// Raw JSON value; absent is not `null`.
    pub data: Option<&'a str>,
    /// Clients that do not get it; of use for broadcasts and rooms only. What is no client id of ours excludes
    /// nobody and is left out.
    pub exclude: Vec<ClientId>,
}

impl Envelope<'_> {
    /// The frame that clients get.
    pub fn frame(&self) -> Vec<u8> {
        outbound::event(self.event, self.data)
    }
}

/// Reads a received message (`ignis.md` §11, all rules but the second: who the receiver is, the caller knows).
pub fn decode<'a>(raw: &'a [u8], scratch: &mut Scratch) -> Result<Envelope<'a>, EnvelopeError> {
    if raw.len() > scratch.limits.message_bytes_max {
        return Err(EnvelopeError::TooLarge);
    }
    let text = std::str::from_utf8(raw).map_err(|_| EnvelopeError::NotUtf8)?;
    let wanted = ["serverId", "type", "target", "event", "data", "exclude"];
    let members = scratch.indexer.members(text, wanted)?.ok_or(EnvelopeError::NotObject)?;
    let [server_id, kind, target, event, data, exclude] = members;
    let is_string = |raw: &&str| json::kind(raw) == Kind::String;
    let server_id = server_id.filter(is_string).ok_or(EnvelopeError::NoServerId)?;
    let event = event.filter(is_string).ok_or(EnvelopeError::NoEvent)?;
    let name = kind.filter(is_string).and_then(json::unescape).ok_or(EnvelopeError::UnknownType)?;
    let destination = Destination::read(&name, target)?;
    let exclude = match destination {
        Destination::Broadcast | Destination::Room(_) => excluded(exclude, scratch.limits.exclude_max)?,
        Destination::Client(_) | Destination::User(_) => Vec::new(),
    };
    // An id that is no text equals nobody's, and neither does its JSON.
    let server_id = json::unescape(server_id).unwrap_or(Cow::Borrowed(server_id));
    Ok(Envelope { server_id, destination, event, data, exclude })
}

fn excluded(raw: Option<&str>, exclude_max: usize) -> Result<Vec<ClientId>, EnvelopeError> {
    let mut clients = Vec::new();
    for (index, element) in json::elements(raw.unwrap_or("[]")).enumerate() {
        if index == exclude_max {
            return Err(EnvelopeError::TooManyExcluded);
        }
        clients.extend(json::unescape(element).and_then(|id| ClientId::parse(&id)));
    }
    Ok(clients)
}

/// An event and its data, checked once and then good for any number of frames and messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    event_json: String,
    data: Option<String>,
}

impl Payload {
    /// `event` is plain text, `data` the text of one JSON value.
    pub fn new(event: &str, data: Option<&str>) -> Result<Self, JsonError> {
        let data = data.map(json::validate).transpose()?.map(str::to_owned);
        Ok(Self { event_json: json::quote(event), data })
    }

    /// The event as a raw JSON string.
    pub fn event_json(&self) -> &str {
        &self.event_json
    }

    /// The data as a raw JSON value, without whitespace around it.
    pub fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }

    /// The frame that clients get.
    pub fn frame(&self) -> Vec<u8> {
        outbound::event(&self.event_json, self.data())
    }
}

/// Writes a message for Redis: keys in the order `serverId`, `type`, `target`, `event`, `data`, `exclude`, those
/// without a value left out.
///
/// `exclude` names clients by id; an empty list is written, as Ignis' emitter does.
pub fn encode(
    server_id: &str,
    destination: &Destination<'_>,
    payload: &Payload,
    exclude: Option<&[String]>,
) -> Vec<u8> {
    let mut out = String::with_capacity(128 + payload.event_json.len() + payload.data().map_or(0, str::len));
    out.push_str(r#"{"serverId":"#);
    json::push_quoted(&mut out, server_id);
    out.push_str(r#","type":""#);
    out.push_str(destination.name());
    out.push('"');
    match destination {
        Destination::Broadcast => {}
        Destination::Room(target) | Destination::Client(target) => {
            out.push_str(r#","target":"#);
            json::push_quoted(&mut out, target);
        }
        Destination::User(json) => {
            out.push_str(r#","target":"#);
            out.push_str(json);
        }
    }
    out.push_str(r#","event":"#);
    out.push_str(&payload.event_json);
    if let Some(data) = payload.data() {
        out.push_str(r#","data":"#);
        out.push_str(data);
    }
    if let Some(exclude) = exclude {
        out.push_str(r#","exclude":["#);
        for (index, id) in exclude.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            json::push_quoted(&mut out, id);
        }
        out.push(']');
    }
    out.push('}');
    out.into_bytes()
}

#[cfg(test)]
mod tests;
