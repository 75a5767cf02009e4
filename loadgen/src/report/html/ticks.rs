//! Where the axes of a plot have their ticks, and what is written beside them.
//!
//! Pure. Invariants: ticks rise and are finite, whatever the bounds are; there are never more than a dozen.

use crate::metrics::significant;

/// Ticks aimed at on a linear axis.
const TICKS_WANTED: f64 = 5.0;
/// Nines that are told apart on an axis of percentiles: up to 99.9999 %.
pub(super) const NINES_MAX: f64 = 6.0;

/// How far apart round numbers lie that cut `span` into a handful of pieces: 1, 2 or 5 times a power of ten.
fn nice_step(span: f64) -> f64 {
    let rough = span / TICKS_WANTED;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= rough * 0.8).unwrap_or(10.0);
    factor * power
}

/// Round numbers from the last one not above `low` to the first one not below `high`.
pub(super) fn linear(low: f64, high: f64) -> Vec<f64> {
    let (low, high) = ordered(low, high);
    let step = nice_step(high - low);
    let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
    (0..=(last - first) as u32).map(|index| (first + f64::from(index)) * step).collect()
}

/// Powers of ten around both bounds, thinned out; with 2 and 5 between them when there are few.
pub(super) fn logarithmic(low: f64, high: f64) -> Vec<f64> {
    let low = if low > 0.0 { low } else { f64::MIN_POSITIVE };
    let (low, high) = (low.log10(), high.max(low).log10());
    let first = (low + 1e-9).floor() as i32;
    let last = ((high - 1e-9).ceil() as i32).max(first + 1);
    let stride = (last - first + 6) / 7;
    let between: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = (first..=last).step_by(stride.max(1) as usize);
    let mut ticks: Vec<f64> = decades
        .flat_map(|power| between.iter().map(move |factor| factor * 10_f64.powi(power)))
        .filter(|tick| tick.log10() <= f64::from(last) + 1e-9)
        .collect();
    if stride > 1 {
        ticks.push(10_f64.powi(last));
    }
    ticks.dedup();
    ticks
}

/// 0, 90, 99, 99.9, … percent, as far as the highest percentile needs.
pub(super) fn nines(high_percentile: f64) -> Vec<f64> {
    let count = (nines_of(high_percentile) - 1e-9).ceil().max(2.0) as i32;
    (0..=count).map(|nines| 100.0 - 100.0 * 10_f64.powi(-nines)).collect()
}

/// How many nines a percentile has: 90 has one, 99.9 three; none has more than [`NINES_MAX`].
pub(super) fn nines_of(percentile: f64) -> f64 {
    let beyond = 1.0 - percentile / 100.0;
    if beyond <= 0.0 { NINES_MAX } else { (-beyond.log10()).clamp(0.0, NINES_MAX) }
}

/// What is written beside the ticks of a linear axis, alike for all: `0.5`, `200k`, `1.5M`.
pub(super) fn labels(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0.0_f64, |largest, tick| largest.max(tick.abs()));
    let (base, suffix) = if largest >= 1e6 {
        (1e6, "M")
    } else if largest >= 1e4 {
        (1e3, "k")
    } else {
        (1.0, "")
    };
    let step = ticks.windows(2).map(|pair| (pair[1] - pair[0]) / base).fold(f64::INFINITY, f64::min);
    let decimals = if step.is_finite() { (-(step.log10() + 1e-9).floor()).clamp(0.0, 9.0) } else { 0.0 };
    let label = |tick: &f64| match *tick {
        0.0 => "0".to_owned(),
        tick => format!("{:.*}{suffix}", decimals as usize, tick / base),
    };
    ticks.iter().map(label).collect()
}

/// What is written beside a tick of a logarithmic axis.
pub(super) fn logarithmic_label(tick: f64) -> String {
    match tick {
        tick if tick >= 1e6 => format!("{}M", significant(tick / 1e6)),
        tick if tick >= 1e4 => format!("{}k", significant(tick / 1e3)),
        tick if tick >= 1.0 => significant(tick.round()),
        tick => plain_fraction(tick),
    }
}

/// What is written beside a percentile: `99.99`.
pub(super) fn percentile_label(percentile: f64) -> String {
    let decimals = (nines_of(percentile).round() - 2.0).max(0.0) as usize;
    format!("{percentile:.decimals$}")
}

fn plain_fraction(value: f64) -> String {
    let decimals = (-(value.log10() + 1e-9).floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

/// Two finite bounds apart from each other.
fn ordered(low: f64, high: f64) -> (f64, f64) {
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    let (low, high) = (finite(low.min(high)), finite(high.max(low)));
    if high - low > high.abs().max(low.abs()) * 1e-9 {
        return (low, high);
    }
    match low {
        0.0 => (0.0, 1.0),
        low => (low - low.abs() * 0.1, low + low.abs() * 0.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round_and_hold_both_bounds() {
        let table: &[(f64, f64, &[&str])] = &[
            (0.0, 10.0, &["0", "2", "4", "6", "8", "10"]),
            (0.0, 9.3, &["0", "2", "4", "6", "8", "10"]),
            (0.0, 1.0, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.0, 0.97, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.0, 0.0, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
            (0.0, 408_000.0, &["0", "100k", "200k", "300k", "400k", "500k"]),
            (0.0, 2_400_000.0, &["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M"]),
            (3.0, 3.0, &["2.7", "2.8", "2.9", "3.0", "3.1", "3.2", "3.3"]),
            (-4.0, 6.0, &["-4", "-2", "0", "2", "4", "6"]),
            (f64::NAN, f64::INFINITY, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ];
        for (low, high, expected) in table {
            assert_eq!(labels(&linear(*low, *high)), *expected, "{low} to {high}");
        }
    }

    #[test]
    fn logarithmic_ticks_are_decades_and_more_when_there_are_few() {
        let table: &[(f64, f64, &[&str])] = &[
            (0.5, 180.0, &["0.1", "1", "10", "100", "1,000"]),
            (1.0, 10.0, &["1", "2", "5", "10"]),
            (2.0, 50.0, &["1", "2", "5", "10", "20", "50", "100"]),
            (5.0, 5.0, &["1", "2", "5", "10"]),
            (0.01, 20_000.0, &["0.01", "0.1", "1", "10", "100", "1,000", "10k", "100k"]),
        ];
        for (low, high, expected) in table {
            let found: Vec<_> = logarithmic(*low, *high).into_iter().map(logarithmic_label).collect();
            assert_eq!(found, *expected, "{low} to {high}");
        }
        for (low, high) in [(0.0, 1.0), (-1.0, 5.0), (0.0, 0.0), (1e-300, 1e300)] {
            let ticks = logarithmic(low, high);
            assert!(ticks.len() <= 12 && ticks.is_sorted(), "{low} to {high}: {ticks:?}");
        }
    }

    #[test]
    fn percentiles_are_laid_out_by_their_nines() {
        let found: Vec<_> = nines(99.99).into_iter().map(percentile_label).collect();
        assert_eq!(found, ["0", "90", "99", "99.9", "99.99"]);
        assert_eq!(nines(100.0).len(), 7);
        let table = [(0.0, 0.0), (90.0, 1.0), (99.9, 3.0), (100.0, NINES_MAX), (101.0, NINES_MAX)];
        for (percentile, expected) in table {
            assert!((nines_of(percentile) - expected).abs() < 1e-9, "{percentile}");
        }
    }
}
