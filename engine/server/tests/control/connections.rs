//! How connections are shared, timed, refused and closed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::plane::{Answer, KEY, Options, Plane, request, until};

const BROADCAST: &str = r#"{"type":"broadcast","event":"e"}"#;

fn emit(body: &str) -> String {
    request("POST", "/api/emit", &format!("Authorization: Bearer {KEY}\r\n"), body)
}

fn assert_emitted(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &serde_json::json!(1)), "{answer:?}");
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let plane = Plane::start(Options::default());
    let mut client = plane.hand_off(emit(BROADCAST).as_bytes());
    assert_emitted(&client.answer());
    client.send(request("GET", "/nope", "", "").as_bytes());
    assert_eq!(client.answer().status, 404);
    client.send((emit(BROADCAST) + &emit("x") + &emit(BROADCAST)).as_bytes());
    assert_emitted(&client.answer());
    assert_eq!(client.answer().status, 400);
    assert_emitted(&client.answer());
    client.send(request("GET", "/nope", "Connection: close\r\n", "").as_bytes());
    assert_eq!(client.answer().header("Connection"), Some("close"));
    assert_eq!(client.rest().expect("an orderly end"), "");
}

#[test]
fn what_a_shard_has_read_comes_first_wherever_it_was_cut() {
    let plane = Plane::start(Options::default());
    let text = emit(BROADCAST) + &emit(BROADCAST);
    for cut in [1, 20, emit(BROADCAST).len() - 5, emit(BROADCAST).len() + 3, text.len()] {
        let (received, rest) = text.as_bytes().split_at(cut);
        let mut client = plane.hand_off(received);
        client.send(rest);
        assert_emitted(&client.answer());
        assert_emitted(&client.answer());
    }
}

#[test]
fn a_body_in_chunks_is_put_together() {
    let plane = Plane::start(Options::default());
    let head = request(
        "POST",
        "/api/emit",
        &format!("Authorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n"),
        "",
    );
    let mut client = plane.hand_off(head.as_bytes());
    let (first, second) = BROADCAST.split_at(9);
    client.send(
        format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len()).as_bytes(),
    );
    assert_emitted(&client.answer());
}

#[test]
fn a_client_that_waits_for_permission_to_send_its_body_gets_it() {
    let plane = Plane::start(Options::default());
    let headers = format!("Authorization: Bearer {KEY}\r\nExpect: 100-continue\r\n");
    let whole = request("POST", "/api/emit", &headers, BROADCAST);
    let mut client = plane.hand_off(whole.strip_suffix(BROADCAST).expect("a body").as_bytes());
    assert_eq!(client.answer().status, 100);
    client.send(BROADCAST.as_bytes());
    assert_emitted(&client.answer());
}

#[test]
fn a_body_over_the_limit_is_answered_413_and_the_answer_arrives() {
    let plane = Plane::start(Options { limits: |limits| limits.body_bytes_max = 64, ..Options::default() });
    let fits = format!("{BROADCAST:64}");
    assert_emitted(&plane.hand_off(emit(&fits).as_bytes()).answer());

    // Most of the body is still under way when the answer goes out.
    let mut client = plane.hand_off(emit(&" ".repeat(500_000)).as_bytes());
    client.send(&[b' '; 100_000]);
    let answer = client.answer();
    assert_eq!(
        (answer.status, &*answer.code(), answer.header("Connection")),
        (413, "body_too_large", Some("close"))
    );
    client.send(&[b' '; 100_000]);
    client.end_sending();
    assert_eq!(client.rest().expect("an orderly end"), "");

    let chunked = format!("Authorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n");
    let mut client = plane.hand_off(request("POST", "/api/emit", &chunked, "").as_bytes());
    client.send(format!("41\r\n{}\r\n", " ".repeat(65)).as_bytes());
    assert_eq!(client.answer().code(), "body_too_large");
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let plane =
        Plane::start(Options { limits: |limits| limits.head_bytes_max = 8 * 1024, ..Options::default() });
    let mut client =
        plane.hand_off(request("GET", "/", &format!("X: {}\r\n", "x".repeat(20_000)), "").as_bytes());
    assert_eq!(client.answer().status, 431);
    assert_eq!(client.rest().expect("an orderly end"), "");
}

#[test]
fn what_is_no_http_is_refused_and_harms_nobody() {
    let plane = Plane::start(Options::default());
    let cases: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"\0\r\n\r\n",
        b"GET /\x80 HTTP/1.1\r\nHost\r\n\r\n",
    ];
    for bytes in cases {
        let mut client = plane.hand_off(bytes);
        assert_eq!(client.answer().status, 400, "{bytes:?}");
        assert_eq!(client.rest().expect("an orderly end"), "");
    }
    assert_emitted(&plane.emit(BROADCAST));
}

