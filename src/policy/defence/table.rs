//! A map with a bound: when it is full, what was not asked for longest goes.
//!
//! Two generations: entries are made in the young one and come back to it when they are asked for. When the young one has half of
//! the room, it becomes the old one, and what is left in the former old one is forgotten, except entries that the
//! caller wants kept (at most half of the new young one's room). Every step costs constant time on average; there is no list to keep
//! in order.

use std::collections::HashMap;
use std::hash::Hash;

/// A bounded map.
pub struct Table<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Most entries of a generation.
    half: usize,
}

impl<K: Hash + Eq, V: Default> Table<K, V> {
    /// A map of at most `entries` entries (at least 4).
    pub fn new(entries: usize) -> Table<K, V> {
        Table { young: HashMap::new(), old: HashMap::new(), half: (entries / 2).max(2) }
    }

    /// The entry of a key, made when it is not there. `keep` says of entries that are about to be forgotten whether
    /// they should stay.
    pub fn entry(&mut self, key: K, keep: impl Fn(&V) -> bool) -> &mut V {
        // Before a turn, which would forget it.
        let known = self.old.remove(&key);
        if !self.young.contains_key(&key) && self.young.len() >= self.half {
            self.turn(keep);
        }
        self.young.entry(key).or_insert_with(|| known.unwrap_or_default())
    }

    fn turn(&mut self, keep: impl Fn(&V) -> bool) {
        let former = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        // Room must be left for what the turn was made for.
        let kept = former.into_iter().filter(|(_, value)| keep(value)).take(self.half / 2);
        self.young.extend(kept);
    }

    /// The entry of a key, if it is there. Being looked at does not make it younger.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Forgets an entry.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let young = self.young.remove(key);
        let old = self.old.remove(key);
        young.or(old)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.young.len().saturating_add(self.old.len())
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_when_the_generations_change_is_not_forgotten() {
        let mut table: Table<u32, u32> = Table::new(8);
        *table.entry(0, |_| false) = 7;
        // Four make a generation; the fifth begins the next one.
        for key in 1..5 {
            table.entry(key, |_| false);
        }
        for key in 5..8 {
            table.entry(key, |_| false);
        }
        // 4, 5, 6 and 7 are young now, and 0 is asked for from among the old.
        assert_eq!(*table.entry(0, |_| false), 7);
        assert!(table.len() <= 8);
        assert!(table.get(&1).is_none(), "what was not asked for longest is gone");
    }
}
