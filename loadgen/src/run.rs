//! A run from its first connection to its report.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::connect::{self, Visitors};
use crate::engine::{EngineError, Settings, merge_reasons};
use crate::findings::Findings;
use crate::process::{self, ProcessError};
use crate::publisher::{PublishError, Publisher};
use crate::report::{Idle, IdleStep, Losses, Report};
use crate::scenario::{self, Pace, Publications, Scenario, Work};
use crate::session::{Phase, Session};
use crate::sizes::Sizes;
use crate::sys::now_ns;

/// Why a run came to no result.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("the limit of open files cannot be raised: {0}")]
    Limit(io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{live} of {wanted} connections are up, {failed} failed, {lost} were lost{}", list(reasons))]
    Connections { live: u32, wanted: u32, failed: u32, lost: u32, reasons: Vec<String> },
    #[error("{source}{}", list(reasons))]
    Publish { source: PublishError, reasons: Vec<String> },
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl RunError {
    /// Whether the server gave out, rather than something around it.
    pub(crate) fn is_of_server(&self) -> bool {
        matches!(self, Self::Connections { .. } | Self::Publish { source: PublishError::Unheard { .. }, .. })
    }
}

/// Carries a scenario out.
pub(crate) fn run(scenario: &Scenario) -> Result<Report, RunError> {
    let settings = settings(scenario);
    match &scenario.work {
        Work::Fanout(publications) => {
            let mut session = Session::start(Arc::clone(&settings), String::new())?;
            session.open(settings.clients.connections)?;
            let memory = session.memory()?;
            let mut publisher = publisher(&settings, publications, &session)?;
            let phase = measure(&mut session, &mut publisher, publications, scenario, &settings)?;
            session.stop()?;
            let findings = Findings {
                settings: &settings,
                publications,
                judgement: &scenario.judgement,
                memory,
                visitors_per_second: scenario.visitors_per_second(),
            };
            Ok(Report::Fanout(Box::new(findings.report(phase))))
        }
        Work::Idle(idle) => hold_idle(scenario, &settings, idle),
        Work::Connect(plan) => connect::run(scenario, &settings, plan),
    }
}

/// What the threads need to know of a scenario.
pub(crate) fn settings(scenario: &Scenario) -> Arc<Settings> {
    let Scenario { target, clients, work, .. } = scenario;
    let (sizes, room_interval) = match work {
        Work::Fanout(publications) => {
            (publications.sizes.clone(), room_interval(publications, clients.rooms.len()))
        }
        Work::Idle(_) | Work::Connect(_) => (Sizes::smallest(), Duration::ZERO),
    };
    // The first publication after a join may be as late as the join, and the next of that room comes after it.
    let join_within = clients.patience + 2 * room_interval;
    let connect = match work {
        Work::Connect(plan) => Some(*plan),
        Work::Fanout(_) | Work::Idle(_) => None,
    };
    Arc::new(Settings { target: target.clone(), clients: clients.clone(), sizes, join_within, connect })
}

/// One phase over open connections, with the visitors of the scenario.
pub(crate) fn measure(
    session: &mut Session,
    publisher: &mut Publisher,
    publications: &Publications,
    scenario: &Scenario,
    settings: &Settings,
) -> Result<Phase, RunError> {
    let visitors = scenario.visitors.map(|plan| Visitors::start(settings, plan)).transpose()?;
    session.measure(publisher, publications, visitors)
}

/// A publisher for what is open.
pub(crate) fn publisher(
    settings: &Arc<Settings>,
    publications: &Publications,
    session: &Session,
) -> Result<Publisher, RunError> {
    Publisher::connect(settings, publications, session.board())
        .map_err(|source| RunError::Publish { source, reasons: Vec::new() })
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Time between two publications of one room.
fn room_interval(publications: &Publications, rooms: usize) -> Duration {
    match publications.pace {
        Pace::Closed { .. } => Duration::ZERO,
        Pace::Open { per_second } => Duration::from_secs_f64((rooms as f64 / per_second).min(3600.0)),
    }
}

fn hold_idle(
    scenario: &Scenario,
    settings: &Arc<Settings>,
    idle: &scenario::Idle,
) -> Result<Report, RunError> {
    let started_unix_ms = unix_ms();
    let pid = settings.target.pid;
    let mut session = Session::start(Arc::clone(settings), String::new())?;
    let mut steps: Vec<IdleStep> = Vec::with_capacity(idle.at.len());
    for connections in idle.at.iter().copied() {
        session.open(connections)?;
        session.pause(idle.settle, "settling");
        let (server_resident_bytes, before) = (pid.map(process::resident_bytes).transpose()?, now_ns());
        let generator_resident_bytes = session.own_resident_bytes()?;
        let cpu_before = pid.map(process::cpu_time).transpose()?;
        session.pause(idle.hold, "holding");
        let cpu = pid.map(process::cpu_time).transpose()?.zip(cpu_before);
        let held_secs = (now_ns() - before) as f64 / 1e9;
        let cpu_us = cpu.map(|(after, before)| after.since(before).run_ns as f64 / 1e3);
        let earlier = steps.last().map(|step| (step.connections, step.server_resident_bytes));
        steps.push(IdleStep {
            connections,
            rooms: settings.clients.rooms.len() as u32,
            rooms_per_connection: settings.clients.rooms_per_connection,
            server_resident_bytes,
            server_bytes_per_connection: earlier
                .and_then(|earlier| bytes_per_connection(earlier, (connections, server_resident_bytes))),
            generator_resident_bytes,
            server_cpu_us_per_second: cpu_us.map(|micros| micros / held_secs),
        });
    }
    let (harvests, failed, lost) = session.stop()?;
    let mut losses = Losses { failed, lost, ..Losses::default() };
    for harvest in harvests {
        merge_reasons(&mut losses.reasons, harvest.reasons);
    }
    let slope = |bytes: fn(&IdleStep) -> Option<u64>| {
        let (first, last) = (steps.first()?, steps.last()?);
        bytes_per_connection((first.connections, bytes(first)), (last.connections, bytes(last)))
    };
    let server_bytes_per_connection = slope(|step| step.server_resident_bytes);
    let generator_bytes_per_connection = slope(|step| Some(step.generator_resident_bytes)).unwrap_or(0.0);
    let label = scenario.judgement.label.clone();
    Ok(Report::Idle(Idle {
        label,
        started_unix_ms,
        server_bytes_per_connection,
        generator_bytes_per_connection,
        losses,
        steps,
    }))
}

/// What each further connection added, from one number of connections and resident bytes to another.
fn bytes_per_connection(earlier: (u32, Option<u64>), later: (u32, Option<u64>)) -> Option<f64> {
    let connections = later.0.checked_sub(earlier.0).filter(|more| *more > 0)?;
    Some((later.1? as f64 - earlier.1? as f64) / f64::from(connections))
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}
