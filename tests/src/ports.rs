//! Ports for programs that cannot take port 0 and say which one they got.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback address with a port nobody listened on a moment ago.
///
/// Another process may take it before the caller does, so whoever starts a program on it tries again with a new
/// one when that program cannot bind.
///
/// # Panics
/// When the machine has no free port.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free loopback port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_address_can_be_bound() {
        let address = free_address();
        assert!(address.ip().is_loopback());
        TcpListener::bind(address).expect("binding the free address");
    }
}
