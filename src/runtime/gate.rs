//! How many connections there may be: in all, from one host and from one network.
//!
//! What a host and a network are is said in [`crate::policy::defence`]. Networks that are exempt there are not counted
//! as networks here; the bound of a host holds for every one, loopback included. Memory: an entry for each host and
//! network that has a connection now, so at most two for each connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::Rules;
use crate::policy::defence::Host;
use crate::sync::Mutex;

/// Counts open connections against the rules. Cloning shares the count.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    all: u32,
    hosts: HashMap<Host, u32>,
    networks: HashMap<Host, u32>,
}

/// A connection that was let in; dropping it makes room.
pub struct Admission {
    gate: Gate,
    host: Option<Host>,
    network: Option<Host>,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be in all.
    All,
    /// There are as many as there may be from this host.
    Host,
    /// There are as many as there may be from this network.
    Network,
}

impl Gate {
    /// Lets a connection in, or says why not. For whom it is may be said later ([`Admission::claim`]).
    ///
    /// # Errors
    /// There are as many as there may be in all.
    pub fn enter(&self, rules: &Rules) -> Result<Admission, Full> {
        let mut inside = self.0.lock();
        if inside.all >= rules.connections {
            return Err(Full::All);
        }
        inside.all = inside.all.saturating_add(1);
        Ok(Admission { gate: self.clone(), host: None, network: None })
    }
}

impl Admission {
    /// Says for whom the connection is. To be called once.
    ///
    /// # Errors
    /// There are as many as there may be from there.
    pub fn claim(&mut self, address: IpAddr, rules: &Rules) -> Result<(), Full> {
        let mut inside = self.gate.0.lock();
        let host = rules.defence.host(address);
        if !add(&mut inside.hosts, host, rules.connections_per_address) {
            return Err(Full::Host);
        }
        self.host = Some(host);
        if !rules.defence.is_exempt(address) {
            let network = rules.defence.network(address);
            if !add(&mut inside.networks, network, rules.connections_per_network) {
                return Err(Full::Network);
            }
            self.network = Some(network);
        }
        Ok(())
    }
}

/// Counts one more, unless there are `most` already.
fn add(counts: &mut HashMap<Host, u32>, host: Host, most: u32) -> bool {
    let count = counts.get(&host).copied().unwrap_or(0);
    if count >= most {
        return false;
    }
    counts.insert(host, count.saturating_add(1));
    true
}

fn take(counts: &mut HashMap<Host, u32>, host: Option<Host>) {
    let Some(host) = host else { return };
    if let Some(count) = counts.get_mut(&host) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(&host);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.gate.0.lock();
        inside.all = inside.all.saturating_sub(1);
        take(&mut inside.hosts, self.host);
        take(&mut inside.networks, self.network);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(
        connections: u32,
        connections_per_address: u32,
        connections_per_network: u32,
    ) -> Rules {
        Rules { connections, connections_per_address, connections_per_network, ..Rules::default() }
    }

    fn enter(gate: &Gate, address: &str, rules: &Rules) -> Result<Admission, Full> {
        let mut admission = gate.enter(rules)?;
        admission.claim(address.parse().unwrap(), rules)?;
        Ok(admission)
    }

    #[test]
    fn every_limit_holds_and_leaving_makes_room() {
        let gate = Gate::default();
        let rules = rules(4, 2, 3);
        let first = enter(&gate, "192.0.2.1", &rules).ok().unwrap();
        let _second = enter(&gate, "::ffff:192.0.2.1", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "192.0.2.1", &rules).err(), Some(Full::Host));
        let _third = enter(&gate, "192.0.2.2", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "192.0.2.3", &rules).err(), Some(Full::Network));
        let _fourth = enter(&gate, "192.0.3.1", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "198.51.100.1", &rules).err(), Some(Full::All));
        drop(first);
        assert!(enter(&gate, "192.0.2.1", &rules).is_ok());
    }

    #[test]
    fn a_host_of_ipv6_is_its_64_and_a_network_its_48() {
        let gate = Gate::default();
        let rules = rules(100, 1, 2);
        let _first = enter(&gate, "2001:db8::1", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "2001:db8::2", &rules).err(), Some(Full::Host));
        let _second = enter(&gate, "2001:db8:0:1::1", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "2001:db8:0:2::1", &rules).err(), Some(Full::Network));
        assert!(enter(&gate, "2001:db8:1::1", &rules).is_ok());
    }

    #[test]
    fn exempt_networks_are_bound_by_host_only() {
        let gate = Gate::default();
        let rules = rules(100, 1, 1);
        let _first = enter(&gate, "127.0.0.1", &rules).ok().unwrap();
        let _second = enter(&gate, "127.0.0.2", &rules).ok().unwrap();
        assert_eq!(enter(&gate, "127.0.0.1", &rules).err(), Some(Full::Host));
    }

    #[test]
    fn who_is_refused_or_has_left_leaves_no_trace() {
        let gate = Gate::default();
        assert_eq!(enter(&gate, "192.0.2.1", &rules(5, 0, 5)).err(), Some(Full::Host));
        assert_eq!(enter(&gate, "192.0.2.1", &rules(5, 5, 0)).err(), Some(Full::Network));
        drop(enter(&gate, "192.0.2.1", &rules(5, 5, 5)).ok().unwrap());
        let inside = gate.0.lock();
        assert!(inside.all == 0 && inside.hosts.is_empty() && inside.networks.is_empty());
    }
}
