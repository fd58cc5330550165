//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677): the keys, and the server's side.
//!
//! ```text
//! client  n,,n=user,r=CLIENT                     asks Question::Scram: keys and a nonce
//! server  r=CLIENT SERVER,s=SALT,i=4096
//! client  c=biws,r=CLIENT SERVER,p=PROOF         wrong: asks Question::Outcome with the failure
//! server  v=SIGNATURE
//! client  (empty)                                asks Question::Outcome
//! ```
//!
//! # Invariants
//! - A client that could bind the channel and believes that we cannot (`y`) is refused when PLUS was offered: somebody
//!   took it out of the offer (RFC 5802 6).
//! - For a name that nobody has, the caller gives keys that fit no password ([`ScramKeys::decoy`]). The messages have the
//!   same form, and the same work is done: who does not know the password cannot tell one from the other.
//! - Proofs are compared in constant time.
//! - Extensions that must be understood (`m=`) are refused, others passed over (RFC 5802 5.1).

use std::num::NonZeroU32;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::crypto::{self, OCTETS};
use super::{Bindings, Machine, Mechanism, Progress, Question, Verdict, nonce_text, prep};
use crate::codec::base64;

/// Most octets of a salt.
pub const SALT_MAX: usize = 64;

/// Iterations for new keys: 1/45 of a second of one core, which the client spends at each login and the server once. As many as
/// Cyrus SASL 2.1 takes, the library of Postfix and other clients: asked for more it ends the login, and tries no other mechanism.
pub const ITERATIONS: u32 = 65_536;

/// What a server keeps to verify a password by SCRAM-SHA-256 (RFC 5802 3). Does not give the password away except to
/// whoever tries out many; with it somebody can pass for the server, not for the client.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// How often the hash is iterated.
    pub iterations: u32,
    /// The salt, 1 to [`SALT_MAX`] octets.
    pub salt: Vec<u8>,
    /// `H(ClientKey)`.
    pub stored_key: [u8; OCTETS],
    /// Signs for the server.
    pub server_key: [u8; OCTETS],
}

impl Drop for ScramKeys {
    fn drop(&mut self) {
        self.stored_key.zeroize();
        self.server_key.zeroize();
    }
}

impl std::fmt::Debug for ScramKeys {
    /// Shows no key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramKeys {
    /// The keys of a password, prepared by SASLprep. Slow on purpose.
    pub fn derive(password: &str, salt: &[u8], iterations: NonZeroU32) -> ScramKeys {
        let salted = salted(password, salt, iterations);
        let client_key = Zeroizing::new(crypto::hmac(&*salted, &[b"Client Key"]));
        ScramKeys {
            iterations: iterations.get(),
            salt: salt.to_vec(),
            stored_key: crypto::sha256(&*client_key),
            server_key: crypto::hmac(&*salted, &[b"Server Key"]),
        }
    }

    /// Keys that fit no password, always the same for a name: for names that nobody has. `secret` is the instance's own, and
    /// must stay the same as long as the keys of others do. Salt and iterations are shown to whoever gives the name: so that they do
    /// not tell, derive the keys of somebody who has it with the salt and the iterations of the name's decoy.
    pub fn decoy(secret: &[u8; 32], login: &str, iterations: u32) -> ScramKeys {
        let part = |what: &[u8]| crypto::hmac(secret, &[what, b"\0", login.as_bytes()]);
        ScramKeys {
            iterations,
            salt: part(b"salt").into_iter().take(16).collect(),
            stored_key: part(b"stored key"),
            server_key: part(b"server key"),
        }
    }

    /// The text of RFC 5803 2: `SCRAM-SHA-256$ITERATIONS:SALT$STORED:SERVER`.
    pub fn to_text(&self) -> String {
        let mut text = format!("SCRAM-SHA-256${}:", self.iterations);
        base64::encode(&self.salt, &mut text);
        text.push('$');
        base64::encode(&self.stored_key, &mut text);
        text.push(':');
        base64::encode(&self.server_key, &mut text);
        text
    }

