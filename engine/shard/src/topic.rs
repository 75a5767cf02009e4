//! The topic dialect's decisions.

use shardcast_wire::message::Inbound;

use crate::event::Now;
use crate::ids::ConnId;
use crate::shard::Shard;

/// A text or binary message.
pub(crate) fn handle_message(_shard: &mut Shard, _now: Now, _id: ConnId, _message: Inbound<'_>) {}
