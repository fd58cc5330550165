//! The client's side of every mechanism.
//!
//! The protocol sends AUTH with [`Exchange::mechanism`] and, where it may, [`Exchange::initial`]; hands each challenge of
//! the server, decoded, to [`Exchange::respond`] and sends what that answers; and when the server says success, asks
//! [`Exchange::finish`] whether to believe it: with SCRAM the server must have proved that it knows the password
//! (RFC 5802 3). A [`Fault`] ends the exchange: cancel it (`*`), and count the login as failed.
//!
//! Nothing here is random: the nonce comes in. With SCRAM the response to the server's first message costs as many
//! iterations as the server asks, at most [`ITERATIONS_MAX`] (a third of a second): do not hold up others with it.

use std::fmt;
use std::num::NonZeroU32;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::scram::{self, Proof, are_extensions, to_saslname};
use super::{CramMd5Keys, Mechanism, Mechanisms, Nonce, SALT_MAX, nonce_text};
use crate::codec::base64;

/// Fewest iterations of SCRAM that are accepted (RFC 7677 4): fewer would make it easier to try out passwords on what
/// was overheard.
pub const ITERATIONS_MIN: u32 = 4096;

/// Most iterations of SCRAM that are accepted: a server must not take our time at will.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// Who logs in. Its `Debug` form shows no secret.
#[derive(Clone, Default)]
pub struct Credentials {
    /// On whose behalf to act; empty: the login name's own. LOGIN, CRAM-MD5 and XOAUTH2 cannot say it.
    pub authorization: String,
    /// The login name.
    pub login: String,
    /// The password, or for OAUTHBEARER and XOAUTH2 the token.
    pub secret: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// What the client knows of its TLS channel, for SCRAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// We do not bind: there is no TLS, no data, or the server offers SCRAM-SHA-256-PLUS and another mechanism is used all the same.
    #[default]
    Unbound,
    /// We could, but the server does not offer SCRAM-SHA-256-PLUS.
    NotOffered,
    /// `tls-exporter` (RFC 9266): its data.
    Exporter(Vec<u8>),
    /// `tls-server-end-point` (RFC 5929 4): its data.
    EndPoint(Vec<u8>),
}

/// Why an exchange cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The credentials cannot be said with this mechanism (a NUL, or nothing), or it needs what the channel has not.
    Credentials(&'static str),
    /// The server's message does not have the mechanism's form.
    Malformed(&'static str),
    /// The server asks for so many iterations.
    Iterations(u32),
    /// The server's nonce does not begin with ours.
    Nonce,
    /// The server reported an error (RFC 5802 7, `server-error-value`).
    Server(String),
    /// The server has not proved that it knows the password.
    Unproved,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Credentials(what) => write!(f, "these credentials cannot be used: {what}"),
            Fault::Malformed(what) => write!(f, "the server's message is malformed: {what}"),
            Fault::Iterations(n) => write!(
                f,
                "the server asks for {n} iterations, accepted are {ITERATIONS_MIN} to {ITERATIONS_MAX}"
            ),
            Fault::Nonce => f.write_str("the server's nonce does not begin with ours"),
            Fault::Server(text) => write!(f, "the server reports: {}", text.escape_debug()),
            Fault::Unproved => f.write_str("the server has not proved that it knows the password"),
        }
    }
}

impl std::error::Error for Fault {}

/// The best mechanism of those that are offered and wanted. `token`: the secret is a token. `bound`: the channel can be
/// bound; without it SCRAM-SHA-256-PLUS is not chosen.
pub fn choose(
    offered: Mechanisms,
    wanted: Mechanisms,
    token: bool,
    bound: bool,
) -> Option<Mechanism> {
    offered.iter().filter(|mechanism| wanted.contains(*mechanism)).find(|mechanism| {
        let by_token = matches!(mechanism, Mechanism::OAuthBearer | Mechanism::XOAuth2);
        by_token == token && (bound || *mechanism != Mechanism::ScramSha256Plus)
    })
}

/// One authentication, from the client's side.
pub struct Exchange {
    mechanism: Mechanism,
    credentials: Credentials,
    state: State,
    /// SCRAM: the gs2 header and the channel's data, before Base64.
    header: String,
    data: Vec<u8>,
    nonce: String,
}

enum State {
    /// Nothing was sent.
    Start,
    /// LOGIN: the name was sent.
    Named,
    /// SCRAM: the first message was sent.
    First,
    /// SCRAM: the proof was sent, and this signature must come.
    Proved([u8; 32]),
    /// All was said.
    Done,
}

