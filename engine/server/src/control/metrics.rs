//! Metrics in the OpenMetrics text format, read from the counters at each scrape.
//!
//! Names are `shardcast_*` (and `process_*`, where Prometheus has a convention), base units are in the name,
//! counters end in `_total`. Labels are bounded by the process, never by its peers: `shard`, `kind` of
//! violation, `reason` of a refusal or of a failure of TLS, `jwks` for the place of a table in `auth.jwt.jwks`.

mod webhooks;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric, MetricEncoder, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use shardcast_shard::{Counters, RefusalReason};
use shardcast_wire::message::Violation;
use shardcast_wire::topic::RequestError;

use super::process::Process;
use crate::engine::Engine;
use crate::status::{JwksStatus, ProcessCounters, ShardStatus};
use crate::tls::counters::Failure;

/// The media type of the format.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How [`Counters::FIELDS`] says that a field goes up and down.
const GAUGE_MARK: &str = " (gauge).";

/// Name, meaning and place of each counter of the process.
type ProcessCounter = (&'static str, &'static str, fn(&ProcessCounters) -> &AtomicU64);

const PROCESS_COUNTERS: [ProcessCounter; 25] = [
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
    ("redis_resubscribes", "Channels subscribed again after the link was lost.", |c| &c.redis_resubscribes),
    ("redis_subscribe_errors", "Times that Redis refused a channel, or to let go of one.", |c| {
        &c.redis_subscribe_errors
    }),
    ("redis_listens_refused", "Channels not listened to: too many, or refused by Redis.", |c| {
        &c.redis_listens_refused
    }),
    ("redis_listens_local_only", "Joins that did not wait for Redis, as it was away or too slow.", |c| {
        &c.redis_listens_local_only
    }),
    ("topic_dropped_size", "Messages for topics longer than snapshot_bytes_max.", |c| &c.topic_dropped_size),
    ("topic_dropped_binary", "Messages for topics dropped for not being UTF-8.", |c| &c.topic_dropped_binary),
    ("asks_refused", "Questions to the hooks refused because too many were waiting.", |c| &c.asks_refused),
    ("hooks_panicked", "Hooks that panicked.", |c| &c.hooks_panicked),
    ("hooks_timed_out", "Hooks that did not answer within hook_timeout.", |c| &c.hooks_timed_out),
    ("accepts_shed", "Connections refused for want of file descriptors or memory.", |c| &c.accepts_shed),
    ("accepts_delayed", "Times that accepting waited because of accepts_per_second_max.", |c| {
        &c.accepts_delayed
    }),
    ("shed_memory", "Connections refused because the process takes memory_bytes_max.", |c| &c.shed_memory),
    ("shed_address", "Connections refused at accept because of connections_per_address_max.", |c| {
        &c.shed_address
    }),
    ("hand_offs_refused", "HTTP connections the control plane had no place for.", |c| &c.hand_offs_refused),
    ("shards_restarted", "Shards restarted after a panic.", |c| &c.shards_restarted),
    ("joins_refused_policy", "Rooms asked for that the hooks did not grant.", |c| &c.joins_refused_policy),
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
        self.compression(&mut families)?;
        self.tls(&mut families)?;
        self.auth(&mut families)?;
        self.redis(&mut families)?;
        self.audit(&mut families)?;
        if let Some(figures) = &self.engine.status().webhooks {
            webhooks::encode(&mut families, figures)?;
        }
        operating_system(&mut families, &Process::look())
    }
}

impl Metrics {
    fn about(&self, families: &mut Families<'_>) -> fmt::Result {
        let status = self.engine.status();
        families.info("shardcast_build", "What runs.", [("version", env!("CARGO_PKG_VERSION"))])?;
        let help = "How the shards talk to the kernel.";
        families.info("shardcast_io", help, [("driver", status.io_driver)])?;
        let draining = u64::from(status.draining.load(Ordering::Acquire));
        families.gauge("shardcast_draining", "1 once a stop was asked for.", draining)?;
        let pressure = u64::from(status.memory_pressure.load(Ordering::Acquire));
        let help = "1 while new connections are refused because the process takes memory_bytes_max.";
        families.gauge("shardcast_memory_pressure", help, pressure)?;
        let (name, help) =
            ("shardcast_memory_max", "Memory from which on new connections are refused; 0 is none.");
        let bytes_max = status.memory_bytes_max.load(Ordering::Acquire);
        families.plain(name, help, Some(Unit::Bytes), MetricType::Gauge, bytes_max)
    }

