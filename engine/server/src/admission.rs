//! How many connections an address and a user hold, and how fast connections are taken in: what is counted for the
//! whole process, since the kernel spreads connections over the shards as it likes.
//!
//! A place that was taken is given back when its guard is dropped, whatever became of the connection or the shard.
//! Maps are hashed under random keys and hold at most one entry a connection. A connection takes the lock of one stripe
//! when it comes and when it goes, and only where there is a limit; nothing here is between a message and a socket.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use shardcast_shard::MountId;
use shardcast_shard::address::Addresses;
use shardcast_wire::ignis::UserId;

use crate::config::{Config, ProxyProtocol};

/// Connections taken in at once after a pause, as a time: so much of a second's worth.
const BURST: Duration = Duration::from_millis(50);

/// What the configuration says about where connections come from.
pub fn addresses(config: &Config) -> Addresses {
    Addresses {
        proxies: config.server.trusted_proxies.clone(),
        header: config.server.client_address_header.clone(),
        proxy_protocol: config.server.proxy_protocol == ProxyProtocol::Required,
        ipv6_prefix_bits: u8::try_from(config.limits.ipv6_prefix_bits).unwrap_or(128),
    }
}

/// There is no place left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The counts of a process.
#[derive(Debug)]
pub struct Admission {
    addresses: Addresses,
    by_address: Option<Arc<Places<IpAddr>>>,
    by_user: Option<Arc<Places<(MountId, UserId)>>>,
    accepts: Option<Pace>,
}

impl Admission {
    /// Nobody is there. `None` is without limit.
    pub fn new(
        addresses: Addresses,
        per_address_max: Option<usize>,
        per_user_max: Option<usize>,
        accepts_per_second_max: Option<usize>,
    ) -> Self {
        Self {
            addresses,
            by_address: per_address_max.map(Places::new),
            by_user: per_user_max.map(Places::new),
            accepts: accepts_per_second_max.map(Pace::new),
        }
    }

    /// A place for one more connection of an address; none is needed where no limit applies. Errors: it holds as many
    /// as it may.
    pub fn enter(&self, address: IpAddr) -> Result<Option<Place<IpAddr>>, Full> {
        let Some(places) = &self.by_address else { return Ok(None) };
        let Some(address) = self.addresses.limited(address) else { return Ok(None) };
        places.take(address).map(Some)
    }

    /// The same for a user of a mount.
    pub fn enter_user(&self, mount: MountId, user: &UserId) -> Result<Option<UserPlace>, Full> {
        let Some(places) = &self.by_user else { return Ok(None) };
        places.take((mount, user.clone())).map(Some)
    }

    /// Seats a connection that may hold a place of a user already, since it can authenticate anew: it never needs a second
    /// one for the same user, and gives back that of another. Errors: there is none; it holds what it held.
    pub fn seat_user(
        &self,
        held: &mut Option<UserPlace>,
        mount: MountId,
        user: Option<&UserId>,
    ) -> Result<(), Full> {
        let Some(user) = user else {
            *held = None;
            return Ok(());
        };
        let is_own = |place: &UserPlace| place.key.0 == mount && place.key.1 == *user;
        if !held.as_ref().is_some_and(is_own) {
            *held = self.enter_user(mount, user)?;
        }
        Ok(())
    }

    /// How long to wait before the next connection is taken in; zero is not at all.
    pub fn accept_delay(&self) -> Duration {
        self.accepts.as_ref().map_or(Duration::ZERO, |pace| pace.delay(Instant::now()))
    }

    /// A connection was taken in. Shards that looked at the same time may each take one.
    pub fn accepted(&self) {
        if let Some(pace) = &self.accepts {
            pace.take(Instant::now());
        }
    }
}

/// A user's place.
pub type UserPlace = Place<(MountId, UserId)>;

/// How many places each key has taken; none without any.
struct Places<K: Hash + Eq> {
    each_max: usize,
    taken: DashMap<K, usize>,
}

impl<K: Hash + Eq + Clone> Places<K> {
    fn new(each_max: usize) -> Arc<Self> {
        Arc::new(Self { each_max, taken: DashMap::new() })
    }

    fn take(self: &Arc<Self>, key: K) -> Result<Place<K>, Full> {
        let mut count = self.taken.entry(key.clone()).or_insert(0);
        if *count >= self.each_max {
            return Err(Full);
        }
        *count += 1;
        drop(count);
        Ok(Place { key, places: self.clone() })
    }
}

impl<K: Hash + Eq> fmt::Debug for Places<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("each_max", &self.each_max).field("keys", &self.taken.len()).finish()
    }
}