impl Exchange {
    /// An exchange that has said nothing yet.
    ///
    /// # Errors
    /// [`Fault::Credentials`].
    pub fn new(
        mechanism: Mechanism,
        credentials: Credentials,
        nonce: Nonce,
        channel: Channel,
    ) -> Result<Exchange, Fault> {
        let token = matches!(mechanism, Mechanism::OAuthBearer | Mechanism::XOAuth2);
        for (text, what) in [
            (credentials.authorization.as_str(), "NUL in the authorization name"),
            (credentials.login.as_str(), "NUL in the login name"),
            (credentials.secret.as_str(), "NUL in the password"),
        ] {
            if text.contains('\0') || token && text.contains('\u{1}') {
                return Err(Fault::Credentials(what));
            }
        }
        if credentials.secret.is_empty() {
            return Err(Fault::Credentials("the password is empty"));
        }
        if credentials.login.is_empty() && mechanism != Mechanism::OAuthBearer {
            return Err(Fault::Credentials("the login name is empty"));
        }
        let plus = mechanism == Mechanism::ScramSha256Plus;
        let (flag, data) = match channel {
            Channel::Exporter(data) if plus => ("p=tls-exporter", data),
            Channel::EndPoint(data) if plus => ("p=tls-server-end-point", data),
            _ if plus => return Err(Fault::Credentials("the channel has no binding")),
            Channel::Unbound => ("n", Vec::new()),
            // The caller says with the data that PLUS was not offered.
            Channel::NotOffered | Channel::Exporter(_) | Channel::EndPoint(_) => ("y", Vec::new()),
        };
        let header = match credentials.authorization.as_str() {
            "" => format!("{flag},,"),
            name => format!("{flag},a={},", to_saslname(name)),
        };
        let nonce = nonce_text(&nonce);
        Ok(Exchange { mechanism, credentials, state: State::Start, header, data, nonce })
    }

    /// The mechanism in use.
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The initial response, for protocols and servers that take one with the command; `None` when the server speaks
    /// first. When it was asked for it must be sent; when it was not, the server sends an empty challenge.
    pub fn initial(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        if !matches!(self.state, State::Start) {
            return None;
        }
        let Credentials { authorization, login, secret } = &self.credentials;
        let (text, state) = match self.mechanism {
            Mechanism::Login | Mechanism::CramMd5 => return None,
            Mechanism::Plain => {
                (format!("{authorization}\0{login}\0{}", secret.as_str()), State::Done)
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                (format!("{}{}", self.header, self.first_bare()), State::First)
            }
            Mechanism::OAuthBearer => {
                let name = if login.is_empty() {
                    String::new()
                } else {
                    format!("a={}", to_saslname(login))
                };
                (format!("n,{name},\u{1}auth=Bearer {}\u{1}\u{1}", secret.as_str()), State::Done)
            }
            Mechanism::XOAuth2 => {
                (format!("user={login}\u{1}auth=Bearer {}\u{1}\u{1}", secret.as_str()), State::Done)
            }
        };
        self.state = state;
        Some(Zeroizing::new(text.into_bytes()))
    }

