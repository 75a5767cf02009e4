//! Keys that tokens are checked with: what is good for a key, and what is said about what is not.
//!
//! A key carries its own [`Validation`], which holds the algorithms of its kind only: a token cannot choose how
//! its signature is read. A public key is never taken for a shared secret.

use std::fmt;
use std::fs;
use std::io;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};

use crate::config::{Choice, JwtAlgorithm, JwtKey, SecretEncoding};

/// A shared secret shorter than this many bytes can be guessed (RFC 7518 §3.2, for SHA-256).
pub const SECRET_BYTES_MIN: usize = 32;

/// Lengths of RSA keys, in bits, that are checked at all.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A file with a key is no longer than this, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What kind a key is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A shared secret of so many bytes.
    Secret(usize),
    /// An RSA public key.
    Rsa,
    /// A public key on P-256.
    P256,
    /// A public key on P-384.
    P384,
    /// An Ed25519 public key.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(bytes) => write!(f, "a secret of {bytes} bytes"),
            Self::Rsa => f.write_str("an RSA key"),
            Self::P256 => f.write_str("a P-256 key"),
            Self::P384 => f.write_str("a P-384 key"),
            Self::Ed25519 => f.write_str("an Ed25519 key"),
        }
    }
}

impl KeyKind {
    /// What it is good for, most usual first.
    pub fn algorithms(self) -> Vec<JwtAlgorithm> {
        use JwtAlgorithm::{
            EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
        };
        match self {
            Self::Secret(bytes) => {
                // A key must be as long as the hash (RFC 7518 §3.2).
                let fitting = [(Hs256, 32), (Hs384, 48), (Hs512, 64)].into_iter();
                fitting.filter(|(_, bytes_min)| bytes >= *bytes_min).map(|(algorithm, _)| algorithm).collect()
            }
            Self::Rsa => vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512],
            Self::P256 => vec![Es256],
            Self::P384 => vec![Es384],
            Self::Ed25519 => vec![EdDsa],
        }
    }
}

/// The same algorithm in the terms of `jsonwebtoken`.
pub fn library_algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Rs384 => Algorithm::RS384,
        JwtAlgorithm::Rs512 => Algorithm::RS512,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Ps384 => Algorithm::PS384,
        JwtAlgorithm::Ps512 => Algorithm::PS512,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Es384 => Algorithm::ES384,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The algorithm of this name, exactly as RFC 7518 writes it.
pub fn algorithm_named(name: &str) -> Option<JwtAlgorithm> {
    JwtAlgorithm::NAMES.iter().find(|(known, ..)| *known == name).map(|(_, algorithm, _)| *algorithm)
}

/// Why something is no key to check tokens with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing to read.
    #[error("has no key; give it a secret, secret_file, public_key or public_key_file")]
    Missing,
    /// More than one thing to read.
    #[error("has more than one key; give it one of secret, secret_file, public_key and public_key_file")]
    Several,
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What the kernel says.
        cause: String,
    },
    /// A secret that can be guessed, or that is too short for an algorithm.
    #[error(
        "the secret has {bytes} bytes and must have at least {bytes_min} for {algorithm}; make one with: openssl \
         rand -base64 {bytes_min}"
    )]
    SecretShort {
        /// Its length.
        bytes: usize,
        /// How long it must be.
        bytes_min: usize,
        /// For which algorithm.
        algorithm: &'static str,
    },
    /// The secret is what everybody may know.
    #[error(
        "the secret is a public key or a certificate, with which everybody could sign tokens; put it under \
         public_key or public_key_file"
    )]
    SecretPublic,
    /// The secret is a private key.
    #[error("the secret is a private key; give the server the public one: openssl pkey -in key.pem -pubout")]
    SecretPrivate,
    /// The secret is not in the encoding that is said.
    #[error("the secret is not base64, as secret_encoding says it is")]
    SecretEncoding,
    /// A public key that is not in PEM.
    #[error("is not in PEM; it begins with -----BEGIN PUBLIC KEY-----")]
    NotPem,
    /// A private key where a public one belongs.
    #[error("is a private key; give the server the public one: openssl pkey -in key.pem -pubout")]
    Private,
    /// A certificate where a public key belongs.
    #[error("is a certificate; take the key out of it: openssl x509 -in cert.pem -pubkey -noout")]
    Certificate,
    /// No key that tokens can be signed with.
    #[error("is not a key that tokens are signed with: RSA, P-256, P-384 or Ed25519")]
    Unsupported,
    /// An RSA key that can be broken, or takes too long.
    #[error("is an RSA key of {bits} bits; it must have 2048 to 8192")]
    RsaLength {
        /// Its length.
        bits: usize,
    },
    /// An algorithm that the key is not for.
    #[error("is {kind}, which is not for {algorithm}")]
    Algorithm {
        /// What it is.
        kind: KeyKind,
        /// What it is not for.
        algorithm: &'static str,
    },
}

