//! The pages written from the table of keys: the reference, the default file, the configuration of this run.
//!
//! Nothing here describes a key; what is said about one comes from [`super::keys`].

use std::fmt::Write as _;

use super::Config;
use super::key::{Key, KeyPath, Section};
use super::keys::{Auth, Mount, SECTIONS, Server};
use super::load::Loaded;
use super::values::{Auto, Choice, Dialect};

/// What stands before the first section of the reference page.
const REFERENCE_HEAD: &str = r#"# Configuration

<!-- Written by `shardcast config --reference` from the server's own table of keys. Do not edit by hand. -->

Every value is taken from the first of these places that sets it:

1. **Flags.** A few keys have a flag of their own (`shardcast --help`); every key can be set with
   `--set section.key=value`. Flags can be seen in the process list, so keep secrets out of them.
2. **Environment.** `SHARDCAST_<SECTION>_<KEY>`, as given below for each key. Lists are separated by commas.
3. **The TOML file.** The one named by `--config`, else by `SHARDCAST_CONFIG`, else `shardcast.toml` in the working
   directory if there is one.
4. **The default.**

Tables that can be repeated are numbered from 0 in flags and in the environment: `--set mounts.0.path=/live`,
`SHARDCAST_AUTH_TOKENS_0_TOKEN`. The number after the last adds a table.

Unknown keys, values of the wrong form and contradictions are all reported together, with file and line, and the
server does not start. Durations are strings with a unit (`"300ms"`, `"5s"`, `"2m"`, `"1h"`), sizes strings with a unit
(`"16KiB"`, `"1MiB"`) or a number of bytes.

`SIGHUP` loads all of it again. What can change while the server runs is marked *reload*; the rest waits for a restart
and is named in the log. A configuration that is refused changes nothing.

| Command | Use |
|---|---|
| `shardcast check` | Check the configuration and say what it comes to. |
| `shardcast config` | Print the configuration of this run, and where each value comes from. |
| `shardcast config --default` | Print a file with every key, its default and its meaning. |
| `shardcast config --reference` | Print this page. |
"#;

/// What stands before the first section of the default file.
const DEFAULT_HEAD: &str = r##"# Shardcast configuration: every key with its default.
#
# Take away the "#" before a key to set it. Text after "# " explains; `shardcast check` tests the result.
# Durations take a unit ("300ms", "5s", "2m", "1h"), sizes too ("16KiB", "1MiB") or are a number of bytes.
"##;

/// Writes to a `String` cannot fail; this says so in one place.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {
        writeln!($out, $($arg)*).expect("writing to a String does not fail")
    };
}

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut out = REFERENCE_HEAD.to_owned();
    let config = sample();
    for section in SECTIONS {
        put!(out, "\n## `{}`\n\n{}", section.header(), lines(section.doc).join("\n"));
        for key in section.keys {
            reference_key(&mut out, &config, section, key);
        }
    }
    out
}

fn reference_key(out: &mut String, config: &Config, section: &'static Section, key: &'static Key) {
    let path = KeyPath { section, index: 0, key };
    put!(out, "\n### `{}.{}`\n\n{}\n", section.name, key.name, lines(key.doc).join("\n"));
    match (key.choices)().as_slice() {
        [] => put!(out, "- Takes {}.", (key.expected)()),
        choices => {
            put!(out, "- Takes one of:");
            choices.iter().for_each(|(name, meaning)| put!(out, "  - `\"{name}\"`: {meaning}"));
        }
    }
    put!(out, "- Default: `{}`{}", (key.write)(config, 0), dialect_defaults(config, &path, '`'));
    put!(out, "- Environment: `{}`", path.env());
    if key.secret {
        put!(out, "- *secret*: masked wherever it is shown");
    }
    if key.live {
        put!(out, "- *reload*: applied by `SIGHUP`");
    }
}

