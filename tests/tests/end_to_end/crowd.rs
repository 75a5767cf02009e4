//! Five thousand connections come, receive and go, and leave nothing behind.
//!
//! The server is a process of its own: its memory and descriptors are nobody else's, and both ends of the
//! connections in one process would take twice the descriptors.

use serde_json::json;
use shardcast_tests::binary::{Binary, wait_for};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::server::WS;

const CROWD: usize = 5_000;
const ROOMS: usize = 50;
const ROUNDS: usize = 3;

/// What a round may leave in the process: allocators keep some of what they are given back.
const RESIDENT_GROWTH_MAX: usize = 12 << 20;

/// Gauges of the metrics page that are zero when nobody is there.
const PRESENCE: [&str; 8] = [
    "shardcast_connections",
    "shardcast_clients",
    "shardcast_rooms",
    "shardcast_input_bytes",
    "shardcast_outbox_bytes",
    "shardcast_directory_clients",
    "shardcast_directory_rooms",
    "shardcast_directory_users",
];

fn gauges(admin: &mut Http) -> Vec<(&'static str, u64)> {
    let page = String::from_utf8(admin.get("/metrics").body).expect("text");
    let sum = |name: &str| {
        let series = page.lines().filter_map(|line| line.strip_prefix(name));
        let series: Vec<_> = series.filter(|rest| rest.starts_with([' ', '{'])).collect();
        assert!(!series.is_empty(), "no metric is named {name}:\n{page}");
        series
            .iter()
            .map(|rest| rest.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number"))
            .sum()
    };
    PRESENCE.iter().map(|name| (*name, sum(name))).collect()
}

/// Everybody comes, joins a room, and receives what goes to the room, the user and all.
fn come(server: &Binary, api: &mut Http) -> Vec<Client> {
    let mut crowd: Vec<_> = (0..CROWD)
        .map(|number| {
            let mut client = Client::connect(server.address(), WS);
            let room = format!("room-{}", number % ROOMS);
            client.send_json(&json!({"event": "authenticate", "data": {"token": "t", "userId": number / 2}}));
            client.send_json(&json!({"event": "join", "data": {"rooms": [room]}}));
            client
        })
        .collect();
    for client in &mut crowd {
        assert_eq!(client.recv_json()["event"], "connected");
        client.settle();
    }
    let rooms = (0..ROOMS)
        .map(|room| json!({"type": "room", "target": format!("room-{room}"), "event": "r", "data": room}));
    api.emit(&rooms.collect());
    api.emit(&json!({"type": "broadcast", "event": "all", "data": null}));
    for (number, client) in crowd.iter_mut().enumerate() {
        let room = number % ROOMS;
        assert_eq!(
            client.recv(),
            Received::Text(format!(r#"{{"event":"r","data":{room}}}"#)),
            "client {number}"
        );
        assert_eq!(
            client.recv(),
            Received::Text(r#"{"event":"all","data":null}"#.to_owned()),
            "client {number}"
        );
    }
    crowd
}

/// A third says goodbye, a third vanishes, a third is reset.
fn go(crowd: Vec<Client>) {
    for (number, client) in crowd.into_iter().enumerate() {
        match number % 3 {
            0 => client.leave(),
            1 => drop(client),
            _ => client.reset(),
        }
    }
}

#[test]
fn five_thousand_come_and_go_and_nothing_is_left() {
    let server = Binary::start(&["--dev", "--shards", "2", "--set", "mounts.0.auth_timeout=5m"]);
    let mut api = Http::connect(server.address());
    let mut admin = Http::connect(server.admin_address());
    // The connection of the API itself is one descriptor.
    assert_eq!(api.get("/api/rooms").status, 200);
    let files = server.files();
    let mut resident = Vec::new();
    for round in 0..ROUNDS {
        let crowd = come(&server, &mut api);
        assert!(gauges(&mut admin)[..3].iter().all(|(_, value)| *value > 0));
        assert!(server.files() >= files + CROWD);
        go(crowd);
        wait_for("nobody is left", || {
            let mut left = gauges(&mut admin);
            left.retain(|(_, value)| *value > 0);
            eprintln!("round {round}: {left:?}");
            left.is_empty().then_some(())
        });
        wait_for("their descriptors are closed", || (server.files() == files).then_some(()));
        resident.push(server.resident_bytes());
    }
    let growth = resident[ROUNDS - 1].saturating_sub(resident[0]);
    assert!(growth < RESIDENT_GROWTH_MAX, "memory after each round: {resident:?}");
}
