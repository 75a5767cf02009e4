//! Publishing with HTTP `POST`, over one connection that is kept alive.
//!
//! Requests are pipelined up to a limit and answered in order; a limit of one means that each is answered before
//! the next is sent. A connection the server closes is replaced when nothing is in flight on it: what became of an
//! unanswered request nobody knows, and sending it again would spoil the ledger.
//!
//! Invariant: `in_flight <= in_flight_max`; when the socket is read, all in flight have been written.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use socket2::SockRef;

use super::answer::Answer;
use super::composer::Composer;
use super::template::percent_encode;
use super::via::{Batch, HttpVia};
use super::{PublishError, Sink, broken, connect};
use crate::engine::Settings;
use crate::engine::board::Board;
use crate::stamp::Stamp;

/// Longest body of a request with several publications, in bytes: half of what Shardcast takes by default.
const BODY_BYTES_MAX: usize = 512 << 10;
/// Longest text of a refusal that is shown.
const ANSWER_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct HttpSink {
    address: SocketAddr,
    stream: TcpStream,
    composer: Composer,
    /// Publications of different rooms go to the same path.
    is_one_path: bool,
    /// The head of every request between its path and the value of `Content-Length`.
    head: String,
    batch: Batch,
    /// The request that is being composed; nothing when none is.
    path: Vec<u8>,
    body: Vec<u8>,
    /// Requests that are not written yet.
    out: Vec<u8>,
    /// The beginning of an answer that is not complete yet.
    answers: Vec<u8>,
    in_flight: usize,
    in_flight_max: usize,
    /// The server has said that it takes no more requests on this connection.
    is_closing: bool,
}

impl HttpSink {
    /// Connects.
    pub(super) fn connect(
        via: &HttpVia,
        settings: &Arc<Settings>,
        board: &Arc<Board>,
    ) -> Result<Self, PublishError> {
        Ok(Self {
            address: via.address,
            stream: connect(via.address)?,
            composer: Composer::new(settings, board, &via.path, &via.body, percent_encode),
            is_one_path: !via.path.has_room(),
            head: format!(" HTTP/1.1\r\nHost: {}\r\n{}Content-Length: ", via.host, via.headers),
            batch: via.batch,
            path: Vec::new(),
            body: Vec::new(),
            out: Vec::new(),
            answers: Vec::new(),
            in_flight: 0,
            in_flight_max: via.pipeline,
            is_closing: false,
        })
    }

    /// Takes a publication into the request that is being composed, or, if it does not go there, into the next.
    fn add(&mut self, stamp: &Stamp, is_same_path: bool) -> Result<(), PublishError> {
        let (before, between): (&[u8], &[u8]) = match self.batch {
            Batch::One => (b"", b""),
            Batch::Lines => (b"", b"\n"),
            Batch::Array => (b"[", b","),
        };
        self.composer.begin(stamp);
        let is_fitting = self.body.len() + self.composer.body_len() < BODY_BYTES_MAX;
        if self.batch == Batch::One || !is_same_path || !is_fitting {
            self.end_request()?;
        }
        if self.body.is_empty() {
            self.composer.write_name(&mut self.path);
            self.body.extend_from_slice(before);
        } else {
            self.body.extend_from_slice(between);
        }
        self.composer.write_body(&mut self.body);
        Ok(())
    }

    /// Appends the request that is being composed, if one is, to what is written next, when it may be in flight.
    fn end_request(&mut self) -> Result<(), PublishError> {
        if self.body.is_empty() {
            return Ok(());
        }
        if self.in_flight == self.in_flight_max {
            self.flush()?;
            while self.in_flight == self.in_flight_max {
                self.read_answers()?;
            }
        }
        if self.in_flight == 0 {
            self.replace_if_closed()?;
        }
        let after: &[u8] = match self.batch {
            Batch::One => b"",
            Batch::Lines => b"\n",
            Batch::Array => b"]",
        };
        self.body.extend_from_slice(after);
        self.out.extend_from_slice(b"POST ");
        self.out.append(&mut self.path);
        write!(self.out, "{}{}\r\n\r\n", self.head, self.body.len()).expect("writing to a Vec does not fail");
        self.out.append(&mut self.body);
        self.in_flight += 1;
        Ok(())
    }

    /// Writes what was composed.
    fn flush(&mut self) -> Result<(), PublishError> {
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        let Err(source) = written else { return Ok(()) };
        if is_gone(source.kind()) {
            // Why the server hung up in the middle of a request may be in its answer.
            while self.in_flight > 0 {
                self.read_answers()?;
            }
        }
        Err(broken(self.address, source))
    }

