//! The turn: mail, time, effects, writes, once all readers have had their say.
//!
//! Everything that touches the shard goes through [`Turns::enter`]. A panic inside (our fault, never a
//! peer's) ends the shard's run: its sockets are closed, its tasks end, and the thread starts it afresh.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use shardcast_shard::flush::Written;
use shardcast_shard::{ClientRef, ConnId, Effect, HangUp, Mail, Shard};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::asks::Asker;
use super::clock::Clock;
use super::sends::Sends;
use super::socket;
use crate::control::HandOff;
use crate::engine::Engine;
use crate::mailbox::MailReceiver;
use crate::status::ShardStatus;

/// Bytes of one read; the buffer is the shard's, not the connection's.
const SCRATCH_LEN: usize = 64 << 10;
/// Bytes of one read of a connection that may compress: each may come to a thousand.
const DEFLATED_READ_LEN: usize = 4 << 10;
/// Reads of one connection before the others get their turn.
const READS_PER_WAKE: usize = 4;
/// Letters of one turn, and how many bytes of frames they may carry together: both keep a turn short.
const LETTERS_PER_TURN: usize = 1_024;
const FRAME_BYTES_PER_TURN: usize = 8 << 20;
/// Between two reports of the counters.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// How long the tasks of a run may take to end after its sockets were cut, and how often to look.
const CUT_TIMEOUT: Duration = Duration::from_secs(2);
const CUT_POLL: Duration = Duration::from_millis(5);
/// Random bytes fetched at a time; a client id takes 16.
const ENTROPY_LEN: usize = 4_096;

/// Whether a reader should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Goes,
    Over,
}

/// What the tasks of a shard's thread share.
pub(super) struct Turns {
    core: RefCell<Core>,
    signal: Signal,
    clock: Clock,
    pub(super) engine: Arc<Engine>,
}

struct Core {
    shard: Shard,
    sockets: Vec<Option<Socket>>,
    scratch: Box<[u8]>,
    asker: Asker,
    hand_offs: mpsc::Sender<HandOff>,
    entropy: Entropy,
    /// Sockets to wait on for room; tasks are spawned once the core is free again.
    await_writable: Vec<ConnId>,
}

struct Socket {
    id: ConnId,
    stream: Rc<TcpStream>,
    /// The shard let go of the connection.
    dropped: bool,
    /// The reader ended.
    reader_done: bool,
}

/// How a shard's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every connection was closed, as asked.
    Drained,
    /// It panicked; its connections were cut.
    Panicked,
}

/// Wakes the turn. Lives on one thread.
#[derive(Default)]
struct Signal {
    raised: Cell<bool>,
    mail: Cell<bool>,
    /// The run is over: every task ends.
    over: Cell<bool>,
    turn: RefCell<Option<Waker>>,
    mail_task: RefCell<Option<Waker>>,
    /// Tasks that wait for something that may never come.
    waiters: RefCell<Vec<Waker>>,
}

impl Signal {
    fn raise(&self) {
        self.raised.set(true);
        if let Some(waker) = self.turn.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn end(&self) {
        self.over.set(true);
        for waker in self.waiters.borrow_mut().drain(..) {
            waker.wake();
        }
        self.raise();
    }
}

impl Turns {
    pub(super) fn new(
        shard: Shard,
        clock: Clock,
        asker: Asker,
        engine: Arc<Engine>,
        hand_offs: mpsc::Sender<HandOff>,
    ) -> Self {
        let core = Core {
            shard,
            sockets: Vec::new(),
            scratch: vec![0; SCRATCH_LEN].into_boxed_slice(),
            asker,
            hand_offs,
            entropy: Entropy::default(),
            await_writable: Vec::new(),
        };
        Self { core: RefCell::new(core), signal: Signal::default(), clock, engine }
    }

    /// Whether no connection is accepted any more.
    pub(super) fn draining(&self) -> bool {
        self.engine.status().draining.load(Ordering::Acquire)
    }

