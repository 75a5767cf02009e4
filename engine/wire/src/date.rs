//! The two texts for a moment: the `Date` header and the ISO 8601 text of JavaScript.
//!
//! Moments are arguments, in milliseconds since the Unix epoch, UTC. Years end at 9999 because both texts
//! have four digits for them; a later moment reads as the last millisecond of 9999.

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

const HTTP: StaticFormatDescription =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const ISO_MS: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;

/// The value of a `Date` header: `Sun, 22 Nov 2026 01:48:22 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
pub fn http_date(unix_ms: u64) -> String {
    format(unix_ms, HTTP)
}

/// What JavaScript's `toISOString` writes: `2026-11-22T01:48:24.999Z`.
pub fn iso_ms(unix_ms: u64) -> String {
    format(unix_ms, ISO_MS)
}

fn format(unix_ms: u64, shape: StaticFormatDescription) -> String {
    let nanos = i128::from(unix_ms.min(LAST_MS)) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).expect("clamped to the years 1970 to 9999");
    moment.format(shape).expect("a moment in UTC has every field the shape names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let table = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z"),
            (999, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.999Z"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06T08:49:37.000Z"),
            (1_709_164_800_007, "Thu, 29 Feb 2024 00:00:00 GMT", "2024-02-29T00:00:00.007Z"),
            (1_795_312_104_999, "Sun, 22 Nov 2026 01:48:24 GMT", "2026-11-22T01:48:24.999Z"),
            (LAST_MS, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.999Z"),
        ];
        for (unix_ms, http, iso) in table {
            assert_eq!(http_date(unix_ms), http);
            assert_eq!(iso_ms(unix_ms), iso);
        }
    }

    #[test]
    fn moments_beyond_four_digit_years_are_clamped() {
        assert_eq!(iso_ms(LAST_MS + 1), iso_ms(LAST_MS));
        assert_eq!(http_date(u64::MAX), http_date(LAST_MS));
    }
}
