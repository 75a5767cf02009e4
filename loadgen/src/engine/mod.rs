//! The connections: one thread per core given, each with an epoll loop and books of its own.
//!
//! Threads share nothing but the gauges here, which they write once per loop; the publisher and the progress
//! display read them. What a thread found out is handed over once, when it ends.
//!
//! Invariant: connection `i` belongs to thread `i % threads` and joins rooms `(i * k + j) % rooms`, `j < k`, so that
//! rooms are equally full.

mod conn;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};

use mio::{Poll, Token, Waker};
use thiserror::Error;

use crate::latency::Latencies;
use crate::ledger::Ledger;
use crate::scenario::{Clients, Target};
use crate::tracker::Tracker;

use self::worker::Worker;

const WAKER: Token = Token(usize::MAX);
/// How many different reasons are told apart; servers may put anything into them.
const REASONS_MAX: usize = 32;

/// What all threads need to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) clients: Clients,
    /// Tells the publications of this run from those of others.
    pub(crate) run: u32,
    /// Bytes of a message that carries a stamp, 0 when none will come.
    pub(crate) message_bytes: usize,
}

impl Settings {
    /// Memberships in all, as many as there will be probes booked.
    pub(crate) fn memberships(&self) -> u64 {
        u64::from(self.clients.connections) * u64::from(self.clients.rooms_per_connection)
    }

    /// Which of so many threads have members in each room, by thread and room.
    pub(crate) fn threads_with_members(&self, threads: usize) -> Vec<Vec<bool>> {
        let mut table = vec![vec![false; self.clients.rooms.len()]; threads];
        for connection in 0..self.clients.connections {
            let thread = &mut table[connection as usize % threads];
            self.rooms_of(connection).for_each(|room| thread[room as usize] = true);
        }
        table
    }

    /// The rooms a connection joins.
    fn rooms_of(&self, connection: u32) -> impl Iterator<Item = u32> + use<> {
        let room_count = self.clients.rooms.len() as u64;
        let first = u64::from(connection) * u64::from(self.clients.rooms_per_connection);
        // Less than the number of rooms, so it fits; no room, no membership.
        (first..)
            .take(self.clients.rooms_per_connection as usize)
            .map(move |place| (place % room_count) as u32)
    }
}

/// What a thread shows while it runs; on a cache line of its own, for it alone writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Gauges {
    /// The kernel's id of the thread, 0 until it runs.
    pub(crate) thread_id: AtomicU32,
    /// Logged in, with the request to join on its way.
    pub(crate) live: AtomicU32,
    /// Never became live.
    pub(crate) failed: AtomicU32,
    /// Ended after they were live.
    pub(crate) lost: AtomicU32,
    /// Memberships that received a probe.
    pub(crate) probed: AtomicU64,
    /// First copies received.
    pub(crate) delivered: AtomicU64,
    /// The number below which all publications are complete here.
    pub(crate) done_through: AtomicU32,
    /// Time spent on rounds of the loop that found something to do, in nanoseconds.
    pub(crate) busy_ns: AtomicU64,
}

/// What the threads are told while they run.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Connections to open in all.
    connections: AtomicU32,
    /// End now.
    stop: AtomicBool,
    /// Publications so far; no higher number can arrive.
    pub(crate) published: AtomicU32,
    /// The first publication that is timed.
    pub(crate) measured_from: AtomicU32,
    /// Whom to wake when `done_through` moved.
    pub(crate) publisher: OnceLock<Thread>,
}

/// Reasons with the number of connections or messages each explains.
pub(crate) type Reasons = BTreeMap<String, u64>;

/// Counts one more of a reason; beyond [`REASONS_MAX`] different ones they share an entry.
fn note(reasons: &mut Reasons, reason: &str) {
    let is_known = reasons.contains_key(reason) || reasons.len() < REASONS_MAX;
    *reasons.entry(if is_known { reason } else { "other reasons" }.to_owned()).or_default() += 1;
}

/// Reasons of several threads together.
pub(crate) fn merge_reasons(into: &mut Reasons, from: Reasons) {
    for (reason, count) in from {
        *into.entry(reason).or_default() += count;
    }
}

