//! How many bytes of data publications have: one size for all, or a list of them in turn. Pure.
//!
//! The size of a publication follows from its place, so that who receives it knows what to expect.
//!
//! Invariants: there is a size, and no more than [`SIZES_MAX`]; each is within [`BYTES_MIN`] and [`BYTES_MAX`].

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::stamp::{DATA_BYTES_MIN, Kind, Stamp};

/// The fewest bytes of data: those of a stamp and its quotes.
pub(crate) const BYTES_MIN: u32 = DATA_BYTES_MIN as u32;
/// The most bytes of data.
pub(crate) const BYTES_MAX: u32 = 16 << 20;
/// The most sizes of one run.
const SIZES_MAX: usize = 64;

/// What is wrong with a list of sizes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SizesError {
    #[error(
        "size = {bytes} is out of bounds: {BYTES_MIN} to {BYTES_MAX}, as the stamp that tells a publication from all \
         others takes {BYTES_MIN} bytes with its quotes"
    )]
    Bounds { bytes: u32 },
    #[error("size has {count} sizes: 1 to {SIZES_MAX} are possible")]
    Count { count: usize },
}

/// The sizes of the publications of a run, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sizes(Vec<u32>);

impl Sizes {
    /// Sizes to take in this order, again and again. Errors: no size, too many, or one that is out of bounds.
    pub(crate) fn new(sizes: Vec<u32>) -> Result<Self, SizesError> {
        if !(1..=SIZES_MAX).contains(&sizes.len()) {
            return Err(SizesError::Count { count: sizes.len() });
        }
        match sizes.iter().find(|bytes| !(BYTES_MIN..=BYTES_MAX).contains(*bytes)) {
            Some(bytes) => Err(SizesError::Bounds { bytes: *bytes }),
            None => Ok(Self(sizes)),
        }
    }

    /// Sizes of what is never published.
    pub(crate) fn smallest() -> Self {
        Self(vec![BYTES_MIN])
    }

    /// Bytes of data of a publication. Every room takes the sizes in turn, neighbouring rooms one after another;
    /// probes, which are repeated until all are there, are as small as any.
    #[inline]
    pub(crate) fn of(&self, stamp: &Stamp) -> usize {
        if let [bytes] = self.0.as_slice() {
            return *bytes as usize;
        }
        let bytes = match stamp.kind {
            Kind::Probe => self.0.iter().copied().min().unwrap_or(BYTES_MIN),
            Kind::Message => self.0[stamp.sequence.wrapping_add(stamp.room) as usize % self.0.len()],
        };
        bytes as usize
    }

    /// The mean, in whole bytes.
    pub(crate) fn mean(&self) -> usize {
        let sum: usize = self.0.iter().map(|bytes| *bytes as usize).sum();
        sum / self.0.len()
    }

    /// In the order they are taken.
    pub(crate) fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(kind: Kind, room: u32, sequence: u32) -> Stamp {
        Stamp { kind, run: 0, room, sequence, number: 0, due_ns: 0 }
    }

    #[test]
    fn every_room_takes_all_sizes_in_turn_and_so_do_rooms_beside_each_other() {
        let sizes = Sizes::new(vec![100, 60, 200]).expect("sizes");
        let of = |room, sequence| sizes.of(&stamp(Kind::Message, room, sequence));
        assert_eq!([0, 1, 2, 3].map(|sequence| of(0, sequence)), [100, 60, 200, 100]);
        assert_eq!([0, 1, 2, 3].map(|sequence| of(2, sequence)), [200, 100, 60, 200]);
        assert_eq!([0, 1, 2, 3].map(|room| of(room, 0)), [100, 60, 200, 100]);
        assert_eq!(of(u32::MAX, 1), 100, "a stamp that was altered is no reason to panic");
        assert_eq!(sizes.of(&stamp(Kind::Probe, 2, 0)), 60);
        assert_eq!(sizes.mean(), 120);
    }

    #[test]
    fn sizes_that_cannot_be_are_told() {
        let told = |sizes: Vec<u32>| Sizes::new(sizes).expect_err("no sizes").to_string();
        assert!(told(vec![128, 16]).starts_with("size = 16 is out of bounds: 54 to 16777216, as the stamp"));
        assert_eq!(told(vec![]), "size has 0 sizes: 1 to 64 are possible");
        assert_eq!(told(vec![128; 65]), "size has 65 sizes: 1 to 64 are possible");
        assert!(Sizes::new(vec![BYTES_MIN, BYTES_MAX]).is_ok());
    }
}
