//! Results, for people and for programs.
//!
//! Pure: figures in, text or JSON out. A figure that must not be believed is left out, and the reason stands in
//! its place.

use std::fmt;

use serde::Serialize;

use crate::engine::Reasons;
use crate::latency::Percentiles;
use crate::ledger::Counts;
use crate::verdict::Verdict;

/// Rooms with mismatches that are listed.
const ROOMS_LISTED_MAX: usize = 10;
const MIB: f64 = 1024.0 * 1024.0;

/// The result of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case", tag = "mode")]
pub(crate) enum Report {
    /// Publications to rooms.
    Fanout(Box<Fanout>),
    /// Connections that do nothing.
    Idle(Idle),
}

impl Report {
    /// What went wrong, a line each; nothing when the run is good.
    pub(crate) fn problems(&self) -> Vec<String> {
        match self {
            Self::Fanout(fanout) => fanout.problems(),
            Self::Idle(idle) => idle.losses.problems(),
        }
    }
}

/// What a fan-out run found.
#[derive(Debug, Serialize)]
pub(crate) struct Fanout {
    pub(crate) connections: u32,
    pub(crate) rooms: usize,
    pub(crate) rooms_per_connection: u32,
    pub(crate) data_bytes: usize,
    pub(crate) pace: String,
    pub(crate) publish: String,
    /// Measured publications.
    pub(crate) publications: u64,
    /// First copies of measured publications.
    pub(crate) deliveries: u64,
    /// From the first measured publication to the last delivery.
    pub(crate) seconds: f64,
    /// `None` when something else than the server was the limit, or something is missing.
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) verdict: Verdict,
    /// From due time to each member.
    pub(crate) to_member: Option<Percentiles>,
    /// From due time to the last member.
    pub(crate) to_last_member: Option<Percentiles>,
    /// All publications, warm-up included.
    pub(crate) ledger: Counts,
    /// Rooms whose books do not balance: name and counts.
    pub(crate) inexact_rooms: Vec<(String, Counts)>,
    /// Deliveries of rooms the member had not joined.
    pub(crate) strangers: u64,
    /// Messages whose text is not the one published.
    pub(crate) altered: u64,
    /// Messages of other runs.
    pub(crate) foreign: u64,
    /// Messages that are no publications, by their text.
    pub(crate) unstamped: Reasons,
    /// The closed loop ended early, waiting for what does not arrive.
    pub(crate) is_stalled: bool,
    pub(crate) losses: Losses,
    pub(crate) server: Option<ServerCost>,
    pub(crate) generator: GeneratorLoad,
}

/// What the server spent on the measured publications.
#[derive(Debug, Serialize)]
pub(crate) struct ServerCost {
    pub(crate) cpu_seconds: f64,
    pub(crate) cores: f64,
    /// Cores' worth of time its threads were ready to run while others ran: above nothing, the machine was shared.
    pub(crate) cores_waited_for: f64,
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) deliveries_per_cpu_second: f64,
    pub(crate) resident_bytes: u64,
}

/// What the generator spent.
#[derive(Debug, Serialize)]
pub(crate) struct GeneratorLoad {
    pub(crate) threads: Vec<ThreadLoad>,
    /// Resident bytes beyond those before the first connection, per connection.
    pub(crate) bytes_per_connection: f64,
    /// How late publications left.
    pub(crate) send_lag: Option<Percentiles>,
}

/// What one thread did with its time, in shares of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ThreadLoad {
    pub(crate) name: String,
    /// Running.
    pub(crate) run: f64,
    /// Ready to run while others ran.
    pub(crate) wait: f64,
    /// Rounds of the loop that found something to do; `None` for the publisher.
    pub(crate) busy: Option<f64>,
}

/// Connections that failed or ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Losses {
    pub(crate) failed: u32,
    pub(crate) lost: u32,
    pub(crate) reasons: Reasons,
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
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.is_stalled {
            problems.push("the closed loop ended early: it waited for what does not arrive".to_owned());
        }
        if !self.ledger.is_exact() {
            let Counts { missing, duplicate, out_of_order, expected, .. } = self.ledger;
            problems.push(format!(
                "ledger mismatch: {missing} missing, {duplicate} duplicate, {out_of_order} out of order, of {expected}"
            ));
            for (room, counts) in self.inexact_rooms.iter().take(ROOMS_LISTED_MAX) {
                let Counts { missing, duplicate, out_of_order, expected, .. } = counts;
                problems.push(format!(
                    "  {room}: {missing} missing, {duplicate} duplicate, {out_of_order} out of order, of {expected}"
                ));
            }
        }
        if self.strangers > 0 {
            problems.push(format!("{} deliveries to members who had not joined the room", self.strangers));
        }
        if self.altered > 0 {
            problems.push(format!("{} messages were not as published", self.altered));
        }
        problems.extend(self.losses.problems());
        problems
    }
}

