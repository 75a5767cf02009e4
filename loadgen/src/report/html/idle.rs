//! The page of an idle run: what connections cost that do nothing.

use super::plot::{Axis, Drawn, Plot, Scale, Series};
use super::{Tile, kicker, paragraph, problems, put, table, tiles};
use crate::metrics::{Unit, thousands};
use crate::report::{Idle, IdleStep};

const MIB: f64 = 1024.0 * 1024.0;

/// Everything between the headers of the page, as HTML.
pub(super) fn body(run: &Idle) -> String {
    let mut html = kicker("Idle connections", run.label.as_deref(), run.started_unix_ms);
    let connections = run.steps.last().map_or(0, |step| step.connections);
    let bytes = run.server_bytes_per_connection.map(|bytes| Unit::Bytes.format(bytes));
    let headline = match &bytes {
        Some(bytes) => format!("An idle connection costs the server {bytes}"),
        None => "The server's memory was not watched".to_owned(),
    };
    put(&mut html, format_args!("<h1>{}</h1>\n", super::escape(&headline)));
    html.push_str(&paragraph(&format!(
        "Up to {} connections were opened and left alone; memory and CPU time were taken at each step.",
        thousands(i64::from(connections))
    )));
    html.push_str(&problems(&crate::report::Report::Idle(run.clone()).problems()));
    let cpu = run.steps.last().and_then(|step| step.server_cpu_us_per_second);
    let not_measured = || "not measured".to_owned();
    html.push_str(&tiles(&[
        Tile {
            name: "Server memory per connection",
            value: bytes.unwrap_or_else(not_measured),
            aside: "first step to last".to_owned(),
        },
        Tile {
            name: "Server CPU, all connected",
            value: cpu.map_or_else(not_measured, |micros| Unit::Micros.format(micros)),
            aside: "of every second".to_owned(),
        },
        Tile {
            name: "Generator memory per connection",
            value: Unit::Bytes.format(run.generator_bytes_per_connection),
            aside: "the other end of it".to_owned(),
        },
    ]));
    html.push_str("<h2>Plots</h2>\n<div class=\"plots\">\n");
    let memory = |step: &IdleStep| Some(step.server_resident_bytes? as f64 / MIB);
    html.push_str(&plot(run, "Server memory by connections", "resident", "MiB", &memory).figure());
    let cpu = |step: &IdleStep| Some(step.server_cpu_us_per_second? / 1e3);
    html.push_str(&plot(run, "Server CPU by connections", "CPU time", "ms/s", &cpu).figure());
    html.push_str("</div>\n<h2>Steps</h2>\n");
    html.push_str(&steps(run));
    html
}

fn plot(
    run: &Idle,
    title: &str,
    name: &'static str,
    unit: &'static str,
    value: &dyn Fn(&IdleStep) -> Option<f64>,
) -> Plot {
    let points = run.steps.iter().map(|step| (f64::from(step.connections), value(step))).collect();
    Plot {
        title: title.to_owned(),
        x: Axis { name: "connections", unit: "", scale: Scale::Linear },
        y: Axis { name, unit, scale: Scale::Linear },
        series: vec![Series { name, points, drawn: Drawn::Line(0) }],
        rule: None,
        note: String::new(),
    }
}

fn steps(run: &Idle) -> String {
    let told = |unit: Unit, value: Option<f64>| value.map_or("-".to_owned(), |value| unit.format(value));
    let row = |step: &IdleStep| {
        vec![
            thousands(i64::from(step.connections)),
            thousands(i64::from(step.rooms_per_connection)),
            told(Unit::Bytes, step.server_resident_bytes.map(|bytes| bytes as f64)),
            told(Unit::Bytes, step.server_bytes_per_connection),
            told(Unit::Micros, step.server_cpu_us_per_second),
            told(Unit::Bytes, Some(step.generator_resident_bytes as f64)),
        ]
    };
    let head =
        ["connections", "rooms each", "server", "per further connection", "server CPU a second", "generator"];
    table(&head, &run.steps.iter().map(row).collect::<Vec<_>>())
}
