//! What a connection has to say before it counts messages, and what a backend publishes.
//!
//! Pure: bytes in, bytes out. A dialect is added by a variant of [`Dialect`]; nothing else knows their texts.

use serde::Deserialize;

/// The event name of every publication.
const EVENT: &str = "loadgen";
/// The key of every upgrade and its answer (RFC 6455 §1.3).
const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const UPGRADE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A protocol the generator speaks as a client and publishes as a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    /// Ignis: authenticate, join, events as `{"event":…,"data":…}`.
    #[default]
    Ignis,
}

/// What the server's message means to a connection that is still getting ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// Logged in: rooms may be joined.
    LoggedIn,
    /// Refused, in these words.
    Refused,
    /// Nothing to do with it.
    Other,
}

impl Dialect {
    /// The text that logs a member in, `None` when the dialect knows no login.
    pub(crate) fn login(self, token: &str, user: &str) -> Option<String> {
        match self {
            Self::Ignis => {
                let data = serde_json::json!({ "token": token, "userId": user });
                Some(format!(r#"{{"event":"authenticate","data":{data}}}"#))
            }
        }
    }

    /// What a message of the server means during the login.
    pub(crate) fn greeting(self, message: &[u8]) -> Greeting {
        match self {
            Self::Ignis if message.starts_with(br#"{"event":"connected""#) => Greeting::LoggedIn,
            Self::Ignis if message.starts_with(br#"{"event":"error""#) => Greeting::Refused,
            Self::Ignis => Greeting::Other,
        }
    }

    /// The text that joins rooms.
    pub(crate) fn join<'a>(self, rooms: impl Iterator<Item = &'a str>) -> String {
        match self {
            Self::Ignis => {
                let rooms: serde_json::Value = rooms.collect();
                format!(r#"{{"event":"join","data":{{"rooms":{rooms}}}}}"#)
            }
        }
    }

    /// The text that keeps an idle connection alive.
    pub(crate) fn heartbeat(self) -> &'static str {
        match self {
            Self::Ignis => r#"{"event":"heartbeat"}"#,
        }
    }

    /// Bytes of the message that delivers `data_bytes` of data, so that altered ones are noticed.
    pub(crate) fn message_bytes(self, data_bytes: usize) -> usize {
        match self {
            Self::Ignis => r#"{"event":"","data":}"#.len() + EVENT.len() + data_bytes,
        }
    }

    /// The Redis channel of a room.
    pub(crate) fn redis_channel(self, room: &str) -> String {
        match self {
            Self::Ignis => format!("ws:room:{room}"),
        }
    }

    /// What a Redis message to a room consists of before and after the data.
    pub(crate) fn redis_envelope(self, room: &str) -> (String, &'static str) {
        match self {
            Self::Ignis => {
                let target = serde_json::json!(room);
                let head = format!(
                    r#"{{"serverId":"emitter","type":"room","target":{target},"event":"{EVENT}","data":"#
                );
                (head, "}")
            }
        }
    }

    /// What one publication in the body of an HTTP request consists of before and after the data.
    pub(crate) fn http_envelope(self, room: &str) -> (String, &'static str) {
        match self {
            Self::Ignis => {
                let target = serde_json::json!(room);
                (format!(r#"{{"type":"room","target":{target},"event":"{EVENT}","data":"#), "}")
            }
        }
    }
}

/// The upgrade request (RFC 6455 §4.1).
pub(crate) fn upgrade_request(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {UPGRADE_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// What became of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// Done; the head took so many bytes.
    Done(usize),
    /// The head is not complete.
    Partial,
    /// The server answered something else.
    Refused(String),
}

/// Reads the answer to [`upgrade_request`] (RFC 6455 §4.2.2).
pub(crate) fn upgrade_response(bytes: &[u8]) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let len = match response.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Upgrade::Partial,
        Err(error) => return Upgrade::Refused(format!("upgrade answered with no HTTP: {error}")),
    };
    let accept =
        response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept"));
    match (response.code, accept) {
        (Some(101), Some(accept)) if accept.value == UPGRADE_ACCEPT.as_bytes() => Upgrade::Done(len),
        (Some(101), _) => {
            Upgrade::Refused("upgrade answered without the right Sec-WebSocket-Accept".to_owned())
        }
        (code, _) => Upgrade::Refused(format!("upgrade answered with status {}", code.unwrap_or(0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_are_judged_by_status_and_accept() {
        let good =
            format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {UPGRADE_ACCEPT}\r\n\r\n");
        assert_eq!(upgrade_response(format!("{good}\x01").as_bytes()), Upgrade::Done(good.len()));
        for have in 0..good.len() {
            assert_eq!(upgrade_response(&good.as_bytes()[..have]), Upgrade::Partial, "{have} bytes");
        }
        let table = [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "upgrade answered with status 404"),
            ("HTTP/1.1 101 x\r\n\r\n", "upgrade answered without the right Sec-WebSocket-Accept"),
            ("-ERR unknown\r\n", "upgrade answered with no HTTP: invalid HTTP version"),
        ];
        for (answer, expected) in table {
            assert_eq!(upgrade_response(answer.as_bytes()), Upgrade::Refused(expected.to_owned()));
        }
    }

    #[test]
    fn ignis_texts_are_those_of_its_clients_and_emitters() {
        let ignis = Dialect::Ignis;
        let login = r#"{"event":"authenticate","data":{"token":"a\"b","userId":"u"}}"#;
        assert_eq!(ignis.login("a\"b", "u").as_deref(), Some(login));
        let join = r#"{"event":"join","data":{"rooms":["a","b"]}}"#;
        assert_eq!(ignis.join(["a", "b"].into_iter()), join);
        let (head, tail) = ignis.redis_envelope("r");
        let envelope = r#"{"serverId":"emitter","type":"room","target":"r","event":"loadgen","data":1}"#;
        assert_eq!(format!("{head}1{tail}"), envelope);
        assert_eq!(ignis.redis_channel("r"), "ws:room:r");
        assert_eq!(ignis.message_bytes(1), r#"{"event":"loadgen","data":1}"#.len());
        assert_eq!(ignis.greeting(br#"{"event":"connected","data":{}}"#), Greeting::LoggedIn);
        assert_eq!(ignis.greeting(br#"{"event":"error","data":{}}"#), Greeting::Refused);
        assert_eq!(ignis.greeting(br#"{"event":"x"}"#), Greeting::Other);
    }
}
