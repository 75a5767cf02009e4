//! Shardcast, the realtime fan-out server, as a library: [`Server`](threads::Server) runs it, and
//! [`Hooks`](hooks::Hooks) is where an application plugs in.
//!
//! [`threads`] is the page where all threads and queues are wired.

pub mod config;
pub mod directory;
pub mod engine;
pub mod hooks;
pub mod mailbox;
pub mod redis;
pub mod router;
pub mod status;
