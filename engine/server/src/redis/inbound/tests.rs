//! Every receive rule of `ignis.md` §11, from the bytes of a message to the mail in the shards' boxes.

use shardcast_shard::{ClientRef, ConnId, Mail, ShardId};

use super::*;
use crate::directory::Directory;
use crate::mailbox::{MailReceiver, mailbox};

const MOUNT: MountId = MountId(0);
const SHARD_COUNT: u8 = 2;
const OWN: &str = "11111111-1111-4111-8111-111111111111";
/// Connected to shard 1.
const HERE: &str = "abcdef22-2222-4222-8222-222222222222";
/// Connected nowhere.
const ELSEWHERE: &str = "33333333-3333-4333-8333-333333333333";

struct Rig {
    inbound: Inbound,
    boxes: Vec<MailReceiver>,
    status: Arc<Status>,
}

/// One member of `room` on each shard, and one connection of users `"u1"` and `42` on shard 1.
fn rig() -> Rig {
    let directory = Arc::new(Directory::new(1));
    let at = ClientRef { shard: ShardId(1), conn: ConnId { slot: 7, generation: 1 } };
    directory.client_up(ClientId::parse(HERE).expect("an id"), MOUNT, at);
    for shard in 0..SHARD_COUNT {
        directory.room_up(MOUNT, Arc::from("room"), ShardId(shard));
    }
    for user in [r#""u1""#, "42"] {
        directory.user_up(MOUNT, UserId::from_json(user).expect("a user"), ShardId(1));
    }
    let (senders, boxes) = (0..SHARD_COUNT).map(|_| mailbox(64).expect("eventfd")).unzip();
    let status = Arc::new(Status::new(Instant::now(), "epoll", usize::from(SHARD_COUNT)));
    let router = Arc::new(Router::new(directory, senders));
    Rig { inbound: Inbound::new(OWN.to_owned(), MOUNT, router, status.clone()), boxes, status }
}

/// What a letter is and to whom, `exclude` as the slots it names, and the text of its frame.
fn describe(shard: usize, mail: Mail) -> String {
    let (what, frame, exclude) = match mail {
        Mail::Broadcast { frame, exclude, .. } => ("broadcast".to_owned(), frame.plain, exclude),
        Mail::Room { room, own, frame, exclude, .. } => {
            let own = own.map_or(String::new(), |conn| format!("+{}", conn.slot));
            (format!("room {room}{own}"), frame.plain, exclude)
        }
        Mail::Direct { conn, frame } => (format!("direct {}", conn.slot), frame.plain, None),
        Mail::User { user, frame, .. } => (format!("user {user}"), frame.plain, None),
        other => panic!("no message: {other:?}"),
    };
    let without: String =
        exclude.iter().flat_map(|list| list.iter()).map(|at| format!(" -{}", at.conn.slot)).collect();
    let header = if frame[1] < 126 { 2 } else { 4 };
    format!("{shard}: {what}{without} {}", std::str::from_utf8(&frame[header..]).expect("text"))
}

impl Rig {
    fn receive(&mut self, message: &[u8]) -> Vec<String> {
        let router = self.inbound.router().clone();
        self.inbound.handle(message, &mut router.batch());
        let letters = self.boxes.iter().enumerate();
        letters
            .flat_map(|(shard, mail)| std::iter::from_fn(|| mail.take()).map(move |m| describe(shard, m)))
            .collect()
    }

    fn counters(&self) -> [u64; 3] {
        let process = &self.status.process;
        [&process.redis_received, &process.redis_own, &process.redis_malformed]
            .map(|c| c.load(Ordering::Relaxed))
    }
}

