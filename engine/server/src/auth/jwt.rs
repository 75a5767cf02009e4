//! From a token to a principal: which key it must be signed with, whether it is, and whether its claims hold.
//!
//! A key is found by issuer and key id together, so that an issuer cannot sign for another by choosing the other's
//! key id. What a token's header says about where a key could be had (`jku`, `x5u`, `jwk`, `x5c`) is never used.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use shardcast_shard::RefusalReason;

use super::Principal;
use super::claims::{ClaimSet, Reading};
use super::jwks::Source;
use super::key::{Key, KeyError, algorithm_named, library_algorithm};
use crate::config::{Choice, Config, JwtAlgorithm};

/// Keys that are tried for a token that names none.
const KEYS_TRIED_MAX: usize = 8;

/// Why a token lets nobody in. Texts are for whoever checks a token by hand: they show what it says, so they are no
/// log lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Longer than `auth.jwt.token_bytes_max`.
    #[error("the token has {bytes} bytes, more than auth.jwt.token_bytes_max ({bytes_max})")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// Not three parts of base64url with JSON in the first two, or a name stands twice.
    #[error("it is not a JSON Web Token: {0}")]
    Malformed(&'static str),
    /// A claim of another type than it must be, or a number that is no exact id.
    #[error(
        "the claim {claim:?} is not of the type it must be; an id that is a number must be whole and at most 2^53-1"
    )]
    Claim {
        /// Which.
        claim: String,
    },
    /// A claim that is no time.
    #[error("the claim {claim:?} is no time: seconds since 1970, a number (not milliseconds, not text)")]
    Time {
        /// Which.
        claim: String,
    },
    /// An algorithm that is unknown, or not one of the key's.
    #[error("it is signed with {named:?}; the key takes {}", list(takes))]
    Algorithm {
        /// What the header says.
        named: String,
        /// What the key is for; empty when the algorithm is unknown.
        takes: Vec<&'static str>,
    },
    /// No key has the id.
    #[error("no key of {} has the id {kid:?}", issuer_name(.issuer))]
    KeyUnknown {
        /// The id.
        kid: String,
        /// The issuer.
        issuer: Option<String>,
    },
    /// The keys of the issuer have not been fetched yet.
    #[error("the keys of {} could not be fetched yet", issuer_name(.issuer))]
    KeysUnavailable {
        /// The issuer.
        issuer: Option<String>,
    },
    /// No key is bound to the issuer.
    #[error("no key is for tokens of {}", issuer_name(.issuer))]
    Issuer {
        /// The issuer.
        issuer: Option<String>,
    },
    /// Not signed by the key.
    #[error("its signature is not that of {key}")]
    Signature {
        /// Which.
        key: String,
    },
    /// A claim that must be there is not.
    #[error("the claim {claim:?} is missing (auth.jwt.required)")]
    ClaimMissing {
        /// Which.
        claim: String,
    },
    /// Its time is over.
    #[error("it expired {} s ago", ago_ms / 1_000)]
    Expired {
        /// How long it has been over, without the leeway.
        ago_ms: i64,
    },
    /// Its time has not come.
    #[error("it is not valid yet: {claim} is {} s ahead", in_ms / 1_000)]
    NotYetValid {
        /// Which claim says so.
        claim: &'static str,
        /// How far it is ahead.
        in_ms: i64,
    },
    /// For somebody else.
    #[error("it is for {}, and auth.jwt.audience is {}", list(named), list(ours))]
    Audience {
        /// Whom it names.
        named: Vec<String>,
        /// Whom it must name one of.
        ours: Vec<String>,
    },
}

fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("{:?}", name.as_ref())).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn issuer_name(issuer: &Option<String>) -> String {
    issuer.as_ref().map_or_else(|| "no issuer".to_owned(), |issuer| format!("the issuer {issuer:?}"))
}

