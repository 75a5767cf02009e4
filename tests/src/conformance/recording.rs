//! Reads recordings: one JSON object a line, as `ignis.md` §18 describes, into the steps of a conversation.
//!
//! What cannot be read is a panic that names file and line, never a step left out in silence. Left out on purpose
//! is only what repeats another line (Redis `MONITOR` lines of publications, of which a `pmessage` line follows)
//! and what Redis itself said.

use serde_json::Value;

use super::payload;
use crate::client::opcode;

/// A recorded conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The flow: the file's name without its extension.
    pub name: String,
    /// What the first line says about the server.
    pub(super) header: Value,
    /// What happened, in order; lines of one millisecond with what was published first.
    pub(super) lines: Vec<Line>,
}

/// One line of a recording.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// Milliseconds since the recording began.
    pub(super) at_ms: u64,
    /// What happened.
    pub(super) step: Step,
    /// Whether it comes from a plan, not from the file.
    pub(super) inserted: bool,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A client connects and sends an HTTP request.
    Request { conn: String, text: String },
    /// The server's HTTP response.
    Response { conn: String, text: String },
    /// A client sends a frame.
    Send { conn: String, frame: Sent },
    /// A client receives a text message, with the first byte of its frame; the text is that before compression.
    Text { conn: String, first_byte: u8, text: String },
    /// A client receives a ping or pong.
    Control { conn: String, opcode: u8, payload: Vec<u8> },
    /// The server sends a close frame.
    Close { conn: String, code: Option<u16>, reason: String },
    /// The server ends the connection, after a close frame or without one.
    Fin { conn: String, close_frame_seen: bool },
    /// The client ends the connection without a word.
    Cut { conn: String },
    /// Nothing arrives for so long.
    Quiet { conn: String, for_ms: u64 },
    /// Nothing happens for so long.
    Wait { for_ms: u64 },
    /// Somebody publishes on Redis: the emitter, or the server under test.
    Published { channel: String, message: String },
    /// The server sends Redis a command other than `PUBLISH`.
    Commanded { arguments: Vec<String> },
    /// The application calls the API of a server, counted from 0.
    Call { server: usize, call: Value },
    /// What the recorder observed.
    Note(Value),
}

/// A frame of a client.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent {
    /// FIN, RSV bits and opcode.
    pub(super) first_byte: u8,
    /// Whether it is masked, as it must be.
    pub(super) masked: bool,
    /// The payload.
    pub(super) payload: Vec<u8>,
}

impl Recording {
    /// Reads a file's text.
    ///
    /// # Panics
    /// When a line is none of the format.
    pub(super) fn parse(name: &str, text: &str) -> Self {
        let mut objects = text.lines().enumerate().map(|(index, line)| {
            let place = format!("{name}.jsonl:{}", index + 1);
            let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            (index + 1, place, object)
        });
        let (_, place, header) = objects.next().unwrap_or_else(|| panic!("{name}: an empty recording"));
        assert_eq!(header["data"]["flow"], name, "{place}: the header names another flow");
        let mut lines = Vec::new();
        for (number, place, object) in objects {
            let at_ms = object["t"].as_u64().unwrap_or_else(|| panic!("{place}: no time"));
            let steps = steps(&object).unwrap_or_else(|| panic!("{place}: not understood: {object}"));
            lines.extend(steps.into_iter().map(|step| Line { number, at_ms, step, inserted: false }));
        }
        // The recorder heard of a publication and of its effects on different sockets.
        lines.sort_by_key(|line| (line.at_ms, !matches!(line.step, Step::Published { .. })));
        Self { name: name.to_owned(), header: header["data"].clone(), lines }
    }

    /// Whether the flow needs a Redis.
    pub(super) fn uses_redis(&self) -> bool {
        self.lines.iter().any(|line| match &line.step {
            Step::Published { .. } | Step::Commanded { .. } => true,
            Step::Call { call, .. } => call["op"] == "send" || call["op"] == "cutRedis",
            _ => false,
        })
    }

    /// How many servers take part.
    pub(super) fn server_count(&self) -> usize {
        let servers = self.lines.iter().map(|line| match &line.step {
            Step::Request { conn, .. } => server_of(conn),
            Step::Call { server, .. } => *server,
            _ => 0,
        });
        servers.max().unwrap_or_default() + 1
    }
}

