//! The PROXY protocol, versions 1 and 2: what a proxy says of the client whose connection it passes on.
//!
//! The specification is HAProxy's `proxy-protocol.txt` (version of 2020/03/05). The header stands before the first
//! octet of TLS or of the protocol, once. Version 1 is a line of at most [`V1_BYTES`] octets; version 2 is binary with
//! a length in front, of which at most [`V2_BYTES`] are taken (the format could say 16 + 65,535).
//!
//! [`parse`] is pure, looks at a prefix, and costs time linear in the header. It decides as early as it can: input
//! that cannot become a header is refused at its first wrong octet, so that a client that waits for a greeting after
//! some other beginning is not waited for. Who may send a header at all is the caller's business: from a stranger
//! these octets mean nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most octets of a header of version 1, its CR LF included (section 2.1).
pub const V1_BYTES: usize = 107;

/// Most octets of a header of version 2 that are taken, its fixed part included.
pub const V2_BYTES: usize = 16 + 2048;

/// The octets that version 2 begins with (section 2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Octets of the fixed part of version 2.
const V2_FIXED: usize = 16;

/// What the proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The proxy speaks for itself (a health check), or does not know for whom: the connection's own
    /// addresses hold.
    Own,
    /// It passes on a connection.
    Passed {
        /// Where the client is.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not begin like one.
    NotProxy,
    /// It is longer than is taken.
    TooLong,
    /// A line of version 1 that is none.
    Line,
    /// A version, command, family or length of version 2 that is none.
    Binary,
    /// The checksum of version 2 is wrong.
    Checksum,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::NotProxy => "it does not begin with a PROXY header",
            Flaw::TooLong => "its PROXY header is too long",
            Flaw::Line => "its PROXY line is malformed",
            Flaw::Binary => "its binary PROXY header is malformed",
            Flaw::Checksum => "the checksum of its PROXY header is wrong",
        })
    }
}

/// Reads a header at the front of `input`: its length and what it says; `None` when more octets are needed.
///
/// # Errors
/// It is no header, whatever comes after.
pub fn parse(input: &[u8]) -> Result<Option<(usize, Header)>, Flaw> {
    match input.first() {
        None => Ok(None),
        Some(b'P') => parse_line(input),
        Some(_) => parse_binary(input),
    }
}

/// Whether `input` begins with what is expected, as far as it goes.
fn begins(input: &[u8], expected: &[u8]) -> bool {
    input.iter().zip(expected).all(|(a, b)| a == b)
}

fn parse_line(input: &[u8]) -> Result<Option<(usize, Header)>, Flaw> {
    const PREFIX: &[u8] = b"PROXY ";
    if !begins(input, PREFIX) {
        return Err(Flaw::NotProxy);
    }
    let seen = input.get(..V1_BYTES).unwrap_or(input);
    let Some(end) = memchr::memchr(b'\n', seen) else {
        return if input.len() >= V1_BYTES { Err(Flaw::TooLong) } else { Ok(None) };
    };
    let line = seen.get(PREFIX.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or(Flaw::Line)?;
    let used = end.saturating_add(1);
    // Whatever stands behind UNKNOWN is to be ignored (section 2.1).
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Some((used, Header::Own)));
    }
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Flaw::Line);
    let family = word()?;
    let mut address = || match family {
        "TCP4" => Ok(IpAddr::V4(word()?.parse().map_err(|_| Flaw::Line)?)),
        "TCP6" => Ok(IpAddr::V6(word()?.parse().map_err(|_| Flaw::Line)?)),
        _ => Err(Flaw::Line),
    };
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Flaw::Line);
    }
    let header = Header::Passed {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Ok(Some((used, header)))
}

/// A port in decimal digits without sign or leading zeros.
fn port(text: &str) -> Result<u16, Flaw> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().map_err(|_| Flaw::Line) } else { Err(Flaw::Line) }
}

