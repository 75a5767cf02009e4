//! What a shard's thread owns: the shard, its sockets, the scratch buffer; and the steps of a turn.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use shardcast_shard::flush::Written;
use shardcast_shard::{ClientRef, ConnId, Effect, HangUp, Mail, Now, Shard};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::asks::Asker;
use super::clock::Clock;
use super::listener::Accepted;
use super::readiness::{Readiness, Ready};
use super::sends::Sends;
use crate::control::HandOff;
use crate::engine::Engine;
use crate::mailbox::MailReceiver;

/// Bytes of one read; the buffer is the shard's, not the connection's.
const SCRATCH_LEN: usize = 64 << 10;
/// Bytes of one read of a connection that may compress: each may come to a thousand.
const DEFLATED_READ_LEN: usize = 4 << 10;
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
    asker: Asker,
    hand_offs: mpsc::Sender<HandOff>,
    mail: MailReceiver,
    readiness: Readiness,
    sends: Sends,
    sockets: Vec<Option<Socket>>,
    scratch: Box<[u8]>,
    entropy: Vec<u8>,
    /// Sockets of this turn that something happened to.
    ready: Vec<Ready>,
    /// Turns since the last in which all sockets were read before the tick.
    turns_without_tick: u32,
    /// Results of a batch of writes.
    results: Vec<Written>,
}

struct Socket {
    id: ConnId,
    fd: OwnedFd,
}

/// A connection that was not taken in.
pub(super) struct Refused {
    pub(super) fd: OwnedFd,
    /// Why the kernel would not watch it; `None` when the shard is full or draining.
    pub(super) reason: Option<io::Error>,
}

