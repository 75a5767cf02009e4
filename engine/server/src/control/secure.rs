//! A TLS connection that a shard has handed off, as a stream.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::conn::{Opened, RECORD_BYTES_MAX, TlsConn};
use crate::tls::counters::Failure;

/// Ciphertext of one read. It is read when nothing complete is left, so no more than this and an incomplete record are
/// held.
const READ_BYTES: usize = 16 << 10;

/// The stream: it holds a record of plaintext at most.
#[derive(Debug)]
pub(super) struct TlsStream {
    tcp: TcpStream,
    conn: Box<TlsConn>,
    /// Opened and not read yet.
    plain: Bytes,
}

impl TlsStream {
    pub(super) fn new(tcp: TcpStream, conn: Box<TlsConn>) -> Self {
        Self { tcp, conn, plain: Bytes::new() }
    }

    /// Opens what there is and what was received behind it. `None`: more is needed.
    fn open(&mut self, received: &[u8]) -> io::Result<Option<Opened>> {
        let mut cipher = [self.conn.kept(), received].concat();
        let mut plain = vec![0; RECORD_BYTES_MAX];
        let (used, opened) = self.conn.open(&mut cipher, &mut plain);
        let opened = opened.map_err(broken)?;
        let rest = &cipher[used..];
        match opened {
            Opened::Plain(len) => {
                self.conn.hand_over(rest);
                plain.truncate(len);
                self.plain = Bytes::from(plain);
                Ok(Some(opened))
            }
            Opened::Ended => Ok(Some(opened)),
            Opened::Starved => {
                self.conn.keep(rest).map_err(broken)?;
                Ok(None)
            }
        }
    }

    /// Sends what is unsent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.conn.unsent().is_empty() {
            let count = ready!(Pin::new(&mut self.tcp).poll_write(cx, self.conn.unsent()))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.conn.handle_sent(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What rustls kept of the shard's last read may hold whole records.
        let mut received = Vec::new();
        loop {
            if !self.plain.is_empty() {
                let count = buffer.remaining().min(self.plain.len());
                buffer.put_slice(&self.plain[..count]);
                self.plain.advance(count);
                return Poll::Ready(Ok(()));
            }
            if self.open(&mem::take(&mut received))? == Some(Opened::Ended) {
                return Poll::Ready(Ok(()));
            }
            if !self.plain.is_empty() {
                continue;
            }
            received = vec![0; READ_BYTES];
            let mut room = ReadBuf::new(&mut received);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
            let count = room.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            received.truncate(count);
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let mut record = Vec::new();
        let took = self.conn.seal(bytes, &mut record).map_err(broken)?;
        self.conn.keep_unsent(&record).map_err(broken)?;
        // What the socket does not take now goes first the next time, or with the flush.
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(took)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.conn.is_finishing() {
            self.conn.finish();
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

fn broken(failure: Failure) -> io::Error {
    io::Error::other(failure.name())
}
