//! What a server in the test's process costs: bytes that its threads hold, and processor time that they take.
//!
//! Threads tell whose they are by their timer slack, which Linux hands down from a thread to those it starts: a meter
//! starts a server under a slack of its own, a few nanoseconds beside the default. Each allocation carries the number
//! of the meter it was booked to, so that it is taken off the same account by whoever frees it. Address space that is
//! not allocated by Rust (rings, stacks) and pages of the kernel are not in it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Meters of one process.
const METERS_MAX: usize = 4_096;

/// Threads of metered servers in one process.
const THREADS_MAX: usize = 1 << 15;

/// Nanoseconds of slack that a thread has by default (prctl(2)); a meter's number is added.
const SLACK_NS: u64 = 50_000;

/// The account of those who have none.
const NOBODY: usize = 0;

/// A thread that has not allocated yet.
const UNKNOWN: usize = usize::MAX;

struct Account {
    held: AtomicUsize,
    peak: AtomicUsize,
}

static ACCOUNTS: [Account; METERS_MAX] =
    [const { Account { held: AtomicUsize::new(0), peak: AtomicUsize::new(0) } }; METERS_MAX];

/// Thread id in the lower half, account in the upper.
static THREADS: [AtomicU64; THREADS_MAX] = [const { AtomicU64::new(0) }; THREADS_MAX];
static THREADS_LEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    // Neither computed at first use nor dropped: an allocator may look at it at any time.
    static ACCOUNT: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// What was spent since a [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The most that was held at a time beyond what was held before, bytes.
    pub memory_bytes: usize,
    /// Processor time, user and system.
    pub cpu: Duration,
}

/// The state of a meter at some time.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    held: usize,
    cpu: Duration,
}

/// Measures what threads that it starts, and those that they start, allocate and compute.
#[derive(Debug)]
pub struct Meter {
    account: usize,
}

impl Meter {
    /// One that has measured nothing.
    ///
    /// # Panics
    /// When a process makes thousands of them.
    #[expect(clippy::new_without_default, reason = "each is another")]
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(NOBODY + 1);
        let account = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(account < METERS_MAX, "more than {METERS_MAX} meters in one process");
        Self { account }
    }

    /// Runs `body`: what it allocates is booked here, and so is all that threads do which it starts.
    pub fn charge<T>(&self, body: impl FnOnce() -> T) -> T {
        let _here = Here::enter(self.account);
        body()
    }

    /// What is held and was computed so far; the peak is counted from here on.
    ///
    /// # Panics
    /// When [`Booking`] is not this program's allocator.
    pub fn mark(&self) -> Mark {
        let account = &ACCOUNTS[self.account];
        assert!(account.peak.load(Ordering::Relaxed) > 0, "nothing is booked: make Booking the allocator");
        let held = account.held.load(Ordering::Relaxed);
        account.peak.store(held, Ordering::Relaxed);
        Mark { held, cpu: self.cpu() }
    }

    /// What was spent since the last mark.
    pub fn since(&self, mark: &Mark) -> Spent {
        let peak = ACCOUNTS[self.account].peak.load(Ordering::Relaxed);
        Spent { memory_bytes: peak.saturating_sub(mark.held), cpu: self.cpu().saturating_sub(mark.cpu) }
    }

    /// Processor time so far, of its threads that live.
    ///
    /// # Panics
    /// When a process has tens of thousands of threads of servers.
    pub fn cpu(&self) -> Duration {
        let len = THREADS_LEN.load(Ordering::Acquire);
        assert!(len <= THREADS_MAX, "more than {THREADS_MAX} threads of servers in one process");
        let entries = THREADS[..len].iter().map(|entry| entry.load(Ordering::Acquire));
        let own = entries.filter(|entry| entry >> 32 == self.account as u64);
        own.filter_map(|entry| cpu_of(entry as u32 as libc::pid_t)).sum()
    }
}

/// Books what a thread does to an account until it is dropped.
struct Here {
    account: usize,
    slack_ns: u64,
}

impl Here {
    fn enter(account: usize) -> Self {
        let before = Self { account: ACCOUNT.replace(account), slack_ns: slack_ns() };
        set_slack_ns(SLACK_NS + account as u64);
        before
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        set_slack_ns(self.slack_ns);
        ACCOUNT.set(self.account);
    }
}

