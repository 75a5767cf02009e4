//! Runs beside each other: the same work, by label, with medians and spreads.
//!
//! [`Comparison`] is data; [`tables`] writes it for the terminal and for Markdown, `html::compare` as a page. Runs
//! are compared only with runs of the same work, and a run that measured its generator, or whose books do not
//! balance, is marked wherever it counts. Nothing is tested for significance: spreads are lowest to highest.

mod tables;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;

use super::{Fanout, Idle, Report, html};
use crate::metrics::{Better, METRICS, Metric, Unit, significant};

/// Metrics of the generator, of a policy, or of how much was asked: never a reason to find the server worse.
const NOT_JUDGED: [&str; 4] = ["send_lag_p99", "round_p99", "slow_closed", "server_cores"];

/// What to compare, and how to tell it.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareOptions {
    /// Reports of fan-out, idle and connect runs, as --json wrote them; the label of the first is the baseline
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write a page with plots as well
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Print tables of GitHub's Markdown
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Tell and judge only these metrics of fan-out and connect runs, such as p99,cpu_us_per_delivery [default: all]
    #[arg(long, value_name = "METRIC,METRIC", value_delimiter = ',', value_parser = metric)]
    pub(crate) metrics: Vec<&'static Metric>,
    /// Fail when the last label is worse than the baseline by more than this, beyond the spread of both
    #[arg(long, value_name = "PERCENT")]
    pub(crate) tolerance: Option<f64>,
}

/// Why there is no comparison.
#[derive(Debug, Error)]
pub(crate) enum CompareError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// A file is not a report.
    #[error("{} is not a report of this version of loadgen: {source}", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    /// A report that has no place beside others.
    #[error("{} is a search: only fan-out, idle and connect runs are compared", path.display())]
    Search { path: PathBuf },
    /// The page cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable { path: PathBuf, source: std::io::Error },
    /// The tolerance is no share.
    #[error("tolerance = {percent} is out of bounds: 0 or more percent")]
    Tolerance { percent: f64 },
}

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

    /// Whether some value lies within both.
    fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// How much worse all of this is than all of `baseline`; not above zero when they overlap or it is better.
    fn worse_by(&self, baseline: &Self, better: Better) -> f64 {
        match better {
            Better::Lower => self.min - baseline.max,
            Better::Higher => baseline.min - self.max,
        }
    }
}

/// All runs, by what they did.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The label all others are held against.
    pub(crate) baseline: String,
    /// The label of the last file.
    pub(crate) last: String,
    /// In the order of the files.
    pub(crate) groups: Vec<Group>,
}

/// Runs of the same work.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// What they did, in words.
    pub(crate) work: String,
    /// The baseline first when it is here, the others in the order of the files.
    pub(crate) columns: Vec<Column>,
    /// Metrics that were measured in some run and are not zero in all.
    pub(crate) rows: Vec<Row>,
    /// Titles of metrics that are zero in every run.
    pub(crate) zeros: Vec<&'static str>,
}

/// The runs of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    /// Whose they are.
    pub(crate) label: String,
    /// How many there are.
    pub(crate) runs: usize,
    /// Runs in which the generator or the machine was the limit.
    pub(crate) doubtful: usize,
    /// Runs whose books do not balance.
    pub(crate) inexact: usize,
}

/// One metric, by column.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its key, empty for metrics of idle runs.
    pub(crate) key: &'static str,
    /// What it is called.
    pub(crate) title: &'static str,
    /// What its values are.
    pub(crate) unit: Unit,
    /// Which way is better.
    pub(crate) better: Better,
    /// One a column; `None` where it was measured in no run.
    pub(crate) cells: Vec<Option<Spread>>,
}

/// A run and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Its label, or the name of its file.
    pub(crate) label: String,
    /// Of a fan-out, an idle or a connect run.
    pub(crate) report: Report,
}

