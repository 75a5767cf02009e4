//! Codecs: frames by size, and the Redis envelope.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast_wire::frame::{self, OpCode};
use shardcast_wire::ignis::{self, envelope};
use shardcast_wire::message::{Assembler, Limits};

const SIZES: [usize; 4] = [16, 128, 4_096, 65_536];

fn frames(c: &mut Criterion) {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1_024 };
    let mut group = c.benchmark_group("frame");
    for size in SIZES {
        let payload = "x".repeat(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |b| {
            b.iter(|| frame::text(black_box(&payload)))
        });
        let mut masked = Vec::new();
        frame::encode_masked(&mut masked, OpCode::Text, payload.as_bytes(), [7, 11, 13, 17], true);
        let mut assembler = Assembler::default();
        // Decoding unmasks in place, so each round decodes a fresh copy; the copy is part of the figure.
        let mut scratch = masked.clone();
        group.bench_function(BenchmarkId::new("copy_and_decode", size), |b| {
            b.iter(|| {
                scratch.copy_from_slice(&masked);
                assembler.next(black_box(&mut scratch), &limits).map(|(used, _)| used)
            });
        });
    }
    group.finish();
}

fn envelopes(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    for size in SIZES {
        let data = format!(r#"{{"text":"{}"}}"#, "x".repeat(size));
        let message = format!(
            r#"{{"serverId":"emitter","type":"room","target":"room-1","event":"hello","data":{data}}}"#
        );
        let mut scratch = envelope::Scratch::default();
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(BenchmarkId::new("decode_to_frame", size), |b| {
            b.iter(|| {
                envelope::decode(black_box(message.as_bytes()), &mut scratch).map(|found| found.frame())
            });
        });
    }
    group.bench_function("client_message", |b| {
        b.iter(|| {
            matches!(
                ignis::parse(black_box(r#"{"event":"join","data":{"rooms":["a","b"]}}"#)),
                ignis::ClientMessage::Join { .. }
            )
        });
    });
    group.finish();
}

criterion_group!(benches, frames, envelopes);
criterion_main!(benches);
