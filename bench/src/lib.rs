//! What the benchmarks share, so that times and instructions are counted of the same work: a shard driven without
//! sockets, one room of it, the way to the shards, and messages as they arrive.
//!
//! The names of the benchmarks are read by other programs: `docs/benchmarks.md` lists them.

pub mod messages;
pub mod one_room;
pub mod route;
pub mod shard;

use std::time::Duration;

use criterion::Criterion;

pub use one_room::OneRoom;
pub use shard::Bench;

/// That of the binary: what allocates is measured with what the server allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Criterion's settings for all benchmarks: all of them together take about two minutes.
pub fn settings() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .nresamples(20_000)
}
