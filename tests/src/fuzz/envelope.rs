//! Messages from Redis, up to the mail in the shards' boxes, and those that we and the emitter publish:
//! `shardcast_wire::ignis::envelope` and `shardcast::redis::Inbound`.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use shardcast::directory::Directory;
use shardcast::mailbox::{MailReceiver, mailbox};
use shardcast::redis::Inbound;
use shardcast::router::Router;
use shardcast::status::Status;
use shardcast_shard::{ClientRef, ConnId, Mail, MountId, ShardId};
use shardcast_wire::ignis::envelope::{self, Limits};
use shardcast_wire::ignis::{
    BROADCAST_ROOM, ClientId, Destination, Envelope, EnvelopeError, Payload, Scratch, UserId,
};
use shardcast_wire::json;

use super::input::{only_server_frame, parts};

const MOUNT: MountId = MountId(0);
const OWN: &str = "11111111-1111-4111-8111-111111111111";
/// Connected to shard 1, where users `"u1"` and 42 are; the rooms have members on both shards.
const HERE: &str = "abcdef22-2222-4222-8222-222222222222";
const SHARDS: u8 = 2;
const ROOMS: [&str; 2] = ["room", BROADCAST_ROOM];

/// A message; and, between zero bytes, the parts of one to write: kind and target, event, data, excluded ids.
pub(super) fn run(data: &[u8]) {
    let mut scratch = Scratch::default();
    let decoded = envelope::decode(data, &mut scratch);
    check_received(data, decoded.as_ref());
    check_bounds(data, &decoded);
    if let Ok(received) = &decoded {
        check_decoded(received);
    }
    check_written(data);
}

/// The way of the message through one process with two shards.
fn check_received(message: &[u8], decoded: Result<&Envelope<'_>, &EnvelopeError>) {
    let directory = Arc::new(Directory::new(1));
    let at = ClientRef { shard: ShardId(1), conn: ConnId { slot: 7, generation: 1 } };
    directory.client_up(ClientId::parse(HERE).expect("an id"), MOUNT, at);
    for shard in 0..SHARDS {
        for room in ROOMS {
            directory.room_up(MOUNT, Arc::from(room), ShardId(shard));
        }
    }
    for user in [r#""u1""#, "42"] {
        directory.user_up(MOUNT, UserId::from_json(user).expect("a user"), ShardId(1));
    }
    let (senders, boxes): (Vec<_>, Vec<MailReceiver>) =
        (0..SHARDS).map(|_| mailbox(4).expect("an eventfd")).unzip();
    let status = Arc::new(Status::new(Instant::now(), "epoll", usize::from(SHARDS)));
    let router = Arc::new(Router::new(directory, senders));
    let mut inbound = Inbound::new(OWN.to_owned(), MOUNT, router.clone(), status.clone());
    inbound.handle(message, &mut router.batch());

    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let process = &status.process;
    // A panic within is caught and counted as malformed too.
    assert_eq!(read(&process.redis_malformed) == 1, decoded.is_err(), "counted as malformed");
    let is_own = decoded.is_ok_and(|received| received.server_id == OWN);
    assert_eq!(read(&process.redis_own) == 1, is_own, "counted as our own");
    let letters: Vec<Vec<Mail>> =
        boxes.iter().map(|mail| std::iter::from_fn(|| mail.take()).collect()).collect();
    let expected =
        decoded.map_or([0, 0], |received| shards_of(received)).map(|count| usize::from(!is_own) * count);
    assert_eq!(letters.iter().map(Vec::len).collect::<Vec<_>>(), expected, "letters to each shard");
    for letter in letters.iter().flatten() {
        let (Mail::Room { frame, .. }
        | Mail::Broadcast { frame, .. }
        | Mail::Direct { frame, .. }
        | Mail::User { frame, .. }) = letter
        else {
            panic!("no publication: {letter:?}");
        };
        let received = decoded.expect("who publishes was understood");
        assert_eq!(frame.plain, received.frame(), "what the shards send");
    }
}

