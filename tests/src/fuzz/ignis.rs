//! What an Ignis client says: `shardcast_wire::ignis::inbound`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::value::RawValue;
use shardcast_wire::ignis::encryption::{
    AgreeError, Entropy, HKDF_INFO, PUBLIC_KEY_LEN, TAG_LEN, Undecryptable, agree, sealed_len,
};
use shardcast_wire::ignis::{Cipher, ClientMessage, ROOM_NAME_UNITS_MAX, UserId, parse};
use shardcast_wire::{frame, json};

/// The text of a message; also as a public key.
pub(super) fn run(data: &[u8]) {
    if let Some(point) = data.first_chunk::<PUBLIC_KEY_LEN>() {
        check_public_key(&STANDARD.encode(point));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    check_public_key(text);
    let message = parse(text);
    let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
    assert_eq!(matches!(message, ClientMessage::Malformed), !is_json, "JSON or not");
    if let Some(expected) = reference(text) {
        assert_eq!(message, expected);
    }
    match &message {
        ClientMessage::Authenticate { data } => {
            assert_eq!(json::validate(data), Ok(*data), "what is asked about is JSON");
            check_user(data);
        }
        ClientMessage::Encrypted { data } => check_encrypted(data),
        ClientMessage::Other { event } => {
            assert_eq!(json::validate(event), Ok(&**event), "what the hooks see is JSON");
            assert!(!json::is_falsy(event));
            check_user(event);
        }
        ClientMessage::Join { rooms } => check_written_anew("join", rooms, &message),
        ClientMessage::Leave { rooms } => check_written_anew("leave", rooms, &message),
        ClientMessage::Malformed | ClientMessage::Ignored | ClientMessage::Heartbeat => {}
    }
}

/// `ignis.md` §4, §6 and §7 by values instead of spans; `None` where serde_json has no value (lone surrogates, numbers
/// beyond the doubles, more than 128 levels).
fn reference(text: &str) -> Option<ClientMessage<'_>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let Value::Object(members) = &value else { return Some(ClientMessage::Ignored) };
    let event = match members.get("event") {
        None | Some(Value::Null | Value::Bool(false)) => return Some(ClientMessage::Ignored),
        Some(Value::String(text)) if text.is_empty() => return Some(ClientMessage::Ignored),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => return Some(ClientMessage::Ignored),
        Some(event) => event,
    };
    let raw: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let rooms = || {
        let rooms = members.get("data").and_then(|data| data.get("rooms")).and_then(Value::as_array);
        rooms.into_iter().flatten().filter_map(Value::as_str).map(|room| Cow::Owned(room.to_owned()))
    };
    let may_be_asked_for = |room: &Cow<'_, str>| {
        (1..=ROOM_NAME_UNITS_MAX).contains(&room.encode_utf16().count()) && !room.starts_with("ws:")
    };
    Some(match event.as_str() {
        Some("heartbeat") => ClientMessage::Heartbeat,
        Some("authenticate") => {
            let data = raw.get("data").map(|data| data.get()).filter(|data| *data != "null");
            ClientMessage::Authenticate { data: data.unwrap_or("{}") }
        }
        Some("join") => ClientMessage::Join { rooms: rooms().filter(may_be_asked_for).collect() },
        Some("leave") => ClientMessage::Leave { rooms: rooms().collect() },
        Some("encrypted") => {
            ClientMessage::Encrypted { data: raw.get("data").map_or("null", |data| data.get()) }
        }
        Some(event) => ClientMessage::Other { event: Cow::Owned(json::quote(event)) },
        None => ClientMessage::Other { event: raw.get("event")?.get().into() },
    })
}

/// The same rooms, asked for in our own words.
fn check_written_anew(event: &str, rooms: &[Cow<'_, str>], message: &ClientMessage<'_>) {
    let rooms: Vec<String> = rooms.iter().map(|room| json::quote(room)).collect();
    let text = format!(r#"{{"event":"{event}","data":{{"rooms":[{}]}}}}"#, rooms.join(","));
    assert_eq!(parse(&text), *message, "written anew");
}

/// Nobody knows the key, so nothing opens; and what is sealed under it does.
fn check_encrypted(data: &str) {
    assert_eq!(json::validate(data), Ok(data), "what is decrypted is JSON");
    let mut cipher = Cipher::new(&[0x5a; 32], [0xff; 12]);
    assert_eq!(cipher.open(data), Err(Undecryptable));
    let mut frame = Vec::new();
    cipher.seal(data.as_bytes(), &mut Vec::new(), &mut frame);
    let (header_len, _) = frame::frame_len(&frame).expect("a whole frame");
    let event = std::str::from_utf8(&frame[header_len..]).expect("text");
    let ClientMessage::Encrypted { data: sealed } = parse(event) else { panic!("{event} is not encrypted") };
    assert_eq!(cipher.open(sealed).as_deref(), Ok(data), "what was sealed");
    assert_eq!(frame.len(), sealed_len(data.len()), "the length that was reserved");
    // One letter of the ciphertext, chosen by what was said.
    let start = sealed.len() - 2 - (data.len() + TAG_LEN).div_ceil(3) * 4;
    let at = start + data.bytes().map(usize::from).sum::<usize>() % (data.len() + TAG_LEN);
    let letter = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
    let changed = [&sealed[..at], letter, &sealed[at + 1..]].concat();
    assert_eq!(cipher.open(&changed), Err(Undecryptable), "it was changed");
}

/// A key is taken when it is a point of the curve, in its one spelling; nothing else is.
fn check_public_key(text: &str) {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.first() == Some(&4));
    let is_point = |bytes: &Vec<u8>| {
        bytes.len() == PUBLIC_KEY_LEN && ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
    };
    let bytes = bytes.filter(is_point);
    match agree(text, HKDF_INFO, &Entropy::from_random(&[1; Entropy::LEN])) {
        Ok(agreement) => {
            assert_eq!(bytes.map(|bytes| STANDARD.encode(bytes)).as_deref(), Some(text), "a key's spelling");
            let mut sealed = Vec::new();
            agreement.cipher().seal(b"{}", &mut Vec::new(), &mut sealed);
            assert_eq!(sealed.len(), sealed_len(2));
        }
        Err(error) => assert!(error == AgreeError::PublicKey && bytes.is_none(), "{error}: {text:?}"),
    }
}

/// A user's id has one spelling.
fn check_user(raw: &str) {
    if let Some(user) = UserId::from_json(raw) {
        assert_eq!(json::validate(user.as_json()), Ok(user.as_json()), "an id is JSON");
        assert_eq!(UserId::from_json(user.as_json()), Some(user), "an id of an id");
    }
}
