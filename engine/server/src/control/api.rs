//! The API of backends: emit, rooms, clients.
//!
//! A request is refused as a whole or done as a whole.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use shardcast_shard::{ClientView, MountId};
use shardcast_wire::date;
use shardcast_wire::ignis::{ClientId, UserId};
use shardcast_wire::topic::SessionId;

use super::answer::{self, Answer};
use super::error::ApiError;
use super::{Control, emit, not_found};
use crate::audit::{self, Event, Kind};
use crate::engine::Emitted;
use crate::redis::PublishOutcome;
use crate::router::Routed;

/// Rooms listed when the request does not say how many.
const ROOMS_LIMIT_DEFAULT: usize = 1_000;

/// Rooms that one request may list.
const ROOMS_LIMIT_MAX: usize = 10_000;

/// A path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Emit,
    Rooms,
    Client(&'a str),
    User(&'a str),
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Option<Self> {
        match path.strip_prefix("/api/")? {
            "emit" => Some(Self::Emit),
            "rooms" => Some(Self::Rooms),
            rest => {
                let (kind, id) = rest.split_once('/')?;
                if id.is_empty() || id.contains('/') {
                    return None;
                }
                match kind {
                    "clients" => Some(Self::Client(id)),
                    "users" => Some(Self::User(id)),
                    _ => None,
                }
            }
        }
    }

    fn methods(self) -> &'static str {
        match self {
            Self::Emit => "POST",
            Self::Rooms => "GET, HEAD",
            Self::Client(_) => "GET, HEAD, DELETE",
            Self::User(_) => "DELETE",
        }
    }
}

/// Answers a request from `address` that came in on the public port.
pub(super) async fn answer(control: &Control, address: IpAddr, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let Some(route) = Route::of(&path) else { return not_found::answer(&request) };
    // Bound first: the lock of the access is not held over what follows.
    let admitted = control.settings.access.borrow().admit(request.headers());
    let key = match admitted {
        Ok(key) => key,
        Err(refusal) => {
            control.engine.status().process.api_unauthorized.fetch_add(1, Ordering::Relaxed);
            let method = request.method().as_str();
            let refused = || Event::api_refused(address, method, &path, refusal.name());
            control.engine.audit().record(Kind::ApiRefused, refused);
            return ApiError::from(refusal).answer();
        }
    };
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    let answered = match route {
        Route::Emit if request.method() == Method::POST => emit_messages(control, request).await,
        Route::Rooms if read => rooms(control, request.uri().query()).await,
        Route::Client(id) if read => client(control, id).await,
        Route::Client(id) | Route::User(id) if request.method() == Method::DELETE => {
            let (kicked, whom) = match route {
                Route::User(_) => (kick_user(control, id), audit::Kicked::user(id)),
                _ => (kick(control, id), audit::Kicked::client(id)),
            };
            let outcome = kicked.as_ref().err().map_or("accepted", ApiError::code);
            control.engine.audit().record(Kind::Kick, || Event::kick(whom, address, key, outcome));
            kicked
        }
        route => Err(ApiError::MethodNotAllowed { allow: route.methods() }),
    };
    answered.unwrap_or_else(|error| error.answer())
}

#[derive(Serialize)]
struct EmitAnswer {
    accepted: usize,
    results: Vec<EmitResult>,
}

#[derive(Serialize)]
struct EmitResult {
    shards: u32,
    mailboxes_full: u32,
    redis: &'static str,
}

impl EmitResult {
    fn new(emitted: Emitted) -> Self {
        let redis = match emitted.redis {
            PublishOutcome::Off => "off",
            PublishOutcome::Queued => "queued",
            PublishOutcome::LocalOnly => "local-only",
        };
        Self { shards: emitted.local.shards, mailboxes_full: emitted.local.refused, redis }
    }
}

/// `POST /api/emit`. Messages go out in the order of the array.
async fn emit_messages(control: &Control, request: Request<Incoming>) -> Result<Answer, ApiError> {
    let body = read_body(control, request).await?;
    let messages = emit::decode(&body)?;
    let results: Vec<_> = control.engine.send_all(&messages)?.into_iter().map(EmitResult::new).collect();
    let accepted = results.len();
    control.engine.status().process.api_emitted.fetch_add(accepted as u64, Ordering::Relaxed);
    Ok(answer::json(StatusCode::OK, &EmitAnswer { accepted, results }))
}

