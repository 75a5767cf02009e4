//! CPU time and resident memory of a process.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::sys;

/// Why a process could not be measured.
#[derive(Debug, Error)]
pub(crate) enum ProcessError {
    #[error("process {pid} cannot be watched: {source}; does it run, and as the same user?")]
    Unreadable { pid: u32, source: io::Error },
    #[error("{} has an unexpected form", path.display())]
    Malformed { path: PathBuf },
}

/// CPU time of a thread or process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Time spent running, in nanoseconds.
    pub(crate) run_ns: u64,
    /// Time spent ready to run while others ran, in nanoseconds.
    pub(crate) wait_ns: u64,
}

impl CpuTime {
    /// What was spent since an earlier reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
        }
    }
}

/// CPU time of a process, the threads that ended included; of the time spent waiting, those that live.
pub(crate) fn cpu_time(pid: u32) -> Result<CpuTime, ProcessError> {
    let unreadable = |source| ProcessError::Unreadable { pid, source };
    // Not the sum over the threads: runtimes end theirs when idle, and their time must not vanish with them.
    let mut total = CpuTime { run_ns: sys::process_cpu_ns(pid).map_err(unreadable)?, wait_ns: 0 };
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(unreadable)? {
        let path = task.map_err(unreadable)?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        total.wait_ns += parse_schedstat(&text).ok_or(ProcessError::Malformed { path })?.wait_ns;
    }
    Ok(total)
}

/// Time each living thread of a process ran, in nanoseconds, by the id of the thread.
pub(crate) fn thread_run_ns(pid: u32) -> Result<HashMap<u32, u64>, ProcessError> {
    let unreadable = |source| ProcessError::Unreadable { pid, source };
    let mut threads = HashMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).map_err(unreadable)? {
        let name = task.map_err(unreadable)?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A thread may end between the listing and the reading.
        let Ok(time) = thread_cpu_time(pid, id) else { continue };
        threads.insert(id, time.run_ns);
    }
    Ok(threads)
}

/// CPU time of one thread of a process.
pub(crate) fn thread_cpu_time(pid: u32, thread_id: u32) -> Result<CpuTime, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/task/{thread_id}/schedstat"));
    let text = fs::read_to_string(&path).map_err(|source| ProcessError::Unreadable { pid, source })?;
    parse_schedstat(&text).ok_or(ProcessError::Malformed { path })
}

/// Resident bytes of a process.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, ProcessError> {
    // statm may lag by a batch of pages per thread; the rollup walks the page tables, and is exact.
    for (file, key) in [("smaps_rollup", "Rss:"), ("status", "VmRSS:")] {
        let path = PathBuf::from(format!("/proc/{pid}/{file}"));
        let Ok(text) = fs::read_to_string(&path) else { continue };
        return parse_kibibytes(&text, key).ok_or(ProcessError::Malformed { path });
    }
    let source = io::ErrorKind::NotFound.into();
    Err(ProcessError::Unreadable { pid, source })
}

/// Resident bytes of a process as the kernel last counted them: cheap, and behind by some pages a thread.
pub(crate) fn resident_bytes_about(pid: u32) -> Result<u64, ProcessError> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = fs::read_to_string(&path).map_err(|source| ProcessError::Unreadable { pid, source })?;
    parse_kibibytes(&text, "VmRSS:").ok_or(ProcessError::Malformed { path })
}

fn parse_schedstat(text: &str) -> Option<CpuTime> {
    let mut fields = text.split_ascii_whitespace().map(str::parse);
    Some(CpuTime { run_ns: fields.next()?.ok()?, wait_ns: fields.next()?.ok()? })
}

fn parse_kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(parse_schedstat("12 34 5\n"), Some(CpuTime { run_ns: 12, wait_ns: 34 }));
        assert_eq!(parse_schedstat("12\n"), None);
        let rollup = "00400000-7fff [rollup]\nRss:                1052 kB\nPss:   1 kB\n";
        assert_eq!(parse_kibibytes(rollup, "Rss:"), Some(1052 * 1024));
        assert_eq!(parse_kibibytes(rollup, "VmRSS:"), None);
    }

    #[test]
    fn the_time_of_threads_that_ended_stays() {
        let before = cpu_time(std::process::id()).expect("readable");
        let work = || {
            let spent = || thread_cpu_time(std::process::id(), sys::thread_id()).expect("readable").run_ns;
            let start = spent();
            // schedstat moves with the scheduler's tick at the latest.
            while spent() < start + 20_000_000 {}
        };
        std::thread::spawn(work).join().expect("no panic");
        let spent = cpu_time(std::process::id()).expect("readable").since(before);
        assert!(spent.run_ns >= 20_000_000, "{spent:?}");
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        assert!(resident_bytes(pid).expect("readable") > 100_000);
        assert!(cpu_time(pid).expect("readable").run_ns > 0);
        assert!(thread_cpu_time(pid, sys::thread_id()).is_ok());
        assert!(thread_run_ns(pid).expect("readable").contains_key(&sys::thread_id()));
        assert!(resident_bytes_about(pid).expect("readable") > 100_000);
        assert!(cpu_time(u32::MAX).is_err());
        assert!(resident_bytes(u32::MAX).is_err());
    }
}
