//! Networks in CIDR notation.

use std::net::IpAddr;

/// An IPv4 or IPv6 network, for instance `10.0.0.0/8` or `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address is in the network. IPv4-mapped IPv6 addresses count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let _ = (address, self.address, self.prefix);
        todo!()
    }
}
impl std::str::FromStr for Network {
    type Err = crate::error::Error;
    fn from_str(_: &str) -> crate::Result<Self> { todo!() }
}
impl std::fmt::Display for Network {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { todo!() }
}
