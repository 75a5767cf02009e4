//! The one page where all threads and queues of a process are wired.
//!
//! ```text
//!                    SIGTERM, SIGHUP                       Redis
//!                          │                                 │ pub/sub
//!                    ┌─────┴────┐                      ┌─────┴─────┐
//!                    │   main   │                      │ sc-redis  │ tokio; only with redis.url
//!                    └─────┬────┘                      └─────┬─────┘
//!                 stop ────┤                            mail │ ▲ publishes (bounded)
//!                    ┌─────┴─────┐  mail               ┌─────┴─┴───┐
//!                    │sc-control │────────────────────>│  router   │ by the directory
//!                    │tokio,hyper│<─ hand-offs ───────┐└─────┬─────┘
//!                    └───────────┘    (bounded)       │      │ mail (bounded, one eventfd a shard)
//!                    ┌───────────┐               ┌────┴──────┴─────┐
//!                    │sc-auth-0..│<─ asks ───────│  sc-shard-0..n  │ monoio, pinned, own listeners
//!                    │tokio      │── verdicts ──>│                 │
//!                    └───────────┘  (bounded)    └────────┬────────┘
//!                    ┌───────────┐  questions, events     │
//!       webhooks <───│ sc-hooks  │<───────────────────────┘
//!                    │tokio      │      (bounded)
//!                    └───────────┘ only with webhooks
//! ```
//!
//! With `audit.file` there is one more, `sc-audit`: everyone above puts events into its bounded queue, and it
//! answers nobody.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast_shard::{Mail, MountId, ShardId};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::audit::{self, Audit, AuditError};
use crate::config::{self, Config, Machine};
use crate::control::{self, Settings};
use crate::directory::Directory;
use crate::driver::{Ending, IoDriver, Later, ShardThread, listener};
use crate::engine::Engine;
use crate::hooks::{Background, Hooks};
use crate::mailbox::{MailReceiver, MailSender, mailbox};
use crate::pressure;
use crate::redis;
use crate::router::Router;
use crate::shard_config::{admission, compression, shard_config};
use crate::status::Status;
use crate::tls::Acceptor;
use crate::tls::material::MaterialError;
use crate::upstream::Upstream;

