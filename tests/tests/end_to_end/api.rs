//! The HTTP API on the public port, through the shards' hand-off.

use serde_json::{Value, json};
use shardcast::config::Secret;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::{self, Http};
use shardcast_tests::server::{TestServer, config};

const KEY: &str = "a-key-that-nobody-guesses";

fn join(client: &mut Client, rooms: &[&str]) {
    client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    client.settle();
}

fn text(event: &str, data: &Value) -> Received {
    Received::Text(format!(r#"{{"event":"{event}","data":{data}}}"#))
}

#[test]
fn one_connection_emits_looks_and_kicks() {
    let server = TestServer::start(&config());
    let [(mut a, a_id), (mut b, b_id)] = server.clients_on_two_shards();
    join(&mut a, &["room", "only-a"]);
    join(&mut b, &["room"]);
    let mut api = Http::connect(server.address());

    let answer = api.emit(&json!({"type": "room", "target": "room", "event": "e", "data": {"n": 1}}));
    assert_eq!(answer["accepted"], 1, "{answer}");
    assert_eq!(answer["results"][0]["redis"], "off", "{answer}");
    assert_eq!([a.recv(), b.recv()], [(); 2].map(|()| text("e", &json!({"n": 1}))));
    let answer = api.emit(&json!([
        {"type": "room", "target": "room", "event": "but-a", "data": 1, "exclude": [a_id]},
        {"type": "client", "target": a_id, "event": "client", "data": 2},
        {"type": "user", "target": "spread", "event": "user", "data": 3},
        {"type": "broadcast", "event": "all", "data": 4},
    ]));
    assert_eq!(answer["accepted"], 4, "{answer}");
    for (client, events) in [
        (&mut a, [("client", 2), ("user", 3), ("all", 4)]),
        (&mut b, [("but-a", 1), ("user", 3), ("all", 4)]),
    ] {
        for (event, data) in events {
            assert_eq!(client.recv(), text(event, &json!(data)));
        }
    }

    let rooms = http::json(&api.get("/api/rooms"));
    let listed: Vec<_> = rooms["rooms"].as_array().expect("rooms").iter().collect();
    assert!(listed.contains(&&json!({"name": "room", "members": 2})), "{rooms}");
    assert!(listed.contains(&&json!({"name": "only-a", "members": 1})), "{rooms}");
    let client = http::json(&api.get(&format!("/api/clients/{a_id}")));
    assert_eq!(client["userId"], "spread", "{client}");
    assert_eq!(client["rooms"], json!([a_id, "ws-default", "ws-notification", "room", "only-a"]), "{client}");

    let kicked = api.request("DELETE", &format!("/api/clients/{b_id}"), "", "");
    assert!((200..300).contains(&kicked.status), "{kicked:?}");
    assert_eq!(b.recv(), Received::Close(Some(1008), "Kicked".to_owned()));
    assert_eq!(b.recv(), Received::Eof);
    drop(b);
    server.wait_until("the kicked client is gone", |counts| counts.of("clients") == 1);
    assert_eq!(api.get(&format!("/api/clients/{b_id}")).status, 404);
    assert_eq!(api.request("DELETE", &format!("/api/clients/{b_id}"), "", "").status, 404);
    a.settle();
    assert_eq!(a.take_pending(), []);
}

#[test]
fn a_request_may_come_in_pieces_and_two_in_one() {
    let server = TestServer::start(&config());
    let (mut client, id) = server.client("u");
    let body = json!({"type": "client", "target": id, "event": "e", "data": "é".repeat(2_000)}).to_string();
    let request = http::request(server.address(), "POST", "/api/emit", "", &body);
    let message = text("e", &json!("é".repeat(2_000)));
    // Cut within the head, at its end, and within the body: all but the last are the shard's to put together.
    let head_len = request.find("\r\n\r\n").expect("a head") + 4;
    for cut in [1, 20, head_len - 2, head_len, head_len + 1, request.len() - 1] {
        let mut api = Http::connect(server.address());
        let (first, rest) = request.as_bytes().split_at(cut);
        api.client().send_raw(first).expect("sending");
        client.settle();
        api.client().send_raw(rest).expect("sending");
        assert_eq!(api.client().response().status, 200, "cut at {cut}");
        assert_eq!(client.recv(), message, "cut at {cut}");
    }
    let mut api = Http::connect(server.address());
    api.client().send_raw(request.repeat(3).as_bytes()).expect("sending");
    for _ in 0..3 {
        assert_eq!(api.client().response().status, 200);
        assert_eq!(client.recv(), message);
    }
    let mut api = Http::connect(server.address());
    for byte in request.as_bytes() {
        api.client().send_raw(&[*byte]).expect("sending");
    }
    assert_eq!(api.client().response().status, 200);
    assert_eq!(client.recv(), message);
}

#[test]
fn outside_dev_mode_nothing_works_without_the_key() {
    let mut config = config();
    config.auth.dev = false;
    config.auth.anonymous = true;
    config.api.key = vec![Secret::new(KEY)];
    let server = TestServer::start(&config);
    let mut client = Client::connect(server.address(), "/ws");
    client.send_json(&json!({"event": "authenticate"}));
    let id = client.recv_json()["data"]["id"].as_str().expect("an id").to_owned();
    let mut api = Http::connect(server.address());
    let body = json!({"type": "broadcast", "event": "e", "data": 1}).to_string();
    let path = format!("/api/clients/{id}");
    for headers in ["", "Authorization: Bearer wrong\r\n", &format!("Authorization: Basic {KEY}\r\n")] {
        for (method, path) in
            [("POST", "/api/emit"), ("GET", "/api/rooms"), ("GET", &path), ("DELETE", &path)]
        {
            let answer = api.request(method, path, headers, &body);
            assert_eq!(answer.status, 401, "{method} {path} {headers:?}: {answer:?}");
            assert!(answer.header("WWW-Authenticate").is_some(), "{answer:?}");
        }
    }
    client.settle();
    assert_eq!(client.take_pending(), [], "nothing was sent without a key");
    assert_eq!(server.counts().of("api_unauthorized"), 12);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    assert_eq!(api.request("POST", "/api/emit", &key, &body).status, 200);
    assert_eq!(client.recv(), text("e", &json!(1)));
}

#[test]
fn a_request_that_is_wrong_in_any_part_sends_nothing() {
    let server = TestServer::start(&config());
    let (mut client, _) = server.client("u");
    let mut api = Http::connect(server.address());
    let good = json!({"type": "broadcast", "event": "e", "data": 1});
    let wrong = [
        json!([good, {"type": "rom", "target": "x", "event": "e", "data": 1}]).to_string(),
        json!([good, {"type": "room", "event": "e", "data": 1}]).to_string(),
        json!([good, 1]).to_string(),
        format!("[{good},"),
        format!("{good}x"),
        "\"hello\"".to_owned(),
        String::new(),
    ];
    for body in wrong {
        let answer = api.request("POST", "/api/emit", "", &body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert!(http::json(&answer)["error"]["message"].is_string(), "{answer:?}");
    }
    assert_eq!(api.request("PUT", "/api/emit", "", "").status, 405);
    assert_eq!(api.get("/api/clients/not-an-id").status, 404);
    assert_eq!(api.get("/nothing/here").status, 404);
    let huge = Http::connect(server.address()).request("POST", "/api/emit", "", &" ".repeat((1 << 20) + 1));
    assert_eq!(huge.status, 413, "{huge:?}");
    client.settle();
    assert_eq!(client.take_pending(), []);
}
