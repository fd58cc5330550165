//! SASL mechanisms as machines without I/O (RFC 4422): PLAIN (RFC 4616), LOGIN.
//!
//! A server machine collects what the client sends and asks its caller one [`Question`]; the caller
//! looks up and verifies, and answers.
//!
//! An [`Exchange`] is one authentication. The protocol (SMTP's AUTH, POP3's AUTH) frames and decodes the lines and
//! hands the client's responses in; each brings a [`Progress`]: a challenge to send, the question to ask, or the
//! finding that the response is malformed, which ends the exchange. What the client sent is wiped from memory when
//! the exchange is dropped. The caller bounds the responses by bounding its lines.
//!
//! Names and passwords are UTF-8 and pass as they are, without SASLprep: PLAIN leaves the preparation to the side
//! that verifies. NUL never passes. An empty login name or password is malformed (RFC 4616 2 asks for one character).

use std::fmt;

use zeroize::Zeroizing;

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The old Microsoft mechanism: user name and password asked one after the other.
    Login,
}

impl Mechanism {
    /// Every mechanism, the preferred first: the order in which they are offered.
    pub const ALL: &'static [Mechanism] = &[Mechanism::Plain, Mechanism::Login];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }

    /// The mechanism with this name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Mechanism> {
        Mechanism::ALL.iter().copied().find(|m| m.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// What a mechanism asks its caller. Its `Debug` form does not show the password.
pub enum Question<'a> {
    /// Is this the password of this login name?
    Verify {
        /// The mechanism in use.
        mechanism: Mechanism,
        /// On whose behalf to act; empty: the login name's own.
        authorization: &'a str,
        /// The login name.
        login: &'a str,
        /// The password.
        password: &'a str,
    },
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question::Verify { mechanism, authorization, login, password: _ } = self;
        f.debug_struct("Verify")
            .field("mechanism", mechanism)
            .field("authorization", authorization)
            .field("login", login)
            .finish_non_exhaustive()
    }
}

/// The caller's answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client is who it says.
    Accept,
    /// Wrong login name or password.
    Refuse,
    /// It cannot be told now (the directory is not there, too many at once).
    Unavailable,
}

/// What comes next in an [`Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send this challenge (not yet Base64) and hand in the client's response.
    Challenge(&'static str),
    /// All is there: ask [`Exchange::question`].
    Ask,
    /// The response does not have the mechanism's form. The exchange is over.
    Malformed,
}

/// One authentication, from the server's side.
pub struct Exchange {
    mechanism: Mechanism,
    authorization: Zeroizing<String>,
    login: Zeroizing<String>,
    password: Zeroizing<String>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// PLAIN's only message, or LOGIN's user name.
    First,
    /// LOGIN's password.
    Password,
    /// The question can be asked.
    Complete,
    /// A response was malformed.
    Failed,
}

impl Exchange {
    /// An exchange that has seen nothing yet.
    pub fn new(mechanism: Mechanism) -> Exchange {
        Exchange {
            mechanism,
            authorization: Zeroizing::default(),
            login: Zeroizing::default(),
            password: Zeroizing::default(),
            state: State::First,
        }
    }

    /// The mechanism in use.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The client sent no initial response: the first challenge.
    pub fn challenge(&self) -> Progress {
        Progress::Challenge(match self.mechanism {
            Mechanism::Plain => "",
            Mechanism::Login => "Username:",
        })
    }

    /// A response of the client, decoded.
    pub fn respond(&mut self, response: &[u8]) -> Progress {
        let progress = self.take(response).unwrap_or(Progress::Malformed);
        if progress == Progress::Malformed {
            self.state = State::Failed;
        }
        progress
    }

