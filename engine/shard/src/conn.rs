//! One connection's state, and the table of them.
//!
//! A connection goes `Head → Open → Closing → Lingering → Gone → free`, skipping forward only. The driver
//! owns the socket and confirms its end ([`crate::Shard::handle_closed`]); until then the slot is not
//! reused.

use std::net::IpAddr;

use shardcast_wire::http::Upgrade;
use shardcast_wire::ignis::{Cipher, ClientId};
use shardcast_wire::message::Assembler;

use crate::burst::{PathIndex, ROOT};
use crate::event::{Identity, Now};
use crate::ids::{ConnId, MountId};
use crate::outbox::Outbox;
use crate::rates::ConnRates;
use crate::rooms::Membership;
use crate::timers::UNARMED;
use crate::topic::Requests;

/// A time that does not come.
pub const NEVER_MS: u64 = u64::MAX;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its request head is not complete.
    Head,
    /// It speaks its dialect.
    Open,
    /// Its last frame is queued; input is ignored.
    Closing,
    /// FIN is sent; waiting for the peer's.
    Lingering,
    /// The driver was told to drop or hand off the socket.
    Gone,
}

/// How far authentication has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not tried.
    Unauthorized,
    /// The hooks are asked.
    Authenticating,
    /// Let in.
    Authenticated,
}

/// A connection. Kept small: a hundred thousand of these sit idle.
#[derive(Debug)]
pub struct Conn {
    /// Its id, given at accept.
    pub client_id: ClientId,
    /// Where it comes from: the peer, or whom a proxy spoke for.
    pub address: IpAddr,
    /// What authentication said.
    pub identity: Identity,
    /// Bytes of a message or frame that is not complete.
    pub assembler: Assembler,
    /// The request head while it is not complete.
    pub head: Option<Box<HeadBuffer>>,
    /// What the socket has not taken.
    pub outbox: Option<Box<Outbox>>,
    /// What it has sent of late, where there are rates.
    pub rates: Option<Box<ConnRates>>,
    /// What encrypts what it is sent, when it is encrypted.
    pub cipher: Option<Box<Cipher>>,
    /// Requests of the topic dialect that are not answered, while there are any.
    pub requests: Option<Box<Requests>>,
    /// Rooms in the order of joining; the broadcast room is among them.
    pub memberships: Vec<Membership>,
    /// Start of the present phase or authentication state, ms.
    pub since_ms: u64,
    /// Last message of the peer, ms; in the topic dialect the last beat of its pings.
    pub last_activity_ms: u64,
    /// Last frame in either direction, in the topic dialect from the peer, ms.
    pub last_traffic_ms: u64,
    /// When it was accepted, ms since 1970.
    pub connected_unix_ms: u64,
    /// When what it authenticated with expires, ms; [`NEVER_MS`] for what does not. On the clock that never
    /// jumps: the wall clock was asked once, at authentication.
    pub expires_ms: u64,
    /// The tick of its live timer entry.
    pub armed: u64,
    /// What it gets this turn.
    pub path: PathIndex,
    /// See [`ConnId::generation`].
    pub generation: u32,
    /// Which mount it came to; meaningful from `Open` on, and on the mount's own port from the start.
    pub mount: MountId,
    /// How far it has come.
    pub phase: Phase,
    /// How far authentication has come.
    pub auth: Auth,
    /// Questions open with the hooks.
    pub asks: u8,
    /// Tokens of the topic dialect that were refused.
    pub auth_failures: u8,
    /// It is in the room of its own id.
    pub in_own_room: bool,
    /// It asked for the broadcast room by name, so the room is shown among its rooms.
    pub broadcast_listed: bool,
    /// It is in the turn's list of connections with something to write.
    pub touched: bool,
    /// The driver was asked to tell when the socket takes bytes again.
    pub awaiting_writable: bool,
    /// The peer sent FIN after its close frame.
    pub peer_done: bool,
    /// A ping is out and nothing came since.
    pub ping_out: bool,
    /// It agreed on permessage-deflate.
    pub deflates: bool,
    /// Its PROXY header has not come yet.
    pub awaits_proxy_header: bool,
    /// Its PROXY header named nobody, so what its requests say of a client need not be the proxy's word.
    pub is_unnamed: bool,
    /// It came to a port where only its mount answers.
    pub on_own_port: bool,
}

/// What is kept of a connection before it is open: a PROXY header or request head that came in pieces, and an
/// upgrade that waits for a word about its address.
#[derive(Debug, Default)]
pub struct HeadBuffer {
    /// What has come, from the first byte.
    pub bytes: Vec<u8>,
    /// How far the end of the head has been searched for.
    pub searched: usize,
    /// The upgrade, once the head is complete.
    pub upgrade: Option<(MountId, Upgrade)>,
}

