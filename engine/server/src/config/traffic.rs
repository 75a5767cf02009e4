//! Kinds of values about who connects and how much is sent: networks, origins, rates.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use shardcast_wire::origin::{OriginError, OriginPattern};

use super::codec::{Blank, Bounded, Bytes, Codec, Count, Mismatch, quoted};
use super::raw::Raw;

/// What stands for a bound that is not there.
const OFF: &str = "off";

impl Blank for Count {
    const BLANK: &'static str = OFF;
}

impl Blank for Bytes {
    const BLANK: &'static str = OFF;
}

/// An address or a network in CIDR form.
#[derive(Debug)]
pub enum Network {}

impl Codec for Network {
    type Value = IpNet;

    fn form(_bounds: &str) -> String {
        "a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an address".to_owned()
    }

    fn read(raw: &Raw) -> Result<IpNet, Mismatch> {
        let text = raw.text().unwrap_or_default();
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(|network| network.trunc()).ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &IpNet) -> String {
        quoted(&value.to_string())
    }
}

/// An origin that may connect.
#[derive(Debug)]
pub enum Origin {}

impl Codec for Origin {
    type Value = OriginPattern;

    fn form(_bounds: &str) -> String {
        "an origin such as \"https://app.example.com\", \"https://*.example.com\" or \"http://localhost:3000\", in \
         ASCII (xn--...) and without a path, or \"null\""
            .to_owned()
    }

    fn read(raw: &Raw) -> Result<OriginPattern, Mismatch> {
        let text = raw.text().unwrap_or_default();
        OriginPattern::parse(text).map_err(|error| {
            let meant = match error {
                OriginError::Path => text.splitn(4, '/').take(3).collect::<Vec<_>>().join("/"),
                OriginError::Form => format!("https://{text}"),
                OriginError::User | OriginError::Ascii | OriginError::Wildcard => String::new(),
            };
            let nearest = OriginPattern::parse(&meant).ok().map(|origin| quoted(&origin.to_string()));
            Mismatch { nearest, ..Mismatch::of(raw) }
        })
    }

    fn write(value: &OriginPattern) -> String {
        quoted(&value.to_string())
    }
}

/// So much in a time, and how much at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How much comes back in `period`; at least 1.
    pub amount: usize,
    /// A second or a minute.
    pub period: Duration,
    /// How much may be sent at once; at least 1. `None`: `amount`.
    pub burst: Option<usize>,
}

/// Periods and their names.
const PERIODS: [(&str, Duration); 2] = [("s", Duration::from_secs(1)), ("m", Duration::from_secs(60))];

/// A rate of things of which `C` is the amount.
#[derive(Debug)]
pub struct Per<C>(PhantomData<C>);

impl<C: Bounded<Value = usize, Bound = usize>> Per<C> {
    fn parse(text: &str) -> Option<Rate> {
        let amount =
            |text: &str| C::read(&Raw::Bare(text.trim().to_owned())).ok().filter(|amount| *amount > 0);
        let (rate, burst) = match text.split_once("burst") {
            Some((rate, burst)) => (rate, Some(amount(burst)?)),
            None => (text, None),
        };
        let (count, period) = rate.split_once('/')?;
        let (_, period) = PERIODS.into_iter().find(|(name, _)| *name == period.trim())?;
        Some(Rate { amount: amount(count)?, period, burst })
    }
}

impl<C: Bounded<Value = usize, Bound = usize>> Codec for Per<C> {
    type Value = Rate;

    fn form(_bounds: &str) -> String {
        let [rate, burst] = [C::bound(&1_024), C::bound(&4_096)];
        format!("a rate such as \"{rate}/s\" or \"{rate}/m burst {burst}\"")
    }

    fn read(raw: &Raw) -> Result<Rate, Mismatch> {
        raw.text().and_then(Self::parse).ok_or_else(|| Mismatch::of(raw))
    }

    fn write(value: &Rate) -> String {
        let period =
            PERIODS.into_iter().find(|(_, period)| *period == value.period).map_or("s", |(name, _)| name);
        let burst = value.burst.map_or_else(String::new, |burst| format!(" burst {}", C::bound(&burst)));
        quoted(&format!("{}/{period}{burst}", C::bound(&value.amount)))
    }
}

impl<C: Bounded<Value = usize, Bound = usize>> Blank for Per<C> {
    const BLANK: &'static str = OFF;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<C: Codec>(text: &str) -> Option<String> {
        C::read(&Raw::Text(text.to_owned())).ok().map(|value| C::write(&value))
    }

    #[test]
    fn rates_networks_and_origins_are_read_and_written_back() {
        for (text, written) in [
            ("100/s", Some("\"100/s\"")),
            ("5/m burst 20", Some("\"5/m burst 20\"")),
            (" 5 / m  burst 20 ", Some("\"5/m burst 20\"")),
            ("100", None),
            ("100/h", None),
            ("0/s", None),
            ("-1/s", None),
            ("5/s burst", None),
            ("5/s burst 0", None),
            ("5/s, burst 3", None),
        ] {
            assert_eq!(read::<Per<Count>>(text).as_deref(), written, "{text}");
        }
        assert_eq!(read::<Per<Bytes>>("64KiB/s burst 1MiB").as_deref(), Some("\"64KiB/s burst 1MiB\""));
        for (text, written) in [
            ("10.1.2.3/8", Some("\"10.0.0.0/8\"")),
            ("10.1.2.3", Some("\"10.1.2.3/32\"")),
            ("2001:db8::/32", Some("\"2001:db8::/32\"")),
            ("::1", Some("\"::1/128\"")),
            ("10.1.2.3/33", None),
            ("proxy.example", None),
        ] {
            assert_eq!(read::<Network>(text).as_deref(), written, "{text}");
        }
        let nearest = |text: &str| Origin::read(&Raw::Text(text.to_owned())).map_err(|error| error.nearest);
        assert_eq!(nearest("https://a.example/"), Err(Some("\"https://a.example\"".to_owned())));
        assert_eq!(nearest("a.example"), Err(Some("\"https://a.example\"".to_owned())));
        assert_eq!(nearest("*"), Err(None));
    }
}
