//! A TCP proxy that can turn its connections half-open: they stay open and nothing passes any more.

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
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (frozen_below, accepted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let proxy = Self { address, frozen_below: frozen_below.clone(), accepted: accepted.clone() };
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(upstream)) else { return };
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let ends = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
                for (from, to) in ends {
                    let (from, to) = (from.expect("a descriptor"), to.expect("a descriptor"));
                    let frozen_below = frozen_below.clone();
                    thread::spawn(move || pass(from, to, || number < frozen_below.load(Ordering::SeqCst)));
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
fn pass(mut from: TcpStream, mut to: TcpStream, is_frozen: impl Fn() -> bool) {
    let mut buffer = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !is_frozen() && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if !is_frozen() {
        // It may be closed already, which is as good.
        drop(to.shutdown(Shutdown::Both));
    }
}
