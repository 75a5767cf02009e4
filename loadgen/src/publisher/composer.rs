//! What a publication is written as: its templates, filled in.
//!
//! Does no I/O but looking at the board for the ids of clients, which change when they come back.

use std::sync::Arc;

use super::template::{Filling, Forms, Template};
use crate::engine::Settings;
use crate::engine::board::Board;
use crate::roster::Roster;
use crate::scenario::Address;
use crate::stamp::{self, Kind, Stamp};

/// Writes one publication after another.
#[derive(Debug)]
pub(super) struct Composer {
    settings: Arc<Settings>,
    board: Arc<Board>,
    roster: Roster,
    /// The channel or path.
    names: Forms,
    bodies: Forms,
    /// Of the publication being written.
    room: u32,
    address: String,
    exclude: String,
    data: Vec<u8>,
}

impl Composer {
    /// A composer of bodies, and of names in which a room is written as `encode` says.
    pub(super) fn new(
        settings: &Arc<Settings>,
        board: &Arc<Board>,
        name: &Template,
        body: &Template,
        encode: impl Fn(&str) -> String,
    ) -> Self {
        let clients = &settings.clients;
        let (names, bodies) = match clients.to {
            Address::Client => (name.for_any_room(), body.for_any_room()),
            Address::Room | Address::User => {
                // Nothing differs from room to room: one form serves them all.
                let rooms = if name.has_room() { clients.rooms.as_slice() } else { &clients.rooms[..1] };
                (name.for_rooms(rooms, encode), body.for_rooms(&clients.rooms, str::to_owned))
            }
        };
        Self {
            settings: Arc::clone(settings),
            board: Arc::clone(board),
            roster: settings.roster(),
            names,
            bodies,
            room: 0,
            address: String::new(),
            exclude: String::new(),
            data: Vec::new(),
        }
    }

    /// Begins a publication.
    pub(super) fn begin(&mut self, stamp: &Stamp) {
        self.room = stamp.room;
        self.data.clear();
        stamp::encode(&mut self.data, stamp, self.settings.sizes.of(stamp));
        if self.settings.clients.to == Address::Client {
            self.address.clear();
            push_client_id(&mut self.address, &self.board, stamp.room);
        }
        self.exclude.clear();
        self.exclude.push('[');
        // Everybody has to hear of a probe.
        if stamp.kind == Kind::Message {
            for (index, connection) in self.roster.excluded(stamp.room, stamp.sequence).enumerate() {
                self.exclude.push_str(if index > 0 { ",\"" } else { "\"" });
                push_client_id(&mut self.exclude, &self.board, connection);
                self.exclude.push('"');
            }
        }
        self.exclude.push(']');
    }

    /// Bytes of the name.
    pub(super) fn name_len(&self) -> usize {
        self.names.len(self.room, self.filling())
    }

    /// Appends the name.
    pub(super) fn write_name(&self, out: &mut Vec<u8>) {
        self.names.write(out, self.room, self.filling());
    }

    /// Bytes of the body.
    pub(super) fn body_len(&self) -> usize {
        self.bodies.len(self.room, self.filling())
    }

    /// Appends the body.
    pub(super) fn write_body(&self, out: &mut Vec<u8>) {
        self.bodies.write(out, self.room, self.filling());
    }

    fn filling(&self) -> Filling<'_> {
        Filling { room: &self.address, exclude: &self.exclude, data: &self.data }
    }
}

fn push_client_id(out: &mut String, board: &Board, connection: u32) {
    out.extend(board.client_id(connection).to_text().map(char::from));
}
