//! What the topic dialect makes of a message, of an answer of the hooks and of time (`topic.md` §2 to §5).

use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_shard::{CloseCodes, Dialect, Identity, Listening, Now, ShardConfig, TopicSettings, Verdict};
use shardcast_wire::close::{self, CloseCode};

use super::super::bytes::{close_frame, opcode, server_frame};
use super::super::line::Frame;
use super::super::scenario::TOPIC_BYTES_MAX;
use super::super::speech::{TopicAction, TopicSaid};
use super::clock::Due;
use super::{Auth, Conn, Model, Phase, Question};

const CONNECTED: &str = r#"{"action":"connect","message":"connection established"}"#;
const AUTHENTICATED: &str = r#"{"action":"session","message":"session authenticated"}"#;
const UNAUTHORIZED: &str = r#"{"action":"session","message":"session unauthorized"}"#;
const SUBSCRIBED: &str = r#"{"action":"subscribe","message":"context subscribed"}"#;
const UNSUBSCRIBED: &str = r#"{"action":"unsubscribe","message":"context unsubscribed"}"#;
const DISCONNECT: &str = r#"{"action":"connect","message":"client disconnect"}"#;

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// As it came.
    New,
    /// A subscription that was looked at before its turn and could not be had then.
    Seen,
    /// The hooks are asked; a token's question may be the server's own.
    Asked {
        is_silent: bool,
    },
    /// The topics of a new identity are asked for.
    Revalidating,
    /// Granted, and Redis is asked.
    Listening,
    /// May be joined.
    Ready,
    Refused,
    /// No request: it ends the connection.
    Broken(&'static CloseCode),
    Done,
}

/// A request without its answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    action: TopicAction,
    context: String,
    stage: Stage,
}

impl Request {
    fn listens(&self) -> bool {
        matches!(self.stage, Stage::Listening | Stage::Ready)
    }

    fn is_authorization(&self) -> bool {
        self.action == TopicAction::Authorize && self.stage != Stage::Done
    }

    fn is_asked_for(&self) -> bool {
        self.action == TopicAction::Subscribe && matches!(self.stage, Stage::Asked { .. })
    }
}

/// A connection's state beyond what all have.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    pub(crate) session: String,
    pub(crate) requests: Vec<Request>,
    pub(crate) tenant: Option<String>,
    /// The hooks are asked for topics, which is one question at a time.
    pub(super) is_asking: bool,
    failures: usize,
    waits_since_ms: u64,
    pub(crate) beat_ms: u64,
}

impl Topic {
    pub(super) fn new(session: String) -> Self {
        Self { session, ..Self::default() }
    }

    /// Pings come at whole intervals from the start.
    pub(super) fn keep_beat(&mut self, interval_ms: u64, now: Now) {
        while self.beat_ms + interval_ms <= now.ms {
            self.beat_ms += (now.ms - self.beat_ms) / interval_ms * interval_ms;
        }
    }
}

impl Model {
    pub(crate) fn topics(&self, conn: usize) -> Option<TopicSettings> {
        let conn = &self.conns[conn];
        match &self.config.mounts[conn.mount].dialect {
            Dialect::Topic(settings) if conn.phase != Phase::Head => Some(settings.clone()),
            _ => None,
        }
    }

    fn reply(&mut self, conn: usize, text: &str) {
        self.conns[conn].turn.push(Frame::reply(server_frame(opcode::TEXT, text.as_bytes())));
    }

    /// M8, and the close frame that follows it on a topic mount.
    pub(super) fn farewell(&mut self, conn: usize, code: &CloseCode) -> Option<Vec<u8>> {
        let settings = self.topics(conn)?;
        let disconnect = server_frame(opcode::TEXT, DISCONNECT.as_bytes());
        self.conns[conn].turn.push(Frame::control(disconnect));
        Some(match (settings.close_codes, code.code) {
            (CloseCodes::Compat, _) => server_frame(opcode::CLOSE, &[]),
            (CloseCodes::Explicit, 4_000..) => close_frame(1_008, code.reason),
            (CloseCodes::Explicit, status) => close_frame(status, code.reason),
        })
    }

