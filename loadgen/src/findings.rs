//! From what the threads, the publisher and the watch wrote down to one report.

use clap::ValueEnum;

use crate::engine::{Harvest, Reasons, Settings, merge_reasons};
use crate::latency::Latencies;
use crate::ledger::Closed;
use crate::metrics::Measured;
use crate::process::CpuTime;
use crate::publisher::Published;
use crate::report::{
    Fanout, GeneratorLoad, Losses, Point, ScenarioFacts, ServerCost, SlowReaders, ThreadLoad, Timeline,
};
use crate::run::unix_ms;
use crate::scenario::{Judgement, Pace, Publications, Wait};
use crate::session::{Memory, Phase, Snapshot};
use crate::timeline;
use crate::verdict::{Observed, Verdict};
use crate::watch::Sample;

/// What a report is made of, beside the phase itself.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) publications: &'a Publications,
    pub(crate) judgement: &'a Judgement,
    pub(crate) memory: Memory,
    /// Planned.
    pub(crate) visitors_per_second: f64,
}

impl Findings<'_> {
    /// The report on one phase.
    pub(crate) fn report(&self, phase: Phase) -> Fanout {
        let clients = &self.settings.clients;
        let Phase { published, before, after, .. } = &phase;
        let books = Books::merge(&phase.harvests, published);
        // With members coming and going the run waits a while for what may still come.
        let ended_ns = if books.last_arrival_ns > before.at_ns { books.last_arrival_ns } else { after.at_ns };
        let seconds = (ended_ns - before.at_ns) as f64 / 1e9;
        let watched_seconds = (after.at_ns - before.at_ns) as f64 / 1e9;
        let server = self.server_cost(&phase, watched_seconds, books.measured);
        let mut threads = thread_loads(before, after, watched_seconds, "loadgen");
        let visited = phase.visited.as_ref();
        threads.extend(visited.into_iter().flat_map(|visited| visited.threads.iter().cloned()));
        let verdict = Verdict::of(&Observed {
            generator_share: threads.iter().map(|load| wanted_share(load, clients.wait)).fold(0.0, f64::max),
            server_share: server.as_ref().map(|server| server.busiest_thread),
            server_cores_waited_for: server.as_ref().map_or(0.0, |server| server.cores_waited_for),
            lag_thirds_ns: published.lag_thirds_ns,
            own_lag_thirds_ns: published.own_lag_thirds_ns,
            pace: phase.pace,
        });
        let is_told = verdict.is_of_server() && books.closed.total.missing == 0;
        let elapsed_ms = (seconds * 1e3) as u64;
        let mut fanout = Fanout {
            label: self.judgement.label.clone(),
            started_unix_ms: unix_ms().saturating_sub(elapsed_ms),
            scenario: facts(self.settings, self.publications, phase.pace, self.visitors_per_second),
            publications: published.due_ns.len() as u64 - u64::from(published.measured_from),
            deliveries: books.measured,
            seconds,
            deliveries_per_second: is_told.then_some(books.measured as f64 / seconds),
            verdict,
            to_member: books.to_member.summary(),
            to_last_member: books.to_last_member.summary(),
            member_curve: books.to_member.curve(),
            ledger: books.closed.total,
            inexact_rooms: books
                .closed
                .inexact
                .iter()
                .map(|(room, counts)| (clients.rooms[*room as usize].clone(), *counts))
                .collect(),
            strangers: books.closed.strangers,
            to_excluded: books.closed.to_excluded,
            altered: books.altered,
            foreign: books.foreign,
            unstamped: books.unstamped,
            late_joins: books.closed.late_joins,
            is_stalled: published.is_stalled,
            is_loss_expected: self.judgement.expect_loss,
            losses: Losses { failed: phase.failed, lost: phase.lost, reasons: books.reasons },
            reconnects: books.reconnects.summary(),
            slow_readers: (clients.slow.connections > 0).then_some(SlowReaders {
                connections: clients.slow.connections,
                closed: books.slow_closed,
                ledger: books.closed.slow,
            }),
            visitors: visited.map(|visited| visited.outcome.clone()),
            server,
            generator: GeneratorLoad {
                threads,
                bytes_per_connection: self.memory.generator,
                send_lag: published.lag.summary(),
                rounds: books.rounds.summary(),
                backlog_bytes_max: books.backlog_bytes_max,
            },
            timeline: timeline_of(&phase),
            requirements: Vec::new(),
        };
        fanout.requirements = self
            .judgement
            .requirements
            .iter()
            .map(|requirement| requirement.check(Measured::Fanout(&fanout)))
            .collect();
        fanout
    }

    fn server_cost(&self, phase: &Phase, seconds: f64, deliveries: u64) -> Option<ServerCost> {
        let spent = phase.after.server?.since(phase.before.server?);
        let cpu_seconds = spent.run_ns as f64 / 1e9;
        Some(ServerCost {
            cpu_seconds,
            cores: cpu_seconds / seconds,
            busiest_thread: busiest_thread(&phase.before, &phase.after, seconds),
            cores_waited_for: spent.wait_ns as f64 / 1e9 / seconds,
            cpu_us_per_delivery: cpu_seconds * 1e6 / (deliveries as f64).max(1.0),
            deliveries_per_cpu_second: deliveries as f64 / cpu_seconds.max(1e-9),
            resident_bytes: phase.server_resident_bytes?,
            bytes_per_connection: self.memory.server,
        })
    }
}

