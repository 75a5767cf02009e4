//! Upstream and its worker against a Redis that is a set of names.

mod model;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardcast_shard::{ConnId, Listening, Mail, ShardId, Verdict};

use super::worker::{CROWD_PAUSE, WAIT_MAX};
use super::{Command, Done, Figures, Outcome, Upstream, Worker};
use crate::config::{self, RedisUrl};
use crate::directory::Directory;
use crate::mailbox::{MailReceiver, mailbox};
use crate::router::Router;
use crate::status::Status;

const LINGER: Duration = Duration::from_secs(2);

/// A channel that the worker is told is subscribed by others.
const BASE: &str = "base";

/// An upstream, its worker, and what Redis has.
struct Rig {
    upstream: Arc<Upstream>,
    worker: Worker,
    boxes: Vec<MailReceiver>,
    status: Arc<Status>,
    now: Instant,
    subscribed: BTreeSet<String>,
    forbidden: BTreeSet<String>,
}

impl Rig {
    fn new(letters_max: usize, change: impl FnOnce(&mut config::Redis)) -> Self {
        let mut config = config::Redis {
            url: Some(RedisUrl::new("redis://127.0.0.1/")),
            unsubscribe_linger: LINGER,
            ..config::Redis::default()
        };
        change(&mut config);
        let (senders, boxes) = (0..4).map(|_| mailbox(letters_max).expect("eventfd")).unzip();
        let router = Arc::new(Router::new(Arc::new(Directory::new(1)), senders));
        let now = Instant::now();
        let status = Arc::new(Status::new(now, "epoll", 4));
        let upstream = Arc::new(Upstream::new(&config, status.clone()));
        let worker = Worker::new(upstream.clone(), router, &config, vec![BASE.to_owned()]);
        let (subscribed, forbidden) = (BTreeSet::new(), BTreeSet::new());
        Self { upstream, worker, boxes, status, now, subscribed, forbidden }
    }

    fn linked() -> Self {
        let mut rig = Self::new(64, |_| {});
        rig.worker.link_up();
        rig
    }

    fn listen(&self, shard: u8, channel: &str, conn: u32) -> Option<Listening> {
        self.upstream.listen(ShardId(shard), &channel.into(), Some(conn_id(conn)))
    }

    fn unlisten(&self, shard: u8, channel: &str) {
        self.upstream.unlisten(ShardId(shard), channel);
    }

    fn next(&mut self) -> Option<Command> {
        self.worker.next_command(self.now)
    }

    /// Redis carries a command out.
    fn carry_out(&mut self, command: Command) {
        let outcomes = match &command {
            Command::Subscribe(names) => names.iter().map(|name| self.subscribe(name)).collect(),
            Command::Unsubscribe(names) => {
                names
                    .iter()
                    .for_each(|name| assert!(self.subscribed.remove(&**name), "{name} was subscribed"));
                vec![Outcome::Done; names.len()]
            }
        };
        self.worker.done(&Done { command, outcomes }, self.now);
    }

    fn subscribe(&mut self, name: &str) -> Outcome {
        if self.forbidden.contains(name) {
            return Outcome::Refused;
        }
        assert!(self.subscribed.insert(name.to_owned()) || name == BASE, "{name} was not subscribed");
        Outcome::Done
    }

