//! Every key of the configuration, described once.
//!
//! A line of `settings!` below gives a key's documentation, name, Rust type, form in TOML, bounds, default, and
//! whether a reload applies it (`live`).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::codec::{
    Address, Bounded, Bytes, Claim, Codec, Count, Hidden, List, Mismatch, Name, Optional, OrAuto, Pattern,
    Span, Switch, Template, Text, Url, User, WebAddress,
};
use super::key::{Key, Rows, Section};
use super::traffic::{Network, Per, Rate};
use super::url::Web;
use super::{
    AuditEvent, Auto, ClaimCondition, Effect, HttpUrl, IoDriver, JwtAlgorithm, LogFormat, LogLevel,
    ProxyProtocol, RedisUrl, RoomPattern, RoomTemplate, RuleAction, Secret, SecretEncoding, Subscribe,
    TlsVersion, UserId, WebhookHook,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// What the audit log records by default: all but what goes well all the time.
const AUDIT_EVENTS: [AuditEvent; 8] = [
    AuditEvent::AuthRefused,
    AuditEvent::JoinRefused,
    AuditEvent::ApiRefused,
    AuditEvent::Kick,
    AuditEvent::Reload,
    AuditEvent::Start,
    AuditEvent::Drain,
    AuditEvent::Stop,
];

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
/// tables of a repeated section are; `holds`, which repeated sections live within this one.
macro_rules! settings {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $section:ident (
            $name:literal: |$config:ident, $index:ident| $place:expr
            $(; rows $rows:expr)? $(; holds $tables:ident: $tables_ty:ty)*
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
            $(#[doc = concat!("Its tables `[[", $name, ".", stringify!($tables), "]]`.")] pub $tables: $tables_ty,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default,)+ $($tables: Default::default(),)* }
            }
        }

        impl $section {
            /// The section's dotted name.
            pub const NAME: &'static str = $name;

            /// The section's name, documentation and keys.
            pub(in crate::config) const SECTION: Section = Section {
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

// Behind the macro, which it uses.
mod mounts;

pub use mounts::Mount;

/// Every section, in the order of the reference page.
pub static SECTIONS: &[Section] = &[
    Server::SECTION,
    Tls::SECTION,
    TlsCertificate::SECTION,
    Admin::SECTION,
    Api::SECTION,
    Redis::SECTION,
    Limits::SECTION,
    Rates::SECTION,
    Auth::SECTION,
    Token::SECTION,
    Rule::SECTION,
    Jwt::SECTION,
    JwtKey::SECTION,
    Jwks::SECTION,
    Audit::SECTION,
    Webhooks::SECTION,
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
        /// Proxies and load balancers whose word is taken for the address of a client; from everybody else it is
        /// ignored. Never list a network that clients connect from.
        trusted_proxies: Vec<IpNet> as List<Network> = Vec::new();
        /// The header in which trusted proxies name the client: a list to which each appends, such as
        /// `X-Forwarded-For`, a header that holds one address, or `Forwarded` (RFC 7239). A proxy must not pass on
        /// what a client wrote there itself, unless it appends to it.
        client_address_header: String as Text = "X-Forwarded-For".to_owned();
        /// Whether trusted proxies begin each connection with a header of the PROXY protocol (v1 or v2), which names
        /// the client. Nobody else can connect then.
        proxy_protocol: ProxyProtocol as Name<ProxyProtocol> = ProxyProtocol::Off;
        /// Connections that the process accepts in a second, evenly; more wait in the kernel's queue.
        accepts_per_second_max: Option<usize> as Optional<Count> [1..=1_000_000] = None;
        /// Connections without a complete request head that the process holds at once, so that those who stall cannot
        /// take every place; one more is answered 503. `"auto"` is half of `connections_max`, at least 64.
        handshakes_max: Auto<usize> as OrAuto<Count> [1..=16_777_216] = Auto::Auto;
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
        /// able to read it. Prefer ECDSA (P-256): with RSA a handshake takes a shard three times as long.
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
        /// How messages to rooms of Ignis are heard. `"exact"` makes Redis send an instance only what its clients are to
        /// get, at the cost of a subscription for each room and client; a message that is published while a room's first
        /// member joins may be missed. Messages to one client or user always come by pattern. Topics of the topic dialect
        /// are always heard by name.
        subscribe: Subscribe as Name<Subscribe> = Subscribe::Patterns;
        /// Names in one SUBSCRIBE or UNSUBSCRIBE.
        subscribe_batch: usize as Count [1..=65_536] = 512;
        /// Channels that clients may want by name at once; a topic that would make one more is refused, a room is heard on
        /// this instance only. Both are counted. With more than this many subscribed, those that nobody wants any more do
        /// not linger.
        channels_max: usize as Count [1..=16_777_216] = 1_000_000;
        /// How long a channel stays subscribed after the last client left it, so that clients who come and go do not
        /// make Redis work.
        unsubscribe_linger: Duration as Span [millis(0)..=secs(300)] = secs(2);
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
        /// Memory of the process (resident) from which on new connections are answered 503, until it is 5 % below;
        /// those that are connected stay. `"auto"` is 80 % of the machine's memory or of the cgroup's limit.
        memory_bytes_max: Auto<Option<usize>> as OrAuto<Optional<Bytes>> [16 * MIB..=1024 * GIB] = Auto::Auto;
        /// Connections of one address, whole process; one more is answered 429 or 503. `127.0.0.1`, `::1`
        /// and `server.trusted_proxies` are not limited; behind a proxy the client's address counts, once it has sent its
        /// request.
        connections_per_address_max: Option<usize> as Optional<Count> [1..=16_777_216] = None;
        /// Connections of one user of a mount, whole process; one more is told `Too many connections` and closed with
        /// 1008. The older ones stay, so that two devices do not push each other out for ever.
        connections_per_user_max: Option<usize> as Optional<Count> [1..=1_000_000] = None;
        /// How many leading bits of an IPv6 address are one address to all limits: networks give a client at least
        /// a /64.
        ipv6_prefix_bits: usize as Count [32..=128] = 64;
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
    /// How much clients may send. What exceeds a rate is ignored and counted; the client is told
    /// `Rate limit exceeded` once a second, and closed with 1008 when it goes on. Messages count with pings, bytes are
    /// those of their payloads, joins the rooms asked for. After `burst` comes how much may be sent at once after a
    /// pause; without it that is one second's or minute's worth. Users and addresses are counted by each shard, so
    /// that one with connections on several shards may send that many times as much; `127.0.0.1`, `::1` and
    /// `server.trusted_proxies` are not limited as addresses.
    pub struct Rates ("rates": |config, index| config.rates) {
        /// Messages of a connection.
        connection_messages: Option<Rate> as Optional<Per<Count>> = None;
        /// Bytes of a connection. A message longer than the burst passes after a pause that is long enough.
        connection_bytes: Option<Rate> as Optional<Per<Bytes>> = None;
        /// Joins of a connection; allow for the rooms it joins at login.
        connection_joins: Option<Rate> as Optional<Per<Count>> = None;
        /// Messages of all connections of a user.
        user_messages: Option<Rate> as Optional<Per<Count>> = None;
        /// Bytes of all connections of a user.
        user_bytes: Option<Rate> as Optional<Per<Bytes>> = None;
        /// Joins of all connections of a user.
        user_joins: Option<Rate> as Optional<Per<Count>> = None;
        /// Messages of all connections of an address.
        address_messages: Option<Rate> as Optional<Per<Count>> = None;
        /// Bytes of all connections of an address.
        address_bytes: Option<Rate> as Optional<Per<Bytes>> = None;
        /// Joins of all connections of an address.
        address_joins: Option<Rate> as Optional<Per<Count>> = None;
        /// What a connection may have refused in 10 s; more closes it.
        refusals_max: usize as Count [0..=1_000_000] = 1_000;
    }
}

settings! {
    /// Who may connect, and to which rooms. Everything not allowed here is denied.
    pub struct Auth ("auth": |config, index| config.auth; holds tokens: Vec<Token>; holds rules: Vec<Rule>) {
        /// Dev mode: every token is accepted, its text is the user (unless the client names a `userId`), every
        /// room is allowed, and the API needs no key unless one is set; without `[[mounts]]` there is a topic mount as
        /// well. Only on loopback addresses, unless `insecure` is set.
        dev: bool as Switch = false, live;
        /// Allows dev mode on addresses that others can reach. Never in production.
        insecure: bool as Switch = false, live;
        /// Whether a client may authenticate without a token. It has no user, and the rooms of `auth.rooms`. In topic
        /// mounts every client is let in so as soon as it connects, and may show a token later; as in dev mode. Whether
        /// they are is decided at start.
        anonymous: bool as Switch = false, live;
        /// Rooms that every authenticated client may join, unless a table of `auth.rules` says otherwise; `*` stands
        /// for any run of characters.
        rooms: Vec<RoomPattern> as List<Pattern> = Vec::new(), live;
        /// Threads that check tokens and run what an application's hooks answer later. `"auto"` is a quarter of the
        /// cores this process may run on, at least one.
        threads: Auto<usize> as OrAuto<Count> [1..=64] = Auto::Auto;
        /// Whether a connection ends with the token it was let in by.
        disconnect_on_expiry: bool as Switch = true, live;
        /// How much earlier than its token a connection may end, at most a fifth of what is left of the token's
        /// life: tokens that expire together must not bring their clients back together.
        expiry_jitter: Duration as Span [secs(0)..=secs(3600)] = secs(30), live;
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
    /// Who may join which rooms; repeat the table for each rule. The first rule that fits decides. Where none does,
    /// `auth.rooms` and the rooms of the token decide, and what they do not allow is denied.
    pub struct Rule ("auth.rules": |config, index| config.auth.rules[index]; rows config.auth.rules) {
        /// The rooms it is about. `*` stands for any run of characters, `{user}` (or `{sub}`) for the client's own
        /// user and `{tenant}` for its tenant; a client without one does not fit. Required.
        rooms: Vec<RoomTemplate> as List<Template> = Vec::new(), live;
        /// Whether a client that fits may or may not.
        effect: Effect as Name<Effect> = Effect::Allow, live;
        /// What it is about.
        actions: Vec<RuleAction> as List<Name<RuleAction>> = vec![RuleAction::Join], live;
        /// Roles of which the client must have one; without any, all fit.
        roles: Vec<String> as List<Text> = Vec::new(), live;
        /// Users of which the client must be one; without any, all fit.
        users: Vec<UserId> as List<User> = Vec::new(), live;
        /// Claims that its token must make, all of them, each `name=value`; a name such as `app.plan` looks into
        /// objects, and a claim that is a list must hold the value.
        claims: Vec<ClaimCondition> as List<Claim> = Vec::new(), live;
    }
}

settings! {
    /// What a JSON Web Token must say, and what is read from it. Tokens are accepted once there is a key in
    /// `auth.jwt.keys` or `auth.jwt.jwks`.
    pub struct Jwt ("auth.jwt": |config, index| config.jwt; holds keys: Vec<JwtKey>; holds jwks: Vec<Jwks>) {
        /// Audiences of which a token must name one in `aud`. Without any, a token must have no `aud`.
        audience: Vec<String> as List<Text> = Vec::new(), live;
        /// Claims that every token must make. Without `exp` among them, tokens may be valid for ever.
        required: Vec<String> as List<Text> = vec!["exp".to_owned()], live;
        /// How far the clocks of this machine and the issuer may differ.
        leeway: Duration as Span [secs(0)..=secs(600)] = secs(10), live;
        /// The claim that is the user: a string, or a number when the backend addresses users by number. A name such
        /// as `app.id` looks into objects. `""` gives clients no user.
        user_claim: String as Text = "sub".to_owned(), live;
        /// The claim that has the roles: a list of strings, or one string with spaces between them.
        roles_claim: String as Text = "roles".to_owned(), live;
        /// The claim that is the tenant.
        tenant_claim: String as Text = "tenant".to_owned(), live;
        /// The claim that lists rooms the client may join, as `auth.rooms` does: a list of strings, or one string
        /// with spaces between them. `""`, the default, lets no token grant rooms.
        rooms_claim: String as Text = String::new(), live;
        /// Longest token; longer ones are refused unread.
        token_bytes_max: usize as Bytes [256..=64 * KIB] = 8 * KIB, live;
        /// How long a token that was found good is taken for good without another look, at most until it expires.
        /// `"0s"` checks each time.
        cache_ttl: Option<Duration> as Optional<Span> [secs(1)..=secs(3600)] = Some(secs(60)), live;
        /// Tokens that are remembered so.
        cache_entries_max: usize as Count [64..=1_048_576] = 8_192;
    }
}

settings! {
    /// A key that tokens are signed with; repeat the table for each. Give each one of `secret`, `secret_file`,
    /// `public_key` and `public_key_file`.
    pub struct JwtKey ("auth.jwt.keys": |config, index| config.jwt.keys[index]; rows config.jwt.keys) {
        /// A secret shared with the issuer, for HS256, HS384 and HS512, at least 32 bytes.
        secret: Secret as Hidden = Secret::new(""), live;
        /// A file that holds such a secret; one line break at its end does not count.
        secret_file: String as Text = String::new(), live;
        /// How the secret is written.
        secret_encoding: SecretEncoding as Name<SecretEncoding> = SecretEncoding::Text, live;
        /// The issuer's public key in PEM (`-----BEGIN PUBLIC KEY-----`): RSA, P-256, P-384 or Ed25519. In an
        /// environment variable `\n` may stand for a line break.
        public_key: String as Text = String::new(), live;
        /// A file that holds such a key.
        public_key_file: String as Text = String::new(), live;
        /// The key's id: tokens that name a key (`kid`) are checked with the one they name. `""` is for tokens that
        /// name none, or one that no key has.
        kid: String as Text = String::new(), live;
        /// The issuer (`iss`) whose tokens it signs. `""` is any that no other key is bound to.
        issuer: String as Text = String::new(), live;
        /// Algorithms that its tokens may be signed with. `[]` is all that a key of its kind is good for.
        algorithms: Vec<JwtAlgorithm> as List<Name<JwtAlgorithm>> = Vec::new(), live;
    }
}

settings! {
    /// A place an issuer publishes its keys at (a JWKS, RFC 7517); repeat the table for each. Keys are fetched again
    /// when a token names one that is not known, at most once in 30 s, and stay good for an hour after a fetch
    /// found them missing.
    pub struct Jwks ("auth.jwt.jwks": |config, index| config.jwt.jwks[index]; rows config.jwt.jwks) {
        /// Its address, `https:`; plain `http:` on this machine only. Required.
        url: String as WebAddress = String::new(), live;
        /// The issuer (`iss`) whose keys these are, exactly as its tokens write it. Required.
        issuer: String as Text = String::new(), live;
        /// Algorithms that its tokens may be signed with. `[]` is all that a key of its kind is good for.
        algorithms: Vec<JwtAlgorithm> as List<Name<JwtAlgorithm>> = Vec::new(), live;
        /// How often the keys are fetched.
        refresh_interval: Duration as Span [secs(10)..=secs(86_400)] = secs(600), live;
        /// How long a fetch may take.
        timeout: Duration as Span [millis(100)..=secs(60)] = secs(5), live;
        /// Allows plain `http:` to other machines: whoever is on the way can then sign tokens.
        insecure: bool as Switch = false, live;
    }
}

settings! {
    /// The audit log: a line of JSON for each refusal and for what operators did. It never holds a token, a key or a
    /// payload.
    pub struct Audit ("audit": |config, index| config.audit) {
        /// File that lines are appended to; it is made with mode 0640 and opened again on SIGHUP, for log rotation.
        /// `"-"` is standard output, `""` turns the log off.
        file: Option<String> as Optional<Text> = None;
        /// What is recorded.
        events: Vec<AuditEvent> as List<Name<AuditEvent>> = AUDIT_EVENTS.to_vec(), live;
        /// Events that may wait to be written; beyond them events are lost, which is counted and told by a line
        /// `lost`. A fourth of the places is for what operators do.
        queue_max: usize as Count [64..=1_048_576] = 8_192;
        /// Lines a second for what strangers can cause (refusals, authentication); beyond them the same happens, so
        /// that nobody fills the disk.
        rate_max: usize as Count [1..=1_000_000] = 1_000;
        /// Whether readiness turns red while lines cannot be written.
        required: bool as Switch = false;
    }
}

settings! {
    /// Questions and events for an application over HTTP: signed POST requests, see `docs/webhooks.md`.
    pub struct Webhooks ("webhooks": |config, index| config.webhooks) {
        /// Where they go, `https://host/path`. Plain `http://` only to loopback and private addresses, unless
        /// `insecure` is set.
        url: Option<HttpUrl> as Optional<Web> = None, live;
        /// What the application is asked and told. What is listed it decides alone; the rest is decided by this file.
        hooks: Vec<WebhookHook> as List<Name<WebhookHook>> = Vec::new();
        /// Keys that requests are signed with, each `whsec_` and the base64 of 24 to 64 random bytes: one string or a
        /// list. Each request carries a signature of every key, so that the application can change from one to the next.
        secret: Vec<Secret> as List<Hidden> = Vec::new(), live;
        /// Allows plain `http://` to any address or name. Whoever is on the way can read tokens and let anybody in.
        insecure: bool as Switch = false, live;
        /// How long a request may take, from connecting to the last byte of the answer; and how long a question may
        /// wait for its turn before that.
        timeout: Duration as Span [millis(10)..=secs(60)] = secs(5), live;
        /// Longest answer that is read; a longer one counts as failed.
        answer_bytes_max: usize as Bytes [256..=MIB] = 64 * KIB, live;
        /// Requests under way at once, for `authenticate` and for `rooms` each; further questions wait.
        concurrency_max: usize as Count [1..=4_096] = 64;
        /// Questions that may wait for their turn, for `authenticate` and for `rooms` each; beyond them a question
        /// fails at once, and is counted.
        waiting_max: usize as Count [1..=1_048_576] = 8_192;
        /// Bytes of questions that may wait, for `authenticate` and for `rooms` each; beyond them a question fails at
        /// once, and is counted.
        waiting_bytes_max: usize as Bytes [64 * KIB..=64 * GIB] = 64 * MIB;
        /// Events (`message`, `connected`, `disconnected`) that may wait; beyond them an event is dropped and counted.
        events_waiting_max: usize as Count [4..=16_777_216] = 65_536;
        /// Bytes of events that may wait; beyond them an event is dropped and counted.
        events_waiting_bytes_max: usize as Bytes [64 * KIB..=64 * GIB] = 64 * MIB;
        /// Most events of one request. Those that wait go together; none waits for others.
        batch_max: usize as Count [1..=10_000] = 100, live;
        /// How often a request with events is repeated, under the same `webhook-id`, when it failed. Questions are
        /// never repeated.
        retries: usize as Count [0..=100] = 5, live;
        /// After so many requests in a row that found the application out of order (no connection, no answer in time,
        /// 429, 502, 503, 504), no more are sent for `breaker_pause`.
        breaker_failures: usize as Count [1..=100_000] = 10, live;
        /// How long nothing is sent once the breaker is open; then one request tries.
        breaker_pause: Duration as Span [millis(10)..=secs(3600)] = secs(5), live;
    }
}

impl Jwt {
    /// Whether there is a key, or a place to get some.
    pub fn is_used(&self) -> bool {
        !self.keys.is_empty() || !self.jwks.is_empty()
    }
}
