//! Which sockets have something to read, or room to write: one epoll set a shard, edge-triggered, looked at once a
//! turn. The set itself is a descriptor that the runtime waits on.
//!
//! The runtime's own way is a task and an operation in flight for each connection, some 700 bytes of memory for one
//! that does nothing (`docs/decisions/0012-one-readiness-set-a-shard.md`). Here a connection costs its registration in
//! the kernel and nothing else, and the same code serves io_uring and epoll.
//!
//! Edge-triggered: an event tells that something came, not that something is there. Whoever stops reading before the
//! socket is empty has to ask to be told again. Closing a descriptor takes it out of the set, unless it was duplicated.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use shardcast_shard::ConnId;

/// Sockets one turn hears of; the others wait for the next turn.
const EVENTS_PER_TURN: usize = 1_024;

const READ_EVENTS: libc::c_int = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
const END_EVENTS: libc::c_int = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;

/// What became of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// Whose socket.
    pub(super) id: ConnId,
    /// Something came.
    pub(super) readable: bool,
    /// The peer's half ended, or the socket failed: reading comes to an end.
    pub(super) ended: bool,
    /// It takes bytes; meaningful after [`Readiness::tell_again`] only.
    pub(super) writable: bool,
}

/// The set.
pub(super) struct Readiness {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Readiness {
    /// An empty set. Errors: no descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_PER_TURN) })
    }

    /// A descriptor that is readable when [`Readiness::poll`] has something to tell. Errors: none is left.
    pub(super) fn wake_fd(&self) -> io::Result<OwnedFd> {
        self.epoll.try_clone()
    }

    /// Takes a socket in. Errors: the kernel has no memory for it, or the user's limit on watches is reached.
    pub(super) fn add(&self, fd: RawFd, id: ConnId) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, READ_EVENTS, id)
    }

    /// Tells anew of what is there, behind all that others are told of already; and from here on of when the socket
    /// takes bytes, too. Errors: as for [`Readiness::add`].
    pub(super) fn tell_again(&self, fd: RawFd, id: ConnId) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, READ_EVENTS | libc::EPOLLOUT, id)
    }

    /// Forgets a socket that stays open.
    pub(super) fn remove(&self, fd: RawFd, id: ConnId) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, id)
    }

    /// Puts into `ready` what happened since the last call, at most [`EVENTS_PER_TURN`] sockets. Returns whether there
    /// may be more. Never blocks.
    pub(super) fn poll(&mut self, ready: &mut Vec<Ready>) -> bool {
        ready.clear();
        // SAFETY: the buffer has room for as many events as said, and the kernel tells how many it wrote.
        unsafe {
            let (events, len) = (self.events.as_mut_ptr(), EVENTS_PER_TURN as libc::c_int);
            let count = libc::epoll_wait(self.epoll.as_raw_fd(), events, len, 0);
            self.events.set_len(usize::try_from(count).unwrap_or(0));
        }
        ready.extend(self.events.iter().map(|event| {
            let (events, key) = (event.events as libc::c_int, event.u64);
            Ready {
                id: ConnId { slot: key as u32, generation: (key >> 32) as u32 },
                readable: events & (libc::EPOLLIN | END_EVENTS) != 0,
                ended: events & END_EVENTS != 0,
                writable: events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0,
            }
        }));
        ready.len() == EVENTS_PER_TURN
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: libc::c_int, id: ConnId) -> io::Result<()> {
        let u64 = u64::from(id.slot) | u64::from(id.generation) << 32;
        let mut event = libc::epoll_event { events: events as u32, u64 };
        // SAFETY: the event outlives the call.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    const ID: ConnId = ConnId { slot: 7, generation: 0xdead_beef };

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let client = TcpStream::connect(listener.local_addr().expect("addr")).expect("connect");
        (listener.accept().expect("accept").0, client)
    }

    fn poll(set: &mut Readiness) -> Vec<Ready> {
        let mut ready = Vec::new();
        set.poll(&mut ready);
        ready
    }

    #[test]
    fn pin_an_end_that_comes_with_or_after_bytes_is_told() {
        let (mut server, mut client) = pair();
        let mut set = Readiness::new().expect("epoll");
        set.add(server.as_raw_fd(), ID).expect("add");
        assert_eq!(poll(&mut set), []);
        client.write_all(b"x").expect("write");
        let bytes = Ready { id: ID, readable: true, ended: false, writable: false };
        assert_eq!(poll(&mut set), [bytes]);
        assert_eq!(poll(&mut set), [], "told once");
        client.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(poll(&mut set), [Ready { ended: true, ..bytes }]);
        server.read_exact(&mut [0; 1]).expect("read");
        set.remove(server.as_raw_fd(), ID).expect("remove");
        drop(client);
        assert_eq!(poll(&mut set), []);
    }

    #[test]
    fn pin_bytes_that_were_left_are_told_of_again_behind_others() {
        let (first, mut first_client) = pair();
        let (second, mut second_client) = pair();
        let other = ConnId { slot: 8, ..ID };
        let mut set = Readiness::new().expect("epoll");
        set.add(first.as_raw_fd(), ID).expect("add");
        set.add(second.as_raw_fd(), other).expect("add");
        first_client.write_all(b"x").expect("write");
        assert_eq!(poll(&mut set).len(), 1);
        second_client.write_all(b"y").expect("write");
        set.tell_again(first.as_raw_fd(), ID).expect("modify");
        first_client.write_all(b"x").expect("write");
        let told: Vec<_> = poll(&mut set).iter().map(|ready| (ready.id, ready.readable)).collect();
        assert_eq!(told, [(other, true), (ID, true)], "each once");
    }

    #[test]
    fn pin_a_socket_that_filled_up_before_it_was_asked_about_is_told_when_it_takes_bytes() {
        let (server, mut client) = pair();
        server.set_nonblocking(true).expect("non-blocking");
        let mut set = Readiness::new().expect("epoll");
        set.add(server.as_raw_fd(), ID).expect("add");
        for _ in 0..2 {
            while (&server).write(&[0; 1 << 16]).is_ok() {}
            set.tell_again(server.as_raw_fd(), ID).expect("modify");
            assert!(poll(&mut set).iter().all(|ready| !ready.writable));
            let mut received = vec![0; 1 << 20];
            let writable = (0..1_000).any(|_| {
                assert!(client.read(&mut received).expect("read") > 0);
                poll(&mut set).iter().any(|ready| ready.id == ID && ready.writable)
            });
            assert!(writable);
        }
    }
}
