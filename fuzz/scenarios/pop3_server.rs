//! The POP3 server machine: the first four octets say how the rest, what the client sends, is cut into pieces.
//!
//! Every stream is played in long pieces, octet by octet and as those octets say; each must give the same output and
//! the same events. Besides: output stays bounded, no more than a line waits in the caller's buffer.

use std::sync::Arc;

use posthouse::pop3::server::{
    Denial, Entry, Event, Limits, Maildrop, Offer, Server, ServerConfig,
};
use posthouse::sasl::{Bindings, Mechanism, Mechanisms, Question, ScramKeys, Verdict};
use posthouse::session::{Next, Session};
use posthouse::time::Time;

const NOW: Time = Time(1_000);
const MESSAGES: [&[u8]; 3] = [b"A: 1\r\n\r\n.one\r\n", b"", b"A: 3\r\n\r\n.\r\n..\r\nno end"];
const OUTPUT: usize = 64;

/// Output and events of a conversation in which the octets arrive in pieces of these sizes, over and over.
fn converse(input: &[u8], sizes: &[u8]) -> (Vec<u8>, Vec<String>, bool) {
    let limits =
        Limits { output_bytes: OUTPUT, command_line: 64, auth_line: 96, ..Limits::default() };
    let config = Arc::new(ServerConfig { hostname: "mail.example.test".into(), limits });
    let mut server = Server::new(config, Offer { tls: false, stls: true, login: true }, NOW);
    let all = Mechanism::ALL.iter().fold(Mechanisms::NONE, |set, mechanism| set.with(*mechanism));
    let bindings = Bindings { exporter: vec![7; 32], end_point: Vec::new() };
    server.set_mechanisms(all, Some(bindings));
    let (mut output, mut events) = (Vec::new(), Vec::new());
    let (mut pending, mut out) = (Vec::new(), Vec::new());
    let (mut rest, mut sizes) = (input, sizes.iter().cycle());
    loop {
        let mut body = None;
        let step = server.step(NOW, &pending, &mut out);
        let consumed = step.consumed;
        let mut wait = false;
        match step.next {
            Next::NeedInput => wait = true,
            Next::Blocked => {}
            Next::Closed => {
                output.append(&mut out);
                return (output, events, true);
            }
            Next::Event(Event::NeedBody { index, offset, .. }) => {
                body = Some((index, offset as usize))
            }
            Next::Event(event) => {
                events.push(format!("{event:?}"));
                match event {
                    Event::Connect => server.accept(),
                    Event::Auth(Question::Verify { password, .. }) if password.len() % 2 == 1 => {
                        let entries = MESSAGES.iter().zip(1..);
                        let entries =
                            entries.map(|(m, uid)| Entry { octets: m.len() as u64, uid }).collect();
                        server.opened(Maildrop { validity: 1, entries });
                    }
                    Event::Auth(Question::Nonce { .. }) => server.auth(Verdict::Nonce([5; 18])),
                    Event::Auth(Question::Scram { .. }) => {
                        let keys = ScramKeys::decoy(&[0; 32], "", 1);
                        server.auth(Verdict::Scram(Box::new(keys), [5; 18]));
                    }
                    Event::Auth(_) => server.denied(Denial::Credentials),
                    // What stands behind STLS is dropped by the cut or by the session: not compared here.
                    Event::StartTls => {
                        server.tls_started(Offer { login: true, ..Offer::default() }, b"")
                    }
                    _ => server.updated(true),
                }
            }
        }
        pending.drain(..consumed);
        assert!(out.len() <= OUTPUT + 4096, "the output is bounded");
        if let Some((index, offset)) = body {
            match MESSAGES[index].get(offset..) {
                Some(rest) if !rest.is_empty() => server.body(&rest[..rest.len().min(3)], &mut out),
                _ => server.body_end(&mut out),
            }
        }
        output.append(&mut out);
        if wait {
            assert!(pending.len() <= 96, "no more than a line waits");
            if rest.is_empty() {
                return (output, events, false);
            }
            let size = usize::from(*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
            let (piece, next) = rest.split_at(size);
            pending.extend_from_slice(piece);
            rest = next;
        }
    }
}

pub fn run(data: &[u8]) {
    let (sizes, input) = data.split_at(data.len().min(4));
    let long = converse(input, &[255]);
    assert_eq!(long, converse(input, &[1]));
    assert_eq!(long, converse(input, if sizes.is_empty() { &[7] } else { sizes }));
}
