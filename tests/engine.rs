//! Whole engines on loopback sockets: what a host gets from `open`, `start`, `stop`, `close`.

#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "support/client.rs"]
mod client;
#[path = "support/house.rs"]
mod house;

use std::sync::{Arc, Mutex};

use client::Client;
use house::{House, PASSWORD, picture, port};
use posthouse::Kind;
use posthouse::directory::Alias;
use posthouse::engine::{Engine, Event, LogLevel, Options, TokenRequest, TokenVerifier};
use posthouse::runtime::tls::Connector;
use posthouse::sasl::client::{Channel, Credentials, Exchange};
use posthouse::sasl::{Mechanism, Mechanisms};
use posthouse::store::MailboxId;
use posthouse::vfs::os::OsFs;

fn greet(engine: &Engine, name: &str) -> Client {
    let mut client = Client::connect(port(engine, name));
    assert!(client.reply()[0].starts_with("220 mail.example.test"));
    client.command("EHLO client.example.test", "250 ");
    client
}

fn send(client: &mut Client, from: &str, to: &[&str], message: &str) -> String {
    client.command(&format!("MAIL FROM:<{from}>"), "250 ");
    for to in to {
        client.command(&format!("RCPT TO:<{to}>"), "250 ");
    }
    client.command("DATA", "354 ");
    client.send(message.replace("\r\n.", "\r\n.."));
    client.command(".", "250 2.0.0 Queued as ").remove(0).rsplit(' ').next().unwrap().to_owned()
}

fn log_in(engine: &Engine, login: &str) -> Client {
    let mut client = Client::connect(port(engine, "pop3"));
    assert!(client.line().unwrap().starts_with("+OK"));
    client.pop3(&format!("USER {login}"), "+OK");
    client.pop3(&format!("PASS {PASSWORD}"), "+OK");
    client
}

/// Splits our trace headers off and checks them.
#[track_caller]
fn without_trace<'a>(message: &'a [u8], from: &str, with: &str) -> &'a [u8] {
    let text = String::from_utf8_lossy(message);
    let mut lines = text.split_inclusive("\r\n");
    let mut trace = String::new();
    assert_eq!(lines.next().unwrap(), format!("Return-Path: <{from}>\r\n"));
    trace.push_str(&format!("Return-Path: <{from}>\r\n"));
    let received = lines.next().unwrap();
    assert!(received.starts_with("Received: "), "{received}");
    trace.push_str(received);
    for line in lines {
        if !line.starts_with('\t') {
            break;
        }
        trace.push_str(line);
    }
    assert!(
        trace.contains(&format!("by mail.example.test (Posthouse) with {with} id ")),
        "{trace}"
    );
    &message[trace.len()..]
}

