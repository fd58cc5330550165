//! Command lines: from the octets of a whole line to a value (RFC 1939 3, 9).
//!
//! Keywords ignore case. One space parts keyword and arguments; more spaces between arguments and spaces at the
//! end of the line are borne with, except in PASS, where everything behind the first space is the password.
//! Numbers are digits and nothing else, message numbers begin at 1. Control characters and what is not UTF-8 are
//! refused in every line.

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Capa,
    /// The login name. May hold spaces.
    User(&'a str),
    /// The password: everything behind `PASS` and one space.
    Pass(&'a str),
    /// The mechanism and the initial response (RFC 5034 4); no mechanism asks for the list.
    Auth {
        mechanism: Option<&'a str>,
        initial: Option<&'a str>,
    },
    Stls,
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    /// A message's number, and how many lines of its body.
    Top(u32, u64),
    Dele(u32),
    Rset,
    Noop,
    Quit,
}

/// Why a line is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No such keyword.
    Unknown,
    /// Not UTF-8, or a control character.
    Octets,
    /// An argument is missing.
    Missing,
    /// An argument too many.
    Surplus,
    /// An argument is not a number, or out of range.
    Number,
}

impl Fault {
    /// What the peer is told.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Fault::Unknown => "unknown command",
            Fault::Octets => "control characters and octets that are not UTF-8 are not allowed",
            Fault::Missing => "an argument is missing",
            Fault::Surplus => "too many arguments",
            Fault::Number => "an argument is not a valid number",
        }
    }
}

/// Reads a line, given without its CR LF.
pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    let line = std::str::from_utf8(line).map_err(|_| Fault::Octets)?;
    if line.bytes().any(|octet| octet < b' ' || octet == 0x7f) {
        return Err(Fault::Octets);
    }
    let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
    let is = |name: &str| keyword.eq_ignore_ascii_case(name);
    if is("PASS") {
        // A password may begin and end with spaces (RFC 1939 7, PASS).
        return if rest.is_empty() { Err(Fault::Missing) } else { Ok(Command::Pass(rest)) };
    }
    if is("USER") {
        let name = rest.trim_matches(' ');
        return if name.is_empty() { Err(Fault::Missing) } else { Ok(Command::User(name)) };
    }
    let mut arguments = Arguments(rest);
    let command = if is("CAPA") {
        Command::Capa
    } else if is("AUTH") {
        Command::Auth { mechanism: arguments.next(), initial: arguments.next() }
    } else if is("STLS") {
        Command::Stls
    } else if is("STAT") {
        Command::Stat
    } else if is("LIST") {
        Command::List(arguments.next().map(message_number).transpose()?)
    } else if is("UIDL") {
        Command::Uidl(arguments.next().map(message_number).transpose()?)
    } else if is("RETR") {
        Command::Retr(message_number(arguments.required()?)?)
    } else if is("TOP") {
        Command::Top(message_number(arguments.required()?)?, number(arguments.required()?)?)
    } else if is("DELE") {
        Command::Dele(message_number(arguments.required()?)?)
    } else if is("RSET") {
        Command::Rset
    } else if is("NOOP") {
        Command::Noop
    } else if is("QUIT") {
        Command::Quit
    } else {
        return Err(Fault::Unknown);
    };
    match arguments.next() {
        None => Ok(command),
        Some(_) => Err(Fault::Surplus),
    }
}

/// Arguments parted by spaces.
struct Arguments<'a>(&'a str);

impl<'a> Arguments<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start_matches(' ');
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        self.0 = rest;
        Some(word).filter(|word| !word.is_empty())
    }

    fn required(&mut self) -> Result<&'a str, Fault> {
        self.next().ok_or(Fault::Missing)
    }
}

/// Digits as a number.
fn number(text: &str) -> Result<u64, Fault> {
    // `parse` alone would take a sign.
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        text.parse().map_err(|_| Fault::Number)
    } else {
        Err(Fault::Number)
    }
}

/// A message's number.
fn message_number(text: &str) -> Result<u32, Fault> {
    let number = u32::try_from(number(text)?).map_err(|_| Fault::Number)?;
    if number == 0 { Err(Fault::Number) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_ignore_case_and_spaces_at_the_end() {
        for line in ["STAT", "stat", "StAt", "STAT ", "stat   "] {
            assert_eq!(parse(line.as_bytes()), Ok(Command::Stat), "{line:?}");
        }
        assert_eq!(parse(b"TOP 3  10 "), Ok(Command::Top(3, 10)));
        assert_eq!(parse(b"LIST "), Ok(Command::List(None)));
        assert_eq!(parse(b" STAT"), Err(Fault::Unknown));
        assert_eq!(parse(b""), Err(Fault::Unknown));
        assert_eq!(parse(b"STATUS"), Err(Fault::Unknown));
    }

    #[test]
    fn a_password_is_everything_behind_the_first_space() {
        assert_eq!(parse(b"PASS  a b  "), Ok(Command::Pass(" a b  ")));
        assert_eq!(parse(b"pass x"), Ok(Command::Pass("x")));
        assert_eq!(parse(b"PASS "), Err(Fault::Missing));
        assert_eq!(parse(b"PASS"), Err(Fault::Missing));
        assert_eq!(parse(b"USER  anna smith "), Ok(Command::User("anna smith")));
        assert_eq!(parse(b"USER  "), Err(Fault::Missing));
    }

    #[test]
    fn numbers_are_digits_in_range() {
        assert_eq!(parse(b"RETR 4294967295"), Ok(Command::Retr(u32::MAX)));
        assert_eq!(parse(b"TOP 1 18446744073709551615"), Ok(Command::Top(1, u64::MAX)));
        for line in [
            "RETR 0",
            "RETR 00",
            "RETR -1",
            "RETR +1",
            "RETR 1.0",
            "RETR 0x1",
            "RETR one",
            "RETR 4294967296",
            "RETR 18446744073709551617",
            "LIST 0",
            "UIDL 0",
            "DELE 0",
            "TOP 0 1",
            "TOP 1 -1",
            "TOP 1 +0",
            "TOP 1 18446744073709551616",
            "RETR \u{661}",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Fault::Number), "{line}");
        }
    }

    #[test]
    fn arguments_are_counted() {
        for line in ["RETR", "DELE", "TOP", "TOP 1"] {
            assert_eq!(parse(line.as_bytes()), Err(Fault::Missing), "{line}");
        }
        for line in [
            "STAT 1",
            "RETR 1 2",
            "LIST 1 2",
            "TOP 1 2 3",
            "QUIT now",
            "AUTH PLAIN AA== x",
            "STLS 1",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Fault::Surplus), "{line}");
        }
        let auth = |mechanism, initial| Ok(Command::Auth { mechanism, initial });
        assert_eq!(parse(b"AUTH"), auth(None, None));
        assert_eq!(parse(b"AUTH plain"), auth(Some("plain"), None));
        assert_eq!(parse(b"AUTH plain ="), auth(Some("plain"), Some("=")));
    }

    #[test]
    fn control_characters_and_broken_utf8_are_refused() {
        for line in
            [&b"USER a\0b"[..], b"PASS a\tb", b"STAT\r", b"PASS \xff", b"\x7f", b"USER a\x1bb"]
        {
            assert_eq!(parse(line), Err(Fault::Octets), "{}", line.escape_ascii());
        }
        assert_eq!(parse("PASS pässwörd".as_bytes()), Ok(Command::Pass("pässwörd")));
    }
}
