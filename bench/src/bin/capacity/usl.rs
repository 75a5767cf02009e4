//! The Universal Scalability Law (Gunther): what shards of one process cost each other.
//!
//! Pure. `X(n) = γ·n / (1 + α·(n−1) + β·n·(n−1))`; the denominator is the factor by which each shard's work becomes
//! dearer, here called contention. Invariants: `α ≥ 0`, `β ≥ 0`.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::least_squares::{self, Row};

/// Highest contention of two shards that the project's target allows: two shards do 1.8 times the work of one.
pub(crate) const ALPHA_TARGET: f64 = 2.0 / 1.8 - 1.0;

/// Where the coefficients come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Basis {
    /// Nothing was measured with several shards: somewhere between none and the project's target.
    #[default]
    Assumed,
    /// Two numbers of shards: `α` is fitted, `β` is taken to be zero.
    AlphaOnly,
    /// Three or more.
    Fitted,
}

/// Coefficients of the law.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Usl {
    /// Contention: what waits in line.
    pub(crate) alpha: f64,
    /// Coherence: what has to be agreed between each two.
    pub(crate) beta: f64,
    /// Where they come from.
    pub(crate) basis: Basis,
}

impl Usl {
    /// Nothing measured: `place` of the way from no contention to [`ALPHA_TARGET`].
    pub(crate) fn assumed(place: f64) -> Self {
        Self { alpha: place * ALPHA_TARGET, beta: 0.0, basis: Basis::Assumed }
    }

    /// Fits the law to the cost of work at so many shards, relative to what it should be without contention.
    /// `None` with fewer than two numbers of shards.
    pub(crate) fn fit(relative_costs: &[(u32, f64)]) -> Option<Self> {
        let counts: BTreeSet<u32> = relative_costs.iter().map(|(shards, _)| *shards).collect();
        let basis = match counts.len() {
            0 | 1 => return None,
            2 => Basis::AlphaOnly,
            _ => Basis::Fitted,
        };
        let is_beta_sought = basis == Basis::Fitted;
        let rows: Vec<Row<3>> = relative_costs
            .iter()
            .map(|(shards, cost)| {
                let n = f64::from(*shards);
                let coherence = if is_beta_sought { n * (n - 1.0) } else { 0.0 };
                Row { columns: [1.0, n - 1.0, coherence], target: *cost, scale: *cost }
            })
            .collect();
        let [one, alpha, beta] = least_squares::fit(&rows);
        if one <= 0.0 {
            return None;
        }
        Some(Self { alpha: alpha / one, beta: beta / one, basis })
    }

    /// The factor by which work is dearer with so many shards in a process.
    pub(crate) fn contention(&self, shards: u32) -> f64 {
        let n = f64::from(shards);
        1.0 + self.alpha * (n - 1.0) + self.beta * n * (n - 1.0)
    }

    /// `X(n) / γ`: how many times the work of one shard so many do.
    pub(crate) fn capacity(&self, shards: u32) -> f64 {
        f64::from(shards) / self.contention(shards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_of_shards_give_both_coefficients() {
        let truth = Usl { alpha: 0.05, beta: 0.004, basis: Basis::Fitted };
        let costs = [1, 2, 4, 8].map(|shards| (shards, 1.3 * truth.contention(shards)));
        let found = Usl::fit(&costs).expect("fits");
        assert!((found.alpha - 0.05).abs() < 1e-9 && (found.beta - 0.004).abs() < 1e-9, "{found:?}");
        assert!((found.capacity(8) - 8.0 / (1.0 + 0.35 + 0.224)).abs() < 1e-6);
    }

    #[test]
    fn two_numbers_leave_beta_zero_and_one_leaves_everything_open() {
        let found = Usl::fit(&[(1, 1.0), (2, 1.1), (2, 1.1)]).expect("fits");
        assert_eq!((found.beta, found.basis), (0.0, Basis::AlphaOnly));
        assert!((found.alpha - 0.1).abs() < 1e-9);
        assert_eq!(Usl::fit(&[(2, 1.0), (2, 1.1)]), None);
        assert!((Usl::assumed(1.0).capacity(2) - 1.8).abs() < 1e-9);
    }

    #[test]
    fn shards_that_help_each_other_are_not_believed() {
        let found = Usl::fit(&[(1, 1.0), (2, 0.9), (4, 0.8)]).expect("fits");
        assert_eq!((found.alpha, found.beta), (0.0, 0.0));
    }
}
