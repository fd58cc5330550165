//! The directory: who receives mail here. Domains, accounts with several addresses and a login name
//! of their own, aliases.
//!
//! # Method
//! Everything lives in memory, in maps behind a lock that is held for lookups and for the moment in
//! which a change becomes visible, never while the disk works. Changes take their turn on a second
//! lock: validate, write the row through [`Rows`] (which returns after the sync), then show. So what
//! anybody has seen is on disk, and a change whose write fails was never visible. Rows are JSON with a
//! version (`row.rs`).
//!
//! # Invariants
//! - An address belongs to one account or one alias. Login names and primary addresses, taken
//!   together and without regard to case, name one account each.
//! - Account numbers are given once, and so is every UIDVALIDITY: it comes from the calendar and only
//!   rises, also when the calendar goes back or an account of the same name is made again (RFC 9051
//!   2.3.1.1). Both counters are on disk before a number is used.
//! - Mail for `postmaster`, without a domain or at any domain of ours, always goes somewhere as soon
//!   as one account has such an address, and that account cannot be removed (RFC 5321 4.5.1).
//! - An alias never leads back to itself.
//!
//! # Comparing
//! Domains without regard to case and to a dot at the end; local parts, on our own domains, without
//! regard to case; login names without regard to ASCII case. What was typed is kept for showing.
//!
//! # Passwords
//! A password is kept as an Argon2id hash, and as SCRAM-SHA-256 keys (RFC 5802): with those a client can log in without
//! showing the password. CRAM-MD5 needs a third form, which is nearly as good as the password itself to whoever steals
//! the store; it is kept only of passwords that are set while [`Directory::keep_cram_md5`] is on, and goes with the next
//! password that is set while it is off. Accounts of earlier releases have the hash alone; they get SCRAM keys at the next
//! login that shows the password ([`Directory::verify`]).
//! A name that nobody has is answered as one with a wrong password is: with the same work, and with decoy keys made of a
//! secret that is on disk before the first true keys are. What SCRAM shows of a name (salt, iterations) is the same whether
//! somebody has it or not, at any time (`derived`).
//!
//! # Failure
//! A failed write leaves the directory as it was. A row that is damaged, or newer than this program,
//! fails [`Directory::load`] with its name: who cannot say who receives mail must not refuse any.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::address::Address;
use crate::error::{Error, Kind, Result};
use crate::sasl::{CramMd5Keys, ScramKeys};
use crate::store::{AccountId, Rows, Table};
use crate::sync::{Mutex, RwLock};

mod derived;
mod name;
mod password;
mod row;
mod state;
#[cfg(test)]
pub(crate) mod tests;

pub use name::LOGIN_MAX;
pub use password::{PASSWORD_MAX, PASSWORD_MIN, PasswordCost};

use derived::{Derived, Names, Salting};
use name::AddressKey;
use row::{AccountRow, AliasRow, COUNTERS, DomainRow};
use state::{Owner, State, Tangle};

/// Most addresses of one account.
pub const ADDRESSES_MAX: usize = 1000;
/// Most targets of one alias.
pub const TARGETS_MAX: usize = 1000;
/// Most aliases that lead from one to the next.
pub const ALIAS_DEPTH: usize = 16;
/// Most addresses that are looked at to resolve one alias.
pub const ALIAS_WIDTH: usize = 10_000;

/// UIDVALIDITY is not taken from a calendar beyond this (the year 2097): a clock that is far off for
/// one day must not use up the 32 bits.
const CALENDAR_MAX: u64 = 0xf000_0000;

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
#[derive(Clone, Default)]
pub struct NewAccount {
    /// Its addresses, at least one; their domains must be domains of this instance.
    pub addresses: Vec<String>,
    /// The login name; `None`: the primary address.
    pub login: Option<String>,
    /// The password in clear; at least 8 characters, no leading white space.
    pub password: String,
}

impl std::fmt::Debug for NewAccount {
    /// Shows everything but the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewAccount")
            .field("addresses", &self.addresses)
            .field("login", &self.login)
            .finish_non_exhaustive()
    }
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
    rows: Arc<dyn Rows>,
    cost: PasswordCost,
    /// Verified against when a name is not known, so that it takes as long.
    dummy: String,
    /// The same for CRAM-MD5.
    dummy_cram_md5: CramMd5Keys,
    /// What SCRAM shows of a name.
    salting: Salting,
    /// Whether new passwords are kept for CRAM-MD5, too.
    cram_md5: AtomicBool,
    state: RwLock<State>,
    /// Held by whoever changes something, across the write.
    change: Mutex<()>,
}

