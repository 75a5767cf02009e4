//! The real `shardcast` binary as a child process, on free ports, killed on drop.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{POLL_INTERVAL, Process, ScratchDir};
use crate::server::PATIENCE;

/// Path of the binary, built in the profile of this test.
///
/// # Panics
/// When it cannot be built.
pub fn path() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("shardcast", "shardcast"))
}

/// The same for the load generator.
///
/// # Panics
/// When it cannot be built.
pub fn loadgen() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("shardcast-loadgen", "loadgen"))
}

/// Builds it unless it is newer than this test, which is made of the same sources: Cargo builds the binary of a
/// package for that package's own tests only, so what lies there may be of another day.
fn build(package: &str, name: &str) -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    // target/<profile>/deps/<test>
    let profile_dir = test.ancestors().nth(2).expect("a folder of the profile");
    let binary = profile_dir.join(name);
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if modified(&binary) > modified(&test) {
        return binary;
    }
    let target_dir = profile_dir.parent().expect("a target folder");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        // Beside the server, so that what both need is built once, with the features that are there already.
        .args(["build", "--quiet", "--package", "shardcast", "--package", package, "--bin", name])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the binary does not build");
    binary
}

/// A command of the binary without settings from the environment.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(path());
    without_settings(&mut command);
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
///
/// # Panics
/// When it cannot be started.
pub fn run(args: &[&str]) -> Output {
    command(args).current_dir(env::temp_dir()).output().expect("the binary runs")
}

fn without_settings(command: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SHARDCAST_")) {
        command.env_remove(name);
    }
}

/// A serving process.
#[derive(Debug)]
pub struct Binary {
    process: Process,
    scratch: ScratchDir,
    address: SocketAddr,
    admin_address: SocketAddr,
}

impl Binary {
    /// Starts it with these flags, its listeners on free ports, and waits until it serves.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(args: &[&str]) -> Self {
        Self::launch("", args, None)
    }

    /// The same with a configuration file, which [`Binary::write_config`] replaces.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with_file(config: &str, args: &[&str]) -> Self {
        Self::launch(config, args, None)
    }

    /// The same with a limit on open files, soft and hard.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with_files_max(files_max: u64, args: &[&str]) -> Self {
        Self::launch("", args, Some(files_max))
    }

    fn launch(config: &str, args: &[&str], files_max: Option<u64>) -> Self {
        let scratch = ScratchDir::new("binary");
        write(&config_path(&scratch), config);
        let log = File::create(log_path(&scratch)).expect("creating the log");
        let limit = files_max.map_or(String::new(), |max| format!("ulimit -n {max} && "));
        let mut command = Command::new("sh");
        without_settings(&mut command);
        command.arg("-c").arg(format!(r#"{limit}exec "$@""#)).arg("sh").arg(path());
        command.arg("--config").arg(config_path(&scratch));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        // A test on a busy machine may leave an HTTP connection alone for longer than the default.
        command.args(["--set", "server.handshake_timeout=5m"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Process::start(&mut command, "a shell is part of every system");
        let [address, admin_address] = addresses(&mut process, &scratch);
        Self { process, scratch, address, admin_address }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect with TLS.
    ///
    /// # Panics
    /// When it does not listen with TLS.
    pub fn tls_address(&self) -> SocketAddr {
        let log = self.log();
        address_after(&log, "ignis on wss://").unwrap_or_else(|| panic!("no TLS:\n{log}"))
    }

    /// Where health and metrics are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        log(&self.scratch)
    }

    /// Waits until a line of the log contains `text`, and returns the log.
    ///
    /// # Panics
    /// When none does in time.
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("a log line with {text:?}"), || {
            let log = self.log();
            log.contains(text).then_some(log)
        })
    }

    /// Replaces its configuration file; `SIGHUP` makes it look.
    pub fn write_config(&self, config: &str) {
        write(&config_path(&self.scratch), config);
    }

    /// Sends it a signal such as `libc::SIGTERM`.
    pub fn signal(&mut self, signal: i32) {
        self.process.signal(signal);
    }

    /// Waits for it to end by itself.
    ///
    /// # Panics
    /// When it goes on.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// Open file descriptors.
    pub fn files(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the descriptors of a child").count()
    }

    /// How many io_urings it has.
    pub fn rings(&self) -> usize {
        self.ring_descriptors().len()
    }

    /// What each io_uring has been given to do so far: the tail of its submission queue, from `fdinfo`.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn ring_submissions(&self) -> Vec<u64> {
        let tail = |descriptor: String| {
            let info = fs::read_to_string(self.proc("fdinfo").join(descriptor)).expect("fdinfo of a ring");
            let tail = info.lines().find_map(|line| line.strip_prefix("SqTail:")).expect("SqTail");
            tail.trim().parse().expect("a number")
        };
        self.ring_descriptors().into_iter().map(tail).collect()
    }

    fn ring_descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(self.proc("fd")).expect("the descriptors of a child");
        let entries = entries.map(|entry| entry.expect("a descriptor"));
        // One that is closed meanwhile is no ring.
        let is_ring =
            |path: &Path| fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("io_uring"));
        let rings = entries.filter(|entry| is_ring(&entry.path()));
        rings.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Resident memory that belongs to the process alone, bytes.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(self.proc("status")).expect("the status of a child");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
        kib * 1024
    }

    /// Processor time used so far, user and system, all threads.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn cpu_time(&self) -> Duration {
        const TICKS_PER_SECOND: u64 = 100;
        let stat = fs::read_to_string(self.proc("stat")).expect("the stat of a child");
        // The second field is a name in parentheses; the 14th and 15th are the times (proc(5)).
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|n| n.parse::<u64>().expect("ticks")).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// Lowers its limit on open files while it runs.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn limit_files(&self, files_max: u64) {
        let id = libc::pid_t::try_from(self.id()).expect("a process id fits pid_t");
        let limit = libc::rlimit { rlim_cur: files_max, rlim_max: files_max };
        // SAFETY: the new limit outlives the call, and the old one is not asked for.
        let outcome =
            unsafe { libc::prlimit(id, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(outcome, 0, "prlimit: {}", std::io::Error::last_os_error());
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id()))
    }
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it does not in time; `what` names it.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Reads from the log where a process that starts will listen: for clients, and for operators.
fn addresses(process: &mut Process, scratch: &ScratchDir) -> [SocketAddr; 2] {
    wait_for("the addresses in the log", || {
        let log = log(scratch);
        let found =
            ["ignis on ws://", "health and metrics on http://"].map(|label| address_after(&log, label));
        if let [Some(address), Some(admin_address)] = found {
            return Some([address, admin_address]);
        }
        assert!(process.exit_status().is_none(), "the binary did not come up:\n{log}");
        None
    })
}

fn address_after(log: &str, label: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once(label)?;
    rest.split_once('/')?.0.parse().ok()
}

fn config_path(scratch: &ScratchDir) -> PathBuf {
    scratch.path().join("shardcast.toml")
}

fn log_path(scratch: &ScratchDir) -> PathBuf {
    scratch.path().join("log")
}

/// Writes beside the file and moves it there, so that nobody reads half of it.
fn write(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("writing a file");
    fs::rename(beside, path).expect("moving a file");
}

fn log(scratch: &ScratchDir) -> String {
    fs::read_to_string(log_path(scratch)).unwrap_or_else(|error| format!("(unreadable: {error})"))
}