    /// A connection is open. Returns whether the hooks are asked about it.
    pub(super) fn greet(&mut self, conn: usize, now: Now) -> bool {
        let Some(settings) = self.topics(conn) else { return false };
        let session = self.conns[conn].topic.session.clone();
        self.reply(conn, CONNECTED);
        let text = r#"{"action":"session","message":"waiting for create session","session":"#;
        self.reply(conn, &format!("{text}\"{session}\"}}"));
        let conn = &mut self.conns[conn];
        (conn.topic.beat_ms, conn.topic.waits_since_ms) = (now.ms, now.ms);
        if settings.starts_authenticated {
            conn.owed.questions.push_back(Question::Authenticate("{}".to_owned()));
            let stage = Stage::Asked { is_silent: true };
            let first = Request { action: TopicAction::Authorize, context: String::new(), stage };
            conn.topic.requests.push(first);
        }
        settings.starts_authenticated
    }

    /// A message of an open connection. Returns whether the shard must stop to ask.
    pub(super) fn hear_topic(&mut self, conn: usize, said: &TopicSaid, now: Now) -> bool {
        let (action, context, stage) = match said {
            // Whatever it asks for.
            TopicSaid::NoRequest(code) => (TopicAction::Unsubscribe, String::new(), Stage::Broken(code)),
            TopicSaid::Request(action, context) => (*action, context.clone(), Stage::New),
        };
        let settings = self.topics(conn).expect("it speaks topic");
        let state = &mut self.conns[conn];
        let questions = state.owed.questions.len();
        if state.topic.requests.is_empty() {
            state.topic.waits_since_ms = now.ms;
        }
        state.topic.requests.push(Request { action, context, stage });
        let is_first = state.topic.requests.len() == 1;
        if !is_first && state.topic.requests.len() > settings.requests_waiting_max {
            self.close(conn, &close::TOO_MANY_REQUESTS, now);
            return false;
        }
        self.go_on(conn, now);
        self.conns[conn].owed.questions.len() > questions
    }

    pub(super) fn topic_verdict(&mut self, conn: usize, verdict: &Verdict, now: Now) {
        let requests = &mut self.conns[conn].topic.requests;
        if requests.is_empty() {
            return;
        }
        match verdict {
            Verdict::Auth { outcome, .. } => {
                if requests[0].action == TopicAction::Authorize
                    && let Stage::Asked { is_silent } = requests[0].stage
                {
                    self.conclude(conn, outcome, is_silent, now);
                }
            }
            Verdict::Rooms { rooms, .. } => {
                self.conns[conn].topic.is_asking = false;
                let requests = &mut self.conns[conn].topic.requests;
                if requests[0].stage == Stage::Revalidating {
                    requests[0].stage = Stage::Done;
                    let conn = &mut self.conns[conn];
                    let kept: Vec<_> =
                        rooms.iter().filter_map(|topic| conn.channel(&self.config, topic)).collect();
                    conn.rooms.retain(|room| kept.contains(room));
                } else {
                    self.hear_granted(conn, rooms);
                }
            }
            Verdict::RoomsFailed { .. } => {
                self.conns[conn].topic.is_asking = false;
                let requests = &mut self.conns[conn].topic.requests;
                if requests[0].stage == Stage::Revalidating {
                    self.close(conn, &close::REQUEST_TIMEOUT, now);
                } else {
                    let asked = requests.iter_mut().filter(|request| request.is_asked_for());
                    asked.for_each(|request| request.stage = Stage::Refused);
                }
            }
            Verdict::Listening { room, outcome, .. } => {
                let channels: Vec<_> =
                    (0..requests.len()).map(|index| self.channel_of(conn, index)).collect();
                let requests = &mut self.conns[conn].topic.requests;
                let is_it = |(index, request): (usize, &Request)| {
                    request.stage == Stage::Listening && channels[index].as_deref() == Some(&**room)
                };
                if let Some(index) = requests.iter().enumerate().position(is_it) {
                    requests[index].stage = match outcome {
                        Listening::Refused => Stage::Refused,
                        Listening::Confirmed | Listening::LocalOnly => Stage::Ready,
                    };
                }
            }
            Verdict::ConnectedFailed { .. } => panic!("nobody was told that {conn} connected"),
        }
        if self.conns[conn].phase == Phase::Open {
            self.go_on(conn, now);
        }
    }

