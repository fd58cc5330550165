//! What the services do with mail beyond the protocol: submission's rules, LMTP into mailboxes, the host's hooks.

#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "support/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::Client;
use house::{House, PASSWORD, port};
use posthouse::codec::base64;
use posthouse::directory::Alias;
use posthouse::engine::{Engine, Event, Hooks, Options};
use posthouse::instance::Config;
use posthouse::service::hook::{Answer, Defer, Facts, Hook, Pending, Question, Refusal, Verdict};
use posthouse::store::MailboxId;
use posthouse::vfs::os::OsFs;

fn greet(engine: &Engine, name: &str) -> Client {
    let mut client = Client::connect(port(engine, name));
    assert!(client.reply()[0].starts_with("220 "));
    let hello = if name == "lmtp" { "LHLO" } else { "EHLO" };
    client.command(&format!("{hello} client.example.test"), "250 ");
    client
}

fn log_in(client: &mut Client, user: &str) {
    let mut plain = String::new();
    base64::encode(format!("\0{user}\0{PASSWORD}").as_bytes(), &mut plain);
    client.command(&format!("AUTH PLAIN {plain}"), "235 ");
}

/// The bytes of the newest message in a user's INBOX.
fn newest(engine: &Engine, user: &str) -> String {
    let address = format!("{user}@example.test");
    let rows = engine.mailbox_list(&address, MailboxId::INBOX, 0, 1000).unwrap();
    let mut reader = engine.message(rows.last().expect("a message").message).unwrap();
    let mut all = vec![0; usize::try_from(reader.len()).unwrap()];
    let mut at = 0;
    while at < all.len() {
        at += reader.read_at(at as u64, &mut all[at..]).unwrap();
    }
    String::from_utf8(all).unwrap()
}

fn count(engine: &Engine, user: &str) -> usize {
    let address = format!("{user}@example.test");
    engine.mailbox_list(&address, MailboxId::INBOX, 0, 1000).unwrap().len()
}

fn rights(house: &House, rights: &str) {
    Config::set(&OsFs::new(), &house.path(), "submission.sender_rights", rights).unwrap();
}

#[test]
fn a_submitted_message_gets_date_and_message_id_and_loses_bcc() {
    let house = House::new();
    house.set_up(&["submission", "smtp"]);
    let engine = house.open(&["user1", "user2"], Options::default());
    engine.start().unwrap();
    let message = "Subject: x\r\nBcc: secret@example.test,\r\n other@example.test\r\nTo: a@b.test\r\n\r\nBcc: body\r\n";
    let mut client = greet(&engine, "submission");
    client.command("MAIL FROM:<user1@example.test>", "530 ");
    log_in(&mut client, "user1");
    client.command("MAIL FROM:<user1@example.test>", "250 ");
    client.command("RCPT TO:<user2@example.test>", "250 ");
    client.command("DATA", "354 ");
    client.send(message);
    client.command(".", "250 ");
    let got = newest(&engine, "user2");
    assert!(!got.contains("secret") && !got.contains("other@"), "{got}");
    assert!(got.contains("with ESMTPA id "), "{got}");
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "Bcc: body\r\n");
    let lines: Vec<&str> = head.split("\r\n").collect();
    let added = &lines[lines.len() - 4..];
    assert_eq!(added[..2], ["Subject: x", "To: a@b.test"]);
    assert!(added[2].starts_with("Date: ") && added[2].ends_with(" +0000"), "{added:?}");
    assert!(added[3].starts_with("Message-ID: <") && added[3].ends_with("@mail.example.test>"));

    // From another server the message is as it was.
    let mut client = greet(&engine, "smtp");
    client.command("MAIL FROM:<x@y.test>", "250 ");
    client.command("RCPT TO:<user2@example.test>", "250 ");
    client.command("DATA", "354 ");
    client.send(message);
    client.command(".", "250 ");
    assert!(newest(&engine, "user2").ends_with(message));
}

