//! What a socket has not taken yet.
//!
//! An outbox exists only while there is a backlog. It holds shared bursts and offsets, never copies, so
//! that ten thousand slow members of one room keep its bytes alive once.
//!
//! Invariants: `messages` counts the message frames not yet written to their end; `bytes` is
//! the sum of what remains; `Ledger::bytes` equals the bytes of all held bursts plus the entries' own size.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::burst::{Burst, FrameKind};

/// What one entry costs besides the burst, bytes.
pub(crate) const CHUNK_BYTES: usize = size_of::<Chunk>();

/// What all outboxes of a shard keep alive.
#[derive(Debug)]
pub struct Ledger {
    bytes: usize,
    bytes_max: usize,
}

impl Ledger {
    /// Nothing held, with room for `bytes_max`.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max }
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether what holding `burst` adds fits.
    pub(crate) fn fits(&self, burst: &Burst) -> bool {
        let new = if burst.holders.get() == 0 { burst.bytes.len() } else { 0 };
        self.bytes + new + CHUNK_BYTES <= self.bytes_max
    }

    fn hold(&mut self, burst: &Burst) {
        if burst.holders.get() == 0 {
            self.bytes += burst.bytes.len();
        }
        burst.holders.set(burst.holders.get() + 1);
        self.bytes += CHUNK_BYTES;
    }

    fn release(&mut self, burst: &Burst) {
        burst.holders.set(burst.holders.get() - 1);
        if burst.holders.get() == 0 {
            self.bytes -= burst.bytes.len();
        }
        self.bytes -= CHUNK_BYTES;
    }
}

/// Bounds of one outbox.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A message is refused once the queue exceeds this.
    pub bytes_max: usize,
    /// A message is refused once the queue has this many.
    pub messages_max: u32,
    /// Whether the oldest messages make room for one that would be refused. The memory of the shard is another
    /// matter: what is dropped may be held for others.
    pub drops_oldest: bool,
}

/// Messages that [`Outbox::push`] had no room for, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The outbox was full: they, or older ones in their place, are lost.
    pub full: u32,
    /// The outboxes of the shard were full.
    pub memory: u32,
    /// The outbox, or those of the shard, were full and they are replies: they are in it, and the connection must end.
    pub replies: u32,
}

#[derive(Debug)]
struct Chunk {
    burst: Rc<Burst>,
    /// Next byte to write.
    at: u32,
    /// Where this entry ends; always the end of a frame.
    end: u32,
}

/// The backlog of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Chunk>,
    /// So many entries, from the first, hold nothing that may be dropped; more may.
    undroppable: usize,
    bytes: usize,
    messages: u32,
    /// The answer to the latest ping; jumps the queue at the next frame boundary.
    pong: Option<Bytes>,
    pong_written: usize,
    /// The answer to a later ping, while `pong` is begun and must be finished.
    pong_after: Option<Bytes>,
}

