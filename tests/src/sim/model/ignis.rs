//! What the Ignis dialect makes of a message and of an answer of the hooks (`ignis.md` §4 to §7).

use std::rc::Rc;

use shardcast_shard::event::AuthOutcome;
use shardcast_shard::{Identity, Now, Verdict};
use shardcast_wire::close;
use shardcast_wire::date;
use shardcast_wire::ignis::{Agreement, BROADCAST_ROOM};

use super::super::bytes::{opcode, server_frame};
use super::super::line::Frame;
use super::super::speech::Said;
use super::{Auth, Conn, Model, Phase, Question};

impl Model {
    /// A message of an open Ignis connection. Returns whether the shard must stop to ask.
    pub(super) fn hear_ignis(&mut self, conn: usize, said: &Said, now: Now) -> bool {
        self.conns[conn].activity_ms = now.ms;
        let auth = self.conns[conn].auth;
        match said {
            Said::Ignored | Said::Heartbeat => {}
            Said::Malformed => self.send_error(conn, "Invalid message format"),
            Said::Authenticate(_) if auth != Auth::None => self.send_error(conn, "Already authenticated"),
            Said::Authenticate(data) => {
                let conn = &mut self.conns[conn];
                conn.auth = Auth::Asked;
                conn.since_ms = now.ms;
                conn.asks += 1;
                conn.owed.questions.push_back(Question::Authenticate(data.clone()));
                return true;
            }
            _ if auth != Auth::Done => self.send_error(conn, "Not authenticated"),
            Said::Join(rooms) => return self.ask_to_join(conn, rooms),
            Said::Leave(rooms) => rooms.iter().for_each(|room| self.leave(conn, room)),
            Said::Other(text) => {
                if self.settings(conn).is_some_and(|settings| settings.forward_messages) {
                    self.conns[conn].owed.questions.push_back(Question::Message(text.clone()));
                }
            }
            said => panic!("{said:?} is no message of Ignis"),
        }
        false
    }

    /// The hooks answered.
    pub(crate) fn verdict(&mut self, shard: usize, verdict: &Verdict, now: Now) {
        let (Verdict::Auth { conn: id, .. }
        | Verdict::Rooms { conn: id, .. }
        | Verdict::RoomsFailed { conn: id }
        | Verdict::Listening { conn: id, .. }
        | Verdict::ConnectedFailed { conn: id }) = verdict;
        let conn = self.find(shard, *id);
        if self.topics(conn).is_some() {
            return self.topic_verdict(conn, verdict, now);
        }
        match verdict {
            Verdict::Auth { outcome, .. } => {
                self.conns[conn].asks = self.conns[conn].asks.saturating_sub(1);
                if self.conns[conn].auth != Auth::Asked {
                    return;
                }
                match outcome {
                    AuthOutcome::Accepted(identity) => self.admit(conn, identity, None, now),
                    AuthOutcome::Encrypted(identity, agreement) => {
                        self.admit(conn, identity, Some(agreement), now);
                    }
                    AuthOutcome::Refused(_) => self.turn_away(conn, "Authentication failed", now),
                    AuthOutcome::TooManyConnections => {
                        self.send_error(conn, "Too many connections");
                        self.close(conn, &close::TOO_MANY_CONNECTIONS, now);
                    }
                    AuthOutcome::Failed => self.turn_away(conn, "Authentication error", now),
                }
            }
            Verdict::RoomsFailed { .. } => {
                self.conns[conn].asks = self.conns[conn].asks.saturating_sub(1);
            }
            Verdict::Listening { .. } => panic!("connection {conn} does not speak topic"),
            Verdict::Rooms { rooms, .. } => {
                self.conns[conn].asks = self.conns[conn].asks.saturating_sub(1);
                if self.conns[conn].auth == Auth::Done {
                    rooms.iter().for_each(|room| self.join(conn, room));
                }
            }
            Verdict::ConnectedFailed { .. } => {
                if self.conns[conn].auth == Auth::Done {
                    self.turn_away(conn, "Authentication error", now);
                }
            }
        }
    }

