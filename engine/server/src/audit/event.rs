//! What is recorded. Names and fields are a promise to whoever reads the file: they are added to, never changed.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use shardcast_wire::ignis::{ClientId, UserId};

use crate::hooks::Client;

/// Bytes of a text that a stranger chose; the rest is cut off, and the cut marked with an ellipsis.
pub(super) const TEXT_BYTES_MAX: usize = 256;

/// Rooms named in one line; more are counted only.
pub(super) const ROOMS_NAMED_MAX: usize = 8;

/// Keys of the configuration named in one line.
const KEYS_NAMED_MAX: usize = 256;

/// Something worth a line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The process serves.
    Start {
        /// Of the binary.
        version: &'static str,
        /// `io_uring` or `epoll`.
        io: &'static str,
        /// Every token is accepted.
        dev: bool,
    },
    /// A stop was asked for.
    Drain {
        /// How long it may take, ms.
        period_ms: u64,
    },
    /// The process ends.
    Stop {
        /// A second signal cut the drain short.
        forced: bool,
    },
    /// The configuration was loaded again.
    Reload {
        /// `applied`, or `refused`: nothing changed.
        outcome: &'static str,
        /// Keys that changed and are applied.
        applied: Vec<String>,
        /// Keys that changed and wait for a restart.
        ignored: Vec<String>,
        /// What was wrong with it: how many problems.
        problems: usize,
    },
    /// Somebody was let in.
    AuthAccepted {
        /// Who.
        #[serde(flatten)]
        who: Who,
    },
    /// Somebody was not let in.
    AuthRefused {
        /// Who asked.
        #[serde(flatten)]
        who: Who,
        /// Why: a name of [`RefusalReason`](shardcast_shard::event::RefusalReason), `failed`, or
        /// `too_many_connections`.
        reason: &'static str,
    },
    /// Somebody asked for rooms that are not for them.
    JoinRefused {
        /// Who asked.
        #[serde(flatten)]
        who: Who,
        /// Which rooms.
        #[serde(flatten)]
        rooms: Rooms,
    },
    /// A request to the API came without a key that opens it.
    ApiRefused {
        /// Where it came from.
        address: IpAddr,
        /// Of the request.
        method: String,
        /// Of the request, without its query.
        path: String,
        /// `key_missing`, `key_unknown`, `no_key_configured`.
        reason: &'static str,
    },
    /// A backend closed a client, or all connections of a user.
    Kick {
        /// Whom.
        #[serde(flatten)]
        whom: Kicked,
        /// Where the request came from.
        address: IpAddr,
        /// Which of `api.key` it came with, from 1; `null` in dev mode without keys.
        key: Option<usize>,
        /// `accepted`, `unknown_client`, `unknown_user`, `shard_busy`.
        outcome: &'static str,
    },
    /// Events that are not in the log.
    Lost {
        /// How many in all.
        count: u64,
        /// Of these, because the queue was full.
        queue: u64,
        /// Because there were more than `audit.rate_max` a second.
        rate: u64,
        /// Because the file did not take them.
        write: u64,
    },
}

impl Event {
    /// A request that was refused for its key.
    pub fn api_refused(address: IpAddr, method: &str, path: &str, reason: &'static str) -> Self {
        Self::ApiRefused { address, method: cut(method), path: cut(path), reason }
    }

    /// A client that a backend closed, or tried to.
    pub fn kick(whom: Kicked, address: IpAddr, key: Option<usize>, outcome: &'static str) -> Self {
        Self::Kick { whom, address, key: key.map(|index| index + 1), outcome }
    }

    /// A reload that was applied.
    pub fn reloaded(applied: &[String], ignored: &[String]) -> Self {
        let named = |keys: &[String]| keys.iter().take(KEYS_NAMED_MAX).map(|key| cut(key)).collect();
        Self::Reload { outcome: "applied", applied: named(applied), ignored: named(ignored), problems: 0 }
    }

    /// A reload that changed nothing.
    pub fn reload_refused(problems: usize) -> Self {
        Self::Reload { outcome: "refused", applied: Vec::new(), ignored: Vec::new(), problems }
    }
}

/// Whom a backend closed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kicked {
    /// A client, by its id.
    Client(String),
    /// All connections of a user, as the request named it.
    User(String),
}

