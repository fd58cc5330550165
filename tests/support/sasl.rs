//! What the transcripts' servers answer to the questions of SASL mechanisms.
//!
//! Set-up: `% mechanisms NAME ...` (default PLAIN LOGIN), `% bound` (from the beginning the TLS channel has 32 octets 7 as its
//! exporter's data). The one password, and token, is `secret`; it is everybody's, except that nobody is called `nobody`. Nonces
//! are 18 octets 5, salts 16 octets 6, with 4096 iterations.
//!
//! Events: `auth MECHANISM login=.. password=.. for=..`, `nonce MECHANISM`, `keys MECHANISM login=.. for=..`,
//! `digest login=..`, `token MECHANISM login=.. token=..`, `outcome MECHANISM login=.. for=.. [failure]`.

#![allow(dead_code)]

use std::num::NonZeroU32;

pub use posthouse::sasl::Verdict;
use posthouse::sasl::{Bindings, CramMd5Keys, Mechanisms, Question, ScramKeys};

use crate::transcript::Setup;

/// The nonce of every exchange.
pub const NONCE: [u8; 18] = [5; 18];

/// A question: as text, whose it is, and what is answered when no rule says else.
pub struct Asked {
    /// The event.
    pub text: String,
    /// The login name.
    pub login: String,
    /// The answer.
    pub verdict: Verdict,
    /// Whether the question decides.
    pub decides: bool,
}

/// The mechanisms and the channel's data at the beginning.
pub fn set_up(setup: &Setup) -> (Mechanisms, Option<Bindings>) {
    let mechanisms = setup.words("mechanisms").map_or(Mechanisms::PASSWORD, |names| {
        let set = Mechanisms::from_names(names.join(" ").as_bytes());
        assert_eq!(set.iter().count(), names.len(), "an unknown mechanism in {names:?}");
        set
    });
    (mechanisms, setup.words("bound").map(|_| bindings()))
}

/// The channel's data.
pub fn bindings() -> Bindings {
    Bindings { exporter: vec![7; 32], end_point: Vec::new() }
}

/// Keys of the password `secret`.
pub fn keys(login: &str) -> ScramKeys {
    match login {
        "nobody" => ScramKeys::decoy(&[9; 32], login, 4096),
        _ => ScramKeys::derive("secret", &[6; 16], NonZeroU32::new(4096).expect("positive")),
    }
}

/// The answer to a question.
pub fn ask(question: &Question<'_>) -> Asked {
    let asked = |text, login: &str, verdict, decides| Asked {
        text,
        login: login.to_owned(),
        verdict,
        decides,
    };
    let judged = |login: &str, right: bool| {
        if right && login != "nobody" { Verdict::Accept } else { Verdict::Refuse }
    };
    match question {
        Question::Verify { mechanism, authorization, login, password } => asked(
            format!(
                "auth {} login={login} password={password} for={authorization}",
                mechanism.name()
            ),
            login,
            judged(login, *password == "secret"),
            true,
        ),
        Question::Nonce { mechanism } => {
            asked(format!("nonce {}", mechanism.name()), "", Verdict::Nonce(NONCE), false)
        }
        Question::Scram { mechanism, authorization, login } => asked(
            format!("keys {} login={login} for={authorization}", mechanism.name()),
            login,
            Verdict::Scram(Box::new(keys(login)), NONCE),
            false,
        ),
        Question::CramMd5 { login, challenge, digest } => asked(
            format!("digest login={login}"),
            login,
            judged(login, CramMd5Keys::derive("secret").verify(challenge, digest)),
            true,
        ),
        Question::Token { mechanism, login, token, .. } => asked(
            format!("token {} login={login} token={token}", mechanism.name()),
            login,
            judged(login, *token == "secret"),
            true,
        ),
        Question::Outcome { mechanism, authorization, login, failure } => asked(
            format!(
                "outcome {} login={login} for={authorization} {}",
                mechanism.name(),
                failure.unwrap_or_default()
            )
            .trim_end()
            .to_owned(),
            login,
            // A failure must refuse whatever is answered.
            Verdict::Accept,
            true,
        ),
    }
}
