//! The flags that every command takes: where the configuration comes from and what overrides it.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Flag, Sources};

/// Flags of the configuration. Values are checked with the rest of it, so that all problems are reported at once.
#[derive(Args, Default)]
#[command(next_help_heading = "Configuration (any command)")]
pub struct ConfigArgs {
    /// TOML file to read; else the one SHARDCAST_CONFIG names, else ./shardcast.toml if there is one
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Address for clients; repeat it or separate by commas for more [key: server.listen]
    #[arg(long, global = true, value_name = "IP:PORT")]
    pub listen: Vec<String>,

    /// Address for metrics, health and administration; "" for none [key: admin.listen]
    #[arg(long, global = true, value_name = "IP:PORT")]
    pub admin_listen: Option<String>,

    /// Number of shards, or "auto" for one a core [key: server.shards]
    #[arg(long, global = true, value_name = "N")]
    pub shards: Option<String>,

    /// Redis that links instances; a password is safer in SHARDCAST_REDIS_URL [key: redis.url]
    #[arg(long, global = true, value_name = "URL")]
    pub redis_url: Option<String>,

    /// Dev mode: accept every token and allow every room; loopback only [key: auth.dev]
    #[arg(long, global = true)]
    pub dev: bool,

    /// Allow dev mode on addresses that others can reach [key: auth.insecure]
    #[arg(long, global = true)]
    pub insecure: bool,

    /// Form of log lines: human or json [key: server.log_format]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// Least severe level that is logged: error, warn, info, debug, trace [key: server.log_level]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// Set any key, such as server.pin=false or mounts.0.path=/live; can be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// The sources of this process with these flags on top; a flag of its own wins over `--set`.
    pub fn into_sources(self) -> Sources {
        Sources::of_process(self.config.clone(), self.into_flags())
    }

    pub(super) fn into_flags(self) -> Vec<Flag> {
        let switch = |on: bool| on.then(|| "true".to_owned());
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let named = [
            ("--listen", "server.listen", listen),
            ("--admin-listen", "admin.listen", self.admin_listen),
            ("--shards", "server.shards", self.shards),
            ("--redis-url", "redis.url", self.redis_url),
            ("--dev", "auth.dev", switch(self.dev)),
            ("--insecure", "auth.insecure", switch(self.insecure)),
            ("--log-format", "server.log_format", self.log_format),
            ("--log-level", "server.log_level", self.log_level),
        ];
        let set = self.set.into_iter().map(Flag::Set);
        let named = named
            .into_iter()
            .filter_map(|(flag, path, value)| value.map(|value| Flag::Named { flag, path, value }));
        set.chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::key::KeyPath;

    #[test]
    fn every_flag_sets_a_key_that_exists_and_wins_over_set() {
        let some = |text: &str| Some(text.to_owned());
        let args = ConfigArgs {
            config: None,
            listen: vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            admin_listen: some(""),
            shards: some("2"),
            redis_url: some("redis://h"),
            dev: true,
            insecure: true,
            log_format: some("json"),
            log_level: some("debug"),
            set: vec!["server.pin=false".to_owned()],
        };
        let flags = args.into_flags();
        assert!(matches!(&flags[0], Flag::Set(set) if set == "server.pin=false"));
        let named: Vec<_> = flags[1..]
            .iter()
            .filter_map(|flag| match flag {
                Flag::Named { path, value, .. } => Some((*path, value.as_str())),
                Flag::Set(_) => None,
            })
            .collect();
        assert_eq!(named.len(), 8);
        assert!(named.iter().all(|(path, _)| KeyPath::parse(path).is_ok()), "{named:?}");
        assert_eq!(named[0], ("server.listen", "127.0.0.1:1,127.0.0.1:2"));
    }
}