/// A place, given back on drop.
#[derive(Debug)]
pub struct Place<K: Hash + Eq> {
    key: K,
    places: Arc<Places<K>>,
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        self.places.taken.remove_if_mut(&self.key, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

/// So many a second, evenly, with a burst: one time, that at which the bucket is full again (GCRA).
#[derive(Debug)]
struct Pace {
    origin: Instant,
    interval_ns: u64,
    burst_ns: u64,
    /// Since `origin`.
    full_ns: AtomicU64,
}

impl Pace {
    fn new(per_second_max: usize) -> Self {
        let interval_ns = (1_000_000_000 / per_second_max.max(1) as u64).max(1);
        let burst_ns = (BURST.as_nanos() as u64).max(interval_ns);
        Self { origin: Instant::now(), interval_ns, burst_ns, full_ns: AtomicU64::new(0) }
    }

    fn delay(&self, now: Instant) -> Duration {
        let next_ns = self.full_ns.load(Ordering::Relaxed) + self.interval_ns;
        Duration::from_nanos(next_ns.saturating_sub(self.since(now) + self.burst_ns))
    }

    fn take(&self, now: Instant) {
        let now_ns = self.since(now);
        let later = |full_ns: u64| Some(full_ns.max(now_ns) + self.interval_ns);
        self.full_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later)
            .expect("the closure always returns a value");
    }

    fn since(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(per_address_max: usize, per_user_max: usize) -> Admission {
        Admission::new(Addresses::default(), Some(per_address_max), Some(per_user_max), None)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_gets_its_places_and_each_is_given_back() {
        let admission = limited(2, 1);
        let places = [(); 2].map(|()| admission.enter(address("203.0.113.7")).expect("a place"));
        assert_eq!(admission.enter(address("203.0.113.7")).err(), Some(Full));
        assert!(admission.enter(address("203.0.113.8")).is_ok_and(|place| place.is_some()));
        assert!((0..9).all(|_| admission.enter(address("127.0.0.1")).is_ok_and(|place| place.is_none())));
        drop(places);
        assert_eq!(admission.by_address.as_ref().map(|places| places.taken.len()), Some(0));
        assert!(admission.enter(address("203.0.113.7")).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_users_are_told_apart_by_mount_and_kind() {
        let admission = limited(1, 1);
        let place = admission.enter(address("2001:db8::1")).expect("a place");
        assert_eq!(admission.enter(address("2001:db8::ffff:1")).err(), Some(Full));
        assert!(admission.enter(address("2001:db8:0:1::1")).is_ok());
        drop(place);
        let users = [
            (MountId(0), UserId::from_text("1")),
            (MountId(0), UserId::from_json("1").expect("a number")),
            (MountId(1), UserId::from_json("1").expect("a number")),
        ];
        let places: Vec<_> = users.iter().map(|(mount, user)| admission.enter_user(*mount, user)).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!(users.iter().all(|(mount, user)| admission.enter_user(*mount, user).is_err()));
    }

    #[test]
    fn who_authenticates_anew_needs_no_second_place_and_gives_back_that_of_another_user() {
        let admission = limited(1, 1);
        let [anna, ben] = ["anna", "ben"].map(UserId::from_text);
        let (mut first, mut second) = (None, None);
        let seat = |held: &mut Option<UserPlace>, user| admission.seat_user(held, MountId(0), user);
        assert_eq!(seat(&mut first, Some(&anna)), Ok(()));
        assert_eq!(seat(&mut first, Some(&anna)), Ok(()), "its own place is no obstacle");
        assert_eq!(seat(&mut second, Some(&anna)), Err(Full));
        assert!(second.is_none() && first.is_some());
        assert_eq!(seat(&mut second, Some(&ben)), Ok(()));
        assert_eq!(seat(&mut first, Some(&ben)), Err(Full));
        assert_eq!(seat(&mut second, Some(&anna)), Err(Full), "it keeps what it held");
        assert_eq!(seat(&mut first, None), Ok(()));
        assert_eq!(seat(&mut second, Some(&anna)), Ok(()));
        assert_eq!(seat(&mut first, Some(&ben)), Ok(()));
        drop((first, second));
        assert_eq!(admission.by_user.as_ref().map(|places| places.taken.len()), Some(0));
    }

    #[test]
    fn accepts_are_spread_evenly_after_a_small_burst() {
        let pace = Pace::new(1_000);
        let mut now = pace.origin + Duration::from_secs(5);
        let mut taken = 0;
        while pace.delay(now).is_zero() {
            pace.take(now);
            taken += 1;
        }
        assert_eq!(taken, 50);
        for _ in 0..1_000 {
            let delay = pace.delay(now);
            assert!(delay > Duration::ZERO && delay <= Duration::from_millis(1), "{delay:?}");
            now += delay;
            pace.take(now);
        }
        assert_eq!(now, pace.origin + Duration::from_secs(6));
        let slow = Pace::new(1);
        assert!(slow.delay(slow.origin).is_zero());
        slow.take(slow.origin);
        assert_eq!(slow.delay(slow.origin), Duration::from_secs(1));
    }
}
