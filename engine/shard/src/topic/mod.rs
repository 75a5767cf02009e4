//! The topic dialect's decisions: requests are asked about early and applied in their order.
//! Texts and encoders are `shardcast_wire::topic`.
//!
//! A request is answered when it is the first; one that is then still undecided waits in [`Requests`], and the others
//! behind it. What they will need is asked for meanwhile: one question to the hooks for all topics there are, then one
//! [`Effect::Listen`] for each of their channels. Who the client is changes only at the front, so
//! whatever is behind an authorization is not looked at before that is done. The name of a room is that of its channel.
//!
//! Invariant: every [`Effect::Listen`] is followed by one [`Effect::Unlisten`], after the room is up if it comes to that,
//! and at the latest when the connection is nothing to others any more.

mod requests;
mod session;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use shardcast_wire::close::{self, CloseCode};
use shardcast_wire::message::Inbound;
use shardcast_wire::topic::close::close_frame;
use shardcast_wire::topic::{self as wire, Action, Answer, RequestError, SessionId, channel};

use crate::burst::FrameKind;
use crate::conn::{Auth, Conn, Phase};
use crate::event::{Effect, Listening, Now, Question, Verdict};
use crate::ids::ConnId;
use crate::limits::{CloseCodes, Dialect, TopicSettings};
use crate::rates::{Amount, Charge};
use crate::shard::Shard;

pub use requests::{CONTEXT_BYTES_MAX, Requests};
use requests::{Request, State};
pub(crate) use session::{greet, keep_beat, tell_expired};

/// What became of the first request.
enum Outcome {
    /// It is answered.
    Answered,
    /// It goes on waiting.
    Waits,
    /// The same, and its topics are the hooks' to grant.
    Asks,
    /// It is answered, and the connection ends.
    Closes(&'static CloseCode),
}

/// What a client calls a topic.
enum Named {
    /// No name, or a reserved one.
    Bad,
    /// The name of a channel needs a tenant, and the client has none.
    Foreign,
    Channel(String),
}

/// A text or binary message: both are requests.
pub(crate) fn handle_message(shard: &mut Shard, now: Now, id: ConnId, message: Inbound<'_>) {
    match shard.charge(now, id, &Amount::of(&message)) {
        Charge::Granted => {}
        // It is not looked at, and its answer keeps its place.
        Charge::Refused { .. } => return take(shard, now, id, State::Refused, Cow::Borrowed("")),
        Charge::Closed => return,
    }
    let text = match &message {
        Inbound::Text(text) => Some(&**text),
        Inbound::Binary(data) => std::str::from_utf8(data).ok(),
        Inbound::Ping(_) | Inbound::Pong(_) | Inbound::Close(_) => return,
    };
    let session = SessionId::of(&shard.conns.get(id).expect("looked up by the caller").client_id);
    let request = text.ok_or(RequestError::NotJson).and_then(|text| wire::request::parse(text, &session));
    let wire::Request { action, context } = match request {
        Ok(request) => request,
        // What came before is answered before the connection ends.
        Err(error) => {
            shard.counters.requests_malformed[error.index()] += 1;
            return take(shard, now, id, State::Broken(error.close()), Cow::Borrowed(""));
        }
    };
    let state = match action {
        Action::Authorization => State::Authorize,
        Action::Unsubscribe => State::Unsubscribe,
        Action::Subscribe => match shard.charge(now, id, &Amount { joins: 1, ..Amount::default() }) {
            Charge::Granted => State::Subscribe,
            Charge::Refused { .. } => State::Refused,
            Charge::Closed => return,
        },
    };
    take(shard, now, id, state, context);
}

/// An answer of the hooks, or about a channel. One that comes too late finds the connection gone and is dropped.
pub(crate) fn handle_verdict(shard: &mut Shard, now: Now, verdict: Verdict) {
    let id = verdict.conn();
    let Some(mut requests) = shard.conns.get_mut(id).and_then(|conn| conn.requests.take()) else { return };
    let mut end = None;
    match verdict {
        Verdict::Auth { outcome, .. } => {
            if let Some(Request { state: state @ State::Authorizing { .. }, .. }) = requests.first_mut() {
                let is_silent = matches!(state, State::Authorizing { is_silent: true });
                match session::conclude(shard, now, id, is_silent, outcome) {
                    Outcome::Answered | Outcome::Waits => *state = State::Answered,
                    Outcome::Asks => {
                        *state = State::Revalidating;
                        requests.is_asking = true;
                    }
                    Outcome::Closes(code) => end = Some(code),
                }
            }
        }
        Verdict::Rooms { rooms, .. } if requests.is_asking => {
            requests.is_asking = false;
            hear_topics(shard, id, &mut requests, rooms);
        }
        Verdict::RoomsFailed { .. } if requests.is_asking => {
            requests.is_asking = false;
            end = fail_topics(&mut requests);
        }
        Verdict::Listening { room, outcome, .. } => hear_listening(shard, id, &mut requests, &room, outcome),
        Verdict::Rooms { .. } | Verdict::RoomsFailed { .. } | Verdict::ConnectedFailed { .. } => {}
    }
    shard.conns.get_mut(id).expect("just seen").requests = Some(requests);
    match end {
        Some(code) => shard.close(now, id, code),
        None => advance(shard, now, id),
    }
}

/// M8, and the close frame that follows it; `None` where another dialect is spoken.
pub(crate) fn farewell(shard: &mut Shard, id: ConnId, code: &CloseCode) -> Option<Vec<u8>> {
    let conn = shard.conns.get(id).filter(|conn| conn.phase == Phase::Open)?;
    let Dialect::Topic(settings) = &shard.mount(conn.mount).dialect else { return None };
    let last = close_frame(code, settings.close_codes == CloseCodes::Explicit);
    // Bounded, being the last, and wanted even where replies are too many.
    shard.send(id, Bytes::from_static(Answer::Disconnect.frame()), FrameKind::Control);
    Some(last)
}

/// The connection ends to be anything to others, and so do its requests.
pub(crate) fn abandon_requests(shard: &mut Shard, id: ConnId) {
    let Some(conn) = shard.conns.get_mut(id) else { return };
    let Some(requests) = conn.requests.take() else { return };
    let mount = conn.mount;
    shard.input_bytes -= requests.context_bytes();
    for channel in requests.iter().filter_map(|request| request.state.listens_to()) {
        shard.effects.push_back(Effect::Unlisten(mount, channel.clone()));
    }
}

fn settings<'a>(shard: &'a Shard, conn: &Conn) -> &'a TopicSettings {
    match &shard.mount(conn.mount).dialect {
        Dialect::Topic(settings) => settings,
        Dialect::Echo | Dialect::Ignis(_) => unreachable!("it does not speak topic"),
    }
}

