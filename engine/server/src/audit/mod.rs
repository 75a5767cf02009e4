//! The audit log: who was refused, who changed what, when the process started and stopped.
//!
//! Whoever records puts an event into a bounded queue and goes on; the thread `sc-audit` writes it as a line of JSON
//! (`docs/audit.md`). Invariants: recording never waits and never fails; what is not written is counted, and told by
//! a line `lost` once lines go out again; no event holds a token, a key or a payload; every text of a stranger is
//! bounded where it is recorded and pure ASCII where it is written.

mod event;
mod line;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use shardcast_shard::MountId;

pub use crate::config::AuditEvent as Kind;
use crate::config::{self, Config};
use crate::wall_clock::now_unix_ms;
pub use event::{Event, Kicked, Rooms, User, Who};
use writer::{Sink, Writer};

/// How long the end of the process waits for the last lines; a disk that hangs must not hold it up.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Commands that wait for the writer. One more of the same kind would do nothing that these do not.
const COMMANDS_MAX: usize = 8;

/// Why there is no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file cannot be opened.
    #[error("cannot open the audit log {path} (audit.file): {source}; its folder must exist and be writable")]
    Open {
        /// As configured.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that is not a file has that name.
    #[error(
        "the audit log {path} (audit.file) is neither a file nor a device; name another, or \"-\" for standard output"
    )]
    NotAFile {
        /// As configured.
        path: String,
    },
    /// The kernel gives no thread.
    #[error("cannot start the thread of the audit log: {0}")]
    Thread(io::Error),
}

/// What the writer did and could not do.
#[derive(Debug, Default)]
pub struct AuditCounters {
    /// Lines written.
    pub written: AtomicU64,
    /// Events lost because `audit.queue_max` of them waited already; of strangers, three fourths of it.
    pub lost_queue: AtomicU64,
    /// Events of strangers left out beyond `audit.rate_max` a second.
    pub lost_rate: AtomicU64,
    /// Events lost because the file did not take them.
    pub lost_write: AtomicU64,
    /// Writes and openings that failed.
    pub errors: AtomicU64,
    /// Of the last write or opening; 0 when it went well.
    error_code: AtomicI32,
}

impl AuditCounters {
    /// Why lines do not go out at present.
    pub fn trouble(&self) -> Option<io::Error> {
        let code = self.error_code.load(Ordering::Acquire);
        (code != 0).then(|| io::Error::from_raw_os_error(code))
    }

    fn note(&self, outcome: &io::Result<()>) {
        let code = match outcome {
            Ok(()) => 0,
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                error.raw_os_error().unwrap_or(libc::EIO)
            }
        };
        self.error_code.store(code, Ordering::Release);
    }
}

/// Where events are recorded; cheap to clone. Without a file it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    queue: Sender<Record>,
    queue_max: usize,
    /// Events in the queue from which on those of strangers are lost: a fourth of it is for operators' alone.
    strangers_max: usize,
    commands: Sender<Command>,
    /// A bit for each [`Kind`] that is recorded.
    wanted: AtomicU32,
    required: bool,
    /// Paths of the mounts, by number.
    mounts: Vec<Arc<str>>,
    counters: Arc<AuditCounters>,
    /// Closed when the writer has ended; nothing is ever sent.
    ended: Receiver<()>,
}

/// An event and when it happened.
#[derive(Debug)]
struct Record {
    unix_ms: u64,
    event: Event,
    /// Strangers can cause it as often as they like.
    by_stranger: bool,
}

/// What the writer is told to do besides writing.
#[derive(Debug)]
enum Command {
    /// Open the file again: whoever rotates logs has moved it.
    Reopen,
    /// Write what waits, and end.
    End,
}

impl Audit {
    /// Opens the file and starts the thread `sc-audit`; neither when `audit.file` is empty. `instance` is the id of
    /// this process. The thread ends by [`Audit::finish`], or with the last clone.
    ///
    /// # Errors
    /// The file cannot be opened; the operator is told which and why.
    pub fn start(config: &Config, instance: &str) -> Result<Self, AuditError> {
        let settings = &config.audit;
        let Some(file) = &settings.file else { return Ok(Self::default()) };
        let sink = Sink::open(file)?;
        let (queue, records) = crossbeam_channel::bounded(settings.queue_max);
        let (commands, commanded) = crossbeam_channel::bounded(COMMANDS_MAX);
        let (running, ended) = crossbeam_channel::bounded(0);
        let counters = Arc::new(AuditCounters::default());
        let rate_max = u32::try_from(settings.rate_max).unwrap_or(u32::MAX);
        let writer = Writer::new(sink, records, commanded, counters.clone(), instance.to_owned(), rate_max);
        let run = move || {
            writer.run();
            drop(running);
        };
        std::thread::Builder::new().name("sc-audit".to_owned()).spawn(run).map_err(AuditError::Thread)?;
        Ok(Self(Some(Arc::new(Shared {
            queue,
            queue_max: settings.queue_max,
            strangers_max: settings.queue_max - settings.queue_max / 4,
            commands,
            wanted: AtomicU32::new(bits(settings)),
            required: settings.required,
            mounts: config.mounts.iter().map(|mount| Arc::from(mount.path.as_str())).collect(),
            counters,
            ended,
        }))))
    }

