//! Which rooms a client may join.

use super::*;
use crate::auth::Principal;
use crate::auth::rules::{Decision, Places, ROOMS_PER_ASK_MAX, RoomRules};
use crate::config::{ClaimCondition, Effect, RoomPattern, RoomTemplate, Rule, UserId as Listed};
use shardcast_wire::ignis::UserId;

fn rule(rooms: &[&str], effect: Effect) -> Rule {
    let rooms = rooms.iter().map(|room| RoomTemplate::new(room).expect("a template")).collect();
    Rule { rooms, effect, ..Rule::default() }
}

fn decide(config: &Config, principal: &Principal, room: &str) -> Decision {
    let rules = RoomRules::new(config);
    let places = Places::of(principal);
    rules.own(principal, &places, Effect::Deny).decide(room)
}

fn user(id: &str) -> Principal {
    Principal { user: Some(UserId::from_text(id)), ..Principal::default() }
}

#[test]
fn the_first_rule_that_fits_decides_and_then_what_is_open() {
    let mut config = Config::default();
    config.auth.rules = vec![
        rule(&["secret-*"], Effect::Deny),
        Rule { roles: vec!["admin".to_owned()], ..rule(&["*"], Effect::Allow) },
        rule(&["user:{user}"], Effect::Allow),
        rule(&["news-old"], Effect::Deny),
    ];
    config.auth.rooms = vec![RoomPattern::new("news-*")];
    let admin = Principal { roles: vec!["admin".to_owned()], ..user("a") };
    let guest = Principal { rooms: vec![RoomPattern::new("secret-1"), RoomPattern::new("vip")], ..user("g") };
    let cases = [
        (&admin, "secret-1", Decision::Rule(0, Effect::Deny)),
        (&admin, "anything", Decision::Rule(1, Effect::Allow)),
        (&guest, "secret-1", Decision::Rule(0, Effect::Deny)),
        (&guest, "user:g", Decision::Rule(2, Effect::Allow)),
        (&guest, "user:a", Decision::Nothing),
        (&guest, "news-old", Decision::Rule(3, Effect::Deny)),
        (&guest, "news-new", Decision::Open),
        (&guest, "vip", Decision::Token),
        (&guest, "anything", Decision::Nothing),
    ];
    for (principal, room, expected) in cases {
        assert_eq!(decide(&config, principal, room), expected, "{room}");
    }
    let everything = Principal { everything: true, ..Principal::default() };
    assert_eq!(decide(&config, &everything, "secret-1"), Decision::Everything);
    assert_eq!(decide(&config, &everything, &"r".repeat(2_000)), Decision::TooLong);
}

#[test]
fn without_rules_everything_is_denied() {
    assert_eq!(decide(&Config::default(), &user("u"), "chat"), Decision::Nothing);
}

#[test]
fn attack_55_a_client_of_one_tenant_has_no_room_of_another() {
    let mut config = Config::default();
    config.auth.rules = vec![rule(&["{tenant}/*"], Effect::Allow)];
    let of = |tenant: &str| Principal { tenant: Some(tenant.to_owned()), ..user("u") };
    assert!(decide(&config, &of("a"), "a/chat").allows());
    for (tenant, room) in
        [("b", "a/chat"), ("a", "ab/chat"), ("a", "b/a/chat"), ("*", "a/chat"), ("a/b", "a/b/c")]
    {
        assert_eq!(decide(&config, &of(tenant), room), Decision::Nothing, "{tenant} in {room}");
    }
    assert_eq!(decide(&config, &of(""), "/chat"), Decision::Nothing);
    assert_eq!(decide(&config, &user("u"), "/chat"), Decision::Nothing, "a client without a tenant");
}

