//! What happens to one message on the channel of a topic: built once a mount with members, handed to their shards.
//!
//! As with messages for Ignis, a message is never more than data, and none may end the loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardcast_shard::MountId;
use shardcast_wire::json::Indexer;
use shardcast_wire::topic::{BinaryMode, ChannelPrefix, SnapshotFormat, SnapshotMode};

use crate::config::{self, Config};
use crate::router::{Batch, Publication, Routed, Target};
use crate::status::Status;

/// The mounts that have topics.
#[derive(Debug)]
pub struct Topics {
    mounts: Vec<TopicMount>,
    status: Arc<Status>,
}

/// What a message becomes on one mount.
#[derive(Clone, Debug)]
pub struct TopicMount {
    /// Which.
    pub mount: MountId,
    /// From channels to topics.
    pub prefix: ChannelPrefix,
    /// From payloads to snapshots.
    pub format: SnapshotFormat,
    /// Longest payload, bytes.
    pub payload_bytes_max: usize,
}

impl Topics {
    /// Those of `mounts`.
    pub fn new(mounts: Vec<TopicMount>, status: Arc<Status>) -> Self {
        Self { mounts, status }
    }

    /// Those of a configuration that was checked.
    pub fn of(config: &Config, status: Arc<Status>) -> Self {
        let mounts = config.mounts.iter().enumerate();
        let mounts = mounts.filter(|(_, mount)| mount.dialect == config::Dialect::Topic);
        let mount = |(index, mount): (usize, &config::Mount)| TopicMount {
            mount: MountId(index as u8),
            // What is wrong with it was found by the check of the configuration.
            prefix: ChannelPrefix::parse(&mount.channel_prefix).unwrap_or_default(),
            format: SnapshotFormat {
                json: match mount.snapshot_mode {
                    config::SnapshotMode::Json => SnapshotMode::Json,
                    config::SnapshotMode::String => SnapshotMode::String,
                },
                binary: match mount.binary_mode {
                    config::BinaryMode::Base64 => BinaryMode::Base64,
                    config::BinaryMode::Lossy => BinaryMode::Lossy,
                    config::BinaryMode::Drop => BinaryMode::Drop,
                },
            },
            payload_bytes_max: mount.snapshot_bytes_max,
        };
        Self::new(mounts.map(mount).collect(), status)
    }

