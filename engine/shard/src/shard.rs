//! The shard itself: what comes in, who is told, and the bookkeeping every dialect shares.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use shardcast_wire::close::CloseCode;
use shardcast_wire::frame;
use shardcast_wire::ignis::{BROADCAST_ROOM, ClientId};
use shardcast_wire::message::Inbound;

use crate::burst::{FrameIndex, FrameKind, ROOT, Step, Turn};
use crate::conn::{Auth, Conn, Conns, Phase};
use crate::counters::Counters;
use crate::event::{Ask, ClientView, Effect, HangUp, Identity, Mail, Now, Query, QueryReply, Verdict};
use crate::flush::Flush;
use crate::ids::{ClientRef, ConnId, MountId, ShardId};
use crate::limits::{Dialect, Mount, ShardConfig};
use crate::outbox::{Ledger, Outbox};
use crate::rooms::{Member, Membership, RoomIndex, Rooms};
use crate::timers::{UNARMED, Wheel};
use crate::users::Users;
use crate::{echo, handshake, ignis};

/// Timer entries one turn looks at; the rest waits for the next turn, so that a hundred thousand deadlines
/// at once do not stall deliveries.
const DUE_PER_TURN_MAX: usize = 4_096;
/// Between two steps of a drain.
const DRAIN_STEP_MS: u64 = 20;

/// A slice of the connections and all decisions about them. See the crate's documentation for the order
/// of calls; `now.ms` never goes back.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: ShardId,
    pub(crate) config: Arc<ShardConfig>,
    pub(crate) conns: Conns,
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) wheel: Wheel,
    pub(crate) turn: Turn,
    pub(crate) ledger: Ledger,
    pub(crate) flush: Flush,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) counters: Counters,
    /// Heartbeat sweeps happen at this time plus multiples of the interval.
    pub(crate) sweep_origin_ms: u64,
    /// A question with a verdict was raised: input stops until it was put to the hooks.
    pub(crate) asked: bool,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    started_ms: u64,
    period_ms: u64,
    slots: u32,
    next_slot: u32,
}

impl Shard {
    /// An empty shard. `seed` keys its hash maps: random in production.
    pub fn new(id: ShardId, config: Arc<ShardConfig>, seed: u64, now: Now) -> Self {
        let seed = ShardConfig::seed_of(seed, id);
        Self {
            id,
            conns: Conns::default(),
            rooms: Rooms::new(config.mounts.len(), seed),
            users: Users::new(config.mounts.len(), seed),
            wheel: Wheel::new(now.ms),
            turn: Turn::new(seed),
            ledger: Ledger::new(config.outbox_bytes_total_max),
            flush: Flush::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            sweep_origin_ms: now.ms,
            asked: false,
            drain: None,
            config,
        }
    }

    /// A socket was accepted. `entropy` becomes the client id. `None`: full or draining, close it.
    pub fn handle_accept(&mut self, now: Now, entropy: [u8; 16]) -> Option<ConnId> {
        if self.conns.len() >= self.config.conns_max as usize || self.drain.is_some() {
            self.counters.shed_full += 1;
            return None;
        }
        self.counters.accepted += 1;
        let client_id = ClientId::from_random(entropy);
        let id = self.conns.insert(|generation| Conn::new(client_id, generation, now.ms, now.unix_ms));
        self.arm(id);
        Some(id)
    }

    /// Bytes arrived. Returns how many were used: fewer than given when a question was raised; put it to
    /// the hooks ([`Shard::poll_effect`]), hand in the verdict if it is there already, and call again with
    /// the rest. `input` is scratch: it is unmasked in place.
    pub fn handle_bytes(&mut self, now: Now, id: ConnId, input: &mut [u8]) -> usize {
        self.asked = false;
        let mut used = 0;
        while used < input.len() && !self.asked {
            let Some(conn) = self.conns.get_mut(id) else { return input.len() };
            conn.last_traffic_ms = now.ms;
            conn.ping_out = false;
            let rest = &mut input[used..];
            let step = match conn.phase {
                Phase::Head => handshake::handle_bytes(self, now, id, rest),
                Phase::Open => self.handle_frames(now, id, rest),
                Phase::Closing | Phase::Lingering | Phase::Gone => return input.len(),
            };
            self.counters.bytes_received += step as u64;
            used += step;
        }
        used
    }