    /// Reads [`ScramKeys::to_text`]; `None` for another form, and for a salt or a number of iterations out of bounds.
    pub fn from_text(text: &str) -> Option<ScramKeys> {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let keys = ScramKeys {
            iterations: number(iterations)?,
            salt: base64::decode(salt.as_bytes())?.to_vec(),
            stored_key: base64::decode(stored_key.as_bytes())?.as_slice().try_into().ok()?,
            server_key: base64::decode(server_key.as_bytes())?.as_slice().try_into().ok()?,
        };
        keys.is_usable().then_some(keys)
    }

    /// Whether a server can work with them.
    pub fn is_usable(&self) -> bool {
        (1..=SALT_MAX).contains(&self.salt.len()) && self.iterations > 0
    }

    /// `ServerSignature` of an exchange.
    fn server_signature(&self, message: &[&[u8]]) -> [u8; OCTETS] {
        crypto::hmac(&self.server_key, message)
    }

    /// Whether a client that gives this proof knows the password.
    fn proves(&self, message: &[&[u8]], proof: &[u8]) -> bool {
        let mut client_key = Zeroizing::new(crypto::hmac(&self.stored_key, message));
        for (octet, other) in client_key.iter_mut().zip(proof) {
            *octet ^= other;
        }
        proof.len() == OCTETS
            && bool::from(crypto::sha256(&*client_key).as_slice().ct_eq(&self.stored_key))
    }
}

fn salted(password: &str, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<[u8; OCTETS]> {
    let mut prepared = prep::prepare(password);
    let salted = crypto::pbkdf2(prepared.as_bytes(), salt, iterations);
    if let std::borrow::Cow::Owned(text) = &mut prepared {
        text.zeroize();
    }
    salted
}

/// The client's proof and the server's signature for an exchange.
pub(super) struct Proof {
    pub(super) proof: [u8; OCTETS],
    pub(super) signature: [u8; OCTETS],
}

impl Proof {
    pub(super) fn new(
        password: &str,
        salt: &[u8],
        iterations: NonZeroU32,
        message: &[&[u8]],
    ) -> Proof {
        let salted = salted(password, salt, iterations);
        let client_key = Zeroizing::new(crypto::hmac(&*salted, &[b"Client Key"]));
        let server_key = Zeroizing::new(crypto::hmac(&*salted, &[b"Server Key"]));
        let mut proof = crypto::hmac(&crypto::sha256(&*client_key), message);
        for (octet, other) in proof.iter_mut().zip(&*client_key) {
            *octet ^= other;
        }
        Proof { proof, signature: crypto::hmac(&*server_key, message) }
    }
}

/// A `saslname` (RFC 5802 5.1): `=2C` and `=3D` stand for comma and equals sign, which do not stand for themselves.
pub(super) fn saslname(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut parts = text.split('=');
    name.push_str(parts.next()?);
    for part in parts {
        let (sign, rest) = part.split_at_checked(2)?;
        name.push(match sign {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        name.push_str(rest);
    }
    (!name.is_empty() && !text.contains([',', '\0'])).then_some(name)
}

/// The other way round.
pub(super) fn to_saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// A positive number without sign or leading zero (RFC 5802 7, `posit-number`).
pub(super) fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

/// Printable ASCII without the comma, at least one (RFC 5802 7, `printable`).
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| matches!(octet, b'!'..=b'~') && octet != b',')
}

/// Attributes that a peer may add: `x=value`, none of which must be understood.
pub(super) fn are_extensions<'t>(mut attributes: impl Iterator<Item = &'t str>) -> bool {
    attributes.all(|attribute| {
        matches!(attribute.as_bytes(), [name, b'=', ..] if name.is_ascii_alphabetic() && *name != b'm')
    })
}

/// The server's side.
pub(super) struct Server {
    plus: bool,
    /// PLUS was offered, with these.
    bindings: Option<Bindings>,
    state: State,
    /// The gs2 header and the channel's data, which `c=` must repeat.
    bound: Vec<u8>,
    client_first_bare: String,
    server_first: String,
    authorization: String,
    login: String,
    nonce: String,
    keys: Option<ScramKeys>,
    challenge: String,
    failure: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The client's first message.
    First,
    /// The keys.
    Keys,
    /// The client's final message.
    Final,
    /// The client's empty response to our signature.
    Signed,
    /// It is known whether the client is who it says.
    Known,
}

