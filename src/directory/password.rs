//! Passwords: the rules for new ones, and Argon2id (RFC 9106) to keep and verify them.
//!
//! A row holds a PHC string: algorithm, cost, a random salt of 16 octets, and the hash. Verifying
//! reads the cost from the string, so a changed default spoils no old password. Costs far beyond any
//! default are refused when rows are read: a damaged row must not take all memory.
//!
//! The memory that Argon2 fills is cleared after use. Passwords themselves are borrowed from the
//! caller here, never kept.

use std::num::NonZeroU32;

use argon2::password_hash::CustomizedPasswordHasher;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};

use super::derived::random;
use crate::error::{Error, Kind, Result};
use crate::sasl;

/// Fewest characters of a new password.
pub const PASSWORD_MIN: usize = 8;

/// Most octets of a new password.
pub const PASSWORD_MAX: usize = 1024;

/// Most memory that a stored hash may ask for, in KiB.
const MEMORY_MAX_KIB: u32 = 256 << 10;
/// Most passes that a stored hash may ask for.
const PASSES_MAX: u32 = 64;
/// Most lanes that a stored hash may ask for.
const LANES_MAX: u32 = 64;

/// What verifying one password costs. The default is 19 MiB of memory, two passes, one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// Iterations of the SCRAM keys that are kept besides: each client pays them at each login, and who has stolen the
    /// store pays them, and not the memory, for each password that is tried out.
    pub scram_iterations: NonZeroU32,
}

impl Default for PasswordCost {
    fn default() -> Self {
        PasswordCost {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
            scram_iterations: NonZeroU32::new(sasl::ITERATIONS).unwrap_or(NonZeroU32::MIN),
        }
    }
}

impl PasswordCost {
    /// The least that Argon2 and the clients of SCRAM accept: for tests that make many accounts.
    pub const LEAST: PasswordCost = PasswordCost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
        // Evaluated by the compiler, which would refuse it: nothing is unwrapped at run time.
        scram_iterations: NonZeroU32::new(4096).unwrap(),
    };

    fn parameters(self) -> Result<Params> {
        if self.memory_kib > MEMORY_MAX_KIB || self.passes > PASSES_MAX || self.lanes > LANES_MAX {
            return Err(Error::new(
                Kind::InvalidArgument,
                format!(
                    "password cost {self:?} is beyond {MEMORY_MAX_KIB} KiB, {PASSES_MAX} passes, {LANES_MAX} lanes"
                ),
            ));
        }
        Params::new(self.memory_kib, self.passes, self.lanes, None).map_err(|error| {
            Error::new(Kind::InvalidArgument, format!("password cost {self:?}: {error}"))
        })
    }
}

/// Checks a new password against the rules; `names` are the login name and the addresses.
pub(super) fn check<'n>(password: &str, names: impl Iterator<Item = &'n str>) -> Result<()> {
    let bad = |what: &'static str| Err(Error::new(Kind::Password, what));
    if password.chars().count() < PASSWORD_MIN {
        return bad("the password is shorter than 8 characters");
    }
    if password.len() > PASSWORD_MAX {
        return bad("the password is longer than 1024 octets");
    }
    if password.starts_with(char::is_whitespace) {
        return bad("the password begins with white space");
    }
    if password.chars().any(char::is_control) {
        return bad("the password has a control character, which mail programs cannot send");
    }
    for name in names {
        if name.eq_ignore_ascii_case(password) {
            return bad("the password is the same as the login name or an address");
        }
    }
    Ok(())
}

/// Hashes a password with a new random salt.
pub(super) fn hash(password: &str, cost: PasswordCost) -> Result<String> {
    let mut salt = [0u8; 16];
    random(&mut salt)?;
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_params(password.as_bytes(), &salt, cost.parameters()?)
        .map_err(|error| Error::new(Kind::Internal, format!("cannot hash a password: {error}")))?;
    Ok(hash.to_string())
}

