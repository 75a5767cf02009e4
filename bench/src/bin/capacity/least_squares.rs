//! Non-negative least squares over relative residuals.
//!
//! Pure. A cost below nothing is no cost, so coefficients are kept at or above zero. There are few columns, hence
//! the exact way: every subset of them is solved and the best solution without a negative coefficient is taken.

/// Most columns; the work grows with their power of two.
pub(crate) const COLUMNS_MAX: usize = 6;
/// A pivot below this, with columns scaled to length one, means that columns say the same.
const PIVOT_MIN: f64 = 1e-9;
/// A subset must leave this share less of the squared error than a smaller one to be taken for it.
const GAIN_MIN: f64 = 1e-12;

/// One observation: `target` should be the sum of `columns` times their coefficients.
#[derive(Clone, Debug)]
pub(crate) struct Row<const N: usize> {
    /// What the coefficients multiply.
    pub(crate) columns: [f64; N],
    /// What was measured, less what is known already.
    pub(crate) target: f64,
    /// What an error is relative to, above zero: the measurement as a whole.
    pub(crate) scale: f64,
}

/// The coefficients, each at or above zero, that leave the least sum of squared relative errors.
///
/// Of columns that say the same, one gets the coefficient and the others zero.
pub(crate) fn fit<const N: usize>(rows: &[Row<N>]) -> [f64; N] {
    const { assert!(N <= COLUMNS_MAX) };
    let (gram, moments, lengths) = normal_equations(rows);
    let mut best = ([0.0; N], 0.0);
    let mut subsets: Vec<u32> = (1..1 << N).collect();
    subsets.sort_by_key(|subset| subset.count_ones());
    let total: f64 = rows.iter().map(|row| (row.target / row.scale).powi(2)).sum();
    for subset in subsets {
        let Some(solution) = solve(&gram, &moments, subset) else { continue };
        if solution.iter().any(|coefficient| *coefficient < 0.0) {
            continue;
        }
        // At the minimum of a subset the squared error is what there was less this.
        let gain: f64 = solution.iter().zip(&moments).map(|(coefficient, moment)| coefficient * moment).sum();
        if gain > best.1 + GAIN_MIN * total {
            best = (solution, gain);
        }
    }
    let mut coefficients = best.0;
    for (coefficient, length) in coefficients.iter_mut().zip(lengths) {
        *coefficient = if length > 0.0 { *coefficient / length } else { 0.0 };
    }
    coefficients
}

/// Products of columns scaled to length one, of columns and targets, and the lengths.
fn normal_equations<const N: usize>(rows: &[Row<N>]) -> ([[f64; N]; N], [f64; N], [f64; N]) {
    let mut lengths = [0.0; N];
    for row in rows {
        for (length, column) in lengths.iter_mut().zip(row.columns) {
            *length += (column / row.scale).powi(2);
        }
    }
    let lengths = lengths.map(f64::sqrt);
    let mut gram = [[0.0; N]; N];
    let mut moments = [0.0; N];
    for row in rows {
        let mut scaled = row.columns;
        for (column, length) in scaled.iter_mut().zip(lengths) {
            *column = if length > 0.0 { *column / row.scale / length } else { 0.0 };
        }
        for (index, column) in scaled.iter().enumerate() {
            moments[index] += column * row.target / row.scale;
            for (product, other) in gram[index].iter_mut().zip(scaled) {
                *product += column * other;
            }
        }
    }
    (gram, moments, lengths)
}

/// Gaussian elimination over the columns in `subset`; the others get zero. `None` when columns say the same.
fn solve<const N: usize>(gram: &[[f64; N]; N], moments: &[f64; N], subset: u32) -> Option<[f64; N]> {
    let picked: Vec<usize> = (0..N).filter(|index| subset >> index & 1 == 1).collect();
    let count = picked.len();
    let mut matrix: Vec<Vec<f64>> = picked
        .iter()
        .map(|row| picked.iter().map(|column| gram[*row][*column]).chain([moments[*row]]).collect())
        .collect();
    for step in 0..count {
        let pivot = (step..count).max_by(|a, b| matrix[*a][step].abs().total_cmp(&matrix[*b][step].abs()))?;
        matrix.swap(step, pivot);
        if matrix[step][step].abs() < PIVOT_MIN {
            return None;
        }
        let pivot_row = matrix[step].clone();
        for row in &mut matrix[step + 1..] {
            let factor = row[step] / pivot_row[step];
            for (value, above) in row.iter_mut().zip(&pivot_row).skip(step) {
                *value -= factor * above;
            }
        }
    }
    let mut solution = [0.0; N];
    for step in (0..count).rev() {
        let known: f64 = (step + 1..count).map(|later| matrix[step][later] * solution[picked[later]]).sum();
        solution[picked[step]] = (matrix[step][count] - known) / matrix[step][step];
    }
    Some(solution)
}

/// Root of the mean squared error of `predicted` relative to `measured`; zero without pairs.
pub(crate) fn relative_residual(pairs: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, count) = pairs.fold((0.0, 0_u32), |(sum, count), (predicted, measured)| {
        (sum + (predicted / measured - 1.0).powi(2), count + 1)
    });
    if count == 0 { 0.0 } else { (sum / f64::from(count)).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(table: &[([f64; N], f64)]) -> Vec<Row<N>> {
        table
            .iter()
            .map(|(columns, target)| Row {
                columns: *columns,
                target: *target,
                scale: target.abs().max(1e-9),
            })
            .collect()
    }

    fn assert_near<const N: usize>(found: [f64; N], expected: [f64; N]) {
        for (found_one, expected_one) in found.iter().zip(expected) {
            let is_near = (found_one - expected_one).abs() <= 1e-6 * expected_one.abs().max(1e-3);
            assert!(is_near, "{found:?} is not {expected:?}");
        }
    }

    #[test]
    fn exact_data_give_their_coefficients_over_nine_decades() {
        let truth = [3e-6, 2e-9, 40.0];
        let table: Vec<_> = (1..20)
            .map(|index| {
                let x = f64::from(index);
                let columns = [x, x * x * 100.0, f64::from(index % 3) * 1e-6];
                let target = columns.iter().zip(truth).map(|(column, cost)| column * cost).sum();
                (columns, target)
            })
            .collect();
        assert_near(fit(&rows(&table)), truth);
    }

    #[test]
    fn a_cost_that_would_be_negative_is_zero_and_the_rest_is_refitted() {
        // The best line through these falls; without the slope the level that errs least relatively is left.
        let level = fit(&rows(&[([1.0, 1.0], 3.0), ([1.0, 2.0], 2.0), ([1.0, 3.0], 1.0)]));
        let expected = (1.0 / 3.0 + 0.5 + 1.0) / (1.0 / 9.0 + 0.25 + 1.0);
        assert_near(level, [expected, 0.0]);
    }

    #[test]
    fn columns_that_say_the_same_or_nothing_do_not_break_the_fit() {
        let found = fit(&rows(&[([1.0, 2.0, 0.0], 5.0), ([3.0, 6.0, 0.0], 15.0)]));
        assert!((found[0] + 2.0 * found[1] - 5.0).abs() < 1e-9 && found[2] == 0.0, "{found:?}");
        assert_near(fit::<2>(&[]), [0.0, 0.0]);
    }

    #[test]
    fn residuals_are_relative() {
        let residual = relative_residual([(1.1, 1.0), (90.0, 100.0)].into_iter());
        assert!((residual - 0.1).abs() < 1e-9, "{residual}");
    }
}
