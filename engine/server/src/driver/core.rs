//! What a shard's thread owns: the shard, its sockets, the scratch buffer; and the steps of a turn.

use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shardcast_shard::event::AuthOutcome;
use shardcast_shard::flush::Written;
use shardcast_shard::{ClientRef, ConnId, Effect, HangUp, Mail, MountId, Now, Shard, Verdict};
use shardcast_wire::ignis::UserId;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::asks::Asker;
use super::clock::Clock;
use super::listener::Accepted;
use super::listens::Listens;
use super::readiness::{Readiness, Ready};
use super::secure::{Next, Secure, tls_of};
use super::sends::Sends;
use crate::admission::{Admission, Place, UserPlace};
use crate::control::{HandOff, Peer};
use crate::engine::Engine;
use crate::hooks::Client;
use crate::mailbox::MailReceiver;
use crate::tls::conn::TlsConn;

/// Bytes of one read; the buffer is the shard's, not the connection's.
pub(super) const SCRATCH_LEN: usize = 64 << 10;
/// Bytes of one read of a connection of which each may take long: it may compress, and each come to a thousand, or its
/// records are nearly empty.
const DEAR_READ_LEN: usize = 4 << 10;
/// Reads of one connection before the others get their turn.
const READS_PER_TURN: usize = 4;
/// Bytes that compressed messages may come to in one turn; who sends more of them is read in the next.
const INFLATED_PER_TURN: u64 = 32 << 20;
/// Turns for which deadlines may wait while there are sockets that were not read: what a peer sent in time may be there.
const TURNS_WITHOUT_TICK_MAX: u32 = 16;
/// Letters of one turn, and how many bytes of frames they may carry together: both keep a turn short.
const LETTERS_PER_TURN: usize = 1_024;
const FRAME_BYTES_PER_TURN: usize = 8 << 20;
/// Random bytes fetched at a time; a client id takes 16.
const ENTROPY_LEN: usize = 4_096;

pub(super) struct Core {
    pub(super) shard: Shard,
    clock: Clock,
    /// When this turn began, or its last batch of writes.
    now: Now,
    engine: Arc<Engine>,
    admission: Arc<Admission>,
    asker: Asker,
    listens: Listens,
    hand_offs: mpsc::Sender<HandOff>,
    mail: MailReceiver,
    readiness: Readiness,
    pub(super) sends: Sends,
    pub(super) sockets: Vec<Option<Socket>>,
    /// Plaintext: received, or opened.
    pub(super) scratch: Box<[u8]>,
    pub(super) secure: Secure,
    entropy: Vec<u8>,
    /// Sockets of this turn that something happened to.
    ready: Vec<Ready>,
    /// Turns since the last in which all sockets were read before the tick.
    turns_without_tick: u32,
    /// Results of a batch of writes.
    pub(super) results: Vec<Written>,
}

pub(super) struct Socket {
    id: ConnId,
    pub(super) fd: OwnedFd,
    /// Unless it is plain.
    pub(super) tls: Option<Box<TlsConn>>,
    /// What it sent last took long for what came of it.
    pub(super) is_dear: bool,
    /// Made where connections of addresses or users are limited.
    places: Option<Box<Places>>,
}

/// What a connection takes of what is limited in the whole process.
#[derive(Default)]
struct Places {
    address: Option<Place<IpAddr>>,
    user: Option<UserPlace>,
}

/// A connection that was not taken in.
pub(super) struct Refused {
    pub(super) fd: OwnedFd,
    /// Why the kernel would not watch it; `None` when it was our own decision, which is counted.
    pub(super) reason: Option<io::Error>,
}