/// Letters that each shard must get.
fn shards_of(received: &Envelope<'_>) -> [usize; 2] {
    match &received.destination {
        Destination::Broadcast => [1, 1],
        Destination::Room(room) if ROOMS.contains(&&**room) => [1, 1],
        Destination::Room(id) | Destination::Client(id) if id == HERE => [0, 1],
        Destination::User(user) if matches!(&**user, r#""u1""# | "42") => [0, 1],
        _ => [0, 0],
    }
}

/// Narrow bounds refuse, and change nothing else.
fn check_bounds(message: &[u8], decoded: &Result<Envelope<'_>, EnvelopeError>) {
    let limits = Limits { message_bytes_max: 300, exclude_max: 1 };
    match envelope::decode(message, &mut Scratch::new(limits)) {
        Err(EnvelopeError::TooLarge) => assert!(message.len() > 300),
        Err(EnvelopeError::TooManyExcluded) => assert!(decoded.is_ok()),
        other => assert_eq!(&other, decoded, "within narrow bounds"),
    }
}

fn check_decoded(received: &Envelope<'_>) {
    let frame = received.frame();
    let (first, payload) = only_server_frame(&frame);
    assert_eq!(first, 0x81, "a final text frame");
    let payload = std::str::from_utf8(payload).expect("a text frame is text");
    let members = json::members(payload, ["event", "data"]);
    assert_eq!(members, Ok(Some([Some(received.event), received.data])), "members of the frame");
    check_channel(&received.destination);

    let Some(event) = json::unescape(received.event) else { return };
    let sent = Payload::new(&event, received.data).expect("data is JSON");
    let exclude: Vec<String> = received.exclude.iter().map(ClientId::to_string).collect();
    let message = envelope::encode(&received.server_id, &received.destination, &sent, Some(&exclude));
    let event = json::normalize_string(received.event);
    let mut scratch = Scratch::default();
    let again = envelope::decode(&message, &mut scratch).expect("what is written can be read");
    assert_eq!(again, Envelope { event: &event, ..received.clone() }, "written and read");
}

fn check_channel(destination: &Destination<'_>) {
    let channel = envelope::channel(destination);
    let prefixes = ["ws:broadcast", "ws:room:", "ws:client:", "ws:user:"];
    assert!(prefixes.iter().any(|prefix| channel.starts_with(prefix)), "{channel}");
}

/// Whatever a backend sends arrives as it was sent, or is refused at once.
fn check_written(data: &[u8]) {
    let mut texts = parts(data).map(String::from_utf8_lossy);
    let mut text = || texts.next().unwrap_or_default();
    let (target, event, data) = (text(), text(), text());
    let exclude: Vec<String> = texts.map(Cow::into_owned).collect();
    let data = (!data.is_empty()).then_some(&*data);
    let payload = match Payload::new(&event, data) {
        Ok(payload) => payload,
        Err(error) => return assert_eq!(data.map(json::validate), Some(Err(error))),
    };
    let Some(kind) = target.chars().next() else { return };
    let name = &target[kind.len_utf8()..];
    let user = UserId::from_text(name);
    let (destination, exclude) = match kind {
        'b' => (Destination::Broadcast, Some(exclude)),
        'r' => (Destination::Room(name.into()), Some(exclude)),
        'c' => (Destination::Client(name.into()), None),
        _ => (Destination::user(&user), None),
    };
    check_channel(&destination);
    let message = envelope::encode(&event, &destination, &payload, exclude.as_deref());
    let mut scratch = Scratch::default();
    let received = match envelope::decode(&message, &mut scratch) {
        Ok(received) => received,
        Err(error) => {
            assert_eq!(error, EnvelopeError::NoTarget);
            assert!(name.is_empty() && kind != 'b', "{destination:?} is refused");
            return;
        }
    };
    let ids = exclude.into_iter().flatten().filter_map(|id| ClientId::parse(&id)).collect();
    let expected = Envelope {
        server_id: Cow::Borrowed(&event),
        destination,
        event: payload.event_json(),
        data: payload.data(),
        exclude: ids,
    };
    assert_eq!(received, expected, "sent and received");
}