/// Share of the time the busiest thread of the server ran.
pub(crate) fn busiest_thread(before: &Snapshot, after: &Snapshot, seconds: f64) -> f64 {
    let ran_before = |thread: &u32| before.server_threads.get(thread).copied().unwrap_or(0);
    let ran = after.server_threads.iter().map(|(thread, ns)| ns.saturating_sub(ran_before(thread)));
    ran.max().unwrap_or(0) as f64 / 1e9 / seconds
}

/// What a run at this pace does.
pub(crate) fn facts(
    settings: &Settings,
    publications: &Publications,
    pace: Pace,
    visitors_per_second: f64,
) -> ScenarioFacts {
    let Settings { clients, target, .. } = settings;
    let storm = clients.storm.map_or(0.0, |storm| f64::from(clients.connections) * storm.share);
    ScenarioFacts {
        target: target.url(),
        dialect: name_of(&target.script.dialect),
        connections: clients.connections,
        rooms: clients.rooms.len() as u32,
        rooms_per_connection: clients.rooms_per_connection,
        spread: name_of(&clients.spread),
        to: clients.to,
        exclude: clients.exclude,
        data_bytes: publications.sizes.mean(),
        data_sizes: Some(publications.sizes.as_slice())
            .filter(|sizes| sizes.len() > 1)
            .unwrap_or_default()
            .to_vec(),
        pace,
        publish: publications.via.to_string(),
        processes: clients.processes,
        churn_per_second: clients.churn_per_second,
        slow_connections: clients.slow.connections,
        storm_connections: storm.round() as u32,
        visitors_per_second,
    }
}

