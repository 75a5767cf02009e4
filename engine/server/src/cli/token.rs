//! `shardcast token`: making tokens to try things out with, and saying why one is refused.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};
use shardcast_wire::date;
use shardcast_wire::ignis::UserId;

use super::terminal::Terminal;
use crate::auth::Principal;
use crate::auth::jwks::{Shared, Source};
use crate::auth::jwt::{Verified, Verifier};
use crate::auth::key::{self, KeyError};
use crate::auth::rules::{Decision, Places, RoomRules, user_id};
use crate::auth::signing::{self, SigningError, SigningKey};
use crate::config::codec::{Codec, Name, Span};
use crate::config::raw::Raw;
use crate::config::{Choice, Config, Dialect, Effect, JwtAlgorithm, Loaded, Mount, SecretEncoding};
use crate::wall_clock::now_unix_ms;

/// What `token` does, for its help.
pub(super) const LONG_ABOUT: &str = "\
Make a token to try things out with, or say what the server makes of one.

Both look at the configuration: which keys there are, which claims are the user, its roles, its tenant and its rooms,
and which rooms the rules allow.";

const MAKE_ABOUT: &str = "\
Make a JSON Web Token and print it.

It is signed with the first of these that is given:
  1. a fresh key, which is written to the file --new-key; what the server needs to know of it goes to standard error;
  2. the key in the file --key: a private key in PEM (PKCS #8), or a secret;
  3. the first secret of the configuration (auth.jwt.keys), the one of --kid if that is given.";

const MAKE_EXAMPLES: &str = "\
Examples:
  shardcast token make --sub u1
      Sign with the secret of the configuration; good for an hour.
  shardcast token make --new-key es256.pem --alg ES256 --sub u1 --expires 24h
      Make a key pair, too, and say how the server is told of it.
  shardcast token make --key es256.pem --kid k1 --iss https://id.example --aud chat --sub u1 --role admin
  shardcast token make --sub u1 --claim 'plan=\"pro\"' --claim 'app={\"level\":3}'";

const CHECK_ABOUT: &str = "\
Say what the server makes of a token: which key it is signed with, whom it stands for and what it says, or why it is
refused. With --room, say whether its client may join, and what decides.

Keys of auth.jwt.jwks are fetched for it. Exit code 0 when the token is good and every room allowed, else 1.";

const CHECK_EXAMPLES: &str = "\
Examples:
  shardcast token check eyJhbGciOi...
  cat token.txt | shardcast token check - --room user:u1 --room chat";

/// Arguments of `token`.
#[derive(Args)]
pub struct TokenArgs {
    /// What to do with a token.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with a token.
#[derive(Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it
    #[command(long_about = MAKE_ABOUT, after_help = MAKE_EXAMPLES)]
    Make(Box<MakeArgs>),
    /// Say what the server makes of a token, and why
    #[command(long_about = CHECK_ABOUT, after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
}

/// What a token is made of.
#[derive(Args, Default)]
pub struct MakeArgs {
    /// The user it stands for; a number stands for the user of that number when --numeric is given
    #[arg(long, value_name = "USER")]
    pub sub: Option<String>,

    /// Take --sub for a number
    #[arg(long, requires = "sub")]
    pub numeric: bool,

    /// A role of the user; can be repeated
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<String>,

    /// The user's tenant
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<String>,

    /// A room the user may join, where tokens may grant some [key: auth.jwt.rooms_claim]; can be repeated
    #[arg(long, value_name = "ROOM")]
    pub room: Vec<String>,

    /// Another claim, its value as JSON; can be repeated
    #[arg(long, value_name = "NAME=JSON")]
    pub claim: Vec<String>,

    /// Whom it is for; can be repeated; else the first of auth.jwt.audience
    #[arg(long, value_name = "AUDIENCE")]
    pub aud: Vec<String>,

    /// Who issues it; else the issuer of the configuration's key
    #[arg(long, value_name = "ISSUER")]
    pub iss: Option<String>,

    /// How long it is good, such as 90s, 15m or 24h; "never" for ever
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    pub expires: String,

    /// Id of the key, which the token will name
    #[arg(long, value_name = "ID")]
    pub kid: Option<String>,

    /// How to sign: HS256, HS384, HS512, RS256, ..., PS256, ..., ES256, ES384 or EdDSA; else the key's most usual
    #[arg(long, value_name = "ALG")]
    pub alg: Option<String>,

    /// File with the key to sign with: a private key in PEM, or a secret
    #[arg(long, value_name = "FILE", conflicts_with = "new_key")]
    pub key: Option<PathBuf>,

    /// File to write a fresh key to, which must not be there yet; it is for --alg, else for HS256
    #[arg(long, value_name = "FILE")]
    pub new_key: Option<PathBuf>,
}

/// Which token to check.
#[derive(Args)]
pub struct CheckArgs {
    /// The token, or "-" to read it from standard input
    pub token: String,

    /// A room (or topic) that its client wants to join; can be repeated
    #[arg(long, value_name = "ROOM")]
    pub room: Vec<String>,

    /// Path of the mount it connects to, which decides about rooms that nothing speaks of; else the first
    #[arg(long, value_name = "PATH")]
    pub mount: Option<String>,
}

/// A token that was not made, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No key to sign with.
    #[error("no key to sign with: the configuration has no secret{0}; give --key FILE or --new-key FILE")]
    NoKey(String),
    /// A flag that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A path that no mount has.
    #[error("no mount has the path {path:?}; there are: {known}")]
    Mount {
        /// What was given.
        path: String,
        /// Those there are.
        known: String,
    },
    /// The key's file cannot be read, or the configuration's secret.
    #[error("the key cannot be used: {0}")]
    Key(#[from] KeyError),
    /// The key cannot sign.
    #[error("cannot sign with the key{of}")]
    Signing {
        /// Where it is from.
        of: String,
        /// Why.
        #[source]
        source: SigningError,
    },
    /// The file for a fresh key cannot be written.
    #[error("cannot write the key to {path}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The token cannot be read.
    #[error("cannot read the token from standard input")]
    Input(#[source] io::Error),
    /// The kernel gives no event loop.
    #[error("cannot start an event loop")]
    Runtime(#[source] io::Error),
}

impl TokenError {
    /// Whether the command line is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::NoKey(_) | Self::Usage(_))
    }
}

/// A key to sign with, and what goes with it.
struct Signer {
    key: SigningKey,
    algorithm: JwtAlgorithm,
    kid: Option<String>,
    issuer: Option<String>,
    /// What an operator does with a fresh key.
    advice: Option<String>,
}

/// Makes a token; returns it, and what to tell about its key.
pub fn make(args: &MakeArgs, config: &Config) -> Result<(String, Option<String>), TokenError> {
    let signer = signer(args, config)?;
    let claims = claims(args, config, signer.issuer.as_deref())?;
    let signed = signer.key.sign(signer.algorithm, signer.kid.as_deref(), &claims);
    let token = signed.map_err(|source| TokenError::Signing { of: String::new(), source })?;
    Ok((token, signer.advice))
}

fn signer(args: &MakeArgs, config: &Config) -> Result<Signer, TokenError> {
    let algorithm = match &args.alg {
        None => None,
        Some(name) => Some(Name::<JwtAlgorithm>::read(&Raw::Bare(name.clone())).map_err(|mismatch| {
            let nearest = mismatch.nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"));
            TokenError::Usage(format!("--alg takes {}{nearest}", Name::<JwtAlgorithm>::form("")))
        })?),
    };
    let signing = |of: String| move |source| TokenError::Signing { of, source };
    if let Some(path) = &args.new_key {
        let algorithm = algorithm.unwrap_or(JwtAlgorithm::Hs256);
        let path = path.display().to_string();
        let generated = signing::generate(algorithm).map_err(signing(String::new()))?;
        write_new(&path, &generated.private)
            .map_err(|source| TokenError::Write { path: path.clone(), source })?;
        let key = SigningKey::read(generated.private.as_bytes(), SecretEncoding::Text);
        let key = key.map_err(signing(format!(" in {path}")))?;
        let advice = advice(&path, algorithm, generated.public.as_deref(), args);
        return Ok(Signer { key, algorithm, kid: args.kid.clone(), issuer: None, advice: Some(advice) });
    }
    if let Some(path) = &args.key {
        let path = path.display().to_string();
        let key = SigningKey::read(&key::read(&path)?, SecretEncoding::Text);
        let key = key.map_err(signing(format!(" in {path}")))?;
        let algorithm = algorithm.unwrap_or_else(|| key.algorithm());
        return Ok(Signer { key, algorithm, kid: args.kid.clone(), issuer: None, advice: None });
    }
    let is_it = |table: &&crate::config::JwtKey| {
        let is_secret = !table.secret.expose().is_empty() || !table.secret_file.is_empty();
        is_secret && args.kid.as_ref().is_none_or(|kid| *kid == table.kid)
    };
    let named = args.kid.as_ref().map_or_else(String::new, |kid| format!(" with the id {kid:?}"));
    let table = config.jwt.keys.iter().find(is_it).ok_or(TokenError::NoKey(named))?;
    let text = match table.secret_file.as_str() {
        "" => table.secret.expose().as_bytes().to_vec(),
        path => key::read(path)?,
    };
    let key = SigningKey::read(&text, table.secret_encoding).map_err(signing(String::new()))?;
    let algorithm = algorithm.or_else(|| table.algorithms.first().copied());
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (kid, issuer) = (some(&table.kid), some(&table.issuer));
    Ok(Signer { algorithm: algorithm.unwrap_or_else(|| key.algorithm()), key, kid, issuer, advice: None })
}

/// Writes a file that only its owner can read, unless there is one already.
fn write_new(path: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// How the server is told of a fresh key.
fn advice(path: &str, algorithm: JwtAlgorithm, public: Option<&str>, args: &MakeArgs) -> String {
    let line = |name: &str, value: &Option<String>| match value {
        Some(value) => format!("{name} = {}\n", toml::Value::from(value.as_str())),
        None => String::new(),
    };
    let key = match public {
        Some(pem) => format!("public_key = \"\"\"\n{pem}\"\"\"\n"),
        None => line("secret_file", &Some(path.to_owned())),
    };
    format!(
        "The key is in {path}; whoever has it can make tokens. For the server's configuration:\n\n\
         [[auth.jwt.keys]]\nalgorithms = [\"{}\"]\n{}{}{key}",
        algorithm.name(),
        line("kid", &args.kid),
        line("issuer", &args.iss),
    )
}

/// What the token says.
fn claims(args: &MakeArgs, config: &Config, issuer: Option<&str>) -> Result<Map<String, Value>, TokenError> {
    let jwt = &config.jwt;
    let now = now_unix_ms() / 1_000;
    let mut claims = Map::new();
    let usage = |text: &str| TokenError::Usage(text.to_owned());
    let mut put = |name: &str, flag: &str, value: Value| match name {
        "" => Err(TokenError::Usage(format!(
            "{flag} needs a claim to stand in: see auth.jwt in the configuration"
        ))),
        name => {
            set(&mut claims, name, value);
            Ok(())
        }
    };
    if let Some(user) = &args.sub {
        let value = if args.numeric {
            Value::Number(serde_json::from_str(user).map_err(|_| usage("--numeric needs a number in --sub"))?)
        } else {
            Value::from(user.as_str())
        };
        put(&jwt.user_claim, "--sub", value)?;
    }
    if !args.role.is_empty() {
        put(&jwt.roles_claim, "--role", args.role.clone().into())?;
    }
    if let Some(tenant) = &args.tenant {
        put(&jwt.tenant_claim, "--tenant", tenant.as_str().into())?;
    }
    if !args.room.is_empty() {
        put(&jwt.rooms_claim, "--room", args.room.clone().into())?;
    }
    let audience: Vec<_> =
        args.aud.iter().chain(jwt.audience.first().filter(|_| args.aud.is_empty())).collect();
    match audience.as_slice() {
        [] => {}
        [one] => put("aud", "--aud", one.as_str().into())?,
        several => put("aud", "--aud", several.iter().map(|name| name.as_str()).collect())?,
    }
    if let Some(issuer) = args.iss.as_deref().or(issuer) {
        put("iss", "--iss", issuer.into())?;
    }
    put("iat", "iat", now.into())?;
    if args.expires != "never" {
        let span = Span::read(&Raw::Bare(args.expires.clone()))
            .map_err(|_| TokenError::Usage(format!("--expires takes {}, or never", Span::form(""))))?;
        put("exp", "--expires", (now + span.as_secs()).into())?;
    }
    for claim in &args.claim {
        let (name, value) = claim.split_once('=').filter(|(name, _)| !name.is_empty()).unwrap_or((claim, ""));
        let value = serde_json::from_str(value).map_err(|_| {
            TokenError::Usage(format!(
                "--claim takes name=JSON, such as 'plan=\"pro\"' or level=3; found {claim:?}"
            ))
        })?;
        put(name, "--claim", value)?;
    }
    Ok(claims)
}

/// Puts a claim where [`crate::auth::claims::find`] will find it: dots lead into objects, except in names that are
/// URLs.
fn set(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.').filter(|_| !path.contains('/')) {
        Some((head, rest)) => {
            let inner = claims.entry(head).or_insert_with(|| Map::new().into());
            if !inner.is_object() {
                *inner = Map::new().into();
            }
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
        None => {
            claims.insert(path.to_owned(), value);
        }
    }
}

/// What a token comes to.
pub struct Report {
    /// For people.
    pub text: String,
    /// Whether it is good, and every room allowed.
    pub is_good: bool,
}

/// Checks a token as the server would.
pub fn check(args: &CheckArgs, loaded: &Loaded, terminal: &Terminal) -> Result<Report, TokenError> {
    let token = match args.token.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().take(1 << 20).read_to_string(&mut text).map_err(TokenError::Input)?;
            text.trim().to_owned()
        }
        token => token.to_owned(),
    };
    let config = &loaded.config;
    let mut text = String::new();
    let principal = match known(&token, config) {
        Some((what, principal)) => {
            put(&mut text, "accepted", &what);
            principal
        }
        None => match verify(&token, config, terminal)? {
            Ok(Verified { principal, claims, key, algorithm }) => {
                put(&mut text, "accepted", &format!("signed with {} ({})", key.origin(), algorithm.name()));
                put(&mut text, "claims", &Value::Object(claims).to_string());
                principal
            }
            Err((reason, fault)) => {
                put(&mut text, "refused", &format!("{reason}: {fault}"));
                return Ok(Report { text, is_good: false });
            }
        },
    };
    describe(&mut text, &principal);
    let rules = RoomRules::new(config);
    let places = Places::of(&principal);
    let own = rules.own(&principal, &places, unlisted_rooms(config, args.mount.as_deref())?);
    let mut is_good = true;
    for room in &args.room {
        let decision = own.decide(room);
        is_good &= decision.allows();
        let may = if decision.allows() { "may join" } else { "may not join" };
        put(&mut text, "room", &format!("{room:?}: {may}, {}", why(decision)));
    }
    Ok(Report { text, is_good })
}

/// What the mount on `path` says of rooms that nothing speaks of; without a path, the first that asks at all.
fn unlisted_rooms(config: &Config, path: Option<&str>) -> Result<Effect, TokenError> {
    let is_it = |mount: &&Mount| match path {
        Some(path) => mount.path == path,
        None => mount.dialect != Dialect::Echo,
    };
    match (config.mounts.iter().find(is_it), path) {
        (Some(mount), _) => Ok(mount.unlisted_rooms),
        (None, None) => Ok(Effect::Deny),
        (None, Some(path)) => {
            let paths: Vec<_> = config.mounts.iter().map(|mount| mount.path.as_str()).collect();
            Err(TokenError::Mount { path: path.to_owned(), known: paths.join(", ") })
        }
    }
}

/// A token that the configuration lists, or that dev mode lets in.
fn known(token: &str, config: &Config) -> Option<(String, Principal)> {
    if config.auth.dev {
        let user = Some(UserId::from_text(token));
        return Some((
            "dev mode accepts every token".to_owned(),
            Principal { user, everything: true, ..Principal::default() },
        ));
    }
    let (index, listed) =
        config.auth.tokens.iter().enumerate().find(|(_, listed)| listed.token.is(token.as_bytes()))?;
    let user = listed.user.as_ref().and_then(user_id);
    let principal = Principal { user, rooms: listed.rooms.clone(), ..Principal::default() };
    Some((format!("it is auth.tokens.{index}"), principal))
}

/// Why a token is refused: the name it is counted by, and a sentence.
type Refused = (&'static str, String);

fn verify(
    token: &str,
    config: &Config,
    terminal: &Terminal,
) -> Result<Result<Verified, Refused>, TokenError> {
    let sources = Source::all(config, &[], &Shared::new(Arc::default()));
    let (verifier, faults) = Verifier::new(config, sources);
    for (index, fault) in faults {
        terminal.warning(&format!("auth.jwt.keys.{index} {fault}"));
    }
    if !verifier.is_used() {
        let fault = "it is none of auth.tokens, and there are no keys in auth.jwt.keys and auth.jwt.jwks";
        return Ok(Err(("credentials_unknown", fault.to_owned())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(TokenError::Runtime)?.block_on(async {
        for source in verifier.sources() {
            if let Err(error) = source.load().await {
                terminal.warning(&format!("cannot fetch the keys at {}: {error}", source.url()));
            }
        }
    });
    Ok(verifier.verify(token, now_unix_ms()).map_err(|fault| (fault.reason().name(), fault.to_string())))
}

fn describe(text: &mut String, principal: &Principal) {
    let some = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    put(text, "user", &principal.user.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string));
    put(text, "tenant", &some(principal.tenant.clone().unwrap_or_default()));
    put(text, "roles", &some(principal.roles.join(", ")));
    let rooms: Vec<_> = principal.rooms.iter().map(ToString::to_string).collect();
    put(text, "its rooms", &some(rooms.join(", ")));
    let expires = match principal.expires_unix_ms {
        None => "never".to_owned(),
        Some(at) => format!("{}, leeway included", date::iso_ms(at)),
    };
    put(text, "expires", &expires);
}

fn why(decision: Decision) -> String {
    match decision {
        Decision::Everything => "dev mode allows every room".to_owned(),
        Decision::Rule(index, effect) => format!("auth.rules.{index} decides ({})", effect.name()),
        Decision::Open => "auth.rooms allows it".to_owned(),
        Decision::Token => "the token allows it".to_owned(),
        Decision::Unlisted => {
            "nothing speaks of it, and the mount's unlisted_rooms allows such rooms".to_owned()
        }
        Decision::TooLong => "its name is longer than limits.room_name_bytes_max".to_owned(),
        Decision::Nothing => "nothing allows it".to_owned(),
    }
}

/// Adds a line. What it says may come from a token, which must not command the terminal.
fn put(text: &mut String, label: &str, what: &str) {
    let what = what.replace(char::is_control, "\u{fffd}");
    writeln!(text, "{label:<10} {what}").expect("writing to a String does not fail");
}
