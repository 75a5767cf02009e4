//! Questions of one kind: a bounded queue, a bounded number of requests at once, and each asked once at most.
//!
//! A question ends in at most twice `timeout`: it waits for its turn for one, and its request takes one. Whatever
//! happens to it, whoever asked gets an answer: a question that is dropped has failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
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
}

/// The asking side, used by shards.
pub(super) struct Questions {
    gate: Arc<Gate>,
    jobs: mpsc::Sender<Job>,
}

impl Questions {
    /// With room for `waiting_max`; the other side is for [`run`].
    pub(super) fn new(gate: Arc<Gate>, waiting_max: usize) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, waiting) = mpsc::channel(waiting_max);
        (Self { gate, jobs }, waiting)
    }

    /// Puts a question. `read` makes of the answer what it comes to; `failed` is what anything else comes to.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        (id, body): (String, String),
        failed: T,
        read: impl FnOnce(&Reply) -> (Outcome, T) + Send + 'static,
    ) -> Answer<T> {
        let (home, answer) = oneshot::channel();
        let settle = Box::new(move |reply: &Reply| {
            let (outcome, value) = read(reply);
            // Whoever asked may have given up.
            drop(home.send(value));
            outcome
        });
        let waiting = &self.gate.figures().waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        match self.jobs.try_send(Job { id, body: body.into(), asked: Instant::now(), settle }) {
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
    while let Some(job) = waiting.recv().await {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        gate.figures().waiting.fetch_sub(1, Ordering::Relaxed);
        let terms = link.terms();
        if job.asked.elapsed() > terms.bounds.time {
            gate.figures().count_unasked(Unasked::Overdue);
            continue;
        }
        let gate = gate.clone();
        tokio::spawn(async move {
            match gate.post(&terms, &job.id, job.body).await {
                Ok(Ok(reply)) => gate.count((job.settle)(&reply)),
                // Counted as what it was.
                Ok(Err(_)) => {}
                Err(_) => gate.figures().count_unasked(Unasked::BreakerOpen),
            }
            drop(place);
        });
    }
}
