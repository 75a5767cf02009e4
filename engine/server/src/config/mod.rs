//! The configuration: what can be set, where each value came from, and whether the whole makes sense.
//!
//! Defaults < TOML file < environment < flags. Every key is described once, in [`keys`], and everything else
//! (the structs, the defaults, the environment names, the reference page, the check for unknown keys) comes
//! from that description.

pub mod check;
pub mod codec;
mod env;
pub mod key;
pub mod keys;
pub mod load;
pub mod machine;
pub mod pattern;
pub mod problem;
pub mod raw;
pub mod reload;
pub mod render;
pub mod secret;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
pub mod url;
pub mod values;
pub mod webhooks;

pub use keys::{Admin, Api, Auth, Jwks, Jwt, JwtKey, Limits, Mount, Redis, Rule, Server, Token, Webhooks};
pub use load::{FileChoice, Flag, Loaded, Origins, Sources};
pub use machine::Machine;
pub use pattern::{RoomPattern, RoomTemplate};
pub use problem::{ConfigError, Origin, Problem, Warning};
pub use reload::Reload;
pub use secret::{RedisUrl, Secret};
pub use url::HttpUrl;
pub use values::{
    Auto, Choice, ClaimCondition, Dialect, Effect, IoDriver, JwtAlgorithm, LogFormat, LogLevel, RuleAction,
    SecretEncoding, SlowConsumer, UserId, WebhookHook,
};

/// Everything that can be set, typed and within bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sockets, threads and logging of the process.
    pub server: Server,
    /// The private listener: metrics, health, admin.
    pub admin: Admin,
    /// The HTTP API through which backends publish.
    pub api: Api,
    /// The link to other instances.
    pub redis: Redis,
    /// Bounds on memory and work.
    pub limits: Limits,
    /// Who may connect, and to which rooms.
    pub auth: Auth,
    /// What JSON Web Tokens are accepted, and what is read from them.
    pub jwt: Jwt,
    /// What an application is asked and told over HTTP.
    pub webhooks: Webhooks,
    /// Which dialect answers on which path; never empty, paths unique.
    pub mounts: Vec<Mount>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            admin: Admin::default(),
            api: Api::default(),
            redis: Redis::default(),
            limits: Limits::default(),
            auth: Auth::default(),
            jwt: Jwt::default(),
            webhooks: Webhooks::default(),
            mounts: vec![Mount::default()],
        }
    }
}
