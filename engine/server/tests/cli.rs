//! The binary as an operator meets it: output, streams, exit codes.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A directory to run in, without a configuration, made anew.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    if path.exists() {
        fs::remove_dir_all(&path).expect("an earlier run's directory can go");
    }
    fs::create_dir_all(&path).expect("the directory can be made");
    path
}

/// The binary in `directory`, in an environment without settings.
fn shardcast(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHARDCAST_")) {
        command.env_remove(name);
    }
    command.current_dir(directory).args(args).stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn run(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_says_what_the_configuration_comes_to() {
    let here = directory("check");
    let (code, out, err) = run(shardcast(&here, &["check", "--dev"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("ok: defaults, 0 from the environment, 1 from flags\n"), "{out}");
    assert!(out.contains("127.0.0.1:8080") && out.contains("/ws (ignis)"), "{out}");
    assert!(err.contains("warning: ") && !err.contains('\x1b'), "{err}");
}

#[test]
fn check_reports_every_problem_on_standard_error_and_exits_1() {
    let here = directory("check-problems");
    fs::write(here.join("shardcast.toml"), "[server]\nlisen = 1\nshards = 0\n")
        .expect("the file can be written");
    let mut command = shardcast(&here, &["check", "--set", "api.bdy=1"]);
    command.env("SHARDCAST_SERVER_PIN", "perhaps");
    let (code, out, err) = run(command);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    for expected in [
        "error: the configuration has 4 problems\n",
        "  shardcast.toml:2: unknown key server.lisen; did you mean server.listen?\n",
        "  shardcast.toml:3: server.shards takes a whole number",
        "  environment variable SHARDCAST_SERVER_PIN: server.pin takes true or false; found \"perhaps\"\n",
        "  flag --set api.bdy: unknown key api.bdy",
    ] {
        assert!(err.contains(expected), "{expected} in {err}");
    }
}

#[test]
fn serving_with_a_wrong_configuration_exits_2_before_anything_starts() {
    let here = directory("serve-problems");
    for args in
        [&["--shards", "0"][..], &["serve", "--config", "missing.toml"], &["--dev", "--listen", "0.0.0.0:0"]]
    {
        let (code, out, err) = run(shardcast(&here, args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.starts_with("error: the configuration has 1 problem\n"), "{args:?}: {err}");
    }
}

#[test]
fn wrong_usage_exits_2_and_help_exits_0() {
    let here = directory("usage");
    let (code, out, err) = run(shardcast(&here, &["--shard", "2"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("--shards"), "{err}");
    assert_eq!(run(shardcast(&here, &["emit"])).0, Some(2));
    let (code, out, err) = run(shardcast(&here, &["--help"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("Examples:") && out.contains("Exit codes:"), "{out}");
}

#[test]
fn config_shows_each_value_with_its_origin_and_no_secret() {
    let here = directory("config");
    let text = "[api]\nkey = \"sesame-sesame-sesame\"\n[server]\nclose_timeout = \"3s\"\n";
    fs::write(here.join("other.toml"), text).expect("the file can be written");
    let mut command = shardcast(&here, &["config", "--log-level=debug"]);
    command
        .env("SHARDCAST_CONFIG", "other.toml")
        .env("SHARDCAST_REDIS_URL", "redis://:sesame@127.0.0.1:6379");
    let (code, out, err) = run(command);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for expected in [
        "# Effective configuration, with other.toml read.",
        "key = [\"********\"]  # other.toml:2",
        "close_timeout = \"3s\"  # other.toml:4",
        "url = \"redis://:********@127.0.0.1:6379\"  # environment variable SHARDCAST_REDIS_URL",
        "log_level = \"debug\"  # flag --log-level",
        "pin = true  # default",
    ] {
        assert!(out.lines().any(|line| line == expected), "{expected} in {out}");
    }
    assert!(!out.contains("sesame"), "{out}");
}

#[test]
fn the_default_file_is_found_in_the_working_directory_and_is_sound() {
    let here = directory("default-file");
    let (code, file, err) = run(shardcast(&here, &["config", "--default"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    fs::write(here.join("shardcast.toml"), file).expect("the file can be written");
    let (code, out, err) = run(shardcast(&here, &["check"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("ok: shardcast.toml, "), "{out}");
}

#[test]
fn the_reference_page_does_not_need_a_sound_configuration() {
    let here = directory("reference");
    fs::write(here.join("shardcast.toml"), "nonsense").expect("the file can be written");
    let (code, out, _) = run(shardcast(&here, &["config", "--reference"]));
    assert_eq!(code, Some(0));
    assert!(out.starts_with("# Configuration\n") && out.contains("`SHARDCAST_SERVER_LISTEN`"));
}

#[test]
fn doctor_reports_findings_as_lines_and_as_json() {
    let here = directory("doctor");
    let args = ["doctor", "--listen", "127.0.0.1:0", "--admin-listen", "", "--dev"];
    let (code, out, err) = run(shardcast(&here, &args));
    // A machine may be unfit; the report is there all the same.
    assert!(matches!(code, Some(0 | 1)), "{err}");
    assert!(out.starts_with("ok    configuration") && out.contains("io_uring"), "{out}");
    let (again, json, _) = run(shardcast(&here, &[&args[..], &["--json"]].concat()));
    let report: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(again, code);
    assert_eq!(report["findings"][0]["check"], "configuration");
    assert_eq!(report["status"] == "fail", code == Some(1), "{json}");
}

#[test]
fn doctor_fails_on_a_wrong_configuration() {
    let here = directory("doctor-fails");
    let (code, out, _) = run(shardcast(&here, &["doctor", "--shards", "0"]));
    assert_eq!(code, Some(1));
    assert!(out.starts_with("fail  configuration") && out.contains("-> see: shardcast check"), "{out}");
}

#[test]
fn version_names_the_build_and_the_io_drivers() {
    let here = directory("version");
    let (code, out, err) = run(shardcast(&here, &["version"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(concat!("shardcast ", env!("CARGO_PKG_VERSION"), "\n")), "{out}");
    assert!(out.contains("\nio_uring ") && out.contains("\nepoll "), "{out}");
    let (code, out, _) = run(shardcast(&here, &["--version"]));
    assert_eq!((code, out.as_str()), (Some(0), concat!("shardcast ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn a_pipe_that_is_closed_early_is_no_failure() {
    let here = directory("pipe");
    let mut command = shardcast(&here, &["config", "--reference"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn emit_refuses_data_that_is_not_json() {
    let here = directory("emit");
    let (code, out, err) = run(shardcast(&here, &["emit", "room", "chat", "message", "hello"]));
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("error: the data is not JSON"), "{err}");
}

/// What `token` prints for these arguments, with this standard input.
fn token(directory: &Path, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    fs::write(directory.join("input"), input).expect("the file can be written");
    let file = fs::File::open(directory.join("input")).expect("it was written");
    let mut command = shardcast(directory, &[&["token"], args].concat());
    command.stdin(Stdio::from(file));
    run(command)
}

#[test]
fn a_token_is_made_and_checked_with_the_secret_of_the_configuration() {
    let here = directory("token-secret");
    let config = "[[auth.jwt.keys]]\nsecret = \"0123456789abcdef0123456789abcdef\"\nkid = \"k\"\n\
                  [[auth.rules]]\nrooms = [\"user:{user}\"]\n";
    fs::write(here.join("shardcast.toml"), config).expect("the file can be written");
    let args = ["make", "--sub", "u1", "--role", "admin", "--tenant", "acme", "--claim", "plan=\"pro\""];
    let (code, made, err) = token(&here, &args, "");
    assert_eq!((code, err.as_str()), (Some(0), ""));

    let (code, out, err) = token(&here, &["check", "-", "--room", "user:u1"], &made);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for expected in [
        "accepted   signed with auth.jwt.keys.0, kid \"k\" (HS256)\n",
        "\nuser       \"u1\"\n",
        "\ntenant     acme\n",
        "\nroles      admin\n",
        "\"plan\":\"pro\"",
        "room       \"user:u1\": may join, auth.rules.0 decides (allow)\n",
    ] {
        assert!(out.contains(expected), "{expected} in {out}");
    }
    let (code, out, _) = token(&here, &["check", "-", "--room", "user:u2"], &made);
    assert_eq!(code, Some(1));
    assert!(out.contains("room       \"user:u2\": may not join, nothing allows it\n"), "{out}");
    let topics = ["check", "-", "--room", "user:u2", "--mount", "/topics"];
    let (code, _, err) = token(&here, &topics, &made);
    assert!(code == Some(1) && err.contains("no mount has the path \"/topics\"; there are: /ws"), "{err}");
    let dialect = ["--set", "mounts.1.dialect=topic"];
    let (code, out, _) = token(&here, &[topics.as_slice(), &dialect].concat(), &made);
    assert_eq!(code, Some(0));
    let allowed = "may join, nothing speaks of it, and the mount's unlisted_rooms allows such rooms";
    assert!(out.contains(allowed), "{out}");

    let (_, old, _) = token(&here, &["make", "--sub", "u1", "--expires", "0s"], "");
    let (code, out, _) = token(&here, &["check", old.trim(), "--set", "auth.jwt.leeway=0s"], "");
    assert_eq!(code, Some(1));
    assert!(out.starts_with("refused    token_expired: it expired "), "{out}");
    let (code, out, _) = token(&here, &["check", "a.b.c"], "");
    assert!(code == Some(1) && out.starts_with("refused    token_malformed: "), "{out}");
}

#[test]
fn a_token_is_made_with_a_fresh_key_and_checked_with_what_is_said_about_it() {
    for algorithm in ["HS512", "RS256", "PS384", "ES256", "ES384", "EdDSA"] {
        let here = directory(&format!("token-{algorithm}"));
        let args = ["make", "--new-key", "key", "--alg", algorithm, "--sub", "42", "--numeric", "--kid", "k"];
        let (code, made, advice) = token(&here, &args, "");
        assert_eq!(code, Some(0), "{advice}");
        let (_, config) = advice.split_once("\n\n").expect("text and configuration");
        fs::write(here.join("shardcast.toml"), config).expect("the file can be written");
        let (code, out, err) = token(&here, &["check", "-"], &made);
        assert_eq!(code, Some(0), "{algorithm}: {out}{err}");
        assert!(out.contains(&format!("({algorithm})")) && out.contains("user       42\n"), "{out}");

        let (code, again, err) =
            token(&here, &["make", "--key", "key", "--alg", algorithm, "--kid", "k"], "");
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(token(&here, &["check", again.trim()], "").0, Some(0), "{algorithm}");
        let (code, _, err) = token(&here, &args, "");
        assert!(code == Some(1) && err.contains("cannot write the key to key"), "{err}");
    }
}

#[test]
fn token_make_says_what_it_lacks() {
    let here = directory("token-lacks");
    let cases: [(&[&str], &str); 5] = [
        (&["make", "--sub", "u1"], "no key to sign with"),
        (&["make", "--new-key", "k1", "--alg", "HS255"], "did you mean \"HS256\"?"),
        (&["make", "--new-key", "k2", "--claim", "plan=pro"], "--claim takes name=JSON"),
        (&["make", "--new-key", "k3", "--room", "chat"], "--room needs a claim to stand in"),
        (&["make", "--new-key", "k4", "--expires", "soon"], "--expires takes a duration"),
    ];
    for (args, expected) in cases {
        let (code, out, err) = token(&here, args, "");
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {err}");
    }
}

#[test]
fn check_says_which_key_cannot_be_used_and_why() {
    let here = directory("check-keys");
    fs::write(here.join("key.pem"), "nonsense").expect("the file can be written");
    let config = "[[auth.jwt.keys]]\npublic_key_file = \"key.pem\"\n[[auth.jwt.keys]]\nsecret = \"short\"\n\
                  [[auth.jwt.keys]]\nsecret_file = \"missing\"\n\
                  [[auth.jwt.jwks]]\nurl = \"http://id.example/keys\"\nissuer = \"x\"\n";
    fs::write(here.join("shardcast.toml"), config).expect("the file can be written");
    let (code, _, err) = run(shardcast(&here, &["check"]));
    assert_eq!(code, Some(1));
    for expected in [
        "shardcast.toml:2: auth.jwt.keys.0.public_key_file: key.pem: is not in PEM",
        "shardcast.toml:4: auth.jwt.keys.1.secret: the secret has 5 bytes",
        "shardcast.toml:6: auth.jwt.keys.2.secret_file: cannot read missing: ",
        "shardcast.toml:8: auth.jwt.jwks.0.url: \"http://id.example/keys\": it is plain http:",
    ] {
        assert!(err.contains(expected), "{expected} in {err}");
    }
    assert!(!err.contains("\"short\"") && !err.contains(" short"), "{err}");
}
