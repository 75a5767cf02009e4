//! The fixture application of `ignis.md` §18 as hooks, and a log of what it was asked.
//!
//! Must decide exactly as the recorded one did: what differs here differs in every recording. Where that one threw,
//! this one unwinds, without the noise of a panic message.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use shardcast::engine::{Emit, Engine};
use shardcast::hooks::{Answer, Client, ConnectedFailed, Hooks};
use shardcast_shard::Identity;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_wire::ignis::{ClientId, Destination, Payload, UserId};

/// How long the room `slow` takes to validate.
const SLOW_ROOM: Duration = Duration::from_millis(300);

/// The fixture application.
#[derive(Debug, Default)]
pub(super) struct FixturePolicy {
    /// Without a `messageHandler`.
    ignores_messages: bool,
    /// Without a `validateRoomFn`.
    refuses_rooms: bool,
    engine: OnceLock<Arc<Engine>>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Value>,
    last_authenticating: Option<ClientId>,
}

impl FixturePolicy {
    /// The application without the callbacks of these names.
    ///
    /// # Panics
    /// When it cannot do without one of them.
    pub(super) fn without(callbacks: &[&str]) -> Self {
        let mut policy = Self::default();
        for name in callbacks {
            match *name {
                "messageHandler" => policy.ignores_messages = true,
                "validateRoomFn" => policy.refuses_rooms = true,
                other => panic!("the fixture application always has {other}"),
            }
        }
        policy
    }

    /// Gives it the server whose clients it answers; once.
    ///
    /// # Panics
    /// When it has one.
    pub(super) fn attach(&self, engine: Arc<Engine>) {
        assert!(self.engine.set(engine).is_ok(), "attached before");
    }

    /// What was asked so far, as the recordings' last note writes it.
    pub(super) fn asked(&self) -> Vec<Value> {
        self.log().entries.clone()
    }

