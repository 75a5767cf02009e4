//! Every key of the configuration, described once.
//!
//! A line of `settings!` below gives a key's documentation, name, Rust type, form in TOML, bounds, default, and
//! whether a reload applies it (`live`).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::codec::{
    Address, Bounded, Bytes, Codec, Count, Hidden, List, Mismatch, Name, Optional, OrAuto, Pattern, Span,
    Switch, Text, Url, User,
};
use super::key::{Key, Rows, Section};
use super::{
    Auto, Dialect, IoDriver, LogFormat, LogLevel, RedisUrl, RoomPattern, Secret, SlowConsumer, TlsVersion, UserId,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether a key is marked `live`.
macro_rules! is_live {
    () => {
        false
    };
    (live) => {
        true
    };
}

/// Defines a section: its struct, its defaults, and the table of its keys.
///
/// The closure before `{` says where in a [`Config`](super::Config) the section lives; `rows`, in which list the
/// tables of a repeated section are; `holds`, which repeated section lives within this one.
macro_rules! settings {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $section:ident (
            $name:literal: |$config:ident, $index:ident| $place:expr
            $(; rows $rows:expr)? $(; holds $tables:ident: $tables_ty:ty)?
        ) {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $ty:ty as $codec:ty $([$bounds:expr])? = $default:expr $(, $live:ident)?;
            )+
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $($(#[doc = $doc])+ pub $key: $ty,)+
            $(#[doc = concat!("Its tables `[[", $name, ".", stringify!($tables), "]]`.")] pub $tables: $tables_ty,)?
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default,)+ $($tables: Default::default(),)? }
            }
        }

        impl $section {
            /// The section's dotted name.
            pub const NAME: &'static str = $name;

            /// The section's name, documentation and keys.
            const SECTION: Section = Section {
                name: Self::NAME,
                doc: &[$($section_doc),+],
                rows: settings!(@rows |$config| $($rows)?),
                keys: &[$(Key {
                    name: stringify!($key),
                    doc: &[$($doc),+],
                    live: is_live!($($live)?),
                    secret: <$codec as Codec>::SECRET,
                    expected: || {
                        let bounds = String::new();
                        $(
                            let [low, high] = [$bounds.start(), $bounds.end()].map(<$codec as Bounded>::bound);
                            let bounds = format!("{bounds}, from {low} to {high}");
                        )?
                        <$codec as Codec>::form(&bounds)
                    },
                    choices: <$codec as Codec>::choices,
                    set: |$config, $index, raw| {
                        let value = <$codec as Codec>::read(raw)?;
                        $(
                            if !<$codec as Bounded>::within(&value, &$bounds) {
                                return Err(Mismatch::of(raw));
                            }
                        )?
                        let _ = $index;
                        $place.$key = value;
                        Ok(())
                    },
                    copy: |to, from, $index| {
                        let _ = $index;
                        let value = {
                            let $config = from;
                            $place.$key.clone()
                        };
                        let $config = to;
                        $place.$key = value;
                    },
                    write: |$config, $index| {
                        let _ = $index;
                        <$codec as Codec>::write(&$place.$key)
                    },
                    show: |$config, $index| {
                        let _ = $index;
                        <$codec as Codec>::show(&$place.$key)
                    },
                },)+],
            };
        }
    };
    (@rows |$config:ident|) => { None };
    (@rows |$config:ident| $rows:expr) => {
        Some(Rows {
            count: |$config| $rows.len(),
            resize: |$config, count| $rows.resize_with(count, Default::default),
        })
    };
}

/// Every section, in the order of the reference page.
pub static SECTIONS: &[Section] = &[
    Server::SECTION,
    Tls::SECTION,
    TlsCertificate::SECTION,
    Admin::SECTION,
    Api::SECTION,
    Redis::SECTION,
    Limits::SECTION,
    Auth::SECTION,
    Token::SECTION,
    Mount::SECTION,
];

