//! Shards, mailboxes, sockets, hooks and a clock, moved one small step at a time in an order the seed decides.
//!
//! Everything that happens to a shard happens to the model in the same order; every answer of the shard is
//! compared at once.

mod actions;
mod effects;
mod end;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;

use shardcast::directory::Directory;
use shardcast::mailbox::{MailReceiver, MailSender, mailbox};
use shardcast::router::Router;
use shardcast_shard::{ClientView, Counters, Now, Shard, ShardId, Verdict};

use super::fault::Fault;
use super::mirror::Mirror;
use super::model::{Model, Publication};
use super::peer::Peer;
use super::rng::Rng;
use super::scenario::{Action, Scenario};

/// Rooms that everybody knows.
const NAMES: [&str; 6] = ["a", "b", "é", "q\"x", "ws-default", "ws-notification"];

/// The last events, for the report of a failure.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) events: VecDeque<String>,
    pub(crate) events_max: usize,
}

/// A shard and what its thread keeps for it.
struct Host {
    shard: Shard,
    mail: MailReceiver,
    sender: MailSender,
    /// Publications in its mailbox, oldest first.
    posted: VecDeque<usize>,
    /// Answers it owes to queries.
    replies: VecDeque<(u64, Reply)>,
    /// When it must be rid of everybody, ms.
    drained_by_ms: Option<u64>,
}

/// What a query must find.
#[derive(Debug)]
enum Reply {
    Client(Option<ClientView>),
    Rooms(Vec<(String, usize)>),
}

/// What the events of a run amounted to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) publications: u64,
    pub(crate) deliveries: u64,
    pub(crate) frames_heard: u64,
    pub(crate) letters_refused: u64,
    pub(crate) fault_done: bool,
    pub(crate) auth_refused: u64,
    pub(crate) refused_heads: u64,
    pub(crate) counters: Vec<u64>,
}

pub(crate) struct World<'a> {
    rng: Rng,
    scenario: &'a Scenario,
    now: Now,
    hosts: Vec<Host>,
    directory: Arc<Directory>,
    router: Router,
    mirror: Mirror,
    model: Model,
    peers: Vec<Peer>,
    publications: Vec<Publication>,
    /// Answers of the hooks on their way.
    late: VecDeque<(usize, Verdict)>,
    tickets: u64,
    rooms: Vec<String>,
    fault: Option<Fault>,
    /// The step from which on the fault may happen.
    fault_at: usize,
    step: usize,
    is_settling: bool,
    pub(crate) totals: Totals,
    pub(crate) log: Option<&'a mut Log>,
}

impl<'a> World<'a> {
    pub(crate) fn new(mut rng: Rng, scenario: &'a Scenario, fault: Option<Fault>) -> Self {
        let now = Now { ms: rng.below(1 << 40) as u64, unix_ms: 1_790_000_000_000 };
        let directory = Arc::new(Directory::new(scenario.config.mounts.len()));
        let mut hosts = Vec::new();
        let mut senders = Vec::new();
        for index in 0..scenario.shards {
            let (sender, mail) = mailbox(scenario.mailbox_max).expect("an eventfd");
            let shard = Shard::new(ShardId(index as u8), scenario.config.clone(), rng.next(), now);
            senders.push(sender.clone());
            let (posted, replies) = (VecDeque::new(), VecDeque::new());
            hosts.push(Host { shard, mail, sender, posted, replies, drained_by_ms: None });
        }
        Self {
            now,
            router: Router::new(directory.clone(), senders).compressing(scenario.compression()),
            directory,
            mirror: Mirror::default(),
            model: Model::new(scenario.config.clone(), scenario.shards, scenario.memory_scarce, now),
            hosts,
            peers: Vec::new(),
            publications: Vec::new(),
            late: VecDeque::new(),
            tickets: 0,
            rooms: NAMES.map(str::to_owned).to_vec(),
            fault,
            fault_at: rng.below(scenario.steps),
            step: 0,
            is_settling: false,
            totals: Totals::default(),
            log: None,
            scenario,
            rng,
        }
    }

    /// Lives through the whole scenario. Panics on the first thing that is not as the model says.
    pub(crate) fn run(&mut self) {
        self.gather_crowd();
        while self.step < self.scenario.steps && !self.rng.is_spent() {
            let (action, _) = Action::WEIGHTS[self.rng.weighted(&self.scenario.weights)];
            self.act(action);
            self.step += 1;
        }
        self.settle();
        self.tear_down();
        let mut sums = vec![0; Counters::FIELDS.len()];
        for host in &self.hosts {
            let counters = host.shard.counters();
            self.totals.refused_heads += counters.refused_heads.iter().sum::<u64>();
            let values = counters.values();
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            self.totals.auth_refused += host.shard.counters().auth_refused.iter().sum::<u64>();
        }
        self.totals.counters = sums;
    }

    /// Notes an event, for the report of a failure.
    fn note(&mut self, text: impl FnOnce() -> String) {
        let step = self.step;
        let ms = self.now.ms;
        if let Some(log) = &mut self.log {
            if log.events.len() >= log.events_max {
                log.events.pop_front();
            }
            log.events.push_back(format!("step {step}, {ms} ms: {}", text()));
        }
    }

    /// Whether the fault happens here and now.
    fn may_fail(&self, fault: Fault) -> bool {
        self.fault == Some(fault) && self.step >= self.fault_at && !self.totals.fault_done
    }

    fn any_shard(&mut self) -> usize {
        self.rng.below(self.hosts.len())
    }

    /// A peer for which something holds.
    fn any_peer(&mut self, holds: impl Fn(&Peer) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.peers.len()).filter(|&index| holds(&self.peers[index])).collect();
        (!fitting.is_empty()).then(|| self.rng.pick(&fitting))
    }
}
