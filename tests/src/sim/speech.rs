//! What a simulated client says: bytes, and what each means from which byte on.
//!
//! The meaning is written down beside the bytes when they are made and never read back from them, so that the
//! model shares no parser with the shard.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use shardcast_shard::{Dialect, Mount};
use shardcast_wire::close::{self, CloseCode};
use shardcast_wire::ignis::ClientId;
use tungstenite::handshake::derive_accept_key;

use super::bytes::{
    FIN, RSV1, client_frame, client_header, close_frame, close_payload, opcode, server_frame,
};
use super::rng::Rng;
use crate::deflate::deflated;

/// Topics that everybody knows.
pub(crate) const TOPICS: [&str; 5] = ["a", "b", "é", "q\"x", "c:d*"];

/// What the bytes up to some point mean.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A request for a WebSocket, with the accept key of its answer.
    Upgrade {
        mount: usize,
        accept: String,
        /// permessage-deflate is offered and must be accepted.
        deflates: bool,
    },
    /// A request that is refused with this status.
    Refused(u16),
    /// A request for the HTTP application.
    Plain(Vec<u8>),
    Malformed,
    Ignored,
    Heartbeat,
    Authenticate(String),
    Join(Vec<String>),
    Leave(Vec<String>),
    Other(String),
    /// A message on a topic mount.
    Topic(TopicSaid),
    /// A message on an echo mount, as the frame it comes back in.
    Echo(Vec<u8>),
    /// The payload.
    Ping(Vec<u8>),
    Pong,
    /// The close frame that answers it.
    Close(Vec<u8>),
    Violation(&'static CloseCode),
}

/// What a client of the topic dialect asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopicAction {
    Authorize,
    Subscribe,
    Unsubscribe,
}

/// What it says.
#[derive(Clone, Debug)]
pub(crate) enum TopicSaid {
    /// With a token or a topic.
    Request(TopicAction, String),
    /// Nothing that is a request.
    NoRequest(&'static CloseCode),
}

/// The session that a client of the topic dialect is told.
pub(crate) fn session_of(client_id: &ClientId) -> String {
    URL_SAFE_NO_PAD.encode(client_id.as_bytes())
}

/// A meaning and the end of the bytes that carry it.
#[derive(Clone, Debug)]
pub(crate) struct Utterance {
    /// Bytes from the connection's first to the last that is needed.
    pub(crate) at: u64,
    pub(crate) said: Said,
}

/// What a client may speak about.
#[derive(Debug)]
pub(crate) struct Vocabulary<'a> {
    /// Names of rooms, ids of clients among them.
    pub(crate) rooms: &'a [String],
    /// Bound of a message on the client's mount.
    pub(crate) message_bytes_max: usize,
    pub(crate) fragments_max: usize,
    /// How often it pings, to 77 other things.
    pub(crate) pings: u32,
    /// Whether it does little but join and leave the first room.
    pub(crate) is_fickle: bool,
}

/// The mouth of one client.
#[derive(Debug, Default)]
pub(crate) struct Speaker {
    /// Bytes on their way to the server.
    pub(crate) bytes: VecDeque<u8>,
    /// What the server has not taken in yet.
    pub(crate) utterances: VecDeque<Utterance>,
    /// Bytes said so far.
    at: u64,
    pings: u64,
    /// Whose language it speaks, once it said where it wants to go.
    mount: Option<usize>,
    is_echo: bool,
    is_topic: bool,
    /// What it must say in each request of the topic dialect.
    pub(crate) session: String,
    /// Whether it may send compressed messages.
    deflates: bool,
}

