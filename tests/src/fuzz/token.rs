//! JSON Web Tokens and what they say: `shardcast::auth::{jwt, claims}`.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shardcast::auth::claims::ClaimSet;
use shardcast::auth::jwt::{TokenFault, Verified, Verifier};
use shardcast::auth::key::library_algorithm;
use shardcast::auth::signing::generate;
use shardcast::config::{Config, JwtAlgorithm, JwtKey, Secret};
use shardcast_wire::ignis::UserId;

use super::input::Input;

/// Thursday, 26 November 2026, seconds since 1970.
const NOW: u64 = 1_795_651_200;
/// `auth.jwt.leeway` unless it is said otherwise, seconds.
const LEEWAY: f64 = 10.0;
/// The end of the year 9999, seconds since 1970.
const TIME_MAX: f64 = 253_402_300_799.0;
const SECRET: &[u8] = b"a secret that is long enough for every one of HS256, HS384 and HS512";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// How `$serde_json::private::RawValue` begins, which `Value` takes for JSON within a text.
const MAGIC: &[u8] = b"$serde_json";

/// Somebody who signs.
struct Signer {
    encoding: EncodingKey,
    algorithms: Vec<JwtAlgorithm>,
    /// Whose key it is and which; `None` for somebody whose key nobody was told.
    known: Option<(Option<&'static str>, Option<&'static str>)>,
}

struct World {
    signers: Vec<Signer>,
    /// One with what is usual, one that is told more about tokens.
    verifiers: [Verifier; 2],
}

thread_local! {
    // The keys differ from run to run, and nothing that is asserted depends on them.
    static WORLD: World = World::new();
}

impl World {
    fn new() -> Self {
        use JwtAlgorithm::{EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps512, Rs256, Rs384};
        let pairs = [
            (Rs256, Some("a"), Some("r"), vec![Rs256, Rs384, Ps256, Ps512]),
            (Es256, Some("a"), None, vec![Es256]),
            (Es384, Some("b"), Some("p"), vec![Es384]),
            (EdDsa, None, Some("e"), vec![EdDsa]),
        ];
        let text = String::from_utf8_lossy(SECRET);
        let mut tables = vec![JwtKey { secret: Secret::new(text), ..JwtKey::default() }];
        let secret = |bytes: &[u8], known| Signer {
            encoding: EncodingKey::from_secret(bytes),
            algorithms: vec![Hs256, Hs384, Hs512],
            known,
        };
        let mut signers = vec![secret(SECRET, Some((None, None)))];
        for (algorithm, issuer, kid, algorithms) in pairs {
            let pair = generate(algorithm).expect("a key pair");
            let public = pair.public.expect("a public key");
            // Who takes a public key for a secret is fooled by these.
            signers.push(secret(public.as_bytes(), None));
            let encoding = signing(algorithm, &pair.private);
            signers.push(Signer { encoding, algorithms: algorithms.clone(), known: Some((issuer, kid)) });
            let stranger = signing(algorithm, &generate(algorithm).expect("a key pair").private);
            signers.push(Signer { encoding: stranger, algorithms, known: None });
            let named = |name: Option<&str>| name.unwrap_or_default().to_owned();
            let (issuer, kid) = (named(issuer), named(kid));
            tables.push(JwtKey { public_key: public, issuer, kid, ..JwtKey::default() });
        }
        signers.push(secret(b"", None));
        let mut config = Config::default();
        config.jwt.keys = tables;
        let usual = verifier(&config);
        config.jwt.audience = vec!["us".to_owned()];
        config.jwt.required.clear();
        config.jwt.user_claim = "user.id".to_owned();
        config.jwt.rooms_claim = "rooms".to_owned();
        Self { signers, verifiers: [usual, verifier(&config)] }
    }
}

fn verifier(config: &Config) -> Verifier {
    let (verifier, faults) = Verifier::new(config, Vec::new());
    assert!(faults.is_empty(), "{faults:?}");
    verifier
}

fn signing(algorithm: JwtAlgorithm, pem: &str) -> EncodingKey {
    let key = match algorithm {
        JwtAlgorithm::Es256 | JwtAlgorithm::Es384 => EncodingKey::from_ec_pem(pem.as_bytes()),
        JwtAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
        _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
    };
    key.expect("a private key")
}

