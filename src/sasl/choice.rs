//! What a connection's AUTH offers: the caller's mechanisms, and what binds the channel.

use super::{Bindings, Mechanism, Mechanisms};

/// What AUTH offers, where it is offered. PLAIN and LOGIN until something is chosen.
#[derive(Default)]
pub(crate) struct Choice {
    mechanisms: Option<Mechanisms>,
    bindings: Option<Box<Bindings>>,
}

impl Choice {
    /// These mechanisms; SCRAM-SHA-256-PLUS only with data of the channel.
    pub(crate) fn new(mechanisms: Mechanisms, bindings: Option<Bindings>) -> Choice {
        let bindings = bindings.filter(|b| !b.is_empty()).map(Box::new);
        Choice { mechanisms: Some(mechanisms), bindings }
    }

    /// The mechanisms that can be used on this connection.
    pub(crate) fn mechanisms(&self) -> Mechanisms {
        let chosen = self.mechanisms.unwrap_or(Mechanisms::PASSWORD);
        match self.bindings {
            Some(_) => chosen,
            None => chosen.without(Mechanism::ScramSha256Plus),
        }
    }

    /// The channel's data, when PLUS is offered.
    pub(crate) fn bindings(&self) -> Option<&Bindings> {
        let bindings = self.bindings.as_deref();
        bindings.filter(|_| self.mechanisms().contains(Mechanism::ScramSha256Plus))
    }

    /// Another channel: its data is not known yet.
    pub(crate) fn forget_channel(&mut self) {
        self.bindings = None;
    }

    /// Octets of memory behind it.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bindings.as_ref().map_or(0, |b| size_of::<Bindings>() + b.memory_bytes())
    }
}
