//! From a publication to the shards concerned.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_shard::{ClientRef, Forms, Mail, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

use crate::compression::Compression;
use crate::directory::{Directory, ShardSet};
use crate::mailbox::MailSender;

/// Whom a publication is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every authenticated client of the mount.
    Broadcast,
    /// The members of a room; a client's id is the name of its own room.
    Room(String),
    /// One client.
    Client(ClientId),
    /// Every client of a user.
    User(UserId),
}

/// A message decoded once and encoded once, on its way to the shards.
#[derive(Clone, Debug)]
pub struct Publication {
    /// The namespace.
    pub mount: MountId,
    /// Whom it is for.
    pub target: Target,
    /// A whole WebSocket frame.
    pub frame: Bytes,
    /// Clients that do not get it; ids that are not connected here do not matter.
    pub exclude: Vec<ClientId>,
}

/// Where a publication went in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    /// Shards it was posted to.
    pub shards: u32,
    /// Shards whose mailbox was full: their members miss it.
    pub refused: u32,
}

/// Finds shards by the directory, compresses for those who want it, and posts to their mailboxes.
#[derive(Debug)]
pub struct Router {
    directory: Arc<Directory>,
    shards: Vec<MailSender>,
    compression: Compression,
}

impl Router {
    /// Shard `i` is reached through `shards[i]`. Compresses nothing unless told.
    pub fn new(directory: Arc<Directory>, shards: Vec<MailSender>) -> Self {
        Self { directory, shards, compression: Compression::default() }
    }

    /// The directory it routes by.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The mailboxes, by shard.
    pub fn shards(&self) -> &[MailSender] {
        &self.shards
    }

    /// The mailbox of a shard.
    pub fn shard(&self, id: ShardId) -> &MailSender {
        &self.shards[id.0 as usize]
    }

    /// Compresses what `compression` says.
    #[must_use]
    pub fn compressing(self, compression: Compression) -> Self {
        Self { compression, ..self }
    }

    /// What publications it compresses.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// Posts a publication to the shards concerned. Publications of one thread reach each shard in order.
    pub fn publish(&self, publication: &Publication) -> Routed {
        let Publication { mount, target, frame, exclude } = publication;
        let mount = *mount;
        match target {
            Target::Broadcast => {
                let exclude = self.resolve(exclude);
                let frame = self.forms(mount, frame, ShardSet::all());
                self.post_all(self.shards.iter(), || Mail::Broadcast {
                    mount,
                    frame: frame.clone(),
                    exclude: exclude.clone(),
                })
            }
            Target::Room(name) => self.publish_to_room(mount, name, frame, self.resolve(exclude)),
            Target::Client(id) => match self.directory.client(*id) {
                Some((home, at)) if home == mount => {
                    let frame = self.forms(mount, frame, ShardSet::of(at.shard));
                    let to = std::iter::once(self.shard(at.shard));
                    self.post_all(to, || Mail::Direct { conn: at.conn, frame: frame.clone() })
                }
                _ => Routed::default(),
            },
            Target::User(user) => {
                let shards = self.directory.user(mount, user);
                let frame = self.forms(mount, frame, shards);
                let to = shards.iter().map(|shard| self.shard(shard));
                self.post_all(to, || Mail::User { mount, user: user.clone(), frame: frame.clone() })
            }
        }
    }

    fn publish_to_room(
        &self,
        mount: MountId,
        name: &str,
        frame: &Bytes,
        exclude: Option<Arc<[ClientRef]>>,
    ) -> Routed {
        let own = ClientId::parse(name).and_then(|id| self.directory.client(id));
        let own = own.filter(|(home, _)| *home == mount).map(|(_, at)| at);
        let (room, members) =
            self.directory.room(mount, name).unwrap_or_else(|| (Arc::from(name), ShardSet::default()));
        let shards = own.map_or(members, |at| members.with(at.shard));
        let frame = self.forms(mount, frame, shards);
        let mut routed = Routed::default();
        for shard in shards.iter() {
            let own = own.filter(|at| at.shard == shard).map(|at| at.conn);
            let (room, frame, exclude) = (room.clone(), frame.clone(), exclude.clone());
            routed.count(self.shard(shard).post(Mail::Room { mount, room, own, frame, exclude }));
        }
        routed
    }

    /// A frame for these shards: compressed if one of them has connections that take it so.
    fn forms(&self, mount: MountId, plain: &Bytes, shards: ShardSet) -> Forms {
        let is_wanted = self.directory.deflating(mount).meets(shards);
        let deflated = if is_wanted { self.compression.compress(mount, plain) } else { None };
        Forms { plain: plain.clone(), deflated }
    }

    fn post_all<'a>(&self, to: impl Iterator<Item = &'a MailSender>, mail: impl Fn() -> Mail) -> Routed {
        let mut routed = Routed::default();
        for shard in to {
            routed.count(shard.post(mail()));
        }
        routed
    }

    fn resolve(&self, exclude: &[ClientId]) -> Option<Arc<[ClientRef]>> {
        let known: Arc<[ClientRef]> =
            exclude.iter().filter_map(|&id| self.directory.client(id)).map(|(_, at)| at).collect();
        (!known.is_empty()).then_some(known)
    }
}

impl Routed {
    fn count(&mut self, posted: bool) {
        if posted { self.shards += 1 } else { self.refused += 1 }
    }
}
