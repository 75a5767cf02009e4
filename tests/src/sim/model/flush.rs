//! The second half of a turn, for every connection on its own.

use shardcast_shard::{Now, SlowConsumer};

use super::super::line::{Bounds, Frame, Kind, Refused, offered_count};
use super::{Conn, Model, Phase};

/// What the entry of an outbox costs beside its burst, at most.
const ENTRY_BYTES: usize = 64;

impl Model {
    /// The shard begins to write: what connections with a backlog got in this turn waits behind it.
    pub(crate) fn begin_writes(&mut self, shard: usize) {
        self.turns += 1;
        let indexes: Vec<_> = self.on_shard(shard).collect();
        for index in indexes {
            if self.conns[index].line.is_empty() || self.conns[index].turn.is_empty() {
                continue;
            }
            let frames = self.stamped_turn(index, None);
            let bounds = self.bounds(index);
            let refused = self.conns[index].line.push(frames, bounds);
            self.refuse(index, refused);
        }
    }

    /// The socket took `took` of the bytes the shard offered it.
    pub(crate) fn written(&mut self, index: usize, took: usize, offered: &[u8], now: Now) {
        let bounds = self.bounds(index);
        let frames = if self.conns[index].line.is_empty() {
            self.offered_turn(index, took, offered)
        } else {
            Vec::new()
        };
        let is_topic = self.topics(index).is_some();
        let conn = &mut self.conns[index];
        let (heard, was_in_message) = (conn.wire.len(), conn.line.is_in_message());
        let refused = if frames.is_empty() {
            assert!(took == 0 || !conn.line.is_empty(), "connection {index} is sent bytes nobody queued");
            let messages = conn.line.take(took, offered, bounds.is_exact, &mut conn.wire);
            Refused { messages, replies: 0 }
        } else {
            conn.line.take_burst(frames, took, offered, bounds, &mut conn.wire)
        };
        let is_message = was_in_message || conn.wire.range(heard..).any(|f| f.kind.is_message());
        if took > 0 && is_message && !is_topic {
            conn.traffic_ms = now.ms;
            conn.ping_out = false;
        }
        // What is encrypted comes in several writes; once the socket is full, the rest is backlog.
        let later = if took < offered.len() { conn.queue_turn(bounds) } else { Refused::default() };
        let refused =
            Refused { messages: refused.messages + later.messages, replies: refused.replies + later.replies };
        let is_done = conn.line.is_empty() && conn.turn.is_empty();
        if bounds.is_exact {
            self.refuse(index, refused);
        } else {
            self.tallies[self.conns[index].shard].dropped_full += refused.messages;
        }
        if self.conns[index].phase == Phase::Closing && is_done {
            self.finish_closing(index, now);
        }
    }

    /// The shard ends a turn: what it did not come to encrypt is backlog.
    pub(crate) fn end_writes(&mut self, shard: usize) {
        let encrypted = |index: &usize| self.conns[*index].cipher.is_some();
        let indexes: Vec<_> = self.on_shard(shard).filter(encrypted).collect();
        for index in indexes {
            let bounds = self.bounds(index);
            let refused = self.conns[index].queue_turn(bounds);
            self.refuse(index, refused);
        }
    }

    /// What the shard told after writing agrees with what it still holds: with memory scarce only the shard
    /// knows what it refused.
    pub(crate) fn settle_backlog(&mut self, index: usize, has_outbox: bool) {
        let conn = &mut self.conns[index];
        if self.memory_scarce && !has_outbox {
            assert_eq!(conn.line.written, 0, "connection {index}: the shard let go of half a frame");
            assert!(
                conn.line.frames().all(|f| f.kind == Kind::Message),
                "connection {index}: refused a control"
            );
            self.tallies[conn.shard].dropped_full += conn.line.abandon();
        } else if !self.memory_scarce {
            assert_eq!(has_outbox, !conn.line.is_empty(), "connection {index}: whether it has a backlog");
        }
    }

    /// What the outboxes of a shard may hold beyond their cap: bursts that hold what must not be refused.
    pub(crate) fn forced_bytes(&self, shard: usize) -> usize {
        let mut bytes = 0;
        for conn in self.conns.iter().filter(|conn| conn.shard == shard) {
            let mut last_turn = None;
            for frame in conn.line.frames() {
                let Some((turn, burst_len)) = frame.forced else { continue };
                bytes += ENTRY_BYTES;
                if last_turn.replace(turn) != Some(turn) {
                    bytes += burst_len;
                }
            }
        }
        bytes
    }

    /// The frames of a turn that are offered at once: all, or as many as were encrypted.
    fn offered_turn(&mut self, index: usize, took: usize, offered: &[u8]) -> Vec<Frame> {
        let mut frames = self.stamped_turn(index, Some((took, offered)));
        if self.conns[index].cipher.is_some() {
            self.conns[index].turn = frames.split_off(offered_count(&frames, offered));
        }
        frames
    }

    /// The frames of a turn, marked when their burst is held whatever memory is left.
    fn stamped_turn(&mut self, index: usize, write: Option<(usize, &[u8])>) -> Vec<Frame> {
        let mut frames = std::mem::take(&mut self.conns[index].turn);
        let burst_len = match write {
            Some((_, offered)) => offered.len(),
            None => frames.iter().map(Frame::len).sum(),
        };
        if write.is_some_and(|(took, _)| took > 0)
            || frames.iter().any(|frame| matches!(frame.kind, Kind::Control | Kind::Reply))
        {
            for frame in &mut frames {
                frame.forced = Some((self.turns, burst_len));
            }
        }
        frames
    }

    fn refuse(&mut self, index: usize, refused: Refused) {
        let conn = &self.conns[index];
        let tally = &mut self.tallies[conn.shard];
        tally.dropped_full += refused.messages;
        let disconnects = self.config.mounts[conn.mount].slow_consumer == SlowConsumer::Disconnect;
        if (refused.messages > 0 && disconnects) || refused.replies > 0 {
            tally.slow_disconnected += 1;
            self.drop_conn(index);
        }
    }

    fn finish_closing(&mut self, index: usize, now: Now) {
        if self.conns[index].peer_done {
            self.drop_conn(index);
            return;
        }
        let conn = &mut self.conns[index];
        conn.phase = Phase::Lingering;
        conn.since_ms = now.ms;
        conn.owed.fin = true;
    }
}

impl Conn {
    /// What is left of a turn waits behind the backlog. Returns what is refused.
    fn queue_turn(&mut self, bounds: Bounds) -> Refused {
        let frames = std::mem::take(&mut self.turn);
        self.line.push(frames, bounds)
    }
}
