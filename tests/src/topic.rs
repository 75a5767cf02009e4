//! A client of the topic dialect, and what a server needs for one. Its frames are written here once more, from
//! `topic.md` §2 and not from the server's code, and compared byte for byte.

pub mod page;
pub mod plans;
pub mod recording;
pub mod replay;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use shardcast::config::{Config, Dialect, JwtAlgorithm, Mount, RoomPattern, Secret, Token, UserId};

use crate::client::{Client, Received};
use crate::jwks::IssuerKey;
use crate::redis::RedisServer;
use crate::server::{PATIENCE, TestServer, with_redis};

/// Path of the topic mount that [`with_topics`] adds.
pub const TOPICS: &str = "/topics";

/// Who signs the tokens.
pub const ISSUER: &str = "https://id.example";

/// M1.
pub const CONNECTED: &str = r#"{"action":"connect","message":"connection established"}"#;
/// M2 up to the session, and after it.
pub const SESSION: [&str; 2] =
    [r#"{"action":"session","message":"waiting for create session","session":""#, r#""}"#];
/// M3.
pub const AUTHENTICATED: &str = r#"{"action":"session","message":"session authenticated"}"#;
/// M4.
pub const UNAUTHORIZED: &str = r#"{"action":"session","message":"session unauthorized"}"#;
/// M5.
pub const SUBSCRIBED: &str = r#"{"action":"subscribe","message":"context subscribed"}"#;
/// M6.
pub const UNSUBSCRIBED: &str = r#"{"action":"unsubscribe","message":"context unsubscribed"}"#;
/// M8.
pub const DISCONNECT: &str = r#"{"action":"connect","message":"client disconnect"}"#;

/// How long channels stay subscribed on the servers of tests: long enough to be seen, short enough to be waited for.
pub const LINGER: Duration = Duration::from_millis(500);

/// M7, `snapshot` being JSON text.
pub fn message(topic: &str, snapshot: &str) -> String {
    format!(r#"{{"action":"message","topic":{},"snapshot":{snapshot}}}"#, json!(topic))
}

/// Adds a topic mount at [`TOPICS`], with times that no busy machine reaches.
pub fn with_topics(mut config: Config) -> Config {
    config.mounts.push(Mount {
        path: TOPICS.to_owned(),
        auth_timeout: 3 * PATIENCE,
        ping_interval: 3 * PATIENCE,
        ..Mount::for_dialect(Dialect::Topic)
    });
    config.redis.unsubscribe_linger = LINGER;
    config
}

/// The topic mount that [`with_topics`] added last.
///
/// # Panics
/// When there is none.
pub fn mount(config: &mut Config) -> &mut Mount {
    config.mounts.iter_mut().rfind(|mount| mount.dialect == Dialect::Topic).expect("a topic mount")
}

/// A key of [`ISSUER`], the same for every test of the process, as it takes a while to make.
pub fn issuer() -> &'static IssuerKey {
    static KEY: OnceLock<IssuerKey> = OnceLock::new();
    KEY.get_or_init(|| IssuerKey::new(JwtAlgorithm::Rs256, "topic"))
}

/// Ends dev mode: clients need tokens of [`issuer`], a [`crate::bystander::Bystander`] has one of its own.
pub fn with_tokens(mut config: Config) -> Config {
    config.auth.dev = false;
    config.jwt.keys = vec![issuer().table(ISSUER)];
    // What is dropped of a cache looks at every thread of the process, and a test may have hundreds.
    config.jwt.cache_entries_max = 64;
    config.auth.tokens.push(Token {
        token: Secret::new("bystander"),
        user: Some(UserId::Text("bystander".to_owned())),
        rooms: vec![RoomPattern::new("bystanders")],
    });
    config
}

/// A token for this user, good for an hour.
pub fn token(user: &str) -> String {
    issuer().token(&json!({"iss": ISSUER, "sub": user}))
}

/// A server with a topic mount, tokens, and a Redis of its own.
pub struct Rig {
    // Dropped in this order: the server says goodbye to its Redis.
    /// The server.
    pub server: TestServer,
    /// Its Redis.
    pub redis: RedisServer,
}

impl Rig {
    /// Starts both; `config` is one of [`crate::server`].
    ///
    /// # Panics
    /// When they do not start.
    pub fn start(config: Config) -> Self {
        Self::start_with(config, |_| {})
    }

    /// The same with changes to the configuration, whose topic mount is there already.
    ///
    /// # Panics
    /// When they do not start.
    pub fn start_with(config: Config, change: impl FnOnce(&mut Config)) -> Self {
        let redis = RedisServer::start();
        let mut config = with_redis(with_tokens(with_topics(config)), &redis.url());
        change(&mut config);
        let server = TestServer::start(&config);
        server.wait_until_ready();
        Self { server, redis }
    }

    /// A client that has not authorized.
    pub fn stranger(&self) -> TopicClient {
        TopicClient::connect(self.server.address())
    }

    /// A client that has.
    pub fn client(&self, user: &str) -> TopicClient {
        let mut client = self.stranger();
        client.authorize(&token(user));
        client
    }

    /// A client that has, and is subscribed to these topics.
    pub fn subscriber(&self, topics: &[&str]) -> TopicClient {
        let mut client = self.client("u1");
        topics.iter().for_each(|topic| client.subscribe(topic));
        client
    }
}

/// A client, connected and greeted.
#[derive(Debug)]
pub struct TopicClient {
    client: Client,
    session: String,
}

impl TopicClient {
    /// Connects at [`TOPICS`].
    ///
    /// # Panics
    /// When the server does not switch protocols and greet with M1 and M2.
    pub fn connect(address: SocketAddr) -> Self {
        Self::of(Client::connect(address, TOPICS))
    }

    /// Takes over a connection that was upgraded and received nothing.
    ///
    /// # Panics
    /// When the server does not greet with M1 and M2.
    pub fn of(mut client: Client) -> Self {
        assert_eq!(client.recv(), Received::Text(CONNECTED.to_owned()), "M1");
        let Received::Text(text) = client.recv() else { panic!("no M2") };
        let session = text.strip_prefix(SESSION[0]).and_then(|rest| rest.strip_suffix(SESSION[1]));
        let session = session.unwrap_or_else(|| panic!("no M2: {text}")).to_owned();
        Self { client, session }
    }

    /// The session that M2 named.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The connection.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The text of a request.
    pub fn request(&self, action: &str, context: &str) -> String {
        request(action, &self.session, context)
    }

    /// Sends a request.
    ///
    /// # Panics
    /// When the server has ended the connection or does not read.
    pub fn send(&mut self, action: &str, context: &str) {
        let text = self.request(action, context);
        self.client.send_text(&text);
    }

    /// The next thing that arrives is this text.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.client.recv(), Received::Text(text.to_owned()));
    }

    /// Sends a token, which must be good.
    ///
    /// # Panics
    /// When the answer is not M3.
    #[track_caller]
    pub fn authorize(&mut self, token: &str) {
        self.send("authorization", token);
        self.expect(AUTHENTICATED);
    }

    /// Sends a token, which must be refused.
    ///
    /// # Panics
    /// When the answer is not M4.
    #[track_caller]
    pub fn authorize_in_vain(&mut self, token: &str) {
        self.send("authorization", token);
        self.expect(UNAUTHORIZED);
    }

    /// Subscribes.
    ///
    /// # Panics
    /// When the answer is not M5.
    #[track_caller]
    pub fn subscribe(&mut self, topic: &str) {
        self.send("subscribe", topic);
        self.expect(SUBSCRIBED);
    }

    /// Unsubscribes.
    ///
    /// # Panics
    /// When the answer is not M6.
    #[track_caller]
    pub fn unsubscribe(&mut self, topic: &str) {
        self.send("unsubscribe", topic);
        self.expect(UNSUBSCRIBED);
    }

    /// The next thing that arrives is M7 with this snapshot, JSON text.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn expect_message(&mut self, topic: &str, snapshot: &str) {
        self.expect(&message(topic, snapshot));
    }

    /// Nothing has arrived that was not received.
    ///
    /// # Panics
    /// When something has.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.client.settle();
        assert_eq!(self.client.take_pending(), []);
    }

    /// The server ends the connection: M8, a close frame without a code, FIN.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn expect_end(mut self) {
        self.expect(DISCONNECT);
        assert_eq!(self.client.recv(), Received::Close(None, String::new()));
        assert_eq!(self.client.recv(), Received::Eof);
    }

    /// The same with `close_codes = "explicit"`.
    ///
    /// # Panics
    /// When it does not, or gives no reason.
    #[track_caller]
    pub fn expect_end_with(mut self, code: u16) {
        self.expect(DISCONNECT);
        match self.client.recv() {
            Received::Close(Some(sent), reason) if sent == code && !reason.is_empty() => {}
            other => panic!("expected a close frame with {code} and a reason, received {other:?}"),
        }
        assert_eq!(self.client.recv(), Received::Eof);
    }

    /// Closes in order, with nothing left to receive.
    ///
    /// # Panics
    /// When something was, or the server does not answer.
    #[track_caller]
    pub fn leave(mut self) {
        self.expect_nothing();
        self.client.leave();
    }

    /// Ends the connection with RST.
    ///
    /// # Panics
    /// When the socket takes no options.
    pub fn reset(self) {
        self.client.reset();
    }
}

/// The text of a request with any session.
pub fn request(action: &str, session: &str, context: &str) -> String {
    format!(r#"{{"action":"{action}","session":"{session}","context":{}}}"#, json!(context))
}
