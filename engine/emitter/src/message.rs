//! What is sent, and to whom.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::error::EmitError;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every authenticated client.
    Broadcast,
    /// The members of a room.
    Room(String),
    /// Every client of a user.
    User(User),
    /// One client, by the id it was told in `connected`.
    Client(String),
    /// A Redis channel, for the clients of Shardcast that subscribed the topic it is: see [`Message::topic`].
    Topic(String),
}

/// A user's id. The string `"42"` and the number 42 are different users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A string.
    Text(String),
    /// A number.
    Number(i64),
}

impl Target {
    /// The members of a room.
    pub fn room(name: impl Into<String>) -> Self {
        Self::Room(name.into())
    }

    /// Every client of a user: `Target::user("u1")` or `Target::user(42)`.
    pub fn user(id: impl Into<User>) -> Self {
        Self::User(id.into())
    }

    /// One client.
    pub fn client(id: impl Into<String>) -> Self {
        Self::Client(id.into())
    }
}

impl From<&str> for User {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for User {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for User {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Whom it is for.
    pub target: Target,
    /// The name of the event; topics have none.
    pub event: Option<String>,
    /// What clients get as `data`, or as the `snapshot` of a topic: any JSON. Without it they get no `data`, which is not
    /// the same as `null`; a topic needs some.
    pub data: Option<Box<RawValue>>,
    /// Ids of clients that do not get it; for rooms and broadcasts.
    pub exclude: Option<Vec<String>>,
}

impl Message {
    /// A message without data.
    pub fn new(target: Target, event: impl Into<String>) -> Self {
        Self { target, event: Some(event.into()), data: None, exclude: None }
    }

    /// A message for the topic that is the Redis channel `channel` (with its mount's `channel_prefix`). It needs data, which
    /// is published as it is written, and has neither event nor exceptions. Ignis' servers take no notice of it.
    pub fn topic(channel: impl Into<String>) -> Self {
        Self { target: Target::Topic(channel.into()), event: None, data: None, exclude: None }
    }

    /// With data of any type that serialises to JSON. Errors: it does not.
    pub fn with_data(self, data: &(impl Serialize + ?Sized)) -> Result<Self, EmitError> {
        let data = to_raw_value(data).map_err(|error| EmitError::Data(Box::new(error)))?;
        Ok(self.with_raw_data(data))
    }

    /// With data that is JSON already. It reaches the clients as it is written.
    pub fn with_raw_data(mut self, data: Box<RawValue>) -> Self {
        self.data = Some(data);
        self
    }

    /// Except for some clients of the room, or of all.
    pub fn excluding<Id: Into<String>>(mut self, clients: impl IntoIterator<Item = Id>) -> Self {
        self.exclude = Some(clients.into_iter().map(Into::into).collect());
        self
    }

    /// Refuses what no server would deliver, or not as meant.
    pub(crate) fn check(&self) -> Result<(), EmitError> {
        let is_nobody = match &self.target {
            Target::Broadcast => false,
            Target::Room(name) | Target::Topic(name) => name.is_empty(),
            Target::Client(id) => id.is_empty(),
            Target::User(User::Text(id)) => id.is_empty(),
            Target::User(User::Number(id)) => *id == 0,
        };
        if is_nobody {
            return Err(EmitError::NoTarget);
        }
        let is_topic = matches!(self.target, Target::Topic(_));
        if self.exclude.is_some() && (is_topic || matches!(self.target, Target::User(_) | Target::Client(_)))
        {
            return Err(EmitError::Exclude);
        }
        if is_topic && (self.data.is_none() || self.event.is_some()) {
            return Err(EmitError::Topic);
        }
        if !is_topic && self.event.is_none() {
            return Err(EmitError::NoEvent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_would_deliver_is_refused() {
        let topic = || Target::Topic(String::new());
        for target in [Target::room(""), Target::client(""), Target::user(""), Target::user(0), topic()] {
            let message = Message::new(target, "x");
            assert!(matches!(message.check(), Err(EmitError::NoTarget)), "{message:?}");
        }
        for target in [Target::user("u"), Target::client("c"), Target::Topic("t".to_owned())] {
            let message = Message::new(target, "x").excluding(["a"]);
            assert!(matches!(message.check(), Err(EmitError::Exclude)), "{message:?}");
        }
        let topic = || Message::topic("t");
        let with_event = Message::new(Target::Topic("t".to_owned()), "e");
        for message in [topic(), with_event.with_data(&1).expect("JSON")] {
            assert!(matches!(message.check(), Err(EmitError::Topic)), "{message:?}");
        }
        assert!(topic().with_data(&()).expect("JSON").check().is_ok());
        let eventless = Message { event: None, ..Message::new(Target::Broadcast, "x") };
        assert!(matches!(eventless.check(), Err(EmitError::NoEvent)));
        for target in [Target::Broadcast, Target::room("r")] {
            assert!(Message::new(target, "").excluding(["a"]).check().is_ok());
        }
    }

    #[test]
    fn data_that_is_no_json_is_an_error() {
        let keys_are_no_strings = std::collections::BTreeMap::from([(vec![1], 1)]);
        let result = Message::new(Target::Broadcast, "x").with_data(&keys_are_no_strings);
        assert!(matches!(result, Err(EmitError::Data(_))));
    }
}
