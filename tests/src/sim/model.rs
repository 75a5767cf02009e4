//! The naive model: what a list of connections, walked from end to end for everything, says must happen.
//!
//! No room has members here: a connection has a list of names, and a publication asks each connection whether
//! it listens. The model hears of every step in the order in which the shard is given it, and owes each
//! connection frames and each shard effects accordingly.

mod clock;
mod flush;
mod ignis;
mod topic;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::{ConnId, Dialect, Forms, HangUp, Now, ShardConfig, SlowConsumer};
use shardcast_wire::close::CloseCode;
use shardcast_wire::ignis::{BROADCAST_ROOM, Cipher, ClientId, UserId};

use super::bytes::{inflated_frame, opcode, server_frame};
use super::line::{Bounds, Frame, Line};
use super::speech::{Said, frame_of, session_of};

/// Publications are padded with the same character: from this length on, they get smaller.
const COMPRESSIBLE_LEN: usize = 150;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Head,
    Open,
    Closing,
    Lingering,
    Gone,
}

/// How far its authentication has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    None,
    Asked,
    Done,
}

/// A question the shard must raise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Authenticate(String),
    ValidateRooms(Vec<String>, Option<UserId>),
    Message(String),
    Connected(Option<UserId>),
    Disconnected(Option<UserId>),
}

/// Effects a connection is owed.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    pub(crate) questions: VecDeque<Question>,
    /// Channels it must want to listen to.
    pub(crate) listens: VecDeque<String>,
    pub(crate) fin: bool,
    pub(crate) drop: bool,
    /// What the application gets must begin with this.
    pub(crate) hand_off: Option<Vec<u8>>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) shard: usize,
    pub(crate) id: ConnId,
    pub(crate) client_id: ClientId,
    pub(crate) name: String,
    pub(crate) mount: usize,
    pub(crate) phase: Phase,
    pub(crate) auth: Auth,
    pub(crate) user: Option<UserId>,
    expires_ms: Option<u64>,
    pub(crate) asks: u8,
    pub(crate) in_own_room: bool,
    pub(crate) broadcast_listed: bool,
    /// In the order of joining; the broadcast room is one of them.
    pub(crate) rooms: Vec<String>,
    pub(crate) connected_unix_ms: u64,
    since_ms: u64,
    activity_ms: u64,
    traffic_ms: u64,
    pub(crate) ping_out: bool,
    peer_done: bool,
    /// It agreed on permessage-deflate.
    pub(crate) deflates: bool,
    /// What it is to the topic dialect.
    pub(crate) topic: topic::Topic,
    /// Its key, if it is encrypted.
    pub(crate) cipher: Option<Rc<Cipher>>,
    /// Accepted in this turn, not offered yet.
    pub(crate) turn: Vec<Frame>,
    pub(crate) line: Line,
    /// Begun frames that the client has not heard.
    pub(crate) wire: VecDeque<Frame>,
    pub(crate) owed: Owed,
    /// The driver is asked to tell when the socket takes bytes again.
    pub(crate) awaiting: bool,
}

/// What a shard must have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) dropped_full: usize,
    pub(crate) dropped_disconnected: usize,
    pub(crate) slow_disconnected: usize,
    pub(crate) pongs_coalesced: usize,
}

/// Whom a publication is for.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    Broadcast,
    /// The name, and the connection whose own room it is.
    Room(String, Option<usize>),
    Client(usize),
    User(UserId),
}

/// Something published.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) mount: usize,
    pub(crate) audience: Audience,
    /// Connections that do not get it; of use for broadcasts and rooms only.
    pub(crate) excluded: Vec<usize>,
    pub(crate) frame: Bytes,
    /// Somebody who deflates was where it went, and it was long enough.
    pub(crate) is_wanted_deflated: bool,
    /// What the letters bring for connections that deflate.
    pub(crate) deflated: Option<Bytes>,
}

