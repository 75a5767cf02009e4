//! The keys an issuer publishes: fetching them, keeping them, and knowing when to look again.
//!
//! Invariants: what is fetched is bounded in time, bytes and keys; a set in which nothing is of use replaces nothing;
//! tokens that name unknown keys cause at most one fetch in [`LOOK_AGAIN_INTERVAL`], however many there are; a key
//! stays good for [`RETIRED_FOR`] after a fetch found it missing, so for as long as fetches fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use reqwest::StatusCode;
use tokio::sync::{Mutex, Semaphore, watch};

use super::jwk::{self, Bound, Ignored};
use super::key::Key;
use crate::config::secret::mask_url;
use crate::config::{Config, Jwks};
use crate::outbound::{self, BodyError, Client, Url, UrlFault};
use crate::status::{AuthStatus, JwksStatus};
use crate::wall_clock::now_unix_ms;

/// Longest set that is read, in bytes: a hundred RSA keys with their certificates.
const SET_BYTES_MAX: usize = 256 << 10;

/// Between two fetches that tokens with unknown keys cause.
pub const LOOK_AGAIN_INTERVAL: Duration = Duration::from_secs(30);

/// How long a key is good after a fetch found it missing: tokens that it signed are still on their way.
pub const RETIRED_FOR: Duration = Duration::from_secs(3_600);

/// Tokens that may wait for one fetch; more are refused at once.
const WAITERS_MAX: usize = 256;

/// The pause after a first failed fetch; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest pause after a failed fetch.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is not one to send requests to.
    #[error("the address cannot be used: {0}")]
    Url(#[from] UrlFault),
    /// The client could not be made.
    #[error("the HTTP client cannot be used: {0}")]
    NoClient(String),
    /// Nobody answered, or not in time.
    #[error("{}", outbound::cause(.0))]
    Request(reqwest::Error),
    /// The answer did not come in time.
    #[error("it took too long")]
    Timeout,
    /// Another answer than 200.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// A body that is too long or broke off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A body that is no set of keys.
    #[error("the answer is not a set of keys: {0}")]
    Document(serde_json::Error),
    /// A set without a key that is of use.
    #[error("none of its {0} keys is of use")]
    Useless(usize),
}

/// A key of a set, and since when it has been missing there.
#[derive(Clone, Debug)]
struct Held {
    key: Arc<Key>,
    missing_since: Option<Instant>,
}

/// What a source has.
#[derive(Debug, Default)]
struct State {
    held: Vec<Held>,
    /// How often it was fetched with success.
    generation: u64,
}

/// When it was tried last; whoever holds it fetches.
#[derive(Debug, Default)]
struct Attempts {
    last: Option<Instant>,
    last_for_unknown: Option<Instant>,
    failures: u32,
    ignored: Vec<(Ignored, usize)>,
}

/// One place that keys come from.
#[derive(Debug)]
pub struct Source {
    config: Jwks,
    /// Its address without what may be a secret in it.
    shown: String,
    state: ArcSwap<State>,
    attempts: Mutex<Attempts>,
    waiters: Semaphore,
    status: Arc<JwksStatus>,
    shared: Arc<Shared>,
}

/// What all sources of a process share.
#[derive(Debug)]
pub struct Shared {
    client: Result<Client, String>,
    status: Arc<AuthStatus>,
    /// Grows whenever a key comes or goes: what was found good with the keys before is looked at again.
    epoch: AtomicU64,
}

impl Shared {
    /// With a client of its own.
    pub fn new(status: Arc<AuthStatus>) -> Arc<Self> {
        let client = outbound::client().map_err(|error| outbound::cause(&error));
        Arc::new(Self { client, status, epoch: AtomicU64::new(0) })
    }

    /// The present epoch of keys.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Keys came or went.
    pub fn next_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

impl Source {
    fn new(config: Jwks, shared: Arc<Shared>) -> Self {
        Self {
            status: Arc::new(JwksStatus { issuer: config.issuer.clone(), ..JwksStatus::default() }),
            shown: mask_url(&config.url),
            config,
            state: ArcSwap::default(),
            attempts: Mutex::default(),
            waiters: Semaphore::new(WAITERS_MAX),
            shared,
        }
    }

    /// The sources of a configuration; those of `known` that it has again keep their keys.
    pub fn all(config: &Config, known: &[Arc<Self>], shared: &Arc<Shared>) -> Vec<Arc<Self>> {
        let make = |wanted: &Jwks| {
            let same = known.iter().find(|source| source.config == *wanted);
            same.cloned().unwrap_or_else(|| Arc::new(Self::new(wanted.clone(), shared.clone())))
        };
        config.jwt.jwks.iter().map(make).collect()
    }

    /// Whose keys they are.
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Where they are, as it can be shown: without its query.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Whether they were fetched at least once.
    pub fn is_loaded(&self) -> bool {
        self.state.load().generation > 0
    }

    /// Adds the keys that are good to `pool`.
    pub fn keys(&self, pool: &mut Vec<Arc<Key>>) {
        let is_good = |held: &&Held| held.missing_since.is_none_or(|since| since.elapsed() < RETIRED_FOR);
        pool.extend(self.state.load().held.iter().filter(is_good).map(|held| held.key.clone()));
    }

