//! Health and counters of a process, written by its threads and read by the control plane.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;
use shardcast_shard::Counters;

use crate::tls::counters::TlsCounters;
use crate::webhooks::figures::Figures;

/// Counters outside the shards.
#[derive(Debug, Default)]
pub struct ProcessCounters {
    /// Messages received from Redis.
    pub redis_received: AtomicU64,
    /// Of these, our own that came back.
    pub redis_own: AtomicU64,
    /// Messages on our channels that were not Ignis envelopes.
    pub redis_malformed: AtomicU64,
    /// Messages queued for Redis.
    pub redis_published: AtomicU64,
    /// Messages delivered here only, because Redis was away or the queue full.
    pub redis_local_only: AtomicU64,
    /// Messages that were queued when the connection broke and may not have arrived.
    pub redis_publish_failed: AtomicU64,
    /// Times the subscription was lost: other instances' messages of that time are missing.
    pub redis_gaps: AtomicU64,
    /// Channels subscribed again after the link was lost.
    pub redis_resubscribes: AtomicU64,
    /// Times that Redis refused a channel, or to let go of one.
    pub redis_subscribe_errors: AtomicU64,
    /// Channels asked for that are not listened to: there are too many, or Redis refuses them.
    pub redis_listens_refused: AtomicU64,
    /// Joins that did not wait for Redis, as it was away or did not answer in time.
    pub redis_listens_local_only: AtomicU64,
    /// Messages for a topic that were longer than snapshot_bytes_max.
    pub topic_dropped_size: AtomicU64,
    /// Messages for a topic that were not UTF-8, where such are dropped.
    pub topic_dropped_binary: AtomicU64,
    /// Questions that did not reach the hooks because too many were waiting.
    pub asks_refused: AtomicU64,
    /// Hooks that panicked.
    pub hooks_panicked: AtomicU64,
    /// Hooks that did not answer within hook_timeout.
    pub hooks_timed_out: AtomicU64,
    /// Connections refused because the process had no file descriptor or memory left.
    pub accepts_shed: AtomicU64,
    /// Times that accepting waited because of accepts_per_second_max.
    pub accepts_delayed: AtomicU64,
    /// Connections refused because the process takes memory_bytes_max.
    pub shed_memory: AtomicU64,
    /// Connections refused at accept because their address holds connections_per_address_max.
    pub shed_address: AtomicU64,
    /// Connections given to the control plane that it could not take.
    pub hand_offs_refused: AtomicU64,
    /// Shards restarted after a panic.
    pub shards_restarted: AtomicU64,
    /// Rooms asked for that the hooks did not grant.
    pub joins_refused_policy: AtomicU64,
    /// API requests refused for a missing or wrong key.
    pub api_unauthorized: AtomicU64,
    /// Messages taken in by the API.
    pub api_emitted: AtomicU64,
}

/// Counters of authentication, and what it gets its keys from.
#[derive(Debug, Default)]
pub struct AuthStatus {
    /// Tokens that were let in without another look, because they were found good lately.
    pub cache_hits: AtomicU64,
    /// Tokens whose signature was looked at.
    pub tokens_checked: AtomicU64,
    /// Fetches of an issuer's keys.
    pub jwks_fetches: AtomicU64,
    /// Those that brought nothing.
    pub jwks_failures: AtomicU64,
    /// Entries of fetched sets that are no key to check tokens with.
    pub jwks_keys_ignored: AtomicU64,
    /// Where keys are fetched.
    pub jwks: ArcSwap<Vec<Arc<JwksStatus>>>,
}

/// The keys of an issuer, as an operator sees them.
#[derive(Debug, Default)]
pub struct JwksStatus {
    /// Whose.
    pub issuer: String,
    /// Keys of its present set.
    pub keys: AtomicU64,
    /// When they were fetched last, seconds since 1970; 0: not yet.
    pub fetched_unix_seconds: AtomicU64,
}

/// One shard as the others see it.
#[derive(Debug, Default)]
pub struct ShardStatus {
    /// Counters as of its last report.
    counters: Mutex<Counters>,
    /// It runs.
    pub up: AtomicBool,
    /// It restarted after a panic since the process started.
    pub degraded: AtomicBool,
}

/// Health and counters.
#[derive(Debug)]
pub struct Status {
    /// When the process started.
    pub started: Instant,
    /// `"io_uring"` or `"epoll"`.
    pub io_driver: &'static str,
    /// Outside the shards.
    pub process: ProcessCounters,
    /// TLS, over all shards.
    pub tls: Arc<TlsCounters>,
    /// Of authentication.
    pub auth: Arc<AuthStatus>,
    /// By shard.
    pub shards: Vec<ShardStatus>,
    /// Of the webhooks, with any.
    pub webhooks: Option<Arc<Figures>>,
    /// A stop was asked for.
    pub draining: AtomicBool,
    /// Memory of the process from which on new connections are shed, bytes; 0 is none.
    pub memory_bytes_max: AtomicU64,
    /// The process takes that much.
    pub memory_pressure: AtomicBool,
}

impl Status {
    /// Nothing is up.
    pub fn new(started: Instant, io_driver: &'static str, shard_count: usize) -> Self {
        Self {
            started,
            io_driver,
            process: ProcessCounters::default(),
            tls: Arc::default(),
            auth: Arc::default(),
            shards: (0..shard_count).map(|_| ShardStatus::default()).collect(),
            webhooks: None,
            draining: AtomicBool::new(false),
            memory_bytes_max: AtomicU64::new(0),
            memory_pressure: AtomicBool::new(false),
        }
    }

    /// Whether every shard runs.
    pub fn shards_up(&self) -> bool {
        self.shards.iter().all(|shard| shard.up.load(Ordering::Acquire))
    }
}

impl ShardStatus {
    /// Reports the counters; called by the shard a few times a second.
    pub fn report(&self, counters: Counters) {
        if let Ok(mut slot) = self.counters.lock() {
            *slot = counters;
        }
    }

    /// The last report.
    pub fn counters(&self) -> Counters {
        self.counters.lock().map(|slot| slot.clone()).unwrap_or_default()
    }
}
