//! The highest load a server carries without breaking a promise, found by trying.
//!
//! A step holds when every promise is kept, the books balance and the server, not the generator, would have been the
//! limit. The search doubles until a step breaks, narrows in, and is repeated: the knee of a noisy machine is a range.

use std::sync::Arc;

use clap::Args;
use thiserror::Error;

use crate::bracket::Bracket;
use crate::findings::Findings;
use crate::metrics::Measured;
use crate::publisher::Publisher;
use crate::report::{Fanout, Knee, Over, Report, Search, SearchStep};
use crate::requirement::Requirement;
use crate::run::{RunError, measure, publisher, settings, unix_ms};
use crate::scenario::{Mode, Options, Pace, Scenario, ScenarioError, Work};
use crate::session::Session;

/// The bracket of a repetition begins so far below the knee of the one before.
const BACK_OFF: f64 = 1.5;
const REPEATS_MAX: u32 = 100;
/// A step in which something else than the server was the limit tells nothing, and is tried so often.
const TRIES_MAX: u32 = 3;

/// How to search, beside what each step does.
#[derive(Args, Clone, Debug)]
pub(crate) struct SearchOptions {
    /// The promise, such as p99=50ms; repeat for more
    #[arg(long, value_name = "METRIC=VALUE", required = true, help_heading = "Search")]
    pub(crate) slo: Vec<Requirement>,
    /// What to raise; over connections, --rate stays
    #[arg(long, default_value = "rate", help_heading = "Search")]
    pub(crate) over: Over,
    /// The first value tried [default: rate 10, connections 100]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub(crate) from: Option<f64>,
    /// The highest value tried [default: rate 1000000, connections --connections]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub(crate) to: Option<f64>,
    /// Stop narrowing in when the value that broke is no more than this share above the one that held
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, help_heading = "Search")]
    pub(crate) precision: f64,
    /// Find the knee so many times
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Search")]
    pub(crate) repeats: u32,
}

/// Why there was no search.
#[derive(Debug, Error)]
pub(crate) enum SearchError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("window and burst are of the closed loop, which goes as fast as it can: a search needs a rate")]
    ClosedLoop,
    #[error("over connections every step publishes at the same rate: set --rate")]
    NoRate,
    #[error("{name} = {value} is out of bounds: {expected}")]
    Bounds { name: &'static str, value: f64, expected: &'static str },
    #[error(transparent)]
    Run(#[from] RunError),
}

impl SearchError {
    /// Whether the settings are to blame.
    pub(crate) fn is_of_settings(&self) -> bool {
        !matches!(self, Self::Run(_))
    }
}

/// Searches.
pub(crate) fn search(
    how: &SearchOptions,
    mut options: Options,
    descriptors: u64,
) -> Result<Report, SearchError> {
    if options.window.or(options.burst).is_some() {
        return Err(SearchError::ClosedLoop);
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let bounds = |name, value, expected| Err(SearchError::Bounds { name, value, expected });
    if !positive(how.precision) {
        return bounds("precision", how.precision, "more than 0");
    }
    if how.repeats == 0 || how.repeats > REPEATS_MAX {
        return bounds("repeats", f64::from(how.repeats), "1 to 100");
    }
    let (from, to) = match how.over {
        Over::Rate => {
            options.rate.get_or_insert(1.0);
            (how.from.unwrap_or(10.0), how.to.unwrap_or(1e6))
        }
        Over::Connections if options.rate.is_none() => return Err(SearchError::NoRate),
        Over::Connections => {
            (how.from.unwrap_or(100.0), how.to.unwrap_or(f64::from(options.connections.unwrap_or(1000))))
        }
    };
    if !positive(from) {
        return bounds("from", from, "more than 0");
    }
    if !positive(to) {
        return bounds("to", to, "more than 0");
    }
    let scenario = options.clone().into_scenario(Mode::Fanout, descriptors)?;
    let mut searcher = Searcher {
        how,
        options,
        descriptors,
        scenario,
        opened: None,
        best: None,
        started_unix_ms: unix_ms(),
    };
    let mut knees: Vec<Knee> = Vec::new();
    let mut start = from;
    for repeat in 0..how.repeats {
        let knee =
            searcher.knee(Bracket::new(start, to, how.precision, how.over == Over::Connections), repeat)?;
        if knee.value > 0.0 {
            start = (knee.value / BACK_OFF).max(f64::MIN_POSITIVE);
            start = if how.over == Over::Connections { start.round().max(1.0) } else { start };
        }
        knees.push(knee);
    }
    searcher.into_report(knees)
}

/// One try at a value.
struct Step {
    told: SearchStep,
    /// Whether it says something about the server.
    is_of_server: bool,
}

/// What steps need.
struct Searcher<'a> {
    how: &'a SearchOptions,
    options: Options,
    descriptors: u64,
    scenario: Scenario,
    /// Connections that are open, for steps that keep them.
    opened: Option<(Session, Publisher)>,
    /// The highest step that held.
    best: Option<(f64, Fanout)>,
    started_unix_ms: u64,
}

