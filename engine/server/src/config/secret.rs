//! Text that must never reach a log, an error or a page: it prints as a mask, whatever prints it.
//!
//! The one way to the text is [`Secret::expose`] (or [`RedisUrl::expose`]), so that a search for that name
//! finds every use.

use std::fmt;

use subtle::ConstantTimeEq;

/// What stands in for a secret wherever values are shown.
pub const MASK: &str = "********";

/// A key or token. `Debug` and `Display` print a mask. Comparing takes a time that depends on lengths only.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a peer supplied this very text, in a time that depends on lengths only.
    pub fn is(&self, supplied: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(supplied).into()
    }

    /// The text itself, for computing with and for sending; [`Secret::is`] compares.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The address of a Redis server. `Debug` and `Display` print it with the password masked.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Wraps `url`, which the caller has checked.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with its password, for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `url` with everything that can carry a password masked: the part between the user name and the last `@` of
/// the authority, and the query (`unix:` URLs carry `?pass=`).
pub(crate) fn mask_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Not a URL, hence perhaps a password pasted in its place.
        return MASK.to_owned();
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{MASK}")),
        None => (rest, String::new()),
    };
    // A password may hold an unescaped `/`, so the last `@` ends it wherever it stands.
    match rest.rsplit_once('@') {
        None => format!("{scheme}://{rest}{query}"),
        Some((credentials, host)) => {
            let user = credentials.split_once(':').map_or("", |(user, _)| user);
            format!("{scheme}://{user}:{MASK}@{host}{query}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_a_mask_in_every_format() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "******** ******** Some(********)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn attack_57_a_secret_is_the_same_text_and_no_other() {
        let secret = Secret::new("hunter2");
        assert!(secret.is(b"hunter2") && secret == Secret::new("hunter2"));
        for other in ["", "h", "hunter", "hunter1", "Hunter2", "hunter2\0", "hunter22"] {
            assert!(!secret.is(other.as_bytes()) && secret != Secret::new(other), "{other:?}");
        }
    }

    #[test]
    fn a_redis_url_prints_without_its_password() {
        let cases = [
            ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
            ("redis://:pw@host:1/2", "redis://:********@host:1/2"),
            ("redis://user:pw@host", "redis://user:********@host"),
            ("redis://user:p@/w@host", "redis://user:********@host"),
            ("redis://pw@host", "redis://:********@host"),
            ("unix:///run/redis.sock?pass=pw", "unix:///run/redis.sock?********"),
            ("pw", "********"),
        ];
        for (url, shown) in cases {
            assert_eq!(RedisUrl::new(url).to_string(), shown);
            assert_eq!(format!("{:?}", RedisUrl::new(url)), shown);
        }
    }
}
