//! Who a client of the topic dialect is: tokens, their refusals, and what it keeps under another one.

use std::sync::Arc;

use bytes::Bytes;
use shardcast_wire::close;
use shardcast_wire::json;
use shardcast_wire::topic::{self as wire, Answer, SessionId};

use super::requests::{Request, Requests, State};
use super::{Outcome, answer, ask_for, settings};
use crate::burst::FrameKind;
use crate::conn::{Auth, NEVER_MS};
use crate::event::{AuthOutcome, Effect, Identity, Now, Question};
use crate::ids::ConnId;
use crate::shard::Shard;

/// Tells a client that has just connected its session, and asks about it where everyone is let in.
pub(crate) fn greet(shard: &mut Shard, now: Now, id: ConnId) {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let session = wire::answer::session(&SessionId::of(&conn.client_id));
    let starts_authenticated = settings(shard, conn).starts_authenticated;
    answer(shard, id, Answer::Connected);
    shard.send(id, Bytes::from(session), FrameKind::Reply);
    if starts_authenticated {
        put(shard, id, "{}".to_owned());
        let first = Request { context: String::new(), state: State::Authorizing { is_silent: true } };
        let requests = Requests::new(first, false, now.ms);
        shard.conns.get_mut(id).expect("just seen").requests = Some(Box::new(requests));
    }
}

