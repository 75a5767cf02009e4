//! The admin listener: health, metrics, and a summary for people.
//!
//! Nothing here changes anything, and nothing waits for a shard, so that it answers however busy they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use shardcast_shard::Counters;

use super::answer::{self, Answer};
use super::error::ApiError;
use super::process::Process;
use super::{Control, metrics};
use crate::engine::Engine;

const INDEX: &str = "<!doctype html>\n<title>Shardcast</title>\n<h1>Shardcast</h1>\n<ul>\n\
    <li><a href=\"/health/live\">/health/live</a>: the process answers\n\
    <li><a href=\"/health/ready\">/health/ready</a>: it should get traffic\n\
    <li><a href=\"/metrics\">/metrics</a>: for Prometheus\n\
    <li><a href=\"/admin/status\">/admin/status</a>: shards, mailboxes, Redis\n\
    </ul>\n";

/// Answers a request that came in on the admin listener.
pub(super) fn answer(control: &Control, request: &Request<Incoming>) -> Answer {
    let engine = &control.engine;
    let page: fn(&Arc<Engine>) -> Answer = match request.uri().path() {
        "/" => |_| text("text/html; charset=utf-8", INDEX),
        "/health/live" => |_| answer::json(StatusCode::OK, &Live { live: true }),
        "/health/ready" => ready,
        "/metrics" => scrape,
        "/admin/status" => |engine| answer::json(StatusCode::OK, &Summary::new(engine)),
        _ => return ApiError::NotFound.answer(),
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        page(engine)
    } else {
        ApiError::MethodNotAllowed { allow: "GET, HEAD" }.answer()
    }
}

fn text(media_type: &'static str, body: impl Into<bytes::Bytes>) -> Answer {
    answer::with_body(StatusCode::OK, HeaderValue::from_static(media_type), body)
}

fn scrape(engine: &Arc<Engine>) -> Answer {
    let text_of = metrics::render(engine).expect("writing to a string cannot fail");
    text(metrics::MEDIA_TYPE, text_of)
}

#[derive(Serialize)]
struct Live {
    live: bool,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    shards: Check,
    redis: Check,
    audit: Check,
    draining: Check,
    memory: Check,
    /// Always ok: clients that are connected are served, and other instances would ask the same application.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhooks: Option<Check>,
}

#[derive(Serialize)]
struct Check {
    ok: bool,
    detail: String,
}

impl Checks {
    fn run(engine: &Engine) -> Self {
        Self {
            shards: shards(engine),
            redis: redis(engine),
            audit: audit(engine),
            draining: draining(engine),
            memory: memory(engine),
            webhooks: webhooks(engine),
        }
    }

    fn all_ok(&self) -> bool {
        self.shards.ok && self.redis.ok && self.audit.ok && self.draining.ok && self.memory.ok
    }
}

fn shards(engine: &Engine) -> Check {
    let shards = &engine.status().shards;
    let up = shards.iter().filter(|shard| shard.up.load(Ordering::Acquire)).count();
    let restarted: Vec<String> = (shards.iter().enumerate())
        .filter(|(_, shard)| shard.degraded.load(Ordering::Acquire))
        .map(|(index, _)| index.to_string())
        .collect();
    let mut detail = format!("{up} of {} up", shards.len());
    if !restarted.is_empty() {
        detail.push_str(&format!("; restarted after a panic: {}", restarted.join(", ")));
    }
    Check { ok: engine.status().shards_up(), detail }
}

fn redis(engine: &Engine) -> Check {
    let Some(redis) = engine.redis() else {
        return Check { ok: true, detail: "not configured".to_owned() };
    };
    let status = redis.status();
    let detail = match (status.ready, status.connected, status.last_error) {
        (true, ..) => "messages go out and come back".to_owned(),
        (false, _, Some(error)) => error.to_string(),
        (false, true, None) => "connected; nothing has come back yet".to_owned(),
        (false, false, None) => "connecting".to_owned(),
    };
    Check { ok: status.ready, detail }
}

/// Trouble is shown always, and turns readiness red only where the audit log is required.
fn audit(engine: &Engine) -> Check {
    let Some(counters) = engine.audit().counters() else {
        return Check { ok: true, detail: "not configured".to_owned() };
    };
    match counters.trouble() {
        None => Check { ok: true, detail: "lines go out".to_owned() },
        Some(error) => Check {
            ok: !engine.audit().is_required(),
            detail: format!("lines do not go out: {error}; they are lost and counted"),
        },
    }
}

fn draining(engine: &Engine) -> Check {
    let draining = engine.status().draining.load(Ordering::Acquire);
    Check { ok: !draining, detail: if draining { "a stop was asked for" } else { "no" }.to_owned() }
}

fn webhooks(engine: &Engine) -> Option<Check> {
    let open = engine.status().webhooks.as_ref()?.open_breakers();
    let detail = match open.as_slice() {
        [] => "answered, or not asked yet".to_owned(),
        open => format!("degraded: the application is out of order for {}", open.join(", ")),
    };
    Some(Check { ok: true, detail })
}

fn memory(engine: &Engine) -> Check {
    let status = engine.status();
    let pressure = status.memory_pressure.load(Ordering::Acquire);
    let detail = match (pressure, status.memory_bytes_max.load(Ordering::Acquire)) {
        (true, bytes_max) => {
            format!("new connections are refused: the process takes {bytes_max} bytes or more")
        }
        (false, 0) => "no bound".to_owned(),
        (false, bytes_max) => format!("below {bytes_max} bytes"),
    };
    Check { ok: !pressure, detail }
}

fn ready(engine: &Arc<Engine>) -> Answer {
    let checks = Checks::run(engine);
    let ready = checks.all_ok();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &Readiness { ready, checks })
}

/// `GET /admin/status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    version: &'static str,
    server_id: &'a str,
    io_driver: &'static str,
    uptime_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    ready: bool,
    checks: Checks,
    clients: usize,
    users: usize,
    rooms: usize,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    up: bool,
    degraded: bool,
    connections: u64,
    clients: u64,
    rooms: u64,
    outbox_bytes: u64,
    mailbox_waiting: usize,
    mailbox_refused: u64,
}

impl<'a> Summary<'a> {
    fn new(engine: &'a Engine) -> Self {
        let (status, directory, process) = (engine.status(), engine.router().directory(), Process::look());
        let checks = Checks::run(engine);
        let shards = status.shards.iter().zip(engine.router().shards()).map(|(shard, mailbox)| {
            let Counters { conns, clients, rooms, outbox_bytes, .. } = shard.counters();
            Shard {
                up: shard.up.load(Ordering::Acquire),
                degraded: shard.degraded.load(Ordering::Acquire),
                connections: conns,
                clients,
                rooms,
                outbox_bytes,
                mailbox_waiting: mailbox.len(),
                mailbox_refused: mailbox.refused(),
            }
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            server_id: engine.server_id(),
            io_driver: status.io_driver,
            uptime_seconds: process.uptime_seconds,
            resident_bytes: process.resident_bytes,
            open_fds: process.open_fds,
            max_fds: process.max_fds,
            ready: checks.all_ok(),
            checks,
            clients: directory.clients_len(),
            users: directory.users_len(),
            rooms: directory.rooms_len(),
            shards: shards.collect(),
        }
    }
}
