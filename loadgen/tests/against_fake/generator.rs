//! Runs the generator against a fake server, and reads what it says.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::fake::{self, Fault};

/// 20 publications of warm-up and 100 measured ones, to three members.
pub const SHORT: &[&str] = &["-n", "3", "-r", "200", "--warmup", "100ms", "-d", "500ms"];

/// How a run ended.
pub struct Outcome {
    pub exit_code: i32,
    pub report: Value,
    pub stdout: String,
    pub stderr: String,
}

/// A fan-out against a server with a fault.
pub fn run(name: &str, fault: Fault, arguments: &[&str]) -> Outcome {
    run_mode("fanout", name, fault, arguments)
}

/// A run of any mode against a server with a fault.
pub fn run_mode(mode: &str, name: &str, fault: Fault, arguments: &[&str]) -> Outcome {
    let address = fake::start(fault);
    let (target, publish) = (format!("ws://{address}/ws"), format!("http://{address}/api/emit"));
    start(mode, name, &target, &publish, arguments)
}

/// A fan-out against a server that runs.
pub fn run_at(name: &str, target: &str, publish: &str, arguments: &[&str]) -> Outcome {
    start("fanout", name, target, publish, arguments)
}

/// A run of a mode that publishes nothing, against a server that runs or does not.
pub fn run_at_mode(mode: &str, name: &str, target: &str, arguments: &[&str]) -> Outcome {
    start(mode, name, target, "http://127.0.0.1:9/", arguments)
}

/// A fan-out of a generator that is stopped and resumed all the time, as by a host that has no CPU for it.
pub fn run_held_up(name: &str, fault: Fault, arguments: &[&str]) -> Outcome {
    let address = fake::start(fault);
    let (target, publish) = (format!("ws://{address}/ws"), format!("http://{address}/api/emit"));
    let mut generator = spawn("fanout", name, &target, &publish, arguments);
    while generator.try_wait().expect("a child of ours").is_none() {
        signal(&generator, "-STOP");
        thread::sleep(Duration::from_millis(80));
        signal(&generator, "-CONT");
        thread::sleep(Duration::from_millis(20));
    }
    outcome(name, generator)
}

fn signal(generator: &Child, signal: &str) {
    let pid = generator.id().to_string();
    Command::new("kill").args([signal, &pid]).status().expect("kill runs");
}

fn start(mode: &str, name: &str, target: &str, publish: &str, arguments: &[&str]) -> Outcome {
    outcome(name, spawn(mode, name, target, publish, arguments))
}

fn json_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("loadgen-{name}.json"))
}

fn spawn(mode: &str, name: &str, target: &str, publish: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let patience: &[&str] = if arguments.contains(&"--patience") { &[] } else { &["--patience", "1s"] };
    command.args([mode, "--target", target, "--publish", publish, "--json"]).arg(json_of(name));
    command.args(patience).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the generator runs")
}

fn outcome(name: &str, generator: Child) -> Outcome {
    let json = json_of(name);
    let output = generator.wait_with_output().expect("a child of ours");
    let report = fs::read(&json).map_or(Value::Null, |text| serde_json::from_slice(&text).expect("JSON"));
    if !report.is_null() {
        fs::remove_file(&json).expect("a file of ours");
    }
    Outcome {
        exit_code: output.status.code().expect("an exit code"),
        report,
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}
