//! The control plane: HTTP for backends on the public port and for operators on the admin listener.
//!
//! One thread with one runtime serves both. It owns nothing that clients depend on: it talks to the shards
//! through [`Engine`] and its mailboxes only, so that when it is slow or gone, deliveries go on.
//!
//! Whatever a peer does costs at most one of `connections_max` places, `body_bytes_max` bytes and the timeouts
//! of [`ControlLimits`]; it is logged at debug, never above.

mod access;
mod admin;
mod answer;
mod api;
mod connection;
pub mod emit;
pub mod error;
mod hand_off;
mod metrics;
mod not_found;
mod process;
mod secure;

use std::net::{IpAddr, TcpListener as StdTcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderValue};
use shardcast_shard::MountId;
use shardcast_shard::address::Addresses;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admission::addresses;
use crate::config::Config;
use crate::engine::Engine;
use connection::{Audience, Socket, Stream};

pub use access::Access;
pub use hand_off::{HandOff, Peer};

/// Pause after an accept that failed, so that running out of file descriptors does not spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a connection may be silent between two requests: longer than the pools of HTTP clients keep one (90 s
/// in hyper's), so that a request does not meet our closing.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Bounds of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlLimits {
    /// Connections of the public port that may be open here at once; one more is answered 503.
    pub connections_max: usize,
    /// The same for the admin listener. Apart, so that a crowd on the public port cannot hide the process'
    /// health.
    pub admin_connections_max: usize,
    /// Longest request head.
    pub head_bytes_max: usize,
    /// Longest request body; longer ones are answered 413.
    pub body_bytes_max: usize,
    /// For a request head to arrive, counted from the end of the request before it.
    pub head_timeout: Duration,
    /// For a request body to arrive.
    pub body_timeout: Duration,
    /// For the socket to take some of an answer.
    pub write_timeout: Duration,
    /// For a peer to close its side after we closed ours.
    pub linger_timeout: Duration,
    /// For requests that are under way when the control plane stops.
    pub stop_timeout: Duration,
}

impl ControlLimits {
    /// What the configuration says, and fixed values for the rest.
    pub fn new(config: &Config) -> Self {
        Self {
            connections_max: 1_024,
            admin_connections_max: 64,
            head_bytes_max: config.server.head_bytes_max,
            body_bytes_max: config.api.body_bytes_max,
            head_timeout: KEEP_ALIVE,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(10),
            linger_timeout: Duration::from_secs(1),
            stop_timeout: Duration::from_secs(1),
        }
    }
}

/// Memory of this process in RAM, bytes; `None` when the kernel does not say.
pub(crate) fn resident_bytes() -> Option<u64> {
    process::Process::resident()
}

/// What the configuration says about the control plane.
#[derive(Debug)]
pub struct Settings {
    limits: ControlLimits,
    addresses: Addresses,
    /// Paths of the mounts, by number.
    mounts: Vec<String>,
    access: watch::Sender<Access>,
}

impl Settings {
    /// What `config` says.
    pub fn new(config: &Config) -> Self {
        Self::with_limits(config, ControlLimits::new(config))
    }

    /// The same with other limits.
    pub fn with_limits(config: &Config, limits: ControlLimits) -> Self {
        let mounts = config.mounts.iter().map(|mount| mount.path.clone()).collect();
        let access = watch::Sender::new(Access::new(config));
        Self { limits, addresses: addresses(config), mounts, access }
    }

    fn mount(&self, path: &str) -> Option<MountId> {
        let index = self.mounts.iter().position(|mount| mount == path)?;
        u8::try_from(index).ok().map(MountId)
    }

    fn mount_path(&self, mount: MountId) -> &str {
        self.mounts.get(usize::from(mount.0)).map_or("", String::as_str)
    }

    /// Where a request comes from that `peer` sent; `peer` itself where a proxy's header makes no sense.
    fn client_address(&self, headers: &HeaderMap, peer: Peer) -> IpAddr {
        let Peer { address: peer, is_unnamed } = peer;
        if is_unnamed {
            return peer;
        }
        let values = headers.get_all(&self.addresses.header).into_iter().map(HeaderValue::as_bytes);
        self.addresses.client(values, peer).unwrap_or(peer)
    }

    /// Applies what a reload can change, the keys of the API and dev mode, from the next request on.
    pub fn reload(&self, config: &Config) {
        self.access.send_replace(Access::new(config));
    }
}

/// What requests are answered from.
#[derive(Debug)]
struct Control {
    engine: Arc<Engine>,
    settings: Arc<Settings>,
}

