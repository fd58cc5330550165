//! Lock-out after failed logins, of hosts and of login names.
//!
//! A host that fails too often within the window is locked out: none of its logins is looked at. A name that fails
//! too often, from however many hosts, is locked too, against guessing from many places; but hosts from which the name
//! has logged in before ([`OWN_HOSTS`] are remembered for each name) are not held up by that, so that nobody can lock
//! a user out from where the user is. For them only their own host's failures count.
//!
//! The window begins with the first failure and ends with its time; then counting begins anew. A guess that equals the
//! one before (same name, same password) is not counted. While a lock-out holds, nothing is tried and so nothing is
//! counted; afterwards counting begins anew.
//!
//! Names are compared without regard to ASCII case and kept with at most [`NAME_BYTES`] bytes; longer ones are cut,
//! so that those with the same beginning count as one.

use std::hash::{BuildHasher, RandomState};

use super::Host;
use super::table::Table;
use crate::time::Time;

/// Hosts that are remembered for a name: the last ones from which it logged in.
pub const OWN_HOSTS: usize = 4;

/// Most bytes of a name that are kept.
pub const NAME_BYTES: usize = 128;

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutRules {
    /// Failed logins of a host within the window before it is locked out; 0: never.
    pub host_failures: u32,
    /// Failed logins with one name within the window before the name is locked for hosts that are not its own;
    /// 0: never.
    pub name_failures: u32,
    /// Milliseconds of the window.
    pub window_millis: u64,
    /// Milliseconds of a lock-out; 0: until it is ended by hand, or the engine closes.
    pub lock_millis: u64,
}

impl Default for LockoutRules {
    fn default() -> LockoutRules {
        LockoutRules {
            host_failures: 10,
            name_failures: 50,
            window_millis: 600_000,
            lock_millis: 900_000,
        }
    }
}

impl LockoutRules {
    /// Whether anything is ever locked out.
    pub const fn is_on(&self) -> bool {
        self.host_failures > 0 || self.name_failures > 0
    }
}

/// Who is locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// The host, with every name.
    Host,
    /// The name, on hosts that are not its own.
    Name,
}

/// A lock-out that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// What is locked.
    pub locked: Locked,
    /// The host's address (the first of its prefix) or the name.
    pub whom: String,
    /// Milliseconds until it ends; `None`: until it is ended by hand.
    pub left_millis: Option<u64>,
}

/// Failures of a host or of a name.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    /// When the window began.
    began: Time,
    /// A keyed hash of the last guess.
    last: u64,
    locked_until: Option<Until>,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Time(Time),
    Unlocked,
}

impl Failures {
    fn is_locked(&self, now: Time) -> bool {
        match self.locked_until {
            Some(Until::Time(at)) => now < at,
            Some(Until::Unlocked) => true,
            None => false,
        }
    }

    /// Counts a failure; whether it began a lock-out.
    fn count(&mut self, rules: &LockoutRules, limit: u32, guess: u64, now: Time) -> bool {
        if limit == 0 || self.is_locked(now) {
            return false;
        }
        if self.count == 0
            || self.locked_until.is_some()
            || now.since(self.began) >= rules.window_millis
        {
            *self = Failures { began: now, ..Failures::default() };
        } else if self.last == guess {
            return false;
        }
        self.last = guess;
        self.count = self.count.saturating_add(1);
        if self.count < limit {
            return false;
        }
        self.locked_until = Some(match rules.lock_millis {
            0 => Until::Unlocked,
            millis => Until::Time(now.after(millis)),
        });
        true
    }

    fn lockout(&self, locked: Locked, whom: impl ToString, now: Time) -> Option<Lockout> {
        let left_millis = match self.locked_until? {
            Until::Time(at) if now < at => Some(at.since(now)),
            Until::Time(_) => return None,
            Until::Unlocked => None,
        };
        Some(Lockout { locked, whom: whom.to_string(), left_millis })
    }
}

/// The last hosts from which a name logged in, the newest first.
type OwnHosts = [Option<Host>; OWN_HOSTS];

