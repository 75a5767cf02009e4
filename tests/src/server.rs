//! A Shardcast server inside the test's process: on free ports, drained and joined on drop.
//!
//! Its counters are read as a map from name to number, so that a test can compare all of them: what moved and what
//! did not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use shardcast::application::Application;
use shardcast::config::{Auto, Config, Dialect, Mount, RedisUrl};
use shardcast::engine::{Emit, Engine};
use shardcast::hooks::Hooks;
use shardcast::status::{AuthStatus, ProcessCounters, Status};
use shardcast::threads::Server;
use shardcast::tls::counters::Failure;
use shardcast::tls::material::MaterialError;
use shardcast_shard::{Counters, RefusalReason};
use shardcast_wire::ignis::{ClientId, Destination, Payload};
use shardcast_wire::message::Violation;
use shardcast_wire::topic::RequestError;

use crate::client::Client;
use crate::cost::Meter;
use crate::process::POLL_INTERVAL;

/// How long anything may take that a busy machine still does in a second.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Path of the Ignis mount.
pub const WS: &str = "/ws";

/// Path of the echo mount, where [`with_echo`] adds one.
pub const ECHO: &str = "/echo";

/// What a server counts while everything goes well, and gauges of the present. Every other counter tells of an
/// incident. A peer that leaves may miss what was on its way to it: how much is a race, not an incident.
const ORDINARY: &[&str] = &[
    "accepted",
    "api_emitted",
    "auth_accepted",
    "bytes_inflated",
    "bytes_received",
    "bytes_sent",
    "clients",
    "conns",
    "deflate_agreed",
    "deflating",
    "dropped_disconnected",
    "encrypted",
    "encryption_deferred",
    "frames_sent",
    "handed_off",
    "handshakes",
    "input_bytes",
    "joins",
    "jwks_fetches",
    "leaves",
    "messages_decrypted",
    "messages_encrypted",
    "messages_inflated",
    "messages_received",
    "outbox_bytes",
    "pings_sent",
    "proxied",
    "published",
    "redis_own",
    "redis_published",
    "redis_received",
    "rooms",
    "short_writes",
    "tls_conns",
    "tls_handshakes",
    "tls_held_bytes",
    "tls_resumed",
    "token_cache_hits",
    "tokens_checked",
    "turns",
    "upgraded",
];

/// Gauges that say whether anybody is there.
const PRESENCE: [&str; 10] = [
    "clients",
    "conns",
    "deflating",
    "encrypted",
    "handshakes",
    "input_bytes",
    "outbox_bytes",
    "rooms",
    "tls_conns",
    "tls_held_bytes",
];

/// Dev mode on free loopback ports, two shards that share the machine with other tests, no timeout that a busy
/// machine reaches, and a stop without delay.
pub fn config() -> Config {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::default();
    config.server.listen = vec![any_port];
    config.server.shards = Auto::Fixed(2);
    config.server.pin = false;
    config.server.drain_period = Duration::ZERO;
    config.server.handshake_timeout = 3 * PATIENCE;
    config.admin.listen = Some(any_port);
    config.auth.dev = true;
    config.mounts[0].auth_timeout = 3 * PATIENCE;
    config
}

/// The same with one shard, so that whoever connects shares it.
pub fn one_shard() -> Config {
    let mut config = config();
    config.server.shards = Auto::Fixed(1);
    config
}

/// Adds an echo mount at [`ECHO`], with bounds no test reaches by accident.
pub fn with_echo(mut config: Config) -> Config {
    config.mounts.push(Mount { path: ECHO.to_owned(), ..Mount::for_dialect(Dialect::Echo) });
    config
}

/// Links the server to Redis, with a canary frequent enough to wait for.
pub fn with_redis(mut config: Config, url: &str) -> Config {
    config.redis.url = Some(RedisUrl::new(url));
    config.redis.canary_interval = Duration::from_millis(200);
    config.redis.reconnect_delay_max = Duration::from_millis(200);
    config
}

/// A running server.
pub struct TestServer {
    /// `None` once stopped.
    server: Option<Server>,
    meter: Arc<Meter>,
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
}

