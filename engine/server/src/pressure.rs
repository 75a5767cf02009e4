//! Whether the process takes as much memory as it may; then new connections are shed and those inside live on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::{Auto, Limits};
use crate::control::resident_bytes;
use crate::doctor::system::System;
use crate::status::Status;

/// Between two looks: what a storm of connections adds meanwhile is beyond the bound.
const INTERVAL: Duration = Duration::from_millis(200);

/// The share of the memory of machine or cgroup that "auto" comes to, percent.
const AUTO_PERCENT: u64 = 80;

/// Pressure ends below this share of the bound, percent: it must not come and go with every connection.
const RELIEF_PERCENT: u64 = 95;

/// The bound in bytes; `None`: there is none, or the machine does not say how much memory it has.
pub(crate) fn bytes_max(limits: &Limits) -> Option<u64> {
    match limits.memory_bytes_max {
        Auto::Fixed(bytes) => bytes.map(|bytes| bytes as u64),
        Auto::Auto => {
            let system = System::here();
            let machine = system.kib_field("/proc/meminfo", "MemTotal");
            let cgroup = system.cgroup("memory.max").and_then(|text| text.parse().ok());
            machine.into_iter().chain(cgroup).min().map(|bytes| bytes / 100 * AUTO_PERCENT)
        }
    }
}

/// Looks at the memory of the process until the runtime ends.
pub(crate) async fn watch(status: Arc<Status>) {
    let bytes_max = status.memory_bytes_max.load(Ordering::Acquire);
    if bytes_max == 0 {
        return;
    }
    loop {
        if let Some(resident) = resident_bytes() {
            let was = status.memory_pressure.load(Ordering::Acquire);
            let is = is_pressed(was, resident, bytes_max);
            if is != was {
                status.memory_pressure.store(is, Ordering::Release);
                tell(is, resident, bytes_max);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn is_pressed(was: bool, resident: u64, bytes_max: u64) -> bool {
    let bound = if was { bytes_max / 100 * RELIEF_PERCENT } else { bytes_max };
    resident >= bound
}

fn tell(is_pressed: bool, resident_bytes: u64, bytes_max: u64) {
    if is_pressed {
        tracing::warn!(
            resident_bytes,
            bytes_max,
            "the process takes as much memory as it may (limits.memory_bytes_max): new connections are refused"
        );
    } else {
        tracing::info!(resident_bytes, bytes_max, "memory is free again: new connections are accepted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_begins_at_the_bound_and_ends_well_below_it() {
        for (was, resident, is) in [
            (false, 999, false),
            (false, 1_000, true),
            (true, 999, true),
            (true, 950, true),
            (true, 949, false),
        ] {
            assert_eq!(is_pressed(was, resident, 1_000), is, "{was}, {resident}");
        }
    }

    #[test]
    fn auto_is_a_share_of_what_the_machine_has() {
        let bytes = bytes_max(&Limits::default()).expect("a machine with memory");
        assert!(bytes > 64 << 20, "{bytes}");
        let off = Limits { memory_bytes_max: Auto::Fixed(None), ..Limits::default() };
        assert_eq!(bytes_max(&off), None);
    }
}