    fn link_down(&mut self) {
        self.subscribed.clear();
        self.worker.link_down(self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.worker.look_at_clock(self.now);
    }

    /// Carries out whatever there is to do now.
    fn settle(&mut self) {
        while let Some(command) = self.next() {
            self.carry_out(command);
        }
    }

    /// What a shard is told.
    fn told(&self, shard: usize) -> Vec<String> {
        let told = std::iter::from_fn(|| self.boxes[shard].take());
        told.map(|mail| {
            let (conn, room, outcome) = verdict(mail);
            format!("{outcome:?} {} {room}", conn.slot)
        })
        .collect()
    }

    fn figures(&self) -> [usize; 3] {
        let Figures { channels, confirmed, waiting } = self.upstream.figures();
        [channels, confirmed, waiting]
    }

    fn count(&self, counter: fn(&crate::status::ProcessCounters) -> &std::sync::atomic::AtomicU64) -> u64 {
        counter(&self.status.process).load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn conn_id(slot: u32) -> ConnId {
    ConnId { slot, generation: 1 }
}

fn verdict(mail: Mail) -> (ConnId, Arc<str>, Listening) {
    let Mail::Verdict(verdict) = mail else { panic!("no verdict: {mail:?}") };
    let Verdict::Listening { conn, room, outcome } = *verdict else {
        panic!("no such question: {verdict:?}")
    };
    (conn, room, outcome)
}

fn subscribe(names: &[&str]) -> Option<Command> {
    Some(Command::Subscribe(names.iter().map(|&name| name.into()).collect()))
}

fn unsubscribe(names: &[&str]) -> Option<Command> {
    Some(Command::Unsubscribe(names.iter().map(|&name| name.into()).collect()))
}

#[test]
fn without_redis_everything_is_local_and_nothing_is_kept() {
    let rig = Rig::new(64, |config| config.url = None);
    assert_eq!(rig.listen(0, "a", 1), Some(Listening::LocalOnly));
    assert_eq!(rig.figures(), [0, 0, 0]);
    rig.unlisten(0, "a");
}

#[test]
fn several_shards_wait_for_one_subscribe() {
    let mut rig = Rig::linked();
    assert_eq!([rig.listen(0, "a", 1), rig.listen(0, "a", 2), rig.listen(3, "a", 1)], [None; 3]);
    let command = rig.next();
    assert_eq!(command, subscribe(&["a"]));
    assert_eq!(rig.listen(1, "a", 9), None, "it is asked for, not there");
    assert_eq!(rig.figures(), [1, 0, 4]);
    rig.carry_out(command.expect("a command"));
    assert_eq!(rig.told(0), ["Confirmed 1 a", "Confirmed 2 a"]);
    assert_eq!(rig.told(1), ["Confirmed 9 a"]);
    assert_eq!(rig.told(3), ["Confirmed 1 a"]);
    assert_eq!(rig.listen(2, "a", 5), Some(Listening::Confirmed));
    assert_eq!((rig.next(), rig.figures()), (None, [1, 1, 0]));
}

#[test]
fn the_last_reference_lingers_and_a_listen_cancels_that_without_a_word() {
    let mut rig = Rig::linked();
    rig.listen(0, "a", 1);
    rig.settle();
    rig.unlisten(0, "a");
    assert_eq!(rig.next(), None);
    rig.pass(LINGER / 2);
    assert_eq!(rig.listen(1, "a", 2), Some(Listening::Confirmed));
    assert_eq!(rig.next(), None);
    rig.pass(LINGER / 4);
    rig.unlisten(1, "a");
    assert_eq!(rig.next(), None);
    rig.pass(LINGER / 2);
    assert_eq!(rig.next(), None, "the linger began anew");
    rig.pass(LINGER / 2);
    assert_eq!(rig.next(), unsubscribe(&["a"]));
}

#[test]
fn a_listen_while_an_unsubscribe_is_under_way_ends_subscribed() {
    let mut rig = Rig::linked();
    rig.listen(0, "a", 1);
    rig.settle();
    rig.told(0);
    rig.unlisten(0, "a");
    assert_eq!(rig.next(), None);
    rig.pass(LINGER);
    let leaving = rig.next().expect("it is time");
    assert!(!rig.upstream.is_confirmed("a"));
    assert_eq!(rig.listen(0, "a", 2), None);
    rig.carry_out(leaving);
    assert_eq!(rig.told(0), [""; 0], "not yet");
    rig.settle();
    assert_eq!(rig.told(0), ["Confirmed 2 a"]);
    assert!(rig.subscribed.contains("a"));
}

#[test]
fn a_lost_link_tells_who_waits_and_what_is_wanted_is_subscribed_again() {
    let mut rig = Rig::linked();
    rig.listen(0, "kept", 1);
    rig.listen(0, "left", 2);
    rig.settle();
    rig.told(0);
    rig.listen(1, "asked", 3);
    let lost = rig.next();
    assert_eq!(lost, subscribe(&["asked"]));
    rig.listen(1, "queued", 4);
    rig.unlisten(0, "left");
    rig.link_down();
    let mut told = rig.told(1);
    told.sort();
    assert_eq!(told, ["LocalOnly 3 asked", "LocalOnly 4 queued"]);
    assert_eq!(rig.figures(), [3, 0, 0], "what nobody wants is gone");
    assert_eq!(rig.listen(2, "later", 5), Some(Listening::LocalOnly));
    rig.unlisten(1, "queued");
    assert_eq!(rig.count(|c| &c.redis_listens_local_only), 3);
    rig.worker.link_up();
    assert_eq!(rig.listen(3, "asked", 6), None);
    rig.settle();
    assert_eq!(Vec::from_iter(&rig.subscribed), ["asked", "kept", "later"]);
    assert_eq!(rig.told(3), ["Confirmed 6 asked"]);
    assert_eq!(rig.count(|c| &c.redis_resubscribes), 1);
    assert_eq!(rig.figures(), [3, 3, 0]);
}

#[test]
fn what_a_client_waits_for_is_asked_before_what_the_last_link_had() {
    let mut rig = Rig::new(64, |config| config.subscribe_batch = 2);
    for channel in ["a", "b", "c", "d", "e"] {
        rig.listen(0, channel, 1);
    }
    rig.worker.link_up();
    let first = rig.next().expect("a batch");
    rig.carry_out(first);
    rig.listen(0, "new", 7);
    let Some(Command::Subscribe(names)) = rig.next() else { panic!("no batch") };
    assert_eq!((names.len(), &*names[0]), (2, "new"));
}

#[test]
fn long_names_make_small_batches() {
    let mut rig = Rig::linked();
    for index in 0..40 {
        rig.listen(0, &format!("{index}{}", "x".repeat(100_000)), 1);
    }
    let Some(Command::Subscribe(names)) = rig.next() else { panic!("no batch") };
    assert_eq!(names.len(), 11, "a mebibyte, and what goes over it");
}

#[test]
fn a_channel_that_redis_refuses_is_asked_for_again_ever_more_seldom() {
    let mut rig = Rig::linked();
    rig.forbidden.insert("a".to_owned());
    rig.listen(0, "a", 1);
    rig.upstream.listen(ShardId(1), &"a".into(), None);
    rig.settle();
    assert_eq!(rig.told(0), ["Refused 1 a"]);
    assert_eq!(rig.listen(2, "a", 1), Some(Listening::Refused), "without asking");
    rig.unlisten(0, "a");
    rig.unlisten(2, "a");
    let mut asked_at = Vec::new();
    for second in 0..200 {
        if let Some(command) = rig.next() {
            asked_at.push(second);
            rig.carry_out(command);
        }
        rig.pass(Duration::from_secs(1));
    }
    assert_eq!(asked_at, [1, 3, 7, 15, 31, 63, 127, 191]);
    assert_eq!(rig.count(|c| &c.redis_subscribe_errors), 9);
    rig.forbidden.clear();
    rig.pass(Duration::from_secs(64));
    rig.settle();
    assert!(rig.upstream.is_confirmed("a"));
}

#[test]
fn a_refused_channel_that_nobody_wants_is_forgotten() {
    let mut rig = Rig::linked();
    rig.forbidden.insert("a".to_owned());
    rig.listen(0, "a", 1);
    rig.settle();
    rig.unlisten(0, "a");
    rig.settle();
    assert_eq!(rig.figures(), [1, 0, 0]);
    rig.pass(Duration::from_secs(1));
    rig.settle();
    assert_eq!(rig.figures(), [0, 0, 0]);
}

#[test]
fn over_channels_max_a_channel_is_refused_and_giving_it_back_takes_nobody_elses() {
    let mut rig = Rig::new(64, |config| config.channels_max = 1);
    rig.worker.link_up();
    assert_eq!(rig.listen(0, "a", 1), None);
    assert_eq!(rig.listen(0, "b", 2), Some(Listening::Refused));
    assert_eq!(rig.listen(0, "a", 3), None, "it is there already");
    assert_eq!(rig.count(|c| &c.redis_listens_refused), 1);
    rig.unlisten(0, "a");
    rig.unlisten(0, "a");
    rig.settle();
    assert_eq!(rig.listen(0, "b", 4), None, "what lingers takes nobody's place");
    rig.settle();
    rig.pass(CROWD_PAUSE);
    rig.settle();
    assert_eq!(Vec::from_iter(&rig.subscribed), ["b"], "the linger ends early");
    rig.unlisten(0, "b");
    rig.settle();
    rig.pass(LINGER * 2);
    rig.settle();
    assert_eq!(Vec::from_iter(&rig.subscribed), ["b"], "one reference is left");
    rig.unlisten(0, "b");
    rig.settle();
    rig.pass(LINGER);
    rig.settle();
    assert_eq!(rig.figures(), [0, 0, 0]);
}

#[test]
fn names_that_come_and_go_refuse_nobody() {
    let mut rig = Rig::new(64, |config| config.channels_max = 4);
    rig.worker.link_up();
    rig.forbidden.extend((0..100).step_by(3).map(|index| format!("c{index}")));
    rig.listen(1, "kept", 1);
    rig.settle();
    for index in 0..100 {
        let channel = format!("c{index}");
        assert_eq!(rig.listen(0, &channel, index), None, "{channel}");
        rig.settle();
        rig.unlisten(0, &channel);
        rig.settle();
        rig.pass(CROWD_PAUSE);
        rig.told(0);
        assert!(rig.figures()[0] <= 8, "{:?}", rig.figures());
    }
    assert!(rig.subscribed.contains("kept"));
    assert_eq!(rig.count(|c| &c.redis_listens_refused), 34, "those that Redis forbids");
    for (channel, expected) in [("a", None), ("b", None), ("c", None), ("d", Some(Listening::Refused))] {
        assert_eq!(rig.listen(2, channel, 1), expected, "{channel}");
    }
}

#[test]
fn a_verdict_for_a_full_mailbox_is_kept_and_not_counted_as_lost() {
    let mut rig = Rig::new(2, |_| {});
    rig.worker.link_up();
    for conn in 0..5 {
        rig.listen(0, "a", conn);
    }
    rig.listen(1, "a", 9);
    rig.settle();
    assert_eq!(rig.told(1), ["Confirmed 9 a"]);
    assert_eq!(rig.figures()[2], 3, "they wait still");
    let mut told = rig.told(0);
    for _ in 0..2 {
        let wake_at = rig.worker.wake_at().expect("it tries again");
        rig.pass(wake_at - rig.now);
        told.extend(rig.told(0));
    }
    let expected: Vec<String> = (0..5).map(|conn| format!("Confirmed {conn} a")).collect();
    assert_eq!((told, rig.figures()[2]), (expected, 0));
    assert_eq!(rig.worker.wake_at(), None);
    assert_eq!(rig.worker.router().shard(ShardId(0)).refused(), 0);
}

#[test]
fn a_redis_that_does_not_answer_keeps_nobody_waiting() {
    let mut rig = Rig::linked();
    rig.listen(0, "a", 1);
    let stalled = rig.next().expect("a batch");
    rig.listen(0, "b", 2);
    rig.pass(WAIT_MAX / 2);
    assert_eq!(rig.told(0), [""; 0]);
    let wake_at = rig.worker.wake_at().expect("it looks again");
    rig.pass(wake_at - rig.now);
    let mut told = rig.told(0);
    told.sort();
    assert_eq!(told, ["LocalOnly 1 a", "LocalOnly 2 b"]);
    rig.carry_out(stalled);
    rig.settle();
    assert_eq!((rig.told(0), rig.figures()), (Vec::new(), [2, 2, 0]));
}

#[test]
fn a_shard_that_is_forgotten_gives_all_back_and_is_told_nothing() {
    let mut rig = Rig::new(1, |_| {});
    rig.worker.link_up();
    for conn in 0..3 {
        rig.listen(0, "a", conn);
    }
    rig.listen(1, "b", 9);
    rig.listen(0, "b", 9);
    rig.settle();
    rig.listen(0, "c", 4);
    assert_eq!(rig.told(0).len(), 1, "the others' verdicts wait for room");
    rig.upstream.forget_shard(ShardId(0));
    rig.settle();
    rig.pass(LINGER);
    rig.settle();
    assert_eq!(rig.told(0), [""; 0]);
    assert_eq!((Vec::from_iter(&rig.subscribed), rig.figures()), (vec![&"b".to_owned()], [1, 1, 0]));
}

#[test]
fn what_is_subscribed_anyway_is_never_unsubscribed() {
    let mut rig = Rig::linked();
    rig.listen(0, BASE, 1);
    rig.settle();
    assert_eq!(rig.told(0), ["Confirmed 1 base"]);
    rig.unlisten(0, BASE);
    rig.settle();
    rig.pass(LINGER);
    assert_eq!(rig.next(), None);
    assert_eq!(rig.figures(), [0, 0, 0]);
}
