//! Publishing with Redis `PUBLISH`, pipelined.
//!
//! Speaks as much RESP as that takes. Replies are counted and refusals reported; nobody waits for a reply unless
//! [`REPLIES_MAX`] are due.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Envelopes, PublishError, Sink};
use crate::stamp::Stamp;

/// Replies that may be due before publishing waits for some of them.
const REPLIES_MAX: u64 = 4096;

#[derive(Debug)]
pub(super) struct RedisSink {
    address: SocketAddr,
    stream: TcpStream,
    channels: Vec<String>,
    envelopes: Envelopes,
    out: Vec<u8>,
    replies: Vec<u8>,
    replies_due: u64,
}

impl RedisSink {
    /// Connects; `channels` are those of the rooms, in order.
    pub(super) fn connect(
        address: SocketAddr,
        channels: Vec<String>,
        envelopes: Envelopes,
    ) -> Result<Self, PublishError> {
        let stream = TcpStream::connect(address)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| PublishError::Connect { address, source })?;
        let (out, replies) = (Vec::new(), Vec::new());
        Ok(Self { address, stream, channels, envelopes, out, replies, replies_due: 0 })
    }

    /// Takes in replies, waiting for the first of them or not.
    fn read_replies(&mut self, is_waiting: bool) -> Result<(), PublishError> {
        let address = self.address;
        let broken = |source| PublishError::Broken { address, source };
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
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(broken(error)),
        }
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
        self.out.clear();
        for stamp in batch {
            let channel = &self.channels[stamp.room as usize];
            let length = self.envelopes.len(stamp.room);
            write!(self.out, "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${length}\r\n", channel.len())
                .expect("writing to a Vec does not fail");
            self.envelopes.write(&mut self.out, stamp);
            self.out.extend_from_slice(b"\r\n");
        }
        let address = self.address;
        let sent: io::Result<()> = self.stream.write_all(&self.out);
        sent.map_err(|source| PublishError::Broken { address, source })?;
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
