//! Connection attempts, as what a run does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{COUNT_MAX, Options, ScenarioError, positive, span, within};

/// Attempts under way at a time when each begins as another ends.
const IN_FLIGHT: u32 = 64;
/// The same when they begin by the clock: what a server is behind with, up to this, is its own business.
const IN_FLIGHT_OPEN_LOOP: u32 = 1024;

/// How a connection that is live ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Goodbye {
    /// With a close frame, 1000; then the server ends the connection
    Clean,
    /// With a reset, as a client that crashes: neither side keeps anything
    Reset,
}

/// Attempts to connect, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connect {
    /// In all; `None`: until the time is over.
    pub(crate) attempts: Option<u32>,
    /// Under way at most, from connecting to live, or to the end of those that end.
    pub(crate) in_flight: u32,
    /// Due a second; `None`: the next begins as one ends.
    pub(crate) per_second: Option<f64>,
    /// What live connections do; `None`: they stay.
    pub(crate) goodbye: Option<Goodbye>,
    /// No attempt begins later; `None`: until all were made.
    pub(crate) duration: Option<Duration>,
}

impl Connect {
    /// Connections there are at a time, at most.
    pub(crate) fn connections(&self) -> u32 {
        let attempts = self.attempts.unwrap_or(u32::MAX);
        if self.goodbye.is_some() { self.in_flight.min(attempts) } else { attempts }
    }

    /// How long attempts by the clock are made, as far as that is known before.
    pub(crate) fn span(&self) -> Option<Duration> {
        let needed = self.attempts.zip(self.per_second);
        let needed = needed.map(|(attempts, rate)| Duration::from_secs_f64(f64::from(attempts) / rate));
        needed.into_iter().chain(self.duration).min()
    }
}

impl Options {
    /// What a connect run does.
    pub(super) fn connect(&self) -> Result<Connect, ScenarioError> {
        let of_members = [
            ("churn", self.churn.is_some()),
            ("slow_share", self.slow_share.is_some()),
            ("storm_after", self.storm_after.is_some()),
        ];
        if let Some((name, _)) = of_members.into_iter().find(|(_, is_set)| *is_set) {
            return Err(ScenarioError::NotOfConnect { name });
        }
        let per_second = self.ramp.filter(|ramp| *ramp > 0).map(f64::from);
        let in_flight = if per_second.is_some() { IN_FLIGHT_OPEN_LOOP } else { IN_FLIGHT };
        let is_endless = self.close.is_some() && self.connections.is_none();
        let attempts = (!is_endless).then_some(self.connections.unwrap_or(1000));
        Ok(Connect {
            attempts: attempts.map(|attempts| within("connections", attempts, 1, COUNT_MAX)).transpose()?,
            in_flight: within("in_flight", self.in_flight.unwrap_or(in_flight), 1, COUNT_MAX)?,
            per_second,
            goodbye: self.close,
            duration: (self.duration.is_some() || is_endless).then(|| span(self.duration, 5)),
        })
    }

    /// Clients of a fan-out run that come, log in and leave.
    pub(super) fn visitors(&self) -> Result<Option<Connect>, ScenarioError> {
        let Some(rate) = self.visitors else { return Ok(None) };
        Ok(Some(Connect {
            attempts: None,
            in_flight: within("in_flight", self.in_flight.unwrap_or(IN_FLIGHT_OPEN_LOOP), 1, COUNT_MAX)?,
            per_second: Some(positive("visitors", rate, 1e6)?),
            goodbye: Some(self.close.unwrap_or(Goodbye::Clean)),
            duration: None,
        }))
    }
}
