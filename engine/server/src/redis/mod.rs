//! The link to other instances and to emitters: the thread `sc-redis` and the handle to it.
//!
//! One thread runs two connections: `subscriber` receives, decodes each message once (`inbound` for those of Ignis,
//! `topics` for the others) and hands it to the router, and makes the subscriptions that the process wants; `publisher`
//! sends what handles queue. Both reconnect for ever, with jittered back-off, and neither knows of the other: the `link`
//! puts their states together and the `canary` proves them.
//!
//! Must never block a caller, keep a message for later, or pass on a text of the server (it may quote a password).
//! Without Redis the process goes on delivering to its own clients.

mod canary;
mod inbound;
mod link;
mod publisher;
mod subscriber;
mod topics;
mod trouble;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use ::redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};
use shardcast_shard::MountId;
use shardcast_wire::json::Indexer;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

pub use self::inbound::Inbound;
use self::link::Link;
use self::publisher::{Outgoing, Publisher};
use self::subscriber::{Base, Receiver, Subscriber};
pub use self::topics::{TopicMount, Topics};
pub use self::trouble::{Code, Trouble};
use crate::backoff::Backoff;
use crate::config::{self, RedisUrl};
use crate::router::Router;
use crate::status::Status;
use crate::upstream::{Upstream, Worker};

/// How long an attempt to connect may take, with everything that must be said before the connection is of use.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing arrives is probed after this long,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// then this often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// and given up after this many probes without an answer.
const KEEPALIVE_PROBES: u32 = 3;

/// How long the thread may take to end, once told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there can be no link.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// There is no address.
    #[error("redis.url is empty; set it, as in redis://host:6379, or leave clustering off")]
    NoUrl,
    /// The address is of no use, whatever Redis does.
    #[error(
        "redis.url is \"{0}\", which is no address of a Redis server; write redis://[user:password@]host[:port] \
         (TLS, rediss://, is not supported)"
    )]
    Url(RedisUrl),
    /// The kernel gives no thread, or no descriptors for its runtime.
    #[error("cannot start the Redis thread: {0}")]
    Thread(#[from] io::Error),
}

/// Where a message for other instances went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// There are no other instances: Redis is not configured.
    Off,
    /// On its way. It is lost all the same if the connection breaks before Redis took it, which is counted.
    Queued,
    /// Nowhere: Redis is away, or the queue is full. Counted; sending it again later is up to the backend.
    LocalOnly,
}

/// The link as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisStatus {
    /// Both connections are up and the channels subscribed.
    pub connected: bool,
    /// A canary came back through Redis within the last three intervals, and since the last loss.
    pub ready: bool,
    /// Counts the subscriptions after the first: each began after a gap in which messages of other instances were
    /// missed.
    pub generation: u64,
    /// What is wrong and what to do; `None` since the link was last restored.
    pub last_error: Option<Trouble>,
    /// How long the last canary took through Redis and back.
    pub canary_rtt: Option<Duration>,
}

/// The way to other instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RedisHandle {
    link: Arc<Link>,
    queue: mpsc::Sender<Outgoing>,
}

impl RedisHandle {
    /// Publishes a message on a channel. Never blocks and never waits: messages that cannot be queued stay on this
    /// instance. Messages of one thread reach Redis in order.
    pub fn publish(&self, (channel, payload): (String, Vec<u8>)) -> PublishOutcome {
        let message = Outgoing { channel, payload };
        let bytes = message.bytes();
        let counters = self.link.counters();
        if self.link.is_accepting() && self.link.reserve(bytes) {
            if self.queue.try_send(message).is_ok() {
                counters.redis_published.fetch_add(1, Ordering::Relaxed);
                return PublishOutcome::Queued;
            }
            self.link.release(bytes);
        }
        counters.redis_local_only.fetch_add(1, Ordering::Relaxed);
        PublishOutcome::LocalOnly
    }

    /// Whether the link works, and what is wrong if it does not.
    pub fn status(&self) -> RedisStatus {
        self.link.status()
    }
}

/// What the thread is connected with.
#[derive(Debug)]
pub struct Wiring {
    /// Tells this process from others on the same Redis.
    pub server_id: String,
    /// The mount whose clients the channels of Ignis are for.
    pub ignis: Option<MountId>,
    /// Whom the other channels are for.
    pub topics: Arc<Topics>,
    /// Which channels those are.
    pub upstream: Arc<Upstream>,
    /// The way to the shards.
    pub router: Arc<Router>,
    /// Health and counters.
    pub status: Arc<Status>,
}