#[test]
fn sender_rights_have_three_levels() {
    for (level, stranger, from) in [
        ("login", "250 ", "250 "),
        ("envelope", "553 5.7.1", "250 "),
        ("header", "553 5.7.1", "550 5.7.1"),
    ] {
        let house = House::new();
        house.set_up(&["submission"]);
        rights(&house, level);
        let engine = house.open(&["user1", "user2"], Options::default());
        engine
            .alias_add(&Alias {
                address: "team@example.test".into(),
                targets: vec!["user1@example.test".into(), "user2@example.test".into()],
            })
            .unwrap();
        engine.start().unwrap();
        let mut client = greet(&engine, "submission");
        log_in(&mut client, "user1");
        for other in ["user2@example.test", "user1@elsewhere.test", "nobody@example.test"] {
            client.command(&format!("MAIL FROM:<{other}>"), stranger);
            client.command("RSET", "250 ");
        }
        for own in ["user1@example.test", "USER1@Example.Test", "team@example.test", ""] {
            client.command(&format!("MAIL FROM:<{own}>"), "250 ");
            client.command("RCPT TO:<user2@example.test>", "250 ");
            client.command("DATA", "354 ");
            client.send(
                "From: Somebody <user1@example.test>\r\nSender: team@example.test\r\n\r\nx\r\n",
            );
            client.command(".", "250 ");
        }
        let before = count(&engine, "user2");
        for header in [
            "From: user2@example.test\r\n",
            "From: user1@example.test\r\nFrom: user1@example.test\r\n",
            "From: user1@example.test\r\nSender: boss@elsewhere.test\r\n",
            "Subject: none\r\n",
        ] {
            client.command("MAIL FROM:<user1@example.test>", "250 ");
            client.command("RCPT TO:<user2@example.test>", "250 ");
            client.command("DATA", "354 ");
            client.send(format!("{header}\r\nx\r\n"));
            client.command(".", from);
        }
        let taken = count(&engine, "user2") - before;
        assert_eq!(taken, if level == "header" { 0 } else { 4 });
        client.command("QUIT", "221 ");
    }
}

#[test]
fn a_message_in_a_loop_and_a_header_without_end_are_refused_and_the_session_goes_on() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1"], Options::default());
    Config::set(&OsFs::new(), &house.path(), "smtp.header_bytes", "65536").unwrap();
    drop(engine);
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let mut client = greet(&engine, "smtp");
    let mut data = |text: &str, reply: &str| {
        client.command("MAIL FROM:<x@y.test>", "250 ");
        client.command("RCPT TO:<user1@example.test>", "250 ");
        client.command("DATA", "354 ");
        client.send(text);
        client.command(".", reply);
    };
    let hops = |n| format!("{}\r\nx\r\n", "Received: by x; y\r\n".repeat(n));
    data(&hops(101), "554 5.4.6 Too many hops");
    data(&hops(100), "250 ");
    data(
        &format!("{}\r\nx\r\n", "A: b\r\n".repeat(11_000)),
        "552 5.3.4 Message header is too large",
    );
    data("Authentication-Results: mail.example.test; spf=pass\r\nA: b\r\n\r\nx\r\n", "250 ");
    let got = newest(&engine, "user1");
    assert!(got.ends_with("\r\nA: b\r\n\r\nx\r\n") && !got.contains("spf=pass"), "{got}");
    assert_eq!(engine.stats().smtp.messages_refused, 2);
}

#[test]
fn lmtp_puts_mail_into_mailboxes_with_a_reply_for_each_recipient() {
    let house = House::new();
    house.set_up(&["lmtp"]);
    let engine = house.open(&["user1", "user2"], Options::default());
    engine.start().unwrap();
    let mut client = greet(&engine, "lmtp");
    client.command("EHLO x.test", "5");
    client.command("MAIL FROM:<x@y.test>", "250 ");
    client.command("RCPT TO:<user1@example.test>", "250 ");
    client.command("RCPT TO:<nobody@example.test>", "550 5.1.1");
    client.command("RCPT TO:<a@elsewhere.test>", "550 5.7.1");
    client.command("RCPT TO:<user2@example.test>", "250 ");
    client.command("DATA", "354 ");
    client.send("Return-Path: <forged@x.test>\r\nSubject: x\r\n\r\nbody\r\n");
    client.command(".", "250 ");
    assert!(client.reply()[0].starts_with("250 "));
    for user in ["user1", "user2"] {
        let got = newest(&engine, user);
        assert!(got.starts_with("Return-Path: <x@y.test>\r\nReceived: "), "{got}");
        assert_eq!(got.matches("Return-Path").count(), 1);
        assert!(got.contains("with LMTP id ") && got.ends_with("Subject: x\r\n\r\nbody\r\n"));
    }
    let ids: Vec<_> = ["user1", "user2"]
        .iter()
        .map(|user| {
            let address = format!("{user}@example.test");
            engine.mailbox_list(&address, MailboxId::INBOX, 0, 9).unwrap()[0].message
        })
        .collect();
    assert_eq!(ids[0], ids[1], "one copy");
    client.command("QUIT", "221 ");
}

