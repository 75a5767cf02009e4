//! Why a message was not sent, or may not have been.
//!
//! No text here contains a password or a key.

use std::error::Error;
use std::fmt;

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The address of Redis is of no use.
    #[error("the address of Redis must read redis://[user:password@]host[:port]")]
    RedisUrl,
    /// The address of the API is of no use.
    #[error("the address of the API must read http://host[:port]")]
    BaseUrl,
    /// The address of the API wants TLS, which this build has not.
    #[error("https:// needs the feature `https` of shardcast-emitter")]
    HttpsOff,
    /// The key is empty or has characters that cannot be in a header.
    #[error("the API key must be visible ASCII, without spaces")]
    Key,
    /// The data does not serialise.
    #[error("the data cannot be written as JSON")]
    Data(#[source] Box<dyn Error + Send + Sync>),
    /// A message is addressed to an empty name, which is nobody.
    #[error("the target of a message must not be empty, nor the user 0")]
    NoTarget,
    /// Clients can be excluded from rooms and broadcasts only.
    #[error("`exclude` is for rooms and broadcasts only")]
    Exclude,
    /// A message for a topic has an event, or no data.
    #[error("a message for a topic is its data, without an event")]
    Topic,
    /// A message that is for no topic has no event.
    #[error("a message needs an event, unless it is for a topic")]
    NoEvent,
    /// It took too long; the message may have been sent all the same.
    #[error("no answer in time; the message may have been delivered or not")]
    Timeout,
    /// The connection could not be made, or broke; in the latter case the message may have been sent all the same.
    #[error("no connection, or it broke; the message may have been delivered or not")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// Redis refuses the message: missing permission, wrong password, or not ready.
    #[error("Redis refuses the message")]
    Redis(#[source] Box<dyn Error + Send + Sync>),
    /// The API refuses the request; no message of it was sent.
    #[error("the API refuses the request: {0}")]
    Rejected(Rejection),
    /// What answered does not speak like a Shardcast.
    #[error("the answer is not that of a Shardcast API; check the address")]
    Answer,
}

/// An answer of the API that is not a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The HTTP status: 401 for a wrong key, 413 for too much at once, 400 for a message it does not accept.
    pub status: u16,
    /// The reason for programs, such as `unauthorized`; empty if the answer had none.
    pub code: String,
    /// The reason for people; empty if the answer had none.
    pub message: String,
    /// Which message it is about, from zero.
    pub index: Option<usize>,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(index) = self.index {
            write!(f, ", message {index}")?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
