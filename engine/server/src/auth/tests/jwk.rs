//! Sets of keys that say the truth, and sets that do not.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::auth::jwk::{Bound, Ignored, KEYS_MAX, read};
use crate::config::Choice;

/// The public key of a pair as a JWK.
pub(super) fn jwk(generated: &Generated, more: Value) -> Value {
    let pem = generated.public.as_ref().expect("a key pair");
    let der =
        STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).expect("DER");
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let mut jwk = object(match der.len() {
        44 => json!({"kty": "OKP", "crv": "Ed25519", "x": text(&der[12..])}),
        91 => json!({"kty": "EC", "crv": "P-256", "x": text(&der[27..59]), "y": text(&der[59..])}),
        120 => json!({"kty": "EC", "crv": "P-384", "x": text(&der[24..72]), "y": text(&der[72..])}),
        _ => {
            let key = aws_lc_rs::rsa::PublicKey::from_der(&der).expect("RSA");
            let (n, e) = (key.modulus(), key.exponent());
            let bytes = [n, e].map(|number| number.big_endian_without_leading_zero().to_vec());
            json!({"kty": "RSA", "n": text(&bytes[0]), "e": text(&bytes[1])})
        }
    });
    jwk.extend(object(more));
    jwk.into()
}

fn bound<'a>(algorithms: &'a [JwtAlgorithm]) -> Bound<'a> {
    Bound { issuer: "https://id.example", algorithms, origin: "https://id.example/keys" }
}

/// What becomes of one entry: its algorithms, or why it is not used.
fn entry(value: Value, allowed: &[JwtAlgorithm]) -> Result<Vec<&'static str>, Ignored> {
    let set = read(json!({"keys": [value]}).to_string().as_bytes(), bound(allowed)).expect("a set");
    match set.keys.first() {
        Some(key) => {
            assert_eq!(key.issuer(), Some("https://id.example"));
            Ok(key.algorithms().iter().map(|algorithm| algorithm.name()).collect())
        }
        None => Err(*set.ignored.keys().next().expect("a reason")),
    }
}