/// What an idle run found.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) steps: Vec<IdleStep>,
    /// Resident bytes per connection from the first step to the last.
    pub(crate) server_bytes_per_connection: Option<f64>,
    /// Resident bytes of the generator, in the same way.
    pub(crate) generator_bytes_per_connection: f64,
    pub(crate) losses: Losses,
}

/// What was measured at one number of connections.
#[derive(Debug, Serialize)]
pub(crate) struct IdleStep {
    pub(crate) connections: u32,
    pub(crate) server_resident_bytes: Option<u64>,
    /// Resident bytes per connection from the step before to this one.
    pub(crate) server_bytes_per_connection: Option<f64>,
    pub(crate) generator_resident_bytes: u64,
    /// CPU time of the server a second, in microseconds.
    pub(crate) server_cpu_us_per_second: Option<f64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fanout(fanout) => fanout.fmt(f),
            Self::Idle(idle) => idle.fmt(f),
        }
    }
}

impl fmt::Display for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<26}{value}");
        let Self { connections, rooms, rooms_per_connection, data_bytes, pace, publish, .. } = self;
        row(
            "clients",
            format!("{connections} connections, {rooms} rooms, {rooms_per_connection} joined by each"),
        )?;
        row("publications", format!("{data_bytes} B of data, {pace}, through {publish}"))?;
        let Self { publications, deliveries, seconds, .. } = self;
        row("measured", format!("{publications} publications, {deliveries} deliveries, {seconds:.3} s"))?;
        row("verdict", self.verdict.to_string())?;
        let rate = self.deliveries_per_second;
        row(
            "deliveries/s",
            match rate {
                Some(rate) if matches!(self.verdict, Verdict::Server { .. }) => {
                    format!("{rate:.0} (capacity)")
                }
                Some(rate) => format!("{rate:.0} (reached, not a capacity)"),
                None if !self.verdict.is_of_server() => "not told: the server was not the limit".to_owned(),
                None => "not told: not everything arrived".to_owned(),
            },
        )?;
        for (name, latency) in
            [("publish → member", &self.to_member), ("publish → last member", &self.to_last_member)]
        {
            row(name, latency.as_ref().map_or("nothing measured".to_owned(), Percentiles::to_string))?;
        }
        let Counts { expected, delivered, missing, duplicate, out_of_order } = self.ledger;
        row(
            "ledger, warm-up included",
            format!(
                "{expected} expected, {delivered} delivered, {missing} missing, {duplicate} duplicate, \
                 {out_of_order} out of order"
            ),
        )?;
        if let Some(server) = &self.server {
            let ServerCost { cpu_seconds, cores, cpu_us_per_delivery, deliveries_per_cpu_second, .. } =
                server;
            row("server CPU", format!("{cpu_seconds:.3} s, {cores:.2} cores"))?;
            row("CPU-µs/delivery", format!("{cpu_us_per_delivery:.4}"))?;
            row("deliveries/CPU-second", format!("{deliveries_per_cpu_second:.0}"))?;
            row("server memory", format!("{:.1} MiB", server.resident_bytes as f64 / MIB))?;
        }
        for ThreadLoad { name, run, wait, busy } in &self.generator.threads {
            let busy = busy.map_or(String::new(), |busy| format!(", {:.0} % busy", busy * 100.0));
            row(
                name,
                format!("{:.0} % running, {:.0} % waiting for the CPU{busy}", run * 100.0, wait * 100.0),
            )?;
        }
        if let Some(lag) = &self.generator.send_lag {
            row("send lag", lag.to_string())?;
        }
        row("generator memory", format!("{:.0} B/connection", self.generator.bytes_per_connection))?;
        if self.foreign > 0 {
            row("messages of other runs", self.foreign.to_string())?;
        }
        for (text, count) in &self.unstamped {
            row("other messages", format!("{count} × {text}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let mut row = |[connections, memory, slope, cpu, generator]: [&str; 5]| {
            writeln!(f, "{connections:>12} {memory:>12} {slope:>20} {cpu:>18} {generator:>14}")
        };
        row(["connections", "server MiB", "B/connection since", "server CPU-µs/s", "generator MiB"])?;
        for step in &self.steps {
            row([
                &step.connections.to_string(),
                &told(step.server_resident_bytes.map(|bytes| bytes as f64 / MIB)),
                &told(step.server_bytes_per_connection),
                &told(step.server_cpu_us_per_second),
                &told(Some(step.generator_resident_bytes as f64 / MIB)),
            ])?;
        }
        if let Some(bytes) = self.server_bytes_per_connection {
            writeln!(f, "server memory     {bytes:.0} B/connection, first step to last")?;
        }
        writeln!(f, "generator memory  {:.0} B/connection", self.generator_bytes_per_connection)
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us, .. } = *self;
        let ms = |micros: u64| micros as f64 / 1e3;
        let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(ms);
        write!(f, "p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3} ms")
    }
}
