//! How each kind of value is read from what an operator wrote, written back as TOML, and shown.
//!
//! A codec is a type without values that stands in a line of [`super::keys`]. Invariant: `read(write(v)) = v`
//! for every value within bounds, from TOML and, for what an environment variable can hold, from plain text.
//! Nothing here knows keys, layers or bounds across keys.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use redis::IntoConnectionInfo;

use super::raw::Raw;
use super::secret::{MASK, mask_url};
use super::suggest::nearest;
use super::values::{Auto, Choice, ClaimCondition, UserId};
use super::{RedisUrl, RoomPattern, RoomTemplate, Secret};

/// A value that is not of the form its key takes. What the key takes is said by whoever knows the key.
#[derive(Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What stood there, masked when it may hold a secret.
    pub found: String,
    /// The name that was probably meant, quoted.
    pub nearest: Option<String>,
}

impl Mismatch {
    /// For `raw`, which is shown as it is.
    pub fn of(raw: &Raw) -> Self {
        Self { found: raw.to_string(), nearest: None }
    }

    /// For `raw`, of which only the kind is shown.
    pub(super) fn masked(raw: &Raw) -> Self {
        Self { found: raw.kind().to_owned(), nearest: None }
    }
}

/// One kind of value.
pub trait Codec {
    /// The type in the struct.
    type Value;

    /// Whether values are masked wherever they are shown.
    const SECRET: bool = false;

    /// What the key takes, as a noun phrase, with `bounds` (`""` or `, from 1 to 5`) where they belong.
    fn form(bounds: &str) -> String;

    /// Every accepted name and its meaning, for values that are names.
    fn choices() -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Reads a value.
    fn read(raw: &Raw) -> Result<Self::Value, Mismatch>;

    /// Writes a value as TOML, secrets included.
    fn write(value: &Self::Value) -> String;

    /// Writes a value as TOML with its secrets masked.
    fn show(value: &Self::Value) -> String {
        Self::write(value)
    }
}

/// A kind of value that has a smallest and a largest.
pub trait Bounded: Codec {
    /// The type of the bounds.
    type Bound;

    /// Whether `value` is within `bounds`; "auto" and "off" always are.
    fn within(value: &Self::Value, bounds: &RangeInclusive<Self::Bound>) -> bool;

    /// A bound as it would be written, without quotes.
    fn bound(bound: &Self::Bound) -> String;
}

/// A kind of value that one text stands for the absence of.
pub trait Blank: Codec {
    /// That text, without quotes.
    const BLANK: &'static str;
}

/// `text` as a TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// `true` or `false`.
#[derive(Debug)]
pub enum Switch {}

impl Codec for Switch {
    type Value = bool;

    fn form(_bounds: &str) -> String {
        "true or false".to_owned()
    }

    fn read(raw: &Raw) -> Result<bool, Mismatch> {
        match raw {
            Raw::Switch(value) => Ok(*value),
            Raw::Bare(text) => text.parse().map_err(|_| Mismatch::of(raw)),
            _ => Err(Mismatch::of(raw)),
        }
    }

    fn write(value: &bool) -> String {
        value.to_string()
    }
}

/// A whole number of things.
#[derive(Debug)]
pub enum Count {}

impl Codec for Count {
    type Value = usize;

    fn form(bounds: &str) -> String {
        format!("a whole number{bounds}")
    }

    fn read(raw: &Raw) -> Result<usize, Mismatch> {
        let number = match raw {
            Raw::Integer(number) => usize::try_from(*number).ok(),
            Raw::Bare(text) => text.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &usize) -> String {
        value.to_string()
    }
}

impl Bounded for Count {
    type Bound = usize;

    fn within(value: &usize, bounds: &RangeInclusive<usize>) -> bool {
        bounds.contains(value)
    }

