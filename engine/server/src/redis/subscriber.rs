//! The connection that receives.
//!
//! Subscribes to its base, which is what Ignis subscribes to (`ignis.md` §11) and the canary, and then by name to what
//! the [`Worker`] wants. Messages are handled in the order in which they arrive, each before the next is looked at; also
//! while a hundred thousand channels are subscribed again, as one batch of them is under way at a time.
//!
//! The client library reads ahead into a queue without bound, in a task of its own. What bounds it is that this task
//! takes everything that is queued each time it runs: on a runtime of one thread the reader then gets no further than
//! one turn ahead, some hundred reads of its buffer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::redis::aio::{PubSubSink, PubSubStream};
use ::redis::{Client, Msg, RedisError};
use futures_util::future::{OptionFuture, join_all};
use futures_util::{FutureExt, Stream};
use shardcast_wire::ignis::envelope::{BROADCAST_CHANNEL, CHANNEL_PATTERNS, ROOM_CHANNEL_PREFIX};
use shardcast_wire::json::Indexer;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::canary::Silence;
use super::inbound::Inbound;
use super::link::{Half, Link};
use super::topics::Topics;
use super::trouble::Trouble;
use super::{CONNECT_TIMEOUT, stopped};
use crate::backoff::Backoff;
use crate::config::Subscribe;
use crate::router::{Batch, Router};
use crate::status::Status;
use crate::upstream::{Command, Done, Outcome, WAIT_MAX, Worker};

/// How long a command may be under way, six times as long as anybody waits for it. A connection on which Redis took it and
/// does not confirm it is of no use any more, even if messages come.
const COMMAND_MAX: Duration = WAIT_MAX.saturating_mul(6);

/// How long a stop may take to say goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is subscribed for as long as there is a link.
pub(super) struct Base {
    channels: Vec<String>,
    patterns: Vec<&'static str>,
    has_rooms_by_name: bool,
}

impl Base {
    /// The canary's channel, and those of Ignis if a mount speaks it.
    pub(super) fn new(has_ignis: bool, subscribe: Subscribe, canary_channel: String) -> Self {
        let has_rooms_by_name = has_ignis && subscribe == Subscribe::Exact;
        let mut channels = vec![canary_channel];
        let mut patterns = Vec::new();
        if has_ignis {
            channels.push(BROADCAST_CHANNEL.to_owned());
            patterns.extend(CHANNEL_PATTERNS);
            patterns.retain(|pattern| !(has_rooms_by_name && pattern.starts_with(ROOM_CHANNEL_PREFIX)));
        }
        Self { channels, patterns, has_rooms_by_name }
    }

    pub(super) fn channels(&self) -> &[String] {
        &self.channels
    }

    fn canary_channel(&self) -> &str {
        &self.channels[0]
    }

    /// Whether a message that came for a name, not for a pattern, is Ignis'.
    fn is_of_ignis(&self, channel: &str) -> bool {
        channel == BROADCAST_CHANNEL || self.has_rooms_by_name && channel.starts_with(ROOM_CHANNEL_PREFIX)
    }
}

/// Whom messages are for.
pub(super) struct Receiver {
    pub(super) inbound: Option<Inbound>,
    pub(super) topics: Arc<Topics>,
    pub(super) indexer: Indexer,
    pub(super) status: Arc<Status>,
}

impl Receiver {
    /// Takes a message that is no canary.
    fn handle(&mut self, message: &Msg, base: &Base, batch: &mut Batch<'_>) {
        let payload = message.get_payload_bytes();
        // A name that is not UTF-8 is never subscribed, so it came by a pattern and does not matter.
        let channel = message.get_channel_name();
        match &mut self.inbound {
            Some(inbound) if message.from_pattern() || base.is_of_ignis(channel) => {
                inbound.handle(payload, batch);
            }
            _ => {
                self.status.process.redis_received.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !message.from_pattern() {
            self.topics.publish(&mut self.indexer, channel, payload, batch);
        }
    }
}

/// The subscriber's task.
pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) link: Arc<Link>,
    pub(super) worker: Worker,
    pub(super) receiver: Receiver,
    pub(super) router: Arc<Router>,
    pub(super) base: Base,
    pub(super) canary_interval: Duration,
    pub(super) backoff: Backoff,
    pub(super) stop: watch::Receiver<bool>,
}

impl Subscriber {
    /// Subscribes and receives until the stop.
    pub(super) async fn run(mut self) {
        loop {
            let attempt = tokio::select! {
                () = stopped(&mut self.stop) => return,
                attempt = beside(&mut self.worker, timeout(CONNECT_TIMEOUT, subscribe(&self.client, &self.base))) => attempt,
            };
            let trouble = match attempt {
                Ok(Ok((sink, stream))) => {
                    let since = Instant::now();
                    self.link.up(Half::Subscriber);
                    self.worker.link_up();
                    let end = self.receive(&sink, stream).await;
                    self.worker.link_down(Instant::now());
                    let Err(trouble) = end else { return leave(sink).await };
                    self.backoff.note_life(since.elapsed());
                    trouble
                }
                Ok(Err(error)) => Trouble::of(&error),
                Err(_) => Trouble::Timeout,
            };
            self.link.down(Half::Subscriber, trouble);
            tokio::select! {
                () = stopped(&mut self.stop) => return,
                () = beside(&mut self.worker, self.backoff.wait()) => {}
            }
        }
    }

