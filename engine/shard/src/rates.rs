//! How much a connection, a user and an address may send: messages, bytes and joins a second.
//!
//! Each rate is a bucket that fills evenly up to its burst and is emptied by what is sent (GCRA: one time a bucket,
//! that at which it is full again). Who sends more is told once a second and ignored; who goes on is closed. Users
//! and addresses are counted by each shard for itself, so that no message takes a lock: with connections on `n`
//! shards one may have up to `n` times the rate.

use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use shardcast_wire::close;
use shardcast_wire::ignis::UserId;
use shardcast_wire::message::Inbound;

use crate::conn::Conn;
use crate::event::Now;
use crate::ids::{ConnId, SeededMap, seeded_map};
use crate::shard::Shard;

/// In which refusals add up.
const REFUSALS_WINDOW_MS: u64 = 10_000;
/// Between two times that a client is told.
const TELL_INTERVAL_MS: u64 = 1_000;
/// Users of a mount, and addresses, that one shard keeps buckets of; one more is not limited, and counted.
const KEYS_MAX: usize = 262_144;
/// From so many on, buckets that are full are looked for before another is made.
const KEYS_UNSWEPT: usize = 1_024;
/// Between two such looks when they find little.
const SWEEP_INTERVAL_MS: u64 = 1_000;

const NS_PER_MS: u64 = 1_000_000;

/// So much in a time, and how much at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In which one unit comes back, in picoseconds: bytes come back by the nanosecond and less.
    interval_ps: u64,
    burst_ns: u64,
}

impl Rate {
    /// `count` in `period`, `burst` at once; each at least 1.
    pub fn new(count: u64, period: Duration, burst: u64) -> Self {
        let period_ps = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).saturating_mul(1_000);
        let interval_ps = (period_ps / count.max(1)).max(1);
        Self { interval_ps, burst_ns: Self { interval_ps, burst_ns: 0 }.cost_ns(burst.max(1)) }
    }

    fn cost_ns(self, units: u64) -> u64 {
        let cost_ns = u128::from(units) * u128::from(self.interval_ps) / 1_000;
        u64::try_from(cost_ns).unwrap_or(u64::MAX)
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages, pings among them.
    pub messages: u64,
    /// Bytes of their payloads; of compressed ones, what they came to.
    pub bytes: u64,
    /// Rooms asked for.
    pub joins: u64,
}

impl Amount {
    /// What a message comes to; closing is free.
    pub(crate) fn of(message: &Inbound<'_>) -> Self {
        let bytes = match message {
            Inbound::Text(text) => text.len(),
            Inbound::Binary(data) | Inbound::Ping(data) | Inbound::Pong(data) => data.len(),
            Inbound::Close(_) => return Self::default(),
        };
        Self { messages: 1, bytes: bytes as u64, joins: 0 }
    }
}

/// The rates of one connection, user or address; `None` is without bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Of [`Amount::messages`].
    pub messages: Option<Rate>,
    /// Of [`Amount::bytes`].
    pub bytes: Option<Rate>,
    /// Of [`Amount::joins`].
    pub joins: Option<Rate>,
}

impl Rates {
    fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Each rate with what is to be taken from it.
    fn with(&self, amount: &Amount) -> [(Option<Rate>, u64); 3] {
        [(self.messages, amount.messages), (self.bytes, amount.bytes), (self.joins, amount.joins)]
    }
}

/// All rates of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of each connection.
    pub connection: Rates,
    /// Of each user of a mount.
    pub user: Rates,
    /// Of each address that limits apply to ([`crate::address::Addresses::limited`]).
    pub address: Rates,
    /// Refusals of a connection in 10 s; one more closes it.
    pub refusals_max: u32,
}

impl RateLimits {
    fn is_off(&self) -> bool {
        self.connection.is_off() && self.user.is_off() && self.address.is_off()
    }
}

