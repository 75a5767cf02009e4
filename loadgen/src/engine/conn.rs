//! One connection: its socket, how far it is, and what of a frame has arrived.
//!
//! Invariant: an idle connection owns no heap memory.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that share a source address: towards one destination an address has some 28,000 ports, and the
/// kernel finds a free one the faster the more are free.
const CONNECTIONS_PER_SOURCE: u32 = 8192;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The TCP handshake is under way.
    Connecting,
    /// The upgrade was asked for.
    Upgrading,
    /// The login was sent.
    LoggingIn,
    /// Logged in, counting.
    Live,
    /// Said goodbye, waits for the server to end the connection.
    Leaving,
    /// Waits for its turn to connect.
    Queued,
    /// Over.
    Closed,
}

/// Receive buffer of a connection that reads slowly: what the kernel hides of the slowness, in bytes.
const SLOW_RECV_BUFFER_BYTES: usize = 4096;

/// One connection; `stream` is there unless it is closed or queued.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: Option<TcpStream>,
    pub(super) state: State,
    /// The server answered the goodbye.
    pub(super) is_bid_goodbye: bool,
    /// The first bytes of a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// What the socket would not take.
    unsent: Vec<u8>,
}

impl Conn {
    /// Begins to connect, from a source address by the number of the connection.
    pub(super) fn open(target: SocketAddr, connection: u32, is_slow: bool) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if is_slow {
            socket.set_recv_buffer_size(SLOW_RECV_BUFFER_BYTES)?;
        }
        if let Some(source) = source_address(target, connection) {
            crate::sys::set_bind_address_no_port(socket.as_fd())?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
        }
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(Self { stream: Some(stream), state: State::Connecting, ..Self::closed() })
    }

    /// A connection whose turn to connect has not come.
    pub(super) fn queued() -> Self {
        Self { state: State::Queued, ..Self::closed() }
    }

    /// A connection that came to nothing.
    pub(super) fn closed() -> Self {
        Self {
            stream: None,
            state: State::Closed,
            is_bid_goodbye: false,
            partial: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// A connection that could not even begin, to be closed with its reason.
    pub(super) fn stillborn() -> Self {
        Self { state: State::Connecting, ..Self::closed() }
    }

    /// Reads up to so many bytes behind what was kept of the last read; `Ok(None)` when nothing is waiting, else the
    /// bytes in `scratch` and how many of them are new.
    pub(super) fn read(&mut self, scratch: &mut [u8], most: usize) -> io::Result<Option<(usize, usize)>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        let kept = self.partial.len();
        let end = scratch.len().min(kept.saturating_add(most));
        loop {
            match stream.read(&mut scratch[kept..end]) {
                Ok(received) => {
                    scratch[..kept].copy_from_slice(&self.partial);
                    return Ok(Some((kept + received, received)));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the front of a frame until its rest arrives.
    pub(super) fn keep(&mut self, partial: &[u8]) {
        if partial.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(partial);
        }
    }

    /// Sends, or queues what the socket does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = if self.unsent.is_empty() { self.write(bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    /// Sends what was queued.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let mut unsent = std::mem::take(&mut self.unsent);
        let sent = self.write(&unsent)?;
        if sent < unsent.len() {
            unsent.drain(..sent);
            self.unsent = unsent;
        }
        Ok(())
    }

    /// Lets the end of the connection be a reset: what was sent or is to come does not matter any more.
    pub(super) fn end_with_reset(&self) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        SockRef::from(stream).set_linger(Some(Duration::ZERO))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(stream) = &mut self.stream else { return Ok(bytes.len()) };
        match stream.write(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            outcome => outcome,
        }
    }
}

/// Where to connect from, so that no source address runs out of ports: anywhere in 127.0.0.0/8 for servers there,
/// the kernel's choice for others.
fn source_address(target: SocketAddr, connection: u32) -> Option<IpAddr> {
    let SocketAddr::V4(target) = target else { return None };
    target.ip().is_loopback().then(|| {
        let first = Ipv4Addr::new(127, 1, 0, 1);
        IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() + connection / CONNECTIONS_PER_SOURCE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_connections_spread_over_source_addresses() {
        let local: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let table = [
            (0, [127, 1, 0, 1]),
            (8191, [127, 1, 0, 1]),
            (8192, [127, 1, 0, 2]),
            (9_999_999, [127, 1, 4, 197]),
        ];
        for (connection, address) in table {
            assert_eq!(source_address(local, connection), Some(IpAddr::from(address)));
        }
        for remote in ["192.0.2.1:1", "[::1]:1"] {
            assert_eq!(source_address(remote.parse().expect("an address"), 0), None);
        }
    }
}
