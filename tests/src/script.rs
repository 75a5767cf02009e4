//! Scripts of `tests/interop` that say what they see in lines of JSON, and end when their input does.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::process::Process;
use crate::server::PATIENCE;

/// A file of `tests/interop`.
pub fn interop(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(path)
}

/// A script that runs.
#[derive(Debug)]
pub struct Script {
    lines: Lines<BufReader<ChildStdout>>,
    stdin: ChildStdin,
    process: Process,
}

impl Script {
    /// Starts it; `advice` is what to do when it cannot be started.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command, advice: &str) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(command, advice);
        let stdin = process.take_stdin().expect("stdin is piped");
        let stdout = process.take_stdout().expect("stdout is piped");
        Self { lines: BufReader::new(stdout).lines(), stdin, process }
    }

    /// What it says next.
    ///
    /// # Panics
    /// When it has ended, or says something else than JSON.
    pub fn next_line(&mut self) -> Value {
        let line = self.lines.next().expect("the script goes on").expect("a line");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Ends its input, and waits for its own end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn end(self) -> ExitStatus {
        let Self { stdin, mut process, .. } = self;
        drop(stdin);
        process.wait(PATIENCE)
    }
}
