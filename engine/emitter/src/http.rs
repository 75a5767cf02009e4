//! The way through the HTTP API: `POST {base_url}/api/emit`.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{EmitError, Rejection};
use crate::message::{Message, Target, User};
use crate::{Forwarded, Receipt};

/// The longest answer that is read: a thousand receipts and much to spare.
const ANSWER_BYTES_MAX: usize = 1 << 20;

#[cfg(feature = "https")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "https"))]
type Connector = HttpConnector;

/// A server's API and the connections to it.
#[derive(Clone, Debug)]
pub(crate) struct HttpWay {
    client: Client<Connector, Full<Bytes>>,
    endpoint: Uri,
    /// Marked as sensitive, so that it prints as such.
    authorization: HeaderValue,
}

impl HttpWay {
    pub(crate) fn new(base_url: &str, key: &str) -> Result<Self, EmitError> {
        let endpoint = format!("{}/api/emit", base_url.trim_end_matches('/'));
        let endpoint: Uri = endpoint.parse().map_err(|_| EmitError::BaseUrl)?;
        let has_place = endpoint.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        match endpoint.scheme_str() {
            Some("http") if has_place => {}
            Some("https") if has_place && cfg!(feature = "https") => {}
            Some("https") if has_place => return Err(EmitError::HttpsOff),
            _ => return Err(EmitError::BaseUrl),
        }
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EmitError::Key);
        }
        let mut authorization =
            HeaderValue::try_from(["Bearer ", key].concat()).map_err(|_| EmitError::Key)?;
        authorization.set_sensitive(true);
        let client = Client::builder(TokioExecutor::new()).build(connector());
        Ok(Self { client, endpoint, authorization })
    }

    pub(crate) async fn send(
        &self,
        messages: &[Message],
        timeout: Duration,
    ) -> Result<Vec<Receipt>, EmitError> {
        let body = match messages {
            [message] => serde_json::to_vec(&Body::of(message)),
            messages => serde_json::to_vec(&messages.iter().map(Body::of).collect::<Vec<_>>()),
        };
        let body = Full::new(Bytes::from(body.map_err(|error| EmitError::Data(Box::new(error)))?));
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        request.headers_mut().insert(AUTHORIZATION, self.authorization.clone());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let exchange = tokio::time::timeout(timeout, self.exchange(request));
        let (status, answer) = exchange.await.map_err(|_| EmitError::Timeout)??;
        read_answer(status, &answer, messages.len())
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), EmitError> {
        let response =
            self.client.request(request).await.map_err(|error| EmitError::Transport(Box::new(error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(EmitError::Transport)?.to_bytes()))
    }
}

fn connector() -> Connector {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    #[cfg(feature = "https")]
    {
        http.enforce_http(false);
        hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http)
    }
    #[cfg(not(feature = "https"))]
    http
}

/// A message as the API takes it.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Name<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exclude: Option<&'a [String]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Name<'a> {
    Text(&'a str),
    Number(i64),
}

impl<'a> Body<'a> {
    fn of(message: &'a Message) -> Self {
        let (r#type, target) = match &message.target {
            Target::Broadcast => ("broadcast", None),
            Target::Room(name) => ("room", Some(Name::Text(name))),
            Target::User(User::Text(id)) => ("user", Some(Name::Text(id))),
            Target::User(User::Number(id)) => ("user", Some(Name::Number(*id))),
            Target::Client(id) => ("client", Some(Name::Text(id))),
            Target::Topic(channel) => ("topic", Some(Name::Text(channel))),
        };
        let exclude = message.exclude.as_deref();
        Self { r#type, target, event: message.event.as_deref(), data: message.data.as_deref(), exclude }
    }
}

/// A good answer. What a newer server adds is ignored, and what it leaves out has a default.
#[derive(Deserialize)]
struct Accepted {
    results: Vec<AcceptedOne>,
}

#[derive(Deserialize)]
struct AcceptedOne {
    #[serde(default, alias = "local_shards")]
    shards: u32,
    #[serde(default)]
    redis: String,
}

#[derive(Default, Deserialize)]
struct Refused {
    #[serde(default)]
    error: RefusedWhy,
}

#[derive(Default, Deserialize)]
struct RefusedWhy {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    index: Option<usize>,
}

fn read_answer(status: StatusCode, body: &[u8], message_count: usize) -> Result<Vec<Receipt>, EmitError> {
    if !status.is_success() {
        // A proxy in between answers in its own words.
        let RefusedWhy { code, message, index } =
            serde_json::from_slice::<Refused>(body).unwrap_or_default().error;
        return Err(EmitError::Rejected(Rejection { status: status.as_u16(), code, message, index }));
    }
    let accepted: Accepted = serde_json::from_slice(body).map_err(|_| EmitError::Answer)?;
    if accepted.results.len() != message_count {
        return Err(EmitError::Answer);
    }
    let receipts =
        accepted.results.iter().map(|one| Receipt::Api { shards: one.shards, redis: forwarded(&one.redis) });
    Ok(receipts.collect())
}

fn forwarded(text: &str) -> Forwarded {
    match text {
        "queued" => Forwarded::Queued,
        "local-only" => Forwarded::LocalOnly,
        "off" => Forwarded::Off,
        _ => Forwarded::Unknown,
    }
}

#[cfg(test)]
mod tests;
