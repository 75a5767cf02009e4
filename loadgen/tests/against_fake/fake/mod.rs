//! A server with faults on purpose: WebSocket at `/ws` (Ignis), `/topics` (topic-session) and `/raw/ROOM`, and `POST`
//! to any path, on blocking threads.
//!
//! Its faults touch the first recipient and messages only, never probes. Whatever is published, every member receives
//! the stamps in it, rooms or not, unless it is a message of Ignis to a client or a user, or leaves clients out. It
//! shares no code with the generator.

pub mod post;
pub mod redis;

use std::collections::VecDeque;
use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use self::post::{Answers, Posts};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every tenth message does not arrive.
    Drop,
    /// Every tenth message arrives twice.
    Repeat,
    /// Every tenth message arrives after the next.
    Swap,
    /// Every tenth message arrives with another text.
    Alter,
    /// The hundredth message is a second late, and holds up all behind it.
    Stall,
    /// After the tenth message the connection is closed with 4002.
    Close,
    /// Every login is refused with 4003.
    Refuse,
    /// Joins are forgotten.
    Deaf,
    /// Every request takes 5 ms.
    Slow,
    /// Messages are delivered one every 5 ms, however fast they come.
    Sluggish,
    /// Every tenth message reaches all members, whomever it is for.
    Leak,
    /// Clients are told neither an id nor their user.
    Nameless,
    /// Every third upgrade is answered with 503.
    Overloaded,
    /// Upgrades are not answered.
    Mute,
    /// After the login, a goodbye is not answered.
    Clingy,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    id: String,
    user: String,
    has_joined: bool,
}

/// Whom a message is for.
#[derive(Clone, Debug, Default)]
enum Recipients {
    /// All who have joined.
    #[default]
    All,
    AllBut(Vec<String>),
    Client(String),
    User(String),
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Member>,
    messages: u32,
    held_back: Option<Vec<u8>>,
    queued: VecDeque<(String, Recipients)>,
}

/// A server, which lives as long as the process.
#[derive(Clone, Debug)]
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    fault: Fault,
    members: Arc<Mutex<Members>>,
    posts: Arc<Posts>,
    /// Upgrades asked for.
    upgrades: Arc<AtomicU32>,
}

/// Starts a server and returns where it listens.
pub fn start(fault: Fault) -> SocketAddr {
    Fake::start(fault, Answers::Plain).address
}

impl Fake {
    /// Starts a server that answers requests in this way.
    pub fn start(fault: Fault, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let posts = Arc::new(Posts::new(answers));
        let fake = Self { address, fault, members: Arc::default(), posts, upgrades: Arc::default() };
        if fault == Fault::Sluggish {
            let members = Arc::clone(&fake.members);
            thread::spawn(move || {
                loop {
                    thread::sleep(Duration::from_millis(5));
                    let mut members = members.lock().expect("no panic");
                    if let Some((message, recipients)) = members.queued.pop_front() {
                        members.publish(&message, &recipients, Fault::None);
                    }
                }
            });
        }
        let server = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, server) = (stream.expect("a connection"), server.clone());
                // A client that goes away in the middle ends its thread; what that means, the generator has to tell.
                thread::spawn(move || server.serve(stream));
            }
        });
        fake
    }

    /// What came in by `POST`.
    pub fn posts(&self) -> &Posts {
        &self.posts
    }

    /// Sends members a message for every stamp in a text, which may be a message of Ignis or an array of such.
    pub fn deliver(&self, text: &str) -> Option<()> {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Array(messages)) => messages
                .iter()
                .try_for_each(|message| self.deliver_to(&message.to_string(), &recipients(message))),
            Ok(message) => self.deliver_to(text, &recipients(&message)),
            Err(_) => self.deliver_to(text, &Recipients::All),
        }
    }

    fn deliver_to(&self, text: &str, recipients: &Recipients) -> Option<()> {
        for (at, _) in text.match_indices("lg1") {
            let end = text[at..].find(|char: char| !char.is_ascii_alphanumeric());
            let stamp = &text[at..end.map_or(text.len(), |end| at + end)];
            let message = format!(r#"{{"event":"loadgen","data":"{stamp}"}}"#);
            let mut members = self.members.lock().expect("no panic");
            match self.fault {
                Fault::Sluggish => members.later(message, recipients.clone()),
                fault => members.publish(&message, recipients, fault)?,
            }
        }
        Some(())
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream);
        let head = post::read_head(&mut reader)?;
        if head.method == "GET" {
            let upgrade = self.upgrades.fetch_add(1, Ordering::Relaxed) + 1;
            match self.fault {
                Fault::Overloaded if upgrade.is_multiple_of(3) => {
                    return write!(reader.get_mut(), "HTTP/1.1 503 Service Unavailable\r\n\r\n").ok();
                }
                Fault::Mute => return reader.read_to_end(&mut Vec::new()).map(|_| ()).ok(),
                _ => accept(reader.get_mut())?,
            }
            return match head.path.as_str() {
                "/topics" => serve_topic(reader, &self.members),
                path if path.starts_with("/raw/") => serve_raw(reader, path, &self.members),
                _ => serve_member(reader, self.fault, &self.members),
            };
        }
        self.posts.serve(reader, head, |body| {
            if self.fault == Fault::Slow {
                thread::sleep(Duration::from_millis(5));
            }
            self.deliver(body)
        })
    }
}