impl TestServer {
    /// Starts a server with the rules of `config`, as the binary does.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(config: &Config) -> Self {
        let application = Application::new(config).unwrap_or_else(|error| panic!("no webhooks: {error}"));
        Self::with_hooks(config, application.hooks())
    }

    /// Starts a server with hooks of the test.
    ///
    /// # Panics
    /// When it does not start.
    pub fn with_hooks(config: &Config, hooks: Arc<dyn Hooks>) -> Self {
        let meter = Arc::new(Meter::new());
        let server = meter.charge(|| Server::start(config, hooks));
        let server = server.unwrap_or_else(|error| panic!("no server: {error}"));
        let address = *server.addresses().first().expect("an address for clients");
        let admin_address = server.admin_address();
        Self { server: Some(server), meter, address, admin_address }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect with TLS.
    ///
    /// # Panics
    /// When the configuration has none.
    pub fn tls_address(&self) -> SocketAddr {
        *self.server().tls_addresses().first().expect("an address for TLS")
    }

    /// The first port of a mount's own.
    ///
    /// # Panics
    /// When no mount has one.
    pub fn mount_address(&self) -> SocketAddr {
        self.server().mount_addresses().first().expect("a port of a mount's own").1
    }

    /// Reads the certificates and what else a reload applies again.
    ///
    /// # Errors
    /// They cannot be used, and nothing has changed.
    pub fn reload(&mut self, config: &Config) -> Result<(), MaterialError> {
        self.server.as_mut().expect("the server runs until it is dropped").reload(config)
    }

    /// Where health and metrics are.
    ///
    /// # Panics
    /// When the configuration turned the listener off.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address.expect("an admin listener")
    }

    /// What the server's threads share.
    pub fn engine(&self) -> &Arc<Engine> {
        self.server().engine()
    }

    /// What the server costs: its threads, and what is emitted through it here.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Begins the drain.
    pub fn drain(&self) {
        self.server().drain();
    }

    /// Connects a client to the Ignis mount and authenticates it; returns it with its id.
    pub fn client(&self, user_id: &str) -> (Client, String) {
        let mut client = Client::connect(self.address, WS);
        let data = client.authenticate("token", user_id);
        let id = data["id"].as_str().expect("a client id").to_owned();
        (client, id)
    }

    /// One client on each of two shards, in order of the shards: the kernel chooses, so this tries.
    ///
    /// # Panics
    /// When the kernel never chooses one of the shards.
    pub fn clients_on_two_shards(&self) -> [(Client, String); 2] {
        let mut found = [None, None];
        for _ in 0..200 {
            let (client, id) = self.client("spread");
            let known = ClientId::parse(&id).and_then(|id| self.engine().router().directory().client(id));
            let (_, at) = known.expect("a connected client is in the directory");
            found[usize::from(at.shard.0)].get_or_insert((client, id));
            if let [Some(_), Some(_)] = found {
                return found.map(|client| client.expect("just seen"));
            }
        }
        panic!("200 connections all went to one shard");
    }

    /// Emits through the engine, as the API does.
    ///
    /// # Panics
    /// When `data` is not JSON.
    pub fn emit(&self, to: Destination<'_>, event: &str, data: &str) {
        self.meter.charge(|| emit(self.engine(), to, event, data));
    }

    /// The counters as of a report made after this call: what a client has seen happen is in it.
    ///
    /// # Panics
    /// When a shard stops reporting.
    pub fn counts(&self) -> Counts {
        let status = self.engine().status();
        let deadline = Instant::now() + PATIENCE;
        let mut shards = Vec::new();
        for shard in &status.shards {
            let before = shard.counters().turns;
            shards.push(loop {
                let report = shard.counters();
                if report.turns > before {
                    break report;
                }
                assert!(Instant::now() < deadline, "a shard has not reported for {PATIENCE:?}");
                thread::sleep(POLL_INTERVAL);
            });
        }
        Counts::new(&shards, status)
    }

    /// Waits until the counters are as `wanted`, and returns them.
    ///
    /// # Panics
    /// When they do not become so; `what` names what was waited for.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&Counts) -> bool) -> Counts {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.counts();
            if wanted(&counts) {
                return counts;
            }
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; counters: {counts:?}");
        }
    }

    /// Waits until the link to Redis carries messages.
    ///
    /// # Panics
    /// When there is no link, or it does not work.
    pub fn wait_until_ready(&self) {
        let redis = self.engine().redis().expect("a link to Redis");
        let deadline = Instant::now() + PATIENCE;
        while !redis.status().ready {
            assert!(Instant::now() < deadline, "not ready: {:?}", redis.status());
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Waits until whoever came after `before` is gone again, and then exactly these incidents must have been
    /// counted since, each this often. Returns the counters, for the next comparison.
    ///
    /// # Panics
    /// When other counters moved, too few did, or somebody stays.
    pub fn expect_incidents(&self, label: &str, before: &Counts, expected: &[(&str, u64)]) -> Counts {
        let expected: BTreeMap<_, _> =
            expected.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.counts();
            let incidents = now.incidents_since(before);
            let settled = PRESENCE.iter().all(|name| now.of(name) == before.of(name));
            if settled && incidents == expected {
                return now;
            }
            assert!(
                Instant::now() < deadline,
                "{label}: incidents {incidents:?} instead of {expected:?}; presence {:?}, was {:?}",
                PRESENCE.map(|name| (name, now.of(name))),
                PRESENCE.map(|name| (name, before.of(name))),
            );
        }
    }

    /// Waits until nobody is connected and nothing is left of whoever was.
    ///
    /// # Panics
    /// When something stays.
    pub fn expect_empty(&self, label: &str) {
        let directory = self.engine().router().directory();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.counts();
            let known = [directory.clients_len(), directory.users_len(), directory.rooms_len()];
            if PRESENCE.iter().all(|name| counts.of(name) == 0) && known == [0; 3] {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{label}: left behind: {:?}; clients, users, rooms of the directory {known:?}",
                PRESENCE.map(|name| (name, counts.of(name))),
            );
        }
    }

    /// Drains, and waits until every thread has ended.
    ///
    /// # Panics
    /// When they do not end.
    pub fn stop(mut self) {
        assert!(self.end(), "the server did not end within {PATIENCE:?}");
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs until it is dropped")
    }

    fn end(&mut self) -> bool {
        let Some(server) = self.server.take() else { return true };
        server.drain();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            server.join();
            if done.send(()).is_err() {
                eprintln!("the server ended after all");
            }
        });
        ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.end() {
            assert!(thread::panicking(), "the server did not end within {PATIENCE:?}");
            eprintln!("the server did not end within {PATIENCE:?}");
        }
    }
}