/// The server that a client's label names, counted from 0: `B@2` is a client of the second.
pub(super) fn server_of(conn: &str) -> usize {
    let number = conn.split_once('@').and_then(|(_, number)| number.parse::<usize>().ok());
    number.map_or(0, |number| number - 1)
}

/// The steps of one line, which are none, one, or several Redis commands; `None` when it is not understood.
pub(super) fn steps(line: &Value) -> Option<Vec<Step>> {
    let data = &line["data"];
    let conn = || line["conn"].as_str().map(str::to_owned);
    let step = match line["dir"].as_str()? {
        "c>s" if line["op"] == "http" => Step::Request { conn: conn()?, text: data.as_str()?.to_owned() },
        "s>c" if line["op"] == "http" => Step::Response { conn: conn()?, text: data.as_str()?.to_owned() },
        "c>s" => Step::Send { conn: conn()?, frame: sent(line)? },
        "s>c" => received(conn()?, line)?,
        "close" => close(conn()?, line)?,
        "redis" => return redis(data),
        "note" => note(line)?,
        _ => return None,
    };
    Some(vec![step])
}

fn sent(line: &Value) -> Option<Sent> {
    let opcode = match &line["op"] {
        Value::Number(number) => u8::try_from(number.as_u64()?).ok()?,
        name => opcode_of(name.as_str()?)?,
    };
    let flag = |name: &str, default: bool| line[name].as_bool().unwrap_or(default);
    let bits = u8::from(flag("fin", true)) << 7 | u8::from(flag("rsv1", false)) << 6;
    Some(Sent {
        first_byte: bits | opcode,
        masked: flag("mask", true),
        payload: payload::payload(&line["data"])?,
    })
}

fn opcode_of(name: &str) -> Option<u8> {
    Some(match name {
        "cont" => opcode::CONTINUATION,
        "text" => opcode::TEXT,
        "binary" => opcode::BINARY,
        "close" => opcode::CLOSE,
        "ping" => opcode::PING,
        "pong" => opcode::PONG,
        _ => return None,
    })
}

fn received(conn: String, line: &Value) -> Option<Step> {
    let opcode = opcode_of(line["op"].as_str()?)?;
    if opcode != opcode::TEXT {
        return Some(Step::Control { conn, opcode, payload: payload::payload(&line["data"])? });
    }
    let rsv = u8::try_from(line["rsv"].as_u64().unwrap_or_default()).ok()?;
    Some(Step::Text { conn, first_byte: 0x80 | rsv << 4 | opcode, text: line["data"].as_str()?.to_owned() })
}

fn close(conn: String, line: &Value) -> Option<Step> {
    let data = &line["data"];
    if data["tcp"] == "FIN from server" {
        return Some(Step::Fin { conn, close_frame_seen: data["closeFrameSeen"].as_bool()? });
    }
    if data["tcp"] == "cut" {
        return Some(Step::Cut { conn });
    }
    let code = match &data["code"] {
        Value::Null => None,
        code => Some(u16::try_from(code.as_u64()?).ok()?),
    };
    let reason = data["reason"].as_str()?.to_owned();
    if line["by"] == "client" {
        let payload = code.map(u16::to_be_bytes).into_iter().flatten().chain(reason.into_bytes()).collect();
        return Some(Step::Send {
            conn,
            frame: Sent { first_byte: 0x80 | opcode::CLOSE, masked: true, payload },
        });
    }
    Some(Step::Close { conn, code, reason })
}

fn redis(data: &Value) -> Option<Vec<Step>> {
    let commands = match data["kind"].as_str()? {
        "pmessage" => {
            let (channel, message) = (data["channel"].as_str()?, data["raw"].as_str()?);
            return Some(vec![Step::Published { channel: channel.to_owned(), message: message.to_owned() }]);
        }
        "monitor" if data["args"][0] == "publish" => Vec::new(),
        "monitor" => vec![serde_json::from_value(data["args"].clone()).ok()?],
        "resp" if data["from"] == "redis" => Vec::new(),
        "resp" => payload::resp_commands(data["raw"].as_str()?)?,
        _ => return None,
    };
    let steps = commands.into_iter().filter_map(|arguments: Vec<String>| match arguments.as_slice() {
        [name, channel, message] if name == "publish" => {
            Some(Step::Published { channel: channel.clone(), message: message.clone() })
        }
        [name, ..] if name == "subscribe" || name == "psubscribe" => Some(Step::Commanded { arguments }),
        // How a Redis client library greets and leaves is its own affair.
        _ => None,
    });
    Some(steps.collect())
}

