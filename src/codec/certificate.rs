//! The names in an X.509 certificate (RFC 5280), and nothing else of it.
//!
//! A certificate is walked down its DER structure (X.690) to the subject and to the extension subjectAltName. That is
//! no verification: whoever needs one makes it elsewhere, before or after. Only definite lengths of at most four
//! octets are read; anything else, and anything that is not where it belongs, makes the certificate one without
//! names. A name with a control character (or, of DNS and e-mail, a space) is left out: it would read differently in a log, or
//! to a host that takes it for a C string. Time is linear in the certificate.

/// The names in a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names of subjectAltName, in lower case; the first label may be `*`.
    pub dns: Vec<String>,
    /// E-mail addresses of subjectAltName, as they stand.
    pub email: Vec<String>,
    /// The subject's common name, the last one if there are several.
    pub common: Option<String>,
}

/// Most names of each kind that are read from a certificate.
pub const NAMES: usize = 256;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
/// The version, `[0]`, and the extensions, `[3]`, of a TBSCertificate.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// rfc822Name and dNSName of a GeneralName.
const RFC822: u8 = 0x81;
const DNS: u8 = 0x82;
/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// id-ce-subjectAltName, 2.5.29.17.
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Reads the names of a certificate in DER. Nothing is found in what is no certificate.
pub fn names(der: &[u8]) -> Names {
    let mut names = Names::default();
    // What was found before a flaw does not count either.
    match collect(der, &mut names) {
        Some(()) => names,
        None => Names::default(),
    }
}

/// An element: its tag, what it holds, and what stands behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let len = if first < 0x80 {
        usize::from(first)
    } else {
        let octets = usize::from(first & 0x7f);
        if !(1..=4).contains(&octets) {
            return None;
        }
        let (digits, behind) = rest.split_at_checked(octets)?;
        rest = behind;
        let value = digits.iter().fold(0_u64, |sum, digit| (sum << 8) | u64::from(*digit));
        usize::try_from(value).ok()?
    };
    let (content, behind) = rest.split_at_checked(len)?;
    Some((tag, content, behind))
}

/// An element that must have this tag: what it holds, and what stands behind it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, content, behind)| (content, behind))
}

fn collect(der: &[u8], names: &mut Names) -> Option<()> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // serialNumber, signature, issuer, validity.
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (subject, behind) = expect(rest, SEQUENCE)?;
    common_name(subject, names)?;
    // subjectPublicKeyInfo, then unique identifiers, then extensions.
    rest = element(behind)?.2;
    while !rest.is_empty() {
        let (tag, content, behind) = element(rest)?;
        if tag == EXTENSIONS {
            extensions(expect(content, SEQUENCE)?.0, names)?;
        }
        rest = behind;
    }
    Some(())
}

fn common_name(mut subject: &[u8], names: &mut Names) -> Option<()> {
    while !subject.is_empty() {
        let (mut set, behind) = expect(subject, SET)?;
        while !set.is_empty() {
            let (attribute, next) = expect(set, SEQUENCE)?;
            let (kind, value) = expect(attribute, OID)?;
            if kind == COMMON_NAME {
                let (_, text, _) = element(value)?;
                let text = String::from_utf8_lossy(text);
                let sound = !text.is_empty() && !text.chars().any(char::is_control);
                names.common = sound.then(|| text.into_owned());
            }
            set = next;
        }
        subject = behind;
    }
    Some(())
}

