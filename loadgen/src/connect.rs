//! Runs of connection attempts, and visitors: attempts beside a fan-out run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::attempts::Tally;
use crate::engine::{Harvest, Reasons, Settings, merge_reasons};
use crate::findings::{busiest_thread, name_of, thread_loads, wanted_share};
use crate::metrics::Measured;
use crate::process;
use crate::report::{Connect, ConnectCost, ConnectFacts, GeneratorLoad, Outcome, Report, ThreadLoad};
use crate::run::{RunError, unix_ms};
use crate::scenario::{self, Clients, Judgement, Pace, Scenario, Slow, Wait};
use crate::session::{Session, Snapshot};
use crate::verdict::{Observed, Verdict};

/// Pause between two looks at how far the attempts are.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// After this, every thread has heard that no further attempt begins.
const HEARD_WITHIN: Duration = Duration::from_millis(50);

/// Makes attempts until the plan is fulfilled and nothing is under way.
pub(crate) fn run(
    scenario: &Scenario,
    settings: &Arc<Settings>,
    plan: &scenario::Connect,
) -> Result<Report, RunError> {
    let started_unix_ms = unix_ms();
    let mut session = Session::start(Arc::clone(settings), String::new())?;
    let before = session.begin_attempts(plan.attempts)?;
    let end = plan.duration.map(|duration| Instant::now() + duration);
    while session.attempted() < plan.attempts.unwrap_or(u32::MAX)
        && end.is_none_or(|end| Instant::now() < end)
    {
        session.pause(LOOK_INTERVAL, "connecting");
    }
    let after = wait_for_end(&mut session, plan.attempts)?;
    let resident_bytes = settings.target.pid.map(process::resident_bytes).transpose()?;
    let memory = session.memory()?;
    let (harvests, _, _) = session.stop()?;
    let (tally, outcome) = merge(&harvests);
    let seconds = tally.ended_ns.max(before.at_ns + 1).saturating_sub(before.at_ns) as f64 / 1e9;
    let watched_seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
    let threads = loads(&before, &after, watched_seconds, "loadgen");
    let stays = plan.goodbye.is_none();
    let server = cost(&before, &after, watched_seconds, outcome.live).map(|cost| ConnectCost {
        cores: cost.cpu_seconds / seconds,
        resident_bytes: resident_bytes.unwrap_or(0),
        bytes_per_connection: memory.server.filter(|_| stays && outcome.live > 0),
        ..cost
    });
    let pace = match plan.per_second {
        Some(per_second) => Pace::Open { per_second },
        None => Pace::Closed { window: plan.in_flight, burst: 1 },
    };
    let verdict = Verdict::of(&Observed {
        generator_share: most_wanted(&threads, settings.clients.wait),
        server_share: server.as_ref().map(|server| server.busiest_thread),
        server_cores_waited_for: server.as_ref().map_or(0.0, |server| server.cores_waited_for),
        lag_thirds_ns: (0, 0),
        own_lag_thirds_ns: tally.own_lag_ns(),
        pace,
    });
    let mut rounds = crate::latency::Latencies::new();
    harvests.iter().for_each(|harvest| rounds.merge(&harvest.rounds));
    let Judgement { label, requirements, expect_loss } = &scenario.judgement;
    let mut report = Connect {
        label: label.clone(),
        started_unix_ms,
        scenario: facts(settings, plan),
        seconds,
        connects_per_second: verdict.is_of_server().then_some(outcome.live as f64 / seconds),
        outcome,
        verdict,
        server,
        generator: GeneratorLoad {
            threads,
            bytes_per_connection: if stays { memory.generator } else { 0.0 },
            send_lag: tally.lag.summary(),
            rounds: rounds.summary(),
            backlog_bytes_max: harvests.iter().map(|harvest| harvest.backlog_bytes_max).max().unwrap_or(0),
        },
        is_loss_expected: *expect_loss,
        requirements: Vec::new(),
    };
    report.requirements =
        requirements.iter().map(|wanted| wanted.check(Measured::Connect(&report))).collect();
    Ok(Report::Connect(Box::new(report)))
}

/// Clients beside a fan-out run: they come at a rate, log in, join and leave, and are in no ledger.
#[derive(Debug)]
pub(crate) struct Visitors {
    session: Session,
    began: Option<Snapshot>,
}

/// What became of visitors.
#[derive(Debug)]
pub(crate) struct Visited {
    pub(crate) outcome: Outcome,
    pub(crate) threads: Vec<ThreadLoad>,
}