impl Speaker {
    /// The request head; most ask for a WebSocket.
    pub(crate) fn ask_for_upgrade(&mut self, rng: &mut Rng, mount: usize, config: &Mount) {
        let path = &config.path;
        (self.mount, self.is_echo) = (Some(mount), matches!(config.dialect, Dialect::Echo));
        self.is_topic = config.is_topic();
        let (offer, is_good) = rng.pick(&[
            ("", false),
            ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n", false),
            ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", true),
            ("Sec-WebSocket-Extensions: x, permessage-deflate\r\n", true),
        ]);
        let deflates = is_good && config.compression;
        self.deflates = deflates;
        let key = rng.pick(&["dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEA=="]);
        let upgrade = |path: &str, version: &str, key: &str| {
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: sim\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
            format!("{head}{offer}Sec-WebSocket-Version: {version}\r\nSec-WebSocket-Key: {key}\r\n\r\n")
        };
        let (head, said) = match rng.below(40) {
            0 => (upgrade(path, "12", key), Said::Refused(426)),
            1 => (upgrade(path, "13", "short"), Said::Refused(500)),
            2 => {
                let head = upgrade("/nowhere", "13", key);
                (head.clone(), Said::Plain(head.into_bytes()))
            }
            3 => {
                let head = "GET /health HTTP/1.1\r\nHost: sim\r\n\r\n";
                (head.to_owned(), Said::Plain(head.into()))
            }
            _ => {
                let accept = derive_accept_key(key.as_bytes());
                (upgrade(path, "13", key), Said::Upgrade { mount, accept, deflates })
            }
        };
        self.push(head.as_bytes());
        self.mean(said);
    }

    /// The mount it asked for, once it did.
    pub(crate) fn mount(&self) -> Option<usize> {
        self.mount
    }