fn recipients(message: &Value) -> Recipients {
    let target = || message["target"].as_str().expect("a target").to_owned();
    match (message["type"].as_str(), message["exclude"].as_array()) {
        (Some("client"), None) => Recipients::Client(target()),
        (Some("user"), None) => Recipients::User(target()),
        (Some("room"), Some(ids)) => {
            Recipients::AllBut(ids.iter().map(|id| id.as_str().expect("a client id").to_owned()).collect())
        }
        _ => Recipients::All,
    }
}

fn accept(stream: &mut TcpStream) -> Option<()> {
    let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ";
    write!(stream, "{head}{accept}\r\n\r\n").ok()
}

/// The room is in the path; the member says hello, and is told to be welcome.
fn serve_raw(mut reader: BufReader<TcpStream>, path: &str, members: &Mutex<Members>) -> Option<()> {
    let mut stream = reader.get_ref().try_clone().ok()?;
    let hello = read_frame(&mut reader)?;
    assert_eq!(format!("/raw/{}", String::from_utf8_lossy(&hello)), path, "the room, twice");
    members.lock().expect("no panic").add(&stream, "", true)?;
    stream.write_all(&frame(1, br#"{"state":"welcome"}"#)).ok()?;
    while read_frame(&mut reader).is_some() {}
    None
}

/// Accepts the token "good" only, and answers in order.
fn serve_topic(mut reader: BufReader<TcpStream>, members: &Mutex<Members>) -> Option<()> {
    let mut stream = reader.get_ref().try_clone().ok()?;
    let mut say = |text: &str| stream.write_all(&frame(1, text.as_bytes())).ok();
    say(r#"{"action":"connect","message":"connection established"}"#)?;
    say(r#"{"action":"session","message":"waiting for create session","session":"s1"}"#)?;
    loop {
        let message: Value = serde_json::from_slice(&read_frame(&mut reader)?).expect("JSON");
        assert_eq!(message["session"], "s1");
        match (message["action"].as_str()?, message["context"].as_str()?) {
            ("authorization", "good") => say(r#"{"action":"session","message":"session authenticated"}"#)?,
            ("authorization", _) => say(r#"{"action":"session","message":"session unauthorized"}"#)?,
            ("subscribe", _) => {
                members.lock().expect("no panic").add(reader.get_ref(), "", true)?;
                say(r#"{"action":"subscribe","message":"context subscribed"}"#)?;
            }
            (action, _) => panic!("the generator does not ask for {action}"),
        }
    }
}

fn serve_member(mut reader: BufReader<TcpStream>, fault: Fault, members: &Mutex<Members>) -> Option<()> {
    let mut stream = reader.get_ref().try_clone().ok()?;
    let mut own_id = String::new();
    loop {
        let Some(text) = read_frame(&mut reader) else {
            if fault == Fault::Clingy {
                reader.read_to_end(&mut Vec::new()).ok()?;
            }
            stream.write_all(&frame(8, &1000_u16.to_be_bytes())).ok()?;
            // Among the members the stream is still held.
            return stream.shutdown(Shutdown::Both).ok();
        };
        let message: Value = serde_json::from_slice(&text).expect("JSON");
        match message["event"].as_str() {
            Some("authenticate") if fault == Fault::Refuse => {
                stream
                    .write_all(&frame(1, br#"{"event":"error","data":{"message":"Authentication failed"}}"#))
                    .ok()?;
                stream
                    .write_all(&frame(
                        8,
                        &[&4003_u16.to_be_bytes(), b"Authentication failed".as_slice()].concat(),
                    ))
                    .ok()?;
            }
            Some("authenticate") if fault == Fault::Nameless => {
                stream.write_all(&frame(1, br#"{"event":"connected","data":{"id":"x"}}"#)).ok()?;
            }
            Some("authenticate") => {
                let user = message["data"]["userId"].as_str().expect("a user");
                own_id = members.lock().expect("no panic").add(&stream, user, false)?;
                let data = json!({ "id": own_id, "userId": user });
                let connected = format!(r#"{{"event":"connected","data":{data}}}"#);
                stream.write_all(&frame(1, connected.as_bytes())).ok()?;
            }
            Some("join") if fault != Fault::Deaf => {
                let mut members = members.lock().expect("no panic");
                let own = members.list.iter_mut().find(|member| member.id == own_id);
                own.expect("who joins has authenticated").has_joined = true;
            }
            _ => {}
        }
    }
}

fn read_frame(reader: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7F {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => panic!("the generator sends nothing that long"),
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    reader.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).ok()?;
    payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at % 4]);
    (head[0] & 0x0F != 8).then_some(payload)
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(short @ 0..126) => frame.push(short),
        _ => match u16::try_from(payload.len()) {
            Ok(medium) => {
                frame.push(126);
                frame.extend(medium.to_be_bytes());
            }
            Err(_) => {
                frame.push(127);
                frame.extend((payload.len() as u64).to_be_bytes());
            }
        },
    }
    frame.extend(payload);
    frame
}

impl Recipients {
    fn concern(&self, member: &Member) -> bool {
        match self {
            Self::All => member.has_joined,
            Self::AllBut(ids) => member.has_joined && !ids.contains(&member.id),
            Self::Client(id) => member.id == *id,
            Self::User(user) => member.user == *user,
        }
    }
}

impl Members {
    /// Adds a member and returns the id it has been given.
    fn add(&mut self, stream: &TcpStream, user: &str, has_joined: bool) -> Option<String> {
        let id = format!("00000000-0000-4000-8000-{:012x}", self.list.len());
        let stream = stream.try_clone().ok()?;
        self.list.push(Member { stream, id: id.clone(), user: user.to_owned(), has_joined });
        Some(id)
    }

    /// Queues a message; probes overtake, so that a phase can begin.
    fn later(&mut self, message: String, recipients: Recipients) {
        if message.contains("\"lg1p") {
            self.queued.push_front((message, recipients))
        } else {
            self.queued.push_back((message, recipients))
        }
    }

    fn publish(&mut self, message: &str, recipients: &Recipients, fault: Fault) -> Option<()> {
        let whole = frame(1, message.as_bytes());
        let is_probe = message.contains("\"lg1p");
        self.messages += u32::from(!is_probe);
        let is_tenth = !is_probe && self.messages % 10 == 5;
        let is_leaking = fault == Fault::Leak && is_tenth;
        let concerned = self.list.iter_mut().filter(|member| is_leaking || recipients.concern(member));
        for (place, Member { stream, .. }) in concerned.enumerate() {
            let mut frames = vec![whole.clone()];
            match fault {
                _ if place > 0 || is_probe => {}
                Fault::Drop if is_tenth => frames.clear(),
                Fault::Repeat if is_tenth => frames.push(whole.clone()),
                Fault::Alter if is_tenth => frames[0] = frame(1, message.replace("xx", "x").as_bytes()),
                Fault::Swap if is_tenth => self.held_back = frames.pop(),
                Fault::Swap => frames.extend(self.held_back.take()),
                Fault::Stall if self.messages == 100 => thread::sleep(Duration::from_secs(1)),
                Fault::Close if self.messages == 10 => frames.push(frame(8, b"\x0f\xa2Heartbeat timeout")),
                _ => {}
            }
            // A member that closed receives nothing.
            frames.iter().try_for_each(|frame| stream.write_all(frame)).unwrap_or_default();
        }
        Some(())
    }
}