impl Directory {
    /// Reads the tables.
    ///
    /// # Errors
    /// `Corrupt` or `FormatNewer` with the row's name, and what [`Rows::scan`] answers.
    pub fn load(rows: Arc<dyn Rows>) -> Result<Directory> {
        Directory::load_with_cost(rows, PasswordCost::default())
    }

    /// Reads the tables; new passwords are hashed at this cost, except for SCRAM, whose iterations are those of the first account.
    ///
    /// # Errors
    /// As [`Directory::load`]; `InvalidArgument` for a cost that Argon2 does not accept.
    pub fn load_with_cost(rows: Arc<dyn Rows>, cost: PasswordCost) -> Result<Directory> {
        let dummy = password::dummy(cost)?;
        let state = read(rows.as_ref())?;
        let secret = match state.counters.secret.as_deref() {
            Some(text) => secret_of(text).ok_or_else(|| {
                row::corrupt(Table::Value, COUNTERS, "its secret is not 64 hexadecimal digits")
            })?,
            // On disk with the first keys; until then nobody has any, and all names look the same.
            None => {
                let mut secret = [0; 32];
                derived::random(&mut secret)?;
                secret
            }
        };
        let iterations = match state.counters.scram_iterations {
            Some(iterations) => NonZeroU32::new(iterations).ok_or_else(|| {
                row::corrupt(Table::Value, COUNTERS, "its SCRAM keys have no iterations")
            })?,
            // On disk with the secret.
            None => {
                state.usual_iterations().and_then(NonZeroU32::new).unwrap_or(cost.scram_iterations)
            }
        };
        let salting = Salting { secret, iterations };
        let (state, change) = (RwLock::new(state), Mutex::new(()));
        let (dummy_cram_md5, cram_md5) = (CramMd5Keys::derive(""), AtomicBool::new(false));
        Ok(Directory { rows, cost, dummy, dummy_cram_md5, salting, cram_md5, state, change })
    }

    /// From now on passwords that are set are kept for CRAM-MD5 as well, or not. Off at the beginning. What is kept of a
    /// password in that form lets whoever steals it log in with CRAM-MD5 until the password is changed.
    pub fn keep_cram_md5(&self, keep: bool) {
        self.cram_md5.store(keep, Ordering::Relaxed);
    }

    /// Adds a domain (folded).
    ///
    /// # Errors
    /// `Exists` when it is there; `InvalidArgument` when it is no domain name.
    pub fn add_domain(&self, domain: &str) -> Result<()> {
        let key = name::domain(domain)?;
        let _turn = self.change.lock();
        if self.state.read().domains.contains(&key) {
            return Err(Error::new(Kind::Exists, format!("domain {key} exists already")));
        }
        let row = DomainRow { name: domain.to_owned(), more: Default::default() };
        self.rows.put(Table::Domain, key.as_bytes(), &row::encode(&row)?)?;
        self.state.write().domains.insert(key);
        Ok(())
    }

    /// All domains, sorted.
    pub fn domains(&self) -> Vec<String> {
        self.state.read().domains.iter().cloned().collect()
    }

