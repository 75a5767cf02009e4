//! Findings on machines that are not at hand.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::{Auto, FileChoice, IoDriver, RedisUrl};

/// A tree of files like `/proc` and `/sys`, which goes when it is dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("shardcast-doctor-{}-{count}", process::id()));
        for (path, text) in files {
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("it is under the root"))
                .expect("the directory can be made");
            fs::write(path, text).expect("the file can be written");
        }
        Self(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // A tree without files was never made.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

const MACHINE: Machine = Machine { cores: 4, files_max: 1_048_576 };

/// The findings on a machine with these files.
fn examine_tree(files: &[(&str, &str)], config: &Config, ring: &Ring) -> Vec<Finding> {
    let tree = Tree::new(files);
    Patient { system: &System::under(&tree.0), config, machine: &MACHINE, ring }.findings()
}

fn status(findings: &[Finding], check: &str) -> Option<Status> {
    findings.iter().find(|finding| finding.check == check).map(|finding| finding.status)
}

#[test]
fn each_setting_is_judged_and_what_is_not_ok_has_advice() {
    let limits =
        |hard: &str| format!("Max open files            1024                 {hard}              files\n");
    let (few, many) = (limits("4096"), limits("1048576"));
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Status);
    let cases: [Case<'_>; 26] = [
        ("kernel", &[("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n")], Status::Ok),
        ("kernel", &[("/proc/sys/kernel/osrelease", "5.9.16")], Status::Warn),
        ("open files", &[("/proc/self/limits", &many)], Status::Ok),
        ("open files", &[("/proc/self/limits", &few)], Status::Warn),
        ("files, machine", &[("/proc/sys/fs/file-max", "9223372036854775807")], Status::Ok),
        ("files, machine", &[("/proc/sys/fs/file-max", "100000")], Status::Warn),
        (
            "cpu quota",
            &[("/proc/self/cgroup", "0::/a/b\n"), ("/sys/fs/cgroup/a/b/cpu.max", "max 100000")],
            Status::Ok,
        ),
        (
            "cpu quota",
            &[("/proc/self/cgroup", "0::/a/b\n"), ("/sys/fs/cgroup/cpu.max", "400000 100000")],
            Status::Ok,
        ),
        (
            "cpu quota",
            &[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "150000 100000")],
            Status::Warn,
        ),
        ("memory", &[("/proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 8000000 kB\n")], Status::Ok),
        ("memory", &[("/proc/meminfo", "MemTotal: 1572864 kB\n")], Status::Warn),
        ("memory", &[("/proc/meminfo", "MemTotal: 524288 kB\n")], Status::Fail),
        (
            "huge pages",
            &[("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")],
            Status::Ok,
        ),
        (
            "huge pages",
            &[("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")],
            Status::Warn,
        ),
        ("overcommit", &[("/proc/sys/vm/overcommit_memory", "1")], Status::Ok),
        ("overcommit", &[("/proc/sys/vm/overcommit_memory", "2")], Status::Warn),
        ("accept queue", &[("/proc/sys/net/core/somaxconn", "4096")], Status::Ok),
        ("accept queue", &[("/proc/sys/net/core/somaxconn", "128")], Status::Warn),
        ("syn queue", &[("/proc/sys/net/ipv4/tcp_max_syn_backlog", "128")], Status::Warn),
        ("tcp memory", &[("/proc/sys/net/ipv4/tcp_mem", "287832 383779 575664")], Status::Ok),
        ("tcp memory", &[("/proc/sys/net/ipv4/tcp_mem", "1000 2000 3000")], Status::Warn),
        ("local ports", &[("/proc/sys/net/ipv4/ip_local_port_range", "32768\t33000")], Status::Warn),
        ("epoll watches", &[("/proc/sys/fs/epoll/max_user_watches", "5000000")], Status::Ok),
        ("epoll watches", &[("/proc/sys/fs/epoll/max_user_watches", "100000")], Status::Warn),
        ("conn. tracking", &[("/proc/sys/net/netfilter/nf_conntrack_max", "65536")], Status::Warn),
        (
            "clock",
            &[("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")],
            Status::Warn,
        ),
    ];
    for (check, files, expected) in cases {
        let findings = examine_tree(files, &Config::default(), &Ring::Usable);
        assert_eq!(status(&findings, check), Some(expected), "{check}: {files:?} {findings:#?}");
        for finding in findings {
            assert_eq!(finding.advice.is_some(), finding.status != Status::Ok, "{finding:?}");
        }
    }
}

