//! Frames of one client into messages: fragments, UTF-8, control frames, and every rule that can be broken.
//!
//! Must never allocate by a declared length: memory grows with received bytes only.
//! Invariants: an idle [`Assembler`] is one null pointer; `message <= message_bytes_max` and
//! `fragments <= fragments_max` at every moment; work is linear in bytes received and inflated, however they are
//! split.
//! The answer depends on the bytes alone, never on how reads split them: rules are checked in the order in which
//! the bytes that break them arrive.
//!
//! Checks of a frame run in this order, which is also the order of Bun: mask, reserved bits, opcode, control
//! frame rules, fragmentation, size. Lengths longer than needed are accepted on data frames: the rule of
//! RFC 6455 §5.2 binds the sender, they harm nobody, and Bun accepts them.

use std::borrow::Cow;

use thiserror::Error;

use crate::close::{self, CloseCode};
use crate::deflate::Inflater;
use crate::frame::{self, CONTROL_BYTES_MAX, ClientHeader, HEADER_BYTES_MAX, OpCode};

/// Bounds of one inbound message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of payload, the sum of all fragments; exactly this many are accepted. Of a compressed message both
    /// forms count.
    pub message_bytes_max: usize,
    /// Frames a message may come in, at least 1. Empty ones count: they cost a peer six bytes each and us a turn.
    pub fragments_max: u32,
}

/// One whole thing a client said.
///
/// Borrowed from the input when it came in one piece, owned when it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A ping; the pong has the same payload, at most 125 bytes.
    Ping(Cow<'a, [u8]>),
    /// A pong, asked for or not.
    Pong(Cow<'a, [u8]>),
    /// A close frame with its code and reason, `None` when it was empty. Nothing after it counts.
    Close(Option<(u16, Cow<'a, str>)>),
}

/// How a client broke RFC 6455 or a limit. The caller sends the close frame and ends the connection.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.reason())]
pub enum Violation {
    /// A frame without a mask.
    UnmaskedFrame,
    /// RSV1 though no compression was negotiated, or not on the first frame of a message.
    UnexpectedRsv1,
    /// RSV2 or RSV3, which no extension we speak uses.
    UnexpectedRsv23,
    /// An opcode that RFC 6455 reserves.
    InvalidOpcode,
    /// A control frame without FIN.
    FragmentedControl,
    /// A control frame with more than 125 bytes.
    ControlTooBig,
    /// A continuation with nothing to continue.
    StrayContinuation,
    /// A new message before the last one ended.
    NestedMessage,
    /// More bytes than [`Limits::message_bytes_max`], told by the header alone unless they come out of a compressed
    /// message.
    MessageTooBig,
    /// More frames than [`Limits::fragments_max`].
    TooManyFragments,
    /// A compressed message that cannot be inflated.
    InvalidDeflate,
    /// A text message or close reason that is not UTF-8.
    InvalidUtf8,
    /// A close frame of one byte.
    InvalidClosePayload,
    /// A close code that must not be sent.
    InvalidCloseCode,
}

impl Violation {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every violation, in the order of [`Violation::index`].
    pub const ALL: [Self; 14] = [
        Self::UnmaskedFrame,
        Self::UnexpectedRsv1,
        Self::UnexpectedRsv23,
        Self::InvalidOpcode,
        Self::FragmentedControl,
        Self::ControlTooBig,
        Self::StrayContinuation,
        Self::NestedMessage,
        Self::MessageTooBig,
        Self::TooManyFragments,
        Self::InvalidDeflate,
        Self::InvalidUtf8,
        Self::InvalidClosePayload,
        Self::InvalidCloseCode,
    ];

    /// The place in an array of [`Violation::COUNT`] counters.
    pub fn index(self) -> usize {
        self as usize
    }

    /// What the server answers.
    pub fn close(self) -> &'static CloseCode {
        match self {
            Self::UnmaskedFrame => &close::UNMASKED_FRAME,
            Self::UnexpectedRsv1 => &close::UNEXPECTED_RSV1,
            Self::UnexpectedRsv23 => &close::UNEXPECTED_RSV23,
            Self::InvalidOpcode => &close::INVALID_OPCODE,
            Self::FragmentedControl => &close::FRAGMENTED_CONTROL,
            Self::ControlTooBig => &close::CONTROL_TOO_BIG,
            Self::StrayContinuation => &close::STRAY_CONTINUATION,
            Self::NestedMessage => &close::NESTED_MESSAGE,
            Self::MessageTooBig => &close::MESSAGE_TOO_BIG,
            Self::TooManyFragments => &close::TOO_MANY_FRAGMENTS,
            Self::InvalidDeflate => &close::INVALID_DEFLATE,
            Self::InvalidUtf8 => &close::INVALID_UTF8,
            Self::InvalidClosePayload => &close::INVALID_CLOSE_PAYLOAD,
            Self::InvalidCloseCode => &close::INVALID_CLOSE_CODE,
        }
    }

    /// The close code.
    pub fn close_code(self) -> u16 {
        self.close().code
    }

    /// The close reason.
    pub fn reason(self) -> &'static str {
        self.close().reason
    }

    /// A label for metrics and logs, `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnmaskedFrame => "unmasked_frame",
            Self::UnexpectedRsv1 => "unexpected_rsv1",
            Self::UnexpectedRsv23 => "unexpected_rsv23",
            Self::InvalidOpcode => "invalid_opcode",
            Self::FragmentedControl => "fragmented_control",
            Self::ControlTooBig => "control_too_big",
            Self::StrayContinuation => "stray_continuation",
            Self::NestedMessage => "nested_message",
            Self::MessageTooBig => "message_too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::InvalidDeflate => "invalid_deflate",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidClosePayload => "invalid_close_payload",
            Self::InvalidCloseCode => "invalid_close_code",
        }
    }
}