/// A hook that writes down what it is asked, and answers as it is told.
#[derive(Default)]
struct Judge {
    asked: Mutex<Vec<String>>,
    /// The step at which it does something else than accept, and what.
    odd: Mutex<Option<(&'static str, Odd)>>,
    kept: Mutex<Vec<Pending>>,
}

#[derive(Clone, Copy)]
enum Odd {
    Refuse,
    Later,
    Drop,
    Thread(bool),
}

const NO: Refusal = Refusal::new(550, (7, 0), "The host says no");

impl Hook for Judge {
    fn ask(&self, facts: &Facts<'_>, question: &Question<'_>, later: &mut Defer) -> Answer {
        let (step, about) = match question {
            Question::Connect => ("connect", String::new()),
            Question::Hello { name } => ("hello", String::from_utf8_lossy(name).into_owned()),
            Question::Auth { login } => ("auth", (*login).to_owned()),
            Question::Mail { from, .. } => ("mail", format!("{from:?}")),
            Question::Rcpt { to, .. } => ("rcpt", format!("{to:?}")),
            Question::Data { recipients } => ("data", recipients.to_string()),
            Question::End { size, .. } => ("end", size.to_string()),
            _ => return Answer::Accept,
        };
        let who = facts.login.unwrap_or("-");
        self.asked.lock().unwrap().push(format!("{} {who} {step} {about}", facts.service));
        match *self.odd.lock().unwrap() {
            Some((odd, Odd::Refuse)) if odd == step => Answer::Refuse(NO),
            Some((odd, Odd::Later)) if odd == step => {
                self.kept.lock().unwrap().push(later.take());
                Answer::Later
            }
            Some((odd, Odd::Drop)) if odd == step => {
                drop(later.take());
                Answer::Later
            }
            Some((odd, Odd::Thread(accept))) if odd == step => {
                let pending = later.take();
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(30));
                    pending.complete(if accept { Verdict::Accept } else { Verdict::Refuse(NO) });
                });
                Answer::Later
            }
            _ => Answer::Accept,
        }
    }
}

fn judged(millis: u64) -> (House, Arc<Engine>, Arc<Judge>) {
    let house = House::new();
    house.set_up(&["submission"]);
    let judge = Arc::new(Judge::default());
    let hooks = Hooks { millis, ..Hooks::new(judge.clone()) };
    let engine = house.open(&["user1"], Options { hooks: Some(hooks), ..Options::default() });
    engine.start().unwrap();
    (house, engine, judge)
}

/// Goes through a whole session; the first reply that is not the usual one.
fn session(engine: &Engine) -> Option<(&'static str, String)> {
    let mut client = Client::connect(port(engine, "submission"));
    let mut plain = String::new();
    base64::encode(format!("\0user1\0{PASSWORD}").as_bytes(), &mut plain);
    let auth = format!("AUTH PLAIN {plain}\r\n");
    for (step, say, usual) in [
        ("connect", "", "220 "),
        ("hello", "EHLO a.test\r\n", "250"),
        ("auth", auth.as_str(), "235 "),
        ("mail", "MAIL FROM:<user1@example.test>\r\n", "250 "),
        ("rcpt", "RCPT TO:<user1@example.test>\r\n", "250 "),
        ("data", "DATA\r\n", "354 "),
        ("end", "Subject: x\r\n\r\ny\r\n.\r\n", "250 "),
    ] {
        client.send(say);
        let reply = client.reply();
        if !reply[0].starts_with(usual) {
            return Some((step, reply[0].clone()));
        }
    }
    client.command("QUIT", "221 ");
    None
}

const STEPS: [&str; 7] = ["connect", "hello", "auth", "mail", "rcpt", "data", "end"];

#[test]
fn the_hook_is_asked_at_every_step_with_the_facts() {
    let (_house, engine, judge) = judged(60_000);
    assert_eq!(session(&engine), None);
    let asked = judge.asked.lock().unwrap().clone();
    assert_eq!(
        asked,
        [
            "submission - connect ",
            "submission - hello a.test",
            "submission - auth user1",
            "submission user1 mail Some(<user1@example.test>)",
            "submission user1 rcpt <user1@example.test>",
            "submission user1 data 1",
            "submission user1 end 17",
        ]
    );
}