    /// Receives until the stop (`Ok`) or until the subscription is lost.
    async fn receive(&mut self, sink: &PubSubSink, stream: PubSubStream) -> Result<(), Trouble> {
        let Self { link, worker, receiver, router, base, canary_interval, stop, .. } = self;
        let mut stream = pin!(stream);
        let mut received = 0;
        let mut silence = Silence::new(link.canaries_accepted());
        let mut watch = interval(*canary_interval);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way: OptionFuture<_> = None.into();
        let mut is_under_way = false;
        loop {
            if !is_under_way {
                let command = worker.next_command(Instant::now());
                is_under_way = command.is_some();
                under_way = command
                    .map(|command| timeout(COMMAND_MAX, carry_out(sink.clone(), command)).boxed())
                    .into();
            }
            let take_all = drain(stream.as_mut(), router, |message, batch| {
                received += 1;
                if !message.from_pattern() && message.get_channel_name() == base.canary_channel() {
                    link.canary_heard(message.get_payload_bytes());
                } else {
                    receiver.handle(message, base, batch);
                }
            });
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                () = unconstrained(take_all) => return Err(Trouble::Lost),
                Some(done) = &mut under_way, if is_under_way => {
                    is_under_way = false;
                    let done = done.unwrap_or(Err(Trouble::Timeout))?;
                    if done.outcomes.contains(&Outcome::Refused) {
                        link.channel_refused(Instant::now());
                    }
                    worker.done(&done, Instant::now());
                }
                () = worker.changed(), if !is_under_way => {}
                () = wake_at(worker) => worker.look_at_clock(Instant::now()),
                _ = watch.tick() => {}
            }
            if silence.is_dead(received, link.canaries_accepted()) {
                return Err(Trouble::Silent);
            }
        }
    }
}

/// Waits for something while there is no link. Shards whose mailboxes were full are told meanwhile.
async fn beside<T>(worker: &mut Worker, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        tokio::select! {
            value = &mut future => return value,
            () = wake_at(worker) => worker.look_at_clock(Instant::now()),
        }
    }
}

/// Waits until the worker has something to do for which nobody calls.
async fn wake_at(worker: &Worker) {
    match worker.wake_at() {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn subscribe(client: &Client, base: &Base) -> Result<(PubSubSink, PubSubStream), RedisError> {
    let (mut sink, stream) = client.get_async_pubsub().await?.split();
    sink.subscribe(&base.channels).await?;
    if !base.patterns.is_empty() {
        sink.psubscribe(&base.patterns).await?;
    }
    Ok((sink, stream))
}

/// Has Redis carry a command out. An error is one of the link; that Redis refuses a name is none.
///
/// Of a SUBSCRIBE only that the user may not is a refusal: what else Redis answers (it is loading, say) is true of all names.
/// An UNSUBSCRIBE that it does not carry out, for whatever reason, leaves the link as good as it was.
///
/// One name that is refused has Redis refuse the whole command, without a word which it was. So each is then asked for by
/// itself, all of them at once.
async fn carry_out(sink: PubSubSink, command: Command) -> Result<Done, Trouble> {
    let (Command::Subscribe(names) | Command::Unsubscribe(names)) = &command;
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let say = async |names: &[&str]| {
        let mut sink = sink.clone();
        let answer = match &command {
            Command::Subscribe(_) => sink.subscribe(names).await,
            Command::Unsubscribe(_) => sink.unsubscribe(names).await,
        };
        let Err(error) = answer else { return Ok(Outcome::Done) };
        match (Trouble::of(&error), &command) {
            (Trouble::Forbidden, _) => Ok(Outcome::Refused),
            (_, Command::Unsubscribe(_)) if Trouble::is_answer(&error) => Ok(Outcome::Refused),
            (trouble, _) => Err(trouble),
        }
    };
    let outcomes = match say(&names).await? {
        Outcome::Refused if names.len() > 1 => {
            join_all(names.chunks(1).map(&say)).await.into_iter().collect::<Result<_, _>>()?
        }
        outcome => vec![outcome; names.len()],
    };
    Ok(Done { command, outcomes })
}

/// Unsubscribes, so that Redis sends nothing more into a closing socket.
async fn leave(mut sink: PubSubSink) {
    const ALL: [&str; 0] = [];
    let goodbye = async {
        sink.unsubscribe(&ALL).await?;
        sink.punsubscribe(&ALL).await
    };
    match timeout(GOODBYE_TIMEOUT, goodbye).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(because = %Trouble::of(&error), "could not unsubscribe from Redis")
        }
        Err(_) => tracing::debug!("Redis did not confirm the end of the subscription"),
    }
}

/// Hands over messages as they come, those that are there together as one batch; ends with the stream.
async fn drain(
    mut stream: Pin<&mut PubSubStream>,
    router: &Router,
    mut handle: impl FnMut(&Msg, &mut Batch<'_>),
) {
    std::future::poll_fn(|cx| {
        let mut batch = router.batch();
        loop {
            match stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(message)) => handle(&message, &mut batch),
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}
