//! Wishes, answers, losses and time in random order: in the end Redis has what is wanted, and everybody who waited was
//! told once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const SHARDS: u8 = 4;
const CHANNELS: usize = 12;

/// Ample for every pause and linger to be over.
const LONG: Duration = Duration::from_secs(70);

struct Rng(u64);

impl Rng {
    /// A number below `end`: splitmix64.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

fn channel(index: usize) -> String {
    if index == 0 { BASE.to_owned() } else { format!("c{index}") }
}

/// What the shards believe.
struct Model {
    rig: Rig,
    rng: Rng,
    is_up: bool,
    under_way: Option<Command>,
    references: BTreeMap<(u8, usize), usize>,
    /// Who waits for which channel, and since which step.
    waiting: BTreeMap<(u8, u32), (String, usize)>,
    /// Who waited and went away; it may be told all the same.
    gone: BTreeSet<(u8, u32)>,
    next_conn: u32,
    step: usize,
    /// The last step at which Redis had a channel.
    had: BTreeMap<String, usize>,
    channels_max: usize,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let channels_max = if rng.below(2) == 0 { 5 } else { 1_000 };
        let rig = Rig::new(3, |config| {
            config.channels_max = channels_max;
            config.subscribe_batch = 4;
        });
        Self {
            rig,
            rng,
            is_up: false,
            under_way: None,
            references: BTreeMap::new(),
            waiting: BTreeMap::new(),
            gone: BTreeSet::new(),
            next_conn: 0,
            step: 0,
            had: BTreeMap::new(),
            channels_max,
        }
    }

    fn step(&mut self) {
        self.step += 1;
        let (shard, index) = (self.rng.below(SHARDS as usize) as u8, self.rng.below(CHANNELS));
        match self.rng.below(100) {
            0..30 => self.listen(shard, index),
            30..55 => self.unlisten(shard, index),
            55..56 => self.forget(shard),
            56..58 => self.turn_link(),
            58..61 => {
                let name = channel(index);
                if !self.rig.forbidden.remove(&name) && self.rng.below(4) == 0 {
                    self.rig.forbidden.insert(name);
                }
            }
            61..66 => {
                let time = [1, 12, 700, 2_100, 6_000][self.rng.below(5)];
                self.rig.pass(Duration::from_millis(time));
            }
            66..80 if self.is_up && self.under_way.is_none() => self.under_way = self.rig.next(),
            80..92 => self.answer(),
            _ => self.take_mail(shard),
        }
        self.check();
    }

    fn listen(&mut self, shard: u8, index: usize) {
        let name = channel(index);
        *self.references.entry((shard, index)).or_default() += 1;
        let conn = self.next_conn;
        self.next_conn += 1;
        let waits = self.rng.below(3) > 0;
        let outcome =
            self.rig.upstream.listen(ShardId(shard), &name.as_str().into(), waits.then(|| conn_id(conn)));
        match outcome {
            None if waits => drop(self.waiting.insert((shard, conn), (name, self.step))),
            None => {}
            Some(Listening::Confirmed) => assert!(self.rig.subscribed.contains(&name), "{name}"),
            Some(Listening::LocalOnly) => assert!(!self.is_up),
            Some(Listening::Refused) => {}
        }
    }

    fn unlisten(&mut self, shard: u8, index: usize) {
        if let Some(count) = self.references.get_mut(&(shard, index)).filter(|count| **count > 0) {
            *count -= 1;
            let (name, count) = (channel(index), *count);
            self.rig.unlisten(shard, &name);
            let mut waiters =
                self.waiting.iter().filter(|((of, _), (room, _))| *of == shard && *room == name);
            // It was the connection of one who waited that went away.
            if let Some((&waiter, _)) = waiters.nth(count) {
                self.waiting.remove(&waiter);
                self.gone.insert(waiter);
            }
        }
    }

    fn forget(&mut self, shard: u8) {
        self.rig.upstream.forget_shard(ShardId(shard));
        self.references.retain(|(of, _), _| *of != shard);
        self.waiting.retain(|(of, _), _| *of != shard);
        // A new run takes what the last left in the box.
        while self.rig.boxes[shard as usize].take().is_some() {}
    }

    fn turn_link(&mut self) {
        if self.is_up {
            self.under_way = None;
            self.rig.link_down();
        } else {
            self.rig.worker.link_up();
        }
        self.is_up = !self.is_up;
    }

    fn answer(&mut self) {
        if let Some(command) = self.under_way.take() {
            self.rig.carry_out(command);
            for name in &self.rig.subscribed {
                self.had.insert(name.clone(), self.step);
            }
        }
    }

    fn take_mail(&mut self, shard: u8) {
        while let Some(mail) = self.rig.boxes[shard as usize].take() {
            let (conn, room, outcome) = verdict(mail);
            if self.gone.remove(&(shard, conn.slot)) {
                continue;
            }
            let waiter = self.waiting.remove(&(shard, conn.slot));
            let (name, since) = waiter.unwrap_or_else(|| panic!("{conn:?} does not wait"));
            assert_eq!(*name, *room);
            if outcome == Listening::Confirmed {
                assert!(self.had.get(&name).is_some_and(|at| *at >= since), "{name} was not subscribed");
            }
        }
    }

