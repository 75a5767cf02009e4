//! What strangers send to a port that speaks TLS, beside somebody who is well.

use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion};
use shardcast::config::Config;
use shardcast_tests::client::{Client, Received, masked_frame};
use shardcast_tests::server::{ECHO, PATIENCE, WS, one_shard, with_echo};
use shardcast_tests::tls::{Authority, BOTH, Files, Kind, NAME, TLS12, TLS13, client_connection};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost};

/// A server with TLS under attack.
struct Secure {
    arena: Arena,
    authority: Authority,
    client: Arc<ClientConfig>,
}

impl Secure {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::default();
        let files = Files::new(&authority.issue(Kind::Ecdsa, &[NAME]));
        let mut config = with_echo(one_shard());
        files.serve_with(&mut config);
        change(&mut config);
        let client = authority.client(BOTH);
        Self { arena: Arena::with(config), authority, client }
    }

    fn raw(&self) -> Client {
        Client::open(self.arena.server.tls_address())
    }

    /// The first bytes of a client: its hello.
    fn hello(&self) -> Vec<u8> {
        taken(&mut client_connection(&self.client, NAME))
    }

    /// Sends bytes, and waits until the server is done with the connection.
    fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let client = self.raw();
        let mut stream = client.stream();
        // The server may be done before it has read everything.
        drop(stream.write_all(bytes));
        until_end(stream)
    }
}

/// Everything a client wants to send.
fn taken(tls: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes).expect("writing to memory");
    }
    bytes
}

/// What the server sends until it ends the connection, by FIN or reset.
fn until_end(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut received = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return received,
            Ok(len) => received.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return received,
            Err(error) => panic!("the server does not end it: {error}"),
        }
    }
}

/// A record of TLS.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("a short record").to_be_bytes();
    [&[kind, 3, 1, len[0], len[1]][..], body].concat()
}

const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;

#[test]
fn attack_2_a_hello_byte_by_byte_is_answered() {
    let mut secure = Secure::new(|_| {});
    for version in BOTH {
        let client = secure.authority.client(&[version]);
        secure.arena.attack("byte by byte", &[], |arena| {
            let mut tls = client_connection(&client, NAME);
            let raw = Client::open(arena.server.tls_address());
            // Also what comes after the hello, so that no record arrives whole.
            let mut stream = raw.stream().try_clone().expect("a descriptor");
            while tls.is_handshaking() {
                for byte in taken(&mut tls) {
                    stream.write_all(&[byte]).expect("sending");
                    thread::yield_now();
                }
                if tls.wants_read() && tls.is_handshaking() {
                    tls.read_tls(&mut stream).expect("an answer");
                    tls.process_new_packets().expect("a handshake");
                }
            }
            let rest = taken(&mut tls);
            stream.write_all(&rest).expect("sending");
            let mut client = raw.secure(tls).expect("no more to do");
            assert_eq!(client.upgrade(ECHO, "").status, 101);
            client.send_text("whole");
            assert_eq!(client.recv(), Received::Text("whole".to_owned()));
            client.leave();
        });
    }
    // One byte of the message in each record: six bytes for one, and still a hello.
    let hello = secure.hello();
    let split: Vec<u8> = hello[5..].iter().flat_map(|&byte| record(HANDSHAKE, &[byte])).collect();
    secure.arena.attack("one byte a record", &[("hang_ups", 1), ("tls_failures.hang_up", 1)], |arena| {
        let client = Client::open(arena.server.tls_address());
        client.stream().write_all_through(&split);
        let mut first = [0; 1];
        let mut stream = client.stream();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.read_exact(&mut first).expect("an answer");
        assert_eq!(first, [HANDSHAKE]);
    });
    secure.arena.end();
}

