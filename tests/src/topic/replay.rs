//! Replays a recording against a server: plays the client and whoever publishes, and compares all else.

use std::fmt;
use std::thread;

use serde_json::{Value, json};
use shardcast::config::{Auto, SnapshotMode};

use super::plans::{self, Plan};
use super::recording::{Recording, Step, step};
use super::{DISCONNECT, ISSUER, SESSION, issuer, mount, token, with_tokens, with_topics};
use crate::client::{Client, Received, masked_frame, opcode};
use crate::jwks::now_s;
use crate::redis::RedisServer;
use crate::server::{TestServer, config, with_redis};

/// The session of every recorded conversation.
const RECORDED_SESSION: &str = "MTI3LjAuMC4x";

/// A FIN bit.
const FIN: u8 = 0x80;

/// What came of a recording.
pub struct Replay {
    /// Its name.
    pub name: String,
    /// What is replayed of it.
    pub outcome: Outcome,
}

/// What came of a recording.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server did as recorded, or as the plan says.
    Same,
    /// It is not replayed.
    Skipped,
    /// The server did something else, which was printed.
    Failed,
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.outcome, self.name)
    }
}

/// Replays all of them, one after the other.
pub fn replay_all(recordings: &[Recording], shards: usize, snapshots: SnapshotMode) -> Vec<Replay> {
    let redis = RedisServer::start();
    recordings
        .iter()
        .map(|recording| {
            let plan = plans::plan(&recording.name);
            let outcome = match plan.skip {
                Some(_) => Outcome::Skipped,
                None => outcome(recording, &plan, &redis, shards, snapshots),
            };
            Replay { name: recording.name.clone(), outcome }
        })
        .collect()
}

/// On a thread of its own, since what differs ends it.
fn outcome(
    recording: &Recording,
    plan: &Plan,
    redis: &RedisServer,
    shards: usize,
    snapshots: SnapshotMode,
) -> Outcome {
    let ended = thread::scope(|scope| {
        let builder = thread::Builder::new().name(recording.name.clone());
        let replay = builder.spawn_scoped(scope, || replay(recording, plan, redis, shards, snapshots));
        replay.expect("a thread").join()
    });
    if ended.is_ok() { Outcome::Same } else { Outcome::Failed }
}

fn replay(recording: &Recording, plan: &Plan, redis: &RedisServer, shards: usize, snapshots: SnapshotMode) {
    let mut config = with_redis(with_tokens(with_topics(config())), &redis.url());
    config.server.shards = Auto::Fixed(shards);
    let settings = mount(&mut config);
    settings.snapshot_mode = snapshots;
    if let Some((_, change)) = plan.timing {
        change(settings);
    }
    let server = TestServer::start(&config);
    server.wait_until_ready();
    redis.wait_for_channels(&[]);
    let mut player = Player {
        client: Client::connect(server.address(), super::TOPICS),
        redis,
        session: String::new(),
        snapshots,
        is_binary: plan.is_binary,
        is_ending: false,
        published: None,
    };
    for line in plans::applied(plan, &recording.lines) {
        let step = step(&line).unwrap_or_else(|| panic!("what is {line:?}?"));
        player.play(&line, step);
    }
    drop(player);
    server.expect_empty(&recording.name);
    server.stop();
}

struct Player<'a> {
    client: Client,
    redis: &'a RedisServer,
    /// Ours; empty until it is known.
    session: String,
    snapshots: SnapshotMode,
    is_binary: bool,
    /// Whether the server has sent M8.
    is_ending: bool,
    /// The payload last published.
    published: Option<String>,
}

impl Player<'_> {
    fn play(&mut self, line: &str, step: Step) {
        match step {
            Step::Server(text) => self.expect(line, &text),
            Step::Client(text) => {
                let text = self.filled(&text);
                if self.is_binary {
                    self.client.send_binary(text.as_bytes());
                } else {
                    self.client.send_text(&text);
                }
            }
            Step::Ping => {
                assert_eq!(self.client.recv(), Received::Ping(Vec::new()), "{line}");
                self.client.send_pong(b"");
            }
            Step::Close => self.close(line),
            Step::Channels(channels) => {
                let channels: Vec<_> = channels.iter().map(String::as_str).collect();
                self.redis.wait_for_channels(&channels);
            }
            Step::Publish { channel, payload, receivers } => {
                assert_eq!(self.redis.publish(&channel, payload.as_bytes()), receivers, "{line}");
                self.published = Some(payload);
            }
        }
    }

    fn expect(&mut self, line: &str, recorded: &str) {
        let Received::Text(text) = self.client.recv() else { panic!("no message for {line}") };
        if self.session.is_empty() && recorded.starts_with(SESSION[0]) {
            let session = text.strip_prefix(SESSION[0]).and_then(|rest| rest.strip_suffix(SESSION[1]));
            self.session = session.unwrap_or_else(|| panic!("no session in {text}")).to_owned();
        }
        assert_eq!(text, self.snapshot(&recorded.replace(RECORDED_SESSION, &self.session)), "{line}");
        self.is_ending = recorded == DISCONNECT;
    }

    /// M7 as this server spells it: the payload itself if it is JSON.
    fn snapshot(&mut self, recorded: &str) -> String {
        let is_message = recorded.starts_with(r#"{"action":"message""#);
        let Some(payload) = self.published.take_if(|_| is_message) else { return recorded.to_owned() };
        let string = json!(payload).to_string();
        let snapshot = match self.snapshots {
            SnapshotMode::Json if serde_json::from_str::<Value>(&payload).is_ok() => payload,
            SnapshotMode::Json | SnapshotMode::String => string.clone(),
        };
        let head = recorded.strip_suffix(&format!("{string}}}"));
        let head = head.unwrap_or_else(|| panic!("{recorded} is not about what was published"));
        format!("{head}{snapshot}}}")
    }

    /// The server closes after M8, and otherwise the client.
    fn close(&mut self, line: &str) {
        if !self.is_ending {
            self.client.settle();
            let pending = self.client.take_pending();
            let is_ping = |received: &Received| matches!(received, Received::Ping(_));
            assert!(pending.iter().all(is_ping), "{line}: before it {pending:?}");
            self.client.send_raw(&masked_frame(FIN | opcode::CLOSE, b"")).expect("sending a close frame");
        }
        assert_eq!(self.client.recv(), Received::Close(None, String::new()), "{line}");
        assert_eq!(self.client.recv(), Received::Eof, "{line}");
    }

    fn filled(&self, text: &str) -> String {
        let good = token("42");
        let tampered = [&good[..good.len() - 8], "AAAAAAAA"].concat();
        let expired = || issuer().token(&json!({"iss": ISSUER, "sub": "42", "exp": now_s() - 3_600}));
        let mut text = text.replace(RECORDED_SESSION, &self.session);
        if text.contains("<EXPIRED>") {
            text = text.replace("<EXPIRED>", &expired());
        }
        text.replace("<JWT>", &good).replace("<TAMPERED>", &tampered)
    }
}
