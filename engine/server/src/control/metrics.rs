//! Metrics in the OpenMetrics text format, read from the counters at each scrape.
//!
//! Names are `shardcast_*` (and `process_*`, where Prometheus has a convention), base units are in the name,
//! counters end in `_total`. Labels are bounded by the process, never by its peers: `shard`, `kind` of
//! violation.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use shardcast_shard::Counters;
use shardcast_wire::message::Violation;

use super::process::Process;
use crate::engine::Engine;
use crate::status::ProcessCounters;

/// The media type of the format.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The fields of [`Counters`] that go up and down.
const SHARD_GAUGES: [&str; 4] = ["conns", "clients", "rooms", "outbox_bytes"];

/// Name, meaning and place of each counter of the process.
type ProcessCounter = (&'static str, &'static str, fn(&ProcessCounters) -> &AtomicU64);

const PROCESS_COUNTERS: [ProcessCounter; 14] = [
    ("redis_received", "Messages received from Redis.", |c| &c.redis_received),
    ("redis_own", "Messages received from Redis that were our own.", |c| &c.redis_own),
    ("redis_malformed", "Messages received from Redis that were not Ignis envelopes.", |c| {
        &c.redis_malformed
    }),
    ("redis_published", "Messages queued for Redis.", |c| &c.redis_published),
    ("redis_local_only", "Messages not given to Redis: it was away or the queue full.", |c| {
        &c.redis_local_only
    }),
    ("redis_publish_failed", "Messages lost when the connection to Redis broke.", |c| {
        &c.redis_publish_failed
    }),
    ("redis_gaps", "Times the subscription to Redis was lost.", |c| &c.redis_gaps),
    ("asks_refused", "Questions to the hooks refused because too many were waiting.", |c| &c.asks_refused),
    ("hooks_panicked", "Hooks that panicked.", |c| &c.hooks_panicked),
    ("accepts_shed", "Connections refused for want of file descriptors or memory.", |c| &c.accepts_shed),
    ("hand_offs_refused", "HTTP connections the control plane had no place for.", |c| &c.hand_offs_refused),
    ("shards_restarted", "Shards restarted after a panic.", |c| &c.shards_restarted),
    ("api_unauthorized", "API requests refused for a missing or wrong key.", |c| &c.api_unauthorized),
    ("api_emitted", "Messages taken in by the API.", |c| &c.api_emitted),
];

/// Everything there is to know, as text.
pub(super) fn render(engine: &Arc<Engine>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Metrics { engine: engine.clone() }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Metrics {
    engine: Arc<Engine>,
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.about(&mut families)?;
        self.shards(&mut families)?;
        self.mailboxes(&mut families)?;
        self.process_wide(&mut families)?;
        self.redis(&mut families)?;
        operating_system(&mut families, &Process::look())
    }
}

impl Metrics {
    fn about(&self, families: &mut Families<'_>) -> fmt::Result {
        let status = self.engine.status();
        families.info("shardcast_build", "What runs.", [("version", env!("CARGO_PKG_VERSION"))])?;
        families.info(
            "shardcast_io",
            "How the shards talk to the kernel.",
            [("driver", status.io_driver)],
        )?;
        let draining = u64::from(status.draining.load(Ordering::Acquire));
        families.gauge("shardcast_draining", "1 once a stop was asked for.", draining)
    }

    fn shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let shards = &self.engine.status().shards;
        let flags =
            |flag: fn(&crate::status::ShardStatus) -> bool| by_shard(shards.iter().map(flag).map(u64::from));
        let up = flags(|shard| shard.up.load(Ordering::Acquire));
        families.by_shard("shardcast_shard_up", "1 while the shard runs.", None, MetricType::Gauge, &up)?;
        let degraded = flags(|shard| shard.degraded.load(Ordering::Acquire));
        let help = "1 once the shard restarted empty after a panic.";
        families.by_shard("shardcast_shard_degraded", help, None, MetricType::Gauge, &degraded)?;

        let counters: Vec<Counters> = shards.iter().map(|shard| shard.counters()).collect();
        let values: Vec<_> = counters.iter().map(Counters::values).collect();
        for (index, (field, help)) in Counters::FIELDS.iter().enumerate() {
            let (name, unit) = shard_metric(field);
            let kind = if SHARD_GAUGES.contains(field) { MetricType::Gauge } else { MetricType::Counter };
            let values = by_shard(values.iter().map(|values| values[index]));
            families.by_shard(&name, help.trim(), unit, kind, &values)?;
        }

