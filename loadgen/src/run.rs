//! A run from its first connection to its report.
//!
//! Measured time begins and ends with nothing outstanding, so that what the server spent in it belongs to exactly
//! the deliveries counted in it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::engine::{self, Engine, EngineError, Gauges, Harvest, Settings, merge_reasons, total};
use crate::latency::Latencies;
use crate::ledger::Counts;
use crate::process::{self, CpuTime, ProcessError};
use crate::progress::Progress;
use crate::publisher::{PublishError, Published, Publisher};
use crate::report::{Fanout, GeneratorLoad, Idle, IdleStep, Losses, Report, ServerCost, ThreadLoad};
use crate::scenario::{self, Pace, Publications, Scenario, Via, Wait, Work};
use crate::sys::{self, now_ns};
use crate::verdict::{Observed, Verdict};

/// Descriptors beside those of the connections.
const DESCRIPTORS_SPARE: u64 = 64;
/// Pause between two looks at the gauges.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What a server still does after the last delivery, such as answering the publisher, it has done within this.
const SERVER_RESTS_WITHIN: Duration = Duration::from_millis(50);

/// Why a run came to no result.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error(
        "{connections} connections need {needed} open files, and this process may have {limit}: raise its hard \
         limit (`ulimit -Hn`), or run several generators with fewer connections each"
    )]
    Descriptors { connections: u32, needed: u64, limit: u64 },
    #[error("the limit of open files cannot be raised: {0}")]
    Limit(io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{live} of {wanted} connections are up, {failed} failed, {lost} were lost{}", list(reasons))]
    Connections { live: u32, wanted: u32, failed: u32, lost: u32, reasons: Vec<String> },
    #[error("{source}{}", list(reasons))]
    Publish { source: PublishError, reasons: Vec<String> },
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Carries a scenario out.
pub(crate) fn run(scenario: Scenario) -> Result<Report, RunError> {
    let Scenario { target, clients, work } = scenario;
    let limit = sys::raise_descriptor_limit().map_err(RunError::Limit)?;
    let needed = u64::from(clients.connections) + DESCRIPTORS_SPARE;
    if needed > limit {
        return Err(RunError::Descriptors { connections: clients.connections, needed, limit });
    }
    let message_bytes = match &work {
        Work::Fanout(publications) => target.dialect.message_bytes(publications.data_bytes),
        Work::Idle(_) => 0,
    };
    // Different enough to tell the publications of one run from those of another.
    let run = (now_ns() >> 10) as u32 ^ std::process::id().rotate_left(16);
    let settings = Arc::new(Settings { target, clients, run, message_bytes });
    // A server that cannot be watched is noticed before anything is opened.
    if let Some(pid) = settings.target.pid {
        process::cpu_time(pid)?;
    }
    let resident_before = own_resident_bytes()?;
    let engine = Engine::start(&settings)?;
    let progress = Progress::new(engine.gauges(), settings.clients.connections);
    match work {
        Work::Fanout(publications) => fanout(&settings, &publications, engine, progress, resident_before),
        Work::Idle(idle) => hold_idle(&settings, &idle, engine, progress),
    }
}

fn fanout(
    settings: &Arc<Settings>,
    publications: &Publications,
    engine: Engine,
    mut progress: Progress,
    resident_before: u64,
) -> Result<Report, RunError> {
    let connections = settings.clients.connections;
    let engine = open(engine, connections, settings.clients.patience, &mut progress)?;
    let gauges = engine.gauges();
    let resident = own_resident_bytes()?.saturating_sub(resident_before);
    let measurement = Publisher::connect(settings, publications, &engine).and_then(|publisher| {
        let thread = thread::Builder::new().name("publisher".to_owned());
        let (pid, gauges) = (settings.target.pid, gauges.clone());
        let (warmup, duration) = (publications.warmup, publications.duration);
        let handle = thread.spawn(move || measure(publisher, &gauges, pid, warmup, duration));
        let handle = handle.expect("a thread can be started where others were");
        while !handle.is_finished() {
            progress.show("publishing");
            thread::park_timeout(LOOK_INTERVAL);
        }
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    drop(progress);
    let losses = losses(&gauges);
    let harvests = engine.stop();
    let measurement = match measurement {
        Ok(measurement) => measurement?,
        Err(source) => return Err(RunError::Publish { source, reasons: reasons_of(&harvests) }),
    };
    let found = Findings { settings, publications, resident, losses };
    Ok(Report::Fanout(Box::new(found.report(measurement, harvests))))
}

/// What was measured from the publisher's side.
#[derive(Debug)]
struct Measurement {
    published: Published,
    before: Snapshot,
    after: Snapshot,
    server_resident_bytes: Option<u64>,
}

/// CPU times at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    at_ns: u64,
    server: Option<CpuTime>,
    threads: Vec<CpuTime>,
    busy_ns: Vec<u64>,
    publisher: CpuTime,
}

impl Snapshot {
    /// Taken by the publisher's thread.
    fn take(gauges: &[Arc<Gauges>]) -> Result<Self, ProcessError> {
        let ids = gauges.iter().map(|gauges| gauges.thread_id.load(Ordering::Relaxed));
        Ok(Self {
            at_ns: now_ns(),
            server: None,
            threads: ids.map(process::own_thread_cpu_time).collect::<Result<_, _>>()?,
            busy_ns: gauges.iter().map(|gauges| gauges.busy_ns.load(Ordering::Relaxed)).collect(),
            publisher: process::own_thread_cpu_time(sys::thread_id())?,
        })
    }
}

/// The publisher's thread: probes, warm-up, and the measured time between two snapshots.
fn measure(
    mut publisher: Publisher,
    gauges: &[Arc<Gauges>],
    pid: Option<u32>,
    warmup: Duration,
    duration: Duration,
) -> Result<Result<Measurement, ProcessError>, PublishError> {
    publisher.probe()?;
    let mut is_stalled = !publisher.run_for(warmup)?;
    publisher.begin_measuring();
    thread::sleep(SERVER_RESTS_WITHIN);
    let server = pid.map(process::cpu_time).transpose();
    let before = Snapshot::take(gauges);
    if !is_stalled {
        is_stalled = !publisher.run_for(duration)?;
    }
    let after = Snapshot::take(gauges);
    thread::sleep(SERVER_RESTS_WITHIN);
    let measured = || {
        Ok(Measurement {
            before: Snapshot { server: server?, ..before? },
            after: Snapshot { server: pid.map(process::cpu_time).transpose()?, ..after? },
            server_resident_bytes: pid.map(process::resident_bytes).transpose()?,
            published: publisher.into_published(is_stalled),
        })
    };
    Ok(measured())
}

/// What the report is made of, beside the measurement itself.
struct Findings<'a> {
    settings: &'a Settings,
    publications: &'a Publications,
    resident: u64,
    losses: Losses,
}

impl Findings<'_> {
    fn report(mut self, measurement: Measurement, harvests: Vec<Harvest>) -> Fanout {
        let Measurement { published, before, after, server_resident_bytes } = measurement;
        let clients = &self.settings.clients;
        let books = Books::close(harvests, &published, clients.rooms.len());
        merge_reasons(&mut self.losses.reasons, books.reasons);
        let seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
        let deliveries = books.measured;
        let server = after.server.zip(before.server).zip(server_resident_bytes);
        let server = server.map(|((after, before), resident_bytes)| {
            let spent = after.since(before);
            let cpu_seconds = spent.run_ns as f64 / 1e9;
            ServerCost {
                cpu_seconds,
                cores: cpu_seconds / seconds,
                cores_waited_for: spent.wait_ns as f64 / 1e9 / seconds,
                cpu_us_per_delivery: cpu_seconds * 1e6 / (deliveries as f64).max(1.0),
                deliveries_per_cpu_second: deliveries as f64 / cpu_seconds.max(1e-9),
                resident_bytes,
            }
        });
        let threads = thread_loads(&before, &after, seconds);
        let verdict = Verdict::of(&Observed {
            generator_share: threads.iter().map(|load| wanted_share(load, clients.wait)).fold(0.0, f64::max),
            server_cores: server.as_ref().map(|server| server.cores),
            server_cores_waited_for: server.as_ref().map_or(0.0, |server| server.cores_waited_for),
            lag_thirds_ns: published.lag_thirds_ns,
            pace: self.publications.pace,
        });
        let is_told = verdict.is_of_server() && books.total.missing == 0;
        let named = |(room, counts): (usize, Counts)| (clients.rooms[room].clone(), counts);
        Fanout {
            connections: clients.connections,
            rooms: clients.rooms.len(),
            rooms_per_connection: clients.rooms_per_connection,
            data_bytes: self.publications.data_bytes,
            pace: pace_in_words(self.publications.pace),
            publish: match &self.publications.via {
                Via::Redis { address } => format!("Redis at {address}"),
                Via::Http { address, path, .. } => format!("HTTP at {address}{path}"),
            },
            publications: published.due_ns.len() as u64 - u64::from(published.measured_from),
            deliveries,
            seconds,
            deliveries_per_second: is_told.then_some(deliveries as f64 / seconds),
            verdict,
            to_member: books.to_member.summary(),
            to_last_member: books.to_last_member.summary(),
            ledger: books.total,
            inexact_rooms: books
                .rooms
                .into_iter()
                .enumerate()
                .filter(|room| !room.1.is_exact())
                .map(named)
                .collect(),
            strangers: books.strangers,
            altered: books.altered,
            foreign: books.foreign,
            unstamped: books.unstamped,
            is_stalled: published.is_stalled,
            losses: self.losses,
            server,
            generator: GeneratorLoad {
                threads,
                bytes_per_connection: self.resident as f64 / f64::from(clients.connections),
                send_lag: published.lag.summary(),
            },
        }
    }
}

