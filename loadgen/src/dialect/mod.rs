//! What a connection has to say and to hear before it counts messages.
//!
//! Pure: texts in, texts out. A dialect is a variant of [`Dialect`] and an arm in each function here; nothing else
//! knows their texts, apart from the defaults of what a backend publishes ([`crate::publisher`]).

pub(crate) mod upgrade;

use serde::{Deserialize, Serialize};
use shardcast_wire::ignis::ClientId;

/// A protocol the generator speaks as a client and publishes as a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// Ignis: authenticate, join, events as `{"event":…,"data":…}`
    #[default]
    Ignis,
    /// topic-session: authorization with a JWT, a subscription for each room, snapshots of Redis channels
    Topic,
    /// Anything over WebSocket: send --send after connecting, count what carries a stamp
    Raw,
}

/// What the clients of a run say: the dialect with its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Script {
    pub(crate) dialect: Dialect,
    /// Every client logs in with it; `{user}` in it is the user.
    pub(crate) token: String,
    /// Raw: what a client sends after connecting; with `{room}` or `{room_json}` once for each of its rooms.
    pub(crate) lines: Vec<String>,
    /// Raw: a client is live when a message contains this; `None`: at once.
    pub(crate) ready: Option<String>,
}

/// What a connection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Wait for what comes.
    Wait,
    /// Send these texts, then wait.
    Say(Vec<String>),
    /// Send these texts; from now on count messages.
    Live(Vec<String>),
    /// The server refused; it will close, or say more.
    Refused,
    /// The connection is not what was asked for, for this reason, and of no use.
    Mistaken(String),
}

/// Who is speaking.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speaker<'a> {
    /// The number of the connection.
    pub(crate) connection: u32,
    /// Names of the rooms it joins.
    pub(crate) rooms: &'a [&'a str],
    /// The user it has to be, as publications go there; `None`: any, as nobody asks.
    pub(crate) user: Option<&'a str>,
}

impl Speaker<'_> {
    fn user(self) -> String {
        self.user.map_or_else(|| format!("loadgen-{}", self.connection), str::to_owned)
    }
}

