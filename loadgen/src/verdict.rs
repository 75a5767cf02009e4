//! Who was the limit: the server, the generator, the machine they share, or nobody. Pure.
//!
//! A generator that is the limit measures itself; its figures must not be taken for the server's.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::scenario::Pace;

/// A thread that wants the CPU for more than this share of the time is taken for the limit.
const BUSY_SHARE_MAX: f64 = 0.9;
/// A server that waits for its CPU for more than this many cores' worth of time has to share it.
const SERVER_WAITS_MAX: f64 = 0.25;
/// A lag that stays below this does not count as growing, in nanoseconds: a shared machine is that uneven.
const LAG_NS_MIN: u64 = 5_000_000;
/// A generator that is later than this on average is not keeping its schedule, growing or not, in nanoseconds.
const OWN_LAG_NS_MAX: u64 = 10_000_000;

/// What was seen while measuring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed {
    /// Share of the time the busiest thread of the generator ran or wanted to run.
    pub(crate) generator_share: f64,
    /// Share of the time the server's busiest thread ran, when it was watched.
    pub(crate) server_share: Option<f64>,
    /// Cores' worth of time the server was ready to run while others ran.
    pub(crate) server_cores_waited_for: f64,
    /// Mean lag of sending in the first and the last third of the time, in nanoseconds.
    pub(crate) lag_thirds_ns: (u64, u64),
    /// The part of it that is the generator's own: not spent waiting for who takes the publications.
    pub(crate) own_lag_thirds_ns: (u64, u64),
    /// When publications were due.
    pub(crate) pace: Pace,
}

/// Who was the limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "limit")]
pub(crate) enum Verdict {
    /// The generator's own threads: no capacity can be told.
    GeneratorBusy { share: f64 },
    /// The generator fell behind its own schedule: no capacity can be told.
    GeneratorLate { first_us: u64, last_us: u64 },
    /// Others who used the server's CPU: no capacity can be told.
    Machine { cores_waited_for: f64 },
    /// The server: one of its threads has all it can do.
    Server { share: f64 },
    /// Who takes the publications, and could not keep up: no capacity can be told.
    Publishing { first_us: u64, last_us: u64 },
    /// Nobody: the pace asked for no more.
    Nobody,
}

impl Verdict {
    /// Judges what was seen; in doubt against the generator.
    pub(crate) fn of(observed: &Observed) -> Self {
        let is_open = matches!(observed.pace, Pace::Open { .. });
        let grows =
            |(first_ns, last_ns): (u64, u64)| is_open && last_ns > LAG_NS_MIN && last_ns > 2 * first_ns;
        let (first_ns, last_ns) = observed.own_lag_thirds_ns;
        let is_late = is_open && (first_ns + last_ns) / 2 > OWN_LAG_NS_MAX;
        if observed.generator_share > BUSY_SHARE_MAX {
            return Self::GeneratorBusy { share: observed.generator_share };
        }
        if is_late || grows(observed.own_lag_thirds_ns) {
            return Self::GeneratorLate { first_us: first_ns / 1_000, last_us: last_ns / 1_000 };
        }
        if observed.server_cores_waited_for > SERVER_WAITS_MAX {
            return Self::Machine { cores_waited_for: observed.server_cores_waited_for };
        }
        let (first_ns, last_ns) = observed.lag_thirds_ns;
        match observed.server_share {
            Some(share) if share > BUSY_SHARE_MAX => Self::Server { share },
            _ if grows(observed.lag_thirds_ns) => {
                Self::Publishing { first_us: first_ns / 1_000, last_us: last_ns / 1_000 }
            }
            _ => Self::Nobody,
        }
    }

    /// Whether the rate that was reached says something about the server.
    pub(crate) fn is_of_server(self) -> bool {
        matches!(self, Self::Server { .. } | Self::Nobody)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GeneratorBusy { share } => {
                write!(
                    f,
                    "generator-bound: one of its threads wanted the CPU {:.0} % of the time",
                    share * 100.0
                )
            }
            Self::GeneratorLate { first_us, last_us } => {
                write!(f, "generator-bound: it was {first_us} µs late at first, {last_us} µs at last")
            }
            Self::Machine { cores_waited_for } => {
                write!(
                    f,
                    "machine-bound: the server waited for the CPU, {cores_waited_for:.2} cores' worth of time"
                )
            }
            Self::Server { share } => {
                write!(f, "server-bound: its busiest thread ran {:.0} % of the time", share * 100.0)
            }
            Self::Publishing { first_us, last_us } => {
                write!(
                    f,
                    "publishing-bound: who takes the publications was {first_us} µs behind at first, {last_us} µs at last"
                )
            }
            Self::Nobody => write!(f, "neither side was at its limit"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_suspected_first() {
        let open = Pace::Open { per_second: 100.0 };
        let closed = Pace::Closed { window: 1, burst: 1 };
        let late = Verdict::GeneratorLate { first_us: 3_000, last_us: 7_000 };
        let always_late = Verdict::GeneratorLate { first_us: 11_000, last_us: 10_000 };
        let publishing = Verdict::Publishing { first_us: 3_000, last_us: 7_000 };
        let machine = Verdict::Machine { cores_waited_for: 0.3 };
        let (none, grown) = ((0, 0), (3_000_000, 7_000_000));
        let server = Verdict::Server { share: 1.0 };
        let table = [
            (0.95, Some(1.0), 0.3, none, none, closed, Verdict::GeneratorBusy { share: 0.95 }),
            (0.90, Some(0.95), 0.2, none, none, closed, Verdict::Server { share: 0.95 }),
            (0.50, Some(0.95), 0.3, none, none, closed, machine),
            (0.50, Some(0.50), 0.0, none, none, closed, Verdict::Nobody),
            (0.50, None, 0.0, none, none, closed, Verdict::Nobody),
            (0.50, Some(1.0), 0.3, grown, grown, open, late),
            (0.50, Some(0.5), 0.0, (11_000_000, 10_000_000), (11_000_000, 10_000_000), open, always_late),
            (0.50, Some(1.0), 0.0, grown, grown, closed, server),
            (0.50, Some(1.0), 0.0, grown, none, open, server),
            (0.50, Some(0.5), 0.0, grown, none, open, publishing),
            (0.50, Some(0.5), 0.0, (5_500_000, 7_000_000), none, open, Verdict::Nobody),
            (0.50, Some(0.5), 0.0, (10, 4_900_000), (10, 4_900_000), open, Verdict::Nobody),
        ];
        for (generator_share, server_share, server_cores_waited_for, lag_thirds_ns, own, pace, expected) in
            table
        {
            let own_lag_thirds_ns = own;
            let observed = Observed {
                generator_share,
                server_share,
                server_cores_waited_for,
                lag_thirds_ns,
                own_lag_thirds_ns,
                pace,
            };
            assert_eq!(Verdict::of(&observed), expected, "{observed:?}");
        }
    }
}
