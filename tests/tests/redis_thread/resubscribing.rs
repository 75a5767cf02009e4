//! How long a hundred thousand channels take to be subscribed again, and what messages notice of it. The figures are in
//! `docs/benchmarks.md`.
//!
//!     cargo test --release -p shardcast-tests --test redis_thread -- --ignored --nocapture resubscribing

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use shardcast_shard::ShardId;
use shardcast_tests::redis::RedisServer;

use crate::admin;
use crate::rig::{Instance, TOPICS, eventually};

const CHANNELS: usize = 100_000;

/// The channel that messages are timed on.
const TIMED: &str = "timed";

/// Between two messages.
const PACE: Duration = Duration::from_millis(1);

/// How long messages are timed with nothing else to do.
const REST: Duration = Duration::from_secs(2);

/// Publishes the time of day of the test until it is told to stop.
fn publisher(redis: &RedisServer, start: Instant, is_over: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let mut conn = admin(redis);
    thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            let sent = start.elapsed().as_micros();
            redis::cmd("PUBLISH")
                .arg(TIMED)
                .arg(sent.to_string())
                .query::<u64>(&mut conn)
                .expect("published");
            thread::sleep(PACE);
        }
    })
}

/// How late messages come until `is_over`, shortest first.
fn latencies(redis: &RedisServer, instance: &Instance, is_over: impl Fn() -> bool) -> Vec<Duration> {
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let publisher = publisher(redis, start, stop.clone());
    let mut latencies = Vec::new();
    while !is_over() {
        while let Some(letter) = instance.take(1) {
            let sent = letter.rsplit_once(':').and_then(|(_, rest)| rest.strip_suffix('}'));
            let sent = sent.and_then(|micros| micros.parse().ok()).map(Duration::from_micros);
            latencies.push(start.elapsed() - sent.unwrap_or_else(|| panic!("{letter}")));
        }
        thread::sleep(Duration::from_micros(50));
    }
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("it publishes");
    thread::sleep(Duration::from_millis(100));
    instance.waiting(1);
    latencies.sort();
    latencies
}

fn print(what: &str, latencies: &[Duration]) {
    assert!(!latencies.is_empty(), "no message came {what}");
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} messages, median {:?}, p99 {:?}, longest {:?}",
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_channels() {
    for batch in [512, 64] {
        println!("batches of {batch}");
        measure(batch);
    }
}

fn measure(batch: usize) {
    let mut redis = RedisServer::start();
    let instance = Instance::start_with("me", &redis.url(), |config| config.subscribe_batch = batch).ready();
    let begun = Instant::now();
    for index in 0..CHANNELS - 1 {
        instance.upstream.listen(ShardId(0), &format!("topic-number-{index}").into(), None);
    }
    instance.upstream.listen(ShardId(1), &TIMED.into(), None);
    instance.room_up(TOPICS, 1, TIMED);
    println!("wished for after {:?}", begun.elapsed());
    eventually("subscribed", || instance.upstream.figures().confirmed == CHANNELS);
    println!("subscribed after {:?}", begun.elapsed());
    let rest = Instant::now();
    print("at rest", &latencies(&redis, &instance, || rest.elapsed() > REST));

    redis.kill();
    eventually("noticed", || !instance.redis.status().connected);
    redis.restart();
    let restarted = Instant::now();
    eventually("connected", || instance.redis.status().connected);
    let connected = restarted.elapsed();
    // A client that waits is served first.
    if instance.listen(1, TIMED, 1).is_none() {
        assert_eq!(instance.next(1), format!("Confirmed 1 {TIMED}"));
    }
    let served = restarted.elapsed();
    let all = Cell::new(Duration::ZERO);
    let during = latencies(&redis, &instance, || {
        all.set(restarted.elapsed());
        instance.upstream.figures().confirmed == CHANNELS
    });
    println!("after the restart: connected {connected:?}, a waiting client {served:?}, all {:?}", all.get());
    print("while subscribing again", &during);
    assert_eq!(instance.count(|c| &c.redis_resubscribes), CHANNELS as u64);
    let rest = Instant::now();
    print("afterwards", &latencies(&redis, &instance, || rest.elapsed() > REST));
}
