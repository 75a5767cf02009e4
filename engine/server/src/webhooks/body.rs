//! The JSON of requests and answers. Pure.
//!
//! What a client sent as `data` of `authenticate` stands in the request as it was written, since only its own request
//! depends on it. Messages share a request with those of others, so a message is a string in which its JSON text is:
//! one that the application's parser does not take (too deep, half a surrogate pair) cannot spoil the others'.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shardcast_wire::date;
use shardcast_wire::ignis::UserId;
use shardcast_wire::json::push_quoted;

use super::figures::{EventKind, Outcome};
use crate::auth::Principal;
use crate::auth::principal::is_exact_id;
use crate::config::RoomPattern;
use crate::hooks::Client;
use crate::outbound::post::Reply;

/// What begins every request and every event: `{"type":…`, up to and with the client.
fn begin(kind: &str, id: Option<&str>, unix_ms: u64, mount: &str, client: &Client) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"type\":\"");
    out.push_str(kind);
    if let Some(id) = id {
        out.push_str("\",\"id\":\"");
        out.push_str(id);
    }
    out.push_str("\",\"time\":\"");
    out.push_str(&date::iso_ms(unix_ms));
    out.push_str("\",\"mount\":");
    push_quoted(&mut out, mount);
    out.push_str(&format!(",\"client\":{{\"id\":\"{}\",\"address\":\"{}\"", client.id, client.address));
    out.push_str(",\"user\":");
    out.push_str(client.identity.user.as_ref().map_or("null", UserId::as_json));
    let nobody = Principal::default();
    let principal = Principal::of(&client.identity).unwrap_or(&nobody);
    out.push_str(",\"tenant\":");
    match &principal.tenant {
        Some(tenant) => push_quoted(&mut out, tenant),
        None => out.push_str("null"),
    }
    out.push_str(",\"roles\":");
    push_list(&mut out, &principal.roles);
    out.push('}');
    out
}

fn push_list(out: &mut String, texts: &[String]) {
    out.push('[');
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_quoted(out, text);
    }
    out.push(']');
}

/// Who is this? `data` is valid JSON.
pub fn authenticate(id: &str, unix_ms: u64, mount: &str, client: &Client, data: &str) -> String {
    let mut out = begin("authenticate", Some(id), unix_ms, mount, client);
    out.push_str(",\"data\":");
    out.push_str(data);
    out.push('}');
    out
}

/// Which of these rooms may it join?
pub fn rooms(id: &str, unix_ms: u64, mount: &str, client: &Client, rooms: &[String]) -> String {
    let mut out = begin("rooms", Some(id), unix_ms, mount, client);
    out.push_str(",\"rooms\":");
    push_list(&mut out, rooms);
    out.push('}');
    out
}

/// One event, with the text of the message if it is one.
pub fn event(kind: EventKind, unix_ms: u64, mount: &str, client: &Client, text: Option<&str>) -> String {
    let mut out = begin(kind.name(), None, unix_ms, mount, client);
    if let Some(text) = text {
        out.push_str(",\"message\":");
        push_quoted(&mut out, text);
    }
    out.push('}');
    out
}

/// A request with events.
pub fn events<'a>(id: &str, unix_ms: u64, events: impl Iterator<Item = &'a str>) -> String {
    let mut out =
        format!("{{\"type\":\"events\",\"id\":\"{id}\",\"time\":\"{}\",\"events\":[", date::iso_ms(unix_ms));
    for (at, event) in events.enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(event);
    }
    out.push_str("]}");
    out
}

/// The answer to `authenticate`. An unknown field is refused: it may be a restriction with a typing error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Admitted<'a> {
    /// Required, so that an empty object from a framework lets nobody in; `null` for nobody in particular.
    #[serde(borrow)]
    user: &'a RawValue,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    tenant: Option<String>,
    #[serde(default)]
    claims: Map<String, Value>,
    /// Seconds since 1970, as `exp` of a JSON Web Token.
    expires: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    rooms: Vec<String>,
}

/// Why a body is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    /// The status is none of 200, 401, 403.
    #[error("status {0} is no answer")]
    Status(u16),
    /// The body is not of the form that is asked for.
    #[error("the body is no answer: {0}")]
    Form(#[from] serde_json::Error),
    /// The user is neither a string nor a number that is an exact id nor null.
    #[error(
        "the body is no answer: user must be a string that is not empty, a whole number other than 0 and at most 2^53-1, \
         or null"
    )]
    User,
}

impl BadAnswer {
    /// For the log: without a word of the answer, of which the parser's error quotes what it stumbled over.
    pub(super) fn logged(&self) -> String {
        match self {
            Self::Form(error) => format!(
                "the body is no answer: {:?} error at line {}, column {}",
                error.classify(),
                error.line(),
                error.column()
            ),
            other => other.to_string(),
        }
    }

    /// How it is counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Status(_) => Outcome::BadStatus,
            Self::Form(_) | Self::User => Outcome::Malformed,
        }
    }
}

/// Reads the answer to `authenticate`: `None` is a refusal, as is an admission that has expired.
pub fn read_authenticate(reply: &Reply, unix_ms: u64) -> Result<Option<Principal>, BadAnswer> {
    if refuses(reply)? {
        return Ok(None);
    }
    let admitted: Admitted<'_> = object(&reply.body)?;
    let expires_unix_ms = admitted.expires.map(|seconds| seconds.saturating_mul(1_000));
    if expires_unix_ms.is_some_and(|expires| expires <= unix_ms) {
        return Ok(None);
    }
    Ok(Some(Principal {
        user: user(admitted.user.get())?,
        tenant: admitted.tenant,
        roles: admitted.roles,
        rooms: admitted.rooms.into_iter().map(RoomPattern::new).collect(),
        claims: admitted.claims,
        expires_unix_ms,
        everything: false,
    }))
}

/// Reads an object. Without this, serde takes a list for one, its members in their order.
fn object<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, serde_json::Error> {
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(serde_json::Error::custom("it is a list, not an object"));
    }
    serde_json::from_slice(body)
}

fn user(raw: &str) -> Result<Option<UserId>, BadAnswer> {
    if raw == "null" {
        return Ok(None);
    }
    let user = if raw.starts_with('"') || is_exact_id(raw) { UserId::from_json(raw) } else { None };
    user.map(Some).ok_or(BadAnswer::User)
}

/// Reads the answer to `rooms`, of which `asked` were asked for: those that are granted, in the order in which they were
/// asked for, and how many others the answer named. A refusal grants none.
pub fn read_rooms(reply: &Reply, asked: Vec<String>) -> Result<Grant, BadAnswer> {
    if refuses(reply)? {
        return Ok(Grant { refused: true, ..Grant::default() });
    }
    let granted: Granted = object(&reply.body)?;
    let mut granted: BTreeSet<&str> = granted.rooms.iter().map(String::as_str).collect();
    let rooms = asked.into_iter().filter(|room| granted.remove(room.as_str())).collect();
    Ok(Grant { rooms, ignored: granted.len() as u64, refused: false })
}

/// What an answer to `rooms` comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// To be joined.
    pub rooms: Vec<String>,
    /// Different rooms of the answer that nobody asked for.
    pub ignored: u64,
    /// The application said no to all.
    pub refused: bool,
}

fn refuses(reply: &Reply) -> Result<bool, BadAnswer> {
    match reply.status.as_u16() {
        200 => Ok(false),
        401 | 403 => Ok(true),
        other => Err(BadAnswer::Status(other)),
    }
}