fn slack_ns() -> u64 {
    // SAFETY: touches no memory.
    let slack = unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) };
    u64::try_from(slack).unwrap_or(0)
}

fn set_slack_ns(slack_ns: u64) {
    // SAFETY: touches no memory.
    let outcome = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) };
    assert_eq!(outcome, 0, "prctl: {}", std::io::Error::last_os_error());
}

/// Processor time of a thread of this process; `None` once it has ended.
fn cpu_of(thread: libc::pid_t) -> Option<Duration> {
    // A clock of one thread, as the C library makes it for pthread_getcpuclockid(3): the id's complement, and below it
    // "of a thread" (4) and "scheduled" (2).
    let clock = (!thread << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (outcome == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// The account of this thread. Allocates nothing.
fn account() -> usize {
    let known = ACCOUNT.get();
    if known != UNKNOWN {
        return known;
    }
    let number = slack_ns().saturating_sub(SLACK_NS) as usize;
    let account = if number < METERS_MAX { number } else { NOBODY };
    ACCOUNT.set(account);
    if account != NOBODY {
        // SAFETY: touches no memory.
        let thread = unsafe { libc::gettid() } as u32;
        let index = THREADS_LEN.fetch_add(1, Ordering::AcqRel);
        if let Some(entry) = THREADS.get(index) {
            entry.store((account as u64) << 32 | u64::from(thread), Ordering::Release);
        }
    }
    account
}

/// The system's allocator with a book of who holds what.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: shardcast_tests::cost::Booking = shardcast_tests::cost::Booking;
/// ```
#[derive(Debug)]
pub struct Booking;

impl Booking {
    /// The layout with room in front for the number of an account, and how much that is.
    fn outer(layout: Layout) -> Option<(Layout, usize)> {
        let front = layout.align().max(size_of::<usize>());
        let size = layout.size().checked_add(front)?;
        Some((Layout::from_size_align(size, front).ok()?, front))
    }

    fn book(account: usize, bytes: usize) {
        let account = &ACCOUNTS[account];
        let held = account.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        account.peak.fetch_max(held, Ordering::Relaxed);
    }

    /// Signs a block that begins at `start` for the account of this thread, and returns what is behind the front.
    ///
    /// # Safety
    /// `start` is null, or `front + bytes` are there that nobody uses, `front` being a multiple of the size of `usize`.
    unsafe fn sign(start: *mut u8, front: usize, bytes: usize) -> *mut u8 {
        if start.is_null() {
            return start;
        }
        let account = account();
        Self::book(account, bytes);
        // SAFETY: the number lies within the front, which is aligned for it.
        unsafe {
            let block = start.add(front);
            block.cast::<usize>().sub(1).write(account);
            block
        }
    }

    /// Takes a block off the account it was booked to, and returns where it begins.
    ///
    /// # Safety
    /// [`Booking::sign`] returned `block` for this `front` and these `bytes`.
    unsafe fn strike(block: *mut u8, front: usize, bytes: usize) -> *mut u8 {
        // SAFETY: in front of a block lies the number of its account.
        let account = unsafe { block.cast::<usize>().sub(1).read() };
        ACCOUNTS[account].held.fetch_sub(bytes, Ordering::Relaxed);
        // SAFETY: the front belongs to the same allocation.
        unsafe { block.sub(front) }
    }
}

// SAFETY: the system's allocator serves every request, for a layout that is larger by a front of the same alignment; what
// is handed out begins behind the front, and is given back from its beginning with the same layout.
unsafe impl GlobalAlloc for Booking {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((outer, front)) = Self::outer(layout) else { return ptr::null_mut() };
        // SAFETY: `outer` is not empty, and the block is new.
        unsafe { Self::sign(System.alloc(outer), front, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((outer, front)) = Self::outer(layout) else { return ptr::null_mut() };
        // SAFETY: as above.
        unsafe { Self::sign(System.alloc_zeroed(outer), front, layout.size()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((outer, front)) = Self::outer(layout) else { return };
        // SAFETY: the block was allocated with this layout.
        unsafe { System.dealloc(Self::strike(block, front, layout.size()), outer) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let grown = Layout::from_size_align(size, layout.align()).ok().and_then(Self::outer);
        let (Some((outer, front)), Some((grown, _))) = (Self::outer(layout), grown) else {
            return ptr::null_mut();
        };
        // SAFETY: the block was allocated with this layout; the front depends on the alignment alone. A block that
        // cannot grow stays where it is, and is booked as it was.
        unsafe {
            let start = block.sub(front);
            let moved = System.realloc(start, outer, grown.size());
            if moved.is_null() {
                return ptr::null_mut();
            }
            Self::strike(moved.add(front), front, layout.size());
            Self::sign(moved, front, size)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: Booking = Booking;

    const MIB: usize = 1 << 20;

    /// A meter that has booked something.
    fn meter() -> (Meter, Mark) {
        let meter = Meter::new();
        drop(meter.charge(|| black_box(vec![0u8; 1])));
        let mark = meter.mark();
        (meter, mark)
    }

    #[test]
    fn what_is_held_at_a_time_is_counted_though_it_is_freed_elsewhere_and_never_touched() {
        let (meter, mark) = meter();
        for _ in 0..3 {
            let block =
                meter.charge(|| thread::spawn(|| black_box(vec![0u8; MIB])).join().expect("no panic"));
            thread::spawn(move || drop(block)).join().expect("no panic");
        }
        let spent = meter.since(&mark).memory_bytes;
        assert!((MIB..MIB + MIB / 4).contains(&spent), "{spent}");
        meter.charge(|| drop(black_box(Vec::<u8>::with_capacity(1 << 30))));
        assert!(meter.since(&mark).memory_bytes >= 1 << 30, "a gigabyte without a page");
        let mark = meter.mark();
        assert!(meter.since(&mark).memory_bytes < MIB, "nothing is held");
    }

    #[test]
    fn what_others_do_is_not_counted() {
        let (meter, mark) = meter();
        let (other, _) = self::meter();
        let mut kept = other.charge(|| thread::spawn(|| black_box(vec![1u8; MIB])).join().expect("no panic"));
        // Growing it makes it one's own.
        assert!(meter.since(&mark).memory_bytes < MIB / 2);
        meter.charge(|| kept.reserve_exact(MIB));
        assert!(meter.since(&mark).memory_bytes >= 2 * MIB);
        assert_eq!(kept, vec![1u8; MIB]);
    }

    #[test]
    fn threads_of_threads_are_counted_while_they_live() {
        const BURNT: Duration = Duration::from_millis(50);
        let (meter, mark) = meter();
        let (other, idle) = self::meter();
        let spent = meter.charge(|| {
            let inner = || {
                drop(black_box(vec![0u8; 1]));
                // Of this thread alone, so that a busy machine changes nothing.
                let own = unsafe { libc::gettid() };
                while cpu_of(own).expect("it lives") < BURNT {}
            };
            let outer = move || {
                let inner = thread::spawn(inner);
                thread::spawn(move || {
                    while !inner.is_finished() {
                        thread::yield_now()
                    }
                })
                .join()
                .expect("no panic");
            };
            let outer = thread::spawn(outer);
            let begun = Instant::now();
            loop {
                let spent = meter.since(&mark).cpu;
                if spent >= BURNT / 2 || begun.elapsed() > Duration::from_secs(20) {
                    outer.join().expect("no panic");
                    return spent;
                }
            }
        });
        assert!(spent >= BURNT / 2, "{spent:?}");
        assert_eq!(other.since(&idle).cpu, Duration::ZERO);
    }

    #[test]
    fn blocks_are_aligned_zeroed_and_keep_what_they_hold() {
        for align in [1, 2, 8, 16, 64, 4_096] {
            let layout = Layout::from_size_align(3 * align, align).expect("a layout");
            // SAFETY: blocks are used within their size, and given back with their layout.
            unsafe {
                let block = ALLOCATOR.alloc_zeroed(layout);
                assert_eq!(block as usize % align, 0);
                assert!((0..layout.size()).all(|at| *block.add(at) == 0));
                block.write_bytes(7, layout.size());
                let block = ALLOCATOR.realloc(block, layout, 100 * align);
                assert_eq!(block as usize % align, 0);
                assert!((0..layout.size()).all(|at| *block.add(at) == 7));
                ALLOCATOR.dealloc(block, Layout::from_size_align(100 * align, align).expect("a layout"));
            }
        }
        let endless = Layout::from_size_align(isize::MAX as usize - 7, 8).expect("a layout");
        // SAFETY: nothing is handed out.
        assert!(unsafe { ALLOCATOR.alloc(endless) }.is_null());
    }
}