/// Starts the thread. It keeps trying to reach Redis until `stop` is true or its sender gone; then it sends what is
/// queued (for a second at most), unsubscribes and ends.
///
/// Errors are the operator's: a Redis that is away is none.
pub fn spawn(
    config: &config::Redis,
    wiring: Wiring,
    stop: watch::Receiver<bool>,
) -> Result<(RedisHandle, JoinHandle<()>), RedisError> {
    let Wiring { server_id, ignis, topics, upstream, router, status } = wiring;
    let url = config.url.as_ref().ok_or(RedisError::NoUrl)?;
    let info = connection_info(url)?;
    let link = Arc::new(Link::new(info.addr().to_string(), config.canary_interval, status.clone()));
    let client = Client::open(info).map_err(|_| RedisError::Url(url.clone()))?;
    let (sender, queue) = mpsc::channel(config.publish_queue_max);
    let handle = RedisHandle { link: link.clone(), queue: sender };
    let canary_channel = canary::channel(&server_id);
    let publisher = Publisher {
        client: client.clone(),
        link: link.clone(),
        queue,
        canary_channel: canary_channel.clone(),
        canary_interval: config.canary_interval,
        backoff: Backoff::new(config.reconnect_delay_max),
        stop: stop.clone(),
    };
    let base = Base::new(ignis.is_some(), config.subscribe, canary_channel);
    let subscriber = Subscriber {
        client,
        link,
        worker: Worker::new(upstream, router.clone(), config, base.channels().to_vec()),
        receiver: Receiver {
            inbound: ignis.map(|mount| Inbound::new(server_id, mount, router.clone(), status.clone())),
            topics,
            indexer: Indexer::default(),
            status,
        },
        router,
        base,
        canary_interval: config.canary_interval,
        backoff: Backoff::new(config.reconnect_delay_max),
        stop: stop.clone(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Host names are looked up there.
        .max_blocking_threads(1)
        .thread_name("sc-redis-dns")
        .build()?;
    let body = move || {
        runtime.block_on(run(publisher, subscriber, stop));
        // A look-up that hangs must not hold up the stop.
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("sc-redis".to_owned()).spawn(body)?;
    Ok((handle, thread))
}

/// Pub/sub ignores the database number and RESP2 is what Ignis speaks, so both are fixed: there is no `SELECT` or
/// `HELLO` that an ACL or a cluster could refuse. Neither is there a `CLIENT SETINFO`: its answer is ignored, and when
/// Redis refuses a connection with a sentence, that answer is the sentence.
fn connection_info(url: &RedisUrl) -> Result<ConnectionInfo, RedisError> {
    let info = url.expose().into_connection_info().map_err(|_| RedisError::Url(url.clone()))?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    let settings = info.redis_settings().clone().set_db(0).set_protocol(ProtocolVersion::RESP2);
    Ok(info.set_tcp_settings(tcp).set_redis_settings(settings.set_skip_set_lib_name()))
}

async fn run(publisher: Publisher, subscriber: Subscriber, mut stop: watch::Receiver<bool>) {
    let tasks = [tokio::spawn(publisher.run()), tokio::spawn(subscriber.run())];
    stopped(&mut stop).await;
    let ended = timeout(STOP_TIMEOUT, async {
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a Redis task panicked; this is a bug");
            }
        }
    });
    if ended.await.is_err() {
        tracing::debug!("Redis did not answer while the process stopped; what was queued for it is lost");
    }
}

/// Waits for the stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could stop us is gone, which is a stop too.
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn_at(url: Option<&str>) -> Result<(RedisHandle, JoinHandle<()>), RedisError> {
        let config = config::Redis { url: url.map(RedisUrl::new), ..config::Redis::default() };
        let directory = Arc::new(crate::directory::Directory::new(1));
        let router = Arc::new(Router::new(directory, Vec::new()));
        let status = Arc::new(Status::new(std::time::Instant::now(), "epoll", 0));
        let (_, stop) = watch::channel(true);
        let wiring = Wiring {
            server_id: "id".to_owned(),
            ignis: Some(MountId(0)),
            topics: Arc::new(Topics::new(Vec::new(), status.clone())),
            upstream: Arc::new(Upstream::new(&config, status.clone())),
            router,
            status,
        };
        spawn(&config, wiring, stop)
    }

    #[test]
    fn an_address_that_can_never_work_is_an_error_that_hides_the_password() {
        for url in [
            "",
            "http://host",
            "rediss://:hunter2@host",
            "redis://u:hunter2@",
            "redis://:hunter2@h/x",
            "host:1",
        ] {
            let error = spawn_at(Some(url)).expect_err(url);
            assert!(matches!(error, RedisError::Url(_)), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert!(matches!(spawn_at(None), Err(RedisError::NoUrl)));
    }

    #[test]
    fn before_the_first_connection_and_after_the_stop_messages_stay_here() {
        let (handle, thread) = spawn_at(Some("redis://127.0.0.1:1/")).expect("a good address");
        assert_eq!(handle.publish(("ws:broadcast".to_owned(), Vec::new())), PublishOutcome::LocalOnly);
        thread.join().expect("the thread ends by itself");
        assert_eq!(handle.publish(("ws:broadcast".to_owned(), Vec::new())), PublishOutcome::LocalOnly);
        assert_eq!(handle.link.counters().redis_local_only.load(Ordering::Relaxed), 2);
        let status = handle.status();
        assert!(!status.connected && !status.ready);
    }
}
