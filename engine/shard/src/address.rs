//! Whose address counts: known proxies, and what is one address where a network gives a client many.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use shardcast_wire::forwarded::{self, Malformed};

/// What is known about the addresses that connections come from.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Peers that are believed when they say for whom they connect.
    pub proxies: Vec<IpNet>,
    /// The header in which they say so ([`shardcast_wire::forwarded`]).
    pub header: String,
    /// Whether every connection begins with a PROXY header ([`shardcast_wire::proxy`]); only proxies may connect
    /// then.
    pub proxy_protocol: bool,
    /// Bits of an IPv6 address that are one client's network; at most 128.
    pub ipv6_prefix_bits: u8,
}

impl Default for Addresses {
    /// No proxies; IPv6 by /64, the least that a network gives a client.
    fn default() -> Self {
        let header = "X-Forwarded-For".to_owned();
        Self { proxies: Vec::new(), header, proxy_protocol: false, ipv6_prefix_bits: 64 }
    }
}

impl Addresses {
    /// Whether the address is a known proxy's.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from that `peer` sent, with these values of [`Addresses::header`].
    ///
    /// # Errors
    /// `peer` is a proxy and its header makes no sense.
    pub fn client<'b>(
        &self,
        values: impl Iterator<Item = &'b [u8]>,
        peer: IpAddr,
    ) -> Result<IpAddr, Malformed> {
        forwarded::client_address(values, &self.header, peer, |address| self.is_proxy(address))
    }

    /// The address as far as limits tell it from others; `None` where they do not apply: `127.0.0.1` and `::1`, which
    /// are programs of this machine, and proxies, who stand for many.
    pub fn limited(&self, address: IpAddr) -> Option<IpAddr> {
        let is_here = address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST;
        if is_here || self.is_proxy(address) {
            return None;
        }
        let IpAddr::V6(v6) = address else { return Some(address) };
        let host_bits = 128 - u32::from(self.ipv6_prefix_bits.min(128));
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Some(Ipv6Addr::from(u128::from(v6) & mask).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_know_networks_of_ipv6_and_spare_this_machine_and_proxies() {
        let proxies = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|text| text.parse().expect("a network"));
        let addresses = Addresses { proxies: proxies.into(), ..Addresses::default() };
        for (address, limited) in [
            ("203.0.113.7", Some("203.0.113.7")),
            ("127.0.0.1", None),
            ("127.0.0.9", Some("127.0.0.9")),
            ("::1", None),
            ("10.1.2.3", None),
            ("2001:db8:ffff:1::1", None),
            ("2001:db8::1:2:3:4", Some("2001:db8::")),
            ("2001:db8:0:1::1", Some("2001:db8:0:1::")),
        ] {
            let [address, limited] =
                [Some(address), limited].map(|a| a.map(|a| a.parse().expect("an address")));
            assert_eq!(addresses.limited(address.expect("given")), limited);
        }
        for (ipv6_prefix_bits, limited) in [(0, "::"), (56, "2001:db8:0:100::"), (128, "2001:db8:0:1ff::1")] {
            let addresses = Addresses { ipv6_prefix_bits, ..Addresses::default() };
            let address = "2001:db8:0:1ff::1".parse().expect("an address");
            assert_eq!(addresses.limited(address), Some(limited.parse().expect("an address")));
        }
    }
}
