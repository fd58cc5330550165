//! Mechanisms, keys and the questions of a login, the same for both bare sessions.

use std::num::NonZeroU32;

use super::boundary::{DONE, null};
use super::bytes::ph_bytes;
use super::record::{self, Record};
use super::status::ph_status;
use crate::error::{Error, Kind, Result};
use crate::sasl::{
    self, Bindings, CramMd5Keys, Mechanism, Mechanisms, Nonce, Question, SALT_MAX, ScramKeys,
    Verdict,
};

/// Mechanism PLAIN (RFC 4616).
pub const PH_MECHANISM_PLAIN: u32 = 1;
/// Mechanism LOGIN.
pub const PH_MECHANISM_LOGIN: u32 = 2;
/// Mechanism CRAM-MD5 (RFC 2195), for old clients.
pub const PH_MECHANISM_CRAM_MD5: u32 = 4;
/// Mechanism SCRAM-SHA-256 (RFC 7677).
pub const PH_MECHANISM_SCRAM_SHA_256: u32 = 8;
/// Mechanism SCRAM-SHA-256-PLUS (RFC 7677), bound to the TLS channel.
pub const PH_MECHANISM_SCRAM_SHA_256_PLUS: u32 = 16;
/// Mechanism OAUTHBEARER (RFC 7628).
pub const PH_MECHANISM_OAUTHBEARER: u32 = 32;
/// Mechanism XOAUTH2.
pub const PH_MECHANISM_XOAUTH2: u32 = 64;

/// Octets of a nonce.
pub const PH_NONCE_SIZE: usize = 18;

const _: () = assert!(PH_NONCE_SIZE == size_of::<Nonce>());

const BITS: [(u32, Mechanism); 7] = [
    (PH_MECHANISM_PLAIN, Mechanism::Plain),
    (PH_MECHANISM_LOGIN, Mechanism::Login),
    (PH_MECHANISM_CRAM_MD5, Mechanism::CramMd5),
    (PH_MECHANISM_SCRAM_SHA_256, Mechanism::ScramSha256),
    (PH_MECHANISM_SCRAM_SHA_256_PLUS, Mechanism::ScramSha256Plus),
    (PH_MECHANISM_OAUTHBEARER, Mechanism::OAuthBearer),
    (PH_MECHANISM_XOAUTH2, Mechanism::XOAuth2),
];

/// What a server keeps to verify a password by SCRAM-SHA-256 (RFC 5802 3). Begin with PH_SCRAM_KEYS_INIT.
///
/// As good as the password to whoever tries out many; with it somebody can pass for the server, not for the client.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ph_scram_keys {
    /// sizeof(ph_scram_keys).
    pub struct_size: u32,
    /// How often the hash is iterated, at least 1.
    pub iterations: u32,
    /// Octets of the salt, 1 to 64.
    pub salt_len: u32,
    /// Must be 0.
    pub reserved: u32,
    /// The salt.
    pub salt: [u8; 64],
    /// StoredKey.
    pub stored_key: [u8; 32],
    /// ServerKey.
    pub server_key: [u8; 32],
}

// SAFETY: repr(C), begins with `struct_size`; integers.
unsafe impl Record for ph_scram_keys {
    const NAME: &'static str = "ph_scram_keys";
    const FIRST: usize = size_of::<ph_scram_keys>();
}

/// Derives the keys of a password, to be kept in place of it.
///
/// Behaviour: the password is prepared by SASLprep (RFC 4013); one that SASLprep refuses is taken as it is. Slow on purpose: about
/// a third of a microsecond for each iteration.
/// Parameters: password, UTF-8; salt, 1 to 64 octets, random for each password, or those of ph_scram_decoy for the name; iterations, 0 means 65536, most clients
/// accept no fewer than 4096; keys, where they go, with struct_size set.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for a salt of another length; PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scram_derive(
    password: ph_bytes,
    salt: ph_bytes,
    iterations: u32,
    keys: *mut ph_scram_keys,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented.
        unsafe {
            record::check_out(keys)?;
            let (password, salt) = (password.text("password")?, salt.octets("salt")?);
            if !(1..=SALT_MAX).contains(&salt.len()) {
                return Err(Error::new(Kind::InvalidArgument, "salt has not 1 to 64 octets"));
            }
            let iterations = NonZeroU32::new(iterations).or(NonZeroU32::new(sasl::ITERATIONS));
            let iterations = iterations.unwrap_or(NonZeroU32::MIN);
            record::write(keys, keys_for_c(&ScramKeys::derive(password, salt, iterations)))?;
        }
        DONE
    })
}

