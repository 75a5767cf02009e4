//! A blocking WebSocket client that shows what is on the wire.
//!
//! It has its own small frame codec: it is the independent check of the server's, so it must share no code with
//! it. It never answers by itself (no pong, no close echo), never hides a frame, and panics on whatever no server
//! may send (RFC 6455 §5): masked or fragmented messages, reserved bits or opcodes, lengths not in their shortest
//! form, text that is not UTF-8.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::deflate;
use crate::tls::{NAME, client_connection};

/// How long the client waits for something that should arrive at once: long, as other tests share the machine.
pub const REPLY_WITHIN: Duration = Duration::from_secs(20);

/// Key and answer of the sample handshake (RFC 6455 §1.3).
const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Mask of every client frame (RFC 6455 §5.7); its bytes differ, so a server that rotates it wrongly is caught.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// What `fence` sends, and the message an Ignis server answers it with in any state.
const NOT_JSON: &str = "{";
const NOT_JSON_ANSWER: &str = r#"{"event":"error","data":{"message":"Invalid message format"}}"#;

/// Receive buffer of a slow client, bytes; the kernel doubles it.
const RECEIVE_BUFFER_SMALL: usize = 4 << 10;

/// Payload of the ping of `settle`.
const SETTLE: &[u8] = b"settle";

/// The opcodes of RFC 6455 §5.2.
pub mod opcode {
    /// Continues a fragmented message.
    pub const CONTINUATION: u8 = 0x0;
    /// Begins a text message.
    pub const TEXT: u8 = 0x1;
    /// Begins a binary message.
    pub const BINARY: u8 = 0x2;
    /// Asks for the end of the connection.
    pub const CLOSE: u8 = 0x8;
    /// Asks for a pong.
    pub const PING: u8 = 0x9;
    /// Answers a ping.
    pub const PONG: u8 = 0xa;
}

/// What the server did next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping with its payload.
    Ping(Vec<u8>),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// A close frame with its code, if it has one, and reason.
    Close(Option<u16>, String),
    /// The connection ended with FIN, after a whole frame.
    Eof,
    /// The connection was reset, or ended inside a frame.
    Cut,
    /// Nothing, for as long as the caller cared to wait.
    Timeout,
}

/// An HTTP response: an upgrade's answer or an ordinary one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status line and header lines as they came, with the empty line that ends them.
    pub head: String,
    /// The status code.
    pub status: u16,
    /// As many bytes as `Content-Length` announces.
    pub body: Vec<u8>,
}

impl Response {
    /// The trimmed value of the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// One frame as it came, for what `Client::recv` refuses, such as compressed messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// FIN, RSV1 to RSV3 and opcode: the frame's first byte.
    pub first_byte: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A client connection, closed on drop.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// Unless it is plain.
    tls: Option<Box<ClientConnection>>,
    /// Read from the socket and not yet taken.
    unread: Vec<u8>,
    /// Received before the answer that `fence` waited for.
    pending: VecDeque<Received>,
}

