//! The page of a fan-out run: what happened in words first, then figures, plots and the books.

use super::plot::{Axis, Drawn, Plot, Scale, Series};
use super::{Tile, facts, kicker, paragraph, problems, put, table, tiles};
use crate::latency::Percentiles;
use crate::ledger::Counts;
use crate::metrics::{Measured, Metric, Unit, significant, thousands};
use crate::report::{Checked, Fanout, Point, ROOMS_LISTED_MAX, ThreadLoad};
use crate::verdict::Verdict;

/// A latency that varies by more than this factor is drawn by powers of ten.
const EVEN_FACTOR_MAX: u64 = 20;
const MIB: f64 = 1024.0 * 1024.0;

/// What happened, in a sentence of plain text.
pub(super) fn title(run: &Fanout) -> String {
    let Counts { missing, duplicate, out_of_order, expected, .. } = run.ledger;
    if expected == 0 {
        return "Nothing was published".to_owned();
    }
    if run.is_exact() {
        return "Every message reached every member, once and in order".to_owned();
    }
    let wrongs = [
        (missing, "missing"),
        (duplicate, "delivered twice"),
        (out_of_order, "out of order"),
        (run.strangers, "delivered to strangers"),
        (run.to_excluded, "delivered to the excluded"),
        (run.altered, "altered"),
    ];
    let wrongs = wrongs.iter().filter(|wrong| wrong.0 > 0);
    let wrongs: Vec<_> = wrongs.map(|(count, what)| format!("{} {what}", told(*count))).collect();
    format!("Not every message arrived as it should: {}", wrongs.join(", "))
}

/// Everything between the headers of the page, as HTML.
pub(super) fn body(run: &Fanout) -> String {
    let mut html = kicker("Fan-out run", run.label.as_deref(), run.started_unix_ms);
    put(&mut html, format_args!("<h1>{}</h1>\n", super::escape(&title(run))));
    html.push_str(&paragraph(&summary(run)));
    html.push_str(&badge(run));
    html.push_str(&problems(&run.problems()));
    html.push_str(&key_figures(run));
    if !run.requirements.is_empty() {
        html.push_str("<h2>Requirements</h2>\n");
        html.push_str(&requirements(&run.requirements));
    }
    html.push_str("<h2>Latency</h2>\n");
    html.push_str(&percentiles(run));
    html.push_str("<h2>Plots</h2>\n<div class=\"plots\">\n");
    for plot in plots(run) {
        html.push_str(&plot.figure());
    }
    html.push_str("</div>\n<h2>Ledger</h2>\n");
    html.push_str(&ledger(run));
    html.push_str("<h2>May these figures be believed?</h2>\n");
    html.push_str(&honesty(run));
    html.push_str("<h2>Scenario</h2>\n");
    html.push_str(&scenario(run));
    html
}

fn told(count: u64) -> String {
    thousands(i64::try_from(count).unwrap_or(i64::MAX))
}

/// What was tested and how it went, in two sentences.
fn summary(run: &Fanout) -> String {
    let scenario = &run.scenario;
    let seconds = significant(run.seconds);
    let mut text = format!(
        "{}; {}. {} publications of {} in {seconds} s made {} deliveries.",
        scenario.clients_in_words(),
        scenario.pace_in_words(),
        told(run.publications),
        scenario.sizes_in_words(),
        told(run.deliveries),
    );
    if let Some(Percentiles { p50_us, p99_us, .. }) = run.to_member {
        let [half, most] = [p50_us, p99_us].map(|micros| Unit::Micros.format(micros as f64));
        put(&mut text, format_args!(" Half of them took no longer than {half}, 99 % no longer than {most}."));
    }
    text
}

/// The verdict: is it of the server?
fn badge(run: &Fanout) -> String {
    let (class, word) =
        if run.problems().is_empty() { ("good", "✓ Good run") } else { ("bad", "✗ Problems") };
    let verdict = super::escape(&run.verdict.to_string());
    format!("<p><span class=\"badge {class}\">{word}</span> Limit: {verdict}.</p>\n")
}

