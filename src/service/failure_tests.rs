//! What peers and hosts see of a disk that fails or fills up: real conversations over a store on a disk in memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::event::Event;
use super::pop3::Pop3Conversation;
use super::smtp::SmtpConversation;
use super::{Conversation, Host, Link, Progress, Settled, Shared, Wait};
use crate::directory::{Directory, NewAccount};
use crate::mailbox::Mailboxes;
use crate::policy::{PlaintextLogin, Rules};
use crate::pop3::server::{Limits as Pop3Limits, ServerConfig as Pop3Config};
use crate::smtp::extension::Extensions;
use crate::smtp::server::{Dialect, Limits as SmtpLimits, ServerConfig as SmtpConfig};
use crate::spool::Spool;
use crate::store::{CreateOptions, MailboxId, OpenOptions, Store};
use crate::sync::Mutex;
use crate::time::{Clock, SystemClock, Time};
use crate::vfs::sim::{Disk, Operation};
use crate::vfs::{Fs, Open};

const DISK: u64 = 32 << 20;
const PASSWORD: &str = "correct horse battery";

struct House {
    fs: Disk,
    store: Store,
    shared: Arc<Shared>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl House {
    fn new(lanes: u8, accounts: u32) -> House {
        let fs = Disk::new();
        fs.limit_to(DISK);
        let all: Arc<dyn Fs> = Arc::new(fs.clone());
        let dir = PathBuf::from("/instance");
        all.create_dir_all(&dir).unwrap();
        Store::create(&all, &dir, &CreateOptions { lanes }).unwrap();
        let options = OpenOptions {
            segment_bytes: 1 << 20,
            retry_millis: 30,
            checkpoint_millis: 3_600_000,
            ..OpenOptions::default()
        };
        let clock = SystemClock::shared();
        let store = Store::open(all, clock.clone(), &dir, options).unwrap();
        let directory = Directory::load(Arc::new(store.clone())).unwrap();
        let mailboxes = Mailboxes::new(&store);
        directory.add_domain("example.test").unwrap();
        for number in 1..=accounts {
            let new = NewAccount {
                addresses: vec![format!("user{number}@example.test")],
                login: Some(format!("user{number}")),
                password: PASSWORD.into(),
            };
            directory
                .add_account(&new, 1, &mut |account| {
                    mailboxes.create_inbox(account.id, account.uid_validity)
                })
                .unwrap();
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let events: super::event::EventSink = Arc::new(move |event: &Event<'_>| {
            sink.lock().push(match event {
                Event::StoreReadOnly { lane, reason } => {
                    assert!(
                        reason.replace('\\', "/").contains("cannot sync /instance/seg/"),
                        "{reason}"
                    );
                    format!("read-only {}", lane.0)
                }
                Event::StoreWritable { lane } => format!("writable {}", lane.0),
                Event::SpaceLow => "low".into(),
                Event::SpaceFull => "full".into(),
                Event::SpaceAmple => "ample".into(),
                _ => return,
            });
        });
        let rules = Rules {
            relay_networks: Vec::new(),
            plaintext_login: PlaintextLogin::Always,
            ..Rules::default()
        };
        let spool = Spool::open(&store).unwrap();
        let shared = Shared::new(
            "mail.example.test".into(),
            Arc::new(directory),
            spool,
            mailboxes,
            rules,
            clock,
            Host { events: Some(events), hooks: None },
        );
        shared.watch(&store);
        House { fs, store, shared, seen }
    }

    fn link() -> Link {
        Link { peer: "127.0.0.1:4000".parse().unwrap(), tls: None, starttls: false }
    }

    fn smtp(&self) -> Talk {
        self.speak(Dialect::Smtp)
    }

    fn lmtp(&self) -> Talk {
        let mut talk = self.speak(Dialect::Lmtp);
        talk.expect("", "220 ");
        talk.expect("LHLO client.example.test\r\n", "250");
        talk
    }

    fn speak(&self, dialect: Dialect) -> Talk {
        let config = Arc::new(SmtpConfig {
            hostname: "mail.example.test".into(),
            dialect,
            limits: SmtpLimits::default(),
            extensions: Extensions::default(),
        });
        let shared = self.shared.clone();
        Talk(Box::new(SmtpConversation::new(shared, config, House::link(), Time(0))))
    }

    fn pop3(&self) -> Talk {
        let limits = Pop3Limits::default();
        let config = Arc::new(Pop3Config { hostname: "mail.example.test".into(), limits });
        let shared = self.shared.clone();
        let mut talk =
            Talk(Box::new(Pop3Conversation::new(shared, config, House::link(), Time(0))));
        talk.expect("", "+OK");
        talk.expect("USER user1\r\n", "+OK");
        talk.expect(&format!("PASS {PASSWORD}\r\n"), "+OK");
        talk
    }

    fn greeted(&self) -> Talk {
        let mut talk = self.smtp();
        talk.expect("", "220 ");
        talk.expect("EHLO client.example.test\r\n", "250");
        talk
    }

    /// The log cannot be synced while the switch is on.
    fn break_log(&self, lane: Option<u8>) -> Arc<AtomicBool> {
        let on = Arc::new(AtomicBool::new(true));
        let switch = on.clone();
        let prefix = lane.map_or(String::new(), |lane| format!("{lane:02x}-"));
        self.fs.on_operation(move |operation, path: &Path| {
            let log = path.parent().is_some_and(|p| p.ends_with("seg"))
                && path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix));
            if operation == Operation::Sync && log && switch.load(Ordering::Acquire) {
                return Err(io::ErrorKind::Other.into());
            }
            Ok(())
        });
        on
    }

    fn saw(&self, what: &[&str]) {
        until(&format!("{what:?}"), || *self.seen.lock() == what);
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.now().0 < 20_000, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A connection, driven as the runtime drives it.
struct Talk(Box<dyn Conversation>);

impl Talk {
    fn say(&mut self, text: &str) -> (String, bool) {
        let (mut rest, mut out) = (text.as_bytes(), Vec::new());
        let closed = loop {
            let (used, progress) = self.0.advance(Time(0), rest, &mut out);
            rest = &rest[used..];
            match progress {
                Progress::NeedInput => break false,
                Progress::Closed => break true,
                Progress::Blocked => {}
                Progress::Wait(Wait::Ticket(ticket)) => {
                    self.0.settle(Settled::Ticket(ticket.wait()), &mut out);
                }
                Progress::Wait(Wait::Work(work) | Wait::Login(work)) => {
                    self.0.settle(work(), &mut out);
                }
                Progress::Wait(Wait::Verdict(awaited)) => {
                    self.0.settle(Settled::Verdict(awaited.ticket.wait().ok()), &mut out);
                }
                Progress::Wait(Wait::Pause(_)) => self.0.settle(Settled::Paused, &mut out),
                Progress::StartTls => panic!("nobody asked for TLS"),
            }
        };
        (String::from_utf8(out).unwrap(), closed)
    }

    #[track_caller]
    fn expect(&mut self, text: &str, reply: &str) -> bool {
        let (out, closed) = self.say(text);
        assert!(out.starts_with(reply), "{text:?}: {out:?}");
        closed
    }

    #[track_caller]
    fn message(&mut self, to: &[&str], verdict: &str) {
        self.expect("MAIL FROM:<a@else.test>\r\n", "250 ");
        for to in to {
            self.expect(&format!("RCPT TO:<{to}@example.test>\r\n"), "250 ");
        }
        self.expect("DATA\r\n", "354 ");
        self.expect("A: b\r\n\r\ntext\r\n.\r\n", verdict);
    }
}

#[test]
fn low_space_is_452_at_mail_and_deletions_go_on() {
    let house = House::new(1, 1);
    let mut talk = house.greeted();
    talk.message(&["user1"], "250 2.0.0 Queued as ");
    let ballast = Path::new("/instance/ballast");
    until("ballast", || house.fs.metadata(ballast).is_ok());
    let filler = house.fs.open(Path::new("/filler"), Open::Create).unwrap();
    let free = house.fs.space(ballast).unwrap().free;
    filler.set_len(free - DISK / 100).unwrap();
    house.saw(&["low"]);
    talk.expect("MAIL FROM:<a@else.test>\r\n", "452 4.3.1 ");
    talk.expect("NOOP\r\n", "250 ");
    // New connections are taken: space may come back.
    house.greeted().expect("MAIL FROM:<a@else.test>\r\n", "452 4.3.1 ");
    let mut pop3 = house.pop3();
    pop3.expect("DELE 1\r\n", "+OK");
    assert!(pop3.expect("QUIT\r\n", "+OK"));
    filler.set_len(0).unwrap();
    house.saw(&["low", "ample"]);
    talk.message(&["user1"], "250 2.0.0 Queued as ");
    assert!(house.pop3().say("STAT\r\n").0.starts_with("+OK 1 "));
}

#[test]
fn a_disk_that_cannot_be_written_is_451_and_421_and_pop3_loses_nothing() {
    let house = House::new(1, 1);
    let mut talk = house.greeted();
    talk.message(&["user1"], "250 2.0.0 Queued as ");
    let on = house.break_log(None);
    talk.message(&["user1"], "451 4.3.0 ");
    talk.message(&["user1"], "451 4.3.0 ");
    house.saw(&["read-only 0"]);
    let mut turned_away = house.smtp();
    // A greeting has no enhanced code (RFC 2034 4).
    assert!(turned_away.expect("", "421 mail.example.test Cannot take mail now"));
    // What was accepted can be read; what cannot be removed stays.
    let mut pop3 = house.pop3();
    assert!(pop3.say("RETR 1\r\n").0.contains("\r\n\r\ntext\r\n"));
    pop3.expect("DELE 1\r\n", "+OK");
    assert!(pop3.expect("QUIT\r\n", "-ERR [SYS/TEMP]"));
    on.store(false, Ordering::Release);
    house.saw(&["read-only 0", "writable 0"]);
    house.greeted().message(&["user1"], "250 2.0.0 Queued as ");
    talk.message(&["user1"], "250 2.0.0 Queued as ");
    assert!(house.pop3().say("STAT\r\n").0.starts_with("+OK 3 "));
}

#[test]
fn a_delivery_to_a_lane_that_cannot_be_written_goes_on_when_it_can() {
    let house = House::new(2, 4);
    let accounts = house.shared.directory.accounts();
    let lane_of = |lane: u8| {
        let found = accounts.iter().find(|a| house.store.lane_of(a.id).0 == lane);
        found.expect("an account in each lane")
    };
    let (home, away) = (lane_of(0), lane_of(1));
    let mut talk = house.greeted();
    let on = house.break_log(Some(1));
    // Accepted: it is on disk, and the queue entry remembers the other lane's account.
    talk.message(&[&home.login, &away.login], "250 2.0.0 Queued as ");
    house.saw(&["read-only 1"]);
    let count =
        |account| house.shared.mailboxes.messages(account, MailboxId::INBOX, 0, 10).unwrap().len();
    assert_eq!((count(home.id), count(away.id)), (1, 0));
    on.store(false, Ordering::Release);
    house.saw(&["read-only 1", "writable 1"]);
    until("delivered", || count(away.id) == 1);
    until("settled", || house.store.queue_scan(None, 10).unwrap().is_empty());
    assert_eq!((count(home.id), count(away.id)), (1, 1));
    let report = house.store.check(&mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[test]
fn a_message_that_was_accepted_is_acknowledged_before_the_rate_of_commands_ends_the_session() {
    let house = House::new(1, 1);
    let mut rules = Rules { relay_networks: Vec::new(), ..Rules::default() };
    rules.defence.commands_per_minute = 5;
    rules.defence.exempt = Vec::new();
    house.shared.rules.store(Arc::new(rules));
    let mut talk = house.greeted();
    talk.expect("MAIL FROM:<a@else.test>\r\n", "250 ");
    talk.expect("RCPT TO:<user1@example.test>\r\n", "250 ");
    talk.expect("BDAT 13\r\nA: b\r\n\r\ntxt\r\n", "250 ");
    talk.expect("NOOP\r\n", "250 ");
    let (said, closed) = talk.say("BDAT 0 LAST\r\n");
    assert!(said.starts_with("250 2.0.0 Queued as "), "{said:?}");
    assert!(said.contains("421 4.7.0 ") && closed, "{said:?}");
    let user = house.shared.directory.accounts().remove(0);
    let kept = house.shared.mailboxes.messages(user.id, MailboxId::INBOX, 0, 10).unwrap();
    assert_eq!(kept.len(), 1);
}

#[test]
fn lmtp_answers_each_recipient_with_the_one_verdict_of_the_store() {
    let house = House::new(2, 4);
    let accounts = house.shared.directory.accounts();
    let lane_of = |lane: u8| {
        let found = accounts.iter().find(|a| house.store.lane_of(a.id).0 == lane);
        found.expect("an account in each lane")
    };
    // The message's home is the lane of its first recipient.
    let (home, away) = (lane_of(0), lane_of(1));
    let mut talk = house.lmtp();
    let mut deliver = |replies: &str| {
        talk.expect("MAIL FROM:<a@else.test>\r\n", "250 ");
        for to in [home, away] {
            talk.expect(&format!("RCPT TO:<{}@example.test>\r\n", to.login), "250 ");
        }
        talk.expect("DATA\r\n", "354 ");
        let (out, _) = talk.say("A: b\r\n\r\ntext\r\n.\r\n");
        let all: Vec<&str> = out.lines().collect();
        assert!(all.len() == 2 && all.iter().all(|line| line.starts_with(replies)), "{out}");
    };
    let count =
        |account| house.shared.mailboxes.messages(account, MailboxId::INBOX, 0, 10).unwrap().len();
    let on = house.break_log(Some(0));
    deliver("451 4.3.0 ");
    assert_eq!((count(home.id), count(away.id)), (0, 0));
    on.store(false, Ordering::Release);
    house.saw(&["read-only 0", "writable 0"]);
    let on = house.break_log(Some(1));
    deliver("250 2.0.0 ");
    assert_eq!((count(home.id), count(away.id)), (1, 0));
    on.store(false, Ordering::Release);
    until("delivered", || count(away.id) == 1);
    until("settled", || house.store.queue_scan(None, 10).unwrap().is_empty());
    assert_eq!((count(home.id), count(away.id)), (1, 1));
}
