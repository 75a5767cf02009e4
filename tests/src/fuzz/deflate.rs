//! permessage-deflate: what is agreed on, bombs and broken streams, and our own: `shardcast_wire::deflate`.

use flate2::{Decompress, FlushDecompress, Status};
use shardcast_wire::deflate::{Compressor, Inflater, negotiate};
use shardcast_wire::frame::{self, OpCode};
use shardcast_wire::message::Violation;

use super::input::{Input, only_server_frame};
use super::memory;

/// What a receiver adds to a payload (RFC 7692 §7.2.2), and an empty last block so that the stream has an end.
const TAIL: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

/// A byte of limits, then a payload, which is also a message and the lines of an offer.
pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes_max = input.pick(&[1_000, 0, 1, 100, 16_383, 16_384, 100_000]);
    let payload = input.rest();
    check_inflate(payload, bytes_max);
    check_compress(payload);
    check_negotiate(payload);
}

fn check_inflate(payload: &[u8], bytes_max: usize) {
    let mut inflater = Inflater::default();
    let (inflated, peak_bytes) = memory::peak_of(|| inflater.inflate(payload, bytes_max));
    assert!(peak_bytes <= 256 + 2 * (bytes_max + 1), "{peak_bytes} bytes for {bytes_max} at most");
    let expected = reference(payload, bytes_max);
    match (&inflated, &expected) {
        (Ok(message), Some((expected, true))) => {
            assert_eq!(message, expected, "what comes out");
            assert!(message.len() <= bytes_max);
        }
        (Err(Violation::MessageTooBig), Some((expected, _))) => {
            assert!(expected.len() > bytes_max, "only {} bytes come out", expected.len());
        }
        (Err(Violation::InvalidDeflate), None | Some((_, false))) => {}
        _ => panic!("{inflated:?}, but the reference says {expected:?}"),
    }
    // A message depends on nothing before it, also not on a broken one.
    assert_eq!(inflater.inflate(payload, bytes_max), inflated, "inflated once more");
    assert_eq!(inflater.messages(), 2 * u64::from(inflated.is_ok() && !payload.is_empty()));
}

/// What comes out of a payload, all in one call, one byte more than allowed at most, and whether it is all and ends as
/// it should; `None` when it is no DEFLATE stream.
fn reference(payload: &[u8], bytes_max: usize) -> Option<(Vec<u8>, bool)> {
    if payload.is_empty() {
        return Some((Vec::new(), true));
    }
    let whole = [payload, &TAIL].concat();
    let mut message = vec![0; bytes_max + 1];
    let mut stream = Decompress::new(false);
    let status = stream.decompress(&whole, &mut message, FlushDecompress::Finish);
    let used = stream.total_in() as usize;
    message.truncate(stream.total_out() as usize);
    if message.len() > bytes_max {
        return Some((message, false));
    }
    if !matches!(status, Ok(Status::StreamEnd)) {
        return None;
    }
    // Its own last block at its end, before one byte of padding (RFC 7692 §7.2.3.4), or ours.
    let is_padded = used + 1 == payload.len() && payload.last() == Some(&0);
    Some((message, used == payload.len() || is_padded || used == whole.len()))
}

fn check_compress(message: &[u8]) {
    let mut compressor = Compressor::default();
    let [text, binary] = [OpCode::Text, OpCode::Binary].map(|opcode| frame::encode(opcode, message));
    let compressed = compressor.compress(&text);
    if let Some(compressed) = &compressed {
        assert!(compressed.len() < text.len() && compressed.capacity() == compressed.len());
        let (first, payload) = only_server_frame(compressed);
        assert_eq!(first, text[0] | 0x40, "the first byte of a compressed frame");
        let inflated = Inflater::default().inflate(payload, message.len());
        assert_eq!(inflated.as_deref(), Ok(message), "compressed and inflated");
    }
    let other = compressor.compress(&binary);
    assert_eq!(other.map(|frame| frame[1..].to_vec()), compressed.as_ref().map(|frame| frame[1..].to_vec()));
    assert_eq!(compressor.compress(&text), compressed, "by a compressor that was used before");
}

fn check_negotiate(offers: &[u8]) {
    let lines = || offers.split(|byte| matches!(byte, b'\r' | b'\n'));
    let agreed = negotiate(lines());
    if let Some(agreement) = agreed {
        let lower = offers.to_ascii_lowercase();
        assert!(lower.windows(18).any(|part| part == b"permessage-deflate"), "nobody offered it");
        let answer = agreement.header_value().as_bytes();
        assert_eq!(negotiate([answer]), Some(agreement), "an answer is an offer with the same outcome");
        let more = lines().chain([&b"permessage-deflate"[..]]);
        assert_eq!(negotiate(more), agreed, "the first good offer counts");
    }
}
