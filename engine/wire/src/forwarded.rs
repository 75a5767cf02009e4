//! Whose request a proxy passed on: `X-Forwarded-For` and its likes, and `Forwarded` (RFC 7239).
//!
//! Anybody can send these headers. Each proxy appends the address it got the request from, so the list is believed
//! from its end, as long as it is known proxies that wrote it: the first address from the right that is no known
//! proxy is the client, and what stands left of it is hearsay.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// A `Forwarded` header that cannot be taken apart, so that nobody knows what the proxy wrote in it: an open quote
/// of the client's would swallow the proxy's part, and of two `for` in one element (RFC 7239 §4 allows one) either may be
/// the client's.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("malformed Forwarded header")]
pub struct Malformed;

/// Where a request comes from that `peer` passed on: `peer` itself unless it is a known proxy.
///
/// `name` is the header that the proxies write, `Forwarded` for RFC 7239, and `values` are its lines in order. An entry that is no address (`unknown`, an
/// obfuscated name) ends the search at the proxy that wrote it. Work is linear in the header.
///
/// # Errors
/// `peer` is a known proxy and its `Forwarded` makes no sense. Refuse the request.
pub fn client_address<'b>(
    values: impl Iterator<Item = &'b [u8]>,
    name: &str,
    peer: IpAddr,
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Result<IpAddr, Malformed> {
    if !is_proxy(peer) {
        return Ok(peer);
    }
    let mut hops: Vec<Option<IpAddr>> = Vec::new();
    for value in values {
        if name.eq_ignore_ascii_case("forwarded") {
            read_forwarded(value, &mut hops)?;
        } else {
            hops.extend(value.split(|byte| *byte == b',').map(address));
        }
    }
    let mut client = peer;
    for hop in hops.into_iter().rev() {
        let Some(hop) = hop.filter(|_| is_proxy(client)) else { break };
        client = hop;
    }
    Ok(client)
}

/// An address with or without a port, IPv6 with or without brackets.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(IpAddr::to_canonical(&address))
}

/// Appends the `for` of each element, `None` where there is no address.
fn read_forwarded(value: &[u8], hops: &mut Vec<Option<IpAddr>>) -> Result<(), Malformed> {
    let mut rest = value;
    loop {
        let (mut hop, mut named) = (None, false);
        // Pairs of one element, separated by `;`.
        let end = loop {
            rest = rest.trim_ascii_start();
            let name_len = rest.iter().take_while(|byte| is_token(**byte)).count();
            let (name, after) = rest.split_at(name_len);
            if name.is_empty() {
                // An empty element or pair is allowed by the list syntax (RFC 9110 §5.6.1).
                rest = after;
            } else {
                let after = after.strip_prefix(b"=").ok_or(Malformed)?;
                let (text, after) = read_value(after)?;
                if name.eq_ignore_ascii_case(b"for") {
                    if std::mem::replace(&mut named, true) {
                        return Err(Malformed);
                    }
                    hop = address(&text);
                }
                rest = after.trim_ascii_start();
            }
            match rest.split_first() {
                None => break None,
                Some((b';', after)) => rest = after,
                Some((b',', after)) => break Some(after),
                Some(_) => return Err(Malformed),
            }
        };
        hops.push(hop);
        match end {
            Some(after) => rest = after,
            None => return Ok(()),
        }
    }
}

/// A token or quoted string at the front, and what follows it.
fn read_value(input: &[u8]) -> Result<(Vec<u8>, &[u8]), Malformed> {
    let Some(quoted) = input.strip_prefix(b"\"") else {
        // A port makes it no token (RFC 7239 §6), and yet some write it so.
        let is_value = |byte: &u8| is_token(*byte) || matches!(byte, b':' | b'[' | b']');
        let len = input.iter().take_while(|byte| is_value(byte)).count();
        return Ok((input[..len].to_vec(), &input[len..]));
    };
    let mut text = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((text, &quoted[at + 1..])),
            b'\\' => text.push(*bytes.next().ok_or(Malformed)?.1),
            byte => text.push(*byte),
        }
    }
    Err(Malformed)
}

