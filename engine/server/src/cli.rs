//! The command line of the binary: what it takes, what each command prints, and the exit codes.
//!
//! Exit codes: 0 done; 1 the command ran and failed (also `check` and `doctor` that found a fault); 2 the command
//! line or the configuration is wrong. Results go to standard output, everything else to standard error. How to
//! serve is the caller's: [`main`] is given a function for it, so that nothing here knows threads.

pub mod args;
pub mod emit;
pub mod pages;
pub mod terminal;
pub mod token;
pub mod webhook;

use std::error::Error;
use std::io;
use std::iter;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Loaded};
use crate::doctor;
use crate::tls::material::{self, Concern};
use args::ConfigArgs;
use emit::{EmitArgs, EmitError};
use terminal::{Terminal, print};
use token::{TokenArgs, TokenCommand, TokenError};
use webhook::{TestWebhookArgs, TestWebhookError};

/// Exit code of a command that ran and failed.
const EXIT_FAILED: u8 = 1;

/// Exit code of a command line or configuration that is wrong.
const EXIT_USAGE: u8 = 2;

const ABOUT: &str = "Shardcast, the realtime fan-out server";

const LONG_ABOUT: &str = "\
Shardcast, the realtime fan-out server.

Clients hold WebSocket connections and join rooms; backends publish to rooms, users and single clients through the
HTTP API or Redis. Clients of the topic protocol subscribe to Redis channels that any program publishes on. One process
serves alone; with redis.url set, any number of them serve as one.

Without a command it serves. Settings come from defaults, a TOML file, SHARDCAST_* environment variables and flags,
each overriding the ones before.";

const EXAMPLES: &str = "\
Examples:
  shardcast --dev
      Try it out on 127.0.0.1:8080: every token is accepted, every room allowed; ignis on /ws, topics on /topics.
  shardcast config --default > shardcast.toml
      Write a file with every key, its default and its meaning.
  shardcast check --config /etc/shardcast.toml
      Check a file before it is used.
  shardcast token check eyJhbGciOi... --room chat
      Say what a token stands for and whether it may join a room, or why it is refused.
  shardcast --config /etc/shardcast.toml --listen 0.0.0.0:8080 --redis-url redis://10.0.0.5
      Serve, with two keys from the command line.
  SHARDCAST_API_KEY=... shardcast --set limits.rooms_per_connection_max=50
      Serve with a secret from the environment and a key that has no flag of its own.

Signals: SIGTERM and SIGINT drain and stop, a second one stops at once, SIGHUP reloads.
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.";

const SERVE_ABOUT: &str = "\
Serve until told to stop (the default).

Refuses to start on a configuration that is wrong in any way. SIGTERM and SIGINT drain: connections are told to come
back, spread over server.drain_period. SIGHUP loads the configuration again and applies what can change.";

const CHECK_ABOUT: &str = "\
Check the configuration as serve would, and say what it comes to.

Reports every problem at once, with file and line. Exit code 0 when it can be served with, 1 when not.";

const CHECK_EXAMPLES: &str = "\
Examples:
  shardcast check
  shardcast check --config new.toml && systemctl reload shardcast";

const CONFIG_ABOUT: &str = "\
Print the configuration as TOML, each value with where it comes from; secrets are masked.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  shardcast config --set server.shards=2
  shardcast config --default > shardcast.toml";

const DOCTOR_ABOUT: &str = "\
Examine this machine and say what to change before it serves many connections: io_uring, open files, listen queues,
port ranges, TCP memory, cores, memory, Redis. Say what of the configuration is risky: dev mode, keys, listeners,
rooms, secrets, the user and core dumps.

Every line is ok, warn or fail. Exit code 0 when none fails, 1 when one does, 2 on wrong usage.";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  shardcast doctor
  shardcast doctor --json --config /etc/shardcast.toml";

