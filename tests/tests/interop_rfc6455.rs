//! RFC 6455 and 7692 as two libraries that are not ours see them: python's `websockets` and Node's `ws`.
//!
//! Each script of `tests/interop/rfc6455` holds its conversations with the echo mount as written, bytewise and
//! coalesced, lets its library judge what comes back, and reports how many went wrong. A bystander on the same shard
//! must notice none of it. Needs what `tests/run` installs: Node, `npm ci` and the virtual environment in
//! `tests/interop`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use shardcast::config::Config;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::process::Process;
use shardcast_tests::script::interop;
use shardcast_tests::server::{ECHO, TestServer, WS, one_shard, with_echo};

/// How long a script may take; alone on the machine it takes some 20 s.
const SUITE_MAX: Duration = Duration::from_secs(150);

/// What a script must have done at least.
struct Wanted {
    cases: u64,
    /// Counted by the server, of all kinds together.
    violations: u64,
    /// What the server counts otherwise, exactly.
    others: &'static [(&'static str, u64)],
    /// Publications that were compressed.
    compressed: u64,
}

#[test]
fn pythons_websockets_finds_nothing_wrong() {
    let python = interop(".venv/bin/python");
    let mut command = Command::new(python);
    command.arg(interop("rfc6455/suite.py"));
    // Refused upgrades in two deliveries, and the question of each member of a room whether it has joined.
    let others = &[
        ("messages_malformed", 2),
        ("refused_heads.bare_line_feed", 2),
        ("refused_heads.host", 4),
        ("refused_heads.malformed", 6),
        ("refused_heads.upgrade_body", 2),
        ("refused_heads.upgrade_key", 6),
        ("refused_heads.upgrade_method", 2),
        ("refused_heads.upgrade_version", 6),
        ("refused_heads.version", 2),
    ];
    let wanted = Wanted { cases: 2_400, violations: 1_400, others, compressed: 2 };
    run(command, "run tests/run, which makes tests/interop/.venv", &wanted);
}

#[test]
fn nodes_ws_finds_nothing_wrong() {
    let mut command = Command::new("node");
    command.arg(interop("rfc6455/suite.mjs"));
    let wanted = Wanted { cases: 850, violations: 430, others: &[], compressed: 0 };
    run(command, "install Node, and run `npm ci` in tests/interop", &wanted);
}

/// Both mounts compress.
fn compressing() -> Config {
    let mut config = with_echo(one_shard());
    for mount in &mut config.mounts {
        mount.compression = true;
    }
    config
}

fn run(mut command: Command, advice: &str, wanted: &Wanted) {
    let server = TestServer::start(&compressing());
    let mut bystander = Bystander::of(&server);
    let before = server.counts();
    command.args([&server.address().to_string(), ECHO, WS]);
    let mut script = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()), advice);
    let lines = lines_of(&mut script, &mut bystander);
    let report = lines.join("\n");
    let status = script.wait(SUITE_MAX);

    let summary = lines.last().and_then(|line| line.strip_suffix(" cases, 0 failed"));
    assert!(status.success() && summary.is_some(), "{status}:\n{report}");
    let cases: u64 = summary.and_then(|count| count.parse().ok()).expect("a number of cases");
    assert!(cases >= wanted.cases, "only {cases} cases");

    // The script cannot have imagined it: the server saw the violations, and nothing else go wrong.
    let incidents = server.counts().incidents_since(&before);
    let (violations, others): (Vec<_>, Vec<_>) =
        incidents.iter().map(|(name, count)| (name.as_str(), *count)).partition(is_violation);
    let violations: u64 = violations.iter().map(|(_, count)| count).sum();
    assert!(violations >= wanted.violations, "only {violations} violations: {incidents:?}");
    assert_eq!(others, wanted.others, "other incidents");
    let compressed = server.engine().router().compression().counters().compressed.load(Ordering::Relaxed);
    assert!(compressed >= wanted.compressed, "only {compressed} publications were compressed");
    bystander.leave();
    server.expect_empty("after the suite");
    server.stop();
}

fn is_violation((name, _): &(&str, u64)) -> bool {
    name.starts_with("violations.")
}

/// What the script says, until it ends; meanwhile the bystander must be well.
///
/// # Panics
/// When it takes too long.
fn lines_of(script: &mut Process, bystander: &mut Bystander) -> Vec<String> {
    let stdout = script.take_stdout().expect("stdout is piped");
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        BufReader::new(stdout)
            .lines()
            .try_for_each(|line| sender.send(line.expect("the script says UTF-8")).map_err(drop))
    });
    let deadline = Instant::now() + SUITE_MAX;
    let mut lines: Vec<String> = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "not done within {SUITE_MAX:?}:\n{}", lines.join("\n"));
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Timeout) => bystander.is_well(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    assert_eq!(reader.join().ok(), Some(Ok(())), "reading what the script says");
    lines
}
