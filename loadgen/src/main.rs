//! `loadgen`: opens thousands of clients, publishes to their rooms, and accounts for every delivery.
//!
//! [`scenario`] says what to do; [`run`] and [`connect`] do it once, [`search`] again and again, each in a [`session`]:
//! [`engine`] holds the connections and keeps the [`ledger`], [`publisher`] publishes, [`watch`] looks on. [`findings`]
//! makes a [`report`] of what they wrote down, and [`verdict`] judges whether its figures may be believed.

mod bracket;
mod connect;
mod dialect;
mod engine;
mod findings;
mod frames;
mod latency;
mod ledger;
mod memory;
mod metrics;
mod process;
mod progress;
mod publisher;
mod report;
mod requirement;
mod roster;
mod run;
mod scenario;
mod search;
mod session;
mod sizes;
mod span;
mod spread;
mod stamp;
mod sys;
mod timeline;
mod tracker;
mod verdict;
mod watch;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;

use crate::engine::children;
use crate::report::compare::{self, CompareError, CompareOptions};
use crate::report::{Report, html};
use crate::scenario::{Mode, Options, ScenarioError};
use crate::search::SearchOptions;

/// The run is good, and so is the server.
const EXIT_GOOD: u8 = 0;
/// The ledger does not balance, connections were lost, a requirement is not met, or a result is worse than another.
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

  How late is it at 400 publications a second, whatever the server does? As a page with plots:
      loadgen fanout -n 1000 -r 400 -d 30s --html report.html

  How many publications a second until one in a hundred deliveries takes longer than 50 ms?
      loadgen search --slo p99=50ms -n 1000 --server-pid $(pidof shardcast)

  In CI: fail when it got slower, or costs more:
      loadgen fanout -n 1000 -r 100 --require 'p99<=20ms' --require 'cpu_us_per_delivery<8'

  5,000 members of 100 rooms, a few of them large, published through the HTTP API:
      loadgen fanout -n 5000 --rooms 100 --spread zipf --publish http://127.0.0.1:8080/api/emit -r 1000

  50 clients a second come and go, one in a hundred reads a kilobyte a second, and after a minute all reconnect:
      loadgen fanout -n 5000 -r 50 -d 2m --churn 50 --slow-share 0.01 --storm-after 1m

  Memory of an idle connection, with 40,000 of them in as many processes as that takes:
      loadgen idle --at 5000,40000 --server-pid $(pidof shardcast)

  What does it cost to let a client in? 200,000 come, log in and leave, 64 at a time:
      loadgen connect --close -n 200000 --server-pid $(pidof shardcast) --cores 1

  Do members notice when 500 others come and leave every second?
      loadgen fanout -n 500 -r 100 --visitors 500

  Another server: send a line to join, publish with HTTP POST, count everything that comes:
      loadgen fanout --dialect raw --target ws://127.0.0.1:3000/ws --send '{\"join\":{room_json}}' \\
          --publish 'http://127.0.0.1:3000/publish/{room}' -r 100

  Messages of four sizes, each to one client; then to rooms, three members left out of each:
      loadgen fanout -n 1000 --publish-to client --size 54,512,4096,65536 -r 500
      loadgen fanout -n 1000 --rooms 20 --exclude 3 -r 500

  A scenario from a file, for longer; then two results side by side:
      loadgen run scenario.toml -d 10m --label new --json new.json
      loadgen compare old.json new.json --tolerance 10

A scenario file has the long flags as keys, with _ for -, and `mode`:
      mode = \"fanout\"
      connections = 5000
      rooms = 100
      rate = 1000.0
      duration = \"30s\"
      require = [\"p99<=50ms\"]

Exit codes: 0 good, 1 a ledger mismatch, lost connections, a requirement not met or a result worse than tolerated, 2 wrong settings, 3 no result.";

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
    Fanout(Box<Options>),
    /// Hold connections that do nothing and measure what they cost
    #[command(after_help = EXAMPLES)]
    Idle(Box<Options>),
    /// Connect, upgrade and log in, over and over, and measure what that costs
    #[command(after_help = EXAMPLES)]
    Connect(Box<Options>),
    /// Do what a file says; flags win over it
    #[command(after_help = EXAMPLES)]
    Run {
        /// The scenario file
        file: PathBuf,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Find the highest rate, or the most connections, at which a promise holds
    #[command(after_help = EXAMPLES)]
    Search {
        /// A scenario file for what every step does
        file: Option<PathBuf>,
        #[command(flatten)]
        how: SearchOptions,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Hold results of runs beside each other
    Compare(CompareOptions),
    /// What a generator starts for connections beyond the open files of one process
    #[command(name = children::COMMAND, hide = true)]
    Worker,
}

/// Why there is no result.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Run(#[from] run::RunError),
    #[error(transparent)]
    Search(#[from] search::SearchError),
    #[error(transparent)]
    Compare(#[from] CompareError),
    #[error("cannot write {}: {source}", path.display())]
    Output { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Worker(#[from] engine::EngineError),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Scenario(_) | Self::Compare(_) => EXIT_SETTINGS,
            Self::Search(error) if error.is_of_settings() => EXIT_SETTINGS,
            Self::Run(_) | Self::Search(_) | Self::Output { .. } | Self::Worker(_) => EXIT_NO_RESULT,
        }
    }
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
            failure.exit_code()
        }
    };
    ExitCode::from(code)
}

/// Runs and reports; returns what is wrong with the server.
fn carry_out(command: Command) -> Result<Vec<String>, Failure> {
    match command {
        Command::Fanout(options) => run_once(Mode::Fanout, *options),
        Command::Idle(options) => run_once(Mode::Idle, *options),
        Command::Connect(options) => run_once(Mode::Connect, *options),
        Command::Run { file, options } => {
            let options = options.over(Options::read(file)?);
            run_once(options.mode.unwrap_or(Mode::Fanout), options)
        }
        Command::Search { file, how, options } => {
            let options = match file {
                Some(file) => options.over(Options::read(file)?),
                None => *options,
            };
            let output = Output::of(&options);
            output.tell(&search::search(&how, options, descriptors()?)?)
        }
        Command::Compare(options) => {
            let (text, worse) = compare::carry_out(&options)?;
            print!("{text}");
            Ok(worse)
        }
        Command::Worker => children::work().map(|()| Vec::new()).map_err(Failure::from),
    }
}

fn run_once(mode: Mode, options: Options) -> Result<Vec<String>, Failure> {
    let output = Output::of(&options);
    output.tell(&run::run(&options.into_scenario(mode, descriptors()?)?)?)
}

fn descriptors() -> Result<u64, Failure> {
    Ok(sys::raise_descriptor_limit().map_err(run::RunError::Limit)?)
}

/// Where a result goes, beside the terminal.
struct Output {
    json: Option<PathBuf>,
    html: Option<PathBuf>,
}

impl Output {
    fn of(options: &Options) -> Self {
        Self { json: options.json.clone(), html: options.html.clone() }
    }

    /// Tells a result everywhere; returns what is wrong with the server.
    fn tell(&self, report: &Report) -> Result<Vec<String>, Failure> {
        print!("{report}");
        let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
            None => Ok(()),
            Some(path) => {
                fs::write(path, text()).map_err(|source| Failure::Output { path: path.clone(), source })
            }
        };
        let json = || serde_json::to_string_pretty(report).expect("a report is plain data") + "\n";
        write(&self.json, &json)?;
        write(&self.html, &|| html::page(report))?;
        Ok(report.problems())
    }
}