/// Makes keys that fit no password, for a login name that nobody has.
///
/// Behaviour: with these as the answer a client cannot tell such a name from one with another password. Always the same for the
/// same secret, name and iterations. SCRAM shows salt and iterations to whoever gives a name: derive the keys of somebody who has
/// it with the salt and the iterations that the name has here, and they tell nothing either.
/// Parameters: secret, 32 random octets that the host keeps as long as the keys of its users; login, UTF-8, the name folded
/// as the host folds names that it looks up; iterations, as in the keys of its users, 0 means 65536; keys, where they go,
/// with struct_size set.
/// Returns: PH_OK or an error.
/// Errors: PH_E_INVALID_ARGUMENT for a secret of another length; PH_E_STRUCT_SIZE, PH_E_UTF8, PH_E_NULL.
/// Ownership: everything is copied before the call returns.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_scram_decoy(
    secret: ph_bytes,
    login: ph_bytes,
    iterations: u32,
    keys: *mut ph_scram_keys,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented.
        unsafe {
            record::check_out(keys)?;
            let secret: &[u8; 32] = secret.octets("secret")?.try_into().map_err(|_| {
                Error::new(Kind::InvalidArgument, "secret has not 32 octets")
            })?;
            let login = login.text("login")?;
            let iterations = if iterations == 0 { sasl::ITERATIONS } else { iterations };
            record::write(keys, keys_for_c(&ScramKeys::decoy(secret, login, iterations)))?;
        }
        DONE
    })
}

/// Verifies the digest of CRAM-MD5 with the password in clear.
///
/// Parameters: password; challenge and digest, as the event PH_SMTP_AUTH_CRAM_MD5 or PH_POP3_AUTH_CRAM_MD5 brought them; all
/// UTF-8; right, where 1 goes when the digest is the password's, and 0 when not.
/// Returns: PH_OK or an error.
/// Errors: PH_E_UTF8, PH_E_NULL.
/// Thread: any thread.
/// Since: 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ph_cram_md5_verify(
    password: ph_bytes,
    challenge: ph_bytes,
    digest: ph_bytes,
    right: *mut u32,
) -> ph_status {
    boundary!(std::ptr::null_mut() => {
        // SAFETY: pointers as documented.
        unsafe {
            let right = right.as_mut().ok_or_else(|| null("right"))?;
            let keys = CramMd5Keys::derive(password.text("password")?);
            *right = keys.verify(challenge.text("challenge")?, digest.text("digest")?).into();
        }
        DONE
    })
}

fn keys_for_c(keys: &ScramKeys) -> ph_scram_keys {
    let mut shown = ph_scram_keys {
        struct_size: 0,
        iterations: keys.iterations,
        salt_len: u32::try_from(keys.salt.len()).unwrap_or(u32::MAX),
        reserved: 0,
        salt: [0; 64],
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    };
    for (to, from) in shown.salt.iter_mut().zip(&keys.salt) {
        *to = *from;
    }
    shown
}

/// A set of mechanisms.
pub(super) fn mechanisms_of(bits: u32) -> Result<Mechanisms> {
    if BITS.iter().fold(bits, |left, (bit, _)| left & !bit) != 0 {
        let text = "mechanisms has bits that are not PH_MECHANISM_...";
        return Err(Error::new(Kind::InvalidArgument, text));
    }
    let chosen = BITS.iter().filter(|(bit, _)| bits & bit != 0);
    Ok(chosen.fold(Mechanisms::NONE, |set, (_, mechanism)| set.with(*mechanism)))
}

