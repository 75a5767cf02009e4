//! One thread's loop: open connections at the set rate, drain sockets, book what arrived.
//!
//! Never blocks outside epoll, keeps no buffer per connection (reads go into one scratch buffer), and writes the
//! gauges once per round.

mod connecting;
mod trouble;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use shardcast_wire::frame::{self, OpCode};

use self::connecting::OVERDUE_INTERVAL;
use super::attempts::Attempts;
use super::board::{Board, Gauges, Orders};
use super::books::Books;
use super::conn::{Conn, State};
use super::pace::{Bucket, SLOW_READ_INTERVAL};
use super::{Harvest, Settings, note};
use crate::dialect::upgrade::{self, Upgrade};
use crate::dialect::{Speaker, Step};
use crate::frames::{self, Frame, Scanned};
use crate::scenario::{Address, Wait};
use crate::spread::Memberships;
use crate::sys::now_ns;
use crate::timeline::INTERVALS_MAX;

const EVENTS_PER_ROUND: usize = 1024;
/// Start size of the scratch buffer: what a socket has received by default, and more.
const SCRATCH_BYTES: usize = 256 << 10;
/// Connections of a thread that are not live yet, at most: fewer than a server's accept queue holds.
const OPENING_MAX: u32 = 256;
/// Longest sleep: heartbeats are spread evenly, and orders of other processes come without a wake-up.
const ROUND_MAX: Duration = Duration::from_millis(20);
/// Longest sleep while connections are to be opened or closed.
const RAMP_ROUND_MAX: Duration = Duration::from_millis(1);

/// Mask of all client frames: any is as good as another to a server (RFC 6455 §5.3 is about browsers).
const MASK: [u8; 4] = [0x5a, 0x3c, 0x96, 0xe1];
/// Close code of a client that leaves because it wants to (RFC 6455 §7.4.1).
const GOING: [u8; 2] = 1000_u16.to_be_bytes();

#[derive(Debug)]
pub(super) struct Worker {
    poll: Poll,
    settings: Arc<Settings>,
    memberships: Memberships,
    board: Arc<Board>,
    index: usize,
    phase: u32,
    storm: u32,
    conns: Vec<Conn>,
    /// Members whose turn to connect has not come.
    queue: VecDeque<usize>,
    /// Members closed on purpose and not live again, with the time of that.
    away: HashMap<usize, u64>,
    /// Members who read slowly on purpose and are live.
    slow: Vec<usize>,
    scratch: Vec<u8>,
    /// The request connections begin with, when it is the same for all.
    upgrade_request: Option<Vec<u8>>,
    heartbeat_frame: Vec<u8>,
    books: Books,
    counts: Counts,
    pace: Pace,
    /// When connections come by a plan of their own.
    attempts: Option<Attempts>,
}

/// What the gauges will show after this round.
#[derive(Debug, Default)]
struct Counts {
    opening: u32,
    live: u32,
    failed: u32,
    lost: u32,
}

/// What is due by the time that passed.
#[derive(Debug)]
struct Pace {
    last: Instant,
    openings: Bucket,
    heartbeats: f64,
    /// Whose heartbeat is next.
    heartbeat_at: usize,
    departures: Bucket,
    /// Who leaves next.
    departure_at: usize,
    slow_read: Instant,
    /// When attempts that take too long were last looked for.
    overdue: Instant,
}

