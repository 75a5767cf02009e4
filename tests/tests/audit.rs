//! The audit log and the log of the real binary: what is in them, what never is, and what becomes of them when
//! strangers flood them or the disk takes nothing.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use shardcast_tests::binary::{self, Binary, wait_for};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::ports;
use shardcast_tests::process::{Process, ScratchDir};
use shardcast_tests::server::WS;

const KEY: &str = "key-1-sesame-sesame";

/// Two tokens, two keys, rooms for some.
const CONFIG: &str = "[api]\nkey = [\"key-0-sesame-sesame\", \"key-1-sesame-sesame\"]\n[auth]\nrooms = [\"public:*\"]\n\
                      [[auth.tokens]]\ntoken = \"token-sesame\"\nuser = \"alice\"\n\
                      [[auth.tokens]]\ntoken = \"token-sesame-2\"\nuser = 42\n";

/// A folder for an audit log, and the flags that put it there.
struct Log {
    scratch: ScratchDir,
}

impl Log {
    fn new() -> Self {
        Self { scratch: ScratchDir::new("audit") }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("audit.jsonl")
    }

    fn flag(&self) -> String {
        format!("audit.file={}", self.path().display())
    }

    /// Its lines as JSON; each must be a whole one.
    fn lines(&self) -> Vec<Value> {
        lines(&self.path())
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the audit log");
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().expect("an event")).collect()
}

/// A client that is let in, with its id.
fn client(server: &Binary, token: &str) -> (Client, String) {
    let mut client = Client::connect(server.address(), WS);
    client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
    let connected = client.recv_json();
    let id = connected["data"]["id"].as_str().unwrap_or_else(|| panic!("{connected}")).to_owned();
    (client, id)
}

/// Sends `data` to authenticate with, and is turned away.
fn refused(server: &Binary, data: &Value) {
    let mut client = Client::connect(server.address(), WS);
    client.send_json(&json!({"event": "authenticate", "data": data}));
    assert_eq!(client.recv_json()["event"], "error", "{data}");
    assert!(matches!(client.recv(), Received::Close(Some(4003), _)), "{data}");
}

fn join(client: &mut Client, rooms: &[&str]) {
    client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    client.settle();
}