#[test]
fn a_message_sent_over_smtp_is_read_over_pop3_byte_for_byte() {
    let house = House::new();
    house.set_up(&["smtp", "pop3"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let message = "Subject: hello\r\n\r\n.dot\r\n..two\r\n\r\n.\tend\r\n";
    let id = send(&mut greet(&engine, "smtp"), "a@else.test", &["user1@example.test"], message);

    let mut pop3 = log_in(&engine, "user1");
    let stat = pop3.pop3("STAT", "+OK 1 ");
    pop3.pop3("RETR 1", "+OK");
    let got = pop3.multi_line();
    assert_eq!(stat, format!("+OK 1 {}", got.len()));
    assert_eq!(without_trace(&got, "a@else.test", "ESMTP"), message.as_bytes());
    assert!(String::from_utf8_lossy(&got).contains(&id));

    pop3.pop3("DELE 1", "+OK");
    pop3.pop3("QUIT", "+OK");
    assert!(pop3.at_end());
    log_in(&engine, "user1").pop3("STAT", "+OK 0 0");
    assert!(engine.check(&mut |_, _| ()).unwrap().problems.is_empty());
}

#[test]
fn one_message_for_many_is_stored_once_and_seen_by_all() {
    let house = House::new();
    house.set_up(&["smtp", "pop3"]);
    let users: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let names: Vec<&str> = users.iter().map(String::as_str).collect();
    let engine = house.open(&names, Options::default());
    engine.start().unwrap();
    let body = "x".repeat(70);
    let message = format!("Subject: many\r\n\r\n{}", format!("{body}\r\n").repeat(1400));
    let before = engine.stats().log_bytes;
    let to: Vec<String> = users.iter().map(|user| format!("{user}@example.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    send(&mut greet(&engine, "smtp"), "", &to, &message);
    let written = engine.stats().log_bytes - before;
    assert!(written < message.len() as u64 * 3 / 2, "{written} bytes for {}", message.len());
    for user in names {
        let mut pop3 = log_in(&engine, user);
        pop3.pop3("STAT", "+OK 1 ");
        pop3.pop3("RETR 1", "+OK");
        assert_eq!(without_trace(&pop3.multi_line(), "", "ESMTP"), message.as_bytes());
    }
    assert!(engine.queue_list(None, 10).unwrap().is_empty());
    assert!(engine.check(&mut |_, _| ()).unwrap().problems.is_empty());
}

#[test]
fn relaying_needs_authentication_and_then_waits_in_the_queue() {
    let house = House::new();
    house.set_up(&["smtp", "submission"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let mut smtp = greet(&engine, "smtp");
    smtp.command("MAIL FROM:<a@else.test>", "250 ");
    smtp.command("RCPT TO:<b@far.test>", "550 5.7.1 ");
    smtp.command("RCPT TO:<nobody@example.test>", "550 5.1.1 ");
    smtp.command("RCPT TO:<postmaster>", "250 ");
    smtp.command("RCPT TO:<PostMaster@EXAMPLE.test>", "250 ");

    let mut submission = greet(&engine, "submission");
    submission.command("MAIL FROM:<user1@example.test>", "530 5.7.0 ");
    submission.command("AUTH PLAIN AHVzZXIxAHdyb25n", "535 5.7.8 ");
    submission.command("AUTH PLAIN AHVzZXIxAGNvcnJlY3QgaG9yc2U=", "235 2.7.0 ");
    let to = ["b@far.test", "user1@example.test", "c@far.test"];
    let id = send(&mut submission, "user1@example.test", &to, "Subject: x\r\n\r\n");
    let queue = engine.queue_list(None, 10).unwrap();
    assert_eq!(queue.len(), 1);
    assert_eq!(queue[0].message.to_string(), id);
    let remotes: Vec<_> = queue[0].recipients.iter().map(|to| to.address.as_slice()).collect();
    assert_eq!(remotes, [b"b@far.test".as_slice(), b"c@far.test"]);
    assert_eq!(engine.mailbox_list("user1@example.test", MailboxId::INBOX, 0, 9).unwrap().len(), 1);
    engine.queue_remove(queue[0].message).unwrap();
    assert_eq!(engine.queue_remove(queue[0].message).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(engine.mailbox_list("user1@example.test", MailboxId::INBOX, 0, 9).unwrap().len(), 1);
}

#[test]
fn starttls_and_stls_lead_to_the_same_mail() {
    let house = House::new();
    house.set_up(&["smtp", "smtps", "pop3", "pop3s"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let connector = Connector::trusting(&OsFs::new(), &house.certificate(&engine)).unwrap();

    let mut smtp = greet(&engine, "smtp");
    smtp.command("STARTTLS", "220 ");
    smtp.start_tls(&connector, "mail.example.test");
    let caps = smtp.command("EHLO again.example.test", "250 ");
    assert!(caps.iter().all(|line| !line.contains("STARTTLS")), "{caps:?}");
    let big = format!("Subject: tls\r\n\r\n{}", "0123456789abcdef\r\n".repeat(20_000));
    send(&mut smtp, "a@else.test", &["user1@example.test"], &big);
    smtp.command("QUIT", "221 ");
    assert!(smtp.at_end());

    let mut smtps = Client::connect(port(&engine, "smtps"));
    smtps.start_tls(&connector, "mail.example.test");
    assert!(smtps.reply()[0].starts_with("220 "));
    smtps.command("HELO x.example.test", "250 ");
    send(&mut smtps, "a@else.test", &["user1@example.test"], "Subject: 2\r\n\r\n");

    let mut pop3 = Client::connect(port(&engine, "pop3"));
    assert!(pop3.line().unwrap().starts_with("+OK"));
    pop3.pop3("STLS", "+OK");
    pop3.start_tls(&connector, "mail.example.test");
    pop3.pop3("USER user1", "+OK");
    pop3.pop3(&format!("PASS {PASSWORD}"), "+OK");
    pop3.pop3("RETR 1", "+OK");
    assert_eq!(without_trace(&pop3.multi_line(), "a@else.test", "ESMTPS"), big.as_bytes());
    pop3.pop3("RETR 2", "+OK");
    assert_eq!(without_trace(&pop3.multi_line(), "a@else.test", "SMTP"), b"Subject: 2\r\n\r\n");
}

#[test]
fn plaintext_behind_starttls_is_not_carried_over() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let mut smtp = greet(&engine, "smtp");
    smtp.send("STARTTLS\r\nMAIL FROM:<evil@else.test>\r\n");
    assert!(smtp.reply()[0].starts_with("220 "));
    // The connection ends without a word in clear about the injected command.
    while let Some(line) = smtp.line() {
        assert!(!line.starts_with("250"), "{line}");
    }
}

#[test]
fn an_engine_starts_and_stops_as_often_as_wanted() {
    let house = House::new();
    house.set_up(&["smtp", "pop3"]);
    let engine = house.open(&["user1"], Options::default());
    for round in 1..=10 {
        engine.start().unwrap();
        engine.start().unwrap();
        send(&mut greet(&engine, "smtp"), "a@else.test", &["user1@example.test"], "A: b\r\n\r\n");
        engine.stop().unwrap();
        engine.stop().unwrap();
        assert!(engine.listeners().is_empty());
        let rows = engine.mailbox_list("user1@example.test", MailboxId::INBOX, 0, 99).unwrap();
        assert_eq!(rows.len(), round);
    }
    engine.close().unwrap();
    engine.close().unwrap();
    assert_eq!(engine.start().unwrap_err().kind(), Kind::Stopped);
    let again = house.open(&[], Options::default());
    let rows = again.mailbox_list("user1@example.test", MailboxId::INBOX, 0, 99).unwrap();
    assert_eq!(rows.iter().map(|row| row.uid).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
}

#[test]
fn stopping_says_421_to_idle_sessions_and_lets_a_transaction_end() {
    let house = House::new();
    house.set_up(&["smtp", "pop3"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let mut idle = greet(&engine, "smtp");
    let mut pop3 = log_in(&engine, "user1");
    let stopper = {
        let engine = Arc::clone(&engine);
        std::thread::spawn(move || engine.stop().unwrap())
    };
    assert!(idle.line().unwrap().starts_with("421 4.3.2 "));
    assert!(idle.at_end());
    assert!(pop3.line().unwrap().starts_with("-ERR"));
    assert!(pop3.at_end());
    stopper.join().unwrap();
    assert_eq!(engine.stats().connections, 0);
}

#[test]
fn several_engines_live_in_one_process() {
    let houses: Vec<House> = (0..3).map(|_| House::new()).collect();
    let engines: Vec<_> = houses
        .iter()
        .map(|house| {
            house.set_up(&["smtp"]);
            let engine = house.open(&["user1"], Options::default());
            engine.start().unwrap();
            engine
        })
        .collect();
    for (n, engine) in engines.iter().enumerate() {
        for _ in 0..=n {
            let to = ["user1@example.test"];
            send(&mut greet(engine, "smtp"), "a@else.test", &to, "A: b\r\n\r\n");
        }
    }
    for (n, engine) in engines.iter().enumerate() {
        assert_eq!(engine.stats().messages_accepted, n as u64 + 1);
        engine.close().unwrap();
    }
}

#[test]
fn a_second_opening_is_refused_and_changes_nothing() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1"], Options::default());
    let refused = || {
        let error = Engine::open(&house.path(), Options::default()).err().unwrap();
        assert_eq!(error.kind(), Kind::Locked);
        assert!(error.message().contains(&house.path().display().to_string()), "{error}");
        assert!(!error.message().contains('\n'));
    };
    refused();
    engine.close().unwrap();
    // An engine writes on its own behalf; who just holds the lock does not.
    let lock =
        posthouse::vfs::Fs::try_lock(&OsFs::new(), &house.path().join(posthouse::store::LOCK_FILE))
            .unwrap();
    let before = picture(&house.path());
    refused();
    assert_eq!(picture(&house.path()), before);
    drop(lock);
    Engine::open(&house.path(), Options::default()).unwrap();
}

#[test]
fn a_wrong_path_is_named_and_nothing_is_made() {
    let house = House::new();
    let error = Engine::open(&house.path(), Options::default()).err().unwrap();
    assert!(matches!(error.kind(), Kind::PathNotFound | Kind::NotAnInstance), "{error:?}");
    assert!(error.message().contains(&house.path().display().to_string()), "{error}");
    assert!(!house.path().exists());
    // A directory of somebody else's is left alone too.
    std::fs::create_dir(house.path()).unwrap();
    std::fs::write(house.path().join("notes.txt"), "mine").unwrap();
    let before = picture(&house.path());
    let error = Engine::open(&house.path(), Options::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::NotAnInstance);
    assert!(!error.message().contains('\n'), "{error}");
    assert_eq!(picture(&house.path()), before);
}

#[test]
fn a_corrupt_format_file_is_named_and_nothing_is_changed() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let file = house.path().join("FORMAT");
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        let before = picture(&house.path());
        let error = Engine::open(&house.path(), Options::default()).err().unwrap();
        assert!(matches!(error.kind(), Kind::Corrupt | Kind::FormatNewer), "byte {at}: {error:?}");
        assert!(error.message().contains("FORMAT"), "{error}");
        assert!(!error.message().contains('\n'), "{error}");
        assert_eq!(picture(&house.path()), before);
    }
    std::fs::write(&file, &whole).unwrap();
    Engine::open(&house.path(), Options::default()).unwrap();
}

#[test]
fn a_port_in_use_names_the_listener_and_keeps_none() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let taken = port(&engine, "smtp");
    let other = House::new();
    other.set_up(&["pop3", "smtp"]);
    let file = other.path().join("posthouse.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let at = text.rfind("127.0.0.1:0").unwrap();
    std::fs::write(&file, format!("{}{taken}{}", &text[..at], &text[at + 11..])).unwrap();
    let second = other.open(&[], Options::default());
    let error = second.start().unwrap_err();
    assert_eq!(error.kind(), Kind::AddressInUse);
    assert!(
        error.message().contains("smtp") && error.message().contains(&taken.to_string()),
        "{error}"
    );
    assert!(second.listeners().is_empty());
}

#[test]
fn a_broken_certificate_is_named() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&[], Options::default());
    let certificate = house.certificate(&engine);
    engine.close().unwrap();
    let begin = "-----BEGIN CERTIFICATE-----\n";
    let end = "-----END CERTIFICATE-----\n";
    for (text, flaw) in [
        (format!("{begin}AAAA\n{end}"), ""),
        (format!("{begin}AAAA\n"), "-----END CERTIFICATE----- is missing"),
        (format!("{begin}!!!!\n{end}"), "not Base64"),
        (String::new(), "no CERTIFICATE block"),
    ] {
        std::fs::write(&certificate, text).unwrap();
        let engine = house.open(&[], Options::default());
        let error = engine.start().unwrap_err();
        assert!(matches!(error.kind(), Kind::Certificate | Kind::PrivateKey), "{error:?}");
        assert!(error.message().contains(&certificate.display().to_string()), "{error}");
        assert!(error.message().contains(flaw), "{error}");
        assert!(!error.message().contains('\n'), "{error}");
    }
}

#[test]
fn connections_beyond_the_limit_get_421_and_others_go_on() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let file = house.path().join("posthouse.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if line.trim_start_matches(['#', ' ']).starts_with("connections_per_address") {
            *line = "connections_per_address = 2".to_owned();
        }
    }
    std::fs::write(&file, lines.join("\n")).unwrap();
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let mut first = greet(&engine, "smtp");
    let second = greet(&engine, "smtp");
    let mut third = Client::connect(port(&engine, "smtp"));
    assert!(third.line().unwrap().starts_with("421 4.3.2 "));
    first.command("NOOP", "250 ");
    drop(second);
    for _ in 0..100 {
        if engine.stats().connections == 1 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    greet(&engine, "smtp");
    assert_eq!(engine.stats().connections_refused, 1);
}

#[test]
fn a_maildrop_is_open_to_one_session_at_a_time() {
    let house = House::new();
    house.set_up(&["pop3"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let first = log_in(&engine, "user1");
    let mut second = Client::connect(port(&engine, "pop3"));
    second.line().unwrap();
    second.pop3("USER user1", "+OK");
    second.pop3(&format!("PASS {PASSWORD}"), "-ERR [IN-USE]");
    drop(first);
    let mut tries = 0;
    loop {
        let mut third = Client::connect(port(&engine, "pop3"));
        third.line().unwrap();
        third.pop3("USER user1", "+OK");
        third.send(format!("PASS {PASSWORD}\r\n"));
        if third.line().unwrap().starts_with("+OK") {
            break;
        }
        tries += 1;
        assert!(tries < 100, "the lock did not go with its connection");
    }
}

#[test]
fn submit_follows_the_rules_of_a_submission() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1", "user2"], Options::default());
    engine
        .alias_add(&Alias {
            address: "team@example.test".to_owned(),
            targets: vec![
                "user1@example.test".to_owned(),
                "user2@example.test".to_owned(),
                "x@far.test".to_owned(),
            ],
        })
        .unwrap();
    let message = b"Subject: host\r\n\r\nhello\r\n";
    let id = engine.submit("user1@example.test", &["team@example.test"], message).unwrap();
    assert_eq!(engine.queue_list(None, 9).unwrap()[0].message, id);
    for user in ["user1", "user2"] {
        let rows =
            engine.mailbox_list(&format!("{user}@example.test"), MailboxId::INBOX, 0, 9).unwrap();
        let mut reader = engine.message(rows[0].message).unwrap();
        let mut bytes = vec![0; usize::try_from(reader.len()).unwrap()];
        assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
        assert_eq!(without_trace(&bytes, "user1@example.test", "local"), message);
        // What is relayed begins behind the Return-Path.
        assert_eq!(&bytes[usize::try_from(reader.prefix_len()).unwrap()..][..9], b"Received:");
    }
    for (bytes, what) in [
        (&b"a\nb\r\n"[..], "LF without CR at octet 1"),
        (b"a\rb\r\n", "CR without LF at octet 2"),
        (b"a\0b\r\n", "NUL at octet 1"),
        (b"a\r", "ends in a CR"),
    ] {
        let error = engine.submit("", &["user1@example.test"], bytes).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.message().contains(what), "{error}");
    }
    let error = engine.submit("", &["nobody@example.test"], message).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.message().contains("nobody@example.test"));
    assert_eq!(engine.submit("", &["no address"], message).unwrap_err().kind(), Kind::Address);
    assert_eq!(engine.submit("", &[], message).unwrap_err().kind(), Kind::InvalidArgument);
}

#[test]
fn events_and_log_lines_reach_the_host() {
    let house = House::new();
    house.set_up(&["smtp", "pop3"]);
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let logged = Arc::new(Mutex::new(Vec::<String>::new()));
    let options = Options {
        events: Some({
            let seen = Arc::clone(&seen);
            Arc::new(move |event: &Event<'_>| {
                seen.lock().unwrap().push(match event {
                    Event::Listening { name, .. } => format!("listening {name}"),
                    Event::MessageAccepted { from, local, remote, .. } => {
                        format!("accepted {from} {local} {remote}")
                    }
                    Event::RecipientRefused { address, code, .. } => {
                        format!("refused {address} {code}")
                    }
                    Event::Login { login, accepted, .. } => format!("login {login} {accepted}"),
                    Event::SessionBegun { service, .. } => format!("begun {service}"),
                    Event::SessionEnded { reason, messages, refused, .. } => {
                        format!("ended {reason} {messages} {refused}")
                    }
                    Event::Stopped => "stopped".to_owned(),
                    _ => String::new(),
                });
            })
        }),
        log: Some({
            let logged = Arc::clone(&logged);
            Arc::new(move |_, _, line| logged.lock().unwrap().push(line.to_owned()))
        }),
        log_level: LogLevel::Info,
        threads: 1,
        ..Options::default()
    };
    let engine = house.open(&["user1"], options);
    engine.start().unwrap();
    let mut smtp = greet(&engine, "smtp");
    smtp.command("MAIL FROM:<a@else.test>", "250 ");
    smtp.command("RCPT TO:<nobody@example.test>", "550 ");
    smtp.command("RSET", "250 ");
    send(&mut smtp, "a@else.test", &["user1@example.test"], "A: b\r\n\r\n");
    let mut pop3 = Client::connect(port(&engine, "pop3"));
    pop3.line().unwrap();
    pop3.pop3("USER user1", "+OK");
    pop3.pop3("PASS wrong password", "-ERR [AUTH]");
    engine.stop().unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "listening smtp",
            "listening pop3",
            "begun smtp",
            "refused nobody@example.test 550",
            "accepted a@else.test 1 0",
            "login user1 false",
            "ended closed 1 1",
            "stopped",
        ]
    );
    assert!(logged.lock().unwrap().iter().any(|line| line.contains("login failed")));
}

#[test]
fn an_account_that_is_removed_is_unknown_at_once_and_its_mail_is_gone() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let mut smtp = greet(&engine, "smtp");
    send(&mut smtp, "a@else.test", &["user1@example.test"], "A: b\r\n\r\n");
    engine.account_remove("user1@example.test").unwrap();
    smtp.command("MAIL FROM:<a@else.test>", "250 ");
    smtp.command("RCPT TO:<user1@example.test>", "550 5.1.1 ");
    assert_eq!(engine.mailboxes("user1@example.test").unwrap_err().kind(), Kind::NotFound);
    engine.close().unwrap();
    // A new account of the same name begins empty and with a higher UIDVALIDITY.
    let engine = house.open(&["user1"], Options::default());
    assert!(engine.mailbox_list("user1@example.test", MailboxId::INBOX, 0, 9).unwrap().is_empty());
    assert!(engine.check(&mut |_, _| ()).unwrap().problems.is_empty());
}

