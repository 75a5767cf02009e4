//! The types a setting can have beyond Rust's own: choices between names, "auto", a user's id.
//!
//! Only the values live here; how they are read from text and written back is [`super::codec`]'s business.

/// A choice between a few names, written in lower case with dashes.
pub trait Choice: Copy + Eq + 'static {
    /// Every value with its name and what it means, in the order the reference page lists them.
    const NAMES: &'static [(&'static str, Self, &'static str)];

    /// The name of this value.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, value, _)| *value == self).map_or("", |(name, _, _)| name)
    }
}

/// Defines an enum that is written by name, with each name and its meaning in one place.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $choice:ident { $(#[doc = $doc:literal] $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $choice { $(#[doc = $doc] $variant,)+ }

        impl Choice for $choice {
            const NAMES: &'static [(&'static str, Self, &'static str)] =
                &[$(($name, Self::$variant, $doc.trim_ascii()),)+];
        }
    };
}

choices! {
    /// How the shards talk to the kernel.
    pub enum IoDriver {
        /// io_uring when the kernel permits it, else epoll.
        Auto = "auto",
        /// io_uring, and refuse to start without it.
        Uring = "uring",
        /// epoll, for kernels and containers that forbid io_uring.
        Epoll = "epoll",
    }
}

choices! {
    /// A version of TLS.
    pub enum TlsVersion {
        /// TLS 1.2 (RFC 5246), with forward secrecy and authenticated encryption only.
        V12 = "1.2",
        /// TLS 1.3 (RFC 8446).
        V13 = "1.3",
    }
}

choices! {
    /// The form of log lines on standard error.
    pub enum LogFormat {
        /// One readable line an event, in colour on a terminal.
        Human = "human",
        /// One JSON object a line, for log collectors.
        Json = "json",
    }
}

choices! {
    /// The least severe level that is logged.
    pub enum LogLevel {
        /// What needs an operator now.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// Life cycle: start, stop, reload, Redis up and down.
        Info = "info",
        /// Each connection's life and every fault of a peer.
        Debug = "debug",
        /// Everything, at a cost; never in production.
        Trace = "trace",
    }
}

choices! {
    /// The protocol that clients of a mount speak.
    pub enum Dialect {
        /// The WebSocket protocol of the Ignis framework: rooms, users, JSON events.
        Ignis = "ignis",
        /// The topic-session protocol: JSON actions, a JSON Web Token, and topics that are Redis channels.
        Topic = "topic",
        /// Sends every message back unchanged, for conformance suites and load tests; no authentication.
        Echo = "echo",
    }
}

choices! {
    /// How an instance hears of messages to the rooms of its clients.
    pub enum Subscribe {
        /// By patterns: it hears every message of every room, its own or not.
        Patterns = "patterns",
        /// By name: it hears those of the rooms that it has members of.
        Exact = "exact",
    }
}

choices! {
    /// What the close frames of the server say.
    pub enum CloseCodes {
        /// Nothing: clients see 1005.
        Compat = "compat",
        /// A code and a reason.
        Explicit = "explicit",
    }
}

choices! {
    /// What the payload of a Redis message becomes when it is JSON.
    pub enum SnapshotMode {
        /// The value, byte for byte.
        Json = "json",
        /// A string that holds its text.
        String = "string",
    }
}

choices! {
    /// What the payload of a Redis message becomes when it is not UTF-8.
    pub enum BinaryMode {
        /// `{"base64":"…"}`.
        Base64 = "base64",
        /// A string in which U+FFFD stands for what is none.
        Lossy = "lossy",
        /// Nothing: the message is dropped and counted.
        Drop = "drop",
    }
}

choices! {
    /// Whether connections begin with a header of the PROXY protocol.
    pub enum ProxyProtocol {
        /// They begin with a request, or with TLS.
        Off = "off",
        /// They begin with a header of version 1 or 2; others are closed.
        Required = "required",
    }
}

