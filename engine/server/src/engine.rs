//! What the threads of a process share, and what a backend can do with it: emit, look, kick.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use shardcast_shard::{ClientView, Mail, MountId, Query, QueryReply, ShardId};
use shardcast_wire::close;
use shardcast_wire::ignis::{ClientId, Destination, Payload, UserId, envelope};
use shardcast_wire::json::Indexer;
use tokio::sync::oneshot;

use crate::audit::Audit;
use crate::config;
use crate::redis::{PublishOutcome, RedisHandle, Topics};
use crate::router::{Batch, Publication, Routed, Router, Target};
use crate::status::Status;
use crate::upstream::Upstream;

/// How long a look into a shard may take: one busy turn, generously.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The process as its threads share it.
#[derive(Debug)]
pub struct Engine {
    server_id: String,
    ignis_mount: Option<MountId>,
    router: Arc<Router>,
    redis: Option<RedisHandle>,
    upstream: Arc<Upstream>,
    topics: Arc<Topics>,
    queries: Queries,
    status: Arc<Status>,
    audit: Audit,
}

/// One message of a backend.
#[derive(Clone, Debug)]
pub struct Emit<'a> {
    /// Whom it is for; a client id that is nobody's reaches nobody.
    pub to: Destination<'a>,
    /// Event and data, validated.
    pub payload: Payload,
    /// Client ids that do not get it; for rooms and broadcasts.
    pub exclude: Vec<String>,
}

/// One message of a backend, for clients of either kind.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// An event, for clients that speak Ignis.
    Event(Emit<'a>),
    /// A payload on a Redis channel, for whoever subscribed the topic that it is; as it stands.
    Topic {
        /// The channel.
        channel: String,
        /// What is published.
        payload: &'a str,
    },
}

/// Where a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// In this process.
    pub local: Routed,
    /// To other instances.
    pub redis: PublishOutcome,
}

/// Why a message went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// No mount speaks Ignis.
    #[error("no ignis mount is configured: add a [[mounts]] table with dialect = \"ignis\"")]
    NoIgnisMount,
}

impl Engine {
    /// Everything a process shares. `ignis_mount` is where emits go.
    pub fn new(
        server_id: String,
        ignis_mount: Option<MountId>,
        router: Arc<Router>,
        redis: Option<RedisHandle>,
        status: Arc<Status>,
    ) -> Self {
        let upstream = Arc::new(Upstream::new(&config::Redis::default(), status.clone()));
        let topics = Arc::new(Topics::new(Vec::new(), status.clone()));
        let (queries, audit) = (Queries::default(), Audit::default());
        Self { server_id, ignis_mount, router, redis, upstream, topics, queries, status, audit }
    }