#[test]
fn the_sessions_of_an_account_that_is_removed_end_at_their_next_command() {
    let house = House::new();
    house.set_up(&["submission", "pop3"]);
    let engine = house.open(&["user1", "user2"], Options::default());
    engine.start().unwrap();
    let mut pop3 = log_in(&engine, "user1");
    let mut other = log_in(&engine, "user2");
    let mut submission = greet(&engine, "submission");
    submission.command("AUTH PLAIN AHVzZXIxAGNvcnJlY3QgaG9yc2U=", "235 ");
    submission.command("MAIL FROM:<user1@example.test>", "250 ");
    submission.command("RSET", "250 ");
    engine.account_remove("user1@example.test").unwrap();
    pop3.pop3("STAT", "-ERR ");
    assert!(pop3.at_end());
    submission.command("MAIL FROM:<user1@example.test>", "421 4.7.0 ");
    assert!(submission.at_end());
    other.pop3("STAT", "+OK 0 0");
}

#[test]
fn a_peer_that_never_stops_sending_does_not_hold_up_the_others() {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&[], Options { threads: 1, ..Options::default() });
    engine.start().unwrap();
    let mut writing = TcpStream::connect(port(&engine, "smtp")).unwrap();
    let mut reading = writing.try_clone().unwrap();
    // Replies are taken as fast as they come, so that nothing but fairness can hold the flood up.
    let reader = std::thread::spawn(move || {
        let mut sink = [0; 65536];
        while reading.read(&mut sink).is_ok_and(|read| read > 0) {}
    });
    let flood = writing.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let noops = b"NOOP\r\n".repeat(20_000);
        while writing.write_all(&noops).is_ok() {}
    });
    std::thread::sleep(std::time::Duration::from_millis(300));

    // Fails after ten seconds.
    for _ in 0..5 {
        greet(&engine, "smtp").command("NOOP", "250 ");
    }
    // The flood does not keep the engine's end from being heard either: a stop need not wait for its time to be over.
    let begin = std::time::Instant::now();
    engine.stop().unwrap();
    assert!(begin.elapsed() < std::time::Duration::from_secs(8), "{:?}", begin.elapsed());
    let _ = flood.shutdown(std::net::Shutdown::Both);
    writer.join().unwrap();
    reader.join().unwrap();
}

