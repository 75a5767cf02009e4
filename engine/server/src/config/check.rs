//! Rules that involve more than one value, or the machine: what is refused, and what is only doubtful.
//!
//! Bounds of a single value are the key's own (see [`super::keys`]). Checks change nothing: they read a configuration,
//! facts, and the files of keys, so that a reload can be checked before anything changes.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Config;
use super::key::KeyPath;
use super::keys::{
    Admin, Api, Audit, Auth, Jwks, Jwt, JwtKey, Mount, Rule as RoomRule, Server, Tls, TlsCertificate, Token,
};
use super::load::Origins;
use super::machine::Machine;
use super::mounts::{self, MountAdvice, MountRule};
use super::problem::{Problem, Warning};
use super::secret::mask_url;
use super::values::{Auto, Choice, Dialect, Effect, ProxyProtocol, WebhookHook};
use super::webhooks::{self, WebhookAdvice, WebhookRule};
use crate::auth::key::{Key, KeyError};
use crate::auth::rules::{RULE_ROOMS_MAX, RULES_MAX};
use crate::outbound::{self, UrlFault};

/// A key shorter than this many bytes can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// With room for fewer connections than this, the limit on open files was probably never set.
const CONNECTIONS_FEW: usize = 4_096;

/// A rule that is broken. The server does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Nothing to listen on.
    #[error("no address to listen on; name one, such as \"127.0.0.1:8080\"")]
    NoListener,
    /// An address is named twice.
    #[error("{0} is listed twice; remove one")]
    ListenTwice(SocketAddr),
    /// A TLS address that is also a plain one.
    #[error("{0} is also an address without TLS (server.listen); give one of them another port")]
    TlsShared(SocketAddr),
    /// TLS without a certificate or key.
    #[error("missing: server.tls_listen needs a certificate and its key; set tls.certificate and tls.key")]
    TlsIncomplete,
    /// The admin listener's address takes connections meant for clients.
    #[error(
        "{0} is also an address for clients (server.listen, server.tls_listen); give the admin listener a port of its own"
    )]
    ListenShared(SocketAddr),
    /// Dev mode where others can reach it.
    #[error(
        "dev mode accepts every token, and {0} can be reached from other machines; listen on 127.0.0.1, turn dev \
         mode off, or set auth.insecure if this is meant"
    )]
    DevExposed(SocketAddr),
    /// More connections than files.
    #[error(
        "{connections} connections need {needed} open files and the limit is {allowed}; raise the limit (ulimit \
         -Hn, LimitNOFILE= in a systemd unit, --ulimit nofile= in Docker) or set \"auto\""
    )]
    FilesTooFew {
        /// The value.
        connections: usize,
        /// Files needed for them.
        needed: u64,
        /// Files allowed.
        allowed: u64,
    },
    /// An API key that is empty, or cannot stand in a header.
    #[error("an API key must be visible ASCII characters, at least one, to be sent as a bearer key")]
    ApiKeyForm,
    /// A key or token that is listed twice.
    #[error("the same value is listed before; each must differ")]
    SecretTwice,
    /// A key of `auth.jwt.keys` that tokens cannot be checked with.
    #[error("{}{fault}", file.as_ref().map_or_else(String::new, |file| format!("{file}: ")))]
    JwtKey {
        /// The file it was to be read from.
        file: Option<String>,
        /// Why not.
        fault: KeyError,
    },
    /// Two keys that tokens would name alike.
    #[error("another key of the same issuer has the id {0:?}; ids must differ")]
    JwtKidTwice(String),
    /// A place for keys that is none.
    #[error("{0:?}: {1}")]
    JwksUrl(String, UrlFault),
    /// A place for keys without an issuer.
    #[error("missing; name the issuer exactly as its tokens do (the claim iss)")]
    JwksIssuer,
    /// A shared secret where everybody can read it.
    #[error("{0} takes a shared secret, which cannot be in a public set of keys")]
    JwksSymmetric(&'static str),
    /// A rule about nothing.
    #[error("missing or empty; name the rooms that the rule is about")]
    RuleRooms,
    /// A rule that says nothing.
    #[error("empty; name what the rule is about, or leave the key out")]
    RuleActions,
    /// More rules, or more rooms in one, than are looked through for every join.
    #[error("{0} are more than {1}")]
    RulesTooMany(usize, usize),
    /// Nobody could connect.
    #[error("no proxy is trusted, so nobody could connect; list the proxies in server.trusted_proxies")]
    ProxiesMissing,
    /// A header that no request can have.
    #[error("{0:?} is no name of a header")]
    HeaderName(String),
    /// A token that is empty or missing.
    #[error("missing or empty; give every [[auth.tokens]] table a token")]
    TokenEmpty,
    /// Of a mount.
    #[error(transparent)]
    Mount(#[from] MountRule),
    /// Of the section `webhooks`.
    #[error(transparent)]
    Webhook(#[from] WebhookRule),
}

/// What works and is doubtful. The server starts and logs it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Advice {
    /// The API has no key.
    #[error("no key is set, so the API refuses every request; set api.key (SHARDCAST_API_KEY)")]
    ApiClosed,
    /// A key that is short enough to guess.
    #[error(
        "a key has fewer than {KEY_BYTES_MIN} characters and may be guessed; make one with: openssl rand -hex 32"
    )]
    ApiKeyShort,
    /// Nobody can authenticate.
    #[error(
        "nobody can authenticate: add [[auth.tokens]] or [[auth.jwt.keys]], set auth.anonymous, or try --dev"
    )]
    NobodyAuthenticates,
    /// Dev mode is on.
    #[error("dev mode: every token is accepted and every room allowed; never in production")]
    Dev,
    /// Tokens that are not looked at.
    #[error("dev mode accepts every token; the ones listed are not looked at")]
    TokensUnused,
    /// A certificate that nobody gets.
    #[error("not used: server.tls_listen is empty")]
    TlsUnused,
    /// Tokens that are good for ever.
    #[error("without \"exp\" a token can be good for ever, and nobody can take it back; name it")]
    JwtNoExpiry,
    /// Nobody gets anywhere.
    #[error(
        "clients can authenticate and join nothing; allow rooms here, in [[auth.rules]] or by rooms_claim"
    )]
    NothingJoined,
    /// Permission for something that is off.
    #[error("has no effect without auth.dev")]
    InsecureAlone,
    /// The admin listener can be reached by others.
    #[error("{0} can be reached from other machines and the admin listener asks for no key; fence it off")]
    AdminExposed(SocketAddr),
    /// The limit on open files leaves room for few connections.
    #[error(
        "the limit on open files ({files_max}) leaves room for {connections} connections; raise it (ulimit -Hn, \
         LimitNOFILE= in a systemd unit, --ulimit nofile= in Docker)"
    )]
    FilesFew {
        /// The limit.
        files_max: u64,
        /// What it leaves room for.
        connections: usize,
    },
    /// An audit log that is required and has no file.
    #[error("has no effect without audit.file")]
    AuditNowhere,
    /// Everybody is a proxy.
    #[error(
        "every address is a trusted proxy, so that clients can name whatever address they like; list your proxies"
    )]
    ProxiesEveryone,
    /// More pinned shards than cores.
    #[error(
        "{shards} shards are pinned to {cores} cores and will wait for each other; use \"auto\" or server.pin = false"
    )]
    ShardsCrowded {
        /// Shards.
        shards: usize,
        /// Cores.
        cores: usize,
    },
    /// Of a mount.
    #[error(transparent)]
    Mount(#[from] MountAdvice),
    /// Of the section `webhooks`.
    #[error(transparent)]
    Webhook(#[from] WebhookAdvice),
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Findings {
    rules: Vec<(KeyPath, Rule)>,
    advice: Vec<(KeyPath, Advice)>,
}

impl Findings {
    pub(super) fn refuse(&mut self, section: &str, index: usize, key: &str, rule: Rule) {
        self.rules.push((KeyPath::known(section, index, key), rule));
    }

    pub(super) fn advise(&mut self, section: &str, index: usize, key: &str, advice: Advice) {
        self.advice.push((KeyPath::known(section, index, key), advice));
    }

    /// Each broken rule with the key it is about.
    pub fn problems(&self, origins: &Origins) -> impl Iterator<Item = (String, Problem)> {
        self.rules.iter().map(|(path, rule)| {
            let name = path.to_string();
            (name.clone(), Problem::Rule { origin: origins.near(path), path: name, rule: rule.clone() })
        })
    }

    /// What an operator should know.
    pub fn warnings(&self, origins: &Origins) -> Vec<Warning> {
        let warning = |(path, advice): &(KeyPath, Advice)| Warning {
            origin: origins.near(path),
            path: path.to_string(),
            advice: advice.clone(),
        };
        self.advice.iter().map(warning).collect()
    }
}

/// Checks `config` against its own values and `machine`.
pub fn check(config: &Config, machine: &Machine) -> Findings {
    let mut findings = Findings::default();
    check_listeners(config, &mut findings);
    check_proxies(config, &mut findings);
    check_tls(config, &mut findings);
    check_capacity(config, machine, &mut findings);
    check_api(config, &mut findings);
    check_auth(config, &mut findings);
    check_jwt(config, &mut findings);
    check_rules(config, &mut findings);
    check_audit(config, &mut findings);
    webhooks::check(config, &mut findings);
    mounts::check(config, &mut findings);
    findings
}

fn check_listeners(config: &Config, findings: &mut Findings) {
    let Server { listen, tls_listen, .. } = &config.server;
    if listen.is_empty() && tls_listen.is_empty() {
        findings.refuse(Server::NAME, 0, "listen", Rule::NoListener);
    }
    for (key, addresses) in [("listen", listen), ("tls_listen", tls_listen)] {
        for (index, address) in addresses.iter().enumerate() {
            // Port 0 is another port each time.
            if address.port() != 0 && addresses[..index].contains(address) {
                findings.refuse(Server::NAME, 0, key, Rule::ListenTwice(*address));
            }
        }
    }
    for address in tls_listen {
        if listen.iter().any(|plain| overlap(plain, address)) {
            findings.refuse(Server::NAME, 0, "tls_listen", Rule::TlsShared(*address));
        }
    }
    for address in config.client_addresses() {
        if config.auth.dev && !config.auth.insecure && !address.ip().is_loopback() {
            findings.refuse(Auth::NAME, 0, "dev", Rule::DevExposed(*address));
        }
    }
    if let Some(admin) = config.admin.listen {
        if config.server.client_addresses().any(|address| overlap(address, &admin)) {
            findings.refuse(Admin::NAME, 0, "listen", Rule::ListenShared(admin));
        }
        if !admin.ip().is_loopback() {
            findings.advise(Admin::NAME, 0, "listen", Advice::AdminExposed(admin));
        }
    }
}

fn check_proxies(config: &Config, findings: &mut Findings) {
    let Server { trusted_proxies, client_address_header: header, proxy_protocol, .. } = &config.server;
    if *proxy_protocol == ProxyProtocol::Required && trusted_proxies.is_empty() {
        findings.refuse(Server::NAME, 0, "proxy_protocol", Rule::ProxiesMissing);
    }
    if trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        findings.advise(Server::NAME, 0, "trusted_proxies", Advice::ProxiesEveryone);
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.is_empty() || !header.bytes().all(is_token) {
        findings.refuse(Server::NAME, 0, "client_address_header", Rule::HeaderName(header.clone()));
    }
}

/// What the files hold is looked at by [`crate::tls::material`].
fn check_tls(config: &Config, findings: &mut Findings) {
    let Tls { certificate, key, certificates, .. } = &config.tls;
    if config.server.tls_listen.is_empty() {
        if certificate.is_some() {
            findings.advise(Tls::NAME, 0, "certificate", Advice::TlsUnused);
        }
        return;
    }
    for (name, file) in [("certificate", certificate), ("key", key)] {
        if file.is_none() {
            findings.refuse(Tls::NAME, 0, name, Rule::TlsIncomplete);
        }
    }
    for (index, TlsCertificate { certificate, key }) in certificates.iter().enumerate() {
        for (name, file) in [("certificate", certificate), ("key", key)] {
            if file.is_empty() {
                findings.refuse(TlsCertificate::NAME, index, name, Rule::TlsIncomplete);
            }
        }
    }
}

/// Whether some connection could reach both addresses.
pub(super) fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (wildcard || one.ip() == other.ip())
}

fn check_capacity(config: &Config, machine: &Machine, findings: &mut Findings) {
    let connections = config.connections_max(machine);
    let allowed = machine.files_max;
    match config.files_needed(machine) {
        Some(needed) if needed > allowed => {
            let rule = Rule::FilesTooFew { connections, needed, allowed };
            findings.refuse(Server::NAME, 0, "connections_max", rule);
        }
        None if connections < CONNECTIONS_FEW => {
            let advice = Advice::FilesFew { files_max: allowed, connections };
            findings.advise(Server::NAME, 0, "connections_max", advice);
        }
        _ => {}
    }
    let (shards, cores) = (config.shard_count(machine), machine.cores);
    if config.server.pin && matches!(config.server.shards, Auto::Fixed(_)) && shards > cores {
        findings.advise(Server::NAME, 0, "shards", Advice::ShardsCrowded { shards, cores });
    }
}

fn check_api(config: &Config, findings: &mut Findings) {
    let keys = &config.api.key;
    if keys.is_empty() && !config.auth.dev {
        findings.advise(Api::NAME, 0, "key", Advice::ApiClosed);
    }
    for (index, key) in keys.iter().enumerate() {
        let text = key.expose();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            findings.refuse(Api::NAME, 0, "key", Rule::ApiKeyForm);
        } else if text.len() < KEY_BYTES_MIN {
            findings.advise(Api::NAME, 0, "key", Advice::ApiKeyShort);
        }
        if keys[..index].contains(key) {
            findings.refuse(Api::NAME, 0, "key", Rule::SecretTwice);
        }
    }
}