impl Server {
    pub(super) fn new(plus: bool, bindings: Option<Bindings>) -> Server {
        Server {
            plus,
            bindings,
            state: State::First,
            bound: Vec::new(),
            client_first_bare: String::new(),
            server_first: String::new(),
            authorization: String::new(),
            login: String::new(),
            nonce: String::new(),
            keys: None,
            challenge: String::new(),
            failure: None,
        }
    }

    fn fail(&mut self, failure: &'static str) -> Progress {
        self.failure = Some(failure);
        self.state = State::Known;
        Progress::Ask
    }

    fn first(&mut self, text: &str) -> Option<Progress> {
        let (flag, rest) = text.split_once(',')?;
        let (authorization, bare) = rest.split_once(',')?;
        if !authorization.is_empty() {
            self.authorization = saslname(authorization.strip_prefix("a=")?)?;
        }
        let mut attributes = bare.split(',');
        self.login = saslname(attributes.next()?.strip_prefix("n=")?)?;
        self.nonce = attributes.next()?.strip_prefix("r=")?.to_owned();
        if !is_nonce(&self.nonce) || !are_extensions(attributes) {
            return None;
        }
        self.client_first_bare = bare.to_owned();
        self.bound = text.as_bytes().get(..text.len() - bare.len())?.to_vec();
        match (flag, self.plus) {
            ("n", false) => {}
            ("y", false) if self.bindings.is_none() => {}
            ("y", false) => {
                return Some(self.fail("the offer of SCRAM-SHA-256-PLUS was taken away"));
            }
            (_, true) => {
                let data = self.bindings.as_ref()?.named(flag.strip_prefix("p=")?);
                let Some(data) = data else {
                    return Some(self.fail("the channel is not bound in this way"));
                };
                self.bound.extend_from_slice(data);
            }
            _ => return None,
        }
        self.state = State::Keys;
        Some(Progress::Ask)
    }

    fn give(&mut self, keys: ScramKeys, nonce: &str) -> Progress {
        if !keys.is_usable() {
            return Progress::Unavailable;
        }
        self.nonce.push_str(nonce);
        let mut text = format!("r={},s=", self.nonce);
        base64::encode(&keys.salt, &mut text);
        text.push_str(&format!(",i={}", keys.iterations));
        self.keys = Some(keys);
        self.challenge.clone_from(&text);
        self.server_first = text;
        self.state = State::Final;
        Progress::Challenge
    }

    fn last(&mut self, text: &str) -> Option<Progress> {
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let proof = base64::decode(proof.as_bytes()).filter(|proof| proof.len() == OCTETS)?;
        let mut attributes = without_proof.split(',');
        let bound = base64::decode(attributes.next()?.strip_prefix("c=")?.as_bytes())?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        if !are_extensions(attributes) {
            return None;
        }
        if !bool::from(bound.as_slice().ct_eq(&self.bound)) {
            return Some(self.fail("the client sees another channel"));
        }
        if nonce != self.nonce {
            return Some(self.fail("the nonce is not ours"));
        }
        let message: [&[u8]; 5] = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let keys = self.keys.as_ref()?;
        if !keys.proves(&message, &proof) {
            return Some(self.fail("wrong password"));
        }
        let mut text = String::from("v=");
        base64::encode(&keys.server_signature(&message), &mut text);
        self.challenge = text;
        self.state = State::Signed;
        Some(Progress::Challenge)
    }
}

impl Machine for Server {
    fn start(&mut self) -> Progress {
        Progress::Challenge
    }

    fn respond(&mut self, response: &[u8]) -> Option<Progress> {
        let text = std::str::from_utf8(response).ok()?;
        match self.state {
            State::First => self.first(text),
            State::Final => self.last(text),
            State::Signed if text.is_empty() => {
                self.state = State::Known;
                Some(Progress::Ask)
            }
            State::Keys | State::Signed | State::Known => None,
        }
    }

    fn answer(&mut self, verdict: Verdict) -> Progress {
        match (self.state, verdict) {
            (State::Keys, Verdict::Scram(keys, nonce)) => self.give(*keys, &nonce_text(&nonce)),
            (State::Keys, Verdict::Refuse) => Progress::Refused,
            (State::Known, Verdict::Accept) if self.failure.is_none() => Progress::Accepted,
            (State::Known, Verdict::Accept | Verdict::Refuse) => Progress::Refused,
            _ => Progress::Unavailable,
        }
    }

