//! Connections that are open, and the phases measured over them.
//!
//! Measured time begins and ends with nothing outstanding, so that what the server spent in it belongs to exactly
//! the deliveries counted in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::connect::{Visited, Visitors};
use crate::engine::board::Board;
use crate::engine::{self, Engine, Harvest, Settings, merge_reasons};
use crate::process::{self, CpuTime, ProcessError};
use crate::progress::Progress;
use crate::publisher::{PublishError, Published, Publisher};
use crate::run::RunError;
use crate::scenario::{Pace, Publications};
use crate::sys::{self, now_ns};
use crate::watch::{Sample, Watch};

/// Pause between two looks at the gauges.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// What a server still does after the last delivery, such as answering the publisher, it has done within this.
const SERVER_RESTS_WITHIN: Duration = Duration::from_millis(50);

/// Open connections, and what their opening cost.
#[derive(Debug)]
pub(crate) struct Session {
    settings: Arc<Settings>,
    engine: Engine,
    progress: Progress,
    own_resident_before: u64,
    server_resident_before: Option<u64>,
}

/// How much memory connections took, in bytes each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) generator: f64,
    pub(crate) server: Option<f64>,
}

/// What one phase found.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) pace: Pace,
    pub(crate) published: Published,
    pub(crate) before: Snapshot,
    pub(crate) after: Snapshot,
    pub(crate) server_resident_bytes: Option<u64>,
    pub(crate) harvests: Vec<Harvest>,
    pub(crate) failed: u32,
    pub(crate) lost: u32,
    pub(crate) interval: Duration,
    pub(crate) samples: Vec<Sample>,
    pub(crate) visited: Option<Visited>,
}

/// CPU times at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) at_ns: u64,
    pub(crate) server: Option<CpuTime>,
    /// Time each thread of the server ran, in nanoseconds.
    pub(crate) server_threads: HashMap<u32, u64>,
    pub(crate) threads: Vec<CpuTime>,
    pub(crate) busy_ns: Vec<u64>,
    pub(crate) publisher: CpuTime,
}

impl Snapshot {
    /// With what the server spent up to now.
    fn with_server(self, spent: Option<ServerTime>) -> Self {
        let (server, server_threads) = spent.unzip();
        Self { server, server_threads: server_threads.unwrap_or_default(), ..self }
    }

    /// Taken by the publisher's thread.
    fn take(board: &Board) -> Result<Self, ProcessError> {
        let ids = board.all().map(|gauges| {
            (gauges.process_id.load(Ordering::Relaxed), gauges.thread_id.load(Ordering::Relaxed))
        });
        Ok(Self {
            at_ns: now_ns(),
            server: None,
            server_threads: HashMap::new(),
            threads: ids.map(|(pid, id)| process::thread_cpu_time(pid, id)).collect::<Result<_, _>>()?,
            busy_ns: board.all().map(|gauges| gauges.busy_ns.load(Ordering::Relaxed)).collect(),
            publisher: process::thread_cpu_time(std::process::id(), sys::thread_id())?,
        })
    }
}

impl Session {
    /// Starts the threads, without connections. `context` says what the run as a whole is at.
    pub(crate) fn start(settings: Arc<Settings>, context: String) -> Result<Self, RunError> {
        // A server that cannot be watched is noticed before anything is opened.
        let server_resident_before = settings.target.pid.map(process::resident_bytes).transpose()?;
        let engine = Engine::start(&settings)?;
        let progress = Progress::new(Arc::clone(engine.board()), settings.clients.connections, context);
        let own_resident_before = engine.resident_bytes()?;
        Ok(Self { settings, engine, progress, own_resident_before, server_resident_before })
    }

    /// Says what the run as a whole is at.
    pub(crate) fn set_context(&mut self, context: String) {
        self.progress.set_context(context);
    }

    /// What the threads are told and show.
    pub(crate) fn board(&self) -> &Arc<Board> {
        self.engine.board()
    }