    /// The client that tried to authenticate last: the one way to learn the id of one that is not authenticated.
    pub(super) fn last_authenticating(&self) -> Option<String> {
        self.log().last_authenticating.map(|id| id.to_string())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a callback about a client, with `more` at the end.
    fn note(&self, callback: &str, client: &Client, more: Option<(&str, Value)>) {
        let mut entry = Map::new();
        entry.insert("cb".to_owned(), callback.into());
        entry.insert("clientId".to_owned(), client.id.to_string().into());
        if let Some(user) = &client.identity.user {
            entry.insert("userId".to_owned(), parsed(user.as_json()));
        }
        if let Some((key, value)) = more {
            entry.insert(key.to_owned(), value);
        }
        self.log().entries.push(entry.into());
    }

    /// Says what a client is in.
    fn tell_membership(&self, id: ClientId) -> Answer<()> {
        let engine = self.engine.get().expect("attached before clients come").clone();
        Answer::later(async move {
            let Some(view) = engine.client(id).await else { return };
            let rooms: Vec<&str> = view.rooms.iter().map(AsRef::as_ref).collect();
            // Key by key, as the recorded application wrote them.
            let data = format!(r#"{{"rooms":{},"encrypted":false,"state":"authenticated"}}"#, json!(rooms));
            send(&engine, id, "rooms", &data);
        })
    }
}

impl Hooks for FixturePolicy {
    fn authenticate(&self, client: &Client, data: &str) -> Answer<AuthOutcome> {
        let data = parsed(data);
        {
            let mut log = self.log();
            log.entries.push(json!({"cb": "authenticate", "data": data}));
            log.last_authenticating = Some(client.id);
        }
        let user = match &data["userId"] {
            Value::Null => Some(UserId::from_text("u1")),
            id => UserId::from_json(&id.to_string()),
        };
        match data["token"].as_str() {
            Some("ok") => Answer::Now(accepted(user, true)),
            Some("anon") => Answer::Now(accepted(None, false)),
            Some("numid") => Answer::Now(accepted(UserId::from_json("42"), true)),
            Some("slow") => {
                let delay = Duration::from_millis(data["ms"].as_u64().unwrap_or(300));
                Answer::later(async move {
                    tokio::time::sleep(delay).await;
                    accepted(user, false)
                })
            }
            Some("hang") => Answer::later(std::future::pending()),
            Some("throw") => Answer::later(async { resume_unwind(Box::new("authenticate")) }),
            Some("syncthrow") => resume_unwind(Box::new("authenticate")),
            _ => Answer::Now(AuthOutcome::Refused(RefusalReason::CredentialsUnknown)),
        }
    }

    fn validate_rooms(&self, client: &Client, rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        if self.refuses_rooms {
            return Answer::Now(Some(Vec::new()));
        }
        self.note("validateRoom", client, Some(("rooms", json!(rooms))));
        let asks_for = |name: &str| rooms.iter().any(|room| room == name);
        if asks_for("syncthrow") {
            resume_unwind(Box::new("validateRoom"));
        }
        if asks_for("throw") {
            return Answer::later(async { resume_unwind(Box::new("validateRoom")) });
        }
        if asks_for("null") {
            return Answer::Now(Some(Vec::new()));
        }
        let injected = if asks_for("inject") {
            vec!["ws:internal:broadcast".to_owned(), "not-requested".to_owned(), "x".repeat(300)]
        } else {
            Vec::new()
        };
        let is_slow = asks_for("slow");
        let allowed = rooms.into_iter().filter(|room| !room.starts_with("deny"));
        let allowed = allowed.chain(injected).collect();
        if !is_slow {
            return Answer::Now(Some(allowed));
        }
        Answer::later(async {
            tokio::time::sleep(SLOW_ROOM).await;
            Some(allowed)
        })
    }

    fn wants_messages(&self) -> bool {
        !self.ignores_messages
    }

    fn message(&self, client: &Client, text: String) -> Answer<()> {
        let message = parsed(&text);
        let event = message["event"].as_str().map(str::to_owned);
        self.note("message", client, Some(("message", message)));
        match event.as_deref() {
            Some("syncthrow") => resume_unwind(Box::new("message")),
            Some("rooms") => self.tell_membership(client.id),
            // The recorded one called `enableClientEncryption`, which does nothing for a client without a key.
            Some("encrypt-me") => Answer::Now(()),
            _ => {
                let engine = self.engine.get().expect("attached before clients come");
                send(engine, client.id, "handled", &text);
                Answer::Now(())
            }
        }
    }

    fn wants_lifecycle(&self) -> bool {
        true
    }

    fn connected(&self, client: &Client) -> Answer<Result<(), ConnectedFailed>> {
        let context = client.identity.context.as_ref();
        let metadata = context.and_then(|context| context.downcast_ref::<Value>()).cloned();
        self.note("connected", client, metadata.map(|metadata| ("metadata", metadata)));
        match client.identity.user.as_ref().map(UserId::as_json) {
            Some("\"cc-syncthrow\"") => Answer::Now(Err(ConnectedFailed)),
            Some("\"cc-asyncthrow\"") => Answer::later(async { Err(ConnectedFailed) }),
            _ => Answer::Now(Ok(())),
        }
    }

    fn disconnected(&self, client: &Client) -> Answer<()> {
        self.note("disconnected", client, None);
        Answer::Now(())
    }
}

fn accepted(user: Option<UserId>, with_metadata: bool) -> AuthOutcome {
    let context = with_metadata.then(|| Arc::new(json!({"role": "tester"})) as _);
    AuthOutcome::Accepted(Identity { user, context, ..Identity::default() })
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("a hook was given {text:?}: {error}"))
}

fn send(engine: &Engine, id: ClientId, event: &str, data: &str) {
    let payload = Payload::new(event, Some(data)).expect("data is JSON");
    let to = Destination::Client(id.to_string().into());
    engine.emit_local(&Emit { to, payload, exclude: Vec::new() }).expect("an Ignis mount");
}
