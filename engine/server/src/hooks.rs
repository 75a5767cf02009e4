//! Where an application plugs in: who may connect, which rooms it may join, what happens to its messages.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

pub use shardcast_shard::event::{AuthOutcome, RefusalReason};
pub use shardcast_shard::{ClientRef, Identity, MountId};
pub use shardcast_wire::ignis::{ClientId, Destination, Payload, UserId};

pub use crate::status::AuthStatus;
use crate::webhooks::figures::Figures;
use tokio::sync::watch;

/// Work beside the hooks, see [`Hooks::background`] and [`Hooks::worker`].
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A hook's answer: at once, or later.
pub enum Answer<T> {
    /// Known at once. The hook ran on the shard's own thread: it must not block or take longer than a few
    /// microseconds.
    Now(T),
    /// A future that runs on the `sc-auth` threads. Deliveries go on meanwhile; the client's later messages
    /// are handled before the answer.
    Later(Pin<Box<dyn Future<Output = T> + Send>>),
}

impl<T> Answer<T> {
    /// Boxes a future.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}

/// The connection a hook is asked about.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its id.
    pub id: ClientId,
    /// Where it is.
    pub at: ClientRef,
    /// The mount it came to.
    pub mount: MountId,
    /// Where it comes from.
    pub address: IpAddr,
    /// What [`Hooks::authenticate`] said; empty before.
    pub identity: Identity,
}

/// The hook for [`Hooks::connected`] refused: the client is told `Authentication error` and closed 4003.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connected hook failed")]
pub struct ConnectedFailed;

/// The application's decisions (`ignis.md` §3). A hook that panics counts as failed: authentication ends
/// with `Authentication error`, a join is ignored.
pub trait Hooks: Send + Sync + 'static {
    /// Who is this? `data` is the JSON text the client sent, `{}` when it sent none.
    fn authenticate(&self, client: &Client, data: &str) -> Answer<AuthOutcome>;

    /// Which rooms to join, exactly: the result may differ from `rooms`, which are sanitised. `None` when it cannot be
    /// found out: none is joined, and a topic client that was about to keep some under another token is closed, to come
    /// back.
    fn validate_rooms(&self, client: &Client, rooms: Vec<String>) -> Answer<Option<Vec<String>>>;

    /// Whether [`Hooks::message`] is to be called; asked once at start.
    fn wants_messages(&self) -> bool {
        false
    }

    /// A message that is not the protocol's own, as JSON text.
    fn message(&self, _client: &Client, _text: String) -> Answer<()> {
        Answer::Now(())
    }

    /// Whether [`Hooks::connected`] and [`Hooks::disconnected`] are to be called; asked once at start.
    fn wants_lifecycle(&self) -> bool {
        false
    }

    /// A client is authenticated and was told so.
    fn connected(&self, _client: &Client) -> Answer<Result<(), ConnectedFailed>> {
        Answer::Now(Ok(()))
    }

    /// A connection is gone, authenticated or not.
    fn disconnected(&self, _client: &Client) -> Answer<()> {
        Answer::Now(())
    }

    /// What is to run on the `sc-auth` threads for as long as the server does; asked once at start.
    fn background(&self) -> Option<Background> {
        None
    }

    /// What authentication counts, for the metrics; asked once at start.
    fn status(&self) -> Option<Arc<AuthStatus>> {
        None
    }

    /// What is to run on the thread `sc-hooks` (tokio, with time and I/O) and to end in order; asked once at start. It
    /// ends by itself soon after `stopped` turned true, which is after the last connection's
    /// [`Hooks::disconnected`]; the process waits for it.
    fn worker(&self, _stopped: watch::Receiver<bool>) -> Option<Background> {
        None
    }

    /// Counters for metrics and health, if these hooks ask an application over HTTP; asked once at start.
    fn webhooks(&self) -> Option<Arc<Figures>> {
        None
    }
}
