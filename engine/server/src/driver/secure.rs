//! The driver's part of TLS: between a socket and its [`TlsConn`].
//!
//! The shard is not aware of it: it is fed plaintext and told how much of that was taken. Plaintext is fed as soon as a
//! record is opened and is not kept, so what is left in a socket is all there is to be told of again. What was sealed
//! and not taken is sent before anything else of that connection; it is at most one record.

use std::iter::zip;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

use shardcast_shard::flush::Written;
use shardcast_shard::{ConnId, HangUp, Now};

use super::core::{Core, SCRATCH_LEN, Socket, socket_of_mut};
use super::sends::send_direct;
use crate::tls::conn::{KEPT_BYTES_MAX, Opened, TlsConn};
use crate::tls::counters::Failure;

/// Connections within their handshakes that are read in one turn; the others wait for the next. The answer to a hello
/// takes 0.3 ms of the shard's time with an ECDSA key, 1 ms with an RSA key (`docs/tls.md`).
const HANDSHAKES_PER_TURN: usize = 8;

/// Sealed bytes at which a batch of sends is full, whatever its last record adds.
const SEALED_BATCH_BYTES: usize = 1 << 20;

/// A connection is dear to read while fewer than one in so many bytes of its records are plaintext: it sends changes of
/// keys or empty records, each of which takes as long as a record that is full.
const DEAR_RATIO: usize = 4;

/// What somebody is told who speaks HTTP where TLS is expected.
const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 51\r\n\r\nThis port speaks TLS: use https:// or wss:// here.\r\n";

/// What a shard needs for all its TLS connections together.
#[derive(Default)]
pub(super) struct Secure {
    /// TLS connections of this shard.
    pub(super) count: usize,
    /// Ciphertext: what was kept of a connection, and what was received behind it. Empty without TLS.
    cipher: Vec<u8>,
    /// What of `cipher` is not opened yet.
    rest: Range<usize>,
    /// Records of one batch of sends.
    sealed: Vec<u8>,
    /// Connections within their handshakes that were looked at in this turn.
    handshakes: usize,
    /// Connections with something unsent since this turn's writes.
    unsent: Vec<ConnId>,
}

/// What is to become of a connection that was fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It may be read on.
    Read,
    /// It has had its share of this turn.
    Later,
    /// Nothing more is to be read until something else happens to it.
    Stop,
}

/// What one write of a batch comes to.
enum Offer {
    /// These bytes go to the socket.
    Plain(RawFd),
    /// This record goes to the socket, with so many bytes of the write.
    Record { fd: RawFd, record: Range<usize>, took: usize },
    /// Nothing goes out, and this is the answer.
    Nothing(Written),
}

impl Secure {
    /// Room for `len` bytes behind what was kept of a connection.
    pub(super) fn room(&mut self, kept: &[u8], len: usize) -> &mut [u8] {
        self.cipher.resize(KEPT_BYTES_MAX + SCRATCH_LEN, 0);
        self.cipher[..kept.len()].copy_from_slice(kept);
        self.rest = 0..kept.len();
        &mut self.cipher[kept.len()..kept.len() + len]
    }

    /// What was not opened of the connection that is being fed: whoever takes it over begins with that.
    pub(super) fn take_rest(&mut self) -> &[u8] {
        &self.cipher[std::mem::take(&mut self.rest)]
    }

    /// A turn begins.
    pub(super) fn begin_turn(&mut self) {
        self.handshakes = 0;
    }

    /// Whether a connection has to wait with its handshake for the next turn.
    pub(super) fn must_wait(&mut self, conn: Option<&TlsConn>) -> bool {
        let is_handshaking = conn.is_some_and(TlsConn::is_handshaking);
        self.handshakes += usize::from(is_handshaking);
        is_handshaking && self.handshakes > HANDSHAKES_PER_TURN
    }
}

