//! permessage-deflate (RFC 7692): what is agreed on, and the two transformations.
//!
//! Always without context takeover in both directions: a compressed message depends on nothing that was sent before
//! it, so one form serves every connection that agreed, and no connection keeps a window. Compressors and inflaters
//! are the caller's, to be used again from message to message.
//!
//! Must never allocate by a declared length, nor inflate beyond the caller's bound.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::frame::{self, HEADER_BYTES_MAX, OpCode};
use crate::message::Violation;

/// Chosen by measurement, see `docs/decisions/0011-deflate-by-zlib-rs.md`.
const LEVEL: u32 = 2;
/// The window we compress with. One form of a message serves all, so nobody gets a smaller one.
const WINDOW_BITS: u8 = 15;
/// Every message ends with these bytes, which are not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// The tail, and a last empty block: a stream that does not come to its end there was cut off or is corrupt.
const TAIL_AND_LAST_BLOCK: [u8; 9] = [0, 0, 0xFF, 0xFF, 1, 0, 0, 0xFF, 0xFF];
/// What follows a payload whose sender marked its own last block (RFC 7692 §7.2.3.4).
const PADDING: [u8; 1] = [0];
/// First allocation for an inflated message, bytes: four times its payload, but within these and the caller's bound.
const INFLATED_AT_FIRST_MIN: usize = 256;
const INFLATED_AT_FIRST_MAX: usize = 16 << 10;
/// Scratch a compressor keeps from message to message, bytes.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

/// What was agreed on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    names_server_window: bool,
}

impl Agreement {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    ///
    /// Neither side takes its context over, whatever the client asked for (RFC 7692 §7.1.1). A window is only named
    /// to a client that named one, as it must be (§7.1.2.1).
    pub fn header_value(self) -> &'static str {
        if self.names_server_window {
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover; server_max_window_bits=15"
        } else {
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
        }
    }
}

/// The first offer that can be accepted in the values of `Sec-WebSocket-Extensions`, in order of preference.
///
/// An offer with an unknown, repeated or malformed parameter is declined, as is one that wants a server's window of
/// less than 15 bits (RFC 7692 §7.1, §7.1.2.1).
pub fn negotiate<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Agreement> {
    lines.into_iter().find_map(|line| split_unquoted(line, b',').find_map(accept))
}

fn accept(extension: &[u8]) -> Option<Agreement> {
    let mut parts = split_unquoted(extension, b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut seen = [false; 4];
    for part in parts {
        let index = acceptable_parameter(part)?;
        if std::mem::replace(&mut seen[index], true) {
            return None;
        }
    }
    let [.., names_server_window] = seen;
    Some(Agreement { names_server_window })
}

/// A number for each parameter that is known and whose value can be obeyed.
fn acceptable_parameter(part: &[u8]) -> Option<usize> {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let name = halves.next()?.trim_ascii_end().to_ascii_lowercase();
    let value = halves.next().map(<[u8]>::trim_ascii_start);
    match (&name[..], value) {
        (b"client_no_context_takeover", None) => Some(0),
        (b"server_no_context_takeover", None) => Some(1),
        // Whatever window the client uses, ours is as large.
        (b"client_max_window_bits", None) => Some(2),
        (b"client_max_window_bits", Some(bits)) => window_bits(bits).map(|_| 2),
        (b"server_max_window_bits", Some(bits)) => (window_bits(bits)? == WINDOW_BITS).then_some(3),
        _ => None,
    }
}

/// A value from 8 to 15 without a leading zero, in quotes or not (RFC 7692 §7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    match *bare {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// Splits a header line (RFC 6455 §9.1) where `separator` is not within quotes.
fn split_unquoted(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return byte == separator && !quoted,
        }
        false
    })
}

/// Compresses messages, one independent of the other.
#[derive(Debug)]
pub struct Compressor {
    stream: Compress,
    scratch: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { stream: Compress::new(Compression::new(LEVEL), false), scratch: Vec::new() }
    }
}

