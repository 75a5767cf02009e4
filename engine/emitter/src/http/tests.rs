//! The API's side of the exchange is played by a socket, so that every byte of a request is seen.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

/// Answers one request with `answer` and returns the request and what came of it.
async fn exchange(messages: &[Message], answer: &str) -> (String, Result<Vec<Receipt>, EmitError>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let base_url = format!("http://{}/", listener.local_addr().expect("an address"));
    let way = HttpWay::new(&base_url, "the-key").expect("good settings");
    let serve = async {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut request = Vec::new();
        while !is_whole(&request) {
            assert_ne!(socket.read_buf(&mut request).await.expect("bytes"), 0, "the request broke off");
        }
        socket.write_all(answer.as_bytes()).await.expect("answered");
        String::from_utf8(request).expect("text")
    };
    tokio::join!(serve, way.send(messages, Duration::from_secs(10)))
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn one_message_is_an_object_and_its_receipt_is_read() {
    let message = Message::new(Target::room("a\r\nb"), "x")
        .with_raw_data(json(r#"{"n": 1.0}"#))
        .excluding(["c1", "c2"]);
    let ok =
        answer("200 OK", r#"{"accepted":1,"results":[{"shards":2,"redis":"queued","new":true}],"also":1}"#);
    let (request, result) = exchange(&[message], &ok).await;
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("POST /api/emit HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: Bearer the-key"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json"), "{head}");
    assert_eq!(
        body,
        r#"{"type":"room","target":"a\r\nb","event":"x","data":{"n": 1.0},"exclude":["c1","c2"]}"#
    );
    assert_eq!(result.expect("accepted"), [Receipt::Api { shards: 2, redis: Forwarded::Queued }]);
}

#[tokio::test]
async fn several_messages_are_an_array_in_order() {
    let messages = [
        Message::new(Target::Broadcast, "a"),
        Message::new(Target::user("u"), "b").with_raw_data(json("null")),
        Message::new(Target::user(-7), "c"),
        Message::new(Target::client("id"), "d"),
        Message::topic("chat").with_raw_data(json("[1, 2]")),
    ];
    let results =
        r#"{"local_shards":1,"redis":"off"},{"redis":"local-only"},{"redis":"later"},{},{"redis":"queued"}"#;
    let (request, result) =
        exchange(&messages, &answer("200 OK", &format!(r#"{{"results":[{results}]}}"#))).await;
    let (_, body) = request.split_once("\r\n\r\n").expect("a head");
    let expected = concat!(
        r#"[{"type":"broadcast","event":"a"},{"type":"user","target":"u","event":"b","data":null},"#,
        r#"{"type":"user","target":-7,"event":"c"},{"type":"client","target":"id","event":"d"},"#,
        r#"{"type":"topic","target":"chat","data":[1, 2]}]"#
    );
    assert_eq!(body, expected);
    let receipt = |shards, redis| Receipt::Api { shards, redis };
    let expected = [
        receipt(1, Forwarded::Off),
        receipt(0, Forwarded::LocalOnly),
        receipt(0, Forwarded::Unknown),
        receipt(0, Forwarded::Unknown),
        receipt(0, Forwarded::Queued),
    ];
    assert_eq!(result.expect("accepted"), expected);
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_api() {
    for (status, body, rejection) in [
        (
            "400 Bad Request",
            r#"{"error":{"code":"empty","message":"`target` must not be empty","index":3}}"#,
            (400, "empty", "`target` must not be empty", Some(3)),
        ),
        ("401 Unauthorized", r#"{"error":{"code":"unauthorized"}}"#, (401, "unauthorized", "", None)),
        ("502 Bad Gateway", "<html>", (502, "", "", None)),
        ("302 Found", "", (302, "", "", None)),
    ] {
        let (_, result) = exchange(&[Message::new(Target::Broadcast, "x")], &answer(status, body)).await;
        let (status, code, message, index) = rejection;
        let expected = Rejection { status, code: code.to_owned(), message: message.to_owned(), index };
        match result {
            Err(EmitError::Rejected(found)) => assert_eq!(found, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_api_is_an_error() {
    let flood = " ".repeat(ANSWER_BYTES_MAX + 1);
    for body in ["", "{}", "[]", r#"{"results":[]}"#, r#"{"results":[{},{}]}"#] {
        let (_, result) = exchange(&[Message::new(Target::Broadcast, "x")], &answer("200 OK", body)).await;
        assert!(matches!(result, Err(EmitError::Answer)), "{body}: {result:?}");
    }
    let (_, result) = exchange(&[Message::new(Target::Broadcast, "x")], &answer("200 OK", &flood)).await;
    assert!(matches!(result, Err(EmitError::Transport(_))), "{result:?}");
}

#[tokio::test]
async fn silence_ends_with_the_timeout_and_absence_at_once() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let way = HttpWay::new(&format!("http://{address}"), "k").expect("good settings");
    let messages = [Message::new(Target::Broadcast, "x")];
    let silent = way.send(&messages, Duration::from_millis(50)).await;
    assert!(matches!(silent, Err(EmitError::Timeout)), "{silent:?}");
    drop(listener);
    let absent = way.send(&messages, Duration::from_secs(10)).await;
    assert!(matches!(absent, Err(EmitError::Transport(_))), "{absent:?}");
}

#[test]
fn a_useless_address_or_key_is_refused_and_the_key_never_shown() {
    for base_url in ["", "host", "/", "http://", "redis://host", "http://user:pw@host", "http://a b"] {
        assert!(matches!(HttpWay::new(base_url, "k"), Err(EmitError::BaseUrl)), "{base_url}");
    }
    if cfg!(not(feature = "https")) {
        assert!(matches!(HttpWay::new("https://host", "k"), Err(EmitError::HttpsOff)));
    }
    for key in ["", "a b", "a\r\nX-Injected: 1", "é"] {
        assert!(matches!(HttpWay::new("http://host", key), Err(EmitError::Key)), "{key:?}");
    }
    let way = HttpWay::new("http://host/prefix/", "hunter2").expect("good settings");
    assert_eq!(way.endpoint, "http://host/prefix/api/emit");
    assert!(!format!("{way:?}").contains("hunter2"));
}
