//! Exactly what arrived: per member and room, by sequence number.
//!
//! Every member keeps the next sequence it expects of each of its rooms, four bytes each; only members that saw a
//! gap cost more. Nothing is sampled or estimated.
//!
//! Invariant: for every membership, `delivered + missing = published`, duplicates apart.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

/// A member has not yet received the probe of this room.
const UNPROBED: u32 = u32::MAX;

/// What one delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first copy, in whatever order.
    First,
    /// Another copy.
    Duplicate,
    /// For a room the member has not joined.
    Stranger,
}

/// Counts of one room, or of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Publications times members.
    pub(crate) expected: u64,
    /// First copies, late ones included.
    pub(crate) delivered: u64,
    /// Never arrived.
    pub(crate) missing: u64,
    /// Copies beyond the first.
    pub(crate) duplicate: u64,
    /// First copies that came after a later publication of the room.
    pub(crate) out_of_order: u64,
}

impl Counts {
    /// Adds the counts of another room, or of the same room on another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
    }

    /// Whether every member received every publication once and in order.
    pub(crate) fn is_exact(&self) -> bool {
        self.missing == 0 && self.duplicate == 0 && self.out_of_order == 0
    }
}

/// The books of the members one thread looks after.
#[derive(Debug)]
pub(crate) struct Ledger {
    rooms_per_member: usize,
    /// The room of every membership, those of a member side by side.
    rooms: Vec<u32>,
    /// The next sequence every membership expects.
    next: Vec<u32>,
    /// What is missing so far below `next`, by membership; ranges in ascending order.
    gaps: BTreeMap<usize, Vec<Range<u32>>>,
    counts: Vec<Counts>,
    members: Vec<u32>,
    strangers: u64,
}

impl Ledger {
    /// Empty books for `room_count` rooms, of which every member joins `rooms_per_member`.
    pub(crate) fn new(room_count: usize, rooms_per_member: usize) -> Self {
        Self {
            rooms_per_member,
            rooms: Vec::new(),
            next: Vec::new(),
            gaps: BTreeMap::new(),
            counts: vec![Counts::default(); room_count],
            members: vec![0; room_count],
            strangers: 0,
        }
    }

    /// Opens the books of one more member; members are numbered from 0 in the order of these calls.
    pub(crate) fn add_member(&mut self, rooms: impl Iterator<Item = u32>) {
        let before = self.rooms.len();
        for room in rooms {
            self.rooms.push(room);
            self.next.push(UNPROBED);
            self.members[room as usize] += 1;
        }
        debug_assert_eq!(self.rooms.len() - before, self.rooms_per_member);
    }

    /// The rooms of a member.
    pub(crate) fn rooms_of(&self, member: usize) -> &[u32] {
        &self.rooms[member * self.rooms_per_member..][..self.rooms_per_member]
    }

    /// How many members a room has here.
    pub(crate) fn members_of(&self, room: u32) -> u32 {
        self.members.get(room as usize).copied().unwrap_or(0)
    }

    /// Books a probe; true when it is the first this member received of this room.
    pub(crate) fn probe(&mut self, member: usize, room: u32) -> bool {
        let Some(membership) = self.membership(member, room) else { return false };
        let is_first = self.next[membership] == UNPROBED;
        if is_first {
            self.next[membership] = 0;
        }
        is_first
    }

    /// Books one delivery.
    pub(crate) fn arrive(&mut self, member: usize, room: u32, sequence: u32) -> Arrival {
        let Some(membership) = self.membership(member, room) else {
            self.strangers += 1;
            return Arrival::Stranger;
        };
        let counts = &mut self.counts[room as usize];
        let next = &mut self.next[membership];
        if *next == UNPROBED {
            *next = 0;
        }
        if sequence >= *next {
            if sequence > *next {
                self.gaps.entry(membership).or_default().push(*next..sequence);
            }
            *next = sequence.saturating_add(1);
        } else if take_from_gaps(&mut self.gaps, membership, sequence) {
            counts.out_of_order += 1;
        } else {
            counts.duplicate += 1;
            return Arrival::Duplicate;
        }
        counts.delivered += 1;
        Arrival::First
    }

    /// Closes the books: counts by room, given how many publications each room had; and the strangers.
    pub(crate) fn close(mut self, published: &[u32]) -> (Vec<Counts>, u64) {
        for (room, counts) in self.counts.iter_mut().enumerate() {
            counts.expected = u64::from(published[room]) * u64::from(self.members[room]);
        }
        for (membership, &next) in self.next.iter().enumerate() {
            let room = self.rooms[membership] as usize;
            let next = if next == UNPROBED { 0 } else { next };
            self.counts[room].missing += u64::from(published[room].saturating_sub(next));
        }
        for (membership, gaps) in &self.gaps {
            let missing: u64 = gaps.iter().map(|gap| u64::from(gap.end - gap.start)).sum();
            self.counts[self.rooms[*membership] as usize].missing += missing;
        }
        (self.counts, self.strangers)
    }

