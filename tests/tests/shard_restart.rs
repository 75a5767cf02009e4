//! A bug of ours in one shard costs that shard's connections and nothing else.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use shardcast::config::{Auto, Config};
use shardcast::policy::Policy;
use shardcast::threads::Server;
use shardcast_shard::{Mail, MountId, ShardId};
use shardcast_tests::client::{Client, Received};

const PATIENCE: Duration = Duration::from_secs(20);

/// A letter that no sender of ours writes: its mount does not exist, which is an assertion in the shard.
fn poison() -> Mail {
    Mail::Room {
        mount: MountId(200),
        room: Arc::from("x"),
        own: None,
        frame: bytes::Bytes::new().into(),
        exclude: None,
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_shard_that_panics_restarts_empty_and_the_others_live_on() {
    let mut config = Config::default();
    config.server.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    config.server.shards = Auto::Fixed(2);
    config.server.drain_period = Duration::ZERO;
    config.admin.listen = None;
    config.auth.dev = true;
    let server = Server::start(&config, Arc::new(Policy::new(&config))).expect("starts");
    let address = server.addresses()[0];
    let directory = server.engine().router().directory();

    let mut clients: Vec<(Client, ShardId)> = Vec::new();
    wait_until("both shards have clients", || {
        let mut client = Client::connect(address, "/ws");
        let connected = client.authenticate("ok", "u");
        let id = connected["id"].as_str().expect("an id");
        let id = shardcast_wire::ignis::ClientId::parse(id).expect("an id");
        clients.push((client, directory.client(id).expect("known").1.shard));
        [ShardId(0), ShardId(1)].iter().all(|shard| clients.iter().any(|(_, s)| s == shard))
    });

    assert!(server.engine().router().shard(ShardId(1)).post(poison()));
    let status = server.engine().status().clone();
    wait_until("the shard restarted", || status.process.shards_restarted.load(Ordering::Relaxed) == 1);
    wait_until("the shard is up", || status.shards_up());

    for (client, shard) in &mut clients {
        if *shard == ShardId(1) {
            let end = client.recv_within(PATIENCE);
            assert!(matches!(end, Received::Eof | Received::Cut), "{end:?}");
        } else {
            client.fence();
        }
    }
    wait_until("the restarted shard takes clients", || {
        let mut client = Client::connect(address, "/ws");
        let connected = client.authenticate("ok", "late");
        let id = connected["id"].as_str().expect("an id");
        let id = shardcast_wire::ignis::ClientId::parse(id).expect("an id");
        directory.client(id).expect("known").1.shard == ShardId(1)
    });
    drop(clients);
    server.drain();
    server.join();
}