/// Whether this is the password of that hash. Takes the time that the hash's cost says, whatever the
/// outcome; the comparison at its end does not depend on the values.
pub(super) fn verify(password: &str, hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Whether a stored string is a hash that may be verified.
pub(super) fn is_usable(hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let Ok(parameters) = Params::try_from(&hash) else { return false };
    hash.algorithm.as_str() == "argon2id"
        && hash.salt.is_some()
        && hash.hash.is_some()
        && parameters.m_cost() <= MEMORY_MAX_KIB
        && parameters.t_cost() <= PASSES_MAX
        && parameters.p_cost() <= LANES_MAX
}

/// A hash of this cost that no password has: verifying against it takes as long as against any other.
pub(super) fn dummy(cost: PasswordCost) -> Result<String> {
    cost.parameters()?;
    let PasswordCost { memory_kib, passes, lanes, .. } = cost;
    // 16 octets of salt and 32 of hash, all zero, in base64 without padding.
    let (salt, hash) = ("A".repeat(22), "A".repeat(43));
    Ok(format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(password: &str) -> String {
        let error = check(password, ["carol", "Carol.Long@example.test"].into_iter()).unwrap_err();
        assert_eq!(error.kind(), Kind::Password);
        error.message().to_owned()
    }

    #[test]
    fn a_hash_verifies_its_password_only() {
        let hash = hash("correct horse", PasswordCost::LEAST).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert!(is_usable(&hash));
        assert!(verify("correct horse", &hash));
        assert!(!verify("correct horse ", &hash));
        assert!(!verify("", &hash));
    }

    #[test]
    fn scram_keys_cost_by_default_what_clients_take() {
        let cost = PasswordCost::default();
        assert_eq!(cost.scram_iterations.get(), sasl::ITERATIONS);
        assert!(
            cost.scram_iterations.get() <= 65_536,
            "more ends the login of Cyrus SASL's clients"
        );
    }

    #[test]
    fn the_same_password_hashes_to_another_string_every_time() {
        let one = hash("correct horse", PasswordCost::LEAST).unwrap();
        assert_ne!(one, hash("correct horse", PasswordCost::LEAST).unwrap());
    }

    #[test]
    fn the_dummy_can_be_verified_against_and_nothing_fits_it() {
        let dummy = dummy(PasswordCost::LEAST).unwrap();
        assert!(is_usable(&dummy), "{dummy}");
        assert!(!verify("", &dummy));
        assert!(is_usable(&super::dummy(PasswordCost::default()).unwrap()));
    }

    #[test]
    fn hashes_that_cost_too_much_or_are_of_another_kind_are_not_usable() {
        let zero = "A".repeat(43);
        for text in [
            format!("$argon2id$v=19$m=300000,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA${zero}"),
            format!("$argon2id$v=19$m=1024,t=65,p=1$AAAAAAAAAAAAAAAAAAAAAA${zero}"),
            format!("$argon2i$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA${zero}"),
            "$argon2id$v=19$m=1024,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            "secret".to_owned(),
            String::new(),
        ] {
            assert!(!is_usable(&text), "{text}");
        }
        assert!(
            hash("correct horse", PasswordCost { memory_kib: 1 << 30, ..PasswordCost::LEAST })
                .is_err()
        );
    }

    #[test]
    fn the_rules_are_eight_characters_no_leading_space_and_no_name() {
        let names = || ["carol", "Carol.Long@example.test"].into_iter();
        assert!(check("12345678", names()).is_ok());
        assert!(check("ÄÖÜäöüßé", names()).is_ok(), "characters count, not octets");
        assert!(check("end space ", names()).is_ok());
        assert!(refusal("1234567").contains("8 characters"));
        assert!(refusal("ÄÖÜäöüß").contains("8 characters"));
        assert!(refusal(" 12345678").contains("white space"));
        assert!(refusal("\u{3000}12345678").contains("white space"));
        assert!(refusal("1234\u{7}5678").contains("control"));
        assert!(refusal("carol.long@EXAMPLE.test").contains("login name"));
        assert!(refusal(&"x".repeat(PASSWORD_MAX + 1)).contains("1024"));
        assert!(check(&"x".repeat(PASSWORD_MAX), names()).is_ok());
    }
}
