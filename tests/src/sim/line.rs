//! What a connection has been promised and its socket has not taken: the naive counterpart of an outbox.
//!
//! One list of frames a connection, nothing shared, every sum computed when asked for.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use shardcast_wire::ignis::Cipher;

use super::bytes::{decrypted_frame, whole_answer_len, whole_frame_len};

/// What a frame is to the rules of slow consumers, idleness and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be refused.
    Message,
    /// May not.
    Control,
    /// A pong that overtook messages.
    Pong,
}

/// What a client must receive.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Which bytes it may be. Empty for an HTTP answer until the shard showed it.
    pub(crate) either: Vec<Bytes>,
    /// Of one that goes out encrypted: what it is, and the key. `either` is what the shard made of it once it did.
    pub(crate) secret: Option<(Bytes, Rc<Cipher>)>,
    /// For an HTTP answer: status and accept key.
    pub(crate) http: Option<(u16, Option<String>)>,
    /// Of an answer that upgrades: permessage-deflate is agreed on.
    pub(crate) deflates: bool,
    /// The turn in which it was queued and, when its burst was held regardless of the memory left, the
    /// length of that burst.
    pub(crate) forced: Option<(u64, usize)>,
}

impl Frame {
    pub(crate) fn message(bytes: impl Into<Bytes>) -> Self {
        let either = vec![bytes.into()];
        Self { kind: Kind::Message, either, secret: None, http: None, deflates: false, forced: None }
    }

    /// A message, encrypted if there is a key.
    pub(crate) fn message_under(cipher: Option<&Rc<Cipher>>, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let secret = cipher.map(|cipher| (bytes.clone(), cipher.clone()));
        Self { secret, ..Self::message(bytes) }
    }

    pub(crate) fn control(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Control, ..Self::message(bytes) }
    }

    pub(crate) fn pong(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Pong, ..Self::message(bytes) }
    }

    /// A control frame that is one of these.
    pub(crate) fn either(either: Vec<Bytes>) -> Self {
        assert!(!either.is_empty(), "a frame is something");
        Self { kind: Kind::Control, either, secret: None, http: None, deflates: false, forced: None }
    }

    pub(crate) fn http(status: u16, accept: Option<String>) -> Self {
        let http = Some((status, accept));
        Self { kind: Kind::Control, either: Vec::new(), secret: None, http, deflates: false, forced: None }
    }

    pub(crate) fn switching(accept: String, deflates: bool) -> Self {
        Self { deflates, ..Self::http(101, Some(accept)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.either.first().map_or(0, Bytes::len)
    }

    /// Settles on what the shard offers at the place of this frame.
    fn settle(&mut self, offered: &[u8]) {
        if let Some((plain, cipher)) = &self.secret {
            let len = whole_frame_len(offered).expect("an encrypted frame is offered whole");
            assert_eq!(decrypted_frame(cipher, &offered[..len]), plain[..], "what is encrypted");
            self.either = vec![Bytes::copy_from_slice(&offered[..len])];
        } else if self.http.is_some() && self.either.is_empty() {
            let len = whole_answer_len(offered).expect("an answer is offered whole");
            self.either = vec![Bytes::copy_from_slice(&offered[..len])];
        } else if self.either.len() > 1 {
            let chosen = self.either.iter().position(|bytes| offered.starts_with(bytes)).unwrap_or(0);
            self.either = vec![self.either.swap_remove(chosen)];
        }
    }
}

/// How many of these frames the shard offers at once.
pub(crate) fn offered_count(frames: &[Frame], offered: &[u8]) -> usize {
    let mut at = 0;
    let mut count = 0;
    for frame in frames {
        let rest = &offered[at..];
        let whole = if frame.http.is_some() { whole_answer_len(rest) } else { whole_frame_len(rest) };
        let Some(len) = whole.filter(|_| !rest.is_empty()) else { break };
        at += len;
        count += 1;
    }
    count
}

/// Where the bytes of a turn part from its frames.
fn difference(frames: &[Frame], offered: &[u8]) -> Option<String> {
    let mut rest = offered;
    for (index, frame) in frames.iter().enumerate() {
        let expected = &frame.either[0];
        let Some(later) = rest.strip_prefix(&expected[..]) else {
            let found = &rest[..rest.len().min(60)];
            let expected = &expected[..expected.len().min(60)];
            return Some(format!("{} for {} at {index}", found.escape_ascii(), expected.escape_ascii()));
        };
        rest = later;
    }
    (!rest.is_empty()).then(|| format!("{} at the end", rest[..rest.len().min(60)].escape_ascii()))
}

/// When a message is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) messages_max: usize,
    /// Whether this is all there is to it: with memory scarce, the shard says what it refused.
    pub(crate) is_exact: bool,
}

