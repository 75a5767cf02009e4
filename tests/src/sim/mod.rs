//! Deterministic simulation of one to four shards against a naive model.
//!
//! Real are the shards, the mailboxes, the directory and the router; simulated are sockets, clients, hooks,
//! the clock and the order of everything. A seed decides all of it: when a run fails, the same seed fails the
//! same way.
//!
//! - [`world`] moves things, one step at a time; [`scenario`] is what a seed makes of the world before.
//! - [`model`] says what must happen: a list of connections, walked from end to end for everything.
//! - [`speech`] what clients say and mean; [`peer`] what they hear; [`line`] what they are owed.
//! - [`fault`] breaks things on purpose, to see that the model notices.

mod bytes;
mod fault;
mod line;
mod mirror;
mod model;
mod peer;
mod rng;
mod scenario;
mod speech;
mod world;

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use shardcast_shard::Counters;

pub use self::fault::Fault;
use self::rng::Rng;
use self::scenario::Scenario;
use self::world::{Log, Totals, World};

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A few clients, anything goes.
    Usual,
    /// More clients than a batch of writes holds.
    Crowded,
}

/// What one or many runs amounted to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Publications.
    pub publications: u64,
    /// Receivers of publications, counted when a shard took them in.
    pub deliveries: u64,
    /// Frames that clients read and compared.
    pub frames_heard: u64,
    /// Letters that found a mailbox full.
    pub letters_refused: u64,
    /// Whether the fault of the run came to pass.
    pub fault_done: bool,
    /// Authentications refused, for all reasons.
    pub auth_refused: u64,
    /// Request heads refused.
    pub refused_heads: u64,
    /// Sums of the shards' counters, in the order of [`Counters::FIELDS`].
    pub counters: Vec<u64>,
}

impl Summary {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.publications += other.publications;
        self.deliveries += other.deliveries;
        self.frames_heard += other.frames_heard;
        self.letters_refused += other.letters_refused;
        self.auth_refused += other.auth_refused;
        self.refused_heads += other.refused_heads;
        self.counters.resize(Counters::FIELDS.len(), 0);
        self.counters.iter_mut().zip(&other.counters).for_each(|(sum, value)| *sum += value);
    }

    /// A counter by its name; panics on a name that is none.
    pub fn counter(&self, name: &str) -> u64 {
        let index = Counters::FIELDS.iter().position(|(field, _)| *field == name);
        self.counters[index.unwrap_or_else(|| panic!("no counter is called {name}"))]
    }

    fn of(totals: Totals) -> Self {
        Self {
            seeds: 1,
            publications: totals.publications,
            deliveries: totals.deliveries,
            frames_heard: totals.frames_heard,
            letters_refused: totals.letters_refused,
            auth_refused: totals.auth_refused,
            fault_done: totals.fault_done,
            refused_heads: totals.refused_heads,
            counters: totals.counters,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, publications, deliveries, frames_heard, letters_refused, .. } = self;
        writeln!(
            f,
            "{seeds} seeds: {publications} publications, {deliveries} deliveries, {frames_heard} frames heard"
        )?;
        write!(f, "{letters_refused} letters refused")?;
        for ((name, _), value) in Counters::FIELDS.iter().zip(&self.counters) {
            write!(f, ", {name} {value}")?;
        }
        Ok(())
    }
}

/// A run in which something was not as the model says.
#[derive(Debug)]
pub struct Failure {
    /// Runs it again; `None` when bytes did the choosing.
    pub seed: Option<u64>,
    /// What was wrong.
    pub message: String,
    /// Whether the fault of the run had come to pass.
    pub fault_done: bool,
    scenario: String,
    events: VecDeque<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\nThe last events:", self.scenario)?;
        for event in &self.events {
            let end = event.floor_char_boundary(400);
            writeln!(f, "  {}", &event[..end])?;
        }
        let Self { message, .. } = self;
        let Some(seed) = self.seed else { return write!(f, "\n{message}") };
        writeln!(f, "\nseed {seed}: {message}\n\nTo see it again:")?;
        write!(
            f,
            "  SHARDCAST_SIM_SEED={seed} cargo test -p shardcast-tests --test simulation replay -- --nocapture"
        )
    }
}

/// Runs one seed, and once more to remember its last `events_max` events when it fails.
///
/// # Errors
/// Something was not as the model says: a bug, or the fault that was asked for.
pub fn run(seed: u64, kind: Kind, fault: Option<Fault>, events_max: usize) -> Result<Summary, Box<Failure>> {
    let first = run_once(Rng::new(seed), kind, fault, None);
    first.map_err(|failed| explained(failed, Some(seed), Rng::new(seed), kind, fault, events_max))
}

/// Runs the usual world with choices made by `bytes`, until there are no more.
///
/// # Panics
/// Something was not as the model says.
pub fn run_bytes(bytes: &[u8]) {
    let mut rng = Rng::of_bytes(bytes);
    let scenario = scenario_of(&mut rng, Kind::Usual);
    World::new(rng, &scenario, None).run();
}

/// What [`run_bytes`] does, as [`run`] does it.
///
/// # Errors
/// Something was not as the model says: a bug.
pub fn explain_bytes(bytes: &[u8], events_max: usize) -> Result<Summary, Box<Failure>> {
    let first = run_once(Rng::of_bytes(bytes), Kind::Usual, None, None);
    first.map_err(|failed| explained(failed, None, Rng::of_bytes(bytes), Kind::Usual, None, events_max))
}

/// The report of a run that failed.
fn explained(
    (message, fault_done): (String, bool),
    seed: Option<u64>,
    rng: Rng,
    kind: Kind,
    fault: Option<Fault>,
    events_max: usize,
) -> Box<Failure> {
    let mut log = Log { events_max, ..Log::default() };
    // It fails the same way, so the second message is the first.
    drop(run_once(rng.clone(), kind, fault, Some(&mut log)));
    let scenario = scenario_of(&mut { rng }, kind).to_string();
    Box::new(Failure { seed, message, fault_done, scenario, events: log.events })
}

fn scenario_of(rng: &mut Rng, kind: Kind) -> Scenario {
    match kind {
        Kind::Usual => Scenario::new(rng),
        Kind::Crowded => Scenario::crowded(rng),
    }
}

fn run_once(
    mut rng: Rng,
    kind: Kind,
    fault: Option<Fault>,
    log: Option<&mut Log>,
) -> Result<Summary, (String, bool)> {
    let scenario = scenario_of(&mut rng, kind);
    let mut world = World::new(rng, &scenario, fault);
    world.log = log;
    let end = catch_unwind(AssertUnwindSafe(|| world.run()));
    match end {
        Ok(()) => Ok(Summary::of(std::mem::take(&mut world.totals))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err((text.unwrap_or_else(|| "a panic without a text".to_owned()), world.totals.fault_done))
        }
    }
}
