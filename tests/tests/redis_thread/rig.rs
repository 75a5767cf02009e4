//! An instance as the Redis thread sees one: mailboxes, a directory and a router, without shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::config::{self, RedisUrl};
use shardcast::directory::Directory;
use shardcast::engine::Engine;
use shardcast::mailbox::{MailReceiver, mailbox};
use shardcast::redis::{self, PublishOutcome, RedisHandle, TopicMount, Topics, Wiring};
use shardcast::router::Router;
use shardcast::status::{ProcessCounters, Status};
use shardcast::upstream::Upstream;
use shardcast_shard::{ClientRef, ConnId, Listening, Mail, MountId, ShardId, Verdict};
use shardcast_wire::ignis::envelope::{self, Destination, Payload};
use shardcast_wire::ignis::{ClientId, UserId};
use shardcast_wire::topic::{BinaryMode, ChannelPrefix, SnapshotFormat};
use tokio::sync::watch;

/// How long anything may take that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Of every instance here, so that silence is noticed within a test's patience.
pub const CANARY_INTERVAL: Duration = Duration::from_millis(100);

/// Of every instance here, unless it says otherwise.
pub const LINGER: Duration = Duration::from_millis(300);

/// A client of every instance, on shard 1.
pub const CLIENT: &str = "abcdef22-2222-4222-8222-222222222222";

const MOUNT: MountId = MountId(0);

/// A mount for topics, whose channels have no prefix.
pub const TOPICS: MountId = MountId(1);

/// Another, whose channels begin with `t:`, which takes payloads of up to 100 bytes and drops binary ones.
pub const TERSE: MountId = MountId(2);