/// Answers requests until `stop` turns true or its sender is gone, then lets those under way finish for
/// `stop_timeout`.
///
/// `hand_offs` brings the connections of the public port. `admin` is bound by the caller, so that a taken port
/// is known before anything starts. Runs inside a tokio runtime with time and I/O.
pub async fn serve(
    engine: Arc<Engine>,
    settings: Arc<Settings>,
    mut hand_offs: mpsc::Receiver<HandOff>,
    admin: Option<StdTcpListener>,
    mut stop: watch::Receiver<bool>,
) {
    let admin = admin.and_then(register);
    let mut server = Server {
        control: Arc::new(Control { engine, settings }),
        public: JoinSet::new(),
        admin: JoinSet::new(),
        stop: stop.clone(),
    };
    let mut shards_live = true;
    loop {
        tokio::select! {
            hand_off = hand_offs.recv(), if shards_live => match hand_off {
                Some(hand_off) => server.serve_public(hand_off),
                None => shards_live = false,
            },
            stream = accept(admin.as_ref()) => server.serve_admin(stream),
            Some(ended) = server.public.join_next() => note_end(ended),
            Some(ended) = server.admin.join_next() => note_end(ended),
            () = connection::stopped(&mut stop) => break,
        }
    }
    drop((hand_offs, admin));
    server.finish().await;
}

fn register(listener: StdTcpListener) -> Option<TcpListener> {
    match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(%error, "no health and no metrics: the admin listener cannot be used; restart");
            None
        }
    }
}

/// The next admin connection; never, without a listener.
async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "the admin listener could not accept");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

/// The connections that are open.
struct Server {
    control: Arc<Control>,
    public: JoinSet<()>,
    admin: JoinSet<()>,
    stop: watch::Receiver<bool>,
}

impl Server {
    fn serve_public(&mut self, mut hand_off: HandOff) {
        let limits = &self.control.settings.limits;
        if is_full(&mut self.public, limits.connections_max) {
            self.control.engine.status().process.hand_offs_refused.fetch_add(1, Ordering::Relaxed);
            return hand_off.refuse();
        }
        let (peer, place) = (hand_off.peer, hand_off.place.take());
        match hand_off.into_socket(limits.write_timeout) {
            Ok(socket) => {
                let (control, stop) = (self.control.clone(), self.stop.clone());
                self.public.spawn(async move {
                    connection::serve(control, Audience::Public(peer), socket, stop).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(address = %peer.address, %error, "a connection could not be taken over")
            }
        }
    }

    fn serve_admin(&mut self, stream: TcpStream) {
        let limits = &self.control.settings.limits;
        if is_full(&mut self.admin, limits.admin_connections_max) {
            return hand_off::refuse(&stream);
        }
        let socket = Socket::new(Stream::Plain(stream), Vec::new(), limits.write_timeout);
        let (control, stop) = (self.control.clone(), self.stop.clone());
        self.admin.spawn(connection::serve(control, Audience::Admin, socket, stop));
    }

    async fn finish(mut self) {
        let rest = async {
            while let Some(ended) = self.public.join_next().await {
                note_end(ended);
            }
            while let Some(ended) = self.admin.join_next().await {
                note_end(ended);
            }
        };
        if tokio::time::timeout(self.control.settings.limits.stop_timeout, rest).await.is_err() {
            tracing::debug!("requests still under way were cut off");
        }
    }
}

/// Whether no more connections may be served, once those that have ended are out of the count.
fn is_full(connections: &mut JoinSet<()>, count_max: usize) -> bool {
    while let Some(ended) = connections.try_join_next() {
        note_end(ended);
    }
    connections.len() >= count_max
}

fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request of the control plane panicked; its connection is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_15_a_request_of_nobody_named_is_its_proxys() {
        let mut config = Config::default();
        config.server.trusted_proxies = vec!["127.0.0.9/32".parse().expect("a network")];
        let settings = Settings::new(&config);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("203.0.113.8"));
        let [proxy, stranger, client] =
            ["127.0.0.9", "127.0.0.2", "203.0.113.8"].map(|text| text.parse::<IpAddr>().expect("an address"));
        for (address, is_unnamed, expected) in
            [(proxy, false, client), (proxy, true, proxy), (stranger, false, stranger)]
        {
            let found = settings.client_address(&headers, Peer { address, is_unnamed });
            assert_eq!(found, expected, "{address} {is_unnamed}");
        }
    }
}
