//! Shardcast, the realtime fan-out server.

pub mod config;
