//! Instructions of the hot path, counted by callgrind: the same figure on a busy machine as on an idle one.
//!
//! What is counted is the body of the function; its argument was set up, and warmed up, before. Whatever is large to
//! drop is returned, so that dropping it is not counted.
#![allow(missing_docs, unused_qualifications, reason = "of what the macros of gungraun expand to")]

use std::hint::black_box;

use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};
use shardcast::directory::Directory;
use shardcast::mailbox::{MailReceiver, MailSender, mailbox};
use shardcast_bench::messages::{self, TEXT_BYTES};
use shardcast_bench::route::{self, LETTERS_MAX, Letter, MOUNT, Names, ROOM, Route};
use shardcast_bench::{Bench, OneRoom};
use shardcast_shard::{ConnId, Mail};
use shardcast_wire::frame;
use shardcast_wire::ignis::Scratch;
use shardcast_wire::ignis::envelope;
use shardcast_wire::message::{Assembler, Limits};

/// Names in the directory, and look-ups. Its maps are hashed under random keys: over so many look-ups a run differs
/// from the next by some 0.1 %.
const NAMES: usize = 1_000;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, fragments_max: 1_024 };

fn encoded() -> String {
    let text = messages::text(TEXT_BYTES);
    drop(frame::text(&text));
    text
}

#[library_benchmark(setup = encoded)]
fn encode_128(text: String) -> (Vec<u8>, String) {
    (frame::text(black_box(&text)), text)
}

fn decoded() -> (Assembler, Vec<u8>) {
    let mut assembler = Assembler::default();
    let mut bytes = messages::client_frame(&messages::text(TEXT_BYTES));
    assert!(assembler.next(&mut bytes, &LIMITS, None).is_ok());
    (assembler, bytes)
}

#[library_benchmark(setup = decoded)]
fn decode_128((mut assembler, mut bytes): (Assembler, Vec<u8>)) -> (Assembler, Vec<u8>) {
    assert!(black_box(assembler.next(black_box(&mut bytes), &LIMITS, None)).is_ok());
    (assembler, bytes)
}

fn enveloped() -> (Scratch, String) {
    let mut scratch = Scratch::default();
    let message = messages::envelope(ROOM, TEXT_BYTES);
    drop(envelope::decode(message.as_bytes(), &mut scratch).map(|found| found.frame()));
    (scratch, message)
}

#[library_benchmark(setup = enveloped)]
fn envelope_128((mut scratch, message): (Scratch, String)) -> (Option<Vec<u8>>, Scratch, String) {
    let found = envelope::decode(black_box(message.as_bytes()), &mut scratch);
    (found.ok().map(|found| found.frame()), scratch, message)
}

library_benchmark_group!(name = wire, benchmarks = [encode_128, decode_128, envelope_128]);

fn room_of_1000() -> OneRoom {
    let mut room = OneRoom::new(1_000);
    for _ in 0..2 {
        room.fan_out(16);
        room.own_backlog(16);
        room.excluded(16);
    }
    room
}

#[library_benchmark(setup = room_of_1000)]
fn fan_out_1000x1(mut room: OneRoom) -> OneRoom {
    black_box(room.fan_out(1));
    room
}

#[library_benchmark(setup = room_of_1000)]
fn fan_out_1000x16(mut room: OneRoom) -> OneRoom {
    black_box(room.fan_out(16));
    room
}

#[library_benchmark(setup = room_of_1000)]
fn own_backlog_1000x16(mut room: OneRoom) -> OneRoom {
    black_box(room.own_backlog(16));
    room
}

#[library_benchmark(setup = room_of_1000)]
fn excluded_1000x16(mut room: OneRoom) -> OneRoom {
    black_box(room.excluded(16));
    room
}

fn connected() -> (Bench, ConnId, Vec<u8>) {
    let heartbeat = || messages::client_frame(r#"{"event":"heartbeat"}"#);
    let mut bench = Bench::new(1, |_| vec!["room".to_owned()]);
    let id = bench.clients()[0];
    bench.receive(id, &mut heartbeat());
    (bench, id, heartbeat())
}

#[library_benchmark(setup = connected)]
fn receive_heartbeat((mut bench, id, mut bytes): (Bench, ConnId, Vec<u8>)) -> (Bench, Vec<u8>) {
    bench.receive(id, black_box(&mut bytes));
    (bench, bytes)
}

library_benchmark_group!(
    name = shard,
    benchmarks = [fan_out_1000x1, fan_out_1000x16, own_backlog_1000x16, excluded_1000x16, receive_heartbeat]
);

fn looked_up() -> (Directory, Names) {
    let (directory, names) = route::directory(NAMES);
    directory.room(MOUNT, &names.rooms[0]);
    (directory, names)
}

#[library_benchmark(setup = looked_up)]
fn directory_1000_rooms((directory, names): (Directory, Names)) -> (Directory, Names) {
    for room in &names.rooms {
        black_box(directory.room(MOUNT, black_box(room)));
    }
    (directory, names)
}

type Posting = (MailSender, MailReceiver, Letter);

fn posted() -> Posting {
    let (sender, receiver) = mailbox(LETTERS_MAX).expect("an eventfd");
    let letter = Letter::new();
    assert!(sender.post(letter.copy()));
    drop(receiver.take());
    (sender, receiver, letter)
}

#[library_benchmark(setup = posted)]
fn mailbox_post_and_take((sender, receiver, letter): Posting) -> (Option<Mail>, Posting) {
    assert!(sender.post(black_box(letter.copy())));
    (receiver.take(), (sender, receiver, letter))
}

fn routed(shard_count: u8) -> (Route, String) {
    let mut route = Route::new(shard_count);
    let message = messages::envelope(ROOM, TEXT_BYTES);
    route.handle(message.as_bytes(), 2_000);
    route.take_all();
    (route, message)
}

// A thousand messages, for the random keys of the directory.
#[library_benchmark(setup = routed)]
#[bench::shards_1(1)]
#[bench::shards_2(2)]
#[bench::shards_4(4)]
fn redis_1000_messages_to_mail((mut route, message): (Route, String)) -> (Route, String) {
    route.handle(message.as_bytes(), 1_000);
    (route, message)
}

library_benchmark_group!(
    name = server,
    benchmarks = [directory_1000_rooms, mailbox_post_and_take, redis_1000_messages_to_mail]
);

main!(
    config = LibraryBenchmarkConfig::default()
        .tool(Callgrind::with_args(["--cache-sim=no"]).format([EventKind::Ir])),
    library_benchmark_groups = [wire, shard, server]
);
