//! What the benchmarks share: a shard with clients in rooms, driven without sockets.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::event::AuthOutcome;
use shardcast_shard::flush::Written;
use shardcast_shard::{
    Ask, ConnId, Dialect, Effect, Identity, IgnisSettings, Mail, Mount, MountId, Now, Shard, ShardConfig,
    ShardId, SlowConsumer, Verdict,
};
use shardcast_wire::frame::{self, OpCode};
use shardcast_wire::{http, message};

/// The time of everything: nothing is due.
pub const NOW: Now = Now { ms: 1, unix_ms: 1_795_000_000_000 };

/// A shard whose every socket takes everything at once.
pub struct Bench {
    shard: Shard,
    /// Its clients.
    pub clients: Vec<ConnId>,
}

impl Bench {
    /// `client_count` authenticated clients, each in every one of `rooms`.
    pub fn new(client_count: usize, rooms: &[String]) -> Self {
        let shard = Shard::new(ShardId(0), Arc::new(config()), 1, NOW);
        let mut bench = Self { shard, clients: Vec::new() };
        let joins: Vec<String> = rooms.iter().map(|room| format!("{room:?}")).collect();
        let join = format!(r#"{{"event":"join","data":{{"rooms":[{}]}}}}"#, joins.join(","));
        for index in 0..client_count {
            let entropy = (index as u128).to_le_bytes();
            let id = bench.shard.handle_accept(NOW, entropy).expect("there is room");
            bench.receive(id, UPGRADE.as_bytes().to_vec());
            bench.receive_text(id, r#"{"event":"authenticate","data":{"token":"t"}}"#);
            bench.receive_text(id, &join);
            bench.clients.push(id);
            bench.flush();
        }
        bench
    }

    /// Publishes a frame to a room.
    pub fn publish(&mut self, room: &Arc<str>, frame: &Bytes) {
        let mail = Mail::Room {
            mount: MountId(0),
            room: room.clone(),
            own: None,
            frame: frame.clone(),
            exclude: None,
        };
        self.shard.handle_mail(NOW, mail);
    }

    /// Ends the turn; returns the bytes that went to sockets.
    pub fn flush(&mut self) -> usize {
        let mut total = 0;
        self.effects();
        while self.shard.poll_writes() {
            let lens: Vec<usize> = self.shard.writes().map(|(_, bytes)| bytes.len()).collect();
            for (index, len) in lens.into_iter().enumerate() {
                total += len;
                self.shard.handle_written(NOW, index, Written::Took(len));
            }
        }
        self.effects();
        total
    }

    /// One text message of a client.
    pub fn receive_text(&mut self, id: ConnId, text: &str) {
        let mut bytes = Vec::new();
        frame::encode_masked(&mut bytes, OpCode::Text, text.as_bytes(), [1, 2, 3, 4], true);
        self.receive(id, bytes);
    }

    fn receive(&mut self, id: ConnId, mut bytes: Vec<u8>) {
        let mut used = 0;
        while used < bytes.len() {
            used += self.shard.handle_bytes(NOW, id, &mut bytes[used..]);
            self.effects();
        }
    }

    fn effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            let verdict = match effect {
                Effect::Ask(Ask::Authenticate { conn, .. }) => {
                    Verdict::Auth { conn, outcome: AuthOutcome::Accepted(Identity::default()) }
                }
                Effect::Ask(Ask::ValidateRooms { conn, rooms, .. }) => Verdict::Rooms { conn, rooms },
                _ => continue,
            };
            self.shard.handle_verdict(NOW, verdict);
        }
    }
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn config() -> ShardConfig {
    let ignis = IgnisSettings {
        default_rooms: [].into(),
        auth_timeout_ms: 5_000,
        heartbeat_interval_ms: 30_000,
        heartbeat_timeout_ms: 90_000,
        forward_messages: false,
        tell_lifecycle: false,
    };
    ShardConfig {
        conns_max: 1_000_000,
        outbox_bytes_total_max: 1 << 30,
        input_bytes_total_max: 1 << 30,
        rooms_per_conn_max: 1_000,
        rooms_max: 1_000_000,
        asks_per_conn_max: 64,
        handshake_timeout_ms: 10_000,
        close_timeout_ms: 2_000,
        head: http::HeadLimits::default(),
        mounts: vec![Mount {
            path: "/ws".to_owned(),
            dialect: Dialect::Ignis(ignis),
            messages: message::Limits { message_bytes_max: 131_072, fragments_max: 1_024 },
            outbox_bytes_max: 16 << 20,
            outbox_messages_max: 262_144,
            slow_consumer: SlowConsumer::DropNewest,
            idle_timeout_ms: 60_000,
            send_pings: true,
        }],
    }
}