/// The command line.
#[derive(Parser)]
#[command(name = "shardcast", version, about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES)]
pub struct Cli {
    /// Where the configuration comes from, for every command.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What to do; serve when it is left out.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the binary can do.
#[derive(Subcommand)]
pub enum Command {
    /// Serve until told to stop (the default)
    #[command(long_about = SERVE_ABOUT)]
    Serve,
    /// Check the configuration and say what it comes to
    #[command(long_about = CHECK_ABOUT, after_help = CHECK_EXAMPLES)]
    Check,
    /// Print the configuration of this run, the default file, or the reference page
    #[command(long_about = CONFIG_ABOUT, after_help = CONFIG_EXAMPLES)]
    Config(pages::ConfigPage),
    /// Publish an event to a room, a user, a client or everyone
    #[command(long_about = emit::LONG_ABOUT, after_help = emit::EXAMPLES)]
    Emit(EmitArgs),
    /// Make a token to try things out with, or say why one is refused
    #[command(long_about = token::LONG_ABOUT)]
    Token(TokenArgs),
    /// Send the application one webhook, and show what its answer comes to
    #[command(long_about = webhook::LONG_ABOUT, after_help = webhook::EXAMPLES)]
    TestWebhook(TestWebhookArgs),
    /// Examine this machine and the risks of the configuration
    #[command(long_about = DOCTOR_ABOUT, after_help = DOCTOR_EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Print the version, the target and which I/O drivers work here
    Version,
}

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Standard output does not take the result.
    #[error("cannot write to standard output")]
    Output(#[from] io::Error),
    /// An event was not published.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// A token was not made or looked at.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A webhook was not answered, or not well.
    #[error(transparent)]
    TestWebhook(#[from] TestWebhookError),
    /// A check found a fault, which has been printed.
    #[error("found a fault")]
    Fault,
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => EXIT_USAGE,
            Self::Emit(error) if error.is_usage() => EXIT_USAGE,
            Self::TestWebhook(error) if error.is_usage() => EXIT_USAGE,
            Self::Token(error) if error.is_usage() => EXIT_USAGE,
            Self::Output(_) | Self::Emit(_) | Self::TestWebhook(_) | Self::Token(_) | Self::Fault => {
                EXIT_FAILED
            }
        }
    }
}

/// Runs the command line of this process; `serve` is called with a checked configuration and returns when the
/// server has stopped. It logs the configuration's warnings itself.
pub fn main<E: Error + 'static>(serve: impl FnOnce(Loaded) -> Result<(), E>) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let terminal = Terminal::of_stderr();
    let loaded = match run(cli, &terminal) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(loaded)) => loaded,
        Err(CliError::Fault) => return ExitCode::from(EXIT_FAILED),
        Err(error) => {
            terminal.error(&error);
            return ExitCode::from(error.exit_code());
        }
    };
    match serve(*loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&error);
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Does what `cli` says; for serving, returns the configuration to serve with.
pub fn run(cli: Cli, terminal: &Terminal) -> Result<Option<Box<Loaded>>, CliError> {
    let sources = cli.config.into_sources();
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => return Ok(Some(Box::new(sources.load()?))),
        Command::Check => match sources.load() {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(|warning| terminal.warning(warning));
                for concern in examine_tls(&loaded.config, terminal)? {
                    terminal.warning(&format!("tls: {concern}; {}", concern.advice()));
                }
                print(&pages::summary(&loaded))?;
            }
            Err(error) => {
                terminal.error(&error);
                return Err(CliError::Fault);
            }
        },
        Command::Config(page) => print(&page.text(&sources)?)?,
        Command::Emit(args) => {
            let loaded = sources.load()?;
            emit::run(args, &loaded)?;
        }
        Command::Token(TokenArgs { command: TokenCommand::Make(args) }) => {
            let (made, advice) = token::make(&args, &sources.load()?.config)?;
            print(&format!("{made}\n"))?;
            advice.into_iter().for_each(|advice| terminal.note(&advice));
        }
        Command::Token(TokenArgs { command: TokenCommand::Check(args) }) => {
            let report = token::check(&args, &sources.load()?, terminal)?;
            print(&report.text)?;
            if !report.is_good {
                return Err(CliError::Fault);
            }
        }
        Command::TestWebhook(args) => webhook::run(args, &sources.load()?.config)?,
        Command::Doctor(args) => {
            let report = doctor::examine(&sources);
            print(&report.text(args.json, Terminal::of_stdout().colour()))?;
            if report.fails() {
                return Err(CliError::Fault);
            }
        }
        Command::Version => print(&pages::version())?,
    }
    Ok(None)
}

/// Reads the certificates, as a server that starts does, and returns what should be seen to.
fn examine_tls(config: &Config, terminal: &Terminal) -> Result<Vec<Concern>, CliError> {
    material::examine(config).map_err(|error| {
        terminal.error(&error);
        CliError::Fault
    })
}

/// Prints what clap has to say: help and version to standard output, errors to standard error.
fn usage(error: &clap::Error) -> ExitCode {
    // A reader that closes the pipe early has what it wanted; there is nowhere to report it either.
    let printed = error.print().is_ok();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion if printed => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_USAGE),
    }
}

/// `error` and what caused it, outermost first.
fn chain(error: &(dyn Error + 'static)) -> impl Iterator<Item = String> {
    iter::successors(Some(error), |&error| error.source()).map(ToString::to_string)
}

#[cfg(test)]
mod tests;
