//! The data of every publication: who sent it, where it belongs in its room, and when it was due.
//!
//! A stamp is one JSON string of ASCII letters and digits, so that no server has cause to rewrite it, with every
//! field at a fixed place, so that reading one costs a few nanoseconds:
//!
//! ```text
//! "lg1<kind><run:8><room:8><sequence:8><number:8><due_ns:16>xxx…"      (hexadecimal, lower case)
//! ```
//!
//! Invariant: the text [`encode`] appends has exactly the length asked for, quotes included, which is at least
//! [`DATA_BYTES_MIN`].

/// What every stamp starts with.
const MARKER: &[u8; 3] = b"lg1";
const FIELDS_BYTES: usize = 4 * 8 + 16;
const STAMP_BYTES: usize = MARKER.len() + 1 + FIELDS_BYTES;
/// The shortest data that holds a stamp and its quotes.
pub(crate) const DATA_BYTES_MIN: usize = STAMP_BYTES + 2;

/// What a publication is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Shows that a member has joined; repeated until all have, and counted nowhere.
    Probe,
    /// Counted and timed.
    Message,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Probe => b'p',
            Self::Message => b'm',
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            b'p' => Some(Self::Probe),
            b'm' => Some(Self::Message),
            _ => None,
        }
    }
}

/// The fields of one publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Probe or message.
    pub(crate) kind: Kind,
    /// Tells the publications of this run from those of others.
    pub(crate) run: u32,
    /// Index of the room.
    pub(crate) room: u32,
    /// Position in the room, from 0 without gaps.
    pub(crate) sequence: u32,
    /// Position in the run, from 0 without gaps.
    pub(crate) number: u32,
    /// When it was due, in nanoseconds of the monotonic clock.
    pub(crate) due_ns: u64,
}

/// Appends the stamp as a JSON string of `data_bytes` bytes.
pub(crate) fn encode(out: &mut Vec<u8>, stamp: &Stamp, data_bytes: usize) {
    debug_assert!(data_bytes >= DATA_BYTES_MIN);
    let end = out.len() + data_bytes;
    out.push(b'"');
    out.extend_from_slice(MARKER);
    out.push(stamp.kind.to_byte());
    for field in [stamp.run, stamp.room, stamp.sequence, stamp.number] {
        push_hex(out, field);
    }
    push_hex(out, (stamp.due_ns >> 32) as u32);
    push_hex(out, stamp.due_ns as u32);
    out.resize(end - 1, b'x');
    out.push(b'"');
}

/// Finds stamps in messages, looking first where the last one was.
#[derive(Debug, Default)]
pub(crate) struct Finder {
    offset: usize,
}

impl Finder {
    /// The stamp in a message, `None` when it carries none.
    pub(crate) fn find(&mut self, message: &[u8]) -> Option<Stamp> {
        if let Some(stamp) = decode_at(message, self.offset) {
            return Some(stamp);
        }
        let (offset, stamp) = (0..message.len().saturating_sub(STAMP_BYTES - 1))
            .find_map(|offset| decode_at(message, offset).map(|stamp| (offset, stamp)))?;
        self.offset = offset;
        Some(stamp)
    }

    /// Whether the stamp found last is followed by what [`encode`] puts behind it in data of so many bytes, and by
    /// no more of that.
    pub(crate) fn is_whole(&self, message: &[u8], data_bytes: usize) -> bool {
        let end = self.offset + data_bytes - 2;
        let Some(padding) = message.get(self.offset + STAMP_BYTES..end) else { return false };
        // Without branches: this runs for every delivery.
        padding.iter().fold(0, |differing, byte| differing | (byte ^ b'x')) == 0
            && message.get(end) != Some(&b'x')
    }
}

/// This and what it calls run for every delivery.
#[inline]
fn decode_at(message: &[u8], offset: usize) -> Option<Stamp> {
    let stamp = message.get(offset..)?.first_chunk::<STAMP_BYTES>()?;
    let (&kind, digits) = stamp.strip_prefix(MARKER)?.split_first()?;
    let nibbles = nibbles(digits.first_chunk()?)?;
    let (fields, _) = nibbles.as_chunks::<8>();
    let &[run, room, sequence, number, due_high, due_low] = fields else { return None };
    Some(Stamp {
        kind: Kind::of_byte(kind)?,
        run: join(run),
        room: join(room),
        sequence: join(sequence),
        number: join(number),
        due_ns: u64::from(join(due_high)) << 32 | u64::from(join(due_low)),
    })
}

