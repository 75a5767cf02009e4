//! 74 to 78: crowds that connect, stall, do not read, or come all at once.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::Auto;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::server::{PATIENCE, WS, one_shard};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, expect_refusal};
use crate::siege::Siege;

const MIB: usize = 1 << 20;

#[test]
fn attack_74_handshakes_that_stall_do_not_take_every_place() {
    const STALLED: usize = 10;
    let mut config = one_shard();
    config.server.handshakes_max = Auto::Fixed(STALLED);
    let mut arena = Arena::with(config);
    arena.attack("74", &[("shed_handshakes", 5), ("hang_ups", STALLED as u64)], |arena| {
        let stalled: Vec<_> = (0..STALLED)
            .map(|_| {
                let mut client = arena.raw();
                client.send_raw(b"GET /ws HTTP/1.1\r\n").expect("sending");
                client
            })
            .collect();
        arena.server.wait_until("they stall", |counts| counts.of("handshakes") == STALLED as u64);
        for _ in 0..5 {
            let answer = expect_refusal("74", &mut arena.raw(), 503);
            assert_eq!(answer.header("Retry-After"), Some("5"));
        }
        drop(stalled);
        arena.server.wait_until("they are gone", |counts| counts.of("handshakes") == 0);
        // Those who have shaken hands do not count.
        let inside: Vec<_> = (0..2 * STALLED).map(|_| arena.ws()).collect();
        inside.into_iter().for_each(Client::leave);
    });
    arena.end();
}

fn wait_for_pressure(siege: &mut Siege, wanted: u64) {
    let deadline = Instant::now() + PATIENCE;
    while siege.metric("shardcast_memory_pressure") != wanted {
        assert!(Instant::now() < deadline, "{} bytes", siege.server.resident_bytes());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Backlogs of slow readers take the memory: newcomers are told, those inside live, and it ends when they leave.
#[test]
fn attack_74_memory_pressure_sheds_newcomers_and_turns_readiness_red() {
    let usual = Siege::start("");
    let bytes_max = usual.server.resident_bytes() + 32 * MIB;
    usual.end();
    let mut siege = Siege::start(&format!("[limits]\nmemory_bytes_max = {bytes_max}\n"));
    let ready = |siege: &Siege| Http::connect(siege.server.admin_address()).get("/health/ready");
    assert_eq!(siege.metric("shardcast_memory_max_bytes"), bytes_max as u64);
    assert_eq!(ready(&siege).status, 200);
    let cost = Cost { memory_bytes_max: 256 * MIB, cpu_max: Duration::from_secs(30) };
    siege.attack("74 memory", cost, &[("shed_memory", 3..=3), ("hang_ups", 10..=10)], |siege| {
        let slow: Vec<_> = (0..10)
            .map(|number| {
                let mut client = Client::connect_slow(siege.server.address(), WS);
                client.authenticate("token", "slow");
                client.send_json(&json!({"event": "join", "data": {"rooms": [format!("slow-{number}")]}}));
                client.settle();
                client
            })
            .collect();
        let mut api = Http::connect(siege.server.address());
        let data = "x".repeat(64 << 10);
        let deadline = Instant::now() + PATIENCE;
        for round in (0..10).cycle() {
            let room = format!("slow-{round}");
            api.emit(&json!({"type": "room", "target": room, "event": "e", "data": data}));
            if round == 0 && siege.metric("shardcast_memory_pressure") == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "no pressure with {} bytes", siege.server.resident_bytes());
        }
        for _ in 0..3 {
            let answer = expect_refusal("74", &mut Client::open(siege.server.address()), 503);
            assert_eq!(answer.header("Retry-After"), Some("5"));
        }
        let answer = ready(siege);
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 503 && body.contains("\"memory\":{\"ok\":false"), "{body}");
        slow
    });
    wait_for_pressure(&mut siege, 0);
    assert_eq!(ready(&siege).status, 200);
    Client::connect(siege.server.address(), WS).leave();
    siege.end();
}

