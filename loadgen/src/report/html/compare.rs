//! The page of a comparison: sentences, bars with whiskers, and the tables.

use super::bars::{Bar, Bars};
use super::{document, escape, paragraph, put, table};
use crate::report::compare::{Comparison, Group, Row};

/// The metrics told in sentences, when they were measured.
const TOLD: [&str; 4] = ["p99", "deliveries_per_second", "cpu_us_per_delivery", "bytes_per_connection"];

/// The metrics drawn, when they were measured; all of them are in the tables.
const DRAWN: [&str; 9] = [
    "p50",
    "p99",
    "last-p99",
    "deliveries_per_second",
    "cpu_us_per_delivery",
    "deliveries_per_cpu_second",
    "bytes_per_connection",
    "server_memory",
    "reconnect_p99",
];

/// One self-contained page.
pub(crate) fn page(comparison: &Comparison) -> String {
    let Comparison { baseline, groups, .. } = comparison;
    let title = format!("Compared with {baseline}");
    let mut html = format!("<p class=\"kicker\">Comparison of runs</p>\n<h1>{}</h1>\n", escape(&title));
    html.push_str(&paragraph(&format!(
        "Medians of all runs of the same work; whiskers go from the lowest to the highest run. × are times the \
         baseline, {baseline}. A hollow bar has runs in which something else than the server was the limit, or \
         whose ledger is not exact."
    )));
    for group in groups {
        put(&mut html, format_args!("<h2>{}</h2>\n", escape(&group.work)));
        let base = group.columns.iter().position(|column| column.label == *baseline);
        html.push_str(&sentences(group, base));
        html.push_str("<div class=\"plots\">\n");
        // Idle runs have few metrics, and no keys.
        for row in group.rows.iter().filter(|row| DRAWN.contains(&row.key) || row.key.is_empty()) {
            html.push_str(&bars(group, row).figure());
        }
        html.push_str("</div>\n<h2>In figures</h2>\n");
        html.push_str(&figures(group, base));
        if !group.zeros.is_empty() {
            let zeros = format!("Zero in all runs: {}.", group.zeros.join(", "));
            put(&mut html, format_args!("<p class=\"note\">{}</p>\n", escape(&zeros)));
        }
    }
    document(&title, &html)
}

/// What stands out, a sentence for each metric that is told and each column beside the baseline.
fn sentences(group: &Group, base: Option<usize>) -> String {
    let told = group.rows.iter().filter(|row| TOLD.contains(&row.key) || row.key.is_empty());
    let mut items = String::new();
    for row in told {
        for (index, column) in group.columns.iter().enumerate() {
            if let Some(ratio) = row.ratio_in_words(index, base) {
                let sentence = format!("{}: {} {ratio}", column.label, row.title);
                put(&mut items, format_args!("<li>{}</li>\n", escape(&sentence)));
            }
        }
    }
    if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") }
}

fn bars(group: &Group, row: &Row) -> Bars {
    let measured = group.columns.iter().zip(&row.cells);
    let bars = measured.filter_map(|(column, spread)| {
        Some(Bar { name: column.label.clone(), spread: (*spread)?, is_doubted: column.is_doubted() })
    });
    Bars {
        title: row.title.to_owned(),
        unit: row.unit,
        note: row.better_in_words().to_owned(),
        bars: bars.collect(),
    }
}

/// Metrics by label, with the spread below each median.
fn figures(group: &Group, base: Option<usize>) -> String {
    let mut head = vec![""];
    head.extend(group.columns.iter().map(|column| column.label.as_str()));
    let mut runs = vec!["runs".to_owned()];
    runs.extend(group.columns.iter().map(|column| column.runs_in_words()));
    let mut rows = vec![runs];
    for row in &group.rows {
        let mut cells = vec![row.title.to_owned()];
        for (index, spread) in row.cells.iter().enumerate() {
            let median = spread.map_or("-".to_owned(), |spread| row.unit.format(spread.median));
            let range = row.range_in_words(index).map(|range| format!("({range})"));
            let ratio = row.ratio_in_words(index, base);
            cells.push([Some(median), range, ratio].into_iter().flatten().collect::<Vec<_>>().join("\n"));
        }
        rows.push(cells);
    }
    table(&head, &rows)
}
