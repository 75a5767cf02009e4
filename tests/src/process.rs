//! Child processes and scratch folders that end with the value that owns them.
//!
//! Must never signal a process it did not start: every signal goes to the id of a child that has not been waited
//! for, so the id cannot have been given to another process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two looks at something that takes milliseconds to change.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A folder under the system's temporary folder, removed with all it holds on drop.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    /// Makes an empty folder whose name starts with `shardcast-` and contains `label`.
    ///
    /// # Panics
    /// When the folder cannot be made.
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let serial = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("shardcast-{label}-{}-{serial}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self { path }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// A child process, killed and waited for on drop.
#[derive(Debug)]
pub struct Process {
    program: String,
    child: Child,
}

impl Process {
    /// Starts `command`; `advice` says how to install the program when it is missing.
    ///
    /// # Panics
    /// When the program is missing (with `advice`) or cannot be started.
    pub fn start(command: &mut Command, advice: &str) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        match command.spawn() {
            Ok(child) => Self { program, child },
            Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("{program} not found: {advice}"),
            Err(error) => panic!("cannot start {program}: {error}"),
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the pipe to its standard input; `None` if not piped or already taken.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Takes the pipe from its standard output; `None` if not piped or already taken.
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Panics
    /// When the operating system does not say.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.program))
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// When it still runs after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {within:?}", self.program);
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sends a signal such as `libc::SIGTERM`; does nothing once it has ended.
    ///
    /// # Panics
    /// When the signal number is invalid.
    pub fn signal(&mut self, signal: i32) {
        if self.exit_status().is_some() {
            return;
        }
        let id = libc::pid_t::try_from(self.id()).expect("a process id fits pid_t");
        // SAFETY: `kill` touches no memory. The child has not been waited for, so the id is still its own.
        let outcome = unsafe { libc::kill(id, signal) };
        assert_eq!(outcome, 0, "cannot signal {}: {}", self.program, io::Error::last_os_error());
    }

    /// Kills it (`SIGKILL`) and waits until it is gone; does nothing once it has ended.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn kill(&mut self) {
        self.try_kill().unwrap_or_else(|error| panic!("cannot kill {}: {error}", self.program));
    }

    fn try_kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.try_kill() {
            eprintln!("cannot kill {}: {error}", self.program);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Process {
        Process::start(Command::new("sleep").arg("60"), "it is part of coreutils")
    }

    #[test]
    fn scratch_dirs_are_distinct_and_removed_on_drop() {
        let (first, second) = (ScratchDir::new("a"), ScratchDir::new("a"));
        assert_ne!(first.path(), second.path());
        let path = first.path().to_owned();
        fs::write(path.join("file"), "x").expect("writing into the scratch folder");
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = sleeper();
        let proc_path = PathBuf::from(format!("/proc/{}", process.id()));
        assert!(proc_path.exists());
        drop(process);
        assert!(!proc_path.exists());
    }

    #[test]
    fn signals_reach_a_running_process_and_are_ignored_after_it_ended() {
        let mut process = sleeper();
        process.signal(libc::SIGTERM);
        assert!(!process.wait(Duration::from_secs(5)).success());
        process.signal(libc::SIGTERM);
        process.kill();
    }

    #[test]
    #[should_panic(expected = "not found: install it from there")]
    fn a_missing_program_names_what_to_install() {
        Process::start(&mut Command::new("shardcast-no-such-program"), "install it from there");
    }
}
