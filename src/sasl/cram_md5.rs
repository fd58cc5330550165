//! CRAM-MD5 (RFC 2195), for old clients.
//!
//! The server sends a challenge that is never the same twice, the client answers with its name and the HMAC-MD5 of the
//! challenge under the password. What a server keeps to verify that ([`CramMd5Keys`]) is enough to log in with CRAM-MD5
//! anywhere the same password is used, and gives the password away to whoever tries out many. The channel is not
//! protected either. So it is never offered unless the configuration says so.

use subtle::ConstantTimeEq;

use super::{Machine, Mechanism, Nonce, Progress, Question, Verdict, md5, nonce_text};

/// What verifies a digest: the two states of HMAC-MD5 after the password's block. As good as the password for
/// CRAM-MD5, and no good for anything else.
#[derive(Clone, PartialEq, Eq)]
pub struct CramMd5Keys {
    inner: [u8; 16],
    outer: [u8; 16],
}

impl CramMd5Keys {
    /// The keys of a password. No SASLprep: RFC 2195 knows none, and old clients do none.
    pub fn derive(password: &str) -> CramMd5Keys {
        let (inner, outer) = md5::hmac_states(password.as_bytes());
        CramMd5Keys { inner, outer }
    }

    /// Whether a client that knows the password answers this challenge with this digest (32 hexadecimal digits).
    /// The time it takes does not depend on the digest's value.
    pub fn verify(&self, challenge: &str, digest: &str) -> bool {
        let expected = hex(&md5::hmac(&self.inner, &self.outer, challenge.as_bytes()));
        let given = digest.to_ascii_lowercase();
        bool::from(expected.as_bytes().ct_eq(given.as_bytes()))
    }

    /// The client's digest of a challenge.
    pub(super) fn digest(&self, challenge: &[u8]) -> String {
        hex(&md5::hmac(&self.inner, &self.outer, challenge))
    }

    /// Both states in hexadecimal: 64 digits.
    pub fn to_text(&self) -> String {
        hex(&self.inner) + &hex(&self.outer)
    }

    /// Reads [`CramMd5Keys::to_text`].
    pub fn from_text(text: &str) -> Option<CramMd5Keys> {
        if text.len() != 64 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return None;
        }
        let mut keys = CramMd5Keys { inner: [0; 16], outer: [0; 16] };
        let octets = keys.inner.iter_mut().chain(&mut keys.outer);
        for (octet, pair) in octets.zip(text.as_bytes().chunks_exact(2)) {
            *octet = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(keys)
    }
}

impl Drop for CramMd5Keys {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.inner);
        zeroize::Zeroize::zeroize(&mut self.outer);
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The server's side.
#[derive(Default)]
pub(super) struct Server {
    challenge: String,
    login: String,
    digest: String,
}

impl Server {
    fn challenged(&mut self, nonce: &Nonce) -> Progress {
        // The form of a message identifier (RFC 2195 2); what it says means nothing.
        self.challenge = format!("<{}@cram-md5.invalid>", nonce_text(nonce));
        Progress::Challenge
    }
}

impl Machine for Server {
    fn start(&mut self) -> Progress {
        Progress::Ask
    }

    fn respond(&mut self, response: &[u8]) -> Option<Progress> {
        if self.challenge.is_empty() {
            // The server speaks first: there can be no initial response (RFC 4954 4).
            return None;
        }
        let (login, digest) = std::str::from_utf8(response).ok()?.rsplit_once(' ')?;
        let plain = digest.len() == 32 && digest.bytes().all(|octet| octet.is_ascii_hexdigit());
        if login.is_empty() || login.contains('\0') || !plain {
            return None;
        }
        self.login = login.to_owned();
        self.digest = digest.to_owned();
        Some(Progress::Ask)
    }

    fn answer(&mut self, verdict: Verdict) -> Progress {
        match verdict {
            Verdict::Nonce(nonce) if self.challenge.is_empty() => self.challenged(&nonce),
            Verdict::Accept if self.challenge.is_empty() => Progress::Unavailable,
            verdict => verdict.plain(),
        }
    }

    fn question(&self) -> Question<'_> {
        if self.challenge.is_empty() {
            return Question::Nonce { mechanism: Mechanism::CramMd5 };
        }
        Question::CramMd5 { login: &self.login, challenge: &self.challenge, digest: &self.digest }
    }

    fn challenge(&self) -> &[u8] {
        self.challenge.as_bytes()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Server>()
            + self.challenge.capacity()
            + self.login.capacity()
            + self.digest.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2195 2.
    #[test]
    fn the_digest_is_that_of_the_rfc() {
        let keys = CramMd5Keys::derive("tanstaaftanstaaf");
        let challenge = "<1896.697170952@postoffice.reston.mci.net>";
        assert!(keys.verify(challenge, "b913a602c7eda7a495b4e6e7334d3890"));
        assert!(keys.verify(challenge, "B913A602C7EDA7A495B4E6E7334D3890"));
        assert!(!keys.verify(challenge, "b913a602c7eda7a495b4e6e7334d3891"));
        assert!(!keys.verify(challenge, ""));
        let again = CramMd5Keys::from_text(&keys.to_text()).unwrap();
        assert!(again == keys && again.verify(challenge, "b913a602c7eda7a495b4e6e7334d3890"));
    }

    #[test]
    fn keys_of_another_form_are_not_read() {
        let good = CramMd5Keys::derive("x").to_text();
        assert!(CramMd5Keys::from_text(&good[1..]).is_none());
        assert!(CramMd5Keys::from_text(&good.replace(&good[..1], "g")).is_none());
        assert!(CramMd5Keys::from_text(&format!("+{}", &good[1..])).is_none());
    }
}
