//! The Ignis dialect's decisions: authentication, joins, leaves, and what is forwarded to the hooks.
//! Texts and encoders are `shardcast_wire::ignis`.

use std::borrow::Cow;

use bytes::Bytes;
use shardcast_wire::ignis::{self as wire, Agreement, ClientMessage, ErrorText};
use shardcast_wire::message::Inbound;
use shardcast_wire::{close, date};

use crate::burst::FrameKind;
use crate::conn::{Auth, Conn, NEVER_MS, Phase};
use crate::event::{AuthOutcome, Effect, Identity, Now, Question, RefusalReason, Verdict};
use crate::ids::ConnId;
use crate::limits::{Dialect, IgnisSettings, InboundEncryption};
use crate::rates::{Amount, Charge};
use crate::shard::Shard;

/// A text or binary message (`ignis.md` §2: both are text).
pub(crate) fn handle_message(shard: &mut Shard, now: Now, id: ConnId, message: Inbound<'_>) {
    let Some(conn) = shard.conns.get_mut(id) else { return };
    conn.last_activity_ms = now.ms;
    if !may_send(shard, now, id, &Amount::of(&message)) {
        return;
    }
    let text = match message {
        Inbound::Text(text) => text,
        Inbound::Binary(data) => match data {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        },
        Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => return,
    };
    handle_text(shard, now, id, &text, false);
}

/// The text of a message, `decrypted` if it came in an `encrypted` event: those are not nested.
fn handle_text(shard: &mut Shard, now: Now, id: ConnId, text: &str, decrypted: bool) {
    let Some(conn) = shard.conns.get(id) else { return };
    let authenticated = conn.auth == Auth::Authenticated;
    let inbound = match conn.cipher {
        Some(_) if !decrypted => settings(shard, conn).encryption.inbound,
        _ => InboundEncryption::Off,
    };
    match wire::parse(text) {
        ClientMessage::Malformed => {
            shard.counters.messages_malformed += 1;
            send_error(shard, id, ErrorText::InvalidMessageFormat);
        }
        ClientMessage::Heartbeat => {}
        ClientMessage::Encrypted { data } if inbound != InboundEncryption::Off => {
            decrypt(shard, now, id, data);
        }
        _ if inbound == InboundEncryption::Required => {
            shard.counters.messages_unencrypted += 1;
            send_error(shard, id, ErrorText::InvalidMessageFormat);
        }
        ClientMessage::Ignored => shard.counters.messages_ignored += 1,
        ClientMessage::Authenticate { data } => authenticate(shard, now, id, data),
        _ if !authenticated => {
            shard.counters.messages_unauthorized += 1;
            send_error(shard, id, ErrorText::NotAuthenticated);
        }
        ClientMessage::Join { rooms } if rooms.is_empty() => shard.counters.messages_ignored += 1,
        ClientMessage::Join { rooms } => ask_to_join(shard, now, id, rooms),
        ClientMessage::Leave { rooms } => {
            for room in rooms {
                shard.leave(id, &room);
            }
        }
        ClientMessage::Encrypted { .. } | ClientMessage::Other { .. } => forward(shard, id, text),
    }
}

/// An `encrypted` event of an encrypted client: what is in it is handled as if it had come readable.
fn decrypt(shard: &mut Shard, now: Now, id: ConnId, data: &str) {
    let cipher = shard.conns.get(id).and_then(|conn| conn.cipher.as_deref());
    match cipher.map(|cipher| cipher.open(data)) {
        Some(Ok(text)) => {
            shard.counters.messages_decrypted += 1;
            handle_text(shard, now, id, &text, true);
        }
        Some(Err(_)) | None => {
            shard.counters.messages_undecryptable += 1;
            send_error(shard, id, ErrorText::InvalidMessageFormat);
        }
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
        Verdict::RoomsFailed { conn: id } => {
            let Some(conn) = shard.conns.get_mut(id) else { return };
            conn.asks = conn.asks.saturating_sub(1);
        }
        Verdict::Listening { .. } => {}
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
        Dialect::Echo | Dialect::Topic(_) => unreachable!("it speaks no Ignis"),
    }
}

