//! Frames and messages of a client, as reads of any lengths bring them: `shardcast_wire::message` and `frame`.

use shardcast_wire::deflate::Inflater;
use shardcast_wire::frame::{self, OpCode};
use shardcast_wire::message::{Assembler, Inbound, Limits, Violation};

use super::input::{Input, pieces};
use super::memory;

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// All that was said, and the rule that was broken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    items: Vec<Item>,
    violation: Option<Violation>,
}

/// Six bytes of choices, then what a client sends.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limits = Limits {
        message_bytes_max: input.pick(&[1_000, 0, 5, 125, 126, 70_000, 1 << 24, usize::MAX]),
        fragments_max: input.pick(&[4, 1, 2, 100]),
    };
    let inflates = input.pick(&[false, true]);
    let (split, mask) = (input.byte(), input.array());
    let bytes = input.rest();
    let expected = reference(bytes, &limits, inflates);
    for split in [0, 1, split] {
        let heard = listen(bytes, &limits, inflates, split);
        assert_eq!(heard, expected, "read in pieces as {split} says");
    }
    check_written_anew(&expected.items, mask, inflates);
    check_headers(bytes, mask);
}

/// What the assembler makes of `bytes`, with what it holds kept in view.
fn listen(bytes: &[u8], limits: &Limits, inflates: bool, split: u8) -> Heard {
    let mut assembler = Assembler::default();
    let mut inflater = inflates.then(Inflater::default);
    let mut heard = Heard::default();
    let (mut rest, mut lengths) = (bytes, pieces(split));
    while let Some(len) = lengths.next().filter(|_| !rest.is_empty()) {
        let (piece, after) = rest.split_at(len.min(rest.len()));
        rest = after;
        let (mut piece, mut at) = (piece.to_vec(), 0);
        loop {
            let (next, peak_bytes) =
                memory::peak_of(|| assembler.next(&mut piece[at..], limits, inflater.as_mut()));
            // Received bytes may be there in two forms, each with the slack of a vector that grew, and inflated ones.
            let inflated_max =
                if inflates { 4 * limits.message_bytes_max.min(1_100 * bytes.len()) } else { 0 };
            assert!(
                peak_bytes <= 1_024 + 4 * bytes.len() + inflated_max,
                "{peak_bytes} bytes were allocated"
            );
            let item = match next {
                Ok((used, item)) => {
                    at += used;
                    item.map(owned)
                }
                Err(violation) => {
                    heard.violation = Some(violation);
                    return heard;
                }
            };
            let held = assembler.buffered_bytes();
            assert!(held <= 512 + 2 * bytes.len().min(limits.message_bytes_max), "{held} bytes are held");
            let Some(item) = item else { break };
            let is_end = matches!(item, Item::Close(_));
            heard.items.push(item);
            if is_end {
                return heard;
            }
        }
        assert_eq!(at, piece.len(), "without an item all is taken");
    }
    heard
}

fn owned(inbound: Inbound<'_>) -> Item {
    match inbound {
        Inbound::Text(text) => Item::Text(text.into_owned()),
        Inbound::Binary(bytes) => Item::Binary(bytes.into_owned()),
        Inbound::Ping(bytes) => Item::Ping(bytes.into_owned()),
        Inbound::Pong(bytes) => Item::Pong(bytes.into_owned()),
        Inbound::Close(payload) => Item::Close(payload.map(|(code, reason)| (code, reason.into_owned()))),
    }
}

/// A message that is not whole.
struct Unfinished {
    is_text: bool,
    is_compressed: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// RFC 6455 §5 and RFC 7692 §6 with everything there at once, in the order in which the module's head says that
/// rules are looked at.
fn reference(mut bytes: &[u8], limits: &Limits, inflates: bool) -> Heard {
    let mut heard = Heard::default();
    let mut message = None;
    while heard.violation.is_none() && !matches!(heard.items.last(), Some(Item::Close(_))) {
        match reference_frame(bytes, &mut message, limits, inflates) {
            Ok(Some((len, item))) => {
                heard.items.extend(item);
                bytes = &bytes[len..];
            }
            Ok(None) => break,
            Err(violation) => heard.violation = Some(violation),
        }
    }
    heard
}

/// Length and outcome of the frame at the front; `None` when it is not whole.
fn reference_frame(
    bytes: &[u8],
    message: &mut Option<Unfinished>,
    limits: &Limits,
    inflates: bool,
) -> Result<Option<(usize, Option<Item>)>, Violation> {
    let [first, second, after @ ..] = bytes else { return Ok(None) };
    let (is_final, opcode, short_len) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
    check_first_bytes(*first, *second, message.is_some(), inflates)?;
    let (declared, after) = match (short_len, after) {
        (126, [a, b, after @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), after),
        (127, [a, b, c, d, e, f, g, h, after @ ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), after)
        }
        (126 | 127, _) => return Ok(None),
        (short, after) => (u64::from(short), after),
    };
    let Some((mask, after)) = after.split_first_chunk::<4>() else { return Ok(None) };
    if opcode < 8 {
        let message = message.get_or_insert_with(|| Unfinished {
            is_text: opcode == 1,
            is_compressed: first & 0x40 != 0,
            bytes: Vec::new(),
            frames: 0,
        });
        if declared.saturating_add(message.bytes.len() as u64) > limits.message_bytes_max as u64 {
            return Err(Violation::MessageTooBig);
        }
        message.frames += 1;
        if message.frames > limits.fragments_max {
            return Err(Violation::TooManyFragments);
        }
    }
    let there = usize::try_from(declared).unwrap_or(usize::MAX).min(after.len());
    let payload: Vec<u8> = (0..there).map(|at| after[at] ^ mask[at % 4]).collect();
    let is_whole = there as u64 == declared;
    let len = bytes.len() - after.len() + there;
    if opcode >= 8 {
        return if is_whole { Ok(Some((len, Some(control(opcode, payload)?)))) } else { Ok(None) };
    }
    let Some(unfinished) = message else { unreachable!("a data frame belongs to a message") };
    unfinished.bytes.extend(payload);
    if unfinished.is_text && !unfinished.is_compressed {
        let is_wrong = |error: std::str::Utf8Error| error.error_len().is_some();
        if std::str::from_utf8(&unfinished.bytes).err().is_some_and(is_wrong) {
            return Err(Violation::InvalidUtf8);
        }
    }
    match message.take() {
        _ if !is_whole => Ok(None),
        Some(whole) if is_final => Ok(Some((len, Some(data_item(whole, limits)?)))),
        open => {
            *message = open;
            Ok(Some((len, None)))
        }
    }
}

