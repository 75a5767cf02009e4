//! The path of a request target, normalised as browsers and JavaScript servers do (WHATWG URL, "path state").
//!
//! Percent-encoded bytes stay encoded, so that `/%77s` is not `/ws`; only dot segments are resolved, and what
//! may not stand in a path is encoded.

use std::borrow::Cow;

/// The normalised path without query and fragment; always begins with `/`.
///
/// `None` for targets without one (`*`, `host:port`, other schemes than HTTP).
pub(super) fn normalise(target: &str) -> Option<Cow<'_, str>> {
    let rest = if target.starts_with('/') { target } else { after_authority(target)? };
    let path = &rest[..rest.find(['?', '#']).unwrap_or(rest.len())];
    if path.is_empty() {
        return Some(Cow::Borrowed("/"));
    }
    let may_have_dots = path.contains("/.") || path.contains("/%2");
    if may_have_dots || path.bytes().any(|byte| byte == b'\\' || is_encoded(byte)) {
        return Some(Cow::Owned(resolve(path)));
    }
    Some(Cow::Borrowed(path))
}

/// What follows the authority in an absolute target (RFC 9112 §3.2.2).
fn after_authority(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return None;
    }
    let end = rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len());
    (end > 0).then(|| &rest[end..])
}

fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path[1..].split(['/', '\\']).peekable();
    while let Some(segment) = rest.next() {
        let is_last = rest.peek().is_none();
        let dots = dots(segment);
        if dots == Some(2) {
            segments.pop();
        }
        if dots.is_none() {
            segments.push(segment);
        } else if is_last {
            segments.push("");
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in segments {
        out.push('/');
        encode_into(&mut out, segment);
    }
    out
}

/// How many dots a segment is, 1 or 2, each possibly percent-encoded; `None` for any other segment.
fn dots(segment: &str) -> Option<u8> {
    let mut rest = segment.as_bytes();
    let mut count = 0;
    while !rest.is_empty() {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return None,
        };
        count += 1;
        if count > 2 {
            return None;
        }
    }
    (count > 0).then_some(count)
}

/// Appends with the WHATWG path percent-encode set encoded.
fn encode_into(out: &mut String, segment: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in segment.bytes() {
        if is_encoded(byte) {
            let [high, low] = [byte >> 4, byte & 0x0F].map(|digit| char::from(HEX[usize::from(digit)]));
            out.extend(['%', high, low]);
        } else {
            out.push(char::from(byte));
        }
    }
}

fn is_encoded(byte: u8) -> bool {
    byte <= b' '
        || byte > b'~'
        || matches!(byte, b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_bun_normalises_them() {
        let table = [
            ("/ws", "/ws"),
            ("/ws?token=a&x=1", "/ws"),
            ("/ws#x", "/ws"),
            ("/ws?a#b?c", "/ws"),
            ("/a/../ws", "/ws"),
            ("/../../ws", "/ws"),
            ("/./ws", "/ws"),
            ("/a/%2e%2E/ws", "/ws"),
            ("/a/.%2e/ws", "/ws"),
            ("/a/%2E./ws", "/ws"),
            ("/%2e/ws", "/ws"),
            ("/a\\..\\ws", "/ws"),
            ("/ws/.", "/ws/"),
            ("/ws/a/..", "/ws/"),
            ("/..", "/"),
            ("/ws/", "/ws/"),
            ("/%77s", "/%77s"),
            ("/ws%00", "/ws%00"),
            ("//ws", "//ws"),
            ("//h/ws", "//h/ws"),
            ("/...", "/..."),
            ("/.ws", "/.ws"),
            ("/..ws/x", "/..ws/x"),
            ("/%2ews", "/%2ews"),
            ("/a\"<>`{}^|[]x", "/a%22%3C%3E%60%7B%7D%5E|[]x"),
            ("/é", "/%C3%A9"),
            ("http://h/ws", "/ws"),
            ("HTTPS://h:1/a/../ws?x", "/ws"),
            ("http://h", "/"),
            ("http://h?x", "/"),
        ];
        for (target, path) in table {
            assert_eq!(normalise(target).as_deref(), Some(path), "{target}");
        }
    }

    #[test]
    fn targets_without_a_path() {
        for target in ["*", "h:443", "ws", "ws://h/ws", "\\ws", "http:///ws", "http:/ws"] {
            assert_eq!(normalise(target), None, "{target}");
        }
    }

    #[test]
    fn attack_12_a_long_target_of_dots_is_linear() {
        let target = "/..".repeat(40_000) + "/ws";
        assert_eq!(normalise(&target).as_deref(), Some("/ws"));
        assert_eq!(normalise(&"/a/..".repeat(30_000)).as_deref(), Some("/"));
    }
}
