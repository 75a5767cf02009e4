//! Spans of time as people write them: `500ms`, `1.5s`, `2m`.

use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// A span of time, written as a number and a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(Duration);

/// The text is not a span.
#[derive(Debug, Error)]
#[error("{text:?} is not a span: a number and ms, s, m or h, such as 500ms or 1.5s")]
pub(crate) struct SpanError {
    text: String,
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError { text: text.to_owned() };
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(error)?;
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| error())?;
        let secs = match unit {
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(error()),
        };
        Duration::try_from_secs_f64(secs).map(Self).map_err(|_| error())
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_units() {
        let table = [("500ms", 500), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)];
        for (text, millis) in table {
            assert_eq!(text.parse::<Span>().expect(text), Span(Duration::from_millis(millis)));
        }
        for text in ["", "5", "s", "5 s", "-1s", "5d", "1e400s", "nans", "infs"] {
            assert!(text.parse::<Span>().is_err(), "{text:?}");
        }
    }
}
