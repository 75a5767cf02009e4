//! Publications: to which room and when each is due, and whether it has arrived everywhere.
//!
//! A thread of its own, so that a busy connection thread cannot delay an open loop. Publication `n` goes to room
//! `n % rooms` with sequence `n / rooms`.
//!
//! Invariants: [`Orders::published`] is raised before a publication leaves; an open loop never waits for arrivals.

mod answer;
mod composer;
mod http;
mod redis;
mod template;
mod via;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::engine::Settings;
use crate::engine::board::Board;
use crate::latency::Latencies;
use crate::roster::{Audience, Roster};
use crate::scenario::{Pace, Publications};
use crate::stamp::{Kind, Stamp};
use crate::sys::now_ns;

use self::http::HttpSink;
use self::redis::RedisSink;

pub(crate) use self::via::{Batch, Via, ViaError, ViaOptions};

/// Pause between two rounds of probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Longest wait for an arrival before looking whether anything moves at all.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// With members coming and going: nothing has arrived for so long, so all has that will.
const QUIET_ENOUGH: Duration = Duration::from_secs(1);
/// Most publications handed to a sink at a time, so that the first ones leave before the last are written down.
const BATCH_MAX: u32 = 64;
/// Longest wait for a connection, for an answer, and for a server to take in what is sent.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Why publishing failed.
#[derive(Debug, Error)]
pub(crate) enum PublishError {
    #[error("cannot connect to {address} to publish: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("the connection to {address} broke: {source}")]
    Broken { address: SocketAddr, source: io::Error },
    #[error("nothing moved on the connection to {address} for {waited:?}, and publications are unanswered")]
    Silent { address: SocketAddr, waited: Duration },
    #[error(
        "{address} closed the connection and left {unanswered} requests unanswered: a server that takes a limited \
         number of them has to announce the last (`Connection: close`), and publish_pipeline has to be 1"
    )]
    Unanswered { address: SocketAddr, unanswered: usize },
    #[error("{address} refused {command}: {answer}")]
    RefusedCommand { address: SocketAddr, command: &'static str, answer: String },
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

/// Connects without waiting longer than [`ANSWER_WAIT_MAX`], then or later.
fn connect(address: SocketAddr) -> Result<TcpStream, PublishError> {
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT_MAX)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(stream)
    };
    connect().map_err(|source| PublishError::Connect { address, source })
}

/// What an error of a connection made by [`connect`] means.
fn broken(address: SocketAddr, source: io::Error) -> PublishError {
    match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            PublishError::Silent { address, waited: ANSWER_WAIT_MAX }
        }
        _ => PublishError::Broken { address, source },
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
    /// The same without the time spent waiting for who takes the publications.
    pub(crate) own_lag_thirds_ns: (u64, u64),
    /// A closed loop ended early, waiting for what does not arrive.
    pub(crate) is_stalled: bool,
}

/// The thread's state.
pub(crate) struct Publisher {
    settings: Arc<Settings>,
    publications: Publications,
    board: Arc<Board>,
    sink: Box<dyn Sink>,
    /// Number of the phase.
    run: u32,
    due_ns: Vec<u64>,
    roster: Roster,
    /// The members of each thread.
    audiences: Vec<Audience>,
    /// Numbers that concern each thread and are not known to be complete there, oldest first.
    outstanding: Vec<VecDeque<u32>>,
    lags_ns: Vec<u64>,
    own_lags_ns: Vec<u64>,
    /// When the sink last took what it was given.
    taken_ns: u64,
}

impl Publisher {
    /// Connects to where publications go.
    pub(crate) fn connect(
        settings: &Arc<Settings>,
        publications: &Publications,
        board: &Arc<Board>,
    ) -> Result<Self, PublishError> {
        let sink: Box<dyn Sink> = match &publications.via {
            Via::Redis(redis) => Box::new(RedisSink::connect(redis, settings, board)?),
            Via::Http(http) => Box::new(HttpSink::connect(http, settings, board)?),
        };
        let roster = settings.roster();
        Ok(Self {
            settings: Arc::clone(settings),
            publications: publications.clone(),
            board: Arc::clone(board),
            sink,
            run: 0,
            audiences: settings.audiences(board.threads(), &roster),
            roster,
            outstanding: vec![VecDeque::new(); board.threads()],
            due_ns: Vec::new(),
            lags_ns: Vec::new(),
            own_lags_ns: Vec::new(),
            taken_ns: 0,
        })
    }

    /// Begins a phase at its own pace, with no publication yet.
    pub(crate) fn begin(&mut self, run: u32, pace: Pace) {
        self.run = run;
        self.publications.pace = pace;
        self.due_ns.clear();
        self.lags_ns.clear();
        self.own_lags_ns.clear();
        self.outstanding.iter_mut().for_each(VecDeque::clear);
    }

