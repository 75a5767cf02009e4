//! An application's hooks: ones that panic, ones that answer later, too late or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::hooks::{Answer, Client as HookClient, ConnectedFailed, Hooks};
use shardcast_shard::Identity;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::{TestServer, WS, config, one_shard};
use shardcast_wire::ignis::{Destination, UserId};
use tokio::sync::watch;

/// Hooks that do what the client's token or room says.
#[derive(Default)]
struct Script {
    /// Answers that come later come when this is true.
    gate: watch::Sender<bool>,
    connected: AtomicU64,
    disconnected: AtomicU64,
    messages: AtomicU64,
}

/// The token that a client authenticated with, as its user id.
fn script_of(client: &HookClient) -> &str {
    client.identity.user.as_ref().map_or("", UserId::as_json)
}

fn accepted(token: &str) -> AuthOutcome {
    AuthOutcome::Accepted(Identity { user: Some(UserId::from_text(token)), ..Identity::default() })
}

impl Script {
    fn later<T: Send + 'static>(&self, value: T) -> Answer<T> {
        let mut gate = self.gate.subscribe();
        Answer::later(async move {
            gate.wait_for(|open| *open).await.expect("the test still runs");
            value
        })
    }

    fn open(&self) {
        self.gate.send_replace(true);
    }

    fn shut(&self) {
        self.gate.send_replace(false);
    }
}

impl Hooks for Script {
    fn authenticate(&self, _: &HookClient, data: &str) -> Answer<AuthOutcome> {
        let data: Value = serde_json::from_str(data).expect("data is JSON");
        let token = data["token"].as_str().unwrap_or_default().to_owned();
        match token.as_str() {
            "panic" => panic!("a hook of the test panics"),
            "later" => self.later(accepted("later")),
            "panic-later" => Answer::later(async { panic!("a future of the test panics") }),
            "never" => Answer::later(std::future::pending()),
            "fail" => Answer::Now(AuthOutcome::Failed),
            "refuse" => Answer::later(async { AuthOutcome::Refused(RefusalReason::CredentialsUnknown) }),
            _ => Answer::Now(accepted(&token)),
        }
    }

    fn validate_rooms(&self, _: &HookClient, rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        match rooms[0].as_str() {
            "panic" => panic!("a hook of the test panics"),
            "panic-later" => Answer::later(async { panic!("a future of the test panics") }),
            "never" => Answer::later(std::future::pending()),
            "later" => self.later(Some(rooms)),
            "other" => {
                Answer::Now(Some(vec!["injected".to_owned(), "x".repeat(500), "ws:injected".to_owned()]))
            }
            _ => Answer::Now(Some(rooms)),
        }
    }

    fn wants_messages(&self) -> bool {
        true
    }

    fn message(&self, _: &HookClient, text: String) -> Answer<()> {
        self.messages.fetch_add(1, Ordering::Relaxed);
        assert!(!text.contains("panic"), "a hook of the test panics");
        if text.contains("later") {
            return Answer::later(async { panic!("a future of the test panics") });
        }
        Answer::Now(())
    }

    fn wants_lifecycle(&self) -> bool {
        true
    }

    fn connected(&self, client: &HookClient) -> Answer<Result<(), ConnectedFailed>> {
        self.connected.fetch_add(1, Ordering::Relaxed);
        match script_of(client) {
            "\"connected-panics\"" => panic!("a hook of the test panics"),
            "\"connected-fails\"" => Answer::Now(Err(ConnectedFailed)),
            "\"connected-fails-later\"" => Answer::later(async { Err(ConnectedFailed) }),
            _ => Answer::Now(Ok(())),
        }
    }

    fn disconnected(&self, client: &HookClient) -> Answer<()> {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
        assert_ne!(script_of(client), "\"disconnected-panics\"", "a hook of the test panics");
        Answer::Now(())
    }
}

