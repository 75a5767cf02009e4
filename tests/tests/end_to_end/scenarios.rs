//! What every server does, whatever its number of shards and its way to the kernel: one table, run on each.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use shardcast::config::{Config, SlowConsumer};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::{self, Http};
use shardcast_tests::run_everywhere;
use shardcast_tests::scenarios::Scenario;
use shardcast_tests::server::{PATIENCE, TestServer, WS, emit, emit_except};
use shardcast_wire::ignis::{ClientId, Destination};

/// A name for its thread, and what happens to a server with such a configuration.
const SCENARIOS: &[Scenario] = &[
    ("every_target_is_reached_exactly_once_and_in_order", every_target_is_reached_exactly_once_and_in_order),
    ("messages_of_one_publisher_stay_in_order", messages_of_one_publisher_stay_in_order),
    ("a_slow_reader_sees_a_prefix_without_gaps", a_slow_reader_sees_a_prefix_without_gaps),
    ("a_slow_reader_is_cut_off_where_the_policy_says_so", a_slow_reader_is_cut_off_where_the_policy_says_so),
    ("silent_clients_are_closed_by_the_sweep", silent_clients_are_closed_by_the_sweep),
    ("strangers_are_closed_when_the_time_to_authenticate_is_over", strangers_are_closed_in_time),
    ("dead_connections_end_without_a_close_frame", dead_connections_end_without_a_close_frame),
    ("a_kicked_client_is_told", a_kicked_client_is_told),
    ("a_drain_is_spread_and_refuses_new_connections", a_drain_is_spread_and_refuses_new_connections),
];

run_everywhere!(SCENARIOS);

fn join(client: &mut Client, rooms: &[&str]) {
    client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    client.settle();
}

fn user(id: &str) -> Destination<'_> {
    Destination::User(json!(id).to_string().into())
}

/// What arrives next must be these events, each with `null`, and nothing else.
fn expect_events(client: &mut Client, events: &[&str]) {
    for event in events {
        assert_eq!(client.recv(), Received::Text(format!(r#"{{"event":"{event}","data":null}}"#)));
    }
    client.settle();
    assert_eq!(client.take_pending(), [], "after {events:?}");
}

fn every_target_is_reached_exactly_once_and_in_order(config: Config) {
    let server = TestServer::start(&config);
    // Enough for both shards to have some of each kind, whatever the kernel chooses.
    let mut clients: Vec<_> = (0..24)
        .map(|number| {
            let (mut client, id) = server.client(["a", "b"][number % 2]);
            join(&mut client, if number % 3 == 0 { &["all", "third"] } else { &["all"] });
            (client, id)
        })
        .collect();
    let ids: Vec<_> = clients.iter().map(|(_, id)| id.clone()).collect();
    let engine = server.engine();
    emit(engine, Destination::Room("third".into()), "third", "null");
    emit_except(engine, Destination::Room("all".into()), "all-but-5", "null", &[&ids[5], "no-id"]);
    emit(engine, user("a"), "user-a", "null");
    emit(engine, Destination::Client(ids[7].as_str().into()), "client-7", "null");
    emit(engine, Destination::Room(ids[6].as_str().into()), "own-room-6", "null");
    emit_except(engine, Destination::Broadcast, "broadcast-but-0-1", "null", &[&ids[0], &ids[1]]);
    emit(engine, Destination::Room("nobody".into()), "nobody", "null");
    emit(engine, user("nobody"), "nobody", "null");
    emit(engine, Destination::Room("ws-default".into()), "default", "null");
    emit(engine, Destination::Broadcast, "broadcast", "null");
    for (number, (client, _)) in clients.iter_mut().enumerate() {
        let expected = [
            (number % 3 == 0).then_some("third"),
            (number != 5).then_some("all-but-5"),
            (number % 2 == 0).then_some("user-a"),
            (number == 7).then_some("client-7"),
            (number == 6).then_some("own-room-6"),
            (number > 1).then_some("broadcast-but-0-1"),
            Some("default"),
            Some("broadcast"),
        ];
        expect_events(client, &expected.into_iter().flatten().collect::<Vec<_>>());
    }
    clients.into_iter().for_each(|(client, _)| client.leave());
    server.expect_empty("after all have left");
    server.stop();
}

fn messages_of_one_publisher_stay_in_order(config: Config) {
    const PUBLISHERS: usize = 3;
    const MESSAGES: usize = 300;
    let server = TestServer::start(&config);
    let mut clients: Vec<_> = (0..6).map(|_| server.client("u").0).collect();
    for client in &mut clients {
        join(client, &["room"]);
    }
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let engine = server.engine();
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let to = if number % 2 == 0 { Destination::Room("room".into()) } else { user("u") };
                    emit(engine, to, "e", &json!([publisher, number]).to_string());
                }
            });
        }
    });
    for mut client in clients {
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * MESSAGES {
            let message = client.recv_json();
            let part = |index: usize| message["data"][index].as_u64().expect("a number") as usize;
            assert_eq!(part(1), next[part(0)], "{message}");
            next[part(0)] += 1;
        }
        client.settle();
        assert_eq!(client.take_pending(), []);
        client.leave();
    }
    server.stop();
}

