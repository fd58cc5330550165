//! What a peer may send to hurt the SMTP server machine: bounded memory, one clear reply, and time that grows with the
//! octets alone. The machine holds no input, so what is measured is all there is.

#![allow(clippy::disallowed_methods, missing_docs)]

use std::sync::Arc;

use posthouse::session::{Next, Session, Step};
use posthouse::smtp::extension::Extensions;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

/// Most octets that a session holds, whatever it is sent.
const MEMORY: usize = 4096;

/// A session, and a caller that says yes to everything and keeps nothing but counts.
struct Peer {
    server: Server,
    input: Vec<u8>,
    codes: Vec<u16>,
    messages: u32,
    octets: u64,
    most: usize,
    closed: bool,
}

impl Peer {
    fn new(dialect: Dialect, limits: Limits) -> Peer {
        let extensions = Extensions { dsn: true, binarymime: true, ..Extensions::default() };
        let hostname = "mail.example.test".to_owned();
        let config = ServerConfig { hostname, dialect, limits, extensions };
        let server = Server::new(Arc::new(config), Offer::default(), Time(0));
        let (input, codes) = (Vec::new(), Vec::new());
        let mut peer =
            Peer { server, input, codes, messages: 0, octets: 0, most: 0, closed: false };
        let hello = if dialect == Dialect::Lmtp { "LHLO x\r\n" } else { "EHLO x\r\n" };
        peer.send(hello.as_bytes());
        peer.codes.clear();
        peer
    }

    fn smtp() -> Peer {
        Peer::new(Dialect::Smtp, Limits::default())
    }

    /// Sends octets and lets the session run until it waits.
    fn send(&mut self, bytes: &[u8]) {
        let kept = !self.input.is_empty();
        if kept {
            self.input.extend_from_slice(bytes);
        }
        let whole = std::mem::take(&mut self.input);
        let mut rest = if kept { whole.as_slice() } else { bytes };
        let mut out = Vec::new();
        loop {
            let Step { consumed, next } = self.server.step(Time(0), rest, &mut out);
            let mut pauses = true;
            let mut waits = false;
            match next {
                Next::Event(Event::DataChunk(text)) => {
                    self.octets += text.len() as u64;
                    pauses = false;
                }
                Next::Event(Event::DataEnd { .. }) => self.messages += 1,
                Next::Event(Event::Reset | Event::Quit) | Next::Blocked => pauses = false,
                Next::Event(_) => {}
                Next::NeedInput => waits = true,
                Next::Closed => {
                    self.closed = true;
                    waits = true;
                }
            }
            rest = &rest[consumed..];
            self.most = self.most.max(self.server.memory_bytes());
            assert!(self.server.memory_bytes() <= MEMORY, "{}", self.server.memory_bytes());
            for line in out.split_inclusive(|b| *b == b'\n') {
                if line.get(3) == Some(&b' ') {
                    let code = std::str::from_utf8(&line[..3]).expect("digits");
                    self.codes.push(code.parse().expect("a code"));
                }
            }
            out.clear();
            if waits {
                break;
            }
            if pauses {
                self.server.accept();
            }
        }
        self.input = rest.to_vec();
        // What a caller has to keep is a line at most.
        assert!(self.closed || self.input.len() <= 12288, "{} octets kept", self.input.len());
    }

    fn codes(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.codes)
    }
}

const ENVELOPE: &str = "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";

#[test]
fn a_command_line_of_64_kib_is_one_error_and_no_memory() {
    let mut peer = Peer::smtp();
    for piece in "x".repeat(65_536).as_bytes().chunks(1000) {
        peer.send(piece);
    }
    peer.send(b"\r\nNOOP\r\n");
    assert_eq!(peer.codes(), [500, 250]);
    // In one go, and as an argument of every command.
    for verb in
        ["MAIL FROM:<", "RCPT TO:<", "EHLO ", "VRFY ", "BDAT ", "AUTH PLAIN ", "ETRN ", "NOOP "]
    {
        let mut peer = Peer::smtp();
        peer.send(format!("{verb}{}\r\nNOOP\r\n", "x".repeat(65_536)).as_bytes());
        assert_eq!(peer.codes(), [500, 250], "{verb}");
    }
}

#[test]
fn a_header_of_100_mb_is_refused_at_its_end_and_costs_no_memory() {
    let mut peer = Peer::smtp();
    peer.send(format!("{ENVELOPE}DATA\r\n").as_bytes());
    assert_eq!(peer.codes(), [250, 250, 354]);
    // One line without an end, then the end of the data.
    let piece = vec![b'h'; 1 << 20];
    for _ in 0..100 {
        peer.send(&piece);
    }
    assert_eq!(peer.octets, Limits::default().message_bytes);
    peer.send(b"\r\n.\r\nNOOP\r\n");
    assert_eq!(peer.codes(), [552, 250]);
    assert_eq!(peer.messages, 0);
    assert!(peer.most < 2048, "{} octets", peer.most);
}