impl Visitors {
    /// Gets ready for visitors of the server that `settings` are about; nobody comes yet.
    pub(crate) fn start(settings: &Settings, plan: scenario::Connect) -> Result<Self, RunError> {
        let clients = Clients {
            connections: plan.connections(),
            // Only members are left out: visitors have no place among them.
            exclude: 0,
            churn_per_second: 0.0,
            slow: Slow::default(),
            storm: None,
            processes: 1,
            wait: Wait::Sleep,
            ..settings.clients.clone()
        };
        let settings = Settings {
            target: settings.target.clone(),
            clients,
            sizes: settings.sizes.clone(),
            join_within: settings.join_within,
            connect: Some(plan),
        };
        Ok(Self { session: Session::start(Arc::new(settings), String::new())?, began: None })
    }

    /// Lets them come, if they do not yet.
    pub(crate) fn let_come(&mut self) -> Result<(), RunError> {
        if self.began.is_none() {
            self.began = Some(self.session.begin_attempts(None)?);
        }
        Ok(())
    }

    /// Lets no more come, and waits until all have left.
    pub(crate) fn finish(mut self) -> Result<Visited, RunError> {
        let after = wait_for_end(&mut self.session, None)?;
        let (harvests, _, _) = self.session.stop()?;
        let before = self.began.unwrap_or_default();
        let seconds = (after.at_ns.saturating_sub(before.at_ns)) as f64 / 1e9;
        let threads = loads(&before, &after, seconds, "visitors");
        Ok(Visited { outcome: merge(&harvests).1, threads })
    }
}

/// Ends the attempts, unless all that were `planned` began, and waits for those under way: each has its time-out.
fn wait_for_end(session: &mut Session, planned: Option<u32>) -> Result<Snapshot, RunError> {
    if planned.is_none_or(|planned| session.attempted() < planned) {
        session.end_attempts();
        session.pause(HEARD_WITHIN, "connecting");
    }
    while session.under_way() > 0 {
        session.pause(LOOK_INTERVAL, "waiting for the last");
    }
    session.snapshot()
}

/// What the server spent between two moments; memory is not looked at.
fn cost(before: &Snapshot, after: &Snapshot, seconds: f64, live: u64) -> Option<ConnectCost> {
    let spent = after.server?.since(before.server?);
    let cpu_seconds = spent.run_ns as f64 / 1e9;
    let live = Some(live as f64).filter(|live| *live > 0.0);
    Some(ConnectCost {
        cpu_seconds,
        cores: cpu_seconds / seconds,
        busiest_thread: busiest_thread(before, after, seconds),
        cores_waited_for: spent.wait_ns as f64 / 1e9 / seconds,
        cpu_us_per_connect: live.map(|live| cpu_seconds * 1e6 / live),
        connects_per_cpu_second: live.map(|live| live / cpu_seconds.max(1e-9)),
        resident_bytes: 0,
        bytes_per_connection: None,
    })
}

/// What the threads that hold connections did.
fn loads(before: &Snapshot, after: &Snapshot, seconds: f64, name: &str) -> Vec<ThreadLoad> {
    let mut loads = thread_loads(before, after, seconds, name);
    // The last is the thread that waits for them.
    loads.pop();
    loads
}

/// The share of the time the busiest thread needed the CPU.
fn most_wanted(threads: &[ThreadLoad], wait: Wait) -> f64 {
    threads.iter().map(|load| wanted_share(load, wait)).fold(0.0, f64::max)
}

/// The attempts of all threads together.
fn merge(harvests: &[Harvest]) -> (Tally, Outcome) {
    let (mut tally, mut reasons) = (Tally::new(), Reasons::new());
    for harvest in harvests {
        merge_reasons(&mut reasons, harvest.reasons.clone());
        if let Some(attempts) = &harvest.attempts {
            tally.merge(attempts);
        }
    }
    let outcome = Outcome {
        attempts: tally.attempts,
        live: tally.live,
        failed: tally.failed,
        lost: tally.lost,
        reasons,
        to_upgraded: tally.to_upgraded.summary(),
        to_live: tally.to_live.summary(),
    };
    (tally, outcome)
}

fn facts(settings: &Settings, plan: &scenario::Connect) -> ConnectFacts {
    let Settings { clients, target, .. } = settings;
    ConnectFacts {
        target: target.url(),
        dialect: name_of(&target.script.dialect),
        attempts: plan.attempts,
        in_flight: plan.in_flight,
        per_second: plan.per_second,
        goodbye: plan.goodbye,
        rooms_per_connection: clients.rooms_per_connection,
        processes: clients.processes,
    }
}
