//! How a session ends: codes of close frames, tokens that expire, tokens that replace another, a server that goes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use shardcast::config::{CloseCodes, Config, Effect, RoomTemplate, Rule};
use shardcast_tests::client::Received;
use shardcast_tests::jwks::now_s;
use shardcast_tests::server::config;
use shardcast_tests::topic::{
    AUTHENTICATED, DISCONNECT, ISSUER, Rig, TopicClient, UNAUTHORIZED, issuer, mount, request, token,
};

fn explicit(config: &mut Config) {
    mount(config).close_codes = CloseCodes::Explicit;
}

fn token_with(claims: &Value) -> String {
    let mut all = json!({"iss": ISSUER, "sub": "u1"});
    for (name, value) in claims.as_object().expect("claims are an object") {
        all[name] = value.clone();
    }
    issuer().token(&all)
}

/// What a client sends.
type Say = fn(&TopicClient) -> String;

#[test]
fn close_frames_have_codes_where_they_are_asked_for() {
    let rig = Rig::start_with(config(), explicit);
    let cases: [(&str, u16, Say); 8] = [
        ("not JSON", 1007, |_| "{".to_owned()),
        ("no object", 1008, |_| "[]".to_owned()),
        ("no context", 1008, |client| client.request("subscribe", "")),
        ("no action", 1008, |client| client.request("", "x")),
        ("unknown action", 1008, |client| client.request("publish", "x")),
        ("another's session", 1008, |_| request("subscribe", "x", "x")),
        ("a topic too long", 1008, |client| client.request("subscribe", &"x".repeat(201))),
        ("a reserved topic", 1008, |client| client.request("subscribe", "__keyspace@0__:x")),
    ];
    for (label, code, text) in cases {
        println!("{label}");
        let mut client = rig.client("u1");
        let text = text(&client);
        client.client().send_text(&text);
        if text.contains("xxx") || text.contains("__") {
            client.expect(UNAUTHORIZED);
        }
        client.expect_end_with(code);
    }
    let mut stranger = rig.stranger();
    stranger.send("subscribe", "x");
    stranger.expect(UNAUTHORIZED);
    stranger.expect_end_with(1008);
    let mut client = rig.client("u1");
    let long = client.request("subscribe", &"x".repeat(70_000));
    client.client().send_text(&long);
    client.expect_end_with(1009);
    rig.server.expect_empty("after all");
    let mut client = rig.subscriber(&["chat"]);
    rig.server.drain();
    client.expect(DISCONNECT);
    assert_eq!(client.client().recv(), Received::Close(Some(1001), "Server shutting down".to_owned()));
    assert_eq!(client.client().recv(), Received::Eof);
}

#[test]
fn close_frames_are_empty_where_they_are_not() {
    let rig = Rig::start(config());
    let mut client = rig.client("u1");
    let long = client.request("subscribe", &"x".repeat(70_000));
    client.client().send_text(&long);
    client.expect_end();
    rig.server.expect_empty("after a long message");
    let mut clients: Vec<_> = (0..4).map(|_| rig.subscriber(&["chat"])).collect();
    clients.push(rig.stranger());
    rig.server.drain();
    clients.into_iter().for_each(TopicClient::expect_end);
    rig.redis.wait_for_channels(&[]);
}

#[test]
fn a_token_that_expires_ends_its_connection() {
    let rig = Rig::start_with(config(), |config| {
        config.jwt.leeway = Duration::ZERO;
        config.auth.expiry_jitter = Duration::ZERO;
    });
    let expires = now_s() + 5;
    let short = token_with(&json!({"exp": expires}));
    let mut client = rig.stranger();
    client.authorize(&short);
    client.subscribe("chat");
    // A longer token in time keeps it.
    let mut renewed = rig.stranger();
    renewed.authorize(&short);
    renewed.subscribe("chat");
    renewed.authorize(&token("u1"));
    rig.redis.publish("chat", b"1");
    client.expect_message("chat", "1");
    client.expect(UNAUTHORIZED);
    client.expect_end();
    assert!(now_s() >= expires, "closed before its time");
    rig.redis.publish("chat", b"2");
    renewed.expect_message("chat", "1");
    renewed.expect_message("chat", "2");
    renewed.leave();
    let before = rig.server.counts();
    assert_eq!(before.of("auth_expired"), 1);
    rig.server.expect_empty("after expiry");
}

#[test]
fn a_good_token_of_the_same_user_changes_nothing() {
    let rig = Rig::start(config());
    let mut client = rig.subscriber(&["chat"]);
    for _ in 0..3 {
        client.authorize(&token_with(&json!({"again": now_s()})));
        rig.redis.publish("chat", b"1");
        client.expect_message("chat", "1");
    }
    client.leave();
}

#[test]
fn a_bad_token_takes_the_topics_away_until_a_good_one_comes() {
    let rig = Rig::start(config());
    let mut other = rig.subscriber(&["chat"]);
    let mut client = rig.subscriber(&["chat", "mine"]);
    client.authorize_in_vain("x");
    rig.redis.publish("chat", b"1");
    other.expect_message("chat", "1");
    rig.redis.wait_for_channels(&["chat"]);
    client.expect_nothing();
    client.authorize(&token("u1"));
    client.expect_nothing();
    client.subscribe("chat");
    rig.redis.publish("chat", b"2");
    client.expect_message("chat", "2");
    client.authorize_in_vain("x");
    client.send("subscribe", "chat");
    client.expect(UNAUTHORIZED);
    client.expect_end();
    other.expect_message("chat", "2");
    other.leave();
    rig.redis.wait_for_channels(&[]);
    rig.server.expect_empty("after all");
}

/// What the first user was allowed may not be the second's, and what is both's goes on.
#[test]
fn a_token_of_another_user_keeps_the_topics_that_are_the_others_too() {
    let rig = Rig::start_with(config(), |config| {
        let rule = |room: &str, effect| Rule {
            rooms: vec![RoomTemplate::new(room).expect("a template")],
            effect,
            ..Rule::default()
        };
        config.auth.rules = vec![rule("user:{user}", Effect::Allow), rule("user:*", Effect::Deny)];
    });
    let mut client = rig.subscriber(&["chat", "user:u1"]);
    client.authorize(&token("u2"));
    rig.redis.wait_for_channels(&["chat"]);
    rig.redis.publish("user:u1", b"1");
    rig.redis.publish("chat", b"2");
    client.expect_message("chat", "2");
    client.send("subscribe", "user:u1");
    client.expect(UNAUTHORIZED);
    client.subscribe("user:u2");
    rig.redis.publish("user:u2", b"3");
    client.expect_message("user:u2", "3");
    client.leave();
    rig.server.expect_empty("after all");
}

#[test]
fn strangers_who_lost_their_authentication_have_as_long_as_others() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let rig = Rig::start_with(config(), |config| mount(config).auth_timeout = TIMEOUT);
    let mut client = rig.subscriber(&["chat"]);
    let mut stays = rig.client("u2");
    let begun = Instant::now();
    client.authorize_in_vain("x");
    client.expect_end();
    assert!(begun.elapsed() >= TIMEOUT, "closed before its time");
    stays.send("authorization", &token("u2"));
    stays.expect(AUTHENTICATED);
    stays.leave();
}
