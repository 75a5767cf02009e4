//! The encrypted part of a flush: what encrypted connections get is encrypted for each on its own, just before it
//! is offered to the socket, from the same shared bursts that all others get.
//!
//! It comes after all clear writes of the turn, and stops at `sealed_bytes_per_turn`: the rest waits as backlog for
//! the next turn, behind whatever is clear by then. So an outbox holds shared plain frames, counted and refused as
//! those of any other connection; ciphertext lives in one buffer a shard until the socket takes it, and beyond that
//! for the rest of the one frame of a connection that its socket took in part; where the ledger has no room for that,
//! the connection ends.
//!
//! Invariants: after a turn only connections with a backlog are left, each once, and none that waits for its socket;
//! a frame is encrypted for a connection again only if the socket took no byte of it, and then under another IV.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use shardcast_wire::frame;
use shardcast_wire::ignis::{Cipher, encryption};

use crate::burst::{Burst, BurstIndex, FrameKind, ROOT};
use crate::conn::Phase;
use crate::flush::{BATCH_LEN_MAX, Source, Write};
use crate::ids::ConnId;
use crate::shard::Shard;

/// Bytes of ciphertext of one turn, and what one write adds; what is left comes after the clear writes of the next.
pub const SEALED_BYTES_PER_TURN: usize = 512 << 10;
/// Bytes of one encrypted write, and what one frame adds: about what a socket takes at a time, since what it does
/// not take is encrypted again.
const SEALED_BYTES_PER_WRITE: usize = 64 << 10;

/// Something of this turn that is to be encrypted.
#[derive(Clone, Copy, Debug)]
enum Fresh {
    /// What the connection got, not laid out yet.
    Touched(ConnId),
    /// A burst from this byte on, for a connection without a backlog.
    Burst(ConnId, BurstIndex, u32),
}

/// One encrypted write.
#[derive(Debug)]
struct Sealed {
    burst: Rc<Burst>,
    /// Which of this turn's that is; `None` for one of the outbox.
    index: Option<BurstIndex>,
    /// Bytes of the burst that were encrypted; frames that are no messages are in there as they are.
    plain: Range<u32>,
    /// Where they are in the buffer.
    bytes: Range<usize>,
}

/// What encrypted connections are to get.
#[derive(Debug, Default)]
pub(crate) struct Sealing {
    /// Connections with a backlog whose socket may take it, oldest first. The others come behind them.
    backlogs: VecDeque<ConnId>,
    fresh: VecDeque<Fresh>,
    /// Of this batch.
    writes: Vec<Sealed>,
    /// Of this batch.
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// Bytes of ciphertext made in this turn.
    turn_bytes: usize,
}

/// What a socket made of an encrypted write.
#[derive(Debug, Default)]
struct Taken {
    /// Frames it took to their end.
    frames: u32,
    /// The first byte of the burst that it did not take, the start of a frame if that was to be encrypted.
    at: u32,
    /// What it did not take of the encrypted form of the frame there.
    begun: Option<Range<usize>>,
    /// Some of it belongs to a message.
    has_message: bool,
}

impl Sealing {
    /// A connection got something this turn.
    pub(crate) fn touched(&mut self, id: ConnId) {
        self.fresh.push_back(Fresh::Touched(id));
    }

    /// A connection has a backlog and its socket may take it.
    pub(crate) fn backlog(&mut self, id: ConnId) {
        self.backlogs.push_back(id);
    }

    /// The bytes of a write of this batch.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        &self.buffer[self.writes[number as usize].bytes.clone()]
    }

    /// Whether any of the first `took` bytes of a write belong to a message.
    pub(crate) fn has_message_within(&self, number: u32, took: usize) -> bool {
        self.writes[number as usize].taken(took).has_message
    }

    /// Whether something waits for the next turn.
    pub(crate) fn is_pending(&self) -> bool {
        !self.backlogs.is_empty()
    }

    pub(crate) fn end_turn(&mut self) {
        self.turn_bytes = 0;
        self.writes.clear();
        // One message of a megabyte need not keep its buffer for ever.
        for buffer in [&mut self.buffer, &mut self.scratch] {
            buffer.clear();
            buffer.shrink_to(2 * SEALED_BYTES_PER_TURN);
        }
    }

    /// Encrypts from `plain.start` on, to `plain.end` or until the write is long enough.
    fn seal(
        &mut self,
        cipher: &mut Cipher,
        burst: Rc<Burst>,
        index: Option<BurstIndex>,
        plain: Range<u32>,
        bytes_max: usize,
    ) -> (u32, u64) {
        let (start, mut at, mut messages) = (self.buffer.len(), plain.start, 0);
        for &(end, kind) in &burst.frames[burst.frame_at(plain.start)..] {
            if at >= plain.end || self.buffer.len() - start >= bytes_max {
                break;
            }
            let frame = &burst.bytes[at as usize..end as usize];
            if kind == FrameKind::Message {
                cipher.seal(payload(frame), &mut self.scratch, &mut self.buffer);
                messages += 1;
            } else {
                self.buffer.extend_from_slice(frame);
            }
            at = end;
        }
        self.turn_bytes += self.buffer.len() - start;
        let number = self.writes.len() as u32;
        let bytes = start..self.buffer.len();
        self.writes.push(Sealed { burst, index, plain: plain.start..at, bytes });
        (number, messages)
    }
}

