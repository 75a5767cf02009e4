//! Requests of one connection that are not answered, in the order in which they came.
//!
//! Invariants: there is at least one; `context_bytes` is the sum of what they hold; everything behind a request that
//! may change who the client is waits for it untouched.

use std::collections::VecDeque;
use std::sync::Arc;

use shardcast_wire::close::CloseCode;

/// Bytes of tokens and topics that one connection may have waiting; more end it, which is counted as
/// `requests_overrun`.
pub const CONTEXT_BYTES_MAX: usize = 256 << 10;

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum State {
    /// A token that nobody was asked about.
    Authorize,
    /// The hooks are asked who this is; `is_silent` when the client did not ask for it.
    Authorizing { is_silent: bool },
    /// A good token: the hooks are asked which of its topics the client keeps.
    Revalidating,
    /// A topic that nobody was asked about.
    Subscribe,
    /// The same, looked at before its turn and left for it.
    Postponed,
    /// The hooks are asked for the topic.
    Asked,
    /// The topic is granted; its channel is about to be listened to.
    Listening(Arc<str>),
    /// The topic is granted, and its channel listened to: an [`crate::Effect::Listen`] is to be settled.
    Granted(Arc<str>),
    /// It is not done, and answered so.
    Refused,
    /// It is no request, and ends the connection.
    Broken(&'static CloseCode),
    /// A topic to leave.
    Unsubscribe,
    /// It was answered.
    Answered,
}

impl State {
    /// Whether nothing behind it can be looked at: it may change who the client is, or end it.
    fn is_barrier(&self) -> bool {
        matches!(self, Self::Authorize | Self::Authorizing { .. } | Self::Revalidating | Self::Broken(_))
    }

    /// Whether the client may come to be in one more room by it.
    fn may_join(&self) -> bool {
        use State::{Asked, Granted, Listening, Postponed, Subscribe};
        matches!(self, Subscribe | Postponed | Asked | Listening(_) | Granted(_))
    }

    /// The channel of an [`crate::Effect::Listen`] that is not settled.
    pub(super) fn listens_to(&self) -> Option<&Arc<str>> {
        match self {
            Self::Listening(channel) | Self::Granted(channel) => Some(channel),
            _ => None,
        }
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Request {
    /// The token of [`State::Authorize`], or the topic.
    pub(super) context: String,
    pub(super) state: State,
}

/// All of them, while there are any.
#[derive(Debug)]
pub struct Requests {
    waiting: VecDeque<Request>,
    context_bytes: usize,
    since_ms: u64,
    /// The hooks are asked for topics: one question at a time, since their answer does not say to which it belongs.
    pub(super) is_asking: bool,
}

impl Requests {
    /// With the first, which begins to wait.
    pub(super) fn new(first: Request, is_asking: bool, now_ms: u64) -> Self {
        let context_bytes = first.context.len();
        Self { waiting: [first].into(), context_bytes, since_ms: now_ms, is_asking }
    }

    /// Since when the first is the first, ms.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Bytes of tokens and topics.
    pub fn context_bytes(&self) -> usize {
        self.context_bytes
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, request: Request) {
        self.context_bytes += request.context.len();
        self.waiting.push_back(request);
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut Request> {
        self.waiting.front_mut()
    }

    /// The first is answered: it is the next one's turn.
    pub(super) fn pop(&mut self, now_ms: u64) {
        if let Some(done) = self.waiting.pop_front() {
            self.context_bytes -= done.context.len();
            self.since_ms = now_ms;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.waiting.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.waiting.iter_mut()
    }

    /// Topics that may be asked about before their turn, each with how many rooms the client may come into by what is
    /// before it.
    pub(super) fn ahead(&mut self) -> impl Iterator<Item = (usize, &mut Request)> {
        let interpreted = self.waiting.iter_mut().take_while(|request| !request.state.is_barrier());
        let with_joins = interpreted.scan(0, |joins, request| {
            let before = *joins;
            *joins += usize::from(request.state.may_join());
            Some((before, request))
        });
        with_joins.filter(|(_, request)| matches!(request.state, State::Subscribe))
    }
}

#[cfg(any(test, feature = "check"))]
impl Requests {
    /// Whether its sums are those of its requests; returns the channels whose [`crate::Effect::Listen`] is not settled.
    pub(crate) fn audit(&self) -> impl Iterator<Item = &Arc<str>> {
        assert!(!self.is_empty(), "a queue of requests has some");
        let bytes: usize = self.iter().map(|request| request.context.len()).sum();
        assert_eq!(self.context_bytes, bytes, "bytes of requests");
        let asked = self.iter().any(|request| matches!(request.state, State::Asked | State::Revalidating));
        assert_eq!(self.is_asking, asked, "whether the hooks are asked for topics: {self:?}");
        let barrier = self.iter().position(|request| request.state.is_barrier());
        let behind = self.iter().skip(barrier.map_or(usize::MAX, |at| at + 1));
        let is_untouched = |request: &Request| {
            use State::{Authorize, Broken, Refused, Subscribe, Unsubscribe};
            matches!(request.state, Authorize | Broken(_) | Refused | Subscribe | Unsubscribe)
        };
        assert!(behind.into_iter().all(is_untouched), "what waits for an authorization: {self:?}");
        self.iter().filter_map(|request| request.state.listens_to())
    }
}
