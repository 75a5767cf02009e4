//! What `check`, `config` and `version` print.

use std::env::consts::{ARCH, OS};
use std::net::SocketAddr;

use clap::Args;

use crate::config::render::{default_file, effective, reference};
use crate::config::{Choice, Config, ConfigError, Loaded, Sources};
use crate::doctor::ring;

/// Which page `config` prints.
#[derive(Args)]
pub struct ConfigPage {
    /// Print a TOML file with every key commented out, its default and its meaning
    #[arg(long, conflicts_with = "reference")]
    pub default: bool,

    /// Print the reference page of the documentation, in Markdown
    #[arg(long)]
    pub reference: bool,
}

impl ConfigPage {
    /// The page.
    ///
    /// # Errors
    /// The configuration of this run is wrong; the other two pages do not load it.
    pub fn text(&self, sources: &Sources) -> Result<String, ConfigError> {
        if self.default {
            Ok(default_file())
        } else if self.reference {
            Ok(reference())
        } else {
            sources.load().map(|loaded| effective(&loaded))
        }
    }
}

/// What a sound configuration comes to, in a few lines.
pub fn summary(loaded: &Loaded) -> String {
    let Loaded { config, sources, .. } = loaded;
    let machine = &sources.machine;
    let file = loaded.file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
    let (env, flags) = loaded.origins.overrides();
    let mut lines = vec![format!("ok: {file}, {env} from the environment, {flags} from flags")];
    let mut line = |label: &str, text: String| lines.push(format!("  {label:<12} {text}"));

    let list = |addresses: &[SocketAddr]| {
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
    };
    line("clients", list(&config.server.listen));
    line("with TLS", list(&config.server.tls_listen));
    let (shards, connections) = (config.shard_count(machine), config.connections_max(machine));
    line("capacity", format!("{shards} shards, {connections} connections, io {}", config.server.io.name()));
    line("admin", config.admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    line(
        "redis",
        config.redis.url.as_ref().map_or_else(|| "none, one instance".to_owned(), ToString::to_string),
    );
    line("api", api(config));
    line("auth", auth(config));
    for mount in &config.mounts {
        let own = mount.listen.iter().map(|address| format!(", alone on {address}"));
        let own: String = own.collect();
        line("mount", format!("{} ({}){own}", mount.path, mount.dialect.name()));
    }
    lines.join("\n") + "\n"
}

fn api(config: &Config) -> String {
    match config.api.key.len() {
        0 if config.auth.dev => "open, no key needed".to_owned(),
        0 => "closed, no key set".to_owned(),
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}

fn auth(config: &Config) -> String {
    let auth = &config.auth;
    if auth.dev {
        return "dev mode, every token".to_owned();
    }
    let anonymous = if auth.anonymous { ", and without a token" } else { "" };
    format!("{} tokens{anonymous}", auth.tokens.len())
}

/// The version and what this build can do here.
pub fn version() -> String {
    let libc = if cfg!(target_env = "gnu") {
        "-gnu"
    } else if cfg!(target_env = "musl") {
        "-musl"
    } else {
        ""
    };
    let profile = if cfg!(debug_assertions) { "with debug assertions" } else { "optimised" };
    format!(
        "shardcast {}\ntarget   {ARCH}-{OS}{libc}, {profile}\nio_uring {}\nepoll    usable\n",
        env!("CARGO_PKG_VERSION"),
        ring::probe()
    )
}
