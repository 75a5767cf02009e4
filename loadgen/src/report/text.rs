//! Reports on the terminal: a name and its value a row.

use std::fmt;

use super::{
    Checked, Connect, Fanout, Idle, Knee, Losses, Report, Search, SearchStep, ServerCost, SlowReaders,
    ThreadLoad,
};
use crate::latency::Percentiles;
use crate::ledger::Counts;
use crate::metrics::{Unit, significant};
use crate::requirement::Requirement;
use crate::verdict::Verdict;

const MIB: f64 = 1024.0 * 1024.0;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fanout(fanout) => fanout.fmt(f),
            Self::Idle(idle) => idle.fmt(f),
            Self::Connect(run) => run.fmt(f),
            Self::Search(search) => search.fmt(f),
        }
    }
}

/// One row: a name, and its value where all values begin.
fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<26}{value}")
}

impl fmt::Display for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = &self.scenario;
        if let Some(label) = &self.label {
            row(f, "label", label)?;
        }
        row(f, "clients", scenario.clients_in_words())?;
        for trouble in scenario.troubles_in_words() {
            row(f, "", trouble)?;
        }
        let (sizes, pace, publish) = (scenario.sizes_in_words(), scenario.pace_in_words(), &scenario.publish);
        row(f, "publications", format_args!("{sizes} of data, {pace}, through {publish}"))?;
        let Self { publications, deliveries, seconds, .. } = self;
        row(
            f,
            "measured",
            format_args!("{publications} publications, {deliveries} deliveries, {seconds:.3} s"),
        )?;
        row(f, "verdict", self.verdict)?;
        row(f, "deliveries/s", self.rate_in_words())?;
        for (name, latency) in
            [("publish → member", &self.to_member), ("publish → last member", &self.to_last_member)]
        {
            row(f, name, latency.map_or("nothing measured".to_owned(), |latency| latency.to_string()))?;
        }
        row(f, "ledger, warm-up included", self.ledger)?;
        self.fmt_clients(f)?;
        self.fmt_costs(f)?;
        for (name, checked) in ["requirements"].iter().chain(std::iter::repeat(&"")).zip(&self.requirements) {
            row(f, name, checked)?;
        }
        Ok(())
    }
}

impl Fanout {
    /// The rate that was reached and what it means; why there is none, when there is none.
    pub(super) fn rate_in_words(&self) -> String {
        match self.deliveries_per_second {
            Some(rate) if matches!(self.verdict, Verdict::Server { .. }) => format!("{rate:.0} (capacity)"),
            Some(rate) => format!("{rate:.0} (reached, not a capacity)"),
            None if !self.verdict.is_of_server() => "not told: the server was not the limit".to_owned(),
            None => "not told: not everything arrived".to_owned(),
        }
    }

    /// What became of clients that were given trouble.
    fn fmt_clients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reconnects) = &self.reconnects {
            row(f, "close → live again", format_args!("{reconnects}, {} times", reconnects.count))?;
        }
        if let Some(SlowReaders { connections, closed, ledger }) = &self.slow_readers {
            row(f, "slow readers", format_args!("{connections}, the server closed {closed}"))?;
            row(f, "slow readers' ledger", ledger)?;
        }
        if let Some(visitors) = &self.visitors {
            row(f, "visitors", visitors.in_words())?;
            if let Some(to_live) = &visitors.to_live {
                row(f, "visitors → live", to_live)?;
            }
        }
        if self.late_joins > 0 {
            row(f, "joins told late", self.late_joins)?;
        }
        if self.losses != Losses::default() {
            row(f, "connections", format_args!("{} failed, {} lost", self.losses.failed, self.losses.lost))?;
        }
        if self.foreign > 0 {
            row(f, "messages of other runs", self.foreign)?;
        }
        for (text, count) in &self.unstamped {
            row(f, "other messages", format_args!("{count} × {text}"))?;
        }
        Ok(())
    }

    /// What the server and the generator spent.
    fn fmt_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            let ServerCost { cpu_seconds, cores, cpu_us_per_delivery, deliveries_per_cpu_second, .. } =
                server;
            row(f, "server CPU", format_args!("{cpu_seconds:.3} s, {cores:.2} cores"))?;
            row(f, "CPU-µs/delivery", format_args!("{cpu_us_per_delivery:.4}"))?;
            row(f, "deliveries/CPU-second", format_args!("{deliveries_per_cpu_second:.0}"))?;
            let memory = format!("{:.1} MiB", server.resident_bytes as f64 / MIB);
            let each = server.bytes_per_connection.map(|bytes| format!(", {bytes:.0} B/connection"));
            row(f, "server memory", memory + &each.unwrap_or_default())?;
        }
        fmt_threads(f, &self.generator.threads)?;
        let generator = &self.generator;
        if let Some(lag) = &generator.send_lag {
            row(f, "send lag", lag)?;
        }
        if let Some(rounds) = &generator.rounds {
            row(f, "receive rounds", rounds)?;
        }
        if generator.backlog_bytes_max > 0 {
            let bytes = Unit::Bytes.format(generator.backlog_bytes_max as f64);
            row(f, "receive backlog", format_args!("{bytes} in one socket at most"))?;
        }
        row(f, "generator memory", format_args!("{:.0} B/connection", generator.bytes_per_connection))
    }
}