/// The figures of an idle run: title, unit, value. Lower is better for all.
type IdleMetric = (&'static str, Unit, fn(&Idle) -> Option<f64>);

const IDLE_METRICS: [IdleMetric; 3] = [
    ("server memory per idle connection", Unit::Bytes, |run| run.server_bytes_per_connection),
    ("server memory, all connected", Unit::Bytes, |run| {
        Some(run.steps.last()?.server_resident_bytes? as f64)
    }),
    ("server CPU a second, all connected", Unit::Micros, |run| run.steps.last()?.server_cpu_us_per_second),
];

/// Reads, compares, and writes the page; returns what to print, and what is worse than tolerated.
pub(crate) fn carry_out(options: &CompareOptions) -> Result<(String, Vec<String>), CompareError> {
    if let Some(percent) = options.tolerance.filter(|percent| !(0.0..=1e6).contains(percent)) {
        return Err(CompareError::Tolerance { percent });
    }
    let mut comparison = Comparison::read(&options.files)?;
    if !options.metrics.is_empty() {
        comparison.keep(&options.metrics);
    }
    if let Some(path) = &options.html {
        let page = html::compare::page(&comparison);
        fs::write(path, page).map_err(|source| CompareError::Unwritable { path: path.clone(), source })?;
    }
    let text = if options.markdown { comparison.markdown() } else { comparison.to_string() };
    let worse = options.tolerance.map(|percent| comparison.regressions(percent / 100.0));
    Ok((text, worse.unwrap_or_default()))
}

/// The metric of a key.
fn metric(key: &str) -> Result<&'static Metric, MetricUnknown> {
    Metric::find(key).ok_or(MetricUnknown)
}

/// No metric has this key.
#[derive(Debug, Error)]
#[error("the metrics are {}", Metric::keys())]
struct MetricUnknown;

impl Comparison {
    /// Leaves out all other metrics of fan-out and connect runs, but not that they are zero.
    fn keep(&mut self, metrics: &[&'static Metric]) {
        for group in &mut self.groups {
            group.rows.retain(|row| row.key.is_empty() || metrics.iter().any(|metric| metric.key == row.key));
        }
    }

    /// Reads reports from files; one without a label has the name of its file.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, CompareError> {
        files.iter().map(|path| read_run(path)).collect::<Result<_, _>>().map(Self::of)
    }

    /// Compares reports with their labels; searches have no place here.
    pub(crate) fn of(runs: Vec<Run>) -> Self {
        let label = |run: Option<&Run>| run.map_or(String::new(), |run| run.label.clone());
        let (baseline, last) = (label(runs.first()), label(runs.last()));
        let mut groups: Vec<Vec<Run>> = Vec::new();
        for run in runs {
            match groups.iter_mut().find(|group| is_same_work(&group[0].report, &run.report)) {
                Some(group) => group.push(run),
                None => groups.push(vec![run]),
            }
        }
        let groups = groups.iter().map(|runs| Group::of(runs, &baseline)).collect();
        Self { baseline, last, groups }
    }

    /// In what the last label is worse than the baseline by more than this share of it, a sentence each.
    ///
    /// What the spreads of both have in common is no difference. A metric of the baseline that the last label does
    /// not have is worse, too, and so is having no work in common.
    pub(crate) fn regressions(&self, tolerance: f64) -> Vec<String> {
        let mut regressions = Vec::new();
        let mut is_compared = false;
        for group in &self.groups {
            let place = |label: &str| group.columns.iter().position(|column| column.label == label);
            let (Some(base), Some(last)) = (place(&self.baseline), place(&self.last)) else { continue };
            is_compared = base != last || is_compared;
            let judged = group.rows.iter().filter(|row| !NOT_JUDGED.contains(&row.key));
            for row in judged {
                let worse = match (row.cells[base], row.cells[last]) {
                    (Some(base), Some(last)) => row.regression(&base, &last, tolerance),
                    (Some(_), None) => Some("was not measured".to_owned()),
                    (None, _) => None,
                };
                let sentence = |worse| format!("{}: {} of {} {worse}", group.work, row.title, self.last);
                regressions.extend(worse.map(sentence));
            }
        }
        if !is_compared {
            regressions.push(format!("{} and {} have no work in common", self.baseline, self.last));
        }
        regressions
    }
}

