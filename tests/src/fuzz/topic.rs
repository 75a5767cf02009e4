//! The topic dialect: requests, snapshots of payloads, and which channel a topic is.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use shardcast_wire::ignis::ClientId;
use shardcast_wire::json::{self, Indexer};
use shardcast_wire::topic::{
    Action, BinaryMode, ChannelPrefix, Request, RequestError, SessionId, SnapshotFormat, SnapshotMode,
    request,
};

use super::input::{Input, only_server_frame, parts};

const PREFIXES: [&str; 5] = ["", "live:", "t:{tenant}:", "{tenant}/", "a{tenant}.b"];

/// A prefix and a format, then parts between zero bytes: a request in which `$` stands for the session, a payload, and
/// by turns tenants and topics.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let prefix = input.pick(&PREFIXES);
    let format = SnapshotFormat {
        json: input.pick(&[SnapshotMode::Json, SnapshotMode::String]),
        binary: input.pick(&[BinaryMode::Base64, BinaryMode::Lossy, BinaryMode::Drop]),
    };
    let mut rest = parts(input.rest());
    let text = String::from_utf8_lossy(rest.next().unwrap_or_default());
    let payload = rest.next().unwrap_or_default();
    let names: Vec<Cow<'_, str>> = rest.map(String::from_utf8_lossy).collect();
    check_request(&text);
    check_snapshot(format, names.get(1).map_or("topic", |topic| topic), payload);
    check_channels(prefix, &names);
}

/// Against a reader by values, where there is one: it knows no lone surrogates and no deep nesting.
fn check_request(text: &str) {
    let session = SessionId::of(&ClientId::from_random([7; 16]));
    let text = text.replace('$', session.as_str());
    let found = request::parse(&text, &session);
    let Ok(value) = serde_json::from_str::<Value>(&text) else { return };
    let field = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let expected = match (field("action"), field("session"), field("context")) {
        _ if !value.is_object() => Err(RequestError::NotObject),
        (Some(_), Some(named), Some(_)) if named != session.as_str() => Err(RequestError::Session),
        (Some(action), Some(_), Some(context)) => {
            let action = match action {
                "authorization" => Ok(Action::Authorization),
                "subscribe" => Ok(Action::Subscribe),
                "unsubscribe" => Ok(Action::Unsubscribe),
                _ => Err(RequestError::Action),
            };
            action.map(|action| Request { action, context: context.into() })
        }
        _ => Err(RequestError::Field),
    };
    assert_eq!(found, expected, "{text}");
}

/// The frame is JSON that names the topic and holds the payload: its bytes, or its text.
fn check_snapshot(format: SnapshotFormat, topic: &str, payload: &[u8]) {
    let frame = format.message(&mut Indexer::default(), topic, payload);
    let text = std::str::from_utf8(payload);
    let Some(frame) = frame else {
        assert!(text.is_err() && format.binary == BinaryMode::Drop, "a payload is dropped");
        return;
    };
    let (first, message) = only_server_frame(&frame);
    let message = std::str::from_utf8(message).expect("a message is text");
    assert_eq!(first, 0x81);
    let members = json::members(message, ["action", "topic", "snapshot"]);
    let [action, named, snapshot] = members.expect("JSON").expect("an object").map(|m| m.expect("a member"));
    assert_eq!((action, json::unescape(named).as_deref()), (r#""message""#, Some(topic)), "{message}");
    let start = r#"{"action":"message","topic":"#;
    assert_eq!(message, [start, &json::quote(topic), r#","snapshot":"#, snapshot, "}"].concat());
    match text {
        Ok(text) => {
            let value = text.trim_matches([' ', '\t', '\r', '\n']);
            let is_json = serde_json::from_str::<Value>(text).is_ok();
            let is_text = json::unescape(snapshot).as_deref() == Some(text) && snapshot == json::quote(text);
            match format.json {
                SnapshotMode::String => assert!(is_text, "{message}"),
                SnapshotMode::Json if is_json => assert_eq!(snapshot, value),
                SnapshotMode::Json if is_text => {}
                SnapshotMode::Json => {
                    assert_eq!((json::validate(text), snapshot), (Ok(value), value), "{message}");
                }
            }
        }
        Err(_) if format.binary == BinaryMode::Base64 => {
            let base64 = snapshot.strip_prefix(r#"{"base64":""#).and_then(|rest| rest.strip_suffix("\"}"));
            assert_eq!(STANDARD.decode(base64.expect("base64")).as_deref(), Ok(payload));
        }
        Err(_) => {
            let lossy = String::from_utf8_lossy(payload);
            assert_eq!(json::unescape(snapshot).as_deref(), Some(&*lossy));
        }
    }
}

/// A channel leads back to its topic, and no two clients' topics are one channel unless they are one topic.
fn check_channels(prefix: &str, names: &[Cow<'_, str>]) {
    let has_tenant = prefix.contains("{tenant}");
    let prefix = ChannelPrefix::parse(prefix).expect("a prefix");
    let pairs: Vec<(&str, &str)> = names.chunks_exact(2).map(|pair| (&*pair[0], &*pair[1])).take(8).collect();
    let channel = |(tenant, topic): (&str, &str)| prefix.channel(Some(tenant), topic);
    for &pair in pairs.iter().filter(|pair| !pair.1.is_empty()) {
        let Some(found) = channel(pair) else { continue };
        assert_eq!(prefix.topic(&found), Some(pair.1), "{found} of {pair:?}");
        for &other in &pairs {
            let is_same = pair.1 == other.1 && (!has_tenant || pair.0 == other.0);
            let is_one = channel(other).as_deref() == Some(&*found);
            assert!(!is_one || is_same, "{pair:?} and {other:?} are both {found}");
        }
    }
    for name in names {
        let parsed = ChannelPrefix::parse(name);
        if let (Ok(prefix), Some((tenant, topic))) = (parsed, pairs.first())
            && let Some(channel) = prefix.channel(Some(tenant), topic)
            && !topic.is_empty()
        {
            assert_eq!(prefix.topic(&channel), Some(*topic), "{channel} under {name}");
        }
    }
}
