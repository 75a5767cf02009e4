//! Responses in the making: JSON, text, and their headers.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// A response of the control plane; its body is at hand.
pub(super) type Answer = Response<Full<Bytes>>;

/// The media type of JSON.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response with this body.
pub(super) fn with_body(status: StatusCode, media_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, media_type);
    answer
}

/// A response with `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body =
        serde_json::to_vec(value).expect("maps of this crate have text keys and its types cannot fail");
    with_body(status, JSON, body)
}

/// Adds a header.
pub(super) fn with_header(mut answer: Answer, name: HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}