/// The receiving side of one connection.
#[derive(Debug, Default)]
pub struct Assembler {
    /// What is left of input that ended inside a frame or between fragments.
    partial: Option<Box<Partial>>,
}

impl Assembler {
    /// Takes bytes from the front of `input`, up to the end of one message or control frame.
    ///
    /// Returns how many bytes were taken, and the item they completed. Without an item all of `input` was taken.
    /// With one, the caller calls again with the rest. The taken bytes are unmasked in place. `inflater` is there
    /// when compression was negotiated.
    ///
    /// # Errors
    /// The client broke a rule. The caller closes the connection and gives no more input.
    pub fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
        inflater: Option<&mut Inflater>,
    ) -> Result<(usize, Option<Inbound<'a>>), Violation> {
        let Some(partial) = &mut self.partial else {
            if let Some(header) = whole_message_header(input, limits, inflater.is_some())? {
                return read_whole(header, input, limits, inflater);
            }
            if input.is_empty() {
                return Ok((0, None));
            }
            let mut partial = Box::<Partial>::default();
            let step = partial.next(input, limits, inflater)?;
            self.partial = Some(partial).filter(|partial| partial.is_open());
            return Ok(step);
        };
        let step = partial.next(input, limits, inflater)?;
        if !partial.is_open() {
            self.partial = None;
        }
        Ok(step)
    }

    /// Bytes of memory held for what is not complete; 0 when idle.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.message_capacity())
    }
}

/// A message of which more is to come, or a frame that came in pieces.
#[derive(Debug, Default)]
struct Partial {
    header: HeaderBytes,
    frame: Option<OpenFrame>,
    message: Option<Message>,
    control: ControlBytes,
}

/// The bytes of a header that is not complete.
#[derive(Debug, Default)]
struct HeaderBytes {
    bytes: [u8; HEADER_BYTES_MAX],
    len: usize,
}

/// A frame of which the header is known.
#[derive(Debug)]
struct OpenFrame {
    fin: bool,
    opcode: OpCode,
    mask: [u8; 4],
    received: usize,
    remaining: usize,
}

/// The payload of a control frame that came in pieces.
#[derive(Debug)]
struct ControlBytes {
    bytes: [u8; CONTROL_BYTES_MAX],
    len: usize,
}

impl Default for ControlBytes {
    fn default() -> Self {
        Self { bytes: [0; CONTROL_BYTES_MAX], len: 0 }
    }
}

/// What has come of a message. Invariant: `bytes[..valid_len]` is UTF-8 when `is_text` and not `is_compressed`, and
/// what follows is the beginning of one character.
#[derive(Debug)]
struct Message {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    valid_len: usize,
    fragments: u32,
}

