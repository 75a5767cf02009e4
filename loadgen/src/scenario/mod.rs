//! What a run does, complete and checked as a whole before anything starts.
//!
//! [`Options`] is what was written, every field optional; flags win over the file. [`Scenario`] is what will be
//! done: every default filled in, everything within bounds.

mod connect;
mod options;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::dialect::{Dialect, Script};
use crate::metrics::Metric;
use crate::publisher::{Via, ViaError, ViaOptions};
use crate::requirement::Requirement;
use crate::roster::Roster;
use crate::sizes::{Sizes, SizesError};
use crate::span::Span;
use crate::spread::{Memberships, Spread};

pub(crate) use self::connect::{Connect, Goodbye};
pub(crate) use self::options::Options;

/// Most members, rooms or publications outstanding at a time that the books are laid out for.
const COUNT_MAX: u32 = 10_000_000;
/// Most processes connections are shared among.
const PROCESSES_MAX: u32 = 1024;
/// Most clients that a publication leaves out: what Shardcast takes.
const EXCLUDE_MAX: u32 = 10_000;
/// Open files of a process beside its connections.
const DESCRIPTORS_SPARE: u64 = 64;

/// What a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Publications to rooms.
    Fanout,
    /// Connections that do nothing.
    Idle,
    /// Connections that come, and may leave at once.
    Connect,
}

/// How engine threads wait for data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wait {
    /// In the kernel.
    #[default]
    Sleep,
    /// Asking over and over, so that the sender of loopback data never pays for a wake-up.
    Spin,
}

/// When publications are due.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "loop")]
pub(crate) enum Pace {
    /// As the last ones arrive.
    Closed { window: u32, burst: u32 },
    /// By the clock.
    Open { per_second: f64 },
}

/// Whom a publication is for. For the books a client or a user is a room, whose members are that client, or all
/// clients of that user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Address {
    /// The members of a room.
    #[default]
    Room,
    /// One client, by the id the server gave it.
    Client,
    /// All clients of a user.
    User,
}

/// The server under test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    /// With `{room}`: each connection puts its first room there.
    pub(crate) path: String,
    pub(crate) script: Script,
    pub(crate) pid: Option<u32>,
}

impl Target {
    /// As it is written in flags.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}{}", self.host, self.path)
    }
}

/// Connections that read slowly on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slow {
    pub(crate) connections: u32,
    /// For each of them.
    pub(crate) bytes_per_second: u32,
}

/// Connections that break all at once, and come back.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// From the beginning of the measured time.
    pub(crate) after: Duration,
    /// Of the live connections, 0 to 1.
    pub(crate) share: f64,
}

/// The clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Clients {
    pub(crate) connections: u32,
    /// Whom publications are for.
    pub(crate) to: Address,
    /// Names of those, in the words of reports: clients have no names of their own.
    pub(crate) rooms: Vec<String>,
    /// At most the number of rooms.
    pub(crate) rooms_per_connection: u32,
    /// Members of the room that every publication leaves out.
    pub(crate) exclude: u32,
    pub(crate) spread: Spread,
    pub(crate) zipf_exponent: f64,
    /// New connections a second, `None` without limit.
    pub(crate) ramp: Option<u32>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) churn_per_second: f64,
    pub(crate) slow: Slow,
    pub(crate) storm: Option<Storm>,
    pub(crate) cores: Vec<usize>,
    pub(crate) processes: u32,
    pub(crate) wait: Wait,
    pub(crate) patience: Duration,
}

impl Clients {
    /// The rooms of every connection.
    pub(crate) fn memberships(&self) -> Memberships {
        let rooms = self.rooms.len() as u32;
        Memberships::new(self.spread, self.zipf_exponent, rooms, self.rooms_per_connection)
    }

    /// Whom publications leave out.
    pub(crate) fn roster(&self) -> Roster {
        Roster::new(self.exclude, &self.memberships(), self.connections, self.rooms.len() as u32)
    }

    /// Whether connections are closed on purpose while messages are published.
    pub(crate) fn is_coming_and_going(&self) -> bool {
        self.churn_per_second > 0.0 || self.storm.is_some()
    }
}

/// The publications of a fan-out run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publications {
    pub(crate) via: Via,
    pub(crate) sizes: Sizes,
    pub(crate) pace: Pace,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
}

/// The measurements of an idle run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    /// Ascending; the last is the number of connections.
    pub(crate) at: Vec<u32>,
    pub(crate) settle: Duration,
    pub(crate) hold: Duration,
}

/// What a run does beside holding connections.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    Fanout(Box<Publications>),
    Idle(Idle),
    Connect(Connect),
}

