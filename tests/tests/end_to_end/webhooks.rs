//! An application behind webhooks: one that decides, and ones that are slow, wrong, huge, silent or away.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardcast::application::Application as Rules;
use shardcast::config::{Config, HttpUrl, Secret, WebhookHook};
use shardcast::webhooks::figures::{EventKind, Figures, Outcome, Told, Unasked};
use shardcast_tests::application::{Application, OTHER_SECRET, Reaction, SECRET, Webhook};
use shardcast_tests::binary;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::ports::free_address;
use shardcast_tests::process::{Process, ScratchDir};
use shardcast_tests::server::{TestServer, WS, config, one_shard};
use shardcast_wire::ignis::Destination;

use WebhookHook::{Authenticate, Connected, Disconnected, Message, Rooms};

/// Long enough for a busy machine, short enough to wait for.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Nothing but webhooks lets anybody in.
fn closed(mut config: Config) -> Config {
    config.auth.dev = false;
    config
}

fn token(webhook: &Webhook) -> &str {
    webhook.body["data"]["token"].as_str().unwrap_or_default()
}

/// Lets everybody in as the user that the token names, into every room.
fn admit(webhook: &Webhook) -> Reaction {
    Reaction::ok(&json!({"user": token(webhook), "rooms": ["*"]}))
}

fn figures(server: &TestServer) -> Arc<Figures> {
    server.engine().status().webhooks.clone().expect("webhooks")
}

fn login(server: &TestServer, token: &str) -> Client {
    let mut client = Client::connect(server.address(), WS);
    client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
    client
}