impl Searcher<'_> {
    fn knee(&mut self, mut bracket: Bracket, repeat: u32) -> Result<Knee, SearchError> {
        let mut steps = Vec::new();
        let (mut reason, mut is_of_server) = (String::new(), false);
        while let Some(value) = bracket.next() {
            let context =
                format!("search {}/{}, {value:.1} {}: ", repeat + 1, self.how.repeats, self.how.over.unit());
            let mut step = self.step(value, &context)?;
            for _ in 1..TRIES_MAX {
                if step.is_of_server {
                    break;
                }
                steps.push(step.told);
                step = self.step(value, &context)?;
            }
            bracket.tried(value, step.told.is_held);
            if !step.told.is_held {
                reason.clone_from(&step.told.note);
                is_of_server = step.is_of_server;
            }
            steps.push(step.told);
        }
        Ok(Knee {
            value: bracket.held().unwrap_or(0.0),
            broken_at: bracket.broken(),
            reason,
            is_of_server,
            steps,
        })
    }

    fn step(&mut self, value: f64, context: &str) -> Result<Step, SearchError> {
        let run = match self.measure(value, context.to_owned()) {
            Ok(run) => run,
            Err(SearchError::Run(error)) if error.is_of_server() => {
                self.opened = None;
                let note = error.to_string().replace('\n', ";");
                let told = SearchStep { value, seconds: 0.0, measured: None, is_held: false, note };
                return Ok(Step { told, is_of_server: true });
            }
            Err(error) => return Err(error),
        };
        let checked: Vec<_> =
            self.how.slo.iter().map(|promise| promise.check(Measured::Fanout(&run))).collect();
        let note = if !run.verdict.is_of_server() {
            run.verdict.to_string()
        } else if !run.is_exact() && !self.scenario.judgement.expect_loss {
            format!(
                "the ledger does not balance: {} missing, {} duplicate",
                run.ledger.missing, run.ledger.duplicate
            )
        } else {
            checked.iter().find(|checked| !checked.is_met).map_or_else(String::new, ToString::to_string)
        };
        let is_held = note.is_empty();
        let is_of_server = run.verdict.is_of_server();
        let told = SearchStep {
            value,
            seconds: run.seconds,
            measured: checked.first().and_then(|checked| checked.value),
            is_held,
            note,
        };
        if is_held && self.best.as_ref().is_none_or(|(best, _)| value >= *best) {
            self.best = Some((value, run));
        }
        Ok(Step { told, is_of_server })
    }

    /// One run at a value, over connections that stay open when only the rate changes.
    fn measure(&mut self, value: f64, context: String) -> Result<Fanout, SearchError> {
        match self.how.over {
            Over::Rate => {
                let Work::Fanout(publications) = &mut self.scenario.work else {
                    unreachable!("a search publishes")
                };
                publications.pace = Pace::Open { per_second: value };
            }
            Over::Connections => {
                self.opened = None;
                let options = Options { connections: Some(value as u32), ..self.options.clone() };
                self.scenario = options.into_scenario(Mode::Fanout, self.descriptors)?;
            }
        }
        let Work::Fanout(publications) = &self.scenario.work else { unreachable!("a search publishes") };
        let settings = settings(&self.scenario);
        let (mut session, mut publisher) = match self.opened.take() {
            Some((mut session, publisher)) => {
                session.set_context(context);
                (session, publisher)
            }
            None => {
                let session = Session::start(Arc::clone(&settings), context)?;
                let publisher = publisher(&settings, publications, &session)?;
                (session, publisher)
            }
        };
        session.open(settings.clients.connections)?;
        let memory = session.memory()?;
        let phase = measure(&mut session, &mut publisher, publications, &self.scenario, &settings)?;
        self.opened = Some((session, publisher));
        let (judgement, visitors_per_second) =
            (&self.scenario.judgement, self.scenario.visitors_per_second());
        Ok(Findings { settings: &settings, publications, judgement, memory, visitors_per_second }
            .report(phase))
    }

    fn into_report(self, knees: Vec<Knee>) -> Result<Report, SearchError> {
        let slo: Vec<String> = self.how.slo.iter().map(ToString::to_string).collect();
        let Work::Fanout(publications) = &self.scenario.work else { unreachable!("a search publishes") };
        let settings = settings(&self.scenario);
        let facts = crate::findings::facts(
            &settings,
            publications,
            publications.pace,
            self.scenario.visitors_per_second(),
        );
        Ok(Report::Search(Box::new(Search {
            label: self.scenario.judgement.label.clone(),
            started_unix_ms: self.started_unix_ms,
            scenario: facts,
            slo: slo.join(", "),
            over: self.how.over,
            knees,
            best: self.best.map(|(_, run)| run),
        })))
    }
}
