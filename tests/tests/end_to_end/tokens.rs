//! Tokens of issuers: every algorithm, keys that an issuer publishes, rotates, hides and lies about.

use std::time::Duration;

use serde_json::{Value, json};
use shardcast::config::{Choice, Config, Jwks, JwtAlgorithm, RoomPattern};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::jwks::{IssuerKey, JwksServer, Manner, set};
use shardcast_tests::server::{TestServer, WS, config};

const ISSUER: &str = "https://id.example";

fn all() -> impl Iterator<Item = JwtAlgorithm> {
    JwtAlgorithm::NAMES.iter().map(|(_, algorithm, _)| *algorithm)
}

fn strict() -> Config {
    let mut config = config();
    config.auth.dev = false;
    config.auth.rooms = vec![RoomPattern::new("*")];
    config
}

fn with_jwks(place: &JwksServer) -> Config {
    let mut config = strict();
    config.jwt.jwks = vec![Jwks {
        url: place.url(),
        issuer: ISSUER.to_owned(),
        timeout: Duration::from_secs(1),
        ..Jwks::default()
    }];
    config
}

/// Logs in; returns who the client is, or `None` when it is refused.
fn log_in(server: &TestServer, token: &str) -> Option<Value> {
    let mut client = Client::connect(server.address(), WS);
    client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
    let mut answer = client.recv_json();
    if answer["event"] == "connected" {
        client.leave();
        return Some(answer["data"]["userId"].take());
    }
    assert_eq!(client.recv(), Received::Close(Some(4003), "Authentication failed".to_owned()));
    None
}

fn refused(server: &TestServer, reason: &str) -> u64 {
    server.counts().of(&format!("auth_refused.{reason}"))
}

#[test]
fn tokens_of_every_algorithm_let_their_users_in() {
    let keys: Vec<_> = all().map(|algorithm| IssuerKey::new(algorithm, algorithm.name())).collect();
    let mut config = strict();
    config.jwt.keys = keys.iter().map(|key| key.table(ISSUER)).collect();
    let server = TestServer::start(&config);
    for key in &keys {
        let token = key.token(&json!({"iss": ISSUER, "sub": key.kid}));
        assert_eq!(log_in(&server, &token), Some(json!(key.kid)));
        assert_eq!(log_in(&server, &token), Some(json!(key.kid)), "known from before");
        let number = key.token(&json!({"iss": ISSUER, "sub": 42}));
        assert_eq!(log_in(&server, &number), Some(json!(42)));
    }
    let counts = server.wait_until("all counted", |counts| counts.of("auth_accepted") == 36);
    assert_eq!((counts.of("tokens_checked"), counts.of("token_cache_hits")), (24, 12));
    server.stop();
}

#[test]
fn keys_of_every_public_algorithm_are_fetched_from_their_issuer() {
    let keys: Vec<_> = all()
        .filter(|algorithm| !algorithm.name().starts_with("HS"))
        .map(|algorithm| IssuerKey::new(algorithm, algorithm.name()))
        .collect();
    let secret = IssuerKey::new(JwtAlgorithm::Hs256, "secret");
    let place = JwksServer::start(Manner::Status(500));
    let published: Vec<_> = keys.iter().chain([&secret]).collect();
    place.publish(&published);
    let server = TestServer::start(&with_jwks(&place));
    server.wait_until("the keys are there", |counts| counts.of("jwks_keys_ignored") == 1);
    for key in &keys {
        let token = key.token(&json!({"iss": ISSUER, "sub": key.kid}));
        assert_eq!(log_in(&server, &token), Some(json!(key.kid)), "{}", key.kid);
        let elsewhere = key.token(&json!({"iss": "https://other.example", "sub": key.kid}));
        assert_eq!(log_in(&server, &elsewhere), None, "{}", key.kid);
    }
    let token = secret.token(&json!({"iss": ISSUER, "sub": "admin"}));
    assert_eq!(log_in(&server, &token), None, "a secret in a public place is none");
    assert_eq!(place.asked(), 2, "at the start and for the unknown id");
    server.stop();
}

