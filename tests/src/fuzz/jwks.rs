//! Sets of keys that issuers publish: `shardcast::auth::jwk`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use shardcast::auth::jwk::{Bound, KEYS_MAX, Set, read};
use shardcast::auth::key::{Key, KeyKind};
use shardcast::config::JwtAlgorithm;

use super::input::Input;

const ISSUER: &str = "https://issuer.example";
/// What tells that an entry is no public key; none of them may be in one that is taken.
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The algorithms that are allowed, then a document.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let choices: [&[JwtAlgorithm]; 4] =
        [&[], &[JwtAlgorithm::Es256, JwtAlgorithm::EdDsa], &[JwtAlgorithm::Hs256], &[JwtAlgorithm::Ps256]];
    let allowed = input.pick(&choices);
    let document = input.rest();
    let bound = Bound { issuer: ISSUER, algorithms: allowed, origin: "https://issuer.example/keys" };
    let Ok(set) = read(document, bound) else {
        if let Ok(Value::Object(members)) = serde_json::from_slice(document) {
            // A name that stands twice makes it malformed; `Value` takes the last.
            let is_list = members.get("keys").is_some_and(Value::is_array);
            let is_twice = document.windows(4).filter(|part| part == b"keys").count() > 1;
            assert!(!is_list || is_twice || document.contains(&b'\\'), "a set is refused");
        }
        return;
    };
    let members: Value = serde_json::from_slice(document).expect("a set is JSON");
    let members = members.as_object().expect("a set is an object");
    let entries = members["keys"].as_array().expect("a set has a list");
    let ignored: usize = set.ignored.values().sum();
    assert_eq!(set.keys.len() + ignored, entries.len(), "every entry is taken or counted");
    check_keys(&set, entries, allowed);
    for name in SECRET_MEMBERS {
        assert_none_taken(entries, bound, |entry| drop(entry.insert(name.to_owned(), Value::Null)));
    }
    for kty in ["oct", "rsa", "EC2", ""] {
        assert_none_taken(entries, bound, |entry| drop(entry.insert("kty".to_owned(), kty.into())));
    }
    assert_none_taken(entries, bound, |entry| drop(entry.insert("use".to_owned(), "enc".into())));
    for alg in ["HS256", "none", "RSA-OAEP", ""] {
        assert_none_taken(entries, bound, |entry| drop(entry.insert("alg".to_owned(), alg.into())));
    }
}

fn check_keys(set: &Set, entries: &[Value], allowed: &[JwtAlgorithm]) {
    assert!(set.keys.len() <= KEYS_MAX);
    let mut ids = BTreeSet::new();
    for key in &set.keys {
        assert_eq!(key.issuer(), Some(ISSUER));
        assert!(!matches!(key.kind(), KeyKind::Secret(_)), "a secret is taken");
        assert!(!key.algorithms().is_empty());
        let fits = |algorithm| key.kind().algorithms().contains(algorithm);
        assert!(key.algorithms().iter().all(fits), "{key:?} for {:?}", key.algorithms());
        let is_allowed = |algorithm| allowed.is_empty() || allowed.contains(algorithm);
        assert!(key.algorithms().iter().all(is_allowed), "{key:?} for {:?}", key.algorithms());
        assert!(key.kid().is_none_or(|kid| !kid.is_empty() && ids.insert(kid)), "{key:?} is there twice");
        assert!(entries.iter().any(|entry| is_public(entry, key)), "no entry is {key:?}");
    }
}

/// Whether an entry says of itself that it is this public key.
fn is_public(entry: &Value, key: &Key) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let kind = match (text("kty"), text("crv")) {
        (Some("RSA"), None) => KeyKind::Rsa,
        (Some("EC"), Some("P-256")) => KeyKind::P256,
        (Some("EC"), Some("P-384")) => KeyKind::P384,
        (Some("OKP"), Some("Ed25519")) => KeyKind::Ed25519,
        _ => return false,
    };
    let is_secret = SECRET_MEMBERS.iter().any(|name| entry.get(name).is_some());
    let id = text("kid").filter(|kid| !kid.is_empty());
    kind == key.kind() && id == key.kid() && !is_secret && text("use").is_none_or(|usage| usage == "sig")
}

/// With this change to each entry no key is left.
fn assert_none_taken(entries: &[Value], bound: Bound<'_>, change: impl Fn(&mut Map<String, Value>)) {
    let mut entries = entries.to_vec();
    entries.iter_mut().filter_map(Value::as_object_mut).for_each(change);
    let document = serde_json::json!({ "keys": entries }).to_string();
    let set = read(document.as_bytes(), bound).expect("a set");
    assert!(set.keys.is_empty(), "{document} has keys: {:?}", set.keys);
}