    /// Makes an account. `now` is Unix time in milliseconds, for UIDVALIDITY. The caller makes its INBOX before
    /// anybody can know the account: `prepare` runs after validation and before the account is visible. It may
    /// look things up here, but not change them.
    ///
    /// Fails without a trace except for the number, which is not given again. When only the last write
    /// fails, what `prepare` made stays behind under a number that nothing names.
    ///
    /// # Errors
    /// `Address`, `InvalidArgument`, `Password` for what does not fit the rules; `NotFound` for a domain that
    /// is not ours; `Exists` for a name that is taken; `Limit`; what `prepare` and the writes answer.
    pub fn add_account(
        &self,
        new: &NewAccount,
        now: u64,
        prepare: &mut dyn FnMut(&Account) -> Result<()>,
    ) -> Result<Account> {
        let Some(primary) = new.addresses.first() else {
            return Err(Error::new(Kind::InvalidArgument, "an account needs at least one address"));
        };
        if new.addresses.len() > ADDRESSES_MAX {
            return Err(Error::new(
                Kind::Limit,
                format!("account {primary:?}: more than {ADDRESSES_MAX} addresses"),
            ));
        }
        let login = new.login.as_ref().unwrap_or(primary);
        name::check_login(login)?;
        let names = std::iter::once(login).chain(&new.addresses);
        password::check(&new.password, names.map(String::as_str))?;
        let mut addresses = Vec::with_capacity(new.addresses.len());
        for text in &new.addresses {
            addresses.push(name::address(text)?);
        }
        self.check_free(&addresses, login, primary)?;
        // Slow: done before anybody has to wait for this change, and checked again after.
        let hash = password::hash(&new.password, self.cost)?;
        let derived = self.derive(Names::new(login, Some(primary)), &new.password, &hash);

        let _turn = self.change.lock();
        self.check_free(&addresses, login, primary)?;
        let (id, uid_validity) = self.next_account(now)?;
        let row = AccountRow {
            login: login.clone(),
            addresses: new.addresses.clone(),
            uid_validity,
            password: hash,
            derived: Some(derived),
            more: Default::default(),
        };
        let account =
            Account { id, login: login.clone(), addresses: new.addresses.clone(), uid_validity };
        prepare(&account)?;
        self.rows.put(Table::Account, &row::account_key(id), &row::encode(&row)?)?;
        self.state.write().put_account(id, row);
        Ok(account)
    }

    /// Removes the account that has this address. The account of postmaster cannot be removed (`Refused`).
    /// Its mailboxes are the caller's to remove, afterwards.
    ///
    /// # Errors
    /// `NotFound`, `Refused`, and what the write answers.
    pub fn remove_account(&self, address: &str) -> Result<Account> {
        let _turn = self.change.lock();
        let account = self.known_account(address)?;
        if self.state.read().is_postmaster(account.id) {
            return Err(Error::new(
                Kind::Refused,
                format!("account {address} receives postmaster's mail and cannot be removed"),
            ));
        }
        self.rows.delete(Table::Account, &row::account_key(account.id))?;
        self.state.write().remove_account(account.id);
        Ok(Account::clone(&account))
    }

    /// Sets a password.
    ///
    /// # Errors
    /// `NotFound`, `Password`, and what the write answers.
    pub fn set_password(&self, address: &str, password: &str) -> Result<()> {
        let account = self.known_account(address)?;
        let names = std::iter::once(&account.login).chain(&account.addresses);
        password::check(password, names.map(String::as_str))?;
        let hash = password::hash(password, self.cost)?;
        let names = Names::new(&account.login, account.addresses.first());
        let derived = self.derive(names, password, &hash);

        let _turn = self.change.lock();
        let mut row = {
            let state = self.state.read();
            // The account may have gone while its password was hashed.
            let Some(entry) = state.account(account.id) else {
                return Err(no_account(address));
            };
            entry.row.clone()
        };
        row.password = hash;
        row.derived = Some(derived);
        self.keep_secret()?;
        self.rows.put(Table::Account, &row::account_key(account.id), &row::encode(&row)?)?;
        self.state.write().put_account(account.id, row);
        Ok(())
    }