fn check_first_bytes(first: u8, second: u8, in_message: bool, inflates: bool) -> Result<(), Violation> {
    let opcode = first & 0x0f;
    let is_first_of_data = matches!(opcode, 1 | 2);
    let broken = [
        (second & 0x80 == 0, Violation::UnmaskedFrame),
        (first & 0x40 != 0 && !(inflates && is_first_of_data), Violation::UnexpectedRsv1),
        (first & 0x30 != 0, Violation::UnexpectedRsv23),
        (!matches!(opcode, 0..=2 | 8..=10), Violation::InvalidOpcode),
        (opcode >= 8 && first & 0x80 == 0, Violation::FragmentedControl),
        (opcode >= 8 && second & 0x7f > 125, Violation::ControlTooBig),
        (opcode == 0 && !in_message, Violation::StrayContinuation),
        (is_first_of_data && in_message, Violation::NestedMessage),
    ];
    broken.into_iter().find(|(is_broken, _)| *is_broken).map_or(Ok(()), |(_, violation)| Err(violation))
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Item, Violation> {
    Ok(match (opcode, payload.as_slice()) {
        (9, _) => Item::Ping(payload),
        (10, _) => Item::Pong(payload),
        (_, []) => Item::Close(None),
        (_, [_]) => return Err(Violation::InvalidClosePayload),
        (_, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::InvalidCloseCode);
            }
            Item::Close(Some((code, text(reason.to_vec())?)))
        }
    })
}

fn data_item(message: Unfinished, limits: &Limits) -> Result<Item, Violation> {
    let Unfinished { is_text, is_compressed, mut bytes, .. } = message;
    if is_compressed {
        // What it inflates to is the matter of the target `deflate`.
        bytes = Inflater::default().inflate(&bytes, limits.message_bytes_max)?;
    }
    if is_text { text(bytes).map(Item::Text) } else { Ok(Item::Binary(bytes)) }
}

fn text(bytes: Vec<u8>) -> Result<String, Violation> {
    String::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)
}

/// What was heard is heard again when our client's encoder says it.
fn check_written_anew(items: &[Item], mask: [u8; 4], inflates: bool) {
    let mut bytes = Vec::new();
    for item in items {
        let close;
        let (opcode, payload) = match item {
            Item::Text(text) => (OpCode::Text, text.as_bytes()),
            Item::Binary(bytes) => (OpCode::Binary, bytes.as_slice()),
            Item::Ping(bytes) => (OpCode::Ping, bytes.as_slice()),
            Item::Pong(bytes) => (OpCode::Pong, bytes.as_slice()),
            Item::Close(None) => (OpCode::Close, &[][..]),
            Item::Close(Some((code, reason))) => {
                close = [&code.to_be_bytes(), reason.as_bytes()].concat();
                (OpCode::Close, close.as_slice())
            }
        };
        frame::encode_masked(&mut bytes, opcode, payload, mask, true);
    }
    let limits = Limits { message_bytes_max: usize::MAX, fragments_max: 1 };
    let heard = listen(&bytes, &limits, inflates, 0);
    assert_eq!(heard, Heard { items: items.to_vec(), violation: None }, "written anew");
}

/// The readers of single headers, and masks at any offset.
fn check_headers(bytes: &[u8], mask: [u8; 4]) {
    if let Some(header) = frame::parse_client_header(bytes) {
        assert_eq!(header.len, frame::header_len(bytes[1]), "length of a header");
        let len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        assert_eq!(frame::frame_len(bytes), Some((header.len, len)));
    }
    let start = bytes.len().min(usize::from(mask[0]) % 8);
    let mut unmasked = bytes[start..].to_vec();
    frame::unmask(&mut unmasked, mask, start);
    let plainly = bytes.iter().enumerate().skip(start).map(|(at, byte)| byte ^ mask[at % 4]);
    assert!(plainly.eq(unmasked), "masks from byte {start} on");
}