fn expect_end(client: &mut Client, message: &str) {
    let error = format!(r#"{{"event":"error","data":{{"message":"{message}"}}}}"#);
    assert_eq!(client.recv(), Received::Text(error));
    assert_eq!(client.recv(), Received::Close(Some(4003), "Authentication failed".to_owned()));
    assert_eq!(client.recv(), Received::Eof);
}

fn wait_until(what: &str, wanted: impl Fn() -> bool) {
    binary::wait_for(what, || wanted().then_some(()));
}

#[test]
fn the_application_says_who_a_client_is_and_the_policy_goes_by_it() {
    let application = Application::start(|webhook| match token(webhook) {
        "anna" => Reaction::ok(&json!({"user": 7, "rooms": ["team:*"], "roles": ["r"], "tenant": "t"})),
        "nobody" => Reaction::ok(&json!({"user": null})),
        "expired" => Reaction::ok(&json!({"user": "u", "expires": 1})),
        "no" => Reaction::Answer(403, "who knows".to_owned()),
        _ => Reaction::Answer(401, String::new()),
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate]);
    config.webhooks.secret = vec![Secret::new(OTHER_SECRET), Secret::new(SECRET)];
    let server = TestServer::start(&config);
    let before = server.counts();

    let mut anna = login(&server, "anna");
    assert_eq!(anna.recv_json()["data"]["userId"], 7);
    anna.join(&["team:red", "secret"]);
    for room in ["team:red", "secret"] {
        server.emit(Destination::Room(room.into()), "e", &format!("\"{room}\""));
    }
    server.emit(Destination::User("7".into()), "e", "\"user\"");
    for expected in ["team:red", "user"] {
        assert_eq!(anna.recv_json(), json!({"event": "e", "data": expected}));
    }
    let mut nobody = login(&server, "nobody");
    assert_eq!(nobody.recv_json()["event"], "connected");
    for token in ["no", "unknown", "expired"] {
        expect_end(&mut login(&server, token), "Authentication failed");
    }
    anna.leave();
    nobody.leave();
    let incidents =
        [("auth_refused.webhook_refused", 3), ("joins_refused_policy", 1), ("messages_malformed", 1)];
    server.expect_incidents("refusals", &before, &incidents);

    let first = &application.seen()[0];
    assert_eq!(first.body["type"], "authenticate");
    assert_eq!((&first.body["mount"], &first.body["data"]), (&json!(WS), &json!({"token": "anna"})));
    assert_eq!(first.body["client"]["address"], "127.0.0.1");
    assert_eq!(first.body["id"], first.id);
    assert_eq!(first.headers["webhook-signature"].split(' ').count(), 2, "one for each key");
    assert!(first.headers["user-agent"].starts_with("shardcast/"));
    let figures = figures(&server);
    assert_eq!(figures.authenticate.outcome(Outcome::Accepted), 2);
    assert_eq!(figures.authenticate.outcome(Outcome::Refused), 3);
}

#[test]
fn whatever_is_not_an_answer_lets_nobody_in_and_disturbs_nobody() {
    let trap = Application::start(admit);
    let trap_url = trap.url();
    let redirect = move |status: u16| {
        let head = format!("HTTP/1.1 {status} X\r\nLocation: {trap_url}\r\nContent-Length: 0\r\n\r\n");
        Reaction::Bytes(head.into_bytes())
    };
    let application = Application::start(move |webhook| match token(webhook) {
        "bystander" => admit(webhook),
        "hang" => Reaction::Hang,
        "drip" => Reaction::Drip,
        "cut" => Reaction::Cut,
        "flood" => Reaction::Flood(64 << 20),
        "long" => Reaction::ok(&json!({"user": "u", "tenant": "x".repeat(2_000)})),
        "lies-about-length" => {
            Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{".to_vec())
        }
        "half" => Reaction::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"user\":1}".to_vec()),
        "headers" => {
            Reaction::Bytes(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(5_000)).into_bytes())
        }
        "no-http" => Reaction::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        "no-json" => Reaction::Answer(200, "<h1>welcome</h1>".to_owned()),
        "empty-object" => Reaction::Answer(200, "{}".to_owned()),
        "typing-error" => Reaction::ok(&json!({"user": "u", "expire": 1})),
        "301" => redirect(301),
        "307" => redirect(307),
        status => Reaction::Answer(status.parse().expect("a status"), r#"{"user":"u"}"#.to_owned()),
    });
    let mut config = closed(one_shard());
    application.serve(&mut config, &[Authenticate]);
    config.webhooks.timeout = TIMEOUT;
    config.webhooks.answer_bytes_max = 1_024;
    config.webhooks.breaker_failures = 1_000;
    let server = TestServer::start(&config);
    let mut bystander = Bystander::of(&server);
    let figures = figures(&server);
    let table = [
        ("hang", Outcome::Timeout),
        ("drip", Outcome::Timeout),
        ("cut", Outcome::Unreachable),
        ("flood", Outcome::TooBig),
        ("long", Outcome::TooBig),
        ("lies-about-length", Outcome::Unreachable),
        ("half", Outcome::Unreachable),
        ("headers", Outcome::Unreachable),
        ("no-http", Outcome::Unreachable),
        ("no-json", Outcome::Malformed),
        ("empty-object", Outcome::Malformed),
        ("typing-error", Outcome::Malformed),
        ("301", Outcome::BadStatus),
        ("307", Outcome::BadStatus),
        ("201", Outcome::BadStatus),
        ("204", Outcome::BadStatus),
        ("400", Outcome::BadStatus),
        ("404", Outcome::BadStatus),
        ("500", Outcome::BadStatus),
        ("503", Outcome::BadStatus),
    ];
    let before = server.counts();
    for (token, outcome) in table {
        let counted = figures.authenticate.outcome(outcome);
        let begun = Instant::now();
        expect_end(&mut login(&server, token), "Authentication error");
        assert!(begun.elapsed() < TIMEOUT * 10, "{token} took {:?}", begun.elapsed());
        wait_until(token, || figures.authenticate.outcome(outcome) == counted + 1);
        bystander.is_well();
    }
    server.expect_incidents("no answers", &before, &[("auth_failed", table.len() as u64)]);
    bystander.leave();
    assert_eq!(trap.seen().len(), 0, "a redirect was followed");
}

#[test]
fn of_the_rooms_of_an_answer_only_those_asked_for_are_joined() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => admit(webhook),
        _ => match webhook.body["rooms"][0].as_str() {
            Some("broken") => Reaction::Answer(500, String::new()),
            Some("no") => Reaction::Answer(403, String::new()),
            _ => Reaction::ok(&json!({"rooms": ["yes", "injected", "ws:injected"]})),
        },
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate, Rooms]);
    let server = TestServer::start(&config);
    let mut client = login(&server, "anna");
    client.recv_json();
    for rooms in [["broken", "yes"], ["no", "yes"], ["denied", "yes"]] {
        client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    }
    let figures = figures(&server);
    wait_until("all are answered", || {
        [Outcome::BadStatus, Outcome::Refused, Outcome::Accepted].map(|o| figures.rooms.outcome(o)) == [1; 3]
    });
    // Own id and the two default rooms are not counted as joins of the application's.
    server.wait_until("the one room", |counts| counts.of("joins") == 3);
    for room in ["broken", "no", "denied", "injected", "ws:injected", "yes"] {
        server.emit(Destination::Room(room.into()), "e", &format!("\"{room}\""));
    }
    assert_eq!(client.recv_json()["data"], "yes");
    client.settle();
    assert_eq!(client.take_pending(), []);
    assert_eq!(figures.rooms_ignored.load(Ordering::Relaxed), 2);
    let asked = application.seen().into_iter().find(|webhook| webhook.body["type"] == "rooms");
    let asked = asked.expect("a question").body;
    assert_eq!(asked["client"]["user"], "anna");
    client.leave();
}

