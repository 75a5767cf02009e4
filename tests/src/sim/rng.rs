//! The only source of chance in a simulation: everything follows from the seed, or from the bytes of an input.

use std::ops::RangeInclusive;

/// SplitMix64, and before it bytes that make the choices as long as there are some.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
    /// Choices, last first.
    choices: Option<Vec<u8>>,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x5d58_8b65_6c07_8965;
        let mut rng = Self { state, choices: None };
        rng.next();
        rng
    }

    /// Every choice takes as many bytes as it needs; what is no choice (a key, an id) takes none.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self { choices: Some(bytes.iter().rev().copied().collect()), ..Self::new(0) }
    }

    /// Whether it was made of bytes and all are used.
    pub(crate) fn is_spent(&self) -> bool {
        self.choices.as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A choice of `count`, from 0.
    fn choose(&mut self, count: u64) -> u64 {
        match &mut self.choices {
            Some(choices) if !choices.is_empty() => {
                let bytes = (64 - (count - 1).leading_zeros()).div_ceil(8);
                let number =
                    (0..bytes).fold(0, |number, _| number << 8 | u64::from(choices.pop().unwrap_or(0)));
                number % count
            }
            _ => self.next() % count,
        }
    }

    /// From 0 to `bound - 1`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.choose(bound as u64) as usize
    }

    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.choose(range.end() - range.start() + 1)
    }

    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.choose(100) < u64::from(percent)
    }

    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// An index, as likely as its weight says.
    pub(crate) fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.below(weights.iter().sum::<u32>() as usize) as u32;
        for (index, &weight) in weights.iter().enumerate() {
            if at < weight {
                return index;
            }
            at -= weight;
        }
        unreachable!("at is below the sum of the weights")
    }

    pub(crate) fn bytes16(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}
