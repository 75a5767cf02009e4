//! Fan-out in the shard without sockets: what we add to the kernel's cost, a delivery.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use shardcast_bench::{Bench, OneRoom, messages};
use shardcast_wire::frame;

/// Everybody in the same rooms.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    group.sampling_mode(SamplingMode::Flat);
    let frame = messages::server_frame();
    for (members, messages, rooms_each) in [
        (1, 1, 1),
        (10, 1, 1),
        (100, 1, 1),
        (1_000, 1, 1),
        (1_000, 4, 1),
        (1_000, 16, 1),
        (1_000, 64, 1),
        (1_000, 64, 4),
        (10_000, 1, 1),
        (10_000, 16, 1),
    ] {
        let names: Vec<String> = (0..rooms_each).map(|index| format!("room-{index}")).collect();
        let mut bench = Bench::new(members, |_| names.clone());
        let rooms: Vec<Arc<str>> = names.iter().map(|name| Arc::from(name.as_str())).collect();
        group.throughput(Throughput::Elements((members * messages) as u64));
        let id =
            BenchmarkId::from_parameter(format!("{members}_members/{messages}_messages/{rooms_each}_rooms"));
        group.bench_function(id, |b| {
            b.iter(|| {
                for index in 0..messages {
                    bench.publish(&rooms[index % rooms_each], &frame, None);
                }
                black_box(bench.flush())
            });
        });
    }
    group.finish();
}

/// Many rooms, one message to each in a turn. With several rooms each, no two clients are in the same ones.
fn fan_out_to_rooms(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out_to_rooms");
    group.sampling_mode(SamplingMode::Flat);
    let frame = messages::server_frame();
    for (rooms, members, rooms_each) in
        [(1_000, 1, 1), (1_000, 10, 1), (100, 100, 1), (1_000, 10, 10), (1_000, 100, 100)]
    {
        let clients = rooms * members / rooms_each;
        let mut bench = Bench::new(clients, |client| {
            (client..client + rooms_each).map(|index| format!("room-{}", index % rooms)).collect()
        });
        let names: Vec<Arc<str>> = (0..rooms).map(|index| format!("room-{index}").into()).collect();
        group.throughput(Throughput::Elements((rooms * members) as u64));
        let id = format!("{rooms}_rooms/{members}_members/{rooms_each}_rooms_each");
        group.bench_function(BenchmarkId::from_parameter(id), |b| {
            b.iter(|| {
                for room in &names {
                    bench.publish(room, &frame, None);
                }
                black_box(bench.flush())
            });
        });
    }
    group.finish();
}

fn outbox(c: &mut Criterion) {
    const MEMBERS: usize = 1_000;
    const MESSAGES: usize = 16;
    type Turns = fn(&mut OneRoom, usize) -> usize;
    let mut group = c.benchmark_group("outbox");
    group.sampling_mode(SamplingMode::Flat);
    let mut room = OneRoom::new(MEMBERS);
    let turns: [(&str, Turns, usize); 4] = [
        ("shared_burst", OneRoom::shared_burst, MEMBERS * MESSAGES),
        ("own_backlog", OneRoom::own_backlog, 2 * MEMBERS * MESSAGES),
        ("excluded", OneRoom::excluded, MEMBERS * MESSAGES - 1),
        ("excluded_senders", OneRoom::excluded_senders, (MEMBERS - 1) * MESSAGES),
    ];
    for (name, turns, deliveries) in turns {
        group.throughput(Throughput::Elements(deliveries as u64));
        group.bench_function(name, |b| b.iter(|| turns(&mut room, black_box(MESSAGES))));
    }
    group.finish();
}

fn receive(c: &mut Criterion) {
    let mut bench = Bench::new(1, |_| vec!["room".to_owned()]);
    let id = bench.clients()[0];
    let heartbeat = messages::client_frame(r#"{"event":"heartbeat"}"#);
    // The frame is unmasked in place, so each round begins with a copy of its 32 bytes.
    let mut bytes = heartbeat.clone();
    let mut group = c.benchmark_group("receive");
    group.bench_function("heartbeat", |b| {
        b.iter(|| {
            bytes.copy_from_slice(&heartbeat);
            bench.receive(id, black_box(&mut bytes));
        });
    });
    group.finish();
}

/// Members that are encrypted, and what those beside them pay for it.
fn encrypted(c: &mut Criterion) {
    const MEMBERS: usize = 1_000;
    let room: Arc<str> = "room".into();
    let names = |_| vec!["room".to_owned()];
    let mut group = c.benchmark_group("encrypted");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(MEMBERS as u64));
    for text_bytes in [128, 4_096] {
        let mut bench = Bench::mixed(MEMBERS, names, |_| true);
        let frame = bytes::Bytes::from(frame::text(&messages::text(text_bytes)));
        group.bench_function(BenchmarkId::new("fan_out", text_bytes), |b| {
            b.iter(|| {
                bench.publish(&room, &frame, None);
                black_box(bench.flush_timing_clear())
            });
        });
    }
    for encrypted in [0, 100, MEMBERS, 10 * MEMBERS] {
        let every = if encrypted == 0 { usize::MAX } else { (MEMBERS + encrypted) / MEMBERS.min(encrypted) };
        let is_odd_one = |index: usize| index % every == every - 1;
        let is_encrypted = |index| is_odd_one(index) == (encrypted <= MEMBERS);
        let mut bench = Bench::mixed(MEMBERS + encrypted, names, is_encrypted);
        let frame = messages::server_frame();
        group.bench_function(BenchmarkId::new("clear_beside", encrypted), |b| {
            b.iter_custom(|iterations| {
                (0..iterations)
                    .map(|_| {
                        bench.publish(&room, &frame, None);
                        bench.flush_timing_clear()
                    })
                    .sum()
            });
        });
    }
    group.bench_function("key_exchange", |b| b.iter(|| black_box(shardcast_bench::shard::agreement())));
    group.finish();
}

criterion_group! {
    name = benches;
    config = shardcast_bench::settings();
    targets = fan_out, fan_out_to_rooms, outbox, encrypted, receive
}
criterion_main!(benches);
