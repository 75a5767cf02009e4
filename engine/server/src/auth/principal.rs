//! Who somebody turned out to be, whatever said so: a token of the configuration, a JSON Web Token, a webhook.

use std::sync::Arc;

use serde_json::{Map, Value};
use shardcast_shard::Identity;
use shardcast_wire::ignis::UserId;

use crate::config::RoomPattern;

/// An authenticated client; the `context` of its [`Identity`], against which the room rules are evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Principal {
    /// Its user, if it has one.
    pub user: Option<UserId>,
    /// The tenant it belongs to, for `{tenant}` in rules.
    pub tenant: Option<String>,
    /// What rules of the form `roles = […]` ask for.
    pub roles: Vec<String>,
    /// Rooms granted to it beyond the rules.
    pub rooms: Vec<RoomPattern>,
    /// What its token says, for rules that ask for a claim; empty without a token that says anything.
    pub claims: Map<String, Value>,
    /// When it ends to be who it is, milliseconds since 1970.
    pub expires_unix_ms: Option<u64>,
    /// Whether it may do everything, as in dev mode.
    pub everything: bool,
}

impl Principal {
    /// The identity that carries this principal through the engine.
    pub fn identity(self: &Arc<Self>) -> Identity {
        Identity {
            user: self.user.clone(),
            context: Some(self.clone()),
            tenant: self.tenant.as_deref().map(Arc::from),
            expires_unix_ms: self.expires_unix_ms,
        }
    }

    /// The principal of an identity; `None` for one that another implementation of the hooks made, and before
    /// authentication.
    pub fn of(identity: &Identity) -> Option<&Self> {
        identity.context.as_ref().and_then(|context| context.downcast_ref())
    }
}

/// The largest number up to which doubles, which numbers are in JavaScript, tell all whole numbers apart: 2^53-1.
const NUMERIC_ID_MAX: u64 = (1 << 53) - 1;

/// Whether the text of a JSON number is a whole number that is rounded nowhere, so that no two users become one.
pub fn is_exact_id(number: &str) -> bool {
    number.parse::<i64>().is_ok_and(|number| number.unsigned_abs() <= NUMERIC_ID_MAX)
}