impl Conn {
    /// A connection just accepted.
    pub fn new(client_id: ClientId, address: IpAddr, generation: u32, now: Now) -> Self {
        Self {
            client_id,
            address,
            identity: Identity::default(),
            assembler: Assembler::default(),
            head: None,
            outbox: None,
            rates: None,
            cipher: None,
            requests: None,
            memberships: Vec::new(),
            since_ms: now.ms,
            last_activity_ms: now.ms,
            last_traffic_ms: now.ms,
            connected_unix_ms: now.unix_ms,
            expires_ms: NEVER_MS,
            armed: UNARMED,
            path: ROOT,
            generation,
            mount: MountId(0),
            phase: Phase::Head,
            auth: Auth::Unauthorized,
            asks: 0,
            auth_failures: 0,
            in_own_room: false,
            broadcast_listed: false,
            touched: false,
            awaiting_writable: false,
            peer_done: false,
            ping_out: false,
            deflates: false,
            awaits_proxy_header: false,
            is_unnamed: false,
            on_own_port: false,
        }
    }

    /// Whether frames may still be queued for it.
    pub fn takes_frames(&self) -> bool {
        self.phase <= Phase::Open
    }

    /// Whether messages go to it compressed. Ciphertext does not compress.
    pub fn takes_deflated(&self) -> bool {
        self.deflates && self.cipher.is_none()
    }

    /// Whether it speaks its dialect and is let in.
    pub fn is_client(&self) -> bool {
        self.phase == Phase::Open && self.auth == Auth::Authenticated
    }
}

/// Connections a block of the table holds: the table grows by blocks, so it never copies itself and its
/// slack is at most one block.
const BLOCK_LEN: usize = 256;

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a free seat is one that was taken: its size is spent already")]
enum Seat {
    Taken(Conn),
    Free { generation: u32 },
}

/// The connections of a shard by slot.
#[derive(Debug)]
pub struct Conns {
    /// Generation of a slot's first tenant. Differs between the shards that follow one another after a panic, so
    /// that what was meant for a connection of the one does not reach a connection of the next.
    first_generation: u32,
    blocks: Vec<Vec<Seat>>,
    free: Vec<u32>,
    len: usize,
}

impl Conns {
    /// An empty table.
    pub fn new(first_generation: u32) -> Self {
        Self { first_generation, blocks: Vec::new(), free: Vec::new(), len: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more than the highest slot ever used.
    pub fn slots(&self) -> u32 {
        self.blocks.last().map_or(0, |last| ((self.blocks.len() - 1) * BLOCK_LEN + last.len()) as u32)
    }

    /// Seats a new connection made by `make` from its generation.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Conn) -> ConnId {
        self.len += 1;
        if let Some(slot) = self.free.pop() {
            let seat = &mut self.blocks[slot as usize / BLOCK_LEN][slot as usize % BLOCK_LEN];
            let Seat::Free { generation } = *seat else { unreachable!("a listed seat is free") };
            *seat = Seat::Taken(make(generation));
            return ConnId { slot, generation };
        }
        if self.blocks.last().is_none_or(|last| last.len() == BLOCK_LEN) {
            self.blocks.push(Vec::with_capacity(BLOCK_LEN));
        }
        let slot = self.slots();
        self.blocks.last_mut().expect("just pushed").push(Seat::Taken(make(self.first_generation)));
        ConnId { slot, generation: self.first_generation }
    }

    /// Frees the seat.
    pub fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        let seat = &mut self.blocks[id.slot as usize / BLOCK_LEN][id.slot as usize % BLOCK_LEN];
        let free = Seat::Free { generation: id.generation.wrapping_add(1) };
        let Seat::Taken(conn) = std::mem::replace(seat, free) else { unreachable!("just looked") };
        self.free.push(id.slot);
        self.len -= 1;
        Some(conn)
    }

    /// The connection, unless it is gone.
    pub fn get(&self, id: ConnId) -> Option<&Conn> {
        self.at(id.slot).filter(|conn| conn.generation == id.generation)
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.at_mut(id.slot).filter(|conn| conn.generation == id.generation)
    }

    /// Whoever sits there.
    pub fn at(&self, slot: u32) -> Option<&Conn> {
        match self.blocks.get(slot as usize / BLOCK_LEN)?.get(slot as usize % BLOCK_LEN)? {
            Seat::Taken(conn) => Some(conn),
            Seat::Free { .. } => None,
        }
    }

    /// The same, to change.
    pub fn at_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        match self.blocks.get_mut(slot as usize / BLOCK_LEN)?.get_mut(slot as usize % BLOCK_LEN)? {
            Seat::Taken(conn) => Some(conn),
            Seat::Free { .. } => None,
        }
    }

    /// Everyone, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        (0..self.slots())
            .filter_map(|slot| self.at(slot).map(|conn| (ConnId { slot, generation: conn.generation }, conn)))
    }
}
