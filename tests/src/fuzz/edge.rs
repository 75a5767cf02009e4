//! What proxies and browsers say of a connection: `shardcast_wire::{proxy, forwarded, origin}`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shardcast_wire::forwarded::{Malformed, client_address};
use shardcast_wire::origin::{OriginPattern, Origins};
use shardcast_wire::proxy::{self, HEADER_BYTES_MAX, ProxyHeader};

use super::input::{Input, parts};

/// Lines of a header, and patterns, that are looked at.
const TEXTS_MAX: usize = 12;
const FORWARDED: &str = "Forwarded";

/// Which of the three it is, then its bytes.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => check_proxy(input.rest()),
        1 => check_forwarded(input),
        _ => check_origin(input),
    }
}

/// A header is the same however it is split, is what a reader by words and offsets says, and nothing waits for ever.
fn check_proxy(bytes: &[u8]) {
    let whole = proxy::parse(bytes);
    for cut in 0..bytes.len() {
        match (proxy::parse(&bytes[..cut]), whole) {
            (Ok(None), Ok(Some(header))) => assert!(cut < header.len, "{cut} bytes are enough"),
            (Ok(None), _) => assert!(cut < HEADER_BYTES_MAX, "more is waited for after {cut} bytes"),
            (Ok(Some(part)), Ok(Some(header))) => assert_eq!(part, header, "of {cut} bytes"),
            (Err(part), Err(error)) => assert_eq!(part, error),
            (part, whole) => panic!("of {cut} bytes {part:?}, of all {whole:?}"),
        }
    }
    if whole == Ok(None) {
        assert!(bytes.len() < HEADER_BYTES_MAX, "more is waited for");
    } else {
        assert_eq!(whole.ok().flatten(), reference_line(bytes).or_else(|| reference_binary(bytes)));
    }
    if let Some(octets) = bytes.first_chunk::<16>() {
        check_proxied(IpAddr::from(*octets).to_canonical());
        check_proxied(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into());
    }
}

/// An address that a proxy writes is the one that is read.
fn check_proxied(source: IpAddr) {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!("PROXY {family} {source} {source} 1 65535\r\n");
    let header = ProxyHeader { len: line.len(), source: Some(source) };
    assert_eq!(proxy::parse(line.as_bytes()), Ok(Some(header)), "{line:?}");
}

fn reference_line(bytes: &[u8]) -> Option<ProxyHeader> {
    let end = bytes.iter().take(107).position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(bytes[..end].strip_suffix(b"\r")?).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let is_port = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok();
    let source = match words[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, from, to] => {
            let [source, target]: [IpAddr; 2] = [source.parse().ok()?, target.parse().ok()?];
            let is_good = |address: IpAddr| address.is_ipv4() == (family == "TCP4");
            if !is_good(source) || !is_good(target) || ![from, to].iter().all(is_port) {
                return None;
            }
            Some(source.to_canonical())
        }
        _ => return None,
    };
    Some(ProxyHeader { len: end + 1, source })
}

fn reference_binary(bytes: &[u8]) -> Option<ProxyHeader> {
    let rest = bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n")?;
    let [command @ 0x20..=0x21, family, high, low, rest @ ..] = rest else { return None };
    let body_len = usize::from(*high) * 256 + usize::from(*low);
    let body = rest.get(..body_len).filter(|_| 16 + body_len <= 4_096)?;
    let source = match (command, family) {
        (0x21, 0x11) => Some(IpAddr::from(*body.get(..12)?.first_chunk::<4>()?)),
        (0x21, 0x21) => Some(IpAddr::from(*body.get(..36)?.first_chunk::<16>()?).to_canonical()),
        _ => None,
    };
    Some(ProxyHeader { len: 16 + body_len, source })
}

/// Proxies are 10.0.0.0/8 and fd00::/8.
fn is_proxy(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.octets()[0] == 0xfd,
    }
}

/// The name of the header and the peer, then lines between zero bytes.
fn check_forwarded(mut input: Input<'_>) {
    let name = input.pick(&["X-Forwarded-For", FORWARDED, "forwarded", "X-Real-IP"]);
    let proxies = ["10.0.0.1", "fd00::1", "192.0.2.1"];
    let peer: IpAddr = input.pick(&proxies).parse().expect("an address");
    let lines: Vec<&[u8]> = parts(input.rest()).take(TEXTS_MAX).collect();
    let read = |lines: &[&[u8]]| client_address(lines.iter().copied(), name, peer, is_proxy);
    let found = read(&lines);
    if !is_proxy(peer) {
        assert_eq!(found, Ok(peer), "what a stranger says is not even read");
        return;
    }
    assert_eq!(found, reference_client(&lines, name, peer), "the client");
    let Ok(client) = found else { return };
    assert_eq!(client, client.to_canonical());
    assert_eq!(read(&[lines.join(&b","[..]).as_slice()]), found, "in one line");
    for from in 0..lines.len() {
        // Whatever stands before the first address that no proxy has is hearsay.
        match read(&lines[from..]) {
            Ok(part) if !is_proxy(part) => assert_eq!(client, part, "moved by the lines before {from}"),
            Ok(_) => {}
            Err(Malformed) => panic!("lines from {from} are malformed, and all are not"),
        }
    }
}

fn reference_client(lines: &[&[u8]], name: &str, peer: IpAddr) -> Result<IpAddr, Malformed> {
    let mut hops = Vec::new();
    for line in lines {
        if name.eq_ignore_ascii_case(FORWARDED) {
            for element in split_unquoted(line, b',') {
                hops.push(reference_element(element)?);
            }
        } else {
            hops.extend(line.split(|byte| *byte == b',').map(reference_address));
        }
    }
    let mut client = peer;
    while is_proxy(client) {
        match hops.pop() {
            Some(Some(hop)) => client = hop,
            _ => break,
        }
    }
    Ok(client)
}