impl Worker {
    pub(super) fn new(poll: Poll, settings: &Arc<Settings>, board: &Arc<Board>, index: usize) -> Self {
        let share = 1.0 / board.threads() as f64;
        let clients = &settings.clients;
        let now = Instant::now();
        let openings = clients.ramp.map_or(f64::INFINITY, f64::from) * share;
        let pace = Pace {
            last: now,
            openings: Bucket::new(openings, f64::from(OPENING_MAX)),
            heartbeats: 0.0,
            heartbeat_at: 0,
            departures: Bucket::new(clients.churn_per_second * share, f64::from(OPENING_MAX)),
            departure_at: 0,
            slow_read: now,
            overdue: now,
        };
        let target = &settings.target;
        let is_same_path = !target.path.contains("{room}");
        let heartbeat_frame = match target.script.heartbeat() {
            Some(text) => client_frame(OpCode::Text, text.as_bytes()),
            None => client_frame(OpCode::Ping, b""),
        };
        Self {
            poll,
            memberships: settings.memberships(),
            board: Arc::clone(board),
            index,
            phase: board.orders().phase.load(Ordering::Acquire),
            storm: 0,
            conns: Vec::new(),
            queue: VecDeque::new(),
            away: HashMap::new(),
            slow: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            upgrade_request: is_same_path.then(|| upgrade::request(&target.host, &target.path).into_bytes()),
            heartbeat_frame,
            books: Books::new(settings),
            counts: Counts::default(),
            pace,
            attempts: settings.connect.as_ref().map(|plan| Attempts::new(plan, index, board.threads())),
            settings: Arc::clone(settings),
        }
    }

