//! The dialect from bytes to frames, one shard and mostly one client: a script says what comes in, and each line what
//! must come of it.

use std::any::Any;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use shardcast_wire::frame::OpCode;
use shardcast_wire::http::HeadLimits;
use shardcast_wire::message;
use shardcast_wire::topic::{Answer, ChannelPrefix, SessionId};

use crate::event::{AuthOutcome, Effect, Identity, Listening, Mail, Now, Question, RefusalReason, Verdict};
use crate::flush::Written;
use crate::ids::{ConnId, MountId, ShardId};
use crate::limits::{CloseCodes, Dialect, Mount, ShardConfig, SlowConsumer, TopicSettings};
use crate::rates::{Rate, RateLimits, Rates};
use crate::shard::Shard;

const HEAD: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn config(change: impl FnOnce(&mut ShardConfig, &mut TopicSettings)) -> ShardConfig {
    let mut topic = TopicSettings {
        auth_timeout_ms: 30_000,
        ping_interval_ms: 30_000,
        starts_authenticated: false,
        auth_failures_max: 2,
        topic_bytes_max: 20,
        reserved_prefixes: ["ws:".into()].into(),
        prefix: ChannelPrefix::default(),
        requests_waiting_max: 4,
        close_codes: CloseCodes::Explicit,
    };
    let mut config = ShardConfig {
        conns_max: 10,
        handshakes_max: 10,
        outbox_bytes_total_max: 1 << 20,
        input_bytes_total_max: 1 << 20,
        rooms_per_conn_max: 3,
        rooms_max: 100,
        asks_per_conn_max: 1,
        handshake_timeout_ms: 1_000,
        close_timeout_ms: 1_000,
        sealed_bytes_per_turn: 1_000,
        head: HeadLimits::default(),
        addresses: Default::default(),
        counts_addresses: false,
        rates: RateLimits::default(),
        mounts: vec![Mount {
            path: "/".to_owned(),
            dialect: Dialect::Echo,
            origins: Default::default(),
            compression: false,
            messages: message::Limits { message_bytes_max: 70_000, fragments_max: 10 },
            outbox_bytes_max: 1 << 20,
            outbox_messages_max: 100,
            slow_consumer: SlowConsumer::Disconnect,
            idle_timeout_ms: 60_000,
            send_pings: true,
        }],
    };
    change(&mut config, &mut topic);
    config.mounts[0].dialect = Dialect::Topic(topic);
    config
}

struct Rig {
    shard: Shard,
    now: Now,
    clients: Vec<(ConnId, String)>,
    entropy: u8,
    /// What the hooks remember of one client.
    context: Arc<dyn Any + Send + Sync>,
}

impl Rig {
    fn new(change: impl FnOnce(&mut ShardConfig, &mut TopicSettings)) -> Self {
        let now = Now { ms: 1_000, unix_ms: 1_790_000_000_000 };
        let shard = Shard::new(ShardId(0), Arc::new(config(change)), 7, now);
        Self { shard, now, clients: Vec::new(), entropy: 0, context: Arc::new(()) }
    }

    fn connect(&mut self) -> String {
        self.entropy += 1;
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        let id = self.shard.handle_accept(self.now, [self.entropy; 16], address).expect("there is room");
        let session = SessionId::of(&self.shard.conns.get(id).expect("just came").client_id);
        self.clients.push((id, session.as_str().to_owned()));
        self.feed(id, HEAD.as_bytes().to_vec());
        self.outcome()
    }

    fn feed(&mut self, id: ConnId, mut bytes: Vec<u8>) {
        let mut used = 0;
        while used < bytes.len() {
            used += self.shard.handle_bytes(self.now, id, &mut bytes[used..]);
        }
    }

    /// A message of the last client.
    fn message(&mut self, opcode: OpCode, payload: &[u8]) {
        let (id, _) = self.clients.last().expect("somebody is there");
        let mut frame = shardcast_wire::frame::encode(opcode, payload);
        let header_len = frame.len() - payload.len();
        frame[1] |= 0x80;
        frame.splice(header_len..header_len, [0; 4]);
        self.feed(*id, frame);
    }

