//! An instance as the Redis thread sees one: mailboxes, a directory and a router, without shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::config::{self, RedisUrl};
use shardcast::directory::Directory;
use shardcast::mailbox::{MailReceiver, mailbox};
use shardcast::redis::{self, PublishOutcome, RedisHandle};
use shardcast::router::Router;
use shardcast::status::{ProcessCounters, Status};
use shardcast_shard::{ClientRef, ConnId, Mail, MountId, ShardId};
use shardcast_wire::ignis::envelope::{self, Destination, Payload};
use shardcast_wire::ignis::{ClientId, UserId};
use tokio::sync::watch;

/// How long anything may take that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Of every instance here, so that silence is noticed within a test's patience.
pub const CANARY_INTERVAL: Duration = Duration::from_millis(100);

/// A client of every instance, on shard 1.
pub const CLIENT: &str = "abcdef22-2222-4222-8222-222222222222";

const MOUNT: MountId = MountId(0);

/// A Redis thread and the mailboxes it posts to. Both shards have members of `room`, shard 1 has the users `"u1"` and
/// 42 and the client [`CLIENT`].
pub struct Instance {
    pub id: String,
    pub redis: RedisHandle,
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
        let mut config = config::Redis {
            url: Some(RedisUrl::new(url)),
            reconnect_delay_max: Duration::from_millis(200),
            canary_interval: CANARY_INTERVAL,
            ..config::Redis::default()
        };
        change(&mut config);
        let directory = Arc::new(Directory::new(1));
        let at = ClientRef { shard: ShardId(1), conn: ConnId { slot: 7, generation: 1 } };
        directory.client_up(ClientId::parse(CLIENT).expect("an id"), MOUNT, at);
        for user in [r#""u1""#, "42"] {
            directory.user_up(MOUNT, UserId::from_json(user).expect("a user"), ShardId(1));
        }
        for shard in 0..2 {
            directory.room_up(MOUNT, Arc::from("room"), ShardId(shard));
        }
        let (senders, boxes): (Vec<_>, Vec<_>) = (0..2).map(|_| mailbox(1 << 17).expect("eventfd")).unzip();
        let status = Arc::new(Status::new(Instant::now(), "epoll", 2));
        let router = Arc::new(Router::new(directory, senders));
        let (stop, stopped) = watch::channel(false);
        let (redis, thread) = redis::spawn(&config, id.to_owned(), MOUNT, router, status.clone(), stopped)
            .expect("the settings are good");
        Self { id: id.to_owned(), redis, boxes, status, stop, thread: Some(thread) }
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

    /// Every letter that waits for a shard.
    pub fn waiting(&self, shard: usize) -> Vec<String> {
        std::iter::from_fn(|| self.boxes[shard].take()).map(describe).collect()
    }

    pub fn count(&self, counter: fn(&ProcessCounters) -> &AtomicU64) -> u64 {
        counter(&self.status.process).load(Ordering::Relaxed)
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

/// What a letter is, to whom, `-slot` for whom not, and the text of its frame.
fn describe(mail: Mail) -> String {
    let (what, frame, exclude) = match mail {
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