impl Core {
    /// Opens what is kept and the `received` bytes behind it, and feeds the shard.
    pub(super) fn open(&mut self, now: Now, id: ConnId, received: usize) -> Next {
        self.secure.rest.end += received;
        let (mut ciphertext, mut plaintext) = (0, 0);
        loop {
            let Some(conn) = tls_of(&mut self.sockets, id) else { return Next::Stop };
            let (rest, was_open) = (self.secure.rest.clone(), !conn.is_handshaking());
            let (used, opened) = conn.open(&mut self.secure.cipher[rest], &mut self.scratch);
            self.secure.rest.start += used;
            ciphertext += if was_open { used } else { 0 };
            let kept = match opened {
                Ok(Opened::Plain(len)) => {
                    plaintext += len;
                    self.feed(now, id, 0..len);
                    continue;
                }
                Ok(Opened::Starved) => conn.keep(self.secure.take_rest()),
                Ok(Opened::Ended) => {
                    self.shard.handle_hang_up(id, HangUp::Eof);
                    self.run_effects();
                    return Next::Stop;
                }
                Err(failure) => Err(failure),
            };
            if let Err(failure) = kept {
                self.part(id, failure);
                return Next::Stop;
            }
            if !self.flush_secure(id) {
                return Next::Stop;
            }
            let is_dear = is_dear(ciphertext, plaintext);
            if let Some(socket) = socket_of_mut(&mut self.sockets, id) {
                socket.is_dear = is_dear;
            }
            return if is_dear { Next::Later } else { Next::Read };
        }
    }

    /// Tells the peer why, as far as its socket takes that at once, and ends the connection.
    fn part(&mut self, id: ConnId, failure: Failure) {
        if let Some(Socket { fd, tls: Some(conn), .. }) = socket_of_mut(&mut self.sockets, id) {
            let words = if failure == Failure::PlainHttp { NOT_HTTP } else { conn.unsent() };
            let told = send_direct(fd.as_raw_fd(), words);
            tracing::debug!(reason = failure.name(), ?told, "a TLS connection ends");
        }
        self.shard.handle_hang_up(id, HangUp::Error);
        self.run_effects();
    }

    /// Sends what is unsent, if anything. `false`: the socket has not taken all of it, or is broken. Effects come of it,
    /// which the caller runs: this is reached from one.
    pub(super) fn flush_secure(&mut self, id: ConnId) -> bool {
        let Some(Socket { fd, tls: Some(conn), .. }) = socket_of_mut(&mut self.sockets, id) else {
            return true;
        };
        let fd = fd.as_raw_fd();
        if conn.unsent().is_empty() {
            return true;
        }
        while !conn.unsent().is_empty() {
            match send_direct(fd, conn.unsent()) {
                Written::Took(0) => {
                    self.tell_again(id);
                    return false;
                }
                Written::Took(count) => conn.handle_sent(count),
                Written::Failed => {
                    self.shard.handle_hang_up(id, HangUp::Error);
                    return false;
                }
            }
        }
        if conn.is_finished() {
            shut_down(fd);
        }
        true
    }

    /// Sends FIN, behind a farewell if the connection has TLS: now, or once the socket has taken what is before it.
    pub(super) fn finish(&mut self, id: ConnId) {
        let Some(socket) = socket_of_mut(&mut self.sockets, id) else { return };
        let fd = socket.fd.as_raw_fd();
        if let Some(conn) = &mut socket.tls {
            conn.finish();
            if !conn.is_finished() {
                self.flush_secure(id);
                return;
            }
        }
        shut_down(fd);
    }

