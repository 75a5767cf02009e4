//! What the machine gives this process, as far as settings depend on it.

use std::fs;
use std::thread;

use super::Config;
use super::values::Auto;

/// Files that every process holds besides its connections: standard streams, listeners, Redis, the admin
/// listener's clients, plain HTTP requests.
const FILES_RESERVED: u64 = 256;

/// Files that a shard holds besides its connections: two rings, their event, the readiness set, its listeners.
const FILES_RESERVED_PER_SHARD: u64 = 16;

/// Files that a shard holds for each address of a mount's own: the listener, its copy, and the one that is polled.
const FILES_PER_MOUNT_ADDRESS: u64 = 3;

/// The facts that "auto" is worked out from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores this process may run on.
    pub cores: usize,
    /// Files it may open: the hard limit, to which `serve` raises the soft one.
    pub files_max: u64,
}

impl Machine {
    /// Asks the operating system; what it does not tell is taken to be the least of it: one core, 1,024 files.
    pub fn detect() -> Self {
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            files_max: open_files(&limits).map_or(1_024, |(_, hard)| hard),
        }
    }
}

/// The soft and hard limit on open files from the text of `/proc/<pid>/limits`; `u64::MAX` is "unlimited".
pub fn open_files(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace().map(|number| match number {
        "unlimited" => Some(u64::MAX),
        _ => number.parse().ok(),
    });
    Some((numbers.next()??, numbers.next()??))
}

impl Config {
    /// How many shards to run, at least 1.
    pub fn shard_count(&self, machine: &Machine) -> usize {
        self.server.shards.unwrap_or_else(|| machine.cores).max(1)
    }

    /// How many threads check tokens, at least 1.
    pub fn auth_threads(&self, machine: &Machine) -> usize {
        self.auth.threads.unwrap_or_else(|| machine.cores / 4).max(1)
    }

    /// How many connections the process may hold, all shards together, at least 1.
    pub fn connections_max(&self, machine: &Machine) -> usize {
        self.server.connections_max.unwrap_or_else(|| {
            let free = machine.files_max.saturating_sub(self.files_reserved(machine));
            usize::try_from(free).unwrap_or(usize::MAX).clamp(1, CONNECTIONS_AUTO_MAX)
        })
    }

    /// How many connections may be without a request at once, all shards together, at least 1.
    pub fn handshakes_max(&self, machine: &Machine) -> usize {
        self.server
            .handshakes_max
            .unwrap_or_else(|| (self.connections_max(machine) / 2).max(HANDSHAKES_AUTO_MIN))
    }

    /// Files that the process needs besides one for each connection.
    pub fn files_reserved(&self, machine: &Machine) -> u64 {
        let addresses = self.mounts.iter().map(|mount| mount.listen.len() as u64).sum::<u64>();
        let per_shard = FILES_RESERVED_PER_SHARD + FILES_PER_MOUNT_ADDRESS * addresses;
        FILES_RESERVED + per_shard * self.shard_count(machine) as u64
    }

    /// Files that the process needs with every connection in use; `None` when connections follow the limit.
    pub fn files_needed(&self, machine: &Machine) -> Option<u64> {
        match self.server.connections_max {
            Auto::Auto => None,
            Auto::Fixed(connections) => Some(connections as u64 + self.files_reserved(machine)),
        }
    }
}

/// The largest number that "auto" comes to, however many files are allowed.
const CONNECTIONS_AUTO_MAX: usize = 16_777_216;

/// The least that "auto" comes to for handshakes.
const HANDSHAKES_AUTO_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_on_open_files_are_read_from_proc() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max processes             7823                 7823                 processes \n\
                      Max open files            1024                 unlimited            files     \n";
        assert_eq!(open_files(limits), Some((1_024, u64::MAX)));
        assert_eq!(open_files("Max open files"), None);
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn auto_follows_the_machine_and_never_comes_to_nothing() {
        let mut config = Config::default();
        let machine = Machine { cores: 4, files_max: 100_000 };
        assert_eq!(config.shard_count(&machine), 4);
        assert_eq!(config.connections_max(&machine), 100_000 - 256 - 4 * 16);
        assert_eq!(config.files_needed(&machine), None);
        assert_eq!(config.connections_max(&Machine { cores: 4, files_max: 64 }), 1);
        assert_eq!(config.connections_max(&Machine { cores: 4, files_max: u64::MAX }), CONNECTIONS_AUTO_MAX);

        config.server.shards = Auto::Fixed(2);
        config.server.connections_max = Auto::Fixed(500);
        assert_eq!(config.shard_count(&machine), 2);
        assert_eq!(config.connections_max(&machine), 500);
        assert_eq!(config.files_needed(&machine), Some(500 + 256 + 32));
        config.mounts[0].listen = ["127.0.0.1:1", "[::1]:1"].map(|text| text.parse().expect("good")).to_vec();
        assert_eq!(config.files_needed(&machine), Some(500 + 256 + 32 + 2 * 2 * 3));
    }
}
