//! `loadgen`: opens thousands of clients, publishes to their rooms, and accounts for every delivery.
//!
//! [`scenario`] says what to do and [`run`] does it: [`engine`] holds the connections and keeps the [`ledger`],
//! [`publisher`] publishes, [`verdict`] judges whether the figures may be believed, [`report`] tells them.

mod dialect;
mod engine;
mod frames;
mod latency;
mod ledger;
mod process;
mod progress;
mod publisher;
mod report;
mod run;
mod scenario;
mod span;
mod stamp;
mod sys;
mod tracker;
mod verdict;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::scenario::{Mode, Options, ScenarioError};

/// The run is good, and so is the server.
const EXIT_GOOD: u8 = 0;
/// The ledger does not balance, or connections were lost.
const EXIT_MISMATCH: u8 = 1;
/// The settings are wrong.
const EXIT_SETTINGS: u8 = 2;
/// The run came to no result.
const EXIT_NO_RESULT: u8 = 3;

const EXAMPLES: &str = "\
Examples:
  What does one delivery cost? A thousand members of one room, one publication at a time:
      loadgen fanout -n 1000 --server-pid $(pidof shardcast) --cores 1

  And with the server saturated:
      loadgen fanout -n 1000 -w 128 --server-pid $(pidof shardcast) --cores 1

  How late is it at 400 publications a second, whatever the server does?
      loadgen fanout -n 1000 -r 400 -d 30s

  5,000 members of 100 rooms, published through the HTTP API:
      loadgen fanout -n 5000 --rooms 100 --publish http://127.0.0.1:8080/api/emit -r 1000

  Memory of an idle connection:
      loadgen idle --at 5000,15000 --server-pid $(pidof shardcast)

  A scenario from a file, for longer:
      loadgen run scenario.toml -d 10m --json result.json

A scenario file has the long flags as keys, with _ for -, and `mode`:
      mode = \"fanout\"
      connections = 5000
      rooms = 100
      rate = 1000.0
      duration = \"30s\"

Exit codes: 0 good, 1 a ledger mismatch or lost connections, 2 wrong settings, 3 no result.";

/// Load generator for fan-out servers: exact ledgers, honest latencies
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Publish to rooms and account for every delivery
    #[command(after_help = EXAMPLES)]
    Fanout(Options),
    /// Hold connections that do nothing and measure what they cost
    #[command(after_help = EXAMPLES)]
    Idle(Options),
    /// Do what a file says; flags win over it
    #[command(after_help = EXAMPLES)]
    Run {
        /// The scenario file
        file: PathBuf,
        #[command(flatten)]
        options: Options,
    },
}

/// Why there is no result.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error("cannot write {}: {source}", path.display())]
    Output { path: PathBuf, source: std::io::Error },
}

fn main() -> ExitCode {
    let code = match carry_out(Cli::parse().command) {
        Ok(problems) if problems.is_empty() => EXIT_GOOD,
        Ok(problems) => {
            for problem in problems {
                eprintln!("loadgen: {problem}");
            }
            EXIT_MISMATCH
        }
        Err(failure) => {
            eprintln!("loadgen: {failure}");
            if matches!(failure, Failure::Scenario(_)) { EXIT_SETTINGS } else { EXIT_NO_RESULT }
        }
    };
    ExitCode::from(code)
}

/// Runs and reports; returns what is wrong with the server.
fn carry_out(command: Command) -> Result<Vec<String>, Failure> {
    let (mode, options) = match command {
        Command::Fanout(options) => (Mode::Fanout, options),
        Command::Idle(options) => (Mode::Idle, options),
        Command::Run { file, options } => {
            let options = options.over(Options::read(file)?);
            (options.mode.unwrap_or(Mode::Fanout), options)
        }
    };
    let json = options.json.clone();
    let report = run::run(options.into_scenario(mode)?)?;
    print!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain data");
        fs::write(&path, text + "\n").map_err(|source| Failure::Output { path, source })?;
    }
    Ok(report.problems())
}
