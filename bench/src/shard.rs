//! A shard with clients in rooms, driven without sockets.
//!
//! Does what the driver does, in its order, and no more, so that what is measured is the shard.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardcast_shard::address::Addresses;
use shardcast_shard::event::AuthOutcome;
use shardcast_shard::flush::Written;
use shardcast_shard::rates::RateLimits;
use shardcast_shard::{
    Ask, ClientRef, ConnId, Dialect, Effect, Encryption, Identity, IgnisSettings, Mail, Mount, MountId, Now,
    Question, Shard, ShardConfig, ShardId, SlowConsumer, Verdict,
};
use shardcast_wire::ignis::encryption::{Agreement, Entropy, HKDF_INFO, agree};
use shardcast_wire::origin::Origins;
use shardcast_wire::{http, message};

use crate::messages;

/// The time of everything: nothing is due.
pub const NOW: Now = Now { ms: 1, unix_ms: 1_795_000_000_000 };

/// The shard of a [`Bench`].
pub const SHARD: ShardId = ShardId(0);

/// A shard and its clients.
pub struct Bench {
    shard: Shard,
    clients: Vec<ConnId>,
    encrypted: BTreeSet<ConnId>,
    /// Who authenticates now is encrypted.
    encrypts: bool,
    /// Whose socket was full.
    awaiting: Vec<ConnId>,
    /// The batch: who is offered how many bytes.
    offered: Vec<(ConnId, usize)>,
}

impl Bench {
    /// `client_count` authenticated clients, client `i` in the rooms `rooms_of(i)`.
    pub fn new(client_count: usize, rooms_of: impl Fn(usize) -> Vec<String>) -> Self {
        Self::mixed(client_count, rooms_of, |_| false)
    }

    /// The same with client `i` encrypted if `is_encrypted(i)`.
    pub fn mixed(
        client_count: usize,
        rooms_of: impl Fn(usize) -> Vec<String>,
        is_encrypted: impl Fn(usize) -> bool,
    ) -> Self {
        let mut bench = Self {
            shard: Shard::new(SHARD, Arc::new(config()), 1, NOW),
            clients: Vec::new(),
            encrypted: BTreeSet::new(),
            encrypts: false,
            awaiting: Vec::new(),
            offered: Vec::new(),
        };
        for index in 0..client_count {
            let rooms: Vec<String> = rooms_of(index).iter().map(|room| format!("{room:?}")).collect();
            let join = format!(r#"{{"event":"join","data":{{"rooms":[{}]}}}}"#, rooms.join(","));
            let entropy = (index as u128).to_le_bytes();
            let id =
                bench.shard.handle_accept(NOW, entropy, Ipv4Addr::LOCALHOST.into()).expect("there is room");
            bench.encrypts = is_encrypted(index);
            if bench.encrypts {
                bench.encrypted.insert(id);
            }
            bench.receive(id, &mut UPGRADE.to_vec());
            bench.receive(id, &mut messages::client_frame(AUTHENTICATE));
            bench.receive(id, &mut messages::client_frame(&join));
            bench.clients.push(id);
            bench.flush();
        }
        bench
    }

    /// Its clients.
    pub fn clients(&self) -> &[ConnId] {
        &self.clients
    }

    /// Publishes a frame to a room, but not to those in `exclude`.
    pub fn publish(&mut self, room: &Arc<str>, frame: &Bytes, exclude: Option<&Arc<[ClientRef]>>) {
        let mail = Mail::Room {
            mount: MountId(0),
            room: room.clone(),
            own: None,
            frame: frame.clone().into(),
            exclude: exclude.cloned(),
        };
        self.shard.handle_mail(NOW, mail);
    }

    /// What a client sent, unmasked in place.
    pub fn receive(&mut self, id: ConnId, bytes: &mut [u8]) {
        let mut used = 0;
        while used < bytes.len() {
            used += self.shard.handle_bytes(NOW, id, &mut bytes[used..]);
            self.effects();
        }
    }

    /// Ends the turn. Every socket takes all it is offered. Returns the bytes taken.
    pub fn flush(&mut self) -> usize {
        self.flush_into(|_, offered| offered)
    }

    /// Ends the turn, and those that follow until everything is encrypted. Every socket takes all it is offered.
    /// Returns how long it took before anything was encrypted: what clear clients cost.
    pub fn flush_timing_clear(&mut self) -> Duration {
        let start = Instant::now();
        let mut clear = None;
        loop {
            self.effects();
            loop {
                let before = start.elapsed();
                if !self.shard.poll_writes() {
                    break;
                }
                self.offered.clear();
                self.offered.extend(self.shard.writes().map(|(id, bytes)| (id, bytes.len())));
                if self.offered.first().is_some_and(|(id, _)| self.encrypted.contains(id)) {
                    clear.get_or_insert(before);
                }
                for index in 0..self.offered.len() {
                    self.shard.handle_written(NOW, index, Written::Took(self.offered[index].1));
                }
            }
            if !self.shard.wants_turn() {
                return clear.unwrap_or_else(|| start.elapsed());
            }
        }
    }

    /// Ends the turn. `take` says how many of the offered bytes a socket takes. Returns the bytes taken.
    pub fn flush_into(&mut self, mut take: impl FnMut(ConnId, usize) -> usize) -> usize {
        let mut total = 0;
        self.effects();
        let mut offered = std::mem::take(&mut self.offered);
        while self.shard.poll_writes() {
            offered.clear();
            offered.extend(self.shard.writes().map(|(id, bytes)| (id, bytes.len())));
            for (index, &(id, len)) in offered.iter().enumerate() {
                let took = take(id, len);
                total += took;
                self.shard.handle_written(NOW, index, Written::Took(took));
            }
        }
        self.offered = offered;
        self.effects();
        total
    }

    /// All sockets that were full take bytes again. Returns how many that are.
    pub fn resume(&mut self) -> usize {
        for &id in &self.awaiting {
            self.shard.handle_writable(id);
        }
        let resumed = self.awaiting.len();
        self.awaiting.clear();
        resumed
    }

    fn effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            let verdict = match effect {
                Effect::Ask(Ask { conn, question, .. }) => match question {
                    Question::Authenticate { .. } => {
                        let identity = Identity::default();
                        let outcome = if self.encrypts {
                            AuthOutcome::Encrypted(identity, Box::new(agreement()))
                        } else {
                            AuthOutcome::Accepted(identity)
                        };
                        Verdict::Auth { conn, outcome }
                    }
                    Question::ValidateRooms { rooms } => Verdict::Rooms { conn, rooms },
                    _ => continue,
                },
                Effect::AwaitWritable(id) => {
                    self.awaiting.push(id);
                    continue;
                }
                _ => continue,
            };
            self.shard.handle_verdict(NOW, verdict);
        }
    }
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AUTHENTICATE: &str = r#"{"event":"authenticate","data":{"token":"t"}}"#;

