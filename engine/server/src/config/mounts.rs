//! Rules about mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use shardcast_wire::ignis::RESERVED_PREFIX;
use shardcast_wire::topic::{ChannelPrefix, PrefixError, TENANT};

use super::Config;
use super::check::{Findings, overlap};
use super::key::KeyPath;
use super::keys::{Limits, Mount};
use super::values::{Choice, Dialect, Effect, Encryption, EncryptionInbound};

/// Mounts are numbered in a byte.
const MOUNTS_MAX: usize = 256;

/// Keys that only some dialects look at. `encryption` is refused elsewhere, since it promises something.
const KEYS_OF_DIALECTS: [(&[Dialect], &[&str]); 4] = [
    (
        &[Dialect::Ignis],
        &["default_rooms", "heartbeat_interval", "heartbeat_timeout", "encryption_inbound", "hkdf_info"],
    ),
    (&[Dialect::Ignis, Dialect::Topic], &["auth_timeout", "unlisted_rooms"]),
    (&[Dialect::Ignis, Dialect::Echo], &["send_pings"]),
    (
        &[Dialect::Topic],
        &[
            "channel_prefix",
            "reserved_channels",
            "topic_bytes_max",
            "snapshot_mode",
            "binary_mode",
            "snapshot_bytes_max",
            "auth_failures_max",
            "requests_waiting_max",
            "ping_interval",
            "close_codes",
        ],
    ),
];

/// A rule about mounts that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountRule {
    /// No mounts.
    #[error(
        "no mount: clients could not connect; add a [[mounts]] table, or remove the key for the default one"
    )]
    NoMount,
    /// A mount's path does not begin with `/`.
    #[error("{0:?} does not begin with \"/\"")]
    PathRelative(String),
    /// A mount's path that no request can have.
    #[error(
        "no request has the path {0:?}: a path has no \"?\", \"#\", \"\\\", space, \".\" or \"..\" segment, and \
         characters beyond ASCII are percent-encoded"
    )]
    PathUnreachable(String),
    /// Two mounts on one path.
    #[error("{0:?} is the path of another mount too; paths must differ")]
    PathTwice(String),
    /// A default room without a name.
    #[error("a room's name is empty")]
    RoomUnnamed,
    /// A default room whose name is longer than allowed.
    #[error("the room name {room:?} is longer than limits.room_name_bytes_max ({bytes_max} bytes)")]
    RoomNameLong {
        /// The name.
        room: String,
        /// The bound.
        bytes_max: usize,
    },
    /// A default room listed twice.
    #[error("the room {0:?} is listed twice")]
    RoomTwice(String),
    /// A default room whose name the dialect keeps for itself.
    #[error("the room name {0:?} begins with \"ws:\", which the ignis dialect keeps for itself")]
    RoomReserved(String),
    /// More default rooms than a connection may be in.
    #[error("{count} default rooms are more than limits.rooms_per_connection_max ({rooms_max})")]
    RoomsTooMany {
        /// How many.
        count: usize,
        /// The bound.
        rooms_max: usize,
    },
    /// A connection's outbox larger than all of them may be.
    #[error(
        "one connection's outbox may be larger than all together (limits.outbox_bytes_total_max); lower it"
    )]
    OutboxAboveTotal,
    /// Encryption of a dialect without.
    #[error("only the ignis dialect encrypts; remove this, or serve its clients on a mount of that dialect")]
    EncryptionUnknown,
    /// More mounts than a connection can name.
    #[error("{0} mounts are more than {MOUNTS_MAX}")]
    MountsTooMany(usize),
    /// An address that another listener has.
    #[error(
        "{0} is also an address of another listener (server.listen, server.tls_listen, admin.listen, another mount); give \
         the mount a port of its own"
    )]
    ListenShared(SocketAddr),
    /// A prefix of channels that is none.
    #[error("{0:?} cannot stand before topics: {1}")]
    ChannelPrefix(String, PrefixError),
    /// Every channel would be reserved.
    #[error(
        "{prefix:?} begins with {reserved:?}, which is kept from clients (always, or by reserved_channels)"
    )]
    PrefixReserved {
        /// The prefix.
        prefix: String,
        /// What it begins with.
        reserved: String,
    },
    /// Clients would be dropped before they are asked for a sign of life.
    #[error(
        "clients who only listen are asked for a sign of life every ping_interval ({0:?}), and would be dropped before; \
         make this longer, best twice as long, or \"0s\""
    )]
    IdleBeforePing(Duration),
    /// Everything begins with nothing.
    #[error("an empty text reserves every channel; remove it")]
    ReservedEmpty,
}