    /// Does what the line says, and tells what came of it.
    fn step(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (id, session) = self.clients.last().cloned().expect("somebody is there");
        match verb {
            "connect" => return self.connect(),
            "text" => self.message(OpCode::Text, rest.replace('$', &session).as_bytes()),
            "binary" => self.message(OpCode::Binary, rest.replace('$', &session).as_bytes()),
            "bytes" => self.message(OpCode::Binary, b"\xff\xfe"),
            "authorization" | "subscribe" | "unsubscribe" => {
                for context in rest.split(' ') {
                    let text =
                        format!(r#"{{"action":"{verb}","session":"{session}","context":"{context}"}}"#);
                    self.message(OpCode::Text, text.as_bytes());
                }
            }
            "accept" => {
                let (user, tenant) = rest.split_once('@').unwrap_or((rest, ""));
                let identity = Identity {
                    user: (!user.is_empty()).then(|| shardcast_wire::ignis::UserId::from_text(user)),
                    tenant: (!tenant.is_empty()).then(|| tenant.into()),
                    expires_unix_ms: Some(self.now.unix_ms + 3_600_000),
                    ..Identity::default()
                };
                self.auth(id, AuthOutcome::Accepted(identity));
            }
            "remembered" => {
                let identity = Identity { context: Some(self.context.clone()), ..Identity::default() };
                self.auth(id, AuthOutcome::Accepted(identity));
            }
            "unknown" => self.shard.handle_verdict(self.now, Verdict::RoomsFailed { conn: id }),
            "refuse" => self.auth(id, AuthOutcome::Refused(RefusalReason::Hooks)),
            "fail" => self.auth(id, AuthOutcome::Failed),
            "shut" => self.auth(id, AuthOutcome::TooManyConnections),
            "grant" => {
                let rooms = rest.split_whitespace().map(str::to_owned).collect();
                self.shard.handle_verdict(self.now, Verdict::Rooms { conn: id, rooms });
            }
            "confirmed" | "local" | "unheard" => {
                let outcome = match verb {
                    "confirmed" => Listening::Confirmed,
                    "local" => Listening::LocalOnly,
                    _ => Listening::Refused,
                };
                let verdict = Verdict::Listening { conn: id, room: rest.into(), outcome };
                self.shard.handle_verdict(self.now, verdict);
            }
            "publish" => {
                let frame = shardcast_wire::frame::text(&format!("<{rest}>"));
                let frame = bytes::Bytes::from(frame).into();
                let mail =
                    Mail::Room { mount: MountId(0), room: rest.into(), own: None, frame, exclude: None };
                self.shard.handle_mail(self.now, mail);
            }
            "broadcast" => {
                let frame = bytes::Bytes::from(shardcast_wire::frame::text("all")).into();
                self.shard.handle_mail(self.now, Mail::Broadcast { mount: MountId(0), frame, exclude: None });
            }
            "kick" => {
                let mail = Mail::Kick { conn: id, code: &shardcast_wire::close::KICKED };
                self.shard.handle_mail(self.now, mail);
            }
            "close" => self.message(OpCode::Close, &1_000_u16.to_be_bytes()),
            "pong" => self.message(OpCode::Pong, b""),
            "leave" => {
                self.shard.handle_closed(id);
                self.clients.pop();
            }
            "pass" => {
                self.now.ms += rest.parse::<u64>().expect("milliseconds");
                self.shard.handle_tick(self.now);
            }
            verb => panic!("{verb} is nothing that happens"),
        }
        self.outcome()
    }

    fn auth(&mut self, conn: ConnId, outcome: AuthOutcome) {
        self.shard.handle_verdict(self.now, Verdict::Auth { conn, outcome });
    }

    /// What the shard wants and what its clients hear, once its turn is over.
    fn outcome(&mut self) -> String {
        let mut told: Vec<String> = std::iter::from_fn(|| self.shard.poll_effect()).map(effect).collect();
        self.shard.check_invariants();
        while self.shard.poll_writes() {
            let writes: Vec<_> = self.shard.writes().map(|(id, bytes)| (id, bytes.to_vec())).collect();
            for (index, (id, bytes)) in writes.into_iter().enumerate() {
                self.shard.handle_written(self.now, index, Written::Took(bytes.len()));
                let position = self.clients.iter().position(|client| client.0 == id).expect("a client");
                let mark = "'".repeat(self.clients.len() - 1 - position);
                told.extend(texts(&bytes).into_iter().map(|text| mark.clone() + &text));
            }
        }
        told.extend(std::iter::from_fn(|| self.shard.poll_effect()).map(effect));
        self.shard.check_invariants();
        told.join(" ")
    }
}

fn effect(effect: Effect) -> String {
    match effect {
        Effect::Ask(ask) => match ask.question {
            Question::Authenticate { data } => format!("who{data}"),
            Question::ValidateRooms { rooms } => format!("may[{}]", rooms.join(",")),
            question => format!("{question:?}"),
        },
        Effect::ClientUp { .. } => "+client".to_owned(),
        Effect::ClientDown { .. } => "-client".to_owned(),
        Effect::UserUp(_, user) => format!("+user:{}", user.as_json().trim_matches('"')),
        Effect::UserDown(_, user) => format!("-user:{}", user.as_json().trim_matches('"')),
        Effect::RoomUp(_, room) => format!("+room:{room}"),
        Effect::RoomDown(_, room) => format!("-room:{room}"),
        Effect::Listen { room, .. } => format!("listen:{room}"),
        Effect::Unlisten(_, room) => format!("unlisten:{room}"),
        Effect::Fin(_) => "fin".to_owned(),
        Effect::Drop(_) => "drop".to_owned(),
        effect => format!("{effect:?}"),
    }
}

/// The frames of a write by their names in `topic.md`.
fn texts(mut bytes: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    if bytes.starts_with(b"HTTP/1.1 101") {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer ends");
        bytes = &bytes[end + 4..];
        texts.push("101".to_owned());
    }
    while let Some((header_len, len)) = shardcast_wire::frame::frame_len(bytes) {
        let (frame, rest) = bytes.split_at(header_len + len);
        let payload = &frame[header_len..];
        texts.push(match (frame[0], Answer::ALL.iter().position(|answer| answer.frame() == frame)) {
            (_, Some(index)) => ["M1", "M3", "M4", "M5", "M6", "M8"][index].to_owned(),
            (0x89, None) => "ping".to_owned(),
            (0x8a, None) => "pong".to_owned(),
            (0x88, None) if len == 0 => "close".to_owned(),
            (0x88, None) => format!("close{}", u16::from_be_bytes([payload[0], payload[1]])),
            _ if payload.starts_with(br#"{"action":"session","message":"waiting"#) => "M2".to_owned(),
            _ => String::from_utf8(payload.to_vec()).expect("text"),
        });
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a frame");
    texts
}

/// Plays scripts, lines of `what happens => what comes of it`, each with a client that just connected.
fn play(change: impl Fn(&mut ShardConfig, &mut TopicSettings), greeting: &str, scripts: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (name, script) in scripts {
        let mut rig = Rig::new(&change);
        assert_eq!(rig.connect(), greeting);
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (happens, expected) = line.split_once("=>").expect("a line of a script");
            let came = rig.step(happens.trim());
            if came != expected.trim() {
                wrong.push(format!("{name}: {} => {came}, not{expected}", happens.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn requests_are_answered_as_the_table_says() {
    let cases = [
        (
            "topics come and go with their subscribers",
            r#"
            authorization tok => who{"token":"tok"}
            accept u => +client +user:u M3
            subscribe chat => may[chat]
            grant chat => listen:chat
            publish chat =>
            confirmed chat => +room:chat unlisten:chat M5
            publish chat => <chat>
            subscribe chat => M5
            publish chat => <chat>
            unsubscribe chat => -room:chat M6
            unsubscribe chat => M6
            publish chat =>
            "#,
        ),
        (
            "a room that is up is listened to for each who joins, and others do not matter to an unsubscribe",
            r#"
            authorization tok => who{"token":"tok"}
            accept => +client M3
            subscribe a => may[a]
            grant a => listen:a
            local a => +room:a unlisten:a M5
            connect => 101 M1 M2
            authorization tok => who{"token":"tok"}
            accept => +client M3
            unsubscribe a => M6
            subscribe a => may[a]
            grant a => listen:a
            confirmed a => unlisten:a M5
            publish a => '<a> <a>
            leave => -client drop
            publish a => <a>
            "#,
        ),
        ("who is not in is told and closed", "subscribe a => M4 M8 close1008 fin"),
        ("the same", "unsubscribe a => M4 M8 close1008 fin"),
        (
            "tokens may be tried again, not for ever",
            r#"
            authorization a => who{"token":"a"}
            refuse => M4
            authorization b\" => who{"token":"b\""}
            fail => M4
            authorization c => who{"token":"c"}
            shut => M4
            authorization d => who{"token":"d"}
            refuse => M4 M8 close1008 fin
            "#,
        ),
        (
            "what is no request ends the connection in its turn",
            r#"
            authorization a => who{"token":"a"}
            subscribe x =>
            text [] =>
            subscribe y =>
            accept => +client may[x] M3
            grant x => listen:x
            confirmed x => +room:x unlisten:x -room:x -client M5 M8 close1008 fin
            "#,
        ),
        (
            "a token that nobody can check changes nothing",
            r#"
            authorization a => who{"token":"a"}
            accept u => +client +user:u M3
            subscribe a => may[a]
            grant a => listen:a
            confirmed a => +room:a unlisten:a M5
            authorization b => who{"token":"b"}
            fail => M4
            publish a => <a>
            "#,
        ),
        (
            "a client whose topics nobody can look through is to come back, and a topic of that kind is refused",
            r#"
            authorization a => who{"token":"a"}
            accept u => +client +user:u M3
            subscribe b => may[b]
            unknown => M4
            subscribe a => may[a]
            grant a => listen:a
            confirmed a => +room:a unlisten:a M5
            authorization b => who{"token":"b"}
            accept u => may[a] M3
            unknown => -room:a -client -user:u M8 close1013 fin
            "#,
        ),
        (
            "who is just the same may do the same",
            r#"
            authorization a => who{"token":"a"}
            remembered => +client M3
            subscribe a => may[a]
            grant a => listen:a
            confirmed a => +room:a unlisten:a M5
            authorization a => who{"token":"a"}
            remembered => M3
            "#,
        ),
        (
            "a bad token ends what a good one began",
            r#"
            authorization a => who{"token":"a"}
            accept u => +client +user:u M3
            subscribe a => may[a]
            grant a => listen:a
            confirmed a => +room:a unlisten:a M5
            authorization b => who{"token":"b"}
            publish a => <a>
            refuse => -room:a -client -user:u M4
            publish a =>
            authorization b => who{"token":"b"}
            accept v => +client +user:v M3
            subscribe a => may[a]
            authorization x =>
            subscribe b =>
            grant a => listen:a
            confirmed a => +room:a unlisten:a who{"token":"x"} M5
            refuse => -room:a -client -user:v M4 M4 M8 close1008 fin
            "#,
        ),
        (
            "policy and Redis may refuse a topic",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            subscribe a => may[a]
            grant b => M4
            subscribe a => may[a]
            grant a => listen:a
            unheard a => unlisten:a M4
            publish a =>
            "#,
        ),
        (
            "rooms are bounded",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            subscribe a b c d => may[a]
            grant a => listen:a may[b,c]
            grant b c => listen:b listen:c
            confirmed c =>
            confirmed a => +room:a unlisten:a M5
            confirmed b => +room:b unlisten:b +room:c unlisten:c M5 M5 M4
            unsubscribe b => -room:b M6
            subscribe d => may[d]
            "#,
        ),
        (
            "a name that is none ends the connection when its turn comes",
            r#"
            authorization a => who{"token":"a"}
            subscribe a => 
            subscribe ws:x =>
            accept => +client may[a] M3
            grant => -client M4 M4 M8 close1008 fin
            "#,
        ),
        (
            "and so does one that is too long",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            subscribe 123456789012345678901 => -client M4 M8 close1008 fin
            "#,
        ),
        ("not JSON", "text nope => M8 close1007 fin"),
        ("not UTF-8", "bytes => M8 close1007 fin"),
        ("no object", "text [] => M8 close1008 fin"),
        ("no field", "text {} => M8 close1008 fin"),
        ("another session", r#"text {"action":"subscribe","session":"x","context":"a"} => M8 close1008 fin"#),
        ("no action", r#"text {"action":"publish","session":"$","context":"a"} => M8 close1008 fin"#),
        (
            "binary is text",
            r#"binary {"action":"authorization","session":"$","context":"a"} => who{"token":"a"}"#,
        ),
        ("a close of the client's own is echoed", "close => close1000 fin"),
        ("a kick says so", "kick => M8 close1008 fin"),
        (
            "what waits is bounded by count",
            r#"
            authorization a => who{"token":"a"}
            subscribe b c d =>
            subscribe e => M8 close1013 fin
            "#,
        ),
        (
            "a connection that goes away settles what it listens to",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            subscribe a b => may[a]
            grant a => listen:a may[b]
            grant b => listen:b
            confirmed b =>
            kick => unlisten:a unlisten:b -client M8 close1008 fin
            confirmed a =>
            "#,
        ),
        (
            "no token in time, and none that is answered",
            r#"
            pass 29999 =>
            pass 20 => M8 close1008 fin
            connect => 101 M1 M2
            authorization a => who{"token":"a"}
            pass 59000 => drop
            pong =>
            pass 30980 =>
            pass 40 => M8 close1008 fin
            "#,
        ),
        (
            "pings keep their beat, and silence ends",
            r#"
            pass 5000 =>
            authorization a => who{"token":"a"}
            accept => +client M3
            pass 24990 =>
            pass 26 => ping
            pass 29984 =>
            pong =>
            pass 16 => ping
            pass 30000 => ping
            pass 29960 =>
            pass 40 => ping
            pass 16 => -client drop
            "#,
        ),
        (
            "a request that nobody decides ends the connection",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            subscribe a => may[a]
            pass 59000 => ping
            pong =>
            pass 30960 => ping
            pass 60 => -client M8 close1013 fin
            "#,
        ),
    ];
    play(|_, _| {}, "101 M1 M2", &cases);
}

#[test]
fn another_token_is_another_client() {
    let change = |_: &mut ShardConfig, topic: &mut TopicSettings| {
        topic.prefix = ChannelPrefix::parse("t:{tenant}:").expect("good");
        topic.reserved_prefixes = ["t:evil:".into()].into();
    };
    let in_rooms = r#"
        authorization a => who{"token":"a"}
        accept u@acme => +client +user:u M3
        subscribe a b => may[a]
        grant a => listen:t:acme:a may[b]
        local t:acme:a => +room:t:acme:a unlisten:t:acme:a M5
        grant b => listen:t:acme:b
        local t:acme:b => +room:t:acme:b unlisten:t:acme:b M5
        "#;
    let then = |script: &str| [in_rooms, script].concat();
    let cases = [
        (
            "who keeps what is granted again, before later requests",
            then(
                r#"
                authorization b => who{"token":"b"}
                subscribe a b =>
                accept u@acme => may[a,b] M3
                publish t:acme:a => <t:acme:a>
                grant b => -room:t:acme:a may[a]
                grant a => listen:t:acme:a
                confirmed t:acme:a => +room:t:acme:a unlisten:t:acme:a M5 M5
                "#,
            ),
        ),
        (
            "another user",
            then("authorization b => who{\"token\":\"b\"}\n accept v@acme => -user:u +user:v may[a,b] M3"),
        ),
        (
            "another tenant",
            then(
                "authorization b => who{\"token\":\"b\"}
                accept u@other => -room:t:acme:b -room:t:acme:a M3
                subscribe a => may[a]
                grant a => listen:t:other:a",
            ),
        ),
        (
            "no tenant, which is no reason to end",
            then(
                "authorization b => who{\"token\":\"b\"}
                accept => -user:u -room:t:acme:b -room:t:acme:a M3
                subscribe a => M4
                unsubscribe a => M6",
            ),
        ),
        (
            "a reserved channel by way of the tenant",
            then(
                "authorization b => who{\"token\":\"b\"}
                accept @evil => -user:u -room:t:acme:b -room:t:acme:a M3
                subscribe a => -client M4 M8 close1008 fin",
            ),
        ),
    ];
    let cases: Vec<_> = cases.iter().map(|(name, script)| (*name, script.as_str())).collect();
    play(change, "101 M1 M2", &cases);
}

#[test]
fn where_everyone_is_let_in_nobody_needs_a_token() {
    let cases = [
        (
            "let in silently, and what was said meanwhile counts",
            r#"
            subscribe a =>
            accept => +client may[a]
            authorization x =>
            grant a => listen:a
            local a => +room:a unlisten:a who{"token":"x"} M5
            accept => may[a] M3
            grant a =>
            "#,
        ),
        (
            "not let in, silently",
            r#"
            refuse =>
            authorization x => who{"token":"x"}
            accept => +client M3
            "#,
        ),
        ("the same", "fail => \n subscribe a => M4 M8 close1008 fin"),
    ];
    play(|_, topic| topic.starts_authenticated = true, "who{} 101 M1 M2", &cases);
}

#[test]
fn a_topic_may_be_called_anything_and_closes_can_be_as_the_reference() {
    let change = |config: &mut ShardConfig, topic: &mut TopicSettings| {
        (topic.reserved_prefixes, topic.topic_bytes_max) = ([].into(), 100);
        topic.close_codes = CloseCodes::Compat;
        config.mounts[0].idle_timeout_ms = 0;
    };
    let own = "01010101-0101-4101-8101-010101010101";
    let own_room = format!(
        "authorization a => who{{\"token\":\"a\"}}
        accept => +client M3
        subscribe {own} => may[{own}]
        grant {own} => listen:{own}
        local {own} => +room:{own} unlisten:{own} M5
        publish {own} => <{own}>
        unsubscribe {own} => -room:{own} M6"
    );
    let cases = [
        (
            "the room of all clients",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            broadcast =>
            subscribe ws:internal:broadcast => may[ws:internal:broadcast]
            grant ws:internal:broadcast => listen:ws:internal:broadcast
            local ws:internal:broadcast => +room:ws:internal:broadcast unlisten:ws:internal:broadcast M5
            broadcast =>
            publish ws:internal:broadcast => <ws:internal:broadcast>
            kick => -room:ws:internal:broadcast -client M8 close fin
            "#,
        ),
        ("the client's own id", &own_room),
        (
            "a token expires",
            r#"
            authorization a => who{"token":"a"}
            accept => +client M3
            pass 3600000 => ping
            pass 16 => -client M4 M8 close fin
            "#,
        ),
        ("no JSON", "text nope => M8 close fin"),
        ("an echo is one", "close => close1000 fin"),
    ];
    play(change, "101 M1 M2", &cases);
}

#[test]
fn rates_are_answered_in_order_and_waiting_bytes_are_bounded() {
    let rate = |burst| Some(Rate::new(1, std::time::Duration::from_secs(1_000), burst));
    let change = |config: &mut ShardConfig, topic: &mut TopicSettings| {
        topic.requests_waiting_max = 10;
        let connection = Rates { messages: rate(4), joins: rate(1), ..Rates::default() };
        config.rates = RateLimits { connection, refusals_max: 3, ..RateLimits::default() };
    };
    let script = r#"
        authorization a => who{"token":"a"}
        subscribe a b =>
        unsubscribe a =>
        unsubscribe b =>
        accept => +client may[a] M3
        grant a => listen:a
        confirmed a => +room:a unlisten:a -room:a M5 M4 M6 M4
        text nope => M4
        text nope => -client M8 close1008 fin
        "#;
    play(change, "101 M1 M2", &[("rates", script)]);

    let long = "x".repeat(69_000);
    let waits = format!("subscribe a => \n subscribe {long} =>\n").repeat(2);
    let script = format!(
        "authorization a => who{{\"token\":\"a\"}}
        {waits} subscribe {long} => \n subscribe {long} => M8 close1013 fin"
    );
    play(|_, topic| topic.requests_waiting_max = 100, "101 M1 M2", &[("of a connection", &script)]);
    let change = |config: &mut ShardConfig, _: &mut TopicSettings| config.input_bytes_total_max = 100_000;
    let script = format!(
        "authorization a => who{{\"token\":\"a\"}}
        subscribe {long} =>
        subscribe {long} => M8 close1013 fin"
    );
    play(change, "101 M1 M2", &[("of a shard", &script)]);
}
