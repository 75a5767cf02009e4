//! A chat with authentication of its own: Shardcast as a library. `docs/hooks.md` walks through it.
//!
//! Run with `cargo run -p shardcast --example hooks`, then connect to `ws://127.0.0.1:8080/ws`:
//!
//! ```text
//! {"event":"authenticate","data":{"token":"s-alice"}}
//! {"event":"join","data":{"rooms":["team:red"]}}
//! {"event":"say","data":{"room":"team:red","text":"hello"}}
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use shardcast::config::Config;
use shardcast::engine::{Emit, Engine};
use shardcast::hooks::{Answer, Client, ConnectedFailed, Hooks};
use shardcast::logs;
use shardcast::threads::Server;
use shardcast_shard::Identity;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_wire::ignis::{Destination, Payload, UserId};
use tokio::signal::unix::{SignalKind, signal};

/// Who a session token stands for. Kept with the connection and handed to every later hook.
#[derive(Clone, Debug)]
struct Session {
    user: &'static str,
    team: &'static str,
}

/// Stands for a session store behind a network.
#[derive(Clone, Default)]
struct Sessions(Arc<BTreeMap<&'static str, Session>>);

impl Sessions {
    async fn find(&self, token: &str) -> Option<Session> {
        tokio::task::yield_now().await;
        self.0.get(token).cloned()
    }
}

#[derive(Deserialize)]
struct Credentials {
    token: String,
}

#[derive(Deserialize)]
struct Message {
    event: String,
    data: Say,
}

#[derive(Deserialize)]
struct Say {
    room: String,
    text: String,
}

/// The application.
struct Chat {
    sessions: Sessions,
    /// The server, once it runs: it wants the hooks first.
    engine: OnceLock<Arc<Engine>>,
}

impl Chat {
    fn session(client: &Client) -> Option<&Session> {
        client.identity.context.as_ref()?.downcast_ref()
    }

    fn may_use(session: &Session, room: &str) -> bool {
        room.strip_prefix("team:") == Some(session.team)
    }

    /// Passes what a client said to the others in the room; what is wrong with it is ignored.
    fn say(&self, client: &Client, text: &str) -> Option<()> {
        let Message { event, data: Say { room, text } } = serde_json::from_str(text).ok()?;
        let session = Self::session(client).filter(|session| Self::may_use(session, &room))?;
        if event != "say" {
            return None;
        }
        let data = serde_json::json!({"from": session.user, "text": text}).to_string();
        let payload = Payload::new("said", Some(&data)).ok()?;
        let exclude = vec![client.id.to_string()];
        let emit = Emit { to: Destination::Room(room.into()), payload, exclude };
        self.engine.get()?.emit(&emit).map(drop).ok()
    }
}

impl Hooks for Chat {
    fn authenticate(&self, _client: &Client, data: &str) -> Answer<AuthOutcome> {
        let Ok(Credentials { token }) = serde_json::from_str(data) else {
            return Answer::Now(AuthOutcome::Refused(RefusalReason::CredentialsMissing));
        };
        let sessions = self.sessions.clone();
        Answer::later(async move {
            match sessions.find(&token).await {
                Some(session) => AuthOutcome::Accepted(Identity {
                    user: Some(UserId::from_text(session.user)),
                    context: Some(Arc::new(session)),
                    ..Identity::default()
                }),
                None => AuthOutcome::Refused(RefusalReason::CredentialsUnknown),
            }
        })
    }

    fn validate_rooms(&self, client: &Client, mut rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        let session = Self::session(client);
        rooms.retain(|room| session.is_some_and(|session| Self::may_use(session, room)));
        Answer::Now(Some(rooms))
    }

    fn wants_messages(&self) -> bool {
        true
    }

    fn message(&self, client: &Client, text: String) -> Answer<()> {
        if self.say(client, &text).is_none() {
            tracing::debug!(client = %client.id, "ignored a message");
        }
        Answer::Now(())
    }

    fn wants_lifecycle(&self) -> bool {
        true
    }

    fn connected(&self, client: &Client) -> Answer<Result<(), ConnectedFailed>> {
        tracing::info!(client = %client.id, user = ?client.identity.user, "connected");
        Answer::Now(Ok(()))
    }

    fn disconnected(&self, client: &Client) -> Answer<()> {
        tracing::info!(client = %client.id, user = ?client.identity.user, "disconnected");
        Answer::Now(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::default();
    logs::init(&config.server);
    let sessions = [
        ("s-alice", Session { user: "alice", team: "red" }),
        ("s-bob", Session { user: "bob", team: "red" }),
    ];
    let chat =
        Arc::new(Chat { sessions: Sessions(Arc::new(BTreeMap::from(sessions))), engine: OnceLock::new() });
    let server = Server::start(&config, chat.clone())?;
    chat.engine.get_or_init(|| server.engine().clone());
    tracing::info!(addresses = ?server.addresses(), "up");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        signal(SignalKind::interrupt())?.recv().await;
        std::io::Result::Ok(())
    })?;
    server.drain();
    server.join();
    Ok(())
}
