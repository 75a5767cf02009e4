//! HTTP requests that the server makes: one client for all of them, with bounds on whom it talks to and on how
//! much it listens to.
//!
//! It follows a redirect only to the same scheme, host and port, knows no proxy (neither the environment's nor
//! the system's), keeps no cookies, and never reads a body beyond the caller's bound.

pub mod post;

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::ClientBuilder;
use reqwest::redirect::{Attempt, Policy};
pub use reqwest::{Client, Response, Url};

/// For a connection to come about, its TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Redirects that are followed in a row.
const REDIRECTS_MAX: usize = 3;

/// Why an address is not one to send requests to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// It is no URL with a host.
    #[error("it is not a URL such as \"https://host/path\"")]
    NotUrl,
    /// Neither of the two.
    #[error("it begins with neither https: nor http:")]
    Scheme,
    /// Others can read and change what is sent.
    #[error("it is plain http: to another machine; use https:, or set insecure if this is meant")]
    Plain,
    /// Part of the URL would end in logs.
    #[error("it has a user name or a password in it")]
    Credentials,
}

/// Reads the address of an endpoint: `https:` to anywhere, `http:` to this machine, and with `allow_plain` to
/// anywhere.
pub fn endpoint(text: &str, allow_plain: bool) -> Result<Url, UrlFault> {
    let url = Url::parse(text).map_err(|_| UrlFault::NotUrl)?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(UrlFault::NotUrl)?;
    match url.scheme() {
        "https" => {}
        "http" if allow_plain || is_loopback(host) => {}
        "http" => return Err(UrlFault::Plain),
        _ => return Err(UrlFault::Scheme),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlFault::Credentials);
    }
    Ok(url)
}

/// Whether a host, as a URL spells it, is this machine; a name other than `localhost` is not looked up.
pub(crate) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The client of the process; cloning shares its connections. Make it once.
///
/// # Errors
/// The system's certificates cannot be used.
pub fn client() -> Result<Client, reqwest::Error> {
    builder()
        .redirect(Policy::custom(follow))
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
}

/// What the clients have in common.
fn builder() -> ClientBuilder {
    Client::builder().user_agent(concat!("shardcast/", env!("CARGO_PKG_VERSION"))).referer(false).no_proxy()
}

/// A redirect that is not followed is the answer, with its status.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let same_origin = attempt.previous().first().is_some_and(|from| from.origin() == attempt.url().origin());
    if same_origin && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the caller takes.
    #[error("the answer is longer than {bytes_max} bytes")]
    TooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// It did not come to its end.
    #[error("the answer broke off: {}", cause(.0))]
    Broken(#[source] reqwest::Error),
}

/// The whole body, if it is no longer than `bytes_max`. No more than that is ever held.
pub async fn body(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let too_long = BodyError::TooLong { bytes_max };
    if response.content_length().is_some_and(|length| length > bytes_max as u64) {
        return Err(too_long);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if chunk.len() > bytes_max - body.len() {
            return Err(too_long);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What is at the bottom of a failed request, without its URL: "connection refused" rather than "error sending
/// request".
pub fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine() {
        let cases = [
            ("https://id.example/keys", Ok(())),
            ("http://127.0.0.1:8080/keys", Ok(())),
            ("http://127.9.9.9/keys", Ok(())),
            ("http://[::1]/keys", Ok(())),
            ("http://localhost/keys", Ok(())),
            ("http://id.example/keys", Err(UrlFault::Plain)),
            ("http://localhost.evil.example/", Err(UrlFault::Plain)),
            ("http://127.0.0.1.evil.example/", Err(UrlFault::Plain)),
            ("http://10.0.0.1/", Err(UrlFault::Plain)),
            ("http://0.0.0.0/", Err(UrlFault::Plain)),
            ("https://user:pw@id.example/", Err(UrlFault::Credentials)),
            ("https://user@id.example/", Err(UrlFault::Credentials)),
            ("file:///etc/passwd", Err(UrlFault::NotUrl)),
            ("ftp://id.example/", Err(UrlFault::Scheme)),
            ("id.example/keys", Err(UrlFault::NotUrl)),
            ("https://", Err(UrlFault::NotUrl)),
            ("", Err(UrlFault::NotUrl)),
        ];
        for (text, expected) in cases {
            assert_eq!(endpoint(text, false).map(drop), expected, "{text}");
        }
        assert!(endpoint("http://id.example/keys", true).is_ok());
    }
}