impl Client {
    /// Connects without sending anything.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, REPLY_WITHIN)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::from_stream(stream)
    }

    /// Connects from another address of this machine, such as 127.0.0.2, without sending anything.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn open_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::from_stream(socket.into())
    }

    /// Takes over a connected socket, for tests that set options before connecting.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn from_stream(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_write_timeout(Some(REPLY_WITHIN)).expect("a write timeout");
        Self { stream, tls: None, unread: Vec::new(), pending: VecDeque::new() }
    }

    /// The socket, to look at or to set options of; reading from it loses frames.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Shakes hands for TLS on a connection that has not sent anything.
    ///
    /// # Errors
    /// The server refuses, or the client does.
    pub fn secure(mut self, mut tls: ClientConnection) -> io::Result<Self> {
        self.stream.set_read_timeout(Some(REPLY_WITHIN))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut self.stream)?;
        }
        self.tls = Some(Box::new(tls));
        Ok(self)
    }

    /// Connects with TLS and shakes hands.
    ///
    /// # Panics
    /// When that fails.
    pub fn open_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let client = Self::open(address).secure(client_connection(config, NAME));
        client.unwrap_or_else(|error| panic!("no TLS with {address}: {error}"))
    }

    /// Connects with TLS and upgrades at `path`.
    ///
    /// # Panics
    /// When the server does not shake hands or does not switch protocols.
    pub fn connect_tls(address: SocketAddr, path: &str, config: &Arc<ClientConfig>) -> Self {
        let mut client = Self::open_tls(address, config);
        let response = client.upgrade(path, "");
        assert_eq!(response.status, 101, "no upgrade at {path}: {response:?}");
        client
    }

    /// The socket and the session, for what no client does with them.
    ///
    /// # Panics
    /// When there is no TLS.
    pub fn into_tls(self) -> (TcpStream, ClientConnection) {
        (self.stream, *self.tls.expect("a session"))
    }

    /// The session, if there is TLS.
    pub fn tls(&self) -> Option<&ClientConnection> {
        self.tls.as_deref()
    }

    /// Connects and upgrades at `path`.
    ///
    /// # Panics
    /// When the server does not switch protocols as RFC 6455 §4.2.2 asks.
    pub fn connect(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::open(address);
        let response = client.upgrade(path, "");
        assert_eq!(response.status, 101, "no upgrade at {path}: {response:?}");
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(SAMPLE_ACCEPT), "{}", response.head);
        client
    }

    /// Connects and upgrades with a small receive buffer, so that a server that sends much soon writes in part.
    ///
    /// # Panics
    /// As [`Client::connect`].
    pub fn connect_slow(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::open_slow(address);
        let response = client.upgrade(path, "");
        assert_eq!(response.status, 101, "no upgrade at {path}: {response:?}");
        client
    }

    /// Connects with a small receive buffer, without sending anything.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn open_slow(address: SocketAddr) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
        socket.set_recv_buffer_size(RECEIVE_BUFFER_SMALL).expect("SO_RCVBUF");
        socket
            .connect(&address.into())
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::from_stream(socket.into())
    }

    /// Sends an upgrade request with `extra_headers` (whole lines, each with its CRLF) and returns the response.
    ///
    /// # Panics
    /// When no well-formed response arrives.
    pub fn upgrade(&mut self, path: &str, extra_headers: &str) -> Response {
        let host = self.stream.peer_addr().expect("a connected socket");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {SAMPLE_KEY}\r\nSec-WebSocket-Version: 13\r\n{extra_headers}\r\n"
        );
        self.send_raw(request.as_bytes()).expect("sending the upgrade request");
        self.response()
    }

    /// Reads one HTTP response.
    ///
    /// # Panics
    /// When none arrives in time, or not a well-formed one.
    pub fn response(&mut self) -> Response {
        let deadline = Instant::now() + REPLY_WITHIN;
        let head_len = loop {
            if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.expect_more(deadline);
        };
        let head = String::from_utf8(self.take(head_len)).expect("an ASCII response head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        let body_len = header(&head, "Content-Length").map_or(0, |value| value.parse().expect("a length"));
        while self.unread.len() < body_len {
            self.expect_more(deadline);
        }
        Response { head, status, body: self.take(body_len) }
    }

    /// Whether the server has sent anything that is not taken yet, or ended the connection, within `patience`.
    ///
    /// # Panics
    /// When the socket cannot be read.
    pub fn has_unread_within(&mut self, patience: Duration) -> bool {
        !self.unread.is_empty() || self.read_more(Instant::now() + patience) != Err(NoFrame::Timeout)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has ended the connection or does not read.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            None => self.stream.write_all(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write_all(bytes),
        }
    }

    /// Sends a text message.
    ///
    /// # Panics
    /// When the server has ended the connection or does not read; likewise for the other messages.
    pub fn send_text(&mut self, text: &str) {
        self.send_frame(opcode::TEXT, text.as_bytes());
    }

    /// Sends a JSON value as a text message.
    pub fn send_json(&mut self, value: &Value) {
        self.send_text(&value.to_string());
    }

    /// Sends a binary message.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(opcode::BINARY, bytes);
    }

    /// Sends a ping.
    pub fn send_ping(&mut self, payload: &[u8]) {
        self.send_frame(opcode::PING, payload);
    }

    /// Sends a pong.
    pub fn send_pong(&mut self, payload: &[u8]) {
        self.send_frame(opcode::PONG, payload);
    }

    /// Sends a close frame with `code` and `reason`; the connection stays open for what the server still sends.
    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_frame(opcode::CLOSE, &[&code.to_be_bytes()[..], reason.as_bytes()].concat());
    }

    /// Ends the sending direction (FIN).
    ///
    /// # Panics
    /// When the server has reset the connection.
    pub fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            tls.complete_io(&mut self.stream).expect("saying goodbye");
        }
        self.stream.shutdown(Shutdown::Write).expect("ending the sending direction");
    }

    /// Ends the connection with RST, whatever is unread on either side.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    }

    /// What the server does next, within `REPLY_WITHIN`.
    ///
    /// # Panics
    /// When it sends what no server may send.
    pub fn recv(&mut self) -> Received {
        self.recv_within(REPLY_WITHIN)
    }

    /// What the server does next, within `patience`.
    ///
    /// # Panics
    /// When it sends what no server may send.
    pub fn recv_within(&mut self, patience: Duration) -> Received {
        match self.pending.pop_front() {
            Some(received) => received,
            None => self.frame_within(patience).map_or_else(Received::from, message),
        }
    }

    /// The next frame as it is, within `patience`.
    ///
    /// # Errors
    /// `Eof`, `Cut` or `Timeout`.
    ///
    /// # Panics
    /// When the frame is masked or its length is not in the shortest form.
    pub fn frame_within(&mut self, patience: Duration) -> Result<Frame, NoFrame> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some((header_len, payload_len)) = frame_lengths(&self.unread) {
                let first_byte = self.unread[0];
                self.take(header_len);
                return Ok(Frame { first_byte, payload: self.take(payload_len) });
            }
            match self.read_more(deadline) {
                Err(NoFrame::Eof) if !self.unread.is_empty() => return Err(NoFrame::Cut),
                outcome => outcome?,
            }
        }
    }

    /// Connects and upgrades at `path` with an offer of permessage-deflate, which must be accepted.
    ///
    /// # Panics
    /// As [`Client::connect`], and when the offer is not accepted.
    pub fn connect_deflating(address: SocketAddr, path: &str) -> Self {
        let mut client = Self::open(address);
        let response = client.upgrade(path, deflate::OFFER);
        assert_eq!(response.status, 101, "no upgrade at {path}: {response:?}");
        assert_eq!(response.header("Sec-WebSocket-Extensions"), Some(deflate::AGREED), "{}", response.head);
        client
    }

    /// Sends a compressed text message.
    ///
    /// # Panics
    /// When the server has ended the connection or does not read.
    pub fn send_deflated(&mut self, text: &str) {
        let frame = masked_frame(FIN | RSV1 | opcode::TEXT, &deflate::deflated(text.as_bytes()));
        self.send_raw(&frame).expect("sending a compressed message");
    }

    /// The next message, which must be a compressed text of at most `bytes_max` bytes.
    ///
    /// # Panics
    /// When anything else happens.
    pub fn recv_deflated(&mut self, bytes_max: usize) -> String {
        match self.frame_within(REPLY_WITHIN) {
            Ok(Frame { first_byte, payload }) if first_byte == FIN | RSV1 | opcode::TEXT => {
                String::from_utf8(deflate::inflated(&payload, bytes_max)).expect("UTF-8 text")
            }
            other => panic!("expected a compressed text message, received {other:?}"),
        }
    }

    /// The next message, which must be JSON text.
    ///
    /// # Panics
    /// When anything else happens.
    pub fn recv_json(&mut self) -> Value {
        match self.recv() {
            Received::Text(text) => {
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} is not JSON: {error}"))
            }
            other => panic!("expected a text message, received {other:?}"),
        }
    }

    /// Ignis: logs in and returns the `data` of the `connected` message.
    ///
    /// # Panics
    /// When the next message is not `connected`.
    pub fn authenticate(&mut self, token: &str, user_id: &str) -> Value {
        self.send_json(&json!({"event": "authenticate", "data": {"token": token, "userId": user_id}}));
        let mut answer = self.recv_json();
        assert_eq!(answer["event"], "connected", "{answer}");
        answer["data"].take()
    }

    /// Ignis: joins rooms and waits until the server has taken the request in, see `fence`. A policy that decides
    /// later still decides later.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn join(&mut self, rooms: &[&str]) {
        self.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
        self.fence();
    }

    /// Ignis: waits until the server has handled all that was sent so far, by the answer to a message that is not
    /// JSON. What arrives before that answer is kept for `recv`, so after a fence "nothing arrived" is a fact and
    /// needs no waiting: `take_pending`.
    ///
    /// # Panics
    /// When the connection ends or the answer does not arrive.
    pub fn fence(&mut self) {
        self.send_text(NOT_JSON);
        let deadline = Instant::now() + REPLY_WITHIN;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.frame_within(remaining).map_or_else(Received::from, message) {
                Received::Text(text) if text == NOT_JSON_ANSWER => return,
                end @ (Received::Eof | Received::Cut | Received::Timeout) => {
                    panic!("no answer to a fence: {end:?}")
                }
                received => self.pending.push_back(received),
            }
        }
    }

    /// Waits until the server has handled all that was sent so far, by a ping: unlike a fence it leaves no trace in
    /// the server's counters of mistakes. What arrives before the pong is kept for `recv`.
    ///
    /// # Panics
    /// When the connection ends or the pong does not arrive.
    pub fn settle(&mut self) {
        self.send_ping(SETTLE);
        let deadline = Instant::now() + REPLY_WITHIN;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            match self.frame_within(remaining).map_or_else(Received::from, message) {
                Received::Pong(payload) if payload == SETTLE => return,
                end @ (Received::Eof | Received::Cut | Received::Timeout) => panic!("no pong: {end:?}"),
                received => self.pending.push_back(received),
            }
        }
    }

    /// Closes in order: close frame, its echo, FIN. What arrives before the echo is thrown away.
    ///
    /// # Panics
    /// When the server does not answer as RFC 6455 §5.5.1 asks.
    pub fn leave(mut self) {
        self.send_close(1000, "");
        loop {
            match self.recv() {
                Received::Close(code, _) => {
                    assert_eq!(code, Some(1000), "not the echo of the close frame");
                    assert_eq!(self.recv(), Received::Eof, "after the echo of the close frame");
                    return;
                }
                end @ (Received::Eof | Received::Cut | Received::Timeout) => {
                    panic!("no echo of the close frame: {end:?}")
                }
                _ => {}
            }
        }
    }

    /// What had arrived when the last `fence` or `settle` returned and has not been received since.
    pub fn take_pending(&mut self) -> Vec<Received> {
        self.pending.drain(..).collect()
    }

    fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let frame = masked_frame(FIN | opcode, payload);
        self.send_raw(&frame).unwrap_or_else(|error| panic!("cannot send a frame: {error}"));
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.unread.split_off(len);
        std::mem::replace(&mut self.unread, rest)
    }

    fn expect_more(&mut self, deadline: Instant) {
        if let Err(end) = self.read_more(deadline) {
            panic!("{end:?} inside a response: {:?}", String::from_utf8_lossy(&self.unread));
        }
    }

    /// Reads at least one byte.
    fn read_more(&mut self, deadline: Instant) -> Result<(), NoFrame> {
        let remaining = deadline.saturating_duration_since(Instant::now());
        // A zero timeout would mean none; a passed deadline still takes what has already arrived.
        let timeout = remaining.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(timeout)).expect("a read timeout");
        let mut buffer = [0; 16 * 1024];
        let read = match &mut self.tls {
            None => self.stream.read(&mut buffer),
            Some(tls) => read_tls(tls, &mut self.stream, &mut buffer),
        };
        match read {
            Ok(0) => Err(NoFrame::Eof),
            Ok(len) => {
                self.unread.extend_from_slice(&buffer[..len]);
                Ok(())
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Err(NoFrame::Timeout),
                io::ErrorKind::Interrupted => Ok(()),
                io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => Err(NoFrame::Cut),
                _ => panic!("cannot read: {error}"),
            },
        }
    }
}

