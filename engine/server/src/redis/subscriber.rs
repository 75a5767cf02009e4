//! The connection that receives.
//!
//! Subscribes as Ignis does (`ignis.md` §11), and to the canary. Messages are handled in the order in which they
//! arrive, each before the next is looked at.
//!
//! The client library reads ahead into a queue without bound, in a task of its own. What bounds it is that this task
//! takes everything that is queued each time it runs: on a runtime of one thread the reader then gets no further than
//! one turn ahead, some hundred reads of its buffer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ::redis::aio::{PubSubSink, PubSubStream};
use ::redis::{Client, Msg, RedisError};
use futures_util::Stream;
use shardcast_wire::ignis::envelope::{BROADCAST_CHANNEL, CHANNEL_PATTERNS};
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::canary::Silence;
use super::inbound::Inbound;
use super::link::{Half, Link};
use super::trouble::Trouble;
use super::{CONNECT_TIMEOUT, stopped};
use crate::backoff::Backoff;
use crate::router::{Batch, Router};

/// How long a stop may take to say goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// The subscriber's task.
pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) link: Arc<Link>,
    pub(super) inbound: Inbound,
    pub(super) canary_channel: String,
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
                attempt = timeout(CONNECT_TIMEOUT, subscribe(&self.client, &self.canary_channel)) => attempt,
            };
            let trouble = match attempt {
                Ok(Ok((sink, stream))) => {
                    let since = Instant::now();
                    self.link.up(Half::Subscriber);
                    let Err(trouble) = self.receive(stream).await else { return self.leave(sink).await };
                    self.backoff.note_life(since.elapsed());
                    trouble
                }
                Ok(Err(error)) => Trouble::of(&error),
                Err(_) => Trouble::Timeout,
            };
            self.link.down(Half::Subscriber, trouble);
            tokio::select! {
                () = stopped(&mut self.stop) => return,
                () = self.backoff.wait() => {}
            }
        }
    }

    /// Receives until the stop (`Ok`) or until the subscription is lost.
    async fn receive(&mut self, stream: PubSubStream) -> Result<(), Trouble> {
        let Self { link, inbound, canary_channel, canary_interval, stop, .. } = self;
        let router = inbound.router().clone();
        let mut stream = pin!(stream);
        let mut received = 0;
        let mut silence = Silence::new(link.canaries_accepted());
        let mut watch = interval(*canary_interval);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let take_all = drain(stream.as_mut(), &router, |message, batch| {
                received += 1;
                if !message.from_pattern() && message.get_channel_name() == canary_channel {
                    link.canary_heard(message.get_payload_bytes());
                } else {
                    inbound.handle(message.get_payload_bytes(), batch);
                }
            });
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                () = unconstrained(take_all) => return Err(Trouble::Lost),
                _ = watch.tick() => {}
            }
            if silence.is_dead(received, link.canaries_accepted()) {
                return Err(Trouble::Silent);
            }
        }
    }

    /// Unsubscribes, so that Redis sends nothing more into a closing socket.
    async fn leave(&self, mut sink: PubSubSink) {
        let goodbye = async {
            sink.unsubscribe(&[BROADCAST_CHANNEL, &self.canary_channel]).await?;
            sink.punsubscribe(&CHANNEL_PATTERNS).await
        };
        match timeout(GOODBYE_TIMEOUT, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(because = %Trouble::of(&error), "could not unsubscribe from Redis")
            }
            Err(_) => tracing::debug!("Redis did not confirm the end of the subscription"),
        }
    }
}

async fn subscribe(client: &Client, canary_channel: &str) -> Result<(PubSubSink, PubSubStream), RedisError> {
    let (mut sink, stream) = client.get_async_pubsub().await?.split();
    sink.subscribe(&[BROADCAST_CHANNEL, canary_channel]).await?;
    sink.psubscribe(&CHANNEL_PATTERNS).await?;
    Ok((sink, stream))
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