/// The name of a choice, as in flags and files.
pub(crate) fn name_of(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The books of all threads together.
#[derive(Debug)]
struct Books {
    closed: Closed,
    measured: u64,
    altered: u64,
    foreign: u64,
    /// When the last measured delivery came, 0 when none did.
    last_arrival_ns: u64,
    slow_closed: u32,
    backlog_bytes_max: u64,
    to_member: Latencies,
    to_last_member: Latencies,
    rounds: Latencies,
    reconnects: Latencies,
    reasons: Reasons,
    unstamped: Reasons,
}

impl Books {
    fn merge(harvests: &[Harvest], published: &Published) -> Self {
        let mut books = Self {
            closed: Closed::default(),
            measured: 0,
            altered: 0,
            foreign: 0,
            last_arrival_ns: 0,
            slow_closed: 0,
            backlog_bytes_max: 0,
            to_member: Latencies::new(),
            to_last_member: Latencies::new(),
            rounds: Latencies::new(),
            reconnects: Latencies::new(),
            reasons: Reasons::new(),
            unstamped: Reasons::new(),
        };
        let mut last_arrival_ns = vec![0; published.due_ns.len()];
        for harvest in harvests {
            books.closed.add(&harvest.books);
            books.measured += harvest.measured;
            books.altered += harvest.altered;
            books.foreign += harvest.foreign;
            books.slow_closed += harvest.slow_closed;
            books.backlog_bytes_max = books.backlog_bytes_max.max(harvest.backlog_bytes_max);
            books.to_member.merge(&harvest.latencies);
            books.rounds.merge(&harvest.rounds);
            books.reconnects.merge(&harvest.reconnects);
            merge_reasons(&mut books.reasons, harvest.reasons.clone());
            merge_reasons(&mut books.unstamped, harvest.unstamped.clone());
            for (latest, arrival) in last_arrival_ns.iter_mut().zip(&harvest.last_arrival_ns) {
                *latest = (*latest).max(*arrival);
            }
        }
        let measured = published.measured_from as usize;
        for (due_ns, arrival_ns) in published.due_ns.iter().zip(last_arrival_ns).skip(measured) {
            // What nobody received is missing in the ledger, or its room is empty.
            if arrival_ns > 0 {
                books.to_last_member.record(*due_ns, arrival_ns);
                books.last_arrival_ns = books.last_arrival_ns.max(arrival_ns);
            }
        }
        books
    }
}

fn timeline_of(phase: &Phase) -> Timeline {
    let slices = phase.harvests.iter().flat_map(|harvest| harvest.slices.iter().cloned());
    let intervals = timeline::merge(slices);
    let mut last_at = 0.0;
    let is_empty = |index: usize, sample: &Sample| {
        sample.published == 0 && intervals.get(index).is_none_or(|latencies| latencies.count() == 0)
    };
    let rest =
        phase.samples.iter().enumerate().rev().take_while(|(index, sample)| is_empty(*index, sample)).count();
    let points = phase.samples[..phase.samples.len() - rest].iter().enumerate().map(|(index, sample)| {
        let latencies = intervals.get(index);
        let summary = latencies.and_then(Latencies::summary);
        let at_secs = sample.at.as_secs_f64();
        let cores = |cpu_ns: u64| cpu_ns as f64 / 1e9 / (at_secs - last_at);
        let point = Point {
            at_secs,
            live: sample.live,
            published: u64::from(sample.published),
            delivered: latencies.map_or(0, Latencies::count),
            p50_us: summary.map(|summary| summary.p50_us),
            p99_us: summary.map(|summary| summary.p99_us),
            max_us: summary.map(|summary| summary.max_us),
            server_cores: sample.server_cpu_ns.map(cores),
            server_resident_bytes: sample.server_resident_bytes,
            generator_cores: cores(sample.generator_cpu_ns),
            errors: u64::from(sample.errors),
        };
        last_at = at_secs;
        point
    });
    Timeline { interval_secs: phase.interval.as_secs_f64(), points: points.collect() }
}

/// What the threads that hold connections did, by this name and a number, and then the one that publishes.
pub(crate) fn thread_loads(before: &Snapshot, after: &Snapshot, seconds: f64, name: &str) -> Vec<ThreadLoad> {
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
        loads.push(load(format!("{name}-{index}"), later.since(*earlier), Some(busy_ns)));
    }
    loads.push(load("publisher".to_owned(), after.publisher.since(before.publisher), None));
    loads
}

/// Share of the time a thread needed the CPU; one that spins always has it, and needs it when it finds something.
pub(crate) fn wanted_share(load: &ThreadLoad, wait: Wait) -> f64 {
    match (wait, load.busy) {
        (Wait::Spin, Some(busy)) => busy,
        _ => load.run + load.wait,
    }
}
