//! SASL mechanisms as machines without I/O (RFC 4422): PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), SCRAM-SHA-256 and
//! SCRAM-SHA-256-PLUS (RFC 5802, 7677), OAUTHBEARER (RFC 7628), XOAUTH2.
//!
//! # Method
//! An [`Exchange`] is one authentication from the server's side; [`client::Exchange`] is the other side. The protocol
//! (SMTP's AUTH, POP3's AUTH) frames and decodes the lines and hands the client's responses in. Each brings a
//! [`Progress`]: a challenge to send, or a [`Question`] for the caller, who looks up, verifies, draws a nonce, and answers
//! with a [`Verdict`], which brings the next [`Progress`]. Nothing here is random: nonces come with the answers.
//!
//! ```text
//! PLAIN, LOGIN          Verify
//! CRAM-MD5              Nonce, CramMd5
//! SCRAM                 Scram, Outcome
//! OAUTHBEARER, XOAUTH2  Token
//! ```
//!
//! # Invariants
//! - Every exchange whose responses were well-formed ends with one question that decides (`Verify`, `CramMd5`, `Token`,
//!   `Outcome`), also when it is already known that it has failed, so that the caller hears of every login that failed.
//!   An `Accept` to any other question, or to an `Outcome` with a failure, authenticates nobody.
//! - A malformed response ends the exchange.
//! - Passwords, tokens and keys are wiped from memory when the exchange is dropped. The caller bounds the responses by
//!   bounding its lines.
//!
//! Names and passwords are UTF-8. PLAIN and LOGIN leave their preparation to the side that verifies; SCRAM prepares
//! passwords ([`prep`]), and hands out names as they came. NUL never passes. An empty login name or password is malformed
//! (RFC 4616 2 asks for one character).

use std::fmt;

mod choice;
pub mod client;
mod cram_md5;
mod crypto;
mod md5;
mod mechanism;
mod password;
pub mod prep;
mod scram;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use choice::Choice;
pub use cram_md5::CramMd5Keys;
pub use mechanism::{Mechanism, Mechanisms};
pub use scram::{ITERATIONS, SALT_MAX, ScramKeys};

/// Octets that nobody can foresee, drawn anew for each exchange.
pub type Nonce = [u8; 18];

/// A nonce as text: 24 characters of Base64, among which there is no comma.
fn nonce_text(nonce: &Nonce) -> String {
    let mut text = String::new();
    crate::codec::base64::encode(nonce, &mut text);
    text
}

/// What ties an exchange to its TLS channel (RFC 5056): the data of each binding type, empty when it is not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266): 32 octets.
    pub exporter: Vec<u8>,
    /// `tls-server-end-point` (RFC 5929 4): the hash of the server's certificate.
    pub end_point: Vec<u8>,
}

impl Bindings {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.exporter.is_empty() && self.end_point.is_empty()
    }

    /// The data of a binding type.
    fn named(&self, name: &str) -> Option<&[u8]> {
        let data = match name {
            "tls-exporter" => &self.exporter,
            "tls-server-end-point" => &self.end_point,
            _ => return None,
        };
        (!data.is_empty()).then_some(data)
    }

    /// Octets of memory on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.exporter.capacity() + self.end_point.capacity()
    }
}

impl fmt::Debug for Bindings {
    /// Shows no data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bindings").finish_non_exhaustive()
    }
}

/// What a mechanism asks its caller. Its `Debug` form shows no password, digest or token.
pub enum Question<'a> {
    /// Is this the password of this login name? *Decides.*
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
    /// A nonce is needed: [`Verdict::Nonce`].
    Nonce {
        /// The mechanism in use.
        mechanism: Mechanism,
    },
    /// Which keys verify this login name's password? [`Verdict::Scram`]; for names that nobody has, with
    /// [`ScramKeys::decoy`]. `Refuse` tells the client that there is no such name.
    Scram {
        /// The mechanism in use.
        mechanism: Mechanism,
        /// On whose behalf to act; empty: the login name's own.
        authorization: &'a str,
        /// The login name.
        login: &'a str,
    },
    /// Is this the digest for this challenge? [`CramMd5Keys::verify`] tells. *Decides.*
    CramMd5 {
        /// The login name.
        login: &'a str,
        /// What we sent.
        challenge: &'a str,
        /// What the client made of it: 32 hexadecimal digits.
        digest: &'a str,
    },
    /// May the bearer of this token log in? *Decides.*
    Token {
        /// The mechanism in use.
        mechanism: Mechanism,
        /// The login name; empty (OAUTHBEARER only): the one that the token says.
        login: &'a str,
        /// The token.
        token: &'a str,
        /// The host that the client believes to talk to; may be empty.
        host: &'a str,
        /// Its port; 0: not said.
        port: u16,
    },
    /// The client has proved that it knows the password, or has failed to. *Decides*: the account may still be refused.
    /// To a failure every answer but `Unavailable` refuses.
    Outcome {
        /// The mechanism in use.
        mechanism: Mechanism,
        /// On whose behalf to act; empty: the login name's own.
        authorization: &'a str,
        /// The login name.
        login: &'a str,
        /// Why it failed, for the log; `None`: proved.
        failure: Option<&'static str>,
    },
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Verify { mechanism, authorization, login, password: _ } => f
                .debug_struct("Verify")
                .field("mechanism", mechanism)
                .field("authorization", authorization)
                .field("login", login)
                .finish_non_exhaustive(),
            Question::Nonce { mechanism } => {
                f.debug_struct("Nonce").field("mechanism", mechanism).finish()
            }
            Question::Scram { mechanism, authorization, login } => f
                .debug_struct("Scram")
                .field("mechanism", mechanism)
                .field("authorization", authorization)
                .field("login", login)
                .finish(),
            Question::CramMd5 { login, challenge, digest: _ } => f
                .debug_struct("CramMd5")
                .field("login", login)
                .field("challenge", challenge)
                .finish_non_exhaustive(),
            Question::Token { mechanism, login, token: _, host, port } => f
                .debug_struct("Token")
                .field("mechanism", mechanism)
                .field("login", login)
                .field("host", host)
                .field("port", port)
                .finish_non_exhaustive(),
            Question::Outcome { mechanism, authorization, login, failure } => f
                .debug_struct("Outcome")
                .field("mechanism", mechanism)
                .field("authorization", authorization)
                .field("login", login)
                .field("failure", failure)
                .finish(),
        }
    }
}

