//! Connections on sockets of the host, which here are none: octets go to and fro in memory, TLS is the engine's.

#![allow(clippy::disallowed_methods, missing_docs)]

#[path = "support/house.rs"]
#[allow(dead_code)] // other tests use the rest
mod house;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use house::{House, PASSWORD};
use posthouse::codec::base64;
use posthouse::engine::{Doing, Engine, HostedConnection, HostedOptions, HostedTls, Options};
use posthouse::instance::config::Protocol;
use posthouse::runtime::tls::{Connector, Tls};
use posthouse::store::MailboxId;
use posthouse::vfs::os::OsFs;

/// A host's end of a connection, and its peer.
struct Talk {
    connection: HostedConnection,
    ready: Receiver<()>,
    /// Octets that the host reads at once.
    piece: usize,
    /// What was read and not consumed.
    input: Vec<u8>,
    tls: Option<Tls>,
    closed: bool,
}

impl Talk {
    fn new(engine: &Arc<Engine>, protocol: Protocol, tls: HostedTls, piece: usize) -> Talk {
        let (sender, ready): (Sender<()>, _) = channel();
        let ready_now = Arc::new(move || sender.send(()).unwrap_or_default());
        let peer = "192.0.2.9:4711".parse().unwrap();
        let options = HostedOptions { protocol, peer, tls, ready: ready_now };
        let connection = engine.connect(options).unwrap();
        Talk { connection, ready, piece, input: Vec::new(), tls: None, closed: false }
    }

    /// Octets of the peer, as they are on the wire; what the engine writes, as it is on the wire.
    fn wire(&mut self, octets: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut pieces = octets.chunks(self.piece);
        loop {
            let (used, doing) = self.connection.step(&self.input, &mut out).unwrap();
            self.input.drain(..used);
            match doing {
                Doing::Waiting => self.ready.recv_timeout(Duration::from_secs(20)).unwrap(),
                Doing::Blocked => {}
                Doing::NeedInput => match pieces.next() {
                    Some(piece) => self.input.extend_from_slice(piece),
                    None => return out,
                },
                Doing::Closed => {
                    self.closed = true;
                    return out;
                }
                Doing::StartTls => panic!("TLS is the engine's"),
            }
        }
    }

    /// What the peer says and hears, under TLS when it is on.
    fn say(&mut self, text: &str) -> String {
        let Some(mut tls) = self.tls.take() else {
            return String::from_utf8(self.wire(text.as_bytes())).unwrap();
        };
        let (mut sealed, mut heard) = (Vec::new(), Vec::new());
        tls.put_plaintext(text.as_bytes(), &mut sealed).unwrap();
        let answer = self.wire(&sealed);
        tls.put_ciphertext(&answer, &mut heard).unwrap();
        self.tls = Some(tls);
        String::from_utf8(heard).unwrap()
    }

    /// The peer makes a handshake; what it hears behind it.
    fn shake_hands(&mut self, connector: &Connector) -> String {
        let mut tls = connector.connect("mail.example.test").unwrap();
        let mut heard = Vec::new();
        for _ in 0..10 {
            let mut flight = Vec::new();
            tls.take_ciphertext(&mut flight).unwrap();
            let done = !tls.is_handshaking();
            let answer = self.wire(&flight);
            tls.put_ciphertext(&answer, &mut heard).unwrap();
            if done {
                self.tls = Some(tls);
                return String::from_utf8(heard).unwrap();
            }
        }
        panic!("the handshake does not end");
    }
}

fn opened(house: &House) -> (Arc<Engine>, Connector) {
    house.set_up(&["smtp"]);
    let engine = house.open(&["user1"], Options::default());
    let connector = Connector::trusting(&OsFs::new(), &house.certificate(&engine)).unwrap();
    (engine, connector)
}

fn plain() -> String {
    let mut plain = String::new();
    base64::encode(format!("\0user1\0{PASSWORD}").as_bytes(), &mut plain);
    plain
}

