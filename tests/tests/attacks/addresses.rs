//! 15 and 78: clients that say they come from elsewhere, and addresses and users that come too often.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::{Auto, Config, ProxyProtocol};
use shardcast::hooks::{Answer, AuthOutcome, Client as Guest, Hooks};
use shardcast::policy::Policy;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::server::{TestServer, WS, one_shard, with_echo};
use shardcast_wire::proxy::HEADER_BYTES_MAX;

use crate::arena::{Arena, expect_close, expect_refusal, text};

/// Where trusted proxies connect from, and a client that speaks for itself. The bystander is at 127.0.0.1.
const PROXY: &str = "127.0.0.9";
const STRANGER: &str = "127.0.0.2";

const TOO_MANY: &str = r#"{"event":"error","data":{"message":"Too many connections"}}"#;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The rules of the configuration, and the addresses that were asked about.
struct Witness {
    policy: Policy,
    seen: Mutex<Vec<IpAddr>>,
}

impl Hooks for Witness {
    fn authenticate(&self, client: &Guest, data: &str) -> Answer<AuthOutcome> {
        self.seen.lock().expect("no panic").push(client.address);
        self.policy.authenticate(client, data)
    }

    fn validate_rooms(&self, client: &Guest, rooms: Vec<String>) -> Answer<Option<Vec<String>>> {
        self.policy.validate_rooms(client, rooms)
    }
}

/// A server that tells where each client that authenticates comes from.
fn witnessed(config: &Config) -> (Arena, Arc<Witness>) {
    let witness = Arc::new(Witness { policy: Policy::new(config), seen: Mutex::default() });
    (Arena::of(TestServer::with_hooks(config, witness.clone())), witness)
}

fn behind_proxies(header: &str) -> Config {
    let mut config = with_echo(one_shard());
    config.server.trusted_proxies = vec![format!("{PROXY}/32").parse().expect("a network")];
    config.server.client_address_header = header.to_owned();
    config
}

/// Connects from `source`, sends `preface` before the request and `lines` with it, and authenticates; returns the
/// address that the hooks were told.
fn seen_from(arena: &Arena, witness: &Witness, source: &str, preface: &[u8], lines: &str) -> IpAddr {
    let mut client = Client::open_from(ip(source), arena.server.address());
    client.send_raw(preface).expect("sending");
    assert_eq!(client.upgrade(WS, lines).status, 101, "{source} {lines:?}");
    client.authenticate("token", "somebody");
    client.leave();
    witness.seen.lock().expect("no panic").pop().expect("the hooks were asked")
}

