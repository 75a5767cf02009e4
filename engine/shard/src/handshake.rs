//! From the first byte to the upgrade: the request head, and what becomes of the connection.

use bytes::Bytes;
use shardcast_wire::date;
use shardcast_wire::http::{self, Head, HeadError, Refusal, Route, Upgrade};

use crate::burst::FrameKind;
use crate::conn::{HeadBuffer, Phase};
use crate::event::{Effect, Now};
use crate::ids::{ConnId, MountId};
use crate::limits::Dialect;
use crate::shard::Shard;
use crate::topic;

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
                let buffer = HeadBuffer { bytes: input.to_vec(), searched, upgrade: None };
                conn.head = Some(Box::new(buffer));
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
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let (address, is_unnamed) = (conn.address, conn.is_unnamed);
    // On a port of its own a mount is also at the root, where clients look that know a host and a port only.
    let own = conn.on_own_port.then_some(conn.mount);
    let mounts = &shard.config.mounts;
    let found = |path: &str| match own {
        Some(mount) => (path == "/" || shard.mount(mount).path == path).then_some(mount),
        None => mounts.iter().position(|mount| mount.path == path).map(|index| MountId(index as u8)),
    };
    match http::route(head, |path| found(path).is_some()) {
        Route::Upgrade(upgrade) => {
            let mount = found(&upgrade.path).expect("just matched");
            admit(shard, now, id, mount, upgrade, head);
            0
        }
        Route::Refuse(refusal) => {
            refuse_upgrade(shard, now, id, refusal);
            rest.len()
        }
        Route::Plain if own.is_some() => {
            let refusal = if http::wants_websocket(head) { Refusal::Path } else { Refusal::NotUpgrade };
            refuse_upgrade(shard, now, id, refusal);
            rest.len()
        }
        Route::Plain => {
            shard.counters.handed_off += 1;
            let received = [bytes, rest].concat();
            shard.vacate(id);
            shard.effects.push_back(Effect::HandOff { conn: id, address, is_unnamed, received });
            rest.len()
        }
    }
}

/// Opens the connection if its page and its address may connect.
fn admit(shard: &mut Shard, now: Now, id: ConnId, mount: MountId, upgrade: Upgrade, head: &Head<'_>) {
    if !shard.mount(mount).origins.allow(head.values("origin")) {
        return refuse_upgrade(shard, now, id, Refusal::Origin);
    }
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    let addresses = &shard.config.addresses;
    let came_by_proxy = addresses.proxy_protocol || addresses.is_proxy(conn.address);
    let claimed = || addresses.client(head.values(&addresses.header), conn.address);
    let Ok(address) = (if conn.is_unnamed { Ok(conn.address) } else { claimed() }) else {
        return refuse_upgrade(shard, now, id, Refusal::ClientAddress);
    };
    conn.address = address;
    if came_by_proxy && shard.config.counts_addresses {
        conn.head = Some(Box::new(HeadBuffer { upgrade: Some((mount, upgrade)), ..HeadBuffer::default() }));
        shard.effects.push_back(Effect::CountAddress { conn: id, address });
        shard.asked = true;
    } else {
        open(shard, now, id, mount, upgrade);
    }
}

/// Whether the address of a connection may have one more: see [`Effect::CountAddress`].
pub(crate) fn handle_address_verdict(shard: &mut Shard, now: Now, id: ConnId, may_connect: bool) {
    let waiting = shard.conns.get_mut(id).filter(|conn| conn.phase == Phase::Head);
    let Some((mount, upgrade)) = waiting.and_then(|conn| conn.head.take()?.upgrade) else { return };
    if may_connect {
        open(shard, now, id, mount, upgrade);
    } else {
        refuse_upgrade(shard, now, id, Refusal::AddressLimit);
    }
}

fn refuse_upgrade(shard: &mut Shard, now: Now, id: ConnId, refusal: Refusal) {
    shard.counters.refused_heads[HeadError::COUNT + refusal.index()] += 1;
    let answer = refusal.response(&date::http_date(now.unix_ms));
    shard.close_with(now, id, Bytes::from(answer));
}

/// Answers a head that cannot be served. Returns that all of `input` is used.
fn refuse(shard: &mut Shard, now: Now, id: ConnId, error: HeadError, input: &[u8]) -> usize {
    shard.counters.refused_heads[error.index()] += 1;
    shard.close_with(now, id, Bytes::from(error.response()));
    input.len()
}

fn open(shard: &mut Shard, now: Now, id: ConnId, mount: MountId, mut upgrade: Upgrade) {
    shard.counters.upgraded += 1;
    upgrade.deflate = upgrade.deflate.filter(|_| shard.mount(mount).compression);
    // topic-session has no name; Ignis takes the first that is offered.
    upgrade.protocol = upgrade.protocol.filter(|_| !matches!(shard.mount(mount).dialect, Dialect::Topic(_)));
    let answer = http::switching_protocols(&upgrade, &date::http_date(now.unix_ms));
    shard.send(id, Bytes::from(answer), FrameKind::Answer);
    shard.leave_head(id);
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    conn.phase = Phase::Open;
    conn.mount = mount;
    conn.since_ms = now.ms;
    conn.last_activity_ms = now.ms;
    conn.deflates = upgrade.deflate.is_some();
    if conn.deflates {
        shard.deflate_up(mount);
    }
    if shard.mount(mount).is_topic() {
        topic::greet(shard, now, id);
    }
    shard.arm(id);
}
