//! From the configuration to what shards are started with.

use std::sync::Arc;
use std::time::Duration;

use shardcast_shard::rates::{Rate, RateLimits, Rates};
use shardcast_shard::sealing::SEALED_BYTES_PER_TURN;
use shardcast_shard::{
    CloseCodes, Dialect, Encryption, EncryptionMode, IgnisSettings, InboundEncryption, Mount, ShardConfig,
    SlowConsumer, TopicSettings,
};
use shardcast_wire::origin::Origins;
use shardcast_wire::topic::ChannelPrefix;
use shardcast_wire::{http, message};

use crate::admission::{Admission, addresses};
use crate::compression::Compression;
use crate::config::{self, Config, Machine};
use crate::hooks::Hooks;

/// What each shard is started with. `shards` is how many there are.
pub(crate) fn shard_config(
    config: &Config,
    machine: &Machine,
    shards: usize,
    hooks: &dyn Hooks,
) -> ShardConfig {
    let limits = &config.limits;
    // The kernel spreads connections by hash, so a shard gets some more than its share.
    let share = |count: usize| {
        let share = if shards == 1 { count } else { count.div_ceil(shards) * 5 / 4 };
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    ShardConfig {
        conns_max: share(config.connections_max(machine)),
        handshakes_max: share(config.handshakes_max(machine)),
        outbox_bytes_total_max: limits.outbox_bytes_total_max / shards,
        input_bytes_total_max: limits.input_bytes_total_max / shards,
        rooms_per_conn_max: limits.rooms_per_connection_max,
        rooms_max: limits.rooms_max,
        asks_per_conn_max: u8::try_from(limits.asks_per_connection_max).unwrap_or(u8::MAX),
        handshake_timeout_ms: config.server.handshake_timeout.as_millis() as u64,
        close_timeout_ms: config.server.close_timeout.as_millis() as u64,
        sealed_bytes_per_turn: SEALED_BYTES_PER_TURN,
        head: http::HeadLimits { head_bytes_max: config.server.head_bytes_max, ..Default::default() },
        addresses: addresses(config),
        counts_addresses: limits.connections_per_address_max.is_some(),
        rates: rates(&config.rates),
        mounts: config.mounts.iter().map(|m| mount(config, m, hooks)).collect(),
    }
}

fn rates(rates: &config::Rates) -> RateLimits {
    let rate = |rate: Option<config::Rate>| {
        rate.map(|rate| Rate::new(rate.amount as u64, rate.period, rate.burst.unwrap_or(rate.amount) as u64))
    };
    let scope =
        |messages, bytes, joins| Rates { messages: rate(messages), bytes: rate(bytes), joins: rate(joins) };
    RateLimits {
        connection: scope(rates.connection_messages, rates.connection_bytes, rates.connection_joins),
        user: scope(rates.user_messages, rates.user_bytes, rates.user_joins),
        address: scope(rates.address_messages, rates.address_bytes, rates.address_joins),
        refusals_max: u32::try_from(rates.refusals_max).unwrap_or(u32::MAX),
    }
}

/// What shards let in together, with the addresses as `shard` reads them.
pub(crate) fn admission(config: &Config, shard: &ShardConfig) -> Admission {
    Admission::new(
        shard.addresses.clone(),
        config.limits.connections_per_address_max,
        config.limits.connections_per_user_max,
        config.server.accepts_per_second_max,
    )
}

/// From which length on the messages of each mount are compressed.
pub(crate) fn compression(config: &Config) -> Compression {
    let least = |mount: &config::Mount| mount.compression.then_some(mount.compression_bytes_min);
    Compression::new(config.mounts.iter().map(least).collect())
}

fn encryption(mount: &config::Mount) -> Encryption {
    Encryption {
        mode: match mount.encryption {
            config::Encryption::Off => EncryptionMode::Off,
            config::Encryption::Optional => EncryptionMode::Optional,
            config::Encryption::Required => EncryptionMode::Required,
        },
        inbound: match mount.encryption_inbound {
            config::EncryptionInbound::Off => InboundEncryption::Off,
            config::EncryptionInbound::Accepted => InboundEncryption::Accepted,
            config::EncryptionInbound::Required => InboundEncryption::Required,
        },
        hkdf_info: mount.hkdf_info.as_str().into(),
    }
}

fn mount(config: &Config, mount: &config::Mount, hooks: &dyn Hooks) -> Mount {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let dialect = match mount.dialect {
        config::Dialect::Echo => Dialect::Echo,
        config::Dialect::Topic => Dialect::Topic(TopicSettings {
            auth_timeout_ms: ms(mount.auth_timeout),
            ping_interval_ms: ms(mount.ping_interval),
            starts_authenticated: config.auth.dev || config.auth.anonymous,
            auth_failures_max: u8::try_from(mount.auth_failures_max).unwrap_or(u8::MAX),
            topic_bytes_max: mount.topic_bytes_max,
            reserved_prefixes: mount.reserved_prefixes().map(Arc::from).collect(),
            // What is wrong with it was found by the check of the configuration.
            prefix: ChannelPrefix::parse(&mount.channel_prefix).unwrap_or_default(),
            requests_waiting_max: mount.requests_waiting_max,
            close_codes: match mount.close_codes {
                config::CloseCodes::Compat => CloseCodes::Compat,
                config::CloseCodes::Explicit => CloseCodes::Explicit,
            },
        }),
        config::Dialect::Ignis => Dialect::Ignis(IgnisSettings {
            default_rooms: mount.default_rooms.iter().map(|room| Arc::from(room.as_str())).collect(),
            auth_timeout_ms: ms(mount.auth_timeout),
            heartbeat_interval_ms: ms(mount.heartbeat_interval),
            heartbeat_timeout_ms: ms(mount.heartbeat_timeout),
            forward_messages: hooks.wants_messages(),
            tell_lifecycle: hooks.wants_lifecycle(),
            encryption: encryption(mount),
        }),
    };
    Mount {
        path: mount.path.clone(),
        dialect,
        origins: Origins { allowed: mount.origins.clone(), required: mount.origin_required },
        compression: mount.compression,
        messages: message::Limits {
            message_bytes_max: mount.message_bytes_max,
            fragments_max: u32::try_from(mount.fragments_max).unwrap_or(u32::MAX),
        },
        outbox_bytes_max: mount.outbox_bytes_max,
        outbox_messages_max: u32::try_from(mount.outbox_messages_max).unwrap_or(u32::MAX),
        slow_consumer: match mount.slow_consumer {
            config::SlowConsumer::DropNewest => SlowConsumer::DropNewest,
            config::SlowConsumer::DropOldest => SlowConsumer::DropOldest,
            config::SlowConsumer::Disconnect => SlowConsumer::Disconnect,
        },
        idle_timeout_ms: mount.idle_timeout.map_or(0, ms),
        send_pings: mount.send_pings,
    }
}
