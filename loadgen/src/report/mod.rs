//! Results of runs, as data: what the JSON of a run holds.
//!
//! Pure. [`text`] tells them on the terminal, [`html`] on a page, [`compare`] beside each other. A figure that must
//! not be believed is left out, and the reason stands in its place.
//!
//! Invariants: latencies are microseconds, memory is bytes, shares are of 1; `expected = delivered + missing +
//! excused` in every [`Counts`].

pub(crate) mod compare;
mod connect;
pub(crate) mod html;
#[cfg(test)]
pub(crate) mod sample;
mod search;
mod text;

use serde::{Deserialize, Serialize};

pub(crate) use self::connect::{Connect, ConnectCost, ConnectFacts, Outcome};
pub(crate) use self::search::{Knee, Over, Search, SearchStep};
use crate::engine::Reasons;
use crate::latency::{CurvePoint, Percentiles};
use crate::ledger::Counts;
use crate::metrics::{Measured, thousands};
use crate::scenario::{Address, Pace};
use crate::verdict::Verdict;

/// Rooms with mismatches that are listed.
const ROOMS_LISTED_MAX: usize = 10;

/// The result of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub(crate) enum Report {
    /// Publications to rooms.
    Fanout(Box<Fanout>),
    /// Connections that do nothing.
    Idle(Idle),
    /// Attempts to connect.
    Connect(Box<Connect>),
    /// The highest load that keeps a promise.
    Search(Box<Search>),
}

/// What a fan-out run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Fanout {
    /// Whose run this is, to compare with others: `shardcast`.
    pub(crate) label: Option<String>,
    /// When the run began, by the wall clock.
    pub(crate) started_unix_ms: u64,
    /// What was done.
    pub(crate) scenario: ScenarioFacts,
    /// Measured publications.
    pub(crate) publications: u64,
    /// First copies of measured publications.
    pub(crate) deliveries: u64,
    /// From the first measured publication to the last delivery.
    pub(crate) seconds: f64,
    /// `None` when something else than the server was the limit, or something is missing.
    pub(crate) deliveries_per_second: Option<f64>,
    /// Who was the limit.
    pub(crate) verdict: Verdict,
    /// From due time to each member.
    pub(crate) to_member: Option<Percentiles>,
    /// From due time to the last member.
    pub(crate) to_last_member: Option<Percentiles>,
    /// The whole distribution of `to_member`, rising.
    pub(crate) member_curve: Vec<CurvePoint>,
    /// All publications, warm-up included.
    pub(crate) ledger: Counts,
    /// Rooms whose books do not balance: name and counts.
    pub(crate) inexact_rooms: Vec<(String, Counts)>,
    /// Deliveries of rooms the member had not joined.
    pub(crate) strangers: u64,
    /// Deliveries to members whom the publication left out.
    #[serde(default)]
    pub(crate) to_excluded: u64,
    /// Messages whose text is not the one published.
    pub(crate) altered: u64,
    /// Messages of other runs.
    pub(crate) foreign: u64,
    /// Messages that are no publications, by their text.
    pub(crate) unstamped: Reasons,
    /// Members that were told late of having joined: they missed what was published before.
    pub(crate) late_joins: u64,
    /// The closed loop ended early, waiting for what does not arrive.
    pub(crate) is_stalled: bool,
    /// Missing messages and lost connections are what the run was about, and no problem.
    #[serde(default)]
    pub(crate) is_loss_expected: bool,
    /// Connections that failed or ended.
    pub(crate) losses: Losses,
    /// From closing a connection to having it live again; of churn and storms.
    pub(crate) reconnects: Option<Percentiles>,
    /// Connections that read more slowly than is published to them.
    pub(crate) slow_readers: Option<SlowReaders>,
    /// Clients who are in no ledger: they came, logged in and left while it was measured.
    #[serde(default)]
    pub(crate) visitors: Option<Outcome>,
    /// What the server spent, when it was watched.
    pub(crate) server: Option<ServerCost>,
    /// What the generator spent, and how exact it was.
    pub(crate) generator: GeneratorLoad,
    /// The measured time, interval by interval.
    pub(crate) timeline: Timeline,
    /// What was asked of the run, and whether it held.
    pub(crate) requirements: Vec<Checked>,
}

