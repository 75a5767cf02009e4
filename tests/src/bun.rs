//! The real Ignis emitter and server as child processes, driven over JSON lines.
//!
//! The scripts, and the protocol they speak, are in `tests/interop`. One request is answered by one reply, in
//! order, so a request that returned has been carried out by Ignis (for the emitter: Redis has the message).

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Process, ScratchDir};
use crate::redis::RedisServer;

/// How long a script may take to become ready or to answer one request.
const PATIENCE: Duration = Duration::from_secs(20);

/// A real Ignis `WebSocketEmitter` connected to a Redis, ended on drop.
#[derive(Debug)]
pub struct IgnisEmitter {
    script: Script,
}

impl IgnisEmitter {
    /// Starts the emitter and waits until it is connected.
    ///
    /// # Panics
    /// When `tests/interop` is not installed or the script does not become ready.
    pub fn start(redis: &RedisServer) -> Self {
        let (script, _) = Script::start("emitter.ts", redis, &[]);
        Self { script }
    }

    /// Carries out one command, a JSON value or its one-line text, e.g.
    /// `{"op":"toRoom","room":"r","event":"e","data":1}`, and returns once Redis has the message.
    ///
    /// # Panics
    /// When the script refuses or does not answer.
    pub fn request(&mut self, command: impl Display) {
        self.script.request(command);
    }
}

/// A real Ignis `WebSocketServerHelper` under the fixture policy, ended on drop.
#[derive(Debug)]
pub struct IgnisServer {
    script: Script,
    address: SocketAddr,
    server_id: String,
}

impl IgnisServer {
    /// Starts the server on a free port and waits until it takes connections; `options` is merged into those of
    /// the helper, e.g. `{"authTimeout":300}`.
    ///
    /// # Panics
    /// When `tests/interop` is not installed or the script does not become ready.
    pub fn start(redis: &RedisServer, options: &Value) -> Self {
        let (script, ready) = Script::start("server.ts", redis, &["--options", &options.to_string()]);
        let port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let server_id = ready["id"].as_str();
        let (Some(port), Some(server_id)) = (port, server_id) else {
            panic!("unexpected ready line of server.ts: {ready}");
        };
        Self { script, address: (Ipv4Addr::LOCALHOST, port).into(), server_id: server_id.to_owned() }
    }

    /// Where it listens; the WebSocket path is `/ws` unless the options say otherwise.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `serverId` it puts into the messages it publishes.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// Carries out one command, a JSON value or its one-line text, e.g.
    /// `{"op":"send","destination":"r","payload":{"topic":"e","data":1}}`, and returns the reply.
    ///
    /// # Panics
    /// When the script refuses or does not answer.
    pub fn request(&mut self, command: impl Display) -> Value {
        self.script.request(command)
    }
}

/// One running script.
#[derive(Debug)]
struct Script {
    name: &'static str,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// Held for its drop, which must come before that of `scratch`.
    _process: Process,
    /// Ignis's log files, and the script's stderr.
    scratch: ScratchDir,
}

impl Script {
    /// Starts a script and returns it with its ready line.
    fn start(name: &'static str, redis: &RedisServer, arguments: &[&str]) -> (Self, Value) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
        let scratch = ScratchDir::new("bun");
        let stderr = File::create(scratch.path().join("stderr")).expect("creating the script's stderr");
        let mut command = Command::new(installed_bun(&folder));
        command.arg(folder.join(name)).args(["--redis-port", &redis.port().to_string()]).args(arguments);
        command.current_dir(scratch.path()).env("APP_ENV_LOGGER_FOLDER_PATH", scratch.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut process = Process::start(&mut command, "run `npm ci` in tests/interop");
        let stdin = process.take_stdin().expect("stdin is piped");
        let stdout = process.take_stdout().expect("stdout is piped");

        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let script = Self { name, stdin, lines, _process: process, scratch };
        let ready = script.next_line();
        assert_eq!(ready["ready"], true, "unexpected first line of {name}: {ready}");
        (script, ready)
    }

    fn request(&mut self, command: impl Display) -> Value {
        if let Err(error) = writeln!(self.stdin, "{command}") {
            panic!("{} takes no commands: {error}; its log:\n{}", self.name, self.log());
        }
        let reply = self.next_line();
        assert_eq!(reply["ok"], true, "{} refused {command}: {reply}", self.name);
        reply
    }

    fn next_line(&self) -> Value {
        let name = self.name;
        let line = self.lines.recv_timeout(PATIENCE);
        let line =
            line.unwrap_or_else(|error| panic!("{name} said nothing: {error}; its log:\n{}", self.log()));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{name} said {line:?}: {error}"))
    }

    fn log(&self) -> String {
        let stderr = fs::read_to_string(self.scratch.path().join("stderr"));
        stderr.unwrap_or_else(|error| format!("(unreadable: {error})"))
    }
}

fn installed_bun(folder: &Path) -> PathBuf {
    let bun = folder.join("node_modules/.bin/bun");
    assert!(bun.exists(), "Bun and Ignis are not installed: run `npm ci` in tests/interop");
    bun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "run `npm ci` in tests/interop")]
    fn a_missing_installation_says_what_to_run() {
        installed_bun(ScratchDir::new("empty").path());
    }
}