    fn membership(&self, member: usize, room: u32) -> Option<usize> {
        let base = member * self.rooms_per_member;
        let place = self.rooms_of(member).iter().position(|joined| *joined == room)?;
        Some(base + place)
    }
}

/// Takes one sequence out of the gaps of a membership; false when it was in none.
fn take_from_gaps(gaps: &mut BTreeMap<usize, Vec<Range<u32>>>, membership: usize, sequence: u32) -> bool {
    let Some(ranges) = gaps.get_mut(&membership) else { return false };
    let at = ranges.partition_point(|gap| gap.end <= sequence);
    let Some(gap) = ranges.get_mut(at).filter(|gap| gap.contains(&sequence)) else { return false };
    let after = sequence + 1..gap.end;
    gap.end = sequence;
    let is_front_empty = gap.start == gap.end;
    if !after.is_empty() {
        ranges.insert(at + 1, after);
    }
    if is_front_empty {
        ranges.remove(at);
    }
    if ranges.is_empty() {
        gaps.remove(&membership);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(expected: u64, delivered: u64, missing: u64, duplicate: u64, out_of_order: u64) -> Counts {
        Counts { expected, delivered, missing, duplicate, out_of_order }
    }

    #[test]
    fn every_kind_of_arrival_is_told_apart() {
        let table: &[(&str, u32, &[u32], Counts)] = &[
            ("all in order", 4, &[0, 1, 2, 3], counts(4, 4, 0, 0, 0)),
            ("nothing published", 0, &[], counts(0, 0, 0, 0, 0)),
            ("nothing arrived", 3, &[], counts(3, 0, 3, 0, 0)),
            ("first one lost", 3, &[1, 2], counts(3, 2, 1, 0, 0)),
            ("middle lost", 5, &[0, 1, 4], counts(5, 3, 2, 0, 0)),
            ("tail lost", 5, &[0, 1], counts(5, 2, 3, 0, 0)),
            ("repeated at once", 2, &[0, 0, 1, 1], counts(2, 2, 0, 2, 0)),
            ("repeated later", 3, &[0, 1, 2, 0], counts(3, 3, 0, 1, 0)),
            ("two swapped", 3, &[1, 0, 2], counts(3, 3, 0, 0, 1)),
            ("all reversed", 4, &[3, 2, 1, 0], counts(4, 4, 0, 0, 3)),
            ("late, then repeated", 3, &[1, 0, 0, 2], counts(3, 3, 0, 1, 1)),
            ("a gap filled in its middle", 5, &[0, 4, 2], counts(5, 3, 2, 0, 1)),
            ("a gap filled from both ends", 6, &[0, 5, 1, 4, 2, 3], counts(6, 6, 0, 0, 4)),
            ("two gaps", 6, &[1, 3, 5, 0, 4], counts(6, 5, 1, 0, 2)),
        ];
        for (name, published, arrivals, expected) in table {
            let mut ledger = Ledger::new(1, 1);
            ledger.add_member([0].into_iter());
            for sequence in *arrivals {
                ledger.arrive(0, 0, *sequence);
            }
            let (rooms, strangers) = ledger.close(&[*published]);
            assert_eq!((rooms[0], strangers), (*expected, 0), "{name}");
            assert_eq!(rooms[0].delivered + rooms[0].missing, rooms[0].expected, "{name}");
        }
    }

    #[test]
    fn members_and_rooms_have_books_of_their_own() {
        let mut ledger = Ledger::new(3, 2);
        ledger.add_member([0, 1].into_iter());
        ledger.add_member([1, 2].into_iter());
        assert_eq!(ledger.arrive(0, 0, 0), Arrival::First);
        assert_eq!(ledger.arrive(0, 1, 0), Arrival::First);
        assert_eq!(ledger.arrive(1, 1, 0), Arrival::First);
        assert_eq!(ledger.arrive(1, 1, 0), Arrival::Duplicate);
        assert_eq!(ledger.arrive(1, 0, 0), Arrival::Stranger);
        assert_eq!([0, 1, 2].map(|room| ledger.members_of(room)), [1, 2, 1]);
        let (rooms, strangers) = ledger.close(&[1, 1, 2]);
        let expected = [counts(1, 1, 0, 0, 0), counts(2, 2, 0, 1, 0), counts(2, 0, 2, 0, 0)];
        assert_eq!((rooms.as_slice(), strangers), (expected.as_slice(), 1));
    }

    #[test]
    fn the_first_probe_counts_once_and_never_as_a_delivery() {
        let mut ledger = Ledger::new(1, 1);
        ledger.add_member([0].into_iter());
        assert!(ledger.probe(0, 0));
        assert!(!ledger.probe(0, 0));
        assert!(!ledger.probe(0, 7), "a room it has not joined");
        ledger.arrive(0, 0, 0);
        assert!(!ledger.probe(0, 0), "late");
        assert_eq!(ledger.close(&[1]).0[0], counts(1, 1, 0, 0, 0));
    }
}
