//! The state of the link to Redis: written by its two connections, read by everyone else.
//!
//! The link is **up** while the subscriber is subscribed and the publisher connected. A loss is logged once and so is
//! the recovery, whatever the number of attempts between them.
//!
//! Invariants: `queued_bytes <= QUEUE_BYTES_MAX`; the generation never goes back.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::RedisStatus;
use super::canary::Canary;
use super::trouble::Trouble;
use crate::status::Status;

/// Bytes that may wait to be published, beside the bound on their number: a full queue of the largest messages the
/// API takes would otherwise be gigabytes.
pub(super) const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Between two warnings that Redis refuses channels, which clients may cause at will.
const CHANNEL_REFUSED_INTERVAL: Duration = Duration::from_secs(60);

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Receives.
    Subscriber,
    /// Sends.
    Publisher,
}

/// What the connections and the handles share.
#[derive(Debug)]
pub(super) struct Link {
    /// Host and port, without credentials.
    address: String,
    canary_interval: Duration,
    status: Arc<Status>,
    accepting: AtomicBool,
    queued_bytes: AtomicUsize,
    canaries_accepted: AtomicU64,
    canary_due: Notify,
    /// Touched when something changes, by canaries and by status pages; never by a message.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subscribed: bool,
    publishing: bool,
    ever_subscribed: bool,
    generation: u64,
    canary: Canary,
    last_trouble: Option<Trouble>,
    /// Classes of trouble that were logged since the link was last up.
    told: u16,
    down_since: Option<Instant>,
    /// When it was last said that Redis refuses a channel.
    channel_refused_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(address: String, canary_interval: Duration, status: Arc<Status>) -> Self {
        Self {
            address,
            canary_interval,
            status,
            accepting: AtomicBool::new(false),
            queued_bytes: AtomicUsize::new(0),
            canaries_accepted: AtomicU64::new(0),
            canary_due: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Counters of the process.
    pub(super) fn counters(&self) -> &crate::status::ProcessCounters {
        &self.status.process
    }

    /// Whether messages are taken for publishing.
    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Acquire)
    }

    /// Takes messages no more, as the process ends.
    pub(super) fn stop_accepting(&self) {
        self.accepting.store(false, Ordering::Release);
    }

