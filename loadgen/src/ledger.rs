//! Exactly what arrived: per member and room, by sequence number.
//!
//! Every member keeps the next sequence it expects of each of its rooms, four bytes each; only members that saw a
//! gap or were away cost more. Nothing is sampled or estimated.
//!
//! A member that leaves and comes back is owed what follows the first message it receives then: what was published
//! while it was away, or while the server took it in, is excused, for no protocol says when a join took effect. One
//! that is not served within [`Ledger::join_within_ns`] is late, and counted.
//!
//! A publication that leaves members out is owed to the others only: what reaches one who was left out is a fault.
//!
//! Invariant: for every room, `delivered + missing + excused` is the publications owed to its members, all of them
//! when nobody is left out; duplicates apart.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::roster::{Audience, Roster};

/// A member has not yet received the probe of this room.
const UNPROBED: u32 = u32::MAX;

/// What one delivery turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first copy, in whatever order.
    First,
    /// The first copy, of a member who reads slowly on purpose.
    Slow,
    /// Another copy.
    Duplicate,
    /// For a room the member has not joined.
    Stranger,
    /// Of a publication that leaves the member out.
    Excluded,
}

/// Counts of one room, or of all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Publications times members, less those who were left out.
    pub(crate) expected: u64,
    /// First copies, late ones included.
    pub(crate) delivered: u64,
    /// Never arrived.
    pub(crate) missing: u64,
    /// Copies beyond the first.
    pub(crate) duplicate: u64,
    /// First copies that came after a later publication of the room.
    pub(crate) out_of_order: u64,
    /// Published while the member was away or joining.
    pub(crate) excused: u64,
}

impl Counts {
    /// Adds the counts of another room, or of the same room on another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.excused += other.excused;
    }

    /// Whether every member received every publication once and in order.
    pub(crate) fn is_exact(&self) -> bool {
        self.missing == 0 && self.duplicate == 0 && self.out_of_order == 0
    }
}

/// Where a membership is that was interrupted.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// Its connection is closed.
    Away,
    /// Its connection asked to join at this time, and has received nothing of the room since.
    Joining { since_ns: u64 },
}

/// The books of the members one thread looks after.
#[derive(Debug)]
pub(crate) struct Ledger {
    roster: Roster,
    rooms_per_member: usize,
    /// Longest time from the request to join to the first publication that must arrive, in nanoseconds.
    join_within_ns: u64,
    /// The room of every membership, those of a member side by side.
    rooms: Vec<u32>,
    /// The place in its room of every membership; empty when nobody is ever left out.
    places: Vec<u32>,
    /// Members who read slowly on purpose, and have books of their own.
    is_slow: Vec<bool>,
    /// The next sequence every membership expects.
    next: Vec<u32>,
    /// What is missing so far below `next`, by membership; ranges in ascending order.
    gaps: BTreeMap<usize, Vec<Range<u32>>>,
    absences: HashMap<usize, Absence>,
    counts: Vec<Counts>,
    slow_counts: Counts,
    audience: Audience,
    strangers: u64,
    to_excluded: u64,
    late_joins: u64,
    /// The latest due time seen.
    due_ns_max: u64,
}

/// What the books of one phase say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Closed {
    /// All rooms together, slow members apart.
    pub(crate) total: Counts,
    /// Rooms whose books do not balance, by index.
    pub(crate) inexact: Vec<(u32, Counts)>,
    /// What slow members got.
    pub(crate) slow: Counts,
    /// Deliveries of rooms the member had not joined.
    pub(crate) strangers: u64,
    /// Deliveries to judged members whom the publication left out.
    pub(crate) to_excluded: u64,
    /// Memberships that came back and were not served in time.
    pub(crate) late_joins: u64,
}

