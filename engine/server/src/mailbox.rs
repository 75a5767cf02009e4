//! The way into a shard from another thread: a bounded lock-free queue and one eventfd.
//!
//! Senders never block and never wait: a full mailbox gives the letter back and counts it. The eventfd is
//! written only when the shard went to sleep since the last write, so a batch costs one wake.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};
use shardcast_shard::Mail;

#[derive(Debug)]
struct Wake {
    eventfd: OwnedFd,
    /// The shard sleeps, or is about to and will look at the queue once more.
    armed: AtomicBool,
    refused: AtomicU64,
}

/// The sending half; clone it freely.
#[derive(Clone, Debug)]
pub struct MailSender {
    queue: Sender<Mail>,
    wake: Arc<Wake>,
}

/// The shard's half. Cloned only for the next run of the same shard.
#[derive(Clone, Debug)]
pub struct MailReceiver {
    queue: Receiver<Mail>,
    wake: Arc<Wake>,
}

/// A mailbox for `letters_max` letters. Errors: no file descriptor left for the eventfd.
pub fn mailbox(letters_max: usize) -> io::Result<(MailSender, MailReceiver)> {
    // SAFETY: eventfd takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else owns it.
    let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
    let wake = Arc::new(Wake { eventfd, armed: AtomicBool::new(true), refused: AtomicU64::new(0) });
    let (sender, receiver) = crossbeam_channel::bounded(letters_max);
    Ok((MailSender { queue: sender, wake: wake.clone() }, MailReceiver { queue: receiver, wake }))
}

impl MailSender {
    /// Posts a letter. `false`: the mailbox is full or the shard is gone; the letter is lost and counted,
    /// and its variant's documentation says what recovers it.
    #[must_use]
    pub fn post(&self, mail: Mail) -> bool {
        let posted = self.put(mail);
        if posted {
            self.ring();
        }
        posted
    }

    /// Posts a letter of several; [`MailSender::ring`] follows the last. `false` as for [`MailSender::post`].
    #[must_use]
    pub fn put(&self, mail: Mail) -> bool {
        let is_put = self.offer(mail);
        if !is_put {
            self.wake.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_put
    }

    /// Posts a letter of several that the sender has again. `false`: the mailbox is full or the shard is gone, and the sender
    /// repeats it later, so it is not counted. [`MailSender::ring`] follows the last.
    #[must_use]
    pub fn offer(&self, mail: Mail) -> bool {
        self.queue.try_send(mail).is_ok()
    }

    /// Whether there is no room at the moment.
    pub fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Whether more than half of the mailbox is taken.
    pub fn is_half_full(&self) -> bool {
        self.queue.capacity().is_some_and(|letters_max| self.queue.len() > letters_max / 2)
    }

    /// Wakes the shard if it sleeps.
    pub fn ring(&self) {
        self.wake.ring_if_armed();
    }

    /// Letters lost so far.
    pub fn refused(&self) -> u64 {
        self.wake.refused.load(Ordering::Relaxed)
    }

    /// Letters waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no letter waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl MailReceiver {
    /// The next letter, if one waits.
    pub fn take(&self) -> Option<Mail> {
        self.queue.try_recv().ok()
    }

    /// A descriptor that becomes readable when there is mail. Errors: none is left.
    pub fn wake_fd(&self) -> io::Result<OwnedFd> {
        self.wake.eventfd.try_clone()
    }

    /// Makes the next [`MailSender::post`] ring. Returns whether letters came in before that: then nobody
    /// will ring for them and the shard must not sleep.
    pub fn arm(&self) -> bool {
        self.wake.armed.store(true, Ordering::SeqCst);
        !self.queue.is_empty()
    }

    /// Rings at once, so that the shard comes back after the sockets had their turn.
    pub fn ring(&self) {
        self.wake.armed.store(true, Ordering::SeqCst);
        self.wake.ring_if_armed();
    }

    /// Whether the descriptor is readable.
    #[cfg(test)]
    pub(crate) fn has_rung(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.wake.eventfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
    }

    /// Silences the descriptor.
    pub fn silence(&self) {
        let mut count = 0u64;
        // SAFETY: the buffer is eight bytes, as eventfd(2) demands, and outlives the call. The result does
        // not matter: the descriptor is silent either way.
        unsafe { libc::read(self.wake.eventfd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }
}

impl Wake {
    fn ring_if_armed(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            let one = 1u64;
            // SAFETY: eight bytes that outlive the call. It fails only when the counter is at its maximum,
            // and then the descriptor is readable already.
            unsafe { libc::write(self.eventfd.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardcast_shard::Mail;

    #[test]
    fn a_full_mailbox_gives_up_the_letter_and_counts_it() {
        let (sender, receiver) = mailbox(2).expect("eventfd");
        let results: Vec<bool> = (0..3).map(|_| sender.post(Mail::Drain { period_ms: 0 })).collect();
        assert_eq!(results, [true, true, false]);
        assert_eq!(sender.refused(), 1);
        assert_eq!(std::iter::from_fn(|| receiver.take()).count(), 2);
    }

    #[test]
    fn arming_after_a_letter_came_tells_of_it() {
        let (sender, receiver) = mailbox(8).expect("eventfd");
        assert!(!receiver.arm());
        assert!(sender.post(Mail::Drain { period_ms: 0 }));
        assert!(receiver.arm());
    }
}
