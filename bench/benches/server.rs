//! The way to the shards: directory, mailboxes, messages from Redis. In memory: no Redis, no sockets.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast::mailbox::mailbox;
use shardcast_bench::messages;
use shardcast_bench::route::{self, LETTERS_MAX, Letter, MOUNT, ROOM, Route};

/// Names of each kind in the directory.
const NAMES: usize = 100_000;
/// Letters of a round through a mailbox, between two looks at the clock.
const BATCH: u64 = 1_024;

fn directory(c: &mut Criterion) {
    let (directory, names) = route::directory(NAMES);
    let mut group = c.benchmark_group("directory");
    let mut next = (0..NAMES).cycle();
    let mut next = || next.next().unwrap_or_default();
    group.bench_function("room_hit", |b| b.iter(|| directory.room(MOUNT, &names.rooms[next()])));
    group.bench_function("room_miss", |b| b.iter(|| directory.room(MOUNT, &names.absent_rooms[next()])));
    group.bench_function("client_hit", |b| b.iter(|| directory.client(names.clients[next()])));
    group.bench_function("user_hit", |b| b.iter(|| directory.user(MOUNT, &names.users[next()])));
    group.finish();
}

fn mailboxes(c: &mut Criterion) {
    let letter = Letter::new();
    let mut group = c.benchmark_group("mailbox");
    let (sender, receiver) = mailbox(LETTERS_MAX).expect("an eventfd");
    group.bench_function("post_and_take", |b| {
        b.iter(|| (sender.post(black_box(letter.copy())), receiver.take()));
    });
    // As when the shard sleeps between any two letters: with the two system calls of a wake.
    group.bench_function("post_wake_and_take", |b| {
        b.iter(|| {
            receiver.arm();
            let posted = sender.post(black_box(letter.copy()));
            receiver.silence();
            (posted, receiver.take())
        });
    });
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("across_threads", |b| b.iter_custom(|rounds| across_threads(rounds, &letter)));
    group.finish();
}

/// The time until one thread has posted `rounds` batches and another one has taken and dropped them. Neither sleeps.
fn across_threads(rounds: u64, letter: &Letter) -> Duration {
    let (sender, receiver) = mailbox(LETTERS_MAX).expect("an eventfd");
    let letters = rounds * BATCH;
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            let mut taken = 0;
            while taken < letters {
                if receiver.take().is_some() {
                    taken += 1;
                } else {
                    thread::yield_now();
                }
            }
        });
        start.wait();
        let started = Instant::now();
        for _ in 0..letters {
            while !sender.post(letter.copy()) {
                thread::yield_now();
            }
        }
        while !sender.is_empty() {
            thread::yield_now();
        }
        started.elapsed()
    })
}

fn redis(c: &mut Criterion) {
    let mut group = c.benchmark_group("redis");
    let payload = messages::envelope(ROOM, messages::TEXT_BYTES);
    let resp = messages::resp_message(ROOM, &payload);
    group.bench_function("resp_to_message", |b| {
        b.iter(|| {
            let value = ::redis::parse_redis_value(black_box(&resp)).ok()?;
            ::redis::Msg::from_owned_value(value)
        });
    });
    for shard_count in [1, 2, 4] {
        let mut route = Route::new(shard_count);
        group.bench_function(BenchmarkId::new("message_to_mail", shard_count), |b| {
            b.iter_custom(|messages| {
                let mut spent = Duration::ZERO;
                let mut left = messages;
                while left > 0 {
                    let batch = left.min(BATCH);
                    let started = Instant::now();
                    route.handle(payload.as_bytes(), batch);
                    spent += started.elapsed();
                    // The shards' part.
                    route.take_all();
                    left -= batch;
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = shardcast_bench::settings();
    targets = directory, mailboxes, redis
}
criterion_main!(benches);
