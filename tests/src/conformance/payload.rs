//! The bytes behind a recorded line: base64, shortened texts, and payloads that are described rather than shown.

use serde_json::Value;

/// Payloads that the recordings describe in words.
const DESCRIBED: &[(&str, &[u8])] = &[
    ("ping mid-fragment", b"mid"),
    ("ping 125 bytes", &[b'p'; 125]),
    ("ping 126 bytes", &[b'p'; 126]),
    ("text with ff fe", &[0xff, 0xfe]),
    ("text 131073 bytes", &[b'z'; 131_073]),
    ("close no payload", b""),
    ("close 1 byte", b"\x03"),
    ("close 1000 reason ff fe", b"\x03\xe8\xff\xfe"),
];

/// The payload of a frame: base64, a description, a shortened text, or the text itself.
pub(super) fn payload(data: &Value) -> Option<Vec<u8>> {
    if let Some(text) = data["b64"].as_str() {
        return base64(text);
    }
    let text = data.as_str()?;
    if let Some((_, bytes)) = DESCRIBED.iter().find(|(description, _)| *description == text) {
        return Some(bytes.to_vec());
    }
    Some(shortened(text).unwrap_or_else(|| text.to_owned()).into_bytes())
}

/// `<N chars: HEAD…>`: HEAD, its last character repeated, and `"}`, N bytes in all.
fn shortened(text: &str) -> Option<String> {
    let (len, head) = text.strip_prefix('<')?.strip_suffix("…>")?.split_once(" chars: ")?;
    let filler = head.chars().last()?.to_string();
    let missing = len.parse::<usize>().ok()?.checked_sub(head.len() + 2)?;
    Some([head, &filler.repeat(missing), "\"}"].concat())
}

/// Decodes standard base64 with padding (RFC 4648 §4).
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut bit_count) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|&known| known == digit)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push(u8::try_from(bits >> bit_count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// The commands in what a Redis client sent (RESP arrays of bulk strings), names in lower case.
pub(super) fn resp_commands(raw: &str) -> Option<Vec<Vec<String>>> {
    let mut rest = raw;
    let mut commands = Vec::new();
    while !rest.is_empty() {
        let mut arguments = Vec::new();
        for _ in 0..length(&mut rest, '*')? {
            let len = length(&mut rest, '$')?;
            arguments.push(rest.get(..len)?.to_owned());
            rest = rest.get(len..)?.strip_prefix("\r\n")?;
        }
        arguments.first_mut()?.make_ascii_lowercase();
        commands.push(arguments);
    }
    Some(commands)
}

fn length(rest: &mut &str, kind: char) -> Option<usize> {
    let (digits, after) = rest.strip_prefix(kind)?.split_once("\r\n")?;
    *rest = after;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn payloads_are_what_was_sent() {
        for (data, bytes) in [
            (json!({"b64": ""}), b"".as_slice()),
            (json!({"b64": "//4A", "utf8": "??"}), b"\xff\xfe\0"),
            (json!({"b64": "cHA="}), b"pp"),
            (json!("ping mid-fragment"), b"mid"),
            (json!("plain"), b"plain"),
            (json!("<12 chars: {\"d\":\"z…>"), b"{\"d\":\"zzzz\"}"),
        ] {
            assert_eq!(payload(&data).as_deref(), Some(bytes), "{data}");
        }
        assert_eq!(payload(&json!(7)), None);
    }
}
