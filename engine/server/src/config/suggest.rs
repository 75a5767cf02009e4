//! The known name that an unknown one was probably meant to be.

/// How alike two names must be (1 = equal) for one to be offered for the other.
const LIKENESS_MIN: f64 = 0.55;

/// The candidate most like `name`, if any is alike enough; letter case and `-` for `_` make no difference.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let name = plain(name);
    let alike = |candidate: &str| strsim::normalized_damerau_levenshtein(&name, &plain(candidate));
    candidates
        .into_iter()
        .map(|candidate| (alike(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        // `max_by` keeps the last of equals; the first listed is the better guess.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name_and_nonsense_finds_none() {
        let names = ["listen", "shards", "drain_period", "log_level", "log_format"];
        let cases = [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("shard", Some("shards")),
            ("drain-period", Some("drain_period")),
            ("drain_periods", Some("drain_period")),
            ("loglevel", Some("log_level")),
            ("turbo", None),
            ("", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
    }
}