/// A character of a token (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, parse_head};

    const XFF: &str = "X-Forwarded-For";

    /// Proxies are 10.0.0.0/8 and fd00::/8.
    fn is_proxy(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.octets()[0] == 0xfd,
        }
    }

    fn client(name: &str, peer: &str, lines: &str) -> Result<String, Malformed> {
        let bytes = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let head = parse_head(bytes.as_bytes(), &HeadLimits::default()).expect("legal").expect("whole");
        let peer = peer.parse().expect("an address");
        client_address(head.values(name), name, peer, is_proxy).map(|address| address.to_string())
    }

    #[test]
    fn a_list_is_believed_from_its_end_as_far_as_proxies_wrote_it() {
        for (peer, lines, expected) in [
            ("192.0.2.1", "X-Forwarded-For: 203.0.113.7\r\n", "192.0.2.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
            ("10.0.0.1", "x-forwarded-for: 198.51.100.9, 203.0.113.7\r\n", "203.0.113.7"),
            ("10.0.0.1", "X-Forwarded-For: 198.51.100.9, 203.0.113.7, 10.0.0.2\r\n", "203.0.113.7"),
            (
                "10.0.0.1",
                "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-For: 203.0.113.7,10.9.9.9\r\n",
                "203.0.113.7",
            ),
            ("10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3"),
            ("10.0.0.1", "X-Forwarded-For: 203.0.113.7:4711\r\n", "203.0.113.7"),
            ("10.0.0.1", "X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7"),
            ("10.0.0.1", "X-Forwarded-For: [2001:db8::7]:443\r\n", "2001:db8::7"),
            ("10.0.0.1", "X-Forwarded-For: [2001:db8::7]\r\n", "2001:db8::7"),
            ("fd00::1", "X-Forwarded-For: ::ffff:203.0.113.7\r\n", "203.0.113.7"),
            ("10.0.0.1", "X-Forwarded-For: 203.0.113.7, unknown\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: 203.0.113.7, unknown, 10.0.0.2\r\n", "10.0.0.2"),
            ("10.0.0.1", "X-Forwarded-For: 203.0.113.7,\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Forwarded-For: ', \" or 1=1\r\n", "10.0.0.1"),
            ("10.0.0.1", "X-Real-IP: 203.0.113.7\r\n", "10.0.0.1"),
        ] {
            assert_eq!(client(XFF, peer, lines).as_deref(), Ok(expected), "{peer} {lines:?}");
        }
        assert_eq!(
            client("cf-connecting-ip", "10.0.0.1", "CF-Connecting-IP: 203.0.113.7\r\n").as_deref(),
            Ok("203.0.113.7")
        );
    }

    #[test]
    fn forwarded_is_taken_apart_as_rfc_7239_says() {
        for (value, expected) in [
            ("for=203.0.113.7", Ok("203.0.113.7")),
            ("For=203.0.113.7;proto=http;by=10.0.0.1", Ok("203.0.113.7")),
            ("proto=https; for=203.0.113.7 , for=10.0.0.2", Ok("203.0.113.7")),
            ("for=198.51.100.9, for=\"[2001:db8:cafe::17]:4711\"", Ok("2001:db8:cafe::17")),
            ("for=\"203.0.113.7:80\"", Ok("203.0.113.7")),
            ("for=203.0.113.7:80", Ok("203.0.113.7")),
            ("for=\"203\\.0.113.7\"", Ok("203.0.113.7")),
            ("for=\"198.51.100.9, for=198.51.100.8\", for=203.0.113.7", Ok("203.0.113.7")),
            ("for=203.0.113.7, for=unknown", Ok("10.0.0.1")),
            ("for=203.0.113.7, for=_hidden", Ok("10.0.0.1")),
            ("for=203.0.113.7, proto=http", Ok("10.0.0.1")),
            ("for=203.0.113.7, ", Ok("10.0.0.1")),
            ("for=203.0.113.7;", Ok("203.0.113.7")),
            ("for=203.0.113.7;for=198.51.100.9", Err(Malformed)),
            ("for=unknown;proto=https;For=203.0.113.7", Err(Malformed)),
            ("for=198.51.100.9;for=198.51.100.9, for=203.0.113.7", Err(Malformed)),
            ("for=\"open, for=203.0.113.7", Err(Malformed)),
            ("for=\"open\\", Err(Malformed)),
            ("for 203.0.113.7", Err(Malformed)),
            ("for=203.0.113.7 for=10.0.0.2", Err(Malformed)),
            ("=203.0.113.7", Err(Malformed)),
            ("for=203.0.113.7\u{fc}", Err(Malformed)),
        ] {
            let found = client("Forwarded", "10.0.0.1", &format!("Forwarded: {value}\r\n"));
            assert_eq!(found.as_deref(), expected.as_ref().map(|text| *text), "{value:?}");
        }
        let untrusted = client("Forwarded", "192.0.2.1", "Forwarded: for=\"open\r\n");
        assert_eq!(untrusted.as_deref(), Ok("192.0.2.1"), "not even read");
    }
}
