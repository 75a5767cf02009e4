//! One client of the simulation: its mouth, its ear, and the kernel's buffers between it and the shard.

use std::collections::VecDeque;

use shardcast_shard::flush::Written;

use super::bytes::{whole_answer_len, whole_frame_len};
use super::line::Frame;
use super::rng::Rng;
use super::speech::Speaker;

/// A client and its socket.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) speaker: Speaker,
    /// Bytes the shard was handed.
    pub(crate) fed: u64,
    /// Sent by the server, not read by the client.
    kernel: VecDeque<u8>,
    kernel_max: usize,
    /// What was sent so far ends where a frame ends.
    pub(crate) is_aligned: bool,
    ear: Vec<u8>,
    heard_answer: bool,
    pub(crate) is_stalled: bool,
    /// The client is gone without a word.
    pub(crate) is_reset: bool,
    /// The client sent FIN.
    pub(crate) has_finished: bool,
    /// The server sent FIN.
    pub(crate) is_finished: bool,
    /// The shard let go of the socket.
    pub(crate) is_dropped: bool,
    /// The driver's reader ended.
    pub(crate) is_reader_done: bool,
    /// The slot is free.
    pub(crate) is_released: bool,
}

impl Peer {
    pub(crate) fn new(kernel_max: usize) -> Self {
        Self {
            speaker: Speaker::default(),
            fed: 0,
            kernel: VecDeque::new(),
            kernel_max,
            is_aligned: true,
            ear: Vec::new(),
            heard_answer: false,
            is_stalled: false,
            is_reset: false,
            has_finished: false,
            is_finished: false,
            is_dropped: false,
            is_reader_done: false,
            is_released: false,
        }
    }

    /// Whether there is a client that listens.
    pub(crate) fn is_listening(&self) -> bool {
        !self.is_reset && !self.is_stalled
    }

    /// Whether the driver still has a socket for it.
    pub(crate) fn is_held(&self) -> bool {
        !self.is_released && !self.is_dropped
    }

    /// Whether the driver's reader would find something.
    pub(crate) fn is_readable(&self) -> bool {
        let has_news = self.is_reset || self.has_finished || !self.speaker.bytes.is_empty();
        !self.is_released && !self.is_reader_done && (has_news || self.is_dropped)
    }

    /// Whether the socket would take a byte, or fail at once.
    pub(crate) fn is_writable(&self) -> bool {
        self.is_reset || self.kernel.len() < self.kernel_max
    }

    /// What the kernel says to a write.
    pub(crate) fn write(&self, rng: &mut Rng, offered: &[u8]) -> Written {
        if self.is_reset && rng.chance(70) {
            return Written::Failed;
        }
        let free = self.kernel_max.saturating_sub(self.kernel.len()).min(offered.len());
        Written::Took(if rng.chance(8) { rng.below(free + 1) } else { free })
    }

    /// The kernel takes bytes for the client.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if !self.is_reset {
            self.kernel.extend(bytes);
        }
    }

    /// The client's window opens wide and it reads.
    pub(crate) fn recover(&mut self) {
        self.is_stalled = false;
        self.kernel_max = usize::MAX;
    }

    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
        self.kernel.clear();
        self.speaker.bytes.clear();
    }

    /// The client reads some bytes and compares every whole answer or frame with what it must hear.
    pub(crate) fn read(&mut self, len: usize, wire: &mut VecDeque<Frame>) -> usize {
        let len = len.min(self.kernel.len());
        self.ear.extend(self.kernel.drain(..len));
        let mut at = 0;
        let mut heard = 0;
        loop {
            let rest = &self.ear[at..];
            let whole = if self.heard_answer { whole_frame_len(rest) } else { whole_answer_len(rest) };
            let Some(len) = whole else { break };
            compare(&rest[..len], wire.pop_front(), !self.heard_answer);
            self.heard_answer = true;
            at += len;
            heard += 1;
        }
        self.ear.drain(..at);
        let is_over = (self.is_finished || self.is_dropped) && self.kernel.is_empty();
        assert!(!is_over || wire.is_empty(), "the stream ends and the client misses {wire:?}");
        heard
    }

    /// Whether everything sent was read.
    pub(crate) fn has_read_all(&self) -> bool {
        self.kernel.is_empty()
    }
}

fn compare(heard: &[u8], expected: Option<Frame>, is_answer: bool) {
    let Some(expected) = expected else { panic!("heard what nobody sent: {}", heard.escape_ascii()) };
    assert_eq!(is_answer, expected.http.is_some(), "heard {} for {expected:?}", heard.escape_ascii());
    let Some((status, accept)) = expected.http else {
        let fits = expected.either.iter().any(|bytes| bytes == heard);
        assert!(fits, "heard {} for {:?}", heard.escape_ascii(), expected.either);
        return;
    };
    let text = std::str::from_utf8(heard).expect("an answer is text");
    assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "heard {text} for {status}");
    let agreed = "\r\nSec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n";
    let deflates = (text.contains(agreed), text.contains("Sec-WebSocket-Extensions"));
    assert_eq!(deflates, (expected.deflates, expected.deflates), "heard {text}");
    if let Some(accept) = accept {
        assert!(
            text.contains(&format!("\r\nSec-WebSocket-Accept: {accept}\r\n")),
            "heard {text} for {accept}"
        );
    }
}
