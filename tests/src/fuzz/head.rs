//! Request heads, what they ask for, and the answers: `shardcast_wire::http`.

use shardcast_wire::http::{
    Head, HeadError, HeadLimits, Refusal, Route, Upgrade, head_complete, parse_head, route,
    switching_protocols,
};

use super::input::Input;

const DATE: &str = "Sun, 22 Nov 2026 01:48:22 GMT";
/// Parts of an input that are read besides the whole.
const CUTS: usize = 16;

/// Two bytes of limits, then what a client sends.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = HeadLimits {
        head_bytes_max: input.pick(&[16 * 1024, 40, 200, 1]),
        headers_max: input.pick(&[100, 0, 1, 8, 128, 1_000]),
    };
    let bytes = input.rest();
    let whole = parse_head(bytes, &limits);
    check_cuts(bytes, &limits, &whole);
    check_byte_by_byte(bytes);
    match whole {
        Ok(None) => {
            assert!(bytes.len() < limits.head_bytes_max, "more is waited for though the limit is reached");
            assert_eq!(head_complete(bytes, 0), None, "more is waited for though the end is there");
        }
        Ok(Some(head)) => {
            check_head(&head, bytes, &limits);
            check_route(&head);
        }
        Err(error) => {
            check_refusal(&error.response(), error.status(), HeadError::ALL[error.index()] == error)
        }
    }
}

/// What was said of a part stays said, whatever follows.
fn check_cuts(bytes: &[u8], limits: &HeadLimits, whole: &Result<Option<Head<'_>>, HeadError>) {
    let step = bytes.len() / CUTS + 1;
    let ends = (0..bytes.len()).step_by(step).chain(bytes.len().saturating_sub(3)..bytes.len());
    for cut in ends {
        match (parse_head(&bytes[..cut], limits), whole) {
            (Ok(None), _) => {}
            (Err(part), Err(whole)) => assert_eq!(part, *whole, "of {cut} bytes and of all"),
            (Ok(Some(part)), Ok(Some(whole))) => {
                assert_eq!((part.len, part.target), (whole.len, whole.target), "of {cut} bytes and of all");
                assert!(part.headers().eq(whole.headers()), "of {cut} bytes and of all");
            }
            (part, whole) => panic!("of {cut} bytes {part:?}, of all {whole:?}"),
        }
    }
}

fn check_byte_by_byte(bytes: &[u8]) {
    let found = (0..=bytes.len()).find_map(|end| head_complete(&bytes[..end], end.saturating_sub(1)));
    assert_eq!(found, head_complete(bytes, 0), "the end of the head, looked for byte by byte");
}

fn check_head(head: &Head<'_>, bytes: &[u8], limits: &HeadLimits) {
    assert!(head.len <= limits.head_bytes_max, "a head of {} bytes", head.len);
    let count = head.headers().count();
    assert!(count <= limits.headers_max.min(128), "{count} headers");
    let text = &bytes[..head.len];
    assert!(text.ends_with(b"\r\n\r\n"), "the head ends with a blank line");
    // Who counts lines and who counts headers must agree, or one of them is smuggled past.
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, count + 2, "lines of the head");
    assert!(!text.contains(&0), "a zero byte in a head");
    assert!(head.values("host").count() <= 1 && head.values("content-length").count() <= 1);
    assert!(head.header("content-length").is_none() || head.header("transfer-encoding").is_none());
    assert!(head.target.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{:?}", head.target);
    for (name, value) in head.headers() {
        assert!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'),
            "{name:?}"
        );
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n')) && value.trim_ascii() == value);
    }
    let written = write(head.method, head.target, head.minor_version, head.headers());
    let limits = HeadLimits { head_bytes_max: written.len(), headers_max: limits.headers_max };
    let again = parse_head(&written, &limits).expect("a head, written anew").expect("all of it is there");
    assert_eq!((again.method, again.target, again.len), (head.method, head.target, written.len()));
    assert!(again.headers().eq(head.headers()), "headers, written anew");
}

fn write<'a>(
    method: &str,
    target: &str,
    minor_version: u8,
    headers: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.{minor_version}\r\n").into_bytes();
    for (name, value) in headers {
        out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}

fn check_route(head: &Head<'_>) {
    assert_eq!(route(head, |_| false), Route::Plain, "nothing upgrades where nothing is mounted");
    match route(head, |_| true) {
        Route::Plain => {}
        Route::Refuse(refusal) => {
            let is_known = Refusal::ALL[refusal.index()] == refusal;
            check_refusal(&refusal.response(DATE), refusal.status(), is_known);
        }
        Route::Upgrade(upgrade) => check_upgrade(head, &upgrade),
    }
}

fn check_upgrade(head: &Head<'_>, upgrade: &Upgrade) {
    assert_eq!(head.method, "GET");
    assert_eq!(head.values("upgrade").count(), 1);
    assert_eq!(head.only("sec-websocket-version"), Some(&b"13"[..]));
    assert_eq!(head.only("sec-websocket-key").map(<[u8]>::len), Some(24));
    assert!(head.header("transfer-encoding").is_none(), "a body would be read as frames");
    check_path(head, &upgrade.path);

    // Nothing of the request may add a line to the answer.
    let answer = String::from_utf8(switching_protocols(upgrade, DATE)).expect("an answer is text");
    let (lines, rest) = answer.split_once("\r\n\r\n").expect("an answer is whole");
    assert_eq!(rest, "", "nothing follows the answer");
    let optional = usize::from(upgrade.protocol.is_some()) + usize::from(upgrade.deflate.is_some());
    assert_eq!(lines.split(['\r', '\n']).filter(|line| !line.is_empty()).count(), 5 + optional, "{answer:?}");
    if let Some(protocol) = &upgrade.protocol {
        assert!(!protocol.is_empty() && !protocol.contains(','), "{protocol:?} is one subprotocol");
    }
}

/// A path is where its segments lead, and has one spelling, so that a mount has no second name.
fn check_path(head: &Head<'_>, path: &str) {
    assert_eq!(path, reference_path(head.target), "the path of {:?}", head.target);
    let again = write("GET", path, head.minor_version, head.headers());
    let limits = HeadLimits { head_bytes_max: again.len(), headers_max: 128 };
    let again = parse_head(&again, &limits).expect("a path stands in a head").expect("all of it is there");
    match route(&again, |_| true) {
        Route::Upgrade(again) => assert_eq!(again.path, path, "normalised twice"),
        other => panic!("{path:?} comes to {other:?}"),
    }
}

/// The "path state" of the WHATWG URL standard, segment by segment; the target has a path.
fn reference_path(target: &str) -> String {
    let after_scheme = target.split_once("://").filter(|_| !target.starts_with('/'));
    let rest = after_scheme.map_or(target, |(_, rest)| rest.trim_start_matches(|c| !"/\\?#".contains(c)));
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let mut segments = Vec::new();
    let mut is_open = true;
    for segment in path.split(['/', '\\']).skip(1) {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        is_open = matches!(&*plain, "." | "..");
        match &*plain {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    // What ends with dots names a folder.
    segments.extend(is_open.then_some(""));
    let encode = |byte: u8| match byte {
        b'!'..=b'~' if !b"\"#<>?^`{}".contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    segments
        .iter()
        .flat_map(|segment| std::iter::once("/".to_owned()).chain(segment.bytes().map(encode)))
        .collect()
}

fn check_refusal(response: &[u8], status: u16, is_known: bool) {
    assert!(is_known, "the index of a refusal is its own");
    let text = std::str::from_utf8(response).expect("a response is text");
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("\r\n\r\n"), "{text:?}");
}