    /// A token names a key that is not known: fetches the keys, unless that was done lately. Returns whether there
    /// are other keys than when this was called.
    pub async fn look_again(&self) -> bool {
        let generation = self.state.load().generation;
        let Ok(_place) = self.waiters.try_acquire() else { return false };
        let mut attempts = self.attempts.lock().await;
        if self.state.load().generation != generation {
            return true;
        }
        // Before the first success the fetches of `keep` are enough; they have pauses of their own.
        let is_due = attempts.last_for_unknown.is_none_or(|last| last.elapsed() >= LOOK_AGAIN_INTERVAL);
        if generation == 0 || !is_due {
            return false;
        }
        attempts.last_for_unknown = Some(Instant::now());
        self.fetch_and_note(&mut attempts).await;
        self.state.load().generation != generation
    }

    /// Fetches the keys once, for a check by hand.
    pub async fn load(&self) -> Result<(), FetchError> {
        self.fetch().await.map(drop)
    }

    /// Fetches the keys again and again.
    async fn keep(&self) {
        loop {
            let pause = {
                let mut attempts = self.attempts.lock().await;
                let pause = self.pause(&attempts);
                let waited = attempts.last.map_or(pause, |last| last.elapsed());
                if waited >= pause {
                    self.fetch_and_note(&mut attempts).await;
                    self.pause(&attempts)
                } else {
                    pause - waited
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// How long to wait after the last fetch, up to a fifth less: sources and instances must not fetch in step.
    fn pause(&self, attempts: &Attempts) -> Duration {
        let full = match attempts.failures {
            0 => self.config.refresh_interval,
            failures => (PAUSE_MIN * 2_u32.saturating_pow(failures - 1)).min(PAUSE_MAX),
        };
        full.mul_f64(1.0 - 0.2 * random_share())
    }

    async fn fetch_and_note(&self, attempts: &mut Attempts) {
        let (url, issuer) = (self.url(), self.issuer());
        attempts.last = Some(Instant::now());
        self.shared.status.jwks_fetches.fetch_add(1, Ordering::Relaxed);
        match self.fetch().await {
            Ok(ignored) => {
                if attempts.failures > 0 {
                    tracing::info!(url, issuer, "the keys of an issuer can be fetched again");
                }
                attempts.failures = 0;
                let count = ignored.iter().map(|(_, count)| *count as u64).sum();
                self.shared.status.jwks_keys_ignored.fetch_add(count, Ordering::Relaxed);
                if ignored != attempts.ignored {
                    for (reason, count) in &ignored {
                        tracing::warn!(
                            url,
                            issuer,
                            reason = reason.name(),
                            count,
                            "keys of an issuer are not used"
                        );
                    }
                    attempts.ignored = ignored;
                }
            }
            Err(error) => {
                self.shared.status.jwks_failures.fetch_add(1, Ordering::Relaxed);
                if attempts.failures == 0 {
                    tracing::warn!(url, issuer, %error, "cannot fetch the keys of an issuer; trying again");
                }
                attempts.failures = attempts.failures.saturating_add(1);
            }
        }
        // `keep` may have been interrupted: the next attempt counts from the end of this one.
        attempts.last = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<Vec<(Ignored, usize)>, FetchError> {
        let url = outbound::endpoint(&self.config.url, self.config.insecure)?;
        let document = tokio::time::timeout(self.config.timeout, self.download(url));
        let document = document.await.unwrap_or(Err(FetchError::Timeout))?;
        let bound = Bound { issuer: self.issuer(), algorithms: &self.config.algorithms, origin: self.url() };
        let set = jwk::read(&document, bound).map_err(FetchError::Document)?;
        let ignored: Vec<_> = set.ignored.into_iter().collect();
        if set.keys.is_empty() {
            return Err(FetchError::Useless(ignored.iter().map(|(_, count)| count).sum()));
        }
        let old = self.state.load();
        let (held, is_changed) = merge(&old.held, set.keys, Instant::now());
        let generation = old.generation + 1;
        let current = held.iter().filter(|held| held.missing_since.is_none()).count();
        self.state.store(Arc::new(State { held, generation }));
        self.status.keys.store(current as u64, Ordering::Relaxed);
        self.status.fetched_unix_seconds.store(now_unix_ms() / 1_000, Ordering::Relaxed);
        if is_changed {
            self.shared.next_epoch();
        }
        Ok(ignored)
    }

    async fn download(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let client = self.shared.client.as_ref().map_err(|cause| FetchError::NoClient(cause.clone()))?;
        let request = client.get(url).header("accept", "application/jwk-set+json, application/json");
        let answer = request.send().await.map_err(FetchError::Request)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        Ok(outbound::body(answer, SET_BYTES_MAX).await?)
    }

    /// What an operator sees of it.
    pub fn status(&self) -> &Arc<JwksStatus> {
        &self.status
    }
}

/// The keys of a fresh set, and those of the old one that are missing there, for as long as they are still good.
/// Returns whether a key came or went.
fn merge(old: &[Held], fresh: Vec<Key>, now: Instant) -> (Vec<Held>, bool) {
    let mut held: Vec<Held> =
        fresh.into_iter().map(|key| Held { key: Arc::new(key), missing_since: None }).collect();
    let is_new = |held: &Held| old.iter().all(|other| other.key.print() != held.key.print());
    let mut is_changed = held.iter().any(is_new);
    let current = held.len();
    for gone in old {
        let is_back = |other: &Held| {
            other.key.print() == gone.key.print()
                || gone.key.kid().is_some() && other.key.kid() == gone.key.kid()
        };
        if held[..current].iter().any(is_back) {
            continue;
        }
        let since = gone.missing_since.unwrap_or(now);
        if now.saturating_duration_since(since) < RETIRED_FOR && held.len() - current < jwk::KEYS_MAX {
            held.push(Held { key: gone.key.clone(), missing_since: Some(since) });
        } else {
            is_changed = true;
        }
    }
    (held, is_changed)
}

/// A number from 0 up to 1.
fn random_share() -> f64 {
    let random = getrandom::u32().unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

/// Keeps the keys of all sources fresh for as long as the process runs; `sources` says which there are.
pub async fn keep_all(mut sources: watch::Receiver<Vec<Arc<Source>>>) {
    loop {
        let now = sources.borrow_and_update().clone();
        let keeping = join_all(now.iter().map(|source| source.keep()));
        tokio::select! {
            // Without sources there is nothing to keep.
            () = async { keeping.await; std::future::pending().await } => {}
            changed = sources.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::key::{Key, Label, public};
    use crate::auth::signing::generate;
    use crate::config::JwtAlgorithm;
    use crate::config::keys::SECTIONS;

    fn key(kid: &str) -> Key {
        let pem = generate(JwtAlgorithm::EdDsa).expect("a key").public.expect("a key pair");
        Key::new(public(&pem).expect("a key"), Label { kid: Some(kid), ..Label::default() }).expect("a key")
    }

    fn kids(held: &[Held]) -> Vec<(&str, bool)> {
        held.iter().map(|held| (held.key.kid().unwrap_or_default(), held.missing_since.is_some())).collect()
    }

    #[test]
    fn a_key_that_goes_missing_is_held_for_an_hour_and_no_longer() {
        let start = Instant::now();
        let (first, changed) = merge(&[], vec![key("a"), key("b")], start);
        assert_eq!((kids(&first).as_slice(), changed), ([("a", false), ("b", false)].as_slice(), true));

        let (second, changed) = merge(&first, vec![key("c")], start);
        assert_eq!(kids(&second), [("c", false), ("a", true), ("b", true)]);
        assert!(changed);
        let later = start + RETIRED_FOR - Duration::from_secs(1);
        let (third, _) = merge(&second, vec![key("d")], later);
        assert_eq!(kids(&third), [("d", false), ("c", true), ("a", true), ("b", true)]);
        let (fourth, changed) = merge(&third, vec![key("d")], start + RETIRED_FOR);
        assert_eq!(kids(&fourth), [("d", false), ("c", true)]);
        assert!(changed, "keys went");
    }

    #[test]
    fn a_key_id_that_is_given_to_another_key_is_that_keys() {
        let now = Instant::now();
        let (first, _) = merge(&[], vec![key("a")], now);
        let (second, changed) = merge(&first, vec![key("a")], now);
        assert_eq!(kids(&second), [("a", false)]);
        assert!(changed && first[0].key.print() != second[0].key.print());
    }

    #[test]
    fn no_more_keys_are_held_that_are_missing_than_there_may_be_keys() {
        let now = Instant::now();
        let mut held = Vec::new();
        for round in 0..3 {
            let keys = (0..jwk::KEYS_MAX).map(|index| key(&format!("{round}-{index}"))).collect();
            held = merge(&held, keys, now).0;
        }
        assert_eq!(held.len(), 2 * jwk::KEYS_MAX);
    }

    #[test]
    fn the_query_of_an_address_is_not_shown() {
        let url = "https://id.example/keys?key=sesame".to_owned();
        let mut config = Config::default();
        config.jwt.jwks = vec![Jwks { url, ..Jwks::default() }];
        let sources = Source::all(&config, &[], &Shared::new(Arc::default()));
        assert_eq!(sources[0].url(), "https://id.example/keys?********");
        let key = SECTIONS.iter().find(|section| section.name == Jwks::NAME).map(|section| &section.keys[0]);
        assert_eq!((key.expect("url").show)(&config, 0), "\"https://id.example/keys?********\"");
    }

    #[test]
    fn the_same_set_again_changes_nothing() {
        let now = Instant::now();
        let pem = generate(JwtAlgorithm::Es256).expect("a key").public.expect("a key pair");
        let same = || Key::new(public(&pem).expect("a key"), Label::default()).expect("a key");
        let (first, _) = merge(&[], vec![same()], now);
        let (second, changed) = merge(&first, vec![same()], now);
        assert_eq!((second.len(), changed), (1, false));
    }
}