fn key_figures(run: &Fanout) -> String {
    let metric = |name, key: &str, aside: &str| {
        let metric = Metric::find(key)?;
        let value = metric.value(Measured::Fanout(run));
        let text = value.map_or_else(|| "not measured".to_owned(), |value| metric.unit.format(value));
        let aside = if value.is_some() { aside } else { metric.absent };
        Some(Tile { name, value: text, aside: aside.to_owned() })
    };
    let is_capacity = matches!(run.verdict, Verdict::Server { .. });
    let rate = if is_capacity { "the server's capacity" } else { "reached, not a capacity" };
    let Counts { expected, delivered, excused, .. } = run.ledger;
    let excused = if excused > 0 { format!(", {} excused", told(excused)) } else { String::new() };
    let ledger = Tile {
        name: "Ledger",
        value: if run.is_exact() { "✓ exact" } else { "✗ not exact" }.to_owned(),
        aside: format!("{} of {} delivered{excused}", told(delivered), told(expected)),
    };
    let figures = [
        metric("Deliveries", "deliveries_per_second", rate),
        metric("p50 to a member", "p50", "half arrived sooner"),
        metric("p99 to a member", "p99", "99 of 100 arrived sooner"),
        metric("CPU per delivery", "cpu_us_per_delivery", "of the server"),
        metric("Memory per connection", "bytes_per_connection", "of the server"),
        Some(ledger),
    ];
    tiles(&figures.into_iter().flatten().collect::<Vec<_>>())
}

pub(super) fn requirements(requirements: &[Checked]) -> String {
    let row = |checked: &Checked| {
        let mark = if checked.is_met { "✓ met" } else { "✗ not met" };
        vec![checked.requirement.clone(), mark.to_owned(), checked.value_in_words()]
    };
    table(&["Requirement", "", "Measured"], &requirements.iter().map(row).collect::<Vec<_>>())
}

fn percentiles(run: &Fanout) -> String {
    let spans = [
        ("to a member", run.to_member),
        ("to the last member", run.to_last_member),
        ("close → live again", run.reconnects),
        ("a visitor's way in", run.visitors.as_ref().and_then(|visitors| visitors.to_live)),
    ];
    let spans: Vec<_> = spans.into_iter().filter_map(|(name, span)| Some((name, span?))).collect();
    if spans.is_empty() {
        return paragraph("Nothing was measured.");
    }
    let row = |name: &str, cell: &dyn Fn(&Percentiles) -> String| -> Vec<String> {
        [name.to_owned()].into_iter().chain(spans.iter().map(|(_, span)| cell(span))).collect()
    };
    let time = |micros: u64| Unit::Micros.format(micros as f64);
    let rows = [
        row("p50", &|span| time(span.p50_us)),
        row("p90", &|span| time(span.p90_us)),
        row("p99", &|span| time(span.p99_us)),
        row("p99.9", &|span| time(span.p999_us)),
        row("longest", &|span| time(span.max_us)),
        row("of so many", &|span| told(span.count)),
    ];
    let head: Vec<&str> = [""].into_iter().chain(spans.iter().map(|(name, _)| *name)).collect();
    let mut html = table(&head, &rows);
    html.push_str(
        "<p class=\"note\">Latencies are counted from when a publication was due, so that one that had to wait \
         is not taken for a fast one.</p>\n",
    );
    html
}

/// Axis of time since measuring began, and what one second is on it.
fn time_axis(run: &Fanout) -> (Axis, f64) {
    let seconds = run.timeline.points.last().map_or(0.0, |point| point.at_secs);
    let (unit, factor) = match seconds {
        seconds if seconds > 4.0 * 3_600.0 => ("h", 1.0 / 3_600.0),
        seconds if seconds > 600.0 => ("min", 1.0 / 60.0),
        _ => ("s", 1.0),
    };
    (Axis { name: "measured time", unit, scale: Scale::Linear }, factor)
}

/// Axis that suits these latencies, and what one microsecond is on it.
fn latency_axis(micros: impl Iterator<Item = u64> + Clone) -> (Axis, f64) {
    let most = micros.clone().max().unwrap_or(0);
    let least = micros.min().unwrap_or(0).max(1);
    let scale = if most / least > EVEN_FACTOR_MAX { Scale::Log } else { Scale::Linear };
    let base = if scale == Scale::Log { least.saturating_mul(1_000).min(most) } else { most };
    let (unit, factor) = match base {
        2_000_000.. => ("s", 1e-6),
        1_000.. => ("ms", 1e-3),
        _ => ("µs", 1.0),
    };
    (Axis { name: "latency", unit, scale }, factor)
}

/// Plots of the run, those that depend on time only when there is a timeline.
fn plots(run: &Fanout) -> Vec<Plot> {
    let mut plots = Vec::new();
    if !run.timeline.points.is_empty() {
        plots.push(latency_plot(run));
    }
    if !run.member_curve.is_empty() {
        plots.push(curve_plot(run));
    }
    if !run.timeline.points.is_empty() {
        plots.extend(timeline_plots(run));
    }
    plots
}