impl Group {
    fn of(runs: &[Run], baseline: &str) -> Self {
        let mut labels: Vec<&str> = Vec::new();
        for run in runs {
            if !labels.contains(&run.label.as_str()) {
                labels.push(&run.label);
            }
        }
        labels.sort_by_key(|label| *label != baseline);
        let columns = labels.iter().map(|label| Column::of(label, of_label(runs, label))).collect();
        let row = |key, title, unit, better, value: &dyn Fn(&Report) -> Option<f64>| {
            let values = |label: &&str| of_label(runs, label).filter_map(|run| value(&run.report)).collect();
            Row {
                key,
                title,
                unit,
                better,
                cells: labels.iter().map(|label| Spread::of(values(label))).collect(),
            }
        };
        let of_table = METRICS.iter().map(|metric| {
            row(metric.key, metric.title, metric.unit, metric.better, &|report| {
                metric.value(report.measured()?)
            })
        });
        let of_idle = IDLE_METRICS.iter().map(|(title, unit, value)| {
            row("", title, *unit, Better::Lower, &|report| match report {
                Report::Idle(run) => value(run),
                _ => None,
            })
        });
        let measured = of_table.chain(of_idle).filter(|row| row.cells.iter().any(Option::is_some));
        let is_zero =
            |row: &Row| row.cells.iter().flatten().all(|spread| spread.min == 0.0 && spread.max == 0.0);
        let (zeros, rows): (Vec<Row>, Vec<Row>) = measured.partition(is_zero);
        let zeros = zeros.iter().map(|row| row.title).collect();
        Self { work: work_in_words(&runs[0].report), columns, rows, zeros }
    }

    /// The column of the baseline, when it did this work.
    fn baseline_index(&self, baseline: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.label == baseline)
    }
}

impl Column {
    fn of<'a>(label: &str, runs: impl Iterator<Item = &'a Run>) -> Self {
        let mut column = Self { label: label.to_owned(), runs: 0, doubtful: 0, inexact: 0 };
        for run in runs {
            column.runs += 1;
            match &run.report {
                Report::Fanout(run) => {
                    column.doubtful += usize::from(!run.verdict.is_of_server());
                    column.inexact += usize::from(!run.is_exact());
                }
                Report::Connect(run) => column.doubtful += usize::from(!run.verdict.is_of_server()),
                Report::Idle(_) | Report::Search(_) => {}
            }
        }
        column
    }

    /// Whether some of its figures must not be believed.
    pub(crate) fn is_doubted(&self) -> bool {
        self.doubtful > 0 || self.inexact > 0
    }

    /// How many runs, and what is wrong with them.
    pub(crate) fn runs_in_words(&self) -> String {
        let mut words = super::counted(self.runs as u64, "run");
        let doubts = [(self.doubtful, "not limited by the server"), (self.inexact, "with an inexact ledger")];
        for (count, doubt) in doubts.into_iter().filter(|(count, _)| *count > 0) {
            words.push_str(&format!(", ! {count} {doubt}"));
        }
        words
    }
}

impl Row {
    /// How a column stands to the baseline: `2.05× the baseline, worse`; `None` where nothing can be said.
    pub(crate) fn ratio_in_words(&self, column: usize, baseline: Option<usize>) -> Option<String> {
        let (base, cell) = (self.cells[baseline.filter(|base| *base != column)?]?, self.cells[column]?);
        if base.median <= 0.0 {
            return None;
        }
        let judgement = if cell == base {
            "equal"
        } else if cell.overlaps(&base) {
            "within the spread"
        } else if cell.worse_by(&base, self.better) > 0.0 {
            "worse"
        } else {
            "better"
        };
        let ratio = cell.median / base.median;
        let ratio = if (0.1..1e3).contains(&ratio) { format!("{ratio:.2}") } else { significant(ratio) };
        Some(format!("{ratio}×, {judgement}"))
    }

