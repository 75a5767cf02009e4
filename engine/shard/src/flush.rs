//! The second half of a turn: what each touched connection gets is laid out and offered to its socket.
//!
//! [`Shard::poll_writes`] prepares a batch, [`Shard::writes`] lends its bytes, [`Shard::handle_written`]
//! takes the result of each. Between the first `poll_writes` of a turn and the one that returns `false`
//! nothing else may be handed to the shard, so the lent bytes stay where they are.

use std::rc::Rc;

use crate::burst::{Burst, BurstIndex, ROOT, Step};
use crate::conn::Phase;
use crate::event::{Effect, HangUp, Now};
use crate::ids::ConnId;
use crate::limits::SlowConsumer;
use crate::outbox::{Bounds, Outbox};
use crate::sealing::Sealing;
use crate::shard::Shard;

/// Writes of one batch.
pub const BATCH_LEN_MAX: usize = 512;

/// What a socket said to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It took this many bytes; 0 when it is full.
    Took(usize),
    /// It is broken.
    Failed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    Burst(BurstIndex),
    Outbox,
    /// Number of the encrypted write within [`Sealing`].
    Sealed(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) conn: ConnId,
    pub(crate) source: Source,
}

/// The state of a turn's flush.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    /// Connections with something new this turn, each once.
    pub(crate) touched: Vec<ConnId>,
    /// Connections whose socket takes bytes again.
    pub(crate) resumed: Vec<ConnId>,
    pub(crate) batch: Vec<Write>,
    /// What encrypted connections get, after all others.
    pub(crate) sealing: Sealing,
    next_touched: usize,
    feeds_spread: bool,
}

impl Shard {
    /// The socket takes bytes again.
    pub fn handle_writable(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if std::mem::take(&mut conn.awaiting_writable) {
            self.flush.resumed.push(id);
        }
    }

    /// Prepares the next batch of writes. `false`: nothing is left and the turn is over.
    pub fn poll_writes(&mut self) -> bool {
        if !self.flush.feeds_spread {
            self.flush.feeds_spread = true;
            self.spread_feeds();
        }
        self.flush.batch.clear();
        while self.flush.batch.len() < BATCH_LEN_MAX {
            if let Some(id) = self.flush.resumed.pop() {
                match self.conns.get(id) {
                    Some(conn) if conn.cipher.is_some() => self.flush.sealing.backlog(id),
                    Some(conn) if conn.outbox.is_some() => {
                        self.flush.batch.push(Write { conn: id, source: Source::Outbox });
                    }
                    _ => {}
                }
                continue;
            }
            let Some(&id) = self.flush.touched.get(self.flush.next_touched) else { break };
            self.flush.next_touched += 1;
            self.offer(id);
        }
        if self.flush.batch.is_empty() {
            self.seal_batch();
        }
        if self.flush.batch.is_empty() {
            self.end_turn();
            return false;
        }
        true
    }

    /// The batch: which connection, and what to write to it. The bytes stay put until the next call of
    /// [`Shard::poll_writes`].
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (ConnId, &[u8])> {
        self.flush.batch.iter().map(|write| {
            let bytes = match write.source {
                Source::Burst(burst) => &self.turn.burst(burst).bytes[..],
                Source::Outbox => {
                    self.conns.get(write.conn).and_then(|c| c.outbox.as_deref()).map_or(&[][..], Outbox::head)
                }
                Source::Sealed(number) => {
                    // One that is gone by now, for being slow, gets nothing, like all others.
                    let is_there = self.conns.get(write.conn).is_some_and(|conn| conn.phase != Phase::Gone);
                    if is_there { self.flush.sealing.bytes(number) } else { &[] }
                }
            };
            (write.conn, bytes)
        })
    }

    /// What became of write number `index` of the batch. Each is reported once.
    pub fn handle_written(&mut self, now: Now, index: usize, written: Written) {
        let Write { conn: id, source } = self.flush.batch[index];
        let took = match written {
            Written::Took(took) => took,
            Written::Failed => {
                match source {
                    Source::Burst(burst) => {
                        self.counters.dropped_disconnected += self.turn.burst(burst).message_count() as u64;
                    }
                    Source::Sealed(number) => self.sealed_failed(number),
                    Source::Outbox => {}
                }
                self.handle_hang_up(id, HangUp::Error);
                return;
            }
        };
        let Some(conn) = self.conns.get_mut(id) else { return };
        self.counters.bytes_sent += took as u64;
        let is_traffic = match source {
            Source::Burst(burst) => self.turn.burst(burst).has_message_within(0, took as u32),
            Source::Outbox => conn.outbox.as_deref().is_some_and(|outbox| outbox.head_has_message(took)),
            Source::Sealed(number) => self.flush.sealing.has_message_within(number, took),
        };
        // Were our own ping a sign of life, a dead peer would be pinged for ever. Where pings keep their own beat, only
        // what comes in counts.
        if is_traffic && !self.config.mounts[conn.mount.0 as usize].is_topic() {
            conn.last_traffic_ms = now.ms;
            conn.ping_out = false;
        }
        match source {
            Source::Burst(burst) => self.burst_written(id, burst, took),
            Source::Outbox => self.outbox_written(id, took),
            Source::Sealed(number) => {
                if self.sealed_written(id, number, took) {
                    return;
                }
            }
        }
        self.finish_closing(now, id);
    }