/// When each bucket is full again, ns; the past is full.
#[derive(Clone, Copy, Debug, Default)]
struct Buckets([u64; 3]);

impl Buckets {
    /// Whether there is enough. What is larger than the burst passes when the bucket is full, and is paid for after.
    fn hold(&self, now_ns: u64, rates: &Rates, amount: &Amount) -> bool {
        rates.with(amount).into_iter().zip(self.0).all(|((rate, units), full_ns)| match rate {
            Some(rate) if units > 0 && full_ns > now_ns => {
                (full_ns - now_ns).saturating_add(rate.cost_ns(units)) <= rate.burst_ns
            }
            _ => true,
        })
    }

    fn take(&mut self, now_ns: u64, rates: &Rates, amount: &Amount) {
        for ((rate, units), full_ns) in rates.with(amount).into_iter().zip(&mut self.0) {
            if let Some(rate) = rate {
                *full_ns = (*full_ns).max(now_ns).saturating_add(rate.cost_ns(units));
            }
        }
    }

    fn is_full(&self, now_ns: u64) -> bool {
        self.0.iter().all(|full_ns| *full_ns <= now_ns)
    }
}

/// What a connection has sent of late. Made with its first message where there are rates.
#[derive(Debug, Default)]
pub struct ConnRates {
    buckets: Buckets,
    refusals: u32,
    refusals_since_ms: u64,
    /// When the client may be told again.
    tell_ms: u64,
}

/// Buckets by user or address. Full ones are as good as none and are swept away.
#[derive(Debug)]
struct Keyed<K> {
    buckets: SeededMap<K, Buckets>,
    sweep_len: usize,
    sweep_ms: u64,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(seed: u64) -> Self {
        Self { buckets: seeded_map(seed), sweep_len: KEYS_UNSWEPT, sweep_ms: 0 }
    }

    /// The buckets of a key; `None` when there are too many to make more.
    fn of(&mut self, now: Now, key: &K) -> Option<&mut Buckets> {
        if !self.buckets.contains_key(key) {
            if self.buckets.len() >= self.sweep_len && now.ms >= self.sweep_ms {
                let now_ns = now.ms.saturating_mul(NS_PER_MS);
                self.buckets.retain(|_, buckets| !buckets.is_full(now_ns));
                self.sweep_len = (2 * self.buckets.len()).clamp(KEYS_UNSWEPT, KEYS_MAX);
                self.sweep_ms = now.ms + SWEEP_INTERVAL_MS;
            }
            if self.buckets.len() >= KEYS_MAX {
                return None;
            }
            self.buckets.insert(key.clone(), Buckets::default());
        }
        self.buckets.get_mut(key)
    }
}

/// The buckets of a shard that are not a connection's own.
#[derive(Debug)]
pub(crate) struct RateTables {
    is_off: bool,
    /// One a mount.
    users: Vec<Keyed<UserId>>,
    addresses: Keyed<IpAddr>,
}

impl RateTables {
    pub(crate) fn new(limits: &RateLimits, mount_count: usize, seed: u64) -> Self {
        let users = (0..mount_count).map(|_| Keyed::new(seed)).collect();
        Self { is_off: limits.is_off(), users, addresses: Keyed::new(seed) }
    }
}

/// What becomes of what a client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// It is within all rates.
    Granted,
    /// It is ignored; whether to tell the client.
    Refused {
        /// It has not been told within the last second.
        tell: bool,
    },
    /// It was too often: the connection is closed.
    Closed,
}

