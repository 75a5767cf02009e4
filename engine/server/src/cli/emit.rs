//! `shardcast emit`: what is published, and through what.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use shardcast_emitter::{Emitter, Forwarded, Message, Receipt, Target, User};

use crate::config::{Loaded, RedisUrl, Secret};

/// Sent to a server that asks for no key, as in dev mode; one that does refuses it.
const NO_KEY: &str = "none";

/// What `emit` does, for its help.
pub(super) const LONG_ABOUT: &str = "\
Publish an event to a room, a user, a client or everyone, or a message to a topic.

It goes through the first of these that is given:
  1. the HTTP API at --api;
  2. the Redis of --redis-url, or of the configuration (redis.url);
  3. the HTTP API at the configuration's own address (server.listen).
The API's key is --key, else the first of api.key.";

/// How `emit` is used, for its help.
pub(super) const EXAMPLES: &str = "\
Examples:
  shardcast emit room chat message '{\"text\":\"hello\"}'
  shardcast emit room chat typing '{}' --exclude 7f0c0f6e-1c0b-4a55-9f1b-6f5d3a1f6a11
  shardcast emit user u1 notice '\"your order has shipped\"'
  shardcast emit topic prices '{\"acme\":12.34}'
  shardcast emit broadcast maintenance null --redis-url redis://redis.internal
  date +%s | shardcast emit --api https://live.example.com client 7f0c0f6e-1c0b-4a55-9f1b-6f5d3a1f6a11 time -";

/// Arguments of `emit`.
#[derive(Args)]
pub struct EmitArgs {
    /// Base URL of the HTTP API to publish through
    #[arg(long, global = true, value_name = "URL")]
    pub api: Option<String>,

    /// Bearer key for the API; safer in SHARDCAST_API_KEY
    #[arg(long, global = true, value_name = "KEY")]
    pub key: Option<String>,

    /// Whom the event is for.
    #[command(subcommand)]
    pub to: EmitTo,
}

/// Whom an event is for.
#[derive(Subcommand)]
pub enum EmitTo {
    /// Publish to everyone in a room
    Room {
        /// Name of the room
        room: String,
        /// What is published.
        #[command(flatten)]
        body: EmitBody,
        /// Client id that does not get the event; can be repeated
        #[arg(long, value_name = "CLIENT")]
        exclude: Vec<String>,
    },
    /// Publish to every connection of a user
    User {
        /// Id of the user
        user: String,
        /// What is published.
        #[command(flatten)]
        body: EmitBody,
    },
    /// Publish to one connection
    Client {
        /// Id of the client
        client: String,
        /// What is published.
        #[command(flatten)]
        body: EmitBody,
    },
    /// Publish on a Redis channel, to everyone who subscribed the topic that it is
    Topic {
        /// Name of the channel: the topic behind its mount's channel_prefix
        channel: String,
        /// What is published, as JSON, or "-" to read that from standard input
        data: String,
    },
    /// Publish to every authenticated client
    Broadcast {
        /// What is published.
        #[command(flatten)]
        body: EmitBody,
    },
}

/// What is published.
#[derive(Args)]
pub struct EmitBody {
    /// Name of the event
    pub event: String,
    /// Its data as JSON, or "-" to read that from standard input
    pub data: String,
}

/// What an event is published through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// Redis, to every instance that is linked by it.
    Redis(RedisUrl),
    /// The HTTP API of an instance.
    Api {
        /// Its base URL.
        url: String,
        /// The bearer key.
        key: Option<Secret>,
    },
}

/// An event that was not published.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// The data is not JSON.
    #[error("the data is not JSON; a string needs its quotes, as in '\"text\"'")]
    Data(#[source] serde_json::Error),
    /// The data cannot be read.
    #[error("cannot read the data from standard input")]
    Input(#[source] io::Error),
    /// A name is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// It could not be sent, or nobody knows whether it was.
    #[error("cannot publish {via}")]
    Send {
        /// Through what.
        via: String,
        /// Why.
        #[source]
        source: shardcast_emitter::EmitError,
    },
    /// The kernel gives no event loop.
    #[error("cannot start an event loop")]
    Runtime(#[source] io::Error),
}

impl EmitError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Empty(_))
    }
}

