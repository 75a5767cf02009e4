//! Floods a client that does not read, then lets it read.
//!
//! Each message carries its number, so that a gap shows. How many fit is the kernel's and the machine's affair;
//! that a prefix without gaps arrives, and what comes after it, is the server's.

use std::time::Duration;

use serde_json::{Value, json};

use super::flow::{Checked, Difference, Flow};
use super::{pause, poll};
use crate::client::Received;

/// A client that received nothing for so long has received all there is; wrong at worst if a machine stalls for
/// longer, and then the later message is sent again.
const DRAINED_AFTER: Duration = Duration::from_millis(500);

/// How much is sent between two looks at whether the kernel takes more.
const FILL_BYTES: usize = 64 * 1024;

/// The kernel's buffers grow for a while; one that took nothing for so long is full.
const BLOCKED_AFTER: Duration = Duration::from_millis(100);

/// How often the later message is sent before it counts as lost.
const LATER_TRIES: usize = 20;

/// What came of a flood.
#[derive(Debug)]
pub(super) struct Flood {
    sent: u64,
    /// Numbers 0 to this, exclusive, arrived in order.
    received: u64,
    /// The connection ended, without a close frame.
    ended: bool,
}

impl Flood {
    /// Sends what the header says to the one connection of the flow, which reads when all is sent.
    pub(super) fn run(flow: &mut Flow<'_>) -> Result<Self, Difference> {
        let header = flow.header;
        let field = |name: &str| header[name].as_u64().unwrap_or_else(|| panic!("no {name} in the header"));
        let (sent, size) = (field("n"), field("size"));
        let mut call = match header["mode"].as_str() {
            Some("raw") => json!({"op": "sendToUser", "userId": "u1", "event": "bp"}),
            Some("room") => json!({"op": "sendToRoom", "room": "bproom", "event": "bp"}),
            other => panic!("unknown mode {other:?}"),
        };
        let size = usize::try_from(size).expect("a size that fits memory");
        let filler = "z".repeat(size.saturating_sub(50));
        let mut flood = Self { sent: 0, received: 0, ended: false };
        let id = flow.bindings.all().pop().expect("the client was told its id");
        // Who is closed at the first message that does not fit misses none in between.
        let is_closed = header["serverOptions"]["closeOnBackpressureLimit"] == true;
        let step = (FILL_BYTES / size).max(1) as u64;
        while !is_closed && flood.sent < sent && !is_blocked(flow, &id) {
            flood.send(flow, &mut call, &filler, step.min(sent - flood.sent));
        }
        flood.send(flow, &mut call, &filler, sent - flood.sent);
        if !is_closed {
            // Looking waits for what was sent; were the client to read earlier, some of that would fit again.
            poll(|| flow.target.client(&id)).ok_or_else(|| Difference::new("the client to be there", &id))?;
        }
        flood.read(flow, call)
    }

    fn send(&mut self, flow: &mut Flow<'_>, call: &mut Value, filler: &str, count: u64) {
        for number in self.sent..self.sent + count {
            call["data"] = json!({"n": number, "filler": filler});
            flow.target.call(0, call);
        }
        self.sent += count;
    }

    /// Lets the client read, and sends something later until that arrives.
    fn read(mut self, flow: &mut Flow<'_>, mut call: Value) -> Result<Self, Difference> {
        call["data"] = "later".into();
        for _ in 0..LATER_TRIES {
            let conn = flow.conns.values_mut().next().expect("one connection");
            loop {
                match conn.client.recv_within(DRAINED_AFTER) {
                    Received::Text(text) => {
                        let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                        if message["data"] == "later" {
                            return Ok(self);
                        }
                        if message["data"]["n"] != self.received {
                            let number = message["data"]["n"].clone();
                            return Err(Difference::new(format!("message {}", self.received), number));
                        }
                        self.received += 1;
                    }
                    Received::Eof | Received::Cut => {
                        self.ended = true;
                        conn.closing = true;
                        return Ok(self);
                    }
                    Received::Timeout => break,
                    other => return Err(Difference::new("messages or the end", other)),
                }
            }
            flow.target.call(0, &call);
        }
        Err(Difference::new("a later message to arrive", self))
    }

    /// The connection must have ended.
    pub(super) fn expect_end(&self) -> Checked {
        if self.ended { Ok(()) } else { Err(Difference::new("the end without a close frame", self)) }
    }

    /// Compares with what the recorded client had received when it was over.
    pub(super) fn expect(&self, recorded: &Value) -> Checked {
        let dropped = self.received < self.sent;
        let gapless =
            recorded["gaps"] == json!([]) && recorded["first"] == 0 && recorded["closeFrame"].is_null();
        if recorded["closed"] == self.ended && dropped && gapless && self.received > 0 {
            return Ok(());
        }
        Err(Difference::new(format!("the like of {recorded}"), self))
    }
}

/// Whether the client's socket takes no more, so that all that follows waits in the server. Only then is what
/// arrives without a gap: a kernel that takes more after messages were refused makes room for later ones.
fn is_blocked(flow: &mut Flow<'_>, id: &str) -> bool {
    let Some(waiting) = flow.target.backlog(id) else { return true };
    if waiting == 0 {
        return false;
    }
    pause(BLOCKED_AFTER);
    flow.target.backlog(id) == Some(waiting)
}
