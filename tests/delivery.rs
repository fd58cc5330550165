//! Mail that leaves: whole engines on loopback against each other, and against servers that behave as told.

#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "support/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "support/house.rs"]
#[allow(dead_code)]
mod house;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Add as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::Client;
use house::{House, PASSWORD, port};
use posthouse::engine::{Engine, Event, Options};
use posthouse::instance::Config;
use posthouse::store::{MailboxId, RecipientState};
use posthouse::vfs::os::OsFs;

/// What an engine said, one line an event.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn options(&self) -> Options {
        let lines = Arc::clone(&self.0);
        Options {
            events: Some(Arc::new(move |event: &Event<'_>| {
                let line = match *event {
                    Event::MessageAccepted { id, from, local, remote, session, .. } => {
                        format!(
                            "{id} accepted from {from} local {local} remote {remote} session {session}"
                        )
                    }
                    Event::Delivery { id, address, outcome, attempts, answer, .. } => {
                        format!("{id} {} {address} {attempts} {answer}", outcome.name())
                    }
                    Event::SessionBegun { session, service, .. } => {
                        format!("session {session} {service} begun")
                    }
                    Event::SessionEnded { session, reason, messages, refused, .. } => {
                        format!("session {session} {reason} {messages} {refused}")
                    }
                    _ => return,
                };
                lines.lock().unwrap().push(line);
            })),
            ..Options::default()
        }
    }

    /// Waits for a line with all of these words.
    #[track_caller]
    fn wait(&self, words: &[&str]) -> String {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let lines = self.0.lock().unwrap().clone();
            let found = lines.iter().find(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = found {
                return line.clone();
            }
            assert!(Instant::now() < until, "no {words:?} in {lines:#?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn about(&self, id: &str) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| line.starts_with(id)).cloned().collect()
    }
}

/// Makes the house's mail leave to `to`, with quick repetitions.
fn route(house: &House, domain: &str, to: &str, more: &str) {
    let file = house.path().join("posthouse.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str(&format!("\n[[route]]\ndomain = \"{domain}\"\nto = \"{to}\"\n{more}\n"));
    std::fs::write(&file, text).unwrap();
    for (key, value) in [
        ("delivery.first_retry_seconds", "1"),
        ("delivery.longest_retry_seconds", "1"),
        ("policy.relay_networks", "[\"127.0.0.0/8\"]"),
    ] {
        Config::set(&OsFs::new(), &house.path(), key, value).unwrap();
    }
}

fn send(engine: &Engine, from: &str, to: &[&str], message: &str) -> String {
    let mut client = Client::connect(port(engine, "smtp"));
    client.reply();
    client.command("EHLO client.example.test", "250 ");
    client.command(&format!("MAIL FROM:<{from}>"), "250 ");
    for to in to {
        client.command(&format!("RCPT TO:<{to}>"), "250 ");
    }
    client.command("DATA", "354 ");
    client.send(message.replace("\r\n.", "\r\n.."));
    let id = client
        .command(".", "250 2.0.0 Queued as ")
        .remove(0)
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    client.command("QUIT", "221 ");
    id
}

/// The bytes of the newest message in a user's INBOX.
fn newest(engine: &Engine, user: &str) -> Vec<u8> {
    let address = format!("{user}@example.test");
    let rows = engine.mailbox_list(&address, MailboxId::INBOX, 0, 1000).unwrap();
    let mut reader = engine.message(rows.last().expect("a message").message).unwrap();
    let mut all = vec![0; usize::try_from(reader.len()).unwrap()];
    let mut at = 0;
    while at < all.len() {
        at += reader.read_at(at as u64, &mut all[at..]).unwrap();
    }
    all
}

const MESSAGE: &str = "Subject: hello\r\nFrom: a@else.test\r\n\r\n.dot\r\n..two\r\n\r\n.\tend\r\n";

