//! The AUTHORIZATION state: who is it? USER and PASS, AUTH, STLS (RFC 1939 4, RFC 5034, RFC 2595).

use zeroize::Zeroizing;

use super::{Denial, Server, Signal, State};
use crate::codec::base64;
use crate::pop3::command::Command;
use crate::pop3::reply::{code, line};
use crate::sasl::{Exchange, Mechanism, Progress};

/// What a login is verified with.
pub(super) enum Login {
    /// USER and PASS. To the verifier the same as the LOGIN mechanism, which copies them.
    Password { login: Box<str>, password: Zeroizing<String> },
    /// AUTH.
    Sasl(Exchange),
}

impl Server {
    /// A command in the AUTHORIZATION state.
    pub(super) fn authorization(
        &mut self,
        command: Command<'_>,
        out: &mut Vec<u8>,
    ) -> Option<Signal> {
        match command {
            Command::Capa => self.capabilities(out),
            Command::Quit => {
                line(out, format_args!("+OK bye"));
                self.set_state(State::Closed);
            }
            Command::Stls => {
                if self.offers_stls() {
                    line(out, format_args!("+OK begin the TLS handshake"));
                    self.set_state(State::AwaitTls);
                    return Some(Signal::StartTls);
                }
                let text =
                    if self.offer.tls { "TLS is on already" } else { "TLS is not available" };
                self.fail(code::NONE, text, out);
            }
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.offer.login => {
                let text = if self.offers_stls() {
                    "logging in needs TLS: use STLS first"
                } else {
                    "logging in is not allowed on this connection"
                };
                self.fail(code::NONE, text, out);
            }
            Command::User(name) => {
                self.user = Some(name.into());
                // The same for every name: whether it exists is not told.
                line(out, format_args!("+OK now the password"));
            }
            Command::Pass(password) => {
                let Some(login) = self.user.take() else {
                    self.fail(code::NONE, "USER comes before PASS", out);
                    return None;
                };
                let password = Zeroizing::new(password.to_owned());
                self.set_state(State::AwaitLogin(Box::new(Login::Password { login, password })));
                return Some(Signal::Login);
            }
            Command::Auth { mechanism: None, .. } => {
                line(out, format_args!("+OK mechanisms follow"));
                for mechanism in Mechanism::ALL {
                    line(out, format_args!("{}", mechanism.name()));
                }
                line(out, format_args!("."));
            }
            Command::Auth { mechanism: Some(name), initial } => {
                let Some(mechanism) = Mechanism::from_name(name.as_bytes()) else {
                    self.fail(code::NONE, "unknown mechanism", out);
                    return None;
                };
                let exchange = Exchange::new(mechanism);
                let challenge = exchange.challenge();
                self.set_state(State::Exchange(Box::new(exchange)));
                match initial {
                    // A single equals sign is an empty response (RFC 5034 4).
                    Some("=") => return self.response(b"", out),
                    Some(text) => return self.response(text.as_bytes(), out),
                    None => return self.progress(challenge, out),
                }
            }
            _ => self.fail(code::NONE, "log in first", out),
        }
        None
    }

    /// The client's line in an AUTH exchange.
    pub(super) fn response(&mut self, text: &[u8], out: &mut Vec<u8>) -> Option<Signal> {
        if text == b"*" {
            self.set_state(State::Authorization);
            self.fail(code::NONE, "authentication was cancelled", out);
            return None;
        }
        let Some(response) = base64::decode(text) else {
            self.set_state(State::Authorization);
            self.fail(code::NONE, "the response is not Base64", out);
            return None;
        };
        let State::Exchange(exchange) = &mut self.state else { return None };
        let progress = exchange.respond(&response);
        self.progress(progress, out)
    }

    fn progress(&mut self, progress: Progress, out: &mut Vec<u8>) -> Option<Signal> {
        match progress {
            Progress::Challenge(text) => {
                let mut challenge = String::new();
                base64::encode(text.as_bytes(), &mut challenge);
                line(out, format_args!("+ {challenge}"));
                None
            }
            Progress::Malformed => {
                self.set_state(State::Authorization);
                self.fail(code::NONE, "the response does not have the mechanism's form", out);
                None
            }
            Progress::Ask => {
                let State::Exchange(exchange) =
                    std::mem::replace(&mut self.state, State::Authorization)
                else {
                    return None;
                };
                self.set_state(State::AwaitLogin(Box::new(Login::Sasl(*exchange))));
                Some(Signal::Login)
            }
        }
    }

    /// The reply to a login that failed.
    pub(super) fn deny(&mut self, denial: Denial, out: &mut Vec<u8>) {
        match denial {
            Denial::Credentials => {
                self.login_failures = self.login_failures.saturating_add(1);
                self.fail(code::AUTH, "wrong login name or password", out);
                if self.login_failures >= self.config.limits.login_failures {
                    self.set_state(State::Closed);
                }
            }
            Denial::InUse => {
                self.fail(code::IN_USE, "another session has the maildrop open", out);
            }
            Denial::Temporary => {
                self.fail(
                    code::TEMPORARY,
                    "the maildrop cannot be opened now, try again later",
                    out,
                );
            }
        }
    }
}