    fn hear_granted(&mut self, conn: usize, granted: &[String]) {
        for index in 0..self.conns[conn].topic.requests.len() {
            if !self.conns[conn].topic.requests[index].is_asked_for() {
                continue;
            }
            let is_granted = granted.contains(&self.conns[conn].topic.requests[index].context);
            let stage = if is_granted { self.listen(conn, index) } else { Stage::Refused };
            self.conns[conn].topic.requests[index].stage = stage;
        }
    }

    /// Redis is asked for a channel, whoever else is in its room.
    fn listen(&mut self, conn: usize, index: usize) -> Stage {
        let channel = self.channel_of(conn, index).expect("a topic that is asked for has a channel");
        self.conns[conn].owed.listens.push_back(channel);
        Stage::Listening
    }

    fn has_members(&self, conn: usize, channel: &str) -> bool {
        let Conn { shard, mount, .. } = self.conns[conn];
        let here = self.conns.iter().filter(|other| other.shard == shard && other.mount == mount);
        here.into_iter().any(|other| other.rooms.iter().any(|room| room == channel))
    }

    fn channel_of(&self, conn: usize, index: usize) -> Option<String> {
        let conn = &self.conns[conn];
        conn.channel(&self.config, &conn.topic.requests[index].context)
    }

    fn conclude(&mut self, index: usize, outcome: &AuthOutcome, is_silent: bool, now: Now) {
        let settings = self.topics(index).expect("it speaks topic");
        let conn = &mut self.conns[index];
        conn.topic.requests[0].stage = Stage::Done;
        let (AuthOutcome::Accepted(identity) | AuthOutcome::Encrypted(identity, _)) = outcome else {
            if is_silent {
                return;
            }
            // Nobody knows, so nothing changes.
            let keys_away = RefusalReason::KeysUnavailable;
            if matches!(outcome, AuthOutcome::Failed)
                || matches!(outcome, AuthOutcome::Refused(reason) if *reason == keys_away)
            {
                return self.reply(index, UNAUTHORIZED);
            }
            if conn.auth == Auth::Done {
                conn.since_ms = now.ms;
            }
            conn.log_out();
            conn.topic.failures += 1;
            let is_last = conn.topic.failures > usize::from(settings.auth_failures_max);
            self.reply(index, UNAUTHORIZED);
            if is_last {
                self.close(index, &close::TOO_MANY_REFUSALS, now);
            }
            return;
        };
        self.admit_topic(index, identity, &settings, now);
        if !is_silent {
            self.reply(index, AUTHENTICATED);
        }
        let conn = &mut self.conns[index];
        if !conn.rooms.is_empty() {
            let topics =
                conn.rooms.iter().map(|room| settings.prefix.topic(room).expect("a topic").to_owned());
            let topics = topics.collect();
            conn.owed.questions.push_back(Question::ValidateRooms(topics, conn.user.clone()));
            conn.topic.requests[0].stage = Stage::Revalidating;
            conn.topic.is_asking = true;
        }
    }

    fn admit_topic(&mut self, index: usize, identity: &Identity, settings: &TopicSettings, now: Now) {
        let conn = &mut self.conns[index];
        if conn.auth != Auth::Done {
            conn.topic.keep_beat(settings.ping_interval_ms, now);
        }
        conn.auth = Auth::Done;
        conn.user = identity.user.clone();
        conn.topic.tenant = identity.tenant.as_deref().map(str::to_owned);
        conn.expires_ms = identity.expires_unix_ms.map(|at| now.ms + at.saturating_sub(now.unix_ms));
        let tenant = conn.topic.tenant.clone();
        let is_own = |room: &String| {
            let topic = settings.prefix.topic(room).expect("a topic");
            settings.prefix.channel(tenant.as_deref(), topic).as_ref() == Some(room)
        };
        conn.rooms.retain(is_own);
    }

