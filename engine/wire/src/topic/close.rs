//! The server's close frames, which follow M8 (`topic.md` §5).

use crate::close::{self, CloseCode};
use crate::frame;
use crate::topic::RequestError;

/// The first code that is a dialect's own (RFC 6455 §7.4.2); this one has none.
const OWN_CODES: u16 = 4_000;
/// Policy violation, which is what those of Ignis come to here.
const POLICY: u16 = 1_008;

/// The close frame for `code`: empty as the reference's, or with a code of RFC 6455 and the reason.
pub fn close_frame(code: &CloseCode, is_explicit: bool) -> Vec<u8> {
    if !is_explicit {
        return frame::close(None, "");
    }
    let status = if code.code < OWN_CODES { code.code } else { POLICY };
    frame::close(Some(status), code.reason)
}

impl RequestError {
    /// How the connection ends.
    pub fn close(self) -> &'static CloseCode {
        match self {
            Self::NotJson => &close::INVALID_JSON,
            Self::NotObject | Self::Field => &close::REQUEST_MALFORMED,
            Self::Session => &close::SESSION_MISMATCH,
            Self::Action => &close::UNKNOWN_ACTION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_standard_code_or_none() {
        for code in close::ALL {
            assert_eq!(close_frame(code, false), b"\x88\x00", "{code:?}");
            let expected = match code.code {
                4_000.. => 1_008,
                code => code,
            };
            assert_eq!(close_frame(code, true), frame::close(Some(expected), code.reason), "{code:?}");
        }
        for (code, status) in [
            (&close::AUTHENTICATION_TIMEOUT, 1_008),
            (&close::TOKEN_EXPIRED, 1_008),
            (&close::KICKED, 1_008),
            (&close::RATE_LIMIT_EXCEEDED, 1_008),
            (&close::MESSAGE_TOO_BIG, 1_009),
            (&close::INVALID_UTF8, 1_007),
            (&close::UNMASKED_FRAME, 1_002),
            (&close::SERVER_SHUTTING_DOWN, 1_001),
            (&close::OVERLOADED, 1_013),
            (RequestError::NotJson.close(), 1_007),
            (RequestError::NotObject.close(), 1_008),
            (RequestError::Field.close(), 1_008),
            (RequestError::Session.close(), 1_008),
            (RequestError::Action.close(), 1_008),
        ] {
            assert_eq!(close_frame(code, true)[2..4], u16::to_be_bytes(status), "{code:?}");
        }
    }
}
