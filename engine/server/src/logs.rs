//! Where log lines go and which are written.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{self, LogFormat, LogLevel};

/// Changes the level of a running process.
pub struct LogLevelHandle(reload::Handle<LevelFilter, Registry>);

impl LogLevelHandle {
    /// From here on, this level.
    pub fn set(&self, level: LogLevel) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "cannot change the log level");
        }
    }
}

/// Sends this process' log lines to standard error. Called once.
pub fn init(config: &config::Server) -> LogLevelHandle {
    let (level, handle) = reload::Layer::new(filter(config.log_level));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match config.log_format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let installed = tracing_subscriber::registry().with(level).with(lines).try_init();
    if let Err(error) = installed {
        eprintln!("logging was set up already: {error}");
    }
    LogLevelHandle(handle)
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