/// Asks the hooks about a token.
pub(super) fn ask(shard: &mut Shard, id: ConnId, token: &str) {
    put(shard, id, format!(r#"{{"token":{}}}"#, json::quote(token)));
}

fn put(shard: &mut Shard, id: ConnId, data: String) {
    shard.ask(id, Question::Authenticate { data });
    shard.asked = true;
}

/// The hooks know about a token. `is_silent`: the client does not know that they were asked.
pub(super) fn conclude(
    shard: &mut Shard,
    now: Now,
    id: ConnId,
    is_silent: bool,
    outcome: AuthOutcome,
) -> Outcome {
    match outcome {
        AuthOutcome::Accepted(identity) | AuthOutcome::Encrypted(identity, _) => {
            shard.counters.auth_accepted += 1;
            let is_same = admit(shard, now, id, identity);
            if !is_silent {
                answer(shard, id, Answer::Authenticated);
            }
            return if is_same { Outcome::Answered } else { revalidate(shard, id) };
        }
        // Nobody was refused anything.
        _ if is_silent => return Outcome::Answered,
        AuthOutcome::Refused(reason) => {
            shard.counters.auth_refused[reason.index()] += 1;
            if reason.is_outage() {
                return unknown(shard, id);
            }
        }
        AuthOutcome::TooManyConnections => shard.counters.auth_refused_user_limit += 1,
        AuthOutcome::Failed => {
            shard.counters.auth_failed += 1;
            return unknown(shard, id);
        }
    }
    let conn = shard.conns.get(id).expect("looked up by the caller");
    if conn.auth == Auth::Authenticated {
        turn_out(shard, now, id);
    }
    answer(shard, id, Answer::Unauthorized);
    let failures_max = settings(shard, shard.conns.get(id).expect("just seen")).auth_failures_max;
    let conn = shard.conns.get_mut(id).expect("just seen");
    if conn.auth_failures >= failures_max {
        shard.counters.auth_failures_limit += 1;
        return Outcome::Closes(&close::TOO_MANY_REFUSALS);
    }
    conn.auth_failures += 1;
    Outcome::Answered
}

/// Nobody could tell whether a token is good, which is not the client's fault: it stays who it is.
fn unknown(shard: &mut Shard, id: ConnId) -> Outcome {
    answer(shard, id, Answer::Unauthorized);
    Outcome::Answered
}

/// The client is who its token says, whoever it was. Returns whether it was just that, so that it may do what it might
/// before.
fn admit(shard: &mut Shard, now: Now, id: ConnId, identity: Identity) -> bool {
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    let (mount, client_id) = (conn.mount, conn.client_id);
    let was_in = std::mem::replace(&mut conn.auth, Auth::Authenticated) == Auth::Authenticated;
    conn.expires_ms = identity.expires_unix_ms.map_or(NEVER_MS, |at_unix_ms| {
        now.ms.saturating_add(at_unix_ms.saturating_sub(now.unix_ms)).min(NEVER_MS - 1)
    });
    let user = identity.user.clone();
    let before = std::mem::replace(&mut conn.identity, identity);
    let is_same = was_in && is_same(&before, &conn.identity);
    let old = before.user;
    if !was_in {
        shard.counters.clients += 1;
        shard.effects.push_back(Effect::ClientUp { client_id, conn: id, mount });
        keep_beat(shard, now, id);
    }
    if old == user {
        return is_same;
    }
    if let Some(old) = old
        && shard.users.remove(mount, &old, id.slot)
    {
        shard.effects.push_back(Effect::UserDown(mount, old));
    }
    if let Some(user) = user
        && shard.users.add(mount, &user, id.slot)
    {
        shard.effects.push_back(Effect::UserUp(mount, user));
    }
    false
}

/// Whether two identities are one, as those of a token are that is shown twice and was remembered in between.
fn is_same(one: &Identity, other: &Identity) -> bool {
    let contexts = one.context.as_ref().zip(other.context.as_ref());
    one.user == other.user && one.tenant == other.tenant && contexts.is_some_and(|(a, b)| Arc::ptr_eq(a, b))
}

/// A client that sent a bad token is none any more.
fn turn_out(shard: &mut Shard, now: Now, id: ConnId) {
    shard.log_out(id);
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    conn.identity = Identity::default();
    conn.expires_ms = NEVER_MS;
    conn.since_ms = now.ms;
}

/// Asks which of its topics the client keeps; channels of another tenant it leaves at once.
fn revalidate(shard: &mut Shard, id: ConnId) -> Outcome {
    keep_topics(shard, id, |_| true);
    let conn = shard.conns.get(id).expect("looked up by the caller");
    if conn.memberships.is_empty() {
        return Outcome::Answered;
    }
    let prefix = &settings(shard, conn).prefix;
    let channels = conn.memberships.iter().map(|membership| &*shard.rooms.room(membership.room).name);
    let topics = channels.filter_map(|channel| prefix.topic(channel)).map(str::to_owned).collect();
    ask_for(shard, id, topics);
    Outcome::Asks
}

/// Takes a client out of what is not granted it, or is not its tenant's.
pub(super) fn keep_topics(shard: &mut Shard, id: ConnId, is_granted: impl Fn(&str) -> bool) {
    let count = shard.conns.get(id).expect("looked up by the caller").memberships.len();
    for entry in (0..count).rev() {
        let conn = shard.conns.get(id).expect("just seen");
        let prefix = &settings(shard, conn).prefix;
        let channel = &*shard.rooms.room(conn.memberships[entry].room).name;
        let is_kept = |topic: &str| {
            let own = prefix.channel(conn.identity.tenant.as_deref(), topic);
            own.as_deref() == Some(channel) && is_granted(topic)
        };
        if !prefix.topic(channel).is_some_and(is_kept) {
            shard.counters.leaves += 1;
            shard.exit(id, entry);
        }
    }
}

/// The beat of pings that has passed by now: they follow the connection's start, whatever else happens.
pub(crate) fn keep_beat(shard: &mut Shard, now: Now, id: ConnId) {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let interval_ms = settings(shard, conn).ping_interval_ms.max(1);
    let conn = shard.conns.get_mut(id).expect("just seen");
    let passed_ms = now.ms.saturating_sub(conn.last_activity_ms);
    conn.last_activity_ms += passed_ms - passed_ms % interval_ms;
}

/// A client whose token expired is told so before it is closed; other dialects have a code for it.
pub(crate) fn tell_expired(shard: &mut Shard, id: ConnId) {
    if shard.conns.get(id).is_some_and(|conn| shard.mount(conn.mount).is_topic()) {
        answer(shard, id, Answer::Unauthorized);
    }
}
