//! Where log lines go and which are written.
//!
//! Invariants, whatever peers send: one event is one line, of at most [`clean::LINE_BYTES_MAX`] bytes, that tells a
//! terminal nothing; one place in the code writes at most [`limit::LINES_PER_SECOND_MAX`] lines a second, and what it
//! leaves out is told later.

mod clean;
mod limit;

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{self, LogFormat, LogLevel};
use clean::{Clean, Form};
use limit::Limiter;

/// Bytes of a panic's message that are logged.
const PANIC_BYTES_MAX: usize = 200;

/// The log of a running process.
pub struct Logs {
    level: reload::Handle<LevelFilter, Registry>,
    limiter: Limiter,
}

impl Logs {
    /// From here on, this level.
    pub fn set_level(&self, level: LogLevel) {
        if let Err(error) = self.level.reload(filter(level)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }

    /// Says how many lines were left out since the last time, and whose.
    pub fn tell_suppressed(&self) {
        for (place, count) in self.limiter.take_suppressed() {
            let (file, line) = (place.file().unwrap_or("?"), place.line().unwrap_or(0));
            tracing::warn!(count, level = %place.level(), file, line, "log lines of this place were left out");
        }
    }
}

/// Sends this process' log lines, panics included, to standard error. Called once.
pub fn init(config: &config::Server) -> Logs {
    let (level, handle) = reload::Layer::new(filter(config.log_level));
    let limiter = Limiter::default();
    let lines = tracing_subscriber::fmt::layer().with_target(false);
    let ansi = std::io::stderr().is_terminal();
    let lines = match config.log_format {
        LogFormat::Human => {
            let writer = move || Clean::new(std::io::stderr(), Form::Human { ansi });
            lines.with_ansi(ansi).with_writer(writer).with_filter(limiter.clone()).boxed()
        }
        LogFormat::Json => {
            let writer = || Clean::new(std::io::stderr(), Form::Json);
            lines.json().with_writer(writer).with_filter(limiter.clone()).boxed()
        }
    };
    match tracing_subscriber::registry().with(level).with(lines).try_init() {
        Ok(()) => std::panic::set_hook(Box::new(log_panic)),
        Err(error) => eprintln!("logging was set up already: {error}"),
    }
    Logs { level: handle, limiter }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let message = panic.payload_as_str().map_or("", harmless);
    tracing::error!(thread = thread.name().unwrap_or("?"), place, "panic: {message}");
    let trace = std::backtrace::Backtrace::capture();
    if trace.status() == std::backtrace::BacktraceStatus::Captured {
        eprintln!("{trace}");
    }
}

/// What of a panic's message cannot be somebody's data: its first line, since assertions show values in those below,
/// and of that the part before the text that a slice out of bounds quotes.
fn harmless(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split_once(" of `").map_or(line, |(before, _)| before);
    &line[..line.floor_char_boundary(PANIC_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panics_message_shows_no_values() {
        let sliced = std::panic::catch_unwind(|| "sesame é"[..std::hint::black_box(8)].len());
        let compared =
            std::panic::catch_unwind(|| assert_eq!(std::hint::black_box("sesame"), "x", "they differ"));
        for panic in [sliced.map(drop), compared] {
            let payload = panic.expect_err("it panics");
            let message = payload.downcast_ref::<String>().expect("a formatted message");
            assert!(message.contains("sesame"), "{message}");
            assert!(!harmless(message).contains("sesame"), "{}", harmless(message));
            assert!(!harmless(message).is_empty());
        }
        assert_eq!(harmless(&"é".repeat(1_000)).len(), PANIC_BYTES_MAX);
    }
}
