//! Which rooms a client may join: the rules of the configuration, in their order, then what is allowed beside them, then
//! what its mount says of the rest. Where a client names topics, rooms are topics: what it wrote, not the channel.

use serde_json::Value;
use shardcast_wire::ignis::UserId as Id;

use super::Principal;
use super::claims::meets;
use crate::config::pattern::{FilledTemplate, Placeholder};
use crate::config::{self, Config, Effect, RoomPattern, Rule, RuleAction};

/// Rules that a configuration may have.
pub const RULES_MAX: usize = 256;

/// Patterns that a rule may have.
pub const RULE_ROOMS_MAX: usize = 64;

/// Rooms that are looked at for one question, or as many as a connection may be in if that is more; the rest of a longer
/// one is not granted.
pub const ROOMS_PER_ASK_MAX: usize = 10_000;

/// The rules of a configuration.
#[derive(Debug)]
pub struct RoomRules {
    rules: Vec<(Rule, Vec<Id>)>,
    /// Rooms that everyone may join.
    open: Vec<RoomPattern>,
    room_name_bytes_max: usize,
    rooms_per_ask_max: usize,
}

/// What decided about a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Dev mode allows everything.
    Everything,
    /// The rule at this place of `auth.rules`.
    Rule(usize, Effect),
    /// `auth.rooms` allows it.
    Open,
    /// The token allows it.
    Token,
    /// Nothing speaks of it, and the mount allows such rooms (`unlisted_rooms`).
    Unlisted,
    /// Its name is longer than `limits.room_name_bytes_max`.
    TooLong,
    /// Nothing allows it.
    Nothing,
}

impl Decision {
    /// Whether the client may.
    pub fn allows(self) -> bool {
        match self {
            Self::Everything | Self::Open | Self::Token | Self::Unlisted | Self::Rule(_, Effect::Allow) => {
                true
            }
            Self::Rule(_, Effect::Deny) | Self::TooLong | Self::Nothing => false,
        }
    }
}

/// The rules as far as they concern one client.
#[derive(Debug)]
pub struct OwnRules<'r> {
    rules: &'r RoomRules,
    principal: &'r Principal,
    unlisted: Effect,
    fitting: Vec<(usize, Effect, Vec<FilledTemplate<'r>>)>,
}

impl RoomRules {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Self {
        let rule = |rule: &Rule| (rule.clone(), rule.users.iter().filter_map(user_id).collect());
        Self {
            rules: config.auth.rules.iter().map(rule).collect(),
            open: config.auth.rooms.clone(),
            room_name_bytes_max: config.limits.room_name_bytes_max,
            rooms_per_ask_max: ROOMS_PER_ASK_MAX.max(config.limits.rooms_per_connection_max),
        }
    }

    /// Patterns that are looked at for one room, at most.
    pub fn patterns(&self, principal: &Principal) -> usize {
        let rules: usize = self.rules.iter().map(|(rule, _)| rule.rooms.len()).sum();
        rules + self.open.len() + principal.rooms.len()
    }

    /// Of `rooms`, those that a client may join; `unlisted` is what its mount says of rooms that nothing speaks of.
    pub fn retain(&self, principal: &Principal, unlisted: Effect, rooms: &mut Vec<String>) {
        rooms.truncate(self.rooms_per_ask_max);
        let places = Places::of(principal);
        let own = self.own(principal, &places, unlisted);
        rooms.retain(|room| own.decide(room).allows());
    }

    /// The rules that fit a client; `unlisted` is what its mount says of rooms that nothing speaks of.
    pub fn own<'r>(&'r self, principal: &'r Principal, places: &'r Places, unlisted: Effect) -> OwnRules<'r> {
        let fits = |(rule, users): &&(Rule, Vec<Id>)| {
            let is_one = |id: &Id| principal.user.as_ref() == Some(id);
            rule.actions.contains(&RuleAction::Join)
                && (rule.roles.is_empty() || rule.roles.iter().any(|role| principal.roles.contains(role)))
                && (rule.users.is_empty() || users.iter().any(is_one))
                && rule.claims.iter().all(|condition| meets(&principal.claims, condition))
        };
        let fill = |rule: &'r Rule| {
            let is_strict = rule.effect == Effect::Allow;
            let rooms = rule.rooms.iter();
            rooms.filter_map(|room| room.fill(is_strict, |place| places.value(place))).collect()
        };
        let fitting = self.rules.iter().enumerate().filter(|(_, rule)| fits(rule));
        let fitting = fitting.map(|(index, (rule, _))| (index, rule.effect, fill(rule))).collect();
        OwnRules { rules: self, principal, unlisted, fitting }
    }
}

impl OwnRules<'_> {
    /// What the rules say about a room.
    pub fn decide(&self, room: &str) -> Decision {
        if room.len() > self.rules.room_name_bytes_max {
            return Decision::TooLong;
        }
        if self.principal.everything {
            return Decision::Everything;
        }
        let rule = self.fitting.iter().find(|(_, _, rooms)| rooms.iter().any(|own| own.matches(room)));
        if let Some((index, effect, _)) = rule {
            return Decision::Rule(*index, *effect);
        }
        let is_among = |rooms: &[RoomPattern]| rooms.iter().any(|pattern| pattern.matches(room));
        if is_among(&self.rules.open) {
            Decision::Open
        } else if is_among(&self.principal.rooms) {
            Decision::Token
        } else if self.unlisted == Effect::Allow {
            Decision::Unlisted
        } else {
            Decision::Nothing
        }
    }
}

/// What the places of a template stand for, for one client.
#[derive(Clone, Debug, Default)]
pub struct Places {
    user: Option<String>,
    tenant: Option<String>,
}

impl Places {
    /// Those of a client. A user that is neither a text nor a number has no place.
    pub fn of(principal: &Principal) -> Self {
        let user = principal.user.as_ref().and_then(|user| match serde_json::from_str(user.as_json()) {
            Ok(Value::String(text)) => Some(text),
            Ok(Value::Number(_)) => Some(user.as_json().to_owned()),
            _ => None,
        });
        Self { user, tenant: principal.tenant.clone() }
    }

    fn value(&self, place: Placeholder) -> Option<&str> {
        match place {
            Placeholder::User => self.user.as_deref(),
            Placeholder::Tenant => self.tenant.as_deref(),
        }
    }
}

/// A user of the configuration. The number 0 and the empty text are nobody, as in Ignis.
pub fn user_id(user: &config::UserId) -> Option<Id> {
    match user {
        config::UserId::Text(text) => Some(Id::from_text(text)),
        config::UserId::Number(number) => Id::from_json(&number.to_string()),
    }
}
