//! Runs beside each other.

/// The middle, the lowest and the highest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The median; of an even number, the mean of the middle two.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) min: f64,
    /// The highest.
    pub(crate) max: f64,
    /// How many there were.
    pub(crate) count: usize,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max, count) = (*values.first()?, *values.last()?, values.len());
        let median = (values[(count - 1) / 2] + values[count / 2]) / 2.0;
        Some(Self { median, min, max, count })
    }
}
