//! What a shard's thread does: bytes, mail, time, then effects, writes, effects.

use shardcast_shard::flush::Written;
use shardcast_shard::{ConnId, HangUp, Mail, MountId, Query, QueryReply, Verdict};
use shardcast_wire::ignis::BROADCAST_ROOM;

use super::super::fault::Fault;
use super::super::line::Frame;
use super::super::model::Phase;
use super::super::scenario::Action;
use super::{Reply, World};

/// Calls of `handle_tick` that no scenario needs: each looks at thousands of timers.
const TICKS_MAX: usize = 8;

impl World<'_> {
    pub(super) fn act_on_shard(&mut self, action: Action, shard: usize) {
        match action {
            Action::Receive => {
                for _ in 0..self.rng.pick(&[1, 2, 6]) {
                    let readable = |&conn: &usize| self.peers[conn].is_readable();
                    let here: Vec<_> = self.model.on_shard(shard).filter(readable).collect();
                    if !here.is_empty() {
                        let peer = self.rng.pick(&here);
                        self.receive(peer);
                    }
                }
            }
            Action::TakeMail => {
                for _ in 0..self.rng.pick(&[1, 2, 10, 100]) {
                    if !self.take_letter(shard) {
                        break;
                    }
                }
            }
            Action::Writable => self.tell_writable(shard),
            Action::Tick => self.tick(shard),
            Action::Release => self.release_some(shard),
            Action::Effects => self.run_effects(shard),
            Action::Turn => {
                if self.rng.chance(70) {
                    self.tick_if_due(shard);
                }
                self.finish_turn(shard);
            }
            action => panic!("{action:?} is not for a shard"),
        }
        if self.scenario.checks_every_event {
            self.hosts[shard].shard.check_invariants();
        }
    }

    /// The reader of a connection finds bytes, an end or an error.
    fn receive(&mut self, peer: usize) {
        let waiting = self.peers[peer].speaker.bytes.len();
        if waiting > 0 {
            let len = self.rng.pick(&[1, 3, 60, 1_000, waiting, waiting, waiting]).min(waiting);
            self.feed(peer, len);
            return;
        }
        let how = match (self.peers[peer].is_reset, self.peers[peer].is_dropped) {
            (true, false) => HangUp::Error,
            _ => HangUp::Eof,
        };
        self.hang_up(peer, how);
    }

    pub(super) fn receive_all(&mut self, peer: usize) {
        while self.peers[peer].is_readable() {
            match self.peers[peer].speaker.bytes.len() {
                0 => self.receive(peer),
                len => self.feed(peer, len),
            }
        }
    }

    fn hang_up(&mut self, peer: usize, how: HangUp) {
        self.note(|| format!("the reader of {peer} ends: {how:?}"));
        self.model.hang_up(peer, how);
        let (shard, id) = self.place(peer);
        self.hosts[shard].shard.handle_hang_up(id, how);
        self.peers[peer].is_reader_done = true;
    }

    /// Hands bytes to the shard, putting each question as it is raised.
    fn feed(&mut self, peer: usize, len: usize) {
        let (shard, id) = self.place(peer);
        let mut chunk: Vec<u8> = self.peers[peer].speaker.bytes.drain(..len).collect();
        self.note(|| format!("connection {peer} receives {len} bytes"));
        let mut used = 0;
        while used < len {
            self.model.traffic(peer, self.now);
            let step = self.hosts[shard].shard.handle_bytes(self.now, id, &mut chunk[used..]);
            assert!(step > 0 && used + step <= len, "{step} bytes used of {}", len - used);
            used += step;
            self.peers[peer].fed += step as u64;
            let asked = self.hear(peer);
            assert!(used == len || asked, "the shard stops at {used} of {len} bytes and asks nothing");
            if used < len {
                self.run_effects(shard);
            }
        }
        // What comes after a hand-off is the application's, so a driver asks before it reads on.
        if self.rng.chance(50) || self.model.conns[peer].owed.hand_off.is_some() {
            self.run_effects(shard);
        }
    }

    /// Tells the model what became clear. Returns whether the last of it is a question.
    fn hear(&mut self, peer: usize) -> bool {
        let mut asked = false;
        let fed = self.peers[peer].fed;
        while let Some(next) = self.peers[peer].speaker.utterances.pop_front_if(|next| next.at <= fed) {
            assert!(!asked, "the shard goes on to {:?} with a question open", next.said);
            self.note(|| format!("connection {peer} is understood: {:?}", next.said));
            asked = self.model.hear(peer, &next.said, self.now);
            assert!(!asked || next.at == fed, "the shard goes on after {:?}", next.said);
        }
        if self.scenario.input_scarce {
            self.notice_shed(peer);
        }
        asked
    }

    /// With memory for incomplete messages scarce, only the shard knows whose took the last of it.
    fn notice_shed(&mut self, peer: usize) {
        let (shard, id) = self.place(peer);
        let phase = self.hosts[shard].shard.conn(id).map(|conn| conn.phase);
        if phase != Some(shardcast_shard::conn::Phase::Closing) {
            return;
        }
        match self.model.conns[peer].phase {
            Phase::Head => self.model.close_with(peer, Frame::http(503, None), self.now),
            Phase::Open => self.model.close(peer, &shardcast_wire::close::OVERLOADED, self.now),
            _ => {}
        }
    }

    /// Takes the oldest letter of a shard's mailbox, if there is one.
    pub(super) fn take_letter(&mut self, shard: usize) -> bool {
        let Some(mail) = self.hosts[shard].mail.take() else { return false };
        self.note(|| format!("shard {shard} takes {mail:?}"));
        let twin = self.twin_of(&mail);
        let receivers = self.tell_model(shard, &mail);
        if receivers > 0 && self.may_fail(Fault::LoseLetter) {
            self.totals.fault_done = true;
            return true;
        }
        self.hosts[shard].shard.handle_mail(self.now, mail);
        if let Some(twin) = twin.filter(|_| receivers > 0 && self.may_fail(Fault::RepeatLetter)) {
            self.totals.fault_done = true;
            self.hosts[shard].shard.handle_mail(self.now, twin);
        }
        if self.rng.chance(30) {
            self.run_effects(shard);
        }
        true
    }

    /// Returns how many connections the letter reaches.
    fn tell_model(&mut self, shard: usize, mail: &Mail) -> usize {
        match mail {
            Mail::Room { frame, .. }
            | Mail::Broadcast { frame, .. }
            | Mail::Direct { frame, .. }
            | Mail::User { frame, .. } => {
                let number = self.hosts[shard].posted.pop_front().expect("a letter was posted");
                self.publications[number].settle(number, frame);
                let receivers = self.model.deliver(shard, &self.publications[number]);
                self.totals.deliveries += receivers as u64;
                return receivers;
            }
            Mail::Verdict(verdict) => self.model.verdict(shard, verdict, self.now),
            Mail::Kick { conn, code } => {
                let conn = self.model.find(shard, *conn);
                self.model.kick(conn, code, self.now);
            }
            Mail::KickUser { mount, user, code } => {
                self.model.kick_user(shard, usize::from(mount.0), user, code, self.now);
            }
            Mail::Query { ticket, query } => {
                let reply = self.expect_reply(shard, *query);
                self.hosts[shard].replies.push_back((*ticket, reply));
            }
            Mail::Drain { period_ms } => {
                self.hosts[shard].drained_by_ms.get_or_insert(self.now.ms + period_ms);
            }
        }
        0
    }

    /// Another letter like a publication.
    fn twin_of(&self, mail: &Mail) -> Option<Mail> {
        match mail {
            Mail::Room { mount, room, own, frame, exclude } => Some(Mail::Room {
                mount: *mount,
                room: room.clone(),
                own: *own,
                frame: frame.clone(),
                exclude: exclude.clone(),
            }),
            Mail::Broadcast { mount, frame, exclude } => {
                Some(Mail::Broadcast { mount: *mount, frame: frame.clone(), exclude: exclude.clone() })
            }
            Mail::Direct { conn, frame } => Some(Mail::Direct { conn: *conn, frame: frame.clone() }),
            Mail::User { mount, user, frame } => {
                Some(Mail::User { mount: *mount, user: user.clone(), frame: frame.clone() })
            }
            Mail::Verdict(_)
            | Mail::Kick { .. }
            | Mail::KickUser { .. }
            | Mail::Query { .. }
            | Mail::Drain { .. } => None,
        }
    }

    fn expect_reply(&self, shard: usize, query: Query) -> Reply {
        match query {
            Query::Client(id) => Reply::Client(self.view(self.model.find(shard, id))),
            Query::Rooms { mount: MountId(mount), .. } => {
                let rooms = self.model.rooms_on(shard).into_iter();
                let rooms =
                    rooms.filter(|(m, room)| *m == usize::from(mount) && (*m == 3 || room != BROADCAST_ROOM));
                let conns = || self.model.conns.iter().filter(|conn| conn.shard == shard);
                let is_in = |room: &String| {
                    conns()
                        .filter(|conn| conn.mount == usize::from(mount) && conn.rooms.contains(room))
                        .count()
                };
                Reply::Rooms(rooms.map(|(_, room)| (room.clone(), is_in(&room))).collect())
            }
        }
    }

    fn tell_writable(&mut self, shard: usize) {
        let waits = |peer: usize| self.model.conns[peer].awaiting && self.peers[peer].is_writable();
        let here: Vec<_> = self.model.on_shard(shard).filter(|&peer| waits(peer)).collect();
        if here.is_empty() {
            return;
        }
        let peer = self.rng.pick(&here);
        self.tell_one_writable(peer);
    }

    pub(super) fn tell_one_writable(&mut self, peer: usize) {
        self.note(|| format!("the socket of {peer} takes bytes again"));
        self.model.conns[peer].awaiting = false;
        if self.may_fail(Fault::ForgetWritable) {
            self.totals.fault_done = true;
            return;
        }
        let (shard, id) = self.place(peer);
        self.hosts[shard].shard.handle_writable(id);
    }

    pub(super) fn tick_if_due(&mut self, shard: usize) {
        if self.hosts[shard].shard.poll_wake().is_some_and(|wake_ms| wake_ms <= self.now.ms) {
            self.tick(shard);
        }
    }

    /// The clock moved. Whatever the shard closes, drops or pings must have been due, and whatever was due
    /// must be done.
    pub(super) fn tick(&mut self, shard: usize) {
        self.note(|| format!("shard {shard} ticks"));
        for _ in 0..TICKS_MAX {
            self.hosts[shard].shard.handle_tick(self.now);
            self.follow_tick(shard);
            if self.hosts[shard].shard.poll_wake().is_none_or(|wake_ms| wake_ms > self.now.ms) {
                self.check_nothing_overdue(shard);
                return;
            }
        }
        panic!("shard {shard} has no end of things to do at {} ms", self.now.ms);
    }

    fn follow_tick(&mut self, shard: usize) {
        use shardcast_shard::conn::Phase as Actual;
        let is_draining = self.hosts[shard].drained_by_ms.is_some();
        let conns: Vec<_> =
            self.model.on_shard(shard).filter(|&conn| !self.peers[conn].is_released).collect();
        for index in conns {
            let actual = self.hosts[shard].shard.conn(self.model.conns[index].id);
            let actual = actual.unwrap_or_else(|| panic!("connection {index} is not there"));
            let (phase, ping_out, beat_ms) = (actual.phase, actual.ping_out, actual.last_activity_ms);
            let is_drained = self.hosts[shard].shard.has_drained(self.model.conns[index].id);
            let is_topic = self.model.topics(index).is_some();
            let model = &self.model.conns[index];
            let is_pinged =
                if is_topic { beat_ms != model.topic.beat_ms } else { ping_out && !model.ping_out };
            if is_pinged && model.phase == Phase::Open {
                self.note(|| format!("connection {index} is pinged"));
                self.model.ping_as_due(index, self.now);
            }
            match (self.model.conns[index].phase, phase) {
                (Phase::Head | Phase::Open, Actual::Closing) => {
                    self.note(|| format!("connection {index} is closed by the clock"));
                    self.model.close_as_due(index, is_draining, is_drained, self.now);
                }
                (Phase::Gone, Actual::Gone) => {}
                (_, Actual::Gone) => {
                    self.note(|| format!("connection {index} is dropped by the clock"));
                    self.model.drop_as_due(index, is_draining, self.now);
                }
                (Phase::Head, Actual::Head)
                | (Phase::Open, Actual::Open)
                | (Phase::Closing, Actual::Closing)
                | (Phase::Lingering, Actual::Lingering) => {}
                (expected, actual) => panic!("connection {index} is {actual:?}, not {expected:?}"),
            }
        }
    }

    /// The second half of a turn.
    pub(super) fn finish_turn(&mut self, shard: usize) {
        self.run_effects(shard);
        self.note(|| format!("shard {shard} writes"));
        self.model.begin_writes(shard);
        while self.hosts[shard].shard.poll_writes() {
            let writes = self.hosts[shard].shard.writes().map(|(id, bytes)| (id, bytes.to_vec()));
            let mut writes: Vec<_> = writes.enumerate().collect();
            if self.rng.chance(20) {
                writes.reverse();
            }
            for (index, (id, offered)) in writes {
                self.write(shard, index, id, &offered);
            }
        }
        self.model.end_writes(shard);
        self.run_effects(shard);
        self.check_turn(shard);
    }

    fn write(&mut self, shard: usize, index: usize, id: ConnId, offered: &[u8]) {
        let peer = self.model.find(shard, id);
        assert!(!self.peers[peer].is_released, "connection {peer} is written to after its end");
        if self.model.conns[peer].phase == Phase::Gone {
            assert!(offered.is_empty(), "connection {peer} is gone and gets {} bytes", offered.len());
            self.hosts[shard].shard.handle_written(self.now, index, Written::Took(0));
            return;
        }
        let written = self.peers[peer].write(&mut self.rng, offered);
        self.note(|| format!("connection {peer} is offered {} bytes: {written:?}", offered.len()));
        match written {
            Written::Took(took) => {
                self.model.written(peer, took, offered, self.now);
                self.send(peer, &offered[..took], took == offered.len());
            }
            Written::Failed => self.model.hang_up(peer, HangUp::Error),
        }
        self.hosts[shard].shard.handle_written(self.now, index, written);
    }

    /// Bytes on their way to a client, with the fault of the run.
    fn send(&mut self, peer: usize, bytes: &[u8], is_whole: bool) {
        let was_aligned = std::mem::replace(&mut self.peers[peer].is_aligned, is_whole);
        if let Some(fault) = self.fault
            && was_aligned
            && is_whole
            && !bytes.is_empty()
            && self.may_fail(fault)
            && self.peers[peer].is_listening()
        {
            if let Some(distorted) = fault.distort(&mut self.rng, bytes) {
                self.totals.fault_done = true;
                self.peers[peer].send(&distorted);
                return;
            }
            if let Some(other) = self.stranger_to(peer).filter(|_| !bytes.starts_with(b"HTTP")) {
                self.totals.fault_done = true;
                self.peers[other].send(bytes);
            }
        }
        self.peers[peer].send(bytes);
    }

    pub(super) fn place(&self, peer: usize) -> (usize, ConnId) {
        (self.model.conns[peer].shard, self.model.conns[peer].id)
    }

    /// Sockets whose shard and reader are both done with them.
    fn release_some(&mut self, shard: usize) {
        let over = |peer: usize| self.peers[peer].is_dropped && !self.peers[peer].is_released;
        let here: Vec<_> = self.model.on_shard(shard).filter(|&peer| over(peer)).collect();
        for peer in here {
            if self.rng.chance(60) {
                self.release(peer);
            }
        }
    }

    pub(super) fn release(&mut self, peer: usize) {
        if !self.peers[peer].is_reader_done {
            // Bytes that were on their way when the shard let go.
            match self.peers[peer].speaker.bytes.len() {
                0 => {}
                len => self.feed(peer, len),
            }
            self.hang_up(peer, HangUp::Eof);
        }
        self.note(|| format!("connection {peer} is released"));
        let (shard, id) = self.place(peer);
        self.hosts[shard].shard.handle_closed(id);
        self.peers[peer].is_released = true;
    }

    /// Puts in what the hooks say at once.
    pub(super) fn answer(&mut self, shard: usize, verdict: Verdict) {
        self.note(|| format!("the hooks say {verdict:?}"));
        self.model.verdict(shard, &verdict, self.now);
        self.hosts[shard].shard.handle_verdict(self.now, verdict);
    }

    /// Compares the answer to a query.
    pub(super) fn check_reply(&mut self, shard: usize, ticket: u64, reply: QueryReply) {
        let (expected_ticket, expected) = self.hosts[shard].replies.pop_front().expect("a query was put");
        assert_eq!(ticket, expected_ticket, "the ticket of a reply");
        match (reply, expected) {
            (QueryReply::Client(mut found), Reply::Client(mut expected)) => {
                if self.scenario.memory_scarce {
                    for view in found.iter_mut().chain(&mut expected) {
                        view.outbox_bytes = 0;
                    }
                }
                assert_eq!(found, expected, "a client as an operator sees it");
            }
            (QueryReply::Rooms(found), Reply::Rooms(expected)) => {
                let mut found: Vec<_> =
                    found.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
                found.sort_unstable();
                assert_eq!(found, expected, "rooms as an operator sees them");
            }
            (found, expected) => panic!("{found:?} is no answer like {expected:?}"),
        }
    }
}