/// Whether a client may do what it asks for; if not it is told, once in a while.
fn may_send(shard: &mut Shard, now: Now, id: ConnId, amount: &Amount) -> bool {
    let charge = shard.charge(now, id, amount);
    if charge == (Charge::Refused { tell: true }) {
        send_error(shard, id, ErrorText::RateLimitExceeded);
    }
    charge == Charge::Granted
}

fn send_error(shard: &mut Shard, id: ConnId, text: ErrorText) {
    // A client that is not let in yet has no key.
    let is_client = shard.conns.get(id).is_some_and(Conn::is_client);
    let kind = if is_client { FrameKind::Message } else { FrameKind::Verbatim };
    shard.send(id, Bytes::from_static(wire::error(text)), kind);
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
            admit(shard, now, id, identity, None);
        }
        AuthOutcome::Encrypted(identity, agreement) => {
            shard.counters.auth_accepted += 1;
            admit(shard, now, id, identity, Some(&agreement));
        }
        AuthOutcome::Refused(reason) => {
            shard.counters.auth_refused[reason.index()] += 1;
            let (text, code) = match reason {
                RefusalReason::EncryptionRequired => {
                    (ErrorText::EncryptionHandshakeFailed, &close::ENCRYPTION_REQUIRED)
                }
                RefusalReason::EncryptionInvalid => {
                    (ErrorText::AuthenticationError, &close::AUTHENTICATION_FAILED)
                }
                _ => (ErrorText::AuthenticationFailed, &close::AUTHENTICATION_FAILED),
            };
            send_error(shard, id, text);
            shard.close(now, id, code);
        }
        AuthOutcome::TooManyConnections => {
            shard.counters.auth_refused_user_limit += 1;
            send_error(shard, id, ErrorText::TooManyConnections);
            shard.close(now, id, &close::TOO_MANY_CONNECTIONS);
        }
        AuthOutcome::Failed => {
            shard.counters.auth_failed += 1;
            send_error(shard, id, ErrorText::AuthenticationError);
            shard.close(now, id, &close::AUTHENTICATION_FAILED);
        }
    }
}

/// The success steps of `ignis.md` §5, in its order.
fn admit(shard: &mut Shard, now: Now, id: ConnId, identity: Identity, agreement: Option<&Agreement>) {
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
    let time = date::iso_ms(now.unix_ms);
    let connected = wire::connected(&client_id, identity.user.as_ref(), &time, agreement);
    shard.send(id, Bytes::from(connected), FrameKind::Verbatim);
    if let Some(agreement) = agreement {
        encrypt(shard, id, agreement);
    }
    if tell {
        shard.ask(id, Question::Connected);
    }
    shard.arm(id);
}

/// What the connection is sent from here on is encrypted.
fn encrypt(shard: &mut Shard, id: ConnId, agreement: &Agreement) {
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    if conn.deflates {
        let mount = conn.mount;
        shard.deflate_down(mount);
    }
    let conn = shard.conns.get_mut(id).expect("just seen");
    conn.cipher = Some(Box::new(agreement.cipher()));
    shard.counters.encrypted += 1;
}

fn ask_to_join(shard: &mut Shard, now: Now, id: ConnId, rooms: Vec<Cow<'_, str>>) {
    let asks_max = shard.config.asks_per_conn_max;
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    if conn.asks >= asks_max {
        shard.counters.asks_refused_limit += 1;
        return;
    }
    let joins = rooms.len() as u64;
    if !may_send(shard, now, id, &Amount { joins, ..Amount::default() }) {
        return;
    }
    let conn = shard.conns.get_mut(id).expect("it may go on");
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
