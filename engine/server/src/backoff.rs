//! How long to wait before the next attempt.

use std::time::Duration;

/// The first pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Pauses that double from 100 ms up to a maximum. Randomness is an argument.
#[derive(Debug)]
pub(crate) struct Backoff {
    full: Duration,
    full_max: Duration,
}

impl Backoff {
    /// Starts at 100 ms.
    pub(crate) fn new(full_max: Duration) -> Self {
        Self { full: PAUSE_MIN.min(full_max), full_max }
    }

    /// The next pause: between half and all of the full one, so that instances that lost Redis together do not come
    /// back together.
    pub(crate) fn pause(&mut self, random: u32) -> Duration {
        let full = self.full;
        self.full = (full * 2).min(self.full_max);
        let half = full / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// Waits for the next pause.
    pub(crate) async fn wait(&mut self) {
        // Without randomness there is no jitter, which is no reason to give up.
        let random = getrandom::u32().unwrap_or(u32::MAX);
        tokio::time::sleep(self.pause(random)).await;
    }

    /// A connection ended after `lived`. Starts over if that was long enough for it to have been a good one; one that
    /// is ended again and again goes on with longer pauses.
    pub(crate) fn note_life(&mut self, lived: Duration) {
        if lived >= self.full_max {
            self.full = PAUSE_MIN.min(self.full_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_maximum_and_start_over_after_a_good_connection() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(500));
        let longest: Vec<Duration> = (0..5).map(|_| backoff.pause(u32::MAX)).collect();
        assert_eq!(longest, [ms(100), ms(200), ms(400), ms(500), ms(500)]);
        assert_eq!(backoff.pause(0), ms(250));
        backoff.note_life(ms(499));
        assert_eq!(backoff.pause(0), ms(250));
        backoff.note_life(ms(500));
        assert_eq!(backoff.pause(0), ms(50));
    }
}