impl Closed {
    /// Adds the books of another thread.
    pub(crate) fn add(&mut self, other: &Self) {
        self.total.add(&other.total);
        self.slow.add(&other.slow);
        self.strangers += other.strangers;
        self.to_excluded += other.to_excluded;
        self.late_joins += other.late_joins;
        for (room, counts) in &other.inexact {
            match self.inexact.binary_search_by_key(room, |(room, _)| *room) {
                Ok(at) => self.inexact[at].1.add(counts),
                Err(at) => self.inexact.insert(at, (*room, *counts)),
            }
        }
    }
}

impl Ledger {
    /// Empty books for `room_count` rooms, of which every member joins `rooms_per_member`; `roster` knows whom
    /// publications leave out.
    pub(crate) fn new(
        room_count: usize,
        rooms_per_member: usize,
        join_within_ns: u64,
        roster: Roster,
    ) -> Self {
        Self {
            audience: Audience::new(room_count, &roster),
            roster,
            rooms_per_member,
            join_within_ns,
            rooms: Vec::new(),
            places: Vec::new(),
            is_slow: Vec::new(),
            next: Vec::new(),
            gaps: BTreeMap::new(),
            absences: HashMap::new(),
            counts: vec![Counts::default(); room_count],
            slow_counts: Counts::default(),
            strangers: 0,
            to_excluded: 0,
            late_joins: 0,
            due_ns_max: 0,
        }
    }

    /// Opens the books of one more member; members are numbered from 0 in the order of these calls, in which their
    /// connections ascend.
    pub(crate) fn add_member(&mut self, connection: u32, rooms: &[u32], is_slow: bool) {
        debug_assert_eq!(rooms.len(), self.rooms_per_member);
        self.is_slow.push(is_slow);
        for room in rooms {
            let place = self.roster.place(*room, connection);
            self.rooms.push(*room);
            self.next.push(UNPROBED);
            if self.roster.is_excluding() {
                self.places.push(place);
            }
            if !is_slow {
                self.audience.add(*room, place);
            }
        }
    }

    /// The rooms of a member.
    pub(crate) fn rooms_of(&self, member: usize) -> &[u32] {
        &self.rooms[self.memberships_of(member)]
    }

    /// To how many judged members here a publication of a room is owed.
    #[inline]
    pub(crate) fn owed_here(&self, room: u32, sequence: u32) -> u32 {
        self.audience.owed(&self.roster, room, sequence)
    }

    /// Books that a member's connection was closed, and what it misses is not the server's fault.
    pub(crate) fn leave(&mut self, member: usize) {
        for membership in self.memberships_of(member) {
            self.absences.insert(membership, Absence::Away);
        }
    }

    /// Books that a member who was away asked to join again.
    pub(crate) fn rejoin(&mut self, member: usize, now_ns: u64) {
        for membership in self.memberships_of(member) {
            if let Some(absence) = self.absences.get_mut(&membership) {
                *absence = Absence::Joining { since_ns: now_ns };
            }
        }
    }

    /// Books a probe; true when it is the first this judged member received of this room.
    pub(crate) fn probe(&mut self, member: usize, room: u32) -> bool {
        let Some(membership) = self.membership(member, room) else { return false };
        let is_first = self.next[membership] == UNPROBED;
        if is_first {
            self.next[membership] = 0;
        }
        is_first && !self.is_slow[member]
    }