    /// What to ask, once [`Progress::Ask`] was answered; `None` before.
    pub fn question(&self) -> Option<Question<'_>> {
        (self.state == State::Complete).then_some(Question::Verify {
            mechanism: self.mechanism,
            authorization: &self.authorization,
            login: &self.login,
            password: &self.password,
        })
    }

    /// Octets of memory that it holds, itself included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Exchange>()
            + self.authorization.capacity()
            + self.login.capacity()
            + self.password.capacity()
    }

    fn take(&mut self, response: &[u8]) -> Option<Progress> {
        let text = std::str::from_utf8(response).ok()?;
        match (self.mechanism, self.state) {
            (Mechanism::Plain, State::First) => {
                let mut parts = text.split('\0');
                self.authorization = secret(parts.next()?);
                self.login = secret_nonempty(parts.next()?)?;
                self.password = secret_nonempty(parts.next()?)?;
                if parts.next().is_some() {
                    return None;
                }
                self.state = State::Complete;
                Some(Progress::Ask)
            }
            (Mechanism::Login, State::First) => {
                self.login = secret_nonempty(text)?;
                self.state = State::Password;
                Some(Progress::Challenge("Password:"))
            }
            (Mechanism::Login, State::Password) => {
                self.password = secret_nonempty(text)?;
                self.state = State::Complete;
                Some(Progress::Ask)
            }
            (_, State::Complete | State::Failed) | (Mechanism::Plain, State::Password) => None,
        }
    }
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn secret_nonempty(text: &str) -> Option<Zeroizing<String>> {
    (!text.is_empty() && !text.contains('\0')).then(|| secret(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(exchange: &Exchange) -> Option<(String, String, String)> {
        exchange.question().map(|Question::Verify { authorization, login, password, .. }| {
            (authorization.to_owned(), login.to_owned(), password.to_owned())
        })
    }

    #[test]
    fn plain_asks_with_its_three_parts() {
        let mut exchange = Exchange::new(Mechanism::Plain);
        assert_eq!(exchange.challenge(), Progress::Challenge(""));
        assert_eq!(answer(&exchange), None);
        assert_eq!(exchange.respond("other\0us\u{e9}r\0pass word".as_bytes()), Progress::Ask);
        let expected = ("other".into(), "us\u{e9}r".into(), "pass word".into());
        assert_eq!(answer(&exchange), Some(expected));
    }

    #[test]
    fn the_debug_form_of_a_question_hides_the_password() {
        let mut exchange = Exchange::new(Mechanism::Plain);
        exchange.respond(b"\0user\0hunter2");
        let text = format!("{:?}", exchange.question());
        assert!(text.contains("user") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn plain_without_its_form_is_malformed() {
        for response in [
            b"".as_slice(),
            b"\0",
            b"\0\0",
            b"user\0pass",
            b"\0user\0",
            b"\0\0pass",
            b"\0user\0pass\0more",
            b"\0user\0pa\xffss",
        ] {
            let mut exchange = Exchange::new(Mechanism::Plain);
            assert_eq!(
                exchange.respond(response),
                Progress::Malformed,
                "{}",
                response.escape_ascii()
            );
            assert_eq!(answer(&exchange), None);
            assert_eq!(exchange.respond(b"\0user\0pass"), Progress::Malformed, "it stays so");
        }
    }

    #[test]
    fn login_asks_for_name_and_password() {
        let mut exchange = Exchange::new(Mechanism::Login);
        assert_eq!(exchange.challenge(), Progress::Challenge("Username:"));
        assert_eq!(exchange.respond(b"user"), Progress::Challenge("Password:"));
        assert_eq!(answer(&exchange), None);
        assert_eq!(exchange.respond(b"pass"), Progress::Ask);
        assert_eq!(answer(&exchange), Some((String::new(), "user".into(), "pass".into())));
        assert_eq!(exchange.respond(b"more"), Progress::Malformed);
    }

    #[test]
    fn login_without_a_name_or_with_nul_is_malformed() {
        for response in [b"".as_slice(), b"a\0b", b"\xff"] {
            let mut exchange = Exchange::new(Mechanism::Login);
            assert_eq!(exchange.respond(response), Progress::Malformed);
        }
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Mechanism::from_name(b"plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::from_name(b"LoGiN"), Some(Mechanism::Login));
        assert_eq!(Mechanism::from_name(b"PLAINX"), None);
    }
}