#[test]
fn mail_comes_in_under_tls_of_the_engine_however_the_octets_are_cut() {
    let house = House::new();
    let (engine, connector) = opened(&house);
    for (number, piece) in [1, 7, 1000, 100_000].into_iter().enumerate() {
        for implicit in [false, true] {
            let tls = if implicit { HostedTls::EngineImplicit } else { HostedTls::Engine };
            let mut talk = Talk::new(&engine, Protocol::Submission, tls, piece);
            if implicit {
                assert!(talk.shake_hands(&connector).starts_with("220 "));
            } else {
                assert!(talk.say("").starts_with("220 "));
                assert!(talk.say("EHLO a.test\r\n").contains("STARTTLS"));
                assert!(talk.say("STARTTLS\r\n").starts_with("220 "));
                assert_eq!(talk.shake_hands(&connector), "");
            }
            let offered = talk.say("EHLO a.test\r\n");
            assert!(!offered.contains("STARTTLS") && offered.contains("-PLUS"), "{offered}");
            assert!(talk.say(&format!("AUTH PLAIN {}\r\n", plain())).starts_with("235 "));
            let envelope =
                "MAIL FROM:<user1@example.test>\r\nRCPT TO:<user1@example.test>\r\nDATA\r\n";
            let said = talk.say(envelope);
            assert!(
                said.contains(
                    "
354 "
                ),
                "{said}"
            );
            let said = talk.say("From: user1@example.test\r\n\r\ntext\r\n.\r\nQUIT\r\n");
            assert!(said.starts_with("250 2.0.0 ") && said.contains("\r\n221 "), "{said}");
            assert!(talk.closed && talk.connection.timeout_millis().is_none());
            let user = "user1@example.test";
            let rows = engine.mailbox_list(user, MailboxId::INBOX, 0, 100).unwrap();
            assert_eq!(rows.len(), 2 * number + 1 + usize::from(implicit));
        }
    }
    assert_eq!(engine.stats().connections, 0);
    assert_eq!(engine.stats().connections_total, 8);
}

#[test]
fn plaintext_behind_starttls_ends_the_connection_and_so_does_what_is_no_tls() {
    let house = House::new();
    let (engine, _) = opened(&house);
    let mut talk = Talk::new(&engine, Protocol::Smtp, HostedTls::Engine, 1000);
    talk.say("EHLO a.test\r\n");
    let said = talk.say("STARTTLS\r\nMAIL FROM:<a@b.test>\r\n");
    assert!(said.starts_with("220 ") && said.lines().count() == 1 && talk.closed, "{said}");
    let mut talk = Talk::new(&engine, Protocol::Smtp, HostedTls::EngineImplicit, 3);
    let answer = talk.wire(b"EHLO in clear\r\n");
    assert!(talk.closed && !answer.starts_with(b"220"));
}

#[test]
fn a_flood_of_commands_under_tls_is_answered_whole() {
    let house = House::new();
    let (engine, connector) = opened(&house);
    let mut talk = Talk::new(&engine, Protocol::Smtp, HostedTls::EngineImplicit, 1 << 20);
    talk.shake_hands(&connector);
    talk.say("EHLO a.test\r\n");
    // Pipelined far beyond what the output holds.
    let said = talk.say(&"NOOP\r\n".repeat(50_000));
    assert_eq!(said.matches("250 2.0.0 ").count(), 50_000, "{}", said.len());
    assert!(!talk.closed);
}

#[test]
fn a_closed_engine_and_a_shutdown_are_told() {
    let house = House::new();
    let (engine, _) = opened(&house);
    let mut talk = Talk::new(&engine, Protocol::Pop3, HostedTls::None, 10);
    assert!(talk.say("").starts_with("+OK "));
    assert!(talk.connection.timeout_millis().is_some_and(|millis| millis > 1000));
    let mut other = Talk::new(&engine, Protocol::Smtp, HostedTls::None, 10);
    other.say("");
    other.connection.shutdown();
    assert!(other.say("").starts_with("421 ") && other.closed);
    engine.close().unwrap();
    let error = talk.connection.step(b"CAPA\r\n", &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), posthouse::Kind::Stopped);
}
