//! Fan-out in the shard without sockets: what we add to the kernel's cost, a delivery.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast_bench::Bench;
use shardcast_wire::frame;

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    let frame = Bytes::from(frame::text(&"x".repeat(128)));
    for (members, messages, rooms_each) in [
        (1_000, 1, 1),
        (1_000, 4, 1),
        (1_000, 16, 1),
        (1_000, 64, 1),
        (1_000, 64, 4),
        (10_000, 1, 1),
        (10_000, 16, 1),
    ] {
        let names: Vec<String> = (0..rooms_each).map(|index| format!("room-{index}")).collect();
        let mut bench = Bench::new(members, &names);
        let rooms: Vec<Arc<str>> = names.iter().map(|name| Arc::from(name.as_str())).collect();
        group.throughput(Throughput::Elements((members * messages) as u64));
        let id =
            BenchmarkId::from_parameter(format!("{members}_members/{messages}_messages/{rooms_each}_rooms"));
        group.bench_function(id, |b| {
            b.iter(|| {
                for index in 0..messages {
                    bench.publish(&rooms[index % rooms_each], &frame);
                }
                black_box(bench.flush())
            });
        });
    }
    group.finish();
}

fn receive(c: &mut Criterion) {
    let mut bench = Bench::new(1, &["room".to_owned()]);
    let id = bench.clients[0];
    c.bench_function("receive/heartbeat", |b| {
        b.iter(|| bench.receive_text(black_box(id), r#"{"event":"heartbeat"}"#));
    });
}

criterion_group!(benches, fan_out, receive);
criterion_main!(benches);
