//! ESMTP parameters of MAIL and RCPT (RFC 5321 4.1.2): the grammar, and what each means.
//!
//! The line is framed already. Unknown keywords, and those of extensions that are not offered here, are 555; a keyword
//! given twice or a value of the wrong form is 501; a SIZE beyond what 64 bits hold is simply too large (552): nothing wraps.
//! Octets beyond ASCII pass only where SMTPUTF8 is offered (RFC 6531 3.3), and only in ORCPT's `utf-8` addresses.

use std::mem;

use super::{
    AUTH_OCTETS, Body, DeliverBy, ENVID_OCTETS, Hold, MailParameters, Memory, Notify, ORCPT_OCTETS,
    OriginalRecipient, RcptParameters, Ret, Xtext,
};
use crate::codec::date;
use crate::smtp::Reply;
use crate::smtp::extension::Extensions;

const SYNTAX: Reply<'static> =
    Reply::new(501, 5, 4, "Parameters are KEYWORD or KEYWORD=VALUE, divided by a space");
const UNKNOWN: Reply<'static> = Reply::new(555, 5, 4, "Parameter not recognized");
const TWICE: Reply<'static> = Reply::new(501, 5, 4, "Parameter given twice");
const VALUE: Reply<'static> = Reply::new(501, 5, 4, "Parameter has a value that it cannot have");
const TOO_SOON: Reply<'static> =
    Reply::new(550, 4, 7, "The message cannot be delivered by that time");
const TOO_LATE: Reply<'static> =
    Reply::new(501, 5, 4, "The message would be held longer than this server does");
const NO_TLS: Reply<'static> =
    Reply::new(530, 7, 10, "REQUIRETLS needs TLS on this connection as well");

/// Most digits of a SIZE value (RFC 1870 3).
const SIZE_DIGITS: usize = 20;
/// Most digits of a number of seconds (RFC 2852 4, RFC 4865 4).
const SECONDS_DIGITS: usize = 9;

/// Which parameters may come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered<'a> {
    pub(crate) extensions: &'a Extensions,
    /// REQUIRETLS may come.
    pub(crate) tls: bool,
    /// FUTURERELEASE may come.
    pub(crate) hold: bool,
}

/// A parameter's value: a keyword without one cannot have been `KEYWORD=`.
type Value<'a> = Option<&'a [u8]>;

/// The parameters that stand behind a path. Each begins with one space; spaces at the very end were taken off.
fn each<'a>(
    text: &'a [u8],
    utf8: bool,
    mut take: impl FnMut(&'a [u8], Value<'a>) -> Result<(), Reply<'static>>,
) -> Result<(), Reply<'static>> {
    let mut rest = text;
    while let Some((space, behind)) = rest.split_first() {
        if *space != b' ' {
            return Err(SYNTAX);
        }
        let end = memchr::memchr(b' ', behind).unwrap_or(behind.len());
        let (word, behind) = behind.split_at_checked(end).unwrap_or_default();
        rest = behind;
        let (keyword, value) = match memchr::memchr(b'=', word) {
            None => (word, None),
            Some(at) => (word.get(..at).unwrap_or_default(), word.get(at + 1..)),
        };
        let first = keyword.first().is_some_and(u8::is_ascii_alphanumeric);
        if !first || !keyword.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(SYNTAX);
        }
        if let Some(value) = value {
            let good = |&b: &u8| matches!(b, b'!'..=b'<' | b'>'..=b'~') || (utf8 && b >= 0x80);
            if value.is_empty() || !value.iter().all(good) {
                return Err(SYNTAX);
            }
        }
        take(keyword, value)?;
    }
    Ok(())
}

