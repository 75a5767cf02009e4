//! What claims say and when they hold.

use super::*;
use crate::auth::claims::{ClaimSet, Reading, find, meets};
use crate::config::ClaimCondition;
use shardcast_shard::RefusalReason as Reason;
use shardcast_wire::ignis::UserId;

/// What becomes of a token with these claims beside or instead of the good ones; `null` is a claim that is missing.
fn outcome(config: &Config, claims: Value) -> Result<(), Reason> {
    let mut all = good(claims);
    all.retain(|_, value| !value.is_null());
    verify(config, &hs256(&all)).map(drop).map_err(|fault| fault.reason())
}

#[test]
fn attack_52_times_are_numbers_and_hold_within_the_leeway() {
    let config = config(vec![secret_key(SECRET)]);
    let cases = [
        (json!({"exp": NOW + 1}), Ok(())),
        (json!({"exp": NOW}), Ok(())),
        (json!({"exp": NOW - 9}), Ok(())),
        (json!({"exp": NOW - 10}), Err(Reason::TokenExpired)),
        (json!({"exp": NOW - 30}), Err(Reason::TokenExpired)),
        (json!({"exp": 0}), Err(Reason::TokenExpired)),
        (json!({"exp": NOW as f64 + 0.5}), Ok(())),
        (json!({"exp": NOW as f64 - 9.5}), Ok(())),
        (json!({"exp": NOW as f64 - 10.5}), Err(Reason::TokenExpired)),
        (json!({"exp": -1}), Err(Reason::TokenMalformed)),
        (json!({"exp": 253_402_300_799_u64}), Ok(())),
        // Milliseconds for seconds: a token for 54,000 years.
        (json!({"exp": NOW * 1_000}), Err(Reason::TokenMalformed)),
        (json!({"exp": u64::MAX}), Err(Reason::TokenMalformed)),
        (json!({"exp": 1e300}), Err(Reason::TokenMalformed)),
        (json!({"exp": (NOW + 60).to_string()}), Err(Reason::TokenMalformed)),
        (json!({"exp": true}), Err(Reason::TokenMalformed)),
        (json!({"exp": [NOW + 60]}), Err(Reason::TokenMalformed)),
        (json!({"exp": null}), Err(Reason::TokenClaimMissing)),
        (json!({"nbf": NOW + 10}), Ok(())),
        (json!({"nbf": NOW + 11}), Err(Reason::TokenNotYetValid)),
        (json!({"nbf": -1}), Err(Reason::TokenMalformed)),
        (json!({"nbf": "now"}), Err(Reason::TokenMalformed)),
        (json!({"iat": NOW + 10}), Ok(())),
        (json!({"iat": NOW + 11}), Err(Reason::TokenNotYetValid)),
        (json!({"iat": NOW * 1_000}), Err(Reason::TokenMalformed)),
    ];
    for (claims, expected) in cases {
        assert_eq!(outcome(&config, claims.clone()), expected, "{claims}");
    }
}

#[test]
fn attack_52_what_is_required_must_be_there() {
    let mut config = config(vec![secret_key(SECRET)]);
    config.jwt.required = vec!["sub".to_owned(), "app.id".to_owned()];
    let cases = [
        (json!({"app": {"id": 1}}), Ok(())),
        (json!({"app": {"id": 1}, "exp": null}), Ok(())),
        (json!({"app": {}}), Err(Reason::TokenClaimMissing)),
        (json!({"app": {"id": 1}, "sub": null}), Err(Reason::TokenClaimMissing)),
    ];
    for (claims, expected) in cases {
        assert_eq!(outcome(&config, claims.clone()), expected, "{claims}");
    }
}

#[test]
fn attack_56_a_token_for_somebody_else_is_refused() {
    let aud = |ours: &[&str], claims: Value| {
        let mut config = config(vec![secret_key(SECRET)]);
        config.jwt.audience = ours.iter().map(|name| (*name).to_owned()).collect();
        outcome(&config, claims)
    };
    let other = Err(Reason::TokenAudience);
    assert_eq!(aud(&[], json!({})), Ok(()));
    assert_eq!(aud(&[], json!({"aud": "chat"})), other);
    assert_eq!(aud(&[], json!({"aud": []})), Ok(()));
    assert_eq!(aud(&["chat"], json!({})), other);
    assert_eq!(aud(&["chat"], json!({"aud": "chat"})), Ok(()));
    assert_eq!(aud(&["chat"], json!({"aud": ["mail", "chat"]})), Ok(()));
    assert_eq!(aud(&["chat"], json!({"aud": ["mail"]})), other);
    assert_eq!(aud(&["chat"], json!({"aud": "chatter"})), other);
    assert_eq!(aud(&["chat"], json!({"aud": "Chat"})), other);
    assert_eq!(aud(&["chat", "live"], json!({"aud": "live"})), Ok(()));
    assert_eq!(aud(&["chat"], json!({"aud": 1})), Err(Reason::TokenMalformed));
    assert_eq!(aud(&["chat"], json!({"aud": ["chat", 1]})), Err(Reason::TokenMalformed));
}

