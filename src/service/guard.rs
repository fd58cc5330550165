//! What the defences say on the way of an SMTP session: rates, pauses, the least speed of a message, lock-out.
//!
//! A [`Guard`] belongs to one connection. It looks at each event before it is answered, and at the machine's
//! figures after each step. Peers of exempt networks are let through everywhere.

use std::net::SocketAddr;

use super::{Link, Shared};
use crate::directory::Account;
use crate::policy::defence::{Counted, Locked};
use crate::sasl;
use crate::smtp::Reply;
use crate::smtp::server::Event;
use crate::time::Time;

/// The books of one connection.
pub(super) struct Guard {
    exempt: bool,
    /// The machine's figures when they were looked at last.
    commands: u32,
    errors: u32,
    /// Milliseconds to wait before the next command is taken.
    pause: u64,
    /// When the body began, and octets of it so far.
    body: Option<(Time, u64)>,
}

/// What the guard says of an event.
pub(super) enum Objection {
    /// It is answered with this instead.
    Reply(Reply<'static>),
    /// The connection ends with these words.
    Close(&'static [u8]),
}

const MANY_COMMANDS: &[u8] = b"421 4.7.0 Too many commands, try again later\r\n";
const SLOW: &[u8] = b"421 4.4.2 The message comes too slowly\r\n";
const MANY_MESSAGES: Reply<'static> = Reply::new(450, 7, 1, "Too many messages, try again later");
const MANY_RECIPIENTS: Reply<'static> =
    Reply::new(450, 7, 1, "Too many recipients, try again later");

impl Guard {
    pub fn new(shared: &Shared, link: &Link) -> Guard {
        let exempt = shared.rules.load().defence.is_exempt(link.peer.ip());
        Guard { exempt, commands: 0, errors: 0, pause: 0, body: None }
    }

    /// The connection is another peer's from now on; what it has done so far is not counted again.
    pub fn moved(&mut self, shared: &Shared, link: &Link) {
        self.exempt = shared.rules.load().defence.is_exempt(link.peer.ip());
    }

    /// Looks at an event that is about to be answered.
    pub fn object(
        &mut self,
        shared: &Shared,
        link: &Link,
        event: &Event<'_>,
        now: Time,
    ) -> Option<Objection> {
        if self.exempt {
            return None;
        }
        let rules = shared.rules.load();
        let defence = &rules.defence;
        let over = |what| {
            let counted = shared.defences.count(defence, link.peer.ip(), what, 1, now);
            counted.inspect_err(|e| tracing::warn!(peer = %link.peer, ?e, "rate used up")).is_err()
        };
        match event {
            Event::Mail { .. } if over(Counted::Message) => Some(Objection::Reply(MANY_MESSAGES)),
            Event::Rcpt { .. } if over(Counted::Recipient) => {
                Some(Objection::Reply(MANY_RECIPIENTS))
            }
            Event::DataStart => {
                self.body = Some((now, 0));
                None
            }
            Event::DataChunk(bytes) => {
                let (began, octets) = self.body.get_or_insert((now, 0));
                *octets = octets.saturating_add(bytes.len() as u64);
                defence.is_too_slow(*octets, *began, now).then_some(Objection::Close(SLOW))
            }
            _ => None,
        }
    }

    /// Looks at the machine's figures after a step: commands and refusals so far.
    pub fn look(
        &mut self,
        shared: &Shared,
        link: &Link,
        (commands, errors): (u32, u32),
        now: Time,
    ) -> Option<Objection> {
        if self.exempt {
            return None;
        }
        let fresh = commands.saturating_sub(self.commands);
        let erred = errors > self.errors;
        (self.commands, self.errors) = (commands, errors);
        if fresh == 0 && !erred {
            return None;
        }
        let rules = shared.rules.load();
        if erred {
            self.pause = rules.defence.tarpit(errors);
        }
        let counted =
            shared.defences.count(&rules.defence, link.peer.ip(), Counted::Command, fresh, now);
        counted.is_err().then_some(Objection::Close(MANY_COMMANDS))
    }

    /// Milliseconds to wait now, told once.
    pub fn pause(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.pause)).filter(|millis| *millis > 0)
    }
}

impl Shared {
    /// Whether an account that has logged in was removed since.
    pub(super) fn is_gone(&self, account: &Account) -> bool {
        let now = self.directory.account_of_login(&account.login);
        now.is_none_or(|now| now.id != account.id)
    }

    /// Whether a login must not even be tried. May be called on any thread. Here and below a name counts as one in all the
    /// spellings that the directory takes for it.
    pub(super) fn login_locked(&self, peer: SocketAddr, login: &str) -> Option<Locked> {
        let rules = self.rules.load();
        let name = sasl::prep::prepare(login);
        let locked = self.defences.locked(&rules.defence, peer.ip(), &name, self.clock.now());
        if let Some(locked) = locked {
            self.counters.logins_failed.up();
            tracing::warn!(login = %login.escape_debug(), %peer, ?locked, "login while locked out");
        }
        locked
    }

    /// Tells the defences what a login came to. `guess` is what was tried.
    pub(super) fn login_ended(&self, peer: SocketAddr, login: &str, guess: &[u8], accepted: bool) {
        let (rules, peer) = (self.rules.load(), peer.ip());
        let name = sasl::prep::prepare(login);
        if accepted {
            return self.defences.login_succeeded(&rules.defence, peer, &name);
        }
        let now = self.clock.now();
        if let Some(locked) = self.defences.login_failed(&rules.defence, peer, &name, guess, now) {
            tracing::warn!(login = %login.escape_debug(), %peer, ?locked, "locked out");
        }
    }
}