/// Emits through `engine`; see [`TestServer::emit`].
///
/// # Panics
/// When `data` is not JSON.
pub fn emit(engine: &Engine, to: Destination<'_>, event: &str, data: &str) {
    emit_except(engine, to, event, data, &[]);
}

/// The same without some clients.
///
/// # Panics
/// When `data` is not JSON.
pub fn emit_except(engine: &Engine, to: Destination<'_>, event: &str, data: &str, exclude: &[&str]) {
    let payload = Payload::new(event, Some(data)).expect("data is JSON");
    let exclude = exclude.iter().map(|&id| id.to_owned()).collect();
    engine.emit(&Emit { to, payload, exclude }).expect("an Ignis mount");
}

/// Everything a server counts, by name: fields of the shards summed, `violations.<kind>`,
/// `auth_refused.<reason>`, `requests_malformed.<reason>`, `refused_heads.<reason>`, and the process' own.
#[derive(Clone, PartialEq, Eq)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    fn new(shards: &[Counters], status: &Status) -> Self {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for shard in shards {
            for ((name, _), value) in Counters::FIELDS.iter().zip(shard.values()) {
                *counts.entry((*name).to_owned()).or_default() += value;
            }
            for violation in Violation::ALL {
                let name = format!("violations.{}", violation.name());
                *counts.entry(name).or_default() += shard.violations[violation.index()];
            }
            for reason in RefusalReason::ALL {
                let name = format!("auth_refused.{}", reason.name());
                *counts.entry(name).or_default() += shard.auth_refused[reason.index()];
            }
            for error in RequestError::ALL {
                let name = format!("requests_malformed.{}", error.name());
                *counts.entry(name).or_default() += shard.requests_malformed[error.index()];
            }
            for (reason, value) in shard.refused_heads() {
                *counts.entry(format!("refused_heads.{reason}")).or_default() += value;
            }
        }
        let tls = &status.tls;
        for (name, counter) in [("tls_handshakes", &tls.handshakes), ("tls_resumed", &tls.resumed)] {
            counts.insert(name.to_owned(), counter.load(Ordering::Relaxed));
        }
        counts.insert("tls_conns".to_owned(), tls.connections.load(Ordering::Relaxed));
        counts.insert("tls_held_bytes".to_owned(), tls.held_bytes());
        for failure in Failure::ALL {
            counts.insert(format!("tls_failures.{}", failure.name()), tls.failures(failure));
        }
        for (name, counter) in
            process_counters(&status.process).into_iter().chain(auth_counters(&status.auth))
        {
            counts.insert(name.to_owned(), counter.load(Ordering::Relaxed));
        }
        Self(counts)
    }

    /// The counter of that name.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no counter is named {name}"))
    }

    /// The counters that tell of incidents and moved since `before`, with how far.
    pub fn incidents_since(&self, before: &Self) -> BTreeMap<String, u64> {
        let moved = self.0.iter().map(|(name, now)| (name.clone(), now.wrapping_sub(before.of(name))));
        moved.filter(|(name, by)| *by != 0 && !ORDINARY.contains(&name.as_str())).collect()
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().filter(|(_, value)| **value != 0)).finish()
    }
}

