//! The page of a search: how far the load could be raised, and what broke.

use super::plot::{Axis, Drawn, Plot, Rule, Scale, Series};
use super::{kicker, paragraph, problems, put, table};
use crate::metrics::{Unit, significant};
use crate::report::{Knee, Over, Search, SearchStep, compare::Spread};

/// Measured values that vary by more than this factor are drawn by powers of ten.
const EVEN_FACTOR_MAX: f64 = 20.0;

/// What was found, in a sentence of plain text.
pub(super) fn title(search: &Search) -> String {
    let unit = search.over.unit();
    match search.knee_spread() {
        Some(Spread { median, .. }) if median > 0.0 && search.is_capacity() => {
            format!("{} holds up to {} {unit}", search.slo, significant(median))
        }
        Some(Spread { median, .. }) if median > 0.0 => {
            format!(
                "{} holds up to {} {unit} at least; the limit was not reached",
                search.slo,
                significant(median)
            )
        }
        _ => format!("{} did not hold at any load tried", search.slo),
    }
}

/// Everything between the headers of the page, as HTML.
pub(super) fn body(search: &Search) -> String {
    let mut html = kicker("Search for the limit", search.label.as_deref(), search.started_unix_ms);
    put(&mut html, format_args!("<h1>{}</h1>\n", super::escape(&title(search))));
    let raised = match search.over {
        Over::Rate => "The rate of publications",
        Over::Connections => "The number of connections",
    };
    html.push_str(&paragraph(&format!(
        "{raised} was raised until {} was broken, the ledger was not exact, or the generator was the limit. \
         Highest that held: {}.",
        search.slo,
        search.knee_in_words()
    )));
    html.push_str(&problems(&search.problems()));
    html.push_str("<h2>Repetitions</h2>\n");
    html.push_str(&knees(search));
    html.push_str("<h2>Steps</h2>\n<div class=\"plots\">\n");
    for (index, knee) in search.knees.iter().enumerate() {
        html.push_str(&plot(search, index + 1, knee).figure());
    }
    html.push_str("</div>\n");
    for (index, knee) in search.knees.iter().enumerate() {
        put(&mut html, format_args!("<h2>Repetition {}, step by step</h2>\n", index + 1));
        html.push_str(&steps(search, knee));
    }
    if let Some(best) = &search.best {
        html.push_str("<h2>The run at the highest load that held</h2>\n");
        html.push_str(&super::fanout::body(best).replace("<h1>", "<h2>").replace("</h1>", "</h2>"));
    }
    html
}

fn knees(search: &Search) -> String {
    let row = |(index, knee): (usize, &Knee)| {
        vec![
            (index + 1).to_string(),
            significant(knee.value),
            knee.broken_at.map_or("-".to_owned(), significant),
            knee.reason.clone(),
            knee.steps.len().to_string(),
        ]
    };
    let unit = search.over.unit();
    let head = ["repetition", &format!("held ({unit})"), "broke at", "what broke", "steps"];
    table(&head, &search.knees.iter().enumerate().map(row).collect::<Vec<_>>())
}

fn steps(search: &Search, knee: &Knee) -> String {
    let row = |step: &SearchStep| {
        vec![
            significant(step.value),
            if step.is_held { "✓ held" } else { "✗ broke" }.to_owned(),
            search.measured_in_words(step),
            format!("{} s", significant(step.seconds)),
            step.note.clone(),
        ]
    };
    table(
        &[search.over.unit(), "", "measured", "for", "note"],
        &knee.steps.iter().map(row).collect::<Vec<_>>(),
    )
}

fn plot(search: &Search, number: usize, knee: &Knee) -> Plot {
    let slo = search.first_promise();
    let measured =
        knee.steps.iter().filter_map(|step| step.measured).chain(slo.as_ref().map(|slo| slo.limit));
    let most = measured.clone().fold(0.0, f64::max);
    let least = measured.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let unit = slo.as_ref().map_or(Unit::Count, |slo| slo.metric.unit);
    let (base, unit_name) = unit.base_of(most);
    let scale = if most / least > EVEN_FACTOR_MAX { Scale::Log } else { Scale::Linear };
    let series = |name, is_held, drawn| Series {
        name,
        points: knee
            .steps
            .iter()
            .filter(|step| step.is_held == is_held)
            .map(|step| (step.value, step.measured.map(|measured| measured / base)))
            .collect(),
        drawn,
    };
    let unmeasured = knee.steps.iter().filter(|step| step.measured.is_none()).count();
    Plot {
        title: format!("Repetition {number}: {}", knee.in_words(search.over.unit())),
        x: match search.over {
            Over::Rate => Axis { name: "publications", unit: "1/s", scale: Scale::Linear },
            Over::Connections => Axis { name: "connections", unit: "", scale: Scale::Linear },
        },
        y: Axis { name: slo.as_ref().map_or("measured", |slo| slo.metric.key), unit: unit_name, scale },
        series: vec![series("held", true, Drawn::Rings), series("broke", false, Drawn::Crosses)],
        rule: slo.map(|slo| Rule { y: slo.limit / base, name: slo.to_string() }),
        note: match unmeasured {
            0 => String::new(),
            count => format!("Steps that are not drawn, as nothing was measured: {count}."),
        },
    }
}
