//! What is going on, on stderr, for runs that take longer than people like to stare at nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::{Gauges, total, total_wide};

/// Runs shorter than this show nothing.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// The line on stderr; removed on drop.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    gauges: Vec<Arc<Gauges>>,
    connections: u32,
    bar: Option<ProgressBar>,
    last: (Instant, u64),
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new(gauges: Vec<Arc<Gauges>>, connections: u32) -> Self {
        let now = Instant::now();
        Self { began: now, gauges, connections, bar: None, last: (now, 0) }
    }

    /// Shows the state of things; `doing` says what the run is at.
    pub(crate) fn show(&mut self, doing: &str) {
        if self.began.elapsed() < QUIET_FOR {
            return;
        }
        let live = total(&self.gauges, |gauges| &gauges.live);
        let delivered = total_wide(&self.gauges, |gauges| &gauges.delivered);
        let secs = self.last.0.elapsed().as_secs_f64();
        let rate = delivered.saturating_sub(self.last.1) as f64 / secs.max(1e-3);
        self.last = (Instant::now(), delivered);
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed} {msg}").expect("a constant template");
            ProgressBar::new_spinner().with_style(style).with_elapsed(self.began.elapsed())
        });
        bar.set_message(format!("{doing}: {live}/{} connections, {rate:.0} deliveries/s", self.connections));
        bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
