//! The diagnostic dialect: every message comes back as it came.

use bytes::Bytes;
use shardcast_wire::frame::{self, OpCode};
use shardcast_wire::message::Inbound;

use crate::burst::FrameKind;
use crate::event::Now;
use crate::ids::ConnId;
use crate::rates::{Amount, Charge};
use crate::shard::Shard;

pub(crate) fn handle_message(shard: &mut Shard, now: Now, id: ConnId, message: Inbound<'_>) {
    if shard.charge(now, id, &Amount::of(&message)) != Charge::Granted {
        return;
    }
    let frame = match message {
        Inbound::Text(text) => frame::encode(OpCode::Text, text.as_bytes()),
        Inbound::Binary(data) => frame::encode(OpCode::Binary, &data),
        Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => return,
    };
    shard.send(id, Bytes::from(frame), FrameKind::Message);
}