/// Readers that never read: their backlog ends at the cap of the process, scaled down with their number.
#[test]
fn attack_75_a_thousand_readers_that_do_not_read_stay_below_the_cap() {
    const CROWD: usize = 1_000;
    const ROUNDS: usize = 400;
    // What they wait for is shared, so the cap is mostly reached by the entries of a thousand queues.
    let mut siege = Siege::start(
        "[limits]\noutbox_bytes_total_max = \"8MiB\"\n[[mounts]]\noutbox_bytes_max = \"8MiB\"\n",
    );
    // The cap, what the server's own tables take, and what an allocator keeps.
    let cost = Cost { memory_bytes_max: 64 * MIB, cpu_max: Duration::from_secs(60) };
    siege.attack(
        "75",
        cost,
        &[("dropped_memory_cap", 1..=u64::MAX), ("hang_ups", 0..=CROWD as u64)],
        |siege| {
            let login = json!({"event": "authenticate", "data": {"token": "t"}});
            let join = json!({"event": "join", "data": {"rooms": ["hot"]}});
            let crowd: Vec<_> = (0..CROWD)
                .map(|_| {
                    let mut client = Client::connect_slow(siege.server.address(), WS);
                    client.send_json(&login);
                    client.send_json(&join);
                    client.settle();
                    client
                })
                .collect();
            let mut api = Http::connect(siege.server.address());
            let data = "x".repeat(8 << 10);
            // Other sizes for each, so that no two share a burst for ever.
            for round in 0..ROUNDS {
                api.emit(&json!({"type": "room", "target": "hot", "event": "e", "data": data[round..]}));
            }
            let deadline = Instant::now() + PATIENCE;
            while siege.metric("shardcast_dropped_memory_cap_total") == 0 {
                api.emit(&json!({"type": "room", "target": "hot", "event": "e", "data": data}));
                assert!(Instant::now() < deadline, "the cap is never reached");
            }
            let queued = siege.metric("shardcast_outbox_bytes");
            assert!(queued <= 9 * MIB as u64, "{queued} bytes queued");
            crowd
        },
    );
    siege.end();
}

/// A reader of a byte at a time keeps its own backlog waiting and nobody else.
#[test]
fn attack_76_a_reader_of_a_byte_at_a_time_delays_nobody() {
    const READERS: usize = 20;
    const ROUNDS: usize = 40;
    let mut arena = Arena::new();
    // Forty messages of 64 KiB, once for all.
    arena.attack_for(Cost::USUAL.holding(4 * MIB).computing(3), "76", &[], |arena| {
        let mut slow: Vec<_> = (0..READERS)
            .map(|_| {
                let mut client = Client::connect_slow(arena.server.address(), WS);
                client.authenticate("token", "slow");
                client.send_json(&json!({"event": "join", "data": {"rooms": ["hot"]}}));
                client.settle();
                client
            })
            .collect();
        let (mut quick, _) = arena.server.client("quick");
        quick.send_json(&json!({"event": "join", "data": {"rooms": ["hot"]}}));
        quick.settle();
        let data = json!("x".repeat(64 << 10)).to_string();
        let mut received = vec![Vec::new(); READERS];
        for round in 0..ROUNDS {
            arena.server.emit(Destination::Room("hot".into()), "e", &data);
            let begun = Instant::now();
            assert!(matches!(quick.recv(), Received::Text(_)), "round {round}");
            assert!(begun.elapsed() < Duration::from_secs(5), "round {round} took {:?}", begun.elapsed());
            for (client, received) in slow.iter_mut().zip(&mut received) {
                received.extend(read(client, 1));
            }
        }
        let waiting = arena.server.counts();
        assert!(waiting.of("outbox_bytes") > 0, "{waiting:?}");
        // In the end each gets all of it, in order.
        let payload = format!(r#"{{"event":"e","data":{data}}}"#);
        let header = [&[0x81, 127][..], &(payload.len() as u64).to_be_bytes()].concat();
        let expected = [header, payload.into_bytes()].concat().repeat(ROUNDS);
        for (client, received) in slow.iter_mut().zip(&mut received) {
            received.extend(read(client, expected.len() - ROUNDS));
            assert!(*received == expected, "other bytes than were sent");
        }
        quick.leave();
        slow.into_iter().for_each(Client::leave);
    });
    arena.end();
}

/// Bytes as they come, past the client's own reading.
fn read(client: &Client, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    client.stream().set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut stream: &TcpStream = client.stream();
    stream.read_exact(&mut bytes).expect("the rest of what was sent");
    bytes
}

/// Everybody reconnects at once, again and again; those who stay notice nothing, and memory comes back.
#[test]
fn attack_77_a_crowd_that_reconnects_at_once_leaves_memory_as_it_was() {
    const CROWD: usize = 1_000;
    let mut siege = Siege::start("");
    let storm = |siege: &Siege| {
        let login = json!({"event": "authenticate", "data": {"token": "t"}});
        let join = json!({"event": "join", "data": {"rooms": ["a", "b", "c"]}});
        let mut crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut client = Client::connect(siege.server.address(), WS);
                client.send_json(&login);
                client.send_json(&join);
                client
            })
            .collect();
        crowd.iter_mut().for_each(Client::settle);
        crowd.into_iter().for_each(Client::reset);
    };
    // The first makes the tables as large as they get.
    storm(&siege);
    let cost = Cost { memory_bytes_max: 16 * MIB, cpu_max: Duration::from_secs(60) };
    siege.attack("77", cost, &[("hang_ups", 3_000..=4_000)], |siege| {
        for _ in 0..3 {
            storm(siege);
        }
    });
    let deadline = Instant::now() + PATIENCE;
    while siege.metric("shardcast_connections") > 1 {
        assert!(Instant::now() < deadline, "somebody stays");
    }
    siege.end();
}