fn parse_binary(input: &[u8]) -> Result<Option<(usize, Header)>, Flaw> {
    if !begins(input, V2_SIGNATURE) {
        return Err(Flaw::NotProxy);
    }
    let Some((fixed, rest)) = input.split_first_chunk::<V2_FIXED>() else { return Ok(None) };
    let [.., command, family, high, low] = *fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let used = V2_FIXED.saturating_add(len);
    if used > V2_BYTES {
        return Err(Flaw::TooLong);
    }
    // The version is 2; the command LOCAL (0) or PROXY (1).
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Flaw::Binary),
    };
    if family >> 4 > 3 || family & 0xf > 2 {
        return Err(Flaw::Binary);
    }
    let Some(rest) = rest.get(..len) else { return Ok(None) };
    let addresses_len = match family >> 4 {
        _ if local => 0,
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    };
    let (addresses, extra) = rest.split_at_checked(addresses_len).ok_or(Flaw::Binary)?;
    // With LOCAL and UNSPEC everything is to be ignored (section 2.2): what a proxy knows of nobody.
    if local || family >> 4 == 0 {
        return Ok(Some((used, Header::Own)));
    }
    vectors(input.get(..used).ok_or(Flaw::Binary)?, extra)?;
    let header = match family {
        0x11 => passed::<4>(addresses).ok_or(Flaw::Binary)?,
        0x21 => passed::<16>(addresses).ok_or(Flaw::Binary)?,
        // Datagrams and Unix sockets: a client without an address that we could know.
        _ => Header::Own,
    };
    Ok(Some((used, header)))
}

/// Two addresses of N octets and two ports.
fn passed<const N: usize>(octets: &[u8]) -> Option<Header>
where
    IpAddr: FromOctets<N>,
{
    let (source, rest) = octets.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest else { return None };
    Some(Header::Passed {
        source: SocketAddr::new(IpAddr::from_octets(*source), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(IpAddr::from_octets(*destination), u16::from_be_bytes([c, d])),
    })
}

trait FromOctets<const N: usize> {
    fn from_octets(octets: [u8; N]) -> IpAddr;
}

impl FromOctets<4> for IpAddr {
    fn from_octets(octets: [u8; 4]) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(octets))
    }
}

impl FromOctets<16> for IpAddr {
    fn from_octets(octets: [u8; 16]) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from(octets))
    }
}

/// Walks over the type-length-value triples behind the addresses (section 2.2.1). Only the checksum (type 3, CRC-32C
/// over the header with the checksum's own octets zero) is looked at.
fn vectors(header: &[u8], mut extra: &[u8]) -> Result<(), Flaw> {
    while !extra.is_empty() {
        let (&[kind, high, low], rest) = extra.split_first_chunk::<3>().ok_or(Flaw::Binary)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(Flaw::Binary)?;
        if kind == 0x03 {
            let told: [u8; 4] = value.try_into().map_err(|_| Flaw::Checksum)?;
            let behind = rest.len();
            let end = header.len().saturating_sub(behind);
            let (front, _) = header.split_at(end.saturating_sub(4));
            let sum = crc32c::crc32c_append(crc32c::crc32c(front), &[0; 4]);
            if crc32c::crc32c_append(sum, rest) != u32::from_be_bytes(told) {
                return Err(Flaw::Checksum);
            }
            // A second one would cost the header's length again.
            return rest_is_well_formed(rest);
        }
        extra = rest;
    }
    Ok(())
}

