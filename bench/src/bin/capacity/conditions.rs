//! What a plan rests on that was not measured, in words.
//!
//! Pure. Every sentence says what was measured, what the plan needs, and by how much that is more.

use crate::calibration::{Calibration, LoadPoint, Points};
use crate::criterion::UserCosts;
use crate::fit::Model;
use crate::model::Shape;
use crate::plan::{Figures, Layout, Percentile, Question};
use crate::uncertainty::Figure;
use crate::units;
use crate::usl::Basis;

/// A plan may go beyond what was measured by this factor before it is said.
const BEYOND_MIN: f64 = 1.05;

/// Everything to be said about a plan.
pub(crate) fn of_plan(
    question: &Question,
    layout: &Layout,
    model: &Model,
    points: &Points,
    models_short: usize,
) -> Vec<String> {
    let shape = question.shape(layout.nodes, layout.shards_per_node);
    let mut said = extrapolations(&shape, layout, points);
    said.extend(scaling(layout, model, points));
    if models_short > 0 {
        said.push(format!(
            "{models_short} of the resampled models find no layout that answers: the plan is close to what cannot \
             be done; the error bar of the shards leaves them out"
        ));
    }
    let busiest = points.loads.iter().map(|point| point.shape.shards).max().unwrap_or(1);
    if layout.shards() > busiest {
        said.push(format!(
            "the last member is on the slowest of {} shards; latency was calibrated with up to {busiest}, so its \
             tail will be longer than told",
            layout.shards()
        ));
    }
    said.push(
        "no spare node is counted: when one fails, the others take its connections, or nobody".to_owned(),
    );
    said.push(format!(
        "Redis is not modelled: see that yours takes {} publications/s in and {} messages/s out",
        units::count(question.rate),
        units::count(question.rate * f64::from(layout.nodes))
    ));
    said
}

/// What is to be said when the figures are close to what was asked for.
pub(crate) fn of_figures(question: &Question, figures: &Figures<Figure>) -> Vec<String> {
    let mut said = Vec::new();
    let (name, latency) = match question.slo.percentile {
        Percentile::P50 => ("p50", figures.p50_secs),
        Percentile::P99 => ("p99", figures.p99_secs),
    };
    if latency.high > question.slo.seconds {
        said.push(format!(
            "the error bar of {name} reaches {}, beyond the objective of {}: plan with a tighter --slo to be sure",
            units::span(latency.high),
            units::span(question.slo.seconds)
        ));
    }
    if figures.messages_per_turn.high > 1.0 {
        said.push(format!(
            "shards batch {} to {} messages a turn; one that batches is always busy, and its CPU says nothing about \
             how much more it could take: \"beyond batching\" does",
            units::count(figures.messages_per_turn.low),
            units::count(figures.messages_per_turn.high)
        ));
    }
    said
}

/// Everything to be said about a calibration.
pub(crate) fn of_calibration(calibration: &Calibration, model: &Model, user: &UserCosts) -> Vec<String> {
    let mut said = model.notes.clone();
    let missing = user.missing();
    if !missing.is_empty() {
        said.push(format!(
            "no benchmark shows {}: fitted from runs instead (`cargo bench -p shardcast-bench` measures them)",
            missing.join(", ")
        ));
    }
    if calibration.servers.len() > 1 {
        said.push(format!("the runs are of several servers: {}", calibration.servers.join(", ")));
    }
    said.extend(calibration.left_out.iter().map(|reason| format!("left out: {reason}")));
    said
}

fn extrapolations(shape: &Shape, layout: &Layout, points: &Points) -> Vec<String> {
    let loads = || points.loads.iter().map(|point| &point.shape);
    let idles = || points.idles.iter().map(|point| &point.shape);
    let most = |figures: &mut dyn Iterator<Item = f64>| figures.fold(0.0, f64::max);
    let connections = most(&mut idles().chain(loads()).map(|one| one.connections));
    let mut said = Vec::new();
    if shape.connections > BEYOND_MIN * connections {
        let on_node = shape.connections / f64::from(layout.nodes);
        said.push(format!(
            "calibrated up to {} connections; this plan is {} beyond, with {} of them on each node ({})",
            units::count(connections),
            times(shape.connections / connections),
            units::count(on_node),
            times(on_node / connections)
        ));
    }
    let share = shape.share();
    let bytes = |one: &Shape| one.data_bytes;
    let limits: [(&str, f64, f64); 6] = [
        (
            "connections of a shard under load",
            share.connections,
            most(&mut loads().map(|one| one.share().connections)),
        ),
        ("messages/s", shape.rate, most(&mut loads().map(|one| one.rate))),
        (
            "rooms a connection",
            shape.rooms_per_connection,
            most(&mut idles().chain(loads()).map(|one| one.rooms_per_connection)),
        ),
        ("members of a room on a shard", share.members, most(&mut loads().map(|one| one.share().members))),
        ("bytes of data", shape.data_bytes, most(&mut loads().map(bytes))),
        (
            "deliveries/s of a shard",
            share.letters_per_second * share.members,
            most(&mut loads().map(|one| one.share().letters_per_second * one.share().members)),
        ),
    ];
    for (what, planned, measured) in limits {
        if planned > BEYOND_MIN * measured {
            let (planned_told, measured_told) = (units::count(planned), units::count(measured));
            let factor = times(planned / measured);
            said.push(format!(
                "calibrated up to {measured_told} {what}; this plan has {planned_told} ({factor})"
            ));
        }
    }
    let least = loads().map(bytes).fold(f64::INFINITY, f64::min);
    if shape.data_bytes * BEYOND_MIN < least {
        said.push(format!("calibrated from {least:.0} bytes of data; this plan has {:.0}", shape.data_bytes));
    }
    said
}

fn scaling(layout: &Layout, model: &Model, points: &Points) -> Vec<String> {
    let planned = layout.shards_per_node;
    let measured = shards_max(&points.loads);
    if model.costs.scaling.basis == Basis::Assumed {
        return vec![format!(
            "scaling over shards was not measured: taken to lie between none lost and the project's target (two \
             shards do 1.8 times the work of one); its middle is planned with, its ends are in the error bars; \
             calibrate with several --shards to know"
        )];
    }
    if planned > measured {
        return vec![format!(
            "scaling was measured up to {measured} shards in a process; the plan has {planned} ({})",
            times(f64::from(planned) / f64::from(measured))
        )];
    }
    Vec::new()
}

/// Most shards of a process under load.
pub(crate) fn shards_max(loads: &[LoadPoint]) -> u32 {
    loads.iter().map(|point| point.shape.shards_per_node).max().unwrap_or(1)
}

fn times(factor: f64) -> String {
    if factor >= 10.0 { format!("{factor:.0}x") } else { format!("{factor:.1}x") }
}
