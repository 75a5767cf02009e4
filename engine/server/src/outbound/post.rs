//! Requests that tell something, to the webhooks of an application: a client that is stricter than the one that
//! fetches. It follows no redirect, since a signed request is for one address, and keeps its connections for a short
//! while only.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};

use super::{BodyError, body, builder, cause};

/// Below the 5 s after which node closes idle connections, so that a request seldom meets a connection that is being
/// closed.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Header lines of an answer.
const HEADERS_MAX: usize = 100;

/// A client could not be made: no certificates of authorities to trust, for one.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot prepare for sending HTTPS requests; install the certificates of authorities (ca-certificates), or name a \
     file of them in SSL_CERT_FILE"
)]
pub struct OutboundError(#[source] reqwest::Error);

/// The client, with its pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound(Client);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status, 3xx included.
    pub status: StatusCode,
    /// Its body, within the bound.
    pub body: Bytes,
}

/// How much of an answer is waited for and read.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From connecting to the last byte.
    pub time: Duration,
    /// Longest body.
    pub body_bytes_max: usize,
}

/// No whole answer came.
#[derive(Debug)]
pub enum Failure {
    /// Not in time.
    Timeout(Duration),
    /// Its body is longer than this.
    TooBig(usize),
    /// No connection, or it broke, or what came is no HTTP.
    Unreachable(reqwest::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout(time) => write!(f, "no answer within {time:?}"),
            Self::TooBig(bytes_max) => write!(f, "the answer is longer than {bytes_max} bytes"),
            Self::Unreachable(error) => write!(f, "no connection, or it broke: {}", cause(error)),
        }
    }
}

impl Outbound {
    /// A client that keeps up to `idle_max` connections open between requests. Without `https` it needs no certificates
    /// of authorities, and trusts nobody.
    ///
    /// # Errors
    /// When this machine has no certificates of authorities.
    pub fn new(https: bool, idle_max: usize) -> Result<Self, OutboundError> {
        let builder = builder()
            .redirect(redirect::Policy::none())
            .http1_only()
            .http1_max_headers(HEADERS_MAX)
            .https_only(https)
            .pool_max_idle_per_host(idle_max)
            .pool_idle_timeout(IDLE_MAX);
        let builder = if https { builder } else { builder.tls_certs_only([]) };
        builder.build().map(Self).map_err(OutboundError)
    }

    /// A POST request in the making.
    pub fn post(&self, url: &Url) -> RequestBuilder {
        self.0.post(url.clone())
    }

    /// Sends a request of this client and reads its answer.
    pub async fn send(&self, request: RequestBuilder, bounds: Bounds) -> Result<Reply, Failure> {
        let answer = tokio::time::timeout(bounds.time, exchange(request, bounds.body_bytes_max));
        answer.await.unwrap_or(Err(Failure::Timeout(bounds.time)))
    }
}

async fn exchange(request: RequestBuilder, body_bytes_max: usize) -> Result<Reply, Failure> {
    let unreachable = |error: reqwest::Error| Failure::Unreachable(error.without_url());
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    match body(response, body_bytes_max).await {
        Ok(body) => Ok(Reply { status, body: body.into() }),
        Err(BodyError::TooLong { bytes_max }) => Err(Failure::TooBig(bytes_max)),
        Err(BodyError::Broken(error)) => Err(unreachable(error)),
    }
}
