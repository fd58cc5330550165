//! A whole instance in a temporary directory, for tests of whole engines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use posthouse::directory::NewAccount;
use posthouse::engine::{Engine, Options};
use posthouse::instance::config::parse_listener;
use posthouse::instance::{Setup, TlsSetup, setup};
use posthouse::time::SystemClock;
use posthouse::vfs::{Fs, os::OsFs};

pub const PASSWORD: &str = "correct horse";

/// A directory that is gone when dropped.
pub struct House {
    root: PathBuf,
}

impl House {
    pub fn new() -> House {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("posthouse-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        House { root }
    }

    pub fn path(&self) -> PathBuf {
        self.root.join("instance")
    }

    /// Makes an instance `mail.example.test` with TLS, postmaster, and these listeners (on free ports).
    pub fn set_up(&self, listeners: &[&str]) {
        self.set_up_for("example.test", listeners);
    }

    /// The same for mail of this domain.
    #[allow(dead_code)]
    pub fn set_up_for(&self, domain: &str, listeners: &[&str]) {
        let listeners = listeners
            .iter()
            .map(|name| parse_listener(&format!("{name}=127.0.0.1:0")).unwrap())
            .collect();
        let fs: Arc<dyn Fs> = Arc::new(OsFs::new());
        setup(
            &fs,
            &SystemClock::shared(),
            &self.path(),
            &Setup {
                hostname: "mail.example.test".to_owned(),
                domains: vec![domain.to_owned()],
                postmaster_password: "postmaster's own".to_owned(),
                listeners,
                tls: TlsSetup::SelfSigned,
                lanes: 0,
            },
        )
        .unwrap();
    }

    /// Opens the instance with these users, made where they are not there yet.
    pub fn open(&self, users: &[&str], options: Options) -> Arc<Engine> {
        let engine = Engine::open(&self.path(), options).unwrap();
        for user in users {
            let new = NewAccount {
                addresses: vec![format!("{user}@example.test")],
                login: Some((*user).to_owned()),
                password: PASSWORD.to_owned(),
            };
            if engine.accounts().unwrap().iter().all(|account| account.login != *user) {
                engine.account_add(&new).unwrap();
            }
        }
        engine
    }

    /// The certificate that set-up made.
    pub fn certificate(&self, engine: &Engine) -> PathBuf {
        engine.config().tls.as_ref().unwrap().certificates[0].certificate.clone()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Where a listener of this name really listens.
pub fn port(engine: &Engine, name: &str) -> SocketAddr {
    engine
        .listeners()
        .iter()
        .find(|listening| listening.config.name == name)
        .unwrap_or_else(|| panic!("no listener {name}"))
        .address
        .tcp()
        .expect("a port")
}

/// Every file below a directory with its bytes: equal before and after means that nothing was changed.
#[allow(dead_code)] // not every test needs it
pub fn picture(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                files.push((path, bytes));
            }
        }
    }
    files.sort();
    files
}