#[test]
fn a_head_that_does_not_arrive_ends_the_connection() {
    let plane = Plane::start(Options {
        limits: |limits| limits.head_timeout = Duration::from_millis(50),
        ..Options::default()
    });
    let mut client = plane.hand_off(emit(BROADCAST).as_bytes());
    assert_emitted(&client.answer());
    client.send(b"GET / HTTP/1.1\r\nHo");
    client.rest().expect("an orderly end");
}

#[test]
fn a_body_that_does_not_arrive_is_answered_408() {
    let plane = Plane::start(Options {
        limits: |limits| limits.body_timeout = Duration::from_millis(50),
        ..Options::default()
    });
    let whole = emit(BROADCAST);
    let mut client = plane.hand_off(&whole.as_bytes()[..whole.len() - 1]);
    let answer = client.answer();
    assert_eq!(
        (answer.status, &*answer.code(), answer.header("Connection")),
        (408, "body_timeout", Some("close"))
    );
    assert!(plane.take(0).is_none());
}

#[test]
fn a_client_that_goes_away_amid_its_body_changes_nothing() {
    let plane = Plane::start(Options { limits: |limits| limits.connections_max = 1, ..Options::default() });
    let whole = emit(BROADCAST);
    drop(plane.hand_off(&whole.as_bytes()[..whole.len() - 1]));
    until("the place to be free again", || (plane.emit(BROADCAST).status == 200).then_some(()));
    assert!(plane.take(0).is_some() && plane.take(0).is_none());
}

#[test]
fn a_connection_too_many_is_told_so_and_counted() {
    let plane = Plane::start(Options { limits: |limits| limits.connections_max = 1, ..Options::default() });
    let mut first = plane.hand_off(emit(BROADCAST).as_bytes());
    assert_emitted(&first.answer());
    let mut second = plane.hand_off(emit(BROADCAST).as_bytes());
    let answer = second.answer();
    assert_eq!(
        (answer.status, &*answer.code(), answer.header("Connection")),
        (503, "too_many_connections", Some("close"))
    );
    assert_eq!(second.rest().expect("an orderly end"), "");
    assert_eq!(plane.engine.status().process.hand_offs_refused.load(Ordering::Relaxed), 1);
    assert_eq!(plane.get_admin("/health/live").status, 200, "the admin listener has places of its own");
    drop(first);
    until("the place to be free again", || (plane.emit(BROADCAST).status == 200).then_some(()));
}

#[test]
fn admin_connections_are_bounded_too() {
    let plane =
        Plane::start(Options { limits: |limits| limits.admin_connections_max = 1, ..Options::default() });
    let mut first = plane.connect_admin();
    first.send(request("GET", "/health/live", "", "").as_bytes());
    assert_eq!(first.answer().status, 200);
    assert_eq!(plane.connect_admin().answer().status, 503);
}

#[test]
fn a_peer_that_takes_no_answers_loses_its_place() {
    let plane = Plane::start(Options {
        limits: |limits| {
            limits.connections_max = 1;
            limits.write_timeout = Duration::from_millis(50);
        },
        ..Options::default()
    });
    let mut deaf = plane.hand_off(b"");
    let request = request("GET", "/nope", "", "").repeat(100);
    // It asks without listening until nothing moves any more and the server gives up.
    while deaf.try_send(request.as_bytes()).is_ok() {}
    until("the place to be free again", || (plane.emit(BROADCAST).status == 200).then_some(()));
}

#[test]
fn a_stop_ends_idle_connections_and_lets_a_request_finish() {
    let plane = Plane::start(Options {
        limits: |limits| limits.stop_timeout = Duration::from_secs(10),
        ..Options::default()
    });
    let mut idle = plane.hand_off(emit(BROADCAST).as_bytes());
    assert_emitted(&idle.answer());
    let headers = format!("Authorization: Bearer {KEY}\r\nExpect: 100-continue\r\n");
    let whole = request("POST", "/api/emit", &headers, BROADCAST);
    let mut busy = plane.hand_off(whole.strip_suffix(BROADCAST).expect("a body").as_bytes());
    assert_eq!(busy.answer().status, 100);

    plane.begin_stop();
    assert_eq!(idle.rest().expect("an orderly end"), "");
    busy.send(BROADCAST.as_bytes());
    assert_emitted(&busy.answer());
    drop((idle, busy));
    plane.stop();
}