    /// Answers what can be answered in its turn, then asks for whatever else can be.
    fn go_on(&mut self, conn: usize, now: Now) {
        while self.conns[conn].phase == Phase::Open && !self.conns[conn].topic.requests.is_empty() {
            if !self.settle_first(conn, now) {
                break;
            }
            let topic = &mut self.conns[conn].topic;
            if !topic.requests.is_empty() {
                topic.requests.remove(0);
            }
            topic.waits_since_ms = now.ms;
        }
        if self.conns[conn].phase == Phase::Open {
            self.ask_ahead(conn);
        }
    }

    /// Returns whether the first request is answered.
    fn settle_first(&mut self, conn: usize, now: Now) -> bool {
        let Request { action, context, stage } = self.conns[conn].topic.requests[0].clone();
        let is_in = self.conns[conn].auth == Auth::Done;
        match (action, stage) {
            (_, Stage::Done) => {}
            (_, Stage::Refused) => self.reply(conn, UNAUTHORIZED),
            (_, Stage::Broken(code)) => self.close(conn, code, now),
            (TopicAction::Authorize, Stage::New) => {
                let conn = &mut self.conns[conn];
                conn.topic.requests[0].stage = Stage::Asked { is_silent: false };
                let data = format!(r#"{{"token":"{}"}}"#, context.replace('"', "\\\""));
                conn.owed.questions.push_back(Question::Authenticate(data));
                return false;
            }
            (_, Stage::Asked { .. } | Stage::Revalidating | Stage::Listening) => return false,
            _ if !is_in => {
                self.reply(conn, UNAUTHORIZED);
                self.close(conn, &close::SESSION_UNAUTHORIZED, now);
            }
            (TopicAction::Unsubscribe, _) => {
                let channel = self.channel_of(conn, 0);
                self.conns[conn].rooms.retain(|room| Some(room) != channel.as_ref());
                self.reply(conn, UNSUBSCRIBED);
            }
            (TopicAction::Subscribe, stage) => return self.settle_subscribe(conn, &context, stage, now),
            (TopicAction::Authorize, stage) => panic!("a token is {stage:?}"),
        }
        true
    }

    fn settle_subscribe(&mut self, conn: usize, topic: &str, stage: Stage, now: Now) -> bool {
        let Some(channel) = self.conns[conn].channel(&self.config, topic) else {
            self.reply(conn, UNAUTHORIZED);
            if self.conns[conn].is_bad_name(&self.config, topic) {
                self.close(conn, &close::TOPIC_REFUSED, now);
            }
            return true;
        };
        if self.conns[conn].rooms.contains(&channel) {
            self.reply(conn, SUBSCRIBED);
            return true;
        }
        let is_made = self.has_members(conn, &channel);
        let is_full = self.conns[conn].rooms.len() >= self.config.rooms_per_conn_max;
        if is_full || (!is_made && self.rooms_on(self.conns[conn].shard).len() >= self.config.rooms_max) {
            self.reply(conn, UNAUTHORIZED);
            return true;
        }
        match stage {
            Stage::Ready => {
                self.conns[conn].rooms.push(channel);
                self.reply(conn, SUBSCRIBED);
                return true;
            }
            // Asked for with the others, once no question is open.
            _ if self.conns[conn].topic.is_asking => {}
            _ => self.conns[conn].topic.requests[0].stage = Stage::Asked { is_silent: false },
        }
        false
    }

    /// One question for all topics that are not behind a token; `Asked` may be the first of them.
    fn ask_ahead(&mut self, index: usize) {
        let conn = &self.conns[index];
        let mut topics = Vec::new();
        let mut requests = conn.topic.requests.clone();
        if conn.topic.is_asking {
            return;
        }
        let mut ahead = 0;
        for (at, request) in requests.iter_mut().enumerate() {
            if request.is_authorization() || matches!(request.stage, Stage::Broken(_)) {
                break;
            }
            if request.action != TopicAction::Subscribe
                || matches!(request.stage, Stage::Refused | Stage::Done)
            {
                continue;
            }
            if at == 0 && request.is_asked_for() {
                topics.push(request.context.clone());
            } else if request.stage == Stage::New {
                request.stage = Stage::Seen;
                let channel = conn.channel(&self.config, &request.context);
                let is_new = channel.is_some_and(|channel| !conn.rooms.contains(&channel));
                if is_new && conn.rooms.len() + ahead < self.config.rooms_per_conn_max {
                    request.stage = Stage::Asked { is_silent: false };
                    topics.push(request.context.clone());
                }
            }
            ahead += 1;
        }
        let conn = &mut self.conns[index];
        conn.topic.requests = requests;
        if !topics.is_empty() {
            conn.topic.is_asking = true;
            conn.owed.questions.push_back(Question::ValidateRooms(topics, conn.user.clone()));
        }
    }
}

impl Model {
    /// The clock closed a connection: the first reason that holds is the one.
    pub(super) fn close_topic_as_due(&mut self, index: usize, is_drained: bool, now: Now) {
        if is_drained {
            return self.close(index, &close::SERVER_SHUTTING_DOWN, now);
        }
        let closes = |&(at_ms, due): &(u64, Due)| {
            at_ms <= now.ms && matches!(due, Due::Auth | Due::Answer | Due::Expiry)
        };
        let deadlines = self.deadlines(index);
        let first = deadlines.iter().copied().filter(closes).min_by_key(|&(at_ms, _)| at_ms);
        let (_, due) = first.unwrap_or_else(|| panic!("connection {index} is closed, due {deadlines:?}"));
        match due {
            Due::Auth => self.close(index, &close::AUTHENTICATION_TIMEOUT, now),
            Due::Answer => self.close(index, &close::REQUEST_TIMEOUT, now),
            _ => {
                self.reply(index, UNAUTHORIZED);
                self.close(index, &close::TOKEN_EXPIRED, now);
            }
        }
    }