fn fmt_threads(f: &mut fmt::Formatter<'_>, threads: &[ThreadLoad]) -> fmt::Result {
    for ThreadLoad { name, run, wait, busy } in threads {
        let busy = busy.map_or(String::new(), |busy| format!(", {:.0} % busy", busy * 100.0));
        let (run, wait) = (run * 100.0, wait * 100.0);
        row(f, name, format_args!("{run:.0} % running, {wait:.0} % waiting for the CPU{busy}"))?;
    }
    Ok(())
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcome, seconds, generator, .. } = self;
        if let Some(label) = &self.label {
            row(f, "label", label)?;
        }
        row(f, "clients", self.scenario.in_words())?;
        row(f, "measured", format_args!("{}, {seconds:.3} s", outcome.in_words()))?;
        for (reason, count) in &outcome.reasons {
            row(f, "", format_args!("{count} × {reason}"))?;
        }
        row(f, "verdict", self.verdict)?;
        row(f, "connections/s", self.rate_in_words())?;
        for (name, latency) in [("→ upgraded", &outcome.to_upgraded), ("→ live", &outcome.to_live)] {
            row(f, name, latency.map_or("nothing measured".to_owned(), |latency| latency.to_string()))?;
        }
        if let Some(server) = &self.server {
            row(f, "server CPU", format_args!("{:.3} s, {:.2} cores", server.cpu_seconds, server.cores))?;
            if let (Some(cost), Some(rate)) = (server.cpu_us_per_connect, server.connects_per_cpu_second) {
                row(f, "CPU-µs/connection", format_args!("{cost:.2}"))?;
                row(f, "connections/CPU-second", format_args!("{rate:.0}"))?;
            }
            let memory = format!("{:.1} MiB", server.resident_bytes as f64 / MIB);
            let each = server.bytes_per_connection.map(|bytes| format!(", {bytes:.0} B/connection"));
            row(f, "server memory", memory + &each.unwrap_or_default())?;
        }
        fmt_threads(f, &generator.threads)?;
        if let Some(lag) = &generator.send_lag {
            row(f, "attempts began late by", lag)?;
        }
        if let Some(rounds) = &generator.rounds {
            row(f, "receive rounds", rounds)?;
        }
        for (name, checked) in ["requirements"].iter().chain(std::iter::repeat(&"")).zip(&self.requirements) {
            row(f, name, checked)?;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, delivered, missing, duplicate, out_of_order, excused } = self;
        write!(
            f,
            "{expected} expected, {delivered} delivered, {missing} missing, {duplicate} duplicate, \
             {out_of_order} out of order"
        )?;
        if *excused > 0 {
            write!(f, ", {excused} excused")?;
        }
        Ok(())
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_met { "✓" } else { "✗" };
        write!(f, "{mark} {}: {}", self.requirement, self.value_in_words())
    }
}