settings! {
    /// Sockets, threads and logging of the process.
    pub struct Server ("server": |config, index| config.server) {
        /// Addresses for clients, each `ip:port`; host names are not resolved. `0.0.0.0:8080` and `[::]:8080`
        /// stand for every interface.
        listen: Vec<SocketAddr> as List<Address> = vec![loopback(8080)];
        /// Addresses for clients that speak TLS (`wss`, `https`), in the same form; they need `tls.certificate`. With
        /// a proxy in front that ends TLS, leave it empty.
        tls_listen: Vec<SocketAddr> as List<Address> = Vec::new();
        /// Shards: threads that each own a share of the connections. `"auto"` is one for every core this process
        /// may run on.
        shards: Auto<usize> as OrAuto<Count> [1..=128] = Auto::Auto;
        /// Whether each shard stays on its own core. Turn off when other busy processes share the machine.
        pin: bool as Switch = true;
        /// How the shards talk to the kernel.
        io: IoDriver as Name<IoDriver> = IoDriver::Auto;
        /// How long a shard waits after it wrote to its connections before it writes again, in percent of the time
        /// the writing took, at most 20 ms. Messages that come meanwhile share a send: where messages come all the
        /// time, 50 saves some 40 % of the CPU time and adds a few milliseconds to the latest, 100 saves half. `0`
        /// never waits, and neither does a shard that writes for less than a millisecond at a time.
        flush_pace_percent: usize as Count [0..=1_000] = 0;
        /// How long a stop (SIGTERM) takes: connections are told to come back, spread evenly over this time, so
        /// that they do not return elsewhere all at once. `"0s"` closes them together.
        drain_period: Duration as Span [secs(0)..=secs(3600)] = secs(10), live;
        /// Connections the process accepts; beyond them new ones are refused. `"auto"` is what the limit on open
        /// files allows, less a reserve for the process itself.
        connections_max: Auto<usize> as OrAuto<Count> [1..=16_777_216] = Auto::Auto;
        /// How long a new connection has to send a complete HTTP request.
        handshake_timeout: Duration as Span [millis(100)..=secs(300)] = secs(10);
        /// Longest HTTP request head (request line and headers); longer ones are answered 431.
        head_bytes_max: usize as Bytes [KIB..=MIB] = 16 * KIB;
        /// How long a closing connection has to take what was still queued and to close its side.
        close_timeout: Duration as Span [millis(1)..=secs(60)] = secs(2);
        /// Form of the log lines on standard error.
        log_format: LogFormat as Name<LogFormat> = LogFormat::Human;
        /// Least severe level that is logged.
        log_level: LogLevel as Name<LogLevel> = LogLevel::Info, live;
    }
}

settings! {
    /// TLS on the addresses of `server.tls_listen`. SIGHUP reads the files again, even when no key changed: new
    /// connections get the new certificate, those that are open go on.
    pub struct Tls ("tls": |config, index| config.tls; holds certificates: Vec<TlsCertificate>) {
        /// File with the certificate and its chain, PEM, the server's own first.
        certificate: Option<String> as Optional<Text> = None, live;
        /// File with the certificate's private key, PEM (PKCS #8, PKCS #1 or SEC 1). Nobody but the server should be
        /// able to read it. Prefer ECDSA (P-256): an RSA signature costs a shard some twenty times as much.
        key: Option<String> as Optional<Text> = None, live;
        /// Oldest version that is spoken.
        min_version: TlsVersion as Name<TlsVersion> = TlsVersion::V12, live;
    }
}

settings! {
    /// A further certificate, for clients that ask (SNI) for one of the names in it; repeat the table for each. Who
    /// asks for any other name, or none, gets `tls.certificate`.
    pub struct TlsCertificate (
        "tls.certificates": |config, index| config.tls.certificates[index]; rows config.tls.certificates
    ) {
        /// File with the certificate and its chain, PEM. Required.
        certificate: String as Text = String::new(), live;
        /// File with its private key, PEM. Required.
        key: String as Text = String::new(), live;
    }
}

settings! {
    /// The private listener: Prometheus metrics, health and administration. It asks for no key, so keep it on an
    /// address that only operators reach.
    pub struct Admin ("admin": |config, index| config.admin) {
        /// Address, `ip:port`. `""` turns the listener off.
        listen: Option<SocketAddr> as Optional<Address> = Some(loopback(8081));
    }
}

settings! {
    /// The HTTP API through which backends publish, on the public listener.
    pub struct Api ("api": |config, index| config.api) {
        /// Bearer keys, any of which a backend sends as `Authorization: Bearer <key>`: one string or a list, so
        /// that a new key can be accepted before the old one goes. Without a key the API refuses every request,
        /// except in dev mode.
        key: Vec<Secret> as List<Hidden> = Vec::new(), live;
        /// Longest request body; longer ones are answered 413.
        body_bytes_max: usize as Bytes [KIB..=64 * MIB] = MIB;
    }
}

settings! {
    /// The link to other instances and to emitters. Its channels are those of Ignis and cannot be renamed.
    pub struct Redis ("redis": |config, index| config.redis) {
        /// Address of the server, `redis://[user:password@]host[:port][/database]`. `""` runs this instance alone.
        url: Option<RedisUrl> as Optional<Url> = None;
        /// Messages that may wait to be published while Redis is slow or away; beyond them a message is delivered
        /// on this instance only and counted.
        publish_queue_max: usize as Count [1..=16_777_216] = 65_536;
        /// Longest pause between attempts to reconnect; pauses double up to it, with jitter.
        reconnect_delay_max: Duration as Span [millis(100)..=secs(300)] = secs(5);
        /// How often a canary goes out through Redis and must come back for readiness to stay green.
        canary_interval: Duration as Span [millis(100)..=secs(300)] = secs(5);
    }
}

