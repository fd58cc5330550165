//! Defences: how much one peer may ask for, and who is kept out for guessing passwords.
//!
//! Pure bookkeeping: the caller brings addresses, names and the time. One [`Defences`] is shared by all
//! conversations of an engine; the settings ([`DefenceRules`]) are part of the rules and may change at any time.
//!
//! **Who counts as one.** Limits hold for a *host* and for a *network*. A host is an IPv4 address, or an IPv6 prefix
//! of 64 bits, since whoever has one IPv6 address has all of its /64. A network is an IPv4 /24 or an IPv6 /48. The
//! lengths of the prefixes are settings. IPv4-mapped IPv6 addresses are IPv4. Peers of the exempt networks (by
//! default loopback) are never counted, slowed or locked out.
//!
//! **Rates** are token buckets ([`rate`]): so many events in a period at once, and refilled evenly. A refused event
//! takes no token.
//!
//! **Lock-out** ([`lockout`]): so many failed logins of a host within a window lock it out for a time or until
//! somebody unlocks it. The same guess again does not count: a mail program with an old password does not lock out
//! an office. A login name is locked too, but never for hosts from which it has logged in before.
//!
//! **Memory** is bounded: each table holds at most [`TRACKED`] entries ([`table`]); beyond it those that were not
//! asked for longest go, lock-outs that still hold last. Somebody with very many hosts can so have an
//! older entry forgotten, which lets that host begin anew; nobody can have himself let in, or somebody else kept
//! out. Nothing is kept on disk: all is forgotten when the engine is closed.

use std::net::IpAddr;

use super::Network;
use crate::sync::Mutex;
use crate::time::Time;

pub mod lockout;
pub mod rate;
pub mod table;

pub use lockout::{Locked, Lockout, LockoutRules};
pub use rate::Rate;

use lockout::Lockouts;
use rate::Bucket;
use table::Table;

/// Most entries of each table: hosts with their rates, locked-out hosts, login names. All of
/// them together take at most 64 MiB.
pub const TRACKED: usize = 65_536;

/// The settings of all defences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefenceRules {
    /// Networks whose peers are never counted, slowed or locked out.
    pub exempt: Vec<Network>,
    /// Leading bits of an IPv6 address that make a host, at most 128.
    pub ipv6_host_bits: u8,
    /// Leading bits of an IPv4 address that make a network, at most 32.
    pub ipv4_network_bits: u8,
    /// Leading bits of an IPv6 address that make a network, at most 128.
    pub ipv6_network_bits: u8,
    /// New connections of a host in a minute; 0: any number. So for the other rates.
    pub connections_per_minute: u32,
    /// Commands of a host in a minute.
    pub commands_per_minute: u32,
    /// Recipients that a host names in an hour, taken or not.
    pub recipients_per_hour: u32,
    /// Messages that a host begins in an hour.
    pub messages_per_hour: u32,
    /// Refused commands in a connection before each further one is followed by a pause; 0: at once.
    pub tarpit_after: u32,
    /// Milliseconds of the first pause; each further one is twice as long. 0: no pauses.
    pub tarpit_millis: u64,
    /// Milliseconds of the longest pause.
    pub tarpit_most_millis: u64,
    /// Octets of a message that a client must send in a minute, on average over the message; 0: any.
    pub data_per_minute: u64,
    /// Failed logins.
    pub lockout: LockoutRules,
}

impl Default for DefenceRules {
    fn default() -> DefenceRules {
        DefenceRules {
            exempt: Network::loopback().to_vec(),
            ipv6_host_bits: 64,
            ipv4_network_bits: 24,
            ipv6_network_bits: 48,
            connections_per_minute: 600,
            commands_per_minute: 0,
            recipients_per_hour: 0,
            messages_per_hour: 0,
            tarpit_after: 5,
            tarpit_millis: 500,
            tarpit_most_millis: 8_000,
            data_per_minute: 1024,
            lockout: LockoutRules::default(),
        }
    }
}

/// The part of an address that counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Host(IpAddr);

impl Host {
    /// The address that stands for it: the one with every bit that does not count cleared.
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl DefenceRules {
    /// The host of an address.
    pub fn host(&self, address: IpAddr) -> Host {
        let address = address.to_canonical();
        Host(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(_) => Network::mask(address, self.ipv6_host_bits),
        })
    }

    /// The network of an address.
    pub fn network(&self, address: IpAddr) -> Host {
        let address = address.to_canonical();
        Host(match address {
            IpAddr::V4(_) => Network::mask(address, self.ipv4_network_bits),
            IpAddr::V6(_) => Network::mask(address, self.ipv6_network_bits),
        })
    }

