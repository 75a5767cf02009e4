//! The Ignis dialect (`@venizia/ignis-helpers` 0.0.7): its texts, names, encoders and decoders.
//!
//! - [`inbound`] what a client says; [`outbound`] what it is told, as whole frames.
//! - [`encryption`] the key exchange, and messages as `encrypted` events.
//! - [`envelope`] what travels between servers through Redis.
//! - [`ids`] client ids and user ids.
//!
//! Only bytes and values: whether a client may do what it says is for the shard to decide.

pub mod encryption;
pub mod envelope;
pub mod ids;
pub mod inbound;
pub mod outbound;

pub use encryption::{Agreement, Cipher};
pub use envelope::{Destination, Envelope, EnvelopeError, Payload, Scratch};
pub use ids::{ClientId, UserId};
pub use inbound::{ClientMessage, parse};
pub use outbound::{ErrorText, connected, error, event};

/// The topic of all authenticated clients. A room message with this target is a broadcast (`ignis.md` §9).
pub const BROADCAST_ROOM: &str = "ws:internal:broadcast";

/// What no room asked for by a client may start with; case counts.
pub const RESERVED_PREFIX: &str = "ws:";

/// The longest room name a client may ask for, in UTF-16 code units.
pub const ROOM_NAME_UNITS_MAX: usize = 256;

/// Bytes a connection's queue may hold before messages are refused (Bun's own default).
pub const BACKPRESSURE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod vectors;