/// The caller's answer to a [`Question`]. One that does not fit the question counts as `Unavailable`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client is who it says.
    Accept,
    /// Wrong login name or password.
    Refuse,
    /// It cannot be told now (the directory is not there, too many at once).
    Unavailable,
    /// The answer to [`Question::Nonce`].
    Nonce(Nonce),
    /// The answer to [`Question::Scram`].
    Scram(Box<ScramKeys>, Nonce),
}

impl Verdict {
    /// What it means to a question that decides.
    fn plain(self) -> Progress {
        match self {
            Verdict::Accept => Progress::Accepted,
            Verdict::Refuse => Progress::Refused,
            Verdict::Unavailable | Verdict::Nonce(_) | Verdict::Scram(..) => Progress::Unavailable,
        }
    }
}

/// What comes next in an [`Exchange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send [`Exchange::challenge`] (not yet Base64) and hand in the client's response.
    Challenge,
    /// Ask [`Exchange::question`] and bring the answer.
    Ask,
    /// The response does not have the mechanism's form. The exchange is over.
    Malformed,
    /// The client is authenticated. The exchange is over.
    Accepted,
    /// The client is not authenticated. The exchange is over.
    Refused,
    /// It cannot be told now. The exchange is over.
    Unavailable,
}

/// One mechanism's side of an [`Exchange`], which keeps the turns: `respond` comes after a challenge or at the beginning,
/// `answer` after `Ask`.
trait Machine: Send {
    fn start(&mut self) -> Progress;
    fn respond(&mut self, response: &[u8]) -> Option<Progress>;
    fn answer(&mut self, verdict: Verdict) -> Progress {
        verdict.plain()
    }
    fn question(&self) -> Question<'_>;
    fn challenge(&self) -> &[u8];
    fn memory_bytes(&self) -> usize;
}

/// One authentication, from the server's side.
pub struct Exchange {
    mechanism: Mechanism,
    machine: Box<dyn Machine>,
    turn: Turn,
}

/// Whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Client,
    Caller,
    Nobody,
}

impl Exchange {
    /// An exchange that has seen nothing yet. `bindings` are there when SCRAM-SHA-256-PLUS was offered on this
    /// connection, whichever mechanism the client chose.
    pub fn new(mechanism: Mechanism, bindings: Option<&Bindings>) -> Exchange {
        let scram = |plus| Box::new(scram::Server::new(plus, bindings.cloned()));
        let machine: Box<dyn Machine> = match mechanism {
            Mechanism::ScramSha256Plus => scram(true),
            Mechanism::ScramSha256 => scram(false),
            Mechanism::Plain => Box::new(password::Plain::default()),
            Mechanism::Login => Box::new(password::Login::default()),
            Mechanism::CramMd5 => Box::new(cram_md5::Server::default()),
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => Box::new(token::Server::new(mechanism)),
        };
        Exchange { mechanism, machine, turn: Turn::Client }
    }

    /// The mechanism in use.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The client sent no initial response.
    pub fn start(&mut self) -> Progress {
        let progress = self.machine.start();
        self.after(progress)
    }

    /// A response of the client, decoded; at the beginning, its initial response.
    pub fn respond(&mut self, response: &[u8]) -> Progress {
        let progress = match self.turn {
            Turn::Client => self.machine.respond(response),
            Turn::Caller | Turn::Nobody => None,
        };
        self.after(progress.unwrap_or(Progress::Malformed))
    }

    /// The answer to [`Exchange::question`]. Without a question it ends the exchange as `Unavailable`.
    pub fn answer(&mut self, verdict: Verdict) -> Progress {
        let progress = match self.turn {
            Turn::Caller => self.machine.answer(verdict),
            Turn::Client | Turn::Nobody => Progress::Unavailable,
        };
        self.after(progress)
    }

    /// What to ask, after [`Progress::Ask`]; `None` at other times.
    pub fn question(&self) -> Option<Question<'_>> {
        (self.turn == Turn::Caller).then(|| self.machine.question())
    }

    /// What to send, after [`Progress::Challenge`].
    pub fn challenge(&self) -> &[u8] {
        self.machine.challenge()
    }

    /// Octets of memory that it holds, itself included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Exchange>() + self.machine.memory_bytes()
    }

    fn after(&mut self, progress: Progress) -> Progress {
        self.turn = match progress {
            Progress::Challenge => Turn::Client,
            Progress::Ask => Turn::Caller,
            _ => Turn::Nobody,
        };
        progress
    }
}
