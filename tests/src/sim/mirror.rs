//! Who is where, as the shards' effects tell it: what the directory must say, and whom a publication reaches.

use std::collections::{BTreeMap, BTreeSet};

use shardcast::directory::Directory;
use shardcast_shard::{ClientRef, ConnId, MountId, ShardId};
use shardcast_wire::ignis::{ClientId, UserId};

use super::model::{Audience, Auth, Model, Phase};

/// Every announcement is the opposite of the one before it, or this panics.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    clients: BTreeMap<ClientId, (usize, usize, ConnId)>,
    rooms: BTreeMap<(usize, String), BTreeSet<usize>>,
    users: BTreeMap<(usize, UserId), BTreeSet<usize>>,
    /// Mount and shard.
    deflating: BTreeSet<(usize, usize)>,
    /// Mount, room and shard of each listening that is not settled.
    listening: Vec<(usize, String, usize)>,
}

impl Mirror {
    pub(crate) fn client_up(&mut self, id: ClientId, mount: usize, shard: usize, conn: ConnId) {
        assert!(self.clients.insert(id, (mount, shard, conn)).is_none(), "client {id} is up twice");
    }

    pub(crate) fn client_down(&mut self, id: ClientId) {
        assert!(self.clients.remove(&id).is_some(), "client {id} goes down and was not up");
    }

    pub(crate) fn room_up(&mut self, mount: usize, room: &str, shard: usize) {
        let shards = self.rooms.entry((mount, room.to_owned())).or_default();
        assert!(shards.insert(shard), "room {room} is up twice on shard {shard}");
    }

    pub(crate) fn room_down(&mut self, mount: usize, room: &str, shard: usize) {
        let key = (mount, room.to_owned());
        let shards =
            self.rooms.get_mut(&key).unwrap_or_else(|| panic!("room {room} goes down and was not up"));
        assert!(shards.remove(&shard), "room {room} goes down and was not up on shard {shard}");
        if shards.is_empty() {
            self.rooms.remove(&key);
        }
    }

    pub(crate) fn listen(&mut self, mount: usize, room: &str, shard: usize) {
        self.listening.push((mount, room.to_owned(), shard));
    }

    pub(crate) fn unlisten(&mut self, mount: usize, room: &str, shard: usize) {
        let is_it = |at: &(usize, String, usize)| (at.0, &*at.1, at.2) == (mount, room, shard);
        let found = self.listening.iter().position(is_it);
        self.listening.swap_remove(found.unwrap_or_else(|| panic!("nobody listens to {room}")));
    }

    pub(crate) fn user_up(&mut self, mount: usize, user: UserId, shard: usize) {
        let shards = self.users.entry((mount, user)).or_default();
        assert!(shards.insert(shard), "a user is up twice on shard {shard}");
    }

    pub(crate) fn user_down(&mut self, mount: usize, user: UserId, shard: usize) {
        let key = (mount, user);
        let shards = self.users.get_mut(&key).expect("a user that goes down was up");
        assert!(shards.remove(&shard), "a user goes down and was not up on shard {shard}");
        if shards.is_empty() {
            self.users.remove(&key);
        }
    }

    pub(crate) fn deflate_up(&mut self, mount: usize, shard: usize) {
        assert!(self.deflating.insert((mount, shard)), "mount {mount} deflates twice on shard {shard}");
    }

    pub(crate) fn deflate_down(&mut self, mount: usize, shard: usize) {
        assert!(self.deflating.remove(&(mount, shard)), "mount {mount} did not deflate on shard {shard}");
    }

    /// Whether one of these shards has connections that deflate.
    pub(crate) fn deflates(&self, mount: usize, shards: &BTreeSet<usize>) -> bool {
        shards.iter().any(|&shard| self.deflating.contains(&(mount, shard)))
    }

    /// The connection of a client that can be addressed.
    pub(crate) fn client(&self, id: ClientId) -> Option<(usize, usize, ConnId)> {
        self.clients.get(&id).copied()
    }

    /// The shards a publication goes to.
    pub(crate) fn route(&self, mount: usize, audience: &Audience, model: &Model) -> BTreeSet<usize> {
        match audience {
            Audience::Broadcast => (0..model.tallies.len()).collect(),
            Audience::Room(name, own) => {
                let members = self.rooms.get(&(mount, name.clone())).cloned().unwrap_or_default();
                members.into_iter().chain(own.map(|conn| model.conns[conn].shard)).collect()
            }
            Audience::Client(conn) => [model.conns[*conn].shard].into(),
            Audience::User(user) => self.users.get(&(mount, user.clone())).cloned().unwrap_or_default(),
        }
    }

