//! The part of a thread's loop that makes trouble on purpose: members who leave and come back, or read slowly.

use shardcast_wire::frame::OpCode;

use super::{Conn, GOING, State, Worker, client_frame};
use crate::sys::now_ns;

impl Worker {
    /// One member says goodbye, and comes back.
    pub(super) fn depart(&mut self) {
        for _ in 0..self.conns.len() {
            let member = self.pace.departure_at % self.conns.len();
            self.pace.departure_at = member + 1;
            if self.conns[member].state == State::Live && !self.settings.is_slow(self.connection(member)) {
                self.send(member, &client_frame(OpCode::Close, &GOING));
                return self.leave(member);
            }
        }
    }

    /// A share of the members loses its connection at once, as when a network breaks.
    pub(super) fn break_out(&mut self) {
        let Some(storm) = self.settings.clients.storm else { return };
        let live = self.conns.iter().filter(|conn| conn.state == State::Live).count();
        let mut left = (live as f64 * storm.share).round() as usize;
        for member in 0..self.conns.len() {
            if left > 0 && self.conns[member].state == State::Live {
                left -= 1;
                self.leave(member);
            }
        }
    }

    /// Closes a live connection on purpose and queues it to be opened again.
    fn leave(&mut self, member: usize) {
        if self.conns[member].state != State::Live {
            return;
        }
        self.counts.live -= 1;
        self.slow.retain(|slow| *slow != member);
        self.queue_again(member);
    }

    /// Queues a member that was live to come back; what it misses until then is excused.
    pub(super) fn queue_again(&mut self, member: usize) {
        self.conns[member] = Conn::queued();
        self.books.ledger.leave(member);
        self.away.insert(member, now_ns());
        self.queue.push_back(member);
    }

    /// Reads what slow connections may have read in so many seconds.
    pub(super) fn read_slowly(&mut self, secs: f64) {
        let most = (self.settings.clients.slow.bytes_per_second as f64 * secs).ceil() as usize;
        for member in std::mem::take(&mut self.slow) {
            self.readable(member, most);
            if self.conns[member].state == State::Live {
                self.slow.push(member);
            }
        }
    }

    pub(super) fn is_read_slowly(&self, member: usize) -> bool {
        !self.slow.is_empty()
            && self.conns[member].state == State::Live
            && self.settings.is_slow(self.connection(member))
    }
}
