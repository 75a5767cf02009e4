//! Several instances on one Redis: exactly once everywhere, and what Redis' absence costs.

use serde_json::json;
use shardcast_tests::client::{Client, Received};
use shardcast_tests::redis::RedisServer;
use shardcast_tests::server::{TestServer, config, emit_except, with_redis};
use shardcast_wire::ignis::Destination;

fn pair(redis: &RedisServer) -> [TestServer; 2] {
    let config = with_redis(config(), &redis.url());
    let servers = [(); 2].map(|()| TestServer::start(&config));
    servers.iter().for_each(TestServer::wait_until_ready);
    servers
}

fn join(client: &mut Client, rooms: &[&str]) {
    client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
    client.settle();
}

fn user(id: &str) -> Destination<'_> {
    Destination::User(json!(id).to_string().into())
}

fn event(name: &str) -> Received {
    Received::Text(format!(r#"{{"event":"{name}","data":null}}"#))
}

/// Receives until the event `end`, which was emitted last.
fn events_until(client: &mut Client, end: &str) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let message = client.recv_json();
        let name = message["event"].as_str().expect("an event").to_owned();
        if name == end {
            return names;
        }
        names.push(name);
    }
}

#[test]
fn two_instances_deliver_exactly_once_to_every_target() {
    let redis = RedisServer::start();
    let servers = pair(&redis);
    // On each instance a client on each shard.
    let mut clients: Vec<_> = servers.iter().flat_map(TestServer::clients_on_two_shards).collect();
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        join(client, if index % 2 == 0 { &["all", "even"] } else { &["all"] });
    }
    let ids: Vec<_> = clients.iter().map(|(_, id)| id.clone()).collect();
    for (number, server) in servers.iter().enumerate() {
        let name = |what: &str| format!("{what}-from-{number}");
        let emit = |to: Destination<'_>, what: &str, exclude: &[&str]| {
            emit_except(server.engine(), to, &name(what), "null", exclude);
        };
        emit(Destination::Room("all".into()), "all-but-0-3", &[&ids[0], &ids[3]]);
        emit(Destination::Room("even".into()), "even", &[]);
        emit(user("spread"), "user", &[]);
        for (index, id) in ids.iter().enumerate() {
            emit(Destination::Client(id.as_str().into()), &format!("client-{index}"), &[]);
            emit(Destination::Room(id.as_str().into()), &format!("own-{index}"), &[]);
        }
        emit(Destination::Broadcast, "broadcast-but-1", &[&ids[1]]);
        emit(Destination::Broadcast, "end", &[]);
    }
    for (index, (client, _)) in clients.iter_mut().enumerate() {
        let expected = |number: usize| -> Vec<String> {
            let own = [format!("client-{index}"), format!("own-{index}")];
            let mut names = Vec::new();
            names.extend((index != 0 && index != 3).then(|| "all-but-0-3".to_owned()));
            names.extend((index % 2 == 0).then(|| "even".to_owned()));
            names.push("user".to_owned());
            names.extend(own);
            names.extend((index != 1).then(|| "broadcast-but-1".to_owned()));
            names.push("end".to_owned());
            names.into_iter().map(|name| format!("{name}-from-{number}")).collect()
        };
        // Each instance's messages arrive in its order; those of two instances in any.
        let mut received = [Vec::new(), Vec::new()];
        for _ in 0..expected(0).len() + expected(1).len() {
            let name = client.recv_json()["event"].as_str().expect("an event").to_owned();
            received[usize::from(name.ends_with('1'))].push(name);
        }
        assert_eq!(received, [expected(0), expected(1)], "client {index}");
        client.settle();
        assert_eq!(client.take_pending(), [], "client {index}: twice");
    }
    for server in &servers {
        let counts = server.counts();
        assert_eq!(counts.of("redis_malformed") + counts.of("redis_gaps"), 0, "{counts:?}");
        assert_eq!(counts.of("redis_received"), 2 * counts.of("redis_own"), "{counts:?}");
    }
}

#[test]
fn messages_of_each_instance_stay_in_order_everywhere() {
    const MESSAGES: u64 = 500;
    let redis = RedisServer::start();
    let servers = pair(&redis);
    let mut clients: Vec<_> = servers.iter().flat_map(TestServer::clients_on_two_shards).collect();
    for (client, _) in &mut clients {
        join(client, &["room"]);
    }
    std::thread::scope(|scope| {
        for (instance, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let data = json!([instance, number]).to_string();
                    server.emit(Destination::Room("room".into()), "e", &data);
                }
            });
        }
    });
    for (client, _) in &mut clients {
        let mut next = [0, 0];
        for _ in 0..2 * MESSAGES {
            let message = client.recv_json();
            let part = |index: usize| message["data"][index].as_u64().expect("a number");
            let next = &mut next[part(0) as usize];
            assert_eq!(part(1), *next, "{message}");
            *next += 1;
        }
        client.settle();
        assert_eq!(client.take_pending(), []);
    }
}

#[test]
fn clients_stay_while_redis_is_killed_and_restarted() {
    let mut redis = RedisServer::start();
    let servers = pair(&redis);
    let [(mut here, _), (mut there, _)] = [servers[0].client("here"), servers[1].client("there")];
    join(&mut here, &["room"]);
    join(&mut there, &["room"]);
    let emit = |name: &str| servers[0].emit(Destination::Room("room".into()), name, "null");
    emit("before");
    assert_eq!([here.recv(), there.recv()], [event("before"), event("before")]);

    for round in 1..=2 {
        redis.kill();
        // Noticed by both, as nothing comes back any more.
        for server in &servers {
            shardcast_tests::binary::wait_for("Redis to be missed", || {
                let status = server.engine().redis().expect("a link").status();
                (!status.ready && status.last_error.is_some()).then_some(())
            });
        }
        emit("alone");
        assert_eq!(here.recv(), event("alone"), "local delivery needs no Redis");
        // What another connection of the server has not noticed yet fails while it is sent.
        servers[0].wait_until("the message to be missed elsewhere", |counts| {
            counts.of("redis_local_only") + counts.of("redis_publish_failed") >= round
        });

        redis.restart();
        servers.iter().for_each(TestServer::wait_until_ready);
        for (server, name) in servers.iter().zip(["from-here", "from-there"]) {
            server.emit(Destination::Room("room".into()), name, "null");
            assert_eq!([here.recv(), there.recv()], [event(name), event(name)], "round {round}");
        }
        for server in &servers {
            assert_eq!(server.counts().of("redis_gaps"), round, "each loss of the subscription is counted");
        }
    }
    servers[0].emit(Destination::Broadcast, "end", "null");
    assert_eq!(events_until(&mut here, "end"), [""; 0]);
    assert_eq!(events_until(&mut there, "end"), [""; 0], "what was missed is not delivered late");
}