#[test]
fn events_come_in_order_for_each_connection_though_requests_fail() {
    const CLIENTS: usize = 6;
    const MESSAGES: usize = 40;
    let requests = AtomicU64::new(0);
    let application = Application::start(move |webhook| {
        // Every other request fails, each in another way.
        match (webhook.body["type"] == "events").then(|| requests.fetch_add(1, Ordering::Relaxed) % 8) {
            None => admit(webhook),
            Some(1) => Reaction::Answer(500, String::new()),
            Some(3) => Reaction::Cut,
            Some(5) => Reaction::Answer(429, String::new()),
            Some(7) => Reaction::Hang,
            Some(_) => Reaction::Answer(204, String::new()),
        }
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate, Message, Connected, Disconnected]);
    config.webhooks.timeout = TIMEOUT;
    config.webhooks.batch_max = 7;
    config.webhooks.retries = 100;
    let server = TestServer::start(&config);
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut client = login(server, &format!("u{number}"));
                client.recv_json();
                for message in 0..MESSAGES {
                    client.send_json(&json!({"event": "say", "data": message}));
                }
                client.settle();
                client.leave();
            });
        }
    });
    let total = (CLIENTS * (MESSAGES + 2)) as u64;
    let figures = figures(&server);
    let delivered = || EventKind::ALL.iter().map(|&kind| figures.told(kind, Told::Delivered)).sum::<u64>();
    wait_until("all events", || delivered() == total);
    assert_eq!(figures.events_waiting.load(Ordering::Relaxed), 0);
    assert_eq!(figures.events_waiting_bytes.load(Ordering::Relaxed), 0);

    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in application.events() {
        let user = event["client"]["user"].to_string();
        let what = match event["message"].as_str() {
            Some(text) => serde_json::from_str::<Value>(text).expect("JSON")["data"].to_string(),
            None => event["type"].to_string(),
        };
        told.entry(user).or_default().push(what);
    }
    let mut expected = vec!["\"connected\"".to_owned()];
    expected.extend((0..MESSAGES).map(|message| message.to_string()));
    expected.push("\"disconnected\"".to_owned());
    assert_eq!(told.len(), CLIENTS);
    for (user, events) in told {
        assert_eq!(events, expected, "{user}");
    }
}

#[test]
fn events_for_an_application_that_is_silent_are_bounded_and_counted() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => admit(webhook),
        _ => Reaction::Hang,
    });
    let mut config = closed(one_shard());
    application.serve(&mut config, &[Authenticate, Message]);
    config.webhooks.timeout = TIMEOUT;
    config.webhooks.events_waiting_max = 8;
    config.webhooks.batch_max = 1;
    config.webhooks.retries = 0;
    let server = TestServer::start(&config);
    let mut bystander = Bystander::of(&server);
    let mut client = login(&server, "talker");
    client.recv_json();
    for number in 0..200 {
        client.send_json(&json!({"event": "say", "data": number}));
    }
    client.settle();
    let figures = figures(&server);
    // Two wait in the one lane of the connection and one is under way.
    assert!(figures.events_waiting.load(Ordering::Relaxed) <= 4);
    let lost = figures.told(EventKind::Message, Told::QueueFull);
    assert!(lost >= 190, "only {lost} were dropped");
    wait_until("the rest is given up", || figures.told(EventKind::Message, Told::GaveUp) >= 1);
    bystander.is_well();
    bystander.leave();
    client.leave();
}