fn answer(shard: &mut Shard, id: ConnId, answer: Answer) {
    shard.send(id, Bytes::from_static(answer.frame()), FrameKind::Reply);
}

/// Takes a request in: answers it if it is the first and nothing is to be asked, else it waits.
fn take(shard: &mut Shard, now: Now, id: ConnId, mut state: State, context: Cow<'_, str>) {
    let conn = shard.conns.get_mut(id).expect("looked up by the caller");
    if let Some(requests) = &mut conn.requests {
        shard.input_bytes += context.len();
        requests.push(Request { context: context.into_owned(), state });
        let (len, bytes) = (requests.len(), requests.context_bytes());
        let len_max = settings(shard, shard.conns.get(id).expect("just seen")).requests_waiting_max;
        if len > len_max || bytes > CONTEXT_BYTES_MAX {
            shard.counters.requests_overrun += 1;
            return shard.close(now, id, &close::TOO_MANY_REQUESTS);
        }
        advance(shard, now, id);
        if shard.conns.get(id).is_some_and(|conn| conn.requests.is_some()) {
            shard.shed_input(now, id);
        }
        return;
    }
    let is_asking = match settle(shard, id, &context, &mut state, true) {
        Outcome::Answered => return,
        Outcome::Closes(code) => return shard.close(now, id, code),
        Outcome::Waits => false,
        Outcome::Asks => {
            ask_for(shard, id, vec![context.clone().into_owned()]);
            true
        }
    };
    // The hooks have the token now.
    let is_token = matches!(state, State::Authorizing { .. });
    let context = if is_token { String::new() } else { context.into_owned() };
    shard.input_bytes += context.len();
    let requests = Requests::new(Request { context, state }, is_asking, now.ms);
    shard.conns.get_mut(id).expect("just seen").requests = Some(Box::new(requests));
    shard.shed_input(now, id);
    shard.arm(id);
}

