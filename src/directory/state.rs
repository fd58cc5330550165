//! The directory in memory: maps from folded names to accounts and aliases, and what an address means.
//!
//! Invariants:
//! - a key in `addresses` has one owner, an account or an alias;
//! - a key in `names` (folded login names and primary addresses) has one account;
//! - `referrers` has, for every address of ours that is a target, the aliases that name it;
//! - `postmaster` is the account that holds `postmaster@` a domain of ours; of several the oldest.
//!
//! # Resolving
//! Aliases may name aliases. A list of work replaces recursion, and an alias is walked once, so a loop
//! ends by itself. Depth and width are bounded all the same ([`ALIAS_DEPTH`], [`ALIAS_WIDTH`]). The
//! bounds are checked when an alias is added, for it and for all that lead to it. Should stored rows
//! be beyond them nevertheless, the address counts as unknown: its mail is refused, which a sender
//! sees, rather than delivered to a part, which nobody sees. A target that is ours and is gone (its
//! account was removed) is left out; an alias whose targets are all gone is unknown.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::derived::{Derived, Names};
use super::name::{self, AddressKey};
use super::row::{AccountRow, AliasRow, Counters};
use super::{ALIAS_DEPTH, ALIAS_WIDTH, Account, Alias, Resolution};
use crate::codec::address::Address;
use crate::sasl;
use crate::store::AccountId;

/// Who owns an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Account(AccountId),
    Alias,
}

/// An account with what others may not see.
pub(super) struct AccountEntry {
    pub(super) account: Arc<Account>,
    pub(super) row: AccountRow,
    /// What the row's keys are, read.
    pub(super) derived: Derived,
}

impl AccountEntry {
    /// The names that its keys are for.
    pub(super) fn key_names(&self) -> Names<'_> {
        Names::new(&self.row.login, self.row.addresses.first())
    }
}

/// An alias with its targets parsed.
pub(super) struct AliasEntry {
    pub(super) row: AliasRow,
    targets: Vec<Address>,
}

/// Where one address leads.
enum Lead {
    Account(AccountId),
    Alias(AddressKey),
    Remote,
    Gone,
}

/// Everything that lookups need.
#[derive(Default)]
pub(super) struct State {
    pub(super) domains: BTreeSet<String>,
    pub(super) accounts: BTreeMap<AccountId, AccountEntry>,
    pub(super) addresses: HashMap<AddressKey, Owner>,
    pub(super) names: HashMap<String, AccountId>,
    aliases: BTreeMap<AddressKey, AliasEntry>,
    referrers: HashMap<AddressKey, BTreeSet<AddressKey>>,
    postmaster: Option<AccountId>,
    pub(super) counters: Counters,
}

/// Why an alias cannot be what it should.
pub(super) enum Tangle {
    /// It leads back to itself.
    Loop,
    /// It, or one that leads to it, has too many steps or too many ends.
    TooFar,
}

impl State {
    /// The account with this number.
    pub(super) fn account(&self, id: AccountId) -> Option<&AccountEntry> {
        self.accounts.get(&id)
    }

    /// The account that owns this address, not through an alias. A bare `postmaster` is postmaster's.
    pub(super) fn account_of(&self, address: &Address) -> Option<&AccountEntry> {
        let id = match AddressKey::of(address) {
            None => self.postmaster?,
            Some(key) => match self.addresses.get(&key)? {
                Owner::Account(id) => *id,
                Owner::Alias => return None,
            },
        };
        self.accounts.get(&id)
    }

    /// The account that a login name means: as it was sent, or else as SASLprep makes it.
    pub(super) fn account_of_login(&self, login: &str) -> Option<&AccountEntry> {
        self.account_of_name(&name::login_key(login))
            .or_else(|| self.account_of_name(&name::login_key(&sasl::prep::prepare(login))))
    }

    /// The account with this folded login name or primary address.
    pub(super) fn account_of_name(&self, name: &str) -> Option<&AccountEntry> {
        self.accounts.get(self.names.get(name)?)
    }

    /// Whether this is the account that mail for postmaster goes to.
    pub(super) fn is_postmaster(&self, id: AccountId) -> bool {
        self.postmaster == Some(id)
    }

