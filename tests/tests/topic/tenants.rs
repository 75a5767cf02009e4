//! Tenants on one mount: the same topic, and never each other's messages.

use serde_json::json;
use shardcast_tests::server::config;
use shardcast_tests::topic::{ISSUER, Rig, TopicClient, UNAUTHORIZED, issuer, mount, token};

fn tenant(rig: &Rig, tenant: &str) -> TopicClient {
    let mut client = rig.stranger();
    client.authorize(&issuer().token(&json!({"iss": ISSUER, "sub": "u1", "tenant": tenant})));
    client
}

fn start() -> Rig {
    Rig::start_with(config(), |config| mount(config).channel_prefix = "t:{tenant}:".to_owned())
}

#[test]
fn tenants_share_names_and_nothing_else() {
    let rig = start();
    // Enough for both shards to have some of each, whatever the kernel chooses.
    let mut clients: Vec<_> = (0..12).map(|number| tenant(&rig, ["acme", "umbrella"][number % 2])).collect();
    for client in &mut clients {
        client.subscribe("chat");
        client.subscribe("t:acme:chat");
    }
    let channels = ["t:acme:chat", "t:acme:t:acme:chat", "t:umbrella:chat", "t:umbrella:t:acme:chat"];
    assert_eq!(rig.redis.channels(), channels);
    for (number, channel) in channels.into_iter().enumerate() {
        assert_eq!(rig.redis.publish(channel, number.to_string().as_bytes()), 1, "{channel}");
    }
    for channel in ["chat", "t:chat", "t::chat", "acme:chat", "t:*:chat"] {
        assert_eq!(rig.redis.publish(channel, b"\"nobody's\""), 0, "{channel}");
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        let first = number % 2 * 2;
        client.expect_message("chat", &first.to_string());
        client.expect_message("t:acme:chat", &(first + 1).to_string());
        client.leave();
    }
    rig.redis.wait_for_channels(&[]);
}

#[test]
fn who_has_no_tenant_that_can_stand_in_a_name_has_no_topics() {
    let rig = start();
    let mut acme = tenant(&rig, "acme");
    acme.subscribe("chat");
    let bad = ["", "acme:chat", "acme:", ":", "*", "a b", "acme\r\n", "\u{e4}", "{tenant}"];
    let mut clients: Vec<_> = bad.iter().map(|bad| tenant(&rig, bad)).collect();
    let mut none = rig.stranger();
    none.authorize(&token("u1"));
    clients.push(none);
    for mut client in clients {
        client.send("subscribe", "chat");
        client.expect(UNAUTHORIZED);
        client.leave();
    }
    assert_eq!(rig.redis.channels(), ["t:acme:chat"]);
    acme.leave();
}

#[test]
fn a_token_of_another_tenant_takes_the_topics_along_to_nobody() {
    let rig = start();
    let mut client = tenant(&rig, "acme");
    client.subscribe("chat");
    client.authorize(&issuer().token(&json!({"iss": ISSUER, "sub": "u1", "tenant": "umbrella"})));
    rig.redis.publish("t:acme:chat", b"1");
    rig.redis.wait_for_channels(&[]);
    client.expect_nothing();
    client.subscribe("chat");
    assert_eq!(rig.redis.channels(), ["t:umbrella:chat"]);
    rig.redis.publish("t:umbrella:chat", b"2");
    client.expect_message("chat", "2");
    client.leave();
}