    /// All accounts, sorted by primary address.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let mut all: Vec<Arc<Account>> =
            self.state.read().accounts.values().map(|entry| entry.account.clone()).collect();
        all.sort_by(|a, b| a.addresses.first().cmp(&b.addresses.first()));
        all
    }

    /// The account with this address (not an alias). `postmaster` without a domain is postmaster's account.
    pub fn account(&self, address: &str) -> Option<Arc<Account>> {
        let address = name::address(address).ok()?;
        self.state.read().account_of(&address).map(|entry| entry.account.clone())
    }

    /// Adds an alias. Loops are refused, and so are targets that are ours and not known.
    ///
    /// # Errors
    /// `Address`; `NotFound` for a domain that is not ours or a target that is not there; `Exists`;
    /// `InvalidArgument` for a loop or for no targets; `Limit`; what the write answers.
    pub fn add_alias(&self, alias: &Alias) -> Result<()> {
        let given = &alias.address;
        let address = name::address(given)?;
        if alias.targets.is_empty() {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!("alias {given} needs at least one target"),
            ));
        }
        if alias.targets.len() > TARGETS_MAX {
            return Err(Error::new(
                Kind::Limit,
                format!("alias {given} has more than {TARGETS_MAX} targets"),
            ));
        }
        let mut targets = Vec::with_capacity(alias.targets.len());
        for text in &alias.targets {
            targets.push(name::address(text).map_err(|e| e.within(format!("alias {given}")))?);
        }

        let _turn = self.change.lock();
        let key = self.check_alias(given, &address, &alias.targets, &targets)?;
        let row = AliasRow {
            address: given.clone(),
            targets: alias.targets.clone(),
            more: Default::default(),
        };
        self.rows.put(Table::Alias, key.as_bytes(), &row::encode(&row)?)?;
        self.state.write().put_alias(key, row, targets);
        Ok(())
    }

    /// All aliases, sorted.
    pub fn aliases(&self) -> Vec<Alias> {
        self.state.read().aliases()
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// `NotFound`, and what the write answers.
    pub fn remove_alias(&self, address: &str) -> Result<()> {
        let key = AddressKey::of(&name::address(address)?);
        let _turn = self.change.lock();
        let key = key.filter(|key| self.state.read().addresses.get(key) == Some(&Owner::Alias));
        let Some(key) = key else {
            return Err(Error::new(Kind::NotFound, format!("no alias {address}")));
        };
        self.rows.delete(Table::Alias, key.as_bytes())?;
        self.state.write().remove_alias(&key);
        Ok(())
    }

    /// The account with this number.
    pub fn account_by_id(&self, id: AccountId) -> Option<Arc<Account>> {
        self.state.read().account(id).map(|entry| entry.account.clone())
    }

    /// What a recipient's address means here.
    pub fn resolve(&self, address: &Address) -> Resolution {
        self.state.read().resolve(address)
    }

    /// The account of this login name or (when no login name is the same) primary address if the password is right.
    /// Takes as long for an unknown name as for a wrong password. Slow on purpose (Argon2id): call it on a worker thread.
    ///
    /// An account without SCRAM keys, or with such as an earlier release made, gets them now that its password is known. When
    /// they cannot be written the login succeeds all the same.
    pub fn verify(&self, login: &str, password: &str) -> Option<Arc<Account>> {
        // Nothing is locked while the hash is computed.
        let found = {
            let state = self.state.read();
            state.account_of_login(login).map(|entry| {
                let lacks_keys = !entry.derived.is_complete(entry.key_names(), &self.salting);
                (entry.account.clone(), entry.row.password.clone(), lacks_keys)
            })
        };
        let (account, hash, lacks_keys) = match found {
            Some((account, hash, lacks_keys)) => (Some(account), hash, lacks_keys),
            None => (None, self.dummy.clone(), false),
        };
        let right = password::verify(password, &hash);
        let account = account.filter(|_| right)?;
        if lacks_keys && let Err(error) = self.complete(account.id, &hash, password) {
            tracing::warn!(%error, login = %account.login.escape_debug(), "no SCRAM keys kept");
        }
        Some(account)
    }

    /// What verifies this login name's password by SCRAM-SHA-256. For a name that nobody has, and for an account without
    /// keys, keys that fit no password. Salt and iterations are always the same for a name, whether somebody has it or not.
    pub fn scram_keys(&self, login: &str) -> ScramKeys {
        let decoy = self.salting.decoy(login);
        let state = self.state.read();
        let entry = state.account_of_login(login);
        let known = entry.and_then(|entry| entry.derived.scram(entry.key_names(), login).cloned());
        known.unwrap_or(decoy)
    }

    /// The account of this login name if the digest is that of its password (RFC 2195). `None` also when the password was
    /// set while [`Directory::keep_cram_md5`] was off. Does the same work for a name that nobody has.
    pub fn verify_cram_md5(
        &self,
        login: &str,
        challenge: &str,
        digest: &str,
    ) -> Option<Arc<Account>> {
        let found = {
            let state = self.state.read();
            state
                .account_of_login(login)
                .map(|entry| (entry.account.clone(), entry.derived.cram_md5.clone()))
        };
        let (account, keys) = found.unzip();
        let keys = keys.flatten();
        let right = keys.as_ref().unwrap_or(&self.dummy_cram_md5).verify(challenge, digest);
        account.filter(|_| right && keys.is_some())
    }

    /// The account of this login name or primary address, for a login that was verified by other means.
    pub fn account_of_login(&self, login: &str) -> Option<Arc<Account>> {
        self.state.read().account_of_login(login).map(|entry| entry.account.clone())
    }

    /// Keys for a password with this hash. Slow on purpose.
    fn derive(&self, names: Names<'_>, password: &str, hash: &str) -> derived::DerivedRow {
        Derived::row(names, password, hash, &self.salting, self.cram_md5.load(Ordering::Relaxed))
    }

    /// Gives an account the keys that it lacks, if its password is still the one with this hash.
    fn complete(&self, id: AccountId, hash: &str, password: &str) -> Result<()> {
        let Some(row) = self.state.read().account(id).map(|entry| entry.row.clone()) else {
            return Ok(());
        };
        let names = Names::new(&row.login, row.addresses.first());
        let derived = self.derive(names, password, hash);
        let _turn = self.change.lock();
        let mut row = {
            let state = self.state.read();
            match state.account(id) {
                Some(entry)
                    if entry.row.password == hash
                        && !entry.derived.is_complete(entry.key_names(), &self.salting) =>
                {
                    entry.row.clone()
                }
                _ => return Ok(()),
            }
        };
        row.derived = Some(derived);
        self.keep_secret()?;
        self.rows.put(Table::Account, &row::account_key(id), &row::encode(&row)?)?;
        self.state.write().put_account(id, row);
        Ok(())
    }

    /// The secret is on disk when this returns. The caller has the turn.
    fn keep_secret(&self) -> Result<()> {
        let mut counters = self.state.read().counters.clone();
        if counters.secret.is_some() && counters.scram_iterations.is_some() {
            return Ok(());
        }
        self.salt(&mut counters);
        self.rows.put(Table::Value, COUNTERS, &row::encode(&counters)?)?;
        self.state.write().counters = counters;
        Ok(())
    }

    /// Puts down what salts are made of, and the iterations.
    fn salt(&self, counters: &mut row::Counters) {
        counters.secret.get_or_insert_with(|| secret_text(&self.salting.secret));
        counters.scram_iterations.get_or_insert(self.salting.iterations.get());
    }

    /// The account that has this address, or the error that names it.
    fn known_account(&self, address: &str) -> Result<Arc<Account>> {
        self.account(address).ok_or_else(|| no_account(address))
    }

    /// Whether an account may have these names.
    fn check_free(&self, addresses: &[Address], login: &str, primary: &str) -> Result<()> {
        let state = self.state.read();
        let mut seen = HashSet::new();
        for address in addresses {
            let key = state.check_free_address(address)?;
            if !seen.insert(key) {
                return Err(Error::new(
                    Kind::InvalidArgument,
                    format!("account {primary}: address {} is there twice", shown(address)),
                ));
            }
        }
        for name in [login, primary] {
            if let Some(other) = state.account_of_name(&name::login_key(name)) {
                return Err(Error::new(
                    Kind::Exists,
                    format!(
                        "login name {name:?} is taken by account {}",
                        other.account.addresses.first().map_or("", String::as_str)
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Whether there may be such an alias; answers its key.
    fn check_alias(
        &self,
        given: &str,
        address: &Address,
        texts: &[String],
        targets: &[Address],
    ) -> Result<AddressKey> {
        let state = self.state.read();
        let key = state.check_free_address(address)?;
        for (text, target) in texts.iter().zip(targets) {
            let itself = AddressKey::of(target).as_ref() == Some(&key);
            if !itself && !state.leads_somewhere(target) {
                return Err(Error::new(
                    Kind::NotFound,
                    format!("alias {given}: its target {text} is neither an account nor an alias"),
                ));
            }
            if itself {
                return Err(alias_loop(given));
            }
        }
        match state.check_alias(&key, targets) {
            Ok(()) => Ok(key),
            Err(Tangle::Loop) => Err(alias_loop(given)),
            Err(Tangle::TooFar) => Err(Error::new(
                Kind::Limit,
                format!(
                    "alias {given}: more than {ALIAS_DEPTH} aliases in a row, or more than {ALIAS_WIDTH} addresses to look at"
                ),
            )),
        }
    }

    /// Takes the next account number and UIDVALIDITY; both are on disk when this returns.
    fn next_account(&self, now: u64) -> Result<(AccountId, u32)> {
        let used_up = || Error::new(Kind::Limit, "all account numbers are used up");
        let mut counters = self.state.read().counters.clone();
        let id = counters.next_account.max(1);
        counters.next_account = id.checked_add(1).ok_or_else(used_up)?;
        let calendar = Some(now / 1000).filter(|seconds| *seconds <= CALENDAR_MAX);
        let calendar = calendar.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(0);
        let above = counters.uid_validity.checked_add(1).ok_or_else(used_up)?;
        counters.uid_validity = calendar.max(above);
        self.salt(&mut counters);
        let uid_validity = counters.uid_validity;
        self.rows.put(Table::Value, COUNTERS, &row::encode(&counters)?)?;
        self.state.write().counters = counters;
        Ok((AccountId(id), uid_validity))
    }
}

impl State {
    /// Whether an address may be given to somebody; answers its key.
    fn check_free_address(&self, address: &Address) -> Result<AddressKey> {
        let shown = shown(address);
        let (Some(key), Some(domain)) = (AddressKey::of(address), address.domain_key()) else {
            return Err(Error::new(Kind::Address, format!("address {shown} has no domain")));
        };
        if !self.domains.contains(&domain) {
            return Err(Error::new(
                Kind::NotFound,
                format!("address {shown}: {domain} is not a domain of this instance"),
            ));
        }
        match self.addresses.get(&key) {
            None => Ok(key),
            Some(Owner::Alias) => {
                Err(Error::new(Kind::Exists, format!("address {shown} is an alias already")))
            }
            Some(Owner::Account(id)) => {
                let primary = self.account(*id).and_then(|entry| entry.account.addresses.first());
                Err(Error::new(
                    Kind::Exists,
                    format!(
                        "address {shown} belongs to account {} already",
                        primary.map_or("", String::as_str)
                    ),
                ))
            }
        }
    }
}

/// Reads all tables.
fn read(rows: &dyn Rows) -> Result<State> {
    let mut state = State::default();
    for (key, value) in rows.scan(Table::Domain)? {
        let row: DomainRow = row::decode(Table::Domain, &key, &value)?;
        let folded = name::domain(&row.name)
            .map_err(|error| row::corrupt(Table::Domain, &key, error.message()))?;
        state.domains.insert(folded);
    }
    for (key, value) in rows.scan(Table::Value)? {
        if key == COUNTERS {
            state.counters = row::decode(Table::Value, &key, &value)?;
        }
    }
    for (key, value) in rows.scan(Table::Account)? {
        let id = row::account_of_key(&key)?;
        let row: AccountRow = row::decode(Table::Account, &key, &value)?;
        let damaged = |what: &str| row::corrupt(Table::Account, &key, what);
        if row.addresses.is_empty() {
            return Err(damaged("it has no address"));
        }
        if !password::is_usable(&row.password) {
            return Err(damaged("its password's hash cannot be used"));
        }
        for text in &row.addresses {
            let address = name::address(text).map_err(|error| damaged(error.message()))?;
            state.check_free_address(&address).map_err(|error| damaged(error.message()))?;
        }
        for name in State::names_of(&row) {
            if state.names.contains_key(&name) {
                return Err(damaged(&format!("the login name {name:?} is another account's, too")));
            }
        }
        state.counters.next_account = state.counters.next_account.max(id.0.saturating_add(1));
        state.counters.uid_validity = state.counters.uid_validity.max(row.uid_validity);
        state.put_account(id, row);
    }
    for (key, value) in rows.scan(Table::Alias)? {
        let row: AliasRow = row::decode(Table::Alias, &key, &value)?;
        let damaged = |error: Error| row::corrupt(Table::Alias, &key, error.message());
        let address = name::address(&row.address).map_err(damaged)?;
        let folded = state.check_free_address(&address).map_err(damaged)?;
        let mut targets = Vec::with_capacity(row.targets.len());
        for text in &row.targets {
            targets.push(name::address(text).map_err(damaged)?);
        }
        state.put_alias(folded, row, targets);
    }
    Ok(state)
}

fn secret_text(secret: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*secret).to_hex().to_string()
}

fn secret_of(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

fn no_account(address: &str) -> Error {
    Error::new(Kind::NotFound, format!("no account {address:?}"))
}

fn alias_loop(given: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("alias {given} would lead back to itself"))
}

/// An address for a line of text.
fn shown(address: &Address) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(address.as_bytes())
}
