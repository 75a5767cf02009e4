//! The layers and their problems; what the other files of this folder share.

mod pages;
mod reload;
mod rules;
mod webhooks;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::key::KeyPath;
use super::keys::SECTIONS;
use super::raw::Raw;
use super::*;

const MACHINE: Machine = Machine { cores: 4, files_max: 100_000 };

/// A TOML file that goes when it is dropped.
struct TestFile(PathBuf);

impl TestFile {
    fn new(text: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("shardcast-config-{}-{count}.toml", process::id()));
        fs::write(&path, text).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("nobody else removes it");
    }
}

fn sources(file: &Path, env: &[(&str, &str)], sets: &[&str]) -> Sources {
    Sources {
        file: FileChoice::Named(file.to_owned()),
        env: env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
        flags: sets.iter().map(|set| Flag::Set((*set).to_owned())).collect(),
        machine: MACHINE,
    }
}

fn load(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, ConfigError> {
    sources(&TestFile::new(text).0, env, sets).load()
}

fn loaded(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Loaded {
    load(text, env, sets).unwrap_or_else(|error| panic!("{error}"))
}

/// What is wrong, one line each, with `FILE` for the path of the file.
fn problems(text: &str, env: &[(&str, &str)], sets: &[&str]) -> Vec<String> {
    let file = TestFile::new(text);
    let error = sources(&file.0, env, sets).load().expect_err("the configuration is wrong");
    let path = file.0.display().to_string();
    error.problems.iter().map(|problem| problem.to_string().replace(&path, "FILE")).collect()
}

/// The problems of a file alone.
fn refused(text: &str) -> Vec<String> {
    problems(text, &[], &[])
}

fn warnings(text: &str) -> Vec<String> {
    loaded(text, &[], &[]).warnings.iter().map(|warning| warning.advice.to_string()).collect()
}

#[test]
fn later_layers_win_and_each_value_knows_its_layer() {
    let text = "[server]\nclose_timeout = \"3s\"\nshards = 3\nhead_bytes_max = 8192\n";
    let env =
        [("SHARDCAST_SERVER_SHARDS", "2"), ("SHARDCAST_SERVER_HEAD_BYTES_MAX", "32KiB"), ("PATH", "/bin")];
    let loaded = loaded(text, &env, &["server.head_bytes_max=64KiB"]);
    let server = &loaded.config.server;
    assert_eq!(server.drain_period, Duration::from_secs(10));
    assert_eq!(server.close_timeout, Duration::from_secs(3));
    assert_eq!(server.shards, Auto::Fixed(2));
    assert_eq!(server.head_bytes_max, 64 << 10);

    let origin = |key| loaded.origins.of(&KeyPath::known("server", 0, key));
    assert_eq!(origin("drain_period"), Origin::Default);
    let path = loaded.file.as_deref().expect("a file was read").into();
    assert_eq!(origin("close_timeout"), Origin::File { path, line: 2 });
    assert_eq!(origin("shards"), Origin::Env("SHARDCAST_SERVER_SHARDS".to_owned()));
    assert_eq!(origin("head_bytes_max"), Origin::Flag("--set server.head_bytes_max".to_owned()));
    assert_eq!(loaded.origins.overrides(), (1, 1));
}

#[test]
fn a_file_by_default_may_be_missing_and_a_named_one_may_not() {
    let missing = env::temp_dir().join("shardcast-no-such-file.toml");
    let mut sources = sources(&missing, &[], &[]);
    let error = sources.load().expect_err("the named file is missing").to_string();
    assert!(error.contains("cannot read") && error.contains("shardcast-no-such-file.toml"), "{error}");
    sources.file = FileChoice::IfPresent(missing);
    let loaded = sources.load().expect("no file is no problem");
    assert_eq!((loaded.file, loaded.config), (None, Config::default()));
}

#[test]
fn every_kind_of_value_is_read_from_file_and_environment() {
    let cases: [(&str, &str, &str, &str); 18] = [
        // Key, TOML, plain text, the value as it is written back.
        (
            "server.listen",
            r#"["127.0.0.1:1", "[::1]:2"]"#,
            "127.0.0.1:1, [::1]:2",
            r#"["127.0.0.1:1", "[::1]:2"]"#,
        ),
        ("server.listen", r#""[::1]:1""#, "[::1]:1", r#"["[::1]:1"]"#),
        ("server.listen", r#"["127.0.0.1:1"]"#, r#"["127.0.0.1:1"]"#, r#"["127.0.0.1:1"]"#),
        ("server.shards", r#""auto""#, "auto", r#""auto""#),
        ("server.shards", "3", "3", "3"),
        ("server.pin", "false", "false", "false"),
        ("server.io", r#""epoll""#, "epoll", r#""epoll""#),
        ("server.drain_period", r#""90s""#, "1500ms", r#""1500ms""#),
        ("server.drain_period", r#""120 s""#, "2m", r#""2m""#),
        ("server.head_bytes_max", "2048", "2048", r#""2KiB""#),
        ("server.head_bytes_max", r#""2KiB""#, "2049B", r#""2049B""#),
        ("admin.listen", r#""""#, "", r#""""#),
        ("redis.url", r#""redis://h:1/2""#, "redis://h:1/2", r#""redis://h:1/2""#),
        ("api.key", r#""abc""#, "abc", r#"["abc"]"#),
        ("api.key", r#"["abc", "def"]"#, "abc,def", r#"["abc", "def"]"#),
        ("mounts.0.idle_timeout", r#""0s""#, "0s", r#""0s""#),
        ("mounts.0.idle_timeout", r#""8s""#, "8s", r#""8s""#),
        ("auth.rooms", r#"["a*", "b"]"#, "a*,b", r#"["a*", "b"]"#),
    ];
    for (name, toml, plain, written) in cases {
        let path = KeyPath::parse(name).unwrap_or_else(|_| panic!("{name} is a key"));
        let from_file = loaded(&format!("{}\n{} = {toml}", path.section.header(), path.key.name), &[], &[]);
        let from_env = loaded("", &[(&path.env(), plain)], &[]);
        let from_flag = loaded("", &[], &[&format!("{name}={plain}")]);
        assert_eq!((path.key.write)(&from_env.config, 0), written, "{name} from the environment");
        assert_eq!(from_flag.config, from_env.config, "{name} from a flag");
        if name != "server.drain_period" && !toml.contains("2KiB") {
            assert_eq!((path.key.write)(&from_file.config, 0), written, "{name} from the file");
        }
    }
}

#[test]
fn a_user_is_text_or_a_number_and_the_two_differ() {
    let text = "[[auth.tokens]]\ntoken = \"a\"\nuser = 7\n[[auth.tokens]]\ntoken = \"b\"\nuser = \"7\"\n[[auth.tokens]]\ntoken = \"c\"";
    let users: Vec<_> =
        loaded(text, &[], &[]).config.auth.tokens.into_iter().map(|token| token.user).collect();
    assert_eq!(users, [Some(UserId::Number(7)), Some(UserId::Text("7".to_owned())), None]);
}

#[test]
fn unknown_names_are_refused_with_the_nearest_and_the_line() {
    let cases = [
        ("[server]\n\nlisen = 1", "FILE:3: unknown key server.lisen; did you mean server.listen?"),
        ("[server]\ndev = true", "FILE:2: unknown key server.dev; did you mean auth.dev?"),
        ("[server]\nturbo = true", "FILE:2: unknown key server.turbo"),
        ("[servre]\nlisten = 1", "FILE:1: unknown key servre; did you mean [server]?"),
        ("[mount]\n", "FILE:1: unknown key mount; did you mean [[mounts]]?"),
        ("listen = \"x\"", "FILE:1: unknown key listen; did you mean server.listen?"),
        ("shard = 1", "FILE:1: unknown key shard; did you mean server.shards?"),
        (
            "[[mounts]]\n[[mounts]]\npath = \"/x\"\nPath = 1",
            "FILE:4: unknown key mounts.Path; did you mean mounts.1.path?",
        ),
        ("[auth]\n[[auth.token]]\n", "FILE:2: unknown key auth.token; did you mean [[auth.tokens]]?"),
        (
            "[[auth.tokens]]\ntoken=\"a\"\nroom=\"b\"",
            "FILE:3: unknown key auth.tokens.room; did you mean auth.tokens.0.rooms?",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), [expected], "{text}");
    }
    assert_eq!(
        problems("", &[("SHARDCAST_SERVER_LISEN", "x")], &[]),
        ["unknown environment variable SHARDCAST_SERVER_LISEN; did you mean SHARDCAST_SERVER_LISTEN?"]
    );
    assert_eq!(
        problems("", &[("SHARDCAST_MOUNT_0_PATH", "/")], &[]),
        ["unknown environment variable SHARDCAST_MOUNT_0_PATH; did you mean SHARDCAST_MOUNTS_0_PATH?"]
    );
    assert_eq!(
        problems("", &[], &["redis.uri=x"]),
        ["flag --set redis.uri: unknown key redis.uri; did you mean redis.url?"]
    );
    assert_eq!(
        problems("", &[], &["shards"]),
        ["--set takes section.key=value, such as --set server.shards=4; found \"shards\""]
    );
}

#[test]
fn values_of_the_wrong_form_say_what_the_key_takes() {
    let cases = [
        ("server.shards", "0", "a whole number, from 1 to 128, or \"auto\"; found 0"),
        ("server.shards", "-1", "a whole number, from 1 to 128, or \"auto\"; found -1"),
        (
            "server.shards",
            "1.5",
            "a whole number, from 1 to 128, or \"auto\"; found a number with a fraction",
        ),
        ("server.shards", "\"many\"", "a whole number, from 1 to 128, or \"auto\"; found \"many\""),
        ("server.pin", "1", "true or false; found 1"),
        (
            "server.io",
            "\"urin\"",
            "one of \"auto\", \"uring\", \"epoll\"; found \"urin\"; did you mean \"uring\"?",
        ),
        (
            "server.close_timeout",
            "5",
            "a duration such as \"5s\" or \"300ms\" (ms, s, m, h), from 1ms to 60s; found 5",
        ),
        (
            "server.close_timeout",
            "\"2h\"",
            "a duration such as \"5s\" or \"300ms\" (ms, s, m, h), from 1ms to 60s; found \"2h\"",
        ),
        (
            "server.head_bytes_max",
            "\"16MB\"",
            "a size such as \"16MiB\" (B, KiB, MiB, GiB) or a number of bytes, from 1KiB to 1MiB; found \"16MB\"",
        ),
        (
            "server.head_bytes_max",
            "99999999999999999999999999",
            "a size such as \"16MiB\" (B, KiB, MiB, GiB) or a number of bytes, from 1KiB to 1MiB; found 99999999999999999999999999",
        ),
        (
            "server.listen",
            "[\":8080\"]",
            "an address such as \"127.0.0.1:8080\" or \"[::1]:8080\", or a list of such; found \":8080\"; did you mean \"0.0.0.0:8080\"?",
        ),
        (
            "admin.listen",
            "\"localhost:8081\"",
            "an address such as \"127.0.0.1:8080\" or \"[::1]:8080\", or \"\"; found \"localhost:8081\"; did you mean \"127.0.0.1:8081\"?",
        ),
        (
            "redis.url",
            "\"http://u:pw@h\"",
            "a URL such as \"redis://127.0.0.1:6379\", or \"\"; found \"http://u:********@h\"",
        ),
        ("api.key", "[5]", "a string, or a list of such; found a number"),
        ("mounts.0.default_rooms", "[1979-05-27]", "a string, or a list of such; found a date or time"),
        (
            "mounts.0.idle_timeout",
            "\"961s\"",
            "a duration such as \"5s\" or \"300ms\" (ms, s, m, h), from 1s to 16m, or \"0s\"; found \"961s\"",
        ),
    ];
    for (name, toml, expected) in cases {
        let path = KeyPath::parse(name).unwrap_or_else(|_| panic!("{name} is a key"));
        let text = format!("{}\n{} = {toml}", path.section.header(), path.key.name);
        assert_eq!(refused(&text), [format!("FILE:2: {name} takes {expected}")]);
    }
    let from_env =
        problems("", &[("SHARDCAST_API_KEY", "[\"sesame"), ("SHARDCAST_REDIS_URL", "sesame")], &[]);
    assert_eq!(
        from_env,
        [
            "environment variable SHARDCAST_REDIS_URL: redis.url takes a URL such as \"redis://127.0.0.1:6379\", or \"\"; found \"********\""
        ]
    );
}

#[test]
fn tables_in_the_wrong_shape_are_refused() {
    let cases = [
        ("server = 5", "FILE:1: server takes a table, written [server]; found a number"),
        ("[mounts]\npath = \"/\"", "FILE:1: mounts takes a table, written [[mounts]]; found one table"),
        ("mounts = [\n1]", "FILE:2: mounts takes a table, written [[mounts]]; found a number"),
        ("[[server]]", "FILE:1: server takes a table, written [server]; found a list"),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), [expected], "{text}");
    }
}

#[test]
fn all_problems_of_all_layers_are_reported_at_once_in_order() {
    let text = "[auth]\ndev = true\n[server]\nlisten = \"0.0.0.0:80\"\nlisen = 1\nshards = 0\n[limits]\nmailbox_max = 1\n";
    let found = problems(text, &[("SHARDCAST_X", "1"), ("SHARDCAST_SERVER_PIN", "maybe")], &["a.b=1"]);
    let starts =
        ["FILE:2: auth.dev: dev mode", "FILE:5:", "FILE:6:", "FILE:8:", "environment", "unknown env", "flag"];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for start in starts {
        assert!(found.iter().any(|line| line.starts_with(start)), "{start} in {found:#?}");
    }
    let lines: Vec<_> =
        found.iter().filter_map(|line| line.strip_prefix("FILE:")).map(|line| &line[..1]).collect();
    assert_eq!(lines, ["2", "5", "6", "8"]);
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_lines_and_nothing_made_up() {
    let found = refused("[server]\nlisten = \npin = true\nshards = = 3\n");
    assert!(!found.is_empty() && found.iter().all(|line| line.contains("not valid TOML")), "{found:#?}");
    assert!(found[0].starts_with("FILE:2:"), "{found:#?}");
}

#[test]
fn environment_and_flags_change_tables_and_add_the_next() {
    let text = "[[mounts]]\npath = \"/a\"\n[[mounts]]\npath = \"/b\"\n";
    let env = [
        ("SHARDCAST_MOUNTS_1_PATH", "/c"),
        ("SHARDCAST_MOUNTS_2_DIALECT", "echo"),
        ("SHARDCAST_MOUNTS_2_PATH", "/d"),
    ];
    let mounts = loaded(text, &env, &["mounts.3.path=/e"]).config.mounts;
    let paths: Vec<_> = mounts.iter().map(|mount| mount.path.as_str()).collect();
    assert_eq!(paths, ["/a", "/c", "/d", "/e"]);
    assert_eq!(mounts[2].dialect, Dialect::Echo);

    let set = [("SHARDCAST_AUTH_TOKENS_0_TOKEN", "t"), ("SHARDCAST_AUTH_TOKENS_0_ROOMS", "a,b*")];
    assert_eq!(loaded("", &set, &[]).config.auth.tokens[0].rooms.len(), 2);
    assert_eq!(
        problems("", &[], &["mounts.2.path=/x"]),
        ["flag --set mounts.2.path: mounts.2.path would leave a gap; the next table of mounts is mounts.1"]
    );
}

#[test]
fn a_mount_takes_the_defaults_of_its_dialect_whatever_the_order() {
    let text = "[[mounts]]\nmessage_bytes_max = 7\ndialect = \"echo\"\n";
    let mount = &loaded(text, &[], &[]).config.mounts[0];
    assert_eq!((mount.message_bytes_max, mount.fragments_max), (7, 131_072));
    let mount = &loaded(text, &[], &["mounts.0.dialect=ignis"]).config.mounts[0];
    assert_eq!((mount.message_bytes_max, mount.fragments_max), (7, 1_024));
}

#[test]
fn dev_mode_without_mounts_has_topics_as_well_and_production_has_not() {
    let dialects = |text: &str, sets: &[&str]| -> Vec<Dialect> {
        loaded(text, &[], sets).config.mounts.iter().map(|mount| mount.dialect).collect()
    };
    let dev = "[auth]\ndev = true\n";
    assert_eq!(dialects("", &[]), [Dialect::Ignis]);
    assert_eq!(dialects(dev, &[]), [Dialect::Ignis, Dialect::Topic]);
    assert_eq!(dialects("", &["auth.dev=true"]), [Dialect::Ignis, Dialect::Topic]);
    assert_eq!(loaded(dev, &[], &[]).config.mounts[1], Mount::for_dialect(Dialect::Topic));
    assert_eq!(loaded(dev, &[], &[]).config.mounts[1].path, "/topics");
    assert_eq!(dialects(&format!("{dev}[[mounts]]"), &[]), [Dialect::Ignis]);
    assert_eq!(dialects(dev, &["mounts.0.dialect=echo"]), [Dialect::Echo]);
    assert_eq!(refused(&format!("mounts = []\n{dev}")).len(), 1);
    // What is printed for it is a file that comes to the same.
    let page = render::effective(&loaded(dev, &[], &[]));
    assert_eq!(dialects(&page, &[]), [Dialect::Ignis, Dialect::Topic]);
}
