//! Checks of the network: queues, memory and ports of the kernel, our addresses, Redis.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use redis::{Client, RedisError};

use super::system::readable;
use super::{Finding, Patient};
use crate::config::Config;

/// A queue shorter than this drops connections when many come at once, as they do after a restart.
const QUEUE_MIN: u64 = 4_096;

/// Fewer local ports than this run out when one process opens many connections to one address.
const LOCAL_PORTS_MIN: u64 = 20_000;

/// TCP buffers for fewer bytes than this are exhausted by a moderate number of slow readers.
const TCP_MEMORY_MIN: u64 = 256 << 20;

/// How long Redis may take to answer.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);

impl Patient<'_> {
    pub(super) fn accept_queue(&self) -> Option<Finding> {
        let length = self.system.number("/proc/sys/net/core/somaxconn")?;
        let found = format!("net.core.somaxconn = {length}");
        let advice =
            format!("sysctl net.core.somaxconn={QUEUE_MIN}; a burst of connects overflows a short queue");
        Some(Finding::judge("accept queue", length >= QUEUE_MIN, found, advice))
    }

    /// With SYN cookies an overflow costs TCP options, not connections.
    pub(super) fn syn_queue(&self) -> Option<Finding> {
        let length = self.system.number("/proc/sys/net/ipv4/tcp_max_syn_backlog")?;
        let cookies = self.system.number("/proc/sys/net/ipv4/tcp_syncookies").unwrap_or(0) != 0;
        let found = format!(
            "net.ipv4.tcp_max_syn_backlog = {length}, {} SYN cookies",
            if cookies { "with" } else { "without" }
        );
        let advice = format!("sysctl net.ipv4.tcp_syncookies=1 net.ipv4.tcp_max_syn_backlog={QUEUE_MIN}");
        Some(Finding::judge("syn queue", cookies || length >= QUEUE_MIN, found, advice))
    }

    /// Beyond the third number, in pages, the kernel drops what TCP receives, on all sockets.
    pub(super) fn tcp_memory(&self) -> Option<Finding> {
        let pages = *self.system.numbers("/proc/sys/net/ipv4/tcp_mem")?.get(2)?;
        let page = self.system.kib_field("/proc/self/smaps", "KernelPageSize").unwrap_or(4 << 10);
        let bytes = pages.saturating_mul(page);
        let found = format!("net.ipv4.tcp_mem allows {}", readable(bytes));
        let least = TCP_MEMORY_MIN / page.max(1);
        let advice = format!("sysctl net.ipv4.tcp_mem=\"{} {} {least}\"", least / 2, least / 4 * 3);
        Some(Finding::judge("tcp memory", bytes >= TCP_MEMORY_MIN, found, advice))
    }

    /// Each connection is a watch in an epoll set; the limit counts those of one user.
    pub(super) fn epoll_watches(&self) -> Option<Finding> {
        let watches = self.system.number("/proc/sys/fs/epoll/max_user_watches")?;
        let connections = self.config.connections_max(self.machine) as u64;
        let found = format!("fs.epoll.max_user_watches = {watches}");
        let advice = format!("sysctl fs.epoll.max_user_watches={}", connections.saturating_mul(2));
        Some(Finding::judge("epoll watches", watches >= connections, found, advice))
    }

    pub(super) fn local_ports(&self) -> Option<Finding> {
        let range = self.system.numbers("/proc/sys/net/ipv4/ip_local_port_range")?;
        let [first, last] = range[..] else { return None };
        let found = format!("net.ipv4.ip_local_port_range = {first} to {last}");
        let advice = "sysctl net.ipv4.ip_local_port_range=\"10240 65535\"; a proxy or load test on this machine runs out";
        Some(Finding::judge("local ports", last.saturating_sub(first) >= LOCAL_PORTS_MIN, found, advice))
    }

    /// A firewall that tracks connections drops new ones when its table is full. Absent where nothing tracks.
    pub(super) fn connection_tracking(&self) -> Option<Finding> {
        let entries = self.system.number("/proc/sys/net/netfilter/nf_conntrack_max")?;
        let connections = self.config.connections_max(self.machine) as u64;
        let found = format!("net.netfilter.nf_conntrack_max = {entries}");
        let advice = format!(
            "sysctl net.netfilter.nf_conntrack_max={}, or exempt the port (iptables -t raw -j NOTRACK)",
            connections.saturating_mul(2)
        );
        Some(Finding::judge("conn. tracking", entries >= connections, found, advice))
    }
}

/// Tries each address for a moment. One that is in use is taken to be ours: the server may be running.
pub(super) fn listeners(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "listen";
    let addresses = config.client_addresses().chain(&config.admin.listen);
    let finding = |address: &_| match TcpListener::bind(address) {
        Ok(_) => Finding::ok(CHECK, format!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Finding::ok(CHECK, format!("{address} is in use, by the server if it runs"))
        }
        Err(error) => {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "use a port from 1024 up, or grant AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "use an address of this machine, or 0.0.0.0 for all of them"
                }
                _ => "see the error; the server cannot listen there",
            };
            Finding::fail(CHECK, format!("{address}: {error}"), advice)
        }
    };
    addresses.map(finding).collect()
}

/// Connects to Redis and asks it for a sign of life.
pub(super) fn redis(config: &Config) -> Option<Finding> {
    const CHECK: &str = "redis";
    let url = config.redis.url.as_ref()?;
    let ping = || -> Result<(), RedisError> {
        let mut link = Client::open(url.expose())?.get_connection_with_timeout(REDIS_TIMEOUT)?;
        link.set_read_timeout(Some(REDIS_TIMEOUT))?;
        redis::cmd("PING").query(&mut link)
    };
    Some(match ping() {
        Ok(()) => Finding::ok(CHECK, format!("{url} answers")),
        Err(error) => {
            let advice = "check that it runs, redis.url, its password, and the firewall; until then this instance \
                          delivers alone and is not ready";
            Finding::fail(CHECK, format!("{url}: {error}"), advice)
        }
    })
}
