//! The turn: bytes, mail, time, effects, then writes, once all tasks of the shard's thread have had their say.
//!
//! Everything that touches the shard goes through [`Turns::enter`]. A panic inside (our fault, never a
//! peer's) ends the shard's run: its sockets are closed, its tasks end, and the thread starts it afresh.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::core::{Core, Refused};
use super::listener::Accepted;
use super::pace::Pace;
use crate::admission::Admission;
use crate::engine::Engine;
use crate::status::ShardStatus;

/// Between two reports of the counters.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);
/// How long the tasks of a run may take to end, and how often to look.
const END_TIMEOUT: Duration = Duration::from_secs(2);
const END_POLL: Duration = Duration::from_millis(5);

/// What the tasks of a shard's thread share.
pub(super) struct Turns {
    core: RefCell<Core>,
    signal: Signal,
    clock: Clock,
    pub(super) engine: Arc<Engine>,
    pub(super) admission: Arc<Admission>,
}

/// How a shard's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every connection was closed, as asked.
    Drained,
    /// It panicked; its connections were cut.
    Panicked,
}

/// What rings for a turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ringer {
    /// The set of sockets.
    Sockets,
    /// The mailbox.
    Mail,
}

/// Wakes the turn. Lives on one thread.
#[derive(Default)]
struct Signal {
    raised: Cell<bool>,
    sockets: Bell,
    mail: Bell,
    /// The run is over: every task ends.
    over: Cell<bool>,
    turn: RefCell<Option<Waker>>,
    /// One a task: what it waits for may never come.
    tasks: RefCell<Vec<Waker>>,
}

/// Rung by a task, which then waits until the turn has heard it.
#[derive(Default)]
struct Bell {
    rung: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Bell {
    /// Whether it was rung since the last call.
    fn hear(&self) -> bool {
        let rung = self.rung.take();
        if rung && let Some(waker) = self.task.borrow_mut().take() {
            waker.wake();
        }
        rung
    }
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
        for waker in self.tasks.borrow_mut().drain(..) {
            waker.wake();
        }
        self.raise();
    }

    fn bell(&self, ringer: Ringer) -> &Bell {
        match ringer {
            Ringer::Sockets => &self.sockets,
            Ringer::Mail => &self.mail,
        }
    }
}

impl Turns {
    pub(super) fn new(core: Core, clock: Clock, engine: Arc<Engine>, admission: Arc<Admission>) -> Self {
        Self { core: RefCell::new(core), signal: Signal::default(), clock, engine, admission }
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

    /// A task that ends with the run.
    pub(super) async fn until_over(self: Rc<Self>, task: impl Future<Output = ()>) {
        let mut task = pin!(task);
        let mut listed = false;
        poll_fn(|cx| {
            if self.signal.over.get() {
                return Poll::Ready(());
            }
            // The waker of a task stays the same as long as the task lives.
            if !std::mem::replace(&mut listed, true) {
                self.signal.tasks.borrow_mut().push(cx.waker().clone());
            }
            task.as_mut().poll(cx)
        })
        .await;
    }

    /// Takes a connection in.
    pub(super) fn accept(&self, socket: Accepted) -> Result<(), Refused> {
        // When the run is over the socket closes, as all others do.
        let accepted = self.enter(|core| core.accept(socket)).unwrap_or(Ok(()));
        self.signal.raise();
        accepted
    }

    /// Rings for a turn and waits until it has looked.
    pub(super) async fn ring(&self, ringer: Ringer) {
        let bell = self.signal.bell(ringer);
        bell.rung.set(true);
        self.signal.raise();
        poll_fn(|cx| {
            if !bell.rung.get() {
                return Poll::Ready(());
            }
            *bell.task.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Turns until the shard is drained and empty, or panicked.
pub(super) async fn run(turns: &Rc<Turns>, mut pace: Pace, status: &ShardStatus) -> Ending {
    let mut reported = Instant::now();
    let ending = loop {
        wait(turns, reported + REPORT_INTERVAL).await;
        pace.wait().await;
        let signal = &turns.signal;
        let (sockets, mail) = (signal.sockets.hear(), signal.mail.hear());
        if turns.enter(|core| core.hear(sockets, mail)).is_none() {
            break Ending::Panicked;
        }
        if pace.time(|| turns.enter(Core::write)).is_none() {
            break Ending::Panicked;
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
    turns.core.borrow_mut().cut_all();
    let deadline = Instant::now() + END_TIMEOUT;
    while Rc::strong_count(turns) > 1 && Instant::now() < deadline {
        monoio::time::sleep(END_POLL).await;
    }
    ending
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