    /// With all effects of a shard carried out, its clients, rooms and users are those of the model.
    pub(crate) fn check(&self, shard: usize, model: &Model) {
        let conns = || model.on_shard(shard).map(|index| &model.conns[index]);
        let clients = self.clients.iter().filter(|(_, at)| at.1 == shard);
        let mut clients: Vec<_> = clients.map(|(&id, &(mount, _, conn))| (id, mount, conn)).collect();
        clients.sort_unstable();
        let up = conns().filter(|conn| conn.auth == Auth::Done);
        let mut expected: Vec<_> = up.map(|conn| (conn.client_id, conn.mount, conn.id)).collect();
        expected.sort_unstable();
        assert_eq!(clients, expected, "clients of shard {shard}");

        let here = |(key, shards): (&(usize, String), &BTreeSet<usize>)| {
            shards.contains(&shard).then(|| key.clone())
        };
        let rooms: Vec<_> = self.rooms.iter().filter_map(here).collect();
        assert_eq!(rooms, model.rooms_on(shard), "rooms of shard {shard}");

        let here = |(key, shards): (&(usize, UserId), &BTreeSet<usize>)| {
            shards.contains(&shard).then(|| key.clone())
        };
        let users: BTreeSet<_> = self.users.iter().filter_map(here).collect();
        let expected = conns().filter_map(|conn| Some((conn.mount, conn.user.clone()?))).collect();
        assert_eq!(users, expected, "users of shard {shard}");

        let here = self.listening.iter().filter(|at| at.2 == shard);
        let mut listening: Vec<_> = here.map(|(mount, room, _)| (*mount, room.clone())).collect();
        listening.sort_unstable();
        assert_eq!(listening, model.listens_on(shard), "what is asked of Redis for shard {shard}");

        let deflating: BTreeSet<_> = self.deflating.iter().copied().filter(|at| at.1 == shard).collect();
        let open = conns().filter(|conn| conn.phase == Phase::Open && conn.takes_deflated());
        let expected = open.map(|conn| (conn.mount, shard)).collect();
        assert_eq!(deflating, expected, "mounts of shard {shard} that deflate");
    }

    /// The real directory says the same.
    pub(crate) fn check_directory(&self, directory: &Directory) {
        assert_eq!(directory.clients_len(), self.clients.len(), "clients in the directory");
        assert_eq!(directory.rooms_len(), self.rooms.len(), "rooms in the directory");
        assert_eq!(directory.users_len(), self.users.len(), "users in the directory");
        for (&id, &(mount, shard, conn)) in &self.clients {
            let at = ClientRef { shard: ShardId(shard as u8), conn };
            assert_eq!(directory.client(id), Some((MountId(mount as u8), at)), "client {id}");
        }
        let shards = |set: &BTreeSet<usize>| set.iter().map(|&s| ShardId(s as u8)).collect::<Vec<_>>();
        for ((mount, room), set) in &self.rooms {
            let found =
                directory.room(MountId(*mount as u8), room).map(|(_, at)| at.iter().collect::<Vec<_>>());
            assert_eq!(found, Some(shards(set)), "room {room}");
        }
        for ((mount, user), set) in &self.users {
            let found: Vec<_> = directory.user(MountId(*mount as u8), user).iter().collect();
            assert_eq!(found, shards(set), "user {user}");
        }
    }

    /// The same of what the mounts of the directory deflate.
    pub(crate) fn check_deflating(&self, directory: &Directory, mount_count: usize) {
        for mount in 0..mount_count {
            let found: Vec<_> = directory.deflating(MountId(mount as u8)).iter().collect();
            let here = self.deflating.iter().filter(|at| at.0 == mount);
            let expected: Vec<_> = here.map(|at| ShardId(at.1 as u8)).collect();
            assert_eq!(found, expected, "shards of mount {mount} that deflate");
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.listening.is_empty()
            && self.deflating.is_empty()
            && self.clients.is_empty()
            && self.rooms.is_empty()
            && self.users.is_empty()
    }
}
