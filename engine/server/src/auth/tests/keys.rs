//! What is a key and what is not.

use super::*;
use crate::auth::key::{Key, KeyError};
use crate::config::Choice;

fn load(table: &JwtKey) -> Result<Vec<&'static str>, KeyError> {
    Key::load(table, 0).map(|key| key.algorithms().iter().map(|algorithm| algorithm.name()).collect())
}

#[test]
fn a_key_is_for_the_algorithms_of_its_kind() {
    let rsa = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let cases: [(JwtAlgorithm, &[&str]); 4] = [
        (JwtAlgorithm::Rs256, &rsa),
        (JwtAlgorithm::Es256, &["ES256"]),
        (JwtAlgorithm::Es384, &["ES384"]),
        (JwtAlgorithm::EdDsa, &["EdDSA"]),
    ];
    for (algorithm, expected) in cases {
        let generated = generate(algorithm).expect("a key");
        let mut table = public_key(&generated);
        assert_eq!(load(&table).as_deref(), Ok(expected));
        table.public_key = table.public_key.replace('\n', "\\n");
        assert_eq!(load(&table).as_deref(), Ok(expected), "as an environment variable has it");
        table.algorithms = vec![JwtAlgorithm::Hs256];
        assert!(matches!(load(&table), Err(KeyError::Algorithm { algorithm: "HS256", .. })));
    }
    for (bytes, expected) in [(32, 1), (47, 1), (48, 2), (63, 2), (64, 3)] {
        assert_eq!(load(&secret_key(&"s".repeat(bytes))).map(|all| all.len()), Ok(expected), "{bytes}");
    }
}

#[test]
fn a_secret_that_can_be_guessed_or_is_no_secret_is_refused() {
    let rsa = generate(JwtAlgorithm::Rs256).expect("a key");
    let pem = rsa.public.clone().expect("public");
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let short = |bytes| KeyError::SecretShort { bytes, bytes_min: 32, algorithm: "HS256" };
    let cases = [
        ("short".to_owned(), short(5)),
        ("s".repeat(31), short(31)),
        (pem.clone(), KeyError::SecretPublic),
        (format!("  {pem}"), KeyError::SecretPublic),
        (der, KeyError::SecretPublic),
        (rsa.private.clone(), KeyError::SecretPrivate),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----".to_owned(), KeyError::SecretPublic),
        (format!("ssh-ed25519 {}", "A".repeat(68)), KeyError::SecretPublic),
        (r#"{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"some"}"#.to_owned(), KeyError::SecretPublic),
    ];
    for (secret, expected) in cases {
        assert_eq!(load(&secret_key(&secret)), Err(expected), "{secret:.20}");
    }
    let mut table = secret_key(&"s".repeat(40));
    table.algorithms = vec![JwtAlgorithm::Hs512];
    let too_short = KeyError::SecretShort { bytes: 40, bytes_min: 64, algorithm: "HS512" };
    assert_eq!(load(&table), Err(too_short));
    table = secret_key("c2VjcmV0");
    table.secret_encoding = SecretEncoding::Base64;
    assert_eq!(load(&table), Err(short(6)));
    table.secret = Secret::new("not base64!");
    assert_eq!(load(&table), Err(KeyError::SecretEncoding));
}

#[test]
fn a_public_key_that_cannot_be_one_is_refused() {
    let of = |pem: &str| load(&JwtKey { public_key: pem.to_owned(), ..JwtKey::default() });
    let block = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let ec = generate(JwtAlgorithm::Es256).expect("a key");
    // secp256k1, RSA of 1024 bits and Ed448, made with openssl.
    let koblitz = "MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEw+p/nGVG9t1LT8ND0JyFoT646xMLp3kwrA2BUFDtuNos04KUtZf+NrvXhBmJLjzc\
                   ULtuJxQEVQ2cIFuN2xFkuQ==";
    let small = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDgEW2Rwwt/qhNh3QTPR626uMlQ6CnKKP1qLc5z5x3RgX2cmMCEkPFgnamC\
                 3HJ45JYFtD8O5LNwejNDAkjApfDPat9kKnVpRdbFBkg3QuJ13Fz0Fh9+lka66CHx6Kr0aeHLiJbf9Q31PaLVfVmrFXnJSjOp\
                 wuqwTiEmg4/X6awgVQIDAQAB";
    let ed448 =
        "MEMwBQYDK2VxAzoAbtCremizda7AQdkwpv2+rqK6+d0hsHkVWnJqzhW3RDI0jaXL6cNCVcMzMY2DFafWZy403f9EBG4A";
    let cases = [
        ("nonsense".to_owned(), KeyError::NotPem),
        (block("PUBLIC KEY", "####"), KeyError::NotPem),
        (block("PUBLIC KEY", "AAAA"), KeyError::Unsupported),
        (block("PUBLIC KEY", koblitz), KeyError::Unsupported),
        (block("PUBLIC KEY", small), KeyError::RsaLength { bits: 1_024 }),
        (block("PUBLIC KEY", ed448), KeyError::Unsupported),
        (block("CERTIFICATE", "AAAA"), KeyError::Certificate),
        (block("OPENSSH PRIVATE KEY", "AAAA"), KeyError::Private),
        (ec.private.clone(), KeyError::Private),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END CERTIFICATE-----".to_owned(), KeyError::NotPem),
    ];
    for (pem, expected) in cases {
        assert_eq!(of(&pem), Err(expected), "{pem:.40}");
    }
}

#[test]
fn a_table_gives_one_key_and_a_file_is_named_when_it_is_missing() {
    assert_eq!(load(&JwtKey::default()), Err(KeyError::Missing));
    let mut table = secret_key(SECRET);
    table.secret_file = "x".to_owned();
    assert_eq!(load(&table), Err(KeyError::Several));
    let missing = JwtKey { public_key_file: "/nonexistent/key.pem".to_owned(), ..JwtKey::default() };
    assert!(matches!(load(&missing), Err(KeyError::File { path, .. }) if path == "/nonexistent/key.pem"));
    let directory = JwtKey { secret_file: "/".to_owned(), ..JwtKey::default() };
    assert!(matches!(load(&directory), Err(KeyError::File { .. })));
}

#[test]
fn a_key_shows_nothing_of_itself() {
    let key = Key::load(&secret_key(SECRET), 0).expect("a key");
    assert!(!format!("{key:?} {}", key.origin()).contains("long enough"));
}