impl Compressor {
    /// The compressed form of a whole, final, plain data frame of the server: a whole frame with RSV1, its capacity
    /// exactly its length. `None` when it is not smaller than `frame`.
    pub fn compress(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (header_len, _) = frame::frame_len(frame)?;
        let opcode = OpCode::of_first_byte(frame[0])?;
        let payload = frame.get(header_len..)?;
        let compressed = self.deflate(payload)?;
        let mut out = Vec::with_capacity(HEADER_BYTES_MAX + compressed.len());
        frame::encode_header(&mut out, opcode, compressed.len(), true);
        out.extend_from_slice(compressed);
        out.shrink_to_fit();
        (out.len() < frame.len()).then_some(out)
    }

    /// The payload without its tail, in scratch; `None` when it does not fit what it had before.
    fn deflate(&mut self, payload: &[u8]) -> Option<&[u8]> {
        let Self { stream, scratch } = self;
        stream.reset();
        scratch.clear();
        scratch.shrink_to(SCRATCH_BYTES_MAX);
        scratch.reserve(payload.len() + TAIL.len());
        stream.compress_vec(payload, scratch, FlushCompress::Sync).expect("a stream that was just reset");
        // Output that fills the buffer may not be all there is.
        let is_whole = stream.total_in() == payload.len() as u64 && scratch.len() < scratch.capacity();
        if is_whole { scratch.strip_suffix(&TAIL) } else { None }
    }
}

/// Inflates messages, one independent of the other.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    messages: u64,
    bytes: u64,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), messages: 0, bytes: 0 }
    }
}

impl Inflater {
    /// Messages inflated so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes that came out so far, those of messages that were refused included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The message of a compressed payload.
    ///
    /// Memory grows with what comes out, to at most one byte more than `bytes_max`, whatever the payload says.
    ///
    /// # Errors
    /// [`Violation::MessageTooBig`] beyond `bytes_max`, [`Violation::InvalidDeflate`] when the payload is no DEFLATE
    /// stream, looks back beyond its beginning or stops before its end.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
        // A sender that has nothing to say sends one byte (RFC 7692 §7.2.3.6); nothing at all says the same.
        if payload.is_empty() {
            return Ok(Vec::new());
        }
        self.stream.reset(false);
        let first = payload.len().saturating_mul(4).clamp(INFLATED_AT_FIRST_MIN, INFLATED_AT_FIRST_MAX);
        let mut out = Vec::with_capacity(first.min(bytes_max.saturating_add(1)));
        let result = self.run(payload, &mut out, bytes_max);
        self.bytes += out.len() as u64;
        self.messages += u64::from(result.is_ok());
        result.map(|()| out)
    }

    /// Inflates all of a payload and sees that it ends as it should.
    fn run(&mut self, payload: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Violation> {
        if let Some(rest) = self.feed(payload, out, bytes_max)? {
            return if rest.is_empty() || rest == PADDING { Ok(()) } else { Err(Violation::InvalidDeflate) };
        }
        match self.feed(&TAIL_AND_LAST_BLOCK, out, bytes_max)? {
            Some([]) => Ok(()),
            _ => Err(Violation::InvalidDeflate),
        }
    }

    /// Feeds all of `input`; what is left of it when the stream ended before that.
    fn feed<'i>(
        &mut self,
        mut input: &'i [u8],
        out: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<Option<&'i [u8]>, Violation> {
        loop {
            if out.len() > bytes_max {
                return Err(Violation::MessageTooBig);
            }
            if out.len() == out.capacity() {
                out.reserve_exact(out.len().max(1).min(bytes_max.saturating_add(1) - out.len()));
            }
            let (fed, had) = (self.stream.total_in(), out.len());
            let status = self.stream.decompress_vec(input, out, FlushDecompress::None);
            let status = status.map_err(|_| Violation::InvalidDeflate)?;
            let used = (self.stream.total_in() - fed) as usize;
            input = &input[used..];
            let is_stuck = used == 0 && out.len() == had;
            match status {
                Status::StreamEnd if out.len() > bytes_max => return Err(Violation::MessageTooBig),
                Status::StreamEnd => return Ok(Some(input)),
                // With room left for output, all that the input says is out.
                Status::Ok | Status::BufError if out.len() < out.capacity() => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    if is_stuck {
                        return Err(Violation::InvalidDeflate);
                    }
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
