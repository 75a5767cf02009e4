//! What a run does: from a TOML file, from flags, and from defaults, checked as a whole before anything starts.
//!
//! [`Options`] is what was written, every field optional; flags win over the file. [`Scenario`] is what will be
//! done: complete and within bounds.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use thiserror::Error;

use crate::dialect::Dialect;
use crate::span::Span;
use crate::stamp;

/// Most members, rooms or publications outstanding at a time that the books are laid out for.
const COUNT_MAX: u32 = 10_000_000;

/// Settings as written in a scenario file or as flags.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    /// What to do, in a file: "fanout" or "idle"
    #[arg(skip)]
    pub(crate) mode: Option<Mode>,
    /// Server under test [default: ws://127.0.0.1:8080/ws]
    #[arg(long, value_name = "URL", help_heading = "Server")]
    pub(crate) target: Option<String>,
    /// Protocol of the clients [default: ignis]
    #[arg(long, help_heading = "Server")]
    pub(crate) dialect: Option<Dialect>,
    /// Token every client logs in with [default: ok]
    #[arg(long, help_heading = "Server")]
    pub(crate) token: Option<String>,
    /// Process of the server: its CPU time and memory are reported
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub(crate) server_pid: Option<u32>,
    /// Connections in all [default: 1000]
    #[arg(short = 'n', long, value_name = "N", help_heading = "Clients")]
    pub(crate) connections: Option<u32>,
    /// Rooms in all [default: 1]
    #[arg(long, value_name = "N", help_heading = "Clients")]
    pub(crate) rooms: Option<u32>,
    /// Rooms every connection joins, chosen so that all rooms have equally many members [default: fanout 1, idle 0]
    #[arg(long, value_name = "N", help_heading = "Clients")]
    pub(crate) rooms_per_connection: Option<u32>,
    /// Name of a room without its number [default: loadgen-]
    #[arg(long, value_name = "TEXT", help_heading = "Clients")]
    pub(crate) room_prefix: Option<String>,
    /// New connections a second, 0 = as fast as the server takes them [default: 5000]
    #[arg(long, value_name = "N", help_heading = "Clients")]
    pub(crate) ramp: Option<u32>,
    /// Every connection sends a heartbeat this often, 0s = never [default: 30s]
    #[arg(long, value_name = "SPAN", help_heading = "Clients")]
    pub(crate) heartbeat: Option<Span>,
    /// One thread pinned to each of these CPU cores, such as 1 or 2,3 [default: one thread, not pinned]
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = "Generator")]
    pub(crate) cores: Option<Vec<usize>>,
    /// How threads wait for data: spin costs a core and spares the server the wake-ups [default: sleep]
    #[arg(long, help_heading = "Generator")]
    pub(crate) wait: Option<Wait>,
    /// Give up when nothing moved for so long [default: 10s]
    #[arg(long, value_name = "SPAN", help_heading = "Generator")]
    pub(crate) patience: Option<Span>,
    /// Where to publish: redis://HOST:PORT, or http://HOST:PORT/api/emit [default: redis://127.0.0.1:6379]
    #[arg(long, value_name = "URL", help_heading = "Publications (fanout)")]
    pub(crate) publish: Option<String>,
    /// Bearer key of the HTTP API
    #[arg(long, value_name = "KEY", help_heading = "Publications (fanout)")]
    pub(crate) publish_key: Option<String>,
    /// Bytes of data in every publication, a JSON string with its quotes [default: 128]
    #[arg(long, value_name = "BYTES", help_heading = "Publications (fanout)")]
    pub(crate) size: Option<u32>,
    /// Closed loop: keep so many publications outstanding [default: 1]
    #[arg(
        short = 'w',
        long,
        value_name = "N",
        conflicts_with = "rate",
        help_heading = "Publications (fanout)"
    )]
    pub(crate) window: Option<u32>,
    /// Closed loop: publish so many together, as soon as the window has room for all [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "rate", help_heading = "Publications (fanout)")]
    pub(crate) burst: Option<u32>,
    /// Open loop: publications a second, due whether or not the last one arrived
    #[arg(short = 'r', long, value_name = "PER_SECOND", help_heading = "Publications (fanout)")]
    pub(crate) rate: Option<f64>,
    /// Publish so long before measuring [default: 1s]
    #[arg(long, value_name = "SPAN", help_heading = "Publications (fanout)")]
    pub(crate) warmup: Option<Span>,
    /// Measure so long [default: 5s]
    #[arg(short = 'd', long, value_name = "SPAN", help_heading = "Publications (fanout)")]
    pub(crate) duration: Option<Span>,
    /// Measure at each of these numbers of connections [default: 0 and --connections]
    #[arg(long, value_name = "N,N", value_delimiter = ',', help_heading = "Idle")]
    pub(crate) at: Option<Vec<u32>>,
    /// Wait so long before each measurement of memory [default: 3s]
    #[arg(long, value_name = "SPAN", help_heading = "Idle")]
    pub(crate) settle: Option<Span>,
    /// Measure the idle CPU time over so long [default: 5s]
    #[arg(long, value_name = "SPAN", help_heading = "Idle")]
    pub(crate) hold: Option<Span>,
    /// Write the result to this file as well
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
}

