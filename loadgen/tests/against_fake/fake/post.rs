//! The HTTP side of the fake server: takes requests down and answers them in one of several ways.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::time::Duration;

/// How long the fake waits for a further request before it answers, when it lets them pile up.
const PILE_WAIT: Duration = Duration::from_millis(50);

/// How requests are answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answers {
    /// With a `Content-Length`.
    Plain,
    /// In chunks, after an interim answer.
    Chunked,
    /// With 204 and `Connection: close`, and then the connection is closed.
    Closing,
    /// Plainly, and then the connection is closed without a word.
    HangingUp,
    /// The tenth request with 500, the others plainly.
    RefusingTenth,
    /// Only when no further request comes.
    Piled,
}

/// Request line and headers.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub path: String,
    /// As `Name: value`, in order.
    pub headers: Vec<String>,
}

/// What came in.
#[derive(Debug)]
pub struct Posts {
    answers: Answers,
    log: Mutex<Log>,
}

/// All requests so far.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub connections: usize,
    pub requests: Vec<(Head, String)>,
    /// Most requests that were there together unanswered.
    pub piled_max: usize,
}

/// Reads a head; `None` when the connection ends.
pub fn read_head(reader: &mut impl BufRead) -> Option<Head> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        Some(line.trim_end().to_owned())
    };
    let request_line = line()?;
    let mut words = request_line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        match line()? {
            end if end.is_empty() => return Some(Head { method, path, headers }),
            header => headers.push(header),
        }
    }
}

impl Posts {
    pub(super) fn new(answers: Answers) -> Self {
        Self { answers, log: Mutex::default() }
    }

    /// A copy of what came in.
    pub fn log(&self) -> Log {
        self.log.lock().expect("no panic").clone()
    }

    /// Serves a connection whose first head has been read.
    pub(super) fn serve(
        &self,
        mut reader: BufReader<TcpStream>,
        first: Head,
        deliver: impl Fn(&str) -> Option<()>,
    ) -> Option<()> {
        self.log.lock().expect("no panic").connections += 1;
        let mut head = first;
        let mut piled = 0;
        loop {
            let length = head.headers.iter().find_map(|header| header.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.expect("a length").parse().expect("a length")];
            reader.read_exact(&mut body).ok()?;
            let body = String::from_utf8(body).expect("UTF-8");
            deliver(&body)?;
            piled += 1;
            let number = {
                let mut log = self.log.lock().expect("no panic");
                log.requests.push((head, body));
                log.piled_max = log.piled_max.max(piled);
                log.requests.len()
            };
            if self.answers != Answers::Piled || !has_more(&mut reader) {
                for _ in 0..piled {
                    reader.get_mut().write_all(self.answer(number)).ok()?;
                }
                piled = 0;
            }
            if matches!(self.answers, Answers::Closing | Answers::HangingUp) {
                return None;
            }
            head = read_head(&mut reader)?;
        }
    }

    fn answer(&self, number: usize) -> &'static [u8] {
        match self.answers {
            Answers::Chunked => {
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\n\r\n"
            }
            Answers::Closing => b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
            Answers::RefusingTenth if number == 10 => {
                b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 8\r\n\r\nno queue"
            }
            _ => b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
        }
    }
}

/// Whether another request begins within [`PILE_WAIT`].
fn has_more(reader: &mut BufReader<TcpStream>) -> bool {
    reader.get_ref().set_read_timeout(Some(PILE_WAIT)).expect("a span");
    let has_more = match reader.fill_buf() {
        Ok(bytes) => !bytes.is_empty(),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset), "{error}");
            false
        }
    };
    reader.get_ref().set_read_timeout(None).expect("no span");
    has_more
}
