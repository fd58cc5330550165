//! Logins: which mechanisms a connection is offered, and the answers to their questions, the same for SMTP and POP3.
//!
//! Questions that only need a lookup in memory (keys, a nonce) are answered at once. Those that decide are jobs for a worker
//! thread: a password's hash is slow on purpose, and a [`TokenVerifier`] may ask somebody. Every login that comes to a
//! decision is counted and told to the host once.
//!
//! While a lock-out holds no mechanism tells whether a guess is right: SCRAM ends before its keys are looked up.
//!
//! Acting for somebody else (an authorization name that is not the login name) is a right that nobody has yet: such a login
//! is refused as a wrong password is.

use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::event::Event as HostEvent;
use super::{Link, Shared};
use crate::directory::Account;
use crate::error::Result;
use crate::sasl::{Bindings, Mechanism, Mechanisms, Nonce, Question, Verdict};

/// Verifies bearer tokens (OAUTHBEARER, XOAUTH2). The host's: signing keys and issuers are its business.
pub trait TokenVerifier: Send + Sync {
    /// Whom the token stands for: a login name or primary address; `None`: nobody, or not here. Called on a worker thread, by
    /// several at once; may block. The name must mean the account that the client named, if it named one.
    ///
    /// # Errors
    /// Any: it cannot be told now. The client is told to try again later, and the error is logged.
    fn verify(&self, request: &TokenRequest<'_>) -> Result<Option<String>>;
}

/// A token to verify. Its `Debug` form does not show it.
#[derive(Clone, Copy)]
pub struct TokenRequest<'a> {
    /// OAUTHBEARER or XOAUTH2.
    pub mechanism: Mechanism,
    /// The login name that the client gave; may be empty with OAUTHBEARER.
    pub login: &'a str,
    /// The token.
    pub token: &'a str,
    /// The host that the client believes to talk to; may be empty.
    pub host: &'a str,
    /// Its port; 0: not said.
    pub port: u16,
    /// Who asks.
    pub peer: SocketAddr,
}

impl std::fmt::Debug for TokenRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest")
            .field("mechanism", &self.mechanism)
            .field("login", &self.login)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// How clients log in here.
#[derive(Clone, Default)]
pub struct Logins {
    /// The mechanisms that are offered where logging in is allowed at all.
    pub mechanisms: Mechanisms,
    /// Who verifies tokens; without it their mechanisms are not offered.
    pub tokens: Option<Arc<dyn TokenVerifier>>,
}

impl Logins {
    /// What a connection is offered: the mechanisms, and what binds its channel.
    pub(super) fn offer(&self, link: &Link) -> (Mechanisms, Option<Bindings>) {
        let mechanisms = match self.tokens {
            Some(_) => self.mechanisms,
            None => self.mechanisms.without(Mechanism::OAuthBearer).without(Mechanism::XOAuth2),
        };
        let exporter = link.tls.as_ref().and_then(|facts| facts.exporter);
        let bindings = exporter
            .map(|data| Bindings { exporter: data.to_vec(), end_point: Vec::new() })
            .filter(|_| mechanisms.contains(Mechanism::ScramSha256Plus));
        (mechanisms, bindings)
    }
}

/// What a question that decides came to.
pub(super) enum Login {
    /// It is this account.
    Account(Arc<Account>),
    /// It is nobody.
    Refused,
    /// It cannot be told now.
    Unavailable,
}

/// How a question is answered.
pub(super) enum Answer {
    /// At once.
    Now(Verdict),
    /// By a job that may block.
    Work(Box<dyn FnOnce() -> Login + Send>),
}