    fn bound(bound: &usize) -> String {
        bound.to_string()
    }
}

/// A size in bytes: a number of bytes, or a string with a unit.
#[derive(Debug)]
pub enum Bytes {}

/// Units of sizes, largest first. Only the binary ones: `MB` means two things.
const BYTE_UNITS: [(&str, usize); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Codec for Bytes {
    type Value = usize;

    fn form(bounds: &str) -> String {
        format!("a size such as \"16MiB\" (B, KiB, MiB, GiB) or a number of bytes{bounds}")
    }

    fn read(raw: &Raw) -> Result<usize, Mismatch> {
        let bytes = match raw {
            Raw::Integer(bytes) => usize::try_from(*bytes).ok(),
            Raw::Text(text) => quantity(text, &BYTE_UNITS),
            Raw::Bare(text) => text.parse().ok().or_else(|| quantity(text, &BYTE_UNITS)),
            _ => None,
        };
        bytes.ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &usize) -> String {
        quoted(&Self::bound(value))
    }
}

impl Bounded for Bytes {
    type Bound = usize;

    fn within(value: &usize, bounds: &RangeInclusive<usize>) -> bool {
        bounds.contains(value)
    }

    fn bound(bytes: &usize) -> String {
        measure(*bytes, &BYTE_UNITS)
    }
}

/// A duration: a string with a unit.
#[derive(Debug)]
pub enum Span {}

/// Units of durations in milliseconds, largest first.
const SPAN_UNITS: [(&str, usize); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Codec for Span {
    type Value = Duration;

    fn form(bounds: &str) -> String {
        format!("a duration such as \"5s\" or \"300ms\" (ms, s, m, h){bounds}")
    }

    fn read(raw: &Raw) -> Result<Duration, Mismatch> {
        let millis = match raw {
            Raw::Text(text) | Raw::Bare(text) => quantity(text, &SPAN_UNITS),
            _ => None,
        };
        let Some(millis) = millis else { return Err(Mismatch::of(raw)) };
        Ok(Duration::from_millis(millis as u64))
    }

    fn write(value: &Duration) -> String {
        quoted(&Self::bound(value))
    }
}

impl Bounded for Span {
    type Bound = Duration;

    fn within(value: &Duration, bounds: &RangeInclusive<Duration>) -> bool {
        bounds.contains(value)
    }

    /// Seconds stay seconds up to two minutes: `60s` and `90s` read better beside each other than `1m` and `90s`.
    fn bound(span: &Duration) -> String {
        let units = if *span < Duration::from_secs(120) { &SPAN_UNITS[2..] } else { &SPAN_UNITS[..] };
        match usize::try_from(span.as_millis()) {
            Ok(0) => "0s".to_owned(),
            Ok(millis) => measure(millis, units),
            Err(_) => format!("{}s", span.as_secs()),
        }
    }
}

impl Blank for Span {
    const BLANK: &'static str = "0s";
}

/// A whole number followed by a unit, in the smallest unit; `None` when it is not one, or too large.
fn quantity(text: &str, units: &[(&str, usize)]) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<usize>().ok()?.checked_mul(*scale)
}

/// `amount` in the largest unit that divides it.
fn measure(amount: usize, units: &[(&str, usize)]) -> String {
    let divides = |(_, scale): &&(&str, usize)| amount != 0 && amount.is_multiple_of(*scale);
    match units.iter().find(divides).or(units.last()) {
        Some((unit, scale)) => format!("{}{unit}", amount / scale),
        None => amount.to_string(),
    }
}

/// An IP address and port.
#[derive(Debug)]
pub enum Address {}

impl Codec for Address {
    type Value = SocketAddr;

    fn form(_bounds: &str) -> String {
        "an address such as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<SocketAddr, Mismatch> {
        let Some(text) = raw.text() else { return Err(Mismatch::of(raw)) };
        text.parse().map_err(|_| {
            // The two shortcuts that other servers take, and the explicit address each stands for.
            let meant = match text.rsplit_once(':') {
                Some(("", port)) => format!("0.0.0.0:{port}"),
                Some(("localhost", port)) => format!("127.0.0.1:{port}"),
                _ => String::new(),
            };
            let nearest = meant.parse::<SocketAddr>().ok().map(|address| quoted(&address.to_string()));
            Mismatch { nearest, ..Mismatch::of(raw) }
        })
    }

    fn write(value: &SocketAddr) -> String {
        quoted(&value.to_string())
    }
}

impl Blank for Address {
    const BLANK: &'static str = "";
}

/// One of a few names.
#[derive(Debug)]
pub struct Name<T>(PhantomData<T>);

impl<T: Choice> Codec for Name<T> {
    type Value = T;

    fn form(_bounds: &str) -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _, _)| quoted(name)).collect();
        format!("one of {}", names.join(", "))
    }

    fn choices() -> Vec<(&'static str, &'static str)> {
        T::NAMES.iter().map(|(name, _, meaning)| (*name, *meaning)).collect()
    }

    fn read(raw: &Raw) -> Result<T, Mismatch> {
        let text = raw.text().unwrap_or_default();
        if let Some((_, value, _)) = T::NAMES.iter().find(|(name, _, _)| *name == text) {
            return Ok(*value);
        }
        let nearest = nearest(text, T::NAMES.iter().map(|(name, _, _)| *name)).map(quoted);
        Err(Mismatch { nearest, ..Mismatch::of(raw) })
    }

    fn write(value: &T) -> String {
        quoted(value.name())
    }
}