/// A key that tokens are checked with.
pub struct Key {
    kid: Option<String>,
    issuer: Option<String>,
    algorithms: Vec<JwtAlgorithm>,
    kind: KeyKind,
    decoding: DecodingKey,
    validation: Validation,
    print: [u8; 32],
    origin: String,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a key is made of.
pub(super) enum Material {
    Secret(Vec<u8>),
    /// A public key, in a form that `aws_lc_rs` reads: SubjectPublicKeyInfo, a point, or 32 bytes of Ed25519.
    Public(KeyKind, Vec<u8>),
    /// Modulus and exponent.
    RsaComponents(Vec<u8>, Vec<u8>),
}

/// What is said about a key beside what it is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Label<'a> {
    pub(super) kid: Option<&'a str>,
    pub(super) issuer: Option<&'a str>,
    /// Those it may be used with; all it is good for when empty.
    pub(super) algorithms: &'a [JwtAlgorithm],
    /// Where it is from, for people.
    pub(super) origin: String,
}

impl Key {
    /// The key that a table `[[auth.jwt.keys]]` describes; reads its file.
    pub fn load(config: &JwtKey, index: usize) -> Result<Self, KeyError> {
        let material = match Given::of(config)? {
            Given::Secret(text) => Material::Secret(secret(text.into_bytes(), config.secret_encoding)?),
            Given::SecretFile(path) => Material::Secret(secret(read(path)?, config.secret_encoding)?),
            Given::Public(pem) => public(&pem)?,
            Given::PublicFile(path) => public(&String::from_utf8_lossy(&read(path)?))?,
        };
        let named = |text: &'static str, value: &str| match value {
            "" => String::new(),
            value => format!(", {text} {value:?}"),
        };
        let label = Label {
            kid: Some(config.kid.as_str()).filter(|kid| !kid.is_empty()),
            issuer: Some(config.issuer.as_str()).filter(|issuer| !issuer.is_empty()),
            algorithms: &config.algorithms,
            origin: format!(
                "auth.jwt.keys.{index}{}{}",
                named("kid", &config.kid),
                named("issuer", &config.issuer)
            ),
        };
        Self::new(material, label)
    }

    pub(super) fn new(material: Material, label: Label<'_>) -> Result<Self, KeyError> {
        let (kind, decoding, print) = match material {
            Material::Secret(bytes) => {
                (KeyKind::Secret(bytes.len()), DecodingKey::from_secret(&bytes), fingerprint(&[&bytes]))
            }
            Material::Public(kind, bytes) => {
                let decoding = match kind {
                    KeyKind::Rsa => DecodingKey::from_rsa_der(&bytes),
                    KeyKind::Ed25519 => DecodingKey::from_ed_der(&bytes),
                    _ => DecodingKey::from_ec_der(&bytes),
                };
                (kind, decoding, fingerprint(&[&bytes]))
            }
            Material::RsaComponents(n, e) => {
                (KeyKind::Rsa, DecodingKey::from_rsa_raw_components(&n, &e), fingerprint(&[&n, &e]))
            }
        };
        let algorithms = allowed(kind, label.algorithms)?;
        let library: Vec<Algorithm> = algorithms.iter().copied().map(library_algorithm).collect();
        let mut validation = Validation::new(library[0]);
        validation.algorithms = library;
        // The library checks the signature. Claims are looked at by `super::claims`, which knows duplicates, fractions,
        // clock skew of `iat`, and a reason for every refusal.
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
        Ok(Self {
            kid: label.kid.map(str::to_owned),
            issuer: label.issuer.map(str::to_owned),
            algorithms,
            kind,
            decoding,
            validation,
            print,
            origin: label.origin,
        })
    }

    /// The id that tokens name it by.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The issuer it is bound to.
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// What kind it is of.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// What tokens may be signed with; never empty.
    pub fn algorithms(&self) -> &[JwtAlgorithm] {
        &self.algorithms
    }

    /// Where it is from, for people.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What tells it from every other key: a hash of what it is made of.
    pub(super) fn print(&self) -> &[u8; 32] {
        &self.print
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    pub(super) fn validation(&self) -> &Validation {
        &self.validation
    }
}

