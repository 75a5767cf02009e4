//! Origins of browsers (RFC 6454): which pages may open a WebSocket.
//!
//! A browser names the page's origin in the request and does not let the page change it. Nothing here resolves,
//! decodes or guesses: an origin is compared by its parts, in lower case, with the port its scheme stands for, and
//! whatever is not written as RFC 6454 §6.2 says is nobody's. International names are compared as browsers send
//! them, in their ASCII form (`xn--…`).

use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

/// Bytes of an `Origin` that can be one: a scheme, a host name of 253 and a port fit twice.
const ORIGIN_BYTES_MAX: usize = 512;

/// Why a text is no origin to allow.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OriginError {
    /// Not `scheme://host`, with or without `:port`.
    #[error("not of the form scheme://host or scheme://host:port")]
    Form,
    /// A path, a query or a trailing slash.
    #[error("an origin ends with its host or port: leave out what follows")]
    Path,
    /// A user name.
    #[error("an origin has no user name")]
    User,
    /// Characters beyond ASCII.
    #[error("write an international name as browsers send it, in ASCII (xn--...)")]
    Ascii,
    /// A wildcard anywhere else.
    #[error("a `*` stands for the whole first label of a host name, as in https://*.example.com")]
    Wildcard,
}

/// An origin by its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    /// `None`: the scheme's own, whichever that is.
    port: Option<u16>,
}

impl<'a> Parts<'a> {
    /// Takes apart a text in lower case.
    fn read(text: &'a str) -> Result<Self, OriginError> {
        if !text.is_ascii() {
            return Err(OriginError::Ascii);
        }
        let (scheme, authority) = text.split_once("://").ok_or(OriginError::Form)?;
        if authority.contains(['/', '?', '#', '\\']) {
            return Err(OriginError::Path);
        }
        if authority.contains('@') {
            return Err(OriginError::User);
        }
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_scheme) {
            return Err(OriginError::Form);
        }
        let (host, port) = split_port(authority)?;
        let port = port.filter(|&port| Some(port) != default_port(scheme));
        Ok(Self { scheme, host, port })
    }
}

/// The port that a scheme stands for.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Host and port of an authority without a user name.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), OriginError> {
    let host_len = match authority.find(']') {
        Some(end) => end + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| OriginError::Form)?)
        }
        _ => return Err(OriginError::Form),
    };
    Ok((host, port))
}

/// Whether a host is an IPv6 address in brackets, or labels of letters, digits, `-` and `_`.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    host.split('.').all(is_label)
}

/// An origin that may connect: exact, or with `*` for the whole first label of its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `null`: pages without an origin of their own, such as sandboxed frames and local files. Any page can make
    /// one, so this lets in everybody who tries.
    Null,
    /// An origin with a host.
    Host {
        /// In lower case.
        scheme: String,
        /// Without the wildcard label and its dot; in lower case.
        host: String,
        /// `None`: that of the scheme.
        port: Option<u16>,
        /// Whether exactly one label stands before `host`.
        any_label: bool,
    },
}

impl OriginPattern {
    /// Reads an origin as an operator wrote it.
    ///
    /// # Errors
    /// It is none; the error says what to change.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Ok(Self::Null);
        }
        let Parts { scheme, host, port } = Parts::read(&text)?;
        let (host, any_label) = match host.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (host, false),
        };
        let is_address = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if host.contains('*') || (any_label && (is_address || host.starts_with('['))) {
            return Err(OriginError::Wildcard);
        }
        if !is_host(host) {
            return Err(OriginError::Form);
        }
        Ok(Self::Host { scheme: scheme.to_owned(), host: host.to_owned(), port, any_label })
    }

    /// Whether this stands for an origin in lower case; `origin` is `None` for `null`.
    fn stands_for(&self, origin: Option<&Parts<'_>>) -> bool {
        match (self, origin) {
            (Self::Null, None) => true,
            (Self::Host { scheme, host, port, any_label }, Some(origin)) => {
                let rest = match any_label {
                    false => Some(origin.host),
                    true => origin.host.split_once('.').map(|(_, rest)| rest),
                };
                origin.scheme == scheme && origin.port == *port && rest == Some(host.as_str())
            }
            _ => false,
        }
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Host { scheme, host, port, any_label } = self else { return f.write_str("null") };
        let star = if *any_label { "*." } else { "" };
        match port {
            Some(port) => write!(f, "{scheme}://{star}{host}:{port}"),
            None => write!(f, "{scheme}://{star}{host}"),
        }
    }
}

/// Which origins may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Empty: every origin, with or without sense.
    pub allowed: Vec<OriginPattern>,
    /// Whether a request must name its origin. Browsers always do; other clients seldom.
    pub required: bool,
}

