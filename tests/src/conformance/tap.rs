//! What the servers under test say to Redis, by `MONITOR`.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command that is expected may take to be seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Listens until dropped or until Redis ends.
#[derive(Debug)]
pub(super) struct Tap {
    seen: Arc<Seen>,
    /// Shut down on drop, which ends the thread that reads.
    stream: TcpStream,
}

#[derive(Debug, Default)]
struct Seen {
    commands: Mutex<Vec<Vec<String>>>,
    more: Condvar,
}

impl Tap {
    /// Connects; every later command is seen.
    ///
    /// # Panics
    /// When Redis does not take a monitor.
    pub(super) fn new(redis: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(redis).expect("connecting to Redis");
        stream.write_all(b"MONITOR\r\n").expect("asking for MONITOR");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
        let answer = lines.next().and_then(Result::ok);
        assert_eq!(answer.as_deref(), Some("+OK"), "Redis refused MONITOR");
        let seen = Arc::new(Seen::default());
        let writer = seen.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(arguments) = arguments(&line) {
                    writer.commands.lock().unwrap_or_else(PoisonError::into_inner).push(arguments);
                    writer.more.notify_all();
                }
            }
        });
        Self { seen, stream }
    }

    /// Waits for publication number `index` (from 0) of a server: its channel and message.
    pub(super) fn publication(&self, server_id: &str, index: usize) -> Option<(String, String)> {
        self.wait_for(|commands| {
            commands.iter().filter_map(|arguments| publication(arguments, server_id)).nth(index)
        })
    }

    /// Waits for a subscription to `channel`; one command may name several.
    pub(super) fn subscription(&self, command: &str, channel: &str) -> bool {
        let found = self.wait_for(|commands| {
            let mut found = commands.iter().filter(|arguments| arguments[0] == command);
            found.any(|arguments| arguments[1..].iter().any(|name| name == channel)).then_some(())
        });
        found.is_some()
    }

    fn wait_for<T>(&self, find: impl Fn(&[Vec<String>]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut commands = self.seen.commands.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&commands) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.seen.more.wait_timeout(commands, left);
            commands = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // Redis may be gone already, and the connection with it.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }
}

/// The `serverId` of a publication, whose first key it is.
pub(super) fn publisher(message: &str) -> Option<&str> {
    message.strip_prefix("{\"serverId\":\"")?.split_once('"').map(|(id, _)| id)
}

/// Channel and message when the command is a publication of that server.
fn publication(arguments: &[String], server_id: &str) -> Option<(String, String)> {
    let [command, channel, message] = arguments else { return None };
    // As text, since data may hold what a strict JSON reader refuses, such as half a surrogate pair.
    let is_its_own = command == "publish" && publisher(message) == Some(server_id);
    is_its_own.then(|| (channel.clone(), message.clone()))
}

/// The arguments in a line of `MONITOR`, `+<time> [<db> <peer>] "<argument>" …`, the command in lower case.
fn arguments(line: &str) -> Option<Vec<String>> {
    let mut rest = line.strip_prefix('+')?.split_once("] ")?.1.bytes();
    let mut arguments = Vec::new();
    while rest.find(|&byte| byte == b'"').is_some() {
        let mut argument = Vec::new();
        loop {
            argument.push(match rest.next()? {
                b'"' => break,
                b'\\' => match rest.next()? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b'x' => {
                        let mut digit = || char::from(rest.next()?).to_digit(16);
                        u8::try_from(digit()? << 4 | digit()?).ok()?
                    }
                    other => other,
                },
                other => other,
            });
        }
        arguments.push(String::from_utf8(argument).ok()?);
    }
    arguments.first_mut()?.make_ascii_lowercase();
    Some(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::RedisServer;

    #[test]
    fn a_monitor_line_is_read_as_redis_escapes_it() {
        let line = r#"+1.5 [0 127.0.0.1:1] "PUBLISH" "ws:room:\xc3\xa9" "{\"a\":\"\\u0007\n\"}" "" "#;
        let expected = ["publish", "ws:room:é", "{\"a\":\"\\u0007\n\"}", ""];
        assert_eq!(arguments(line).as_deref(), Some(expected.map(str::to_owned).as_slice()));
        assert_eq!(arguments("+OK"), None);
    }

    #[test]
    fn publications_are_told_apart_by_server() {
        let redis = RedisServer::start();
        let tap = Tap::new(redis.address());
        for (server, n) in [("a", 1), ("b", 2), ("a", 3)] {
            redis.publish("c", format!(r#"{{"serverId":"{server}","n":{n}}}"#).as_bytes());
        }
        redis.publish("c", b"no JSON");
        let second = tap.publication("a", 1);
        assert_eq!(second, Some(("c".to_owned(), r#"{"serverId":"a","n":3}"#.to_owned())));
    }
}
