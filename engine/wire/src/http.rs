//! HTTP/1.x request heads, and the decision what becomes a WebSocket (RFC 9112, RFC 6455 §4.2).
//!
//! Parsing is httparse; this file adds what httparse leaves open and an attacker can use: bounds, bare line
//! feeds, `Host`, and two ways to say where a body ends. Never reads beyond the head: what follows it belongs
//! to the caller (first frames, or a body for the HTTP application).
//!
//! What upgrades, and with which bytes, is that of Bun 1.4.5 under Ignis. Heads are checked more strictly: the
//! differences are listed in `docs/protocols/ignis.md`.

mod path;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use httparse::{Header, Request, Status};
use thiserror::Error;
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::StatusCode;

use crate::deflate::{self, Agreement};

/// The most headers a head may have, whatever [`HeadLimits::headers_max`] says: the size of the parser's table.
const HEADERS_HARD_MAX: usize = 128;

/// Bounds of one request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first of the request line to the last of the blank line.
    pub head_bytes_max: usize,
    /// Header lines; at most 128.
    pub headers_max: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { head_bytes_max: 16 * 1024, headers_max: 100 }
    }
}

/// Why a request head is refused. The caller sends [`HeadError::response`] and closes.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP, a control character, a folded header, a space before a colon.
    #[error("malformed request head")]
    Malformed,
    /// A line that ends without a carriage return; parsers disagree about it (RFC 9112 §2.2).
    #[error("bare line feed in the request head")]
    BareLineFeed,
    /// No `Host` in HTTP/1.1, or more than one (RFC 9112 §3.2).
    #[error("missing or repeated Host header")]
    Host,
    /// A body whose end is ambiguous: repeated or malformed `Content-Length`, repeated `Transfer-Encoding`, or
    /// both (RFC 9112 §6.3).
    #[error("ambiguous body length")]
    BodyLength,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    #[error("unsupported HTTP version")]
    Version,
    /// A request line longer than [`HeadLimits::head_bytes_max`].
    #[error("request target too long")]
    TargetTooLong,
    /// A head longer than [`HeadLimits::head_bytes_max`].
    #[error("request head too big")]
    TooBig,
    /// More lines than [`HeadLimits::headers_max`].
    #[error("too many request headers")]
    TooManyHeaders,
}

impl HeadError {
    /// Every error, in the order of [`HeadError::index`].
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::BareLineFeed,
        Self::Host,
        Self::BodyLength,
        Self::Version,
        Self::TargetTooLong,
        Self::TooBig,
        Self::TooManyHeaders,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place in an array of [`HeadError::COUNT`] counters.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::BareLineFeed | Self::Host | Self::BodyLength => 400,
            Self::TargetTooLong => 414,
            Self::TooBig | Self::TooManyHeaders => 431,
            Self::Version => 505,
        }
    }

    /// A label for metrics and logs, `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BareLineFeed => "bare_line_feed",
            Self::Host => "host",
            Self::BodyLength => "body_length",
            Self::Version => "version",
            Self::TargetTooLong => "target_too_long",
            Self::TooBig => "too_big",
            Self::TooManyHeaders => "too_many_headers",
        }
    }

    /// The whole answer; the connection ends after it.
    pub fn response(self) -> Vec<u8> {
        response(self.status(), &[("Connection", "close")], "")
    }
}

/// A request head, borrowed from the buffer it was read from.
#[derive(Clone, Debug)]
pub struct Head<'b> {
    /// The method, case kept.
    pub method: &'b str,
    /// The target as sent: any form, with its query.
    pub target: &'b str,
    /// 0 or 1: the digit after `HTTP/1.`.
    pub minor_version: u8,
    /// Bytes of the head, its blank line included; what follows in the buffer is not part of it.
    pub len: usize,
    headers: Vec<Header<'b>>,
}

impl<'b> Head<'b> {
    /// The values of all lines with this name, in order, without the white space around them. Names are
    /// compared without case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// The value of the first line with this name.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).next()
    }

    /// The value of the only line with this name; `None` also when there are more.
    pub fn only(&self, name: &str) -> Option<&'b [u8]> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// All header lines in order: name, value.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.headers.iter().map(|header| (header.name, header.value))
    }

    /// Whether the request announces a body that is not empty.
    fn has_body(&self) -> bool {
        let length = self.header("content-length").unwrap_or_default();
        self.header("transfer-encoding").is_some() || length.iter().any(|digit| *digit != b'0')
    }

    fn check(&self) -> Result<(), HeadError> {
        let hosts = self.values("host").count();
        if hosts > 1 || (hosts == 0 && self.minor_version == 1) {
            return Err(HeadError::Host);
        }
        let mut lengths = self.values("content-length");
        let mut codings = self.values("transfer-encoding");
        let is_clear = match (lengths.next(), codings.next()) {
            (None, None) => true,
            (Some(length), None) => !length.is_empty() && length.iter().all(u8::is_ascii_digit),
            (None, Some(_)) => self.minor_version == 1,
            (Some(_), Some(_)) => false,
        };
        if is_clear && lengths.next().is_none() && codings.next().is_none() {
            Ok(())
        } else {
            Err(HeadError::BodyLength)
        }
    }
}