#[test]
fn a_key_that_is_rotated_in_is_found_and_one_that_is_rotated_out_stays_good() {
    let [old, new, newer] = ["old", "new", "newer"].map(|kid| IssuerKey::new(JwtAlgorithm::Es256, kid));
    let token = |key: &IssuerKey| key.token(&json!({"iss": ISSUER, "sub": key.kid}));
    let place = JwksServer::start(Manner::Serve(set(&[&old])));
    let server = TestServer::start(&with_jwks(&place));
    server.wait_until("the keys are there", |_| place.asked() >= 1);
    assert_eq!(log_in_soon(&server, &token(&old)), json!("old"));

    place.publish(&[&new]);
    assert_eq!(log_in(&server, &token(&new)), Some(json!("new")), "fetched for the token that names it");
    assert_eq!(log_in(&server, &token(&old)), Some(json!("old")), "its tokens are still on their way");
    assert_eq!(place.asked(), 2);

    // Unknown ids, invented or new, cause no more than one fetch in a while.
    place.publish(&[&newer]);
    for number in 0..20 {
        let invented = IssuerKey::new(JwtAlgorithm::EdDsa, &format!("invented-{number}"));
        assert_eq!(log_in(&server, &token(&invented)), None);
    }
    assert_eq!(log_in(&server, &token(&newer)), None);
    assert_eq!(place.asked(), 2);
    server.wait_until("all counted", |counts| counts.of("auth_refused.token_key_unknown") == 21);
    server.stop();
}

/// Keys that are being fetched at the start may come a moment later.
fn log_in_soon(server: &TestServer, token: &str) -> Value {
    for _ in 0..100 {
        if let Some(user) = log_in(server, token) {
            return user;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the keys never came: {:?}", server.counts());
}

#[test]
fn an_issuer_that_hangs_or_lies_takes_no_key_away() {
    let key = IssuerKey::new(JwtAlgorithm::Rs256, "k");
    let stranger = IssuerKey::new(JwtAlgorithm::Rs256, "s");
    let place = JwksServer::start(Manner::Serve(set(&[&key])));
    let mut config = with_jwks(&place);
    config.jwt.cache_ttl = None;
    let server = TestServer::start(&config);
    let token = |key: &IssuerKey| key.token(&json!({"iss": ISSUER, "sub": "u1"}));
    assert_eq!(log_in_soon(&server, &token(&key)), json!("u1"));

    place.behave(Manner::Hang);
    let asked = place.asked();
    // It names an unknown key, so the keys are fetched, which takes until the timeout; others come in meanwhile.
    let mut waiting = Client::connect(server.address(), WS);
    waiting.send_json(&json!({"event": "authenticate", "data": {"token": token(&stranger)}}));
    server.wait_until("the place is asked", |_| place.asked() == asked + 1);
    assert_eq!(log_in(&server, &token(&key)), Some(json!("u1")));
    assert_eq!(waiting.recv_json()["event"], "error");
    assert_eq!(server.wait_until("counted", |counts| counts.of("jwks_failures") == 1).of("jwks_failures"), 1);
    for lie in [set(&[]), r#"{"keys":[{"kty":"RSA"}]}"#.to_owned(), "null".to_owned()] {
        place.behave(Manner::Serve(lie));
        assert_eq!(log_in(&server, &token(&key)), Some(json!("u1")));
    }
    server.stop();
}

#[test]
fn a_server_whose_issuer_is_away_serves_and_lets_in_once_it_is_back() {
    let key = IssuerKey::new(JwtAlgorithm::Ps512, "k");
    let place = JwksServer::start(Manner::Status(503));
    let server = TestServer::start(&with_jwks(&place));
    let token = key.token(&json!({"iss": ISSUER, "sub": "u1"}));
    assert_eq!(log_in(&server, &token), None);
    assert_eq!(refused(&server, "keys_unavailable"), 1);
    place.publish(&[&key]);
    assert_eq!(log_in_soon(&server, &token), json!("u1"), "it tries again by itself");
    server.stop();
}
