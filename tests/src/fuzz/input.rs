//! The bytes of an input as choices, numbers and the rest.

/// An input that is used up from the front; after its end everything is zero.
#[derive(Debug)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    pub(super) fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// What is between the zero bytes of an input.
pub(super) fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == 0)
}

/// Lengths of pieces to read an input in, by one byte of it: all at once, byte by byte, or this way and that.
pub(super) fn pieces(choice: u8) -> impl Iterator<Item = usize> {
    let mut state = u32::from(choice);
    std::iter::repeat_with(move || match choice {
        0 => usize::MAX,
        1 => 1,
        _ => {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Mostly short, for the boundaries within headers.
            let bits = (state >> 28) % 8;
            ((state >> 8) & ((1 << bits) - 1)) as usize + 1
        }
    })
}

/// Server frames: opcode byte and payload of the one frame that `bytes` is.
pub(super) fn only_server_frame(bytes: &[u8]) -> (u8, &[u8]) {
    let (header_len, payload_len) = shardcast_wire::frame::frame_len(bytes).expect("a whole header");
    assert_eq!(header_len + payload_len, bytes.len(), "exactly one frame");
    assert_eq!(bytes[1] & 0x80, 0, "servers do not mask");
    (bytes[0], &bytes[header_len..])
}