/// A message of 16 KiB with a number.
fn filler(number: usize) -> String {
    json!([number, "x".repeat(16 << 10)]).to_string()
}

fn number_of(received: &Received) -> Option<u64> {
    let Received::Text(text) = received else { return None };
    serde_json::from_str::<serde_json::Value>(text).ok()?["data"][0].as_u64()
}

/// A client that reads nothing yet, in a room with one that reads all; emits until `counter` moves, and returns both
/// with how many messages there were.
fn stuff(server: &TestServer, counter: &str) -> (Client, Client, usize) {
    let mut slow = Client::connect_slow(server.address(), WS);
    slow.authenticate("slow", "slow");
    join(&mut slow, &["room"]);
    let (mut quick, _) = server.client("quick");
    join(&mut quick, &["room"]);
    let deadline = Instant::now() + PATIENCE;
    let mut emitted = 0;
    while server.counts().of(counter) == 0 {
        assert!(Instant::now() < deadline, "{counter} does not move after {emitted} messages");
        for _ in 0..64 {
            server.emit(Destination::Room("room".into()), "filler", &filler(emitted));
            assert_eq!(number_of(&quick.recv()), Some(emitted as u64), "for the one who reads");
            emitted += 1;
        }
    }
    (slow, quick, emitted)
}

fn a_slow_reader_sees_a_prefix_without_gaps(mut config: Config) {
    config.mounts[0].outbox_bytes_max = 512 << 10;
    let server = TestServer::start(&config);
    let before = server.counts();
    let (mut slow, mut quick, emitted) = stuff(&server, "dropped_outbox_full");
    let full = server.counts();
    assert!(full.of("outbox_bytes") <= 2 * (512 << 10), "{full:?}");
    let dropped = full.of("dropped_outbox_full");
    for number in 0..emitted as u64 - dropped {
        assert_eq!(number_of(&slow.recv()), Some(number));
    }
    slow.settle();
    assert_eq!(slow.take_pending(), [], "more than a prefix");
    server.emit(Destination::Room("room".into()), "e", "null");
    expect_events(&mut slow, &["e"]);
    expect_events(&mut quick, &["e"]);
    slow.leave();
    quick.leave();
    server.expect_incidents("a slow reader", &before, &[("dropped_outbox_full", dropped)]);
    server.stop();
}

fn a_slow_reader_is_cut_off_where_the_policy_says_so(mut config: Config) {
    config.mounts[0].outbox_bytes_max = 512 << 10;
    config.mounts[0].slow_consumer = SlowConsumer::Disconnect;
    let server = TestServer::start(&config);
    let (mut slow, quick, _) = stuff(&server, "slow_disconnected");
    let end = loop {
        match slow.recv() {
            Received::Text(_) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Received::Eof | Received::Cut), "{end:?} although the policy has no close frame");
    assert_eq!(server.counts().of("slow_disconnected"), 1);
    quick.leave();
    server.expect_empty("a slow reader");
    server.stop();
}

fn silent_clients_are_closed_by_the_sweep(mut config: Config) {
    config.mounts[0].heartbeat_interval = Duration::from_millis(200);
    config.mounts[0].heartbeat_timeout = Duration::from_secs(2);
    let server = TestServer::start(&config);
    let (mut silent, _) = server.client("silent");
    let (mut alive, _) = server.client("alive");
    // Traffic from the server and pongs are no signs of life.
    let begun = Instant::now();
    let end = loop {
        alive.send_json(&json!({"event": "heartbeat"}));
        silent.send_ping(b"");
        server.emit(user("silent"), "e", "null");
        match silent.recv_within(Duration::from_millis(50)) {
            Received::Text(_) | Received::Pong(_) | Received::Timeout => {}
            end => break end,
        }
        assert!(begun.elapsed() < PATIENCE, "never closed");
    };
    assert_eq!(end, Received::Close(Some(4002), "Heartbeat timeout".to_owned()));
    assert!(begun.elapsed() >= Duration::from_secs(2), "closed before the timeout");
    alive.leave();
    drop(silent);
    server.expect_empty("after a sweep");
    server.stop();
}

