//! What a client says (`topic.md` §3).

use std::borrow::Cow;

use super::SessionId;
use crate::json::{self, Kind};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Who is this? `context` is a JSON Web Token.
    Authorization,
    /// `context` is a topic to be sent.
    Subscribe,
    /// `context` is a topic not to be sent any more.
    Unsubscribe,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it asks for.
    pub action: Action,
    /// Token or topic, not empty.
    pub context: Cow<'a, str>,
}

/// Why a message is no request. Each ends the connection (`topic.md` §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Neither UTF-8 nor JSON.
    #[error("it is not JSON")]
    NotJson,
    /// JSON, and no object.
    #[error("it is no object")]
    NotObject,
    /// `action`, `session` or `context` is missing, empty or no string of Unicode characters.
    #[error("action, session and context must be strings that are not empty")]
    Field,
    /// The session is another connection's, or nobody's.
    #[error("the session is not that of the connection")]
    Session,
    /// There is no such action.
    #[error("the action is none of authorization, subscribe and unsubscribe")]
    Action,
}

impl RequestError {
    /// Every reason, in the order of [`RequestError::index`].
    pub const ALL: [Self; Self::COUNT] =
        [Self::NotJson, Self::NotObject, Self::Field, Self::Session, Self::Action];

    /// How many there are.
    pub const COUNT: usize = 5;

    /// Its place in arrays of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A stable name, in snake case, for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotObject => "not_object",
            Self::Field => "field",
            Self::Session => "session",
            Self::Action => "action",
        }
    }
}

/// Reads one message of the connection whose session is `session`.
///
/// # Errors
/// The first of [`RequestError`] that applies, in that order; extra fields are ignored, of a field that occurs twice the
/// last counts.
pub fn parse<'a>(text: &'a str, session: &SessionId) -> Result<Request<'a>, RequestError> {
    let members = json::members(text, ["action", "session", "context"]).map_err(|_| RequestError::NotJson)?;
    let [action, named, context] = members.ok_or(RequestError::NotObject)?;
    let [action, named, context] = [filled(action)?, filled(named)?, filled(context)?];
    if !session.is(&named) {
        return Err(RequestError::Session);
    }
    let action = match &*action {
        "authorization" => Action::Authorization,
        "subscribe" => Action::Subscribe,
        "unsubscribe" => Action::Unsubscribe,
        _ => return Err(RequestError::Action),
    };
    Ok(Request { action, context })
}

fn filled(member: Option<&str>) -> Result<Cow<'_, str>, RequestError> {
    let raw = member.filter(|raw| json::kind(raw) == Kind::String).ok_or(RequestError::Field)?;
    json::unescape(raw).filter(|text| !text.is_empty()).ok_or(RequestError::Field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ignis::ClientId;

    #[test]
    fn every_message_is_a_request_or_a_named_error() {
        let session = SessionId::of(&ClientId::from_random([7; 16]));
        let mine = session.as_str();
        let request = |action, context: &str| Ok(Request { action, context: Cow::Owned(context.to_owned()) });
        let cases = [
            (r#"{"action":"subscribe","session":"$","context":"chat"}"#, request(Action::Subscribe, "chat")),
            (
                r#" { "context" : "a\u0062" , "session":"$","action":"unsubscribe","id":1} "#,
                request(Action::Unsubscribe, "ab"),
            ),
            (
                r#"{"action":"authorization","session":"$","context":"a.b.c"}"#,
                request(Action::Authorization, "a.b.c"),
            ),
            (
                r#"{"action":"publish","action":"subscribe","session":"$","context":"t"}"#,
                request(Action::Subscribe, "t"),
            ),
            ("", Err(RequestError::NotJson)),
            ("x", Err(RequestError::NotJson)),
            (r#"{"action":"subscribe","session":"$","context":"t"}{}"#, Err(RequestError::NotJson)),
            ("null", Err(RequestError::NotObject)),
            ("[]", Err(RequestError::NotObject)),
            ("42", Err(RequestError::NotObject)),
            (r#""subscribe""#, Err(RequestError::NotObject)),
            ("{}", Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"$"}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","context":"t"}"#, Err(RequestError::Field)),
            (r#"{"session":"$","context":"t"}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"$","context":""}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"","context":"t"}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"$","context":7}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"$","context":{}}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"$","context":"\ud800"}"#, Err(RequestError::Field)),
            (r#"{"action":"subscribe","session":"zzz","context":"t"}"#, Err(RequestError::Session)),
            (r#"{"action":"publish","session":"zzz","context":"t"}"#, Err(RequestError::Session)),
            (r#"{"action":"publish","session":"$","context":"t"}"#, Err(RequestError::Action)),
            (r#"{"action":"Subscribe","session":"$","context":"t"}"#, Err(RequestError::Action)),
        ];
        for (text, expected) in cases {
            let text = text.replace('$', mine);
            assert_eq!(parse(&text, &session), expected, "{text}");
        }
    }
}
