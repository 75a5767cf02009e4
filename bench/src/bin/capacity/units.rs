//! Quantities as people write them: `64GiB`, `10Gbit`, `50ms`, `70%`.
//!
//! Pure. What is read here is above zero; what is written keeps three digits.

use thiserror::Error;

const KIB: f64 = 1024.0;
/// Bytes, smallest unit last.
const BYTES: [(&str, f64); 8] = [
    ("TiB", KIB * KIB * KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("MiB", KIB * KIB),
    ("KiB", KIB),
    ("GB", 1e9),
    ("MB", 1e6),
    ("kB", 1e3),
    ("B", 1.0),
];
const BITS: [(&str, f64); 4] = [("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];
const SPANS: [(&str, f64); 3] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];

/// What is not a quantity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum UnitError {
    /// Not a size.
    #[error("a number and one of TiB, GiB, MiB, KiB, GB, MB, kB, B is expected, such as 64GiB")]
    Bytes,
    /// Not a speed.
    #[error("a number and one of Gbit, Mbit, kbit, bit is expected, such as 10Gbit")]
    Bits,
    /// Not a time.
    #[error("a number and one of s, ms, us is expected, such as 50ms")]
    Span,
    /// Not a share.
    #[error("a share is expected, such as 70% or 0.7, above 0 and at most 1")]
    Share,
    /// Not an objective.
    #[error("p50=SPAN or p99=SPAN is expected, such as p99=50ms")]
    Slo,
    /// Not a number above zero.
    #[error("a number above 0 is expected")]
    Positive,
}

fn quantity(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    let value: f64 = number.trim().parse().ok()?;
    (value.is_finite() && value > 0.0).then_some(value * factor)
}

/// Bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<f64, UnitError> {
    quantity(text, &BYTES).ok_or(UnitError::Bytes)
}

/// Bits a second.
pub(crate) fn parse_bits(text: &str) -> Result<f64, UnitError> {
    quantity(text.trim_end_matches("/s"), &BITS).ok_or(UnitError::Bits)
}

/// Seconds.
pub(crate) fn parse_span(text: &str) -> Result<f64, UnitError> {
    quantity(text, &SPANS).ok_or(UnitError::Span)
}

/// A share above 0, at most 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, UnitError> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    share.ok().filter(|share| *share > 0.0 && *share <= 1.0).ok_or(UnitError::Share)
}

/// A number above zero.
pub(crate) fn parse_positive(text: &str) -> Result<f64, UnitError> {
    text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or(UnitError::Positive)
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Bytes, in binary units.
pub(crate) fn bytes(value: f64) -> String {
    let unit = BYTES[..4].iter().find(|(_, factor)| value >= *factor);
    unit.map_or_else(
        || format!("{} B", digits(value)),
        |(unit, factor)| format!("{} {unit}", digits(value / factor)),
    )
}

/// Bytes a second, in decimal units, as networks count.
pub(crate) fn bytes_per_second(value: f64) -> String {
    let unit = BYTES[4..7].iter().find(|(_, factor)| value >= *factor);
    let (unit, factor) = unit.unwrap_or(&BYTES[7]);
    format!("{} {unit}/s", digits(value / factor))
}

/// Seconds, in the unit that fits.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".to_owned(),
        endless if endless.is_infinite() => "no end (overload)".to_owned(),
        long if long >= 1.0 => format!("{} s", digits(long)),
        short if short >= 1e-3 => format!("{} ms", digits(short * 1e3)),
        tiny if tiny >= 1e-6 => format!("{} µs", digits(tiny * 1e6)),
        least => format!("{} ns", digits(least * 1e9)),
    }
}

/// A share, in percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

/// A count: three digits when small, thousands set apart when large.
pub(crate) fn count(value: f64) -> String {
    if value < 1000.0 {
        let rounded = value.round();
        return if (value - rounded).abs() < 1e-9 { format!("{rounded:.0}") } else { digits(value) };
    }
    if value >= 1e7 {
        return format!("{} million", digits(value / 1e6));
    }
    let whole = format!("{value:.0}");
    let mut told = String::with_capacity(whole.len() + whole.len() / 3);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_with_their_units() {
        assert_eq!(parse_bytes("64GiB"), Ok(64.0 * 1024.0 * 1024.0 * 1024.0));
        assert_eq!(parse_bytes("1.5 MB"), Ok(1.5e6));
        assert_eq!((parse_bits("10Gbit"), parse_bits("2.5Gbit/s")), (Ok(1e10), Ok(2.5e9)));
        assert_eq!((parse_span("50ms"), parse_span("2s")), (Ok(0.05), Ok(2.0)));
        assert_eq!((parse_share("70%"), parse_share("0.7")), (Ok(0.7), Ok(0.7)));
        assert_eq!(parse_positive("2.5"), Ok(2.5));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "64", "GiB", "-1GiB", "NaNB", "infB", "0B"] {
            assert_eq!(parse_bytes(text), Err(UnitError::Bytes), "{text}");
        }
        for text in ["0", "1.1", "120%", "-5%", "x", "NaN"] {
            assert_eq!(parse_share(text), Err(UnitError::Share), "{text}");
        }
        for text in ["0", "-1", "inf", "NaN", "x"] {
            assert_eq!(parse_positive(text), Err(UnitError::Positive), "{text}");
        }
    }

    #[test]
    fn figures_are_told_in_the_unit_that_fits() {
        let table = [
            (bytes(68_719_476_736.0), "64.0 GiB"),
            (bytes(12.0), "12.0 B"),
            (bytes_per_second(1.25e9), "1.25 GB/s"),
            (bytes_per_second(12.0), "12.0 B/s"),
            (span(0.0123), "12.3 ms"),
            (span(3.2e-6), "3.20 µs"),
            (span(4e-11), "0.040 ns"),
            (span(0.0), "0 s"),
            (span(f64::INFINITY), "no end (overload)"),
            (percent(0.034), "3.40 %"),
            (count(1_234_567.0), "1,234,567"),
            (count(1.5), "1.50"),
            (count(12_000_000.0), "12.0 million"),
            (count(15.0), "15"),
        ];
        for (told, expected) in table {
            assert_eq!(told, expected);
        }
    }
}