impl Partial {
    fn next<'a>(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        inflater: Option<&mut Inflater>,
    ) -> Result<(usize, Option<Inbound<'a>>), Violation> {
        let mut used = 0;
        loop {
            let frame = match &mut self.frame {
                Some(frame) => frame,
                None => {
                    let (taken, header) =
                        self.header.take(&input[used..], self.message.is_some(), inflater.is_some())?;
                    used += taken;
                    let Some(header) = header else { return Ok((used, None)) };
                    let frame = open_frame(&mut self.message, header, limits)?;
                    self.frame.insert(frame)
                }
            };
            let taken = frame.remaining.min(input.len() - used);
            let payload = &mut input[used..used + taken];
            used += taken;
            frame::unmask(payload, frame.mask, frame.received);
            frame.received += taken;
            frame.remaining -= taken;
            match &mut self.message {
                Some(message) if !frame.opcode.is_control() => message.push(payload)?,
                _ => self.control.push(payload),
            }
            if frame.remaining > 0 {
                return Ok((used, None));
            }
            let (opcode, fin) = (frame.opcode, frame.fin);
            self.frame = None;
            if opcode.is_control() {
                return Ok((used, Some(self.control.finish(opcode)?)));
            }
            if fin && let Some(message) = self.message.take() {
                return Ok((used, Some(message.finish(limits, inflater)?)));
            }
        }
    }

    fn is_open(&self) -> bool {
        self.header.len > 0 || self.frame.is_some() || self.message.is_some()
    }

    fn message_capacity(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }
}

impl HeaderBytes {
    /// Takes bytes of a header; returns how many, and the header when it is complete.
    fn take(
        &mut self,
        input: &[u8],
        in_message: bool,
        inflates: bool,
    ) -> Result<(usize, Option<ClientHeader>), Violation> {
        let mut taken = self.fill(input, 2);
        if self.len < 2 {
            return Ok((taken, None));
        }
        check_first_bytes(self.bytes[0], self.bytes[1], in_message, inflates)?;
        let whole = frame::header_len(self.bytes[1]);
        taken += self.fill(&input[taken..], whole);
        let header = frame::parse_client_header(&self.bytes[..self.len]);
        if header.is_some() {
            self.len = 0;
        }
        Ok((taken, header))
    }

    fn fill(&mut self, input: &[u8], target_len: usize) -> usize {
        let taken = target_len.saturating_sub(self.len).min(input.len());
        self.bytes[self.len..self.len + taken].copy_from_slice(&input[..taken]);
        self.len += taken;
        taken
    }
}

impl ControlBytes {
    /// The header promised that it fits.
    fn push(&mut self, payload: &[u8]) {
        self.bytes[self.len..self.len + payload.len()].copy_from_slice(payload);
        self.len += payload.len();
    }

    fn finish<'a>(&mut self, opcode: OpCode) -> Result<Inbound<'a>, Violation> {
        let payload = &self.bytes[..self.len];
        self.len = 0;
        Ok(match opcode {
            OpCode::Close => Inbound::Close(
                close_payload(payload)?.map(|(code, reason)| (code, Cow::Owned(reason.to_owned()))),
            ),
            OpCode::Ping => Inbound::Ping(Cow::Owned(payload.to_vec())),
            _ => Inbound::Pong(Cow::Owned(payload.to_vec())),
        })
    }
}

impl Message {
    fn push(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(payload);
        if self.is_text && !self.is_compressed {
            self.valid_len += match std::str::from_utf8(&self.bytes[self.valid_len..]) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                Err(_) => return Err(Violation::InvalidUtf8),
            };
        }
        Ok(())
    }

    fn finish<'a>(self, limits: &Limits, inflater: Option<&mut Inflater>) -> Result<Inbound<'a>, Violation> {
        let bytes = match inflater {
            Some(inflater) if self.is_compressed => {
                inflater.inflate(&self.bytes, limits.message_bytes_max)?
            }
            _ => self.bytes,
        };
        owned(self.is_text, bytes)
    }
}

/// The rules that the first two bytes of a frame can break, in the order of the module's head.
fn check_first_bytes(first: u8, second: u8, in_message: bool, inflates: bool) -> Result<OpCode, Violation> {
    if second & 0x80 == 0 {
        return Err(Violation::UnmaskedFrame);
    }
    let may_be_compressed = || matches!(OpCode::of_first_byte(first), Some(OpCode::Text | OpCode::Binary));
    if first & 0x40 != 0 && !(inflates && may_be_compressed()) {
        return Err(Violation::UnexpectedRsv1);
    }
    if first & 0x30 != 0 {
        return Err(Violation::UnexpectedRsv23);
    }
    let opcode = OpCode::of_first_byte(first).ok_or(Violation::InvalidOpcode)?;
    if opcode.is_control() {
        if first & 0x80 == 0 {
            return Err(Violation::FragmentedControl);
        }
        // Also when the long form spells a short length: Bun looks at these seven bits alone.
        if usize::from(second & 0x7F) > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooBig);
        }
        return Ok(opcode);
    }
    match (opcode == OpCode::Continuation, in_message) {
        (true, false) => Err(Violation::StrayContinuation),
        (false, true) => Err(Violation::NestedMessage),
        _ => Ok(opcode),
    }
}