async fn read_body(control: &Control, request: Request<Incoming>) -> Result<Bytes, ApiError> {
    let limits = &control.settings.limits;
    let too_large = ApiError::BodyTooLarge { bytes_max: limits.body_bytes_max };
    // Before the first read, so that a client that waits for `100 Continue` sends nothing in vain.
    if request.body().size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(too_large);
    }
    let body = Limited::new(request.into_body(), limits.body_bytes_max).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a request body broke off");
            Err(ApiError::BodyBroken)
        }
        Err(_) => Err(ApiError::BodyTimeout),
    }
}

#[derive(Serialize)]
struct RoomsAnswer<'a> {
    rooms: Vec<Room<'a>>,
    truncated: bool,
}

#[derive(Serialize)]
struct Room<'a> {
    name: &'a str,
    members: usize,
}

/// `GET /api/rooms?mount=PATH&limit=N`. Without a mount it is the one that events go to; without that, the first.
async fn rooms(control: &Control, query: Option<&str>) -> Result<Answer, ApiError> {
    let RoomsQuery { limit, mount } = rooms_query(query)?;
    let mount = match mount {
        None => control.engine.ignis_mount().unwrap_or(MountId(0)),
        Some(path) => known_mount(control, path).ok_or(ApiError::UnknownMount)?,
    };
    let found = control.engine.rooms(mount, limit + 1).await.ok_or(ApiError::ShardBusy)?;
    let truncated = found.len() > limit;
    let rooms = found.iter().take(limit).map(|(name, members)| Room { name, members: *members }).collect();
    Ok(answer::json(StatusCode::OK, &RoomsAnswer { rooms, truncated }))
}

/// The mount of a path, which may be percent-encoded; it may hold escapes of its own as well.
fn known_mount(control: &Control, path: &str) -> Option<MountId> {
    let mount = |path: &str| control.settings.mount(path);
    mount(path).or_else(|| mount(&percent_decoded(path)?))
}

/// Which rooms are asked for.
#[derive(Debug, PartialEq, Eq)]
struct RoomsQuery<'a> {
    limit: usize,
    /// The path of a mount, as it was sent.
    mount: Option<&'a str>,
}

fn rooms_query(query: Option<&str>) -> Result<RoomsQuery<'_>, ApiError> {
    let mut asked = RoomsQuery { limit: ROOMS_LIMIT_DEFAULT, mount: None };
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "limit" => {
                let value = value.parse().ok().map(NonZeroUsize::get);
                let value = value.filter(|&value| value <= ROOMS_LIMIT_MAX);
                asked.limit = value.ok_or(ApiError::BadLimit { limit_max: ROOMS_LIMIT_MAX })?;
            }
            "mount" => asked.mount = Some(value),
            _ => return Err(ApiError::UnknownParameter { known: "`limit` and `mount`" }),
        }
    }
    Ok(asked)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Client<'a> {
    id: String,
    mount: &'a str,
    user_id: Option<&'a RawValue>,
    rooms: Vec<&'a str>,
    connected_at: String,
    outbox_bytes: usize,
}

impl<'a> Client<'a> {
    fn new(view: &'a ClientView, mount: &'a str) -> Self {
        let user_id = view
            .user
            .as_ref()
            .map(|user| serde_json::from_str(user.as_json()).expect("a user's id is kept as valid JSON"));
        Self {
            id: view.id.to_string(),
            mount,
            user_id,
            rooms: view.rooms.iter().map(|room| &**room).collect(),
            connected_at: date::iso_ms(view.connected_unix_ms),
            outbox_bytes: view.outbox_bytes,
        }
    }
}

/// `GET /api/clients/{id}`.
async fn client(control: &Control, id: &str) -> Result<Answer, ApiError> {
    let (id, mount) = known_client(control, id)?;
    match control.engine.client(id).await {
        Some(view) => {
            Ok(answer::json(StatusCode::OK, &Client::new(&view, control.settings.mount_path(mount))))
        }
        None if is_connected(control, id) => Err(ApiError::ShardBusy),
        None => Err(ApiError::UnknownClient),
    }
}

#[derive(Serialize)]
struct Kicked {
    kicked: String,
}

/// `DELETE /api/clients/{id}`: 202, because the shard closes it in a turn of its own.
fn kick(control: &Control, id: &str) -> Result<Answer, ApiError> {
    let (id, _) = known_client(control, id)?;
    if control.engine.kick(id) {
        return Ok(answer::json(StatusCode::ACCEPTED, &Kicked { kicked: id.to_string() }));
    }
    Err(if is_connected(control, id) { ApiError::ShardBusy } else { ApiError::UnknownClient })
}

