//! Puts a shard's questions to the hooks: at once where they can answer at once, else on the `sc-auth` threads.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use shardcast_shard::event::AuthOutcome;
use shardcast_shard::{Ask, ClientRef, Mail, Question, ShardConfig, ShardId, Verdict};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::key_exchange;
use crate::audit::{Audit, Event, Kind, Rooms};
use crate::config;
use crate::hooks::{Answer, Client, Hooks};
use crate::mailbox::MailSender;
use crate::status::Status;

/// The reason in the audit log when a user has as many connections as one may.
const TOO_MANY_CONNECTIONS: &str = "too_many_connections";

/// The way to the `sc-auth` threads for what cannot be answered at once, with a bound on how much is in flight and
/// for how long.
#[derive(Clone, Debug)]
pub struct Later {
    threads: Handle,
    places: Arc<Semaphore>,
    timeout: Duration,
    status: Arc<Status>,
}

impl Later {
    /// A way for the hooks of the whole process, to the threads of a runtime.
    pub fn new(limits: &config::Limits, status: Arc<Status>, threads: Handle) -> Self {
        let places = Arc::new(Semaphore::new(limits.asks_in_flight_max));
        Self { threads, places, timeout: limits.hook_timeout, status }
    }

    /// A place for one more, unless there are too many.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.places.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.status.process.asks_refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Runs a hook's future and then `done`, with `None` when it panicked or took too long.
    fn run<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        future: impl Future<Output = T> + Send + 'static,
        done: impl FnOnce(Option<T>) + Send + 'static,
    ) {
        let (status, timeout) = (self.status.clone(), self.timeout);
        // Once the runtime stops the process is at its end, and so is whoever asked.
        self.threads.spawn(async move {
            let outcome = tokio::time::timeout(timeout, AssertUnwindSafe(future).catch_unwind()).await;
            drop(place);
            let failed = match outcome {
                Ok(Ok(value)) => return done(Some(value)),
                Ok(Err(_)) => &status.process.hooks_panicked,
                Err(_) => &status.process.hooks_timed_out,
            };
            failed.fetch_add(1, Ordering::Relaxed);
            done(None);
        });
    }
}

/// Asks for one shard.
pub(super) struct Asker {
    pub(super) shard: ShardId,
    /// Says which mounts encrypt.
    pub(super) config: Arc<ShardConfig>,
    pub(super) hooks: Arc<dyn Hooks>,
    pub(super) later: Later,
    /// Where late verdicts come home.
    pub(super) home: MailSender,
    pub(super) status: Arc<Status>,
    pub(super) audit: Audit,
}

impl Asker {
    /// Puts a question. A verdict that is there at once is returned; a late one arrives as mail.
    pub(super) fn put(&self, ask: Ask) -> Option<Verdict> {
        let Ask { conn, mount, client_id, address, identity, question } = ask;
        let at = ClientRef { shard: self.shard, conn };
        let client = Client { id: client_id, at, mount, address, identity };
        let hooks = &self.hooks;
        match question {
            Question::Authenticate { data } => {
                let answer = self.guard(|| hooks.authenticate(&client, &data));
                let encryption = key_exchange::settings(&self.config, mount);
                let answer = answer.map(|answer| key_exchange::after(answer, encryption, &data));
                let audit = self.audit.clone();
                self.settle(answer, AuthOutcome::Failed, move |outcome| {
                    record_refusal(&audit, &client, &outcome);
                    Verdict::Auth { conn, outcome }
                })
            }
            Question::ValidateRooms { rooms } => {
                let (asked, status) = (rooms.len(), self.status.clone());
                let asked_rooms = self.audit.wants(Kind::JoinRefused).then(|| rooms.clone());
                let answer = self.guard(|| hooks.validate_rooms(&client, rooms));
                let audit = self.audit.clone();
                self.settle(answer, None, move |rooms: Option<Vec<String>>| {
                    let refused = asked.saturating_sub(rooms.as_ref().map_or(0, Vec::len)) as u64;
                    status.process.joins_refused_policy.fetch_add(refused, Ordering::Relaxed);
                    // Nobody refused what could not be found out.
                    let Some(rooms) = rooms else { return Verdict::RoomsFailed { conn } };
                    if let Some(refused) = asked_rooms.and_then(|asked| Rooms::refused(&asked, &rooms)) {
                        let who = || audit.who(&client);
                        audit.record(Kind::JoinRefused, || Event::JoinRefused { who: who(), rooms: refused });
                    }
                    Verdict::Rooms { conn, rooms }
                })
            }
            Question::Connected => match self.guard(|| hooks.connected(&client)) {
                Some(Answer::Now(Ok(()))) => None,
                Some(Answer::Now(Err(_))) | None => Some(Verdict::ConnectedFailed { conn }),
                // An asynchronous failure comes after the fact and changes nothing (`ignis.md` §5).
                Some(Answer::Later(future)) => self.run(future.map(drop)),
            },
            Question::Message { text } => self.tell(self.guard(|| hooks.message(&client, text))),
            Question::Disconnected => self.tell(self.guard(|| hooks.disconnected(&client))),
        }
    }

    /// Records whether somebody whom the hooks let in found a place.
    pub(super) fn record_seating(&self, client: impl Fn() -> Client, is_seated: bool) {
        let who = || self.audit.who(&client());
        if is_seated {
            self.audit.record(Kind::AuthAccepted, || Event::AuthAccepted { who: who() });
        } else {
            let reason = TOO_MANY_CONNECTIONS;
            self.audit.record(Kind::AuthRefused, || Event::AuthRefused { who: who(), reason });
        }
    }

    /// Runs a hook; a panic is the application's fault and must not take the shard down.
    fn guard<T>(&self, hook: impl FnOnce() -> T) -> Option<T> {
        catch_unwind(AssertUnwindSafe(hook))
            .inspect_err(|_| {
                self.status.process.hooks_panicked.fetch_add(1, Ordering::Relaxed);
            })
            .ok()
    }

    /// Turns an answer into a verdict; `unanswered` stands in when the hook panicked, took too long or
    /// cannot be run.
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
                let Some(place) = self.later.place() else { return Some(verdict(unanswered)) };
                let home = self.home.clone();
                self.later.run(place, future, move |value| {
                    let verdict = verdict(value.unwrap_or(unanswered));
                    // A full mailbox counts the loss; the client's own timeout ends its wait.
                    let _posted = home.post(Mail::Verdict(Box::new(verdict)));
                });
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
        if let Some(place) = self.later.place() {
            self.later.run(place, future, |_| ());
        }
        None
    }
}

/// Records that the hooks did not let somebody in.
fn record_refusal(audit: &Audit, client: &Client, outcome: &AuthOutcome) {
    let reason = match outcome {
        AuthOutcome::Accepted(_) | AuthOutcome::Encrypted(..) => return,
        AuthOutcome::Refused(reason) => reason.name(),
        AuthOutcome::TooManyConnections => TOO_MANY_CONNECTIONS,
        AuthOutcome::Failed => "failed",
    };
    audit.record(Kind::AuthRefused, || Event::AuthRefused { who: audit.who(client), reason });
}