/// A message with the members after `serverId`.
fn from_other(rest: &str) -> String {
    format!(r#"{{"serverId":"other",{rest}}}"#)
}

#[test]
fn each_type_reaches_whom_it_names() {
    let x = r#"{"event":"x"}"#;
    for (rest, expected) in [
        (r#""type":"broadcast","event":"x""#, vec!["0: broadcast", "1: broadcast"]),
        (r#""type":"room","target":"room","event":"x""#, vec!["0: room room", "1: room room"]),
        (r#""type":"room","target":"empty","event":"x""#, vec![]),
        (r#""type":"user","target":"u1","event":"x""#, vec![r#"1: user "u1""#]),
        (r#""type":"user","target":42,"event":"x""#, vec!["1: user 42"]),
        (r#""type":"user","target":4.2e1,"event":"x""#, vec!["1: user 42"]),
        (r#""type":"user","target":"42","event":"x""#, vec![]),
        (r#""type":"user","target":"nobody","event":"x""#, vec![]),
        (r#""type":"client","target":"nobody","event":"x""#, vec![]),
    ] {
        let expected: Vec<String> = expected.iter().map(|what| format!("{what} {x}")).collect();
        let mut rig = rig();
        assert_eq!(rig.receive(from_other(rest).as_bytes()), expected, "{rest}");
        assert_eq!(rig.counters(), [1, 0, 0], "{rest}");
    }
}

#[test]
fn a_client_is_reached_by_its_id_as_client_and_as_room() {
    for (target, client, room) in [
        (
            HERE.to_owned(),
            vec![r#"1: direct 7 {"event":"x"}"#],
            vec![format!(r#"1: room {HERE}+7 {{"event":"x"}}"#)],
        ),
        (ELSEWHERE.to_owned(), vec![], vec![]),
        (HERE.to_uppercase(), vec![], vec![]),
    ] {
        let mut rig = rig();
        let message = |kind: &str| from_other(&format!(r#""type":"{kind}","target":"{target}","event":"x""#));
        assert_eq!(rig.receive(message("client").as_bytes()), client);
        assert_eq!(rig.receive(message("room").as_bytes()), room);
        assert_eq!(rig.counters(), [2, 0, 0]);
    }
}

#[test]
fn data_is_absent_or_passed_on_as_written() {
    for (data, expected) in [
        ("", r#"{"event":"x"}"#),
        (r#","data":null"#, r#"{"event":"x","data":null}"#),
        (r#","data" : {"b":1.0,"a":"\ud800"} "#, r#"{"event":"x","data":{"b":1.0,"a":"\ud800"}}"#),
    ] {
        let message = from_other(&format!(r#""type":"user","target":"u1","event":"x"{data}"#));
        assert_eq!(rig().receive(message.as_bytes()), [format!(r#"1: user "u1" {expected}"#)]);
    }
}

#[test]
fn reserved_and_empty_event_names_pass() {
    for event in ["connected", "error", "disconnect", "encrypted", ""] {
        let message = from_other(&format!(r#""type":"user","target":"u1","event":"{event}""#));
        assert_eq!(rig().receive(message.as_bytes()), [format!(r#"1: user "u1" {{"event":"{event}"}}"#)]);
    }
}

#[test]
fn exclude_names_clients_of_rooms_and_broadcasts_only() {
    for (exclude, without) in [
        ("null", ""),
        ("[]", ""),
        (r#""a string""#, ""),
        (r#"["x",1,null,{}]"#, ""),
        (&format!(r#"["{ELSEWHERE}","x","{HERE}"]"#), " -7"),
    ] {
        let message = |rest: &str| from_other(&format!(r#"{rest},"event":"x","exclude":{exclude}"#));
        let x = r#"{"event":"x"}"#;
        let mut rig = rig();
        assert_eq!(
            rig.receive(message(r#""type":"room","target":"room""#).as_bytes()),
            [format!("0: room room{without} {x}"), format!("1: room room{without} {x}")]
        );
        assert_eq!(
            rig.receive(message(r#""type":"broadcast""#).as_bytes()),
            [format!("0: broadcast{without} {x}"), format!("1: broadcast{without} {x}")]
        );
        let direct = message(&format!(r#""type":"client","target":"{HERE}""#));
        assert_eq!(rig.receive(direct.as_bytes()), [format!("1: direct 7 {x}")]);
    }
}

#[test]
fn own_messages_are_skipped_and_counted() {
    let mut rig = rig();
    let message = format!(r#"{{"serverId":"{OWN}","type":"broadcast","event":"x"}}"#);
    assert_eq!(rig.receive(message.as_bytes()), [""; 0]);
    assert_eq!(rig.counters(), [1, 1, 0]);
}

#[test]
fn attack_69_what_is_no_ignis_message_is_dropped_and_counted() {
    let deep =
        format!(r#"{{"serverId":"o","type":"broadcast","event":"x","data":{}}}"#, "[".repeat(1_000_000));
    let large =
        format!(r#"{{"serverId":"o","type":"broadcast","event":"x","data":"{}"}}"#, "x".repeat(17 << 20));
    let messages: Vec<&[u8]> = vec![
        b"",
        b"hello",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"*3\r\n$7\r\nPUBLISH\r\n",
        b"{\"serverId\":\"o\",\"type\":\"broadcast\",\"event\":\"x\"} trailing",
        b"\xef\xbb\xbf{\"serverId\":\"o\",\"type\":\"broadcast\",\"event\":\"x\"}",
        br#"{"type":"broadcast","event":"x"}"#,
        br#"{"serverId":1,"type":"broadcast","event":"x"}"#,
        br#"{"serverId":"o","type":"broadcast"}"#,
        br#"{"serverId":"o","type":"broadcast","event":null}"#,
        br#"{"serverId":"o","event":"x"}"#,
        br#"{"serverId":"o","type":"Broadcast","event":"x"}"#,
        br#"{"serverId":"o","type":"room","event":"x"}"#,
        br#"{"serverId":"o","type":"room","target":"","event":"x"}"#,
        br#"{"serverId":"o","type":"room","target":7,"event":"x"}"#,
        br#"{"serverId":"o","type":"user","target":0,"event":"x"}"#,
        br#"{"serverId":"o","type":"user","target":["u1"],"event":"x"}"#,
        deep.as_bytes(),
        large.as_bytes(),
    ];
    let mut rig = rig();
    for (index, message) in messages.iter().enumerate() {
        let start = String::from_utf8_lossy(&message[..message.len().min(80)]);
        assert_eq!(rig.receive(message), [""; 0], "{start}");
        assert_eq!(rig.counters(), [index as u64 + 1, 0, index as u64 + 1], "{start}");
    }
    let good = from_other(r#""type":"user","target":"u1","event":"x""#);
    assert_eq!(rig.receive(good.as_bytes()), [r#"1: user "u1" {"event":"x"}"#]);
}

#[test]
fn attack_70_a_mistake_of_ours_costs_one_message() {
    let mut rig = rig();
    // A directory that names a shard which does not exist makes the router index out of bounds.
    rig.inbound.router.directory().room_up(MOUNT, Arc::from("poison"), ShardId(SHARD_COUNT));
    let poison = from_other(r#""type":"room","target":"poison","event":"x""#);
    assert_eq!(rig.receive(poison.as_bytes()), [""; 0]);
    assert_eq!(rig.counters(), [1, 0, 1]);
    let good = from_other(r#""type":"user","target":"u1","event":"x""#);
    assert_eq!(rig.receive(good.as_bytes()), [r#"1: user "u1" {"event":"x"}"#]);
}

#[test]
fn attack_81_a_flood_of_bad_messages_is_one_line_per_interval() {
    let start = Instant::now();
    let mut limit = LogLimit::default();
    assert_eq!(limit.admit(start), Some(0));
    assert!((0..1_000).all(|_| limit.admit(start).is_none()));
    assert_eq!(limit.admit(start + LOG_INTERVAL), Some(1_000));
    assert_eq!(limit.admit(start + LOG_INTERVAL), None);
}
