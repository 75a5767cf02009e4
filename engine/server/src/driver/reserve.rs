//! What happens when the process has no descriptor left: those who wait are told so, and nobody inside suffers.
//!
//! A few descriptors are kept in reserve. Giving one up for a moment lets one waiting connection be accepted, told
//! 503 and closed, instead of leaving it to time out. Descriptors belong to the process, so the reserve does too:
//! once one shard found none left, all shards accept one at a time until the reserve is full again, or a place
//! freed for telling somebody off would go to whoever accepts at that moment, and the reserve with it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::listener::{self, Accepted};

/// Descriptors in reserve: one is enough unless others take the place of one that was given up.
const SPARES: usize = 8;

static SPARE: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());
static EXHAUSTED: AtomicBool = AtomicBool::new(false);

/// Fills the reserve; every shard does so before it accepts.
pub(super) fn fill() {
    top_up(&mut lock());
}

/// The next waiting connection, if there is one; never blocks on the peer. An error: no descriptor or memory is
/// left; see [`shed`].
pub(super) fn accept(listener: RawFd) -> io::Result<Option<Accepted>> {
    if !EXHAUSTED.load(Ordering::Acquire) {
        return listener::accept(listener);
    }
    let mut spare = lock();
    let accepted = listener::accept(listener)?;
    top_up(&mut spare);
    EXHAUSTED.store(spare.len() < SPARES, Ordering::Release);
    Ok(accepted)
}

/// Accepts up to `count_max` waiting connections one after another, only to give each to `tell` and close it.
/// Returns how many.
pub(super) fn shed(listener: RawFd, count_max: usize, tell: impl Fn(&OwnedFd)) -> usize {
    EXHAUSTED.store(true, Ordering::Release);
    let mut spare = lock();
    for count in 0..count_max {
        drop(spare.pop());
        let Ok(Some(socket)) = listener::accept(listener) else {
            top_up(&mut spare);
            return count;
        };
        tell(&socket.fd);
        drop(socket);
        top_up(&mut spare);
    }
    count_max
}

fn top_up(spare: &mut Vec<OwnedFd>) {
    while spare.len() < SPARES {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return;
        }
        // SAFETY: just made, nobody else owns it.
        spare.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// A panic elsewhere leaves the reserve as good as it was.
fn lock() -> MutexGuard<'static, Vec<OwnedFd>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}
