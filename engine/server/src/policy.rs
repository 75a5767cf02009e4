//! The hooks of the binary: who may connect and join, as the configuration says.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::value::RawValue;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_wire::ignis::UserId;
use tokio::sync::watch;

use crate::auth::Principal;
use crate::auth::cache::{TokenCache, TokenHash};
use crate::auth::jwks::{self, Shared, Source};
use crate::auth::jwt::Verifier;
use crate::auth::rules::{RoomRules, user_id};
use crate::config::{self, Config, Dialect, Effect};
use crate::hooks::{Answer, Client, Hooks, MountId};
use crate::status::AuthStatus;
use crate::wall_clock::now_unix_ms;

/// Patterns that may be looked at on a shard's own thread for one answer: some tens of microseconds.
const PATTERNS_AT_ONCE_MAX: usize = 1_024;

/// A connection ends this part of the rest of its token's life early, at most.
const JITTER_SHARE: u64 = 5;

/// Authentication and room rules from the configuration; replaced whole by a reload.
pub struct Policy {
    rules: ArcSwap<Rules>,
    cache: Arc<TokenCache>,
    keys: Arc<Shared>,
    status: Arc<AuthStatus>,
    sources: watch::Sender<Vec<Arc<Source>>>,
}

struct Rules {
    auth: config::Auth,
    /// What each of `auth.tokens` stands for.
    known: Vec<Arc<Principal>>,
    /// In dev mode.
    everything: Principal,
    /// For clients without a token.
    nobody: Arc<Principal>,
    verifier: Arc<Verifier>,
    cache_ttl: Option<Duration>,
    rooms: Arc<RoomRules>,
    /// By their numbers.
    mounts: Vec<MountRules>,
}

/// What differs from mount to mount.
#[derive(Clone, Copy)]
struct MountRules {
    /// What becomes of rooms that nothing speaks of.
    unlisted: Effect,
    /// Whether dev mode lets clients in that show no token: those of the topic dialect, whose first word may be a
    /// subscription.
    dev_needs_no_token: bool,
}

/// What a client sends to authenticate: `{"token": …}`, and in dev mode its own idea of its user.
#[derive(Deserialize, Default)]
struct Credentials<'a> {
    #[serde(borrow)]
    token: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "userId")]
    user_id: Option<&'a RawValue>,
}

/// What is known of a client's credentials at once.
enum Known<'a> {
    Somebody(Arc<Principal>),
    Refused(RefusalReason),
    /// A token whose signature must be looked at.
    Signed(Cow<'a, str>),
}

impl Policy {
    /// The rules of a configuration. Keys that cannot be used are logged and left out; `shardcast check` refuses
    /// them before.
    pub fn new(config: &Config) -> Self {
        let status = Arc::<AuthStatus>::default();
        let keys = Shared::new(status.clone());
        let rules = Rules::new(config, &[], &keys);
        let sources = watch::Sender::new(rules.verifier.sources().to_vec());
        show_sources(&status, rules.verifier.sources());
        let cache = Arc::new(TokenCache::new(config.jwt.cache_entries_max));
        Self { rules: ArcSwap::from_pointee(rules), cache, keys, status, sources }
    }

    /// Applies a reloaded configuration and reads the files of keys again; clients that are connected keep what they
    /// were granted.
    pub fn reload(&self, config: &Config) {
        let rules = Rules::new(config, self.rules.load().verifier.sources(), &self.keys);
        let sources = rules.verifier.sources().to_vec();
        show_sources(&self.status, &sources);
        self.rules.store(Arc::new(rules));
        self.keys.next_epoch();
        self.sources.send_replace(sources);
    }

    /// What becomes of a client that somebody else authenticated, as with a token.
    pub(crate) fn outcome(
        &self,
        client: &Client,
        found: Result<Arc<Principal>, RefusalReason>,
    ) -> AuthOutcome {
        self.rules.load().outcome(client, found)
    }

    /// Looks at a token's signature, and remembers it when it is good.
    async fn check(check: Check, client: Client) -> AuthOutcome {
        let Check { rules, cache, status, epoch, token, hash } = check;
        status.tokens_checked.fetch_add(1, Ordering::Relaxed);
        match rules.verifier.authenticate(&token, now_unix_ms()).await {
            Ok(verified) => {
                let principal = Arc::new(verified.principal);
                if let Some(ttl) = rules.cache_ttl {
                    cache.put(hash, principal.clone(), epoch, now_unix_ms(), ttl);
                }
                rules.outcome(&client, Ok(principal))
            }
            Err(fault) => rules.outcome(&client, Err(fault.reason())),
        }
    }
}

fn show_sources(status: &AuthStatus, sources: &[Arc<Source>]) {
    status.jwks.store(Arc::new(sources.iter().map(|source| source.status().clone()).collect()));
}

