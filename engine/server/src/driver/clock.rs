//! Where the time comes from that a shard is told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardcast_shard::Now;

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
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { ms: self.origin.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as u64 }
    }

    /// The instant of a time of this clock.
    pub(super) fn instant(self, ms: u64) -> Instant {
        self.origin + Duration::from_millis(ms)
    }
}
