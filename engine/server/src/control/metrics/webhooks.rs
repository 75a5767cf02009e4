//! What is counted about webhooks; nothing where there are none, since an absent metric cannot alarm anyone.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Families, Label};
use crate::webhooks::figures::{EventKind, Figures, GateFigures, Outcome, Told, Unasked};

fn label(name: &'static str, value: &'static str) -> Label {
    (name, Cow::Borrowed(value))
}

pub(super) fn encode(families: &mut Families<'_>, figures: &Figures) -> fmt::Result {
    let mut requests = Vec::new();
    let mut unasked = Vec::new();
    for (hook, gate) in figures.gates() {
        let labels = |name, value| [label("hook", hook), label(name, value)];
        requests.extend(Outcome::ALL.iter().map(|&o| (labels("outcome", o.name()), gate.outcome(o))));
        if hook != "events" {
            unasked.extend(Unasked::ALL.iter().map(|&why| (labels("reason", why.name()), gate.unasked(why))));
        }
    }
    let help = "Requests sent to the application, by how they ended.";
    families.labelled("shardcast_webhook_requests", help, None, MetricType::Counter, &requests)?;
    let help = "Questions that failed without being sent.";
    families.labelled("shardcast_webhook_unasked", help, None, MetricType::Counter, &unasked)?;

    let by_hook = |value: fn(&GateFigures) -> u64| {
        figures.gates().map(|(hook, gate)| ([label("hook", hook)], value(gate)))
    };
    let seconds = figures.gates().map(|(hook, gate)| ([label("hook", hook)], gate.seconds()));
    let help = "Time that requests took, added up.";
    families.labelled("shardcast_webhook_time", help, Some(Unit::Seconds), MetricType::Counter, &seconds)?;
    let under_way = by_hook(|gate| gate.in_flight.load(Ordering::Relaxed));
    let help = "Requests under way.";
    families.labelled("shardcast_webhook_in_flight", help, None, MetricType::Gauge, &under_way)?;
    let waiting = by_hook(|gate| gate.waiting.load(Ordering::Relaxed));
    let help = "Questions that wait for their turn.";
    families.labelled("shardcast_webhook_waiting", help, None, MetricType::Gauge, &waiting[..2])?;
    let open = by_hook(|gate| u64::from(gate.breaker_open.load(Ordering::Relaxed)));
    let help = "1 while the application is out of order and only probes are sent.";
    families.labelled("shardcast_webhook_breaker_open", help, None, MetricType::Gauge, &open)?;

    let told: Vec<_> = (EventKind::ALL.iter())
        .flat_map(|&kind| Told::ALL.iter().map(move |&told| (kind, told)))
        .map(|(kind, told)| {
            ([label("event", kind.name()), label("outcome", told.name())], figures.told(kind, told))
        })
        .collect();
    let help = "Events for the application, by what became of them.";
    families.labelled("shardcast_webhook_events", help, None, MetricType::Counter, &told)?;
    let help = "Rooms in answers that nobody had asked for.";
    families.counter(
        "shardcast_webhook_rooms_ignored",
        help,
        figures.rooms_ignored.load(Ordering::Relaxed),
    )?;
    let waiting = figures.events_waiting.load(Ordering::Relaxed) as u64;
    families.gauge("shardcast_webhook_events_waiting", "Events that are not told yet.", waiting)?;
    let bytes = figures.events_waiting_bytes.load(Ordering::Relaxed) as u64;
    let help = "Events that are not told yet.";
    families.plain("shardcast_webhook_events_waiting", help, Some(Unit::Bytes), MetricType::Gauge, bytes)
}
