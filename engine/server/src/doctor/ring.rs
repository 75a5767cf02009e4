//! Whether io_uring works here, and why not.

use std::env;
use std::fmt;
use std::io;

use io_uring::IoUring;

/// The variable with which monoio is told to leave io_uring alone.
const FORCE_EPOLL: &str = "MONOIO_FORCE_LEGACY_DRIVER";

/// Entries of the ring that is tried: enough to exist.
const ENTRIES: u32 = 8;

/// Whether the shards can use io_uring.
#[derive(Debug)]
pub enum Ring {
    /// The kernel permits it and has every operation that the driver needs.
    Usable,
    /// The environment tells the driver to use epoll.
    ForcedOff,
    /// The kernel refuses a ring.
    Refused(io::Error),
    /// The kernel lacks operations that the driver needs.
    Incomplete,
}

/// Tries a ring and asks the driver whether it would take it.
pub fn probe() -> Ring {
    if env::var(FORCE_EPOLL)
        .is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"))
    {
        return Ring::ForcedOff;
    }
    match IoUring::new(ENTRIES) {
        Err(error) => Ring::Refused(error),
        Ok(_) if monoio::utils::detect_uring() => Ring::Usable,
        Ok(_) => Ring::Incomplete,
    }
}

impl Ring {
    /// What to do about a ring that cannot be used; `None` when it can.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Usable => None,
            Self::ForcedOff => Some("unset MONOIO_FORCE_LEGACY_DRIVER"),
            Self::Incomplete => Some("use Linux 5.10 or later"),
            Self::Refused(error) => Some(match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => {
                    "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile, \
                     and set kernel.io_uring_disabled=0"
                }
                Some(libc::ENOSYS) => {
                    "use a kernel built with CONFIG_IO_URING, and a seccomp profile that allows it"
                }
                Some(libc::ENOMEM) => "raise the limit on locked memory (ulimit -l, LimitMEMLOCK=)",
                Some(libc::EMFILE | libc::ENFILE) => "raise the limit on open files",
                _ => "see the error; epoll is used until then",
            }),
        }
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("usable"),
            Self::ForcedOff => write!(f, "turned off by {FORCE_EPOLL}"),
            Self::Refused(error) => write!(f, "refused by the kernel: {error}"),
            Self::Incomplete => f.write_str("without operations that the driver needs"),
        }
    }
}
