//! All decisions of a shard, and none of its I/O.
//!
//! A [`Shard`] is a synchronous state machine that owns a slice of the connections: parsers, rooms, users,
//! outboxes and timers. One **turn** is: any number of `handle_*` calls, `poll_effect` until `None`, then
//! `poll_writes`/`handle_written` until there is nothing left to write. Time and randomness are arguments;
//! there is no I/O, clock, lock, `await` or atomic inside, so a seeded simulator runs the same code as
//! production.
//!
//! Where things live: [`conn`] one connection, [`rooms`] who is in which room, [`burst`] what a turn sends
//! and to whom, [`sealing`] the same for encrypted connections, [`outbox`] what a socket has not taken yet,
//! [`timers`] the wheel, [`event`] what goes in and out, [`limits`] every bound, [`address`] and [`rates`] those of
//! addresses and users. The dialects are `ignis`, [`topic`] and `echo`.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod address;
pub mod burst;
pub mod conn;
pub mod counters;
mod deadlines;
mod echo;
pub mod event;
pub mod flush;
mod handshake;
pub mod ids;
mod ignis;
#[cfg(any(test, feature = "check"))]
mod invariants;
pub mod limits;
mod membership;
pub mod outbox;
mod preface;
mod publish;
pub mod rates;
pub mod rooms;
pub mod sealing;
mod shard;
pub mod timers;
pub mod topic;
mod users;

pub use counters::Counters;
pub use event::{
    Ask, ClientView, Effect, Forms, HangUp, Identity, Listening, Mail, Now, Query, QueryReply, Question,
    RefusalReason, Verdict,
};
pub use ids::{ClientRef, ConnId, MountId, ShardId};
pub use limits::{
    CloseCodes, Dialect, Encryption, EncryptionMode, IgnisSettings, InboundEncryption, Mount, ShardConfig,
    SlowConsumer, TopicSettings,
};
pub use shard::Shard;
