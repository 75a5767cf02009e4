//! Requests may be sent without waiting for answers; answers come in the order of the requests, however late some of
//! them are.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::config::{Jwks, JwtAlgorithm, WebhookHook};
use shardcast_tests::application::{Application, Reaction};
use shardcast_tests::binary::wait_for;
use shardcast_tests::client::{Received, masked_frame, opcode};
use shardcast_tests::jwks::{IssuerKey, JwksServer, Manner, set};
use shardcast_tests::server::{PATIENCE, config};
use shardcast_tests::topic::{
    AUTHENTICATED, ISSUER, Rig, SUBSCRIBED, TopicClient, UNAUTHORIZED, UNSUBSCRIBED,
};

/// Sends requests in one write.
fn send_all(client: &mut TopicClient, requests: &[(&str, String)]) {
    let frame = |(action, context): &(&str, String)| {
        masked_frame(0x80 | opcode::TEXT, client.request(action, context).as_bytes())
    };
    let bytes: Vec<u8> = requests.iter().flat_map(frame).collect();
    client.client().send_raw(&bytes).expect("sending");
}

fn all(
    action: &'static str,
    numbers: std::ops::Range<usize>,
) -> impl Iterator<Item = (&'static str, String)> {
    numbers.map(move |number| (action, format!("t{number}")))
}

#[test]
fn everything_waits_for_a_slow_authorization_and_then_comes_in_order() {
    let (asked, was_asked) = mpsc::channel();
    let (let_go, gate) = mpsc::channel::<()>();
    let (asked, gate) = (Mutex::new(asked), Mutex::new(gate));
    let application = Application::start(move |_| {
        asked.lock().expect("no panic").send(()).expect("the test waits");
        gate.lock().expect("no panic").recv().expect("the test lets go");
        Reaction::ok(&json!({"user": "u1"}))
    });
    let rig = Rig::start_with(config(), |config| {
        application.serve(config, &[WebhookHook::Authenticate]);
        config.webhooks.timeout = PATIENCE;
    });
    let mut client = rig.stranger();
    let mut requests = vec![("authorization", "whatever".to_owned())];
    requests.extend(all("subscribe", 0..200));
    requests.extend(all("unsubscribe", 0..100));
    requests.extend(all("subscribe", 0..50));
    send_all(&mut client, &requests);
    was_asked.recv_timeout(PATIENCE).expect("the application is asked");
    // A ping is no request: its answer comes at once, and before all others.
    client.expect_nothing();
    assert_eq!(rig.redis.channels(), [""; 0], "nothing is done for who is not authenticated yet");
    let_go.send(()).expect("the application waits");
    client.expect(AUTHENTICATED);
    (0..200).for_each(|_| client.expect(SUBSCRIBED));
    (0..100).for_each(|_| client.expect(UNSUBSCRIBED));
    (0..50).for_each(|_| client.expect(SUBSCRIBED));
    let wanted: BTreeSet<_> = (0..50).chain(100..200).collect();
    for number in 0..200 {
        rig.redis.publish(&format!("t{number}"), number.to_string().as_bytes());
    }
    for number in &wanted {
        client.expect_message(&format!("t{number}"), &number.to_string());
    }
    client.leave();
    rig.redis.wait_for_channels(&[]);
}

