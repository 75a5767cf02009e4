//! The hooks of the binary: who may connect and join, as the configuration says.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::value::RawValue;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_wire::ignis::UserId;
use subtle::ConstantTimeEq;

use crate::auth::Principal;
use crate::config::{self, Config};
use crate::hooks::{Answer, Client, Hooks};

/// Authentication and room rules from the configuration; replaced whole by a reload.
pub struct Policy {
    rules: ArcSwap<Rules>,
}

struct Rules {
    auth: config::Auth,
    /// What each of `auth.tokens` stands for.
    known: Vec<Arc<Principal>>,
    /// In dev mode.
    everything: Principal,
    /// For clients without a token.
    nobody: Arc<Principal>,
    room_name_bytes_max: usize,
}

/// What a client sends to authenticate: `{"token": …}`, and in dev mode its own idea of its user.
#[derive(Deserialize, Default)]
struct Credentials<'a> {
    token: Option<String>,
    #[serde(borrow, rename = "userId")]
    user_id: Option<&'a RawValue>,
}

impl Policy {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { rules: ArcSwap::from_pointee(Rules::new(config)) }
    }

    /// Applies a reloaded configuration; clients that are connected keep what they were granted.
    pub fn reload(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::new(config)));
    }
}

impl Rules {
    fn new(config: &Config) -> Self {
        let known = config.auth.tokens.iter().map(|token| {
            let user = token.user.as_ref().and_then(user_id);
            Arc::new(Principal { user, rooms: token.rooms.clone(), ..Principal::default() })
        });
        Self {
            known: known.collect(),
            auth: config.auth.clone(),
            everything: Principal { everything: true, ..Principal::default() },
            nobody: Arc::default(),
            room_name_bytes_max: config.limits.room_name_bytes_max,
        }
    }

    fn authenticate(&self, data: &str) -> AuthOutcome {
        match self.principal(data) {
            Ok(principal) => AuthOutcome::Accepted(principal.identity()),
            Err(reason) => AuthOutcome::Refused(reason),
        }
    }

    fn principal(&self, data: &str) -> Result<Arc<Principal>, RefusalReason> {
        let credentials = serde_json::from_str::<Credentials<'_>>(data);
        let credentials = credentials.map_err(|_| RefusalReason::CredentialsMissing)?;
        match credentials.token.filter(|token| !token.is_empty()) {
            Some(token) if self.auth.dev => {
                let named = credentials.user_id.and_then(|raw| UserId::from_json(raw.get()));
                let user = Some(named.unwrap_or_else(|| UserId::from_text(&token)));
                Ok(Arc::new(Principal { user, ..self.everything.clone() }))
            }
            Some(token) => self.find(&token).cloned().ok_or(RefusalReason::CredentialsUnknown),
            None if self.auth.anonymous => Ok(self.nobody.clone()),
            None => Err(RefusalReason::CredentialsMissing),
        }
    }

    /// Compares with every token, each in constant time, so that timing tells nothing about any.
    fn find(&self, token: &str) -> Option<&Arc<Principal>> {
        let mut found = None;
        for (listed, principal) in self.auth.tokens.iter().zip(&self.known) {
            if bool::from(listed.token.expose().as_bytes().ct_eq(token.as_bytes())) {
                found = Some(principal);
            }
        }
        found
    }

    fn may_join(&self, principal: &Principal, room: &str) -> bool {
        room.len() <= self.room_name_bytes_max
            && (principal.everything
                || self.auth.rooms.iter().chain(&principal.rooms).any(|pattern| pattern.matches(room)))
    }
}

/// The number 0 is nobody, as in Ignis.
fn user_id(user: &config::UserId) -> Option<UserId> {
    match user {
        config::UserId::Text(text) => Some(UserId::from_text(text)),
        config::UserId::Number(number) => UserId::from_json(&number.to_string()),
    }
}

impl Hooks for Policy {
    fn authenticate(&self, _client: &Client, data: &str) -> Answer<AuthOutcome> {
        Answer::Now(self.rules.load().authenticate(data))
    }

    fn validate_rooms(&self, client: &Client, mut rooms: Vec<String>) -> Answer<Vec<String>> {
        let rules = self.rules.load();
        match Principal::of(&client.identity) {
            Some(principal) => rooms.retain(|room| rules.may_join(principal, room)),
            None => rooms.clear(),
        }
        Answer::Now(rooms)
    }
}