#[test]
fn attack_2_a_hello_that_stalls_ends_at_the_deadline() {
    let mut secure = Secure::new(|config| config.server.handshake_timeout = Duration::from_millis(500));
    let hello = secure.hello();
    let half = &hello[..hello.len() / 2];
    for (label, bytes) in [("half", half), ("whole", &hello[..]), ("nothing", &[])] {
        let timeouts = [("handshake_timeouts", 1), ("tls_failures.timeout", 1)];
        secure.arena.attack(label, &timeouts, |arena| {
            let client = Client::open(arena.server.tls_address());
            client.stream().write_all_through(bytes);
            let began = Instant::now();
            until_end(client.stream());
            assert!(began.elapsed() < PATIENCE / 2, "{label}: ended at the deadline");
        });
    }
    // The request within a session has the same deadline, and an answer.
    let client = secure.client.clone();
    secure.arena.attack("no request", &[("handshake_timeouts", 1)], |arena| {
        let mut client = Client::open_tls(arena.server.tls_address(), &client);
        assert_eq!(client.response().status, 408);
        assert_eq!(client.recv(), Received::Eof);
    });
    secure.arena.end();
}

#[test]
fn attack_2_hellos_that_are_none_are_counted_by_reason() {
    let mut secure = Secure::new(|_| {});
    let giant_message = [&[1, 0, 0xff, 0xf0][..], &[0; 12_000]].concat();
    let longer_than_allowed = [&[1, 0xff, 0xff, 0xff][..], &[0; 1_000]].concat();
    let giant = [record(HANDSHAKE, &giant_message), record(HANDSHAKE, &[0; 12_000])].concat();
    let cases = [
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "plain_http"),
        ("one letter of a request", b"P".to_vec(), "plain_http"),
        ("zeros", vec![0; 100], "not_tls"),
        ("text in lower case", b"hello, world".to_vec(), "not_tls"),
        ("a record of 64 KiB", [&[HANDSHAKE, 3, 1, 0xff, 0xff][..], &[0; 20_000]].concat(), "too_big"),
        ("a hello of 64 KiB", giant, "too_big"),
        ("a hello of 16 MiB", record(HANDSHAKE, &longer_than_allowed), "too_big"),
        ("a hello that is damaged", record(HANDSHAKE, &[1, 0, 0, 4, 9, 9, 9, 9]), "not_tls"),
        ("data before a hello", record(APPLICATION, &[1; 100]), "protocol"),
        ("an alert instead", record(21, &[2, 40]), "alert"),
        ("SSL 3", record(HANDSHAKE, &ssl3_hello()), "no_common_parameters"),
    ];
    for (label, bytes, reason) in cases {
        let failure = format!("tls_failures.{reason}");
        let before = secure.arena.before().clone();
        let answer = secure.send(&bytes);
        let counts = secure.arena.server.wait_until(label, |now| {
            now.incidents_since(&before).iter().any(|(name, _)| name.starts_with("tls_failures"))
        });
        assert_eq!(
            counts.of(&failure) - before.of(&failure),
            1,
            "{label}: {:?}",
            counts.incidents_since(&before)
        );
        if reason == "plain_http" {
            let answer = String::from_utf8(answer).expect("text");
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.contains("speaks TLS"),
                "{label}: {answer}"
            );
        }
        secure.arena.attack(label, &[("hang_ups", 1), (&failure, 1)], |_| {});
    }
    secure.arena.end();
}

/// A hello that offers nothing newer than SSL 3.
fn ssl3_hello() -> Vec<u8> {
    let body = [&[3, 0][..], &[7; 32], &[0, 0, 2, 0, 5, 1, 0]].concat();
    [&[1, 0, 0, body.len() as u8][..], &body].concat()
}