    /// Whether a peer is in one of the exempt networks. Linear in their number: ask once for each connection.
    pub fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }

    /// Milliseconds to wait after the refused command that is the `errors`th of its connection.
    pub fn tarpit(&self, errors: u32) -> u64 {
        let Some(beyond) = errors.checked_sub(self.tarpit_after).filter(|n| *n > 0) else {
            return 0;
        };
        let doubled = 1_u64.checked_shl(beyond.saturating_sub(1)).unwrap_or(u64::MAX);
        self.tarpit_millis.saturating_mul(doubled).min(self.tarpit_most_millis)
    }

    /// Whether a client that has sent `octets` of a message since `began` is too slow. The first minute is free.
    pub fn is_too_slow(&self, octets: u64, began: Time, now: Time) -> bool {
        let elapsed = now.since(began);
        // octets / (elapsed / 60,000) < least
        elapsed > 60_000
            && octets.saturating_mul(60_000) < self.data_per_minute.saturating_mul(elapsed)
    }

    fn rate(&self, what: Counted) -> Rate {
        match what {
            Counted::Connection => Rate::per_minute(self.connections_per_minute),
            Counted::Command => Rate::per_minute(self.commands_per_minute),
            Counted::Recipient => Rate::per_hour(self.recipients_per_hour),
            Counted::Message => Rate::per_hour(self.messages_per_hour),
        }
    }
}

/// What is counted for each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A new connection.
    Connection,
    /// A command.
    Command,
    /// A recipient.
    Recipient,
    /// A message.
    Message,
}

/// A rate is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// Of what.
    pub what: Counted,
    /// Milliseconds until one more is taken.
    pub retry_millis: u64,
}

/// What is known of a host: when its buckets are full again.
#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    connections: Bucket,
    commands: Bucket,
    recipients: Bucket,
    messages: Bucket,
}

impl Buckets {
    fn of(&mut self, what: Counted) -> &mut Bucket {
        match what {
            Counted::Connection => &mut self.connections,
            Counted::Command => &mut self.commands,
            Counted::Recipient => &mut self.recipients,
            Counted::Message => &mut self.messages,
        }
    }
}

/// The books of all defences. Any thread may call.
pub struct Defences {
    hosts: Mutex<Table<Host, Buckets>>,
    lockouts: Mutex<Lockouts>,
}

impl Default for Defences {
    fn default() -> Defences {
        Defences::with_room(TRACKED)
    }
}

impl Defences {
    /// Books with at most so many entries in each table.
    pub fn with_room(entries: usize) -> Defences {
        Defences {
            hosts: Mutex::new(Table::new(entries)),
            lockouts: Mutex::new(Lockouts::new(entries)),
        }
    }

    /// Counts events of a peer that is not exempt.
    ///
    /// # Errors
    /// The rate is used up; the events are not to happen, and were not counted.
    pub fn count(
        &self,
        rules: &DefenceRules,
        peer: IpAddr,
        what: Counted,
        times: u32,
        now: Time,
    ) -> Result<(), TooMany> {
        let rate = rules.rate(what);
        if rate.is_unlimited() || times == 0 {
            return Ok(());
        }
        let mut hosts = self.hosts.lock();
        let buckets = hosts.entry(rules.host(peer), |_| false);
        buckets
            .of(what)
            .take(rate, times, now)
            .map_err(|retry_millis| TooMany { what, retry_millis })
    }

    /// Whether a login of this peer may be tried at all. Ask before the password is looked at.
    pub fn locked(
        &self,
        rules: &DefenceRules,
        peer: IpAddr,
        login: &str,
        now: Time,
    ) -> Option<Locked> {
        if !rules.lockout.is_on() || rules.is_exempt(peer) {
            return None;
        }
        self.lockouts.lock().locked(rules.host(peer), login, now)
    }

    /// A login failed. `guess` is what was tried (the password); it is not kept, only a keyed hash of it. Answers the
    /// lock-out that this failure began.
    pub fn login_failed(
        &self,
        rules: &DefenceRules,
        peer: IpAddr,
        login: &str,
        guess: &[u8],
        now: Time,
    ) -> Option<Locked> {
        if !rules.lockout.is_on() || rules.is_exempt(peer) {
            return None;
        }
        self.lockouts.lock().failed(&rules.lockout, rules.host(peer), login, guess, now)
    }

    /// A login succeeded: its host is one of this name's own from now on.
    pub fn login_succeeded(&self, rules: &DefenceRules, peer: IpAddr, login: &str) {
        if rules.lockout.is_on() && !rules.is_exempt(peer) {
            self.lockouts.lock().succeeded(rules.host(peer), login);
        }
    }

    /// The lock-outs that hold, hosts first, each sorted; at most `limit`.
    pub fn lockouts(&self, now: Time, limit: usize) -> Vec<Lockout> {
        self.lockouts.lock().list(now, limit)
    }

    /// Ends the lock-out of a host (an address in it) or of a login name, and forgets its failures. Whether there was
    /// anything to forget.
    pub fn unlock(&self, rules: &DefenceRules, whom: &str) -> bool {
        let host = whom.parse().ok().map(|address| rules.host(address));
        self.lockouts.lock().unlock(host, whom)
    }

    /// Entries in the tables now: hosts with rates, hosts and names with failures or successes.
    pub fn tracked(&self) -> usize {
        self.hosts.lock().len().saturating_add(self.lockouts.lock().len())
    }
}

#[cfg(test)]
mod tests;
