//! An arena in a process of its own, so that its memory and its processor time are the attack's doing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shardcast_tests::binary::Binary;
use shardcast_tests::bystander::Bystander;
use shardcast_tests::cost::Spent;
use shardcast_tests::http::Http;
use shardcast_tests::server::PATIENCE;

use crate::arena::Cost;

/// What a server counts while everything goes well.
const ORDINARY: &[&str] = &[
    "shardcast_accepted",
    "shardcast_api_emitted",
    "shardcast_auth_accepted",
    "shardcast_dropped_disconnected",
    "shardcast_frames_sent",
    "shardcast_handed_off",
    "shardcast_joins",
    "shardcast_leaves",
    // Those of the whole machine, other tests among them.
    "shardcast_listen_overflows",
    "shardcast_messages_received",
    "shardcast_pings_sent",
    "shardcast_proxied",
    "shardcast_published",
    "shardcast_redis_own",
    "shardcast_redis_published",
    "shardcast_redis_received",
    "shardcast_received_bytes",
    "shardcast_sent_bytes",
    "shardcast_short_writes",
    "shardcast_turns",
    "shardcast_upgraded",
];

/// A server under attack.
pub(crate) struct Siege {
    bystander: Option<Bystander>,
    admin: Http,
    pub(crate) server: Binary,
}

impl Siege {
    /// A server in dev mode with one shard and these keys, and a bystander that is well.
    pub(crate) fn start(config: &str) -> Self {
        let server = Binary::start_with_file(config, &["--dev", "--shards", "1"]);
        let mut bystander = Bystander::of_address(server.address());
        bystander.is_well();
        Self { bystander: Some(bystander), admin: Http::connect(server.admin_address()), server }
    }

    /// The bystander receives what is emitted from here on.
    pub(crate) fn is_well(&mut self) {
        self.bystander.as_mut().expect("there until the end").is_well();
    }

    /// The sum of a metric over its labels, by the name on the page.
    pub(crate) fn metric(&mut self, name: &str) -> u64 {
        self.metrics().get(name).copied().unwrap_or_else(|| panic!("no metric is named {name}"))
    }

    fn metrics(&mut self) -> BTreeMap<String, u64> {
        let page = String::from_utf8(self.admin.get("/metrics").body).expect("text");
        let mut sums = BTreeMap::new();
        for line in page.lines().filter(|line| line.starts_with("shardcast_")) {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().expect("a name");
            if let Ok(value) = value.parse::<u64>() {
                *sums.entry(name.to_owned()).or_default() += value;
            }
        }
        sums
    }

    /// Carries out an attack that leaves `held` behind until its cost is known, resident memory being that of its end:
    /// afterwards the bystander is well, and these incidents and no others were counted, each within its range.
    pub(crate) fn attack<T>(
        &mut self,
        label: &str,
        cost: Cost,
        expected: &[(&str, std::ops::RangeInclusive<u64>)],
        attack: impl FnOnce(&mut Self) -> T,
    ) {
        let before = self.metrics();
        let (memory, cpu) = (self.server.resident_bytes(), self.server.cpu_time());
        let held = attack(self);
        self.is_well();
        let grown = self.server.resident_bytes().saturating_sub(memory);
        let used = self.server.cpu_time().saturating_sub(cpu);
        cost.expect(label, Spent { memory_bytes: grown, cpu: used });
        drop(held);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let incidents = self.incidents_since(&before);
            let fits = |name: &str, count: u64| {
                expected.iter().any(|(expected, range)| *expected == name && range.contains(&count))
            };
            let all = expected
                .iter()
                .all(|(name, range)| range.contains(&incidents.get(*name).copied().unwrap_or(0)));
            if all && incidents.iter().all(|(name, count)| fits(name, *count)) {
                return;
            }
            assert!(Instant::now() < deadline, "{label}: {incidents:?} instead of {expected:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Counters that tell of incidents and moved, without `shardcast_` and `_total`.
    fn incidents_since(&mut self, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let now = self.metrics();
        let counters =
            now.iter().filter_map(|(name, value)| Some((name.strip_suffix("_total")?, name, value)));
        counters
            .filter(|(short, ..)| !ORDINARY.contains(short))
            .map(|(short, name, value)| {
                let short = short.trim_start_matches("shardcast_").to_owned();
                (short, value - before.get(name).copied().unwrap_or(0))
            })
            .filter(|(_, by)| *by > 0)
            .collect()
    }

    /// The bystander must have received everything.
    pub(crate) fn end(mut self) {
        self.bystander.take().expect("ends once").leave();
    }
}