impl Checked {
    /// What was measured, or why nothing was.
    pub(super) fn value_in_words(&self) -> String {
        match (self.value, self.requirement.parse::<Requirement>()) {
            (Some(value), Ok(requirement)) => requirement.metric.unit.format(value),
            (Some(value), Err(_)) => significant(value),
            (None, _) => format!("not measured: {}", self.reason.as_deref().unwrap_or("no reason given")),
        }
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        if let Some(label) = &self.label {
            writeln!(f, "label  {label}")?;
        }
        let mut row = |[connections, rooms, memory, slope, cpu, generator]: [&str; 6]| {
            writeln!(f, "{connections:>12} {rooms:>10} {memory:>12} {slope:>20} {cpu:>18} {generator:>14}")
        };
        row([
            "connections",
            "rooms each",
            "server MiB",
            "B/connection since",
            "server CPU-µs/s",
            "generator MiB",
        ])?;
        for step in &self.steps {
            row([
                &step.connections.to_string(),
                &step.rooms_per_connection.to_string(),
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

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.label {
            row(f, "label", label)?;
        }
        row(f, "clients", self.scenario.clients_in_words())?;
        row(f, "promise", &self.slo)?;
        for (index, knee) in self.knees.iter().enumerate() {
            self.fmt_knee(f, index + 1, knee)?;
        }
        row(f, "highest that held", self.knee_in_words())?;
        if !self.is_capacity() {
            row(f, "", "no capacity: something else than the server was the limit, which lies higher")?;
        }
        if let Some(best) = &self.best {
            writeln!(f, "\nThe run at the highest value that held:")?;
            best.fmt(f)?;
        }
        Ok(())
    }
}

impl Search {
    /// The knees together: median and spread.
    pub(super) fn knee_in_words(&self) -> String {
        let unit = self.over.unit();
        let Some(spread) = self.knee_spread() else { return "nothing was tried".to_owned() };
        let [median, min, max] = [spread.median, spread.min, spread.max].map(significant);
        match spread.count {
            1 => format!("{median} {unit}"),
            count => format!("{median} {unit}, {min} to {max} in {count} repetitions"),
        }
    }

    /// The measured value of a step, in the unit of the promise's metric.
    pub(super) fn measured_in_words(&self, step: &SearchStep) -> String {
        let unit = self.first_promise().map_or(Unit::Count, |slo| slo.metric.unit);
        step.measured.map_or("-".to_owned(), |measured| unit.format(measured))
    }

    fn fmt_knee(&self, f: &mut fmt::Formatter<'_>, number: usize, knee: &Knee) -> fmt::Result {
        row(f, &format!("repetition {number}"), knee.in_words(self.over.unit()))?;
        for step in &knee.steps {
            let mark = if step.is_held { "✓" } else { "✗" };
            let (value, measured) = (significant(step.value), self.measured_in_words(step));
            let line = format!("{value:>12}  {mark} {measured:>10}  {:>6.1} s  {}", step.seconds, step.note);
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Knee {
    /// What held, and what broke.
    pub(super) fn in_words(&self, unit: &str) -> String {
        let held = match self.value {
            0.0 => "nothing held".to_owned(),
            value => format!("{} {unit} held", significant(value)),
        };
        match self.broken_at {
            Some(broken_at) => format!("{held}, {} did not: {}", significant(broken_at), self.reason),
            None => format!("{held}, and nothing above was tried"),
        }
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

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn values_begin_in_one_column() {
        let (fanout, connect) = (sample::fanout().to_string(), sample::connect().to_string());
        for line in fanout.lines().chain(connect.lines()) {
            let value = line.chars().nth(26).unwrap_or_else(|| panic!("{line:?} has no value"));
            assert!(value != ' ' && line.chars().nth(25) == Some(' '), "{line:?}");
        }
        for expected in
            ["2816 B/connection", "100 excused", "✗ cpu_us_per_delivery<2: 2.42 µs", "64 KiB in one"]
        {
            assert!(fanout.contains(expected), "{expected:?} is not in\n{fanout}");
        }
        for expected in
            ["10000 attempts, 9998 live, 2 failed, 0 lost, 1.000 s", "9998 (capacity)", "2 × upgrade"]
        {
            assert!(connect.contains(expected), "{expected:?} is not in\n{connect}");
        }
    }

    #[test]
    fn a_search_tells_its_steps_and_its_spread() {
        let text = sample::search().to_string();
        for expected in [
            "highest that held         500 publications/s, 490 to 520 in 3 repetitions\n",
            "repetition 1              500 publications/s held, 550 did not: slo\n",
            "         800  ✗     910 ms    10.0 s  p99 over 50 ms\n",
            "         600  ✗          -    10.0 s  p99 over 50 ms\n",
            "         400  ✓    3.60 ms    10.0 s\n",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }
}
