//! A connection on its way from a shard to the control plane.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::time::Duration;

use tokio::net::TcpStream;

use super::connection::Socket;

/// What a connection is told that finds no place; its length is checked by a test.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/json\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    Content-Length: 113\r\n\
    \r\n\
    {\"error\":{\"code\":\"too_many_connections\",\"message\":\"too many HTTP connections are open: try again in a \
    moment\"}}";

/// A connection on which a plain HTTP request arrived at a shard.
#[derive(Debug)]
pub struct HandOff {
    /// The socket; whoever gets it makes it non-blocking.
    pub stream: StdTcpStream,
    /// What the shard has read from it: the head of a request, and what followed.
    pub received: Vec<u8>,
}

impl HandOff {
    /// Says that there is no place, as far as the socket takes it at once, and closes.
    pub fn refuse(self) {
        let refused = self.stream.set_nonblocking(true);
        match refused.and_then(|()| io::Write::write(&mut &self.stream, REFUSAL)) {
            Ok(_) => tracing::debug!("refused: too many HTTP connections"),
            Err(error) => tracing::debug!(%error, "refused without a word: too many HTTP connections"),
        }
    }

    pub(super) fn into_socket(self, write_timeout: Duration) -> io::Result<Socket> {
        self.stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(self.stream)?;
        Ok(Socket::new(stream, self.received, write_timeout))
    }
}

/// [`HandOff::refuse`] for a connection accepted here.
pub(super) fn refuse(stream: &TcpStream) {
    if let Err(error) = stream.try_write(REFUSAL) {
        tracing::debug!(%error, "the refusal was not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::REFUSAL;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(REFUSAL).expect("ASCII");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{} in {head}", body.len());
        serde_json::from_str::<serde_json::Value>(body).expect("JSON");
    }
}
