//! The encryption of a replay: its clients have keys of their own, and what they hear is compared decrypted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flow::Difference;
use crate::secret::{Key, KeyPair};

/// The keys of the clients of a flow.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    pairs: BTreeMap<String, KeyPair>,
    keys: BTreeMap<String, Key>,
    /// The key of the recorded client, where the recorder wrote it down.
    recorded: Option<Key>,
    /// What was heard last.
    last: Option<String>,
}

impl Secrets {
    /// Whether messages to the connection are encrypted.
    pub(super) fn has(&self, label: &str) -> bool {
        self.keys.contains_key(label)
    }

    /// The public key that a client sends in place of the recorded one, if the message has one that is whole.
    pub(super) fn public_key_for(&mut self, label: &str, message: &str) -> Option<(String, String)> {
        const LEN: usize = 88;
        let message: Value = serde_json::from_str(message).ok()?;
        let recorded = message["data"]["publicKey"].as_str().filter(|key| key.len() == LEN)?;
        let pair = self.pairs.entry(label.to_owned()).or_insert_with(KeyPair::generate);
        Some((recorded.to_owned(), pair.public_key.clone()))
    }

    /// The recorded `connected` with the server's key and salt of ours, from which the client's key is made.
    pub(super) fn connected(&mut self, label: &str, recorded: &str, got: &str) -> Option<String> {
        let parsed =
            |text: &str| serde_json::from_str::<Value>(text).ok().filter(|m| m["event"] == "connected");
        let (theirs, ours) = (parsed(recorded)?, parsed(got)?);
        let (theirs, ours) = (&theirs["data"], &ours["data"]);
        let mut text = recorded.to_owned();
        for name in ["serverPublicKey", "salt"] {
            text = text.replace(theirs[name].as_str()?, ours[name].as_str()?);
        }
        self.keys.insert(label.to_owned(), self.pairs.get(label)?.derive(ours));
        Some(text)
    }

    /// The recorder's note of its client's keys.
    pub(super) fn note_key(&mut self, key: &str) {
        self.recorded = Some(Key::from_base64(key));
    }

    /// Both messages decrypted; without the recorded key, ours and whether it is as long as the recorded one.
    pub(super) fn open(
        &mut self,
        label: &str,
        recorded: &str,
        got: &str,
    ) -> Option<Result<(String, String), Difference>> {
        let key = self.keys.get(label)?;
        let is_secret = |text: &str| text.starts_with(r#"{"event":"encrypted","#);
        if !is_secret(recorded) || !is_secret(got) {
            return Some(Err(Difference::new(format!("{label} to receive {recorded:?}"), got)));
        }
        let ours = key.open(got).0;
        self.last = Some(ours.clone());
        Some(match &self.recorded {
            Some(key) => Ok((key.open(recorded).0, ours)),
            None if recorded.len() == got.len() => Ok((ours.clone(), ours)),
            None => Err(Difference::new(format!("{label} to receive {} bytes", recorded.len()), ours)),
        })
    }

    /// Whether the message heard last is this one.
    pub(super) fn heard(&self, message: &Value) -> bool {
        let last = self.last.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
        last.as_ref() == Some(message)
    }
}