/// Reads plaintext: nothing once the server said goodbye, `UnexpectedEof` when it left without.
fn read_tls(tls: &mut ClientConnection, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
        tls.read_tls(stream)?;
        tls.process_new_packets().map_err(io::Error::other)?;
    }
}

/// Why there is no frame; see the variants of the same names in `Received`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFrame {
    /// FIN after a whole frame.
    Eof,
    /// A reset, or FIN inside a frame.
    Cut,
    /// Nothing in time.
    Timeout,
}

impl From<NoFrame> for Received {
    fn from(end: NoFrame) -> Self {
        match end {
            NoFrame::Eof => Self::Eof,
            NoFrame::Cut => Self::Cut,
            NoFrame::Timeout => Self::Timeout,
        }
    }
}

/// A masked client frame with any first byte (FIN, RSV and opcode), for `Client::send_raw`.
pub fn masked_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    const MASKED: u8 = 0x80;
    let mut frame = vec![first_byte];
    match payload.len() {
        len @ 0..=125 => frame.push(MASKED | u8::try_from(len).expect("at most 125")),
        len @ 126..=0xffff => {
            frame.push(MASKED | 126);
            frame.extend_from_slice(&u16::try_from(len).expect("at most 65535").to_be_bytes());
        }
        len => {
            frame.push(MASKED | 127);
            frame.extend_from_slice(&u64::try_from(len).expect("a length fits u64").to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Lengths of the header and payload of the whole server frame at the start of `bytes`, or `None` while some of it
/// is missing.
fn frame_lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header_len, payload_len, shortest) = match *bytes.get(1)? {
        len @ 0..=125 => (2, u64::from(len), 0),
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 126),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 0x1_0000),
        masked => panic!("the server masked a frame: second byte {masked:#04x}"),
    };
    assert!(payload_len >= shortest, "length {payload_len} is not in its shortest form");
    let payload_len = usize::try_from(payload_len).expect("a frame that fits memory");
    let frame_len = header_len + payload_len;
    (bytes.len() >= frame_len).then_some((header_len, payload_len))
}

/// The frame as a whole message.
fn message(Frame { first_byte, payload }: Frame) -> Received {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8 text");
    assert_eq!(first_byte & 0xf0, FIN, "fragmented, or a reserved bit set: first byte {first_byte:#04x}");
    match first_byte & 0x0f {
        opcode::TEXT => Received::Text(text(payload)),
        opcode::BINARY => Received::Binary(payload),
        opcode @ (opcode::CLOSE | opcode::PING | opcode::PONG) => {
            assert!(payload.len() <= 125, "a control frame of {} bytes", payload.len());
            match (opcode, payload.as_slice()) {
                (opcode::PING, _) => Received::Ping(payload),
                (opcode::PONG, _) => Received::Pong(payload),
                (_, []) => Received::Close(None, String::new()),
                (_, &[high, low, ref reason @ ..]) => {
                    Received::Close(Some(u16::from_be_bytes([high, low])), text(reason.to_vec()))
                }
                (_, [_]) => panic!("a close frame of one byte"),
            }
        }
        other => panic!("the server sent opcode {other:#x}"),
    }
}

fn header<'head>(head: &'head str, name: &str) -> Option<&'head str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests;