    /// Runs until told to stop; hands over its books at the end of every phase, and in the end.
    pub(super) fn run(mut self, mut hand_over: impl FnMut(Harvest)) {
        let board = Arc::clone(&self.board);
        let orders = board.orders();
        self.gauges().process_id.store(std::process::id(), Ordering::Relaxed);
        self.gauges().thread_id.store(crate::sys::thread_id(), Ordering::Relaxed);
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        while orders.stop.load(Ordering::Acquire) == 0 {
            let timeout = self.round_max();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => outcome.expect("epoll_wait fails only when misused"),
            }
            if events.is_empty() && timeout.is_zero() {
                // The publisher may share the core.
                thread::yield_now();
            }
            let phase = orders.phase.load(Ordering::Acquire);
            if phase != self.phase {
                self.phase = phase;
                hand_over(self.end_phase());
            }
            self.round(&events, orders);
        }
        hand_over(self.end_phase());
    }

    fn round(&mut self, events: &Events, orders: &Orders) {
        let began_ns = now_ns();
        for event in events {
            let member = event.token().0;
            if event.is_writable() {
                self.writable(member);
            }
            if event.is_readable() && !self.is_read_slowly(member) {
                self.readable(member, usize::MAX);
            }
        }
        self.keep_pace(orders);
        let ended_ns = now_ns();
        let since_ns = orders.measured_since_ns.load(Ordering::Relaxed);
        if since_ns > 0 && !events.is_empty() {
            self.books.rounds.record(began_ns, ended_ns);
        }
        if since_ns > 0 {
            let interval_ns = orders.interval_ns.load(Ordering::Relaxed).max(1);
            let interval = ended_ns.saturating_sub(since_ns) / interval_ns;
            self.move_on(interval.min(u64::from(INTERVALS_MAX)) as u32);
        }
        self.show();
        if !events.is_empty() {
            self.gauges().busy_ns.fetch_add(ended_ns - began_ns, Ordering::Relaxed);
        }
    }

    fn round_max(&self) -> Duration {
        let is_coming_and_going = self.board.orders().churn.load(Ordering::Relaxed) != 0;
        match self.settings.clients.wait {
            Wait::Spin => Duration::ZERO,
            Wait::Sleep if !self.queue.is_empty() || self.members_wanted() > self.conns.len() => {
                RAMP_ROUND_MAX
            }
            Wait::Sleep if is_coming_and_going && self.settings.clients.churn_per_second > 0.0 => {
                RAMP_ROUND_MAX
            }
            Wait::Sleep => ROUND_MAX,
        }
    }

    /// Closes the books; whoever is not there belongs to the next phase from its beginning.
    fn end_phase(&mut self) -> Harvest {
        let attempts = self.take_attempts();
        let orders = self.board.orders();
        let still_away = self.away.len() as u32;
        for _ in 0..still_away {
            note(&mut self.books.reasons, "left and not back at the end");
        }
        let (published, run) = (orders.published.load(Ordering::Acquire), orders.run.load(Ordering::Relaxed));
        let harvest = Harvest { attempts, ..self.books.hand_over(published, run) };
        self.away.clear();
        (self.counts.failed, self.counts.lost) = (0, 0);
        for (member, conn) in self.conns.iter_mut().enumerate() {
            if conn.state == State::Closed {
                *conn = Conn::queued();
                self.queue.push_back(member);
            }
        }
        self.pace.departures.clear();
        self.show();
        harvest
    }

    /// How many connections this thread should have.
    fn wanted(&self) -> usize {
        let all = self.board.orders().connections.load(Ordering::Relaxed) as usize;
        all.saturating_sub(self.index).div_ceil(self.board.threads())
    }

    /// Opens and closes connections, reads slow ones and sends heartbeats as time passes.
    fn keep_pace(&mut self, orders: &Orders) {
        let now = Instant::now();
        let secs = (now - self.pace.last).as_secs_f64();
        self.pace.last = now;
        self.admit();
        if self.attempts.is_some() {
            self.start_attempts();
            if now - self.pace.overdue >= OVERDUE_INTERVAL {
                self.pace.overdue = now;
                self.end_overdue();
            }
            return self.send_heartbeats(secs);
        }
        self.pace.openings.pass(secs);
        while self.counts.opening < OPENING_MAX && !self.queue.is_empty() && self.pace.openings.take() {
            let member = self.queue.pop_front().expect("not empty");
            self.open(member);
        }
        if self.queue.is_empty() {
            self.pace.openings.clear();
        }
        if orders.churn.load(Ordering::Relaxed) != 0 {
            self.pace.departures.pass(secs);
            while self.pace.departures.take() {
                self.depart();
            }
        }
        let storm = orders.storm.load(Ordering::Relaxed);
        if storm != self.storm {
            self.storm = storm;
            self.break_out();
        }
        if !self.slow.is_empty() && now - self.pace.slow_read >= SLOW_READ_INTERVAL {
            self.read_slowly((now - self.pace.slow_read).as_secs_f64());
            self.pace.slow_read = now;
        }
        self.send_heartbeats(secs);
    }

    /// Queues new members.
    fn admit(&mut self) {
        for member in self.conns.len()..self.members_wanted() {
            let connection = self.connection(member);
            let rooms = self.memberships.rooms_of(connection);
            self.books.ledger.add_member(connection, &rooms, self.settings.is_slow(connection));
            self.conns.push(Conn::queued());
            self.queue.push_back(member);
        }
    }

    fn send_heartbeats(&mut self, secs: f64) {
        let Some(interval) = self.settings.clients.heartbeat else { return };
        self.pace.heartbeats += secs / interval.as_secs_f64() * self.conns.len() as f64;
        while self.pace.heartbeats >= 1.0 {
            self.pace.heartbeats -= 1.0;
            let member = self.pace.heartbeat_at % self.conns.len();
            self.pace.heartbeat_at = member + 1;
            if self.conns[member].state == State::Live {
                let frame = std::mem::take(&mut self.heartbeat_frame);
                self.send(member, &frame);
                self.heartbeat_frame = frame;
            }
        }
    }

    fn open(&mut self, member: usize) {
        let connection = self.connection(member);
        self.counts.opening += 1;
        let is_slow = self.settings.is_slow(connection);
        let opened =
            Conn::open(self.settings.target.address, self.client(member), is_slow).and_then(|mut conn| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                if let Some(stream) = &mut conn.stream {
                    self.poll.registry().register(stream, Token(member), interest)?;
                }
                Ok(conn)
            });
        match opened {
            Ok(conn) => self.conns[member] = conn,
            Err(error) => {
                self.conns[member] = Conn::stillborn();
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
        if let Some(request) = self.upgrade_request.take() {
            self.send(member, &request);
            self.upgrade_request = Some(request);
        } else {
            let target = &self.settings.target;
            let rooms = self.books.ledger.rooms_of(member);
            let room = rooms.first().map_or("", |room| self.settings.clients.rooms[*room as usize].as_str());
            let request = upgrade::request(&target.host, &target.path.replace("{room}", room));
            self.send(member, request.as_bytes());
        }
    }

    /// Takes in what waits, up to so many bytes; with no limit everything, for an edge is reported once.
    fn readable(&mut self, member: usize, most: usize) {
        let mut left = most;
        while left > 0 {
            match self.conns[member].read(&mut self.scratch, left) {
                Ok(None) => return,
                Ok(Some((_, 0))) => return self.ended(member, "ended without a close frame"),
                Ok(Some((len, received))) => {
                    left -= received.min(left);
                    self.books.backlog_bytes_max = self.books.backlog_bytes_max.max(received as u64);
                    let scratch = std::mem::take(&mut self.scratch);
                    let needed = self.take_in(member, &scratch[..len]);
                    self.scratch = scratch;
                    // A short read empties the socket, but does not tell that it was the last.
                    let is_drained = len < self.scratch.len() && self.conns[member].state != State::Leaving;
                    if needed > self.scratch.len() {
                        self.scratch.resize(needed.next_power_of_two(), 0);
                    }
                    if is_drained {
                        return;
                    }
                }
                Err(error) => return self.ended(member, &format!("cannot receive: {error}")),
            }
        }
    }

    /// Takes in what arrived, keeps what is no whole frame, and returns the bytes of scratch its rest will need.
    fn take_in(&mut self, member: usize, bytes: &[u8]) -> usize {
        let now_ns = now_ns();
        let mut rest = bytes;
        let needed = loop {
            match self.conns[member].state {
                State::Connecting | State::Queued | State::Closed => return 0,
                State::Upgrading => match upgrade::response(rest) {
                    Upgrade::Done(len) => {
                        rest = &rest[len..];
                        self.conns[member].state = State::LoggingIn;
                        if let Some(attempts) = &mut self.attempts {
                            attempts.upgraded(member, now_ns);
                        }
                        self.speak(member, None);
                    }
                    Upgrade::Partial => break rest.len() + 1,
                    Upgrade::Refused(reason) => {
                        self.close(member, &reason);
                        return 0;
                    }
                },
                State::LoggingIn | State::Live | State::Leaving => match frames::scan(rest) {
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
                let unstamped = self.books.deliver(member, frame.payload, now_ns, self.board.orders());
                if let Some(text) = unstamped.filter(|text| !self.settings.target.script.is_small_talk(text))
                {
                    self.books.note_unstamped(text);
                }
            }
            OpCode::Close if self.conns[member].state == State::Leaving => {
                self.conns[member].is_bid_goodbye = true
            }
            _ if self.conns[member].state == State::Leaving => {}
            OpCode::Text | OpCode::Binary => self.speak(member, Some(frame.payload)),
            OpCode::Continuation | OpCode::Pong => {}
            OpCode::Ping => self.send(member, &client_frame(OpCode::Pong, frame.payload)),
            OpCode::Close => {
                self.send(member, &client_frame(OpCode::Close, frame.payload));
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

    /// Does what the dialect says after the upgrade, or after a message that came before the connection was live.
    fn speak(&mut self, member: usize, heard: Option<&[u8]>) {
        let settings = Arc::clone(&self.settings);
        let rooms = self.books.ledger.rooms_of(member).iter();
        let names: Vec<&str> = rooms.map(|room| settings.clients.rooms[*room as usize].as_str()).collect();
        let (rooms, user) = match settings.clients.to {
            Address::Room => (names.as_slice(), None),
            Address::User => (&[][..], names.first().copied()),
            Address::Client => (&[][..], None),
        };
        let speaker = Speaker { connection: self.client(member), rooms, user };
        let script = &settings.target.script;
        let step = match heard {
            None => script.opened(speaker),
            Some(message) => script.heard(message, speaker),
        };
        let texts = match step {
            Step::Wait => return,
            Step::Refused if self.attempts.is_some() => {
                return self.attempt_is_refused(member, heard.unwrap_or_default());
            }
            Step::Refused => return self.books.note_unstamped(heard.unwrap_or_default()),
            Step::Mistaken(reason) => return self.close(member, &reason),
            Step::Say(texts) => texts,
            Step::Live(texts) => {
                if settings.needs_client_ids() {
                    match script.client_id(heard.unwrap_or_default()) {
                        Some(id) => self.board.set_client_id(self.connection(member), id),
                        None => return self.close(member, "connected without a client id that is a UUID"),
                    }
                }
                self.come_alive(member);
                texts
            }
        };
        for text in texts {
            self.send(member, &client_frame(OpCode::Text, text.as_bytes()));
        }
        if self.attempts.is_some() {
            self.say_goodbye(member);
        }
    }

    fn come_alive(&mut self, member: usize) {
        self.conns[member].state = State::Live;
        self.counts.opening -= 1;
        self.counts.live += 1;
        self.attempt_is_live(member);
        if let Some(left_ns) = self.away.remove(&member) {
            let now_ns = now_ns();
            self.books.ledger.rejoin(member, now_ns);
            self.books.reconnects.record(left_ns, now_ns);
        }
        if self.settings.is_slow(self.connection(member)) {
            self.slow.push(member);
        }
    }

    fn send(&mut self, member: usize, bytes: &[u8]) {
        if let Err(error) = self.conns[member].send(bytes) {
            self.close(member, &format!("cannot send: {error}"));
        }
    }

    /// Books the end of a connection. One that left on purpose tries again until it is back, and one that reads slowly
    /// comes back when the server has had enough of it.
    fn close(&mut self, member: usize, reason: &str) {
        let was = std::mem::replace(&mut self.conns[member], Conn::closed()).state;
        match was {
            State::Closed | State::Queued => return,
            was if self.attempts.is_some() => self.end_attempt(member, was),
            // Only connections with a plan wait for the end.
            State::Leaving => {}
            State::Live if self.settings.is_slow(self.connection(member)) => {
                self.counts.live -= 1;
                self.books.slow_closed += 1;
                self.queue_again(member);
            }
            State::Live => {
                self.counts.live -= 1;
                self.counts.lost += 1;
            }
            State::Connecting | State::Upgrading | State::LoggingIn => {
                self.counts.opening -= 1;
                if self.away.contains_key(&member) {
                    self.conns[member] = Conn::queued();
                    self.queue.push_back(member);
                } else {
                    self.counts.failed += 1;
                }
            }
        }
        note(&mut self.books.reasons, reason);
    }

    fn move_on(&mut self, interval: u32) {
        let Some(latencies) = self.books.advance(interval) else { return };
        let micros = |micros: u64| u32::try_from(micros).unwrap_or(u32::MAX);
        self.gauges().p50_us.store(micros(latencies.p50_us), Ordering::Relaxed);
        self.gauges().p99_us.store(micros(latencies.p99_us), Ordering::Relaxed);
    }

    /// Writes the gauges and wakes the publisher when it may go on.
    fn show(&self) {
        let Counts { live, failed, lost, .. } = self.counts;
        let set = |gauge: &AtomicU32, value| gauge.store(value, Ordering::Relaxed);
        let gauges = self.gauges();
        set(&gauges.live, live);
        set(&gauges.failed, failed);
        set(&gauges.lost, lost);
        let (attempted, under_way) = self.attempts.as_ref().map_or((0, 0), Attempts::counts);
        // Whoever sees that all began must not see what was under way before.
        set(&gauges.under_way, under_way);
        gauges.attempted.store(attempted, Ordering::Release);
        gauges.probed.store(self.books.probed, Ordering::Relaxed);
        gauges.delivered.store(self.books.delivered, Ordering::Relaxed);
        self.board.show_done_through(self.index, self.books.done_through());
    }

    fn gauges(&self) -> &Gauges {
        self.board.gauges(self.index)
    }

    fn connection(&self, member: usize) -> u32 {
        (member * self.board.threads() + self.index) as u32
    }
}

fn client_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode_masked(&mut frame, opcode, payload, MASK, true);
    frame
}
