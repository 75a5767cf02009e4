//! The bad inputs of the threat catalogue, by number, over real sockets.
//!
//! Each ends as it must: a named close code or HTTP status, bounded memory and CPU, a healthy client beside it that
//! notices nothing, and exactly one counter that moves. The numbers in the names are those of the catalogue.

mod addresses;
mod arena;
mod compression;
mod crowds;
mod exhaustion;
mod frames;
mod handshake;
mod logs;
mod origins;
mod payload;
mod rates;
mod redis;
mod reloads;
mod rooms;
mod siege;
mod tls;
mod tokens;
mod topic;
mod topic_redis;
mod topic_requests;
mod transport;

/// Books what the servers under attack hold.
#[global_allocator]
static ALLOCATOR: shardcast_tests::cost::Booking = shardcast_tests::cost::Booking;