    /// The same with an audit log.
    pub fn audited(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// The same with topics, and the channels that the process listens to.
    pub fn listening(self, upstream: Arc<Upstream>, topics: Arc<Topics>) -> Self {
        Self { upstream, topics, ..self }
    }

    /// Where refusals and what operators do are recorded.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// This process among others on the same Redis: a UUID made at start.
    pub fn server_id(&self) -> &str {
        &self.server_id
    }

    /// The way to the shards.
    pub fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// The link to other instances, unless the process is on its own.
    pub fn redis(&self) -> Option<&RedisHandle> {
        self.redis.as_ref()
    }

    /// The Redis channels that the process listens to by name.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The mount that speaks Ignis.
    pub fn ignis_mount(&self) -> Option<MountId> {
        self.ignis_mount
    }

    /// Health and counters.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Delivers to this process' clients and publishes for the others. Never blocks.
    pub fn emit(&self, emit: &Emit<'_>) -> Result<Emitted, EmitError> {
        let mount = self.ignis_mount.ok_or(EmitError::NoIgnisMount)?;
        Ok(self.emit_in(&mut self.router.batch(), mount, emit))
    }

    /// The same for messages of either kind that are there together: those to the same clients share their sends.
    ///
    /// # Errors
    /// There is an event among them and no mount for it; nothing was sent.
    pub fn send_all(&self, messages: &[Message<'_>]) -> Result<Vec<Emitted>, EmitError> {
        let has_events = messages.iter().any(|message| matches!(message, Message::Event(_)));
        if has_events && self.ignis_mount.is_none() {
            return Err(EmitError::NoIgnisMount);
        }
        let (mut batch, mut indexer) = (self.router.batch(), Indexer::default());
        let send = |message: &Message<'_>| match (message, self.ignis_mount) {
            (Message::Event(emit), Some(mount)) => Ok(self.emit_in(&mut batch, mount, emit)),
            (Message::Event(_), None) => Err(EmitError::NoIgnisMount),
            (Message::Topic { channel, payload }, _) => {
                Ok(self.publish_topic_in(&mut batch, &mut indexer, channel, payload.as_bytes()))
            }
        };
        messages.iter().map(send).collect()
    }

    /// Delivers to this process' clients only.
    pub fn emit_local(&self, emit: &Emit<'_>) -> Result<Routed, EmitError> {
        let mount = self.ignis_mount.ok_or(EmitError::NoIgnisMount)?;
        Ok(self.deliver(&mut self.router.batch(), mount, emit))
    }

    /// Publishes on a Redis channel, for the topics that it is on this and on other instances. Never blocks.
    ///
    /// Where Redis has confirmed to this process that it hears the channel, it brings the message back, so that everyone has
    /// the same order and `local` counts nobody. Else it is delivered here at once, before or after what is on its way
    /// from Redis. Thus, for the members here,
    ///
    /// - between Redis' subscribing the channel and this process' learning of it a message comes twice: it is delivered and
    ///   comes back;
    /// - over a link that breaks, or broke without anyone noticing yet (three canaries), it comes not at all, which
    ///   `redis_gaps` and `redis_publish_failed` tell.
    pub fn publish_topic(&self, channel: &str, payload: &[u8]) -> Emitted {
        self.publish_topic_in(&mut self.router.batch(), &mut Indexer::default(), channel, payload)
    }

    fn publish_topic_in(
        &self,
        batch: &mut Batch<'_>,
        indexer: &mut Indexer,
        channel: &str,
        payload: &[u8],
    ) -> Emitted {
        // Before it goes out: when Redis confirms in between, two are better than none.
        let is_heard = self.upstream.is_confirmed(channel);
        let redis = match &self.redis {
            None => PublishOutcome::Off,
            Some(redis) => redis.publish((channel.to_owned(), payload.to_vec())),
        };
        let local = match redis {
            PublishOutcome::Queued if is_heard => Routed::default(),
            _ => self.topics.publish(indexer, channel, payload, batch),
        };
        Emitted { local, redis }
    }

    /// A connected client, or `None`.
    pub async fn client(&self, id: ClientId) -> Option<ClientView> {
        let (_, at) = self.router.directory().client(id)?;
        match self.query(at.shard, Query::Client(at.conn)).await {
            Some(QueryReply::Client(view)) => view,
            Some(QueryReply::Rooms(_)) | None => None,
        }
    }

    /// Rooms of a mount with members in this process and how many members each has, the first `count_max` by name.
    /// `None`: a shard did not answer in time.
    pub async fn rooms(&self, mount: MountId, count_max: usize) -> Option<Vec<(Arc<str>, usize)>> {
        let mut rooms = BTreeMap::new();
        for shard in 0..self.router.shards().len() {
            let query = self.query(ShardId(shard as u8), Query::Rooms { mount, count_max });
            let Some(QueryReply::Rooms(found)) = query.await else { return None };
            for (name, count) in found {
                *rooms.entry(name).or_insert(0) += count;
            }
        }
        // What is among the first of all is among the first of each shard that has it, so its count is whole.
        Some(rooms.into_iter().take(count_max).collect())
    }

    /// Closes a client. `false`: it is not connected here, or its shard's mailbox is full.
    pub fn kick(&self, id: ClientId) -> bool {
        self.router.directory().client(id).is_some_and(|(_, at)| {
            self.router.shard(at.shard).post(Mail::Kick { conn: at.conn, code: &close::KICKED })
        })
    }

    /// Closes every connection of a user in this process, on all mounts. Tells how many shards were told, and how
    /// many could not be because their mailbox was full.
    pub fn kick_user(&self, user: &UserId) -> Routed {
        let mut routed = Routed::default();
        for mount in 0..self.router.directory().mounts_len() {
            let mount = MountId(mount as u8);
            for shard in self.router.directory().user(mount, user).iter() {
                let mail = Mail::KickUser { mount, user: user.clone(), code: &close::KICKED };
                if self.router.shard(shard).post(mail) { routed.shards += 1 } else { routed.refused += 1 }
            }
        }
        routed
    }

    /// Hands the reply of a shard to whoever asked.
    pub fn answer(&self, ticket: u64, reply: QueryReply) {
        self.queries.answer(ticket, reply);
    }

    async fn query(&self, shard: ShardId, query: Query) -> Option<QueryReply> {
        let (ticket, reply) = self.queries.open();
        let posted = self.router.shard(shard).post(Mail::Query { ticket, query });
        let reply = if posted { tokio::time::timeout(QUERY_TIMEOUT, reply).await.ok() } else { None };
        self.queries.close(ticket);
        reply?.ok()
    }

    fn emit_in(&self, batch: &mut Batch<'_>, mount: MountId, emit: &Emit<'_>) -> Emitted {
        let local = self.deliver(batch, mount, emit);
        let redis = match &self.redis {
            None => PublishOutcome::Off,
            Some(redis) => redis.publish(self.envelope(emit)),
        };
        Emitted { local, redis }
    }

    fn deliver(&self, batch: &mut Batch<'_>, mount: MountId, emit: &Emit<'_>) -> Routed {
        let target = match &emit.to {
            Destination::Broadcast => Target::Broadcast,
            Destination::Room(room) => Target::Room(room.to_string()),
            Destination::User(json) => match UserId::from_json(json) {
                Some(user) => Target::User(user),
                None => return Routed::default(),
            },
            Destination::Client(id) => match ClientId::parse(id) {
                Some(id) => Target::Client(id),
                None => return Routed::default(),
            },
        };
        let exclude = emit.exclude.iter().filter_map(|id| ClientId::parse(id)).collect();
        batch.publish(&Publication { mount, target, frame: Bytes::from(emit.payload.frame()), exclude })
    }

    fn envelope(&self, emit: &Emit<'_>) -> (String, Vec<u8>) {
        let exclude = (!emit.exclude.is_empty()).then_some(emit.exclude.as_slice());
        (envelope::channel(&emit.to), envelope::encode(&self.server_id, &emit.to, &emit.payload, exclude))
    }
}

/// Questions to shards that wait for a reply.
#[derive(Debug, Default)]
struct Queries {
    next_ticket: AtomicU64,
    waiting: DashMap<u64, oneshot::Sender<QueryReply>>,
}

impl Queries {
    fn open(&self) -> (u64, oneshot::Receiver<QueryReply>) {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(ticket, sender);
        (ticket, receiver)
    }

    fn answer(&self, ticket: u64, reply: QueryReply) {
        if let Some((_, sender)) = self.waiting.remove(&ticket) {
            // The asker may have given up at this very moment.
            drop(sender.send(reply));
        }
    }

    fn close(&self, ticket: u64) {
        self.waiting.remove(&ticket);
    }
}
