//! The SMTP server machine: the first octet chooses the set-up, the second the verdicts, the rest is what the peer sends.
//!
//! Every stream is played whole, octet by octet and in pieces; each must give the same story. Besides: output is whole
//! lines with a code, a message holds no bare CR, bare LF or NUL and has the octets it is said to have, each
//! transaction ends exactly once, memory stays bounded.

use std::sync::Arc;

use posthouse::sasl::{Bindings, Mechanism, Mechanisms, Question, ScramKeys, Verdict};
use posthouse::session::{Next, Session, Step};
use posthouse::smtp::Reply;
use posthouse::smtp::extension::{Extensions, FutureRelease, Lookup};
use posthouse::smtp::parameter::Body;
use posthouse::smtp::server::{Dialect, Event, Limits, Offer, Server, ServerConfig};
use posthouse::time::Time;

pub fn run(data: &[u8]) {
    let [setup, verdicts, stream @ ..] = data else { return };
    let whole = play(*setup, *verdicts, stream, |_| usize::MAX);
    same(&whole, &play(*setup, *verdicts, stream, |_| 1));
    let mut state = u32::from(*setup) << 8 | u32::from(*verdicts) | 1;
    let pieces = play(*setup, *verdicts, stream, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as usize % 23 + 1
    });
    same(&whole, &pieces);
}

fn same(whole: &[u8], cut: &[u8]) {
    assert!(whole == cut, "--- whole:\n{}\n--- cut:\n{}", show(whole), show(cut));
}

fn show(story: &[u8]) -> String {
    story.escape_ascii().to_string().replace("\\n", "\\n\n")
}

/// Everything, or nearly nothing.
fn extensions(setup: u8) -> Extensions {
    let on = setup & 64 == 0;
    Extensions {
        chunking: setup & 2 == 0,
        binarymime: on,
        dsn: on,
        requiretls: on,
        deliver_by: on.then_some(10),
        future_release: on.then_some(FutureRelease { max_interval: 100, max_datetime: 1 << 32 }),
        mt_priority: on,
        etrn: on,
        limits: on,
        vrfy: if on { Lookup::Asked } else { Lookup::Untold },
        expn: if on { Lookup::Asked } else { Lookup::Withheld },
        xclient: on,
        bare_lf: setup & 128 != 0,
        ..Extensions::default()
    }
}

