//! The same messages on mounts that read payloads differently.

use shardcast::config::{BinaryMode, Config, Dialect, Mount, SnapshotMode};
use shardcast_tests::client::Client;
use shardcast_tests::server::{PATIENCE, config};
use shardcast_tests::topic::{Rig, TopicClient, mount, token};

fn add(config: &mut Config, path: &str, change: impl FnOnce(&mut Mount)) {
    let mut mount = Mount {
        path: path.to_owned(),
        auth_timeout: 3 * PATIENCE,
        ping_interval: 3 * PATIENCE,
        ..Mount::for_dialect(Dialect::Topic)
    };
    change(&mut mount);
    config.mounts.push(mount);
}

fn subscriber(rig: &Rig, path: &str) -> TopicClient {
    let mut client = TopicClient::of(Client::connect(rig.server.address(), path));
    client.authorize(&token("u1"));
    client.subscribe("chat");
    client
}

#[test]
fn each_mount_makes_its_own_snapshots_of_one_message() {
    let rig = Rig::start_with(config(), |config| {
        add(config, "/strings", |mount| mount.snapshot_mode = SnapshotMode::String);
        add(config, "/lossy", |mount| mount.binary_mode = BinaryMode::Lossy);
        add(config, "/drop", |mount| mount.binary_mode = BinaryMode::Drop);
    });
    let mut clients = ["/topics", "/strings", "/lossy", "/drop"].map(|path| subscriber(&rig, path));
    let cases: [(&[u8], [Option<&str>; 4]); 7] = [
        (br#"{"a":1}"#, [Some(r#"{"a":1}"#), Some(r#""{\"a\":1}""#), Some(r#"{"a":1}"#), Some(r#"{"a":1}"#)]),
        (b"42", [Some("42"), Some(r#""42""#), Some("42"), Some("42")]),
        (br#""one""#, [Some(r#""one""#), Some(r#""\"one\"""#), Some(r#""one""#), Some(r#""one""#)]),
        (b"null", [Some("null"), Some(r#""null""#), Some("null"), Some("null")]),
        (b"text", [Some(r#""text""#); 4]),
        (
            b"a\xff\xfe",
            [Some(r#"{"base64":"Yf/+"}"#), Some(r#"{"base64":"Yf/+"}"#), Some("\"a\u{fffd}\u{fffd}\""), None],
        ),
        (b"", [Some(r#""""#); 4]),
    ];
    for (payload, snapshots) in cases {
        assert_eq!(rig.redis.publish("chat", payload), 1, "one subscription for all mounts");
        for (client, snapshot) in clients.iter_mut().zip(snapshots) {
            snapshot.into_iter().for_each(|snapshot| client.expect_message("chat", snapshot));
        }
    }
    let [first, rest @ ..] = clients;
    first.leave();
    // The channel stays while a mount has members.
    assert_eq!(rig.redis.publish("chat", b"1"), 1);
    for mut client in rest.into_iter().take(1) {
        client.expect_message("chat", r#""1""#);
        client.leave();
    }
}

#[test]
fn payloads_up_to_the_limit_pass_and_longer_ones_are_dropped() {
    const LIMIT: usize = 100_000;
    let rig = Rig::start_with(config(), |config| mount(config).snapshot_bytes_max = LIMIT);
    let mut client = subscriber(&rig, "/topics");
    let string = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    for len in [2, LIMIT - 1, LIMIT] {
        rig.redis.publish("chat", string(len).as_bytes());
        client.expect_message("chat", &string(len));
    }
    rig.redis.publish("chat", string(LIMIT + 1).as_bytes());
    rig.redis.publish("chat", b"\"after\"");
    client.expect_message("chat", "\"after\"");
    client.leave();
}