impl Outbox {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        let pongs: usize = self.pong.iter().chain(&self.pong_after).map(Bytes::len).sum();
        self.bytes + pongs - self.pong_written
    }

    /// Messages waiting, one that is half written included.
    pub fn messages(&self) -> u32 {
        self.messages
    }

    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.pong.is_none()
    }

    /// Appends what follows byte `from` of `burst`, as far as the bounds allow; control frames always.
    /// A frame that `from` cuts in two is begun and therefore not refused.
    pub fn push(&mut self, burst: &Rc<Burst>, from: u32, bounds: Bounds, ledger: &mut Ledger) -> Refused {
        let mut refused = Refused::default();
        let mut run: Option<(u32, u32)> = None;
        for index in burst.frame_at(from)..burst.frames.len() {
            let (end, kind) = burst.frames[index];
            let start = burst.start_of(index).max(from);
            let begun = kind == FrameKind::Begun || (start == from && burst.start_of(index) < from);
            if kind.is_message() && !begun {
                if bounds.drops_oldest && !self.has_room(run, bounds) {
                    self.push_run(burst, run.take(), ledger);
                    refused.full += self.make_room(bounds, ledger);
                }
                let fits = self.has_room(run, bounds);
                let memory = run.is_some() || ledger.fits(burst);
                if kind == FrameKind::Reply {
                    // It is not left out: whoever it is one too many for ends.
                    refused.replies += u32::from(!fits || !memory);
                } else if !fits || !memory {
                    refused.full += u32::from(!fits);
                    refused.memory += u32::from(fits);
                    self.push_run(burst, run.take(), ledger);
                    continue;
                }
            }
            self.messages += u32::from(kind.is_message());
            run = Some((run.map_or(start, |(a, _)| a), end));
        }
        self.push_run(burst, run, ledger);
        refused
    }

    /// Whether one more message fits behind what waits and the `run` that is about to.
    fn has_room(&self, run: Option<(u32, u32)>, bounds: Bounds) -> bool {
        let queued = self.bytes + run.map_or(0, |(at, end)| (end - at) as usize);
        queued <= bounds.bytes_max && self.messages < bounds.messages_max
    }

    fn push_run(&mut self, burst: &Rc<Burst>, run: Option<(u32, u32)>, ledger: &mut Ledger) {
        let Some((at, end)) = run else { return };
        self.bytes += (end - at) as usize;
        if let Some(last) = self.chunks.back_mut()
            && Rc::ptr_eq(&last.burst, burst)
            && last.end == at
        {
            last.end = end;
            self.undroppable = self.undroppable.min(self.chunks.len() - 1);
            return;
        }
        ledger.hold(burst);
        self.chunks.push_back(Chunk { burst: burst.clone(), at, end });
    }

    /// Drops the oldest messages that are not begun until one more fits; returns how many.
    fn make_room(&mut self, bounds: Bounds, ledger: &mut Ledger) -> u32 {
        let mut dropped = 0;
        while !self.has_room(None, bounds) && self.drop_oldest(ledger) {
            dropped += 1;
        }
        dropped
    }

    /// `false`: there is nothing that may be dropped.
    fn drop_oldest(&mut self, ledger: &mut Ledger) -> bool {
        while let Some(chunk) = self.chunks.get(self.undroppable) {
            if let Some((start, end)) = chunk.oldest_droppable() {
                self.cut(self.undroppable, start, end, ledger);
                return true;
            }
            self.undroppable += 1;
        }
        false
    }

    /// Takes the frame from `start` to `end` out of an entry, which may leave two.
    fn cut(&mut self, index: usize, start: u32, end: u32, ledger: &mut Ledger) {
        self.bytes -= (end - start) as usize;
        self.messages -= 1;
        let chunk = &mut self.chunks[index];
        match (chunk.at == start, chunk.end == end) {
            (true, false) => chunk.at = end,
            (false, true) => chunk.end = start,
            (true, true) => {
                ledger.release(&chunk.burst);
                self.chunks.remove(index);
            }
            (false, false) => {
                let rest = Chunk { burst: chunk.burst.clone(), at: end, end: chunk.end };
                chunk.end = start;
                ledger.hold(&rest.burst);
                self.chunks.insert(index + 1, rest);
            }
        }
    }

    fn pop_front(&mut self, ledger: &mut Ledger) {
        if let Some(first) = self.chunks.pop_front() {
            ledger.release(&first.burst);
            self.undroppable = self.undroppable.saturating_sub(1);
        }
    }

    /// Queues the answer to a ping. Returns whether it took the place of an earlier one (RFC 6455 §5.5.3).
    pub fn push_pong(&mut self, pong: Bytes) -> bool {
        let waiting = if self.pong_written > 0 { &mut self.pong_after } else { &mut self.pong };
        waiting.replace(pong).is_some()
    }

    /// What to write next: one slice, empty when nothing waits.
    pub fn head(&self) -> &[u8] {
        match (&self.pong, self.chunks.front()) {
            (Some(pong), _) if self.pong_is_next() => &pong[self.pong_written..],
            (Some(_), Some(chunk)) => {
                let frame_end = chunk.burst.frames[chunk.burst.frame_at(chunk.at)].0;
                &chunk.burst.bytes[chunk.at as usize..frame_end as usize]
            }
            (None, Some(chunk)) => &chunk.burst.bytes[chunk.at as usize..chunk.end as usize],
            (_, None) => &[],
        }
    }

    /// Whether any of the first `len` bytes of [`Outbox::head`] belong to a message.
    pub fn head_has_message(&self, len: usize) -> bool {
        let chunk = self.chunks.front().filter(|_| !self.pong_is_next());
        chunk.is_some_and(|chunk| chunk.burst.has_message_within(chunk.at, chunk.at + len as u32))
    }

    /// The socket took `written` bytes of [`Outbox::head`]. Returns how many frames that completed.
    pub fn advance(&mut self, written: usize, ledger: &mut Ledger) -> u32 {
        if self.pong_is_next()
            && let Some(pong) = &self.pong
        {
            self.pong_written += written;
            if self.pong_written == pong.len() {
                self.pong = self.pong_after.take();
                self.pong_written = 0;
                return 1;
            }
            return 0;
        }
        let Some(chunk) = self.chunks.front_mut() else { return 0 };
        let first = chunk.burst.frame_at(chunk.at);
        chunk.at += written as u32;
        self.bytes -= written;
        let done = &chunk.burst.frames[first..chunk.burst.frame_at(chunk.at)];
        self.messages -= done.iter().filter(|(_, kind)| kind.is_message()).count() as u32;
        let completed = done.len() as u32;
        if chunk.at == chunk.end {
            self.pop_front(ledger);
        }
        completed
    }

    /// The entry to write next, for who encrypts it: its burst, and from where to where. `None` when a pong is next.
    /// One that waits goes out after the first frame.
    pub(crate) fn front(&self) -> Option<(&Rc<Burst>, u32, u32)> {
        let Chunk { burst, at, end } = self.chunks.front().filter(|_| !self.pong_is_next())?;
        let end = if self.pong.is_some() { burst.frames[burst.frame_at(*at)].0 } else { *end };
        Some((burst, *at, end))
    }

    /// The socket took the first bytes of another form of the next frame of [`Outbox::front`]: `rest`, what is left of
    /// that form, takes the frame's place. `false`: it does not fit, and the message is lost with the connection.
    #[must_use]
    pub(crate) fn begin_front(&mut self, rest: Burst, ledger: &mut Ledger) -> bool {
        let Some(chunk) = self.chunks.front_mut() else { return true };
        let frame_end = chunk.burst.frames[chunk.burst.frame_at(chunk.at)].0;
        self.bytes -= (frame_end - chunk.at) as usize;
        chunk.at = frame_end;
        if chunk.at == chunk.end {
            self.pop_front(ledger);
        }
        if !ledger.fits(&rest) {
            self.messages -= 1;
            return false;
        }
        let end = rest.bytes.len() as u32;
        ledger.hold(&rest);
        self.bytes += end as usize;
        self.chunks.push_front(Chunk { burst: Rc::new(rest), at: 0, end });
        true
    }

    /// Whether [`Outbox::head`] is the pong: unless a frame is begun or is not to be overtaken.
    fn pong_is_next(&self) -> bool {
        self.pong.is_some()
            && (self.pong_written > 0 || self.chunks.front().is_none_or(Chunk::lets_pong_pass))
    }

    /// Lets go of everything; returns the messages that were lost.
    pub fn abandon(&mut self, ledger: &mut Ledger) -> u32 {
        for chunk in self.chunks.drain(..) {
            ledger.release(&chunk.burst);
        }
        self.undroppable = 0;
        self.bytes = 0;
        self.pong = None;
        self.pong_written = 0;
        self.pong_after = None;
        std::mem::take(&mut self.messages)
    }
}