fn start() -> (TestServer, Arc<Script>) {
    let script = Arc::new(Script::default());
    (TestServer::with_hooks(&config(), script.clone()), script)
}

fn send(client: &mut Client, event: &str, data: &Value) {
    client.send_json(&json!({"event": event, "data": data}));
}

fn login(server: &TestServer, token: &str) -> Client {
    let mut client = Client::connect(server.address(), WS);
    send(&mut client, "authenticate", &json!({"token": token}));
    client
}

fn error(message: &str) -> Received {
    Received::Text(format!(r#"{{"event":"error","data":{{"message":"{message}"}}}}"#))
}

fn expect_close(client: &mut Client, code: u16, reason: &str) {
    assert_eq!(client.recv(), Received::Close(Some(code), reason.to_owned()));
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn hooks_that_panic_cost_their_own_client_at_most() {
    let (server, script) = start();
    let before = server.counts();
    let mut witness = login(&server, "witness");
    witness.recv_json();
    let mut panicked = 0;
    for token in ["panic", "panic-later", "fail"] {
        let mut client = login(&server, token);
        assert_eq!(client.recv(), error("Authentication error"), "{token}");
        expect_close(&mut client, 4003, "Authentication failed");
        panicked += u64::from(token != "fail");
    }
    for token in ["connected-panics", "connected-fails"] {
        let mut client = login(&server, token);
        assert_eq!(client.recv_json()["event"], "connected", "{token}");
        assert_eq!(client.recv(), error("Authentication error"), "{token}");
        expect_close(&mut client, 4003, "Authentication failed");
        panicked += u64::from(token == "connected-panics");
    }
    let mut client = login(&server, "disconnected-panics");
    client.recv_json();
    for room in ["panic", "panic-later"] {
        send(&mut client, "join", &json!({"rooms": [room]}));
        panicked += 1;
    }
    for event in ["panic", "later", "harmless"] {
        send(&mut client, event, &json!(null));
    }
    // One message, one future of a message, and the goodbye.
    panicked += 3;
    client.settle();
    assert_eq!(client.take_pending(), []);
    client.leave();
    server.wait_until("all panics counted", |counts| counts.of("hooks_panicked") == panicked);

    server.emit(Destination::User("\"witness\"".into()), "e", "1");
    assert_eq!(witness.recv(), Received::Text(r#"{"event":"e","data":1}"#.to_owned()));
    witness.leave();
    let incidents = [("hooks_panicked", panicked), ("auth_failed", 3), ("joins_refused_policy", 2)];
    server.expect_incidents("hooks that panic", &before, &incidents);
    assert_eq!(script.messages.load(Ordering::Relaxed), 3);
    server.expect_empty("hooks that panic");
}

#[test]
fn answers_that_come_later_take_effect_then_and_meanwhile_the_client_is_served() {
    let (server, script) = start();
    let mut client = login(&server, "later");
    send(&mut client, "join", &json!({"rooms": ["too-early"]}));
    send(&mut client, "authenticate", &json!({"token": "again"}));
    assert_eq!(client.recv(), error("Not authenticated"));
    assert_eq!(client.recv(), error("Already authenticated"));
    script.open();
    let connected = client.recv_json();
    assert_eq!((&connected["event"], &connected["data"]["userId"]), (&json!("connected"), &json!("later")));

    // A leave overtakes a join that is still being decided, and is lost (`ignis.md` §6).
    script.shut();
    send(&mut client, "join", &json!({"rooms": ["later"]}));
    send(&mut client, "leave", &json!({"rooms": ["later"]}));
    client.settle();
    script.open();
    server.wait_until("the late join", |counts| counts.of("joins") == 3);
    server.emit(Destination::Room("later".into()), "e", "1");
    assert_eq!(client.recv(), Received::Text(r#"{"event":"e","data":1}"#.to_owned()));

    let mut refused = login(&server, "refuse");
    assert_eq!(refused.recv(), error("Authentication failed"));
    expect_close(&mut refused, 4003, "Authentication failed");
    let mut kept = login(&server, "connected-fails-later");
    assert_eq!(kept.recv_json()["event"], "connected");
    kept.settle();
    assert_eq!(kept.take_pending(), [], "an asynchronous failure changes nothing");
    kept.leave();
    client.leave();
    drop(refused);
    server.expect_empty("late answers");
}

#[test]
fn hooks_decide_the_rooms_even_ones_nobody_asked_for() {
    let (server, _) = start();
    let mut client = login(&server, "u");
    client.recv_json();
    send(&mut client, "join", &json!({"rooms": ["other"]}));
    client.settle();
    for (number, room) in ["injected", &"x".repeat(500), "ws:injected", "other"].into_iter().enumerate() {
        server.emit(Destination::Room(room.into()), "e", &number.to_string());
    }
    for number in 0..3 {
        assert_eq!(client.recv(), Received::Text(format!(r#"{{"event":"e","data":{number}}}"#)));
    }
    client.settle();
    assert_eq!(client.take_pending(), []);
}

#[test]
fn answers_for_clients_that_are_gone_change_nothing() {
    const CLIENTS: u64 = 50;
    let script = Arc::new(Script::default());
    let server = TestServer::with_hooks(&one_shard(), script.clone());
    for number in 0..CLIENTS {
        let mut client = login(&server, if number % 2 == 0 { "later" } else { "u" });
        if number % 2 != 0 {
            client.recv_json();
            send(&mut client, "join", &json!({"rooms": ["later"]}));
        }
        client.settle();
        client.leave();
    }
    server.wait_until("all are gone", |counts| counts.of("conns") == 0);
    // Whoever sits in their slots when the answers come must not get them.
    let mut next = login(&server, "next");
    next.recv_json();
    script.open();
    let mut last = login(&server, "later");
    assert_eq!(last.recv_json()["event"], "connected", "answered after all the others");
    last.leave();
    server.emit(Destination::Room("later".into()), "e", "1");
    next.settle();
    assert_eq!(next.take_pending(), []);
    next.leave();
    server.expect_empty("late answers");
    assert_eq!(script.disconnected.load(Ordering::Relaxed), CLIENTS + 2, "once each, authenticated or not");
    assert_eq!(script.connected.load(Ordering::Relaxed), CLIENTS / 2 + 2);
}

#[test]
fn a_hook_that_never_answers_is_given_up_after_three_times_the_timeout() {
    let mut config = config();
    config.mounts[0].auth_timeout = Duration::from_millis(200);
    config.limits.asks_per_connection_max = 4;
    let server = TestServer::with_hooks(&config, Arc::new(Script::default()));
    let before = server.counts();
    let begun = std::time::Instant::now();
    let mut client = login(&server, "never");
    expect_close(&mut client, 4001, "Authentication timeout");
    assert!(begun.elapsed() >= Duration::from_millis(600), "given up early");
    drop(client);
    server.expect_incidents("never", &before, &[("auth_timeouts", 1)]);

    let mut client = login(&server, "u");
    client.recv_json();
    for _ in 0..6 {
        send(&mut client, "join", &json!({"rooms": ["never"]}));
    }
    client.settle();
    client.leave();
    server.expect_incidents("never", &before, &[("auth_timeouts", 1), ("asks_refused_limit", 2)]);
    server.expect_empty("questions without an answer");
}

#[test]
fn a_hook_that_never_answers_gives_its_place_back() {
    let mut config = config();
    config.limits.asks_in_flight_max = 1;
    config.limits.hook_timeout = Duration::from_millis(100);
    let server = TestServer::with_hooks(&config, Arc::new(Script::default()));
    for _ in 0..2 {
        let mut client = login(&server, "never");
        assert_eq!(client.recv(), error("Authentication error"));
        expect_close(&mut client, 4003, "Authentication failed");
    }
    server.wait_until("both are counted", |counts| counts.of("hooks_timed_out") == 2);
}