/// A Redis thread and the mailboxes it posts to. Both shards have members of `room`, shard 1 has the users `"u1"` and
/// 42 and the client [`CLIENT`].
pub struct Instance {
    pub id: String,
    pub redis: RedisHandle,
    pub upstream: Arc<Upstream>,
    pub engine: Engine,
    directory: Arc<Directory>,
    boxes: Vec<MailReceiver>,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Instance {
    pub fn start(id: &str, url: &str) -> Self {
        Self::start_with(id, url, |_| {})
    }

    pub fn start_with(id: &str, url: &str, change: impl FnOnce(&mut config::Redis)) -> Self {
        Self::start_on(id, url, Some(MOUNT), 1 << 17, change)
    }

    pub fn start_on(
        id: &str,
        url: &str,
        ignis: Option<MountId>,
        mailbox_max: usize,
        change: impl FnOnce(&mut config::Redis),
    ) -> Self {
        let mut config = config::Redis {
            url: Some(RedisUrl::new(url)),
            reconnect_delay_max: Duration::from_millis(200),
            canary_interval: CANARY_INTERVAL,
            unsubscribe_linger: LINGER,
            ..config::Redis::default()
        };
        change(&mut config);
        let directory = Arc::new(Directory::new(3));
        let at = ClientRef { shard: ShardId(1), conn: ConnId { slot: 7, generation: 1 } };
        directory.client_up(ClientId::parse(CLIENT).expect("an id"), MOUNT, at);
        for user in [r#""u1""#, "42"] {
            directory.user_up(MOUNT, UserId::from_json(user).expect("a user"), ShardId(1));
        }
        for shard in 0..2 {
            directory.room_up(MOUNT, Arc::from("room"), ShardId(shard));
        }
        let (senders, boxes): (Vec<_>, Vec<_>) =
            (0..2).map(|_| mailbox(mailbox_max).expect("eventfd")).unzip();
        let status = Arc::new(Status::new(Instant::now(), "epoll", 2));
        let router = Arc::new(Router::new(directory.clone(), senders));
        let (stop, stopped) = watch::channel(false);
        let wiring = Wiring {
            server_id: id.to_owned(),
            ignis,
            topics: Arc::new(topics(&status)),
            upstream: Arc::new(Upstream::new(&config, status.clone())),
            router: router.clone(),
            status: status.clone(),
        };
        let (upstream, topics) = (wiring.upstream.clone(), wiring.topics.clone());
        let (redis, thread) = redis::spawn(&config, wiring, stopped).expect("the settings are good");
        let engine = Engine::new(id.to_owned(), ignis, router, Some(redis.clone()), status.clone());
        let engine = engine.listening(upstream.clone(), topics);
        Self {
            id: id.to_owned(),
            redis,
            upstream,
            engine,
            directory,
            boxes,
            status,
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until readiness is green.
    #[track_caller]
    pub fn ready(self) -> Self {
        eventually("ready", || self.redis.status().ready);
        self
    }

    /// Publishes to user `"u1"`, whom every instance has on shard 1.
    pub fn publish(&self, event: &str) -> PublishOutcome {
        self.publish_to(&Destination::User(r#""u1""#.into()), event)
    }

    pub fn publish_to(&self, destination: &Destination<'_>, event: &str) -> PublishOutcome {
        let payload = Payload::new(event, None).expect("no data is good data");
        self.redis.publish((
            envelope::channel(destination),
            envelope::encode(&self.id, destination, &payload, None),
        ))
    }

    /// The next letter for a shard, as text.
    #[track_caller]
    pub fn next(&self, shard: usize) -> String {
        let mut found = None;
        eventually("a letter", || {
            found = self.boxes[shard].take();
            found.is_some()
        });
        describe(found.expect("just found"))
    }

    /// The next letter for a shard, if there is one.
    pub fn take(&self, shard: usize) -> Option<String> {
        self.boxes[shard].take().map(describe)
    }

    /// Every letter that waits for a shard.
    pub fn waiting(&self, shard: usize) -> Vec<String> {
        std::iter::from_fn(|| self.boxes[shard].take()).map(describe).collect()
    }

    pub fn count(&self, counter: fn(&ProcessCounters) -> &AtomicU64) -> u64 {
        counter(&self.status.process).load(Ordering::Relaxed)
    }

    /// Connection `conn` of a shard is about to join a topic.
    pub fn listen(&self, shard: u8, channel: &str, conn: u32) -> Option<Listening> {
        self.upstream.listen(ShardId(shard), &channel.into(), Some(ConnId { slot: conn, generation: 1 }))
    }

    /// A reference is given back.
    pub fn unlisten(&self, shard: u8, channel: &str) {
        self.upstream.unlisten(ShardId(shard), channel);
    }

    /// A shard has members of a room.
    pub fn room_up(&self, mount: MountId, shard: u8, room: &str) {
        self.directory.room_up(mount, room.into(), ShardId(shard));
    }

    /// Stops the thread and waits for it.
    pub fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the Redis thread does not panic");
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn topics(status: &Arc<Status>) -> Topics {
    let format = SnapshotFormat::default();
    let open =
        TopicMount { mount: TOPICS, prefix: ChannelPrefix::default(), format, payload_bytes_max: 1 << 20 };
    let terse = TopicMount {
        mount: TERSE,
        prefix: ChannelPrefix::parse("t:").expect("a good prefix"),
        format: SnapshotFormat { binary: BinaryMode::Drop, ..format },
        payload_bytes_max: 100,
    };
    Topics::new(vec![open, terse], status.clone())
}

/// What a letter is, to whom, `-slot` for whom not, and the text of its frame.
fn describe(mail: Mail) -> String {
    let (what, frame, exclude) = match mail {
        Mail::Verdict(verdict) => match *verdict {
            Verdict::Listening { conn, room, outcome } => return format!("{outcome:?} {} {room}", conn.slot),
            other => panic!("no question: {other:?}"),
        },
        Mail::Broadcast { frame, exclude, .. } => ("broadcast".to_owned(), frame.plain, exclude),
        Mail::Room { room, own, frame, exclude, .. } => {
            let own = own.map_or(String::new(), |conn| format!("+{}", conn.slot));
            (format!("room {room}{own}"), frame.plain, exclude)
        }
        Mail::Direct { conn, frame } => (format!("direct {}", conn.slot), frame.plain, None),
        Mail::User { user, frame, .. } => (format!("user {user}"), frame.plain, None),
        other => panic!("no message: {other:?}"),
    };
    let exclude = exclude.iter().flat_map(|list| list.iter());
    let without: String = exclude.map(|at| format!(" -{}", at.conn.slot)).collect();
    let header = match frame[1] {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    format!("{what}{without} {}", std::str::from_utf8(&frame[header..]).expect("text"))
}

/// Looks until `condition` holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
