//! Publications: in which room and when each is due, and whether it has arrived everywhere.
//!
//! A thread of its own, so that a busy connection thread cannot delay an open loop. Publication `n` goes to room
//! `n % rooms` with sequence `n / rooms`.
//!
//! Invariants: [`Orders::published`] is raised before a publication leaves; an open loop never waits for arrivals.

mod http;
mod redis;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::engine::{Engine, Gauges, Orders, Settings, total_wide};
use crate::latency::Latencies;
use crate::scenario::{Pace, Publications, Via};
use crate::stamp::{self, Kind, Stamp};
use crate::sys::now_ns;

use self::http::HttpSink;
use self::redis::RedisSink;

/// Pause between two rounds of probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for an arrival before looking whether anything moves at all.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Most publications handed to a sink at a time, so that the first ones leave before the last are written down.
const BATCH_MAX: u32 = 64;

/// Why publishing failed.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    #[error("cannot connect to {address} to publish: {source}")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("the connection to {address} broke: {source}")]
    Broken { address: SocketAddr, source: std::io::Error },
    #[error("{address} refused a publication: {answer}")]
    Refused { address: SocketAddr, answer: String },
    #[error("{address} answered with something that is not {protocol}")]
    Malformed { address: SocketAddr, protocol: &'static str },
    #[error(
        "only {probed} of {memberships} members received a probe within {patience:?}: does the server listen to \
         what is published here, and may clients join these rooms?"
    )]
    Unheard { probed: u64, memberships: u64, patience: Duration },
}

/// Takes publications to where the server gets them from.
trait Sink: Send {
    /// Sends all of them, in this order.
    fn publish(&mut self, batch: &[Stamp]) -> Result<(), PublishError>;

    /// Returns when everything sent was acknowledged.
    fn finish(&mut self) -> Result<(), PublishError>;
}

/// How one publication is written: everything but its stamp, by room.
#[derive(Debug)]
struct Envelopes {
    heads: Vec<String>,
    tail: &'static str,
    data_bytes: usize,
}

