//! Two real processes on one Redis: acceptance test 13 (`topic.md` §11).

use std::thread;

use shardcast_tests::binary::{Binary, wait_for};
use shardcast_tests::http::Http;
use shardcast_tests::redis::RedisServer;
use shardcast_tests::topic::{ISSUER, LINGER, TopicClient, issuer, token};

fn config(redis: &RedisServer, io: &str) -> String {
    let key = issuer().public.as_deref().expect("a public key");
    format!(
        "[server]\nio = \"{io}\"\n\
         [redis]\nurl = \"{}\"\ncanary_interval = \"200ms\"\nreconnect_delay_max = \"200ms\"\n\
         unsubscribe_linger = \"{}ms\"\n\
         [[auth.jwt.keys]]\nissuer = \"{ISSUER}\"\nkid = \"topic\"\npublic_key = '''{key}'''\n\
         [[mounts]]\npath = \"/ws\"\n\
         [[mounts]]\npath = \"/topics\"\ndialect = \"topic\"\nping_interval = \"10m\"\nidle_timeout = \"0s\"\n",
        redis.url(),
        LINGER.as_millis(),
    )
}

fn pair(redis: &RedisServer, io: &str, shards: &str) -> [Binary; 2] {
    let config = config(redis, io);
    let servers = [(); 2].map(|()| Binary::start_with_file(&config, &["--shards", shards]));
    servers.iter().for_each(wait_until_ready);
    servers
}

fn wait_until_ready(server: &Binary) {
    let mut admin = Http::connect(server.admin_address());
    wait_for("readiness", || (admin.get("/health/ready").status == 200).then_some(()));
}

fn subscriber(server: &Binary, topics: &[&str]) -> TopicClient {
    let mut client = TopicClient::connect(server.address());
    client.authorize(&token("u1"));
    topics.iter().for_each(|topic| client.subscribe(topic));
    client
}

fn exactly_once(io: &str, shards: &str) {
    let mut redis = RedisServer::start();
    let servers = pair(&redis, io, shards);
    let mut clients: Vec<_> =
        (0..8).map(|number| subscriber(&servers[number % 2], &["chat", "news"])).collect();
    let mut only_here = subscriber(&servers[0], &["here"]);
    assert_eq!(redis.publish("chat", br#"{"info":"x"}"#), 2, "one subscription a process");
    assert_eq!(redis.publish("here", b"1"), 1);
    only_here.expect_message("here", "1");
    for client in &mut clients {
        client.expect_message("chat", r#"{"info":"x"}"#);
    }
    for number in 0..200 {
        redis.publish(["chat", "news"][number % 2], number.to_string().as_bytes());
    }
    for client in &mut clients {
        for number in 0..200 {
            client.expect_message(["chat", "news"][number % 2], &number.to_string());
        }
        client.expect_nothing();
    }

    redis.kill();
    redis.restart();
    redis.wait_for_channels(&["chat", "here", "news"]);
    wait_for("both to subscribe again", || (redis.publish("chat", b"\"again\"") == 2).then_some(()));
    redis.publish("news", b"\"end\"");
    for mut client in clients {
        // One that subscribed before the other may have received it several times, whatever was tried.
        client.expect_message("chat", "\"again\"");
        while let shardcast_tests::client::Received::Text(text) = client.client().recv() {
            if text == shardcast_tests::topic::message("news", "\"end\"") {
                break;
            }
            assert_eq!(text, shardcast_tests::topic::message("chat", "\"again\""));
        }
        client.leave();
    }
    only_here.leave();
    redis.wait_for_channels(&[]);
}

/// 13.
#[test]
fn two_processes_on_one_redis_deliver_exactly_once() {
    thread::scope(|scope| {
        for (io, shards) in [("uring", "1"), ("uring", "2"), ("epoll", "1"), ("epoll", "2")] {
            let name = format!("{io} with {shards}");
            let builder = thread::Builder::new().name(name);
            builder.spawn_scoped(scope, move || exactly_once(io, shards)).expect("a thread");
        }
    });
}

/// A channel is subscribed as long as anybody anywhere wants it, and no longer; also when a process is killed.
#[test]
fn each_process_subscribes_for_itself() {
    let redis = RedisServer::start();
    let [here, mut there] = pair(&redis, "uring", "1");
    let mut stays = subscriber(&here, &["chat"]);
    let goes = subscriber(&there, &["chat", "theirs"]);
    assert_eq!(redis.channels(), ["chat", "theirs"]);
    assert_eq!(redis.publish("chat", b"1"), 2);
    there.signal(libc::SIGKILL);
    there.wait();
    drop(goes);
    redis.wait_for_channels(&["chat"]);
    assert_eq!(redis.publish("chat", b"2"), 1);
    stays.expect_message("chat", "1");
    stays.expect_message("chat", "2");
    stays.leave();
    redis.wait_for_channels(&[]);
}