#[derive(Serialize)]
struct KickedUser {
    kicked: String,
    shards: u32,
}

/// `DELETE /api/users/{id}`: ends all connections of a user in this process. A name that could be a number stands for
/// the user of that number, too: a backend that revokes somebody must not miss them for want of quotes.
fn kick_user(control: &Control, id: &str) -> Result<Answer, ApiError> {
    let name = percent_decoded(id).ok_or(ApiError::UnknownUser)?;
    let number = serde_json::from_str::<serde_json::Number>(&name).ok();
    let number = number.and_then(|_| UserId::from_json(&name));
    let users = [Some(UserId::from_text(&name)), number];
    let mut routed = Routed::default();
    for user in users.iter().flatten() {
        let Routed { shards, refused } = control.engine.kick_user(user);
        routed.shards += shards;
        routed.refused += refused;
    }
    match routed {
        Routed { refused: 1.., .. } => Err(ApiError::ShardBusy),
        Routed { shards: 0, .. } => Err(ApiError::UnknownUser),
        Routed { shards, .. } => Ok(answer::json(StatusCode::ACCEPTED, &KickedUser { kicked: name, shards })),
    }
}

/// A segment of a path with `%XX` for what it may not hold (RFC 3986 §2.1); `None` when it is not UTF-8.
fn percent_decoded(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let mut byte = *first;
        if byte == b'%' {
            let [high, low, after @ ..] = rest else { return None };
            let digit = |byte: &u8| char::from(*byte).to_digit(16);
            byte = (digit(high)? << 4 | digit(low)?) as u8;
            rest = after;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// A client that is connected here, and its mount. A client of a topic mount knows its session only, so that does as well.
fn known_client(control: &Control, id: &str) -> Result<(ClientId, MountId), ApiError> {
    let id = ClientId::parse(id).or_else(|| SessionId::client(id)).ok_or(ApiError::UnknownClient)?;
    let (mount, _) = control.engine.router().directory().client(id).ok_or(ApiError::UnknownClient)?;
    Ok((id, mount))
}

fn is_connected(control: &Control, id: ClientId) -> bool {
    control.engine.router().directory().client(id).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_route_and_others_nowhere() {
        let cases = [
            ("/api/emit", Some(Route::Emit)),
            ("/api/rooms", Some(Route::Rooms)),
            ("/api/clients/x", Some(Route::Client("x"))),
            ("/api/clients/", None),
            ("/api/clients", None),
            ("/api/clients/x/y", None),
            ("/api/users/u1", Some(Route::User("u1"))),
            ("/api/users/", None),
            ("/api/users/u1/x", None),
            ("/api/others/x", None),
            ("/api/emit/", None),
            ("/api/", None),
            ("/api", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_segment_is_decoded_or_refused() {
        let cases = [
            ("u1", Some("u1")),
            ("auth0%7C7", Some("auth0|7")),
            ("a%2fb", Some("a/b")),
            ("%C3%A9", Some("é")),
            ("a+b", Some("a+b")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%ff", None),
        ];
        for (segment, expected) in cases {
            assert_eq!(percent_decoded(segment).as_deref(), expected, "{segment}");
        }
    }

    #[test]
    fn which_rooms_are_asked_for_is_a_limit_within_its_bounds_and_a_mount() {
        let cases = [
            (None, Some(ROOMS_LIMIT_DEFAULT)),
            (Some(""), Some(ROOMS_LIMIT_DEFAULT)),
            (Some("limit=1"), Some(1)),
            (Some("limit=10000"), Some(10_000)),
            (Some("limit=10001"), None),
            (Some("limit=0"), None),
            (Some("limit=-1"), None),
            (Some("limit"), None),
            (Some("limt=1"), None),
            (Some("limit=1&after=x"), None),
        ];
        for (query, expected) in cases {
            assert_eq!(rooms_query(query).ok().map(|asked| asked.limit), expected, "{query:?}");
        }
        for (query, mount) in [("mount=/topics", "/topics"), ("limit=1&mount=%2Fa", "%2Fa")] {
            let asked = rooms_query(Some(query)).expect("a good query");
            assert_eq!(asked.mount, Some(mount), "{query}");
        }
    }
}
