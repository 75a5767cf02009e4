//! What can happen to a shard and what it can ask for.

use std::any::Any;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use shardcast_wire::close::CloseCode;
use shardcast_wire::ignis::{Agreement, ClientId, UserId};

use crate::ids::{ClientRef, ConnId, MountId};

/// The time, as the driver tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never goes back; its zero is the driver's choice.
    pub ms: u64,
    /// Milliseconds since 1970, for texts and expiry only; it may jump.
    pub unix_ms: u64,
}

/// How the peer's half of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUp {
    /// The peer sent FIN.
    Eof,
    /// The socket failed (reset, broken pipe, timeout).
    Error,
}

/// A message as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forms {
    /// A whole frame, ready to write.
    pub plain: Bytes,
    /// The same compressed, for connections that agreed on permessage-deflate; they get `plain` without it. Behind
    /// one reference, since mail is copied through the mailboxes.
    pub deflated: Option<Arc<Bytes>>,
}

impl From<Bytes> for Forms {
    /// Without a compressed form.
    fn from(plain: Bytes) -> Self {
        Self { plain, deflated: None }
    }
}

/// What crosses a thread to reach a shard. Senders never block: a full mailbox drops the letter and counts
/// it; each variant says what recovers that.
#[derive(Debug)]
pub enum Mail {
    /// A whole frame for every member of a room. Lost when dropped: nothing recovers it.
    Room {
        /// Where the room lives.
        mount: MountId,
        /// Its name.
        room: Arc<str>,
        /// The connection of this shard whose own-id room has that name, if any.
        own: Option<ConnId>,
        /// The frame in its forms.
        frame: Forms,
        /// Who does not get it.
        exclude: Option<Arc<[ClientRef]>>,
    },
    /// A whole frame for every authenticated connection of a mount. Lost when dropped.
    Broadcast {
        /// Whose connections.
        mount: MountId,
        /// The frame in its forms.
        frame: Forms,
        /// Who does not get it.
        exclude: Option<Arc<[ClientRef]>>,
    },
    /// A whole frame for one connection. Lost when dropped.
    Direct {
        /// The receiver; gone or not yet authenticated receives nothing.
        conn: ConnId,
        /// The frame in its forms.
        frame: Forms,
    },
    /// A whole frame for every connection of a user. Lost when dropped.
    User {
        /// Where the user is logged in.
        mount: MountId,
        /// The user.
        user: UserId,
        /// The frame in its forms.
        frame: Forms,
    },
    /// The answer to an [`Ask`]. When dropped, the authentication timeout ends the attempt; a lost join is
    /// repeated by the client; a [`Verdict::Listening`] is offered until it is taken.
    Verdict(Box<Verdict>),
    /// End one connection. When dropped, the caller asks again.
    Kick {
        /// Which one.
        conn: ConnId,
        /// With which code.
        code: &'static CloseCode,
    },
    /// End every connection of a user. When dropped, the caller asks again.
    KickUser {
        /// Where the user is logged in.
        mount: MountId,
        /// The user.
        user: UserId,
        /// With which code.
        code: &'static CloseCode,
    },
    /// A look at the shard's state; the reply is [`Effect::Reply`] with the same ticket. When dropped, the
    /// caller's own timeout ends the wait.
    Query {
        /// Chosen by the caller, returned with the reply.
        ticket: u64,
        /// What to look at.
        query: Query,
    },
    /// Close every connection, spread over the period. Sent once at shutdown; repeated by the sender until
    /// it got through.
    Drain {
        /// Milliseconds from the first close to the last; 0 closes all at once.
        period_ms: u64,
    },
}

/// What can be asked of a running shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// One connection.
    Client(ConnId),
    /// Rooms with members here, the first so many by name. Looks at every room once.
    Rooms {
        /// Of which mount.
        mount: MountId,
        /// At most this many entries.
        count_max: usize,
    },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryReply {
    /// `None`: no such connection.
    Client(Option<ClientView>),
    /// Names and member counts, by name.
    Rooms(Vec<(Arc<str>, usize)>),
}

/// A connection as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Its id.
    pub id: ClientId,
    /// Its user, if it has one.
    pub user: Option<UserId>,
    /// Rooms in the order of joining, its own id first.
    pub rooms: Vec<Arc<str>>,
    /// Milliseconds since 1970.
    pub connected_unix_ms: u64,
    /// Bytes waiting for the socket.
    pub outbox_bytes: usize,
}