/// What a run measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Publications to rooms.
    Fanout,
    /// Connections that do nothing.
    Idle,
}

/// How engine threads wait for data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Wait {
    /// In the kernel.
    #[default]
    Sleep,
    /// Asking over and over, so that the sender of loopback data never pays for a wake-up.
    Spin,
}

/// When publications are due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// As the last ones arrive.
    Closed { window: u32, burst: u32 },
    /// By the clock.
    Open { per_second: f64 },
}

/// Where publications go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// `PUBLISH` to this Redis.
    Redis { address: SocketAddr },
    /// `POST` to this path of this server.
    Http { address: SocketAddr, host: String, path: String, key: Option<String> },
}

/// The server under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) dialect: Dialect,
    pub(crate) token: String,
    pub(crate) pid: Option<u32>,
}

/// The clients.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Clients {
    pub(crate) connections: u32,
    pub(crate) rooms: Vec<String>,
    /// At most the number of rooms.
    pub(crate) rooms_per_connection: u32,
    /// New connections a second, `None` without limit.
    pub(crate) ramp: Option<u32>,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) cores: Vec<usize>,
    pub(crate) wait: Wait,
    pub(crate) patience: Duration,
}

/// The publications of a fan-out run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Publications {
    pub(crate) via: Via,
    pub(crate) data_bytes: usize,
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
    Fanout(Publications),
    Idle(Idle),
}

/// A complete and checked run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) target: Target,
    pub(crate) clients: Clients,
    pub(crate) work: Work,
}

