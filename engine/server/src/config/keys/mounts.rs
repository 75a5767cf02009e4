//! The keys of a mount.

use std::net::SocketAddr;
use std::time::Duration;

use shardcast_wire::ignis::encryption::HKDF_INFO;
use shardcast_wire::origin::OriginPattern;

use super::{GIB, KIB, MIB, millis, secs};
use crate::config::codec::{
    Address, Bounded, Bytes, Codec, Count, List, Mismatch, Name, Optional, Span, Switch, Text,
};
use crate::config::key::{Key, Rows, Section};
use crate::config::traffic::Origin;
use crate::config::{
    BinaryMode, CloseCodes, Dialect, Effect, Encryption, EncryptionInbound, SlowConsumer, SnapshotMode,
};

settings! {
    /// Which dialect answers on which path; repeat the table for each. Without any there is one: ignis on `/ws`; and in
    /// dev mode another: topic on `/topics`. Keys that begin with the name of a dialect have no effect in mounts of
    /// others.
    pub struct Mount ("mounts": |config, index| config.mounts[index]; rows config.mounts) {
        /// Path of the WebSocket endpoint, compared exactly; it starts with `/`.
        path: String as Text = "/ws".to_owned();
        /// Protocol its clients speak.
        dialect: Dialect as Name<Dialect> = Dialect::Ignis;
        /// Addresses of its own, each `ip:port`: there only this mount answers, on its path and on `/`, and plain HTTP
        /// gets 426. On the addresses of `server.listen` and `server.tls_listen` it answers as well. Without TLS.
        listen: Vec<SocketAddr> as List<Address> = Vec::new();
        /// Pages that may connect, by origin: scheme, host and port, compared exactly; `*` stands for one whole label
        /// of the host. Others are answered 403. `[]` lets in every page. `"null"` is what sandboxed frames and local
        /// files send, which any page can make.
        origins: Vec<OriginPattern> as List<Origin> = Vec::new();
        /// Whether a request without `Origin` is answered 403, too. Browsers always send one, other clients seldom.
        origin_required: bool as Switch = false;
        /// Whether a client may join a room that no rule and no token speaks of; topics are rooms.
        unlisted_rooms: Effect as Name<Effect> = Effect::Deny;
        /// Rooms that every client joins when it has authenticated, in this order.
        default_rooms: Vec<String> as List<Text> = vec!["ws-default".to_owned(), "ws-notification".to_owned()];
        /// topic: what stands before a topic in the name of its Redis channel. `{tenant}` in it is the client's tenant, as
        /// in `"t:{tenant}:"`; clients without one then have no topics.
        channel_prefix: String as Text = String::new();
        /// topic: channels that begin so are nobody's topic; who asks for one is closed. So are those that begin with
        /// `__` (notifications of Redis itself), `ws:` (Ignis') and `shardcast:` (our own), whatever is listed here.
        reserved_channels: Vec<String> as List<Text> = Vec::new();
        /// topic: longest name of a topic, bytes.
        topic_bytes_max: usize as Bytes [1..=4 * KIB] = 200;
        /// topic: what payloads become that are JSON.
        snapshot_mode: SnapshotMode as Name<SnapshotMode> = SnapshotMode::Json;
        /// topic: what payloads become that are not UTF-8.
        binary_mode: BinaryMode as Name<BinaryMode> = BinaryMode::Base64;
        /// topic: longest payload of a Redis message; longer ones are dropped and counted.
        snapshot_bytes_max: usize as Bytes [1..=GIB] = MIB;
        /// topic: refused tokens of one connection; one more closes it.
        auth_failures_max: usize as Count [1..=255] = 5;
        /// topic: requests of one connection that may wait for their answers, tokens and topics of 256 KiB at most; one
        /// more closes it.
        requests_waiting_max: usize as Count [1..=4_096] = 1_024;
        /// topic: how often an authenticated client is pinged.
        ping_interval: Duration as Span [millis(10)..=secs(3600)] = secs(30);
        /// topic: what the close frames of the server say.
        close_codes: CloseCodes as Name<CloseCodes> = CloseCodes::Compat;
        /// How long a client has to authenticate; three times as long once its token is being checked.
        auth_timeout: Duration as Span [millis(1)..=secs(3600)] = secs(5);
        /// How often silent clients are looked for.
        heartbeat_interval: Duration as Span [millis(10)..=secs(86_400)] = secs(30);
        /// How long an authenticated client may send nothing; WebSocket pings and pongs do not count.
        heartbeat_timeout: Duration as Span [millis(1)..=secs(86_400)] = secs(90);
        /// Longest message from a client, all its fragments together; longer ones close it with 1009.
        message_bytes_max: usize as Bytes [1..=GIB] = 128 * KIB;
        /// Most fragments of one message from a client; more close it with 1008.
        fragments_max: usize as Count [1..=16_777_216] = 1_024;
        /// Whether messages are compressed for clients that offer permessage-deflate. A message is compressed once for
        /// all of them, which costs the publishing thread some 10 µs and 4 to 10 µs a KiB. Leave it off where secrets share
        /// a message with what others can write, since its length then tells about them.
        compression: bool as Switch = false;
        /// Shortest frame that is compressed; shorter ones go out plain.
        compression_bytes_min: usize as Bytes [1..=MIB] = 256;
        /// Which clients get their messages encrypted (Ignis' own scheme: ECDH on P-256, AES-256-GCM), on top of
        /// TLS, which it does not replace: who can change what passes can change the keys as well. Each message
        /// is encrypted for each of them, which costs a shard about as much as sending it.
        encryption: Encryption as Name<Encryption> = Encryption::Off;
        /// What becomes of `encrypted` events that encrypted clients send. That one comes again is not noticed.
        encryption_inbound: EncryptionInbound as Name<EncryptionInbound> = EncryptionInbound::Off;
        /// The `info` of the key derivation (HKDF); clients must use the same.
        hkdf_info: String as Text = HKDF_INFO.to_owned();
        /// How long a connection may be silent before it is closed; `"0s"` turns this off.
        idle_timeout: Option<Duration> as Optional<Span> [secs(1)..=secs(960)] = Some(secs(60));
        /// Whether the server pings a silent connection before `idle_timeout`, so that only dead ones are closed.
        send_pings: bool as Switch = true;
        /// Bytes that may wait for one slow connection before `slow_consumer` applies.
        outbox_bytes_max: usize as Bytes [KIB..=64 * GIB] = 16 * MIB;
        /// Messages that may wait for one slow connection before `slow_consumer` applies.
        outbox_messages_max: usize as Count [1..=16_777_216] = 262_144;
        /// What happens to a message for a connection whose outbox is full.
        slow_consumer: SlowConsumer as Name<SlowConsumer> = SlowConsumer::DropNewest;
    }
}

