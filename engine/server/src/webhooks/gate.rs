//! What stands before each kind of request: its breaker, its counters, and the log of its troubles.
//!
//! There is a gate for `authenticate`, for `rooms` and for events each, so that one that fails does not close the
//! others. The breaker counts only what says that the application is out of order. An answer that is wrong (a status
//! 500, no JSON) may be the doing of the one client it is about, who could keep everybody out if it counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::breaker::{Breaker, Change, Thresholds};
use super::figures::{Figures, GateFigures, Outcome};
use super::link::Terms;
use crate::outbound::post::{Failure, Reply};

/// Between two warnings of one gate about answers that are wrong.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// One kind of request.
#[derive(Debug)]
pub(super) struct Gate {
    name: &'static str,
    figures: Arc<Figures>,
    own: fn(&Figures) -> &GateFigures,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    warned: Option<Instant>,
}

/// The breaker is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// A request is under way until this is dropped, however it ends.
struct Underway<'a>(&'a AtomicU64);

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(
        name: &'static str,
        figures: Arc<Figures>,
        own: fn(&Figures) -> &GateFigures,
        thresholds: Thresholds,
    ) -> Self {
        let state = State { breaker: Breaker::new(thresholds), warned: None };
        Self { name, figures, own, state: Mutex::new(state) }
    }

    pub(super) fn figures(&self) -> &GateFigures {
        (self.own)(&self.figures)
    }

    pub(super) fn set(&self, thresholds: Thresholds) {
        self.with(|state| state.breaker.set(thresholds));
    }

    /// Sends a request unless the breaker is open. Failures are counted; what an answer says is counted by whoever
    /// reads it.
    pub(super) async fn post(
        &self,
        terms: &Terms,
        id: &str,
        body: Bytes,
    ) -> Result<Result<Reply, Outcome>, Closed> {
        let Some(pass) = self.with(|state| state.breaker.admit(Instant::now())) else {
            return Err(Closed);
        };
        let begun = Instant::now();
        self.figures().in_flight.fetch_add(1, Ordering::Relaxed);
        let underway = Underway(&self.figures().in_flight);
        let answer = terms.post(id, body).await;
        drop(underway);
        let ended = Instant::now();
        self.figures().add_time(ended - begun);
        let in_order = match &answer {
            Ok(reply) => !matches!(reply.status.as_u16(), 429 | 502 | 503 | 504),
            Err(Failure::TooBig(_)) => true,
            Err(Failure::Timeout(_) | Failure::Unreachable(_)) => false,
        };
        let change = self.with(|state| {
            let change = state.breaker.report(pass, ended, in_order);
            self.figures().breaker_open.store(state.breaker.is_open(), Ordering::Relaxed);
            change
        });
        self.log_change(change, terms, &answer);
        Ok(answer.map_err(|failure| {
            let outcome = match failure {
                Failure::Timeout(_) => Outcome::Timeout,
                Failure::TooBig(_) => Outcome::TooBig,
                Failure::Unreachable(_) => Outcome::Unreachable,
            };
            self.figures().count(outcome);
            self.warn(&failure);
            outcome
        }))
    }

    /// Counts what an answer says.
    pub(super) fn count(&self, outcome: Outcome) {
        self.figures().count(outcome);
    }

    /// Logs what is wrong with an answer, once in a while: who asks too often must not fill the log.
    pub(super) fn warn(&self, trouble: &dyn std::fmt::Display) {
        let now = Instant::now();
        let due = self.with(|state| {
            let due = state.warned.is_none_or(|last| now - last >= WARNING_INTERVAL);
            if due {
                state.warned = Some(now);
            }
            due
        });
        if due {
            tracing::warn!(
                hook = self.name,
                trouble = trouble.to_string(),
                "a webhook fails; more of the kind within a minute are only counted"
            );
        }
    }

    fn log_change(&self, change: Option<Change>, terms: &Terms, answer: &Result<Reply, Failure>) {
        match change {
            None => {}
            Some(Change::Closed) => tracing::info!(hook = self.name, "webhooks are answered again"),
            Some(Change::Opened) => {
                let trouble = match answer {
                    Ok(reply) => format!("status {}", reply.status.as_u16()),
                    Err(failure) => failure.to_string(),
                };
                let pause = terms.thresholds.pause;
                tracing::warn!(
                    hook = self.name,
                    ?pause,
                    trouble,
                    "the application is out of order; asking pauses"
                );
            }
        }
    }

    /// What is under the lock is whole at every moment, also after a panic.
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
