//! Who may use the API.

use std::fmt;

use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::{Choice, ConstantTimeEq};

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

    /// Whether a request with these headers may use the API.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match (self.keys.is_empty(), self.dev) {
            (true, true) => Ok(()),
            (true, false) => Err(ApiError::NoKeyConfigured),
            (false, _) => {
                let key = bearer(headers).ok_or(ApiError::Unauthorized)?;
                if self.opens(key) { Ok(()) } else { Err(ApiError::Unauthorized) }
            }
        }
    }

    /// Whether `key` is one of ours, in a time that depends on lengths only.
    fn opens(&self, key: &[u8]) -> bool {
        let any = |found: Choice, ours: &Secret| found | ours.expose().as_bytes().ct_eq(key);
        self.keys.iter().fold(Choice::from(0), any).into()
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
            Ok(()) => "in",
            Err(ApiError::NoKeyConfigured) => "no key configured",
            Err(_) => "wrong key",
        }
    }

    #[test]
    fn only_a_configured_key_or_dev_mode_without_keys_opens_the_api() {
        type Case = (&'static [&'static str], bool, Option<&'static [u8]>, &'static str);
        const CASES: &[Case] = &[
            (&[], false, None, "no key configured"),
            (&[], false, Some(b"Bearer "), "no key configured"),
            (&[], true, None, "in"),
            (&[], true, Some(b"Bearer anything"), "in"),
            (&["a"], true, None, "wrong key"),
            (&["a"], false, None, "wrong key"),
            (&["a", "bb"], false, Some(b"Bearer a"), "in"),
            (&["a", "bb"], false, Some(b"bearer  bb "), "in"),
            (&["a", "bb"], false, Some(b"Bearer b"), "wrong key"),
            (&["a"], false, Some(b"Bearer"), "wrong key"),
            (&["a"], false, Some(b"Bearer "), "wrong key"),
            (&["a"], false, Some(b"Basic a"), "wrong key"),
            (&["a"], false, Some(b"a"), "wrong key"),
            (&["a"], false, Some(b"Bearer \xff\xfe"), "wrong key"),
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
