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
pub mod mounts;
pub mod pattern;
pub mod problem;
pub mod raw;
pub mod reload;
pub mod render;
pub mod secret;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
pub mod traffic;
pub mod url;
pub mod values;
pub mod webhooks;

use std::net::SocketAddr;

pub use keys::{
    Admin, Api, Audit, Auth, Jwks, Jwt, JwtKey, Limits, Mount, Rates, Redis, Rule, Server, Tls,
    TlsCertificate, Token, Webhooks,
};
pub use load::{FileChoice, Flag, Loaded, Origins, Sources};
pub use machine::Machine;
pub use pattern::{RoomPattern, RoomTemplate};
pub use problem::{ConfigError, Origin, Problem, Warning};
pub use reload::Reload;
pub use secret::{RedisUrl, Secret};
pub use traffic::Rate;
pub use url::HttpUrl;
pub use values::{
    AuditEvent, Auto, BinaryMode, Choice, ClaimCondition, CloseCodes, Dialect, Effect, Encryption,
    EncryptionInbound, IoDriver, JwtAlgorithm, LogFormat, LogLevel, ProxyProtocol, RuleAction,
    SecretEncoding, SlowConsumer, SnapshotMode, Subscribe, TlsVersion, UserId, WebhookHook,
};

/// Everything that can be set, typed and within bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sockets, threads and logging of the process.
    pub server: Server,
    /// Certificates for `server.tls_listen`.
    pub tls: Tls,
    /// The private listener: metrics, health, admin.
    pub admin: Admin,
    /// The HTTP API through which backends publish.
    pub api: Api,
    /// The link to other instances.
    pub redis: Redis,
    /// Bounds on memory and work.
    pub limits: Limits,
    /// How much clients may send.
    pub rates: Rates,
    /// Who may connect, and to which rooms.
    pub auth: Auth,
    /// What JSON Web Tokens are accepted, and what is read from them.
    pub jwt: Jwt,
    /// The record of refusals and of what operators did.
    pub audit: Audit,
    /// What an application is asked and told over HTTP.
    pub webhooks: Webhooks,
    /// Which dialect answers on which path; never empty, paths unique.
    pub mounts: Vec<Mount>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: Server::default(),
            tls: Tls::default(),
            admin: Admin::default(),
            api: Api::default(),
            redis: Redis::default(),
            limits: Limits::default(),
            rates: Rates::default(),
            auth: Auth::default(),
            jwt: Jwt::default(),
            audit: Audit::default(),
            webhooks: Webhooks::default(),
            mounts: vec![Mount::default()],
        }
    }
}

impl Config {
    /// Every address that clients connect to: with TLS, without, and those of mounts.
    pub fn client_addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        self.server.client_addresses().chain(self.mounts.iter().flat_map(|mount| &mount.listen))
    }
}

impl Server {
    /// The addresses at which all mounts answer, with TLS and without.
    pub fn client_addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        self.listen.iter().chain(&self.tls_listen)
    }
}
