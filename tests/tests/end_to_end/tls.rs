//! TLS on the shards' own listeners: versions, resumption, messages in pieces, slow readers, the API, reload.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use serde_json::json;
use shardcast::config::{Config, IoDriver, SlowConsumer, TlsCertificate, TlsVersion};
use shardcast::tls::material::MaterialError;
use shardcast_shard::{Mail, MountId, ShardId};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http;
use shardcast_tests::server::{self, ECHO, TestServer, WS, one_shard, with_echo};
use shardcast_tests::tls::{Authority, BOTH, Files, Kind, NAME, TLS12, TLS13, client_connection};
use shardcast_wire::ignis::Destination;

/// A server with TLS, and what a client needs.
struct Rig {
    server: TestServer,
    config: Config,
    authority: Authority,
    files: Files,
}

impl Rig {
    fn start(config: Config) -> Self {
        Self::of(Kind::Ecdsa, config)
    }

    fn of(kind: Kind, mut config: Config) -> Self {
        let authority = Authority::default();
        let files = Files::new(&authority.issue(kind, &[NAME]));
        files.serve_with(&mut config);
        Self { server: TestServer::start(&config), config, authority, files }
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client(BOTH)
    }

    fn address(&self) -> SocketAddr {
        self.server.tls_address()
    }

    fn connect(&self, path: &str) -> Client {
        Client::connect_tls(self.address(), path, &self.client())
    }

    /// Nobody is left and the server stops.
    fn end(self) {
        self.server.expect_empty("after the clients");
        let counts = self.server.counts();
        assert_eq!((counts.of("tls_conns"), counts.of("tls_held_bytes")), (0, 0), "{counts:?}");
        self.server.stop();
    }
}