    fn check(&self) {
        let Figures { channels, confirmed, .. } = self.rig.upstream.figures();
        assert!(channels <= self.channels_max * 2);
        let is_wanted = |name: &String| {
            self.rig.upstream.channels.get(&**name).is_some_and(|entry| !entry.references.is_empty())
        };
        let wanted = (0..CHANNELS).map(channel).filter(is_wanted).count();
        assert!(wanted <= self.channels_max);
        assert_eq!(self.rig.upstream.wanted.load(Ordering::Relaxed), wanted);
        let sure = (0..CHANNELS).map(channel).filter(|name| self.rig.upstream.is_confirmed(name));
        let sure: Vec<String> = sure.collect();
        assert_eq!(sure.len(), confirmed);
        assert!(sure.iter().all(|name| self.rig.subscribed.contains(name)), "{sure:?}");
    }

    /// Lets everything come to an end that can.
    fn quiesce(&mut self) {
        self.answer();
        if !self.is_up {
            self.turn_link();
        }
        self.rig.forbidden.clear();
        for _ in 0..4 {
            for _ in 0..self.waiting.len() + 1 {
                self.rig.settle();
                for name in &self.rig.subscribed {
                    self.had.insert(name.clone(), self.step);
                }
                (0..SHARDS).for_each(|shard| self.take_mail(shard));
                self.rig.pass(Duration::from_millis(10));
            }
            self.rig.pass(LONG);
        }
        self.rig.settle();
        self.check();
        assert!(self.waiting.is_empty(), "{:?} wait for ever", self.waiting);
        assert_eq!(self.rig.upstream.figures().waiting, 0);
    }

    fn wanted(&self) -> BTreeSet<String> {
        let wanted = self.references.iter().filter(|(_, count)| **count > 0);
        wanted.map(|((_, index), _)| channel(*index)).collect()
    }

    fn finish(mut self) {
        self.quiesce();
        // What nobody wants is unsubscribed but for the base, which Redis keeps.
        let mut subscribed = self.rig.subscribed.clone();
        if !self.wanted().contains(BASE) {
            subscribed.remove(BASE);
        }
        if self.channels_max > CHANNELS {
            assert_eq!(subscribed, self.wanted());
        } else {
            assert!(subscribed.is_subset(&self.wanted()), "{subscribed:?} {:?}", self.wanted());
        }
        for ((shard, index), count) in std::mem::take(&mut self.references) {
            (0..count).for_each(|_| self.rig.unlisten(shard, &channel(index)));
        }
        self.quiesce();
        self.rig.subscribed.remove(BASE);
        assert!(self.rig.subscribed.is_empty());
        assert_eq!(self.rig.figures(), [0, 0, 0]);
        assert!(self.rig.upstream.refused.is_empty());
        assert_eq!(self.rig.upstream.refused_len.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn in_any_order_of_events_redis_ends_with_what_is_wanted() {
    for seed in 0..100 {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            (0..1_500).for_each(|_| model.step());
            model.finish();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}

/// The same with shards on threads of their own, which the model above cannot interleave.
#[test]
fn shards_and_worker_at_once_end_with_what_is_wanted() {
    let mut rig = Rig::new(1 << 16, |config| {
        config.subscribe_batch = 4;
        config.unsubscribe_linger = Duration::ZERO;
    });
    let is_over = Arc::new(AtomicBool::new(false));
    let shards: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let upstream = rig.upstream.clone();
            std::thread::spawn(move || {
                let mut rng = Rng(u64::from(shard));
                let mut held = [0; CHANNELS];
                for _ in 0..50_000 {
                    let index = rng.below(CHANNELS);
                    if rng.below(2) == 0 {
                        held[index] += 1;
                        upstream.listen(ShardId(shard), &channel(index).into(), None);
                    } else if held[index] > 0 {
                        held[index] -= 1;
                        upstream.unlisten(ShardId(shard), &channel(index));
                    }
                }
                held
            })
        })
        .collect();
    let watch = {
        let is_over = is_over.clone();
        std::thread::spawn(move || {
            let held: Vec<_> = shards.into_iter().map(|shard| shard.join().expect("no panic")).collect();
            is_over.store(true, Ordering::SeqCst);
            held
        })
    };
    let mut rng = Rng(99);
    while !is_over.load(Ordering::SeqCst) {
        rig.worker.link_up();
        for _ in 0..rng.below(200) {
            if let Some(command) = rig.next() {
                rig.carry_out(command);
            }
            rig.pass(Duration::from_millis(1));
        }
        rig.link_down();
    }
    let held = watch.join().expect("no panic");
    rig.worker.link_up();
    for _ in 0..3 {
        rig.settle();
        rig.pass(LONG);
    }
    let wanted = (0..CHANNELS).filter(|&index| held.iter().any(|held| held[index] > 0)).map(channel);
    rig.subscribed.retain(|name| name != BASE || rig.upstream.is_confirmed(BASE));
    assert_eq!(rig.subscribed, wanted.collect::<BTreeSet<_>>());
    assert_eq!(rig.figures()[0], rig.subscribed.len());
}
