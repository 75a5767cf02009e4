//! The encryption of `ignis.md` §10: key exchange, and messages as `encrypted` events.
//!
//! ECDH on P-256, HKDF-SHA-256 and AES-256-GCM of `aws-lc-rs`; this file knows what goes into them and in which
//! form it travels. Randomness is passed in. One key serves both directions, so a [`Cipher`] never draws its IVs at
//! random: it counts from a random start, and what it used is one short run of 2⁹⁶ values, which the random IVs of
//! the client miss.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::frame::{self, OpCode};
use crate::json::{self, Kind};

/// The `info` of HKDF unless both sides agree on another one.
pub const HKDF_INFO: &str = "ignis-ecdh-p256-aes-256-gcm-v1";

/// Bytes of an uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
pub const PUBLIC_KEY_LEN: usize = 65;
/// Bytes of a salt.
pub const SALT_LEN: usize = 32;
/// Bytes of an AES-256 key.
pub const KEY_LEN: usize = 32;
/// Bytes of an IV.
pub const IV_LEN: usize = 12;
/// Bytes of the tag behind a ciphertext.
pub const TAG_LEN: usize = 16;

const UNCOMPRESSED: u8 = 0x04;
const IV_TEXT_LEN: usize = 16;
const HEAD: &[u8] = br#"{"event":"encrypted","data":{"iv":""#;
const MIDDLE: &[u8] = br#"","ct":""#;
const TAIL: &[u8] = br#""}}"#;

/// The randomness of one key exchange.
#[derive(Clone)]
pub struct Entropy {
    /// The server's private key, big-endian.
    pub private_key: Zeroizing<[u8; 32]>,
    /// The salt of HKDF.
    pub salt: [u8; SALT_LEN],
    /// Where the IVs of the server begin.
    pub iv_start: [u8; IV_LEN],
}

impl Entropy {
    /// Bytes of randomness it takes.
    pub const LEN: usize = 32 + SALT_LEN + IV_LEN;

    /// From random bytes.
    pub fn from_random(bytes: &[u8; Self::LEN]) -> Self {
        let (private_key, rest) = bytes.split_at(32);
        let (salt, iv_start) = rest.split_at(SALT_LEN);
        let mut entropy =
            Self { private_key: Zeroizing::new([0; 32]), salt: [0; SALT_LEN], iv_start: [0; IV_LEN] };
        entropy.private_key.copy_from_slice(private_key);
        entropy.salt.copy_from_slice(salt);
        entropy.iv_start.copy_from_slice(iv_start);
        entropy
    }
}

/// Why a key exchange came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgreeError {
    /// The peer's public key is no base64, no uncompressed point, or not on the curve.
    #[error("the public key is not an uncompressed P-256 point in base64")]
    PublicKey,
    /// The random private key is not in the range of the curve: one in 2³² is not. Draw again.
    #[error("the random private key is out of range")]
    PrivateKey,
}

/// What came of a key exchange: what the other side is told, and the key that both have.
#[derive(Clone)]
pub struct Agreement {
    /// Our public key, an uncompressed point.
    pub public_key: [u8; PUBLIC_KEY_LEN],
    /// The salt of HKDF.
    pub salt: [u8; SALT_LEN],
    key: Zeroizing<[u8; KEY_LEN]>,
    iv_start: [u8; IV_LEN],
}

impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agreement").finish_non_exhaustive()
    }
}

impl Agreement {
    /// `serverPublicKey` and `salt` as they travel.
    pub fn texts(&self) -> (String, String) {
        (STANDARD.encode(self.public_key), STANDARD.encode(self.salt))
    }

    /// The key, which must not be shown to anybody.
    pub fn key(&self) -> &[u8; KEY_LEN] {
        &self.key
    }

    /// What encrypts and decrypts under the key.
    pub fn cipher(&self) -> Cipher {
        Cipher::new(&self.key, self.iv_start)
    }
}

/// Derives a key from the peer's public key, base64 with padding of an uncompressed point of P-256.
///
/// Takes some 100 µs. Errors: see [`AgreeError`]; the peer's key is judged first.
pub fn agree(peer_public_key: &str, info: &str, entropy: &Entropy) -> Result<Agreement, AgreeError> {
    let peer = parse_public_key(peer_public_key)?;
    let private = PrivateKey::from_private_key(&ECDH_P256, entropy.private_key.as_slice())
        .map_err(|_| AgreeError::PrivateKey)?;
    let public = private.compute_public_key().map_err(|_| AgreeError::PrivateKey)?;
    let public_key = public.as_ref().try_into().map_err(|_| AgreeError::PrivateKey)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, peer);
    let key = agreement::agree(&private, peer, AgreeError::PublicKey, |shared_x| {
        Ok(derive(shared_x, &entropy.salt, info))
    })?;
    Ok(Agreement { public_key, salt: entropy.salt, key, iv_start: entropy.iv_start })
}

