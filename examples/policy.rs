//! A mail server with rules of its own: `policy DIRECTORY`
//!
//! The engine asks before it goes on ([`Hook`]), and the host refuses: a peer at connect (127.0.0.2), a sender at MAIL
//! (spam.example), a message that is too large at the end of its data. At RCPT it cannot know at once: a thread of its own looks the
//! recipient up and answers the question when it is done, while the engine serves others. A client that logs in with
//! OAUTHBEARER or XOAUTH2 brings a token, which the host verifies ([`TokenVerifier`]). Makes an instance in the directory (or opens the
//! one that is there) with the account user1@example.test, serves SMTP and submission on 127.0.0.1, prints
//! `ready smtp=... submission=...`, then a line for each answer that came later, and runs until its standard input ends. The same
//! program in C stands beside it.

#![allow(clippy::disallowed_methods)] // a program: files, sockets and threads are its own business

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use posthouse::directory::NewAccount;
use posthouse::engine::{Engine, Hook, Hooks, Options, TokenRequest, TokenVerifier};
use posthouse::instance::config::parse_listener;
use posthouse::instance::{Config, Setup, TlsSetup, setup};
use posthouse::service::hook::{Answer, Defer, Facts, Pending, Question, Refusal, Verdict};
use posthouse::time::SystemClock;
use posthouse::vfs::{Fs, os::OsFs};
use posthouse::{Kind, Result};

const LARGEST: u64 = 65536;

/// The host's rules, and the way to its thread.
struct Rules(Mutex<Sender<Lookup>>);

/// A question that was taken along: what it borrows is gone when the call returns.
struct Lookup {
    address: Vec<u8>,
    pending: Pending,
}

impl Hook for Rules {
    /// On any thread of the engine, several at once. Must not wait: this thread serves other connections.
    fn ask(&self, facts: &Facts<'_>, question: &Question<'_>, later: &mut Defer) -> Answer {
        let refuse = |code, status, text| Answer::Refuse(Refusal::new(code, status, text));
        match *question {
            Question::Connect if facts.peer.ip() == IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)) => {
                refuse(554, (7, 1), "We do not speak with this address")
            }
            Question::Mail { from: Some(from), .. }
                if from.domain_key().as_deref() == Some("spam.example") =>
            {
                refuse(550, (7, 1), "We take nothing from this domain")
            }
            Question::Rcpt { to, .. } => {
                let lookup = Lookup { address: to.as_bytes().to_vec(), pending: later.take() };
                // Without the thread the question is dropped, and the peer told to come again.
                let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(lookup);
                Answer::Later
            }
            Question::End { size, .. } if size > LARGEST => {
                refuse(552, (3, 4), "Larger than 65536 octets")
            }
            _ => Answer::Accept,
        }
    }
}

/// The host's thread: a database, a quota, another server. Here, whether the name begins with "full".
fn answers(lookups: &Receiver<Lookup>) {
    for Lookup { address, pending } in lookups {
        let full = address.starts_with(b"full");
        println!("{} {}", if full { "full" } else { "room" }, address.escape_ascii());
        let _ = std::io::stdout().flush();
        pending.complete(if full {
            Verdict::Refuse(Refusal::new(452, (2, 2), "This mailbox is full"))
        } else {
            Verdict::Accept
        });
    }
}

/// Whose token it is. A real host verifies a signature, or asks who has issued it; here one token is known by heart.
struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, request: &TokenRequest<'_>) -> Result<Option<String>> {
        const KNOWN: &[u8] = b"dXNlcjE6b3BlbiBzZXNhbWU";
        let token = request.token.as_bytes();
        // In a time that does not tell how much of it was right.
        let different = token.iter().zip(KNOWN).fold(0, |sum, (a, b)| sum | (a ^ b));
        let right = token.len() == KNOWN.len() && different == 0;
        Ok(right.then(|| "user1@example.test".to_owned()))
    }
}

fn main() {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: policy DIRECTORY");
        std::process::exit(2);
    };
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || answers(&receiver));
    let served = serve(Path::new(&directory), Rules(Mutex::new(sender)));
    // Nothing is asked any more. A question may outlive the engine: what is left was answered to nobody.
    let _ = thread.join();
    if let Err(e) = served {
        eprintln!("policy: {e}");
        std::process::exit(1);
    }
}

fn serve(directory: &Path, rules: Rules) -> Result<()> {
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    let wanted = Setup {
        hostname: "mail.example.test".to_owned(),
        domains: vec!["example.test".to_owned()],
        postmaster_password: "correct horse".to_owned(),
        listeners: vec![
            parse_listener("smtp=127.0.0.1:0")?,
            parse_listener("submission=127.0.0.1:0")?,
        ],
        tls: TlsSetup::None,
        lanes: 0,
    };
    // What is there already is used as it is.
    there(setup(&fs, &SystemClock::shared(), directory, &wanted))?;
    let mechanisms = r#"["PLAIN", "OAUTHBEARER", "XOAUTH2"]"#;
    Config::set(fs.as_ref(), directory, "auth.mechanisms", mechanisms)?;
    let options = Options {
        hooks: Some(Hooks { millis: 30_000, ..Hooks::new(Arc::new(rules)) }),
        tokens: Some(Arc::new(Tokens)),
        ..Options::default()
    };
    let engine = Engine::open(directory, options)?;
    let account = NewAccount {
        addresses: vec!["user1@example.test".to_owned(), "full@example.test".to_owned()],
        login: None,
        password: "correct horse".to_owned(),
    };
    there(engine.account_add(&account).map(drop))?;
    engine.start()?;
    let listening = engine.listeners();
    let listening = listening.iter().map(|l| format!(" {}={}", l.config.name, l.address));
    println!("ready{}", listening.collect::<String>());
    // Until there is no more of it.
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    engine.close()
}

/// That something is there already is as good as having made it.
fn there(made: Result<()>) -> Result<()> {
    made.or_else(|e| if e.kind() == Kind::Exists { Ok(()) } else { Err(e) })
}
