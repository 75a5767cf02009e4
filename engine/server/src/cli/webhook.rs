//! `shardcast test-webhook`: sends one request as the server would, and shows what the answer comes to.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::json;
use shardcast_shard::{ClientRef, ConnId, Identity, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

use super::terminal::print;
use crate::config::Config;
use crate::hooks::Client;
use crate::outbound::post::{Failure, OutboundError, Reply};
use crate::wall_clock::now_unix_ms;
use crate::webhooks::body::{self, BadAnswer};
use crate::webhooks::figures::EventKind;
use crate::webhooks::link::{Terms, new_id};

/// What it does, for its help.
pub(super) const LONG_ABOUT: &str = "\
Send the application one request as the server would, signed, and show what its answer comes to.

Address, keys and timeout are those of [webhooks]. The request is about a made-up client with the address 127.0.0.1.";

/// How it is used, for its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  shardcast test-webhook authenticate '{\"token\":\"abc\"}'
  shardcast test-webhook rooms --user u1 chat team:red
  shardcast test-webhook event
  SHARDCAST_WEBHOOKS_SECRET=whsec_... shardcast --set webhooks.url=http://127.0.0.1:3000/hook test-webhook event";

/// Bytes of an answer that are shown.
const SHOWN_BYTES_MAX: usize = 1_000;

/// Arguments of `test-webhook`.
#[derive(Args)]
pub struct TestWebhookArgs {
    /// What is asked or told.
    #[command(subcommand)]
    pub what: TestWebhook,
}

/// What is asked or told.
#[derive(Subcommand)]
pub enum TestWebhook {
    /// Ask who a client is
    Authenticate {
        /// The data of the client's message, as JSON
        data: String,
    },
    /// Ask which rooms a client may join
    Rooms {
        /// Names of the rooms
        #[arg(required = true)]
        rooms: Vec<String>,
        /// The client's user
        #[arg(long)]
        user: Option<String>,
    },
    /// Tell of a client that connected and one that said hello
    Event {
        /// The client's user
        #[arg(long)]
        user: Option<String>,
    },
}

/// A test that did not end with an answer.
#[derive(Debug, thiserror::Error)]
pub enum TestWebhookError {
    /// Nothing to send to.
    #[error("webhooks.url and webhooks.secret must be set")]
    Unset,
    /// The data is not JSON.
    #[error("the data is not JSON; a string needs its quotes, as in '\"text\"'")]
    Data(#[source] serde_json::Error),
    /// No certificates.
    #[error(transparent)]
    Client(#[from] OutboundError),
    /// The kernel gives no event loop.
    #[error("cannot start an event loop")]
    Runtime(#[source] io::Error),
    /// No answer.
    #[error("the server would fail the client: {0}")]
    Unanswered(Failure),
    /// An answer that is none.
    #[error("the server would fail the client")]
    Bad(#[from] BadAnswer),
    /// Events that were not taken.
    #[error("the server would repeat or drop the events: status {0}, and 2xx is expected")]
    Untaken(u16),
    /// Standard output does not take the result.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
}

impl TestWebhookError {
    /// Whether the command line or the configuration is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Unset | Self::Data(_))
    }
}

/// Sends what `args` say and prints request, answer and meaning.
pub fn run(args: TestWebhookArgs, config: &Config) -> Result<(), TestWebhookError> {
    let url = config.webhooks.url.clone().filter(|_| !config.webhooks.secret.is_empty());
    let url = url.ok_or(TestWebhookError::Unset)?;
    let (id, unix_ms) = (new_id(), now_unix_ms());
    let request =
        request(&args.what, &id, unix_ms, config.mounts.first().map_or("/ws", |mount| &mount.path))?;
    print(&format!("POST {url}\nwebhook-id: {id}\n{request}\n\n"))?;

    let terms = Terms::new(&config.webhooks, url, 1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let begun = Instant::now();
    let answer = runtime.map_err(TestWebhookError::Runtime)?.block_on(terms.post(&id, Bytes::from(request)));
    let reply = answer.map_err(TestWebhookError::Unanswered)?;
    let body = String::from_utf8_lossy(&reply.body[..reply.body.len().min(SHOWN_BYTES_MAX)]).into_owned();
    show(&format!("status {} after {} ms\n{body}\n\n", reply.status.as_u16(), begun.elapsed().as_millis()))?;
    show(&meaning(args.what, &reply, unix_ms)?)?;
    Ok(())
}

/// Prints what came from outside, which must not command the terminal.
fn show(text: &str) -> io::Result<()> {
    print(&text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}"))
}

fn request(what: &TestWebhook, id: &str, unix_ms: u64, mount: &str) -> Result<String, TestWebhookError> {
    Ok(match what {
        TestWebhook::Authenticate { data } => {
            let data: serde_json::Value = serde_json::from_str(data).map_err(TestWebhookError::Data)?;
            body::authenticate(id, unix_ms, mount, &client(None), &data.to_string())
        }
        TestWebhook::Rooms { rooms, user } => {
            body::rooms(id, unix_ms, mount, &client(user.as_deref()), rooms)
        }
        TestWebhook::Event { user } => {
            let client = client(user.as_deref());
            let hello = json!({"event": "hello", "data": {"text": "hi"}}).to_string();
            let events = [
                body::event(EventKind::Connected, unix_ms, mount, &client, None),
                body::event(EventKind::Message, unix_ms, mount, &client, Some(&hello)),
            ];
            body::events(id, unix_ms, events.iter().map(String::as_str))
        }
    })
}

/// A client that is nowhere.
fn client(user: Option<&str>) -> Client {
    Client {
        id: ClientId::from_random(*uuid::Uuid::new_v4().as_bytes()),
        at: ClientRef { shard: ShardId(0), conn: ConnId { slot: 0, generation: 0 } },
        mount: MountId(0),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        identity: Identity { user: user.map(UserId::from_text), ..Identity::default() },
    }
}

fn meaning(what: TestWebhook, reply: &Reply, unix_ms: u64) -> Result<String, TestWebhookError> {
    Ok(match what {
        TestWebhook::Authenticate { .. } => match body::read_authenticate(reply, unix_ms)? {
            None => "refused: the client would get \"Authentication failed\"\n".to_owned(),
            Some(who) => format!(
                "accepted: user {}, tenant {}, roles {:?}, rooms {:?}, expires {}\n",
                who.user.as_ref().map_or("none", UserId::as_json),
                who.tenant.as_deref().unwrap_or("none"),
                who.roles,
                who.rooms.iter().map(ToString::to_string).collect::<Vec<_>>(),
                who.expires_unix_ms.map_or_else(|| "never".to_owned(), shardcast_wire::date::iso_ms),
            ),
        },
        TestWebhook::Rooms { rooms, .. } => {
            let grant = body::read_rooms(reply, rooms)?;
            format!("the client would join {:?}; {} other room(s) ignored\n", grant.rooms, grant.ignored)
        }
        TestWebhook::Event { .. } if reply.status.is_success() => "taken\n".to_owned(),
        TestWebhook::Event { .. } => return Err(TestWebhookError::Untaken(reply.status.as_u16())),
    })
}
