//! What backends can ask for, and what they are told when they ask wrongly.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use shardcast::config::{Config, Secret};
use shardcast_shard::{ClientRef, ClientView, ConnId, Mail, MountId, Query, QueryReply, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};
use shardcast_wire::topic::SessionId;

use crate::plane::{KEY, MOUNT, Options, Plane, request};

const ID: &str = "11111111-2222-4333-8444-555555555555";

fn client_up(plane: &Plane, shard: u8) -> (ClientId, ConnId) {
    let (id, conn) = (ClientId::parse(ID).expect("a client id"), ConnId { slot: 7, generation: 1 });
    plane.engine.router().directory().client_up(id, MOUNT, ClientRef { shard: ShardId(shard), conn });
    (id, conn)
}

fn frame_of(mail: Option<Mail>) -> Vec<u8> {
    match mail {
        Some(
            Mail::Broadcast { frame, .. }
            | Mail::Room { frame, .. }
            | Mail::Direct { frame, .. }
            | Mail::User { frame, .. },
        ) => frame.plain.to_vec(),
        other => panic!("no frame in {other:?}"),
    }
}

/// A frame without its header, which tells its length only.
fn text_of(mail: Option<Mail>) -> String {
    let frame = String::from_utf8_lossy(&frame_of(mail)).into_owned();
    frame[frame.find('{').expect("JSON")..].to_owned()
}

