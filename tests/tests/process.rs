//! The real binary as an operator runs it: start, signals, reload, Redis that comes and goes, and its own command to
//! emit.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::json;
use shardcast_tests::binary::{self, Binary, wait_for};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::{self, Http};
use shardcast_tests::process::ScratchDir;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::WS;
use shardcast_tests::tls::{Authority, BOTH, Files, Kind, Pair};

const ADMIN_OFF: [&str; 2] = ["--admin-listen", ""];

/// A client in a room.
fn member(address: SocketAddr, token: &str, room: &str) -> Client {
    let mut client = Client::connect(address, WS);
    client.authenticate(token, "user");
    client.send_json(&json!({"event": "join", "data": {"rooms": [room]}}));
    client.settle();
    client
}

/// Whether a token is let in.
fn is_accepted(server: &Binary, token: &str) -> bool {
    let mut client = Client::connect(server.address(), WS);
    client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
    client.recv_json()["event"] == "connected"
}

fn readiness(admin: &mut Http) -> u16 {
    admin.get("/health/ready").status
}

#[track_caller]
fn expect_failure(output: &Output, code: i32, texts: &[&str]) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for text in texts {
        assert!(error.contains(text), "no {text:?} in: {error}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("its address").to_string();
    let advice = "another process listens there";
    let output = binary::run(&[&["--dev", "--listen", &taken], &ADMIN_OFF[..]].concat());
    expect_failure(&output, 1, &[&taken, "server.listen", advice]);
    let output = binary::run(&["--dev", "--listen", "127.0.0.1:0", "--admin-listen", &taken]);
    expect_failure(&output, 1, &[&taken, "admin.listen", advice]);
    // The shards of one process share a port; two processes must not.
    let server = Binary::start(&["--dev"]);
    let taken = server.address().to_string();
    let output = binary::run(&[&["--dev", "--listen", &taken], &ADMIN_OFF[..]].concat());
    expect_failure(&output, 1, &[&taken, "server.listen", advice]);
}

#[test]
fn a_wrong_configuration_is_refused_whole_with_file_and_line() {
    let scratch = ScratchDir::new("wrong-config");
    let path = scratch.path().join("wrong.toml");
    let text = "[server]\nlisen = \"127.0.0.1:0\"\n[limits]\nmailbox_max = 1\n\
                [[mounts]]\noutbox_bytes_max = \"2GiB\"\n";
    fs::write(&path, text).expect("writing a file");
    let path = path.to_str().expect("a path in UTF-8");
    let output = binary::run(&["--dev", "--config", path, "--set", "limits.rooms_max=0"]);
    expect_failure(
        &output,
        2,
        &[
            "wrong.toml:2: unknown key server.lisen; did you mean server.listen?",
            "wrong.toml:4: limits.mailbox_max",
            "wrong.toml:6: mounts.0.outbox_bytes_max",
            "limits.rooms_max",
        ],
    );
    let output = binary::run(&["--dev", "--listen", "0.0.0.0:0"]);
    expect_failure(&output, 2, &["auth.dev", "0.0.0.0:0", "auth.insecure"]);
    let output = binary::run(&["--redis-url", "http://example.com"]);
    expect_failure(&output, 2, &["redis.url"]);
}

#[test]
fn without_redis_it_serves_and_is_ready_once_redis_is_there() {
    let mut redis = RedisServer::start();
    redis.kill();
    let url = redis.url();
    let quick = ["--set", "redis.canary_interval=200ms", "--set", "redis.reconnect_delay_max=200ms"];
    let server = Binary::start(&[&["--dev", "--redis-url", &url], &quick[..]].concat());
    let mut admin = Http::connect(server.admin_address());
    let mut api = Http::connect(server.address());
    let mut client = member(server.address(), "t", "room");
    assert_eq!(readiness(&mut admin), 503);
    let answer = api.emit(&json!({"type": "room", "target": "room", "event": "e", "data": 1}));
    assert_eq!(answer["results"][0]["redis"], "local-only", "{answer}");
    assert_eq!(client.recv(), Received::Text(r#"{"event":"e","data":1}"#.to_owned()));

    redis.restart();
    wait_for("readiness", || (readiness(&mut admin) == 200).then_some(()));
    let message = json!({"serverId": "emitter", "type": "room", "target": "room", "event": "e", "data": 2});
    assert_eq!(redis.publish("ws:room:room", message.to_string().as_bytes()), 1);
    assert_eq!(client.recv(), Received::Text(r#"{"event":"e","data":2}"#.to_owned()));

    redis.kill();
    wait_for("readiness to go", || (readiness(&mut admin) == 503).then_some(()));
    assert_eq!(admin.get("/health/live").status, 200);
    client.settle();
}

#[test]
fn sigterm_tells_everyone_to_come_back_and_exits_0() {
    let mut server = Binary::start(&["--dev", "--set", "server.drain_period=1s"]);
    let mut clients: Vec<_> = (0..10).map(|_| member(server.address(), "t", "room")).collect();
    clients.push(Client::connect(server.address(), WS));
    let silent = Client::open(server.address());
    server.signal(libc::SIGTERM);
    for mut client in clients {
        assert_eq!(client.recv(), Received::Close(Some(1001), "Server shutting down".to_owned()));
        assert_eq!(client.recv(), Received::Eof);
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(server.log().contains("drained"), "{}", server.log());
    drop(silent);
}

#[test]
fn attack_84_a_second_sigterm_ends_at_once() {
    let mut server = Binary::start(&["--dev", "--set", "server.drain_period=1h"]);
    let mut clients: Vec<_> = (0..10).map(|_| member(server.address(), "t", "room")).collect();
    server.signal(libc::SIGTERM);
    server.wait_for_log("draining");
    clients.iter_mut().for_each(Client::settle);
    assert!(server.is_running());
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    for mut client in clients {
        assert!(matches!(client.recv(), Received::Eof | Received::Cut));
    }
}

#[test]
fn sigint_drains_as_well() {
    let mut server = Binary::start(&["--dev", "--set", "server.drain_period=0s"]);
    let mut client = member(server.address(), "t", "room");
    server.signal(libc::SIGINT);
    assert_eq!(client.recv(), Received::Close(Some(1001), "Server shutting down".to_owned()));
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[test]
fn attack_84_sighup_with_a_broken_file_changes_nothing() {
    let good = "[auth]\nrooms = [\"room\"]\n[[auth.tokens]]\ntoken = \"first\"\n";
    let mut server = Binary::start_with_file(good, &[]);
    let mut client = member(server.address(), "first", "room");
    let broken = ["[auth", "[auth]\nroms = []\n", "[[auth.tokens]]\ntoken = \"\"\n", "[auth]\ndev = 3\n"];
    for (round, text) in broken.iter().enumerate() {
        server.write_config(text);
        server.signal(libc::SIGHUP);
        wait_for("the refusal", || (server.log().matches("reload refused").count() > round).then_some(()));
        assert!(is_accepted(&server, "first"), "{text:?}");
        assert!(!is_accepted(&server, "second"), "{text:?}");
    }
    client.settle();
    assert_eq!(client.take_pending(), [], "a client noticed");

    server.write_config(&format!("{good}[[auth.tokens]]\ntoken = \"second\"\n[server]\nshards = 7\n"));
    server.signal(libc::SIGHUP);
    server.wait_for_log("configuration reloaded");
    assert!(is_accepted(&server, "first") && is_accepted(&server, "second"));
    let log = server.wait_for_log("need a restart");
    assert!(log.contains("server.shards") && !log.contains("second\""), "{log}");

    server.write_config(&good.replace("first", "third"));
    server.signal(libc::SIGHUP);
    wait_for("the second reload", || {
        (server.log().matches("configuration reloaded").count() == 2).then_some(())
    });
    assert!(!is_accepted(&server, "first") && is_accepted(&server, "third"));
    client.settle();
    client.leave();
}

#[test]
fn the_data_path_is_on_io_uring_and_the_log_says_so() {
    let server = Binary::start(&["--dev", "--shards", "2", "--set", "server.io=uring"]);
    let log = server.log();
    assert!(log.contains("io=\"io_uring\"") && log.contains("shards=2"), "{log}");
    // Each shard waits on one ring and sends through another.
    assert_eq!(server.rings(), 4);
    let mut client = member(server.address(), "t", "room");
    client.settle();
    let used = server.ring_submissions();
    assert!(used.iter().filter(|count| **count > 0).count() >= 2, "rings have submitted {used:?}");

    let server = Binary::start(&["--dev", "--shards", "2", "--set", "server.io=epoll"]);
    assert!(server.log().contains("io=\"epoll\""), "{}", server.log());
    assert_eq!(server.rings(), 0);
    member(server.address(), "t", "room").leave();
}

#[test]
fn emit_reaches_a_client_through_the_api_and_through_redis() {
    let redis = RedisServer::start();
    let server =
        Binary::start(&["--dev", "--redis-url", &redis.url(), "--set", "redis.canary_interval=200ms"]);
    let mut admin = Http::connect(server.admin_address());
    wait_for("readiness", || (readiness(&mut admin) == 200).then_some(()));
    let mut client = Client::connect(server.address(), WS);
    let id = client.authenticate("t", "user")["id"].as_str().expect("an id").to_owned();
    client.send_json(&json!({"event": "join", "data": {"rooms": ["chat"]}}));
    client.settle();
    let api = format!("http://{}", server.address());
    let redis = redis.url();
    for via in [["--api", &api], ["--redis-url", &redis]] {
        let targets: [&[&str]; 4] = [&["room", "chat"], &["user", "user"], &["client", &id], &["broadcast"]];
        for target in targets {
            let output = binary::run(&[&["emit"], &via[..], target, &["hello", r#"{"text":"hi"}"#]].concat());
            assert!(output.status.success(), "{via:?} {target:?}: {output:?}");
            let message = r#"{"event":"hello","data":{"text":"hi"}}"#.to_owned();
            assert_eq!(client.recv(), Received::Text(message), "{via:?} {target:?}");
        }
    }
    client.settle();
    assert_eq!(client.take_pending(), [], "each once");
}

#[test]
fn emit_says_what_is_wrong() {
    let server = Binary::start_with_file("[api]\nkey = \"the-key-of-this-test\"\n", &[]);
    let api = format!("http://{}", server.address());
    let message = ["broadcast", "hello", "null"];
    let output = binary::run(&[&["emit", "--api", &api], &message[..]].concat());
    expect_failure(&output, 1, &["key"]);
    let output = binary::run(&[&["emit", "--api", &api, "--key", "wrong"], &message[..]].concat());
    expect_failure(&output, 1, &["key"]);
    let output =
        binary::run(&[&["emit", "--api", &api, "--key", "the-key-of-this-test"], &message[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let output = binary::run(&["emit", "--api", &api, "room", "chat", "hello", "not json"]);
    expect_failure(&output, 2, &["not JSON"]);
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    for via in [["--api", &format!("http://{nobody}")], ["--redis-url", &format!("redis://{nobody}")]] {
        let output = binary::run(&[&["emit"], &via[..], &message].concat());
        expect_failure(&output, 1, &[&nobody.to_string()]);
    }
}

#[test]
fn health_and_metrics_answer_on_the_admin_listener_only() {
    let server = Binary::start(&["--dev"]);
    let mut admin = Http::connect(server.admin_address());
    for path in ["/health/live", "/health/ready", "/metrics", "/"] {
        assert_eq!(admin.get(path).status, 200, "{path}");
        let public = Http::connect(server.address()).get(path);
        assert_eq!(
            (public.status, &http::json(&public)["message"]),
            (404, &json!("URL NOT FOUND")),
            "{path}"
        );
    }
}

#[test]
fn certificates_are_checked_before_a_start_and_read_again_on_sighup() {
    let authority = Authority::default();
    let pair = authority.issue(Kind::Ecdsa, &["localhost"]);
    let files = Files::new(&pair);
    let config = format!(
        "[server]\ntls_listen = \"127.0.0.1:0\"\n[tls]\ncertificate = {:?}\nkey = {:?}\n",
        files.certificate(),
        files.key()
    );
    let path = files.certificate().with_file_name("shardcast.toml");
    fs::write(&path, &config).expect("writing a file");
    let path = path.to_str().expect("a path in UTF-8");
    let check = || binary::run(&["check", "--config", path, "--listen", "127.0.0.1:0"]);
    assert!(check().status.success());
    fs::set_permissions(files.key(), fs::Permissions::from_mode(0o644)).expect("permissions");
    let warned = check();
    assert!(warned.status.success() && String::from_utf8_lossy(&warned.stderr).contains("read by everyone"));

    let mut server = Binary::start_with_file(&config, &["--dev"]);
    let client = authority.client(BOTH);
    let mut member = Client::connect_tls(server.tls_address(), WS, &client);
    member.authenticate("t", "user");

    let stranger = authority.issue(Kind::Ecdsa, &["localhost"]);
    files.replace(&Pair { chain: pair.chain, key: stranger.key.clone() });
    expect_failure(&check(), 1, &["cannot be used together"]);
    let refused = binary::run(&["--dev", "--config", path, "--listen", "127.0.0.1:0", "--admin-listen", ""]);
    expect_failure(&refused, 1, &["tls:", "cannot be used together"]);
    server.signal(libc::SIGHUP);
    server.wait_for_log("reload refused, everything stays as it was");
    server.wait_for_log("cannot be used together");
    drop(Client::open_tls(server.tls_address(), &authority.client(BOTH)));

    files.replace(&authority.issue(Kind::Expired, &["localhost"]));
    expect_failure(&check(), 1, &["has expired"]);
    files.replace(&stranger);
    server.signal(libc::SIGHUP);
    server.wait_for_log("certificates read again");
    drop(Client::open_tls(server.tls_address(), &authority.client(BOTH)));
    member.settle();
    let mut admin = Http::connect(server.admin_address());
    let metrics = String::from_utf8(admin.get("/metrics").body).expect("text");
    for line in
        ["shardcast_tls_certificate_expiry_seconds ", "shardcast_tls_failures_total{reason=\"version\"} 0"]
    {
        assert!(metrics.contains(line), "no {line:?} in {metrics}");
    }
}