#[test]
fn a_million_recipients_cost_a_reply_each_and_no_memory() {
    for dialect in [Dialect::Smtp, Dialect::Lmtp] {
        let mut peer = Peer::new(dialect, Limits::default());
        peer.send(b"MAIL FROM:<a@x.test>\r\n");
        let group: String =
            (0..1000).map(|n| format!("RCPT TO:<user{n}@x.test> ORCPT=rfc822;u{n}\r\n")).collect();
        peer.codes();
        for n in 0..1000 {
            peer.send(group.as_bytes());
            let wanted = if n == 0 { 250 } else { 452 };
            assert!(peer.codes().iter().all(|code| *code == wanted), "group {n}");
        }
        peer.send(b"BDAT 1 LAST\r\nx");
        let replies = peer.codes();
        let expected = if dialect == Dialect::Lmtp { 1000 } else { 1 };
        assert_eq!(replies, vec![250; expected]);
        assert_eq!(peer.messages, 1);
    }
}

#[test]
fn recipients_of_a_million_domains_are_bounded_by_their_limit() {
    let limits = Limits { recipient_domains: 20, ..Limits::default() };
    let mut peer = Peer::new(Dialect::Smtp, limits);
    peer.send(b"MAIL FROM:<a@x.test>\r\n");
    peer.codes();
    for n in 0..1000 {
        let lines: String = (0..1000).map(|m| format!("RCPT TO:<u@d{n}-{m}.test>\r\n")).collect();
        peer.send(lines.as_bytes());
        let refused = peer.codes().iter().filter(|code| **code == 452).count();
        assert_eq!(refused, if n == 0 { 980 } else { 1000 });
    }
}

#[test]
fn chunks_at_the_top_of_64_bits_never_wrap() {
    for size in [
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999999999",
    ] {
        for last in ["", " LAST"] {
            for envelope in ["", ENVELOPE] {
                for before in ["", "BDAT 1\r\nx"] {
                    let mut peer = Peer::smtp();
                    peer.send(
                        format!("{envelope}{before}BDAT {size}{last}\r\nNOOP\r\n").as_bytes(),
                    );
                    let code = peer.codes().last().copied();
                    let name = format!("BDAT {size}{last} after {envelope:?} {before:?}");
                    assert!(matches!(code, Some(501..=503 | 552)), "{name}: {code:?}");
                    assert!(peer.closed, "{name}");
                    assert_eq!(peer.messages, 0, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_hundred_thousand_empty_chunks_are_as_many_replies() {
    let mut peer = Peer::smtp();
    peer.send(ENVELOPE.as_bytes());
    peer.codes();
    let chunks = "BDAT 0\r\n".repeat(1000);
    for _ in 0..100 {
        peer.send(chunks.as_bytes());
        assert_eq!(peer.codes(), vec![250; 1000]);
    }
    peer.send(b"BDAT 0 LAST\r\n");
    assert_eq!((peer.codes(), peer.messages, peer.octets), (vec![250], 1, 0));
}

#[test]
fn a_nul_in_every_position_of_a_chunk_drops_the_message_alone() {
    let body = b"Subject: x\r\n\r\nbody\r\n";
    for at in 0..=body.len() {
        let mut octets = body.to_vec();
        octets.insert(at, 0);
        for binary in [false, true] {
            let mut peer = Peer::smtp();
            let parameter = if binary { " BODY=BINARYMIME" } else { "" };
            let text = format!(
                "MAIL FROM:<a@x.test>{parameter}\r\nRCPT TO:<b@x.test>\r\nBDAT {} LAST\r\n",
                octets.len()
            );
            peer.send(text.as_bytes());
            peer.send(&octets);
            peer.send(b"NOOP\r\n");
            let end = if binary { 250 } else { 554 };
            assert_eq!(peer.codes(), [250, 250, end, 250], "NUL at {at}");
            assert_eq!(peer.messages, u32::from(binary));
        }
    }
}

#[test]
fn a_nul_in_every_position_of_every_command_refuses_the_line() {
    for line in [
        "EHLO client.example",
        "MAIL FROM:<a@x.test> RET=FULL",
        "RCPT TO:<b@x.test> NOTIFY=NEVER ORCPT=rfc822;b@x.test",
        "DATA",
        "BDAT 5 LAST",
        "VRFY b",
        "XCLIENT ADDR=127.0.0.1",
    ] {
        for at in 0..=line.len() {
            let mut octets = line.as_bytes().to_vec();
            octets.insert(at, 0);
            let mut peer = Peer::smtp();
            peer.send(&octets);
            peer.send(b"\r\nNOOP\r\n");
            assert_eq!(peer.codes(), [500, 250], "{line} with NUL at {at}");
        }
    }
}

#[test]
fn parameters_without_end_cost_no_memory() {
    let mut peer = Peer::new(Dialect::Smtp, Limits { errors: 1000, ..Limits::default() });
    for parameters in [
        " ENVID=x".repeat(400),
        " SIZE=1".repeat(500),
        format!(" ENVID={}", "+2B".repeat(1300)),
        format!(" X={}", "=".repeat(3900)),
        " ".repeat(3900),
        format!(" {}", "a-".repeat(1900)),
    ] {
        peer.send(format!("MAIL FROM:<a@x.test>{parameters}x\r\n").as_bytes());
        let codes = peer.codes();
        assert!(matches!(codes[..], [501 | 555]), "{codes:?}");
    }
    peer.send(b"MAIL FROM:<a@x.test> SMTPUTF8\r\n");
    peer.codes();
    for n in [30, 82, 83, 700, 1300] {
        let line = format!("RCPT TO:<b@x.test> ORCPT=utf-8;{}\r\n", "\u{fc}".repeat(n));
        peer.send(line.as_bytes());
        assert_eq!(peer.codes(), [if n <= 82 { 250 } else { 501 }], "{n}");
    }
}