/// A point of the right form; whether it is on the curve is for the agreement to say.
fn parse_public_key(text: &str) -> Result<[u8; PUBLIC_KEY_LEN], AgreeError> {
    let mut bytes = [0; PUBLIC_KEY_LEN];
    match STANDARD.decode_slice(text, &mut bytes) {
        Ok(PUBLIC_KEY_LEN) if bytes[0] == UNCOMPRESSED => Ok(bytes),
        _ => Err(AgreeError::PublicKey),
    }
}

fn derive(shared_x: &[u8], salt: &[u8], info: &str) -> Zeroizing<[u8; KEY_LEN]> {
    struct Len;
    impl KeyType for Len {
        fn len(&self) -> usize {
            KEY_LEN
        }
    }
    let mut key = Zeroizing::new([0; KEY_LEN]);
    let prk = Salt::new(HKDF_SHA256, salt).extract(shared_x);
    let filled = prk.expand(&[info.as_bytes()], Len).and_then(|okm| okm.fill(key.as_mut_slice()));
    filled.expect("32 bytes are fewer than HKDF can give");
    key
}

/// An `encrypted` event that is none: not of its form, or not made with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be decrypted")]
pub struct Undecryptable;

/// Encrypts and decrypts the messages of one connection. The key's memory is wiped when it goes.
pub struct Cipher {
    key: LessSafeKey,
    /// The next IV, a number of 96 bits, big-endian.
    iv: [u8; IV_LEN],
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

impl Cipher {
    /// A cipher whose IVs count up from `iv_start`, which must be random: a key is made into one cipher a side.
    pub fn new(key: &[u8; KEY_LEN], iv_start: [u8; IV_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the length of the algorithm");
        Self { key: LessSafeKey::new(key), iv: iv_start }
    }

    /// Appends a whole frame to `out`: the `encrypted` event of one message, given as its JSON text. `scratch` is
    /// overwritten.
    pub fn seal(&mut self, message: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
        let iv = self.next_iv();
        scratch.clear();
        scratch.extend_from_slice(message);
        let nonce = Nonce::assume_unique_for_key(iv);
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::empty(), scratch);
        sealed.expect("a message is shorter than AES-GCM allows");
        let payload_len = payload_len(message.len());
        out.reserve(frame::HEADER_BYTES_MAX + payload_len);
        frame::encode_header(out, OpCode::Text, payload_len, false);
        out.extend_from_slice(HEAD);
        append_base64(out, &iv);
        out.extend_from_slice(MIDDLE);
        append_base64(out, scratch);
        out.extend_from_slice(TAIL);
    }

    /// The text within the `data` of an `encrypted` event: a JSON object whose `iv` and `ct` are base64 with padding.
    ///
    /// Allocates no more than `data` is long. That the same message did not come before is not checked.
    pub fn open(&self, data: &str) -> Result<String, Undecryptable> {
        let members = json::members(data, ["iv", "ct"]).map_err(|_| Undecryptable)?;
        let [Some(iv), Some(ct)] = members.ok_or(Undecryptable)? else { return Err(Undecryptable) };
        let (iv, ct) = (string(iv)?, string(ct)?);
        let iv = STANDARD.decode(iv.as_bytes()).map_err(|_| Undecryptable)?;
        let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| Undecryptable)?;
        let mut ct = STANDARD.decode(ct.as_bytes()).map_err(|_| Undecryptable)?;
        let opened = self.key.open_in_place(nonce, Aad::empty(), &mut ct).map_err(|_| Undecryptable)?;
        let len = opened.len();
        ct.truncate(len);
        String::from_utf8(ct).map_err(|_| Undecryptable)
    }

    fn next_iv(&mut self) -> [u8; IV_LEN] {
        let iv = self.iv;
        for byte in self.iv.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        iv
    }
}

/// Bytes of the frame that [`Cipher::seal`] makes of a message of `message_len` bytes.
pub fn sealed_len(message_len: usize) -> usize {
    let payload_len = payload_len(message_len);
    let header_len = match payload_len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    header_len + payload_len
}

fn payload_len(message_len: usize) -> usize {
    let ct_len = (message_len + TAG_LEN).div_ceil(3) * 4;
    HEAD.len() + IV_TEXT_LEN + MIDDLE.len() + ct_len + TAIL.len()
}

fn string(raw: &str) -> Result<Cow<'_, str>, Undecryptable> {
    let is_string = json::kind(raw) == Kind::String;
    is_string.then(|| json::unescape(raw)).flatten().ok_or(Undecryptable)
}

fn append_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("there is room for all of it");
}

#[cfg(test)]
mod tests;
