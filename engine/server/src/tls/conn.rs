//! The server's end of one TLS connection, without I/O: ciphertext in, plaintext out, and back.
//!
//! It holds no buffer while nothing is under way: records are opened in the caller's buffer and sealed into the
//! caller's. What stays here is the part of a record that has not come to its end, and what a socket has not taken of
//! one.
//!
//! rustls' unbuffered API keeps places in the bytes it was shown last. So whenever it is called, it is shown the same
//! bytes from the same place: the rest of what is being opened, or [`TlsConn::keep`] of it; never an empty slice in
//! their stead, or it panics on half a handshake message.
//!
//! Invariants: `kept ≤ KEPT_BYTES_MAX`, but for a connection that is handed over; `unsent` is at most a flight of a handshake, or a record and a farewell.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::HandshakeKind;
use rustls::InvalidMessage;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};

use super::counters::{Failure, TlsCounters};

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;

/// The longest record there is (RFC 5246 §6.2.3), and the most that is kept of input that is not complete: a message of
/// a handshake that comes in several records must not be longer.
pub const KEPT_BYTES_MAX: usize = 5 + (16 << 10) + 2_048;

/// The most plaintext of one record (RFC 8446 §5.1).
pub const RECORD_BYTES_MAX: usize = 16 << 10;

/// What sealing a record adds, at most: header, nonce or type, tag.
const SEAL_BYTES_MAX: usize = 64;

/// What became of ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// So many bytes of plaintext are in the caller's buffer; there may be more.
    Plain(usize),
    /// Everything complete is used up; the rest is to be kept.
    Starved,
    /// The peer said goodbye; whatever follows means nothing.
    Ended,
}

/// One connection.
pub struct TlsConn {
    rustls: UnbufferedServerConnection,
    counters: Arc<TlsCounters>,
    /// Ciphertext from the beginning of what is not complete.
    kept: Vec<u8>,
    /// Ciphertext that the socket has not taken, from `sent` on.
    unsent: Vec<u8>,
    sent: u32,
    /// Bytes of both that are in `TlsCounters::held_bytes`.
    accounted: u32,
    phase: Phase,
    /// Something came.
    begun: bool,
    /// The peer said goodbye.
    ended: bool,
    /// FIN is due once everything is sent.
    finishing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Failed,
}

