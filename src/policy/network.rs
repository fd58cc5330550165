//! Networks in CIDR notation (RFC 4632, RFC 4291 2.3).
//!
//! A network is an address and the number of leading bits that count. `10.0.0.0/8`, `2001:db8::/32`
//! and a bare address (all of its bits count) are accepted. Bits beyond the prefix must be zero: a
//! rule that says more than it means is a mistake that somebody should see.
//!
//! IPv4-mapped IPv6 addresses (`::ffff:192.0.2.1`), as sockets that serve both families report them,
//! count as the IPv4 addresses that they are, on either side of a comparison. An IPv6 network thus
//! never contains an IPv4 client, not even `::/0`: who means both writes both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// An IPv4 or IPv6 network, for instance `10.0.0.0/8` or `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of the first `prefix` bits of `address`.
    ///
    /// # Errors
    /// `InvalidArgument` when the prefix is longer than the address, or bits beyond it are set.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Network> {
        if prefix > width(address) {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("network {address}/{prefix}: the prefix is at most {}", width(address)),
            ));
        }
        let base = masked(address, prefix);
        if base != address {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!(
                    "network {address}/{prefix} has bits set beyond its prefix: write {base}/{prefix} for the network, or {address} for the one address"
                ),
            ));
        }
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8. A shorter prefix covers more than IPv4 and stays IPv6.
        match (address, address.to_canonical(), prefix.checked_sub(96)) {
            (IpAddr::V6(_), IpAddr::V4(inner), Some(rest)) => {
                Ok(Network { address: IpAddr::V4(inner), prefix: rest })
            }
            _ => Ok(Network { address, prefix }),
        }
    }

    /// The loopback networks: 127.0.0.0/8 and ::1.
    pub const fn loopback() -> [Network; 2] {
        [
            Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
            Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
        ]
    }

    /// The address with every bit beyond the first `bits` cleared; all bits count when there are fewer.
    pub fn mask(address: IpAddr, bits: u8) -> IpAddr {
        masked(address, bits)
    }

    /// Whether the address is in the network. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && masked(address, self.prefix) == self.address
    }
}

/// The number of bits of an address of this family.
const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with every bit beyond the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let beyond = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & !beyond))
        }
        IpAddr::V6(v6) => {
            let beyond = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !beyond))
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Reads `address/prefix` or a bare address.
    ///
    /// # Errors
    /// `InvalidArgument`; the text names the network.
    fn from_str(text: &str) -> Result<Network> {
        let bad = |what: &str| {
            Error::new(
                Kind::InvalidArgument,
                format!("network {text:?}: {what} (for instance 10.0.0.0/8 or 2001:db8::/32)"),
            )
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad("no IP address"))?;
        let prefix = match prefix {
            None => width(address),
            // `parse` would take a sign and leading zeros.
            Some(digits)
                if matches!(digits.len(), 1..=3)
                    && digits.bytes().all(|b| b.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0')) =>
            {
                digits.parse().map_err(|_| bad("the prefix is too long"))?
            }
            Some(_) => return Err(bad("the prefix is not a number of bits")),
        };
        Network::new(address, prefix)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn contains(net: &str, address: &str) -> bool {
        network(net).contains(address.parse().unwrap())
    }

    #[test]
    fn text_survives_a_round_trip() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"]
        {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7/32");
        assert_eq!(network("::1").to_string(), "::1/128");
    }

    #[test]
    fn bad_text_is_refused_with_the_network_in_the_error() {
        for text in [
            "",
            "/",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "::/256",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
            "10.0.0.0 /8",
            "example.test/8",
            "10.0.0.0/255.0.0.0",
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidArgument, "{text}");
            assert!(error.message().starts_with("network "), "{text}: {error}");
        }
    }

    #[test]
    fn bits_beyond_the_prefix_are_refused_and_the_network_is_named() {
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
        assert!(error.message().contains("10.0.0.0/8"), "{error}");
        assert!("2001:db8::1/32".parse::<Network>().is_err());
        assert!("10.1.2.3/31".parse::<Network>().is_err());
        assert!("10.1.2.2/31".parse::<Network>().is_ok());
    }

    #[test]
    fn the_edges_of_a_network_are_where_the_prefix_puts_them() {
        assert!(contains("10.0.0.0/8", "10.0.0.0"));
        assert!(contains("10.0.0.0/8", "10.255.255.255"));
        assert!(!contains("10.0.0.0/8", "11.0.0.0"));
        assert!(!contains("10.0.0.0/8", "9.255.255.255"));
        assert!(contains("192.0.2.1/32", "192.0.2.1"));
        assert!(!contains("192.0.2.1/32", "192.0.2.2"));
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::/0", "2001:db8::1"));
    }

    #[test]
    fn mapped_addresses_count_as_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(!contains("10.0.0.0/8", "::ffff:11.1.2.3"));
        assert!(!contains("::/0", "::ffff:10.1.2.3"));
        assert!(!contains("::/0", "10.1.2.3"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert_eq!(network("::ffff:10.1.2.3"), network("10.1.2.3"));
    }
}
