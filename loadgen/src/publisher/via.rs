//! Where publications go and what they look like: from flags and the defaults of the dialect, checked as a whole.
//!
//! Host names are looked up once, here; nothing is connected to.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

use serde::Deserialize;
use thiserror::Error;

use super::template::{Template, TemplateError};
use crate::dialect::Dialect;
use crate::scenario::Address;

/// Most HTTP requests in flight, so that answers nobody has read yet fit into the buffers of the sockets.
const PIPELINE_MAX: u32 = 1024;
const REDIS_PORT: u16 = 6379;
const HTTP_PORT: u16 = 80;
/// Headers that say where a request ends and whom it is for.
const HEADERS_FIXED: [&str; 3] = ["Host", "Content-Length", "Transfer-Encoding"];

/// How several publications go into one HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Batch {
    /// A request each.
    One,
    /// One a line, each line ended.
    Lines,
    /// As the elements of a JSON array, even a single one.
    Array,
}

/// Settings as written; what is `None` or empty is up to the dialect.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViaOptions {
    pub(crate) url: String,
    pub(crate) key: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) batch: Option<Batch>,
    pub(crate) pipeline: Option<u32>,
    pub(crate) to: Address,
    /// Whether publications name clients that are left out.
    pub(crate) is_excluding: bool,
}

/// Where publications go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// `PUBLISH` to a Redis.
    Redis(RedisVia),
    /// `POST` to an HTTP server.
    Http(HttpVia),
}

/// A Redis and what is published there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisVia {
    pub(super) address: SocketAddr,
    pub(super) login: Option<Login>,
    pub(super) database: Option<u32>,
    pub(super) channel: Template,
    pub(super) body: Template,
}

/// What `AUTH` is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: String,
}

/// An HTTP server and what is posted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpVia {
    pub(super) address: SocketAddr,
    pub(super) host: String,
    pub(super) path: Template,
    /// Whole lines, each ended, without those in [`HEADERS_FIXED`].
    pub(super) headers: String,
    pub(super) body: Template,
    pub(super) batch: Batch,
    /// Most requests in flight.
    pub(super) pipeline: usize,
}

