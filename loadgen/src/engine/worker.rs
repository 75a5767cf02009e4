//! One thread's loop: open connections at the set rate, drain sockets, book what arrived.
//!
//! Never blocks outside epoll, keeps no buffer per connection (reads go into one scratch buffer), and writes the
//! gauges once per round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use shardcast_wire::frame::{self, OpCode};

use super::conn::{Conn, State};
use super::{Gauges, Harvest, Orders, Settings, WAKER, note};
use crate::dialect::{self, Greeting, Upgrade};
use crate::frames::{self, Frame, Scanned};
use crate::latency::Latencies;
use crate::ledger::{Arrival, Ledger};
use crate::scenario::Wait;
use crate::stamp::{Finder, Kind};
use crate::sys::now_ns;
use crate::tracker::Tracker;

const EVENTS_PER_ROUND: usize = 1024;
/// Start size of the scratch buffer: what a socket has received by default, and more.
const SCRATCH_BYTES: usize = 256 << 10;
/// Connections of a thread that are not live yet, at most: fewer than a server's accept queue holds.
const OPENING_MAX: u32 = 256;
/// Longest sleep, so that heartbeats are spread evenly.
const ROUND_MAX: Duration = Duration::from_millis(100);
/// Longest sleep while connections are to be opened.
const RAMP_ROUND_MAX: Duration = Duration::from_millis(1);
/// Longest text of an unexpected message that is kept.
const SAMPLE_CHARS_MAX: usize = 120;

/// Mask of all client frames: any is as good as another to a server (RFC 6455 §5.3 is about browsers).
const MASK: [u8; 4] = [0x5a, 0x3c, 0x96, 0xe1];

#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    settings: Arc<Settings>,
    orders: Arc<Orders>,
    gauges: Arc<Gauges>,
    index: u32,
    threads: u32,
    conns: Vec<Conn>,
    scratch: Vec<u8>,
    /// The request all connections begin with.
    upgrade_request: Vec<u8>,
    heartbeat_frame: Vec<u8>,
    finder: Finder,
    harvest: Harvest,
    counts: Counts,
    pacer: Pacer,
}

/// What the gauges will show after this round.
#[derive(Debug, Default)]
struct Counts {
    opening: u32,
    live: u32,
    failed: u32,
    lost: u32,
    probed: u64,
    delivered: u64,
}

