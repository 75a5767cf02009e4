//! Replays one recording, line by line: does what the client and the application did, expects what the server did.
//!
//! Order is compared for each connection, and for what a server says to Redis; between those the recorder's order
//! is chance. Nothing may come that is not recorded: silences are proved by a fence where the messages of the
//! connection itself could break them, and waited for where something else could.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use super::backpressure::Flood;
use super::normal::{Bindings, Likeness};
use super::plan::Timing;
use super::recording::{Line, Recording, Sent, Step, server_of};
use super::secrets::Secrets;
use super::tap::{self, Tap};
use super::target::Target;
use crate::client::{Client, REPLY_WITHIN, Received, masked_frame, opcode};
use crate::redis::RedisServer;

/// How long a connection that must stay silent is listened to where a fence proves nothing.
const SILENCE: Duration = Duration::from_millis(200);

/// What a line asked for and what came instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What the recording has.
    pub expected: String,
    /// What there was.
    pub got: String,
}

impl Difference {
    pub(super) fn new(expected: impl Into<String>, got: impl Debug) -> Self {
        Self { expected: expected.into(), got: format!("{got:?}") }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}\n    got {}", self.expected, self.got)
    }
}

pub(super) type Checked = Result<(), Difference>;

/// A client of the recording.
pub(super) struct Conn {
    pub(super) client: Client,
    /// `ip:port` of its server.
    address: String,
    /// What answers the key of its handshake.
    accept: String,
    /// When it asked for the connection.
    requested: Instant,
    /// The server switched protocols.
    pub(super) is_open: bool,
    /// It has sent what the server may not have handled yet.
    unsettled: bool,
    /// A close frame went one way or the other, or the connection ended.
    pub(super) closing: bool,
    /// The server's FIN has come.
    pub(super) ended: bool,
    /// The server's close frame, code and reason.
    pub(super) close_frame: Option<(Option<u16>, String)>,
    pub(super) text_count: u64,
    pub(super) ping_count: u64,
}

/// The replay of one recording.
pub(super) struct Flow<'a> {
    pub(super) target: &'a mut dyn Target,
    redis: Option<RedisServer>,
    tap: Option<Tap>,
    timing: Option<&'a Timing>,
    headers_in_any_order: bool,
    pub(super) header: &'a Value,
    pub(super) conns: BTreeMap<String, Conn>,
    pub(super) bindings: Bindings,
    /// The connection that did something last.
    pub(super) last_conn: String,
    /// What the flood of a backpressure flow came to.
    pub(super) flood: Option<Flood>,
    /// Publications seen of each server.
    published: Vec<usize>,
    /// Something came through Redis, which no fence on a connection waits for.
    through_redis: bool,
    /// The servers cannot say more to Redis.
    redis_ended: bool,
    /// When the first line was, and its recorded time.
    began: Option<(Instant, u64)>,
    /// Messages whose data came in another spelling.
    respelled: usize,
    /// Keys of encrypted clients.
    pub(super) secrets: Secrets,
}

impl<'a> Flow<'a> {
    /// A replay against `target`, whose servers share `redis` if there is one.
    pub(super) fn new(
        target: &'a mut dyn Target,
        redis: Option<(RedisServer, Tap)>,
        timing: Option<&'a Timing>,
        headers_in_any_order: bool,
        recording: &'a Recording,
    ) -> Self {
        let (redis, tap) = redis.unzip();
        Self {
            target,
            redis,
            tap,
            timing,
            headers_in_any_order,
            header: &recording.header,
            conns: BTreeMap::new(),
            bindings: Bindings::default(),
            last_conn: String::new(),
            flood: None,
            published: vec![0; recording.server_count()],
            through_redis: false,
            redis_ended: false,
            began: None,
            respelled: 0,
            secrets: Secrets::default(),
        }
    }

    /// Replays every line, naming each before it is tried. Returns how many messages came in another spelling.
    ///
    /// # Errors
    /// At the first line that finds something else.
    pub(super) fn run(
        mut self,
        recording: &Recording,
        mut at_line: impl FnMut(usize),
    ) -> Result<usize, Difference> {
        for line in &recording.lines {
            at_line(line.number);
            self.step(line)?;
        }
        self.expect_nothing_more()?;
        Ok(self.respelled)
    }

    fn step(&mut self, line: &Line) -> Checked {
        match &line.step {
            Step::Response { conn, text } => self.respond(conn, text),
            Step::Text { conn, first_byte, text } => self.receive_text(conn, *first_byte, text),
            Step::Control { conn, opcode, payload } => {
                self.receive_control(conn, *opcode, payload, line.number)
            }
            Step::Close { conn, code, reason } => self.receive_close(conn, *code, reason, line.number),
            Step::Fin { conn, close_frame_seen } => self.receive_fin(conn, *close_frame_seen, line.number),
            Step::Commanded { arguments } => self.subscribed(arguments),
            cause => {
                self.pause_until(line.at_ms);
                self.cause(cause)
            }
        }
    }