/// What channels begin with that are no client's in any topic mount: those of Redis itself, of Ignis, and our own.
const RESERVED_CHANNELS: [&str; 3] = ["__", "ws:", "shardcast:"];

impl Mount {
    /// What channels begin with that are nobody's topic here: always, or by `reserved_channels`.
    pub fn reserved_prefixes(&self) -> impl Iterator<Item = &str> {
        RESERVED_CHANNELS.into_iter().chain(self.reserved_channels.iter().map(String::as_str))
    }

    /// The defaults of a mount that speaks `dialect`.
    pub fn for_dialect(dialect: Dialect) -> Self {
        let ignis = Self::default();
        match dialect {
            Dialect::Ignis => ignis,
            Dialect::Topic => Self {
                path: "/topics".to_owned(),
                dialect,
                unlisted_rooms: Effect::Allow,
                default_rooms: Vec::new(),
                auth_timeout: secs(30),
                message_bytes_max: 64 * KIB,
                outbox_bytes_max: MIB,
                outbox_messages_max: 1_024,
                slow_consumer: SlowConsumer::Disconnect,
                ..ignis
            },
            // An echo takes whatever a conformance suite sends: messages of 16 MiB in fragments of 256 bytes.
            Dialect::Echo => Self {
                dialect,
                default_rooms: Vec::new(),
                message_bytes_max: 16 * MIB,
                fragments_max: 131_072,
                ..ignis
            },
        }
    }
}
