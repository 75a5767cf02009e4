//! Settings as written: in a TOML file, as flags, or both. Nothing is checked here but their form.

use std::fs;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Deserializer};

use super::{Address, Goodbye, Mode, ScenarioError, Wait};
use crate::dialect::Dialect;
use crate::publisher::Batch;
use crate::requirement::Requirement;
use crate::span::Span;
use crate::spread::Spread;

const SERVER: &str = "Server";
const CLIENTS: &str = "Clients";
const TROUBLE: &str = "Trouble on purpose";
const GENERATOR: &str = "Generator";
const PUBLICATIONS: &str = "Publications (not idle)";
const IDLE: &str = "Idle";
const CONNECT: &str = "Connect";
const OUTPUT: &str = "Output";

/// Declares [`Options`], every field optional, and how one set of them is laid over another.
macro_rules! options {
    ($($(#[$attribute:meta])* $name:ident: $type:ty,)*) => {
        /// Settings as written in a scenario file or as flags.
        #[derive(Args, Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Options {
            $($(#[$attribute])* pub(crate) $name: Option<$type>,)*
        }

        impl Options {
            /// These settings, and where they say nothing, those of `below`. A loop chosen above replaces the one
            /// chosen below.
            pub(crate) fn over(self, mut below: Self) -> Self {
                if self.rate.is_some() || self.window.is_some() || self.burst.is_some() {
                    (below.rate, below.window, below.burst) = (None, None, None);
                }
                Self { $($name: self.$name.or(below.$name),)* }
            }
        }
    };
}

options! {
    /// What to do, in a file: "fanout", "idle" or "connect"
    #[arg(skip)]
    mode: Mode,
    /// Server under test; {room} in the path is the first room of the connection [default: ws://127.0.0.1:8080/ws]
    #[arg(long, value_name = "URL", help_heading = SERVER)]
    target: String,
    /// Protocol of the clients [default: ignis]
    #[arg(long, help_heading = SERVER)]
    dialect: Dialect,
    /// Token every client logs in with; {user} in it is the user: ignis, topic [default: ok]
    #[arg(long, help_heading = SERVER)]
    token: String,
    /// Text a client sends after connecting, once for each of its rooms when it contains {room} or {room_json};
    /// repeat for more: raw
    #[arg(long, value_name = "TEXT", help_heading = SERVER)]
    send: Vec<String>,
    /// A client is live when a message contains this: raw [default: at once]
    #[arg(long, value_name = "TEXT", help_heading = SERVER)]
    ready: String,
    /// Process of the server: its CPU time and memory are reported
    #[arg(long, value_name = "PID", help_heading = SERVER)]
    server_pid: u32,
    /// Connections in all; connect: attempts in all [default: 1000; connect with --close: no limit]
    #[arg(short = 'n', long, value_name = "N", help_heading = CLIENTS)]
    connections: u32,
    /// Rooms in all [default: 1]
    #[arg(long, value_name = "N", help_heading = CLIENTS)]
    rooms: u32,
    /// Rooms every connection joins [default: fanout 1, others 0]
    #[arg(long, value_name = "N", help_heading = CLIENTS)]
    rooms_per_connection: u32,
    /// How members spread over rooms [default: equal]
    #[arg(long, help_heading = CLIENTS)]
    spread: Spread,
    /// Exponent of --spread zipf: the larger, the fewer rooms have most of the members [default: 1]
    #[arg(long, value_name = "S", help_heading = CLIENTS)]
    zipf_exponent: f64,
    /// Name of a room without its number [default: loadgen-]
    #[arg(long, value_name = "TEXT", help_heading = CLIENTS)]
    room_prefix: String,
    /// New connections a second, 0 = as fast as the server takes them; connect: attempts due a second, by the clock
    /// [default: 5000; connect: 0]
    #[arg(long, value_name = "N", help_heading = CLIENTS)]
    ramp: u32,
    /// Every connection sends a heartbeat this often, 0s = never [default: 30s]
    #[arg(long, value_name = "SPAN", help_heading = CLIENTS)]
    heartbeat: Span,
    /// So many connections a second say goodbye and come back at once [default: 0]
    #[arg(long, value_name = "PER_SECOND", help_heading = TROUBLE)]
    churn: f64,
    /// This share of the connections, 0 to 1, reads slowly; they are judged apart [default: 0]
    #[arg(long, value_name = "SHARE", help_heading = TROUBLE)]
    slow_share: f64,
    /// Bytes a second each of them reads [default: 1024]
    #[arg(long, value_name = "BYTES", help_heading = TROUBLE)]
    slow_rate: u32,
    /// Reconnect storm: so long into the measured time connections break, and come back at the ramp
    #[arg(long, value_name = "SPAN", help_heading = TROUBLE)]
    storm_after: Span,
    /// This share of the connections, 0 to 1, breaks in the storm [default: 1]
    #[arg(long, value_name = "SHARE", help_heading = TROUBLE)]
    storm_share: f64,
    /// So many extra clients a second, who are in no ledger, come, log in and leave while measuring: fanout [default: 0]
    #[arg(long, value_name = "PER_SECOND", help_heading = TROUBLE)]
    visitors: f64,
    /// Missing messages and lost connections are what the scenario is about: reported, but no failure
    #[arg(long, num_args = 0, default_missing_value = "true", value_name = "BOOL", help_heading = TROUBLE)]
    expect_loss: bool,
    /// One thread pinned to each of these CPU cores, such as 1 or 2,3 [default: one thread, not pinned]
    #[arg(long, value_name = "CORES", value_delimiter = ',', help_heading = GENERATOR)]
    cores: Vec<usize>,
    /// Processes the connections are shared among [default: as many as the limit of open files asks for]
    #[arg(long, value_name = "N", help_heading = GENERATOR)]
    processes: u32,
    /// How threads wait for data: spin costs a core and spares the server the wake-ups [default: sleep]
    #[arg(long, help_heading = GENERATOR)]
    wait: Wait,
    /// Give up when nothing moved for so long; connect: on an attempt [default: 10s]
    #[arg(long, value_name = "SPAN", help_heading = GENERATOR)]
    patience: Span,
    /// Where to publish: redis://[user:password@]HOST:PORT, or http://HOST:PORT/path; {room} in the path is the room
    /// [default: redis://127.0.0.1:6379]
    #[arg(long, value_name = "URL", help_heading = PUBLICATIONS)]
    publish: String,
    /// Bearer key of the HTTP API
    #[arg(long, value_name = "KEY", help_heading = PUBLICATIONS)]
    publish_key: String,
    /// Redis channel of a room, with {room} [default: the dialect's]
    #[arg(long, value_name = "TEMPLATE", help_heading = PUBLICATIONS)]
    publish_channel: String,
    /// One publication, with {data} (a JSON string) or {stamp} (its text), {room}, {room_json}, {exclude} (a list of
    /// client ids); {room} is the client or user with --publish-to [default: the dialect's]
    #[arg(long, value_name = "TEMPLATE", help_heading = PUBLICATIONS)]
    publish_body: String,
    /// Header of every HTTP request; repeat for more
    #[arg(long, value_name = "NAME: VALUE", help_heading = PUBLICATIONS)]
    publish_header: Vec<String>,
    /// How several publications go into one HTTP request [default: the dialect's]
    #[arg(long, help_heading = PUBLICATIONS)]
    publish_batch: Batch,
    /// HTTP requests in flight on the one connection [default: 1]
    #[arg(long, value_name = "N", help_heading = PUBLICATIONS)]
    publish_pipeline: u32,
    /// Bytes of data in a publication, a JSON string with its quotes, 54 at least; of several, such as
    /// 54,512,65536, every room takes one after another [default: 128]
    #[arg(long, value_name = "BYTES,BYTES", value_delimiter = ',', help_heading = PUBLICATIONS)]
    #[serde(default, deserialize_with = "one_or_more")]
    size: Vec<u32>,
    /// Whom a publication is for: the members of a room, one client by its id, or all clients of a user: ignis
    /// [default: room]
    #[arg(long, help_heading = PUBLICATIONS)]
    publish_to: Address,
    /// Users the clients are spread over, with --publish-to user [default: as many as connections]
    #[arg(long, value_name = "N", help_heading = PUBLICATIONS)]
    users: u32,
    /// So many members of the room, others each time, are left out of every publication: ignis [default: 0]
    #[arg(long, value_name = "N", help_heading = PUBLICATIONS)]
    exclude: u32,
    /// Closed loop: keep so many publications outstanding [default: 1]
    #[arg(short = 'w', long, value_name = "N", conflicts_with = "rate", help_heading = PUBLICATIONS)]
    window: u32,
    /// Closed loop: publish so many together, as soon as the window has room for all [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "rate", help_heading = PUBLICATIONS)]
    burst: u32,
    /// Open loop: publications a second, due whether or not the last one arrived
    #[arg(short = 'r', long, value_name = "PER_SECOND", help_heading = PUBLICATIONS)]
    rate: f64,
    /// Publish so long before measuring [default: 1s]
    #[arg(long, value_name = "SPAN", help_heading = PUBLICATIONS)]
    warmup: Span,
    /// Measure so long; connect: begin no attempt later [default: 5s; connect: until all were made]
    #[arg(short = 'd', long, value_name = "SPAN", help_heading = PUBLICATIONS)]
    duration: Span,
    /// Measure at each of these numbers of connections [default: 0 and --connections]
    #[arg(long, value_name = "N,N", value_delimiter = ',', help_heading = IDLE)]
    at: Vec<u32>,
    /// Wait so long before each measurement of memory [default: 3s]
    #[arg(long, value_name = "SPAN", help_heading = IDLE)]
    settle: Span,
    /// Measure the idle CPU time over so long [default: 5s]
    #[arg(long, value_name = "SPAN", help_heading = IDLE)]
    hold: Span,
    /// Attempts under way at a time; one begins as another ends, or is due by --ramp [default: 64; with --ramp and for
    /// --visitors 1024]
    #[arg(long, value_name = "N", help_heading = CONNECT)]
    in_flight: u32,
    /// Live connections end at once, so that a storm needs no more open files than --in-flight: with a goodbye, after
    /// which the server ends the connection, or with a reset [default: they stay; of --close and --visitors: clean]
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "clean", help_heading = CONNECT)]
    close: Goodbye,
    /// What must be true of the result, such as p99<=50ms or cpu_us_per_delivery<6; else the exit code is 1; repeat
    /// for more
    #[arg(long, value_name = "METRIC<=VALUE", help_heading = OUTPUT)]
    require: Vec<Requirement>,
    /// Whose run this is, for `compare`
    #[arg(long, value_name = "NAME", help_heading = OUTPUT)]
    label: String,
    /// Write the result to this file as well
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    json: PathBuf,
    /// Write the result as a page with plots to this file
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    html: PathBuf,
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
}

/// Reads a number, or a list of them.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u32>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a number of bytes, or a list of such")]
    enum OneOrMore {
        One(u32),
        More(Vec<u32>),
    }
    Ok(Some(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::One(one) => vec![one],
        OneOrMore::More(more) => more,
    }))
}