impl TlsConn {
    pub(super) fn new(rustls: UnbufferedServerConnection, counters: Arc<TlsCounters>) -> Self {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            rustls,
            counters,
            kept: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            accounted: 0,
            phase: Phase::Handshake,
            begun: false,
            ended: false,
            finishing: false,
        }
    }

    /// Opens what is complete at the front of `cipher`, up to and including one record with data, whose plaintext goes
    /// to `plain`, which must have room for [`RECORD_BYTES_MAX`]. Returns how much of `cipher` is used up as well. What
    /// there is to answer is [`TlsConn::unsent`] afterwards.
    ///
    /// Errors: the connection is over once `unsent`, an alert, is sent.
    pub fn open(&mut self, cipher: &mut [u8], plain: &mut [u8]) -> (usize, Result<Opened, Failure>) {
        if self.ended || self.phase == Phase::Failed {
            return (cipher.len(), Ok(Opened::Ended));
        }
        if self.finishing {
            // Nothing that comes after our goodbye is heard. To rustls a goodbye is the last alert of all, so it must not
            // be given a reason for another.
            return (cipher.len(), Ok(Opened::Starved));
        }
        if !self.begun && cipher.first().is_some_and(u8::is_ascii_uppercase) {
            self.begun = true;
            return (0, Err(self.fail(Failure::PlainHttp)));
        }
        self.begun |= !cipher.is_empty();
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(&mut cipher[used..]);
            let outcome = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => match traffic.next_record() {
                    Some(Ok(record)) => {
                        let len = record.payload.len();
                        plain[..len].copy_from_slice(record.payload);
                        used += record.discard;
                        Some(Ok(Opened::Plain(len)))
                    }
                    Some(Err(error)) => Some(Err(error)),
                    None => None,
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.unsent, 0, |out| data.encode(out).map_err(too_small_to_encode));
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.ended = true;
                    Some(Ok(Opened::Ended))
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    Some(Ok(Opened::Starved))
                }
                // Nobody may send early data: none was offered.
                Ok(_) => Some(Err(rustls::Error::General("unexpected state".to_owned()))),
                Err(error) => Some(Err(error)),
            };
            used += discard;
            self.note_handshake();
            self.note_held();
            match outcome {
                None => {}
                Some(Ok(opened)) => return (used, Ok(opened)),
                Some(Err(error)) => {
                    self.alert(&mut cipher[used..]);
                    return (used, Err(self.failure(&error)));
                }
            }
        }
    }

    /// Keeps the rest of what was received until more of it comes.
    ///
    /// Errors: it is too long, or all connections hold too much; the connection is over.
    pub fn keep(&mut self, rest: &[u8]) -> Result<(), Failure> {
        if rest.is_empty() || self.ended || self.phase == Phase::Failed {
            // An idle connection holds no buffer.
            self.kept = Vec::new();
        } else if rest.len() > KEPT_BYTES_MAX {
            return Err(self.fail(Failure::TooBig));
        } else {
            self.kept.clear();
            self.kept.extend_from_slice(rest);
        }
        self.account()
    }

    /// Keeps what was received and not looked at yet, for whoever takes the connection over; the caller bounds it.
    pub fn hand_over(&mut self, rest: &[u8]) {
        self.kept = rest.to_vec();
        self.note_held();
    }

    /// What was kept: it comes before what is received next.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Seals the front of `plain`, one record at most, behind what is in `out`. Returns how much of `plain` is in it.
    ///
    /// Errors: the handshake is not done, or the keys are used up; the connection is over.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<usize, Failure> {
        let piece = &plain[..plain.len().min(RECORD_BYTES_MAX)];
        self.write(out, piece.len() + SEAL_BYTES_MAX, |traffic, out| traffic.encrypt(piece, out))?;
        Ok(piece.len())
    }

    /// Says goodbye behind everything that is [`TlsConn::unsent`]; FIN follows that.
    pub fn finish(&mut self) {
        self.finishing = true;
        let mut unsent = mem::take(&mut self.unsent);
        if self.phase == Phase::Open {
            // Whoever cannot be told gets a bare FIN.
            let farewell =
                self.write(&mut unsent, SEAL_BYTES_MAX, |traffic, out| traffic.queue_close_notify(out));
            tracing::trace!(?farewell, "TLS connection ends");
        }
        self.unsent = unsent;
        self.note_held();
    }

    /// Whether [`TlsConn::finish`] was called and everything is sent.
    pub fn is_finished(&self) -> bool {
        self.finishing && self.unsent().is_empty()
    }

    /// Whether [`TlsConn::finish`] was called.
    pub fn is_finishing(&self) -> bool {
        self.finishing
    }

    /// Whether no plaintext can be sent yet.
    pub fn is_handshaking(&self) -> bool {
        self.phase == Phase::Handshake
    }

    /// Whether the peer has sent anything.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Ciphertext for the socket, before anything that is sealed from here on.
    pub fn unsent(&self) -> &[u8] {
        &self.unsent[self.sent as usize..]
    }

    /// The socket took `count` bytes of [`TlsConn::unsent`].
    pub fn handle_sent(&mut self, count: usize) {
        self.sent += count as u32;
        if self.unsent().is_empty() {
            self.unsent = Vec::new();
            self.sent = 0;
        }
        self.note_held();
    }

    /// Keeps what the socket did not take of sealed bytes. Nothing else may be unsent.
    ///
    /// Errors: all connections hold too much; this one is over.
    pub fn keep_unsent(&mut self, rest: &[u8]) -> Result<(), Failure> {
        debug_assert!(self.unsent.is_empty(), "records would overtake each other");
        self.unsent = rest.to_vec();
        self.account()
    }

    /// Brings the count of all bytes held up to date, and ends the connection that takes the last of them.
    fn account(&mut self) -> Result<(), Failure> {
        let had = self.accounted;
        self.note_held();
        if self.accounted > had && self.counters.is_full() {
            return Err(self.fail(Failure::Memory));
        }
        Ok(())
    }

    fn note_held(&mut self) {
        let held = (self.kept.len() + self.unsent.len()) as u32;
        let had = mem::replace(&mut self.accounted, held);
        if held != had {
            self.counters.hold(i64::from(held) - i64::from(had));
        }
    }

    /// Ends the connection for a reason, which is counted once.
    pub fn fail(&mut self, failure: Failure) -> Failure {
        if mem::replace(&mut self.phase, Phase::Failed) != Phase::Failed {
            self.counters.fail(failure);
        }
        failure
    }

    fn failure(&mut self, error: &rustls::Error) -> Failure {
        tracing::debug!(%error, "a TLS connection failed");
        let failure = match error {
            rustls::Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::MessageTooLarge,
            ) => Failure::TooBig,
            rustls::Error::InvalidMessage(_) if self.rustls.protocol_version().is_none() => Failure::NotTls,
            error => Failure::of(error),
        };
        self.fail(failure)
    }

    /// Lets rustls write what it has to say and then `what`.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        room: usize,
        what: impl Fn(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Failure> {
        if self.phase == Phase::Failed {
            return Err(Failure::Protocol);
        }
        loop {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(&mut self.kept);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(out, 0, |out| data.encode(out).map_err(too_small_to_encode));
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written =
                        append(out, room, |out| what(&mut traffic, out).map_err(too_small_to_encrypt));
                    return if written { Ok(()) } else { Err(self.fail(Failure::Protocol)) };
                }
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::BlockedHandshake) => return Err(self.fail(Failure::Timeout)),
                Ok(_) => return Err(self.fail(Failure::Protocol)),
                Err(error) => return Err(self.failure(&error)),
            }
            self.kept.drain(..discard);
        }
    }

    /// Takes out the alert that an error leaves behind, and no more: rustls must not be asked to go on after it. `rest`
    /// is what was being opened.
    fn alert(&mut self, rest: &mut [u8]) {
        while self.rustls.wants_write()
            && let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut data)), .. } =
                self.rustls.process_tls_records(rest)
        {
            append(&mut self.unsent, 0, |out| data.encode(out).map_err(too_small_to_encode));
        }
    }

    /// Counts the handshake once it is done.
    fn note_handshake(&mut self) {
        if self.phase == Phase::Handshake && !self.rustls.is_handshaking() {
            self.phase = Phase::Open;
            self.counters.handshakes.fetch_add(1, Ordering::Relaxed);
            if self.rustls.handshake_kind() == Some(HandshakeKind::Resumed) {
                self.counters.resumed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl fmt::Debug for TlsConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConn").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Drop for TlsConn {
    fn drop(&mut self) {
        self.counters.connections.fetch_sub(1, Ordering::Relaxed);
        self.counters.hold(-i64::from(self.accounted));
        if self.phase == Phase::Handshake && self.begun {
            self.counters.fail(Failure::HangUp);
        }
    }
}

/// Why nothing was written.
enum Unwritten {
    /// It needs so many bytes.
    TooSmall(usize),
    /// It cannot be.
    Never,
}

fn too_small_to_encode(error: EncodeError) -> Unwritten {
    match error {
        EncodeError::InsufficientSize(size) => Unwritten::TooSmall(size.required_size),
        EncodeError::AlreadyEncoded => Unwritten::Never,
    }
}

fn too_small_to_encrypt(error: EncryptError) -> Unwritten {
    match error {
        EncryptError::InsufficientSize(size) => Unwritten::TooSmall(size.required_size),
        EncryptError::EncryptExhausted => Unwritten::Never,
    }
}

/// Lets `write` write behind what is in `out`, with room for so many bytes, or for as many as it says it needs. Returns
/// whether it did.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Unwritten>,
) -> bool {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(count) => {
                out.truncate(start + count);
                return true;
            }
            Err(Unwritten::TooSmall(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return false;
            }
        }
    }
}