/// Plain HTTP connections on their way to the control plane.
const HAND_OFFS_MAX: usize = 1_024;
/// Host names that the hooks' worker looks up at once.
const LOOKUPS_MAX: usize = 4;
/// Between two attempts to post a drain into a full mailbox.
const DRAIN_RETRY: Duration = Duration::from_millis(10);

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} ({key}){}", hint(source))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The key that names it.
        key: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing would be served.
    #[error("no mount is configured: add a [[mounts]] table")]
    NoMounts,
    /// io_uring was demanded and is not there.
    #[error(
        "server.io is \"uring\", but io_uring is not usable here: {0}; run `shardcast doctor`, or set server.io = \"auto\""
    )]
    NoUring(io::Error),
    /// A certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(#[from] MaterialError),
    /// The Redis settings make no sense.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
    /// The audit log cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The kernel gives no threads, rings or descriptors.
    #[error("cannot start {what}: {source}")]
    Resources {
        /// What was to be started.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another process listens there: stop it or choose another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// A running process. Dropping it does not stop it: [`Server::drain`], then [`Server::join`].
pub struct Server {
    engine: Arc<Engine>,
    control: Arc<Settings>,
    addresses: Vec<SocketAddr>,
    tls_addresses: Vec<SocketAddr>,
    mount_addresses: Vec<(MountId, SocketAddr)>,
    tls: Option<Arc<Acceptor>>,
    admin_address: Option<SocketAddr>,
    listeners: Vec<TcpListener>,
    shards: Vec<JoinHandle<()>>,
    control_thread: JoinHandle<()>,
    redis_thread: Option<JoinHandle<()>>,
    hooks_thread: Option<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    drain_period: Duration,
}

impl Server {
    /// Binds, starts every thread and returns once the shards accept connections.
    pub fn start(config: &Config, hooks: Arc<dyn Hooks>) -> Result<Self, StartError> {
        if config.mounts.is_empty() {
            return Err(StartError::NoMounts);
        }
        let machine = Machine::detect();
        let shard_count = config.shard_count(&machine).min(ShardId::COUNT_MAX);
        let io = choose_io(config.server.io)?;
        let mut status = Status::new(Instant::now(), io.name(), shard_count);
        status.auth = hooks.status().unwrap_or_default();
        status.webhooks = hooks.webhooks();
        let status = Arc::new(status);
        status.memory_bytes_max.store(pressure::bytes_max(&config.limits).unwrap_or(0), Ordering::Release);
        let shard_config = Arc::new(shard_config(config, &machine, shard_count, hooks.as_ref()));
        let tls = acceptor(config, &status)?;
        let listeners = bind_all(&config.server.listen, "server.listen", shard_count)?;
        let tls_listeners = bind_all(&config.server.tls_listen, "server.tls_listen", shard_count)?;
        let mount_listeners = bind_mounts(config, shard_count)?;
        let mount_addresses = mount_listeners[0].iter();
        let mount_addresses = mount_addresses.filter_map(|(mount, l)| Some((*mount, l.local_addr().ok()?)));
        let mount_addresses = mount_addresses.collect();
        let [addresses, tls_addresses] = [&listeners, &tls_listeners]
            .map(|sets| sets[0].iter().filter_map(|l| l.local_addr().ok()).collect());
        let (admin, admin_address) = bind_admin(config.admin.listen)?;

        let (senders, receivers) = mailboxes(shard_count, config.limits.mailbox_max)?;
        let directory = Arc::new(Directory::new(config.mounts.len()));
        let router = Router::new(directory, senders.clone());
        let router = Arc::new(router.compressing(compression(config)));
        let (stop, stopped) = watch::channel(false);
        let server_id = uuid::Uuid::new_v4().to_string();
        let audit = Audit::start(config, &server_id)?;
        let ignis = config.mounts.iter().position(|m| m.dialect == config::Dialect::Ignis);
        let ignis = ignis.map(|index| MountId(index as u8));
        let topics = Arc::new(redis::Topics::of(config, status.clone()));
        let upstream = Arc::new(Upstream::new(&config.redis, status.clone()));
        let (redis, redis_thread) = if config.redis.url.is_some() && (ignis.is_some() || !topics.is_empty()) {
            let wiring = redis::Wiring {
                server_id: server_id.clone(),
                ignis,
                topics: topics.clone(),
                upstream: upstream.clone(),
                router: router.clone(),
                status: status.clone(),
            };
            let (handle, thread) = redis::spawn(&config.redis, wiring, stopped.clone())?;
            (Some(handle), Some(thread))
        } else {
            (None, None)
        };
        let engine = Engine::new(server_id, ignis, router, redis, status).audited(audit);
        let engine = Arc::new(engine.listening(upstream, topics));

        let (hand_offs, handed_off) = mpsc::channel(HAND_OFFS_MAX);
        let auth = auth_threads(config, &machine)?;
        let later = Later::new(&config.limits, engine.status().clone(), auth.handle().clone());
        if let Some(background) = hooks.background() {
            auth.spawn(background);
        }
        let admission = Arc::new(admission(config, &shard_config));
        let control = Arc::new(Settings::new(config));
        let control_thread = {
            let serve = control::serve(engine.clone(), control.clone(), handed_off, admin, stopped.clone());
            let pressure = pressure::watch(engine.status().clone());
            spawn("sc-control", move || run_control(serve, auth, pressure))?
        };
        let worker = hooks.worker(stopped);
        let hooks_thread = worker.map(|work| spawn("sc-hooks", move || run_worker(work))).transpose()?;
        let doors = listeners.iter().zip(&tls_listeners).zip(&mount_listeners);
        let starters = doors.zip(receivers).zip(senders).enumerate();
        let (ready, started) = crossbeam_channel::unbounded();
        let mut shards = Vec::new();
        for (index, ((((own, own_tls), own_mounts), mail), home)) in starters {
            let thread = ShardThread {
                id: ShardId(index as u8),
                config: shard_config.clone(),
                listeners: clone_all(own)?,
                tls_listeners: clone_all(own_tls)?,
                mount_listeners: clone_mounts(own_mounts)?,
                tls: tls.clone(),
                mail,
                home,
                engine: engine.clone(),
                admission: admission.clone(),
                hooks: hooks.clone(),
                later: later.clone(),
                hand_offs: hand_offs.clone(),
                io,
                flush_pace_percent: u32::try_from(config.server.flush_pace_percent).unwrap_or(u32::MAX),
                ready: ready.clone(),
            };
            let core = config.server.pin.then_some(index);
            shards.push(spawn(&format!("sc-shard-{index}"), move || run_shard(&thread, core))?);
        }
        for _ in 0..shard_count {
            let up = started.recv().map_err(|_| io::Error::other("a shard died while starting"));
            up.and_then(|up| up).map_err(|source| StartError::Resources { what: "a shard", source })?;
        }
        record_start(&engine, config);
        Ok(Self {
            engine,
            control,
            addresses,
            tls_addresses,
            mount_addresses,
            tls,
            admin_address,
            listeners: {
                let mounts = mount_listeners.into_iter().flatten().map(|(_, listener)| listener);
                listeners.into_iter().chain(tls_listeners).flatten().chain(mounts).collect()
            },
            shards,
            control_thread,
            redis_thread,
            hooks_thread,
            stop,
            drain_period: config.server.drain_period,
        })
    }

    /// What the process shares: emit, look, kick, status.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Where clients connect; ports are the real ones.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where clients connect with TLS; ports are the real ones.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls_addresses
    }

    /// Where only one mount answers; ports are the real ones.
    pub fn mount_addresses(&self) -> &[(MountId, SocketAddr)] {
        &self.mount_addresses
    }

    /// Where health and metrics are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Applies what a reload can change outside the hooks: certificates, API keys, dev mode, the drain period, what the
    /// audit log records; and opens the audit log again.
    ///
    /// # Errors
    /// A certificate cannot be used; nothing has changed.
    pub fn reload(&mut self, config: &Config) -> Result<(), MaterialError> {
        if let Some(tls) = &self.tls {
            tls.reload(&config.tls)?;
        }
        self.control.reload(config);
        self.engine.audit().reload(&config.audit);
        self.drain_period = config.server.drain_period;
        Ok(())
    }

    /// Stops accepting, turns readiness red and closes the connections with "come back" spread over the
    /// drain period. Returns at once.
    #[expect(clippy::disallowed_methods, reason = "the stopping thread waits, not a shard's")]
    pub fn drain(&self) {
        self.engine.status().draining.store(true, Ordering::Release);
        for listener in &self.listeners {
            // Waiting connections are refused; a listener that is gone already is as good.
            drop(socket2::SockRef::from(listener).shutdown(std::net::Shutdown::Both));
        }
        let period_ms = self.drain_period.as_millis() as u64;
        self.engine.audit().record(audit::Kind::Drain, || audit::Event::Drain { period_ms });
        for (shard, thread) in self.engine.router().shards().iter().zip(&self.shards) {
            while !shard.post(Mail::Drain { period_ms }) && !thread.is_finished() {
                std::thread::sleep(DRAIN_RETRY);
            }
        }
    }

    /// Waits for the shards to end after [`Server::drain`], then ends the other threads.
    pub fn join(self) {
        for shard in self.shards {
            drop(shard.join());
        }
        self.stop.send_replace(true);
        drop(self.control_thread.join());
        for thread in [self.redis_thread, self.hooks_thread].into_iter().flatten() {
            drop(thread.join());
        }
        self.engine.audit().finish(false);
    }
}

