//! Rules of the section `webhooks`.

use super::Config;
use super::check::Findings;
use super::keys::{Auth, Webhooks};
use super::values::WebhookHook;
use crate::webhooks::sign;

/// A rule of the section `webhooks` that is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRule {
    /// Something is to be asked and nobody is named.
    #[error("missing; the hooks that are listed need an address")]
    UrlMissing,
    /// Tokens would go over the network in the clear.
    #[error(
        "plain http:// is for loopback and private addresses; use https://, or set webhooks.insecure if the network on \
         the way is trusted"
    )]
    UrlInsecure,
    /// No key to sign with.
    #[error("missing; requests must be signed: make a key with: echo \"whsec_$(openssl rand -base64 32)\"")]
    SecretMissing,
    /// A key that is not one.
    #[error(
        "a key is \"whsec_\" and the base64 of 24 to 64 bytes; make one with: echo \"whsec_$(openssl rand -base64 32)\""
    )]
    SecretForm,
    /// A key that is listed twice.
    #[error("the same key is listed before; each must differ")]
    SecretTwice,
    /// More keys than headers should carry signatures.
    #[error("{0} keys are more than {SECRETS_MAX}; remove those that the application does not use any more")]
    SecretsTooMany(usize),
    /// A hook that is listed twice.
    #[error("a hook is listed twice; remove one")]
    HookTwice,
}

/// What works in the section `webhooks` and is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookAdvice {
    /// An address without a use.
    #[error("has no effect: list what the application is asked and told in webhooks.hooks")]
    NoHooks,
    /// Rules that nobody looks at.
    #[error(
        "the application authenticates every client (webhooks.hooks), so dev mode, auth.anonymous and tokens admit nobody"
    )]
    AuthUnused,
    /// The engine gives up before the webhook does.
    #[error("twice this, which a question may take, is longer than limits.hook_timeout; lower it")]
    TimeoutLong,
}

/// Each key adds a signature to every request.
const SECRETS_MAX: usize = 4;

impl Webhooks {
    /// Whether the application is asked or told of this.
    pub fn has(&self, hook: WebhookHook) -> bool {
        self.hooks.contains(&hook)
    }
}

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let webhooks = &config.webhooks;
    let mut refuse = |key, rule: WebhookRule| findings.refuse(Webhooks::NAME, 0, key, rule.into());
    if webhooks.hooks.iter().enumerate().any(|(at, hook)| webhooks.hooks[..at].contains(hook)) {
        refuse("hooks", WebhookRule::HookTwice);
    }
    match &webhooks.url {
        None if !webhooks.hooks.is_empty() => refuse("url", WebhookRule::UrlMissing),
        Some(url) if !url.is_https() && !url.is_near() && !webhooks.insecure => {
            refuse("url", WebhookRule::UrlInsecure);
        }
        _ => {}
    }
    if webhooks.secret.is_empty() && !webhooks.hooks.is_empty() {
        refuse("secret", WebhookRule::SecretMissing);
    }
    if webhooks.secret.len() > SECRETS_MAX {
        refuse("secret", WebhookRule::SecretsTooMany(webhooks.secret.len()));
    }
    for (at, secret) in webhooks.secret.iter().enumerate() {
        if sign::key_bytes(secret.expose()).is_none() {
            refuse("secret", WebhookRule::SecretForm);
        } else if webhooks.secret[..at].contains(secret) {
            refuse("secret", WebhookRule::SecretTwice);
        }
    }
    advise(config, findings);
}

fn advise(config: &Config, findings: &mut Findings) {
    let (webhooks, auth) = (&config.webhooks, &config.auth);
    if webhooks.url.is_some() && webhooks.hooks.is_empty() {
        findings.advise(Webhooks::NAME, 0, "url", WebhookAdvice::NoHooks.into());
    }
    if webhooks.has(WebhookHook::Authenticate)
        && (auth.dev || auth.anonymous || !auth.tokens.is_empty() || config.jwt.is_used())
    {
        findings.advise(Auth::NAME, 0, "dev", WebhookAdvice::AuthUnused.into());
    }
    if !webhooks.hooks.is_empty() && webhooks.timeout * 2 > config.limits.hook_timeout {
        findings.advise(Webhooks::NAME, 0, "timeout", WebhookAdvice::TimeoutLong.into());
    }
}