/// How a run is judged and told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) label: Option<String>,
    pub(crate) requirements: Vec<Requirement>,
    /// Losses are no failure.
    pub(crate) expect_loss: bool,
}

/// A complete and checked run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) target: Target,
    pub(crate) clients: Clients,
    pub(crate) work: Work,
    /// Clients beside those of a fan-out run, who come, log in and leave.
    pub(crate) visitors: Option<Connect>,
    pub(crate) judgement: Judgement,
}

impl Scenario {
    /// Visitors a second, as planned.
    pub(crate) fn visitors_per_second(&self) -> f64 {
        self.visitors.and_then(|visitors| visitors.per_second).unwrap_or(0.0)
    }
}

/// What is wrong with the settings.
#[derive(Debug, Error)]
pub(crate) enum ScenarioError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Malformed { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: `mode` is missing: \"fanout\", \"idle\" or \"connect\"", path.display())]
    ModeMissing { path: PathBuf },
    #[error("target = {url:?} does not start with ws://")]
    Scheme { url: String },
    #[error("target = {url:?} does not name a host and a port")]
    Address { url: String },
    #[error(transparent)]
    Via(#[from] ViaError),
    #[error(transparent)]
    Sizes(#[from] SizesError),
    #[error("{name} is of the ignis dialect: leave it out, or set dialect = \"ignis\"")]
    NotIgnis { name: &'static str },
    #[error("{name} is for publications to {expected}s, and publish_to = \"{to}\": leave one of them out")]
    NotFor { name: &'static str, expected: &'static str, to: &'static str },
    #[error("exclude = {exclude}: room {room} has {members} members, and somebody has to be left in each")]
    ExcludeAll { exclude: u32, room: String, members: usize },
    #[error(
        "exclude names clients by their ids, and with {name} clients come back with others: leave one of them out"
    )]
    ExcludeAway { name: &'static str },
    #[error("{name} = {value} is out of bounds: {expected}")]
    Bounds { name: &'static str, value: f64, expected: String },
    #[error("window and burst are of the closed loop, rate is of the open one: leave one of them out")]
    BothLoops,
    #[error("{name} needs the open loop: set a rate, for a closed loop would wait for those who are away")]
    NeedsRate { name: &'static str },
    #[error("send and ready are of the raw dialect: leave them out, or set dialect = \"raw\"")]
    NotRaw,
    #[error("{key} is no metric of such runs: require one of {known}")]
    Metric { key: &'static str, known: String },
    #[error("{name} is about members who stay: leave it out of a connect run")]
    NotOfConnect { name: &'static str },
    #[error("at = {at:?}: the numbers must rise")]
    AtOrder { at: Vec<u32> },
}

impl Options {
    /// Fills in the defaults and checks everything; `descriptors` is how many files a process may have open.
    pub(crate) fn into_scenario(self, mode: Mode, descriptors: u64) -> Result<Scenario, ScenarioError> {
        let target = self.target()?;
        let (work, connections) = match mode {
            Mode::Fanout => {
                let publications = self.publications(target.script.dialect)?;
                (Work::Fanout(Box::new(publications)), self.connections)
            }
            Mode::Idle => {
                let idle = self.idle()?;
                let connections = idle.at.last().copied();
                (Work::Idle(idle), connections)
            }
            Mode::Connect => {
                let connect = self.connect()?;
                (Work::Connect(connect), Some(connect.connections()))
            }
        };
        let visitors = if mode == Mode::Fanout { self.visitors()? } else { None };
        // Visitors are in this process, whoever else is.
        let descriptors =
            descriptors.saturating_sub(visitors.map_or(0, |visitors| u64::from(visitors.in_flight)));
        let clients = self.clients(mode, connections.unwrap_or(1000), descriptors)?;
        if matches!(&work, Work::Fanout(publications) if matches!(publications.pace, Pace::Closed { .. })) {
            let names = [("churn", clients.churn_per_second > 0.0), ("storm_after", clients.storm.is_some())];
            if let Some((name, _)) = names.into_iter().find(|(_, is_set)| *is_set) {
                return Err(ScenarioError::NeedsRate { name });
            }
        }
        if let Some(small) = clients.roster().too_small() {
            let room = clients.rooms[small.room as usize].clone();
            return Err(ScenarioError::ExcludeAll { exclude: clients.exclude, room, members: small.members });
        }
        let is_known = |metric: &Metric| match mode {
            Mode::Fanout | Mode::Idle => metric.is_of_fanout(),
            Mode::Connect => metric.is_of_connect(),
        };
        let mut required = self.require.iter().flatten().map(|requirement| requirement.metric);
        if let Some(metric) = required.find(|metric| !is_known(metric)) {
            return Err(ScenarioError::Metric { key: metric.key, known: Metric::keys_of(is_known) });
        }
        let judgement = Judgement {
            label: self.label,
            requirements: self.require.unwrap_or_default(),
            expect_loss: self.expect_loss.unwrap_or(false),
        };
        Ok(Scenario { target, clients, work, visitors, judgement })
    }

    fn clients(&self, mode: Mode, connections: u32, descriptors: u64) -> Result<Clients, ScenarioError> {
        let connections = within("connections", connections, 1, COUNT_MAX)?;
        let to = if mode == Mode::Fanout { self.publish_to.unwrap_or_default() } else { Address::Room };
        let (rooms, rooms_per_connection) = self.rooms(mode, to, connections)?;
        let slow_share = share("slow_share", self.slow_share.unwrap_or(0.0))?;
        let slow_rate = within("slow_rate", self.slow_rate.unwrap_or(1024), 1, u32::MAX)?;
        let storm_share = share("storm_share", self.storm_share.unwrap_or(1.0))?;
        let per_process = descriptors.saturating_sub(DESCRIPTORS_SPARE).max(1);
        let processes_needed = u64::from(connections).div_ceil(per_process) as u32;
        Ok(Clients {
            connections,
            to,
            rooms,
            rooms_per_connection,
            exclude: if mode == Mode::Fanout { self.exclude.unwrap_or(0) } else { 0 },
            spread: self.spread.unwrap_or_default(),
            zipf_exponent: positive("zipf_exponent", self.zipf_exponent.unwrap_or(1.0), 10.0)?,
            ramp: Some(self.ramp.unwrap_or(5000)).filter(|ramp| *ramp > 0),
            heartbeat: Some(span(self.heartbeat, 30)).filter(|interval| !interval.is_zero()),
            churn_per_second: match self.churn {
                None | Some(0.0) => 0.0,
                Some(churn) => positive("churn", churn, 1e6)?,
            },
            slow: Slow {
                connections: (f64::from(connections) * slow_share).round() as u32,
                bytes_per_second: slow_rate,
            },
            storm: self.storm_after.map(|after| Storm { after: after.into(), share: storm_share }),
            cores: self.cores.clone().unwrap_or_default(),
            processes: match self.processes {
                None => processes_needed,
                Some(asked) => within("processes", asked, processes_needed, PROCESSES_MAX)?,
            },
            wait: self.wait.unwrap_or_default(),
            patience: span(self.patience, 10),
        })
    }

    /// Names of what publications go to, and how many of them each connection belongs to.
    fn rooms(&self, mode: Mode, to: Address, connections: u32) -> Result<(Vec<String>, u32), ScenarioError> {
        let numbered = |prefix: &str, count: u32| (0..count).map(|at| format!("{prefix}{at}")).collect();
        match to {
            Address::Room => {
                let rooms_min = if mode == Mode::Fanout { 1 } else { 0 };
                let rooms = within("rooms", self.rooms.unwrap_or(1), rooms_min, COUNT_MAX)?;
                let each = self.rooms_per_connection.unwrap_or(rooms_min);
                let each = within("rooms_per_connection", each, rooms_min, rooms)?;
                Ok((numbered(self.room_prefix.as_deref().unwrap_or("loadgen-"), rooms), each))
            }
            Address::Client => Ok((numbered("client ", connections), 1)),
            Address::User => {
                let users = within("users", self.users.unwrap_or(connections), 1, connections)?;
                Ok((numbered("loadgen-", users), 1))
            }
        }
    }

    /// Refuses what does not go together with whom publications are for.
    fn check_addresses(&self, dialect: Dialect) -> Result<(), ScenarioError> {
        let to = self.publish_to.unwrap_or_default();
        let is_excluding = self.exclude.unwrap_or(0) > 0;
        let of_ignis =
            [("publish_to", to != Address::Room), ("users", self.users.is_some()), ("exclude", is_excluding)];
        if let Some(name) = first_set(&of_ignis).filter(|_| dialect != Dialect::Ignis) {
            return Err(ScenarioError::NotIgnis { name });
        }
        let of_rooms = [
            ("rooms", self.rooms.is_some()),
            ("rooms_per_connection", self.rooms_per_connection.is_some()),
            ("room_prefix", self.room_prefix.is_some()),
            ("spread", self.spread.is_some()),
            ("zipf_exponent", self.zipf_exponent.is_some()),
            ("exclude", is_excluding),
        ];
        let of_users = [("users", self.users.is_some())];
        let (to, others): (_, &[(&[_], _)]) = match to {
            Address::Room => ("room", &[(&of_users, "user")]),
            Address::Client => ("client", &[(&of_rooms, "room"), (&of_users, "user")]),
            Address::User => ("user", &[(&of_rooms, "room")]),
        };
        for (names, expected) in others {
            if let Some(name) = first_set(names) {
                return Err(ScenarioError::NotFor { name, expected, to });
            }
        }
        within("exclude", self.exclude.unwrap_or(0), 0, EXCLUDE_MAX)?;
        let is_churning = self.churn.is_some_and(|churn| churn > 0.0);
        let away = [("churn", is_churning), ("storm_after", self.storm_after.is_some())];
        match first_set(&away).filter(|_| is_excluding) {
            Some(name) => Err(ScenarioError::ExcludeAway { name }),
            None => Ok(()),
        }
    }

    fn target(&self) -> Result<Target, ScenarioError> {
        let url = self.target.as_deref().unwrap_or("ws://127.0.0.1:8080/ws");
        let (address, host, path) = endpoint(url)?;
        let dialect = self.dialect.unwrap_or_default();
        if dialect != Dialect::Raw && (self.send.is_some() || self.ready.is_some()) {
            return Err(ScenarioError::NotRaw);
        }
        let script = Script {
            dialect,
            token: self.token.clone().unwrap_or_else(|| "ok".to_owned()),
            lines: self.send.clone().unwrap_or_default(),
            ready: self.ready.clone(),
        };
        Ok(Target { address, host, path, script, pid: self.server_pid })
    }

    fn publications(&self, dialect: Dialect) -> Result<Publications, ScenarioError> {
        self.check_addresses(dialect)?;
        let via = ViaOptions {
            url: self.publish.clone().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned()),
            key: self.publish_key.clone(),
            channel: self.publish_channel.clone(),
            body: self.publish_body.clone(),
            headers: self.publish_header.clone().unwrap_or_default(),
            batch: self.publish_batch,
            pipeline: self.publish_pipeline,
            to: self.publish_to.unwrap_or_default(),
            is_excluding: self.exclude.unwrap_or(0) > 0,
        };
        let pace = match self.rate {
            Some(_) if self.window.or(self.burst).is_some() => return Err(ScenarioError::BothLoops),
            Some(rate) => Pace::Open { per_second: positive("rate", rate, 1e7)? },
            None => {
                let window = within("window", self.window.or(self.burst).unwrap_or(1), 1, COUNT_MAX)?;
                Pace::Closed { window, burst: within("burst", self.burst.unwrap_or(1), 1, window)? }
            }
        };
        Ok(Publications {
            via: Via::new(dialect, via)?,
            sizes: Sizes::new(self.size.clone().unwrap_or_else(|| vec![128]))?,
            pace,
            warmup: span(self.warmup, 1),
            duration: span(self.duration, 5),
        })
    }

    fn idle(&self) -> Result<Idle, ScenarioError> {
        let at = self.at.clone().unwrap_or_else(|| vec![0, self.connections.unwrap_or(1000)]);
        if !at.is_sorted_by(|a, b| a < b) {
            return Err(ScenarioError::AtOrder { at });
        }
        Ok(Idle { at, settle: span(self.settle, 3), hold: span(self.hold, 5) })
    }
}

/// The name of the first that is set.
fn first_set(names: &[(&'static str, bool)]) -> Option<&'static str> {
    names.iter().find(|(_, is_set)| *is_set).map(|(name, _)| *name)
}

fn span(written: Option<Span>, default_secs: u64) -> Duration {
    written.map_or(Duration::from_secs(default_secs), Duration::from)
}

fn within(name: &'static str, value: u32, min: u32, max: u32) -> Result<u32, ScenarioError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(ScenarioError::Bounds { name, value: f64::from(value), expected: format!("{min} to {max}") })
}

fn positive(name: &'static str, value: f64, max: f64) -> Result<f64, ScenarioError> {
    if value > 0.0 && value <= max {
        return Ok(value);
    }
    Err(ScenarioError::Bounds { name, value, expected: format!("more than 0, at most {max}") })
}

fn share(name: &'static str, value: f64) -> Result<f64, ScenarioError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(ScenarioError::Bounds { name, value, expected: "0 to 1".to_owned() })
}

/// Address, `Host` header and path of a WebSocket URL; one without a host that can be found is refused.
fn endpoint(url: &str) -> Result<(SocketAddr, String, String), ScenarioError> {
    let rest = url.strip_prefix("ws://").ok_or_else(|| ScenarioError::Scheme { url: url.to_owned() })?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = address.ok_or_else(|| ScenarioError::Address { url: url.to_owned() })?;
    let path = if path.is_empty() { "/" } else { path };
    Ok((address, host.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests;
