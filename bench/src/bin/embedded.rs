//! Shardcast inside an application that emits from a thread of its own, as `bench/peers/run` measures it: neither the
//! HTTP API nor Redis is on the way of a message.
//!
//! Usage: `embedded PORT PUBLISH_PORT`. Clients come to `ws://127.0.0.1:PORT/ws` with the token `ok` and may join every
//! room. What the application has to say it is told on the other port, since a measurement needs somebody to say it:
//! `POST` with a room, a space and JSON a line. Says `ready` once both are open; ends by a signal.
//!
//! Invariant: an answer follows when every line of its request was emitted.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use shardcast::config::{Config, RoomPattern, Secret, Token};
use shardcast::driver::files;
use shardcast::engine::{Emit, Engine};
use shardcast::policy::Policy;
use shardcast::threads::Server;
use shardcast_wire::ignis::{Destination, Payload};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longest body of a request, in bytes: 64 of the largest messages that are measured.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Longest line of a request's head, in bytes.
const HEAD_LINE_BYTES_MAX: u64 = 4096;

const USAGE: &str = "usage: embedded PORT PUBLISH_PORT";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    let ports: Vec<u16> = std::env::args().skip(1).map(|port| port.parse()).collect::<Result<_, _>>()?;
    let [port, publish_port] = ports[..] else { return Err(USAGE.into()) };
    files::raise_limit()?;
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from(([127, 0, 0, 1], port))];
    config.admin.listen = None;
    config.auth.tokens = vec![Token { token: Secret::new("ok"), ..Token::default() }];
    config.auth.rooms = vec![RoomPattern::new("*")];
    let server = Server::start(&config, Arc::new(Policy::new(&config)))?;
    let publishers = TcpListener::bind(("127.0.0.1", publish_port))?;
    println!("ready {port}");
    for publisher in publishers.incoming() {
        if let Err(error) = serve(publisher?, server.engine()) {
            eprintln!("embedded: {error}");
        }
    }
    Ok(())
}

/// Emits what one publisher says until it hangs up.
fn serve(stream: TcpStream, engine: &Engine) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut requests, mut answers) = (BufReader::new(&stream), &stream);
    let mut body = Vec::new();
    while let Some(length) = read_head(&mut requests)? {
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            emit(engine, line)?;
        }
        answers.write_all(ANSWER)?;
    }
    Ok(())
}

/// Reads the head of a request up to its body, and how long that is; `None` at the end of the connection.
fn read_head(requests: &mut impl BufRead) -> io::Result<Option<usize>> {
    let mut length = 0;
    for number in 0.. {
        let mut line = String::new();
        requests.take(HEAD_LINE_BYTES_MAX).read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            _ if line.is_empty() && number == 0 => return Ok(None),
            None if line.trim_end().is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                let told = value.parse().ok().filter(|bytes| *bytes <= BODY_BYTES_MAX);
                length = told.ok_or_else(|| malformed("a Content-Length within bounds"))?;
            }
            _ => {}
        }
    }
    Ok(Some(length))
}

/// Emits a line: a room, a space, JSON.
fn emit(engine: &Engine, line: &[u8]) -> io::Result<()> {
    let line = std::str::from_utf8(line).map_err(|_| malformed("UTF-8"))?;
    let (room, data) = line.split_once(' ').ok_or_else(|| malformed("a room, a space and JSON"))?;
    let payload = Payload::new("loadgen", Some(data)).map_err(|_| malformed("JSON after the room"))?;
    let emit = Emit { to: Destination::Room(room.into()), payload, exclude: Vec::new() };
    engine.emit(&emit).map(drop).map_err(io::Error::other)
}

fn malformed(expected: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a request is not as it has to be: expected {expected}"),
    )
}
