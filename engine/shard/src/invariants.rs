//! What must hold of a shard between any two calls outside a flush, checked the slow way.
//!
//! For simulations only: every check walks everything. A broken invariant is our fault and panics.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::burst::ROOT;
use crate::conn::{Auth, Conn, Phase};
use crate::ids::{ConnId, MountId};
use crate::outbox::CHUNK_BYTES;
use crate::rooms::Member;
use crate::shard::Shard;

impl Shard {
    /// A connection as the shard sees it; `None` once its slot is free.
    pub fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id)
    }

    /// Panics unless every bookkeeping agrees with every other. Not between [`Shard::poll_writes`] and the
    /// call of it that returns `false`.
    pub fn check_invariants(&self) {
        for (id, conn) in self.conns.iter() {
            self.check_memberships(id, conn);
            self.check_phase(id, conn);
            assert!(self.is_armed(id, conn), "{id:?} is not armed for its next deadline: {conn:?}");
        }
        self.check_rooms();
        self.check_users();
        self.check_flush();
        self.check_ledger();
        self.check_counts();
        self.check_deflating();
        self.open_listens();
        let handshakes = self.conns.iter().filter(|(_, conn)| conn.phase == Phase::Head).count();
        assert_eq!(self.handshakes as usize, handshakes, "connections without a request head");
    }

    /// The rooms of every [`crate::Effect::Listen`] that no [`crate::Effect::Unlisten`] followed.
    pub fn open_listens(&self) -> Vec<(MountId, Arc<str>)> {
        let of_conn = |conn: &'_ Conn| {
            let requests = conn.requests.iter().flat_map(|requests| requests.audit());
            requests.map(|room| (conn.mount, room.clone())).collect::<Vec<_>>()
        };
        self.conns.iter().flat_map(|(_, conn)| of_conn(conn)).collect()
    }

    fn check_memberships(&self, id: ConnId, conn: &Conn) {
        for (entry, membership) in conn.memberships.iter().enumerate() {
            let room = self.rooms.room(membership.room);
            assert_eq!(room.mount, conn.mount, "{id:?} is in a room of another mount");
            let member = Member { slot: id.slot, entry: entry as u32 };
            assert_eq!(room.members.get(membership.place as usize), Some(&member), "{id:?} in {}", room.name);
            let twins = conn.memberships.iter().filter(|other| other.room == membership.room).count();
            assert_eq!(twins, 1, "{id:?} is in {} more than once", room.name);
        }
    }

    fn check_phase(&self, id: ConnId, conn: &Conn) {
        if !conn.is_client() {
            assert!(conn.memberships.is_empty() && !conn.in_own_room, "{id:?} is in rooms and no client");
            assert!(conn.identity.user.is_none(), "{id:?} has a user and is no client");
        }
        let speaks_topic = conn.phase == Phase::Open && self.mount(conn.mount).is_topic();
        assert!(speaks_topic || conn.requests.is_none(), "{id:?} has requests in {:?}", conn.phase);
        assert!(!speaks_topic || !conn.in_own_room, "{id:?} is in a room that there is not");
        if conn.phase != Phase::Open {
            assert_eq!(conn.auth, Auth::Unauthorized, "{id:?} in {:?}", conn.phase);
            assert_eq!(conn.assembler.buffered_bytes(), 0, "{id:?} assembles in {:?}", conn.phase);
        }
        assert!(conn.phase == Phase::Head || conn.head.is_none(), "{id:?} keeps a head in {:?}", conn.phase);
        match conn.phase {
            Phase::Head | Phase::Lingering => {
                assert!(conn.outbox.is_none(), "{id:?} has a backlog in {:?}", conn.phase);
            }
            Phase::Gone => {
                assert!(
                    conn.outbox.is_none() && conn.path == ROOT,
                    "{id:?} is gone and has something to write"
                );
            }
            Phase::Open | Phase::Closing => {}
        }
    }

    fn check_rooms(&self) {
        let memberships: usize = self.conns.iter().map(|(_, conn)| conn.memberships.len()).sum();
        let members: usize = self.rooms.iter().map(|room| room.members.len()).sum();
        assert_eq!(memberships, members, "memberships and members");
        for room in self.rooms.iter() {
            assert!(!room.members.is_empty(), "{} has no members", room.name);
            let found = self.rooms.find(room.mount, &room.name).map(|index| self.rooms.room(index));
            assert!(
                found.is_some_and(|found| std::ptr::eq(found, room)),
                "{} is not found by name",
                room.name
            );
        }
    }

    fn check_users(&self) {
        let with_user = self.conns.iter().filter(|(_, conn)| conn.identity.user.is_some()).count();
        let mut listed = 0;
        for (mount, user, slots) in self.users.iter() {
            assert!(!slots.is_empty(), "{user} has no connections");
            for &slot in slots {
                let conn = self.conns.at(slot).expect("a user's connection exists");
                assert_eq!((conn.mount, conn.identity.user.as_ref()), (mount, Some(user)), "slot {slot}");
                listed += 1;
            }
        }
        assert_eq!(with_user, listed, "connections with a user and the index of users");
    }

    fn check_flush(&self) {
        let mut listed = BTreeMap::<ConnId, usize>::new();
        for &id in &self.flush.touched {
            *listed.entry(id).or_default() += 1;
        }
        let sealing = self.flush.sealing.audit();
        for (id, conn) in self.conns.iter() {
            let expected = usize::from(conn.touched);
            assert_eq!(listed.get(&id).copied().unwrap_or(0), expected, "{id:?} in the list of the touched");
            assert!(conn.touched || conn.path == ROOT, "{id:?} has a path and is not touched");
            let is_resumed = self.flush.resumed.contains(&id) || sealing.contains(&id);
            let is_watched = conn.awaiting_writable || is_resumed;
            assert!(conn.outbox.is_none() || is_watched, "{id:?} has a backlog nobody watches");
        }
    }

    fn check_ledger(&self) {
        let mut holders = BTreeMap::<_, u32>::new();
        let mut bytes = 0;
        for (_, conn) in self.conns.iter() {
            for burst in conn.outbox.iter().flat_map(|outbox| outbox.audit()) {
                let entries = holders.entry(Rc::as_ptr(burst)).or_default();
                if *entries == 0 {
                    bytes += burst.bytes.len();
                }
                *entries += 1;
                bytes += CHUNK_BYTES;
            }
        }
        for (_, conn) in self.conns.iter() {
            for burst in conn.outbox.iter().flat_map(|outbox| outbox.audit()) {
                assert_eq!(burst.holders.get(), holders[&Rc::as_ptr(burst)], "holders of a burst");
            }
        }
        assert_eq!(self.ledger.bytes(), bytes, "the ledger and the bursts held");
    }

    fn check_deflating(&self) {
        for (mount, &count) in self.deflating.iter().enumerate() {
            let open = |conn: &Conn| conn.phase == Phase::Open && usize::from(conn.mount.0) == mount;
            let found = self.conns.iter().filter(|(_, conn)| open(conn) && conn.takes_deflated()).count();
            assert_eq!(count as usize, found, "connections of mount {mount} that deflate");
        }
    }

    fn check_counts(&self) {
        let count = |matches: fn(&Conn) -> bool| self.conns.iter().filter(|(_, conn)| matches(conn)).count();
        assert_eq!(self.conns.len(), count(|_| true), "connections");
        assert_eq!(self.counters.clients, count(Conn::is_client) as u64, "clients");
        let encrypted = |conn: &Conn| conn.is_client() && conn.cipher.is_some();
        assert_eq!(self.counters.encrypted, count(encrypted) as u64, "encrypted clients");
        let heads = self.conns.iter().map(|(_, conn)| conn.head.as_ref().map_or(0, |head| head.bytes.len()));
        let messages = self.conns.iter().map(|(_, conn)| conn.assembler.buffered_bytes());
        let requests = self.conns.iter().filter_map(|(_, conn)| conn.requests.as_ref());
        let requests = requests.map(|requests| requests.context_bytes());
        let input = heads.chain(messages).chain(requests).sum::<usize>();
        assert_eq!(self.input_bytes, input, "bytes of incomplete input and waiting requests");
    }
}
