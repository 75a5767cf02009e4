//! What surrounds the topic dialect: the API, webhooks, limits of users, tokens anew, and the load generator.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};
use shardcast::config::{Config, Dialect, Effect, Mount, RoomPattern, Secret, Token, UserId, WebhookHook};
use shardcast_tests::application::{Application, Reaction};
use shardcast_tests::binary;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::{self, Http};
use shardcast_tests::process::ScratchDir;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{PATIENCE, TestServer, config, with_redis};
use shardcast_wire::ignis::ClientId;
use shardcast_wire::topic::{Answer, SessionId};

const TOPICS: &str = "/topics";

fn with_topics(mut config: Config) -> Config {
    config.mounts.push(Mount { auth_timeout: 3 * PATIENCE, ..Mount::for_dialect(Dialect::Topic) });
    config
}

/// The same where only these tokens are good, each the user of its name.
fn with_users(names: &[&str]) -> Config {
    let mut config = with_topics(config());
    config.auth.dev = false;
    let token = |name: &&str| Token {
        token: Secret::new(*name),
        user: Some(UserId::Text((*name).to_owned())),
        ..Token::default()
    };
    config.auth.tokens = names.iter().map(token).collect();
    config
}

/// A client of topics that was told its session.
struct Subscriber {
    client: Client,
    session: String,
}

impl Subscriber {
    fn connect(address: SocketAddr) -> Self {
        let mut client = Client::connect(address, TOPICS);
        assert_eq!(client.recv(), text(Answer::Connected));
        let session = client.recv_json()["session"].as_str().expect("a session").to_owned();
        Self { client, session }
    }

    fn ask(&mut self, action: &str, context: &str) -> Received {
        self.client.send_json(&json!({"action": action, "session": self.session, "context": context}));
        self.client.recv()
    }

    fn expect(&mut self, action: &str, context: &str, answer: Answer) {
        assert_eq!(self.ask(action, context), text(answer), "{action} {context}");
    }

    fn expect_snapshot(&mut self, topic: &str, snapshot: &Value) {
        let expected = json!({"action": "message", "topic": topic, "snapshot": snapshot});
        assert_eq!(self.client.recv_json(), expected);
    }

    fn expect_end(&mut self) {
        assert_eq!(self.client.recv(), text(Answer::Disconnect));
        assert_eq!(self.client.recv(), Received::Close(None, String::new()));
    }
}

fn text(answer: Answer) -> Received {
    Received::Text(answer.as_str().to_owned())
}

#[test]
fn the_api_publishes_to_topics_lists_them_and_closes_their_clients() {
    let server = TestServer::start(&with_topics(config()));
    let mut http = Http::connect(server.address());
    let mut anna = Subscriber::connect(server.address());
    anna.expect("authorization", "anna", Answer::Authenticated);
    anna.expect("subscribe", "prices", Answer::Subscribed);
    // Let in as nobody in particular, as dev mode does.
    let mut nobody = Subscriber::connect(server.address());
    nobody.expect("subscribe", "prices", Answer::Subscribed);

    let answer = http.emit(&json!([
        {"type": "topic", "target": "prices", "data": {"n": 1}},
        {"type": "topic", "target": "nobodys", "data": 1},
        {"type": "broadcast", "event": "e"},
    ]));
    assert_eq!(answer["accepted"], 3);
    assert!(answer["results"][0]["shards"].as_u64() >= Some(1), "{answer}");
    assert_eq!(answer["results"][1]["shards"], 0);
    for subscriber in [&mut anna, &mut nobody] {
        subscriber.expect_snapshot("prices", &json!({"n": 1}));
    }

    let rooms = http::json(&http.get("/api/rooms?mount=/topics"));
    assert_eq!(rooms, json!({"rooms": [{"name": "prices", "members": 2}], "truncated": false}));
    assert_eq!(http::json(&http.get("/api/rooms"))["rooms"], json!([]), "Ignis has its own");

    let id = SessionId::client(&anna.session).map(|id: ClientId| id.to_string()).expect("a session");
    for known_as in [anna.session.clone(), id.clone()] {
        let client = http::json(&http.get(&format!("/api/clients/{known_as}")));
        assert_eq!((&client["id"], &client["mount"]), (&json!(id), &json!(TOPICS)), "{client}");
        assert_eq!((&client["userId"], &client["rooms"]), (&json!("anna"), &json!(["prices"])));
    }
    let kicked = http.request("DELETE", &format!("/api/clients/{}", nobody.session), "", "");
    assert_eq!(kicked.status, 202);
    nobody.expect_end();
    assert_eq!(http.request("DELETE", "/api/users/anna", "", "").status, 202);
    anna.expect_end();
    drop((anna, nobody, http));
    server.expect_empty("everybody left");
}

