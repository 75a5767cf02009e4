//! A hashed wheel of deadlines, one live entry a connection.
//!
//! The wheel does not know why a connection is due: it hands the connection out at or after the asked time
//! and the connection's own state says what is due, if anything. So a deadline that moves *later* costs
//! nothing (the entry fires, finds nothing due and is put back), and only one that moves *earlier* adds an
//! entry; the old one is recognised as stale by its time. Deadlines beyond the horizon fire at the horizon
//! and are put back.
//!
//! Invariants: an entry never fires before its time; at most one entry of a connection is not stale.

use crate::ids::ConnId;

/// Granularity, milliseconds. Deadlines fire up to this much late.
const TICK_MS: u64 = 16;
/// Slots; the horizon is `SLOT_COUNT * TICK_MS`, about 65 s.
const SLOT_COUNT: u64 = 4096;

/// No entry: later than every tick.
pub const UNARMED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    conn: ConnId,
    tick: u64,
}

/// The wheel of one shard.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// One bit a slot that is not empty.
    occupied: Vec<u64>,
    /// Every tick before this one has been handed out.
    next_tick: u64,
    /// Entries that were due but did not fit into the turn's batch, newest first.
    overdue: Vec<Entry>,
}

impl Wheel {
    /// An empty wheel that starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        Self {
            slots: vec![Vec::new(); SLOT_COUNT as usize],
            occupied: vec![0; SLOT_COUNT.div_ceil(64) as usize],
            next_tick: now_ms / TICK_MS,
            overdue: Vec::new(),
        }
    }

    /// Puts `conn` in for `deadline_ms` unless its entry `armed` fires early enough. Returns the tick to
    /// remember as the connection's live entry.
    pub fn arm(&mut self, conn: ConnId, armed: u64, deadline_ms: u64) -> u64 {
        let tick = deadline_ms.div_ceil(TICK_MS).clamp(self.next_tick, self.next_tick + SLOT_COUNT - 1);
        if armed <= tick {
            return armed;
        }
        let slot = (tick % SLOT_COUNT) as usize;
        self.slots[slot].push(Entry { conn, tick });
        self.occupied[slot / 64] |= 1 << (slot % 64);
        tick
    }

    /// The next connection whose entry is due, with the entry's tick, or `None` when all are handed out.
    /// The entry is gone: arm again. An entry whose tick is not the connection's live one is stale.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(ConnId, u64)> {
        let now_tick = now_ms / TICK_MS;
        if self.overdue.is_empty() && now_tick >= self.next_tick + SLOT_COUNT {
            self.overtake_all(now_tick);
        }
        while self.overdue.is_empty() {
            let tick = self.next_occupied()?;
            if tick > now_tick {
                self.next_tick = self.next_tick.max(now_tick);
                return None;
            }
            let slot = (tick % SLOT_COUNT) as usize;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.overdue = std::mem::take(&mut self.slots[slot]);
            self.overdue.reverse();
            self.next_tick = tick + 1;
        }
        self.overdue.pop().map(|entry| (entry.conn, entry.tick))
    }

    /// The clock passed the horizon: everything is due at once. Slot by slot, an entry that is put back for
    /// later would be handed out again once a horizon until the wheel has caught up.
    fn overtake_all(&mut self, now_tick: u64) {
        while let Some(tick) = self.next_occupied() {
            let slot = (tick % SLOT_COUNT) as usize;
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            self.overdue.append(&mut self.slots[slot]);
        }
        self.overdue.reverse();
        self.next_tick = now_tick;
    }

    /// When [`Wheel::pop_due`] will next have something, milliseconds; `None` when the wheel is empty.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if !self.overdue.is_empty() {
            return Some(0);
        }
        self.next_occupied().map(|tick| tick * TICK_MS)
    }

    /// Whether the entry `armed` of `conn` is there and fires in time for `deadline_ms`.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn fires_in_time(&self, conn: ConnId, armed: u64, deadline_ms: u64) -> bool {
        let is_it = |entry: &Entry| entry.conn == conn && entry.tick == armed;
        let slot = &self.slots[(armed % SLOT_COUNT) as usize];
        armed <= deadline_ms.div_ceil(TICK_MS).max(self.next_tick)
            && (slot.iter().any(is_it) || self.overdue.iter().any(is_it))
    }

    /// The earliest tick with entries. All entries lie within one horizon of `next_tick`, so a slot stands
    /// for one tick.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.next_tick % SLOT_COUNT;
        let words = self.occupied.len() as u64;
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word as usize];
            if step == 0 {
                bits &= !0 << (start % 64);
            } else if step == words {
                bits &= !(!0 << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + u64::from(bits.trailing_zeros());
                return Some(self.next_tick + (slot + SLOT_COUNT - start) % SLOT_COUNT);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    fn drain(wheel: &mut Wheel, now_ms: u64) -> Vec<u32> {
        std::iter::from_fn(|| wheel.pop_due(now_ms)).map(|(c, _)| c.slot).collect()
    }

    #[test]
    fn fires_at_or_after_the_deadline_never_before() {
        let mut wheel = Wheel::new(1_000);
        for (slot, deadline_ms) in [(1, 1_001), (2, 1_016), (3, 1_500), (4, 1_000), (5, 0)] {
            wheel.arm(conn(slot), UNARMED, deadline_ms);
        }
        let mut fired = Vec::new();
        for now_ms in 1_000..1_600 {
            for slot in drain(&mut wheel, now_ms) {
                fired.push((slot, now_ms));
            }
        }
        for (slot, deadline_ms) in [(1, 1_001), (2, 1_016), (3, 1_500), (4, 1_000), (5, 1_000)] {
            let at = fired.iter().find(|f| f.0 == slot).expect("fired").1;
            assert!(
                (deadline_ms..deadline_ms + TICK_MS).contains(&at),
                "{slot} due {deadline_ms} fired {at}"
            );
        }
    }

    #[test]
    fn a_later_deadline_keeps_the_entry_and_an_earlier_one_adds_one() {
        let mut wheel = Wheel::new(0);
        let armed = wheel.arm(conn(1), UNARMED, 1_000);
        assert_eq!(wheel.arm(conn(1), armed, 2_000), armed);
        let earlier = wheel.arm(conn(1), armed, 100);
        assert!(earlier < armed);
        assert_eq!(wheel.pop_due(200), Some((conn(1), earlier)));
        assert_eq!(wheel.pop_due(2_000), Some((conn(1), armed)), "stale, recognised by its tick");
        assert_eq!(wheel.pop_due(9_000), None);
    }

    #[test]
    fn beyond_the_horizon_fires_at_the_horizon() {
        let mut wheel = Wheel::new(0);
        wheel.arm(conn(1), UNARMED, 10_000_000);
        assert_eq!(wheel.next_wake_ms(), Some((SLOT_COUNT - 1) * TICK_MS));
        assert_eq!(drain(&mut wheel, 10_000_000), [1]);
        assert_eq!(wheel.next_wake_ms(), None);
    }

    #[test]
    fn a_clock_that_jumps_days_ahead_hands_an_entry_out_once_however_late_it_is_due() {
        let day_ms = 86_400_000;
        let mut wheel = Wheel::new(0);
        let mut armed = wheel.arm(conn(1), UNARMED, 30 * day_ms);
        for now_ms in [5 * day_ms, 5 * day_ms] {
            while let Some((id, tick)) = wheel.pop_due(now_ms) {
                assert_eq!((id, tick), (conn(1), armed));
                armed = wheel.arm(conn(1), UNARMED, 30 * day_ms);
                assert!(armed > now_ms / TICK_MS, "it is not due again at once");
            }
        }
        assert!(wheel.next_wake_ms().is_some_and(|wake_ms| wake_ms > 5 * day_ms));
    }

    #[test]
    fn a_wheel_that_was_empty_for_days_arms_at_the_time_it_is() {
        let week_ms = 7 * 86_400_000;
        let mut wheel = Wheel::new(0);
        wheel.arm(conn(1), UNARMED, week_ms + 1_000);
        let mut handed_out = 0;
        while wheel.pop_due(week_ms).is_some() {
            handed_out += 1;
            wheel.arm(conn(1), UNARMED, week_ms + 1_000);
        }
        assert_eq!(handed_out, 1);
        assert_eq!(drain(&mut wheel, week_ms + 1_016), [1]);
    }

    #[test]
    fn a_clock_that_jumps_days_ahead_fires_all_once() {
        let mut wheel = Wheel::new(0);
        for slot in 0..1_000 {
            wheel.arm(conn(slot), UNARMED, u64::from(slot) * 60);
        }
        let mut fired = drain(&mut wheel, 3 * 86_400_000);
        fired.sort_unstable();
        assert_eq!(fired, (0..1_000).collect::<Vec<_>>());
        wheel.arm(conn(7), UNARMED, 3 * 86_400_000 + 50);
        assert_eq!(drain(&mut wheel, 3 * 86_400_000 + 100), [7]);
    }
}