    /// Adds or replaces an account whose names were checked.
    pub(super) fn put_account(&mut self, id: AccountId, row: AccountRow) -> Arc<Account> {
        self.remove_account(id);
        for address in row.addresses.iter().filter_map(|text| name::address(text).ok()) {
            if let Some(key) = AddressKey::of(&address) {
                if key.is_postmaster() && self.postmaster.is_none_or(|other| id < other) {
                    self.postmaster = Some(id);
                }
                self.addresses.insert(key, Owner::Account(id));
            }
        }
        for name in Self::names_of(&row) {
            self.names.insert(name, id);
        }
        let derived = Derived::read(row.derived.as_ref(), &row.password);
        let account = Arc::new(Account {
            id,
            login: row.login.clone(),
            addresses: row.addresses.clone(),
            uid_validity: row.uid_validity,
        });
        self.accounts.insert(id, AccountEntry { account: account.clone(), derived, row });
        account
    }

    /// The iterations that most accounts' SCRAM keys have, of several the fewest; `None` without any.
    pub(super) fn usual_iterations(&self) -> Option<u32> {
        let mut found: HashMap<u32, usize> = HashMap::new();
        for iterations in self.accounts.values().filter_map(|entry| entry.derived.iterations()) {
            let count = found.entry(iterations).or_default();
            *count = count.saturating_add(1);
        }
        let most = |(iterations, count): &(u32, usize)| (*count, Reverse(*iterations));
        found.into_iter().max_by_key(most).map(|(iterations, _)| iterations)
    }

    /// The folded names that an account logs in with.
    pub(super) fn names_of(row: &AccountRow) -> impl Iterator<Item = String> {
        std::iter::once(&row.login).chain(row.addresses.first()).map(|text| name::login_key(text))
    }

    /// Takes an account away.
    pub(super) fn remove_account(&mut self, id: AccountId) {
        let Some(old) = self.accounts.remove(&id) else { return };
        for address in old.row.addresses.iter().filter_map(|text| name::address(text).ok()) {
            if let Some(key) = AddressKey::of(&address) {
                self.addresses.remove(&key);
            }
        }
        for name in Self::names_of(&old.row) {
            self.names.remove(&name);
        }
        if self.postmaster == Some(id) {
            let owners = self.domains.iter().filter_map(|domain| {
                match self.addresses.get(&AddressKey::postmaster(domain))? {
                    Owner::Account(id) => Some(*id),
                    Owner::Alias => None,
                }
            });
            self.postmaster = owners.min();
        }
    }

    /// Adds an alias whose names were checked.
    pub(super) fn put_alias(&mut self, key: AddressKey, row: AliasRow, targets: Vec<Address>) {
        self.remove_alias(&key);
        for target in targets.iter().filter_map(AddressKey::of) {
            self.referrers.entry(target).or_default().insert(key.clone());
        }
        self.addresses.insert(key.clone(), Owner::Alias);
        self.aliases.insert(key, AliasEntry { row, targets });
    }

    /// Takes an alias away.
    pub(super) fn remove_alias(&mut self, key: &AddressKey) {
        let Some(old) = self.aliases.remove(key) else { return };
        self.addresses.remove(key);
        for target in old.targets.iter().filter_map(AddressKey::of) {
            if let Some(from) = self.referrers.get_mut(&target) {
                from.remove(key);
                if from.is_empty() {
                    self.referrers.remove(&target);
                }
            }
        }
    }

    /// All aliases in the order of their keys.
    pub(super) fn aliases(&self) -> Vec<Alias> {
        self.aliases
            .values()
            .map(|entry| Alias {
                address: entry.row.address.clone(),
                targets: entry.row.targets.clone(),
            })
            .collect()
    }

    /// Whether an address means something here; true for addresses elsewhere.
    pub(super) fn leads_somewhere(&self, address: &Address) -> bool {
        !matches!(self.lead(address), Lead::Gone)
    }

