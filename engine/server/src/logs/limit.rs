//! At most so many lines a second from one place in the code.
//!
//! Peers choose how often a place is reached; nobody reads the thousandth line, and writing it costs a shard's time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place in one second.
pub(super) const LINES_PER_SECOND_MAX: u32 = 50;

/// Counts lines by place. Bounded by the number of places in the binary.
#[derive(Clone, Default)]
pub(super) struct Limiter(Arc<Mutex<HashMap<Identifier, Place>>>);

struct Place {
    metadata: &'static Metadata<'static>,
    second: Instant,
    lines: u32,
    suppressed: u64,
}

impl Limiter {
    /// Whether one more line of this place may be written.
    fn admit(&self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Place { metadata, second: now, lines: 0, suppressed: 0 };
        let place = places.entry(metadata.callsite()).or_insert_with(new);
        if now.duration_since(place.second) >= Duration::from_secs(1) {
            (place.second, place.lines) = (now, 0);
        }
        let admitted = place.lines < LINES_PER_SECOND_MAX;
        place.lines += u32::from(admitted);
        place.suppressed += u64::from(!admitted);
        admitted
    }

    /// Places of which lines were left out since the last call, and how many.
    pub(super) fn take_suppressed(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = places.values_mut().map(|place| (place.metadata, std::mem::take(&mut place.suppressed)));
        taken.filter(|(_, count)| *count > 0).collect()
    }
}

impl<S> Filter<S> for Limiter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.admit(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{Layer, Registry};

    /// Counts the events that reach it.
    #[derive(Clone, Default)]
    struct Count(Arc<std::sync::atomic::AtomicU32>);

    impl<S: tracing::Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[test]
    fn attack_81_a_flood_from_one_place_leaves_room_for_others_and_is_told() {
        let (limiter, count) = (Limiter::default(), Count::default());
        let subscriber = Registry::default().with(count.clone().with_filter(limiter.clone()));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..10_000 {
                tracing::error!("flood");
            }
            tracing::error!("another place");
        });
        let written = count.0.load(std::sync::atomic::Ordering::Relaxed);
        let suppressed = limiter.take_suppressed();
        let left_out: u64 = suppressed.iter().map(|(_, count)| count).sum();
        assert_eq!(u64::from(written) + left_out, 10_001);
        // The loop may take a second on a busy machine.
        assert!(written <= 5 * LINES_PER_SECOND_MAX, "{written}");
        assert_eq!(suppressed.len(), 1);
        assert_eq!(limiter.take_suppressed().len(), 0);
    }

    #[test]
    fn the_next_second_begins_anew() {
        let limiter = Limiter::default();
        let now = Instant::now();
        tracing::subscriber::with_default(Registry::default(), || {
            let place = tracing::span!(tracing::Level::ERROR, "place");
            seconds(&limiter, place.metadata().expect("it is enabled"), now);
        });
    }

    fn seconds(limiter: &Limiter, place: &'static Metadata<'static>, now: Instant) {
        let admitted = |at: Instant| (0..200).filter(|_| limiter.admit(place, at)).count();
        let later = now + Duration::from_millis(999);
        assert_eq!((admitted(now), admitted(later)), (50, 0));
        assert_eq!(admitted(now + Duration::from_secs(1)), 50);
        assert_eq!(limiter.take_suppressed().iter().map(|(_, count)| count).sum::<u64>(), 150 + 200 + 150);
    }
}
