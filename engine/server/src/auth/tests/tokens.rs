//! Which key a token is checked with, and what is refused before and after.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;
use crate::config::Choice;
use shardcast_shard::RefusalReason as Reason;

fn reason(config: &Config, token: &str) -> Result<(), Reason> {
    verify(config, token).map(drop).map_err(|fault| fault.reason())
}

/// A token with this header and these claims, as text, and the signature of another.
fn forged(header: &str, claims: &str, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// A token signed with HS256 over whatever stands in it.
fn signed(header: &str, claims: &str) -> String {
    let message = forged(header, claims, "");
    let message = message.trim_end_matches('.');
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn every_algorithm_signs_and_is_told_from_every_other() {
    let algorithms = JwtAlgorithm::NAMES.iter().map(|(_, algorithm, _)| *algorithm);
    for algorithm in algorithms {
        let generated = generate(algorithm).expect("a key");
        let table = match &generated.public {
            Some(_) => public_key(&generated),
            None => secret_key(generated.private.trim()),
        };
        let token = signing(&generated.private).sign(algorithm, Some("k"), &good(json!({}))).expect("signed");
        let right = config(vec![table.clone()]);
        let verified = verify(&right, &token).expect("its key");
        assert_eq!(verified.algorithm, algorithm);

        let other = generate(algorithm).expect("a key");
        let table = match &other.public {
            Some(_) => public_key(&other),
            None => secret_key(other.private.trim()),
        };
        assert_eq!(reason(&config(vec![table]), &token), Err(Reason::TokenSignature), "{algorithm:?}");

        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        bytes[7] ^= 1;
        let altered = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes));
        assert_eq!(reason(&right, &altered), Err(Reason::TokenSignature), "{algorithm:?}");
        for length in [0, 1, bytes.len() - 1] {
            let cut = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[..length]));
            assert_eq!(reason(&right, &cut), Err(Reason::TokenSignature), "{algorithm:?} {length}");
        }
    }
}

#[test]
fn attack_47_a_token_without_an_algorithm_is_refused() {
    let config = config(vec![secret_key(SECRET)]);
    let claims = Value::Object(good(json!({}))).to_string();
    let (_, signature) =
        hs256(&good(json!({}))).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"alg":"NONE"}"#,
        r#"{"alg":""}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS256 "}"#,
        r#"{"alg":"HS1"}"#,
        r#"{"alg":null}"#,
    ] {
        for signature in ["", &signature] {
            assert_eq!(
                reason(&config, &forged(header, &claims, signature)),
                Err(Reason::TokenAlgorithm),
                "{header}"
            );
        }
        assert_eq!(reason(&config, &signed(header, &claims)), Err(Reason::TokenAlgorithm), "{header}");
    }
    for header in
        [r#"{"alg":1}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":"HS256","alg":"none"}"#, "[]", "", "null"]
    {
        assert_eq!(reason(&config, &signed(header, &claims)), Err(Reason::TokenMalformed), "{header}");
    }
}

#[test]
fn attack_48_a_public_key_does_not_verify_a_shared_secret() {
    let rsa = generate(JwtAlgorithm::Rs256).expect("a key");
    let pem = rsa.public.clone().expect("public");
    let config = config(vec![public_key(&rsa)]);
    let claims = Value::Object(good(json!({}))).to_string();
    let der: Vec<u8> = {
        use base64::engine::general_purpose::STANDARD;
        STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).expect("DER")
    };
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), der.as_slice()] {
        let message = forged(r#"{"alg":"HS256"}"#, &claims, "");
        let message = message.trim_end_matches('.');
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let signature = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, message.as_bytes()));
        assert_eq!(reason(&config, &format!("{message}.{signature}")), Err(Reason::TokenAlgorithm));
    }
}

