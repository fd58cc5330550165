//! What is derived from a password besides its hash: SCRAM-SHA-256 keys, and where asked for those of CRAM-MD5.
//!
//! The row of an account keeps them in one member with a mark of the hash that they belong to. A release that does not
//! know the member keeps it as it is when it writes the row again, even with another password: the mark no longer fits,
//! and the keys of the old password count as not there. Keys in a form that is not known count as not there, too, and
//! are made again at the next login that shows the password.
//!
//! # Names that nobody has
//! SCRAM shows salt and iterations to whoever gives a name ([`Salting`]). So that they do not tell whether there is an account,
//! both are what they would be without one: the salt is made of the instance's secret and the name, the iterations are the instance's,
//! fixed with its first account. They stay when an account comes, changes its password, or goes. An account with a login
//! name besides its primary address has keys for each of the two, since two unknown names have two salts. Keys that were made
//! otherwise, by an earlier release, work, and are made again at the next login that shows the password.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::name;
use crate::error::{Error, Kind, Result};
use crate::sasl::{CramMd5Keys, ScramKeys, prep};

/// The member of an account's row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DerivedRow {
    /// Of which hash: the beginning of its BLAKE3 digest.
    #[serde(default)]
    of: String,
    /// RFC 5803 2, for the login name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_256: Option<String>,
    /// For the primary address, where it is another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_256_address: Option<String>,
    /// Two states of HMAC-MD5 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cram_md5: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

fn mark(hash: &str) -> String {
    blake3::hash(hash.as_bytes()).to_hex().chars().take(32).collect()
}

/// What is shown of SCRAM keys, the same whether somebody has the name or not.
pub(super) struct Salting {
    /// The instance's.
    pub(super) secret: [u8; 32],
    /// Of all keys.
    pub(super) iterations: NonZeroU32,
}

impl Salting {
    /// Keys that fit no password.
    pub(super) fn decoy(&self, login: &str) -> ScramKeys {
        ScramKeys::decoy(&self.secret, &spelled(login), self.iterations.get())
    }

    /// Whether keys show what a decoy of this name shows.
    fn fits(&self, keys: Option<&ScramKeys>, login: &str) -> bool {
        let decoy = self.decoy(login);
        keys.is_some_and(|keys| keys.salt == decoy.salt && keys.iterations == decoy.iterations)
    }
}

/// All spellings of a login name as one.
fn spelled(login: &str) -> String {
    name::login_key(&prep::prepare(login))
}

/// What an account logs in with.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    login: &'a str,
    /// The primary address, where it is another name.
    address: Option<&'a str>,
}

impl<'a> Names<'a> {
    /// Of a login name and a primary address.
    pub(super) fn new(login: &'a str, primary: Option<&'a String>) -> Names<'a> {
        let other = |primary: &&str| spelled(primary) != spelled(login);
        Names { login, address: primary.map(String::as_str).filter(other) }
    }
}

/// What a row's member holds for the hash that stands in the row.
#[derive(Clone, Default)]
pub(super) struct Derived {
    scram: Option<ScramKeys>,
    scram_address: Option<ScramKeys>,
    pub(super) cram_md5: Option<CramMd5Keys>,
}

impl Derived {
    /// Derives new keys. Slow on purpose. `hash` is the password's hash in the row.
    pub(super) fn row(
        names: Names<'_>,
        password: &str,
        hash: &str,
        salting: &Salting,
        cram_md5: bool,
    ) -> DerivedRow {
        let scram = |name: &str| {
            let salt = salting.decoy(name).salt.clone();
            ScramKeys::derive(password, &salt, salting.iterations).to_text()
        };
        DerivedRow {
            of: mark(hash),
            scram_sha_256: Some(scram(names.login)),
            scram_sha_256_address: names.address.map(scram),
            cram_md5: cram_md5.then(|| CramMd5Keys::derive(password).to_text()),
            more: Map::new(),
        }
    }

    /// Reads them.
    pub(super) fn read(row: Option<&DerivedRow>, hash: &str) -> Derived {
        let Some(row) = row.filter(|row| row.of == mark(hash)) else { return Derived::default() };
        Derived {
            scram: row.scram_sha_256.as_deref().and_then(ScramKeys::from_text),
            scram_address: row.scram_sha_256_address.as_deref().and_then(ScramKeys::from_text),
            cram_md5: row.cram_md5.as_deref().and_then(CramMd5Keys::from_text),
        }
    }

    /// The keys for one of the account's names.
    pub(super) fn scram(&self, names: Names<'_>, login: &str) -> Option<&ScramKeys> {
        let by_address = names.address.is_some_and(|address| spelled(address) == spelled(login));
        self.scram_address.as_ref().filter(|_| by_address).or(self.scram.as_ref())
    }

    /// Whether there are keys for all names, and they tell nobody that they are no decoys.
    pub(super) fn is_complete(&self, names: Names<'_>, salting: &Salting) -> bool {
        salting.fits(self.scram.as_ref(), names.login)
            && names.address.is_none_or(|name| salting.fits(self.scram_address.as_ref(), name))
    }

    /// The iterations of its keys.
    pub(super) fn iterations(&self) -> Option<u32> {
        self.scram.as_ref().map(|keys| keys.iterations)
    }
}

/// Fills with random octets.
pub(super) fn random(octets: &mut [u8]) -> Result<()> {
    getrandom::fill(octets).map_err(|error| {
        Error::new(Kind::Io, format!("no randomness for a password's salt: {error}"))
    })
}
