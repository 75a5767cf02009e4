//! Messages recorded between real Ignis 0.0.7 processes, and the frames their clients got.

use crate::json;

use super::envelope::{channel, decode, encode};
use super::{Payload, Scratch};

/// Channel, message, and the payload a client got, where one was there to get it.
const RECORDED: &[(&str, &str, Option<&str>)] = &[
    // emitter.jsonl
    (
        "ws:client:bbf37501-294a-44e3-892d-0cc9acf0d441",
        r#"{"serverId":"emitter","type":"client","target":"bbf37501-294a-44e3-892d-0cc9acf0d441","event":"to-client","data":{"n":1}}"#,
        Some(r#"{"event":"to-client","data":{"n":1}}"#),
    ),
    (
        "ws:user:user-1",
        r#"{"serverId":"emitter","type":"user","target":"user-1","event":"to-user","data":{"n":2}}"#,
        Some(r#"{"event":"to-user","data":{"n":2}}"#),
    ),
    (
        "ws:room:room-a",
        r#"{"serverId":"emitter","type":"room","target":"room-a","event":"to-room","data":{"n":3}}"#,
        Some(r#"{"event":"to-room","data":{"n":3}}"#),
    ),
    (
        "ws:room:room-a",
        r#"{"serverId":"emitter","type":"room","target":"room-a","event":"to-room-excl","data":{"n":4},"exclude":["bbf37501-294a-44e3-892d-0cc9acf0d441"]}"#,
        Some(r#"{"event":"to-room-excl","data":{"n":4}}"#),
    ),
    (
        "ws:room:room-a",
        r#"{"serverId":"emitter","type":"room","target":"room-a","event":"to-room-excl-empty","data":{"n":5},"exclude":[]}"#,
        Some(r#"{"event":"to-room-excl-empty","data":{"n":5}}"#),
    ),
    (
        "ws:broadcast",
        r#"{"serverId":"emitter","type":"broadcast","event":"bc","data":{"n":6}}"#,
        Some(r#"{"event":"bc","data":{"n":6}}"#),
    ),
    (
        "ws:room:ws-default",
        r#"{"serverId":"emitter","type":"room","target":"ws-default","event":"no-data"}"#,
        Some(r#"{"event":"no-data"}"#),
    ),
    (
        "ws:room:ws-default",
        r#"{"serverId":"emitter","type":"room","target":"ws-default","event":"null-data","data":null}"#,
        Some(r#"{"event":"null-data","data":null}"#),
    ),
    (
        "ws:client:nobody",
        r#"{"serverId":"emitter","type":"client","target":"nobody","event":"x","data":1}"#,
        None,
    ),
    (
        r#"ws:room:room é😀/"*?[x]"#,
        "{\"serverId\":\"emitter\",\"type\":\"room\",\"target\":\"room é😀/\\\"*?[x]\",\"event\":\"weird\",\"data\":\"\u{2028}<\\u0007\\\"\\\\/\\ud800\"}",
        None,
    ),
    // two-servers-send.jsonl
    (
        "ws:room:room-a",
        r#"{"serverId":"602a03ac-bfc7-4d4c-adea-4cd049aa56b0","type":"room","target":"room-a","event":"room","data":{"k":1}}"#,
        Some(r#"{"event":"room","data":{"k":1}}"#),
    ),
    (
        "ws:broadcast",
        r#"{"serverId":"602a03ac-bfc7-4d4c-adea-4cd049aa56b0","type":"broadcast","event":"bc","data":{"k":2}}"#,
        Some(r#"{"event":"bc","data":{"k":2}}"#),
    ),
    (
        "ws:client:e2a63f97-cd7b-4b07-ab53-a21d142154c5",
        r#"{"serverId":"602a03ac-bfc7-4d4c-adea-4cd049aa56b0","type":"client","target":"e2a63f97-cd7b-4b07-ab53-a21d142154c5","event":"local-client","data":1}"#,
        Some(r#"{"event":"local-client","data":1}"#),
    ),
    (
        "ws:room:52d0adf0-6e0a-4ff6-851e-0fb119c8606a",
        r#"{"serverId":"602a03ac-bfc7-4d4c-adea-4cd049aa56b0","type":"room","target":"52d0adf0-6e0a-4ff6-851e-0fb119c8606a","event":"remote-client","data":1}"#,
        Some(r#"{"event":"remote-client","data":1}"#),
    ),
    (
        "ws:room:only-2",
        r#"{"serverId":"602a03ac-bfc7-4d4c-adea-4cd049aa56b0","type":"room","target":"only-2","event":"remote-room","data":1}"#,
        Some(r#"{"event":"remote-room","data":1}"#),
    ),
    // server-api-local.jsonl
    (
        "ws:broadcast",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"broadcast","event":"s-all","data":1}"#,
        Some(r#"{"event":"s-all","data":1}"#),
    ),
    (
        "ws:client:da9e0fe8-8e35-45fd-b2d5-0d33ba114100",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"client","target":"da9e0fe8-8e35-45fd-b2d5-0d33ba114100","event":"s-client","data":1}"#,
        Some(r#"{"event":"s-client","data":1}"#),
    ),
    (
        "ws:room:ws-default",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"room","target":"ws-default","event":"s-room","data":1}"#,
        Some(r#"{"event":"s-room","data":1}"#),
    ),
    (
        "ws:room:unknown-x",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"room","target":"unknown-x","event":"s-unknown","data":1}"#,
        None,
    ),
    (
        "ws:room:user-1",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"room","target":"user-1","event":"s-user","data":1}"#,
        None,
    ),
    (
        "ws:room:ws-default",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"room","target":"ws-default","event":"s-null","data":null}"#,
        Some(r#"{"event":"s-null","data":null}"#),
    ),
    (
        "ws:broadcast",
        r#"{"serverId":"ac3a3b06-ec44-44df-bd5b-0bbbfac98d2d","type":"broadcast","event":"s-empty-dest","data":1}"#,
        Some(r#"{"event":"s-empty-dest","data":1}"#),
    ),
    // emitter-unauth-client-id.jsonl
    (
        "ws:client:4b96d4bc-7ccf-4a77-bed2-802c3a650f6f",
        r#"{"serverId":"emitter","type":"client","target":"4b96d4bc-7ccf-4a77-bed2-802c3a650f6f","event":"to-unauth-client","data":1}"#,
        Some(r#"{"event":"to-unauth-client","data":1}"#),
    ),
    (
        "ws:room:4b96d4bc-7ccf-4a77-bed2-802c3a650f6f",
        r#"{"serverId":"emitter","type":"room","target":"4b96d4bc-7ccf-4a77-bed2-802c3a650f6f","event":"to-unauth-room","data":2}"#,
        Some(r#"{"event":"to-unauth-room","data":2}"#),
    ),
    ("ws:broadcast", r#"{"serverId":"emitter","type":"broadcast","event":"bc","data":3}"#, None),
    (
        "ws:room:4b96d4bc-7ccf-4a77-bed2-802c3a650f6f",
        r#"{"serverId":"emitter","type":"room","target":"4b96d4bc-7ccf-4a77-bed2-802c3a650f6f","event":"excl","data":4,"exclude":["x"]}"#,
        None,
    ),
];

#[test]
fn recorded_messages_become_the_recorded_frames() {
    let mut scratch = Scratch::default();
    for (_, raw, payload) in RECORDED {
        let envelope = decode(raw.as_bytes(), &mut scratch).unwrap();
        let frame = envelope.frame();
        let Some(payload) = payload else { continue };
        assert_eq!(frame[..2], [0x81, payload.len() as u8], "{raw}");
        assert_eq!(std::str::from_utf8(&frame[2..]), Ok(*payload), "{raw}");
    }
}

#[test]
fn recorded_messages_are_what_we_would_publish() {
    let mut scratch = Scratch::default();
    for (name, raw, _) in RECORDED {
        let envelope = decode(raw.as_bytes(), &mut scratch).unwrap();
        assert_eq!(channel(&envelope.destination), *name, "{raw}");
        let event = json::unescape(envelope.event).unwrap();
        let payload = Payload::new(&event, envelope.data).unwrap();
        let [exclude] = json::members(raw, ["exclude"]).unwrap().unwrap();
        let exclude: Option<Vec<String>> =
            exclude.map(|ids| json::elements(ids).filter_map(json::unescape).map(Into::into).collect());
        let encoded = encode(&envelope.server_id, &envelope.destination, &payload, exclude.as_deref());
        assert_eq!(std::str::from_utf8(&encoded), Ok(*raw));
    }
}
