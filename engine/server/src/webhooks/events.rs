//! Events for the application: told in order for each connection, at least once or counted as lost.
//!
//! A connection's events go through one of a few lanes, by its id. A lane sends what waits in it as one request, and
//! the next one only when that was taken or given up; so events wait for each other, never for a clock. All lanes
//! together hold a bounded number of events and bytes, also while the application is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use shardcast_wire::ignis::ClientId;
use tokio::sync::{mpsc, watch};

use super::body;
use super::figures::{EventKind, Figures, Outcome, Told};
use super::gate::Gate;
use super::link::{Link, new_id};
use crate::backoff::Backoff;
use crate::wall_clock::now_unix_ms;

/// Requests with events at once.
pub(super) const LANES: usize = 4;

/// A request is closed to further events once it has this many bytes.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Longest pause between two repetitions; pauses double up to it, with jitter.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How often a lane looks whether the breaker lets it try again.
const BREAKER_POLL: Duration = Duration::from_millis(100);

/// How long what waits may take to be told once the last connection is gone.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// An event that waits.
#[derive(Debug)]
pub(super) struct Event {
    kind: EventKind,
    json: String,
}

/// The telling side, used by shards.
#[derive(Debug)]
pub(super) struct Events {
    lanes: Vec<mpsc::Sender<Event>>,
    bytes_max: usize,
    figures: Arc<Figures>,
}

impl Events {
    /// With room for `events_max` events of `bytes_max` bytes together; the other sides are for [`run`].
    pub(super) fn new(
        figures: Arc<Figures>,
        events_max: usize,
        bytes_max: usize,
    ) -> (Self, Vec<mpsc::Receiver<Event>>) {
        let lane = |_| mpsc::channel(events_max / LANES);
        let (lanes, waiting) = (0..LANES).map(lane).unzip();
        (Self { lanes, bytes_max, figures }, waiting)
    }

    /// Queues an event, or counts it as lost. Never blocks.
    pub(super) fn tell(&self, id: ClientId, kind: EventKind, json: String) {
        let bytes = json.len();
        let waiting_bytes = &self.figures.events_waiting_bytes;
        let before = waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Ids are random, also in their first byte.
        let lane = &self.lanes[usize::from(id.as_bytes()[0]) % LANES];
        self.figures.events_waiting.fetch_add(1, Ordering::Relaxed);
        if before + bytes > self.bytes_max || lane.try_send(Event { kind, json }).is_err() {
            waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.figures.events_waiting.fetch_sub(1, Ordering::Relaxed);
            self.figures.count_told(kind, Told::QueueFull);
        }
    }
}

/// Tells what waits until `stopped`, and what is left then for a short while.
pub(super) async fn run(
    gate: Arc<Gate>,
    link: Arc<Link>,
    figures: Arc<Figures>,
    waiting: Vec<mpsc::Receiver<Event>>,
    mut stopped: watch::Receiver<bool>,
) {
    let lane = |waiting| Lane {
        gate: gate.clone(),
        link: link.clone(),
        figures: figures.clone(),
        waiting,
        stopped: stopped.clone(),
    };
    let lanes: Vec<Lane> = waiting.into_iter().map(lane).collect();
    let mut lanes = std::pin::pin!(join_all(lanes.into_iter().map(Lane::run)));
    tokio::select! {
        _ = &mut lanes => return,
        // An error says that whoever stops is gone.
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    if tokio::time::timeout(FLUSH_TIME, lanes).await.is_err() {
        let left = figures.events_waiting.load(Ordering::Relaxed);
        tracing::warn!(left, "events for webhooks were not told before the end");
    }
}

/// One request after the other.
struct Lane {
    gate: Arc<Gate>,
    link: Arc<Link>,
    figures: Arc<Figures>,
    waiting: mpsc::Receiver<Event>,
    stopped: watch::Receiver<bool>,
}

/// What a try came to.
enum Tried {
    Over(Told),
    /// The application is out of order, so it was not tried.
    Waits,
    /// It may succeed when repeated.
    Failed,
}

impl Lane {
    async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        loop {
            let first = tokio::select! {
                first = self.waiting.recv() => first,
                _ = stopped.wait_for(|stopped| *stopped), if !self.waiting.is_closed() => {
                    // What is queued still comes out.
                    self.waiting.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            let batch = self.fill(first);
            let told = self.deliver(&batch).await;
            for event in batch {
                self.figures.count_told(event.kind, told);
                self.figures.events_waiting.fetch_sub(1, Ordering::Relaxed);
                self.figures.events_waiting_bytes.fetch_sub(event.json.len(), Ordering::Relaxed);
            }
        }
    }

    /// What waits already goes with the first.
    fn fill(&mut self, first: Event) -> Vec<Event> {
        let events_max = self.link.terms().batch_max;
        let mut bytes = first.json.len();
        let mut batch = vec![first];
        while batch.len() < events_max && bytes < BATCH_BYTES_MAX {
            let Ok(event) = self.waiting.try_recv() else { break };
            bytes += event.json.len();
            batch.push(event);
        }
        batch
    }

    async fn deliver(&self, batch: &[Event]) -> Told {
        let id = new_id();
        let unix_ms = now_unix_ms();
        let body = Bytes::from(body::events(&id, unix_ms, batch.iter().map(|event| event.json.as_str())));
        let mut backoff = Backoff::new(RETRY_PAUSE_MAX);
        let mut failed = 0;
        loop {
            match self.attempt(&id, body.clone()).await {
                Tried::Over(told) => return told,
                Tried::Waits => tokio::time::sleep(BREAKER_POLL).await,
                Tried::Failed => {
                    failed += 1;
                    if failed > self.link.terms().retries {
                        return Told::GaveUp;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn attempt(&self, id: &str, body: Bytes) -> Tried {
        let terms = self.link.terms();
        let reply = match self.gate.post(&terms, id, body).await {
            Err(_) => return Tried::Waits,
            Ok(Err(_)) => return Tried::Failed,
            Ok(Ok(reply)) => reply,
        };
        let status = reply.status;
        let (outcome, tried) = match status.as_u16() {
            200..=299 => (Outcome::Accepted, Tried::Over(Told::Delivered)),
            408 | 425 | 429 => (Outcome::BadStatus, Tried::Failed),
            400..=499 => (Outcome::Refused, Tried::Over(Told::Rejected)),
            _ => (Outcome::BadStatus, Tried::Failed),
        };
        self.gate.count(outcome);
        if outcome != Outcome::Accepted {
            self.gate.warn(&format_args!("status {}", status.as_u16()));
        }
        tried
    }
}
