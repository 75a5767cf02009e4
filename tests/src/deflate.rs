//! Payloads of compressed messages (RFC 7692 §7.2), written and read without the code under test.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// Ends the payload of every message and is not sent.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// An upgrade's header line that offers what browsers offer.
pub const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The answer to it.
pub const AGREED: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// The payload of a message.
///
/// # Panics
/// Never, unless zlib is broken.
pub fn deflated(message: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(message.len() + message.len() / 100 + 64);
    let mut stream = Compress::new(Compression::best(), false);
    stream.compress_vec(message, &mut payload, FlushCompress::Sync).expect("a fresh stream");
    assert!(payload.len() < payload.capacity(), "all of it came out");
    payload.strip_suffix(&TAIL).expect("a flushed stream").to_vec()
}

/// The message of a payload, of at most `bytes_max` bytes.
///
/// # Panics
/// When the payload is corrupt, needs a window from before, or is longer.
pub fn inflated(payload: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes_max + 1);
    let mut stream = Decompress::new(false);
    let payload = [payload, &TAIL].concat();
    stream.decompress_vec(&payload, &mut message, FlushDecompress::Sync).expect("a good stream");
    assert!(message.len() <= bytes_max, "more than {bytes_max} bytes come out");
    assert_eq!(stream.total_in(), payload.len() as u64, "all of it went in");
    message
}