fn note(line: &Value) -> Option<Step> {
    let data = &line["data"];
    if let Some(text) = data.as_str() {
        let quiet = text.strip_prefix("nothing received for ").and_then(|rest| rest.split_once(" ms"));
        return Some(match quiet {
            Some((ms, _)) => {
                Step::Quiet { conn: line["conn"].as_str()?.to_owned(), for_ms: ms.parse().ok()? }
            }
            None => Step::Note(data.clone()),
        });
    }
    if let Some(for_ms) = data["wait"].as_u64() {
        return Some(Step::Wait { for_ms });
    }
    if data.get("call").is_some() {
        let number = data["onServer"].as_u64().unwrap_or(1);
        return Some(Step::Call { server: usize::try_from(number).ok()? - 1, call: data["call"].clone() });
    }
    Some(Step::Note(data.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(line: Value) -> Step {
        let mut steps = steps(&line).unwrap_or_else(|| panic!("not understood: {line}"));
        assert_eq!(steps.len(), 1, "{line}");
        steps.remove(0)
    }

    #[test]
    fn frames_keep_their_bits() {
        let frame = |line| match step(line) {
            Step::Send { frame, .. } => (frame.first_byte, frame.masked, frame.payload),
            other => panic!("{other:?}"),
        };
        let text = json!({"dir": "c>s", "conn": "A", "op": "text", "rsv1": true, "mask": false, "data": "x"});
        assert_eq!(frame(text), (0xc1, false, b"x".to_vec()));
        let ping =
            json!({"dir": "c>s", "conn": "A", "op": "ping", "fin": false, "data": {"b64": "a2VlcA=="}});
        assert_eq!(frame(ping), (0x09, true, b"keep".to_vec()));
        let close =
            json!({"dir": "close", "conn": "A", "by": "client", "data": {"code": 999, "reason": "r"}});
        assert_eq!(frame(close), (0x88, true, vec![0x03, 0xe7, b'r']));
        let odd = json!({"dir": "c>s", "conn": "A", "op": 3, "data": "x"});
        assert_eq!(frame(odd), (0x83, true, b"x".to_vec()));
    }

    #[test]
    fn redis_lines_become_publications_and_subscriptions() {
        let raw = "*2\r\n$9\r\nsubscribe\r\n$12\r\nws:broadcast\r\n*1\r\n$4\r\ninfo\r\n\
                   *3\r\n$7\r\npublish\r\n$1\r\nc\r\n$2\r\né\r\n";
        let line = json!({"dir": "redis", "data": {"kind": "resp", "from": "ignis", "raw": raw}});
        let expected = [
            Step::Commanded { arguments: vec!["subscribe".to_owned(), "ws:broadcast".to_owned()] },
            Step::Published { channel: "c".to_owned(), message: "é".to_owned() },
        ];
        assert_eq!(steps(&line), Some(expected.to_vec()));
        let monitor = json!({"dir": "redis", "data": {"kind": "monitor", "args": ["publish", "c", "x"]}});
        assert_eq!(steps(&monitor), Some(Vec::new()));
    }

    #[test]
    fn publications_come_before_their_effects_of_the_same_millisecond() {
        let text = concat!(
            r#"{"t":0,"dir":"note","data":{"flow":"f"}}"#,
            "\n",
            r#"{"t":5,"conn":"A","dir":"s>c","op":"text","data":"x"}"#,
            "\n",
            r#"{"t":5,"dir":"redis","data":{"kind":"pmessage","channel":"c","raw":"m"}}"#,
            "\n",
        );
        let recording = Recording::parse("f", text);
        assert_eq!(recording.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [3, 2]);
        assert!(recording.uses_redis());
    }

    #[test]
    #[should_panic(expected = "f.jsonl:2: not understood")]
    fn a_line_that_is_not_understood_is_named() {
        Recording::parse("f", "{\"t\":0,\"data\":{\"flow\":\"f\"}}\n{\"t\":1,\"dir\":\"elsewhere\"}\n");
    }
}
