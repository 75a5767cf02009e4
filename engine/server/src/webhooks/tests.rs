//! What requests say and how answers are read.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};
use shardcast_shard::{ClientRef, ConnId, Identity, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

use super::body::*;
use super::*;
use crate::auth::Principal;

const ID: &str = "11111111-1111-4111-9111-111111111111";

fn client(identity: Identity) -> Client {
    Client {
        id: ClientId::parse(ID).expect("a client id"),
        at: ClientRef { shard: ShardId(0), conn: ConnId { slot: 0, generation: 0 } },
        mount: MountId(0),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        identity,
    }
}

fn somebody() -> Client {
    let principal = Principal {
        user: Some(UserId::from_json("42").expect("a user")),
        tenant: Some("a\"b".to_owned()),
        roles: vec!["x".to_owned(), "y\\".to_owned()],
        ..Principal::default()
    };
    client(Arc::new(principal).identity())
}

fn parsed(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn reply(status: u16, body: &str) -> Reply {
    let status = StatusCode::from_u16(status).expect("a status");
    Reply { status, body: Bytes::from(body.to_owned()) }
}

#[test]
fn requests_say_what_they_are_about_and_who_it_is() {
    let nobody = json!({"id": ID, "address": "127.0.0.1", "user": null, "tenant": null, "roles": []});
    let asked = authenticate("msg_1", 7, "/ws", &client(Identity::default()), r#"{"token":"t","a":[1]}"#);
    let time = "1970-01-01T00:00:00.007Z";
    let expected = json!({"type": "authenticate", "id": "msg_1", "time": time, "mount": "/ws", "client": nobody,
        "data": {"token": "t", "a": [1]}});
    assert_eq!(parsed(&asked), expected);

    let known =
        json!({"id": ID, "address": "127.0.0.1", "user": 42, "tenant": "a\"b", "roles": ["x", "y\\"]});
    let names = ["a".to_owned(), "\"\u{1}".to_owned()];
    let asked = rooms("msg_2", 7, "/\"", &somebody(), &names);
    let expected = json!({"type": "rooms", "id": "msg_2", "time": time, "mount": "/\"", "client": known,
        "rooms": names});
    assert_eq!(parsed(&asked), expected);

    let events = events(
        "msg_3",
        7,
        [
            event(EventKind::Connected, 7, "/ws", &somebody(), None),
            event(EventKind::Message, 7, "/ws", &somebody(), Some(r#"{"event":"e"}"#)),
        ]
        .iter()
        .map(String::as_str),
    );
    let told = |kind: &str| json!({"type": kind, "time": time, "mount": "/ws", "client": known});
    let mut message = told("message");
    message["message"] = json!(r#"{"event":"e"}"#);
    let expected =
        json!({"type": "events", "id": "msg_3", "time": time, "events": [told("connected"), message]});
    assert_eq!(parsed(&events), expected);
}

#[test]
fn a_message_that_the_application_cannot_parse_does_not_spoil_the_request_it_is_in() {
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    for text in [deep.as_str(), r#"{"event":"\ud800","data":"\udfff"}"#, "{\"a\":\"\u{2028}\"}"] {
        let json = event(EventKind::Message, 0, "/ws", &somebody(), Some(text));
        assert_eq!(parsed(&events("msg_1", 0, [json.as_str()].into_iter()))["events"][0]["message"], text);
    }
}

#[test]
fn an_admission_must_be_said_in_so_many_words() {
    let admitted = |body: &str| read_authenticate(&reply(200, body), 1_000_000);
    let full =
        r#"{"user":"u1","rooms":["a","b:*"],"roles":["r"],"tenant":"t","claims":{"x":[1]},"expires":2000}"#;
    let principal = admitted(full).expect("an answer").expect("accepted");
    assert_eq!(principal.user, Some(UserId::from_text("u1")));
    assert_eq!(principal.rooms.iter().map(|room| room.as_str()).collect::<Vec<_>>(), ["a", "b:*"]);
    assert_eq!((principal.roles, principal.tenant), (vec!["r".to_owned()], Some("t".to_owned())));
    assert_eq!(Value::Object(principal.claims), json!({"x": [1]}));
    assert_eq!((principal.expires_unix_ms, principal.everything), (Some(2_000_000), false));
    for (body, user) in
        [("42", "42"), ("-7", "-7"), ("9007199254740991", "9007199254740991"), ("\"\\u0061\"", "\"a\"")]
    {
        let principal = admitted(&format!("{{\"user\":{body}}}")).expect("an answer").expect("accepted");
        assert_eq!(principal.user.as_ref().map(UserId::as_json), Some(user));
    }
    assert_eq!(admitted(r#"{"user":null}"#).expect("an answer"), Some(Principal::default()));
    assert_eq!(admitted(r#"{"user":"u","expires":1000}"#).expect("an answer"), None, "expired");
    assert!(admitted(&format!("{{\"user\":1,\"expires\":{}}}", u64::MAX)).expect("an answer").is_some());
    for status in [401, 403] {
        assert_eq!(read_authenticate(&reply(status, full), 0).expect("an answer"), None);
    }
    for status in [100, 201, 204, 301, 302, 307, 400, 404, 429, 500, 503] {
        let error = read_authenticate(&reply(status, full), 0).expect_err("no answer");
        assert_eq!(error.outcome(), Outcome::BadStatus, "{status}");
    }
    let deep = format!(r#"{{"user":1,"claims":{{"a":{}1{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let malformed = [
        "",
        "{}",
        "[]",
        "null",
        "true",
        "{",
        "{\"user\":\"u\"} x",
        "{\"user\":{}}",
        "{\"user\":[1]}",
        "{\"user\":true}",
        "{\"user\":0}",
        "{\"user\":\"\"}",
        "{\"user\":1e999}",
        "{\"user\":9007199254740992}",
        "{\"user\":-9007199254740992}",
        "{\"user\":18446744073709551617}",
        "{\"user\":1.0000000000000000001}",
        "{\"user\":1e3}",
        "{\"user\":\"u\",\"admin\":true}",
        "{\"user\":\"u\",\"user\":\"v\"}",
        "{\"user\":\"u\",\"rooms\":\"*\"}",
        "{\"user\":\"u\",\"rooms\":[1]}",
        "{\"user\":\"u\",\"expires\":-1}",
        "{\"user\":\"u\",\"expires\":1.5}",
        "{\"user\":\"u\",\"roles\":null}",
        "{\"User\":\"u\"}",
        "[\"u\",[],[],null,{},null]",
        "\u{feff}{\"user\":\"u\"}",
        deep.as_str(),
    ];
    for body in malformed {
        let error = admitted(body).expect_err(body);
        assert_eq!(error.outcome(), Outcome::Malformed, "{body}");
    }
    let error = read_authenticate(
        &Reply { status: StatusCode::OK, body: Bytes::from_static(b"{\"user\":\"\xff\"}") },
        0,
    );
    assert_eq!(error.expect_err("no UTF-8").outcome(), Outcome::Malformed);
}

#[test]
fn what_an_answer_says_is_not_logged() {
    for body in [
        r#"{"user":"u","sesame":1}"#,
        r#"{"user":"u","rooms":"sesame"}"#,
        r#"{"user":"u","expires":"sesame"}"#,
    ] {
        let error = read_authenticate(&reply(200, body), 0).expect_err(body);
        assert!(error.to_string().contains("sesame"), "{error}");
        assert!(
            !error.logged().contains("sesame") && error.logged().contains("line 1"),
            "{}",
            error.logged()
        );
    }
}

#[test]
fn only_rooms_that_were_asked_for_are_granted() {
    let asked = || ["a", "b", "c"].map(str::to_owned).to_vec();
    let grant = |body: &str| read_rooms(&reply(200, body), asked());
    let table: [(&str, &[&str], u64); 5] = [
        (r#"{"rooms":["c","a"]}"#, &["a", "c"], 0),
        (r#"{"rooms":[]}"#, &[], 0),
        (r#"{"rooms":["a","admin","ws:x","admin"]}"#, &["a"], 2),
        (r#"{"rooms":["*"]}"#, &[], 1),
        (r#"{"rooms":["A"]}"#, &[], 1),
    ];
    for (body, rooms, ignored) in table {
        let grant = grant(body).expect(body);
        assert_eq!(
            (grant.rooms, grant.ignored, grant.refused),
            (rooms.iter().map(|r| (*r).to_owned()).collect(), ignored, false)
        );
    }
    for body in ["", "[]", "{}", r#"["a"]"#, r#"[["a"]]"#, r#"{"rooms":null}"#, r#"{"rooms":["a"],"more":1}"#]
    {
        assert_eq!(grant(body).expect_err(body).outcome(), Outcome::Malformed);
    }
    let refused = read_rooms(&reply(403, r#"{"rooms":["a"]}"#), asked()).expect("an answer");
    assert_eq!(refused, Grant { refused: true, ..Grant::default() });
    assert_eq!(read_rooms(&reply(500, ""), asked()).expect_err("500").outcome(), Outcome::BadStatus);
}
