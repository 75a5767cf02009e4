//! Reading `/proc` and `/sys`, under a root that tests can set.

use std::fs;
use std::path::PathBuf;

/// The file systems in which the kernel shows its settings.
#[derive(Debug)]
pub(crate) struct System {
    root: PathBuf,
}

impl System {
    /// Those of this machine.
    pub(crate) fn here() -> Self {
        Self::under("/")
    }

    /// Those under `root`.
    pub(super) fn under(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The text of a file, without white space around it; `None` when it cannot be read.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path.trim_start_matches('/'))).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number that a file holds.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// The numbers that a file holds, separated by white space.
    pub(super) fn numbers(&self, path: &str) -> Option<Vec<u64>> {
        self.text(path)?.split_whitespace().map(|number| number.parse().ok()).collect()
    }

    /// A size in bytes from a file of lines such as `MemTotal:  1024 kB`.
    pub(crate) fn kib_field(&self, path: &str, field: &str) -> Option<u64> {
        let text = self.text(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// The text of a control file of this process's cgroup (version 2), or of the nearest group above that has it.
    ///
    /// Source: Linux, Documentation/admin-guide/cgroup-v2.rst.
    pub(crate) fn cgroup(&self, file: &str) -> Option<String> {
        let groups = self.text("/proc/self/cgroup")?;
        let mut group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        loop {
            if let Some(text) = self.text(&format!("/sys/fs/cgroup{}/{file}", group.trim_end_matches('/'))) {
                return Some(text);
            }
            (group, _) = group.rsplit_once('/')?;
        }
    }
}

/// `bytes` in a unit that leaves few digits.
pub(super) fn readable(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, scale)| bytes >= *scale) {
        Some((unit, scale)) => format!("{:.1} {unit}", bytes as f64 / *scale as f64),
        None => format!("{bytes} B"),
    }
}
