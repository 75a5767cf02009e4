//! How long a shard waits between two flushes, so that messages that come meanwhile share a send.
//!
//! The wait is a share of what the last flush took, `server.flush_pace_percent`: a shard that writes little waits
//! for nothing, and one that always has something to write spends at most `100 / (100 + percent)` of its time on it.
//! `docs/benchmarks.md` shows what that costs and saves.

use std::time::{Duration, Instant};

/// The most a shard waits, whatever the last flush took: what pacing may add to the latency of a message.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(20);
/// Below this the runtime's timer, which counts milliseconds, is no measure.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The pace of one shard.
#[derive(Debug)]
pub(super) struct Pace {
    /// Wait in percent of the last flush; 0 never waits.
    percent: u32,
    next_at: Option<Instant>,
}

impl Pace {
    /// Waits `percent` of what the last flush took; 0 never waits.
    pub(super) fn new(percent: u32) -> Self {
        Self { percent, next_at: None }
    }

    /// Does a flush, and remembers how long it took.
    pub(super) fn time<T>(&mut self, flush: impl FnOnce() -> T) -> T {
        if self.percent == 0 {
            return flush();
        }
        let began = Instant::now();
        let result = flush();
        let ended = Instant::now();
        let wait = wait_after(ended - began, self.percent);
        self.next_at = wait.map(|wait| ended + wait);
        result
    }

    /// Waits until the next flush may begin.
    pub(super) async fn wait(&mut self) {
        if let Some(at) = self.next_at.take() {
            monoio::time::sleep_until(monoio::time::Instant::from_std(at)).await;
        }
    }
}

fn wait_after(flush: Duration, percent: u32) -> Option<Duration> {
    let wait = (flush * percent / 100).min(WAIT_MAX);
    (wait >= WAIT_MIN).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_last_flush_within_bounds() {
        let ms = Duration::from_millis;
        for (flush, percent, wait) in [
            (ms(0), 100, None),
            (Duration::from_micros(999), 100, None),
            (ms(3), 100, Some(ms(3))),
            (ms(3), 50, Some(Duration::from_micros(1_500))),
            (ms(3), 25, None),
            (ms(300), 100, Some(WAIT_MAX)),
        ] {
            assert_eq!(wait_after(flush, percent), wait, "{flush:?}, {percent} %");
        }
    }
}
