//! Conversations recorded with the reference implementation, as lines of a text file.

use std::fs;
use std::path::{Path, PathBuf};

/// Where ours are.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/topic/reference.txt")
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// What it shows.
    pub name: String,
    /// Its lines, without the blanks around them.
    pub lines: Vec<String>,
}

/// One line of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A text message of the server.
    Server(String),
    /// A message of the client.
    Client(String),
    /// An empty ping of the server.
    Ping,
    /// The end of the connection, with a close frame that names no code.
    Close,
    /// What is subscribed on Redis.
    Channels(Vec<String>),
    /// A message that is published on Redis.
    Publish {
        /// Where.
        channel: String,
        /// What.
        payload: String,
        /// How many subscribers it reached.
        receivers: u64,
    },
}

/// Reads every conversation of a file.
///
/// # Panics
/// When it cannot be read.
pub fn recordings(path: &Path) -> Vec<Recording> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let sections = text.split("\n## ").skip(1);
    sections
        .map(|section| {
            let mut lines = section.lines().map(|line| line.trim_ascii().to_owned());
            let name = lines.next().expect("a split has a first line");
            Recording { name, lines: lines.filter(|line| !line.is_empty()).collect() }
        })
        .collect()
}

/// Reads one line; `None` when it tells of something that no step does.
pub fn step(line: &str) -> Option<Step> {
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "S:" => Some(Step::Server(rest.trim_ascii_start().to_owned())),
        "C:" => Some(Step::Client(rest.to_owned())),
        "PING" => (rest == r#""""#).then_some(Step::Ping),
        "CLOSE" => (rest == r#"1005 """#).then_some(Step::Close),
        "R:" => redis_step(rest),
        _ => None,
    }
}

fn redis_step(line: &str) -> Option<Step> {
    if let Some(list) = line.strip_prefix("PUBSUB CHANNELS ") {
        return serde_json::from_str(list).ok().map(Step::Channels);
    }
    let (message, receivers) = line.strip_prefix("PUBLISH ")?.rsplit_once(" -> ")?;
    let (channel, payload) = message.split_once(' ')?;
    let receivers = receivers.parse().ok()?;
    Some(Step::Publish { channel: channel.to_owned(), payload: payload.to_owned(), receivers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_what_they_tell() {
        let publish = |payload: &str, receivers| {
            Some(Step::Publish { channel: "chat".to_owned(), payload: payload.to_owned(), receivers })
        };
        let cases = [
            (r#"S:  {"a":1}"#, Some(Step::Server(r#"{"a":1}"#.to_owned()))),
            ("C: not json", Some(Step::Client("not json".to_owned()))),
            (r#"R: PUBSUB CHANNELS ["chat"]"#, Some(Step::Channels(vec!["chat".to_owned()]))),
            ("R: PUBSUB CHANNELS []", Some(Step::Channels(Vec::new()))),
            ("R: PUBLISH chat plain text -> 1", publish("plain text", 1)),
            ("R: PUBLISH chat  -> 0", publish("", 0)),
            (r#"CLOSE 1005 """#, Some(Step::Close)),
            (r#"CLOSE 1000 """#, None),
            (r#"PING """#, Some(Step::Ping)),
            ("after hb [ 'leak' ]", None),
        ];
        for (line, expected) in cases {
            assert_eq!(step(line), expected, "{line}");
        }
    }

    #[test]
    fn every_conversation_has_a_name_of_its_own() {
        let recordings = recordings(&fixture());
        assert_eq!(recordings.len(), 29);
        assert_eq!(recordings[0].name, "happy");
        assert_eq!(recordings[0].lines.len(), 22);
        let names: std::collections::BTreeSet<_> =
            recordings.iter().map(|recording| &recording.name).collect();
        assert_eq!(names.len(), recordings.len());
    }
}
