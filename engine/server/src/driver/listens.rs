//! Which Redis channels a shard's rooms and clients are, for those that are listened to by name.

use std::sync::Arc;

use shardcast_shard::{ConnId, Dialect, Listening, MountId, ShardConfig, ShardId};
use shardcast_wire::ignis::ClientId;
use shardcast_wire::ignis::envelope::ROOM_CHANNEL_PREFIX;

use crate::engine::Engine;
use crate::upstream::Upstream;

/// The references of one shard.
pub(super) struct Listens {
    shard: ShardId,
    config: Arc<ShardConfig>,
    upstream: Arc<Upstream>,
    /// The mount whose rooms are listened to by name under their Ignis channels; others' by pattern.
    ignis: Option<MountId>,
}

impl Listens {
    pub(super) fn new(shard: ShardId, config: Arc<ShardConfig>, engine: &Engine) -> Self {
        let upstream = engine.upstream().clone();
        let ignis = engine.ignis_mount().filter(|_| upstream.hears_rooms_by_name());
        Self { shard, config, upstream, ignis }
    }

    /// Somebody is about to join. `None`: the outcome comes by mail.
    pub(super) fn listen(&self, mount: MountId, room: &Arc<str>, conn: ConnId) -> Option<Listening> {
        match self.channel(mount, room) {
            Some(channel) => self.upstream.listen(self.shard, &channel, Some(conn)),
            None => Some(Listening::LocalOnly),
        }
    }

    /// A room has members.
    pub(super) fn room_up(&self, mount: MountId, room: &Arc<str>) {
        if let Some(channel) = self.channel(mount, room) {
            // Nobody waits: those who are to wait were told before they joined.
            self.upstream.listen(self.shard, &channel, None);
        }
    }

    /// A listen is settled, or a room has no members any more.
    pub(super) fn unlisten(&self, mount: MountId, room: &Arc<str>) {
        if let Some(channel) = self.channel(mount, room) {
            self.upstream.unlisten(self.shard, &channel);
        }
    }

    /// A client is there, and so is its own room.
    pub(super) fn client_up(&self, mount: MountId, id: ClientId) {
        if self.ignis == Some(mount) {
            self.upstream.listen(self.shard, &ignis_channel(&id.to_string()), None);
        }
    }

    /// A client is gone.
    pub(super) fn client_down(&self, mount: MountId, id: ClientId) {
        if self.ignis == Some(mount) {
            self.upstream.unlisten(self.shard, &ignis_channel(&id.to_string()));
        }
    }

    /// The channel of a room; `None` where it is not listened to by name.
    fn channel(&self, mount: MountId, room: &Arc<str>) -> Option<Arc<str>> {
        match self.config.mounts[mount.0 as usize].dialect {
            Dialect::Topic(_) => Some(room.clone()),
            Dialect::Ignis(_) => (self.ignis == Some(mount)).then(|| ignis_channel(room)),
            Dialect::Echo => None,
        }
    }
}

fn ignis_channel(room: &str) -> Arc<str> {
    [ROOM_CHANNEL_PREFIX, room].concat().into()
}
