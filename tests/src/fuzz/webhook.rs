//! What applications are asked and answer over HTTP: `shardcast::webhooks::{body, sign}`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shardcast::auth::Principal;
use shardcast::config::Secret;
use shardcast::hooks::{Client, ClientId, ClientRef, MountId, UserId};
use shardcast::outbound::post::Reply;
use shardcast::webhooks::body;
use shardcast::webhooks::figures::EventKind;
use shardcast::webhooks::sign::{Keys, key_bytes};
use shardcast_shard::{ConnId, ShardId};
use shardcast_wire::json as wire_json;

use super::input::{Input, parts};

const NOW: u64 = 1_795_651_200;
const ID: &str = "msg_2yQ";
/// What an answer to `authenticate` may say.
const MEMBERS: [&str; 6] = ["user", "rooms", "roles", "tenant", "claims", "expires"];

/// What of it, a status, then its bytes.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % 4;
    let status = input.pick(&[200, 401, 403, 100, 201, 204, 302, 404, 500, 999]);
    let bytes = input.rest();
    match kind {
        0 => check_authenticate(status, bytes),
        1 => check_rooms(status, bytes),
        2 => check_requests(bytes),
        _ => check_signature(bytes),
    }
}

fn reply(status: u16, body: &[u8]) -> Reply {
    Reply { status: StatusCode::from_u16(status).expect("a status"), body: Bytes::copy_from_slice(body) }
}

/// The members of an object in which no name stands twice.
fn members(body: &[u8]) -> Option<BTreeMap<String, &RawValue>> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
    // A twin would be more than braces, commas, names with quotes and colon, and values.
    let dense = |bytes: &[u8]| bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).count();
    let values: usize = members.values().map(|value| dense(value.get().as_bytes())).sum();
    let names: usize = members.keys().map(|name| name.len() + 3).sum();
    let is_all = dense(body) <= 2 + members.len().saturating_sub(1) + names + values;
    (is_all || body.contains(&b'\\')).then_some(members)
}

fn texts(value: Option<&&RawValue>) -> Option<Vec<String>> {
    value.map_or(Some(Vec::new()), |value| serde_json::from_str(value.get()).ok())
}

/// Only a whole answer of the form that is asked for lets anybody in.
fn check_authenticate(status: u16, bytes: &[u8]) {
    let found = body::read_authenticate(&reply(status, bytes), NOW * 1_000);
    match (status, found) {
        (200, found) => {
            let expected = reference_admitted(bytes);
            match found {
                Ok(found) => assert_eq!(Some(found), expected, "{}", bytes.escape_ascii()),
                Err(error) => {
                    // A name that stands twice behind an escape is seen by one of the two only.
                    let is_clear = !bytes.contains(&b'\\');
                    assert!(expected.is_none() || !is_clear, "{error}: {}", bytes.escape_ascii());
                }
            }
        }
        (401 | 403, found) => assert!(matches!(found, Ok(None)), "a refusal"),
        (_, found) => assert!(found.is_err(), "status {status} is an answer"),
    }
}

/// `Some(None)` is an admission that has expired.
fn reference_admitted(bytes: &[u8]) -> Option<Option<Principal>> {
    let members = members(bytes)?;
    if members.keys().any(|name| !MEMBERS.contains(&name.as_str())) {
        return None;
    }
    let user = match members.get("user")?.get() {
        "null" => None,
        raw if wire_json::kind(raw) == wire_json::Kind::String => Some(UserId::from_json(raw)),
        // A number that a double does not tell from its neighbours is nobody.
        raw if raw.parse().is_ok_and(|id: i64| id.unsigned_abs() < 1 << 53) => Some(UserId::from_json(raw)),
        _ => Some(None),
    };
    let expires: Option<u64> = match members.get("expires") {
        Some(raw) => serde_json::from_str(raw.get()).ok()?,
        None => None,
    };
    let principal = Principal {
        tenant: match members.get("tenant") {
            Some(raw) => serde_json::from_str(raw.get()).ok()?,
            None => None,
        },
        roles: texts(members.get("roles"))?,
        rooms: texts(members.get("rooms"))?.into_iter().map(shardcast::config::RoomPattern::new).collect(),
        claims: match members.get("claims") {
            Some(raw) => serde_json::from_str(raw.get()).ok()?,
            None => serde_json::Map::new(),
        },
        expires_unix_ms: expires.map(|seconds| seconds.saturating_mul(1_000)),
        ..Principal::default()
    };
    if expires.is_some_and(|seconds| seconds <= NOW) {
        return Some(None);
    }
    Some(Some(Principal {
        user: match user {
            Some(user) => Some(user?),
            None => None,
        },
        ..principal
    }))
}