    pub(crate) fn authenticate(&mut self, rng: &mut Rng) {
        if self.is_topic {
            let token = rng.pick(&["a.b.c", "to\"ken", "é"]);
            return self.request(rng, TopicAction::Authorize, token);
        }
        let (data, text) = match rng.below(4) {
            0 => ("{}".to_owned(), r#"{"event":"authenticate"}"#.to_owned()),
            1 => ("{}".to_owned(), r#"{"event":"authenticate","data":null}"#.to_owned()),
            2 => ("\"me\"".to_owned(), r#"{"data":"me","id":7,"event":"authenticate"}"#.to_owned()),
            _ => {
                let data = format!(r#"{{"token":"{}"}}"#, rng.below(9));
                let text = format!(r#"{{"event":"authenticate","data":{data}}}"#);
                (data, text)
            }
        };
        self.message(rng, opcode::TEXT, text.as_bytes(), Said::Authenticate(data));
    }

    /// Something, most of it good.
    pub(crate) fn speak(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        match rng.weighted(&[60, vocabulary.pings, 4, 3, 10]) {
            0 if self.is_echo => self.speak_echo(rng),
            0 if self.is_topic => self.speak_topic(rng, vocabulary),
            0 => self.speak_ignis(rng, vocabulary),
            1 => self.ping(rng),
            2 => {
                let payload = vec![b'p'; rng.below(10)];
                self.frame(rng, FIN | opcode::PONG, &payload);
                self.mean(Said::Pong);
            }
            3 if rng.chance(60) => self.close(rng),
            3 => self.violate(rng, vocabulary),
            _ => self.fragmented(rng, vocabulary),
        }
    }

    fn speak_echo(&mut self, rng: &mut Rng) {
        let payload = vec![b'e'; rng.pick(&[0, 5, 125, 126, 1_400])];
        let opcode = rng.pick(&[opcode::TEXT, opcode::BINARY]);
        self.message(rng, opcode, &payload, Said::Echo(Vec::new()));
    }

    fn speak_ignis(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        if vocabulary.is_fickle && rng.chance(80) {
            let room = &vocabulary.rooms[0];
            let (event, said) = match rng.below(2) {
                0 => ("join", Said::Join(vec![room.clone()])),
                _ => ("leave", Said::Leave(vec![room.clone()])),
            };
            let text = format!(r#"{{"event":"{event}","data":{{"rooms":["{room}"]}}}}"#);
            return self.message(rng, opcode::TEXT, text.as_bytes(), said);
        }
        let (text, said) = match rng.weighted(&[12, 40, 20, 8, 8, 4, 8]) {
            0 => return self.authenticate(rng),
            1 => {
                let (json, _, valid) = rooms(rng, vocabulary.rooms);
                (format!(r#"{{"event":"join","data":{{"rooms":[{json}]}}}}"#), Said::Join(valid))
            }
            2 => {
                let (json, all, _) = rooms(rng, vocabulary.rooms);
                (format!(r#"{{"event":"leave","data":{{"rooms":[{json}]}}}}"#), Said::Leave(all))
            }
            3 => (r#"{"event":"heartbeat"}"#.to_owned(), Said::Heartbeat),
            4 => {
                let text = rng.pick(&[
                    r#"{"event":"chat","data":{"n":1}}"#,
                    r#"{"event":7}"#,
                    r#"{"event":"error"}"#,
                ]);
                (text.to_owned(), Said::Other(text.to_owned()))
            }
            5 => {
                let text = rng.pick(&["", "{", "nope", r#"{"event":"x"} x"#]);
                (text.to_owned(), Said::Malformed)
            }
            _ => {
                let text =
                    rng.pick(&["null", "5", "[]", r#"{"event":""}"#, r#"{"data":1}"#, r#"{"event":0}"#]);
                (text.to_owned(), Said::Ignored)
            }
        };
        let opcode = if rng.chance(10) { opcode::BINARY } else { opcode::TEXT };
        self.message(rng, opcode, text.as_bytes(), said);
    }

    fn speak_topic(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        if vocabulary.is_fickle && rng.chance(80) {
            let action = rng.pick(&[TopicAction::Subscribe, TopicAction::Unsubscribe]);
            return self.request(rng, action, TOPICS[0]);
        }
        let known = vocabulary.rooms[rng.below(vocabulary.rooms.len())].clone();
        let topic = match rng.weighted(&[80, 10, 4, 2]) {
            0 => rng.pick(&TOPICS).to_owned(),
            1 => known,
            2 => "ws:internal:broadcast".to_owned(),
            _ if rng.chance(50) => "x\ny".to_owned(),
            _ => "r".repeat(61),
        };
        match rng.weighted(&[10, 50, 30, 2]) {
            0 => self.authenticate(rng),
            1 => self.request(rng, TopicAction::Subscribe, &topic),
            2 => self.request(rng, TopicAction::Unsubscribe, &topic),
            _ => self.no_request(rng),
        }
    }

    fn no_request(&mut self, rng: &mut Rng) {
        let mine = &self.session;
        let (text, code) = match rng.below(5) {
            0 => ("{\"action\"".to_owned(), &close::INVALID_JSON),
            1 => ("[7]".to_owned(), &close::REQUEST_MALFORMED),
            2 => (format!(r#"{{"action":"subscribe","session":"{mine}"}}"#), &close::REQUEST_MALFORMED),
            3 => {
                let text = r#"{"action":"subscribe","session":"MTI3LjAuMC4x","context":"a"}"#;
                (text.to_owned(), &close::SESSION_MISMATCH)
            }
            _ => {
                let text = format!(r#"{{"action":"publish","session":"{mine}","context":"a"}}"#);
                (text, &close::UNKNOWN_ACTION)
            }
        };
        self.message(rng, opcode::TEXT, text.as_bytes(), Said::Topic(TopicSaid::NoRequest(code)));
    }

    fn request(&mut self, rng: &mut Rng, action: TopicAction, context: &str) {
        let text = self.request_text(action, context);
        let opcode = if rng.chance(10) { opcode::BINARY } else { opcode::TEXT };
        let said = TopicSaid::Request(action, context.to_owned());
        self.message(rng, opcode, text.as_bytes(), Said::Topic(said));
    }

    fn request_text(&self, action: TopicAction, context: &str) -> String {
        let action = match action {
            TopicAction::Authorize => "authorization",
            TopicAction::Subscribe => "subscribe",
            TopicAction::Unsubscribe => "unsubscribe",
        };
        let context = context.replace('"', "\\\"").replace('\n', "\\n");
        format!(r#"{{"action":"{action}","session":"{}","context":"{context}"}}"#, self.session)
    }

    fn ping(&mut self, rng: &mut Rng) {
        let payload = self.ping_payload(rng);
        self.frame(rng, FIN | opcode::PING, &payload);
        self.mean(Said::Ping(payload));
    }

    /// No two pings of a connection are alike.
    fn ping_payload(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.pings += 1;
        let mut payload = format!("ping {} ", self.pings).into_bytes();
        payload.resize(rng.pick(&[payload.len(), 40, 125]).max(payload.len()), b'.');
        payload
    }

    fn close(&mut self, rng: &mut Rng) {
        let payload = match rng.below(3) {
            0 => Vec::new(),
            1 => close_payload(1000, ""),
            _ => close_payload(4_242, "bye é"),
        };
        self.frame(rng, FIN | opcode::CLOSE, &payload);
        self.mean(Said::Close(server_frame(opcode::CLOSE, &payload)));
    }

    /// A message in pieces with control frames between them.
    fn fragmented(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        let (payload, said) = if self.is_echo {
            let payload = b"echo in pieces".to_vec();
            (payload.clone(), Said::Echo(server_frame(opcode::TEXT, &payload)))
        } else if self.is_topic {
            let text = self.request_text(TopicAction::Subscribe, "é");
            let said = TopicSaid::Request(TopicAction::Subscribe, "é".to_owned());
            (text.into_bytes(), Said::Topic(said))
        } else {
            let text = r#"{"event":"join","data":{"rooms":["é","a"]}}"#;
            (text.as_bytes().to_vec(), Said::Join(vec!["é".to_owned(), "a".to_owned()]))
        };
        let count = rng.within(2..=vocabulary.fragments_max as u64) as usize;
        let (rsv1, payload) = self.perhaps_deflated(rng, &payload);
        let mut rest = &payload[..];
        for index in 0..count {
            let is_last = index + 1 == count;
            let len = if is_last { rest.len() } else { rng.below(rest.len() + 1) };
            let (piece, later) = rest.split_at(len);
            rest = later;
            let first = if index == 0 { rsv1 | opcode::TEXT } else { opcode::CONTINUATION };
            self.frame(rng, first | if is_last { FIN } else { 0 }, piece);
            if !is_last && rng.chance(30) {
                self.ping(rng);
            }
        }
        self.mean(said);
    }

    /// Breaks one rule of RFC 6455 or one bound.
    fn violate(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        let control = |payload: Vec<u8>, code| (FIN | opcode::CLOSE, payload, code);
        if self.deflates && rng.chance(30) {
            return self.violate_deflate(rng, vocabulary);
        }
        let never_compressed = if self.deflates { opcode::PING } else { opcode::TEXT };
        let from_first_bytes = [
            (FIN | RSV1 | never_compressed, &close::UNEXPECTED_RSV1),
            (FIN | 0x20 | opcode::TEXT, &close::UNEXPECTED_RSV23),
            (FIN | 0x3, &close::INVALID_OPCODE),
            (FIN | 0xb, &close::INVALID_OPCODE),
            (opcode::PING, &close::FRAGMENTED_CONTROL),
            (FIN | opcode::CONTINUATION, &close::STRAY_CONTINUATION),
        ];
        match rng.below(8) {
            0 => {
                self.mean_after(2, Said::Violation(&close::UNMASKED_FRAME));
                self.push(&server_frame(opcode::TEXT, b"no mask"));
            }
            1 => {
                self.mean_after(2, Said::Violation(&close::CONTROL_TOO_BIG));
                self.frame(rng, FIN | opcode::PING, &[0; 126]);
            }
            2 => {
                self.frame(rng, opcode::TEXT, b"{");
                self.mean_after(2, Said::Violation(&close::NESTED_MESSAGE));
                self.frame(rng, FIN | opcode::TEXT, b"}");
            }
            3 => {
                let header =
                    client_header(FIN | opcode::BINARY, vocabulary.message_bytes_max + 1, [1, 2, 3, 4]);
                self.push(&header);
                self.mean(Said::Violation(&close::MESSAGE_TOO_BIG));
                self.push(b"and some of it");
            }
            4 => {
                for index in 0..=vocabulary.fragments_max {
                    let first = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
                    self.frame(rng, first, b"");
                }
                self.mean(Said::Violation(&close::TOO_MANY_FRAGMENTS));
            }
            5 => {
                let header_and_text = 6 + 3;
                self.mean_after(header_and_text + 1, Said::Violation(&close::INVALID_UTF8));
                self.frame(rng, FIN | opcode::TEXT, b"abc\xff and more");
            }
            6 => {
                let (first, payload, code) = match rng.below(4) {
                    0 => control(vec![3], &close::INVALID_CLOSE_PAYLOAD),
                    1 => control(close_payload(999, ""), &close::INVALID_CLOSE_CODE),
                    2 => control(close_payload(1005, "x"), &close::INVALID_CLOSE_CODE),
                    _ => control(b"\x03\xe8\xff".to_vec(), &close::INVALID_UTF8),
                };
                self.frame(rng, first, &payload);
                self.mean(Said::Violation(code));
            }
            _ => {
                let (first, code) = rng.pick(&from_first_bytes);
                self.mean_after(2, Said::Violation(code));
                self.frame(rng, first, b"broken");
            }
        }
    }

    /// A compressed message that is too long, none at all, or no text.
    fn violate_deflate(&mut self, rng: &mut Rng, vocabulary: &Vocabulary<'_>) {
        let (payload, code) = match rng.below(3) {
            0 => (deflated(&vec![b'0'; vocabulary.message_bytes_max + 1]), &close::MESSAGE_TOO_BIG),
            1 => (vec![0xff; 20], &close::INVALID_DEFLATE),
            _ => (deflated(b"abc\xff and more"), &close::INVALID_UTF8),
        };
        self.frame(rng, FIN | RSV1 | opcode::TEXT, &payload);
        self.mean(Said::Violation(code));
    }

    /// A message as it goes into frames, and RSV1 if that is compressed.
    fn perhaps_deflated(&self, rng: &mut Rng, message: &[u8]) -> (u8, Vec<u8>) {
        if self.deflates && rng.chance(60) { (RSV1, deflated(message)) } else { (0, message.to_vec()) }
    }

    /// A message in one frame.
    fn message(&mut self, rng: &mut Rng, opcode: u8, payload: &[u8], said: Said) {
        let (rsv1, sent) = self.perhaps_deflated(rng, payload);
        self.frame(rng, FIN | rsv1 | opcode, &sent);
        self.mean(if self.is_echo { Said::Echo(server_frame(opcode, payload)) } else { said });
    }

    fn frame(&mut self, rng: &mut Rng, first: u8, payload: &[u8]) {
        let mask = (rng.next() as u32).to_le_bytes();
        self.push(&client_frame(first, payload, mask));
    }

    fn push(&mut self, bytes: &[u8]) {
        self.at += bytes.len() as u64;
        self.bytes.extend(bytes);
    }

    fn mean(&mut self, said: Said) {
        self.mean_after(0, said);
    }

    /// The meaning is clear `bytes` after what was pushed so far.
    fn mean_after(&mut self, bytes: u64, said: Said) {
        self.utterances.push_back(Utterance { at: self.at + bytes, said });
    }
}

/// The close frame of a code.
pub(crate) fn frame_of(code: &CloseCode) -> Vec<u8> {
    close_frame(code.code, code.reason)
}

/// Some names: as JSON, all that are strings, and those a client may ask for.
fn rooms(rng: &mut Rng, known: &[String]) -> (String, Vec<String>, Vec<String>) {
    let mut json = Vec::new();
    let (mut all, mut valid) = (Vec::new(), Vec::new());
    for _ in 0..rng.below(4) {
        let name = match rng.below(24) {
            0 => {
                json.push("7".to_owned());
                continue;
            }
            1 => String::new(),
            2 => "ws:internal:broadcast".to_owned(),
            3 => "r".repeat(257),
            4 => "r".repeat(256),
            5..9 => known[rng.below(known.len())].clone(),
            _ => known[rng.below(known.len().min(6))].clone(),
        };
        json.push(format!("\"{}\"", name.replace('"', "\\\"")));
        if !name.is_empty() && name.len() < 257 && !name.starts_with("ws:") {
            valid.push(name.clone());
        }
        all.push(name);
    }
    (json.join(","), all, valid)
}