#[test]
fn a_broadcast_goes_to_every_shard() {
    let plane = Plane::start(Options { shard_count: 3, ..Options::default() });
    let answer = plane.emit(r#"{"type":"broadcast","event":"news","data":{"a":1}}"#);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    let expected = json!({"accepted": 1, "results": [{"shards": 3, "mailboxes_full": 0, "redis": "off"}]});
    assert_eq!(answer.json(), expected);
    for shard in 0..3 {
        assert_eq!(text_of(plane.take(shard)), r#"{"event":"news","data":{"a":1}}"#);
        assert!(plane.take(shard).is_none());
    }
    assert_eq!(plane.engine.status().process.api_emitted.load(Ordering::Relaxed), 1);
}

#[test]
fn each_type_reaches_the_shards_of_its_target() {
    let plane = Plane::start(Options { shard_count: 2, ..Options::default() });
    let (_, conn) = client_up(&plane, 1);
    let directory = plane.engine.router().directory();
    directory.room_up(MOUNT, Arc::from("news"), ShardId(1));
    directory.user_up(MOUNT, UserId::from_json("42").expect("an id"), ShardId(0));
    directory.user_up(MOUNT, UserId::from_text("42"), ShardId(1));
    let body = format!(
        r#" [{{"type":"room","target":"news","event":"r","exclude":["{ID}","nobody"]}},
            {{"event":"n","target":42.0,"type":"user"}}, {{"type":"user","target":"42","event":"s"}},
            {{"type":"client","target":"{ID}","event":"c"}}, {{"type":"client","target":"nobody","event":"c"}}] "#
    );
    let answer = plane.emit(&body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let reached: Vec<u64> = answer.json()["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["shards"].as_u64().expect("a number"))
        .collect();
    assert_eq!(reached, [1, 1, 1, 1, 0]);
    match plane.take(1) {
        Some(Mail::Room { room, exclude: Some(exclude), .. }) => {
            assert_eq!((&*room, &*exclude), ("news", &[ClientRef { shard: ShardId(1), conn }][..]));
        }
        other => panic!("no room message but {other:?}"),
    }
    assert_eq!(text_of(plane.take(1)), r#"{"event":"s"}"#);
    assert!(matches!(plane.take(1), Some(Mail::Direct { conn: to, .. }) if to == conn));
    assert_eq!(text_of(plane.take(0)), r#"{"event":"n"}"#);
    assert!(plane.take(0).is_none() && plane.take(1).is_none());
}

#[test]
fn a_topic_gets_its_data_as_a_snapshot_byte_for_byte() {
    let plane = Plane::start(Options { ignis: false, ..Options::default() });
    plane.engine.router().directory().room_up(MountId(1), Arc::from("prices:acme"), ShardId(0));
    for data in ["{ \"n\": 1.0 }", "null", "\"one\"", "12345678901234567890"] {
        let answer = plane.emit(&format!(r#"{{"type":"topic","target":"prices:acme","data": {data} }}"#));
        let expected =
            json!({"accepted": 1, "results": [{"shards": 1, "mailboxes_full": 0, "redis": "off"}]});
        assert_eq!((answer.status, answer.json()), (200, expected), "{data}");
        let expected = format!(r#"{{"action":"message","topic":"prices:acme","snapshot":{data}}}"#);
        assert_eq!(text_of(plane.take(0)), expected);
    }
    let nobody = plane.emit(r#"{"type":"topic","target":"prices","data":1}"#);
    assert_eq!(nobody.json()["results"][0]["shards"], 0);
    assert!(plane.take(0).is_none());
    assert_eq!(plane.engine.status().process.api_emitted.load(Ordering::Relaxed), 5);
}

#[test]
fn data_is_passed_on_byte_for_byte() {
    let plane = Plane::start(Options::default());
    let texts = [
        "1e400",
        "12345678901234567890",
        "-0.0",
        "1.50",
        r#"{ "b" : 1,  "a": [ ],"b":2 }"#,
        r#""\ud800""#,
        r#""\u00e9\/é""#,
        "null",
        "\"\"",
        r#"{"a":{"":0},"1":2}"#,
    ];
    for text in texts {
        let answer = plane.emit(&format!(r#"{{"type":"broadcast","event":"e","data": {text} }}"#));
        assert_eq!(answer.status, 200, "{text}: {answer:?}");
        assert_eq!(text_of(plane.take(0)), format!(r#"{{"event":"e","data":{text}}}"#));
    }
    assert_eq!(plane.emit(r#"{"type":"broadcast","event":"\u00e9\"\n"}"#).status, 200);
    assert_eq!(text_of(plane.take(0)), r#"{"event":"é\"\n"}"#);
}

#[test]
fn a_body_that_is_wrong_is_refused_with_what_to_do() {
    let deep =
        format!(r#"{{"type":"broadcast","event":"e","data":{}0{}}}"#, "[".repeat(70_000), "]".repeat(70_000));
    let crowd = format!(r#"{{"type":"broadcast","event":"e","exclude":[{}""]}}"#, r#""","#.repeat(10_000));
    let cases: [(&str, &str, &str); 39] = [
        ("", "not_json", "EOF"),
        ("{", "not_json", "line 1"),
        (r#"{"type":"broadcast","event":"e"} x"#, "not_json", "trailing"),
        (r#"{"type":"broadcast","event":"e","data":01}"#, "not_json", "number"),
        (r#"{"type":"broadcast","event":"e","data":}"#, "not_json", "expected value"),
        (r#"[{"type":"broadcast","event":"e"},]"#, "not_json", "line 1 column 35"),
        ("NaN", "not_json", "expected value"),
        ("null", "not_messages", "object"),
        ("\"x\"", "not_messages", "object"),
        ("[1]", "not_object", "object"),
        ("[[]]", "not_object", "object"),
        ("{}", "missing_field", "`type`"),
        (r#"{"type":"broadcast"}"#, "missing_field", "`event`"),
        (r#"{"type":"room","event":"e"}"#, "missing_field", "`target`"),
        (r#"{"type":"user","event":"e"}"#, "missing_field", "`target`"),
        (r#"{"type":"broadcast","evnet":"e"}"#, "unknown_field", "did you mean `event`?"),
        (r#"{"type":"broadcast","event":"e","qqqq":1}"#, "unknown_field", "there are `type`, `target`"),
        (r#"{"type":"broadcast","event":"e","\ud800":1}"#, "unknown_field", "there are"),
        (r#"{"type":"broadcast","event":"e","event":"e"}"#, "repeated_field", "`event`"),
        (r#"{"type":"brodcast","event":"e"}"#, "unknown_type", "did you mean `broadcast`?"),
        (r#"{"type":1,"event":"e"}"#, "not_text", "`type`"),
        (r#"{"type":"broadcast","event":""}"#, "empty_field", "`event`"),
        (r#"{"type":"broadcast","event":null}"#, "not_text", "`event`"),
        (r#"{"type":"broadcast","event":"\ud800"}"#, "not_text", "`event`"),
        (r#"{"type":"broadcast","event":"e","target":"x"}"#, "superfluous_field", "`target`"),
        (r#"{"type":"room","event":"e","target":""}"#, "empty_field", "`target`"),
        (r#"{"type":"room","event":"e","target":5}"#, "not_text", "`target`"),
        (r#"{"type":"user","event":"e","target":0}"#, "bad_user", "not 0"),
        (r#"{"type":"user","event":"e","target":1e400}"#, "bad_user", "number"),
        (r#"{"type":"user","event":"e","target":["x"]}"#, "bad_user", "string"),
        (r#"{"type":"client","event":"e","target":"x","exclude":[]}"#, "superfluous_field", "`exclude`"),
        (r#"{"type":"broadcast","event":"e","exclude":"x"}"#, "bad_exclude", "array"),
        (r#"{"type":"topic","target":"t","data":1,"event":"e"}"#, "superfluous_field", "`event`"),
        (r#"{"type":"topic","target":"t","data":1,"exclude":[]}"#, "superfluous_field", "`exclude`"),
        (r#"{"type":"topic","target":"t"}"#, "missing_field", "`data`"),
        (r#"{"type":"topic","data":1}"#, "missing_field", "`target`"),
        (r#"{"type":"topic","target":"","data":1}"#, "empty_field", "`target`"),
        (&deep, "bad_data", "deeper"),
        (&crowd, "too_many_excluded", "10000"),
    ];
    let plane = Plane::start(Options::default());
    for (body, code, hint) in cases {
        let shown: String = body.chars().take(80).collect();
        let answer = plane.emit(body);
        assert_eq!((answer.status, &*answer.code()), (400, code), "{shown}: {answer:?}");
        let message = answer.json()["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(hint), "{shown}: {message}");
    }
    let head =
        request("POST", "/api/emit", &format!("Authorization: Bearer {KEY}\r\nContent-Length: 3\r\n"), "");
    let answer = plane.hand_off(&[head.as_bytes(), b"\"\xff\""].concat()).answer();
    assert_eq!((answer.status, &*answer.code()), (400, "not_utf8"));
    assert!(plane.take(0).is_none());
}

#[test]
fn one_bad_message_keeps_the_whole_batch_back() {
    let plane = Plane::start(Options::default());
    let good = r#"{"type":"broadcast","event":"e"}"#;
    let answer = plane.emit(&format!(r#"[{good},{good},{{"type":"broadcast"}},{{}}]"#));
    assert_eq!((answer.status, &*answer.code()), (400, "missing_field"));
    assert_eq!(answer.json()["error"]["index"], 2);
    assert!(plane.take(0).is_none());
}

#[test]
fn a_request_brings_at_most_a_thousand_messages() {
    let plane = Plane::start(Options { letters_max: 2_000, ..Options::default() });
    let messages = |count| format!("[{}]", vec![r#"{"type":"broadcast","event":"e"}"#; count].join(","));
    assert_eq!(plane.emit("[]").json(), json!({"accepted": 0, "results": []}));
    let answer = plane.emit(&messages(1_001));
    assert_eq!((answer.status, &*answer.code()), (413, "too_many_messages"));
    assert!(plane.take(0).is_none());
    assert_eq!(plane.emit(&messages(1_000)).json()["accepted"], 1_000);
}

#[test]
fn a_full_mailbox_is_told_and_blocks_nobody() {
    let plane = Plane::start(Options { shard_count: 2, letters_max: 1, ..Options::default() });
    assert!(plane.engine.router().shards()[0].post(Mail::Drain { period_ms: 0 }));
    let answer = plane.emit(r#"{"type":"broadcast","event":"e"}"#);
    let expected = json!({"accepted": 1, "results": [{"shards": 1, "mailboxes_full": 1, "redis": "off"}]});
    assert_eq!((answer.status, answer.json()), (200, expected));
}

#[test]
fn without_redis_at_hand_a_message_stays_local_and_the_answer_says_so() {
    // Port 1 of the loopback: nobody listens there.
    let plane = Plane::start(Options { redis: Some("redis://127.0.0.1:1"), ..Options::default() });
    let answer = plane.emit(r#"{"type":"broadcast","event":"e"}"#);
    let expected =
        json!({"accepted": 1, "results": [{"shards": 1, "mailboxes_full": 0, "redis": "local-only"}]});
    assert_eq!((answer.status, answer.json()), (200, expected));
}

#[test]
fn without_an_ignis_mount_nothing_can_be_emitted() {
    let plane = Plane::start(Options { ignis: false, ..Options::default() });
    let answer = plane.emit(r#"{"type":"broadcast","event":"e"}"#);
    assert_eq!((answer.status, &*answer.code()), (409, "no_ignis_mount"));
    let mixed = r#"[{"type":"topic","target":"t","data":1},{"type":"broadcast","event":"e"}]"#;
    assert_eq!(plane.emit(mixed).code(), "no_ignis_mount");
    // Topics need none.
    assert_eq!(plane.emit(r#"{"type":"topic","target":"t","data":1}"#).status, 200);
}

#[test]
fn the_api_needs_a_key_and_a_reload_changes_it() {
    let ask = |plane: &Plane, authorization: &str| {
        let request = request("GET", "/api/clients/nobody", authorization, "");
        plane.hand_off(request.as_bytes()).answer()
    };
    let plane = Plane::start(Options { keys: vec!["old", "older"], ..Options::default() });
    for (authorization, status) in [
        ("", 401),
        ("Authorization: Bearer new\r\n", 401),
        ("Authorization: Basic old\r\n", 401),
        ("Authorization: Bearer old\r\n", 404),
        ("authorization: bearer older\r\n", 404),
    ] {
        assert_eq!(ask(&plane, authorization).status, status, "{authorization}");
    }
    let refused = ask(&plane, "");
    assert_eq!((&*refused.code(), refused.header("Www-Authenticate")), ("unauthorized", Some("Bearer")));
    assert_eq!(plane.engine.status().process.api_unauthorized.load(Ordering::Relaxed), 4);

    let mut config = Config::default();
    config.api.key = vec![Secret::new("new")];
    plane.settings.reload(&config);
    assert_eq!(ask(&plane, "Authorization: Bearer new\r\n").status, 404);
    assert_eq!(ask(&plane, "Authorization: Bearer old\r\n").status, 401);

    config.api.key.clear();
    plane.settings.reload(&config);
    let closed = ask(&plane, "Authorization: Bearer new\r\n");
    assert_eq!((closed.status, &*closed.code()), (401, "no_key_configured"));
    assert!(closed.body.contains("api.key") && closed.body.contains("SHARDCAST_API_KEY"), "{closed:?}");

    config.auth.dev = true;
    plane.settings.reload(&config);
    assert_eq!(ask(&plane, "").status, 404);
}

#[test]
fn rooms_are_listed_by_name_up_to_the_limit() {
    let plane = Plane::start(Options { shard_count: 2, ..Options::default() });
    let authorization = format!("Authorization: Bearer {KEY}\r\n");
    let request = request("GET", "/api/rooms?limit=2", &authorization, "");
    let mut client = plane.hand_off(request.as_bytes());
    let rooms = |rooms: &[(&str, usize)]| {
        QueryReply::Rooms(rooms.iter().map(|(name, count)| (Arc::from(*name), *count)).collect())
    };
    assert_eq!(
        plane.answer_query(0, rooms(&[("b", 1), ("a", 2)])),
        Query::Rooms { mount: MOUNT, count_max: 3 }
    );
    plane.answer_query(1, rooms(&[("c", 5), ("a", 1)]));
    let expected =
        json!({"rooms": [{"name": "a", "members": 3}, {"name": "b", "members": 1}], "truncated": true});
    assert_eq!(client.answer().json(), expected);

    let asked = crate::plane::request("GET", "/api/rooms?mount=%2ftopics", &authorization, "");
    let mut client = plane.hand_off(asked.as_bytes());
    let query = plane.answer_query(0, rooms(&[("t:acme:chat", 1)]));
    assert_eq!(query, Query::Rooms { mount: MountId(1), count_max: 1_001 });
    plane.answer_query(1, rooms(&[]));
    let expected = json!({"rooms": [{"name": "t:acme:chat", "members": 1}], "truncated": false});
    assert_eq!(client.answer().json(), expected);
    let refused = plane.call("GET", "/api/rooms?mount=/topic", "");
    assert_eq!((refused.status, &*refused.code()), (404, "unknown_mount"));
    let refused = plane.call("GET", "/api/rooms?limit=0", "");
    assert_eq!((refused.status, &*refused.code()), (400, "bad_limit"));
    let refused = plane.call("GET", "/api/rooms?limt=1", "");
    assert_eq!((refused.status, &*refused.code()), (400, "unknown_parameter"));
}

#[test]
fn a_client_is_shown_as_its_shard_sees_it() {
    let plane = Plane::start(Options::default());
    let (id, conn) = client_up(&plane, 0);
    let view = ClientView {
        id,
        user: UserId::from_json("42"),
        rooms: vec![Arc::from(ID), Arc::from("news")],
        connected_unix_ms: 1_795_312_104_999,
        outbox_bytes: 17,
    };
    let path = format!("/api/clients/{ID}");
    let request = request("GET", &path, &format!("Authorization: Bearer {KEY}\r\n"), "");
    let mut client = plane.hand_off(request.as_bytes());
    assert_eq!(plane.answer_query(0, QueryReply::Client(Some(view))), Query::Client(conn));
    let expected = json!({
        "id": ID, "mount": "/ws", "userId": 42, "rooms": [ID, "news"], "connectedAt": "2026-11-22T01:48:24.999Z", "outboxBytes": 17
    });
    assert_eq!(client.answer().json(), expected);

    // It left between the look into the directory and the look into the shard.
    let mut client = plane.hand_off(request.as_bytes());
    plane.engine.router().directory().client_down(id);
    let answered = client.answer();
    assert_eq!((answered.status, &*answered.code()), (404, "unknown_client"));
}

#[test]
fn a_client_is_kicked_once_its_shard_takes_the_letter() {
    let plane = Plane::start(Options { letters_max: 1, ..Options::default() });
    let path = format!("/api/clients/{ID}");
    assert_eq!(plane.call("DELETE", &path, "").code(), "unknown_client");
    let (_, conn) = client_up(&plane, 0);
    let answer = plane.call("DELETE", &path, "");
    assert_eq!((answer.status, answer.json()), (202, json!({"kicked": ID})));
    let busy = plane.call("DELETE", &path, "");
    assert_eq!((busy.status, &*busy.code(), busy.header("Retry-After")), (503, "shard_busy", Some("1")));
    assert!(matches!(plane.take(0), Some(Mail::Kick { conn: kicked, .. }) if kicked == conn));
}

#[test]
fn attack_54_every_shard_with_a_user_is_told_to_end_its_connections() {
    let plane = Plane::start(Options { shard_count: 2, letters_max: 1, ..Options::default() });
    let kick = |id: &str| plane.call("DELETE", &format!("/api/users/{id}"), "");
    assert_eq!((kick("42").status, &*kick("42").code()), (404, "unknown_user"));
    assert_eq!(kick("%zz").code(), "unknown_user");
    let directory = plane.engine.router().directory();
    let (number, name) = (UserId::from_json("42").expect("an id"), UserId::from_text("a/b é"));
    directory.user_up(MOUNT, number.clone(), ShardId(0));
    directory.user_up(MOUNT, name.clone(), ShardId(1));

    let answer = kick("42");
    assert_eq!((answer.status, answer.json()), (202, json!({"kicked": "42", "shards": 1})));
    let busy = kick("42");
    assert_eq!((busy.status, &*busy.code()), (503, "shard_busy"));
    assert!(matches!(plane.take(0), Some(Mail::KickUser { user, .. }) if user == number));
    let answer = kick("a%2Fb%20%C3%A9");
    assert_eq!((answer.status, answer.json()), (202, json!({"kicked": "a/b é", "shards": 1})));
    assert!(matches!(plane.take(1), Some(Mail::KickUser { user, .. }) if user == name));
    assert_eq!(kick("inf").code(), "unknown_user");
}

#[test]
fn a_method_that_a_path_does_not_take_is_answered_405() {
    let plane = Plane::start(Options::default());
    let cases = [
        ("GET", "/api/emit", "POST"),
        ("PUT", "/api/emit", "POST"),
        ("POST", "/api/rooms", "GET, HEAD"),
        ("OPTIONS", "/api/rooms", "GET, HEAD"),
        ("POST", "/api/clients/x", "GET, HEAD, DELETE"),
        ("GET", "/api/users/x", "DELETE"),
    ];
    for (method, path, allow) in cases {
        let answer = plane.call(method, path, "");
        assert_eq!((answer.status, answer.header("Allow")), (405, Some(allow)), "{method} {path}");
        assert_eq!(answer.code(), "method_not_allowed");
    }
}

/// Paths and URLs as Ignis 0.0.7 on Bun 1.4.5 answered them.
#[test]
fn other_paths_get_the_404_of_an_ignis_application() {
    let plane = Plane::start(Options::default());
    for (target, path) in [("/ws/", "/ws/"), ("/nope", "/nope"), ("/%77s", "/ws"), ("/ws", "/ws"), ("/", "/")]
    {
        let request = request("GET", target, "", "");
        let answer = plane.hand_off(request.as_bytes()).answer();
        assert_eq!((answer.status, answer.header("Content-Type")), (404, Some("application/json")));
        let id = answer.header("X-Request-Id").expect("an id");
        assert_eq!(ClientId::parse(id).map(|id| id.to_string()).as_deref(), Some(id), "a lower-case UUID");
        let expected = format!(
            r#"{{"message":"URL NOT FOUND","statusCode":404,"requestId":"{id}","path":"{path}","url":"http://127.0.0.1:7401{target}"}}"#
        );
        assert_eq!(answer.body, expected);
    }
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let plane = Plane::start(Options::default());
    let mut client = plane.hand_off(request("HEAD", "/nope", "", "").as_bytes());
    let head = client.answer_to("HEAD");
    client.send(request("GET", "/nope", "", "").as_bytes());
    let get = client.answer();
    assert_eq!((head.status, head.header("Content-Length")), (404, get.header("Content-Length")));
}

#[test]
fn a_client_of_topics_is_known_by_its_session_as_well() {
    let plane = Plane::start(Options::default());
    let (id, conn) = client_up(&plane, 0);
    let session = SessionId::of(&id);
    let answer = plane.call("DELETE", &format!("/api/clients/{}", session.as_str()), "");
    assert_eq!((answer.status, answer.json()), (202, json!({"kicked": ID})));
    assert!(matches!(plane.take(0), Some(Mail::Kick { conn: kicked, .. }) if kicked == conn));
    let unknown = SessionId::of(&ClientId::from_bytes([9; 16]));
    let answer = plane.call("DELETE", &format!("/api/clients/{}", unknown.as_str()), "");
    assert_eq!((answer.status, &*answer.code()), (404, "unknown_client"));
}
