//! What operators see.

use std::sync::atomic::Ordering;

use serde_json::json;
use shardcast_shard::Counters;

use crate::plane::{Options, Plane, request};

fn all_up(plane: &Plane) {
    for shard in &plane.engine.status().shards {
        shard.up.store(true, Ordering::Release);
    }
}

#[test]
fn live_says_so_however_bad_things_are() {
    let plane = Plane::start(Options::default());
    plane.engine.status().draining.store(true, Ordering::Release);
    let answer = plane.get_admin("/health/live");
    assert_eq!((answer.status, answer.json()), (200, json!({"live": true})));
}

#[test]
fn ready_needs_every_shard_and_no_stop() {
    let plane = Plane::start(Options { shard_count: 2, ..Options::default() });
    let status = plane.engine.status();
    status.shards[0].up.store(true, Ordering::Release);
    let answer = plane.get_admin("/health/ready");
    let checks = json!({
        "shards": {"ok": false, "detail": "1 of 2 up"},
        "redis": {"ok": true, "detail": "not configured"},
        "audit": {"ok": true, "detail": "not configured"},
        "memory": {"ok": true, "detail": "no bound"},
        "draining": {"ok": true, "detail": "no"},
        "memory": {"ok": true, "detail": "no bound"},
    });
    assert_eq!((answer.status, answer.json()), (503, json!({"ready": false, "checks": checks})));

    all_up(&plane);
    status.shards[1].degraded.store(true, Ordering::Release);
    let answer = plane.get_admin("/health/ready");
    assert_eq!((answer.status, &answer.json()["ready"]), (200, &json!(true)));
    assert_eq!(answer.json()["checks"]["shards"]["detail"], "2 of 2 up; restarted after a panic: 1");

    status.draining.store(true, Ordering::Release);
    let answer = plane.get_admin("/health/ready");
    assert_eq!((answer.status, &answer.json()["checks"]["draining"]["ok"]), (503, &json!(false)));
}

#[test]
fn ready_is_red_under_memory_pressure() {
    let plane = Plane::start(Options::default());
    all_up(&plane);
    let status = plane.engine.status();
    status.memory_bytes_max.store(1_000, Ordering::Release);
    assert_eq!(plane.get_admin("/health/ready").status, 200);
    status.memory_pressure.store(true, Ordering::Release);
    let answer = plane.get_admin("/health/ready");
    assert_eq!((answer.status, &answer.json()["checks"]["memory"]["ok"]), (503, &json!(false)));
    let metrics = plane.get_admin("/metrics").body;
    assert!(metrics.contains("\nshardcast_memory_pressure 1\n"), "{metrics}");
}

#[test]
fn ready_needs_redis_once_it_is_configured() {
    let plane = Plane::start(Options { redis: Some("redis://127.0.0.1:1"), ..Options::default() });
    all_up(&plane);
    let answer = plane.get_admin("/health/ready");
    assert_eq!((answer.status, &answer.json()["checks"]["redis"]["ok"]), (503, &json!(false)));
    let metrics = plane.get_admin("/metrics").body;
    assert!(metrics.contains("\nshardcast_redis_up 0\n") && metrics.contains("\nshardcast_redis_ready 0\n"));
}

#[test]
fn the_status_sums_up_shards_and_mailboxes() {
    let plane = Plane::start(Options { shard_count: 2, ..Options::default() });
    plane.engine.status().shards[1].report(Counters {
        conns: 5,
        clients: 4,
        rooms: 3,
        outbox_bytes: 2,
        ..Counters::default()
    });
    assert_eq!(plane.emit(r#"{"type":"broadcast","event":"e"}"#).status, 200);
    let status = plane.get_admin("/admin/status").json();
    let expected = json!({
        "up": false, "degraded": false, "connections": 5, "clients": 4, "rooms": 3, "outboxBytes": 2,
        "mailboxWaiting": 1, "mailboxRefused": 0
    });
    assert_eq!(status["shards"][1], expected);
    assert_eq!(
        (&status["serverId"], &status["ioDriver"], &status["ready"]),
        (&json!("own-id"), &json!("io_uring"), &json!(false))
    );
    assert!(status["residentBytes"].as_u64() > Some(0), "{status}");
}

#[test]
fn the_index_leads_to_every_page() {
    let plane = Plane::start(Options::default());
    let index = plane.get_admin("/");
    assert_eq!((index.status, index.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    let links: Vec<&str> =
        index.body.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(links, ["/health/live", "/health/ready", "/metrics", "/admin/status"]);
    for link in links {
        assert_ne!(plane.get_admin(link).status, 404, "{link}");
    }
}

#[test]
fn admin_pages_are_read_only_and_the_api_is_not_among_them() {
    let plane = Plane::start(Options { dev: true, keys: Vec::new(), ..Options::default() });
    let mut client = plane.connect_admin();
    for (method, path, status) in [
        ("POST", "/metrics", 405),
        ("DELETE", "/", 405),
        ("HEAD", "/metrics", 200),
        ("GET", "/api/rooms", 404),
        ("GET", "/metrics/", 404),
    ] {
        client.send(request(method, path, "", "").as_bytes());
        assert_eq!(client.answer_to(method).status, status, "{method} {path}");
    }
}
