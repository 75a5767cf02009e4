//! Shardcast, the realtime fan-out server, as a library: [`Server`](threads::Server) runs it, and
//! [`Hooks`](hooks::Hooks) is where an application plugs in.
//!
//! [`threads`] is the page where all threads and queues are wired.
#![warn(unreachable_pub)]

pub mod admission;
pub mod application;
pub mod audit;
pub mod auth;
mod backoff;
pub mod cli;
pub mod compression;
pub mod config;
pub mod control;
pub mod directory;
pub mod doctor;
pub mod driver;
pub mod engine;
pub mod hooks;
pub mod logs;
pub mod mailbox;
pub mod outbound;
pub mod policy;
mod pressure;
pub mod redis;
pub mod router;
pub mod serve;
mod shard_config;
pub mod status;
pub mod threads;
pub mod tls;
pub mod upstream;
mod wall_clock;
pub mod webhooks;
