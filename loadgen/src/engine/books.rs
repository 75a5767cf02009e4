//! What one thread writes down of one phase: every delivery, and what else it heard.

use std::collections::BTreeMap;

use super::board::Orders;
use super::{Harvest, Reasons, Settings, note};
use crate::latency::{Latencies, Percentiles};
use crate::ledger::{Arrival, Ledger};
use crate::sizes::Sizes;
use crate::stamp::{Finder, Kind};
use crate::timeline::Slicer;
use crate::tracker::Tracker;

use std::sync::atomic::Ordering;

/// Longest text of an unexpected message that is kept.
const SAMPLE_CHARS_MAX: usize = 120;

/// The books of a thread.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    tracker: Tracker,
    finder: Finder,
    run: u32,
    room_count: u32,
    sizes: Sizes,
    latencies: Latencies,
    slicer: Slicer,
    pub(super) rounds: Latencies,
    pub(super) reconnects: Latencies,
    pub(super) backlog_bytes_max: u64,
    pub(super) reasons: Reasons,
    pub(super) slow_closed: u32,
    unstamped: Reasons,
    measured: u64,
    foreign: u64,
    altered: u64,
    /// Memberships that received a probe.
    pub(super) probed: u64,
    /// First copies.
    pub(super) delivered: u64,
}

impl Books {
    pub(super) fn new(settings: &Settings) -> Self {
        let clients = &settings.clients;
        let join_within_ns = u64::try_from(settings.join_within.as_nanos()).unwrap_or(u64::MAX);
        let (rooms, each) = (clients.rooms.len(), clients.rooms_per_connection as usize);
        Self {
            ledger: Ledger::new(rooms, each, join_within_ns, settings.roster()),
            tracker: Tracker::default(),
            finder: Finder::default(),
            run: 0,
            room_count: clients.rooms.len() as u32,
            sizes: settings.sizes.clone(),
            latencies: Latencies::new(),
            slicer: Slicer::new(),
            rounds: Latencies::new(),
            reconnects: Latencies::new(),
            backlog_bytes_max: 0,
            reasons: BTreeMap::new(),
            slow_closed: 0,
            unstamped: BTreeMap::new(),
            measured: 0,
            foreign: 0,
            altered: 0,
            probed: 0,
            delivered: 0,
        }
    }

    /// Books one message; this runs for every delivery. Returns the text of one that carries no stamp.
    #[inline]
    pub(super) fn deliver<'a>(
        &mut self,
        member: usize,
        message: &'a [u8],
        now_ns: u64,
        orders: &Orders,
    ) -> Option<&'a [u8]> {
        let Some(stamp) = self.finder.find(message) else { return Some(message) };
        if stamp.run != self.run {
            self.foreign += 1;
            return None;
        }
        let is_possible =
            stamp.kind == Kind::Probe || stamp.number < orders.published.load(Ordering::Relaxed);
        if !self.finder.is_whole(message, self.sizes.of(&stamp)) || !is_possible {
            self.altered += 1;
            return None;
        }
        if stamp.kind == Kind::Probe {
            self.probed += u64::from(self.ledger.probe(member, stamp.room));
            return None;
        }
        if self.ledger.arrive(member, stamp.room, stamp.sequence, stamp.due_ns) != Arrival::First {
            return None;
        }
        self.delivered += 1;
        if stamp.number >= orders.measured_from.load(Ordering::Relaxed) {
            self.measured += 1;
            self.latencies.record(stamp.due_ns, now_ns);
            self.slicer.record(stamp.due_ns, now_ns);
        }
        let ledger = &self.ledger;
        let owed_here = |number: u32| ledger.owed_here(number % self.room_count, number / self.room_count);
        let members = ledger.owed_here(stamp.room, stamp.sequence);
        self.tracker.arrive(stamp.number, members, now_ns, |number| owed_here(number) > 0);
        None
    }

    /// Books a message that is no publication.
    pub(super) fn note_unstamped(&mut self, message: &[u8]) {
        let sample: String = String::from_utf8_lossy(message).chars().take(SAMPLE_CHARS_MAX).collect();
        note(&mut self.unstamped, &sample);
    }

    /// Moves the timeline on; when that ends an interval, returns what it was like.
    pub(super) fn advance(&mut self, interval: u32) -> Option<Percentiles> {
        self.slicer.advance(interval)
    }

    /// The number below which all publications are complete here.
    pub(super) fn done_through(&self) -> u32 {
        self.tracker.done_through()
    }

    /// Closes the books of a phase with so many publications, and opens those of the one with number `run`.
    pub(super) fn hand_over(&mut self, published: u32, run: u32) -> Harvest {
        let room_count = self.room_count.max(1);
        let books = self.ledger.close(|room| published.saturating_sub(room).div_ceil(room_count));
        self.run = run;
        (self.probed, self.delivered) = (0, 0);
        let take = |latencies: &mut Latencies| std::mem::replace(latencies, Latencies::new());
        Harvest {
            books,
            last_arrival_ns: std::mem::take(&mut self.tracker).into_last_arrival_ns(),
            latencies: take(&mut self.latencies),
            slices: self.slicer.take(),
            rounds: take(&mut self.rounds),
            backlog_bytes_max: std::mem::take(&mut self.backlog_bytes_max),
            reconnects: take(&mut self.reconnects),
            measured: std::mem::take(&mut self.measured),
            reasons: std::mem::take(&mut self.reasons),
            slow_closed: std::mem::take(&mut self.slow_closed),
            unstamped: std::mem::take(&mut self.unstamped),
            foreign: std::mem::take(&mut self.foreign),
            altered: std::mem::take(&mut self.altered),
            attempts: None,
        }
    }
}