/// All that a look at a token takes.
struct Check {
    rules: Arc<Rules>,
    cache: Arc<TokenCache>,
    status: Arc<AuthStatus>,
    epoch: u64,
    token: String,
    hash: TokenHash,
}

impl MountRules {
    fn of(mount: &config::Mount) -> Self {
        Self { unlisted: mount.unlisted_rooms, dev_needs_no_token: mount.dialect == Dialect::Topic }
    }
}

impl Rules {
    fn new(config: &Config, sources: &[Arc<Source>], keys: &Arc<Shared>) -> Self {
        let known = config.auth.tokens.iter().map(|token| {
            let user = token.user.as_ref().and_then(user_id);
            Arc::new(Principal { user, rooms: token.rooms.clone(), ..Principal::default() })
        });
        let (verifier, faults) = Verifier::new(config, Source::all(config, sources, keys));
        for (index, fault) in faults {
            tracing::error!("auth.jwt.keys.{index} {fault}; tokens that it signs are refused");
        }
        Self {
            known: known.collect(),
            auth: config.auth.clone(),
            everything: Principal { everything: true, ..Principal::default() },
            nobody: Arc::default(),
            verifier: Arc::new(verifier),
            cache_ttl: config.jwt.cache_ttl,
            rooms: Arc::new(RoomRules::new(config)),
            mounts: config.mounts.iter().map(MountRules::of).collect(),
        }
    }

    /// A mount that the configuration does not have is one of an application's own: its rooms must be listed.
    fn mount(&self, mount: MountId) -> MountRules {
        let unknown = MountRules { unlisted: Effect::Deny, dev_needs_no_token: false };
        self.mounts.get(usize::from(mount.0)).copied().unwrap_or(unknown)
    }

    /// What can be said of credentials without a look at a signature.
    fn look<'a>(&self, mount: MountId, data: &'a str) -> Known<'a> {
        let Ok(credentials) = serde_json::from_str::<Credentials<'a>>(data) else {
            return Known::Refused(RefusalReason::CredentialsMissing);
        };
        match credentials.token.filter(|token| !token.is_empty()) {
            Some(token) if self.auth.dev => {
                let named = credentials.user_id.and_then(|raw| UserId::from_json(raw.get()));
                let user = Some(named.unwrap_or_else(|| UserId::from_text(&token)));
                Known::Somebody(Arc::new(Principal { user, ..self.everything.clone() }))
            }
            Some(token) => match self.find(&token) {
                Some(principal) => Known::Somebody(principal.clone()),
                None if !self.verifier.is_used() => Known::Refused(RefusalReason::CredentialsUnknown),
                None => match self.verifier.check_length(&token) {
                    Ok(()) if token.bytes().filter(|byte| *byte == b'.').count() == 2 => Known::Signed(token),
                    Ok(()) if self.known.is_empty() => Known::Refused(RefusalReason::TokenMalformed),
                    Ok(()) => Known::Refused(RefusalReason::CredentialsUnknown),
                    Err(fault) => Known::Refused(fault.reason()),
                },
            },
            None if self.auth.dev && self.mount(mount).dev_needs_no_token => {
                Known::Somebody(Arc::new(self.everything.clone()))
            }
            None if self.auth.anonymous => Known::Somebody(self.nobody.clone()),
            None => Known::Refused(RefusalReason::CredentialsMissing),
        }
    }

    /// Compares with every token, each in constant time, so that timing tells nothing about any.
    fn find(&self, token: &str) -> Option<&Arc<Principal>> {
        let mut found = None;
        for (listed, principal) in self.auth.tokens.iter().zip(&self.known) {
            if listed.token.is(token.as_bytes()) {
                found = Some(principal);
            }
        }
        found
    }

    /// What authentication comes to: the one place where an outcome is made.
    fn outcome(&self, client: &Client, found: Result<Arc<Principal>, RefusalReason>) -> AuthOutcome {
        match found {
            Ok(principal) => {
                let mut identity = principal.identity();
                let expires = identity.expires_unix_ms.filter(|_| self.auth.disconnect_on_expiry);
                identity.expires_unix_ms = expires.map(|at| self.end_of(client, at));
                AuthOutcome::Accepted(identity)
            }
            Err(reason) => AuthOutcome::Refused(reason),
        }
    }

    /// When a connection ends whose token is over at `expires_unix_ms`: somewhat earlier, each at a time of its own,
    /// which its random id decides.
    fn end_of(&self, client: &Client, expires_unix_ms: u64) -> u64 {
        let left_ms = expires_unix_ms.saturating_sub(now_unix_ms());
        let jitter_ms = (self.auth.expiry_jitter.as_millis() as u64).min(left_ms / JITTER_SHARE);
        let [a, b, c, d, ..] = *client.id.as_bytes();
        let share = u64::from(u32::from_be_bytes([a, b, c, d]));
        expires_unix_ms - ((jitter_ms * share) >> 32)
    }
}

