//! Every close frame the server starts: code, reason, and whether the client should come back.
//!
//! A close frame we send is either one of these or the echo of the client's own. Texts are what deployed
//! clients match on, so a text never changes once released. Codes below 3000 are RFC 6455 §7.4.1; 4001 to
//! 4004 belong to Ignis, 4005 is ours.

/// One way the server ends a connection.
///
/// `reason` is at most 123 bytes, so that the frame fits a control frame (RFC 6455 §5.5).
#[derive(Debug, PartialEq, Eq)]
pub struct CloseCode {
    /// The status code on the wire.
    pub code: u16,
    /// The text on the wire.
    pub reason: &'static str,
    /// Whether the same client, unchanged, may succeed when it connects again.
    pub retry: bool,
    /// What happened, for operators.
    pub doc: &'static str,
}

macro_rules! close_codes {
    ($($name:ident = $code:literal, $reason:literal, retry $retry:literal, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub static $name: CloseCode = CloseCode { code: $code, reason: $reason, retry: $retry, doc: $doc };
        )*
        /// Every entry of this file.
        pub static ALL: &[&CloseCode] = &[$(&$name),*];
    };
}

close_codes! {
    SERVER_SHUTTING_DOWN = 1001, "Server shutting down", retry true,
        "The server drains; another one, or this one restarted, takes the client.";

    UNMASKED_FRAME = 1002, "Received an incorrectly masked frame", retry false,
        "A client frame without a mask (RFC 6455 §5.1).";
    UNEXPECTED_RSV1 = 1002, "Received unexpected RSV1 bit", retry false,
        "A compressed frame where there may be none: not negotiated, or not the first of a message (RFC 7692 §6).";
    UNEXPECTED_RSV23 = 1002, "Received unexpected RSV2 or RSV3 bit", retry false,
        "A bit of an extension that was never negotiated (RFC 6455 §5.2).";
    INVALID_OPCODE = 1002, "Received invalid opcode", retry false,
        "A reserved opcode (RFC 6455 §5.2).";
    FRAGMENTED_CONTROL = 1002, "Received fragmented control frame", retry false,
        "A control frame without FIN (RFC 6455 §5.5).";
    CONTROL_TOO_BIG = 1002, "Received too big control frame", retry false,
        "A control frame with more than 125 bytes (RFC 6455 §5.5).";
    STRAY_CONTINUATION = 1002, "Received continuation frame outside a fragmented message", retry false,
        "A continuation with nothing to continue (RFC 6455 §5.4).";
    NESTED_MESSAGE = 1002, "Received new message inside a fragmented message", retry false,
        "A new text or binary frame before the last fragment (RFC 6455 §5.4).";
    INVALID_CLOSE_PAYLOAD = 1002, "Received invalid close payload", retry false,
        "A close frame with half a code (RFC 6455 §5.5.1).";
    INVALID_CLOSE_CODE = 1002, "Received invalid close code", retry false,
        "A close code that must not be sent (RFC 6455 §7.4).";
    INVALID_DEFLATE = 1007, "Received invalid compressed data", retry false,
        "A compressed message that cannot be inflated (RFC 7692 §7.2.2).";
    INVALID_UTF8 = 1007, "Received invalid UTF-8", retry false,
        "A text message or close reason that is not UTF-8 (RFC 6455 §8.1).";
    INVALID_JSON = 1007, "Received invalid JSON", retry false,
        "A message of a topic client that is not JSON.";
    TOO_MANY_FRAGMENTS = 1008, "Too many fragments", retry false,
        "A message in more frames than the server accepts.";
    KICKED = 1008, "Kicked", retry false,
        "An operator or the application ended the connection.";
    RATE_LIMIT_EXCEEDED = 1008, "Rate limit exceeded", retry true,
        "The client went on sending more than its rates allow, although it was told.";
    TOO_MANY_CONNECTIONS = 1008, "Too many connections", retry true,
        "The user holds as many connections as one may.";
    SESSION_UNAUTHORIZED = 1008, "Session unauthorized", retry false,
        "A topic client subscribed or unsubscribed before it was authorized.";
    TOO_MANY_REFUSALS = 1008, "Too many failed authorizations", retry false,
        "A topic client sent more bad tokens than one connection may.";
    TOPIC_REFUSED = 1008, "Invalid topic", retry false,
        "A topic client subscribed to what is no name of a topic, or a reserved one.";
    REQUEST_MALFORMED = 1008, "Invalid request", retry false,
        "A topic client sent JSON that is no request, or one that lacks a field.";
    SESSION_MISMATCH = 1008, "Wrong session", retry false,
        "A topic client named a session that is not its own.";
    UNKNOWN_ACTION = 1008, "Unknown action", retry false,
        "A topic client asked for an action that there is not.";
    MESSAGE_TOO_BIG = 1009, "Received too big message", retry false,
        "A message beyond the limit of the mount.";

    OVERLOADED = 1013, "Try again later", retry true,
        "The server has no memory left for another incomplete message.";
    TOO_MANY_REQUESTS = 1013, "Too many requests waiting", retry true,
        "A topic client went on asking while more of its requests waited than may.";
    REQUEST_TIMEOUT = 1013, "Request timeout", retry true,
        "The application or Redis did not answer a request of a topic client in time.";

    AUTHENTICATION_TIMEOUT = 4001, "Authentication timeout", retry true,
        "The client did not authenticate in time, or the application did not answer in time.";
    HEARTBEAT_TIMEOUT = 4002, "Heartbeat timeout", retry true,
        "The client sent no message for longer than the heartbeat timeout.";
    AUTHENTICATION_FAILED = 4003, "Authentication failed", retry false,
        "The application refused the client.";
    ENCRYPTION_REQUIRED = 4004, "Encryption required", retry false,
        "The server requires encryption and the handshake failed.";
    TOKEN_EXPIRED = 4005, "Token expired", retry true,
        "What the client authenticated with has expired; it comes back with a fresh token.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_fits_a_control_frame_and_may_be_sent() {
        for entry in ALL {
            assert!(entry.reason.len() <= 123, "{entry:?}");
            assert!(crate::frame::is_sendable_close_code(entry.code), "{entry:?}");
            assert!(!entry.doc.is_empty() && !entry.reason.is_empty(), "{entry:?}");
        }
    }

    #[test]
    fn no_two_entries_look_alike_on_the_wire() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|b| (a.code, a.reason) != (b.code, b.reason)), "{a:?}");
        }
    }
}
