//! Deterministic simulation: thousands of seeds, each a different order of everything.
//!
//! `SHARDCAST_SIM_SEEDS` is how many seeds to run, `SHARDCAST_SIM_FIRST` where to begin; `SHARDCAST_SIM_SEED` is
//! the one that `replay` runs and `SHARDCAST_SIM_EVENTS` how many of its last events it shows.

use std::sync::atomic::{AtomicU64, Ordering};

use shardcast_tests::sim::{self, Fault, Kind, Summary};

/// Seeds of a usual run: about half a minute on two cores in the dev profile.
const SEEDS: u64 = 5_000;
const CROWDED_SEEDS: u64 = 6;
/// Events shown of a failure.
const EVENTS: usize = 50;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}"))
    })
}

/// Runs seeds on all cores; panics with the report of the lowest that fails.
fn run_all(first: u64, count: u64, kind: Kind) -> Summary {
    let next = AtomicU64::new(first);
    let work = || {
        let mut sum = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(sum);
            }
            match sim::run(seed, kind, None, EVENTS) {
                Ok(one) => sum.add(&one),
                Err(failure) => {
                    next.store(first + count, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut sum = Summary::default();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join().expect("a worker only returns") {
                Ok(one) => sum.add(&one),
                Err(failure) => failures.push(failure),
            }
        }
    });
    if let Some(failure) = failures.into_iter().min_by_key(|failure| failure.seed) {
        panic!("\n{failure}");
    }
    sum
}

#[test]
fn every_seed_agrees_with_the_model() {
    let seeds = from_env("SHARDCAST_SIM_SEEDS", SEEDS);
    let sum = run_all(from_env("SHARDCAST_SIM_FIRST", 1), seeds, Kind::Usual);
    println!("{sum}");
    if seeds < SEEDS {
        return;
    }
    // A hazard that never happens is not tested.
    for name in [
        "shed_full",
        "handed_off",
        "handshake_timeouts",
        "auth_failed",
        "auth_refused_user_limit",
        "messages_encrypted",
        "encryption_deferred",
        "auth_expired",
        "auth_timeouts",
        "heartbeat_timeouts",
        "idle_timeouts",
        "close_timeouts",
        "joins_refused_limit",
        "joins_refused_rooms_max",
        "asks_refused_limit",
        "dropped_outbox_full",
        "dropped_memory_cap",
        "dropped_disconnected",
        "slow_disconnected",
        "pongs_coalesced",
        "pings_sent",
        "short_writes",
        "hang_ups",
        "kicked",
        "shed_input",
        "deflate_agreed",
        "messages_inflated",
        "requests_overrun",
        "requests_timeouts",
        "auth_failures_limit",
        "topics_refused",
        "topics_refused_tenant",
        "topics_refused_channel",
    ] {
        assert!(sum.counter(name) > 0, "{name} never happened in {seeds} seeds");
    }
    assert!(sum.auth_refused > 0 && sum.letters_refused > 0 && sum.frames_heard > sum.seeds);
    assert!(sum.refused_heads > 0, "no head was ever refused");
}

#[test]
fn a_crowd_larger_than_a_batch_of_writes_agrees_with_the_model() {
    println!("{}", run_all(1, CROWDED_SEEDS, Kind::Crowded));
}

/// Runs the seed of a failure; without one there is nothing to do.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("SHARDCAST_SIM_SEED") else { return };
    let seed = seed.parse().unwrap_or_else(|_| panic!("SHARDCAST_SIM_SEED must be a number, not {seed:?}"));
    match sim::run(seed, Kind::Usual, None, from_env("SHARDCAST_SIM_EVENTS", EVENTS as u64) as usize) {
        Ok(summary) => println!("{summary}"),
        Err(failure) => panic!("\n{failure}"),
    }
}

/// The model is worth nothing unless it notices what goes wrong.
#[test]
fn the_model_notices_every_kind_of_fault() {
    for fault in Fault::ALL {
        let mut done = 0;
        let mut noticed = 0;
        for seed in 1..=60 {
            match sim::run(seed, Kind::Usual, Some(fault), EVENTS) {
                Ok(summary) => done += u32::from(summary.fault_done),
                Err(failure) => {
                    assert!(failure.fault_done, "no fault was made yet:\n{failure}");
                    done += 1;
                    noticed += 1;
                }
            }
        }
        println!("{fault:?}: noticed in {noticed} of {done} runs");
        assert!(done >= 10, "{fault:?} came to pass in {done} runs only");
        // A client that is lost before it reads, or a letter for nobody, hides a fault.
        assert!(noticed * 2 >= done, "{fault:?} was noticed in {noticed} of {done} runs only");
    }
}