/// Any text.
#[derive(Debug)]
pub enum Text {}

impl Codec for Text {
    type Value = String;

    fn form(_bounds: &str) -> String {
        "a string".to_owned()
    }

    fn read(raw: &Raw) -> Result<String, Mismatch> {
        raw.text().map(str::to_owned).ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &String) -> String {
        quoted(value)
    }
}

impl Blank for Text {
    const BLANK: &'static str = "";
}

/// An address whose query, which may hold a key, is never shown.
#[derive(Debug)]
pub enum WebAddress {}

impl Codec for WebAddress {
    type Value = String;

    const SECRET: bool = true;

    fn form(_bounds: &str) -> String {
        "a string".to_owned()
    }

    fn read(raw: &Raw) -> Result<String, Mismatch> {
        raw.text().map(str::to_owned).ok_or_else(|| Mismatch::masked(raw))
    }

    fn write(value: &String) -> String {
        quoted(value)
    }

    fn show(value: &String) -> String {
        if value.is_empty() { quoted("") } else { quoted(&mask_url(value)) }
    }
}

/// Text that is never shown.
#[derive(Debug)]
pub enum Hidden {}

impl Codec for Hidden {
    type Value = Secret;

    const SECRET: bool = true;

    fn form(_bounds: &str) -> String {
        "a string".to_owned()
    }

    fn read(raw: &Raw) -> Result<Secret, Mismatch> {
        raw.text().map(Secret::new).ok_or_else(|| Mismatch::masked(raw))
    }

    fn write(value: &Secret) -> String {
        quoted(value.expose())
    }

    fn show(value: &Secret) -> String {
        quoted(if value.expose().is_empty() { "" } else { MASK })
    }
}

/// The URL of a Redis server, of which the password is never shown.
#[derive(Debug)]
pub enum Url {}

impl Codec for Url {
    type Value = RedisUrl;

    const SECRET: bool = true;

    fn form(_bounds: &str) -> String {
        "a URL such as \"redis://127.0.0.1:6379\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<RedisUrl, Mismatch> {
        let Some(text) = raw.text() else { return Err(Mismatch::masked(raw)) };
        match text.into_connection_info() {
            Ok(_) => Ok(RedisUrl::new(text)),
            Err(_) => Err(Mismatch { found: quoted(&mask_url(text)), nearest: None }),
        }
    }

    fn write(value: &RedisUrl) -> String {
        quoted(value.expose())
    }

    fn show(value: &RedisUrl) -> String {
        quoted(&value.to_string())
    }
}

impl Blank for Url {
    const BLANK: &'static str = "";
}

/// A room pattern.
#[derive(Debug)]
pub enum Pattern {}

impl Codec for Pattern {
    type Value = RoomPattern;

    fn form(_bounds: &str) -> String {
        "a string, in which `*` stands for any run of characters".to_owned()
    }

    fn read(raw: &Raw) -> Result<RoomPattern, Mismatch> {
        raw.text().map(RoomPattern::new).ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &RoomPattern) -> String {
        quoted(value.as_str())
    }
}

/// A room pattern of a rule, with places for what a client is.
#[derive(Debug)]
pub enum Template {}

impl Codec for Template {
    type Value = RoomTemplate;

    fn form(_bounds: &str) -> String {
        "a string, in which `*` stands for any run of characters, `{user}` for the client's user and `{tenant}` \
         for its tenant"
            .to_owned()
    }

    fn read(raw: &Raw) -> Result<RoomTemplate, Mismatch> {
        let template = raw.text().and_then(RoomTemplate::new);
        template.ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &RoomTemplate) -> String {
        quoted(value.as_str())
    }
}

/// A claim and the value it must have.
#[derive(Debug)]
pub enum Claim {}

impl Codec for Claim {
    type Value = ClaimCondition;

    fn form(_bounds: &str) -> String {
        "a string such as \"plan=pro\" or \"app.plan=pro\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<ClaimCondition, Mismatch> {
        match raw.text().and_then(|text| text.split_once('=')) {
            Some((path, value)) if !path.is_empty() && !value.is_empty() => {
                Ok(ClaimCondition { path: path.to_owned(), value: value.to_owned() })
            }
            _ => Err(Mismatch::of(raw)),
        }
    }

    fn write(value: &ClaimCondition) -> String {
        quoted(&format!("{}={}", value.path, value.value))
    }
}

