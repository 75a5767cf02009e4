//! The connections: one thread per core given, each with an epoll loop and books of its own, in one process or more.
//!
//! Threads share nothing but the [`Board`], to which they write once per round; the publisher and the progress
//! display read it. What a thread found out is handed over when a phase ends.
//!
//! Invariant: connection `i` belongs to thread `i % threads`, and the threads of a process are numbered side by side.

pub(crate) mod attempts;
pub(crate) mod board;
mod books;
pub(crate) mod children;
mod conn;
mod pace;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::Poll;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::latency::Latencies;
use crate::ledger::Closed;
use crate::process;
use crate::roster::{Audience, Roster};
use crate::scenario::{Address, Clients, Connect, Target};
use crate::sizes::Sizes;
use crate::spread::Memberships;
use crate::sys::now_ns;
use crate::timeline::Slice;

use self::attempts::Tally;
use self::board::{Board, Extent};
use self::children::{Child, Children};
use self::worker::Worker;

/// How many different reasons are told apart; servers may put anything into them.
const REASONS_MAX: usize = 32;
/// Longest wait for a thread to hand over its books: it looks at its orders many times a second.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);

/// What all threads need to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    pub(crate) clients: Clients,
    /// Bytes of data in publications.
    pub(crate) sizes: Sizes,
    /// Longest time from a request to join to the first publication that must arrive.
    pub(crate) join_within: Duration,
    /// Connections come by a plan of their own, and may leave at once.
    pub(crate) connect: Option<Connect>,
}

impl Settings {
    /// The rooms of every connection.
    pub(crate) fn memberships(&self) -> Memberships {
        self.clients.memberships()
    }

    /// Whom publications leave out.
    pub(crate) fn roster(&self) -> Roster {
        self.clients.roster()
    }

    /// Whether publications name these clients by the ids the server gave them; those of attempts are named by none.
    pub(crate) fn needs_client_ids(&self) -> bool {
        self.connect.is_none() && (self.clients.to == Address::Client || self.clients.exclude > 0)
    }

    /// Memberships that are judged, as many as there will be probes booked.
    pub(crate) fn judged_memberships(&self) -> u64 {
        let judged = self.clients.connections - self.clients.slow.connections;
        u64::from(judged) * u64::from(self.clients.rooms_per_connection)
    }

    /// The judged members that each of so many threads has.
    pub(crate) fn audiences(&self, threads: usize, roster: &Roster) -> Vec<Audience> {
        let mut audiences = vec![Audience::new(self.clients.rooms.len(), roster); threads];
        let memberships = self.memberships();
        for connection in (0..self.clients.connections).filter(|connection| !self.is_slow(*connection)) {
            let audience = &mut audiences[connection as usize % threads];
            for room in memberships.rooms_of(connection) {
                audience.add(room, roster.place(room, connection));
            }
        }
        audiences
    }

    /// Whether a connection reads slowly on purpose; those that do are spread evenly over all.
    fn is_slow(&self, connection: u32) -> bool {
        let slow_before = |connection: u64| {
            connection * u64::from(self.clients.slow.connections) / u64::from(self.clients.connections)
        };
        slow_before(u64::from(connection) + 1) > slow_before(u64::from(connection))
    }
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

/// What a thread found out in one phase.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Harvest {
    pub(crate) books: Closed,
    /// When the last judged member here received each publication, by number; 0 when none did.
    pub(crate) last_arrival_ns: Vec<u64>,
    /// Publish → each member, of timed publications.
    pub(crate) latencies: Latencies,
    /// The same by interval.
    pub(crate) slices: Vec<Slice>,
    /// How long rounds of the loop took that found something to do, of the measured time.
    pub(crate) rounds: Latencies,
    /// Most bytes one read found waiting in a socket.
    pub(crate) backlog_bytes_max: u64,
    /// From closing a connection on purpose until it was live again.
    pub(crate) reconnects: Latencies,
    /// First copies of timed publications.
    pub(crate) measured: u64,
    /// Why connections failed or were lost.
    pub(crate) reasons: Reasons,
    /// Slow readers the server closed.
    pub(crate) slow_closed: u32,
    /// Messages that carry no stamp, by their text.
    pub(crate) unstamped: Reasons,
    /// Messages of other runs and phases.
    pub(crate) foreign: u64,
    /// Messages whose text is not the one published.
    pub(crate) altered: u64,
    /// What became of connection attempts, when they have a plan.
    pub(crate) attempts: Option<Tally>,
}

/// Why the engine could not start, or did not answer.
#[derive(Debug, Error)]
pub(crate) enum EngineError {
    #[error("there is no memory to share between threads: {0}")]
    Board(io::Error),
    #[error("an epoll loop cannot be made: {0}")]
    Poll(io::Error),
    #[error("a thread cannot be started: {0}")]
    Thread(io::Error),
    #[error("core {core} is not among those this process may use ({usable:?})")]
    Core { core: usize, usable: Vec<usize> },
    #[error("a worker process cannot be started: {0}")]
    Spawn(io::Error),
    #[error("a worker process ended before its time; what it printed above says why")]
    ChildEnded,
    #[error("a worker process said something else than its books: {0}")]
    ChildSpoke(serde_json::Error),
    #[error("a thread did not hand over its books within {HAND_OVER_MAX:?}")]
    Silent,
}