#[test]
fn attack_15_a_forged_address_of_a_stranger_is_ignored() {
    let (mut arena, witness) = witnessed(&behind_proxies("X-Forwarded-For"));
    for (source, lines, address) in [
        (STRANGER, "X-Forwarded-For: 203.0.113.7\r\n", STRANGER),
        (STRANGER, "X-Forwarded-For: 127.0.0.9\r\nForwarded: for=203.0.113.7\r\n", STRANGER),
        (PROXY, "", PROXY),
        (PROXY, "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
        (PROXY, "X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n", "203.0.113.7"),
        (
            PROXY,
            "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7, 127.0.0.9\r\n",
            "203.0.113.7",
        ),
        (PROXY, "X-Forwarded-For: 203.0.113.7, rubbish\r\n", PROXY),
        (PROXY, "Forwarded: for=203.0.113.7\r\n", PROXY),
    ] {
        arena.attack(&format!("15 {source} {lines:?}"), &[], |arena| {
            assert_eq!(seen_from(arena, &witness, source, b"", lines), ip(address), "{source} {lines:?}");
        });
    }
    arena.end();
}

#[test]
fn attack_15_forwarded_that_hides_the_proxys_part_ends_400() {
    let (mut arena, witness) = witnessed(&behind_proxies("Forwarded"));
    arena.attack("15 well-formed", &[], |arena| {
        let lines =
            "Forwarded: for=\"198.51.100.1, for=x\"\r\nForwarded: for=\"[2001:db8::7]:1\";proto=https\r\n";
        assert_eq!(seen_from(arena, &witness, PROXY, b"", lines), ip("2001:db8::7"));
    });
    let open = "Forwarded: for=\"open, for=203.0.113.7\r\n";
    arena.attack("15 an open quote of a stranger", &[], |arena| {
        assert_eq!(seen_from(arena, &witness, STRANGER, b"", open), ip(STRANGER));
    });
    arena.attack("15 an open quote", &[("refused_heads.client_address", 1)], |arena| {
        let mut client = Client::open_from(ip(PROXY), arena.server.address());
        assert_eq!(client.upgrade(WS, open).status, 400);
        assert_eq!(client.recv(), Received::Eof);
    });
    arena.end();
}

fn proxy_protocol() -> Config {
    let mut config = behind_proxies("X-Forwarded-For");
    config.server.proxy_protocol = ProxyProtocol::Required;
    config
}

/// An arena with a proxy in front of the bystander, too.
fn proxied(server: TestServer) -> Arena {
    let mut client = Client::open_from(ip(PROXY), server.address());
    client.send_raw(b"PROXY TCP4 203.0.113.1 10.0.0.1 56324 443\r\n").expect("sending");
    assert_eq!(client.upgrade(WS, "").status, 101);
    Arena::beside(Bystander::through(&server, client), server)
}

/// Version 2 with this command, family, and body.
fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("short").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &len, body].concat()
}

const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];

#[test]
fn attack_15_proxy_headers_are_read_whole_and_byte_by_byte() {
    let config = proxy_protocol();
    let witness = Arc::new(Witness { policy: Policy::new(&config), seen: Mutex::default() });
    let mut arena = proxied(TestServer::with_hooks(&config, witness.clone()));
    let before = arena.before().clone();
    let tlvs = [&V4[..], &[0x04, 0, 5], b"12345"].concat();
    let headers = [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n".to_vec(), "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), PROXY),
        (version_2(0x21, 0x11, &V4), "203.0.113.7"),
        (version_2(0x21, 0x11, &tlvs), "203.0.113.7"),
        (version_2(0x20, 0x00, &[]), PROXY),
        (version_2(0x21, 0x31, &[0; 216]), PROXY),
    ];
    arena.attack("15 headers", &[], |arena| {
        for (header, address) in &headers {
            for pieces in [header.len(), 1, 5] {
                let mut client = Client::open_from(ip(PROXY), arena.server.address());
                for piece in header.chunks(pieces) {
                    client.send_raw(piece).expect("sending");
                    if pieces < header.len() {
                        // Not a pause that anything depends on: it makes pieces more likely to arrive apart.
                        std::thread::yield_now();
                    }
                }
                assert_eq!(client.upgrade(WS, "").status, 101, "{}", header.escape_ascii());
                client.authenticate("token", "somebody");
                client.leave();
                let seen = witness.seen.lock().expect("no panic").pop();
                assert_eq!(seen, Some(ip(address)), "{} in {pieces}", header.escape_ascii());
            }
        }
        // A chain of proxies, and a request that goes to the API, in one packet with the header.
        let mut client = Client::open_from(ip(PROXY), arena.server.address());
        client.send_raw(b"PROXY TCP4 127.0.0.9 10.0.0.1 1 2\r\n").expect("sending");
        assert_eq!(client.upgrade(WS, "X-Forwarded-For: 203.0.113.8\r\n").status, 101);
        client.authenticate("token", "somebody");
        client.leave();
        assert_eq!(witness.seen.lock().expect("no panic").pop(), Some(ip("203.0.113.8")));
        // Where the header names nobody, what the request names may be a stranger's invention.
        for header in
            [&b"PROXY UNKNOWN\r\n"[..], &version_2(0x20, 0x00, &[]), &version_2(0x21, 0x31, &[0; 216])]
        {
            let seen = seen_from(arena, &witness, PROXY, header, "X-Forwarded-For: 203.0.113.8\r\n");
            assert_eq!(seen, ip(PROXY), "{}", header.escape_ascii());
        }
        let mut api = Client::open_from(ip(PROXY), arena.server.address());
        api.send_raw(b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\r\nGET /api/rooms HTTP/1.1\r\nHost: h\r\n\r\n")
            .expect("sending");
        assert_eq!(api.response().status, 200);
        drop(api);
    });
    let proxied = arena.before().of("proxied") - before.of("proxied");
    assert_eq!(proxied, 3 * headers.len() as u64 + 5);
    arena.end();
}

