//! Who may use the API.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};

use super::error::ApiError;
use crate::config::{Config, Secret};

/// The keys of the API and whether it does without; a reload replaces the whole.
#[derive(Clone, Default)]
pub struct Access {
    /// Any of these opens the API.
    pub keys: Vec<Secret>,
    /// Dev mode: without a key configured, everyone may.
    pub dev: bool,
}

impl Access {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        Self { keys: config.api.key.clone(), dev: config.auth.dev }
    }

    /// Whether a request with these headers may use the API, and which key it came with, by its place in the list:
    /// none in dev mode without keys.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
        match (self.keys.is_empty(), self.dev) {
            (true, true) => Ok(None),
            (true, false) => Err(Refusal::NoKeyConfigured),
            (false, _) => {
                let key = bearer(headers).ok_or(Refusal::KeyMissing)?;
                self.opens(key).map(Some).ok_or(Refusal::KeyUnknown)
            }
        }
    }

    /// Which of ours `key` is; compared with each, in a time that depends on lengths only.
    fn opens(&self, key: &[u8]) -> Option<usize> {
        let mut found = None;
        for (index, ours) in self.keys.iter().enumerate() {
            if ours.is(key) {
                found = Some(index);
            }
        }
        found
    }
}

/// Why a request may not use the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody may, yet.
    NoKeyConfigured,
    /// It came without one.
    KeyMissing,
    /// Its key is none of ours.
    KeyUnknown,
}

impl Refusal {
    /// A stable name, for the audit log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoKeyConfigured => "no_key_configured",
            Self::KeyMissing => "key_missing",
            Self::KeyUnknown => "key_unknown",
        }
    }
}

/// Whoever asks is not told whether the key was missing or wrong.
impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoKeyConfigured => Self::NoKeyConfigured,
            Refusal::KeyMissing | Refusal::KeyUnknown => Self::Unauthorized,
        }
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("keys", &self.keys.len()).field("dev", &self.dev).finish()
    }
}

/// The credentials of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn outcome(keys: &[&str], dev: bool, authorization: Option<&[u8]>) -> &'static str {
        let access = Access { keys: keys.iter().copied().map(Secret::new).collect(), dev };
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(value).expect("a header value"));
        }
        match access.admit(&headers) {
            Ok(None) => "in",
            Ok(Some(index)) => ["in with the first", "in with the second"][index],
            Err(refusal) => refusal.name(),
        }
    }

    #[test]
    fn only_a_configured_key_or_dev_mode_without_keys_opens_the_api() {
        type Case = (&'static [&'static str], bool, Option<&'static [u8]>, &'static str);
        const CASES: &[Case] = &[
            (&[], false, None, "no_key_configured"),
            (&[], false, Some(b"Bearer "), "no_key_configured"),
            (&[], true, None, "in"),
            (&[], true, Some(b"Bearer anything"), "in"),
            (&["a"], true, None, "key_missing"),
            (&["a"], false, None, "key_missing"),
            (&["a", "bb"], false, Some(b"Bearer a"), "in with the first"),
            (&["a", "bb"], false, Some(b"bearer  bb "), "in with the second"),
            (&["a", "bb"], false, Some(b"Bearer b"), "key_unknown"),
            (&["a"], false, Some(b"Bearer"), "key_missing"),
            (&["a"], false, Some(b"Bearer "), "key_unknown"),
            (&["a"], false, Some(b"Basic a"), "key_missing"),
            (&["a"], false, Some(b"a"), "key_missing"),
            (&["a"], false, Some(b"Bearer \xff\xfe"), "key_unknown"),
        ];
        for &(keys, dev, authorization, expected) in CASES {
            assert_eq!(outcome(keys, dev, authorization), expected, "{keys:?} {dev} {authorization:?}");
        }
    }

    #[test]
    fn keys_do_not_reach_a_log() {
        let access = Access { keys: vec![Secret::new("hunter2")], dev: false };
        assert_eq!(format!("{access:?}"), "Access { keys: 1, dev: false }");
    }
}
