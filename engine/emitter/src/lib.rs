//! Publish to Shardcast (and to Ignis) from a Rust backend: to a room, a user, one client, everyone, or a topic.
//!
//! Two ways lead there, behind one [`Emitter`]:
//!
//! - [`Emitter::redis`] publishes on the Redis that the servers share, byte for byte as Ignis' own emitter does.
//!   Every server gets the message, Shardcast or Ignis.
//! - [`Emitter::http`] posts to the HTTP API of one server, which delivers to its own clients and passes the message
//!   on to the other servers. It needs no Redis, and its answer tells how far the message went.
//!
//! A message is sent at most once: after an error that leaves its fate open (a timeout, a broken connection) it is not
//! sent again, as the clients might get it twice. Nothing is kept for clients that are not connected.
//!
//! ```no_run
//! use shardcast_emitter::{Emitter, Message, Target};
//!
//! # async fn example() -> Result<(), shardcast_emitter::EmitError> {
//! #[derive(serde::Serialize)]
//! struct Price {
//!     symbol: &'static str,
//!     cents: u64,
//! }
//!
//! let emitter = Emitter::redis("redis://127.0.0.1:6379")?;
//! let message = Message::new(Target::room("prices"), "tick").with_data(&Price { symbol: "ACME", cents: 1234 })?;
//! emitter.emit(&message).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Features: `redis` and `http` (both by default), and `https` for an API behind TLS.
#![warn(unreachable_pub)]

mod error;
#[cfg(feature = "http")]
mod http;
mod message;
#[cfg(feature = "redis")]
mod redis;

use std::time::Duration;

pub use error::{EmitError, Rejection};
pub use message::{Message, Target, User};

#[cfg(not(any(feature = "redis", feature = "http")))]
compile_error!("shardcast-emitter needs a way to send: enable its feature `redis` or `http`");

/// How long a call may take unless [`Emitter::with_timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends messages. Cheap to clone; clones share their connections. Needs a tokio runtime.
#[derive(Clone, Debug)]
pub struct Emitter {
    way: Way,
    timeout: Duration,
}

#[derive(Clone, Debug)]
enum Way {
    #[cfg(feature = "redis")]
    Redis(redis::RedisWay),
    #[cfg(feature = "http")]
    Http(http::HttpWay),
}

/// How far a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// Redis took it.
    Redis {
        /// Servers that were subscribed and got it, as far as Redis knows: on a Redis Cluster, those of one node. None
        /// means that no server was there.
        servers: u64,
    },
    /// A server took it.
    Api {
        /// Shards of that server with someone to deliver it to. None means that nobody concerned is connected there.
        shards: u32,
        /// What became of it on its way to the other servers.
        redis: Forwarded,
    },
}

/// What a server did with a message for the other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Forwarded {
    /// It is on its way to Redis.
    Queued,
    /// Redis is away or slow: the clients of the other servers miss it.
    LocalOnly,
    /// There are no other servers.
    Off,
    /// The server is of another version and says something else.
    Unknown,
}

impl Emitter {
    /// Publishes through the Redis at `url`, `redis://[user:password@]host[:port]`. Connects with the first message,
    /// and again after a connection was lost.
    ///
    /// Errors: `url` is of no use. Redis being away is none yet.
    #[cfg(feature = "redis")]
    pub fn redis(url: &str) -> Result<Self, EmitError> {
        Ok(Self { way: Way::Redis(redis::RedisWay::new(url)?), timeout: TIMEOUT })
    }

    /// Publishes through the API of the server at `base_url`, `http://host[:port]`, with one of the keys of its
    /// `api.key`. Connections are kept and used again.
    ///
    /// ```no_run
    /// # use shardcast_emitter::{Emitter, Message, Receipt, Target};
    /// # async fn example() -> Result<(), shardcast_emitter::EmitError> {
    /// let emitter = Emitter::http("http://127.0.0.1:8080", "the-key")?;
    /// let receipt = emitter.emit(&Message::new(Target::user("u1"), "logout")).await?;
    /// if let Receipt::Api { shards: 0, .. } = receipt {
    ///     println!("u1 is not connected to this server");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Errors: `base_url` or `key` is of no use. The server being away is none yet.
    #[cfg(feature = "http")]
    pub fn http(base_url: &str, key: &str) -> Result<Self, EmitError> {
        Ok(Self { way: Way::Http(http::HttpWay::new(base_url, key)?), timeout: TIMEOUT })
    }

    /// How long a call may take, connecting included; 10 s by default.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends one message and waits until Redis or the server has it.
    ///
    /// After [`EmitError::Timeout`] and [`EmitError::Transport`] it may have been delivered all the same.
    pub async fn emit(&self, message: &Message) -> Result<Receipt, EmitError> {
        let receipts = self.emit_many(std::slice::from_ref(message)).await?;
        receipts.first().copied().ok_or(EmitError::Answer)
    }

    /// Sends messages in order, in one exchange, and waits until Redis or the server has them all. The receipts are in
    /// the order of the messages.
    ///
    /// Through the API it is all or none: a message that the server does not accept keeps the others back. A server
    /// takes 1,000 messages and `api.body_bytes_max` bytes (1 MiB by default) at once. Through Redis some may have been
    /// published when another was refused.
    pub async fn emit_many(&self, messages: &[Message]) -> Result<Vec<Receipt>, EmitError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        messages.iter().try_for_each(Message::check)?;
        match &self.way {
            #[cfg(feature = "redis")]
            Way::Redis(way) => way.send(messages, self.timeout).await,
            #[cfg(feature = "http")]
            Way::Http(way) => way.send(messages, self.timeout).await,
        }
    }
}
