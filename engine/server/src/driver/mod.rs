//! The only code that talks to monoio and the kernel on behalf of a shard: thin, and without decisions.
//!
//! A shard's thread runs one task a listener, one for the set of sockets, one for the mailbox's eventfd, and the
//! turn as the runtime's main future. monoio polls the main future when no task is left to run, so a turn comes
//! after every task of the same batch of completions. The shard and the sockets sit in one `RefCell` that is never
//! borrowed across an `await` (`docs/decisions/0003-shard-in-a-refcell.md`).

mod asks;
mod clock;
mod core;
pub mod files;
mod key_exchange;
pub mod listener;
mod listens;
mod pace;
mod readiness;
mod reserve;
mod secure;
mod sends;
mod socket;
mod turn;

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use asks::Asker;
pub use asks::Later;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use shardcast_shard::{MountId, Shard, ShardConfig, ShardId};
use tokio::sync::mpsc;

use crate::admission::Admission;
use crate::control::HandOff;
use crate::engine::Engine;
use crate::hooks::Hooks;
use crate::mailbox::{MailReceiver, MailSender};
use crate::tls::Acceptor;
use clock::Clock;
use core::{Core, Parts};
use listens::Listens;
use pace::Pace;
use readiness::Readiness;
use sends::Sends;
use socket::Door;
pub use turn::Ending;
use turn::{Ringer, Turns};

/// Completions a shard's ring can hold before the kernel must keep them aside.
const COMPLETIONS: u32 = 16_384;

/// How a shard talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// io_uring.
    Uring,
    /// epoll, where io_uring is not permitted.
    Epoll,
}

impl IoDriver {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// Whether this kernel and container let us use io_uring as the shards do.
    pub fn probe_uring() -> io::Result<()> {
        uring_builder().build(8).map(drop)
    }
}

fn uring_builder() -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    builder.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun().setup_cqsize(COMPLETIONS);
    builder
}

/// Everything one shard's thread needs.
pub struct ShardThread {
    /// Which shard.
    pub id: ShardId,
    /// Its bounds and mounts.
    pub config: Arc<ShardConfig>,
    /// Bound listeners, its own.
    pub listeners: Vec<TcpListener>,
    /// Bound listeners for TLS, its own.
    pub tls_listeners: Vec<TcpListener>,
    /// Bound listeners of mounts, its own: only the mount answers there.
    pub mount_listeners: Vec<(MountId, TcpListener)>,
    /// How TLS connections begin; there when they have a listener.
    pub tls: Option<Arc<Acceptor>>,
    /// Its mailbox.
    pub mail: MailReceiver,
    /// The way into its own mailbox, for late verdicts.
    pub home: MailSender,
    /// What the process shares.
    pub engine: Arc<Engine>,
    /// How many connections an address and a user hold.
    pub admission: Arc<Admission>,
    /// The application.
    pub hooks: Arc<dyn Hooks>,
    /// Questions that cannot be answered at once.
    pub later: Later,
    /// Plain HTTP requests.
    pub hand_offs: mpsc::Sender<HandOff>,
    /// How to talk to the kernel.
    pub io: IoDriver,
    /// How long to wait between two flushes, in percent of the last.
    pub flush_pace_percent: u32,
    /// Told when the shard accepts connections, or why it cannot.
    pub ready: crossbeam_channel::Sender<io::Result<()>>,
}

impl ShardThread {
    /// Runs the shard until it is drained or panics. Errors: the kernel gives us no ring or no epoll.
    pub fn run(&self) -> io::Result<Ending> {
        match self.io {
            IoDriver::Uring => {
                let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
                    .uring_builder(uring_builder())
                    .with_entries(4_096)
                    .enable_timer()
                    .build()?;
                runtime.block_on(self.serve(Sends::ring()?))
            }
            IoDriver::Epoll => {
                let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
                runtime.block_on(self.serve(Sends::Direct))
            }
        }
    }

    async fn serve(&self, sends: Sends) -> io::Result<Ending> {
        let clock = Clock::start();
        let readiness = Readiness::new()?;
        let mail_fd = socket::pollable(self.mail.wake_fd()?)?;
        let sockets_fd = socket::pollable(readiness.wake_fd()?)?;
        let core = Core::new(Parts {
            shard: Shard::new(self.id, self.config.clone(), random_seed(), clock.now()),
            clock,
            engine: self.engine.clone(),
            admission: self.admission.clone(),
            asker: Asker {
                shard: self.id,
                config: self.config.clone(),
                hooks: self.hooks.clone(),
                later: self.later.clone(),
                home: self.home.clone(),
                status: self.engine.status().clone(),
                audit: self.engine.audit().clone(),
            },
            listens: Listens::new(self.id, self.config.clone(), &self.engine),
            hand_offs: self.hand_offs.clone(),
            mail: self.mail.clone(),
            readiness,
            sends,
        });
        let turns = Rc::new(Turns::new(core, clock, self.engine.clone(), self.admission.clone()));
        reserve::fill();
        let plain = self.listeners.iter().map(|listener| (listener, Door::default()));
        let tls_door = Door { tls: self.tls.clone(), mount: None };
        let secure = self.tls_listeners.iter().map(|listener| (listener, tls_door.clone()));
        let own_door = |mount| Door { tls: None, mount: Some(mount) };
        let own = self.mount_listeners.iter().map(|(mount, listener)| (listener, own_door(*mount)));
        for (listener, door) in plain.chain(secure).chain(own) {
            let listener = monoio::net::TcpListener::from_std(listener.try_clone()?)?;
            monoio::spawn(turns.clone().until_over(socket::accept_loop(turns.clone(), listener, door)));
        }
        for (ringer, fd) in [(Ringer::Sockets, sockets_fd), (Ringer::Mail, mail_fd)] {
            monoio::spawn(turns.clone().until_over(socket::ring_loop(turns.clone(), ringer, fd)));
        }
        let status = &self.engine.status().shards[self.id.0 as usize];
        status.up.store(true, Ordering::Release);
        tracing::debug!(shard = self.id.0, io = self.io.name(), "shard up");
        // Nobody listens after the start of the process.
        drop(self.ready.send(Ok(())));
        let ending = turn::run(&turns, Pace::new(self.flush_pace_percent), status).await;
        status.up.store(false, Ordering::Release);
        Ok(ending)
    }
}

fn random_seed() -> u64 {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).expect("the kernel has random bytes");
    u64::from_ne_bytes(seed)
}
