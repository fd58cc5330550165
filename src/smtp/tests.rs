//! The server machine where a transcript does not reach: limits at the limit and one beyond it, deadlines, memory, calls
//! out of their order, and random conversations cut in random places. Conversations are in `tests/transcripts/smtp`.

use std::sync::Arc;

use proptest::prelude::*;

use crate::sasl::Verdict;
use crate::session::{Next, Session, Step};
use crate::smtp::Reply;
use crate::smtp::extension::Extensions;
use crate::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use crate::time::Time;

const ENVELOPE: &str = "MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\n";

fn config(limits: Limits) -> Arc<ServerConfig> {
    let hostname = "mail.example.test".to_owned();
    let extensions = Extensions::default();
    Arc::new(ServerConfig { hostname, dialect: Dialect::Smtp, limits, extensions })
}

/// A session, and a caller that says yes to everything and notes what it sees.
struct Peer {
    server: Server,
    now: Time,
    input: Vec<u8>,
    out: Vec<u8>,
    body: Vec<u8>,
    resets: u32,
    messages: u32,
    closed: bool,
}

impl Peer {
    fn new(limits: Limits, offer: Offer) -> Peer {
        let server = Server::new(config(limits), offer, Time(0));
        let (input, out, body) = (Vec::new(), Vec::new(), Vec::new());
        let mut peer =
            Peer { server, now: Time(0), input, out, body, resets: 0, messages: 0, closed: false };
        peer.say("");
        peer.out.clear();
        peer
    }

    fn greeted(limits: Limits) -> Peer {
        let mut peer = Peer::new(limits, Offer::default());
        peer.say("EHLO client.example\r\n");
        peer
    }

