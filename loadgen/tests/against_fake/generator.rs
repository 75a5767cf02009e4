//! Runs the generator against a fake server, and reads what it says.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

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

fn start(mode: &str, name: &str, target: &str, publish: &str, arguments: &[&str]) -> Outcome {
    let json = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("loadgen-{name}.json"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args([mode, "--target", target, "--publish", publish, "--patience", "1s", "--json"]);
    command.arg(&json).args(arguments);
    let output = command.output().expect("the generator runs");
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
