//! Floods a client that does not read, then lets it read.
//!
//! Each message carries its number, so that a gap shows. How many fit is the kernel's and the machine's affair;
//! that a prefix without gaps arrives, and what comes after it, is the server's.

use std::time::Duration;

use serde_json::{Value, json};

use super::flow::{Checked, Difference, Flow};
use crate::client::Received;

/// A client that received nothing for so long has received all there is; wrong at worst if a machine stalls for
/// longer, and then the later message is sent again.
const DRAINED_AFTER: Duration = Duration::from_millis(500);

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
        let target = match header["mode"].as_str() {
            Some("raw") => json!({"op": "sendToUser", "userId": "u1"}),
            Some("room") => json!({"op": "sendToRoom", "room": "bproom"}),
            other => panic!("unknown mode {other:?}"),
        };
        let filler = "z".repeat(usize::try_from(size).expect("a size that fits memory").saturating_sub(50));
        let mut call = target;
        call["event"] = "bp".into();
        for number in 0..sent {
            call["data"] = json!({"n": number, "filler": filler});
            flow.target.call(0, &call);
        }
        Self::read(flow, call, sent)
    }

    fn read(flow: &mut Flow<'_>, mut call: Value, sent: u64) -> Result<Self, Difference> {
        let mut flood = Self { sent, received: 0, ended: false };
        call["data"] = "later".into();
        for _ in 0..LATER_TRIES {
            let conn = flow.conns.values_mut().next().expect("one connection");
            loop {
                match conn.client.recv_within(DRAINED_AFTER) {
                    Received::Text(text) => {
                        let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                        if message["data"] == "later" {
                            return Ok(flood);
                        }
                        if message["data"]["n"] != flood.received {
                            let number = message["data"]["n"].clone();
                            return Err(Difference::new(format!("message {}", flood.received), number));
                        }
                        flood.received += 1;
                    }
                    Received::Eof | Received::Cut => {
                        flood.ended = true;
                        conn.closing = true;
                        return Ok(flood);
                    }
                    Received::Timeout => break,
                    other => return Err(Difference::new("messages or the end", other)),
                }
            }
            flow.target.call(0, &call);
        }
        Err(Difference::new("a later message to arrive", flood))
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
