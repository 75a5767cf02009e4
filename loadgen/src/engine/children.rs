//! Worker processes: more connections than one process may have open files.
//!
//! A child is this program again. It reads one [`Assignment`] from its standard input, looks at the same board, and
//! writes the books of its threads to its standard output, a line of JSON each. It ends when it is told to, or when
//! its input ends because nobody is left to tell it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread;

use serde::{Deserialize, Serialize};

use super::board::{Board, Extent};
use super::{EngineError, Harvest, Settings, start_threads};

/// The subcommand a child is started with.
pub(crate) const COMMAND: &str = "worker";

/// What a child does.
#[derive(Debug, Serialize, Deserialize)]
struct Assignment {
    settings: Settings,
    board: PathBuf,
    extent: Extent,
    /// Those of this child.
    own: Range<usize>,
}

/// The same for whom writes it.
#[derive(Debug, Serialize)]
struct AssignmentRef<'a> {
    settings: &'a Settings,
    board: PathBuf,
    extent: Extent,
    own: Range<usize>,
}

/// One running child.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    /// Ends when the child shall.
    input: Option<ChildStdin>,
}

impl Child {
    /// Starts a child for some of the threads; what they hand over goes to `sender`.
    pub(super) fn start(
        settings: &Settings,
        board: &Board,
        own: Range<usize>,
        sender: Sender<Result<Harvest, EngineError>>,
    ) -> Result<Self, EngineError> {
        let program = std::env::current_exe().map_err(EngineError::Spawn)?;
        let mut command = Command::new(program);
        command.arg(COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(EngineError::Spawn)?;
        let mut input = process.stdin.take().ok_or(EngineError::ChildEnded)?;
        let output = process.stdout.take().ok_or(EngineError::ChildEnded)?;
        let assignment = AssignmentRef { settings, board: board.path(), extent: board.extent(), own };
        let mut line = serde_json::to_vec(&assignment).expect("plain data");
        line.push(b'\n');
        input.write_all(&line).map_err(EngineError::Spawn)?;
        let read = move || {
            for line in BufReader::new(output).lines() {
                let harvest = line.map_err(|_| EngineError::ChildEnded);
                let harvest =
                    harvest.and_then(|line| serde_json::from_str(&line).map_err(EngineError::ChildSpoke));
                if sender.send(harvest).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("child-reader".to_owned()).spawn(read).map_err(EngineError::Thread)?;
        Ok(Self { process, input: Some(input) })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.process.wait() {
            eprintln!("loadgen: a worker process cannot be waited for: {error}");
        }
    }
}

/// All children of a run.
#[derive(Debug, Default)]
pub(super) struct Children(Vec<Child>);

impl Children {
    /// Adds one.
    pub(super) fn push(&mut self, child: Child) {
        self.0.push(child);
    }

    /// The ids of their processes.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|child| child.process.id())
    }
}

/// What a child does from beginning to end. Errors: what it was given makes no sense, or threads cannot start.
pub(crate) fn work() -> Result<(), EngineError> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(EngineError::Spawn)?;
    let Assignment { settings, board, extent, own } =
        serde_json::from_str(&line).map_err(EngineError::ChildSpoke)?;
    crate::sys::raise_descriptor_limit().map_err(EngineError::Spawn)?;
    let board = Arc::new(Board::open(&board, extent).map_err(EngineError::Board)?);
    let (sender, harvests) = mpsc::channel();
    let handles = start_threads(&Arc::new(settings), &board, own, &sender)?;
    drop(sender);
    let watched = Arc::clone(&board);
    let watch = move || {
        // Whatever ends the input, there is nobody left to work for.
        io::stdin().lock().read_to_end(&mut Vec::new()).unwrap_or_default();
        watched.orders().stop.store(1, Ordering::Release);
    };
    thread::Builder::new().name("parent-watch".to_owned()).spawn(watch).map_err(EngineError::Thread)?;
    for harvest in harvests {
        let mut line = serde_json::to_vec(&harvest?).expect("plain data");
        line.push(b'\n');
        if io::stdout().lock().write_all(&line).is_err() {
            break;
        }
    }
    for handle in handles {
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
    Ok(())
}
