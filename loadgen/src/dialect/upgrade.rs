//! The opening handshake of a client. Pure (RFC 6455 §4).

/// The key of every upgrade and its answer (RFC 6455 §1.3).
const UPGRADE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const UPGRADE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The upgrade request (RFC 6455 §4.1).
pub(crate) fn request(host: &str, path: &str) -> String {
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

/// Reads the answer to [`request`] (RFC 6455 §4.2.2).
pub(crate) fn response(bytes: &[u8]) -> Upgrade {
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
        assert_eq!(response(format!("{good}\x01").as_bytes()), Upgrade::Done(good.len()));
        for have in 0..good.len() {
            assert_eq!(response(&good.as_bytes()[..have]), Upgrade::Partial, "{have} bytes");
        }
        let table = [
            ("HTTP/1.1 404 Not Found\r\n\r\n", "upgrade answered with status 404"),
            ("HTTP/1.1 101 x\r\n\r\n", "upgrade answered without the right Sec-WebSocket-Accept"),
            ("-ERR unknown\r\n", "upgrade answered with no HTTP: invalid HTTP version"),
        ];
        for (answer, expected) in table {
            assert_eq!(response(answer.as_bytes()), Upgrade::Refused(expected.to_owned()));
        }
    }
}
