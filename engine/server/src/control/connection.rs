//! One HTTP connection: its socket with the bytes a shard has read already, its timeouts, its end.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::answer::Answer;
use super::hand_off::Peer;
use super::secure::TlsStream;
use super::{Control, admin, api};

/// The smallest read buffer hyper works with.
const READ_BUFFER_BYTES_MIN: usize = 8 * 1024;

/// The most that is thrown away of what a peer sends after we closed our side.
const LINGER_BYTES_MAX: u64 = 1024 * 1024;

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Backends, and whoever else reaches the public port, with the address of the peer.
    Public(Peer),
    /// Operators.
    Admin,
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// Ends when `stop` turns true or its sender is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone.
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("the control plane's owner is gone");
    }
}

/// Answers the requests of one connection until either side ends it.
pub(super) async fn serve(
    control: Arc<Control>,
    audience: Audience,
    socket: Socket,
    mut stop: watch::Receiver<bool>,
) {
    let limits = control.settings.limits.clone();
    let service = service_fn(move |request: Request<Incoming>| -> Answering {
        let control = control.clone();
        Box::pin(async move {
            Ok(match audience {
                Audience::Public(peer) => {
                    let address = control.settings.client_address(request.headers(), peer);
                    api::answer(&control, address, request).await
                }
                Audience::Admin => admin::answer(&control, &request),
            })
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes_max.max(READ_BUFFER_BYTES_MIN))
        .title_case_headers(true)
        .serve_connection(TokioIo::new(socket), service);
    let served = tokio::select! {
        served = &mut connection => served,
        () = stopped(&mut stop) => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
    let socket = connection.into_parts().io.into_inner();
    linger(socket, limits.linger_timeout).await;
}

/// Closes our side and throws away what the peer still sends, for a while: bytes that nobody read when a socket
/// closes make the kernel reset it, and the peer would lose our last answer.
async fn linger(mut socket: Socket, timeout: Duration) {
    let rest = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(timeout, rest).await {
        tracing::debug!(%error, "an HTTP connection broke while closing");
    }
}

/// What moves the bytes.
#[derive(Debug)]
pub(super) enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// In records of TLS.
    Tls(TlsStream),
}

/// A socket that first yields what a shard has read from it, and that fails when the peer takes nothing for
/// `write_timeout`.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    received: Bytes,
    write_timeout: Duration,
    /// Runs while the socket is full.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: Stream, received: Vec<u8>, write_timeout: Duration) -> Self {
        Self { stream, received: Bytes::from(received), write_timeout, stalled: None }
    }

    /// Turns a write that waits for too long into an error.
    fn in_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Does the same with whichever stream there is.
macro_rules! on_stream {
    ($socket:ident, $call:ident($($argument:expr),*)) => {
        match &mut $socket.stream {
            Stream::Plain(stream) => Pin::new(stream).$call($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$call($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return on_stream!(self, poll_read(cx, buffer));
        }
        let count = buffer.remaining().min(self.received.len());
        buffer.put_slice(&self.received[..count]);
        self.received.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, poll_write(cx, bytes));
        self.in_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = on_stream!(self, poll_write_vectored(cx, slices));
        self.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = on_stream!(self, poll_flush(cx));
        self.in_time(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown(cx))
    }
}