impl TokenFault {
    /// What it is counted as.
    pub fn reason(&self) -> RefusalReason {
        match self {
            Self::TooLong { .. } => RefusalReason::TokenTooLong,
            Self::Malformed(_) | Self::Claim { .. } | Self::Time { .. } => RefusalReason::TokenMalformed,
            Self::Algorithm { .. } => RefusalReason::TokenAlgorithm,
            Self::KeyUnknown { .. } => RefusalReason::TokenKeyUnknown,
            Self::KeysUnavailable { .. } => RefusalReason::KeysUnavailable,
            Self::Issuer { .. } => RefusalReason::TokenIssuer,
            Self::Signature { .. } => RefusalReason::TokenSignature,
            Self::ClaimMissing { .. } => RefusalReason::TokenClaimMissing,
            Self::Expired { .. } => RefusalReason::TokenExpired,
            Self::NotYetValid { .. } => RefusalReason::TokenNotYetValid,
            Self::Audience { .. } => RefusalReason::TokenAudience,
        }
    }
}

/// A token that was found good.
#[derive(Debug)]
pub struct Verified {
    /// Whom it stands for.
    pub principal: Principal,
    /// All it says.
    pub claims: Map<String, Value>,
    /// What it is signed with.
    pub key: Arc<Key>,
    /// How.
    pub algorithm: JwtAlgorithm,
}

/// What of a header is looked at (RFC 7515 §4).
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    /// Whether it names extensions that must be understood, whatever it says of them; none is.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// True for a member of any value, `null` among them.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|IgnoredAny| true)
}

/// What must be known of the claims before the signature is checked: whose keys to look for.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    iss: Option<Cow<'a, str>>,
}

/// Checks tokens against the keys of a configuration.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<Arc<Key>>,
    sources: Vec<Arc<Source>>,
    /// Issuers that a table of `auth.jwt.keys` names, also one whose key cannot be used.
    issuers: Vec<String>,
    reading: Reading,
    token_bytes_max: usize,
}

