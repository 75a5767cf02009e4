//! The acceptance tests of the protocol (`topic.md` §11, whose numbers the comments give), on one shard and two, on
//! io_uring and epoll; those that need several processes are in `instances`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::Config;
use shardcast_tests::client::Received;
use shardcast_tests::jwks::now_s;
use shardcast_tests::run_everywhere;
use shardcast_tests::scenarios::Scenario;
use shardcast_tests::server::PATIENCE;
use shardcast_tests::topic::{
    AUTHENTICATED, ISSUER, Rig, SUBSCRIBED, TopicClient, UNAUTHORIZED, UNSUBSCRIBED, issuer, message, mount,
    request, token,
};

/// A name for its thread, and what happens to a server with such a configuration.
const SCENARIOS: &[Scenario] = &[
    ("a_client_is_greeted_with_a_session_of_its_own", a_client_is_greeted_with_a_session_of_its_own),
    ("redis_is_subscribed_when_a_subscription_is_answered", redis_is_subscribed_when_it_is_answered),
    ("what_is_published_reaches_its_topic_exactly_once", what_is_published_reaches_its_topic_exactly_once),
    ("payloads_become_snapshots", payloads_become_snapshots),
    ("a_topic_is_subscribed_once_and_left_after_the_linger", a_topic_is_subscribed_once),
    ("an_unknown_topic_may_be_unsubscribed", an_unknown_topic_may_be_unsubscribed),
    ("strangers_who_subscribe_are_closed", strangers_who_subscribe_are_closed),
    ("a_bad_token_is_refused_and_a_good_one_helps", a_bad_token_is_refused_and_a_good_one_helps),
    ("the_session_of_another_closes_and_subscribes_nothing", the_session_of_another_closes),
    ("what_is_no_request_closes", what_is_no_request_closes),
    ("strangers_are_closed_in_time", strangers_are_closed_in_time),
    ("clients_are_pinged_and_the_dead_are_closed", clients_are_pinged_and_the_dead_are_closed),
    ("a_client_that_vanishes_leaves_its_topics", a_client_that_vanishes_leaves_its_topics),
    ("clients_stay_while_redis_is_killed_and_restarted", clients_stay_while_redis_is_restarted),
    ("binary_messages_are_requests_too", binary_messages_are_requests_too),
];

run_everywhere!(SCENARIOS);

/// 1. M1 and M2 are compared by [`TopicClient::connect`].
fn a_client_is_greeted_with_a_session_of_its_own(config: Config) {
    let rig = Rig::start(config);
    let clients: Vec<_> = (0..8).map(|_| rig.stranger()).collect();
    let sessions: BTreeSet<_> = clients.iter().map(|client| client.session().to_owned()).collect();
    assert_eq!(sessions.len(), clients.len(), "{sessions:?}");
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = |session: &String| session.len() == 22 && session.bytes().all(is_base64url);
    assert!(sessions.iter().all(fits), "{sessions:?}");
    clients.into_iter().for_each(TopicClient::leave);
    rig.server.expect_empty("after strangers");
}

/// 2.
fn redis_is_subscribed_when_it_is_answered(config: Config) {
    let rig = Rig::start(config);
    let mut client = rig.client("u1");
    for (number, topic) in ["chat", "other", "third"].into_iter().enumerate() {
        client.subscribe(topic);
        // Without waiting: M5 says so.
        let channels = rig.redis.channels();
        assert!(channels.len() == number + 1 && channels.contains(&topic.to_owned()), "{channels:?}");
    }
    client.leave();
}

