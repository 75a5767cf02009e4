//! Who is in each room, and whom its publications leave out.
//!
//! Pure, and the same on every thread and in every process: publisher and members agree on who is left out of a
//! publication without telling each other. The members of a room have *places*, from 0 in the order of their
//! connections. Publication `s` leaves out the `exclude` places from `s * exclude` on, counted round the room.
//!
//! Invariant: a room that has members has more than `exclude`, so that every publication is owed to somebody.

use std::ops::Range;

use crate::spread::Memberships;

/// The members of all rooms; empty when nobody is ever left out, as then nobody asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    exclude: u32,
    /// By room, the connections in it, ascending.
    rooms: Vec<Vec<u32>>,
}

/// A room whose publications would be owed to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSmall {
    pub(crate) room: u32,
    pub(crate) members: usize,
}

impl Roster {
    /// The members of `rooms` rooms, of which every publication leaves out so many.
    pub(crate) fn new(exclude: u32, memberships: &Memberships, connections: u32, rooms: u32) -> Self {
        if exclude == 0 {
            return Self::default();
        }
        let mut roster = Self { exclude, rooms: vec![Vec::new(); rooms as usize] };
        for connection in 0..connections {
            for room in memberships.rooms_of(connection) {
                roster.rooms[room as usize].push(connection);
            }
        }
        roster
    }

    /// The first room that has members, but not more than are left out.
    pub(crate) fn too_small(&self) -> Option<TooSmall> {
        let is_too_small = |members: &Vec<u32>| !members.is_empty() && members.len() <= self.exclude as usize;
        let room = self.rooms.iter().position(is_too_small)?;
        Some(TooSmall { room: room as u32, members: self.rooms[room].len() })
    }

    /// Whether publications leave somebody out.
    pub(crate) fn is_excluding(&self) -> bool {
        self.exclude > 0
    }

    /// The place of a connection in a room it is in.
    pub(crate) fn place(&self, room: u32, connection: u32) -> u32 {
        let members = self.rooms.get(room as usize).map_or(&[][..], Vec::as_slice);
        members.partition_point(|member| *member < connection) as u32
    }

    /// The connections a publication of a room leaves out.
    pub(crate) fn excluded(&self, room: u32, sequence: u32) -> impl Iterator<Item = u32> {
        let members = self.rooms.get(room as usize).map_or(&[][..], Vec::as_slice);
        let start = (u64::from(sequence) * u64::from(self.exclude)).checked_rem(members.len() as u64);
        let count = if members.is_empty() { 0 } else { self.exclude as usize };
        members.iter().cycle().skip(start.unwrap_or(0) as usize).take(count).copied()
    }

    /// Whether a publication leaves out the member at a place of the room.
    pub(crate) fn is_excluded(&self, room: u32, place: u32, sequence: u32) -> bool {
        self.is_excluding() && self.owed(room, place, sequence..sequence.saturating_add(1)) == 0
    }

    /// How many of these publications of a room its member at a place is owed.
    pub(crate) fn owed(&self, room: u32, place: u32, sequences: Range<u32>) -> u64 {
        let count = u64::from(sequences.end.saturating_sub(sequences.start));
        if !self.is_excluding() || count == 0 {
            return count;
        }
        count + self.excluded_before(room, place, sequences.start)
            - self.excluded_before(room, place, sequences.end)
    }

    /// How many publications before `sequence` leave out the member at a place: how often those that were left out
    /// one after another, round and round, came by it.
    fn excluded_before(&self, room: u32, place: u32, sequence: u32) -> u64 {
        let members = self.rooms.get(room as usize).map_or(1, |members| members.len().max(1) as u64);
        (u64::from(sequence) * u64::from(self.exclude) + members - 1 - u64::from(place)) / members
    }

    /// How many of these places, ascending, a publication of the room leaves out.
    fn excluded_among(&self, room: u32, places: &[u32], sequence: u32) -> u32 {
        let members = self.rooms.get(room as usize).map_or(1, |members| members.len().max(1) as u64);
        let start = u64::from(sequence) * u64::from(self.exclude) % members;
        let end = start + u64::from(self.exclude);
        let below = |bound: u64| places.partition_point(|place| u64::from(*place) < bound);
        let behind_the_last = below(end.saturating_sub(members));
        (below(end) - below(start) + behind_the_last) as u32
    }
}