impl Origins {
    /// Whether a request with these values of `Origin` may connect.
    pub fn allow<'b>(&self, mut values: impl Iterator<Item = &'b [u8]>) -> bool {
        let Some(value) = values.next() else { return !self.required };
        if self.allowed.is_empty() {
            return true;
        }
        // Two of them: one of the two was not written by a browser.
        if values.next().is_some() || value.len() > ORIGIN_BYTES_MAX {
            return false;
        }
        let Ok(text) = std::str::from_utf8(value) else { return false };
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return self.allowed.contains(&OriginPattern::Null);
        }
        let Ok(origin) = Parts::read(&text) else { return false };
        is_host(origin.host) && self.allowed.iter().any(|pattern| pattern.stands_for(Some(&origin)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(allowed: &[&str]) -> Origins {
        let allowed = allowed.iter().map(|text| OriginPattern::parse(text).expect(text)).collect();
        Origins { allowed, required: false }
    }

    fn allows(origins: &Origins, origin: &str) -> bool {
        origins.allow([origin.as_bytes()].into_iter())
    }

    #[test]
    fn an_origin_is_its_scheme_host_and_port_and_nothing_else() {
        let list =
            origins(&["https://good.example", "http://good.example:8080", "app://local", "http://[::1]"]);
        for (origin, allowed) in [
            ("https://good.example", true),
            ("https://good.example:443", true),
            ("HTTPS://GOOD.Example", true),
            ("http://good.example:8080", true),
            ("app://local", true),
            ("http://[::1]", true),
            ("http://[::1]:80", true),
            ("http://[::1]:81", false),
            ("http://good.example", false),
            ("https://good.example:80", false),
            ("https://good.example:8443", false),
            ("https://good.example:0443", true),
            ("https://good.example:65536", false),
            ("https://good.example:", false),
            ("https://good.example:x", false),
            ("https://good.example.", false),
            ("https://good.example/", false),
            ("https://good.example/x", false),
            ("https://good.example?x", false),
            ("https://good.example#x", false),
            ("https://good.example.evil.example", false),
            ("https://good.example@evil.example", false),
            ("https://evil.example@good.example", false),
            ("https://evil.example#@good.example", false),
            ("https://evil.example\\@good.example", false),
            ("https://evilgood.example", false),
            ("https://sub.good.example", false),
            ("https:good.example", false),
            ("https:///good.example", false),
            ("//good.example", false),
            ("good.example", false),
            ("https://good.example https://evil.example", false),
            ("https://good.example,https://evil.example", false),
            (" https://good.example", false),
            ("https://good%2eexample", false),
            ("https://g\u{f6}\u{f6}d.example", false),
            ("https://good\u{ff0e}example", false),
            ("null", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(allows(&list, origin), allowed, "{origin:?}");
        }
    }

    /// CVE-2022-42975: a wildcard that was compared by suffix let in `evilexample.com`.
    #[test]
    fn a_wildcard_is_one_whole_label() {
        let list = origins(&["https://*.example.com", "http://*.xn--bcher-kva.example:81"]);
        for (origin, allowed) in [
            ("https://a.example.com", true),
            ("https://A-1.EXAMPLE.COM:443", true),
            ("https://xn--bcher-kva.example.com", true),
            ("http://a.xn--bcher-kva.example:81", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://a.b.example.com", false),
            ("https://evilexample.com", false),
            ("https://a.evilexample.com", false),
            ("https://a.example.com.evil.com", false),
            ("https://evil.com/.example.com", false),
            ("https://evil.com#.example.com", false),
            ("https://evil.com?.example.com", false),
            ("https://evil.com:80.example.com", false),
            ("https://*.example.com", false),
            ("https://a.example.com:8443", false),
            ("http://a.example.com", false),
            ("http://a.b\u{fc}cher.example:81", false),
        ] {
            assert_eq!(allows(&list, origin), allowed, "{origin:?}");
        }
    }

    #[test]
    fn null_and_no_origin_are_settings_of_their_own() {
        let open = Origins::default();
        assert!(allows(&open, "null") && allows(&open, "rubbish") && open.allow([].into_iter()));
        let mut list = origins(&["https://good.example"]);
        assert!(list.allow([].into_iter()) && !allows(&list, "null"));
        list.required = true;
        assert!(!list.allow([].into_iter()) && allows(&list, "https://good.example"));
        assert!(allows(&origins(&["NULL"]), "null"));
        let any = Origins { required: true, ..Origins::default() };
        assert!(!any.allow([].into_iter()) && allows(&any, "https://any.example"));
        let twice = [&b"https://good.example"[..], b"https://good.example"];
        assert!(!list.allow(twice.into_iter()), "twice");
        assert!(!list.allow([&b"https://good.example\xff"[..]].into_iter()), "no text");
        let long = format!("https://{}good.example", "a.".repeat(300));
        assert!(!allows(&origins(&["https://*.example"]), &long));
    }

    #[test]
    fn what_an_operator_writes_is_taken_or_refused_with_a_reason() {
        for (text, written) in [
            ("https://App.Example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("null", "null"),
        ] {
            assert_eq!(OriginPattern::parse(text).expect(text).to_string(), written);
        }
        for (text, error) in [
            ("*", OriginError::Form),
            ("example.com", OriginError::Form),
            ("https://", OriginError::Form),
            ("https://a..b", OriginError::Form),
            ("https://example.com:0x50", OriginError::Form),
            ("1https://example.com", OriginError::Form),
            ("https://[::g]", OriginError::Form),
            ("https://example.com/", OriginError::Path),
            ("https://user@example.com", OriginError::User),
            ("https://b\u{fc}cher.example", OriginError::Ascii),
            ("https://*", OriginError::Wildcard),
            ("https://a.*.example.com", OriginError::Wildcard),
            ("https://*a.example.com", OriginError::Wildcard),
            ("https://*.*.example.com", OriginError::Wildcard),
            ("https://*.0.0.1", OriginError::Wildcard),
            ("https://*.[::1]", OriginError::Wildcard),
        ] {
            assert_eq!(OriginPattern::parse(text), Err(error), "{text}");
        }
    }
}