/// Reads MAIL's parameters into `found`, which holds none. Strings take the memory of `memory`.
pub(crate) fn mail(
    text: &[u8],
    offered: Offered<'_>,
    found: &mut MailParameters,
    memory: &mut Memory,
) -> Result<(), Reply<'static>> {
    if text.is_empty() {
        return Ok(());
    }
    let on = offered.extensions;
    let (mut size, mut body) = (false, false);
    each(text, on.smtputf8, |keyword, value| {
        let is = |name: &[u8]| keyword.eq_ignore_ascii_case(name);
        if is(b"SIZE") {
            once(&mut size)?;
            found.size = value.and_then(octets).ok_or(VALUE)?;
        } else if is(b"BODY") && (on.eight_bit || on.binarymime) {
            once(&mut body)?;
            found.body = value.and_then(|v| body_of(v, on)).ok_or(VALUE)?;
        } else if is(b"SMTPUTF8") && on.smtputf8 {
            once(&mut found.smtputf8)?;
            bare(value)?;
        } else if is(b"AUTH") {
            let take = |v| Xtext::printable_in(v, AUTH_OCTETS, &mut memory.auth);
            put(&mut found.auth, value.and_then(take).ok_or(VALUE)?)?;
        } else if is(b"RET") && on.dsn {
            let value = value.ok_or(VALUE)?;
            let ret = match () {
                () if value.eq_ignore_ascii_case(b"FULL") => Ret::Full,
                () if value.eq_ignore_ascii_case(b"HDRS") => Ret::Headers,
                () => return Err(VALUE),
            };
            put(&mut found.ret, ret)?;
        } else if is(b"ENVID") && on.dsn {
            let take = |v| Xtext::printable_in(v, ENVID_OCTETS, &mut memory.envid);
            put(&mut found.envid, value.and_then(take).ok_or(VALUE)?)?;
        } else if is(b"REQUIRETLS") && on.requiretls {
            once(&mut found.require_tls)?;
            bare(value)?;
            if !offered.tls {
                return Err(NO_TLS);
            }
        } else if let (true, Some(least)) = (is(b"BY"), on.deliver_by) {
            let by = value.and_then(deliver_by).ok_or(VALUE)?;
            put(&mut found.deliver_by, by)?;
            if by.return_it && u32::try_from(by.seconds).is_ok_and(|seconds| seconds < least) {
                return Err(TOO_SOON);
            }
        } else if let (true, true, Some(most)) = (is(b"HOLDFOR"), offered.hold, on.future_release) {
            let seconds = value.and_then(seconds).ok_or(VALUE)?;
            put(&mut found.hold, Hold::For(seconds))?;
            if seconds > most.max_interval {
                return Err(TOO_LATE);
            }
        } else if let (true, true, Some(most)) = (is(b"HOLDUNTIL"), offered.hold, on.future_release)
        {
            let instant = value.and_then(date::parse_rfc3339).ok_or(VALUE)?;
            put(&mut found.hold, Hold::Until(instant))?;
            if instant > most.max_datetime {
                return Err(TOO_LATE);
            }
        } else if is(b"MT-PRIORITY") && on.mt_priority {
            put(&mut found.priority, value.and_then(priority).ok_or(VALUE)?)?;
        } else {
            return Err(UNKNOWN);
        }
        Ok(())
    })
}

/// Reads RCPT's parameters into `found`, which holds none. `utf8`: MAIL carried SMTPUTF8. ORCPT takes the memory of
/// `memory`.
pub(crate) fn rcpt(
    text: &[u8],
    offered: Offered<'_>,
    utf8: bool,
    found: &mut RcptParameters,
    memory: &mut Memory,
) -> Result<(), Reply<'static>> {
    if text.is_empty() {
        return Ok(());
    }
    let on = offered.extensions;
    each(text, on.smtputf8, |keyword, value| {
        if keyword.eq_ignore_ascii_case(b"NOTIFY") && on.dsn {
            put(&mut found.notify, value.and_then(notify).ok_or(VALUE)?)
        } else if keyword.eq_ignore_ascii_case(b"ORCPT") && on.dsn {
            let parse = |v| OriginalRecipient::parse(v, ORCPT_OCTETS, utf8, &mut memory.orcpt);
            put(&mut found.orcpt, value.and_then(parse).ok_or(VALUE)?)
        } else {
            Err(UNKNOWN)
        }
    })
}

impl MailParameters {
    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self, memory: &mut Memory) {
        if let Some(envid) = self.envid.take() {
            memory.envid = envid.into_memory();
        }
        if let Some(auth) = self.auth.take() {
            memory.auth = auth.into_memory();
        }
        *self = MailParameters::default();
    }
}

impl RcptParameters {
    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self, memory: &mut Memory) {
        self.notify = None;
        if let Some(orcpt) = self.orcpt.take() {
            memory.orcpt = orcpt.into_memory();
        }
    }
}

