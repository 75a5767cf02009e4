//! What is due by the time that passed, as often a second as set. Pure.

use std::time::Duration;

/// Slow connections are read this often, so that a rate of bytes comes out even.
pub(super) const SLOW_READ_INTERVAL: Duration = Duration::from_millis(100);

/// Things that are due at a rate, saved up to a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    per_second: f64,
    saved: f64,
    saved_max: f64,
}

impl Bucket {
    /// Nothing is due yet; no more than `saved_max` is made up for after a pause.
    pub(super) fn new(per_second: f64, saved_max: f64) -> Self {
        Self { per_second, saved: 0.0, saved_max }
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, secs: f64) {
        self.saved = (self.saved + secs * self.per_second).min(self.saved_max);
    }

    /// Takes one, when one is due.
    pub(super) fn take(&mut self) -> bool {
        let is_due = self.saved >= 1.0;
        if is_due {
            self.saved -= 1.0;
        }
        is_due
    }

    /// Forgets what is due.
    pub(super) fn clear(&mut self) {
        self.saved = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_at_its_rate_and_is_made_up_for_within_bounds() {
        let mut bucket = Bucket::new(10.0, 5.0);
        let taken = |bucket: &mut Bucket| (0..100).take_while(|_| bucket.take()).count();
        for (secs, expected) in [(0.05, 0), (0.05, 1), (0.25, 2), (0.05, 1), (60.0, 5), (0.0, 0)] {
            bucket.pass(secs);
            assert_eq!(taken(&mut bucket), expected, "after {secs} s more");
        }
        bucket.pass(1.0);
        bucket.clear();
        assert_eq!(taken(&mut bucket), 0);
        let mut unbounded = Bucket::new(f64::INFINITY, 3.0);
        unbounded.pass(1e-9);
        assert_eq!(taken(&mut unbounded), 3);
    }
}
