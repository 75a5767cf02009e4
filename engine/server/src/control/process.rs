//! What the kernel says about this process.
//!
//! Everything comes from `/proc`, times too, so that no clock is read. What cannot be read is `None`, and the
//! metric is missing: health must not depend on it.

use std::fs;

/// Units of the times in `/proc/*/stat`: `USER_HZ`, which Linux fixes at 100 for every architecture it has
/// libraries for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Fields of `/proc/self/stat` counted from the one after the name, which is the third (proc(5)).
const UTIME: usize = 14 - 3;
const STIME: usize = 15 - 3;
const THREADS: usize = 20 - 3;
const START_TIME: usize = 22 - 3;

/// One look at the process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Memory in RAM, bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Address space, bytes.
    pub(super) virtual_bytes: Option<u64>,
    /// CPU time, user and system.
    pub(super) cpu_seconds: Option<f64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// When it started, seconds since 1970.
    pub(super) start_unix_seconds: Option<f64>,
    /// For how long it has run.
    pub(super) uptime_seconds: Option<f64>,
    /// File descriptors in use.
    pub(super) open_fds: Option<u64>,
    /// File descriptors it may use.
    pub(super) max_fds: Option<u64>,
    /// Connections that the kernel dropped because a queue of accepts was full, of all processes in this network
    /// namespace.
    pub(super) listen_overflows: Option<u64>,
}

impl Process {
    /// Reads `/proc`.
    pub(super) fn look() -> Self {
        let mut process = Self { open_fds: open_fds(), ..Self::default() };
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        process.take_status(&read("/proc/self/status"));
        process.take_stat(&read("/proc/self/stat"), &read("/proc/uptime"), &read("/proc/stat"));
        process.take_limits(&read("/proc/self/limits"));
        process.take_netstat(&read("/proc/self/net/netstat"));
        process
    }

    /// Memory in RAM, bytes, and nothing else.
    pub(super) fn resident() -> Option<u64> {
        let mut process = Self::default();
        process.take_status(&fs::read_to_string("/proc/self/status").ok()?);
        process.resident_bytes
    }

    fn take_status(&mut self, status: &str) {
        let kilobytes = |name: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        self.resident_bytes = kilobytes("VmRSS:");
        self.virtual_bytes = kilobytes("VmSize:");
    }

    fn take_stat(&mut self, stat: &str, uptime: &str, system: &str) {
        // The name may hold spaces and parentheses; the last one ends it.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let seconds = |index| field(index).map(|ticks| ticks as f64 / TICKS_PER_SECOND);
        self.cpu_seconds = seconds(UTIME).zip(seconds(STIME)).map(|(user, system)| user + system);
        self.threads = field(THREADS);
        let up: Option<f64> = uptime.split_whitespace().next().and_then(|up| up.parse().ok());
        let booted = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
        let start = seconds(START_TIME);
        self.uptime_seconds = up.zip(start).map(|(up, start)| (up - start).max(0.0));
        self.start_unix_seconds = booted.zip(start).map(|(booted, start)| booted as f64 + start);
    }

    /// Names and values are on two lines, each with the same prefix.
    fn take_netstat(&mut self, netstat: &str) {
        let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut fields = names.split_whitespace().zip(values.split_whitespace());
        let overflows = fields.find(|(name, _)| *name == "ListenOverflows");
        self.listen_overflows = overflows.and_then(|(_, value)| value.parse().ok());
    }

    fn take_limits(&mut self, limits: &str) {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        self.max_fds = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    }
}

/// Linux 6.2 and later give the number as the size of the directory; counting the entries takes a process with
/// a million sockets a second.
fn open_fds() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_understood() {
        let mut process = Process::default();
        process.take_status("Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    512 kB\n");
        process.take_stat(
            "42 (a) b (c)) S 1 42 42 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 7 0 1000 2097152 128",
            "60.25 100.00\n",
            "cpu 1 2\nbtime 1700000000\n",
        );
        process.take_limits(
            "Limit  Soft  Hard  Units\nMax open files            1024                 4096      files\n",
        );
        process.take_netstat(
            "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 24\nIpExt: A\nIpExt: 5\n",
        );
        let expected = Process {
            resident_bytes: Some(512 * 1024),
            virtual_bytes: Some(2048 * 1024),
            cpu_seconds: Some(3.0),
            threads: Some(7),
            start_unix_seconds: Some(1_700_000_010.0),
            uptime_seconds: Some(50.25),
            open_fds: None,
            max_fds: Some(1024),
            listen_overflows: Some(23),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn files_that_are_missing_or_strange_leave_gaps() {
        let mut process = Process::default();
        process.take_status("VmRSS:\nVmSize: lots kB");
        process.take_stat("1 (x", "", "btime never");
        process.take_limits("Max open files unlimited unlimited files");
        process.take_netstat("TcpExt: ListenOverflows\n");
        assert_eq!(process, Process::default());
    }

    #[test]
    fn this_process_is_seen() {
        let process = Process::look();
        assert!(process.resident_bytes > Some(0) && process.open_fds > Some(2), "{process:?}");
        assert!(process.threads > Some(0) && process.start_unix_seconds > Some(0.0), "{process:?}");
    }
}