fn record_start(engine: &Engine, config: &Config) {
    let (version, io) = (env!("CARGO_PKG_VERSION"), engine.status().io_driver);
    let start = || audit::Event::Start { version, io, dev: config.auth.dev };
    engine.audit().record(audit::Kind::Start, start);
}

fn acceptor(config: &Config, status: &Status) -> Result<Option<Arc<Acceptor>>, MaterialError> {
    if config.server.tls_listen.is_empty() {
        return Ok(None);
    }
    let held_bytes_max = config.limits.input_bytes_total_max;
    Acceptor::new(&config.tls, held_bytes_max, status.tls.clone()).map(|acceptor| Some(Arc::new(acceptor)))
}

fn choose_io(wanted: config::IoDriver) -> Result<IoDriver, StartError> {
    match (wanted, IoDriver::probe_uring()) {
        (config::IoDriver::Epoll, _) => Ok(IoDriver::Epoll),
        (_, Ok(())) => Ok(IoDriver::Uring),
        (config::IoDriver::Uring, Err(error)) => Err(StartError::NoUring(error)),
        (config::IoDriver::Auto, Err(error)) => {
            tracing::warn!(%error, "io_uring is not permitted here; using epoll (run `shardcast doctor`)");
            Ok(IoDriver::Epoll)
        }
    }
}

/// One set of listeners a shard. The first bind of an address is exclusive for a moment, because the
/// kernel would let a second process of the same user share a port by mistake.
fn bind_all(
    addresses: &[SocketAddr],
    key: &'static str,
    shard_count: usize,
) -> Result<Vec<Vec<TcpListener>>, StartError> {
    let listen = |address: SocketAddr| move |source| StartError::Listen { address, key, source };
    let mut sets: Vec<Vec<TcpListener>> = (0..shard_count).map(|_| Vec::new()).collect();
    for &wanted in addresses {
        if wanted.port() != 0 {
            TcpListener::bind(wanted).map_err(listen(wanted))?;
        }
        let first = listener::bind(wanted).map_err(listen(wanted))?;
        let address = first.local_addr().map_err(listen(wanted))?;
        sets[0].push(first);
        for set in &mut sets[1..] {
            set.push(listener::bind(address).map_err(listen(address))?);
        }
    }
    Ok(sets)
}

