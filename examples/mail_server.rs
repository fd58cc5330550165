//! A whole mail server: `mail_server DIRECTORY [SMTP-PORT POP3-PORT]`
//!
//! Makes an instance in the directory (or opens the one that is there) with the account user1@example.test, serves SMTP and
//! POP3 on 127.0.0.1 (ports that the system chooses, unless given), prints `ready smtp=... pop3=...`, and runs until its
//! standard input ends. Each line of the input names a file, which is sent to user1 as a message. The same
//! program in C stands beside it.

#![allow(clippy::disallowed_methods)] // a program: files, sockets and threads are its own business

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

use posthouse::directory::NewAccount;
use posthouse::engine::{Engine, Options};
use posthouse::instance::config::parse_listener;
use posthouse::instance::{Setup, TlsSetup, setup};
use posthouse::time::SystemClock;
use posthouse::vfs::{Fs, os::OsFs};
use posthouse::{Kind, Result};

const USER: &str = "user1@example.test";
const PASSWORD: &str = "correct horse";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(directory) = arguments.get(1) else {
        eprintln!("usage: mail_server DIRECTORY [SMTP-PORT POP3-PORT]");
        std::process::exit(2);
    };
    let port = |n: usize| arguments.get(n).filter(|_| arguments.len() > 3).map_or("0", |p| p);
    if let Err(e) = serve(Path::new(directory), port(2), port(3)) {
        eprintln!("mail_server: {e}");
        std::process::exit(1);
    }
}

fn serve(directory: &Path, smtp: &str, pop3: &str) -> Result<()> {
    let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
    let wanted = Setup {
        hostname: "mail.example.test".to_owned(),
        domains: vec!["example.test".to_owned()],
        postmaster_password: PASSWORD.to_owned(),
        listeners: vec![
            parse_listener(&format!("smtp=127.0.0.1:{smtp}"))?,
            parse_listener(&format!("pop3=127.0.0.1:{pop3}"))?,
        ],
        tls: TlsSetup::None,
        lanes: 0,
    };
    // What is there already is used as it is.
    there(setup(&fs, &SystemClock::shared(), directory, &wanted))?;
    let engine = Engine::open(directory, Options::default())?;
    let account =
        NewAccount { addresses: vec![USER.to_owned()], login: None, password: PASSWORD.to_owned() };
    there(engine.account_add(&account).map(drop))?;
    engine.start()?;
    let listening = engine.listeners();
    let listening = listening.iter().map(|l| format!(" {}={}", l.config.name, l.address));
    println!("ready{}", listening.collect::<String>());
    for path in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
        match std::fs::read(&path) {
            Ok(message) => match engine.submit(USER, &[USER], &message) {
                Ok(id) => println!("submitted {id}"),
                Err(e) => println!("failed {e}"),
            },
            Err(e) => println!("failed {path}: {e}"),
        }
        let _ = std::io::stdout().flush();
    }
    engine.close()
}

/// That something is there already is as good as having made it.
fn there(made: Result<()>) -> Result<()> {
    made.or_else(|e| if e.kind() == Kind::Exists { Ok(()) } else { Err(e) })
}