/// What binds a channel.
///
/// # Safety
/// As for [`ph_bytes::octets`].
pub(super) unsafe fn bindings_of(exporter: ph_bytes, end_point: ph_bytes) -> Result<Bindings> {
    // SAFETY: the caller's promise.
    unsafe {
        Ok(Bindings {
            exporter: exporter.octets("tls_exporter")?.to_vec(),
            end_point: end_point.octets("tls_server_end_point")?.to_vec(),
        })
    }
}

/// A nonce.
///
/// # Safety
/// As for [`ph_bytes::octets`].
pub(super) unsafe fn nonce_of(nonce: ph_bytes) -> Result<Nonce> {
    // SAFETY: the caller's promise.
    unsafe { nonce.octets("nonce") }?
        .try_into()
        .map_err(|_| Error::new(Kind::InvalidArgument, "nonce has not 18 octets"))
}

/// The answer to a question for keys.
///
/// # Safety
/// As for [`record::read`] and [`ph_bytes::octets`].
pub(super) unsafe fn scram_of(keys: *const ph_scram_keys, nonce: ph_bytes) -> Result<Verdict> {
    // SAFETY: the caller's promise.
    let (keys, nonce) = unsafe { (record::read(keys)?, nonce_of(nonce)?) };
    record::unused(keys.reserved, "ph_scram_keys.reserved")?;
    let salt = usize::try_from(keys.salt_len).ok().filter(|len| *len > 0);
    let salt = salt.and_then(|len| keys.salt.get(..len));
    let (Some(salt), true) = (salt, keys.iterations > 0) else {
        let text = "salt_len is not between 1 and 64, or iterations is 0";
        return Err(Error::new(Kind::InvalidArgument, text));
    };
    let keys = ScramKeys {
        iterations: keys.iterations,
        salt: salt.to_vec(),
        stored_key: keys.stored_key,
        server_key: keys.server_key,
    };
    Ok(Verdict::Scram(Box::new(keys), nonce))
}

/// Which question is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Password,
    Nonce,
    Scram,
    CramMd5,
    Token,
    Outcome,
}

impl Asks {
    /// Whether an acceptance authenticates.
    pub(super) fn decides(self) -> bool {
        !matches!(self, Asks::Nonce | Asks::Scram)
    }
}

/// A question's parts as an event shows them.
pub(super) struct Asked {
    pub(super) asks: Asks,
    pub(super) login: ph_bytes,
    pub(super) authorization: ph_bytes,
    /// The password, the digest or the token.
    pub(super) secret: ph_bytes,
    /// The challenge that a digest belongs to.
    pub(super) challenge: ph_bytes,
    pub(super) proved: bool,
}

impl Asked {
    pub(super) fn new(question: &Question<'_>) -> Asked {
        let view = |text: &str| ph_bytes::new(text.as_bytes());
        let mut asked = Asked {
            asks: Asks::Password,
            login: ph_bytes::EMPTY,
            authorization: ph_bytes::EMPTY,
            secret: ph_bytes::EMPTY,
            challenge: ph_bytes::EMPTY,
            proved: false,
        };
        match question {
            Question::Verify { authorization, login, password, .. } => {
                asked.authorization = view(authorization);
                asked.login = view(login);
                asked.secret = view(password);
            }
            Question::Nonce { .. } => asked.asks = Asks::Nonce,
            Question::Scram { authorization, login, .. } => {
                asked.asks = Asks::Scram;
                asked.authorization = view(authorization);
                asked.login = view(login);
            }
            Question::CramMd5 { login, challenge, digest } => {
                asked.asks = Asks::CramMd5;
                asked.login = view(login);
                asked.challenge = view(challenge);
                asked.secret = view(digest);
            }
            Question::Token { login, token, .. } => {
                asked.asks = Asks::Token;
                asked.login = view(login);
                asked.secret = view(token);
            }
            Question::Outcome { authorization, login, failure, .. } => {
                asked.asks = Asks::Outcome;
                asked.authorization = view(authorization);
                asked.login = view(login);
                asked.proved = failure.is_none();
            }
        }
        asked
    }
}
