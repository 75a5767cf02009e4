//! The body of `POST /api/emit`, checked as a whole before anything is sent.
//!
//! `data` is cut out of the body as it stands: no number, escape or space of it changes on the way to a client.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use shardcast_wire::ignis::{Destination, Payload, UserId};
use shardcast_wire::json::{self, JsonError, Kind};

use super::error::ApiError;
use crate::config::suggest::nearest;
use crate::engine::{Emit, Message};

/// Messages that one request may bring.
const MESSAGES_MAX: usize = 1_000;

/// Clients that one message may exclude: more, and other instances would drop it (`envelope::Limits`).
const EXCLUDE_MAX: usize = 10_000;

/// Characters of a text of the request that an error repeats.
const QUOTE_CHARS_MAX: usize = 64;

/// The fields of a message.
const FIELDS: [&str; 5] = ["type", "target", "event", "data", "exclude"];

/// The kinds of target.
const TYPES: [&str; 5] = ["broadcast", "room", "user", "client", TOPIC];

/// The one kind that is no event: a payload for a Redis channel.
const TOPIC: &str = "topic";

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not an object.
    #[error(
        "a message is an object: {{\"type\":\"room\",\"target\":\"news\",\"event\":\"update\",\"data\":1}}"
    )]
    NotObject,
    /// A field that there is not.
    #[error("unknown field `{name}`; {}", hint(*nearest, &FIELDS))]
    UnknownField {
        /// As sent, shortened.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A field that occurs twice.
    #[error("the field `{0}` occurs more than once")]
    RepeatedField(&'static str),
    /// A field that must be there.
    #[error("the field `{0}` is missing")]
    MissingField(&'static str),
    /// A field that is no string, or one that is not Unicode.
    #[error("`{0}` must be a string")]
    NotText(&'static str),
    /// A kind of target that there is not.
    #[error("unknown type `{name}`; {}", hint(*nearest, &TYPES))]
    UnknownType {
        /// As sent, shortened.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A field that makes no sense with this kind of target.
    #[error("a message of type `{kind}` takes no `{field}`: leave it out")]
    Superfluous {
        /// The type.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// An empty string where there must be text.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// A user that is nobody's id.
    #[error("the `target` of a user is a string that is not empty or a number that is not 0")]
    BadUser,
    /// Not a list of ids.
    #[error("`exclude` must be an array of client ids")]
    BadExclude,
    /// Too many ids.
    #[error("`exclude` has more than {EXCLUDE_MAX} client ids: send to a room without them instead")]
    TooManyExcluded,
    /// Data that JSON allows and this server does not.
    #[error("`data` cannot be sent: {0}")]
    Data(#[from] JsonError),
}

impl MessageError {
    /// The code for programs.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NotObject => "not_object",
            Self::UnknownField { .. } => "unknown_field",
            Self::RepeatedField(_) => "repeated_field",
            Self::MissingField(_) => "missing_field",
            Self::NotText(_) => "not_text",
            Self::UnknownType { .. } => "unknown_type",
            Self::Superfluous { .. } => "superfluous_field",
            Self::Empty(_) => "empty_field",
            Self::BadUser => "bad_user",
            Self::BadExclude => "bad_exclude",
            Self::TooManyExcluded => "too_many_excluded",
            Self::Data(_) => "bad_data",
        }
    }
}

fn hint(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("there are `{}`", known.join("`, `")),
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The messages of a body: one object, or an array of at most 1,000.
///
/// # Errors
/// Something is wrong with the body or one of its messages; none is to be sent.
pub fn decode(body: &[u8]) -> Result<Vec<Message<'_>>, ApiError> {
    let body =
        std::str::from_utf8(body).map_err(|error| ApiError::NotUtf8 { position: error.valid_up_to() })?;
    let value: &RawValue = serde_json::from_str(body).map_err(ApiError::NotJson)?;
    let messages = match json::kind(value.get()) {
        Kind::Object => vec![value],
        Kind::Array => {
            let Messages(messages) = serde_json::from_str(value.get()).map_err(ApiError::NotJson)?;
            messages
        }
        _ => return Err(ApiError::NotMessages),
    };
    if messages.len() > MESSAGES_MAX {
        return Err(ApiError::TooManyMessages { count_max: MESSAGES_MAX });
    }
    let message = |(index, raw)| message(raw).map_err(|problem| ApiError::Message { index, problem });
    messages.into_iter().enumerate().map(message).collect()
}

fn message(raw: &RawValue) -> Result<Message<'_>, MessageError> {
    if json::kind(raw.get()) != Kind::Object {
        return Err(MessageError::NotObject);
    }
    // The body is JSON, so what fails here is a name with half a surrogate pair.
    let unreadable = |_| MessageError::UnknownField { name: "\u{fffd}".to_owned(), nearest: None };
    let Fields { known, problem } = serde_json::from_str(raw.get()).map_err(unreadable)?;
    if let Some(problem) = problem {
        return Err(problem);
    }
    let [kind, target, event, data, exclude] = known;
    let kind = text("type", kind)?;
    if kind == TOPIC {
        return topic(target, event, data, exclude);
    }
    let to = destination(&kind, target)?;
    let event = not_empty("event", text("event", event)?)?;
    let exclude = match (exclude, &to) {
        (None, _) => Vec::new(),
        (Some(exclude), Destination::Broadcast | Destination::Room(_)) => excluded(exclude)?,
        (Some(_), Destination::User(_) | Destination::Client(_)) => {
            return Err(MessageError::Superfluous { kind: to.name(), field: "exclude" });
        }
    };
    let payload = Payload::new(&event, data.map(RawValue::get))?;
    Ok(Message::Event(Emit { to, payload, exclude }))
}

/// A payload: `data` as it is written.
fn topic<'a>(
    target: Option<&RawValue>,
    event: Option<&RawValue>,
    data: Option<&'a RawValue>,
    exclude: Option<&RawValue>,
) -> Result<Message<'a>, MessageError> {
    for (field, raw) in [("event", event), ("exclude", exclude)] {
        if raw.is_some() {
            return Err(MessageError::Superfluous { kind: TOPIC, field });
        }
    }
    let channel = not_empty("target", text("target", target)?)?;
    let payload = data.ok_or(MessageError::MissingField("data"))?.get();
    Ok(Message::Topic { channel, payload })
}

fn destination<'a>(kind: &str, target: Option<&'a RawValue>) -> Result<Destination<'a>, MessageError> {
    let name = || not_empty("target", text("target", target)?).map(Cow::Owned);
    match kind {
        "broadcast" if target.is_some() => {
            Err(MessageError::Superfluous { kind: "broadcast", field: "target" })
        }
        "broadcast" => Ok(Destination::Broadcast),
        "room" => name().map(Destination::Room),
        "client" => name().map(Destination::Client),
        "user" => user(target.ok_or(MessageError::MissingField("target"))?),
        _ => Err(MessageError::UnknownType { name: shortened(kind), nearest: nearest(kind, TYPES) }),
    }
}

