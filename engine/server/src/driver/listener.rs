//! The listening sockets of a shard: its own, with `SO_REUSEPORT`, so that the kernel spreads connections.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use shardcast_shard::MountId;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::tls::conn::TlsConn;

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
    // Accepted connections inherit both.
    socket.set_tcp_nodelay(true)?;
    bound_unsent(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Little is queued in the kernel.
fn bound_unsent(socket: &Socket) -> io::Result<()> {
    let value = NOTSENT_BYTES_MAX;
    // SAFETY: the value is a c_int that outlives the call.
    let result = unsafe {
        let (pointer, len) = ((&raw const value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, pointer, len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A connection just taken, and where it comes from.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) fd: OwnedFd,
    pub(super) address: IpAddr,
    /// The mount whose own port it came to.
    pub(super) mount: Option<MountId>,
    /// Its end of TLS, once its listener gave it one.
    pub(super) tls: Option<Box<TlsConn>>,
}

/// The next waiting connection, if there is one; never blocks.
pub(super) fn accept(listener: RawFd) -> io::Result<Option<Accepted>> {
    let mut address = SockAddrStorage::zeroed();
    let mut len = address.size_of();
    // SAFETY: address and length outlive the call, and the length is the address' own.
    let fd = unsafe {
        let pointer = (&raw mut address).cast();
        libc::accept4(listener, pointer, &raw mut len, libc::SOCK_CLOEXEC)
    };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the kernel wrote an address of that length.
        let address = unsafe { SockAddr::new(address, len) };
        let ip = address.as_socket().expect("a listener on an IP address").ip();
        return Ok(Some(Accepted { fd, address: ip.to_canonical(), mount: None, tls: None }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // The connection died while it waited: on to the next look.
        Some(libc::EAGAIN | libc::ECONNABORTED | libc::EINTR) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    /// Small frames must leave at once, and a slow reader's backlog must show early, without a system call for each
    /// connection.
    #[test]
    fn pin_accepted_connections_inherit_the_options_of_the_listener() {
        let listener = bind("127.0.0.1:0".parse().expect("address")).expect("bind");
        let _client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let accepted = std::iter::repeat_with(|| accept(listener.as_raw_fd()).expect("accept"));
        let accepted = accepted.flatten().next().expect("a connection");
        for (name, expected) in [(libc::TCP_NODELAY, 1), (libc::TCP_NOTSENT_LOWAT, NOTSENT_BYTES_MAX)] {
            let (mut value, mut len) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: value and length outlive the call.
            let result = unsafe {
                let pointer = (&raw mut value).cast();
                libc::getsockopt(accepted.fd.as_raw_fd(), libc::IPPROTO_TCP, name, pointer, &raw mut len)
            };
            assert_eq!((result, value), (0, expected), "option {name}");
        }
    }
}
