//! The connection that publishes.
//!
//! Fire and forget, as Ignis does it: a message is sent at most once. What waits while the connection is up goes out
//! in order, in pipelines of bounded size, one pipeline at a time; the slower Redis is, the fuller they are. When the
//! connection breaks, the pipeline in flight and all that waits behind it are counted as failed and not kept: a
//! realtime message that arrives after an outage is a surprise, not a service.
//!
//! Names and payloads travel as length-prefixed arguments, so nothing in them can become a command.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Pipeline, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::link::{Half, Link};
use super::trouble::{Trouble, is_lone_replica};
use super::{CONNECT_TIMEOUT, stopped};
use crate::backoff::Backoff;

/// Messages of one pipeline.
const PIPELINE_MESSAGES_MAX: usize = 512;

/// Bytes of one pipeline, unless its only message is larger.
const PIPELINE_BYTES_MAX: usize = 1 << 20;

/// How long Redis may take for one pipeline.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a stop may take to send what waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A message on its way to Redis.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
}

impl Outgoing {
    /// What it counts for in the bounds.
    pub(super) fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

/// The publisher's task.
pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) link: Arc<Link>,
    pub(super) queue: mpsc::Receiver<Outgoing>,
    pub(super) canary_channel: String,
    pub(super) canary_interval: Duration,
    pub(super) backoff: Backoff,
    pub(super) stop: watch::Receiver<bool>,
}

impl Publisher {
    /// Connects and publishes until the stop.
    pub(super) async fn run(mut self) {
        loop {
            let attempt = tokio::select! {
                () = stopped(&mut self.stop) => break,
                attempt = timeout(CONNECT_TIMEOUT, connect(&self.client)) => attempt,
            };
            let trouble = match attempt.unwrap_or(Err(Trouble::Timeout)) {
                Ok(conn) => {
                    let since = Instant::now();
                    // Came in between the last check of `accepting` and the loss.
                    self.discard_queue();
                    self.link.up(Half::Publisher);
                    let Err(trouble) = self.serve(conn).await else { break };
                    self.backoff.note_life(since.elapsed());
                    trouble
                }
                Err(trouble) => trouble,
            };
            self.link.down(Half::Publisher, trouble);
            self.discard_queue();
            tokio::select! {
                () = stopped(&mut self.stop) => break,
                () = self.backoff.wait() => {}
            }
        }
        self.link.stop_accepting();
        self.queue.close();
        self.discard_queue();
    }

    /// Publishes until the stop (`Ok`) or until the connection is of no more use.
    async fn serve(&mut self, mut conn: MultiplexedConnection) -> Result<(), Trouble> {
        let mut batch = Vec::with_capacity(PIPELINE_MESSAGES_MAX);
        let mut canary = interval(self.canary_interval);
        canary.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                _ = canary.tick() => self.send_canary(&mut conn).await?,
                () = self.link.canary_wanted() => self.send_canary(&mut conn).await?,
                _ = self.queue.recv_many(&mut batch, PIPELINE_MESSAGES_MAX) => {
                    self.send_all(&mut conn, &mut batch).await?;
                }
            }
        }
        self.link.stop_accepting();
        self.queue.close();
        // What does not fit into the time is discarded by the caller.
        timeout(FLUSH_TIMEOUT, self.flush(conn)).await.unwrap_or(Ok(()))
    }

    async fn flush(&mut self, mut conn: MultiplexedConnection) -> Result<(), Trouble> {
        let mut batch = Vec::with_capacity(PIPELINE_MESSAGES_MAX);
        while self.queue.recv_many(&mut batch, PIPELINE_MESSAGES_MAX).await > 0 {
            self.send_all(&mut conn, &mut batch).await?;
        }
        let quit = ::redis::cmd("QUIT");
        conn.send_packed_command(&quit).await.map(drop).map_err(|error| Trouble::of(&error))
    }

    /// Sends a batch in as many pipelines as it takes, and leaves it empty.
    async fn send_all(
        &self,
        conn: &mut MultiplexedConnection,
        batch: &mut Vec<Outgoing>,
    ) -> Result<(), Trouble> {
        let mut sent = Ok(());
        let mut waiting = batch.drain(..).peekable();
        while let Some(first) = waiting.next() {
            if sent.is_err() {
                self.fail(1, first.bytes());
                continue;
            }
            let mut pipeline = Pipeline::with_capacity(PIPELINE_MESSAGES_MAX.min(waiting.len() + 1));
            let mut bytes = first.bytes();
            push(&mut pipeline, &first);
            while let Some(next) = waiting.next_if(|next| bytes + next.bytes() <= PIPELINE_BYTES_MAX) {
                bytes += next.bytes();
                push(&mut pipeline, &next);
            }
            let (failed, outcome) = self.send(conn, &pipeline).await;
            self.link.release(bytes);
            self.fail(failed, 0);
            sent = outcome;
        }
        sent
    }

    /// Sends one pipeline; returns how many of its messages failed, and why the connection is of no more use.
    async fn send(
        &self,
        conn: &mut MultiplexedConnection,
        pipeline: &Pipeline,
    ) -> (usize, Result<(), Trouble>) {
        let replies = match conn.send_packed_commands(pipeline, 0, pipeline.len()).await {
            Ok(replies) => replies,
            Err(error) => return (pipeline.len(), Err(Trouble::of(&error))),
        };
        let refusals = replies.iter().filter_map(|reply| match reply {
            Value::ServerError(error) => Some(Trouble::of_reply(error)),
            _ => None,
        });
        let mut outcome = Ok(());
        let mut failed = 0;
        for trouble in refusals {
            failed += 1;
            // An ACL forbids one channel and may allow the next; every other refusal is about the server.
            if trouble == Trouble::Forbidden { self.link.refused(trouble) } else { outcome = Err(trouble) }
        }
        (failed, outcome)
    }

    async fn send_canary(&self, conn: &mut MultiplexedConnection) -> Result<(), Trouble> {
        let payload = self.link.canary_sent().to_string().into_bytes();
        let mut pipeline = Pipeline::with_capacity(1);
        push(&mut pipeline, &Outgoing { channel: self.canary_channel.clone(), payload });
        let (failed, outcome) = self.send(conn, &pipeline).await;
        if failed == 0 {
            self.link.canary_accepted();
        }
        outcome
    }

    /// Counts what waits as failed.
    fn discard_queue(&mut self) {
        while let Ok(message) = self.queue.try_recv() {
            self.fail(1, message.bytes());
        }
    }

    fn fail(&self, count: usize, bytes: usize) {
        self.link.release(bytes);
        self.link.counters().redis_publish_failed.fetch_add(count as u64, Ordering::Relaxed);
    }
}

fn push(pipeline: &mut Pipeline, message: &Outgoing) {
    pipeline.cmd("PUBLISH").arg(&message.channel).arg(message.payload.as_slice());
}

/// Connects, and makes sure that what is published there reaches everyone.
async fn connect(client: &Client) -> Result<MultiplexedConnection, Trouble> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    let connected = client.get_multiplexed_async_connection_with_config(&config).await;
    let mut conn = connected.map_err(|error| Trouble::of(&error))?;
    match ::redis::cmd("INFO").query_async::<Vec<u8>>(&mut conn).await {
        Ok(info) if is_lone_replica(&info) => Err(Trouble::Replica),
        Ok(_) => Ok(conn),
        Err(error) => match Trouble::of(&error) {
            // A user or a proxy may well not have `INFO`; the canary tells whether the rest works.
            Trouble::Forbidden | Trouble::Refused(_) => Ok(conn),
            trouble => Err(trouble),
        },
    }
}
