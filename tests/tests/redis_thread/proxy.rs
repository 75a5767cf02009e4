//! A TCP proxy that can turn its connections half-open: they stay open and nothing passes any more; or that changes a word
//! of what clients say.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Passes bytes to one address. Its threads end with the connections.
pub struct Proxy {
    address: SocketAddr,
    /// Connections with a lower number are frozen.
    frozen_below: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
}

impl Proxy {
    pub fn start(upstream: SocketAddr) -> Self {
        Self::replacing(upstream, ["", ""])
    }

    /// Writes the second word, which is as long, for the first in what clients say. A word that two reads share passes.
    pub fn replacing(upstream: SocketAddr, words: [&'static str; 2]) -> Self {
        assert_eq!(words[0].len(), words[1].len());
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (frozen_below, accepted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let proxy = Self { address, frozen_below: frozen_below.clone(), accepted: accepted.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else { return };
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let ends =
                    [(client.try_clone(), server.try_clone(), words), (Ok(server), Ok(client), ["", ""])];
                for (from, to, words) in ends {
                    let (from, to) = (from.expect("a descriptor"), to.expect("a descriptor"));
                    let frozen_below = frozen_below.clone();
                    let is_frozen = move || number < frozen_below.load(Ordering::SeqCst);
                    thread::spawn(move || pass(from, to, words, is_frozen));
                }
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Freezes what is connected; later connections pass.
    pub fn freeze(&self) {
        self.frozen_below.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Passes bytes on; swallows them once frozen.
fn pass(mut from: TcpStream, mut to: TcpStream, words: [&str; 2], is_frozen: impl Fn() -> bool) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let [word, other] = words.map(str::as_bytes);
        for at in 0..(count + 1).saturating_sub(word.len()) {
            if buffer[at..].starts_with(word) {
                buffer[at..at + other.len()].copy_from_slice(other);
            }
        }
        if !is_frozen() && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if !is_frozen() {
        // It may be closed already, which is as good.
        drop(to.shutdown(Shutdown::Both));
    }
}
