//! The board all threads look at: what they are told, and what each of them shows.
//!
//! It lies in shared memory, so that the threads of other processes are no different from our own. Every word has one
//! writer: the run writes [`Orders`], each thread its own [`Gauges`] and the ids of its clients; only
//! [`Orders::progress`] is everybody's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardcast_wire::ignis::ClientId;

use crate::memory::{Shareable, SharedMemory};
use crate::sys;

/// What the threads are told while they run.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Orders {
    /// Connections to open in all.
    pub(super) connections: AtomicU32,
    /// Raised when the threads shall hand over their books and begin new ones.
    pub(super) phase: AtomicU32,
    /// Tells the publications of this phase from all others.
    pub(super) run: AtomicU32,
    /// Not 0: end now.
    pub(super) stop: AtomicU32,
    /// Raised when the storm breaks out.
    pub(crate) storm: AtomicU32,
    /// Not 0: connections come and go.
    pub(crate) churn: AtomicU32,
    /// Publications of this phase so far; no higher number can arrive.
    pub(crate) published: AtomicU32,
    /// The first publication that is timed.
    pub(crate) measured_from: AtomicU32,
    /// Raised when a thread's `done_through` moved; who waits for that sleeps on it.
    progress: AtomicU32,
    /// Whether anybody sleeps on `progress`.
    is_awaited: AtomicU32,
    /// When the measured time began, in nanoseconds; 0 before.
    pub(crate) measured_since_ns: AtomicU64,
    /// Length of one interval of the timeline, in nanoseconds.
    pub(crate) interval_ns: AtomicU64,
}

/// What a thread shows while it runs; on cache lines of its own, for it alone writes them.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct Gauges {
    /// The process it belongs to, 0 until it runs.
    pub(crate) process_id: AtomicU32,
    /// The kernel's id of the thread.
    pub(crate) thread_id: AtomicU32,
    /// Logged in, with the request to join on its way.
    pub(crate) live: AtomicU32,
    /// Attempts that never became live.
    pub(crate) failed: AtomicU32,
    /// Ended by the server or the network after they were live.
    pub(crate) lost: AtomicU32,
    /// Connection attempts that began, of those with a plan.
    pub(crate) attempted: AtomicU32,
    /// Of them, those that are not over.
    pub(crate) under_way: AtomicU32,
    /// The number below which all publications are complete here.
    pub(crate) done_through: AtomicU32,
    /// Median and 99th percentile of the latest finished interval, in microseconds.
    pub(crate) p50_us: AtomicU32,
    /// See `p50_us`.
    pub(crate) p99_us: AtomicU32,
    /// Memberships that received a probe in this phase.
    pub(crate) probed: AtomicU64,
    /// First copies received in this phase.
    pub(crate) delivered: AtomicU64,
    /// Time spent on rounds of the loop that found something to do, in nanoseconds.
    pub(crate) busy_ns: AtomicU64,
}

/// The id a server gave a client, high and low half; 0 when it has not yet.
#[derive(Debug)]
#[repr(C)]
struct ClientIdCell([AtomicU64; 2]);

// SAFETY: atomics in C layout.
unsafe impl Shareable for ClientIdCell {}
// SAFETY: atomics in C layout.
unsafe impl Shareable for Orders {}
// SAFETY: atomics in C layout.
unsafe impl Shareable for Gauges {}

/// How much there is on a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Threads in all processes together.
    pub(crate) threads: usize,
    /// Connections whose client ids are told.
    pub(crate) client_ids: usize,
}

/// Orders, the gauges of all threads, and client ids.
#[derive(Debug)]
pub(crate) struct Board {
    memory: SharedMemory,
    extent: Extent,
}

impl Board {
    /// A board with nothing on it. Errors: no memory to share.
    pub(crate) fn create(extent: Extent) -> io::Result<Self> {
        let memory = SharedMemory::create("loadgen-board", extent.bytes())?;
        let board = Self { memory, extent };
        board.orders().measured_from.store(u32::MAX, Ordering::Relaxed);
        Ok(board)
    }

    /// The board of another process.
    pub(crate) fn open(path: &Path, extent: Extent) -> io::Result<Self> {
        Ok(Self { memory: SharedMemory::open(path, extent.bytes())?, extent })
    }