/// A key exchange with a client whose key never changes.
pub fn agreement() -> Agreement {
    let entropy = Entropy::from_random(&[7; Entropy::LEN]);
    agree(CLIENT_PUBLIC_KEY, HKDF_INFO, &entropy).expect("both keys are good")
}

const CLIENT_PUBLIC_KEY: &str =
    "BAH63XBNHbErJSrk/nBjrFNaOyUovbpYe4g9/UrgzLjfs+s3f7seHDZFXwN7LGaroFTSpI4r/xBYDhApTEy6XUM=";

fn config() -> ShardConfig {
    let ignis = IgnisSettings {
        default_rooms: [].into(),
        auth_timeout_ms: 5_000,
        heartbeat_interval_ms: 30_000,
        heartbeat_timeout_ms: 90_000,
        forward_messages: false,
        tell_lifecycle: false,
        encryption: Encryption::default(),
    };
    ShardConfig {
        conns_max: 1_000_000,
        handshakes_max: 1_000_000,
        outbox_bytes_total_max: 1 << 30,
        input_bytes_total_max: 1 << 30,
        rooms_per_conn_max: 1_000,
        rooms_max: 1_000_000,
        asks_per_conn_max: 64,
        handshake_timeout_ms: 10_000,
        close_timeout_ms: 2_000,
        head: http::HeadLimits::default(),
        addresses: Addresses::default(),
        counts_addresses: false,
        rates: RateLimits::default(),
        mounts: vec![Mount {
            path: "/ws".to_owned(),
            dialect: Dialect::Ignis(ignis),
            origins: Origins::default(),
            compression: false,
            messages: message::Limits { message_bytes_max: 131_072, fragments_max: 1_024 },
            outbox_bytes_max: 16 << 20,
            outbox_messages_max: 262_144,
            slow_consumer: SlowConsumer::DropNewest,
            idle_timeout_ms: 60_000,
            send_pings: true,
        }],
    }
}
