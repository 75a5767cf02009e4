//! The PROXY protocol, versions 1 and 2: a header before the first byte of a connection, by which a proxy says for
//! whom it connects (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Pure and bounded: a header is refused at the first byte that cannot be one, and a declared length beyond
//! [`HEADER_BYTES_MAX`] at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// Bytes of the longest header that is read: one of version 2 with some KiB of TLVs, such as a client certificate's
/// subject. The longest of version 1 has 107.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// Bytes of the longest line of version 1, its CRLF included (§2.1).
const LINE_BYTES_MAX: usize = 107;
const LINE_START: &[u8] = b"PROXY ";
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Bytes of it; what follows is the connection's own.
    pub len: usize,
    /// Where the connection comes from. `None`: the proxy speaks for itself (`LOCAL`, a health check), or does not
    /// know, or the client did not come by TCP over IP.
    pub source: Option<IpAddr>,
}

/// What does not begin with a PROXY header, or with one beyond the bounds. Close the connection: nothing after it
/// can be trusted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a PROXY protocol header")]
pub struct NotProxied;

/// Reads the header at the front of `buf`; `None` when more bytes are needed, of which there are at most
/// [`HEADER_BYTES_MAX`] in all.
///
/// # Errors
/// It is none.
pub fn parse(buf: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    if begins(buf, LINE_START) {
        read_line(buf)
    } else if begins(buf, &SIGNATURE) {
        read_binary(buf)
    } else {
        Err(NotProxied)
    }
}

/// Whether `buf` begins with `start`, as far as it goes.
fn begins(buf: &[u8], start: &[u8]) -> bool {
    let len = buf.len().min(start.len());
    buf[..len] == start[..len]
}

fn read_line(buf: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    let window = &buf[..buf.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return if window.len() < LINE_BYTES_MAX { Ok(None) } else { Err(NotProxied) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(NotProxied)?;
    let line = std::str::from_utf8(line).map_err(|_| NotProxied)?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(NotProxied);
    let source = match word()? {
        // What follows on the line is to be ignored (§2.1).
        "UNKNOWN" => None,
        family @ ("TCP4" | "TCP6") => {
            let [source, target] = [word()?, word()?].map(|text| read_address(family, text));
            let ports = [word()?, word()?];
            if target.is_none() || !ports.into_iter().all(is_port) || words.next().is_some() {
                return Err(NotProxied);
            }
            Some(source.ok_or(NotProxied)?)
        }
        _ => return Err(NotProxied),
    };
    Ok(Some(ProxyHeader { len: end + 1, source }))
}

fn read_address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        _ => text.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical()),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn read_binary(buf: &[u8]) -> Result<Option<ProxyHeader>, NotProxied> {
    let local = match buf.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(NotProxied),
    };
    let Some(&[family, high, low]) = buf.get(13..FIXED_BYTES) else { return Ok(None) };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_BYTES + body_len;
    // The addresses, after which come TLVs, which are skipped.
    let addresses_len = match family {
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    };
    if len > HEADER_BYTES_MAX || (!local && body_len < addresses_len) {
        return Err(NotProxied);
    }
    let Some(body) = buf.get(FIXED_BYTES..len) else { return Ok(None) };
    let source = match (local, family) {
        (false, 0x11) => {
            let bytes: [u8; 4] = body[..4].try_into().expect("checked above");
            Some(IpAddr::from(bytes))
        }
        (false, 0x21) => {
            let bytes: [u8; 16] = body[..16].try_into().expect("checked above");
            Some(IpAddr::from(bytes).to_canonical())
        }
        // A health check, or a family and transport that this is no server for (§2.2): the peer's own address.
        _ => None,
    };
    Ok(Some(ProxyHeader { len, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &len, body].concat()
    }

    /// The header is read whole, followed by others' bytes and byte by byte.
    fn expect(label: &str, bytes: &[u8], source: Option<&str>) {
        let source = source.map(|text| text.parse().expect("an address"));
        let header = ProxyHeader { len: bytes.len(), source };
        assert_eq!(parse(bytes), Ok(Some(header)), "{label}");
        assert_eq!(parse(&[bytes, b"GET /"].concat()), Ok(Some(header)), "{label}, with more");
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), Ok(None), "{label}, {len} bytes of it");
        }
    }

    #[test]
    fn headers_of_both_versions_tell_the_source() {
        for (line, source) in [
            ("PROXY TCP4 203.0.113.7 10.0.0.1 56324 443\r\n", Some("203.0.113.7")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n", Some("2001:db8::7")),
            ("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", Some("203.0.113.7")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever\r\n", None),
        ] {
            expect(line, line.as_bytes(), source);
        }
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 20]].concat();
        let tlvs = [&v4[..], &[0x20, 0, 3, 1, 0, 0], &[0xee; 2_000]].concat();
        expect("tcp4", &binary(0x21, 0x11, &v4), Some("203.0.113.7"));
        expect("tcp6", &binary(0x21, 0x21, &v6), Some("::1"));
        expect("tlvs", &binary(0x21, 0x11, &tlvs), Some("203.0.113.7"));
        expect("local", &binary(0x20, 0x00, &[]), None);
        expect("local that names an address", &binary(0x20, 0x11, &v4), None);
        expect("local with less than an address", &binary(0x20, 0x11, &v4[..3]), None);
        expect("unspecified", &binary(0x21, 0x00, &[1, 2, 3]), None);
        expect("udp", &binary(0x21, 0x12, &v4), None);
        expect("unix", &binary(0x21, 0x31, &[0; 216]), None);
        expect(
            "as long as may be",
            &binary(0x21, 0x11, &[0; HEADER_BYTES_MAX - FIXED_BYTES]),
            Some("0.0.0.0"),
        );
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        let v4 = [0; 12];
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX));
        let mut too_long = binary(0x21, 0x11, &[]);
        too_long[14..].copy_from_slice(&(4_081u16).to_be_bytes());
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"P\r",
            b"proxy ",
            b"\r\n\r\n\0\r\nQUIX",
            b"PROXY\tTCP4",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 2 3\r\n",
            b"PROXY TCP4 203.0.113.7  10.0.0.1 1 2\r\n",
            b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
            b"PROXY TCP6 203.0.113.7 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.07 10.0.0.1 1 2\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 -1 2\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 +1 2\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 1 65536\r\n",
            b"PROXY UDP4 203.0.113.7 10.0.0.1 1 2\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 \xff\r\n",
            long.as_bytes(),
            &long.as_bytes()[..LINE_BYTES_MAX],
            &binary(0x22, 0x11, &v4),
            &binary(0x11, 0x11, &v4),
            &binary(0x21, 0x11, &v4[..11]),
            &binary(0x21, 0x21, &v4),
            &too_long,
        ] {
            assert_eq!(parse(bytes), Err(NotProxied), "{}", bytes.escape_ascii());
        }
    }
}
