use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 16 * 1024, headers_max: 100 };
const DATE: &str = "Sun, 22 Nov 2026 01:48:22 GMT";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const HOST: &str = "Host: 127.0.0.1:7401";
const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nDate: Sun, 22 Nov 2026 01:48:22 GMT\r\n\r\n";
const SWITCHED_FOO: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: foo\r\n\
    Date: Sun, 22 Nov 2026 01:48:22 GMT\r\n\r\n";
const SWITCHED_DEFLATE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n\
    Date: Sun, 22 Nov 2026 01:48:22 GMT\r\n\r\n";
const FAILED: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain;charset=utf-8\r\n\
    Date: Sun, 22 Nov 2026 01:48:22 GMT\r\nContent-Length: 24\r\n\r\nWebSocket upgrade failed";
const WRONG_VERSION: &str =
    "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\n\r\n";
const PLAIN: &str = "plain";

fn head_text(line: &str, headers: &[&str]) -> String {
    let mut text = format!("{line}\r\n");
    headers.iter().for_each(|header| text.extend([header, "\r\n"]));
    text + "\r\n"
}

/// The bytes the server answers with, or [`PLAIN`].
fn answer(request: &str) -> String {
    let head = match parse_head(request.as_bytes(), &LIMITS) {
        Ok(head) => head.expect("a whole head"),
        Err(error) => return String::from_utf8(error.response()).unwrap(),
    };
    let bytes = match route(&head, |path| path == "/ws") {
        Route::Upgrade(upgrade) => switching_protocols(&upgrade, DATE),
        Route::Refuse(refusal) => refusal.response(DATE),
        Route::Plain => PLAIN.into(),
    };
    String::from_utf8(bytes).unwrap()
}

fn upgrade_with(line: &str, extra: &[&str]) -> String {
    head_text(line, &[&[HOST, UPGRADE, CONNECTION, KEY, VERSION], extra].concat())
}

fn get_with(extra: &[&str]) -> String {
    upgrade_with("GET /ws HTTP/1.1", extra)
}

fn head_error(request: &[u8]) -> HeadError {
    parse_head(request, &LIMITS).expect_err("refused")
}