    /// Offers a batch with TLS connections in it, in as many batches of sends as its records fill.
    pub(super) fn submit_secure(&mut self) {
        let Self { shard, sockets, sends, secure, results, .. } = self;
        let writes: Vec<(ConnId, &[u8])> = shard.writes().collect();
        let mut all = Vec::with_capacity(writes.len());
        while all.len() < writes.len() {
            let rest = &writes[all.len()..];
            secure.sealed.clear();
            let mut offers = Vec::with_capacity(rest.len());
            for &(id, bytes) in rest {
                if secure.sealed.len() >= SEALED_BATCH_BYTES {
                    break;
                }
                offers.push(offer(sockets, id, bytes, &mut secure.sealed));
            }
            let batch: Vec<(RawFd, &[u8])> = zip(&offers, rest)
                .filter_map(|(offer, &(_, bytes))| match offer {
                    Offer::Plain(fd) => Some((*fd, bytes)),
                    Offer::Record { fd, record, .. } => Some((*fd, &secure.sealed[record.clone()])),
                    Offer::Nothing(_) => None,
                })
                .collect();
            sends.submit(batch.into_iter(), results);
            let mut sent = results.iter().copied();
            let mut next = || sent.next().expect("each send has a result");
            let mut long = Vec::new();
            for (offer, &(id, bytes)) in zip(offers, rest) {
                let written = match offer {
                    Offer::Nothing(written) => written,
                    Offer::Plain(_) => next(),
                    Offer::Record { fd, record, took } => {
                        let conn = tls_of(sockets, id).expect("a record was sealed for it");
                        let written = settle(conn, next(), &secure.sealed[record], took);
                        if !conn.unsent().is_empty() {
                            secure.unsent.push(id);
                        } else if written == Written::Took(took) && took < bytes.len() {
                            long.push((all.len(), fd, id, bytes));
                        }
                        written
                    }
                };
                all.push(written);
            }
            for (index, fd, id, bytes) in long {
                let conn = tls_of(sockets, id).expect("a record was sealed for it");
                all[index] = go_on(conn, fd, bytes, all[index], &mut secure.sealed);
                if !conn.unsent().is_empty() {
                    secure.unsent.push(id);
                }
            }
        }
        *results = all;
        secure.sealed.shrink_to(SEALED_BATCH_BYTES);
    }

    /// After a turn's writes: asks to be told when sockets take what is left of records.
    pub(super) fn await_unsent(&mut self) {
        for id in std::mem::take(&mut self.secure.unsent) {
            self.tell_again(id);
        }
    }
}

/// Whether so many bytes of records came to too little.
fn is_dear(ciphertext: usize, plaintext: usize) -> bool {
    plaintext * DEAR_RATIO < ciphertext
}

/// Seals the front of a write for its connection, if it has TLS.
fn offer(sockets: &mut [Option<Socket>], id: ConnId, bytes: &[u8], sealed: &mut Vec<u8>) -> Offer {
    // A connection whose socket is gone: the write fails and the shard hears of it.
    let Some(socket) = socket_of_mut(sockets, id) else { return Offer::Nothing(Written::Failed) };
    let fd = socket.fd.as_raw_fd();
    let Some(conn) = &mut socket.tls else { return Offer::Plain(fd) };
    if conn.is_handshaking() {
        // All that is sent before the handshake is done is that it took too long.
        conn.fail(Failure::Timeout);
        return Offer::Nothing(Written::Failed);
    }
    if !conn.unsent().is_empty() {
        return Offer::Nothing(Written::Took(0));
    }
    let start = sealed.len();
    match conn.seal(bytes, sealed) {
        Ok(took) => Offer::Record { fd, record: start..sealed.len(), took },
        Err(_) => Offer::Nothing(Written::Failed),
    }
}

/// What a write comes to of which the socket took part of a record. The rest of the record is kept.
fn settle(conn: &mut TlsConn, sent: Written, record: &[u8], took: usize) -> Written {
    match sent {
        Written::Took(sent) if sent < record.len() => match conn.keep_unsent(&record[sent..]) {
            Ok(()) => Written::Took(took),
            Err(_) => Written::Failed,
        },
        Written::Took(_) => Written::Took(took),
        Written::Failed => Written::Failed,
    }
}

/// Sends one record after the other until the socket is full.
fn go_on(conn: &mut TlsConn, fd: RawFd, bytes: &[u8], so_far: Written, sealed: &mut Vec<u8>) -> Written {
    let mut written = so_far;
    while let Written::Took(took) = written
        && took < bytes.len()
        && conn.unsent().is_empty()
    {
        sealed.clear();
        written = match conn.seal(&bytes[took..], sealed) {
            Ok(more) => settle(conn, send_direct(fd, sealed), sealed, took + more),
            Err(_) => Written::Failed,
        };
    }
    written
}

pub(super) fn tls_of(sockets: &mut [Option<Socket>], id: ConnId) -> Option<&mut TlsConn> {
    socket_of_mut(sockets, id)?.tls.as_deref_mut()
}

fn shut_down(fd: RawFd) {
    // SAFETY: takes no pointers. It fails when the peer was faster.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}
