//! The listening sockets of a shard: its own, with `SO_REUSEPORT`, so that the kernel spreads connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections waiting in the kernel to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Unsent bytes the kernel queues a connection: what a slow reader costs in the kernel, and how early its
/// backlog is seen.
const NOTSENT_BYTES_MAX: libc::c_int = 128 << 10;

/// A bound listener that other shards can share the address of. Port 0 takes a free port.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The next waiting connection, if there is one; never blocks.
pub(super) fn accept(listener: RawFd) -> io::Result<Option<OwnedFd>> {
    // SAFETY: null address pointers are allowed by accept4(2).
    let fd =
        unsafe { libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC) };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and nobody else owns it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The connection died while it waited: on to the next look.
        Some(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

/// Small frames leave at once, and little is queued in the kernel. Failing costs speed, not correctness.
pub(super) fn tune(socket: &OwnedFd) {
    let options = [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, NOTSENT_BYTES_MAX),
    ];
    for (level, name, value) in options {
        // SAFETY: the value is a c_int that outlives the call.
        unsafe {
            let pointer = (&raw const value).cast();
            libc::setsockopt(socket.as_raw_fd(), level, name, pointer, size_of::<libc::c_int>() as u32);
        }
    }
}