#[test]
fn attack_66_a_user_is_who_it_is() {
    let mut config = Config::default();
    config.auth.rules = vec![
        Rule { users: vec![Listed::Number(42)], ..rule(&["number"], Effect::Allow) },
        Rule { users: vec![Listed::Text("42".to_owned())], ..rule(&["text"], Effect::Allow) },
        rule(&["user:{user}"], Effect::Allow),
    ];
    let number = Principal { user: UserId::from_json("42"), ..Principal::default() };
    let text = user("42");
    assert!(decide(&config, &number, "number").allows() && !decide(&config, &number, "text").allows());
    assert!(decide(&config, &text, "text").allows() && !decide(&config, &text, "number").allows());
    assert!(decide(&config, &number, "user:42").allows() && decide(&config, &text, "user:42").allows());
    let odd = Principal { user: UserId::from_json("[1]"), ..Principal::default() };
    assert_eq!(decide(&config, &odd, "user:[1]"), Decision::Nothing);
    assert_eq!(decide(&config, &Principal::default(), "user:"), Decision::Nothing);
}

#[test]
fn what_forbids_is_not_given_up_for_an_odd_name() {
    let mut config = Config::default();
    config.auth.rules = vec![rule(&["user:{user}:*"], Effect::Deny), rule(&["user:*"], Effect::Allow)];
    assert_eq!(decide(&config, &user("a:b"), "user:a:b:x"), Decision::Rule(0, Effect::Deny));
}

#[test]
fn all_claims_that_a_rule_asks_for_must_be_made() {
    let condition =
        |path: &str, value: &str| ClaimCondition { path: path.to_owned(), value: value.to_owned() };
    let mut config = config(vec![secret_key(SECRET)]);
    let claims = vec![condition("plan", "pro"), condition("app.beta", "true")];
    config.auth.rules = vec![Rule { claims, ..rule(&["beta"], Effect::Allow) }];
    let may = |claims: Value| {
        let principal = verify(&config, &hs256(&good(claims))).expect("good").principal;
        assert!(!principal.claims.contains_key("exp"), "only what rules ask for is kept");
        decide(&config, &principal, "beta").allows()
    };
    assert!(may(json!({"plan": "pro", "app": {"beta": true}})));
    assert!(!may(json!({"plan": "pro"})));
    assert!(!may(json!({"plan": "free", "app": {"beta": true}})));
}

#[test]
fn a_request_for_a_great_many_rooms_is_cut_off() {
    let mut config = Config::default();
    config.auth.rooms = vec![RoomPattern::new("r*")];
    let mut rooms: Vec<String> = (0..ROOMS_PER_ASK_MAX + 5).map(|index| format!("r{index}")).collect();
    RoomRules::new(&config).retain(&user("u"), Effect::Deny, &mut rooms);
    assert_eq!(rooms.len(), ROOMS_PER_ASK_MAX);
}

#[test]
fn a_mount_decides_only_about_rooms_that_nothing_speaks_of() {
    let mut config = Config::default();
    config.auth.rules = vec![rule(&["secret-*"], Effect::Deny)];
    config.auth.rooms = vec![RoomPattern::new("news")];
    config.limits.room_name_bytes_max = 16;
    let (rules, principal) = (RoomRules::new(&config), user("u"));
    let places = Places::of(&principal);
    for (unlisted, expected) in [(Effect::Allow, Decision::Unlisted), (Effect::Deny, Decision::Nothing)] {
        let own = rules.own(&principal, &places, unlisted);
        assert_eq!(own.decide("chat"), expected);
        assert_eq!(own.decide("secret-1"), Decision::Rule(0, Effect::Deny), "{unlisted:?}");
        assert_eq!(own.decide("news"), Decision::Open, "{unlisted:?}");
        assert_eq!(own.decide("a-name-of-17-byte"), Decision::TooLong, "{unlisted:?}");
    }
    let mut rooms = ["chat", "secret-1", "news"].map(str::to_owned).to_vec();
    rules.retain(&principal, Effect::Allow, &mut rooms);
    assert_eq!(rooms, ["chat", "news"]);
}
