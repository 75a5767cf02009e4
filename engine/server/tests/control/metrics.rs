//! The metrics page as a scraper reads it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use shardcast_shard::{Counters, Mail};

use crate::plane::{Options, Plane};

/// Checks the grammar of OpenMetrics as far as this page uses it; returns the names of the families.
fn check(page: &str) -> Vec<String> {
    let mut families: Vec<(String, String)> = Vec::new();
    let mut samples = BTreeSet::new();
    let text = page.strip_suffix("# EOF\n").expect("an end");
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let [kind, name, rest] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            match kind {
                "HELP" => assert!(rest.ends_with('.') && !rest.starts_with(' '), "{line}"),
                "TYPE" => families.push((name.to_owned(), rest.to_owned())),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok_and(|value| value >= 0.0), "{line}");
        assert!(samples.insert(series.to_owned()), "twice: {line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        assert!(labels.ends_with('}'), "{line}");
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(["shard", "kind", "reason", "jwks", "version", "driver"].contains(&key), "{line}");
            assert!(value.len() > 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
        }
        let (family, kind) = families.last().expect("a type before its samples");
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "gauge" => "",
            "info" => "_info",
            _ => panic!("{kind}"),
        };
        assert_eq!(name, format!("{family}{suffix}"), "{line}");
    }
    families.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn every_line_is_valid_and_every_name_unique() {
    let plane =
        Plane::start(Options { shard_count: 3, redis: Some("redis://127.0.0.1:1"), ..Options::default() });
    let answer = plane.get_admin("/metrics");
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some(media_type)));
    let families = check(&answer.body);
    let unique: BTreeSet<&String> = families.iter().collect();
    assert_eq!(unique.len(), families.len(), "{families:?}");
    for family in &families {
        let known = family.starts_with("shardcast_") || family.starts_with("process_");
        let plain =
            family.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(known && plain && !family.ends_with("_total"), "{family}");
    }
    assert!(families.len() > Counters::FIELDS.len() + 20, "{families:?}");
}

#[test]
fn what_is_counted_is_shown() {
    let plane = Plane::start(Options { shard_count: 2, letters_max: 1, ..Options::default() });
    let status = plane.engine.status();
    let mut counters =
        Counters { conns: 9, bytes_sent: 1_000, accepted: 12, outbox_bytes: 77, ..Counters::default() };
    counters.violations[0] = 2;
    counters.refused_heads[1] = 6;
    counters.requests_malformed[3] = 8;
    status.shards[0].report(counters.clone());
    counters.violations[0] = 3;
    counters.refused_heads[1] = 4;
    counters.requests_malformed[3] = 1;
    status.shards[1].report(counters);
    status.shards[1].up.store(true, Ordering::Release);
    status.process.redis_gaps.store(4, Ordering::Relaxed);
    let posts: Vec<bool> =
        (0..3).map(|_| plane.engine.router().shards()[1].post(Mail::Drain { period_ms: 0 })).collect();
    assert_eq!(posts, [true, false, false]);

    let page = plane.get_admin("/metrics").body;
    for line in [
        "shardcast_connections{shard=\"0\"} 9",
        "shardcast_accepted_total{shard=\"1\"} 12",
        "shardcast_sent_bytes_total{shard=\"0\"} 1000",
        "shardcast_outbox_bytes{shard=\"0\"} 77",
        "shardcast_violations_total{kind=\"unmasked_frame\"} 5",
        "shardcast_refused_heads_total{reason=\"bare_line_feed\"} 10",
        "shardcast_refused_heads_total{reason=\"origin\"} 0",
        "shardcast_requests_malformed_total{reason=\"session\"} 9",
        "shardcast_mailbox_waiting{shard=\"1\"} 1",
        "shardcast_mailbox_refused_total{shard=\"1\"} 2",
        "shardcast_shard_up{shard=\"0\"} 0",
        "shardcast_shard_up{shard=\"1\"} 1",
        "shardcast_redis_gaps_total 4",
        "shardcast_io_info{driver=\"io_uring\"} 1",
        "# UNIT shardcast_sent_bytes bytes",
        "# TYPE process_cpu_seconds counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(!page.contains("shardcast_redis_up"), "there is no Redis");
}
