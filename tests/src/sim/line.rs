//! What a connection has been promised and its socket has not taken: the naive counterpart of an outbox.
//!
//! One list of frames a connection, nothing shared, every sum computed when asked for.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use shardcast_wire::ignis::Cipher;

use super::bytes::{decrypted_frame, whole_answer_len, whole_frame_len};

/// The answer to an upgrade without its accept key, at a date like any other.
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: \r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
/// What is in it as well when permessage-deflate is agreed on.
const AGREED: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n";

/// What a frame is to the rules of slow consumers, idleness and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// May be refused.
    Message,
    /// May not, and ends a client that has no room for it.
    Reply,
    /// May not.
    Control,
    /// A pong that overtook messages.
    Pong,
}

impl Kind {
    pub(crate) fn is_message(self) -> bool {
        matches!(self, Self::Message | Self::Reply)
    }
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

    /// An answer of the topic dialect.
    pub(crate) fn reply(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Reply, ..Self::message(bytes) }
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

    /// Its bytes; of an answer that no shard has shown yet, those of its text, which only encrypted clients queue.
    pub(crate) fn len(&self) -> usize {
        match (self.either.first(), &self.http) {
            (Some(bytes), _) => bytes.len(),
            (None, Some((101, Some(accept)))) => {
                let agreed = if self.deflates { AGREED.len() } else { 0 };
                SWITCHING.len() + accept.len() + agreed
            }
            (None, _) => 0,
        }
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
    /// Whether the oldest give way to the newest.
    pub(crate) drops_oldest: bool,
    /// Whether this is all there is to it: with memory scarce, the shard says what it refused.
    pub(crate) is_exact: bool,
}

/// What a line had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Messages, new or old.
    pub(crate) messages: usize,
    /// Replies, which wait all the same.
    pub(crate) replies: usize,
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
        self.queue.iter().filter(|frame| frame.kind.is_message()).count()
    }

    /// Every frame that waits.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.queue.iter().chain(&self.pong)
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.bytes(false) > bounds.bytes_max || self.messages() >= bounds.messages_max
    }

    /// Appends frames unless they are refused.
    pub(crate) fn push(&mut self, frames: impl IntoIterator<Item = Frame>, bounds: Bounds) -> Refused {
        let mut refused = Refused::default();
        for frame in frames {
            if bounds.is_exact && frame.kind.is_message() {
                let begun = usize::from(self.written > 0);
                let is_old = |(index, frame): (usize, &Frame)| index >= begun && frame.kind == Kind::Message;
                while bounds.drops_oldest && self.is_full(bounds) {
                    let Some(oldest) = self.queue.iter().enumerate().position(is_old) else { break };
                    self.queue.remove(oldest);
                    refused.messages += 1;
                }
                let is_full = self.is_full(bounds);
                refused.replies += usize::from(is_full && frame.kind == Kind::Reply);
                if is_full && frame.kind == Kind::Message {
                    refused.messages += 1;
                    continue;
                }
            }
            self.queue.push_back(frame);
        }
        refused
    }

    /// Takes note of a pong; returns whether an earlier one is given up for it.
    pub(crate) fn push_pong(&mut self, pong: Frame) -> bool {
        self.pong.replace(pong).is_some()
    }

    /// The socket took `took` bytes of the frames of a whole turn, with nothing before them: the rest waits.
    /// Begun frames go to `wire`. Returns what was refused.
    pub(crate) fn take_burst(
        &mut self,
        mut frames: Vec<Frame>,
        took: usize,
        offered: &[u8],
        bounds: Bounds,
        wire: &mut VecDeque<Frame>,
    ) -> Refused {
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
        self.push(rest, bounds)
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
        self.written > 0 && self.queue.front().is_some_and(|frame| frame.kind.is_message())
    }

    /// Everything that waits is lost; returns how many messages.
    pub(crate) fn abandon(&mut self) -> usize {
        let lost = self.messages();
        *self = Self::default();
        lost
    }
}
