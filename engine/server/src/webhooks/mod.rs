//! Webhooks: an application is asked and told over HTTP who may connect, which rooms a client may join, and what
//! happens (`docs/webhooks.md`).
//!
//! What it is asked it decides alone; everything else the [`Policy`] decides. It fails closed: whatever is not an
//! answer lets nobody in. Requests are sent by the thread `sc-hooks`, so that an application that hangs delays neither
//! the API nor other checks.
//!
//! ```text
//!  shards ── authenticate ─> queue ─> gate ─┐
//!         ── rooms ────────> queue ─> gate ─┼─> link ─> the application
//!         ── events ───────> 4 lanes ─> gate┘
//! ```

pub mod body;
mod breaker;
mod events;
pub mod figures;
mod gate;
pub(crate) mod link;
mod questions;
pub mod sign;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use shardcast_shard::event::{AuthOutcome, RefusalReason};
use tokio::sync::{mpsc, watch};

use crate::auth::Principal;
use crate::config::{self, Config, HttpUrl, WebhookHook};
use crate::hooks::{Answer, AuthStatus, Background, Client, ConnectedFailed, Hooks};
use crate::outbound::post::{OutboundError, Reply};
use crate::policy::Policy;
use crate::wall_clock::now_unix_ms;
use events::Events;
use figures::{EventKind, Figures, Outcome};
use gate::Gate;
use link::{Link, Terms, new_id};
use questions::{Job, Question, Questions};

/// The hooks of the binary when an application is to be asked or told.
pub struct Webhooks {
    policy: Arc<Policy>,
    asked: Vec<WebhookHook>,
    /// Paths of the mounts, by number.
    mounts: Vec<String>,
    room_name_bytes_max: usize,
    rooms_per_connection_max: usize,
    concurrency_max: usize,
    link: Arc<Link>,
    gates: Gates,
    authenticate: Questions,
    rooms: Questions,
    events: Events,
    figures: Arc<Figures>,
    /// The other ends of the queues, until the worker takes them.
    waiting: Mutex<Option<Waiting>>,
}

struct Gates {
    authenticate: Arc<Gate>,
    rooms: Arc<Gate>,
    events: Arc<Gate>,
}

struct Waiting {
    authenticate: mpsc::Receiver<Job>,
    rooms: mpsc::Receiver<Job>,
    events: Vec<mpsc::Receiver<events::Event>>,
}

impl Webhooks {
    /// Of a configuration; `None` when it lists no hooks. What it does not list, `policy` decides.
    ///
    /// # Errors
    /// When no client for HTTPS can be made.
    pub fn new(config: &Config, policy: Arc<Policy>) -> Result<Option<Self>, OutboundError> {
        let webhooks = &config.webhooks;
        let Some(url) = webhooks.url.clone().filter(|_| !webhooks.hooks.is_empty()) else { return Ok(None) };
        let terms = terms(webhooks, url)?;
        let figures = Arc::new(Figures::default());
        let gate = |name, own| Arc::new(Gate::new(name, figures.clone(), own, terms.thresholds));
        let gates = Gates {
            authenticate: gate("authenticate", |figures| &figures.authenticate),
            rooms: gate("rooms", |figures| &figures.rooms),
            events: gate("events", |figures| &figures.events),
        };
        let (authenticate, authenticate_waiting) =
            Questions::new(gates.authenticate.clone(), webhooks.waiting_max, webhooks.waiting_bytes_max);
        let (rooms, rooms_waiting) =
            Questions::new(gates.rooms.clone(), webhooks.waiting_max, webhooks.waiting_bytes_max);
        let (events, events_waiting) =
            Events::new(figures.clone(), webhooks.events_waiting_max, webhooks.events_waiting_bytes_max);
        let waiting =
            Waiting { authenticate: authenticate_waiting, rooms: rooms_waiting, events: events_waiting };
        Ok(Some(Self {
            policy,
            asked: webhooks.hooks.clone(),
            mounts: config.mounts.iter().map(|mount| mount.path.clone()).collect(),
            room_name_bytes_max: config.limits.room_name_bytes_max,
            rooms_per_connection_max: config.limits.rooms_per_connection_max,
            concurrency_max: webhooks.concurrency_max,
            link: Arc::new(Link::new(terms)),
            gates,
            authenticate,
            rooms,
            events,
            figures,
            waiting: Mutex::new(Some(waiting)),
        }))
    }

    /// Makes ready what a reloaded configuration changes, and changes nothing. Which hooks are listed, and the sizes
    /// of the queues, need a restart.
    ///
    /// # Errors
    /// When no client for HTTPS can be made.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Option<Terms>, OutboundError> {
        config.webhooks.url.clone().map(|url| terms(&config.webhooks, url)).transpose()
    }

    /// Applies what was made ready to requests that begin from here on.
    pub(crate) fn apply(&self, terms: Terms) {
        for gate in [&self.gates.authenticate, &self.gates.rooms, &self.gates.events] {
            gate.set(terms.thresholds);
        }
        self.link.set(terms);
    }

    /// Its counters.
    pub fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    fn asks(&self, hook: WebhookHook) -> bool {
        self.asked.contains(&hook)
    }

    fn mount(&self, client: &Client) -> &str {
        self.mounts.get(usize::from(client.mount.0)).map_or("", String::as_str)
    }

    fn tell(&self, client: &Client, kind: EventKind, text: Option<&str>) {
        let json = body::event(kind, now_unix_ms(), self.mount(client), client, text);
        self.events.tell(client.id, kind, json);
    }
}