    /// What a recipient's address means here.
    pub(super) fn resolve(&self, address: &Address) -> Resolution {
        match self.lead(address) {
            Lead::Account(id) => Resolution::Deliver { accounts: vec![id], remotes: Vec::new() },
            Lead::Remote => Resolution::Foreign,
            Lead::Gone => Resolution::Unknown,
            Lead::Alias(key) => {
                let targets = self.aliases.get(&key).map_or(&[][..], |entry| &entry.targets);
                match self.walk(&key, targets, None) {
                    Ok((accounts, remotes)) if !accounts.is_empty() || !remotes.is_empty() => {
                        Resolution::Deliver { accounts, remotes }
                    }
                    _ => Resolution::Unknown,
                }
            }
        }
    }

    /// Whether an alias `key` with these targets keeps to the bounds and ends, and so does every alias
    /// that leads to it.
    pub(super) fn check_alias(&self, key: &AddressKey, targets: &[Address]) -> Result<(), Tangle> {
        self.walk(key, targets, None)?;
        let mut above: BTreeSet<&AddressKey> = BTreeSet::new();
        let mut work: Vec<&AddressKey> = vec![key];
        while let Some(next) = work.pop() {
            for from in self.referrers.get(next).into_iter().flatten() {
                if above.insert(from) {
                    work.push(from);
                }
            }
        }
        for from in above {
            if let Some(entry) = self.aliases.get(from) {
                self.walk(from, &entry.targets, Some((key, targets)))?;
            }
        }
        Ok(())
    }

    /// Walks from the targets of alias `start` to accounts and to addresses elsewhere. `extra` is an alias
    /// that is not there yet.
    fn walk(
        &self,
        start: &AddressKey,
        targets: &[Address],
        extra: Option<(&AddressKey, &[Address])>,
    ) -> Result<(Vec<AccountId>, Vec<Address>), Tangle> {
        let (mut accounts, mut remotes) = (Vec::new(), Vec::new());
        let (mut seen_accounts, mut seen_remotes) = (HashSet::new(), HashSet::new());
        let mut seen_aliases = HashSet::new();
        let mut work: VecDeque<(&Address, usize)> = targets.iter().map(|t| (t, 1)).collect();
        let mut steps = 0usize;
        while let Some((address, depth)) = work.pop_front() {
            steps += 1;
            if depth > ALIAS_DEPTH || steps > ALIAS_WIDTH {
                return Err(Tangle::TooFar);
            }
            let extra = extra.filter(|(key, _)| AddressKey::of(address).as_ref() == Some(*key));
            let lead = match extra {
                Some((key, _)) => Lead::Alias(key.clone()),
                None => self.lead(address),
            };
            match lead {
                Lead::Gone => {}
                Lead::Account(id) => {
                    if seen_accounts.insert(id) {
                        accounts.push(id);
                    }
                }
                Lead::Remote => {
                    // Case counts in the local part of another server's address.
                    if seen_remotes.insert((address.local_part(), address.domain_key())) {
                        remotes.push(address.clone());
                    }
                }
                Lead::Alias(key) => {
                    if key == *start {
                        return Err(Tangle::Loop);
                    }
                    if !seen_aliases.insert(key.clone()) {
                        continue;
                    }
                    let next = match extra {
                        Some((_, targets)) => targets,
                        None => self.aliases.get(&key).map_or(&[][..], |e| &e.targets),
                    };
                    work.extend(next.iter().map(|target| (target, depth + 1)));
                }
            }
        }
        Ok((accounts, remotes))
    }

    /// Where one address leads, aliases not followed.
    fn lead(&self, address: &Address) -> Lead {
        let Some(key) = AddressKey::of(address) else {
            // Only postmaster may stand without a domain (RFC 5321 4.1.1.3).
            return self.lead_of_postmaster();
        };
        if !self.domains.contains(key.domain()) {
            return Lead::Remote;
        }
        match self.addresses.get(&key) {
            Some(Owner::Account(id)) => Lead::Account(*id),
            Some(Owner::Alias) => Lead::Alias(key),
            None if key.is_postmaster() => self.lead_of_postmaster(),
            None => Lead::Gone,
        }
    }

    /// Postmaster where no address says more: the account, or the first domain's alias of that name.
    fn lead_of_postmaster(&self) -> Lead {
        if let Some(id) = self.postmaster {
            return Lead::Account(id);
        }
        self.domains
            .iter()
            .map(|domain| AddressKey::postmaster(domain))
            .find(|key| self.aliases.contains_key(key))
            .map_or(Lead::Gone, Lead::Alias)
    }
}