/// What a run did: two runs with equal facts asked the same of the server, wherever it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScenarioFacts {
    /// URL of the server under test.
    pub(crate) target: String,
    /// Protocol of the clients.
    pub(crate) dialect: String,
    /// Connections in all.
    pub(crate) connections: u32,
    /// Whom publications were for.
    #[serde(default)]
    pub(crate) to: Address,
    /// Rooms in all, or clients, or users, whichever publications were for.
    pub(crate) rooms: u32,
    /// Rooms every connection joined, or 1.
    pub(crate) rooms_per_connection: u32,
    /// Members of the room that every publication left out.
    #[serde(default)]
    pub(crate) exclude: u32,
    /// How members and publications are spread over the rooms, in words.
    pub(crate) spread: String,
    /// Bytes of data in a publication; of several sizes the mean.
    pub(crate) data_bytes: usize,
    /// The sizes a room took in turn, when there were several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) data_sizes: Vec<u32>,
    /// When publications were due.
    pub(crate) pace: Pace,
    /// Where publications went, in words.
    pub(crate) publish: String,
    /// Processes of the generator.
    pub(crate) processes: u32,
    /// Connections closed and opened again a second.
    pub(crate) churn_per_second: f64,
    /// Connections that read slowly.
    pub(crate) slow_connections: u32,
    /// Connections that were closed and came back all at once.
    pub(crate) storm_connections: u32,
    /// Clients beside those who came, logged in and left, a second.
    #[serde(default)]
    pub(crate) visitors_per_second: f64,
}

impl ScenarioFacts {
    /// Whether the other run asked the same: all facts but where the server is and what it speaks.
    pub(crate) fn is_same_work(&self, other: &Self) -> bool {
        let Self { target, dialect, publish, .. } = self.clone();
        *self == Self { target, dialect, publish, ..other.clone() }
    }

    /// The clients, in words.
    pub(crate) fn clients_in_words(&self) -> String {
        let Self { rooms, rooms_per_connection, .. } = self;
        let connections = counted(u64::from(self.connections), "connection");
        let mut words = match self.to {
            Address::Room => {
                let rooms = counted(u64::from(*rooms), "room");
                format!("{connections}, {rooms}, {rooms_per_connection} joined by each")
            }
            Address::Client => format!("{connections}, each published to by its id"),
            Address::User => format!("{connections} of {}", counted(u64::from(*rooms), "user")),
        };
        if !self.spread.is_empty() && self.rooms > 1 && self.to == Address::Room {
            words.push_str(&format!(", {}", self.spread));
        }
        if self.exclude > 0 {
            words.push_str(&format!(", {} left out each time", self.exclude));
        }
        words
    }

    /// Bytes of data in a publication, in words.
    pub(crate) fn sizes_in_words(&self) -> String {
        if self.data_sizes.is_empty() {
            return format!("{} B", self.data_bytes);
        }
        let sizes: Vec<_> = self.data_sizes.iter().map(u32::to_string).collect();
        format!("{} B in turn", sizes.join(", "))
    }

    /// When publications were due, in words.
    pub(crate) fn pace_in_words(&self) -> String {
        match self.pace {
            Pace::Closed { window, burst: 1 } => format!("closed loop with {window} outstanding"),
            Pace::Closed { window, burst } => {
                format!("closed loop with {window} outstanding, {burst} together")
            }
            Pace::Open { per_second } => {
                format!("open loop with {} a second", (per_second * 100.0).round() / 100.0)
            }
        }
    }

    /// What was done to the clients beside publishing to them, a phrase each.
    pub(crate) fn troubles_in_words(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.churn_per_second > 0.0 {
            troubles.push(format!("{} connections replaced a second", self.churn_per_second));
        }
        if self.slow_connections > 0 {
            troubles.push(counted(u64::from(self.slow_connections), "slow reader"));
        }
        if self.storm_connections > 0 {
            let connections = counted(u64::from(self.storm_connections), "connection");
            troubles.push(format!("{connections} dropped and back at once"));
        }
        if self.visitors_per_second > 0.0 {
            troubles.push(format!("{} visitors a second", self.visitors_per_second));
        }
        troubles
    }
}

/// Connections that failed or ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Losses {
    /// Never came up.
    pub(crate) failed: u32,
    /// Ended by the server or the network while they were up.
    pub(crate) lost: u32,
    /// Why, with the number of connections each explains.
    pub(crate) reasons: Reasons,
}

/// What became of the connections that read slowly: apart from the ledger of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SlowReaders {
    /// How many there were.
    pub(crate) connections: u32,
    /// Closed by the server.
    pub(crate) closed: u32,
    /// What arrived at them.
    pub(crate) ledger: Counts,
}