    /// What the clients, the application and the recorder do, as opposed to the server.
    fn cause(&mut self, step: &Step) -> Checked {
        match step {
            Step::Request { conn, text } => self.request(conn, text),
            Step::Send { conn, frame } => self.send(conn, frame),
            Step::Cut { conn } => {
                self.conns.remove(conn);
                Ok(())
            }
            Step::Quiet { conn, for_ms } => self.quiet(conn, *for_ms),
            Step::Wait { for_ms } => {
                super::pause(Duration::from_millis(*for_ms));
                Ok(())
            }
            Step::Published { channel, message } => self.publication(channel, message),
            Step::Call { server, call } => self.call(*server, call),
            Step::Note(note) => {
                self.settle();
                self.note(note)
            }
            server => unreachable!("{server:?} is the server's doing"),
        }
    }

    fn request(&mut self, label: &str, text: &str) -> Checked {
        let requested = Instant::now();
        let address = self.target.address(server_of(label));
        let key = generate_key();
        let text = at_address(text, &address.to_string());
        let mut client = Client::open(address);
        let sent = client.send_raw(text.replace("<KEY>", &key).as_bytes());
        sent.map_err(|error| Difference::new("a request that can be sent", error))?;
        let conn = Conn {
            client,
            address: address.to_string(),
            accept: derive_accept_key(key.as_bytes()),
            requested,
            is_open: false,
            unsettled: false,
            closing: false,
            ended: false,
            close_frame: None,
            text_count: 0,
            ping_count: 0,
        };
        self.conns.insert(label.to_owned(), conn);
        Ok(())
    }

    fn respond(&mut self, label: &str, text: &str) -> Checked {
        let conn = Self::conn(&mut self.conns, label)?;
        let response = conn.client.response();
        let got = [response.head.as_str(), &String::from_utf8_lossy(&response.body)].concat();
        let text = at_address(text, &conn.address);
        let shape = |text: &str| match response.status {
            101 => text.to_owned(),
            _ if self.headers_in_any_order => with_sorted_headers(text),
            _ => text.to_owned(),
        };
        if !self.bindings.matches(&shape(&text), &shape(&got), &conn.accept) {
            return Err(Difference::new(format!("{text:?}"), got));
        }
        if response.status == 101 {
            conn.is_open = true;
        } else {
            conn.closing = true;
        }
        Ok(())
    }

    fn send(&mut self, label: &str, frame: &Sent) -> Checked {
        let payload = match std::str::from_utf8(&frame.payload) {
            Ok(text) if let Some((theirs, ours)) = self.secrets.public_key_for(label, text) => {
                self.bindings.bind(&theirs, &ours);
                self.bindings.apply(text).into_bytes()
            }
            Ok(text) => self.bindings.apply(text).into_bytes(),
            Err(_) => frame.payload.clone(),
        };
        let conn = Self::conn(&mut self.conns, label)?;
        let bytes = if frame.masked {
            masked_frame(frame.first_byte, &payload)
        } else {
            let len = u8::try_from(payload.len()).expect("recorded unmasked frames are short");
            [&[frame.first_byte, len], payload.as_slice()].concat()
        };
        let sent = conn.client.send_raw(&bytes);
        sent.map_err(|error| Difference::new("a frame that can be sent", error))?;
        conn.unsettled = true;
        conn.closing |= frame.first_byte & 0x0f == opcode::CLOSE;
        self.last_conn = label.to_owned();
        Ok(())
    }

    fn receive_text(&mut self, label: &str, first_byte: u8, text: &str) -> Checked {
        let expected = || format!("{label} to receive {text:?}");
        let is_compressed = first_byte == 0xc0 | opcode::TEXT;
        if !is_compressed && first_byte != 0x80 | opcode::TEXT {
            return Err(Difference::new(expected(), "a recording with other reserved bits"));
        }
        let conn = Self::conn(&mut self.conns, label)?;
        let got = match is_compressed {
            true => conn.client.recv_deflated(text.len()),
            false => match conn.client.recv() {
                Received::Text(got) => got,
                other => return Err(Difference::new(expected(), other)),
            },
        };
        conn.text_count += 1;
        let (text, got) = match self.secrets.open(label, text, &got) {
            Some(opened) => opened?,
            None => {
                let text = self.secrets.connected(label, text, &got).unwrap_or_else(|| text.to_owned());
                (text, got)
            }
        };
        match self.bindings.compare(&text, &got) {
            Likeness::Same => {}
            Likeness::Respelled => self.respelled += 1,
            Likeness::Different => return Err(Difference::new(expected(), got)),
        }
        Ok(())
    }

