//! The bad inputs of the threat catalogue, by number, over real sockets.
//!
//! Each ends as it must: a named close code or HTTP status, bounded memory and CPU, a healthy client beside it that
//! notices nothing, and exactly one counter that moves. The numbers in the names are those of the catalogue.

mod arena;
mod compression;
mod exhaustion;
mod frames;
mod handshake;
mod payload;
mod redis;
mod rooms;
mod tokens;
mod transport;
