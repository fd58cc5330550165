//! Delivery over real sockets out of a store on a disk in memory that fails.

#![allow(clippy::disallowed_methods)] // the other side is a thread with a listener

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;
use crate::delivery::{Host, Protocol, RouteTls};
use crate::directory::Directory;
use crate::mailbox::Mailboxes;
use crate::policy::Rules;
use crate::smtp::client::Tls;
use crate::spool::Spool;
use crate::store::tests::{envelope, healthy, memory, open, put_body};
use crate::store::{Envelope, Store};
use crate::time::SystemClock;
use crate::vfs::sim::Operation;

/// Mail that leaves by one route for everything, until it is dropped.
struct Leaving {
    runtime: Option<tokio::runtime::Runtime>,
    stop: watch::Sender<bool>,
    running: Option<tokio::task::JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Leaving {
    fn new(store: &Store, spool: &Spool, port: u16) -> Leaving {
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let shared = Shared::new(
            "mail.example.test".into(),
            Arc::new(Directory::load(Arc::new(store.clone())).unwrap()),
            spool.clone(),
            Mailboxes::new(store),
            Rules::default(),
            Arc::clone(&clock),
            Default::default(),
        );
        let route = Route {
            domain: "*".into(),
            protocol: Protocol::Smtp,
            host: Host::Net("127.0.0.1".into(), port),
            tls: RouteTls::None,
            authorities: None,
            credentials: None,
        };
        let client = ClientConfig { tls: Tls::Never, ..ClientConfig::default() };
        let plan = Plan {
            shared: Arc::clone(&shared),
            clock,
            routes: Routes::new(vec![route]),
            ways: vec![Way { client: Arc::new(client), connector: None }],
            schedule: Schedule::default(),
            down_millis: DOWN_MILLIS,
        };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let (stop, stopping) = watch::channel(false);
        let (alive, _) = mpsc::channel(1);
        let running = Some(runtime.spawn(run(plan, stopping, alive)));
        Leaving { runtime: Some(runtime), stop, running, shared }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let (Some(runtime), Some(running)) = (self.runtime.take(), self.running.take()) {
            runtime.block_on(running).unwrap();
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}

/// Queues a message for somebody elsewhere.
fn queue(store: &Store, spool: &Spool, from: &[u8], to: &str) -> MessageId {
    let (id, _) = spool.begin(&[]);
    let to = QueueRecipient {
        address: to.as_bytes().to_vec(),
        parameters: Vec::new(),
        state: RecipientState::Remote,
        answer: Vec::new(),
    };
    let envelope = Envelope { from: from.to_vec(), ..envelope() };
    let body = put_body(store, id, b"Subject: x\r\n\r\nhello\r\n");
    spool.accept(id, envelope, body, &[], vec![to]).wait().unwrap();
    id
}

#[track_caller]
fn wait(what: &dyn Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < until, "it does not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes every message on its first connection, and answers no other. The disk fails when the first message is whole.
fn one_connection(listener: &TcpListener, fails: &AtomicBool, messages: &AtomicU64) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    stream.write_all(b"220 far.test\r\n").unwrap();
    let (mut line, mut data) = (String::new(), false);
    while reader.read_line(&mut line).unwrap_or(0) > 0 {
        let said = std::mem::take(&mut line);
        if data && said != ".\r\n" {
            continue;
        }
        if data && messages.fetch_add(1, Ordering::SeqCst) == 0 {
            fails.store(true, Ordering::SeqCst);
        }
        data = said.starts_with("DATA");
        let answer: &[u8] = if data { b"354 go\r\n" } else { b"250 ok\r\n" };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// An outcome that is forgotten is a message twice: nothing else goes over that connection until it is on disk.
#[test]
fn a_delivery_that_cannot_be_recorded_holds_its_connection_until_it_is() {
    const MORE: usize = 2;
    let (disk, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    for n in 0..CONNECTIONS + MORE {
        queue(&store, &spool, b"s@else.test", &format!("u{n}@elsewhere.test"));
    }
    let (fails, messages) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let hook = Arc::clone(&fails);
    disk.on_operation(move |operation, path| {
        let log = path.parent().is_some_and(|parent| parent.ends_with("seg"));
        if operation == Operation::Sync && log && hook.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let far = {
        let (fails, messages) = (Arc::clone(&fails), Arc::clone(&messages));
        std::thread::spawn(move || one_connection(&listener, &fails, &messages))
    };
    let leaving = Leaving::new(&store, &spool, port);
    let queued = || spool.list(None, 100).unwrap().len();
    wait(&|| messages.load(Ordering::SeqCst) == 1);
    // It tries to write each second.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(messages.load(Ordering::SeqCst), 1, "nothing behind it");
    assert_eq!(queued(), CONNECTIONS + MORE, "and it is not forgotten");
    fails.store(false, Ordering::SeqCst);
    // The other connections wait for a greeting, each with its message.
    wait(&|| queued() == CONNECTIONS - 1);
    assert_eq!(messages.load(Ordering::SeqCst), 1 + MORE as u64, "each once");
    drop(leaving);
    far.join().unwrap();
    disk.forget_hook();
    healthy(&store);
}

/// It was accepted by another version, or by a host that wrote it down itself: it is put aside as failed, with the reason.
#[test]
fn an_envelope_that_cannot_be_sent_fails_alone() {
    let (_disk, fs, dir) = memory();
    let store = open(&fs, &dir);
    let spool = Spool::open(&store).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let messages = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&messages);
    let far = std::thread::spawn(move || one_connection(&listener, &AtomicBool::new(false), &seen));
    let bad = queue(&store, &spool, b"a b>\r\nRCPT TO:<c", "u@elsewhere.test");
    let nowhere = queue(&store, &spool, b"s@else.test", "no address at all");
    let leaving = Leaving::new(&store, &spool, port);
    let state = |id| spool.entry(id).unwrap().map(|entry| entry.recipients[0].clone());
    let failed = || matches!(state(bad).unwrap().state, RecipientState::Failed { .. });
    wait(&failed);
    assert!(!state(bad).unwrap().answer.is_empty());
    let good = queue(&store, &spool, b"s@else.test", "u@elsewhere.test");
    leaving.shared.wake_delivery(good);
    wait(&|| state(good).is_none());
    assert_eq!(messages.load(Ordering::SeqCst), 1);
    assert_eq!(state(nowhere).unwrap().state, RecipientState::Remote, "no route leads there");
    drop(leaving);
    far.join().unwrap();
}