settings! {
    /// Bounds on memory and work, so that no client and no burst can take the process down.
    pub struct Limits ("limits": |config, index| config.limits) {
        /// Messages that may wait for one shard; beyond them a message for that shard is dropped and counted.
        mailbox_max: usize as Count [64..=16_777_216] = 65_536;
        /// Bytes queued for all slow connections together, whole process; beyond them `slow_consumer` applies to
        /// whoever has a backlog.
        outbox_bytes_total_max: usize as Bytes [MIB..=1024 * GIB] = GIB;
        /// Bytes of incomplete requests and messages of all connections together, whole process; the connection that
        /// crosses it is closed with 1013, or answered 503 when its request is not complete. As much again may be held
        /// by incomplete and unsent records of TLS, where the connection that crosses it just ends.
        input_bytes_total_max: usize as Bytes [MIB..=1024 * GIB] = 512 * MIB;
        /// Rooms a connection may be in; joins beyond them are ignored and counted.
        rooms_per_connection_max: usize as Count [1..=1_000_000] = 1_000;
        /// Rooms a shard may hold; joins that would make one more are ignored and counted.
        rooms_max: usize as Count [1..=1_000_000_000] = 10_000_000;
        /// Room checks a connection may have waiting; joins beyond them are ignored and counted.
        asks_per_connection_max: usize as Count [1..=255] = 64;
        /// Longest name of a room, in bytes of UTF-8; a dialect may set a lower bound of its own.
        room_name_bytes_max: usize as Bytes [16..=64 * KIB] = KIB;
        /// Authentication and room checks that the process may have waiting for an application; beyond them an
        /// authentication fails with an error and a join is ignored, and both are counted.
        asks_in_flight_max: usize as Count [1..=1_048_576] = 16_384;
        /// How long an application's check may take; then it counts as failed, and is counted.
        hook_timeout: Duration as Span [millis(1)..=secs(3600)] = secs(60);
    }
}

settings! {
    /// Who may connect, and to which rooms. Everything not allowed here is denied.
    pub struct Auth ("auth": |config, index| config.auth; holds tokens: Vec<Token>) {
        /// Dev mode: every token is accepted, its text is the user (unless the client names a `userId`), every
        /// room is allowed, and the API needs no key unless one is set. Only on loopback addresses, unless
        /// `insecure` is set.
        dev: bool as Switch = false, live;
        /// Allows dev mode on addresses that others can reach. Never in production.
        insecure: bool as Switch = false, live;
        /// Whether a client may authenticate without a token. It has no user, and the rooms of `auth.rooms`.
        anonymous: bool as Switch = false, live;
        /// Rooms that every authenticated client may join; `*` stands for any run of characters.
        rooms: Vec<RoomPattern> as List<Pattern> = Vec::new(), live;
    }
}

settings! {
    /// A token that is accepted, with its user and rooms; repeat the table for each.
    pub struct Token ("auth.tokens": |config, index| config.auth.tokens[index]; rows config.auth.tokens) {
        /// What the client sends as its token. Required, and different for each.
        token: Secret as Hidden = Secret::new(""), live;
        /// The user it stands for: a string, or a number when the backend addresses users by number. `""` gives
        /// the client no user.
        user: Option<UserId> as Optional<User> = None, live;
        /// Rooms it may join beyond those of `auth.rooms`; `*` stands for any run of characters.
        rooms: Vec<RoomPattern> as List<Pattern> = Vec::new(), live;
    }
}

settings! {
    /// Which dialect answers on which path; repeat the table for each. Without any there is one: ignis on `/ws`.
    pub struct Mount ("mounts": |config, index| config.mounts[index]; rows config.mounts) {
        /// Path of the WebSocket endpoint, compared exactly; it starts with `/`.
        path: String as Text = "/ws".to_owned();
        /// Protocol its clients speak.
        dialect: Dialect as Name<Dialect> = Dialect::Ignis;
        /// Rooms that every client joins when it has authenticated, in this order.
        default_rooms: Vec<String> as List<Text> = vec!["ws-default".to_owned(), "ws-notification".to_owned()];
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

impl Mount {
    /// The defaults of a mount that speaks `dialect`.
    pub fn for_dialect(dialect: Dialect) -> Self {
        let ignis = Self::default();
        match dialect {
            Dialect::Ignis => ignis,
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