fn process_counters(process: &ProcessCounters) -> [(&'static str, &AtomicU64); 25] {
    // Taken apart, so that a counter that is added cannot be forgotten here.
    let ProcessCounters {
        redis_received,
        redis_own,
        redis_malformed,
        redis_published,
        redis_local_only,
        redis_publish_failed,
        redis_gaps,
        redis_resubscribes,
        redis_subscribe_errors,
        redis_listens_refused,
        redis_listens_local_only,
        topic_dropped_size,
        topic_dropped_binary,
        asks_refused,
        hooks_panicked,
        hooks_timed_out,
        accepts_shed,
        accepts_delayed,
        shed_memory,
        shed_address,
        hand_offs_refused,
        shards_restarted,
        joins_refused_policy,
        api_unauthorized,
        api_emitted,
    } = process;
    [
        ("redis_received", redis_received),
        ("redis_own", redis_own),
        ("redis_malformed", redis_malformed),
        ("redis_published", redis_published),
        ("redis_local_only", redis_local_only),
        ("redis_publish_failed", redis_publish_failed),
        ("redis_gaps", redis_gaps),
        ("redis_resubscribes", redis_resubscribes),
        ("redis_subscribe_errors", redis_subscribe_errors),
        ("redis_listens_refused", redis_listens_refused),
        ("redis_listens_local_only", redis_listens_local_only),
        ("topic_dropped_size", topic_dropped_size),
        ("topic_dropped_binary", topic_dropped_binary),
        ("asks_refused", asks_refused),
        ("hooks_panicked", hooks_panicked),
        ("hooks_timed_out", hooks_timed_out),
        ("accepts_shed", accepts_shed),
        ("accepts_delayed", accepts_delayed),
        ("shed_memory", shed_memory),
        ("shed_address", shed_address),
        ("hand_offs_refused", hand_offs_refused),
        ("shards_restarted", shards_restarted),
        ("joins_refused_policy", joins_refused_policy),
        ("api_unauthorized", api_unauthorized),
        ("api_emitted", api_emitted),
    ]
}

fn auth_counters(auth: &AuthStatus) -> [(&'static str, &AtomicU64); 5] {
    let AuthStatus { cache_hits, tokens_checked, jwks_fetches, jwks_failures, jwks_keys_ignored, jwks: _ } =
        auth;
    [
        ("token_cache_hits", cache_hits),
        ("tokens_checked", tokens_checked),
        ("jwks_fetches", jwks_fetches),
        ("jwks_failures", jwks_failures),
        ("jwks_keys_ignored", jwks_keys_ignored),
    ]
}
