//! Clients that read too slowly: cut off, or given the latest; nobody else notices.

use std::time::Instant;

use shardcast::config::{Config, SlowConsumer};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::{PATIENCE, config};
use shardcast_tests::topic::{Rig, SUBSCRIBED, TOPICS, TopicClient, message, mount, token};

/// A payload of 16 KiB that begins with a number.
fn filler(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(16 << 10))
}

fn number_of(received: &Received) -> Option<usize> {
    let Received::Text(text) = received else { return None };
    serde_json::from_str::<serde_json::Value>(text).ok()?["snapshot"][0].as_u64()?.try_into().ok()
}

fn start(policy: SlowConsumer) -> Rig {
    Rig::start_with(config(), |config: &mut Config| {
        let mount = mount(config);
        mount.outbox_bytes_max = 512 << 10;
        mount.slow_consumer = policy;
    })
}

/// A client that reads nothing yet beside one that reads all; publishes until `counter` moves, and returns both with how
/// many messages there were.
fn stuff(rig: &Rig, counter: &str) -> (TopicClient, TopicClient, usize) {
    let mut slow = TopicClient::of(Client::connect_slow(rig.server.address(), TOPICS));
    slow.authorize(&token("slow"));
    slow.subscribe("chat");
    let mut quick = rig.subscriber(&["chat"]);
    let deadline = Instant::now() + PATIENCE;
    let mut published = 0;
    while rig.server.counts().of(counter) == 0 {
        assert!(Instant::now() < deadline, "{counter} does not move after {published} messages");
        for _ in 0..64 {
            rig.redis.publish("chat", filler(published).as_bytes());
            quick.expect_message("chat", &filler(published));
            published += 1;
        }
    }
    (slow, quick, published)
}

#[test]
fn a_slow_reader_is_cut_off_and_its_topics_are_left() {
    let rig = start(SlowConsumer::Disconnect);
    let (mut slow, quick, _) = stuff(&rig, "slow_disconnected");
    let mut next = 0;
    let end = loop {
        match slow.client().recv() {
            Received::Text(text) if number_of(&Received::Text(text.clone())) == Some(next) => next += 1,
            end => break end,
        }
    };
    // M8 and a close frame are sent if the socket takes them.
    let goodbye = Received::Text(shardcast_tests::topic::DISCONNECT.to_owned());
    assert!(end == goodbye || matches!(end, Received::Eof | Received::Cut), "{end:?}");
    drop(slow);
    assert_eq!(rig.server.counts().of("slow_disconnected"), 1);
    quick.leave();
    rig.redis.wait_for_channels(&[]);
    rig.server.expect_empty("a slow reader");
}

/// Messages may be missing in the middle; the last ones and the answers are not.
#[test]
fn a_slow_reader_gets_the_latest_where_the_policy_says_so() {
    let rig = start(SlowConsumer::DropOldest);
    let (mut slow, mut quick, published) = stuff(&rig, "dropped_outbox_full");
    let full = rig.server.counts();
    assert!(full.of("outbox_bytes") <= 2 * (512 << 10), "{full:?}");
    // Answers are no messages: they are not dropped for the sake of others, nor others for theirs.
    slow.send("subscribe", "other");
    rig.redis.publish("chat", b"\"end\"");
    quick.expect_message("chat", "\"end\"");
    let (mut numbers, mut answers, mut ended) = (Vec::new(), 0, false);
    while answers == 0 || !ended {
        match slow.client().recv() {
            Received::Text(text) if text == SUBSCRIBED => answers += 1,
            Received::Text(text) if text == message("chat", "\"end\"") => ended = true,
            received => {
                let number = number_of(&received);
                numbers.push(number.unwrap_or_else(|| panic!("what is {received:?}?")));
            }
        }
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order or twice: {numbers:?}");
    assert!(numbers.len() < published, "nothing was dropped");
    assert_eq!(numbers.last(), Some(&(published - 1)), "the latest");
    let dropped = rig.server.counts().of("dropped_outbox_full");
    assert_eq!(numbers.len() as u64 + dropped, published as u64, "all are delivered or counted");
    rig.redis.publish("other", b"1");
    slow.expect_message("other", "1");
    slow.leave();
    quick.leave();
}
