//! What a seed makes of the world before anything happens in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shardcast::compression::Compression;
use shardcast_shard::address::Addresses;
use shardcast_shard::rates::{Rate, RateLimits, Rates};
use shardcast_shard::sealing::SEALED_BYTES_PER_TURN;
use shardcast_shard::{
    CloseCodes, Dialect, Encryption, IgnisSettings, Mount, ShardConfig, SlowConsumer, TopicSettings,
};
use shardcast_wire::origin::Origins;
use shardcast_wire::topic::ChannelPrefix;
use shardcast_wire::{http, message};

use super::rng::Rng;

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connect,
    Say,
    Read,
    Stall,
    Resume,
    Reset,
    HalfClose,
    Publish,
    Gap,
    Kick,
    Query,
    Drain,
    Answer,
    Receive,
    TakeMail,
    Writable,
    Tick,
    Release,
    Effects,
    Turn,
    Clock,
}

impl Action {
    /// Every action and how often it happens, before the seed has its say.
    pub(crate) const WEIGHTS: [(Self, u32); 21] = [
        (Self::Connect, 8),
        (Self::Say, 16),
        (Self::Read, 14),
        (Self::Stall, 2),
        (Self::Resume, 3),
        (Self::Reset, 1),
        (Self::HalfClose, 1),
        (Self::Publish, 24),
        (Self::Gap, 1),
        (Self::Kick, 1),
        (Self::Query, 2),
        (Self::Drain, 0),
        (Self::Answer, 6),
        (Self::Receive, 18),
        (Self::TakeMail, 14),
        (Self::Writable, 9),
        (Self::Tick, 3),
        (Self::Release, 3),
        (Self::Effects, 4),
        (Self::Turn, 16),
        (Self::Clock, 6),
    ];
}

/// How the application answers, in percent of the questions.
#[derive(Debug)]
pub(crate) struct HookHabits {
    pub(crate) at_once: u32,
    pub(crate) never: u32,
    pub(crate) refused: u32,
    pub(crate) failed: u32,
}

/// Everything a seed decides at the start.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) config: Arc<ShardConfig>,
    pub(crate) shards: usize,
    pub(crate) mailbox_max: usize,
    /// Connections at a time.
    pub(crate) peers_max: usize,
    /// Clients that are all in before anything else happens.
    pub(crate) crowd: usize,
    pub(crate) steps: usize,
    /// Bytes a kernel takes from the server before a client reads, at least and at most.
    pub(crate) kernel_bytes: (u64, u64),
    pub(crate) weights: Vec<u32>,
    pub(crate) hooks: HookHabits,
    /// Clients that are encrypted, in percent; nobody where memory is scarce, since the model would have to know
    /// which shared bytes are held for whom in which form.
    pub(crate) encrypted: u32,
    /// The cap on all outboxes is within reach, so that what is refused depends on who shares what with whom
    /// and the model learns it from the shard.
    pub(crate) memory_scarce: bool,
    /// The same for bytes of incomplete messages.
    pub(crate) input_scarce: bool,
    /// The invariants are checked after every event, not only after every turn.
    pub(crate) checks_every_event: bool,
    /// How often clients ping, to 77 other things they say.
    pub(crate) pings: u32,
    /// Turns are long, and clients do little but join and leave one room, where most is published.
    pub(crate) is_fickle: bool,
    /// Bytes that pad a publication, at most.
    pub(crate) padding_max: u64,
    /// The shortest frame that is compressed.
    pub(crate) deflated_len_min: usize,
}

