//! Mechanisms by name, and sets of them.

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 7677, bound to the TLS channel (RFC 5802 6).
    ScramSha256Plus,
    /// RFC 7677: the server learns no password, the client learns that the server knows it.
    ScramSha256,
    /// RFC 4616.
    Plain,
    /// The old Microsoft mechanism: user name and password asked one after the other.
    Login,
    /// RFC 2195, for old clients: needs a store that is nearly as good as the password itself.
    CramMd5,
    /// RFC 7628: a bearer token.
    OAuthBearer,
    /// The bearer token's form before RFC 7628.
    XOAuth2,
}

impl Mechanism {
    /// Every mechanism, the preferred first: the order in which they are offered.
    pub const ALL: &'static [Mechanism] = &[
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::Plain,
        Mechanism::Login,
        Mechanism::CramMd5,
        Mechanism::OAuthBearer,
        Mechanism::XOAuth2,
    ];

    /// The registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::CramMd5 => "CRAM-MD5",
            Mechanism::OAuthBearer => "OAUTHBEARER",
            Mechanism::XOAuth2 => "XOAUTH2",
        }
    }

    /// The mechanism with this name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Mechanism> {
        Mechanism::ALL.iter().copied().find(|m| m.name().as_bytes().eq_ignore_ascii_case(name))
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms(u8);

impl Default for Mechanisms {
    fn default() -> Self {
        Mechanisms::DEFAULT
    }
}

impl Mechanisms {
    /// None.
    pub const NONE: Mechanisms = Mechanisms(0);

    /// PLAIN and LOGIN: those that ask nothing but whether a password is right.
    pub const PASSWORD: Mechanisms = Mechanisms::NONE.with(Mechanism::Plain).with(Mechanism::Login);

    /// What an instance offers when its configuration says nothing else: PLAIN, LOGIN, SCRAM-SHA-256,
    /// SCRAM-SHA-256-PLUS.
    pub const DEFAULT: Mechanisms =
        Mechanisms::PASSWORD.with(Mechanism::ScramSha256).with(Mechanism::ScramSha256Plus);

    /// This set and a mechanism.
    #[must_use]
    pub const fn with(self, mechanism: Mechanism) -> Mechanisms {
        Mechanisms(self.0 | mechanism.bit())
    }

    /// This set without a mechanism.
    #[must_use]
    pub const fn without(self, mechanism: Mechanism) -> Mechanisms {
        Mechanisms(self.0 & !mechanism.bit())
    }

    /// Whether a mechanism is in it.
    pub const fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & mechanism.bit() != 0
    }

    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its mechanisms, the preferred first.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        Mechanism::ALL.iter().copied().filter(move |m| self.contains(*m))
    }

    /// The names in an announcement (`PLAIN LOGIN`), parted by spaces; names that are not known are left out.
    pub fn from_names(names: &[u8]) -> Mechanisms {
        names
            .split(|octet| *octet == b' ')
            .filter_map(Mechanism::from_name)
            .fold(Mechanisms::NONE, Mechanisms::with)
    }

    /// The names, parted by spaces.
    pub fn names(self) -> String {
        let names: Vec<&str> = self.iter().map(Mechanism::name).collect();
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        for mechanism in Mechanism::ALL {
            let name = mechanism.name().to_lowercase();
            assert_eq!(Mechanism::from_name(name.as_bytes()), Some(*mechanism));
        }
        assert_eq!(Mechanism::from_name(b"PLAINX"), None);
        assert_eq!(Mechanism::from_name(b""), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = Mechanisms::from_names(b"login  GSSAPI xoauth2 PLAIN");
        assert_eq!(set.names(), "PLAIN LOGIN XOAUTH2");
        assert_eq!(set.without(Mechanism::Login).names(), "PLAIN XOAUTH2");
        assert!(Mechanisms::from_names(b"").is_empty());
        assert_eq!(Mechanisms::DEFAULT.names(), "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN");
    }
}
