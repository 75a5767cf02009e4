//! The scanner: moves over a text value by value and knows where each starts and ends.

use super::{DEPTH_MAX, JsonError};

/// The open containers, innermost last, one bit each: set for an object, clear for an array.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    /// The innermost `depth % 64` levels, or 64 of them; the innermost is the lowest bit.
    near: u64,
    /// The levels outside of those, 64 in each word.
    far: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, object: bool, depth_max: usize) -> Result<(), JsonError> {
        if self.depth == depth_max {
            return Err(JsonError::TooDeep);
        }
        if self.depth != 0 && self.depth.is_multiple_of(64) {
            self.far.push(self.near);
        }
        self.near = self.near << 1 | u64::from(object);
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        debug_assert!(self.depth > 0, "a container ends that did not start");
        self.depth -= 1;
        self.near >>= 1;
        if self.depth != 0
            && self.depth.is_multiple_of(64)
            && let Some(outer) = self.far.pop()
        {
            self.near = outer;
        }
    }

    /// Whether the innermost open container is an object; `None` when none is open.
    fn innermost_is_object(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.near & 1 == 1)
    }
}

/// A position in a text. After an error the position means nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What is wrong here: the end, or the byte.
    fn wrong(&self) -> JsonError {
        if self.at >= self.text.len() { JsonError::Truncated } else { JsonError::Unexpected { at: self.at } }
    }

    /// From `start` to here. Both are beside an ASCII byte, so both are character boundaries.
    fn span(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    pub(super) fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.wrong()) }
    }

    /// Nothing but whitespace may follow.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_whitespace();
        if self.at == self.text.len() { Ok(()) } else { Err(self.wrong()) }
    }

    pub(super) fn starts_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// From `{` to the first member's value; returns its raw key, `None` for an empty object.
    pub(super) fn enter_object(&mut self) -> Result<Option<&'a str>, JsonError> {
        self.expect(b'{')?;
        self.skip_whitespace();
        if self.eat(b'}') { Ok(None) } else { self.key().map(Some) }
    }

    /// From the end of a member's value to the next member's; `None` after the last.
    pub(super) fn next_key(&mut self) -> Result<Option<&'a str>, JsonError> {
        self.skip_whitespace();
        if self.eat(b'}') {
            return Ok(None);
        }
        self.expect(b',')?;
        self.skip_whitespace();
        self.key().map(Some)
    }

    /// From `[` to the first element; `false` for an empty array.
    pub(super) fn enter_array(&mut self) -> Result<bool, JsonError> {
        self.expect(b'[')?;
        self.skip_whitespace();
        Ok(!self.eat(b']'))
    }

    /// From the end of an element to the next one; `false` after the last.
    pub(super) fn next_element(&mut self) -> Result<bool, JsonError> {
        self.skip_whitespace();
        if self.eat(b']') {
            return Ok(false);
        }
        self.expect(b',')?;
        self.skip_whitespace();
        Ok(true)
    }

    /// A key with its colon, up to the value's first byte.
    fn key(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.string()?;
        let key = self.span(start);
        self.skip_whitespace();
        self.expect(b':')?;
        self.skip_whitespace();
        Ok(key)
    }

    /// One whole value, from its first byte to after its last.
    pub(super) fn value(&mut self) -> Result<&'a str, JsonError> {
        self.value_within(DEPTH_MAX)
    }

    /// The same with a bound of its own on the containers that may be open at once.
    pub(super) fn value_within(&mut self, depth_max: usize) -> Result<&'a str, JsonError> {
        let start = self.at;
        let mut nesting = Nesting::default();
        loop {
            let opened = match self.peek() {
                Some(b'{') => {
                    nesting.push(true, depth_max)?;
                    self.enter_object()?.is_some()
                }
                Some(b'[') => {
                    nesting.push(false, depth_max)?;
                    self.enter_array()?
                }
                _ => {
                    self.scalar()?;
                    if nesting.depth == 0 {
                        return Ok(self.span(start));
                    }
                    self.next_in(&nesting)?
                }
            };
            if opened {
                continue;
            }
            // The innermost container has ended, and perhaps with it those around.
            loop {
                nesting.pop();
                if nesting.depth == 0 {
                    return Ok(self.span(start));
                }
                if self.next_in(&nesting)? {
                    break;
                }
            }
        }
    }

    /// From the end of a value to the next in the innermost container; `false` when that has ended.
    fn next_in(&mut self, nesting: &Nesting) -> Result<bool, JsonError> {
        match nesting.innermost_is_object() {
            Some(true) => Ok(self.next_key()?.is_some()),
            _ => self.next_element(),
        }
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(self.wrong()),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        for &byte in word.as_bytes() {
            self.expect(byte)?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong()) } else { Ok(()) }
    }

    /// RFC 8259 §6. A digit after a leading zero is left for the caller to refuse: no value goes on with one.
    fn number(&mut self) -> Result<(), JsonError> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// RFC 8259 §7.
    fn string(&mut self) -> Result<(), JsonError> {
        self.expect(b'"')?;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                _ => return Err(self.wrong()),
            }
        }
    }

    /// Up to the next quote, backslash or control character of a string, eight bytes at a time.
    fn skip_plain(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let mut skipped = 0;
        while let Some(chunk) = rest.get(skipped..).and_then(|rest| rest.first_chunk::<8>()) {
            let special = special_bytes(u64::from_le_bytes(*chunk));
            if special != 0 {
                self.at += skipped + special.trailing_zeros() as usize / 8;
                return;
            }
            skipped += 8;
        }
        let plain = rest[skipped..].iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\');
        self.at += skipped + plain.count();
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.wrong());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.wrong()),
        }
        Ok(())
    }
}

/// The high bit of every byte of `word` that is a quote, a backslash or below 0x20. Bits above the lowest set
/// one may be wrong (a borrow runs upwards), so only that one may be used.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let zeros = quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash;
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (zeros | controls) & HIGHS
}
