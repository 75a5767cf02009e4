//! Reports as pages: one file that needs nothing else, readable on a phone, in the dark and on paper.
//!
//! Pure: figures in, HTML out. Invariants: every text of a report goes through [`escape`]; a page refers to nothing
//! outside itself and runs no script.

mod bars;
pub(super) mod compare;
mod connect;
mod fanout;
mod idle;
mod plot;
mod search;
mod ticks;

use std::fmt::{Arguments, Write as _};

use time::OffsetDateTime;
use time::macros::format_description;

use super::Report;

const STYLE: &str = include_str!("page.css");

/// The page of a report.
pub(crate) fn page(report: &Report) -> String {
    match report {
        Report::Fanout(run) => document(&fanout::title(run), &fanout::body(run)),
        Report::Idle(run) => document("Memory of idle connections", &idle::body(run)),
        Report::Connect(run) => document(&connect::title(run), &connect::body(run)),
        Report::Search(search) => document(&search::title(search), &search::body(search)),
    }
}

/// A whole document around a body; the title is plain text, the body HTML.
fn document(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\
         <footer>Written by loadgen {version}.</footer>\n</main>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION")
    )
}

/// The line above the headline: what kind of run, whose, and when. Plain text in, HTML out.
fn kicker(kind: &str, label: Option<&str>, started_unix_ms: u64) -> String {
    let label = label.map_or(String::new(), |label| format!(" · {label}"));
    let text = format!("{kind}{label} · {}", moment(started_unix_ms));
    format!("<p class=\"kicker\">{}</p>\n", escape(&text))
}

/// A moment, for people, in UTC.
fn moment(unix_ms: u64) -> String {
    let at =
        i64::try_from(unix_ms / 1_000).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    at.and_then(|at| at.format(&format).ok()).unwrap_or_else(|| "at an unknown time".to_owned())
}

/// A figure that catches the eye: name, value, and what else is worth knowing.
struct Tile<'a> {
    name: &'a str,
    value: String,
    aside: String,
}

fn tiles(tiles: &[Tile<'_>]) -> String {
    let mut html = "<dl class=\"tiles\">\n".to_owned();
    for Tile { name, value, aside } in tiles {
        // A sentence in place of a figure is no headline.
        let class = if value.chars().count() > 12 { " class=\"long\"" } else { "" };
        let (name, value, aside) = (escape(name), escape(value), escape(aside));
        put(
            &mut html,
            format_args!(
                "<div class=\"tile\"><dt>{name}</dt><dd{class}>{value}<span class=\"aside\">{aside}</span></dd></div>\n"
            ),
        );
    }
    html.push_str("</dl>\n");
    html
}

/// A table of names and values, both plain text.
fn facts(rows: &[(&str, String)]) -> String {
    let mut html = "<table class=\"facts\">\n".to_owned();
    for (name, value) in rows {
        let (name, value) = (escape(name), escape(value));
        put(&mut html, format_args!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n"));
    }
    html.push_str("</table>\n");
    html
}

/// A table with a head, all plain text; the first column names its row.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = "<div class=\"wide\"><table>\n<thead><tr>".to_owned();
    for name in head {
        put(&mut html, format_args!("<th scope=\"col\">{}</th>", escape(name)));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            // A sentence reads from its left, and need not stay on one line.
            let class =
                if cell.lines().any(|line| line.chars().count() > 40) { " class=\"words\"" } else { "" };
            match column {
                0 => put(&mut html, format_args!("<th scope=\"row\">{cell}</th>")),
                _ => put(&mut html, format_args!("<td{class}>{cell}</td>")),
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
    html
}

/// What went wrong, a line each; nothing when nothing did.
fn problems(report: &[String]) -> String {
    if report.is_empty() {
        return String::new();
    }
    let items: String = report.iter().map(|problem| format!("<li>{}</li>\n", escape(problem))).collect();
    format!("<ul class=\"problems\">\n{items}</ul>\n")
}

/// Paragraph of plain text.
fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// Text made safe within an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// Appends to a text, which cannot fail.
pub(super) fn put(text: &mut String, what: Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}

#[cfg(test)]
mod tests;
