//! The canary: a message of our own that goes out through Redis and must come back.
//!
//! Only bookkeeping; time is an argument. A green readiness therefore means that messages travel, not that a socket
//! is open.

use std::time::{Duration, Instant};

/// Intervals without a sign of life that are one too many.
pub(super) const INTERVALS_MAX: u32 = 3;

/// How many canaries on their way are remembered.
const SENT_MAX: usize = 8;

/// The channel of the canaries of one process.
pub(super) fn channel(server_id: &str) -> String {
    ["shardcast:canary:", server_id].concat()
}

/// Canaries sent and heard.
#[derive(Debug, Default)]
pub(super) struct Canary {
    next: u64,
    sent: [Option<(u64, Instant)>; SENT_MAX],
    heard_at: Option<Instant>,
    rtt: Option<Duration>,
}

impl Canary {
    /// The number of the canary that goes out `now`; its message.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.sent[Self::place(number)] = Some((number, now));
        number
    }

    /// A message came on the canary channel. Anyone can publish there, so only what is on its way counts.
    pub(super) fn hear(&mut self, message: &[u8], now: Instant) {
        let number = std::str::from_utf8(message).ok().and_then(|text| text.parse().ok());
        let Some(number) = number else { return };
        if let Some((_, at)) = self.sent[Self::place(number)].take_if(|(sent, _)| *sent == number) {
            self.rtt = Some(now.saturating_duration_since(at));
            self.heard_at = Some(now);
        }
    }

    /// The link broke: what was heard through it says nothing about the next one.
    pub(super) fn forget(&mut self) {
        self.sent = [None; SENT_MAX];
        self.heard_at = None;
        self.rtt = None;
    }

    /// Whether one came back recently.
    pub(super) fn is_fresh(&self, now: Instant, interval: Duration) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) <= interval * INTERVALS_MAX)
    }

    /// How long the last one took.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    fn place(number: u64) -> usize {
        (number % SENT_MAX as u64) as usize
    }
}

/// Finds out that a subscription is dead without having been closed (half-open TCP, a failover behind one address).
///
/// Evidence is that Redis accepted [`INTERVALS_MAX`] canaries since the last message of any kind. Silence alone is
/// none: while Redis stalls, nothing comes and nothing is lost either.
#[derive(Debug, Default)]
pub(super) struct Silence {
    received: u64,
    accepted: u64,
}

impl Silence {
    /// Starts at the numbers of the moment of subscription.
    pub(super) fn new(accepted: u64) -> Self {
        Self { received: 0, accepted }
    }

    /// Looks at the number of messages `received` on this subscription and of canaries `accepted` by Redis.
    pub(super) fn is_dead(&mut self, received: u64, accepted: u64) -> bool {
        if received != self.received {
            *self = Self { received, accepted };
        }
        accepted - self.accepted >= u64::from(INTERVALS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn a_canary_keeps_readiness_green_for_three_intervals() {
        let start = Instant::now();
        let mut canary = Canary::default();
        assert!(!canary.is_fresh(start, INTERVAL));
        let number = canary.send(start);
        assert!(!canary.is_fresh(start, INTERVAL));
        let heard = start + Duration::from_millis(3);
        canary.hear(number.to_string().as_bytes(), heard);
        assert_eq!(canary.rtt(), Some(Duration::from_millis(3)));
        assert!(canary.is_fresh(heard + INTERVAL * 3, INTERVAL));
        assert!(!canary.is_fresh(heard + INTERVAL * 3 + Duration::from_millis(1), INTERVAL));
        canary.forget();
        assert!(!canary.is_fresh(heard, INTERVAL));
        assert_eq!(canary.rtt(), None);
    }

    #[test]
    fn attack_69_only_a_canary_on_its_way_counts() {
        let now = Instant::now();
        let mut canary = Canary::default();
        let first = canary.send(now);
        for forged in ["", "x", "-1", "1", "8", "99999999999999999999", "0 "] {
            canary.hear(forged.as_bytes(), now);
            assert!(!canary.is_fresh(now, INTERVAL), "{forged}");
        }
        canary.hear(b"\xff", now);
        assert!(!canary.is_fresh(now, INTERVAL));
        for _ in 0..SENT_MAX {
            canary.send(now);
        }
        canary.hear(first.to_string().as_bytes(), now);
        assert!(!canary.is_fresh(now, INTERVAL), "a forgotten canary does not count");
        canary.hear(b"5", now);
        assert!(canary.is_fresh(now, INTERVAL));
        let later = now + INTERVAL * 4;
        canary.hear(b"5", later);
        assert!(!canary.is_fresh(later, INTERVAL), "a canary counts once");
    }

    #[test]
    fn attack_72_a_silent_subscription_is_dead_only_if_redis_takes_canaries() {
        let mut silence = Silence::new(10);
        for _ in 0..100 {
            assert!(!silence.is_dead(0, 12), "a stalled Redis takes no canaries");
        }
        assert!(!silence.is_dead(1, 13), "a message is a sign of life");
        assert!(!silence.is_dead(1, 15));
        assert!(silence.is_dead(1, 16));
    }
}
