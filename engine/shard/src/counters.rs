//! Plain counters, one set a shard; the driver publishes snapshots.

use shardcast_wire::http::{HeadError, Refusal};
use shardcast_wire::message::Violation;
use shardcast_wire::topic::RequestError;

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
            /// Messages of topic clients that are no requests, by [`RequestError::index`].
            pub requests_malformed: [u64; RequestError::COUNT],
            /// Request heads refused, by [`HeadError::index`], and after those by [`Refusal::index`].
            pub refused_heads: [u64; HeadError::COUNT + Refusal::COUNT],
        }

        impl Counters {
            /// Names and meanings of the plain fields, in the order of [`Counters::values`].
            pub const FIELDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($name), concat!($($help),+)),)+];

            /// The plain fields, in the order of [`Counters::FIELDS`].
            pub fn values(&self) -> [u64; Self::FIELDS.len()] {
                [$(self.$name,)+]
            }

            /// The request heads refused, with the name of each reason.
            pub fn refused_heads(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let names = HeadError::ALL.map(HeadError::name).into_iter();
                names.chain(Refusal::ALL.map(Refusal::name)).zip(self.refused_heads)
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
    /// Connections shed because the shard is full.
    shed_full,
    /// Connections shed because too many have not finished their handshake.
    shed_handshakes,
    /// Connections closed because incomplete messages and waiting requests took all the memory they may.
    shed_input,
    /// WebSocket upgrades answered with 101.
    upgraded,
    /// Upgrades that agreed on permessage-deflate.
    deflate_agreed,
    /// Requests that were not upgrades, given to the control plane.
    handed_off,
    /// PROXY protocol headers read.
    proxied,
    /// Connections closed because they did not begin with a PROXY protocol header.
    proxy_malformed,
    /// Connections refused because PROXY protocol is required and their address is no trusted proxy's.
    proxy_untrusted,
    /// Request heads that did not end within handshake_timeout.
    handshake_timeouts,
    /// Authentications that let the client in.
    auth_accepted,
    /// Authentications that failed with an error.
    auth_failed,
    /// Clients closed because what they authenticated with expired.
    auth_expired,
    /// Authentications refused because the user holds connections_per_user_max connections.
    auth_refused_user_limit,
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
    /// Messages of encrypted clients that were decrypted.
    messages_decrypted,
    /// Messages of encrypted clients that could not be decrypted, answered with an error.
    messages_undecryptable,
    /// Readable messages of clients that must encrypt, answered with an error.
    messages_unencrypted,
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
    /// Messages, pings and joins ignored because the connection sends more than its rates allow.
    rate_refused_connection,
    /// Messages, pings and joins ignored because the user sends more than its rates allow.
    rate_refused_user,
    /// Messages, pings and joins ignored because the address sends more than its rates allow.
    rate_refused_address,
    /// Connections closed because they went on sending more than their rates allow.
    rate_closed,
    /// Messages not held to the rates of their user or address because the shard keeps as many as it may.
    rate_keys_full,
    /// Topic clients closed because more of their requests waited for an answer than may.
    requests_overrun,
    /// Topic clients closed because a request was not answered in time.
    requests_timeouts,
    /// Topic clients closed because they sent more bad tokens than one connection may.
    auth_failures_limit,
    /// Topic clients closed because they subscribed to what is no name of a topic, or a reserved one.
    topics_refused,
    /// Subscriptions refused because the client has no tenant, which the names of channels need.
    topics_refused_tenant,
    /// Subscriptions refused because the channel is not subscribed to: there are too many, or Redis refuses it.
    topics_refused_channel,
    /// Messages published to rooms, users, clients or everyone on this shard.
    published,
    /// Frames handed to sockets in full, of all kinds.
    frames_sent,
    /// Bytes handed to sockets.
    bytes_sent,
    /// Messages encrypted, again if the socket was full.
    messages_encrypted,
    /// Bursts for an encrypted connection put off to the next turn, because this one had encrypted enough.
    encryption_deferred,
    /// Messages dropped because the outbox was full: the newest or, with drop-oldest, the oldest.
    dropped_outbox_full,
    /// Messages dropped because the outboxes of the shard hold as much as they may.
    dropped_memory_cap,
    /// Messages that were not written yet when their connection ended.
    dropped_disconnected,
    /// Connections ended for being slow: by policy disconnect, or without room for the answer to a topic client's request.
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
    /// Connections without a complete request head (gauge).
    handshakes,
    /// Connections authenticated (gauge).
    clients,
    /// Clients that are encrypted (gauge).
    encrypted,
    /// Connections open that agreed on permessage-deflate and are not encrypted (gauge).
    deflating,
    /// Rooms with members, own-id rooms not counted (gauge).
    rooms,
    /// Bytes kept alive by outboxes (gauge).
    outbox_bytes,
    /// Bytes of incomplete request heads and messages, and of requests that wait for an answer (gauge).
    input_bytes,
}
