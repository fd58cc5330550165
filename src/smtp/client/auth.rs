//! AUTH from the client's side (RFC 4954): which mechanism, what it is told of the channel, and its framing's bounds.
//! What a mechanism says is [`sasl::client`]'s.

use std::fmt;

use zeroize::Zeroizing;

use super::capability::Capabilities;
use crate::sasl::client::{self as sasl, Channel, Credentials, choose};
use crate::sasl::{Mechanism, Mechanisms, Nonce};

/// Who the client is, and by which mechanisms it may say so.
#[derive(Clone, Debug)]
pub struct Login {
    /// Names and password or token.
    pub credentials: Credentials,
    /// The secret is a token, for OAUTHBEARER and XOAUTH2, and not a password.
    pub token: bool,
    /// Mechanisms that may be used; the best that the peer offers is. [`Login::new`]: all.
    pub mechanisms: Mechanisms,
}

impl Login {
    /// With a password, by whatever mechanism.
    pub fn new(credentials: Credentials) -> Login {
        let all = Mechanism::ALL.iter().fold(Mechanisms::NONE, |set, one| set.with(*one));
        Login { credentials, token: false, mechanisms: all }
    }
}

/// What a session brings for its exchanges.
#[derive(Debug, Default)]
pub(super) struct Means {
    /// Without it SCRAM is not used.
    pub(super) nonce: Option<Nonce>,
    pub(super) channel: Channel,
    /// What was tried already.
    pub(super) tried: Vec<Mechanism>,
}

/// One authentication.
pub(super) struct Exchange {
    exchange: sasl::Exchange,
    /// An initial response that was too long for the command: it answers the empty challenge.
    held: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange").field(&self.exchange.mechanism()).finish()
    }
}

impl Exchange {
    /// With the best mechanism that both sides know and that was not tried yet. The text says why there is none.
    pub(super) fn new(
        peer: &Capabilities,
        login: &Login,
        means: &mut Means,
    ) -> Result<Exchange, String> {
        let offered = Mechanisms::from_names(peer.auth.join(" ").as_bytes());
        let mut wanted = means.tried.iter().fold(login.mechanisms, |set, one| set.without(*one));
        if means.nonce.is_none() {
            wanted = wanted.without(Mechanism::ScramSha256).without(Mechanism::ScramSha256Plus);
        }
        let bound = matches!(means.channel, Channel::Exporter(_) | Channel::EndPoint(_));
        let Some(mechanism) = choose(offered, wanted, login.token, bound) else {
            return Err("The receiving system offers no AUTH mechanism that can be used".to_owned());
        };
        means.tried.push(mechanism);
        let nonce = means.nonce.unwrap_or_default();
        let plus = Mechanism::ScramSha256Plus;
        // "Could bind, but it is not offered" is said only where that is so (RFC 5802 6).
        let channel = match mechanism == plus || !offered.contains(plus) {
            true => means.channel.clone(),
            false => Channel::Unbound,
        };
        let exchange = sasl::Exchange::new(mechanism, login.credentials.clone(), nonce, channel);
        match exchange {
            Ok(exchange) => Ok(Exchange { exchange, held: None }),
            Err(fault) => Err(fault.to_string()),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.exchange.mechanism().name()
    }

    /// What may stand in the AUTH command, if the mechanism lets the client begin.
    pub(super) fn initial(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.exchange.initial()
    }

    /// Keeps the initial response for the peer's empty challenge.
    pub(super) fn hold(&mut self, initial: Zeroizing<Vec<u8>>) {
        self.held = Some(initial);
    }

    /// The response to a challenge. The text says why there is none: cancel.
    pub(super) fn respond(&mut self, challenge: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        match self.held.take() {
            Some(initial) if challenge.is_empty() => Ok(initial),
            Some(_) => Err("a challenge before the first message".to_owned()),
            None => self.exchange.respond(challenge).map_err(|fault| fault.to_string()),
        }
    }

    /// The peer says that all is well. The text says why that is not believed.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        match self.held {
            Some(_) => Err("nothing was said yet".to_owned()),
            None => self.exchange.finish(b"").map_err(|fault| fault.to_string()),
        }
    }
}