impl Script {
    /// The first thing to do after the upgrade.
    pub(crate) fn opened(&self, speaker: Speaker<'_>) -> Step {
        match self.dialect {
            Dialect::Ignis => {
                let user = speaker.user();
                let token = self.token.replace("{user}", &user);
                let data = serde_json::json!({ "token": token, "userId": user });
                Step::Say(vec![format!(r#"{{"event":"authenticate","data":{data}}}"#)])
            }
            Dialect::Topic => Step::Wait,
            Dialect::Raw if self.ready.is_some() => Step::Say(self.rendered_lines(speaker)),
            Dialect::Raw => Step::Live(self.rendered_lines(speaker)),
        }
    }

    /// What to do about a message that came before the connection was live.
    pub(crate) fn heard(&self, message: &[u8], speaker: Speaker<'_>) -> Step {
        match self.dialect {
            Dialect::Ignis if message.starts_with(br#"{"event":"connected""#) => {
                ignis_connected(message, speaker)
            }
            Dialect::Ignis if message.starts_with(br#"{"event":"error""#) => Step::Refused,
            Dialect::Ignis => Step::Wait,
            Dialect::Topic => self.topic_heard(message, speaker),
            Dialect::Raw => match &self.ready {
                Some(ready) if contains(message, ready.as_bytes()) => Step::Live(Vec::new()),
                _ => Step::Wait,
            },
        }
    }

    /// The id a server gives the client with the message that makes it live; `None` when it gives none.
    pub(crate) fn client_id(&self, message: &[u8]) -> Option<ClientId> {
        match self.dialect {
            Dialect::Ignis => ClientId::parse(&serde_json::from_slice::<Connected>(message).ok()?.data.id),
            Dialect::Topic | Dialect::Raw => None,
        }
    }

    /// Whether a live connection may hear such a message beside publications.
    pub(crate) fn is_small_talk(&self, message: &[u8]) -> bool {
        match self.dialect {
            Dialect::Ignis | Dialect::Raw => false,
            Dialect::Topic => message == br#"{"action":"subscribe","message":"context subscribed"}"#,
        }
    }

    /// The text that keeps an idle connection alive; `None`: a ping frame does.
    pub(crate) fn heartbeat(&self) -> Option<&'static str> {
        match self.dialect {
            Dialect::Ignis => Some(r#"{"event":"heartbeat"}"#),
            Dialect::Topic | Dialect::Raw => None,
        }
    }

    /// Requests of a connection are answered in order, so all of them are sent together.
    fn topic_heard(&self, message: &[u8], speaker: Speaker<'_>) -> Step {
        #[derive(Deserialize)]
        struct Said<'a> {
            message: &'a str,
            session: Option<&'a str>,
        }
        let Ok(said) = serde_json::from_slice::<Said<'_>>(message) else { return Step::Wait };
        match (said.message, said.session) {
            ("waiting for create session", Some(session)) => {
                let request = |action: &str, context: &str| {
                    let session = serde_json::json!(session);
                    let context = serde_json::json!(context);
                    format!(r#"{{"action":"{action}","session":{session},"context":{context}}}"#)
                };
                let subscriptions = speaker.rooms.iter().map(|room| request("subscribe", room));
                Step::Say(
                    std::iter::once(request("authorization", &self.token)).chain(subscriptions).collect(),
                )
            }
            ("session authenticated", _) => Step::Live(Vec::new()),
            ("session unauthorized" | "client disconnect", _) => Step::Refused,
            _ => Step::Wait,
        }
    }

    fn rendered_lines(&self, speaker: Speaker<'_>) -> Vec<String> {
        let mut rendered = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            if !line.contains("{room}") && !line.contains("{room_json}") {
                rendered.push(line.clone());
                continue;
            }
            rendered.extend(speaker.rooms.iter().map(|room| {
                line.replace("{room_json}", &serde_json::json!(room).to_string()).replace("{room}", room)
            }));
        }
        rendered
    }
}

/// What Ignis says to a client it has authenticated; ids are whatever the application makes of them.
#[derive(Deserialize)]
struct Connected {
    data: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    #[serde(default)]
    id: String,
    #[serde(default)]
    user_id: serde_json::Value,
}

/// What to do once connected; as somebody else than asked for, the client would wait for messages in vain.
fn ignis_connected(message: &[u8], speaker: Speaker<'_>) -> Step {
    if let Some(user) = speaker.user {
        let told = serde_json::from_slice::<Connected>(message).map(|connected| connected.data.user_id);
        let told = told.unwrap_or_default();
        if told != user {
            let told = if told.is_null() { "nobody".to_owned() } else { told.to_string() };
            return Step::Mistaken(format!(
                "connected as {told}, not as the user {user:?}: the server has to know it by userId or by the token"
            ));
        }
    }
    Step::Live(ignis_join(speaker).into_iter().collect())
}

fn ignis_join(speaker: Speaker<'_>) -> Option<String> {
    let rooms = serde_json::json!(speaker.rooms);
    (!speaker.rooms.is_empty()).then(|| format!(r#"{{"event":"join","data":{{"rooms":{rooms}}}}}"#))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEAKER: Speaker<'_> = Speaker { connection: 7, rooms: &["a", "b\""], user: None };

    fn script(dialect: Dialect) -> Script {
        Script { dialect, token: "t\"".to_owned(), ..Script::default() }
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn an_ignis_client_authenticates_and_then_joins() {
        let ignis = script(Dialect::Ignis);
        let login = r#"{"event":"authenticate","data":{"token":"t\"","userId":"loadgen-7"}}"#;
        assert_eq!(ignis.opened(SPEAKER), Step::Say(texts(&[login])));
        let join = r#"{"event":"join","data":{"rooms":["a","b\""]}}"#;
        let heard = |message: &str| ignis.heard(message.as_bytes(), SPEAKER);
        assert_eq!(heard(r#"{"event":"connected","data":{}}"#), Step::Live(texts(&[join])));
        assert_eq!(heard(r#"{"event":"error","data":{}}"#), Step::Refused);
        assert_eq!(heard(r#"{"event":"x"}"#), Step::Wait);
        let roomless = Speaker { rooms: &[], ..SPEAKER };
        assert_eq!(ignis.heard(br#"{"event":"connected"}"#, roomless), Step::Live(Vec::new()));
    }

    #[test]
    fn an_ignis_client_is_the_user_it_was_asked_to_be_or_of_no_use() {
        let ignis = Script { token: "t-{user}".to_owned(), ..script(Dialect::Ignis) };
        let speaker = Speaker { rooms: &[], user: Some("u1"), ..SPEAKER };
        let login = r#"{"event":"authenticate","data":{"token":"t-u1","userId":"u1"}}"#;
        assert_eq!(ignis.opened(speaker), Step::Say(texts(&[login])));
        let heard =
            |data: &str| ignis.heard(format!(r#"{{"event":"connected","data":{data}}}"#).as_bytes(), speaker);
        assert_eq!(heard(r#"{"id":"x","userId":"u1"}"#), Step::Live(Vec::new()));
        for (data, told) in
            [(r#"{"id":"x"}"#, "nobody"), (r#"{"userId":7}"#, "7"), (r#"{"userId":"u2"}"#, "\"u2\"")]
        {
            let Step::Mistaken(reason) = heard(data) else { panic!("{data}") };
            assert!(reason.starts_with(&format!("connected as {told}, not as the user \"u1\"")), "{reason}");
        }
    }

    #[test]
    fn a_client_id_is_a_uuid() {
        let id = "e2421b52-9a40-47a4-8ed1-a390c85db8e5";
        let told = |id: &str| {
            let message = format!(r#"{{"event":"connected","data":{{"id":"{id}","time":"t"}}}}"#);
            script(Dialect::Ignis).client_id(message.as_bytes()).map(|id| id.to_string())
        };
        assert_eq!((told(id).as_deref(), told("x")), (Some(id), None));
        assert_eq!(script(Dialect::Ignis).client_id(br#"{"event":"connected"}"#), None);
    }

    #[test]
    fn a_topic_client_waits_for_its_session_and_asks_for_everything_at_once() {
        let topic = script(Dialect::Topic);
        let heard = |message: &str| topic.heard(message.as_bytes(), SPEAKER);
        assert_eq!(topic.opened(SPEAKER), Step::Wait);
        assert_eq!(heard(r#"{"action":"connect","message":"connection established"}"#), Step::Wait);
        let requests = [
            r#"{"action":"authorization","session":"s1","context":"t\""}"#,
            r#"{"action":"subscribe","session":"s1","context":"a"}"#,
            r#"{"action":"subscribe","session":"s1","context":"b\""}"#,
        ];
        let session = r#"{"action":"session","message":"waiting for create session","session":"s1"}"#;
        assert_eq!(heard(session), Step::Say(texts(&requests)));
        let authenticated = r#"{"action":"session","message":"session authenticated"}"#;
        assert_eq!(heard(authenticated), Step::Live(Vec::new()));
        assert_eq!(heard(r#"{"action":"session","message":"session unauthorized"}"#), Step::Refused);
        assert_eq!(heard("no JSON"), Step::Wait);
        assert!(topic.is_small_talk(br#"{"action":"subscribe","message":"context subscribed"}"#));
    }

    #[test]
    fn a_raw_client_sends_its_lines_with_the_rooms_put_in() {
        let lines = texts(&["hello", r#"{"join":{room_json}}"#, "+{room}"]);
        let raw = Script { lines, ..script(Dialect::Raw) };
        let expected = texts(&["hello", r#"{"join":"a"}"#, r#"{"join":"b\""}"#, "+a", "+b\""]);
        assert_eq!(raw.opened(SPEAKER), Step::Live(expected.clone()));
        let waiting = Script { ready: Some("\"ok\"".to_owned()), ..raw };
        assert_eq!(waiting.opened(SPEAKER), Step::Say(expected));
        assert_eq!(waiting.heard(br#"{"state":"ok"}"#, SPEAKER), Step::Live(Vec::new()));
        assert_eq!(waiting.heard(br#"{"state":"no"}"#, SPEAKER), Step::Wait);
    }
}