    /// Every member of every room that was published to follows the room's feed.
    fn spread_feeds(&mut self) {
        let Self { turn, rooms, conns, flush, .. } = self;
        let feeds: Vec<_> = turn.feeds().collect();
        for (feed, room) in feeds {
            let room = rooms.room_mut(room);
            room.feed = None;
            for member in &room.members {
                let conn = conns.at_mut(member.slot).expect("members exist");
                conn.path = turn.extend(conn.path, Step::Feed(feed));
                if !conn.touched {
                    conn.touched = true;
                    flush.touched.push(ConnId { slot: member.slot, generation: conn.generation });
                }
            }
        }
    }

    /// Puts a touched connection's burst into the batch, or behind its backlog. What is to be encrypted comes later;
    /// a backlog is complete by then, since what is offered of it must stay.
    fn offer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.cipher.is_some() && conn.outbox.is_none() {
            self.flush.sealing.touched(id);
            return;
        }
        conn.touched = false;
        let path = std::mem::replace(&mut conn.path, ROOT);
        if conn.phase == Phase::Gone {
            return;
        }
        let Some(burst) = self.turn.burst_of(path, conn.takes_deflated()) else { return };
        if conn.outbox.is_none() {
            self.flush.batch.push(Write { conn: id, source: Source::Burst(burst) });
        } else {
            self.queue(id, burst, 0);
        }
    }

    fn burst_written(&mut self, id: ConnId, burst: BurstIndex, took: usize) {
        let bytes_len = self.turn.burst(burst).bytes.len();
        let frames = self.turn.burst(burst).frames.len();
        if took == bytes_len {
            self.counters.frames_sent += frames as u64;
            return;
        }
        self.counters.short_writes += 1;
        self.counters.frames_sent += self.turn.burst(burst).frame_at(took as u32) as u64;
        self.queue(id, burst, took as u32);
        self.await_writable(id);
    }

    /// Puts what follows byte `from` of a burst behind the connection's backlog.
    pub(crate) fn queue(&mut self, id: ConnId, burst: BurstIndex, from: u32) {
        let burst = Rc::clone(self.turn.burst(burst));
        self.queue_burst(id, &burst, from);
    }

    /// The same with any burst.
    pub(crate) fn queue_burst(&mut self, id: ConnId, burst: &Rc<Burst>, from: u32) {
        let conn = self.conns.get_mut(id).expect("looked up by the caller");
        debug_assert!(conn.phase != Phase::Gone, "what is queued for nobody is never let go");
        let mount = &self.config.mounts[conn.mount.0 as usize];
        let bounds = Bounds {
            bytes_max: mount.outbox_bytes_max,
            messages_max: mount.outbox_messages_max,
            drops_oldest: mount.slow_consumer == SlowConsumer::DropOldest,
        };
        let outbox = conn.outbox.get_or_insert_default();
        let refused = outbox.push(burst, from, bounds, &mut self.ledger);
        self.counters.dropped_outbox_full += u64::from(refused.full);
        self.counters.dropped_memory_cap += u64::from(refused.memory);
        let is_slow = refused.full + refused.memory > 0 && mount.slow_consumer == SlowConsumer::Disconnect;
        if is_slow || refused.replies > 0 {
            self.counters.slow_disconnected += 1;
            self.drop_conn(id);
        }
    }

    fn outbox_written(&mut self, id: ConnId, took: usize) {
        let conn = self.conns.get_mut(id).expect("looked up by the caller");
        let Some(outbox) = &mut conn.outbox else { return };
        let offered = outbox.head().len();
        self.counters.frames_sent += u64::from(outbox.advance(took, &mut self.ledger));
        if outbox.is_empty() {
            conn.outbox = None;
        } else if took == offered {
            self.flush.resumed.push(id);
        } else {
            self.await_writable(id);
        }
    }

    pub(crate) fn await_writable(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Gone && !std::mem::replace(&mut conn.awaiting_writable, true) {
            self.effects.push_back(Effect::AwaitWritable(id));
        }
    }

    /// Once the last byte of a closing connection is out, FIN follows.
    fn finish_closing(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Closing || conn.outbox.is_some() || conn.touched {
            return;
        }
        if conn.peer_done {
            self.drop_conn(id);
            return;
        }
        conn.phase = Phase::Lingering;
        conn.since_ms = now.ms;
        self.effects.push_back(Effect::Fin(id));
        self.arm(id);
    }

    fn end_turn(&mut self) {
        self.turn.clear();
        self.flush.touched.clear();
        self.flush.next_touched = 0;
        self.flush.feeds_spread = false;
        self.flush.sealing.end_turn();
        self.counters.turns += 1;
    }
}