fn push_hex(out: &mut Vec<u8>, value: u32) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..8).rev().map(|nibble| DIGITS[(value >> (4 * nibble) & 0xF) as usize]));
}

/// Values of lower-case hexadecimal digits; without branches, so that the compiler takes many at once.
#[inline]
fn nibbles(digits: &[u8; FIELDS_BYTES]) -> Option<[u8; FIELDS_BYTES]> {
    let mut nibbles = [0; FIELDS_BYTES];
    let mut are_digits = true;
    for (nibble, digit) in nibbles.iter_mut().zip(digits) {
        let figure = digit.wrapping_sub(b'0');
        let letter = digit.wrapping_sub(b'a');
        *nibble = if figure < 10 { figure } else { letter.wrapping_add(10) };
        are_digits &= (figure < 10) | (letter < 6);
    }
    are_digits.then_some(nibbles)
}

/// The number eight nibbles make, all at once.
#[inline]
fn join(nibbles: [u8; 8]) -> u32 {
    let word = u64::from_be_bytes(nibbles);
    let pairs = (word | word >> 4) & 0x00FF_00FF_00FF_00FF;
    let quads = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF;
    (quads | quads >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        kind: Kind::Message,
        run: 0x0123_4567,
        room: 0x89ab_cdef,
        sequence: 0,
        number: u32::MAX,
        due_ns: 0xfedc_ba98_7654_3210,
    };

    #[test]
    fn a_stamp_comes_back_at_every_length_and_place() {
        for data_bytes in [DATA_BYTES_MIN, 55, 128, 4096] {
            for before in ["", "{\"event\":\"e\",\"data\":"] {
                let mut message = before.as_bytes().to_vec();
                encode(&mut message, &STAMP, data_bytes);
                assert_eq!(message.len(), before.len() + data_bytes);
                let mut finder = Finder::default();
                assert_eq!(finder.find(&message), Some(STAMP));
                assert_eq!(finder.offset, before.len() + 1);
                assert_eq!(finder.find(&message), Some(STAMP), "with the offset known");
                assert!(finder.is_whole(&message, data_bytes));
                assert!(
                    !finder.is_whole(&message, data_bytes + 1)
                        && !finder.is_whole(&message[..message.len() - 2], data_bytes)
                );
                assert!(data_bytes == DATA_BYTES_MIN || !finder.is_whole(&message, data_bytes - 1));
            }
        }
    }

    #[test]
    fn the_data_is_a_json_string() {
        let mut data = Vec::new();
        encode(&mut data, &STAMP, 100);
        let text: String = serde_json::from_slice(&data).expect("valid JSON");
        assert_eq!(text.len(), 98);
    }

    #[test]
    fn messages_without_a_whole_stamp_have_none() {
        let mut data = Vec::new();
        encode(&mut data, &STAMP, DATA_BYTES_MIN);
        let cut = &data[..STAMP_BYTES];
        let spoiled = |at: usize, byte: u8| {
            let mut copy = data.clone();
            copy[at] = byte;
            copy
        };
        for message in [b"".as_slice(), b"lg1", b"{\"event\":\"connected\"}", cut] {
            assert_eq!(Finder::default().find(message), None);
        }
        for byte in [b'g', b'A', b'/', b':', b'`', 0x00, 0xFF, b' ', b'p'] {
            assert_eq!(Finder::default().find(&spoiled(9, byte)), None, "{byte:#x} is no digit");
        }
        assert_eq!(Finder::default().find(&spoiled(4, b'q')), None, "an unknown kind");
    }

    #[test]
    fn exactly_the_lower_case_hexadecimal_digits_count() {
        for byte in 0..=u8::MAX {
            let expected = match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            for at in 0..FIELDS_BYTES {
                let mut digits = [b'0'; FIELDS_BYTES];
                digits[at] = byte;
                assert_eq!(nibbles(&digits).map(|nibbles| nibbles[at]), expected, "{byte:#x} at {at}");
            }
        }
        assert_eq!(join([1, 2, 3, 4, 0xa, 0xb, 0xc, 0xf]), 0x1234_abcf);
    }
}