#[test]
fn a_start_that_fails_inside_a_hosts_own_runtime_is_an_error_and_no_panic() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&[], Options::default());
    engine.start().unwrap();
    let taken = port(&engine, "smtp");
    let other = House::new();
    other.set_up(&["smtp"]);
    let file = other.path().join("posthouse.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("127.0.0.1:0", &taken.to_string())).unwrap();
    let second = other.open(&[], Options::default());
    let host = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = host.block_on(async { second.start().unwrap_err() });
    assert_eq!(error.kind(), Kind::AddressInUse);
}

#[test]
fn an_event_sink_may_ask_the_engine_that_tells_it() {
    let house = House::new();
    house.set_up(&["smtp"]);
    let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
    let engine: Arc<Mutex<Option<std::sync::Weak<Engine>>>> = Arc::default();
    let options = Options {
        events: Some(Arc::new({
            let (seen, engine) = (Arc::clone(&seen), Arc::clone(&engine));
            move |event: &Event<'_>| {
                if let Event::Listening { .. } = event {
                    let engine = engine.lock().unwrap().as_ref().unwrap().upgrade().unwrap();
                    seen.lock().unwrap().push(engine.listeners().len());
                }
            }
        })),
        ..Options::default()
    };
    let opened = house.open(&[], options);
    *engine.lock().unwrap() = Some(Arc::downgrade(&opened));
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        opened.start().unwrap();
        done.send(opened).unwrap();
    });
    let opened = ended.recv_timeout(std::time::Duration::from_secs(10)).expect("start returns");
    assert_eq!(*seen.lock().unwrap(), [1]);
    opened.close().unwrap();
}