fn play(setup: u8, verdicts: u8, stream: &[u8], mut cut: impl FnMut(usize) -> usize) -> Vec<u8> {
    let limits = Limits {
        command_line: 80,
        auth_line: 120,
        message_bytes: 200,
        recipients: 3,
        recipient_domains: u32::from(setup & 2),
        errors: 15,
        transactions: 4,
        output_bytes: 300,
        ..Limits::default()
    };
    // The bits above those that old seeds knew come from the verdicts.
    let dialect = match (setup & 1 == 0, verdicts & 0x30 == 0x30) {
        (_, true) => Dialect::Lmtp,
        (true, _) => Dialect::Smtp,
        (false, _) => Dialect::Submission,
    };
    let config = ServerConfig {
        hostname: "mail.example.test".to_owned(),
        dialect,
        limits,
        extensions: extensions(setup),
    };
    let tls = setup & 4 != 0;
    let offer = Offer { tls, starttls: !tls && setup & 8 != 0, auth: setup & 16 == 0 };
    let mut server = Server::new(Arc::new(config), offer, Time(0));
    if verdicts & 0x40 != 0 {
        server.trust_peer();
    }
    let lmtp = dialect == Dialect::Lmtp;
    let mut binary = false;
    let all = Mechanism::ALL.iter().fold(Mechanisms::NONE, |set, mechanism| set.with(*mechanism));
    let bindings = Bindings { exporter: vec![7; 32], end_point: Vec::new() };
    server.set_mechanisms(all, Some(bindings));
    let (mut story, mut body) = (Vec::new(), Vec::new());
    let (mut input, mut out, mut later) = (Vec::new(), Vec::new(), stream);
    let (mut open, mut count, mut idle) = (false, 0u8, 0);
    loop {
        let Step { consumed, next } = server.step(Time(0), &input, &mut out);
        assert!(consumed <= input.len());
        idle = if consumed == 0 { idle + 1 } else { 0 };
        assert!(idle < 20, "the machine goes in circles");
        check(&out);
        story.append(&mut out);
        let (mut answer, mut recipients) = (0, 0);
        let (mut asks, mut auth, mut starttls, mut wants) = (true, None, false, false);
        match next {
            Next::Event(event) => {
                if !matches!(event, Event::DataChunk(_)) {
                    story.extend_from_slice(format!("{event:?}\n").as_bytes());
                    count = count.wrapping_add(1);
                }
                answer = verdicts.rotate_left(u32::from(count)) & 7;
                match event {
                    Event::DataChunk(bytes) => {
                        assert!(open && !bytes.is_empty());
                        story.extend_from_slice(bytes);
                        body.extend_from_slice(bytes);
                        asks = false;
                    }
                    Event::DataEnd { size } => {
                        assert_eq!(size, body.len() as u64);
                        assert!(size <= 200);
                        let rest = String::from_utf8_lossy(&body).replace("\r\n", "");
                        assert!(binary || !rest.contains(['\r', '\n', '\0']));
                        recipients = server.recipients_unanswered();
                        assert_eq!(recipients > 0, lmtp);
                        assert!(std::mem::replace(&mut open, false));
                        body.clear();
                    }
                    Event::Reset => {
                        assert!(std::mem::replace(&mut open, false));
                        body.clear();
                        asks = false;
                    }
                    Event::Mail { parameters, .. } => {
                        assert!(!open);
                        binary = parameters.body == Body::Binary;
                        open = !matches!(answer, 6 | 7);
                    }
                    Event::Rcpt { .. } | Event::DataStart => assert!(open),
                    Event::StartTls => starttls = true,
                    Event::Auth(Question::Nonce { .. }) => {
                        auth = Some(Verdict::Nonce([5; 18]));
                    }
                    Event::Auth(Question::Scram { .. }) => {
                        let keys = ScramKeys::decoy(&[0; 32], "", 1);
                        auth = Some(Verdict::Scram(Box::new(keys), [5; 18]));
                    }
                    Event::Auth(_) => {
                        auth = Some(match answer {
                            6 => Verdict::Unavailable,
                            7 => Verdict::Refuse,
                            _ => Verdict::Accept,
                        });
                    }
                    Event::Quit => asks = false,
                    Event::Connect
                    | Event::Hello { .. }
                    | Event::Verify { .. }
                    | Event::Expand { .. }
                    | Event::Etrn { .. }
                    | Event::Forwarded(_) => {}
                }
            }
            Next::NeedInput => {
                asks = false;
                wants = true;
            }
            Next::Blocked => asks = false,
            Next::Closed => {
                assert!(!open, "a transaction without an end");
                return story;
            }
        }
        input.drain(..consumed);
        assert!(server.memory_bytes() < 2000);
        if starttls {
            let unread = if setup & 32 == 0 { b"".as_slice() } else { b"injected" };
            server.tls_started(Offer { tls: true, starttls: false, auth: offer.auth }, unread);
        } else if let Some(verdict) = auth {
            server.auth(verdict);
        } else if asks {
            // Some recipients one by one, the rest at once.
            for n in 0..recipients.saturating_sub(u32::from(answer & 1)) {
                let code = if n % 2 == 0 { 250 } else { 550 };
                server.reply_recipient(Reply::new(code, 0, 0, "by itself"));
            }
            match answer {
                6 => server.reply(Reply::new(451, 3, 0, "later")),
                7 => server.reply(Reply::new(550, 7, 1, "no\r\nnever\0")),
                _ => server.accept(),
            }
        }
        if wants && later.is_empty() {
            if setup & 64 == 0 {
                server.eof(Time(0))
            } else {
                server.shutdown()
            }
            // A body that never ends keeps a stopping server until its time-out.
            if idle > 3 {
                server.eof(Time(0));
            }
        } else if wants {
            let (now, rest) = later.split_at(cut(later.len()).clamp(1, later.len()));
            input.extend_from_slice(now);
            later = rest;
            idle = 0;
        }
    }
}

fn check(out: &[u8]) {
    assert!(out.is_empty() || out.ends_with(b"\r\n"));
    for line in out.split_inclusive(|b| *b == b'\n') {
        assert!(line.len() <= 512 && line.len() >= 6 && line.ends_with(b"\r\n"));
        let [code @ .., _, _] = line else { unreachable!() };
        assert!(code[..3].iter().all(u8::is_ascii_digit) && matches!(code[3], b' ' | b'-'));
        assert!(code.iter().all(|b| matches!(b, b' '..=b'~' | 0x80..)));
    }
}