#[test]
fn a_message_is_followed_by_its_queue_id_from_one_engine_into_a_mailbox_of_another() {
    for service in ["lmtp", "smtp"] {
        let (near, far) = (House::new(), House::new());
        far.set_up(&[service]);
        let heard_there = Heard::default();
        let there = far.open(&["user1", "user2"], heard_there.options());
        there.start().unwrap();
        near.set_up_for("near.test", &["smtp"]);
        let to = format!("{service}:{}", port(&there, service));
        route(&near, "example.test", &to, "");
        let heard = Heard::default();
        let here = near.open(&[], heard.options());
        here.start().unwrap();
        let to = ["user1@example.test", "nobody@example.test", "user2@example.test"];
        let id = send(&here, "a@else.test", &to, MESSAGE);
        heard.wait(&[&id, "delivered user1@example.test 1 250"]);
        heard.wait(&[&id, "failed nobody@example.test 1 550 5.1.1 No such user here"]);
        heard.wait(&[&id, "delivered user2@example.test 1 250"]);
        let lines = heard.about(&id);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].contains("accepted from a@else.test local 0 remote 3 session 1"));
        heard.wait(&["session 1 smtp begun"]);
        heard.wait(&["session 1 quit 1 0"]);
        heard_there.wait(&[&format!("session 1 {service} begun")]);
        heard_there.wait(&["accepted from a@else.test local 2 remote 0 session 1"]);
        let stats = here.stats();
        assert_eq!((stats.delivered, stats.failed, stats.smtp.messages), (2, 1, 1));
        for user in ["user1", "user2"] {
            let got = String::from_utf8(newest(&there, user)).unwrap();
            assert!(
                got.starts_with("Return-Path: <a@else.test>\r\nReceived: from mail.example.test")
            );
            assert_eq!(got.matches("Return-Path").count(), 1);
            assert_eq!(got.matches("Received: ").count(), 2);
            assert!(
                got.contains(&format!(
                    "with {} id ",
                    if service == "lmtp" { "LMTPS" } else { "ESMTPS" }
                )),
                "{got}"
            );
            assert!(got.ends_with(MESSAGE), "{got}");
        }
        let entry = here.queue_list(None, 10).unwrap().remove(0);
        assert_eq!(entry.message.to_string(), id);
        assert_eq!(entry.recipients.len(), 1);
        assert!(matches!(entry.recipients[0].state, RecipientState::Failed { attempts: 1, .. }));
        assert_eq!(entry.recipients[0].answer, b"550 5.1.1 No such user here");
    }
}

/// A server that says what it is told to. Each connection gets the next script: (what a line begins with, what is
/// said); what nobody wrote down is answered 250.
struct Server {
    address: SocketAddr,
    seen: Receiver<String>,
}

type Script = Vec<(&'static str, &'static str)>;

impl Server {
    fn new(scripts: Vec<Script>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for (number, script) in scripts.into_iter().enumerate() {
                let Ok((stream, _)) = listener.accept() else { return };
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream, script, number, &sender));
            }
        });
        Server { address, seen }
    }

    /// Everything that was said until this line came, which is the last of it.
    #[track_caller]
    fn until(&self, end: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let line = self.seen.recv_timeout(Duration::from_secs(20));
            let line = line.unwrap_or_else(|_| panic!("no {end:?} behind {all:#?}"));
            let done = line.ends_with(end);
            all.push(line);
            if done {
                return all;
            }
        }
    }
}

/// Says `script`'s answers; each is used once, in order of the lines that fit. `!` closes without a word.
fn serve(mut stream: TcpStream, mut script: Script, number: usize, seen: &Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    if !say("220 far.test ready") {
        return;
    }
    let mut data = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            let _ = seen.send(format!("{number} gone"));
            return;
        }
        let line = line.trim_end();
        let _ = seen.send(format!("{number} {line}"));
        if data && line != "." {
            continue;
        }
        let place = script.iter().position(|(begin, _)| line.starts_with(begin));
        let answer = match place {
            Some(place) => script.remove(place).1,
            None if line.starts_with("DATA") => "354 go",
            None => "250 2.0.0 good",
        };
        if answer == "!" {
            return;
        }
        data = answer.starts_with("354");
        if !say(answer) || line == "QUIT" {
            return;
        }
    }
}