/// What works in a mount and is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountAdvice {
    /// Every web page may connect, and others can reach the listener.
    #[error(
        "{0} can be reached from other machines, and every web page may connect; list the pages' origins"
    )]
    OriginsOpen(SocketAddr),
    /// A second mount of a dialect that backends publish to.
    #[error("only the first ignis mount gets what backends publish; serve its clients on one path")]
    IgnisAgain,
    /// Something about encryption where nobody is encrypted.
    #[error("has no effect unless the mount's clients can be encrypted: set encryption")]
    EncryptionOff,
    /// A key of another dialect.
    #[error("has no effect: a mount of the {0} dialect does not look at it")]
    OtherDialect(&'static str),
    /// Clients may listen to what was not meant for them.
    #[error(
        "clients can subscribe to every channel of this Redis that no rule denies and that is not reserved, whoever \
         publishes there; set channel_prefix, or set \"deny\" and allow topics in auth.rooms or [[auth.rules]]"
    )]
    ChannelsOpen,
    /// The same, for every page that the developer looks at.
    #[error(
        "dev mode: every page in a browser on this machine can read every channel of this Redis that is not reserved, \
         whoever publishes there; set channel_prefix, list the pages in origins, or use a Redis without real data"
    )]
    ChannelsOpenToPages,
    /// Clients of one mount may listen to what is meant for those of another.
    #[error(
        "clients of this mount can name channels of the mount {path}, whose channel_prefix is {prefix:?}, and are not \
         asked for a tenant there; put what that begins with into reserved_channels, or change one of the prefixes"
    )]
    ChannelsShared {
        /// Path of the other.
        path: String,
        /// Its prefix.
        prefix: String,
    },
    /// Topics that the shard lets pass and the policy does not.
    #[error(
        "topics longer than limits.room_name_bytes_max ({0} bytes) are refused all the same; raise that too"
    )]
    TopicsShort(usize),
}

pub(super) fn check(config: &Config, findings: &mut Findings) {
    check_paths(config, findings);
    for (index, mount) in config.mounts.iter().enumerate() {
        check_listen(config, index, mount, findings);
        check_rooms(config, index, mount, findings);
        check_origins(config, index, mount, findings);
        check_outbox(config, index, mount, findings);
        check_encryption(index, mount, findings);
        check_dialect(config, index, mount, findings);
        check_topics(config, index, mount, findings);
    }
}

fn check_paths(config: &Config, findings: &mut Findings) {
    if config.mounts.is_empty() {
        findings.refuse(Mount::NAME, 0, "path", MountRule::NoMount.into());
    }
    if config.mounts.len() > MOUNTS_MAX {
        let rule = MountRule::MountsTooMany(config.mounts.len());
        findings.refuse(Mount::NAME, MOUNTS_MAX, "path", rule.into());
    }
    let ignis = config.mounts.iter().enumerate().filter(|(_, mount)| mount.dialect == Dialect::Ignis);
    for (index, _) in ignis.skip(1) {
        findings.advise(Mount::NAME, index, "dialect", MountAdvice::IgnisAgain.into());
    }
    let mut paths = BTreeSet::new();
    for (index, Mount { path, .. }) in config.mounts.iter().enumerate() {
        let unreachable =
            |c: char| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '\\' | '"' | '<' | '>' | '`');
        let dots = |segment: &str| matches!(segment, "." | "..");
        let rule = if !path.starts_with('/') {
            MountRule::PathRelative(path.clone())
        } else if path.contains(unreachable) || path.split('/').any(dots) {
            MountRule::PathUnreachable(path.clone())
        } else if !paths.insert(path) {
            MountRule::PathTwice(path.clone())
        } else {
            continue;
        };
        findings.refuse(Mount::NAME, index, "path", rule.into());
    }
}

/// Mounts, too, need an address each.
fn check_listen(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    let others = config.mounts[..index].iter().flat_map(|mount| &mount.listen);
    let others = || config.server.client_addresses().chain(&config.admin.listen).chain(others.clone());
    for (at, address) in mount.listen.iter().enumerate() {
        if others().chain(&mount.listen[..at]).any(|other| overlap(address, other)) {
            findings.refuse(Mount::NAME, index, "listen", MountRule::ListenShared(*address).into());
        }
    }
}

fn check_rooms(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    let Limits { room_name_bytes_max: bytes_max, rooms_per_connection_max: rooms_max, .. } = config.limits;
    let mut refuse = |rule: MountRule| findings.refuse(Mount::NAME, index, "default_rooms", rule.into());
    let count = mount.default_rooms.len();
    if count > rooms_max {
        refuse(MountRule::RoomsTooMany { count, rooms_max });
    }
    let mut seen = BTreeMap::new();
    for room in &mount.default_rooms {
        if room.is_empty() {
            refuse(MountRule::RoomUnnamed);
        } else if room.len() > bytes_max {
            refuse(MountRule::RoomNameLong { room: room.clone(), bytes_max });
        } else if mount.dialect == Dialect::Ignis && room.starts_with(RESERVED_PREFIX) {
            refuse(MountRule::RoomReserved(room.clone()));
        }
        let times = seen.entry(room).or_insert(0);
        *times += 1;
        if *times == 2 && !room.is_empty() {
            refuse(MountRule::RoomTwice(room.clone()));
        }
    }
}