    fn receive_control(&mut self, label: &str, opcode: u8, payload: &[u8], line: usize) -> Checked {
        let patience = self.patience(label, line);
        let conn = Self::conn(&mut self.conns, label)?;
        let expected = match opcode {
            opcode::PING => Received::Ping(payload.to_vec()),
            _ => Received::Pong(payload.to_vec()),
        };
        conn.ping_count += u64::from(opcode == opcode::PING);
        let got = conn.client.recv_within(patience);
        if got != expected {
            return Err(Difference::new(format!("{label} to receive {expected:?}"), got));
        }
        self.expect_in_window(label, line)
    }

    fn receive_close(&mut self, label: &str, code: Option<u16>, reason: &str, line: usize) -> Checked {
        let patience = self.patience(label, line);
        let conn = Self::conn(&mut self.conns, label)?;
        let got = conn.client.recv_within(patience);
        if got != Received::Close(code, reason.to_owned()) {
            return Err(Difference::new(format!("{label} to be closed with {code:?} {reason:?}"), got));
        }
        conn.closing = true;
        conn.close_frame = Some((code, reason.to_owned()));
        self.last_conn = label.to_owned();
        self.expect_in_window(label, line)
    }

    fn receive_fin(&mut self, label: &str, close_frame_seen: bool, line: usize) -> Checked {
        if let Some(flood) = &self.flood {
            return flood.expect_end();
        }
        let patience = self.patience(label, line);
        let conn = Self::conn(&mut self.conns, label)?;
        let got = conn.client.recv_within(patience);
        if got != Received::Eof || conn.close_frame.is_some() != close_frame_seen {
            let frame = if close_frame_seen { "after a close frame" } else { "without a close frame" };
            return Err(Difference::new(format!("{label} to see FIN {frame}"), (got, &conn.close_frame)));
        }
        (conn.closing, conn.ended) = (true, true);
        self.expect_in_window(label, line)
    }

    fn call(&mut self, server: usize, call: &Value) -> Checked {
        self.settle();
        match call["op"].as_str() {
            Some("cutRedis") => {
                self.redis.as_mut().expect("the plan needs a Redis").kill();
                self.redis_ended = true;
            }
            _ => {
                self.redis_ended |= call["op"] == "shutdown";
                self.target.call(server, &self.bindings.apply_to_json(call));
            }
        }
        Ok(())
    }

    /// A publication of the emitter is made; one of a server must have been made.
    fn publication(&mut self, channel: &str, message: &str) -> Checked {
        let publisher = tap::publisher(message).expect("recorded publications name their publisher");
        if publisher == "emitter" {
            self.settle();
            let redis = self.redis.as_ref().expect("the recording uses Redis");
            redis.publish(&self.bindings.apply(channel), self.bindings.apply(message).as_bytes());
            self.through_redis = true;
            return Ok(());
        }
        if self.bindings.ours(publisher).is_none() {
            self.bindings.bind(publisher, &self.target.server_id(0));
        }
        let ours = self.bindings.ours(publisher);
        let server =
            (0..self.published.len()).find(|&server| Some(self.target.server_id(server).as_str()) == ours);
        let server = server.ok_or_else(|| Difference::new("a server of this flow to publish", publisher))?;
        let got = self.next_publication(server);
        self.published[server] += 1;
        match &got {
            Some((on, said))
                if self.bindings.matches(channel, on, "") && self.bindings.matches(message, said, "") =>
            {
                Ok(())
            }
            _ => Err(Difference::new(format!("the server to publish {message} on {channel}"), got)),
        }
    }

    fn subscribed(&mut self, arguments: &[String]) -> Checked {
        let tap = self.tap.as_ref().expect("the recording uses Redis");
        let (command, channels) = arguments.split_first().expect("a command has a name");
        match channels.iter().find(|channel| !tap.subscription(command, channel)) {
            Some(missing) => {
                Err(Difference::new(format!("the server to {command} {missing}"), "no such command"))
            }
            None => Ok(()),
        }
    }

    fn quiet(&mut self, label: &str, for_ms: u64) -> Checked {
        self.settle();
        let scale = self.timing.map_or(1.0, |timing| timing.scale);
        let listens = self.timing.is_some() || self.through_redis;
        let patience = if listens { Duration::from_millis(for_ms).mul_f64(scale) } else { Duration::ZERO };
        let conn = Self::conn(&mut self.conns, label)?;
        match conn.client.recv_within(patience) {
            Received::Timeout => Ok(()),
            got => Err(Difference::new(format!("{label} to receive nothing"), got)),
        }
    }

    /// Waits until the servers have handled what was sent, where that does not disturb a clock.
    pub(super) fn settle(&mut self) {
        if self.timing.is_some() {
            return;
        }
        for (label, conn) in &mut self.conns {
            if !conn.unsettled || !conn.is_open || conn.closing {
                continue;
            }
            // The answer to a fence could not be read.
            if self.secrets.has(label) {
                conn.client.settle()
            } else {
                conn.client.fence()
            }
            conn.unsettled = false;
        }
    }