    /// Sends text, lets the session run until it waits, and answers the replies' codes.
    fn say(&mut self, text: &str) -> Vec<u16> {
        self.send(text.as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> Vec<u16> {
        self.input.extend_from_slice(bytes);
        let mut said = Vec::new();
        loop {
            let Step { consumed, next } = self.server.step(self.now, &self.input, &mut self.out);
            let mut pauses = true;
            let stop = match next {
                Next::Event(event) => {
                    match event {
                        Event::DataChunk(bytes) => {
                            self.body.extend_from_slice(bytes);
                            pauses = false;
                        }
                        Event::DataEnd { size } => {
                            assert_eq!(size, self.body.len() as u64);
                            self.messages += 1;
                            self.body.clear();
                        }
                        Event::Reset => {
                            self.resets += 1;
                            self.body.clear();
                            pauses = false;
                        }
                        Event::Quit => pauses = false,
                        _ => {}
                    }
                    false
                }
                Next::NeedInput => true,
                Next::Blocked => {
                    said.append(&mut self.out);
                    pauses = false;
                    false
                }
                Next::Closed => {
                    self.closed = true;
                    true
                }
            };
            self.input.drain(..consumed);
            if stop {
                break;
            }
            if pauses {
                self.server.accept();
            }
        }
        said.append(&mut self.out);
        codes(&said)
    }
}

fn codes(out: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(out);
    text.lines()
        .filter(|l| l.as_bytes().get(3) == Some(&b' '))
        .map(|l| l[..3].parse().expect("a code"))
        .collect()
}

#[test]
fn command_line_at_its_limit_passes_and_one_more_does_not() {
    for limit in [512, 1000, 4096] {
        let mut peer = Peer::greeted(Limits { command_line: limit, ..Limits::default() });
        let line = |n: usize| format!("NOOP {}\r\n", "x".repeat(n - 7));
        assert_eq!(peer.say(&line(limit)), [250]);
        assert_eq!(peer.say(&line(limit + 1)), [500]);
        assert_eq!(peer.say("NOOP\r\n"), [250]);
    }
}

#[test]
fn message_at_its_limit_passes_and_one_more_does_not() {
    let limits = Limits { message_bytes: 5000, ..Limits::default() };
    for (octets, code) in [(4999, 250), (5000, 250), (5001, 552), (50_000, 552)] {
        let mut peer = Peer::greeted(limits.clone());
        let text = "x".repeat(octets - 2);
        peer.say(&format!("{ENVELOPE}DATA\r\n"));
        assert_eq!(peer.say(&format!("{text}\r\n.\r\n")), [code], "DATA of {octets}");
        peer.say(ENVELOPE);
        assert_eq!(
            peer.say(&format!("BDAT {octets} LAST\r\n{text}\r\n")),
            [code],
            "BDAT of {octets}"
        );
        assert_eq!(peer.resets, if code == 250 { 0 } else { 2 });
    }
}

#[test]
fn recipients_at_their_limit_pass_and_one_more_does_not() {
    let mut peer = Peer::greeted(Limits { recipients: 100, ..Limits::default() });
    peer.say("MAIL FROM:<>\r\n");
    for n in 0..100 {
        assert_eq!(peer.say(&format!("RCPT TO:<user{n}@x.test>\r\n")), [250], "recipient {n}");
    }
    assert_eq!(peer.say("RCPT TO:<one.more@x.test>\r\n"), [452]);
    assert_eq!(peer.say("DATA\r\n.\r\n"), [354, 250]);
}

#[test]
fn errors_at_their_budget_are_answered_and_one_more_is_421() {
    let mut peer = Peer::greeted(Limits { errors: 5, ..Limits::default() });
    for _ in 0..5 {
        assert_eq!(peer.say("NONSENSE\r\n"), [500]);
    }
    assert!(!peer.closed);
    assert_eq!(peer.say("NONSENSE\r\n"), [421]);
    assert!(peer.closed);
}

#[test]
fn recipients_without_end_cost_no_memory() {
    let mut peer = Peer::greeted(Limits { recipients: 10, ..Limits::default() });
    peer.say("MAIL FROM:<>\r\n");
    peer.say(&"RCPT TO:<user@x.test>\r\n".repeat(10));
    let before = peer.server.memory_bytes();
    for _ in 0..1000 {
        assert_eq!(peer.say(&"RCPT TO:<user@x.test>\r\n".repeat(10)), [452; 10]);
    }
    let after = peer.server.memory_bytes();
    assert!(after <= before + 128, "{before} octets before, {after} after");
}

#[test]
fn an_idle_session_is_small() {
    let mut peer = Peer::greeted(Limits::default());
    let idle = peer.server.memory_bytes();
    assert!(idle < 600, "{idle} octets after EHLO");
    peer.say(&format!("{ENVELOPE}DATA\r\nx\r\n.\r\n"));
    let used = peer.server.memory_bytes();
    assert!(used < 700, "{used} octets after a message");
    println!("{idle} octets after EHLO, {used} after a message");
}

#[test]
fn a_session_stays_small_whatever_it_is_sent() {
    let mut peer = Peer::new(
        Limits { errors: 1000, ..Limits::default() },
        Offer { auth: true, ..Offer::default() },
    );
    peer.say("EHLO client.example\r\n");
    let address = format!("<{}@{}dd>", "l".repeat(64), "d.".repeat(90));
    for line in [
        format!("EHLO {}\r\n", "x".repeat(255)),
        format!("NOOP {}\r\n", "x".repeat(100_000)),
        format!("MAIL FROM:{address} SMTPUTF8\r\n"),
        format!("RCPT TO:{address}\r\n"),
        format!("DATA\r\n{}\r\n.\r\n", "x".repeat(1_000_000)),
        format!("AUTH PLAIN {}\r\n", "A".repeat(20_000)),
        "AUTH PLAIN\r\n".to_owned(),
        format!("{}\r\n", "A".repeat(20_000)),
        format!("BDAT 100000 LAST\r\n{}", "x".repeat(100_000)),
    ] {
        peer.say(&line);
        let held = peer.server.memory_bytes();
        assert!(held < 1600, "{held} octets after {}", &line[..line.len().min(40)]);
    }
}

#[test]
fn the_callers_buffer_needs_no_more_than_the_longest_line() {
    let limits = Limits { errors: 1000, ..Limits::default() };
    let longest = limits.longest_line();
    let mut peer = Peer::new(limits, Offer { auth: true, ..Offer::default() });
    for text in ["EHLO x\r\n", "AUTH LOGIN\r\n", ENVELOPE, "DATA\r\n"] {
        let flood = "A".repeat(longest);
        for piece in flood.as_bytes().chunks(1000) {
            peer.send(piece);
        }
        assert!(peer.input.len() < longest, "{} octets wait", peer.input.len());
        peer.say("\r\n");
        peer.say(text);
    }
}

#[test]
fn deadlines_stand_only_while_the_peer_must_act() {
    let limits = Limits { command_millis: 1000, data_millis: 100, ..Limits::default() };
    let mut server = Server::new(config(limits), Offer::default(), Time(0));
    let mut out = Vec::new();
    assert!(matches!(server.step(Time(5), b"", &mut out).next, Next::Event(Event::Connect)));
    assert_eq!(server.deadline(), None, "a verdict is awaited");
    server.accept();
    assert!(matches!(server.step(Time(10), b"", &mut out).next, Next::NeedInput));
    assert_eq!(server.deadline(), Some(Time(1010)));
    // Half a line is no progress.
    assert!(matches!(server.step(Time(500), b"HELO", &mut out).next, Next::NeedInput));
    assert_eq!(server.deadline(), Some(Time(1010)));
    let step = server.step(Time(900), b"HELO x\r\n", &mut out);
    assert!(matches!(step.next, Next::Event(Event::Hello { .. })));
    assert_eq!(server.deadline(), None);
    server.accept();
    assert!(matches!(server.step(Time(2000), b"", &mut out).next, Next::NeedInput));
    assert_eq!(server.deadline(), Some(Time(3000)), "from when the answer stood");
    assert!(matches!(server.step(Time(2999), b"", &mut out).next, Next::NeedInput));
    assert!(matches!(server.step(Time(3000), b"", &mut out).next, Next::Closed));
    assert_eq!(codes(&out), [220, 250, 421]);
    assert_eq!(server.deadline(), None);
}

#[test]
fn input_that_came_late_is_still_taken() {
    let mut peer = Peer::greeted(Limits { command_millis: 1000, ..Limits::default() });
    peer.now = Time(5000);
    assert_eq!(peer.say("NOOP\r\n"), [250]);
    assert!(!peer.closed);
}

#[test]
fn output_above_its_mark_blocks_until_it_is_drained_or_the_time_is_over() {
    let limits = Limits { output_bytes: 100, command_millis: 1000, ..Limits::default() };
    let mut peer = Peer::greeted(limits);
    let input = b"NOOP\r\n".repeat(100);
    let (mut out, mut rest, mut replies) = (Vec::new(), input.as_slice(), 0);
    loop {
        let Step { consumed, next } = peer.server.step(Time(0), rest, &mut out);
        rest = &rest[consumed..];
        assert!(out.len() < 100 + 50, "{} octets stand", out.len());
        replies += codes(&out).len();
        match next {
            Next::Blocked => {
                let again = peer.server.step(Time(0), rest, &mut out);
                assert!(matches!(again, Step { consumed: 0, next: Next::Blocked }));
                out.clear();
            }
            Next::NeedInput => break,
            other => panic!("{other:?}"),
        }
        out.clear();
    }
    assert_eq!((replies, rest.len()), (100, 0));

    let mut full = vec![b'x'; 100];
    assert!(matches!(peer.server.step(Time(0), b"", &mut full).next, Next::Blocked));
    let deadline = peer.server.deadline().expect("a peer that does not read is not waited for");
    assert!(matches!(peer.server.step(deadline, b"", &mut full).next, Next::Closed));
}

#[test]
fn verdicts_without_a_question_change_nothing() {
    let mut peer = Peer::greeted(Limits::default());
    peer.server.accept();
    peer.server.reply(Reply::new(550, 1, 1, "no"));
    peer.server.auth(Verdict::Accept);
    peer.server.tls_started(Offer { tls: true, ..Offer::default() }, b"x");
    assert!(!peer.server.authenticated());
    assert_eq!(peer.server.hello_name(), b"client.example");
    assert_eq!(peer.say("MAIL FROM:<>\r\n"), [250]);
    peer.server.accept();
    assert_eq!(peer.say("RCPT TO:<a@x.test>\r\nDATA\r\n.\r\n"), [250, 354, 250]);
}

#[test]
fn tls_can_only_begin_after_tls_started() {
    let mut server = Server::new(
        config(Limits::default()),
        Offer { starttls: true, ..Offer::default() },
        Time(0),
    );
    let mut out = Vec::new();
    let mut input: &[u8] = b"EHLO x\r\nSTARTTLS\r\n";
    loop {
        let Step { consumed, next } = server.step(Time(0), input, &mut out);
        let tls = matches!(next, Next::Event(Event::StartTls));
        input = &input[consumed..];
        if tls {
            break;
        }
        server.accept();
    }
    assert_eq!(codes(&out).last(), Some(&220), "the 220 stands in the output");
    server.accept();
    server.reply(Reply::new(454, 7, 0, "no"));
    assert!(matches!(
        server.step(Time(0), b"\x16\x03\x01", &mut out),
        Step { consumed: 0, next: Next::NeedInput }
    ));
    server.tls_started(Offer { tls: true, ..Offer::default() }, b"");
    assert_eq!(server.hello_name(), b"");
    assert!(matches!(server.step(Time(0), b"", &mut out).next, Next::NeedInput));
    assert_eq!(codes(&out), [220, 250, 220]);
}

#[test]
fn a_message_whose_end_was_reported_gets_its_verdict_before_421() {
    let mut peer = Peer::greeted(Limits::default());
    peer.say(&format!("{ENVELOPE}DATA\r\n"));
    let mut input: &[u8] = b"x\r\n.\r\n";
    let mut out = Vec::new();
    loop {
        let Step { consumed, next } = peer.server.step(Time(0), input, &mut out);
        let end = matches!(next, Next::Event(Event::DataEnd { .. }));
        input = &input[consumed..];
        if end {
            break;
        }
    }
    peer.server.shutdown();
    assert!(matches!(peer.server.step(Time(0), b"", &mut out).next, Next::NeedInput));
    assert!(out.is_empty(), "nothing before the verdict");
    peer.server.accept();
    assert!(matches!(peer.server.step(Time(0), b"", &mut out).next, Next::Closed));
    assert_eq!(codes(&out), [250, 421]);
}

#[test]
fn the_end_of_the_connection_waits_for_a_verdict_too() {
    let mut peer = Peer::greeted(Limits::default());
    peer.say(&format!("{ENVELOPE}DATA\r\nx\r\n"));
    let mut out = Vec::new();
    peer.server.eof(Time(0));
    assert!(matches!(
        peer.server.step(Time(0), b".\r\n", &mut out).next,
        Next::Event(Event::DataEnd { .. })
    ));
    assert!(matches!(peer.server.step(Time(0), b"", &mut out).next, Next::NeedInput));
    peer.server.accept();
    assert!(matches!(peer.server.step(Time(0), b"", &mut out).next, Next::Closed));
    assert_eq!(codes(&out), [250]);
}

#[test]
fn swallowing_a_refused_message_ends_some_time() {
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    let bound = usize::try_from(limits.swallowed_bytes()).expect("fits");
    let line = format!("{}\r\n", "x".repeat(998));
    let mut peer = Peer::greeted(limits.clone());
    peer.say(&format!("{ENVELOPE}DATA\r\n"));
    peer.say(&line);
    for _ in 0..bound / line.len() {
        assert_eq!(peer.say(&line), [0; 0]);
    }
    assert_eq!(peer.say(&format!("{line}{line}")), [552]);
    assert!(peer.closed);

    let mut peer = Peer::greeted(limits.clone());
    peer.say(&format!("{ENVELOPE}DATA\r\n"));
    assert_eq!(peer.say(&"\n".repeat(bound)), [0; 0]);
    assert_eq!(peer.say("\n"), [554], "faults count as octets too");
    assert!(peer.closed);

    let mut peer = Peer::greeted(limits.clone());
    assert_eq!(peer.say(&format!("BDAT {bound} LAST\r\n")), [0; 0], "eaten");
    let mut peer = Peer::greeted(limits);
    assert_eq!(peer.say(&format!("BDAT {} LAST\r\n", bound + 1)), [503]);
    assert!(peer.closed);
}

#[test]
fn the_with_keyword_follows_what_was_spoken() {
    let keyword = |hello: &str, parameters: &str, tls: bool, auth: bool| {
        let mut peer = Peer::new(Limits::default(), Offer { tls, starttls: false, auth: true });
        peer.say(&format!("{hello} client.example\r\n"));
        if auth {
            assert_eq!(peer.say("AUTH PLAIN AHVzZXIAc2VjcmV0\r\n"), [235]);
        }
        peer.say(&format!("MAIL FROM:<a@x.test>{parameters}\r\n"));
        peer.server.with_keyword()
    };
    for (tls, auth, esmtp, utf8) in [
        (false, false, "ESMTP", "UTF8SMTP"),
        (true, false, "ESMTPS", "UTF8SMTPS"),
        (false, true, "ESMTPA", "UTF8SMTPA"),
        (true, true, "ESMTPSA", "UTF8SMTPSA"),
    ] {
        assert_eq!(keyword("EHLO", "", tls, auth), esmtp);
        assert_eq!(keyword("EHLO", " SMTPUTF8", tls, auth), utf8);
    }
    assert_eq!(keyword("HELO", "", false, false), "SMTP");
}

#[test]
fn a_nul_in_every_position_of_a_conversation_never_gets_through() {
    let whole = format!("EHLO x\r\n{ENVELOPE}DATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n");
    // An end of data that the NUL breaks is followed by another, behind everything.
    let whole = format!("{whole}\r\n.\r\n");
    for at in 0..whole.len() - 5 {
        let mut bytes = whole.clone().into_bytes();
        bytes.insert(at, 0);
        let mut peer = Peer::new(Limits { errors: 1000, ..Limits::default() }, Offer::default());
        let codes = peer.send(&bytes);
        assert!(codes.iter().any(|c| *c >= 500), "NUL at {at}: {codes:?}");
        assert!(!peer.server.hello_name().contains(&0));
        let body =
            whole.find("Subject").expect("a body")..=whole.find(".\r\nQUIT").expect("an end");
        if body.contains(&at) {
            assert_eq!(peer.messages, 0, "NUL at {at}: {codes:?}");
        }
    }
}

/// Pieces that conversations are made of, good and bad.
const PIECES: &[&str] = &[
    "EHLO x\r\n",
    "HELO x\r\n",
    "MAIL FROM:<a@x.test>\r\n",
    "MAIL FROM:<> SIZE=5 SMTPUTF8\r\n",
    "RCPT TO:<b@x.test>\r\n",
    "RCPT TO:<no@x.test>\r\n",
    "DATA\r\n",
    "BDAT 3\r\n",
    "BDAT 7 LAST\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 99 LAST\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "NOOP xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
    "XYZZY\r\n",
    "AUTH LOGIN\r\n",
    "AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
    "dXNlcg==\r\n",
    "*\r\n",
    "STARTTLS\r\n",
    ".\r\n",
    "..\r\n",
    ".",
    "\r\n",
    "\r",
    "\n",
    "\0",
    "text",
    "text\r\n",
    "\r\n.\r\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\u{fc}",
    "QUIT\r\n",
];

/// All that a session did with a stream that came in pieces: output, events and data in their order.
#[derive(Default)]
struct Story {
    lines: Vec<String>,
    data: Vec<u8>,
}

impl Story {
    fn note(&mut self, line: String) {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.lines.push(format!("data {}", data.escape_ascii()));
        }
        self.lines.push(line);
    }
}

fn story(stream: &[u8], mut cut: impl FnMut() -> usize) -> Vec<String> {
    let limits = Limits {
        command_line: 64,
        message_bytes: 60,
        errors: 12,
        recipients: 2,
        output_bytes: 200,
        ..Limits::default()
    };
    let offer = Offer { tls: false, starttls: true, auth: true };
    let mut server = Server::new(config(limits), offer, Time(0));
    let (mut story, mut input, mut out) = (Story::default(), Vec::new(), Vec::new());
    let (mut later, mut open) = (stream, false);
    loop {
        let Step { consumed, next } = server.step(Time(0), &input, &mut out);
        assert!(out.is_empty() || out.ends_with(b"\r\n"));
        for line in String::from_utf8_lossy(&out).lines() {
            story.note(line.to_owned());
        }
        out.clear();
        let mut verdict = Some(Reply::new(250, 0, 0, "yes"));
        let mut tls = false;
        let mut wants = false;
        match next {
            Next::Event(Event::DataChunk(bytes)) => {
                assert!(open && !bytes.is_empty() && !bytes.contains(&0));
                story.data.extend_from_slice(bytes);
                verdict = None;
            }
            Next::Event(event) => {
                let line = format!("{event:?}");
                match event {
                    Event::Rcpt { to, .. } if to.as_bytes().starts_with(b"no") => {
                        verdict = Some(Reply::new(550, 1, 1, "no"));
                    }
                    Event::Mail { .. } => assert!(!std::mem::replace(&mut open, true), "nested"),
                    Event::DataStart => verdict = Some(Reply::bare(354, "go")),
                    Event::StartTls => tls = true,
                    Event::Reset => {
                        assert!(std::mem::replace(&mut open, false), "a Reset without MAIL");
                        verdict = None;
                    }
                    Event::DataEnd { .. } => {
                        assert!(std::mem::replace(&mut open, false), "an end without MAIL");
                    }
                    Event::Quit => verdict = None,
                    _ => {}
                }
                story.note(line);
            }
            Next::Blocked => verdict = None,
            Next::NeedInput => {
                verdict = None;
                wants = true;
            }
            Next::Closed => {
                assert!(!open, "a transaction without an end");
                story.note("closed".to_owned());
                return story.lines;
            }
        }
        input.drain(..consumed);
        if tls {
            server.tls_started(Offer { tls: true, starttls: false, auth: true }, b"");
        } else if let Some(reply) = verdict {
            server.reply(reply);
        }
        if wants && later.is_empty() {
            server.eof(Time(0));
        } else if wants {
            let (now, rest) = later.split_at(cut().clamp(1, later.len()));
            input.extend_from_slice(now);
            later = rest;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_conversation_goes_the_same_way_however_it_is_cut(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..30),
        cuts in prop::collection::vec(1..20usize, 1..10),
    ) {
        let stream = format!("EHLO x\r\n{}", pieces.concat());
        let whole = story(stream.as_bytes(), || usize::MAX);
        let mut next = cuts.iter().copied().cycle();
        prop_assert_eq!(&whole, &story(stream.as_bytes(), || 1));
        prop_assert_eq!(&whole, &story(stream.as_bytes(), || next.next().unwrap_or(1)));
    }

    #[test]
    fn any_octets_at_all_go_the_same_way_however_they_are_cut(
        stream in prop::collection::vec(prop::sample::select(b"\r\n.\0aA <>@:=MAILRCPTDBFOHEQU0129\xff".as_slice()), 0..300),
    ) {
        prop_assert_eq!(story(&stream, || usize::MAX), story(&stream, || 1));
    }

    #[test]
    fn any_body_comes_through_data_as_it_was(
        lines in prop::collection::vec("[.a-zA-Z \u{80}-\u{ff}]{0,200}", 0..30),
        size in 1..2000usize,
    ) {
        let mut body = String::new();
        let mut wire = String::new();
        for line in &lines {
            body += &format!("{line}\r\n");
            wire += &format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" });
        }
        wire += ".\r\n";
        let mut peer = Peer::greeted(Limits::default());
        peer.say(&format!("{ENVELOPE}DATA\r\n"));
        let (text, end) = wire.as_bytes().split_at(wire.len() - 3);
        for piece in text.chunks(size) {
            peer.send(piece);
        }
        // A dot or a CR at the end may wait for what follows it; a whole line end does not.
        prop_assert_eq!(&peer.body, body.as_bytes());
        prop_assert_eq!(peer.send(end), vec![250]);
    }
}
