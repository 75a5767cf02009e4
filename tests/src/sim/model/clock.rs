//! What is due when, computed anew each time.

use shardcast_shard::{Dialect, Mount, Now};
use shardcast_wire::close;

use super::super::line::Frame;
use super::super::speech::frame_of;
use super::{Auth, Conn, Model, Phase};

/// What a connection can be due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Handshake,
    Auth,
    Answer,
    Heartbeat,
    Expiry,
    Ping,
    Idle,
    Close,
}

/// Of an idle timeout, the part that is kept for the answer to a ping (`ignis.md` §8: ping at 44 s, end at 60 s).
fn answer_ms(idle_ms: u64) -> u64 {
    match idle_ms {
        10_000 => 4_000,
        16_000 => 8_000,
        60_000 => 16_000,
        _ => panic!("no recorded answer time for an idle timeout of {idle_ms} ms"),
    }
}

impl Model {
    /// Everything a connection will be due for if nothing happens.
    pub(crate) fn deadlines(&self, index: usize) -> Vec<(u64, Due)> {
        let conn = &self.conns[index];
        let mount = &self.config.mounts[conn.mount];
        match conn.phase {
            Phase::Head => vec![(conn.since_ms + self.config.handshake_timeout_ms, Due::Handshake)],
            Phase::Closing | Phase::Lingering => {
                vec![(conn.since_ms + self.config.close_timeout_ms, Due::Close)]
            }
            Phase::Gone => Vec::new(),
            Phase::Open => {
                if let Dialect::Topic(settings) = &mount.dialect {
                    return conn.topic_deadlines(settings, mount.idle_timeout_ms);
                }
                let mut deadlines = idle(conn, mount);
                if let Dialect::Ignis(settings) = &mount.dialect {
                    deadlines.push(match conn.auth {
                        Auth::None => (conn.since_ms + settings.auth_timeout_ms, Due::Auth),
                        Auth::Asked => (conn.since_ms + 3 * settings.auth_timeout_ms, Due::Auth),
                        Auth::Done => {
                            let silent_ms = conn.activity_ms + settings.heartbeat_timeout_ms - self.origin_ms;
                            let sweeps = silent_ms / settings.heartbeat_interval_ms + 1;
                            (self.origin_ms + sweeps * settings.heartbeat_interval_ms, Due::Heartbeat)
                        }
                    });
                    let expires_ms = conn.expires_ms.filter(|_| conn.auth == Auth::Done);
                    deadlines.extend(expires_ms.map(|at_ms| (at_ms, Due::Expiry)));
                }
                deadlines
            }
        }
    }

    /// The shard closed a connection when its clock moved: is there a reason?
    pub(crate) fn close_as_due(&mut self, index: usize, is_draining: bool, is_drained: bool, now: Now) {
        if self.conns[index].phase == Phase::Head {
            assert!(self.is_due(index, Due::Handshake, now), "connection {index} is closed and not due");
            self.close_with(index, Frame::http(408, None), now);
            return;
        }
        if self.topics(index).is_some() {
            return self.close_topic_as_due(index, is_drained, now);
        }
        let reasons = [
            (self.is_due(index, Due::Auth, now), &close::AUTHENTICATION_TIMEOUT),
            (self.is_due(index, Due::Heartbeat, now), &close::HEARTBEAT_TIMEOUT),
            (self.is_due(index, Due::Expiry, now), &close::TOKEN_EXPIRED),
            (is_draining, &close::SERVER_SHUTTING_DOWN),
        ];
        let closes: Vec<_> =
            reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, code)| frame_of(code).into()).collect();
        assert!(!closes.is_empty(), "connection {index} is closed and not due: {:?}", self.deadlines(index));
        self.close_with(index, Frame::either(closes), now);
    }

    /// The shard dropped a connection when its clock moved: is there a reason?
    pub(crate) fn drop_as_due(&mut self, index: usize, is_draining: bool, now: Now) {
        let is_due = self.is_due(index, Due::Idle, now) || self.is_due(index, Due::Close, now);
        let is_drained = is_draining && self.conns[index].phase == Phase::Head;
        assert!(is_due || is_drained, "connection {index} is dropped, due {:?}", self.deadlines(index));
        self.drop_conn(index);
    }

    /// The shard pinged a connection when its clock moved: is there a reason?
    pub(crate) fn ping_as_due(&mut self, index: usize, now: Now) {
        assert!(self.is_due(index, Due::Ping, now), "connection {index} is pinged and not due");
        let settings = self.topics(index);
        let conn = &mut self.conns[index];
        conn.turn.push(Frame::control(&[0x89, 0][..]));
        if let Some(settings) = settings {
            conn.topic.keep_beat(settings.ping_interval_ms, now);
            return;
        }
        conn.traffic_ms = now.ms;
        conn.ping_out = true;
    }

    pub(super) fn is_due(&self, index: usize, due: Due, now: Now) -> bool {
        self.deadlines(index).iter().any(|&(at_ms, what)| what == due && at_ms <= now.ms)
    }
}

fn idle(conn: &Conn, mount: &Mount) -> Vec<(u64, Due)> {
    let idle_ms = mount.idle_timeout_ms;
    match (idle_ms, mount.send_pings) {
        (0, _) => Vec::new(),
        (_, false) => vec![(conn.traffic_ms + idle_ms, Due::Idle)],
        (_, true) if conn.ping_out => vec![(conn.traffic_ms + answer_ms(idle_ms), Due::Idle)],
        (_, true) => vec![(conn.traffic_ms + idle_ms - answer_ms(idle_ms), Due::Ping)],
    }
}
