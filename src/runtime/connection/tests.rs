//! A connection over a real socket, its mail over a file system in memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream as Client};

use super::*;
use crate::directory::Directory;
use crate::mailbox::Mailboxes;
use crate::policy::{PlaintextLogin, Rules};
use crate::service::smtp::SmtpConversation;
use crate::service::{Link, Shared};
use crate::smtp::extension::Extensions;
use crate::smtp::server::{Dialect, Limits, ServerConfig};
use crate::spool::Spool;
use crate::store::Store;
use crate::store::tests::{healthy, memory, open};
use crate::sync::{Condvar, Mutex};
use crate::time::SystemClock;
use crate::vfs::sim::Operation;

/// Serves one SMTP connection from loopback, which may relay, until it ends.
#[allow(clippy::disallowed_methods)]
fn serve(store: &Store) -> (std::net::SocketAddr, std::thread::JoinHandle<()>) {
    let rules = Rules {
        relay_networks: vec!["127.0.0.0/8".parse().unwrap()],
        plaintext_login: PlaintextLogin::Never,
        ..Rules::default()
    };
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let shared = Shared::new(
        "mail.example.test".into(),
        Arc::new(Directory::load(Arc::new(store.clone())).unwrap()),
        Spool::open(store).unwrap(),
        Mailboxes::new(store),
        rules,
        clock.clone(),
        None,
        None,
    );
    let config = Arc::new(ServerConfig {
        hostname: "mail.example.test".into(),
        dialect: Dialect::Smtp,
        limits: Limits::default(),
        extensions: Extensions::default(),
    });
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let (socket, peer) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let now = clock.now();
            let begin = |tls| -> Box<dyn Conversation> {
                let link = Link { peer, tls, starttls: false };
                Box::new(SmtpConversation::new(shared, config, link, now))
            };
            let stream = Stream::Tcp(tokio::net::TcpStream::from_std(socket).unwrap());
            let logins = Arc::new(Semaphore::new(1));
            let (_stopping, receiver) = watch::channel(false);
            let means = Means { acceptor: None, clock, logins, stopping: receiver };
            let connection = Connection::open(stream, Vec::new(), false, begin, means).await;
            connection.unwrap().run().await;
        });
    });
    (address, served)
}

/// Writes until a write has waited for so long, or all is written; how much was.
fn write_until_stuck(client: &mut Client, bytes: &[u8]) -> usize {
    client.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match client.write(rest) {
            Ok(n) => written += n,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                break;
            }
            Err(e) => panic!("{e}"),
        }
    }
    client.set_write_timeout(None).unwrap();
    written
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_disk_that_stands_still_stops_the_peer_instead_of_filling_memory() {
    let (memory, fs, dir) = memory();
    let store = open(&fs, &dir);
    let (address, served) = serve(&store);
    let mut client = Client::connect(address).unwrap();
    let mut replies = BufReader::new(client.try_clone().unwrap()).lines();
    let mut expect = |code: &str| loop {
        let line = replies.next().unwrap().unwrap();
        assert!(line.starts_with(code), "{line}");
        if line.as_bytes()[3] == b' ' {
            break;
        }
    };
    expect("220");
    for (command, code) in [
        ("EHLO client.example", "250"),
        ("MAIL FROM:<a@client.example>", "250"),
        ("RCPT TO:<b@elsewhere.example>", "250"),
        ("DATA", "354"),
    ] {
        client.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        expect(code);
    }
    // Writes to the large lane (the one behind the four ordinary ones) stand still.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let disk = gate.clone();
    memory.on_operation(move |operation, path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if operation == Operation::Write && name.starts_with("04-") {
            let mut open = disk.0.lock();
            while !*open {
                disk.1.wait(&mut open);
            }
        }
        Ok(())
    });
    let line = [&[b'x'; 70][..], b"\r\n"].concat();
    // No header: it has a bound of its own.
    let message = [&b"\r\n"[..], &line.repeat((40 << 20) / line.len())].concat();
    let written = write_until_stuck(&mut client, &message);
    // The sockets' buffers take some of it; the rest waits with the peer.
    assert!(written < 30 << 20, "{written} bytes were taken");
    *gate.0.lock() = true;
    gate.1.notify_all();
    client.write_all(&message[written..]).unwrap();
    client.write_all(b".\r\n").unwrap();
    expect("250");
    client.write_all(b"QUIT\r\n").unwrap();
    expect("221");
    drop(client);
    served.join().unwrap();
    let entry = store.queue_scan(None, 10).unwrap().remove(0);
    assert!(entry.size > message.len() as u64);
    healthy(&store);
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_flood_of_logins_leaves_a_thread_for_readers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .build()
        .unwrap();
    let logins = Arc::new(Semaphore::new(1));
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let flood: Vec<_> = (0..20)
        .map(|_| {
            let (gate, logins) = (gate.clone(), logins.clone());
            runtime.spawn(async move {
                let slow = Wait::Login(Box::new(move || {
                    let mut open = gate.0.lock();
                    while !*open {
                        gate.1.wait(&mut open);
                    }
                    Settled::Login(None)
                }));
                settle(slow, &logins).await
            })
        })
        .collect();
    // The first of them has its thread.
    while logins.available_permits() > 0 {
        std::thread::yield_now();
    }
    let read = settle(Wait::Work(Box::new(|| Settled::Failed)), &logins);
    assert!(matches!(runtime.block_on(read), Settled::Failed));
    *gate.0.lock() = true;
    gate.1.notify_all();
    for login in flood {
        assert!(matches!(runtime.block_on(login).unwrap(), Settled::Login(None)));
    }
}
