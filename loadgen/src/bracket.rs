//! Where a limit lies: the next value to try, from which values held and which did not. Pure.

/// A value may be so many times smaller than the first one tried before the search gives up.
const DESCENT_MAX: f64 = 1024.0;

/// The search for one limit.
///
/// Invariant: what held lies below what broke, as far as one try can tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bracket {
    start: f64,
    max: f64,
    /// The search ends when the broken value is larger by no more than this share.
    precision: f64,
    is_whole: bool,
    held: Option<f64>,
    broken: Option<f64>,
}

impl Bracket {
    /// A search from `start`, at most up to `max`; with `is_whole` among whole numbers only.
    pub(crate) fn new(start: f64, max: f64, precision: f64, is_whole: bool) -> Self {
        Self { start: start.min(max), max, precision, is_whole, held: None, broken: None }
    }

    /// The next value to try; `None` when the limit is known as well as asked for.
    pub(crate) fn next(&self) -> Option<f64> {
        let rounded = |value: f64| if self.is_whole { value.round() } else { value };
        match (self.held, self.broken) {
            (None, None) => Some(self.start),
            (Some(held), None) => (held < self.max).then(|| rounded((held * 2.0).min(self.max))),
            (None, Some(broken)) => {
                let next = rounded(broken / 2.0);
                (next >= self.start / DESCENT_MAX && next > 0.0).then_some(next)
            }
            (Some(held), Some(broken)) => {
                let next = rounded((held * broken).sqrt());
                (broken / held > 1.0 + self.precision && next > held && next < broken).then_some(next)
            }
        }
    }

    /// Takes in how a try ended. A value that held above one that broke shows how far one try can be trusted: the
    /// later one counts.
    pub(crate) fn tried(&mut self, value: f64, has_held: bool) {
        if has_held {
            self.held = Some(value);
            self.broken = self.broken.filter(|broken| *broken > value);
        } else {
            self.broken = Some(value);
            self.held = self.held.filter(|held| *held < value);
        }
    }

    /// The highest value that held.
    pub(crate) fn held(&self) -> Option<f64> {
        self.held
    }

    /// The lowest value that broke.
    pub(crate) fn broken(&self) -> Option<f64> {
        self.broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit found for a server that holds up to `limit`, and the values tried.
    fn search(mut bracket: Bracket, limit: f64) -> (Option<f64>, Vec<f64>) {
        let mut tried = Vec::new();
        while let Some(value) = bracket.next() {
            tried.push(value);
            assert!(tried.len() < 64, "{tried:?}");
            bracket.tried(value, value <= limit);
        }
        (bracket.held(), tried)
    }

    #[test]
    fn a_limit_is_found_from_below_from_above_and_not_beyond_the_bounds() {
        let (held, tried) = search(Bracket::new(100.0, 1e6, 0.05, false), 730.0);
        assert_eq!(&tried[..4], [100.0, 200.0, 400.0, 800.0]);
        assert!(held.is_some_and(|held| held <= 730.0 && held * 1.05 >= 730.0), "{held:?}");
        let (held, tried) = search(Bracket::new(100.0, 1e6, 0.05, false), 3.0);
        assert!(held.is_some_and(|held| held <= 3.0 && held * 1.05 >= 3.0), "{held:?} after {tried:?}");
        assert_eq!(
            search(Bracket::new(100.0, 300.0, 0.05, false), 1e9),
            (Some(300.0), vec![100.0, 200.0, 300.0])
        );
        let (held, tried) = search(Bracket::new(100.0, 300.0, 0.05, false), 0.0);
        assert_eq!((held, tried.len()), (None, 11));
    }

    #[test]
    fn whole_numbers_are_told_apart_down_to_one() {
        assert_eq!(search(Bracket::new(4.0, 100.0, 0.0, true), 1.0).0, Some(1.0));
        assert_eq!(search(Bracket::new(4.0, 100.0, 0.0, true), 37.0).0, Some(37.0));
    }

    #[test]
    fn the_later_of_two_contradicting_tries_counts() {
        let mut bracket = Bracket::new(10.0, 100.0, 0.1, false);
        bracket.tried(10.0, false);
        bracket.tried(20.0, true);
        assert_eq!((bracket.held(), bracket.broken(), bracket.next()), (Some(20.0), None, Some(40.0)));
        bracket.tried(15.0, false);
        assert_eq!((bracket.held(), bracket.broken(), bracket.next()), (None, Some(15.0), Some(7.5)));
    }
}