/// Who signs and what is changed then, and header and claims with a zero byte between them; also all of it as a token
/// and as claims.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let [who, how, told, change_high, change_low, letter] = input.array();
    let rest = input.rest();
    let (header, claims) = match rest.iter().position(|byte| *byte == 0) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (&[][..], rest),
    };
    check_claims(claims);
    WORLD.with(|world| {
        for verifier in &world.verifiers {
            expect_refused(verifier, &String::from_utf8_lossy(rest), "nobody signed it");
        }
        let signer = &world.signers[usize::from(who) % world.signers.len()];
        let algorithm = signer.algorithms[usize::from(how) % signer.algorithms.len()];
        let is_told = told & 1 == 1;
        let verifier = &world.verifiers[usize::from(is_told)];
        let token = sign(signer, algorithm, header, claims);
        check_signed(signer, algorithm, verifier, is_told, header, claims, &token);

        // Anything else is not what was signed.
        let mut changed = token.clone().into_bytes();
        let at = usize::from(u16::from_be_bytes([change_high, change_low])) % changed.len();
        let letter = ALPHABET[usize::from(letter) % 64];
        if changed[at] != letter {
            changed[at] = letter;
            expect_refused(verifier, &String::from_utf8_lossy(&changed), "it was changed");
        }
        expect_refused(verifier, &token[..token.len() - 1], "it is cut short");
        let unsigned = &token[..=token.rfind('.').expect("three parts")];
        expect_refused(verifier, unsigned, "it has no signature");
    });
}

/// Signs with HMAC by another library's hands, else with the library's own.
fn sign(signer: &Signer, algorithm: JwtAlgorithm, header: &[u8], claims: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = match (library_algorithm(algorithm), &signer.known) {
        (Algorithm::HS256, Some(_)) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
            URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()))
        }
        (algorithm, _) => crypto::sign(message.as_bytes(), &signer.encoding, algorithm).expect("signed"),
    };
    format!("{message}.{signature}")
}

fn expect_refused(verifier: &Verifier, token: &str, why: &str) {
    match verifier.verify(token, NOW * 1_000) {
        Ok(_) => panic!("{why}, and yet it is let in: {token}"),
        Err(fault) => check_fault(&fault),
    }
}

fn check_fault(fault: &TokenFault) {
    assert!(!fault.to_string().is_empty() && !fault.reason().name().is_empty());
}

fn check_signed(
    signer: &Signer,
    algorithm: JwtAlgorithm,
    verifier: &Verifier,
    is_told: bool,
    header: &[u8],
    claims: &[u8],
    token: &str,
) {
    let found = verifier.verify(token, NOW * 1_000);
    if let Err(fault) = &found {
        check_fault(fault);
    }
    if [header, claims].iter().any(|part| part.windows(MAGIC.len()).any(|window| window == MAGIC)) {
        return;
    }
    let named = serde_json::from_slice(header).ok().and_then(|header: Value| header.as_object().cloned());
    let says = object_without_twins(claims);
    let may = says.as_ref().zip(named.as_ref()).is_some_and(|(says, named)| {
        fits_header(signer, algorithm, named, says) && fits_claims(says, is_told, 0.002)
    });
    let must = says.as_ref().zip(named.as_ref()).is_some_and(|(says, named)| {
        let is_plain = named.keys().all(|name| matches!(name.as_str(), "alg" | "kid"));
        let is_once = members(header) == Some(named.len());
        is_plain
            && is_once
            && fits_header(signer, algorithm, named, says)
            && fits_claims(says, is_told, -0.002)
    });
    match found {
        Ok(verified) => {
            assert!(may, "let in: {} {}", header.escape_ascii(), claims.escape_ascii());
            check_verified(&verified, algorithm, &says.expect("claims"), claims, is_told);
        }
        Err(TokenFault::TooLong { .. }) => {}
        Err(fault) => {
            assert!(!must, "{fault}: {} {}", header.escape_ascii(), claims.escape_ascii());
        }
    }
}

/// Whether a token with this header and claims may be signed by this signer.
fn fits_header(
    signer: &Signer,
    algorithm: JwtAlgorithm,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
) -> bool {
    let Some((own_issuer, own_kid)) = signer.known else { return false };
    let text = |value: Option<&Value>| match value {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => Some(Some(text.clone())),
        Some(_) => None,
    };
    let (Some(issuer), Some(kid)) = (text(claims.get("iss")), text(header.get("kid"))) else { return false };
    // Issuers with keys of their own have no others.
    let whose = issuer.as_deref().filter(|issuer| matches!(*issuer, "a" | "b"));
    let ids: &[Option<&str>] = match whose {
        Some("a") => &[Some("r"), None],
        Some(_) => &[Some("p")],
        None => &[None, Some("e")],
    };
    let fits_kid = match kid.as_deref() {
        None => true,
        kid if ids.contains(&kid) => own_kid == kid,
        Some(_) => own_kid.is_none(),
    };
    let is_named = header.get("alg").and_then(Value::as_str) == Some(name(algorithm));
    let no_crit = header.get("crit").is_none_or(Value::is_null);
    own_issuer == whose && fits_kid && is_named && no_crit
}