/// Where the head at the front of `buf` ends, `None` when its blank line has not come.
///
/// `searched`: how many bytes an earlier call with the same buffer saw without finding it, 0 at first. A head
/// that comes a byte at a time is so searched once, not once a byte.
pub fn head_complete(buf: &[u8], searched: usize) -> Option<usize> {
    // The last two bytes seen may begin the end: `\n\r` and then `\n`.
    let mut at = searched.saturating_sub(2);
    while let Some(found) = buf.get(at..)?.iter().position(|byte| *byte == b'\n') {
        at += found + 1;
        match buf[at..] {
            // Not a legal end; found here so that it is refused at once instead of waited for.
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Reads the request head at the front of `buf`; `None` when more bytes are needed.
///
/// Searches from the front each time: call it when [`head_complete`] found the end or the buffer reached
/// [`HeadLimits::head_bytes_max`], and once for the first packet.
///
/// # Errors
/// The head is refused. The caller sends [`HeadError::response`] and closes.
pub fn parse_head<'b>(buf: &'b [u8], limits: &HeadLimits) -> Result<Option<Head<'b>>, HeadError> {
    // A TLS hello or a stray blank line; refused before its end, which may never come.
    if buf.first().is_some_and(|byte| !byte.is_ascii_alphabetic()) {
        return Err(HeadError::Malformed);
    }
    let window = &buf[..buf.len().min(limits.head_bytes_max)];
    let Some(len) = head_complete(window, 0) else {
        return match window {
            _ if buf.len() < limits.head_bytes_max => Ok(None),
            line if line.contains(&b'\n') => Err(HeadError::TooBig),
            _ => Err(HeadError::TargetTooLong),
        };
    };
    let bytes = &buf[..len];
    if has_bare_line_feed(bytes) {
        return Err(HeadError::BareLineFeed);
    }
    let mut table = [const { MaybeUninit::uninit() }; HEADERS_HARD_MAX];
    let table = &mut table[..limits.headers_max.min(HEADERS_HARD_MAX)];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, table) {
        Ok(Status::Complete(parsed)) if parsed == len => {}
        Ok(Status::Complete(_) | Status::Partial) => return Err(HeadError::Malformed),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
        Err(httparse::Error::Version) => return Err(HeadError::Version),
        Err(_) => return Err(HeadError::Malformed),
    }
    let Request { method: Some(method), path: Some(target), version: Some(minor_version), headers } = request
    else {
        return Err(HeadError::Malformed);
    };
    let head = Head { method, target, minor_version, len, headers: headers.to_vec() };
    head.check()?;
    Ok(Some(head))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.first() == Some(&b'\n') || head.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

/// What a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Becomes a WebSocket: answer with [`switching_protocols`].
    Upgrade(Upgrade),
    /// Wanted to and must not: answer with [`Refusal::response`] and close.
    Refuse(Refusal),
    /// Is for the HTTP application.
    Plain,
}

/// What a request to upgrade asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The normalised path, byte-equal to that of a mount.
    pub path: String,
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: String,
    /// The first subprotocol offered.
    pub protocol: Option<String>,
    /// What can be agreed on about permessage-deflate, if anything. The caller takes it out where it does not
    /// compress.
    pub deflate: Option<Agreement>,
}

/// Why a request to upgrade is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Any method but GET.
    #[error("upgrade with a method other than GET")]
    Method,
    /// `Sec-WebSocket-Key` missing, repeated, or not 16 bytes in base64.
    #[error("missing or malformed Sec-WebSocket-Key")]
    Key,
    /// `Sec-WebSocket-Version` missing, repeated, or not 13.
    #[error("unsupported Sec-WebSocket-Version")]
    Version,
    /// A body, which would be read as frames.
    #[error("upgrade with a body")]
    Body,
    /// An origin that may not connect, or none where one is asked for.
    #[error("origin not allowed")]
    Origin,
    /// A known proxy does not say for whom it asks ([`crate::forwarded::Malformed`]).
    #[error("malformed client address of a proxy")]
    ClientAddress,
    /// The address holds as many connections as it may.
    #[error("too many connections from one address")]
    AddressLimit,
    /// No upgrade, where there is nothing else.
    #[error("no upgrade on a port that serves WebSockets only")]
    NotUpgrade,
    /// An upgrade on a path where no WebSocket is served, on a port that serves nothing else.
    #[error("upgrade on a path without WebSockets")]
    Path,
}