fn extensions(mut all: &[u8], names: &mut Names) -> Option<()> {
    while !all.is_empty() {
        let (extension, behind) = expect(all, SEQUENCE)?;
        let (kind, mut value) = expect(extension, OID)?;
        if value.first() == Some(&BOOLEAN) {
            value = element(value)?.2;
        }
        let (value, _) = expect(value, OCTETS)?;
        if kind == ALTERNATIVE_NAME {
            let (mut general, _) = expect(value, SEQUENCE)?;
            while !general.is_empty() {
                let (tag, text, next) = element(general)?;
                let list = match tag {
                    RFC822 => Some(&mut names.email),
                    DNS => Some(&mut names.dns),
                    _ => None,
                };
                if let Some(list) = list
                    && list.len() < NAMES
                    && !text.is_empty()
                    && text.iter().all(u8::is_ascii_graphic)
                {
                    let text = String::from_utf8_lossy(text);
                    list.push(if tag == DNS { text.to_ascii_lowercase() } else { text.into() });
                }
                general = next;
            }
        }
        all = behind;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let mut out = vec![tag];
        match content.len() {
            len @ 0..=127 => out.push(len as u8),
            len => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend(content);
        out
    }

    fn certificate(common: &[&str], alternative: &[(u8, &str)]) -> Vec<u8> {
        let attributes: Vec<u8> = common
            .iter()
            .flat_map(|name| {
                let attribute = [tlv(OID, &[COMMON_NAME]), tlv(0x0c, &[name.as_bytes()])].concat();
                tlv(SET, &[&tlv(SEQUENCE, &[&attribute])])
            })
            .collect();
        let general: Vec<u8> =
            alternative.iter().flat_map(|(tag, text)| tlv(*tag, &[text.as_bytes()])).collect();
        let value = tlv(OCTETS, &[&tlv(SEQUENCE, &[&general])]);
        let critical = tlv(BOOLEAN, &[&[0xff]]);
        let extension = tlv(SEQUENCE, &[&tlv(OID, &[ALTERNATIVE_NAME]), &critical, &value]);
        let empty = tlv(SEQUENCE, &[]);
        let body = [
            tlv(VERSION, &[&[2, 1, 2]]),
            tlv(2, &[&[1]]),
            empty.clone(),
            empty.clone(),
            empty.clone(),
            tlv(SEQUENCE, &[&attributes]),
            empty.clone(),
            tlv(EXTENSIONS, &[&tlv(SEQUENCE, &[&extension])]),
        ]
        .concat();
        tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&body]), &empty])
    }

    #[test]
    fn names_are_found_where_they_stand() {
        let der = certificate(
            &["first", "A User"],
            &[
                (DNS, "*.Example.TEST"),
                (RFC822, "User@example.test"),
                (DNS, "b.test"),
                (0x87, "1234"),
            ],
        );
        let expected = Names {
            dns: vec!["*.example.test".into(), "b.test".into()],
            email: vec!["User@example.test".into()],
            common: Some("A User".into()),
        };
        assert_eq!(names(&der), expected);
        for cut in 0..der.len() {
            assert_eq!(names(&der[..cut]), Names::default(), "{cut}");
        }
    }

    /// They go into logs and to hosts that read them as C strings.
    #[test]
    fn names_with_control_characters_or_spaces_are_none() {
        for bad in ["a\0.test", "a.test\r\nx", "a b.test", "\u{7f}", ""] {
            let found = names(&certificate(&[], &[(DNS, bad), (RFC822, bad), (DNS, "b.test")]));
            assert_eq!((found.dns.as_slice(), found.email.len()), (&["b.test".to_owned()][..], 0));
        }
        for bad in ["A\0B", "A\r\nB", ""] {
            assert_eq!(names(&certificate(&[bad], &[])).common, None);
        }
        assert_eq!(
            names(&certificate(&["J\u{f6}rg Q."], &[])).common.as_deref(),
            Some("J\u{f6}rg Q.")
        );
    }

    #[test]
    fn names_are_bounded() {
        let many: Vec<(u8, &str)> = (0..NAMES + 1).map(|_| (DNS, "a.test")).collect();
        assert_eq!(names(&certificate(&[], &many)).dns.len(), NAMES);
    }

    #[test]
    fn hostile_bytes_find_nothing_and_harm_nothing() {
        let der = certificate(&["A User"], &[(DNS, "a.test")]);
        for at in 0..der.len() {
            for value in [0, 1, 0x7f, 0x80, 0x84, 0x85, 0xff] {
                let mut bad = der.clone();
                bad[at] = value;
                let _ = names(&bad);
            }
        }
        assert_eq!(names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), Names::default());
        assert_eq!(names(b""), Names::default());
    }
}
