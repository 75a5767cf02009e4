//! Tokens that were found good lately, so that a client that comes back is let in without another look at its
//! signature.
//!
//! A table of slots without a lock: the token's SHA-256 says which slot, and whoever writes last has it. So memory is
//! bounded by the number of slots, there is nothing to evict, and a look takes a hash and an atomic load, which a
//! shard's thread can afford. Only tokens that were found good are written, so nobody without one can drive others
//! out. Refusals are never kept.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::Principal;

/// What stands for a token: its SHA-256. Comparing takes the same time whatever differs.
#[derive(Clone, Copy, Debug)]
pub struct TokenHash([u8; 32]);

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

#[derive(Debug)]
struct Entry {
    hash: TokenHash,
    principal: Arc<Principal>,
    /// Good until then, ms since 1970, and not before it was written: a wall clock that is set back makes it useless.
    from_unix_ms: u64,
    until_unix_ms: u64,
    epoch: u64,
}

/// Tokens that were found good lately.
#[derive(Debug)]
pub struct TokenCache {
    slots: Box<[ArcSwapOption<Entry>]>,
}

impl TokenCache {
    /// With so many slots.
    pub fn new(slots: usize) -> Self {
        Self { slots: (0..slots.max(1)).map(|_| ArcSwapOption::empty()).collect() }
    }

    fn slot(&self, hash: &TokenHash) -> &ArcSwapOption<Entry> {
        let [a, b, c, d, e, f, g, h, ..] = hash.0;
        let number = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        &self.slots[(number % self.slots.len() as u64) as usize]
    }

    /// Whom the token stands for, if it was found good lately and the keys are those of then.
    pub fn find(&self, hash: &TokenHash, epoch: u64, now_unix_ms: u64) -> Option<Arc<Principal>> {
        let slot = self.slot(hash).load();
        let entry = slot.as_ref()?;
        let is_fresh = (entry.from_unix_ms..entry.until_unix_ms).contains(&now_unix_ms);
        (entry.hash == *hash && entry.epoch == epoch && is_fresh).then(|| entry.principal.clone())
    }

    /// Notes a token that was found good with the keys of `epoch`, for `ttl` and no longer than it is valid.
    pub fn put(
        &self,
        hash: TokenHash,
        principal: Arc<Principal>,
        epoch: u64,
        now_unix_ms: u64,
        ttl: Duration,
    ) {
        let until_unix_ms = now_unix_ms.saturating_add(ttl.as_millis() as u64);
        let until_unix_ms = until_unix_ms.min(principal.expires_unix_ms.unwrap_or(u64::MAX));
        let entry = Entry { hash, principal, from_unix_ms: now_unix_ms, until_unix_ms, epoch };
        self.slot(&hash).store(Some(Arc::new(entry)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn principal(expires_unix_ms: Option<u64>) -> Arc<Principal> {
        Arc::new(Principal { expires_unix_ms, ..Principal::default() })
    }

    #[test]
    fn a_token_is_known_for_its_time_and_its_keys() {
        let cache = TokenCache::new(64);
        let hash = TokenHash::of("a");
        assert_eq!(cache.find(&hash, 1, 1_000), None);
        cache.put(hash, principal(None), 1, 1_000, TTL);
        let cases =
            [(1, 1_000, true), (1, 60_999, true), (1, 61_000, false), (1, 999, false), (2, 1_000, false)];
        for (epoch, now, known) in cases {
            assert_eq!(cache.find(&hash, epoch, now).is_some(), known, "epoch {epoch} at {now}");
        }
        assert_eq!(cache.find(&TokenHash::of("b"), 1, 1_000), None);
    }

    #[test]
    fn attack_54_a_token_is_not_known_beyond_its_expiry() {
        let cache = TokenCache::new(64);
        let hash = TokenHash::of("a");
        cache.put(hash, principal(Some(5_000)), 1, 1_000, TTL);
        assert!(cache.find(&hash, 1, 4_999).is_some());
        assert!(cache.find(&hash, 1, 5_000).is_none());
    }

    #[test]
    fn a_slot_has_room_for_one_token_and_never_gives_it_for_another() {
        let cache = TokenCache::new(1);
        let [a, b] = ["a", "b"].map(TokenHash::of);
        cache.put(a, principal(None), 1, 0, TTL);
        assert_eq!(cache.find(&b, 1, 0), None);
        cache.put(b, principal(None), 1, 0, TTL);
        assert_eq!(cache.find(&a, 1, 0), None);
        assert!(cache.find(&b, 1, 0).is_some());
    }
}