/// The one thing of four that a table gives.
enum Given<'a> {
    Secret(String),
    SecretFile(&'a str),
    Public(String),
    PublicFile(&'a str),
}

impl<'a> Given<'a> {
    fn of(config: &'a JwtKey) -> Result<Self, KeyError> {
        // In an environment variable a line break is often written out.
        let lines = |text: &str| text.replace("\\n", "\n");
        let secret = config.secret.expose();
        let given = [
            (!secret.is_empty()).then(|| Self::Secret(secret.to_owned())),
            (!config.secret_file.is_empty()).then_some(Self::SecretFile(&config.secret_file)),
            (!config.public_key.is_empty()).then(|| Self::Public(lines(&config.public_key))),
            (!config.public_key_file.is_empty()).then_some(Self::PublicFile(&config.public_key_file)),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => Err(KeyError::Missing),
            (Some(one), None) => Ok(one),
            (Some(_), Some(_)) => Err(KeyError::Several),
        }
    }
}

pub(crate) fn read(path: &str) -> Result<Vec<u8>, KeyError> {
    let file = |cause: String| KeyError::File { path: path.to_owned(), cause };
    let metadata = fs::metadata(path).map_err(|error| file(error.to_string()))?;
    if !metadata.is_file() {
        return Err(file("it is not a file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(file(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(|error: io::Error| file(error.to_string()))
}

/// The bytes of a secret as it is written.
pub(crate) fn secret(mut written: Vec<u8>, encoding: SecretEncoding) -> Result<Vec<u8>, KeyError> {
    if written.ends_with(b"\n") {
        written.pop();
        if written.ends_with(b"\r") {
            written.pop();
        }
    }
    refuse_key(&written)?;
    let secret = match encoding {
        SecretEncoding::Text => written,
        SecretEncoding::Base64 => {
            let bytes = base64(&written).ok_or(KeyError::SecretEncoding)?;
            refuse_key(&bytes)?;
            bytes
        }
    };
    if secret.len() < SECRET_BYTES_MIN {
        let (bytes, bytes_min) = (secret.len(), SECRET_BYTES_MIN);
        return Err(KeyError::SecretShort { bytes, bytes_min, algorithm: JwtAlgorithm::Hs256.name() });
    }
    Ok(secret)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD]
        .into_iter()
        .find_map(|engine| engine.decode(text).ok())
}

/// A key of a key pair is no secret: who knows the public one could sign, whatever its form.
fn refuse_key(written: &[u8]) -> Result<(), KeyError> {
    let text = String::from_utf8_lossy(written);
    let trimmed = text.trim_start();
    if trimmed.contains("-----BEGIN") {
        let private = trimmed.contains("PRIVATE KEY-----");
        return Err(if private { KeyError::SecretPrivate } else { KeyError::SecretPublic });
    }
    let is_jwk = trimmed.starts_with('{') && trimmed.contains("\"kty\"") && !trimmed.contains("\"oct\"");
    let is_ssh = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|begin| trimmed.starts_with(begin));
    let is_der = is_der(written) || base64(trimmed.trim_end().as_bytes()).is_some_and(|bytes| is_der(&bytes));
    if is_jwk || is_ssh || is_der { Err(KeyError::SecretPublic) } else { Ok(()) }
}

/// Whether these bytes are one ASN.1 sequence from end to end, as keys and certificates are.
fn is_der(bytes: &[u8]) -> bool {
    let (head, length) = match bytes {
        [0x30, length, ..] if *length < 0x80 => (2, usize::from(*length)),
        [0x30, 0x81, length, ..] => (3, usize::from(*length)),
        [0x30, 0x82, high, low, ..] => (4, usize::from(*high) << 8 | usize::from(*low)),
        _ => return false,
    };
    bytes.len() == head + length
}

/// The public key in a PEM text.
pub(super) fn public(pem: &str) -> Result<Material, KeyError> {
    let (label, der) = unpem(pem).ok_or(KeyError::NotPem)?;
    match label {
        "PUBLIC KEY" => public_der(der),
        "RSA PUBLIC KEY" => rsa_material(der),
        "CERTIFICATE" => Err(KeyError::Certificate),
        label if label.ends_with("PRIVATE KEY") => Err(KeyError::Private),
        _ => Err(KeyError::NotPem),
    }
}

/// The label and content of the first block of a PEM text (RFC 7468).
fn unpem(pem: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    rest.strip_prefix(label)?.strip_prefix("-----")?;
    let body: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Some((label, STANDARD.decode(body).ok()?))
}

fn public_der(der: Vec<u8>) -> Result<Material, KeyError> {
    let curves: [(KeyKind, &'static dyn VerificationAlgorithm); 3] = [
        (KeyKind::P256, &ECDSA_P256_SHA256_FIXED),
        (KeyKind::P384, &ECDSA_P384_SHA384_FIXED),
        (KeyKind::Ed25519, &ED25519),
    ];
    for (kind, algorithm) in curves {
        if ParsedPublicKey::new(algorithm, &der).is_ok() {
            return Ok(Material::Public(kind, der));
        }
    }
    rsa_material(der)
}

fn rsa_material(der: Vec<u8>) -> Result<Material, KeyError> {
    let key = rsa::PublicKey::from_der(&der).map_err(|_| KeyError::Unsupported)?;
    check_rsa_length(key.modulus().big_endian_without_leading_zero())?;
    Ok(Material::Public(KeyKind::Rsa, der))
}

/// Whether an RSA key of this modulus, without leading zeros, is checked at all.
pub(super) fn check_rsa_length(modulus: &[u8]) -> Result<(), KeyError> {
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if RSA_BITS.contains(&bits) { Ok(()) } else { Err(KeyError::RsaLength { bits }) }
}

/// The algorithms that are wanted, all of them when none is named, if the key is for each of them.
fn allowed(kind: KeyKind, wanted: &[JwtAlgorithm]) -> Result<Vec<JwtAlgorithm>, KeyError> {
    let good = kind.algorithms();
    if let Some(algorithm) = wanted.iter().find(|algorithm| !good.contains(algorithm)) {
        let bytes_min = match algorithm {
            JwtAlgorithm::Hs256 => 32,
            JwtAlgorithm::Hs384 => 48,
            JwtAlgorithm::Hs512 => 64,
            _ => 0,
        };
        return Err(match kind {
            KeyKind::Secret(bytes) if bytes_min > 0 => {
                KeyError::SecretShort { bytes, bytes_min, algorithm: algorithm.name() }
            }
            kind => KeyError::Algorithm { kind, algorithm: algorithm.name() },
        });
    }
    let all = if wanted.is_empty() { good } else { wanted.to_vec() };
    // Only a secret that nothing let through could be good for nothing.
    if all.is_empty() { Err(KeyError::Unsupported) } else { Ok(all) }
}

fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_be_bytes());
        all.extend_from_slice(part);
    }
    digest(&SHA256, &all).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