/// The books of all threads together.
#[derive(Debug)]
struct Books {
    total: Counts,
    rooms: Vec<Counts>,
    strangers: u64,
    measured: u64,
    altered: u64,
    foreign: u64,
    to_member: Latencies,
    to_last_member: Latencies,
    reasons: engine::Reasons,
    unstamped: engine::Reasons,
}

impl Books {
    fn close(harvests: Vec<Harvest>, published: &Published, room_count: usize) -> Self {
        let count = published.due_ns.len();
        let by_room: Vec<u32> =
            (0..room_count).map(|room| count.saturating_sub(room).div_ceil(room_count) as u32).collect();
        let mut books = Self {
            total: Counts::default(),
            rooms: vec![Counts::default(); room_count],
            strangers: 0,
            measured: 0,
            altered: 0,
            foreign: 0,
            to_member: Latencies::new(),
            to_last_member: Latencies::new(),
            reasons: engine::Reasons::new(),
            unstamped: engine::Reasons::new(),
        };
        let mut completed_ns = vec![0; count];
        for harvest in harvests {
            let (rooms, strangers) = harvest.ledger.close(&by_room);
            books.rooms.iter_mut().zip(&rooms).for_each(|(all, one)| all.add(one));
            books.strangers += strangers;
            books.measured += harvest.measured;
            books.altered += harvest.altered;
            books.foreign += harvest.foreign;
            books.to_member.merge(&harvest.latencies);
            merge_reasons(&mut books.reasons, harvest.reasons);
            merge_reasons(&mut books.unstamped, harvest.unstamped);
            let completed = harvest.tracker.into_completed_ns();
            completed_ns
                .iter_mut()
                .zip(completed)
                .for_each(|(all, one): (&mut u64, u64)| *all = one.max(*all));
        }
        for (due_ns, completed_ns) in
            published.due_ns.iter().zip(completed_ns).skip(published.measured_from as usize)
        {
            // What never was complete is missing in the ledger.
            if completed_ns > 0 {
                books.to_last_member.record(*due_ns, completed_ns);
            }
        }
        for room in &books.rooms {
            books.total.add(room);
        }
        books
    }
}