#[test]
fn a_recipient_that_is_refused_for_now_is_tried_again_and_the_others_are_not() {
    let far = Server::new(vec![vec![
        ("RCPT TO:<b@", "451 4.2.1 later"),
        ("RCPT TO:<c@", "550 5.1.1 never"),
    ]]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "elsewhere.test", &format!("smtp:{}", far.address), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let to = ["a@elsewhere.test", "b@elsewhere.test", "c@elsewhere.test"];
    let id = send(&here, "s@else.test", &to, MESSAGE);
    heard.wait(&[&id, "delivered a@elsewhere.test 1 250 2.0.0 good"]);
    heard.wait(&[&id, "deferred b@elsewhere.test 1 451 4.2.1 later"]);
    heard.wait(&[&id, "failed c@elsewhere.test 1 550 5.1.1 never"]);
    // The second attempt, on the same connection, names b alone.
    heard.wait(&[&id, "delivered b@elsewhere.test 2 250"]);
    let said = far.until(".");
    let said = [said, far.until(".")].concat();
    let rcpt: Vec<&String> = said.iter().filter(|line| line.contains("RCPT")).collect();
    assert_eq!(rcpt.len(), 4, "{said:#?}");
    assert!(rcpt[3].starts_with("0 RCPT TO:<b@"));
    let received = said.iter().position(|l| l.starts_with("0 Received:")).unwrap();
    assert!(!said.iter().any(|l| l.contains("Return-Path")), "it is not relayed");
    assert_eq!(said[received + 5..received + 9].len(), 4);
    // What failed stays to be seen.
    let entry = here.queue_list(None, 10).unwrap().remove(0);
    assert_eq!(entry.recipients.len(), 1);
    assert_eq!(entry.recipients[0].address, b"c@elsewhere.test");
    assert_eq!(entry.recipients[0].answer, b"550 5.1.1 never");
    assert_eq!((here.stats().delivered, here.stats().deferred, here.stats().failed), (2, 1, 1));
}

#[test]
fn several_messages_go_over_one_connection() {
    let far = Server::new(vec![Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    for number in 0..5 {
        let id = send(&here, "s@else.test", &[&format!("u{number}@elsewhere.test")], MESSAGE);
        heard.wait(&[&id, "delivered"]);
    }
    assert!(here.queue_list(None, 10).unwrap().is_empty());
    here.stop().unwrap();
    let said = far.until("QUIT");
    assert!(said.iter().all(|line| line.starts_with("0 ")), "{said:#?}");
    assert_eq!(said.iter().filter(|line| line.contains("EHLO")).count(), 1);
    assert_eq!(said.iter().filter(|line| line.contains("MAIL FROM:")).count(), 5);
}

#[test]
fn a_connection_lost_behind_the_dot_is_tried_again_with_the_same_message() {
    let far = Server::new(vec![vec![(".", "!")], Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@elsewhere.test 1 421 4.4.2"]);
    heard.wait(&[&id, "delivered u@elsewhere.test 2 250"]);
    assert!(here.queue_list(None, 10).unwrap().is_empty());
}

/// What waits unread on a connection that was kept was said before the message was there (RFC 5321 3.8).
#[test]
fn a_421_on_a_kept_connection_costs_the_next_message_no_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (closed, is_closed) = channel();
    std::thread::spawn(move || {
        for last in [false, true] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            stream.write_all(b"220 far.test\r\n").unwrap();
            let (mut line, mut data) = (String::new(), false);
            while reader.read_line(&mut line).unwrap_or(0) > 0 {
                let said = std::mem::take(&mut line);
                if data && said != ".\r\n" {
                    continue;
                }
                let end = std::mem::take(&mut data);
                data = said.starts_with("DATA");
                let answer = if data { "354 go\r\n" } else { "250 2.0.0 good\r\n" };
                let _ = stream.write_all(answer.as_bytes());
                if end && !last {
                    stream.write_all(b"421 4.4.2 Idle for too long\r\n").unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    closed.send(()).unwrap();
                }
            }
        }
    });
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{address}"), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "delivered u@elsewhere.test 1 250"]);
    is_closed.recv_timeout(Duration::from_secs(20)).unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test", "v@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "delivered u@elsewhere.test 1 250"]);
    heard.wait(&[&id, "delivered v@elsewhere.test 1 250"]);
    assert_eq!(here.stats().deferred, 0, "{:#?}", heard.about(&id));
}

/// The other side says so in its greeting or to MAIL on a new connection: that is an attempt.
#[test]
fn a_421_on_a_new_connection_is_an_attempt() {
    let far = Server::new(vec![vec![("MAIL", "421 4.3.2 not now")], Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@elsewhere.test 1 421 4.3.2 not now"]);
    heard.wait(&[&id, "delivered u@elsewhere.test 2 250"]);
}

/// RFC 5321 4.5.3.1.10: what a server grants to one connection says nothing about the message.
#[test]
fn a_452_on_a_kept_connection_is_answered_with_a_new_one_and_on_that_it_is_an_attempt() {
    let too_many = ("RCPT TO:<u2@", "452 4.5.3 Too many recipients: too many");
    let full = ("RCPT TO:<u4@", "452 4.2.2 mailbox full");
    let again = ("RCPT TO:<u5@", "452 4.5.3 Too many recipients");
    let far = Server::new(vec![vec![too_many], vec![full, again], vec![again], Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    for number in [1, 2, 3] {
        let id = send(&here, "s@else.test", &[&format!("u{number}@elsewhere.test")], MESSAGE);
        heard.wait(&[&id, &format!("delivered u{number}@elsewhere.test 1 250")]);
    }
    let id = send(&here, "s@else.test", &["u4@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u4@elsewhere.test 1 452 4.2.2"]);
    let id = send(&here, "s@else.test", &["u5@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u5@elsewhere.test 1 452 4.5.3"]);
    let said = far.until("2 QUIT");
    let of =
        |line: &str| said.iter().filter(|said| said.contains(line)).cloned().collect::<Vec<_>>();
    assert_eq!(
        of("RCPT TO:<u2@"),
        ["0 RCPT TO:<u2@elsewhere.test>", "1 RCPT TO:<u2@elsewhere.test>"]
    );
    assert_eq!(
        of("RCPT TO:<u5@")[..2],
        ["1 RCPT TO:<u5@elsewhere.test>", "2 RCPT TO:<u5@elsewhere.test>"]
    );
    assert!(of("0 QUIT").len() == 1 && of("1 QUIT").len() == 1, "{said:#?}");
}

/// RFC 7435: what cannot be done under TLS is done in clear, unless somebody has said otherwise.
#[test]
fn a_handshake_that_fails_is_followed_by_a_connection_in_clear_where_tls_is_opportunistic() {
    let hello = ("EHLO", "250-far.test\r\n250 STARTTLS");
    // The other side's answer to the first octets of the handshake is that it closes.
    let far = Server::new(vec![vec![hello, ("STARTTLS", "220 go")], vec![hello]]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "tls = \"opportunistic\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "delivered u@elsewhere.test 1 250"]);
    let said = far.until("1 .");
    assert_eq!(said.iter().filter(|line| line.contains("STARTTLS")).count(), 1, "{said:#?}");
    assert!(said.iter().filter(|line| line.contains("MAIL")).all(|line| line.starts_with("1 ")));
}

/// A refusal of the connection says nothing about a recipient (RFC 5321 3.1, 4.2.1): only replies to them are final.
#[test]
fn a_host_that_refuses_the_connection_for_good_fails_no_recipient() {
    let far = Server::new(vec![vec![("EHLO", "554 no"), ("HELO", "554 not you")], Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{}", far.address), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@elsewhere.test 1 554 not you"]);
    heard.wait(&[&id, "delivered u@elsewhere.test 2 250"]);
}

/// Only the entry that finds a host down has its attempt recorded; the time of the others ends all the same.
#[test]
fn what_waits_behind_a_host_that_is_down_expires_in_its_time() {
    let near = House::new();
    near.set_up(&["smtp"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    route(&near, "*", &format!("smtp:{nobody}"), "");
    let heard = Heard::default();
    Config::set_all(
        &OsFs::new(),
        &near.path(),
        &[
            ("delivery.first_retry_seconds", "3"),
            ("delivery.longest_retry_seconds", "3"),
            ("delivery.expire_seconds", "2"),
        ],
    )
    .unwrap();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    // There is no second attempt within its time.
    heard.wait(&[&id, "failed u@elsewhere.test 1 cannot connect to"]);
    let others: Vec<String> = (0..4)
        .map(|n| send(&here, "s@else.test", &[&format!("v{n}@elsewhere.test")], MESSAGE))
        .collect();
    // Two seconds later their time is over, a second before anybody could try again.
    for (n, id) in others.iter().enumerate() {
        heard.wait(&[id, &format!("failed v{n}@elsewhere.test 0 cannot connect to")]);
    }
}

/// BY with R (RFC 2852 4.1.4.2): the sender hears of it when the time is over, not when somebody tries again.
#[test]
fn a_message_that_is_wanted_back_fails_when_its_time_is_over() {
    let near = House::new();
    near.set_up(&["smtp"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    route(&near, "elsewhere.test", &format!("smtp:{nobody}"), "");
    Config::set_all(
        &OsFs::new(),
        &near.path(),
        &[
            ("delivery.first_retry_seconds", "3000"),
            ("delivery.longest_retry_seconds", "3000"),
            ("smtp.extensions", "[\"DELIVERBY\"]"),
        ],
    )
    .unwrap();
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let mut client = Client::connect(port(&here, "smtp"));
    client.reply();
    client.command("EHLO client.example.test", "250 ");
    client.command("MAIL FROM:<s@else.test> BY=2;R", "250 ");
    client.command("RCPT TO:<u@elsewhere.test>", "250 ");
    // Nothing leads there.
    client.command("RCPT TO:<u@nowhere.test>", "250 ");
    client.command("DATA", "354 ");
    client.send(MESSAGE.replace("\r\n.", "\r\n.."));
    let accepted = client.command(".", "250 2.0.0 Queued as ").remove(0);
    let id = accepted.rsplit(' ').next().unwrap();
    heard.wait(&[id, "deferred u@elsewhere.test 1 cannot connect to"]);
    heard.wait(&[id, "failed u@elsewhere.test 1 550 5.4.7"]);
    heard.wait(&[id, "failed u@nowhere.test 0 550 5.4.7"]);
}

#[test]
fn attempts_and_the_time_of_the_next_survive_a_restart() {
    let near = House::new();
    near.set_up(&["smtp"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    route(&near, "*", &format!("smtp:{nobody}"), "");
    Config::set_all(
        &OsFs::new(),
        &near.path(),
        &[("delivery.first_retry_seconds", "3000"), ("delivery.longest_retry_seconds", "3000")],
    )
    .unwrap();
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@elsewhere.test 1 cannot connect to"]);
    let before = here.queue_list(None, 10).unwrap();
    here.close().unwrap();
    drop(here);
    let again = Heard::default();
    let here = near.open(&[], again.options());
    here.start().unwrap();
    assert_eq!(here.queue_list(None, 10).unwrap(), before);
    let RecipientState::Deferred { attempts: 1, next } = before[0].recipients[0].state else {
        panic!("{before:?}")
    };
    assert!(next - before[0].envelope.received > 2_900_000);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(again.about(&id), Vec::<String>::new(), "not before its time");
}

#[test]
fn without_a_route_mail_waits() {
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "other.test", "smtp:127.0.0.1:9", "");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let id = send(&here, "s@else.test", &["u@elsewhere.test"], MESSAGE);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(heard.about(&id).len(), 1);
    assert_eq!(here.queue_list(None, 10).unwrap()[0].recipients[0].state, RecipientState::Remote);
}

#[test]
fn a_route_logs_in_and_goes_under_tls_when_it_must() {
    let (near, far) = (House::new(), House::new());
    far.set_up(&["submission"]);
    let heard_there = Heard::default();
    let there = far.open(&["user1"], heard_there.options());
    there.start().unwrap();
    near.set_up(&["smtp"]);
    let to = format!("smtp:localhost:{}", port(&there, "submission").port());
    route(
        &near,
        "*",
        &to,
        &format!("tls = \"opportunistic\"\nlogin = \"user1\"\npassword = \"{PASSWORD}\""),
    );
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    here.alias_add(&posthouse::directory::Alias {
        address: "out@example.test".to_owned(),
        targets: vec!["x@elsewhere.test".to_owned()],
    })
    .unwrap();
    let id = send(&here, "user1@example.test", &["out@example.test"], MESSAGE);
    heard.wait(&[&id, "delivered x@elsewhere.test 1 250 2.0.0 Queued as"]);
    heard_there.wait(&["accepted from user1@example.test local 0 remote 1"]);
    let there_id = there.queue_list(None, 1).unwrap()[0].message;
    let mut reader = there.message(there_id).unwrap();
    let mut head = vec![0; 600];
    let read = reader.read_at(0, &mut head).unwrap();
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    assert!(head.contains("(using TLS1.3 with cipher TLS_"), "{head}");
    assert!(head.contains("with ESMTPSA id "), "{head}");
}

#[test]
fn a_large_message_arrives_octet_by_octet() {
    let (near, far) = (House::new(), House::new());
    far.set_up(&["smtp"]);
    let there = far.open(&["user1"], Options::default());
    there.start().unwrap();
    near.set_up_for("near.test", &["smtp"]);
    route(&near, "*", &format!("smtp:{}", port(&there, "smtp")), "");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let body: String = (0..40_000).map(|n| format!(".line {n}\r\n..\r\n")).collect();
    let sent = format!("{MESSAGE}{body}");
    let id = here.submit("a@else.test", &["user1@example.test"], sent.as_bytes()).unwrap();
    heard.wait(&[&id.to_string(), "delivered user1@example.test 1 250"]);
    let got = newest(&there, "user1");
    assert!(got.ends_with(sent.as_bytes()));
}

#[test]
fn a_refusal_in_the_middle_of_the_data_is_the_answer_although_the_connection_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for answer in ["220 far.test", "250 far.test", "250 ok", "250 ok", "354 go"] {
            stream.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        // The message is larger than what lies between the two: it is still being written.
        stream.write_all(b"552 5.3.4 Too large for us\r\n").unwrap();
    });
    let near = House::new();
    near.set_up(&["smtp"]);
    route(&near, "*", &format!("smtp:{address}"), "tls = \"none\"");
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    let large = format!("{MESSAGE}{}", "x".repeat(998).add("\r\n").repeat(20_000));
    let id = here.submit("a@else.test", &["u@elsewhere.test"], large.as_bytes()).unwrap();
    heard.wait(&[&id.to_string(), "failed u@elsewhere.test 1 552 5.3.4 Too large for us"]);
}

#[test]
fn a_route_that_demands_tls_gives_mail_to_nobody_but_the_host_it_means() {
    let (near, far) = (House::new(), House::new());
    far.set_up(&["smtp"]);
    let there = far.open(&["user1"], Options::default());
    there.start().unwrap();
    for (authority, outcome) in [(&far, "delivered"), (&near, "deferred")] {
        let near = House::new();
        near.set_up_for("near.test", &["smtp"]);
        let authorities = match std::ptr::eq(authority, &far) {
            true => far.certificate(&there),
            // Its own: that has not signed the other's certificate.
            false => near.path().join("tls/certificate.pem"),
        };
        let to = format!("smtp:{}", port(&there, "smtp"));
        let more = format!("tls = \"required\"\nauthorities = '{}'", authorities.display());
        route(&near, "*", &to, &more);
        let heard = Heard::default();
        let here = near.open(&[], heard.options());
        assert!(authorities.exists(), "{authorities:?}");
        here.start().unwrap();
        let id = send(&here, "s@else.test", &["user1@example.test"], MESSAGE);
        let line = heard.wait(&[&id, &format!("{outcome} user1@example.test 1 ")]);
        assert_eq!(
            line.contains("454 4.7.5 TLS handshake failed"),
            outcome == "deferred",
            "{line}"
        );
    }
}

/// Hands in a message by submission that is held for two seconds.
fn hold(engine: &Engine, to: &str) -> String {
    let mut client = Client::connect(port(engine, "submission"));
    client.reply();
    client.command("EHLO client.example.test", "250 ");
    let mut plain = String::new();
    posthouse::codec::base64::encode(format!("\0user1\0{PASSWORD}").as_bytes(), &mut plain);
    client.command(&format!("AUTH PLAIN {plain}"), "235 ");
    client.command("MAIL FROM:<user1@example.test> HOLDFOR=2", "250 ");
    client.command(&format!("RCPT TO:<{to}>"), "250 ");
    client.command("DATA", "354 ");
    client.send("From: user1@example.test\r\n\r\nheld\r\n");
    let said = client.command(".", "250 2.0.0 Queued as ").remove(0);
    client.command("QUIT", "221 ");
    said.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_held_message_for_an_account_never_leaves_by_the_route_for_all() {
    let far = Server::new(vec![Vec::new(), Vec::new()]);
    let near = House::new();
    near.set_up(&["smtp", "submission"]);
    route(&near, "*", &format!("smtp:{}", far.address), "");
    for (key, value) in
        [("smtp.extensions", "[\"FUTURERELEASE\"]"), ("policy.plaintext_login", "always")]
    {
        Config::set(&OsFs::new(), &near.path(), key, value).unwrap();
    }
    let heard = Heard::default();
    let here = near.open(&["user1", "user2", "user3"], heard.options());
    here.start().unwrap();
    let kept = hold(&here, "user2@example.test");
    let gone = hold(&here, "user3@example.test");
    assert_eq!(here.queue_list(None, 10).unwrap().len(), 2, "{kept}");
    here.account_remove("user3@example.test").unwrap();
    heard.wait(&[&gone, "failed user3@example.test 1 550 5.1.1"]);
    let until = Instant::now() + Duration::from_secs(10);
    while here.mailbox_list("user2@example.test", MailboxId::INBOX, 0, 10).unwrap().is_empty() {
        assert!(Instant::now() < until, "the held message has not come");
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = here.queue_list(None, 10).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].recipients[0].answer, b"550 5.1.1 No such user here any more");
    assert!(far.seen.try_recv().is_err(), "nothing went to the other server");
}

#[test]
fn a_message_that_requires_tls_is_given_to_nobody_whose_certificate_is_not_verified() {
    let (near, far) = (House::new(), House::new());
    far.set_up(&["smtp"]);
    let extensions = "[\"REQUIRETLS\"]";
    Config::set(&OsFs::new(), &far.path(), "smtp.extensions", extensions).unwrap();
    let there = far.open(&["user1"], Options::default());
    there.start().unwrap();
    near.set_up_for("near.test", &["smtp"]);
    Config::set(&OsFs::new(), &near.path(), "smtp.extensions", extensions).unwrap();
    let to = format!("smtp:{}", port(&there, "smtp"));
    let authorities = far.certificate(&there);
    let verified = format!("tls = \"required\"\nauthorities = '{}'", authorities.display());
    route(&near, "*", &to, "tls = \"opportunistic\"");
    route(&near, "example.test", &to, &verified);
    let heard = Heard::default();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    for (to, outcome) in [
        ("user1@example.test", "delivered user1@example.test 1 250"),
        ("u@elsewhere.test", "failed u@elsewhere.test 1 550 5.7.10"),
    ] {
        let mut client = Client::connect(port(&here, "smtp"));
        client.reply();
        client.command("EHLO client.example.test", "250 ");
        client.command("STARTTLS", "220 ");
        let connector =
            posthouse::runtime::tls::Connector::trusting(&OsFs::new(), &near.certificate(&here));
        client.start_tls(&connector.unwrap(), "mail.example.test");
        client.command("EHLO client.example.test", "250 ");
        client.command("MAIL FROM:<s@else.test> REQUIRETLS", "250 ");
        client.command(&format!("RCPT TO:<{to}>"), "250 ");
        client.command("DATA", "354 ");
        client.send(MESSAGE.replace("\r\n.", "\r\n.."));
        client.command(".", "250 ");
        heard.wait(&[outcome]);
    }
}

/// An engine whose mail for all domains but `near.test` is for a host that is not there, and the port where it would be.
fn stranded(heard: &Heard, settings: &[(&str, &str)]) -> (House, Arc<Engine>, SocketAddr) {
    let near = House::new();
    near.set_up_for("near.test", &["smtp", "submission"]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    route(&near, "example.test", &format!("smtp:{nobody}"), "");
    route(&near, "sub.example.test", &format!("smtp:{nobody}"), "");
    let slow =
        [("delivery.first_retry_seconds", "3000"), ("delivery.longest_retry_seconds", "3000")];
    Config::set_all(&OsFs::new(), &near.path(), &slow).unwrap();
    Config::set_all(&OsFs::new(), &near.path(), settings).unwrap();
    let here = near.open(&[], heard.options());
    here.start().unwrap();
    (near, here, nobody)
}

fn told_by(engine: &Engine, service: &str) -> Client {
    let mut client = Client::connect(port(engine, service));
    client.reply();
    client.command("EHLO client.example.test", "250 ");
    client
}

const ETRN: (&str, &str) = ("smtp.extensions", "[\"ETRN\", \"FUTURERELEASE\"]");

#[test]
fn etrn_tries_at_once_what_waits_for_the_domain() {
    let heard = Heard::default();
    let (_near, here, nobody) = stranded(&heard, &[ETRN]);
    let id = send(&here, "s@else.test", &["u@example.test"], MESSAGE);
    let sub = send(&here, "s@else.test", &["v@sub.example.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@example.test 1 cannot connect to"]);
    heard.wait(&[&sub, "deferred v@sub.example.test 1 cannot connect to"]);
    let mut client = told_by(&here, "smtp");
    client.command("ETRN #queue", "458 4.4.4 ");
    client.command("ETRN nowhere.test", "458 4.4.4 ");
    // The host is still away: the attempt counts.
    client.command("ETRN Example.test", "253 2.0.0 1 pending");
    heard.wait(&[&id, "deferred u@example.test 2 cannot connect to"]);
    assert_eq!(heard.about(&sub).len(), 2, "another domain");
    // Now it is there, and was down a moment ago.
    let far = House::new();
    far.set_up(&["smtp"]);
    let config = far.path().join("posthouse.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("127.0.0.1:0", &nobody.to_string())).unwrap();
    let there = far.open(&["u"], Options::default());
    there.start().unwrap();
    client.command("ETRN @example.test", "253 2.0.0 2 pending");
    heard.wait(&[&id, "delivered u@example.test 3"]);
    heard.wait(&[&sub, "failed v@sub.example.test 2 550 "]);
    client.command("ETRN example.test", "251 2.0.0 ");
    assert!(!newest(&there, "u").is_empty());
}

#[test]
fn etrn_is_for_who_may_relay_and_only_where_it_is_offered() {
    let heard = Heard::default();
    let (near, here, _) = stranded(&heard, &[ETRN, ("policy.relay_networks", "[]")]);
    let mut client = told_by(&here, "smtp");
    client.command("ETRN example.test", "459 4.7.1 ");
    let user = posthouse::directory::NewAccount {
        addresses: vec!["user1@near.test".to_owned()],
        login: Some("user1".to_owned()),
        password: PASSWORD.to_owned(),
    };
    here.account_add(&user).unwrap();
    let mut plain = String::new();
    posthouse::codec::base64::encode(format!("\0user1\0{PASSWORD}").as_bytes(), &mut plain);
    client.command(&format!("AUTH PLAIN {plain}"), "235 ");
    client.command("ETRN example.test", "251 2.0.0 ");
    // What waits on its sender's wish is not hurried.
    let mut sender = told_by(&here, "submission");
    sender.command(&format!("AUTH PLAIN {plain}"), "235 ");
    sender.command("MAIL FROM:<user1@near.test> HOLDFOR=5000", "250 ");
    sender.command("RCPT TO:<u@example.test>", "250 ");
    sender.command("DATA", "354 ");
    sender.command("Subject: later\r\n\r\n.", "250 ");
    client.command("ETRN example.test", "251 2.0.0 ");
    assert_eq!(here.queue_run(None).unwrap(), 0);
    here.close().unwrap();
    Config::set(&OsFs::new(), &near.path(), "smtp.extensions", "[]").unwrap();
    let here = near.open(&[], Options::default());
    here.start().unwrap();
    told_by(&here, "smtp").command("ETRN example.test", "502 ");
}

#[test]
fn a_queue_run_is_the_same_by_the_engine() {
    let heard = Heard::default();
    let (_near, here, _) = stranded(&heard, &[]);
    let id = send(&here, "s@else.test", &["u@example.test"], MESSAGE);
    heard.wait(&[&id, "deferred u@example.test 1 "]);
    assert_eq!(here.queue_run(Some("example.test")).unwrap(), 1);
    heard.wait(&[&id, "deferred u@example.test 2 "]);
    assert_eq!(here.queue_run(None).unwrap(), 1);
    heard.wait(&[&id, "deferred u@example.test 3 "]);
    assert_eq!(here.queue_run(Some("else.test")).unwrap_err().kind(), posthouse::Kind::NotFound);
    let error = here.queue_run(Some("no domain")).unwrap_err();
    assert_eq!(error.kind(), posthouse::Kind::InvalidArgument);
    // Of an engine that does not serve: it is due when it does.
    here.stop().unwrap();
    assert_eq!(here.queue_run(None).unwrap(), 1);
    here.start().unwrap();
    heard.wait(&[&id, "deferred u@example.test 4 "]);
}
