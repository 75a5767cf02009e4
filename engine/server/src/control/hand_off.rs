//! A connection on its way from a shard to the control plane.

use std::io::{self, Write};
use std::net::{IpAddr, TcpStream as StdTcpStream};
use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::{Socket, Stream};
use super::secure::TlsStream;
use crate::admission::Place;
use crate::tls::conn::TlsConn;

const REFUSAL: &str = "{\"error\":{\"code\":\"too_many_connections\",\"message\":\"too many HTTP connections are \
    open: try again in a moment\"}}";

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer, or what its PROXY header said.
    pub address: IpAddr,
    /// Its PROXY header named nobody, so what requests say of a client need not be the proxy's word.
    pub is_unnamed: bool,
}

/// A connection on which a plain HTTP request arrived at a shard.
#[derive(Debug)]
pub struct HandOff {
    /// The socket; whoever gets it makes it non-blocking.
    pub stream: StdTcpStream,
    /// Where it comes from. Each request behind a proxy may come from somewhere else.
    pub peer: Peer,
    /// What the shard has read from it: the head of a request, and what followed.
    pub received: Vec<u8>,
    /// Our end of TLS, unless it is plain: `received` is opened, the rest is not.
    pub tls: Option<Box<TlsConn>>,
    /// What it takes of what its address may hold, until it ends.
    pub place: Option<Place<IpAddr>>,
}

impl HandOff {
    /// Says that there is no place, as far as the socket takes it at once, and closes.
    pub fn refuse(mut self) {
        let mut words = refusal();
        if let Some(conn) = &mut self.tls {
            let mut sealed = conn.unsent().to_vec();
            if conn.seal(&words, &mut sealed).is_err() {
                return;
            }
            words = sealed;
        }
        let refused = self.stream.set_nonblocking(true);
        note(refused.and_then(|()| (&self.stream).write(&words)));
    }

    pub(super) fn into_socket(self, write_timeout: Duration) -> io::Result<Socket> {
        self.stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(self.stream)?;
        let stream = match self.tls {
            None => Stream::Plain(stream),
            Some(conn) => Stream::Tls(TlsStream::new(stream, conn)),
        };
        Ok(Socket::new(stream, self.received, write_timeout))
    }
}

/// [`HandOff::refuse`] for a connection accepted here.
pub(super) fn refuse(stream: &TcpStream) {
    note(stream.try_write(&refusal()));
}

/// What a connection is told that finds no place.
fn refusal() -> Vec<u8> {
    let length = REFUSAL.len();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{REFUSAL}"
    )
    .into_bytes()
}

fn note(written: io::Result<usize>) {
    match written {
        Ok(_) => tracing::debug!("refused: too many HTTP connections"),
        Err(error) => tracing::debug!(%error, "refused without a word: too many HTTP connections"),
    }
}
