//! TLS by rustls: certificates and settings ([`material`]), and one connection's records without I/O ([`conn`]).
//!
//! The driver and the control plane move the bytes. Nothing here touches a socket, waits, or blocks; only [`material`]
//! reads files, at start and on reload.

pub mod conn;
pub mod counters;
pub mod material;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ProducesTickets, UnbufferedServerConnection};

use crate::config;
use conn::TlsConn;
use counters::TlsCounters;
use material::{Material, MaterialError};

/// What all TLS connections of a process begin with; a reload swaps it whole.
#[derive(Debug)]
pub struct Acceptor {
    config: ArcSwap<ServerConfig>,
    /// Outlives reloads, so that whoever was here before resumes after one.
    tickets: Arc<dyn ProducesTickets>,
    counters: Arc<TlsCounters>,
}

impl Acceptor {
    /// Reads what `config` names. `held_bytes_max` bounds what is kept of incomplete and unsent records, all
    /// connections together.
    ///
    /// # Errors
    /// A file cannot be used; nothing can be served with TLS then.
    pub fn new(
        config: &config::Tls,
        held_bytes_max: usize,
        counters: Arc<TlsCounters>,
    ) -> Result<Self, MaterialError> {
        counters.bound(held_bytes_max);
        let tickets = material::tickets()?;
        let material = Material::load(config, &tickets)?;
        material.warn();
        counters.not_after_unix_s.store(material.not_after_unix_s(), Ordering::Relaxed);
        Ok(Self { config: ArcSwap::new(material.config), tickets, counters })
    }

    /// Reads the files again, for connections accepted from here on.
    ///
    /// # Errors
    /// A file cannot be used, or its certificate has expired; what is in use stays.
    pub fn reload(&self, config: &config::Tls) -> Result<(), MaterialError> {
        let material = Material::load(config, &self.tickets)?;
        material.refuse_expired(material::unix_s())?;
        material.warn();
        self.counters.not_after_unix_s.store(material.not_after_unix_s(), Ordering::Relaxed);
        tracing::info!(certificates = material.facts.len(), "tls: certificates read again");
        self.config.store(material.config);
        Ok(())
    }

    /// The server's end of a connection just accepted.
    pub fn accept(&self) -> TlsConn {
        let rustls = UnbufferedServerConnection::new(self.config.load_full());
        TlsConn::new(rustls.expect("the settings were tried when they were loaded"), self.counters.clone())
    }
}