    /// Checks that a connection is open and silent.
    pub(super) fn expect_open(&mut self, label: &str) -> Checked {
        let listens = self.timing.is_some() || self.through_redis;
        let conn = Self::conn(&mut self.conns, label)?;
        if conn.closing || !conn.is_open {
            return Err(Difference::new(format!("{label} to be open"), "a connection that ended"));
        }
        if self.timing.is_none() {
            if self.secrets.has(label) { conn.client.settle() } else { conn.client.fence() }
        }
        match conn.client.recv_within(if listens { SILENCE } else { Duration::ZERO }) {
            Received::Timeout => Ok(()),
            got => Err(Difference::new(format!("{label} to be open and to receive nothing more"), got)),
        }
    }

    /// Checks that neither a client nor Redis is told more than was recorded.
    pub(super) fn expect_nothing_more(&mut self) -> Checked {
        if self.flood.is_none() {
            let open = self.conns.iter().filter(|(_, conn)| conn.is_open && !conn.closing);
            for label in open.map(|(label, _)| label.clone()).collect::<Vec<_>>() {
                self.expect_open(&label)?;
            }
        }
        if self.tap.is_none() || self.redis_ended {
            return Ok(());
        }
        for server in 0..self.published.len() {
            let end = json!({"op": "send", "destination": "end", "payload": {"topic": "end", "data": null}});
            self.target.call(server, &end);
            let got = self.next_publication(server);
            if got.as_ref().is_none_or(|(channel, _)| channel != "ws:room:end") {
                return Err(Difference::new(format!("server {server} to publish nothing more"), got));
            }
        }
        Ok(())
    }

    /// Channel and message of what a server publishes next.
    fn next_publication(&self, server: usize) -> Option<(String, String)> {
        let tap = self.tap.as_ref().expect("the recording uses Redis");
        tap.publication(&self.target.server_id(server), self.published[server])
    }

    fn pause_until(&mut self, at_ms: u64) {
        let Some(timing) = self.timing else { return };
        let (began, began_ms) = *self.began.get_or_insert((Instant::now(), at_ms));
        let due = began + Duration::from_millis(at_ms.saturating_sub(began_ms)).mul_f64(timing.scale);
        super::pause(due.saturating_duration_since(Instant::now()));
    }

    /// How long to wait for a line: until its window ends and a little more, so that "late" is told from "never".
    fn patience(&self, label: &str, line: usize) -> Duration {
        let window = self.timing.and_then(|timing| timing.window(line));
        match (window, self.conns.get(label)) {
            (Some(window), Some(conn)) => {
                let end = conn.requested + Duration::from_millis(*window.end()) + REPLY_WITHIN;
                end.saturating_duration_since(Instant::now())
            }
            _ => REPLY_WITHIN,
        }
    }

    fn expect_in_window(&self, label: &str, line: usize) -> Checked {
        let window = self.timing.and_then(|timing| timing.window(line));
        let (Some(window), Some(conn)) = (window, self.conns.get(label)) else { return Ok(()) };
        let elapsed = conn.requested.elapsed().as_millis();
        if (u128::from(*window.start())..=u128::from(*window.end())).contains(&elapsed) {
            return Ok(());
        }
        Err(Difference::new(
            format!("this {} to {} ms after the request", window.start(), window.end()),
            elapsed,
        ))
    }

    pub(super) fn conn<'c>(
        conns: &'c mut BTreeMap<String, Conn>,
        label: &str,
    ) -> Result<&'c mut Conn, Difference> {
        conns.get_mut(label).ok_or_else(|| Difference::new(format!("a connection {label}"), "none"))
    }
}

/// The request or response as it is at `address` instead of the recorded one; a body's length follows.
fn at_address(text: &str, address: &str) -> String {
    const RECORDED: &str = "127.0.0.1:";
    const RECORDED_LEN: usize = "127.0.0.1:7400".len();
    let Some(recorded) = text.find(RECORDED).and_then(|at| text.get(at..at + RECORDED_LEN)) else {
        return text.to_owned();
    };
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let new_body = body.replace(recorded, address);
    let length = |len: usize| format!("Content-Length: {len}");
    let head = head.replace(recorded, address).replace(&length(body.len()), &length(new_body.len()));
    [&head, "\r\n\r\n", &new_body].concat()
}

/// The response with its header lines sorted.
fn with_sorted_headers(text: &str) -> String {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut lines: Vec<&str> = head.split("\r\n").collect();
    lines[1..].sort_unstable();
    [&lines.join("\r\n"), "\r\n\r\n", body].concat()
}
