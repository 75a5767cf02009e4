//! Reading a JSON Web Key Set (RFC 7517): which of its entries are keys to check tokens with, and why the others are
//! not. Pure. An entry that is of no use harms no other.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;

use super::key::{Key, KeyKind, Label, Material, algorithm_named, check_rsa_length};
use crate::config::JwtAlgorithm;

/// Keys that are taken from one set.
pub const KEYS_MAX: usize = 100;

/// Longest key id that is kept, in bytes.
const KID_BYTES_MAX: usize = 512;

/// Why an entry of a set is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// It is not an object with texts where there must be texts.
    Malformed,
    /// It holds a private key, which its issuer must keep: whoever reads the set can sign.
    Private,
    /// It is a shared secret (`oct`), which in a public place is no secret.
    Symmetric,
    /// It is not for signatures (`use`, `key_ops`).
    Use,
    /// Its type or curve is none that is supported.
    Type,
    /// Its `alg` is not one for its type.
    Algorithm,
    /// None of the algorithms that the configuration allows is for it.
    NotAllowed,
    /// Its numbers are no key of its type: not on the curve, too short, or no base64url.
    Material,
    /// Another entry has the same id.
    Duplicate,
    /// The set has more entries than are taken.
    TooMany,
}

impl Ignored {
    /// A stable name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Private => "private_key",
            Self::Symmetric => "symmetric",
            Self::Use => "not_for_signatures",
            Self::Type => "unsupported_type",
            Self::Algorithm => "algorithm_mismatch",
            Self::NotAllowed => "algorithm_not_allowed",
            Self::Material => "bad_material",
            Self::Duplicate => "duplicate",
            Self::TooMany => "too_many",
        }
    }
}

/// A set as it was read.
#[derive(Debug, Default)]
pub struct Set {
    /// The keys that are of use.
    pub keys: Vec<Key>,
    /// How many entries are not, by reason.
    pub ignored: BTreeMap<Ignored, usize>,
}

/// Whose keys they are and what they may be used for.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// The issuer.
    pub issuer: &'a str,
    /// Algorithms that are allowed; all when empty.
    pub algorithms: &'a [JwtAlgorithm],
    /// Where the set is from, for people.
    pub origin: &'a str,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// An entry. Only what decides about it is read.
#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Members that only a private key has (RFC 7518 §6).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// Reads a set.
///
/// # Errors
/// It is not UTF-8, or not a JSON object with a list `keys`.
pub fn read(document: &[u8], bound: Bound<'_>) -> Result<Set, serde_json::Error> {
    if document.trim_ascii_start().starts_with(b"[") {
        // Serde would take a list in a list for one.
        return Err(serde_json::Error::custom("it is a list, not an object"));
    }
    // Serde reads over members it is not asked for without looking at their characters.
    let document = std::str::from_utf8(document).map_err(serde_json::Error::custom)?;
    let document: Document = serde_json::from_str(document)?;
    let mut set = Set::default();
    for entry in document.keys {
        let key = if set.keys.len() >= KEYS_MAX { Err(Ignored::TooMany) } else { read_entry(entry, bound) };
        let is_twin = |key: &Key| {
            let same_id = |other: &Key| key.kid().is_some() && other.kid() == key.kid();
            set.keys.iter().any(|other| same_id(other) || other.print() == key.print())
        };
        match key {
            Ok(key) if is_twin(&key) => *set.ignored.entry(Ignored::Duplicate).or_default() += 1,
            Ok(key) => set.keys.push(key),
            Err(reason) => *set.ignored.entry(reason).or_default() += 1,
        }
    }
    Ok(set)
}