fn terms(webhooks: &config::Webhooks, url: HttpUrl) -> Result<Terms, OutboundError> {
    Terms::new(webhooks, url, 2 * webhooks.concurrency_max + events::LANES)
}

/// What the answer to `authenticate` comes to.
fn authenticated(gate: &Gate, policy: &Policy, client: &Client, reply: &Reply) -> (Outcome, AuthOutcome) {
    match body::read_authenticate(reply, now_unix_ms()) {
        Ok(Some(principal)) => (Outcome::Accepted, policy.outcome(client, Ok(Arc::new(principal)))),
        Ok(None) => (Outcome::Refused, policy.outcome(client, Err(RefusalReason::WebhookRefused))),
        Err(error) => {
            gate.warn(&error.logged());
            (error.outcome(), AuthOutcome::Failed)
        }
    }
}

fn granted(
    gate: &Gate,
    figures: &Figures,
    reply: &Reply,
    asked: Vec<String>,
) -> (Outcome, Option<Vec<String>>) {
    match body::read_rooms(reply, asked) {
        Ok(grant) => {
            figures.rooms_ignored.fetch_add(grant.ignored, Ordering::Relaxed);
            (if grant.refused { Outcome::Refused } else { Outcome::Accepted }, Some(grant.rooms))
        }
        Err(error) => {
            gate.warn(&error.logged());
            (error.outcome(), None)
        }
    }
}

impl Hooks for Webhooks {
    fn authenticate(&self, client: &Client, data: &str) -> Answer<AuthOutcome> {
        if !self.asks(WebhookHook::Authenticate) {
            return self.policy.authenticate(client, data);
        }
        let id = new_id();
        let body = body::authenticate(&id, now_unix_ms(), self.mount(client), client, data);
        let (gate, policy, client) = (self.gates.authenticate.clone(), self.policy.clone(), client.clone());
        let read = move |reply: &Reply| authenticated(&gate, &policy, &client, reply);
        self.authenticate.ask(Question { id, body, more_bytes: 0 }, AuthOutcome::Failed, read)
    }

    fn validate_rooms(&self, client: &Client, mut rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        if !self.asks(WebhookHook::Rooms) {
            return self.policy.validate_rooms(client, rooms);
        }
        // A connection can be in no more.
        rooms.truncate(self.rooms_per_connection_max);
        rooms.retain(|room| room.len() <= self.room_name_bytes_max);
        if rooms.is_empty() {
            return Answer::Now(Some(rooms));
        }
        let id = new_id();
        let body = body::rooms(&id, now_unix_ms(), self.mount(client), client, &rooms);
        let (gate, figures) = (self.gates.rooms.clone(), self.figures.clone());
        let more_bytes = rooms.iter().map(|room| size_of::<String>() + room.capacity()).sum();
        let question = Question { id, body, more_bytes };
        self.rooms.ask(question, None, move |reply| granted(&gate, &figures, reply, rooms))
    }

    fn wants_messages(&self) -> bool {
        self.asks(WebhookHook::Message)
    }

    fn message(&self, client: &Client, text: String) -> Answer<()> {
        self.tell(client, EventKind::Message, Some(&text));
        Answer::Now(())
    }

    fn wants_lifecycle(&self) -> bool {
        self.asks(WebhookHook::Connected) || self.asks(WebhookHook::Disconnected)
    }

    fn connected(&self, client: &Client) -> Answer<Result<(), ConnectedFailed>> {
        if self.asks(WebhookHook::Connected) {
            self.tell(client, EventKind::Connected, None);
        }
        Answer::Now(Ok(()))
    }

    fn disconnected(&self, client: &Client) -> Answer<()> {
        // Whoever never got in is not told of either, so that a storm of strangers cannot push events out.
        if self.asks(WebhookHook::Disconnected) && Principal::of(&client.identity).is_some() {
            self.tell(client, EventKind::Disconnected, None);
        }
        Answer::Now(())
    }

    fn worker(&self, stopped: watch::Receiver<bool>) -> Option<Background> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let ask = |gate: &Arc<Gate>, waiting| {
            questions::run(gate.clone(), self.link.clone(), waiting, self.concurrency_max)
        };
        let authenticate = ask(&self.gates.authenticate, waiting.authenticate);
        let rooms = ask(&self.gates.rooms, waiting.rooms);
        let (gate, link, figures) = (self.gates.events.clone(), self.link.clone(), self.figures.clone());
        Some(Box::pin(async move {
            tokio::spawn(authenticate);
            tokio::spawn(rooms);
            events::run(gate, link, figures, waiting.events, stopped).await;
        }))
    }

    fn background(&self) -> Option<Background> {
        self.policy.background()
    }

    fn status(&self) -> Option<Arc<AuthStatus>> {
        self.policy.status()
    }

    fn webhooks(&self) -> Option<Arc<Figures>> {
        Some(self.figures.clone())
    }
}
