//! 74 to 82: descriptors, timers, labels and hash maps that run full.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::{Auto, Mount};
use shardcast_tests::binary::Binary;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::server::{PATIENCE, WS, one_shard};

use crate::arena::{Arena, Cost, expect_refusal};
use crate::siege::Siege;

const MIB: usize = 1 << 20;

#[test]
fn attack_74_beyond_the_limit_on_connections_is_shed_503() {
    let mut config = one_shard();
    config.server.connections_max = Auto::Fixed(6);
    let mut arena = Arena::with(config);
    arena.attack("74", &[("shed_full", 3)], |arena| {
        // The bystander is the sixth.
        let clients: Vec<_> = (0..5).map(|_| arena.ws()).collect();
        for _ in 0..3 {
            let answer = expect_refusal("74", &mut arena.raw(), 503);
            assert_eq!(answer.header("Retry-After"), Some("5"));
        }
        clients.into_iter().for_each(Client::leave);
    });
    arena.attack("74 place again", &[], |arena| arena.ws().leave());
    arena.end();
}

/// The status of an attempt to upgrade.
fn attempt(server: &Binary) -> (Client, u16) {
    let mut client = Client::open(server.address());
    let status = client.upgrade(WS, "").status;
    (client, status)
}

/// Counted by the server as often as it was told here, and as often as those that gave up while they waited.
#[test]
fn attack_74_out_of_descriptors_sheds_503_without_spinning() {
    const PLACES: usize = 40;
    const WAITING: usize = 100;
    let mut siege = Siege::start("[[mounts]]\nauth_timeout = \"1h\"\n");
    let cost = Cost::USUAL.holding(16 * MIB).computing(4);
    let shed = 10..=(20 + WAITING as u64) * 2;
    let expected = [("accepts_shed", shed), ("hang_ups", 0..=(PLACES + WAITING) as u64)];
    siege.attack("74", cost, &expected, |siege| {
        siege.server.limit_files((siege.server.files() + PLACES) as u64);
        let (mut inside, mut shed) = (Vec::new(), 0);
        for _ in 0..PLACES + 20 {
            match attempt(&siege.server) {
                (client, 101) => inside.push(client),
                (_, 503) => shed += 1,
                (_, status) => panic!("status {status}"),
            }
        }
        // A few descriptors below the limit may have been free.
        assert!(shed >= 10 && inside.len() >= PLACES - 1, "{shed} shed, {} inside", inside.len());
        inside.iter_mut().for_each(Client::settle);
        siege.is_well();

        // With more waiting than can be told at once, the processor rests between two attempts.
        let busy_with = |server: &Binary| {
            let (cpu, begun) = (server.cpu_time(), Instant::now());
            while begun.elapsed() < Duration::from_secs(1) {
                std::thread::sleep(Duration::from_millis(50));
            }
            (server.cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64()
        };
        let usual = busy_with(&siege.server);
        let waiting: Vec<_> = (0..WAITING).map(|_| Client::open(siege.server.address())).collect();
        let exhausted = busy_with(&siege.server);
        assert!(exhausted < usual + 0.4, "{exhausted:.2} of a processor, usually {usual:.2}");
        siege.is_well();
        inside.iter_mut().for_each(Client::settle);

        // The connections that waited are gone, so the next attempts find the places of those inside.
        drop((waiting, inside));
        let deadline = Instant::now() + PATIENCE;
        while attempt(&siege.server).1 != 101 {
            assert!(Instant::now() < deadline, "no place although nobody is left");
        }
        assert!(siege.metric("shardcast_accepts_shed_total") >= shed);
    });
    siege.end();
}

#[test]
fn attack_79_three_thousand_timers_due_together() {
    const CROWD: usize = 3_000;
    let mut config = one_shard();
    config.mounts.push(Mount {
        path: "/short".to_owned(),
        // Every client is looked for at the same moment.
        heartbeat_interval: Duration::from_secs(2),
        heartbeat_timeout: Duration::from_secs(2),
        ..Mount::default()
    });
    // Nobody reads the end of one connection before it has read the end of all before it.
    config.server.close_timeout = 3 * PATIENCE;
    let mut arena = Arena::with(config);
    let cost = Cost::USUAL.holding(6 * MIB).computing(8);
    arena.attack_for(cost, "79", &[("heartbeat_timeouts", CROWD as u64)], |arena| {
        let login = json!({"event": "authenticate", "data": {"token": "t"}});
        let crowd: Vec<_> = (0..CROWD)
            .map(|_| {
                let mut client = Client::connect(arena.server.address(), "/short");
                client.send_json(&login);
                client
            })
            .collect();
        for mut client in crowd {
            assert_eq!(client.recv_json()["event"], "connected");
            assert_eq!(client.recv(), Received::Close(Some(4002), "Heartbeat timeout".to_owned()));
        }
    });
    arena.end();
}

#[test]
fn attack_80_names_that_strangers_choose_are_no_labels() {
    let mut arena = Arena::new();
    let mut admin = Http::connect(arena.server.admin_address());
    let mut series = || {
        let page = String::from_utf8(admin.get("/metrics").body).expect("text");
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect::<BTreeSet<_>>()
    };
    let before = series();
    arena.attack("80", &[], |arena| {
        for number in 0..50 {
            let mut client = arena.ws();
            client.authenticate("token", &format!("user-{number}"));
            client.send_json(&json!({"event": "join", "data": {"rooms": [format!("room-{number}")]}}));
            client.send_json(&json!({"event": "heartbeat", "data": number}));
            client.settle();
            let path = format!("/no/such/path/{number}?query={number}");
            assert_eq!(Http::connect(arena.server.address()).get(&path).status, 404);
            client.leave();
        }
    });
    assert_eq!(series(), before);
    arena.end();
}

/// 2^n names that hash alike wherever a hash is `31 * hash + byte`.
fn colliding_names(bits: u32) -> Vec<String> {
    (0..1u32 << bits)
        .map(|number| (0..bits).map(|bit| if number >> bit & 1 == 0 { "Aa" } else { "BB" }).collect())
        .collect()
}

#[test]
fn attack_82_names_made_to_collide_cost_no_more_than_others() {
    const BITS: u32 = 13;
    let mut config = one_shard();
    config.limits.rooms_per_connection_max = 1 << (BITS + 1);
    let mut arena = Arena::with(config);
    let colliding = colliding_names(BITS);
    let others: Vec<_> = (0..1 << BITS)
        .map(|number: u64| format!("{:026}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let mut time = |names: &[String]| {
        let begun = Instant::now();
        arena.attack_for(Cost::USUAL.holding(8 * MIB).computing(6), "82", &[], |arena| {
            let (mut client, _) = arena.server.client("member");
            for rooms in names.chunks(1 << 9) {
                client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
            }
            client.settle();
            assert_eq!(arena.server.engine().router().directory().rooms_len(), names.len() + 4);
            client.leave();
            let users = names.iter().take(200).map(|name| arena.server.client(name).0);
            users.collect::<Vec<_>>().into_iter().for_each(Client::leave);
        });
        begun.elapsed()
    };
    let usual = time(&others);
    let attacked = time(&colliding);
    assert!(attacked < 5 * usual + Duration::from_secs(1), "{attacked:?} instead of {usual:?}");
    arena.end();
}