/// Answers a mechanism's question.
pub(super) fn answer(shared: &Arc<Shared>, link: &Link, question: &Question<'_>) -> Answer {
    let (shared, peer) = (Arc::clone(shared), link.peer);
    let own = |authorization: &str, login: &str| {
        authorization.is_empty() || authorization.eq_ignore_ascii_case(login)
    };
    match *question {
        Question::Nonce { .. } => Answer::Now(nonce().map_or(Verdict::Unavailable, Verdict::Nonce)),
        // Asked before the exchange goes on: the server's signature tells a right guess from a wrong one.
        Question::Scram { login, .. } if shared.login_locked(peer, login).is_some() => {
            Answer::Now(Verdict::Unavailable)
        }
        Question::Scram { login, .. } => {
            let keys = Box::new(shared.directory.scram_keys(login));
            Answer::Now(nonce().map_or(Verdict::Unavailable, |n| Verdict::Scram(keys, n)))
        }
        Question::Verify { authorization, login, password, .. } => {
            let own = own(authorization, login);
            let login = login.to_owned();
            let password = Zeroizing::new(password.to_owned());
            Answer::Work(Box::new(move || {
                let find = || shared.directory.verify(&login, &password).filter(|_| own);
                attempt(&shared, peer, &login, password.as_bytes(), find)
            }))
        }
        Question::CramMd5 { login, challenge, digest } => {
            let account = shared.directory.verify_cram_md5(login, challenge, digest);
            let login = login.to_owned();
            Answer::Work(Box::new(move || attempt(&shared, peer, &login, &unknown(), || account)))
        }
        Question::Outcome { authorization, login, failure, mechanism } => {
            if let Some(failure) = failure {
                tracing::debug!(mechanism = mechanism.name(), %peer, failure, "login not proved");
            }
            let proved = failure.is_none() && own(authorization, login);
            let login = login.to_owned();
            Answer::Work(Box::new(move || {
                let find = || shared.directory.account_of_login(&login).filter(|_| proved);
                attempt(&shared, peer, &login, &unknown(), find)
            }))
        }
        Question::Token { mechanism, login, token, host, port } => {
            let (login, host) = (login.to_owned(), host.to_owned());
            let token = Zeroizing::new(token.to_owned());
            Answer::Work(Box::new(move || {
                let Some(verifier) = shared.logins.load().tokens.clone() else {
                    return Login::Unavailable;
                };
                if shared.login_locked(peer, &login).is_some() {
                    return Login::Unavailable;
                }
                let (token, host) = (token.as_str(), host.as_str());
                let request = TokenRequest { mechanism, login: &login, token, host, port, peer };
                match verifier.verify(&request) {
                    Ok(name) => {
                        let account = name.as_deref().and_then(|name| meant(&shared, &login, name));
                        let shown = name.as_deref().filter(|_| login.is_empty());
                        let shown = shown.unwrap_or(&login);
                        shared.login_ended(peer, shown, token.as_bytes(), account.is_some());
                        decided(&shared, shown, account, peer)
                    }
                    Err(error) => {
                        tracing::warn!(%error, %peer, "token cannot be verified");
                        Login::Unavailable
                    }
                }
            }))
        }
    }
}

/// A login that the defences may refuse before it is looked at, and whose outcome they learn. `guess` is what was tried.
fn attempt(
    shared: &Shared,
    peer: SocketAddr,
    login: &str,
    guess: &[u8],
    find: impl FnOnce() -> Option<Arc<Account>>,
) -> Login {
    if shared.login_locked(peer, login).is_some() {
        return Login::Unavailable;
    }
    let account = find();
    shared.login_ended(peer, login, guess, account.is_some());
    decided(shared, login, account, peer)
}

/// The guess of a mechanism that does not show it: never the same as another.
fn unknown() -> Nonce {
    nonce().unwrap_or_default()
}

/// The account that a token's name means, unless the client has named another.
fn meant(shared: &Shared, login: &str, name: &str) -> Option<Arc<Account>> {
    let account = shared.directory.account_of_login(name)?;
    if login.is_empty() {
        return Some(account);
    }
    let named = shared.directory.account_of_login(login)?;
    (named.id == account.id).then_some(account)
}

fn nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    match getrandom::fill(&mut nonce) {
        Ok(()) => Some(nonce),
        Err(error) => {
            tracing::error!(%error, "no randomness for a login");
            None
        }
    }
}

/// Counts a login and tells the host.
fn decided(shared: &Shared, login: &str, account: Option<Arc<Account>>, peer: SocketAddr) -> Login {
    let accepted = account.is_some();
    if accepted {
        shared.counters.logins.up();
    } else {
        shared.counters.logins_failed.up();
        tracing::warn!(login = %login.escape_debug(), %peer, "login failed");
    }
    shared.emit(&HostEvent::Login { login, accepted, peer });
    account.map_or(Login::Refused, Login::Account)
}