/// What is wrong with the settings.
#[derive(Debug, Error)]
pub(crate) enum ScenarioError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Malformed { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: `mode` is missing: \"fanout\" or \"idle\"", path.display())]
    ModeMissing { path: PathBuf },
    #[error("{name} = {url:?} does not start with {expected}")]
    Scheme { name: &'static str, url: String, expected: &'static str },
    #[error("{name} = {url:?} does not name a host and a port")]
    Address { name: &'static str, url: String },
    #[error("{name} = {value} is out of bounds: {expected}")]
    Bounds { name: &'static str, value: f64, expected: String },
    #[error("window and burst are of the closed loop, rate is of the open one: leave one of them out")]
    BothLoops,
    #[error("at = {at:?}: the numbers must rise")]
    AtOrder { at: Vec<u32> },
}

impl Options {
    /// Reads a scenario file.
    pub(crate) fn read(path: PathBuf) -> Result<Self, ScenarioError> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(ScenarioError::Unreadable { path, source }),
        };
        let options: Self = match toml::from_str(&text) {
            Ok(options) => options,
            Err(source) => return Err(ScenarioError::Malformed { path, source: Box::new(source) }),
        };
        if options.mode.is_none() {
            return Err(ScenarioError::ModeMissing { path });
        }
        Ok(options)
    }

    /// These settings, and where they say nothing, those of `below`.
    pub(crate) fn over(self, below: Self) -> Self {
        // A loop chosen above replaces the one chosen below.
        let (window, burst, rate) = match (self.window.or(self.burst), self.rate) {
            (None, None) => (below.window, below.burst, below.rate),
            _ => (self.window, self.burst, self.rate),
        };
        Self {
            mode: self.mode.or(below.mode),
            target: self.target.or(below.target),
            dialect: self.dialect.or(below.dialect),
            token: self.token.or(below.token),
            server_pid: self.server_pid.or(below.server_pid),
            connections: self.connections.or(below.connections),
            rooms: self.rooms.or(below.rooms),
            rooms_per_connection: self.rooms_per_connection.or(below.rooms_per_connection),
            room_prefix: self.room_prefix.or(below.room_prefix),
            ramp: self.ramp.or(below.ramp),
            heartbeat: self.heartbeat.or(below.heartbeat),
            cores: self.cores.or(below.cores),
            wait: self.wait.or(below.wait),
            patience: self.patience.or(below.patience),
            publish: self.publish.or(below.publish),
            publish_key: self.publish_key.or(below.publish_key),
            size: self.size.or(below.size),
            window,
            burst,
            rate,
            warmup: self.warmup.or(below.warmup),
            duration: self.duration.or(below.duration),
            at: self.at.or(below.at),
            settle: self.settle.or(below.settle),
            hold: self.hold.or(below.hold),
            json: self.json.or(below.json),
        }
    }

    /// Fills in the defaults and checks everything.
    pub(crate) fn into_scenario(self, mode: Mode) -> Result<Scenario, ScenarioError> {
        let target = self.target()?;
        let (work, connections) = match mode {
            Mode::Fanout => (Work::Fanout(self.publications()?), self.connections.unwrap_or(1000)),
            Mode::Idle => {
                let idle = self.idle()?;
                let connections = idle.at.last().copied().unwrap_or(0);
                (Work::Idle(idle), connections)
            }
        };
        let rooms_min = if mode == Mode::Fanout { 1 } else { 0 };
        let connections = within("connections", connections, 1, COUNT_MAX)?;
        let rooms = within("rooms", self.rooms.unwrap_or(1), rooms_min, COUNT_MAX)?;
        let rooms_per_connection = self.rooms_per_connection.unwrap_or(rooms_min);
        let rooms_per_connection = within("rooms_per_connection", rooms_per_connection, rooms_min, rooms)?;
        let prefix = self.room_prefix.as_deref().unwrap_or("loadgen-");
        let clients = Clients {
            connections,
            rooms: (0..rooms).map(|room| format!("{prefix}{room}")).collect(),
            rooms_per_connection,
            ramp: Some(self.ramp.unwrap_or(5000)).filter(|ramp| *ramp > 0),
            heartbeat: Some(span(self.heartbeat, 30)).filter(|interval| !interval.is_zero()),
            cores: self.cores.unwrap_or_default(),
            wait: self.wait.unwrap_or_default(),
            patience: span(self.patience, 10),
        };
        Ok(Scenario { target, clients, work })
    }

    fn target(&self) -> Result<Target, ScenarioError> {
        let url = self.target.as_deref().unwrap_or("ws://127.0.0.1:8080/ws");
        let (address, host, path) = endpoint("target", url, "ws://")?;
        Ok(Target {
            address,
            host,
            path,
            dialect: self.dialect.unwrap_or_default(),
            token: self.token.clone().unwrap_or_else(|| "ok".to_owned()),
            pid: self.server_pid,
        })
    }

    fn publications(&self) -> Result<Publications, ScenarioError> {
        let url = self.publish.as_deref().unwrap_or("redis://127.0.0.1:6379");
        let via = if url.starts_with("http://") {
            let (address, host, path) = endpoint("publish", url, "http://")?;
            Via::Http { address, host, path, key: self.publish_key.clone() }
        } else {
            let (address, ..) = endpoint("publish", url, "redis:// or http://")?;
            Via::Redis { address }
        };
        let pace = match self.rate {
            Some(_) if self.window.or(self.burst).is_some() => return Err(ScenarioError::BothLoops),
            Some(per_second) if per_second > 0.0 && per_second <= 1e7 => Pace::Open { per_second },
            Some(value) => {
                let expected = "more than 0, at most 10000000".to_owned();
                return Err(ScenarioError::Bounds { name: "rate", value, expected });
            }
            None => {
                let window = within("window", self.window.or(self.burst).unwrap_or(1), 1, COUNT_MAX)?;
                Pace::Closed { window, burst: within("burst", self.burst.unwrap_or(1), 1, window)? }
            }
        };
        let data_bytes = within("size", self.size.unwrap_or(128), stamp::DATA_BYTES_MIN as u32, 16 << 20)?;
        Ok(Publications {
            via,
            data_bytes: data_bytes as usize,
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

fn span(written: Option<Span>, default_secs: u64) -> Duration {
    written.map_or(Duration::from_secs(default_secs), Duration::from)
}

fn within(name: &'static str, value: u32, min: u32, max: u32) -> Result<u32, ScenarioError> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(ScenarioError::Bounds { name, value: f64::from(value), expected: format!("{min} to {max}") })
}

/// Address, `Host` header and path of a URL. `schemes` is what the URL may start with, in words; one without a
/// host that can be found is refused.
fn endpoint(
    name: &'static str,
    url: &str,
    schemes: &'static str,
) -> Result<(SocketAddr, String, String), ScenarioError> {
    let rest = schemes.split(" or ").find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or_else(|| ScenarioError::Scheme { name, url: url.to_owned(), expected: schemes })?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = host.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = address.ok_or_else(|| ScenarioError::Address { name, url: url.to_owned() })?;
    let path = if path.is_empty() { "/" } else { path };
    Ok((address, host.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(text: &str) -> Result<Scenario, String> {
        let options: Options = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mode = options.mode.expect("a mode");
        options.into_scenario(mode).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_with_nothing_but_its_mode_is_complete() {
        let fanout = scenario("mode = 'fanout'").expect("valid");
        let Work::Fanout(publications) = fanout.work else { panic!("not a fan-out") };
        assert_eq!(publications.pace, Pace::Closed { window: 1, burst: 1 });
        assert_eq!(
            (fanout.clients.connections, fanout.clients.rooms.as_slice()),
            (1000, &["loadgen-0".into()][..])
        );
        let idle = scenario("mode = 'idle'").expect("valid");
        let Work::Idle(work) = idle.work else { panic!("not idle") };
        assert_eq!((work.at, idle.clients.rooms_per_connection), (vec![0, 1000], 0));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("target = 'http://h'", "target = \"http://h\" does not start with ws://"),
            (
                "target = 'ws://127.0.0.1/ws'",
                "target = \"ws://127.0.0.1/ws\" does not name a host and a port",
            ),
            ("publish = 'tcp://h'", "publish = \"tcp://h\" does not start with redis:// or http://"),
            ("connections = 0", "connections = 0 is out of bounds: 1 to 10000000"),
            ("rooms_per_connection = 2", "rooms_per_connection = 2 is out of bounds: 1 to 1"),
            ("size = 53", "size = 53 is out of bounds: 54 to 16777216"),
            ("rate = 0.0", "rate = 0 is out of bounds: more than 0, at most 10000000"),
            ("window = 2\nburst = 3", "burst = 3 is out of bounds: 1 to 2"),
            (
                "window = 2\nrate = 3.0",
                "window and burst are of the closed loop, rate is of the open one: leave one of them out",
            ),
            ("duration = '5'", "\"5\" is not a span: a number and ms, s, m or h, such as 500ms or 1.5s"),
        ];
        for (line, expected) in table {
            assert_eq!(scenario(&format!("mode = 'fanout'\n{line}")), Err(expected.to_owned()), "{line}");
        }
        let descending = scenario("mode = 'idle'\nat = [5, 5]");
        assert_eq!(descending, Err("at = [5, 5]: the numbers must rise".to_owned()));
        let unknown = scenario("mode = 'fanout'\nconections = 1").expect_err("an unknown key");
        assert!(unknown.starts_with("unknown field `conections`"), "{unknown}");
    }

    #[test]
    fn flags_win_over_the_file_and_a_loop_replaces_the_other() {
        let file: Options =
            toml::from_str("mode = 'fanout'\nconnections = 5\nrate = 10.0\nsize = 200").expect("valid");
        let flags = Options { connections: Some(7), window: Some(3), ..Options::default() };
        let scenario = flags.over(file).into_scenario(Mode::Fanout).expect("valid");
        let Work::Fanout(publications) = scenario.work else { panic!("not a fan-out") };
        assert_eq!((scenario.clients.connections, publications.data_bytes), (7, 200));
        assert_eq!(publications.pace, Pace::Closed { window: 3, burst: 1 });
    }
}
