//! What is derived from a password besides its hash: SCRAM-SHA-256 keys, and where asked for those of CRAM-MD5.
//!
//! The row of an account keeps them in one member with a mark of the hash that they belong to. A release that does not
//! know the member keeps it as it is when it writes the row again, even with another password: the mark no longer fits,
//! and the keys of the old password count as not there. Keys in a form that is not known count as not there, too, and
//! are made again at the next login that shows the password.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::password::PasswordCost;
use crate::error::{Error, Kind, Result};
use crate::sasl::{CramMd5Keys, ScramKeys};

/// The member of an account's row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DerivedRow {
    /// Of which hash: the beginning of its BLAKE3 digest.
    #[serde(default)]
    of: String,
    /// RFC 5803 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_256: Option<String>,
    /// Two states of HMAC-MD5 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cram_md5: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

fn mark(hash: &str) -> String {
    blake3::hash(hash.as_bytes()).to_hex().chars().take(32).collect()
}

/// What a row's member holds for the hash that stands in the row.
#[derive(Clone, Default)]
pub(super) struct Derived {
    pub(super) scram: Option<ScramKeys>,
    pub(super) cram_md5: Option<CramMd5Keys>,
}

impl Derived {
    /// Derives new keys. Slow on purpose. `hash` is the password's hash in the row.
    pub(super) fn row(
        password: &str,
        hash: &str,
        cost: PasswordCost,
        cram_md5: bool,
    ) -> Result<DerivedRow> {
        let mut salt = [0u8; 16];
        random(&mut salt)?;
        Ok(DerivedRow {
            of: mark(hash),
            scram_sha_256: Some(
                ScramKeys::derive(password, &salt, cost.scram_iterations).to_text(),
            ),
            cram_md5: cram_md5.then(|| CramMd5Keys::derive(password).to_text()),
            more: Map::new(),
        })
    }

    /// Reads them.
    pub(super) fn read(row: Option<&DerivedRow>, hash: &str) -> Derived {
        let Some(row) = row.filter(|row| row.of == mark(hash)) else { return Derived::default() };
        Derived {
            scram: row.scram_sha_256.as_deref().and_then(ScramKeys::from_text),
            cram_md5: row.cram_md5.as_deref().and_then(CramMd5Keys::from_text),
        }
    }
}

/// Fills with random octets.
pub(super) fn random(octets: &mut [u8]) -> Result<()> {
    getrandom::fill(octets).map_err(|error| {
        Error::new(Kind::Io, format!("no randomness for a password's salt: {error}"))
    })
}
