//! Plain counters, one set a shard; the driver publishes snapshots.

use shardcast_wire::message::Violation;

use crate::event::RefusalReason;

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $name:ident,)+) => {
        /// What a shard has counted since it started, and gauges of the present.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $help])+ pub $name: u64,)+
            /// Connections closed for breaking RFC 6455, by [`Violation::index`].
            pub violations: [u64; Violation::COUNT],
            /// Authentications refused by the hooks, by [`RefusalReason::index`].
            pub auth_refused: [u64; RefusalReason::COUNT],
        }

        impl Counters {
            /// Names and meanings of the plain fields, in the order of [`Counters::values`].
            pub const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($help),+)),)+];

            /// The plain fields, in the order of [`Counters::FIELDS`].
            pub fn values(&self) -> [u64; Self::FIELDS.len()] {
                [$(self.$name,)+]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections shed because the shard is full.
    shed_full,
    /// Connections closed because incomplete messages took all the memory they may.
    shed_input,
    /// WebSocket upgrades answered with 101.
    upgraded,
    /// Upgrades that agreed on permessage-deflate.
    deflate_agreed,
    /// Requests that were not upgrades, given to the control plane.
    handed_off,
    /// Request heads refused: malformed, too large, or not a valid upgrade.
    refused_heads,
    /// Request heads that did not end within handshake_timeout.
    handshake_timeouts,
    /// Authentications that let the client in.
    auth_accepted,
    /// Authentications that failed with an error.
    auth_failed,
    /// Clients closed because what they authenticated with expired.
    auth_expired,
    /// Clients closed because they did not authenticate in time.
    auth_timeouts,
    /// Authenticate messages on a connection that already sent one.
    auth_repeated,
    /// Clients closed by the heartbeat sweep.
    heartbeat_timeouts,
    /// Connections ended because nothing moved for idle_timeout.
    idle_timeouts,
    /// Peers that did not finish closing within close_timeout.
    close_timeouts,
    /// Messages received and assembled.
    messages_received,
    /// Bytes received, frame headers included.
    bytes_received,
    /// Of the messages received, those that were compressed.
    messages_inflated,
    /// Bytes that compressed messages came to.
    bytes_inflated,
    /// Messages that were not JSON.
    messages_malformed,
    /// Messages dropped without an answer, as the dialect demands.
    messages_ignored,
    /// Messages before authentication, answered with an error.
    messages_unauthorized,
    /// Rooms joined.
    joins,
    /// Rooms left.
    leaves,
    /// Joins ignored because the connection is in rooms_per_connection_max rooms.
    joins_refused_limit,
    /// Joins ignored because the shard holds as many rooms as it may.
    joins_refused_rooms_max,
    /// Questions ignored because the connection has asks_per_connection_max open.
    asks_refused_limit,
    /// Messages published to rooms, users, clients or everyone on this shard.
    published,
    /// Frames handed to sockets in full, of all kinds.
    frames_sent,
    /// Bytes handed to sockets.
    bytes_sent,
    /// Messages dropped because the outbox was full.
    dropped_outbox_full,
    /// Messages dropped because the outboxes of the shard hold as much as they may.
    dropped_memory_cap,
    /// Messages that were not written yet when their connection ended.
    dropped_disconnected,
    /// Connections ended for being slow (policy disconnect).
    slow_disconnected,
    /// Pongs replaced by a later one while the socket was full.
    pongs_coalesced,
    /// Pings sent.
    pings_sent,
    /// Writes that the socket took only in part.
    short_writes,
    /// Connections that ended without a close frame.
    hang_ups,
    /// Connections closed by the operator.
    kicked,
    /// Turns.
    turns,
    /// Connections held, all phases (gauge).
    conns,
    /// Connections authenticated (gauge).
    clients,
    /// Connections open that agreed on permessage-deflate (gauge).
    deflating,
    /// Rooms with members, own-id rooms not counted (gauge).
    rooms,
    /// Bytes kept alive by outboxes (gauge).
    outbox_bytes,
    /// Bytes of incomplete request heads and messages (gauge).
    input_bytes,
}