    /// The response to a challenge.
    ///
    /// # Errors
    /// A [`Fault`]: cancel the exchange.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        match (&self.state, self.mechanism) {
            // The prompts of LOGIN say what they like.
            (State::Start, Mechanism::Login) => {
                self.state = State::Named;
                Ok(secret(&self.credentials.login))
            }
            (State::Named, _) => {
                self.state = State::Done;
                Ok(secret(&self.credentials.secret))
            }
            (State::Start, Mechanism::CramMd5) => {
                self.state = State::Done;
                let digest = CramMd5Keys::derive(&self.credentials.secret).digest(challenge);
                Ok(secret(&format!("{} {digest}", self.credentials.login)))
            }
            (State::Start, _) if challenge.is_empty() => {
                self.initial().ok_or(Fault::Malformed("a challenge too many"))
            }
            (State::Start, _) => Err(Fault::Malformed("a challenge before the first message")),
            (State::First, _) => self.prove(challenge),
            (State::Proved(signature), _) => {
                verify(challenge, signature)?;
                self.state = State::Done;
                Ok(Zeroizing::default())
            }
            // The token is refused, which the server says in JSON; the response ends the exchange
            // (RFC 7628 3.2.3).
            (State::Done, Mechanism::OAuthBearer) => Ok(secret("\u{1}")),
            (State::Done, Mechanism::XOAuth2) => Ok(Zeroizing::default()),
            (State::Done, _) => Err(Fault::Malformed("a challenge too many")),
        }
    }

    /// The server says that we are authenticated. `data` is what it sent with it, decoded (in SMTP and POP3 always
    /// empty).
    ///
    /// # Errors
    /// `Unproved` when all was not said yet, or SCRAM's signature did not come.
    pub fn finish(&mut self, data: &[u8]) -> Result<(), Fault> {
        match &self.state {
            State::Done => Ok(()),
            State::Proved(signature) if !data.is_empty() => verify(data, signature),
            _ => Err(Fault::Unproved),
        }
    }

    fn first_bare(&self) -> String {
        let login = super::prep::prepare(&self.credentials.login);
        format!("n={},r={}", to_saslname(&login), self.nonce)
    }

    fn prove(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let text = std::str::from_utf8(challenge).map_err(|_| Fault::Malformed("not UTF-8"))?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(Fault::Server(error.to_owned()));
        }
        let mut attributes = text.split(',');
        let mut next = |name: &str, what| {
            attributes.next().and_then(|a| a.strip_prefix(name)).ok_or(Fault::Malformed(what))
        };
        let nonce = next("r=", "no nonce")?;
        let salt = next("s=", "no salt")?;
        let iterations = next("i=", "no number of iterations")?;
        if !are_extensions(attributes) {
            return Err(Fault::Malformed("an extension that must be understood"));
        }
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(Fault::Nonce);
        }
        if !scram::is_nonce(nonce) {
            return Err(Fault::Malformed("a nonce with other characters"));
        }
        let salt = base64::decode(salt.as_bytes())
            .filter(|salt| (1..=SALT_MAX).contains(&salt.len()))
            .ok_or(Fault::Malformed("a salt that is none"))?;
        let iterations = scram::number(iterations)
            .and_then(NonZeroU32::new)
            .ok_or(Fault::Malformed("iterations that are no number"))?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()) {
            return Err(Fault::Iterations(iterations.get()));
        }
        let mut bound = self.header.clone().into_bytes();
        bound.extend_from_slice(&self.data);
        let mut last = String::from("c=");
        base64::encode(&bound, &mut last);
        last.push_str(",r=");
        last.push_str(nonce);
        let bare = self.first_bare();
        let message: [&[u8]; 5] = [bare.as_bytes(), b",", challenge, b",", last.as_bytes()];
        let Proof { proof, signature } =
            Proof::new(&self.credentials.secret, &salt, iterations, &message);
        last.push_str(",p=");
        base64::encode(&proof, &mut last);
        self.state = State::Proved(signature);
        Ok(Zeroizing::new(last.into_bytes()))
    }
}

