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
    /// The members of a room, as [`Directory::room`] has it, and nobody whose own room has that name.
    Members(Arc<str>, ShardSet),
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
        self.batch().publish(publication)
    }

    /// For publications that are there together.
    pub fn batch(&self) -> Batch<'_> {
        Batch { router: self, posted: ShardSet::default(), publications: 0 }
    }

    /// A frame for these shards: compressed if one of them has connections that take it so.
    fn forms(&self, mount: MountId, plain: &Bytes, shards: ShardSet) -> Forms {
        let is_wanted = self.directory.deflating(mount).meets(shards);
        let deflated = if is_wanted { self.compression.compress(mount, plain) } else { None };
        Forms { plain: plain.clone(), deflated }
    }

    fn resolve(&self, exclude: &[ClientId]) -> Option<Arc<[ClientRef]>> {
        let known: Arc<[ClientRef]> =
            exclude.iter().filter_map(|&id| self.directory.client(id)).map(|(_, at)| at).collect();
        (!known.is_empty()).then_some(known)
    }
}

/// Publications that wake each shard once they are all posted, so that they share its turn and its sends.
#[derive(Debug)]
pub struct Batch<'r> {
    router: &'r Router,
    /// Shards with letters that nobody rang for.
    posted: ShardSet,
    /// Since shards were last rung for.
    publications: u32,
}

/// Publications after which shards are woken though more follow: about a millisecond's.
const PUBLICATIONS_UNRUNG_MAX: u32 = 256;

impl Batch<'_> {
    /// The router whose it is.
    pub fn router(&self) -> &Router {
        self.router
    }

    /// Posts a publication to the shards concerned.
    pub fn publish(&mut self, publication: &Publication) -> Routed {
        let Publication { mount, target, frame, exclude } = publication;
        let (router, mount) = (self.router, *mount);
        match target {
            Target::Broadcast => {
                let exclude = router.resolve(exclude);
                let frame = router.forms(mount, frame, ShardSet::all());
                let shards = (0..router.shards.len()).map(|index| ShardId(index as u8));
                self.post_all(shards, |_| Mail::Broadcast {
                    mount,
                    frame: frame.clone(),
                    exclude: exclude.clone(),
                })
            }
            Target::Room(name) => self.publish_to_room(mount, name, frame, router.resolve(exclude)),
            Target::Members(room, shards) => {
                let frame = router.forms(mount, frame, *shards);
                self.post_all(shards.iter(), |_| {
                    let (room, frame) = (room.clone(), frame.clone());
                    Mail::Room { mount, room, own: None, frame, exclude: None }
                })
            }
            Target::Client(id) => match router.directory.client(*id) {
                Some((home, at)) if home == mount => {
                    let frame = router.forms(mount, frame, ShardSet::of(at.shard));
                    let to = std::iter::once(at.shard);
                    self.post_all(to, |_| Mail::Direct { conn: at.conn, frame: frame.clone() })
                }
                _ => Routed::default(),
            },
            Target::User(user) => {
                let shards = router.directory.user(mount, user);
                let frame = router.forms(mount, frame, shards);
                let mail = |_| Mail::User { mount, user: user.clone(), frame: frame.clone() };
                self.post_all(shards.iter(), mail)
            }
        }
    }

    fn publish_to_room(
        &mut self,
        mount: MountId,
        name: &str,
        frame: &Bytes,
        exclude: Option<Arc<[ClientRef]>>,
    ) -> Routed {
        let directory = &self.router.directory;
        let own = ClientId::parse(name).and_then(|id| directory.client(id));
        let own = own.filter(|(home, _)| *home == mount).map(|(_, at)| at);
        let (room, members) =
            directory.room(mount, name).unwrap_or_else(|| (Arc::from(name), ShardSet::default()));
        let shards = own.map_or(members, |at| members.with(at.shard));
        let frame = self.router.forms(mount, frame, shards);
        self.post_all(shards.iter(), |shard| {
            let own = own.filter(|at| at.shard == shard).map(|at| at.conn);
            Mail::Room { mount, room: room.clone(), own, frame: frame.clone(), exclude: exclude.clone() }
        })
    }

    fn post_all(&mut self, to: impl Iterator<Item = ShardId>, mail: impl Fn(ShardId) -> Mail) -> Routed {
        let mut routed = Routed::default();
        for shard in to {
            let mailbox = self.router.shard(shard);
            routed.count(mailbox.put(mail(shard)));
            // A shard that does not know of its letters would let them be lost.
            if mailbox.is_half_full() {
                mailbox.ring();
            }
            self.posted = self.posted.with(shard);
        }
        self.publications += 1;
        if self.publications >= PUBLICATIONS_UNRUNG_MAX {
            self.ring();
        }
        routed
    }

    fn ring(&mut self) {
        for shard in std::mem::take(&mut self.posted).iter() {
            self.router.shard(shard).ring();
        }
        self.publications = 0;
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.ring();
    }
}

impl Routed {
    /// With what another publication came to.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { shards: self.shards + other.shards, refused: self.refused + other.refused }
    }

    fn count(&mut self, posted: bool) {
        if posted { self.shards += 1 } else { self.refused += 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{MailReceiver, mailbox};

    const MOUNT: MountId = MountId(0);

    fn rig(letters_max: usize) -> (Router, MailReceiver) {
        let directory = Arc::new(Directory::new(1));
        directory.room_up(MOUNT, Arc::from("r"), ShardId(0));
        let (sender, receiver) = mailbox(letters_max).expect("an eventfd");
        (Router::new(directory, vec![sender]), receiver)
    }

    fn publication() -> Publication {
        let target = Target::Room("r".to_owned());
        Publication { mount: MOUNT, target, frame: Bytes::from_static(b"frame"), exclude: Vec::new() }
    }

    /// A shard that wakes for the first of several messages sends them one by one.
    #[test]
    fn a_batch_rings_once_when_all_is_posted_or_when_much_is() {
        let (router, mail) = rig(1_024);
        assert!(!mail.has_rung());
        let mut batch = router.batch();
        for _ in 1..PUBLICATIONS_UNRUNG_MAX {
            batch.publish(&publication());
        }
        assert!(!mail.has_rung(), "more may come");
        batch.publish(&publication());
        assert!(mail.has_rung(), "that is enough");
        mail.silence();
        assert!(mail.arm(), "letters wait");
        batch.publish(&publication());
        assert!(!mail.has_rung());
        drop(batch);
        assert!(mail.has_rung());
    }

    #[test]
    fn a_batch_rings_before_a_small_mailbox_is_full() {
        let (router, mail) = rig(64);
        let mut batch = router.batch();
        for _ in 0..32 {
            batch.publish(&publication());
        }
        assert!(!mail.has_rung());
        batch.publish(&publication());
        assert!(mail.has_rung());
    }

    #[test]
    fn a_publication_by_itself_rings_at_once() {
        let (router, mail) = rig(1_024);
        assert_eq!(router.publish(&publication()), Routed { shards: 1, refused: 0 });
        assert!(mail.has_rung());
    }
}
