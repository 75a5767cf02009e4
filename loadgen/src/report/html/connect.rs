//! The page of a run of connection attempts.

use super::{Tile, facts, kicker, paragraph, problems, put, table, tiles};
use crate::latency::Percentiles;
use crate::metrics::{Unit, thousands};
use crate::report::{Connect, Outcome};

/// What happened, in a sentence of plain text.
pub(super) fn title(run: &Connect) -> String {
    let Outcome { attempts, failed, lost, .. } = run.outcome;
    match (failed, lost) {
        (0, 0) => format!("All {} attempts to connect came to be live", told(attempts)),
        _ => format!(
            "Of {} attempts to connect {} failed, {} were lost",
            told(attempts),
            told(failed),
            told(lost)
        ),
    }
}

/// Everything between the headers of the page, as HTML.
pub(super) fn body(run: &Connect) -> String {
    let mut html = kicker("Connection attempts", run.label.as_deref(), run.started_unix_ms);
    put(&mut html, format_args!("<h1>{}</h1>\n", super::escape(&title(run))));
    html.push_str(&paragraph(&format!("{}; {:.3} s.", run.scenario.in_words(), run.seconds)));
    html.push_str(&paragraph(&format!("Verdict: {}.", run.verdict)));
    html.push_str(&problems(&run.problems()));
    let not_measured = || "not measured".to_owned();
    let p99 = run.outcome.to_live.map(|latency| Unit::Micros.format(latency.p99_us as f64));
    let server = run.server.as_ref();
    let cost =
        server.and_then(|server| server.cpu_us_per_connect).map(|micros| Unit::CpuMicros.format(micros));
    let a_core =
        server.and_then(|server| server.connects_per_cpu_second).map(|rate| Unit::PerSecond.format(rate));
    html.push_str(&tiles(&[
        Tile {
            name: "Connections per second",
            value: run
                .connects_per_second
                .map_or_else(|| "not told".to_owned(), |rate| Unit::PerSecond.format(rate)),
            aside: run.rate_in_words(),
        },
        Tile {
            name: "Server CPU per connection",
            value: cost.unwrap_or_else(not_measured),
            aside: a_core.map_or(String::new(), |rate| format!("{rate} of one core")),
        },
        Tile {
            name: "p99 to live",
            value: p99.unwrap_or_else(not_measured),
            aside: "upgraded and logged in".to_owned(),
        },
    ]));
    html.push_str("<h2>Latency</h2>\n");
    html.push_str(&latencies(run));
    if !run.requirements.is_empty() {
        html.push_str("<h2>Requirements</h2>\n");
        html.push_str(&super::fanout::requirements(&run.requirements));
    }
    html.push_str("<h2>May these figures be believed?</h2>\n");
    let mut rows = vec![("verdict", run.verdict.to_string()), ("target", run.scenario.target.clone())];
    for load in &run.generator.threads {
        let (running, waiting) = (load.run * 100.0, load.wait * 100.0);
        rows.push((&load.name, format!("{running:.0} % running, {waiting:.0} % waiting for the CPU")));
    }
    if let Some(lag) = &run.generator.send_lag {
        rows.push(("attempts began late by", lag.to_string()));
    }
    html.push_str(&facts(&rows));
    html
}

fn latencies(run: &Connect) -> String {
    let row = |name: &str, latency: &Option<Percentiles>| {
        let latency = latency.as_ref()?;
        let micros = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        let cells = micros.map(|micros| Unit::Micros.format(micros as f64));
        Some([name.to_owned()].into_iter().chain(cells).collect::<Vec<_>>())
    };
    let rows = [row("to upgraded", &run.outcome.to_upgraded), row("to live", &run.outcome.to_live)];
    table(&["", "p50", "p90", "p99", "p99.9", "max"], &rows.into_iter().flatten().collect::<Vec<_>>())
}

fn told(count: u64) -> String {
    thousands(i64::try_from(count).unwrap_or(i64::MAX))
}
