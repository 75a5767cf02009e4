//! Error bars: the same fit over resampled runs.
//!
//! Pure. Resamples runs with replacement, and draws benchmarks from their confidence intervals; the generator is
//! seeded, so the same files give the same bars.

use serde::Serialize;

use crate::calibration::{self, Run};
use crate::criterion::{self, Measured, UserCosts};
use crate::fit::Model;
use crate::random::Random;

/// Models that are fitted for the bars.
pub(crate) const RESAMPLES: usize = 200;
/// Anything but zero.
const SEED: u64 = 0x5EED_5EED;
/// The bars hold from this share of the resamples to the rest of it.
const TAIL: f64 = 0.05;

/// A figure and its error bar. JSON has no infinity: it is `null`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Figure {
    /// Of all runs together.
    pub(crate) value: f64,
    /// 5 % of the resamples are below, less the residual of the fit.
    pub(crate) low: f64,
    /// 95 % of the resamples are below, plus the residual of the fit.
    pub(crate) high: f64,
}

impl Figure {
    /// `residual` is relative.
    pub(crate) fn of(value: f64, samples: impl Iterator<Item = f64>, residual: f64) -> Self {
        let mut sorted: Vec<f64> = samples.chain([value]).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        let low = at(TAIL).min(value) * (1.0 - residual).max(0.0);
        Self { value, low, high: at(1.0 - TAIL).max(value) * (1.0 + residual) }
    }
}

/// Models of resampled runs; fewer than [`RESAMPLES`] when some resamples are too poor to be fitted.
pub(crate) fn resampled(runs: &[Run], benchmarks: &[Measured]) -> Vec<Model> {
    let mut random = Random::new(SEED);
    let (loads, idles): (Vec<Run>, Vec<Run>) =
        runs.iter().cloned().partition(|run| matches!(run, Run::Load(_)));
    let mut models = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let mut drawn = random.resample(&loads);
        drawn.extend(random.resample(&idles));
        let user = UserCosts::of(&criterion::drawn(benchmarks, &mut random));
        let scaling = random.unit();
        models.extend(Model::fit(&calibration::points(&drawn), &user, scaling));
    }
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_hold_nine_tenths_of_the_samples_the_value_and_the_residual() {
        let figure = Figure::of(50.0, (0..=100).map(f64::from), 0.0);
        assert_eq!((figure.low, figure.high), (5.0, 95.0));
        let figure = Figure::of(50.0, (0..=100).map(f64::from), 0.1);
        assert!((figure.low - 4.5).abs() < 1e-9 && (figure.high - 104.5).abs() < 1e-9, "{figure:?}");
        let above = Figure::of(200.0, (0..=100).map(f64::from), 0.0);
        assert_eq!(above.high, 200.0);
        let sure = Figure::of(3.0, std::iter::repeat_n(3.0, 5), 0.0);
        assert_eq!((sure.low, sure.high), (3.0, 3.0));
    }
}
