//! What TLS costs the real binary: memory of an idle connection, CPU time of a delivery and of a handshake, and how
//! late deliveries get while many shake hands. See `docs/operations.md`.
//!
//!     cargo test --release -p shardcast-tests --test tls_cost -- --ignored --nocapture --test-threads=1

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde_json::json;
use shardcast_tests::binary::Binary;
use shardcast_tests::client::Client;
use shardcast_tests::http::Http;
use shardcast_tests::server::WS;
use shardcast_tests::tls::{Authority, Files, Kind, TLS12, TLS13};

/// Idle connections between two looks at the memory.
const IDLE: usize = 2_000;
/// Members of the room, messages to it, and bytes of a message.
const MEMBERS: usize = 200;
const MESSAGES: usize = 1_000;
const MESSAGE_BYTES: usize = 200;
/// Handshakes whose CPU time is measured.
const HANDSHAKES: usize = 500;

struct Rig {
    server: Binary,
    secure: SocketAddr,
    authority: Authority,
    _files: Files,
}

impl Rig {
    fn start(kind: Kind) -> Self {
        let authority = Authority::default();
        let files = Files::new(&authority.issue(kind, &["localhost"]));
        let settings = [
            "server.tls_listen=127.0.0.1:0".to_owned(),
            format!("tls.certificate={}", files.certificate().display()),
            format!("tls.key={}", files.key().display()),
            "server.shards=1".to_owned(),
        ];
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let server = Binary::start(&[&["--dev"], &settings[..]].concat());
        let secure = server.tls_address();
        Self { server, secure, authority, _files: files }
    }

    fn connect(&self, tls: Option<&Arc<ClientConfig>>) -> Client {
        let mut client = match tls {
            None => Client::connect(self.server.address(), WS),
            Some(config) => Client::connect_tls(self.secure, WS, config),
        };
        client.authenticate("token", "user");
        client
    }
}

fn modes(authority: &Authority) -> [(&'static str, Option<Arc<ClientConfig>>); 3] {
    let client = |version| Some(authority.client(&[version]));
    [("plain", None), ("TLS 1.2", client(&TLS12)), ("TLS 1.3", client(&TLS13))]
}

#[test]
#[ignore = "a measurement"]
fn memory_of_an_idle_connection() {
    for (index, name) in ["plain", "TLS 1.2", "TLS 1.3"].into_iter().enumerate() {
        let rig = Rig::start(Kind::Ecdsa);
        let tls = modes(&rig.authority)[index].1.clone();
        let mut held = Vec::new();
        let mut resident = Vec::new();
        for _ in 0..2 {
            held.extend((0..IDLE).map(|_| rig.connect(tls.as_ref())));
            thread::sleep(Duration::from_secs(1));
            resident.push(rig.server.resident_bytes());
        }
        println!("memory: {name}: {} bytes a connection", (resident[1] - resident[0]) / IDLE);
    }
}

#[test]
#[ignore = "a measurement"]
fn cpu_of_a_delivery_and_of_a_handshake() {
    let data = json!("x".repeat(MESSAGE_BYTES));
    let mut plain = None;
    for index in 0..3 {
        let rig = Rig::start(Kind::Ecdsa);
        let (name, tls) = modes(&rig.authority)[index].clone();
        let mut members: Vec<Client> = (0..MEMBERS).map(|_| rig.connect(tls.as_ref())).collect();
        members.iter_mut().for_each(|member| member.join(&["room"]));
        let mut api = Http::connect(rig.server.address());
        let before = rig.server.cpu_time();
        for _ in 0..MESSAGES {
            api.emit(&json!({"type": "room", "target": "room", "event": "e", "data": data}));
            // One at a time, so that none shares a send with another.
            members.iter_mut().for_each(|member| assert_eq!(member.recv_json()["event"], "e"));
        }
        let each = (rig.server.cpu_time() - before).as_secs_f64() * 1e6 / (MEMBERS * MESSAGES) as f64;
        let plain = *plain.get_or_insert(each);
        println!("delivery: {name}: {each:.2} CPU-µs, {:.2} times plain", each / plain);
    }
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let rig = Rig::start(kind);
        for (name, version) in [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)] {
            for resumes in [false, true] {
                let shared = rig.authority.client(&[version]);
                drop(Client::connect_tls(rig.secure, WS, &shared));
                let before = rig.server.cpu_time();
                for _ in 0..HANDSHAKES {
                    let fresh = (!resumes).then(|| rig.authority.client(&[version]));
                    drop(Client::connect_tls(rig.secure, WS, fresh.as_ref().unwrap_or(&shared)));
                }
                let each = (rig.server.cpu_time() - before).as_secs_f64() * 1e6 / HANDSHAKES as f64;
                let how = if resumes { "resumed" } else { "full" };
                println!("handshake: {kind:?}, {name}, {how}: {each:.0} CPU-µs with its upgrade");
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn delay_of_deliveries_in_a_storm_of_handshakes() {
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let rig = Rig::start(kind);
        let mut member = rig.connect(Some(&rig.authority.client(&[&TLS13])));
        member.join(&["room"]);
        let mut api = Http::connect(rig.server.address());
        let mut delays = |label: &str| {
            let mut delays: Vec<Duration> = (0..500)
                .map(|_| {
                    let began = Instant::now();
                    api.emit(&json!({"type": "room", "target": "room", "event": "e", "data": 1}));
                    assert_eq!(member.recv_json()["event"], "e");
                    began.elapsed()
                })
                .collect();
            delays.sort();
            println!("{kind:?}, {label}: median {:?}, p99 {:?}", delays[250], delays[495]);
        };
        delays("calm");
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let client = rig.authority.client(&[&TLS13]);
                        drop(Client::open_tls(rig.secure, &client));
                    }
                });
            }
            delays("storm");
            stop.store(true, Ordering::Relaxed);
        });
    }
}
