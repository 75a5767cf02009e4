//! A real Redis server on a free loopback port, for one test.
//!
//! The port stays the same over `kill` and `restart`, so that clients which reconnect find it again. Nothing is
//! persisted: a restart begins empty.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::ports::free_address;
use crate::process::{POLL_INTERVAL, Process, ScratchDir};

/// How long Redis may take to start, to stop, or to answer one command.
const PATIENCE: Duration = Duration::from_secs(10);

/// Channels that Shardcast subscribes to whoever is connected begin so, or are this one.
const OWN_CHANNELS: (&str, &str) = ("shardcast:", "ws:broadcast");

/// How many ports are tried before giving up, as another process may take a free one first.
const PORT_TRIES: usize = 5;

/// A `redis-server` process, killed on drop.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    process: Process,
    scratch: ScratchDir,
}

impl RedisServer {
    /// Starts Redis and waits until it takes connections.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not come up.
    pub fn start() -> Self {
        let scratch = ScratchDir::new("redis");
        for _ in 0..PORT_TRIES {
            let address = free_address();
            let mut process = spawn(address, &scratch);
            if is_up(&mut process, &scratch) {
                return Self { address, process, scratch };
            }
        }
        panic!("redis-server did not start; its log:\n{}", log(&scratch));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address as `redis://127.0.0.1:PORT/`.
    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Kills it (`SIGKILL`): clients see their connections reset or closed without a word.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it in order (`SIGTERM`) and waits until it is gone.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        self.process.signal(libc::SIGTERM);
        self.process.wait(PATIENCE);
    }

    /// Starts it again on the same port, killing it first if it runs, and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.process = spawn(self.address, &self.scratch);
            if is_up(&mut self.process, &self.scratch) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "redis-server did not restart; its log:\n{}",
                log(&self.scratch)
            );
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Publishes any bytes on any channel, including what no Ignis emitter would send, and returns the number of
    /// subscriptions it reached.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub fn publish(&self, channel: &str, message: &[u8]) -> u64 {
        let reply =
            ask(self.address, &[b"PUBLISH", channel.as_bytes(), message]).expect("publishing to Redis");
        let count = reply.strip_prefix(':').and_then(|digits| digits.parse().ok());
        count.unwrap_or_else(|| panic!("unexpected reply to PUBLISH: {reply}"))
    }

    /// A connection for commands that no server of ours sends.
    ///
    /// # Panics
    /// When Redis does not take it.
    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("a good address");
        client.get_connection().expect("Redis takes connections")
    }

    /// Channels that somebody is subscribed to by name, sorted, without Shardcast's own.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub fn channels(&self) -> Vec<String> {
        let mut channels: Vec<String> = redis::cmd("PUBSUB")
            .arg("CHANNELS")
            .query(&mut self.connection())
            .unwrap_or_else(|error| panic!("PUBSUB CHANNELS: {error}"));
        channels.retain(|channel| !channel.starts_with(OWN_CHANNELS.0) && channel != OWN_CHANNELS.1);
        channels.sort_unstable();
        channels
    }

    /// Waits until [`RedisServer::channels`] are these, given sorted.
    ///
    /// # Panics
    /// When they do not become so.
    #[track_caller]
    pub fn wait_for_channels(&self, wanted: &[&str]) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let channels = self.channels();
            if channels == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "channels {channels:?} instead of {wanted:?}");
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Runs a command on a connection of its own and returns the first line of the reply.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub fn command(&self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        ask(self.address, &words).expect("an answer of Redis")
    }
}

fn spawn(address: SocketAddr, scratch: &ScratchDir) -> Process {
    let log = File::create(scratch.path().join("log")).expect("creating the redis-server log");
    let mut command = Command::new("redis-server");
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(scratch.path());
    command.stdin(Stdio::null()).stdout(log).stderr(Stdio::inherit());
    Process::start(&mut command, "run `apt-get install redis-server`")
}

/// Waits until this Redis takes connections; false when it ends first, as it does when the port is taken. Its log
/// is asked rather than the port, where another Redis may answer.
fn is_up(process: &mut Process, scratch: &ScratchDir) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && process.exit_status().is_none() {
        if log(scratch).contains("Ready to accept connections") {
            return true;
        }
        thread::sleep(POLL_INTERVAL);
    }
    false
}

/// Sends one command on a connection of its own and returns the first line of the reply (RESP2).
fn ask(address: SocketAddr, arguments: &[&[u8]]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&request)?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(reply.trim_end().to_owned())
}

fn log(scratch: &ScratchDir) -> String {
    fs::read_to_string(scratch.path().join("log")).unwrap_or_else(|error| format!("(unreadable: {error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_comes_back_on_the_same_port_after_kill_and_stop() {
        let mut redis = RedisServer::start();
        let address = redis.address();
        assert_eq!(redis.publish("nobody", b"\0listens"), 0);

        redis.kill();
        assert!(TcpStream::connect(address).is_err(), "still listening after kill");
        redis.restart();
        assert_eq!(redis.address(), address);
        assert_eq!(redis.publish("nobody", b""), 0);

        redis.stop();
        assert!(TcpStream::connect(address).is_err(), "still listening after stop");
    }

    #[test]
    fn several_servers_run_side_by_side() {
        let (first, second) = (RedisServer::start(), RedisServer::start());
        assert_ne!(first.port(), second.port());
        assert_eq!(first.url(), format!("redis://127.0.0.1:{}/", first.port()));
    }
}
