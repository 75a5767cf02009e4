//! Keys, sets of keys, claims, tokens and rules, in tables.

mod claims;
mod jwk;
mod keys;
mod rules;
mod tokens;

use serde_json::{Map, Value, json};

use super::jwt::{TokenFault, Verified, Verifier};
use super::signing::{Generated, SigningKey, generate};
use crate::config::{Config, JwtAlgorithm, JwtKey, Secret, SecretEncoding};

/// Thursday, 26 November 2026, seconds since 1970.
const NOW: u64 = 1_795_651_200;

const SECRET: &str = "a secret that is long enough for every one of HS256, HS384 and HS512";

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => panic!("{other} is no object"),
    }
}

fn secret_key(secret: &str) -> JwtKey {
    JwtKey { secret: Secret::new(secret), ..JwtKey::default() }
}

fn public_key(generated: &Generated) -> JwtKey {
    JwtKey { public_key: generated.public.clone().expect("a key pair"), ..JwtKey::default() }
}

fn signing(text: &str) -> SigningKey {
    SigningKey::read(text.as_bytes(), SecretEncoding::Text).expect("a key")
}

fn config(keys: Vec<JwtKey>) -> Config {
    let mut config = Config::default();
    config.jwt.keys = keys;
    config
}

fn verifier(config: &Config) -> Verifier {
    let (verifier, faults) = Verifier::new(config, Vec::new());
    assert_eq!(faults, []);
    verifier
}

fn verify(config: &Config, token: &str) -> Result<Verified, TokenFault> {
    verifier(config).verify(token, NOW * 1_000)
}

/// Claims that are good, with others on top.
fn good(more: Value) -> Map<String, Value> {
    let mut claims = object(json!({"sub": "u1", "exp": NOW + 3_600}));
    claims.extend(object(more));
    claims
}

fn hs256(claims: &Map<String, Value>) -> String {
    signing(SECRET).sign(JwtAlgorithm::Hs256, None, claims).expect("signed")
}
