//! The servers a recording can be replayed against: ours, and the real Ignis, which shows that the replay is fair.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::engine::{Emit, Engine};
use shardcast::threads::Server;
use shardcast_shard::ClientView;
use shardcast_wire::ignis::{ClientId, Destination, Payload, UserId};

use super::options::Options;
use super::policy::FixturePolicy;
use super::{pause, poll};
use crate::bun::IgnisServer;
use crate::redis::RedisServer;

/// Between two tries of a shard whose mailbox is full.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// One or more servers under the fixture policy, numbered from 0.
pub(super) trait Target {
    /// Where a server listens.
    fn address(&self, server: usize) -> SocketAddr;

    /// What a server calls itself on Redis.
    fn server_id(&self, server: usize) -> String;

    /// Calls the API of a server, in the form of the recordings.
    fn call(&mut self, server: usize, call: &Value);

    /// `id`, `userId` and `rooms` of a client of the first server.
    fn client(&mut self, id: &str) -> Option<Value>;

    /// Bytes that wait in the first server for a client to read, if it tells.
    fn backlog(&mut self, id: &str) -> Option<usize>;

    /// What the first server's application was asked, if it keeps a log.
    fn asked(&self) -> Option<Vec<Value>>;

    /// The client that tried to authenticate last, if the application tells.
    fn last_authenticating(&self) -> Option<String>;
}

/// Waits until all of `count` servers listen to every channel of Ignis.
///
/// # Panics
/// When they do not.
pub(super) fn await_subscriptions(redis: &RedisServer, count: usize) {
    // What is no envelope is dropped by every server.
    let channels = ["ws:broadcast", "ws:room:-", "ws:client:-", "ws:user:-"];
    let all_heard = || channels.iter().all(|channel| redis.publish(channel, b"{}") >= count as u64);
    assert!(poll(|| all_heard().then_some(())).is_some(), "the servers did not subscribe");
}

/// Shardcast servers inside this process.
pub(super) struct Shardcasts {
    servers: Vec<Server>,
    policies: Vec<Arc<FixturePolicy>>,
    /// Where looks into shards wait.
    runtime: tokio::runtime::Runtime,
}

impl Shardcasts {
    /// Starts `count` servers.
    ///
    /// # Panics
    /// When one does not start.
    pub(super) fn start(count: usize, shards: usize, options: &Options, redis: Option<&RedisServer>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let url = redis.map(RedisServer::url);
        let config = options.config(shards, url.as_deref());
        let without: Vec<&str> = options.without.iter().map(String::as_str).collect();
        let mut targets = Self { servers: Vec::new(), policies: Vec::new(), runtime };
        for _ in 0..count {
            let policy = Arc::new(FixturePolicy::without(&without));
            let server = Server::start(&config, policy.clone());
            let server = server.unwrap_or_else(|error| panic!("the server did not start: {error}"));
            policy.attach(server.engine().clone());
            targets.policies.push(policy);
            targets.servers.push(server);
        }
        if let Some(redis) = redis {
            await_subscriptions(redis, count);
        }
        targets
    }

    /// Delivers on this server only. A shard whose mailbox is full is tried again: nothing was posted to it.
    fn emit_local(&self, server: usize, to: Destination<'_>, call: &Value) {
        let event = call["event"].as_str().expect("an event");
        let data = call.get("data").map(Value::to_string);
        let payload = Payload::new(event, data.as_deref()).expect("data is JSON");
        let exclude = call["exclude"].as_array().into_iter().flatten();
        let exclude = exclude.map(|id| id.as_str().expect("an id").to_owned()).collect();
        let emit = Emit { to, payload, exclude };
        while self.servers[server].engine().emit_local(&emit).expect("an Ignis mount").refused > 0 {
            pause(RETRY_INTERVAL);
        }
    }

    fn look(&self, id: &str) -> Option<ClientView> {
        self.runtime.block_on(self.servers[0].engine().client(ClientId::parse(id)?))
    }