/// The backlog of one connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    queue: VecDeque<Frame>,
    /// Bytes of the first frame that were taken.
    pub(crate) written: usize,
    /// The answer to the latest ping, which goes out as soon as a frame ends.
    pong: Option<Frame>,
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.pong.is_none()
    }

    /// Bytes of frames that wait, a pong included or not.
    pub(crate) fn bytes(&self, with_pong: bool) -> usize {
        let queued: usize = self.frames().filter(|f| with_pong || f.kind != Kind::Pong).map(Frame::len).sum();
        let is_counted = self.queue.front().is_some_and(|first| with_pong || first.kind != Kind::Pong);
        queued - if is_counted { self.written } else { 0 }
    }

    /// Messages that wait, one that is half taken included.
    pub(crate) fn messages(&self) -> usize {
        self.queue.iter().filter(|frame| frame.kind == Kind::Message).count()
    }

    /// Every frame that waits.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.queue.iter().chain(&self.pong)
    }

    /// Appends a frame unless it is refused.
    pub(crate) fn push(&mut self, frame: Frame, bounds: Bounds) -> bool {
        let is_full = self.bytes(false) > bounds.bytes_max || self.messages() >= bounds.messages_max;
        if bounds.is_exact && frame.kind == Kind::Message && is_full {
            return false;
        }
        self.queue.push_back(frame);
        true
    }

    /// Takes note of a pong; returns whether an earlier one is given up for it.
    pub(crate) fn push_pong(&mut self, pong: Frame) -> bool {
        self.pong.replace(pong).is_some()
    }

    /// The socket took `took` bytes of the frames of a whole turn, with nothing before them: the rest waits.
    /// Begun frames go to `wire`. Returns how many were refused.
    pub(crate) fn take_burst(
        &mut self,
        mut frames: Vec<Frame>,
        took: usize,
        offered: &[u8],
        bounds: Bounds,
        wire: &mut VecDeque<Frame>,
    ) -> usize {
        let mut at = 0;
        for frame in &mut frames {
            frame.settle(&offered[at.min(offered.len())..]);
            at += frame.len();
        }
        if let Some(difference) = difference(&frames, offered) {
            panic!("a turn of {} frames is offered otherwise: {difference}", frames.len());
        }
        self.queue = frames.into();
        self.take(took, offered, true, wire);
        let mut rest = std::mem::take(&mut self.queue);
        if self.written > 0 {
            self.queue.extend(rest.pop_front());
        }
        // Encrypted for nothing: another time it will be other bytes.
        for frame in &mut rest {
            if let Some((plain, _)) = &frame.secret {
                frame.either = vec![plain.clone()];
            }
        }
        rest.into_iter().filter_map(|frame| (!self.push(frame, bounds)).then_some(())).count()
    }

    /// The socket took `took` of the `offered` bytes. Begun frames go to `wire`. Returns how many messages
    /// the shard turns out to have refused, which only happens unless `is_exact`.
    pub(crate) fn take(
        &mut self,
        took: usize,
        offered: &[u8],
        is_exact: bool,
        wire: &mut VecDeque<Frame>,
    ) -> usize {
        let mut refused = 0;
        let mut at = 0;
        while at < took {
            if self.written == 0 {
                let rest = &offered[at..];
                let may_pass = self.queue.front().is_none_or(|first| first.http.is_none());
                let is_next = |pong: &mut Frame| may_pass && (is_exact || rest.starts_with(&pong.either[0]));
                if let Some(pong) = self.pong.take_if(is_next) {
                    self.queue.push_front(pong);
                }
                let is_other =
                    |frame: &mut Frame| frame.kind == Kind::Message && !rest.starts_with(&frame.either[0]);
                while !is_exact && self.queue.front_mut().is_some_and(is_other) {
                    self.queue.pop_front();
                    refused += 1;
                }
            }
            let first = self.queue.front_mut();
            let first = first.unwrap_or_else(|| panic!("{} bytes nobody sent", took - at));
            if self.written == 0 {
                first.settle(&offered[at..]);
                wire.push_back(first.clone());
            }
            let step = (first.len() - self.written).min(took - at);
            at += step;
            self.written += step;
            if self.written == first.len() {
                self.written = 0;
                self.queue.pop_front();
            }
        }
        refused
    }

    /// Whether the frame that was begun is a message.
    pub(crate) fn is_in_message(&self) -> bool {
        self.written > 0 && self.queue.front().is_some_and(|frame| frame.kind == Kind::Message)
    }

    /// Everything that waits is lost; returns how many messages.
    pub(crate) fn abandon(&mut self) -> usize {
        let lost = self.messages();
        *self = Self::default();
        lost
    }
}
