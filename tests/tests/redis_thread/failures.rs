//! What happens when Redis or the way to it fails: attack 72. Each failure leaves one generation more if messages of
//! others may have been missed, readiness red until a canary came back, and a link that works again.

use std::io;

use shardcast::redis::{PublishOutcome, Trouble};
use shardcast_tests::redis::RedisServer;

use crate::proxy::Proxy;
use crate::rig::{Instance, eventually};
use crate::{admin, run};

/// Publishes through `from` until `to` has it, as a link that was just restored may still be on its way there.
#[track_caller]
fn assert_linked(from: &Instance, to: &Instance) {
    assert_eq!(from.publish("linked"), PublishOutcome::Queued);
    assert_eq!(to.next(1), r#"user "u1" {"event":"linked"}"#);
}

/// Waits until the subscription was made again and is proven.
#[track_caller]
fn await_generation(instance: &Instance, generation: u64) {
    eventually("resubscribed and ready", || {
        let status = instance.redis.status();
        status.generation == generation && status.ready
    });
    assert_eq!(instance.count(|c| &c.redis_gaps), generation);
    assert_eq!(instance.redis.status().last_error, None);
}

#[test]
fn redis_killed_and_restarted() {
    let mut redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    assert_linked(&first, &second);
    redis.kill();
    eventually("red and local", || {
        !first.redis.status().ready && first.publish("lost") == PublishOutcome::LocalOnly
    });
    let status = first.redis.status();
    assert!(!status.connected && status.generation == 0, "{status:?}");
    assert!(first.count(|c| &c.redis_local_only) > 0);
    eventually("told why", || {
        first.redis.status().last_error == Some(Trouble::Unreachable(io::ErrorKind::ConnectionRefused))
    });
    redis.restart();
    for instance in [&first, &second] {
        await_generation(instance, 1);
    }
    second.waiting(1);
    assert_linked(&first, &second);
    redis.stop();
    eventually("red", || !first.redis.status().connected && !second.redis.status().connected);
    redis.restart();
    for instance in [&first, &second] {
        await_generation(instance, 2);
    }
    assert_linked(&second, &first);
}

#[test]
fn redis_absent_at_start() {
    let mut redis = RedisServer::start();
    redis.kill();
    let instance = Instance::start("me", &redis.url());
    assert_eq!(instance.publish("early"), PublishOutcome::LocalOnly);
    eventually("told why", || instance.redis.status().last_error.is_some());
    redis.restart();
    await_generation(&instance, 0);
    let other = Instance::start("other", &redis.url()).ready();
    assert_linked(&other, &instance);
}

#[test]
fn the_subscriber_killed_by_an_operator() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    let mut admin = admin(&redis);
    for generation in 1..4 {
        run::<u64>(&mut admin, "CLIENT KILL TYPE pubsub");
        for instance in [&first, &second] {
            await_generation(instance, generation);
        }
        assert_linked(&first, &second);
    }
}

#[test]
fn the_publisher_killed_by_an_operator_is_no_gap() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    let mut admin = admin(&redis);
    let own = run::<u64>(&mut admin, "CLIENT ID");
    assert_eq!(run::<u64>(&mut admin, "CLIENT KILL TYPE normal SKIPME yes"), 2);
    eventually("reconnected", || {
        let clients = run::<String>(&mut admin, "CLIENT LIST TYPE normal");
        let ids =
            clients.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok());
        ids.filter(|id: &u64| *id > own).count() == 2
    });
    for instance in [&first, &second] {
        await_generation(instance, 0);
    }
    assert_linked(&first, &second);
}

#[test]
fn kicked_for_a_full_output_buffer() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    let mut admin = admin(&redis);
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0"];
    redis::cmd(limit[0]).arg(&limit[1..]).query::<()>(&mut admin).expect("configured");
    redis.publish("ws:broadcast", &vec![b'x'; 4 << 20]);
    for instance in [&first, &second] {
        await_generation(instance, 1);
    }
    assert_linked(&first, &second);
}

#[test]
fn a_half_open_subscription_is_given_up() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.address());
    let behind = Instance::start("behind", &proxy.url()).ready();
    let direct = Instance::start("direct", &redis.url()).ready();
    assert_linked(&direct, &behind);
    proxy.freeze();
    // The publisher finds out by its own time limit and goes through a new connection, as behind a failover; only
    // then can canaries prove that the subscription is dead.
    await_generation(&behind, 1);
    assert_linked(&direct, &behind);
    assert_linked(&behind, &direct);
}

#[test]
fn a_stalled_redis_is_no_gap() {
    let redis = RedisServer::start();
    let first = Instance::start("first", &redis.url()).ready();
    let second = Instance::start("second", &redis.url()).ready();
    run::<()>(&mut admin(&redis), "CLIENT PAUSE 3000 ALL");
    eventually("red, as no canary came back", || !first.redis.status().ready);
    assert!(first.redis.status().connected);
    assert_linked(&first, &second);
    for instance in [&first, &second] {
        await_generation(instance, 0);
    }
}

