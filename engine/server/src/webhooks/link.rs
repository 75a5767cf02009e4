//! One signed request to the application, as the present configuration says.

use arc_swap::ArcSwap;
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;

use super::breaker::Thresholds;
use super::sign::Keys;
use crate::config::{self, HttpUrl};
use crate::outbound::post::{Bounds, Failure, Outbound, OutboundError, Reply};
use crate::wall_clock::now_unix_ms;

/// What a reload can change.
#[derive(Debug)]
pub(crate) struct Terms {
    outbound: Outbound,
    url: HttpUrl,
    keys: Keys,
    pub(super) bounds: Bounds,
    pub(super) thresholds: Thresholds,
    pub(super) batch_max: usize,
    pub(super) retries: usize,
}

/// The way to the application.
#[derive(Debug)]
pub(super) struct Link(ArcSwap<Terms>);

impl Terms {
    /// Of a configuration that was checked. Connections between requests are kept for `idle_max` requests at once.
    pub(crate) fn new(
        config: &config::Webhooks,
        url: HttpUrl,
        idle_max: usize,
    ) -> Result<Self, OutboundError> {
        Ok(Self {
            outbound: Outbound::new(url.is_https(), idle_max)?,
            url,
            keys: Keys::new(&config.secret),
            bounds: Bounds { time: config.timeout, body_bytes_max: config.answer_bytes_max },
            thresholds: Thresholds { failures: config.breaker_failures, pause: config.breaker_pause },
            batch_max: config.batch_max,
            retries: config.retries,
        })
    }

    /// Sends one request and reads the answer. The same `id` means the same request.
    pub(crate) async fn post(&self, id: &str, body: Bytes) -> Result<Reply, Failure> {
        let unix_seconds = now_unix_ms() / 1_000;
        let request = self
            .outbound
            .post(self.url.expose())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", unix_seconds)
            .header("webhook-signature", self.keys.sign(id, unix_seconds, &body))
            .body(body);
        self.outbound.send(request, self.bounds).await
    }
}

impl Link {
    pub(super) fn new(terms: Terms) -> Self {
        Self(ArcSwap::from_pointee(terms))
    }

    pub(super) fn set(&self, terms: Terms) {
        self.0.store(terms.into());
    }

    /// What holds now; a request keeps the terms it began with.
    pub(super) fn terms(&self) -> std::sync::Arc<Terms> {
        self.0.load_full()
    }
}

/// A `webhook-id` that no other request has.
pub(crate) fn new_id() -> String {
    format!("msg_{}", uuid::Uuid::new_v4().simple())
}