fn user(target: &RawValue) -> Result<Destination<'static>, MessageError> {
    let is_id = matches!(json::kind(target.get()), Kind::String | Kind::Number);
    let user = if is_id { UserId::from_json(target.get()) } else { None };
    user.map(|user| Destination::User(user.as_json().to_owned().into())).ok_or(MessageError::BadUser)
}

fn excluded(raw: &RawValue) -> Result<Vec<String>, MessageError> {
    let excluded: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| MessageError::BadExclude)?;
    if excluded.len() > EXCLUDE_MAX { Err(MessageError::TooManyExcluded) } else { Ok(excluded) }
}

fn text(field: &'static str, raw: Option<&RawValue>) -> Result<String, MessageError> {
    let raw = raw.ok_or(MessageError::MissingField(field))?;
    serde_json::from_str(raw.get()).map_err(|_| MessageError::NotText(field))
}

fn not_empty(field: &'static str, text: String) -> Result<String, MessageError> {
    if text.is_empty() { Err(MessageError::Empty(field)) } else { Ok(text) }
}

/// The elements of an array, at most one more than allowed: what follows is read over.
struct Messages<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Messages<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = Messages<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of messages")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Messages<'de>, A::Error> {
                let mut messages = Vec::new();
                while messages.len() <= MESSAGES_MAX
                    && let Some(message) = elements.next_element()?
                {
                    messages.push(message);
                }
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Messages(messages))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

/// The members of a message in the order of [`FIELDS`], and the first that should not be there.
struct Fields<'a> {
    known: [Option<&'a RawValue>; FIELDS.len()],
    problem: Option<MessageError>,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields { known: [None; FIELDS.len()], problem: None };
                while let Some(name) = members.next_key::<String>()? {
                    let value = members.next_value()?;
                    let problem = match FIELDS.iter().position(|field| *field == name) {
                        Some(index) if fields.known[index].is_some() => {
                            MessageError::RepeatedField(FIELDS[index])
                        }
                        Some(index) => {
                            fields.known[index] = Some(value);
                            continue;
                        }
                        None => MessageError::UnknownField {
                            name: shortened(&name),
                            nearest: nearest(&shortened(&name), FIELDS),
                        },
                    };
                    fields.problem.get_or_insert(problem);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Members)
    }
}
