//! The key exchange of `ignis.md` §10, which comes after the hooks have let a client in.
//!
//! Takes some 100 µs, so it never runs on a shard: an answer that was there at once becomes one that comes later.
//! Whatever the hooks are, the configuration, webhooks or an application's own, they need not know of it.

use std::sync::Arc;

use futures_util::FutureExt;
use shardcast_shard::event::{AuthOutcome, RefusalReason};
use shardcast_shard::{Dialect, Encryption, EncryptionMode, MountId, ShardConfig};
use shardcast_wire::ignis::Agreement;
use shardcast_wire::ignis::encryption::{AgreeError, Entropy, PUBLIC_KEY_LEN, agree};
use shardcast_wire::json::{self, Kind};
use zeroize::Zeroizing;

use crate::hooks::Answer;

/// Characters of a public key of `PUBLIC_KEY_LEN` bytes in base64 with its padding: no valid one is longer.
const PUBLIC_KEY_TEXT_LEN: usize = PUBLIC_KEY_LEN.div_ceil(3) * 4;

/// Draws of a private key. One in 2³² is out of range, so a second is rare and a fourth never needed.
const DRAWS_MAX: usize = 4;

/// What the mount wants encrypted.
pub(super) fn settings(config: &ShardConfig, mount: MountId) -> Option<&Encryption> {
    match &config.mounts[usize::from(mount.0)].dialect {
        Dialect::Ignis(settings) => {
            Some(&settings.encryption).filter(|encryption| encryption.mode != EncryptionMode::Off)
        }
        Dialect::Echo | Dialect::Topic(_) => None,
    }
}

/// Exchanges keys with a client that the hooks let in, as far as its mount wants that. `data` is what the client sent.
pub(super) fn after(
    answer: Answer<AuthOutcome>,
    encryption: Option<&Encryption>,
    data: &str,
) -> Answer<AuthOutcome> {
    let Some(encryption) = encryption else { return answer };
    let exchange = Exchange {
        is_required: encryption.mode == EncryptionMode::Required,
        public_key: public_key(data),
        hkdf_info: encryption.hkdf_info.clone(),
    };
    match answer {
        Answer::Now(outcome) if exchange.is_quick(&outcome) => Answer::Now(exchange.conclude(outcome)),
        Answer::Now(outcome) => Answer::later(async move { exchange.conclude(outcome) }),
        Answer::Later(future) => Answer::later(future.map(move |outcome| exchange.conclude(outcome))),
    }
}

/// The key that the client sent, which is kept until the hooks have answered; empty when that is no text, or too long for
/// a key. `None` when it sent none, or nothing that JavaScript takes for something.
fn public_key(data: &str) -> Option<String> {
    let [raw] = json::members(data, ["publicKey"]).ok().flatten()?;
    let raw = raw.filter(|raw| !json::is_falsy(raw))?;
    let text = (json::kind(raw) == Kind::String).then(|| json::unescape(raw)).flatten();
    Some(text.filter(|text| text.len() <= PUBLIC_KEY_TEXT_LEN).unwrap_or_default().into_owned())
}

struct Exchange {
    is_required: bool,
    public_key: Option<String>,
    hkdf_info: Arc<str>,
}

impl Exchange {
    /// Whether there is nothing to compute.
    fn is_quick(&self, outcome: &AuthOutcome) -> bool {
        self.public_key.is_none() || !matches!(outcome, AuthOutcome::Accepted(_))
    }

    fn conclude(self, outcome: AuthOutcome) -> AuthOutcome {
        let AuthOutcome::Accepted(identity) = outcome else { return outcome };
        match self.public_key {
            None if self.is_required => AuthOutcome::Refused(RefusalReason::EncryptionRequired),
            None => AuthOutcome::Accepted(identity),
            Some(public_key) => match exchange(&public_key, &self.hkdf_info) {
                Ok(agreement) => AuthOutcome::Encrypted(identity, Box::new(agreement)),
                Err(AgreeError::PublicKey) => AuthOutcome::Refused(RefusalReason::EncryptionInvalid),
                Err(AgreeError::PrivateKey) => AuthOutcome::Failed,
            },
        }
    }
}

fn exchange(public_key: &str, hkdf_info: &str) -> Result<Agreement, AgreeError> {
    let mut bytes = Zeroizing::new([0; Entropy::LEN]);
    let mut agreement = Err(AgreeError::PrivateKey);
    for _ in 0..DRAWS_MAX {
        if agreement.as_ref().err() != Some(&AgreeError::PrivateKey) {
            break;
        }
        getrandom::fill(bytes.as_mut_slice()).expect("the kernel has random bytes");
        agreement = agree(public_key, hkdf_info, &Entropy::from_random(&bytes));
    }
    agreement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_javascript_takes_for_nothing_is_no_key() {
        for data in ["{}", "7", "null", r#"{"publicKey":null}"#, r#"{"publicKey":""}"#, r#"{"publicKey":0}"#]
        {
            assert_eq!(public_key(data), None, "{data}");
        }
        for (data, key) in [
            (r#"{"publicKey":"a\/b="}"#, "a/b="),
            (r#"{"publicKey":[1]}"#, ""),
            (r#"{"publicKey":{}}"#, ""),
            (r#"{"publicKey":"a","publicKey":"b"}"#, "b"),
        ] {
            assert_eq!(public_key(data).as_deref(), Some(key), "{data}");
        }
    }

    #[test]
    fn a_key_that_is_too_long_is_not_kept() {
        for (len, kept) in [(88, 88), (89, 0), (60_000, 0)] {
            let data = format!(r#"{{"publicKey":"{}"}}"#, "a".repeat(len));
            assert_eq!(public_key(&data).map(|key| key.len()), Some(kept), "{len}");
        }
    }
}