impl Shard {
    /// Takes what an open connection sent from all of its buckets, or from none.
    pub(crate) fn charge(&mut self, now: Now, id: ConnId, amount: &Amount) -> Charge {
        if self.rates.is_off {
            return Charge::Granted;
        }
        let Self { conns, rates, config, counters, .. } = self;
        let limits = &config.rates;
        let now_ns = now.ms.saturating_mul(NS_PER_MS);
        let conn = conns.get_mut(id).expect("looked up by the caller");
        let Conn { identity, address, mount, rates: own, .. } = conn;
        let own = own.get_or_insert_default();

        let user = identity.user.as_ref().filter(|_| !limits.user.is_off());
        let user = user.map(|user| rates.users[mount.0 as usize].of(now, user));
        let limited = Some(*address).filter(|_| !limits.address.is_off());
        let limited = limited.and_then(|address| config.addresses.limited(address));
        let address = limited.map(|address| rates.addresses.of(now, &address));
        for keyed in [&user, &address] {
            counters.rate_keys_full += u64::from(matches!(keyed, Some(None)));
        }
        let (mut user, mut address) = (user.flatten(), address.flatten());

        let refused = if !own.buckets.hold(now_ns, &limits.connection, amount) {
            &mut counters.rate_refused_connection
        } else if user.as_ref().is_some_and(|buckets| !buckets.hold(now_ns, &limits.user, amount)) {
            &mut counters.rate_refused_user
        } else if address.as_ref().is_some_and(|buckets| !buckets.hold(now_ns, &limits.address, amount)) {
            &mut counters.rate_refused_address
        } else {
            own.buckets.take(now_ns, &limits.connection, amount);
            if let Some(buckets) = &mut user {
                buckets.take(now_ns, &limits.user, amount);
            }
            if let Some(buckets) = &mut address {
                buckets.take(now_ns, &limits.address, amount);
            }
            return Charge::Granted;
        };
        *refused += 1;
        let charge = own.refuse(now, limits.refusals_max);
        if charge == Charge::Closed {
            counters.rate_closed += 1;
            self.close(now, id, &close::RATE_LIMIT_EXCEEDED);
        }
        charge
    }
}