fn verify(message: &[u8], signature: &[u8; 32]) -> Result<(), Fault> {
    let text = std::str::from_utf8(message).map_err(|_| Fault::Malformed("not UTF-8"))?;
    if let Some(error) = text.strip_prefix("e=") {
        return Err(Fault::Server(error.to_owned()));
    }
    let mut attributes = text.split(',');
    let given = attributes.next().and_then(|a| a.strip_prefix("v="));
    let given = given.ok_or(Fault::Malformed("no signature"))?;
    let given = base64::decode(given.as_bytes()).ok_or(Fault::Malformed("no signature"))?;
    match bool::from(given.as_slice().ct_eq(signature)) && are_extensions(attributes) {
        true => Ok(()),
        false => Err(Fault::Unproved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram(nonce: &str) -> Exchange {
        let credentials = Credentials {
            login: "user".into(),
            secret: Zeroizing::new("pencil".into()),
            ..Credentials::default()
        };
        let mut exchange =
            Exchange::new(Mechanism::ScramSha256, credentials, [0; 18], Channel::Unbound).unwrap();
        exchange.nonce = nonce.to_owned();
        assert_eq!(*exchange.initial().unwrap(), format!("n,,n=user,r={nonce}").into_bytes());
        exchange
    }

    /// RFC 7677 3, the client's side.
    #[test]
    fn the_exchange_of_the_rfc() {
        let mut exchange = scram("rOprNGfwEbeRWgbNEkqO");
        let answer = exchange.respond(
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        );
        assert_eq!(
            answer.unwrap().as_slice(),
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(exchange.finish(b""), Err(Fault::Unproved));
        let signature = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(exchange.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="), {
            // The last digit has stray bits: no Base64.
            Err(Fault::Malformed("no signature"))
        });
        assert_eq!(exchange.finish(signature), Ok(()));
        assert_eq!(exchange.respond(signature).unwrap().as_slice(), b"");
        assert_eq!(exchange.finish(b""), Ok(()));
    }

    #[test]
    fn a_servers_first_message_out_of_form_is_refused() {
        let malformed = [
            "",
            "r=n1",
            "s=AAAA,r=n1,i=4096",
            "r=n1,s=AAAA",
            "r=n1,s=,i=4096",
            "r=n1,s=*,i=4096",
            "r=n1,s=AAAA,i=x",
            "r=n1,s=AAAA,i=0",
            "r=n1,s=AAAA,i=4096,m=x",
            "m=x,r=n1,s=AAAA,i=4096",
            "r=n1\u{7f},s=AAAA,i=4096",
        ];
        for text in malformed {
            let fault = scram("n").respond(text.as_bytes()).unwrap_err();
            assert!(matches!(fault, Fault::Malformed(_)), "{text}: {fault}");
        }
        assert!(matches!(scram("n").respond(b"r=n\xff"), Err(Fault::Malformed(_))));
        for text in ["r=n,s=AAAA,i=4096", "r=m1,s=AAAA,i=4096", "r=,s=AAAA,i=4096"] {
            assert_eq!(scram("n").respond(text.as_bytes()), Err(Fault::Nonce), "{text}");
        }
        let fault = scram("n").respond(b"e=unknown-user").unwrap_err();
        assert_eq!(fault, Fault::Server("unknown-user".into()));
        assert!(scram("n").respond(b"r=n1,s=AAAA,i=4096,x=1").is_ok(), "an extension");
    }

    #[test]
    fn iterations_are_bounded() {
        let ask = |n: u32| scram("n").respond(format!("r=n1,s=AAAA,i={n}").as_bytes()).map(drop);
        assert_eq!(ask(ITERATIONS_MIN), Ok(()));
        assert_eq!(ask(ITERATIONS_MIN - 1), Err(Fault::Iterations(ITERATIONS_MIN - 1)));
        assert_eq!(ask(ITERATIONS_MAX), Ok(()));
        assert_eq!(ask(ITERATIONS_MAX + 1), Err(Fault::Iterations(ITERATIONS_MAX + 1)));
    }

    #[test]
    fn a_salt_is_bounded() {
        let ask = |n: usize| {
            let mut text = String::from("r=n1,s=");
            base64::encode(&vec![1; n], &mut text);
            scram("n").respond(format!("{text},i=4096").as_bytes()).is_ok()
        };
        assert!(ask(SALT_MAX) && !ask(SALT_MAX + 1));
    }

    #[test]
    fn a_wrong_signature_is_not_believed() {
        let mut exchange = scram("n");
        exchange.respond(b"r=n1,s=AAAA,i=4096").unwrap();
        let mut wrong = String::from("v=");
        base64::encode(&[0; 32], &mut wrong);
        assert_eq!(exchange.respond(wrong.as_bytes()), Err(Fault::Unproved));
        assert_eq!(exchange.finish(b""), Err(Fault::Unproved));
        for text in ["", "v=", "x=AAAA", "e=other-error", "v=*"] {
            assert!(exchange.respond(text.as_bytes()).is_err(), "{text}");
            assert!(exchange.finish(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_that_cannot_be_said_are_refused() {
        let with = |mechanism, login: &str, secret: &str, channel| {
            let credentials = Credentials {
                login: login.into(),
                secret: Zeroizing::new(secret.into()),
                ..Credentials::default()
            };
            Exchange::new(mechanism, credentials, [0; 18], channel).map(drop)
        };
        assert!(with(Mechanism::Plain, "a\0b", "x", Channel::Unbound).is_err());
        assert!(with(Mechanism::Plain, "a", "x\0", Channel::Unbound).is_err());
        assert!(with(Mechanism::Plain, "", "x", Channel::Unbound).is_err());
        assert!(with(Mechanism::Plain, "a", "", Channel::Unbound).is_err());
        assert!(with(Mechanism::XOAuth2, "a\u{1}b", "x", Channel::Unbound).is_err());
        assert!(with(Mechanism::OAuthBearer, "", "x", Channel::Unbound).is_ok());
        assert!(with(Mechanism::ScramSha256Plus, "a", "x", Channel::Unbound).is_err());
        assert!(with(Mechanism::ScramSha256Plus, "a", "x", Channel::Exporter(vec![1])).is_ok());
    }

    #[test]
    fn the_strongest_mechanism_that_fits_is_chosen() {
        let all = Mechanisms::from_names(b"PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256 SCRAM-SHA-256-PLUS");
        let tokens = Mechanisms::from_names(b"PLAIN XOAUTH2 OAUTHBEARER");
        assert_eq!(choose(all, all, false, true), Some(Mechanism::ScramSha256Plus));
        assert_eq!(choose(all, all, false, false), Some(Mechanism::ScramSha256));
        assert_eq!(choose(all, Mechanisms::PASSWORD, false, true), Some(Mechanism::Plain));
        assert_eq!(choose(tokens, tokens, true, true), Some(Mechanism::OAuthBearer));
        assert_eq!(choose(Mechanisms::PASSWORD, tokens, true, true), None);
    }
}
