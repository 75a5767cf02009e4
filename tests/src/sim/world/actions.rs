//! What clients, publishers, operators and the clock do.

use std::net::Ipv4Addr;

use shardcast::router::Target;
use shardcast_shard::{Mail, MountId, Query, ShardId};
use shardcast_wire::close;
use shardcast_wire::ignis::{BROADCAST_ROOM, ClientId, UserId};

use super::super::bytes::{opcode, server_frame};
use super::super::fault::Fault;
use super::super::model::{Audience, Auth, Phase, Publication};
use super::super::peer::Peer;
use super::super::scenario::Action;
use super::super::speech::{Vocabulary, session_of};
use super::{NAMES, World};

impl World<'_> {
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::Say => self.say(),
            Action::Read => self.read_some(),
            Action::Stall => self.set_stalled(true),
            Action::Resume => self.set_stalled(false),
            Action::Reset => {
                if let Some(peer) = self.any_peer(|peer| peer.is_held() && !peer.is_reset) {
                    self.note(|| format!("client {peer} resets"));
                    self.peers[peer].reset();
                }
            }
            Action::HalfClose => {
                if let Some(peer) = self.any_peer(|peer| peer.is_held() && !peer.has_finished) {
                    self.note(|| format!("client {peer} sends FIN"));
                    self.peers[peer].has_finished = true;
                }
            }
            Action::Publish => {
                for _ in 0..self.rng.pick(&[1, 1, 2, 8]) {
                    self.publish();
                }
            }
            // Published elsewhere while Redis was away: it never gets here, and nobody is owed it.
            Action::Gap => self.publications.push(nothing(0, Audience::Broadcast)),
            Action::Kick => self.kick(),
            Action::Query => self.query(),
            Action::Drain => self.post_drain(),
            Action::Answer => self.post_answer(),
            Action::Clock => self.pass_time(),
            Action::Receive
            | Action::TakeMail
            | Action::Writable
            | Action::Tick
            | Action::Release
            | Action::Effects
            | Action::Turn => {
                let shard = self.any_shard();
                self.act_on_shard(action, shard);
            }
        }
    }

    fn connect(&mut self) {
        if self.peers.iter().filter(|peer| !peer.is_released).count() >= self.scenario.peers_max {
            return;
        }
        let shard = self.any_shard();
        let mount = self.rng.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3]);
        let Some(peer) = self.accept(shard) else { return };
        if self.rng.chance(1) {
            // The driver found no socket for it.
            self.hosts[shard].shard.handle_closed(self.model.conns[peer].id);
            self.model.drop_conn(peer);
            (self.peers[peer].is_dropped, self.peers[peer].is_released) = (true, true);
            return;
        }
        if self.rng.chance(3) {
            return;
        }
        self.introduce(peer, mount);
    }

    fn accept(&mut self, shard: usize) -> Option<usize> {
        let entropy = self.rng.bytes16();
        let host = &mut self.hosts[shard];
        let held = self.model.on_shard(shard).filter(|&conn| !self.peers[conn].is_released).count();
        let is_full = held >= self.scenario.config.conns_max as usize || host.drained_by_ms.is_some();
        let accepted = host.shard.handle_accept(self.now, entropy, Ipv4Addr::new(192, 0, 2, 1).into());
        assert_eq!(accepted.is_none(), is_full, "whether shard {shard} sheds with {held} connections");
        let id = accepted?;
        let client_id = ClientId::from_random(entropy);
        let conn = self.model.accept(shard, id, client_id, self.now);
        let (least, most) = self.scenario.kernel_bytes;
        let mut peer = Peer::new(self.rng.within(least..=most) as usize);
        peer.speaker.session = session_of(&client_id);
        self.peers.push(peer);
        if self.rng.chance(30) {
            self.rooms.push(client_id.to_string());
        }
        self.note(|| format!("connection {conn} is {id:?} of shard {shard}, client {client_id}"));
        Some(conn)
    }

    fn introduce(&mut self, peer: usize, mount: usize) {
        let config = &self.scenario.config.mounts[mount];
        let speaker = &mut self.peers[peer].speaker;
        speaker.ask_for_upgrade(&mut self.rng, mount, config);
        if self.rng.chance(80) {
            speaker.authenticate(&mut self.rng);
        }
    }

    /// Everyone in, in the same rooms, before the first step.
    pub(super) fn gather_crowd(&mut self) {
        for index in 0..self.scenario.crowd {
            let shard = index % self.hosts.len();
            let peer = self.accept(shard).expect("a shard has room for the crowd");
            self.introduce(peer, 0);
            self.receive_all(peer);
        }
        for shard in 0..self.hosts.len() * usize::from(self.scenario.crowd > 0) {
            self.finish_turn(shard);
        }
    }

    fn say(&mut self) {
        let talks = |peer: &Peer| peer.is_held() && !peer.is_reset && !peer.has_finished;
        let Some(peer) = self.any_peer(|peer| talks(peer) && peer.speaker.mount().is_some()) else { return };
        let mount = self.peers[peer].speaker.mount().expect("it was chosen for that");
        let mount = &self.scenario.config.mounts[mount];
        let vocabulary = Vocabulary {
            rooms: &self.rooms,
            message_bytes_max: mount.messages.message_bytes_max,
            fragments_max: mount.messages.fragments_max as usize,
            pings: self.scenario.pings,
            is_fickle: self.scenario.is_fickle,
        };
        for _ in 0..self.rng.pick(&[1, 1, 2, 5]) {
            self.peers[peer].speaker.speak(&mut self.rng, &vocabulary);
        }
        self.note(|| format!("client {peer} speaks"));
    }

    fn read_some(&mut self) {
        let reads = |peer: &Peer| peer.is_listening() && !peer.has_read_all();
        if let Some(peer) = self.any_peer(reads) {
            let len = self.rng.pick(&[1, 7, 200, 10_000, usize::MAX, usize::MAX]);
            self.read(peer, len);
        }
    }

    pub(super) fn read(&mut self, peer: usize, len: usize) {
        self.note(|| format!("client {peer} reads {len} bytes"));
        let heard = self.peers[peer].read(len, &mut self.model.conns[peer].wire);
        self.totals.frames_heard += heard as u64;
        let is_over = self.peers[peer].is_finished && self.peers[peer].has_read_all();
        if is_over && self.rng.chance(80) {
            self.peers[peer].has_finished = true;
        }
    }

    fn set_stalled(&mut self, is_stalled: bool) {
        if let Some(peer) = self.any_peer(|peer| peer.is_held() && peer.is_stalled != is_stalled) {
            self.note(|| format!("client {peer} {}", if is_stalled { "stalls" } else { "reads again" }));
            self.peers[peer].is_stalled = is_stalled;
        }
    }

    /// Publishes through the real router and directory.
    pub(super) fn publish(&mut self) {
        let mount = self.rng.pick(&[0, 0, 0, 1, 3, 3]);
        let clients: Vec<ClientId> = self.model.conns.iter().map(|conn| conn.client_id).collect();
        let audience = match self.any_channel() {
            Some(channel) if mount == 3 && self.rng.chance(80) => Audience::Room(channel, None),
            _ => self.choose_audience(&clients),
        };
        let mut exclude = Vec::new();
        if self.rng.chance(30) {
            for _ in 0..self.rng.below(4) {
                let unknown = ClientId::from_random(self.rng.bytes16());
                exclude.push(if clients.is_empty() { unknown } else { self.rng.pick(&clients) });
            }
        }
        let number = self.publications.len();
        let padding = self.rng.below(self.scenario.padding_max as usize + 1);
        let padding = if self.rng.chance(90) { padding.min(2_000) } else { padding };
        let text = format!(r#"{{"event":"p","data":[{number},"{}"]}}"#, "x".repeat(padding));
        let frame: bytes::Bytes = server_frame(opcode::TEXT, text.as_bytes()).into();
        let excluded = self.addressable(&exclude);
        let publication = Publication { excluded, frame, ..nothing(mount, audience) };
        self.post_publication(number, publication, exclude);
    }

    fn choose_audience(&mut self, clients: &[ClientId]) -> Audience {
        if self.scenario.is_fickle && self.rng.chance(70) {
            return Audience::Room(NAMES[0].to_owned(), None);
        }
        match self.rng.weighted(&[20, 50, 15, 15]) {
            0 => Audience::Broadcast,
            2 if !clients.is_empty() => Audience::Client(self.rng.below(clients.len())),
            3 => Audience::User(self.any_user().expect("a user of the pool")),
            _ if self.rng.chance(5) => Audience::Room(BROADCAST_ROOM.to_owned(), None),
            _ => Audience::Room(self.any_room(), None),
        }
    }

    /// Mostly one of the few that everybody knows.
    pub(super) fn any_room(&mut self) -> String {
        let known = if self.rng.chance(80) { NAMES.len() } else { self.rooms.len() };
        self.rooms[self.rng.below(known)].clone()
    }

    /// One that has members.
    fn any_channel(&mut self) -> Option<String> {
        let channels = self.model.conns.iter().filter(|conn| conn.mount == 3).flat_map(|conn| &conn.rooms);
        let channels: Vec<_> = channels.collect();
        (!channels.is_empty()).then(|| channels[self.rng.below(channels.len())].clone())
    }

    pub(super) fn any_user(&mut self) -> Option<UserId> {
        match self.rng.below(4) {
            0 => UserId::from_json("42"),
            1 => UserId::from_json("\"42\""),
            _ => Some(UserId::from_text("u1")),
        }
    }

    /// The connections of those clients that can be addressed now.
    fn addressable(&self, clients: &[ClientId]) -> Vec<usize> {
        let known = clients.iter().filter_map(|&id| self.mirror.client(id));
        known.map(|(_, shard, id)| self.model.find(shard, id)).collect()
    }

    fn post_publication(&mut self, number: usize, mut publication: Publication, exclude: Vec<ClientId>) {
        let Publication { mount, .. } = publication;
        let here = |id: ClientId| self.mirror.client(id).filter(|at| at.0 == mount);
        let target = match &mut publication.audience {
            Audience::Broadcast => Target::Broadcast,
            Audience::Room(name, own) => {
                *own = ClientId::parse(name).and_then(here).map(|(_, shard, id)| self.model.find(shard, id));
                Target::Room(name.clone())
            }
            Audience::Client(conn) => Target::Client(self.model.conns[*conn].client_id),
            Audience::User(user) => Target::User(user.clone()),
        };
        let is_known = match &target {
            Target::Client(id) => here(*id).is_some(),
            _ => true,
        };
        let shards = if is_known {
            self.mirror.route(mount, &publication.audience, &self.model)
        } else {
            Default::default()
        };
        let is_long_enough = publication.frame.len() >= self.scenario.deflated_len_min;
        publication.is_wanted_deflated = is_long_enough && self.mirror.deflates(mount, &shards);
        let letters_max = self.scenario.mailbox_max;
        let (open, full): (Vec<_>, Vec<_>) =
            shards.into_iter().partition(|&shard| self.hosts[shard].sender.len() < letters_max);
        let routed = self.router.publish(&shardcast::router::Publication {
            mount: MountId(mount as u8),
            target: target.clone(),
            frame: publication.frame.clone(),
            exclude,
        });
        assert_eq!((routed.shards, routed.refused), (open.len() as u32, full.len() as u32), "{target:?}");
        open.iter().for_each(|&shard| self.hosts[shard].posted.push_back(number));
        self.totals.publications += 1;
        self.totals.letters_refused += full.len() as u64;
        self.note(|| format!("publication {number} for {target:?} goes to {open:?}, refused by {full:?}"));
        self.publications.push(publication);
    }

    fn kick(&mut self) {
        if self.model.conns.is_empty() {
            return;
        }
        let conn = self.rng.below(self.model.conns.len());
        let (shard, id) = (self.model.conns[conn].shard, self.model.conns[conn].id);
        let mount = MountId(self.model.conns[conn].mount as u8);
        let mail = match self.model.conns[conn].user.clone().filter(|_| self.rng.chance(50)) {
            Some(user) => Mail::KickUser { mount, user, code: &close::KICKED },
            None => Mail::Kick { conn: id, code: &close::KICKED },
        };
        self.post(shard, mail);
    }

    fn query(&mut self) {
        self.tickets += 1;
        let shard = self.any_shard();
        let conns: Vec<_> = self.model.on_shard(shard).collect();
        let query = if conns.is_empty() || self.rng.chance(30) {
            Query::Rooms { mount: MountId(self.rng.pick(&[0, 1, 3])), count_max: usize::MAX }
        } else {
            Query::Client(self.model.conns[self.rng.pick(&conns)].id)
        };
        self.post(shard, Mail::Query { ticket: self.tickets, query });
    }

    pub(super) fn post_drain(&mut self) {
        let shard = self.any_shard();
        let period_ms = self.rng.pick(&[0, 10, 1_000, 10_000]);
        self.post(shard, Mail::Drain { period_ms });
    }

    /// The oldest answers of the hooks overtake each other now and then.
    pub(super) fn post_answer(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = if self.rng.chance(70) { 0 } else { self.rng.below(self.late.len()) };
        let (shard, verdict) = self.late.remove(index).expect("just looked");
        self.post(shard, Mail::Verdict(Box::new(verdict)));
    }

    /// Posts to a mailbox; a full one loses the letter.
    pub(super) fn post(&mut self, shard: usize, mail: Mail) {
        let is_full = self.hosts[shard].sender.len() >= self.scenario.mailbox_max;
        self.note(|| format!("post to shard {shard}{}: {mail:?}", if is_full { ", full" } else { "" }));
        let posted = self.router.shard(ShardId(shard as u8)).post(mail);
        assert_eq!(posted, !is_full, "whether the mailbox of shard {shard} takes a letter");
    }

    fn pass_time(&mut self) {
        let ms = match self.rng.weighted(&[800, 185, 13, 2]) {
            0 => self.rng.within(0..=30),
            1 => self.rng.within(30..=3_000),
            2 => self.rng.within(3_000..=60_000),
            _ => self.rng.within(1..=5) * 86_400_000,
        };
        self.advance(ms);
        if self.rng.chance(5) {
            self.now.unix_ms -= self.rng.within(0..=3_600_000);
        }
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.note(|| format!("{ms} ms pass"));
        self.now.ms += ms;
        self.now.unix_ms += ms;
    }

    /// Another client that would not notice by itself that a frame is not for it.
    pub(super) fn stranger_to(&mut self, peer: usize) -> Option<usize> {
        let fitting: Vec<_> = (0..self.peers.len())
            .filter(|&other| {
                other != peer && self.peers[other].is_aligned && self.peers[other].is_listening()
            })
            .filter(|&other| self.peers[other].is_held() && !self.peers[other].is_finished)
            .filter(|&other| self.model.conns[other].phase == Phase::Open)
            .filter(|&other| self.model.conns[other].auth == Auth::Done)
            .collect();
        (!fitting.is_empty() && self.may_fail(Fault::StrayFrame)).then(|| self.rng.pick(&fitting))
    }
}

/// A publication of nothing, which is also what one that never came looks like here.
fn nothing(mount: usize, audience: Audience) -> Publication {
    let (excluded, frame) = (Vec::new(), bytes::Bytes::new());
    Publication { mount, audience, excluded, frame, is_wanted_deflated: false, deflated: None }
}