#[test]
fn events_that_are_too_many_bytes_are_dropped_and_counted() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => admit(webhook),
        _ => Reaction::Hang,
    });
    let mut config = closed(one_shard());
    application.serve(&mut config, &[Authenticate, Message]);
    config.webhooks.events_waiting_bytes_max = 64 * 1024;
    let server = TestServer::start(&config);
    let mut client = login(&server, "talker");
    client.recv_json();
    for _ in 0..10 {
        client.send_json(&json!({"event": "say", "data": "x".repeat(20_000)}));
    }
    client.settle();
    let figures = figures(&server);
    assert_eq!(figures.told(EventKind::Message, Told::QueueFull), 7);
    assert!(figures.events_waiting_bytes.load(Ordering::Relaxed) <= 64 * 1024);
    client.leave();
}

#[test]
fn the_breaker_opens_for_one_kind_of_request_and_closes_when_the_application_is_back() {
    let away = Arc::new(AtomicBool::new(false));
    let application = Application::start({
        let away = away.clone();
        move |webhook| match webhook.body["type"].as_str() {
            Some("authenticate") if away.load(Ordering::Acquire) => Reaction::Answer(503, String::new()),
            Some("authenticate") => admit(webhook),
            _ => Reaction::Answer(200, String::new()),
        }
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate, Disconnected]);
    config.webhooks.breaker_failures = 3;
    config.webhooks.breaker_pause = Duration::from_secs(2);
    let server = TestServer::start(&config);
    let figures = figures(&server);
    let mut early = login(&server, "early");
    assert_eq!(early.recv_json()["event"], "connected");
    away.store(true, Ordering::Release);
    for _ in 0..3 {
        expect_end(&mut login(&server, "anna"), "Authentication error");
    }
    assert_eq!(figures.open_breakers(), ["authenticate"]);
    let asked = |application: &Application| {
        application.seen().iter().filter(|webhook| webhook.body["type"] == "authenticate").count()
    };
    for _ in 0..3 {
        expect_end(&mut login(&server, "anna"), "Authentication error");
    }
    assert_eq!(asked(&application), 1 + 3, "asked though the breaker is open");
    wait_until("counted", || figures.authenticate.unasked(Unasked::BreakerOpen) == 3);
    early.leave();
    wait_until("events go on", || figures.told(EventKind::Disconnected, Told::Delivered) == 1);

    let mut admin = Http::connect(server.admin_address());
    let ready = admin.get("/health/ready");
    assert_eq!(ready.status, 200, "an application that is away is no reason to send clients elsewhere");
    let ready = String::from_utf8(ready.body).expect("text");
    assert!(ready.contains("degraded: the application is out of order for authenticate"), "{ready}");
    let metrics = String::from_utf8(admin.get("/metrics").body).expect("text");
    for line in [
        "shardcast_webhook_breaker_open{hook=\"authenticate\"} 1\n",
        "shardcast_webhook_breaker_open{hook=\"events\"} 0\n",
        "shardcast_webhook_requests_total{hook=\"authenticate\",outcome=\"bad_status\"} 3\n",
        "shardcast_webhook_unasked_total{hook=\"authenticate\",reason=\"breaker_open\"} 3\n",
        "shardcast_webhook_events_total{event=\"disconnected\",outcome=\"delivered\"} 1\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    away.store(false, Ordering::Release);
    thread::sleep(config.webhooks.breaker_pause);
    let mut client = login(&server, "anna");
    assert_eq!(client.recv_json()["event"], "connected", "the probe");
    wait_until("closed again", || figures.open_breakers().is_empty());
    let mut next = login(&server, "bert");
    assert_eq!(next.recv_json()["event"], "connected");
    client.leave();
    next.leave();
}

#[test]
fn a_client_whose_token_breaks_the_application_does_not_keep_the_others_out() {
    let application = Application::start(|webhook| match token(webhook) {
        "crash" => Reaction::Answer(500, "Traceback".to_owned()),
        "html" => Reaction::Answer(200, "<html>".to_owned()),
        _ => admit(webhook),
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate]);
    config.webhooks.breaker_failures = 2;
    let server = TestServer::start(&config);
    for token in ["crash", "html"].into_iter().cycle().take(10) {
        expect_end(&mut login(&server, token), "Authentication error");
    }
    let mut client = login(&server, "anna");
    assert_eq!(client.recv_json()["event"], "connected");
    client.leave();
}

#[test]
fn an_application_that_is_not_there_lets_nobody_in_and_is_found_again() {
    let mut config = closed(config());
    let gone = Application::start(admit);
    gone.serve(&mut config, &[Authenticate]);
    drop(gone);
    let rules = Rules::new(&config).expect("webhooks");
    let server = TestServer::with_hooks(&config, rules.hooks());
    expect_end(&mut login(&server, "anna"), "Authentication error");
    assert_eq!(figures(&server).authenticate.outcome(Outcome::Unreachable), 1);

    // A reload names another address and key.
    let application = Application::with_secrets(&[OTHER_SECRET], admit);
    config.webhooks.url = HttpUrl::parse(&application.url());
    config.webhooks.secret = vec![Secret::new(OTHER_SECRET)];
    rules.reload(&config, rules.prepare(&config).expect("webhooks"));
    let mut client = login(&server, "anna");
    assert_eq!(client.recv_json()["event"], "connected");
    client.leave();
    // A name that does not resolve.
    config.webhooks.url = HttpUrl::parse("http://nowhere.invalid/");
    rules.reload(&config, rules.prepare(&config).expect("webhooks"));
    expect_end(&mut login(&server, "anna"), "Authentication error");
    assert_eq!(figures(&server).authenticate.outcome(Outcome::Unreachable), 2);
}

#[test]
fn what_waits_at_a_stop_is_told_before_the_end() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => admit(webhook),
        _ => {
            thread::sleep(Duration::from_millis(50));
            Reaction::Answer(200, String::new())
        }
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate, Connected, Disconnected]);
    config.webhooks.batch_max = 3;
    let server = TestServer::start(&config);
    let mut clients: Vec<_> = (0..30).map(|number| login(&server, &format!("u{number}"))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.recv_json()["event"], "connected"));
    server.stop();
    let events = application.events();
    for kind in ["connected", "disconnected"] {
        assert_eq!(events.iter().filter(|event| event["type"] == kind).count(), 30, "{kind}");
    }
}

