//! Codecs: frames by size, compression, the Redis envelope, a client's message.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shardcast_bench::messages::{self, MASK};
use shardcast_wire::deflate::{Compressor, Inflater};
use shardcast_wire::frame;
use shardcast_wire::ignis::{self, envelope};
use shardcast_wire::message::{Assembler, Limits};

const SIZES: [usize; 4] = [16, 128, 4_096, 65_536];

/// Where a text begins in its buffer, as the data of a message does. Were it as far into a page as a frame's payload
/// is into the frame, cores of AMD would copy 4 KiB and more some 20 times slower (`rep movsb` with the target just
/// ahead of the source, modulo 4,096).
const TEXT_OFFSET: usize = 100;

fn frames(c: &mut Criterion) {
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1_024 };
    let mut group = c.benchmark_group("frame");
    for size in SIZES {
        let buffer = messages::text(TEXT_OFFSET + size);
        let text = &buffer[TEXT_OFFSET..];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("encode", size), |b| b.iter(|| frame::text(black_box(text))));
        let mut payload = text.as_bytes().to_vec();
        group.bench_function(BenchmarkId::new("unmask", size), |b| {
            b.iter(|| frame::unmask(black_box(&mut payload), MASK, 0));
        });
        let mut bytes = messages::client_frame(text);
        let mut assembler = Assembler::default();
        group.bench_function(BenchmarkId::new("decode", size), |b| {
            b.iter(|| {
                assembler.next(black_box(&mut bytes), &limits, None).is_ok_and(|(_, found)| found.is_some())
            });
        });
    }
    group.finish();
}

fn compression(c: &mut Criterion) {
    let (mut compressor, mut inflater) = (Compressor::default(), Inflater::default());
    let mut group = c.benchmark_group("deflate");
    for size in [256, 1_024, 16_384] {
        let frame = frame::text(&messages::records(size));
        let compressed = compressor.compress(&frame).expect("records get smaller");
        let (header_len, _) = frame::frame_len(&compressed).expect("a header");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("compress", size), |b| {
            b.iter(|| compressor.compress(black_box(&frame)));
        });
        group.bench_function(BenchmarkId::new("inflate", size), |b| {
            b.iter(|| inflater.inflate(black_box(&compressed[header_len..]), size).is_ok());
        });
    }
    group.finish();
}

fn envelopes(c: &mut Criterion) {
    let mut group = c.benchmark_group("envelope");
    for size in SIZES {
        let message = messages::envelope("room-1", size);
        let mut scratch = envelope::Scratch::default();
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(BenchmarkId::new("decode_to_frame", size), |b| {
            b.iter(|| {
                envelope::decode(black_box(message.as_bytes()), &mut scratch).map(|found| found.frame())
            });
        });
    }
    group.finish();
}

fn client_messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("client_message");
    group.bench_function("join", |b| {
        b.iter(|| {
            matches!(
                ignis::parse(black_box(r#"{"event":"join","data":{"rooms":["a","b"]}}"#)),
                ignis::ClientMessage::Join { .. }
            )
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = shardcast_bench::settings();
    targets = frames, compression, envelopes, client_messages
}
criterion_main!(benches);
