//! Tokens that must let nobody in, or no further than they say (47 to 58). The tables of what is refused and why are
//! beside the code, in `engine/server/src/auth/tests`; here is what a client and the counters see.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use shardcast::config::{
    Config, Effect, Jwks, JwtAlgorithm, RoomPattern, RoomTemplate, Rule, Secret, Token, UserId,
};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::jwks::{IssuerKey, JwksServer, Manner, now_s};
use shardcast_tests::server::{PATIENCE, WS, one_shard};
use shardcast_wire::ignis;
use shardcast_wire::ignis::Destination;

use super::arena::{Arena, expect_close, text};

/// No dev mode, and a place for the bystander.
fn strict() -> Config {
    let mut config = one_shard();
    config.auth.dev = false;
    config.auth.rooms = vec![RoomPattern::new("bystanders")];
    let user = Some(UserId::Text("bystander".to_owned()));
    config.auth.tokens = vec![Token { token: Secret::new("bystander"), user, ..Token::default() }];
    config
}

fn rule(room: &str) -> Rule {
    Rule {
        rooms: vec![RoomTemplate::new(room).expect("a template")],
        effect: Effect::Allow,
        ..Rule::default()
    }
}

/// A client that authenticated with a token.
fn client_of(arena: &Arena, token: &str) -> Client {
    let mut client = arena.ws();
    client.authenticate(token, "");
    client
}