/// A user's id. Plain text, as in an environment variable, is always a string.
#[derive(Debug)]
pub enum User {}

impl Codec for User {
    type Value = UserId;

    fn form(_bounds: &str) -> String {
        "a string or a whole number".to_owned()
    }

    fn read(raw: &Raw) -> Result<UserId, Mismatch> {
        match raw {
            Raw::Integer(number) => i64::try_from(*number).map(UserId::Number).map_err(|_| Mismatch::of(raw)),
            _ => raw.text().map(|text| UserId::Text(text.to_owned())).ok_or_else(|| Mismatch::of(raw)),
        }
    }

    fn write(value: &UserId) -> String {
        match value {
            UserId::Text(text) => quoted(text),
            UserId::Number(number) => number.to_string(),
        }
    }
}

impl Blank for User {
    const BLANK: &'static str = "";
}

/// A value or `"auto"`.
#[derive(Debug)]
pub struct OrAuto<C>(PhantomData<C>);

impl<C: Codec> Codec for OrAuto<C> {
    type Value = Auto<C::Value>;

    const SECRET: bool = C::SECRET;

    fn form(bounds: &str) -> String {
        format!("{}, or \"auto\"", C::form(bounds))
    }

    fn read(raw: &Raw) -> Result<Self::Value, Mismatch> {
        if raw.text() == Some("auto") { Ok(Auto::Auto) } else { C::read(raw).map(Auto::Fixed) }
    }

    fn write(value: &Self::Value) -> String {
        match value {
            Auto::Auto => quoted("auto"),
            Auto::Fixed(value) => C::write(value),
        }
    }
}

impl<C: Bounded> Bounded for OrAuto<C> {
    type Bound = C::Bound;

    fn within(value: &Self::Value, bounds: &RangeInclusive<C::Bound>) -> bool {
        match value {
            Auto::Auto => true,
            Auto::Fixed(value) => C::within(value, bounds),
        }
    }

    fn bound(bound: &C::Bound) -> String {
        C::bound(bound)
    }
}

/// A value, or the text that stands for none.
#[derive(Debug)]
pub struct Optional<C>(PhantomData<C>);

impl<C: Blank> Codec for Optional<C> {
    type Value = Option<C::Value>;

    const SECRET: bool = C::SECRET;

    fn form(bounds: &str) -> String {
        format!("{}, or {}", C::form(bounds), quoted(C::BLANK))
    }

    fn read(raw: &Raw) -> Result<Self::Value, Mismatch> {
        if raw.text() == Some(C::BLANK) { Ok(None) } else { C::read(raw).map(Some) }
    }

    fn write(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| quoted(C::BLANK), C::write)
    }

    fn show(value: &Self::Value) -> String {
        value.as_ref().map_or_else(|| quoted(C::BLANK), C::show)
    }
}

impl<C: Blank + Bounded> Bounded for Optional<C> {
    type Bound = C::Bound;

    fn within(value: &Self::Value, bounds: &RangeInclusive<C::Bound>) -> bool {
        value.as_ref().is_none_or(|value| C::within(value, bounds))
    }

    fn bound(bound: &C::Bound) -> String {
        C::bound(bound)
    }
}

/// Any number of values. One may stand without brackets, and `""` for none; in the environment they are
/// separated by commas, unless they stand in brackets as in TOML.
#[derive(Debug)]
pub struct List<C>(PhantomData<C>);

impl<C: Codec> Codec for List<C> {
    type Value = Vec<C::Value>;

    const SECRET: bool = C::SECRET;

    fn form(bounds: &str) -> String {
        format!("{}, or a list of such", C::form(bounds))
    }

    fn read(raw: &Raw) -> Result<Self::Value, Mismatch> {
        let parts = match raw {
            Raw::List(parts) => return parts.iter().map(C::read).collect(),
            Raw::Text(text) if text.is_empty() => return Ok(Vec::new()),
            Raw::Bare(text) => Raw::split(text),
            other => return Ok(vec![C::read(other)?]),
        };
        let mismatch = || if C::SECRET { Mismatch::masked(raw) } else { Mismatch::of(raw) };
        parts.ok_or_else(mismatch)?.iter().map(C::read).collect()
    }

    fn write(value: &Self::Value) -> String {
        format!("[{}]", value.iter().map(C::write).collect::<Vec<_>>().join(", "))
    }

    fn show(value: &Self::Value) -> String {
        format!("[{}]", value.iter().map(C::show).collect::<Vec<_>>().join(", "))
    }
}
