//! The tasks that wait: for connections, for sockets, for mail. None holds a buffer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use monoio::net::{TcpListener, UnixStream};
use shardcast_shard::MountId;

use super::reserve;
use super::turn::{Ringer, Turns};
use crate::tls::Acceptor;

/// Connections taken from one listener before the sockets that are open get their turn.
const ACCEPTS_PER_WAKE: usize = 64;
/// Pause after so many, in which the others have their turn.
const FULL_BATCH_PAUSE: Duration = Duration::from_millis(1);
/// Pause after the process ran out of descriptors or memory.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// What a connection is told that cannot be served.
const SHED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What connections of a listener are for.
#[derive(Clone, Default)]
pub(super) struct Door {
    /// How they begin TLS, if they do.
    pub(super) tls: Option<Arc<Acceptor>>,
    /// The mount whose own port it is.
    pub(super) mount: Option<MountId>,
}

/// Accepts until the shard drains.
pub(super) async fn accept_loop(turns: Rc<Turns>, listener: TcpListener, door: Door) {
    while !turns.draining() {
        if let Err(error) = listener.readable(false).await {
            tracing::error!(%error, "waiting for connections failed; trying again");
            monoio::time::sleep(EXHAUSTED_PAUSE).await;
            continue;
        }
        match accept_some(&turns, &listener, &door) {
            Ok(Pause::None) => {}
            Ok(Pause::For(pause)) => monoio::time::sleep(pause).await,
            // A drain shuts the listener down under us.
            Err(_) if turns.draining() => return,
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection: raise the limit on open files (ulimit -n) or lower server.connections_max");
                monoio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// What comes before the next look at a listener.
enum Pause {
    /// Its next connection.
    None,
    /// So much time: there may be more.
    For(Duration),
}

/// Takes in connections that wait. An error: the kernel gives no more descriptors, memory or watches; those who waited
/// were told.
fn accept_some(turns: &Rc<Turns>, listener: &TcpListener, door: &Door) -> io::Result<Pause> {
    let process = &turns.engine.status().process;
    let accepts_shed = &process.accepts_shed;
    // Who speaks TLS would not understand.
    let shed = |socket: &OwnedFd| {
        if door.tls.is_none() {
            shed(socket);
        }
    };
    for _ in 0..ACCEPTS_PER_WAKE {
        let delay = turns.admission.accept_delay();
        if !delay.is_zero() {
            process.accepts_delayed.fetch_add(1, Ordering::Relaxed);
            return Ok(Pause::For(delay.max(FULL_BATCH_PAUSE)));
        }
        match reserve::accept(listener.as_raw_fd()) {
            Ok(None) => return Ok(Pause::None),
            Ok(Some(mut socket)) => {
                turns.admission.accepted();
                socket.mount = door.mount;
                if let Some(tls) = &door.tls {
                    socket.tls = Some(Box::new(tls.accept()));
                }
                let Err(refused) = turns.accept(socket) else { continue };
                shed(&refused.fd);
                if let Some(reason) = refused.reason {
                    accepts_shed.fetch_add(1, Ordering::Relaxed);
                    return Err(reason);
                }
            }
            Err(error) => {
                if !turns.draining() {
                    let told = reserve::shed(listener.as_raw_fd(), ACCEPTS_PER_WAKE, shed);
                    accepts_shed.fetch_add(told as u64, Ordering::Relaxed);
                }
                return Err(error);
            }
        }
    }
    // Under epoll a listener that is readable does not wait, so the others would have no turn.
    Ok(Pause::For(FULL_BATCH_PAUSE))
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

/// Rings for a turn whenever the descriptor is readable.
pub(super) async fn ring_loop(turns: Rc<Turns>, ringer: Ringer, fd: UnixStream) {
    loop {
        match fd.readable(false).await {
            Ok(()) => turns.ring(ringer).await,
            Err(error) => {
                tracing::error!(%error, ?ringer, "waiting failed; trying again");
                monoio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// What the runtime can wait on: an eventfd or an epoll set. It is only ever asked whether the descriptor is readable,
/// which any that can be polled answers. Errors: the kernel cannot watch it.
pub(super) fn pollable(fd: OwnedFd) -> io::Result<UnixStream> {
    UnixStream::from_std(fd.into())
}