    fn shards(&self, families: &mut Families<'_>) -> fmt::Result {
        let shards = &self.engine.status().shards;
        let flags = |flag: fn(&ShardStatus) -> bool| by_shard(shards.iter().map(flag).map(u64::from));
        let up = flags(|shard| shard.up.load(Ordering::Acquire));
        families.labelled("shardcast_shard_up", "1 while the shard runs.", None, MetricType::Gauge, &up)?;
        let degraded = flags(|shard| shard.degraded.load(Ordering::Acquire));
        let help = "1 once the shard restarted empty after a panic.";
        families.labelled("shardcast_shard_degraded", help, None, MetricType::Gauge, &degraded)?;

        let counters: Vec<Counters> = shards.iter().map(|shard| shard.counters()).collect();
        let values: Vec<_> = counters.iter().map(Counters::values).collect();
        for (index, (field, help)) in Counters::FIELDS.iter().enumerate() {
            let (name, unit) = shard_metric(field);
            let values = by_shard(values.iter().map(|values| values[index]));
            let (help, kind) = match help.trim().strip_suffix(GAUGE_MARK) {
                Some(help) => (format!("{help}."), MetricType::Gauge),
                None => (help.trim().to_owned(), MetricType::Counter),
            };
            families.labelled(&name, &help, unit, kind, &values)?;
        }

        let violations = Violation::ALL.map(|violation| {
            let sum: u64 = counters.iter().map(|counters| counters.violations[violation.index()]).sum();
            ([("kind", Cow::Borrowed(violation_kind(violation)))], sum)
        });
        let help = "Connections closed for breaking RFC 6455.";
        families.labelled("shardcast_violations", help, None, MetricType::Counter, &violations)?;

        let refusals: Vec<_> = RefusalReason::ALL
            .iter()
            .map(|reason| {
                let sum: u64 = counters.iter().map(|counters| counters.auth_refused[reason.index()]).sum();
                ([("reason", Cow::Borrowed(reason.name()))], sum)
            })
            .collect();
        let help = "Authentications refused by the hooks.";
        families.labelled("shardcast_auth_refused", help, None, MetricType::Counter, &refusals)?;
        let mut sum = Counters::default();
        for (reason, count) in counters.iter().flat_map(|counters| counters.refused_heads.iter().enumerate())
        {
            sum.refused_heads[reason] += count;
        }
        let label = |reason| [("reason", Cow::Borrowed(reason))];
        let refused: Vec<_> = sum.refused_heads().map(|(reason, count)| (label(reason), count)).collect();
        let help = "Request heads refused.";
        families.labelled("shardcast_refused_heads", help, None, MetricType::Counter, &refused)?;
        let malformed = RequestError::ALL.map(|error| {
            let sum: u64 = counters.iter().map(|counters| counters.requests_malformed[error.index()]).sum();
            ([("reason", Cow::Borrowed(error.name()))], sum)
        });
        let help = "Messages of topic clients that are no requests; each closes its client.";
        families.labelled("shardcast_requests_malformed", help, None, MetricType::Counter, &malformed)
    }