    /// Whether events of this kind are recorded.
    pub fn wants(&self, kind: Kind) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.wanted.load(Ordering::Relaxed) & bit(kind) != 0)
    }

    /// Records what `event` makes, if its kind is wanted and there is room; `event` is not called otherwise.
    pub fn record(&self, kind: Kind, event: impl FnOnce() -> Event) {
        if self.wants(kind) {
            self.queue(kind, event);
        }
    }

    /// Records a reload, which may have changed what is recorded: if it was wanted before or is now.
    pub fn record_reload(&self, was_wanted: bool, event: impl FnOnce() -> Event) {
        if was_wanted || self.wants(Kind::Reload) {
            self.queue(Kind::Reload, event);
        }
    }

    fn queue(&self, kind: Kind, event: impl FnOnce() -> Event) {
        let Some(shared) = &self.0 else { return };
        let by_stranger = is_by_strangers(kind);
        let room = if by_stranger { shared.strangers_max } else { shared.queue_max };
        if shared.queue.len() < room {
            let record = Record { unix_ms: now_unix_ms(), event: event(), by_stranger };
            if shared.queue.try_send(record).is_ok() {
                return;
            }
        }
        shared.counters.lost_queue.fetch_add(1, Ordering::Relaxed);
    }

    /// Who a connection is, for an event.
    pub fn who(&self, client: &crate::hooks::Client) -> Who {
        Who::new(client, self.mount(client.mount))
    }

    fn mount(&self, mount: MountId) -> Arc<str> {
        let mounts = self.0.as_ref().map_or(&[][..], |shared| &shared.mounts);
        mounts.get(usize::from(mount.0)).cloned().unwrap_or_else(|| Arc::from(""))
    }

    /// Applies `audit.events` of a reloaded configuration and opens the file again.
    pub fn reload(&self, settings: &config::Audit) {
        let Some(shared) = &self.0 else { return };
        shared.wanted.store(bits(settings), Ordering::Relaxed);
        self.tell(Command::Reopen);
    }

    /// Records the end of the process, writes what waits and ends the thread; a file that hangs is waited for a
    /// moment only. `forced`: the drain was cut short.
    pub fn finish(&self, forced: bool) {
        let Some(shared) = &self.0 else { return };
        self.record(Kind::Stop, || Event::Stop { forced });
        self.tell(Command::End);
        if shared.ended.recv_timeout(FINISH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(waiting = self.waiting(), "the audit log did not end in time");
        }
    }

    fn tell(&self, command: Command) {
        let Some(shared) = &self.0 else { return };
        match shared.commands.try_send(command) {
            // One that has ended has nothing left to do.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(command)) => {
                tracing::error!(?command, "the audit log is stuck: its file takes nothing");
            }
        }
    }

    /// What the writer counted; `None` when there is no audit log.
    pub fn counters(&self) -> Option<&AuditCounters> {
        self.0.as_ref().map(|shared| &*shared.counters)
    }

    /// Events that wait for the writer.
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |shared| shared.queue.len())
    }

    /// Whether the instance should get no traffic while lines do not go out.
    pub fn is_required(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| shared.required)
    }
}

fn bit(kind: Kind) -> u32 {
    1 << kind as u32
}

fn bits(settings: &config::Audit) -> u32 {
    settings.events.iter().fold(0, |bits, kind| bits | bit(*kind))
}

/// Whether strangers can cause events of this kind, so that their rate is bounded.
fn is_by_strangers(kind: Kind) -> bool {
    match kind {
        Kind::AuthRefused | Kind::AuthAccepted | Kind::JoinRefused | Kind::ApiRefused => true,
        Kind::Kick | Kind::Reload | Kind::Start | Kind::Drain | Kind::Stop => false,
    }
}