/// Who a connection turned out to be.
#[derive(Clone, Default)]
pub struct Identity {
    /// The user, if it has one.
    pub user: Option<UserId>,
    /// Whatever the hooks want back with each later question.
    pub context: Option<Arc<dyn Any + Send + Sync>>,
    /// The tenant it belongs to, for names that tell tenants apart.
    pub tenant: Option<Arc<str>>,
    /// When it ends to be who it is, ms since 1970; then the connection is closed. Compared with the wall clock
    /// once, at authentication, so that a clock that is set later closes nobody.
    pub expires_unix_ms: Option<u64>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A question to the hooks about one connection. Those with a verdict stop the connection's input until
/// [`crate::Shard::handle_bytes`] is called again, so that a hook that answers at once is heard before the
/// next message.
#[derive(Debug)]
pub struct Ask {
    /// Which connection.
    pub conn: ConnId,
    /// Its mount.
    pub mount: MountId,
    /// Its id.
    pub client_id: ClientId,
    /// Where it comes from.
    pub address: IpAddr,
    /// What authentication said; default before that.
    pub identity: Identity,
    /// What is to be known or told.
    pub question: Question,
}

/// What an [`Ask`] is about.
#[derive(Debug)]
pub enum Question {
    /// Who is this? Answered by [`Verdict::Auth`].
    Authenticate {
        /// The `data` of the message, JSON text.
        data: String,
    },
    /// Which of these rooms may it join? Answered by [`Verdict::Rooms`] or [`Verdict::RoomsFailed`].
    ValidateRooms {
        /// Sanitised names.
        rooms: Vec<String>,
    },
    /// A message that is not the protocol's own. No answer.
    Message {
        /// The whole message, JSON text.
        text: String,
    },
    /// A connection is authenticated. No answer, but [`Verdict::ConnectedFailed`].
    Connected,
    /// A connection is gone. No answer.
    Disconnected,
}

/// The hooks' answer.
#[derive(Debug)]
pub enum Verdict {
    /// To [`Question::Authenticate`].
    Auth {
        /// Who asked.
        conn: ConnId,
        /// What came out.
        outcome: AuthOutcome,
    },
    /// To [`Question::ValidateRooms`]: the rooms to join, exactly.
    Rooms {
        /// Who asked.
        conn: ConnId,
        /// May differ from what was asked for.
        rooms: Vec<String>,
    },
    /// To [`Question::ValidateRooms`], when it could not be found out.
    RoomsFailed {
        /// Who asked.
        conn: ConnId,
    },
    /// To [`Effect::Listen`].
    Listening {
        /// Who waits.
        conn: ConnId,
        /// The room.
        room: Arc<str>,
        /// What came out.
        outcome: Listening,
    },
    /// The hook for [`Question::Connected`] refused after the fact: the client is told and closed.
    ConnectedFailed {
        /// Which one.
        conn: ConnId,
    },
}

impl Verdict {
    /// Whose it is.
    pub fn conn(&self) -> ConnId {
        match self {
            Self::Auth { conn, .. }
            | Self::Rooms { conn, .. }
            | Self::RoomsFailed { conn }
            | Self::Listening { conn, .. }
            | Self::ConnectedFailed { conn } => *conn,
        }
    }
}

/// Whether messages of other instances reach a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listening {
    /// They do from here on.
    Confirmed,
    /// Only those of this process do: there is no Redis, or it is away and asked once it is back.
    LocalOnly,
    /// The room is not listened to: there are too many, or Redis refuses it.
    Refused,
}

/// The end of an authentication.
#[derive(Clone, Debug)]
pub enum AuthOutcome {
    /// Let in.
    Accepted(Identity),
    /// Let in, and encrypted from `connected` on.
    Encrypted(Identity, Box<Agreement>),
    /// The credentials are not good.
    Refused(RefusalReason),
    /// It could not be found out.
    Failed,
    /// The credentials are good, and the user has as many connections as one may.
    TooManyConnections,
}