/// What the server spent on the measured publications.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerCost {
    /// CPU time of the measured time.
    pub(crate) cpu_seconds: f64,
    /// The same as a number of cores.
    pub(crate) cores: f64,
    /// Share of the time its busiest thread ran: near 1, that thread is the limit.
    #[serde(default)]
    pub(crate) busiest_thread: f64,
    /// Cores' worth of time its threads were ready to run while others ran: above nothing, the machine was shared.
    pub(crate) cores_waited_for: f64,
    /// CPU time for one delivery, in microseconds.
    pub(crate) cpu_us_per_delivery: f64,
    /// Deliveries one core makes in a second.
    pub(crate) deliveries_per_cpu_second: f64,
    /// Resident memory at the end.
    pub(crate) resident_bytes: u64,
    /// Resident memory from before the first connection to the last one open, a connection.
    pub(crate) bytes_per_connection: Option<f64>,
}

/// What the generator spent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorLoad {
    /// What each of its threads did.
    pub(crate) threads: Vec<ThreadLoad>,
    /// Resident bytes beyond those before the first connection, per connection.
    pub(crate) bytes_per_connection: f64,
    /// How late publications left.
    pub(crate) send_lag: Option<Percentiles>,
    /// How long rounds of the receive loop took: no delivery is timed more exactly.
    pub(crate) rounds: Option<Percentiles>,
    /// Most bytes found waiting in one socket.
    pub(crate) backlog_bytes_max: u64,
}

/// What one thread did with its time, in shares of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadLoad {
    /// Its name.
    pub(crate) name: String,
    /// Running.
    pub(crate) run: f64,
    /// Ready to run while others ran.
    pub(crate) wait: f64,
    /// Rounds of the loop that found something to do; `None` for the publisher.
    pub(crate) busy: Option<f64>,
}

/// The measured time, interval by interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// Length of an interval.
    pub(crate) interval_secs: f64,
    /// One point an interval, in order.
    pub(crate) points: Vec<Point>,
}

impl Timeline {
    /// By how much the server's memory grew, in bytes: the mean of the last fifth of the time against that of the
    /// second fifth, when what a first load allocates is there. `None` for runs too short to tell.
    pub(crate) fn server_memory_growth(&self) -> Option<f64> {
        let fifth = self.points.len() / 5;
        let mean = |points: &[Point]| {
            let resident = points.iter().map(|point| point.server_resident_bytes.map(|bytes| bytes as f64));
            Some(resident.sum::<Option<f64>>()? / points.len() as f64)
        };
        if fifth == 0 {
            return None;
        }
        Some(mean(&self.points[self.points.len() - fifth..])? - mean(&self.points[fifth..2 * fifth])?)
    }
}

/// One interval of the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// End of the interval, from the beginning of the measured time.
    pub(crate) at_secs: f64,
    /// Connections up at the end.
    pub(crate) live: u32,
    /// Publications that left in the interval.
    pub(crate) published: u64,
    /// Deliveries that arrived in the interval.
    pub(crate) delivered: u64,
    /// Median latency of what arrived in the interval; `None` when nothing did.
    pub(crate) p50_us: Option<u64>,
    /// The same of 99 %.
    pub(crate) p99_us: Option<u64>,
    /// The longest one.
    pub(crate) max_us: Option<u64>,
    /// Cores the server used, when it was watched.
    pub(crate) server_cores: Option<f64>,
    /// Resident memory of the server at the end, when it was watched.
    pub(crate) server_resident_bytes: Option<u64>,
    /// Cores the generator used.
    pub(crate) generator_cores: f64,
    /// Connections that failed or were lost in the interval.
    pub(crate) errors: u64,
}

/// A requirement and whether the run met it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checked {
    /// As it was written: `p99<=50ms`.
    pub(crate) requirement: String,
    /// What was measured, in the unit of the metric; `None` when it was not.
    pub(crate) value: Option<f64>,
    /// Whether that is good enough; what was not measured is not.
    pub(crate) is_met: bool,
    /// Why nothing was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// What an idle run found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Idle {
    /// Whose run this is, to compare with others.
    pub(crate) label: Option<String>,
    /// When the run began, by the wall clock.
    pub(crate) started_unix_ms: u64,
    /// What was measured at each number of connections, rising.
    pub(crate) steps: Vec<IdleStep>,
    /// Resident bytes per connection from the first step to the last.
    pub(crate) server_bytes_per_connection: Option<f64>,
    /// Resident bytes of the generator, in the same way.
    pub(crate) generator_bytes_per_connection: f64,
    /// Connections that failed or ended.
    pub(crate) losses: Losses,
}