#[test]
fn attack_77_accepts_are_spread_evenly_and_nobody_is_refused() {
    const CROWD: usize = 150;
    let mut config = one_shard();
    config.server.accepts_per_second_max = Some(100);
    let arena = Arena::with(config);
    let before = arena.before().clone();
    let begun = Instant::now();
    let crowd: Vec<_> = (0..CROWD).map(|_| arena.raw()).collect();
    let connected = begun.elapsed();
    arena.server.wait_until("all are taken in", |counts| {
        counts.of("accepted") - before.of("accepted") == CROWD as u64
    });
    // Less the burst of 50 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1_300), "{:?}", begun.elapsed());
    assert!(connected < PATIENCE, "the kernel's queue took them");
    for client in crowd {
        client.reset();
    }
    let after = arena.server.wait_until("all are gone", |counts| counts.of("conns") == 1);
    let incidents: Vec<_> = after.incidents_since(&before).into_keys().collect();
    assert_eq!(incidents, ["accepts_delayed", "hang_ups"]);
    arena.end();
}

/// 60,000 connections of one machine, scaled to the descriptors there are: three addresses, of which each wants ten
/// times what it gets. Whoever is refused is gone at once.
#[test]
fn attack_78_a_flood_of_connections_costs_little_and_leaves_nothing() {
    const ATTEMPTS: usize = 1_500;
    const EACH: usize = 150;
    let mut siege = Siege::start(&format!("[limits]\nconnections_per_address_max = {EACH}\n"));
    let cost = Cost { memory_bytes_max: 16 * MIB, cpu_max: Duration::from_secs(30) };
    let refused = 3 * (ATTEMPTS - EACH) as u64;
    let expected = [("shed_address", refused..=refused), ("hang_ups", 3 * EACH as u64..=3 * EACH as u64)];
    siege.attack("78", cost, &expected, |siege| {
        let address = siege.server.address();
        let floods = [2, 3, 4].map(|host| {
            thread::spawn(move || flood(IpAddr::from([127, 0, 0, host]), address, ATTEMPTS, EACH))
        });
        let held = floods.map(|flood| flood.join().expect("no panic"));
        assert_eq!(siege.metric("shardcast_connections"), 3 * EACH as u64 + 1);
        held
    });
    siege.end();
}

/// Connects, keeps the first so many and expects that the others are refused.
fn flood(source: IpAddr, address: SocketAddr, attempts: usize, kept: usize) -> Vec<Client> {
    let mut held = Vec::new();
    for number in 0..attempts {
        let mut client = Client::open_from(source, address);
        if number < kept {
            client.send_raw(b"GET /ws HTTP/1.1\r\n").expect("sending");
            held.push(client);
        } else {
            assert_eq!(client.response().status, 503);
        }
    }
    held
}
