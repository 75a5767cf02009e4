//! Questions of one kind: a bounded queue, a bounded number of requests at once, and each asked once at most.
//!
//! A question ends in at most twice `timeout`: it waits for its turn for one, and its request takes one. Whatever
//! happens to it, whoever asked gets an answer: a question that is dropped has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::figures::{Outcome, Unasked};
use super::gate::Gate;
use super::link::Link;
use crate::hooks::Answer;
use crate::outbound::post::Reply;

/// Reads an answer, sends what it comes to home, and says how it is counted.
type Settle = Box<dyn FnOnce(&Reply) -> Outcome + Send>;

/// A question that waits.
pub(super) struct Job {
    id: String,
    body: Bytes,
    asked: Instant,
    settle: Settle,
    /// What it adds to the bytes that wait, until this is dropped.
    held: Held,
}

/// Bytes that wait.
struct Held {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Adds `bytes` to all that wait, unless they would become more than `bytes_max`.
    fn take(all: &Arc<AtomicUsize>, bytes: usize, bytes_max: usize) -> Option<Self> {
        let held = Self { all: all.clone(), bytes };
        let before = all.fetch_add(bytes, Ordering::Relaxed);
        (before.saturating_add(bytes) <= bytes_max).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What is asked.
pub(super) struct Question {
    /// The `webhook-id`.
    pub(super) id: String,
    /// The request.
    pub(super) body: String,
    /// Bytes of memory that reading its answer needs beside.
    pub(super) more_bytes: usize,
}

/// The asking side, used by shards.
pub(super) struct Questions {
    gate: Arc<Gate>,
    jobs: mpsc::Sender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    waiting_bytes_max: usize,
}

impl Questions {
    /// With room for `waiting_max` questions of `waiting_bytes_max` bytes together; the other side is for [`run`].
    pub(super) fn new(
        gate: Arc<Gate>,
        waiting_max: usize,
        waiting_bytes_max: usize,
    ) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(waiting_max);
        (Self { gate, jobs, waiting_bytes: Arc::default(), waiting_bytes_max }, waiting)
    }

    /// Puts a question. `read` makes of the answer what it comes to; `failed` is what anything else comes to.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: Question,
        failed: T,
        read: impl FnOnce(&Reply) -> (Outcome, T) + Send + 'static,
    ) -> Answer<T> {
        let Question { id, body, more_bytes } = question;
        let Some(held) = Held::take(&self.waiting_bytes, body.len() + more_bytes, self.waiting_bytes_max)
        else {
            self.gate.figures().count_unasked(Unasked::QueueFull);
            return Answer::Now(failed);
        };
        let (home, answer) = oneshot::channel();
        let settle = Box::new(move |reply: &Reply| {
            let (outcome, value) = read(reply);
            // Whoever asked may have given up.
            drop(home.send(value));
            outcome
        });
        let waiting = &self.gate.figures().waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(Job { id, body: body.into(), asked: Instant::now(), settle, held }) {
            Ok(()) => Answer::later(async move { answer.await.unwrap_or(failed) }),
            Err(_) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                self.gate.figures().count_unasked(Unasked::QueueFull);
                Answer::Now(failed)
            }
        }
    }
}

/// Asks what waits, `concurrency_max` at once, until the asking side is gone.
pub(super) async fn run(
    gate: Arc<Gate>,
    link: Arc<Link>,
    mut waiting: mpsc::Receiver<Job>,
    concurrency_max: usize,
) {
    let places = Arc::new(Semaphore::new(concurrency_max));
    while let Some(Job { id, body, asked, settle, held }) = waiting.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        gate.figures().waiting.fetch_sub(1, Ordering::Relaxed);
        drop(held);
        let terms = link.terms();
        if asked.elapsed() > terms.bounds.time {
            gate.figures().count_unasked(Unasked::Overdue);
            continue;
        }
        let gate = gate.clone();
        tokio::spawn(async move {
            match gate.post(&terms, &id, body).await {
                Ok(Ok(reply)) => gate.count(settle(&reply)),
                // Counted as what it was.
                Ok(Err(_)) => {}
                Err(_) => gate.figures().count_unasked(Unasked::BreakerOpen),
            }
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_wait_are_bounded_and_given_back() {
        let all = Arc::<AtomicUsize>::default();
        let first = Held::take(&all, 60, 100);
        assert!(first.is_some());
        assert!(Held::take(&all, 41, 100).is_none());
        assert!(Held::take(&all, usize::MAX, 100).is_none());
        let second = Held::take(&all, 40, 100);
        assert!(second.is_some());
        drop((first, second));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }
}
