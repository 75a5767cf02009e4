//! One TLS connection of the server against rustls' client: the bytes decide in which pieces each hears the other, what
//! they say, and what on the way is damaged.
//!
//! Keys are random, so a run is not the same twice; what must hold does not depend on them: each side hears the
//! beginning of what the other said, all of it where nothing was damaged, and nothing else.

use std::io::{Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ClientConnection};
use shardcast::config::Config;
use shardcast::tls::Acceptor;
use shardcast::tls::conn::{KEPT_BYTES_MAX, Opened, RECORD_BYTES_MAX, TlsConn};

use super::input::Input;
use crate::tls::{Authority, Files, Kind, NAME, TLS12, TLS13, client_connection};

/// Steps of one run.
const STEPS_MAX: usize = 96;

/// Bytes on the way in one direction; a side that has so many out waits.
const ON_THE_WAY_MAX: usize = 96 << 10;

/// What is made once for all runs: keys take longer than a run.
struct Stage {
    acceptor: Acceptor,
    clients: [Arc<ClientConfig>; 2],
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let authority = Authority::default();
        let files = Files::new(&authority.issue(Kind::Ecdsa, &[NAME]));
        let mut config = Config::default();
        files.serve_with(&mut config);
        let acceptor = Acceptor::new(&config.tls, 1 << 20, Arc::default()).expect("a certificate");
        Stage { acceptor, clients: [authority.client(&[&TLS13]), authority.client(&[&TLS12])] }
    })
}

/// Both ends of a connection and what is between them.
struct Wire {
    server: TlsConn,
    client: ClientConnection,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// What each side said and heard.
    said: [Vec<u8>; 2],
    heard: [Vec<u8>; 2],
    scratch: Vec<u8>,
    damaged: bool,
    server_is_over: bool,
    client_is_over: bool,
    server_left: bool,
    client_left: bool,
}

const SERVER: usize = 0;
const CLIENT: usize = 1;

impl Wire {
    fn new(stage: &Stage, client: &Arc<ClientConfig>) -> Self {
        Self {
            server: stage.acceptor.accept(),
            client: client_connection(client, NAME),
            to_server: Vec::new(),
            to_client: Vec::new(),
            said: Default::default(),
            heard: Default::default(),
            scratch: vec![0; RECORD_BYTES_MAX],
            damaged: false,
            server_is_over: false,
            client_is_over: false,
            server_left: false,
            client_left: false,
        }
    }

    /// Puts what the client has to say onto the wire.
    fn send_client(&mut self) {
        while self.client.wants_write() && self.to_server.len() < ON_THE_WAY_MAX {
            self.client.write_tls(&mut self.to_server).expect("memory takes it");
        }
    }

    /// The server hears so many bytes, as the driver does it.
    fn hear_at_server(&mut self, count: usize) {
        let count = count.min(self.to_server.len());
        let fresh = self.to_server.drain(..count);
        if self.server_is_over {
            drop(fresh);
            return;
        }
        let mut cipher = self.server.kept().to_vec();
        cipher.extend(fresh);
        let mut used = 0;
        while !self.server_is_over {
            let (more, opened) = self.server.open(&mut cipher[used..], &mut self.scratch);
            used += more;
            assert!(used <= cipher.len(), "no more is used than there is");
            match opened {
                Ok(Opened::Plain(len)) => self.heard[SERVER].extend_from_slice(&self.scratch[..len]),
                Ok(Opened::Starved) => {
                    self.server_is_over = self.server.keep(&cipher[used..]).is_err();
                    assert!(self.server.kept().len() <= KEPT_BYTES_MAX, "what is kept is bounded");
                    break;
                }
                Ok(Opened::Ended) => {
                    assert!(self.client_left || self.damaged, "the client has not said goodbye");
                    self.server_is_over = true;
                }
                Err(failure) => {
                    // A goodbye in the middle of a handshake is a failure.
                    assert!(self.damaged || self.client_left, "{failure:?} without cause");
                    self.server_is_over = true;
                }
            }
        }
    }

    /// The socket of the server takes so many bytes of what is unsent.
    fn send_server(&mut self, count: usize) {
        let count = count.min(self.server.unsent().len());
        self.to_client.extend_from_slice(&self.server.unsent()[..count]);
        self.server.handle_sent(count);
    }

    /// The client hears so many bytes.
    fn hear_at_client(&mut self, count: usize) {
        let count = count.min(self.to_client.len());
        let fresh: Vec<u8> = self.to_client.drain(..count).collect();
        let mut rest = &fresh[..];
        while !rest.is_empty() && !self.client_is_over {
            let read = self.client.read_tls(&mut rest);
            match self.client.process_new_packets() {
                Ok(state) => {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.client.reader().read_exact(&mut plain).expect("it said how much there is");
                    self.heard[CLIENT].extend_from_slice(&plain);
                }
                Err(error) => {
                    assert!(
                        self.damaged || self.client_left,
                        "the client refuses what nobody damaged: {error}"
                    );
                    self.client_is_over = true;
                }
            }
            // Nothing is read behind a goodbye.
            self.client_is_over |= !matches!(read, Ok(1..));
        }
    }

