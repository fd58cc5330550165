//! ESMTP parameters of MAIL and RCPT (RFC 5321 4.1.2): the grammar, and what MAIL's mean.
//!
//! The line is framed already, so nom sees all of it at once. Unknown keywords are 555, a keyword given twice or a
//! value of the wrong form is 501, and a SIZE beyond what 64 bits hold is simply too large (552): nothing wraps.

use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{opt, recognize};
use nom::sequence::preceded;
use nom::{IResult, Parser};

use crate::smtp::Reply;
use crate::smtp::server::MailParameters;

const SYNTAX: Reply<'static> =
    Reply::new(501, 5, 4, "Parameters are KEYWORD or KEYWORD=VALUE, divided by a space");
const UNKNOWN: Reply<'static> = Reply::new(555, 5, 4, "Parameter not recognized");
const TWICE: Reply<'static> = Reply::new(501, 5, 4, "Parameter given twice");
const VALUE: Reply<'static> = Reply::new(501, 5, 4, "Parameter has a value that it cannot have");

/// Most digits of a SIZE value (RFC 1870 3).
const SIZE_DIGITS: usize = 20;

/// One parameter as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parameter<'a> {
    keyword: &'a [u8],
    value: Option<&'a [u8]>,
}

/// `SP esmtp-keyword ["=" esmtp-value]`.
fn parameter(text: &[u8]) -> IResult<&[u8], Parameter<'_>> {
    let keyword = recognize((
        take_while1(|b: u8| b.is_ascii_alphanumeric()),
        take_while(|b: u8| b.is_ascii_alphanumeric() || b == b'-'),
    ));
    let value = take_while1(|b: u8| matches!(b, b'!'..=b'<' | b'>'..=b'~'));
    let (rest, (keyword, value)) =
        preceded(char(' '), (keyword, opt(preceded(char('='), value)))).parse(text)?;
    Ok((rest, Parameter { keyword, value }))
}

/// The parameters that stand behind a path. Each begins with one space; spaces at the very end mean nothing.
fn each<'a>(
    text: &'a [u8],
    mut take: impl FnMut(Parameter<'a>) -> Result<(), Reply<'static>>,
) -> Result<(), Reply<'static>> {
    let mut rest = text;
    while !rest.is_empty() {
        let (behind, found) = parameter(rest).map_err(|_| SYNTAX)?;
        if behind.first().is_some_and(|&b| b != b' ') {
            return Err(SYNTAX);
        }
        take(found)?;
        rest = behind;
    }
    Ok(())
}

/// MAIL's parameters.
pub(crate) fn mail(text: &[u8]) -> Result<MailParameters, Reply<'static>> {
    let mut parameters = MailParameters::default();
    let (mut size, mut body, mut auth) = (false, false, false);
    let once = |seen: &mut bool| if std::mem::replace(seen, true) { Err(TWICE) } else { Ok(()) };
    each(text, |Parameter { keyword, value }| {
        if keyword.eq_ignore_ascii_case(b"SIZE") {
            once(&mut size)?;
            parameters.size = value.and_then(number).ok_or(VALUE)?;
        } else if keyword.eq_ignore_ascii_case(b"BODY") {
            once(&mut body)?;
            let value = value.ok_or(VALUE)?;
            parameters.eight_bit = value.eq_ignore_ascii_case(b"8BITMIME");
            if !parameters.eight_bit && !value.eq_ignore_ascii_case(b"7BIT") {
                return Err(VALUE);
            }
        } else if keyword.eq_ignore_ascii_case(b"SMTPUTF8") {
            once(&mut parameters.smtputf8)?;
            if value.is_some() {
                return Err(VALUE);
            }
        } else if keyword.eq_ignore_ascii_case(b"AUTH") {
            // Who first submitted the message: taken note of by nobody, as RFC 4954 5 allows.
            once(&mut auth)?;
            value.filter(|v| is_xtext(v)).ok_or(VALUE)?;
        } else {
            return Err(UNKNOWN);
        }
        Ok(())
    })?;
    Ok(parameters)
}

/// RCPT's parameters: none is known yet.
pub(crate) fn rcpt(text: &[u8]) -> Result<(), Reply<'static>> {
    each(text, |_| Err(UNKNOWN))
}

/// A number of up to 20 digits. Beyond 64 bits it stays at the top: no limit is as high.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > SIZE_DIGITS {
        return None;
    }
    text.iter().try_fold(0u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// xtext: printable octets, where `+` begins two hexadecimal digits (RFC 3461 4).
fn is_xtext(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((&octet, behind)) = rest.split_first() {
        rest = behind;
        if octet == b'+' {
            let Some((digits, behind)) = rest.split_at_checked(2) else { return false };
            if !digits.iter().all(|d| d.is_ascii_digit() || matches!(d, b'A'..=b'F')) {
                return false;
            }
            rest = behind;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_are_read_in_any_case_and_order() {
        let all = mail(b" smtputf8 Size=1000 body=8bitmime AUTH=<>").expect("good");
        assert_eq!(all, MailParameters { size: 1000, eight_bit: true, smtputf8: true });
        assert_eq!(mail(b""), Ok(MailParameters::default()));
        assert_eq!(mail(b" BODY=7BIT"), Ok(MailParameters::default()));
        assert!(mail(b" AUTH=e+3Dmc2@example.test").is_ok());
    }

    #[test]
    fn sizes_at_the_top_do_not_wrap() {
        let size = |text: &str| mail(format!(" SIZE={text}").as_bytes()).map(|p| p.size);
        assert_eq!(size("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(size("18446744073709551616"), Ok(u64::MAX));
        assert_eq!(size("99999999999999999999"), Ok(u64::MAX));
        assert_eq!(size("100000000000000000000"), Err(VALUE));
        assert_eq!(size("99999999999999999999999999"), Err(VALUE));
        assert_eq!(size("-1"), Err(VALUE));
        assert_eq!(size("1k"), Err(VALUE));
    }

    #[test]
    fn mistakes_have_their_replies() {
        for (text, reply) in [
            (" SIZE", VALUE),
            (" SIZE=", SYNTAX),
            (" SIZE=1 SIZE=1", TWICE),
            (" size=1 SIZE=2", TWICE),
            (" SMTPUTF8 SMTPUTF8", TWICE),
            (" SMTPUTF8=1", VALUE),
            (" BODY", VALUE),
            (" BODY=BINARYMIME", VALUE),
            (" BODY=7BIT BODY=8BITMIME", TWICE),
            (" AUTH=+", VALUE),
            (" AUTH=+0a", VALUE),
            (" AUTH", VALUE),
            (" RET=FULL", UNKNOWN),
            (" X", UNKNOWN),
            ("BODY=7BIT", SYNTAX),
            ("  BODY=7BIT", SYNTAX),
            (" BODY=7BIT  SIZE=1", SYNTAX),
            (" -X=1", SYNTAX),
            (" =1", SYNTAX),
            (" BODY=7BIT=1", SYNTAX),
            (" X=\u{fc}", SYNTAX),
        ] {
            assert_eq!(mail(text.as_bytes()), Err(reply), "{text}");
        }
        assert_eq!(rcpt(b" NOTIFY=NEVER"), Err(UNKNOWN));
        assert_eq!(rcpt(b"X"), Err(SYNTAX));
        assert_eq!(rcpt(b""), Ok(()));
    }
}