#[test]
fn a_stop_does_not_wait_long_for_an_application_that_is_silent() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => admit(webhook),
        _ => Reaction::Hang,
    });
    let mut config = closed(config());
    application.serve(&mut config, &[Authenticate, Connected]);
    config.webhooks.timeout = Duration::from_secs(60);
    let server = TestServer::start(&config);
    assert_eq!(login(&server, "anna").recv_json()["event"], "connected");
    let begun = Instant::now();
    server.stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn five_thousand_clients_whose_authentication_hangs_disturb_nobody() {
    const CLIENTS: usize = 5_000;
    shardcast::driver::files::raise_limit().expect("open files");
    let application = Application::start(|webhook| match token(webhook) {
        "hang" => Reaction::Hang,
        _ => admit(webhook),
    });
    let mut config = closed(one_shard());
    application.serve(&mut config, &[Authenticate]);
    config.webhooks.timeout = Duration::from_secs(3);
    config.webhooks.waiting_max = CLIENTS / 2;
    // Those that are turned away at once are read from when all are connected.
    config.server.close_timeout = Duration::from_secs(60);
    config.webhooks.breaker_failures = 100_000;
    let server = TestServer::start(&config);
    let mut bystander = Bystander::of(&server);
    let figures = figures(&server);
    let before = server.counts();
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            if number % 500 == 0 {
                bystander.is_well();
                assert!(figures.authenticate.in_flight.load(Ordering::Relaxed) <= 64);
                assert!(figures.authenticate.waiting.load(Ordering::Relaxed) <= CLIENTS as u64 / 2 + 1);
            }
            login(&server, "hang")
        })
        .collect();
    let last = Instant::now();
    for client in &mut clients {
        expect_end(client, "Authentication error");
    }
    assert!(last.elapsed() < 3 * config.webhooks.timeout, "{:?}", last.elapsed());
    bystander.is_well();
    drop(clients);
    server.expect_incidents("hanging", &before, &[("auth_failed", CLIENTS as u64)]);
    bystander.leave();
    let counted = figures.authenticate.outcome(Outcome::Timeout)
        + figures.authenticate.unasked(Unasked::Overdue)
        + figures.authenticate.unasked(Unasked::QueueFull);
    assert_eq!(counted, CLIENTS as u64);
    assert_eq!(figures.authenticate.waiting.load(Ordering::Relaxed), 0);
}

