//! Every bound of a shard, with its unit. Defaults and their reasons are the configuration's
//! (`docs/configuration.md`); the shard only obeys.

use std::sync::Arc;

use shardcast_wire::http::HeadLimits;
use shardcast_wire::ignis::encryption;
use shardcast_wire::message;
use shardcast_wire::origin::Origins;
use shardcast_wire::topic::ChannelPrefix;

use crate::address::Addresses;
use crate::ids::ShardId;
use crate::rates::RateLimits;

/// What a shard is told at its start. Shared by all shards of the process.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Connections this shard may hold; one more is shed.
    pub conns_max: u32,
    /// Of these, how many may be without a complete request head; one more is shed.
    pub handshakes_max: u32,
    /// Bytes that all outboxes of this shard may keep alive together.
    pub outbox_bytes_total_max: usize,
    /// Bytes of incomplete request heads and messages, and of requests that wait for an answer, this shard may hold; the connection that crosses it is
    /// closed.
    pub input_bytes_total_max: usize,
    /// Rooms one connection may be in, its own and the broadcast room not counted.
    pub rooms_per_conn_max: usize,
    /// Rooms a shard may hold.
    pub rooms_max: usize,
    /// Questions to the hooks one connection may have open; one more join is ignored and counted.
    pub asks_per_conn_max: u8,
    /// From accept to the end of the request head.
    pub handshake_timeout_ms: u64,
    /// From a close frame to the end of the socket.
    pub close_timeout_ms: u64,
    /// Bytes of ciphertext of one turn, and what one write adds:
    /// [`crate::sealing::SEALED_BYTES_PER_TURN`] but in simulations.
    pub sealed_bytes_per_turn: usize,
    /// Bounds of a request head.
    pub head: HeadLimits,
    /// Where connections come from, and whose word is taken for it.
    pub addresses: Addresses,
    /// Whether the connections of an address are limited, so that one that came through a proxy must be asked about
    /// ([`crate::Effect::CountAddress`]).
    pub counts_addresses: bool,
    /// How much connections, users and addresses may send.
    pub rates: RateLimits,
    /// What answers on which path; a `MountId` is an index into it.
    pub mounts: Vec<Mount>,
}

/// A path and the dialect that answers on it.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Byte-equal to the normalised path of the request.
    pub path: String,
    /// The protocol spoken.
    pub dialect: Dialect,
    /// Which pages may connect.
    pub origins: Origins,
    /// Whether an offer of permessage-deflate is accepted.
    pub compression: bool,
    /// Bounds of one inbound message.
    pub messages: message::Limits,
    /// What an outbox may hold before the policy acts, in bytes. A message is refused once the queue
    /// *exceeds* it, so an outbox holds at most this plus one message.
    pub outbox_bytes_max: usize,
    /// The same in messages.
    pub outbox_messages_max: u32,
    /// What happens to a connection whose outbox is full.
    pub slow_consumer: SlowConsumer,
    /// Without traffic for this long the connection ends; 0 is never.
    pub idle_timeout_ms: u64,
    /// Ask for a sign of life before that.
    pub send_pings: bool,
}

impl Mount {
    /// Whether it speaks topic-session.
    pub fn is_topic(&self) -> bool {
        matches!(self.dialect, Dialect::Topic(_))
    }
}

/// What a full outbox leads to. Replies are never left out: a client whose outbox has no room for one is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// Refuse the new message, keep the queue: the client sees a gap-free prefix.
    DropNewest,
    /// Refuse the oldest messages that wait and are not begun, to make room: the client sees the latest.
    DropOldest,
    /// End the connection, without a close frame, as Ignis does.
    Disconnect,
}

/// The protocol of a mount.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// Every message comes back as it came.
    Echo,
    /// Ignis 0.0.7.
    Ignis(IgnisSettings),
    /// topic-session.
    Topic(TopicSettings),
}

/// What the topic dialect can be told.
#[derive(Clone, Debug)]
pub struct TopicSettings {
    /// From open, or from the loss of authentication, to a good token.
    pub auth_timeout_ms: u64,
    /// Between two pings to an authenticated client.
    pub ping_interval_ms: u64,
    /// Whether a client is asked about without a token as soon as it is open: where everyone is let in.
    pub starts_authenticated: bool,
    /// Refused tokens of one connection; one more ends it.
    pub auth_failures_max: u8,
    /// Longest name of a topic, bytes.
    pub topic_bytes_max: usize,
    /// Channels that begin so are nobody's topic.
    pub reserved_prefixes: Arc<[Arc<str>]>,
    /// From topics to channels, which are the names of rooms.
    pub prefix: ChannelPrefix,
    /// Requests of one connection that may wait for an answer; one more ends it.
    pub requests_waiting_max: usize,
    /// What stands in the server's close frames.
    pub close_codes: CloseCodes,
}

/// What the close frames of a server say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCodes {
    /// Nothing, as the reference does.
    Compat,
    /// Code and reason.
    Explicit,
}

/// What the Ignis dialect can be told.
#[derive(Clone, Debug)]
pub struct IgnisSettings {
    /// Joined at authentication, in this order.
    pub default_rooms: Arc<[Arc<str>]>,
    /// From open to `authenticate`; three times as long for the answer.
    pub auth_timeout_ms: u64,
    /// Between two sweeps for dead clients.
    pub heartbeat_interval_ms: u64,
    /// A client silent for longer is closed by the next sweep.
    pub heartbeat_timeout_ms: u64,
    /// Whether messages that are not the protocol's own are asked about.
    pub forward_messages: bool,
    /// Whether connects and disconnects are told.
    pub tell_lifecycle: bool,
    /// Whether and how clients are encrypted.
    pub encryption: Encryption,
}

/// Encryption of one mount (`ignis.md` §10).
#[derive(Clone, Debug)]
pub struct Encryption {
    /// Who is encrypted.
    pub mode: EncryptionMode,
    /// What encrypted clients send.
    pub inbound: InboundEncryption,
    /// `info` of the key derivation.
    pub hkdf_info: Arc<str>,
}

impl Default for Encryption {
    /// Off.
    fn default() -> Self {
        Self {
            mode: EncryptionMode::Off,
            inbound: InboundEncryption::Off,
            hkdf_info: encryption::HKDF_INFO.into(),
        }
    }
}

/// Which clients of a mount are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionMode {
    /// None.
    Off,
    /// Those that send a public key.
    Optional,
    /// All; who sends no public key is closed.
    Required,
}

/// What becomes of `encrypted` events that an encrypted client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboundEncryption {
    /// They are messages like others, which is what Ignis makes of them.
    Off,
    /// They are decrypted and handled as what is in them.
    Accepted,
    /// The same, and nothing else is taken from an encrypted client but heartbeats.
    Required,
}

impl ShardConfig {
    /// The salt of a shard: its maps and own-id bookkeeping must not share hash keys with another's.
    pub fn seed_of(seed: u64, shard: ShardId) -> u64 {
        seed.wrapping_add(u64::from(shard.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}