macro_rules! refusal_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why an authentication was refused. The client is not told; counters, logs and `shardcast token check` are.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RefusalReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl RefusalReason {
            /// Every reason, in the order of [`RefusalReason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Whether it says nothing about the credentials: they could not be checked.
            pub const fn is_outage(self) -> bool {
                matches!(self, Self::KeysUnavailable | Self::WebhookUnavailable)
            }

            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// A stable name, in snake case, for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// Its place in [`RefusalReason::ALL`] and in arrays of counters.
            pub const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

refusal_reasons! {
    /// Nothing was sent to authenticate with, or not in the form that is understood.
    CredentialsMissing = "credentials_missing",
    /// A token that nobody knows.
    CredentialsUnknown = "credentials_unknown",
    /// A token longer than allowed.
    TokenTooLong = "token_too_long",
    /// A token that is not a JSON Web Token, or whose claims have the wrong form.
    TokenMalformed = "token_malformed",
    /// A token signed with an algorithm that its key is not for.
    TokenAlgorithm = "token_algorithm",
    /// A token that names a key nobody knows.
    TokenKeyUnknown = "token_key_unknown",
    /// A token whose signature is not that of its key.
    TokenSignature = "token_signature",
    /// A token without a claim that is required.
    TokenClaimMissing = "token_claim_missing",
    /// A token that has expired.
    TokenExpired = "token_expired",
    /// A token of the future.
    TokenNotYetValid = "token_not_yet_valid",
    /// A token of an issuer that is not trusted.
    TokenIssuer = "token_issuer",
    /// A token for somebody else.
    TokenAudience = "token_audience",
    /// The keys to check the token with could not be fetched.
    KeysUnavailable = "keys_unavailable",
    /// The application's webhook said no.
    WebhookRefused = "webhook_refused",
    /// The application's webhook could not be asked.
    WebhookUnavailable = "webhook_unavailable",
    /// The mount demands encryption and the client offered none.
    EncryptionRequired = "encryption_required",
    /// The client's part of the key exchange is not usable.
    EncryptionInvalid = "encryption_invalid",
    /// An application's own hooks said no.
    Hooks = "hooks",
}

/// What the shard wants done. None is per recipient of a message.
#[derive(Debug)]
pub enum Effect {
    /// A question for the hooks.
    Ask(Ask),
    /// The client can be addressed from here on.
    ClientUp {
        /// Its id.
        client_id: ClientId,
        /// Where it is.
        conn: ConnId,
        /// Its mount.
        mount: MountId,
    },
    /// The client cannot be addressed any more.
    ClientDown {
        /// Its id.
        client_id: ClientId,
        /// Where it was.
        conn: ConnId,
    },
    /// First connection of the user on this shard.
    UserUp(MountId, UserId),
    /// Last connection of the user on this shard is gone.
    UserDown(MountId, UserId),
    /// First member of the room on this shard.
    RoomUp(MountId, Arc<str>),
    /// Last member of the room on this shard is gone.
    RoomDown(MountId, Arc<str>),
    /// Somebody is about to join a room, once messages of other instances reach it: see to that, then hand in
    /// [`Verdict::Listening`]. It must be listened to until as many [`Effect::Unlisten`] came, and as long as the room is
    /// up.
    Listen {
        /// Who waits.
        conn: ConnId,
        /// Where the room lives.
        mount: MountId,
        /// Its name.
        room: Arc<str>,
    },
    /// One [`Effect::Listen`] is settled: its connection joined the room, or will not.
    Unlisten(MountId, Arc<str>),
    /// First open connection of the mount on this shard that agreed on permessage-deflate.
    DeflateUp(MountId),
    /// The last such connection is gone.
    DeflateDown(MountId),
    /// Call [`crate::Shard::handle_writable`] once the socket takes bytes again.
    AwaitWritable(ConnId),
    /// Send FIN; go on reading.
    Fin(ConnId),
    /// Close the socket, then call [`crate::Shard::handle_closed`].
    Drop(ConnId),
    /// A proxy named this address: may it have one more connection? Call [`crate::Shard::handle_address_verdict`] before
    /// more bytes of the connection are handed in.
    CountAddress {
        /// Whose connection.
        conn: ConnId,
        /// The client's.
        address: IpAddr,
    },
    /// Not a WebSocket request: give socket and bytes to the control plane, then call
    /// [`crate::Shard::handle_closed`]. Bytes that are handed in after those that raised this are lost, so
    /// effects are polled before the next read.
    HandOff {
        /// Whose socket.
        conn: ConnId,
        /// Where it comes from: the peer, or what its PROXY header said.
        address: IpAddr,
        /// Its PROXY header named nobody: no header of a request is believed either.
        is_unnamed: bool,
        /// Everything received so far but the PROXY header.
        received: Vec<u8>,
    },
    /// The answer to [`Mail::Query`].
    Reply {
        /// The caller's ticket.
        ticket: u64,
        /// What was found.
        reply: QueryReply,
    },
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Mail>() <= 96, "mail is copied through the mailboxes: box what is rare");