#[test]
fn a_password_wanted_or_refused() {
    let redis = RedisServer::start();
    run::<()>(&mut admin(&redis), "CONFIG SET requirepass hunter2");
    let without = Instance::start("without", &redis.url());
    let wrong = Instance::start("wrong", &format!("redis://:swordfish@{}", redis.address()));
    let right = Instance::start("right", &format!("redis://:hunter2@{}/5", redis.address())).ready();
    for (instance, trouble) in [(&without, Trouble::AuthRequired), (&wrong, Trouble::AuthRefused)] {
        eventually("told why", || instance.redis.status().last_error == Some(trouble));
        assert!(!instance.redis.status().connected);
        assert_eq!(instance.publish("x"), PublishOutcome::LocalOnly);
        let shown = format!("{:?} {:?}", instance.redis, instance.redis.status());
        assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
    }
    let open = format!("redis://:hunter2@{}/", redis.address());
    let mut admin = redis::Client::open(open).and_then(|client| client.get_connection()).expect("let in");
    run::<()>(&mut admin, "CONFIG SET requirepass ");
    await_generation(&without, 0);
    assert_linked(&without, &right);
}

#[test]
fn an_acl_without_publish() {
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    run::<()>(
        &mut admin,
        "ACL SETUSER app on >pw +subscribe +psubscribe +unsubscribe +punsubscribe allchannels",
    );
    let instance = Instance::start("me", &format!("redis://app:pw@{}", redis.address()));
    eventually("told why", || instance.redis.status().last_error == Some(Trouble::Forbidden));
    let good = r#"{"serverId":"other","type":"user","target":"u1","event":"heard"}"#;
    eventually("subscribed", || redis.publish("ws:user:u1", good.as_bytes()) == 1);
    assert_eq!(instance.next(1), r#"user "u1" {"event":"heard"}"#, "what is allowed works");
    assert!(!instance.redis.status().ready);
    eventually("counted", || {
        instance.publish("refused");
        instance.count(|c| &c.redis_publish_failed) > 0
    });
    run::<()>(&mut admin, "ACL SETUSER app +publish");
    eventually("ready", || instance.redis.status().ready);
}

#[test]
fn an_acl_without_our_channels() {
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    run::<()>(&mut admin, "ACL SETUSER app on >pw +@all resetchannels &ws:broadcast");
    let instance = Instance::start("me", &format!("redis://app:pw@{}", redis.address()));
    eventually("told why", || instance.redis.status().last_error == Some(Trouble::Forbidden));
    assert!(!instance.redis.status().connected);
    let grant = "ACL SETUSER app &ws:room:* &ws:client:* &ws:user:* &shardcast:canary:*";
    run::<()>(&mut admin, grant);
    await_generation(&instance, 0);
}

#[test]
fn a_replica_is_not_good_enough() {
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    run::<()>(&mut admin, "REPLICAOF 127.0.0.1 1");
    let instance = Instance::start("me", &redis.url());
    eventually("told why", || instance.redis.status().last_error == Some(Trouble::Replica));
    assert_eq!(instance.publish("x"), PublishOutcome::LocalOnly);
    assert!(!instance.redis.status().ready);
    run::<()>(&mut admin, "REPLICAOF NO ONE");
    await_generation(&instance, 0);
}

#[test]
fn too_many_clients() {
    let redis = RedisServer::start();
    let mut admin = admin(&redis);
    run::<()>(&mut admin, "CONFIG SET maxclients 1");
    let instance = Instance::start("me", &redis.url());
    eventually("told why", || {
        // Redis may close the socket before its sentence is read.
        matches!(instance.redis.status().last_error, Some(Trouble::ClientsMax | Trouble::Lost))
    });
    run::<()>(&mut admin, "CONFIG SET maxclients 100");
    await_generation(&instance, 0);
}

#[test]
fn what_is_no_redis() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let chatter = std::thread::spawn(move || {
        use std::io::Write;
        for answer in
            ["HTTP/1.1 400 Bad Request\r\n\r\n", "-MISCONF no\r\n", "$-1\r\n:1\r\n*0\r\n", "\0\0\0\0"]
        {
            let (mut socket, _) = listener.accept().expect("a connection");
            // The other side may have hung up, which is as good.
            drop(socket.write_all(answer.as_bytes()));
        }
        listener
    });
    let mut instance = Instance::start("me", &format!("redis://{address}/"));
    drop(chatter.join().expect("every answer was given"));
    eventually("told why", || instance.redis.status().last_error.is_some());
    assert!(!instance.redis.status().connected);
    instance.stop();
}