#[test]
fn starting_stopping_and_closing_from_several_threads_leaves_nothing_behind() {
    for _ in 0..5 {
        let house = House::new();
        house.set_up(&["smtp"]);
        let engine = house.open(&[], Options::default());
        let control = house.path().join("control");
        std::thread::scope(|scope| {
            for n in 0..4 {
                let engine = &engine;
                scope.spawn(move || {
                    for _ in 0..20 {
                        if n % 2 == 0 {
                            engine.start().unwrap();
                        } else {
                            engine.stop().unwrap();
                        }
                    }
                });
            }
        });
        engine.start().unwrap();
        assert!(control.exists(), "a late stop took the control file of a later start away");
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50).for_each(|_| drop(engine.start())));
            scope.spawn(|| engine.close().unwrap());
        });
        assert!(engine.listeners().is_empty(), "a closed engine serves");
        assert!(!control.exists());
    }
}

#[test]
fn a_close_waits_for_a_stop_that_drains_on_another_thread() {
    use std::time::Duration;

    let house = House::new();
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let mut smtp = greet(&engine, "smtp");
    smtp.command("MAIL FROM:<a@else.test>", "250 ");
    smtp.command("RCPT TO:<user1@example.test>", "250 ");
    smtp.command("DATA", "354 ");
    std::thread::scope(|scope| {
        scope.spawn(|| engine.stop().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(200));
        let (closed, is_closed) = std::sync::mpsc::channel();
        let engine = &engine;
        scope.spawn(move || closed.send(engine.close()).unwrap());
        assert!(is_closed.recv_timeout(Duration::from_millis(500)).is_err(), "a session is alive");
        smtp.command(".", "421 4.3.2 ");
        is_closed.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    });
    assert_eq!(engine.start().unwrap_err().kind(), Kind::Stopped);
}