/// Answers what can be answered, and asks for what can be asked for.
fn advance(shard: &mut Shard, now: Now, id: ConnId) {
    let Some(mut requests) = shard.conns.get_mut(id).and_then(|conn| conn.requests.take()) else { return };
    let before = requests.context_bytes();
    let end = loop {
        let may_ask = !requests.is_asking;
        let Some(Request { context, state }) = requests.first_mut() else { break None };
        match settle(shard, id, context, state, may_ask) {
            Outcome::Answered => requests.pop(now.ms),
            Outcome::Waits | Outcome::Asks => break None,
            Outcome::Closes(code) => break Some(code),
        }
    };
    if end.is_none() && !requests.is_asking {
        ask_ahead(shard, id, &mut requests);
    }
    shard.input_bytes -= before - requests.context_bytes();
    if !requests.is_empty() {
        shard.conns.get_mut(id).expect("just seen").requests = Some(requests);
    }
    match end {
        Some(code) => shard.close(now, id, code),
        None => shard.arm(id),
    }
}

/// Does what the first request is about, as far as that is decided.
fn settle(shard: &mut Shard, id: ConnId, context: &str, state: &mut State, may_ask: bool) -> Outcome {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let is_in = conn.auth == Auth::Authenticated;
    match state {
        State::Authorize => {
            session::ask(shard, id, context);
            *state = State::Authorizing { is_silent: false };
            Outcome::Waits
        }
        State::Authorizing { .. } | State::Revalidating => Outcome::Waits,
        State::Answered => Outcome::Answered,
        State::Refused => {
            answer(shard, id, Answer::Unauthorized);
            Outcome::Answered
        }
        State::Broken(code) => Outcome::Closes(code),
        State::Subscribe | State::Postponed | State::Unsubscribe if !is_in => {
            shard.counters.messages_unauthorized += 1;
            answer(shard, id, Answer::Unauthorized);
            Outcome::Closes(&close::SESSION_UNAUTHORIZED)
        }
        State::Subscribe | State::Postponed => subscribe(shard, id, context, state, may_ask),
        State::Asked | State::Listening(_) => Outcome::Waits,
        State::Granted(channel) => {
            let channel = channel.clone();
            join(shard, id, channel)
        }
        State::Unsubscribe => {
            if let Named::Channel(channel) = name(shard, conn, context)
                && let Some(entry) = membership(shard, conn, &channel)
            {
                shard.counters.leaves += 1;
                shard.exit(id, entry);
            }
            answer(shard, id, Answer::Unsubscribed);
            Outcome::Answered
        }
    }
}

/// A topic whose turn has come before anybody was asked about it.
fn subscribe(shard: &mut Shard, id: ConnId, topic: &str, state: &mut State, may_ask: bool) -> Outcome {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let channel = match name(shard, conn, topic) {
        Named::Channel(channel) => channel,
        Named::Foreign => {
            shard.counters.topics_refused_tenant += 1;
            answer(shard, id, Answer::Unauthorized);
            return Outcome::Answered;
        }
        Named::Bad => {
            shard.counters.topics_refused += 1;
            answer(shard, id, Answer::Unauthorized);
            return Outcome::Closes(&close::TOPIC_REFUSED);
        }
    };
    if membership(shard, conn, &channel).is_some() {
        answer(shard, id, Answer::Subscribed);
        return Outcome::Answered;
    }
    if is_full(shard, id, &channel) {
        answer(shard, id, Answer::Unauthorized);
        return Outcome::Answered;
    }
    if !may_ask {
        return Outcome::Waits;
    }
    *state = State::Asked;
    Outcome::Asks
}

/// A topic that is granted and listened to, and whose turn has come.
fn join(shard: &mut Shard, id: ConnId, channel: Arc<str>) -> Outcome {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let mount = conn.mount;
    let is_member = membership(shard, conn, &channel).is_some();
    let is_refused = !is_member && is_full(shard, id, &channel);
    if !is_member && !is_refused {
        shard.enter(id, mount, &channel);
        shard.counters.joins += 1;
    }
    answer(shard, id, if is_refused { Answer::Unauthorized } else { Answer::Subscribed });
    shard.effects.push_back(Effect::Unlisten(mount, channel));
    Outcome::Answered
}

/// Asks for the first topic, if that is to be asked for, and for those whose turn has not come where they can be had
/// as things are.
fn ask_ahead(shard: &mut Shard, id: ConnId, requests: &mut Requests) {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let asked = requests.iter().take(1).filter(|request| matches!(request.state, State::Asked));
    let mut topics: Vec<String> = asked.map(|request| request.context.clone()).collect();
    for (joins, request) in requests.ahead() {
        request.state = State::Postponed;
        if conn.memberships.len() + joins >= shard.config.rooms_per_conn_max {
            continue;
        }
        if let Named::Channel(channel) = name(shard, conn, &request.context)
            && membership(shard, conn, &channel).is_none()
        {
            request.state = State::Asked;
            topics.push(request.context.clone());
        }
    }
    if !topics.is_empty() {
        requests.is_asking = true;
        ask_for(shard, id, topics);
    }
}