/// The running threads, here and in other processes.
#[derive(Debug)]
pub(crate) struct Engine {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
    children: Children,
    harvests: Receiver<Result<Harvest, EngineError>>,
}

impl Engine {
    /// Starts the threads, without connections. With more than one process all threads are in others.
    pub(crate) fn start(settings: &Arc<Settings>) -> Result<Self, EngineError> {
        let Clients { processes, ref cores, .. } = settings.clients;
        let threads_each = cores.len().max(1).div_ceil(processes as usize);
        let all = threads_each * processes as usize;
        let client_ids = if settings.needs_client_ids() { settings.clients.connections as usize } else { 0 };
        let board = Board::create(Extent { threads: all, client_ids });
        let board = Arc::new(board.map_err(EngineError::Board)?);
        let (sender, harvests) = mpsc::channel();
        let (mut threads, mut children) = (Vec::new(), Children::default());
        if processes == 1 {
            threads = start_threads(settings, &board, 0..all, &sender)?;
        } else {
            for first in (0..all).step_by(threads_each) {
                let child = Child::start(settings, &board, first..first + threads_each, sender.clone())?;
                children.push(child);
            }
        }
        Ok(Self { board, threads, children, harvests })
    }

    /// What the threads are told and show.
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Raises the number of connections; the threads open them at the rate of the scenario.
    pub(crate) fn open(&self, connections: u32) {
        self.board.orders().connections.store(connections, Ordering::Relaxed);
    }

    /// Begins a phase with empty books and its own number for publications, which it returns; what was open is
    /// still open, and what was lost is opened again.
    pub(crate) fn begin_phase(&self) -> Result<u32, EngineError> {
        let orders = self.board.orders();
        // Different enough to tell the publications of one phase from those of others, even of other generators.
        let run = (now_ns() >> 10) as u32 ^ std::process::id().rotate_left(16);
        orders.run.store(run, Ordering::Relaxed);
        orders.measured_from.store(u32::MAX, Ordering::Relaxed);
        orders.measured_since_ns.store(0, Ordering::Relaxed);
        self.end_phase()?;
        orders.published.store(0, Ordering::Release);
        Ok(run)
    }

    /// Ends a phase: the books of every thread.
    pub(crate) fn end_phase(&self) -> Result<Vec<Harvest>, EngineError> {
        self.board.orders().phase.fetch_add(1, Ordering::Release);
        self.collect()
    }

    /// Closes all connections, ends the threads and returns their books.
    pub(crate) fn stop(mut self) -> Result<Vec<Harvest>, EngineError> {
        self.board.orders().stop.store(1, Ordering::Release);
        let harvests = self.collect();
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        harvests
    }

    /// Resident bytes of the generator, all its processes together.
    pub(crate) fn resident_bytes(&self) -> Result<u64, process::ProcessError> {
        let own = process::resident_bytes(std::process::id())?;
        self.children.ids().try_fold(own, |sum, pid| Ok(sum + process::resident_bytes(pid)?))
    }

    fn collect(&self) -> Result<Vec<Harvest>, EngineError> {
        let next = |_| match self.harvests.recv_timeout(HAND_OVER_MAX) {
            Ok(harvest) => harvest,
            Err(RecvTimeoutError::Timeout) => Err(EngineError::Silent),
            Err(RecvTimeoutError::Disconnected) => Err(EngineError::ChildEnded),
        };
        (0..self.board.threads()).map(next).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.board.orders().stop.store(1, Ordering::Release);
    }
}

/// Starts the threads of one process; each sends its books at the end of every phase.
fn start_threads(
    settings: &Arc<Settings>,
    board: &Arc<Board>,
    indices: std::ops::Range<usize>,
    sender: &Sender<Result<Harvest, EngineError>>,
) -> Result<Vec<JoinHandle<()>>, EngineError> {
    let cores = pinned_cores(&settings.clients.cores)?;
    let mut threads = Vec::with_capacity(indices.len());
    for index in indices {
        let poll = Poll::new().map_err(EngineError::Poll)?;
        let core = cores[index % cores.len()];
        let worker = Worker::new(poll, settings, board, index);
        let sender = sender.clone();
        let builder = thread::Builder::new().name(format!("loadgen-{index}"));
        let handle = builder.spawn(move || {
            if let Some(core) = core {
                core_affinity::set_for_current(core);
            }
            worker.run(|harvest| {
                // Whoever gave up on the run wants no books.
                sender.send(Ok(harvest)).unwrap_or_default();
            });
        });
        threads.push(handle.map_err(EngineError::Thread)?);
    }
    Ok(threads)
}

/// The cores to pin to in turn: those asked for, or none.
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