fn check_auth(config: &Config, findings: &mut Findings) {
    let auth = &config.auth;
    let mut tokens = BTreeSet::new();
    for (index, Token { token, .. }) in auth.tokens.iter().enumerate() {
        if token.expose().is_empty() {
            findings.refuse(Token::NAME, index, "token", Rule::TokenEmpty);
        } else if !tokens.insert(token.expose()) {
            findings.refuse(Token::NAME, index, "token", Rule::SecretTwice);
        }
    }
    let asks = config.mounts.iter().any(|mount| mount.dialect != Dialect::Echo);
    if auth.dev {
        findings.advise(Auth::NAME, 0, "dev", Advice::Dev);
        if !auth.tokens.is_empty() {
            findings.advise(Token::NAME, 0, "token", Advice::TokensUnused);
        }
    } else if asks
        && auth.tokens.is_empty()
        && !config.jwt.is_used()
        && !auth.anonymous
        && !config.webhooks.has(WebhookHook::Authenticate)
    {
        findings.advise(Auth::NAME, 0, "dev", Advice::NobodyAuthenticates);
    }
    if auth.insecure && !auth.dev {
        findings.advise(Auth::NAME, 0, "insecure", Advice::InsecureAlone);
    }
}

fn check_jwt(config: &Config, findings: &mut Findings) {
    let jwt = &config.jwt;
    let mut ids = BTreeSet::new();
    for (index, table) in jwt.keys.iter().enumerate() {
        let given = [
            ("secret_file", &table.secret_file),
            ("public_key_file", &table.public_key_file),
            ("public_key", &table.public_key),
        ];
        if let Err(fault) = Key::load(table, index) {
            let (key, path) = given
                .into_iter()
                .find(|(_, value)| !value.is_empty())
                .map_or(("secret", None), |(key, path)| (key, key.ends_with("file").then(|| path.clone())));
            let key = if matches!(fault, KeyError::Algorithm { .. }) { "algorithms" } else { key };
            let file = path.filter(|_| !matches!(fault, KeyError::File { .. } | KeyError::Several));
            findings.refuse(JwtKey::NAME, index, key, Rule::JwtKey { file, fault });
        }
        if !table.kid.is_empty() && !ids.insert((&table.issuer, &table.kid)) {
            findings.refuse(JwtKey::NAME, index, "kid", Rule::JwtKidTwice(table.kid.clone()));
        }
    }
    for (index, table) in jwt.jwks.iter().enumerate() {
        if let Err(fault) = outbound::endpoint(&table.url, table.insecure) {
            findings.refuse(Jwks::NAME, index, "url", Rule::JwksUrl(mask_url(&table.url), fault));
        }
        if table.issuer.is_empty() {
            findings.refuse(Jwks::NAME, index, "issuer", Rule::JwksIssuer);
        }
        let secret = table.algorithms.iter().find(|algorithm| algorithm.name().starts_with("HS"));
        if let Some(algorithm) = secret {
            findings.refuse(Jwks::NAME, index, "algorithms", Rule::JwksSymmetric(algorithm.name()));
        }
    }
    if jwt.is_used() && !jwt.required.iter().any(|claim| claim == "exp") {
        findings.advise(Jwt::NAME, 0, "required", Advice::JwtNoExpiry);
    }
    let auth = &config.auth;
    let is_closed = auth.rooms.is_empty() && auth.rules.is_empty() && jwt.rooms_claim.is_empty();
    let is_denied = |mount: &Mount| mount.dialect != Dialect::Echo && mount.unlisted_rooms == Effect::Deny;
    if jwt.is_used() && is_closed && !auth.dev && config.mounts.iter().any(is_denied) {
        findings.advise(Auth::NAME, 0, "rooms", Advice::NothingJoined);
    }
}

fn check_rules(config: &Config, findings: &mut Findings) {
    let rules = &config.auth.rules;
    if rules.len() > RULES_MAX {
        let rule = Rule::RulesTooMany(rules.len(), RULES_MAX);
        findings.refuse(RoomRule::NAME, RULES_MAX, "rooms", rule);
    }
    for (index, RoomRule { rooms, actions, .. }) in rules.iter().enumerate() {
        if rooms.is_empty() {
            findings.refuse(RoomRule::NAME, index, "rooms", Rule::RuleRooms);
        }
        if actions.is_empty() {
            findings.refuse(RoomRule::NAME, index, "actions", Rule::RuleActions);
        }
        if rooms.len() > RULE_ROOMS_MAX {
            findings.refuse(RoomRule::NAME, index, "rooms", Rule::RulesTooMany(rooms.len(), RULE_ROOMS_MAX));
        }
    }
}

fn check_audit(config: &Config, findings: &mut Findings) {
    if config.audit.required && config.audit.file.is_none() {
        findings.advise(Audit::NAME, 0, "required", Advice::AuditNowhere);
    }
}