    /// The client says something.
    fn speak_client(&mut self, text: &[u8]) {
        if !self.client_left && !self.client_is_over && self.to_server.len() < ON_THE_WAY_MAX {
            // It takes no more than its buffer holds before the handshake is done.
            let took = self.client.writer().write(text).expect("memory takes it");
            self.said[CLIENT].extend_from_slice(&text[..took]);
        }
    }

    /// The server says something, and the socket takes so many bytes of it at once.
    fn speak_server(&mut self, text: &[u8], taken: usize) {
        let is_able = !self.server_is_over && !self.server.is_handshaking() && !self.server.is_finishing();
        if !is_able || !self.server.unsent().is_empty() || self.to_client.len() >= ON_THE_WAY_MAX {
            return;
        }
        let mut record = Vec::new();
        match self.server.seal(text, &mut record) {
            Ok(took) => {
                assert_eq!(took, text.len().min(RECORD_BYTES_MAX));
                self.said[SERVER].extend_from_slice(&text[..took]);
                let taken = taken.min(record.len());
                self.to_client.extend_from_slice(&record[..taken]);
                self.server_is_over = self.server.keep_unsent(&record[taken..]).is_err();
            }
            Err(failure) => {
                assert!(self.damaged || self.client_left, "{failure:?} while sealing");
                self.server_is_over = true;
            }
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let (what, count) = (input.byte(), usize::from(input.byte()));
        // Pieces of one byte, of some, and all there is.
        let piece = match count {
            0..=199 => count + 1,
            200..=229 => (count - 199) * 700,
            _ => usize::MAX,
        };
        match what % 12 {
            0 | 1 => self.send_client(),
            2 | 3 => self.hear_at_server(piece),
            4 | 5 => self.send_server(piece),
            6 => self.hear_at_client(piece),
            7 => self.speak_client(&vec![what; piece.min(2 * RECORD_BYTES_MAX)]),
            8 => self.speak_server(&vec![what; piece.min(2 * RECORD_BYTES_MAX)], piece / 2),
            9 if what < 96 => {
                self.client.send_close_notify();
                self.client_left = true;
            }
            9 if !self.server_is_over && !self.server.is_finishing() => {
                self.server.finish();
                self.server_left = true;
            }
            10 if !self.to_server.is_empty() => {
                let at = count * self.to_server.len() / 256;
                self.damage(at, what);
            }
            11 if what > 200 => {
                self.to_server.extend((0..count % 24).map(|_| input.byte()));
                self.damaged |= count % 24 > 0;
            }
            _ => {}
        }
    }

    fn damage(&mut self, at: usize, how: u8) {
        self.damaged = true;
        match how / 12 % 3 {
            0 => self.to_server[at] ^= 1 << (how % 8),
            1 => drop(self.to_server.drain(at..(at + 3).min(self.to_server.len()))),
            _ => self.to_server.insert(at, how),
        }
    }

    /// Lets everything that is on the way arrive.
    fn settle(&mut self) {
        for _ in 0..16 {
            self.send_client();
            self.hear_at_server(usize::MAX);
            self.send_server(usize::MAX);
            self.hear_at_client(usize::MAX);
        }
    }

    /// Nothing is heard that was not said.
    fn check(&self) {
        for (side, other) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
            assert!(self.said[other].starts_with(&self.heard[side]), "side {side} heard something else");
        }
    }

    /// Once nothing is on the way: everything is heard, unless something happened to it.
    fn check_all(&self) {
        self.check();
        if !self.damaged && !self.client_left && !self.server_left {
            for (side, other) in [(SERVER, CLIENT), (CLIENT, SERVER)] {
                let (said, heard) = (self.said[other].len(), self.heard[side].len());
                assert_eq!(said, heard, "bytes that side {other} said, and {side} heard");
            }
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let stage = stage();
    let mut input = Input::new(data);
    let mut wire = Wire::new(stage, &stage.clients[usize::from(input.byte() % 2)]);
    for _ in 0..STEPS_MAX.min(data.len() / 2) {
        wire.step(&mut input);
        wire.check();
    }
    wire.settle();
    wire.check_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_in_both_versions_and_held_memory_is_given_back() {
        let stage = stage();
        for client in &stage.clients {
            let mut wire = Wire::new(stage, client);
            wire.settle();
            assert!(!wire.server.is_handshaking(), "the handshake is done");
            wire.speak_client(b"hello");
            wire.speak_server(b"hello yourself", 3);
            wire.settle();
            wire.check_all();
            assert_eq!(wire.heard, [b"hello".to_vec(), b"hello yourself".to_vec()]);
        }
    }
}
