//! Command lines: which verb, and what its arguments say (RFC 5321 4.1.1).
//!
//! Works on whole lines without their CR LF and borrows from them. Verbs are known in any case. Spaces at a line's
//! end mean nothing (RFC 5321 4.1.1). One space between `FROM:` or `TO:` and the path is let pass, because old
//! programs send it and no other reading exists. A command that takes no argument and is given one is refused.

use crate::codec::address::domain_is_valid;
use crate::codec::path::Path;
use crate::smtp::Reply;

/// Longest name in HELO and EHLO, in octets (RFC 5321 4.5.3.1.2).
pub(crate) const HELLO_OCTETS: usize = 255;

/// What stands first in a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Lhlo,
    Vrfy,
    Expn,
    Help,
    Etrn,
    Xclient,
    Quit,
    StartTls,
    Auth,
    /// Known, and not done anywhere any more: TURN and the SEND family (RFC 5321 F).
    Withheld,
    Unknown,
}

/// Divides a line into its verb and its argument.
pub(crate) fn split(line: &[u8]) -> (Verb, &[u8]) {
    let end = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
    let (verb, argument) = line.split_at_checked(end).unwrap_or((line, &[]));
    let argument = argument.strip_prefix(b" ").unwrap_or_default();
    let spaces = argument.iter().rev().take_while(|&&b| b == b' ').count();
    let argument = argument.get(..argument.len() - spaces).unwrap_or_default();
    if let Ok(four) = <[u8; 4]>::try_from(verb) {
        // A letter keeps all but the bit of its case; nothing else becomes a letter by that.
        return (four_letters(&four.map(|b| b & 0xdf)), argument);
    }
    let mut folded = [0; 8];
    let Some(name) = folded.get_mut(..verb.len()) else { return (Verb::Unknown, argument) };
    name.copy_from_slice(verb);
    name.make_ascii_uppercase();
    let verb = match &*name {
        b"STARTTLS" => Verb::StartTls,
        b"XCLIENT" => Verb::Xclient,
        _ => Verb::Unknown,
    };
    (verb, argument)
}

fn four_letters(name: &[u8; 4]) -> Verb {
    match name {
        b"MAIL" => Verb::Mail,
        b"RCPT" => Verb::Rcpt,
        b"DATA" => Verb::Data,
        b"BDAT" => Verb::Bdat,
        b"EHLO" => Verb::Ehlo,
        b"HELO" => Verb::Helo,
        b"RSET" => Verb::Rset,
        b"NOOP" => Verb::Noop,
        b"QUIT" => Verb::Quit,
        b"AUTH" => Verb::Auth,
        b"LHLO" => Verb::Lhlo,
        b"VRFY" => Verb::Vrfy,
        b"EXPN" => Verb::Expn,
        b"HELP" => Verb::Help,
        b"ETRN" => Verb::Etrn,
        b"TURN" | b"SEND" | b"SOML" | b"SAML" => Verb::Withheld,
        _ => Verb::Unknown,
    }
}

/// The name in HELO or EHLO. Any printable word will do: a wrong name alone must not keep mail out (RFC 5321 4.1.4).
pub(crate) fn hello(argument: &[u8]) -> Result<&[u8], Reply<'static>> {
    let printable = argument.iter().all(|b| matches!(b, b'!'..=b'~'));
    if argument.is_empty() || !printable {
        return Err(Reply::bare(501, "Give one name or address literal"));
    }
    if argument.len() > HELLO_OCTETS {
        return Err(Reply::bare(501, "That name is longer than 255 octets"));
    }
    Ok(argument)
}

/// Divides MAIL's argument. The mailbox, empty for the null path, is not judged yet: whether UTF-8 may stand in it is
/// known from the parameters, which stand behind the path.
pub(crate) fn mail(argument: &[u8]) -> Result<Path<'_>, Reply<'static>> {
    let text = after_keyword(argument, b"FROM:").ok_or(Reply::new(
        501,
        5,
        4,
        "Syntax: MAIL FROM:<address> [parameters]",
    ))?;
    Path::split(text).ok_or(BAD_SENDER)
}

/// The reply to a reverse-path that is none.
pub(crate) const BAD_SENDER: Reply<'static> = Reply::new(501, 1, 7, "Bad sender address syntax");
/// The reply to a forward-path that is none.
pub(crate) const BAD_RECIPIENT: Reply<'static> =
    Reply::new(501, 1, 3, "Bad recipient address syntax");

/// Divides RCPT's argument into the mailbox, not judged yet, and the parameters.
pub(crate) fn rcpt(argument: &[u8]) -> Result<Path<'_>, Reply<'static>> {
    let text = after_keyword(argument, b"TO:").ok_or(Reply::new(
        501,
        5,
        4,
        "Syntax: RCPT TO:<address> [parameters]",
    ))?;
    Path::split(text).ok_or(BAD_RECIPIENT)
}