#[test]
fn attack_53_a_name_that_stands_twice_makes_a_token_malformed() {
    let cases = [
        (r#"{"a":1}"#, true),
        (r#"{"a":1,"a":1}"#, false),
        (r#"{"a":1,"\u0061":2}"#, false),
        (r#"{"a":{"b":1,"b":2}}"#, false),
        (r#"{"a":[{"b":1,"b":2}]}"#, false),
        (r#"{"a":{"b":1},"b":{"b":1}}"#, true),
        ("[]", false),
        ("1", false),
        ("", false),
        (r#"{"a":1}{}"#, false),
    ];
    for (text, good) in cases {
        assert_eq!(serde_json::from_str::<ClaimSet>(text).is_ok(), good, "{text}");
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(serde_json::from_str::<ClaimSet>(&deep).is_err());
}

#[test]
fn claims_become_a_principal() {
    let mut config = config(vec![secret_key(SECRET)]);
    config.jwt.user_claim = "app.id".to_owned();
    config.jwt.roles_claim = "https://app.example/roles".to_owned();
    config.jwt.tenant_claim = "org".to_owned();
    config.jwt.rooms_claim = "rooms".to_owned();
    let claims = good(json!({
        "app": {"id": 42}, "https://app.example/roles": ["admin", "editor"], "org": "acme", "rooms": "news chat-*",
    }));
    let principal = verify(&config, &hs256(&claims)).expect("good").principal;
    assert_eq!(principal.user, UserId::from_json("42"));
    assert_eq!(principal.roles, ["admin", "editor"]);
    assert_eq!(principal.tenant.as_deref(), Some("acme"));
    assert_eq!(principal.rooms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["news", "chat-*"]);
    assert_eq!(principal.expires_unix_ms, Some((NOW + 3_610) * 1_000));
    assert!(principal.claims.is_empty() && !principal.everything, "no rule asks for claims");

    for claims in [
        json!({"app": {"id": ["a"]}}),
        json!({"https://app.example/roles": 1}),
        json!({"https://app.example/roles": ["admin", 1]}),
        json!({"org": {}}),
        json!({"rooms": [["x"]]}),
    ] {
        assert_eq!(outcome(&config, claims.clone()), Err(Reason::TokenMalformed), "{claims}");
    }
}

#[test]
fn nobody_is_read_from_a_token_that_names_nobody() {
    let config = config(vec![secret_key(SECRET)]);
    for sub in [json!(""), json!(0), json!(null)] {
        let claims = good(json!({"sub": sub}));
        assert_eq!(verify(&config, &hs256(&claims)).expect("good").principal.user, None, "{claims:?}");
    }
}

#[test]
fn a_condition_looks_into_objects_and_lists() {
    let claims = object(json!({
        "plan": "pro", "level": 3, "beta": true, "tags": ["a", 7], "app": {"plan": "free"}, "x.y": "dotted",
        "none": null, "object": {"pro": 1},
    }));
    let cases = [
        ("plan", "pro", true),
        ("plan", "pr", false),
        ("level", "3", true),
        ("beta", "true", true),
        ("tags", "a", true),
        ("tags", "7", true),
        ("tags", "b", false),
        ("app.plan", "free", true),
        ("app.level", "3", false),
        ("x.y", "dotted", true),
        ("none", "null", false),
        ("object", "pro", false),
        ("missing", "", false),
    ];
    for (path, value, expected) in cases {
        let condition = ClaimCondition { path: path.to_owned(), value: value.to_owned() };
        assert_eq!(meets(&claims, &condition), expected, "{path}={value}");
    }
    assert_eq!(find(&claims, "app.plan"), Some(&json!("free")));
}

#[test]
fn a_number_that_would_be_rounded_is_no_user_and_no_tenant() {
    let mut config = config(vec![secret_key(SECRET)]);
    config.jwt.tenant_claim = "tenant".to_owned();
    for (number, good) in [
        ("1", true),
        ("-7", true),
        ("9007199254740991", true),
        ("-9007199254740991", true),
        ("9007199254740992", false),
        ("9007199254740993", false),
        ("-9007199254740992", false),
        ("18446744073709551615", false),
        ("18446744073709551617", false),
        ("1e3", false),
        ("1.0000000000000000001", false),
        ("0.5", false),
    ] {
        for claim in ["sub", "tenant"] {
            let text = format!("{{\"exp\":{},\"{claim}\":{number}}}", NOW + 3_600);
            let ClaimSet(claims) = serde_json::from_str(&text).expect("claims");
            let expected = if good { Ok(()) } else { Err(TokenFault::Claim { claim: claim.to_owned() }) };
            assert_eq!(Reading::new(&config).read(&claims, NOW * 1_000).map(drop), expected, "{number}");
        }
    }
}