impl Publication {
    /// A letter brings it: the frame as it was published, and the same compressed only if somebody wanted that.
    pub(crate) fn settle(&mut self, number: usize, forms: &Forms) {
        assert_eq!(self.frame, forms.plain, "publication {number} comes in its turn");
        let Some(deflated) = forms.deflated.as_deref() else {
            let must = self.is_wanted_deflated && self.frame.len() >= COMPRESSIBLE_LEN;
            assert!(!must && self.deflated.is_none(), "publication {number} is not compressed");
            return;
        };
        assert!(self.is_wanted_deflated, "publication {number} is compressed for nobody");
        assert!(deflated.len() < self.frame.len(), "publication {number} grew");
        let was = self.deflated.get_or_insert_with(|| deflated.clone());
        assert!(std::ptr::eq(was.as_ptr(), deflated.as_ptr()), "publication {number} is compressed twice");
        let plain = inflated_frame(deflated, self.frame.len());
        assert_eq!(plain, self.frame, "publication {number} inflated");
    }
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Model {
    config: Arc<ShardConfig>,
    memory_scarce: bool,
    origin_ms: u64,
    pub(crate) conns: Vec<Conn>,
    by_id: BTreeMap<(usize, ConnId), usize>,
    pub(crate) tallies: Vec<Tally>,
    turns: u64,
}

impl Model {
    pub(crate) fn new(config: Arc<ShardConfig>, shards: usize, memory_scarce: bool, now: Now) -> Self {
        Self {
            config,
            memory_scarce,
            origin_ms: now.ms,
            conns: Vec::new(),
            by_id: BTreeMap::new(),
            tallies: vec![Tally::default(); shards],
            turns: 0,
        }
    }

    pub(crate) fn accept(&mut self, shard: usize, id: ConnId, client_id: ClientId, now: Now) -> usize {
        let index = self.conns.len();
        assert!(self.by_id.insert((shard, id), index).is_none(), "{id:?} was used before");
        let topic = topic::Topic::new(session_of(&client_id));
        self.conns.push(Conn {
            shard,
            id,
            client_id,
            name: client_id.to_string(),
            mount: 0,
            phase: Phase::Head,
            auth: Auth::None,
            user: None,
            expires_ms: None,
            asks: 0,
            in_own_room: false,
            broadcast_listed: false,
            rooms: Vec::new(),
            connected_unix_ms: now.unix_ms,
            since_ms: now.ms,
            activity_ms: now.ms,
            traffic_ms: now.ms,
            ping_out: false,
            peer_done: false,
            deflates: false,
            topic,
            cipher: None,
            turn: Vec::new(),
            line: Line::default(),
            wire: VecDeque::new(),
            owed: Owed::default(),
            awaiting: false,
        });
        index
    }

    pub(crate) fn find(&self, shard: usize, id: ConnId) -> usize {
        *self.by_id.get(&(shard, id)).unwrap_or_else(|| panic!("shard {shard} speaks of {id:?}"))
    }

    pub(crate) fn on_shard(&self, shard: usize) -> impl Iterator<Item = usize> {
        (0..self.conns.len()).filter(move |&index| self.conns[index].shard == shard)
    }

    /// Bytes came in, whatever they say.
    pub(crate) fn traffic(&mut self, conn: usize, now: Now) {
        let conn = &mut self.conns[conn];
        conn.traffic_ms = now.ms;
        conn.ping_out = false;
    }

