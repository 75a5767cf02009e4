//! The few things the standard library does not offer: clocks as numbers, the descriptor limit, the id of a
//! thread, waiting on a word of shared memory, and one socket option. With [`crate::memory`] the only unsafe code of
//! the crate.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The monotonic clock, in nanoseconds; equal in all processes of a machine.
pub(crate) fn now_ns() -> u64 {
    read_clock(libc::CLOCK_MONOTONIC).expect("Linux always has CLOCK_MONOTONIC")
}

/// CPU time of all threads a process has and had, in nanoseconds, up to now even for those that run.
pub(crate) fn process_cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::NotFound)?;
    let mut clock = 0;
    // SAFETY: `clock` is a valid place for the answer, and the call keeps nothing.
    match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
        0 => read_clock(clock),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn read_clock(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer, and the call keeps nothing.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // Both clocks count up from 0, so both parts are positive and fit.
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The kernel's id of the calling thread, as in `/proc/self/task`.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// Raises the soft limit of open descriptors to the hard one, which it returns.
pub(crate) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and the call keeps nothing.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads `limit` during the call only.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_max)
}

/// Leaves the choice of the source port to `connect`, which may reuse a port towards another destination; `bind`
/// alone would take it from all (ip(7), `IP_BIND_ADDRESS_NO_PORT`).
pub(crate) fn set_bind_address_no_port(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: `on` outlives the call and `length` is its size.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sleeps until somebody calls [`wake_all`] on the word, but no longer than `longest`; returns at once when it does
/// not hold `seen` (futex(2), `FUTEX_WAIT`). The word may be in memory shared with other processes.
pub(crate) fn wait_for_change(word: &AtomicU32, seen: u32, longest: Duration) {
    let timeout = libc::timespec {
        tv_sec: longest.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(longest.subsec_nanos() as i32),
    };
    // SAFETY: the word and the timeout outlive the call. Its outcome does not matter: whoever waits looks again.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, seen, &raw const timeout);
    }
}

/// Wakes all who sleep in [`wait_for_change`] on this word (futex(2), `FUTEX_WAKE`).
pub(crate) fn wake_all(word: &AtomicU32) {
    // SAFETY: the word outlives the call, which only looks up who waits for its address.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, libc::c_int::MAX);
    }
}
