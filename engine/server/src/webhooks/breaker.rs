//! When to stop asking an application that is out of order. Time is an argument.
//!
//! Closed, it lets everything pass and counts failures in a row. At the limit it opens and lets nothing pass for a
//! pause; then one request, the probe, tries. Its outcome closes the breaker or opens it for another pause. A probe of
//! which nothing is heard for a pause makes way for another.
//!
//! Invariant: only results of requests that passed in the present state count, so that what was under way when it
//! opened neither closes it nor prolongs the pause.

use std::time::{Duration, Instant};

/// When it opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    /// Failures in a row that open it, at least 1.
    pub(crate) failures: usize,
    /// How long nothing passes.
    pub(crate) pause: Duration,
}

/// One breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    thresholds: Thresholds,
    state: State,
    /// Which results count.
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: usize },
    Open { until: Instant },
    Probing { since: Instant },
}

/// A request may be sent; its result is to be told with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    generation: u64,
}

/// What a result did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing passes for a while.
    Opened,
    /// All is well again.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub(crate) fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, state: State::Closed { failures: 0 }, generation: 0 }
    }

    /// Takes over other thresholds, for what happens from here on.
    pub(crate) fn set(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// Whether a request may be sent.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<Pass> {
        let again = match self.state {
            State::Closed { .. } => return Some(Pass { generation: self.generation }),
            State::Open { until } => until,
            State::Probing { since } => since + self.thresholds.pause,
        };
        if now < again {
            return None;
        }
        self.state = State::Probing { since: now };
        self.generation += 1;
        Some(Pass { generation: self.generation })
    }

    /// Takes in the result of a request: whether the application was in order.
    pub(crate) fn report(&mut self, pass: Pass, now: Instant, in_order: bool) -> Option<Change> {
        if pass.generation != self.generation {
            return None;
        }
        match (self.state, in_order) {
            (State::Open { .. }, _) => None,
            (State::Closed { .. }, true) => {
                self.state = State::Closed { failures: 0 };
                None
            }
            (State::Closed { failures }, false) if failures + 1 < self.thresholds.failures => {
                self.state = State::Closed { failures: failures + 1 };
                None
            }
            (State::Closed { .. }, false) => {
                self.open(now);
                Some(Change::Opened)
            }
            (State::Probing { .. }, true) => {
                self.state = State::Closed { failures: 0 };
                Some(Change::Closed)
            }
            (State::Probing { .. }, false) => {
                self.open(now);
                None
            }
        }
    }

    /// Whether nothing but a probe passes.
    pub(crate) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open { until: now + self.thresholds.pause };
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    enum Step {
        /// At this second a request is let through or not.
        Admit(u64, bool),
        /// At this second the request with this number, counted from 0, ends well or not.
        Report(u64, usize, bool, Option<Change>),
    }

    fn play(steps: &[Step]) {
        let start = Instant::now();
        let at = |seconds: &u64| start + Duration::from_secs(*seconds);
        let mut breaker = Breaker::new(Thresholds { failures: 3, pause: PAUSE });
        let mut passes = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            match step {
                Admit(seconds, expected) => {
                    let pass = breaker.admit(at(seconds));
                    assert_eq!(pass.is_some(), *expected, "step {number}");
                    passes.extend(pass);
                }
                Report(seconds, index, in_order, expected) => {
                    let change = breaker.report(passes[*index], at(seconds), *in_order);
                    assert_eq!(change, *expected, "step {number}");
                }
            }
        }
    }

    use Change::{Closed, Opened};
    use Step::{Admit, Report};

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_starts_over() {
        play(&[
            Admit(0, true),
            Report(0, 0, false, None),
            Report(0, 0, false, None),
            Report(0, 0, true, None),
            Report(0, 0, false, None),
            Report(0, 0, false, None),
            Admit(0, true),
            Report(0, 1, false, Some(Opened)),
            Admit(0, false),
            Admit(4, false),
        ]);
    }

    #[test]
    fn after_the_pause_one_probe_decides() {
        let opened = || vec![Admit(0, true), Report(0, 0, false, None), Report(0, 0, false, None)];
        let mut steps = opened();
        steps.extend([
            Report(0, 0, false, Some(Opened)),
            Admit(5, true),
            Admit(5, false),
            Report(6, 1, false, None),
            Admit(10, false),
            Admit(11, true),
            Report(12, 2, true, Some(Closed)),
            Admit(12, true),
            Admit(12, true),
        ]);
        play(&steps);
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        play(&[
            Admit(0, true),
            Admit(0, true),
            Report(1, 0, false, None),
            Report(1, 0, false, None),
            Report(1, 0, false, Some(Opened)),
            Report(2, 1, true, None),
            Admit(3, false),
            Report(5, 1, false, None),
            Admit(6, true),
            Report(6, 1, true, None),
            Admit(6, false),
            Report(7, 2, true, Some(Closed)),
            Report(7, 1, false, None),
        ]);
    }

    #[test]
    fn a_probe_that_is_never_heard_of_makes_way_for_another() {
        play(&[
            Admit(0, true),
            Report(0, 0, false, None),
            Report(0, 0, false, None),
            Report(0, 0, false, Some(Opened)),
            Admit(5, true),
            Admit(9, false),
            Admit(10, true),
            Report(10, 1, true, None),
            Admit(11, false),
            Report(11, 2, true, Some(Closed)),
        ]);
    }
}
