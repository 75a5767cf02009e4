//! The way through Redis: `PUBLISH` on the channels of Ignis (`ignis.md` §11), or on that of a topic.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError, Value,
};
use serde_json::value::RawValue;
use shardcast_wire::ignis::UserId;
use shardcast_wire::ignis::envelope::{self, Destination, EMITTER_ID, Payload};
use tokio::sync::Mutex;

use crate::Receipt;
use crate::error::EmitError;
use crate::message::{Message, Target, User};

/// A Redis, and the connection to it once there is one.
#[derive(Clone, Debug)]
pub(crate) struct RedisWay {
    client: Client,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    conn: Option<MultiplexedConnection>,
    /// Counts connections, so that whoever finds one broken does not throw away its successor.
    generation: u64,
}

impl RedisWay {
    /// The database is left out, since pub/sub has none, and the protocol is Ignis' RESP2.
    pub(crate) fn new(url: &str) -> Result<Self, EmitError> {
        let info = url.into_connection_info().map_err(|_| EmitError::RedisUrl)?;
        let settings = info.redis_settings().clone().set_db(0).set_protocol(ProtocolVersion::RESP2);
        let settings = settings.set_lib_name("shardcast-emitter", env!("CARGO_PKG_VERSION"));
        let client = Client::open(info.set_redis_settings(settings)).map_err(|_| EmitError::RedisUrl)?;
        Ok(Self { client, shared: Arc::default() })
    }

    pub(crate) async fn send(
        &self,
        messages: &[Message],
        timeout: Duration,
    ) -> Result<Vec<Receipt>, EmitError> {
        let mut pipeline = Pipeline::with_capacity(messages.len());
        for message in messages {
            let (channel, body) = envelope(message)?;
            pipeline.cmd("PUBLISH").arg(channel).arg(body);
        }
        let (mut conn, generation) = self.connection(timeout).await?;
        conn.set_response_timeout(timeout);
        let replies = match conn.send_packed_commands(&pipeline, 0, messages.len()).await {
            Ok(replies) => replies,
            Err(error) => {
                self.forget(generation).await;
                return Err(failure(error));
            }
        };
        if replies.len() != messages.len() {
            return Err(EmitError::Answer);
        }
        replies.into_iter().map(receipt).collect()
    }

    async fn connection(&self, timeout: Duration) -> Result<(MultiplexedConnection, u64), EmitError> {
        let mut shared = self.shared.lock().await;
        if let Some(conn) = &shared.conn {
            return Ok((conn.clone(), shared.generation));
        }
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(timeout));
        let conn =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(failure)?;
        shared.generation += 1;
        shared.conn = Some(conn.clone());
        Ok((conn, shared.generation))
    }

    async fn forget(&self, generation: u64) {
        let mut shared = self.shared.lock().await;
        if shared.generation == generation {
            shared.conn = None;
        }
    }
}

/// The channel and the message, as Ignis' emitter writes them; for a topic it is the data.
fn envelope(message: &Message) -> Result<(String, Vec<u8>), EmitError> {
    let data = message.data.as_deref().map(RawValue::get);
    let destination = match &message.target {
        Target::Broadcast => Destination::Broadcast,
        Target::Room(name) => Destination::Room(Cow::Borrowed(name)),
        Target::Client(id) => Destination::Client(Cow::Borrowed(id)),
        Target::User(User::Text(id)) => {
            Destination::User(Cow::Owned(UserId::from_text(id).as_json().to_owned()))
        }
        Target::User(User::Number(id)) => Destination::User(Cow::Owned(id.to_string())),
        Target::Topic(channel) => {
            return Ok((channel.clone(), data.ok_or(EmitError::Topic)?.as_bytes().to_vec()));
        }
    };
    // Data that serde takes for JSON and the servers do not is nested too deeply for them.
    let event = message.event.as_deref().ok_or(EmitError::NoEvent)?;
    let payload = Payload::new(event, data).map_err(|error| EmitError::Data(Box::new(error)))?;
    let body = envelope::encode(EMITTER_ID, &destination, &payload, message.exclude.as_deref());
    Ok((envelope::channel(&destination), body))
}

fn receipt(reply: Value) -> Result<Receipt, EmitError> {
    match reply {
        Value::Int(servers) => Ok(Receipt::Redis { servers: u64::try_from(servers).unwrap_or(0) }),
        Value::ServerError(error) => Err(EmitError::Redis(Box::new(error))),
        _ => Err(EmitError::Answer),
    }
}

/// The texts of these errors are the client library's and, over RESP2, never contain the password.
fn failure(error: RedisError) -> EmitError {
    if error.is_timeout() {
        EmitError::Timeout
    } else if error.is_io_error() {
        EmitError::Transport(Box::new(error))
    } else {
        EmitError::Redis(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_recorded_emitter_is_written_byte_for_byte() {
        let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("JSON");
        let weird = "room é😀/\"*?[x]";
        let id = "bbf37501-294a-44e3-892d-0cc9acf0d441";
        let n = |target, event: &str, n: u32| {
            Message::new(target, event).with_raw_data(raw(&format!("{{\"n\":{n}}}")))
        };
        for (message, channel, body) in [
            (n(Target::client(id), "to-client", 1), format!("ws:client:{id}"), format!(
                r#"{{"serverId":"emitter","type":"client","target":"{id}","event":"to-client","data":{{"n":1}}}}"#
            )),
            (
                n(Target::room("room-a"), "e", 5).excluding([""; 0]),
                "ws:room:room-a".to_owned(),
                r#"{"serverId":"emitter","type":"room","target":"room-a","event":"e","data":{"n":5},"exclude":[]}"#
                    .to_owned(),
            ),
            (
                Message::new(Target::Broadcast, "bc"),
                "ws:broadcast".to_owned(),
                r#"{"serverId":"emitter","type":"broadcast","event":"bc"}"#.to_owned(),
            ),
            (
                Message::new(Target::room(weird), "weird").with_raw_data(raw(r#""\ud800""#)),
                format!("ws:room:{weird}"),
                r#"{"serverId":"emitter","type":"room","target":"room é😀/\"*?[x]","event":"weird","data":"\ud800"}"#
                    .to_owned(),
            ),
            (
                Message::topic("chat").with_raw_data(raw(r#"{ "n": 1.0 }"#)),
                "chat".to_owned(),
                r#"{ "n": 1.0 }"#.to_owned(),
            ),
            (
                Message::new(Target::user(42), "x"),
                "ws:user:42".to_owned(),
                r#"{"serverId":"emitter","type":"user","target":42,"event":"x"}"#.to_owned(),
            ),
        ] {
            let (found_channel, found_body) = envelope(&message).expect("a good message");
            assert_eq!((found_channel, String::from_utf8(found_body).expect("UTF-8")), (channel, body));
        }
    }

    #[test]
    fn a_useless_address_is_refused_without_repeating_its_password() {
        for url in ["", "host", "http://:hunter2@host", "rediss://:hunter2@host", "redis://:hunter2@host/x"] {
            let error = RedisWay::new(url).expect_err(url);
            assert!(matches!(error, EmitError::RedisUrl));
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
        let way = RedisWay::new("redis://user:hunter2@host/3").expect("an address");
        assert!(!format!("{way:?}").contains("hunter2"));
    }
}
