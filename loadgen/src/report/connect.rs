//! What a run of connection attempts found, and its words.

use serde::{Deserialize, Serialize};

use super::{Checked, GeneratorLoad, counted};
use crate::engine::Reasons;
use crate::latency::Percentiles;
use crate::scenario::Goodbye;
use crate::verdict::Verdict;

/// What a run of connection attempts found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// Whose run this is, to compare with others.
    pub(crate) label: Option<String>,
    /// When the run began, by the wall clock.
    pub(crate) started_unix_ms: u64,
    /// What was done.
    pub(crate) scenario: ConnectFacts,
    /// What became of the attempts.
    pub(crate) outcome: Outcome,
    /// From the first attempt to the end of the last one.
    pub(crate) seconds: f64,
    /// Of those that came to be live; `None` when something else than the server was the limit.
    pub(crate) connects_per_second: Option<f64>,
    /// Who was the limit.
    pub(crate) verdict: Verdict,
    /// What the server spent, when it was watched.
    pub(crate) server: Option<ConnectCost>,
    /// What the generator spent; its `send_lag` is how late attempts by the clock began.
    pub(crate) generator: GeneratorLoad,
    /// Failures are what the run was about, and no problem.
    #[serde(default)]
    pub(crate) is_loss_expected: bool,
    /// What was asked of the run, and whether it held.
    pub(crate) requirements: Vec<Checked>,
}

/// What became of attempts: `attempts = live + failed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Began.
    pub(crate) attempts: u64,
    /// Logged in.
    pub(crate) live: u64,
    /// Never did.
    pub(crate) failed: u64,
    /// Were live, and ended by the server, or not by it when they had said goodbye.
    pub(crate) lost: u64,
    /// Why they failed or were lost, with the number of connections each reason explains.
    pub(crate) reasons: Reasons,
    /// From due, or begun in the closed loop, to the upgrade.
    pub(crate) to_upgraded: Option<Percentiles>,
    /// From due, or begun in the closed loop, to live.
    pub(crate) to_live: Option<Percentiles>,
}

/// What a run of connection attempts did: two runs with equal facts asked the same of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConnectFacts {
    /// URL of the server under test.
    pub(crate) target: String,
    /// Protocol of the clients.
    pub(crate) dialect: String,
    /// Attempts in all; `None`: as many as the time allowed.
    pub(crate) attempts: Option<u32>,
    /// Under way at most.
    pub(crate) in_flight: u32,
    /// Due a second; `None`: the next began as one ended.
    pub(crate) per_second: Option<f64>,
    /// How live connections ended; `None`: they stayed.
    pub(crate) goodbye: Option<Goodbye>,
    /// Rooms every connection joined.
    pub(crate) rooms_per_connection: u32,
    /// Processes of the generator.
    pub(crate) processes: u32,
}

/// What the server spent on the attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConnectCost {
    /// CPU time of all attempts.
    pub(crate) cpu_seconds: f64,
    /// The same as a number of cores.
    pub(crate) cores: f64,
    /// Share of the time its busiest thread ran.
    pub(crate) busiest_thread: f64,
    /// Cores' worth of time its threads were ready to run while others ran.
    pub(crate) cores_waited_for: f64,
    /// CPU time, failed attempts and goodbyes included, for one that came to be live, in microseconds; `None`
    /// when none did.
    pub(crate) cpu_us_per_connect: Option<f64>,
    /// Connections one core brings up in a second; `None` when none came to be live.
    pub(crate) connects_per_cpu_second: Option<f64>,
    /// Resident memory at the end.
    pub(crate) resident_bytes: u64,
    /// Resident memory from before the first connection, a connection, when they stay.
    pub(crate) bytes_per_connection: Option<f64>,
}

impl ConnectFacts {
    /// Whether the other run asked the same: all facts but where the server is and what it speaks.
    pub(crate) fn is_same_work(&self, other: &Self) -> bool {
        let Self { target, dialect, .. } = self.clone();
        *self == Self { target, dialect, ..other.clone() }
    }

    /// What was done, in words.
    pub(crate) fn in_words(&self) -> String {
        let attempts = match self.attempts {
            Some(attempts) => counted(u64::from(attempts), "attempt"),
            None => "attempts".to_owned(),
        };
        let pace = match self.per_second {
            Some(rate) => {
                let rate = (rate * 100.0).round() / 100.0;
                format!("open loop with {rate} a second, {} under way at most", self.in_flight)
            }
            None => format!("closed loop with {} under way", self.in_flight),
        };
        let end = match self.goodbye {
            None => "all stay",
            Some(Goodbye::Clean) => "each leaves with a goodbye",
            Some(Goodbye::Reset) => "each leaves with a reset",
        };
        let mut words = format!("{attempts} to connect, {pace}, {end}");
        if self.rooms_per_connection > 0 {
            words.push_str(&format!(
                ", {} joined by each",
                counted(u64::from(self.rooms_per_connection), "room")
            ));
        }
        if self.processes > 1 {
            words.push_str(&format!(", {} generators", self.processes));
        }
        words
    }
}

impl Outcome {
    /// What became of the attempts, in words.
    pub(crate) fn in_words(&self) -> String {
        let Self { attempts, live, failed, lost, .. } = self;
        format!("{attempts} attempts, {live} live, {failed} failed, {lost} lost")
    }

    /// What went wrong, a line each.
    pub(super) fn problems(&self, who: &str) -> Vec<String> {
        let Self { attempts, failed, lost, .. } = self;
        if *failed == 0 && *lost == 0 {
            return Vec::new();
        }
        let mut problems = vec![format!("of {attempts} {who} {failed} failed, {lost} were lost")];
        problems.extend(self.reasons.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        problems
    }
}

impl Connect {
    /// The rate that was reached and what it means; why there is none, when there is none.
    pub(super) fn rate_in_words(&self) -> String {
        match self.connects_per_second {
            Some(rate) if matches!(self.verdict, Verdict::Server { .. }) => format!("{rate:.0} (capacity)"),
            Some(rate) => format!("{rate:.0} (reached, not a capacity)"),
            None => "not told: the server was not the limit".to_owned(),
        }
    }

    /// What went wrong, a line each.
    pub(super) fn problems(&self) -> Vec<String> {
        let expected = self.is_loss_expected;
        let mut problems = if expected { Vec::new() } else { self.outcome.problems("attempts") };
        problems.extend(self.requirements.iter().filter_map(Checked::problem));
        problems
    }
}