#[test]
fn an_entry_is_a_key_or_ignored_for_a_reason() {
    let rsa = generate(JwtAlgorithm::Rs256).expect("a key");
    let p256 = generate(JwtAlgorithm::Es256).expect("a key");
    let p384 = generate(JwtAlgorithm::Es384).expect("a key");
    let ed = generate(JwtAlgorithm::EdDsa).expect("a key");
    let all_rsa = vec!["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let cases = [
        (jwk(&rsa, json!({"kid": "1"})), Ok(all_rsa.clone())),
        (jwk(&rsa, json!({"alg": "PS256", "use": "sig"})), Ok(vec!["PS256"])),
        (jwk(&p256, json!({})), Ok(vec!["ES256"])),
        (jwk(&p384, json!({"key_ops": ["verify"]})), Ok(vec!["ES384"])),
        (jwk(&ed, json!({"alg": "EdDSA"})), Ok(vec!["EdDSA"])),
        (jwk(&rsa, json!({"x5c": ["MIIB"], "x5t": "x", "unknown": {}})), Ok(all_rsa)),
        (jwk(&rsa, json!({"use": "enc"})), Err(Ignored::Use)),
        (jwk(&rsa, json!({"key_ops": ["sign"]})), Err(Ignored::Use)),
        (jwk(&rsa, json!({"alg": "ES256"})), Err(Ignored::Algorithm)),
        (jwk(&rsa, json!({"alg": "HS256"})), Err(Ignored::Algorithm)),
        (jwk(&rsa, json!({"alg": "none"})), Err(Ignored::Algorithm)),
        (jwk(&rsa, json!({"alg": "RSA-OAEP"})), Err(Ignored::Algorithm)),
        (jwk(&p256, json!({"alg": "ES384"})), Err(Ignored::Algorithm)),
        (jwk(&rsa, json!({"d": "AQAB"})), Err(Ignored::Private)),
        (jwk(&ed, json!({"d": null})), Err(Ignored::Private)),
        (
            json!({"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}),
            Err(Ignored::Symmetric),
        ),
        (jwk(&rsa, json!({"k": "c2VjcmV0"})), Err(Ignored::Symmetric)),
        (jwk(&p256, json!({"kty": "RSA"})), Err(Ignored::Type)),
        (jwk(&rsa, json!({"kty": "EC"})), Err(Ignored::Type)),
        (jwk(&p256, json!({"crv": "secp256k1"})), Err(Ignored::Type)),
        (jwk(&p256, json!({"crv": "P-384"})), Err(Ignored::Material)),
        (jwk(&p384, json!({"crv": "P-256"})), Err(Ignored::Material)),
        (jwk(&p256, json!({"y": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})), Err(Ignored::Material)),
        (jwk(&ed, json!({"x": "AAAA"})), Err(Ignored::Material)),
        (jwk(&ed, json!({"crv": "Ed448"})), Err(Ignored::Type)),
        (jwk(&rsa, json!({"n": "AQAB"})), Err(Ignored::Material)),
        (jwk(&rsa, json!({"n": URL_SAFE_NO_PAD.encode([0xff; 128])})), Err(Ignored::Material)),
        (jwk(&rsa, json!({"n": URL_SAFE_NO_PAD.encode([0xff; 2_048])})), Err(Ignored::Material)),
        (jwk(&rsa, json!({"n": "+/+/"})), Err(Ignored::Material)),
        (jwk(&rsa, json!({"kty": 1})), Err(Ignored::Malformed)),
        (jwk(&rsa, json!({"kid": 1})), Err(Ignored::Malformed)),
        (jwk(&rsa, json!({"kid": "k".repeat(600)})), Err(Ignored::Malformed)),
        (json!({}), Err(Ignored::Malformed)),
        (json!("key"), Err(Ignored::Malformed)),
        (json!(null), Err(Ignored::Malformed)),
    ];
    for (value, expected) in cases {
        assert_eq!(entry(value.clone(), &[]), expected, "{value}");
    }
    assert_eq!(entry(jwk(&rsa, json!({})), &[JwtAlgorithm::Rs256]), Ok(vec!["RS256"]));
    assert_eq!(entry(jwk(&rsa, json!({})), &[JwtAlgorithm::Es256]), Err(Ignored::NotAllowed));
}

#[test]
fn a_bad_entry_harms_no_other_and_twins_are_counted() {
    let first = generate(JwtAlgorithm::Es256).expect("a key");
    let second = generate(JwtAlgorithm::Es256).expect("a key");
    let set = json!({"keys": [
        {"kty": "oct", "k": "AAAA"},
        jwk(&first, json!({"kid": "a"})),
        jwk(&second, json!({"kid": "a"})),
        jwk(&first, json!({"kid": "b"})),
        jwk(&second, json!({"kid": "c"})),
        null,
    ]});
    let set = read(set.to_string().as_bytes(), bound(&[])).expect("a set");
    assert_eq!(set.keys.iter().map(|key| key.kid()).collect::<Vec<_>>(), [Some("a"), Some("c")]);
    let ignored = [(Ignored::Malformed, 1), (Ignored::Symmetric, 1), (Ignored::Duplicate, 2)];
    assert_eq!(set.ignored, BTreeMap::from(ignored));
}

#[test]
fn a_set_has_no_more_keys_than_are_taken() {
    let keys: Vec<_> = (0..KEYS_MAX + 5)
        .map(|index| jwk(&generate(JwtAlgorithm::EdDsa).expect("a key"), json!({"kid": index.to_string()})))
        .collect();
    let set = read(json!({"keys": keys}).to_string().as_bytes(), bound(&[])).expect("a set");
    assert_eq!((set.keys.len(), set.ignored.get(&Ignored::TooMany)), (KEYS_MAX, Some(&5)));
}

#[test]
fn what_is_no_set_is_an_error() {
    for text in
        ["", "[]", "[[]]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>", &"[".repeat(10_000)]
    {
        assert!(read(text.as_bytes(), bound(&[])).is_err(), "{text:.20}");
    }
    assert!(read(b"{\"x\":\"\xff\",\"keys\":[]}", bound(&[])).is_err(), "not UTF-8 where nobody looks");
}
