//! The thread `sc-audit`: takes events from the queue and appends them to the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use super::event::Event;
use super::{AuditCounters, AuditError, Command, Record, line};
use crate::wall_clock::now_unix_ms;

/// Owner writes, group reads, nobody else does either.
const MODE: u32 = 0o640;

/// Bytes that are gathered before they are written, while more events wait.
const BATCH_BYTES: usize = 64 << 10;

/// Between two lines about lost events, and between two attempts to write one.
const LOST_INTERVAL: Duration = Duration::from_secs(1);

/// Between two log lines about a file that does not take lines.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File { path: String, file: File },
}

impl Sink {
    /// `-` is standard output.
    pub(super) fn open(path: &str) -> Result<Self, AuditError> {
        if path == "-" {
            return Ok(Self::Stdout);
        }
        // A pipe without a reader would hold up whoever opens it.
        if let Ok(found) = Path::new(path).metadata()
            && !found.is_file()
            && !found.file_type().is_char_device()
        {
            return Err(AuditError::NotAFile { path: path.to_owned() });
        }
        let opened = OpenOptions::new().append(true).create(true).mode(MODE).open(path);
        let file = opened.map_err(|source| AuditError::Open { path: path.to_owned(), source })?;
        Ok(Self::File { path: path.to_owned(), file })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let count = out.write(bytes)?;
                out.flush()?;
                Ok(count)
            }
            Self::File { file, .. } => file.write(bytes),
        }
    }
}

/// What the thread owns.
pub(super) struct Writer {
    sink: Sink,
    records: Receiver<Record>,
    commands: Receiver<Command>,
    counters: Arc<AuditCounters>,
    instance: String,
    rate_max: u32,
    /// The second in which `taken` events of strangers were written.
    second: Instant,
    taken: u32,
    /// Whole lines that go out next.
    batch: Vec<u8>,
    /// The last write stopped within a line.
    torn: bool,
    told: Told,
    lost_due: Instant,
    complained: Option<Instant>,
}

/// Lost events that a line has told of.
#[derive(Clone, Copy, Default)]
struct Told {
    queue: u64,
    rate: u64,
    write: u64,
}

impl Writer {
    pub(super) fn new(
        sink: Sink,
        records: Receiver<Record>,
        commands: Receiver<Command>,
        counters: Arc<AuditCounters>,
        instance: String,
        rate_max: u32,
    ) -> Self {
        let now = Instant::now();
        Self {
            sink,
            records,
            commands,
            counters,
            instance,
            rate_max,
            second: now,
            taken: 0,
            batch: Vec::new(),
            torn: false,
            told: Told::default(),
            lost_due: now,
            complained: None,
        }
    }

    /// Writes until it is told to end, or until nobody can record any more.
    pub(super) fn run(mut self) {
        loop {
            let goes_on = select! {
                recv(self.commands) -> command => match command {
                    Ok(Command::Reopen) => {
                        self.reopen();
                        true
                    }
                    Ok(Command::End) | Err(_) => false,
                },
                recv(self.records) -> record => record.map(|record| self.take(&record)).is_ok(),
                default(LOST_INTERVAL) => true,
            };
            while self.batch.len() < BATCH_BYTES
                && let Ok(record) = self.records.try_recv()
            {
                self.take(&record);
            }
            if !goes_on {
                return self.end();
            }
            self.write();
            if self.lost_due <= Instant::now() {
                self.tell_lost();
            }
        }
    }

    fn end(&mut self) {
        while let Ok(record) = self.records.try_recv() {
            self.take(&record);
            if self.batch.len() >= BATCH_BYTES {
                self.write();
            }
        }
        self.write();
        self.tell_lost();
    }

    fn take(&mut self, record: &Record) {
        if record.by_stranger {
            let now = Instant::now();
            if now.duration_since(self.second) >= Duration::from_secs(1) {
                (self.second, self.taken) = (now, 0);
            }
            if self.taken >= self.rate_max {
                self.counters.lost_rate.fetch_add(1, Ordering::Relaxed);
                return;
            }
            self.taken += 1;
        }
        line::append(&mut self.batch, record.unix_ms, &self.instance, &record.event);
    }

    /// Writes a line about the events lost since the last such line, unless there are none.
    fn tell_lost(&mut self) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let now = Told {
            queue: read(&self.counters.lost_queue),
            rate: read(&self.counters.lost_rate),
            write: read(&self.counters.lost_write),
        };
        let Told { queue, rate, write } = self.told;
        let (queue, rate, write) = (now.queue - queue, now.rate - rate, now.write - write);
        let count = queue + rate + write;
        if count == 0 {
            return;
        }
        self.lost_due = Instant::now() + LOST_INTERVAL;
        let mut text = Vec::new();
        let event = Event::Lost { count, queue, rate, write };
        line::append(&mut text, now_unix_ms(), &self.instance, &event);
        // One that does not go out is written again with what has been lost until then.
        if self.put(&text) == 0 {
            self.told = now;
        }
    }

    /// Writes the batch. Lines that the file does not take are lost and counted.
    fn write(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut batch = std::mem::take(&mut self.batch);
        let lost = self.put(&batch);
        self.counters.lost_write.fetch_add(lost, Ordering::Relaxed);
        batch.clear();
        self.batch = batch;
    }

    /// Writes whole lines and returns how many of them the file did not take.
    fn put(&mut self, text: &[u8]) -> u64 {
        let mut outcome = Ok(());
        if self.torn {
            outcome = self.sink.write(b"\n").map(|_| self.torn = false);
        }
        let mut rest = text;
        while !rest.is_empty() && outcome.is_ok() {
            match self.sink.write(rest) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
        }
        let written = &text[..text.len() - rest.len()];
        self.torn |= !written.is_empty() && !written.ends_with(b"\n");
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.counters.written.fetch_add(count(written), Ordering::Relaxed);
        self.settle(&outcome);
        count(rest)
    }

    fn reopen(&mut self) {
        let Sink::File { path, .. } = &self.sink else { return };
        match Sink::open(path) {
            Ok(sink) => {
                self.sink = sink;
                self.torn = false;
                self.settle(&Ok(()));
            }
            // What is open goes on, so that nothing is lost meanwhile.
            Err(error) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!("the audit log goes on in the old file: {error}");
            }
        }
    }

    /// Notes how it went, and says so when that changes or has been bad for long.
    fn settle(&mut self, outcome: &io::Result<()>) {
        self.counters.note(outcome);
        match outcome {
            Ok(()) => {
                if self.complained.take().is_some() {
                    tracing::info!("the audit log is written again");
                }
            }
            Err(error) => {
                if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL) {
                    self.complained = Some(Instant::now());
                    tracing::error!(%error, "the audit log cannot be written; its events are lost and counted");
                }
            }
        }
    }
}
