//! The client's half of Ignis' encryption, written from `ignis.md` §10 and without the server's code.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Received};
use crate::server::{TestServer, WS};

const INFO: &str = "ignis-ecdh-p256-aes-256-gcm-v1";

/// A client's key pair.
#[derive(Debug)]
pub struct KeyPair {
    private: PrivateKey,
    /// What it sends as `publicKey`.
    pub public_key: String,
}

impl KeyPair {
    /// A new one.
    ///
    /// # Panics
    /// Never on a machine that works; likewise for the others.
    pub fn generate() -> Self {
        let private = PrivateKey::generate(&ECDH_P256).expect("a private key");
        let public_key = STANDARD.encode(private.compute_public_key().expect("a public key"));
        Self { private, public_key }
    }

    /// The key that comes of the `data` of `connected`.
    ///
    /// # Panics
    /// When that has no public key or no salt.
    pub fn derive(&self, connected: &Value) -> Key {
        let bytes = |name: &str| {
            let text = connected[name].as_str().unwrap_or_else(|| panic!("no {name} in {connected}"));
            STANDARD.decode(text).expect("base64")
        };
        let server = UnparsedPublicKey::new(&ECDH_P256, bytes("serverPublicKey"));
        let salt = bytes("salt");
        let key = agreement::agree(&self.private, server, "no agreement", |shared| {
            let prk = Salt::new(HKDF_SHA256, &salt).extract(shared);
            let mut key = [0; 32];
            let filled = prk.expand(&[INFO.as_bytes()], &AES_256_GCM).and_then(|okm| okm.fill(&mut key));
            filled.map(|()| key).map_err(|_| "no key")
        });
        Key(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.expect("a key")).expect("32 bytes")))
    }
}

/// What both sides share.
#[derive(Debug)]
pub struct Key(LessSafeKey);

impl Key {
    /// A key as a recorder wrote it down.
    ///
    /// # Panics
    /// When that is no 32 bytes in base64.
    pub fn from_base64(text: &str) -> Self {
        let key = STANDARD.decode(text).expect("base64");
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes")))
    }

    /// The text within an `encrypted` event, and its IV.
    ///
    /// # Panics
    /// When it is none, or not of this key.
    pub fn open(&self, event: &str) -> (String, String) {
        let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{event:?}: {error}"));
        assert_eq!(event["event"], "encrypted", "{event} is readable");
        let iv = event["data"]["iv"].as_str().expect("an IV");
        let mut ct = STANDARD.decode(event["data"]["ct"].as_str().expect("a ciphertext")).expect("base64");
        let nonce = STANDARD.decode(iv).expect("base64");
        let nonce = Nonce::try_assume_unique_for_key(&nonce).expect("12 bytes");
        let text = self.0.open_in_place(nonce, Aad::empty(), &mut ct).expect("a message of this key");
        (String::from_utf8(text.to_vec()).expect("text"), iv.to_owned())
    }

    /// An `encrypted` event of a text.
    ///
    /// # Panics
    /// Never on a machine that works.
    pub fn seal(&self, text: &str) -> String {
        let mut iv = [0; 12];
        rand::fill(&mut iv).expect("random bytes");
        let mut ct = text.as_bytes().to_vec();
        let nonce = Nonce::assume_unique_for_key(iv);
        self.0.seal_in_place_append_tag(nonce, Aad::empty(), &mut ct).expect("a ciphertext");
        let data = json!({"iv": STANDARD.encode(iv), "ct": STANDARD.encode(ct)});
        json!({"event": "encrypted", "data": data}).to_string()
    }
}

/// A client that is encrypted.
#[derive(Debug)]
pub struct SecretClient {
    /// Its connection, to speak readable or to look at what is on the wire.
    pub client: Client,
    /// Its key.
    pub key: Key,
    /// Its id.
    pub id: String,
    /// IVs of what it heard.
    pub ivs: Vec<String>,
}

impl SecretClient {
    /// Connects to the Ignis mount and authenticates.
    ///
    /// # Panics
    /// When it is not let in, or in clear.
    pub fn connect(server: &TestServer, user_id: &str) -> Self {
        Self::over(Client::connect(server.address(), WS), user_id)
    }

    /// Authenticates over a connection.
    ///
    /// # Panics
    /// As [`SecretClient::connect`].
    pub fn over(mut client: Client, user_id: &str) -> Self {
        let keys = KeyPair::generate();
        client.send_json(&json!({
            "event": "authenticate",
            "data": {"token": "token", "userId": user_id, "publicKey": keys.public_key},
        }));
        let connected = client.recv_json();
        assert_eq!(connected["event"], "connected", "{connected}");
        let id = connected["data"]["id"].as_str().expect("a client id").to_owned();
        Self { key: keys.derive(&connected["data"]), client, id, ivs: Vec::new() }
    }

    /// The next message, which must be encrypted.
    ///
    /// # Panics
    /// When it is not, or none comes.
    pub fn recv(&mut self) -> String {
        match self.client.recv() {
            Received::Text(event) => {
                let (text, iv) = self.key.open(&event);
                self.ivs.push(iv);
                text
            }
            other => panic!("expected a message, received {other:?}"),
        }
    }

    /// Sends a message encrypted.
    pub fn send(&mut self, text: &str) {
        let event = self.key.seal(text);
        self.client.send_text(&event);
    }

    /// Joins rooms in clear and waits until the server has taken the request in.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn join(&mut self, rooms: &[&str]) {
        self.client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
        self.client.settle();
    }
}
