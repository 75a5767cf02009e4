//! Certificates and keys: read, checked, and made into what rustls needs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, UnbufferedServerConnection,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::config::{Config, Tls, TlsVersion};
use crate::wall_clock::now_unix_ms;

/// The longest file that is read, bytes: chains are some kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A certificate that expires sooner than this is warned about, seconds: two weeks.
const EXPIRY_NEAR_S: i64 = 14 * 86_400;

/// Tickets for a session, TLS 1.3: one for the next connection, which gets another.
const TICKETS: usize = 1;

/// Permission bits of those who are neither the owner nor of the group.
const MODE_OTHERS: u32 = 0o007;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file holds nothing of what it should.
    #[error("{} holds no {what} in PEM form (-----BEGIN ...-----)", file.display())]
    Missing {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A file is damaged.
    #[error("{} is damaged: {reason}", file.display())]
    Damaged {
        /// Which.
        file: PathBuf,
        /// Where it stops to make sense.
        reason: Damage,
    },
    /// Key and certificate are not made for each other, or of a kind that is not served.
    #[error("{} and its key {} cannot be used together: {source}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The certificate is of the past.
    #[error("the certificate {} has expired {days} days ago; renew it", file.display())]
    Expired {
        /// Its file.
        file: PathBuf,
        /// For how long.
        days: i64,
    },
    /// rustls refuses to work.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Its PEM.
    #[error(transparent)]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A certificate in it.
    #[error("no X.509 certificate ({0})")]
    Certificate(String),
}

/// What works and should be seen to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Concern {
    /// A certificate has expired.
    #[error("the certificate {} has expired: clients refuse it", .0.display())]
    Expired(PathBuf),
    /// One will soon.
    #[error("the certificate {} expires in {days} days", file.display())]
    ExpiresSoon {
        /// Its file.
        file: PathBuf,
        /// How soon.
        days: i64,
    },
    /// A key that is not secret.
    #[error("the key {} can be read by everyone on this machine", .0.display())]
    KeyReadable(PathBuf),
}

impl Concern {
    /// What to do.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Expired(_) | Self::ExpiresSoon { .. } => "renew it and reload (SIGHUP)",
            Self::KeyReadable(_) => "chmod o-rwx it",
        }
    }
}

/// What is known of one certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its file.
    pub certificate: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// Names it is for, as they stand in it.
    pub names: Vec<String>,
    /// When it expires, seconds since 1970.
    pub not_after_unix_s: i64,
    /// Permission bits of the key's file.
    pub key_mode: u32,
}

impl Facts {
    /// What should be seen to at `now`, seconds since 1970.
    pub fn concerns(&self, now_unix_s: i64) -> impl Iterator<Item = Concern> {
        let left_s = self.not_after_unix_s - now_unix_s;
        let file = self.certificate.clone();
        let expiry = match left_s {
            ..0 => Some(Concern::Expired(file)),
            0..EXPIRY_NEAR_S => Some(Concern::ExpiresSoon { file, days: left_s / 86_400 }),
            _ => None,
        };
        let readable = self.key_mode & MODE_OTHERS != 0;
        expiry.into_iter().chain(readable.then(|| Concern::KeyReadable(self.key.clone())))
    }
}

/// Everything for new connections.
#[derive(Debug)]
pub struct Material {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// Of each certificate, the one for unknown names first.
    pub facts: Vec<Facts>,
}

