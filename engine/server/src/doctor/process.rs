//! Checks of what this process may use: files, cores, memory.

use super::system::readable;
use super::{Finding, Patient};
use crate::config::machine::open_files;

/// Files below which a machine was probably never set up to serve.
const FILES_FEW: u64 = 65_536;

impl Patient<'_> {
    pub(super) fn open_files(&self) -> Option<Finding> {
        const CHECK: &str = "open files";
        const ADVICE: &str = "raise the hard limit: LimitNOFILE=1048576 in the systemd unit, --ulimit \
                              nofile=1048576:1048576 in Docker, ulimit -Hn in a shell";
        let (soft, hard) = open_files(&self.system.text("/proc/self/limits")?)?;
        let connections = self.config.connections_max(self.machine);
        let number = |limit: u64| if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
        let found = format!("soft {}, hard {}: {connections} connections", number(soft), number(hard));
        Some(match self.config.files_needed(self.machine) {
            Some(needed) if needed > hard => Finding::fail(CHECK, format!("{found} need {needed}"), ADVICE),
            None if hard < FILES_FEW => Finding::warn(CHECK, found, ADVICE),
            _ => Finding::ok(CHECK, found),
        })
    }

    /// Limits of the whole machine, which no limit of a process lifts.
    pub(super) fn files_ceiling(&self) -> Option<Finding> {
        let file_max = self.system.number("/proc/sys/fs/file-max")?;
        let connections = self.config.connections_max(self.machine) as u64;
        let needed = connections.saturating_add(self.config.files_reserved(self.machine));
        let advice = format!("sysctl fs.file-max={}", needed.saturating_mul(2));
        Some(Finding::judge(
            "files, machine",
            file_max >= needed,
            format!("fs.file-max = {file_max}"),
            advice,
        ))
    }

    pub(super) fn cores(&self) -> Finding {
        let (cores, shards) = (self.machine.cores, self.config.shard_count(self.machine));
        let crowded = shards > cores && self.config.server.pin;
        let advice = "set server.shards = \"auto\", or server.pin = false";
        Finding::judge("cores", !crowded, format!("{cores} cores, {shards} shards"), advice)
    }

    /// A quota below the number of shards stops all of them for the rest of each period.
    pub(super) fn cpu_quota(&self) -> Option<Finding> {
        let text = self.system.cgroup("cpu.max")?;
        let (quota, period) = text.split_once(' ')?;
        let Ok(quota) = quota.parse::<f64>() else {
            return Some(Finding::ok("cpu quota", "none"));
        };
        let cores = quota / period.parse::<f64>().ok().filter(|period| *period > 0.0)?;
        let shards = self.config.shard_count(self.machine);
        let advice = format!(
            "set server.shards = {}, or raise the cpu limit to {shards}; beyond it every shard is stopped",
            (cores as usize).max(1)
        );
        Some(Finding::judge("cpu quota", cores >= shards as f64, format!("{cores:.1} cores"), advice))
    }

    pub(super) fn memory(&self) -> Option<Finding> {
        const CHECK: &str = "memory";
        let total = self.system.kib_field("/proc/meminfo", "MemTotal")?;
        let available = self.system.kib_field("/proc/meminfo", "MemAvailable").unwrap_or(total);
        let limit = self.system.cgroup("memory.max").and_then(|text| text.parse::<u64>().ok());
        let usable = limit.map_or(total, |limit| limit.min(total));
        let outboxes = self.config.limits.outbox_bytes_total_max as u64;
        let cgroup = limit.map_or_else(String::new, |limit| format!(", cgroup limit {}", readable(limit)));
        let found = format!("{} of {} available{cgroup}", readable(available), readable(total));
        let advice = format!(
            "lower limits.outbox_bytes_total_max ({}): slow clients may fill it, and the rest needs room too",
            readable(outboxes)
        );
        Some(match outboxes {
            outboxes if outboxes > usable => Finding::fail(CHECK, found, advice),
            outboxes if outboxes > usable / 2 => Finding::warn(CHECK, found, advice),
            _ => Finding::ok(CHECK, found),
        })
    }
}