#[test]
fn an_operator_can_try_the_application() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") if token(webhook) == "anna" => {
            Reaction::ok(&json!({"user": "u1", "rooms": ["a"], "tenant": "\u{1b}[31m"}))
        }
        Some("authenticate") => Reaction::Answer(403, String::new()),
        Some("rooms") => Reaction::ok(&json!({"rooms": ["a", "x"]})),
        _ => Reaction::Answer(500, String::new()),
    });
    let url = format!("webhooks.url={}", application.url());
    let secret = format!("webhooks.secret={SECRET}");
    let set = ["--set", &url, "--set", &secret, "test-webhook"];
    let run = |args: &[&str]| {
        let output = binary::run(&[&set[..], args].concat());
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains(SECRET) && !text.contains("k=1") && !text.contains('\u{1b}'), "{text}");
        (output.status.code(), text)
    };
    for (args, code, expected) in [
        (&["authenticate", r#"{"token":"anna"}"#][..], 0, "accepted: user \"u1\""),
        (&["authenticate", "{}"], 0, "refused"),
        (&["authenticate", "{"], 2, "not JSON"),
        (&["rooms", "--user", "u1", "a", "b"], 0, r#"would join ["a"]; 1 other"#),
        (&["event"], 1, "status 500, and 2xx is expected"),
    ] {
        let (found, text) = run(args);
        assert!(found == Some(code) && text.contains(expected), "{args:?}: {found:?} {text}");
    }
    assert_eq!(binary::run(&["test-webhook", "event"]).status.code(), Some(2), "nowhere to send");
}

/// The first code block of that language in the manual.
fn example(language: &str) -> String {
    let page = include_str!("../../../docs/webhooks.md");
    let (_, from) = page.split_once(&format!("```{language}\n")).expect("an example");
    from.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_applications_of_the_manual_verify_and_answer() {
    let scratch = ScratchDir::new("webhook-examples");
    for (language, program) in [("js", "node"), ("python", "python3")] {
        let source = scratch.path().join(language);
        std::fs::write(&source, example(language)).expect("a scratch file");
        let address = free_address();
        let mut command = Command::new(program);
        command.arg(&source).env("WEBHOOK_SECRET", SECRET).env("PORT", address.port().to_string());
        let _application = Process::start(&mut command, "install node and python3");
        binary::wait_for(program, || TcpStream::connect(address).ok());
        let run = |secret: &str, args: &[&str]| {
            let url = format!("webhooks.url=http://{address}/");
            let secret = format!("webhooks.secret={secret}");
            let output = binary::run(&[&["--set", &url, "--set", &secret, "test-webhook"], args].concat());
            let text = [output.stdout, output.stderr].concat();
            (output.status.code(), String::from_utf8_lossy(&text).into_owned())
        };
        for (secret, args, code, expected) in [
            (SECRET, &["authenticate", r#"{"token":"open sesame"}"#][..], 0, "accepted: user \"u1\""),
            (SECRET, &["authenticate", r#"{"token":"no"}"#], 0, "refused"),
            (OTHER_SECRET, &["authenticate", r#"{"token":"open sesame"}"#], 1, "status 400"),
            (SECRET, &["rooms", "team:red", "admin"], 0, r#"would join ["team:red"]; 0 other"#),
            (SECRET, &["event"], 0, "taken"),
            (OTHER_SECRET, &["event"], 1, "status 400"),
        ] {
            let (found, text) = run(secret, args);
            assert!(found == Some(code) && text.contains(expected), "{program} {args:?}: {found:?} {text}");
        }
    }
}