    /// The peer's half of the connection ended.
    pub fn handle_hang_up(&mut self, id: ConnId, how: HangUp) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        match (conn.phase, how) {
            (Phase::Closing, HangUp::Eof) => conn.peer_done = true,
            (Phase::Lingering, _) | (Phase::Closing, HangUp::Error) => self.drop_conn(id),
            (Phase::Head | Phase::Open, _) => {
                self.counters.hang_ups += 1;
                self.drop_conn(id);
            }
            (Phase::Gone, _) => {}
        }
    }

    /// The driver let go of the socket; the slot is free.
    pub fn handle_closed(&mut self, id: ConnId) {
        if self.conns.get(id).is_some_and(|conn| conn.phase != Phase::Gone) {
            self.drop_conn(id);
        }
        self.conns.remove(id);
    }

    /// Mail from another thread.
    pub fn handle_mail(&mut self, now: Now, mail: Mail) {
        match mail {
            Mail::Room { mount, room, own, frame, exclude } => {
                self.publish(mount, &room, own, frame, exclude.as_deref());
            }
            Mail::Broadcast { mount, frame, exclude } => {
                self.publish(mount, BROADCAST_ROOM, None, frame, exclude.as_deref());
            }
            Mail::Direct { conn, frame } => {
                if self.conns.get(conn).is_some_and(Conn::is_client) {
                    self.counters.published += 1;
                    self.send(conn, frame, FrameKind::Message);
                }
            }
            Mail::User { mount, user, frame } => self.publish_to_user(mount, &user, frame),
            Mail::Verdict(verdict) => self.handle_verdict(now, *verdict),
            Mail::Kick { conn, code } => {
                if self.conns.get(conn).is_some_and(|c| c.phase == Phase::Open) {
                    self.counters.kicked += 1;
                    self.close(now, conn, code);
                }
            }
            Mail::Query { ticket, query } => {
                let reply = self.look_up(query);
                self.effects.push_back(Effect::Reply { ticket, reply });
            }
            Mail::Drain { period_ms } => {
                let slots = self.conns.slots();
                self.drain.get_or_insert(Drain { started_ms: now.ms, period_ms, slots, next_slot: 0 });
            }
        }
    }

    /// An answer of the hooks.
    pub fn handle_verdict(&mut self, now: Now, verdict: Verdict) {
        ignis::handle_verdict(self, now, verdict);
    }

    /// Time passed: acts on what is due. Call at [`Shard::poll_wake`] or later.
    pub fn handle_tick(&mut self, now: Now) {
        self.drain_step(now);
        for _ in 0..DUE_PER_TURN_MAX {
            let Some((id, tick)) = self.wheel.pop_due(now.ms) else { break };
            let Some(conn) = self.conns.get_mut(id) else { continue };
            if conn.armed == tick {
                conn.armed = UNARMED;
                self.act_on_deadline(now, id);
            }
        }
    }

    /// The next thing the shard wants done, `None` when all is said.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Shard::handle_tick`] should be called next, ms; may be in the past.
    pub fn poll_wake(&self) -> Option<u64> {
        let drain = self.drain.as_ref().filter(|d| d.next_slot < d.slots);
        let drain = drain.map(|d| if d.period_ms == 0 { 0 } else { d.next_step_ms(d.next_slot) });
        drain.into_iter().chain(self.wheel.next_wake_ms()).min()
    }

    /// Counters and gauges as of this turn.
    pub fn counters(&self) -> Counters {
        Counters {
            conns: self.conns.len() as u64,
            rooms: self.rooms.count() as u64,
            outbox_bytes: self.ledger.bytes() as u64,
            ..self.counters.clone()
        }
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Whether [`Mail::Drain`] has come.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    pub(crate) fn mount(&self, id: MountId) -> &Mount {
        &self.config.mounts[id.0 as usize]
    }

    fn handle_frames(&mut self, now: Now, id: ConnId, input: &mut [u8]) -> usize {
        let conn = self.conns.get_mut(id).expect("looked up by the caller");
        let mount = &self.config.mounts[conn.mount.0 as usize];
        let len = input.len();
        let (used, inbound) = match conn.assembler.next(input, &mount.messages) {
            Ok(step) => step,
            Err(violation) => {
                self.counters.violations[violation.index()] += 1;
                self.close(now, id, violation.close());
                return len;
            }
        };
        match inbound {
            None => {}
            Some(Inbound::Ping(payload)) => self.send_pong(id, &payload),
            Some(Inbound::Pong(_)) => {}
            Some(Inbound::Close(close)) => {
                let echo = match close {
                    Some((code, reason)) => frame::close(Some(code), &reason),
                    None => frame::close(None, ""),
                };
                self.close_with(now, id, Bytes::from(echo));
            }
            Some(message @ (Inbound::Text(_) | Inbound::Binary(_))) => {
                self.counters.messages_received += 1;
                let is_echo = matches!(mount.dialect, Dialect::Echo);
                if is_echo {
                    echo::handle_message(self, id, message);
                } else {
                    ignis::handle_message(self, now, id, message);
                }
            }
        }
        used
    }

    /// Queues a frame for one connection.
    pub(crate) fn send(&mut self, id: ConnId, frame: Bytes, kind: FrameKind) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.takes_frames() {
            return;
        }
        let frame = self.turn.add_frame(frame, kind);
        self.step(id.slot, Step::Direct(frame));
    }

    fn send_pong(&mut self, id: ConnId, payload: &[u8]) {
        let pong = Bytes::from(frame::encode(frame::OpCode::Pong, payload));
        let Some(conn) = self.conns.get_mut(id) else { return };
        match &mut conn.outbox {
            Some(outbox) => self.counters.pongs_coalesced += u64::from(outbox.push_pong(pong)),
            None => self.send(id, pong, FrameKind::Control),
        }
    }

    /// Adds a step to what the connection gets this turn.
    pub(crate) fn step(&mut self, slot: u32, step: Step) {
        let conn = self.conns.at_mut(slot).expect("the caller looked it up");
        conn.path = self.turn.extend(conn.path, step);
        if !conn.touched {
            conn.touched = true;
            self.flush.touched.push(ConnId { slot, generation: conn.generation });
        }
    }

    fn publish(
        &mut self,
        mount: MountId,
        name: &str,
        own: Option<ConnId>,
        frame: Bytes,
        exclude: Option<&[ClientRef]>,
    ) {
        let room = self.rooms.find(mount, name);
        let own = own.filter(|&id| {
            self.conns.get(id).is_some_and(|c| c.is_client() && c.in_own_room && c.mount == mount)
        });
        if room.is_none() && own.is_none() {
            return;
        }
        self.counters.published += 1;
        let frame = self.turn.add_frame(frame, FrameKind::Message);
        if let Some(room) = room {
            self.publish_to_feed(room, frame);
        }
        if let Some(own) = own {
            self.step(own.slot, Step::Direct(frame));
        }
        for client in exclude.unwrap_or_default() {
            if client.shard == self.id && self.conns.get(client.conn).is_some_and(Conn::takes_frames) {
                self.step(client.conn.slot, Step::Without(frame));
            }
        }
    }

    fn publish_to_feed(&mut self, room: RoomIndex, frame: FrameIndex) {
        let state = self.rooms.room_mut(room);
        let feed = *state.feed.get_or_insert_with(|| self.turn.open_feed(room));
        self.turn.feed(feed, frame);
    }

    fn publish_to_user(&mut self, mount: MountId, user: &shardcast_wire::ignis::UserId, frame: Bytes) {
        let slots = self.users.slots(mount, user).to_vec();
        if slots.is_empty() {
            return;
        }
        self.counters.published += 1;
        let frame = self.turn.add_frame(frame, FrameKind::Message);
        for slot in slots {
            self.step(slot, Step::Direct(frame));
        }
    }

    /// Puts a connection into a room by name. Joining twice is joining once.
    pub(crate) fn join(&mut self, id: ConnId, name: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if ClientId::parse(name) == Some(conn.client_id) {
            conn.in_own_room = true;
            return;
        }
        let mount = conn.mount;
        let is_broadcast = name == BROADCAST_ROOM;
        conn.broadcast_listed |= is_broadcast;
        if let Some(room) = self.rooms.find(mount, name) {
            if conn.memberships.iter().any(|m| m.room == room) {
                return;
            }
        } else if self.rooms.count() >= self.config.rooms_max {
            self.counters.joins_refused_rooms_max += 1;
            return;
        }
        if !is_broadcast && conn.memberships.len() > self.config.rooms_per_conn_max {
            self.counters.joins_refused_limit += 1;
            return;
        }
        self.enter(id, mount, name);
        self.counters.joins += u64::from(!is_broadcast);
    }

    /// Puts an authenticated connection into the broadcast room, which is not shown among its rooms.
    pub(crate) fn join_broadcast(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        self.enter(id, conn.mount, BROADCAST_ROOM);
    }

    fn enter(&mut self, id: ConnId, mount: MountId, name: &str) {
        let (index, made) = self.rooms.find_or_make(mount, name);
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        let room = self.rooms.room_mut(index);
        let place = room.members.len() as u32;
        room.members.push(Member { slot: id.slot, entry: conn.memberships.len() as u32 });
        conn.memberships.push(Membership { room: index, place });
        let feed = room.feed;
        if made {
            self.effects.push_back(Effect::RoomUp(mount, room.name.clone()));
        }
        if let Some(feed) = feed {
            let count = self.turn.feed_len(feed);
            self.step(id.slot, Step::Join(feed, count));
        }
    }

    /// Takes a connection out of a room by name, if it is in it.
    pub(crate) fn leave(&mut self, id: ConnId, name: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if ClientId::parse(name) == Some(conn.client_id) {
            self.counters.leaves += u64::from(std::mem::take(&mut conn.in_own_room));
            return;
        }
        if name == BROADCAST_ROOM && !std::mem::take(&mut conn.broadcast_listed) {
            return;
        }
        let Some(room) = self.rooms.find(conn.mount, name) else { return };
        if let Some(entry) = conn.memberships.iter().position(|m| m.room == room) {
            self.counters.leaves += 1;
            self.exit(id, entry);
        }
    }

    /// Ends membership number `entry` of a connection.
    fn exit(&mut self, id: ConnId, entry: usize) {
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        let hears_the_rest = conn.takes_frames();
        let Membership { room: index, place } = conn.memberships.remove(entry);
        for later in &conn.memberships[entry..] {
            self.rooms.room_mut(later.room).members[later.place as usize].entry -= 1;
        }
        let room = self.rooms.room_mut(index);
        room.members.swap_remove(place as usize);
        if let Some(moved) = room.members.get(place as usize) {
            let other = self.conns.at_mut(moved.slot).expect("members exist");
            other.memberships[moved.entry as usize].place = place;
        }
        let (feed, emptied) = (room.feed, room.members.is_empty());
        if let Some(feed) = feed {
            if hears_the_rest {
                let count = self.turn.feed_len(feed);
                self.step(id.slot, Step::Leave(feed, count));
            }
            if emptied {
                self.turn.orphan_feed(feed);
            }
        }
        if emptied {
            let room = self.rooms.remove(index);
            self.effects.push_back(Effect::RoomDown(room.mount, room.name));
        }
    }

    /// Ends what a connection is to others: rooms, user, address. What was published to it before still
    /// goes out. Only an open connection is anything to others.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        let (mount, client_id) = (conn.mount, conn.client_id);
        let was_client = std::mem::replace(&mut conn.auth, Auth::Unauthorized) == Auth::Authenticated;
        let identity = std::mem::take(&mut conn.identity);
        conn.in_own_room = false;
        while let Some(last) = self.conns.get(id).and_then(|c| c.memberships.len().checked_sub(1)) {
            self.exit(id, last);
        }
        if was_client {
            self.counters.clients -= 1;
            self.effects.push_back(Effect::ClientDown { client_id });
            if let Some(user) = &identity.user
                && self.users.remove(mount, user, id.slot)
            {
                self.effects.push_back(Effect::UserDown(mount, user.clone()));
            }
        }
        self.tell_disconnected(id, mount, client_id, identity);
    }

    fn tell_disconnected(&mut self, conn: ConnId, mount: MountId, client_id: ClientId, identity: Identity) {
        if let Dialect::Ignis(settings) = &self.mount(mount).dialect
            && settings.tell_lifecycle
        {
            self.effects.push_back(Effect::Ask(Ask::Disconnected { conn, mount, client_id, identity }));
        }
    }

    /// Closes with a code of the registry.
    pub(crate) fn close(&mut self, now: Now, id: ConnId, code: &CloseCode) {
        self.close_with(now, id, Bytes::from(frame::close(Some(code.code), code.reason)));
    }

    /// Queues the last bytes of a connection; FIN follows them.
    pub(crate) fn close_with(&mut self, now: Now, id: ConnId, last: Bytes) {
        if !self.conns.get(id).is_some_and(Conn::takes_frames) {
            return;
        }
        self.forget(id);
        self.send(id, last, FrameKind::Control);
        let conn = self.conns.get_mut(id).expect("looked up above");
        conn.phase = Phase::Closing;
        conn.since_ms = now.ms;
        conn.assembler = Default::default();
        conn.head = None;
        self.arm(id);
    }

    /// Ends a connection without another byte.
    pub(crate) fn drop_conn(&mut self, id: ConnId) {
        if self.conns.get(id).is_none_or(|conn| conn.phase == Phase::Gone) {
            return;
        }
        self.vacate(id);
        self.effects.push_back(Effect::Drop(id));
    }

    /// Everything of [`Shard::drop_conn`] but the effect.
    pub(crate) fn vacate(&mut self, id: ConnId) {
        self.forget(id);
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        conn.phase = Phase::Gone;
        conn.path = ROOT;
        conn.assembler = Default::default();
        conn.head = None;
        if let Some(mut outbox) = conn.outbox.take() {
            self.counters.dropped_disconnected += u64::from(outbox.abandon(&mut self.ledger));
        }
    }

    fn look_up(&self, query: Query) -> QueryReply {
        match query {
            Query::Client(id) => {
                QueryReply::Client(self.conns.get(id).filter(|c| c.is_client()).map(|conn| self.view(conn)))
            }
            Query::Rooms { mount, count_max } => {
                let shown = |room: &&crate::rooms::Room| room.mount == mount && *room.name != *BROADCAST_ROOM;
                let rooms = self.rooms.iter().filter(shown).take(count_max);
                QueryReply::Rooms(rooms.map(|room| (room.name.clone(), room.members.len())).collect())
            }
        }
    }

    fn view(&self, conn: &Conn) -> ClientView {
        let own = conn.in_own_room.then(|| Arc::from(conn.client_id.to_string()));
        let joined = conn.memberships.iter().map(|m| self.rooms.room(m.room).name.clone());
        let shown = joined.filter(|name| conn.broadcast_listed || **name != *BROADCAST_ROOM);
        ClientView {
            id: conn.client_id,
            user: conn.identity.user.clone(),
            rooms: own.into_iter().chain(shown).collect(),
            connected_unix_ms: conn.connected_unix_ms,
            outbox_bytes: conn.outbox.as_deref().map_or(0, Outbox::bytes),
        }
    }

    fn drain_step(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        let elapsed = now.ms.saturating_sub(drain.started_ms);
        let target = if elapsed >= drain.period_ms {
            drain.slots
        } else {
            (u64::from(drain.slots) * elapsed / drain.period_ms) as u32
        };
        let slots = drain.next_slot..target.max(drain.next_slot);
        drain.next_slot = slots.end;
        for slot in slots {
            let Some(conn) = self.conns.at(slot) else { continue };
            let id = ConnId { slot, generation: conn.generation };
            match conn.phase {
                Phase::Head => self.drop_conn(id),
                Phase::Open => self.close(now, id, &shardcast_wire::close::SERVER_SHUTTING_DOWN),
                Phase::Closing | Phase::Lingering | Phase::Gone => {}
            }
        }
    }
}

impl Drain {
    /// When the connection in `slot` is due, rounded up to a step.
    fn next_step_ms(&self, slot: u32) -> u64 {
        let offset = u64::from(slot + 1) * self.period_ms / u64::from(self.slots.max(1));
        self.started_ms + offset.next_multiple_of(DRAIN_STEP_MS).min(self.period_ms)
    }
}
