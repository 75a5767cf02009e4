//! Publishing with HTTP `POST`, over one connection that is kept alive.
//!
//! One publication is sent as an object, several as an array. Each request is answered before the next is sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Envelopes, PublishError, Sink};
use crate::stamp::Stamp;

/// Longest text of a refusal that is shown.
const ANSWER_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(super) struct HttpSink {
    address: SocketAddr,
    stream: TcpStream,
    envelopes: Envelopes,
    /// The head of every request, up to the value of `Content-Length`.
    head: String,
    body: Vec<u8>,
    out: Vec<u8>,
    answer: Vec<u8>,
}

impl HttpSink {
    /// Connects; requests go to `path`, with the bearer key when there is one.
    pub(super) fn connect(
        address: SocketAddr,
        host: &str,
        path: &str,
        key: Option<&str>,
        envelopes: Envelopes,
    ) -> Result<Self, PublishError> {
        let stream = TcpStream::connect(address)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| PublishError::Connect { address, source })?;
        let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: "
        );
        let (body, out, answer) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { address, stream, envelopes, head, body, out, answer })
    }

    fn read_answer(&mut self) -> Result<(), PublishError> {
        let address = self.address;
        let broken = |source| PublishError::Broken { address, source };
        self.answer.clear();
        let mut chunk = [0; 4096];
        loop {
            let received = self.stream.read(&mut chunk).map_err(broken)?;
            if received == 0 {
                return Err(broken(ErrorKind::UnexpectedEof.into()));
            }
            self.answer.extend_from_slice(&chunk[..received]);
            let Some((status, body_at, body_bytes)) = answer_head(&self.answer)
                .map_err(|_| PublishError::Malformed { address, protocol: "HTTP with a Content-Length" })?
            else {
                continue;
            };
            if self.answer.len() < body_at + body_bytes {
                continue;
            }
            if (200..300).contains(&status) {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&self.answer[body_at..]);
            let text: String = text.chars().take(ANSWER_CHARS_MAX).collect();
            return Err(PublishError::Refused { address, answer: format!("status {status}: {text}") });
        }
    }
}

impl Sink for HttpSink {
    fn publish(&mut self, batch: &[Stamp]) -> Result<(), PublishError> {
        self.body.clear();
        if let [stamp] = batch {
            self.envelopes.write(&mut self.body, stamp);
        } else {
            self.body.push(b'[');
            for stamp in batch {
                self.envelopes.write(&mut self.body, stamp);
                self.body.push(b',');
            }
            self.body.pop();
            self.body.push(b']');
        }
        self.out.clear();
        write!(self.out, "{}{}\r\n\r\n", self.head, self.body.len()).expect("writing to a Vec does not fail");
        self.out.extend_from_slice(&self.body);
        let address = self.address;
        self.stream.write_all(&self.out).map_err(|source| PublishError::Broken { address, source })?;
        self.read_answer()
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        Ok(())
    }
}

/// The answer is not one that can be read.
struct Unreadable;

/// Status, place and length of the body; `None` while the head is not complete.
fn answer_head(answer: &[u8]) -> Result<Option<(u16, usize, usize)>, Unreadable> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body_at) = response.parse(answer).map_err(|_| Unreadable)? else {
        return Ok(None);
    };
    let status = response.code.ok_or(Unreadable)?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Content-Length"));
    let length = match length {
        Some(length) => std::str::from_utf8(length.value).ok().and_then(|text| text.trim().parse().ok()),
        None if status == 204 => Some(0),
        None => None,
    };
    Ok(Some((status, body_at, length.ok_or(Unreadable)?)))
}