#[test]
fn attack_15_what_is_no_proxy_header_is_closed_without_an_answer() {
    let mut arena = proxied(TestServer::start(&proxy_protocol()));
    let mut long = version_2(0x21, 0x11, &[]);
    long[14..].copy_from_slice(&(HEADER_BYTES_MAX as u16).to_be_bytes());
    for bytes in [
        &b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"PROXY TCP4 203.0.113.7\r\n",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 1 99999\r\n",
        &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
        &version_2(0x21, 0x11, &V4[..8]),
        &version_2(0x35, 0x11, &V4),
        &long,
    ] {
        arena.attack("15 no header", &[("proxy_malformed", 1)], |arena| {
            let mut client = Client::open_from(ip(PROXY), arena.server.address());
            client.send_raw(bytes).expect("sending");
            let end = client.recv();
            assert!(matches!(end, Received::Eof | Received::Cut), "{}: {end:?}", bytes.escape_ascii());
        });
    }
    // A stranger is shed before it has said a word, whatever it says.
    arena.attack("15 stranger", &[("proxy_untrusted", 1)], |arena| {
        let mut stranger = Client::open_from(ip(STRANGER), arena.server.address());
        assert_eq!(stranger.response().status, 503);
    });
    arena.end();
}

#[test]
fn attack_15_a_proxy_that_stalls_in_its_header_ends_at_the_deadline() {
    let mut config = proxy_protocol();
    config.server.handshake_timeout = Duration::from_millis(300);
    let mut arena = proxied(TestServer::start(&config));
    arena.attack("15 a stall", &[("handshake_timeouts", 1)], |arena| {
        let mut client = Client::open_from(ip(PROXY), arena.server.address());
        client.send_raw(&version_2(0x21, 0x11, &V4)[..20]).expect("sending");
        expect_refusal("15", &mut client, 408);
    });
    arena.end();
}

#[test]
fn attack_78_an_address_gets_so_many_connections_and_others_get_theirs() {
    const EACH: usize = 20;
    let mut config = with_echo(one_shard());
    config.limits.connections_per_address_max = Some(EACH);
    let mut arena = Arena::with(config);
    arena.attack("78", &[("shed_address", 3 * 30), ("hang_ups", 1)], |arena| {
        let address = arena.server.address();
        let mut inside = Vec::new();
        for host in 2..5 {
            let source = Ipv4Addr::new(127, 0, 0, host).into();
            for number in 0..EACH + 30 {
                let mut client = Client::open_from(source, address);
                if number < EACH {
                    assert_eq!(client.upgrade(WS, "").status, 101);
                    inside.push(client);
                } else {
                    let answer = expect_refusal("78", &mut client, 503);
                    assert_eq!(answer.header("Retry-After"), Some("5"));
                }
            }
        }
        inside.iter_mut().for_each(Client::settle);
        // Who leaves makes a place, also without having said a word.
        inside.pop().expect("somebody").reset();
        arena.server.wait_until("a place", |counts| counts.of("conns") == 3 * EACH as u64);
        inside.push(Client::open_from(Ipv4Addr::new(127, 0, 0, 4).into(), address));
        assert_eq!(inside.last_mut().map(|client| client.upgrade(WS, "").status), Some(101));
        inside.into_iter().for_each(Client::leave);
    });
    arena.end();
}