    /// Publishes probes until every member has received one of each of its rooms.
    pub(crate) fn probe(&mut self) -> Result<(), PublishError> {
        let memberships = self.settings.judged_memberships();
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
                let probed = self.board.total_wide(|gauges| &gauges.probed);
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

    /// Publishes at the scenario's pace for so long, while connections come and go when they shall, then waits until
    /// all has arrived, or nothing moves any more; false when a closed loop cannot go on, for it waits for what does
    /// not arrive.
    pub(crate) fn run_for(&mut self, span: Duration) -> Result<bool, PublishError> {
        self.board.orders().churn.store(1, Ordering::Relaxed);
        let is_going = match self.publications.pace {
            Pace::Closed { window, burst } => self.closed_loop(window, burst, span),
            Pace::Open { per_second } => self.open_loop(per_second, span).map(|()| true),
        };
        self.board.orders().churn.store(0, Ordering::Relaxed);
        let is_going = is_going?;
        let is_complete = is_going && self.wait_until_outstanding(0);
        self.sink.finish()?;
        Ok(is_complete || matches!(self.publications.pace, Pace::Open { .. }))
    }

    /// From here on publications are timed.
    pub(crate) fn begin_measuring(&mut self) {
        self.board.orders().measured_from.store(self.due_ns.len() as u32, Ordering::Relaxed);
        self.lags_ns.clear();
        self.own_lags_ns.clear();
    }

    /// What was published in this phase.
    pub(crate) fn take_published(&mut self, is_stalled: bool) -> Published {
        let mut lag = Latencies::new();
        for lag_ns in &self.lags_ns {
            lag.record(0, *lag_ns);
        }
        let (lag_thirds_ns, own_lag_thirds_ns) = (thirds(&self.lags_ns), thirds(&self.own_lags_ns));
        let due_ns = std::mem::take(&mut self.due_ns);
        let measured_from =
            self.board.orders().measured_from.load(Ordering::Relaxed).min(due_ns.len() as u32);
        Published { due_ns, measured_from, lag, lag_thirds_ns, own_lag_thirds_ns, is_stalled }
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
                for (audience, outstanding) in self.audiences.iter().zip(&mut self.outstanding) {
                    if audience.owed(&self.roster, room, sequence) > 0 {
                        outstanding.push_back(number);
                    }
                }
            }
            self.board.orders().published.store(self.due_ns.len() as u32, Ordering::Release);
            // Waiting for the sink has made late what was due while it took its time.
            let (before, taken_ns) = (now_ns(), self.taken_ns);
            self.sink.publish(&batch)?;
            let now = now_ns();
            self.taken_ns = now;
            self.own_lags_ns
                .extend(batch.iter().map(|stamp| before.saturating_sub(stamp.due_ns.max(taken_ns))));
            self.lags_ns.extend(batch.iter().map(|stamp| now.saturating_sub(stamp.due_ns)));
        }
        Ok(())
    }

    fn stamp(&self, kind: Kind, room: u32, sequence: u32, number: u32, due_ns: u64) -> Stamp {
        Stamp { kind, run: self.run, room, sequence, number, due_ns }
    }

    /// Publications from the oldest that has not arrived everywhere to the newest.
    fn outstanding(&mut self) -> u32 {
        let next = self.due_ns.len() as u32;
        let mut oldest = next;
        for (gauges, outstanding) in self.board.all().zip(&mut self.outstanding) {
            let done_through = gauges.done_through.load(Ordering::Acquire);
            while outstanding.front().is_some_and(|number| *number < done_through) {
                outstanding.pop_front();
            }
            oldest = oldest.min(outstanding.front().copied().unwrap_or(next));
        }
        next - oldest
    }

    /// Waits until no more than `most` are outstanding; false when nothing moves for as long as patience lasts.
    /// Where members come and go, what never arrives at those who were away holds nobody up for long.
    fn wait_until_outstanding(&mut self, most: u32) -> bool {
        let patience = if self.settings.clients.is_coming_and_going() {
            QUIET_ENOUGH.min(self.settings.clients.patience)
        } else {
            self.settings.clients.patience
        };
        let board = Arc::clone(&self.board);
        let delivered = || board.total_wide(|gauges| &gauges.delivered);
        let mut last = (Instant::now(), delivered());
        while !board.wait_until(WAIT_MAX, || self.outstanding() <= most) {
            let now_delivered = delivered();
            if now_delivered != last.1 {
                last = (Instant::now(), now_delivered);
            } else if last.0.elapsed() > patience {
                return false;
            }
        }
        true
    }
}

/// Means of the first and the last third.
fn thirds(lags_ns: &[u64]) -> (u64, u64) {
    let third = lags_ns.len() / 3;
    let mean = |lags_ns: &[u64]| lags_ns.iter().sum::<u64>() / (lags_ns.len() as u64).max(1);
    (mean(&lags_ns[..third]), mean(&lags_ns[lags_ns.len() - third..]))
}
