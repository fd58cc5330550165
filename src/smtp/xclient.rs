//! XCLIENT's attributes: what a trusted proxy says of the client behind it.
//!
//! `NAME=VALUE` words, values in xtext (RFC 3461 4). `[UNAVAILABLE]` and `[TEMPUNAVAIL]` mean that the proxy does not
//! know. Attributes may stand in any order, each once; one that is not known here makes the command 501, because the
//! proxy must only send what was announced.

use std::net::IpAddr;

use crate::smtp::parameter::Xtext;

/// All attributes.
const ATTRIBUTES: &str = "NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT";

/// The attributes that are announced, with LOGIN or without.
pub(crate) const fn announced(login: bool) -> &'static str {
    if login { ATTRIBUTES } else { "NAME ADDR PORT PROTO HELO DESTADDR DESTPORT" }
}

/// Longest value in octets, as xtext.
const VALUE_OCTETS: usize = 500;

/// What the proxy says of the client. `None`: it says nothing, or does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// NAME: the client's host name, printable ASCII.
    pub name: Option<String>,
    /// ADDR.
    pub address: Option<IpAddr>,
    /// PORT.
    pub port: Option<u16>,
    /// PROTO is ESMTP (`true`) or SMTP.
    pub extended: Option<bool>,
    /// HELO: what the client called itself, printable ASCII.
    pub hello: Option<String>,
    /// LOGIN: the client is authenticated under this name, printable ASCII.
    pub login: Option<String>,
    /// DESTADDR: where the client connected to.
    pub destination: Option<IpAddr>,
    /// DESTPORT.
    pub destination_port: Option<u16>,
}

impl Forwarded {
    /// Reads the command's argument. `None`: it is malformed.
    pub(crate) fn parse(argument: &[u8]) -> Option<Forwarded> {
        let mut forwarded = Forwarded::default();
        let mut seen = 0u8;
        for word in argument.split(|&b| b == b' ') {
            let at = memchr::memchr(b'=', word)?;
            let (name, value) = (word.get(..at)?, word.get(at + 1..)?);
            let value = String::from_utf8(Xtext::printable(value, VALUE_OCTETS)?.decode()).ok()?;
            let value = match value.as_str() {
                "" => return None,
                "[UNAVAILABLE]" | "[TEMPUNAVAIL]" => None,
                _ => Some(value),
            };
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            let index = ATTRIBUTES.split(' ').position(is)?;
            let bit = 1u8.checked_shl(u32::try_from(index).ok()?)?;
            if seen & bit != 0 {
                return None;
            }
            seen |= bit;
            match index {
                0 => forwarded.name = value,
                1 => forwarded.address = known(value, address)?,
                2 => forwarded.port = known(value, |v| v.parse().ok())?,
                3 => forwarded.extended = known(value, protocol)?,
                4 => forwarded.hello = value,
                5 => forwarded.login = value,
                6 => forwarded.destination = known(value, address)?,
                _ => forwarded.destination_port = known(value, |v| v.parse().ok())?,
            }
        }
        Some(forwarded)
    }
}

impl Forwarded {
    /// Appends the attributes that are known, in the form in which a proxy sends them.
    pub fn text(&self, out: &mut Vec<u8>) {
        let address = |address: IpAddr| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("IPV6:{address}"),
        };
        let protocol = |extended| String::from(if extended { "ESMTP" } else { "SMTP" });
        let values = [
            self.name.clone(),
            self.address.map(address),
            self.port.map(|port| port.to_string()),
            self.extended.map(protocol),
            self.hello.clone(),
            self.login.clone(),
            self.destination.map(address),
            self.destination_port.map(|port| port.to_string()),
        ];
        let mut mark = b"".as_slice();
        for (name, value) in ATTRIBUTES.split(' ').zip(values) {
            if let Some(value) = value.and_then(|value| Xtext::encode(value.as_bytes())) {
                out.extend_from_slice(mark);
                out.extend_from_slice(name.as_bytes());
                out.push(b'=');
                out.extend_from_slice(value.as_bytes());
                mark = b" ";
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::capacity);
        size_of::<Forwarded>() + text(&self.name) + text(&self.hello) + text(&self.login)
    }
}

/// A value that must be right when it is there.
fn known<T>(value: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => parse(&value).map(Some),
    }
}

/// IPv4, or IPv6 with its tag in front.
fn address(text: &str) -> Option<IpAddr> {
    match text.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPV6:") => {
            address.parse().ok().map(IpAddr::V6)
        }
        _ => text.parse().ok().map(IpAddr::V4),
    }
}

fn protocol(text: &str) -> Option<bool> {
    match () {
        () if text.eq_ignore_ascii_case("ESMTP") => Some(true),
        () if text.eq_ignore_ascii_case("SMTP") => Some(false),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_in_any_order_and_case() {
        let all = b"name=spike.test ADDR=IPV6:2001:db8::1 PORT=25 proto=ESMTP HELO=a+20b LOGIN=bob DESTADDR=127.0.0.1 DESTPORT=[UNAVAILABLE]";
        let found = Forwarded::parse(all).expect("good");
        assert_eq!(found.name.as_deref(), Some("spike.test"));
        assert_eq!(found.address, "2001:db8::1".parse().ok());
        assert_eq!((found.port, found.extended), (Some(25), Some(true)));
        assert_eq!(found.hello.as_deref(), Some("a b"));
        assert_eq!(found.login.as_deref(), Some("bob"));
        assert_eq!(found.destination, "127.0.0.1".parse().ok());
        assert_eq!(found.destination_port, None);
        let mut text = Vec::new();
        found.text(&mut text);
        assert_eq!(Forwarded::parse(&text), Some(found));
    }

    #[test]
    fn malformed_attributes_are_none() {
        for text in [
            "",
            "NAME",
            "NAME=",
            "NAME=a NAME=b",
            "NAME=a  ADDR=127.0.0.1",
            "ADDR=::1",
            "ADDR=127.0.0.256",
            "PORT=65536",
            "PROTO=LMTP",
            "HELO=+0D+0A",
            "COLOUR=red",
        ] {
            assert_eq!(Forwarded::parse(text.as_bytes()), None, "{text}");
        }
        let long = |n: usize| Forwarded::parse(format!("NAME={}", "x".repeat(n)).as_bytes());
        assert!(long(VALUE_OCTETS).is_some() && long(VALUE_OCTETS + 1).is_none());
    }
}