impl Refusal {
    /// Every refusal, in the order of [`Refusal::index`].
    pub const ALL: [Self; 9] = [
        Self::Method,
        Self::Key,
        Self::Version,
        Self::Body,
        Self::Origin,
        Self::ClientAddress,
        Self::AddressLimit,
        Self::NotUpgrade,
        Self::Path,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place in an array of [`Refusal::COUNT`] counters.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Method | Self::Key => 500,
            Self::Version | Self::NotUpgrade => 426,
            Self::Body | Self::ClientAddress => 400,
            Self::Origin => 403,
            Self::Path => 404,
            Self::AddressLimit => 429,
        }
    }

    /// A label for metrics and logs, `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "upgrade_method",
            Self::Key => "upgrade_key",
            Self::Version => "upgrade_version",
            Self::Body => "upgrade_body",
            Self::Origin => "origin",
            Self::ClientAddress => "client_address",
            Self::AddressLimit => "address_limit",
            Self::NotUpgrade => "not_upgrade",
            Self::Path => "upgrade_path",
        }
    }

    /// The whole answer. `date` is that of [`crate::date::http_date`].
    pub fn response(self, date: &str) -> Vec<u8> {
        match self {
            Self::Method | Self::Key => {
                let headers = [("content-type", "text/plain;charset=utf-8"), ("Date", date)];
                response(self.status(), &headers, "WebSocket upgrade failed")
            }
            Self::Version => {
                response(self.status(), &[("Sec-WebSocket-Version", "13"), ("Connection", "close")], "")
            }
            Self::AddressLimit => {
                response(self.status(), &[("Retry-After", "5"), ("Connection", "close")], "")
            }
            // RFC 9110 §15.5.22; the sentence is that of topic-session's reference.
            Self::NotUpgrade => {
                let headers = [
                    ("Content-Type", "text/plain"),
                    ("Upgrade", "websocket"),
                    ("Connection", "Upgrade, close"),
                    ("Date", date),
                ];
                response(self.status(), &headers, "Upgrade Required")
            }
            Self::Body | Self::Origin | Self::ClientAddress | Self::Path => {
                response(self.status(), &[("Connection", "close")], "")
            }
        }
    }
}

/// Whether a request wants to become a WebSocket, wherever.
pub fn wants_websocket(head: &Head<'_>) -> bool {
    head.only("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// Decides what a request is. `is_mount` tells whether a WebSocket is served on a normalised path.
pub fn route(head: &Head<'_>, is_mount: impl Fn(&str) -> bool) -> Route {
    if !wants_websocket(head) {
        return Route::Plain;
    }
    let Some(path) = path::normalise(head.target).filter(|path| is_mount(path)) else {
        return Route::Plain;
    };
    if head.method != "GET" {
        return Route::Refuse(Refusal::Method);
    }
    let Some(key) = head.only("sec-websocket-key").filter(|key| is_key(key)) else {
        return Route::Refuse(Refusal::Key);
    };
    if head.only("sec-websocket-version") != Some(b"13") {
        return Route::Refuse(Refusal::Version);
    }
    if head.has_body() {
        return Route::Refuse(Refusal::Body);
    }
    Route::Upgrade(Upgrade {
        path: path.into_owned(),
        accept: derive_accept_key(key),
        protocol: head.header("sec-websocket-protocol").and_then(first_protocol),
        deflate: deflate::negotiate(head.values("sec-websocket-extensions")),
    })
}

/// 16 bytes in base64. The unused bits of the last character may be set, as some clients do.
fn is_key(key: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24 && key[..22].iter().all(is_base64) && key.ends_with(b"==")
}

fn first_protocol(offers: &[u8]) -> Option<String> {
    let first = offers.split(|byte| *byte == b',').next()?.trim_ascii();
    let first = std::str::from_utf8(first).ok()?;
    (!first.is_empty()).then(|| first.to_owned())
}

/// The whole answer to an upgrade. `date` is that of [`crate::date::http_date`].
pub fn switching_protocols(upgrade: &Upgrade, date: &str) -> Vec<u8> {
    let protocol = match &upgrade.protocol {
        Some(protocol) => Cow::Owned(format!("Sec-WebSocket-Protocol: {protocol}\r\n")),
        None => Cow::Borrowed(""),
    };
    let extensions = match upgrade.deflate {
        Some(agreed) => Cow::Owned(format!("Sec-WebSocket-Extensions: {}\r\n", agreed.header_value())),
        None => Cow::Borrowed(""),
    };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{protocol}{extensions}Date: {date}\r\n\r\n",
        upgrade.accept
    )
    .into_bytes()
}

/// A whole response: the status with its standard phrase, the headers, and `Content-Length` when `body` is not
/// empty. Without a body the caller says `Connection: close` and closes.
pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut out = format!("HTTP/1.1 {status} {}\r\n", phrase.unwrap_or_default());
    for (name, value) in headers {
        out.extend([name, ": ", value, "\r\n"]);
    }
    if !body.is_empty() {
        out.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    out.push_str("\r\n");
    out.push_str(body);
    out.into_bytes()
}

#[cfg(test)]
mod tests;
