//! An issuer of tokens: its keys, the tokens it signs, and the place it publishes the keys at, which can be made to
//! hang, to lie and to never stop.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use shardcast::auth::key::library_algorithm;
use shardcast::auth::signing::generate;
use shardcast::config::{JwtAlgorithm, JwtKey, Secret};

use crate::process::POLL_INTERVAL;

/// What the place does with a request.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Answers 200 with this text.
    Serve(String),
    /// Takes the request and says nothing.
    Hang,
    /// Announces no length and sends this many bytes of JSON.
    Endless(u64),
    /// Sends a byte of its answer now and then.
    Drip,
    /// Answers with this status.
    Status(u16),
    /// Answers 302 to this address.
    Redirect(String),
}

#[derive(Debug)]
struct Shared {
    manner: Mutex<Manner>,
    asked: AtomicU64,
    sent: AtomicU64,
    stop: AtomicBool,
}

/// A place that keys are published at. Ends when dropped.
#[derive(Debug)]
pub struct JwksServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl JwksServer {
    /// Starts on a free loopback port.
    ///
    /// # Panics
    /// When there is none.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let own = shared.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if own.stop.load(Ordering::Acquire) {
                    return;
                }
                let own = own.clone();
                // Ends with the connection or with the place, whichever is first.
                thread::spawn(move || stream.map(|stream| own.answer(stream)));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    /// The address of the keys.
    pub fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// From now on does something else.
    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }

    /// From now on serves these keys.
    pub fn publish(&self, keys: &[&IssuerKey]) {
        self.behave(Manner::Serve(set(keys)));
    }

    /// Requests so far.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Acquire)
    }

    /// Bytes of bodies that were taken off it so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Acquire)
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        self.asked.fetch_add(1, Ordering::AcqRel);
        let manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Whoever asked may be gone at any time; what could not be sent is not counted.
        match manner {
            Manner::Serve(body) => {
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                drop(stream.write_all((head + &body).as_bytes()));
            }
            Manner::Status(status) => {
                drop(write!(
                    stream,
                    "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ));
            }
            Manner::Redirect(to) => {
                let head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\n";
                drop(write!(stream, "{head}Location: {to}\r\n\r\n"));
            }
            Manner::Hang => self.wait(Duration::from_secs(60)),
            Manner::Drip => {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
                while !self.stop.load(Ordering::Acquire) && stream.write_all(b" ").is_ok() {
                    self.wait(Duration::from_millis(50));
                }
            }
            Manner::Endless(bytes) => {
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"keys\":[\""));
                let chunk = [b'x'; 64 << 10];
                while self.sent.load(Ordering::Acquire) < bytes && stream.write_all(&chunk).is_ok() {
                    self.sent.fetch_add(chunk.len() as u64, Ordering::AcqRel);
                }
            }
        }
    }

    fn wait(&self, most: Duration) {
        let mut waited = Duration::ZERO;
        while waited < most && !self.stop.load(Ordering::Acquire) {
            thread::sleep(POLL_INTERVAL);
            waited += POLL_INTERVAL;
        }
    }
}

/// A set of keys as a document.
pub fn set(keys: &[&IssuerKey]) -> String {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
}

/// A key that an issuer signs with.
pub struct IssuerKey {
    /// How it signs.
    pub algorithm: JwtAlgorithm,
    /// Its id, empty for none.
    pub kid: String,
    /// The private key in PEM, or the secret.
    pub private: String,
    /// The public key in PEM; `None` for a secret.
    pub public: Option<String>,
    encoding: EncodingKey,
}

impl IssuerKey {
    /// A fresh key.
    ///
    /// # Panics
    /// When the machine has none to give.
    pub fn new(algorithm: JwtAlgorithm, kid: &str) -> Self {
        use JwtAlgorithm::{EdDsa, Es256, Es384};
        let generated = generate(algorithm).expect("a key");
        let private = generated.private.trim().to_owned();
        let pem = private.as_bytes();
        let encoding = match (algorithm, &generated.public) {
            (_, None) => Ok(EncodingKey::from_secret(pem)),
            (Es256 | Es384, _) => EncodingKey::from_ec_pem(pem),
            (EdDsa, _) => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_rsa_pem(pem),
        };
        let encoding = encoding.expect("the library reads its own keys");
        Self { algorithm, kid: kid.to_owned(), private, public: generated.public, encoding }
    }

    /// The public key as its issuer publishes it; a secret as it must not.
    ///
    /// # Panics
    /// When the library does not know its own keys.
    pub fn jwk(&self) -> Value {
        let mut jwk =
            Jwk::from_encoding_key(&self.encoding, library_algorithm(self.algorithm)).expect("a JWK");
        jwk.common.key_id = Some(self.kid.clone()).filter(|kid| !kid.is_empty());
        serde_json::to_value(jwk).expect("a JWK is JSON")
    }

    /// The table that tells a server of it.
    pub fn table(&self, issuer: &str) -> JwtKey {
        let (issuer, kid) = (issuer.to_owned(), self.kid.clone());
        match &self.public {
            Some(pem) => JwtKey { issuer, kid, public_key: pem.clone(), ..JwtKey::default() },
            None => JwtKey { issuer, kid, secret: Secret::new(self.private.clone()), ..JwtKey::default() },
        }
    }

    /// A token that says this and is good for an hour, unless `claims` say otherwise; a claim that is null is left
    /// out.
    ///
    /// # Panics
    /// When the key cannot sign.
    pub fn token(&self, claims: &Value) -> String {
        let mut all = json!({"exp": now_s() + 3_600});
        for (name, value) in claims.as_object().expect("claims are an object") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("it is one").retain(|_, value| !value.is_null());
        let mut header = Header::new(library_algorithm(self.algorithm));
        header.kid = Some(self.kid.clone()).filter(|kid| !kid.is_empty());
        encode(&header, &all, &self.encoding).expect("it can sign")
    }
}

/// The wall clock, seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
