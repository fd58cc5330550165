//! PLAIN (RFC 4616) and LOGIN, from the server's side.

use zeroize::Zeroizing;

use super::{Machine, Mechanism, Progress, Question};

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn secret_nonempty(text: &str) -> Option<Zeroizing<String>> {
    (!text.is_empty() && !text.contains('\0')).then(|| secret(text))
}

/// PLAIN: one message with three parts.
#[derive(Default)]
pub(super) struct Plain {
    authorization: Zeroizing<String>,
    login: Zeroizing<String>,
    password: Zeroizing<String>,
}

impl Machine for Plain {
    fn start(&mut self) -> Progress {
        Progress::Challenge
    }

    fn respond(&mut self, response: &[u8]) -> Option<Progress> {
        let mut parts = std::str::from_utf8(response).ok()?.split('\0');
        self.authorization = secret(parts.next()?);
        self.login = secret_nonempty(parts.next()?)?;
        self.password = secret_nonempty(parts.next()?)?;
        parts.next().is_none().then_some(Progress::Ask)
    }

    fn question(&self) -> Question<'_> {
        Question::Verify {
            mechanism: Mechanism::Plain,
            authorization: &self.authorization,
            login: &self.login,
            password: &self.password,
        }
    }

    fn challenge(&self) -> &[u8] {
        b""
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Plain>()
            + self.authorization.capacity()
            + self.login.capacity()
            + self.password.capacity()
    }
}

/// LOGIN: the name, then the password.
#[derive(Default)]
pub(super) struct Login {
    login: Option<Zeroizing<String>>,
    password: Zeroizing<String>,
}

impl Machine for Login {
    fn start(&mut self) -> Progress {
        Progress::Challenge
    }

    fn respond(&mut self, response: &[u8]) -> Option<Progress> {
        let text = secret_nonempty(std::str::from_utf8(response).ok()?)?;
        Some(match self.login {
            None => {
                self.login = Some(text);
                Progress::Challenge
            }
            Some(_) => {
                self.password = text;
                Progress::Ask
            }
        })
    }

    fn question(&self) -> Question<'_> {
        Question::Verify {
            mechanism: Mechanism::Login,
            authorization: "",
            login: self.login.as_ref().map_or("", |login| login),
            password: &self.password,
        }
    }

    fn challenge(&self) -> &[u8] {
        match self.login {
            None => b"Username:",
            Some(_) => b"Password:",
        }
    }

    fn memory_bytes(&self) -> usize {
        let login = self.login.as_ref().map_or(0, |login| login.capacity());
        size_of::<Login>() + login + self.password.capacity()
    }
}