/// Bytes that begin a message of a handshake and do not end it stay with the connection while the server writes. rustls
/// must be shown them again, or it panics, and with it the shard.
#[test]
fn attack_2_half_a_message_within_a_session_hurts_nobody() {
    let mut secure = Secure::new(|_| {});
    let mut config = ClientConfig::clone(&secure.authority.client(&[&TLS13]));
    config.enable_secret_extraction = true;
    let config = Arc::new(config);
    secure.arena.attack("half a key update", &[("hang_ups", 1)], |arena| {
        let mut client = Client::connect_tls(arena.server.tls_address(), WS, &config);
        client.authenticate("token", "user");
        client.send_json(&serde_json::json!({"event": "join", "data": {"rooms": ["room"]}}));
        client.settle();
        let (mut stream, tls) = client.into_tls();
        // A key update is 24, a length of three bytes, and one byte more.
        stream.write_all(&sealed(tls, &[24, 0, 0])).expect("sending");
        for _ in 0..3 {
            arena.server.emit(Destination::Room("room".into()), "event", "1");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let mut header = [0; 5];
            stream.read_exact(&mut header).expect("a record");
            assert_eq!(header[0], APPLICATION);
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
            stream.read_exact(&mut body).expect("a record");
        }
        drop(stream);
    });
    assert_eq!(secure.arena.server.counts().of("shards_restarted"), 0);
    secure.arena.end();
}

/// Changes of keys are work and no plaintext: a client that sends little else is read a little a turn, to its end.
#[test]
fn attack_2_a_flood_of_key_updates_is_read_to_its_end() {
    const ROUNDS: usize = 200;
    let mut secure = Secure::new(|_| {});
    let config = secure.authority.client(&[&TLS13]);
    secure.arena.attack("key updates", &[("hang_ups", 1)], |arena| {
        let client = Client::connect_tls(arena.server.tls_address(), ECHO, &config);
        let (mut stream, mut tls) = client.into_tls();
        let mut bytes = Vec::new();
        for _ in 0..ROUNDS {
            // rustls ends a connection at the 33rd in a row without plaintext.
            for _ in 0..30 {
                tls.refresh_traffic_keys().expect("TLS 1.3");
            }
            tls.writer().write_all(&masked_frame(0x81, b"x")).expect("buffered");
            bytes.append(&mut taken(&mut tls));
        }
        assert!(bytes.len() > 2 * (64 << 10), "{}", bytes.len());
        stream.write_all(&bytes).expect("sending");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut echoed = Vec::new();
        while echoed.len() < ROUNDS * 3 {
            assert_ne!(tls.read_tls(&mut stream).expect("an answer"), 0, "{} bytes", echoed.len());
            let state = tls.process_new_packets().expect("records");
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain).expect("plaintext");
            echoed.append(&mut plain);
        }
        assert_eq!(echoed, b"\x81\x01x".repeat(ROUNDS));
    });
    secure.arena.end();
}

/// The next record of a client of TLS 1.3, a handshake message as far as it goes.
fn sealed(tls: ClientConnection, message: &[u8]) -> Vec<u8> {
    let suite = tls.negotiated_cipher_suite().and_then(|suite| suite.tls13()).expect("a suite of TLS 1.3");
    let (number, secrets) = tls.dangerous_extract_secrets().expect("secrets").tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("an unknown cipher")
    };
    let plain = OutboundPlainMessage {
        typ: ContentType::Handshake,
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(message),
    };
    suite.aead_alg.encrypter(key, iv).encrypt(plain, number).expect("a record").encode()
}

