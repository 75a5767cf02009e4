//! The tasks that wait: for connections, for bytes, for room in a socket, for mail. None holds a buffer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use monoio::net::{TcpListener, TcpStream, UnixStream};
use shardcast_shard::ConnId;

use super::turn::{Reading, Turns};
use super::{listener, reserve};

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
        let Some(ready) = turns.until_over(listener.readable(false)).await else { return };
        if let Err(error) = ready {
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
    listener::tune(&socket);
    let Some(id) = turns.accept() else {
        shed(&socket);
        return;
    };
    match TcpStream::from_std(socket.into()) {
        Ok(stream) => {
            let stream = Rc::new(stream);
            turns.seat(id, stream.clone());
            monoio::spawn(read_loop(turns.clone(), id, stream));
        }
        Err(error) => {
            tracing::warn!(%error, "cannot watch a connection");
            turns.unseat(id);
        }
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

/// Reads a connection until its end.
async fn read_loop(turns: Rc<Turns>, id: ConnId, stream: Rc<TcpStream>) {
    loop {
        if stream.readable(false).await.is_err() {
            turns.reader_failed(id);
            break;
        }
        match turns.receive(id, stream.as_raw_fd()) {
            Reading::Goes => {}
            Reading::Over => break,
        }
    }
    drop(stream);
    turns.reader_done(id);
}

/// Waits once until the socket takes bytes again.
pub(super) async fn wait_writable(turns: Rc<Turns>, id: ConnId, stream: Rc<TcpStream>) {
    // An error shows at the next write.
    let _ready: io::Result<()> = stream.writable(false).await;
    turns.writable(id);
}

/// Rings for a turn whenever the mailbox does.
pub(super) async fn mail_loop(turns: Rc<Turns>, eventfd: OwnedFd) {
    // monoio is only asked whether the descriptor is readable, which any that can be polled answers.
    let waker = UnixStream::from_std(eventfd.into()).expect("an eventfd can be polled");
    while let Some(ready) = turns.until_over(waker.readable(false)).await {
        ready.expect("an eventfd can be polled");
        turns.mail_came();
        turns.until_over(turns.mail_seen()).await;
    }
}
