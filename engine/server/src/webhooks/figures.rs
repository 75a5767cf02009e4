//! What is counted about webhooks, for metrics and health. Every label is one of a few names.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Defines an enum whose values index arrays of counters and have names for labels.
macro_rules! labels {
    ($(#[doc = $enum_doc:literal])+ $label:ident { $(#[doc = $doc:literal] $variant:ident = $name:literal,)+ }) => {
        $(#[doc = $enum_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $label { $(#[doc = $doc] $variant,)+ }

        impl $label {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its label.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

labels! {
    /// What became of a request that was sent.
    Outcome {
        /// Yes: let in, or a list of rooms, or the events were taken.
        Accepted = "accepted",
        /// No: 401 or 403 to a question; another 4xx to events, which are not sent again.
        Refused = "refused",
        /// A status that is no answer.
        BadStatus = "bad_status",
        /// A body that is no answer.
        Malformed = "malformed",
        /// A body longer than `answer_bytes_max`.
        TooBig = "too_big",
        /// No whole answer within `timeout`.
        Timeout = "timeout",
        /// No connection, or it broke.
        Unreachable = "unreachable",
    }
}

labels! {
    /// Why a question failed without being sent.
    Unasked {
        /// The breaker is open.
        BreakerOpen = "breaker_open",
        /// `waiting_max` others wait, or `waiting_bytes_max` bytes of them.
        QueueFull = "queue_full",
        /// It waited for longer than `timeout`.
        Overdue = "overdue",
    }
}

labels! {
    /// What became of an event.
    Told {
        /// The application took it.
        Delivered = "delivered",
        /// Too many waited.
        QueueFull = "queue_full",
        /// The application answered 4xx.
        Rejected = "rejected",
        /// All repetitions failed.
        GaveUp = "gave_up",
    }
}

labels! {
    /// What an event is about.
    EventKind {
        /// A client's message.
        Message = "message",
        /// A client is authenticated.
        Connected = "connected",
        /// A connection is gone.
        Disconnected = "disconnected",
    }
}

/// Counters of one kind of request.
#[derive(Debug, Default)]
pub struct GateFigures {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    unasked: [AtomicU64; Unasked::ALL.len()],
    micros: AtomicU64,
    /// Requests under way.
    pub in_flight: AtomicU64,
    /// Questions that wait for their turn; always 0 for events.
    pub waiting: AtomicU64,
    /// Nothing but a probe is sent.
    pub breaker_open: AtomicBool,
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that ask who a client is.
    pub authenticate: GateFigures,
    /// Requests that ask which rooms it may join.
    pub rooms: GateFigures,
    /// Requests with events.
    pub events: GateFigures,
    told: [[AtomicU64; Told::ALL.len()]; EventKind::ALL.len()],
    /// Rooms of answers that nobody asked for.
    pub rooms_ignored: AtomicU64,
    /// Events that wait.
    pub events_waiting: AtomicUsize,
    /// Their bytes.
    pub events_waiting_bytes: AtomicUsize,
}

impl GateFigures {
    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unasked(&self, why: Unasked) {
        self.unasked[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_time(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Requests that ended so.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].load(Ordering::Relaxed)
    }

    /// Questions that were not asked.
    pub fn unasked(&self, why: Unasked) -> u64 {
        self.unasked[why as usize].load(Ordering::Relaxed)
    }

    /// What all requests took together, in seconds.
    pub fn seconds(&self) -> f64 {
        Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64()
    }
}

impl Figures {
    /// The kinds of requests with their labels.
    pub fn gates(&self) -> [(&'static str, &GateFigures); 3] {
        [("authenticate", &self.authenticate), ("rooms", &self.rooms), ("events", &self.events)]
    }

    pub(super) fn count_told(&self, kind: EventKind, told: Told) {
        self.told[kind as usize][told as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Events that ended so.
    pub fn told(&self, kind: EventKind, told: Told) -> u64 {
        self.told[kind as usize][told as usize].load(Ordering::Relaxed)
    }

    /// The kinds of requests whose breaker is open.
    pub fn open_breakers(&self) -> Vec<&'static str> {
        let open = |(_, gate): &(&str, &GateFigures)| gate.breaker_open.load(Ordering::Relaxed);
        self.gates().into_iter().filter(open).map(|(name, _)| name).collect()
    }
}