#[test]
fn a_machine_that_shows_nothing_is_not_blamed() {
    let findings = examine_tree(&[], &Config::default(), &Ring::Usable);
    assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), ["io_uring", "cores"]);
    let garbage: Vec<_> =
        ["somaxconn", "core/somaxconn"].map(|name| (format!("/proc/sys/net/{name}"), "x")).to_vec();
    let garbage: Vec<_> = garbage.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    assert_eq!(status(&examine_tree(&garbage, &Config::default(), &Ring::Usable), "accept queue"), None);
}

#[test]
fn a_ring_that_is_refused_fails_only_where_it_is_required() {
    let refused = Ring::Refused(io::Error::from_raw_os_error(libc::EPERM));
    let mut config = Config::default();
    for (io, expected) in
        [(IoDriver::Auto, Status::Warn), (IoDriver::Uring, Status::Fail), (IoDriver::Epoll, Status::Ok)]
    {
        config.server.io = io;
        assert_eq!(status(&examine_tree(&[], &config, &refused), "io_uring"), Some(expected), "{io:?}");
    }
    let disabled = [("/proc/sys/kernel/io_uring_disabled", "2")];
    let found = &examine_tree(&disabled, &config, &refused)[0].found;
    assert!(found.contains("kernel.io_uring_disabled = 2"), "{found}");
}

#[test]
fn connections_that_need_more_files_than_allowed_fail() {
    let mut config = Config::default();
    config.server.connections_max = Auto::Fixed(5_000);
    let files = [("/proc/self/limits", "Max open files  1024  4096  files\n")];
    assert_eq!(status(&examine_tree(&files, &config, &Ring::Usable), "open files"), Some(Status::Fail));
}

#[test]
fn redis_that_does_not_answer_fails_and_its_password_stays_hidden() {
    let mut config = Config::default();
    assert_eq!(network::redis(&config), None);
    // Bound and dropped: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("loopback has a free port");
    config.redis.url = Some(RedisUrl::new(format!("redis://:sesame@{address}")));
    let finding = network::redis(&config).expect("a URL is set");
    assert_eq!(finding.status, Status::Fail);
    assert!(!format!("{finding:?}").contains("sesame"), "{finding:?}");
}

#[test]
fn an_address_that_cannot_be_bound_fails_and_one_in_use_is_taken_for_ours() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let mut config = Config::default();
    config.admin.listen = None;
    config.server.listen =
        vec![taken.local_addr().expect("it is bound"), "192.0.2.1:80".parse().expect("an address")];
    let statuses: Vec<_> = network::listeners(&config).iter().map(|finding| finding.status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Fail]);
}

#[test]
fn a_wrong_configuration_is_a_finding_and_the_examination_goes_on() {
    let sources = Sources {
        file: FileChoice::Named("/nonexistent/shardcast.toml".into()),
        env: Vec::new(),
        flags: Vec::new(),
        machine: MACHINE,
    };
    let report = examine(&sources);
    assert!(report.fails());
    assert_eq!((report.findings[0].check, report.findings[0].status), ("configuration", Status::Fail));
    assert!(report.findings.len() > 5);
}

#[test]
fn a_report_reads_as_lines_and_as_json() {
    let report = Report::new(vec![Finding::ok("a", "fine"), Finding::warn("longer", "slow", "change it")]);
    assert_eq!(report.status, Status::Warn);
    assert!(!report.fails());
    let lines = "ok    a       fine\nwarn  longer  slow\n              -> change it\n";
    assert_eq!(report.text(false, false), lines);
    assert!(report.text(false, true).contains("\x1b[1;33mwarn\x1b[0m"));
    let json: serde_json::Value = serde_json::from_str(&report.text(true, true)).expect("it is JSON");
    assert_eq!(json["status"], "warn");
    assert_eq!(json["findings"][0], serde_json::json!({"check": "a", "status": "ok", "found": "fine"}));
    assert_eq!(json["findings"][1]["advice"], "change it");
}