fn latency_plot(run: &Fanout) -> Plot {
    let (x, secs) = time_axis(run);
    let points = &run.timeline.points;
    let (y, factor) =
        latency_axis(points.iter().flat_map(|point| [point.p50_us, point.p99_us, point.max_us]).flatten());
    // Zero has no place among powers of ten: it is less than the microsecond that is told apart.
    let least = if y.scale == Scale::Log { 1 } else { 0 };
    let line = |name, color, value: fn(&Point) -> Option<u64>| Series {
        name,
        points: points
            .iter()
            .map(|point| (point.at_secs * secs, value(point).map(|us| us.max(least) as f64 * factor)))
            .collect(),
        drawn: Drawn::Line(color),
    };
    let series = vec![
        line("max", 2, |point| point.max_us),
        line("p99", 1, |point| point.p99_us),
        line("p50", 0, |point| point.p50_us),
    ];
    let title = "Latency to members over time".to_owned();
    Plot { title, x, y, series, rule: None, note: String::new() }
}

fn curve_plot(run: &Fanout) -> Plot {
    let (y, factor) = latency_axis(run.member_curve.iter().map(|point| point.micros));
    let least = if y.scale == Scale::Log { 1 } else { 0 };
    let points = run.member_curve.iter();
    let points =
        points.map(|point| (point.percentile, Some(point.micros.max(least) as f64 * factor))).collect();
    Plot {
        title: "How many arrived how soon".to_owned(),
        x: Axis { name: "percent of deliveries", unit: "", scale: Scale::Nines },
        y,
        series: vec![Series { name: "latency", points, drawn: Drawn::Line(0) }],
        rule: None,
        note: "Each step to the right leaves out all but a tenth: the far right is the slowest of many thousands."
            .to_owned(),
    }
}

fn timeline_plots(run: &Fanout) -> Vec<Plot> {
    let (x, secs) = time_axis(run);
    let interval_secs = run.timeline.interval_secs;
    let per_second = move |count: u64| (interval_secs > 0.0).then(|| count as f64 / interval_secs);
    let points = |value: &dyn Fn(&Point) -> Option<f64>| -> Vec<(f64, Option<f64>)> {
        run.timeline.points.iter().map(|point| (point.at_secs * secs, value(point))).collect()
    };
    let plot = |title: &str, name, unit, series, note: &str| Plot {
        title: title.to_owned(),
        x: x.clone(),
        y: Axis { name, unit, scale: Scale::Linear },
        series,
        rule: None,
        note: note.to_owned(),
    };
    let line = |name, color, points| Series { name, points, drawn: Drawn::Line(color) };
    let published = points(&|point| per_second(point.published));
    let delivered = points(&|point| per_second(point.delivered));
    let errors = points(&|point| Some(point.errors as f64));
    let is_calm = run.timeline.points.iter().all(|point| point.errors == 0);
    let cores = vec![
        line("server", 0, points(&|point| point.server_cores)),
        line("generator", 1, points(&|point| Some(point.generator_cores))),
    ];
    let memory = points(&|point| Some(point.server_resident_bytes? as f64 / MIB));
    let live = points(&|point| Some(f64::from(point.live)));
    let (calm, stormy) =
        ("No connection failed or was lost.", "Connections that failed or were lost are below.");
    let mut plots = vec![
        plot("Deliveries per second", "deliveries", "1/s", vec![line("delivered", 0, delivered)], ""),
        plot("Publications per second", "publications", "1/s", vec![line("published", 0, published)], ""),
        plot("CPU over time", "CPU", "cores", cores, ""),
        plot("Server memory", "resident", "MiB", vec![line("resident", 0, memory)], ""),
        plot(
            "Connections up",
            "connections",
            "",
            vec![line("up", 0, live)],
            if is_calm { calm } else { stormy },
        ),
    ];
    if !is_calm {
        let errors = Series { name: "failed or lost", points: errors, drawn: Drawn::Stems };
        plots.push(plot("Connections failed or lost, by interval", "connections", "", vec![errors], ""));
    }
    plots
}

fn ledger(run: &Fanout) -> String {
    let books: Vec<&Counts> = [Some(&run.ledger), run.slow_readers.as_ref().map(|slow| &slow.ledger)]
        .into_iter()
        .flatten()
        .collect();
    let row = |name: &str, count: fn(&Counts) -> u64| -> Vec<String> {
        [name.to_owned()].into_iter().chain(books.iter().map(|counts| told(count(counts)))).collect()
    };
    let rows = [
        row("expected", |counts| counts.expected),
        row("delivered", |counts| counts.delivered),
        row("missing", |counts| counts.missing),
        row("delivered twice", |counts| counts.duplicate),
        row("out of order", |counts| counts.out_of_order),
        row("excused", |counts| counts.excused),
    ];
    let mut html = table(&["", "all, warm-up included", "slow readers"][..=books.len()], &rows);
    html.push_str(&inexact_rooms(run));
    let mut notes = Vec::new();
    if let Some(slow) = &run.slow_readers {
        notes.push(format!(
            "Slow readers have books of their own: the server may drop what they do not read. It closed {} of {}.",
            slow.closed, slow.connections
        ));
    }
    if run.ledger.excused > 0 {
        notes.push("Excused is what was published while a member was away by order of the run.".to_owned());
    }
    let counts = [(run.late_joins, "joins were told late"), (run.foreign, "messages were of other runs")];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    notes.extend(counts.map(|(count, what)| format!("{} {what}.", told(*count))));
    notes
        .extend(run.unstamped.iter().map(|(text, count)| format!("{} other messages: {text}", told(*count))));
    html.extend(notes.iter().map(|note| format!("<p class=\"note\">{}</p>\n", super::escape(note))));
    html
}

