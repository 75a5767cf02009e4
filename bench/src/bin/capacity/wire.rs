//! Bytes on the wire, from the formats.
//!
//! Pure. Names of events and rooms are taken to be as long as those of `loadgen`; a longer name is so many bytes
//! more in every frame, which `--size` can stand in for.

/// `{"event":"loadgen","data":` and `}`.
const EVENT_BYTES: f64 = 27.0;
/// `{"serverId":"emitter","type":"room","target":"loadgen-1234","event":"loadgen","data":` and `}`.
const ENVELOPE_BYTES: f64 = 86.0;
/// `PUBLISH` of a channel `ws:room:loadgen-1234` in RESP, without the message.
const PUBLISH_BYTES: f64 = 60.0;
/// `pmessage` with pattern `ws:room:*` and that channel in RESP, without the message.
const PMESSAGE_BYTES: f64 = 76.0;
/// IPv4 20, TCP 20, its timestamps 12 (RFC 7323 §3.2).
pub(crate) const SEGMENT_HEADER_BYTES: f64 = 52.0;
/// Preamble 8, header 14, checksum 4, gap 12 (IEEE 802.3).
pub(crate) const ETHERNET_BYTES: f64 = 38.0;
/// Payload of a full segment at an MTU of 1,500.
pub(crate) const SEGMENT_BYTES_MAX: f64 = 1448.0;

/// A publication as a WebSocket frame of a server (RFC 6455 §5.2).
pub(crate) fn frame_bytes(data_bytes: f64) -> f64 {
    let payload = EVENT_BYTES + data_bytes;
    let header = match payload {
        small if small < 126.0 => 2.0,
        medium if medium < 65_536.0 => 4.0,
        _ => 10.0,
    };
    header + payload
}

/// What a send of `payload` bytes puts on an Ethernet link.
pub(crate) fn link_bytes(payload: f64) -> f64 {
    payload + (payload / SEGMENT_BYTES_MAX).ceil().max(1.0) * (SEGMENT_HEADER_BYTES + ETHERNET_BYTES)
}

/// A publication on its way into Redis.
pub(crate) fn redis_in_bytes(data_bytes: f64) -> f64 {
    PUBLISH_BYTES + ENVELOPE_BYTES + data_bytes
}

/// A publication on its way from Redis to one node.
pub(crate) fn redis_out_bytes(data_bytes: f64) -> f64 {
    PMESSAGE_BYTES + ENVELOPE_BYTES + data_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_grow_a_header_where_rfc_6455_says_so() {
        for (data, frame) in
            [(1.0, 30.0), (98.0, 127.0), (99.0, 130.0), (65_508.0, 65_539.0), (65_509.0, 65_546.0)]
        {
            assert_eq!(frame_bytes(data), frame, "{data}");
        }
    }

    #[test]
    fn a_send_pays_headers_for_every_segment() {
        for (payload, link) in [(1.0, 91.0), (1448.0, 1538.0), (1449.0, 1629.0)] {
            assert_eq!(link_bytes(payload), link, "{payload}");
        }
    }
}