#[cfg(any(test, feature = "check"))]
impl Outbox {
    /// Whether its sums are those of its entries; returns the bursts they hold, one an entry.
    pub(crate) fn audit(&self) -> impl Iterator<Item = &Rc<Burst>> {
        let mut bytes = 0;
        let mut messages = 0;
        for Chunk { burst, at, end } in &self.chunks {
            assert!(at < end, "an entry has something to write");
            bytes += (end - at) as usize;
            let left = &burst.frames[burst.frame_at(*at)..burst.frame_at(*end)];
            messages += left.iter().filter(|(_, kind)| kind.is_message()).count();
        }
        assert_eq!((self.bytes, self.messages as usize), (bytes, messages), "outbox sums");
        let known = self.chunks.iter().take(self.undroppable);
        assert!(known.into_iter().all(|chunk| chunk.oldest_droppable().is_none()), "what may be dropped");
        self.chunks.iter().map(|chunk| &chunk.burst)
    }
}

impl Chunk {
    fn lets_pong_pass(&self) -> bool {
        let next = self.burst.frame_at(self.at);
        let kind = self.burst.frames[next].1;
        self.burst.start_of(next) == self.at && !matches!(kind, FrameKind::Answer | FrameKind::Begun)
    }

    /// From where to where the first message is that may be dropped and of which nothing is written.
    fn oldest_droppable(&self) -> Option<(u32, u32)> {
        let frames = self.burst.frame_at(self.at)..self.burst.frame_at(self.end);
        let whole = frames.map(|index| (self.burst.start_of(index), self.burst.frames[index]));
        let mut droppable = whole.filter(|(start, (_, kind))| *start >= self.at && kind.is_droppable());
        droppable.next().map(|(start, (end, _))| (start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { bytes_max: 1 << 20, messages_max: 100, drops_oldest: false };

    /// A burst of frames of three bytes: a letter for a message, a capital for a reply, a dot for a control frame.
    fn burst_of(frames: &str) -> Rc<Burst> {
        let kind = |letter: u8| match letter {
            b'.' => FrameKind::Control,
            b'A'..=b'Z' => FrameKind::Reply,
            _ => FrameKind::Message,
        };
        let bytes: Vec<u8> = frames.bytes().flat_map(|letter| [letter; 3]).collect();
        let ends = frames.bytes().zip(1..).map(|(letter, count)| (3 * count, kind(letter))).collect();
        Rc::new(Burst { bytes: Bytes::from(bytes), frames: ends, holders: Default::default() })
    }

    /// Everything that is written when the socket takes `step` bytes at a time.
    fn drain(outbox: &mut Outbox, ledger: &mut Ledger, step: usize) -> String {
        let mut written = Vec::new();
        while !outbox.is_empty() {
            let head = outbox.head();
            let took = head.len().min(step);
            written.extend_from_slice(&head[..took]);
            outbox.advance(took, ledger);
        }
        assert_eq!(ledger.bytes(), 0);
        String::from_utf8(written).expect("text")
    }

    #[test]
    fn a_reply_beyond_the_memory_of_all_outboxes_ends_its_connection() {
        let mut ledger = Ledger::new(CHUNK_BYTES + 3);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(&burst_of("A"), 0, BOUNDS, &mut ledger), Refused::default());
        let refused = outbox.push(&burst_of("B"), 0, BOUNDS, &mut ledger);
        assert_eq!(refused, Refused { replies: 1, ..Refused::default() });
        outbox.abandon(&mut ledger);
        assert_eq!(ledger.bytes(), 0);
    }

    #[test]
    fn a_full_outbox_drops_the_newest_or_the_oldest_message_and_never_a_reply() {
        for (drops_oldest, bursts, from, left, refused) in [
            (false, &["ab", "cde"][..], 0, "abc", (2, 0)),
            (true, &["ab", "cde"], 0, "cde", (2, 0)),
            (true, &["abcdef"], 0, "def", (3, 0)),
            // What is begun stays; so does what answers, and control frames are not counted.
            (true, &["abcd"], 1, "acd", (1, 0)),
            (true, &[".a.b.", "c", "d"], 0, "..b.cd", (1, 0)),
            (true, &["aBc", "d", "e"], 0, "Bde", (2, 0)),
            (true, &["abc", "XY"], 0, "cXY", (2, 0)),
            (true, &["ABC", "d"], 0, "ABC", (1, 0)),
            (true, &["ABC", "D"], 0, "ABCD", (0, 1)),
            (false, &["abc", "D", "e"], 0, "abcD", (1, 1)),
        ] {
            let mut ledger = Ledger::new(1 << 20);
            let mut outbox = Outbox::default();
            let bounds = Bounds { messages_max: 3, drops_oldest, ..BOUNDS };
            let (mut full, mut replies) = (0, 0);
            for (index, frames) in bursts.iter().enumerate() {
                let from = if index == 0 { from } else { 0 };
                let refused = outbox.push(&burst_of(frames), from, bounds, &mut ledger);
                (full, replies) = (full + refused.full, replies + refused.replies);
                assert_eq!(refused.memory, 0);
                outbox.audit().for_each(drop);
            }
            let written = drain(&mut outbox, &mut ledger, 2);
            let mut expected: String = left.chars().flat_map(|letter| [letter; 3]).collect();
            if from == 1 {
                expected.remove(0);
            }
            assert_eq!((written, (full, replies)), (expected, refused), "{bursts:?} from {from}");
        }
    }

    #[test]
    fn the_oldest_make_room_by_bytes_too() {
        let mut ledger = Ledger::new(1 << 20);
        let mut outbox = Outbox::default();
        let bounds = Bounds { bytes_max: 6, drops_oldest: true, ..BOUNDS };
        for (frames, dropped, messages) in [("abc", 0, 3), ("d", 1, 3), ("E", 1, 3), ("fgh", 3, 3)] {
            let refused = outbox.push(&burst_of(frames), 0, bounds, &mut ledger);
            assert_eq!((refused.full, outbox.messages()), (dropped, messages), "{frames}");
            outbox.audit().for_each(drop);
        }
        assert_eq!(drain(&mut outbox, &mut ledger, 100), "EEEggghhh");
    }

    #[test]
    fn the_latest_ping_is_answered_even_when_a_pong_is_half_written() {
        let mut ledger = Ledger::new(1 << 20);
        let mut outbox = Outbox::default();
        let burst = Rc::new(Burst::of_one(Bytes::from_static(b"message"), FrameKind::Message));
        outbox.push(&burst, 0, BOUNDS, &mut ledger);
        let pongs = ["one.", "two.", "three.", "four."].map(|text| Bytes::from_static(text.as_bytes()));
        let [one, two, three, four] = pongs;
        assert!(!outbox.push_pong(one));
        assert!(outbox.push_pong(two), "the first was not begun");
        assert_eq!(outbox.head(), b"two.");
        outbox.advance(1, &mut ledger);
        assert!(!outbox.push_pong(three), "what is begun is finished");
        assert!(outbox.push_pong(four));
        assert_eq!(outbox.bytes(), "wo.four.message".len());
        assert_eq!(drain(&mut outbox, &mut ledger, 2), "wo.four.message");
    }

    #[test]
    fn the_rest_of_a_begun_frame_takes_its_place_where_it_fits() {
        let plain = Bytes::from_static(b"message");
        let rest = || Burst::of_one(Bytes::from_static(b"rest of it"), FrameKind::Begun);
        for (bytes_max, fits) in [(CHUNK_BYTES + 10, true), (CHUNK_BYTES + 9, false)] {
            let mut ledger = Ledger::new(bytes_max);
            let mut outbox = Outbox::default();
            let burst = Rc::new(Burst::of_one(plain.clone(), FrameKind::Message));
            assert_eq!(outbox.push(&burst, 0, BOUNDS, &mut ledger), Refused::default());
            assert_eq!(outbox.begin_front(rest(), &mut ledger), fits);
            assert_eq!((outbox.messages(), outbox.audit().count()), (u32::from(fits), usize::from(fits)));
            assert_eq!(drain(&mut outbox, &mut ledger, 4), if fits { "rest of it" } else { "" });
        }
    }

    #[test]
    fn a_pong_waits_for_the_end_of_a_frame_and_for_the_answer_to_the_upgrade() {
        for (kind, from, expected) in [
            (FrameKind::Message, 0, "pong.first"),
            (FrameKind::Message, 1, "irstpong."),
            (FrameKind::Answer, 0, "firstpong."),
            (FrameKind::Answer, 1, "irstpong."),
            (FrameKind::Begun, 0, "firstpong."),
        ] {
            let mut ledger = Ledger::new(1 << 20);
            let mut outbox = Outbox::default();
            let burst = Rc::new(Burst::of_one(Bytes::from_static(b"first"), kind));
            outbox.push(&burst, from, BOUNDS, &mut ledger);
            outbox.push_pong(Bytes::from_static(b"pong."));
            assert_eq!(drain(&mut outbox, &mut ledger, 3), expected, "{kind:?} from {from}");
        }
    }
}
