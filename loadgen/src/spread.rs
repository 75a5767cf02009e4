//! Which rooms each connection joins. Pure, and the same on every thread and in every process.

use serde::{Deserialize, Serialize};

/// How members spread over rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Spread {
    /// All rooms have equally many members.
    #[default]
    Equal,
    /// Room `i` is joined in proportion to `1 / (i + 1)^exponent`: a few large rooms, many small ones.
    Zipf,
}

/// The memberships of all connections.
///
/// Invariant: every connection joins `rooms_per_connection` different rooms.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Memberships {
    rooms: u32,
    rooms_per_connection: u32,
    /// For Zipf: the share of joins that go to a room or one before it.
    cumulative: Vec<f64>,
}

impl Memberships {
    /// Memberships of `rooms_per_connection` of `rooms`, which are no fewer.
    pub(crate) fn new(spread: Spread, exponent: f64, rooms: u32, rooms_per_connection: u32) -> Self {
        let cumulative = match spread {
            Spread::Equal => Vec::new(),
            Spread::Zipf => cumulative(rooms, exponent),
        };
        Self { rooms, rooms_per_connection, cumulative }
    }

    /// The rooms a connection joins.
    pub(crate) fn rooms_of(&self, connection: u32) -> Vec<u32> {
        if self.cumulative.is_empty() {
            let first = u64::from(connection) * u64::from(self.rooms_per_connection);
            let rooms = u64::from(self.rooms.max(1));
            // Less than the number of rooms, so it fits.
            return (first..)
                .take(self.rooms_per_connection as usize)
                .map(|at| (at % rooms) as u32)
                .collect();
        }
        self.drawn(connection)
    }

    /// Rooms drawn by the connection's own dice; one drawn before is replaced by the next that was not.
    fn drawn(&self, connection: u32) -> Vec<u32> {
        let mut dice = u64::from(connection);
        let mut drawn: Vec<u32> = Vec::with_capacity(self.rooms_per_connection as usize);
        while drawn.len() < self.rooms_per_connection as usize {
            let share = next_share(&mut dice);
            let mut room = self.cumulative.partition_point(|bound| *bound <= share) as u32 % self.rooms;
            while drawn.contains(&room) {
                room = (room + 1) % self.rooms;
            }
            drawn.push(room);
        }
        drawn
    }
}

fn cumulative(rooms: u32, exponent: f64) -> Vec<f64> {
    let weights = (1..=rooms).map(|rank| f64::from(rank).powf(-exponent));
    let mut sum = 0.0;
    let mut sums: Vec<f64> = weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    sums.iter_mut().for_each(|bound| *bound /= sum);
    sums
}

/// The next number in 0..1 of a SplitMix64 sequence (Steele, Lea, Flood 2014).
fn next_share(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(memberships: &Memberships, connections: u32) -> Vec<u32> {
        let mut sizes = vec![0; memberships.rooms as usize];
        for connection in 0..connections {
            let mut rooms = memberships.rooms_of(connection);
            assert_eq!(rooms, memberships.rooms_of(connection), "the same every time");
            rooms.iter().for_each(|room| sizes[*room as usize] += 1);
            rooms.sort_unstable();
            rooms.dedup();
            assert_eq!(rooms.len(), memberships.rooms_per_connection as usize, "all different");
        }
        sizes
    }

    #[test]
    fn equal_rooms_are_equally_full() {
        for (rooms, each, connections, size) in [(1, 1, 5, 5), (4, 1, 8, 2), (4, 3, 8, 6), (3, 3, 2, 2)] {
            let memberships = Memberships::new(Spread::Equal, 1.0, rooms, each);
            assert_eq!(sizes(&memberships, connections), vec![size; rooms as usize]);
        }
        assert!(Memberships::new(Spread::Equal, 1.0, 0, 0).rooms_of(7).is_empty());
    }

    #[test]
    fn zipf_rooms_shrink_with_their_rank() {
        let sizes = sizes(&Memberships::new(Spread::Zipf, 1.0, 100, 1), 100_000);
        // The harmonic number of 100 is 5.187.
        for (room, share) in [(0, 1.0 / 5.187), (1, 0.5 / 5.187), (9, 0.1 / 5.187)] {
            let size = f64::from(sizes[room]) / 100_000.0;
            assert!((size / share - 1.0).abs() < 0.1, "room {room}: {size} instead of {share}");
        }
    }

    #[test]
    fn zipf_can_join_all_rooms_there_are() {
        assert_eq!(sizes(&Memberships::new(Spread::Zipf, 3.0, 5, 5), 10), [10; 5]);
    }
}
