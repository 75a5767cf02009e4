//! Bodies of `POST /api/emit`: `shardcast::control::emit`.

use shardcast::control::emit::decode;
use shardcast::engine::{Emit, Message};
use shardcast_wire::ignis::{ClientId, Destination, Scratch, envelope};
use shardcast_wire::json;

use super::input::only_server_frame;

/// The longest sentence about what is wrong, bytes, whatever the body says.
const SENTENCE_BYTES_MAX: usize = 700;

/// A body.
pub(super) fn run(data: &[u8]) {
    let decoded = match decode(data) {
        Ok(decoded) => decoded,
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.is_empty() && sentence.len() <= SENTENCE_BYTES_MAX, "{sentence}");
            return;
        }
    };
    let body = std::str::from_utf8(data).expect("a body that is accepted is UTF-8");
    assert!(json::validate(body).is_ok(), "a body that is accepted is JSON");
    assert!(decoded.len() <= 1_000, "{} messages", decoded.len());
    decoded.iter().for_each(|message| match message {
        Message::Event(emit) => check_message(emit),
        Message::Topic { channel, payload } => {
            assert!(!channel.is_empty() && json::validate(payload).is_ok() && body.contains(payload));
        }
    });
    check_list(body, &decoded);
}

/// A message alone and a list of that message are the same.
fn check_list(body: &str, decoded: &[Message<'_>]) {
    if !body.trim_start().starts_with('{') {
        return;
    }
    let list = format!("[{body}\n,{body}]");
    let twice = decode(list.as_bytes()).expect("a list of good messages");
    assert_eq!(twice.len(), 2 * decoded.len());
    for message in &twice {
        assert_eq!(format!("{message:?}"), format!("{:?}", decoded[0]));
    }
}

/// What is taken in here is good for clients and for other instances, none of which would drop it.
fn check_message(emit: &Emit<'_>) {
    let Emit { to, payload, exclude } = emit;
    let frame = payload.frame();
    let (first, text) = only_server_frame(&frame);
    assert_eq!(first, 0x81, "a final text frame");
    let text = std::str::from_utf8(text).expect("a text frame is text");
    let members = json::members(text, ["event", "data"]);
    assert_eq!(members, Ok(Some([Some(payload.event_json()), payload.data()])), "members of the frame");

    let message = envelope::encode("server", to, payload, Some(exclude));
    let mut scratch = Scratch::default();
    let received = envelope::decode(&message, &mut scratch).expect("other instances take it");
    assert_eq!(received.destination, *to);
    assert_eq!((received.event, received.data), (payload.event_json(), payload.data()));
    let ids: Vec<_> = match to {
        Destination::Broadcast | Destination::Room(_) => {
            exclude.iter().filter_map(|id| ClientId::parse(id)).collect()
        }
        Destination::Client(_) | Destination::User(_) => Vec::new(),
    };
    assert_eq!(received.exclude, ids);
}
