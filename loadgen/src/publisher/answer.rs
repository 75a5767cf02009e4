//! Answers to HTTP requests (RFC 9112), from bytes of which the last may be missing.
//!
//! Pure. Bodies end by `Content-Length` or by chunks, or there is none; those that end with the connection cannot
//! be pipelined and are not read.

use std::borrow::Cow;

/// Longest head, and longest body, of an answer.
const PART_BYTES_MAX: usize = 1 << 20;
const HEADERS_MAX: usize = 64;

/// One whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: Cow<'a, [u8]>,
    /// Bytes of the head and the body as they were sent.
    pub(super) bytes: usize,
    /// The server takes no more requests on this connection.
    pub(super) is_last: bool,
}

/// Not an answer that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// How the end of a body is found (RFC 9112 §6.3).
enum Framing {
    Length(usize),
    Chunks,
}

impl<'a> Answer<'a> {
    /// The answer these bytes begin with, `None` while more of it has to come.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Option<Self>, Unreadable> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(body_at) = response.parse(bytes).map_err(|_| Unreadable)? else {
            return if bytes.len() > PART_BYTES_MAX { Err(Unreadable) } else { Ok(None) };
        };
        let status = response.code.ok_or(Unreadable)?;
        let is_last = is_last(response.version, response.headers);
        let sent = &bytes[body_at..];
        let (body, body_bytes) = match framing(status, response.headers)? {
            Framing::Length(length) if length > PART_BYTES_MAX => return Err(Unreadable),
            Framing::Length(length) if length > sent.len() => return Ok(None),
            Framing::Length(length) => (Cow::Borrowed(&sent[..length]), length),
            Framing::Chunks => match chunks(sent)? {
                Some((body, body_bytes)) => (Cow::Owned(body), body_bytes),
                None if sent.len() > PART_BYTES_MAX => return Err(Unreadable),
                None => return Ok(None),
            },
        };
        Ok(Some(Self { status, body, bytes: body_at + body_bytes, is_last }))
    }

    /// Whether it only says that the answer is still to come (RFC 9110 §15.2).
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// RFC 9112 §9.3.
fn is_last(version: Option<u8>, headers: &[httparse::Header<'_>]) -> bool {
    let mut options = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("Connection"))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','));
    let mut has = |wanted: &str| options.any(|option| option.trim().eq_ignore_ascii_case(wanted));
    if version == Some(0) { !has("keep-alive") } else { has("close") }
}

fn framing(status: u16, headers: &[httparse::Header<'_>]) -> Result<Framing, Unreadable> {
    if status < 200 || status == 204 || status == 304 {
        return Ok(Framing::Length(0));
    }
    let find = |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    if let Some(coding) = find("Transfer-Encoding") {
        let is_chunked = coding.value.trim_ascii().eq_ignore_ascii_case(b"chunked");
        return if is_chunked { Ok(Framing::Chunks) } else { Err(Unreadable) };
    }
    let length = find("Content-Length").and_then(|length| std::str::from_utf8(length.value).ok());
    length.and_then(|length| length.trim().parse().ok()).map(Framing::Length).ok_or(Unreadable)
}

/// The body in chunks and the bytes it was sent in, trailers included (RFC 9112 §7.1).
fn chunks(sent: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Unreadable> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (head, length) = match httparse::parse_chunk_size(&sent[at..]).map_err(|_| Unreadable)? {
            httparse::Status::Complete(complete) => complete,
            httparse::Status::Partial => return Ok(None),
        };
        at += head;
        if length == 0 {
            break;
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= PART_BYTES_MAX);
        let end = at + length.ok_or(Unreadable)?;
        let Some(line_break) = sent.get(end..end + 2) else { return Ok(None) };
        if line_break != b"\r\n" {
            return Err(Unreadable);
        }
        body.extend_from_slice(&sent[at..end]);
        at = end + 2;
    }
    // Trailers, which nobody needs, and the empty line.
    loop {
        let Some(line) = sent[at..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        at += line + 2;
        if line == 0 {
            return Ok(Some((body, at)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_their_head_says() {
        let table: [(&str, u16, &str, bool); 11] = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, "abc", false),
            ("HTTP/1.1 202 \r\nContent-Length:  0 \r\n\r\n", 202, "", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false),
            ("HTTP/1.1 100 Continue\r\n\r\n", 100, "", false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200, "abc", false),
            (
                "HTTP/1.1 500 E\r\nContent-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n\
                 2;x=y\r\na\n\r\nA\r\n0123456789\r\n0\r\nT: u\r\nV: w\r\n\r\n",
                500,
                "a\n0123456789",
                false,
            ),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", 200, "a", true),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, "a", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", 200, "a", false),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", false),
        ];
        for (sent, status, body, is_last) in table {
            let expected = Answer { status, body: body.as_bytes().into(), bytes: sent.len(), is_last };
            let followed = format!("{sent}HTTP/1.1 200 OK\r\n");
            assert_eq!(Answer::read(followed.as_bytes()), Ok(Some(expected)), "{sent}");
            for have in 0..sent.len() {
                assert_eq!(Answer::read(&sent.as_bytes()[..have]), Ok(None), "{have} bytes of {sent}");
            }
        }
    }

    #[test]
    fn what_has_no_end_that_can_be_found_is_unreadable() {
        let table = [
            "+OK\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ];
        for sent in table {
            assert_eq!(Answer::read(sent.as_bytes()), Err(Unreadable), "{sent}");
        }
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &vec![b'a'; PART_BYTES_MAX]].concat();
        assert_eq!(Answer::read(&endless), Err(Unreadable));
    }

    #[test]
    fn interim_answers_are_told_from_final_ones() {
        let is_interim =
            |status| Answer { status, body: Cow::default(), bytes: 0, is_last: false }.is_interim();
        let table = [(100, true), (101, false), (103, true), (199, true), (200, false), (500, false)];
        for (status, expected) in table {
            assert_eq!(is_interim(status), expected, "{status}");
        }
    }
}