/// The rooms whose books do not balance, so many as are listed anywhere.
fn inexact_rooms(run: &Fanout) -> String {
    if run.inexact_rooms.is_empty() {
        return String::new();
    }
    let row = |(room, counts): &(String, Counts)| {
        let Counts { expected, missing, duplicate, out_of_order, .. } = *counts;
        let mut row = vec![room.clone()];
        row.extend([missing, duplicate, out_of_order, expected].map(told));
        row
    };
    let rows: Vec<_> = run.inexact_rooms.iter().take(ROOMS_LISTED_MAX).map(row).collect();
    let mut html = "<h2>Rooms that do not balance</h2>\n".to_owned();
    html.push_str(&table(&["room", "missing", "twice", "out of order", "expected"], &rows));
    let more = run.inexact_rooms.len().saturating_sub(ROOMS_LISTED_MAX);
    if more > 0 {
        put(&mut html, format_args!("<p class=\"note\">And {more} more.</p>\n"));
    }
    html
}

/// What the generator did to itself and to its measurements.
fn honesty(run: &Fanout) -> String {
    let generator = &run.generator;
    let believed = if run.verdict.is_of_server() {
        "The generator kept up: what was measured is the server."
    } else {
        "No: something else than the server was the limit, and no capacity is told."
    };
    let mut rows: Vec<(String, String)> = Vec::new();
    for ThreadLoad { name, run, wait, busy } in &generator.threads {
        let busy = busy.map_or(String::new(), |busy| format!(", {:.0} % busy", busy * 100.0));
        let (run, wait) = (run * 100.0, wait * 100.0);
        rows.push((
            format!("Thread {name}"),
            format!("{run:.0} % running, {wait:.0} % waiting for the CPU{busy}"),
        ));
    }
    let spans =
        [("Publications left late by", generator.send_lag), ("A receive round took", generator.rounds)];
    for (name, span) in spans {
        if let Some(Percentiles { p50_us, p99_us, max_us, .. }) = span {
            let [p50, p99, max] = [p50_us, p99_us, max_us].map(|micros| Unit::Micros.format(micros as f64));
            rows.push((name.to_owned(), format!("{p50} (p50), {p99} (p99), {max} at most")));
        }
    }
    let backlog = Unit::Bytes.format(generator.backlog_bytes_max as f64);
    rows.push(("Most found waiting in one socket".to_owned(), backlog));
    rows.push((
        "Generator memory per connection".to_owned(),
        Unit::Bytes.format(generator.bytes_per_connection),
    ));
    if let Some(server) = &run.server {
        let waited = format!("{:.2} cores' worth of time", server.cores_waited_for);
        rows.push(("The server waited for the CPU".to_owned(), waited));
    }
    let rows: Vec<(&str, String)> = rows.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let exactness = match generator.rounds {
        Some(_) => "No delivery is timed more exactly than a round of the receive loop.",
        None => "",
    };
    format!("{}{}<p class=\"note\">{exactness}</p>\n", paragraph(believed), facts(&rows))
}

fn scenario(run: &Fanout) -> String {
    let scenario = &run.scenario;
    let mut rows = vec![
        ("Server", format!("{} ({})", scenario.target, scenario.dialect)),
        ("Clients", scenario.clients_in_words()),
        ("Publications", format!("{} of data, {}", scenario.sizes_in_words(), scenario.pace_in_words())),
        ("Published through", scenario.publish.clone()),
    ];
    let troubles = scenario.troubles_in_words();
    if !troubles.is_empty() {
        rows.push(("Troubles", troubles.join(", ")));
    }
    rows.push(("Generator processes", scenario.processes.to_string()));
    rows.push(("Measured", format!("{} s", significant(run.seconds))));
    if let Some(server) = &run.server {
        let (cores, memory) = (server.cores, Unit::Bytes.format(server.resident_bytes as f64));
        rows.push(("Server used", format!("{cores:.2} cores, {memory} resident at the end")));
    }
    facts(&rows)
}