impl Verifier {
    /// With the keys of the configuration's tables and those of `sources`. Returns what is no key, too, by its place
    /// in `auth.jwt.keys`.
    pub fn new(config: &Config, sources: Vec<Arc<Source>>) -> (Self, Vec<(usize, KeyError)>) {
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for (index, table) in config.jwt.keys.iter().enumerate() {
            match Key::load(table, index) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(fault) => faults.push((index, fault)),
            }
        }
        let issuers = config.jwt.keys.iter().map(|table| table.issuer.clone());
        let issuers = issuers.filter(|issuer| !issuer.is_empty()).collect();
        let (reading, token_bytes_max) = (Reading::new(config), config.jwt.token_bytes_max);
        (Self { keys, sources, issuers, reading, token_bytes_max }, faults)
    }

    /// Whether it has any keys, or a place to get some.
    pub fn is_used(&self) -> bool {
        !self.keys.is_empty() || !self.sources.is_empty()
    }

    /// The places it gets keys from.
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// Whether a token is short enough to be looked at.
    pub fn check_length(&self, token: &str) -> Result<(), TokenFault> {
        let (bytes, bytes_max) = (token.len(), self.token_bytes_max);
        if bytes > bytes_max { Err(TokenFault::TooLong { bytes, bytes_max }) } else { Ok(()) }
    }

    /// Checks a token with the keys there are. Takes as long as its signature: 3 to 90 µs.
    pub fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Verified, TokenFault> {
        self.check_length(token)?;
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenFault::Malformed("it has not three parts"));
        };
        let (header, payload) = (decode_part(header)?, decode_part(payload)?);
        let header: Header<'_> = serde_json::from_slice(&header)
            .map_err(|_| TokenFault::Malformed("its header is not JSON, or says something twice"))?;
        if header.crit {
            return Err(TokenFault::Malformed("its header demands an extension (crit)"));
        }
        let named = header.alg.as_deref().unwrap_or_default();
        let unknown = || TokenFault::Algorithm { named: named.to_owned(), takes: Vec::new() };
        let algorithm = algorithm_named(named).ok_or_else(unknown)?;
        let peek: Peek<'_> = serde_json::from_slice(&payload)
            .map_err(|_| TokenFault::Malformed("its claims are not JSON, or its issuer is no text"))?;

        let issuer = peek.iss.as_deref();
        let candidates = self.candidates(issuer, header.kid.as_deref(), algorithm)?;
        let fetches = self.sources.iter().any(|source| Some(source.issuer()) == issuer);
        // The issuer may have made the key that the token names since its keys were fetched.
        let unknown_kid = header.kid.filter(|_| fetches && candidates.iter().all(|key| key.kid().is_none()));
        let mut fault = unknown();
        for key in candidates {
            match jsonwebtoken::decode::<ClaimSet>(token, key.decoding(), key.validation()) {
                Ok(decoded) => {
                    let ClaimSet(claims) = decoded.claims;
                    let principal = self.reading.read(&claims, now_unix_ms)?;
                    return Ok(Verified { principal, claims, key, algorithm });
                }
                Err(error) => match error.kind() {
                    ErrorKind::Base64(_)
                    | ErrorKind::Json(_)
                    | ErrorKind::Utf8(_)
                    | ErrorKind::InvalidToken => {
                        return Err(TokenFault::Malformed(
                            "its claims say something twice, or its parts are no base64url",
                        ));
                    }
                    _ => fault = TokenFault::Signature { key: key.origin().to_owned() },
                },
            }
        }
        Err(match unknown_kid {
            Some(kid) => TokenFault::KeyUnknown { kid: kid.into_owned(), issuer: issuer.map(str::to_owned) },
            None => fault,
        })
    }

    /// The keys that a token of this issuer, with this key id and algorithm, can be signed with; never empty.
    fn candidates(
        &self,
        issuer: Option<&str>,
        kid: Option<&str>,
        algorithm: JwtAlgorithm,
    ) -> Result<Vec<Arc<Key>>, TokenFault> {
        let named = || issuer.map(str::to_owned);
        let sources: Vec<_> = self.sources.iter().filter(|source| Some(source.issuer()) == issuer).collect();
        let bound = self.keys.iter().filter(|key| key.issuer().is_some() && key.issuer() == issuer);
        let mut pool: Vec<Arc<Key>> = bound.cloned().collect();
        for source in &sources {
            source.keys(&mut pool);
        }
        if pool.is_empty() && sources.is_empty() {
            // A key without an issuer is for those that no key is bound to: it cannot speak for one that has its own,
            // not even while that cannot be used.
            let has_own = issuer.is_some_and(|issuer| self.issuers.iter().any(|own| own == issuer));
            pool.extend(self.keys.iter().filter(|key| !has_own && key.issuer().is_none()).cloned());
            if pool.is_empty() {
                return Err(TokenFault::Issuer { issuer: named() });
            }
        }
        if let Some(kid) = kid {
            let is_named = pool.iter().any(|key| key.kid() == Some(kid));
            pool.retain(|key| key.kid() == is_named.then_some(kid));
        }
        if pool.is_empty() {
            let is_late = sources.iter().any(|source| !source.is_loaded());
            return Err(match kid {
                Some(kid) if !is_late => TokenFault::KeyUnknown { kid: kid.to_owned(), issuer: named() },
                _ => TokenFault::KeysUnavailable { issuer: named() },
            });
        }
        let takes = |pool: &[Arc<Key>]| {
            let mut takes: Vec<&str> =
                pool.iter().flat_map(|key| key.algorithms()).map(|algorithm| algorithm.name()).collect();
            takes.sort_unstable();
            takes.dedup();
            takes
        };
        let all = pool.clone();
        pool.retain(|key| key.validation().algorithms.contains(&library_algorithm(algorithm)));
        pool.truncate(KEYS_TRIED_MAX);
        if pool.is_empty() {
            return Err(TokenFault::Algorithm { named: algorithm.name().to_owned(), takes: takes(&all) });
        }
        Ok(pool)
    }

    /// Checks a token, and fetches keys first if it names one that its issuer may have made lately.
    pub async fn authenticate(&self, token: &str, now_unix_ms: u64) -> Result<Verified, TokenFault> {
        let fault = match self.verify(token, now_unix_ms) {
            Err(fault @ (TokenFault::KeyUnknown { .. } | TokenFault::KeysUnavailable { .. })) => fault,
            known => return known,
        };
        let (TokenFault::KeyUnknown { issuer, .. } | TokenFault::KeysUnavailable { issuer }) = &fault else {
            return Err(fault);
        };
        let mut is_new = false;
        for source in self.sources.iter().filter(|source| Some(source.issuer()) == issuer.as_deref()) {
            is_new |= source.look_again().await;
        }
        if is_new { self.verify(token, now_unix_ms) } else { Err(fault) }
    }
}

fn decode_part(part: &str) -> Result<Vec<u8>, TokenFault> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed("its parts are no base64url"))
}
