//! Publishing with Redis `PUBLISH`, pipelined.
//!
//! Speaks as much RESP as that takes. Replies are counted and refusals reported; nobody waits for a reply unless
//! [`REPLIES_MAX`] are due.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::composer::Composer;
use super::via::RedisVia;
use super::{PublishError, Sink, broken, connect};
use crate::engine::Settings;
use crate::engine::board::Board;
use crate::stamp::Stamp;

/// Replies that may be due before publishing waits for some of them.
const REPLIES_MAX: u64 = 4096;
/// Bytes written down before they are sent: large publications leave one by one, small ones together.
const OUT_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct RedisSink {
    address: SocketAddr,
    stream: TcpStream,
    composer: Composer,
    out: Vec<u8>,
    replies: Vec<u8>,
    replies_due: u64,
}

impl RedisSink {
    /// Connects, logs in and selects the database.
    pub(super) fn connect(
        via: &RedisVia,
        settings: &Arc<Settings>,
        board: &Arc<Board>,
    ) -> Result<Self, PublishError> {
        let mut sink = Self {
            address: via.address,
            stream: connect(via.address)?,
            composer: Composer::new(settings, board, &via.channel, &via.body, str::to_owned),
            out: Vec::new(),
            replies: Vec::new(),
            replies_due: 0,
        };
        if let Some(login) = &via.login {
            let user = login.user.as_deref();
            let arguments: Vec<&str> = user.into_iter().chain([login.password.as_str()]).collect();
            sink.command("AUTH", &arguments)?;
        }
        if let Some(database) = via.database {
            sink.command("SELECT", &[&database.to_string()])?;
        }
        Ok(sink)
    }

    /// Sends a command that is answered with `OK`, and waits for that; nothing else may be due.
    fn command(&mut self, command: &'static str, arguments: &[&str]) -> Result<(), PublishError> {
        let address = self.address;
        let mut out = format!("*{}\r\n${}\r\n{command}\r\n", arguments.len() + 1, command.len());
        for argument in arguments {
            out.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
        }
        self.stream.write_all(out.as_bytes()).map_err(|source| broken(address, source))?;
        // The end of a line is the end of what the server sends, as nothing else was asked.
        while !self.replies.ends_with(b"\r\n") {
            self.receive(true)?;
        }
        let reply = std::mem::take(&mut self.replies);
        match reply.first() {
            Some(b'+') => Ok(()),
            Some(b'-') => {
                let answer = String::from_utf8_lossy(reply.trim_ascii_end()).into_owned();
                Err(PublishError::RefusedCommand { address, command, answer })
            }
            _ => Err(PublishError::Malformed { address, protocol: "RESP" }),
        }
    }

    /// Takes in bytes of replies, waiting for the first of them or not.
    fn receive(&mut self, is_waiting: bool) -> Result<(), PublishError> {
        let address = self.address;
        let broken = |source| broken(address, source);
        let mut chunk = [0; 16 << 10];
        let received = if is_waiting {
            self.stream.read(&mut chunk)
        } else {
            self.stream.set_nonblocking(true).map_err(broken)?;
            let outcome = self.stream.read(&mut chunk);
            self.stream.set_nonblocking(false).map_err(broken)?;
            outcome
        };
        match received {
            Ok(0) => return Err(broken(ErrorKind::UnexpectedEof.into())),
            Ok(received) => self.replies.extend_from_slice(&chunk[..received]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !is_waiting => {}
            Err(error) => return Err(broken(error)),
        }
        Ok(())
    }

    /// Sends what is written down.
    fn flush(&mut self) -> Result<(), PublishError> {
        self.stream.write_all(&self.out).map_err(|source| broken(self.address, source))?;
        self.out.clear();
        Ok(())
    }

    /// Counts replies to publications, waiting for the first of them or not.
    fn read_replies(&mut self, is_waiting: bool) -> Result<(), PublishError> {
        let address = self.address;
        self.receive(is_waiting)?;
        let mut taken = 0;
        while let Some(length) = self.replies[taken..].windows(2).position(|pair| pair == b"\r\n") {
            let line = &self.replies[taken..taken + length];
            taken += length + 2;
            match line.first() {
                Some(b':') if self.replies_due > 0 => self.replies_due -= 1,
                Some(b'-') => {
                    let answer = String::from_utf8_lossy(line).into_owned();
                    return Err(PublishError::Refused { address, answer });
                }
                _ => return Err(PublishError::Malformed { address, protocol: "RESP" }),
            }
        }
        self.replies.drain(..taken);
        Ok(())
    }
}

impl Sink for RedisSink {
    fn publish(&mut self, batch: &[Stamp]) -> Result<(), PublishError> {
        while self.replies_due > REPLIES_MAX {
            self.read_replies(true)?;
        }
        for stamp in batch {
            let composer = &mut self.composer;
            composer.begin(stamp);
            write!(self.out, "*3\r\n$7\r\nPUBLISH\r\n${}\r\n", composer.name_len())
                .expect("writing to a Vec does not fail");
            composer.write_name(&mut self.out);
            write!(self.out, "\r\n${}\r\n", composer.body_len()).expect("writing to a Vec does not fail");
            composer.write_body(&mut self.out);
            self.out.extend_from_slice(b"\r\n");
            if self.out.len() >= OUT_BYTES_MAX {
                self.flush()?;
            }
        }
        self.flush()?;
        self.replies_due += batch.len() as u64;
        self.read_replies(false)
    }

    fn finish(&mut self) -> Result<(), PublishError> {
        while self.replies_due > 0 {
            self.read_replies(true)?;
        }
        Ok(())
    }
}