#[test]
fn attack_2_damaged_sessions_end_alone() {
    let secure = Secure::new(|_| {});
    for version in [&TLS12, &TLS13] {
        let config = secure.authority.client(&[version]);
        for (label, at) in [("header", 0), ("length", 4), ("body", 9)] {
            let failures_before = failures(&secure);
            let raw = secure.raw();
            let mut tls = client_connection(&config, NAME);
            let mut stream = raw.stream().try_clone().expect("a descriptor");
            while tls.is_handshaking() {
                tls.complete_io(&mut stream).expect("a handshake");
            }
            tls.writer().write_all(b"GET /echo HTTP/1.1\r\n").expect("buffered");
            let mut bytes = taken(&mut tls);
            bytes[at] ^= 0x55;
            stream.write_all(&bytes).expect("sending");
            stream.shutdown(std::net::Shutdown::Write).expect("FIN");
            until_end(&stream);
            drop(raw);
            let counts = secure.arena.server.wait_until(label, |now| now.of("conns") == 1);
            assert!(failures(&secure) > failures_before || label == "length", "{label}: {counts:?}");
        }
    }
    // Whatever is changed in a hello: the shard goes on. A seeded walk, so that a failure comes again.
    let hello = secure.hello();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        let mut bytes = hello.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 17) as u8;
        }
        let client = secure.raw();
        let mut stream = client.stream();
        // It may have answered, and gone, before the end.
        drop(stream.write_all(&bytes));
        drop(stream.shutdown(std::net::Shutdown::Write));
        until_end(stream);
    }
    let counts = secure.arena.server.counts();
    assert_eq!(counts.of("shards_restarted"), 0, "{counts:?}");
    let mut client = Client::connect_tls(secure.arena.server.tls_address(), WS, &secure.client);
    client.authenticate("token", "user");
    client.leave();
    secure.arena.end_for(Cost::USUAL.computing(4));
}

fn failures(secure: &Secure) -> u64 {
    let counts = secure.arena.server.counts();
    ["protocol", "not_tls", "too_big"].iter().map(|reason| counts.of(&format!("tls_failures.{reason}"))).sum()
}

/// Records that never end take memory only up to the bound, and not that of others.
#[test]
fn attack_2_records_that_do_not_end_hold_no_more_than_the_bound() {
    const BOUND: usize = 1 << 20;
    let secure = Secure::new(|config| config.limits.input_bytes_total_max = BOUND);
    let begun = [&[HANDSHAKE, 3, 1, 0x40, 0][..], &[1, 0, 0x3f, 0xfc], &[0; 15_000]].concat();
    let attackers: Vec<Client> = (0..100)
        .map(|_| {
            let client = secure.raw();
            client.stream().write_all_through(&begun);
            client
        })
        .collect();
    let counts = secure.arena.server.wait_until("some are ended", |now| now.of("tls_failures.memory") > 0);
    assert!(counts.of("tls_held_bytes") <= BOUND as u64, "{counts:?}");
    let mut client = Client::connect_tls(secure.arena.server.tls_address(), ECHO, &secure.client);
    client.send_text("short records need no keeping");
    assert_eq!(client.recv(), Received::Text("short records need no keeping".to_owned()));
    client.leave();
    drop(attackers);
    secure.arena.server.wait_until("all is given back", |now| now.of("tls_held_bytes") == 0);
    // The bound, a session of each, and as much again while there is made room.
    secure.arena.end_for(Cost::USUAL.holding(8 << 20).computing(2));
}

/// Handshakes cost a signature each; whoever is connected waits for a few of them, not for all.
#[test]
fn attack_77_a_storm_of_handshakes_leaves_deliveries_going() {
    let secure = Secure::new(|_| {});
    let hello = secure.hello();
    let address = secure.arena.server.tls_address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..150 {
                    let client = Client::open(address);
                    client.stream().write_all_through(&hello);
                    client.reset();
                }
            });
        }
        let mut arena = secure.arena;
        let hang_ups = arena.before().clone();
        for _ in 0..5 {
            arena.is_well();
        }
        arena.server.wait_until("the storm is over", |now| {
            now.of("accepted") - hang_ups.of("accepted") >= 600 && now.of("conns") == 1
        });
        arena.is_well();
        // As many sessions at a time as come before the first is gone, at most 600.
        arena.end_for(Cost::USUAL.holding(16 << 20).computing(10));
    });
}

/// Sends what must be taken.
trait WriteAllThrough {
    fn write_all_through(&self, bytes: &[u8]);
}

impl WriteAllThrough for TcpStream {
    fn write_all_through(&self, bytes: &[u8]) {
        std::io::copy(&mut Cursor::new(bytes), &mut &*self).expect("sending");
    }
}
