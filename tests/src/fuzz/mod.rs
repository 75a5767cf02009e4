//! The bodies of the fuzz targets: each takes any bytes and panics when a property does not hold.
//!
//! They are ordinary functions, so that a plain `cargo test` replays the committed corpora (`tests/fuzz_corpora.rs`)
//! and libFuzzer only supplies the bytes (`tests/fuzz`, whose README says how to run it and how to add a target).
//! Each states what must hold for all input: how reads split it makes no difference, an independent reader agrees,
//! what was written reads back the same, and memory stays within a bound that no declared length can move.

mod api;
mod config;
mod deflate;
mod edge;
mod envelope;
mod frames;
mod head;
mod ignis;
mod input;
mod json;
mod jwks;
pub mod memory;
mod names;
mod rules;
mod shard;
mod tls;
mod token;
mod topic;
mod webhook;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// One target.
#[derive(Debug)]
pub struct Target {
    /// Its name, that of its corpus and of its file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Memory that a run may hold at once, the references' included, bytes; [`memory`] must be counting.
    pub memory_bytes_max: usize,
    body: fn(&[u8]),
}

/// All targets: a line here, a file in `fuzz_targets` and a corpus make one.
pub static TARGETS: &[Target] = &[
    Target { name: "api", memory_bytes_max: MIB, body: api::run },
    Target { name: "config", memory_bytes_max: 4 * MIB, body: config::run },
    Target { name: "deflate", memory_bytes_max: 2 * MIB, body: deflate::run },
    Target { name: "edge", memory_bytes_max: 512 * KIB, body: edge::run },
    Target { name: "envelope", memory_bytes_max: 2 * MIB, body: envelope::run },
    Target { name: "frames", memory_bytes_max: 2 * MIB, body: frames::run },
    Target { name: "head", memory_bytes_max: 512 * KIB, body: head::run },
    Target { name: "ignis", memory_bytes_max: MIB, body: ignis::run },
    Target { name: "json", memory_bytes_max: 2 * MIB, body: json::run },
    Target { name: "jwks", memory_bytes_max: 2 * MIB, body: jwks::run },
    Target { name: "names", memory_bytes_max: 512 * KIB, body: names::run },
    Target { name: "rules", memory_bytes_max: 512 * KIB, body: rules::run },
    Target { name: "shard", memory_bytes_max: 64 * MIB, body: shard::run },
    Target { name: "tls", memory_bytes_max: 4 * MIB, body: tls::run },
    Target { name: "token", memory_bytes_max: 2 * MIB, body: token::run },
    Target { name: "topic", memory_bytes_max: MIB, body: topic::run },
    Target { name: "webhook", memory_bytes_max: MIB, body: webhook::run },
];

/// The longest input that the bounds of memory are meant for, bytes; `tests/fuzz/run` makes none longer.
pub const INPUT_BYTES_MAX: usize = 4 * KIB;

impl Target {
    /// The target of this name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> &'static Self {
        let target = TARGETS.iter().find(|target| target.name == name);
        target.unwrap_or_else(|| panic!("no fuzz target is called {name}"))
    }

    /// Runs it on one input.
    ///
    /// # Panics
    /// When a property does not hold: a bug, and `input` shows it.
    pub fn run(&self, input: &[u8]) {
        let ((), peak_bytes) = memory::peak_of(|| (self.body)(input));
        let bound = self.memory_bytes_max.max(64 * input.len());
        assert!(peak_bytes <= bound, "{} held {peak_bytes} bytes, {bound} are allowed", self.name);
    }
}

/// Runs the simulation of `input` once more with its last `events_max` events kept; the report when it fails.
pub use shard::explain as explain_shard;