choices! {
    /// What happens to a message for a connection whose outbox is full.
    pub enum SlowConsumer {
        /// The message is dropped for that connection and counted; it stays connected.
        DropNewest = "drop-newest",
        /// The oldest messages that wait for that connection are dropped and counted, to make room for the new one.
        DropOldest = "drop-oldest",
        /// The connection ends without further ado, so that the client comes back and catches up.
        Disconnect = "disconnect",
    }
}

choices! {
    /// What the audit log records; the names are those of the lines' `event`.
    pub enum AuditEvent {
        /// A client was not let in.
        AuthRefused = "auth_refused",
        /// A client was let in.
        AuthAccepted = "auth_accepted",
        /// A client asked for rooms that are not for it.
        JoinRefused = "join_refused",
        /// A request to the API came without a key that opens it.
        ApiRefused = "api_refused",
        /// A backend closed a client.
        Kick = "kick",
        /// The configuration was loaded again, or refused.
        Reload = "reload",
        /// The process serves.
        Start = "start",
        /// A stop was asked for.
        Drain = "drain",
        /// The process ends.
        Stop = "stop",
    }
}

choices! {
    /// What an application is asked or told over HTTP.
    pub enum WebhookHook {
        /// Asked who a client is.
        Authenticate = "authenticate",
        /// Asked which rooms a client may join.
        Rooms = "rooms",
        /// Told of a client's message that is not the protocol's own.
        Message = "message",
        /// Told that a client is authenticated.
        Connected = "connected",
        /// Told that a connection is gone.
        Disconnected = "disconnected",
    }
}

choices! {
    /// How a token may be signed (RFC 7518 §3, RFC 8037).
    pub enum JwtAlgorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA, PKCS #1 v1.5, with SHA-256.
        Rs256 = "RS256",
        /// RSA, PKCS #1 v1.5, with SHA-384.
        Rs384 = "RS384",
        /// RSA, PKCS #1 v1.5, with SHA-512.
        Rs512 = "RS512",
        /// RSA, PSS, with SHA-256.
        Ps256 = "PS256",
        /// RSA, PSS, with SHA-384.
        Ps384 = "PS384",
        /// RSA, PSS, with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// Ed25519.
        EdDsa = "EdDSA",
    }
}

choices! {
    /// How a secret is written.
    pub enum SecretEncoding {
        /// As it is: its bytes are the key.
        Text = "text",
        /// In base64 or base64url, with or without padding.
        Base64 = "base64",
    }
}

choices! {
    /// What a rule says about those who fit.
    pub enum Effect {
        /// They may.
        Allow = "allow",
        /// They may not.
        Deny = "deny",
    }
}

choices! {
    /// What a rule is about.
    pub enum RuleAction {
        /// Joining a room, and with it hearing what is published there.
        Join = "join",
    }
}

/// A claim that a token must make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCondition {
    /// Its name; dots lead into objects.
    pub path: String,
    /// Its value as text, or one of its values when it is a list.
    pub value: String,
}

choices! {
    /// Which clients of a mount get their messages encrypted.
    pub enum Encryption {
        /// None.
        Off = "off",
        /// Those that send a `publicKey` when they authenticate.
        Optional = "optional",
        /// All; a client that sends no `publicKey` is closed with 4004.
        Required = "required",
    }
}

choices! {
    /// What becomes of `encrypted` events that encrypted clients send.
    pub enum EncryptionInbound {
        /// They are messages like any other, as with Ignis, which decrypts nothing.
        Off = "off",
        /// They are decrypted and handled as the message within; readable messages are taken too.
        Accepted = "accepted",
        /// The same, and of readable messages only heartbeats are taken.
        Required = "required",
    }
}

/// A number, or "auto": chosen at start from the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// Chosen from the machine at start.
    Auto,
    /// Exactly this.
    Fixed(T),
}

impl<T> Auto<T> {
    /// The fixed value, or what `choose` says.
    pub fn unwrap_or_else(self, choose: impl FnOnce() -> T) -> T {
        match self {
            Self::Auto => choose(),
            Self::Fixed(value) => value,
        }
    }
}

/// The id of a user as it stands in the dialect's JSON: a string or a number, which never match each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserId {
    /// A JSON string.
    Text(String),
    /// A JSON number.
    Number(i64),
}
