//! The tasks that wait: for connections, for sockets, for mail. None holds a buffer.

use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use monoio::net::{TcpListener, UnixStream};

use super::reserve;
use super::turn::{Ringer, Turns};

/// Connections taken from one listener before the sockets that are open get their turn.
const ACCEPTS_PER_WAKE: usize = 64;
/// Pause after the process ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// What a connection is told that cannot be served.
const SHED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Accepts until the shard drains.
pub(super) async fn accept_loop(turns: Rc<Turns>, listener: TcpListener) {
    while !turns.draining() {
        if let Err(error) = listener.readable(false).await {
            tracing::error!(%error, "waiting for connections failed; trying again");
            monoio::time::sleep(EXHAUSTED_PAUSE).await;
            continue;
        }
        for _ in 0..ACCEPTS_PER_WAKE {
            match reserve::accept(listener.as_raw_fd()) {
                Ok(None) => break,
                Ok(Some(socket)) => open(&turns, socket),
                // A drain shuts the listener down under us.
                Err(_) if turns.draining() => return,
                Err(error) => {
                    let told = reserve::shed(listener.as_raw_fd(), ACCEPTS_PER_WAKE, shed);
                    turns.engine.status().process.accepts_shed.fetch_add(told as u64, Ordering::Relaxed);
                    tracing::warn!(%error, "cannot take a connection: raise the limit on open files (ulimit -n) or lower server.connections_max");
                    monoio::time::sleep(EXHAUSTED_PAUSE).await;
                    break;
                }
            }
        }
    }
}

/// Takes a connection in, or tells it to come back later.
fn open(turns: &Rc<Turns>, socket: OwnedFd) {
    if let Err(socket) = turns.accept(socket) {
        shed(&socket);
    }
}

fn shed(socket: &OwnedFd) {
    // SAFETY: a static slice. The answer is a courtesy: the socket closes whether it got out or not.
    unsafe {
        libc::send(
            socket.as_raw_fd(),
            SHED.as_ptr().cast(),
            SHED.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
}

/// Rings for a turn whenever the descriptor, an eventfd or an epoll set, is readable.
pub(super) async fn ring_loop(turns: Rc<Turns>, ringer: Ringer, fd: OwnedFd) {
    // monoio is only asked whether the descriptor is readable, which any that can be polled answers.
    let fd = UnixStream::from_std(fd.into()).expect("it can be polled");
    loop {
        fd.readable(false).await.expect("it can be polled");
        turns.ring(ringer).await;
    }
}