    /// Whether no mount has topics.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Hands the payload of a message on a channel to the members of the topics that it is. What cannot be sent is counted
    /// in the status and dropped. Never panics. `batch` is one of the router's, `indexer` the calling thread's.
    pub fn publish(
        &self,
        indexer: &mut Indexer,
        channel: &str,
        payload: &[u8],
        batch: &mut Batch<'_>,
    ) -> Routed {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mounts = self.mounts.iter();
            let routed = mounts.map(|mount| self.publish_to(mount, indexer, channel, payload, batch));
            routed.fold(Routed::default(), Routed::and)
        }));
        outcome.unwrap_or_else(|_| {
            *indexer = Indexer::default();
            count(&self.status.process.redis_malformed);
            tracing::error!(bytes = payload.len(), "a message for a topic caused a panic; this is a bug");
            Routed::default()
        })
    }

    fn publish_to(
        &self,
        to: &TopicMount,
        indexer: &mut Indexer,
        channel: &str,
        payload: &[u8],
        batch: &mut Batch<'_>,
    ) -> Routed {
        let Some(topic) = to.prefix.topic(channel) else { return Routed::default() };
        let Some((room, shards)) = batch.router().directory().room(to.mount, channel) else {
            return Routed::default();
        };
        if payload.len() > to.payload_bytes_max {
            count(&self.status.process.topic_dropped_size);
            return Routed::default();
        }
        let Some(frame) = to.format.message(indexer, topic, payload) else {
            count(&self.status.process.topic_dropped_binary);
            return Routed::default();
        };
        let (target, frame) = (Target::Members(room, shards), Bytes::from(frame));
        batch.publish(&Publication { mount: to.mount, target, frame, exclude: Vec::new() })
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use shardcast_shard::{ClientRef, ConnId, Mail, ShardId};
    use shardcast_wire::ignis::ClientId;

    use super::*;
    use crate::directory::Directory;
    use crate::mailbox::{MailReceiver, mailbox};
    use crate::router::Router;

    const CLIENT: &str = "abcdef22-2222-4222-8222-222222222222";

    /// Mount 0 has no prefix and takes 10 bytes, mount 1 that of a tenant; it takes no binary payloads.
    fn rig() -> (Topics, Router, MailReceiver) {
        let status = Arc::new(Status::new(Instant::now(), "epoll", 1));
        let mount = |mount, prefix: &str, payload_bytes_max, binary| TopicMount {
            mount: MountId(mount),
            prefix: ChannelPrefix::parse(prefix).expect("a good prefix"),
            format: SnapshotFormat { binary, ..SnapshotFormat::default() },
            payload_bytes_max,
        };
        let plain = mount(0, "", 10, BinaryMode::Base64);
        let tenants = mount(1, "t:{tenant}:", 100, BinaryMode::Drop);
        let directory = Arc::new(Directory::new(2));
        for (mount, channel) in [(0, "t:acme:chat"), (1, "t:acme:chat"), (1, "chat")] {
            directory.room_up(MountId(mount), channel.into(), ShardId(0));
        }
        let at = ClientRef { shard: ShardId(0), conn: ConnId { slot: 1, generation: 1 } };
        directory.client_up(ClientId::parse(CLIENT).expect("an id"), MountId(0), at);
        let (sender, mail) = mailbox(64).expect("eventfd");
        (Topics::new(vec![plain, tenants], status), Router::new(directory, vec![sender]), mail)
    }

    fn told(rig: &(Topics, Router, MailReceiver), channel: &str, payload: &[u8]) -> Vec<String> {
        let (topics, router, mail) = rig;
        let routed = topics.publish(&mut Indexer::default(), channel, payload, &mut router.batch());
        let letters = std::iter::from_fn(|| mail.take());
        let told = letters.map(|letter| {
            let Mail::Room { mount, room, own: None, frame, exclude: None } = letter else {
                panic!("no message of a topic: {letter:?}");
            };
            assert_eq!(*room, *channel);
            format!("{} {}", mount.0, String::from_utf8_lossy(&frame.plain[2..]))
        });
        let told: Vec<String> = told.collect();
        assert_eq!((routed.shards as usize, routed.refused), (told.len(), 0));
        told
    }

    #[test]
    fn a_message_reaches_each_mount_with_members_under_the_name_of_its_topic() {
        let rig = rig();
        assert_eq!(
            told(&rig, "t:acme:chat", b"1"),
            [
                r#"0 {"action":"message","topic":"t:acme:chat","snapshot":1}"#,
                r#"1 {"action":"message","topic":"chat","snapshot":1}"#
            ]
        );
        // A room of that name is on mount 1, which has no such channels.
        assert_eq!(told(&rig, "chat", b"1"), [""; 0]);
        assert_eq!(told(&rig, "t:other:chat", b"1"), [""; 0]);
        assert_eq!(told(&rig, CLIENT, b"1"), [""; 0], "a client is no topic");
    }

    #[test]
    fn what_cannot_be_sent_is_counted_once_a_mount_with_members() {
        let rig = rig();
        let counts = || {
            let counters = &rig.0.status.process;
            [&counters.topic_dropped_size, &counters.topic_dropped_binary].map(|c| c.load(Ordering::Relaxed))
        };
        assert_eq!(told(&rig, "t:acme:chat", b"\xff").len(), 1);
        assert_eq!(counts(), [0, 1]);
        assert_eq!(told(&rig, "t:acme:chat", &[b'1'; 11]).len(), 1);
        assert_eq!(told(&rig, "t:acme:chat", &[b'1'; 101]).len(), 0);
        assert_eq!(counts(), [3, 1]);
        assert_eq!(told(&rig, "nobody", &[0xff; 101]).len(), 0);
        assert_eq!(counts(), [3, 1], "for nobody nothing is built");
    }
}
