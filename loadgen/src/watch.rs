//! The measured time as seen from outside the threads: samples for the timeline, and the moment of the storm.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::engine::board::Board;
use crate::process;
use crate::scenario::Storm;
use crate::sys::now_ns;
use crate::timeline::INTERVALS_MAX;

/// Intervals a run is cut into, give or take what it takes to finish.
const INTERVALS: u32 = 120;
/// Shortest interval: several looks each.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// The state of things at the end of an interval, or what happened up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// From the beginning of the measured time.
    pub(crate) at: Duration,
    pub(crate) live: u32,
    /// Publications since the sample before.
    pub(crate) published: u32,
    /// Since the sample before, in nanoseconds.
    pub(crate) server_cpu_ns: Option<u64>,
    pub(crate) server_resident_bytes: Option<u64>,
    /// Of all threads that hold connections, since the sample before.
    pub(crate) generator_cpu_ns: u64,
    /// Connections that failed or were lost since the sample before.
    pub(crate) errors: u32,
}

/// Running totals.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    published: u32,
    server_cpu_ns: Option<u64>,
    generator_cpu_ns: u64,
    errors: u32,
}

/// Watches one phase.
#[derive(Debug)]
pub(crate) struct Watch {
    board: Arc<Board>,
    pid: Option<u32>,
    storm: Option<Storm>,
    interval: Duration,
    last: Option<Totals>,
    samples: Vec<Sample>,
}

impl Watch {
    /// Cuts a measured time of about `duration` into intervals.
    pub(crate) fn new(
        board: &Arc<Board>,
        pid: Option<u32>,
        duration: Duration,
        storm: Option<Storm>,
    ) -> Self {
        let interval = (duration / INTERVALS).max(INTERVAL_MIN);
        board.orders().interval_ns.store(interval.as_nanos() as u64, Ordering::Relaxed);
        Self { board: Arc::clone(board), pid, storm, interval, last: None, samples: Vec::new() }
    }

    /// Whether the measured time has begun.
    pub(crate) fn is_measuring(&self) -> bool {
        self.board.orders().measured_since_ns.load(Ordering::Relaxed) > 0
    }

    /// Takes a sample when an interval ended, and lets the storm break out when it is time.
    pub(crate) fn look(&mut self) {
        let since_ns = self.board.orders().measured_since_ns.load(Ordering::Relaxed);
        if since_ns == 0 {
            return;
        }
        let at = Duration::from_nanos(now_ns().saturating_sub(since_ns));
        if self.storm.is_some_and(|storm| at >= storm.after) {
            self.storm = None;
            self.board.orders().storm.fetch_add(1, Ordering::Relaxed);
        }
        let is_due = at >= self.interval * (self.samples.len() as u32 + 1);
        if self.last.is_none() {
            self.last = Some(self.totals());
        } else if is_due && self.samples.len() < INTERVALS_MAX as usize {
            self.sample(at);
        }
    }

    /// Length of an interval, and the samples.
    pub(crate) fn finish(self) -> (Duration, Vec<Sample>) {
        (self.interval, self.samples)
    }

    fn sample(&mut self, at: Duration) {
        let totals = self.totals();
        let last = self.last.replace(totals).unwrap_or_default();
        let cpu_since = |now: u64, before: u64| now.saturating_sub(before);
        self.samples.push(Sample {
            at,
            live: self.board.total(|gauges| &gauges.live),
            published: totals.published.saturating_sub(last.published),
            server_cpu_ns: totals
                .server_cpu_ns
                .zip(last.server_cpu_ns)
                .map(|(now, before)| cpu_since(now, before)),
            server_resident_bytes: self.pid.and_then(|pid| process::resident_bytes_about(pid).ok()),
            generator_cpu_ns: cpu_since(totals.generator_cpu_ns, last.generator_cpu_ns),
            errors: totals.errors.saturating_sub(last.errors),
        });
    }

    /// A process that ended has no CPU time any more; the run itself reports that.
    fn totals(&self) -> Totals {
        let thread_cpu = self.board.all().filter_map(|gauges| {
            let pid = gauges.process_id.load(Ordering::Relaxed);
            process::thread_cpu_time(pid, gauges.thread_id.load(Ordering::Relaxed)).ok()
        });
        Totals {
            published: self.board.orders().published.load(Ordering::Relaxed),
            server_cpu_ns: self.pid.and_then(|pid| process::cpu_time(pid).ok()).map(|time| time.run_ns),
            generator_cpu_ns: thread_cpu.map(|time| time.run_ns).sum(),
            errors: self.board.total(|gauges| &gauges.failed) + self.board.total(|gauges| &gauges.lost),
        }
    }
}