/// What [`Core`] is made of.
pub(super) struct Parts {
    pub(super) shard: Shard,
    pub(super) clock: Clock,
    pub(super) engine: Arc<Engine>,
    pub(super) admission: Arc<Admission>,
    pub(super) asker: Asker,
    pub(super) listens: Listens,
    pub(super) hand_offs: mpsc::Sender<HandOff>,
    pub(super) mail: MailReceiver,
    pub(super) readiness: Readiness,
    pub(super) sends: Sends,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { shard, clock, engine, admission, asker, listens, hand_offs, mail, readiness, sends } =
            parts;
        // Letters that a run before this one left behind.
        mail.ring();
        Self {
            shard,
            clock,
            now: clock.now(),
            engine,
            admission,
            asker,
            listens,
            hand_offs,
            mail,
            readiness,
            sends,
            sockets: Vec::new(),
            scratch: vec![0; SCRATCH_LEN].into_boxed_slice(),
            secure: Secure::default(),
            entropy: Vec::new(),
            ready: Vec::new(),
            turns_without_tick: 0,
            results: Vec::new(),
        }
    }

    /// Takes a connection in.
    pub(super) fn accept(&mut self, accepted: Accepted) -> Result<(), Refused> {
        let Accepted { fd, address, mount, tls } = accepted;
        let status = self.engine.status();
        if status.memory_pressure.load(Ordering::Acquire) {
            status.process.shed_memory.fetch_add(1, Ordering::Relaxed);
            return Err(Refused { fd, reason: None });
        }
        let Ok(place) = self.admission.enter(address) else {
            status.process.shed_address.fetch_add(1, Ordering::Relaxed);
            return Err(Refused { fd, reason: None });
        };
        let places = place.map(|place| Box::new(Places { address: Some(place), user: None }));
        let entropy = self.entropy();
        let now = self.look_at_clock();
        let id = match mount {
            None => self.shard.handle_accept(now, entropy, address),
            Some(mount) => self.shard.handle_accept_at(now, entropy, address, mount),
        };
        let Some(id) = id else { return Err(Refused { fd, reason: None }) };
        if let Err(error) = self.readiness.add(fd.as_raw_fd(), id) {
            self.shard.handle_closed(id);
            self.run_effects();
            return Err(Refused { fd, reason: Some(error) });
        }
        let slot = id.slot as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.secure.count += usize::from(tls.is_some());
        self.sockets[slot] = Some(Socket { id, fd, tls, is_dear: false, places });
        Ok(())
    }

    /// Everything of a turn before its writes: bytes, mail, time, effects.
    pub(super) fn hear(&mut self, sockets_rang: bool, mail_rang: bool) {
        let now = self.look_at_clock();
        let is_due = self.shard.poll_wake().is_some_and(|wake_ms| wake_ms <= now.ms);
        let may_be_more = (sockets_rang || is_due) && self.receive(now);
        self.take_mail(now, mail_rang);
        if may_be_more && self.turns_without_tick < TURNS_WITHOUT_TICK_MAX {
            self.turns_without_tick += 1;
        } else {
            self.turns_without_tick = 0;
            if is_due {
                self.shard.handle_tick(now);
            }
        }
        self.run_effects();
    }

    /// The rest of a turn: offers every touched connection what is laid out for it.
    pub(super) fn write(&mut self) {
        while self.shard.poll_writes() {
            if self.secure.count == 0 {
                self.submit_plain();
            } else {
                self.submit_secure();
            }
            let now = self.look_at_clock();
            for (index, &written) in self.results.iter().enumerate() {
                self.shard.handle_written(now, index, written);
            }
        }
        self.await_unsent();
        self.run_effects();
        if self.shard.wants_turn() {
            self.mail.ring();
        }
    }

    fn submit_plain(&mut self) {
        let sockets = &self.sockets;
        // A connection whose socket is gone gets an invalid descriptor: the write fails and the shard hears of it.
        let fd = |id: ConnId| socket_of(sockets, id).map_or(-1, |socket| socket.fd.as_raw_fd());
        self.sends.submit(self.shard.writes().map(|(id, bytes)| (fd(id), bytes)), &mut self.results);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.shard.is_draining() && self.shard.is_empty()
    }

    /// Closes every socket.
    pub(super) fn cut_all(&mut self) {
        self.sockets.clear();
        self.secure.count = 0;
    }

    fn look_at_clock(&mut self) -> Now {
        self.now = self.clock.now();
        self.now
    }

    /// Reads the sockets that have something. Returns whether there may be more of them.
    fn receive(&mut self, now: Now) -> bool {
        self.secure.begin_turn();
        let inflated_max = self.shard.bytes_inflated() + INFLATED_PER_TURN;
        let mut ready = std::mem::take(&mut self.ready);
        let may_be_more = self.readiness.poll(&mut ready);
        for &ready in &ready {
            if ready.writable {
                if self.flush_secure(ready.id) {
                    self.shard.handle_writable(ready.id);
                }
                // A connection whose socket is broken is gone before it is read.
                self.run_effects();
            }
            if ready.readable {
                let is_next_turns = self.secure.must_wait(tls_of(&mut self.sockets, ready.id).as_deref())
                    || self.shard.may_inflate(ready.id) && self.shard.bytes_inflated() > inflated_max;
                if is_next_turns || !self.receive_from(now, ready) {
                    self.tell_again(ready.id);
                }
            }
        }
        self.ready = ready;
        may_be_more
    }

    /// Reads a socket a bounded number of times and feeds the shard. `false`: it was not read to its end.
    fn receive_from(&mut self, now: Now, ready: Ready) -> bool {
        for _ in 0..READS_PER_TURN {
            let Some(Socket { fd, tls, is_dear, .. }) = socket_of(&self.sockets, ready.id) else {
                return true;
            };
            let has_tls = tls.is_some();
            let is_dear = *is_dear || self.shard.may_inflate(ready.id);
            let read_len = if is_dear { DEAR_READ_LEN } else { SCRATCH_LEN };
            let room = match tls {
                // The header of a proxy comes before TLS.
                Some(conn) if !self.shard.awaits_proxy_header(ready.id) => {
                    self.secure.room(conn.kept(), read_len)
                }
                _ => &mut self.scratch[..read_len],
            };
            // SAFETY: the buffer is ours and as long as said; the call does not keep it.
            let received = unsafe {
                libc::recv(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), libc::MSG_DONTWAIT)
            };
            if received > 0 {
                let next = self.take_in(now, ready.id, received as usize, has_tls);
                if next == Next::Stop {
                    return true;
                }
                // Less than asked for: the socket is empty, and what comes next is another event. The end of the
                // stream that came with these bytes is not.
                if (received as usize) < read_len && !ready.ended {
                    return true;
                }
                if next == Next::Later {
                    return false;
                }
                continue;
            }
            if received < 0 {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EAGAIN) => return true,
                    Some(libc::EINTR) => continue,
                    _ => {}
                }
            }
            let how = if received == 0 { HangUp::Eof } else { HangUp::Error };
            self.shard.handle_hang_up(ready.id, how);
            self.run_effects();
            return true;
        }
        false
    }

    /// Feeds received bytes to the shard, out of their records if the connection has TLS.
    fn take_in(&mut self, now: Now, id: ConnId, received: usize, has_tls: bool) -> Next {
        let mut fresh = 0..received;
        if self.shard.awaits_proxy_header(id) {
            fresh.start = self.shard.handle_proxy_header(now, id, &self.scratch[..received]);
            self.run_effects();
            if fresh.is_empty() {
                return Next::Read;
            }
            if has_tls {
                let behind = &self.scratch[fresh.clone()];
                self.secure.room(&[], behind.len()).copy_from_slice(behind);
            }
        }
        if has_tls {
            return self.open(now, id, fresh.len());
        }
        self.feed(now, id, fresh);
        Next::Read
    }

    /// Feeds received bytes to the shard, putting each question as it is raised.
    pub(super) fn feed(&mut self, now: Now, id: ConnId, mut fresh: Range<usize>) {
        while !fresh.is_empty() {
            fresh.start += self.shard.handle_bytes(now, id, &mut self.scratch[fresh.clone()]);
            self.run_effects();
        }
    }

    /// Takes a bounded batch of mail; with more waiting, the shard comes back after the sockets.
    fn take_mail(&mut self, now: Now, rang: bool) {
        if rang {
            self.mail.silence();
        }
        let mut frame_bytes = 0;
        for _ in 0..LETTERS_PER_TURN {
            let Some(letter) = self.mail.take() else {
                if self.mail.arm() {
                    break;
                }
                return;
            };
            frame_bytes += frame_len(&letter);
            match letter {
                Mail::Verdict(verdict) => self.hear_verdict(now, *verdict),
                letter => self.shard.handle_mail(now, letter),
            }
            self.run_effects();
            if frame_bytes > FRAME_BYTES_PER_TURN {
                break;
            }
        }
        self.mail.ring();
    }

    pub(super) fn run_effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            self.run_effect(effect);
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        let (shard, directory) = (self.asker.shard, self.engine.router().directory());
        match effect {
            Effect::Ask(ask) => {
                if let Some(verdict) = self.asker.put(ask) {
                    self.hear_verdict(self.now, verdict);
                }
            }
            Effect::ClientUp { client_id, conn, mount } => {
                directory.client_up(client_id, mount, ClientRef { shard, conn });
                self.listens.client_up(mount, client_id);
            }
            Effect::ClientDown { client_id, conn } => {
                if let Some(mount) = directory.client_down(client_id) {
                    self.listens.client_down(mount, client_id);
                }
                if let Some(places) = self.socket_mut(conn).and_then(|socket| socket.places.as_mut()) {
                    places.user = None;
                }
            }
            Effect::CountAddress { conn, address } => {
                let place = self.admission.enter(address);
                let may_connect = place.is_ok();
                if let (Some(socket), Ok(Some(place))) = (self.socket_mut(conn), place) {
                    socket.places.get_or_insert_default().address = Some(place);
                }
                self.shard.handle_address_verdict(self.now, conn, may_connect);
            }
            Effect::UserUp(mount, user) => directory.user_up(mount, user, shard),
            Effect::UserDown(mount, user) => directory.user_down(mount, &user, shard),
            Effect::Listen { conn, mount, room } => {
                if let Some(outcome) = self.listens.listen(mount, &room, conn) {
                    self.shard.handle_verdict(self.now, Verdict::Listening { conn, room, outcome });
                }
            }
            Effect::Unlisten(mount, room) => self.listens.unlisten(mount, &room),
            Effect::RoomUp(mount, room) => {
                directory.room_up(mount, room.clone(), shard);
                self.listens.room_up(mount, &room);
            }
            Effect::RoomDown(mount, room) => {
                directory.room_down(mount, &room, shard);
                self.listens.unlisten(mount, &room);
            }
            Effect::DeflateUp(mount) => directory.deflate_up(mount, shard),
            Effect::DeflateDown(mount) => directory.deflate_down(mount, shard),
            Effect::AwaitWritable(id) => self.tell_again(id),
            Effect::Fin(id) => self.finish(id),
            Effect::Drop(id) => {
                drop(self.unseat(id));
            }
            Effect::HandOff { conn, address, is_unnamed, received } => {
                if let Some(socket) = self.unseat(conn) {
                    self.hand_off(socket, Peer { address, is_unnamed }, received);
                }
            }
            Effect::Reply { ticket, reply } => self.engine.answer(ticket, reply),
        }
    }

    /// Hands a verdict on; a user that holds as many connections as one may is not let in.
    fn hear_verdict(&mut self, now: Now, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Auth { conn, outcome } => Verdict::Auth { conn, outcome: self.let_in(conn, outcome) },
            verdict => verdict,
        };
        self.shard.handle_verdict(now, verdict);
    }

    /// Takes a place for one more connection of a user that the hooks let in, if there is one.
    fn let_in(&mut self, conn: ConnId, outcome: AuthOutcome) -> AuthOutcome {
        let (AuthOutcome::Accepted(identity) | AuthOutcome::Encrypted(identity, _)) = &outcome else {
            return outcome;
        };
        let Some((mount, id, address)) = self.shard.open_conn(conn) else { return outcome };
        let is_seated = self.seat_user(conn, mount, identity.user.as_ref());
        let at = ClientRef { shard: self.asker.shard, conn };
        let client = || Client { id, at, mount, address, identity: identity.clone() };
        self.asker.record_seating(client, is_seated);
        if is_seated { outcome } else { AuthOutcome::TooManyConnections }
    }

    /// `false`: there is no place for one more connection of a user. One that authenticates anew keeps its place.
    fn seat_user(&mut self, id: ConnId, mount: MountId, user: Option<&UserId>) -> bool {
        let mut held = self.socket_mut(id).and_then(|socket| socket.places.as_mut()?.user.take());
        let is_seated = self.admission.seat_user(&mut held, mount, user).is_ok();
        if let (Some(place), Some(socket)) = (held, self.socket_mut(id)) {
            socket.places.get_or_insert_default().user = Some(place);
        }
        is_seated
    }

    /// Asks to hear of a socket again. Effects may come of it, which the caller runs: this is reached from one.
    pub(super) fn tell_again(&mut self, id: ConnId) {
        let Some(fd) = self.fd(id) else { return };
        if let Err(error) = self.readiness.tell_again(fd, id) {
            tracing::warn!(%error, "cannot watch a connection, which ends");
            self.shard.handle_hang_up(id, HangUp::Error);
        }
    }

    /// Takes the socket out and frees the connection's slot.
    fn unseat(&mut self, id: ConnId) -> Option<Socket> {
        socket_of(&self.sockets, id)?;
        let socket = self.sockets[id.slot as usize].take()?;
        self.secure.count -= usize::from(socket.tls.is_some());
        self.shard.handle_closed(id);
        Some(socket)
    }

    fn hand_off(&mut self, socket: Socket, peer: Peer, received: Vec<u8>) {
        let Socket { id, fd, mut tls, places, .. } = socket;
        if let Some(conn) = &mut tls {
            conn.hand_over(self.secure.take_rest());
        }
        if let Err(error) = self.readiness.remove(fd.as_raw_fd(), id) {
            tracing::warn!(%error, "cannot stop watching a connection");
        }
        let place = places.and_then(|places| places.address);
        match self.hand_offs.try_send(HandOff { stream: fd.into(), peer, received, tls, place }) {
            Ok(()) => {}
            Err(TrySendError::Full(hand_off) | TrySendError::Closed(hand_off)) => {
                self.engine.status().process.hand_offs_refused.fetch_add(1, Ordering::Relaxed);
                hand_off.refuse();
            }
        }
    }

    fn socket_mut(&mut self, id: ConnId) -> Option<&mut Socket> {
        socket_of_mut(&mut self.sockets, id)
    }

    fn fd(&self, id: ConnId) -> Option<RawFd> {
        socket_of(&self.sockets, id).map(|socket| socket.fd.as_raw_fd())
    }

    fn entropy(&mut self) -> [u8; 16] {
        if self.entropy.len() < 16 {
            self.entropy.resize(ENTROPY_LEN, 0);
            getrandom::fill(&mut self.entropy).expect("the kernel has random bytes");
        }
        let rest = self.entropy.len() - 16;
        let id = self.entropy[rest..].try_into().expect("16 bytes");
        self.entropy.truncate(rest);
        id
    }
}

pub(super) fn socket_of_mut(sockets: &mut [Option<Socket>], id: ConnId) -> Option<&mut Socket> {
    sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
}

fn socket_of(sockets: &[Option<Socket>], id: ConnId) -> Option<&Socket> {
    sockets.get(id.slot as usize)?.as_ref().filter(|socket| socket.id == id)
}

fn frame_len(letter: &Mail) -> usize {
    match letter {
        Mail::Room { frame, .. }
        | Mail::Broadcast { frame, .. }
        | Mail::Direct { frame, .. }
        | Mail::User { frame, .. } => frame.plain.len(),
        Mail::Verdict(_)
        | Mail::Kick { .. }
        | Mail::KickUser { .. }
        | Mail::Query { .. }
        | Mail::Drain { .. } => 0,
    }
}
