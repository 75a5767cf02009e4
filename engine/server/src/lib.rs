//! Shardcast, the realtime fan-out server.
