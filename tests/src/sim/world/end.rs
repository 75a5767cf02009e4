//! What must hold after a turn, when all is quiet, and when everybody has left.

use super::super::model::{Phase, Tally};
use super::World;

/// Timers are kept in steps of this, milliseconds.
const TICK_MS: u64 = 16;
/// Rounds of everything there is to do, after which it must be done.
const ROUNDS_MAX: usize = 4_000;

impl World<'_> {
    /// After the timers of a shard fired, nothing is overdue and the shard will wake for what comes next.
    pub(super) fn check_nothing_overdue(&self, shard: usize) {
        let wake_ms = self.hosts[shard].shard.poll_wake();
        let is_drained = self.hosts[shard].drained_by_ms.is_some_and(|end_ms| end_ms <= self.now.ms);
        for index in self.model.on_shard(shard) {
            let is_over = !matches!(self.model.conns[index].phase, Phase::Head | Phase::Open);
            assert!(is_over || !is_drained, "connection {index} outlives the drain of shard {shard}");
            for (at_ms, due) in self.model.deadlines(index) {
                assert!(
                    at_ms + 2 * TICK_MS > self.now.ms,
                    "connection {index} is overdue for {due:?} at {at_ms} ms"
                );
                let in_time = wake_ms.is_some_and(|wake_ms| wake_ms <= at_ms.max(self.now.ms) + 2 * TICK_MS);
                assert!(
                    in_time,
                    "nobody wakes at {at_ms} ms for {due:?} of connection {index}, but {wake_ms:?}"
                );
            }
        }
    }

    /// After a whole turn the shard owes nothing.
    pub(super) fn check_turn(&mut self, shard: usize) {
        let conns: Vec<_> =
            self.model.on_shard(shard).filter(|&conn| !self.peers[conn].is_released).collect();
        for index in conns {
            let has_outbox = {
                let conn = self.hosts[shard].shard.conn(self.model.conns[index].id);
                conn.is_some_and(|conn| conn.outbox.is_some())
            };
            self.model.settle_backlog(index, has_outbox);
            let conn = &self.model.conns[index];
            assert!(conn.turn.is_empty(), "connection {index} was not offered {:?}", conn.turn);
            let owed = &conn.owed;
            assert!(
                !owed.fin && !owed.drop && owed.hand_off.is_none(),
                "connection {index} is owed {owed:?}"
            );
            assert!(owed.listens.is_empty(), "nobody listens to {:?} for {index}", owed.listens);
            assert!(owed.questions.is_empty(), "nobody was asked {:?} for {index}", owed.questions);
            let comes_next = conn.cipher.is_some() && self.hosts[shard].shard.wants_turn();
            assert!(
                conn.awaiting || comes_next || !has_outbox,
                "connection {index} has a backlog and nobody waits"
            );
        }
        assert!(self.hosts[shard].replies.is_empty(), "a query of shard {shard} is not answered");
        self.check_counters(shard);
        self.hosts[shard].shard.check_invariants();
        self.mirror.check(shard, &self.model);
        let is_open = self.fault != Some(super::Fault::ForgetDown) || !self.totals.fault_done;
        if self.rng.chance(10) || !is_open {
            self.mirror.check_directory(&self.directory);
            self.mirror.check_deflating(&self.directory, self.scenario.config.mounts.len());
        }
    }

    fn check_counters(&self, shard: usize) {
        let counters = self.hosts[shard].shard.counters();
        let cap = self.scenario.config.outbox_bytes_total_max.saturating_add(self.model.forced_bytes(shard));
        assert!(
            counters.outbox_bytes as usize <= cap,
            "outboxes of shard {shard} hold {} of {cap} bytes",
            counters.outbox_bytes
        );
        let tally = Tally {
            dropped_full: (counters.dropped_outbox_full + counters.dropped_memory_cap) as usize,
            dropped_disconnected: counters.dropped_disconnected as usize,
            slow_disconnected: counters.slow_disconnected as usize,
            pongs_coalesced: counters.pongs_coalesced as usize,
        };
        let expected = &self.model.tallies[shard];
        if self.scenario.memory_scarce {
            // What was refused shows when what follows it is written, at the latest when nothing waits.
            assert!(
                expected.dropped_full <= tally.dropped_full + tally.dropped_disconnected,
                "{expected:?} {tally:?}"
            );
            assert_eq!(tally.pongs_coalesced, expected.pongs_coalesced, "pongs of shard {shard}");
        } else {
            assert_eq!(tally, *expected, "counters of shard {shard}");
            assert_eq!(counters.dropped_memory_cap, 0, "memory was not scarce");
        }
    }

    /// Everybody listens again and everything on its way arrives: then nobody misses anything.
    pub(super) fn settle(&mut self) {
        self.is_settling = true;
        for peer in &mut self.peers {
            peer.recover();
        }
        for _ in 0..ROUNDS_MAX {
            if !self.round() {
                self.check_quiet();
                return;
            }
        }
        panic!("things never come to rest");
    }

    /// Does everything there is to do, once; returns whether there was anything.
    fn round(&mut self) -> bool {
        let mut was_busy = !self.late.is_empty();
        self.post_answer();
        for shard in 0..self.hosts.len() {
            while self.take_letter(shard) {
                was_busy = true;
            }
        }
        for peer in 0..self.peers.len() {
            if self.peers[peer].is_readable() {
                was_busy = true;
                self.receive_all(peer);
            }
            if self.model.conns[peer].awaiting && self.peers[peer].is_writable() {
                was_busy = true;
                self.tell_one_writable(peer);
            }
        }
        for shard in 0..self.hosts.len() {
            self.finish_turn(shard);
            was_busy |= self.hosts[shard].shard.wants_turn();
        }
        for peer in 0..self.peers.len() {
            // A write that took little though there was room has left a backlog for the next round.
            was_busy |= self.model.conns[peer].awaiting && self.peers[peer].is_writable();
            if self.peers[peer].is_listening() && !self.peers[peer].has_read_all() {
                was_busy = true;
                self.read(peer, usize::MAX);
            }
            if self.peers[peer].is_dropped && !self.peers[peer].is_released {
                was_busy = true;
                self.release(peer);
            }
        }
        was_busy
    }

    /// Whoever lives has heard everything it was owed.
    fn check_quiet(&mut self) {
        for (index, peer) in self.peers.iter().enumerate() {
            let conn = &self.model.conns[index];
            if peer.is_reset || conn.phase == Phase::Gone {
                continue;
            }
            assert!(conn.line.is_empty(), "connection {index} still has a backlog");
            assert!(conn.wire.is_empty(), "client {index} misses {:?}", conn.wire);
        }
        for (shard, host) in self.hosts.iter().enumerate() {
            let counters = host.shard.counters();
            assert_eq!(counters.outbox_bytes, 0, "outboxes of shard {shard} when nobody has a backlog");
            if self.scenario.memory_scarce {
                let dropped = (counters.dropped_outbox_full + counters.dropped_memory_cap) as usize;
                let lost = dropped + counters.dropped_disconnected as usize;
                let tally = &self.model.tallies[shard];
                assert!(
                    dropped <= tally.dropped_full + tally.dropped_disconnected,
                    "{tally:?}, {counters:?}"
                );
                assert_eq!(lost, tally.dropped_full + tally.dropped_disconnected, "losses of shard {shard}");
            }
        }
        self.mirror.check_directory(&self.directory);
        self.mirror.check_deflating(&self.directory, self.scenario.config.mounts.len());
    }

    /// Everybody leaves, by themselves or because the server drains: then nothing is left.
    pub(super) fn tear_down(&mut self) {
        let drains = self.rng.chance(50);
        for shard in 0..self.hosts.len() * usize::from(drains) {
            let period_ms = self.rng.pick(&[0, 500, 30_000]);
            self.post(shard, shardcast_shard::Mail::Drain { period_ms });
        }
        if !drains {
            for peer in 0..self.peers.len() {
                match self.rng.below(3) {
                    0 => self.peers[peer].reset(),
                    _ => self.peers[peer].has_finished = true,
                }
            }
        }
        for _ in 0..ROUNDS_MAX {
            self.round();
            if self.hosts.iter().all(|host| host.shard.is_empty()) {
                self.check_empty();
                return;
            }
            let wakes = self.hosts.iter().filter_map(|host| host.shard.poll_wake());
            let wake_ms = wakes.min().expect("somebody is left and has a deadline");
            self.advance(wake_ms.saturating_sub(self.now.ms));
            for shard in 0..self.hosts.len() {
                self.tick_if_due(shard);
            }
        }
        panic!("the shards never empty");
    }

    fn check_empty(&mut self) {
        assert!(self.mirror.is_empty(), "somebody left and nobody was told: {:?}", self.mirror);
        self.mirror.check_directory(&self.directory);
        self.mirror.check_deflating(&self.directory, self.scenario.config.mounts.len());
        for (shard, host) in self.hosts.iter().enumerate() {
            host.shard.check_invariants();
            let counters = host.shard.counters();
            let gauges = [
                counters.conns,
                counters.clients,
                counters.encrypted,
                counters.rooms,
                counters.outbox_bytes,
                counters.input_bytes,
            ];
            assert_eq!(gauges, [0; 6], "connections, clients, rooms and bytes of the empty shard {shard}");
        }
    }
}
