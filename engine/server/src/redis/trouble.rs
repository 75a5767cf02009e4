//! What stands between this process and Redis, in words that tell an operator what to do.
//!
//! No text of the server is ever passed on: Redis quotes arguments in its errors, and an argument can be a
//! password or a message. What is kept is the error's code, its first word.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use ::redis::{ErrorKind, RedisError, ServerError};

/// Why Redis cannot be used, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No connection could be made.
    #[error("{}; check that Redis runs and that redis.url names its address", unreachable(*.0))]
    Unreachable(io::ErrorKind),
    /// Connecting or a command took too long.
    #[error(
        "it does not answer in time; look for slow commands (SLOWLOG GET) and for packet loss on the way"
    )]
    Timeout,
    /// The connection ended.
    #[error(
        "the connection ended; should this repeat, look in the log of Redis for restarts, and for clients closed by \
         client-output-buffer-limit pubsub"
    )]
    Lost,
    /// Canaries go out and nothing at all comes back, so the subscription is dead without saying so.
    #[error("the subscription is silent although Redis takes our canaries; the network may have dropped it")]
    Silent,
    /// A password is wanted and none was given.
    #[error("it wants a password; set it in redis.url, as in redis://user:password@host")]
    AuthRequired,
    /// The user or password is not good, or `AUTH` was refused for another reason that the client library hides.
    #[error(
        "it refuses the user or password of redis.url; correct them, or leave them out if it wants none (it answers \
         the same when maxclients is reached)"
    )]
    AuthRefused,
    /// The user may not do what this process needs.
    #[error(
        "its ACL forbids what is needed; grant the user +subscribe +psubscribe +publish and the channels \
         &ws:broadcast &ws:room:* &ws:client:* &ws:user:* &shardcast:canary:*, and those of the topics"
    )]
    Forbidden,
    /// It is reading its data set.
    #[error("it is loading its data set; this passes by itself")]
    Loading,
    /// It is a replica, whose publishes do not reach the clients of its primary.
    #[error("it is a replica, so what is published there reaches only a part; name the primary in redis.url")]
    Replica,
    /// It is out of memory.
    #[error("it is out of memory; raise maxmemory or set an eviction policy")]
    OutOfMemory,
    /// It has too many clients.
    #[error("it has no room for another client; raise maxclients")]
    ClientsMax,
    /// It takes local clients only.
    #[error("it is in protected mode and takes local clients only; give it a password or a bind address")]
    Protected,
    /// It answered with an error that is none of the above.
    #[error("it answers with the error {0}; its own log may say more")]
    Refused(Code),
}

/// The first word of a Redis error, such as `MISCONF`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Code {
    text: [u8; Self::BYTES_MAX],
    len: usize,
}

impl Code {
    const BYTES_MAX: usize = 24;

    /// Of `word`, what is a capital letter or an underscore, up to 24 of them; `?` when nothing is.
    fn new(word: &str) -> Self {
        let mut code = Self { text: [b'?'; Self::BYTES_MAX], len: 0 };
        for byte in
            word.bytes().take_while(|byte| byte.is_ascii_uppercase() || *byte == b'_').take(Self::BYTES_MAX)
        {
            code.text[code.len] = byte;
            code.len += 1;
        }
        code.len = code.len.max(1);
        code
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text[..self.len].iter().try_for_each(|&byte| write!(f, "{}", char::from(byte)))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Trouble {
    /// What an error of the client library means.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::AuthRefused,
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::of_answer(error.code().unwrap_or_default(), error.detail())
            }
            ErrorKind::Io => io_kind(error).map_or(Self::Lost, Self::of_io),
            _ => Self::Refused(Code::new("")),
        }
    }

    /// Whether Redis answered so, rather than that nothing could be sent or heard.
    pub(super) fn is_answer(error: &RedisError) -> bool {
        matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
    }

    /// What an error reply to one command means.
    pub(super) fn of_reply(error: &ServerError) -> Self {
        Self::of_answer(error.code(), error.details())
    }

    fn of_io(kind: io::ErrorKind) -> Self {
        match kind {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Timeout,
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof => Self::Lost,
            kind => Self::Unreachable(kind),
        }
    }

    fn of_answer(code: &str, detail: Option<&str>) -> Self {
        match code {
            "NOAUTH" => Self::AuthRequired,
            "WRONGPASS" => Self::AuthRefused,
            "NOPERM" => Self::Forbidden,
            "LOADING" => Self::Loading,
            "READONLY" | "MASTERDOWN" => Self::Replica,
            "OOM" => Self::OutOfMemory,
            "DENIED" => Self::Protected,
            "ERR" if detail.is_some_and(|detail| detail.contains("max number of clients")) => {
                Self::ClientsMax
            }
            code => Self::Refused(Code::new(code)),
        }
    }

    /// Which bit stands for it among what was logged since the last loss: all ways of being away are one, since they
    /// take turns while Redis restarts.
    pub(super) fn class(self) -> u16 {
        let class = match self {
            Self::Unreachable(_) | Self::Timeout | Self::Lost | Self::Silent => 0,
            Self::AuthRequired => 1,
            Self::AuthRefused => 2,
            Self::Forbidden => 3,
            Self::Loading => 4,
            Self::Replica => 5,
            Self::OutOfMemory => 6,
            Self::ClientsMax => 7,
            Self::Protected => 8,
            Self::Refused(_) => 9,
        };
        1 << class
    }
}

