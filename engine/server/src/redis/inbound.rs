//! What happens to one message from Redis: read once, encoded once, handed to the shards concerned.
//!
//! Whoever reaches Redis can publish anything here, so a message is never more than data, and none of them may end
//! the loop: not by its bytes, its size or a mistake of ours that it brings to light. Work is bounded by the size,
//! which [`envelope::Limits`] bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardcast_shard::MountId;
use shardcast_wire::ignis::envelope::{self, Destination, EnvelopeError};
use shardcast_wire::ignis::{ClientId, Scratch, UserId};

use crate::router::{Batch, Publication, Router, Target};
use crate::status::Status;

/// Between two lines about bad messages; whoever publishes them decides how many there are.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The receiving end of one process: from the payload of a message to mail in the shards' boxes.
pub struct Inbound {
    server_id: String,
    mount: MountId,
    router: Arc<Router>,
    status: Arc<Status>,
    scratch: Scratch,
    log: LogLimit,
}

impl Inbound {
    /// Receives for the clients of `mount`. Messages of `server_id` are the process' own and are skipped.
    pub fn new(server_id: String, mount: MountId, router: Arc<Router>, status: Arc<Status>) -> Self {
        Self { server_id, mount, router, status, scratch: Scratch::default(), log: LogLimit::default() }
    }

    /// The router it publishes through.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// Takes the payload of one message from one of the Ignis channels. What is no Ignis message is counted in the
    /// status and dropped. Never panics. `batch` is one of the router's.
    pub fn handle(&mut self, message: &[u8], batch: &mut Batch<'_>) {
        count(&self.status.process.redis_received);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.route(message, batch)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                count(&self.status.process.redis_malformed);
                if let Some(skipped) = self.log.admit(Instant::now()) {
                    tracing::warn!(
                        reason = error.name(),
                        bytes = message.len(),
                        skipped,
                        "dropped a message on an Ignis channel of Redis that is no Ignis message"
                    );
                }
            }
            Err(_) => {
                self.scratch = Scratch::default();
                count(&self.status.process.redis_malformed);
                tracing::error!(bytes = message.len(), "a message from Redis caused a panic; this is a bug");
            }
        }
    }

    fn route(&mut self, message: &[u8], batch: &mut Batch<'_>) -> Result<(), EnvelopeError> {
        let received = envelope::decode(message, &mut self.scratch)?;
        if received.server_id == self.server_id {
            count(&self.status.process.redis_own);
            return Ok(());
        }
        let frame = Bytes::from(received.frame());
        let target = match received.destination {
            Destination::Broadcast => Target::Broadcast,
            Destination::Room(room) => Target::Room(room.into_owned()),
            Destination::Client(id) => match ClientId::parse(&id) {
                Some(id) => Target::Client(id),
                // Not an id of ours; another server's, or nobody's.
                None => return Ok(()),
            },
            Destination::User(json) => Target::User(UserId::from_json(&json).ok_or(EnvelopeError::NoTarget)?),
        };
        batch.publish(&Publication { mount: self.mount, target, frame, exclude: received.exclude });
        Ok(())
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Lets one line through per [`LOG_INTERVAL`].
#[derive(Debug, Default)]
struct LogLimit {
    next_at: Option<Instant>,
    skipped: u64,
}

impl LogLimit {
    /// `Some`: log, and say how many were not logged since the last time.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.next_at.is_some_and(|at| now < at) {
            self.skipped += 1;
            return None;
        }
        self.next_at = Some(now + LOG_INTERVAL);
        Some(std::mem::take(&mut self.skipped))
    }
}

#[cfg(test)]
mod tests;
