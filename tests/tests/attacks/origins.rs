//! 13: pages that want to connect and may not.

use shardcast::config::Config;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::{TestServer, WS, one_shard, with_echo};
use shardcast_wire::origin::OriginPattern;

use crate::arena::Arena;

const REFUSED: &[(&str, u64)] = &[("refused_heads.origin", 1)];

/// One mount with these origins, and the echo mount open to every page. The bystander is no browser.
fn guarded(origins: &[&str]) -> Config {
    let mut config = with_echo(one_shard());
    config.mounts[0].origins =
        origins.iter().map(|origin| OriginPattern::parse(origin).expect("an origin")).collect();
    config
}

fn upgrade(arena: &Arena, path: &str, lines: &str) -> (Client, u16) {
    let mut client = arena.raw();
    let status = client.upgrade(path, lines).status;
    (client, status)
}

/// Expects the upgrade at the guarded mount with these header lines, or 403 and no byte of a WebSocket.
fn attempt(arena: &mut Arena, lines: &str, may_connect: bool) {
    let label = format!("13 {lines:?}");
    if may_connect {
        arena.attack(&label, &[], |arena| {
            let (client, status) = upgrade(arena, WS, lines);
            assert_eq!(status, 101, "{label}");
            client.leave();
        });
        return;
    }
    arena.attack(&label, REFUSED, |arena| {
        let (mut client, status) = upgrade(arena, WS, lines);
        assert_eq!(status, 403, "{label}");
        assert_eq!(client.recv(), Received::Eof, "{label}");
    });
}

#[test]
fn attack_13_pages_of_other_origins_end_403_before_the_upgrade() {
    let mut arena = Arena::with(guarded(&["https://good.example", "http://good.example:8080"]));
    for (origin, may_connect) in [
        ("https://good.example", true),
        ("HTTPS://GOOD.EXAMPLE:443", true),
        ("http://good.example:8080", true),
        ("null", false),
        ("http://good.example", false),
        ("https://good.example:8443", false),
        ("https://good.example.evil.example", false),
        ("https://good.example@evil.example", false),
        ("https://evil.example@good.example", false),
        ("https://evilgood.example", false),
        ("https://good.example.", false),
        ("https://good.example/", false),
        ("https://g\u{f6}\u{f6}d.example", false),
        ("https://good.example https://evil.example", false),
        ("", false),
    ] {
        attempt(&mut arena, &format!("Origin: {origin}\r\n"), may_connect);
    }
    attempt(&mut arena, "Origin: https://good.example\r\nOrigin: https://good.example\r\n", false);
    attempt(&mut arena, "", true);
    arena.attack("13 another mount", &[], |arena| {
        let (client, status) = upgrade(arena, "/echo", "Origin: https://evil.example\r\n");
        assert_eq!(status, 101);
        client.leave();
    });
    arena.end();
}

/// CVE-2022-42975: a wildcard compared by suffix.
#[test]
fn attack_13_a_wildcard_is_one_whole_label() {
    let mut arena = Arena::with(guarded(&["https://*.good.example", "https://*.xn--bcher-kva.example"]));
    for (origin, may_connect) in [
        ("https://a.good.example", true),
        ("https://A.Good.Example", true),
        ("https://xn--a.xn--bcher-kva.example", true),
        ("https://good.example", false),
        ("https://.good.example", false),
        ("https://a.b.good.example", false),
        ("https://evilgood.example", false),
        ("https://evil.com/.good.example", false),
        ("https://evil.com?.good.example", false),
        ("https://a.good.example.evil.com", false),
        ("https://a.b\u{fc}cher.example", false),
        ("https://*.good.example", false),
    ] {
        attempt(&mut arena, &format!("Origin: {origin}\r\n"), may_connect);
    }
    arena.end();
}

#[test]
fn attack_13_null_and_no_origin_are_allowed_by_name_only() {
    let mut config = guarded(&["null"]);
    config.mounts[0].origin_required = true;
    let server = TestServer::start(&config);
    let mut allowed = Client::open(server.address());
    assert_eq!(allowed.upgrade(WS, "Origin: null\r\n").status, 101);
    let mut arena = Arena::beside(Bystander::through(&server, allowed), server);
    arena.attack("13", &[("refused_heads.origin", 2)], |arena| {
        for lines in ["", "Origin: https://a.example\r\n"] {
            assert_eq!(arena.raw().upgrade(WS, lines).status, 403, "{lines:?}");
        }
    });
    arena.end();
}
