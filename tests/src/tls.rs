//! Certificates made for a test, the files a server reads them from, and clients that trust them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use shardcast::config::Config;

use crate::process::ScratchDir;

pub use rustls::version::{TLS12, TLS13};

/// The name that certificates are for and that clients ask for.
pub const NAME: &str = "localhost";

/// Both versions, as a client offers them by default.
pub const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// What a certificate is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA with 2,048 bits.
    Rsa,
    /// ECDSA, of the past.
    Expired,
}

/// A certificate with its chain, and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and the one that signed it.
    pub chain: String,
    /// The key.
    pub key: String,
}

/// A root that clients trust, and one below it that signs.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        let root = CertifiedIssuer::self_signed(authority_params("root"), key(&PKCS_ECDSA_P256_SHA256));
        let root = root.expect("a root");
        let intermediate = authority_params("intermediate");
        let intermediate = CertifiedIssuer::signed_by(intermediate, key(&PKCS_ECDSA_P256_SHA256), &root)
            .expect("an intermediate");
        Self { root, intermediate }
    }
}

impl Authority {
    /// A certificate for these names.
    ///
    /// # Panics
    /// When a name is none.
    pub fn issue(&self, kind: Kind, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        if kind == Kind::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = key(if kind == Kind::Rsa { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 });
        let certificate = params.signed_by(&key, &self.intermediate).expect("a certificate");
        Pair { chain: certificate.pem() + &self.intermediate.pem(), key: key.serialize_pem() }
    }

    /// The root, PEM, for clients that are not ours.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A client that trusts the root, offers these versions, and remembers sessions.
    ///
    /// # Panics
    /// When rustls refuses.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.root.pem().as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(versions).expect("versions");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// A new connection of a client, before it has sent anything.
///
/// # Panics
/// When rustls refuses.
pub fn client_connection(config: &Arc<ClientConfig>, name: &str) -> ClientConnection {
    let name = ServerName::try_from(name.to_owned()).expect("a server name");
    ClientConnection::new(config.clone(), name).expect("a client")
}

/// Where a server finds a certificate and its key.
#[derive(Debug)]
pub struct Files {
    dir: ScratchDir,
}

impl Files {
    /// Files with this in them.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn new(pair: &Pair) -> Self {
        let files = Self { dir: ScratchDir::new("tls") };
        files.replace(pair);
        files
    }

    /// Puts others in their place.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn replace(&self, Pair { chain, key }: &Pair) {
        for (path, text) in [(self.certificate(), chain), (self.key(), key)] {
            let beside = path.with_extension("new");
            fs::write(&beside, text).expect("writing a file");
            fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("permissions");
            fs::rename(&beside, &path).expect("moving a file");
        }
    }

    /// The certificate's path.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("fullchain.pem")
    }

    /// The key's path.
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("privkey.pem")
    }

    /// Has `config` listen with TLS on a free port, with this certificate.
    pub fn serve_with(&self, config: &mut Config) {
        config.server.tls_listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        config.tls.certificate = Some(self.certificate().display().to_string());
        config.tls.key = Some(self.key().display().to_string());
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key")
}
