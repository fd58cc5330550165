//! How many connections there may be: in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::Rules;
use crate::sync::Mutex;

/// Counts open connections against the rules. Cloning shares the count.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A connection that was let in; dropping it makes room.
pub struct Admission {
    gate: Gate,
    address: IpAddr,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be in all.
    All,
    /// There are as many as there may be from this address.
    Address,
}

impl Gate {
    /// Lets a connection in, or says why not.
    pub fn enter(&self, address: IpAddr, rules: &Rules) -> Result<Admission, Full> {
        let address = address.to_canonical();
        let mut inside = self.0.lock();
        if inside.all >= rules.connections {
            return Err(Full::All);
        }
        let here = inside.by_address.entry(address).or_default();
        if *here >= rules.connections_per_address {
            if *here == 0 {
                inside.by_address.remove(&address);
            }
            return Err(Full::Address);
        }
        *here += 1;
        inside.all += 1;
        Ok(Admission { gate: self.clone(), address })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut inside = self.gate.0.lock();
        inside.all = inside.all.saturating_sub(1);
        if let Some(here) = inside.by_address.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PlaintextLogin;

    fn rules(connections: u32, connections_per_address: u32) -> Rules {
        Rules {
            relay_networks: Vec::new(),
            plaintext_login: PlaintextLogin::Never,
            connections,
            connections_per_address,
            sender_rights: Default::default(),
            header_bytes: 1 << 20,
        }
    }

    #[test]
    fn both_limits_hold_and_leaving_makes_room() {
        let gate = Gate::default();
        let rules = rules(3, 2);
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let b: IpAddr = "2001:db8::1".parse().unwrap();
        let first = gate.enter(a, &rules).ok().unwrap();
        let _second = gate.enter(mapped, &rules).ok().unwrap();
        assert_eq!(gate.enter(a, &rules).err(), Some(Full::Address));
        let _third = gate.enter(b, &rules).ok().unwrap();
        assert_eq!(gate.enter(b, &rules).err(), Some(Full::All));
        drop(first);
        assert!(gate.enter(a, &rules).is_ok());
        assert_eq!(gate.0.lock().by_address.len(), 2);
    }

    #[test]
    fn an_address_that_is_refused_leaves_no_trace() {
        let gate = Gate::default();
        let a: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(gate.enter(a, &rules(5, 0)).err(), Some(Full::Address));
        assert!(gate.0.lock().by_address.is_empty());
    }
}
