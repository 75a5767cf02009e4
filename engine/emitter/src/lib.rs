//! Publish to Shardcast from a Rust backend, through Redis or the HTTP API.