/// Logs in on an SMTP connection; the last reply. A server that is not to be believed fails the test.
fn authenticate(
    client: &mut Client,
    mechanism: Mechanism,
    login: &str,
    secret: &str,
    channel: Channel,
) -> String {
    let encoded = |octets: &[u8]| {
        let mut text = String::new();
        posthouse::codec::base64::encode(octets, &mut text);
        text
    };
    let secret = secret.to_owned().into();
    let credentials = Credentials { login: login.into(), secret, ..Credentials::default() };
    let mut exchange = Exchange::new(mechanism, credentials, [1; 18], channel).unwrap();
    let initial = exchange.initial().map_or(String::new(), |text| format!(" {}", encoded(&text)));
    let mut reply = client.ask(&format!("AUTH {}{initial}", mechanism.name()));
    while let Some(challenge) = reply.strip_prefix("334 ") {
        let challenge = posthouse::codec::base64::decode(challenge.as_bytes()).unwrap();
        let response = exchange.respond(&challenge).unwrap();
        reply = client.ask(&encoded(&response));
    }
    if reply.starts_with("235") {
        exchange.finish(b"").unwrap();
    }
    reply
}

#[test]
fn scram_is_bound_to_the_tls_channel() {
    let house = House::new();
    house.set_up(&["submissions"]);
    let engine = house.open(&["user1"], Options::default());
    engine.start().unwrap();
    let connector = Connector::trusting(&OsFs::new(), &house.certificate(&engine)).unwrap();
    let plus = Mechanism::ScramSha256Plus;
    let log_in = |password: &str, forged: bool| {
        let mut client = Client::connect(port(&engine, "submissions"));
        client.start_tls(&connector, "mail.example.test");
        assert!(client.reply()[0].starts_with("220 "));
        let offered = client.command("EHLO client.example.test", "250 ");
        let offered = offered.iter().find_map(|line| line.split_once("AUTH ")).unwrap().1;
        assert!(Mechanisms::from_names(offered.as_bytes()).contains(plus), "{offered}");
        let mut data = client.facts().unwrap().exporter.expect("TLS 1.3").to_vec();
        data[0] ^= u8::from(forged);
        authenticate(&mut client, plus, "user1", password, Channel::Exporter(data))
    };
    assert!(log_in(PASSWORD, false).starts_with("235 2.7.0"));
    assert_eq!(log_in(PASSWORD, true), "535 5.7.8 Wrong login name or password");
    assert_eq!(log_in("another password", false), "535 5.7.8 Wrong login name or password");
    let stats = engine.stats();
    assert_eq!((stats.logins, stats.logins_failed), (1, 2));
    engine.close().unwrap();
}