fn thread_loads(before: &Snapshot, after: &Snapshot, seconds: f64) -> Vec<ThreadLoad> {
    let share = |ns: u64| ns as f64 / 1e9 / seconds;
    let load = |name: String, spent: CpuTime, busy_ns: Option<u64>| ThreadLoad {
        name,
        run: share(spent.run_ns),
        wait: share(spent.wait_ns),
        busy: busy_ns.map(share),
    };
    let mut loads = Vec::with_capacity(after.threads.len() + 1);
    for (index, (later, earlier)) in after.threads.iter().zip(&before.threads).enumerate() {
        let busy_ns = after.busy_ns[index] - before.busy_ns[index];
        loads.push(load(format!("loadgen-{index}"), later.since(*earlier), Some(busy_ns)));
    }
    loads.push(load("publisher".to_owned(), after.publisher.since(before.publisher), None));
    loads
}

/// Share of the time a thread needed the CPU; one that spins always has it, and needs it when it finds something.
fn wanted_share(load: &ThreadLoad, wait: Wait) -> f64 {
    match (wait, load.busy) {
        (Wait::Spin, Some(busy)) => busy,
        _ => load.run + load.wait,
    }
}

fn pace_in_words(pace: Pace) -> String {
    match pace {
        Pace::Closed { window, burst: 1 } => format!("closed loop with {window} outstanding"),
        Pace::Closed { window, burst } => format!("closed loop with {window} outstanding, {burst} together"),
        Pace::Open { per_second } => format!("open loop with {per_second} a second"),
    }
}