/// The token lets nobody in, for this reason, and the client is told no more than that.
fn expect_refused(arena: &mut Arena, label: &str, token: &str, reason: &str) {
    let incident = format!("auth_refused.{reason}");
    arena.attack(label, &[(incident.as_str(), 1)], |arena| {
        let mut client = Client::connect(arena.server.address(), WS);
        client.send_json(&json!({"event": "authenticate", "data": {"token": token, "userId": "admin"}}));
        assert_eq!(
            client.recv(),
            text(r#"{"event":"error","data":{"message":"Authentication failed"}}"#),
            "{label}"
        );
        expect_close(label, &mut client, 4003, "Authentication failed");
    });
}

/// The token with another header.
fn with_header(token: &str, header: &Value) -> String {
    let (_, rest) = token.split_once('.').expect("three parts");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn attack_47_48_49_50_51_52_and_53_forged_tokens_let_nobody_in() {
    let rsa = IssuerKey::new(JwtAlgorithm::Rs256, "r");
    let ec = IssuerKey::new(JwtAlgorithm::Es256, "e");
    let secret = IssuerKey::new(JwtAlgorithm::Hs256, "s");
    let stranger = IssuerKey::new(JwtAlgorithm::Rs256, "r");
    let mut config = strict();
    let tables = [(&rsa, "https://a.example"), (&ec, "https://b.example"), (&secret, "")];
    config.jwt.keys = tables.map(|(key, issuer)| key.table(issuer)).to_vec();
    let place = JwksServer::start(Manner::Status(500));
    let mut arena = Arena::with(config);

    let good = rsa.token(&json!({"iss": "https://a.example", "sub": "u1"}));
    arena.attack("a good one", &[], |arena| client_of(arena, &good).leave());
    let own = secret.token(&json!({"sub": "u1"}));
    arena.attack("another good one", &[], |arena| client_of(arena, &own).leave());

    let unsigned = |header: Value| {
        let token = with_header(&good, &header);
        token[..=token.rfind('.').expect("three parts")].to_owned()
    };
    for alg in [json!("none"), json!("nOnE"), json!(null)] {
        let token = unsigned(json!({"alg": alg}));
        expect_refused(&mut arena, &format!("47 {alg}"), &token, "token_algorithm");
    }
    let pem = rsa.public.clone().expect("a key pair");
    let confused = jsonwebtoken::encode(
        &jsonwebtoken::Header { kid: Some("r".to_owned()), ..Default::default() },
        &json!({"iss": "https://a.example", "sub": "admin", "exp": now_s() + 60}),
        &jsonwebtoken::EncodingKey::from_secret(pem.as_bytes()),
    );
    expect_refused(&mut arena, "48", &confused.expect("signed"), "token_algorithm");

    let es = ec.token(&json!({"iss": "https://b.example", "sub": "u1"}));
    let (message, _) = es.rsplit_once('.').expect("three parts");
    let zeros = format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
    expect_refused(&mut arena, "49 r and s are zero", &zeros, "token_signature");

    let kid = |kid: &str| with_header(&good, &json!({"alg": "RS256", "kid": kid}));
    expect_refused(&mut arena, "50 a path", &kid("../../../../etc/passwd"), "token_key_unknown");
    expect_refused(&mut arena, "50 the other issuer's", &kid("e"), "token_key_unknown");
    let forged = stranger.token(&json!({"iss": "https://a.example", "sub": "admin"}));
    expect_refused(&mut arena, "50 the same id", &forged, "token_signature");
    let elsewhere = secret.token(&json!({"iss": "https://a.example", "sub": "admin"}));
    expect_refused(&mut arena, "50 a key for others", &elsewhere, "token_key_unknown");

    for member in ["jku", "x5u"] {
        let token = with_header(&forged, &json!({"alg": "RS256", "kid": "r", member: place.url()}));
        expect_refused(&mut arena, &format!("51 {member}"), &token, "token_signature");
    }
    let jwk = with_header(&forged, &json!({"alg": "RS256", "kid": "r", "jwk": stranger.jwk()}));
    expect_refused(&mut arena, "51 jwk", &jwk, "token_signature");
    assert_eq!(place.asked(), 0, "51: nobody fetches what a token names");

    let times = [
        (json!({"exp": now_s() - 3_600}), "token_expired"),
        (json!({"exp": -1}), "token_malformed"),
        (json!({"exp": 1e300}), "token_malformed"),
        (json!({"exp": (now_s() + 60).to_string()}), "token_malformed"),
        (json!({"exp": null}), "token_claim_missing"),
        (json!({"nbf": now_s() + 3_600}), "token_not_yet_valid"),
    ];
    for (claims, reason) in times {
        expect_refused(&mut arena, &format!("52 {claims}"), &secret.token(&claims), reason);
    }
    let mut huge = secret.token(&json!({"sub": "u1"}));
    huge.insert_str(0, &"A".repeat(100 << 10));
    expect_refused(&mut arena, "53 a long one", &huge, "token_too_long");
    expect_refused(&mut arena, "53 no token", "a.b.c", "token_malformed");
    expect_refused(
        &mut arena,
        "56 for somebody else",
        &secret.token(&json!({"aud": "mail"})),
        "token_audience",
    );
    arena.end();
}

#[test]
fn attack_54_a_connection_ends_with_its_token_and_one_without_end_does_not() {
    let key = IssuerKey::new(JwtAlgorithm::Hs256, "");
    let mut config = strict();
    config.jwt.keys = vec![key.table("")];
    config.jwt.leeway = Duration::ZERO;
    config.auth.expiry_jitter = Duration::ZERO;
    config.jwt.required = Vec::new();
    let mut arena = Arena::with(config);
    arena.attack("54 expiry", &[("auth_expired", 1)], |arena| {
        let mut stays = client_of(arena, &key.token(&json!({"sub": "stays", "exp": null})));
        let exp = now_s() + 2;
        let token = key.token(&json!({"sub": "u1", "exp": exp}));
        let mut client = client_of(arena, &token);
        let start = Instant::now();
        expect_close("54", &mut client, 4005, "Token expired");
        assert!(now_s() >= exp && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
        stays.settle();
        stays.leave();
    });
    arena.end();
}

#[test]
fn attack_54_every_connection_of_a_user_can_be_ended() {
    let key = IssuerKey::new(JwtAlgorithm::Hs256, "");
    let mut config = strict();
    config.jwt.keys = vec![key.table("")];
    let mut arena = Arena::with(config);
    arena.attack("54 revocation", &[("kicked", 3)], |arena| {
        let mut of_user: Vec<_> =
            (0..3).map(|_| client_of(arena, &key.token(&json!({"sub": "u1"})))).collect();
        let mut other = client_of(arena, &key.token(&json!({"sub": "u10"})));
        let routed = arena.server.engine().kick_user(&ignis::UserId::from_text("u1"));
        assert_eq!((routed.shards, routed.refused), (1, 0));
        for client in &mut of_user {
            expect_close("54", client, 1008, "Kicked");
        }
        other.settle();
        other.leave();
    });
    arena.end();
}

#[test]
fn attack_55_and_56_a_token_opens_the_rooms_of_its_tenant_and_user_only() {
    let key = IssuerKey::new(JwtAlgorithm::Hs256, "");
    let mut config = strict();
    config.jwt.keys = vec![key.table("")];
    config.jwt.rooms_claim = "rooms".to_owned();
    config.auth.rules = vec![rule("{tenant}/*"), rule("user:{user}")];
    let mut arena = Arena::with(config);
    let cases = [
        (json!({"tenant": "a"}), "a/chat", true),
        (json!({"tenant": "b"}), "a/chat", false),
        (json!({"tenant": "*"}), "a/chat", false),
        (json!({"sub": "u1"}), "a/chat", false),
        (json!({"sub": "u1"}), "user:u1", true),
        (json!({"sub": "u2"}), "user:u1", false),
        (json!({"sub": "*"}), "user:u1", false),
        (json!({"sub": ""}), "user:", false),
        (json!({"rooms": ["x"]}), "x", true),
        (json!({"rooms": ["x"]}), "y", false),
        (json!({"rooms": ["x"]}), "xx", false),
    ];
    for (claims, room, may) in cases {
        let incidents = [("joins_refused_policy", 1)];
        let incidents = if may { &incidents[..0] } else { &incidents };
        arena.attack(&format!("55 56 {claims} in {room}"), incidents, |arena| {
            let mut client = arena.ws();
            let id = client.authenticate(&key.token(&claims), "")["id"].clone();
            client.send_json(&json!({"event": "join", "data": {"rooms": [room]}}));
            client.settle();
            arena.server.emit(Destination::Room(room.into()), "e", "1");
            if may {
                assert_eq!(client.recv(), text(r#"{"event":"e","data":1}"#), "{claims} in {room}");
            } else {
                let own = id.as_str().expect("an id").to_owned();
                arena.server.emit(Destination::Client(own.into()), "last", "1");
                assert_eq!(client.recv(), text(r#"{"event":"last","data":1}"#), "{claims} in {room}");
            }
            client.leave();
        });
    }
    arena.end();
}

/// Static tokens are compared in constant time, each with every one there is (`Rules::find`, by `subtle`), and HMACs
/// by the library (`CRYPTO_memcmp`), so that the answer to a near miss is that to any other.
#[test]
fn attack_57_a_near_miss_is_answered_as_any_other() {
    let key = IssuerKey::new(JwtAlgorithm::Hs256, "");
    let mut config = strict();
    config.jwt.keys = vec![key.table("")];
    let mut arena = Arena::with(config);
    for token in ["bystande", "bystander ", "Bystander", "xystander", "bystandex", "x"] {
        expect_refused(&mut arena, &format!("57 {token}"), token, "credentials_unknown");
    }
    let good = key.token(&json!({"sub": "u1"}));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut near = bytes.clone();
        near[at] ^= 1;
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(near));
        expect_refused(&mut arena, &format!("57 byte {at}"), &token, "token_signature");
    }
    arena.end();
}

#[test]
fn attack_58_keys_that_never_come_or_never_end_hold_up_nobody() {
    const HUGE: u64 = 100 << 20;
    let elsewhere = JwksServer::start(Manner::Status(200));
    let key = IssuerKey::new(JwtAlgorithm::Es256, "k");
    let served = shardcast_tests::jwks::set(&[&key]);
    elsewhere.behave(Manner::Serve(served));
    let manners = [
        Manner::Hang,
        Manner::Drip,
        Manner::Endless(HUGE),
        Manner::Redirect(elsewhere.url()),
        Manner::Redirect("file:///etc/passwd".to_owned()),
        Manner::Status(500),
        Manner::Serve("<html>".to_owned()),
        Manner::Serve(r#"{"keys":[]}"#.to_owned()),
        Manner::Serve(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#.to_owned()),
    ];
    for manner in manners {
        let label = format!("58 {manner:.40?}");
        let place = JwksServer::start(manner);
        let mut config = strict();
        config.jwt.jwks = vec![Jwks {
            url: place.url(),
            issuer: "https://id.example".to_owned(),
            timeout: Duration::from_millis(500),
            ..Jwks::default()
        }];
        let arena = Arena::with(config);
        let token = key.token(&json!({"iss": "https://id.example", "sub": "u1"}));
        let start = Instant::now();
        for _ in 0..3 {
            let mut client = arena.ws();
            client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
            assert!(matches!(client.recv(), Received::Text(_)), "{label}");
            expect_close(&label, &mut client, 4003, "Authentication failed");
        }
        assert!(start.elapsed() < PATIENCE, "{label}: {:?}", start.elapsed());
        let counts = arena.server.wait_until(&label, |counts| {
            counts.of("auth_refused.keys_unavailable") == 3 && counts.of("jwks_failures") >= 1
        });
        assert_eq!(counts.of("auth_accepted"), 1, "{label}: the bystander alone");
        // A socket buffer or two of it may be on the way.
        assert!(place.sent() < 16 << 20, "{label}: took {} bytes", place.sent());
        arena.end();
    }
    assert_eq!(elsewhere.asked(), 0, "58: no redirect to another host is followed");
}