/// The books of failed logins.
pub(super) struct Lockouts {
    hosts: Table<Host, Failures>,
    names: Table<Box<str>, Failures>,
    /// Only a login that succeeded makes an entry here: who knows no password cannot have it forgotten.
    own: Table<Box<str>, OwnHosts>,
    hasher: RandomState,
}

/// Bytes of all three tables with so many places each, without the names.
#[cfg(test)]
pub(super) fn inline_bytes(places: usize) -> usize {
    let entries = [
        size_of::<(Host, Failures)>(),
        size_of::<(Box<str>, Failures)>(),
        size_of::<(Box<str>, OwnHosts)>(),
    ];
    entries.iter().map(|entry| places * (entry + 1)).sum()
}

fn folded(name: &str) -> Box<str> {
    let mut end = name.len().min(NAME_BYTES);
    while !name.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    name.get(..end).unwrap_or_default().to_ascii_lowercase().into_boxed_str()
}

impl Lockouts {
    pub fn new(entries: usize) -> Lockouts {
        Lockouts {
            hosts: Table::new(entries),
            names: Table::new(entries),
            own: Table::new(entries),
            hasher: RandomState::new(),
        }
    }

    pub fn locked(&self, host: Host, name: &str, now: Time) -> Option<Locked> {
        if self.hosts.get(&host).is_some_and(|failures| failures.is_locked(now)) {
            return Some(Locked::Host);
        }
        let name = folded(name);
        let locked = self.names.get(&name).is_some_and(|failures| failures.is_locked(now));
        (locked && !self.is_own(&name, host)).then_some(Locked::Name)
    }

    fn is_own(&self, name: &str, host: Host) -> bool {
        self.own.get(name).is_some_and(|hosts| hosts.contains(&Some(host)))
    }

    pub fn failed(
        &mut self,
        rules: &LockoutRules,
        host: Host,
        name: &str,
        guess: &[u8],
        now: Time,
    ) -> Option<Locked> {
        let name = folded(name);
        let guess = self.hasher.hash_one((&name, guess));
        let holds = |failures: &Failures| failures.is_locked(now);
        let by_host = self.hosts.entry(host, holds).count(rules, rules.host_failures, guess, now);
        let mut by_name = false;
        if rules.name_failures > 0 && !self.is_own(&name, host) {
            by_name = self.names.entry(name, holds).count(rules, rules.name_failures, guess, now);
        }
        match (by_host, by_name) {
            (true, _) => Some(Locked::Host),
            (false, true) => Some(Locked::Name),
            (false, false) => None,
        }
    }

    pub fn succeeded(&mut self, host: Host, name: &str) {
        let own = self.own.entry(folded(name), |_| false);
        let at = own.iter().position(|known| *known == Some(host)).unwrap_or(OWN_HOSTS - 1);
        if let Some(upto) = own.get_mut(..=at) {
            upto.rotate_right(1);
        }
        own[0] = Some(host);
    }

    pub fn list(&self, now: Time, limit: usize) -> Vec<Lockout> {
        let sorted = |mut all: Vec<Lockout>| {
            all.sort_by(|a, b| a.whom.cmp(&b.whom));
            all
        };
        let hosts = self.hosts.iter();
        let hosts = hosts.filter_map(|(host, f)| f.lockout(Locked::Host, host.address(), now));
        let names = self.names.iter();
        let names = names.filter_map(|(name, f)| f.lockout(Locked::Name, name, now));
        let mut all = sorted(hosts.collect());
        all.extend(sorted(names.collect()));
        all.truncate(limit);
        all
    }

    pub fn unlock(&mut self, host: Option<Host>, name: &str) -> bool {
        let host = host.and_then(|host| self.hosts.remove(&host)).is_some();
        let name = self.names.remove(&folded(name)).is_some();
        host || name
    }

    pub fn len(&self) -> usize {
        self.hosts.len().saturating_add(self.names.len()).saturating_add(self.own.len())
    }
}