impl Scenario {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let memory_scarce = rng.chance(15);
        let input_scarce = rng.chance(8);
        let is_fickle = rng.chance(20);
        let weights = Action::WEIGHTS.map(|(action, weight)| match action {
            Action::Turn if is_fickle => weight / 4,
            Action::Drain => u32::from(rng.chance(6)),
            Action::Reset | Action::HalfClose | Action::Kick => weight * rng.pick(&[0, 1, 1, 4]),
            _ => weight * rng.pick(&[1, 3, 3, 3, 9]),
        });
        Self {
            config: Arc::new(shard_config(rng, memory_scarce, input_scarce)),
            shards: rng.within(1..=4) as usize,
            mailbox_max: rng.pick(&[3, 16, 1_000, 1_000]),
            peers_max: rng.within(2..=14) as usize,
            crowd: 0,
            steps: rng.within(100..=600) as usize,
            kernel_bytes: rng.pick(&[(1, 40), (100, 3_000), (2_000, 60_000), (1 << 20, 1 << 21)]),
            weights: weights.to_vec(),
            hooks: HookHabits {
                at_once: rng.pick(&[0, 60, 90, 100]),
                never: rng.pick(&[0, 0, 5]),
                refused: rng.pick(&[0, 5, 10]),
                failed: rng.pick(&[0, 5]),
            },
            encrypted: if memory_scarce { 0 } else { rng.pick(&[0, 0, 30, 100]) },
            memory_scarce,
            input_scarce,
            checks_every_event: rng.chance(25),
            pings: rng.pick(&[2, 12, 200]),
            is_fickle,
            deflated_len_min: rng.pick(&[1, 100, 256]),
            padding_max: rng.pick(&[0, 100, 1_000, 1_000, 70_000]),
        }
    }

    /// The router's part of it.
    pub(crate) fn compression(&self) -> Compression {
        let least = |mount: &Mount| mount.compression.then_some(self.deflated_len_min);
        Compression::new(self.config.mounts.iter().map(least).collect())
    }

    /// More clients than one batch of writes has room for, all well behaved and in the same rooms.
    pub(crate) fn crowded(rng: &mut Rng) -> Self {
        let mut scenario = Self::new(rng);
        let mut config = shard_config(rng, false, false);
        config.conns_max = 10_000;
        // So that a crowd is through after some turns, not after one for each message.
        config.sealed_bytes_per_turn = rng.pick(&[30_000, SEALED_BYTES_PER_TURN]);
        for mount in &mut config.mounts {
            (mount.outbox_bytes_max, mount.outbox_messages_max) = (1 << 30, 1 << 30);
        }
        scenario.config = Arc::new(config);
        scenario.shards = rng.within(1..=2) as usize;
        scenario.crowd = 600 * scenario.shards;
        scenario.peers_max = scenario.crowd + 20;
        scenario.steps = 300;
        scenario.memory_scarce = false;
        scenario.encrypted = rng.pick(&[0, 20, 60]);
        scenario.input_scarce = false;
        scenario.checks_every_event = false;
        scenario.hooks = HookHabits { at_once: 100, never: 0, refused: 0, failed: 0 };
        scenario
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

fn shard_config(rng: &mut Rng, memory_scarce: bool, input_scarce: bool) -> ShardConfig {
    let main = ignis(rng, &["ws-default", "ws-notification"]);
    let other = ignis(rng, &["ws-default"]);
    let topics = topic(rng);
    ShardConfig {
        conns_max: rng.pick(&[3, 1_000, 1_000, 1_000, 1_000]),
        handshakes_max: 1_000,
        outbox_bytes_total_max: if memory_scarce { rng.within(100..=8_000) as usize } else { usize::MAX / 2 },
        input_bytes_total_max: if input_scarce { rng.within(300..=2_000) as usize } else { usize::MAX / 2 },
        rooms_per_conn_max: rng.pick(&[3, 5, 1_000]),
        rooms_max: rng.pick(&[4, 1_000, 1_000]),
        asks_per_conn_max: rng.pick(&[1, 3, 32]),
        handshake_timeout_ms: rng.pick(&[1_000, 10_000]),
        close_timeout_ms: rng.pick(&[500, 10_000]),
        sealed_bytes_per_turn: rng.pick(&[1, 300, 3_000, SEALED_BYTES_PER_TURN]),
        head: http::HeadLimits::default(),
        addresses: Addresses::default(),
        counts_addresses: false,
        rates: generous(),
        mounts: vec![
            mount(rng, "/ws", Dialect::Ignis(main)),
            mount(rng, "/other", Dialect::Ignis(other)),
            mount(rng, "/echo", Dialect::Echo),
            mount(rng, "/topics", Dialect::Topic(topics)),
        ],
    }
}

/// Rates that nobody exceeds: the buckets are kept, and refuse nothing that the model expects.
fn generous() -> RateLimits {
    let rate = Some(Rate::new(1_000_000_000, Duration::from_secs(1), 1_000_000_000));
    let rates = Rates { messages: rate, bytes: rate, joins: rate };
    RateLimits { connection: rates, user: rates, address: rates, refusals_max: 0 }
}

fn mount(rng: &mut Rng, path: &str, dialect: Dialect) -> Mount {
    Mount {
        path: path.to_owned(),
        dialect,
        origins: Origins::default(),
        compression: rng.chance(60),
        messages: message::Limits { message_bytes_max: rng.pick(&[1_500, 4_000]), fragments_max: 6 },
        outbox_bytes_max: rng.pick(&[0, 300, 3_000, 1 << 24, 1 << 24]),
        outbox_messages_max: rng.pick(&[1, 4, 30, 100_000, 100_000]),
        slow_consumer: rng.pick(&[
            SlowConsumer::DropNewest,
            SlowConsumer::DropOldest,
            SlowConsumer::Disconnect,
        ]),
        idle_timeout_ms: rng.pick(&[0, 10_000, 16_000, 60_000, 60_000]),
        send_pings: rng.chance(75),
    }
}

/// The longest name of a topic, bytes.
pub(crate) const TOPIC_BYTES_MAX: usize = 60;

fn topic(rng: &mut Rng) -> TopicSettings {
    let prefix = rng.pick(&["", "", "p:", "t:{tenant}:"]);
    let reserved: &[&str] = rng.pick(&[&["ws:"][..], &[], &["t:acme:q", "a"]]);
    TopicSettings {
        auth_timeout_ms: rng.pick(&[2_000, 30_000, 30_000]),
        ping_interval_ms: rng.pick(&[3_000, 30_000]),
        starts_authenticated: rng.chance(30),
        auth_failures_max: rng.pick(&[0, 2, 5]),
        topic_bytes_max: TOPIC_BYTES_MAX,
        reserved_prefixes: reserved.iter().map(|&prefix| Arc::from(prefix)).collect(),
        prefix: ChannelPrefix::parse(prefix).expect("a prefix"),
        requests_waiting_max: rng.pick(&[1, 4, 64]),
        close_codes: rng.pick(&[CloseCodes::Compat, CloseCodes::Explicit]),
    }
}

fn ignis(rng: &mut Rng, default_rooms: &[&str]) -> IgnisSettings {
    IgnisSettings {
        default_rooms: default_rooms.iter().map(|&room| Arc::from(room)).collect(),
        auth_timeout_ms: rng.pick(&[2_000, 5_000, 5_000]),
        heartbeat_interval_ms: rng.pick(&[3_000, 30_000]),
        heartbeat_timeout_ms: rng.pick(&[9_000, 90_000, 7 * 86_400_000]),
        forward_messages: rng.chance(60),
        tell_lifecycle: rng.chance(60),
        encryption: Encryption::default(),
    }
}