fn ask_for(shard: &mut Shard, id: ConnId, topics: Vec<String>) {
    shard.ask(id, Question::ValidateRooms { rooms: topics });
    shard.asked = true;
}

/// The hooks granted these topics.
fn hear_topics(shard: &mut Shard, id: ConnId, requests: &mut Requests, mut granted: Vec<String>) {
    granted.sort_unstable();
    let is_granted = |topic: &str| granted.binary_search_by(|granted| granted.as_str().cmp(topic)).is_ok();
    if let Some(Request { state: state @ State::Revalidating, .. }) = requests.first_mut() {
        *state = State::Answered;
        return session::keep_topics(shard, id, is_granted);
    }
    for request in requests.iter_mut().filter(|request| matches!(request.state, State::Asked)) {
        let conn = shard.conns.get(id).expect("looked up by the caller");
        request.state = match name(shard, conn, &request.context) {
            Named::Channel(channel) if is_granted(&request.context) => listen(shard, id, channel.into()),
            _ => State::Refused,
        };
    }
}

/// Nobody knows which topics are granted: those that are asked for are not, and a client that would have to leave
/// topics without a word is to come back.
fn fail_topics(requests: &mut Requests) -> Option<&'static CloseCode> {
    if requests.first_mut().is_some_and(|first| matches!(first.state, State::Revalidating)) {
        return Some(&close::REQUEST_TIMEOUT);
    }
    for request in requests.iter_mut().filter(|request| matches!(request.state, State::Asked)) {
        request.state = State::Refused;
    }
    None
}

/// What is to be done for a granted topic before it is joined. That others are in its room does not say that Redis has
/// confirmed its channel, so nobody is told that it is subscribed without a question.
fn listen(shard: &mut Shard, id: ConnId, channel: Arc<str>) -> State {
    let mount = shard.conns.get(id).expect("looked up by the caller").mount;
    shard.effects.push_back(Effect::Listen { conn: id, mount, room: channel.clone() });
    State::Listening(channel)
}

fn hear_listening(
    shard: &mut Shard,
    id: ConnId,
    requests: &mut Requests,
    channel: &Arc<str>,
    outcome: Listening,
) {
    let is_it =
        |request: &&mut Request| matches!(&request.state, State::Listening(waits) if waits == channel);
    let Some(request) = requests.iter_mut().find(is_it) else { return };
    request.state = match outcome {
        Listening::Confirmed | Listening::LocalOnly => State::Granted(channel.clone()),
        Listening::Refused => {
            shard.counters.topics_refused_channel += 1;
            let mount = shard.conns.get(id).expect("looked up by the caller").mount;
            shard.effects.push_back(Effect::Unlisten(mount, channel.clone()));
            State::Refused
        }
    };
}

/// The channel of what a client calls a topic.
fn name(shard: &Shard, conn: &Conn, topic: &str) -> Named {
    let settings = settings(shard, conn);
    if !channel::is_name(topic, settings.topic_bytes_max) {
        return Named::Bad;
    }
    match settings.prefix.channel(conn.identity.tenant.as_deref(), topic) {
        None => Named::Foreign,
        Some(channel) if settings.reserved_prefixes.iter().any(|prefix| channel.starts_with(&**prefix)) => {
            Named::Bad
        }
        Some(channel) => Named::Channel(channel),
    }
}

/// Where the channel's room is among those of a connection.
fn membership(shard: &Shard, conn: &Conn, channel: &str) -> Option<usize> {
    let room = shard.rooms.find(conn.mount, channel)?;
    conn.memberships.iter().position(|membership| membership.room == room)
}

/// Whether the connection may not join one more room, which is counted.
fn is_full(shard: &mut Shard, id: ConnId, channel: &str) -> bool {
    let conn = shard.conns.get(id).expect("looked up by the caller");
    let is_made = shard.rooms.find(conn.mount, channel).is_some();
    if conn.memberships.len() >= shard.config.rooms_per_conn_max {
        shard.counters.joins_refused_limit += 1;
    } else if !is_made && shard.rooms.count() >= shard.config.rooms_max {
        shard.counters.joins_refused_rooms_max += 1;
    } else {
        return false;
    }
    true
}
