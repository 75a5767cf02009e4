//! `shardcast emit`: what is published, and through what.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};
use serde_json::value::RawValue;

use crate::config::{Loaded, RedisUrl, Secret};

/// What `emit` does, for its help.
pub(super) const LONG_ABOUT: &str = "\
Publish an event to a room, a user, a client or everyone.

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
  shardcast emit broadcast maintenance null --redis-url redis://10.0.0.5
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

/// Whom an event is for, and what it is, checked.
#[derive(Debug)]
pub struct Emission {
    /// Whom it is for.
    pub target: EmitTarget,
    /// Name of the event, not empty.
    pub event: String,
    /// Its data, valid JSON as it was written.
    pub data: Box<RawValue>,
}

/// The target of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmitTarget {
    /// A room, except these clients.
    Room {
        /// Its name.
        room: String,
        /// Ids of clients that do not get it.
        exclude: Vec<String>,
    },
    /// A user, by the text of the id.
    User(String),
    /// A client, by its id.
    Client(String),
    /// Every authenticated client.
    Everyone,
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
    /// Nothing in this build sends.
    #[error("this build cannot publish; use the HTTP API: POST /api/emit")]
    Unsupported,
}

impl EmitError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Data(_) | Self::Empty(_))
    }
}

impl EmitTo {
    /// Checks the arguments; data that is `-` is read from `input`.
    pub fn into_emission(self, input: impl Read) -> Result<Emission, EmitError> {
        let (target, name, body) = match self {
            Self::Room { room, body, exclude } => {
                (EmitTarget::Room { room: room.clone(), exclude }, room, body)
            }
            Self::User { user, body } => (EmitTarget::User(user.clone()), user, body),
            Self::Client { client, body } => (EmitTarget::Client(client.clone()), client, body),
            Self::Broadcast { body } => (EmitTarget::Everyone, "everyone".to_owned(), body),
        };
        if name.is_empty() {
            return Err(EmitError::Empty("target"));
        }
        let EmitBody { event, data } = body;
        if event.is_empty() {
            return Err(EmitError::Empty("event's name"));
        }
        let data = if data == "-" { io::read_to_string(input).map_err(EmitError::Input)? } else { data };
        let data = RawValue::from_string(data.trim().to_owned()).map_err(EmitError::Data)?;
        Ok(Emission { target, event, data })
    }
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

/// Publishes what `args` say.
pub fn run(args: EmitArgs, loaded: &Loaded) -> Result<(), EmitError> {
    let emission = args.to.into_emission(io::stdin())?;
    let via = Via::choose(args.api, args.key, loaded);
    send(&emission, &via)
}

fn send(_emission: &Emission, _via: &Via) -> Result<(), EmitError> {
    Err(EmitError::Unsupported)
}