/// Rooms between zero bytes, then an answer: nobody gets a room that it did not ask for.
fn check_rooms(status: u16, bytes: &[u8]) {
    let mut texts: Vec<&[u8]> = parts(bytes).take(16).collect();
    let answer = texts.pop().unwrap_or_default();
    let asked: Vec<String> = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let found = body::read_rooms(&reply(status, answer), asked.clone());
    match (status, found) {
        (200, Ok(grant)) => {
            let members = members(answer).expect("an answer is an object");
            assert!(members.keys().eq(["rooms"]), "{members:?}");
            let named: Vec<String> = serde_json::from_str(members["rooms"].get()).expect("a list of texts");
            let is_first = |at: usize| !asked[..at].contains(&asked[at]);
            let is_granted = |at: &usize| is_first(*at) && named.contains(&asked[*at]);
            let expected = (0..asked.len()).filter(is_granted).map(|at| &asked[at]);
            assert!(grant.rooms.iter().eq(expected), "{:?} of {asked:?}", grant.rooms);
            let others: BTreeSet<_> = named.iter().filter(|room| !asked.contains(room)).collect();
            assert_eq!((grant.ignored, grant.refused), (others.len() as u64, false));
        }
        (200, Err(error)) => {
            let members = members(answer).filter(|members| members.keys().eq(["rooms"]));
            let named =
                members.and_then(|members| serde_json::from_str::<Vec<String>>(members["rooms"].get()).ok());
            assert!(named.is_none() || answer.contains(&b'\\'), "{error}: {}", answer.escape_ascii());
        }
        (401 | 403, found) => {
            let grant = found.expect("an answer");
            assert!(grant.refused && grant.rooms.is_empty(), "{grant:?}");
        }
        (_, found) => assert!(found.is_err(), "status {status} is an answer"),
    }
}

/// A user, a tenant, a mount and texts between zero bytes: whoever reads a request reads what was written.
fn check_requests(bytes: &[u8]) {
    let texts: Vec<String> =
        parts(bytes).take(16).map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let [user, tenant, mount, rest @ ..] = texts.as_slice() else { return };
    let principal = Principal {
        user: (!user.is_empty()).then(|| UserId::from_text(user)),
        tenant: Some(tenant.clone()),
        roles: rest.to_vec(),
        ..Principal::default()
    };
    let id = ClientId::from_bytes(*b"0123456789abcdef");
    let client = Client {
        id,
        at: ClientRef { shard: ShardId(0), conn: ConnId { slot: 0, generation: 0 } },
        mount: MountId(0),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        identity: Arc::new(principal).identity(),
    };
    let user = if user.is_empty() { Value::Null } else { user.as_str().into() };
    let who =
        json!({"id": id.to_string(), "address": "127.0.0.1", "user": user, "tenant": tenant, "roles": rest});
    let time = "2026-11-26T00:00:00.000Z";
    let asked = body::rooms(ID, NOW * 1_000, mount, &client, rest);
    let expected =
        json!({"type": "rooms", "id": ID, "time": time, "mount": mount, "client": who, "rooms": rest});
    assert_eq!(serde_json::from_str::<Value>(&asked).expect("JSON"), expected);

    let kinds = EventKind::ALL.iter().cycle();
    let told: Vec<(String, Value)> = rest
        .iter()
        .zip(kinds)
        .map(|(text, kind)| {
            let event = body::event(*kind, NOW * 1_000, mount, &client, Some(text));
            let expected =
                json!({"type": kind.name(), "time": time, "mount": mount, "client": who, "message": text});
            (event, expected)
        })
        .collect();
    let batch = body::events(ID, NOW * 1_000, told.iter().map(|(event, _)| event.as_str()));
    let events: Vec<&Value> = told.iter().map(|(_, expected)| expected).collect();
    let expected = json!({"type": "events", "id": ID, "time": time, "events": events});
    assert_eq!(serde_json::from_str::<Value>(&batch).expect("JSON"), expected);

    for data in rest.iter().filter_map(|text| wire_json::validate(text).ok()) {
        let asked = body::authenticate(ID, NOW * 1_000, mount, &client, data);
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(&asked).expect("JSON");
        assert_eq!(members["data"].get(), data, "what the client sent, as it was written");
        let is_ours = |name: &&String| !matches!(name.as_str(), "data" | "client");
        assert!(members.keys().filter(is_ours).eq(["id", "mount", "time", "type"]), "{asked}");
    }
}

/// Keys and a body between zero bytes: a signature is that of each key, for this request only.
fn check_signature(bytes: &[u8]) {
    let texts: Vec<&[u8]> = parts(bytes).take(8).collect();
    let (body, keys) = texts.split_last().expect("at least one part");
    let written: Vec<String> = keys.iter().map(|key| format!("whsec_{}", STANDARD.encode(key))).collect();
    let mut good = Vec::new();
    for (key, text) in keys.iter().zip(&written) {
        let found = key_bytes(text);
        assert_eq!(found.is_some(), (24..=64).contains(&key.len()), "a key of {} bytes", key.len());
        good.extend(found.inspect(|found| assert_eq!(found, key)));
    }
    if let Some(key) = std::str::from_utf8(body).ok().and_then(|text| key_bytes(text).map(|key| (text, key)))
    {
        assert_eq!(format!("whsec_{}", STANDARD.encode(&key.1)), key.0, "a secret has one spelling");
    }
    let secrets: Vec<Secret> = written.into_iter().map(Secret::new).collect();
    let value = Keys::new(&secrets).sign(ID, NOW, body);
    let signatures: Vec<&str> = value.split(' ').filter(|signature| !signature.is_empty()).collect();
    assert_eq!(signatures.len(), good.len(), "{value:?}");
    for (key, signature) in good.iter().zip(signatures) {
        let signature = STANDARD.decode(signature.strip_prefix("v1,").expect("version 1")).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let holds = |id: &str, seconds: u64, body: &[u8]| {
            let signed = [format!("{id}.{seconds}.").as_bytes(), body].concat();
            hmac::verify(&key, &signed, &signature).is_ok()
        };
        assert!(holds(ID, NOW, body), "{value:?}");
        assert!(!holds(ID, NOW + 1, body) && !holds("msg_other", NOW, body));
        assert!(!holds(ID, NOW, &[*body, b" "].concat()));
    }
}