impl ConnRates {
    fn refuse(&mut self, now: Now, refusals_max: u32) -> Charge {
        if now.ms >= self.refusals_since_ms + REFUSALS_WINDOW_MS {
            (self.refusals, self.refusals_since_ms) = (0, now.ms);
        }
        self.refusals += 1;
        if self.refusals > refusals_max {
            return Charge::Closed;
        }
        let tell = now.ms >= self.tell_ms;
        if tell {
            self.tell_ms = now.ms + TELL_INTERVAL_MS;
        }
        Charge::Refused { tell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Now {
        Now { ms, unix_ms: 0 }
    }

    /// How many of `tries` single messages pass at a time.
    fn pass(buckets: &mut Buckets, rates: &Rates, ms: u64, tries: u32) -> u32 {
        let (now_ns, one) = (ms * NS_PER_MS, Amount { messages: 1, ..Amount::default() });
        (0..tries)
            .map(|_| {
                let holds = buckets.hold(now_ns, rates, &one);
                if holds {
                    buckets.take(now_ns, rates, &one);
                }
                u32::from(holds)
            })
            .sum()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rates = Rates { messages: Some(Rate::new(100, SECOND, 20)), ..Rates::default() };
        let mut buckets = Buckets::default();
        assert_eq!(pass(&mut buckets, &rates, 1_000, 50), 20);
        assert_eq!(pass(&mut buckets, &rates, 1_009, 50), 0);
        assert_eq!(pass(&mut buckets, &rates, 1_010, 50), 1);
        assert_eq!((1_011..=2_010).map(|ms| pass(&mut buckets, &rates, ms, 5)).sum::<u32>(), 100);
        assert_eq!(pass(&mut buckets, &rates, 60_000, 50), 20, "no more than the burst after a pause");
    }

    /// Whatever the order of calls, no time sees more than its burst and what came back in it.
    #[test]
    fn no_window_sees_more_than_burst_and_rate() {
        let (per_second, burst) = (50, 10);
        let rates = Rates { messages: Some(Rate::new(per_second, SECOND, burst)), ..Rates::default() };
        for seed in 1..200u64 {
            let mut random = seed;
            let mut next = |below: u64| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % below
            };
            let (mut buckets, mut ms, mut passed) = (Buckets::default(), 0, Vec::new());
            for _ in 0..300 {
                ms += if next(20) == 0 { next(2_000) } else { next(15) };
                let count = pass(&mut buckets, &rates, ms, next(8) as u32);
                passed.extend((0..count).map(|_| ms));
            }
            for (first, &from) in passed.iter().enumerate() {
                for (last, &to) in passed.iter().enumerate().skip(first) {
                    let allowed = burst + (to - from) * per_second / 1_000;
                    assert!((last - first) as u64 <= allowed, "seed {seed}, from {from} to {to} ms");
                }
            }
        }
    }

    #[test]
    fn what_is_larger_than_the_burst_passes_a_full_bucket_and_is_paid_for() {
        let rates = Rates { bytes: Some(Rate::new(1_000, SECOND, 100)), ..Rates::default() };
        let mut buckets = Buckets::default();
        let of = |bytes| Amount { bytes, ..Amount::default() };
        assert!(buckets.hold(0, &rates, &of(5_000)));
        buckets.take(0, &rates, &of(5_000));
        assert!(!buckets.hold(4_899 * NS_PER_MS, &rates, &of(1)));
        assert!(buckets.hold(5_000 * NS_PER_MS, &rates, &of(100)));
        assert!(
            buckets.hold(0, &rates, &Amount { messages: 9, ..Amount::default() }),
            "other kinds are free"
        );
        let mut extreme = Buckets::default();
        extreme.take(0, &rates, &of(u64::MAX));
        assert!(!extreme.hold(u64::MAX - 1, &rates, &of(u64::MAX)), "no overflow");
    }

    #[test]
    fn rates_beyond_a_unit_a_nanosecond_are_kept() {
        let rates = Rates { bytes: Some(Rate::new(4 << 30, SECOND, 1 << 20)), ..Rates::default() };
        let mut buckets = Buckets::default();
        let of = |bytes| Amount { bytes, ..Amount::default() };
        buckets.take(0, &rates, &of(1 << 20));
        assert!(!buckets.hold(0, &rates, &of(1 << 19)) && buckets.hold(NS_PER_MS, &rates, &of(1 << 19)));
    }

    #[test]
    fn a_client_is_told_once_a_second_and_closed_when_it_goes_on() {
        let mut own = ConnRates::default();
        assert_eq!(own.refuse(at(20_000), 3), Charge::Refused { tell: true });
        assert_eq!(own.refuse(at(20_999), 3), Charge::Refused { tell: false });
        assert_eq!(own.refuse(at(21_000), 3), Charge::Refused { tell: true });
        assert_eq!(own.refuse(at(29_999), 3), Charge::Closed);
        let mut own = ConnRates::default();
        for ms in (0..).step_by(4_000).take(100) {
            assert_ne!(own.refuse(at(ms), 3), Charge::Closed, "three in ten seconds");
        }
    }

    /// Hostile keys cannot grow the table without bound, nor make each message look at all of it.
    #[test]
    fn keys_are_bounded_and_full_buckets_are_swept() {
        let rates = Rates { messages: Some(Rate::new(1, SECOND, 1)), ..Rates::default() };
        let one = Amount { messages: 1, ..Amount::default() };
        let mut keyed = Keyed::new(1);
        let (mut made, mut refused) = (0, 0);
        for key in 0..KEYS_MAX as u32 + 100 {
            match keyed.of(at(0), &key) {
                Some(buckets) => {
                    buckets.take(0, &rates, &one);
                    made += 1;
                }
                None => refused += 1,
            }
        }
        assert_eq!((made, refused), (KEYS_MAX, 100));
        assert!(keyed.of(at(10), &5).is_some(), "those that are there stay");
        assert!(keyed.of(at(2_000), &u32::MAX).is_some());
        assert!(keyed.buckets.len() < 10, "{} left", keyed.buckets.len());
    }
}