    /// The last byte of an utterance came in. Returns whether the shard must stop to ask.
    pub(crate) fn hear(&mut self, conn: usize, said: &Said, now: Now) -> bool {
        match (self.conns[conn].phase, said) {
            (Phase::Head, Said::Upgrade { mount, accept, deflates }) => {
                self.upgrade(conn, *mount, now);
                self.conns[conn].deflates = *deflates;
                self.conns[conn].turn.push(Frame::switching(accept.clone(), *deflates));
                return self.greet(conn, now);
            }
            (Phase::Head, Said::Refused(status)) => {
                self.close_with(conn, Frame::http(*status, None), now);
            }
            (Phase::Head, Said::Plain(head)) => {
                self.vacate(conn);
                self.conns[conn].owed.hand_off = Some(head.clone());
            }
            (Phase::Open, Said::Ping(payload)) => self.ping(conn, payload),
            (Phase::Open, Said::Pong) => {}
            (Phase::Open, Said::Close(echo)) => self.close_with(conn, Frame::control(echo.clone()), now),
            (Phase::Open, Said::Violation(code)) => self.close(conn, code, now),
            (Phase::Open, Said::Echo(frame)) => {
                self.conns[conn].turn.push(Frame::message(frame.clone()));
            }
            (Phase::Open, Said::Topic(said)) => return self.hear_topic(conn, said, now),
            (Phase::Open, said) => return self.hear_ignis(conn, said, now),
            (Phase::Closing | Phase::Lingering | Phase::Gone, _) => {}
            (Phase::Head, said) => panic!("{said:?} before an upgrade"),
        }
        false
    }

    fn upgrade(&mut self, conn: usize, mount: usize, now: Now) {
        let conn = &mut self.conns[conn];
        conn.mount = mount;
        conn.phase = Phase::Open;
        conn.since_ms = now.ms;
        conn.activity_ms = now.ms;
    }

    fn ping(&mut self, conn: usize, payload: &[u8]) {
        let conn = &mut self.conns[conn];
        let pong = server_frame(opcode::PONG, payload);
        if conn.line.is_empty() {
            conn.turn.push(Frame::control(pong));
        } else if conn.line.push_pong(Frame::pong(pong)) {
            self.tallies[conn.shard].pongs_coalesced += 1;
        }
    }

    /// A shard took in what was published.
    pub(crate) fn deliver(&mut self, shard: usize, publication: &Publication) -> usize {
        let Publication { mount, audience, excluded, frame, deflated, .. } = publication;
        let excludes = matches!(audience, Audience::Broadcast | Audience::Room(..));
        let mut receivers = 0;
        if self.config.mounts[*mount].is_topic() && matches!(audience, Audience::Broadcast) {
            return 0;
        }
        for (index, conn) in self.conns.iter_mut().enumerate() {
            let is_client = conn.shard == shard && conn.mount == *mount && conn.auth == Auth::Done;
            let is_excluded = excludes && excluded.contains(&index);
            if is_client && !is_excluded && conn.listens(index, audience) {
                let deflated = deflated.as_ref().filter(|_| conn.takes_deflated());
                let bytes = deflated.unwrap_or(frame).clone();
                conn.turn.push(Frame::message_under(conn.cipher.as_ref(), bytes));
                receivers += 1;
            }
        }
        receivers
    }

    pub(crate) fn kick(&mut self, conn: usize, code: &CloseCode, now: Now) {
        if self.conns[conn].phase == Phase::Open {
            self.close(conn, code, now);
        }
    }

    /// Everybody who is this user on the shard.
    pub(crate) fn kick_user(
        &mut self,
        shard: usize,
        mount: usize,
        user: &UserId,
        code: &CloseCode,
        now: Now,
    ) {
        for index in 0..self.conns.len() {
            let conn = &self.conns[index];
            if conn.shard == shard && conn.mount == mount && conn.user.as_ref() == Some(user) {
                self.close(index, code, now);
            }
        }
    }

    /// The peer's half ended.
    pub(crate) fn hang_up(&mut self, conn: usize, how: HangUp) {
        match (self.conns[conn].phase, how) {
            (Phase::Closing, HangUp::Eof) => self.conns[conn].peer_done = true,
            (Phase::Gone, _) => {}
            _ => self.drop_conn(conn),
        }
    }

    pub(crate) fn close(&mut self, conn: usize, code: &CloseCode, now: Now) {
        let last = self.farewell(conn, code).unwrap_or_else(|| frame_of(code));
        self.close_with(conn, Frame::control(last), now);
    }

