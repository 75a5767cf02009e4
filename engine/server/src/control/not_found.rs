//! The answer to paths that are not ours: the 404 of an Ignis application, byte for byte (`ignis.md` §1), so
//! that a load balancer or a test that knows it notices no change.

use hyper::body::Incoming;
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use serde::Serialize;
use uuid::Uuid;

use super::answer::{self, Answer};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What JavaScript's `decodeURI` leaves escaped, and `%` itself, which Hono's router keeps.
const KEPT_ESCAPED: &[u8] = b";/?:@&=+$,#%";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    message: &'static str,
    status_code: u16,
    request_id: &'a str,
    path: &'a str,
    url: &'a str,
}

/// The 404.
pub(super) fn answer(request: &Request<Incoming>) -> Answer {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let request_id = Uuid::new_v4().to_string();
    let body = Body {
        message: "URL NOT FOUND",
        status_code: StatusCode::NOT_FOUND.as_u16(),
        request_id: &request_id,
        path: &decode_uri(request.uri().path()),
        url: &url(host, request.uri()),
    };
    let answer = answer::json(StatusCode::NOT_FOUND, &body);
    let id = HeaderValue::from_str(&request_id).expect("a UUID is ASCII");
    answer::with_header(answer, REQUEST_ID, id)
}

/// The whole URL as the application sees it; only the path when the client named no host.
fn url(host: Option<&str>, uri: &Uri) -> String {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    host.map_or_else(|| target.to_owned(), |host| format!("http://{}{target}", host.to_ascii_lowercase()))
}

/// Decodes escapes as Hono does: those of reserved characters and those that are no UTF-8 stay.
fn decode_uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let run = escapes(&rest[at..]);
        if run.is_empty() {
            out.push('%');
            rest = &rest[at + 1..];
            continue;
        }
        let (escaped, after) = rest[at..].split_at(3 * run.len());
        match std::str::from_utf8(&run) {
            Ok(text) => push_decoded(&mut out, text, escaped),
            Err(_) => out.push_str(escaped),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The bytes of the escapes `text` starts with.
fn escapes(text: &str) -> Vec<u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    let byte = |escape: &[u8]| match *escape {
        [b'%', high, low] => Some((hex(high)? * 16 + hex(low)?) as u8),
        _ => None,
    };
    text.as_bytes().chunks(3).map_while(byte).collect()
}

/// Writes `text`, the characters that stay escaped as they stand in `escaped`.
fn push_decoded(out: &mut String, text: &str, escaped: &str) {
    for (at, character) in text.char_indices() {
        if KEPT_ESCAPED.iter().any(|&kept| char::from(kept) == character) {
            out.push_str(&escaped[3 * at..3 * at + 3]);
        } else {
            out.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_as_hono_does() {
        let cases = [
            ("/ws/", "/ws/"),
            ("/%77s", "/ws"),
            ("/a%2Fb%25c%20d%zz", "/a%2Fb%25c d%zz"),
            ("/%e9%ab", "/%e9%ab"),
            ("/%C3%A9%3f", "/é%3f"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%c3é", "/%c3é"),
            ("%%41", "%A"),
        ];
        for (path, expected) in cases {
            assert_eq!(decode_uri(path), expected, "{path}");
        }
    }

    #[test]
    fn the_url_has_the_host_the_client_named() {
        let cases = [
            (Some("127.0.0.1:7401"), "/ws/", "http://127.0.0.1:7401/ws/"),
            (Some("EXAMPLE.com"), "/a?b=%20", "http://example.com/a?b=%20"),
            (Some("a"), "http://other/p?q", "http://a/p?q"),
            (None, "/x?y", "/x?y"),
        ];
        for (host, uri, expected) in cases {
            assert_eq!(url(host, &uri.parse().expect("a URI")), expected, "{host:?} {uri}");
        }
    }
}