    fn mailboxes(&self, families: &mut Families<'_>) -> fmt::Result {
        let mailboxes = self.engine.router().shards();
        let waiting = by_shard(mailboxes.iter().map(|mailbox| mailbox.len() as u64));
        let help = "Messages waiting for the shard.";
        families.labelled("shardcast_mailbox_waiting", help, None, MetricType::Gauge, &waiting)?;
        let refused = by_shard(mailboxes.iter().map(|mailbox| mailbox.refused()));
        let help = "Messages lost because the shard's mailbox was full.";
        families.labelled("shardcast_mailbox_refused", help, None, MetricType::Counter, &refused)
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

    fn compression(&self, families: &mut Families<'_>) -> fmt::Result {
        let counters = self.engine.router().compression().counters();
        let counts = [
            ("compressed", "Messages compressed.", None, &counters.compressed),
            ("incompressible", "Messages that would not get smaller.", None, &counters.incompressible),
            ("compression_input", "Frames compressed, before.", Some(Unit::Bytes), &counters.input_bytes),
            ("compression_output", "Frames compressed, after.", Some(Unit::Bytes), &counters.output_bytes),
        ];
        for (name, help, unit, counter) in counts {
            let value = counter.load(Ordering::Relaxed);
            families.plain(&format!("shardcast_{name}"), help, unit, MetricType::Counter, value)?;
        }
        Ok(())
    }

    /// Only with TLS configured: an expiry of 0 would alarm everyone.
    fn tls(&self, families: &mut Families<'_>) -> fmt::Result {
        let tls = &self.engine.status().tls;
        let not_after_unix_s = tls.not_after_unix_s.load(Ordering::Relaxed);
        if not_after_unix_s == 0 {
            return Ok(());
        }
        let counts = [
            ("handshakes", "TLS handshakes completed.", &tls.handshakes),
            ("resumed", "TLS handshakes that resumed an earlier session.", &tls.resumed),
        ];
        for (name, help, counter) in counts {
            families.counter(&format!("shardcast_tls_{name}"), help, counter.load(Ordering::Relaxed))?;
        }
        let failures =
            Failure::ALL.map(|failure| ([("reason", Cow::Borrowed(failure.name()))], tls.failures(failure)));
        let help = "TLS connections that ended badly.";
        families.labelled("shardcast_tls_failures", help, None, MetricType::Counter, &failures)?;
        let help = "TLS connections open, in handshakes too.";
        families.gauge("shardcast_tls_connections", help, tls.connections.load(Ordering::Relaxed))?;
        let help = "Records that are not complete, or that sockets have not taken.";
        let (unit, kind) = (Some(Unit::Bytes), MetricType::Gauge);
        families.plain("shardcast_tls_held", help, unit, kind, tls.held_bytes())?;
        let help = "When the first certificate expires, since 1970.";
        let (unit, kind) = (Some(Unit::Seconds), MetricType::Gauge);
        families.plain("shardcast_tls_certificate_expiry", help, unit, kind, not_after_unix_s as f64)
    }

    fn auth(&self, families: &mut Families<'_>) -> fmt::Result {
        let auth = &self.engine.status().auth;
        let counts = [
            ("tokens_checked", "Tokens whose signature was looked at.", &auth.tokens_checked),
            ("token_cache_hits", "Tokens known from an earlier look.", &auth.cache_hits),
            ("jwks_fetches", "Fetches of an issuer's keys.", &auth.jwks_fetches),
            ("jwks_failures", "Fetches of an issuer's keys that brought nothing.", &auth.jwks_failures),
            ("jwks_keys_ignored", "Keys of issuers that cannot be used.", &auth.jwks_keys_ignored),
        ];
        for (name, help, counter) in counts {
            families.counter(&format!("shardcast_{name}"), help, counter.load(Ordering::Relaxed))?;
        }
        let jwks = auth.jwks.load();
        let by_issuer = |value: fn(&JwksStatus) -> &AtomicU64| -> Vec<([Label; 1], u64)> {
            let label = |index: usize| [("jwks", Cow::Owned(index.to_string()))];
            let value = |source: &Arc<JwksStatus>| value(source).load(Ordering::Relaxed);
            jwks.iter().enumerate().map(|(index, source)| (label(index), value(source))).collect()
        };
        let (help, gauge) = ("Keys of an issuer that are in use.", MetricType::Gauge);
        families.labelled("shardcast_jwks_keys", help, None, gauge, &by_issuer(|source| &source.keys))?;
        let help = "When the keys of an issuer were last fetched, since 1970; 0: not yet.";
        let fetched = by_issuer(|source| &source.fetched_unix_seconds);
        families.labelled("shardcast_jwks_fetched_time", help, Some(Unit::Seconds), gauge, &fetched)
    }

    /// Only with an audit log configured.
    fn audit(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(counters) = self.engine.audit().counters() else { return Ok(()) };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        families.counter("shardcast_audit_written", "Lines of the audit log.", read(&counters.written))?;
        let lost =
            [("queue", &counters.lost_queue), ("rate", &counters.lost_rate), ("write", &counters.lost_write)];
        let lost = lost.map(|(because, counter)| ([("because", Cow::Borrowed(because))], read(counter)));
        let help = "Events that are not in the audit log.";
        families.labelled("shardcast_audit_lost", help, None, MetricType::Counter, &lost)?;
        let help = "Writes and openings of the audit log that failed.";
        families.counter("shardcast_audit_errors", help, read(&counters.errors))?;
        let help = "1 while lines of the audit log go out.";
        families.gauge("shardcast_audit_up", help, u64::from(counters.trouble().is_none()))?;
        let waiting = self.engine.audit().waiting() as u64;
        families.gauge("shardcast_audit_waiting", "Events that wait to be written.", waiting)
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
        let figures = self.engine.upstream().figures();
        let help = "Channels wanted by name, or not yet unsubscribed.";
        families.gauge("shardcast_redis_channels", help, figures.channels as u64)?;
        let help = "Channels subscribed by name.";
        families.gauge("shardcast_redis_channels_subscribed", help, figures.confirmed as u64)?;
        let help = "Joins that wait for Redis to confirm a channel.";
        families.gauge("shardcast_redis_listens_waiting", help, figures.waiting as u64)?;
        let Some(rtt) = status.canary_rtt.map(|rtt| rtt.as_secs_f64()) else { return Ok(()) };
        let help = "How long the last message took through Redis and back.";
        families.plain("shardcast_redis_round_trip", help, Some(Unit::Seconds), MetricType::Gauge, rtt)
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
    if let Some(overflows) = process.listen_overflows {
        let help = "Connections the kernel dropped because a queue of accepts was full, all of the machine or container.";
        families.counter("shardcast_listen_overflows", help, overflows)?;
    }
    for (name, help, unit, value) in counts {
        if let Some(value) = value {
            families.plain(name, help, unit, MetricType::Gauge, value)?;
        }
    }
    let times = [
        ("process_cpu", "CPU time, user and system.", MetricType::Counter, process.cpu_seconds),
        ("process_start_time", "The start, since 1970.", MetricType::Gauge, process.start_unix_seconds),
        ("process_uptime", "Since the start.", MetricType::Gauge, process.uptime_seconds),
    ];
    for (name, help, kind, value) in times {
        if let Some(value) = value {
            families.plain(name, help, Some(Unit::Seconds), kind, value)?;
        }
    }
    Ok(())
}

/// A label with its value.
type Label = (&'static str, Cow<'static, str>);

fn by_shard(values: impl Iterator<Item = u64>) -> Vec<([Label; 1], u64)> {
    let label = |shard: usize| [("shard", Cow::Owned(shard.to_string()))];
    values.enumerate().map(|(shard, value)| (label(shard), value)).collect()
}

/// The metric of a field of [`Counters`]: its name without the unit, and the unit.
fn shard_metric(field: &str) -> (String, Option<Unit>) {
    let bytes = field.strip_prefix("bytes_").or_else(|| field.strip_suffix("_bytes"));
    let name = if field == "conns" { "connections" } else { bytes.unwrap_or(field) };
    (format!("shardcast_{name}"), bytes.map(|_| Unit::Bytes))
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
        Violation::InvalidDeflate => "invalid_deflate",
        Violation::InvalidUtf8 => "invalid_utf8",
        Violation::InvalidClosePayload => "invalid_close_payload",
        Violation::InvalidCloseCode => "invalid_close_code",
    }
}

/// Writes one family after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(name, help, None, MetricType::Counter, value)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.plain(name, help, None, MetricType::Gauge, value)
    }

    fn plain<V: Value>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        value: V,
    ) -> fmt::Result {
        encode(self.0.encode_descriptor(name, help, unit.as_ref(), kind)?, kind, value)
    }

    fn labelled<const N: usize, V: Value + Copy>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        values: &[([Label; N], V)],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in values {
            encode(family.encode_family(labels)?, kind, *value)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, label: [(&'static str, &'static str); 1]) -> fmt::Result {
        let info = Info::new(label);
        info.encode(self.0.encode_descriptor(name, help, None, MetricType::Info)?)
    }
}

/// What a metric can be worth: `u64`, `f64`.
trait Value: EncodeCounterValue + EncodeGaugeValue {}

impl<V: EncodeCounterValue + EncodeGaugeValue> Value for V {}

fn encode(metric: MetricEncoder<'_>, kind: MetricType, value: impl Value) -> fmt::Result {
    match kind {
        MetricType::Counter => ConstCounter::new(value).encode(metric),
        _ => ConstGauge::new(value).encode(metric),
    }
}
