//! Replays the recorded Ignis conversations of `tests/fixtures/ignis`.
//!
//! - `recording` reads a file; `plans` says what it needs beyond itself, and where Shardcast differs on purpose;
//!   `flow` replays it; [`page`] writes the table down for readers.
//! - `target` is what it is replayed against, under the fixture application of `policy`.
//!
//! A mismatch names file and line, what was expected and what came.

mod backpressure;
mod flow;
mod normal;
mod notes;
mod options;
pub mod page;
mod payload;
mod plan;
mod plans;
mod policy;
mod recording;
mod secrets;
mod tap;
mod target;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use self::flow::Difference;
pub use self::recording::Recording;

use self::flow::Flow;
use self::options::Options;
use self::plan::Plan;
use self::tap::Tap;
use self::target::{Ignises, Shardcasts, Target};
use crate::client::REPLY_WITHIN;
use crate::redis::RedisServer;

/// Set to run clocks as recorded where the plans would have them faster: two minutes instead of half of one.
pub const LONG_VARIABLE: &str = "SHARDCAST_LONG_TESTS";

/// Replays at a time; they mostly wait.
const WORKERS: usize = 16;

/// What recordings are replayed against.
#[derive(Debug, Clone, Copy)]
pub enum Against {
    /// Shardcast with so many shards.
    Shardcast {
        /// Shards of each server.
        shards: usize,
    },
    /// The real Ignis, of `tests/interop`.
    Ignis,
}

/// What came of one recording.
#[derive(Debug)]
pub enum Outcome {
    /// All of it was found, so many messages with data in another spelling.
    Replayed {
        /// Messages whose data was equal in value only.
        respelled: usize,
    },
    /// The plan says why not.
    Skipped(&'static str),
    /// Something else was found.
    Failed {
        /// The line of the recording.
        line: usize,
        /// What was expected and what came.
        difference: Difference,
    },
}

/// One line of a report.
#[derive(Debug)]
pub struct Replay {
    /// The recording's name.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, outcome } = self;
        match outcome {
            Outcome::Replayed { respelled: 0 } => write!(f, "{name}: replayed"),
            Outcome::Replayed { respelled } => {
                write!(f, "{name}: replayed, {respelled} messages spelled otherwise")
            }
            Outcome::Skipped(reason) => write!(f, "{name}: not replayed. {reason}"),
            Outcome::Failed { line, difference } => write!(f, "{name}.jsonl:{line}: {difference}"),
        }
    }
}

/// The folder of the recordings.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ignis")
}

/// Every recording in a folder, by name.
///
/// # Panics
/// When it cannot be read.
pub fn recordings(folder: &Path) -> Vec<Recording> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let recordings = paths.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let mut recordings: Vec<Recording> = recordings
        .map(|path| {
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8");
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            Recording::parse(name, &text)
        })
        .collect();
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    recordings
}

/// Replays recordings side by side and reports in their order.
pub fn replay_all(recordings: &[Recording], against: Against) -> Vec<Replay> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    // The longest first, so that the rest runs beside them.
    let mut order: Vec<usize> = (0..recordings.len()).collect();
    order.sort_by_key(|&index| recordings[index].lines.last().map(|line| u64::MAX - line.at_ms));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let replay = replay(&recordings[index], against);
                    done.lock().expect("no worker panics with the lock").push((index, replay));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("every worker ended");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, replay)| replay).collect()
}

/// Replays one recording as its plan says.
pub fn replay(recording: &Recording, against: Against) -> Replay {
    let plan = plans::plan(&recording.name);
    let name = recording.name.clone();
    if let Some(reason) = plan.skip {
        return Replay { name, outcome: Outcome::Skipped(reason) };
    }
    let at_line = Cell::new(1);
    let result = catch_unwind(AssertUnwindSafe(|| attempt(recording, &plan, against, &at_line)));
    let result = result.unwrap_or_else(|panic| {
        Err(Difference { expected: "a replay to its end".to_owned(), got: message(panic.as_ref()) })
    });
    let outcome = match result {
        Ok(respelled) => Outcome::Replayed { respelled },
        Err(difference) => Outcome::Failed { line: at_line.get(), difference },
    };
    Replay { name, outcome }
}

fn attempt(
    recording: &Recording,
    plan: &Plan,
    against: Against,
    at_line: &Cell<usize>,
) -> Result<usize, Difference> {
    let recording = plan.applied_to(recording);
    let long = plan.long_timing.as_ref().filter(|_| std::env::var_os(LONG_VARIABLE).is_some());
    let timing = long.or(plan.timing.as_ref());
    let mut options = Options::of(&recording.header);
    if let Some(changes) = timing.map(|timing| timing.options).filter(|changes| !changes.is_empty()) {
        options = options.with(&serde_json::from_str(changes).expect("plans hold JSON"));
    }
    let uses_redis = recording.uses_redis() || matches!(against, Against::Ignis);
    let redis = uses_redis.then(RedisServer::start);
    let tap = redis.as_ref().map(|redis| Tap::new(redis.address()));
    let count = recording.server_count();
    let mut target: Box<dyn Target> = match (against, &redis) {
        (Against::Shardcast { shards }, redis) => {
            Box::new(Shardcasts::start(count, shards, &options, redis.as_ref()))
        }
        (Against::Ignis, Some(redis)) => Box::new(Ignises::start(count, &options, redis)),
        (Against::Ignis, None) => unreachable!("Ignis always has a Redis"),
    };
    let flow = Flow::new(target.as_mut(), redis.zip(tap), timing, plan.headers_in_any_order, &recording);
    flow.run(&recording, |line| at_line.set(line))
}

fn pause(duration: Duration) {
    thread::sleep(duration);
}

/// Looks again and again until `look` finds something, for as long as an answer may take.
fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    const INTERVAL: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + REPLY_WITHIN;
    loop {
        let found = look();
        if found.is_some() || Instant::now() > deadline {
            return found;
        }
        pause(INTERVAL);
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