fn metric(server: &Binary, name: &str) -> u64 {
    let answer = Http::connect(server.admin_address()).get("/metrics");
    let text = String::from_utf8(answer.body).expect("text");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

#[test]
fn a_user_without_a_place_is_refused_and_not_accepted_as_well() {
    let log = Log::new();
    let all = "audit.events=auth_refused,auth_accepted";
    let one = "limits.connections_per_user_max=1";
    let args = ["--shards", "1", "--set", &log.flag(), "--set", all, "--set", one];
    let mut server = Binary::start_with_file(CONFIG, &args);
    let (alice, id) = client(&server, "token-sesame");
    let mut again = Client::connect(server.address(), WS);
    again.send_json(&json!({"event": "authenticate", "data": {"token": "token-sesame"}}));
    assert_eq!(again.recv_json()["data"]["message"], "Too many connections");
    drop((alice, again));
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let lines = log.lines();
    assert_eq!(events(&lines), ["auth_accepted", "auth_refused"]);
    assert_eq!(lines[0]["client"], id);
    assert_eq!((&lines[1]["reason"], &lines[1]["user"]), (&json!("too_many_connections"), &json!("alice")));
}

#[test]
fn every_event_is_a_line_with_its_fields_and_nothing_secret() {
    let log = Log::new();
    let all = "audit.events=auth_refused,auth_accepted,join_refused,api_refused,kick,reload,start,drain,stop";
    let mut server = Binary::start_with_file(CONFIG, &["--shards", "1", "--set", &log.flag(), "--set", all]);
    refused(&server, &json!({"token": "wrong-sesame"}));
    refused(&server, &json!({}));
    let (mut alice, id) = client(&server, "token-sesame");
    join(&mut alice, &["public:a", "secret:b", "secret:\u{1b}[31m\nc"]);
    join(&mut alice, &["public:d"]);
    drop(client(&server, "token-sesame-2"));
    let mut api = Http::connect(server.address());
    assert_eq!(api.request("GET", "/api/rooms?key=sesame", "", "").status, 401);
    let wrong = "Authorization: Bearer sesame-wrong\r\n";
    assert_eq!(api.request("POST", "/api/emit", wrong, "{\"data\":\"sesame\"}").status, 401);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(api.request("DELETE", &format!("/api/clients/{id}"), &key, "").status, 202);
    assert_eq!(alice.recv(), Received::Close(Some(1008), "Kicked".to_owned()));
    assert_eq!(api.request("DELETE", "/api/clients/nobody", &key, "").status, 404);
    server.write_config(
        &CONFIG.replace("public:*", "open:*").replace("[auth]", "[limits]\nrooms_max = 7\n[auth]"),
    );
    server.signal(libc::SIGHUP);
    server.wait_for_log("configuration reloaded");
    server.write_config("[nonsense]\nkey = 1\n");
    server.signal(libc::SIGHUP);
    server.wait_for_log("reload refused");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());

    let mode = fs::metadata(log.path()).expect("the audit log").permissions().mode();
    assert_eq!(mode & 0o7777 & !0o640, 0, "{mode:o}");
    let text = fs::read_to_string(log.path()).expect("the audit log");
    assert!(!text.contains("sesame"), "{text}");
    let lines = log.lines();
    let of = |at: usize, fields: &[&str]| -> Vec<Value> {
        fields.iter().map(|field| lines[at][*field].clone()).collect()
    };
    assert_eq!(
        events(&lines),
        [
            "start",
            "auth_refused",
            "auth_refused",
            "auth_accepted",
            "join_refused",
            "auth_accepted",
            "api_refused",
            "api_refused",
            "kick",
            "kick",
            "reload",
            "reload",
            "drain",
            "stop"
        ]
    );
    let instance = lines[0]["instance"].as_str().expect("an instance");
    for line in &lines {
        assert_eq!(line["instance"], instance);
        let time = line["time"].as_str().expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
    assert_eq!(of(0, &["version", "dev"]), [json!(env!("CARGO_PKG_VERSION")), json!(false)]);
    let who = ["address", "mount", "user", "reason"];
    let here = json!("127.0.0.1");
    assert_eq!(of(1, &who), [here.clone(), json!(WS), json!(null), json!("credentials_unknown")]);
    assert_eq!(of(2, &who)[3], "credentials_missing");
    assert_eq!(of(3, &["client", "user", "mount"]), [json!(id), json!("alice"), json!(WS)]);
    assert_eq!(
        of(4, &["client", "user", "rooms", "rooms_refused", "rooms_asked"]),
        [json!(id), json!("alice"), json!(["secret:b", "secret:\u{1b}[31m\nc"]), json!(2), json!(3)]
    );
    assert_eq!(of(5, &["user"]), [json!(42)]);
    let request = ["address", "method", "path", "reason"];
    assert_eq!(of(6, &request), [here.clone(), json!("GET"), json!("/api/rooms"), json!("key_missing")]);
    assert_eq!(of(7, &request)[1..], [json!("POST"), json!("/api/emit"), json!("key_unknown")]);
    let kick = ["client", "address", "key", "outcome"];
    assert_eq!(of(8, &kick), [json!(id), here.clone(), json!(2), json!("accepted")]);
    assert_eq!(of(9, &kick), [json!("nobody"), here, json!(2), json!("unknown_client")]);
    let reload = ["outcome", "applied", "ignored", "problems"];
    assert_eq!(
        of(10, &reload),
        [json!("applied"), json!(["auth.rooms"]), json!(["limits.rooms_max"]), json!(0)]
    );
    assert_eq!(of(11, &reload)[..2], [json!("refused"), json!([])]);
    assert!(lines[11]["problems"].as_u64() > Some(0), "{}", lines[11]);
    assert_eq!(of(12, &["period_ms"]), [json!(10_000)]);
    assert_eq!(of(13, &["forced"]), [json!(false)]);
}

#[test]
fn a_file_that_was_moved_is_opened_again_on_sighup_and_a_second_sigterm_is_told() {
    let log = Log::new();
    let mut server =
        Binary::start_with_file(CONFIG, &["--set", &log.flag(), "--set", "server.drain_period=1h"]);
    refused(&server, &json!({}));
    let moved = log.scratch.path().join("audit.jsonl.1");
    wait_for("the first lines", || (log.lines().len() == 2).then_some(()));
    fs::rename(log.path(), &moved).expect("moving the log");
    refused(&server, &json!({}));
    wait_for("a line in the moved file", || (lines(&moved).len() == 3).then_some(()));
    server.signal(libc::SIGHUP);
    wait_for("the new file", || log.path().exists().then_some(()));
    refused(&server, &json!({}));
    let _held = client(&server, "token-sesame");
    server.signal(libc::SIGTERM);
    server.wait_for_log("draining");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    let (old, new) = (lines(&moved), log.lines());
    let all: Vec<_> = events(&old).into_iter().chain(events(&new)).collect();
    let refusals = all.iter().filter(|event| **event == "auth_refused").count();
    assert_eq!(refusals, 3, "{all:?}");
    assert_eq!((all[0], all.last()), ("start", Some(&"stop")), "{all:?}");
    assert_eq!(new.last().map(|line| &line["forced"]), Some(&json!(true)));
}

#[test]
fn attack_81_a_flood_of_refusals_is_bounded_and_what_is_missing_is_told() {
    const JOINS: u64 = 2_000;
    let log = Log::new();
    let args = ["--shards", "1", "--set", &log.flag(), "--set", "audit.rate_max=10"];
    let mut server = Binary::start_with_file(CONFIG, &args);
    let (mut healthy, _) = client(&server, "token-sesame");
    let (mut flooder, _) = client(&server, "token-sesame-2");
    let rooms: Vec<String> = (0..50).map(|at| format!("secret:{at}")).collect();
    for _ in 0..JOINS {
        flooder.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    }
    flooder.settle();
    healthy.settle();
    // An operator's line is written all the same.
    server.signal(libc::SIGHUP);
    server.wait_for_log("configuration reloaded");
    let told = wait_for("every join in a line or told as lost", || {
        let lines = log.lines();
        let written = events(&lines).iter().filter(|event| **event == "join_refused").count() as u64;
        let lost: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
        (written + lost == JOINS).then_some((written, lines))
    });
    let (written, lines) = told;
    assert!((10..JOINS / 4).contains(&written), "{written}");
    assert!(events(&lines).contains(&"reload"));
    for line in lines.iter().filter(|line| line["event"] == "lost") {
        let parts = ["queue", "rate", "write"].map(|part| line[part].as_u64().expect("a number"));
        assert_eq!(line["count"].as_u64(), Some(parts.iter().sum()), "{line}");
    }
    let lost: u64 = ["queue", "rate", "write"]
        .map(|because| metric(&server, &format!("shardcast_audit_lost_total{{because=\"{because}\"}}")))
        .iter()
        .sum();
    assert_eq!(written + lost, JOINS);
}

#[test]
fn a_disk_that_takes_nothing_is_counted_and_reddens_readiness_only_where_that_is_asked_for() {
    for (required, status) in [("false", 200), ("true", 503)] {
        let required = format!("audit.required={required}");
        // The device that is always full.
        let args = ["--set", "audit.file=/dev/full", "--set", &required];
        let server = Binary::start_with_file(CONFIG, &args);
        refused(&server, &json!({}));
        let lost = "shardcast_audit_lost_total{because=\"write\"}";
        wait_for("the loss", || (metric(&server, lost) >= 2).then_some(()));
        assert_eq!(metric(&server, "shardcast_audit_up"), 0);
        let ready = Http::connect(server.admin_address()).get("/health/ready");
        assert_eq!(ready.status, status, "{ready:?}");
        assert!(String::from_utf8_lossy(&ready.body).contains("No space left"), "{ready:?}");
        let log = server.wait_for_log("the audit log cannot be written");
        assert_eq!(log.matches("the audit log cannot be written").count(), 1, "{log}");
        client(&server, "token-sesame").0.settle();
    }
}

#[test]
fn a_file_that_cannot_be_opened_stops_the_start_and_says_why() {
    let log = Log::new();
    let fifo = log.scratch.path().join("fifo");
    let name = std::ffi::CString::new(fifo.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: the name is a C string that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let fifo = fifo.to_str().expect("UTF-8").to_owned();
    for (file, expected) in
        [("/nonexistent/audit.jsonl", "No such file"), (&*fifo, "neither a file nor a device")]
    {
        let set = format!("audit.file={file}");
        let output = binary::run(&["--dev", "--listen", "127.0.0.1:0", "--admin-listen", "", "--set", &set]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(expected) && error.contains("audit.file"), "{error}");
    }
}

#[test]
fn attack_81_nobody_waits_for_a_reader_that_does_not_read() {
    const JOINS: usize = 3_000;
    let address = ports::free_address();
    let listen = address.to_string();
    let set = |text: &'static str| ["--set", text];
    let mut command = binary::command(
        &[
            &["--listen", &listen, "--admin-listen", "", "--shards", "1", "--config", "/dev/null"][..],
            &set("audit.file=-")[..],
            &set("audit.queue_max=64")[..],
            &set("audit.rate_max=1000000")[..],
            &set("auth.anonymous=true")[..],
        ]
        .concat(),
    );
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::start(&mut command, "it is built");
    let mut stdout = process.take_stdout().expect("piped");
    wait_for("the server", || std::net::TcpStream::connect(address).ok().map(drop));
    let mut client = Client::connect(address, WS);
    client.send_json(&json!({"event": "authenticate"}));
    assert_eq!(client.recv_json()["event"], "connected");
    // Far more than a pipe holds, and nobody reads it.
    for _ in 0..JOINS {
        client.send_json(&json!({"event": "join", "data": {"rooms": ["secret"]}}));
    }
    client.settle();
    process.signal(libc::SIGTERM);
    let mut text = String::new();
    stdout.read_to_string(&mut text).expect("its output");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect();
    let written = events(&lines).iter().filter(|event| **event == "join_refused").count();
    let lost: u64 = lines.iter().filter_map(|line| line["queue"].as_u64()).sum();
    assert_eq!(written as u64 + lost, JOINS as u64);
    // Strangers leave room for what operators do.
    for own in ["drain", "stop"] {
        assert!(events(&lines).contains(&own), "{own}");
    }
    assert!(lost > 1_000, "{lost}");
}

/// Texts that must not be found anywhere.
const MARK: &str = "SESAME";

/// What strangers send, with the mark in every place a secret can be.
fn abuse(server: &Binary, round: usize) {
    let mark = |name: &str| format!("{MARK}-{name}-{round}");
    let evil = "\u{1b}[2J\r\nFORGED INFO line\u{202e}\u{9b}31m";
    refused(server, &json!({"token": mark("token")}));
    refused(server, &json!(mark("data")));
    let mut client = Client::connect(server.address(), WS);
    client.send_text(&mark("raw"));
    let (mut client, _) = self::client(server, "token-sesame");
    join(&mut client, &[evil, &format!("room{evil}")]);
    client.send_json(&json!({"event": mark("event"), "data": mark("payload")}));
    client.send_raw(b"\x81\xfe\xff").expect("a broken frame");
    let mut api = Http::connect(server.address());
    let wrong = format!("Authorization: Bearer {}\r\nCookie: {}\r\n", mark("key"), mark("cookie"));
    assert_eq!(
        api.request("POST", &format!("/api/emit?key={}", mark("query")), &wrong, &mark("body")).status,
        401
    );
    let right = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(api.request("POST", "/api/emit", &right, &mark("body")).status, 400);
    for raw in [
        format!(
            "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nAuthorization: {}\r\nbad header\r\n\r\n",
            mark("head")
        ),
        format!("POST /api/emit HTTP/1.1\r\nHost: x\r\n{right}Content-Length: 900\r\n\r\n{}", mark("cut")),
        format!("GET /api/rooms HTTP/1.1\r\nHost: x\r\n\r\n{} garbage\r\n\r\n", mark("second")),
        format!("\x16\x03\x01{}\r\n\r\n", mark("tls")),
    ] {
        let mut broken = Client::open(server.address());
        broken.send_raw(raw.as_bytes()).expect("sending");
    }
}

#[test]
fn attack_81_no_secret_and_no_forged_line_reaches_a_log_a_metric_or_the_audit_file() {
    const ROUNDS: usize = 200;
    for format in ["human", "json"] {
        let log = Log::new();
        let redis = format!("redis://user:{MARK}-redis@{}", ports::free_address());
        let config = CONFIG.replace("key-0-sesame-sesame", &format!("{MARK}-configured-key"));
        let args = ["--log-level", "trace", "--log-format", format, "--redis-url", &redis, "--shards", "1"];
        let file = log.flag();
        let args = [&args[..], &["--set", &file, "--set", "server.drain_period=0s"]].concat();
        let mut server = Binary::start_with_file(&config, &args);
        let (mut healthy, _) = client(&server, "token-sesame");
        for round in 0..ROUNDS {
            abuse(&server, round);
        }
        server.write_config(&format!("[api]\nkey = \"{MARK}-short é\"\n[auth]\nnonsense = \"{MARK}\"\n"));
        server.signal(libc::SIGHUP);
        server.wait_for_log("reload refused");
        healthy.settle();
        let metrics = Http::connect(server.admin_address()).get("/metrics");
        let status = Http::connect(server.admin_address()).get("/admin/status");
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait().code(), Some(0));

        let text = server.log();
        for (place, text) in [
            ("the log", text.as_str()),
            ("the audit log", &fs::read_to_string(log.path()).expect("the audit log")),
            ("the metrics", &String::from_utf8_lossy(&metrics.body)),
            ("the status", &String::from_utf8_lossy(&status.body)),
        ] {
            let found = text.lines().find(|line| line.contains(MARK) || line.contains("sesame"));
            assert_eq!(found, None, "in {place}");
            assert!(!text.lines().any(|line| line.starts_with("FORGED")), "in {place}");
            let control = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
            assert_eq!(control, None, "in {place}");
            assert!(!text.contains('\u{202e}'), "in {place}");
        }
        // Each round makes several lines at debug; whoever floods gets at most 50 a second from each place.
        let lines = text.lines().count();
        assert!(lines < 4_000, "{lines} lines");
        if format == "json" {
            for line in text.lines().filter(|line| line.starts_with('{')) {
                serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line:?}"));
            }
        }
        assert!(log.lines().len() > ROUNDS, "the refusals are there");
    }
}

#[test]
fn attack_81_a_flood_of_log_lines_is_bounded_and_told() {
    const REQUESTS: usize = 1_500;
    let server = Binary::start_with_file(CONFIG, &["--log-level", "debug", "--shards", "1"]);
    let (mut healthy, _) = client(&server, "token-sesame");
    let head = format!(
        "POST /api/emit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\nx"
    );
    for _ in 0..REQUESTS {
        let mut broken = Client::open(server.address());
        broken.send_raw(head.as_bytes()).expect("sending");
    }
    healthy.settle();
    let log = server.wait_for_log("log lines of this place were left out");
    let written = log.lines().filter(|line| line.contains("a request body broke off")).count();
    assert!(written < REQUESTS / 2, "{written}");
}