#[test]
fn attack_49_a_signature_of_zeros_or_of_another_curve_is_refused() {
    let p256 = generate(JwtAlgorithm::Es256).expect("a key");
    let p384 = generate(JwtAlgorithm::Es384).expect("a key");
    let claims = good(json!({}));
    let text = Value::Object(claims.clone()).to_string();
    let config = config(vec![public_key(&p256)]);
    for bytes in [0, 63, 64, 65, 96, 128] {
        let token = forged(r#"{"alg":"ES256"}"#, &text, &URL_SAFE_NO_PAD.encode(vec![0; bytes]));
        assert_eq!(reason(&config, &token), Err(Reason::TokenSignature), "{bytes} zeros");
    }
    let other = signing(&p384.private).sign(JwtAlgorithm::Es384, None, &claims).expect("signed");
    assert_eq!(reason(&config, &other), Err(Reason::TokenAlgorithm));
    let (message, signature) = other.rsplit_once('.').expect("three parts");
    let (_, payload) = message.split_once('.').expect("two parts");
    let renamed = format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#));
    assert_eq!(reason(&config, &renamed), Err(Reason::TokenSignature));
}

#[test]
fn attack_50_a_key_id_names_a_key_of_its_issuer_and_nothing_else() {
    let (a, b) = ("a".repeat(40), "b".repeat(40));
    let table = |secret: &str, issuer: &str, kid: &str| JwtKey {
        issuer: issuer.to_owned(),
        kid: kid.to_owned(),
        ..secret_key(secret)
    };
    let config = config(vec![table(&a, "https://a.example", "k"), table(&b, "https://b.example", "k")]);
    let token = |secret: &str, issuer: Value, kid: Option<&str>| {
        signing(secret).sign(JwtAlgorithm::Hs256, kid, &good(json!({"iss": issuer}))).expect("signed")
    };
    let cases = [
        (token(&a, json!("https://a.example"), Some("k")), Ok(())),
        (token(&b, json!("https://b.example"), Some("k")), Ok(())),
        // The other issuer's key under the same id: one issuer cannot speak for the other.
        (token(&b, json!("https://a.example"), Some("k")), Err(Reason::TokenSignature)),
        (token(&b, json!("https://a.example"), None), Err(Reason::TokenSignature)),
        (token(&a, json!("https://c.example"), Some("k")), Err(Reason::TokenIssuer)),
        (token(&a, json!("https://a.example/"), Some("k")), Err(Reason::TokenIssuer)),
        (token(&a, json!(null), Some("k")), Err(Reason::TokenIssuer)),
        (token(&a, json!(["https://a.example"]), Some("k")), Err(Reason::TokenMalformed)),
        (token(&a, json!("https://a.example"), Some("other")), Err(Reason::TokenKeyUnknown)),
        (token(&a, json!("https://a.example"), Some("../../etc/passwd")), Err(Reason::TokenKeyUnknown)),
        (token(&a, json!("https://a.example"), Some("k\0")), Err(Reason::TokenKeyUnknown)),
        (token(&a, json!("https://a.example"), Some("' OR 1=1 --")), Err(Reason::TokenKeyUnknown)),
        (token(&a, json!("https://a.example"), Some("")), Err(Reason::TokenKeyUnknown)),
        (token(&a, json!("https://a.example"), None), Ok(())),
    ];
    for (index, (token, expected)) in cases.iter().enumerate() {
        assert_eq!(reason(&config, token), *expected, "case {index}");
    }
}

#[test]
fn attack_50_a_key_without_an_issuer_cannot_speak_for_one_that_has_its_own() {
    let (own, any) = ("o".repeat(40), "a".repeat(40));
    let bound = JwtKey { issuer: "https://id.example".to_owned(), ..secret_key(&own) };
    let config = config(vec![bound, secret_key(&any)]);
    let token = |issuer: Value| {
        signing(&any).sign(JwtAlgorithm::Hs256, None, &good(json!({"iss": issuer}))).expect("signed")
    };
    assert_eq!(reason(&config, &token(json!("https://elsewhere.example"))), Ok(()));
    assert_eq!(reason(&config, &token(json!(null))), Ok(()));
    assert_eq!(reason(&config, &token(json!("https://id.example"))), Err(Reason::TokenSignature));
}

#[test]
fn attack_51_a_key_that_a_token_brings_along_is_not_used() {
    let mine = generate(JwtAlgorithm::Rs256).expect("a key");
    let config = config(vec![public_key(&mine)]);
    let theirs = generate(JwtAlgorithm::Rs256).expect("a key");
    let good_token =
        signing(&theirs.private).sign(JwtAlgorithm::Rs256, None, &good(json!({}))).expect("signed");
    let (message, signature) = good_token.rsplit_once('.').expect("three parts");
    let (_, payload) = message.split_once('.').expect("two parts");
    for header in [
        json!({"alg": "RS256", "jku": "http://127.0.0.1:1/keys"}),
        json!({"alg": "RS256", "x5u": "http://127.0.0.1:1/cert"}),
        json!({"alg": "RS256", "jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}),
        json!({"alg": "RS256", "x5c": ["MIIB"]}),
    ] {
        let token = format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()));
        assert_eq!(reason(&config, &token), Err(Reason::TokenSignature), "{header}");
    }
    let secret = super::config(vec![secret_key(SECRET)]);
    let claims = Value::Object(good(json!({}))).to_string();
    for header in [
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","crit":false}"#,
    ] {
        assert_eq!(reason(&secret, &signed(header, &claims)), Err(Reason::TokenMalformed), "{header}");
    }
}

#[test]
fn attack_53_claims_that_stand_twice_and_tokens_without_end_are_refused() {
    let config = config(vec![secret_key(SECRET)]);
    let header = r#"{"alg":"HS256"}"#;
    let exp = NOW + 60;
    let cases = [
        (format!(r#"{{"exp":{exp}}}"#), Ok(())),
        (format!(r#"{{"exp":1,"exp":{exp}}}"#), Err(Reason::TokenMalformed)),
        (format!(r#"{{"sub":"a","sub":"b","exp":{exp}}}"#), Err(Reason::TokenMalformed)),
        (format!(r#"{{"iss":"a","\u0069ss":"b","exp":{exp}}}"#), Err(Reason::TokenMalformed)),
        ("[]".to_owned(), Err(Reason::TokenMalformed)),
        ("not json".to_owned(), Err(Reason::TokenMalformed)),
        (format!(r#"{{"exp":{exp}}} "#), Ok(())),
        (format!(r#"{{"exp":{exp}}}x"#), Err(Reason::TokenMalformed)),
    ];
    for (claims, expected) in cases {
        assert_eq!(reason(&config, &signed(header, &claims)), expected, "{claims}");
    }
    assert_eq!(reason(&config, &"a".repeat(1 << 20)), Err(Reason::TokenTooLong));
    let padded = signed(header, &format!(r#"{{"exp":{exp},"pad":"{}"}}"#, "x".repeat(8 << 10)));
    assert_eq!(reason(&config, &padded), Err(Reason::TokenTooLong));
    for token in ["", ".", "..", "a.b", "a.b.c.d", "a.b.c", "....", "=.=.=", "é.é.é"] {
        assert_eq!(reason(&config, token), Err(Reason::TokenMalformed), "{token}");
    }
}

#[test]
fn a_token_has_one_spelling() {
    let config = config(vec![secret_key(SECRET)]);
    let token = hs256(&good(json!({})));
    for other in [format!("{token}="), format!(" {token}"), format!("{token}\n"), token.replace('.', "..")] {
        assert!(matches!(reason(&config, &other), Err(Reason::TokenMalformed)), "{other}");
    }
    // The last character of 32 bytes in base64url has two bits that say nothing.
    let (message, last) = token.split_at(token.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("base64url");
    let twin = format!("{message}{}", &alphabet[at ^ 1..(at ^ 1) + 1]);
    assert!(reason(&config, &twin).is_err(), "{twin}");
}

#[test]
fn attack_50_an_issuer_whose_key_broke_is_not_spoken_for_by_a_key_of_nobody() {
    let broken = JwtKey {
        issuer: "https://a.example".to_owned(),
        public_key_file: "/nonexistent".to_owned(),
        ..JwtKey::default()
    };
    let (verifier, faults) = Verifier::new(&config(vec![broken, secret_key(SECRET)]), Vec::new());
    assert_eq!(faults.len(), 1);
    for (issuer, expected) in
        [(json!("https://a.example"), Err(Reason::TokenIssuer)), (json!("https://b.example"), Ok(()))]
    {
        let found = verifier.verify(&hs256(&good(json!({"iss": issuer}))), NOW * 1_000);
        assert_eq!(found.map(drop).map_err(|fault| fault.reason()), expected, "{issuer}");
    }
}

#[test]
fn a_key_id_that_no_key_of_a_fetched_issuer_has_asks_for_its_keys_anew() {
    use crate::auth::jwks::{Shared, Source};
    use crate::config::Jwks;

    let table = JwtKey { issuer: "https://a.example".to_owned(), ..secret_key(&"a".repeat(40)) };
    let mut config = config(vec![table]);
    let token = |kid: Option<&str>| {
        let claims = good(json!({"iss": "https://a.example"}));
        signing(SECRET).sign(JwtAlgorithm::Hs256, kid, &claims).expect("signed")
    };
    let reason = |config: &Config, kid| {
        let sources = Source::all(config, &[], &Shared::new(std::sync::Arc::default()));
        let found = Verifier::new(config, sources).0.verify(&token(kid), NOW * 1_000);
        found.map(drop).map_err(|fault| fault.reason())
    };
    assert_eq!(reason(&config, Some("new")), Err(Reason::TokenSignature));
    let url = "https://a.example/keys".to_owned();
    config.jwt.jwks = vec![Jwks { url, issuer: "https://a.example".to_owned(), ..Jwks::default() }];
    assert_eq!(reason(&config, Some("new")), Err(Reason::TokenKeyUnknown));
    assert_eq!(reason(&config, None), Err(Reason::TokenSignature));
}