    /// `2.80 µs to 3.02 µs`; `None` of a single value.
    pub(crate) fn range_in_words(&self, column: usize) -> Option<String> {
        let spread = self.cells[column].filter(|spread| spread.min < spread.max)?;
        Some(format!("{} to {}", self.unit.format(spread.min), self.unit.format(spread.max)))
    }

    /// Which way is better.
    pub(crate) fn better_in_words(&self) -> &'static str {
        match self.better {
            Better::Lower => "lower is better",
            Better::Higher => "higher is better",
        }
    }

    fn regression(&self, base: &Spread, last: &Spread, tolerance: f64) -> Option<String> {
        let is_worse = last.worse_by(base, self.better) > tolerance * base.median;
        let [last, base] = [last.median, base.median].map(|value| self.unit.format(value));
        is_worse.then(|| format!("is {last}, the baseline {base}"))
    }
}

fn of_label<'a>(runs: &'a [Run], label: &'a str) -> impl Iterator<Item = &'a Run> {
    runs.iter().filter(move |run| run.label == label)
}

fn read_run(path: &Path) -> Result<Run, CompareError> {
    let path_owned = || path.to_owned();
    let text =
        fs::read_to_string(path).map_err(|source| CompareError::Unreadable { path: path_owned(), source })?;
    let report = serde_json::from_str(&text)
        .map_err(|source| CompareError::Malformed { path: path_owned(), source })?;
    let label = match &report {
        Report::Fanout(run) => run.label.clone(),
        Report::Idle(run) => run.label.clone(),
        Report::Connect(run) => run.label.clone(),
        Report::Search(_) => return Err(CompareError::Search { path: path_owned() }),
    };
    let stem = || path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(Run { label: label.unwrap_or_else(stem), report })
}

fn is_same_work(one: &Report, other: &Report) -> bool {
    let steps = |run: &Idle| -> Vec<_> {
        let step = |step: &super::IdleStep| (step.connections, step.rooms, step.rooms_per_connection);
        run.steps.iter().map(step).collect()
    };
    match (one, other) {
        (Report::Fanout(one), Report::Fanout(other)) => one.scenario.is_same_work(&other.scenario),
        (Report::Connect(one), Report::Connect(other)) => one.scenario.is_same_work(&other.scenario),
        (Report::Idle(one), Report::Idle(other)) => steps(one) == steps(other),
        _ => false,
    }
}

fn work_in_words(report: &Report) -> String {
    match report {
        Report::Fanout(run) => fanout_in_words(run),
        Report::Idle(run) => {
            let rooms = run.steps.last().map_or(0, |step| step.rooms_per_connection);
            let most = run.steps.last().map_or(0, |step| u64::from(step.connections));
            format!(
                "{} idle, {} joined by each",
                super::counted(most, "connection"),
                super::counted(u64::from(rooms), "room")
            )
        }
        Report::Connect(run) => run.scenario.in_words(),
        Report::Search(search) => search.scenario.clients_in_words(),
    }
}

fn fanout_in_words(run: &Fanout) -> String {
    let scenario = &run.scenario;
    let (clients, pace) = (scenario.clients_in_words(), scenario.pace_in_words());
    let mut words = format!("{clients}; {}, {pace}", scenario.sizes_in_words());
    for trouble in scenario.troubles_in_words() {
        words.push_str(&format!("; {trouble}"));
    }
    if scenario.processes > 1 {
        words.push_str(&format!("; {} generators", scenario.processes));
    }
    words
}
