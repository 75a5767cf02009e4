//! Addresses of HTTP servers that this process sends requests to.

use std::fmt;
use std::net::IpAddr;

use super::codec::{Blank, Codec, Mismatch, quoted};
use super::raw::Raw;
use super::secret::mask_url;

/// An `http` or `https` URL without user, password and fragment. `Debug` and `Display` print it with its query masked,
/// which may hold a key.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(reqwest::Url);

impl HttpUrl {
    /// Reads a URL; `None` when it is none, or not of this form.
    pub fn parse(text: &str) -> Option<Self> {
        let url = reqwest::Url::parse(text).ok()?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(Self(url))
    }

    /// The URL, for sending.
    pub fn expose(&self) -> &reqwest::Url {
        &self.0
    }

    /// Whether requests are encrypted on their way.
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether its host is, by its spelling, this machine or a private address (RFC 1918, RFC 4193). A name other than
    /// `localhost` is neither: what it resolves to can change.
    pub fn is_near(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        if host == "localhost" {
            return true;
        }
        match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map(|ip| ip.to_canonical())
        {
            Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
            Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
            Err(_) => false,
        }
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_url(self.0.as_str()))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An HTTP URL, of which the query is never shown.
#[derive(Debug)]
pub enum Web {}

impl Codec for Web {
    type Value = HttpUrl;

    const SECRET: bool = true;

    fn form(_bounds: &str) -> String {
        "a URL such as \"https://app.example.com/shardcast\", without user, password and fragment".to_owned()
    }

    fn read(raw: &Raw) -> Result<HttpUrl, Mismatch> {
        let Some(text) = raw.text() else { return Err(Mismatch::masked(raw)) };
        HttpUrl::parse(text).ok_or_else(|| Mismatch { found: quoted(&mask_url(text)), nearest: None })
    }

    fn write(value: &HttpUrl) -> String {
        quoted(value.0.as_str())
    }

    fn show(value: &HttpUrl) -> String {
        quoted(&value.to_string())
    }
}

impl Blank for Web {
    const BLANK: &'static str = "";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_urls_without_credentials_are_urls_and_their_query_is_masked() {
        for text in [
            "ftp://h/",
            "https://u:p@h/",
            "http://u@h/",
            "https://h/#x",
            "h/x",
            "https://",
            "file:///etc",
            "",
        ] {
            assert!(HttpUrl::parse(text).is_none(), "{text}");
        }
        let url = HttpUrl::parse("https://h:8/p?key=hunter2").expect("a URL");
        assert_eq!(format!("{url} {url:?}"), "https://h:8/p?******** https://h:8/p?********");
    }

    #[test]
    fn near_hosts_are_told_by_their_spelling() {
        let cases = [
            ("http://127.0.0.1:3000/", true),
            ("http://localhost/", true),
            ("http://[::1]/", true),
            ("http://10.1.2.3/", true),
            ("http://172.16.0.1/", true),
            ("http://192.168.0.1/", true),
            ("http://[fd00::1]/", true),
            ("http://[::ffff:10.0.0.1]/", true),
            // What a URL parser takes for 127.0.0.1 is 127.0.0.1.
            ("http://0x7f.1/", true),
            ("http://172.32.0.1/", false),
            ("http://169.254.169.254/", false),
            ("http://93.184.216.34/", false),
            ("http://[2001:db8::1]/", false),
            ("http://app/", false),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1.example.com/", false),
        ];
        for (text, near) in cases {
            assert_eq!(HttpUrl::parse(text).expect("a URL").is_near(), near, "{text}");
        }
    }
}