impl Envelopes {
    fn new(
        settings: &Settings,
        data_bytes: usize,
        envelope: impl Fn(&str) -> (String, &'static str),
    ) -> Self {
        let (heads, tails): (Vec<_>, Vec<_>) =
            settings.clients.rooms.iter().map(|room| envelope(room)).unzip();
        Self { heads, tail: tails.first().copied().unwrap_or_default(), data_bytes }
    }

    fn len(&self, room: u32) -> usize {
        self.heads[room as usize].len() + self.data_bytes + self.tail.len()
    }

    fn write(&self, out: &mut Vec<u8>, stamp: &Stamp) {
        out.extend_from_slice(self.heads[stamp.room as usize].as_bytes());
        stamp::encode(out, stamp, self.data_bytes);
        out.extend_from_slice(self.tail.as_bytes());
    }
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Published {
    /// When each publication was due, by number, in nanoseconds.
    pub(crate) due_ns: Vec<u64>,
    /// The first publication that was measured.
    pub(crate) measured_from: u32,
    /// How late publications left: from due to the hand-over to the socket; measured ones only.
    pub(crate) lag: Latencies,
    /// Mean lag in the first and the last third of the measured time, in nanoseconds.
    pub(crate) lag_thirds_ns: (u64, u64),
    /// A closed loop ended early, waiting for what does not arrive.
    pub(crate) is_stalled: bool,
}

/// The thread's state.
pub(crate) struct Publisher {
    settings: Arc<Settings>,
    publications: Publications,
    orders: Arc<Orders>,
    gauges: Vec<Arc<Gauges>>,
    sink: Box<dyn Sink>,
    due_ns: Vec<u64>,
    /// Whether each thread has members in each room.
    has_members: Vec<Vec<bool>>,
    /// Numbers that concern each thread and are not known to be complete there, oldest first.
    outstanding: Vec<VecDeque<u32>>,
    lags_ns: Vec<u64>,
}

impl Publisher {
    /// Connects to where publications go.
    pub(crate) fn connect(
        settings: &Arc<Settings>,
        publications: &Publications,
        engine: &Engine,
    ) -> Result<Self, PublishError> {
        let dialect = settings.target.dialect;
        let data_bytes = publications.data_bytes;
        let sink: Box<dyn Sink> = match &publications.via {
            Via::Redis { address } => {
                let envelopes = Envelopes::new(settings, data_bytes, |room| dialect.redis_envelope(room));
                let channels = settings.clients.rooms.iter().map(|room| dialect.redis_channel(room));
                Box::new(RedisSink::connect(*address, channels.collect(), envelopes)?)
            }
            Via::Http { address, host, path, key } => {
                let envelopes = Envelopes::new(settings, data_bytes, |room| dialect.http_envelope(room));
                Box::new(HttpSink::connect(*address, host, path, key.as_deref(), envelopes)?)
            }
        };
        let gauges = engine.gauges();
        Ok(Self {
            settings: Arc::clone(settings),
            publications: publications.clone(),
            orders: Arc::clone(engine.orders()),
            has_members: settings.threads_with_members(gauges.len()),
            outstanding: vec![VecDeque::new(); gauges.len()],
            gauges,
            sink,
            due_ns: Vec::new(),
            lags_ns: Vec::new(),
        })
    }

    /// Publishes probes until every member has received one of each of its rooms.
    pub(crate) fn probe(&mut self) -> Result<(), PublishError> {
        let memberships = self.settings.memberships();
        let patience = self.settings.clients.patience;
        let mut last = (Instant::now(), 0);
        loop {
            let probes: Vec<Stamp> = (0..self.settings.clients.rooms.len() as u32)
                .map(|room| self.stamp(Kind::Probe, room, 0, 0, now_ns()))
                .collect();
            for batch in probes.chunks(BATCH_MAX as usize) {
                self.sink.publish(batch)?;
            }
            self.sink.finish()?;
            let next = Instant::now() + PROBE_INTERVAL;
            while Instant::now() < next {
                thread::sleep(Duration::from_millis(5));
                let probed = total_wide(&self.gauges, |gauges| &gauges.probed);
                if probed == memberships {
                    return Ok(());
                }
                if probed != last.1 {
                    last = (Instant::now(), probed);
                }
                if last.0.elapsed() > patience {
                    return Err(PublishError::Unheard { probed, memberships, patience });
                }
            }
        }
    }

    /// Publishes at the scenario's pace for so long, then waits until all has arrived, or nothing moves any more;
    /// false when a closed loop cannot go on, for it waits for what does not arrive.
    pub(crate) fn run_for(&mut self, span: Duration) -> Result<bool, PublishError> {
        self.orders.publisher.get_or_init(thread::current);
        let is_going = match self.publications.pace {
            Pace::Closed { window, burst } => {
                self.closed_loop(window, burst, span)? && self.wait_until_outstanding(0)
            }
            Pace::Open { per_second } => {
                self.open_loop(per_second, span)?;
                self.wait_until_outstanding(0);
                true
            }
        };
        self.sink.finish()?;
        Ok(is_going)
    }

    /// From here on publications are timed.
    pub(crate) fn begin_measuring(&mut self) {
        self.orders.measured_from.store(self.due_ns.len() as u32, Ordering::Relaxed);
        self.lags_ns.clear();
    }

    /// What was published, in the end.
    pub(crate) fn into_published(self, is_stalled: bool) -> Published {
        let mut lag = Latencies::new();
        for lag_ns in &self.lags_ns {
            lag.record(0, *lag_ns);
        }
        let third = self.lags_ns.len() / 3;
        let mean = |lags: &[u64]| lags.iter().sum::<u64>() / (lags.len() as u64).max(1);
        let lag_thirds_ns = (mean(&self.lags_ns[..third]), mean(&self.lags_ns[self.lags_ns.len() - third..]));
        let measured_from = self.orders.measured_from.load(Ordering::Relaxed).min(self.due_ns.len() as u32);
        Published { due_ns: self.due_ns, measured_from, lag, lag_thirds_ns, is_stalled }
    }

    fn closed_loop(&mut self, window: u32, burst: u32, span: Duration) -> Result<bool, PublishError> {
        let end = Instant::now() + span;
        while Instant::now() < end {
            if !self.wait_until_outstanding(window - burst) {
                return Ok(false);
            }
            let room_left = window - self.outstanding();
            let count = room_left / burst * burst;
            let due_ns = now_ns();
            self.publish(count, |_| due_ns)?;
        }
        Ok(true)
    }

    fn open_loop(&mut self, per_second: f64, span: Duration) -> Result<(), PublishError> {
        let start_ns = now_ns();
        let due_ns = |index: u32| start_ns + (f64::from(index) / per_second * 1e9) as u64;
        let count = (span.as_secs_f64() * per_second).ceil() as u32;
        let mut next = 0;
        while next < count {
            let now = now_ns();
            if let Some(early_ns) = due_ns(next).checked_sub(now).filter(|early_ns| *early_ns > 0) {
                thread::sleep(Duration::from_nanos(early_ns));
                continue;
            }
            let due_count = (next..count).take_while(|index| due_ns(*index) <= now).count() as u32;
            let first = next;
            self.publish(due_count, |index| due_ns(first + index))?;
            next += due_count;
        }
        Ok(())
    }

    /// Publishes the next `count` messages; `due_ns` tells when each of them was due.
    fn publish(&mut self, count: u32, due_ns: impl Fn(u32) -> u64) -> Result<(), PublishError> {
        let mut batch = Vec::with_capacity(count.min(BATCH_MAX) as usize);
        let room_count = self.settings.clients.rooms.len() as u32;
        for first in (0..count).step_by(BATCH_MAX as usize) {
            batch.clear();
            for index in first..count.min(first + BATCH_MAX) {
                let number = self.due_ns.len() as u32;
                let (room, sequence) = (number % room_count, number / room_count);
                let due_ns = due_ns(index);
                batch.push(self.stamp(Kind::Message, room, sequence, number, due_ns));
                self.due_ns.push(due_ns);
                for (has_members, outstanding) in self.has_members.iter().zip(&mut self.outstanding) {
                    if has_members[room as usize] {
                        outstanding.push_back(number);
                    }
                }
            }
            self.orders.published.store(self.due_ns.len() as u32, Ordering::Release);
            self.sink.publish(&batch)?;
            let now = now_ns();
            self.lags_ns.extend(batch.iter().map(|stamp| now.saturating_sub(stamp.due_ns)));
        }
        Ok(())
    }

    fn stamp(&self, kind: Kind, room: u32, sequence: u32, number: u32, due_ns: u64) -> Stamp {
        Stamp { kind, run: self.settings.run, room, sequence, number, due_ns }
    }

    /// Publications from the oldest that has not arrived everywhere to the newest.
    fn outstanding(&mut self) -> u32 {
        let next = self.due_ns.len() as u32;
        let mut oldest = next;
        for (gauges, outstanding) in self.gauges.iter().zip(&mut self.outstanding) {
            let done_through = gauges.done_through.load(Ordering::Acquire);
            while outstanding.front().is_some_and(|number| *number < done_through) {
                outstanding.pop_front();
            }
            oldest = oldest.min(outstanding.front().copied().unwrap_or(next));
        }
        next - oldest
    }

    /// Waits until no more than `most` are outstanding; false when nothing moves for as long as patience lasts.
    fn wait_until_outstanding(&mut self, most: u32) -> bool {
        let delivered = |gauges: &[Arc<Gauges>]| total_wide(gauges, |gauges| &gauges.delivered);
        let mut last = (Instant::now(), delivered(&self.gauges));
        while self.outstanding() > most {
            thread::park_timeout(WAIT_MAX);
            let now_delivered = delivered(&self.gauges);
            if now_delivered != last.1 {
                last = (Instant::now(), now_delivered);
            } else if last.0.elapsed() > self.settings.clients.patience {
                return false;
            }
        }
        true
    }
}
