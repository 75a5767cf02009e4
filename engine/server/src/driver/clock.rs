//! Where the time comes from that a shard is told.

use std::time::{Duration, Instant};

use shardcast_shard::Now;

use crate::wall_clock::now_unix_ms;

/// Milliseconds since the shard's start, and the time of day.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(self) -> Now {
        Now { ms: self.origin.elapsed().as_millis() as u64, unix_ms: now_unix_ms() }
    }

    /// The instant of a time of this clock.
    pub(super) fn instant(self, ms: u64) -> Instant {
        self.origin + Duration::from_millis(ms)
    }
}
