//! A real Redis server with a login, and a subscriber that hears everything.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);
const USER: &str = "loader";
const PASSWORD: &str = "p@ss/word";

/// A `redis-server` process that takes nothing without a login, killed on drop.
#[derive(Debug)]
pub struct Redis {
    address: SocketAddr,
    process: Child,
}

impl Redis {
    /// Starts Redis and waits until it takes connections; on another port when somebody else took the free one.
    pub fn start() -> Self {
        (0..5).find_map(|_| Self::try_start()).expect("redis-server comes up")
    }

    fn try_start() -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        drop(listener);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", ""]);
        command.args(["--requirepass", PASSWORD, "--user", USER]);
        command.args(["on", &format!(">{PASSWORD}"), "allchannels", "+publish", "+select"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("redis-server is installed");
        let mut redis = Self { address, process };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if redis.process.try_wait().expect("a process of ours").is_some() {
                return None;
            }
            if redis.is_up() {
                return Some(redis);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Whether it answers, and is not somebody else.
    fn is_up(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a span");
        let asked = write!(stream, "AUTH {PASSWORD}\r\nINFO server\r\n");
        let own = format!("process_id:{}", self.process.id());
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        asked.is_ok() && lines.by_ref().take(40).any(|line| line == own)
    }

    /// Its URL with these words before the host.
    pub fn url(&self, login: &str) -> String {
        format!("redis://{login}{}", self.address)
    }

    /// Calls `hear` with the channel and the text of every message from now on.
    pub fn subscribe(&self, hear: impl Fn(&str, &str) + Send + 'static) {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        write!(stream, "AUTH {PASSWORD}\r\nPSUBSCRIBE *\r\n").expect("Redis reads");
        let mut reader = BufReader::new(stream);
        assert_eq!(read_line(&mut reader).as_deref(), Some("+OK"));
        assert_eq!(
            read_push(&mut reader),
            Some(vec!["psubscribe".to_owned(), "*".to_owned(), ":1".to_owned()])
        );
        thread::spawn(move || {
            while let Some(push) = read_push(&mut reader) {
                let [kind, _, channel, text] = push.as_slice() else { panic!("{push:?}") };
                assert_eq!(kind, "pmessage");
                hear(channel, text);
            }
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).expect("a process of ours");
    }
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    Some(line.trim_end().to_owned())
}

/// An array of strings and numbers, these as they are written; `None` at the end of the connection.
fn read_push(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let count: usize = read_line(reader)?.strip_prefix('*')?.parse().expect("a count");
    let mut item = || {
        let line = read_line(reader)?;
        let Some(length) = line.strip_prefix('$') else { return Some(line) };
        let length: usize = length.parse().expect("a length");
        let mut text = vec![0; length + 2];
        reader.read_exact(&mut text).ok()?;
        text.truncate(length);
        Some(String::from_utf8(text).expect("UTF-8"))
    };
    (0..count).map(|_| item()).collect()
}