/// 3.
fn what_is_published_reaches_its_topic_exactly_once(config: Config) {
    let rig = Rig::start(config);
    // Enough for two shards to have some, whatever the kernel chooses.
    let mut clients: Vec<_> = (0..12).map(|_| rig.subscriber(&["chat"])).collect();
    let mut elsewhere = rig.subscriber(&["Chat", "chat2", "cha"]);
    assert_eq!(rig.redis.publish("chat", br#"{"info":"x"}"#), 1, "one subscription a process");
    for client in &mut clients {
        client.expect(r#"{"action":"message","topic":"chat","snapshot":{"info":"x"}}"#);
    }
    for number in 0..100 {
        rig.redis.publish("chat", number.to_string().as_bytes());
    }
    rig.redis.publish("cha", b"1");
    for mut client in clients {
        for number in 0..100 {
            client.expect_message("chat", &number.to_string());
        }
        client.leave();
    }
    elsewhere.expect_message("cha", "1");
    elsewhere.leave();
    rig.server.expect_empty("after everybody has left");
}

/// 4.
fn payloads_become_snapshots(config: Config) {
    let rig = Rig::start(config);
    let mut client = rig.subscriber(&["chat"]);
    let cases: &[(&[u8], &str)] = &[
        (br#"{"info":"x"}"#, r#"{"info":"x"}"#),
        (br#"{"info": "Hello from Redis"}"#, r#"{"info": "Hello from Redis"}"#),
        (b"plain text", r#""plain text""#),
        (b"42", "42"),
        (b"null", "null"),
        (b"", r#""""#),
        (br#"{"a":1"#, r#""{\"a\":1""#),
        (b"\xff\xfe", r#"{"base64":"//4="}"#),
        (br#""one""#, r#""one""#),
        (b"true", "true"),
        (b" \n[1.50, 1e999,\t\"\\u00e9\"] \r\n", "[1.50, 1e999,\t\"\\u00e9\"]"),
        (
            br#"{"b":1,"a":2,"b":3,"n":12345678901234567890}"#,
            r#"{"b":1,"a":2,"b":3,"n":12345678901234567890}"#,
        ),
        (b"1 2", r#""1 2""#),
        (b"NaN", r#""NaN""#),
        (b"two\nlines and a \0", r#""two\nlines and a \u0000""#),
        ("\u{2028}💥".as_bytes(), "\"\u{2028}💥\""),
    ];
    for (payload, snapshot) in cases {
        rig.redis.publish("chat", payload);
        client.expect_message("chat", snapshot);
    }
    client.leave();
}

/// 5.
fn a_topic_is_subscribed_once(config: Config) {
    let rig = Rig::start(config);
    let mut client = rig.subscriber(&["fence", "chat", "chat"]);
    assert_eq!(rig.redis.publish("chat", b"1"), 1);
    client.expect_message("chat", "1");
    client.unsubscribe("chat");
    rig.redis.publish("chat", b"2");
    rig.redis.publish("fence", b"3");
    client.expect_message("fence", "3");
    client.unsubscribe("fence");
    rig.redis.wait_for_channels(&[]);
    assert_eq!(rig.redis.publish("chat", b"4"), 0);
    // Who comes back while a channel lingers finds it subscribed.
    client.subscribe("chat");
    client.unsubscribe("chat");
    client.subscribe("chat");
    assert_eq!(rig.redis.publish("chat", b"5"), 1);
    client.expect_message("chat", "5");
    client.leave();
}

/// 6.
fn an_unknown_topic_may_be_unsubscribed(config: Config) {
    let rig = Rig::start(config);
    let mut holder = rig.subscriber(&["held"]);
    // Enough for both shards to have one, whatever the kernel chooses.
    for mut client in (0..8).map(|_| rig.client("u2")).collect::<Vec<_>>() {
        client.unsubscribe("nobody's");
        client.unsubscribe("held");
        client.unsubscribe("held");
        client.leave();
    }
    rig.redis.publish("held", b"1");
    holder.expect_message("held", "1");
    assert_eq!(rig.redis.channels(), ["held"]);
    holder.leave();
}

/// 7.
fn strangers_who_subscribe_are_closed(config: Config) {
    let rig = Rig::start(config);
    for action in ["subscribe", "unsubscribe"] {
        let mut client = rig.stranger();
        client.send(action, "chat");
        client.expect(UNAUTHORIZED);
        client.expect_end();
    }
    assert_eq!(rig.redis.channels(), [""; 0]);
    rig.server.expect_empty("after strangers");
}

/// 8.
fn a_bad_token_is_refused_and_a_good_one_helps(config: Config) {
    let rig = Rig::start(config);
    let good = token("u1");
    let expired = issuer().token(&json!({"iss": ISSUER, "sub": "u1", "exp": now_s() - 3_600}));
    let tampered = {
        let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
        parts[1] = format!("{}{}", &parts[1][..8], &token("u2").split('.').nth(1).expect("a payload")[8..]);
        parts[1].push('A');
        parts.join(".")
    };
    for bad in ["abc", &expired, &tampered, &format!("Bearer {good}")] {
        let mut client = rig.stranger();
        client.authorize_in_vain(bad);
        client.authorize_in_vain(bad);
        client.authorize(&good);
        client.subscribe("chat");
        client.leave();
    }
}

/// 9.
fn the_session_of_another_closes(config: Config) {
    let rig = Rig::start(config);
    let other = rig.client("u2");
    for session in [other.session(), "zzz", "MTI3LjAuMC4x"] {
        for action in ["subscribe", "unsubscribe", "authorization"] {
            let mut client = rig.client("u1");
            let text = request(action, session, &token("u1"));
            client.client().send_text(&text);
            client.expect_end();
        }
        let mut client = rig.client("u1");
        client.client().send_text(&request("subscribe", session, "chat"));
        client.expect_end();
        assert_eq!(rig.redis.channels(), [""; 0], "subscribed for {session}");
    }
    other.leave();
    assert_eq!(rig.redis.channels(), [""; 0]);
    rig.server.expect_empty("after all");
}

/// 10.
fn what_is_no_request_closes(config: Config) {
    let rig = Rig::start(config);
    let texts = [
        "not json",
        "",
        "[]",
        "null",
        "5",
        r#""hello""#,
        "{}",
        r#"{"action":"subscribe","session":"$"}"#,
        r#"{"action":"subscribe","context":"t4"}"#,
        r#"{"session":"$","context":"t4"}"#,
        r#"{"action":"subscribe","session":"$","context":""}"#,
        r#"{"action":"subscribe","session":"","context":"t4"}"#,
        r#"{"action":"","session":"$","context":"t4"}"#,
        r#"{"action":"subscribe","session":"$","context":7}"#,
        r#"{"action":"subscribe","session":"$","context":{"a":1}}"#,
        r#"{"action":"subscribe","session":"$","context":null}"#,
        r#"{"action":"publish","session":"$","context":"t4"}"#,
        r#"{"action":"Subscribe","session":"$","context":"t4"}"#,
        r#"{"action":"subscribe","session":"$","context":"t4"}}"#,
    ];
    for text in texts {
        for mut client in [rig.client("u1"), rig.stranger()] {
            let text = text.replace('$', client.session());
            client.client().send_text(&text);
            client.expect_end();
        }
    }
    assert_eq!(rig.redis.channels(), [""; 0]);
    rig.server.expect_empty("after all");
}

/// 11, the first half.
fn strangers_are_closed_in_time(config: Config) {
    // Long enough for a client of a busy machine to authorize in time.
    const TIMEOUT: Duration = Duration::from_secs(4);
    let rig = Rig::start_with(config, |config| mount(config).auth_timeout = TIMEOUT);
    let begun = Instant::now();
    let idle = rig.stranger();
    // Neither bad tokens nor control frames give more time.
    let mut busy = rig.stranger();
    busy.authorize_in_vain("x");
    busy.client().settle();
    let mut client = rig.client("u1");
    idle.expect_end();
    busy.expect_end();
    assert!(begun.elapsed() >= TIMEOUT, "closed before its time");
    client.subscribe("chat");
    client.leave();
    rig.server.expect_empty("after strangers");
}

/// 11, the second half.
fn clients_are_pinged_and_the_dead_are_closed(config: Config) {
    const INTERVAL: Duration = Duration::from_millis(300);
    // Long enough for a client of a busy machine to be heard in time.
    const SILENCE_MAX: Duration = Duration::from_secs(4);
    let rig = Rig::start_with(config, |config| {
        let mount = mount(config);
        mount.ping_interval = INTERVAL;
        mount.idle_timeout = Some(SILENCE_MAX);
    });
    let begun = Instant::now();
    let mut client = rig.client("u1");
    for _ in 0..5 {
        assert_eq!(client.client().recv(), Received::Ping(Vec::new()));
        client.client().send_pong(b"");
    }
    assert!(begun.elapsed() >= 5 * INTERVAL, "pinged before its time");
    // From here on nothing comes back; what the server sends is no sign of life of the client.
    client.send("subscribe", "chat");
    let silent = Instant::now();
    let deadline = silent + SILENCE_MAX + PATIENCE;
    let end = loop {
        rig.redis.publish("chat", b"1");
        match client.client().recv_within(INTERVAL / 3) {
            Received::Ping(payload) if payload.is_empty() => {}
            Received::Text(text) if text == message("chat", "1") || text == SUBSCRIBED => {}
            Received::Timeout => {}
            end => break end,
        }
        assert!(Instant::now() < deadline, "never closed");
    };
    // Nobody is there to say goodbye to.
    assert!(matches!(end, Received::Eof | Received::Cut), "{end:?}");
    assert!(silent.elapsed() >= SILENCE_MAX - INTERVAL, "closed before its time");
    drop(client);
    rig.redis.wait_for_channels(&[]);
    rig.server.expect_empty("after the dead");
}

/// 12.
fn a_client_that_vanishes_leaves_its_topics(config: Config) {
    let rig = Rig::start(config);
    let mut stays = rig.subscriber(&["both"]);
    for number in 0..4 {
        let gone = rig.subscriber(&["both", "mine"]);
        assert_eq!(rig.redis.channels(), ["both", "mine"]);
        match number {
            0 => gone.reset(),
            1 => gone.leave(),
            2 => {
                let mut gone = gone;
                gone.client().finish();
            }
            _ => drop(gone),
        }
        rig.redis.wait_for_channels(&["both"]);
    }
    rig.redis.publish("both", b"1");
    stays.expect_message("both", "1");
    stays.leave();
    rig.redis.wait_for_channels(&[]);
    rig.server.expect_empty("after all");
}

/// 14.
fn clients_stay_while_redis_is_restarted(config: Config) {
    let mut rig = Rig::start(config);
    let mut clients: Vec<_> = (0..6).map(|_| rig.subscriber(&["chat", "other"])).collect();
    for round in 1..=2 {
        rig.redis.kill();
        let redis = rig.server.engine().redis().expect("a link");
        shardcast_tests::binary::wait_for("Redis to be missed", || {
            let status = redis.status();
            (!status.ready && status.last_error.is_some()).then_some(())
        });
        // Requests are answered meanwhile, and hold once Redis is back.
        clients[0].subscribe("meanwhile");
        clients[1].unsubscribe("other");
        rig.redis.restart();
        rig.server.wait_until_ready();
        rig.redis.wait_for_channels(&["chat", "meanwhile", "other"]);
        for (topic, receivers) in [("chat", 0..6), ("meanwhile", 0..1), ("other", 0..6)] {
            let payload = format!("{round}");
            assert_eq!(rig.redis.publish(topic, payload.as_bytes()), 1);
            for (number, client) in
                clients.iter_mut().enumerate().filter(|(number, _)| receivers.contains(number))
            {
                if topic != "other" || number != 1 {
                    client.expect_message(topic, &payload);
                }
            }
        }
        clients[0].unsubscribe("meanwhile");
        clients[1].subscribe("other");
    }
    clients.into_iter().for_each(TopicClient::leave);
    rig.server.expect_empty("after all");
}

/// 15.
fn binary_messages_are_requests_too(config: Config) {
    let rig = Rig::start(config);
    let mut client = rig.stranger();
    let requests = [
        ("authorization", token("u1"), AUTHENTICATED),
        ("subscribe", "chat".to_owned(), SUBSCRIBED),
        ("unsubscribe", "chat".to_owned(), UNSUBSCRIBED),
        ("subscribe", "chat".to_owned(), SUBSCRIBED),
    ];
    for (action, context, answer) in requests {
        let request = client.request(action, &context);
        client.client().send_binary(request.as_bytes());
        client.expect(answer);
    }
    rig.redis.publish("chat", b"1");
    client.expect_message("chat", "1");
    let session = client.session().as_bytes().to_vec();
    let bad = [&br#"{"action":"subscribe","session":""#[..], &session, b"\",\"context\":\"\xff\"}"].concat();
    client.client().send_binary(&bad);
    client.expect_end();
    rig.server.expect_empty("after all");
}