fn hold_idle(
    settings: &Settings,
    idle: &scenario::Idle,
    mut engine: Engine,
    mut progress: Progress,
) -> Result<Report, RunError> {
    let pid = settings.target.pid;
    let gauges = engine.gauges();
    let mut steps: Vec<IdleStep> = Vec::with_capacity(idle.at.len());
    for connections in idle.at.iter().copied() {
        engine = open(engine, connections, settings.clients.patience, &mut progress)?;
        pause(idle.settle, &mut progress, "settling");
        let (server_resident_bytes, before) = (pid.map(process::resident_bytes).transpose()?, now_ns());
        let generator_resident_bytes = own_resident_bytes()?;
        let cpu_before = pid.map(process::cpu_time).transpose()?;
        pause(idle.hold, &mut progress, "holding");
        let cpu = pid.map(process::cpu_time).transpose()?.zip(cpu_before);
        let held_secs = (now_ns() - before) as f64 / 1e9;
        let cpu_us = cpu.map(|(after, before)| after.since(before).run_ns as f64 / 1e3);
        let earlier = steps.last().map(|step| (step.connections, step.server_resident_bytes));
        steps.push(IdleStep {
            connections,
            server_resident_bytes,
            server_bytes_per_connection: earlier
                .and_then(|earlier| bytes_per_connection(earlier, (connections, server_resident_bytes))),
            generator_resident_bytes,
            server_cpu_us_per_second: cpu_us.map(|micros| micros / held_secs),
        });
    }
    drop(progress);
    let mut losses = losses(&gauges);
    for harvest in engine.stop() {
        merge_reasons(&mut losses.reasons, harvest.reasons);
    }
    let slope = |bytes: fn(&IdleStep) -> Option<u64>| {
        let (first, last) = (steps.first()?, steps.last()?);
        bytes_per_connection((first.connections, bytes(first)), (last.connections, bytes(last)))
    };
    let server_bytes_per_connection = slope(|step| step.server_resident_bytes);
    let generator_bytes_per_connection = slope(|step| Some(step.generator_resident_bytes)).unwrap_or(0.0);
    Ok(Report::Idle(Idle { server_bytes_per_connection, generator_bytes_per_connection, losses, steps }))
}

/// What each further connection added, from one number of connections and resident bytes to another.
fn bytes_per_connection(earlier: (u32, Option<u64>), later: (u32, Option<u64>)) -> Option<f64> {
    let connections = later.0.checked_sub(earlier.0).filter(|more| *more > 0)?;
    Some((later.1? as f64 - earlier.1? as f64) / f64::from(connections))
}

/// Opens connections up to so many and waits until all are live; gives the engine back, or stops it.
fn open(
    engine: Engine,
    connections: u32,
    patience: Duration,
    progress: &mut Progress,
) -> Result<Engine, RunError> {
    engine.open(connections);
    let gauges = engine.gauges();
    let mut last = (Instant::now(), 0);
    loop {
        let [live, failed, lost] = [
            total(&gauges, |gauges| &gauges.live),
            total(&gauges, |gauges| &gauges.failed),
            total(&gauges, |gauges| &gauges.lost),
        ];
        if live == connections {
            return Ok(engine);
        }
        let done = live + failed + lost;
        if done != last.1 {
            last = (Instant::now(), done);
        }
        if done >= connections || last.0.elapsed() > patience {
            let reasons = reasons_of(&engine.stop());
            return Err(RunError::Connections { live, wanted: connections, failed, lost, reasons });
        }
        progress.show("connecting");
        thread::sleep(Duration::from_millis(10));
    }
}

fn pause(span: Duration, progress: &mut Progress, doing: &str) {
    let end = Instant::now() + span;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        progress.show(doing);
        thread::sleep(left.min(LOOK_INTERVAL));
    }
}

fn losses(gauges: &[Arc<Gauges>]) -> Losses {
    Losses {
        failed: total(gauges, |gauges| &gauges.failed),
        lost: total(gauges, |gauges| &gauges.lost),
        ..Losses::default()
    }
}

fn reasons_of(harvests: &[Harvest]) -> Vec<String> {
    let mut reasons = engine::Reasons::new();
    for harvest in harvests {
        merge_reasons(&mut reasons, harvest.reasons.clone());
        merge_reasons(&mut reasons, harvest.unstamped.clone());
    }
    reasons.iter().map(|(reason, count)| format!("{count} × {reason}")).collect()
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

fn own_resident_bytes() -> Result<u64, ProcessError> {
    process::resident_bytes(std::process::id())
}
