//! Joining, leaving, and the end of all memberships.

use shardcast_wire::ignis::{BROADCAST_ROOM, ClientId};

use crate::burst::Step;
use crate::conn::{Auth, Phase};
use crate::event::{Effect, Identity, Question};
use crate::ids::{ConnId, MountId};
use crate::limits::Dialect;
use crate::rooms::{Member, Membership};
use crate::shard::Shard;
use crate::topic;

impl Shard {
    /// Puts a connection into a room by name. Joining twice is joining once.
    pub(crate) fn join(&mut self, id: ConnId, name: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if ClientId::parse(name) == Some(conn.client_id) {
            conn.in_own_room = true;
            return;
        }
        let mount = conn.mount;
        let is_broadcast = name == BROADCAST_ROOM;
        conn.broadcast_listed |= is_broadcast;
        if let Some(room) = self.rooms.find(mount, name) {
            if conn.memberships.iter().any(|m| m.room == room) {
                return;
            }
        } else if self.rooms.count() >= self.config.rooms_max {
            self.counters.joins_refused_rooms_max += 1;
            return;
        }
        let broadcast = self.rooms.find(mount, BROADCAST_ROOM);
        let counted = conn.memberships.iter().filter(|m| Some(m.room) != broadcast).count();
        if !is_broadcast && counted >= self.config.rooms_per_conn_max {
            self.counters.joins_refused_limit += 1;
            return;
        }
        self.enter(id, mount, name);
        self.counters.joins += u64::from(!is_broadcast);
    }

    /// Puts an authenticated connection into the broadcast room, which is not shown among its rooms.
    pub(crate) fn join_broadcast(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        self.enter(id, conn.mount, BROADCAST_ROOM);
    }

    /// Puts a connection into a room it is not in.
    pub(crate) fn enter(&mut self, id: ConnId, mount: MountId, name: &str) {
        let (index, made) = self.rooms.find_or_make(mount, name);
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        let room = self.rooms.room_mut(index);
        let place = room.members.len() as u32;
        room.members.push(Member { slot: id.slot, entry: conn.memberships.len() as u32 });
        conn.memberships.push(Membership { room: index, place });
        let feed = room.feed;
        if made {
            self.effects.push_back(Effect::RoomUp(mount, room.name.clone()));
        }
        if let Some(feed) = feed {
            let count = self.turn.feed_len(feed);
            self.step(id.slot, Step::Join(feed, count));
        }
    }

    /// Takes a connection out of a room by name, if it is in it.
    pub(crate) fn leave(&mut self, id: ConnId, name: &str) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if ClientId::parse(name) == Some(conn.client_id) {
            self.counters.leaves += u64::from(std::mem::take(&mut conn.in_own_room));
            return;
        }
        if name == BROADCAST_ROOM && !std::mem::take(&mut conn.broadcast_listed) {
            return;
        }
        let Some(room) = self.rooms.find(conn.mount, name) else { return };
        if let Some(entry) = conn.memberships.iter().position(|m| m.room == room) {
            self.counters.leaves += 1;
            self.exit(id, entry);
        }
    }

    /// Ends membership number `entry` of a connection.
    pub(crate) fn exit(&mut self, id: ConnId, entry: usize) {
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        let hears_the_rest = conn.takes_frames();
        let Membership { room: index, place } = conn.memberships.remove(entry);
        for later in &conn.memberships[entry..] {
            self.rooms.room_mut(later.room).members[later.place as usize].entry -= 1;
        }
        let room = self.rooms.room_mut(index);
        room.members.swap_remove(place as usize);
        if let Some(moved) = room.members.get(place as usize) {
            let other = self.conns.at_mut(moved.slot).expect("members exist");
            other.memberships[moved.entry as usize].place = place;
        }
        let (feed, emptied) = (room.feed, room.members.is_empty());
        if let Some(feed) = feed {
            if hears_the_rest {
                let count = self.turn.feed_len(feed);
                self.step(id.slot, Step::Leave(feed, count));
            }
            if emptied {
                self.turn.orphan_feed(feed);
            }
        }
        if emptied {
            let room = self.rooms.remove(index);
            self.effects.push_back(Effect::RoomDown(room.mount, room.name));
        }
    }

    /// Ends what a connection is to others: rooms, user, address. What was published to it before still
    /// goes out. Only an open connection is anything to others.
    pub(crate) fn forget(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        let mount = conn.mount;
        if conn.takes_deflated() {
            self.deflate_down(mount);
        }
        topic::abandon_requests(self, id);
        self.log_out(id);
        if let Dialect::Ignis(settings) = &self.mount(mount).dialect
            && settings.tell_lifecycle
        {
            self.ask(id, Question::Disconnected);
        }
        self.conns.get_mut(id).expect("looked up above").identity = Identity::default();
    }

    /// Ends what a client is by its authentication: its rooms, its user, its address. Its identity is left.
    pub(crate) fn log_out(&mut self, id: ConnId) {
        let conn = self.conns.get_mut(id).expect("the caller looked it up");
        let (mount, client_id) = (conn.mount, conn.client_id);
        let was_client = std::mem::replace(&mut conn.auth, Auth::Unauthorized) == Auth::Authenticated;
        let user = conn.identity.user.clone();
        conn.in_own_room = false;
        let is_encrypted = conn.cipher.is_some();
        while let Some(last) = self.conns.get(id).and_then(|c| c.memberships.len().checked_sub(1)) {
            self.exit(id, last);
        }
        if was_client {
            self.counters.clients -= 1;
            self.counters.encrypted -= u64::from(is_encrypted);
            self.effects.push_back(Effect::ClientDown { client_id, conn: id });
            if let Some(user) = user
                && self.users.remove(mount, &user, id.slot)
            {
                self.effects.push_back(Effect::UserDown(mount, user));
            }
        }
    }

    /// An open connection agreed on permessage-deflate.
    pub(crate) fn deflate_up(&mut self, mount: MountId) {
        self.counters.deflate_agreed += 1;
        let count = &mut self.deflating[mount.0 as usize];
        *count += 1;
        if *count == 1 {
            self.effects.push_back(Effect::DeflateUp(mount));
        }
    }

    /// Such a connection is not open any more, or is encrypted from now on.
    pub(crate) fn deflate_down(&mut self, mount: MountId) {
        let count = &mut self.deflating[mount.0 as usize];
        *count -= 1;
        if *count == 0 {
            self.effects.push_back(Effect::DeflateDown(mount));
        }
    }
}
