//! Members by simd-json: it validates, and its index of structural characters says where the spans are.

use std::fmt;

use simd_json::{Buffers, INPUT_PADDING, Tape};

use super::{JsonError, key_is};

/// The longest text given to simd-json, in bytes. Each byte of hostile text can cost 28 bytes of tape and index,
/// which are kept for the next text; the scanner takes longer ones and needs a bit a level.
const INDEXED_BYTES_MAX: usize = 65_536;

/// [`members`](super::members) with reusable buffers, for one thread that reads many texts.
///
/// Keeps a few MiB at most, whatever it has been given.
pub struct Indexer {
    /// A copy of the text and padding: simd-json unescapes in place.
    copy: Vec<u8>,
    buffers: Buffers,
    tape: Tape<'static>,
}

impl Default for Indexer {
    fn default() -> Self {
        Self { copy: Vec::new(), buffers: Buffers::default(), tape: Tape(Vec::new()) }
    }
}

impl fmt::Debug for Indexer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Indexer").finish_non_exhaustive()
    }
}

impl Indexer {
    /// The spans of the `wanted` members; all as [`members`](super::members) says.
    ///
    /// simd-json refuses some of what `JSON.parse` accepts (lone surrogates, integers beyond 64 bits, deep
    /// nesting), so its refusal is only a reason to ask the scanner.
    pub fn members<'a, const N: usize>(
        &mut self,
        text: &'a str,
        wanted: [&str; N],
    ) -> Result<Option<[Option<&'a str>; N]>, JsonError> {
        if text.starts_with('{') && text.len() <= INDEXED_BYTES_MAX && self.accepts(text) {
            if let Some(found) = spans(text, self.buffers.structural_indexes(), wanted) {
                return Ok(Some(found));
            }
            debug_assert!(false, "the index does not fit the text it was made of");
        }
        super::members(text, wanted)
    }

    /// The span of the one value that the text is, as [`validate`](super::validate) says; `None` for what is no JSON,
    /// and for what has more than `depth_max` containers open at once.
    pub fn value_within<'a>(&mut self, text: &'a str, depth_max: usize) -> Option<&'a str> {
        let value = text.trim_matches([' ', '\n', '\r', '\t']);
        let is_container = value.starts_with(['{', '[']);
        if is_container && value.len() <= INDEXED_BYTES_MAX && self.accepts(value) {
            let structural = self.buffers.structural_indexes().iter();
            let structural = structural.filter_map(|&at| value.as_bytes().get(at as usize)).copied();
            return (depth(structural) <= depth_max).then_some(value);
        }
        super::validate_within(value, depth_max).ok()
    }

    /// Whether simd-json takes the text for JSON; if so, its index is that of the text.
    pub(super) fn accepts(&mut self, text: &str) -> bool {
        self.copy.clear();
        self.copy.extend_from_slice(text.as_bytes());
        self.copy.resize(text.len() + INPUT_PADDING, 0);
        let mut tape = std::mem::replace(&mut self.tape, Tape(Vec::new())).reset();
        let filled = simd_json::fill_tape_padded(&mut self.copy, text.len(), &mut self.buffers, &mut tape);
        self.tape = tape.reset();
        filled.is_ok()
    }
}

/// The most containers that are open at once, of the bytes of valid JSON that are in no string.
fn depth(structural: impl Iterator<Item = u8>) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for byte in structural {
        match byte {
            b'{' | b'[' => open += 1,
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// Walks the index of an object: one entry for each `{}[]:,`, for the first byte of each string (its quote), and
/// for the first byte of each other scalar. `None` if the index is none of a valid object.
fn spans<'a, const N: usize>(
    text: &'a str,
    index: &[u32],
    wanted: [&str; N],
) -> Option<[Option<&'a str>; N]> {
    let bytes = text.as_bytes();
    let at = |entry: usize| index.get(entry).map(|&at| at as usize);
    let mut found = [None; N];
    let mut entry = 1;
    if *bytes.get(at(entry)?)? == b'}' {
        return Some(found);
    }
    loop {
        let key = before(text, at(entry)?, at(entry + 1)?)?;
        let value = entry + 2;
        let (end, span) = match bytes.get(at(value)?)? {
            b'{' | b'[' => {
                let close = closing(bytes, index, value)?;
                (close + 1, text.get(at(value)?..=at(close)?)?)
            }
            _ => (value + 1, before(text, at(value)?, at(value + 1)?)?),
        };
        if let Some(position) = wanted.iter().position(|name| key_is(key, name)) {
            found[position] = Some(span);
        }
        match bytes.get(at(end)?)? {
            b',' => entry = end + 1,
            _ => return Some(found),
        }
    }
}

/// The scalar that starts at `start`, with `next` the structural character behind it.
fn before(text: &str, start: usize, next: usize) -> Option<&str> {
    Some(text.get(start..next)?.trim_end_matches([' ', '\n', '\r', '\t']))
}

/// The entry that ends the container which starts at the entry `open`.
fn closing(bytes: &[u8], index: &[u32], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (entry, &at) in index.iter().enumerate().skip(open) {
        match bytes.get(at as usize)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(entry);
                }
            }
            _ => {}
        }
    }
    None
}