/// What is between separators that stand in no quoted string.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut found, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            byte if *byte == separator && !is_quoted => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

fn reference_element(element: &[u8]) -> Result<Option<IpAddr>, Malformed> {
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    let mut hop = None;
    for pair in split_unquoted(element, b';') {
        let pair = pair.trim_ascii();
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|byte| *byte == b'=').ok_or(Malformed)?;
        let (name, value) = (&pair[..at], &pair[at + 1..]);
        let value = match value {
            [b'"', quoted @ ..] => unquote(quoted).ok_or(Malformed)?,
            _ => value.to_vec(),
        };
        let is_quoted = pair[at + 1..].starts_with(b"\"");
        let is_value = |byte: &u8| is_token(byte) || b":[]".contains(byte);
        if name.is_empty() || !name.iter().all(is_token) || !(is_quoted || value.iter().all(is_value)) {
            return Err(Malformed);
        }
        if name.eq_ignore_ascii_case(b"for") {
            hop = reference_address(&value);
        }
    }
    Ok(hop)
}

/// What is quoted, its closing quote being the last byte.
fn unquote(mut quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match quoted {
            b"\"" => return Some(text),
            [b'"', ..] | [] | [b'\\'] => return None,
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                text.push(*byte);
                quoted = rest;
            }
        }
    }
}

fn reference_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t', '\n', '\r', '\x0c']);
    let address = match text.strip_prefix('[') {
        Some(rest) if rest.ends_with(']') => IpAddr::V6(rest.trim_end_matches(']').parse().ok()?),
        _ => text.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip())).ok()?,
    };
    // One bracket each.
    (text.matches(']').count() <= 1).then(|| address.to_canonical())
}

/// Whether an origin is needed; then an origin and patterns between zero bytes.
fn check_origin(mut input: Input<'_>) {
    let required = input.byte() & 1 == 1;
    let mut texts = parts(input.rest());
    let origin = texts.next().unwrap_or_default();
    let written: Vec<_> = texts.take(TEXTS_MAX).map(String::from_utf8_lossy).collect();
    let mut allowed = Vec::new();
    let mut expected = false;
    for text in &written {
        let pattern = OriginPattern::parse(text);
        let reference = reference_origin(text, true);
        assert_eq!(pattern.is_ok(), reference.is_some(), "{text:?} is {pattern:?}");
        let (Ok(pattern), Some(reference)) = (pattern, reference) else { continue };
        assert_eq!(OriginPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "written anew");
        let found = Origins { allowed: vec![pattern.clone()], required }.allow([origin].into_iter());
        let stands_for = std::str::from_utf8(origin).is_ok_and(|origin| reference.stands_for(origin));
        assert_eq!(found, stands_for, "{pattern} and {:?}", origin.escape_ascii().to_string());
        expected |= found;
        allowed.push(pattern);
    }
    let is_open = allowed.is_empty();
    let origins = Origins { allowed, required };
    assert_eq!(origins.allow([origin].into_iter()), expected || is_open, "one of several");
    assert_eq!(origins.allow([origin; 2].into_iter()), is_open, "two origins are none");
    assert_eq!(origins.allow([].into_iter()), !required);
}

/// An origin or a pattern by its labels, which of an IPv6 address is one.
#[derive(Debug, PartialEq, Eq)]
enum Reference {
    Null,
    Host { scheme: String, labels: Vec<String>, port: Option<u16> },
}

impl Reference {
    fn stands_for(&self, origin: &str) -> bool {
        let Some(origin) = reference_origin(origin, false).filter(|_| origin.len() <= 512) else {
            return false;
        };
        match (self, &origin) {
            (
                Self::Host { scheme, labels, port },
                Self::Host { scheme: other_scheme, labels: other_labels, port: other_port },
            ) => {
                let mut pairs = labels.iter().zip(other_labels);
                (scheme, port, labels.len()) == (other_scheme, other_port, other_labels.len())
                    && pairs.all(|(label, other)| label == "*" || label == other)
            }
            _ => *self == origin,
        }
    }
}

/// With a wildcard for the first of several labels where one may stand.
fn reference_origin(text: &str, is_pattern: bool) -> Option<Reference> {
    let text = text.to_ascii_lowercase();
    if text == "null" {
        return Some(Reference::Null);
    }
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    if !scheme.chars().next()?.is_ascii_alphabetic() || !scheme.chars().all(is_scheme) {
        return None;
    }
    let (labels, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (vec![format!("[{address}]")], port)
        }
        None => {
            let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
            let labels: Vec<String> = host.split('.').map(str::to_owned).collect();
            let (first, others) = labels.split_first()?;
            let is_digit = |byte: u8| byte.is_ascii_digit();
            let is_wild = is_pattern && first == "*" && !others.last()?.bytes().all(is_digit);
            let is_character = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let is_label = |label: &String| !label.is_empty() && label.bytes().all(is_character);
            if !(is_wild || is_label(first)) || !others.iter().all(is_label) {
                return None;
            }
            (labels, port)
        }
    };
    let is_digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => None,
        Some(port) => Some(Some(port).filter(|port| is_digits(port))?.parse::<u16>().ok()?),
    };
    let is_usual = match scheme {
        "http" | "ws" => port == Some(80),
        "https" | "wss" => port == Some(443),
        _ => false,
    };
    Some(Reference::Host { scheme: scheme.to_owned(), labels, port: port.filter(|_| !is_usual) })
}
