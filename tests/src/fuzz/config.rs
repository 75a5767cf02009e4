//! Configurations: a TOML file, environment variables and flags: `shardcast::config`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use shardcast::config::key::KeyPath;
use shardcast::config::keys::SECTIONS;
use shardcast::config::render::effective;
use shardcast::config::{Config, ConfigError, FileChoice, Flag, Loaded, Machine, Sources};

use super::input::parts;

/// Stands for `\x01` in values of secret keys, and must not come out anywhere.
const CANARY: &str = "c4n4ry";
const MACHINE: Machine = Machine { cores: 4, files_max: 1 << 20 };

thread_local! {
    static FILE: File = File::new();
}

/// A file of this thread's own.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), "");
        let name = format!("shardcast-fuzz-{}-{thread}.toml", std::process::id());
        // In memory where there is such a folder: disks take milliseconds to write a file anew.
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
        Self(folder.join(name))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// A file; then, each after a zero byte, variables without their prefix (`SERVER_LISTEN=...`) and, after a dash,
/// arguments of `--set`.
pub(super) fn run(data: &[u8]) {
    if data.windows(CANARY.len()).any(|part| part == CANARY.as_bytes()) {
        return;
    }
    FILE.with(|File(path)| {
        let mut layers = parts(data);
        let text = layers.next().unwrap_or_default();
        let (flags, variables): (Vec<_>, Vec<_>) = layers.partition(|layer| layer.starts_with(b"-"));
        let flags = flags.into_iter().map(|flag| Flag::Set(String::from_utf8_lossy(&flag[1..]).into_owned()));
        let env = variables.into_iter().filter_map(variable).collect();
        let file = FileChoice::Named(path.clone());
        let sources = Sources { file, env, flags: flags.collect(), machine: MACHINE };
        match load(path, text, &sources) {
            Ok(loaded) => check_loaded(path, &loaded),
            Err(error) => check_error(&error),
        }
    });
}

fn load(path: &Path, text: &[u8], sources: &Sources) -> Result<Loaded, ConfigError> {
    fs::write(path, text).expect("the temporary folder can be written to");
    sources.load()
}

/// Name and value, with the canary in the value of a secret.
fn variable(layer: &[u8]) -> Option<(OsString, OsString)> {
    let end = layer.iter().position(|byte| *byte == b'=')?;
    let name = [b"SHARDCAST_", &layer[..end]].concat();
    let mut value = layer[end + 1..].to_vec();
    // Of a URL only the password is secret.
    let is_hidden = !name.ends_with(b"_URL") || value.starts_with(b"redis://:\x01@");
    let mut marks = value.iter().enumerate().filter(|(_, byte)| **byte == 1);
    if is_hidden
        && let (Some((at, _)), None) = (marks.next(), marks.next())
        && KeyPath::parse_env(&String::from_utf8_lossy(&name)).is_ok_and(|path| path.key.secret)
    {
        value.splice(at..=at, CANARY.bytes());
    }
    Some((OsString::from_vec(name), OsString::from_vec(value)))
}

fn check_error(error: &ConfigError) {
    assert!(!error.problems.is_empty(), "an error without a problem");
    let text = error.to_string();
    assert_eq!(text.matches(CANARY).count(), 0, "a secret in {text:?}");
    assert!(error.problems.iter().all(|problem| !problem.to_string().is_empty()));
    assert!(!format!("{error:?}").contains(CANARY), "a secret in the debug form of an error");
}

fn check_loaded(path: &Path, loaded: &Loaded) {
    let Loaded { config, warnings, .. } = loaded;
    let mut shown = effective(loaded);
    warnings.iter().try_for_each(|warning| writeln!(shown, "{warning}")).expect("a String takes all");
    shown.push_str(&format!("{loaded:?}"));
    assert!(!shown.contains(CANARY), "a secret in {shown:?}");

    // Written as a file, it is the same configuration.
    let file = FileChoice::Named(path.to_owned());
    let sources = Sources { file, env: Vec::new(), flags: Vec::new(), machine: MACHINE };
    let text = write(config);
    let again = load(path, text.as_bytes(), &sources);
    let again = again.unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.config, *config, "written and read:\n{text}");

    let reload = config.reload(&again.config);
    assert_eq!((reload.applied.len(), reload.ignored.len()), (0, 0), "{reload:?} though nothing changed");
    let reload = config.reload(&Config::default());
    assert_eq!(
        reload.merged.server.listen, config.server.listen,
        "an address does not change while the server runs"
    );
}

/// All of it as TOML.
fn write(config: &Config) -> String {
    let mut text = String::new();
    for section in SECTIONS {
        for index in 0..section.count(config) {
            let keys =
                section.keys.iter().map(|key| format!("{} = {}\n", key.name, (key.write)(config, index)));
            text.extend([section.header(), "\n".to_owned()].into_iter().chain(keys));
        }
    }
    text
}
