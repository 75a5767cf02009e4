//! From the first byte to the upgrade: the request head, and what becomes of the connection.

use bytes::Bytes;
use shardcast_wire::date;
use shardcast_wire::http::{self, Head, HeadError, Route, Upgrade};

use crate::burst::FrameKind;
use crate::conn::{HeadBuffer, Phase};
use crate::event::{Effect, Now};
use crate::ids::{ConnId, MountId};
use crate::shard::Shard;

/// Bytes before the end of the head. Returns how many are used; what follows the head are frames.
pub(crate) fn handle_bytes(shard: &mut Shard, now: Now, id: ConnId, input: &[u8]) -> usize {
    let limits = shard.config.head;
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    let Some(mut buffer) = conn.head.take() else {
        return match http::parse_head(input, &limits) {
            Ok(Some(head)) => {
                head.len + handle_head(shard, now, id, &head, &input[..head.len], &input[head.len..])
            }
            Ok(None) => {
                let searched = input.len();
                conn.head = Some(Box::new(HeadBuffer { bytes: input.to_vec(), searched }));
                shard.input_bytes += input.len();
                shard.shed_input(now, id);
                input.len()
            }
            Err(error) => refuse(shard, now, id, error, input),
        };
    };
    let kept = buffer.bytes.len();
    shard.input_bytes -= kept;
    let taken = input.len().min(limits.head_bytes_max - kept);
    buffer.bytes.extend_from_slice(&input[..taken]);
    let whole = http::head_complete(&buffer.bytes, buffer.searched).is_some();
    if !whole && buffer.bytes.len() < limits.head_bytes_max {
        buffer.searched = buffer.bytes.len();
        shard.input_bytes += buffer.searched;
        conn.head = Some(buffer);
        shard.shed_input(now, id);
        return input.len();
    }
    match http::parse_head(&buffer.bytes, &limits) {
        Ok(Some(head)) => {
            let used = head.len - kept;
            used + handle_head(shard, now, id, &head, &buffer.bytes[..head.len], &input[used..])
        }
        Ok(None) => unreachable!("the head is whole or too big"),
        Err(error) => refuse(shard, now, id, error, input),
    }
}

/// A complete head. Returns how much of `rest`, what came after it, is used as well.
fn handle_head(shard: &mut Shard, now: Now, id: ConnId, head: &Head<'_>, bytes: &[u8], rest: &[u8]) -> usize {
    let mounts = &shard.config.mounts;
    match http::route(head, |path| mounts.iter().any(|mount| mount.path == path)) {
        Route::Upgrade(upgrade) => {
            let mount = mounts.iter().position(|mount| mount.path == upgrade.path).expect("just matched");
            open(shard, now, id, MountId(mount as u8), upgrade);
            0
        }
        Route::Refuse(refusal) => {
            shard.counters.refused_heads += 1;
            let answer = refusal.response(&date::http_date(now.unix_ms));
            shard.close_with(now, id, Bytes::from(answer));
            rest.len()
        }
        Route::Plain => {
            shard.counters.handed_off += 1;
            let received = [bytes, rest].concat();
            shard.vacate(id);
            shard.effects.push_back(Effect::HandOff { conn: id, received });
            rest.len()
        }
    }
}

/// Answers a head that cannot be served. Returns that all of `input` is used.
fn refuse(shard: &mut Shard, now: Now, id: ConnId, error: HeadError, input: &[u8]) -> usize {
    shard.counters.refused_heads += 1;
    shard.close_with(now, id, Bytes::from(error.response()));
    input.len()
}

fn open(shard: &mut Shard, now: Now, id: ConnId, mount: MountId, mut upgrade: Upgrade) {
    shard.counters.upgraded += 1;
    upgrade.deflate = upgrade.deflate.filter(|_| shard.mount(mount).compression);
    let answer = http::switching_protocols(&upgrade, &date::http_date(now.unix_ms));
    shard.send(id, Bytes::from(answer), FrameKind::Answer);
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    conn.phase = Phase::Open;
    conn.mount = mount;
    conn.since_ms = now.ms;
    conn.last_activity_ms = now.ms;
    conn.deflates = upgrade.deflate.is_some();
    if conn.deflates {
        shard.deflate_up(mount);
    }
    shard.arm(id);
}