impl Sealed {
    fn taken(&self, took: usize) -> Taken {
        let mut taken = Taken { at: self.plain.start, ..Taken::default() };
        let mut left = took;
        for &(end, kind) in &self.burst.frames[self.burst.frame_at(self.plain.start)..] {
            if left == 0 || taken.at >= self.plain.end {
                break;
            }
            taken.has_message |= kind.is_message();
            let frame = &self.burst.bytes[taken.at as usize..end as usize];
            let is_sealed = kind == FrameKind::Message;
            let len = if is_sealed { encryption::sealed_len(payload(frame).len()) } else { frame.len() };
            if left < len {
                if is_sealed {
                    let start = self.bytes.start + took - left;
                    taken.begun = Some(start + left..start + len);
                } else {
                    taken.at += left as u32;
                }
                break;
            }
            left -= len;
            taken.at = end;
            taken.frames += 1;
        }
        taken
    }
}

/// The payload of a whole server frame.
fn payload(frame: &[u8]) -> &[u8] {
    let (header_len, payload_len) = frame::frame_len(frame).expect("a frame of ours is whole");
    &frame[header_len..header_len + payload_len]
}

impl Shard {
    /// Whether encrypted connections wait for another turn: it should come after whatever else there is to do.
    pub fn wants_turn(&self) -> bool {
        self.flush.sealing.is_pending()
    }

    /// Fills the batch, which is empty, with encrypted writes.
    pub(crate) fn seal_batch(&mut self) {
        self.flush.sealing.buffer.clear();
        self.flush.sealing.writes.clear();
        while self.flush.batch.len() < BATCH_LEN_MAX {
            if self.flush.sealing.turn_bytes >= self.config.sealed_bytes_per_turn {
                self.defer();
                break;
            }
            if let Some(id) = self.flush.sealing.backlogs.pop_front() {
                self.seal_backlog(id);
                continue;
            }
            match self.flush.sealing.fresh.pop_front() {
                Some(Fresh::Touched(id)) => {
                    if let Some(burst) = self.lay_out_sealed(id) {
                        self.seal_burst(id, burst, 0);
                    }
                }
                Some(Fresh::Burst(id, burst, from)) => self.seal_burst(id, burst, from),
                None => break,
            }
        }
    }

    /// What a touched connection gets, which has no backlog.
    fn lay_out_sealed(&mut self, id: ConnId) -> Option<BurstIndex> {
        let conn = self.conns.get_mut(id)?;
        conn.touched = false;
        let path = std::mem::replace(&mut conn.path, ROOT);
        self.turn.burst_of(path, false).filter(|_| conn.phase != Phase::Gone)
    }

    fn seal_burst(&mut self, id: ConnId, index: BurstIndex, from: u32) {
        let burst = Rc::clone(self.turn.burst(index));
        let plain = from..burst.bytes.len() as u32;
        self.seal(id, burst, Some(index), plain);
    }

    fn seal_backlog(&mut self, id: ConnId) {
        let Some(outbox) = self.conns.get(id).and_then(|conn| conn.outbox.as_deref()) else { return };
        match outbox.front() {
            Some((burst, from, to)) => self.seal(id, Rc::clone(burst), None, from..to),
            None => self.flush.batch.push(Write { conn: id, source: Source::Outbox }),
        }
    }

    fn seal(&mut self, id: ConnId, burst: Rc<Burst>, index: Option<BurstIndex>, plain: Range<u32>) {
        let Some(cipher) = self.conns.get_mut(id).and_then(|conn| conn.cipher.as_deref_mut()) else { return };
        let bytes_max = SEALED_BYTES_PER_WRITE.min(self.config.sealed_bytes_per_turn);
        let (number, messages) = self.flush.sealing.seal(cipher, burst, index, plain, bytes_max);
        self.counters.messages_encrypted += messages;
        self.flush.batch.push(Write { conn: id, source: Source::Sealed(number) });
    }

