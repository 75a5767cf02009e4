//! What is counted of TLS, over all shards.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Why a TLS connection ended badly. Each is a label of `shardcast_tls_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Plain HTTP was spoken.
    PlainHttp,
    /// The first bytes were no TLS record.
    NotTls,
    /// The client speaks no version that we do.
    Version,
    /// No cipher suite, group or signature in common.
    NoCommonParameters,
    /// The client refused the certificate.
    CertificateRefused,
    /// The client sent another fatal alert.
    Alert,
    /// A message, or its pieces, are longer than they may be.
    TooBig,
    /// A record was forged or damaged, or a message has no place here.
    Protocol,
    /// The connection ended within the handshake.
    HangUp,
    /// The handshake took longer than `server.handshake_timeout`.
    Timeout,
    /// Records of all connections that are not complete, or not sent, take as much memory as they may.
    Memory,
}

impl Failure {
    /// All of them, in the order of their index.
    pub const ALL: [Self; 11] = [
        Self::PlainHttp,
        Self::NotTls,
        Self::Version,
        Self::NoCommonParameters,
        Self::CertificateRefused,
        Self::Alert,
        Self::TooBig,
        Self::Protocol,
        Self::HangUp,
        Self::Timeout,
        Self::Memory,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Version => "version",
            Self::NoCommonParameters => "no_common_parameters",
            Self::CertificateRefused => "certificate_refused",
            Self::Alert => "alert",
            Self::TooBig => "too_big",
            Self::Protocol => "protocol",
            Self::HangUp => "hang_up",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
        }
    }

    /// What an error of rustls means to an operator.
    pub(super) fn of(error: &Error) -> Self {
        use AlertDescription as Alert;
        use PeerIncompatible as Peer;
        match error {
            Error::PeerIncompatible(
                Peer::ServerDoesNotSupportTls12Or13
                | Peer::ServerTlsVersionIsDisabledByOurConfig
                | Peer::SupportedVersionsExtensionRequired
                | Peer::Tls12NotOffered
                | Peer::Tls12NotOfferedOrEnabled,
            ) => Self::Version,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::NoCommonParameters,
            Error::AlertReceived(
                Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA,
            ) => Self::CertificateRefused,
            Error::AlertReceived(Alert::ProtocolVersion) => Self::Version,
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Protocol,
        }
    }
}

/// Counters of TLS, written by shards and the control plane.
#[derive(Debug, Default)]
pub struct TlsCounters {
    /// Handshakes completed.
    pub handshakes: AtomicU64,
    /// Of these, those that resumed an earlier session.
    pub resumed: AtomicU64,
    /// Connections that are open, in handshakes too.
    pub connections: AtomicU64,
    /// When the first certificate expires, seconds since 1970; 0 without TLS.
    pub not_after_unix_s: AtomicI64,
    /// Bytes of records that are not complete, or that sockets have not taken.
    held_bytes: AtomicI64,
    /// The connection that brings them above this ends.
    held_bytes_max: AtomicI64,
    failures: [AtomicU64; Failure::ALL.len()],
}

impl TlsCounters {
    /// Sets the bound on bytes held.
    pub(super) fn bound(&self, held_bytes_max: usize) {
        self.held_bytes_max.store(i64::try_from(held_bytes_max).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(super) fn hold(&self, more: i64) {
        if more != 0 {
            self.held_bytes.fetch_add(more, Ordering::Relaxed);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) > self.held_bytes_max.load(Ordering::Relaxed)
    }

    /// Bytes of records that are not complete, or that sockets have not taken.
    pub fn held_bytes(&self) -> u64 {
        u64::try_from(self.held_bytes.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Counts a failure.
    pub fn fail(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was the reason.
    pub fn failures(&self, failure: Failure) -> u64 {
        self.failures[failure as usize].load(Ordering::Relaxed)
    }
}
