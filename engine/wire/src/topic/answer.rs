//! What a client is told about itself, as whole frames (`topic.md` §2, M1 to M6 and M8).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::frame::{self, short_text_frame};
use crate::ignis::ClientId;

/// The id a client must repeat in every request: the 16 bytes of its client id in base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionId([u8; Self::LEN]);

impl SessionId {
    /// Its length, bytes.
    pub const LEN: usize = 22;

    /// That of a connection.
    pub fn of(client: &ClientId) -> Self {
        let mut text = [0; Self::LEN];
        let written = URL_SAFE_NO_PAD.encode_slice(client.as_bytes(), &mut text);
        debug_assert_eq!(written, Ok(Self::LEN));
        Self(text)
    }

    /// The connection's id; `None` for a text that is no session.
    pub fn client(session: &str) -> Option<ClientId> {
        let mut bytes = [0; 16];
        let read = URL_SAFE_NO_PAD.decode_slice(session, &mut bytes).ok()?;
        (read == bytes.len()).then(|| ClientId::from_bytes(bytes))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether `text` is this id; how long that takes tells nothing about it.
    pub fn is(&self, text: &str) -> bool {
        verify_slices_are_equal(&self.0, text.as_bytes()).is_ok()
    }
}

impl fmt::Debug for SessionId {
    /// Without the id: it is its client's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId")
    }
}

/// The answers, once: as they are and as whole frames.
macro_rules! answers {
    ($($(#[doc = $doc:literal])+ $variant:ident => $text:literal,)*) => {
        /// What a client is told; none names a topic or a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Answer {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl Answer {
            /// All of them.
            pub const ALL: &[Answer] = &[$(Answer::$variant),*];

            /// The message.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Answer::$variant => $text,)*
                }
            }

            /// The whole frame.
            pub const fn frame(self) -> &'static [u8] {
                match self {
                    $(Answer::$variant => {
                        const FRAME: [u8; $text.len() + 2] = short_text_frame($text);
                        &FRAME
                    })*
                }
            }
        }
    };
}

answers! {
    /// M1, the first frame of all.
    Connected => r#"{"action":"connect","message":"connection established"}"#,
    /// M3: the token is good.
    Authenticated => r#"{"action":"session","message":"session authenticated"}"#,
    /// M4: the token is not good, or the session may not do this.
    Unauthorized => r#"{"action":"session","message":"session unauthorized"}"#,
    /// M5.
    Subscribed => r#"{"action":"subscribe","message":"context subscribed"}"#,
    /// M6.
    Unsubscribed => r#"{"action":"unsubscribe","message":"context unsubscribed"}"#,
    /// M8, the last frame before the server's close frame.
    Disconnect => r#"{"action":"connect","message":"client disconnect"}"#,
}

/// M2, the second frame of all: the only place where a client learns its session.
pub fn session(id: &SessionId) -> Vec<u8> {
    let head = r#"{"action":"session","message":"waiting for create session","session":""#;
    frame::text(&[head, id.as_str(), "\"}"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_are_those_of_the_reference() {
        assert_eq!(
            Answer::Connected.frame(),
            b"\x81\x37{\"action\":\"connect\",\"message\":\"connection established\"}"
        );
        for answer in Answer::ALL {
            assert_eq!(answer.frame(), frame::text(answer.as_str()), "{answer:?}");
        }
        let id = SessionId::of(&ClientId::from_bytes([0xff; 16]));
        let text = r#"{"action":"session","message":"waiting for create session","session":"_____________________w"}"#;
        assert_eq!(session(&id), frame::text(text));
    }

    #[test]
    fn a_session_is_that_of_one_connection_only() {
        let [one, other] = [1, 2].map(|byte| SessionId::of(&ClientId::from_random([byte; 16])));
        assert!(one.is(one.as_str()) && !one.is(other.as_str()));
        assert_eq!(SessionId::client(one.as_str()), Some(ClientId::from_random([1; 16])));
        for text in
            ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAB", "bc3ce9c1-88a2-4043-87ee"]
        {
            assert_eq!(SessionId::client(text), None, "{text}");
        }
        assert!(!one.is("") && !one.is(&one.as_str()[1..]) && !one.is(&format!("{}=", one.as_str())));
    }
}
