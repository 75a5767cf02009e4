//! The Ignis dialect's decisions: authentication, joins, leaves, and what is forwarded to the hooks.
//! Texts and encoders are `shardcast_wire::ignis`.

use std::borrow::Cow;

use bytes::Bytes;
use shardcast_wire::ignis::{self as wire, ClientMessage, ErrorText};
use shardcast_wire::message::Inbound;
use shardcast_wire::{close, date};

use crate::burst::FrameKind;
use crate::conn::{Auth, Conn, NEVER_MS, Phase};
use crate::event::{AuthOutcome, Effect, Identity, Now, Question, Verdict};
use crate::ids::ConnId;
use crate::limits::{Dialect, IgnisSettings};
use crate::shard::Shard;

/// A text or binary message (`ignis.md` §2: both are text).
pub(crate) fn handle_message(shard: &mut Shard, now: Now, id: ConnId, message: Inbound<'_>) {
    let text = match message {
        Inbound::Text(text) => text,
        Inbound::Binary(data) => match data {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        },
        Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => return,
    };
    let Some(conn) = shard.conns.get_mut(id) else { return };
    conn.last_activity_ms = now.ms;
    let authenticated = conn.auth == Auth::Authenticated;
    match wire::parse(&text) {
        ClientMessage::Malformed => {
            shard.counters.messages_malformed += 1;
            send_error(shard, id, ErrorText::InvalidMessageFormat);
        }
        ClientMessage::Ignored => shard.counters.messages_ignored += 1,
        ClientMessage::Heartbeat => {}
        ClientMessage::Authenticate { data } => authenticate(shard, now, id, data),
        _ if !authenticated => {
            shard.counters.messages_unauthorized += 1;
            send_error(shard, id, ErrorText::NotAuthenticated);
        }
        ClientMessage::Join { rooms } if rooms.is_empty() => shard.counters.messages_ignored += 1,
        ClientMessage::Join { rooms } => ask_to_join(shard, id, rooms),
        ClientMessage::Leave { rooms } => {
            for room in rooms {
                shard.leave(id, &room);
            }
        }
        ClientMessage::Other { .. } => forward(shard, id, &text),
    }
}

/// An answer of the hooks. One that comes too late finds the connection gone or in another state and is
/// dropped.
pub(crate) fn handle_verdict(shard: &mut Shard, now: Now, verdict: Verdict) {
    match verdict {
        Verdict::Auth { conn: id, outcome } => {
            let Some(conn) = shard.conns.get_mut(id) else { return };
            conn.asks = conn.asks.saturating_sub(1);
            if conn.phase == Phase::Open && conn.auth == Auth::Authenticating {
                conclude(shard, now, id, outcome);
            }
        }
        Verdict::Rooms { conn: id, rooms } => {
            let Some(conn) = shard.conns.get_mut(id) else { return };
            conn.asks = conn.asks.saturating_sub(1);
            if conn.is_client() {
                for room in rooms {
                    shard.join(id, &room);
                }
            }
        }
        Verdict::ConnectedFailed { conn: id } => {
            if shard.conns.get(id).is_some_and(Conn::is_client) {
                send_error(shard, id, ErrorText::AuthenticationError);
                shard.close(now, id, &close::AUTHENTICATION_FAILED);
            }
        }
    }
}

fn settings<'a>(shard: &'a Shard, conn: &Conn) -> &'a IgnisSettings {
    match &shard.mount(conn.mount).dialect {
        Dialect::Ignis(settings) => settings,
        Dialect::Echo => unreachable!("an echo connection has no Ignis messages"),
    }
}

fn send_error(shard: &mut Shard, id: ConnId, text: ErrorText) {
    shard.send(id, Bytes::from_static(wire::error(text)), FrameKind::Message);
}

fn authenticate(shard: &mut Shard, now: Now, id: ConnId, data: &str) {
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    if conn.auth != Auth::Unauthorized {
        shard.counters.auth_repeated += 1;
        send_error(shard, id, ErrorText::AlreadyAuthenticated);
        return;
    }
    conn.auth = Auth::Authenticating;
    conn.since_ms = now.ms;
    conn.asks += 1;
    shard.ask(id, Question::Authenticate { data: data.to_owned() });
    shard.asked = true;
    shard.arm(id);
}

fn conclude(shard: &mut Shard, now: Now, id: ConnId, outcome: AuthOutcome) {
    match outcome {
        AuthOutcome::Accepted(identity) => {
            shard.counters.auth_accepted += 1;
            admit(shard, now, id, identity);
        }
        AuthOutcome::Refused(reason) => {
            shard.counters.auth_refused[reason.index()] += 1;
            send_error(shard, id, ErrorText::AuthenticationFailed);
            shard.close(now, id, &close::AUTHENTICATION_FAILED);
        }
        AuthOutcome::Failed => {
            shard.counters.auth_failed += 1;
            send_error(shard, id, ErrorText::AuthenticationError);
            shard.close(now, id, &close::AUTHENTICATION_FAILED);
        }
    }
}

/// The success steps of `ignis.md` §5, in its order.
fn admit(shard: &mut Shard, now: Now, id: ConnId, identity: Identity) {
    shard.counters.clients += 1;
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    conn.auth = Auth::Authenticated;
    conn.identity = identity.clone();
    conn.expires_ms = identity.expires_unix_ms.map_or(NEVER_MS, |at_unix_ms| {
        now.ms.saturating_add(at_unix_ms.saturating_sub(now.unix_ms)).min(NEVER_MS - 1)
    });
    conn.in_own_room = true;
    let (mount, client_id) = (conn.mount, conn.client_id);
    let settings = settings(shard, shard.conns.get(id).expect("just seen"));
    let (rooms, tell) = (settings.default_rooms.clone(), settings.tell_lifecycle);
    shard.effects.push_back(Effect::ClientUp { client_id, conn: id, mount });
    if let Some(user) = &identity.user
        && shard.users.add(mount, user, id.slot)
    {
        shard.effects.push_back(Effect::UserUp(mount, user.clone()));
    }
    shard.join_broadcast(id);
    for room in rooms.iter() {
        shard.join(id, room);
    }
    let connected = wire::connected(&client_id, identity.user.as_ref(), &date::iso_ms(now.unix_ms));
    shard.send(id, Bytes::from(connected), FrameKind::Message);
    if tell {
        shard.ask(id, Question::Connected);
    }
    shard.arm(id);
}

fn ask_to_join(shard: &mut Shard, id: ConnId, rooms: Vec<Cow<'_, str>>) {
    let asks_max = shard.config.asks_per_conn_max;
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    if conn.asks >= asks_max {
        shard.counters.asks_refused_limit += 1;
        return;
    }
    conn.asks += 1;
    shard.ask(id, Question::ValidateRooms { rooms: rooms.into_iter().map(Cow::into_owned).collect() });
    shard.asked = true;
}

fn forward(shard: &mut Shard, id: ConnId, text: &str) {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    if !settings(shard, conn).forward_messages {
        shard.counters.messages_ignored += 1;
        return;
    }
    shard.ask(id, Question::Message { text: text.to_owned() });
}