    /// Nothing follows `last`.
    pub(crate) fn close_with(&mut self, conn: usize, last: Frame, now: Now) {
        self.forget(conn);
        let conn = &mut self.conns[conn];
        conn.turn.push(last);
        conn.phase = Phase::Closing;
        conn.since_ms = now.ms;
    }

    /// The connection ends without another byte.
    pub(crate) fn drop_conn(&mut self, conn: usize) {
        self.vacate(conn);
        self.conns[conn].owed.drop = true;
    }

    fn vacate(&mut self, conn: usize) {
        self.forget(conn);
        let conn = &mut self.conns[conn];
        conn.phase = Phase::Gone;
        let unsent = conn.turn.drain(..).filter(|frame| frame.kind.is_message()).count();
        // A frame cut in two is never heard, and what the client is owed beyond it is lost.
        let is_cut = conn.line.written > 0;
        if is_cut {
            conn.wire.pop_back();
        }
        self.tallies[conn.shard].dropped_disconnected += unsent + conn.line.abandon();
    }

    /// The connection is nothing to others any more.
    fn forget(&mut self, conn: usize) {
        let tells = self.settings(conn).is_some_and(|settings| settings.tell_lifecycle);
        let conn = &mut self.conns[conn];
        if conn.phase == Phase::Open && tells {
            conn.owed.questions.push_back(Question::Disconnected(conn.user.clone()));
        }
        conn.topic.requests.clear();
        conn.topic.is_asking = false;
        conn.log_out();
    }

    fn settings(&self, conn: usize) -> Option<&shardcast_shard::IgnisSettings> {
        match &self.config.mounts[self.conns[conn].mount].dialect {
            Dialect::Ignis(settings) => Some(settings),
            Dialect::Echo | Dialect::Topic(_) => None,
        }
    }

    fn bounds(&self, conn: usize) -> Bounds {
        let mount = &self.config.mounts[self.conns[conn].mount];
        Bounds {
            bytes_max: mount.outbox_bytes_max,
            messages_max: mount.outbox_messages_max as usize,
            drops_oldest: mount.slow_consumer == SlowConsumer::DropOldest,
            is_exact: !self.memory_scarce,
        }
    }

    /// The rooms with members on a shard, without those of a client's own.
    pub(crate) fn rooms_on(&self, shard: usize) -> Vec<(usize, String)> {
        let conns = self.conns.iter().filter(|conn| conn.shard == shard);
        let mut rooms: Vec<_> =
            conns.flat_map(|conn| conn.rooms.iter().map(|room| (conn.mount, room.clone()))).collect();
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }
}

impl Conn {
    fn log_out(&mut self) {
        self.auth = Auth::None;
        self.user = None;
        self.topic.tenant = None;
        self.in_own_room = false;
        self.rooms.clear();
    }

    fn listens(&self, index: usize, audience: &Audience) -> bool {
        match audience {
            Audience::Broadcast => self.rooms.iter().any(|room| room == BROADCAST_ROOM),
            Audience::Room(name, own) => {
                let is_own = *own == Some(index) && self.in_own_room;
                is_own || self.rooms.contains(name)
            }
            Audience::Client(client) => *client == index,
            Audience::User(user) => self.user.as_ref() == Some(user),
        }
    }

    /// Whether messages go to it compressed.
    pub(crate) fn takes_deflated(&self) -> bool {
        self.deflates && self.cipher.is_none()
    }

    /// The rooms an operator sees.
    pub(crate) fn shown_rooms(&self, is_topic: bool) -> Vec<String> {
        let own = self.in_own_room.then(|| self.name.clone());
        let shows_broadcast = self.broadcast_listed || is_topic;
        let joined = self.rooms.iter().filter(|room| shows_broadcast || *room != BROADCAST_ROOM);
        own.into_iter().chain(joined.cloned()).collect()
    }
}