/// What is wrong with the settings of publications.
#[derive(Debug, Error)]
pub(crate) enum ViaError {
    #[error("publish = {url:?} does not start with redis:// or http://")]
    Scheme { url: String },
    #[error("publish = {url:?}: TLS is not spoken here, expected {plain} and a proxy that speaks it")]
    Tls { url: String, plain: &'static str },
    #[error("publish = {url:?} does not name a host that can be found, expected {expected}")]
    Address { url: String, expected: &'static str },
    #[error("publish = {url:?}: user and password are not percent-encoded UTF-8")]
    Login { url: String },
    #[error("publish = {url:?}: expected the number of a database after the port, such as /0")]
    Database { url: String },
    #[error("publish = {url:?}: expected a path of ASCII without spaces and #, all else as %XX")]
    Path { url: String },
    #[error("{name} is for {scheme} only, and publish = {url:?}: leave it out")]
    Scope { name: &'static str, scheme: &'static str, url: String },
    #[error("{name} = {text:?}: {source}")]
    Template { name: &'static str, text: String, source: TemplateError },
    #[error("publish_header = {header:?}: expected \"Name: value\" without control characters")]
    Header { header: String },
    #[error("publish_header = {header:?}: {name} is set by the generator, expected any other name")]
    HeaderFixed { header: String, name: &'static str },
    #[error("publish_key has control characters, expected a key that fits into a header")]
    Key,
    #[error("publish_key and publish_header = \"Authorization: …\" say the same: leave one of them out")]
    KeyTwice,
    #[error("publish_pipeline = {pipeline} is out of bounds: 1 to {PIPELINE_MAX}")]
    Pipeline { pipeline: u32 },
    #[error("publish_body = {body:?} has no {{exclude}}: whom exclude leaves out would get everything")]
    NobodyExcluded { body: String },
    #[error("publish_body = {body:?} has a line break, expected none with publish_batch = lines")]
    LineBreak { body: String },
}

/// What a dialect's backends publish when nothing else is asked for.
struct Defaults {
    channel: String,
    redis_body: String,
    http_body: String,
    http_batch: Batch,
}

fn defaults(dialect: Dialect, options: &ViaOptions) -> Defaults {
    match dialect {
        Dialect::Ignis => {
            let kind = match options.to {
                Address::Room => "room",
                Address::Client => "client",
                Address::User => "user",
            };
            let exclude = if options.is_excluding { r#","exclude":{exclude}"# } else { "" };
            let message = format!(
                r#""type":"{kind}","target":{{room_json}},"event":"loadgen","data":{{data}}{exclude}"#
            );
            Defaults {
                channel: format!("ws:{kind}:{{room}}"),
                redis_body: format!(r#"{{"serverId":"emitter",{message}}}"#),
                http_body: format!("{{{message}}}"),
                http_batch: Batch::Array,
            }
        }
        Dialect::Topic | Dialect::Raw => Defaults {
            channel: "{room}".to_owned(),
            redis_body: "{data}".to_owned(),
            http_body: "{data}".to_owned(),
            http_batch: Batch::One,
        },
    }
}

impl Via {
    /// Checks settings and fills in what the dialect's backends do.
    pub(crate) fn new(dialect: Dialect, options: ViaOptions) -> Result<Self, ViaError> {
        let defaults = defaults(dialect, &options);
        if let Some(body) =
            options.body.as_ref().filter(|body| options.is_excluding && !body.contains("{exclude}"))
        {
            return Err(ViaError::NobodyExcluded { body: body.clone() });
        }
        if let Some(rest) = options.url.strip_prefix("redis://") {
            RedisVia::new(&defaults, rest, &options).map(Self::Redis)
        } else if let Some(rest) = options.url.strip_prefix("http://") {
            HttpVia::new(&defaults, rest, &options).map(Self::Http)
        } else {
            let url = shown(&options.url);
            Err(match options.url.split_once("://") {
                Some(("rediss", _)) => ViaError::Tls { url, plain: "redis://" },
                Some(("https", _)) => ViaError::Tls { url, plain: "http://" },
                _ => ViaError::Scheme { url },
            })
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redis(redis) => write!(f, "Redis at {}", redis.address),
            Self::Http(http) => write!(f, "HTTP at {}{}", http.host, http.path.as_str()),
        }
    }
}

impl RedisVia {
    /// `rest` is the URL after its scheme.
    fn new(defaults: &Defaults, rest: &str, options: &ViaOptions) -> Result<Self, ViaError> {
        let url = || shown(&options.url);
        let for_http = [
            ("publish_key", options.key.is_some()),
            ("publish_header", !options.headers.is_empty()),
            ("publish_batch", options.batch.is_some()),
            ("publish_pipeline", options.pipeline.is_some()),
        ];
        if let Some((name, _)) = for_http.into_iter().find(|(_, is_given)| *is_given) {
            return Err(ViaError::Scope { name, scheme: "http://", url: url() });
        }
        // A password may have an @ or a / that somebody forgot to encode; a host has neither.
        let (login, place) =
            rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
        let (host, database) = place.split_once('/').unwrap_or((place, ""));
        let database = match database {
            "" => None,
            digits => Some(digits.parse().map_err(|_| ViaError::Database { url: url() })?),
        };
        let expected = "redis://[user[:password]@]HOST:PORT[/db]";
        Ok(Self {
            address: resolve(host, REDIS_PORT).ok_or_else(|| ViaError::Address { url: url(), expected })?,
            login: match login {
                None | Some("") => None,
                Some(login) => Some(Login::read(login).ok_or_else(|| ViaError::Login { url: url() })?),
            },
            database,
            channel: template(
                "publish_channel",
                options.channel.as_deref(),
                &defaults.channel,
                Template::name,
            )?,
            body: template("publish_body", options.body.as_deref(), &defaults.redis_body, Template::body)?,
        })
    }
}

impl Login {
    /// Reads `user:password`, `:password` or `user`, each percent-encoded.
    fn read(written: &str) -> Option<Self> {
        let (user, password) = written.split_once(':').unwrap_or((written, ""));
        let user = percent_decode(user)?;
        Some(Self { user: Some(user).filter(|user| !user.is_empty()), password: percent_decode(password)? })
    }
}

impl HttpVia {
    /// `rest` is the URL after its scheme.
    fn new(defaults: &Defaults, rest: &str, options: &ViaOptions) -> Result<Self, ViaError> {
        let url = || shown(&options.url);
        if options.channel.is_some() {
            return Err(ViaError::Scope { name: "publish_channel", scheme: "redis://", url: url() });
        }
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(ViaError::Path { url: url() });
        }
        let path = Template::name(&path);
        let batch = options.batch.unwrap_or(defaults.http_batch);
        let body = template("publish_body", options.body.as_deref(), &defaults.http_body, Template::body)?;
        if batch == Batch::Lines && body.as_str().contains('\n') {
            return Err(ViaError::LineBreak { body: body.as_str().to_owned() });
        }
        let pipeline = options.pipeline.unwrap_or(1);
        if !(1..=PIPELINE_MAX).contains(&pipeline) {
            return Err(ViaError::Pipeline { pipeline });
        }
        let expected = "http://HOST[:PORT]/PATH";
        Ok(Self {
            address: resolve(host, HTTP_PORT).ok_or_else(|| ViaError::Address { url: url(), expected })?,
            host: host.to_owned(),
            path: path.map_err(|source| ViaError::Template { name: "publish", text: url(), source })?,
            headers: header_lines(options, batch)?,
            body,
            batch,
            pipeline: pipeline as usize,
        })
    }
}

/// The header lines of every request, those that depend on it excepted.
fn header_lines(options: &ViaOptions, batch: Batch) -> Result<String, ViaError> {
    let mut lines = String::new();
    let (mut has_type, mut has_authorization) = (false, false);
    for header in &options.headers {
        let malformed = || ViaError::Header { header: header.clone() };
        let (name, value) = header.split_once(':').ok_or_else(malformed)?;
        if name.is_empty() || !name.bytes().all(is_token) || !is_field_value(value) {
            return Err(malformed());
        }
        if let Some(name) = HEADERS_FIXED.into_iter().find(|fixed| fixed.eq_ignore_ascii_case(name)) {
            return Err(ViaError::HeaderFixed { header: header.clone(), name });
        }
        has_type |= name.eq_ignore_ascii_case("Content-Type");
        has_authorization |= name.eq_ignore_ascii_case("Authorization");
        lines.push_str(&format!("{name}: {}\r\n", value.trim()));
    }
    if let Some(key) = &options.key {
        if has_authorization {
            return Err(ViaError::KeyTwice);
        }
        if !is_field_value(key) {
            return Err(ViaError::Key);
        }
        lines.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if !has_type {
        let kind = if batch == Batch::Lines { "application/x-ndjson" } else { "application/json" };
        lines.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    Ok(lines)
}

/// `tchar` (RFC 9110 §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a header (RFC 9110 §5.5).
fn is_field_value(value: &str) -> bool {
    value.chars().all(|char| char == '\t' || !char.is_control())
}

fn template(
    name: &'static str,
    written: Option<&str>,
    default: &str,
    parse: impl Fn(&str) -> Result<Template, TemplateError>,
) -> Result<Template, ViaError> {
    let text = written.unwrap_or(default);
    parse(text).map_err(|source| ViaError::Template { name, text: text.to_owned(), source })
}

/// The address of `HOST` or `HOST:PORT`; an IPv6 address stands in brackets.
fn resolve(host: &str, default_port: u16) -> Option<SocketAddr> {
    let has_port = host.rfind(':') > host.rfind(']');
    let place = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
    if place.starts_with(':') {
        return None;
    }
    place.to_socket_addrs().ok()?.next()
}

/// The URL without the secrets before its host.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

/// Text with its `%XX` replaced (RFC 3986 §2.1); `None` when one is incomplete or the result is not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? << 4 | digit()?) as u8);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> ViaOptions {
        ViaOptions { url: url.to_owned(), ..ViaOptions::default() }
    }

    fn redis(url: &str) -> RedisVia {
        match Via::new(Dialect::Ignis, options(url)) {
            Ok(Via::Redis(redis)) => redis,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn http(options: ViaOptions) -> HttpVia {
        match Via::new(Dialect::Ignis, options) {
            Ok(Via::Http(http)) => http,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn redis_urls_name_address_login_and_database() {
        let login = |user: &str, password: &str| {
            Some(Login {
                user: Some(user.to_owned()).filter(|user| !user.is_empty()),
                password: password.to_owned(),
            })
        };
        let table = [
            ("redis://127.0.0.1:7000", "127.0.0.1:7000", None, None),
            ("redis://127.0.0.1", "127.0.0.1:6379", None, None),
            ("redis://[::1]:7000/", "[::1]:7000", None, None),
            ("redis://[::1]/3", "[::1]:6379", None, Some(3)),
            ("redis://u:p@127.0.0.1:1/15", "127.0.0.1:1", login("u", "p"), Some(15)),
            ("redis://:p%40%2f@127.0.0.1:1", "127.0.0.1:1", login("", "p@/"), None),
            ("redis://:a/b@c@127.0.0.1:1/0", "127.0.0.1:1", login("", "a/b@c"), Some(0)),
            ("redis://u@127.0.0.1:1", "127.0.0.1:1", login("u", ""), None),
            ("redis://@127.0.0.1:1", "127.0.0.1:1", None, None),
        ];
        for (url, address, login, database) in table {
            let via = redis(url);
            assert_eq!((via.address.to_string().as_str(), via.database), (address, database), "{url}");
            assert_eq!(via.login, login, "{url}");
            assert_eq!(Via::Redis(via).to_string(), format!("Redis at {address}"));
        }
    }

    #[test]
    fn http_urls_name_address_host_and_path() {
        let table = [
            ("http://127.0.0.1:8080/a/{room}?b=c", "127.0.0.1:8080", "127.0.0.1:8080", "/a/{room}?b=c"),
            ("http://127.0.0.1", "127.0.0.1:80", "127.0.0.1", "/"),
            ("http://127.0.0.1?id={room}", "127.0.0.1:80", "127.0.0.1", "/?id={room}"),
            ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080", "/"),
        ];
        for (url, address, host, path) in table {
            let via = http(options(url));
            assert_eq!((via.address.to_string().as_str(), via.host.as_str()), (address, host), "{url}");
            assert_eq!(Via::Http(via).to_string(), format!("HTTP at {host}{path}"));
        }
    }

    #[test]
    fn what_is_not_written_is_what_the_emitters_of_ignis_do() {
        let via = redis("redis://127.0.0.1");
        let body =
            r#"{"serverId":"emitter","type":"room","target":{room_json},"event":"loadgen","data":{data}}"#;
        assert_eq!((via.channel.as_str(), via.body.as_str()), ("ws:room:{room}", body));
        let via = http(options("http://127.0.0.1"));
        let body = r#"{"type":"room","target":{room_json},"event":"loadgen","data":{data}}"#;
        assert_eq!((via.body.as_str(), via.batch, via.pipeline), (body, Batch::Array, 1));
        assert_eq!(via.headers, "Content-Type: application/json\r\n");
    }

    #[test]
    fn headers_are_added_and_the_content_type_can_be_replaced() {
        let http = |key: Option<&str>, headers: &[&str], batch| {
            http(ViaOptions {
                key: key.map(str::to_owned),
                headers: headers.iter().map(|header| (*header).to_owned()).collect(),
                batch: Some(batch),
                ..options("http://127.0.0.1")
            })
        };
        let table = [
            (
                http(Some("k"), &["X-A:  b:c "], Batch::One),
                "X-A: b:c\r\nAuthorization: Bearer k\r\nContent-Type: application/json\r\n",
            ),
            (http(None, &["content-type: text/plain"], Batch::Lines), "content-type: text/plain\r\n"),
            (http(None, &[], Batch::Lines), "Content-Type: application/x-ndjson\r\n"),
            (
                http(None, &["authorization: Basic eA==", "X-Empty:"], Batch::Array),
                "authorization: Basic eA==\r\nX-Empty: \r\nContent-Type: application/json\r\n",
            ),
        ];
        for (via, expected) in table {
            assert_eq!(via.headers, expected);
        }
    }

    #[test]
    fn ignis_backends_address_rooms_clients_and_users_and_leave_clients_out() {
        let data = r#""target":{room_json},"event":"loadgen","data":{data}"#;
        let table = [
            (Address::Room, false, "room", ""),
            (Address::Room, true, "room", r#","exclude":{exclude}"#),
            (Address::Client, false, "client", ""),
            (Address::User, false, "user", ""),
        ];
        for (to, is_excluding, kind, exclude) in table {
            let with = |url: &str| ViaOptions { to, is_excluding, ..options(url) };
            let Ok(Via::Redis(redis)) = Via::new(Dialect::Ignis, with("redis://127.0.0.1")) else {
                panic!("{kind}")
            };
            assert_eq!(redis.channel.as_str(), format!("ws:{kind}:{{room}}"));
            let body = format!(r#"{{"serverId":"emitter","type":"{kind}",{data}{exclude}}}"#);
            assert_eq!(redis.body.as_str(), body);
            let http = http(with("http://127.0.0.1/"));
            assert_eq!(http.body.as_str(), format!(r#"{{"type":"{kind}",{data}{exclude}}}"#));
        }
    }

    #[test]
    fn mistakes_are_named_with_value_and_expectation_but_without_secrets() {
        let on_redis = || options("redis://u:secret@127.0.0.1");
        let on_http = || options("http://127.0.0.1");
        let some = |text: &str| Some(text.to_owned());
        let header = |header: &str| ViaOptions { headers: vec![header.to_owned()], ..on_http() };
        let table = [
            (options("tcp://h"), "publish = \"tcp://h\" does not start with redis:// or http://"),
            (
                options("rediss://u:p@h:1"),
                "publish = \"rediss://…@h:1\": TLS is not spoken here, expected redis://",
            ),
            (
                options("https://h"),
                "publish = \"https://h\": TLS is not spoken here, expected http:// and a proxy",
            ),
            (
                options("redis://"),
                "does not name a host that can be found, expected redis://[user[:password]@]HOST",
            ),
            (options("redis://:1"), "does not name a host"),
            (
                options("redis://a:secret@127.0.0.1:x"),
                "publish = \"redis://…@127.0.0.1:x\" does not name a host",
            ),
            (options("http://u:secret@127.0.0.1/"), "publish = \"http://…@127.0.0.1/\" does not name a host"),
            (options("redis://:%4@127.0.0.1"), "user and password are not percent-encoded UTF-8"),
            (options("redis://:%ff@127.0.0.1"), "user and password are not percent-encoded UTF-8"),
            (options("redis://127.0.0.1/x"), "expected the number of a database after the port, such as /0"),
            (options("http://127.0.0.1/a b"), "expected a path of ASCII without spaces and #"),
            (options("http://127.0.0.1/a#b"), "expected a path of ASCII without spaces and #"),
            (options("http://127.0.0.1/{rom}"), "{rom} is no placeholder, did you mean {room}?"),
            (
                ViaOptions { key: some("k"), ..on_redis() },
                "publish_key is for http:// only, and publish = \"redis",
            ),
            (ViaOptions { pipeline: Some(2), ..on_redis() }, "publish_pipeline is for http:// only"),
            (ViaOptions { batch: Some(Batch::One), ..on_redis() }, "publish_batch is for http:// only"),
            (
                ViaOptions { headers: vec!["A: b".to_owned()], ..on_redis() },
                "publish_header is for http:// only",
            ),
            (ViaOptions { channel: some("c"), ..on_http() }, "publish_channel is for redis:// only"),
            (
                ViaOptions { channel: some("{data}"), ..on_redis() },
                "publish_channel = \"{data}\": {data}, {stamp} and",
            ),
            (
                ViaOptions { body: some("{room}"), ..on_redis() },
                "publish_body = \"{room}\": has neither {data} nor",
            ),
            (header("Host: h"), "publish_header = \"Host: h\": Host is set by the generator"),
            (header("content-length: 1"), "Content-Length is set by the generator"),
            (header("transfer-encoding: chunked"), "Transfer-Encoding is set by the generator"),
            (header("A"), "publish_header = \"A\": expected \"Name: value\""),
            (header(": a"), "expected \"Name: value\""),
            (header("A b: c"), "expected \"Name: value\""),
            (header("A: b\r\nC: d"), "without control characters"),
            (
                ViaOptions { key: some("k"), ..header("Authorization: x") },
                "say the same: leave one of them out",
            ),
            (ViaOptions { key: some("secret\n"), ..on_http() }, "publish_key has control characters"),
            (
                ViaOptions { pipeline: Some(0), ..on_http() },
                "publish_pipeline = 0 is out of bounds: 1 to 1024",
            ),
            (ViaOptions { pipeline: Some(1025), ..on_http() }, "publish_pipeline = 1025 is out of bounds"),
            (
                ViaOptions { body: some("{data}\n"), batch: Some(Batch::Lines), ..on_http() },
                "publish_body = \"{data}\\n\" has a line break",
            ),
        ];
        for (options, expected) in table {
            let url = options.url.clone();
            let error = Via::new(Dialect::Ignis, options).expect_err(&url).to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