/// What [`Core`] is made of.
pub(super) struct Parts {
    pub(super) shard: Shard,
    pub(super) clock: Clock,
    pub(super) engine: Arc<Engine>,
    pub(super) asker: Asker,
    pub(super) hand_offs: mpsc::Sender<HandOff>,
    pub(super) mail: MailReceiver,
    pub(super) readiness: Readiness,
    pub(super) sends: Sends,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { shard, clock, engine, asker, hand_offs, mail, readiness, sends } = parts;
        // Letters that a run before this one left behind.
        mail.ring();
        Self {
            shard,
            clock,
            now: clock.now(),
            engine,
            asker,
            hand_offs,
            mail,
            readiness,
            sends,
            sockets: Vec::new(),
            scratch: vec![0; SCRATCH_LEN].into_boxed_slice(),
            entropy: Vec::new(),
            ready: Vec::new(),
            turns_without_tick: 0,
            results: Vec::new(),
        }
    }

    /// Takes a connection in.
    pub(super) fn accept(&mut self, accepted: Accepted) -> Result<(), Refused> {
        let Accepted { fd, address } = accepted;
        let entropy = self.entropy();
        let now = self.look_at_clock();
        let Some(id) = self.shard.handle_accept(now, entropy, address) else {
            return Err(Refused { fd, reason: None });
        };
        if let Err(error) = self.readiness.add(fd.as_raw_fd(), id) {
            self.shard.handle_closed(id);
            self.run_effects();
            return Err(Refused { fd, reason: Some(error) });
        }
        let slot = id.slot as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(Socket { id, fd });
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
            let sockets = &self.sockets;
            // A connection whose socket is gone gets an invalid descriptor: the write fails and the shard
            // hears of it.
            let fd = |id: ConnId| socket_of(sockets, id).map_or(-1, |socket| socket.fd.as_raw_fd());
            self.sends.submit(self.shard.writes().map(|(id, bytes)| (fd(id), bytes)), &mut self.results);
            let now = self.look_at_clock();
            for (index, &written) in self.results.iter().enumerate() {
                self.shard.handle_written(now, index, written);
            }
        }
        self.run_effects();
    }

    pub(super) fn is_drained(&self) -> bool {
        self.shard.is_draining() && self.shard.is_empty()
    }

    /// Closes every socket.
    pub(super) fn cut_all(&mut self) {
        self.sockets.clear();
    }

    fn look_at_clock(&mut self) -> Now {
        self.now = self.clock.now();
        self.now
    }

    /// Reads the sockets that have something. Returns whether there may be more of them.
    fn receive(&mut self, now: Now) -> bool {
        let inflated_max = self.shard.bytes_inflated() + INFLATED_PER_TURN;
        let mut ready = std::mem::take(&mut self.ready);
        let may_be_more = self.readiness.poll(&mut ready);
        for &ready in &ready {
            if ready.writable {
                self.shard.handle_writable(ready.id);
            }
            if ready.readable {
                let is_next_turns =
                    self.shard.may_inflate(ready.id) && self.shard.bytes_inflated() > inflated_max;
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
            let Some(fd) = self.fd(ready.id) else { return true };
            let read_len = if self.shard.may_inflate(ready.id) { DEFLATED_READ_LEN } else { SCRATCH_LEN };
            let scratch = &mut self.scratch[..read_len];
            // SAFETY: the buffer is ours and as long as said; the call does not keep it.
            let received =
                unsafe { libc::recv(fd, scratch.as_mut_ptr().cast(), scratch.len(), libc::MSG_DONTWAIT) };
            if received > 0 {
                self.feed(now, ready.id, received as usize);
                // Less than asked for: the socket is empty, and what comes next is another event. The end of the
                // stream that came with these bytes is not.
                if (received as usize) < read_len && !ready.ended {
                    return true;
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

    /// Feeds received bytes to the shard, putting each question as it is raised.
    fn feed(&mut self, now: Now, id: ConnId, len: usize) {
        let mut used = 0;
        while used < len {
            used += self.shard.handle_bytes(now, id, &mut self.scratch[used..len]);
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
            self.shard.handle_mail(now, letter);
            self.run_effects();
            if frame_bytes > FRAME_BYTES_PER_TURN {
                break;
            }
        }
        self.mail.ring();
    }

    fn run_effects(&mut self) {
        while let Some(effect) = self.shard.poll_effect() {
            self.run_effect(effect);
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        let (shard, directory) = (self.asker.shard, self.engine.router().directory());
        match effect {
            Effect::Ask(ask) => {
                if let Some(verdict) = self.asker.put(ask) {
                    self.shard.handle_verdict(self.now, verdict);
                }
            }
            Effect::ClientUp { client_id, conn, mount } => {
                directory.client_up(client_id, mount, ClientRef { shard, conn });
            }
            Effect::ClientDown { client_id } => directory.client_down(client_id),
            Effect::UserUp(mount, user) => directory.user_up(mount, user, shard),
            Effect::UserDown(mount, user) => directory.user_down(mount, &user, shard),
            Effect::RoomUp(mount, room) => directory.room_up(mount, room, shard),
            Effect::RoomDown(mount, room) => directory.room_down(mount, &room, shard),
            Effect::DeflateUp(mount) => directory.deflate_up(mount, shard),
            Effect::DeflateDown(mount) => directory.deflate_down(mount, shard),
            Effect::AwaitWritable(id) => self.tell_again(id),
            Effect::Fin(id) => {
                if let Some(fd) = self.fd(id) {
                    // SAFETY: takes no pointers. It fails when the peer was faster.
                    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
                }
            }
            Effect::Drop(id) => {
                drop(self.unseat(id));
            }
            Effect::HandOff { conn, received } => {
                if let Some(fd) = self.unseat(conn) {
                    self.hand_off(fd, conn, received);
                }
            }
            Effect::Reply { ticket, reply } => self.engine.answer(ticket, reply),
        }
    }

    fn tell_again(&mut self, id: ConnId) {
        let Some(fd) = self.fd(id) else { return };
        if let Err(error) = self.readiness.tell_again(fd, id) {
            tracing::warn!(%error, "cannot watch a connection, which ends");
            self.shard.handle_hang_up(id, HangUp::Error);
            self.run_effects();
        }
    }

    /// Takes the socket out and frees the connection's slot.
    fn unseat(&mut self, id: ConnId) -> Option<OwnedFd> {
        socket_of(&self.sockets, id)?;
        let socket = self.sockets[id.slot as usize].take();
        self.shard.handle_closed(id);
        socket.map(|socket| socket.fd)
    }

    fn hand_off(&mut self, fd: OwnedFd, id: ConnId, received: Vec<u8>) {
        if let Err(error) = self.readiness.remove(fd.as_raw_fd(), id) {
            tracing::warn!(%error, "cannot stop watching a connection");
        }
        match self.hand_offs.try_send(HandOff { stream: fd.into(), received }) {
            Ok(()) => {}
            Err(TrySendError::Full(hand_off) | TrySendError::Closed(hand_off)) => {
                self.engine.status().process.hand_offs_refused.fetch_add(1, Ordering::Relaxed);
                hand_off.refuse();
            }
        }
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
