//! Carrying out what a shard asks for, as its driver would, and comparing it with what the model owes.

use std::sync::Arc;

use shardcast_shard::Question as Asked;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_shard::{
    Ask, ClientRef, ClientView, ConnId, Effect, Identity, Listening, MountId, ShardId, Verdict,
};
use shardcast_wire::ignis::encryption::{Agreement, Entropy, HKDF_INFO, agree};
use shardcast_wire::ignis::{BROADCAST_ROOM, ClientId};

use super::super::fault::Fault;
use super::super::model::{Auth, Question};
use super::World;

/// The key of all simulated clients; the server's keys differ.
const PUBLIC_KEY: &str =
    "BAH63XBNHbErJSrk/nBjrFNaOyUovbpYe4g9/UrgzLjfs+s3f7seHDZFXwN7LGaroFTSpI4r/xBYDhApTEy6XUM=";

impl World<'_> {
    pub(super) fn run_effects(&mut self, shard: usize) {
        while let Some(effect) = self.hosts[shard].shard.poll_effect() {
            self.note(|| format!("shard {shard} wants {effect:?}"));
            self.run_effect(shard, effect);
        }
        if self.scenario.checks_every_event {
            self.hosts[shard].shard.check_invariants();
            self.mirror.check(shard, &self.model);
        }
    }

    fn run_effect(&mut self, shard: usize, effect: Effect) {
        let id = ShardId(shard as u8);
        match effect {
            Effect::Ask(ask) => self.put(shard, ask),
            Effect::ClientUp { client_id, conn, mount } => {
                self.mirror.client_up(client_id, usize::from(mount.0), shard, conn);
                self.directory.client_up(client_id, mount, ClientRef { shard: id, conn });
            }
            Effect::ClientDown { client_id, .. } => {
                self.mirror.client_down(client_id);
                if self.may_fail(Fault::ForgetDown) {
                    self.totals.fault_done = true;
                    return;
                }
                self.directory.client_down(client_id);
            }
            Effect::UserUp(mount, user) => {
                self.mirror.user_up(usize::from(mount.0), user.clone(), shard);
                self.directory.user_up(mount, user, id);
            }
            Effect::UserDown(mount, user) => {
                self.mirror.user_down(usize::from(mount.0), user.clone(), shard);
                self.directory.user_down(mount, &user, id);
            }
            Effect::Listen { conn, mount, room } => {
                self.mirror.listen(usize::from(mount.0), &room, shard);
                self.listen(shard, conn, room);
            }
            Effect::Unlisten(mount, room) => {
                if self.may_fail(Fault::ForgetUnlisten) {
                    self.totals.fault_done = true;
                    return;
                }
                self.mirror.unlisten(usize::from(mount.0), &room, shard);
            }
            Effect::RoomUp(mount, room) => {
                self.mirror.room_up(usize::from(mount.0), &room, shard);
                self.directory.room_up(mount, room, id);
            }
            Effect::RoomDown(mount, room) => {
                self.mirror.room_down(usize::from(mount.0), &room, shard);
                self.directory.room_down(mount, &room, id);
            }
            Effect::DeflateUp(mount) => {
                self.mirror.deflate_up(usize::from(mount.0), shard);
                self.directory.deflate_up(mount, id);
            }
            Effect::DeflateDown(mount) => {
                self.mirror.deflate_down(usize::from(mount.0), shard);
                self.directory.deflate_down(mount, id);
            }
            Effect::AwaitWritable(conn) => {
                let conn = self.model.find(shard, conn);
                let was = std::mem::replace(&mut self.model.conns[conn].awaiting, true);
                assert!(!was, "connection {conn} waits for its socket twice");
            }
            Effect::Fin(conn) => {
                let conn = self.model.find(shard, conn);
                let owed = std::mem::take(&mut self.model.conns[conn].owed.fin);
                assert!(owed, "connection {conn} ends before its time");
                self.peers[conn].is_finished = true;
            }
            Effect::Drop(conn) => self.drop_peer(shard, conn),
            Effect::HandOff { conn, received, .. } => {
                let conn = self.model.find(shard, conn);
                let head = self.model.conns[conn].owed.hand_off.take();
                let head = head.unwrap_or_else(|| panic!("connection {conn} is handed off"));
                assert!(received.starts_with(&head), "connection {conn} is handed off with other bytes");
                assert_eq!(received.len() as u64, self.peers[conn].fed, "bytes handed off with {conn}");
                self.peers[conn].is_dropped = true;
            }
            Effect::CountAddress { conn, .. } => panic!("{conn:?} came through no proxy"),
            Effect::Reply { ticket, reply } => self.check_reply(shard, ticket, reply),
        }
    }

    fn drop_peer(&mut self, shard: usize, conn: ConnId) {
        let conn = self.model.find(shard, conn);
        if self.scenario.memory_scarce && !self.model.conns[conn].owed.drop {
            self.expect_slow(conn);
        }
        let owed = std::mem::take(&mut self.model.conns[conn].owed.drop);
        assert!(owed, "connection {conn} is dropped for nothing");
        // What is owed a client that is dropped is dropped with it.
        self.model.conns[conn].owed.fin = false;
        self.peers[conn].is_dropped = true;
    }

    /// With memory scarce, only the shard knows that it refused a message and has to end the connection.
    pub(super) fn expect_slow(&mut self, conn: usize) {
        use shardcast_shard::SlowConsumer::Disconnect;
        let mount = &self.scenario.config.mounts[self.model.conns[conn].mount];
        let may_be_slow = mount.slow_consumer == Disconnect || mount.is_topic();
        assert!(may_be_slow, "connection {conn} is dropped for nothing");
        assert!(!self.model.conns[conn].line.is_empty(), "connection {conn} is dropped and was not slow");
        self.model.drop_conn(conn);
    }

    /// Puts a question to the hooks, who answer at once, later or never.
    fn put(&mut self, shard: usize, ask: Ask) {
        let (conn, mount, client_id) = (ask.conn, ask.mount, ask.client_id);
        let question = question_of(&ask);
        let index = self.model.find(shard, conn);
        let model = &mut self.model.conns[index];
        if self.scenario.memory_scarce && model.owed.questions.is_empty() {
            // The news of a slow connection's end comes before its end.
            self.expect_slow(index);
        }
        let model = &mut self.model.conns[index];
        assert_eq!(
            (mount, client_id),
            (MountId(model.mount as u8), model.client_id),
            "who asks {question:?}"
        );
        assert_eq!(Some(question), model.owed.questions.pop_front(), "the question of connection {index}");
        let verdict = match ask.question {
            Asked::Authenticate { .. } => Verdict::Auth { conn, outcome: self.authenticate(index) },
            Asked::ValidateRooms { .. } if self.rng.chance(self.scenario.hooks.failed / 2) => {
                Verdict::RoomsFailed { conn }
            }
            Asked::ValidateRooms { rooms } => Verdict::Rooms { conn, rooms: self.grant(client_id, rooms) },
            Asked::Connected if self.rng.chance(4) => Verdict::ConnectedFailed { conn },
            Asked::Connected | Asked::Message { .. } | Asked::Disconnected => return,
        };
        self.answer_some_time(shard, verdict);
    }

    /// Redis is asked for a channel, which is answered like a question to the hooks.
    fn listen(&mut self, shard: usize, conn: ConnId, room: Arc<str>) {
        let index = self.model.find(shard, conn);
        let expected = self.model.conns[index].owed.listens.pop_front();
        assert_eq!(Some(&*room), expected.as_deref(), "what connection {index} wants to listen to");
        let outcomes = [Listening::Confirmed, Listening::LocalOnly, Listening::Refused];
        let outcome = outcomes[self.rng.weighted(&[70, 20, 10])];
        self.answer_some_time(shard, Verdict::Listening { conn, room, outcome });
    }

    fn answer_some_time(&mut self, shard: usize, verdict: Verdict) {
        if self.rng.chance(self.scenario.hooks.at_once) {
            self.answer(shard, verdict);
        } else if !self.rng.chance(self.scenario.hooks.never) {
            // An application that answers twice is heard once.
            let twice = copy_of(&verdict).filter(|_| self.rng.chance(4));
            self.late.push_back((shard, verdict));
            self.late.extend(twice.map(|verdict| (shard, verdict)));
        }
    }

    fn authenticate(&mut self, index: usize) -> AuthOutcome {
        let is_topic = self.model.topics(index).is_some();
        let hooks = &self.scenario.hooks;
        match self.rng.weighted(&[100 - hooks.refused - hooks.failed, hooks.refused, hooks.failed]) {
            0 => {
                let user = if self.rng.chance(70) { self.any_user() } else { None };
                let expires_unix_ms = self.rng.chance(30).then(|| {
                    // Some when it is too late already.
                    let offset_ms = self.rng.pick(&[0, 2_000, 20_000, 200_000, 86_400_000]);
                    self.now.unix_ms.saturating_sub(1_000) + offset_ms
                });
                let tenant = if is_topic { self.rng.pick(&[None, Some("acme"), Some("b")]) } else { None };
                let tenant = tenant.map(Arc::from);
                let identity = Identity { user, expires_unix_ms, tenant, ..Identity::default() };
                if !is_topic && self.rng.chance(self.scenario.encrypted) {
                    AuthOutcome::Encrypted(identity, Box::new(self.agreement()))
                } else {
                    AuthOutcome::Accepted(identity)
                }
            }
            1 if self.rng.chance(30) => AuthOutcome::TooManyConnections,
            1 if self.rng.chance(20) => AuthOutcome::Refused(RefusalReason::KeysUnavailable),
            1 => AuthOutcome::Refused(RefusalReason::Hooks),
            _ => AuthOutcome::Failed,
        }
    }

    fn agreement(&mut self) -> Agreement {
        let mut bytes = [0; Entropy::LEN];
        for part in bytes.chunks_mut(16) {
            part.copy_from_slice(&self.rng.bytes16()[..part.len()]);
        }
        agree(PUBLIC_KEY, HKDF_INFO, &Entropy::from_random(&bytes)).expect("keys in range")
    }

    /// Mostly the rooms asked for; now and then fewer, or some that nobody could ask for.
    fn grant(&mut self, client_id: ClientId, mut rooms: Vec<String>) -> Vec<String> {
        if self.rng.chance(10) {
            rooms.truncate(1);
        }
        if self.rng.chance(10) {
            let other = self.any_room();
            rooms.push(match self.rng.below(4) {
                0 => BROADCAST_ROOM.to_owned(),
                1 => "ws:z".to_owned(),
                2 => client_id.to_string(),
                _ => other,
            });
        }
        rooms
    }

    /// A client as an operator must see it.
    pub(super) fn view(&self, index: usize) -> Option<ClientView> {
        let conn = &self.model.conns[index];
        (conn.auth == Auth::Done).then(|| ClientView {
            id: conn.client_id,
            user: conn.user.clone(),
            rooms: conn.shown_rooms(conn.mount == 3).iter().map(|room| Arc::from(room.as_str())).collect(),
            connected_unix_ms: conn.connected_unix_ms,
            outbox_bytes: conn.line.bytes(true),
        })
    }
}

fn copy_of(verdict: &Verdict) -> Option<Verdict> {
    match verdict {
        Verdict::Auth { conn, outcome } => Some(Verdict::Auth { conn: *conn, outcome: outcome.clone() }),
        Verdict::Rooms { .. }
        | Verdict::RoomsFailed { .. }
        | Verdict::Listening { .. }
        | Verdict::ConnectedFailed { .. } => None,
    }
}

fn question_of(ask: &Ask) -> Question {
    let user = ask.identity.user.clone();
    match &ask.question {
        Asked::Authenticate { data } => Question::Authenticate(data.clone()),
        Asked::ValidateRooms { rooms } => Question::ValidateRooms(rooms.clone(), user),
        Asked::Message { text } => Question::Message(text.clone()),
        Asked::Connected => Question::Connected(user),
        Asked::Disconnected => Question::Disconnected(user),
    }
}