        let violations = Violation::ALL.map(|violation| {
            let sum = counters.iter().map(|counters| counters.violations[violation.index()]).sum();
            ([("kind", Cow::Borrowed(violation_kind(violation)))], sum)
        });
        let help = "Connections closed for breaking RFC 6455.";
        families.labelled("shardcast_violations", help, None, MetricType::Counter, &violations)
    }

    fn mailboxes(&self, families: &mut Families<'_>) -> fmt::Result {
        let mailboxes = self.engine.router().shards();
        let waiting = by_shard(mailboxes.iter().map(|mailbox| mailbox.len() as u64));
        let help = "Messages waiting for the shard.";
        families.by_shard("shardcast_mailbox_waiting", help, None, MetricType::Gauge, &waiting)?;
        let refused = by_shard(mailboxes.iter().map(|mailbox| mailbox.refused()));
        let help = "Messages lost because the shard's mailbox was full.";
        families.by_shard("shardcast_mailbox_refused", help, None, MetricType::Counter, &refused)
    }

    fn process_wide(&self, families: &mut Families<'_>) -> fmt::Result {
        for (name, help, counter) in PROCESS_COUNTERS {
            let value = counter(&self.engine.status().process).load(Ordering::Relaxed);
            families.counter(&format!("shardcast_{name}"), help, value)?;
        }
        let directory = self.engine.router().directory();
        let counts = [
            ("clients", "Clients that can be addressed.", directory.clients_len()),
            ("users", "Users with connections.", directory.users_len()),
            ("rooms", "Rooms with members.", directory.rooms_len()),
        ];
        for (name, help, count) in counts {
            families.gauge(&format!("shardcast_directory_{name}"), help, count as u64)?;
        }
        Ok(())
    }

    /// Only with a Redis configured: an absent metric cannot alarm anyone.
    fn redis(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(redis) = self.engine.redis() else { return Ok(()) };
        let status = redis.status();
        let up = u64::from(status.connected);
        families.gauge("shardcast_redis_up", "1 while connected to Redis.", up)?;
        let help = "1 while a message that goes out through Redis comes back.";
        families.gauge("shardcast_redis_ready", help, u64::from(status.ready))?;
        let help = "Subscriptions after the first: each began after a gap.";
        families.gauge("shardcast_redis_generation", help, status.generation)?;
        let Some(rtt) = status.canary_rtt else { return Ok(()) };
        let help = "How long the last message took through Redis and back.";
        families.seconds("shardcast_redis_round_trip", help, MetricType::Gauge, rtt.as_secs_f64())
    }
}

fn operating_system(families: &mut Families<'_>, process: &Process) -> fmt::Result {
    let counts = [
        ("process_resident_memory", "Memory in RAM.", Some(Unit::Bytes), process.resident_bytes),
        ("process_virtual_memory", "Address space.", Some(Unit::Bytes), process.virtual_bytes),
        ("process_threads", "Threads.", None, process.threads),
        ("process_open_fds", "File descriptors in use.", None, process.open_fds),
        ("process_max_fds", "File descriptors the process may use.", None, process.max_fds),
    ];
    for (name, help, unit, value) in counts {
        if let Some(value) = value {
            families.labelled(name, help, unit, MetricType::Gauge, &[(NO_LABEL, value)])?;
        }
    }
    if let Some(seconds) = process.cpu_seconds {
        families.seconds("process_cpu", "CPU time, user and system.", MetricType::Counter, seconds)?;
    }
    if let Some(seconds) = process.start_unix_seconds {
        let help = "When the process started, since 1970.";
        families.seconds("process_start_time", help, MetricType::Gauge, seconds)?;
    }
    if let Some(seconds) = process.uptime_seconds {
        families.seconds(
            "process_uptime",
            "For how long the process has run.",
            MetricType::Gauge,
            seconds,
        )?;
    }
    Ok(())
}

/// A label with its value.
type Label = (&'static str, Cow<'static, str>);

/// For metrics that have no labels.
const NO_LABEL: [Label; 0] = [];

fn by_shard(values: impl Iterator<Item = u64>) -> Vec<([Label; 1], u64)> {
    let label = |shard: usize| [("shard", Cow::Owned(shard.to_string()))];
    values.enumerate().map(|(shard, value)| (label(shard), value)).collect()
}

/// The metric of a field of [`Counters`]: its name without the unit, and the unit.
fn shard_metric(field: &str) -> (String, Option<Unit>) {
    let (name, unit) = match field {
        "bytes_received" => ("received", Some(Unit::Bytes)),
        "bytes_sent" => ("sent", Some(Unit::Bytes)),
        "outbox_bytes" => ("outbox", Some(Unit::Bytes)),
        "conns" => ("connections", None),
        field => (field, None),
    };
    (format!("shardcast_{name}"), unit)
}

fn violation_kind(violation: Violation) -> &'static str {
    match violation {
        Violation::UnmaskedFrame => "unmasked_frame",
        Violation::UnexpectedRsv1 => "unexpected_rsv1",
        Violation::UnexpectedRsv23 => "unexpected_rsv23",
        Violation::InvalidOpcode => "invalid_opcode",
        Violation::FragmentedControl => "fragmented_control",
        Violation::ControlTooBig => "control_too_big",
        Violation::StrayContinuation => "stray_continuation",
        Violation::NestedMessage => "nested_message",
        Violation::MessageTooBig => "message_too_big",
        Violation::TooManyFragments => "too_many_fragments",
        Violation::InvalidUtf8 => "invalid_utf8",
        Violation::InvalidClosePayload => "invalid_close_payload",
        Violation::InvalidCloseCode => "invalid_close_code",
    }
}

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.labelled(name, help, None, MetricType::Counter, &[(NO_LABEL, value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.labelled(name, help, None, MetricType::Gauge, &[(NO_LABEL, value)])
    }

    fn by_shard(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        values: &[([Label; 1], u64)],
    ) -> fmt::Result {
        self.labelled(name, help, unit, kind, values)
    }

    fn labelled<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        values: &[([Label; N], u64)],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            let metric = family.encode_family(labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                _ => ConstGauge::new(*value).encode(metric)?,
            }
        }
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, kind: MetricType, value: f64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        match kind {
            MetricType::Counter => ConstCounter::new(value).encode(metric),
            _ => ConstGauge::new(value).encode(metric),
        }
    }

    fn info(&mut self, name: &str, help: &str, label: [(&'static str, &'static str); 1]) -> fmt::Result {
        let info = Info::new(label);
        info.encode(self.0.encode_descriptor(name, help, None, MetricType::Info)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_documented_as_gauges_are_gauges() {
        let documented: Vec<&str> = Counters::FIELDS
            .iter()
            .filter(|(_, help)| help.contains("(gauge)"))
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(documented, SHARD_GAUGES);
    }
}