impl Hooks for Policy {
    fn authenticate(&self, client: &Client, data: &str) -> Answer<AuthOutcome> {
        // Before the rules, so that what is found with old keys is not remembered for new ones.
        let epoch = self.keys.epoch();
        let rules = self.rules.load();
        let token = match rules.look(client.mount, data) {
            Known::Somebody(principal) => return Answer::Now(rules.outcome(client, Ok(principal))),
            Known::Refused(reason) => return Answer::Now(rules.outcome(client, Err(reason))),
            Known::Signed(token) => token,
        };
        let hash = TokenHash::of(&token);
        if let Some(principal) = self.cache.find(&hash, epoch, now_unix_ms()) {
            self.status.cache_hits.fetch_add(1, Ordering::Relaxed);
            return Answer::Now(rules.outcome(client, Ok(principal)));
        }
        let check = Check {
            rules: Arc::clone(&rules),
            cache: self.cache.clone(),
            status: self.status.clone(),
            epoch,
            token: token.into_owned(),
            hash,
        };
        Answer::later(Self::check(check, client.clone()))
    }

    fn validate_rooms(&self, client: &Client, mut rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        let loaded = self.rules.load();
        let (rules, unlisted) = (loaded.rooms.clone(), loaded.mount(client.mount).unlisted);
        let Some(principal) = Principal::of(&client.identity) else { return Answer::Now(Some(Vec::new())) };
        if rooms.len().saturating_mul(rules.patterns(principal)) <= PATTERNS_AT_ONCE_MAX {
            rules.retain(principal, unlisted, &mut rooms);
            return Answer::Now(Some(rooms));
        }
        let principal = principal.clone();
        Answer::later(async move {
            rules.retain(&principal, unlisted, &mut rooms);
            Some(rooms)
        })
    }

    fn background(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        Some(Box::pin(jwks::keep_all(self.sources.subscribe())))
    }

    fn status(&self) -> Option<Arc<AuthStatus>> {
        Some(self.status.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use shardcast_shard::{ClientRef, ConnId, Identity, ShardId};
    use shardcast_wire::ignis::ClientId;

    use super::*;
    use crate::config::Mount;

    fn policy(change: impl FnOnce(&mut Config)) -> Policy {
        let mut config = Config::default();
        config.mounts.push(Mount::for_dialect(Dialect::Topic));
        change(&mut config);
        Policy::new(&config)
    }

    fn client(mount: u8, identity: Identity) -> Client {
        Client {
            id: ClientId::from_random([0; 16]),
            at: ClientRef { shard: ShardId(0), conn: ConnId { slot: 0, generation: 0 } },
            mount: MountId(mount),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            identity,
        }
    }

    fn outcome(policy: &Policy, mount: u8, data: &str) -> AuthOutcome {
        match policy.authenticate(&client(mount, Identity::default()), data) {
            Answer::Now(outcome) => outcome,
            Answer::Later(_) => panic!("no signature to look at"),
        }
    }

    #[test]
    fn dev_mode_asks_clients_of_topic_mounts_for_no_token_and_those_of_ignis_as_ever() {
        let dev = policy(|config| config.auth.dev = true);
        let AuthOutcome::Accepted(identity) = outcome(&dev, 1, "{}") else { panic!("let in") };
        assert_eq!(identity.user, None);
        let rooms = vec!["any".to_owned()];
        let Answer::Now(Some(granted)) = dev.validate_rooms(&client(1, identity), rooms.clone()) else {
            panic!()
        };
        assert_eq!(granted, rooms);
        let refused = AuthOutcome::Refused(RefusalReason::CredentialsMissing);
        for data in ["{}", r#"{"token":""}"#] {
            assert_eq!(format!("{:?}", outcome(&dev, 0, data)), format!("{refused:?}"), "{data}");
        }
        let closed = policy(|_| ());
        assert_eq!(format!("{:?}", outcome(&closed, 1, "{}")), format!("{refused:?}"));
        let open = policy(|config| config.auth.anonymous = true);
        for mount in 0..2 {
            assert!(matches!(outcome(&open, mount, "{}"), AuthOutcome::Accepted(_)), "mount {mount}");
        }
    }

    #[test]
    fn rooms_that_nothing_speaks_of_are_the_mounts_own_affair() {
        let policy = policy(|config| config.auth.anonymous = true);
        for (mount, expected) in [(0, 0), (1, 1), (9, 0)] {
            let AuthOutcome::Accepted(identity) = outcome(&policy, mount, "{}") else { panic!("let in") };
            let asked = policy.validate_rooms(&client(mount, identity), vec!["chat".to_owned()]);
            let Answer::Now(Some(granted)) = asked else { panic!("few rules") };
            assert_eq!(granted.len(), expected, "mount {mount}");
        }
    }
}