/// What was measured at one number of connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdleStep {
    /// Connections open.
    pub(crate) connections: u32,
    /// Rooms in all.
    pub(crate) rooms: u32,
    /// Rooms every connection joined.
    pub(crate) rooms_per_connection: u32,
    /// Resident memory of the server, when it was watched.
    pub(crate) server_resident_bytes: Option<u64>,
    /// Resident bytes per connection from the step before to this one.
    pub(crate) server_bytes_per_connection: Option<f64>,
    /// Resident memory of the generator.
    pub(crate) generator_resident_bytes: u64,
    /// CPU time of the server a second, in microseconds.
    pub(crate) server_cpu_us_per_second: Option<f64>,
}

impl Report {
    /// What went wrong, a line each; nothing when the run is good.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self {
            Self::Fanout(fanout) => fanout.problems(),
            Self::Idle(idle) => idle.losses.problems(),
            Self::Connect(run) => run.problems(),
            Self::Search(search) => search.problems(),
        }
    }
}

impl Checked {
    /// What is wrong, when it is not met.
    fn problem(&self) -> Option<String> {
        let line = || format!("requirement not met: {}: {}", self.requirement, self.value_in_words());
        (!self.is_met).then(line)
    }
}

impl Report {
    /// The run, when it is one that has metrics.
    pub(crate) fn measured(&self) -> Option<Measured<'_>> {
        match self {
            Self::Fanout(run) => Some(Measured::Fanout(run)),
            Self::Connect(run) => Some(Measured::Connect(run)),
            Self::Idle(_) | Self::Search(_) => None,
        }
    }
}

impl Losses {
    fn problems(&self) -> Vec<String> {
        if self.failed == 0 && self.lost == 0 {
            return Vec::new();
        }
        let mut problems = vec![format!("{} connections failed, {} were lost", self.failed, self.lost)];
        problems.extend(self.reasons.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        problems
    }
}

impl Fanout {
    /// Whether every member received every message once, in order and as published.
    pub(crate) fn is_exact(&self) -> bool {
        self.ledger.is_exact() && self.strangers == 0 && self.to_excluded == 0 && self.altered == 0
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.is_stalled {
            problems.push("the closed loop ended early: it waited for what does not arrive".to_owned());
        }
        let is_missing_only = self.ledger.duplicate == 0 && self.ledger.out_of_order == 0;
        let is_as_expected = self.ledger.is_exact() || (self.is_loss_expected && is_missing_only);
        if !is_as_expected {
            problems.push(format!("ledger mismatch: {}", mismatch(&self.ledger)));
            for (room, counts) in self.inexact_rooms.iter().take(ROOMS_LISTED_MAX) {
                problems.push(format!("  {room}: {}", mismatch(counts)));
            }
        }
        if self.strangers > 0 {
            problems.push(format!("{} deliveries to members who had not joined the room", self.strangers));
        }
        if self.to_excluded > 0 {
            problems.push(format!("{} deliveries to members who were excluded", self.to_excluded));
        }
        if self.altered > 0 {
            problems.push(format!("{} messages were not as published", self.altered));
        }
        if self.late_joins > 0 {
            problems.push(format!("{} members who came back were not served in time", self.late_joins));
        }
        if !self.is_loss_expected {
            problems.extend(self.losses.problems());
        }
        if let Some(visitors) = self.visitors.as_ref().filter(|_| !self.is_loss_expected) {
            problems.extend(visitors.problems("visitors"));
        }
        problems.extend(self.requirements.iter().filter_map(Checked::problem));
        problems
    }
}

/// What of a ledger is not as it should be, in words.
fn mismatch(counts: &Counts) -> String {
    let Counts { missing, duplicate, out_of_order, expected, .. } = counts;
    format!("{missing} missing, {duplicate} duplicate, {out_of_order} out of order, of {expected}")
}

/// A number with its noun: `1 room`, `2,000 rooms`.
fn counted(count: u64, noun: &str) -> String {
    let told = thousands(i64::try_from(count).unwrap_or(i64::MAX));
    format!("{told} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_growth_is_what_comes_after_the_first_load() {
        let point = |bytes| Point { server_resident_bytes: bytes, ..Point::default() };
        let timeline = |bytes: &[Option<u64>]| Timeline {
            interval_secs: 1.0,
            points: bytes.iter().map(|bytes| point(*bytes)).collect(),
        };
        let table: [(&[Option<u64>], Option<f64>); 4] = [
            (&[Some(0), Some(100), Some(100), Some(100), Some(100)], Some(0.0)),
            (&[Some(0), Some(100), Some(120), Some(140), Some(160)], Some(60.0)),
            (&[Some(0), Some(1), Some(2), Some(3)], None),
            (&[Some(0), None, Some(2), Some(3), Some(4)], None),
        ];
        for (bytes, growth) in table {
            assert_eq!(timeline(bytes).server_memory_growth(), growth, "{bytes:?}");
        }
    }
}