    /// Waits for answers and takes in those that are there.
    fn read_answers(&mut self) -> Result<(), PublishError> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(self.unanswered()),
            Ok(received) => self.answers.extend_from_slice(&chunk[..received]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_gone(error.kind()) => return Err(self.unanswered()),
            Err(error) => return Err(broken(self.address, error)),
        }
        let address = self.address;
        let malformed =
            || PublishError::Malformed { address, protocol: "HTTP with a Content-Length or chunks" };
        let mut taken = 0;
        while let Some(answer) = Answer::read(&self.answers[taken..]).map_err(|_| malformed())? {
            taken += answer.bytes;
            if answer.is_interim() {
                continue;
            }
            if !(200..300).contains(&answer.status) {
                return Err(refused(address, &answer));
            }
            self.in_flight = self.in_flight.checked_sub(1).ok_or_else(malformed)?;
            if answer.is_last {
                self.is_closing = true;
                return if self.in_flight == 0 { Ok(()) } else { Err(self.unanswered()) };
            }
        }
        self.answers.drain(..taken);
        Ok(())
    }

    fn unanswered(&self) -> PublishError {
        PublishError::Unanswered { address: self.address, unanswered: self.in_flight }
    }

    /// Whether there are bytes or the end of the connection to be read.
    fn is_readable(&self) -> bool {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = SockRef::from(&self.stream).recv_with_flags(&mut [MaybeUninit::uninit()], flags);
        !matches!(peeked, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
    }

    /// Replaces a connection that was closed. What a server says unasked, it says before it closes (RFC 9110
    /// §15.5.9).
    fn replace_if_closed(&mut self) -> Result<(), PublishError> {
        debug_assert_eq!(self.in_flight, 0, "what is in flight would be lost");
        if self.is_closing || self.is_readable() {
            self.stream = connect(self.address)?;
            self.answers.clear();
            self.is_closing = false;
        }
        Ok(())
    }
}

impl Sink for HttpSink {
    fn publish(&mut self, batch: &[Stamp]) -> Result<(), PublishError> {
        let mut room = None;
        for stamp in batch {
            let is_same_path = self.is_one_path || room.is_none_or(|room| room == stamp.room);
            self.add(stamp, is_same_path)?;
            room = Some(stamp.room);
        }
        self.end_request()?;
        self.flush()?;
        // A refusal is told as soon as it is known, even when nothing is published any more.
        while self.in_flight == self.in_flight_max || self.in_flight > 0 && self.is_readable() {
            self.read_answers()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        while self.in_flight > 0 {
            self.read_answers()?;
        }
        Ok(())
    }
}

/// Whether an error says that the peer has closed the connection.
fn is_gone(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

fn refused(address: SocketAddr, answer: &Answer<'_>) -> PublishError {
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().take(ANSWER_CHARS_MAX).collect();
    PublishError::Refused { address, answer: format!("status {}: {text}", answer.status) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::engine::board::Extent;
    use crate::publisher::Via;
    use crate::run;
    use crate::scenario::{Mode, Options, Work};
    use crate::stamp::Kind;

    const STAMP: Stamp = Stamp { kind: Kind::Message, run: 0, room: 0, sequence: 0, number: 0, due_ns: 0 };

    fn listener_and_sink(pipeline: u32) -> (TcpListener, HttpSink) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("a bound listener"));
        let options = Options { publish: Some(url), publish_pipeline: Some(pipeline), ..Options::default() };
        let scenario = options.into_scenario(Mode::Fanout, 1000).expect("a scenario");
        let Work::Fanout(publications) = &scenario.work else { panic!("a fan-out") };
        let Via::Http(via) = &publications.via else { panic!("HTTP") };
        let board = Board::create(Extent { threads: 1, client_ids: 0 }).expect("memory");
        let sink = HttpSink::connect(via, &run::settings(&scenario), &Arc::new(board)).expect("a connection");
        (listener, sink)
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for_forever() {
        let (_listener, mut sink) = listener_and_sink(2);
        sink.stream.set_read_timeout(Some(Duration::from_millis(20))).expect("a span");
        sink.publish(&[STAMP]).expect("one may be in flight without waiting");
        let outcome = sink.publish(&[STAMP]);
        assert!(matches!(outcome, Err(PublishError::Silent { .. })), "{outcome:?}");
    }

    #[test]
    fn a_connection_closed_without_a_word_is_replaced_when_nothing_is_in_flight() {
        let (listener, mut sink) = listener_and_sink(2);
        for farewell in ["", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"] {
            sink.publish(&[STAMP]).expect("one may be in flight without waiting");
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.read_exact(&mut [0; 1]).expect("a request");
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("an answer");
            sink.finish().expect("answered");
            stream.write_all(farewell.as_bytes()).expect("a farewell");
            drop(stream);
        }
        sink.publish(&[STAMP]).expect("on a third connection");
        let (stream, _) = listener.accept().expect("a third connection");
        drop(stream);
        let outcome = sink.finish();
        assert!(matches!(outcome, Err(PublishError::Unanswered { unanswered: 1, .. })), "{outcome:?}");
    }
}
