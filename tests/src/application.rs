//! An application that answers webhooks: an HTTP server of the test's own, which verifies every signature by itself.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use shardcast::config::{Config, HttpUrl, Secret, WebhookHook};

use crate::server::PATIENCE;

/// A key for signatures.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Another.
pub const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// How old a request may be.
const AGE_MAX: Duration = Duration::from_secs(300);

/// A request whose signature was good.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its `webhook-id`.
    pub id: String,
    /// Its body.
    pub body: Value,
    /// All its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What the application does with a request.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// Answers with this status and body.
    Answer(u16, String),
    /// Writes these bytes and closes.
    Bytes(Vec<u8>),
    /// Writes this much of nothing in particular in chunks, as far as it is taken, and closes.
    Flood(usize),
    /// Sends a head and then a byte now and then, for ever.
    Drip,
    /// Says nothing until the application stops.
    Hang,
    /// Closes without a word.
    Cut,
}

impl Reaction {
    /// 200 with this JSON.
    pub fn ok(body: &Value) -> Self {
        Self::Answer(200, body.to_string())
    }
}

/// A running application.
pub struct Application {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    secrets: Vec<Vec<u8>>,
    react: Box<dyn Fn(&Webhook) -> Reaction + Send + Sync>,
    seen: Mutex<Vec<Webhook>>,
    came: Condvar,
    forged: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

impl Application {
    /// Serves on a free port until it is dropped, knowing [`SECRET`].
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(react: impl Fn(&Webhook) -> Reaction + Send + Sync + 'static) -> Self {
        Self::with_secrets(&[SECRET], react)
    }

    /// The same with other keys, any of which makes a signature good.
    ///
    /// # Panics
    /// When there is no port, or a key is none.
    pub fn with_secrets(
        secrets: &[&str],
        react: impl Fn(&Webhook) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let key = |secret: &&str| STANDARD.decode(&secret["whsec_".len()..]).expect("base64");
        let shared = Arc::new(Shared {
            secrets: secrets.iter().map(key).collect(),
            react: Box::new(react),
            seen: Mutex::default(),
            came: Condvar::new(),
            forged: Mutex::default(),
            open: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let accepting = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}/hook?k=1", self.address)
    }

    /// Lets the server of `config` ask and tell it of these.
    ///
    /// # Panics
    /// Never: its address is a URL.
    pub fn serve(&self, config: &mut Config, hooks: &[WebhookHook]) {
        config.webhooks.url = HttpUrl::parse(&self.url());
        assert!(config.webhooks.url.is_some(), "the address of a test is a URL");
        config.webhooks.secret = vec![Secret::new(SECRET)];
        config.webhooks.hooks = hooks.to_vec();
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Webhook> {
        self.shared.seen.lock().expect("no test panicked").clone()
    }

    /// Every event of the requests so far, once for each `webhook-id`, in the order of the requests.
    pub fn events(&self) -> Vec<Value> {
        let mut ids = std::collections::BTreeSet::new();
        let fresh = self.seen().into_iter().filter(|webhook| ids.insert(webhook.id.clone()));
        fresh.flat_map(|webhook| webhook.body["events"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// Waits until what was seen is as `wanted`.
    ///
    /// # Panics
    /// When it does not become so; `what` names what was waited for.
    pub fn wait_until(&self, what: &str, wanted: impl Fn(&[Webhook]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen.lock().expect("no test panicked");
        while !wanted(&seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {PATIENCE:?}; {} requests", seen.len());
            (seen, _) = self.shared.came.wait_timeout(seen, left).expect("no test panicked");
        }
    }

    fn end(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        // Wakes the accepting thread, which may be gone.
        drop(TcpStream::connect(self.address));
        for stream in self.shared.open.lock().expect("no test panicked").drain(..) {
            // A peer that is gone is as good.
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("accepting does not panic");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.end();
        let forged = self.shared.forged.lock().expect("no test panicked");
        if !thread::panicking() {
            assert!(forged.is_empty(), "requests that no application would believe: {forged:?}");
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Acquire) {
            return;
        }
        let stream = stream.expect("a connection");
        shared.open.lock().expect("no test panicked").push(stream.try_clone().expect("a descriptor"));
        let shared = shared.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            while let Some(request) = read(&mut reader) {
                match verify(&shared.secrets, request) {
                    Ok(webhook) => {
                        if !react(&shared, webhook, reader.get_mut()) {
                            break;
                        }
                    }
                    Err(why) => {
                        shared.forged.lock().expect("no test panicked").push(why);
                        break;
                    }
                }
            }
            // A peer that is gone is as good.
            drop(reader.get_ref().shutdown(Shutdown::Both));
        });
    }
}

struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// `None` when the client is gone.
fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let header = |line: &String| line.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned()));
    let headers: BTreeMap<_, _> = lines[1..].iter().filter_map(header).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line: lines.swap_remove(0), headers, body })
}

/// As Standard Webhooks asks of an application.
fn verify(secrets: &[Vec<u8>], request: Request) -> Result<Webhook, String> {
    let Request { line, headers, body } = request;
    let header = |name: &str| headers.get(name).cloned().ok_or(format!("{line}: no {name}"));
    let (id, timestamp) = (header("webhook-id")?, header("webhook-timestamp")?);
    let sent = Duration::from_secs(timestamp.parse().map_err(|_| "timestamp".to_owned())?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    if now.abs_diff(sent) > AGE_MAX {
        return Err(format!("{line}: from {timestamp}"));
    }
    let signed = [format!("{id}.{timestamp}.").as_bytes(), &body].concat();
    let good = header("webhook-signature")?.split(' ').any(|signature| {
        let bytes = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        bytes.is_some_and(|bytes| {
            let key = |secret: &Vec<u8>| hmac::Key::new(hmac::HMAC_SHA256, secret);
            secrets.iter().any(|secret| hmac::verify(&key(secret), &signed, &bytes).is_ok())
        })
    });
    if !good || line != "POST /hook?k=1 HTTP/1.1" || header("content-type")? != "application/json" {
        return Err(format!("{line}: not signed by us, or not for us"));
    }
    let body = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok(Webhook { id, body, headers })
}

/// Whether the connection can be used again.
fn react(shared: &Shared, webhook: Webhook, stream: &mut TcpStream) -> bool {
    let reaction = (shared.react)(&webhook);
    shared.seen.lock().expect("no test panicked").push(webhook);
    shared.came.notify_all();
    let mut write = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match reaction {
        Reaction::Answer(status, body) => {
            let length = body.len();
            write(format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
        }
        Reaction::Bytes(bytes) => {
            write(&bytes);
            false
        }
        Reaction::Flood(bytes) => {
            write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000));
            let _taken = (0..bytes / 0x1000).take_while(|_| write(chunk.as_bytes())).count();
            false
        }
        Reaction::Drip => {
            write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            while write(b" ") && !shared.stopping.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(20));
            }
            false
        }
        Reaction::Hang => {
            // Ends when the client closes, or the application stops and shuts the socket down.
            let _left = stream.read(&mut [0]);
            false
        }
        Reaction::Cut => false,
    }
}