/// What is due by the time that passed.
#[derive(Debug)]
struct Pacer {
    last: Instant,
    /// Connections that may be opened.
    openings: f64,
    /// Heartbeats that should be sent.
    heartbeats: f64,
    /// Whose heartbeat is next.
    heartbeat_at: usize,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        (settings, orders, gauges): (Arc<Settings>, Arc<Orders>, Arc<Gauges>),
        index: u32,
        threads: u32,
    ) -> Self {
        let clients = &settings.clients;
        let harvest = Harvest {
            ledger: Ledger::new(clients.rooms.len(), clients.rooms_per_connection as usize),
            tracker: Tracker::default(),
            latencies: Latencies::new(),
            measured: 0,
            reasons: BTreeMap::new(),
            unstamped: BTreeMap::new(),
            foreign: 0,
            altered: 0,
        };
        let upgrade_request =
            dialect::upgrade_request(&settings.target.host, &settings.target.path).into_bytes();
        let heartbeat_frame = client_text(settings.target.dialect.heartbeat());
        let pacer = Pacer { last: Instant::now(), openings: 0.0, heartbeats: 0.0, heartbeat_at: 0 };
        Self {
            poll,
            settings,
            orders,
            gauges,
            index,
            threads,
            conns: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            upgrade_request,
            heartbeat_frame,
            finder: Finder::default(),
            harvest,
            counts: Counts::default(),
            pacer,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) -> Harvest {
        self.gauges.thread_id.store(crate::sys::thread_id(), Ordering::Relaxed);
        let is_spinning = self.settings.clients.wait == Wait::Spin;
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        while !self.orders.stop.load(Ordering::Relaxed) {
            let timeout = match is_spinning {
                true => Duration::ZERO,
                false if self.wanted() > self.conns.len() => RAMP_ROUND_MAX,
                false => ROUND_MAX,
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => outcome.expect("epoll_wait fails only when misused"),
            }
            if events.is_empty() && is_spinning {
                // The publisher may share the core.
                thread::yield_now();
            }
            let began_ns = now_ns();
            for event in &events {
                if event.token() == WAKER {
                    continue;
                }
                let member = event.token().0;
                if event.is_writable() {
                    self.writable(member);
                }
                if event.is_readable() {
                    self.readable(member);
                }
            }
            self.keep_pace();
            self.show();
            if !events.is_empty() {
                self.gauges.busy_ns.fetch_add(now_ns() - began_ns, Ordering::Relaxed);
            }
        }
        self.harvest
    }

    /// How many connections this thread should have.
    fn wanted(&self) -> usize {
        let all = self.orders.connections.load(Ordering::Relaxed);
        (all.saturating_sub(self.index)).div_ceil(self.threads) as usize
    }

    /// Opens connections and sends heartbeats as time passes.
    fn keep_pace(&mut self) {
        let now = Instant::now();
        let secs = (now - self.pacer.last).as_secs_f64();
        self.pacer.last = now;

        let missing = self.wanted().saturating_sub(self.conns.len());
        let rate = self.settings.clients.ramp.map_or(f64::INFINITY, f64::from) / f64::from(self.threads);
        self.pacer.openings = (self.pacer.openings + secs * rate).min(f64::from(OPENING_MAX));
        while self.pacer.openings >= 1.0
            && self.conns.len() < self.wanted()
            && self.counts.opening < OPENING_MAX
        {
            self.pacer.openings -= 1.0;
            self.open();
        }
        if missing == 0 {
            self.pacer.openings = 0.0;
        }

        let Some(interval) = self.settings.clients.heartbeat else { return };
        self.pacer.heartbeats += secs / interval.as_secs_f64() * self.conns.len() as f64;
        while self.pacer.heartbeats >= 1.0 {
            self.pacer.heartbeats -= 1.0;
            let member = self.pacer.heartbeat_at % self.conns.len();
            self.pacer.heartbeat_at = member + 1;
            if self.conns[member].state == State::Live {
                let frame = std::mem::take(&mut self.heartbeat_frame);
                self.send(member, &frame);
                self.heartbeat_frame = frame;
            }
        }
    }

    fn open(&mut self) {
        let member = self.conns.len();
        let connection = self.connection(member);
        self.harvest.ledger.add_member(self.settings.rooms_of(connection));
        self.counts.opening += 1;
        let opened = Conn::open(self.settings.target.address, connection).and_then(|mut conn| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Some(stream) = &mut conn.stream {
                self.poll.registry().register(stream, Token(member), interest)?;
            }
            Ok(conn)
        });
        match opened {
            Ok(conn) => self.conns.push(conn),
            Err(error) => {
                self.conns.push(Conn::stillborn());
                self.close(member, &format!("cannot connect: {error}"));
            }
        }
    }

    fn writable(&mut self, member: usize) {
        let conn = &mut self.conns[member];
        if conn.state != State::Connecting {
            if let Err(error) = conn.flush() {
                self.close(member, &format!("cannot send: {error}"));
            }
            return;
        }
        let Some(stream) = &conn.stream else { return };
        match stream.take_error() {
            Ok(Some(error)) | Err(error) => return self.close(member, &format!("cannot connect: {error}")),
            Ok(None) => {}
        }
        conn.state = State::Upgrading;
        let request = std::mem::take(&mut self.upgrade_request);
        self.send(member, &request);
        self.upgrade_request = request;
    }

    /// Takes in everything that waits: an edge is reported once.
    fn readable(&mut self, member: usize) {
        loop {
            match self.conns[member].read(&mut self.scratch) {
                Ok(None) => return,
                Ok(Some((_, 0))) => return self.close(member, "ended without a close frame"),
                Ok(Some((len, _))) => {
                    let scratch = std::mem::take(&mut self.scratch);
                    let needed = self.take_in(member, &scratch[..len]);
                    self.scratch = scratch;
                    // A short read empties the socket.
                    let is_drained = len < self.scratch.len();
                    if needed > self.scratch.len() {
                        self.scratch.resize(needed.next_power_of_two(), 0);
                    }
                    if is_drained {
                        return;
                    }
                }
                Err(error) => return self.close(member, &format!("cannot receive: {error}")),
            }
        }
    }

    /// Takes in what arrived, keeps what is no whole frame, and returns the bytes of scratch its rest will need.
    fn take_in(&mut self, member: usize, bytes: &[u8]) -> usize {
        let now_ns = now_ns();
        let mut rest = bytes;
        let needed = loop {
            match self.conns[member].state {
                State::Connecting | State::Closed => return 0,
                State::Upgrading => match dialect::upgrade_response(rest) {
                    Upgrade::Done(len) => {
                        rest = &rest[len..];
                        self.upgraded(member);
                    }
                    Upgrade::Partial => break rest.len() + 1,
                    Upgrade::Refused(reason) => {
                        self.close(member, &reason);
                        return 0;
                    }
                },
                State::LoggingIn | State::Live => match frames::scan(rest) {
                    Ok(Scanned::Frame(frame)) => {
                        rest = &rest[frame.len..];
                        self.take_frame(member, frame, now_ns);
                    }
                    Ok(Scanned::Partial(needed)) => break needed,
                    Err(error) => {
                        self.close(member, &format!("broke the protocol: {error}"));
                        return 0;
                    }
                },
            }
        };
        self.conns[member].keep(rest);
        needed
    }

    fn take_frame(&mut self, member: usize, frame: Frame<'_>, now_ns: u64) {
        match frame.opcode {
            OpCode::Text | OpCode::Binary if self.conns[member].state == State::Live => {
                self.deliver(member, frame.payload, now_ns);
            }
            OpCode::Text | OpCode::Binary => self.greet(member, frame.payload),
            OpCode::Continuation | OpCode::Pong => {}
            OpCode::Ping => {
                let mut pong = Vec::new();
                frame::encode_masked(&mut pong, OpCode::Pong, frame.payload, MASK, true);
                self.send(member, &pong);
            }
            OpCode::Close => {
                let mut echo = Vec::new();
                frame::encode_masked(&mut echo, OpCode::Close, frame.payload, MASK, true);
                self.send(member, &echo);
                let reason = match frame.payload.split_first_chunk::<2>() {
                    Some((code, reason)) => {
                        let code = u16::from_be_bytes(*code);
                        format!("closed by the server: {code} {}", String::from_utf8_lossy(reason))
                    }
                    None => "closed by the server without a code".to_owned(),
                };
                self.close(member, &reason);
            }
        }
    }

    fn upgraded(&mut self, member: usize) {
        let target = &self.settings.target;
        let user = format!("loadgen-{}", self.connection(member));
        match target.dialect.login(&target.token, &user) {
            Some(login) => {
                self.conns[member].state = State::LoggingIn;
                self.send(member, &client_text(&login));
            }
            None => self.join(member),
        }
    }

    fn greet(&mut self, member: usize, message: &[u8]) {
        match self.settings.target.dialect.greeting(message) {
            Greeting::LoggedIn => self.join(member),
            Greeting::Refused => note(&mut self.harvest.unstamped, &sample(message)),
            Greeting::Other => {}
        }
    }

    fn join(&mut self, member: usize) {
        self.conns[member].state = State::Live;
        self.counts.opening -= 1;
        self.counts.live += 1;
        let rooms = self.harvest.ledger.rooms_of(member);
        if rooms.is_empty() {
            return;
        }
        let names = rooms.iter().map(|room| self.settings.clients.rooms[*room as usize].as_str());
        let join = client_text(&self.settings.target.dialect.join(names));
        self.send(member, &join);
    }

    /// Books one message; this runs for every delivery.
    fn deliver(&mut self, member: usize, message: &[u8], now_ns: u64) {
        let harvest = &mut self.harvest;
        let Some(stamp) = self.finder.find(message) else {
            return note(&mut harvest.unstamped, &sample(message));
        };
        if stamp.run != self.settings.run {
            harvest.foreign += 1;
            return;
        }
        let is_possible =
            stamp.kind == Kind::Probe || stamp.number < self.orders.published.load(Ordering::Relaxed);
        if message.len() != self.settings.message_bytes || !is_possible {
            harvest.altered += 1;
            return;
        }
        if stamp.kind == Kind::Probe {
            self.counts.probed += u64::from(harvest.ledger.probe(member, stamp.room));
            return;
        }
        if harvest.ledger.arrive(member, stamp.room, stamp.sequence) != Arrival::First {
            return;
        }
        self.counts.delivered += 1;
        if stamp.number >= self.orders.measured_from.load(Ordering::Relaxed) {
            harvest.measured += 1;
            harvest.latencies.record(stamp.due_ns, now_ns);
        }
        let ledger = &harvest.ledger;
        let room_count = self.settings.clients.rooms.len() as u32;
        let has_members = |number: u32| ledger.members_of(number % room_count) > 0;
        harvest.tracker.arrive(stamp.number, ledger.members_of(stamp.room), now_ns, has_members);
    }

    fn send(&mut self, member: usize, bytes: &[u8]) {
        if let Err(error) = self.conns[member].send(bytes) {
            self.close(member, &format!("cannot send: {error}"));
        }
    }

    fn close(&mut self, member: usize, reason: &str) {
        let was = std::mem::replace(&mut self.conns[member], Conn::closed()).state;
        match was {
            State::Closed => return,
            State::Live => {
                self.counts.live -= 1;
                self.counts.lost += 1;
            }
            State::Connecting | State::Upgrading | State::LoggingIn => {
                self.counts.opening -= 1;
                self.counts.failed += 1;
            }
        }
        note(&mut self.harvest.reasons, reason);
    }

    /// Writes the gauges and wakes the publisher when it may go on.
    fn show(&mut self) {
        let Counts { live, failed, lost, probed, delivered, .. } = self.counts;
        let set = |gauge: &AtomicU32, value| gauge.store(value, Ordering::Relaxed);
        set(&self.gauges.live, live);
        set(&self.gauges.failed, failed);
        set(&self.gauges.lost, lost);
        self.gauges.probed.store(probed, Ordering::Relaxed);
        self.gauges.delivered.store(delivered, Ordering::Relaxed);
        let done_through = self.harvest.tracker.done_through();
        if self.gauges.done_through.swap(done_through, Ordering::Release) != done_through
            && let Some(publisher) = self.orders.publisher.get()
        {
            publisher.unpark();
        }
    }

    fn connection(&self, member: usize) -> u32 {
        member as u32 * self.threads + self.index
    }
}

fn client_text(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode_masked(&mut frame, OpCode::Text, text.as_bytes(), MASK, true);
    frame
}

fn sample(message: &[u8]) -> String {
    String::from_utf8_lossy(message).chars().take(SAMPLE_CHARS_MAX).collect()
}
