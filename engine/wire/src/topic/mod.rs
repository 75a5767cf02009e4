//! The topic-session dialect: JSON actions in, snapshots of Redis channels out (`topic.md`).
//!
//! [`request`] reads what a client says, [`answer`] has what it is told about itself, [`snapshot`] makes a message of
//! a Redis payload, [`channel`] says which Redis channel a topic is, [`close`] how a connection ends. What a request comes
//! to needs the connection's state and is the shard's.

pub mod answer;
pub mod channel;
pub mod close;
pub mod request;
pub mod snapshot;

pub use answer::{Answer, SessionId};
pub use channel::{ChannelPrefix, PrefixError, TENANT};
pub use request::{Action, Request, RequestError};
pub use snapshot::{BinaryMode, SnapshotFormat, SnapshotMode};