    /// The turn has encrypted enough: the rest becomes backlog, as if the sockets had taken nothing.
    fn defer(&mut self) {
        while let Some(fresh) = self.flush.sealing.fresh.pop_front() {
            let (id, burst) = match fresh {
                Fresh::Touched(id) => (id, self.lay_out_sealed(id).map(|burst| (burst, 0))),
                Fresh::Burst(id, burst, from) => (id, Some((burst, from))),
            };
            let Some((burst, from)) = burst else { continue };
            self.counters.encryption_deferred += 1;
            self.queue(id, burst, from);
            if self.conns.get(id).is_some_and(|conn| conn.outbox.is_some()) {
                self.flush.sealing.backlog(id);
            }
        }
    }

    /// An encrypted write ended, and the connection's socket is broken.
    pub(crate) fn sealed_failed(&mut self, number: u32) {
        let Sealed { burst, index, plain, .. } = &self.flush.sealing.writes[number as usize];
        if index.is_some() {
            self.counters.dropped_disconnected += burst.message_count_from(plain.start) as u64;
        }
    }

    /// A socket took so many bytes of an encrypted write. Returns whether the rest of a burst follows this turn.
    pub(crate) fn sealed_written(&mut self, id: ConnId, number: u32, took: usize) -> bool {
        let sealed = &self.flush.sealing.writes[number as usize];
        let (taken, index, is_all) = (sealed.taken(took), sealed.index, took == sealed.bytes.len());
        let begun = taken.begun.clone().map(|rest| {
            let rest = Bytes::copy_from_slice(&self.flush.sealing.buffer[rest]);
            Burst::of_one(rest, FrameKind::Begun)
        });
        match index {
            Some(index) => self.sealed_burst_written(id, index, taken, begun, is_all),
            None => {
                let from = sealed.plain.start;
                self.sealed_backlog_written(id, from, taken, begun, is_all);
                false
            }
        }
    }

    fn sealed_burst_written(
        &mut self,
        id: ConnId,
        index: BurstIndex,
        taken: Taken,
        begun: Option<Burst>,
        is_all: bool,
    ) -> bool {
        self.counters.frames_sent += u64::from(taken.frames);
        let burst = self.turn.burst(index);
        let end = burst.bytes.len() as u32;
        let mut at = taken.at;
        if is_all {
            if at < end {
                self.flush.sealing.fresh.push_back(Fresh::Burst(id, index, at));
            }
            return at < end;
        }
        self.counters.short_writes += 1;
        if let Some(rest) = begun {
            at = burst.frames[burst.frame_at(at)].0;
            if !self.ledger.fits(&rest) {
                self.counters.dropped_disconnected += burst.message_count_from(at) as u64;
                self.cannot_finish(id);
                return false;
            }
            self.queue_burst(id, &Rc::new(rest), 0);
        }
        if at < end {
            self.queue(id, index, at);
        }
        self.await_writable(id);
        false
    }

    /// There is no memory for the rest of a begun frame, which is the connection's own and cannot be left out.
    fn cannot_finish(&mut self, id: ConnId) {
        self.counters.dropped_memory_cap += 1;
        self.drop_conn(id);
    }

    fn sealed_backlog_written(
        &mut self,
        id: ConnId,
        from: u32,
        taken: Taken,
        begun: Option<Burst>,
        is_all: bool,
    ) {
        let conn = self.conns.get_mut(id).expect("looked up by the caller");
        let Some(outbox) = &mut conn.outbox else { return };
        if taken.at > from {
            let frames = outbox.advance((taken.at - from) as usize, &mut self.ledger);
            self.counters.frames_sent += u64::from(frames);
        }
        if let Some(rest) = begun
            && !outbox.begin_front(rest, &mut self.ledger)
        {
            self.cannot_finish(id);
            return;
        }
        if outbox.is_empty() {
            conn.outbox = None;
        } else if is_all {
            self.flush.sealing.backlog(id);
        } else {
            self.await_writable(id);
        }
    }
}

#[cfg(any(test, feature = "check"))]
impl Sealing {
    /// Only backlogs are left between two turns, each once; returns whose.
    pub(crate) fn audit(&self) -> std::collections::BTreeSet<ConnId> {
        assert!(self.fresh.is_empty(), "{:?} is left after a turn", self.fresh);
        let listed: std::collections::BTreeSet<_> = self.backlogs.iter().copied().collect();
        assert_eq!(listed.len(), self.backlogs.len(), "a backlog is listed twice");
        listed
    }
}
