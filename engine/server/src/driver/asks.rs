//! Puts a shard's questions to the hooks: at once where they can answer at once, else on the control thread.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use shardcast_shard::event::AuthOutcome;
use shardcast_shard::{Ask, ClientRef, ConnId, Identity, Mail, MountId, ShardId, Verdict};
use shardcast_wire::ignis::ClientId;
use tokio::sync::mpsc;

use crate::hooks::{Answer, Client, Hooks};
use crate::mailbox::MailSender;
use crate::status::Status;

/// A hook's answer in the making, with its way home.
pub type AskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Asks for one shard.
pub(super) struct Asker {
    pub(super) shard: ShardId,
    pub(super) hooks: Arc<dyn Hooks>,
    /// The control thread, which runs what cannot be answered at once.
    pub(super) later: mpsc::Sender<AskFuture>,
    /// Where late verdicts come home.
    pub(super) home: MailSender,
    pub(super) status: Arc<Status>,
}

impl Asker {
    /// Puts a question. A verdict that is there at once is returned; a late one arrives as mail.
    pub(super) fn put(&self, ask: Ask) -> Option<Verdict> {
        let hooks = &self.hooks;
        match ask {
            Ask::Authenticate { conn, mount, client_id, data } => {
                let client = self.client(conn, mount, client_id, Identity::default());
                let answer = self.guard(|| hooks.authenticate(&client, &data));
                let verdict = move |outcome| Verdict::Auth { conn, outcome };
                self.settle(answer, AuthOutcome::Failed, verdict)
            }
            Ask::ValidateRooms { conn, mount, client_id, identity, rooms } => {
                let client = self.client(conn, mount, client_id, identity);
                let answer = self.guard(|| hooks.validate_rooms(&client, rooms));
                self.settle(answer, Vec::new(), move |rooms| Verdict::Rooms { conn, rooms })
            }
            Ask::Connected { conn, mount, client_id, identity } => {
                let client = self.client(conn, mount, client_id, identity);
                match self.guard(|| hooks.connected(&client)) {
                    Some(Answer::Now(Ok(()))) => None,
                    Some(Answer::Now(Err(_))) | None => Some(Verdict::ConnectedFailed { conn }),
                    // An asynchronous failure comes after the fact and changes nothing (`ignis.md` §5).
                    Some(Answer::Later(future)) => self.run(future.map(drop)),
                }
            }
            Ask::Message { conn, mount, client_id, identity, text } => {
                let client = self.client(conn, mount, client_id, identity);
                self.tell(self.guard(|| hooks.message(&client, text)))
            }
            Ask::Disconnected { conn, mount, client_id, identity } => {
                let client = self.client(conn, mount, client_id, identity);
                self.tell(self.guard(|| hooks.disconnected(&client)))
            }
        }
    }

    fn client(&self, conn: ConnId, mount: MountId, id: ClientId, identity: Identity) -> Client {
        Client { id, at: ClientRef { shard: self.shard, conn }, mount, identity }
    }

    /// Runs a hook; a panic is the application's fault and must not take the shard down.
    fn guard<T>(&self, hook: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(hook))
            .inspect_err(|_| {
                self.status.process.hooks_panicked.fetch_add(1, Ordering::Relaxed);
            })
            .ok()
    }

    /// Turns an answer into a verdict; `unanswered` stands in when the hook panicked or cannot be run.
    fn settle<T: Send + Clone + 'static>(
        &self,
        answer: Option<Answer<T>>,
        unanswered: T,
        verdict: impl FnOnce(T) -> Verdict + Send + 'static,
    ) -> Option<Verdict> {
        match answer {
            Some(Answer::Now(value)) => Some(verdict(value)),
            None => Some(verdict(unanswered)),
            Some(Answer::Later(future)) => {
                let Some(place) = self.place() else { return Some(verdict(unanswered)) };
                let (home, status) = (self.home.clone(), self.status.clone());
                place.send(Box::pin(AssertUnwindSafe(future).catch_unwind().map(move |result| {
                    let value = result.unwrap_or_else(|_| {
                        status.process.hooks_panicked.fetch_add(1, Ordering::Relaxed);
                        unanswered
                    });
                    // A full mailbox counts the loss; the client's own timeout ends its wait.
                    let _posted = home.post(Mail::Verdict(Box::new(verdict(value))));
                })));
                None
            }
        }
    }

    fn tell(&self, answer: Option<Answer<()>>) -> Option<Verdict> {
        match answer {
            Some(Answer::Later(future)) => self.run(future),
            Some(Answer::Now(())) | None => None,
        }
    }

    /// Runs a future nobody waits for.
    fn run(&self, future: impl Future<Output = ()> + Send + 'static) -> Option<Verdict> {
        if let Some(place) = self.place() {
            let status = self.status.clone();
            place.send(Box::pin(AssertUnwindSafe(future).catch_unwind().map(move |result| {
                if result.is_err() {
                    status.process.hooks_panicked.fetch_add(1, Ordering::Relaxed);
                }
            })));
        }
        None
    }

    /// A place among the waiting questions, unless there are too many.
    fn place(&self) -> Option<mpsc::Permit<'_, AskFuture>> {
        let place = self.later.try_reserve().ok();
        if place.is_none() {
            self.status.process.asks_refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }
}
