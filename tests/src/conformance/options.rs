//! What a recording's header says about its server, as a configuration of ours.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use shardcast::config::{Auto, Config, Encryption, RedisUrl, SlowConsumer};

/// A recorded server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Options {
    /// What the Ignis helper was given: `authTimeout`, `serverOptions` and so on.
    pub(super) helper: Value,
    /// Callbacks that the application lacks.
    pub(super) without: Vec<String>,
    /// It has a `handshakeFn`.
    pub(super) exchanges_keys: bool,
}

impl Options {
    /// Reads a header.
    ///
    /// # Panics
    /// When it says something that is not understood here, so that no option is passed over in silence.
    pub(super) fn of(header: &Value) -> Self {
        let mut options = Self { helper: Value::Object(Default::default()), ..Self::default() };
        if let Some(server_options) = header.get("serverOptions") {
            options.helper["serverOptions"] = server_options.clone();
        }
        // Texts say that everything is at its default.
        let Some(server) = header["server"].as_object() else { return options };
        for (key, value) in server {
            match key.as_str() {
                "helper" => options.helper = value.clone(),
                "without" => {
                    options.without = serde_json::from_value(value.clone()).expect("names of callbacks");
                }
                "handshake" => options.exchanges_keys = value.as_bool().expect("a switch"),
                // What encrypts is built in, and always lets `connected` through.
                "transformer" | "plainConnected" => {}
                other => panic!("the header has an unknown server option: {other}"),
            }
        }
        options
    }

    /// With these helper options in place of its own; those of `serverOptions` one by one.
    pub(super) fn with(mut self, changes: &Value) -> Self {
        merge(&mut self.helper, changes);
        self
    }

    /// Our configuration for it: one listener on a free loopback port, nothing that reaches beyond the test.
    ///
    /// # Panics
    /// When an option is not understood.
    pub(super) fn config(&self, shards: usize, redis_url: Option<&str>) -> Config {
        let mut config = Config::default();
        config.server.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        config.server.shards = Auto::Fixed(shards);
        config.server.pin = false;
        config.server.drain_period = Duration::ZERO;
        config.server.connections_max = Auto::Fixed(64);
        config.admin.listen = None;
        config.redis.url = redis_url.map(RedisUrl::new);
        let mount = &mut config.mounts[0];
        if self.exchanges_keys {
            mount.encryption = Encryption::Optional;
        }
        for (key, value) in self.helper.as_object().into_iter().flatten() {
            match key.as_str() {
                "authTimeout" => mount.auth_timeout = millis(value),
                "heartbeatInterval" => mount.heartbeat_interval = millis(value),
                "heartbeatTimeout" => mount.heartbeat_timeout = millis(value),
                "requireEncryption" if value == true => mount.encryption = Encryption::Required,
                "serverOptions" => {}
                other => panic!("unknown helper option: {other}"),
            }
        }
        for (key, value) in self.helper["serverOptions"].as_object().into_iter().flatten() {
            match key.as_str() {
                "idleTimeout" => {
                    let seconds = value.as_f64().expect("a number of seconds");
                    mount.idle_timeout = (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
                }
                "sendPings" => mount.send_pings = value.as_bool().expect("a switch"),
                "perMessageDeflate" => {
                    mount.compression = value.as_bool().expect("a switch");
                    mount.compression_bytes_min = 1;
                }
                "maxPayloadLength" => mount.message_bytes_max = bytes(value),
                "backpressureLimit" => mount.outbox_bytes_max = bytes(value),
                "closeOnBackpressureLimit" => {
                    let closes = value.as_bool().expect("a switch");
                    mount.slow_consumer =
                        if closes { SlowConsumer::Disconnect } else { SlowConsumer::DropNewest };
                }
                other => panic!("unknown server option: {other}"),
            }
        }
        config
    }
}

fn merge(to: &mut Value, changes: &Value) {
    match changes.as_object() {
        Some(changes) => {
            for (key, value) in changes {
                merge(&mut to[key], value);
            }
        }
        None => *to = changes.clone(),
    }
}

fn millis(value: &Value) -> Duration {
    Duration::from_millis(value.as_u64().expect("a number of milliseconds"))
}

fn bytes(value: &Value) -> usize {
    usize::try_from(value.as_u64().expect("a number of bytes")).expect("a size that fits memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_header_becomes_a_configuration() {
        let header = json!({"server": {
            "helper": {"authTimeout": 300, "serverOptions": {"idleTimeout": 10, "sendPings": false}},
            "without": ["messageHandler"],
        }});
        let options = Options::of(&header).with(&json!({"serverOptions": {"idleTimeout": 0.5}}));
        assert_eq!(options.without, ["messageHandler"]);
        let mount = &options.config(1, None).mounts[0];
        assert_eq!(mount.auth_timeout, Duration::from_millis(300));
        assert_eq!((mount.idle_timeout, mount.send_pings), (Some(Duration::from_millis(500)), false));
        let defaults = Options::of(&json!({"server": "component, all defaults"})).config(1, None);
        assert_eq!(defaults.mounts, Config::default().mounts);
    }

    #[test]
    #[should_panic(expected = "unknown helper option: encryptedBatchLimit")]
    fn an_option_that_is_not_understood_is_no_default() {
        Options::of(&json!({"server": {"helper": {"encryptedBatchLimit": 3}}})).config(1, None);
    }
}
