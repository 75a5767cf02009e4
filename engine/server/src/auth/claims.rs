//! What a token says: reading its claims, judging their times and audience, and making a [`Principal`] of them.
//!
//! Pure: the time is an argument. Nothing here has seen a signature; `super::jwt` comes first.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use shardcast_wire::ignis::UserId;

use super::Principal;
use super::jwt::TokenFault;
use super::principal::is_exact_id;
use crate::config::{ClaimCondition, Config, RoomPattern};

/// Seconds since 1970 at the end of the year 9999: no token means a time beyond it, and milliseconds that were
/// taken for seconds are far beyond it.
const TIME_MAX: f64 = 253_402_300_799.0;

/// The claims of a token. A name that stands in it twice, at whatever depth, makes it malformed: two readers could
/// take it for two tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimSet(pub Map<String, Value>);

impl<'de> Deserialize<'de> for ClaimSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Strict::deserialize(deserializer)?.0 {
            Value::Object(claims) => Ok(Self(claims)),
            _ => Err(D::Error::custom("the claims are not an object")),
        }
    }
}

/// A JSON value in which no name of an object stands twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands twice in an object"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// The claim of a name: one that is spelt so, dots and all, else dots lead into objects.
pub fn find<'v>(claims: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = claims.get(path) {
        return Some(value).filter(|value| !value.is_null());
    }
    let (head, rest) = path.split_once('.')?;
    find(claims.get(head)?.as_object()?, rest)
}

/// Whether the claims are as a condition says.
pub fn meets(claims: &Map<String, Value>, condition: &ClaimCondition) -> bool {
    let is_it = |value: &Value| scalar(value).is_some_and(|text| *text == *condition.value);
    match find(claims, &condition.path) {
        Some(Value::Array(values)) => values.iter().any(is_it),
        Some(value) => is_it(value),
        None => false,
    }
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether a value is one user or tenant: a text, or a number that was not rounded.
fn is_id(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        // A whole number is kept as it was written; any other is a float by now, which is written as one.
        Value::Number(number) => is_exact_id(&number.to_string()),
        _ => false,
    }
}

/// A list of texts, or a text with spaces between them. `None` for what is neither.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
        Value::Array(values) => values.iter().map(|value| value.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// What tokens must say and what is read from them.
#[derive(Clone, Debug)]
pub struct Reading {
    leeway_ms: i64,
    required: Vec<String>,
    audience: Vec<String>,
    user: String,
    roles: String,
    tenant: String,
    rooms: String,
    /// Names of claims that rules ask for; the rest is not kept.
    kept: Vec<String>,
}

impl Reading {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        let jwt = &config.jwt;
        let conditions = config.auth.rules.iter().flat_map(|rule| &rule.claims);
        Self {
            leeway_ms: jwt.leeway.as_millis() as i64,
            required: jwt.required.clone(),
            audience: jwt.audience.clone(),
            user: jwt.user_claim.clone(),
            roles: jwt.roles_claim.clone(),
            tenant: jwt.tenant_claim.clone(),
            rooms: jwt.rooms_claim.clone(),
            kept: conditions.map(|condition| condition.path.clone()).collect(),
        }
    }

    /// Who the claims are about, if they hold at `now_unix_ms`.
    pub fn read(&self, claims: &Map<String, Value>, now_unix_ms: u64) -> Result<Principal, TokenFault> {
        let expires_unix_ms = self.check_times(claims, now_unix_ms as i64)?;
        self.check_audience(claims)?;
        if let Some(name) = self.required.iter().find(|name| find(claims, name).is_none()) {
            return Err(TokenFault::ClaimMissing { claim: name.clone() });
        }
        let claim = |path: &str| if path.is_empty() { None } else { find(claims, path) };
        let malformed = |path: &str| TokenFault::Claim { claim: path.to_owned() };
        let list = |path: &str| match claim(path) {
            None => Ok(Vec::new()),
            Some(value) => texts(value).ok_or_else(|| malformed(path)),
        };
        let user = match claim(&self.user) {
            None => None,
            Some(id) if is_id(id) => UserId::from_json(&id.to_string()),
            Some(_) => return Err(malformed(&self.user)),
        };
        let tenant = match claim(&self.tenant) {
            None => None,
            Some(id) if is_id(id) => scalar(id).map(Cow::into_owned),
            Some(_) => return Err(malformed(&self.tenant)),
        };
        let is_kept = |name: &str| {
            let leads = |path: &str| path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
            self.kept.iter().any(|path| path == name || leads(path))
        };
        let kept = claims.iter().filter(|(name, _)| is_kept(name));
        Ok(Principal {
            user,
            tenant: tenant.filter(|tenant| !tenant.is_empty()),
            roles: list(&self.roles)?,
            rooms: list(&self.rooms)?.into_iter().map(RoomPattern::new).collect(),
            claims: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
            expires_unix_ms,
            everything: false,
        })
    }

    /// Checks `exp`, `nbf` and `iat`; returns when the token is over, leeway included.
    fn check_times(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Option<u64>, TokenFault> {
        let [expires, begins, issued] = ["exp", "nbf", "iat"].map(|name| time_ms(claims, name));
        let over_ms = expires?.map(|at_ms| at_ms + self.leeway_ms);
        if let Some(over_ms) = over_ms.filter(|over_ms| now_ms >= *over_ms) {
            return Err(TokenFault::Expired { ago_ms: now_ms - over_ms + self.leeway_ms });
        }
        for (claim, at_ms) in [("nbf", begins?), ("iat", issued?)] {
            if let Some(at_ms) = at_ms.filter(|at_ms| now_ms + self.leeway_ms < *at_ms) {
                return Err(TokenFault::NotYetValid { claim, in_ms: at_ms - now_ms });
            }
        }
        Ok(over_ms.map(|over_ms| over_ms as u64))
    }

    fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), TokenFault> {
        let named: Vec<&str> = match claims.get("aud") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => {
                let several: Option<_> = several.iter().map(Value::as_str).collect();
                several.ok_or(TokenFault::Claim { claim: "aud".to_owned() })?
            }
            Some(_) => return Err(TokenFault::Claim { claim: "aud".to_owned() }),
        };
        // Without an audience of our own, a token that names one is for somebody else (RFC 7519 §4.1.3).
        let is_ours = match self.audience.as_slice() {
            [] => named.is_empty(),
            ours => named.iter().any(|name| ours.iter().any(|own| own == name)),
        };
        let named = named.iter().map(|name| (*name).to_owned()).collect();
        if is_ours { Ok(()) } else { Err(TokenFault::Audience { named, ours: self.audience.clone() }) }
    }
}

/// A NumericDate (RFC 7519 §2): seconds since 1970, perhaps with a fraction. In milliseconds.
fn time_ms(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, TokenFault> {
    let seconds = match claims.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_f64(),
    };
    match seconds.filter(|seconds| (0.0..=TIME_MAX).contains(seconds)) {
        Some(seconds) => Ok(Some((seconds * 1_000.0) as i64)),
        None => Err(TokenFault::Time { claim: name.to_owned() }),
    }
}
