//! What a connection is due for, computed from its state when its timer fires.

use crate::burst::FrameKind;
use crate::conn::{Auth, Conn, NEVER_MS, Phase};
use crate::event::Now;
use crate::ids::ConnId;
use crate::limits::{Dialect, IgnisSettings, Mount, ShardConfig, TopicSettings};
use crate::shard::Shard;
use crate::topic;
use bytes::Bytes;
use shardcast_wire::{close, frame, http};

/// Why a connection's timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// The request head did not end.
    Handshake,
    /// Not authenticated, or the hooks did not answer, in time.
    Auth,
    /// The client was silent at a sweep.
    Heartbeat,
    /// What it authenticated with is over.
    Expiry,
    /// A request of the topic dialect was not answered in time.
    Answer,
    /// The topic dialect pings on its beat.
    Beat,
    /// Ask for a sign of life.
    Ping,
    /// None came.
    Idle,
    /// The peer did not finish closing.
    Close,
}

/// The share of the idle timeout kept for the answer to a ping, milliseconds: Bun's rule, observed
/// (`ignis.md` §8), in milliseconds and without its 4 s ticks.
fn pong_wait_ms(idle_timeout_ms: u64) -> u64 {
    if idle_timeout_ms < 8_000 {
        return idle_timeout_ms / 2;
    }
    let mut wait_ms = 4_000;
    while wait_ms < 16_000 && idle_timeout_ms >= 4 * wait_ms {
        wait_ms *= 2;
    }
    wait_ms
}

/// The first sweep at which a client last heard of at `last_ms` is over the timeout.
fn sweep_ms(settings: &IgnisSettings, origin_ms: u64, last_ms: u64) -> u64 {
    let over_ms = last_ms + settings.heartbeat_timeout_ms + 1;
    let interval_ms = settings.heartbeat_interval_ms.max(1);
    origin_ms + over_ms.saturating_sub(origin_ms).div_ceil(interval_ms) * interval_ms
}

fn idle_deadline(conn: &Conn, mount: &Mount) -> Option<(u64, Due)> {
    let idle_ms = mount.idle_timeout_ms;
    let asks = mount.send_pings && !mount.is_topic();
    match (idle_ms, asks, conn.ping_out) {
        (0, ..) => None,
        (_, false, _) => Some((conn.last_traffic_ms + idle_ms, Due::Idle)),
        (_, true, false) => Some((conn.last_traffic_ms + idle_ms - pong_wait_ms(idle_ms), Due::Ping)),
        (_, true, true) => Some((conn.last_traffic_ms + pong_wait_ms(idle_ms), Due::Idle)),
    }
}

/// Who is not let in has until the authentication timeout, and a request three times as long for its answer: hooks
/// and Redis may be slow, and a verdict that is lost must not silence a client for ever.
fn topic_deadline(conn: &Conn, settings: &TopicSettings) -> (u64, Due) {
    let is_in = conn.auth == Auth::Authenticated;
    let answer = conn.requests.as_deref().map(|requests| {
        let due = if is_in { Due::Answer } else { Due::Auth };
        (requests.since_ms() + 3 * settings.auth_timeout_ms, due)
    });
    let beat = (conn.last_activity_ms + settings.ping_interval_ms.max(1), Due::Beat);
    match answer {
        Some(answer) if is_in && beat.0 < answer.0 => beat,
        Some(answer) => answer,
        None if is_in => beat,
        None => (conn.since_ms + settings.auth_timeout_ms, Due::Auth),
    }
}

/// The earliest thing the connection is due for.
fn next_deadline(conn: &Conn, config: &ShardConfig, sweep_origin_ms: u64) -> Option<(u64, Due)> {
    let mount = &config.mounts[conn.mount.0 as usize];
    match conn.phase {
        Phase::Head => Some((conn.since_ms + config.handshake_timeout_ms, Due::Handshake)),
        Phase::Closing | Phase::Lingering => Some((conn.since_ms + config.close_timeout_ms, Due::Close)),
        Phase::Gone => None,
        Phase::Open => {
            let auth = match (&mount.dialect, conn.auth) {
                (Dialect::Echo, _) => None,
                (Dialect::Topic(s), _) => Some(topic_deadline(conn, s)),
                (Dialect::Ignis(s), Auth::Unauthorized) => {
                    Some((conn.since_ms + s.auth_timeout_ms, Due::Auth))
                }
                (Dialect::Ignis(s), Auth::Authenticating) => {
                    Some((conn.since_ms + 3 * s.auth_timeout_ms, Due::Auth))
                }
                (Dialect::Ignis(s), Auth::Authenticated) => {
                    Some((sweep_ms(s, sweep_origin_ms, conn.last_activity_ms), Due::Heartbeat))
                }
            };
            let is_in = conn.auth == Auth::Authenticated && conn.expires_ms != NEVER_MS;
            let expiry = is_in.then_some((conn.expires_ms, Due::Expiry));
            let deadlines = auth.into_iter().chain(expiry).chain(idle_deadline(conn, mount));
            deadlines.min_by_key(|&(at_ms, _)| at_ms)
        }
    }
}

