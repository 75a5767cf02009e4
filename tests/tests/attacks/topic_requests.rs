//! Bad requests of the topic dialect, each with the counter that tells of it; 66 for sessions; floods of strangers.

use std::time::Duration;

use serde_json::json;
use shardcast::config::{JwtAlgorithm, WebhookHook};
use shardcast_tests::application::{Application, Reaction};
use shardcast_tests::client::{masked_frame, opcode};
use shardcast_tests::jwks::{IssuerKey, now_s};
use shardcast_tests::server::PATIENCE;
use shardcast_tests::topic::{
    AUTHENTICATED, ISSUER, TopicClient, UNAUTHORIZED, issuer, mount, request, token,
};

use crate::topic::{arena, frames, stranger, subscriber};

/// Messages that are no requests, and which reason is counted; `$` is the session.
const MALFORMED: &[(&str, &str)] = &[
    ("", "not_json"),
    ("not json", "not_json"),
    ("{", "not_json"),
    (r#"{"action":"subscribe","session":"$","context":"t"} x"#, "not_json"),
    (r#"{"action":"subscribe","session":"$","context":"t",}"#, "not_json"),
    (r"{'action':'subscribe'}", "not_json"),
    ("\u{feff}{}", "not_json"),
    ("[]", "not_object"),
    ("null", "not_object"),
    ("5", "not_object"),
    (r#""hello""#, "not_object"),
    (r#"[{"action":"subscribe","session":"$","context":"t"}]"#, "not_object"),
    ("{}", "field"),
    (r#"{"action":"subscribe","session":"$"}"#, "field"),
    (r#"{"action":"subscribe","context":"t"}"#, "field"),
    (r#"{"session":"$","context":"t"}"#, "field"),
    (r#"{"action":"subscribe","session":"$","context":""}"#, "field"),
    (r#"{"action":"subscribe","session":"","context":"t"}"#, "field"),
    (r#"{"action":"subscribe","session":"$","context":7}"#, "field"),
    (r#"{"action":"subscribe","session":"$","context":null}"#, "field"),
    (r#"{"action":"subscribe","session":"$","context":["t"]}"#, "field"),
    (r#"{"action":"subscribe","session":["$"],"context":"t"}"#, "field"),
    (r#"{"action":{},"session":"$","context":"t"}"#, "field"),
    (r#"{"action":"subscribe","session":"$","context":"\ud800"}"#, "field"),
    (r#"{"action":"publish","session":"$","context":"t"}"#, "action"),
    (r#"{"action":"SUBSCRIBE","session":"$","context":"t"}"#, "action"),
    (r#"{"action":"subscribe ","session":"$","context":"t"}"#, "action"),
    (r#"{"action":"psubscribe","session":"$","context":"*"}"#, "action"),
];

#[test]
fn each_bad_request_ends_its_connection_and_moves_one_counter() {
    let (redis, mut arena) = arena(|_| {});
    for (text, reason) in MALFORMED {
        let incident = format!("requests_malformed.{reason}");
        for is_known in [true, false] {
            arena.attack(&format!("{text} of a client: {is_known}"), &[(&incident, 1)], |arena| {
                let mut client = if is_known { subscriber(arena, &["good"]) } else { stranger(arena) };
                let text = text.replace('$', client.session());
                client.client().send_text(&text);
                client.expect_end();
            });
        }
    }
    let deep = ["[".repeat(30_000), "]".repeat(30_000)].concat();
    let wide = format!("{{{}}}", r#""a":{},"#.repeat(5_000).trim_end_matches(','));
    for (label, bytes, reason) in [
        ("deep", deep.into_bytes(), "not_object"),
        ("wide", wide.into_bytes(), "field"),
        ("no UTF-8", b"{\"action\":\"\xff\"}".to_vec(), "not_json"),
        ("zeros", vec![0; 60_000], "not_json"),
    ] {
        let incident = format!("requests_malformed.{reason}");
        arena.attack(label, &[(&incident, 1)], |arena| {
            let mut client = subscriber(arena, &["good"]);
            client.client().send_binary(&bytes);
            client.expect_end();
        });
    }
    redis.wait_for_channels(&[]);
    arena.end();
}

/// Nothing that came behind a bad request is done.
#[test]
fn what_follows_a_bad_request_is_not_looked_at() {
    let (redis, mut arena) = arena(|_| {});
    arena.attack("behind", &[("requests_malformed.action", 1)], |arena| {
        let mut client = subscriber(arena, &["before"]);
        let requests = ["publish", "subscribe", "nonsense"].map(|action| (action, "behind".to_owned()));
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        client.expect_end();
        assert!(!redis.channels().contains(&"behind".to_owned()));
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_66_the_session_of_another_opens_nothing() {
    let (redis, mut arena) = arena(|_| {});
    arena.attack("66", &[("requests_malformed.session", 21)], |arena| {
        let mut victim = subscriber(arena, &["chat"]);
        let session = victim.session().to_owned();
        let forged = [
            session.clone(),
            session[..21].to_owned(),
            format!("{session}="),
            format!(" {session}"),
            session.to_ascii_lowercase() + "_",
            "MTI3LjAuMC4x".to_owned(),
            "x".repeat(10_000),
        ];
        for forged in &forged {
            for action in ["authorization", "subscribe", "unsubscribe"] {
                let mut client = subscriber(arena, &[]);
                let context = if action == "authorization" { token("u2") } else { "chat".to_owned() };
                client.client().send_text(&request(action, forged, &context));
                client.expect_end();
            }
        }
        redis.publish("chat", b"1");
        victim.expect_message("chat", "1");
        victim.unsubscribe("chat");
        victim.leave();
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn attack_66_a_token_that_was_changed_lets_nobody_in() {
    let (redis, mut arena) = arena(|_| {});
    let good = token("u1");
    let stranger_key = IssuerKey::new(JwtAlgorithm::Rs256, "topic");
    let claims = json!({"iss": ISSUER, "sub": "u1"});
    let expired = issuer().token(&json!({"iss": ISSUER, "sub": "u1", "exp": now_s() - 3_600}));
    let others = token("u2");
    let (said, _) = good.rsplit_once('.').expect("three parts");
    let (_, signature) = others.rsplit_once('.').expect("three parts");
    let others_signature = format!("{said}.{signature}");
    let cases = [
        ("x".to_owned(), "credentials_unknown"),
        (format!("Bearer {good}"), "token_malformed"),
        (format!("{good} "), "token_malformed"),
        (others_signature, "token_signature"),
        (stranger_key.token(&claims), "token_signature"),
        (expired, "token_expired"),
        ("x".repeat(9_000), "token_too_long"),
    ];
    for (bad, reason) in &cases {
        let incident = format!("auth_refused.{reason}");
        arena.attack(&format!("66 {bad:.20}: {reason}"), &[(&incident, 1)], |arena| {
            let mut client = stranger(arena);
            client.authorize_in_vain(bad);
            client.leave();
        });
    }
    redis.wait_for_channels(&[]);
    arena.end();
}

#[test]
fn strangers_who_guess_are_cut_off() {
    let (_redis, mut arena) = arena(|_| {});
    let expected = [("auth_refused.credentials_unknown", 6), ("auth_failures_limit", 1)];
    arena.attack("guessing", &expected, |arena| {
        let mut client = stranger(arena);
        for number in 0..5 {
            client.authorize_in_vain(&format!("guess-{number}"));
        }
        client.send("authorization", "guess-5");
        client.expect(UNAUTHORIZED);
        client.expect_end();
    });
    // At once, without waiting: it comes to the same.
    arena.attack("guessing in one write", &expected, |arena| {
        let mut client = stranger(arena);
        let requests: Vec<_> = (0..200).map(|number| ("authorization", format!("guess-{number}"))).collect();
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        (0..6).for_each(|_| client.expect(UNAUTHORIZED));
        client.expect_end();
    });
    arena.end();
}

#[test]
fn strangers_who_flood_are_closed_at_once_or_in_time() {
    const STRANGERS: u64 = 100;
    let (redis, mut arena) = arena(|config| mount(config).auth_timeout = Duration::from_secs(5));
    arena.attack("who subscribe", &[("messages_unauthorized", STRANGERS)], |arena| {
        let strangers: Vec<_> = (0..STRANGERS)
            .map(|number| {
                let mut client = stranger(arena);
                client.send(["subscribe", "unsubscribe"][number as usize % 2], "chat");
                client
            })
            .collect();
        for mut client in strangers {
            client.expect(UNAUTHORIZED);
            client.expect_end();
        }
    });
    arena.attack("who say nothing", &[("auth_timeouts", STRANGERS)], |arena| {
        let strangers: Vec<_> = (0..STRANGERS).map(|_| stranger(arena)).collect();
        strangers.into_iter().for_each(TopicClient::expect_end);
    });
    arena.attack("who ping", &[("auth_timeouts", 1)], |arena| {
        let mut client = stranger(arena);
        let pings: Vec<u8> = (0..1_000).flat_map(|_| masked_frame(0x80 | opcode::PONG, b"x")).collect();
        client.client().send_raw(&pings).expect("sending");
        client.expect_end();
    });
    redis.wait_for_channels(&[]);
    arena.end();
}

/// While an application thinks, requests wait, but not without measure.
#[test]
fn requests_that_wait_for_a_slow_application_are_bounded() {
    let application = Application::start(|webhook| match webhook.body["data"]["token"].as_str() {
        Some("slow") => Reaction::Hang,
        _ => Reaction::ok(&json!({"user": "u1", "rooms": ["bystanders"]})),
    });
    let (redis, mut arena) = arena(|config| {
        application.serve(config, &[WebhookHook::Authenticate]);
        config.webhooks.timeout = PATIENCE;
        mount(config).requests_waiting_max = 10;
    });
    arena.attack("too many waiting", &[("requests_overrun", 1)], |arena| {
        let mut client = stranger(arena);
        let mut requests = vec![("authorization", "slow".to_owned())];
        requests.extend((0..50).map(|number| ("subscribe", format!("t{number}"))));
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        client.expect_end();
    });
    arena.attack("as many as may", &[], |arena| {
        let mut client = stranger(arena);
        let mut requests = vec![("authorization", "quick".to_owned())];
        requests.extend((0..9).map(|number| ("subscribe", format!("t{number}"))));
        let bytes = frames(&client, &requests);
        client.client().send_raw(&bytes).expect("sending");
        client.expect(AUTHENTICATED);
        (0..9).for_each(|_| client.expect(shardcast_tests::topic::SUBSCRIBED));
        client.leave();
    });
    redis.wait_for_channels(&[]);
    arena.end();
}
