//! From a publication to the steps of those who get it.

use shardcast_wire::ignis::UserId;

use crate::burst::{FrameIndex, Step};
use crate::conn::Conn;
use crate::event::Forms;
use crate::ids::{ClientRef, ConnId, MountId};
use crate::rooms::RoomIndex;
use crate::shard::Shard;

impl Shard {
    /// A frame for the members of a room and for the connection whose own room it is.
    pub(crate) fn publish(
        &mut self,
        mount: MountId,
        name: &str,
        own: Option<ConnId>,
        frame: Forms,
        exclude: Option<&[ClientRef]>,
    ) {
        let room = self.rooms.find(mount, name);
        let own = own.filter(|&id| {
            self.conns.get(id).is_some_and(|c| c.is_client() && c.in_own_room && c.mount == mount)
        });
        if room.is_none() && own.is_none() {
            return;
        }
        self.counters.published += 1;
        let frame = self.turn.add_message(frame);
        if let Some(room) = room {
            self.publish_to_feed(room, frame);
        }
        if let Some(own) = own {
            self.step(own.slot, Step::Direct(frame));
        }
        for client in exclude.unwrap_or_default() {
            if client.shard == self.id && self.conns.get(client.conn).is_some_and(Conn::takes_frames) {
                self.step(client.conn.slot, Step::Without(frame));
            }
        }
    }

    fn publish_to_feed(&mut self, room: RoomIndex, frame: FrameIndex) {
        let state = self.rooms.room_mut(room);
        let feed = *state.feed.get_or_insert_with(|| self.turn.open_feed(room));
        self.turn.feed(feed, frame);
    }

    /// A frame for every connection of a user.
    pub(crate) fn publish_to_user(&mut self, mount: MountId, user: &UserId, frame: Forms) {
        let slots = self.users.slots(mount, user).to_vec();
        if slots.is_empty() {
            return;
        }
        self.counters.published += 1;
        let frame = self.turn.add_message(frame);
        for slot in slots {
            self.step(slot, Step::Direct(frame));
        }
    }
}
