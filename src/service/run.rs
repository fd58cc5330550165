//! Queue runs: what waits for another attempt is tried now (ETRN, RFC 1985; `posthouse queue run`).
//!
//! # Method
//! Every entry with a recipient of the wanted domain is looked at: a recipient that was tried before and waits gets
//! the present as its next attempt, durably, and delivery is told. Its attempts go on counting, and its time to expire
//! is the same. What an operator holds, what has failed for ever, and what waits on its sender's wish (RFC 4865) is
//! left alone.
//!
//! # Cost
//! One pass over the queue, and a sync for each entry that changes: one run at a time ([`Shared::queue_run`]).

use std::sync::atomic::Ordering;

use super::Shared;
use crate::codec::address::Address;
use crate::error::{Error, Kind, Result};
use crate::store::{MessageId, QueueRecipient, RecipientState};

/// Entries that are read together.
const PAGE: usize = 256;

/// Who delivers, as the services see it.
pub trait Deliver: Send + Sync {
    /// This message may have recipients to deliver to.
    fn look(&self, id: MessageId);
    /// Hosts that could not be reached may be tried again.
    fn retry(&self);
    /// Whether mail for this address leaves by a route.
    fn has_route(&self, address: &[u8]) -> bool;
}

/// Whose mail a run is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Everybody's.
    All,
    /// A domain's, folded.
    Domain(String),
    /// A domain's and its subdomains', folded.
    Below(String),
}

impl Node {
    /// Reads a domain, behind `@` with its subdomains (RFC 1985 5.3).
    ///
    /// # Errors
    /// `InvalidArgument`: it is neither.
    pub fn parse(text: &str) -> Result<Node> {
        let (domain, below) = match text.strip_prefix('@') {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let folded = Address::parse(format!("x@{domain}").as_bytes(), true)
            .and_then(|address| address.domain_key());
        match folded {
            Some(domain) if below => Ok(Node::Below(domain)),
            Some(domain) => Ok(Node::Domain(domain)),
            None => Err(Error::new(Kind::InvalidArgument, format!("{text:?} is no domain"))),
        }
    }

    fn holds(&self, address: &[u8]) -> bool {
        let domain = || Address::parse(address, true)?.domain_key();
        match self {
            Node::All => true,
            Node::Domain(wanted) => domain().is_some_and(|domain| domain == *wanted),
            Node::Below(wanted) => domain().is_some_and(|domain| {
                domain
                    .strip_suffix(wanted.as_str())
                    .is_some_and(|front| front.is_empty() || front.ends_with('.'))
            }),
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// So many messages are on their way.
    Started(u64),
    /// No route leads to the domain.
    NoRoute,
    /// Another run is under way.
    Busy,
}

/// Whether a run is about this recipient: it waits for an attempt.
fn waits(recipient: &QueueRecipient) -> bool {
    match recipient.state {
        RecipientState::Remote => true,
        RecipientState::Deferred { attempts, .. } => attempts > 0,
        RecipientState::Local(..) | RecipientState::Held | RecipientState::Failed { .. } => false,
    }
}

impl Shared {
    /// Makes the mail for `node` due now. Blocks: reads the whole queue, and syncs what changes.
    ///
    /// # Errors
    /// What reading and writing the queue meet; what was made due before that stays so.
    pub fn queue_run(&self, node: &Node) -> Result<Run> {
        if self.running.swap(true, Ordering::Acquire) {
            return Ok(Run::Busy);
        }
        let run = self.run(node);
        self.running.store(false, Ordering::Release);
        run
    }

    fn run(&self, node: &Node) -> Result<Run> {
        let delivery = self.delivery.load();
        let routed = |address: &[u8]| {
            delivery.as_ref().as_ref().is_none_or(|delivery| delivery.has_route(address))
        };
        if let Node::Domain(domain) | Node::Below(domain) = node
            && !routed(format!("x@{domain}").as_bytes())
        {
            return Ok(Run::NoRoute);
        }
        if let Some(delivery) = delivery.as_ref() {
            delivery.retry();
        }
        let now = self.clock.unix_millis();
        let wanted = |r: &QueueRecipient| waits(r) && node.holds(&r.address) && routed(&r.address);
        let late = |r: &QueueRecipient| matches!(r.state, RecipientState::Deferred { next, .. } if next > now);
        let (mut after, mut started) = (None, 0_u64);
        loop {
            let page = self.spool.list(after, PAGE)?;
            let Some(last) = page.last() else { return Ok(Run::Started(started)) };
            after = Some(last.message);
            for entry in page {
                if !entry.recipients.iter().any(wanted) {
                    continue;
                }
                if entry.recipients.iter().any(|r| wanted(r) && late(r)) {
                    self.spool.change(entry.message, &mut |recipients| {
                        let mut any = false;
                        for recipient in recipients.iter_mut().filter(|r| wanted(r) && late(r)) {
                            if let RecipientState::Deferred { next, .. } = &mut recipient.state {
                                *next = now;
                                any = true;
                            }
                        }
                        any
                    })?;
                }
                started = started.saturating_add(1);
                self.wake_delivery(entry.message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_domain_or_with_at_its_subdomains_too() {
        let node = |text| Node::parse(text).expect("good");
        assert!(node("B.test").holds(b"x@b.TEST"));
        assert!(!node("b.test").holds(b"x@a.b.test"));
        assert!(node("@b.test").holds(b"x@a.b.test") && node("@b.test").holds(b"x@b.test"));
        assert!(!node("@b.test").holds(b"x@ab.test"));
        assert!(Node::All.holds(b"x@a.test"));
        for bad in ["", "@", "#queue", "a b", "-x.test", "x@y.test"] {
            assert_eq!(Node::parse(bad).map_err(|e| e.kind()), Err(Kind::InvalidArgument), "{bad}");
        }
    }

    #[test]
    fn only_what_was_tried_or_is_fresh_waits() {
        let of = |state| {
            waits(&QueueRecipient {
                address: b"a@b.test".to_vec(),
                parameters: Vec::new(),
                state,
                answer: Vec::new(),
            })
        };
        assert!(of(RecipientState::Remote));
        assert!(of(RecipientState::Deferred { attempts: 1, next: 5 }));
        assert!(
            !of(RecipientState::Deferred { attempts: 0, next: 5 }),
            "held on its sender's wish"
        );
        assert!(!of(RecipientState::Held) && !of(RecipientState::Failed { attempts: 1, at: 1 }));
    }
}
