//! The hooks of the binary: who may connect and join, as the configuration says.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::value::RawValue;
use shardcast_shard::Identity;
use shardcast_shard::event::AuthOutcome;
use shardcast_wire::ignis::UserId;
use subtle::ConstantTimeEq;

use crate::config::{self, Config, RoomPattern};
use crate::hooks::{Answer, Client, Hooks};

/// Authentication and room rules from the configuration; replaced whole by a reload.
pub struct Policy {
    rules: ArcSwap<Rules>,
}

struct Rules {
    auth: config::Auth,
    /// What each of `auth.tokens` stands for.
    known: Vec<Identity>,
    /// In dev mode.
    everything: Arc<Grants>,
    /// For clients without a token.
    nothing_more: Arc<Grants>,
    room_name_bytes_max: usize,
}

/// What a client may join; shared by all who came with the same token.
struct Grants {
    /// Beyond the rooms that everyone may join.
    rooms: Vec<RoomPattern>,
    all: bool,
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
        let known = config.auth.tokens.iter().map(|token| Identity {
            user: token.user.as_ref().and_then(user_id),
            context: Some(Arc::new(Grants { rooms: token.rooms.clone(), all: false })),
            expires_unix_ms: None,
        });
        Self {
            known: known.collect(),
            auth: config.auth.clone(),
            everything: Arc::new(Grants { rooms: Vec::new(), all: true }),
            nothing_more: Arc::new(Grants { rooms: Vec::new(), all: false }),
            room_name_bytes_max: config.limits.room_name_bytes_max,
        }
    }

    fn authenticate(&self, data: &str) -> AuthOutcome {
        let Ok(credentials) = serde_json::from_str::<Credentials<'_>>(data) else {
            return AuthOutcome::Refused;
        };
        let accept = |user: Option<UserId>, grants: &Arc<Grants>| {
            AuthOutcome::Accepted(Identity { user, context: Some(grants.clone()), expires_unix_ms: None })
        };
        match credentials.token.filter(|token| !token.is_empty()) {
            Some(token) if self.auth.dev => {
                let named = credentials.user_id.and_then(|raw| UserId::from_json(raw.get()));
                accept(Some(named.unwrap_or_else(|| UserId::from_text(&token))), &self.everything)
            }
            Some(token) => match self.find(&token) {
                Some(known) => AuthOutcome::Accepted(known.clone()),
                None => AuthOutcome::Refused,
            },
            None if self.auth.anonymous => accept(None, &self.nothing_more),
            None => AuthOutcome::Refused,
        }
    }

    /// Compares with every token, each in constant time, so that timing tells nothing about any.
    fn find(&self, token: &str) -> Option<&Identity> {
        let mut found = None;
        for (listed, identity) in self.auth.tokens.iter().zip(&self.known) {
            if bool::from(listed.token.expose().as_bytes().ct_eq(token.as_bytes())) {
                found = Some(identity);
            }
        }
        found
    }

    fn may_join(&self, grants: &Grants, room: &str) -> bool {
        room.len() <= self.room_name_bytes_max
            && (grants.all
                || self.auth.rooms.iter().chain(&grants.rooms).any(|pattern| pattern.matches(room)))
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
        let grants = client.identity.context.as_ref().and_then(|context| context.downcast_ref::<Grants>());
        match grants {
            Some(grants) => rooms.retain(|room| rules.may_join(grants, room)),
            None => rooms.clear(),
        }
        Answer::Now(rooms)
    }
}
