//! `shardcast doctor`: is this machine fit for the configuration, is the configuration risky, and what to change.
//!
//! Checks read `/proc`, `/sys` and the configuration and judge; the judging is pure so that it can be tested with
//! machines that are not at hand. Nothing is changed. Invariant: a finding that is not ok says what to do.

mod kernel;
mod network;
mod process;
pub mod ring;
mod security;
pub(crate) mod system;

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use crate::cli::terminal::{Colour, paint};
use crate::config::{Config, ConfigError, Machine, Sources};
use crate::tls::material::{self, Concern};
use ring::Ring;
use system::System;

/// Arguments of `doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// How well something is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, and costs something under load or is a risk.
    Warn,
    /// Does not work with this configuration, or lets everyone in.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How well it is set.
    pub status: Status,
    /// How it is set.
    pub found: String,
    /// What to change; nothing when it is ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, status: Status::Fail, found: found.into(), advice: Some(advice.into()) }
    }

    /// Ok when `fine`, else a warning with what to do.
    fn judge(check: &'static str, fine: bool, found: String, advice: impl Into<String>) -> Self {
        if fine { Self::ok(check, found) } else { Self::warn(check, found, advice) }
    }
}

/// What all checks found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub status: Status,
    /// The findings, in the order of importance to a first look.
    pub findings: Vec<Finding>,
}

/// What a check looks at.
struct Patient<'a> {
    system: &'a System,
    config: &'a Config,
    machine: &'a Machine,
    ring: &'a Ring,
}

/// Examines this machine. A configuration that is wrong is a finding, and the defaults are examined in its place.
pub fn examine(sources: &Sources) -> Report {
    let loaded = sources.load();
    let config = loaded.as_ref().map_or_else(|_| Config::default(), |loaded| loaded.config.clone());
    let system = System::here();
    let patient =
        Patient { system: &system, config: &config, machine: &sources.machine, ring: &ring::probe() };
    let mut findings = vec![configuration(loaded.as_ref().err())];
    findings.extend(patient.findings());
    findings.extend(security::findings(&system, &config, loaded.as_ref().ok()));
    findings.extend(network::listeners(&config));
    findings.extend(tls(&config));
    findings.extend(network::redis(&config));
    Report::new(findings)
}

fn configuration(error: Option<&ConfigError>) -> Finding {
    match error {
        None => Finding::ok("configuration", "sound"),
        Some(error) => {
            let count = error.problems.len();
            let found = format!("wrong in {count} places; the defaults are examined instead");
            Finding::fail("configuration", found, "see: shardcast check")
        }
    }
}

/// Reads the certificates.
fn tls(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "tls";
    if config.server.tls_listen.is_empty() {
        return Vec::new();
    }
    match material::examine(config) {
        Err(error) => {
            vec![Finding::fail(CHECK, error.to_string(), "put a valid certificate with its key there")]
        }
        Ok(concerns) if concerns.is_empty() => {
            vec![Finding::ok(CHECK, "each certificate is valid, and its key is its own and private")]
        }
        Ok(concerns) => {
            let finding = |concern: &Concern| Finding::warn(CHECK, concern.to_string(), concern.advice());
            concerns.iter().map(finding).collect()
        }
    }
}

impl Patient<'_> {
    fn findings(&self) -> Vec<Finding> {
        let checks: [Option<Finding>; 16] = [
            self.kernel(),
            Some(self.io_uring()),
            self.open_files(),
            self.files_ceiling(),
            Some(self.cores()),
            self.cpu_quota(),
            self.memory(),
            self.huge_pages(),
            self.overcommit(),
            self.accept_queue(),
            self.syn_queue(),
            self.tcp_memory(),
            self.epoll_watches(),
            self.local_ports(),
            self.connection_tracking(),
            self.clock(),
        ];
        checks.into_iter().flatten().collect()
    }
}

impl Report {
    fn new(findings: Vec<Finding>) -> Self {
        let status = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
        Self { status, findings }
    }

    /// Whether something does not work.
    pub fn fails(&self) -> bool {
        self.status == Status::Fail
    }

    /// The report as one JSON object, or as lines, in colour if wanted.
    pub fn text(&self, json: bool, colour: bool) -> String {
        if json {
            let text = serde_json::to_string_pretty(self).expect("a report has no maps and no failing parts");
            return text + "\n";
        }
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut out = String::new();
        for Finding { check, status, found, advice } in &self.findings {
            let label = match status {
                Status::Ok => paint("ok  ", Colour::Green, colour),
                Status::Warn => paint("warn", Colour::Yellow, colour),
                Status::Fail => paint("fail", Colour::Red, colour),
            };
            writeln!(out, "{label}  {check:width$}  {found}").expect("writing to a String does not fail");
            if let Some(advice) = advice {
                writeln!(out, "      {:width$}  -> {advice}", "").expect("writing to a String does not fail");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