impl Material {
    /// Reads and checks what `tls` names.
    ///
    /// # Errors
    /// A file is missing or damaged, or a key is of another certificate. An expired certificate is none.
    pub fn load(tls: &Tls, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, MaterialError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let first = tls.certificate.as_deref().zip(tls.key.as_deref());
        let others = tls.certificates.iter().map(|table| (table.certificate.as_str(), table.key.as_str()));
        let mut loaded = Vec::new();
        for (certificate, key) in first.into_iter().chain(others) {
            loaded.push(load_pair(Path::new(certificate), Path::new(key), &provider)?);
        }
        let (keys, facts): (Vec<_>, Vec<_>) = loaded.into_iter().unzip();
        let by_name = ByName::new(&keys, &facts);
        let versions: &[&SupportedProtocolVersion] = match tls.min_version {
            TlsVersion::V12 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V13 => &[&version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.map_err(MaterialError::Setup)?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Sessions are kept by the clients, in tickets: clients that come and go leave nothing here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = tickets.clone();
        config.send_tls13_tickets = TICKETS;
        let config = Arc::new(config);
        // So that no connection finds out what is wrong with it.
        UnbufferedServerConnection::new(config.clone()).map_err(MaterialError::Setup)?;
        Ok(Self { config, facts })
    }

    /// Logs what should be seen to.
    pub(super) fn warn(&self) {
        let now_unix_s = unix_s();
        for concern in self.facts.iter().flat_map(|facts| facts.concerns(now_unix_s)) {
            tracing::warn!("tls: {concern}; {}", concern.advice());
        }
    }

    /// When the first certificate expires, seconds since 1970.
    pub fn not_after_unix_s(&self) -> i64 {
        self.facts.iter().map(|facts| facts.not_after_unix_s).min().unwrap_or(0)
    }

    /// Refuses what no client would accept at `now`, seconds since 1970.
    ///
    /// # Errors
    /// A certificate has expired.
    pub fn refuse_expired(&self, now_unix_s: i64) -> Result<(), MaterialError> {
        match self.facts.iter().find(|facts| facts.not_after_unix_s < now_unix_s) {
            None => Ok(()),
            Some(facts) => Err(MaterialError::Expired {
                file: facts.certificate.clone(),
                days: (now_unix_s - facts.not_after_unix_s) / 86_400,
            }),
        }
    }
}

/// Reads and checks the certificates of `config`, if it has TLS, and returns what should be seen to.
///
/// # Errors
/// One cannot be used, or has expired.
pub fn examine(config: &Config) -> Result<Vec<Concern>, MaterialError> {
    if config.server.tls_listen.is_empty() {
        return Ok(Vec::new());
    }
    let material = Material::load(&config.tls, &tickets()?)?;
    let now_unix_s = unix_s();
    material.refuse_expired(now_unix_s)?;
    Ok(material.facts.iter().flat_map(|facts| facts.concerns(now_unix_s)).collect())
}

/// The keys that tickets are sealed with; they change by themselves every six hours.
///
/// # Errors
/// There is no randomness.
pub fn tickets() -> Result<Arc<dyn ProducesTickets>, MaterialError> {
    aws_lc_rs::Ticketer::new().map_err(MaterialError::Setup)
}

/// The time, seconds since 1970.
pub fn unix_s() -> i64 {
    (now_unix_ms() / 1_000) as i64
}

fn load_pair(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, Facts), MaterialError> {
    let damaged = |file: &Path, reason: Damage| MaterialError::Damaged { file: file.to_owned(), reason };
    let (pem, _) = read(certificate)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| damaged(certificate, error.into()))?;
    let Some(leaf) = chain.first() else {
        return Err(MaterialError::Missing { file: certificate.to_owned(), what: "certificate" });
    };
    let (names, not_after_unix_s) =
        look_into(leaf).map_err(|error| damaged(certificate, Damage::Certificate(error)))?;
    let (pem, key_mode) = read(key)?;
    let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            MaterialError::Missing { file: key.to_owned(), what: "private key" }
        }
        error => damaged(key, error.into()),
    })?;
    let pair = CertifiedKey::from_der(chain, secret, provider).map_err(|source| MaterialError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })?;
    let (certificate, key) = (certificate.to_owned(), key.to_owned());
    Ok((Arc::new(pair), Facts { certificate, key, names, not_after_unix_s, key_mode }))
}

/// A file's bytes and permission bits.
fn read(file: &Path) -> Result<(Vec<u8>, u32), MaterialError> {
    let mut bytes = Vec::new();
    let read = || {
        let opened = File::open(file)?;
        let mode = opened.metadata()?.permissions().mode();
        opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(mode & 0o7777)
    };
    let mode = { read }().map_err(|source| MaterialError::Read { file: file.to_owned(), source })?;
    Ok((bytes, mode))
}

/// The names in a certificate, and when it expires.
fn look_into(der: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
    let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok((names.collect(), certificate.validity().not_after.timestamp()))
}

/// Finds the certificate that a client asks for.
#[derive(Debug)]
struct ByName {
    /// For whoever asks for no name, or an unknown one.
    first: Option<Arc<CertifiedKey>>,
    /// In lower case; a wildcard as it stands, `*.example.com`.
    names: BTreeMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    fn new(keys: &[Arc<CertifiedKey>], facts: &[Facts]) -> Self {
        let mut names = BTreeMap::new();
        for (key, facts) in keys.iter().zip(facts) {
            for name in &facts.names {
                // The first that claims a name has it.
                names.entry(name.to_ascii_lowercase()).or_insert_with(|| key.clone());
            }
        }
        Self { first: keys.first().cloned(), names }
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.names.get(&name).or_else(|| self.names.get(&wildcard?))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().and_then(|name| self.find(name)).or(self.first.as_ref()).cloned()
    }
}