    fn question(&self) -> Question<'_> {
        let mechanism = if self.plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 };
        let (authorization, login) = (&self.authorization, &self.login);
        match self.state {
            State::Keys => Question::Scram { mechanism, authorization, login },
            _ => Question::Outcome { mechanism, authorization, login, failure: self.failure },
        }
    }

    fn challenge(&self) -> &[u8] {
        self.challenge.as_bytes()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Server>()
            + self.bindings.as_ref().map_or(0, Bindings::memory_bytes)
            + self.keys.as_ref().map_or(0, |keys| keys.salt.capacity())
            + self.bound.capacity()
            + self.client_first_bare.capacity()
            + self.server_first.capacity()
            + self.authorization.capacity()
            + self.login.capacity()
            + self.nonce.capacity()
            + self.challenge.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";

    fn keys() -> ScramKeys {
        let salt = base64::decode(SALT.as_bytes()).unwrap();
        ScramKeys::derive("pencil", &salt, NonZeroU32::new(4096).unwrap())
    }

    /// RFC 7677 3, the server's side.
    #[test]
    fn the_exchange_of_the_rfc() {
        let mut server = Server::new(false, None);
        let first = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        assert_eq!(server.respond(first), Some(Progress::Ask));
        assert_eq!(server.give(keys(), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"), Progress::Challenge);
        assert_eq!(
            server.challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let last = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(server.respond(last), Some(Progress::Challenge));
        assert_eq!(server.challenge, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(server.respond(b""), Some(Progress::Ask));
        assert!(matches!(
            server.question(),
            Question::Outcome { failure: None, login: "user", .. }
        ));
        assert_eq!(server.answer(Verdict::Accept), Progress::Accepted);
    }

    /// Cyrus SASL 2.1 (Postfix's client) gives up at `i=65537`, and tries no other mechanism.
    #[test]
    fn new_keys_have_no_more_iterations_than_cyrus_sasl_takes() {
        let least = super::super::client::ITERATIONS_MIN;
        assert!((least..=65_536).contains(&ITERATIONS), "{ITERATIONS}");
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let text = keys().to_text();
        assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"), "{text}");
        assert_eq!(ScramKeys::from_text(&text), Some(keys()));
        for bad in [
            "",
            "SCRAM-SHA-1$4096:AA==$AA==:AA==",
            &text.replace("4096", "0"),
            &text.replace("4096", "04096"),
            &text.replace("4096", "4294967296"),
            &text.replace("4096", "+4096"),
            &text.replace(SALT, ""),
            &text[..text.len() - 4],
            &text.replace(':', ";"),
        ] {
            assert_eq!(ScramKeys::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_salt_has_at_most_64_octets() {
        let one = NonZeroU32::new(1).unwrap();
        let text = |n| ScramKeys::derive("p", &vec![7; n], one).to_text();
        assert!(ScramKeys::from_text(&text(SALT_MAX)).is_some());
        assert!(ScramKeys::from_text(&text(SALT_MAX + 1)).is_none());
    }

    #[test]
    fn decoys_differ_by_name_and_instance_and_stay() {
        let one = ScramKeys::decoy(&[1; 32], "user", 4096);
        assert_eq!(one, ScramKeys::decoy(&[1; 32], "user", 4096));
        assert_eq!(one.salt.len(), 16);
        assert_ne!(one.salt, ScramKeys::decoy(&[1; 32], "uses", 4096).salt);
        assert_ne!(one.salt, ScramKeys::decoy(&[2; 32], "user", 4096).salt);
    }

    #[test]
    fn names_escape_comma_and_equals_sign() {
        assert_eq!(saslname("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        assert_eq!(to_saslname("a,b=c"), "a=2Cb=3Dc");
        for bad in ["", "a=", "a=2", "a=2c", "a=3d", "a=41", "a,b", "a\0b", "=\u{e9}"] {
            assert_eq!(saslname(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_digits_without_a_leading_zero() {
        assert_eq!(number("4294967295"), Some(u32::MAX));
        for bad in ["", "0", "01", "+1", "-1", "4294967296", "1 "] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