    /// Reserves room for a message; `false` when the queue holds too many bytes.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let grown = |queued: usize| queued.checked_add(bytes).filter(|&sum| sum <= QUEUE_BYTES_MAX);
        self.queued_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    /// Gives the room of a message back.
    pub(super) fn release(&self, bytes: usize) {
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A connection works.
    pub(super) fn up(&self, half: Half) {
        let mut state = self.state();
        match half {
            Half::Subscriber => {
                state.subscribed = true;
                if std::mem::replace(&mut state.ever_subscribed, true) {
                    state.generation += 1;
                    self.counters().redis_gaps.fetch_add(1, Ordering::Relaxed);
                }
            }
            Half::Publisher => {
                state.publishing = true;
                self.accepting.store(true, Ordering::Release);
            }
        }
        if !(state.subscribed && state.publishing) {
            return;
        }
        state.last_trouble = None;
        self.canary_due.notify_one();
        let (address, generation) = (&self.address, state.generation);
        match state.down_since.take() {
            _ if std::mem::take(&mut state.told) == 0 => tracing::info!(%address, "connected to Redis"),
            since => {
                let away = since.map_or(Duration::ZERO, |at| at.elapsed());
                tracing::info!(%address, generation, ?away, "Redis is back; messages of other instances arrive again");
            }
        }
    }

    /// A connection was lost, or an attempt to make it failed.
    pub(super) fn down(&self, half: Half, trouble: Trouble) {
        let mut state = self.state();
        match half {
            Half::Subscriber => state.subscribed = false,
            Half::Publisher => {
                state.publishing = false;
                self.accepting.store(false, Ordering::Release);
            }
        }
        state.canary.forget();
        state.down_since.get_or_insert_with(Instant::now);
        self.tell(
            &mut state,
            trouble,
            "Redis cannot be used; messages stay on this instance and those of others are missed until it can",
        );
    }

    /// Redis refuses a message on a connection that works otherwise.
    pub(super) fn refused(&self, trouble: Trouble) {
        self.tell(
            &mut self.state(),
            trouble,
            "Redis refuses to publish a message; it stays on this instance",
        );
    }

    /// Redis refuses a channel. As clients choose those, it is no trouble of the link's: it must neither look like one nor
    /// have a real one go unsaid.
    pub(super) fn channel_refused(&self, now: Instant) {
        let told_at = &mut self.state().channel_refused_at;
        if told_at.is_none_or(|at| now.saturating_duration_since(at) >= CHANNEL_REFUSED_INTERVAL) {
            *told_at = Some(now);
            tracing::warn!(
                address = %self.address,
                "Redis refuses to subscribe a channel, whose messages are missed, or to unsubscribe one; should clients \
                 have that channel, let the ACL of redis.url's user have it"
            );
        }
    }

    fn tell(&self, state: &mut State, trouble: Trouble, what: &'static str) {
        state.last_trouble = Some(trouble);
        let address = &self.address;
        if state.told & trouble.class() == 0 {
            state.told |= trouble.class();
            tracing::warn!(%address, because = %trouble, "{what}");
        } else {
            tracing::debug!(%address, because = %trouble, "{what}");
        }
    }

    /// The message of the canary that goes out now.
    pub(super) fn canary_sent(&self) -> u64 {
        self.state().canary.send(Instant::now())
    }

    /// Redis took a canary.
    pub(super) fn canary_accepted(&self) {
        self.canaries_accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// How many canaries Redis took.
    pub(super) fn canaries_accepted(&self) -> u64 {
        self.canaries_accepted.load(Ordering::Relaxed)
    }

    /// A message came on the canary channel.
    pub(super) fn canary_heard(&self, message: &[u8]) {
        self.state().canary.hear(message, Instant::now());
    }

    /// Waits until a canary should go out before its interval is over, so that readiness turns green at once.
    pub(super) async fn canary_wanted(&self) {
        self.canary_due.notified().await;
    }

    /// For operators.
    pub(super) fn status(&self) -> RedisStatus {
        let state = self.state();
        let connected = state.subscribed && state.publishing;
        RedisStatus {
            connected,
            ready: connected && state.canary.is_fresh(Instant::now(), self.canary_interval),
            generation: state.generation,
            last_error: state.last_trouble,
            canary_rtt: state.canary.rtt(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic, so a poisoned state is a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        let status = Arc::new(Status::new(Instant::now(), "epoll", 1));
        Link::new("127.0.0.1:6379".to_owned(), Duration::from_secs(5), status)
    }

    /// Keeps the levels of what is logged.
    #[derive(Clone, Default)]
    struct Levels(Arc<Mutex<Vec<tracing::Level>>>);

    impl tracing::Subscriber for Levels {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().expect("no test panics here").push(*event.metadata().level());
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn attack_81_an_outage_is_one_line_at_its_start_and_one_at_its_end() {
        let levels = Levels::default();
        // While there is one subscriber only, tracing asks the thread that first comes by a line whether it matters, and
        // the threads of other tests have none.
        let _second = tracing::Dispatch::new(levels.clone());
        tracing::subscriber::with_default(levels.clone(), || {
            let link = link();
            link.up(Half::Publisher);
            link.up(Half::Subscriber);
            for half in [Half::Subscriber, Half::Publisher] {
                link.down(half, Trouble::Lost);
            }
            for _ in 0..1_000 {
                link.down(Half::Publisher, Trouble::Unreachable(std::io::ErrorKind::ConnectionRefused));
                link.down(Half::Subscriber, Trouble::Timeout);
            }
            link.down(Half::Subscriber, Trouble::Loading);
            link.down(Half::Publisher, Trouble::Loading);
            link.up(Half::Publisher);
            link.up(Half::Subscriber);
        });
        let mut levels = std::mem::take(&mut *levels.0.lock().expect("no test panics here"));
        levels.retain(|level| *level != tracing::Level::DEBUG);
        let (info, warn) = (tracing::Level::INFO, tracing::Level::WARN);
        // Connected; away; away for a reason that an operator may have to act on; back.
        assert_eq!(levels, [info, warn, warn, info]);
    }

    #[test]
    fn a_channel_that_is_refused_is_no_trouble_of_the_link_and_hides_none() {
        let levels = Levels::default();
        let _second = tracing::Dispatch::new(levels.clone());
        tracing::subscriber::with_default(levels.clone(), || {
            let (link, start) = (link(), Instant::now());
            link.up(Half::Publisher);
            link.up(Half::Subscriber);
            for millisecond in 0..=60_000 {
                link.channel_refused(start + Duration::from_millis(millisecond));
            }
            assert_eq!(link.status().last_error, None);
            link.refused(Trouble::Forbidden);
            assert_eq!(link.status().last_error, Some(Trouble::Forbidden));
        });
        let levels = std::mem::take(&mut *levels.0.lock().expect("no test panics here"));
        let (info, warn) = (tracing::Level::INFO, tracing::Level::WARN);
        assert_eq!(levels, [info, warn, warn, warn], "one a minute, and the real one");
    }

    fn gaps(link: &Link) -> u64 {
        link.counters().redis_gaps.load(Ordering::Relaxed)
    }

    #[test]
    fn a_gap_is_a_resubscription_and_nothing_else() {
        let link = link();
        link.down(Half::Subscriber, Trouble::Lost);
        link.up(Half::Subscriber);
        link.up(Half::Publisher);
        assert_eq!((link.status().generation, gaps(&link)), (0, 0), "the first subscription is no gap");
        link.down(Half::Publisher, Trouble::Lost);
        link.up(Half::Publisher);
        assert_eq!(
            (link.status().generation, gaps(&link)),
            (0, 0),
            "the publisher has no subscription to lose"
        );
        for generation in 1..4 {
            link.down(Half::Subscriber, Trouble::Lost);
            link.down(Half::Subscriber, Trouble::Timeout);
            link.up(Half::Subscriber);
            assert_eq!((link.status().generation, gaps(&link)), (generation, generation));
        }
    }

    #[test]
    fn ready_takes_both_connections_and_a_canary_since_the_last_loss() {
        let link = link();
        let canary = |link: &Link| link.canary_heard(link.canary_sent().to_string().as_bytes());
        link.up(Half::Publisher);
        canary(&link);
        assert!(!link.status().connected && !link.status().ready);
        link.up(Half::Subscriber);
        assert!(link.status().connected && link.status().ready);
        link.down(Half::Subscriber, Trouble::Silent);
        assert_eq!(link.status().last_error, Some(Trouble::Silent));
        link.up(Half::Subscriber);
        assert_eq!(link.status().last_error, None);
        assert!(
            link.status().connected && !link.status().ready,
            "a canary from before the loss proves nothing"
        );
        canary(&link);
        assert!(link.status().ready);
    }

    #[test]
    fn messages_are_taken_only_while_the_publisher_is_connected_and_has_room() {
        let link = link();
        assert!(!link.is_accepting());
        link.up(Half::Publisher);
        assert!(link.is_accepting());
        link.down(Half::Publisher, Trouble::Lost);
        assert!(!link.is_accepting());
        assert!(link.reserve(QUEUE_BYTES_MAX));
        assert!(!link.reserve(1));
        assert!(!link.reserve(usize::MAX));
        link.release(1);
        assert!(link.reserve(1));
    }
}
