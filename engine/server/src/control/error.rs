//! Every way a request to the API can fail: its status, its code for programs, its sentence for people.

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use super::answer::{self, Answer};
use super::emit::MessageError;
use crate::engine::EmitError;

/// Why a request is refused. Nothing was sent or changed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody may, yet.
    #[error(
        "the API is closed because no key is configured: set `api.key` (environment: `SHARDCAST_API_KEY`) and \
         send it as `Authorization: Bearer <key>`"
    )]
    NoKeyConfigured,
    /// No key, or none of ours.
    #[error("send one of the keys of `api.key` as `Authorization: Bearer <key>`")]
    Unauthorized,
    /// Nothing lives at that path of the admin listener.
    #[error("there is nothing here: `/` lists what there is")]
    NotFound,
    /// The path exists, for other methods.
    #[error("this path takes {allow}")]
    MethodNotAllowed {
        /// The methods, comma-separated.
        allow: &'static str,
    },
    /// More bytes than `api.body_bytes_max`.
    #[error(
        "the body exceeds {bytes_max} bytes: send fewer messages at a time, or raise `api.body_bytes_max`"
    )]
    BodyTooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The body did not come in time.
    #[error("the body did not arrive in time: send it at once")]
    BodyTimeout,
    /// The body did not come to its end.
    #[error("the body broke off: send as many bytes as announced")]
    BodyBroken,
    /// The body is no UTF-8.
    #[error("the body is no UTF-8 (byte {position}): send JSON in UTF-8")]
    NotUtf8 {
        /// How many bytes were good.
        position: usize,
    },
    /// The body is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(serde_json::Error),
    /// JSON, but neither a message nor a list of them.
    #[error("the body is neither a message nor an array of messages: a message is an object")]
    NotMessages,
    /// More messages than one request may bring.
    #[error("the array has more than {count_max} messages: send the rest in another request")]
    TooManyMessages {
        /// The bound.
        count_max: usize,
    },
    /// One message of the request is wrong; none was sent.
    #[error("{problem}")]
    Message {
        /// Which one, from zero.
        index: usize,
        /// What is wrong with it.
        problem: MessageError,
    },
    /// Messages cannot be sent here.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// A parameter of the query that there is not.
    #[error("unknown parameter: this path takes {known}")]
    UnknownParameter {
        /// What there is.
        known: &'static str,
    },
    /// `limit` is no number within its bounds.
    #[error("`limit` is a whole number from 1 to {limit_max}")]
    BadLimit {
        /// The bound.
        limit_max: usize,
    },
    /// No mount of that path.
    #[error("no mount has this path: name one of `mounts.path`")]
    UnknownMount,
    /// No such client in this process.
    #[error("no client with this id is connected to this instance")]
    UnknownClient,
    /// No user of that id has connections here.
    #[error("no user of that id is connected to this instance")]
    UnknownUser,
    /// A shard's mailbox is full, or it did not answer in time.
    #[error("the shard of this client is too busy to answer: try again")]
    ShardBusy,
}

#[derive(Serialize)]
struct Problem<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl ApiError {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoKeyConfigured => (StatusCode::UNAUTHORIZED, "no_key_configured"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "body_broken"),
            Self::NotUtf8 { .. } => (StatusCode::BAD_REQUEST, "not_utf8"),
            Self::NotJson(_) => (StatusCode::BAD_REQUEST, "not_json"),
            Self::NotMessages => (StatusCode::BAD_REQUEST, "not_messages"),
            Self::TooManyMessages { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_many_messages"),
            Self::Message { problem, .. } => (StatusCode::BAD_REQUEST, problem.code()),
            Self::Emit(EmitError::NoIgnisMount) => (StatusCode::CONFLICT, "no_ignis_mount"),
            Self::UnknownParameter { .. } => (StatusCode::BAD_REQUEST, "unknown_parameter"),
            Self::BadLimit { .. } => (StatusCode::BAD_REQUEST, "bad_limit"),
            Self::UnknownMount => (StatusCode::NOT_FOUND, "unknown_mount"),
            Self::UnknownClient => (StatusCode::NOT_FOUND, "unknown_client"),
            Self::UnknownUser => (StatusCode::NOT_FOUND, "unknown_user"),
            Self::ShardBusy => (StatusCode::SERVICE_UNAVAILABLE, "shard_busy"),
        }
    }

    /// Its name for programs.
    pub(super) fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// The response that tells of it: `{"error":{"code":…,"message":…,"index":…}}`.
    pub(super) fn answer(&self) -> Answer {
        let (status, code) = self.status_and_code();
        let index = match self {
            Self::Message { index, .. } => Some(*index),
            _ => None,
        };
        let answer =
            answer::json(status, &Problem { error: Detail { code, message: self.to_string(), index } });
        let (name, value) = match self {
            Self::NoKeyConfigured | Self::Unauthorized => (WWW_AUTHENTICATE, "Bearer"),
            Self::MethodNotAllowed { allow } => (ALLOW, *allow),
            // The rest of the body is not worth reading.
            Self::BodyTooLarge { .. } | Self::BodyTimeout | Self::BodyBroken => (CONNECTION, "close"),
            Self::ShardBusy => (RETRY_AFTER, "1"),
            _ => return answer,
        };
        answer::with_header(answer, name, HeaderValue::from_static(value))
    }
}