/// What a thread knows in the end.
#[derive(Debug)]
pub(crate) struct Harvest {
    pub(crate) ledger: Ledger,
    pub(crate) tracker: Tracker,
    /// Publish → each member, of timed publications.
    pub(crate) latencies: Latencies,
    /// First copies of timed publications.
    pub(crate) measured: u64,
    /// Why connections failed or were lost.
    pub(crate) reasons: Reasons,
    /// Messages that carry no stamp, by their text.
    pub(crate) unstamped: Reasons,
    /// Messages of other runs.
    pub(crate) foreign: u64,
    /// Messages whose text is not the one published.
    pub(crate) altered: u64,
}

/// Why the engine could not start.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    #[error("an epoll loop cannot be made: {0}")]
    Poll(io::Error),
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("core {core} is not among those this process may use ({usable:?})")]
    Core { core: usize, usable: Vec<usize> },
}

/// The running threads.
#[derive(Debug)]
pub(crate) struct Engine {
    orders: Arc<Orders>,
    threads: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    gauges: Arc<Gauges>,
    waker: Waker,
    handle: JoinHandle<Harvest>,
}

impl Engine {
    /// Starts the threads, without connections.
    pub(crate) fn start(settings: &Arc<Settings>) -> Result<Self, EngineError> {
        let cores = pinned_cores(&settings.clients.cores)?;
        let orders = Arc::new(Orders { measured_from: AtomicU32::new(u32::MAX), ..Orders::default() });
        let mut threads = Vec::with_capacity(cores.len());
        for (index, core) in cores.iter().copied().enumerate() {
            let poll = Poll::new().map_err(EngineError::Poll)?;
            let waker = Waker::new(poll.registry(), WAKER).map_err(EngineError::Poll)?;
            let gauges = Arc::new(Gauges::default());
            let shared = (Arc::clone(settings), Arc::clone(&orders), Arc::clone(&gauges));
            let worker = Worker::new(poll, shared, index as u32, cores.len() as u32);
            let builder = thread::Builder::new().name(format!("loadgen-{index}"));
            let handle = builder.spawn(move || {
                if let Some(core) = core {
                    core_affinity::set_for_current(core);
                }
                worker.run()
            });
            threads.push(Running { gauges, waker, handle: handle.map_err(EngineError::Thread)? });
        }
        Ok(Self { orders, threads })
    }

    /// What the threads are told.
    pub(crate) fn orders(&self) -> &Arc<Orders> {
        &self.orders
    }

    /// What each thread shows.
    pub(crate) fn gauges(&self) -> Vec<Arc<Gauges>> {
        self.threads.iter().map(|thread| Arc::clone(&thread.gauges)).collect()
    }

    /// Raises the number of connections; the threads open them at the rate of the scenario.
    pub(crate) fn open(&self, connections: u32) {
        self.orders.connections.store(connections, Ordering::Relaxed);
        self.wake();
    }

    /// Closes all connections, ends the threads and returns what each knows.
    pub(crate) fn stop(self) -> Vec<Harvest> {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.wake();
        let harvest =
            |thread: Running| thread.handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        self.threads.into_iter().map(harvest).collect()
    }

    fn wake(&self) {
        for thread in &self.threads {
            thread.waker.wake().expect("an eventfd takes a wake-up");
        }
    }
}

/// Sum over the threads of one of their gauges.
pub(crate) fn total(gauges: &[Arc<Gauges>], gauge: impl Fn(&Gauges) -> &AtomicU32) -> u32 {
    gauges.iter().map(|gauges| gauge(gauges).load(Ordering::Relaxed)).sum()
}

/// Sum over the threads of one of their wide gauges.
pub(crate) fn total_wide(gauges: &[Arc<Gauges>], gauge: impl Fn(&Gauges) -> &AtomicU64) -> u64 {
    gauges.iter().map(|gauges| gauge(gauges).load(Ordering::Relaxed)).sum()
}

/// The core of each thread: those asked for, or one thread that is not pinned.
fn pinned_cores(asked: &[usize]) -> Result<Vec<Option<core_affinity::CoreId>>, EngineError> {
    if asked.is_empty() {
        return Ok(vec![None]);
    }
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let find = |core: &usize| {
        let found = usable.iter().find(|usable| usable.id == *core).copied();
        let usable = || usable.iter().map(|usable| usable.id).collect();
        found.map(Some).ok_or_else(|| EngineError::Core { core: *core, usable: usable() })
    };
    asked.iter().map(find).collect()
}