#[test]
fn the_hook_refuses_at_every_step_at_once_and_later() {
    let (_house, engine, judge) = judged(60_000);
    for step in STEPS {
        for odd in [Odd::Refuse, Odd::Thread(false)] {
            *judge.odd.lock().unwrap() = Some((step, odd));
            let (at, reply) = session(&engine).expect("a refusal");
            assert_eq!(at, step);
            // A code that cannot stand in its place is changed by the machine.
            assert!(reply.contains("The host says no"), "{step}: {reply}");
        }
        *judge.odd.lock().unwrap() = Some((step, Odd::Thread(true)));
        assert_eq!(session(&engine), None, "{step}");
    }
    assert_eq!(count(&engine, "user1"), STEPS.len(), "what was refused is not kept");
    assert_eq!(engine.stats().submission.messages, 7);
    assert_eq!(engine.stats().submission.messages_refused, 2);
}

#[test]
fn a_hook_that_does_not_answer_is_answered_for() {
    let (_house, engine, judge) = judged(100);
    for step in STEPS {
        for odd in [Odd::Later, Odd::Drop] {
            *judge.odd.lock().unwrap() = Some((step, odd));
            let (at, reply) = session(&engine).expect("a refusal");
            assert_eq!(at, step);
            assert!(reply.contains("Cannot decide now, try again later"), "{step}: {reply}");
        }
    }
    // Too late for anybody.
    for pending in judge.kept.lock().unwrap().drain(..) {
        pending.complete(Verdict::Accept);
    }
    *judge.odd.lock().unwrap() = None;
    assert_eq!(session(&engine), None);
    assert_eq!(count(&engine, "user1"), 1);
}

#[test]
fn an_answer_may_come_when_session_and_engine_are_gone() {
    let (_house, engine, judge) = judged(60_000);
    *judge.odd.lock().unwrap() = Some(("mail", Odd::Later));
    let mut client = greet(&engine, "submission");
    log_in(&mut client, "user1");
    client.send("MAIL FROM:<user1@example.test>\r\n");
    let until = Instant::now() + Duration::from_secs(10);
    while judge.kept.lock().unwrap().is_empty() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    // Another session is served meanwhile.
    *judge.odd.lock().unwrap() = None;
    assert_eq!(session(&engine), None);
    let pending = judge.kept.lock().unwrap().pop().unwrap();
    pending.complete(Verdict::Accept);
    *judge.odd.lock().unwrap() = Some(("connect", Odd::Later));
    let client = Client::connect(port(&engine, "submission"));
    while judge.kept.lock().unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(client);
    let pending = judge.kept.lock().unwrap().pop().unwrap();
    let stopping = std::thread::spawn(move || engine.close());
    pending.complete(Verdict::Refuse(NO));
    stopping.join().unwrap().unwrap();
}

#[test]
fn sessions_are_told_and_counted() {
    let house = House::new();
    house.set_up(&["smtp", "lmtp"]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    let engine = house.open(
        &["user1"],
        Options {
            events: Some(Arc::new(move |event: &Event<'_>| {
                if let Event::SessionEnded { session, service, reason, messages, refused, .. } =
                    *event
                {
                    sink.lock()
                        .unwrap()
                        .push(format!("{session} {service} {reason} {messages} {refused}"));
                }
            })),
            ..Options::default()
        },
    );
    engine.start().unwrap();
    let mut client = greet(&engine, "smtp");
    client.command("MAIL FROM:<>", "250 ");
    client.command("RCPT TO:<nobody@example.test>", "550 ");
    client.command("QUIT", "221 ");
    let wait = |count: usize| {
        let until = Instant::now() + Duration::from_secs(10);
        while heard.lock().unwrap().len() < count {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    wait(1);
    drop(greet(&engine, "lmtp"));
    wait(2);
    let client = greet(&engine, "smtp");
    engine.stop().unwrap();
    drop(client);
    wait(3);
    assert_eq!(*heard.lock().unwrap(), ["1 smtp quit 0 1", "2 lmtp lost 0 0", "3 smtp closed 0 0"]);
    let stats = engine.stats();
    assert_eq!((stats.smtp.sessions, stats.lmtp.sessions, stats.submission.sessions), (2, 1, 0));
}
