//! Checks of the kernel: its version, io_uring, memory policy, clock.

use super::{Finding, Patient, Ring};
use crate::config::IoDriver;

/// Oldest kernel on which the io_uring driver is known to be sound, as (major, minor).
const KERNEL_MIN: (u32, u32) = (5, 10);

impl Patient<'_> {
    pub(super) fn kernel(&self) -> Option<Finding> {
        let release = self.system.text("/proc/sys/kernel/osrelease")?;
        let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        let version = (parts.next()?.ok()?, parts.next()?.ok()?);
        let (major, minor) = KERNEL_MIN;
        let advice =
            format!("use Linux {major}.{minor} or later; before, io_uring lacks what the driver needs");
        Some(Finding::judge("kernel", version >= KERNEL_MIN, format!("Linux {release}"), advice))
    }

    pub(super) fn io_uring(&self) -> Finding {
        let mut found = self.ring.to_string();
        if !matches!(self.ring, Ring::Usable)
            && let Some(level @ 1..) = self.system.number("/proc/sys/kernel/io_uring_disabled")
        {
            found = format!("{found} (kernel.io_uring_disabled = {level})");
        }
        match (self.ring.advice(), self.config.server.io) {
            (None, _) => Finding::ok("io_uring", found),
            (Some(advice), IoDriver::Uring) => {
                Finding::fail("io_uring", found, format!("{advice}, or set server.io = \"auto\""))
            }
            (Some(advice), IoDriver::Auto) => {
                Finding::warn("io_uring", format!("{found}; epoll is used"), advice)
            }
            (Some(_), IoDriver::Epoll) => Finding::ok("io_uring", format!("{found}; epoll is set anyway")),
        }
    }

    /// Huge pages that the kernel hands out unasked make small heaps large and stall on compaction.
    pub(super) fn huge_pages(&self) -> Option<Finding> {
        let text = self.system.text("/sys/kernel/mm/transparent_hugepage/enabled")?;
        let chosen = text.split_once('[')?.1.split_once(']')?.0;
        let advice =
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled; \"always\" grows memory and stalls";
        Some(Finding::judge("huge pages", chosen != "always", chosen.to_owned(), advice))
    }

    pub(super) fn overcommit(&self) -> Option<Finding> {
        let mode = self.system.number("/proc/sys/vm/overcommit_memory")?;
        let found = format!("vm.overcommit_memory = {mode}");
        let advice = "sysctl vm.overcommit_memory=0; strict accounting can refuse memory that is there";
        Some(Finding::judge("overcommit", mode != 2, found, advice))
    }

    /// A clock that is read through a system call costs every turn of every shard.
    pub(super) fn clock(&self) -> Option<Finding> {
        let clock = self.system.text("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
        let slow = matches!(clock.as_str(), "hpet" | "acpi_pm" | "xen" | "jiffies");
        let advice = "boot with clocksource=tsc, or choose another instance type; reading this clock is slow";
        Some(Finding::judge("clock", !slow, clock, advice))
    }
}
