//! SASL mechanisms as machines without I/O (RFC 4422): PLAIN (RFC 4616), LOGIN.
//!
//! A server machine collects what the client sends and asks its caller one [`Question`]; the caller
//! looks up and verifies, and answers.

/// A mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The old Microsoft mechanism: user name and password asked one after the other.
    Login,
}

/// What a mechanism asks its caller.
#[derive(Debug)]
pub enum Question<'a> {
    /// Is this the password of this login name?
    Verify {
        /// The mechanism in use.
        mechanism: Mechanism,
        /// On whose behalf to act; empty: the login name's own.
        authorization: &'a str,
        /// The login name.
        login: &'a str,
        /// The password.
        password: &'a str,
    },
}

/// The caller's answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client is who it says.
    Accept,
    /// Wrong login name or password.
    Refuse,
    /// It cannot be told now (the directory is not there, too many at once).
    Unavailable,
}