impl Kicked {
    /// A client.
    pub fn client(id: &str) -> Self {
        Self::Client(cut(id))
    }

    /// A user.
    pub fn user(id: &str) -> Self {
        Self::User(cut(id))
    }
}

/// A connection, as far as it is known.
#[derive(Debug, Serialize)]
pub struct Who {
    client: String,
    address: IpAddr,
    mount: Arc<str>,
    user: Option<User>,
}

impl Who {
    pub(super) fn new(client: &Client, mount: Arc<str>) -> Self {
        let address = client.address.to_canonical();
        let user = client.identity.user.as_ref().map(User::new);
        Self { client: text(client.id), address, mount, user }
    }
}

fn text(id: ClientId) -> String {
    id.to_string()
}

/// A user: text, or a number.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum User {
    /// A string, or a number that has no other exact form.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl User {
    fn new(user: &UserId) -> Self {
        let json = user.as_json();
        match serde_json::from_str::<&str>(json) {
            Ok(text) => return Self::Text(cut(text)),
            Err(_) => {
                if let Ok(number) = json.parse() {
                    return Self::Number(number);
                }
            }
        }
        match serde_json::from_str::<String>(json) {
            Ok(text) => Self::Text(cut(&text)),
            Err(_) => Self::Text(cut(json)),
        }
    }
}

/// Rooms that were asked for and not given.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rooms {
    /// Some of those refused.
    rooms: Vec<String>,
    /// How many were refused.
    rooms_refused: usize,
    /// How many were asked for.
    rooms_asked: usize,
}

impl Rooms {
    /// What is in `asked` and not in `granted`; `None` when nothing is. Linear in what they hold.
    pub fn refused(asked: &[String], granted: &[String]) -> Option<Self> {
        if asked == granted {
            return None;
        }
        let granted: std::collections::HashSet<&str> = granted.iter().map(String::as_str).collect();
        let mut refused = asked.iter().filter(|room| !granted.contains(room.as_str()));
        let rooms: Vec<_> = refused.by_ref().take(ROOMS_NAMED_MAX).map(|room| cut(room)).collect();
        let rooms_refused = rooms.len() + refused.count();
        (rooms_refused > 0).then_some(Self { rooms, rooms_refused, rooms_asked: asked.len() })
    }
}

/// `text`, or as many of its first bytes as may stand in a line.
pub(super) fn cut(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(TEXT_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(rooms: &[&str]) -> Vec<String> {
        rooms.iter().map(|&room| room.to_owned()).collect()
    }

    #[test]
    fn rooms_refused_are_those_asked_for_and_not_granted() {
        let (asked, ab) = (names(&["a", "b", "c"]), names(&["a", "b"]));
        assert_eq!(Rooms::refused(&asked, &asked), None);
        assert_eq!(Rooms::refused(&ab, &asked), None, "more than asked for");
        let expected = Rooms { rooms: names(&["c"]), rooms_refused: 1, rooms_asked: 3 };
        assert_eq!(Rooms::refused(&asked, &ab), Some(expected));
    }

    #[test]
    fn many_and_long_rooms_are_counted_and_cut() {
        let asked: Vec<_> = (0..1_000).map(|n| format!("{n}{}", "é".repeat(1_000))).collect();
        let rooms = Rooms::refused(&asked, &[]).expect("all of them");
        assert_eq!((rooms.rooms_refused, rooms.rooms_asked), (1_000, 1_000));
        assert_eq!(rooms.rooms.len(), ROOMS_NAMED_MAX);
        let longest = rooms.rooms.iter().map(String::len).max();
        assert!(longest <= Some(TEXT_BYTES_MAX + "…".len()), "{longest:?}");
    }

    #[test]
    fn a_user_is_text_or_a_number_and_never_long() {
        let user = |json: &str| UserId::from_json(json).map(|user| User::new(&user));
        assert_eq!(user("42"), Some(User::Number(42)));
        assert_eq!(user("\"42\""), Some(User::Text("42".to_owned())));
        assert_eq!(user("\"a\\nb\""), Some(User::Text("a\nb".to_owned())));
        assert_eq!(user("1.5"), Some(User::Text("1.5".to_owned())));
        let long = user(&format!("\"{}\"", "x".repeat(10_000)));
        assert!(matches!(&long, Some(User::Text(text)) if text.len() < 300), "{long:?}");
    }
}
