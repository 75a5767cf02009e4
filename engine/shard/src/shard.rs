//! The shard itself: what comes in, who is told, and the bookkeeping every dialect shares.

use std::collections::{BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use shardcast_wire::close::{self, CloseCode};
use shardcast_wire::deflate::Inflater;
use shardcast_wire::ignis::{BROADCAST_ROOM, ClientId};
use shardcast_wire::message::{Assembler, Inbound};
use shardcast_wire::{frame, http};

use crate::burst::{FrameKind, ROOT, Step, Turn};
use crate::conn::{Conn, Conns, Phase};
use crate::counters::Counters;
use crate::event::{Ask, ClientView, Effect, HangUp, Mail, Now, Query, QueryReply, Question, Verdict};
use crate::flush::Flush;
use crate::ids::{ConnId, MountId, ShardId};
use crate::limits::{Dialect, Mount, ShardConfig};
use crate::outbox::{Ledger, Outbox};
use crate::rates::{Amount, Charge, RateTables};
use crate::rooms::{Room, Rooms};
use crate::timers::{UNARMED, Wheel};
use crate::users::Users;
use crate::{echo, handshake, ignis, topic};

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
    pub(crate) rates: RateTables,
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
    /// Bytes of incomplete heads and messages, and of requests that wait.
    pub(crate) input_bytes: usize,
    /// Connections without a complete request head.
    pub(crate) handshakes: u32,
    /// Open connections that agreed on permessage-deflate, by mount.
    pub(crate) deflating: Vec<u32>,
    /// Unless no mount compresses.
    inflater: Option<Inflater>,
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
    /// An empty shard. `seed` keys its hash maps and is where its generations begin: random in production, and
    /// another one for each shard that takes the place of one that panicked.
    pub fn new(id: ShardId, config: Arc<ShardConfig>, seed: u64, now: Now) -> Self {
        let seed = ShardConfig::seed_of(seed, id);
        Self {
            id,
            conns: Conns::new((seed >> 32) as u32),
            rooms: Rooms::new(config.mounts.len(), seed),
            users: Users::new(config.mounts.len(), seed),
            rates: RateTables::new(&config.rates, config.mounts.len(), seed),
            wheel: Wheel::new(now.ms),
            turn: Turn::new(seed),
            ledger: Ledger::new(config.outbox_bytes_total_max),
            flush: Flush::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            sweep_origin_ms: now.ms,
            asked: false,
            input_bytes: 0,
            handshakes: 0,
            deflating: vec![0; config.mounts.len()],
            inflater: config.mounts.iter().any(|mount| mount.compression).then(Inflater::default),
            drain: None,
            config,
        }
    }

    /// A socket was accepted. `entropy` becomes the client id; `address` is where it comes from. `None`: full,
    /// draining, or the address is no proxy's where it must be; close it.
    pub fn handle_accept(&mut self, now: Now, entropy: [u8; 16], address: IpAddr) -> Option<ConnId> {
        if self.conns.len() >= self.config.conns_max as usize || self.drain.is_some() {
            self.counters.shed_full += 1;
            return None;
        }
        if self.handshakes >= self.config.handshakes_max {
            self.counters.shed_handshakes += 1;
            return None;
        }
        let awaits_proxy_header = self.config.addresses.proxy_protocol;
        if awaits_proxy_header && !self.config.addresses.is_proxy(address) {
            self.counters.proxy_untrusted += 1;
            return None;
        }
        self.counters.accepted += 1;
        self.handshakes += 1;
        let client_id = ClientId::from_random(entropy);
        let id = self.conns.insert(|generation| Conn {
            awaits_proxy_header,
            ..Conn::new(client_id, address, generation, now)
        });
        self.arm(id);
        Some(id)
    }

    /// The same on a port of a mount's own: only `mount` answers there.
    pub fn handle_accept_at(
        &mut self,
        now: Now,
        entropy: [u8; 16],
        address: IpAddr,
        mount: MountId,
    ) -> Option<ConnId> {
        let id = self.handle_accept(now, entropy, address)?;
        let conn = self.conns.get_mut(id).expect("just taken in");
        (conn.mount, conn.on_own_port) = (mount, true);
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

    /// The answer to [`Effect::CountAddress`].
    pub fn handle_address_verdict(&mut self, now: Now, id: ConnId, may_connect: bool) {
        handshake::handle_address_verdict(self, now, id, may_connect);
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
            // A topic may be called like the room of all clients, and is none of that.
            Mail::Broadcast { mount, .. } if self.mount(mount).is_topic() => {}
            Mail::Broadcast { mount, frame, exclude } => {
                self.publish(mount, BROADCAST_ROOM, None, frame, exclude.as_deref());
            }
            Mail::Direct { conn, frame } => {
                if self.conns.get(conn).is_some_and(Conn::is_client) {
                    self.counters.published += 1;
                    let frame = self.turn.add_message(frame);
                    self.step(conn.slot, Step::Direct(frame));
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
            Mail::KickUser { mount, user, code } => {
                for slot in self.users.slots(mount, &user).to_vec() {
                    let Some(conn) = self.conns.at(slot) else { continue };
                    let id = ConnId { slot, generation: conn.generation };
                    self.counters.kicked += 1;
                    self.close(now, id, code);
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
        let Some(conn) = self.conns.get(verdict.conn()) else { return };
        if self.mount(conn.mount).is_topic() {
            topic::handle_verdict(self, now, verdict);
        } else {
            ignis::handle_verdict(self, now, verdict);
        }
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
            input_bytes: self.input_bytes as u64,
            handshakes: u64::from(self.handshakes),
            deflating: self.deflating.iter().map(|&count| u64::from(count)).sum(),
            messages_inflated: self.inflater.as_ref().map_or(0, Inflater::messages),
            bytes_inflated: self.bytes_inflated(),
            ..self.counters.clone()
        }
    }

    /// Whether what the connection sends may come to a thousand times as much: it agreed on permessage-deflate, or
    /// may do so with the rest of its request head.
    pub fn may_inflate(&self, id: ConnId) -> bool {
        self.inflater.is_some()
            && self.conns.get(id).is_some_and(|conn| conn.deflates || conn.phase == Phase::Head)
    }

    /// Bytes that compressed messages have come to so far.
    pub fn bytes_inflated(&self) -> u64 {
        self.inflater.as_ref().map_or(0, Inflater::bytes)
    }

    /// The mount, the id and the address of an open connection.
    pub fn open_conn(&self, id: ConnId) -> Option<(MountId, ClientId, IpAddr)> {
        let conn = self.conns.get(id).filter(|conn| conn.phase == Phase::Open)?;
        Some((conn.mount, conn.client_id, conn.address))
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// Whether [`Mail::Drain`] has come.
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Whether a drain has come to the connection's slot.
    #[cfg(any(test, feature = "check"))]
    pub fn has_drained(&self, id: ConnId) -> bool {
        self.drain.as_ref().is_some_and(|drain| id.slot < drain.next_slot)
    }

    /// Raises a question about a connection that exists.
    pub(crate) fn ask(&mut self, id: ConnId, question: Question) {
        let conn = self.conns.get(id).expect("looked up by the caller");
        let ask = Ask {
            conn: id,
            mount: conn.mount,
            client_id: conn.client_id,
            address: conn.address,
            identity: conn.identity.clone(),
            question,
        };
        self.effects.push_back(Effect::Ask(ask));
    }

    pub(crate) fn mount(&self, id: MountId) -> &Mount {
        &self.config.mounts[id.0 as usize]
    }

    fn handle_frames(&mut self, now: Now, id: ConnId, input: &mut [u8]) -> usize {
        let conn = self.conns.get_mut(id).expect("looked up by the caller");
        let mount = &self.config.mounts[conn.mount.0 as usize];
        let len = input.len();
        let buffered = conn.assembler.buffered_bytes();
        let inflater = self.inflater.as_mut().filter(|_| conn.deflates);
        let (used, inbound) = match conn.assembler.next(input, &mount.messages, inflater) {
            Ok(step) => step,
            Err(violation) => {
                self.input_bytes -= buffered;
                conn.assembler = Assembler::default();
                self.counters.violations[violation.index()] += 1;
                self.close(now, id, violation.close());
                return len;
            }
        };
        self.input_bytes = self.input_bytes - buffered + conn.assembler.buffered_bytes();
        match inbound {
            None => self.shed_input(now, id),
            Some(ping @ Inbound::Ping(_)) => self.answer_ping(now, id, ping),
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
                match mount.dialect {
                    Dialect::Echo => echo::handle_message(self, now, id, message),
                    Dialect::Ignis(_) => ignis::handle_message(self, now, id, message),
                    Dialect::Topic(_) => topic::handle_message(self, now, id, message),
                }
            }
        }
        used
    }

    /// Ends the connection whose incomplete message takes the last of the memory for such.
    pub(crate) fn shed_input(&mut self, now: Now, id: ConnId) {
        if self.input_bytes > self.config.input_bytes_total_max {
            self.counters.shed_input += 1;
            if self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Head) {
                let headers = [("Retry-After", "5"), ("Connection", "close")];
                self.close_with(now, id, Bytes::from(http::response(503, &headers, "")));
            } else {
                self.close(now, id, &close::OVERLOADED);
            }
        }
    }

    /// The connection is about to enter another phase.
    pub(crate) fn leave_head(&mut self, id: ConnId) {
        let in_head = self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Head);
        self.handshakes -= u32::from(in_head);
    }

    /// Lets go of what a connection has sent and not finished.
    fn drop_input(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        debug_assert!(conn.requests.is_none(), "requests end with what a connection is to others");
        let head = conn.head.take().map_or(0, |head| head.bytes.len());
        self.input_bytes -= head + std::mem::take(&mut conn.assembler).buffered_bytes();
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

    fn answer_ping(&mut self, now: Now, id: ConnId, ping: Inbound<'_>) {
        let may = self.charge(now, id, &Amount::of(&ping)) == Charge::Granted;
        if let (true, Inbound::Ping(payload)) = (may, ping) {
            self.send_pong(id, &payload);
        }
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

    /// Closes with a code of the registry, as the connection's dialect says it.
    pub(crate) fn close(&mut self, now: Now, id: ConnId, code: &CloseCode) {
        let last = topic::farewell(self, id, code);
        let last = last.unwrap_or_else(|| frame::close(Some(code.code), code.reason));
        self.close_with(now, id, Bytes::from(last));
    }

    /// Queues the last bytes of a connection; FIN follows them.
    pub(crate) fn close_with(&mut self, now: Now, id: ConnId, last: Bytes) {
        if !self.conns.get(id).is_some_and(Conn::takes_frames) {
            return;
        }
        self.forget(id);
        self.send(id, last, FrameKind::Control);
        self.leave_head(id);
        let conn = self.conns.get_mut(id).expect("looked up above");
        conn.phase = Phase::Closing;
        conn.since_ms = now.ms;
        self.drop_input(id);
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
        self.drop_input(id);
        self.leave_head(id);
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        conn.phase = Phase::Gone;
        let deflates = conn.takes_deflated();
        let path = std::mem::replace(&mut conn.path, ROOT);
        if let Some(mut outbox) = conn.outbox.take() {
            self.counters.dropped_disconnected += u64::from(outbox.abandon(&mut self.ledger));
        }
        if let Some(burst) = self.turn.burst_of(path, deflates) {
            self.counters.dropped_disconnected += self.turn.burst(burst).message_count() as u64;
        }
    }

    fn look_up(&self, query: Query) -> QueryReply {
        match query {
            Query::Client(id) => {
                QueryReply::Client(self.conns.get(id).filter(|c| c.is_client()).map(|conn| self.view(conn)))
            }
            Query::Rooms { mount, count_max } => {
                let hides_broadcast = !self.mount(mount).is_topic();
                let is_hidden = |room: &Room| hides_broadcast && *room.name == *BROADCAST_ROOM;
                let shown = |room: &&Room| room.mount == mount && !is_hidden(room);
                // The first so many by name: a heap that forgets the last name keeps the memory bounded.
                let mut first = BinaryHeap::new();
                for room in self.rooms.iter().filter(shown) {
                    first.push((room.name.clone(), room.members.len()));
                    if first.len() > count_max {
                        first.pop();
                    }
                }
                QueryReply::Rooms(first.into_sorted_vec())
            }
        }
    }

    fn view(&self, conn: &Conn) -> ClientView {
        let own = conn.in_own_room.then(|| Arc::from(conn.client_id.to_string()));
        let joined = conn.memberships.iter().map(|m| self.rooms.room(m.room).name.clone());
        let shows_broadcast = conn.broadcast_listed || self.mount(conn.mount).is_topic();
        let shown = joined.filter(|name| shows_broadcast || **name != *BROADCAST_ROOM);
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
                Phase::Open => self.close(now, id, &close::SERVER_SHUTTING_DOWN),
                Phase::Closing | Phase::Lingering | Phase::Gone => {}
            }
        }
    }
}

impl Drain {
    /// When the connection in `slot` is due, rounded up to a step.
    fn next_step_ms(&self, slot: u32) -> u64 {
        let offset = (u64::from(slot + 1) * self.period_ms).div_ceil(u64::from(self.slots.max(1)));
        self.started_ms + offset.next_multiple_of(DRAIN_STEP_MS).min(self.period_ms)
    }
}
