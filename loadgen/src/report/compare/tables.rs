//! A comparison as text: aligned for the terminal, or tables of GitHub's Markdown.

use std::fmt;

use super::{Column, Comparison, Group, Row};

/// Between two columns.
const GAP: usize = 2;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "baseline: {}; × are times the baseline", self.baseline)?;
        for group in &self.groups {
            writeln!(f, "\n{}\n", group.work)?;
            let lines = lines(group, &self.baseline);
            let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
            let width = |column: usize| {
                let cells = lines.iter().filter_map(|line| line.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + GAP
            };
            let widths: Vec<usize> = (0..columns).map(width).collect();
            for line in &lines {
                let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
                writeln!(f, "{}", cells.collect::<String>().trim_end())?;
            }
            if !group.zeros.is_empty() {
                writeln!(f, "zero in all runs: {}", group.zeros.join(", "))?;
            }
        }
        Ok(())
    }
}

/// A head, the numbers of runs, and two lines a metric: medians with ratios, and spreads below them.
fn lines(group: &Group, baseline: &str) -> Vec<Vec<String>> {
    let base = group.baseline_index(baseline);
    let line = |name: &str, cell: &dyn Fn(usize) -> String| -> Vec<String> {
        [name.to_owned()].into_iter().chain((0..group.columns.len()).map(cell)).collect()
    };
    let mut lines = vec![
        line("", &|column| group.columns[column].label.clone()),
        line("", &|column| group.columns[column].runs_in_words()),
    ];
    for row in &group.rows {
        lines.push(line(row.title, &|column| median(row, column, base)));
        let better = format!("  {}", row.better_in_words());
        lines.push(line(&better, &|column| row.range_in_words(column).unwrap_or_default()));
    }
    lines
}

/// `5.96 µs  2.05×, worse`, or a dash.
fn median(row: &Row, column: usize, base: Option<usize>) -> String {
    let Some(spread) = row.cells[column] else { return "-".to_owned() };
    let median = row.unit.format(spread.median);
    row.ratio_in_words(column, base).map_or(median.clone(), |ratio| format!("{median}  {ratio}"))
}

impl Comparison {
    /// One table for each work, for GitHub's Markdown.
    pub(crate) fn markdown(&self) -> String {
        let baseline = safe(&self.baseline);
        let mut text = format!("Medians (lowest to highest); × are times the baseline, **{baseline}**.\n");
        for group in &self.groups {
            let base = group.baseline_index(&self.baseline);
            text.push_str(&format!("\n### {}\n\n|  |", safe(&group.work)));
            for Column { label, .. } in &group.columns {
                text.push_str(&format!(" {} |", safe(label)));
            }
            text.push_str(&format!("\n|---|{}\n| runs |", "---|".repeat(group.columns.len())));
            for column in &group.columns {
                text.push_str(&format!(" {} |", column.runs_in_words()));
            }
            for row in &group.rows {
                text.push_str(&format!("\n| {} ({}) |", row.title, row.better_in_words()));
                for column in 0..group.columns.len() {
                    let range =
                        row.range_in_words(column).map_or(String::new(), |range| format!(" ({range})"));
                    text.push_str(&format!(" {}{range} |", median(row, column, base)));
                }
            }
            text.push('\n');
            if !group.zeros.is_empty() {
                text.push_str(&format!("\nZero in all runs: {}.\n", group.zeros.join(", ")));
            }
        }
        text
    }
}

/// Text that neither ends a cell of Markdown nor begins an element.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => safe.extend(['\\', c]),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
