//! Signatures of requests, so that the application knows who asks: Standard Webhooks 1.0.
//!
//! Source: <https://www.standardwebhooks.com>. `webhook-signature` holds `v1,` and the base64 of
//! HMAC-SHA256(key, id `.` timestamp `.` body), one for each key, separated by spaces.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::Secret;

/// What a secret begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a key.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The keys of all secrets that are in use.
#[derive(Debug)]
pub struct Keys(Vec<hmac::Key>);

/// The key that a secret stands for; `None` when it has not the form of one.
pub fn key_bytes(secret: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    KEY_BYTES.contains(&bytes.len()).then_some(bytes)
}

impl Keys {
    /// Of secrets that were checked; others are left out.
    pub fn new(secrets: &[Secret]) -> Self {
        let keys = secrets.iter().filter_map(|secret| key_bytes(secret.expose()));
        Self(keys.map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes)).collect())
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let head = format!("{id}.{unix_seconds}.");
        let signature = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(head.as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn keys(secrets: &[&str]) -> Keys {
        Keys::new(&secrets.iter().map(|secret| Secret::new(*secret)).collect::<Vec<_>>())
    }

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        assert_eq!(keys(&[SECRET]).sign(ID, 1_614_265_330, BODY), SIGNATURE);
        let changed = [
            keys(&[SECRET]).sign("msg_other", 1_614_265_330, BODY),
            keys(&[SECRET]).sign(ID, 1_614_265_331, BODY),
            keys(&[SECRET]).sign(ID, 1_614_265_330, b"{}"),
            keys(&["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]).sign(ID, 1_614_265_330, BODY),
        ];
        assert!(changed.iter().all(|signature| signature.len() == SIGNATURE.len() && signature != SIGNATURE));
    }

    #[test]
    fn while_keys_change_a_request_carries_a_signature_of_each() {
        let new = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = keys(&[new, SECRET]).sign(ID, 1_614_265_330, BODY);
        let (first, second) = both.split_once(' ').expect("two signatures");
        assert_eq!((first, second), (keys(&[new]).sign(ID, 1_614_265_330, BODY).as_str(), SIGNATURE));
    }

    #[test]
    fn secrets_of_another_form_are_no_secrets() {
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for secret in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_???", &long]
        {
            assert_eq!(key_bytes(secret), None, "{secret}");
        }
        assert_eq!(key_bytes(SECRET).map(|bytes| bytes.len()), Some(24));
        assert!(key_bytes(&format!("whsec_{}", STANDARD.encode([7; 64]))).is_some());
    }
}