    fn admit(&mut self, index: usize, identity: &Identity, agreement: Option<&Agreement>, now: Now) {
        let settings = self.settings(index).expect("an Ignis connection").clone();
        let conn = &mut self.conns[index];
        conn.auth = Auth::Done;
        conn.user = identity.user.clone();
        conn.expires_ms = identity.expires_unix_ms.map(|at| now.ms + at.saturating_sub(now.unix_ms));
        conn.in_own_room = true;
        conn.rooms.push(BROADCAST_ROOM.to_owned());
        for room in settings.default_rooms.iter() {
            self.join(index, room);
        }
        let conn = &mut self.conns[index];
        let user =
            conn.user.as_ref().map_or(String::new(), |user| format!(r#""userId":{},"#, user.as_json()));
        let time = date::iso_ms(now.unix_ms);
        let keys = agreement
            .map(Agreement::texts)
            .map(|(public_key, salt)| format!(r#","serverPublicKey":"{public_key}","salt":"{salt}""#));
        let keys = keys.unwrap_or_default();
        let data = format!(r#"{{"id":"{}",{user}"time":"{time}"{keys}}}"#, conn.name);
        // Readable, since the client makes its key of it; nothing after it is.
        conn.turn.push(Frame::message(event("connected", &data)));
        conn.cipher = agreement.map(|agreement| Rc::new(agreement.cipher()));
        if settings.tell_lifecycle {
            conn.owed.questions.push_back(Question::Connected(conn.user.clone()));
        }
    }

    fn turn_away(&mut self, conn: usize, text: &str, now: Now) {
        self.send_error(conn, text);
        self.close(conn, &close::AUTHENTICATION_FAILED, now);
    }

    fn ask_to_join(&mut self, conn: usize, rooms: &[String]) -> bool {
        let asks_max = self.config.asks_per_conn_max;
        let conn = &mut self.conns[conn];
        if rooms.is_empty() || conn.asks >= asks_max {
            return false;
        }
        conn.asks += 1;
        conn.owed.questions.push_back(Question::ValidateRooms(rooms.to_vec(), conn.user.clone()));
        true
    }

    fn join(&mut self, index: usize, name: &str) {
        let conn = &self.conns[index];
        let is_broadcast = name == BROADCAST_ROOM;
        let is_there = |other: &Conn| {
            other.shard == conn.shard
                && other.mount == conn.mount
                && other.rooms.iter().any(|room| room == name)
        };
        let may_exist = self.conns.iter().any(is_there) || {
            let rooms_max = self.config.rooms_max;
            rooms_max >= 1_000 || self.rooms_on(conn.shard).len() < rooms_max
        };
        let others = conn.rooms.iter().filter(|room| *room != BROADCAST_ROOM).count();
        let may_enter = is_broadcast || others < self.config.rooms_per_conn_max;
        let conn = &mut self.conns[index];
        if name == conn.name {
            conn.in_own_room = true;
            return;
        }
        conn.broadcast_listed |= is_broadcast;
        if conn.rooms.iter().any(|room| room == name) {
            return;
        }
        if may_exist && may_enter {
            conn.rooms.push(name.to_owned());
        }
    }

    fn leave(&mut self, index: usize, name: &str) {
        let conn = &mut self.conns[index];
        if name == conn.name {
            conn.in_own_room = false;
        } else if name != BROADCAST_ROOM || std::mem::take(&mut conn.broadcast_listed) {
            conn.rooms.retain(|room| room != name);
        }
    }

    fn send_error(&mut self, conn: usize, text: &str) {
        assert_eq!(self.conns[conn].phase, Phase::Open, "only open connections are told errors");
        let conn = &mut self.conns[conn];
        let error = event("error", &format!(r#"{{"message":"{text}"}}"#));
        conn.turn.push(Frame::message_under(conn.cipher.as_ref(), error));
    }
}

fn event(name: &str, data: &str) -> Vec<u8> {
    let text = format!(r#"{{"event":"{name}","data":{data}}}"#);
    server_frame(opcode::TEXT, text.as_bytes())
}