/// What stands behind a checksum: triples without another checksum.
fn rest_is_well_formed(mut extra: &[u8]) -> Result<(), Flaw> {
    while !extra.is_empty() {
        let (&[kind, high, low], rest) = extra.split_first_chunk::<3>().ok_or(Flaw::Binary)?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if kind == 0x03 {
            return Err(Flaw::Binary);
        }
        extra = rest.get(len..).ok_or(Flaw::Binary)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_text(source: &str, destination: &str) -> Header {
        Header::Passed {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut out = V2_SIGNATURE.to_vec();
        out.extend([command, family]);
        out.extend((rest.len() as u16).to_be_bytes());
        out.extend(rest);
        out
    }

    const TCP4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0, 25];

    /// Every prefix needs more; with anything behind it the same is read.
    #[track_caller]
    fn reads(header: &[u8], expected: Header) {
        for cut in 0..header.len() {
            assert_eq!(parse(&header[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(parse(header), Ok(Some((header.len(), expected))));
        let more = [header, b"\x16\x03\x01PROXY "].concat();
        assert_eq!(parse(&more), Ok(Some((header.len(), expected))));
    }

    #[test]
    fn lines_of_version_1_are_read() {
        let v4 = passed_text("192.0.2.1:40000", "198.51.100.2:25");
        reads(b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n", v4);
        let v6 = passed_text("[2001:db8::1]:1", "[::1]:65535");
        reads(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", v6);
        reads(b"PROXY UNKNOWN\r\n", Header::Own);
        reads(b"PROXY UNKNOWN \xc3\xa9 whatever 1 2\r\n", Header::Own);
        let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
            ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), V1_BYTES);
        reads(longest, Header::Own);
    }

    #[test]
    fn a_line_one_octet_too_long_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES - 15));
        assert_eq!(long.len(), V1_BYTES + 1);
        assert_eq!(parse(long.as_bytes()), Err(Flaw::TooLong));
        assert_eq!(parse(&long.as_bytes()[..V1_BYTES - 1]), Ok(None));
        assert_eq!(parse(&long.as_bytes()[..V1_BYTES]), Err(Flaw::TooLong));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 40000 25 \r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 40000 25\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 40000 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 40000 +25\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 040000 25\r\n",
            "PROXY TCP4 192.0.2.256 198.51.100.2 40000 25\r\n",
            "PROXY TCP4 ::1 ::1 40000 25\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 40000 25\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 40000 25\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY tcp4 192.0.2.1 198.51.100.2 40000 25\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Flaw::Line), "{line}");
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_refused_at_once() {
        for other in ["EHLO x\r\n", "Q", "PR ", "PROXYS", "\x16\x03\x01", "\r\n\r\nX", "\n"] {
            assert_eq!(parse(other.as_bytes()), Err(Flaw::NotProxy), "{other:?}");
        }
    }

    #[test]
    fn headers_of_version_2_are_read() {
        reads(&binary(0x21, 0x11, &TCP4), passed_text("192.0.2.1:40000", "198.51.100.2:25"));
        let mut v6 = vec![0; 32];
        (v6[15], v6[31]) = (1, 2);
        v6.extend([0, 7, 0, 8]);
        reads(&binary(0x21, 0x21, &v6), passed_text("[::1]:7", "[::2]:8"));
        reads(&binary(0x20, 0x00, b""), Header::Own);
        reads(&binary(0x20, 0x11, &TCP4), Header::Own);
        reads(&binary(0x21, 0x00, b"anything"), Header::Own);
        reads(&binary(0x21, 0x31, &[7; 216]), Header::Own);
        reads(&binary(0x21, 0x12, &TCP4), Header::Own);
        // With a name (authority, type 2) and padding (type 4).
        let extra = [&TCP4[..], b"\x02\0\x03abc\x04\0\0"].concat();
        reads(&binary(0x21, 0x11, &extra), passed_text("192.0.2.1:40000", "198.51.100.2:25"));
    }

    #[test]
    fn the_bound_of_version_2_holds() {
        let at = binary(0x21, 0x00, &vec![0; V2_BYTES - V2_FIXED]);
        reads(&at, Header::Own);
        let beyond = binary(0x21, 0x00, &vec![0; V2_BYTES - V2_FIXED + 1]);
        // Refused before its body has come.
        assert_eq!(parse(&beyond[..V2_FIXED]), Err(Flaw::TooLong));
        assert_eq!(parse(&binary(0x21, 0x00, &[0; 65_535])), Err(Flaw::TooLong));
    }

    #[test]
    fn malformed_headers_of_version_2_are_refused() {
        for header in [
            binary(0x11, 0x11, &TCP4),
            binary(0x22, 0x11, &TCP4),
            binary(0x21, 0x41, &TCP4),
            binary(0x21, 0x13, &TCP4),
            binary(0x21, 0x11, &TCP4[..11]),
            binary(0x21, 0x21, &TCP4),
            binary(0x21, 0x11, &[&TCP4[..], &[4, 0]].concat()),
            binary(0x21, 0x11, &[&TCP4[..], &[4, 0, 1]].concat()),
            binary(0x21, 0x11, &[&TCP4[..], &[4, 0xff, 0xff, 0]].concat()),
        ] {
            assert_eq!(parse(&header), Err(Flaw::Binary), "{header:?}");
        }
    }

    #[test]
    fn a_checksum_is_verified() {
        for behind in [&b""[..], b"\x04\0\x02zz"] {
            let extra = [&TCP4[..], b"\x02\0\x01a", b"\x03\0\x04\0\0\0\0", behind].concat();
            let mut header = binary(0x21, 0x11, &extra);
            let sum = crc32c::crc32c(&header).to_be_bytes();
            let at = header.len() - behind.len() - 4;
            header[at..at + 4].copy_from_slice(&sum);
            assert_eq!(
                parse(&header),
                Ok(Some((header.len(), passed_text("192.0.2.1:40000", "198.51.100.2:25"))))
            );
            // Of another type it would be no checksum.
            let kind = at - 3;
            for octet in (V2_FIXED..header.len()).filter(|octet| *octet != kind) {
                let mut bad = header.clone();
                bad[octet] ^= 1;
                assert!(parse(&bad).is_err(), "{octet}");
            }
        }
    }
}