    /// Books one delivery of a publication that was due at `due_ns`.
    pub(crate) fn arrive(&mut self, member: usize, room: u32, sequence: u32, due_ns: u64) -> Arrival {
        let Some(membership) = self.membership(member, room) else {
            self.strangers += 1;
            return Arrival::Stranger;
        };
        let is_slow = self.is_slow[member];
        if self.roster.is_excluded(room, self.place(membership), sequence) {
            self.to_excluded += u64::from(!is_slow);
            return Arrival::Excluded;
        }
        self.due_ns_max = self.due_ns_max.max(due_ns);
        let next = self.next[membership];
        let skipped = if next == UNPROBED { 0 } else { next }..sequence;
        let skipped_count = self.owed(membership, skipped.clone());
        let counts = if is_slow { &mut self.slow_counts } else { &mut self.counts[room as usize] };
        if sequence >= skipped.start {
            if !self.absences.is_empty()
                && let Some(absence) = self.absences.remove(&membership)
            {
                counts.excused += skipped_count;
                self.late_joins += u64::from(absence.is_late(due_ns, self.join_within_ns));
            } else if skipped_count > 0 {
                self.gaps.entry(membership).or_default().push(skipped);
            }
            self.next[membership] = sequence.saturating_add(1);
        } else if take_from_gaps(&mut self.gaps, membership, sequence) {
            counts.out_of_order += 1;
        } else {
            counts.duplicate += 1;
            return Arrival::Duplicate;
        }
        counts.delivered += 1;
        if is_slow { Arrival::Slow } else { Arrival::First }
    }

    /// Closes the books, given how many publications each room had, and opens those of the next phase, to which all
    /// members belong from its beginning.
    pub(crate) fn close(&mut self, published: impl Fn(u32) -> u32) -> Closed {
        let mut slow = std::mem::take(&mut self.slow_counts);
        for membership in 0..self.next.len() {
            let room = self.rooms[membership];
            let next = std::mem::replace(&mut self.next[membership], UNPROBED);
            let heard = if next == UNPROBED { 0 } else { next };
            let expected = self.owed(membership, 0..published(room));
            let unheard = self.owed(membership, heard..published(room));
            let is_slow = self.is_slow[membership / self.rooms_per_member];
            let counts = if is_slow { &mut slow } else { &mut self.counts[room as usize] };
            counts.expected += expected;
            match self.absences.get(&membership) {
                Some(absence) => {
                    counts.excused += unheard;
                    let is_late = absence.is_late(self.due_ns_max, self.join_within_ns);
                    self.late_joins += u64::from(is_late && unheard > 0);
                }
                None => counts.missing += unheard,
            }
        }
        for (membership, gaps) in std::mem::take(&mut self.gaps) {
            let missing: u64 = gaps.into_iter().map(|gap| self.owed(membership, gap)).sum();
            let is_slow = self.is_slow[membership / self.rooms_per_member];
            let counts = if is_slow { &mut slow } else { &mut self.counts[self.rooms[membership] as usize] };
            counts.missing += missing;
        }
        self.absences.clear();
        self.due_ns_max = 0;
        let mut closed = Closed {
            slow,
            strangers: std::mem::take(&mut self.strangers),
            to_excluded: std::mem::take(&mut self.to_excluded),
            late_joins: std::mem::take(&mut self.late_joins),
            ..Closed::default()
        };
        for (room, counts) in self.counts.iter_mut().enumerate() {
            let counts = std::mem::take(counts);
            closed.total.add(&counts);
            if !counts.is_exact() {
                closed.inexact.push((room as u32, counts));
            }
        }
        closed
    }

    /// How many of these publications of its room a membership is owed.
    #[inline]
    fn owed(&self, membership: usize, sequences: Range<u32>) -> u64 {
        self.roster.owed(self.rooms[membership], self.place(membership), sequences)
    }

    /// The place of a membership in its room, which only matters when some are left out.
    #[inline]
    fn place(&self, membership: usize) -> u32 {
        self.places.get(membership).copied().unwrap_or(0)
    }

    fn memberships_of(&self, member: usize) -> Range<usize> {
        member * self.rooms_per_member..(member + 1) * self.rooms_per_member
    }

    fn membership(&self, member: usize, room: u32) -> Option<usize> {
        let place = self.rooms_of(member).iter().position(|joined| *joined == room)?;
        Some(member * self.rooms_per_member + place)
    }
}

impl Absence {
    fn is_late(self, due_ns: u64, join_within_ns: u64) -> bool {
        matches!(self, Self::Joining { since_ns } if due_ns > since_ns.saturating_add(join_within_ns))
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
mod tests;