    /// Opens connections up to so many and waits until all are live.
    pub(crate) fn open(&mut self, connections: u32) -> Result<(), RunError> {
        self.engine.open(connections);
        let board = Arc::clone(self.engine.board());
        let mut last = (Instant::now(), 0);
        loop {
            let [live, failed, lost] = [
                board.total(|gauges| &gauges.live),
                board.total(|gauges| &gauges.failed),
                board.total(|gauges| &gauges.lost),
            ];
            if live == connections {
                return Ok(());
            }
            let done = live + failed + lost;
            if done != last.1 {
                last = (Instant::now(), done);
            }
            if done >= connections || last.0.elapsed() > self.settings.clients.patience {
                let reasons = reasons_of(&self.engine.end_phase()?);
                return Err(RunError::Connections { live, wanted: connections, failed, lost, reasons });
            }
            self.progress.show("connecting");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the connections opened so far take.
    pub(crate) fn memory(&self) -> Result<Memory, RunError> {
        let connections = f64::from(self.engine.board().total(|gauges| &gauges.live).max(1));
        let each = |now: u64, before: u64| (now as f64 - before as f64) / connections;
        let server = self.settings.target.pid.map(process::resident_bytes).transpose()?;
        Ok(Memory {
            generator: each(self.engine.resident_bytes()?, self.own_resident_before),
            server: server.zip(self.server_resident_before).map(|(now, before)| each(now, before)),
        })
    }

    /// Resident bytes of all processes of the generator.
    pub(crate) fn own_resident_bytes(&self) -> Result<u64, RunError> {
        Ok(self.engine.resident_bytes()?)
    }

    /// Waits, and shows what for.
    pub(crate) fn pause(&mut self, span: Duration, doing: &str) {
        let end = Instant::now() + span;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.progress.show(doing);
            thread::sleep(left.min(LOOK_INTERVAL));
        }
    }

    /// One phase: probes, warm-up, and the measured time. Every connection is to be live.
    pub(crate) fn measure(
        &mut self,
        publisher: &mut Publisher,
        publications: &Publications,
        mut visitors: Option<Visitors>,
    ) -> Result<Phase, RunError> {
        let run = self.engine.begin_phase()?;
        publisher.begin(run, publications.pace);
        let pid = self.settings.target.pid;
        let board = Arc::clone(self.engine.board());
        let mut watch = Watch::new(&board, pid, publications.duration, self.settings.clients.storm);
        let progress = &mut self.progress;
        let outcome = thread::scope(|scope| {
            let publishing = || carry_out(publisher, &board, pid, publications);
            let thread = thread::Builder::new().name("publisher".to_owned()).spawn_scoped(scope, publishing);
            let thread = thread.expect("a thread can be started where others were");
            while !thread.is_finished() {
                progress.show(if watch.is_measuring() { "measuring" } else { "warming up" });
                watch.look();
                if let Some(visitors) = visitors.as_mut().filter(|_| watch.is_measuring()) {
                    visitors.let_come()?;
                }
                thread::park_timeout(LOOK_INTERVAL);
            }
            Ok::<_, RunError>(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        let visited = visitors.map(Visitors::finish).transpose()?;
        let (failed, lost) = (board.total(|gauges| &gauges.failed), board.total(|gauges| &gauges.lost));
        let harvests = self.engine.end_phase()?;
        let measured = match outcome {
            Ok(measured) => measured?,
            Err(source) => return Err(RunError::Publish { source, reasons: reasons_of(&harvests) }),
        };
        let Measured { published, before, after, server_resident_bytes } = measured;
        let (interval, samples) = watch.finish();
        let pace = publications.pace;
        Ok(Phase {
            pace,
            published,
            before,
            after,
            server_resident_bytes,
            harvests,
            failed,
            lost,
            interval,
            samples,
            visited,
        })
    }

    /// Lets so many connection attempts begin by the plan of the settings; returns the moment before the first.
    pub(crate) fn begin_attempts(&mut self, attempts: Option<u32>) -> Result<Snapshot, RunError> {
        let board = Arc::clone(self.engine.board());
        let is_ready = || board.all().all(|gauges| gauges.thread_id.load(Ordering::Acquire) != 0);
        let since = Instant::now();
        while !is_ready() && since.elapsed() < self.settings.clients.patience {
            thread::sleep(Duration::from_millis(1));
        }
        let before = self.snapshot()?;
        board.orders().measured_since_ns.store(before.at_ns, Ordering::Relaxed);
        self.engine.open(attempts.unwrap_or(u32::MAX));
        Ok(before)
    }

    /// Lets no further attempt begin.
    pub(crate) fn end_attempts(&self) {
        self.engine.open(0);
    }

    /// Attempts that began.
    pub(crate) fn attempted(&self) -> u32 {
        self.board().all().map(|gauges| gauges.attempted.load(Ordering::Acquire)).sum()
    }

    /// Attempts that are not over.
    pub(crate) fn under_way(&self) -> u32 {
        self.board().total(|gauges| &gauges.under_way)
    }

    /// The state of things, with what the server spent.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, RunError> {
        let server = self.settings.target.pid.map(server_time).transpose()?;
        Ok(Snapshot::take(self.engine.board())?.with_server(server))
    }

    /// Closes everything; returns the books of what was in no phase, and how many connections failed and were lost.
    pub(crate) fn stop(self) -> Result<(Vec<Harvest>, u32, u32), RunError> {
        let board = Arc::clone(self.engine.board());
        let (failed, lost) = (board.total(|gauges| &gauges.failed), board.total(|gauges| &gauges.lost));
        Ok((self.engine.stop()?, failed, lost))
    }
}

/// What was measured from the publisher's side.
struct Measured {
    published: Published,
    before: Snapshot,
    after: Snapshot,
    server_resident_bytes: Option<u64>,
}

/// The publisher's thread: probes, warm-up, and the measured time between two snapshots.
fn carry_out(
    publisher: &mut Publisher,
    board: &Board,
    pid: Option<u32>,
    publications: &Publications,
) -> Result<Result<Measured, ProcessError>, PublishError> {
    publisher.probe()?;
    let mut is_stalled = !publisher.run_for(publications.warmup)?;
    publisher.begin_measuring();
    thread::sleep(SERVER_RESTS_WITHIN);
    let server = pid.map(server_time).transpose();
    let before = Snapshot::take(board);
    board.orders().measured_since_ns.store(now_ns(), Ordering::Relaxed);
    if !is_stalled {
        is_stalled = !publisher.run_for(publications.duration)?;
    }
    let after = Snapshot::take(board);
    thread::sleep(SERVER_RESTS_WITHIN);
    let measured = || {
        Ok(Measured {
            before: before?.with_server(server?),
            after: after?.with_server(pid.map(server_time).transpose()?),
            server_resident_bytes: pid.map(process::resident_bytes).transpose()?,
            published: publisher.take_published(is_stalled),
        })
    };
    Ok(measured())
}

/// CPU time of a process, and of each of its threads.
type ServerTime = (CpuTime, HashMap<u32, u64>);

fn server_time(pid: u32) -> Result<ServerTime, ProcessError> {
    Ok((process::cpu_time(pid)?, process::thread_run_ns(pid)?))
}

fn reasons_of(harvests: &[Harvest]) -> Vec<String> {
    let mut reasons = engine::Reasons::new();
    for harvest in harvests {
        merge_reasons(&mut reasons, harvest.reasons.clone());
        merge_reasons(&mut reasons, harvest.unstamped.clone());
    }
    reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect()
}
