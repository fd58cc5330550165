//! OAUTHBEARER (RFC 7628) and XOAUTH2, from the server's side: a bearer token that the caller verifies.
//!
//! A token that is refused is told to the client in a challenge of JSON, which the client answers with a response that
//! says nothing; only then the exchange has failed (RFC 7628 3.2.3).

use zeroize::Zeroizing;

use super::scram::saslname;
use super::{Machine, Mechanism, Progress, Question, Verdict};

/// The server's side.
pub(super) struct Server {
    mechanism: Mechanism,
    login: String,
    token: Zeroizing<String>,
    host: String,
    port: u16,
    /// The token was refused: what is left is the client's empty response.
    refused: bool,
}

impl Server {
    pub(super) fn new(mechanism: Mechanism) -> Server {
        Server {
            mechanism,
            login: String::new(),
            token: Zeroizing::default(),
            host: String::new(),
            port: 0,
            refused: false,
        }
    }

    /// Pairs `key=value` with 0x01 behind each and one more behind the last (RFC 7628 3.1).
    fn pairs(&mut self, text: &str) -> Option<()> {
        let body = text.strip_suffix("\u{1}\u{1}")?;
        for pair in body.split('\u{1}') {
            let (key, value) = pair.split_once('=')?;
            if key.is_empty() || !key.bytes().all(|octet| octet.is_ascii_alphabetic()) {
                return None;
            }
            match key {
                "auth" if self.token.is_empty() => {
                    let (scheme, token) = value.split_once(' ')?;
                    let token = token.trim_start_matches(' ');
                    if !scheme.eq_ignore_ascii_case("Bearer") || !is_token(token) {
                        return None;
                    }
                    self.token = Zeroizing::new(token.to_owned());
                }
                "auth" => return None,
                "host" => self.host = value.to_owned(),
                "port" => {
                    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                    self.port = digits.then(|| value.parse().ok()).flatten()?;
                }
                _ => {}
            }
        }
        (!self.token.is_empty()).then_some(())
    }
}

/// RFC 6750 2.1.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty()
        && body.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._~+/".contains(&octet))
}

impl Machine for Server {
    fn start(&mut self) -> Progress {
        Progress::Challenge
    }

    fn respond(&mut self, response: &[u8]) -> Option<Progress> {
        if self.refused {
            return Some(Progress::Refused);
        }
        let text = std::str::from_utf8(response).ok()?;
        if text.contains('\0') {
            return None;
        }
        if self.mechanism == Mechanism::OAuthBearer {
            let (flag, rest) = text.split_once(',')?;
            let (authorization, rest) = rest.split_once(',')?;
            if !matches!(flag, "n" | "y") {
                return None;
            }
            if !authorization.is_empty() {
                self.login = saslname(authorization.strip_prefix("a=")?)?;
            }
            self.pairs(rest.strip_prefix('\u{1}')?)?;
        } else {
            let (user, rest) = text.strip_prefix("user=")?.split_once('\u{1}')?;
            if user.is_empty() {
                return None;
            }
            self.login = user.to_owned();
            self.pairs(rest)?;
        }
        Some(Progress::Ask)
    }

    fn answer(&mut self, verdict: Verdict) -> Progress {
        match verdict {
            Verdict::Refuse => {
                self.refused = true;
                Progress::Challenge
            }
            verdict => verdict.plain(),
        }
    }

    fn question(&self) -> Question<'_> {
        Question::Token {
            mechanism: self.mechanism,
            login: &self.login,
            token: &self.token,
            host: &self.host,
            port: self.port,
        }
    }

    fn challenge(&self) -> &[u8] {
        match (self.refused, self.mechanism) {
            (false, _) => b"",
            (true, Mechanism::OAuthBearer) => br#"{"status":"invalid_token"}"#,
            (true, _) => br#"{"status":"401","schemes":"bearer","scope":""}"#,
        }
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Server>() + self.login.capacity() + self.token.capacity() + self.host.capacity()
    }
}