impl Shard {
    /// Makes sure the connection's timer fires no later than its next deadline.
    pub(crate) fn arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if let Some((deadline_ms, _)) = next_deadline(conn, &self.config, self.sweep_origin_ms) {
            conn.armed = self.wheel.arm(id, conn.armed, deadline_ms);
        }
    }

    /// Whether the connection's timer fires no later than its next deadline.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn is_armed(&self, id: ConnId, conn: &Conn) -> bool {
        next_deadline(conn, &self.config, self.sweep_origin_ms)
            .is_none_or(|(deadline_ms, _)| self.wheel.fires_in_time(id, conn.armed, deadline_ms))
    }

    /// The connection's timer fired: does what is due, if anything, and arms the next.
    pub(crate) fn act_on_deadline(&mut self, now: Now, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let Some((deadline_ms, due)) = next_deadline(conn, &self.config, self.sweep_origin_ms) else {
            return;
        };
        if deadline_ms <= now.ms {
            self.act(now, id, due);
        }
        self.arm(id);
    }

    fn send_ping(&mut self, id: ConnId) {
        self.counters.pings_sent += 1;
        self.send(id, Bytes::from(frame::encode(frame::OpCode::Ping, &[])), FrameKind::Control);
    }

    fn act(&mut self, now: Now, id: ConnId, due: Due) {
        match due {
            Due::Handshake => {
                self.counters.handshake_timeouts += 1;
                self.close_with(now, id, Bytes::from(http::response(408, &[("Connection", "close")], "")));
            }
            Due::Auth => {
                self.counters.auth_timeouts += 1;
                self.close(now, id, &close::AUTHENTICATION_TIMEOUT);
            }
            Due::Heartbeat => {
                self.counters.heartbeat_timeouts += 1;
                self.close(now, id, &close::HEARTBEAT_TIMEOUT);
            }
            Due::Expiry => {
                self.counters.auth_expired += 1;
                topic::tell_expired(self, id);
                self.close(now, id, &close::TOKEN_EXPIRED);
            }
            Due::Answer => {
                self.counters.requests_timeouts += 1;
                self.close(now, id, &close::REQUEST_TIMEOUT);
            }
            Due::Beat => {
                self.send_ping(id);
                topic::keep_beat(self, now, id);
            }
            Due::Ping => {
                self.send_ping(id);
                let conn = self.conns.get_mut(id).expect("its timer fired");
                conn.last_traffic_ms = now.ms;
                conn.ping_out = true;
            }
            Due::Idle => {
                self.counters.idle_timeouts += 1;
                self.drop_conn(id);
            }
            Due::Close => {
                self.counters.close_timeouts += 1;
                self.drop_conn(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pong_wait_follows_the_recorded_idle_flows() {
        for (idle_s, wait_s) in [(60, 16), (10, 4), (16, 8), (32, 16), (960, 16), (8, 4)] {
            assert_eq!(pong_wait_ms(idle_s * 1_000), wait_s * 1_000, "idle_timeout {idle_s} s");
        }
        assert_eq!(pong_wait_ms(1_000), 500);
    }

    #[test]
    fn the_heartbeat_sweep_is_strict_and_on_its_beat() {
        let settings = IgnisSettings {
            default_rooms: [].into(),
            auth_timeout_ms: 5_000,
            heartbeat_interval_ms: 30_000,
            heartbeat_timeout_ms: 90_000,
            forward_messages: false,
            tell_lifecycle: false,
            encryption: Default::default(),
        };
        for (last_ms, sweep) in [(0, 120_000), (1, 120_000), (29_999, 120_000), (30_000, 150_000)] {
            assert_eq!(sweep_ms(&settings, 0, last_ms), sweep, "last heard of at {last_ms}");
        }
        assert_eq!(sweep_ms(&settings, 500, 500), 120_500);
    }
}
