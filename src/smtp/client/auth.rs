//! AUTH from the client's side (RFC 4954): which mechanism, and what it says.

use std::fmt;

use zeroize::Zeroizing;

use super::capability::Capabilities;

/// Who the client is. Its `Debug` form does not show the password.
#[derive(Clone, Default)]
pub struct Credentials {
    /// On whose behalf to act; empty: the login name's own.
    pub authorization: String,
    /// The login name, UTF-8.
    pub login: String,
    /// The password, UTF-8.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("authorization", &self.authorization)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
}

/// A mechanism that the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Login,
}

impl Mechanism {
    /// Every one, the preferred first.
    pub(super) const ALL: &'static [Mechanism] = &[Mechanism::Plain, Mechanism::Login];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

impl Mechanism {
    /// How many responses it takes.
    const fn responses(self) -> u32 {
        match self {
            Mechanism::Plain => 1,
            Mechanism::Login => 2,
        }
    }
}

/// One authentication.
pub(super) struct Exchange {
    mechanism: Mechanism,
    /// Responses given so far.
    given: u32,
    /// An initial response that was too long for the command: it answers the empty challenge.
    held: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Exchange {
    /// With the best mechanism that both sides know and that stands behind `tried` ones.
    pub(super) fn new(peer: &Capabilities, tried: usize) -> Option<(usize, Exchange)> {
        let rest = Mechanism::ALL.iter().enumerate().skip(tried);
        let (at, mechanism) =
            rest.into_iter().find(|(_, mechanism)| peer.offers_auth(mechanism.name()))?;
        Some((at, Exchange { mechanism: *mechanism, given: 0, held: None }))
    }

    pub(super) fn name(&self) -> &'static str {
        self.mechanism.name()
    }

    /// What may stand in the AUTH command, if the mechanism lets the client begin.
    pub(super) fn initial(&mut self, who: &Credentials) -> Option<Zeroizing<Vec<u8>>> {
        match self.mechanism {
            Mechanism::Plain => self.respond(b"", who),
            Mechanism::Login => None,
        }
    }

    /// Keeps the initial response for the peer's empty challenge.
    pub(super) fn hold(&mut self, initial: Zeroizing<Vec<u8>>) {
        self.held = Some(initial);
    }

    /// The response to a challenge; `None`: the challenge has no sense, cancel.
    pub(super) fn respond(
        &mut self,
        challenge: &[u8],
        who: &Credentials,
    ) -> Option<Zeroizing<Vec<u8>>> {
        if let Some(initial) = self.held.take() {
            return challenge.is_empty().then_some(initial);
        }
        let given = self.given;
        self.given = given.saturating_add(1);
        match (self.mechanism, given) {
            (Mechanism::Plain, 0) if challenge.is_empty() => {
                let parts = [who.authorization.as_str(), &who.login, &who.password];
                Some(Zeroizing::new(parts.join("\0").into_bytes()))
            }
            (Mechanism::Login, 0) => Some(Zeroizing::new(who.login.clone().into_bytes())),
            (Mechanism::Login, 1) => Some(Zeroizing::new(who.password.as_bytes().to_vec())),
            _ => None,
        }
    }

    /// Whether the peer may say now that all is well.
    pub(super) fn is_complete(&self) -> bool {
        self.held.is_none() && self.given >= self.mechanism.responses()
    }
}
