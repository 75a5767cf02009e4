//! What a recording needs to be replayed, and how that is applied to it. The table itself is [`super::plans`].

use std::ops::RangeInclusive;

use serde_json::Value;

use super::recording::{self, Line, Recording};

/// How one recording is replayed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The recording's name.
    pub(super) name: &'static str,
    /// Why it cannot be replayed.
    pub(super) skip: Option<&'static str>,
    /// What happened to the recorded server without a line in the recording.
    pub(super) restored: Vec<Insertion>,
    /// Where Shardcast differs.
    pub(super) deviations: Vec<Deviation>,
    /// Whether the header lines of ordinary HTTP responses may come in any order.
    pub(super) headers_in_any_order: bool,
    /// When things happen, for recordings in which that matters; others are replayed without pauses.
    pub(super) timing: Option<Timing>,
    /// The same as recorded, for long runs.
    pub(super) long_timing: Option<Timing>,
}

/// A line to be read before another one.
#[derive(Debug, Clone)]
pub(super) struct Insertion {
    /// The number of the line before which it comes.
    pub(super) before: usize,
    /// The line, without its time.
    pub(super) line: String,
}

/// A difference made on purpose.
#[derive(Debug)]
pub(super) struct Deviation {
    /// What Shardcast does, and why.
    pub(super) reason: &'static str,
    /// Lines that do not apply.
    pub(super) dropped: Vec<usize>,
    /// What is expected in their place.
    pub(super) inserted: Vec<Insertion>,
}

/// The clock of a replay.
#[derive(Debug, Clone)]
pub(super) struct Timing {
    /// Recorded pauses are multiplied by this.
    pub(super) scale: f64,
    /// Options in place of the recorded ones, as JSON; empty for none.
    pub(super) options: &'static str,
    /// Line, and the milliseconds since its connection was asked for between which it must come.
    pub(super) windows: Vec<(usize, RangeInclusive<u64>)>,
    /// What was changed, for the page.
    pub(super) note: &'static str,
}

impl Plan {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub(super) fn skip(name: &'static str, reason: &'static str) -> Self {
        Self { skip: Some(reason), ..Self::of(name) }
    }

    pub(super) fn restore(mut self, before: usize, line: &str) -> Self {
        self.restored.push(Insertion { before, line: line.to_owned() });
        self
    }

    pub(super) fn differs(mut self, reason: &'static str) -> Self {
        self.deviations.push(Deviation { reason, dropped: Vec::new(), inserted: Vec::new() });
        self
    }

    pub(super) fn without_lines(mut self, lines: impl IntoIterator<Item = usize>) -> Self {
        self.deviations.last_mut().expect("follows `differs`").dropped.extend(lines);
        self
    }

    pub(super) fn instead(mut self, before: usize, line: &str) -> Self {
        let deviation = self.deviations.last_mut().expect("follows `differs`");
        deviation.inserted.push(Insertion { before, line: line.to_owned() });
        self
    }

    pub(super) fn headers_in_any_order(mut self) -> Self {
        self.headers_in_any_order = true;
        self
    }

    pub(super) fn timed(mut self, timing: Timing) -> Self {
        self.timing = Some(timing);
        self
    }

    pub(super) fn long(mut self, timing: Timing) -> Self {
        self.long_timing = Some(timing);
        self
    }

    /// The recording as it is replayed.
    ///
    /// # Panics
    /// When the plan names lines that the recording does not have.
    pub(super) fn applied_to(&self, recording: &Recording) -> Recording {
        let mut lines = recording.lines.clone();
        let inserted = self.deviations.iter().flat_map(|deviation| &deviation.inserted);
        for insertion in self.restored.iter().chain(inserted) {
            let at = lines.iter().position(|line| line.number == insertion.before && !line.inserted);
            let at = at.unwrap_or_else(|| panic!("{}: no line {}", self.name, insertion.before));
            let anchor = (lines[at].number, lines[at].at_ms);
            lines.splice(at..at, insertion.lines(anchor));
        }
        for dropped in self.deviations.iter().flat_map(|deviation| &deviation.dropped) {
            lines.retain(|line| line.number != *dropped || line.inserted);
        }
        Recording { lines, ..recording.clone() }
    }
}

impl Insertion {
    fn lines(&self, (number, at_ms): (usize, u64)) -> Vec<Line> {
        let object: Value = serde_json::from_str(&self.line).expect("plans hold JSON");
        let steps = recording::steps(&object).unwrap_or_else(|| panic!("not understood: {}", self.line));
        steps.into_iter().map(|step| Line { number, at_ms, step, inserted: true }).collect()
    }
}

impl Timing {
    pub(super) fn new(scale: f64, windows: impl IntoIterator<Item = (usize, RangeInclusive<u64>)>) -> Self {
        Self { scale, options: "", windows: windows.into_iter().collect(), note: "" }
    }

    pub(super) fn options(mut self, options: &'static str, note: &'static str) -> Self {
        (self.options, self.note) = (options, note);
        self
    }

    /// The window of a line.
    pub(super) fn window(&self, line: usize) -> Option<&RangeInclusive<u64>> {
        self.windows.iter().find(|(number, _)| *number == line).map(|(_, window)| window)
    }
}