impl EmitTo {
    /// Checks the arguments; data that is `-` is read from `input`.
    pub fn into_message(self, input: impl Read) -> Result<Message, EmitError> {
        let (target, exclude, body) = match self {
            Self::Topic { channel, .. } if channel.is_empty() => return Err(EmitError::Empty("channel")),
            Self::Topic { channel, data } => {
                return Ok(Message::topic(channel).with_raw_data(json(data, input)?));
            }
            Self::Room { room, body, exclude } => (Target::room(room), exclude, body),
            Self::User { user, body } => (Target::user(user), Vec::new(), body),
            Self::Client { client, body } => (Target::client(client), Vec::new(), body),
            Self::Broadcast { body } => (Target::Broadcast, Vec::new(), body),
        };
        if let Target::Room(name) | Target::User(User::Text(name)) | Target::Client(name) = &target
            && name.is_empty()
        {
            return Err(EmitError::Empty("target"));
        }
        let EmitBody { event, data } = body;
        if event.is_empty() {
            return Err(EmitError::Empty("event's name"));
        }
        let message = Message::new(target, event).with_raw_data(json(data, input)?);
        Ok(if exclude.is_empty() { message } else { message.excluding(exclude) })
    }
}

fn json(data: String, input: impl Read) -> Result<Box<RawValue>, EmitError> {
    let data = if data == "-" { io::read_to_string(input).map_err(EmitError::Input)? } else { data };
    RawValue::from_string(data.trim().to_owned()).map_err(EmitError::Data)
}

impl Via {
    /// What to publish through: see the help of `emit`.
    pub fn choose(api: Option<String>, key: Option<String>, loaded: &Loaded) -> Self {
        let config = &loaded.config;
        let key = || key.map(Secret::new).or_else(|| config.api.key.first().cloned());
        match (api, &config.redis.url, config.server.listen.first()) {
            (Some(url), _, _) => Self::Api { url, key: key() },
            (None, Some(url), _) => Self::Redis(url.clone()),
            (None, None, listen) => {
                let mut address = listen.copied().unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 8080).into());
                match address.ip() {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                    _ => {}
                }
                Self::Api { url: format!("http://{address}"), key: key() }
            }
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(url) => write!(f, "through Redis at {url}"),
            Self::Api { url, .. } => write!(f, "through the API at {url}"),
        }
    }
}

/// Publishes what `args` say, and tells where it went.
pub fn run(args: EmitArgs, loaded: &Loaded) -> Result<(), EmitError> {
    let message = args.to.into_message(io::stdin())?;
    let via = Via::choose(args.api, args.key, loaded);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let receipt = runtime
        .map_err(EmitError::Runtime)?
        .block_on(send(&message, &via))
        .map_err(|source| EmitError::Send { via: via.to_string(), source })?;
    println!("{}", told(receipt, matches!(message.target, Target::Topic(_))));
    Ok(())
}

async fn send(message: &Message, via: &Via) -> Result<Receipt, shardcast_emitter::EmitError> {
    let emitter = match via {
        Via::Redis(url) => Emitter::redis(url.expose())?,
        Via::Api { url, key } => Emitter::http(url, key.as_ref().map_or(NO_KEY, Secret::expose))?,
    };
    emitter.emit(message).await
}

fn told(receipt: Receipt, is_topic: bool) -> String {
    match receipt {
        Receipt::Redis { servers: 0 } => "Redis took it, but no server is subscribed".to_owned(),
        Receipt::Redis { servers } => format!("Redis took it for {servers} subscription(s)"),
        Receipt::Api { shards: 0, redis: Forwarded::Queued } if is_topic => {
            "the server took it; through Redis it comes to everyone who subscribed".to_owned()
        }
        Receipt::Api { shards, redis } => {
            let here = match shards {
                0 => "nobody concerned is connected there".to_owned(),
                _ => format!("{shards} shard(s) deliver it"),
            };
            let others = match redis {
                Forwarded::Queued => "; on its way to the other servers",
                Forwarded::LocalOnly => "; Redis is away, so the other servers miss it",
                _ => "",
            };
            format!("the server took it: {here}{others}")
        }
        _ => "it was taken".to_owned(),
    }
}