    /// Every listening of a shard that is not settled.
    pub(crate) fn listens_on(&self, shard: usize) -> Vec<(usize, String)> {
        let mut listens = Vec::new();
        for conn in self.conns.iter().filter(|conn| conn.shard == shard) {
            let open = conn.topic.requests.iter().filter(|request| request.listens());
            let channels = open.filter_map(|request| conn.channel(&self.config, &request.context));
            listens.extend(channels.map(|channel| (conn.mount, channel)));
        }
        listens.sort_unstable();
        listens
    }
}

impl Conn {
    pub(super) fn topic_deadlines(&self, settings: &TopicSettings, idle_ms: u64) -> Vec<(u64, Due)> {
        let mut deadlines = Vec::new();
        let is_in = self.auth == Auth::Done;
        let answer_ms = self.topic.waits_since_ms + 3 * settings.auth_timeout_ms;
        match (self.topic.requests.is_empty(), is_in) {
            (true, true) => {}
            (true, false) => deadlines.push((self.since_ms + settings.auth_timeout_ms, Due::Auth)),
            (false, true) => deadlines.push((answer_ms, Due::Answer)),
            (false, false) => deadlines.push((answer_ms, Due::Auth)),
        }
        if is_in {
            deadlines.push((self.topic.beat_ms + settings.ping_interval_ms, Due::Ping));
            deadlines.extend(self.expires_ms.map(|at_ms| (at_ms, Due::Expiry)));
        }
        if idle_ms > 0 {
            deadlines.push((self.traffic_ms + idle_ms, Due::Idle));
        }
        deadlines
    }

    /// The channel of a topic that the client may name.
    fn channel(&self, config: &ShardConfig, topic: &str) -> Option<String> {
        let Dialect::Topic(settings) = &config.mounts[self.mount].dialect else { return None };
        let channel = settings.prefix.channel(self.topic.tenant.as_deref(), topic);
        channel.filter(|_| !self.is_bad_name(config, topic))
    }

    fn is_bad_name(&self, config: &ShardConfig, topic: &str) -> bool {
        let Dialect::Topic(settings) = &config.mounts[self.mount].dialect else { return true };
        let channel = settings.prefix.channel(self.topic.tenant.as_deref(), topic);
        let is_reserved =
            |channel: String| settings.reserved_prefixes.iter().any(|prefix| channel.starts_with(&**prefix));
        topic.len() > TOPIC_BYTES_MAX || topic.contains('\n') || channel.is_some_and(is_reserved)
    }
}
