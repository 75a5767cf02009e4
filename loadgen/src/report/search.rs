//! What a search for the highest load found.

use serde::{Deserialize, Serialize};

use super::{Fanout, ScenarioFacts, compare};
use crate::requirement::Requirement;

/// What a search for the highest load found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Search {
    /// Whose search this is, to compare with others.
    pub(crate) label: Option<String>,
    /// When the search began, by the wall clock.
    pub(crate) started_unix_ms: u64,
    /// What every step did, but for what was searched over.
    pub(crate) scenario: ScenarioFacts,
    /// The promise, as it was written: `p99=50ms`.
    pub(crate) slo: String,
    /// What was raised.
    pub(crate) over: Over,
    /// One search a repetition.
    pub(crate) knees: Vec<Knee>,
    /// The run at the highest value that held.
    pub(crate) best: Option<Fanout>,
}

/// What a search raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Over {
    /// Publications a second.
    Rate,
    /// Connections.
    Connections,
}

impl Over {
    /// What the values of a search are, in words.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Rate => "publications/s",
            Self::Connections => "connections",
        }
    }
}

/// One repetition of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Knee {
    /// The highest value that held; 0 when none did.
    pub(crate) value: f64,
    /// The lowest value that did not; `None` when all held.
    pub(crate) broken_at: Option<f64>,
    /// What broke: the promise, the generator or the ledger.
    pub(crate) reason: String,
    /// Whether that was the server: if not, its own limit lies higher, nobody knows where.
    #[serde(default)]
    pub(crate) is_of_server: bool,
    /// In the order they were tried.
    pub(crate) steps: Vec<SearchStep>,
}

/// One value tried by a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SearchStep {
    /// What was tried.
    pub(crate) value: f64,
    /// For how long.
    pub(crate) seconds: f64,
    /// The metric of the promise, in its unit; `None` when it was not measured.
    pub(crate) measured: Option<f64>,
    /// Whether the promise held, and the figures may be believed.
    pub(crate) is_held: bool,
    /// Why not, or what else is worth knowing.
    pub(crate) note: String,
}

impl Search {
    /// The promise whose metric the steps tell: the first.
    pub(crate) fn first_promise(&self) -> Option<Requirement> {
        self.slo.split(", ").next()?.parse().ok()
    }

    /// Whether every repetition ended at a limit of the server: only then is the knee its capacity.
    pub(crate) fn is_capacity(&self) -> bool {
        self.knees.iter().all(|knee| knee.is_of_server)
    }

    /// Median, lowest and highest of the knees; `None` when there are none.
    pub(crate) fn knee_spread(&self) -> Option<compare::Spread> {
        compare::Spread::of(self.knees.iter().map(|knee| knee.value).collect())
    }

    /// What went wrong, a line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let is_found = self.knees.iter().any(|knee| knee.value > 0.0);
        if is_found { Vec::new() } else { vec![format!("no value was found at which {} holds", self.slo)] }
    }
}
