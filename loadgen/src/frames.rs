//! Server frames found in whatever pieces the socket hands over, without copying.
//!
//! Pure. Continuation frames are reported but not joined: what is counted and timed is the start of a message.

use shardcast_wire::frame::{self, OpCode};
use thiserror::Error;

/// The longest payload taken seriously; a longer claim means that we misread the stream.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// One whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What the frame is for.
    pub(crate) opcode: OpCode,
    /// Its payload.
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// What is at the front of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Part of a frame that has at least so many bytes.
    Partial(usize),
}

/// What no server may send (RFC 6455 §5).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    #[error("a masked frame")]
    Masked,
    #[error("a frame with reserved bits")]
    ReservedBits,
    #[error("a frame with a reserved opcode")]
    ReservedOpcode,
    #[error("a frame of impossible length")]
    TooLong,
}

/// Reads the frame at the front of `bytes`.
pub(crate) fn scan(bytes: &[u8]) -> Result<Scanned<'_>, FrameError> {
    let &[first, second, ..] = bytes else { return Ok(Scanned::Partial(2)) };
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    if first & 0x70 != 0 {
        return Err(FrameError::ReservedBits);
    }
    let opcode = OpCode::of_first_byte(first).ok_or(FrameError::ReservedOpcode)?;
    let Some((header_len, payload_len)) = frame::frame_len(bytes) else {
        return Ok(Scanned::Partial(frame::header_len(second)));
    };
    if payload_len > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    let len = header_len + payload_len;
    Ok(match bytes.get(header_len..len) {
        Some(payload) => Scanned::Frame(Frame { opcode, payload, len }),
        None => Scanned::Partial(len),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_at_every_split() {
        let texts = ["", "a", &"b".repeat(125), &"c".repeat(126), &"d".repeat(70_000)];
        for text in texts {
            let bytes = frame::text(text);
            for have in (0..bytes.len()).step_by(if bytes.len() > 300 { 997 } else { 1 }) {
                let Ok(Scanned::Partial(need)) = scan(&bytes[..have]) else {
                    panic!("{have} bytes are no frame")
                };
                assert!(have < need && need <= bytes.len(), "{need} of {} with {have}", bytes.len());
            }
            let whole = Frame { opcode: OpCode::Text, payload: text.as_bytes(), len: bytes.len() };
            assert_eq!(scan(&bytes), Ok(Scanned::Frame(whole)));
            let followed = [bytes.as_slice(), b"\x89\x00"].concat();
            assert_eq!(scan(&followed), Ok(Scanned::Frame(whole)), "followed by another");
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        let table: &[(&[u8], FrameError)] = &[
            (b"\x81\x80", FrameError::Masked),
            (b"\xc1\x00", FrameError::ReservedBits),
            (b"\x83\x00", FrameError::ReservedOpcode),
            (b"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", FrameError::TooLong),
        ];
        for (bytes, error) in table {
            assert_eq!(scan(bytes), Err(*error), "{bytes:x?}");
        }
    }
}