/// A TOML file with every key commented out, each with its default and its meaning.
pub fn default_file() -> String {
    let mut out = DEFAULT_HEAD.to_owned();
    let config = sample();
    for section in SECTIONS {
        out.push('\n');
        comment(&mut out, section.doc);
        // A repeated table that stands in the file is a table more, so its header is commented out too.
        put!(out, "{}{}", if section.rows.is_some() { "#" } else { "" }, section.header());
        for key in section.keys {
            let path = KeyPath { section, index: 0, key };
            out.push('\n');
            comment(&mut out, key.doc);
            match (key.choices)().as_slice() {
                [] => put!(out, "# Takes {}.", (key.expected)()),
                choices => choices.iter().for_each(|(name, meaning)| put!(out, "#   \"{name}\": {meaning}")),
            }
            let others = dialect_defaults(&config, &path, ' ');
            if let Some(others) = others.strip_prefix("; ") {
                put!(out, "# By default {}.", others.trim_end());
            }
            put!(out, "#{} = {}", key.name, (key.write)(&config, 0));
        }
    }
    out
}

/// The configuration of this run as TOML, each value with where it comes from, secrets masked.
pub fn effective(loaded: &Loaded) -> String {
    let mut out = match &loaded.file {
        Some(file) => format!("# Effective configuration, with {} read.\n", file.display()),
        None => "# Effective configuration, without a file.\n".to_owned(),
    };
    put!(out, "# After each value: where it comes from. Secrets are masked.");
    for section in SECTIONS {
        for index in 0..section.count(&loaded.config) {
            put!(out, "\n{}", section.header());
            for key in section.keys {
                let path = KeyPath { section, index, key };
                let value = (key.show)(&loaded.config, index);
                put!(
                    out,
                    "{} = {value}  # {}{}",
                    key.name,
                    loaded.origins.of(&path),
                    resolved(loaded, &path)
                );
            }
        }
    }
    out
}

/// What `"auto"` comes to on this machine.
fn resolved(loaded: &Loaded, path: &KeyPath) -> String {
    let Loaded { config, sources, .. } = loaded;
    let server = &config.server;
    let number = match (path.section.name, path.key.name) {
        (Server::NAME, "shards") if server.shards == Auto::Auto => config.shard_count(&sources.machine),
        (Auth::NAME, "threads") if config.auth.threads == Auto::Auto => config.auth_threads(&sources.machine),
        (Server::NAME, "connections_max") if server.connections_max == Auto::Auto => {
            config.connections_max(&sources.machine)
        }
        _ => return String::new(),
    };
    format!("; {number} on this machine")
}

/// A configuration in which every section has a table, for its defaults.
fn sample() -> Config {
    let mut config = Config::default();
    for rows in SECTIONS.iter().filter_map(|section| section.rows.as_ref()) {
        (rows.resize)(&mut config, 1);
    }
    config
}

/// The defaults of a mount's key with the dialects for which it is another than with ignis, each `; with echo` and the
/// value between `quote`s.
fn dialect_defaults(config: &Config, path: &KeyPath, quote: char) -> String {
    if path.section.name != Mount::NAME || path.key.name == "dialect" {
        return String::new();
    }
    let ignis = (path.key.write)(config, 0);
    let others = Dialect::NAMES.iter().filter_map(|&(name, dialect, _)| {
        let mounts = Config { mounts: vec![Mount::for_dialect(dialect)], ..config.clone() };
        let value = (path.key.write)(&mounts, 0);
        (value != ignis).then(|| format!("; with {name} {quote}{value}{quote}"))
    });
    others.collect()
}

/// The lines of a doc comment without the space that follows `///`.
fn lines(doc: &[&'static str]) -> Vec<&'static str> {
    doc.iter().map(|line| line.trim()).collect()
}

fn comment(out: &mut String, doc: &[&'static str]) {
    lines(doc).iter().for_each(|line| put!(out, "# {line}"));
}