/// `seed` repeated and numbered, so that pieces in the wrong order show.
fn noise(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[test]
fn both_versions_serve_and_resume_on_both_drivers_with_both_kinds_of_keys() {
    for (io, kind) in [(IoDriver::Auto, Kind::Ecdsa), (IoDriver::Epoll, Kind::Rsa)] {
        let mut config = server::config();
        config.server.io = io;
        let rig = Rig::of(kind, config);
        for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let client = rig.authority.client(&[version]);
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let before = rig.server.counts();
                let mut ws = Client::connect_tls(rig.address(), WS, &client);
                let session = ws.tls().expect("TLS");
                assert_eq!(session.protocol_version(), Some(name));
                assert_eq!(session.handshake_kind(), Some(kind), "{name:?}");
                assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
                ws.authenticate("token", "user");
                ws.join(&["room"]);
                rig.server.emit(Destination::Room("room".into()), "event", "1");
                assert_eq!(ws.recv(), Received::Text(r#"{"event":"event","data":1}"#.to_owned()));
                ws.leave();
                let resumed = u64::from(kind == HandshakeKind::Resumed);
                let now = rig.server.counts();
                assert_eq!(now.of("tls_handshakes") - before.of("tls_handshakes"), 1);
                assert_eq!(now.of("tls_resumed") - before.of("tls_resumed"), resumed);
            }
        }
        rig.end();
    }
}

#[test]
fn big_messages_pass_both_ways_in_pieces_through_small_buffers() {
    let rig = Rig::start(with_echo(one_shard()));
    for version in BOTH {
        let slow = Client::open_slow(rig.address());
        let client = rig.authority.client(&[version]);
        let mut slow = slow.secure(client_connection(&client, NAME)).expect("TLS");
        assert_eq!(slow.upgrade(ECHO, "").status, 101);
        for len in [0, 1, 16_383, 16_384, 16_385, 100_000, 3 << 20] {
            let message = noise(len);
            slow.send_binary(&message);
            assert_eq!(slow.recv(), Received::Binary(message), "{len} bytes");
        }
        slow.leave();
    }
    rig.end();
}

#[test]
fn many_plain_and_secure_members_of_a_room_get_the_same_in_order() {
    let rig = Rig::start(one_shard());
    let mut members: Vec<Client> = (0..20)
        .map(|index| match index % 2 {
            0 => rig.connect(WS),
            _ => Client::connect(rig.server.address(), WS),
        })
        .collect();
    for member in &mut members {
        member.authenticate("token", "user");
        member.join(&["room"]);
    }
    let long = "x".repeat(40_000);
    for number in 0..200 {
        let data = json!({"number": number, "text": if number % 50 == 0 { &long } else { "" }});
        rig.server.emit(Destination::Room("room".into()), "tick", &data.to_string());
    }
    for member in &mut members {
        for number in 0..200 {
            assert_eq!(member.recv_json()["data"]["number"], number);
        }
    }
    members.into_iter().for_each(Client::leave);
    rig.end();
}

#[test]
fn a_slow_reader_holds_its_outbox_and_a_record_and_reads_whole_frames_in_the_end() {
    let mut config = one_shard();
    config.mounts[0].outbox_bytes_max = 64 << 10;
    config.mounts[0].slow_consumer = SlowConsumer::DropNewest;
    let rig = Rig::start(config);
    let slow = Client::open_slow(rig.address());
    let mut slow = slow.secure(client_connection(&rig.client(), NAME)).expect("TLS");
    assert_eq!(slow.upgrade(WS, "").status, 101);
    slow.authenticate("token", "slow");
    slow.join(&["room"]);
    let data = json!("y".repeat(8_000)).to_string();
    for _ in 0..2_000 {
        rig.server.emit(Destination::Room("room".into()), "tick", &data);
    }
    let full = rig.server.wait_until("messages dropped", |counts| counts.of("dropped_outbox_full") > 0);
    assert!(full.of("tls_held_bytes") <= 17 << 10, "{full:?}");
    // A burst that is begun is held whole.
    assert!(full.of("outbox_bytes") <= 1 << 20, "{full:?}");
    let counts = rig.server.wait_until("everything published", |counts| counts.of("published") == 2_000);
    let kept = 2_000 - counts.of("dropped_outbox_full");
    for _ in 0..kept {
        assert_eq!(slow.recv_json()["event"], "tick");
    }
    slow.leave();
    rig.end();
}

#[test]
fn the_api_answers_over_tls_with_its_connection_kept_alive() {
    let mut config = one_shard();
    config.api.body_bytes_max = 4 << 20;
    let rig = Rig::start(config);
    let mut member = rig.connect(WS);
    member.authenticate("token", "user");
    member.join(&["room"]);
    let mut api = Client::open_tls(rig.address(), &rig.client());
    // Longer than the shard's buffer: most of the body reaches the control plane in records that nobody opened.
    for len in [1, 60_000, 300_000, 2_000_000] {
        let message = json!({"type": "room", "target": "room", "event": "e", "data": "z".repeat(len)});
        let request = http::request(rig.address(), "POST", "/api/emit", "", &message.to_string());
        api.send_raw(request.as_bytes()).expect("sending");
        let answer = api.response();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(member.recv_json()["data"].as_str().map(str::len), Some(len));
    }
    let missing = http::request(rig.address(), "GET", "/nowhere", "Connection: close\r\n", "");
    api.send_raw(missing.as_bytes()).expect("sending");
    assert_eq!(api.response().status, 404);
    assert_eq!(api.recv(), Received::Eof);
    member.leave();
    drop(api);
    rig.end();
}

#[test]
fn a_name_gets_its_own_certificate_and_any_other_the_first() {
    let mut config = one_shard();
    let authority = Authority::default();
    let first = Files::new(&authority.issue(Kind::Ecdsa, &[NAME]));
    let other = Files::new(&authority.issue(Kind::Ecdsa, &["chat.example.com", "*.chat.example.com"]));
    first.serve_with(&mut config);
    config.tls.certificates.push(TlsCertificate {
        certificate: other.certificate().display().to_string(),
        key: other.key().display().to_string(),
    });
    let server = TestServer::start(&config);
    let client = authority.client(BOTH);
    let connect = |name| Client::open(server.tls_address()).secure(client_connection(&client, name));
    for name in [NAME, "chat.example.com", "eu.CHAT.example.com"] {
        connect(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["a.b.chat.example.com", "example.com"] {
        assert!(connect(name).is_err(), "{name} is in no certificate");
    }
    server.wait_until("refusals counted", |counts| counts.of("tls_failures.certificate_refused") == 2);
}

#[test]
fn a_version_that_is_turned_off_is_refused_and_counted() {
    let mut config = one_shard();
    config.tls.min_version = TlsVersion::V13;
    let rig = Rig::start(config);
    let old = rig.authority.client(&[&TLS12]);
    let refused = Client::open(rig.address()).secure(client_connection(&old, NAME)).expect_err("too old");
    assert!(refused.to_string().contains("ProtocolVersion"), "told why: {refused}");
    rig.server.wait_until("it is counted", |counts| counts.of("tls_failures.version") == 1);
    rig.connect(WS).leave();
    rig.end();
}

#[test]
fn attack_84_a_reload_drops_nobody_and_a_broken_one_changes_nothing() {
    let mut rig = Rig::start(one_shard());
    let client = rig.client();
    let mut before = Client::connect_tls(rig.address(), WS, &client);
    before.authenticate("token", "user");
    before.join(&["room"]);
    let served = |rig: &Rig| {
        // A client without memory, so that it is shown the certificate.
        let client = rig.authority.client(&[&TLS13]);
        let connected = Client::open_tls(rig.address(), &client);
        connected.tls().and_then(|tls| tls.peer_certificates()).expect("a certificate")[0]
            .clone()
            .into_owned()
    };
    let first = served(&rig);

    rig.files.replace(&rig.authority.issue(Kind::Ecdsa, &[NAME]));
    rig.server.reload(&rig.config).expect("a good certificate");
    let second = served(&rig);
    assert_ne!(first, second, "new connections get the new certificate");
    let mut resumed = Client::connect_tls(rig.address(), WS, &client);
    assert_eq!(resumed.tls().and_then(|tls| tls.handshake_kind()), Some(HandshakeKind::Resumed));
    resumed.authenticate("token", "user");

    let good = rig.authority.issue(Kind::Ecdsa, &[NAME]);
    let other = rig.authority.issue(Kind::Rsa, &[NAME]);
    let broken = [
        ("a key of another", good.chain.clone(), other.key.clone()),
        ("no certificate", String::new(), good.key.clone()),
        ("no key", good.chain.clone(), good.chain.clone()),
        ("half a file", good.chain[..300].to_owned(), good.key.clone()),
        ("rubbish in PEM", good.chain.replace('A', "B"), good.key.clone()),
    ];
    for (label, chain, key) in broken {
        rig.files.replace(&shardcast_tests::tls::Pair { chain, key });
        assert!(rig.server.reload(&rig.config).is_err(), "{label}");
        assert_eq!(served(&rig), second, "{label}: the old one stays");
    }
    rig.files.replace(&rig.authority.issue(Kind::Expired, &[NAME]));
    assert!(matches!(rig.server.reload(&rig.config), Err(MaterialError::Expired { .. })));
    fs::remove_file(rig.files.key()).expect("removing a file");
    assert!(matches!(rig.server.reload(&rig.config), Err(MaterialError::Read { .. })));
    assert_eq!(served(&rig), second);

    rig.server.emit(Destination::Room("room".into()), "still", "1");
    assert_eq!(before.recv(), Received::Text(r#"{"event":"still","data":1}"#.to_owned()));
    before.leave();
    resumed.leave();
    rig.end();
}

#[test]
fn a_shard_that_panics_cuts_its_secure_clients_and_serves_new_ones() {
    let rig = Rig::start(one_shard());
    let mut lost = rig.connect(WS);
    lost.authenticate("token", "user");
    let poison = Mail::Room {
        mount: MountId(200),
        room: Arc::from("x"),
        own: None,
        frame: bytes::Bytes::new().into(),
        exclude: None,
    };
    assert!(rig.server.engine().router().shard(ShardId(0)).post(poison));
    assert_eq!(lost.recv(), Received::Cut);
    let mut found = rig.connect(WS);
    found.authenticate("token", "user");
    found.leave();
    rig.end();
}

#[test]
fn a_drain_says_goodbye_in_both_protocols() {
    let rig = Rig::start(one_shard());
    let mut client = rig.connect(WS);
    client.authenticate("token", "user");
    rig.server.drain();
    assert_eq!(client.recv(), Received::Close(Some(1001), "Server shutting down".to_owned()));
    assert_eq!(client.recv(), Received::Eof, "close_notify and FIN, not a bare FIN");
    assert!(!client.has_unread_within(Duration::from_millis(1)) || client.recv() == Received::Eof);
    rig.server.stop();
}