    /// Does something with the shard. `None`: the run is over, possibly because this panicked.
    fn enter<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Option<T> {
        if self.signal.over.get() {
            return None;
        }
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut self.core.borrow_mut())));
        if done.is_err() {
            self.signal.end();
        }
        done.ok()
    }

    /// The same for what leads to a turn.
    fn enter_and_raise<T>(&self, work: impl FnOnce(&mut Core) -> T) -> Option<T> {
        let done = self.enter(work);
        self.signal.raise();
        done
    }

    /// Waits for `future`, or for the end of the run: then `None`.
    pub(super) async fn until_over<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.signal.over.get() {
                return Poll::Ready(None);
            }
            let mut waiters = self.signal.waiters.borrow_mut();
            if !waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                waiters.push(cx.waker().clone());
            }
            drop(waiters);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// A place for a new connection, unless the shard is full.
    pub(super) fn accept(&self) -> Option<ConnId> {
        self.enter_and_raise(|core| {
            let entropy = core.entropy.take();
            core.shard.handle_accept(self.clock.now(), entropy)
        })?
    }

    /// Gives the connection its socket.
    pub(super) fn seat(&self, id: ConnId, stream: Rc<TcpStream>) {
        self.enter(|core| {
            let slot = id.slot as usize;
            if core.sockets.len() <= slot {
                core.sockets.resize_with(slot + 1, || None);
            }
            core.sockets[slot] = Some(Socket { id, stream, dropped: false, reader_done: false });
        });
    }

    /// The connection never got a socket.
    pub(super) fn unseat(&self, id: ConnId) {
        self.enter_and_raise(|core| {
            core.shard.handle_closed(id);
            core.run_effects(self);
        });
    }

    /// Reads what is there and hands it to the shard.
    pub(super) fn receive(&self, id: ConnId, fd: RawFd) -> Reading {
        self.enter_and_raise(|core| core.receive(self, id, fd)).unwrap_or(Reading::Over)
    }

    /// The socket could not be watched.
    pub(super) fn reader_failed(&self, id: ConnId) {
        self.enter_and_raise(|core| {
            core.shard.handle_hang_up(id, HangUp::Error);
            core.run_effects(self);
        });
    }

    /// The reader ended; the socket goes once the shard lets go of it too.
    pub(super) fn reader_done(&self, id: ConnId) {
        let known = self.enter(|core| {
            if let Some(socket) = core.socket_mut(id) {
                socket.reader_done = true;
            }
            core.release_if_over(id);
        });
        if known.is_none()
            && let Some(socket) = self.core.borrow_mut().sockets.get_mut(id.slot as usize)
        {
            *socket = None;
        }
    }

    /// The socket takes bytes again.
    pub(super) fn writable(&self, id: ConnId) {
        self.enter_and_raise(|core| core.shard.handle_writable(id));
    }

    /// The mailbox rang.
    pub(super) fn mail_came(&self) {
        self.signal.mail.set(true);
        self.signal.raise();
    }

    /// Waits until the turn has taken the mail and silenced the eventfd.
    pub(super) async fn mail_seen(&self) {
        poll_fn(|cx| {
            if !self.signal.mail.get() {
                return Poll::Ready(());
            }
            *self.signal.mail_task.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Turns until the shard is drained and empty, or panicked.
pub(super) async fn run(
    turns: &Rc<Turns>,
    mail: &MailReceiver,
    mut sends: Sends,
    status: &ShardStatus,
) -> Ending {
    let mut results = Vec::new();
    let mut reported = Instant::now();
    let ending = loop {
        wait(turns, reported + REPORT_INTERVAL).await;
        let Some(waiting) = turns.enter(|core| core.turn(turns, mail, &mut sends, &mut results)) else {
            break Ending::Panicked;
        };
        for (id, stream) in waiting {
            monoio::spawn(socket::wait_writable(turns.clone(), id, stream));
        }
        let drained = turns.draining() && turns.core.borrow().is_drained();
        if drained || reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            status.report(turns.core.borrow().shard.counters());
        }
        if drained {
            break Ending::Drained;
        }
    };
    turns.signal.end();
    cut_all(turns).await;
    ending
}

/// Closes what is still open and waits for the readers to end, so that no descriptor outlives the run.
async fn cut_all(turns: &Rc<Turns>) {
    for socket in turns.core.borrow().sockets.iter().flatten() {
        // SAFETY: the descriptor is open as long as the stream is.
        unsafe { libc::shutdown(socket.stream.as_raw_fd(), libc::SHUT_RDWR) };
    }
    let deadline = Instant::now() + CUT_TIMEOUT;
    while Rc::strong_count(turns) > 1 && Instant::now() < deadline {
        monoio::time::sleep(CUT_POLL).await;
    }
}

/// Waits for a signal, the shard's next deadline or the next report.
async fn wait(turns: &Rc<Turns>, report_at: Instant) {
    let wake = turns.core.borrow().shard.poll_wake().map(|ms| turns.clock.instant(ms));
    let wake = wake.map_or(report_at, |wake| wake.min(report_at));
    let mut sleep = pin!(monoio::time::sleep_until(monoio::time::Instant::from_std(wake)));
    poll_fn(|cx| {
        if turns.signal.raised.take() {
            return Poll::Ready(());
        }
        *turns.signal.turn.borrow_mut() = Some(cx.waker().clone());
        sleep.as_mut().poll(cx)
    })
    .await;
}

impl Core {
    /// One turn. Returns the sockets to wait on for room.
    fn turn(
        &mut self,
        turns: &Turns,
        mail: &MailReceiver,
        sends: &mut Sends,
        results: &mut Vec<Written>,
    ) -> Vec<(ConnId, Rc<TcpStream>)> {
        self.take_mail(turns, mail);
        let now = turns.clock.now();
        if self.shard.poll_wake().is_some_and(|wake_ms| wake_ms <= now.ms) {
            self.shard.handle_tick(now);
        }
        self.run_effects(turns);
        self.write(turns, sends, results);
        self.run_effects(turns);
        let waiting = std::mem::take(&mut self.await_writable);
        waiting.into_iter().filter_map(|id| self.stream(id).map(|stream| (id, stream))).collect()
    }

    fn is_drained(&self) -> bool {
        self.shard.is_draining() && self.shard.is_empty()
    }

    /// Reads a bounded number of times and feeds the shard.
    fn receive(&mut self, turns: &Turns, id: ConnId, fd: RawFd) -> Reading {
        let now = turns.clock.now();
        let read_len = if self.shard.deflates(id) { DEFLATED_READ_LEN } else { SCRATCH_LEN };
        for _ in 0..READS_PER_WAKE {
            let scratch = &mut self.scratch[..read_len];
            // SAFETY: the buffer is ours and as long as said; the call does not keep it.
            let received =
                unsafe { libc::recv(fd, scratch.as_mut_ptr().cast(), scratch.len(), libc::MSG_DONTWAIT) };
            if received > 0 {
                self.feed(turns, now, id, received as usize);
                if self.is_dropped(id) {
                    return Reading::Over;
                }
                if (received as usize) < read_len {
                    break;
                }
                continue;
            }
            let errno = std::io::Error::last_os_error().raw_os_error();
            if received < 0 && matches!(errno, Some(libc::EAGAIN | libc::EINTR)) {
                break;
            }
            let how = if received == 0 { HangUp::Eof } else { HangUp::Error };
            self.shard.handle_hang_up(id, how);
            self.run_effects(turns);
            return Reading::Over;
        }
        Reading::Goes
    }

    /// Feeds received bytes to the shard, putting each question as it is raised.
    fn feed(&mut self, turns: &Turns, now: shardcast_shard::Now, id: ConnId, len: usize) {
        let mut used = 0;
        while used < len {
            used += self.shard.handle_bytes(now, id, &mut self.scratch[used..len]);
            self.run_effects(turns);
        }
    }

    /// Takes a bounded batch of mail; with more waiting, the shard comes back after the sockets.
    fn take_mail(&mut self, turns: &Turns, mail: &MailReceiver) {
        if turns.signal.mail.take() {
            mail.silence();
            if let Some(waker) = turns.signal.mail_task.borrow_mut().take() {
                waker.wake();
            }
        }
        let now = turns.clock.now();
        let mut frame_bytes = 0;
        for _ in 0..LETTERS_PER_TURN {
            let Some(letter) = mail.take() else {
                if mail.arm() {
                    break;
                }
                return;
            };
            frame_bytes += frame_len(&letter);
            self.shard.handle_mail(now, letter);
            self.run_effects(turns);
            if frame_bytes > FRAME_BYTES_PER_TURN {
                break;
            }
        }
        mail.ring();
    }

    /// Offers every touched connection what is laid out for it.
    fn write(&mut self, turns: &Turns, sends: &mut Sends, results: &mut Vec<Written>) {
        while self.shard.poll_writes() {
            let sockets = &self.sockets;
            // A connection whose socket is gone gets an invalid descriptor: the write fails and the shard
            // hears of it.
            let fd = |id: ConnId| {
                let socket = sockets.get(id.slot as usize).and_then(Option::as_ref);
                socket.filter(|s| s.id == id).map_or(-1, |s| s.stream.as_raw_fd())
            };
            sends.submit(self.shard.writes().map(|(id, bytes)| (fd(id), bytes)), results);
            let now = turns.clock.now();
            for (index, &written) in results.iter().enumerate() {
                self.shard.handle_written(now, index, written);
            }
        }
    }

    fn run_effects(&mut self, turns: &Turns) {
        while let Some(effect) = self.shard.poll_effect() {
            self.run_effect(turns, effect);
        }
    }

    fn run_effect(&mut self, turns: &Turns, effect: Effect) {
        let (shard, directory) = (self.asker.shard, turns.engine.router().directory());
        match effect {
            Effect::Ask(ask) => {
                if let Some(verdict) = self.asker.put(ask) {
                    self.shard.handle_verdict(turns.clock.now(), verdict);
                }
            }
            Effect::ClientUp { client_id, conn, mount } => {
                directory.client_up(client_id, mount, ClientRef { shard, conn });
            }
            Effect::ClientDown { client_id } => directory.client_down(client_id),
            Effect::UserUp(mount, user) => directory.user_up(mount, user, shard),
            Effect::UserDown(mount, user) => directory.user_down(mount, &user, shard),
            Effect::RoomUp(mount, room) => directory.room_up(mount, room, shard),
            Effect::RoomDown(mount, room) => directory.room_down(mount, &room, shard),
            Effect::DeflateUp(mount) => directory.deflate_up(mount, shard),
            Effect::DeflateDown(mount) => directory.deflate_down(mount, shard),
            Effect::AwaitWritable(id) => self.await_writable.push(id),
            Effect::Fin(id) => self.shut(id, libc::SHUT_WR),
            Effect::Drop(id) => {
                self.shut(id, libc::SHUT_RDWR);
                self.let_go(id);
            }
            Effect::HandOff { conn, received } => {
                self.hand_off(turns, conn, received);
                self.let_go(conn);
            }
            Effect::Reply { ticket, reply } => turns.engine.answer(ticket, reply),
        }
    }

    fn shut(&mut self, id: ConnId, how: libc::c_int) {
        if let Some(socket) = self.socket_mut(id) {
            // SAFETY: the descriptor is open as long as the stream is. It fails when the peer was faster.
            unsafe { libc::shutdown(socket.stream.as_raw_fd(), how) };
        }
    }

    /// The shard is done with the connection.
    fn let_go(&mut self, id: ConnId) {
        if let Some(socket) = self.socket_mut(id) {
            socket.dropped = true;
        }
        self.release_if_over(id);
    }

    /// Frees socket and slot when both the reader and the shard are done.
    fn release_if_over(&mut self, id: ConnId) {
        if self.socket_mut(id).is_some_and(|s| s.dropped && s.reader_done) {
            self.sockets[id.slot as usize] = None;
            self.shard.handle_closed(id);
        }
    }

    fn hand_off(&mut self, turns: &Turns, id: ConnId, received: Vec<u8>) {
        let Some(socket) = self.socket_mut(id) else { return };
        // SAFETY: fcntl takes no pointers here; the copy is checked and owned below.
        let copy = unsafe { libc::fcntl(socket.stream.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
        let refused = if copy < 0 {
            None
        } else {
            // SAFETY: just made, nobody else owns it.
            let stream = unsafe { OwnedFd::from_raw_fd(copy) }.into();
            match self.hand_offs.try_send(HandOff { stream, received }) {
                Ok(()) => return,
                Err(TrySendError::Full(hand_off) | TrySendError::Closed(hand_off)) => Some(hand_off),
            }
        };
        turns.engine.status().process.hand_offs_refused.fetch_add(1, Ordering::Relaxed);
        if let Some(hand_off) = refused {
            hand_off.refuse();
        }
    }

    fn is_dropped(&mut self, id: ConnId) -> bool {
        self.socket_mut(id).is_none_or(|socket| socket.dropped)
    }

    fn stream(&self, id: ConnId) -> Option<Rc<TcpStream>> {
        let socket = self.sockets.get(id.slot as usize)?.as_ref()?;
        (socket.id == id && !socket.dropped).then(|| socket.stream.clone())
    }

    fn socket_mut(&mut self, id: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(id.slot as usize)?.as_mut().filter(|socket| socket.id == id)
    }
}

fn frame_len(letter: &Mail) -> usize {
    match letter {
        Mail::Room { frame, .. }
        | Mail::Broadcast { frame, .. }
        | Mail::Direct { frame, .. }
        | Mail::User { frame, .. } => frame.plain.len(),
        Mail::Verdict(_) | Mail::Kick { .. } | Mail::Query { .. } | Mail::Drain { .. } => 0,
    }
}

/// Random bytes for client ids, fetched a page at a time.
#[derive(Default)]
struct Entropy {
    bytes: Vec<u8>,
}

impl Entropy {
    fn take(&mut self) -> [u8; 16] {
        if self.bytes.len() < 16 {
            self.bytes.resize(ENTROPY_LEN, 0);
            getrandom::fill(&mut self.bytes).expect("the kernel has random bytes");
        }
        let rest = self.bytes.len() - 16;
        let id = self.bytes[rest..].try_into().expect("16 bytes");
        self.bytes.truncate(rest);
        id
    }
}
