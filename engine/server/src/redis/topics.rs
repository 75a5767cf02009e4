//! What happens to one message on the channel of a topic: built once a mount with members, handed to their shards.
//!
//! As with messages for Ignis, a message is never more than data, and none may end the loop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardcast_shard::MountId;
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
    /// in the status and dropped. Never panics. `batch` is one of the router's.
    pub fn publish(&self, channel: &str, payload: &[u8], batch: &mut Batch<'_>) -> Routed {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let routed = self.mounts.iter().map(|mount| self.publish_to(mount, channel, payload, batch));
            routed.fold(Routed::default(), Routed::and)
        }));
        outcome.unwrap_or_else(|_| {
            count(&self.status.process.redis_malformed);
            tracing::error!(bytes = payload.len(), "a message for a topic caused a panic; this is a bug");
            Routed::default()
        })
    }

    fn publish_to(&self, to: &TopicMount, channel: &str, payload: &[u8], batch: &mut Batch<'_>) -> Routed {
        let Some(topic) = to.prefix.topic(channel) else { return Routed::default() };
        let Some((room, shards)) = batch.router().directory().room(to.mount, channel) else {
            return Routed::default();
        };
        if payload.len() > to.payload_bytes_max {
            count(&self.status.process.topic_dropped_size);
            return Routed::default();
        }
        let Some(frame) = to.format.message(topic, payload) else {
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