/// Adds a declared length to what a message already has.
fn check_size(received: usize, payload_len: u64, limits: &Limits) -> Result<usize, Violation> {
    usize::try_from(payload_len)
        .ok()
        .filter(|len| received.checked_add(*len).is_some_and(|total| total <= limits.message_bytes_max))
        .ok_or(Violation::MessageTooBig)
}

/// Begins a frame, and with it a message when it is the first of one.
fn open_frame(
    message: &mut Option<Message>,
    header: ClientHeader,
    limits: &Limits,
) -> Result<OpenFrame, Violation> {
    let ClientHeader { fin, rsv1, opcode, mask, payload_len, .. } = header;
    let remaining = if opcode.is_control() {
        payload_len as usize
    } else {
        let message = message.get_or_insert_with(|| Message {
            is_text: opcode == OpCode::Text,
            is_compressed: rsv1,
            bytes: Vec::new(),
            valid_len: 0,
            fragments: 0,
        });
        let remaining = check_size(message.bytes.len(), payload_len, limits)?;
        message.fragments += 1;
        if message.fragments > limits.fragments_max {
            return Err(Violation::TooManyFragments);
        }
        remaining
    };
    Ok(OpenFrame { fin, opcode, mask, received: 0, remaining })
}

/// The header of a frame that is a whole message or control frame and lies wholly in `input`, which begins
/// outside any message.
fn whole_message_header(
    input: &[u8],
    limits: &Limits,
    inflates: bool,
) -> Result<Option<ClientHeader>, Violation> {
    let [first, second, ..] = *input else { return Ok(None) };
    let opcode = check_first_bytes(first, second, false, inflates)?;
    let Some(header) = frame::parse_client_header(input) else { return Ok(None) };
    if !opcode.is_control() {
        check_size(0, header.payload_len, limits)?;
    }
    let is_whole = (input.len() - header.len) as u64 >= header.payload_len;
    Ok(Some(header).filter(|header| header.fin && is_whole))
}

/// Reads the frame that [`whole_message_header`] found, without copying it unless it is compressed.
fn read_whole<'a>(
    header: ClientHeader,
    input: &'a mut [u8],
    limits: &Limits,
    inflater: Option<&mut Inflater>,
) -> Result<(usize, Option<Inbound<'a>>), Violation> {
    let used = header.len + header.payload_len as usize;
    let payload = &mut input[header.len..used];
    frame::unmask(payload, header.mask, 0);
    let payload: &'a [u8] = payload;
    if let Some(inflater) = inflater.filter(|_| header.rsv1) {
        let bytes = inflater.inflate(payload, limits.message_bytes_max)?;
        return Ok((used, Some(owned(header.opcode == OpCode::Text, bytes)?)));
    }
    let inbound = match header.opcode {
        OpCode::Text => Inbound::Text(Cow::Borrowed(utf8(payload)?)),
        OpCode::Ping => Inbound::Ping(Cow::Borrowed(payload)),
        OpCode::Pong => Inbound::Pong(Cow::Borrowed(payload)),
        OpCode::Close => {
            Inbound::Close(close_payload(payload)?.map(|(code, reason)| (code, Cow::Borrowed(reason))))
        }
        OpCode::Binary | OpCode::Continuation => Inbound::Binary(Cow::Borrowed(payload)),
    };
    Ok((used, Some(inbound)))
}

/// A message that does not lie in the input.
fn owned<'a>(is_text: bool, bytes: Vec<u8>) -> Result<Inbound<'a>, Violation> {
    if is_text {
        let text = String::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)?;
        Ok(Inbound::Text(Cow::Owned(text)))
    } else {
        Ok(Inbound::Binary(Cow::Owned(bytes)))
    }
}

fn close_payload(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::InvalidClosePayload),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !frame::is_sendable_close_code(code) {
                return Err(Violation::InvalidCloseCode);
            }
            Ok(Some((code, utf8(reason)?)))
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)
}

#[cfg(test)]
mod tests;