/// The client library shows its I/O errors inside an `Arc`.
fn io_kind(error: &RedisError) -> Option<io::ErrorKind> {
    let source = error.source()?;
    let shared = source.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    let error =
        shared.and_then(|shared| shared.downcast_ref::<io::Error>()).or_else(|| source.downcast_ref());
    error.map(io::Error::kind)
}

fn unreachable(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "nothing listens at its address",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no route to its address"
        }
        io::ErrorKind::NotFound => "its socket does not exist",
        io::ErrorKind::PermissionDenied => "this process may not connect to its address",
        _ => "its name does not resolve, or it cannot be connected to",
    }
}

/// Whether the answer to `INFO` is that of a replica outside a cluster. Inside one, publishes reach every node.
pub(super) fn is_lone_replica(info: &[u8]) -> bool {
    let has = |line: &[u8]| info.split(|&byte| byte == b'\n').any(|found| found.trim_ascii_end() == line);
    has(b"role:slave") && !has(b"cluster_enabled:1")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error the client library makes of an error reply.
    fn reply(line: &str) -> RedisError {
        let value = ::redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("a reply");
        value.extract_error().expect_err("an error reply")
    }

    #[test]
    fn attack_72_every_refusal_of_redis_says_what_to_do() {
        for (line, trouble) in [
            ("NOAUTH Authentication required.", Trouble::AuthRequired),
            ("WRONGPASS invalid username-password pair or user is disabled.", Trouble::AuthRefused),
            ("NOPERM No permissions to access a channel", Trouble::Forbidden),
            ("LOADING Redis is loading the dataset in memory", Trouble::Loading),
            ("READONLY You can't write against a read only replica.", Trouble::Replica),
            ("MASTERDOWN Link with MASTER is down", Trouble::Replica),
            ("OOM command not allowed when used memory > 'maxmemory'.", Trouble::OutOfMemory),
            ("DENIED Redis is running in protected mode", Trouble::Protected),
            ("ERR max number of clients reached", Trouble::ClientsMax),
            ("ERR unknown command 'SUBSCRIBE'", Trouble::Refused(Code::new("ERR"))),
            ("MISCONF Redis is configured to save RDB snapshots", Trouble::Refused(Code::new("MISCONF"))),
        ] {
            assert_eq!(Trouble::of(&reply(line)), trouble, "{line}");
        }
    }

    #[test]
    fn no_text_of_the_server_is_passed_on() {
        let error = reply("ERR unknown command 'AUTH', with args beginning with: 'hunter2'");
        let trouble = Trouble::of(&error);
        assert!(!format!("{trouble} {trouble:?}").contains("hunter2"));
        assert_eq!(Code::new("MISCONF\u{1b}[31m and more").to_string(), "MISCONF");
        assert_eq!(Code::new("").to_string(), "?");
        assert_eq!(Code::new(&"X".repeat(99)).to_string(), "X".repeat(24));
    }

    #[test]
    fn a_broken_connection_and_an_absent_server_are_told_apart() {
        for (kind, trouble) in [
            (io::ErrorKind::ConnectionRefused, Trouble::Unreachable(io::ErrorKind::ConnectionRefused)),
            (io::ErrorKind::HostUnreachable, Trouble::Unreachable(io::ErrorKind::HostUnreachable)),
            (io::ErrorKind::BrokenPipe, Trouble::Lost),
            (io::ErrorKind::ConnectionReset, Trouble::Lost),
            (io::ErrorKind::TimedOut, Trouble::Timeout),
        ] {
            let found = Trouble::of(&RedisError::from(io::Error::from(kind)));
            assert_eq!(found, trouble);
            assert_eq!(found.class(), Trouble::Lost.class());
        }
    }

    #[test]
    fn a_replica_is_told_by_its_info_unless_it_is_in_a_cluster() {
        for (info, expected) in [
            ("# Replication\r\nrole:master\r\n# Cluster\r\ncluster_enabled:0\r\n", false),
            ("# Replication\r\nrole:slave\r\n# Cluster\r\ncluster_enabled:0\r\n", true),
            ("# Replication\r\nrole:slave\r\n# Cluster\r\ncluster_enabled:1\r\n", false),
            ("role:slave_of_habit\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_lone_replica(info.as_bytes()), expected, "{info}");
        }
    }
}