fn strangers_are_closed_in_time(mut config: Config) {
    config.mounts[0].auth_timeout = Duration::from_millis(300);
    let server = TestServer::start(&config);
    let before = server.counts();
    let mut stranger = Client::connect(server.address(), WS);
    let begun = Instant::now();
    stranger.send_json(&json!({"event": "heartbeat"}));
    assert_eq!(stranger.recv(), Received::Close(Some(4001), "Authentication timeout".to_owned()));
    assert_eq!(stranger.recv(), Received::Eof);
    assert!(begun.elapsed() < PATIENCE);
    drop(stranger);
    server.expect_incidents("a stranger", &before, &[("auth_timeouts", 1)]);
    server.stop();
}

fn dead_connections_end_without_a_close_frame(mut config: Config) {
    config.mounts[0].idle_timeout = Some(Duration::from_secs(1));
    let server = TestServer::start(&config);
    let before = server.counts();
    let (mut dead, _) = server.client("dead");
    let mut pings = 0;
    let end = loop {
        match dead.recv() {
            Received::Ping(payload) if payload.is_empty() => pings += 1,
            end => break end,
        }
    };
    assert_eq!((pings, end), (1, Received::Eof));
    drop(dead);
    server.expect_incidents("a dead connection", &before, &[("idle_timeouts", 1)]);
    server.stop();
}

fn a_kicked_client_is_told(config: Config) {
    let server = TestServer::start(&config);
    let before = server.counts();
    let (mut client, id) = server.client("u");
    let id = ClientId::parse(&id).expect("an id");
    assert!(server.engine().kick(id));
    assert_eq!(client.recv(), Received::Close(Some(1008), "Kicked".to_owned()));
    assert_eq!(client.recv(), Received::Eof);
    drop(client);
    server.expect_incidents("a kicked client", &before, &[("kicked", 1)]);
    assert!(!server.engine().kick(id), "nobody is left to kick");
    server.stop();
}

fn a_drain_is_spread_and_refuses_new_connections(mut config: Config) {
    config.server.drain_period = Duration::from_secs(3);
    let server = TestServer::start(&config);
    let mut clients: Vec<_> = (0..20).map(|_| server.client("u").0).collect();
    let mut admin = Http::connect(server.admin_address());
    let ready = admin.get("/health/ready");
    assert_eq!(ready.status, 200, "{ready:?}");
    let goodbye = Received::Close(Some(1001), "Server shutting down".to_owned());

    server.drain();
    let ready = admin.get("/health/ready");
    assert_eq!(ready.status, 503, "{ready:?}");
    assert_eq!(http::json(&ready)["ready"], false);
    assert_eq!(admin.get("/health/live").status, 200);
    let refused = TcpStream::connect_timeout(&server.address(), PATIENCE);
    assert!(refused.is_err(), "a connection that nobody will serve");

    // While the first are told, the others still receive.
    let first = thread::scope(|scope| {
        let first_told: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.recv())).collect();
        let deadline = Instant::now() + PATIENCE;
        while !first_told.iter().any(|thread| thread.is_finished()) {
            assert!(Instant::now() < deadline, "nobody is told");
            thread::sleep(Duration::from_millis(5));
        }
        server.emit(Destination::Broadcast, "e", "null");
        first_told.into_iter().map(|thread| thread.join().expect("a client")).collect::<Vec<_>>()
    });
    let message = Received::Text(r#"{"event":"e","data":null}"#.to_owned());
    let received = first.iter().filter(|received| **received == message).count();
    assert!((1..clients.len()).contains(&received), "{received} received a message during the drain");
    for (mut client, first) in clients.into_iter().zip(first) {
        if first == message {
            assert_eq!(client.recv(), goodbye);
        } else {
            assert_eq!(first, goodbye);
        }
        assert_eq!(client.recv(), Received::Eof);
    }
    server.stop();
}