#[test]
fn upgrades_are_answered_as_recorded() {
    let get = "GET /ws HTTP/1.1";
    let table = [
        ("query", upgrade_with("GET /ws?token=abc&x=1 HTTP/1.1", &[]), SWITCHED),
        ("upper", head_text(get, &[HOST, "Upgrade: WebSocket", CONNECTION, KEY, VERSION]), SWITCHED),
        ("trailing slash", upgrade_with("GET /ws/ HTTP/1.1", &[]), PLAIN),
        ("wrong path", upgrade_with("GET /nope HTTP/1.1", &[]), PLAIN),
        ("encoded path", upgrade_with("GET /%77s HTTP/1.1", &[]), PLAIN),
        ("dot path", upgrade_with("GET /a/../ws HTTP/1.1", &[]), SWITCHED),
        ("no upgrade header", head_text(get, &[HOST]), PLAIN),
        ("no key", head_text(get, &[HOST, UPGRADE, CONNECTION, VERSION]), FAILED),
        ("short key", head_text(get, &[HOST, UPGRADE, "Sec-WebSocket-Key: abc", VERSION]), FAILED),
        ("no version", head_text(get, &[HOST, UPGRADE, CONNECTION, KEY]), WRONG_VERSION),
        (
            "version 8",
            head_text(get, &[HOST, UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 8"]),
            WRONG_VERSION,
        ),
        ("no connection header", head_text(get, &[HOST, UPGRADE, KEY, VERSION]), SWITCHED),
        ("post", upgrade_with("POST /ws HTTP/1.1", &["Content-Length: 0"]), FAILED),
        ("subprotocol", get_with(&["Sec-WebSocket-Protocol: foo, bar"]), SWITCHED_FOO),
        (
            "deflate offer",
            get_with(&["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]),
            SWITCHED_DEFLATE,
        ),
        ("origin", get_with(&["Origin: http://evil.example"]), SWITCHED),
        ("http/1.0", upgrade_with("GET /ws HTTP/1.0", &[]), SWITCHED),
        ("other upgrade", head_text(get, &[HOST, "Upgrade: h2c", CONNECTION, KEY, VERSION]), PLAIN),
        ("upgrade list", head_text(get, &[HOST, "Upgrade: websocket, h2c", KEY, VERSION]), PLAIN),
        ("two upgrades", head_text(get, &[HOST, UPGRADE, UPGRADE, KEY, VERSION]), PLAIN),
        ("http/1.0 without host", head_text("GET /ws HTTP/1.0", &[UPGRADE, KEY, VERSION]), SWITCHED),
    ];
    for (name, request, expected) in table {
        assert_eq!(answer(&request), expected, "{name}");
    }
}

#[test]
fn attack_07_keys_and_versions() {
    let get = "GET /ws HTTP/1.1";
    let keys = [
        ("dGhlIHNhbXBsZSBub25jZQ==", true),
        ("+/hlIHNhbXBsZSBub25jZg==", true),
        ("dGhlIHNhbXBsZSBub25jZR==", true),
        ("dGhlIHNhbXBsZSBub25jZQ==  ", true),
        ("", false),
        ("dGhlIHNhbXBsZSBub25jZQ=x", false),
        ("dGhlIHNhbXBsZSBub25jZQxx", false),
        ("dGhlIHNhbXBsZSBub25jZ===", false),
        ("dGhlIHNhbXBsZSBub25jZ-==", false),
        ("????????????????????????", false),
        ("dGhlIHNhbXBsZSBub25jZSEh1234", false),
    ];
    for (key, is_good) in keys {
        let request = head_text(get, &[HOST, UPGRADE, &format!("Sec-WebSocket-Key: {key}"), VERSION]);
        assert_eq!(answer(&request) == FAILED, !is_good, "{key}");
    }
    assert_eq!(answer(&head_text(get, &[HOST, UPGRADE, KEY, KEY, VERSION])), FAILED, "two keys");

    for version in ["8", "12", "14", "013", "+13", "13, 8", "8, 13", ""] {
        let header = format!("Sec-WebSocket-Version: {version}");
        assert_eq!(answer(&head_text(get, &[HOST, UPGRADE, KEY, &header])), WRONG_VERSION, "{version}");
        assert_eq!(answer(&head_text(get, &[HOST, UPGRADE, &header])), FAILED, "the key is checked first");
    }
    assert_eq!(answer(&get_with(&[VERSION])), WRONG_VERSION, "two versions");
}

#[test]
fn attack_08_extension_offers() {
    let agreed = |lines: &[&str]| {
        let lines: Vec<String> =
            lines.iter().map(|line| format!("Sec-WebSocket-Extensions: {line}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = get_with(&lines);
        let head = parse_head(request.as_bytes(), &LIMITS).unwrap().unwrap();
        match route(&head, |_| true) {
            Route::Upgrade(upgrade) => upgrade.deflate.is_some(),
            other => panic!("{other:?}"),
        }
    };
    let parameters = format!("x{}", "; a=1".repeat(2_000));
    let many = "y, ".repeat(4_000);
    let open_quote = format!("x; a=\"{}", ", permessage-deflate".repeat(500));
    let table: [(&[&str], bool); 6] = [
        (&[], false),
        (&["foo", "permessage-deflate"], true),
        (&["permessage-deflate; server_max_window_bits=9", "permessage-deflate"], true),
        (&[&parameters], false),
        (&[&many], false),
        (&[&open_quote], false),
    ];
    for (lines, expected) in table {
        assert_eq!(agreed(lines), expected, "{lines:?}");
    }
}

#[test]
fn attack_09_subprotocol_offers() {
    let protocol = |line: &str| {
        let request = get_with(&[&format!("Sec-WebSocket-Protocol: {line}")]);
        let head = parse_head(request.as_bytes(), &LIMITS).unwrap().unwrap();
        match route(&head, |_| true) {
            Route::Upgrade(upgrade) => upgrade.protocol,
            other => panic!("{other:?}"),
        }
    };
    let many = format!("foo{}", ",x".repeat(5_000));
    for (line, expected) in [
        ("foo", Some("foo")),
        ("  foo  , bar", Some("foo")),
        ("foo bar;baz, x", Some("foo bar;baz")),
        (many.as_str(), Some("foo")),
        ("", None),
        (", foo", None),
    ] {
        assert_eq!(protocol(line).as_deref(), expected, "{line}");
    }
    let two = get_with(&["Sec-WebSocket-Protocol: foo", "Sec-WebSocket-Protocol: bar"]);
    assert_eq!(answer(&two), SWITCHED_FOO);
}

#[test]
fn attack_10_requests_that_parsers_read_differently() {
    let line = "POST /x HTTP/1.1";
    let ambiguous: [&[&str]; 10] = [
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        &["Content-Length: 5", "Content-Length: 6"],
        &["Content-Length: 5", "Content-Length: 5"],
        &["Content-Length: +5"],
        &["Content-Length: -5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5, 5"],
        &["Content-Length: 5 5"],
        &["Content-Length:"],
    ];
    for headers in ambiguous {
        let request = head_text(line, &[&[HOST], headers].concat());
        assert_eq!(head_error(request.as_bytes()), HeadError::BodyLength, "{headers:?}");
    }
    let old = head_text("POST /x HTTP/1.0", &["Transfer-Encoding: chunked"]);
    assert_eq!(head_error(old.as_bytes()), HeadError::BodyLength);

    let table: [(&[u8], HeadError); 18] = [
        (b"GET /ws HTTP/1.1\nHost: x\n\n", HeadError::BareLineFeed),
        (b"GET /ws HTTP/1.1\r\nHost: x\n\r\n", HeadError::BareLineFeed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", HeadError::BareLineFeed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n\n", HeadError::BareLineFeed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\n Host: x\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\nHost : x\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", HeadError::Malformed),
        (b"GET /w\0s HTTP/1.1\r\nHost: x\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", HeadError::Malformed),
        (b"GET  /ws HTTP/1.1\r\nHost: x\r\n\r\n", HeadError::Malformed),
        (b"\r\nGET /ws HTTP/1.1\r\nHost: x\r\n\r\n", HeadError::Malformed),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", HeadError::Host),
        (b"GET /ws HTTP/1.1\r\n\r\n", HeadError::Host),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::Version),
        (b"GET /ws\r\n\r\n", HeadError::Malformed),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC", HeadError::Malformed),
    ];
    for (request, error) in table {
        assert_eq!(head_error(request), error, "{}", request.escape_ascii());
    }
    assert_eq!(HeadError::Malformed.response(), b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
}

#[test]
fn attack_11_frames_behind_the_head_are_left_alone_and_bodies_refused() {
    let mut bytes = get_with(&[]).into_bytes();
    let len = bytes.len();
    bytes.extend_from_slice(b"\x81\x80\0\0\0\0\r\n\r\n");
    let head = parse_head(&bytes, &LIMITS).unwrap().unwrap();
    assert_eq!(head.len, len);
    assert_eq!(head_complete(&bytes, 0), Some(len));

    let refused = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    assert_eq!(answer(&get_with(&["Content-Length: 5"])), refused);
    assert_eq!(answer(&get_with(&["Transfer-Encoding: chunked"])), refused);
    assert_eq!(answer(&get_with(&["Content-Length: 0"])), SWITCHED);
}

#[test]
fn attack_12_targets() {
    for target in ["http://h/ws", "HTTPS://h:443/a/../ws?x", "/ws#x", "/..\\ws"] {
        assert_eq!(answer(&upgrade_with(&format!("GET {target} HTTP/1.1"), &[])), SWITCHED, "{target}");
    }
    for target in ["/ws%00", "/ws/..%2f", "*", "ws", "ws://h/ws", "//ws", "/ws/.", "/WS"] {
        assert_eq!(answer(&upgrade_with(&format!("GET {target} HTTP/1.1"), &[])), PLAIN, "{target}");
    }
    let long = upgrade_with(&format!("GET /{} HTTP/1.1", "a".repeat(100_000)), &[]);
    assert_eq!(head_error(long.as_bytes()), HeadError::TargetTooLong);
    assert_eq!(HeadError::TargetTooLong.status(), 414);
}

#[test]
fn attack_04_one_big_header_and_the_exact_limit() {
    let base = get_with(&["X: "]).len();
    let fits = get_with(&[&format!("X: {}", "a".repeat(LIMITS.head_bytes_max - base))]);
    assert_eq!(fits.len(), LIMITS.head_bytes_max);
    assert_eq!(answer(&fits), SWITCHED);
    let over = get_with(&[&format!("X: {}", "a".repeat(LIMITS.head_bytes_max - base + 1))]);
    assert_eq!(head_error(over.as_bytes()), HeadError::TooBig);
    let huge = get_with(&[&format!("X: {}", "a".repeat(64 * 1024))]);
    assert_eq!(head_error(huge.as_bytes()), HeadError::TooBig);
    assert_eq!(head_error(&huge.as_bytes()[..LIMITS.head_bytes_max]), HeadError::TooBig, "before its end");
    assert_eq!(HeadError::TooBig.status(), 431);
}

#[test]
fn attack_05_many_tiny_headers() {
    let fits = get_with(&vec!["a:"; LIMITS.headers_max - 5]);
    assert_eq!(answer(&fits), SWITCHED);
    let over = get_with(&vec!["a:"; LIMITS.headers_max - 4]);
    assert_eq!(head_error(over.as_bytes()), HeadError::TooManyHeaders);
    let ten_thousand = get_with(&vec!["a:"; 10_000]);
    assert_eq!(head_error(ten_thousand.as_bytes()), HeadError::TooBig);
    let boundless = HeadLimits { head_bytes_max: 1 << 20, headers_max: usize::MAX };
    assert_eq!(parse_head(ten_thousand.as_bytes(), &boundless).unwrap_err(), HeadError::TooManyHeaders);
}

#[test]
fn attack_06_a_head_that_grows_a_byte_a_packet() {
    let request = get_with(&[&format!("X: {}", "a".repeat(5000))]) + "behind";
    let len = request.len() - "behind".len();
    for seen in 0..len {
        assert_eq!(head_complete(&request.as_bytes()[..seen], seen.saturating_sub(1)), None);
        assert!(parse_head(&request.as_bytes()[..seen.min(40)], &LIMITS).unwrap().is_none());
    }
    for searched in 0..len {
        assert_eq!(head_complete(request.as_bytes(), searched), Some(len), "searched {searched}");
    }
}

#[test]
fn headers_are_found_without_case_and_trimmed() {
    let request = head_text("GET /x?y HTTP/1.1", &["host:  a \t", "X-A: 1", "x-a: 2", "Empty:"]);
    let head = parse_head(request.as_bytes(), &LIMITS).unwrap().unwrap();
    assert_eq!((head.method, head.target, head.minor_version), ("GET", "/x?y", 1));
    assert_eq!(head.header("HOST"), Some(&b"a"[..]));
    assert_eq!(head.values("x-A").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!((head.only("x-a"), head.only("empty"), head.only("none")), (None, Some(&b""[..]), None));
    assert_eq!(head.headers().count(), 4);
}

#[test]
fn labels_and_places_are_unique() {
    for (index, error) in HeadError::ALL.into_iter().enumerate() {
        assert_eq!(error.index(), index);
        assert!(HeadError::ALL[..index].iter().all(|other| other.name() != error.name()));
        assert!(error.response().starts_with(format!("HTTP/1.1 {} ", error.status()).as_bytes()));
    }
    for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal.index(), index);
        assert!(Refusal::ALL[..index].iter().all(|other| other.name() != refusal.name()));
        assert!(refusal.response(DATE).starts_with(format!("HTTP/1.1 {} ", refusal.status()).as_bytes()));
    }
}