/// Knows the token `good`, which stands for user1, and `lost`, of which it cannot tell.
struct Tokens;

impl TokenVerifier for Tokens {
    fn verify(&self, request: &TokenRequest<'_>) -> posthouse::Result<Option<String>> {
        assert!(!format!("{request:?}").contains(request.token), "a token in a debug line");
        match request.token {
            "good" => Ok(Some("USER1@example.test".to_owned())),
            "lost" => Err(posthouse::Error::new(Kind::Io, "the issuer does not answer")),
            _ => Ok(None),
        }
    }
}

#[test]
fn tokens_are_verified_by_the_host() {
    let house = House::new();
    house.set_up(&["submission"]);
    let fs = OsFs::new();
    let list = "[\"OAUTHBEARER\", \"XOAUTH2\"]";
    posthouse::instance::Config::set(&fs, &house.path(), "auth.mechanisms", list).unwrap();

    let without = house.open(&["user1", "user2"], Options::default());
    without.start().unwrap();
    let mut client = greet(&without, "submission");
    let reply = client.ask("AUTH OAUTHBEARER");
    assert!(reply.starts_with("504 5.5.4"), "nobody verifies: {reply}");
    drop(client);
    without.close().unwrap();

    let options = Options { tokens: Some(Arc::new(Tokens)), ..Options::default() };
    let engine = house.open(&[], options);
    engine.start().unwrap();
    let log_in = |mechanism, login: &str, token: &str| {
        let mut client = greet(&engine, "submission");
        let reply = authenticate(&mut client, mechanism, login, token, Channel::Unbound);
        // The session goes on whatever the outcome.
        client.command("NOOP", "250 ");
        reply
    };
    let wrong = "535 5.7.8 Wrong login name or password";
    for mechanism in [Mechanism::OAuthBearer, Mechanism::XOAuth2] {
        assert!(log_in(mechanism, "user1", "good").starts_with("235 2.7.0"));
        assert_eq!(log_in(mechanism, "user1", "bad"), wrong);
        assert_eq!(log_in(mechanism, "user2", "good"), wrong, "the token is another's");
        assert_eq!(log_in(mechanism, "nobody", "good"), wrong);
        assert!(log_in(mechanism, "user1", "lost").starts_with("454 4.7.0"));
    }
    assert!(log_in(Mechanism::OAuthBearer, "", "good").starts_with("235 2.7.0"));
    assert_eq!(engine.stats().logins, 3);
    engine.close().unwrap();
}