/// The judged members of every room on one thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audience {
    members: Vec<u32>,
    /// Their places, ascending; empty when nobody is ever left out.
    places: Vec<Vec<u32>>,
}

impl Audience {
    /// So many rooms without members.
    pub(crate) fn new(rooms: usize, roster: &Roster) -> Self {
        let places = if roster.is_excluding() { vec![Vec::new(); rooms] } else { Vec::new() };
        Self { members: vec![0; rooms], places }
    }

    /// Adds the member at a place; places of a room are added in ascending order.
    pub(crate) fn add(&mut self, room: u32, place: u32) {
        self.members[room as usize] += 1;
        if let Some(places) = self.places.get_mut(room as usize) {
            places.push(place);
        }
    }

    /// To how many of them a publication is owed.
    #[inline]
    pub(crate) fn owed(&self, roster: &Roster, room: u32, sequence: u32) -> u32 {
        let members = self.members.get(room as usize).copied().unwrap_or(0);
        match self.places.get(room as usize) {
            Some(places) if !places.is_empty() => members - roster.excluded_among(room, places, sequence),
            _ => members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::Spread;

    fn roster(exclude: u32, connections: u32, rooms: u32, each: u32) -> Roster {
        Roster::new(exclude, &Memberships::new(Spread::Equal, 1.0, rooms, each), connections, rooms)
    }

    #[test]
    fn all_ways_to_ask_who_is_left_out_agree() {
        for (exclude, connections, rooms) in
            [(1, 2, 1), (1, 7, 1), (3, 7, 1), (6, 7, 1), (2, 12, 3), (4, 10, 2)]
        {
            let roster = roster(exclude, connections, rooms, 1);
            let name = format!("{exclude} of {connections} in {rooms}");
            assert_eq!(roster.too_small(), None, "{name}");
            for room in 0..rooms {
                let members: Vec<u32> =
                    (0..connections).filter(|connection| connection % rooms == room).collect();
                let mut audiences = vec![Audience::new(rooms as usize, &roster); 2];
                for (place, connection) in members.iter().enumerate() {
                    assert_eq!(roster.place(room, *connection), place as u32, "{name}");
                    audiences[place % 2].add(room, place as u32);
                }
                let mut owed = vec![0; members.len()];
                for sequence in 0..50 {
                    let excluded: Vec<u32> = roster.excluded(room, sequence).collect();
                    assert_eq!(excluded.len(), exclude as usize, "{name}");
                    let mut here = [0; 2];
                    for (place, connection) in members.iter().enumerate() {
                        let is_excluded = excluded.contains(connection);
                        assert_eq!(roster.is_excluded(room, place as u32, sequence), is_excluded, "{name}");
                        owed[place] += u64::from(!is_excluded);
                        here[place % 2] += u32::from(!is_excluded);
                        assert_eq!(roster.owed(room, place as u32, 0..sequence + 1), owed[place], "{name}");
                    }
                    for (audience, here) in audiences.iter().zip(here) {
                        assert_eq!(audience.owed(&roster, room, sequence), here, "{name}, {sequence}");
                    }
                }
            }
        }
    }

    #[test]
    fn nobody_is_left_out_unless_asked_for() {
        let roster = roster(0, 5, 1, 1);
        let mut audience = Audience::new(1, &roster);
        (0..5).for_each(|place| audience.add(0, place));
        assert_eq!(audience.owed(&roster, 0, 3), 5);
        assert_eq!((roster.owed(0, 2, 4..9), roster.is_excluded(0, 0, 0)), (5, false));
        assert_eq!(roster.excluded(0, 0).count(), 0);
    }

    #[test]
    fn rooms_in_which_nobody_would_be_left_are_found() {
        let told = |exclude, connections, rooms| roster(exclude, connections, rooms, 1).too_small();
        assert_eq!(told(2, 5, 2), Some(TooSmall { room: 1, members: 2 }));
        assert_eq!(told(1, 5, 2), None);
        assert_eq!(told(1, 2, 5), Some(TooSmall { room: 0, members: 1 }));
    }
}
