//! RFC 6455 §5.2 frame headers, whole server frames, and masking.
//!
//! Knows bytes, not rules: what a client may send when is decided in [`crate::message`]. Headers are read and
//! written by tungstenite; this file gives them the shape the rest of the server needs. Never allocates by a
//! declared length.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode as TungsteniteOpCode};

/// The longest header: two bytes, a 64-bit length and a mask.
pub const HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// The longest reason of a close frame: what a control frame holds beside the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// What a frame is for (RFC 6455 §5.2). Reserved opcodes have no variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    /// The next fragment of a message.
    Continuation,
    /// A text message or its first fragment.
    Text,
    /// A binary message or its first fragment.
    Binary,
    /// The closing handshake.
    Close,
    /// A question whether the peer lives.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl OpCode {
    /// The opcode in the first byte of a header, `None` when it is reserved.
    pub fn of_first_byte(byte: u8) -> Option<Self> {
        Self::from_tungstenite(TungsteniteOpCode::from(byte & 0x0F))
    }

    /// Whether the frame is a control frame (RFC 6455 §5.5).
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_tungstenite(opcode: TungsteniteOpCode) -> Option<Self> {
        Some(match opcode {
            TungsteniteOpCode::Data(Data::Continue) => Self::Continuation,
            TungsteniteOpCode::Data(Data::Text) => Self::Text,
            TungsteniteOpCode::Data(Data::Binary) => Self::Binary,
            TungsteniteOpCode::Control(Control::Close) => Self::Close,
            TungsteniteOpCode::Control(Control::Ping) => Self::Ping,
            TungsteniteOpCode::Control(Control::Pong) => Self::Pong,
            TungsteniteOpCode::Data(Data::Reserved(_)) | TungsteniteOpCode::Control(Control::Reserved(_)) => {
                return None;
            }
        })
    }

    fn to_tungstenite(self) -> TungsteniteOpCode {
        match self {
            Self::Continuation => TungsteniteOpCode::Data(Data::Continue),
            Self::Text => TungsteniteOpCode::Data(Data::Text),
            Self::Binary => TungsteniteOpCode::Data(Data::Binary),
            Self::Close => TungsteniteOpCode::Control(Control::Close),
            Self::Ping => TungsteniteOpCode::Control(Control::Ping),
            Self::Pong => TungsteniteOpCode::Control(Control::Pong),
        }
    }
}

/// The header of a client frame with a known opcode and a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHeader {
    /// Whether this is the last frame of its message.
    pub fin: bool,
    /// Whether RSV1 is set: the first frame of a compressed message (RFC 7692 §6).
    pub rsv1: bool,
    /// What the frame is for.
    pub opcode: OpCode,
    /// The masking key.
    pub mask: [u8; 4],
    /// Declared bytes of payload: a claim of the peer, any value of 64 bits.
    pub payload_len: u64,
    /// Bytes of the header itself.
    pub len: usize,
}

/// Reads the header of a client frame from the front of `bytes`.
///
/// `None`: incomplete, unmasked, or a reserved opcode. The caller has looked at the first two bytes (see
/// [`header_len`]) and refused the last two, so to it `None` means incomplete.
pub fn parse_client_header(bytes: &[u8]) -> Option<ClientHeader> {
    let mut cursor = Cursor::new(bytes);
    let (header, payload_len) = FrameHeader::parse(&mut cursor).ok()??;
    let FrameHeader { is_final: fin, rsv1, opcode, mask, .. } = header;
    let opcode = OpCode::from_tungstenite(opcode)?;
    // A position within `bytes`, so it fits.
    let len = cursor.position() as usize;
    Some(ClientHeader { fin, rsv1, opcode, mask: mask?, payload_len, len })
}

/// Bytes of a header, 2 to [`HEADER_BYTES_MAX`], told by its second byte.
pub fn header_len(second_byte: u8) -> usize {
    let length_bytes = match second_byte & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask_bytes = if second_byte & 0x80 != 0 { 4 } else { 0 };
    2 + length_bytes + mask_bytes
}

/// Header and payload length of the server frame at the front of `bytes`, `None` when the header is incomplete.
///
/// For clients: `bytes[header_len..header_len + payload_len]` is the payload.
pub fn frame_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let second_byte = *bytes.get(1)?;
    let header_len = header_len(second_byte);
    let header = bytes.get(..header_len)?;
    let payload_len = match second_byte & 0x7F {
        126 => u64::from(u16::from_be_bytes([header[2], header[3]])),
        127 => header[2..10].iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
        short => u64::from(short),
    };
    Some((header_len, usize::try_from(payload_len).unwrap_or(usize::MAX)))
}

/// Appends the header of a final server frame: unmasked, with the shortest form of the length.
pub fn encode_header(out: &mut Vec<u8>, opcode: OpCode, payload_len: usize, rsv1: bool) {
    write_header(out, &server_header(opcode, rsv1), payload_len);
}

/// A whole final server frame, its capacity exactly its length.
pub fn encode(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let header = server_header(opcode, false);
    let mut out = Vec::with_capacity(header.len(payload.len() as u64) + payload.len());
    write_header(&mut out, &header, payload.len());
    out.extend_from_slice(payload);
    out
}

/// A whole text message of the server in one frame.
pub fn text(payload: &str) -> Vec<u8> {
    encode(OpCode::Text, payload.as_bytes())
}

/// A final, unmasked text frame with a length of one byte (RFC 6455 §5.2).
pub(crate) const fn short_text_frame<const N: usize>(payload: &str) -> [u8; N] {
    assert!(payload.len() < 126 && N == payload.len() + 2, "the length needs more than one byte");
    let mut frame = [0; N];
    frame[0] = 0x81;
    frame[1] = payload.len() as u8;
    let mut at = 0;
    while at < payload.len() {
        frame[at + 2] = payload.as_bytes()[at];
        at += 1;
    }
    frame
}

/// A close frame of the server; without a code its payload is empty and `reason` is not sent.
///
/// A reason beyond [`CLOSE_REASON_BYTES_MAX`] is cut at a character.
pub fn close(code: Option<u16>, reason: &str) -> Vec<u8> {
    let Some(code) = code else { return encode(OpCode::Close, &[]) };
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    let mut out = Vec::with_capacity(2 + 2 + reason.len());
    encode_header(&mut out, OpCode::Close, 2 + reason.len(), false);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
    out
}

/// Whether a peer may put this code into a close frame (RFC 6455 §7.4).
///
/// 1004 to 1006 and 1015 are never on the wire and 1016 to 2999 are reserved. 1014 is registered with IANA.
pub fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a whole client frame: masked, with the shortest form of the length.
pub fn encode_masked(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], mask: [u8; 4], fin: bool) {
    let header = FrameHeader {
        is_final: fin,
        opcode: opcode.to_tungstenite(),
        mask: Some(mask),
        ..FrameHeader::default()
    };
    out.reserve(header.len(payload.len() as u64) + payload.len());
    write_header(out, &header, payload.len());
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask, 0);
}

/// Applies the masking key, which also removes it (RFC 6455 §5.3).
///
/// `offset` is the position of `data[0]` in the payload of its frame.
pub fn unmask(data: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = data.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

fn server_header(opcode: OpCode, rsv1: bool) -> FrameHeader {
    FrameHeader { rsv1, opcode: opcode.to_tungstenite(), ..FrameHeader::default() }
}

fn write_header(out: &mut Vec<u8>, header: &FrameHeader, payload_len: usize) {
    header.format(payload_len as u64, out).expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests;
