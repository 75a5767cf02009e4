//! A control plane with nothing behind its mailboxes, and an HTTP client that shows every byte.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardcast::config::{Config, Dialect, Mount, RedisUrl, Secret};
use shardcast::control::{self, ControlLimits, HandOff, Peer, Settings};
use shardcast::directory::Directory;
use shardcast::engine::Engine;
use shardcast::mailbox::{MailReceiver, mailbox};
use shardcast::redis::{self, Topics, Wiring};
use shardcast::router::Router;
use shardcast::status::Status;
use shardcast::upstream::Upstream;
use shardcast_shard::{Mail, MountId, Query, QueryReply};
use tokio::sync::{mpsc, watch};

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The key that [`Options::default`] configures.
pub(crate) const KEY: &str = "k3y";

/// The Ignis mount; the next is one of topics, `/topics`.
pub(crate) const MOUNT: MountId = MountId(0);

/// How a plane differs from the usual one.
pub(crate) struct Options {
    pub(crate) shard_count: usize,
    pub(crate) letters_max: usize,
    pub(crate) keys: Vec<&'static str>,
    pub(crate) dev: bool,
    pub(crate) ignis: bool,
    /// Where to look for a Redis that is not there.
    pub(crate) redis: Option<&'static str>,
    /// Changes to the limits.
    pub(crate) limits: fn(&mut ControlLimits),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shard_count: 1,
            letters_max: 64,
            keys: vec![KEY],
            dev: false,
            ignis: true,
            redis: None,
            limits: |_| {},
        }
    }
}

impl Options {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.mounts.push(Mount::for_dialect(Dialect::Topic));
        config.api.key = self.keys.iter().copied().map(Secret::new).collect();
        config.auth.dev = self.dev;
        config.redis.url = self.redis.map(RedisUrl::new);
        config
    }
}

/// A running control plane.
pub(crate) struct Plane {
    pub(crate) engine: Arc<Engine>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) mail: Vec<MailReceiver>,
    pub(crate) admin: SocketAddr,
    hand_offs: mpsc::Sender<HandOff>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Plane {
    pub(crate) fn start(options: Options) -> Self {
        let config = options.config();
        let (senders, mail) =
            (0..options.shard_count).map(|_| mailbox(options.letters_max).expect("eventfd")).unzip();
        let router = Arc::new(Router::new(Arc::new(Directory::new(config.mounts.len())), senders));
        let status = Arc::new(Status::new(Instant::now(), "io_uring", options.shard_count));
        let (stop, stopped) = watch::channel(false);
        let mut threads = Vec::new();
        let upstream = Arc::new(Upstream::new(&config.redis, status.clone()));
        let topics = Arc::new(Topics::of(&config, status.clone()));
        let redis = config.redis.url.is_some().then(|| {
            let wiring = Wiring {
                server_id: "own-id".to_owned(),
                ignis: Some(MOUNT),
                topics: topics.clone(),
                upstream: upstream.clone(),
                router: router.clone(),
                status: status.clone(),
            };
            let linked = redis::spawn(&config.redis, wiring, stopped.clone());
            let (handle, thread) = linked.expect("a usable address");
            threads.push(thread);
            handle
        });
        let mount = options.ignis.then_some(MOUNT);
        let engine = Engine::new("own-id".to_owned(), mount, router, redis, status);
        let engine = Arc::new(engine.listening(upstream, topics));

        let mut limits = ControlLimits::new(&config);
        (options.limits)(&mut limits);
        let settings = Arc::new(Settings::with_limits(&config, limits));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let admin = listener.local_addr().expect("bound");
        let (hand_offs, handed_off) = mpsc::channel(16);
        let serving = control::serve(engine.clone(), settings.clone(), handed_off, Some(listener), stopped);
        threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(serving);
        }));
        Self { engine, settings, mail, admin, hand_offs, stop, threads }
    }

    /// A connection of the public port of which a shard has read `received` so far.
    pub(crate) fn hand_off(&self, received: &[u8]) -> Client {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("a connection");
        let (stream, _) = listener.accept().expect("the other end");
        let peer = Peer { address: Ipv4Addr::LOCALHOST.into(), is_unnamed: false };
        let hand_off = HandOff { stream, peer, received: received.to_vec(), tls: None, place: None };
        self.hand_offs.try_send(hand_off).expect("the control plane keeps up");
        Client::new(client)
    }

    /// A connection to the admin listener.
    pub(crate) fn connect_admin(&self) -> Client {
        Client::new(TcpStream::connect(self.admin).expect("a connection"))
    }

    /// One request on a public connection of its own, with the key.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let request = request(method, path, &format!("Authorization: Bearer {KEY}\r\n"), body);
        self.hand_off(request.as_bytes()).answer_to(method)
    }

    pub(crate) fn emit(&self, body: &str) -> Answer {
        self.call("POST", "/api/emit", body)
    }

    pub(crate) fn get_admin(&self, path: &str) -> Answer {
        let mut client = self.connect_admin();
        client.send(request("GET", path, "", "").as_bytes());
        client.answer()
    }

    /// The next letter for a shard, if one is there.
    pub(crate) fn take(&self, shard: usize) -> Option<Mail> {
        self.mail[shard].take()
    }

    /// Waits for a question to a shard and answers it.
    pub(crate) fn answer_query(&self, shard: usize, reply: QueryReply) -> Query {
        let query = until("a question to the shard", || match self.take(shard)? {
            Mail::Query { ticket, query } => Some((ticket, query)),
            other => panic!("unexpected {other:?}"),
        });
        self.engine.answer(query.0, reply);
        query.1
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(mut self) {
        self.finish();
    }

    /// Tells it to stop.
    pub(crate) fn begin_stop(&self) {
        self.stop.send_replace(true);
    }

    fn finish(&mut self) {
        self.begin_stop();
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

/// Waits for what only another thread can bring about.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}

/// The text of a request.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:7401\r\n{headers}{length}\r\n{body}")
}

/// The client's end of a connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_else(|| panic!("no code in {self:?}")).to_owned()
    }
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { stream, unread: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the peer takes it");
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn end_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("still open");
    }

    /// The next response.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET")
    }

    /// The next response, which has no body when `method` is `HEAD`.
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let end = loop {
            match self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.read_more(),
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head in ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("Content-Length").map_or(0, |length| length.parse().expect("a number"));
        let length = if method == "HEAD" { 0 } else { length };
        while self.unread.len() < length {
            self.read_more();
        }
        answer.body = String::from_utf8(self.unread.drain(..length).collect()).expect("a body in UTF-8");
        answer
    }

    /// Whatever comes until the peer closes.
    pub(crate) fn rest(&mut self) -> io::Result<String> {
        self.stream.read_to_end(&mut self.unread)?;
        Ok(String::from_utf8_lossy(&std::mem::take(&mut self.unread)).into_owned())
    }

    fn read_more(&mut self) {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).expect("the peer sends");
        assert!(count > 0, "the peer closed after {:?}", String::from_utf8_lossy(&self.unread));
        self.unread.extend_from_slice(&buffer[..count]);
    }
}