/// ETRN's argument: a name, with `@` for its subdomains too or `#` for a queue in front (RFC 1985 5).
pub(crate) fn etrn(argument: &[u8]) -> Result<&[u8], Reply<'static>> {
    let name = argument.strip_prefix(b"@").or(argument.strip_prefix(b"#")).unwrap_or(argument);
    let queue = argument.first() == Some(&b'#');
    let good = if queue {
        !name.is_empty()
            && name.len() <= HELLO_OCTETS
            && name.iter().all(|b| matches!(b, b'!'..=b'~'))
    } else {
        domain_is_valid(name, false)
    };
    if good {
        Ok(argument)
    } else {
        Err(Reply::new(501, 5, 4, "Syntax: ETRN [@]domain, or #queue"))
    }
}

/// What VRFY and EXPN ask for, and whether the answer may be UTF-8: `SMTPUTF8` stands behind it (RFC 6531 3.7.4.2).
pub(crate) fn lookup(argument: &[u8], smtputf8: bool) -> (&[u8], bool) {
    let word = b" SMTPUTF8";
    if smtputf8
        && let Some(at) = argument.len().checked_sub(word.len())
        && let Some((text, end)) = argument.split_at_checked(at)
        && end.eq_ignore_ascii_case(word)
    {
        return (text.trim_ascii_end(), true);
    }
    (argument, false)
}

fn after_keyword<'a>(argument: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (word, rest) = argument.split_at_checked(keyword.len())?;
    word.eq_ignore_ascii_case(keyword).then(|| rest.strip_prefix(b" ").unwrap_or(rest))
}

/// BDAT's argument: octets, and whether it is the last chunk. `None`: where the chunk ends cannot be told.
pub(crate) fn bdat(argument: &[u8]) -> Option<(u64, bool)> {
    let end = argument.iter().position(|&b| b == b' ').unwrap_or(argument.len());
    let (digits, rest) = argument.split_at_checked(end)?;
    let last = rest.eq_ignore_ascii_case(b" LAST");
    if digits.is_empty() || !(last || rest.is_empty()) {
        return None;
    }
    let size = digits.iter().try_fold(0u64, |sum, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })?;
    Some((size, last))
}

/// AUTH's argument: the mechanism's name and the initial response, still in Base64.
pub(crate) fn auth(argument: &[u8]) -> Result<(&[u8], Option<&[u8]>), Reply<'static>> {
    let mut words = argument.split(|&b| b == b' ');
    let name = words.next().unwrap_or_default();
    let initial = words.next();
    if name.is_empty() || initial.is_some_and(<[u8]>::is_empty) || words.next().is_some() {
        return Err(Reply::new(501, 5, 4, "Syntax: AUTH mechanism [initial-response]"));
    }
    Ok((name, initial))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case_and_only_whole() {
        assert_eq!(split(b"mail FROM:<>  "), (Verb::Mail, b"FROM:<>".as_slice()));
        assert_eq!(split(b"QuIt"), (Verb::Quit, b"".as_slice()));
        assert_eq!(split(b"STARTTLS "), (Verb::StartTls, b"".as_slice()));
        for line in [
            b"".as_slice(),
            b" NOOP",
            b"NOO",
            b"NOOPS",
            b"STARTTLSX",
            b"MAIL\tFROM:<>",
            b"xxxxxxxxxxxx",
        ] {
            assert_eq!(split(line).0, Verb::Unknown, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn chunk_sizes_never_wrap_and_odd_ones_have_no_end() {
        assert_eq!(bdat(b"0"), Some((0, false)));
        assert_eq!(bdat(b"10 last"), Some((10, true)));
        assert_eq!(bdat(b"18446744073709551615 LAST"), Some((u64::MAX, true)));
        for text in [
            "",
            " ",
            "LAST",
            "18446744073709551616",
            "99999999999999999999999 LAST",
            "-1",
            "+1",
            "0x10",
            "1 FIRST",
            "1  LAST",
            "1 LAST x",
            "1LAST",
            "1\u{660}",
        ] {
            assert_eq!(bdat(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn hello_takes_one_printable_word_of_255_octets() {
        assert_eq!(hello(b"under_score"), Ok(b"under_score".as_slice()));
        assert!(hello(b"").is_err() && hello(b"a b").is_err() && hello(b"\xc3\xbc").is_err());
        assert!(hello(&[b'a'; HELLO_OCTETS]).is_ok());
        assert!(hello(&[b'a'; HELLO_OCTETS + 1]).is_err());
    }

    #[test]
    fn nodes_and_lookups_are_divided() {
        for text in ["x.test", "@x.test", "#queue-1", "[127.0.0.1]"] {
            assert_eq!(etrn(text.as_bytes()), Ok(text.as_bytes()), "{text}");
        }
        for text in ["", "@", "#", "a b", "-x", "#a b", "@#x"] {
            assert!(etrn(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(lookup(b"user smtputf8", true), (b"user".as_slice(), true));
        assert_eq!(lookup(b"user SMTPUTF8", false), (b"user SMTPUTF8".as_slice(), false));
        assert_eq!(lookup(b"SMTPUTF8", true), (b"SMTPUTF8".as_slice(), false));
    }
}