#[test]
fn an_application_grants_topics_as_it_grants_rooms() {
    let application = Application::start(|webhook| match webhook.body["type"].as_str() {
        Some("authenticate") => Reaction::ok(&json!({"user": webhook.body["data"]["token"]})),
        _ => Reaction::ok(&json!({"rooms": ["open", "unasked"]})),
    });
    let mut config = with_topics(config());
    config.auth.dev = false;
    application.serve(&mut config, &[WebhookHook::Authenticate, WebhookHook::Rooms]);
    config.mounts[1].channel_prefix = "live:".to_owned();
    let server = TestServer::start(&config);
    let mut client = Subscriber::connect(server.address());
    client.expect("authorization", "anna", Answer::Authenticated);
    client.expect("subscribe", "open", Answer::Subscribed);
    // What nothing speaks of is the mount's to allow only where the application is not asked.
    client.expect("subscribe", "secret", Answer::Unauthorized);
    for (channel, payload) in [("live:unasked", "1"), ("live:secret", "2"), ("live:open", "3")] {
        server.engine().publish_topic(channel, payload.as_bytes());
    }
    client.expect_snapshot("open", &json!(3));
    let asked: Vec<_> = application.seen().into_iter().filter(|seen| seen.body["type"] == "rooms").collect();
    assert_eq!(asked[0].body["rooms"], json!(["open"]), "topics, not channels");
    assert_eq!((&asked[0].body["mount"], &asked[0].body["client"]["user"]), (&json!(TOPICS), &json!("anna")));
    client.client.leave();
}

#[test]
fn rules_are_about_topics_and_the_mount_decides_about_the_rest() {
    let mut config = with_users(&["anna"]);
    config.auth.rooms = vec![RoomPattern::new("news-*")];
    config.mounts[1].channel_prefix = "live:".to_owned();
    for (unlisted, chat) in [(Effect::Allow, Answer::Subscribed), (Effect::Deny, Answer::Unauthorized)] {
        config.mounts[1].unlisted_rooms = unlisted;
        let server = TestServer::start(&config);
        let mut client = Subscriber::connect(server.address());
        client.expect("authorization", "nobody", Answer::Unauthorized);
        client.expect("authorization", "anna", Answer::Authenticated);
        client.expect("subscribe", "news-1", Answer::Subscribed);
        client.expect("subscribe", "chat", chat);
        client.client.leave();
    }
}

#[test]
fn who_shows_a_token_anew_is_not_in_its_own_way() {
    let mut config = with_users(&["anna", "ben"]);
    config.limits.connections_per_user_max = Some(1);
    let server = TestServer::start(&config);
    let mut first = Subscriber::connect(server.address());
    let mut second = Subscriber::connect(server.address());
    for _ in 0..3 {
        first.expect("authorization", "anna", Answer::Authenticated);
    }
    second.expect("authorization", "anna", Answer::Unauthorized);
    // The place of another user is given back for the new one, and by who is nobody any more.
    first.expect("authorization", "ben", Answer::Authenticated);
    second.expect("authorization", "anna", Answer::Authenticated);
    first.expect("authorization", "anna", Answer::Unauthorized);
    second.expect("authorization", "ben", Answer::Authenticated);
    second.expect("authorization", "wrong", Answer::Unauthorized);
    first.expect("authorization", "ben", Answer::Authenticated);
    for subscriber in [first, second] {
        subscriber.client.leave();
    }
    let counts = server.counts();
    assert_eq!(counts.of("auth_refused_user_limit"), 2);
    let mut third = Subscriber::connect(server.address());
    server.wait_until("everybody left", |counts| counts.of("conns") == 1);
    third.expect("authorization", "ben", Answer::Authenticated);
    third.client.leave();
}

#[test]
fn a_mount_of_topics_answers_at_the_root_of_its_own_port_and_chooses_no_subprotocol() {
    let mut config = with_topics(config());
    config.mounts[1].listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let server = TestServer::start(&config);
    for (address, path) in [(server.mount_address(), "/"), (server.address(), TOPICS)] {
        let mut client = Client::open(address);
        let answer = client.upgrade(path, "Sec-WebSocket-Protocol: a, b\r\n");
        assert_eq!((answer.status, answer.header("sec-websocket-protocol")), (101, None), "{path}");
        assert_eq!(client.recv(), text(Answer::Connected));
    }
}

#[test]
fn every_snapshot_of_a_load_arrives_once_in_order_and_unaltered() {
    let redis = RedisServer::start();
    let server = TestServer::start(&with_redis(with_topics(config()), &redis.url()));
    server.wait_until_ready();
    let before = server.counts();
    let scratch = ScratchDir::new("loadgen");
    let file = scratch.path().join("report.json");
    let target = format!("ws://{}{TOPICS}", server.address());
    let scenario = concat!(env!("CARGO_MANIFEST_DIR"), "/../loadgen/scenarios/topic.toml");
    let run = Command::new(binary::loadgen())
        .args(["run", scenario, "--target", &target, "--publish", &redis.url()])
        .args(["-n", "100", "-r", "100", "--warmup", "200ms", "-d", "2s", "--json"])
        .arg(&file)
        .output()
        .expect("the generator runs");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
    let ledger = &report["ledger"];
    // 100 clients in 2 of 20 topics: 10 hear each publication.
    let expected = ledger["expected"].as_u64().expect("a number");
    assert!(expected >= 1_500, "{ledger}");
    for fault in ["missing", "duplicate", "out_of_order"] {
        assert_eq!(ledger[fault], 0, "{fault}: {ledger}");
    }
    assert_eq!(report["unstamped"], json!({}));
    let joins = server.counts().of("joins") - before.of("joins");
    assert_eq!(joins, 200, "two topics each");
}
