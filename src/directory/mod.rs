//! Who receives mail here: domains, accounts with several addresses and an own login name, aliases.

use std::sync::Arc;

use crate::codec::address::Address;
use crate::error::Result;
use crate::store::{AccountId, Rows};

/// An account, as others may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// The login name; may differ from every address.
    pub login: String,
    /// Its addresses; the first is the primary one.
    pub addresses: Vec<String>,
    /// UIDVALIDITY for its first mailbox.
    pub uid_validity: u32,
}

/// What to make an account of.
#[derive(Clone, Debug, Default)]
pub struct NewAccount {
    /// Its addresses, at least one; their domains must be domains of this instance.
    pub addresses: Vec<String>,
    /// The login name; `None`: the primary address.
    pub login: Option<String>,
    /// The password in clear; at least 8 characters, no leading white space.
    pub password: String,
}

/// An alias: mail for `address` goes to `targets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The address.
    pub address: String,
    /// Where its mail goes: addresses of this instance or of others.
    pub targets: Vec<String>,
}

/// What an address means here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// These accounts (aliases resolved, no account twice) and these addresses of other servers.
    Deliver {
        /// Local accounts.
        accounts: Vec<AccountId>,
        /// Addresses elsewhere.
        remotes: Vec<Address>,
    },
    /// The domain is ours, the address is not known.
    Unknown,
    /// The domain is not ours.
    Foreign,
}

/// The directory of an instance. Any thread may call; lookups do not touch the disk.
pub struct Directory {
    _rows: Arc<dyn Rows>,
}

impl Directory {
    /// Reads the tables.
    pub fn load(rows: Arc<dyn Rows>) -> Result<Directory> {
        Ok(Directory { _rows: rows })
    }
    /// Adds a domain (folded). `Exists` when it is there.
    pub fn add_domain(&self, domain: &str) -> Result<()> {
        let _ = domain;
        todo!()
    }
    /// All domains, sorted.
    pub fn domains(&self) -> Vec<String> {
        todo!()
    }
    /// Makes an account. `now` is Unix time in milliseconds, for UIDVALIDITY. The caller makes its INBOX before
    /// anybody can know the account: `prepare` runs after validation and before the account is visible.
    pub fn add_account(
        &self,
        new: &NewAccount,
        now: u64,
        prepare: &mut dyn FnMut(&Account) -> Result<()>,
    ) -> Result<Account> {
        let _ = (new, now, prepare);
        todo!()
    }
    /// Removes the account that has this address. The account of postmaster cannot be removed (`Refused`).
    pub fn remove_account(&self, address: &str) -> Result<Account> {
        let _ = address;
        todo!()
    }
    /// Sets a password.
    pub fn set_password(&self, address: &str, password: &str) -> Result<()> {
        let _ = (address, password);
        todo!()
    }
    /// All accounts, sorted by primary address.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        todo!()
    }
    /// The account with this address (not an alias).
    pub fn account(&self, address: &str) -> Option<Arc<Account>> {
        let _ = address;
        todo!()
    }
    /// Adds an alias. Loops are refused.
    pub fn add_alias(&self, alias: &Alias) -> Result<()> {
        let _ = alias;
        todo!()
    }
    /// All aliases, sorted.
    pub fn aliases(&self) -> Vec<Alias> {
        todo!()
    }
    /// Removes an alias.
    pub fn remove_alias(&self, address: &str) -> Result<()> {
        let _ = address;
        todo!()
    }
    /// What a recipient's address means here.
    pub fn resolve(&self, address: &Address) -> Resolution {
        let _ = address;
        todo!()
    }
    /// The account of this login name or (when no login name is the same) primary address if the password is right.
    /// Takes as long for an unknown name as for a wrong password. Slow on purpose (Argon2id): call it on a worker thread.
    pub fn verify(&self, login: &str, password: &str) -> Option<Arc<Account>> {
        let _ = (login, password);
        todo!()
    }
}