fn check_origins(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    let mut addresses = config.server.client_addresses().chain(&mount.listen);
    let exposed = addresses.find(|address| !address.ip().is_loopback());
    if let Some(address) = exposed.filter(|_| mount.origins.is_empty()) {
        findings.advise(Mount::NAME, index, "origins", MountAdvice::OriginsOpen(*address).into());
    }
}

fn check_encryption(index: usize, mount: &Mount, findings: &mut Findings) {
    if mount.dialect != Dialect::Ignis {
        if mount.encryption != Encryption::Off {
            findings.refuse(Mount::NAME, index, "encryption", MountRule::EncryptionUnknown.into());
        }
    } else if mount.encryption == Encryption::Off && mount.encryption_inbound != EncryptionInbound::Off {
        findings.advise(Mount::NAME, index, "encryption_inbound", MountAdvice::EncryptionOff.into());
    }
}

fn check_outbox(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    if mount.outbox_bytes_max > config.limits.outbox_bytes_total_max {
        findings.refuse(Mount::NAME, index, "outbox_bytes_max", MountRule::OutboxAboveTotal.into());
    }
}

/// Keys that were set and that the mount's dialect does not look at.
fn check_dialect(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    let default = Config { mounts: vec![Mount::for_dialect(mount.dialect)], ..Config::default() };
    let unread = KEYS_OF_DIALECTS.iter().filter(|(dialects, _)| !dialects.contains(&mount.dialect));
    for &key in unread.flat_map(|(_, keys)| *keys) {
        let KeyPath { key: described, .. } = KeyPath::known(Mount::NAME, index, key);
        if (described.write)(config, index) != (described.write)(&default, 0) {
            let advice = MountAdvice::OtherDialect(mount.dialect.name());
            findings.advise(Mount::NAME, index, key, advice.into());
        }
    }
}

fn check_topics(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    if mount.dialect != Dialect::Topic {
        return;
    }
    let prefix = &mount.channel_prefix;
    if let Err(error) = ChannelPrefix::parse(prefix) {
        let rule = MountRule::ChannelPrefix(prefix.clone(), error);
        findings.refuse(Mount::NAME, index, "channel_prefix", rule.into());
    }
    if mount.reserved_channels.iter().any(String::is_empty) {
        findings.refuse(Mount::NAME, index, "reserved_channels", MountRule::ReservedEmpty.into());
    } else if let Some(reserved) = mount.reserved_prefixes().find(|name| prefix.starts_with(name)) {
        let rule = MountRule::PrefixReserved { prefix: prefix.clone(), reserved: reserved.to_owned() };
        findings.refuse(Mount::NAME, index, "channel_prefix", rule.into());
    }
    if mount.idle_timeout.is_some_and(|idle| idle <= mount.ping_interval) {
        let rule = MountRule::IdleBeforePing(mount.ping_interval);
        findings.refuse(Mount::NAME, index, "idle_timeout", rule.into());
    }
    let bytes_max = config.limits.room_name_bytes_max;
    if mount.topic_bytes_max > bytes_max {
        findings.advise(Mount::NAME, index, "topic_bytes_max", MountAdvice::TopicsShort(bytes_max).into());
    }
    check_open(config, index, mount, findings);
}

/// Whether clients can name channels that are not meant for them.
fn check_open(config: &Config, index: usize, mount: &Mount, findings: &mut Findings) {
    let is_open = config.redis.url.is_some() && mount.channel_prefix.is_empty();
    if config.auth.dev {
        // Nothing is denied to anyone.
        if is_open && mount.origins.is_empty() {
            let advice = MountAdvice::ChannelsOpenToPages;
            findings.advise(Mount::NAME, index, "channel_prefix", advice.into());
        }
        return;
    }
    if mount.unlisted_rooms != Effect::Allow {
        return;
    }
    if is_open {
        findings.advise(Mount::NAME, index, "unlisted_rooms", MountAdvice::ChannelsOpen.into());
    }
    let others = config.mounts.iter().filter(|other| other.dialect == Dialect::Topic);
    if let Some(other) = others.into_iter().find(|other| can_name_channels_of(mount, other)) {
        let (path, prefix) = (other.path.clone(), other.channel_prefix.clone());
        let advice = MountAdvice::ChannelsShared { path, prefix };
        findings.advise(Mount::NAME, index, "channel_prefix", advice.into());
    }
}

/// Whether clients of one topic mount can name channels that belong to another. Those of two mounts with the same prefix
/// belong to both.
fn can_name_channels_of(mount: &Mount, other: &Mount) -> bool {
    let (prefix, others) = (mount.channel_prefix.as_str(), other.channel_prefix.as_str());
    let (before, is_by_tenant) = match others.split_once(TENANT) {
        Some((before, _)) => (before, true),
        None => (others, false),
    };
    let is_within = before.starts_with(prefix) || is_by_tenant && prefix.starts_with(before);
    prefix != others
        && !prefix.contains(TENANT)
        && is_within
        && !mount.reserved_prefixes().any(|reserved| before.starts_with(reserved))
}