fn read_entry(entry: Value, bound: Bound<'_>) -> Result<Key, Ignored> {
    let members = entry.as_object().ok_or(Ignored::Malformed)?;
    let is_symmetric = members.get("kty").is_some_and(|kty| kty == "oct");
    let is_private = PRIVATE.iter().any(|member| members.contains_key(*member));
    if is_symmetric || members.contains_key("k") {
        return Err(Ignored::Symmetric);
    }
    if is_private {
        return Err(Ignored::Private);
    }
    let entry: Entry = serde_json::from_value(entry).map_err(|_| Ignored::Malformed)?;
    if entry.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err(Ignored::Malformed);
    }
    let is_for_others = entry.usage.as_ref().is_some_and(|usage| usage != "sig");
    let cannot_verify = entry.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify"));
    if is_for_others || cannot_verify {
        return Err(Ignored::Use);
    }
    let (kind, material) = material(&entry)?;
    let algorithms = algorithms(&entry, kind, bound.algorithms)?;
    let kid = entry.kid.as_deref().filter(|kid| !kid.is_empty());
    let label = Label {
        kid,
        issuer: Some(bound.issuer),
        algorithms: &algorithms,
        origin: match kid {
            Some(kid) => format!("the keys at {}, kid {kid:?}", bound.origin),
            None => format!("the keys at {}, without a kid", bound.origin),
        },
    };
    Key::new(material, label).map_err(|_| Ignored::Material)
}

/// What the key may be used with: its own `alg` if it has one, else all it is good for, as far as is allowed.
fn algorithms(entry: &Entry, kind: KeyKind, allowed: &[JwtAlgorithm]) -> Result<Vec<JwtAlgorithm>, Ignored> {
    let mut algorithms = kind.algorithms();
    if let Some(alg) = &entry.alg {
        let alg = algorithm_named(alg).filter(|alg| algorithms.contains(alg)).ok_or(Ignored::Algorithm)?;
        algorithms = vec![alg];
    }
    if !allowed.is_empty() {
        algorithms.retain(|algorithm| allowed.contains(algorithm));
    }
    if algorithms.is_empty() { Err(Ignored::NotAllowed) } else { Ok(algorithms) }
}

fn material(entry: &Entry) -> Result<(KeyKind, Material), Ignored> {
    let number = |member: &Option<String>| {
        let text = member.as_deref().ok_or(Ignored::Material)?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| Ignored::Material)
    };
    match (entry.kty.as_str(), entry.crv.as_deref()) {
        ("RSA", None) => {
            let (n, e) = (number(&entry.n)?, number(&entry.e)?);
            let zeros = n.iter().take_while(|byte| **byte == 0).count();
            let n = n[zeros..].to_vec();
            check_rsa_length(&n).map_err(|_| Ignored::Material)?;
            Ok((KeyKind::Rsa, Material::RsaComponents(n, e)))
        }
        ("EC", Some("P-256")) => {
            let point = point(number(&entry.x)?, number(&entry.y)?, 32)?;
            public(KeyKind::P256, &ECDSA_P256_SHA256_FIXED, point)
        }
        ("EC", Some("P-384")) => {
            let point = point(number(&entry.x)?, number(&entry.y)?, 48)?;
            public(KeyKind::P384, &ECDSA_P384_SHA384_FIXED, point)
        }
        ("OKP", Some("Ed25519")) => {
            let x = number(&entry.x)?;
            if x.len() != 32 {
                return Err(Ignored::Material);
            }
            public(KeyKind::Ed25519, &ED25519, x)
        }
        _ => Err(Ignored::Type),
    }
}

/// An uncompressed point (SEC 1 §2.3.3).
fn point(x: Vec<u8>, y: Vec<u8>, field_bytes: usize) -> Result<Vec<u8>, Ignored> {
    if x.len() != field_bytes || y.len() != field_bytes {
        return Err(Ignored::Material);
    }
    Ok([&[0x04], x.as_slice(), y.as_slice()].concat())
}

/// A key that the library takes for one: a point is on its curve.
fn public(
    kind: KeyKind,
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: Vec<u8>,
) -> Result<(KeyKind, Material), Ignored> {
    ParsedPublicKey::new(algorithm, &bytes).map_err(|_| Ignored::Material)?;
    Ok((kind, Material::Public(kind, bytes)))
}
