//! The directory's rows on disk.
//!
//! Keys: a domain's folded name; an account's number, 4 octets, big-endian; an alias's folded address;
//! [`COUNTERS`] among the single values. Values are JSON objects with a version in `v`. A reader takes
//! its own version and refuses newer ones by name; members that it does not know are kept when it
//! writes the row again, so a value set by a later release of the same version is not lost.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::derived::DerivedRow;
use crate::error::{Error, Kind, Result};
use crate::store::{AccountId, Table};

/// The version of every value written here.
const VERSION: u32 = 1;

/// The key of [`Counters`] among the single values.
pub(super) const COUNTERS: &[u8] = b"directory/counters";

/// A domain's value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DomainRow {
    /// The name as it was given.
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// An account's value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AccountRow {
    /// The login name as it was given.
    pub(super) login: String,
    /// The addresses as they were given; the first is the primary one.
    pub(super) addresses: Vec<String>,
    /// UIDVALIDITY of the first mailbox.
    pub(super) uid_validity: u32,
    /// The password's hash: a PHC string.
    pub(super) password: String,
    /// What else is derived from the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) derived: Option<DerivedRow>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// An alias's value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct AliasRow {
    /// The address as it was given.
    pub(super) address: String,
    /// The targets as they were given.
    pub(super) targets: Vec<String>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

/// What must never be given twice.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Counters {
    /// The number of the next account.
    pub(super) next_account: u32,
    /// The highest UIDVALIDITY that was given.
    pub(super) uid_validity: u32,
    /// What decoy keys for unknown names and the salts of all keys are made of: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
    /// The iterations of all SCRAM keys, decoys included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scram_iterations: Option<u32>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    row: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// A row's value.
pub(super) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(&Versioned { v: VERSION, row }).map_err(|error| {
        Error::new(Kind::Internal, format!("cannot encode a row of the directory: {error}"))
    })
}

/// Reads a row's value.
///
/// # Errors
/// `FormatNewer` and `Corrupt`, naming table and key.
pub(super) fn decode<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T> {
    let version: Version =
        serde_json::from_slice(value).map_err(|error| corrupt(table, key, &error.to_string()))?;
    if version.v > VERSION {
        return Err(Error::new(
            Kind::FormatNewer,
            format!(
                "{} has version {}, this program reads version {VERSION}",
                object(table, key),
                version.v
            ),
        ));
    }
    let row: Versioned<T> =
        serde_json::from_slice(value).map_err(|error| corrupt(table, key, &error.to_string()))?;
    Ok(row.row)
}

/// An account's key.
pub(super) fn account_key(id: AccountId) -> [u8; 4] {
    id.0.to_be_bytes()
}

/// Reads an account's key.
pub(super) fn account_of_key(key: &[u8]) -> Result<AccountId> {
    match key.try_into() {
        Ok(octets) => Ok(AccountId(u32::from_be_bytes(octets))),
        Err(_) => Err(corrupt(Table::Account, key, "the key is not an account's number")),
    }
}

/// A row that cannot be what this room wrote.
pub(super) fn corrupt(table: Table, key: &[u8], what: &str) -> Error {
    Error::new(Kind::Corrupt, format!("{} is damaged: {what}", object(table, key)))
}

fn object(table: Table, key: &[u8]) -> String {
    let name = match table {
        Table::Domain => "domain",
        Table::Account => "account",
        Table::Alias => "alias",
        Table::Value => "value",
    };
    match (table, <[u8; 4]>::try_from(key)) {
        (Table::Account, Ok(octets)) => {
            format!("the directory's row of {name} {}", u32::from_be_bytes(octets))
        }
        _ => format!("the directory's row of {name} {}", key.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_later_release_are_kept() {
        let value = br#"{"v":1,"address":"a@b.test","targets":["c@d.test"],"owner":{"x":[1]}}"#;
        let row: AliasRow = decode(Table::Alias, b"a@b.test", value).unwrap();
        assert_eq!(row.targets, ["c@d.test"]);
        let again: Value = serde_json::from_slice(&encode(&row).unwrap()).unwrap();
        assert_eq!(again, serde_json::from_slice::<Value>(value).unwrap());
    }

    #[test]
    fn a_newer_version_is_refused_with_both_versions_named() {
        let error = decode::<AccountRow>(Table::Account, &[0, 0, 0, 7], br#"{"v":2,"login":5}"#)
            .unwrap_err();
        assert_eq!(error.kind(), Kind::FormatNewer);
        assert!(error.message().contains("account 7 has version 2"), "{error}");
        assert!(error.message().contains("version 1"), "{error}");
    }

    #[test]
    fn damage_is_reported_with_the_rows_name() {
        for value in [&b""[..], b"{}", b"{\"v\":1}", b"\xff", b"[1]", b"{\"v\":1,\"name\":3}"] {
            let error = decode::<DomainRow>(Table::Domain, b"example.test", value).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.message().contains("domain example.test is damaged"), "{error}");
        }
        assert_eq!(account_of_key(b"123").unwrap_err().kind(), Kind::Corrupt);
    }
}