    /// How much there is on it.
    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }

    /// Where other processes find it.
    pub(crate) fn path(&self) -> PathBuf {
        self.memory.path()
    }

    /// How many threads there are, in all processes together.
    pub(crate) fn threads(&self) -> usize {
        self.extent.threads
    }

    /// What the threads are told.
    pub(crate) fn orders(&self) -> &Orders {
        self.memory.at(0)
    }

    /// What one thread shows.
    pub(crate) fn gauges(&self, thread: usize) -> &Gauges {
        assert!(thread < self.extent.threads, "there is no thread {thread}");
        self.memory.at(size_of::<Orders>() + thread * size_of::<Gauges>())
    }

    /// Tells the id of a client; one that comes back has another. Who reads while this is written may see half of
    /// each, which is the id of nobody, as the old one is by then.
    pub(super) fn set_client_id(&self, connection: u32, id: ClientId) {
        let halves = self.client_id_cell(connection);
        for (half, bytes) in halves.iter().zip(id.as_bytes().as_chunks::<8>().0) {
            half.store(u64::from_be_bytes(*bytes), Ordering::Release);
        }
    }

    /// The id of a client; the nil UUID, which is nobody's, when it has none yet.
    pub(crate) fn client_id(&self, connection: u32) -> ClientId {
        let [high, low] = self.client_id_cell(connection).each_ref().map(|half| half.load(Ordering::Acquire));
        ClientId::from_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    fn client_id_cell(&self, connection: u32) -> &[AtomicU64; 2] {
        assert!((connection as usize) < self.extent.client_ids, "no client ids are told of {connection}");
        let before = size_of::<Orders>() + self.extent.threads * size_of::<Gauges>();
        let ClientIdCell(halves) = self.memory.at(before + connection as usize * size_of::<ClientIdCell>());
        halves
    }

    /// What each thread shows.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Gauges> {
        (0..self.threads()).map(|thread| self.gauges(thread))
    }

    /// Sum over the threads of one of their gauges.
    pub(crate) fn total(&self, gauge: impl Fn(&Gauges) -> &AtomicU32) -> u32 {
        self.all().map(|gauges| gauge(gauges).load(Ordering::Relaxed)).sum()
    }

    /// Sum over the threads of one of their wide gauges.
    pub(crate) fn total_wide(&self, gauge: impl Fn(&Gauges) -> &AtomicU64) -> u64 {
        self.all().map(|gauges| gauge(gauges).load(Ordering::Relaxed)).sum()
    }

    /// Shows how far a thread is, and wakes who waits for that.
    pub(super) fn show_done_through(&self, thread: usize, done_through: u32) {
        if self.gauges(thread).done_through.swap(done_through, Ordering::SeqCst) == done_through {
            return;
        }
        let orders = self.orders();
        orders.progress.fetch_add(1, Ordering::SeqCst);
        if orders.is_awaited.load(Ordering::SeqCst) != 0 {
            sys::wake_all(&orders.progress);
        }
    }

    /// Sleeps until `is_done`, looking again whenever a thread moved on; false after `longest` without.
    pub(crate) fn wait_until(&self, longest: Duration, mut is_done: impl FnMut() -> bool) -> bool {
        let orders = self.orders();
        let seen = orders.progress.load(Ordering::SeqCst);
        if is_done() {
            return true;
        }
        orders.is_awaited.store(1, Ordering::SeqCst);
        sys::wait_for_change(&orders.progress, seen, longest);
        orders.is_awaited.store(0, Ordering::SeqCst);
        is_done()
    }
}

impl Extent {
    fn bytes(self) -> usize {
        size_of::<Orders>() + self.threads * size_of::<Gauges>() + self.client_ids * size_of::<ClientIdCell>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_are_told_by_connection_and_replaced() {
        let board = Board::create(Extent { threads: 3, client_ids: 2 }).expect("memory");
        let id = |byte| ClientId::from_random([byte; 16]);
        assert_eq!(board.client_id(1), ClientId::from_bytes([0; 16]));
        for (first, second) in [(1, 2), (3, 4)] {
            board.set_client_id(0, id(first));
            board.set_client_id(1, id(second));
            let other = Board::open(&board.path(), board.extent()).expect("the same memory");
            assert_eq!([0, 1].map(|connection| other.client_id(connection)), [id(first), id(second)]);
        }
        assert_eq!(board.gauges(2).live.load(Ordering::Relaxed), 0, "no gauge is written over");
    }
}