    /// `send` of Ignis: a destination is a client of this server, else a room, else everyone.
    fn send(&self, server: usize, call: &Value) {
        let (topic, data) = (call["payload"]["topic"].as_str(), call["payload"].get("data"));
        let (Some(topic), Some(data)) = (topic.filter(|topic| !topic.is_empty()), data) else { return };
        let engine = self.servers[server].engine();
        let to = match call["destination"].as_str().filter(|name| !name.is_empty()) {
            None => Destination::Broadcast,
            Some(name) if is_client(engine, name) => Destination::Client(name.into()),
            Some(name) => Destination::Room(name.into()),
        };
        let payload = Payload::new(topic, Some(&data.to_string())).expect("data is JSON");
        engine.emit(&Emit { to, payload, exclude: Vec::new() }).expect("an Ignis mount");
    }
}

fn is_client(engine: &Engine, name: &str) -> bool {
    ClientId::parse(name).is_some_and(|id| engine.router().directory().client(id).is_some())
}

impl Target for Shardcasts {
    fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].addresses()[0]
    }

    fn server_id(&self, server: usize) -> String {
        self.servers[server].engine().server_id().to_owned()
    }

    fn call(&mut self, server: usize, call: &Value) {
        let text = |key: &str| call[key].as_str().unwrap_or_else(|| panic!("no {key} in {call}"));
        match text("op") {
            "send" => self.send(server, call),
            "sendToClient" => self.emit_local(server, Destination::Client(text("clientId").into()), call),
            "sendToUser" => {
                if let Some(user) = UserId::from_json(&call["userId"].to_string()) {
                    self.emit_local(server, Destination::user(&user), call);
                }
            }
            "sendToRoom" => self.emit_local(server, Destination::Room(text("room").into()), call),
            "broadcast" => self.emit_local(server, Destination::Broadcast, call),
            "shutdown" => self.servers[server].drain(),
            other => panic!("unknown call: {other}"),
        }
    }

    fn client(&mut self, id: &str) -> Option<Value> {
        let view = self.look(id)?;
        let rooms: Vec<&str> = view.rooms.iter().map(AsRef::as_ref).collect();
        let mut client = json!({"id": view.id.to_string(), "rooms": rooms});
        if let Some(user) = view.user {
            client["userId"] = serde_json::from_str(user.as_json()).expect("ids are JSON");
        }
        Some(client)
    }

    fn backlog(&mut self, id: &str) -> Option<usize> {
        Some(self.look(id)?.outbox_bytes)
    }

    fn asked(&self) -> Option<Vec<Value>> {
        Some(self.policies[0].asked())
    }

    fn last_authenticating(&self) -> Option<String> {
        self.policies[0].last_authenticating()
    }
}

impl Drop for Shardcasts {
    fn drop(&mut self) {
        for server in self.servers.drain(..) {
            server.drain();
            server.join();
        }
    }
}

/// Real Ignis servers.
pub(super) struct Ignises {
    servers: Vec<IgnisServer>,
}

impl Ignises {
    /// Starts `count` servers.
    ///
    /// # Panics
    /// When `tests/interop` is not installed or one does not start.
    pub(super) fn start(count: usize, options: &Options, redis: &RedisServer) -> Self {
        let servers = (0..count).map(|_| IgnisServer::start(redis, &options.helper)).collect();
        await_subscriptions(redis, count);
        Self { servers }
    }
}

impl Target for Ignises {
    fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].address()
    }

    fn server_id(&self, server: usize) -> String {
        self.servers[server].server_id().to_owned()
    }

    fn call(&mut self, server: usize, call: &Value) {
        // A callback cannot be passed to another process.
        let mut call = call.clone();
        call.as_object_mut().expect("calls are objects").remove("cb");
        self.servers[server].request(&call);
    }

    fn client(&mut self, id: &str) -> Option<Value> {
        let clients = self.servers[0].request(json!({"op": "clients"}));
        let client = clients["clients"].as_array()?.iter().find(|client| client["id"] == id)?;
        let mut found = json!({"id": id, "rooms": client["rooms"]});
        if let Some(user) = client.get("userId") {
            found["userId"] = user.clone();
        }
        Some(found)
    }

    fn backlog(&mut self, _id: &str) -> Option<usize> {
        None
    }

    fn asked(&self) -> Option<Vec<Value>> {
        None
    }

    fn last_authenticating(&self) -> Option<String> {
        None
    }
}