/// The same for the ports of mounts.
fn bind_mounts(config: &Config, shard_count: usize) -> Result<Vec<Vec<(MountId, TcpListener)>>, StartError> {
    let mut sets: Vec<Vec<_>> = (0..shard_count).map(|_| Vec::new()).collect();
    for (index, mount) in config.mounts.iter().enumerate() {
        let bound = bind_all(&mount.listen, "mounts.listen", shard_count)?;
        for (set, listeners) in sets.iter_mut().zip(bound) {
            set.extend(listeners.into_iter().map(|listener| (MountId(index as u8), listener)));
        }
    }
    Ok(sets)
}

fn bind_admin(address: Option<SocketAddr>) -> Result<(Option<TcpListener>, Option<SocketAddr>), StartError> {
    let Some(address) = address else { return Ok((None, None)) };
    let listen = |source| StartError::Listen { address, key: "admin.listen", source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let real = listener.local_addr().map_err(listen)?;
    Ok((Some(listener), Some(real)))
}

fn mailboxes(count: usize, letters_max: usize) -> Result<(Vec<MailSender>, Vec<MailReceiver>), StartError> {
    let boxes: io::Result<Vec<_>> = (0..count).map(|_| mailbox(letters_max)).collect();
    let boxes = boxes.map_err(|source| StartError::Resources { what: "the mailboxes", source })?;
    Ok(boxes.into_iter().unzip())
}

fn clone_all(listeners: &[TcpListener]) -> Result<Vec<TcpListener>, StartError> {
    let clones: io::Result<_> = listeners.iter().map(TcpListener::try_clone).collect();
    clones.map_err(|source| StartError::Resources { what: "the listeners", source })
}

fn clone_mounts(listeners: &[(MountId, TcpListener)]) -> Result<Vec<(MountId, TcpListener)>, StartError> {
    let clones = listeners.iter().map(|(mount, listener)| Ok((*mount, listener.try_clone()?)));
    let clones: io::Result<_> = clones.collect();
    clones.map_err(|source| StartError::Resources { what: "the listeners", source })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map_err(|source| StartError::Resources { what: "a thread", source })
}

/// Runs a shard until it is drained; after a panic it is restarted empty and the others live on.
fn run_shard(thread: &ShardThread, core: Option<usize>) {
    if let (Some(index), Some(cores)) = (core, core_affinity::get_core_ids())
        && !cores.is_empty()
    {
        core_affinity::set_for_current(cores[index % cores.len()]);
    }
    let status = thread.engine.status();
    loop {
        match thread.run() {
            Ok(Ending::Drained) => return,
            Ok(Ending::Panicked) => {
                status.process.shards_restarted.fetch_add(1, Ordering::Relaxed);
                status.shards[thread.id.0 as usize].degraded.store(true, Ordering::Release);
                thread.engine.router().directory().forget_shard(thread.id);
                thread.engine.upstream().forget_shard(thread.id);
                tracing::error!(
                    shard = thread.id.0,
                    "a shard panicked and restarts empty; this is a bug in Shardcast"
                );
                if status.draining.load(Ordering::Acquire) {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(shard = thread.id.0, %error, "a shard cannot run");
                // Nobody listens any more unless the process is just starting.
                drop(thread.ready.send(Err(error)));
                return;
            }
        }
    }
}

/// The threads on which tokens are checked and hooks answer later.
fn auth_threads(config: &Config, machine: &Machine) -> Result<Runtime, StartError> {
    let next = AtomicUsize::new(0);
    let name = move || format!("sc-auth-{}", next.fetch_add(1, Ordering::Relaxed));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.enable_all().worker_threads(config.auth_threads(machine)).thread_name_fn(name);
    builder.build().map_err(|source| StartError::Resources { what: "the threads for authentication", source })
}

/// The control thread: HTTP, and a look at the memory now and then. It ends last of those that take part in answers, and
/// lets go of the `sc-auth` threads.
fn run_control(
    serve: impl Future<Output = ()>,
    auth: Runtime,
    pressure: impl Future<Output = ()> + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the kernel gives an epoll descriptor");
    runtime.block_on(async move {
        tokio::spawn(pressure);
        serve.await;
    });
    auth.shutdown_background();
}

/// The thread of a worker of the hooks: webhooks.
fn run_worker(work: Background) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(LOOKUPS_MAX).thread_name("sc-hooks-dns").build();
    let runtime = runtime.expect("the kernel gives an epoll descriptor");
    runtime.block_on(work);
    // A name that is still being looked up is nobody's business any more.
    runtime.shutdown_background();
}