fn once(seen: &mut bool) -> Result<(), Reply<'static>> {
    if mem::replace(seen, true) { Err(TWICE) } else { Ok(()) }
}

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), Reply<'static>> {
    if place.replace(value).is_some() { Err(TWICE) } else { Ok(()) }
}

fn bare(value: Value<'_>) -> Result<(), Reply<'static>> {
    if value.is_some() { Err(VALUE) } else { Ok(()) }
}

fn body_of(value: &[u8], on: &Extensions) -> Option<Body> {
    if value.eq_ignore_ascii_case(b"7BIT") {
        Some(Body::SevenBit)
    } else if on.eight_bit && value.eq_ignore_ascii_case(b"8BITMIME") {
        Some(Body::EightBit)
    } else if on.binarymime && on.chunking && value.eq_ignore_ascii_case(b"BINARYMIME") {
        Some(Body::Binary)
    } else {
        None
    }
}

/// A number of up to 20 digits. Beyond 64 bits it stays at the top: no limit is as high.
fn octets(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > SIZE_DIGITS {
        return None;
    }
    text.iter().try_fold(0u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// A number of up to nine digits.
fn seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > SECONDS_DIGITS {
        return None;
    }
    text.iter().try_fold(0u32, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `by-time ";" by-mode [by-trace]` (RFC 2852 4). A time that is over makes no sense with mode R.
fn deliver_by(text: &[u8]) -> Option<DeliverBy> {
    let divider = memchr::memchr(b';', text)?;
    let (time, mode) = (text.get(..divider)?, text.get(divider + 1..)?);
    let (negative, digits) = match time.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, time),
    };
    let seconds = i32::try_from(seconds(digits)?).ok()?;
    let seconds = if negative { -seconds } else { seconds };
    let (mode, trace) = mode.split_first()?;
    let return_it = match mode {
        b'R' | b'r' => true,
        b'N' | b'n' => false,
        _ => return None,
    };
    let trace = match trace {
        b"" => false,
        b"T" | b"t" => true,
        _ => return None,
    };
    (!return_it || seconds > 0).then_some(DeliverBy { seconds, return_it, trace })
}

/// `["-"] digit` (RFC 6710 3).
fn priority(text: &[u8]) -> Option<i8> {
    let (negative, digit) = match text {
        [b'-', digit] => (true, digit),
        [digit] => (false, digit),
        _ => return None,
    };
    let value = i8::try_from(digit.is_ascii_digit().then(|| digit - b'0')?).ok()?;
    // There is no -0.
    if negative && value == 0 { None } else { Some(if negative { -value } else { value }) }
}

/// `NEVER`, or a list of the others (RFC 3461 4.1).
fn notify(text: &[u8]) -> Option<Notify> {
    if text.eq_ignore_ascii_case(b"NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in text.split(|&b| b == b',') {
        if word.eq_ignore_ascii_case(b"SUCCESS") {
            notify.success = true;
        } else if word.eq_ignore_ascii_case(b"FAILURE") {
            notify.failure = true;
        } else if word.eq_ignore_ascii_case(b"DELAY") {
            notify.delay = true;
        } else {
            return None;
        }
    }
    Some(notify)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::extension::FutureRelease;

    fn read(text: &str, extensions: &Extensions) -> Result<MailParameters, Reply<'static>> {
        let mut found = MailParameters::default();
        let offered = Offered { extensions, tls: true, hold: true };
        super::mail(text.as_bytes(), offered, &mut found, &mut Memory::default()).map(|()| found)
    }

    fn mail(text: &str) -> Result<MailParameters, Reply<'static>> {
        read(text, &Extensions::ALL)
    }

    fn rcpt(text: &str, utf8: bool) -> Result<RcptParameters, Reply<'static>> {
        let mut found = RcptParameters::default();
        let offered = Offered { extensions: &Extensions::ALL, tls: true, hold: true };
        let memory = &mut Memory::default();
        super::rcpt(text.as_bytes(), offered, utf8, &mut found, memory).map(|()| found)
    }

    #[test]
    fn known_parameters_are_read_in_any_case_and_order() {
        let all = mail(" smtputf8 Size=1000 body=8bitmime AUTH=<>").expect("good");
        assert_eq!((all.size, all.body, all.smtputf8), (1000, Body::EightBit, true));
        assert_eq!(all.auth.expect("given").as_bytes(), b"<>");
        assert_eq!(mail(""), Ok(MailParameters::default()));
        assert_eq!(mail(" BODY=7BIT"), Ok(MailParameters::default()));
        assert_eq!(mail(" BODY=BINARYMIME").map(|p| p.body), Ok(Body::Binary));
        assert!(mail(" AUTH=e+3Dmc2@example.test").is_ok());
        let all = mail(" ret=hdrs ENVID=a+2Bb by=-5;nt HOLDFOR=60 mt-priority=-3 requiretls");
        let all = all.expect("good");
        assert_eq!(all.ret, Some(Ret::Headers));
        assert_eq!(all.envid.expect("given").decode(), b"a+b");
        let by = DeliverBy { seconds: -5, return_it: false, trace: true };
        assert_eq!(all.deliver_by, Some(by));
        assert_eq!((all.hold, all.priority), (Some(Hold::For(60)), Some(-3)));
        assert!(all.require_tls);
        let until = mail(" HOLDUNTIL=1970-01-02T00:00:00Z").expect("good").hold;
        assert_eq!(until, Some(Hold::Until(86_400)));
    }

    #[test]
    fn what_is_passed_on_reads_back_as_it_was() {
        for text in [
            "",
            "RET=FULL",
            "RET=HDRS ENVID=x+2By BY=120;RT MT-PRIORITY=9 REQUIRETLS",
            "BY=-999999999;N MT-PRIORITY=-9",
        ] {
            let found = MailParameters::from_relay_text(text.as_bytes()).expect("good");
            let mut again = Vec::new();
            found.relay_text(&mut again);
            assert_eq!(String::from_utf8_lossy(&again), text);
        }
        for text in ["", "NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=utf-8;\\x{FC}@x"] {
            let found = RcptParameters::from_relay_text(text.as_bytes()).expect("good");
            let mut again = Vec::new();
            found.relay_text(&mut again);
            assert_eq!(String::from_utf8_lossy(&again), text);
        }
        assert_eq!(MailParameters::from_relay_text(b" RET=FULL"), None);
        assert_eq!(MailParameters::from_relay_text(b"RET=FULL "), None);
        assert_eq!(RcptParameters::from_relay_text(b"X"), None);
    }

    #[test]
    fn sizes_at_the_top_do_not_wrap() {
        let size = |text: &str| mail(&format!(" SIZE={text}")).map(|p| p.size);
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
            (" BODY=9BIT", VALUE),
            (" BODY=7BIT BODY=8BITMIME", TWICE),
            (" AUTH=+", VALUE),
            (" AUTH=+0a", VALUE),
            (" AUTH", VALUE),
            (" AUTH=<> AUTH=<>", TWICE),
            (" RET=NONE", VALUE),
            (" RET", VALUE),
            (" RET=FULL RET=HDRS", TWICE),
            (" ENVID", VALUE),
            (" ENVID=+0D+0A", VALUE),
            (" ENVID=x ENVID=x", TWICE),
            (" BY=0;R", VALUE),
            (" BY=-1;R", VALUE),
            (" BY=1", VALUE),
            (" BY=;N", VALUE),
            (" BY=1;X", VALUE),
            (" BY=1;NTT", VALUE),
            (" BY=1234567890;N", VALUE),
            (" HOLDFOR=1234567890", VALUE),
            (" HOLDFOR=-1", VALUE),
            (" HOLDFOR=1 HOLDUNTIL=2026-11-21T00:00:00Z", TWICE),
            (" HOLDUNTIL=tomorrow", VALUE),
            (" MT-PRIORITY=10", VALUE),
            (" MT-PRIORITY=-0", VALUE),
            (" MT-PRIORITY=+1", VALUE),
            (" MT-PRIORITY", VALUE),
            (" REQUIRETLS=1", VALUE),
            (" REQUIRETLS REQUIRETLS", TWICE),
            (" X", UNKNOWN),
            ("BODY=7BIT", SYNTAX),
            ("  BODY=7BIT", SYNTAX),
            (" BODY=7BIT  SIZE=1", SYNTAX),
            (" -X=1", SYNTAX),
            (" =1", SYNTAX),
            (" BODY=7BIT=1", SYNTAX),
            (" X_Y=1", SYNTAX),
            (" \u{fc}=1", SYNTAX),
        ] {
            assert_eq!(mail(text), Err(reply), "{text}");
        }
        for (text, reply) in [
            (" NOTIFY", VALUE),
            (" NOTIFY=", SYNTAX),
            (" NOTIFY=NEVER,DELAY", VALUE),
            (" NOTIFY=DELAY,", VALUE),
            (" NOTIFY=DELAY NOTIFY=NEVER", TWICE),
            (" ORCPT=a@b.test", VALUE),
            (" ORCPT=rfc822;a ORCPT=rfc822;a", TWICE),
            (" ORCPT=utf-8;\u{fc}@x.test", VALUE),
            (" RET=FULL", UNKNOWN),
            ("X", SYNTAX),
        ] {
            assert_eq!(rcpt(text, false), Err(reply), "{text}");
        }
        assert!(rcpt(" ORCPT=utf-8;\u{fc}@x.test", true).is_ok());
        assert!(rcpt(" notify=delay,success", false).is_ok_and(|p| {
            p.notify == Some(Notify { success: true, failure: false, delay: true })
        }));
    }

    #[test]
    fn what_is_not_offered_is_not_recognized() {
        let none = Extensions { eight_bit: false, smtputf8: false, ..Extensions::default() };
        for text in [
            " BODY=7BIT",
            " SMTPUTF8",
            " RET=FULL",
            " ENVID=x",
            " BY=1;N",
            " HOLDFOR=1",
            " MT-PRIORITY=1",
            " REQUIRETLS",
        ] {
            assert_eq!(read(text, &none), Err(UNKNOWN), "{text}");
        }
        assert_eq!(read(" X=\u{fc}", &none), Err(SYNTAX));
        let on =
            Extensions { requiretls: true, future_release: Extensions::ALL.future_release, ..none };
        let mut found = MailParameters::default();
        let offered = Offered { extensions: &on, tls: false, hold: false };
        assert_eq!(
            super::mail(b" REQUIRETLS", offered, &mut found, &mut Memory::default()),
            Err(NO_TLS)
        );
        assert_eq!(
            super::mail(b" HOLDFOR=1", offered, &mut found, &mut Memory::default()),
            Err(UNKNOWN)
        );
        let eight = Extensions { binarymime: true, chunking: false, ..Extensions::default() };
        assert_eq!(read(" BODY=BINARYMIME", &eight), Err(VALUE));
    }

    #[test]
    fn strings_and_times_at_their_limits_pass_and_one_more_does_not() {
        let string = |keyword: &str, n: usize| mail(&format!(" {keyword}={}", "x".repeat(n)));
        for (keyword, limit) in [("ENVID", ENVID_OCTETS), ("AUTH", AUTH_OCTETS)] {
            assert!(string(keyword, limit).is_ok());
            assert_eq!(string(keyword, limit + 1), Err(VALUE));
        }
        let orcpt = |n: usize| rcpt(&format!(" ORCPT=rfc822;{}", "x".repeat(n - 7)), false);
        assert!(orcpt(ORCPT_OCTETS).is_ok());
        assert_eq!(orcpt(ORCPT_OCTETS + 1), Err(VALUE));
        let on = Extensions {
            deliver_by: Some(60),
            future_release: Some(FutureRelease { max_interval: 100, max_datetime: 1000 }),
            ..Extensions::default()
        };
        assert!(read(" BY=60;R", &on).is_ok());
        assert_eq!(read(" BY=59;R", &on), Err(TOO_SOON));
        assert!(read(" BY=59;N", &on).is_ok());
        assert!(read(" HOLDFOR=100", &on).is_ok());
        assert_eq!(read(" HOLDFOR=101", &on), Err(TOO_LATE));
        assert!(read(" HOLDUNTIL=1970-01-01T00:16:40Z", &on).is_ok());
        assert_eq!(read(" HOLDUNTIL=1970-01-01T00:16:41Z", &on), Err(TOO_LATE));
    }
}
