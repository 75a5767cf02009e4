//! What is going on, on stderr, for runs that take longer than people like to stare at nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::board::Board;

/// Runs shorter than this show nothing.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// The line on stderr; removed on drop.
#[derive(Debug)]
pub(crate) struct Progress {
    began: Instant,
    board: Arc<Board>,
    connections: u32,
    /// What the run as a whole is at, before what this step is.
    context: String,
    bar: Option<ProgressBar>,
    last: (Instant, u64),
    rate: f64,
}

impl Progress {
    /// Shows nothing yet.
    pub(crate) fn new(board: Arc<Board>, connections: u32, context: String) -> Self {
        let now = Instant::now();
        Self { began: now, board, connections, context, bar: None, last: (now, 0), rate: 0.0 }
    }

    /// Says what the run as a whole is at.
    pub(crate) fn set_context(&mut self, context: String) {
        self.context = context;
    }

    /// Shows the state of things; `doing` says what the run is at.
    pub(crate) fn show(&mut self, doing: &str) {
        let delivered = self.board.total_wide(|gauges| &gauges.delivered);
        let secs = self.last.0.elapsed().as_secs_f64();
        if secs > 0.5 {
            self.rate = delivered.saturating_sub(self.last.1) as f64 / secs;
            self.last = (Instant::now(), delivered);
        }
        if self.began.elapsed() < QUIET_FOR {
            return;
        }
        let message = self.message(doing);
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("a constant template");
            ProgressBar::new_spinner().with_style(style).with_elapsed(self.began.elapsed())
        });
        bar.set_message(message);
        bar.tick();
    }

    fn message(&self, doing: &str) -> String {
        let [live, failed, lost] = [
            self.board.total(|gauges| &gauges.live),
            self.board.total(|gauges| &gauges.failed),
            self.board.total(|gauges| &gauges.lost),
        ];
        let attempted = self.board.total(|gauges| &gauges.attempted);
        if attempted > 0 {
            return format!(
                "{}{doing}: {attempted} attempts, {live} are live, {failed} failed",
                self.context
            );
        }
        let mut message = format!(
            "{}{doing}: {live}/{} connections, {:.0} deliveries/s",
            self.context, self.connections, self.rate
        );
        let worst = |of: fn(&crate::engine::board::Gauges) -> &std::sync::atomic::AtomicU32| {
            self.board.all().map(|gauges| of(gauges).load(Ordering::Relaxed)).max().unwrap_or(0)
        };
        let (p50_us, p99_us) = (worst(|gauges| &gauges.p50_us), worst(|gauges| &gauges.p99_us));
        if p99_us > 0 {
            let ms = |micros: u32| f64::from(micros) / 1e3;
            message += &format!(", p50 {:.1} ms, p99 {:.1} ms", ms(p50_us), ms(p99_us));
        }
        if failed + lost > 0 {
            message += &format!(", {failed} failed, {lost} lost");
        }
        message
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
