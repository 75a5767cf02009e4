//! Keys that tokens are signed with, for `shardcast token make`. The server itself signs nothing.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value};

use super::key::{KeyError, KeyKind, library_algorithm, secret};
use crate::config::{Choice, JwtAlgorithm, SecretEncoding};

/// Why a token cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The secret is none.
    #[error(transparent)]
    Secret(#[from] KeyError),
    /// The private key cannot be used.
    #[error(
        "not a private key in PKCS #8 PEM (-----BEGIN PRIVATE KEY-----) of RSA, P-256, P-384 or Ed25519; convert it \
         with: openssl pkcs8 -topk8 -nocrypt -in key.pem"
    )]
    PrivateKey,
    /// It is the wrong half.
    #[error("a public key cannot sign; give the private one")]
    PublicKey,
    /// The key is not for the algorithm.
    #[error("the key is {kind}, which is not for {algorithm}")]
    Algorithm {
        /// What it is.
        kind: KeyKind,
        /// What it is not for.
        algorithm: &'static str,
    },
    /// The library would not.
    #[error("the key cannot sign")]
    Sign(#[from] jsonwebtoken::errors::Error),
    /// The machine would not.
    #[error("a key cannot be made here")]
    Generate(#[from] Unspecified),
}

/// A key that tokens are signed with.
pub struct SigningKey {
    kind: KeyKind,
    encoding: EncodingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// A fresh key: what its owner keeps, and what checks its tokens.
pub struct Generated {
    /// A private key in PEM, or a secret.
    pub private: String,
    /// The public key in PEM; `None` for a secret, which is both.
    pub public: Option<String>,
}

impl SigningKey {
    /// A private key in PEM, or else a secret.
    pub fn read(text: &[u8], encoding: SecretEncoding) -> Result<Self, SigningError> {
        if !text.windows(11).any(|window| window == b"-----BEGIN ") {
            let bytes = secret(text.to_vec(), encoding)?;
            let encoding = EncodingKey::from_secret(&bytes);
            return Ok(Self { kind: KeyKind::Secret(bytes.len()), encoding });
        }
        if text.windows(15).any(|window| window == b"PUBLIC KEY-----") {
            return Err(SigningError::PublicKey);
        }
        if let Ok(encoding) = EncodingKey::from_rsa_pem(text)
            && RsaKeyPair::from_der(encoding.as_bytes()).is_ok()
        {
            return Ok(Self { kind: KeyKind::Rsa, encoding });
        }
        if let Ok(encoding) = EncodingKey::from_ed_pem(text) {
            return Ok(Self { kind: KeyKind::Ed25519, encoding });
        }
        let encoding = EncodingKey::from_ec_pem(text).map_err(|_| SigningError::PrivateKey)?;
        let curves: [(KeyKind, &'static EcdsaSigningAlgorithm); 2] = [
            (KeyKind::P256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (KeyKind::P384, &ECDSA_P384_SHA384_FIXED_SIGNING),
        ];
        let curve = curves
            .into_iter()
            .find(|(_, algorithm)| EcdsaKeyPair::from_pkcs8(algorithm, encoding.as_bytes()).is_ok());
        let (kind, _) = curve.ok_or(SigningError::PrivateKey)?;
        Ok(Self { kind, encoding })
    }

    /// What it signs with when nothing else is asked for.
    pub fn algorithm(&self) -> JwtAlgorithm {
        self.kind.algorithms()[0]
    }

    /// A token that says `claims`, signed; `kid` names the key.
    pub fn sign(
        &self,
        algorithm: JwtAlgorithm,
        kid: Option<&str>,
        claims: &Map<String, Value>,
    ) -> Result<String, SigningError> {
        if !self.kind.algorithms().contains(&algorithm) {
            return Err(SigningError::Algorithm { kind: self.kind, algorithm: algorithm.name() });
        }
        let mut header = Header::new(library_algorithm(algorithm));
        header.kid = kid.map(str::to_owned);
        Ok(encode(&header, claims, &self.encoding)?)
    }
}

/// Makes a key for an algorithm.
pub fn generate(algorithm: JwtAlgorithm) -> Result<Generated, SigningError> {
    let pair = |private: &[u8], public: &[u8]| Generated {
        private: pem("PRIVATE KEY", private),
        public: Some(pem("PUBLIC KEY", public)),
    };
    let curve = |algorithm: &'static EcdsaSigningAlgorithm| -> Result<Generated, SigningError> {
        let key = EcdsaKeyPair::generate(algorithm)?;
        let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?;
        Ok(pair(key.to_pkcs8v1()?.as_ref(), public.as_ref()))
    };
    use JwtAlgorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    match algorithm {
        Hs256 => shared(32),
        Hs384 => shared(48),
        Hs512 => shared(64),
        Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => {
            let key = RsaKeyPair::generate(KeySize::Rsa2048)?;
            let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&key)?;
            let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?;
            Ok(pair(private.as_ref(), public.as_ref()))
        }
        Es256 => curve(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Es384 => curve(&ECDSA_P384_SHA384_FIXED_SIGNING),
        EdDsa => {
            let key = Ed25519KeyPair::generate()?;
            let public = AsDer::<PublicKeyX509Der<'_>>::as_der(key.public_key())?;
            Ok(pair(key.to_pkcs8v1()?.as_ref(), public.as_ref()))
        }
    }
}

/// A secret of so many random bytes, in base64, which is used as it is written.
fn shared(bytes: usize) -> Result<Generated, SigningError> {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random)?;
    Ok(Generated { private: STANDARD.encode(random) + "\n", public: None })
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