/// Each topic is asked about, some answers are late and some are no.
#[test]
fn slow_and_refused_subscriptions_keep_their_place() {
    let number_of = |room: &Value| room.as_str().and_then(|room| room[1..].parse::<u64>().ok()).unwrap_or(0);
    let application = Application::start(move |webhook| {
        let rooms = webhook.body["rooms"].as_array().cloned().unwrap_or_default();
        std::thread::sleep(Duration::from_millis(number_of(&rooms[0]) % 4 * 10));
        let granted: Vec<_> = rooms.iter().filter(|room| number_of(room) % 3 != 0).collect();
        Reaction::ok(&json!({"rooms": granted}))
    });
    let rig = Rig::start_with(config(), |config| {
        application.serve(config, &[WebhookHook::Rooms]);
        config.webhooks.timeout = PATIENCE;
    });
    let mut client = rig.client("u1");
    let requests: Vec<_> = (0..60)
        .map(|number| {
            let action = if number % 5 == 4 { "unsubscribe" } else { "subscribe" };
            (action, format!("t{number}"))
        })
        .collect();
    send_all(&mut client, &requests);
    let mut granted = Vec::new();
    for number in 0..60 {
        client.expect(match (number % 5, number % 3) {
            (4, _) => UNSUBSCRIBED,
            (_, 0) => UNAUTHORIZED,
            _ => {
                granted.push(number);
                SUBSCRIBED
            }
        });
    }
    for number in 0..60 {
        rig.redis.publish(&format!("t{number}"), b"1");
    }
    for number in granted {
        client.expect_message(&format!("t{number}"), "1");
    }
    // Those that were refused may try again, and stay connected.
    client.send("subscribe", "t3");
    client.expect(UNAUTHORIZED);
    client.leave();
    let asked: Vec<_> = application
        .seen()
        .iter()
        .flat_map(|webhook| webhook.body["rooms"].as_array().cloned().unwrap_or_default())
        .collect();
    let unsubscribed = (4..60).step_by(5).map(|number| json!(format!("t{number}")));
    assert!(unsubscribed.into_iter().all(|topic| !asked.contains(&topic)), "{asked:?}");
    assert_eq!(asked.iter().filter(|topic| **topic == "t3").count(), 2, "a refusal is not remembered");
}

#[test]
fn what_was_sent_behind_a_token_whose_keys_do_not_come_is_refused_in_order() {
    let key = IssuerKey::new(JwtAlgorithm::Es256, "known");
    let stranger = IssuerKey::new(JwtAlgorithm::Es256, "unknown");
    let place = JwksServer::start(Manner::Serve(set(&[&key])));
    let rig = Rig::start_with(config(), |config| {
        config.jwt.keys.clear();
        config.jwt.jwks = vec![Jwks {
            url: place.url(),
            issuer: ISSUER.to_owned(),
            timeout: Duration::from_millis(500),
            ..Jwks::default()
        }];
    });
    let token = |key: &IssuerKey| key.token(&json!({"iss": ISSUER, "sub": "u1"}));
    wait_for("the keys", || {
        let mut client = rig.stranger();
        client.send("authorization", &token(&key));
        (client.client().recv() == Received::Text(AUTHENTICATED.to_owned())).then_some(())
    });
    place.behave(Manner::Hang);
    let mut client = rig.stranger();
    let authorization = ("authorization", token(&stranger));
    send_all(&mut client, &[authorization, ("subscribe", "a".to_owned()), ("subscribe", "b".to_owned())]);
    client.expect(UNAUTHORIZED);
    client.expect(UNAUTHORIZED);
    client.expect_end();
    // One token after the other, the last of them good.
    let mut client = rig.stranger();
    let tokens = ["x".to_owned(), token(&stranger), token(&key)];
    let mut requests: Vec<_> = tokens.map(|token| ("authorization", token)).into();
    requests.push(("subscribe", "a".to_owned()));
    send_all(&mut client, &requests);
    for answer in [UNAUTHORIZED, UNAUTHORIZED, AUTHENTICATED, SUBSCRIBED] {
        client.expect(answer);
    }
    client.leave();
    rig.redis.wait_for_channels(&[]);
}

#[test]
fn what_is_no_request_ends_the_connection_after_the_answers_to_those_before_it() {
    let rig = Rig::start_with(config(), |_| {});
    let mut client = rig.client("u1");
    let mut bytes: Vec<u8> = Vec::new();
    for text in [client.request("subscribe", "a"), client.request("unsubscribe", "a"), "[]".to_owned()] {
        bytes.extend(masked_frame(0x80 | opcode::TEXT, text.as_bytes()));
    }
    client.client().send_raw(&bytes).expect("sending");
    client.expect(SUBSCRIBED);
    client.expect(UNSUBSCRIBED);
    client.expect_end();
    rig.redis.wait_for_channels(&[]);
}