fn name(algorithm: JwtAlgorithm) -> &'static str {
    use shardcast::config::Choice as _;
    algorithm.name()
}

/// Whether claims hold, with `slack` seconds more than there are.
fn fits_claims(claims: &Map<String, Value>, is_told: bool, slack: f64) -> bool {
    let claim = |name: &str| claims.get(name).filter(|value| !value.is_null());
    let now = NOW as f64;
    let is_time = |name: &str, holds: &dyn Fn(f64) -> bool| {
        claim(name)
            .is_none_or(|value| value.as_f64().is_some_and(|at| (0.0..=TIME_MAX).contains(&at) && holds(at)))
    };
    let has_begun = |at: f64| at <= now + LEEWAY + slack;
    let in_time = is_time("exp", &|at| at + LEEWAY + slack > now)
        && is_time("nbf", &has_begun)
        && is_time("iat", &has_begun);
    let is_texts = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    let is_list = |name: &str| claim(name).is_none_or(|value| value.is_string() || is_texts(value));
    let is_ours = match claim("aud") {
        None => !is_told,
        Some(Value::String(one)) => is_told && one == "us",
        Some(list) => {
            let is_named = list.as_array().is_some_and(|list| list.iter().any(|one| one == "us"));
            let is_for_nobody = list.as_array().is_some_and(Vec::is_empty);
            is_texts(list) && (if is_told { is_named } else { is_for_nobody })
        }
    };
    let is_id = |value: Option<&Value>| value.is_none_or(|value| value.is_string() || value.is_number());
    in_time
        && is_ours
        && (is_told || claim("exp").is_some())
        && is_id(user(claims, is_told))
        && is_id(claim("tenant"))
        && is_list("roles")
        && (!is_told || is_list("rooms"))
}

fn user(claims: &Map<String, Value>, is_told: bool) -> Option<&Value> {
    let id = match (is_told, claims.get("user.id")) {
        (false, _) => claims.get("sub"),
        (true, Some(id)) => Some(id),
        (true, None) => claims.get("user").and_then(|user| user.get("id")),
    };
    id.filter(|id| !id.is_null())
}

fn check_verified(
    verified: &Verified,
    algorithm: JwtAlgorithm,
    says: &Map<String, Value>,
    claims: &[u8],
    is_told: bool,
) {
    assert_eq!(&verified.claims, says);
    assert!(verified.algorithm == algorithm && verified.key.algorithms().contains(&algorithm));
    let principal = &verified.principal;
    assert!(!principal.everything && principal.claims.is_empty(), "no rule asks for a claim");
    assert_eq!(principal.user, user(says, is_told).and_then(|id| UserId::from_json(&id.to_string())));
    if !is_told {
        assert!(principal.rooms.is_empty(), "no claim is for rooms");
        // As it is written, not as somebody understood it.
        let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(claims).expect("claims");
        let written = raw.get("sub").map(|sub| sub.get()).filter(|sub| sub.starts_with('"'));
        assert!(written.is_none_or(|sub| principal.user == UserId::from_json(sub)), "{written:?}");
    }
    let expires = says.get("exp").and_then(Value::as_f64);
    assert_eq!(principal.expires_unix_ms.is_some(), expires.is_some());
    if let (Some(found), Some(expires)) = (principal.expires_unix_ms, expires) {
        let expected = (expires + LEEWAY) * 1_000.0;
        assert!((found as f64 - expected).abs() <= 1.0, "{found} ms instead of {expected}");
        assert!(found > NOW * 1_000, "it has expired already");
    }
}

/// Agrees with serde_json on what claims are, except that no name may stand twice.
fn check_claims(text: &[u8]) {
    if text.windows(MAGIC.len()).any(|window| window == MAGIC) {
        return;
    }
    let found = serde_json::from_slice::<ClaimSet>(text).ok().map(|ClaimSet(claims)| claims);
    assert_eq!(found, object_without_twins(text), "{}", text.escape_ascii());
}

fn object_without_twins(text: &[u8]) -> Option<Map<String, Value>> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let count = count_members(&value);
    let Value::Object(claims) = value else { return None };
    (members(text) == Some(count)).then_some(claims)
}

fn count_members(value: &Value) -> usize {
    match value {
        Value::Object(members) => members.len() + members.values().map(count_members).sum::<usize>(),
        Value::Array(values) => values.iter().map(count_members).sum(),
        _ => 0,
    }
}

/// Members in a JSON text, by the colons outside of its strings.
fn members(text: &[u8]) -> Option<usize> {
    let (mut count, mut is_string, mut is_escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b':' if !is_string => count += 1,
            _ => {}
        }
    }
    (!is_string).then_some(count)
}