#[test]
fn attack_78_a_connection_that_is_handed_over_counts_until_it_ends() {
    let mut config = with_echo(one_shard());
    config.limits.connections_per_address_max = Some(1);
    let mut arena = Arena::with(config);
    let address = arena.server.address();
    let stranger = || Client::open_from(ip(STRANGER), address);
    let mut api = stranger();
    for _ in 0..2 {
        api.send_raw(b"GET /api/rooms HTTP/1.1\r\nHost: h\r\n\r\n").expect("sending");
        assert_eq!(api.response().status, 200);
        expect_refusal("78", &mut stranger(), 503);
    }
    drop(api);
    let mut shed = 2;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = stranger();
        if client.upgrade(WS, "").status == 101 {
            client.leave();
            break;
        }
        shed += 1;
        assert!(Instant::now() < deadline, "the place is not given back");
        std::thread::sleep(Duration::from_millis(10));
    }
    arena.attack("78", &[("shed_address", shed)], |_| {});
    arena.end();
}

#[test]
fn attack_78_behind_a_proxy_the_clients_address_is_counted() {
    let mut config = behind_proxies("X-Forwarded-For");
    config.limits.connections_per_address_max = Some(2);
    let mut arena = Arena::with(config);
    let connect = |arena: &Arena, address: &str| {
        let mut client = Client::open_from(ip(PROXY), arena.server.address());
        let status = client.upgrade(WS, &format!("X-Forwarded-For: {address}\r\n"));
        (client, status)
    };
    arena.attack("78", &[("refused_heads.address_limit", 2)], |arena| {
        let mut inside = Vec::new();
        // A /64 is one address.
        for address in ["203.0.113.7", "203.0.113.7", "203.0.113.8", "2001:db8::1", "2001:db8::2:3"] {
            let (client, answer) = connect(arena, address);
            assert_eq!(answer.status, 101, "{address}");
            inside.push(client);
        }
        for address in ["203.0.113.7", "2001:db8::4"] {
            let (mut client, answer) = connect(arena, address);
            assert_eq!((answer.status, answer.header("Retry-After")), (429, Some("5")), "{address}");
            assert_eq!(client.recv(), Received::Eof);
        }
        // The API is not limited: its requests share connections.
        for _ in 0..5 {
            assert_eq!(Http::connect(arena.server.address()).get("/api/rooms").status, 200);
        }
        inside.into_iter().for_each(Client::leave);
    });
    arena.attack("78 place again", &[], |arena| {
        let clients = [(); 2].map(|()| connect(arena, "203.0.113.7"));
        clients.into_iter().for_each(|(client, answer)| {
            assert_eq!(answer.status, 101);
            client.leave();
        });
    });
    arena.end();
}

#[test]
fn attack_78_a_users_newest_connection_is_refused_and_the_older_ones_stay() {
    for shards in [1, 2] {
        let mut config = with_echo(one_shard());
        config.server.shards = Auto::Fixed(shards);
        config.limits.connections_per_user_max = Some(2);
        let mut arena = Arena::with(config);
        arena.attack("78 user", &[("auth_refused_user_limit", 3)], |arena| {
            let mut inside = [(); 2].map(|()| arena.server.client("busy").0);
            for _ in 0..3 {
                let mut client = arena.ws();
                client.send_json(&json!({"event": "authenticate", "data": {"token": "t", "userId": "busy"}}));
                assert_eq!(client.recv(), text(TOO_MANY));
                expect_close("78 user", &mut client, 1008, "Too many connections");
            }
            let (other, _) = arena.server.client("other");
            other.leave();
            inside.iter_mut().for_each(Client::settle);
            // A place is free as soon as a client has been told goodbye.
            let [first, second] = inside;
            first.leave();
            let (again, _) = arena.server.client("busy");
            again.leave();
            second.leave();
        });
        arena.end();
    }
}
