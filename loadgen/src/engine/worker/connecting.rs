//! The part of a thread's loop that makes connection attempts by a plan.

use std::time::Duration;

use shardcast_wire::frame::OpCode;

use super::{Conn, GOING, State, Worker, client_frame};
use crate::engine::attempts::Tally;
use crate::scenario::{Connect, Goodbye};
use crate::sys::now_ns;

/// Time between two looks at attempts that take too long.
pub(super) const OVERDUE_INTERVAL: Duration = Duration::from_millis(100);
/// Longest text of a refusal that is kept.
const REFUSAL_CHARS_MAX: usize = 120;

impl Worker {
    /// How many members this thread should have.
    pub(super) fn members_wanted(&self) -> usize {
        match &self.attempts {
            Some(attempts) if self.goodbye().is_some() => attempts.in_flight().min(self.wanted()),
            _ => self.wanted(),
        }
    }

    /// Begins what is due: no more than may be under way, for those that fail at once are queued again at once.
    pub(super) fn start_attempts(&mut self) {
        let allowed = u32::try_from(self.wanted()).unwrap_or(u32::MAX);
        for _ in 0..self.queue.len() {
            let (now_ns, Some(attempts)) = (now_ns(), &mut self.attempts) else { return };
            if !attempts.is_due(allowed, now_ns) {
                return;
            }
            let member = self.queue.pop_front().expect("one for each round");
            attempts.begin(member, now_ns);
            self.open(member);
        }
    }

    /// Gives up attempts that take too long.
    pub(super) fn end_overdue(&mut self) {
        let (now_ns, longest) = (now_ns(), self.settings.clients.patience);
        for member in 0..self.conns.len() {
            let what = match self.conns[member].state {
                State::Connecting => "timed out: no connection",
                State::Upgrading => "timed out: no answer to the upgrade",
                State::LoggingIn => "timed out: not live",
                State::Leaving => "timed out: the server did not end the connection",
                State::Live | State::Queued | State::Closed => continue,
            };
            if self.attempts.as_ref().is_some_and(|attempts| attempts.is_overdue(member, longest, now_ns)) {
                self.close(member, what);
            }
        }
    }

    /// Books that a member is live.
    pub(super) fn attempt_is_live(&mut self, member: usize) {
        let stays = self.goodbye().is_none();
        if let Some(attempts) = &mut self.attempts {
            attempts.live(member, stays, now_ns());
        }
    }

    /// A live member leaves, when that is the plan.
    pub(super) fn say_goodbye(&mut self, member: usize) {
        let Some(goodbye) = self.goodbye().filter(|_| self.conns[member].state == State::Live) else {
            return;
        };
        self.counts.live -= 1;
        self.conns[member].state = State::Leaving;
        match goodbye {
            Goodbye::Clean => self.send(member, &client_frame(OpCode::Close, &GOING)),
            Goodbye::Reset => match self.conns[member].end_with_reset() {
                Ok(()) => self.gone(member, false),
                Err(error) => self.close(member, &format!("cannot be reset: {error}")),
            },
        }
    }

    /// The server refused a login: there is nothing to wait for.
    pub(super) fn attempt_is_refused(&mut self, member: usize, text: &[u8]) {
        let text: String = String::from_utf8_lossy(text).chars().take(REFUSAL_CHARS_MAX).collect();
        self.close(member, &format!("login refused: {text}"));
    }

    /// The stream is over: as it should be after a goodbye from both sides, else a fault.
    pub(super) fn ended(&mut self, member: usize, reason: &str) {
        let conn = &self.conns[member];
        if conn.state == State::Leaving && conn.is_bid_goodbye {
            self.gone(member, false);
        } else {
            self.close(member, reason);
        }
    }

    /// A member that said goodbye is gone; it makes the next attempt.
    pub(super) fn gone(&mut self, member: usize, is_lost: bool) {
        self.conns[member] = Conn::queued();
        self.queue.push_back(member);
        if let Some(attempts) = &mut self.attempts {
            attempts.left(is_lost, now_ns());
        }
    }

    /// Books the end of a connection with a plan, which was `was`.
    pub(super) fn end_attempt(&mut self, member: usize, was: State) {
        let makes_another = self.goodbye().is_some();
        let Some(attempts) = &mut self.attempts else { return };
        match was {
            State::Closed | State::Queued => {}
            State::Leaving => {
                self.counts.lost += 1;
                self.gone(member, true);
            }
            State::Live => {
                attempts.lost();
                self.counts.live -= 1;
                self.counts.lost += 1;
            }
            State::Connecting | State::Upgrading | State::LoggingIn => {
                attempts.failed(now_ns());
                self.counts.opening -= 1;
                self.counts.failed += 1;
                if makes_another {
                    self.conns[member] = Conn::queued();
                    self.queue.push_back(member);
                }
            }
        }
    }

    /// What became of the attempts; those that are not over have failed.
    pub(super) fn take_attempts(&mut self) -> Option<Tally> {
        self.attempts.as_ref()?;
        for member in 0..self.conns.len() {
            if !matches!(self.conns[member].state, State::Live | State::Queued | State::Closed) {
                self.close(member, "not over at the end of the run");
            }
        }
        self.attempts.as_mut().map(|attempts| attempts.take())
    }

    fn goodbye(&self) -> Option<Goodbye> {
        self.settings.connect.and_then(|Connect { goodbye, .. }| goodbye)
    }

    /// The number a member tells the server: every attempt is another client's.
    pub(super) fn client(&self, member: usize) -> u32 {
        match &self.attempts {
            Some(attempts) => self.connection(attempts.number_of(member) as usize),
            None => self.connection(member),
        }
    }
}
